/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A backup's connection to its primary: dialled for ever, with delays from
 * 10 ms to 1 s. It says HELLO with the epoch of what this replica holds, proves
 * the site's replica secret and is shown it in turn, if the site has one, and,
 * once welcomed by a primary that serves, tells the core to join through it.
 *
 * A primary of another incarnation than the one whose state we hold starts
 * anew, and was told so (its operator accepted the loss): only then this
 * replica discards what it holds, and becomes a new incarnation itself.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/log/log.h"
#include "statestore/server/loop_impl.h"

void link_init(struct loop *l)
{
    if (!l->config.dial_primary)
        return;
    l->link.state = LINK_IDLE;
    l->link.delay_ms = LINK_DELAY_MIN_MS;
    l->link.since_ms = l->now_ms ? l->now_ms : 1;
}

static void away(struct loop *l, const char *why)
{
    struct link *k = &l->link;
    snprintf(k->why, sizeof k->why, "%s", why);
    if (!k->since_ms)
        k->since_ms = l->now_ms;
    if (!k->logged_ms || l->now_ms >= k->logged_ms + LINK_LOG_MS) {
        log_warn("primary unreachable", "shard=%u primary=%s for_ms=%lu why=\"%s\" I keep trying",
                 l->number, l->config.primary, l->now_ms - k->since_ms, why);
        k->logged_ms = l->now_ms;
    }
    k->state = LINK_IDLE;
    k->conn = 0;
    k->dial_ms = l->now_ms + k->delay_ms;
    k->delay_ms = k->delay_ms * 2 < LINK_DELAY_MAX_MS ? k->delay_ms * 2 : LINK_DELAY_MAX_MS;
    l->changed = true;
}

void link_closed(struct loop *l, const char *why)
{
    if (l->link.state == LINK_JOINED)
        shard_join_through(l->shard, 0);
    away(l, why);
}

static void dial(struct loop *l)
{
    struct link *k = &l->link;
    char err[160] = "";
    struct channel *ch = l->config.dial_primary(l->config.dial_ctx, l->number, err, sizeof err);
    struct conn *c = ch ? loop_add(l, ch, CONN_LINK) : NULL;
    if (!c) {
        away(l, ch ? "no room for one more connection" : err);
        return;
    }
    k->conn = c->number;
    k->state = LINK_CONNECTING;
}

static bool has_secret(const struct loop *l)
{
    return l->config.auth && l->config.auth->replicas.bytes;
}

static void say_hello(struct loop *l, struct conn *c)
{
    struct msg_hello m = {.magic = MSG_MAGIC, .proto_min = MSG_PROTO_MIN,
                          .proto_max = MSG_PROTO_MAX, .role = ROLE_REPLICA,
                          .self = l->config.shard.self};
    msg_head_set(&m, MSG_HELLO, sizeof m, l->number, l->link.held);
    l->link.auth = (struct auth_dial){0};
    if (has_secret(l))
        auth_dial_begin(&l->link.auth, &m);
    if (channel_send(c->channel, &m, sizeof m))
        return; /* still connecting, or refused: the channel will say */
    loop_make_dirty(l, c);
    l->link.state = LINK_HELLO;
}

void link_turn(struct loop *l)
{
    struct link *k = &l->link;
    if (k->state == LINK_NONE || l->drain_until_ms)
        return;
    if (k->state == LINK_IDLE && l->now_ms >= k->dial_ms)
        dial(l);
    struct conn *c = k->conn ? conns_find(&l->conns, k->conn) : NULL;
    if (!c || c->doomed)
        return;
    if (k->state == LINK_CONNECTING) {
        say_hello(l, c);
        loop_watch(l, c); /* a connect that tries the next address changes its descriptor */
    }
    uint64_t silence = 10ull * l->config.shard.failure_timeout_ms;
    if (silence < LINK_SILENCE_MIN_MS)
        silence = LINK_SILENCE_MIN_MS;
    uint64_t limit = k->state == LINK_JOINED ? silence : LINK_WELCOME_MS;
    if (l->now_ms > c->heard_ms + limit)
        loop_doom(l, c, k->state == LINK_JOINED ? "the primary is silent" : "no WELCOME in time");
}

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

static void on_welcome(struct loop *l, struct conn *c, const struct msg_welcome *m)
{
    struct link *k = &l->link;
    if (has_secret(l) && (k->auth.state != AUTH_DIAL_DONE ||
                          m->self.node != k->auth.challenge.self.node ||
                          m->self.incarnation != k->auth.challenge.self.incarnation)) {
        loop_doom(l, c, "the primary did not prove that it holds the replica secret");
        return;
    }
    if (m->head.shard != l->number || m->shards != l->config.shard.shards) {
        loop_doom(l, c, "the primary has another number of shards; use the same site.yaml");
        return;
    }
    if (!m->primary) {
        loop_doom(l, c, "the primary does not serve yet");
        return;
    }
    bool other = k->primary.node && k->primary.incarnation != m->self.incarnation;
    if (other && !discard(l)) {
        loop_doom(l, c, "out of memory");
        return;
    }
    if (k->logged_ms)
        log_info("primary reachable again", "shard=%u primary=%s after_ms=%lu", l->number,
                 l->config.primary, l->now_ms - k->since_ms);
    log_info("joining", "shard=%u primary=%s epoch=%lu", l->number, l->config.primary,
             m->head.view_epoch);
    k->primary = m->self;
    k->held = m->head.view_epoch ? m->head.view_epoch : 1;
    k->state = LINK_JOINED;
    k->delay_ms = LINK_DELAY_MIN_MS;
    k->since_ms = k->logged_ms = 0;
    k->why[0] = 0;
    l->changed = true;
    shard_join_through(l->shard, c->number);
}

/* CHALLENGE or PROVEN. */
static void on_auth(struct loop *l, struct conn *c, const struct msg_head *m)
{
    struct link *k = &l->link;
    struct msg_proof proof;
    const char *why;
    if (!has_secret(l)) {
        why = "the primary asks for a secret; name it by store.replica_secret_file";
    } else if (m->type == MSG_PROVEN) {
        why = auth_dial_check(&k->auth, &l->config.auth->replicas, (const struct msg_proven *)m);
    } else {
        why = auth_dial_answer(&k->auth, &l->config.auth->replicas,
                               (const struct msg_challenge *)m, &proof);
        if (!why && conn_send(c, &proof, sizeof proof, l->now_ms))
            why = "closed by the primary";
        loop_make_dirty(l, c);
    }
    if (why)
        loop_doom(l, c, why);
}

bool link_frame(struct loop *l, struct conn *c, const struct msg_head *m)
{
    char why[160];
    if (m->type == MSG_ERROR) {
        snprintf(why, sizeof why, "the primary says: %.130s", ((const struct msg_error *)m)->text);
        loop_doom(l, c, why);
        return true;
    }
    if (l->link.state == LINK_JOINED)
        return m->type == MSG_WELCOME; /* a second one changes nothing */
    if (l->link.state == LINK_HELLO && (m->type == MSG_CHALLENGE || m->type == MSG_PROVEN))
        on_auth(l, c, m);
    else if (m->type == MSG_WELCOME && l->link.state == LINK_HELLO)
        on_welcome(l, c, (const struct msg_welcome *)m);
    else
        loop_doom(l, c, "the primary's first frame is no WELCOME");
    return true;
}

uint64_t link_next_ms(const struct loop *l)
{
    const struct link *k = &l->link;
    switch (k->state) {
    case LINK_IDLE:
        return k->dial_ms;
    case LINK_CONNECTING:
    case LINK_HELLO:
    case LINK_JOINED:
        return l->now_ms + SWEEP_MS;
    default:
        return UINT64_MAX;
    }
}
