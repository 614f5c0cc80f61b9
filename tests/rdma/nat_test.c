/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A NAT over verbs writes the same packets as one over tcp: two workers, the real
 * engine and NAT each, on one real store, one by either transport.
 *
 *   tcp    opens the flows of the even hosts      then both carry all flows, out and
 *   verbs  opens those of the odd hosts           back in: every byte must be equal
 *
 * The NAT's tables are for one-sided reads, so what the verbs worker finds out about an open flow
 * it mostly reads in the store's memory.
 *
 * What a worker opened the other one finds in the store; neither keeps anything.
 * Runs where there is RDMA: in the machine of vm.sh, on 10.8.0.1.
 */
#include "tests/check.h"

#include <stdlib.h>
#include <time.h>

#include "client/lethe.h"
#include "common/packet/packet_forge.h"
#include "common/wire/verbs/verbs.h"
#include "nf/nat44/nat44.h"
#include "nf/runtime/engine.h"
#include "statestore/server/store.h"

enum { FLOWS = 200, ROOM = 2048, PATIENCE_S = 120 };
#define R IP4(198, 51, 100, 7)

struct carried { /* a packet, before and after */
    uint8_t frame[ROOM];
    uint32_t len;
    bool left, emitted;
};

struct one {
    const char *by;
    struct lethe_client *client;
    struct engine *engine;
    struct nf_instance *nf;
    struct carried out[FLOWS], in[FLOWS];
};

static struct store *store;
static struct one workers[2] = {{.by = "tcp:127.0.0.1:7600"}, {.by = "verbs:10.8.0.1:7620"}};

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void emit(void *ctx, void *cookie, const struct packet *p, enum packet_side side)
{
    struct carried *c = cookie;
    CHECK(!c->left && p->len <= ROOM, "a packet left twice");
    c->left = c->emitted = true;
    c->len = p->len;
}

static void drop(void *ctx, void *cookie, int reason)
{
    struct one *w = ctx;
    struct carried *c = cookie;
    c->left = true;
    print_error("%s dropped: %s\n", w->by, engine_reason_text(w->engine, reason));
}

static void worker_start(struct one *w, uint64_t seed)
{
    static char *external[] = {"203.0.113.1"};
    static const struct nat_config config = {.external = external, .external_count = 1,
                                             .inside_address = "10.0.0.254",
                                             .outside_address = "198.51.100.254"};
    static const char *const tables[] = {"nat.*", NULL};
    char err[300];
    struct lethe_config lc = {.shards = 2, .address = w->by, .verbs = &transport_verbs,
                              .retry_ms = 2000, .one_sided = tables};
    struct engine_config ec = {.nchain = 1, .store_timeout_ms = PATIENCE_S * 1000, .seed = seed,
                               .ctx = w, .emit = emit, .drop = drop};
    w->client = lethe_client_create(&lc, err, sizeof err);
    CHECK(w->client, "%s", err);
    CHECK(nf_instance_create(&nat44_ops, &config, &w->nf, err, sizeof err) == 0, "%s", err);
    ec.chain[0] = w->nf;
    ec.backend = backend_lethe(w->client);
    CHECK(engine_create(&ec, &w->engine, err, sizeof err) == 0, "%s", err);
    uint64_t until = now_us() + PATIENCE_S * 1000000ull;
    while (!lethe_ready(w->client)) {
        engine_poll(w->engine, now_us());
        CHECK(now_us() < until, "%s is not served", w->by);
    }
}

/* Carries it through the worker, and waits. */
static void carry(struct one *w, struct carried *c, enum packet_side side)
{
    struct engine_packet p = {c, c->frame, c->len, sizeof c->frame};
    uint64_t until = now_us() + PATIENCE_S * 1000000ull;
    c->left = c->emitted = false;
    engine_rx(w->engine, &p, 1, side, now_us());
    while (!c->left) {
        engine_flush(w->engine);
        engine_poll(w->engine, now_us());
        CHECK(now_us() < until, "%s: a packet never left", w->by);
    }
    CHECK(c->emitted, "%s dropped a packet", w->by);
}

static struct forge flow(int i)
{
    return (struct forge){.proto = i % 3 ? 17 : 6, .flags = TCP_SYN, .src = IP4(10, 0, 0, 1 + i % 40),
                          .sport = (uint16_t)(2000 + i), .dst = R, .dport = 80, .data = (uint16_t)(i % 64)};
}

static void send_out(struct one *w, struct carried *c, int i)
{
    struct forge f = flow(i);
    c->len = forge_frame(&f, c->frame);
    carry(w, c, SIDE_INSIDE);
}

/* The answer to what left as `out`. */
static void send_in(struct one *w, const struct carried *out, struct carried *c, int i)
{
    const uint8_t *ip = out->frame + FORGE_ETHER;
    struct forge f = flow(i), back = f;
    back.src = f.dst;
    back.sport = f.dport;
    back.dst = forge_get32(ip + 12);
    back.dport = (uint16_t)forge_get16(ip + 20);
    back.flags = TCP_SYN | TCP_ACK;
    c->len = forge_frame(&back, c->frame);
    carry(w, c, SIDE_OUTSIDE);
}

static bool same(const struct carried *a, const struct carried *b)
{
    return a->len == b->len && memcmp(a->frame, b->frame, a->len) == 0;
}

static void test_the_nat_writes_the_same_packets(void **state)
{
    static struct carried first;
    static uint16_t opened[FLOWS];
    for (int i = 0; i < FLOWS; i++) { /* each flow is opened by one of the two */
        send_out(&workers[i % 2], &first, i);
        opened[i] = (uint16_t)forge_get16(first.frame + FORGE_ETHER + 20);
    }
    for (int i = 0; i < 2 * FLOWS; i++) /* the second time each knows where the flow is */
        for (int k = 0; k < 2; k++)
            send_out(&workers[k], &workers[k].out[i / 2], i / 2);
    for (int i = 0; i < FLOWS; i++)
        for (int k = 0; k < 2; k++)
            send_in(&workers[k], &workers[1 - k].out[i], &workers[k].in[i], i);
    struct lethe_status st;
    lethe_status(workers[1].client, &st);
    print_message("%lu look-ups by one-sided reads\n", st.one_sided[READ_HIT]);
    CHECK(st.one_sided[READ_HIT], "nothing was read one-sidedly");
    for (int i = 0; i < FLOWS; i++) {
        const struct carried *out = &workers[0].out[i];
        CHECK(same(out, &workers[1].out[i]), "flow %d, outwards", i);
        CHECK(same(&workers[0].in[i], &workers[1].in[i]), "flow %d, inwards", i);
        CHECK(forge_get32(out->frame + FORGE_ETHER + 12) == IP4(203, 0, 113, 1), "flow %d is not translated", i);
        CHECK(forge_get16(out->frame + FORGE_ETHER + 20) == opened[i], "flow %d changed its port", i);
    }
}

static int start_all(void **state)
{
    char err[300];
    struct store_config config = {.shards = 2, .node = 1, .listen = "127.0.0.1:7600",
                                  .listen_verbs = "10.8.0.1:7620", .verbs = &transport_verbs,
                                  .threads = true};
    CHECK(!store_start(&store, &config, err, sizeof err), "%s", err);
    for (int i = 0; i < 2; i++)
        worker_start(&workers[i], (uint64_t)i + 1);
    return 0;
}

static int stop_all(void **state)
{
    for (int i = 0; i < 2; i++) {
        lethe_client_destroy(workers[i].client);
        engine_destroy(workers[i].engine);
        nf_instance_destroy(workers[i].nf);
    }
    store_stop(store);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_the_nat_writes_the_same_packets)};
    return cmocka_run_group_tests(tests, start_all, stop_all);
}
