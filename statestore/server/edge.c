/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The store's edge. Frames passed msg_validate in the channel; here is checked
 * what depends on who sends them: the first is HELLO, of this shard and of a
 * protocol we speak; in a site with secrets the next is the PROOF that our
 * CHALLENGE asked for (auth.h); after that only messages of the sender's role,
 * about its tenant's tables, reach the core. Everything else closes the
 * connection with a reason.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log/log.h"
#include "statestore/server/loop_impl.h"

#define BIT(type) (1ull << (type))
_Static_assert(MSG_TYPE_END <= 64, "message types are bits here");

static const uint64_t allowed[] = {
    [CONN_NEW] = 0,
    [CONN_CLIENT] = BIT(MSG_CLIENT_OPEN) | BIT(MSG_TABLE_OPEN) | BIT(MSG_BATCH) |
                    BIT(MSG_STATUS) | BIT(MSG_MAP_GET) | BIT(MSG_CONSUME) | BIT(MSG_EVENTS_ACK),
    [CONN_REPLICA] = BIT(MSG_JOIN) | BIT(MSG_ACK) | BIT(MSG_CHUNK_ACK) | BIT(MSG_TAIL) |
                     BIT(MSG_LEAVE),
    [CONN_MOVER] = BIT(MSG_MOVE_BEGIN) | BIT(MSG_MOVE_PART) | BIT(MSG_MOVE_END),
    [CONN_LINK] = BIT(MSG_VIEW) | BIT(MSG_SNAP_BEGIN) | BIT(MSG_CHUNK) | BIT(MSG_SNAP_END) |
                  BIT(MSG_APPEND) | BIT(MSG_FETCH),
    [CONN_CARRIER] = BIT(MSG_MOVE_ACK),
};

static void pass(struct loop *l, struct conn *c, const void *frame, uint32_t bytes)
{
    struct shard_event ev = {.kind = SHARD_EV_FRAME, .conn = c->number, .frame = frame,
                             .frame_bytes = bytes};
    bool traced = l->tracing && ((const struct msg_head *)frame)->type == MSG_BATCH;
    if (traced)
        traced_received(l->traced, frame, l->now_us);
    loop_step(l, ev);
    if (traced)
        traced_executed(l->traced, frame);
}

static const char *wrong_hello(const struct loop *l, const struct msg_hello *m, char *text,
                               uint32_t len)
{
    if (m->proto_min > MSG_PROTO_MAX || m->proto_max < MSG_PROTO_MIN)
        snprintf(text, len, "you speak protocol %u to %u, this store %d to %d; upgrade the older",
                 m->proto_min, m->proto_max, MSG_PROTO_MIN, MSG_PROTO_MAX);
    else if (m->head.shard != l->number)
        snprintf(text, len, "this is shard %u of %u, you asked for shard %u; use the same site.yaml",
                 l->number, l->config.shard.shards, m->head.shard);
    else if (m->auth > AUTH_HMAC)
        snprintf(text, len, "authentication method %u is not known here", m->auth);
    else if (m->auth && !l->config.auth)
        snprintf(text, len, "this store has no secrets, so it cannot prove that it is yours; name "
                 "them in its site.yaml (store.tenants, store.replica_secret_file)");
    else
        return NULL;
    return text;
}

/* The peer is who it says it is, or nobody asks: the core gets its HELLO. */
static void let_in(struct loop *l, struct conn *c, const struct msg_hello *m)
{
    char text[200], name[80];
    struct views *v = l->config.views;
    if (m->role == ROLE_REPLICA) {
        v->ops->heard(v, l->number, &m->self, m->head.view_epoch);
        loop_take_views(l);
    }
    enum views_standing standing = v->ops->standing(v, l->number, text, sizeof text);
    if (standing == VIEWS_WAITING || standing == VIEWS_LOST) {
        c->quiet = true; /* it comes again and again, and why was said once */
        if (!text[0])
            snprintf(text, sizeof text, "shard %u knows of no view yet; try again", l->number);
        effects_refuse(l, c, standing == VIEWS_LOST ? ENODATA : EAGAIN, text);
        return;
    }
    c->kind = m->role == ROLE_REPLICA ? CONN_REPLICA
              : m->role == ROLE_MOVER ? CONN_MOVER
                                      : CONN_CLIENT;
    conn_name(c, name, sizeof name);
    if (c->kind == CONN_MOVER)
        log_info("mover connected", "shard=%u node=%u from=%s", l->number, m->self.node, name);
    else if (c->kind == CONN_REPLICA)
        log_info("backup connected", "shard=%u node=%u from=%s holds_epoch=%lu", l->number,
                 m->self.node, name, m->head.view_epoch);
    else
        log_info("client connected", "shard=%u from=%s tenant=%s", l->number, name,
                 c->auth.tenant ? c->auth.tenant->name : "-");
    struct msg_hello hello = *m;
    if (!channel_can_read(c->channel)) /* it may ask, but this is no way to read one-sidedly */
        hello.capabilities &= ~(uint64_t)CAP_ONE_SIDED;
    pass(l, c, &hello, m->head.bytes);
}

/* --- authentication ------------------------------------------------------------------- */

/* Names come from outside: only what a name may consist of gets into the log. */
static void printable(char *to, const char *name, uint32_t len)
{
    uint32_t i = 0;
    for (; i + 1 < len && name[i]; i++)
        to[i] = name[i] > ' ' && name[i] < 0x7f && name[i] != '"' ? name[i] : '?';
    to[i] = 0;
}

bool loop_may_log(struct loop *l)
{
    if (l->stranger_logged_ms && l->now_ms < l->stranger_logged_ms + STRANGER_LOG_MS)
        return false;
    l->stranger_logged_ms = l->now_ms;
    return true;
}

/* All are counted; the log gets one line in a while. */
static void refuse_stranger(struct loop *l, struct conn *c, const struct msg_hello *m,
                            const char *why)
{
    char name[80], tenant[sizeof m->tenant];
    l->mine.auth_failures++;
    c->quiet = true;
    if (loop_may_log(l)) {
        conn_name(c, name, sizeof name);
        printable(tenant, m->tenant, sizeof tenant);
        log_warn("authentication failed",
                 "shard=%u peer=%s role=%s tenant=\"%s\" failures=%lu cause=\"%s\"", l->number, name,
                 m->role == ROLE_REPLICA ? "replica" : m->role == ROLE_MOVER ? "mover" : "client", tenant, l->mine.auth_failures, why);
    }
    effects_refuse(l, c, EACCES, why);
}

static void answer(struct loop *l, struct conn *c, const void *frame, uint32_t bytes)
{
    if (effects_send(l, c, frame, bytes))
        loop_doom(l, c, "closed during authentication");
}

static void on_hello(struct loop *l, struct conn *c, const struct msg_hello *m)
{
    char text[200];
    struct msg_challenge challenge;
    if (wrong_hello(l, m, text, sizeof text)) {
        effects_refuse(l, c, EPROTO, text);
        return;
    }
    c->proto = msg_common_proto(m);
    if (!l->config.auth) {
        let_in(l, c, m);
        return;
    }
    struct msg_node self;
    shard_self_get(l->shard, &self);
    const char *why = auth_challenge(&c->auth, l->config.auth, m, &self, &challenge);
    if (why)
        refuse_stranger(l, c, m, why);
    else
        answer(l, c, &challenge, sizeof challenge);
}

static void on_proof(struct loop *l, struct conn *c, const struct msg_proof *m)
{
    struct msg_proven proven;
    const char *why = auth_prove(&c->auth, m, &proven);
    if (why) {
        refuse_stranger(l, c, &c->auth.hello, why);
        return;
    }
    answer(l, c, &proven, sizeof proven);
    struct msg_hello plain = c->auth.hello;
    plain.auth = AUTH_NONE; /* the core knows nothing of it */
    if (!c->doomed)
        let_in(l, c, &plain);
}

void edge_late(struct loop *l, struct conn *c)
{
    if (c->doomed)
        return;
    if (c->auth.state == AUTH_PEER_CHALLENGED)
        refuse_stranger(l, c, &c->auth.hello, "no PROOF in time");
    else
        effects_refuse(l, c, ETIMEDOUT, "no HELLO in time");
}

/* The store's own answer to a TABLE_OPEN that the core never sees. */
static void refuse_table(struct loop *l, struct conn *c, const struct msg_table_open *m,
                         const char *text)
{
    struct msg_table no = {.id = -EACCES};
    memcpy(no.name, m->schema.name, sizeof no.name);
    snprintf(no.text, sizeof no.text, "%s", text);
    msg_head_set(&no, MSG_TABLE, sizeof no, l->number, 0);
    msg_speak(&no, c->proto);
    if (loop_may_log(l))
        log_warn("table refused", "shard=%u %s", l->number, no.text);
    answer(l, c, &no, sizeof no);
}

/* True: it was refused. */
static bool beyond_tenant(struct loop *l, struct conn *c, const struct msg_head *m)
{
    char text[200];
    const char *why = NULL;
    if (m->type == MSG_TABLE_OPEN) {
        const struct msg_table_open *open = (const struct msg_table_open *)m;
        why = auth_wrong_table(&c->auth, &open->schema, text, sizeof text);
        if (why)
            refuse_table(l, c, open, why);
    } else if (m->type == MSG_BATCH) {
        why = auth_wrong_batch(&c->auth, (const struct msg_batch *)m);
    } else if (m->type == MSG_CONSUME) {
        why = auth_wrong_events(&c->auth, ((const struct msg_consume *)m)->table);
    } else if (m->type == MSG_EVENTS_ACK) {
        why = auth_wrong_events(&c->auth, ((const struct msg_events_ack *)m)->table);
    }
    if (why && m->type != MSG_TABLE_OPEN)
        effects_refuse(l, c, EACCES, why);
    return why != NULL;
}

/* Moves go between two shards; everything else stays within one. */
static bool wrong_shard(struct loop *l, const struct conn *c, const struct msg_head *m)
{
    if (c->kind == CONN_MOVER)
        return m->shard >= l->config.shard.shards;
    return m->shard != (c->kind == CONN_CARRIER ? l->carrier.shard : l->number);
}

/* --- frames ----------------------------------------------------------------------------- */

void edge_frame(struct loop *l, struct conn *c, const void *frame, uint32_t bytes)
{
    const struct msg_head *m = frame;
    char text[120];
    l->mine.frames_in++;
    l->mine.bytes_in += bytes;
    if (m->type == MSG_BATCH)
        histogram_add(&l->mine.batch_txns, ((const struct msg_batch *)frame)->ntxn);
    c->heard_ms = l->now_ms;
    if ((c->kind == CONN_LINK || c->kind == CONN_CARRIER) && link_frame(l, c, m))
        return;
    if (c->kind == CONN_NEW && m->type == MSG_HELLO) {
        on_hello(l, c, frame);
        return;
    }
    if (c->kind == CONN_NEW && m->type == MSG_PROOF) {
        on_proof(l, c, frame);
        return;
    }
    if (!(allowed[c->kind] & BIT(m->type)) || wrong_shard(l, c, m)) {
        snprintf(text, sizeof text, "message type %u for shard %u is not what this peer may send",
                 m->type, m->shard);
        effects_refuse(l, c, EPROTO, c->kind != CONN_NEW                      ? text
                                      : c->auth.state == AUTH_PEER_NEW ? "the first frame must be HELLO"
                                                                       : "the next frame must be PROOF");
        return;
    }
    if (c->auth.tenant && beyond_tenant(l, c, m))
        return;
    pass(l, c, frame, bytes);
}
