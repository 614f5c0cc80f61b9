/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Question "nat": what does statelessness cost a NAT?
 *
 * One worker thread on core 1 makes packets (nat_flows.h), runs nat44 through
 * the worker's engine and counts what comes out. Behind the engine stands
 *
 *   local    a hash table in the worker's own memory (local_backend.h): what a
 *            stateful NAT has; the baseline
 *   inproc   the store in a second thread, on core 0, by message passing
 *   shm      lethe-store in a process of its own, on core 0, by shared memory
 *   tcp      lethe-store in a process of its own, on core 0, by loopback tcp
 *
 * and nothing else differs. Half of the packets go out, half come back; one in
 * a hundred opens a new mapping. Every packet must come out: a drop ends the
 * bench. Peers alternate within every run. Latency is from engine_rx to emit,
 * single packets paced at a tenth of the same backend's peak.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/local_backend.h"
#include "bench/nat_flows.h"
#include "bench/nat_peer.h"
#include "bench/process.h"
#include "bench/report.h"
#include "nf/runtime/engine.h"

enum { BURST = 32, BUFFERS = 2048, NEW_ONE_IN = 100, LATENCY_SAMPLES = 20000 };

struct settings {
    int runs;
    uint64_t packets;
    const char *store, *out;
    const char *only;            /* a peer's name: just that one, to profile it */
    const char *size;            /* 10k or 1m: just that one */
};

struct buffer {
    uint8_t data[192];
    uint32_t flow;
    bool outward;
    uint64_t since_ns;           /* when given to the engine; latency only */
};

/* One engine over one backend with its flows. */
struct rig {
    struct engine *engine;
    struct flow_outer *outer;    /* by flow */
    uint32_t flows, next_new, flows_max;
    struct buffer *buffers;
    uint32_t free[BUFFERS], nfree;
    uint64_t emitted, dropped;
    int reason;
    uint64_t random;
    uint64_t *latency_ns;        /* NULL: not measured */
    uint32_t nlatency;
};

static uint64_t now_us(void)
{
    return wall_ns() / 1000;
}

static uint32_t pick(struct rig *g, uint32_t below)
{
    g->random ^= g->random << 13;
    g->random ^= g->random >> 7;
    g->random ^= g->random << 17;
    return (uint32_t)(((g->random >> 32) * below) >> 32);
}

static void on_emit(void *ctx, void *cookie, const struct packet *pkt, enum packet_side out)
{
    struct rig *g = ctx;
    struct buffer *b = cookie;
    if (b->outward && !g->outer[b->flow].port)
        g->outer[b->flow] = flow_source(pkt->data);
    if (g->latency_ns && g->nlatency < LATENCY_SAMPLES)
        g->latency_ns[g->nlatency++] = wall_ns() - b->since_ns;
    g->free[g->nfree++] = (uint32_t)(b - g->buffers);
    g->emitted++;
}

static void on_drop(void *ctx, void *cookie, int reason)
{
    struct rig *g = ctx;
    g->free[g->nfree++] = (uint32_t)((struct buffer *)cookie - g->buffers);
    g->dropped++;
    g->reason = reason;
}

/* What replies made the engine ask for goes out, too. */
static void poll_engine(struct rig *g)
{
    engine_poll(g->engine, now_us());
    engine_flush(g->engine);
}

static void send_burst(struct rig *g, const uint32_t *flows, uint32_t n, bool outward)
{
    struct engine_packet burst[BURST];
    uint64_t since = g->latency_ns ? wall_ns() : 0;
    for (uint32_t i = 0; i < n; i++) {
        struct buffer *b = &g->buffers[g->free[--g->nfree]];
        b->flow = flows[i];
        b->outward = outward;
        b->since_ns = since;
        if (outward)
            flow_frame_out(b->data, b->flow);
        else
            flow_frame_in(b->data, g->outer[b->flow]);
        burst[i] = (struct engine_packet){b, b->data, FLOW_FRAME_BYTES, sizeof b->data};
    }
    engine_rx(g->engine, burst, n, outward ? SIDE_INSIDE : SIDE_OUTSIDE, now_us());
    engine_flush(g->engine);
}

static void check_drops(const struct rig *g)
{
    if (!g->dropped)
        return;
    fprintf(stderr, "\n%lu packets were dropped, reason %s: the figures would mean nothing\n",
            (unsigned long)g->dropped, engine_reason_text(g->engine, g->reason));
    exit(1);
}

static void drain(struct rig *g)
{
    while (engine_in_flight(g->engine))
        poll_engine(g);
    check_drops(g);
}

/* Opens `flows` mappings, one packet each. */
static void fill(struct rig *g)
{
    uint32_t batch[BURST], n = 0;
    for (uint32_t flow = 0; flow < g->flows; flow++) {
        batch[n++] = flow;
        if (n < BURST && flow + 1 < g->flows)
            continue;
        while (engine_room(g->engine) < n || g->nfree < n)
            poll_engine(g);
        send_burst(g, batch, n, true);
        poll_engine(g);
        n = 0;
    }
    drain(g);
    g->next_new = g->flows;
}

static void choose(struct rig *g, uint32_t *flows, uint32_t n, bool outward)
{
    for (uint32_t i = 0; i < n; i++) {
        bool fresh = outward && pick(g, NEW_ONE_IN / 2) == 0 && g->next_new < g->flows_max;
        flows[i] = fresh ? g->next_new++ : pick(g, g->flows);
    }
}

static void run_packets(struct rig *g, uint64_t packets)
{
    uint32_t flows[BURST];
    bool outward = true;
    uint64_t end = g->emitted + packets;
    while (g->emitted < end) {
        if (engine_room(g->engine) >= BURST && g->nfree >= BURST) {
            choose(g, flows, BURST, outward);
            send_burst(g, flows, BURST, outward);
            outward = !outward;
        }
        poll_engine(g);
    }
    drain(g);
}

static void run_paced(struct rig *g, double packets_per_s)
{
    uint64_t gap = (uint64_t)(1e9 / packets_per_s), next = wall_ns();
    uint32_t flow;
    bool outward = true;
    while (g->nlatency < LATENCY_SAMPLES) {
        if (wall_ns() >= next && engine_room(g->engine) && g->nfree) {
            choose(g, &flow, 1, outward);
            send_burst(g, &flow, 1, outward);
            outward = !outward;
            next += gap;
        }
        poll_engine(g);
    }
    drain(g);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static struct rig *rig_create(const struct nf_instance *nat, struct backend backend,
                              uint32_t flows, uint64_t packets)
{
    struct rig *g = calloc(1, sizeof *g);
    char err[240];
    g->flows = flows;
    g->flows_max = flows + (uint32_t)(packets / 50) + 1000;
    g->outer = calloc(g->flows_max, sizeof *g->outer);
    g->buffers = calloc(BUFFERS, sizeof *g->buffers);
    for (uint32_t i = 0; i < BUFFERS; i++)
        g->free[g->nfree++] = i;
    g->random = 0x9E3779B97F4A7C15u + flows;
    struct engine_config config = {.chain = {nat}, .nchain = 1, .backend = backend, .seed = 1,
                                   .ctx = g, .emit = on_emit, .drop = on_drop,
                                   .store_timeout_ms = 10000};
    if (engine_create(&config, &g->engine, err, sizeof err)) {
        fprintf(stderr, "engine: %s\n", err);
        exit(1);
    }
    return g;
}

static void rig_destroy(struct rig *g)
{
    engine_destroy(g->engine);
    free(g->outer);
    free(g->buffers);
    free(g->latency_ns);
    free(g);
}

static const char *size_name(uint32_t flows)
{
    return flows >= 1000000 ? "1m" : "10k";
}

/* One backend, one size, one run. */
static void measure(const struct settings *s, struct report *r, const struct nf_instance *nat,
                    enum peer_kind kind, uint32_t flows)
{
    char name[64];
    snprintf(name, sizeof name, "%s, %s mappings", peer_name(kind), size_name(flows));
    struct peer *p = peer_start(kind, s->store, s->out, flows + (uint32_t)(s->packets / 20));
    struct rig *g = rig_create(nat, peer_backend(p), flows, 2 * s->packets);
    peer_wait_ready(p);
    fill(g);
    run_packets(g, s->packets / 10);
    uint64_t cpu = peer_cpu_ns(p), mine = thread_cpu_ns(), wall = wall_ns(), n = g->emitted;
    run_packets(g, s->packets);
    n = g->emitted - n;
    wall = wall_ns() - wall;
    mine = thread_cpu_ns() - mine;
    cpu = peer_cpu_ns(p) - cpu;
    double rate = (double)n * 1e9 / (double)wall;
    report_add(r, name, "packets per worker core", "1/s", rate);
    report_add(r, name, "packets per CPU second, worker", "1/s", (double)n * 1e9 / (double)mine);
    report_add(r, name, "packets per CPU second, all", "1/s",
               (double)n * 1e9 / (double)(mine + cpu));
    g->latency_ns = calloc(LATENCY_SAMPLES, sizeof *g->latency_ns);
    run_paced(g, rate / 10);
    qsort(g->latency_ns, g->nlatency, sizeof *g->latency_ns, compare_u64);
    report_add(r, name, "latency p50 at 10 % of peak", "us",
               (double)g->latency_ns[g->nlatency / 2] / 1e3);
    report_add(r, name, "latency p99 at 10 % of peak", "us",
               (double)g->latency_ns[g->nlatency / 100 * 99] / 1e3);
    peer_stop(p); /* before the engine: late replies must find it */
    rig_destroy(g);
}

static void ratio(struct report *r, const char *name, const char *metric, const char *above,
                  const char *below, double hoped)
{
    report_ratio(r, name, report_median(r, above, metric) / report_median(r, below, metric), hoped);
}

static void ratios(struct report *r)
{
    const char *core = "packets per worker core", *all = "packets per CPU second, all";
    ratio(r, "nat_shm_over_local_10k", core, "shm, 10k mappings", "local, 10k mappings", 0.8);
    ratio(r, "nat_shm_over_local_1m", core, "shm, 1m mappings", "local, 1m mappings", 0.8);
    ratio(r, "nat_shm_over_local_10k_all_cpu", all, "shm, 10k mappings", "local, 10k mappings", 0);
    ratio(r, "nat_shm_over_local_1m_all_cpu", all, "shm, 1m mappings", "local, 1m mappings", 0);
    ratio(r, "nat_inproc_over_local_10k", core, "inproc, 10k mappings", "local, 10k mappings", 0.5);
    ratio(r, "nat_inproc_over_local_1m", core, "inproc, 1m mappings", "local, 1m mappings", 0.5);
    ratio(r, "nat_tcp_over_local_10k", core, "tcp, 10k mappings", "local, 10k mappings", 0);
}

static void note_latency(struct report *r, enum peer_kind kind)
{
    char name[64];
    snprintf(name, sizeof name, "%s, 10k mappings", peer_name(kind));
    double p50 = report_median(r, name, "latency p50 at 10 % of peak") -
                 report_median(r, "local, 10k mappings", "latency p50 at 10 % of peak");
    double p99 = report_median(r, name, "latency p99 at 10 % of peak") -
                 report_median(r, "local, 10k mappings", "latency p99 at 10 % of peak");
    report_note(r, "%s adds %.1f us (p50) and %.1f us (p99) to a packet, 10k mappings.",
                peer_name(kind), p50, p99);
}

static int usage(const char *self, int code)
{
    fprintf(code ? stderr : stdout,
            "usage: %s [--runs N] [--packets N] [--store PROGRAM] [--out DIR] [--only PEER]\n"
            "          [--size 10k|1m]\n"
            "Measures nat44 on a local table, on the store in a thread (inproc) and on the store\n"
            "in a process (shm, tcp), at 10 k and 1 M mappings. Writes DIR/nat.json. Defaults: 5 runs\n"
            "of 2000000 packets, build/release/statestore/lethe-store, build/bench. --only local,\n"
            "shm, inproc or tcp measures that one and writes nothing: for a profiler. So does --size.\n",
            self);
    return code;
}

int main(int argc, char **argv)
{
    struct settings s = {5, 2000000, "build/release/statestore/lethe-store", "build/bench", NULL, NULL};
    static const struct option options[] = {
        {"runs", 1, 0, 'r'},  {"packets", 1, 0, 'n'}, {"store", 1, 0, 'p'},
        {"out", 1, 0, 'o'},   {"help", 0, 0, 'h'},    {"only", 1, 0, 'y'},
        {"size", 1, 0, 's'},  {0, 0, 0, 0},
    };
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 's': s.size = optarg; break;
        case 'y': s.only = optarg; break;
        case 'r': s.runs = atoi(optarg); break;
        case 'n': s.packets = strtoull(optarg, NULL, 10); break;
        case 'p': s.store = optarg; break;
        case 'o': s.out = optarg; break;
        case 'h': return usage(argv[0], 0);
        default: return usage(argv[0], 2);
        }
    }
    if (s.runs < 1 || s.runs > 50 || s.packets < 1000 || optind != argc)
        return usage(argv[0], 2);
    mkdir(s.out, 0755);
    peer_environment();
    struct nf_instance *nat = peer_nat();
    pin_to_core(1);
    struct report *r = report_create("nat", "A NAT with its state elsewhere", s.runs);
    static const uint32_t sizes[] = {10000, 1000000};
    for (int run = 0; run < s.runs; run++)
        for (int size = 0; size < 2; size++)
            for (int kind = PEER_LOCAL; kind <= PEER_TCP; kind++) {
                if ((s.only && strcmp(s.only, peer_name(kind))) ||
                    (s.size && strcmp(s.size, size_name(sizes[size]))))
                    continue;
                report_progress("nat: run %d of %d, %s, %s mappings ...", run + 1, s.runs,
                                peer_name(kind), size_name(sizes[size]));
                measure(&s, r, nat, kind, sizes[size]);
            }
    if (s.only || s.size)
        return report_finish(r, NULL) ? 1 : 0;
    ratios(r);
    note_latency(r, PEER_SHM);
    note_latency(r, PEER_INPROC);
    note_latency(r, PEER_TCP);
    return report_finish(r, s.out) ? 1 : 0;
}
