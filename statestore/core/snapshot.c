/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One hash slot's state, or the shard's own, as effects in a growing buffer.
 * Parents come before children, and a slot's sequence before all.
 */
#include <stdlib.h>

#include "internal.h"

static bool room_for(struct bytes *b, uint32_t more)
{
    uint32_t room = b->room ? b->room : 65536;
    while (room - b->used < more)
        room *= 2;
    if (room == b->room)
        return true;
    uint8_t *data = realloc(b->data, room);
    if (!data)
        return false;
    b->data = data;
    b->room = room;
    return true;
}

static bool put(struct bytes *b, const struct effect *head, const void *key,
                const void *parent_key, const void *value)
{
    if (!room_for(b, effect_size(head->key_len, head->parent_key_len, head->value_len)))
        return false;
    b->used += effect_write(b->data + b->used, head, key, parent_key, value)->bytes;
    return true;
}

static bool put_record(const struct shard *s, struct bytes *b, const struct table *t, uint8_t slot,
                       uint32_t rec)
{
    const struct record *r = record_at(t, slot, rec);
    const struct group *g = group_of(t, slot, rec);
    uint8_t value[TXN_VALUE_MAX];
    const uint8_t *parent_key = NULL;
    struct effect e = {.code = EFFECT_PUT, .table = t->id, .key_len = t->schema.key_size,
                       .value_len = (uint16_t)t->schema.value_size, .rec = REC_NONE,
                       .version = r->version,
                       .deadline_ms = b->moves ? r->deadline_ms : replicated_ms(r, meta_at(t, slot, rec)),
                       .timeout_ms = r->timeout_ms, .children = g->children};
    if (g->parent_rec != REC_NONE) {
        const struct table *pt = s->table[g->parent_table];
        e.parent_table = pt->id;
        e.parent_key_len = pt->schema.key_size;
        parent_key = record_at(pt, slot, g->parent_rec)->payload;
    }
    record_value(&t->shape, r, value);
    return put(b, &e, r->payload, parent_key, value);
}

static bool put_records(const struct shard *s, struct bytes *b, const struct table *t,
                        uint8_t slot, bool children)
{
    for (uint32_t rec = 0; rec < t->part[slot].high; rec++) {
        if (record_at(t, slot, rec)->state == RECORD_FREE)
            continue;
        bool child = group_of(t, slot, rec)->parent_rec != REC_NONE;
        if (child == children && !put_record(s, b, t, slot, rec))
            return false;
    }
    return true;
}

static bool put_rests(struct bytes *b, const struct table *t, uint8_t slot)
{
    const struct pool_part *p = t->part[slot].pool;
    for (uint64_t i = p ? p->logged : 0; p && i < p->end; i++) {
        const struct resting *r = &p->rest[i % p->room];
        uint32_t index = pool_index_of(p, slot, r->dense);
        struct effect e = {.code = EFFECT_REST, .table = t->id, .key_len = sizeof index,
                           .deadline_ms = r->release_ms};
        if (!put(b, &e, &index, NULL, NULL))
            return false;
    }
    return true;
}

/* Borrowed ones are known before they are lent on, used or resting. */
static bool put_lends(struct bytes *b, const struct table *t, uint8_t slot)
{
    const struct pool_part *p = t->schema.kind == TABLE_POOL ? t->part[slot].pool : NULL;
    for (uint32_t i = p ? p->home : 0; p && i < p->count; i++) {
        struct effect e = {.code = EFFECT_BORROW, .table = t->id, .value_len = sizeof i,
                           .children = p->borrowed[i - p->home].from};
        if (e.children < LETHE_SLOTS && !put(b, &e, NULL, NULL, &p->borrowed[i - p->home].index))
            return false;
    }
    for (uint32_t i = 0; p && p->lent && i < p->count; i++) {
        uint32_t index = p->to[i] ? pool_index_of(p, slot, i) : 0;
        struct effect e = {.code = EFFECT_LEND, .table = t->id, .value_len = sizeof i,
                           .children = p->to[i] - 1u};
        if (p->to[i] && !put(b, &e, NULL, NULL, &index))
            return false;
    }
    return true;
}

/* The cursor first: it gives the events their numbers. */
static bool put_events(struct bytes *b, const struct table *t, uint8_t slot)
{
    const struct event_log *l = event_log_of(t, slot);
    if (!l)
        return true;
    struct effect cursor = {.code = EFFECT_CURSOR, .table = t->id, .version = l->cursor};
    struct effect consumer = {.code = EFFECT_CONSUMER, .table = t->id, .version = l->client,
                              .children = l->epoch};
    bool ok = put(b, &cursor, NULL, NULL, NULL) && put(b, &consumer, NULL, NULL, NULL);
    for (uint64_t n = l->cursor + 1; ok && n < l->next; n++) {
        const struct event *e = event_at(t, l, n);
        struct effect event = {.code = EFFECT_EVENT, .table = t->id, .key_len = e->e.key_len,
                               .value_len = e->e.value_len, .version = e->e.version,
                               .deadline_ms = e->e.time_ms};
        const uint8_t *key = (const uint8_t *)(e + 1);
        ok = put(b, &event, key, NULL, key + e->e.key_len);
    }
    return ok;
}

/* Runs of cells, without those that are nothing but zero. */
static bool put_cells(struct bytes *b, const struct table *t, uint8_t slot)
{
    enum { RUN = 128 };
    static const uint64_t zeros[RUN];
    const uint64_t *cells = t->schema.kind == TABLE_SKETCH ? t->part[slot].cells : NULL;
    uint32_t room = cells ? t->schema.max_entries : 0;
    for (uint32_t from = 0; from < room; from += RUN) {
        uint32_t n = room - from < RUN ? room - from : RUN;
        struct effect e = {.code = EFFECT_CELLS, .table = t->id, .children = from,
                           .value_len = (uint16_t)(8 * n)};
        if (memcmp(cells + from, zeros, e.value_len) &&
            !put(b, &e, NULL, NULL, cells + from))
            return false;
    }
    return true;
}

static bool put_results(struct bytes *b, const struct kept *k)
{
    for (; k; k = k->slot_next) {
        struct effect e = {.code = EFFECT_RESULT, .version = k->client, .deadline_ms = k->seq,
                           .value_len = k->bytes};
        if (!SHARD_BUG(BUG_RESULTS_NOT_REPLICATED) && !put(b, &e, NULL, NULL, k->result))
            return false;
    }
    return true;
}

static bool put_owner(const struct shard *s, struct bytes *b, uint8_t slot)
{
    const struct slot *o = &s->slot[slot];
    struct effect e = {.code = EFFECT_OWNER, .parent_table = o->owner, .children = o->epoch,
                       .timeout_ms = o->other, .version = o->version_base,
                       .deadline_ms = o->attempt};
    return put(b, &e, NULL, NULL, NULL);
}

bool snapshot_tables(const struct shard *s, struct bytes *b)
{
    bool ok = true;
    for (uint32_t i = 0; i < s->tables && ok; i++) {
        struct effect e = {.code = EFFECT_TABLE, .table = s->table[i]->id,
                           .value_len = sizeof(struct table_schema)};
        ok = put(b, &e, NULL, NULL, &s->table[i]->schema);
    }
    return ok;
}

static bool put_loan(struct bytes *b, uint32_t shard, const struct loan *l)
{
    struct effect e = {.code = EFFECT_LOAN, .timeout_ms = shard, .version = l->number,
                       .parent_table = l->state, .children = l->slot, .table = l->table};
    return !l->state || put(b, &e, NULL, NULL, NULL);
}

static bool snapshot_base(const struct shard *s, struct bytes *b)
{
    struct effect counter = {.code = EFFECT_CLIENT_COUNTER, .version = s->client_counter};
    bool ok = put(b, &counter, NULL, NULL, NULL) && snapshot_tables(s, b);
    for (uint32_t i = 0; i < s->client_room && ok; i++) {
        struct effect e = {.code = EFFECT_CLIENT, .version = s->client[i].id,
                           .deadline_ms = s->client[i].ack};
        ok = !e.version || put(b, &e, NULL, NULL, NULL);
    }
    for (uint32_t i = 0; i < s->config.shards && ok; i++)
        ok = put_loan(b, i, &s->loans.out[i]) && put_loan(b, i, &s->loans.in[i]);
    return ok;
}

bool snapshot_slot(const struct shard *s, uint16_t slot, struct bytes *b)
{
    if (slot == SLOT_BASE)
        return snapshot_base(s, b);
    struct effect seq = {.code = EFFECT_SLOT, .version = s->slot[slot].seq};
    bool ok = put(b, &seq, NULL, NULL, NULL) && (b->moves || put_owner(s, b, (uint8_t)slot));
    for (int children = 0; children < 2; children++)
        for (uint32_t i = 0; i < s->tables && ok; i++)
            ok = is_volatile(s->table[i]) || ((children || (put_lends(b, s->table[i], (uint8_t)slot) &&
                               put_rests(b, s->table[i], (uint8_t)slot) &&
                               put_events(b, s->table[i], (uint8_t)slot) &&
                               put_cells(b, s->table[i], (uint8_t)slot))) &&
                 put_records(s, b, s->table[i], (uint8_t)slot, children));
    return ok && (b->moves || put_results(b, s->slot[slot].results));
}
