/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Planned changes (hold.h) on the datapath: tables are taken here, markers sent
 * and heard, what is kept is sent on. Datapath thread only.
 *
 * Sprayed packets are not held: any worker may get any of them. A worker that
 * leaves gets its markers all the same, and knows thereby that it is done.
 */
#include "steering/front/steer.h"

#include <rte_mbuf.h>

#include "steering/maglev.h"

int holding_create(struct steer *s)
{
    uint64_t packets = (uint64_t)HOLD_PACKETS * 2048 / s->room;
    uint64_t timeout_us = s->timeout_us < HOLD_MAX_US ? s->timeout_us : HOLD_MAX_US;
    packets = packets < HOLD_PACKETS_MIN ? HOLD_PACKETS_MIN : packets;
    packets = packets > HOLD_PACKETS ? HOLD_PACKETS : packets;
    /* Numbers from the clock: a marker of an earlier steering is never of this change. */
    return hold_create(s->table->size, (uint32_t)packets, timeout_us, s->incarnation, &s->hold);
}

/* --- ends -------------------------------------------------------------------------- */

static int pick(void *ctx, uint64_t hash)
{
    struct steer *s = ctx;
    int worker = spread_pick(s, hash);
    if (worker >= 0)
        s->worker[worker].catches_up_us = s->run_us + s->hold->timeout_us;
    return worker;
}

static void lost(void *ctx, void *packet)
{
    struct rte_mbuf *m = packet;
    spread_dispose(ctx, &m, 1, DROP_NO_WORKER);
}

static void release(struct steer *s, uint64_t owners, enum hold_reason why)
{
    for (; owners != 0; owners &= owners - 1) {
        struct worker *w = &s->worker[__builtin_ctzll(owners)];
        uint64_t us = s->run_us - s->hold->group[w->number].begun_us;
        if (s->tracing)
            traced_held(s, w->number);
        uint32_t n = hold_release(s->hold, w->number, pick, lost, s);
        metric_add(s->counts.release[why], 1);
        metric_set(s->counts.gauge[GAUGE_HOLD_US], us);
        struct note note = {.kind = NOTE_HOLD, .worker = (uint8_t)w->number, .event = (uint8_t)why,
                            .a = n, .b = us};
        memcpy(note.name, w->name, sizeof(note.name));
        note_put(s, &note);
    }
}

bool holding_returned(struct steer *s, struct worker *w, enum packet_side side, uint64_t number)
{
    enum hold_judgement j = hold_returned(s->hold, w->number, (uint8_t)side, number);
    if (j == HOLD_BOTH)
        release(s, 1ull << w->number, HOLD_MARKER);
    return j != HOLD_STALE;
}

void holding_worker_gone(struct steer *s, struct worker *w)
{
    release(s, s->hold->waits & 1ull << w->number, HOLD_WORKER_GONE);
    if (s->hold->backlogged >> w->number & 1)
        hold_backlog_move(s->hold, w->number, pick, lost, s);
}

void holding_end(struct steer *s)
{
    release(s, s->hold->waits, HOLD_WORKER_GONE);
}

/* --- begin --------------------------------------------------------------------------- */

/* Those whose packets would overtake something, and who can say when not. */
static uint64_t planned(const struct steer *s)
{
    uint64_t bits = 0;
    for (unsigned i = 0; i < s->workers_max; i++) {
        const struct worker *w = &s->worker[i];
        bool answers = w->health.state == HEALTH_HEALTHY || w->health.state == HEALTH_LEAVING;
        bits |= (uint64_t)(w->link && answers) << i;
    }
    return bits & s->usable;
}

void holding_take_table(struct steer *s)
{
    const struct table *before = s->table, *table;
    if (s->hold->waits != 0 || (table = table_next(s->tables)) == NULL)
        return;
    uint64_t waits = hold_begin(s->hold, before->bucket, table->bucket, planned(s), s->run_us);
    s->table = table;
    table_retire(s->tables);
    workers_usable(s);
    for (; waits != 0; waits &= waits - 1)
        s->worker[__builtin_ctzll(waits)].marked = 0;
    count_add(s, COUNT_TABLES, 1);
    metric_set(s->counts.gauge[GAUGE_TABLE_US], table->build_us);
    note_put(s, &(struct note){.kind = NOTE_TABLE, .worker = s->member_n, .a = table->members,
                               .b = table->build_us});
}

/* Into each ring, as soon as nothing stands before it any more that is for it; and
 * again, should the frame have got lost. */
static void send_markers(struct steer *s, struct worker *w)
{
    if (w->marked == 3 && s->run_us >= w->mark_us)
        w->marked = s->hold->group[w->number].returned;
    for (int side = 0; side < 2; side++) {
        struct probe p = {.kind = PROBE_MARKER, .seq = s->hold->number, .side = (uint32_t)side};
        if ((w->marked >> side & 1) || hold_backlog(s->hold, w->number, (uint8_t)side) > 0)
            continue;
        if (worker_put_probe(s, w, (enum packet_side)side, &p))
            w->marked |= (uint8_t)(1u << side);
        w->mark_us = s->run_us + s->hold->timeout_us / MARKERS_PER_TIMEOUT;
    }
}

/* --- packets --------------------------------------------------------------------------- */

bool holding_keep(struct steer *s, enum packet_side side, struct rte_mbuf *m, uint64_t hash)
{
    uint32_t bucket = maglev_bucket(hash, s->table->size);
    if (s->spray || !hold_wants(s->hold, bucket))
        return false;
    m->hash.usr = (uint32_t)hash;
    m->hash.fdir.hi = s->tracing ? m->hash.fdir.hi : 0; /* tracing may begin before it goes on */
    if (hold_put(s->hold, bucket, m, hash, (uint8_t)side, s->run_us)) {
        count_add(s, COUNT_HELD, 1);
        return true;
    }
    release(s, s->hold->waits, HOLD_FULL);
    holding_round(s); /* makes room: this one queues behind them */
    return false;
}

uint16_t holding_queue(struct steer *s, struct worker *w, enum packet_side side,
                       struct rte_mbuf **m, uint16_t n)
{
    uint16_t i = 0;
    if (hold_backlog(s->hold, w->number, (uint8_t)side) == 0 && s->run_us >= w->catches_up_us)
        return 0;
    /* Half of the hash is left: it is used if this worker gets lost, to choose another. */
    while (i < n && hold_backlog_put(s->hold, w->number, (uint8_t)side, m[i],
                                     m[i]->hash.usr * 0x9e3779b97f4a7c15ull, s->run_us)) {
        m[i]->hash.fdir.hi = s->tracing ? m[i]->hash.fdir.hi : 0;
        i++;
    }
    return i;
}

static void flush_backlog(struct steer *s, struct worker *w, enum packet_side side)
{
    void *packets[BURST];
    uint32_t n, sent = BURST;
    while (sent == BURST &&
           (n = hold_backlog_peek(s->hold, w->number, (uint8_t)side, packets, BURST)) > 0) {
        sent = spread_put(s, w, side, (struct rte_mbuf **)packets, (uint16_t)n);
        hold_backlog_pop(s->hold, w->number, (uint8_t)side, sent);
    }
    if (hold_backlog(s->hold, w->number, (uint8_t)side) > 0)
        w->catches_up_us = s->run_us + s->hold->timeout_us;
}

/* Who does not answer, and has packets all the same because nobody else is there, takes them again at some
 * time or never: no flow is served by what is older. A worker that leaves is read to its end, in bounded time. */
static void drop_old(struct steer *s, const struct worker *w, enum packet_side side)
{
    void *packets[BURST];
    uint32_t n;
    if (w->health.state == HEALTH_HEALTHY || w->health.state == HEALTH_LEAVING)
        return;
    while ((n = hold_backlog_old(s->hold, w->number, (uint8_t)side, s->run_us, HOLD_OLD_US, packets, BURST)) > 0) {
        hold_backlog_pop(s->hold, w->number, (uint8_t)side, n);
        spread_dispose(s, (struct rte_mbuf **)packets, n, DROP_HELD_TOO_LONG);
    }
}

void holding_round(struct steer *s)
{
    struct hold *h = s->hold;
    if (h->waits != 0)
        release(s, hold_overdue(h, s->run_us), HOLD_OVERDUE);
    for (uint64_t left = h->backlogged; left != 0; left &= left - 1)
        for (int side = 0; side < 2; side++) {
            flush_backlog(s, &s->worker[__builtin_ctzll(left)], (enum packet_side)side);
            drop_old(s, &s->worker[__builtin_ctzll(left)], (enum packet_side)side);
        }
    for (uint64_t left = h->waits; left != 0; left &= left - 1)
        send_markers(s, &s->worker[__builtin_ctzll(left)]);
    metric_set(s->counts.gauge[GAUGE_HELD], h->kept_n + h->backlog_n);
}
