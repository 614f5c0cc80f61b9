/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Books what becomes of traced packets (common/metrics/trace.h): the engine and the
 * store's client tell, while something is ordered. Loop's thread.
 */
#include "nf/worker/worker.h"

static uint32_t on_packet(void *ctx, const struct packet *p)
{
    struct worker *w = ctx;
    uint32_t id = trace_packet(w->trace, p);
    trace_event(w->trace, id, &(struct trace_event){.us = w->last_us, .what = "received"});
    return id;
}

static void on_event(void *ctx, uint32_t id, const char *what, const char *nf, const char *why)
{
    struct worker *w = ctx;
    trace_event(w->trace, id, &(struct trace_event){.what = what, .nf = nf, .why = why});
}

static void on_sent(void *ctx, uint32_t id, const char *nf, uint16_t shard, uint64_t client,
                    uint64_t seq)
{
    struct worker *w = ctx;
    trace_event(w->trace, id, &(struct trace_event){.what = "sent", .nf = nf, .about = "shard",
                                                    .number = shard, .client = client, .seq = seq});
}

static void on_left(void *ctx, uint32_t id, const struct packet *p)
{
    trace_left_as(((struct worker *)ctx)->trace, id, p);
}

static void on_txn_sent(void *ctx, void *user, uint16_t shard, uint64_t client, uint64_t seq)
{
    engine_trace_sent(((struct worker *)ctx)->engine, user, shard, client, seq);
}

void trace_tend(struct worker *w, uint64_t now_us)
{
    bool on = trace_active(w->trace, now_us);
    if (on == w->tracing)
        return;
    w->tracing = on;
    w->tracer = (struct engine_tracer){w, on_packet, on_event, on_sent, on_left};
    engine_trace(w->engine, on ? &w->tracer : NULL);
    state_trace(w->store, on ? on_txn_sent : NULL, w);
}
