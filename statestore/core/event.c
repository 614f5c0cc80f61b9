/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Event logs: what expired in a table with TABLE_EVENTS, until its consumer
 * acknowledged it.
 *
 * One log per table *and* hash slot, not one per hash slot as the design says:
 * tenants share slots and must not see each other's events, nor wait for each
 * other's consumers. The entry that expires something carries its EFFECT_EVENT,
 * so there is no expiry without its event on any replica. Events are numbered
 * from 1 in the order in which they are applied; (cursor, next) are pending.
 * All of it is replicated, in the digest and in the slot's snapshot: the cursor
 * first, so that the events behind it get their numbers again.
 *
 * A pending event counts as an entry against max_entries. An expiry makes one of
 * the other, so it always fits; what does not fit is the next insertion.
 *
 * consumer.c says who gets them. The consumer's id names its shard, so that it
 * is nobody at another shard that the slot moves to; its epoch goes along.
 *
 * Thread: the shard's. Errors: event_reserve alone allocates and can fail.
 */
#include <assert.h>
#include <stdlib.h>

#include "internal.h"

enum { EVENTS_FIRST = 8 };

static uint32_t stride(const struct table *t)
{
    return (uint32_t)sizeof(struct event) + ((t->schema.key_size + t->schema.value_size + 7) & ~7u);
}

struct event *event_at(const struct table *t, const struct event_log *l, uint64_t number)
{
    return (struct event *)(l->ring + (size_t)(number & (l->room - 1)) * stride(t));
}

static uint32_t room_for(const struct event_log *l, uint32_t more)
{
    uint64_t pending = l ? l->next - 1 - l->cursor : 0;
    uint32_t room = l ? l->room : 0;
    while (room < pending + more)
        room = room ? 2 * room : EVENTS_FIRST;
    return room;
}

uint64_t event_reserve_cost(const struct table *t, uint8_t slot, uint32_t more)
{
    const struct event_log *l = t->part[slot].events;
    return (l ? 0 : sizeof *l) +
           (uint64_t)(room_for(l, more) - (l ? l->room : 0)) * stride(t);
}

bool event_reserve(struct table *t, uint8_t slot, uint32_t more)
{
    struct event_log *l = t->part[slot].events;
    if (!l) {
        if (!(l = calloc(1, sizeof *l)))
            return false;
        l->next = 1;
        t->part[slot].events = l;
        table_account(t, sizeof *l);
    }
    uint32_t room = room_for(l, more);
    if (room == l->room)
        return true;
    struct event_log grown = *l;
    grown.room = room;
    if (!(grown.ring = malloc((size_t)room * stride(t))))
        return false;
    for (uint64_t n = l->cursor + 1; n < l->next; n++)
        memcpy(event_at(t, &grown, n), event_at(t, l, n), stride(t));
    table_account(t, (int64_t)(room - l->room) * stride(t));
    free(l->ring);
    *l = grown;
    return true;
}

static void give_back(struct table *t, struct event_log *l)
{
    table_account(t, -(int64_t)l->room * stride(t));
    free(l->ring);
    l->ring = NULL;
    l->room = 0;
}

void events_close(struct table *t, uint8_t slot)
{
    struct event_log *l = t->part[slot].events;
    if (!l)
        return;
    t->pending -= l->next - 1 - l->cursor;
    t->pending_slots[slot / 64] &= ~(1ull << slot % 64);
    give_back(t, l);
    table_account(t, -(int64_t)sizeof *l);
    free(l);
    t->part[slot].events = NULL;
}

/* --- digest -------------------------------------------------------------------- */

static uint64_t event_digest(const struct table *t, uint8_t slot, uint64_t number,
                             const struct event *e)
{
    uint32_t crc = crc32c(t->id * 256u + slot, &e->e,
                          (uint32_t)sizeof e->e + e->e.key_len + e->e.value_len);
    return SHARD_BUG(BUG_EVENT_LOST) ? 0 : mix64(mix64(number ^ 0xe7e27ull << 40) ^ crc);
}

static uint64_t head_digest(const struct table *t, uint8_t slot, const struct event_log *l)
{
    uint64_t h = mix64(0xe109ull << 40 | (uint64_t)t->id << 8 | slot);
    if ((l->next == 1 && !l->epoch) || SHARD_BUG(BUG_EVENT_LOST))
        return 0;
    h = mix64(h ^ l->next);
    h = mix64(h ^ l->cursor);
    return mix64(mix64(h ^ l->client) ^ l->epoch);
}

uint64_t events_digest(const struct table *t, uint8_t slot)
{
    const struct event_log *l = event_log_of(t, slot);
    uint64_t sum = l ? head_digest(t, slot, l) : 0;
    for (uint64_t n = l ? l->cursor + 1 : 0; l && n < l->next; n++)
        sum += event_digest(t, slot, n, event_at(t, l, n));
    return sum;
}

/* --- effects --------------------------------------------------------------------- */

static void count_pending(struct shard *s, struct table *t, uint8_t slot, uint64_t before)
{
    const struct event_log *l = t->part[slot].events;
    uint64_t pending = l->next - 1 - l->cursor, bit = 1ull << slot % 64;
    t->pending += pending - before;
    if (pending)
        t->pending_slots[slot / 64] |= bit;
    else
        t->pending_slots[slot / 64] &= ~bit;
    s->consumers.dirty = true;
}

static void append(struct shard *s, struct table *t, uint8_t slot, const struct effect *e)
{
    struct event_log *l = t->part[slot].events;
    struct event *to = event_at(t, l, l->next);
    uint64_t before = l->next - 1 - l->cursor;
    assert(before < l->room);
    memset(to, 0, stride(t));
    /* A joiner's chunk is ahead of its log. */
    to->position = s->position;
    if (s->role == SHARD_JOINING && s->joining.position[slot] > to->position)
        to->position = s->joining.position[slot];
    to->e = (struct msg_event){.version = e->version, .time_ms = e->deadline_ms,
                               .key_len = e->key_len, .value_len = e->value_len,
                               .bytes = stride(t) - (uint32_t)offsetof(struct event, e)};
    memcpy(to + 1, effect_key(e), e->key_len);
    memcpy((uint8_t *)(to + 1) + e->key_len, effect_value(e), e->value_len);
    s->digest -= head_digest(t, slot, l);
    s->digest += event_digest(t, slot, l->next++, to);
    s->digest += head_digest(t, slot, l);
    count_pending(s, t, slot, before);
}

static void move_cursor(struct shard *s, struct table *t, uint8_t slot, uint64_t cursor)
{
    struct event_log *l = t->part[slot].events;
    uint64_t before = l->next - 1 - l->cursor;
    if (cursor <= l->cursor)
        return;
    s->digest -= head_digest(t, slot, l);
    for (uint64_t n = l->cursor + 1; n <= cursor && n < l->next; n++)
        s->digest -= event_digest(t, slot, n, event_at(t, l, n));
    l->cursor = cursor;
    if (l->next <= cursor) /* a snapshot's */
        l->next = cursor + 1;
    if (l->sent < cursor)
        l->sent = cursor;
    if (l->next == cursor + 1)
        give_back(t, l);
    s->digest += head_digest(t, slot, l);
    count_pending(s, t, slot, before);
}

static void set_consumer(struct shard *s, struct table *t, uint8_t slot, const struct effect *e)
{
    struct event_log *l = t->part[slot].events;
    s->digest -= head_digest(t, slot, l);
    l->client = e->version;
    l->epoch = e->children;
    s->digest += head_digest(t, slot, l);
    l->consumer_position = s->position;
    l->sent = l->cursor;
    l->patience = 0;
}

void apply_event(struct shard *s, struct table *t, uint8_t slot, const struct effect *e, bool own)
{
    if (SHARD_BUG(BUG_EVENT_LOST) && !own)
        return;
    switch (e->code) {
    case EFFECT_EVENT: append(s, t, slot, e); break;
    case EFFECT_CURSOR: move_cursor(s, t, slot, e->version); break;
    default: set_consumer(s, t, slot, e); break;
    }
}
