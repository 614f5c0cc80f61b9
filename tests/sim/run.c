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
    TELL_US = 1500000,        /* events sent again and again */
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
    static const char *const names[PROCS] = {"node1", "node2", "node3", "node4", "keeper",
                                             "client1", "client2", "client3", "client4",
                                             "client5", "views"};
    memset(w, 0, sizeof *w);
    w->seed = seed;
    w->rng.state = seed * 0x2545f4914f6cdd1dull + 1;
    w->trace = trace_on;
    w->npeers = 3 + (int)rng_below(&w->rng, CLIENTS_MAX - 2);
    for (int i = 0; i < PROCS; i++) {
        w->procs[i].name = names[i];
        w->procs[i].clock_us = rng_between(&w->rng, 1000000, 9000000000ull);
        w->procs[i].drift = (int32_t)rng_below(&w->rng, 2 * DRIFT_MAX + 1) - DRIFT_MAX;
        if (rng_chance(&w->rng, 500)) /* at the bound, one or the other */
            w->procs[i].drift = w->procs[i].drift < 0 ? -DRIFT_MAX : DRIFT_MAX;
        if (w->procs[i].drift > w->history.fast)
            w->history.fast = w->procs[i].drift;
        if (-w->procs[i].drift > w->history.slow)
            w->history.slow = -w->procs[i].drift;
    }
    w->copies = 2 + rng_below(&w->rng, COPIES_MAX - 1);
    w->procs[PROC_VIEWS].alive = true;
    workload_keys(w);
    nic_begin(w);
}

static void begin(struct world *w)
{
    for (int i = 0; i < NODES; i++)
        node_start(w, i);
    views_begin(w);
    for (int i = 0; i < w->npeers; i++)
        peer_start(w, i);
    views_watch_service(w);
    faults_start(w, RUN_US);
}

/* Everything that is left to do is done; or what is missing. */
static const char *unrest(const struct world *w)
{
    if (peers_pending(w))
        return "operations are still unanswered";
    for (int shard = 0; shard < SHARDS; shard++) {
        if (views_of(w, shard)->nmembers < w->copies)
            return "copies are missing";
        const struct replica *primary = &w->replicas[views_primary(w, shard)][shard];
        if (primary->shard && shard_wants_mover(primary->shard) >= 0)
            return "a hash slot is still on its way";
        if (!replicas_settled(w, shard))
            return "the replicas have not come to one committed position";
    }
    return NULL;
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
    for (int shard = 0; !w->over && shard < SHARDS; shard++)
        replicas_equal(w, shard, true);
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
    if (!come_to_rest(w))
        return;
    workload_observe_end(w);
    sched_run(w, w->now_us + EXPIRE_US);
    if (!come_to_rest(w))
        return;
    sched_run(w, w->now_us + TELL_US);
    w->history.all_told = workload_all_expired(w);
}

bool run_seed(struct world *w, uint64_t seed, bool trace_on)
{
    create(w, seed, trace_on);
    live(w);
    for (int i = 0; i < NODES; i++)
        for (int shard = 0; shard < SHARDS; shard++)
            replica_count(&w->replicas[i][shard]);
    for (int shard = 0; shard < SHARDS; shard++)
        views_end_fail_over(w, shard, true);
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
        if (w->replicas[i][0].shard)
            node_stop(w, i);
    for (int shard = 0; shard < SHARDS; shard++)
        free(w->keys[shard].reached);
    sched_clear(w);
    net_clear(w);
    hist_clear(&w->history);
    free(w->consumers);
    w->consumers = NULL;
    rules_clear(w);
}
