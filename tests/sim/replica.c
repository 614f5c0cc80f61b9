/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One shard's replica in a store process: the driver around the core. It gives
 * the shard its frames, ticks and views, holds client frames back while the
 * shard takes none, and counts what it sees go by.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

enum { DEEP_EVERY = 2048, COUNT_EVERY = 16, PROPOSAL_RETRY_MS = 20 };

uint64_t replica_now_ms(const struct replica *r)
{
    return proc_now_us(r->world, r->proc) / 1000;
}

void replica_trace(const struct replica *r, const char *format, ...)
{
    char text[300];
    va_list ap;
    if (!r->world->trace)
        return;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    trace(r->world, r->proc, "/%u %s", r->number, text);
}

/* --- effects --------------------------------------------------------------------------- */

/* It takes requests. The first time in a view ends a fail-over. */
static void serves(struct replica *r, uint64_t epoch)
{
    struct world *w = r->world;
    struct shard_key *key = &w->keys[r->number];
    if (r->served_epoch == epoch)
        return;
    r->served_epoch = epoch;
    rules_serves(r, epoch);
    if (epoch <= key->served_epoch)
        return;
    bool fresh = r->stood_down || !views_same_node(&r->self, &key->served_by);
    r->stood_down = false;
    if (fresh && key->served_epoch) {
        w->counts.fail_overs++;
        replica_trace(r, "SERVES epoch %" PRIu64, epoch);
        hist_add_stall(&w->history, r->heard_us, w->now_us, false);
    }
    key->served_epoch = epoch;
    key->served_by = r->self;
    if (fresh && epoch > 1)
        views_note_fail_over(w, r);
}

static void send_places(const struct replica *r, uint32_t conn, const void *frame, uint32_t bytes)
{
    void *copy = malloc(bytes);
    if (!copy)
        abort();
    memcpy(copy, frame, bytes);
    nic_translate(r, copy);
    net_send(r->world, conn, r->proc, r->number, copy, bytes);
    free(copy);
}

static void effect_send(void *ctx, uint32_t conn, const void *frame, uint32_t bytes)
{
    struct replica *r = ctx;
    const struct msg_head *h = frame;
    /* A rejoin begins a new incarnation: what it signs with is what it is. */
    if (h->type == MSG_JOIN)
        r->self = ((const struct msg_join *)frame)->self;
    if (h->type == MSG_PLACES) {
        send_places(r, conn, frame, bytes);
        return;
    }
    if (h->type == MSG_CHUNK_ACK)
        r->world->counts.resnapshots += ((const struct msg_chunk_ack *)frame)->refused;
    rules_tells(r, conn, frame);
    net_send(r->world, conn, r->proc, r->number, frame, bytes);
}

static void effect_close(void *ctx, uint32_t conn, const char *why)
{
    struct replica *r = ctx;
    net_close(r->world, conn, r->proc, r->number, why);
    if (conn == r->upstream.conn)
        r->upstream = (struct link){0};
    if (conn == r->mover.conn)
        r->mover = (struct link){.to = r->mover.to};
}

static void effect_propose(void *ctx, uint64_t old_epoch, const struct shard_view *want)
{
    struct replica *r = ctx;
    if (!r->proposal.open) {
        r->request++; /* an answer to an earlier one is none to this */
        faults_provoke(r->world);
    }
    proposal_open(&r->proposal, old_epoch, want, PROPOSAL_RETRY_MS, replica_now_ms(r));
}

static void effect_note(void *ctx, const char *text)
{
    const struct replica *r = ctx;
    replica_trace(r, "note: %s", text);
}

/* --- counting -------------------------------------------------------------------------- */

static uint64_t newer(uint64_t now, uint64_t *seen)
{
    uint64_t more = now > *seen ? now - *seen : 0;
    *seen = now;
    return more;
}

void replica_count(struct replica *r)
{
    struct world *w = r->world;
    struct shard_status st = r->st, *seen = &r->seen;
    if (!r->shard)
        return;
    w->counts.duplicates += newer(st.duplicates, &seen->duplicates);
    uint64_t expired = newer(st.expired, &seen->expired);
    w->counts.expiries += expired;
    if (st.role == SHARD_PRIMARY && r->served_epoch > 1)
        w->counts.late_timers += expired;
    w->counts.touches += newer(st.touches_logged, &seen->touches_logged);
    uint64_t exhausted = newer(st.exhausted, &seen->exhausted);
    if (st.pool_resting)
        w->counts.quarantined += exhausted;
    if (st.waiting)
        w->counts.held++;
    if (st.waiting && st.commit == st.position && !r->proposal.open)
        w->counts.lapsed++;
    if (st.drifts)
        run_fail(w, "replicas", "%s reports %u digests that differed", r->name, st.drifts);
}

/* Where the replica stands, whenever that changed. */
static void trace_state(struct replica *r)
{
    static const char *const roles[] = {"?", "primary", "backup", "joining", "LOST", "idle"};
    const struct shard_status *st = &r->st;
    if (!r->world->trace)
        return;
    uint64_t state = st->position * 31 + st->commit * 17 + st->view_epoch * 7 + st->role;
    if (state == r->traced)
        return;
    r->traced = state;
    replica_trace(r, "   = %s e%" PRIu64 " position %" PRIu64 " commit %" PRIu64
                  " waiting %u time %" PRIu64 " digest %016" PRIx64,
                  st->role < 6 ? roles[st->role] : "?", st->view_epoch, st->position, st->commit,
                  st->waiting, st->shard_time_ms, st->digest);
}

/* --- steps ----------------------------------------------------------------------------- */

/* e->a: node, e->b: shard */
static void tick(struct world *w, const struct event *e)
{
    struct replica *r = &w->replicas[e->a][e->b];
    if (r->wake_us > w->now_us)
        return; /* woken since, and has another appointment */
    r->wake_us = UINT64_MAX;
    replica_step(r, &(struct shard_event){.kind = SHARD_EV_TICK});
}

void replica_set_alarm(struct replica *r)
{
    struct world *w = r->world;
    uint64_t next_ms = shard_next_ms(r->shard);
    uint64_t wish_ms = proposal_next_ms(&r->proposal);
    if (wish_ms < next_ms)
        next_ms = wish_ms;
    if (next_ms == UINT64_MAX)
        return;
    uint64_t at_us = proc_when_us(w, r->proc, next_ms * 1000);
    if (at_us <= w->now_us)
        at_us = w->now_us + 50 + rng_below(&w->rng, 200);
    if (at_us >= r->wake_us)
        return;
    r->wake_us = at_us;
    sched_at(w, at_us, r->proc, tick, (uint64_t)r->proc, r->number, NULL);
}

static void raw_step(struct replica *r, const struct shard_event *ev)
{
    const struct shard_out out = {r, effect_send, effect_close, effect_propose, effect_note};
    bool led = r->st.role == SHARD_PRIMARY;
    r->stepped_ms = replica_now_ms(r);
    shard_step(r->shard, ev, r->stepped_ms, &out);
    shard_status_get(r->shard, &r->st);
    /* Its time goes on from what it heard last; it may fall before it serves. */
    if (!led && r->st.role == SHARD_PRIMARY && r->st.view_epoch > 1)
        hist_add_stall(&r->world->history, r->heard_us, r->world->now_us, false);
    if (led && r->st.role != SHARD_PRIMARY) {
        r->stood_down = true;
        r->heard_us = r->world->now_us;
    }
    if (r->st.role == SHARD_LOST && !r->world->lost)
        run_fail(r->world, "lost", "%s says LOST while a member of the view lives", r->name);
    if (r->st.role == SHARD_PRIMARY)
        views_note_primary(r->world, r);
    if (r->st.role == SHARD_PRIMARY && shard_takes_requests(r->shard))
        serves(r, r->st.view_epoch);
    rules_stepped(r);
    enum proposal_request request = proposal_due(&r->proposal, replica_now_ms(r));
    if (request)
        views_ask(r->world, r, request == PROPOSAL_SWAP);
}

/* Frames that waited for the shard to take requests again. */
static void feed_waiting(struct replica *r)
{
    while (r->nwaiting && shard_takes_requests(r->shard)) {
        struct waiting_frame f = r->waiting[0];
        memmove(r->waiting, r->waiting + 1, --r->nwaiting * sizeof f);
        if (net_is_open(r->world, f.conn, r->proc, r->number))
            raw_step(r, &(struct shard_event){.kind = SHARD_EV_FRAME, .conn = f.conn,
                                              .frame = f.frame, .frame_bytes = f.bytes});
        free(f.frame);
    }
}

void replica_step(struct replica *r, const struct shard_event *ev)
{
    struct world *w = r->world;
    raw_step(r, ev);
    feed_waiting(r);
    replica_set_alarm(r);
    views_end_fail_over(w, r->number, false);
    uint32_t lent = shard_lent(r->shard);
    if (r->st.role == SHARD_PRIMARY && lent > r->lent)
        w->counts.lent += lent - r->lent;
    r->lent = lent;
    if (r->steps++ % COUNT_EVERY == 0)
        replica_count(r);
    trace_state(r);
    if (r->steps % 4 == 0)
        replicas_equal(w, r->number, w->counts.drift_compares % DEEP_EVERY == DEEP_EVERY - 1);
}

void replica_view(struct replica *r, const struct shard_view *view)
{
    replica_trace(r, "learns view epoch %" PRIu64, view->epoch);
    if (view->epoch > r->known.epoch)
        r->known = *view;
    replica_step(r, &(struct shard_event){.kind = SHARD_EV_VIEW, .view = view});
}

/* e->a: node, e->b: shard */
static void ordered(struct world *w, const struct event *e)
{
    replica_step(&w->replicas[e->a][e->b],
                 &(struct shard_event){.kind = SHARD_EV_ORDER, .order = e->ptr});
}

void replica_order(struct replica *r, const struct shard_order *order)
{
    struct shard_order *copy = malloc(sizeof *copy);
    if (!copy)
        abort();
    *copy = *order;
    sched_at(r->world, r->world->now_us, r->proc, ordered, (uint64_t)r->proc, r->number, copy);
}

/* --- moves ------------------------------------------------------------------------------ */

static void note_begin(struct world *w, const struct move_id *m)
{
    struct moving *v = &w->moving[m->slot];
    if (m->what != MOVE_SLOT || m->epoch <= v->epoch)
        return;
    v->epoch = m->epoch;
    faults_provoke(w);
    for (int shard = 0; shard < SHARDS; shard++)
        v->served[shard] = w->keys[shard].served_epoch;
}

/* While it was frozen its timers stood. */
static void note_accepted(struct world *w, const struct move_id *m)
{
    struct moving *v = &w->moving[m->slot];
    if (m->what != MOVE_SLOT || m->epoch <= v->accepted)
        return;
    v->accepted = m->epoch;
    w->counts.moves++;
    bool through = false;
    for (int shard = 0; shard < SHARDS; shard++)
        through |= w->keys[shard].served_epoch != v->served[shard] && v->epoch == m->epoch;
    w->counts.moves_through += through;
    hist_add_stall(&w->history, v->since_us, w->now_us, false);
    v->since_us = 0;
}

static void note_loan(struct world *w, const struct move_id *m, bool taken)
{
    struct lending *l = &w->lending[m->from_shard];
    bool through = false;
    if (m->what != MOVE_INDEXES || m->epoch <= (taken ? l->taken : l->begun))
        return;
    for (int shard = 0; shard < SHARDS; shard++) {
        through |= taken && l->begun == m->epoch && w->keys[shard].served_epoch != l->served[shard];
        l->served[shard] = w->keys[shard].served_epoch;
    }
    *(taken ? &l->taken : &l->begun) = m->epoch;
    w->counts.loans += taken;
    w->counts.loans_through += through;
}

static void watch_moves(struct world *w, const struct msg_head *h)
{
    const struct msg_move_ack *ack = (const struct msg_move_ack *)h;
    if (h->type == MSG_MOVE_PART)
        note_loan(w, &((const struct msg_move_part *)h)->move, false);
    if (h->type == MSG_MOVE_ACK && ack->state == MOVE_ACCEPTED)
        note_loan(w, &ack->move, true);
    if (h->type == MSG_MOVE_BEGIN)
        note_begin(w, &((const struct msg_move_begin *)h)->move);
    if (h->type == MSG_MOVE_ACK && ack->state == MOVE_ACCEPTED)
        note_accepted(w, &ack->move);
}

/* --- client frames ---------------------------------------------------------------------- */

static void count_batch(struct world *w, const struct msg_batch *m)
{
    const struct txn_head *t = (const struct txn_head *)(m + 1);
    for (uint32_t i = 0; i < m->ntxn; i++) {
        bool again = rules_asked(w, m->client, t), alloc = false;
        const struct txn_op *op = txn_first(t);
        for (int j = 0; j < t->nops; j++, op = txn_next(op))
            alloc |= op->code == TXN_ALLOC;
        w->counts.retries += again;
        w->counts.retried_allocations += again && alloc;
        t = (const struct txn_head *)((const uint8_t *)t + t->bytes);
    }
}

static void keep_waiting(struct replica *r, uint32_t conn, const void *frame, uint32_t bytes)
{
    if (r->nwaiting == r->waiting_room) {
        r->waiting_room = r->waiting_room ? r->waiting_room * 2 : 16;
        r->waiting = realloc(r->waiting, r->waiting_room * sizeof *r->waiting);
    }
    void *copy = aligned_alloc(8, bytes);
    if (!r->waiting || !copy)
        abort();
    memcpy(copy, frame, bytes);
    r->waiting[r->nwaiting++] = (struct waiting_frame){conn, bytes, copy};
}

void replica_frame(struct replica *r, uint32_t conn, const void *frame, uint32_t bytes)
{
    const struct msg_head *h = frame;
    bool client_frame = h->type >= MSG_CLIENT_OPEN && h->type <= MSG_BATCH;
    if (h->type == MSG_BATCH)
        count_batch(r->world, frame);
    watch_moves(r->world, h);
    if (client_frame && (r->nwaiting || !shard_takes_requests(r->shard))) {
        keep_waiting(r, conn, frame, bytes);
        r->world->counts.held_back++;
        return;
    }
    uint64_t before = r->st.position;
    replica_step(r, &(struct shard_event){.kind = SHARD_EV_FRAME, .conn = conn, .frame = frame,
                                          .frame_bytes = bytes});
    if (h->type == MSG_TAIL && r->st.position > before)
        r->world->counts.tails += r->st.position - before;
}

/* --- life ------------------------------------------------------------------------------ */

void replica_create(struct world *w, int node, int shard)
{
    struct replica *r = &w->replicas[node][shard];
    *r = (struct replica){.world = w, .proc = node, .number = (uint16_t)shard,
                          .wake_us = UINT64_MAX, .heard_us = w->now_us};
    snprintf(r->name, sizeof r->name, "%s/%d", w->procs[node].name, shard);
    r->self = (struct msg_node){.node = (uint32_t)node + 1,
                                .incarnation = ++w->incarnations * 100000};
    struct shard_config config = {
        .shard = (uint16_t)shard, .shards = SHARDS, .self = r->self, .seed = rng_next(&w->rng),
        .failure_timeout_ms = FAILURE_TIMEOUT_MS, .client_lease_ms = CLIENT_LEASE_MS,
        .log_bytes = LOG_BYTES, .copies = w->copies, .slabs = nic_slabs(r),
    };
    r->shard = shard_create(&config);
    if (!r->shard)
        abort();
    replica_trace(r, "starts, incarnation %" PRIu64, r->self.incarnation);
    replica_set_alarm(r);
}

void replica_destroy(struct replica *r)
{
    for (uint32_t i = 0; i < r->nwaiting; i++)
        free(r->waiting[i].frame);
    free(r->waiting);
    r->waiting = NULL;
    r->nwaiting = r->waiting_room = 0;
    shard_destroy(r->shard);
    nic_slabs_destroy(r);
    r->shard = NULL;
}
