/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an NF's process sees: copies of the run's entries, and a place to note
 * changes. Nothing it writes counts until the runtime accepts the call
 * (pass.c), and nothing it can reach outlives it: call_close poisons it all.
 */
#include <string.h>

#include "nf/runtime/internal.h"

void call_open_empty(struct engine *e, const struct chain_nf *nf)
{
    struct nf_call *c = &e->call;
    c->e = e;
    c->nf = nf;
    c->nlookups = c->nentries = c->nupdates = 0;
    c->written = c->deleted = c->counted = 0;
    c->more_named = c->broken = false;
    c->reason = -1;
}

void call_open(struct engine *e, struct flow *f, int rounds)
{
    struct nf_call *c = &e->call;
    call_open_empty(e, &e->chain[f->nf]);
    c->nlookups = rounds ? f->round_first[rounds] : 0;
    c->status = f->status;
    for (int i = 0; i < f->nwork; i++) {
        const struct work *w = &f->work[i];
        if (w->hidden || w->e.lookup >= c->nlookups)
            continue;
        c->from[c->nentries] = (uint8_t)i;
        c->entries[c->nentries++] = w->e;
    }
}

void call_close(struct engine *e)
{
    struct nf_call *c = &e->call;
    memset(c->entries, POISON, (size_t)c->nentries * sizeof c->entries[0]);
    c->nentries = 0;
}

struct nf_entry *nf_entry(struct nf_call *c, int lookup, int op)
{
    for (int i = 0; i < c->nentries; i++)
        if (c->entries[i].lookup == lookup && c->entries[i].op == op)
            return &c->entries[i];
    return NULL;
}

enum txn_status nf_lookup_status(const struct nf_call *c, int lookup)
{
    return lookup >= 0 && lookup < c->nlookups ? c->status[lookup] : TXN_BAD_REQUEST;
}

/* The number of an entry that this call showed, or -1: the NF's bug. */
static int entry_number(struct nf_call *c, const struct nf_entry *e)
{
    if (e < c->entries || e >= c->entries + c->nentries) {
        c->broken = true;
        return -1;
    }
    return (int)(e - c->entries);
}

void nf_entry_write(struct nf_call *c, struct nf_entry *e)
{
    int i = entry_number(c, e);
    if (i < 0)
        return;
    uint8_t kind = c->nf->inst->tables[e->table].kind;
    if (e->found == NF_REFUSED || kind == TABLE_COUNTERS ||
        (e->found == NF_ABSENT && kind != TABLE_HASH)) {
        c->broken = true;
        return;
    }
    c->written |= 1u << i;
    c->deleted &= ~(1u << i);
}

void nf_entry_delete(struct nf_call *c, struct nf_entry *e)
{
    int i = entry_number(c, e);
    if (i < 0)
        return;
    if (e->found != NF_HIT && e->found != NF_CREATED) {
        c->broken = true;
        return;
    }
    c->deleted |= 1u << i;
    c->written &= ~(1u << i);
}

static struct update *update_new(struct nf_call *c, enum update_kind kind, int table, uint8_t slot,
                                 const void *key)
{
    if (table < 0 || table >= c->nf->inst->ntables || c->nupdates == NF_UPDATES_MAX) {
        c->broken = true;
        return NULL;
    }
    struct update *u = &c->updates[c->nupdates++];
    u->kind = (uint8_t)kind;
    u->table = (uint8_t)table;
    u->slot = slot;
    u->sent = false;
    u->timeout_ms = 0;
    memcpy(u->key, key, c->nf->inst->tables[table].key_size);
    return u;
}

void nf_create(struct nf_call *c, int table, uint8_t slot, const void *key, const void *value,
               uint32_t timeout_ms)
{
    struct update *u = update_new(c, UPDATE_CREATE, table, slot, key);
    if (!u)
        return;
    u->timeout_ms = timeout_ms;
    memcpy(u->value, value, c->nf->inst->tables[table].value_size);
}

void nf_add(struct nf_call *c, int table, uint8_t slot, const void *key, const int64_t *deltas)
{
    struct update *u = update_new(c, UPDATE_ADD, table, slot, key);
    if (u)
        memcpy(u->deltas, deltas, c->nf->inst->tables[table].value_size);
}

struct nf_plan *nf_more(struct nf_call *c)
{
    if (!c->more_named)
        nf_plan_begin(&c->more, c->nf, c->e->scratch_more, 0);
    c->more_named = true;
    return &c->more;
}

enum nf_verdict nf_drop(struct nf_call *c, int reason)
{
    c->reason = reason;
    return NF_DROP;
}

void nf_count(struct nf_call *c, int counter)
{
    if (counter < 0 || counter >= COUNTERS_MAX) {
        c->broken = true;
        return;
    }
    if (!(c->counted & 1u << counter))
        c->counts[counter] = 0;
    c->counted |= 1u << counter;
    c->counts[counter]++;
}

uint32_t nf_random(struct nf_call *c)
{
    /* xorshift64*, Vigna 2016 */
    uint64_t x = c->e->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    c->e->random = x;
    return (uint32_t)((x * 0x2545F4914F6CDD1Dull) >> 32);
}
