/* SPDX-License-Identifier: BSD-3-Clause */
/* A shard's snapshot for other threads: everything in it is of one moment
 * between two steps. */
#include <stdio.h>
#include <time.h>

#include "statestore/server/loop_impl.h"

static void count_connections(const struct loop *l, struct shard_snapshot *s)
{
    s->connections = l->conns.used;
    s->clients_connected = s->replicas_connected = 0;
    for (uint32_t i = 0, left = l->conns.used; left && i < CONNS_MAX; i++) {
        const struct conn *c = &l->conns.all[i];
        left -= c->channel != NULL;
        s->clients_connected += c->channel && c->kind == CONN_CLIENT;
        s->replicas_connected += c->channel && c->kind == CONN_REPLICA;
    }
}

/* A member of a view holds it; one that left keeps it, inert, until it joins
 * again. */
static void tell_holds(struct loop *l, const struct shard_status *st)
{
    struct views *v = l->config.views;
    struct msg_node self;
    if (st->role == SHARD_PRIMARY || st->role == SHARD_BACKUP)
        l->held_epoch = st->view_epoch;
    else if (st->role == SHARD_JOINING)
        l->held_epoch = 0;
    shard_self_get(l->shard, &self);
    v->ops->holds(v, l->number, &self, l->held_epoch, l->held_epoch ? st->position : 0);
}

void publish(struct loop *l)
{
    struct shard_snapshot *s = &l->mine;
    struct views *v = l->config.views;
    shard_status_get(l->shard, &s->status);
    shard_health_get(l->shard, &s->health);
    shard_counts_get(l->shard, &s->counts);
    s->nreplicas = shard_replicas_get(l->shard, s->replicas);
    s->members = l->view.nmembers;
    memcpy(s->member, l->view.members, sizeof s->member);
    if (l->now_ms >= l->loans_counted_ms + LOANS_MS) {
        shard_loans_get(l->shard, &s->loans);
        s->ntables = shard_tables_get(l->shard, s->tables, TABLES_MAX);
        l->loans_counted_ms = l->now_ms;
    }
    shard_mark_get(l->shard, &s->mark_position, &s->mark_digest);
    s->standing = v->ops->standing(v, l->number, s->trouble, sizeof s->trouble);
    tell_holds(l, &s->status);
    s->primary_node = l->config.primary_node ? l->config.primary_node : l->view.members[0].node;
    if (s->standing == VIEWS_LOST)
        s->status.role = SHARD_LOST;
    s->peer_since_ms = 0;
    if (l->link.node && l->link.since_ms && s->standing == VIEWS_FOLLOWING) {
        s->peer_since_ms = l->now_ms - l->link.since_ms;
        if (!s->peer_since_ms)
            s->peer_since_ms = 1;
        snprintf(s->trouble, sizeof s->trouble, "primary %.60s unreachable: %.100s",
                 l->config.node_text(l->config.dial_ctx, l->link.node), l->link.why);
    }
    struct conn *link = conns_find(&l->conns, l->link.conn);
    snprintf(s->primary_by, sizeof s->primary_by, "%s",
             link && l->link.state == LINK_JOINED ? link->channel->ops->name : "");
    s->moves_to = l->carrier.node ? l->carrier.shard + 1u : 0;
    for (uint32_t i = 0; i <= l->config.shard.nlimits && i < SNAPSHOT_LIMITS; i++)
        shard_limit_get(l->shard, i, &s->limits[i]);
    s->readable_bytes = l->slabs.bytes;
    s->unreadable_bytes = l->slabs.refused;
    count_connections(l, s);
    snapshot_write(&l->box, s);
    l->published_ms = l->now_ms;
    l->changed = false;
}

void watch_commit(struct loop *l)
{
    struct commits *c = &l->commits;
    uint64_t position, commit;
    if (!shard_progress(l->shard, &position, &commit) || position < c->newest) {
        c->first = c->end; /* another role, another log */
        c->newest = position;
        return;
    }
    if (position > c->newest && c->end - c->first < COMMITS_WATCHED)
        c->at[c->end++ % COMMITS_WATCHED] = (struct commit_at){position, l->now_us};
    c->newest = position;
    for (; c->first != c->end && c->at[c->first % COMMITS_WATCHED].position <= commit; c->first++)
        histogram_add(&l->mine.commit_us, l->now_us - c->at[c->first % COMMITS_WATCHED].since_us);
}

bool loop_alive(const struct loop *l)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t turned_ms = atomic_load_explicit(&((struct loop *)l)->turned_ms, memory_order_relaxed);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000 < turned_ms + STILL_MS;
}

struct traced *loop_traced(const struct loop *l)
{
    return l->traced;
}

void loop_snapshot(const struct loop *l, struct shard_snapshot *out)
{
    snapshot_read(&l->box, out);
}
