/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Question "store": what does an operation on the state store cost, beside
 * redis-server (persistence off) on the same machine in the same run?
 *
 * One client thread on core 1, one single-threaded server on core 0, loopback
 * tcp or (ours only) shared memory. A batch of N is N operations in one frame
 * (Lethe), in one write (redis pipeline), or one MGET. 16-byte keys, 64-byte
 * values, KEYS keys, uniform choice. Two shapes, either keeps IN_FLIGHT batches
 * outstanding, so that no server is idle for want of requests:
 *
 *   one connection   what one read answered is asked anew by one write. The
 *                    server, too, reads many batches at once: it pays for a
 *                    system call once for dozens of them, whatever N is.
 *   64 conns         one batch on each of them, as many programs that wait for
 *                    their answers do; what `redis-benchmark -P N -c 64` does.
 *
 * The load is wire_load.h's, the cheapest client that either server can have: it
 * is to saturate the server and not the client, for a server that waits, spinning,
 * is charged for its waiting. Our cas needs the newest versions, so it goes
 * through liblethe, which costs about as much as the server; "by liblethe" does
 * the same gets that way, to show what a program sees.
 *
 * Peers alternate within every run; a server's cost is its own CPU clock over
 * the measured interval, divided by the operations answered in it.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/process.h"
#include "bench/report.h"
#include "bench/store_peer.h"
#include "bench/wire_load.h"

struct settings {
    int runs;
    double seconds;
    const char *store, *out;
    int batch;                   /* 0: all of them */
    const char *only;            /* peers whose name begins so; NULL: all */
};

/* --- Lethe -------------------------------------------------------------------- */

struct lethe_peer {
    struct store_peer store;
    struct lethe_client *client;
    struct raw_client raw[CROWD]; /* more connections, by the same transport */
    int table;
    bool writes;
    int batch;
    int left[IN_FLIGHT];         /* operations of a batch still unanswered */
    uint64_t done, failed;
    uint64_t versions[KEYS];
};

struct op_ref {
    struct lethe_peer *peer;
    uint32_t key;
    int batch;
};
static struct op_ref op_refs[IN_FLIGHT][BATCH_MAX];

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void on_done(void *user, const struct txn_result_head *h)
{
    struct op_ref *ref = user;
    struct lethe_peer *p = ref->peer;
    const struct txn_result *r = txn_result_of(h, 0);
    if (h->status != TXN_OK || !r)
        p->failed++;
    if (r)
        p->versions[ref->key] = r->version;
    p->done++;
    p->left[ref->batch]--;
}

static void submit_op(struct lethe_peer *p, int batch, int i, uint32_t n, int code)
{
    char key[KEY + 1];
    static const char value[VALUE] = "value";
    key_of(n, key);
    struct op_ref *ref = &op_refs[batch][i];
    *ref = (struct op_ref){p, n, batch};
    struct lethe_txn *t = lethe_txn_begin(p->client, slot_of(key, KEY), on_done, ref);
    if (!t) {
        fprintf(stderr, "the client's window is smaller than the bench needs\n");
        exit(1);
    }
    if (code == TXN_INSERT)
        lethe_txn_insert(t, p->table, key, value, 0);
    else if (code == TXN_CAS)
        lethe_txn_cas(t, p->table, key, p->versions[n], value, 0);
    else
        lethe_txn_get(t, p->table, key, 0);
    lethe_txn_submit(t);
}

static void fill_keys(struct lethe_peer *p)
{
    for (uint32_t n = 0; n < KEYS;) {
        int m = 0;
        for (; m < BATCH_MAX && n < KEYS; m++, n++)
            submit_op(p, 0, m, n, TXN_INSERT);
        p->left[0] = m;
        lethe_flush(p->client);
        while (p->left[0] > 0)
            store_poll(p->client);
    }
}

static struct lethe_peer *lethe_start(const struct settings *s, int backups)
{
    static struct lethe_peer peers[1 + STORE_BACKUPS_MAX];
    struct lethe_peer *p = &peers[backups];
    store_start(&p->store, s->store, s->out, backups);
    p->client = store_client(&p->store, 4096, &bench_schema, 1, &p->table);
    fill_keys(p);
    for (int i = 0; i < CROWD; i++)
        p->raw[i] = raw_connect(p->store.port, &bench_schema);
    return p;
}

/* The same store by shared memory. */
static struct lethe_peer *lethe_shm(const struct lethe_peer *tcp)
{
    static struct lethe_peer peer;
    struct lethe_peer *p = &peer;
    char socket[sizeof p->store.shm + 2];
    p->store = tcp->store;
    p->client = store_client_shm(&p->store, 4096, &bench_schema, 1, &p->table);
    snprintf(socket, sizeof socket, "%.*s.0", (int)sizeof p->store.shm - 1, p->store.shm);
    for (int i = 0; i < CROWD; i++)
        p->raw[i] = raw_connect_shm(socket, &bench_schema);
    return p;
}

static void lethe_leave(struct lethe_peer *p)
{
    lethe_client_destroy(p->client);
    for (int i = 0; i < CROWD; i++)
        raw_close(&p->raw[i]);
}

static void lethe_stop(struct lethe_peer *p)
{
    lethe_leave(p);
    store_stop(&p->store);
}

static void refill(struct lethe_peer *p, int batch)
{
    static uint32_t next_write; /* writes go round, so none is twice in flight */
    for (int i = 0; i < p->batch; i++)
        submit_op(p, batch, i, p->writes ? next_write++ % KEYS : pick_key(),
                  p->writes ? TXN_CAS : TXN_GET);
    p->left[batch] = p->batch;
    lethe_flush(p->client);
}

static struct sample lethe_measure(struct lethe_peer *p, int batch, bool writes, double seconds)
{
    p->batch = batch;
    p->writes = writes;
    p->failed = 0;
    uint64_t warm_until = wall_ns() + (uint64_t)(seconds * 2e8), end = 0, t0 = 0, c0 = 0, b0 = 0;
    uint64_t mine0 = 0, done0 = 0;
    for (int i = 0; i < IN_FLIGHT; i++)
        refill(p, i);
    for (;;) {
        store_poll(p->client);
        for (int i = 0; i < IN_FLIGHT; i++)
            if (p->left[i] == 0)
                refill(p, i);
        uint64_t now = wall_ns();
        if (!end && now >= warm_until) {
            t0 = now, end = now + (uint64_t)(seconds * 1e9), done0 = p->done;
            c0 = process_cpu_ns(p->store.node[0]), mine0 = thread_cpu_ns();
            b0 = p->store.nodes > 1 ? process_cpu_ns(p->store.node[1]) : 0;
        } else if (end && now >= end) {
            break;
        }
    }
    double ops = (double)(p->done - done0), wall = (double)(wall_ns() - t0) / 1e9;
    struct sample s = {ops / wall, (double)(process_cpu_ns(p->store.node[0]) - c0) / 1e3 / ops,
                       (double)(thread_cpu_ns() - mine0) / 1e3 / ops,
                       p->store.nodes > 1 ? (double)(process_cpu_ns(p->store.node[1]) - b0) / 1e3 / ops : 0};
    for (int i = 0; i < IN_FLIGHT; i++)
        while (p->left[i] > 0)
            store_poll(p->client);
    if (p->failed) {
        fprintf(stderr, "%lu operations failed\n", (unsigned long)p->failed);
        exit(1);
    }
    return s;
}

/* --- the load of wire_load.h ------------------------------------------------------ */

static struct wire raw_wire(const struct lethe_peer *p, int conn, int batch)
{
    return (struct wire){.how = LETHE_GET, .batch = batch, .server = p->store.node[0],
                         .backup = p->store.nodes > 1 ? p->store.node[1] : 0, .raw = &p->raw[conn]};
}

static struct sample raw_measure(const struct lethe_peer *p, int batch, double seconds)
{
    struct wire w = raw_wire(p, 0, batch);
    return wire_measure(&w, seconds);
}

static struct sample raw_crowd(const struct lethe_peer *p, int batch, double seconds)
{
    struct wire w[CROWD];
    for (int i = 0; i < CROWD; i++)
        w[i] = raw_wire(p, i, batch);
    return wire_measure_crowd(w, CROWD, seconds);
}

/* --- redis ---------------------------------------------------------------------- */

struct redis_peer {
    pid_t pid;
    int fd[CROWD];
};

static struct redis_peer redis_start(const struct settings *s)
{
    char port[16], log[256];
    struct redis_peer r;
    int n = free_port(1);
    snprintf(port, sizeof port, "%d", n);
    snprintf(log, sizeof log, "%s/redis.log", s->out);
    const char *argv[] = {"redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
                          "--appendonly", "no", NULL};
    r.pid = process_start(argv, 0, log);
    for (int i = 0; i < CROWD; i++)
        r.fd[i] = connect_port(n);
    return r;
}

static struct wire redis_wire(const struct redis_peer *r, int conn, enum wire_how how, int batch)
{
    return (struct wire){.how = how, .fd = r->fd[conn], .batch = batch, .server = r->pid};
}

static struct sample redis_measure(const struct redis_peer *r, enum wire_how how, int batch,
                                   double seconds)
{
    struct wire w = redis_wire(r, 0, how, batch);
    return wire_measure(&w, seconds);
}

/* --- the bench -------------------------------------------------------------------- */

static void add(struct report *r, const char *peer, int batch, struct sample s)
{
    char name[64];
    snprintf(name, sizeof name, "%s batch %d", peer, batch);
    report_add(r, name, "operations", "1/s", s.ops_per_s);
    report_add(r, name, "server CPU per operation", "us", s.server_us);
    report_add(r, name, "client CPU per operation", "us", s.client_us);
    if (s.backup_us > 0)
        report_add(r, name, "backup CPU per operation", "us", s.backup_us);
}

static struct sample redis_crowd(const struct redis_peer *r, enum wire_how how, int batch,
                                 double seconds)
{
    struct wire w[CROWD];
    for (int i = 0; i < CROWD; i++)
        w[i] = redis_wire(r, i, how, batch);
    return wire_measure_crowd(w, CROWD, seconds);
}

/* --- one get at a time ---------------------------------------------------------------- */

static double lethe_latency_us(struct lethe_peer *p, int samples)
{
    static uint64_t took[100000];
    p->batch = 1;
    p->writes = false;
    for (int i = 0; i < samples; i++) {
        uint64_t since = wall_ns();
        refill(p, 0);
        while (p->left[0])
            lethe_poll(p->client, wall_ns() / 1000);
        took[i] = wall_ns() - since;
    }
    qsort(took, (size_t)samples, sizeof *took, compare_u64);
    return (double)took[samples / 2] / 1e3;
}

/* Servers spin or sleep as they do; the client both, where there is a choice. */
static void latencies(const struct settings *s, struct report *r, struct lethe_peer *tcp,
                      struct lethe_peer *shm, const struct redis_peer *redis)
{
    const char *metric = "latency p50, one get at a time";
    int samples = (int)(s->seconds * 40000) + 1;
    struct wire of_shm = raw_wire(shm, 0, 1), of_tcp = raw_wire(tcp, 0, 1);
    struct wire of_redis = redis_wire(redis, 0, REDIS_GET, 1);
    if (samples > 100000)
        samples = 100000;
    report_add(r, "redis GET, client sleeps", metric, "us", wire_latency_us(&of_redis, samples, false));
    report_add(r, "lethe get, shm", metric, "us", wire_latency_us(&of_shm, samples, true));
    report_add(r, "redis GET, client spins", metric, "us", wire_latency_us(&of_redis, samples, true));
    report_add(r, "lethe get by liblethe, shm", metric, "us", lethe_latency_us(shm, samples));
    report_add(r, "lethe get, client sleeps", metric, "us", wire_latency_us(&of_tcp, samples, false));
    report_add(r, "lethe get, client spins", metric, "us", wire_latency_us(&of_tcp, samples, true));
}

static const int batches[] = {1, 16, 64};

static void one_run(const struct settings *s, struct report *r, int run)
{
    struct lethe_peer *alone = lethe_start(s, 0), *shm = lethe_shm(alone), *pair = lethe_start(s, 1);
    struct redis_peer redis = redis_start(s);
    wire_fill_redis(redis.fd[0]);
    for (int i = 0; i < 3; i++) {
        int b = batches[i];
        if (s->batch && s->batch != b)
            continue;
        report_progress("store: run %d of %d, batch %d ...", run + 1, s->runs, b);
#define POINT(peer, sample)                                                                       \
    if (!s->only || !strcmp(s->only, peer))                                                       \
    add(r, peer, b, sample)
        POINT("lethe get", raw_measure(alone, b, s->seconds));
        POINT("lethe get, shm", raw_measure(shm, b, s->seconds));
        POINT("redis GET pipelined", redis_measure(&redis, REDIS_GET, b, s->seconds));
        POINT("redis MGET", redis_measure(&redis, REDIS_MGET, b, s->seconds));
        POINT("lethe get, with backup", raw_measure(pair, b, s->seconds));
        POINT("lethe get by liblethe", lethe_measure(alone, b, false, s->seconds));
        POINT("lethe get by liblethe, shm", lethe_measure(shm, b, false, s->seconds));
        POINT("lethe cas", lethe_measure(alone, b, true, s->seconds));
        POINT("lethe cas, with backup", lethe_measure(pair, b, true, s->seconds));
        POINT("64 conns: lethe get", raw_crowd(alone, b, s->seconds));
        POINT("64 conns: lethe get, shm", raw_crowd(shm, b, s->seconds));
        POINT("64 conns: redis GET", redis_crowd(&redis, REDIS_GET, b, s->seconds));
        POINT("64 conns: redis MGET", redis_crowd(&redis, REDIS_MGET, b, s->seconds));
        POINT("redis SET pipelined", redis_measure(&redis, REDIS_SET, b, s->seconds));
#undef POINT
    }
    if (!s->batch || s->batch == 1)
        latencies(s, r, alone, shm, &redis);
    lethe_leave(shm);
    lethe_stop(alone);
    lethe_stop(pair);
    for (int i = 0; i < CROWD; i++)
        close(redis.fd[i]);
    process_stop(redis.pid);
}

static double lesser(double a, double b)
{
    return a < b ? a : b;
}

/* CPU per get of redis, the better of its two ways, over ours. */
static double redis_over(const struct report *r, const char *crowd, const char *ours, int batch)
{
    static const char cost[] = "server CPU per operation";
    char get[64], mget[64], lethe[64];
    snprintf(get, sizeof get, "%sredis GET%s batch %d", crowd, *crowd ? "" : " pipelined", batch);
    snprintf(mget, sizeof mget, "%sredis MGET batch %d", crowd, batch);
    snprintf(lethe, sizeof lethe, "%s%s batch %d", crowd, ours, batch);
    return lesser(report_median(r, get, cost), report_median(r, mget, cost)) /
           report_median(r, lethe, cost);
}

static void ratios(const struct settings *s, struct report *r)
{
    static const struct {
        const char *name, *crowd, *ours;
        int batch;
        double hoped;
    } rows[] = {
        {"redis_cpu_over_store_tcp_batch1", "", "lethe get", 1, 0},
        {"redis_cpu_over_store_tcp_batch16", "", "lethe get", 16, 2},
        {"redis_cpu_over_store_tcp_batch64", "", "lethe get", 64, 0},
        {"redis_cpu_over_store_shm_batch1", "", "lethe get, shm", 1, 0},
        {"redis_cpu_over_store_shm_batch16", "", "lethe get, shm", 16, 12},
        {"redis_cpu_over_store_shm_batch64", "", "lethe get, shm", 64, 0},
        {"redis_cpu_over_store_tcp_batch1_64conns", "64 conns: ", "lethe get", 1, 0},
        {"redis_cpu_over_store_tcp_batch16_64conns", "64 conns: ", "lethe get", 16, 0},
        {"redis_cpu_over_store_tcp_batch64_64conns", "64 conns: ", "lethe get", 64, 0},
        {"redis_cpu_over_store_shm_batch1_64conns", "64 conns: ", "lethe get, shm", 1, 0},
        {"redis_cpu_over_store_shm_batch16_64conns", "64 conns: ", "lethe get, shm", 16, 0},
        {"redis_cpu_over_store_shm_batch64_64conns", "64 conns: ", "lethe get, shm", 64, 0},
    };
    static const char p50[] = "latency p50, one get at a time";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!s->batch || s->batch == rows[i].batch)
            report_ratio(r, rows[i].name,
                         redis_over(r, rows[i].crowd, rows[i].ours, rows[i].batch), rows[i].hoped);
    if (!s->batch || s->batch == 1)
        report_ratio(r, "redis_p50_over_store_shm_single",
                     lesser(report_median(r, "redis GET, client sleeps", p50),
                            report_median(r, "redis GET, client spins", p50)) /
                         report_median(r, "lethe get, shm", p50), 25);
}

static int usage(const char *self, int code)
{
    fprintf(code ? stderr : stdout,
            "usage: %s [--runs N] [--seconds S] [--batch 1|16|64] [--only NAME] [--store PROGRAM]\n"
            "          [--out DIR]\n"
            "Measures operations/s and CPU per operation of lethe-store, with and without a\n"
            "backup, beside redis-server. Writes DIR/store.json. Defaults: 5 runs of 0.5 s a\n"
            "point, build/release/statestore/lethe-store, build/bench.\n",
            self);
    return code;
}

int main(int argc, char **argv)
{
    struct settings s = {.runs = 5, .seconds = 0.5, .store = "build/release/statestore/lethe-store",
                         .out = "build/bench"};
    static const struct option options[] = {
        {"runs", 1, 0, 'r'},  {"seconds", 1, 0, 's'}, {"store", 1, 0, 'p'},
        {"out", 1, 0, 'o'},   {"help", 0, 0, 'h'},    {"batch", 1, 0, 'b'},
        {"only", 1, 0, 'n'},  {0, 0, 0, 0},
    };
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'r': s.runs = atoi(optarg); break;
        case 's': s.seconds = atof(optarg); break;
        case 'p': s.store = optarg; break;
        case 'o': s.out = optarg; break;
        case 'b': s.batch = atoi(optarg); break;
        case 'n': s.only = optarg; break;
        case 'h': return usage(argv[0], 0);
        default: return usage(argv[0], 2);
        }
    }
    if (s.runs < 1 || s.runs > 50 || s.seconds <= 0 || optind != argc)
        return usage(argv[0], 2);
    mkdir(s.out, 0755);
    pin_to_core(1);
    struct report *r = report_create("store", "State store beside redis-server", s.runs);
    for (int run = 0; run < s.runs; run++)
        one_run(&s, r, run);
    if (!s.only)
        ratios(&s, r);
    report_note(r, "redis: the better of pipelined GET and MGET; persistence off. Its SET is not "
                   "conditional and waits for no replica; our cas is and does.");
    report_note(r, "With a backup, backup and client share core 1, the primary has core 0.");
    return report_finish(r, s.out) ? 1 : 0;
}
