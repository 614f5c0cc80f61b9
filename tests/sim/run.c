/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One seed: a world is made, suffers for a while, is healed, must come to rest
 * with every operation answered and both replicas equal, must then see every
 * time-out pass, and its history is checked.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

enum {
    RUN_US = 12000000,        /* of faults */
    AFTERMATH_US = 300000,    /* of work after the healing */
    REST_MAX_US = 20000000,   /* by then all is answered and joined, or it never will */
    REST_STEP_US = 20000,
    EXPIRE_US = 3600000,      /* longest time-out + g + slack */
};

void run_fail(struct world *w, const char *check, const char *format, ...)
{
    char text[300];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    trace(w, NOBODY, "FAILED %s: %s", check, text);
    verdict_say(&w->verdict, check, NULL, 0, "at %.3f ms: %s", (double)w->now_us / 1000.0, text);
    w->over = true;
}

static void create(struct world *w, uint64_t seed, bool trace_on)
{
    static const char *const names[PROCS] = {"node1", "node2", "keeper", "client1", "client2",
                                             "client3", "client4", "views"};
    memset(w, 0, sizeof *w);
    w->seed = seed;
    w->rng.state = seed * 0x2545f4914f6cdd1dull + 1;
    w->trace = trace_on;
    w->npeers = 3 + (int)rng_below(&w->rng, CLIENTS_MAX - 2);
    for (int i = 0; i < PROCS; i++) {
        w->procs[i].name = names[i];
        w->procs[i].clock_us = rng_between(&w->rng, 1000000, 9000000000ull);
    }
    w->procs[PROC_VIEWS].alive = true;
    workload_keys(w);
}

static void begin(struct world *w)
{
    node_start(w, 0);
    w->view = (struct shard_view){.epoch = 1, .nmembers = 1};
    w->view.members[0] = w->nodes[0].self;
    node_view(w, 0, &w->view);
    node_start(w, 1);
    for (int i = 0; i < w->npeers; i++)
        peer_start(w, i);
    faults_start(w, RUN_US);
}

/* Everything that is left to do is done; or what is missing. */
static const char *unrest(const struct world *w)
{
    if (peers_pending(w))
        return "operations are still unanswered";
    if (w->view.nmembers != NODES)
        return "the backup has not joined again";
    return nodes_settled(w) ? NULL : "the replicas have not come to one committed position";
}

static bool come_to_rest(struct world *w)
{
    uint64_t limit_us = w->now_us + REST_MAX_US;
    while (!w->over && unrest(w)) {
        if (w->now_us >= limit_us) {
            run_fail(w, "liveness", "%.0f s after everything was healed %s",
                     (double)REST_MAX_US / 1e6, unrest(w));
            return false;
        }
        sched_run(w, w->now_us + REST_STEP_US);
    }
    return !w->over;
}

static void live(struct world *w)
{
    begin(w);
    sched_run(w, RUN_US);
    if (w->over)
        return;
    faults_heal(w);
    sched_run(w, w->now_us + AFTERMATH_US);
    w->stopped = true;
    if (!come_to_rest(w) || !nodes_equal(w, true))
        return;
    workload_observe_end(w, w->nodes[views_primary(w)].shard);
    sched_run(w, w->now_us + EXPIRE_US);
    if (!come_to_rest(w) || !nodes_equal(w, true))
        return;
    workload_all_expired(w, w->nodes[views_primary(w)].shard);
}

bool run_seed(struct world *w, uint64_t seed, bool trace_on)
{
    create(w, seed, trace_on);
    live(w);
    for (int i = 0; i < NODES; i++)
        node_count(w, i);
    if (!w->verdict.bad)
        check_all(&w->history, &w->verdict);
    return !w->verdict.bad;
}

void run_clear(struct world *w)
{
    for (int i = 0; i < w->npeers; i++)
        if (w->peers[i].lethe)
            lethe_client_destroy(w->peers[i].lethe);
    for (int i = 0; i < NODES; i++)
        if (w->nodes[i].shard)
            node_stop(w, i);
    sched_clear(w);
    net_clear(w);
    hist_clear(&w->history);
    free(w->sent_seqs);
    w->sent_seqs = NULL;
}
