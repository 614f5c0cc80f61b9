/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The view service (etcd's part): one key, changed by compare-and-swap on its
 * epoch. Requests and answers travel, and may be lost or late. A node that
 * proposes asks again until the epoch has moved past the one it compared, for
 * only then is the outcome known.
 *
 * When the primary is dead (proven: the simulator killed it), the service
 * promotes the backup if, and only if, it is a member of the view in the
 * incarnation that lives; otherwise the shard is lost and the history ends.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

enum { LOST_PER_MILLE = 120, LATE_PER_MILLE = 150, ASK_AGAIN_US = 60000 };

static void reach(struct world *w, const struct event *e);

static uint64_t way_us(struct world *w)
{
    uint64_t us = 100 + rng_exp(&w->rng, 800);
    if (rng_chance(&w->rng, LATE_PER_MILLE)) {
        us += rng_exp(&w->rng, 120000);
        w->counts.late_views++;
    }
    return us;
}

static bool same_node(const struct msg_node *a, const struct msg_node *b)
{
    return a->node == b->node && a->incarnation == b->incarnation;
}

static void say_view(const struct world *w, int proc, const char *what, const struct shard_view *v)
{
    if (!w->trace)
        return;
    char text[128];
    int n = 0;
    for (uint32_t i = 0; i < v->nmembers; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %u.%" PRIu64, v->members[i].node,
                      v->members[i].incarnation);
    trace(w, proc, "%s epoch %" PRIu64 " members%s", what, v->epoch, text);
}

bool views_has(const struct world *w, const struct node *n)
{
    for (uint32_t i = 0; i < w->view.nmembers; i++)
        if (same_node(&w->view.members[i], &n->self))
            return true;
    return false;
}

int views_primary(const struct world *w)
{
    return (int)w->view.members[0].node - 1;
}

/* e->a: node, e->b: the epoch it compared; e->ptr: the view at that time */
static void answered(struct world *w, const struct event *e)
{
    struct node *n = &w->nodes[e->a];
    const struct shard_view *v = e->ptr;
    if (!n->proposing || n->old_epoch != e->b || v->epoch <= n->old_epoch)
        return;
    n->proposing = false;
    node_view(w, (int)e->a, v);
}

static void adopt(struct world *w, const struct shard_view *want)
{
    uint32_t before = w->view.nmembers;
    w->view = *want;
    say_view(w, PROC_VIEWS, "view is now", want);
    faults_provoke(w);
    if (want->nmembers > before && peers_pending(w))
        w->counts.joins++;
    if (want->nmembers < before)
        w->counts.backup_drops++;
}

/* e->a: node, e->b: compared epoch; e->ptr: the view wanted */
static void reach(struct world *w, const struct event *e)
{
    const struct shard_view *want = e->ptr;
    if (w->view.epoch == e->b)
        adopt(w, want);
    if (rng_chance(&w->rng, LOST_PER_MILLE)) {
        w->counts.late_views++;
        trace(w, PROC_VIEWS, "answer to node %u lost", (uint32_t)e->a + 1);
        return;
    }
    struct shard_view *copy = malloc(sizeof *copy);
    if (!copy)
        abort();
    *copy = w->view;
    sched_at(w, w->now_us + way_us(w), (int)e->a, answered, e->a, e->b, copy);
}

/* Asks once, and again later while the outcome is not known. */
static void ask(struct world *w, const struct event *e)
{
    struct node *n = &w->nodes[e->a];
    if (!n->proposing || n->old_epoch != e->b)
        return;
    sched_at(w, w->now_us + ASK_AGAIN_US, n->proc, ask, e->a, e->b, NULL);
    if (rng_chance(&w->rng, LOST_PER_MILLE)) {
        w->counts.late_views++;
        trace(w, n->proc, "proposal lost");
        return;
    }
    struct shard_view *copy = malloc(sizeof *copy);
    if (!copy)
        abort();
    *copy = n->want;
    sched_at(w, w->now_us + way_us(w), PROC_VIEWS, reach, e->a, e->b, copy);
}

void views_propose(struct world *w, int node)
{
    struct node *n = &w->nodes[node];
    say_view(w, n->proc, "proposes", &n->want);
    struct event now = {.a = (uint64_t)node, .b = n->old_epoch};
    ask(w, &now);
}

/* e->a: the promoted node; e->ptr: the new view. The address that clients dial
 * is the shard's, not a node's: it moves, and connections elsewhere break. */
static void promoted(struct world *w, const struct event *e)
{
    node_view(w, (int)e->a, e->ptr);
    for (uint32_t i = 1; i <= w->nconns; i++) {
        const struct conn *c = &w->conns[i - 1];
        if (c->end[0].proc >= NODES && c->end[0].open && c->end[1].proc != (int)e->a)
            net_reset(w, i);
    }
}

/* e->a: the dead primary; e->b: its incarnation */
static void decide(struct world *w, const struct event *e)
{
    if (views_primary(w) != (int)e->a || w->view.members[0].incarnation != e->b)
        return;
    struct node *other = &w->nodes[!e->a];
    if (!w->procs[other->proc].alive || !views_has(w, other)) {
        trace(w, PROC_VIEWS, "no caught-up copy is left: the shard is lost");
        w->counts.lost++;
        w->lost = w->over = true;
        return;
    }
    struct shard_view *next = calloc(1, sizeof *next);
    if (!next)
        abort();
    *next = (struct shard_view){.epoch = w->view.epoch + 1, .nmembers = 1};
    next->members[0] = other->self;
    w->view = *next;
    w->counts.promotions++;
    say_view(w, PROC_VIEWS, "promotes: view is now", next);
    sched_at(w, w->now_us + 200 + rng_exp(&w->rng, 2000), other->proc, promoted, !e->a, 0, next);
}

void views_primary_died(struct world *w)
{
    int dead = views_primary(w);
    w->crashed_us = w->now_us;
    sched_at(w, w->now_us + rng_between(&w->rng, 5000, 150000), PROC_VIEWS, decide, (uint64_t)dead,
             w->view.members[0].incarnation, NULL);
}
