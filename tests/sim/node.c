/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A store process: a replica of each shard. For each it keeps a link to the
 * primary that it knows of, one to the primary of a shard that is to get
 * something, and brings the core's wishes to the view service and the service's
 * words to the core, as the server does.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

enum { LOOK_US = 20000, WELCOME_US = 150000, SILENCE_US = 10 * FAILURE_TIMEOUT_MS * 1000,
       READ_US = 150000, RDMA_PER_MILLE = 400 };

/* --- links ------------------------------------------------------------------------------ */

static void dial(struct replica *r, struct link *k, int to, uint16_t shard, enum msg_role role)
{
    struct world *w = r->world;
    struct msg_hello m = {.magic = MSG_MAGIC, .proto_min = MSG_PROTO_MIN,
                          .proto_max = MSG_PROTO_MAX, .role = (uint8_t)role, .self = r->self};
    *k = (struct link){.to = to, .shard = shard, .since_us = w->now_us, .heard_us = w->now_us};
    k->conn = net_dial(w, r->proc, r->number, to, shard);
    w->conns[k->conn - 1].ring.used = role == ROLE_REPLICA && rng_chance(&w->rng, RDMA_PER_MILLE);
    msg_head_set(&m, MSG_HELLO, sizeof m, shard, 0);
    net_send(w, k->conn, r->proc, r->number, &m, sizeof m);
}

static void hang_up(struct replica *r, struct link *k, const char *why)
{
    uint32_t conn = k->conn;
    if (!conn)
        return;
    if (k->welcome && k == &r->upstream)
        shard_join_through(r->shard, 0);
    if (k->welcome && k == &r->mover)
        shard_move_through(r->shard, 0);
    *k = (struct link){.to = k->to};
    net_close(r->world, conn, r->proc, r->number, why);
    replica_step(r, &(struct shard_event){.kind = SHARD_EV_CLOSED, .conn = conn});
}

static bool too_silent(const struct world *w, const struct link *k)
{
    return k->welcome ? w->now_us > k->heard_us + SILENCE_US
                      : w->now_us > k->since_us + WELCOME_US;
}

static void look_upstream(struct replica *r)
{
    struct link *k = &r->upstream;
    int primary = (int)r->known.members[0].node - 1;
    if (k->conn && (k->to != primary || too_silent(r->world, k)))
        hang_up(r, k, k->to != primary ? "another one is the primary" : "it is silent");
    if (!k->conn && r->known.nmembers && primary != r->proc)
        dial(r, k, primary, r->number, ROLE_REPLICA);
}

/* Who the other shard's primary is, nobody tells: one node after the other. */
static void look_elsewhere(struct replica *r)
{
    struct link *k = &r->mover;
    int shard = shard_wants_mover(r->shard);
    if (k->conn && (k->shard != shard || too_silent(r->world, k)))
        hang_up(r, k, k->shard != shard ? "nothing is to be moved there" : "it is silent");
    if (!k->conn && shard >= 0)
        dial(r, k, (k->to + 1) % NODES, (uint16_t)shard, ROLE_MOVER);
}

/* e->a: node, e->b: shard */
static void look(struct world *w, const struct event *e)
{
    struct replica *r = &w->replicas[e->a][e->b];
    sched_at(w, w->now_us + LOOK_US + rng_below(&w->rng, LOOK_US), (int)e->a, look, e->a, e->b,
             NULL);
    look_upstream(r);
    look_elsewhere(r);
}

/* Another incarnation answers where the primary was: that one is gone. */
static bool is_news_of_death(const struct replica *r, const struct msg_welcome *m)
{
    const struct msg_node *primary = &r->known.members[0];
    return m->self.node == primary->node && m->self.incarnation > primary->incarnation;
}

static void welcome(struct replica *r, struct link *k, const struct msg_welcome *m)
{
    if (k->welcome)
        return;
    if (!m->primary) {
        bool death = k == &r->upstream && is_news_of_death(r, m);
        hang_up(r, k, "it does not serve");
        if (death)
            replica_step(r, &(struct shard_event){.kind = SHARD_EV_SUSPECT, .node = m->self.node});
        return;
    }
    k->welcome = true;
    k->whom = m->self;
    if (k == &r->upstream)
        shard_join_through(r->shard, k->conn);
    else
        shard_move_through(r->shard, k->conn);
    replica_step(r, &(struct shard_event){.kind = SHARD_EV_TICK});
}

void node_frame(struct world *w, struct replica *r, uint32_t conn, const void *frame,
                uint32_t bytes)
{
    const struct msg_head *h = frame;
    struct link *k = conn == r->upstream.conn ? &r->upstream
                     : conn == r->mover.conn  ? &r->mover : NULL;
    if (k)
        k->heard_us = w->now_us;
    if (k && h->type == MSG_WELCOME) {
        welcome(r, k, frame);
        return;
    }
    if (k && h->type == MSG_APPEND)
        r->heard_us = w->now_us;
    replica_frame(r, conn, frame, bytes);
}

void node_closed(struct world *w, struct replica *r, uint32_t conn)
{
    bool refused = conn == r->upstream.conn && w->conns[conn - 1].refused;
    uint32_t node = (uint32_t)r->upstream.to + 1;
    if (conn == r->upstream.conn) {
        shard_join_through(r->shard, 0);
        r->upstream = (struct link){0};
    }
    if (conn == r->mover.conn) {
        shard_move_through(r->shard, 0);
        r->mover = (struct link){.to = r->mover.to};
    }
    replica_step(r, &(struct shard_event){.kind = SHARD_EV_CLOSED, .conn = conn});
    if (refused)
        replica_step(r, &(struct shard_event){.kind = SHARD_EV_SUSPECT, .node = node});
}

/* --- fencing ---------------------------------------------------------------------------- */

/* Before the core hears of a view that another one leads: what the link's primary wrote into
 * our memory counts as heard, and nothing more of it comes. */
static void fence(struct replica *r, const struct shard_view *view)
{
    struct world *w = r->world;
    uint32_t conn = r->upstream.conn, bytes;
    if (!conn || !r->upstream.welcome || !w->conns[conn - 1].ring.used ||
        views_same_node(&view->members[0], &r->upstream.whom))
        return;
    if (SHARD_BUG(BUG_LATE_WRITE_LANDS))
        return;
    ring_fence(w, conn);
    w->counts.fences++;
    while (!SHARD_BUG(BUG_TAIL_NOT_SCANNED)) {
        void *frame = ring_take(w, conn, &bytes);
        if (!frame)
            break;
        w->counts.fenced_frames++;
        net_deliver(w, conn, 0, frame, bytes);
        free(frame);
    }
    if (r->upstream.conn == conn)
        hang_up(r, &r->upstream, "fenced");
}

static void node_view(struct replica *r, const struct shard_view *view)
{
    if (view->epoch > r->known.epoch)
        fence(r, view);
    replica_view(r, view);
}

/* --- views ------------------------------------------------------------------------------ */

void node_view_answer(struct world *w, struct replica *r, uint32_t request,
                      enum proposal_answer answer, const struct shard_view *view)
{
    struct shard_view outcome;
    if (request && request != r->request && answer != PROPOSAL_STANDS)
        return; /* to an earlier one, whose outcome was taken for unknown */
    if (!r->proposal.open) {
        if (view) /* late ones, too */
            node_view(r, view);
        return;
    }
    w->counts.unknown_swaps += answer == PROPOSAL_UNKNOWN && r->proposal.read;
    if (proposal_answered(&r->proposal, answer, view, replica_now_ms(r), &outcome)) {
        node_view(r, &outcome);
        return;
    }
    if (request && request == r->request && answer == PROPOSAL_STANDS)
        proposal_was_read(&r->proposal, replica_now_ms(r));
    replica_set_alarm(r);
}

/* e->a: node, e->b: shard */
static void read_view(struct world *w, const struct event *e)
{
    views_read(w, &w->replicas[e->a][e->b]);
    sched_at(w, w->now_us + READ_US + rng_below(&w->rng, READ_US), (int)e->a, read_view, e->a,
             e->b, NULL);
}

/* --- life ------------------------------------------------------------------------------ */

void node_start(struct world *w, int node)
{
    struct proc *p = &w->procs[node];
    p->alive = true;
    p->life++;
    p->paused_until_us = 0;
    for (int shard = 0; shard < SHARDS; shard++) {
        replica_create(w, node, shard);
        sched_at(w, w->now_us + 1000 + rng_below(&w->rng, 1000), node, look, (uint64_t)node,
                 (uint64_t)shard, NULL);
        sched_at(w, w->now_us + 500, node, read_view, (uint64_t)node, (uint64_t)shard, NULL);
    }
}

void node_stop(struct world *w, int node)
{
    for (int shard = 0; shard < SHARDS; shard++)
        replica_destroy(&w->replicas[node][shard]);
}

void node_crash(struct world *w, int node)
{
    trace(w, node, "CRASHES%s%s", views_primary(w, 0) == node ? " (primary of shard 0)" : "",
          views_primary(w, 1) == node ? " (primary of shard 1)" : "");
    w->counts.crashes++;
    for (int shard = 0; shard < SHARDS; shard++)
        replica_count(&w->replicas[node][shard]);
    net_crash(w, node);
    node_stop(w, node);
    w->procs[node].alive = false;
    w->procs[node].life++;
    views_look_for_loss(w);
}
