/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pool indexes lent from hash slot to hash slot.
 *
 * An index belongs at first to slot_of_index(). A slot that runs dry in the middle
 * of a txn borrows: a slot of this shard that is among the richest lends up to
 * LEND_MAX random ones, half of its free ones at most, in ONE log entry that
 * changes both slots (entry.also), before the txn's own. Only when no slot of the
 * shard has a free one is the txn told that the pool is exhausted; as that is a word
 * about all slots, it waits for all that is logged. Loans to other shards: loan.c.
 *
 * A version of an index is never given twice: BORROW lifts the borrower's versions above
 * the lender's. So a txn in the middle of which its slot borrowed begins anew.
 *
 * The lender keeps a mark: whom it lent to. So there is a chain of marks from an
 * index's first slot to the one that has it, each later than the one before. A
 * borrowed index that is free goes back to its lender before it is lent to a third
 * slot, if that lender is of this shard: chains do not grow, and no marks of the
 * past pile up. If the lender moved away, the borrower lends it on and has a mark of
 * its own. Marks and borrowed indexes are part of the slot's state: they are in its
 * snapshot, its digest, and move with it.
 *
 * A txn that names an index runs in the slot that has it: the chain is followed
 * before it starts. If the chain leaves this shard the answer is TXN_MOVED to that
 * slot. This one the slot epoch does not make final, as the index may come back and
 * a delayed copy of the txn run here; so it is logged and kept like a result.
 *
 * Errors: a full log is TXN_BUSY, no memory TXN_NO_MEMORY; nothing has changed then.
 */
#include <errno.h>

#include "internal.h"

/* --- as state ------------------------------------------------------------------------- */

static uint64_t lend_digest(const struct table *t, uint8_t slot, uint32_t index, uint32_t what)
{
    return mix64(mix64((uint64_t)index << 32 | what << 16 | (uint64_t)slot << 8 | t->id) ^ 0x1e4dull);
}

static uint64_t number_digest(const struct table *t, uint8_t slot, uint32_t dense)
{
    const struct pool_part *p = t->part[slot].pool;
    uint64_t sum = 0;
    if (p->to[dense])
        sum += lend_digest(t, slot, pool_index_of(p, slot, dense), p->to[dense]);
    if (dense >= p->home && p->borrowed[dense - p->home].from < LETHE_SLOTS)
        sum += lend_digest(t, slot, pool_index_of(p, slot, dense),
                           0x1000u | p->borrowed[dense - p->home].from);
    return sum;
}

uint64_t lends_digest(const struct table *t, uint8_t slot)
{
    const struct pool_part *p = t->schema.kind == TABLE_POOL ? t->part[slot].pool : NULL;
    uint64_t sum = 0;
    for (uint32_t i = 0; p && (p->lent || p->count > p->home) && i < p->count; i++)
        sum += number_digest(t, slot, i);
    return sum;
}

static uint64_t index_digest(const struct table *t, uint8_t slot, uint32_t index)
{
    uint32_t dense = pool_number(t->part[slot].pool, slot, index);
    return dense == REC_NONE ? 0 : number_digest(t, slot, dense);
}

int apply_lend(struct shard *s, struct table *t, uint8_t slot, const struct effect *e)
{
    uint32_t n = e->value_len / (uint32_t)sizeof n, index;
    if (!pool_reserve(t, slot, e->code == EFFECT_BORROW ? n : 0))
        return -ENOMEM;
    struct pool_part *p = t->part[slot].pool;
    s->lent -= p->lent;
    bool ok = true;
    for (uint32_t i = 0; i < n && ok; i++) {
        memcpy(&index, effect_value(e) + i * sizeof index, sizeof index);
        s->digest -= index_digest(t, slot, index);
        ok = e->code == EFFECT_LEND     ? pool_lend(p, slot, index, (uint16_t)e->children)
             : e->code == EFFECT_BORROW ? pool_borrow(p, slot, index, (uint8_t)e->children)
                                        : pool_loan_done(p, slot, index, (uint16_t)e->children);
        s->digest += index_digest(t, slot, index);
    }
    s->lent += p->lent;
    return ok ? 0 : -EINVAL;
}

/* --- lending -------------------------------------------------------------------------- */

enum txn_status log_lend(struct shard *s, struct table *t, uint8_t from, uint8_t to,
                         const struct lot *lot)
{
    uint16_t len = (uint16_t)(lot->n * sizeof *lot->index);
    struct effect lend = {.code = EFFECT_LEND, .table = t->id, .value_len = len, .children = to};
    uint64_t newest[] = {slot_next_version(s, from), slot_next_version(s, to)};
    uint64_t seq = newest[newest[1] > newest[0]];
    struct effect borrow = {.code = EFFECT_BORROW, .table = t->id, .value_len = len,
                            .children = from, .version = version_base_above(s, seq)};
    uint32_t effects = 2 * effect_size(0, 0, len), bytes = (uint32_t)sizeof(struct entry) + effects;
    if (!pool_reserve(t, to, lot->n))
        return TXN_NO_MEMORY;
    struct entry *e = log_next(s, bytes);
    if (!e)
        return TXN_BUSY;
    *e = (struct entry){.bytes = bytes, .slot = to, .effects = 2, .position = s->position + 1,
                        .slot_seq = seq, .time_ms = s->time_ms,
                        .effects_bytes = effects, .sync = 1, .also = from + 1u};
    effect_write(effect_next(effect_write(e + 1, &lend, NULL, NULL, lot->index)), &borrow, NULL,
                 NULL, lot->index);
    log_push(s, e);
    int err = apply_entry(s, e, APPLY_OWN | APPLY_SLOT | APPLY_ALSO);
    commit_update(s);
    return err ? TXN_NO_MEMORY : TXN_OK;
}

uint32_t pool_free_in(struct shard *s, struct table *t, uint8_t slot)
{
    struct pool_part *p = t->part[slot].pool;
    if (!shard_owns(s, slot))
        return 0;
    if (!p)
        return pool_share(t->schema.max_entries, slot);
    pool_mature(p, s->time_ms);
    return p->free_count;
}

/* Where a free index has to go first, on its way to `to`: see pool_draw. */
static uint32_t way_to(const struct shard *s, const struct pool_part *p, uint8_t from,
                       uint32_t dense, uint32_t to)
{
    uint32_t lender = dense < p->home ? from : p->borrowed[dense - p->home].from;
    if (lender != from && shard_owns(s, lender))
        return lender;
    return to == LETHE_SLOTS ? LETHE_SLOTS + lender : to;
}

uint32_t pool_draw(struct shard *s, struct table *t, uint8_t from, uint32_t to, uint32_t most,
                   struct lot *lot)
{
    struct pool_part *p = t->part[from].pool;
    uint32_t want = (p->free_count + 1) / 2, dense, way = to;
    lot->n = 0;
    for (uint32_t i = 0; i < want && lot->n < most && pool_promise(p, shard_random(s), &dense); i++) {
        uint32_t its = way_to(s, p, from, dense, to);
        if (!lot->n)
            way = its;
        if (its == way)
            lot->index[lot->n++] = pool_index_of(p, from, dense);
    }
    pool_unpromise(p);
    return way;
}

/* One that has at least half as many free ones as the last that lent, going round from
 * there; else the richest. `slot` itself: all are dry. */
static uint8_t lender_for(struct shard *s, struct table *t, uint8_t slot)
{
    uint32_t most = 0;
    uint8_t best = slot;
    for (int i = 0; i < LETHE_SLOTS && (!most || most < t->lend_least); i++) {
        uint8_t at = (uint8_t)(t->lend_at + i);
        uint32_t n = at == slot ? 0 : pool_free_in(s, t, at);
        if (n > most)
            most = n, best = at;
    }
    t->lend_at = best;
    t->lend_least = (most + 1) / 2;
    return best;
}

static void note_dry(struct shard *s, struct table *t)
{
    enum { NOTE_EVERY_MS = 5000 };
    if (s->config.shards < 2 || (t->dry_noted_ms && s->now_ms < t->dry_noted_ms + NOTE_EVERY_MS))
        return;
    t->dry_noted_ms = s->now_ms + !s->now_ms;
    shard_note(s, "limit reached: pool=%.*s cause=\"no free index left in this shard; another one may lend "
               "some: order `lend` there\"", TABLE_NAME_MAX, t->schema.name);
}

enum txn_status pool_borrow_some(struct shard *s, struct table *t, uint8_t slot)
{
    struct lot lot;
    uint8_t from = lender_for(s, t, slot);
    if (from == slot) {
        note_dry(s, t);
        return TXN_EXHAUSTED;
    }
    if (!pool_open(t, from))
        return TXN_NO_MEMORY;
    uint8_t way = (uint8_t)pool_draw(s, t, from, slot, LEND_MAX, &lot);
    enum txn_status status = log_lend(s, t, from, way, &lot);
    if (status == TXN_OK && way != slot)
        status = log_lend(s, t, way, slot, &lot);
    return status;
}

/* --- who has it -------------------------------------------------------------------------- */

/* The first pool index that a txn names outright; false: none. */
static bool index_named(const struct shard *s, const struct txn_head *t, const struct table **table,
                        uint32_t *index)
{
    const struct txn_op *op = txn_first(t);
    for (int i = 0; i < t->nops; i++, op = txn_next(op)) {
        *table = op->table < s->tables ? s->table[op->table] : NULL;
        bool patched = false;
        for (int k = 0; k < op->npatch; k++)
            patched |= txn_patches(op)[k].into == PATCH_KEY;
        if (!*table || (*table)->schema.kind != TABLE_POOL || op->key_len != sizeof *index ||
            patched)
            continue;
        memcpy(index, txn_key(op), sizeof *index);
        return *index < (*table)->schema.max_entries;
    }
    return false;
}

/* Most txns name no index, or one that stands where it belongs. */
static bool may_be_elsewhere(const struct shard *s, const struct txn_head *t)
{
    const struct txn_op *op = txn_first(t);
    const struct table *table = op->table < s->tables ? s->table[op->table] : NULL;
    uint32_t index;
    if (s->lent || !table || table->schema.kind != TABLE_POOL || op->key_len != sizeof index)
        return s->lent;
    memcpy(&index, txn_key(op), sizeof index);
    return slot_of_index(index) != t->slot;
}

static bool is_under_way(const struct table *table, uint8_t at, uint32_t index)
{
    const struct pool_part *p = table->part[at].pool;
    uint32_t dense = p ? pool_number(p, at, index) : REC_NONE;
    return dense != REC_NONE && p->to[dense] == POOL_UNDER_WAY;
}

/* A stale word may name any slot; from the first one on the marks are right. */
static uint8_t next_slot(const struct table *table, uint8_t at, uint32_t index)
{
    const struct pool_part *p = table->part[at].pool;
    uint32_t dense = p ? pool_number(p, at, index) : REC_NONE;
    return dense != REC_NONE && p->to[dense] ? (uint8_t)(p->to[dense] - 1) : slot_of_index(index);
}

enum txn_status slot_for(const struct shard *s, const struct txn_head *t, uint8_t *slot,
                         struct txn_moved *to)
{
    const struct table *table;
    uint32_t index;
    uint8_t at = t->slot;
    *slot = at;
    if (!may_be_elsewhere(s, t) || !index_named(s, t, &table, &index))
        return TXN_OK;
    for (int hops = 0; hops < LETHE_SLOTS; hops++) {
        const struct slot *o = &s->slot[at];
        *to = (struct txn_moved){.slot = at, .shard = o->other, .slot_epoch = o->epoch};
        if (!shard_owns(s, at))
            return o->owner == OWNER_INCOMING ? TXN_BUSY : TXN_MOVED;
        *slot = at;
        if (pool_holds(table, at, index))
            return TXN_OK;
        if (is_under_way(table, at, index))
            return TXN_BUSY;
        at = next_slot(table, at, index);
    }
    return TXN_BUSY;
}
