/* SPDX-License-Identifier: BSD-3-Clause */
/* A shard's snapshot for other threads: everything in it is of one moment
 * between two steps. */
#include <stdio.h>

#include "statestore/server/loop_impl.h"

static void count_connections(const struct loop *l, struct shard_snapshot *s)
{
    s->connections = l->conns.used;
    s->clients_connected = s->replicas_connected = 0;
    if (!l->conns.used)
        return;
    for (uint32_t i = 0; i < CONNS_MAX; i++) {
        const struct conn *c = &l->conns.all[i];
        s->clients_connected += c->channel && c->kind == CONN_CLIENT;
        s->replicas_connected += c->channel && c->kind == CONN_REPLICA;
    }
}

void publish(struct loop *l)
{
    struct shard_snapshot *s = &l->mine;
    struct views *v = l->config.views;
    shard_status_get(l->shard, &s->status);
    shard_mark_get(l->shard, &s->mark_position, &s->mark_digest);
    s->standing = v->ops->standing(v, l->number, s->trouble, sizeof s->trouble);
    if (s->standing == VIEWS_LOST)
        s->status.role = SHARD_LOST;
    s->peer_since_ms = 0;
    if (l->link.since_ms && s->standing == VIEWS_FOLLOWING) {
        s->peer_since_ms = l->now_ms - l->link.since_ms;
        if (!s->peer_since_ms)
            s->peer_since_ms = 1;
        snprintf(s->trouble, sizeof s->trouble, "primary %.60s unreachable: %.100s",
                 l->config.primary, l->link.why);
    }
    count_connections(l, s);
    snapshot_write(&l->box, s);
    l->published_ms = l->now_ms;
    l->changed = false;
}

void loop_snapshot(const struct loop *l, struct shard_snapshot *out)
{
    snapshot_read(&l->box, out);
}
