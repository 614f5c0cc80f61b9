/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What goes wrong. One mix for every run and every planted bug: at random
 * times one of the rows below, alone or while others still last, and sometimes
 * right behind another or behind a change of view. Nothing here looks at what
 * the store is doing, but for one thing: the last living member of a view is
 * mostly spared, since its death ends the history.
 */
#include <stdlib.h>

#include "world.h"

enum {
    MEAN_US = 220000,
    BASE_DROP = 12,
    BASE_SLOW = 3,
    SPARED_PER_MILLE = 985,
    PROVOKED_PER_MILLE = 150,
    PROVOKED_US = 3000,
    PAUSE_LEASE_MS = FAILURE_TIMEOUT_MS, /* about what a lease lasts */
};

static uint64_t until_of(struct world *w, uint64_t low_ms, uint64_t high_ms)
{
    return w->now_us + rng_between(&w->rng, low_ms * 1000, high_ms * 1000);
}

static int some_node(struct world *w)
{
    return (int)rng_below(&w->rng, NODES);
}

static int some_client(struct world *w)
{
    return NODES + (int)rng_below(&w->rng, (uint32_t)w->npeers);
}

static int some_primary(struct world *w)
{
    return views_primary(w, (int)rng_below(&w->rng, SHARDS));
}

/* --- pauses ----------------------------------------------------------------------- */

static void pause_proc(struct world *w, int proc, uint64_t until_us)
{
    struct proc *p = &w->procs[proc];
    if (!p->alive || p->paused_until_us > w->now_us)
        return;
    p->paused_until_us = until_us;
    w->counts.pauses++;
    trace(w, proc, "PAUSED for %.1f ms", (double)(until_us - w->now_us) / 1000.0);
    if (proc < NODES)
        hist_add_stall(&w->history, w->now_us, until_us, false);
}

static void pause_node(struct world *w)
{
    uint32_t way = rng_below(&w->rng, 100);
    int node = rng_chance(&w->rng, 500) ? some_primary(w) : some_node(w);
    pause_proc(w, node, way < 50   ? until_of(w, 2, 60)
                        : way < 75 ? until_of(w, PAUSE_LEASE_MS, 3 * PAUSE_LEASE_MS)
                                   : until_of(w, 120, 900));
}

static void pause_client(struct world *w)
{
    bool too_long = rng_chance(&w->rng, 100);
    pause_proc(w, some_client(w),
               too_long ? until_of(w, CLIENT_LEASE_MS + 400, CLIENT_LEASE_MS + 1500)
                        : until_of(w, 5, 300));
}

/* --- the network ---------------------------------------------------------------------- */

static void reset_one(struct world *w)
{
    uint32_t open[256], n = 0;
    for (uint32_t i = w->nconns; i > 0 && n < 256; i--)
        if (w->conns[i - 1].end[0].open && w->conns[i - 1].end[1].open)
            open[n++] = i;
    if (!n)
        return;
    uint32_t conn = open[rng_below(&w->rng, n)];
    trace(w, NOBODY, "RESET of #%u", conn);
    w->counts.resets++;
    net_reset(w, conn);
}

/* e->a, e->b: from, to. Of those that overlap the last one that ends heals it. */
static void join_again(struct world *w, const struct event *e)
{
    if (w->now_us < w->blocked_until_us[e->a][e->b])
        return;
    w->blocked[e->a][e->b] = false;
    trace(w, NOBODY, "partition %s -> %s healed", w->procs[e->a].name, w->procs[e->b].name);
}

static void cut_one_way(struct world *w, int from, int to, uint64_t until_us)
{
    if (until_us <= w->blocked_until_us[from][to])
        return;
    w->blocked[from][to] = true;
    w->blocked_until_us[from][to] = until_us;
    trace(w, NOBODY, "PARTITION %s -> %s for %.1f ms", w->procs[from].name, w->procs[to].name,
          (double)(until_us - w->now_us) / 1000.0);
    sched_at(w, until_us, NOBODY, join_again, (uint64_t)from, (uint64_t)to, NULL);
}

/* e->a, e->b: from, to */
static void accept_again(struct world *w, const struct event *e)
{
    w->refuses[e->a][e->b] = false;
}

static void refuse(struct world *w, int from, int to, uint64_t until_us)
{
    if (w->refuses[from][to])
        return;
    w->refuses[from][to] = true;
    net_refuse(w, from, to);
    sched_at(w, until_us, NOBODY, accept_again, (uint64_t)from, (uint64_t)to, NULL);
}

/* e->a, e->b: a pair */
static void speed_up(struct world *w, const struct event *e)
{
    w->lag_us[e->a][e->b] = w->lag_us[e->b][e->a] = 0;
}

static void cut(struct world *w, int a, int b, uint64_t until_us)
{
    uint32_t way = rng_below(&w->rng, 100);
    w->counts.partitions++;
    if (way < 85)
        cut_one_way(w, a, b, until_us);
    if (way < 70 || way >= 85)
        cut_one_way(w, b, a, until_us);
}

static void cut_nodes(struct world *w)
{
    int a = rng_chance(&w->rng, 500) ? some_primary(w) : some_node(w), b = some_node(w);
    if (a != b)
        cut(w, a, b, until_of(w, 30, 600));
}

/* One node from all the others, from the view service, too, or not. */
static void cut_off(struct world *w)
{
    int a = rng_chance(&w->rng, 500) ? some_primary(w) : some_node(w);
    uint64_t until_us = until_of(w, 60, 900);
    for (int b = 0; b < NODES; b++)
        if (a != b)
            cut(w, a, b, until_us);
    if (rng_chance(&w->rng, 500))
        cut(w, a, PROC_VIEWS, until_us);
}

/* The world falls in two: one node, at times another, and each client by chance, here; the
 * others, and mostly the view service, there. Connections within a side live on. Sometimes
 * one way still works. Sometimes a filter refuses, on one side, and the other hears nothing. */
static void split(struct world *w)
{
    bool here[PROCS] = {false};
    uint32_t way = rng_below(&w->rng, 100);
    uint64_t until_us = until_of(w, 40, 900);
    here[rng_chance(&w->rng, 700) ? some_primary(w) : some_node(w)] = true;
    if (rng_chance(&w->rng, 150))
        here[some_node(w)] = true;
    for (int i = 0; i < w->npeers; i++)
        here[NODES + i] = rng_chance(&w->rng, 500);
    here[PROC_VIEWS] = rng_chance(&w->rng, 100);
    w->counts.partitions++;
    for (int a = 0; a < PROCS; a++)
        for (int b = 0; b < PROCS; b++) {
            if (!here[a] || here[b])
                continue;
            if (way >= 10)
                cut_one_way(w, a, b, until_us);
            if (way < 10 || way >= 20)
                cut_one_way(w, b, a, until_us);
            if (way >= 60 && a < PROC_VIEWS && b < PROC_VIEWS)
                refuse(w, way < 90 ? b : a, way < 90 ? a : b, until_us);
        }
}

static void slow_way(struct world *w, int a, int b, uint32_t way, uint32_t lag_us,
                     uint64_t until_us)
{
    if (way != 1)
        w->lag_us[a][b] = lag_us;
    if (way != 0)
        w->lag_us[b][a] = lag_us;
    sched_at(w, until_us, NOBODY, speed_up, (uint64_t)a, (uint64_t)b, NULL);
}

/* A way, or both, of one pair; what is under way when it ends is late still. */
static void slow_down(struct world *w)
{
    int a = rng_chance(&w->rng, 500) ? some_primary(w) : some_node(w);
    int b = rng_chance(&w->rng, 800) ? some_node(w) : PROC_VIEWS;
    uint32_t way = rng_below(&w->rng, 3);
    uint32_t lag_us = (uint32_t)rng_between(&w->rng, 5000, rng_chance(&w->rng, 500) ? 60000 : 250000);
    if (a == b)
        return;
    trace(w, NOBODY, "SLOW %s %s %s: %.1f ms", w->procs[a].name, way == 0 ? "->" : way == 1 ? "<-" : "<->",
          w->procs[b].name, lag_us / 1000.0);
    slow_way(w, a, b, way, lag_us, until_of(w, 20, 800));
}

/* What one node says to clients comes late, or what they say to it; or what one client hears. */
static void slow_clients(struct world *w)
{
    int a = rng_chance(&w->rng, 700) ? some_primary(w) : some_node(w);
    uint32_t lag_us = (uint32_t)rng_between(&w->rng, 5000, rng_chance(&w->rng, 500) ? 60000 : 250000);
    uint32_t way = rng_chance(&w->rng, 600) ? 0 : rng_below(&w->rng, 3);
    uint64_t until_us = until_of(w, 20, 800);
    int only = rng_chance(&w->rng, 300) ? some_client(w) : NOBODY;
    trace(w, a, "has slow clients: %.1f ms", lag_us / 1000.0);
    for (int b = NODES; b < NODES + w->npeers; b++)
        if (only == NOBODY || only == b)
            slow_way(w, a, b, way, lag_us, until_us);
}

/* Nodes and the view service often have a network of their own: one node loses it, all of it
 * or the ways to some, both directions or one, silently or by refusals, or it is slow, about as
 * slow as a lease is long, or as a silence that makes others suspect. Clients notice nothing. */
static void lose_inner(struct world *w)
{
    int a = rng_chance(&w->rng, 700) ? some_primary(w) : some_node(w);
    bool slow = rng_chance(&w->rng, 400), refuses = !slow && rng_chance(&w->rng, 500);
    uint32_t way = rng_below(&w->rng, 3), all = rng_chance(&w->rng, 500);
    uint32_t lag_us = (uint32_t)rng_between(&w->rng, 5000, rng_chance(&w->rng, 500) ? 60000 : 250000);
    uint64_t until_us = until_of(w, 20, 800);
    trace(w, a, "%s its inner network%s", slow ? "has a slow way to" : "LOSES",
          way == 0 ? ", outwards" : way == 1 ? ", inwards" : "");
    w->counts.inner_losses++;
    for (int b = 0; b < PROCS; b++) {
        if (a == b || (b >= NODES && b != PROC_VIEWS) || (!all && rng_chance(&w->rng, 400)))
            continue;
        if (slow) {
            slow_way(w, a, b, way, lag_us, until_us);
            continue;
        }
        if (way != 1)
            cut_one_way(w, a, b, until_us);
        if (way != 0)
            cut_one_way(w, b, a, until_us);
        if (refuses && b != PROC_VIEWS)
            refuse(w, b, a, until_us);
    }
}

/* A filter between two nodes: one is refused by the other, which serves all others. */
static void refuse_one(struct world *w)
{
    int a = rng_chance(&w->rng, 700) ? some_primary(w) : some_node(w), b = some_node(w);
    if (a == b)
        return;
    w->counts.refusals++;
    trace(w, b, "is REFUSED by %s", w->procs[a].name);
    refuse(w, b, a, rng_chance(&w->rng, 500) ? until_of(w, 2, 40) : until_of(w, 40, 200));
}

/* A node hears nothing, or cannot speak, for longer than anybody should wait. */
static void cut_one_ear(struct world *w)
{
    int a = rng_chance(&w->rng, 700) ? some_primary(w) : some_node(w);
    bool deaf = rng_chance(&w->rng, 600);
    uint64_t until_us = until_of(w, 100, 5000);
    w->counts.partitions++;
    for (int b = 0; b < PROCS; b++)
        if (a != b)
            cut_one_way(w, deaf ? b : a, deaf ? a : b, until_us);
}

static void cut_views(struct world *w)
{
    cut(w, some_node(w), PROC_VIEWS, until_of(w, 100, 2000));
}

static void cut_client(struct world *w)
{
    cut(w, some_client(w), some_node(w), until_of(w, 30, 500));
}

/* It is heard and hears nothing until its leases are over: what it asked was done, and
 * it asks again, under an id that expired. */
static void deafen_client(struct world *w)
{
    int client = some_client(w);
    uint64_t until_us = until_of(w, CLIENT_LEASE_MS + 300, CLIENT_LEASE_MS + 1500);
    w->counts.partitions++;
    for (int node = 0; node < NODES; node++)
        cut_one_way(w, node, client, until_us);
}

static void views_go(struct world *w)
{
    if (w->now_us < w->views_back_us)
        return;
    w->views_back_us = rng_chance(&w->rng, 700) ? until_of(w, 50, 400) : until_of(w, 500, 3000);
    w->counts.outages++;
    trace(w, PROC_VIEWS, "AWAY for %.1f ms", (double)(w->views_back_us - w->now_us) / 1000.0);
}

static void views_recover(struct world *w, const struct event *e)
{
    (void)e;
    w->views_lost_per_mille = w->views_late_us = 0;
}

/* It is there, and half of what it is asked and says is lost, or all is late: some know what
 * others do not, and a wish comes true when its reason is gone. */
static void views_limp(struct world *w)
{
    bool late = rng_chance(&w->rng, 600);
    w->views_lost_per_mille = late ? 0 : 500;
    w->views_late_us = late ? (uint32_t)rng_between(&w->rng, 10000, 80000) : 0;
    trace(w, PROC_VIEWS, "LIMPS: %s", late ? "all is late" : "half of all is lost");
    sched_at(w, until_of(w, 100, 1500), NOBODY, views_recover, 0, 0, NULL);
}

static void calm_down(struct world *w, const struct event *e)
{
    (void)e;
    w->drop_per_mille = BASE_DROP;
    w->slow_per_mille = BASE_SLOW;
}

static void storm(struct world *w)
{
    bool lossy = rng_chance(&w->rng, 500);
    w->drop_per_mille = lossy ? 250 : BASE_DROP;
    w->slow_per_mille = lossy ? BASE_SLOW : 250;
    trace(w, NOBODY, "STORM: %s", lossy ? "a quarter is lost" : "a quarter is late");
    sched_at(w, until_of(w, 50, 300), NOBODY, calm_down, 0, 0, NULL);
}

/* --- crashes ----------------------------------------------------------------------------- */

static void restart_node(struct world *w, const struct event *e)
{
    if (!w->procs[e->a].alive)
        node_start(w, (int)e->a);
}

static void restart_client(struct world *w, const struct event *e)
{
    if (!w->procs[NODES + e->a].alive)
        peer_start(w, (int)e->a);
}

/* Of some shard's view no other member would be left. */
static bool is_last_copy(const struct world *w, int node)
{
    for (int shard = 0; shard < SHARDS; shard++) {
        const struct shard_view *v = views_of(w, shard);
        uint32_t others = 0;
        for (uint32_t i = 0; i < v->nmembers; i++) {
            const struct replica *r = &w->replicas[v->members[i].node - 1][shard];
            others += r->proc != node && r->shard && views_same_node(&r->self, &v->members[i]);
        }
        if (!others)
            return true;
    }
    return false;
}

static void crash_node(struct world *w, int node)
{
    if (!w->procs[node].alive || (is_last_copy(w, node) && rng_chance(&w->rng, SPARED_PER_MILLE)))
        return;
    node_crash(w, node);
    uint32_t way = rng_below(&w->rng, 100);
    sched_at(w, way < 25 ? until_of(w, 1, 30) : way < 87 ? until_of(w, 30, 600) : until_of(w, 600, 4000),
             NOBODY, restart_node, (uint64_t)node, 0, NULL);
}

static void crash_any(struct world *w)
{
    crash_node(w, some_node(w));
}

static void crash_primary(struct world *w)
{
    crash_node(w, some_primary(w));
}

static void crash_client(struct world *w)
{
    int client = some_client(w) - NODES;
    if (!w->procs[NODES + client].alive)
        return;
    peer_crash(w, client);
    sched_at(w, until_of(w, 20, 300), NOBODY, restart_client, (uint64_t)client, 0, NULL);
}

/* --- orders -------------------------------------------------------------------------------- */

static void order(struct world *w, const struct shard_order *o, int shard)
{
    struct replica *r = &w->replicas[views_primary(w, shard)][shard];
    if (w->procs[r->proc].alive)
        replica_order(r, o);
}

static void move_slots(struct world *w)
{
    int from = (int)rng_below(&w->rng, SHARDS);
    struct shard_order o = {.kind = SHARD_ORDER_MOVE, .to = (uint16_t)((from + 1) % SHARDS)};
    o.first = o.last = workload_slot(rng_below(&w->rng, 4));
    if (rng_chance(&w->rng, 300)) {
        uint32_t more = rng_chance(&w->rng, 300) ? 40 : 4;
        o.last = (uint8_t)(o.first > 255 - more ? 255 : o.first + more);
    }
    trace(w, NOBODY, "ORDER: slots %u to %u from shard %d to %u", o.first, o.last, from, o.to);
    for (int slot = o.first; slot <= o.last; slot++)
        if (!w->moving[slot].since_us)
            w->moving[slot].since_us = w->now_us;
    order(w, &o, from);
    faults_provoke(w);
}

static void lend_indexes(struct world *w)
{
    int from = (int)rng_below(&w->rng, SHARDS);
    struct shard_order o = {.kind = SHARD_ORDER_LEND, .to = (uint16_t)((from + 1) % SHARDS),
                            .count = (uint32_t)rng_between(&w->rng, 1, 20), .table = "ports"};
    trace(w, NOBODY, "ORDER: lend %u indexes from shard %d to %u", o.count, from, o.to);
    order(w, &o, from);
}

static void hand_over(struct world *w)
{
    int shard = (int)rng_below(&w->rng, SHARDS);
    trace(w, NOBODY, "ORDER: hand over shard %d", shard);
    order(w, &(struct shard_order){.kind = SHARD_ORDER_HAND_OVER}, shard);
}

/* --- planned stops --------------------------------------------------------------------------- */

static bool has_left(const struct world *w, int node)
{
    for (int shard = 0; shard < SHARDS; shard++)
        if (w->replicas[node][shard].shard && !shard_may_stop(w->replicas[node][shard].shard))
            return false;
    return !is_last_copy(w, node);
}

/* e->a: node, e->b: its life. As the server does: it stops when nobody needs it, or has no patience. */
static void stop_who_leaves(struct world *w, const struct event *e)
{
    int node = (int)e->a;
    struct proc *p = &w->procs[node];
    if (!p->alive || p->life != e->b)
        return;
    bool left = has_left(w, node);
    w->counts.leaves += left;
    if (left || rng_chance(&w->rng, 20))
        crash_node(w, node);
    if (p->alive && p->life == e->b)
        sched_at(w, until_of(w, 5, 15), NOBODY, stop_who_leaves, e->a, e->b, NULL);
}

static void leave_node(struct world *w)
{
    int node = rng_chance(&w->rng, 500) ? some_primary(w) : some_node(w);
    if (!w->procs[node].alive)
        return;
    trace(w, node, "ORDER: leave");
    for (int shard = 0; shard < SHARDS; shard++)
        replica_order(&w->replicas[node][shard], &(struct shard_order){.kind = SHARD_ORDER_LEAVE});
    sched_at(w, until_of(w, 5, 15), NOBODY, stop_who_leaves, (uint64_t)node, w->procs[node].life, NULL);
}

/* --- the mix -------------------------------------------------------------------------------- */

static const struct {
    uint32_t weight;
    void (*strike)(struct world *w);
} mix[] = {
    {14, pause_node}, {5, pause_client}, {10, reset_one}, {9, cut_nodes},  {4, cut_off},
    {5, cut_views},   {4, cut_client},   {8, storm},      {4, views_go},   {8, crash_any},
    {11, crash_primary}, {5, crash_client}, {10, move_slots}, {3, hand_over},
    {12, lend_indexes}, {12, split},     {8, slow_down},  {2, cut_one_ear},
    {1, deafen_client}, {12, lose_inner}, {8, refuse_one},
    {8, views_limp},  {8, slow_clients}, {4, leave_node},
};

static void strike_once(struct world *w)
{
    uint32_t sum = 0;
    for (unsigned i = 0; i < sizeof mix / sizeof *mix; i++)
        sum += mix[i].weight;
    uint32_t n = rng_below(&w->rng, sum);
    for (unsigned i = 0; i < sizeof mix / sizeof *mix; i++) {
        if (n < mix[i].weight) {
            mix[i].strike(w);
            break;
        }
        n -= mix[i].weight;
    }
}

static void strike_soon(struct world *w, const struct event *e)
{
    (void)e;
    if (!w->healed)
        strike_once(w);
}

void faults_provoke(struct world *w)
{
    if (!w->healed && rng_chance(&w->rng, PROVOKED_PER_MILLE))
        sched_at(w, w->now_us + rng_exp(&w->rng, PROVOKED_US), NOBODY, strike_soon, 0, 0, NULL);
}

/* e->a: when the faults end */
static void strike(struct world *w, const struct event *e)
{
    if (w->now_us >= e->a)
        return;
    strike_once(w);
    faults_provoke(w); /* it seldom comes alone */
    sched_at(w, w->now_us + 1000 + rng_exp(&w->rng, MEAN_US), NOBODY, strike, e->a, 0, NULL);
}

void faults_start(struct world *w, uint64_t until_us)
{
    w->drop_per_mille = BASE_DROP;
    w->slow_per_mille = BASE_SLOW;
    sched_at(w, w->now_us + rng_exp(&w->rng, MEAN_US), NOBODY, strike, until_us, 0, NULL);
}

void faults_heal(struct world *w)
{
    trace(w, NOBODY, "HEAL");
    w->healed = true;
    w->drop_per_mille = 0;
    w->slow_per_mille = 0;
    w->views_back_us = 0;
    w->views_lost_per_mille = w->views_late_us = 0;
    for (int a = 0; a < PROCS; a++)
        for (int b = 0; b < PROCS; b++) { /* pauses end by themselves */
            w->blocked[a][b] = w->refuses[a][b] = false;
            w->blocked_until_us[a][b] = 0;
            w->lag_us[a][b] = 0;
        }
    for (int i = 0; i < NODES; i++)
        if (!w->procs[i].alive)
            node_start(w, i);
    for (int i = 0; i < w->npeers; i++)
        if (!w->procs[NODES + i].alive)
            peer_start(w, i);
}
