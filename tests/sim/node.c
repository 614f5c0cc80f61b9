/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A store process: the driver around the core, as the server is one. It gives
 * the shard its frames, its ticks and its views, keeps a backup connected to
 * the primary, holds client frames back while the shard takes none, and looks,
 * after every step, whether two replicas at one position are equal.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

enum { DIAL_AGAIN_US = 20000, DEEP_EVERY = 1024 };

static void step(struct world *w, struct node *n, const struct shard_event *ev);

static uint64_t now_ms(const struct world *w, const struct node *n)
{
    return proc_now_us(w, n->proc) / 1000;
}

/* --- effects --------------------------------------------------------------------------- */

static void effect_send(void *ctx, uint32_t conn, const void *frame, uint32_t bytes)
{
    struct node *n = ctx;
    const struct msg_head *h = frame;
    /* A rejoin begins a new incarnation: what it signs with is what it is. */
    if (h->type == MSG_JOIN)
        n->self = ((const struct msg_join *)frame)->self;
    if (h->type == MSG_CHUNK_ACK)
        n->world->counts.resnapshots += ((const struct msg_chunk_ack *)frame)->refused;
    net_send(n->world, conn, n->proc, frame, bytes);
}

static void effect_close(void *ctx, uint32_t conn, const char *why)
{
    struct node *n = ctx;
    net_close(n->world, conn, n->proc, why);
    if (conn == n->upstream)
        n->upstream = 0;
}

static void effect_propose(void *ctx, uint64_t old_epoch, const struct shard_view *want)
{
    struct node *n = ctx;
    n->proposing = true;
    n->old_epoch = old_epoch;
    n->want = *want;
    views_propose(n->world, n->proc);
}

static void effect_note(void *ctx, const char *text)
{
    struct node *n = ctx;
    trace(n->world, n->proc, "note: %s", text);
}

/* --- counting -------------------------------------------------------------------------- */

static uint64_t newer(uint64_t now, uint64_t *seen)
{
    uint64_t more = now > *seen ? now - *seen : 0;
    *seen = now;
    return more;
}

void node_count(struct world *w, int number)
{
    struct node *n = &w->nodes[number];
    struct shard_status st;
    if (!n->shard)
        return;
    shard_status_get(n->shard, &st);
    w->counts.duplicates += newer(st.duplicates, &n->duplicates_seen);
    w->counts.expiries += newer(st.expired, &n->expired_seen);
    w->counts.touches += newer(st.touches_logged, &n->touches_seen);
    uint64_t exhausted = newer(st.exhausted, &n->exhausted_seen);
    if (st.pool_resting)
        w->counts.quarantined += exhausted;
    if (st.waiting)
        w->counts.held++;
    if (st.drifts)
        run_fail(w, "replicas", "node %d reports %u digests that differed", number + 1, st.drifts);
}

/* --- steps ----------------------------------------------------------------------------- */

static void tick(struct world *w, const struct event *e)
{
    struct node *n = &w->nodes[e->a];
    if (n->wake_us > w->now_us)
        return; /* woken since, and has another appointment */
    n->wake_us = UINT64_MAX;
    step(w, n, &(struct shard_event){.kind = SHARD_EV_TICK});
}

static void set_alarm(struct world *w, struct node *n)
{
    uint64_t next_ms = shard_next_ms(n->shard);
    if (next_ms == UINT64_MAX)
        return;
    uint64_t next_us = next_ms * 1000;
    uint64_t clock_us = w->procs[n->proc].clock_us;
    uint64_t at_us = next_us > clock_us ? next_us - clock_us : 0;
    if (at_us <= w->now_us)
        at_us = w->now_us + 50 + rng_below(&w->rng, 200);
    if (at_us >= n->wake_us)
        return;
    n->wake_us = at_us;
    sched_at(w, at_us, n->proc, tick, (uint64_t)(n - w->nodes), 0, NULL);
}

static void raw_step(struct world *w, struct node *n, const struct shard_event *ev)
{
    const struct shard_out out = {n, effect_send, effect_close, effect_propose, effect_note};
    shard_step(n->shard, ev, now_ms(w, n), &out);
}

/* Frames that waited for the shard to take requests again. */
static void feed_waiting(struct world *w, struct node *n)
{
    while (n->nwaiting && shard_takes_requests(n->shard)) {
        struct waiting_frame f = n->waiting[0];
        memmove(n->waiting, n->waiting + 1, --n->nwaiting * sizeof f);
        if (net_is_open(w, f.conn, n->proc))
            raw_step(w, n, &(struct shard_event){.kind = SHARD_EV_FRAME, .conn = f.conn,
                                                 .frame = f.frame, .frame_bytes = f.bytes});
        free(f.frame);
    }
}

/* Where the replica stands, whenever that changed. */
static void trace_state(const struct world *w, struct node *n)
{
    static const char *const roles[] = {"?", "primary", "backup", "joining", "LOST", "idle"};
    struct shard_status st;
    if (!w->trace)
        return;
    shard_status_get(n->shard, &st);
    uint64_t state = st.position * 31 + st.commit * 17 + st.view_epoch * 7 + st.role;
    if (state == n->traced)
        return;
    n->traced = state;
    trace(w, n->proc, "   = %s e%" PRIu64 " position %" PRIu64 " commit %" PRIu64 " waiting %u"
          " time %" PRIu64 " digest %016" PRIx64, st.role < 6 ? roles[st.role] : "?",
          st.view_epoch, st.position, st.commit, st.waiting, st.shard_time_ms, st.digest);
}

static void step(struct world *w, struct node *n, const struct shard_event *ev)
{
    raw_step(w, n, ev);
    feed_waiting(w, n);
    set_alarm(w, n);
    node_count(w, (int)(n - w->nodes));
    trace_state(w, n);
    nodes_equal(w, w->counts.drift_compares % DEEP_EVERY == DEEP_EVERY - 1);
}

void node_view(struct world *w, int number, const struct shard_view *view)
{
    struct node *n = &w->nodes[number];
    bool promoted = view->nmembers && view->members[0].node == n->self.node && w->crashed_us;
    trace(w, n->proc, "learns view epoch %" PRIu64, view->epoch);
    if (promoted && n->upstream) {
        shard_join_through(n->shard, 0);
        n->upstream = 0;
    }
    step(w, n, &(struct shard_event){.kind = SHARD_EV_VIEW, .view = view});
    if (promoted) {
        hist_add_stall(&w->history, w->crashed_us, w->now_us, true);
        w->crashed_us = 0;
    }
}

/* --- frames ---------------------------------------------------------------------------- */

/* A set of what was sent before, to count retries as the store sees them. */
enum { SEQS_ROOM = 1 << 17 };

static bool seen_before(struct world *w, uint64_t client, uint64_t seq)
{
    uint64_t mark = (client * 0x9e3779b97f4a7c15ull) ^ (seq * 0xc2b2ae3d27d4eb4full);
    mark = (mark ^ (mark >> 31)) | 1;
    for (uint32_t at = (uint32_t)(mark >> 7) % SEQS_ROOM, i = 0; i < 64; i++) {
        if (w->sent_seqs[at] == mark)
            return true;
        if (!w->sent_seqs[at]) {
            w->sent_seqs[at] = mark;
            return false;
        }
        at = (at + 1) % SEQS_ROOM;
    }
    return false;
}

static void count_batch(struct world *w, const struct msg_batch *m)
{
    const struct txn_head *t = (const struct txn_head *)(m + 1);
    if (!w->sent_seqs && !(w->sent_seqs = calloc(SEQS_ROOM, sizeof *w->sent_seqs)))
        abort();
    for (uint32_t i = 0; i < m->ntxn; i++) {
        bool again = seen_before(w, m->client, t->seq), alloc = false;
        const struct txn_op *op = txn_first(t);
        for (int j = 0; j < t->nops; j++, op = txn_next(op))
            alloc |= op->code == TXN_ALLOC;
        w->counts.retries += again;
        w->counts.retried_allocations += again && alloc;
        t = (const struct txn_head *)((const uint8_t *)t + t->bytes);
    }
}

static void keep_waiting(struct node *n, uint32_t conn, const void *frame, uint32_t bytes)
{
    if (n->nwaiting == n->waiting_room) {
        n->waiting_room = n->waiting_room ? n->waiting_room * 2 : 16;
        n->waiting = realloc(n->waiting, n->waiting_room * sizeof *n->waiting);
    }
    void *copy = aligned_alloc(8, bytes);
    if (!n->waiting || !copy)
        abort();
    memcpy(copy, frame, bytes);
    n->waiting[n->nwaiting++] = (struct waiting_frame){conn, bytes, copy};
}

void node_frame(struct world *w, int number, uint32_t conn, const void *frame, uint32_t bytes)
{
    struct node *n = &w->nodes[number];
    const struct msg_head *h = frame;
    if (h->type == MSG_BATCH)
        count_batch(w, frame);
    if (conn == n->upstream && h->type == MSG_WELCOME) {
        if (((const struct msg_welcome *)frame)->primary) {
            shard_join_through(n->shard, conn);
                step(w, n, &(struct shard_event){.kind = SHARD_EV_TICK});
        } else {
            net_close(w, conn, n->proc, "the peer is no primary");
            n->upstream = 0;
        }
        return;
    }
    bool client_frame = h->type >= MSG_CLIENT_OPEN && h->type <= MSG_BATCH;
    if (client_frame && (n->nwaiting || !shard_takes_requests(n->shard))) {
        keep_waiting(n, conn, frame, bytes);
        w->counts.held_back++;
        return;
    }
    step(w, n, &(struct shard_event){.kind = SHARD_EV_FRAME, .conn = conn, .frame = frame,
                                     .frame_bytes = bytes});
}

void node_closed(struct world *w, int number, uint32_t conn)
{
    struct node *n = &w->nodes[number];
    if (conn == n->upstream) {
        shard_join_through(n->shard, 0);
        n->upstream = 0;
    }
    step(w, n, &(struct shard_event){.kind = SHARD_EV_CLOSED, .conn = conn});
}

/* --- a backup looks for its primary ---------------------------------------------------- */

static void look_for_primary(struct world *w, const struct event *e)
{
    struct node *n = &w->nodes[e->a];
    sched_at(w, w->now_us + DIAL_AGAIN_US + rng_below(&w->rng, DIAL_AGAIN_US), n->proc,
             look_for_primary, e->a, 0, NULL);
    int primary = views_primary(w);
    if (n->upstream || primary == (int)e->a)
        return;
    struct msg_hello m = {.magic = MSG_MAGIC, .proto_min = MSG_PROTO_MIN,
                          .proto_max = MSG_PROTO_MAX, .role = ROLE_REPLICA, .self = n->self};
    msg_head_set(&m, MSG_HELLO, sizeof m, 0, 0);
    n->upstream = net_dial(w, n->proc, primary);
    net_send(w, n->upstream, n->proc, &m, sizeof m);
}

/* --- life ------------------------------------------------------------------------------ */

void node_start(struct world *w, int number)
{
    struct node *n = &w->nodes[number];
    struct proc *p = &w->procs[number];
    p->alive = true;
    p->life++;
    p->paused_until_us = 0;
    *n = (struct node){.world = w, .proc = number, .wake_us = UINT64_MAX};
    n->self = (struct msg_node){.node = (uint32_t)number + 1,
                                .incarnation = ++w->incarnations * 1000};
    struct shard_config config = {
        .shards = 1, .self = n->self, .seed = rng_next(&w->rng),
        .failure_timeout_ms = FAILURE_TIMEOUT_MS, .client_lease_ms = CLIENT_LEASE_MS,
        .log_bytes = LOG_BYTES,
    };
    n->shard = shard_create(&config);
    if (!n->shard)
        abort();
    trace(w, number, "starts, incarnation %" PRIu64, n->self.incarnation);
    sched_at(w, w->now_us + 1000, number, look_for_primary, (uint64_t)number, 0, NULL);
    set_alarm(w, n);
}

void node_stop(struct world *w, int number)
{
    struct node *n = &w->nodes[number];
    for (uint32_t i = 0; i < n->nwaiting; i++)
        free(n->waiting[i].frame);
    free(n->waiting);
    n->waiting = NULL;
    n->nwaiting = n->waiting_room = 0;
    shard_destroy(n->shard);
    n->shard = NULL;
}

void node_crash(struct world *w, int number)
{
    bool primary = views_primary(w) == number;
    trace(w, number, "CRASHES%s", primary ? " (it was the primary)" : "");
    w->counts.crashes++;
    node_count(w, number);
    net_crash(w, number);
    node_stop(w, number);
    w->procs[number].alive = false;
    w->procs[number].life++;
    if (primary)
        views_primary_died(w);
}

/* --- equality -------------------------------------------------------------------------- */

bool nodes_settled(const struct world *w)
{
    struct shard_status st[NODES];
    for (int i = 0; i < NODES; i++) {
        if (!w->nodes[i].shard || !views_has(w, &w->nodes[i]) || w->nodes[i].proposing)
            return false;
        shard_status_get(w->nodes[i].shard, &st[i]);
    }
    return w->view.nmembers == NODES && st[0].position == st[1].position &&
           st[0].commit == st[0].position && st[1].commit == st[1].position;
}

struct contents {
    struct held_entry {
        char table[TABLE_NAME_MAX];
        uint8_t key[TXN_KEY_MAX], value[TXN_VALUE_MAX];
        uint64_t numbers[7];
    } *entries;
    uint32_t n, room;
};

static void take_entry(void *ctx, const struct shard_entry *e)
{
    struct contents *c = ctx;
    if (c->n == c->room) {
        c->room = c->room ? c->room * 2 : 64;
        c->entries = realloc(c->entries, c->room * sizeof *c->entries);
        if (!c->entries)
            abort();
    }
    struct held_entry *to = &c->entries[c->n++];
    memset(to, 0, sizeof *to);
    snprintf(to->table, sizeof to->table, "%s", e->table);
    memcpy(to->key, e->key, e->key_len);
    memcpy(to->value, e->value, e->value_len);
    uint64_t numbers[7] = {e->kind, e->slot, e->key_len, e->value_len, e->children, e->version,
                           e->replicated_deadline_ms};
    memcpy(to->numbers, numbers, sizeof numbers);
}

static int entry_order(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct held_entry));
}

static bool same_contents(struct world *w)
{
    struct contents c[NODES] = {{0}};
    for (int i = 0; i < NODES; i++) {
        shard_each(w->nodes[i].shard, take_entry, &c[i]);
        if (c[i].n)
            qsort(c[i].entries, c[i].n, sizeof *c[i].entries, entry_order);
    }
    bool same = c[0].n == c[1].n;
    for (uint32_t i = 0; same && i < c[0].n; i++)
        if (memcmp(&c[0].entries[i], &c[1].entries[i], sizeof *c[0].entries)) {
            const struct held_entry *a = &c[0].entries[i], *b = &c[1].entries[i];
            run_fail(w, "replicas", "contents differ: table %s slot %" PRIu64 " versions %" PRIu64
                     " and %" PRIu64 ", deadlines %" PRIu64 " and %" PRIu64
                     ", children %" PRIu64 " and %" PRIu64, a->table, a->numbers[1],
                     a->numbers[5], b->numbers[5], a->numbers[6], b->numbers[6], a->numbers[4],
                     b->numbers[4]);
        }
    if (!same)
        run_fail(w, "replicas", "node 1 holds %u entries, node 2 holds %u", c[0].n, c[1].n);
    for (int i = 0; i < NODES; i++)
        free(c[i].entries);
    return !w->verdict.bad;
}

/* Only replicas of one view may be compared: a dropped one has its own past. */
bool nodes_equal(struct world *w, bool deep)
{
    struct shard_status st[NODES];
    for (int i = 0; i < NODES; i++) {
        if (!w->nodes[i].shard || !views_has(w, &w->nodes[i]))
            return true;
        shard_status_get(w->nodes[i].shard, &st[i]);
        if (st[i].role != SHARD_PRIMARY && st[i].role != SHARD_BACKUP)
            return true;
    }
    if (w->view.nmembers != NODES || st[0].position != st[1].position)
        return true;
    w->counts.drift_compares++;
    if (st[0].digest != st[1].digest)
        run_fail(w, "replicas", "digests differ at position %" PRIu64 ": %016" PRIx64
                 " and %016" PRIx64, st[0].position, st[0].digest, st[1].digest);
    for (int i = 0; deep && i < NODES; i++) {
        uint64_t slow = shard_digest_slow(w->nodes[i].shard);
        if (slow != st[i].digest)
            run_fail(w, "replicas", "node %d keeps digest %016" PRIx64
                     ", its contents have %016" PRIx64, i + 1, st[i].digest, slow);
    }
    return deep ? same_contents(w) : !w->verdict.bad;
}
