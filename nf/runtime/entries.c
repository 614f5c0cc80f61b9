/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Results of look-ups -> entries. A result says what happened to an op; what
 * an INSERT or ALLOC stored is known from the txn that was sent, its patches
 * applied to it here the way the store applied them.
 */
#include <string.h>

#include "nf/runtime/internal.h"

static int table_position(const struct chain_nf *nf, uint8_t number)
{
    for (int i = 0; i < nf->inst->ntables; i++)
        if (nf->table[i] == number)
            return i;
    return 0;
}

static enum nf_found found_of(uint8_t code, uint8_t res, bool applied)
{
    if (code == TXN_GET || code == TXN_CHECK)
        return res == RES_HIT ? NF_HIT : NF_ABSENT;
    if (!applied || res == RES_FAILED)
        return NF_REFUSED;
    return code == TXN_INSERT || code == TXN_ALLOC ? NF_CREATED : NF_HIT;
}

/* Applies op's patches to the entry's key and, if `value`, to its value. */
static void patch_entry(struct nf_entry *e, const struct txn_op *op,
                        const struct txn_result_head *h, bool value)
{
    const struct txn_patch *p = txn_patches(op);
    for (int i = 0; i < op->npatch; i++, p++) {
        const struct txn_result *from = txn_result_of(h, p->op);
        uint8_t *into = p->into == PATCH_KEY ? e->key : e->value;
        if (!from || p->into == PATCH_PARENT || (p->into == PATCH_INTO_VALUE && !value))
            continue;
        const uint8_t *src = p->from == PATCH_INDEX     ? (const uint8_t *)&from->index
                             : p->from == PATCH_VERSION ? (const uint8_t *)&from->version
                                                        : txn_result_value(from);
        uint32_t room = p->from == PATCH_INDEX     ? sizeof from->index
                        : p->from == PATCH_VERSION ? sizeof from->version
                                                   : from->value_len;
        if ((uint32_t)p->from_off + p->len <= room)
            memcpy(into + p->into_off, src + p->from_off, p->len);
    }
}

static void fill(struct work *w, const struct chain_nf *nf, const struct txn_op *op,
                 const struct txn_result_head *h, const struct txn_result *r)
{
    struct nf_entry *e = &w->e;
    int table = table_position(nf, op->table);
    const struct table_schema *s = &nf->inst->tables[table];
    e->table = (uint8_t)table;
    e->status = h->status;
    e->found = (uint8_t)found_of(op->code, r ? r->res : RES_FAILED, h->status == TXN_OK);
    e->key_len = s->key_size;
    e->value_len = (uint16_t)s->value_size;
    e->index = r ? r->index : 0;
    e->version = r ? r->version : 0;
    e->timeout_ms = w->timeout_was = r ? r->timeout_ms : 0;
    memset(e->key, 0, sizeof e->key);
    memcpy(e->key, txn_key(op), op->key_len);
    bool returned = r && r->value_len && r->value_len <= NF_VALUE_MAX;
    if (returned)
        memcpy(e->value, txn_result_value(r), r->value_len);
    else if (op->value_len)
        memcpy(e->value, txn_value(op), op->value_len);
    else
        memset(e->value, 0, s->value_size);
    /* A get may have taken its key from an earlier op, too. */
    patch_entry(e, op, h, !returned);
    if (op->code == TXN_ALLOC)
        memcpy(e->key, &e->index, sizeof e->index);
}

bool entries_add(const struct chain_nf *nf, struct flow *f, int number,
                 const struct txn_result_head *h)
{
    const struct txn_head *t = (const struct txn_head *)(f->plan + f->lookup_at[number]);
    const struct txn_op *op = txn_first(t);
    bool failed = h->status != TXN_OK;
    f->status[number] = h->status;
    for (int i = 0; i < t->nops; i++, op = txn_next(op)) {
        const struct txn_result *r = txn_result_of(h, i);
        if (!r && !(failed && i == h->failed_op && op->code != TXN_GET))
            continue;
        if (f->nwork == NF_ENTRIES_MAX)
            return false;
        struct work *w = &f->work[f->nwork++];
        w->e.lookup = (uint8_t)number;
        w->e.op = (uint8_t)i;
        w->slot = t->slot;
        w->change = CHANGE_NONE;
        w->hidden = false;
        fill(w, nf, op, h, r);
    }
    return true;
}

/* The get-or-create's get, for an entry that its create ops made. */
static struct work *getter_of(struct flow *f, const struct work *made)
{
    for (int i = 0; i < f->nwork; i++) {
        struct work *w = &f->work[i];
        if (w->e.lookup == made->e.lookup && w->e.table == made->e.table &&
            w->e.found == NF_ABSENT && w->e.op < made->e.op && !w->hidden &&
            memcmp(w->e.key, made->e.key, made->e.key_len) == 0)
            return w;
    }
    return NULL;
}

/* How far the get's skip reaches. */
static int skip_end(const struct flow *f, const struct work *get)
{
    const struct txn_head *t = (const struct txn_head *)(f->plan + f->lookup_at[get->e.lookup]);
    const struct txn_op *op = txn_first(t);
    for (int i = 0; i < get->e.op; i++)
        op = txn_next(op);
    return get->e.op + op->skip;
}

void entries_settle(struct flow *f)
{
    for (int i = 0; i < f->nwork; i++) {
        struct work *made = &f->work[i];
        if (made->e.found != NF_CREATED || made->hidden)
            continue;
        struct work *get = getter_of(f, made);
        if (!get) {
            made->e.found = NF_HIT;
            continue;
        }
        uint8_t op = get->e.op, lookup = get->e.lookup;
        int end = skip_end(f, get);
        *get = *made;
        get->e.op = op;
        get->e.found = NF_HIT;
        made->change = CHANGE_NONE;
        made->hidden = true;
        /* A look-up done now would have skipped all of these. */
        for (int k = 0; k < f->nwork; k++)
            if (f->work[k].e.lookup == lookup && f->work[k].e.op > op && f->work[k].e.op <= end)
                f->work[k].hidden = true;
    }
}
