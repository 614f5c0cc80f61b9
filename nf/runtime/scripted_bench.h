/* SPDX-License-Identifier: BSD-3-Clause */
/* A bench for the engine's tests: one engine with a chain of scripted NFs on a
 * scripted store, packets made by order, and what became of each. */
#ifndef NF_RUNTIME_SCRIPTED_BENCH_H
#define NF_RUNTIME_SCRIPTED_BENCH_H

#include "tests/check.h"

#include "nf/runtime/scripted_nf.h"
#include "nf/runtime/scripted_store.h"

enum { BENCH_PACKETS = 4096, EMITTED = 1, DROPPED = 2 };

struct bench_packet {
    uint8_t frame[SCRIPT_FRAME];
    uint32_t len;
    int state, reason, order; /* order: of leaving; reason: if dropped */
    uint8_t ttl;
    enum packet_side side, out;
    uint32_t key;
    uint16_t flow;
    char orders[SCRIPT_ORDERS + 1];
};

static struct bench {
    struct scripted_store store;
    struct nf_instance *nf[2];
    struct engine *e;
    struct bench_packet packets[BENCH_PACKETS];
    int npackets, left;
    uint64_t now_us;
} * b;

static void bench_emit(void *ctx, void *cookie, const struct packet *p, enum packet_side out)
{
    struct bench_packet *q = cookie;
    CHECK(q->state == 0, "packet %d left twice", (int)(q - b->packets));
    q->state = EMITTED;
    q->order = b->left++;
    q->out = out;
    q->ttl = p->data[22];
}

static void bench_drop(void *ctx, void *cookie, int reason)
{
    struct bench_packet *q = cookie;
    CHECK(q->state == 0, "packet %d left twice", (int)(q - b->packets));
    q->state = DROPPED;
    q->reason = reason;
    q->order = b->left++;
}

static void bench_start(int nchain, uint32_t packets, uint32_t bursts)
{
    char err[200];
    b = calloc(1, sizeof *b);
    struct engine_config c = {.nchain = nchain,
                              .backend = scripted_backend(&b->store),
                              .packets_in_flight = packets,
                              .window_bursts = bursts,
                              .store_timeout_ms = 100,
                              .pass_untaken = true,
                              .emit = bench_emit,
                              .drop = bench_drop};
    for (int i = 0; i < nchain; i++) {
        struct script_config at = {.at = (uint8_t)i};
        assert_int_equal(nf_instance_create(&script_nf, &at, &b->nf[i], err, sizeof err), 0);
        c.chain[i] = b->nf[i];
    }
    assert_int_equal(engine_create(&c, &b->e, err, sizeof err), 0);
    b->now_us = 1000;
    script_calls = 0;
}

static void bench_stop(void)
{
    engine_destroy(b->e);
    for (int i = 0; i < b->npackets; i++)
        CHECK(b->packets[i].state, "packet %d was kept", i);
    for (int i = 0; i < 2; i++)
        nf_instance_destroy(b->nf[i]);
    free(b);
}

static struct bench_packet *bench_packet(uint16_t flow, const char *orders, uint32_t key,
                                         enum packet_side side)
{
    struct bench_packet *q = &b->packets[b->npackets++];
    memset(q, 0, sizeof *q);
    q->len = script_frame(q->frame, flow, orders, key);
    q->flow = flow;
    q->key = key;
    q->side = side;
    strncpy(q->orders, orders, SCRIPT_ORDERS);
    return q;
}

/* A burst of the packets made since `from`, all of one side. */
static void bench_send(int from)
{
    struct engine_packet burst[256];
    uint32_t n = 0;
    for (int i = from; i < b->npackets; i++)
        burst[n++] = (struct engine_packet){&b->packets[i], b->packets[i].frame, b->packets[i].len,
                                            sizeof b->packets[i].frame};
    engine_rx(b->e, burst, n, b->packets[from].side, b->now_us);
}

/* One packet as a burst of its own. */
static struct bench_packet *bench_one(uint16_t flow, const char *orders, uint32_t key)
{
    struct bench_packet *q = bench_packet(flow, orders, key, SIDE_INSIDE);
    bench_send(b->npackets - 1);
    return q;
}

/* One round trip: what was submitted executes, its answers arrive. */
static void bench_turn(void)
{
    engine_flush(b->e);
    b->now_us += 10;
    engine_poll(b->e, b->now_us);
}

static void bench_finish(void)
{
    for (int i = 0; i < 10000 && engine_in_flight(b->e); i++)
        bench_turn();
    CHECK(engine_in_flight(b->e) == 0, "%u packets stay in flight", engine_in_flight(b->e));
    bench_turn(); /* adds that nobody waited for */
}

static const char *bench_reason(const struct bench_packet *q)
{
    return q->state == DROPPED ? engine_reason_text(b->e, q->reason) : "not dropped";
}

#endif
