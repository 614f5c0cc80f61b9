/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One-sided gets: which txns are tried, what becomes of their reads. What a read is worth
 * is remember.h's; here is only the order of things:
 *
 *   submit  a place that counts, under a lease -> a READ is posted; else queued as ever
 *   flush   the READs leave
 *   poll    over: the clock is read, then judged. A hit is called back; all else is
 *           queued and leaves within this poll
 *   leases  asked for by the stamp of a BATCH when half of one is over and reads are
 *           made; with none to go, by one of nothing
 *
 * A session that goes away queues what it was reading. A txn is tried once.
 */
#include "client/client_impl.h"
#include "common/wire/bugs.h"

#include <errno.h>
#include <string.h>
#include <time.h>

uint64_t lethe_clock_monotonic(void *ctx)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

int lethe_reads_table(struct lethe_client *c, int table)
{
    const struct table_schema *s = &c->tables[table];
    c->shapes[table] = record_shape_of(s->key_size, s->value_size);
    if (s->flags & TABLE_ONE_SIDED && !c->remember)
        c->remember = remember_create(c->remember_places, (uint32_t)(uintptr_t)c);
    return s->flags & TABLE_ONE_SIDED && !c->remember ? -ENOMEM : 0;
}

/* --- leases, eras ------------------------------------------------------------------------ */

void lethe_reads_forget(struct session *s)
{
    s->era += !READER_BUG(BUG_PLACES_OUTLIVE_ERA);
    s->read_lease = (struct read_lease){0};
    s->lease_asked_us = 0;
}

static bool wants_lease(const struct session *s)
{
    const struct lethe_client *c = s->client;
    return s->one_sided && s->lease_used &&
           read_lease_is_short(&s->read_lease, c->clock_now_us) &&
           c->clock_now_us >= s->lease_asked_us + READ_LEASE_ASK_US;
}

uint32_t lethe_reads_stamp(struct session *s)
{
    struct lethe_client *c = s->client;
    if (!wants_lease(s))
        return 0;
    s->lease_used = false;
    s->lease_asked_us = c->clock_us(c->clock_ctx);
    return read_stamp(s->lease_asked_us);
}

bool lethe_reads_ask(const struct session *s)
{
    return wants_lease(s);
}

/* --- submit ------------------------------------------------------------------------------- */

/* The get that answers all of the txn on a hit; NULL: it is none such. */
static const struct txn_op *whole_get(const struct lethe_client *c, const struct lethe_txn *t)
{
    const struct txn_head *h = (const struct txn_head *)t->bytes;
    const struct txn_op *op = txn_first(h);
    if (op->code != TXN_GET || op->npatch || op->table >= c->ntables ||
        !(c->tables[op->table].flags & TABLE_ONE_SIDED))
        return NULL;
    bool rest_skipped = op->flags & TXN_SKIP_IF_PRESENT && op->skip == h->nops - 1;
    return h->nops == 1 || rest_skipped ? op : NULL;
}

static enum read_outcome post(struct session *s, struct lethe_txn *t, const struct txn_op *op)
{
    struct lethe_client *c = s->client;
    const struct txn_head *h = (const struct txn_head *)t->bytes;
    s->lease_used = true;
    if (!read_lease_holds(&s->read_lease, c->clock_now_us))
        return READ_NO_LEASE;
    struct place *p = remember_find(c->remember, op->table, txn_key(op), op->key_len);
    if (!p || !place_counts(p, s->shard, c->map[h->slot].epoch, s->era, c->clock_now_us))
        return READ_UNKNOWN;
    struct channel_read r = {p->address, p->rkey, c->shapes[op->table].lines * LINE_BYTES,
                             slot_number(t)};
    int rc = channel_read(s->channel, &r);
    if (rc == -EAGAIN)
        return READ_FULL;
    if (rc)
        s->one_sided = false; /* closed, or no memory for reads */
    t->due_us = (uint64_t)s->era << 32 | p->incarnation;
    return rc ? READ_CLOSED : READ_HIT;
}

bool lethe_reads_try(struct lethe_txn *t)
{
    struct lethe_client *c = t->client;
    const struct txn_op *op = c->remember && !t->asked ? whole_get(c, t) : NULL;
    struct session *s = &c->sessions[c->map[((const struct txn_head *)t->bytes)->slot].shard];
    if (!op || s->state != SESSION_UP || !s->one_sided)
        return false;
    enum read_outcome outcome = post(s, t, op);
    if (outcome == READ_HIT) {
        t->shard = (uint8_t)s->shard;
        lethe_list_append(s, &s->reading, t, SLOT_READING);
        s->reads_posted = true;
        return true;
    }
    t->asked = true;
    c->outcomes[outcome]++;
    return false;
}

/* --- poll --------------------------------------------------------------------------------- */

static void answer(struct session *s, struct lethe_txn *t, const struct txn_op *op,
                   const struct record *copy)
{
    struct lethe_client *c = s->client;
    const struct table_schema *schema = &c->tables[op->table];
    struct txn_result_head *h = (struct txn_result_head *)c->read_result;
    struct txn_result *r = (struct txn_result *)(h + 1);
    lethe_done done = t->done;
    void *user = t->user;
    uint32_t bytes = ((uint32_t)sizeof *r + schema->value_size + 7) & ~7u;
    memset((uint8_t *)r + bytes - 8, 0, 8); /* padding */
    *r = (struct txn_result){.res = RES_HIT, .value_len = (uint16_t)schema->value_size,
                             .version = copy->version, .timeout_ms = copy->timeout_ms,
                             .bytes = bytes};
    if (schema->kind == TABLE_POOL)
        memcpy(&r->index, txn_key(op), sizeof r->index);
    record_value(&c->shapes[op->table], copy, r + 1);
    *h = (struct txn_result_head){.bytes = (uint16_t)(sizeof *h + bytes), .status = TXN_OK,
                                  .nres = 1};
    lethe_window_give(t); /* free before the call: the callback may begin another one */
    c->done++;
    if (done)
        done(user, h);
}

static void ask(struct lethe_txn *t)
{
    struct lethe_client *c = t->client;
    t->asked = true;
    lethe_map_queue(t);
    c->sessions[t->shard].flush_wanted = true;
    c->strays = true;
}

/* True: answered. */
static bool is_over(struct session *s, struct lethe_txn *t, const struct record *copy)
{
    struct lethe_client *c = s->client;
    const struct txn_op *op = txn_first((const struct txn_head *)t->bytes);
    bool touch = op->flags & TXN_TOUCH && !(c->tables[op->table].flags & TABLE_ABSOLUTE);
    uint64_t now_us = c->clock_us(c->clock_ctx); /* after the read was over */
    /* A lease of another era says nothing of a place of this read's. */
    enum read_outcome outcome = t->due_us >> 32 != s->era ? READ_NO_LEASE
                              : read_judge(&c->shapes[op->table], copy, txn_key(op),
                                           (uint16_t)t->due_us, &s->read_lease, touch, now_us);
    struct place *p = remember_find(c->remember, op->table, txn_key(op), op->key_len);
    c->outcomes[outcome]++;
    lethe_list_remove(s, t);
    if (p && outcome == READ_GONE)
        place_forget(p);
    else if (p && outcome == READ_HIT)
        p->seen_us = now_us;
    if (outcome == READ_HIT)
        answer(s, t, op, copy);
    else
        ask(t);
    return outcome == READ_HIT;
}

int lethe_reads_poll(struct session *s)
{
    const struct record *copy;
    uint64_t token;
    int done = 0;
    /* A callback may see to it that the channel closes: look each time. */
    while (s->reading.count && s->channel && (copy = channel_read_done(s->channel, &token)))
        done += is_over(s, &s->client->slots[token], copy);
    return done;
}

void lethe_reads_abandon(struct session *s)
{
    struct lethe_client *c = s->client;
    lethe_reads_forget(s);
    while (s->reading.count) {
        struct lethe_txn *t = &c->slots[s->reading.head];
        lethe_list_remove(s, t);
        c->outcomes[READ_CLOSED]++;
        ask(t);
    }
}

/* --- PLACES --------------------------------------------------------------------------------- */

static void learn(struct session *s, const struct msg_place *m, uint64_t now_us)
{
    struct lethe_client *c = s->client;
    const struct lethe_txn *t = lethe_seq_find(s, m->seq);
    const struct txn_head *h = t ? (const struct txn_head *)t->bytes : NULL;
    if (!h || m->op >= h->nops)
        return;
    const struct txn_op *op = txn_first(h);
    for (int i = 0; i < m->op; i++)
        op = txn_next(op);
    if (op->code != TXN_GET || op->npatch || !(c->tables[op->table].flags & TABLE_ONE_SIDED) ||
        m->lines != c->shapes[op->table].lines)
        return;
    struct place *p = remember_put(c->remember, op->table, txn_key(op), op->key_len);
    p->address = m->address;
    p->seen_us = now_us;
    p->rkey = m->rkey;
    p->slot_epoch = m->slot_epoch;
    p->era = s->era;
    p->incarnation = m->incarnation;
    p->shard = (uint8_t)s->shard;
    p->slot = h->slot;
}

void lethe_reads_places(struct session *s, const struct msg_places *m)
{
    struct lethe_client *c = s->client;
    if (!c->remember || !s->one_sided || !s->id || m->client != s->id ||
        m->head.view_epoch != s->view_epoch)
        return;
    uint64_t now_us = c->clock_us(c->clock_ctx);
    read_lease_grant(&s->read_lease, read_stamp_us(m->stamp, now_us), m->left_ms,
                     m->shard_time_ms);
    for (uint32_t i = 0; i < m->nplaces; i++)
        learn(s, (const struct msg_place *)(m + 1) + i, now_us);
}
