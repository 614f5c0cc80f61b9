/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an operator sees of a shard beyond its counters: what it waits for, which
 * hash slots and pool indexes are whose, events that nobody took.
 *
 * Everything is counted here, when asked, from what the shard keeps anyway: nothing
 * in the datapath knows of it. shard_health_get looks at each hash slot and event log
 * and at the replies that are suspended; shard_loans_get at each number of those pool
 * parts that lent or borrowed, so the driver asks for it more rarely.
 */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

static const struct peer *member(const struct shard *s, uint32_t i)
{
    return peer_of_node((struct shard *)(uintptr_t)s, &s->view.members[i]);
}

static uint64_t lease_left_ms(const struct shard *s)
{
    uint64_t least = SHARD_NO_LEASE;
    for (uint32_t i = 1; s->role == SHARD_PRIMARY && i < s->view.nmembers; i++) {
        const struct peer *p = member(s, i);
        uint64_t left = p && p->leased_until_ms > s->now_ms ? p->leased_until_ms - s->now_ms : 0;
        if (p && p->proto == 1) /* knows no leases, and never takes over by itself */
            continue;
        if (left < least)
            least = left;
    }
    return least;
}

/* In the order of collect.c; the lease is waited for meanwhile. */
static void get_collecting(const struct shard *s, struct shard_health *h)
{
    if (s->role != SHARD_PRIMARY || !s->collecting)
        return;
    h->collecting = SHARD_COLLECTS_LEASE;
    for (uint32_t i = 1; i < s->view.nmembers; i++) {
        const struct peer *p = member(s, i);
        enum shard_collecting why = !p || !p->confirmed ? SHARD_COLLECTS_MEMBERS
                                    : p->told_position > s->position ? SHARD_COLLECTS_TAIL
                                                                     : SHARD_COLLECTS_LEASE;
        if (why < h->collecting) {
            h->collecting = why;
            h->collects_from = s->view.members[i].node;
        }
    }
    if (s->serve_after_ms > s->now_ms)
        h->lease_wait_ms = s->serve_after_ms - s->now_ms;
}

static void count_slots(const struct shard *s, struct shard_health *h)
{
    bool member = s->role == SHARD_PRIMARY || s->role == SHARD_BACKUP;
    for (int i = 0; member && i < LETHE_SLOTS; i++) {
        h->slots_owned += s->slot[i].owner == OWNER_HERE;
        h->slots_sending += s->slot[i].owner == OWNER_SENDING;
        h->slots_incoming += s->slot[i].owner == OWNER_INCOMING;
    }
    h->slots_queued = s->moves.nqueued;
    h->slots_sent = s->slots_sent;
    h->slots_taken = s->slots_taken;
}

static void get_timers(const struct shard *s, struct shard_health *h)
{
    uint64_t tick = s->time_ms / TIMER_TICK_MS;
    if (!is_serving(s))
        return;
    h->timers_armed = s->wheel.armed;
    if (s->wheel.armed && tick > s->wheel.tick)
        h->timers_late_ms = (tick - s->wheel.tick) * TIMER_TICK_MS;
}

void shard_health_get(const struct shard *s, struct shard_health *out)
{
    *out = (struct shard_health){.lease_left_ms = lease_left_ms(s)};
    get_collecting(s, out);
    if (s->proposing)
        out->proposal_open_ms = s->now_ms > s->proposed_ms ? s->now_ms - s->proposed_ms : 1;
    count_slots(s, out);
    for (uint32_t i = 0; i < s->tables; i++)
        out->events_pending += s->table[i]->pending;
    out->consumers = s->consumers.nwilling;
    for (const struct reply *r = s->suspended.first; r; r = r->next)
        out->suspended_replies++;
    for (int i = 0; s->moves.nlends && i < LEND_ORDERS_MAX; i++)
        out->indexes_to_lend += s->moves.lend[i].count;
    get_timers(s, out);
}

void shard_counts_get(const struct shard *s, struct shard_counts *out)
{
    *out = s->counts;
}

uint32_t shard_replicas_get(const struct shard *s, struct shard_replica out[SHARD_REPLICAS_MAX])
{
    uint32_t n = 0;
    _Static_assert((int)PEERS_MAX <= (int)SHARD_REPLICAS_MAX, "room for all");
    for (int i = 0; s->role == SHARD_PRIMARY && i < PEERS_MAX; i++) {
        const struct peer *p = &s->peer[i];
        if (p->node.node)
            out[n++] = (struct shard_replica){p->node.node, p->join.state != JOIN_NO,
                                              s->position > p->acked ? s->position - p->acked : 0};
    }
    return n;
}

bool shard_progress(const struct shard *s, uint64_t *position, uint64_t *commit)
{
    *position = s->position;
    *commit = s->commit;
    return is_serving(s);
}

static void get_table(const struct shard *s, const struct table *t, struct shard_table *out)
{
    *out = (struct shard_table){.entries = t->entries, .max_entries = t->schema.max_entries,
                                .bytes = t->bytes, .events_pending = t->pending,
                                .kind = t->schema.kind, .schema = t->schema};
    memcpy(out->name, t->schema.name, sizeof out->name - 1);
    for (uint32_t i = 0; t->schema.kind == TABLE_POOL && i < LETHE_SLOTS; i++) {
        const struct pool_part *p = t->part[i].pool;
        if (!shard_owns(s, i))
            continue;
        out->pool_free += p ? p->free_count : pool_share(t->schema.max_entries, (uint8_t)i);
        out->pool_resting += p ? p->end - p->ready : 0;
    }
}

uint32_t shard_tables_get(const struct shard *s, struct shard_table *out, uint32_t room)
{
    uint32_t n = s->tables < room ? s->tables : room;
    for (uint32_t i = 0; i < n; i++)
        get_table(s, s->table[i], &out[i]);
    return n;
}

static void count_part(const struct shard *s, const struct pool_part *p, struct shard_loans *out)
{
    for (uint32_t i = 0; p->lent && i < p->count; i++) {
        out->lent += p->to[i] != 0;
        out->lent_to_shards += p->to[i] == POOL_UNDER_WAY ||
                               (p->to[i] && !shard_owns(s, p->to[i] - 1u));
    }
    for (uint32_t i = p->home; i < p->count; i++) {
        uint32_t from = p->borrowed[i - p->home].from;
        if (p->to[i] || from >= LETHE_SLOTS) /* lent on, or given back */
            continue;
        out->borrowed++;
        out->borrowed_from_shards += !shard_owns(s, from);
    }
}

void shard_loans_get(const struct shard *s, struct shard_loans *out)
{
    *out = (struct shard_loans){0};
    for (uint32_t i = 0; i < s->tables; i++) {
        const struct table *t = s->table[i];
        for (uint32_t slot = 0; t->schema.kind == TABLE_POOL && slot < LETHE_SLOTS; slot++)
            if (t->part[slot].pool)
                count_part(s, t->part[slot].pool, out);
    }
}

/* --- orders ----------------------------------------------------------------------------- */

void order_refuse(struct shard *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(s->order_refused, sizeof s->order_refused, format, args);
    va_end(args);
    shard_note(s, "order refused: cause=\"%s\"", s->order_refused);
}

const char *shard_order_refused(const struct shard *s)
{
    return s->order_refused;
}
