/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Effects become state: the one place where replicated state changes, on the
 * primary right after execution, on a backup when the entry arrives. That
 * both run this code on the same bytes is why their states are the same.
 *
 * An entry is checked and its memory reserved before its first effect is
 * applied, so it is applied as a whole or not at all.
 */
#include <assert.h>
#include <errno.h>

#include "internal.h"

/* --- single effects ------------------------------------------------------------ */

static uint64_t local_deadline(const struct shard *s, const struct table *t, uint64_t deadline_ms,
                               uint32_t timeout_ms)
{
    if (!deadline_ms || is_serving(s) || t->schema.flags & TABLE_ABSOLUTE ||
        SHARD_BUG(BUG_TIMER_EARLY))
        return deadline_ms;
    /* Should this replica be promoted, it fires that much later: the old
     * primary may have seen touches that it did not log. */
    return deadline_ms + touch_slack_ms(timeout_ms);
}

static uint32_t find_key(const struct table *t, uint8_t slot, const void *key)
{
    uint32_t index;
    if (t->schema.kind != TABLE_POOL)
        return part_find(t, slot, key, table_hash(t, key, t->schema.key_size));
    memcpy(&index, key, sizeof index);
    return pool_find(t, slot, index);
}

static uint32_t find(const struct table *t, uint8_t slot, const struct effect *e, bool own)
{
    return own && e->rec != REC_NONE ? e->rec : find_key(t, slot, effect_key(e));
}

static void take_index(struct table *t, uint8_t slot, const uint8_t *key, uint32_t rec)
{
    uint32_t index;
    memcpy(&index, key, sizeof index);
    pool_take(t->part[slot].pool, pool_number(t->part[slot].pool, slot, index), rec);
}

static bool index_is_free(const struct table *t, uint8_t slot, const uint8_t *key)
{
    uint32_t index;
    memcpy(&index, key, sizeof index);
    uint32_t dense = pool_number(t->part[slot].pool, slot, index);
    return dense != REC_NONE && t->part[slot].pool->pos[dense] != REC_NONE;
}

/* REC_NONE: its parent is not here, or its index is not free here. */
static uint32_t create(struct shard *s, struct table *t, uint8_t slot, const struct effect *e)
{
    const uint8_t *key = effect_key(e), *parent_key = effect_parent_key(e);
    uint64_t hash = t->schema.kind == TABLE_POOL ? 0 : table_hash(t, key, e->key_len);
    uint32_t parent = REC_NONE;
    if (e->parent_key_len) {
        parent = find_key(s->table[e->parent_table], slot, parent_key);
        if (parent == REC_NONE)
            return REC_NONE;
    }
    if (t->schema.kind == TABLE_POOL && !index_is_free(t, slot, key))
        return REC_NONE;
    uint32_t rec = part_insert(t, slot, key, hash);
    if (t->schema.kind == TABLE_POOL)
        take_index(t, slot, key, rec);
    if (parent != REC_NONE)
        *group_at(t, slot, rec) = (struct group){
            .parent_rec = parent, .parent_table = e->parent_table,
            .parent_mix = crc32c(1, parent_key, e->parent_key_len)};
    return rec;
}

/* The last of what an effect writes: the digest gains what the record is now. */
static void set_deadline(struct shard *s, struct table *t, uint8_t slot, uint32_t rec,
                         const struct effect *e)
{
    struct record *r = record_at(t, slot, rec);
    struct meta *m = meta_at(t, slot, rec);
    uint64_t local = local_deadline(s, t, e->deadline_ms, e->timeout_ms);
    if (is_armed(m) && local < r->deadline_ms)
        wheel_disarm(s, t, slot, rec); /* it would be looked at too late */
    m->ahead_ms = (uint32_t)(local - e->deadline_ms);
    r->timeout_ms = e->timeout_ms;
    r->deadline_ms = local;
    if (t->part[slot].grouped)
        group_at(t, slot, rec)->children = e->children;
    if (is_serving(s) && e->deadline_ms && !e->children && shard_owns(s, slot))
        wheel_arm(s, t, slot, rec);
    s->digest += record_digest(t, slot, rec);
}

static void add_deltas(uint8_t *value, const uint8_t *deltas, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i += 8) {
        uint64_t a, b;
        memcpy(&a, value + i, 8);
        memcpy(&b, deltas + i, 8);
        a += b;
        memcpy(value + i, &a, 8);
    }
}

static int apply_put(struct shard *s, struct table *t, uint8_t slot, struct effect *e, bool own)
{
    uint8_t sum[TXN_VALUE_MAX] = {0};
    const uint8_t *value = effect_value(e);
    if (t->schema.kind == TABLE_SKETCH) {
        sketch_add(s, t, slot, effect_key(e), value);
        return 0;
    }
    uint32_t rec = own ? e->rec : find_key(t, slot, effect_key(e)); /* ours: looked up already */
    bool fresh = rec == REC_NONE;
    if (fresh && (rec = create(s, t, slot, e)) == REC_NONE)
        return -EINVAL;
    struct record *r = record_at(t, slot, rec);
    if (!fresh)
        s->digest -= record_digest(t, slot, rec);
    if (e->code == EFFECT_ADD) {
        if (!fresh)
            record_value(&t->shape, r, sum);
        add_deltas(sum, value, e->value_len);
        value = sum;
    }
    record_write(&t->shape, r, e->version, effect_key(e), value);
    set_deadline(s, t, slot, rec, e);
    e->rec = rec;
    return 0;
}

static void apply_meta(struct shard *s, struct table *t, uint8_t slot, const struct effect *e,
                       bool own)
{
    uint32_t rec = find(t, slot, e, own);
    if (rec == REC_NONE)
        return;
    s->digest -= record_digest(t, slot, rec);
    set_deadline(s, t, slot, rec, e);
}

static void rest(struct shard *s, struct table *t, uint8_t slot, const struct effect *e)
{
    uint32_t index;
    memcpy(&index, effect_key(e), sizeof index);
    pool_rest(t->part[slot].pool, pool_number(t->part[slot].pool, slot, index), e->deadline_ms);
    s->digest += rest_digest(t->id, index, e->deadline_ms);
}

static void apply_del(struct shard *s, struct table *t, uint8_t slot, const struct effect *e,
                      bool own)
{
    uint32_t rec = find(t, slot, e, own);
    if (rec == REC_NONE)
        return;
    if (is_armed(meta_at(t, slot, rec)))
        wheel_disarm(s, t, slot, rec);
    s->digest -= record_digest(t, slot, rec);
    if (t->schema.kind == TABLE_POOL)
        rest(s, t, slot, e);
    part_remove(t, slot, rec);
}

/* A snapshot's resting index is free on a fresh replica; it has to leave the
 * free ones first. */
static void apply_rest(struct shard *s, struct table *t, uint8_t slot, const struct effect *e)
{
    uint32_t index;
    memcpy(&index, effect_key(e), sizeof index);
    if (!index_is_free(t, slot, effect_key(e)))
        return;
    take_index(t, slot, effect_key(e), REC_NONE);
    rest(s, t, slot, e);
}

static void set_slot_seq(struct shard *s, uint8_t slot, uint64_t seq)
{
    s->digest += slot_digest(slot, seq) - slot_digest(slot, s->slot[slot].seq);
    s->slot[slot].seq = seq;
}

static int apply_client(struct shard *s, const struct effect *e)
{
    struct client *c = client_find(s, e->version);
    if (e->code == EFFECT_CLIENT_GONE) {
        if (c)
            client_gone(s, e->version);
        return 0;
    }
    if (!c && !(c = client_add(s, e->version)))
        return -ENOMEM;
    if (e->code == EFFECT_CLIENT)
        client_acked(s, c, e->deadline_ms);
    uint64_t n = e->version & 0xffffffffffffull;
    if (e->code == EFFECT_CLIENT_OPEN && n > s->client_counter) {
        s->digest += slot_digest(SLOT_BASE, n) - slot_digest(SLOT_BASE, s->client_counter);
        s->client_counter = n;
    }
    return 0;
}

static void apply_counter(struct shard *s, uint64_t n)
{
    s->digest += slot_digest(SLOT_BASE, n) - slot_digest(SLOT_BASE, s->client_counter);
    s->client_counter = n;
}

static int keep_result(struct shard *s, uint8_t slot, uint64_t client, uint64_t seq,
                       uint64_t position, const void *result, uint32_t bytes)
{
    struct client *c = client_find(s, client);
    if (!c && !(c = client_add(s, client)))
        return -ENOMEM;
    struct kept *k = kept_new(s, client, seq, slot, result, bytes);
    if (!k)
        return -ENOMEM;
    k->position = position;
    /* A joiner's slots are of different positions, so it may meet a result before
     * the watermark that let it happen. */
    if (seq > c->ack + MSG_CLIENT_WINDOW)
        client_acked(s, c, seq - MSG_CLIENT_WINDOW);
    int err = client_keep(s, c, k, true) ? 0 : -ENOMEM;
    kept_put(s, k);
    return err;
}

/* A primary's own affair. */
static bool is_not_ours(const struct shard *s, const struct effect *e)
{
    bool of_entries = e->code == EFFECT_PUT || e->code == EFFECT_ADD || e->code == EFFECT_DEL ||
                      e->code == EFFECT_META || e->code == EFFECT_CELLS;
    return of_entries && is_volatile(s->table[e->table]);
}

static int apply_effect(struct shard *s, uint16_t slot, struct effect *e, bool own)
{
    struct table *t = s->table[e->table];
    if (!own && is_not_ours(s, e))
        return 0;
    switch ((enum effect_code)e->code) {
    case EFFECT_PUT:
    case EFFECT_ADD: return apply_put(s, t, (uint8_t)slot, e, own);
    case EFFECT_DEL: apply_del(s, t, (uint8_t)slot, e, own); return 0;
    case EFFECT_META: apply_meta(s, t, (uint8_t)slot, e, own); return 0;
    case EFFECT_TABLE: return table_add(s, e->table, (const void *)effect_value(e));
    case EFFECT_CLIENT:
    case EFFECT_CLIENT_OPEN:
    case EFFECT_CLIENT_GONE: return apply_client(s, e);
    case EFFECT_CLIENT_COUNTER: apply_counter(s, e->version); return 0;
    case EFFECT_SLOT: set_slot_seq(s, (uint8_t)slot, e->version); return 0;
    case EFFECT_REST: apply_rest(s, t, (uint8_t)slot, e); return 0;
    case EFFECT_EVENT:
    case EFFECT_CONSUMER:
    case EFFECT_CURSOR: apply_event(s, t, (uint8_t)slot, e, own); return 0;
    case EFFECT_CELLS: apply_cells(s, t, (uint8_t)slot, e); return 0;
    case EFFECT_RESULT:
        return keep_result(s, (uint8_t)slot, e->version, e->deadline_ms, 0, effect_value(e),
                           e->value_len);
    case EFFECT_RELEASE: case EFFECT_INCOMING: case EFFECT_ACCEPT: case EFFECT_GONE:
    case EFFECT_OWNER: apply_owner(s, (uint8_t)slot, e); return 0;
    case EFFECT_LEND:
    case EFFECT_BORROW: return apply_lend(s, t, (uint8_t)slot, e);
    case EFFECT_LOAN: apply_loan(s, e); return 0;
    case EFFECT_LOAN_DONE: /* in entries of two slots alone */
    case EFFECT_CODE_END: break;
    }
    return -EINVAL;
}

/* --- before the first effect ------------------------------------------------------- */

static bool fits_table(const struct shard *s, uint16_t slot, const struct effect *e)
{
    const struct table *t = s->table[e->table];
    uint32_t index;
    if (!t || slot >= LETHE_SLOTS || e->key_len != t->schema.key_size)
        return false;
    if (t->schema.kind == TABLE_POOL) {
        memcpy(&index, effect_key(e), sizeof index);
        if (index >= t->schema.max_entries)
            return false;
    }
    if ((e->code == EFFECT_PUT || e->code == EFFECT_ADD) && e->value_len != t->schema.value_size)
        return false;
    if (t->schema.kind == TABLE_SKETCH)
        return e->code == EFFECT_ADD;
    if (!e->parent_key_len)
        return true;
    const struct table *pt = s->table[e->parent_table];
    return pt && pt->schema.kind == TABLE_HASH && e->parent_key_len == pt->schema.key_size;
}

static bool fits_event(const struct shard *s, uint16_t slot, const struct effect *e)
{
    const struct table *t = s->table[e->table];
    if (!t || slot >= LETHE_SLOTS || !(t->schema.flags & TABLE_EVENTS))
        return false;
    return e->code != EFFECT_EVENT ||
           (e->key_len == t->schema.key_size && e->value_len == t->schema.value_size);
}

static bool fits_cells(const struct shard *s, uint16_t slot, const struct effect *e)
{
    const struct table *t = s->table[e->table];
    return t && slot < LETHE_SLOTS && t->schema.kind == TABLE_SKETCH && e->value_len % 8 == 0 &&
           (uint64_t)e->children + e->value_len / 8 <= t->schema.max_entries;
}

static bool fits_lend(const struct shard *s, uint16_t slot, const struct effect *e)
{
    const struct table *t = s->table[e->table];
    uint32_t index;
    if (!t || t->schema.kind != TABLE_POOL || slot >= LETHE_SLOTS ||
        e->children > LETHE_SLOTS - (e->code == EFFECT_BORROW) ||
        e->key_len || e->parent_key_len || !e->value_len || e->value_len % sizeof index)
        return false;
    for (uint32_t at = 0; at < e->value_len; at += sizeof index) {
        memcpy(&index, effect_value(e) + at, sizeof index);
        if (index >= t->schema.max_entries)
            return false;
    }
    return true;
}

static bool fits(const struct shard *s, uint16_t slot, const struct effect *e)
{
    switch ((enum effect_code)e->code) {
    case EFFECT_PUT:
    case EFFECT_ADD:
    case EFFECT_DEL:
    case EFFECT_META:
    case EFFECT_REST: return fits_table(s, slot, e);
    case EFFECT_EVENT:
    case EFFECT_CONSUMER:
    case EFFECT_CURSOR: return fits_event(s, slot, e);
    case EFFECT_CELLS: return fits_cells(s, slot, e);
    case EFFECT_RESULT: return slot < LETHE_SLOTS && e->value_len >= sizeof(struct txn_result_head);
    case EFFECT_LEND:
    case EFFECT_LOAN_DONE:
    case EFFECT_BORROW: return fits_lend(s, slot, e);
    case EFFECT_LOAN: return slot == SLOT_BASE && loan_fits(s, e);
    case EFFECT_OWNER:
        if (e->parent_table > OWNER_INCOMING)
            return false;
        /* fall through */
    case EFFECT_RELEASE: case EFFECT_INCOMING: case EFFECT_ACCEPT: case EFFECT_GONE:
        return slot < LETHE_SLOTS && e->timeout_ms < LETHE_SLOTS;
    case EFFECT_SLOT: return slot < LETHE_SLOTS;
    case EFFECT_TABLE:
        return slot == SLOT_BASE && e->value_len == sizeof(struct table_schema) &&
               !schema_validate((const void *)effect_value(e));
    default: return slot == SLOT_BASE;
    }
}

bool effect_fits(const struct shard *s, uint8_t slot, const struct effect *e)
{
    return fits(s, slot, e);
}

/* A pool's record is of an index that the slot has. */
static bool holds_index(const struct shard *s, uint16_t slot, const struct effect *e)
{
    const struct table *t = s->table[e->table];
    uint32_t index;
    if (!e->key_len || !t || t->schema.kind != TABLE_POOL)
        return true;
    memcpy(&index, effect_key(e), sizeof index);
    return pool_holds(t, (uint8_t)slot, index);
}

/* Checks effects against the tables there are, and reserves their memory. */
static int prepare(struct shard *s, uint16_t slot, const struct effect *e, uint32_t bytes)
{
    uint32_t more[TABLES_MAX] = {0}, events[TABLES_MAX] = {0};
    bool groups[TABLES_MAX] = {0};
    const uint8_t *end = (const uint8_t *)e + bytes;
    for (; (const uint8_t *)e < end; e = effect_next(e)) {
        if (!fits(s, slot, e) || !holds_index(s, slot, e))
            return -EINVAL;
        if (is_not_ours(s, e))
            continue;
        bool pooled = (e->code == EFFECT_REST || e->code == EFFECT_DEL) &&
                      s->table[e->table]->schema.kind == TABLE_POOL;
        if (e->code == EFFECT_PUT || e->code == EFFECT_ADD || e->code == EFFECT_CELLS || (pooled && !more[e->table]))
            more[e->table]++;
        bool groupable = e->code == EFFECT_PUT || e->code == EFFECT_ADD || e->code == EFFECT_META;
        groups[e->table] |= groupable && (e->children || e->parent_key_len);
        bool event = e->code == EFFECT_EVENT;
        events[e->table] += event;
        if ((event || e->code == EFFECT_CONSUMER || e->code == EFFECT_CURSOR) &&
            !event_reserve(s->table[e->table], (uint8_t)slot, events[e->table]))
            return -ENOMEM;
    }
    for (uint32_t i = 0; i < s->tables; i++)
        if ((more[i] || groups[i]) && !part_reserve(s->table[i], (uint8_t)slot, more[i], groups[i]))
            return -ENOMEM;
    return 0;
}

/* Rests that were over at the time of this entry leave the digest. */
static void rests_end(struct shard *s, uint8_t slot, uint64_t time_ms)
{
    for (uint32_t i = 0; i < s->tables; i++) {
        struct pool_part *p = s->table[i]->part[slot].pool;
        if (!p || p->logged == p->end)
            continue;
        pool_mature(p, time_ms);
        for (; p->logged < p->ready; p->logged++) {
            const struct resting *r = &p->rest[p->logged % p->room];
            if (r->release_ms > time_ms)
                break;
            s->digest -= rest_digest((uint8_t)i, pool_index_of(p, slot, r->dense), r->release_ms);
        }
    }
}

/* A part of a move: every effect may rest on those before it, as in a snapshot. */
static bool is_move_part(const struct shard *s, const struct entry *e)
{
    return e->slot < LETHE_SLOTS && s->slot[e->slot].owner == OWNER_INCOMING;
}

static int apply_slot_part(struct shard *s, const struct entry *e, bool own)
{
    bool part = is_move_part(s, e);
    int err = own || part ? 0 : prepare(s, e->slot, entry_first(e), e->effects_bytes);
    if (err)
        return err;
    if (e->slot < LETHE_SLOTS) {
        rests_end(s, (uint8_t)e->slot, e->time_ms);
        set_slot_seq(s, (uint8_t)e->slot, e->slot_seq);
        if (e->sync)
            s->slot[e->slot].last_position = e->position;
    } else {
        s->base_position = e->position;
    }
    struct effect *f = entry_first(e);
    if (part)
        return apply_snapshot(s, e->slot, f, e->effects_bytes);
    for (uint32_t i = 0; i < e->effects && !err; i++, f = effect_next(f))
        err = apply_effect(s, e->slot, f, own);
    if (err || own || !e->result_bytes || SHARD_BUG(BUG_RESULTS_NOT_REPLICATED))
        return err;
    return keep_result(s, (uint8_t)e->slot, e->client, e->seq, e->position, entry_result(e),
                       e->result_bytes);
}

int apply_slot_lend(struct shard *s, const struct entry *e, uint8_t slot, const struct effect *f)
{
    rests_end(s, slot, e->time_ms);
    s->slot[slot].last_position = e->position;
    /* An index's versions grow from slot to slot. */
    if (f->code == EFFECT_BORROW) {
        if (e->slot_seq > s->slot[slot].seq)
            set_slot_seq(s, slot, e->slot_seq);
        slot_lift_base(s, slot, f->version);
        s->slot[slot].owner_position = e->position;
    }
    return apply_lend(s, s->table[f->table], slot, f);
}

/* Two effects: LEND of the other slot, BORROW of this one; either may be done already
 * at a joiner. */
static int apply_lend_entry(struct shard *s, const struct entry *e, unsigned what)
{
    const struct effect *lend = entry_first(e), *borrow = effect_next(lend);
    uint8_t slots[] = {(uint8_t)(e->also - 1), (uint8_t)e->slot};
    int err = 0;
    if (e->effects != 2 || lend->code != EFFECT_LEND || borrow->code != EFFECT_BORROW ||
        lend->children >= LETHE_SLOTS || !effect_fits(s, slots[0], lend) || !effect_fits(s, slots[1], borrow))
        return -EINVAL;
    for (int i = 0; i < 2 && !err; i++) {
        if (!(what & (i ? APPLY_SLOT : APPLY_ALSO)))
            continue;
        err = apply_slot_lend(s, e, slots[i], i ? borrow : lend);
    }
    return err;
}

int apply_entry(struct shard *s, const struct entry *e, unsigned what)
{
    if (e->also == SLOT_BASE + 1)
        return apply_loan_entry(s, e, what);
    if (e->also)
        return apply_lend_entry(s, e, what);
    int err = what & APPLY_SLOT ? apply_slot_part(s, e, what & APPLY_OWN) : 0;
    if (err || !(what & APPLY_CLIENT) || !e->client)
        return err;
    struct client *c = client_find(s, e->client);
    if (c)
        client_acked(s, c, e->ack);
    return 0;
}

void apply_volatile(struct shard *s, const struct entry *e)
{
    struct effect *f = entry_first(e);
    for (uint32_t i = 0; i < e->effects; i++, f = effect_next(f)) {
        struct table *t = s->table[f->table];
        int err = apply_effect(s, e->slot, f, true);
        assert(!err);
        (void)err;
        bool writes = f->code == EFFECT_PUT || f->code == EFFECT_ADD;
        if (writes && t->schema.kind != TABLE_SKETCH)
            record_at(t, (uint8_t)e->slot, f->rec)->state = RECORD_COMMITTED;
    }
}

int apply_snapshot(struct shard *s, uint16_t slot, const void *effects, uint32_t bytes)
{
    struct effect *e = (struct effect *)(uintptr_t)effects;
    const uint8_t *end = (const uint8_t *)effects + bytes;
    int err = 0;
    /* One by one: the base names tables that its later effects refer to, and
     * memory for thousands of records at once would be far too much. */
    for (; (const uint8_t *)e < end && !err; e = effect_next(e))
        if (!(err = prepare(s, slot, e, e->bytes)))
            err = apply_effect(s, slot, e, false);
    return err;
}
