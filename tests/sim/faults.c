/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What goes wrong. One mix for every run and every planted bug: at random
 * times one of the rows below, alone or while others still last, and sometimes
 * right behind another or behind a change of view. Nothing here looks at what
 * the store is doing, but for one thing: a primary without an in-view backup is
 * mostly spared, since its death ends the history.
 */
#include <stdlib.h>

#include "world.h"

enum {
    MEAN_US = 300000,
    BASE_DROP = 12,
    BASE_SLOW = 3,
    SPARED_PER_MILLE = 970,
    PROVOKED_PER_MILLE = 150,
    PROVOKED_US = 3000,
};

static uint64_t until_of(const struct world *w, uint64_t low_ms, uint64_t high_ms)
{
    return w->now_us + rng_between((struct rng *)&w->rng, low_ms * 1000, high_ms * 1000);
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
    int node = (int)rng_below(&w->rng, NODES);
    bool is_long = rng_chance(&w->rng, 250);
    pause_proc(w, node, is_long ? until_of(w, 120, 400) : until_of(w, 2, 60));
}

static void pause_client(struct world *w)
{
    int client = (int)rng_below(&w->rng, (uint32_t)w->npeers);
    bool too_long = rng_chance(&w->rng, 100);
    pause_proc(w, NODES + client,
               too_long ? until_of(w, CLIENT_LEASE_MS + 200, CLIENT_LEASE_MS + 1500)
                        : until_of(w, 5, 300));
}

/* --- the network ---------------------------------------------------------------------- */

static void reset_one(struct world *w)
{
    uint32_t open[256], n = 0;
    for (uint32_t i = 1; i <= w->nconns && n < 256; i++)
        if (w->conns[i - 1].end[0].open && w->conns[i - 1].end[1].open)
            open[n++] = i;
    if (!n)
        return;
    uint32_t conn = open[rng_below(&w->rng, n)];
    trace(w, NOBODY, "RESET of #%u", conn);
    w->counts.resets++;
    net_reset(w, conn);
}

/* e->a, e->b: processes */
static void join_again(struct world *w, const struct event *e)
{
    w->blocked[e->a][e->b] = w->blocked[e->b][e->a] = false;
    trace(w, NOBODY, "partition %s | %s healed", w->procs[e->a].name, w->procs[e->b].name);
}

static void cut(struct world *w, int a, int b, uint64_t until_us)
{
    if (w->blocked[a][b])
        return;
    w->blocked[a][b] = w->blocked[b][a] = true;
    w->counts.partitions++;
    trace(w, NOBODY, "PARTITION %s | %s for %.1f ms", w->procs[a].name, w->procs[b].name,
          (double)(until_us - w->now_us) / 1000.0);
    sched_at(w, until_us, NOBODY, join_again, (uint64_t)a, (uint64_t)b, NULL);
}

static void cut_nodes(struct world *w)
{
    cut(w, 0, 1, until_of(w, 30, 400));
}

static void cut_client(struct world *w)
{
    int client = NODES + (int)rng_below(&w->rng, (uint32_t)w->npeers);
    cut(w, client, (int)rng_below(&w->rng, NODES), until_of(w, 30, 500));
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

static void crash_backup(struct world *w)
{
    int node = !views_primary(w);
    if (!w->procs[node].alive || w->crashed_us)
        return;
    node_crash(w, node);
    sched_at(w, until_of(w, 30, 400), NOBODY, restart_node, (uint64_t)node, 0, NULL);
}

static void crash_primary(struct world *w)
{
    int node = views_primary(w);
    bool backed = w->view.nmembers == NODES && views_has(w, &w->nodes[!node]);
    if (!w->procs[node].alive || (!backed && rng_chance(&w->rng, SPARED_PER_MILLE)))
        return;
    node_crash(w, node);
    sched_at(w, until_of(w, 30, 600), NOBODY, restart_node, (uint64_t)node, 0, NULL);
}

static void crash_client(struct world *w)
{
    int client = (int)rng_below(&w->rng, (uint32_t)w->npeers);
    if (!w->procs[NODES + client].alive)
        return;
    peer_crash(w, client);
    sched_at(w, until_of(w, 20, 300), NOBODY, restart_client, (uint64_t)client, 0, NULL);
}

/* --- the mix -------------------------------------------------------------------------------- */

static const struct {
    uint32_t weight;
    void (*strike)(struct world *w);
} mix[] = {
    {15, pause_node}, {8, pause_client}, {14, reset_one},    {11, cut_nodes},    {6, cut_client},
    {12, storm},      {8, crash_backup}, {18, crash_primary}, {8, crash_client},
};

static void strike_once(struct world *w)
{
    uint32_t n = rng_below(&w->rng, 100);
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
    for (int a = 0; a < PROCS; a++) {
        if (w->procs[a].paused_until_us > w->now_us)
            w->procs[a].paused_until_us = w->now_us;
        for (int b = 0; b < PROCS; b++)
            w->blocked[a][b] = false;
    }
    for (int i = 0; i < NODES; i++)
        if (!w->procs[i].alive && !w->crashed_us)
            node_start(w, i);
    for (int i = 0; i < w->npeers; i++)
        if (!w->procs[NODES + i].alive)
            peer_start(w, i);
}
