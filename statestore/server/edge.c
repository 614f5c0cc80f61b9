/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The store's edge. Frames passed msg_validate in the channel; here is checked
 * what depends on who sends them: the first is HELLO, of this shard and of a
 * protocol we speak, and after it only messages of the sender's role reach the
 * core. Everything else closes the connection with a reason.
 */
#include <errno.h>
#include <stdio.h>

#include "common/log/log.h"
#include "statestore/server/loop_impl.h"

#define BIT(type) (1u << (type))
_Static_assert(MSG_TYPE_END <= 32, "message types are bits here");

static const uint32_t allowed[] = {
    [CONN_NEW] = 0,
    [CONN_CLIENT] = BIT(MSG_CLIENT_OPEN) | BIT(MSG_TABLE_OPEN) | BIT(MSG_BATCH) | BIT(MSG_STATUS),
    [CONN_REPLICA] = BIT(MSG_JOIN) | BIT(MSG_ACK) | BIT(MSG_CHUNK_ACK),
    [CONN_LINK] = BIT(MSG_VIEW) | BIT(MSG_SNAP_BEGIN) | BIT(MSG_CHUNK) | BIT(MSG_SNAP_END) |
                  BIT(MSG_APPEND),
};

static void pass(struct loop *l, struct conn *c, const void *frame, uint32_t bytes)
{
    struct shard_event ev = {.kind = SHARD_EV_FRAME, .conn = c->number, .frame = frame,
                             .frame_bytes = bytes};
    loop_step(l, ev);
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
    else if (m->auth)
        snprintf(text, len, "authentication method %u is not known here", m->auth);
    else
        return NULL;
    return text;
}

static void on_hello(struct loop *l, struct conn *c, const struct msg_hello *m)
{
    char text[200], name[80];
    struct views *v = l->config.views;
    if (wrong_hello(l, m, text, sizeof text)) {
        effects_refuse(l, c, EPROTO, text);
        return;
    }
    if (m->role == ROLE_REPLICA) {
        v->ops->heard(v, l->number, &m->self, m->head.view_epoch);
        loop_take_views(l);
    }
    enum views_standing standing = v->ops->standing(v, l->number, text, sizeof text);
    if (standing == VIEWS_WAITING || standing == VIEWS_LOST) {
        c->quiet = true; /* it comes again and again, and why was said once */
        effects_refuse(l, c, standing == VIEWS_LOST ? ENODATA : EAGAIN, text);
        return;
    }
    c->kind = m->role == ROLE_REPLICA ? CONN_REPLICA : CONN_CLIENT;
    conn_name(c, name, sizeof name);
    if (c->kind == CONN_REPLICA)
        log_info("backup connected", "shard=%u node=%u from=%s holds_epoch=%lu", l->number,
                 m->self.node, name, m->head.view_epoch);
    else
        log_info("client connected", "shard=%u from=%s", l->number, name);
    pass(l, c, m, m->head.bytes);
}

void edge_frame(struct loop *l, struct conn *c, const void *frame, uint32_t bytes)
{
    const struct msg_head *m = frame;
    char text[120];
    l->mine.frames_in++;
    c->heard_ms = l->now_ms;
    if (c->kind == CONN_LINK && link_frame(l, c, m))
        return;
    if (c->kind == CONN_NEW && m->type == MSG_HELLO) {
        on_hello(l, c, frame);
        return;
    }
    if (!(allowed[c->kind] & BIT(m->type)) || m->shard != l->number) {
        snprintf(text, sizeof text, "message type %u for shard %u is not what this peer may send",
                 m->type, m->shard);
        effects_refuse(l, c, EPROTO, c->kind == CONN_NEW ? "the first frame must be HELLO" : text);
        return;
    }
    pass(l, c, frame, bytes);
}
