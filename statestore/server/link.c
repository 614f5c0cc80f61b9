/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections that we dial, both for ever, with delays from 10 ms to 1 s.
 *
 * The link: a replica's to its primary, whom the view names (of a static pair,
 * node 1). Another primary is dialled at once, and so is the same one after its
 * connection closed: if then its port refuses, the core is told to suspect it.
 * Once welcomed by a primary that serves, the core is told to join through it.
 *
 * The carrier: while the core wants to send something to another shard, to that
 * shard's primary: the one the view service names, or whom the node that we asked
 * names, else one node after the other.
 *
 * Both go by verbs where both nodes have it, else by tcp, and by tcp also when verbs fails: the
 * two take turns until one comes up.
 *
 * Fencing. The primary's log lies in memory of ours, written by RDMA, before we looked: what it
 * wrote is part of what we have, whether a completion told of it or not. Once the core knows a
 * later view it heeds nothing of an earlier primary, so between the view service's word and the
 * core stands link_fence, for whoever will be primary and for whoever will tell it a position:
 *     1. the view names another primary than the link's (or another incarnation of it);
 *     2. channel_fence: nothing that it writes can land any more (QP -> ERR, deregistered);
 *     3. the core steps with each frame that had landed, in order, under the epoch they
 *        are of, up to the first that does not check (common/wire/verbs/verbs.c);
 *     4. the core steps with the view: it seals, and tells positions that count these;
 *     5. the link to the next primary is another connection: queue pair, ring and key are new.
 * A view that the same primary goes on to lead keeps the link: it orders its own frames, and each
 * names its epoch. A completed WRITE means nothing to a primary: only MSG_ACK counts. Over tcp
 * nothing is fenced: what the kernel holds was never ours, and is dropped with the connection.
 *
 * Either proves the site's replica secret and is shown it in turn, if there is
 * one.
 *
 * Of a static pair: a primary of another incarnation than the one whose state we
 * hold starts anew, and was told so (its operator accepted the loss): only then
 * this replica discards what it holds, and becomes a new incarnation itself.
 * Elsewhere the core does that when the view says so.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/log/log.h"
#include "statestore/server/loop_impl.h"

void link_init(struct loop *l)
{
    l->link = (struct link){.kind = CONN_LINK, .shard = l->number, .delay_ms = LINK_DELAY_MIN_MS};
    l->carrier = (struct link){.kind = CONN_CARRIER, .delay_ms = LINK_DELAY_MIN_MS};
}

struct link *link_of(struct loop *l, const struct conn *c)
{
    return c->kind == CONN_CARRIER ? &l->carrier : &l->link;
}

static const char *whom(const struct loop *l, const struct link *k)
{
    return l->config.node_text(l->config.dial_ctx, k->node);
}

static uint64_t at_least_1(uint64_t ms)
{
    return ms ? ms : 1;
}

/* --- going away --------------------------------------------------------------------------- */

/* The next to ask for a shard that we know no primary of. */
static uint32_t next_node(const struct loop *l, uint32_t node)
{
    return node % l->config.nodes + 1;
}

static void log_away(struct loop *l, struct link *k)
{
    if (k->logged_ms && l->now_ms < k->logged_ms + LINK_LOG_MS)
        return;
    if (k->kind == CONN_LINK)
        log_warn("primary unreachable", "shard=%u primary=%s for_ms=%lu cause=\"%s\" I keep trying",
                 l->number, whom(l, k), l->now_ms - k->since_ms, k->why);
    else
        log_warn("move waits", "shard=%u to=%u node=%s for_ms=%lu cause=\"%s\" I keep trying",
                 l->number, k->shard, whom(l, k), l->now_ms - k->since_ms, k->why);
    k->logged_ms = at_least_1(l->now_ms);
}

static void away(struct loop *l, struct link *k, const char *why)
{
    bool was_joined = k->state == LINK_JOINED;
    snprintf(k->why, sizeof k->why, "%s", why);
    if (!k->since_ms)
        k->since_ms = at_least_1(l->now_ms);
    if (k->node)
        log_away(l, k);
    k->state = LINK_IDLE;
    k->conn = 0;
    l->changed = true;
    if (was_joined) {
        k->dial_ms = l->now_ms;
        return;
    }
    k->dial_ms = l->now_ms + k->delay_ms;
    k->delay_ms = k->delay_ms * 2 < LINK_DELAY_MAX_MS ? k->delay_ms * 2 : LINK_DELAY_MAX_MS;
}

static void detach(struct loop *l, struct link *k)
{
    if (k->state != LINK_JOINED)
        return;
    if (k->kind == CONN_LINK)
        shard_join_through(l->shard, 0);
    else
        shard_move_through(l->shard, 0);
}

/* Between the two verbs is configured and did not come up: the next connection is by tcp, which
 * will say whether anybody is there. One line in the log, until verbs worked again. */
static void fall_back(struct loop *l, struct link *k, const char *why)
{
    k->plain = true;
    if (!k->plain_told)
        log_warn("no RDMA to another node", "shard=%u node=%s cause=\"%s\" I go on by tcp", l->number,
                 whom(l, k), why);
    k->plain_told = true;
}

void link_closed(struct loop *l, struct link *k, bool refused, const char *why)
{
    k->plain = false;
    if (k->by_verbs && k->state == LINK_CONNECTING && k->node) {
        fall_back(l, k, why);
        k->state = LINK_IDLE;
        k->conn = 0;
        k->dial_ms = l->now_ms;
        return;
    }
    detach(l, k);
    away(l, k, why);
    if (k->kind == CONN_CARRIER && k->node)
        k->node = next_node(l, k->node);
    else if (refused && k->node)
        loop_step(l, (struct shard_event){.kind = SHARD_EV_SUSPECT, .node = k->node});
}

/* --- dialling ------------------------------------------------------------------------------ */

static struct channel *connect_to(struct loop *l, struct link *k, char *err, uint32_t err_len)
{
    const struct loop_config *c = &l->config;
    struct channel *ch = NULL;
    if (c->dial_verbs && !k->plain) {
        ch = c->dial_verbs(c->dial_ctx, k->node, k->shard, err, err_len);
        if (!ch && err[0])
            fall_back(l, k, err);
    }
    k->by_verbs = ch != NULL;
    err[0] = 0;
    errno = 0;
    return ch ? ch : c->dial(c->dial_ctx, k->node, k->shard, err, err_len);
}

static void dial(struct loop *l, struct link *k)
{
    char err[160] = "";
    struct channel *ch = connect_to(l, k, err, sizeof err);
    bool refused = !ch && errno == ECONNREFUSED;
    struct conn *c = ch ? loop_add(l, ch, k->kind) : NULL;
    if (!c) {
        link_closed(l, k, refused, ch ? "no room for one more connection" : err);
        return;
    }
    k->conn = c->number;
    k->state = LINK_CONNECTING;
}

static bool has_secret(const struct loop *l)
{
    return l->config.auth && l->config.auth->replicas.bytes;
}

static void say_hello(struct loop *l, struct link *k, struct conn *c)
{
    struct msg_hello m = {.magic = MSG_MAGIC, .proto_min = MSG_PROTO_MIN,
                          .proto_max = MSG_PROTO_MAX,
                          .role = k->kind == CONN_LINK ? ROLE_REPLICA : ROLE_MOVER};
    shard_self_get(l->shard, &m.self);
    msg_head_set(&m, MSG_HELLO, sizeof m, k->shard, k->held);
    k->auth = (struct auth_dial){0};
    if (has_secret(l))
        auth_dial_begin(&k->auth, &m);
    if (channel_send(c->channel, &m, sizeof m))
        return; /* still connecting, or refused: the channel will say */
    loop_make_dirty(l, c);
    k->state = LINK_HELLO;
}

/* Nothing is said to a spare while the view has copies enough. */
static bool is_told_things(const struct loop *l)
{
    struct shard_status st;
    shard_status_get(l->shard, &st);
    return l->config.primary_node || st.role != SHARD_IDLE;
}

static void drive(struct loop *l, struct link *k)
{
    if (k->state == LINK_IDLE && k->node && l->now_ms >= k->dial_ms)
        dial(l, k);
    struct conn *c = k->conn ? conns_find(&l->conns, k->conn) : NULL;
    if (!c || c->doomed)
        return;
    if (k->state == LINK_CONNECTING) {
        say_hello(l, k, c);
        loop_watch(l, c); /* a connect that tries the next address changes its descriptor */
    }
    uint64_t timeout = l->config.shard.failure_timeout_ms, silence = 10 * timeout;
    if (silence < LINK_SILENCE_MIN_MS)
        silence = LINK_SILENCE_MIN_MS;
    uint64_t welcome = 4 * timeout > LINK_WELCOME_MIN_MS ? 4 * timeout : LINK_WELCOME_MIN_MS;
    if (k->kind == CONN_CARRIER && k->state == LINK_JOINED)
        return; /* a move that is told nothing sends again */
    uint64_t limit = k->state == LINK_JOINED ? silence : welcome;
    if (l->now_ms > c->heard_ms + limit && (k->state != LINK_JOINED || is_told_things(l)))
        loop_doom(l, c, k->state == LINK_JOINED ? "the primary is silent" : "no WELCOME in time");
}

void link_fence(struct loop *l, const struct shard_view *view)
{
    struct link *k = &l->link;
    struct conn *c = k->state == LINK_JOINED ? conns_find(&l->conns, k->conn) : NULL;
    const struct msg_node *next = &view->members[0];
    if (!c || c->doomed || !c->channel->ops->fence || l->config.primary_node ||
        (next->node == k->primary.node && next->incarnation == k->primary.incarnation))
        return;
    const void *frame;
    uint32_t bytes, found = 0;
    l->fencing = true;
    channel_fence(c->channel);
    while (!c->doomed && (frame = channel_recv(c->channel, &bytes))) {
        edge_frame(l, c, frame, bytes);
        found++;
    }
    l->fencing = false;
    log_info("primary fenced", "shard=%u node=%s epoch=%lu frames=%u", l->number, whom(l, k),
             view->epoch, found);
    l->mine.fences++;
    l->mine.fence_frames += found;
    c->quiet = true;
    loop_doom(l, c, "fenced: the view names another primary");
}

/* Dials somebody else from now on. */
static void turn_to(struct loop *l, struct link *k, uint32_t node, const char *why)
{
    struct conn *c = k->conn ? conns_find(&l->conns, k->conn) : NULL;
    detach(l, k);
    if (c) {
        c->quiet = true;
        loop_doom(l, c, why);
    }
    k->node = node;
    k->state = LINK_IDLE;
    k->conn = 0;
    k->plain = k->plain_told = false;
    k->dial_ms = l->now_ms;
    k->delay_ms = LINK_DELAY_MIN_MS;
    k->since_ms = node ? at_least_1(l->now_ms) : 0;
    k->logged_ms = 0;
    k->why[0] = 0;
    l->changed = true;
}

/* Whom we replicate; 0: nobody, or ourselves. */
static uint32_t primary_node(const struct loop *l)
{
    uint32_t node = l->config.primary_node;
    if (!node && l->view.epoch)
        node = l->view.members[0].node;
    return node == l->config.shard.self.node || node > l->config.nodes ? 0 : node;
}

static void choose_carrier(struct loop *l)
{
    struct link *k = &l->carrier;
    int to = shard_wants_mover(l->shard);
    if (to < 0) {
        if (k->node)
            turn_to(l, k, 0, "everything was moved");
    } else if (!k->node || k->shard != to) {
        uint32_t node = l->config.views->ops->primary(l->config.views, (uint16_t)to);
        turn_to(l, k, node ? node : 1, "another shard comes first");
        k->shard = (uint16_t)to;
    }
}

void link_turn(struct loop *l)
{
    uint32_t primary = primary_node(l);
    if (l->drain_until_ms)
        return;
    if (l->link.node != primary)
        turn_to(l, &l->link, primary, "the view names another primary");
    choose_carrier(l);
    drive(l, &l->link);
    drive(l, &l->carrier);
}

uint64_t link_next_ms(const struct loop *l)
{
    const struct link *all[] = {&l->link, &l->carrier};
    uint64_t next = UINT64_MAX;
    for (int i = 0; i < 2; i++) {
        const struct link *k = all[i];
        uint64_t due = k->state == LINK_IDLE ? k->dial_ms : l->now_ms + SWEEP_MS;
        if (k->node && due < next)
            next = due;
    }
    return next;
}

/* --- WELCOME ------------------------------------------------------------------------------------ */

/* The state of an earlier primary is of no use to this one. */
static bool discard(struct loop *l)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    struct shard_config config = l->config.shard;
    config.self.incarnation = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    struct shard *fresh = shard_create(&config);
    if (!fresh)
        return false;
    log_warn("discarding state", "shard=%u held_epoch=%lu the primary started anew", l->number,
             l->link.held);
    for (uint32_t i = 0; i < CONNS_MAX; i++) {
        struct conn *c = &l->conns.all[i];
        if (c->channel && c->number != l->link.conn)
            loop_doom(l, c, "this replica starts anew");
    }
    shard_destroy(l->shard);
    l->shard = fresh;
    l->config.shard = config;
    return true;
}

/* NULL, or why this is not whom we look for. */
static const char *wrong_welcome(const struct loop *l, struct link *k, const struct msg_welcome *m)
{
    if (has_secret(l) && (k->auth.state != AUTH_DIAL_DONE ||
                          m->self.node != k->auth.challenge.self.node ||
                          m->self.incarnation != k->auth.challenge.self.incarnation))
        return "the primary did not prove that it holds the replica secret";
    if (m->head.shard != k->shard || m->shards != l->config.shard.shards)
        return "the primary has another number of shards; use the same site.yaml";
    if (m->primary)
        return NULL;
    if (k->kind == CONN_CARRIER && m->primary_node && m->primary_node <= l->config.nodes)
        k->node = m->primary_node > 1 ? m->primary_node - 1 : l->config.nodes; /* the next one */
    return "the primary does not serve yet";
}

static void joined(struct loop *l, struct link *k, struct conn *c, const struct msg_welcome *m)
{
    if (k->logged_ms)
        log_info(k->kind == CONN_LINK ? "primary reachable again" : "move goes on",
                 "shard=%u node=%s after_ms=%lu", l->number, whom(l, k),
                 l->now_ms - k->since_ms);
    k->primary = m->self;
    k->state = LINK_JOINED;
    k->plain_told = k->plain_told && !k->by_verbs;
    k->delay_ms = LINK_DELAY_MIN_MS;
    k->since_ms = k->logged_ms = 0;
    k->why[0] = 0;
    l->changed = true;
    c->proto = m->proto;
    if (k->kind == CONN_CARRIER) {
        snprintf(l->mine.moves_by, sizeof l->mine.moves_by, "%s", c->channel->ops->name);
        shard_move_through(l->shard, c->number);
        return;
    }
    k->held = m->head.view_epoch ? m->head.view_epoch : 1;
    log_info("joining", "shard=%u primary=%s epoch=%lu by=%s", l->number, whom(l, k),
             m->head.view_epoch, c->channel->ops->name);
    shard_join_through(l->shard, c->number);
}

static void on_welcome(struct loop *l, struct link *k, struct conn *c, const struct msg_welcome *m)
{
    const char *why = wrong_welcome(l, k, m);
    bool other = k->primary.node && k->primary.incarnation != m->self.incarnation;
    if (!why && k->kind == CONN_LINK && l->config.primary_node && other && !discard(l))
        why = "out of memory";
    if (why)
        loop_doom(l, c, why);
    else
        joined(l, k, c, m);
}

/* CHALLENGE or PROVEN. */
static void on_auth(struct loop *l, struct link *k, struct conn *c, const struct msg_head *m)
{
    struct msg_proof proof;
    const char *why;
    if (!has_secret(l)) {
        why = "the primary asks for a secret; name it by store.replica_secret_file";
    } else if (m->type == MSG_PROVEN) {
        why = auth_dial_check(&k->auth, &l->config.auth->replicas, (const struct msg_proven *)m);
    } else {
        why = auth_dial_answer(&k->auth, &l->config.auth->replicas,
                               (const struct msg_challenge *)m, &proof);
        c->proto = m->proto; /* it has seen our range */
        if (!why && effects_send(l, c, &proof, sizeof proof))
            why = "closed by the primary";
    }
    if (why)
        loop_doom(l, c, why);
}

bool link_frame(struct loop *l, struct conn *c, const struct msg_head *m)
{
    struct link *k = link_of(l, c);
    char why[160];
    if (m->type == MSG_ERROR) {
        snprintf(why, sizeof why, "the primary says: %.130s", ((const struct msg_error *)m)->text);
        loop_doom(l, c, why);
        return true;
    }
    if (k->state == LINK_JOINED)
        return m->type == MSG_WELCOME; /* a second one changes nothing */
    if (k->state == LINK_HELLO && (m->type == MSG_CHALLENGE || m->type == MSG_PROVEN))
        on_auth(l, k, c, m);
    else if (m->type == MSG_WELCOME && k->state == LINK_HELLO)
        on_welcome(l, k, c, (const struct msg_welcome *)m);
    else
        loop_doom(l, c, "the primary's first frame is no WELCOME");
    return true;
}
