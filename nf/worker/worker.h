/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One worker: what main assembles, the loop drives and the report shows.
 *
 * Threads: the main thread is the datapath (loop.c) and owns everything here
 * but what is marked. The control thread (common/metrics) only reads metrics
 * and `public`, and sets `drain`. The housekeeper (join.h) talks to steering.
 */
#ifndef NF_WORKER_WORKER_H
#define NF_WORKER_WORKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/metrics/control.h"
#include "common/metrics/http.h"
#include "common/metrics/notify.h"
#include "common/metrics/trace.h"
#include "common/packet/doorbell.h"
#include "common/packet/probe.h"
#include "nf/worker/chain.h"
#include "nf/worker/join.h"
#include "nf/worker/marker.h"
#include "nf/worker/options.h"
#include "nf/worker/side.h"
#include "nf/worker/state.h"
#include "nf/worker/tunnel.h"

enum worker_state {
    WORKER_WAITING, /* for the store, the first time */
    WORKER_SERVING,
    WORKER_LEAVING,   /* asked steering to send nothing more */
    WORKER_FINISHING, /* what is in flight */
    WORKER_DONE
};

/* For the control thread, under its lock. */
struct worker_public {
    pthread_mutex_t lock;
    enum worker_state state;
    struct lethe_status store;
    bool joined;
    unsigned number;
    bool store_well;
    uint64_t tended_us;       /* when the loop last wrote this */
};

struct report;

struct worker {
    struct options opt;
    struct chain chain;
    struct state *store;
    struct engine *engine;
    struct rte_mempool *pool;
    struct side side[2];
    struct tunnel *tunnel; /* NULL: steering is reached by memif, or there is none */
    struct doorbell *bell, *steer_bell;
    struct joiner *joiner;
    struct metrics *metrics;
    struct control *control;
    struct notify *notify;
    struct metrics_http *http;
    struct report *report;
    struct trace *trace;
    struct engine_tracer tracer;
    bool tracing;
    struct worker_public public;

    bool steered, has_probe_key;
    uint8_t probe_key[PROBE_KEY_BYTES];
    uint64_t incarnation; /* of this process */
    unsigned number;      /* steering's, of this worker */
    struct marker marker[SITE_FRONTS_MAX]; /* by tunnel_origin; by memif the first */
    uint32_t packets_max; /* in flight */
    uint64_t max_hold_us, unreachable_us, full_patience_us;

    _Atomic bool drain; /* set by a signal or the control thread */
    const char *drain_cause; /* set before it */
    enum worker_state state;
    bool joined, store_well;
    uint64_t last_us; /* start of the newest round */
    uint64_t full_us; /* since when the engine's window is full; 0: it is not */
    uint64_t tend_us, link_grace_us;
    uint64_t well_us;      /* when the store last had no trouble */
    uint64_t port_said_us; /* when a port's failure was last logged */
    uint64_t quiet_since_us, leave_by_us, end_by_us;
    uint64_t busy_us, busy_since_us;
    uint32_t busy_permille, rtt_us;
    uint64_t rtt_sum, rtt_count; /* at the last look */
    uint64_t rounds, sleeps, absences, store_lost;
    char fatal[240]; /* why it cannot serve */
};

static inline uint32_t side_waiting(const struct worker *w)
{
    return w->side[0].ntx + w->side[1].ntx;
}

/* --- loop.c: runs until drained (0) or unable to serve (w->fatal, -EIO) ------ */

int loop_run(struct worker *w);
/* The engine's outlets. */
void loop_emit(void *ctx, void *cookie, const struct packet *pkt, enum packet_side out);
void loop_drop(void *ctx, void *cookie, int reason);
uint64_t loop_now_us(void);

/* --- tend.c: ten times a second, on the loop's thread --------------------------- */

/* Joins, links, the store's health, draining, publishing. */
void tend(struct worker *w, uint64_t now_us);
/* After every round while draining. */
void tend_drain(struct worker *w, uint64_t now_us, bool received);

/* --- trace.c: on the loop's thread; books for the verb `trace` -------------------------- */

/* Turns the engine's tracing on and off, as ordered. */
void trace_tend(struct worker *w, uint64_t now_us);

/* --- report.c ---------------------------------------------------------------------- */

int report_create(struct worker *w);
void report_publish(struct worker *w);
void report_destroy(struct worker *w);
/* The control socket's verbs: status, drain. */
void report_control(void *ctx, int argc, char **argv, char *reply, uint32_t room);
/* /healthz and /readyz: http_probes of the worker. */
void report_healthy(void *ctx, char *why, uint32_t len);
void report_ready(void *ctx, char *why, uint32_t len);

#endif
