/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Question "store": what does an operation on the state store cost, beside
 * redis-server (persistence off) on the same machine in the same run?
 *
 * One client thread on core 1, one single-threaded server on core 0, loopback
 * tcp, one connection, IN_FLIGHT batches outstanding with either server, so
 * that it is never idle for want of requests. A batch of N is N operations in
 * one frame (Lethe), in one write (redis pipeline), or one MGET. 16-byte keys,
 * 64-byte values, KEYS keys, uniform choice.
 *
 * Gets and all of redis go through one loop (wire_measure), the cheapest client
 * that either can have: requests are encoded beforehand, replies are all of one
 * known size and not parsed, but that they are no errors is seen; what one read
 * answered is asked anew by one write. That is to saturate the server and not
 * the client: a server that waits, spinning, is charged for its waiting. Our
 * cas needs the newest versions, so it goes through liblethe, which costs about
 * as much as the server; "by liblethe" does the same gets that way, to show
 * what a program sees.
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
#include <sys/uio.h>
#include <unistd.h>

#include "bench/process.h"
#include "bench/raw_client.h"
#include "bench/report.h"
#include "bench/store_peer.h"

enum { KEYS = 100000, KEY = 16, VALUE = 64, IN_FLIGHT = 64, BATCH_MAX = 64 };

struct settings {
    int runs;
    double seconds;
    const char *store, *out;
    int batch;                   /* 0: all of them */
    const char *only;            /* peers whose name begins so; NULL: all */
};

struct sample {
    double ops_per_s, server_us, client_us, backup_us;
};

static uint64_t rng_state = 88172645463325252u;
static uint32_t pick_key(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return (uint32_t)(rng_state >> 20) % KEYS;
}

static void key_of(uint32_t n, char key[KEY + 1])
{
    snprintf(key, KEY + 1, "key:%012u", n);
}

/* --- Lethe -------------------------------------------------------------------- */

struct lethe_peer {
    struct store_peer store;
    struct lethe_client *client;
    struct raw_client raw;       /* a second connection */
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

static const struct table_schema bench_schema = {.name = "bench.kv",
                                                 .kind = TABLE_HASH,
                                                 .version = 1,
                                                 .key_size = KEY,
                                                 .part_len = KEY,
                                                 .value_size = VALUE};

static struct lethe_peer *lethe_start(const struct settings *s, int backups)
{
    static struct lethe_peer peers[1 + STORE_BACKUPS_MAX];
    struct lethe_peer *p = &peers[backups];
    store_start(&p->store, s->store, s->out, backups);
    p->client = store_client(&p->store, 4096, &bench_schema, 1, &p->table);
    fill_keys(p);
    p->raw = raw_connect(p->store.port, &bench_schema);
    return p;
}

static void lethe_stop(struct lethe_peer *p)
{
    lethe_client_destroy(p->client);
    close(p->raw.fd);
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

/* --- requests made beforehand, replies counted ------------------------------------- */

enum { PREPARED = 256 };      /* used in turn */
enum wire_how { LETHE_GET, REDIS_GET, REDIS_MGET, REDIS_SET };

struct wire {
    enum wire_how how;
    int fd, batch;
    pid_t server, backup;        /* backup 0: none */
    const struct raw_client *raw; /* LETHE_GET */
    char *request[PREPARED];
    size_t length[PREPARED];
    int next;
    size_t reply_bytes, have;    /* of one batch; of the reply under way */
    char replies[1 << 16] __attribute__((aligned(8)));
};

static size_t encode_redis(char *out, enum wire_how how, int batch, uint32_t first_key)
{
    char *at = out, key[KEY + 1];
    if (how == REDIS_MGET)
        at += sprintf(at, "*%d\r\n$4\r\nMGET\r\n", batch + 1);
    for (int i = 0; i < batch; i++) {
        key_of(how == REDIS_SET ? (first_key + (uint32_t)i) % KEYS : pick_key(), key);
        if (how == REDIS_GET)
            at += sprintf(at, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", KEY, key);
        else if (how == REDIS_MGET)
            at += sprintf(at, "$%d\r\n%s\r\n", KEY, key);
        else
            at += sprintf(at, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%064d\r\n", KEY, key, VALUE,
                          7);
    }
    return (size_t)(at - out);
}

static size_t encode_lethe(char *out, const struct raw_client *raw, int batch)
{
    char keys[BATCH_MAX * KEY + 1];
    for (int i = 0; i < batch; i++)
        key_of(pick_key(), keys + i * KEY);
    return raw_encode_gets(raw, &bench_schema, keys, batch, out);
}

static size_t reply_bytes(enum wire_how how, int batch)
{
    size_t values = (size_t)batch * (5 + VALUE + 2); /* $64\r\n value \r\n */
    char head[16];
    switch (how) {
    case LETHE_GET: return raw_reply_bytes(&bench_schema, batch);
    case REDIS_SET: return (size_t)batch * 5; /* +OK\r\n */
    case REDIS_MGET: return values + (size_t)sprintf(head, "*%d\r\n", batch);
    case REDIS_GET: break;
    }
    return values;
}

static void wire_prepare(struct wire *w)
{
    for (int i = 0; i < PREPARED; i++) {
        w->request[i] = aligned_alloc(8, (256 * (size_t)w->batch + 64 + 7) & ~(size_t)7);
        w->length[i] = w->how == LETHE_GET
                           ? encode_lethe(w->request[i], w->raw, w->batch)
                           : encode_redis(w->request[i], w->how, w->batch, (uint32_t)(i * w->batch));
    }
    w->reply_bytes = reply_bytes(w->how, w->batch);
}

static void write_all(int fd, const char *data, size_t n)
{
    while (n) {
        ssize_t w = write(fd, data, n);
        if (w <= 0) {
            perror("write");
            exit(1);
        }
        data += w;
        n -= (size_t)w;
    }
}

/* Some batches by one system call. */
static void wire_send(struct wire *w, int batches)
{
    struct iovec parts[IN_FLIGHT] = {{0}};
    for (int k = 0; k < batches; k++) {
        int i = w->next++ % PREPARED;
        parts[k] = (struct iovec){w->request[i], w->length[i]};
    }
    ssize_t sent = writev(w->fd, parts, batches);
    if (sent < 0) {
        perror("writev");
        exit(1);
    }
    for (int k = 0; k < batches; k++) { /* what a short write left */
        size_t done = (size_t)sent < parts[k].iov_len ? (size_t)sent : parts[k].iov_len;
        sent -= (ssize_t)done;
        write_all(w->fd, (char *)parts[k].iov_base + done, parts[k].iov_len - done);
    }
}

static void wire_check(const struct wire *w, const char *reply)
{
    if (w->how == LETHE_GET ? raw_reply_ok(&bench_schema, w->batch, reply) : *reply != '-')
        return;
    fprintf(stderr, "\na request failed: %.80s\n", w->how == LETHE_GET ? "lethe get" : reply);
    exit(1);
}

/* Reads once; how many batches are answered by it. */
static int wire_read(struct wire *w)
{
    ssize_t n = read(w->fd, w->replies + w->have, sizeof w->replies - w->have);
    if (n <= 0) {
        perror("read");
        exit(1);
    }
    size_t end = w->have + (size_t)n, at = 0;
    int batches = 0;
    for (; end - at >= w->reply_bytes; at += w->reply_bytes, batches++)
        wire_check(w, w->replies + at);
    w->have = end - at;
    memmove(w->replies, w->replies + at, w->have);
    return batches;
}

/* Clocks at one moment. */
struct reading {
    uint64_t wall, server, backup, mine, batches;
};

static struct reading reading_of(const struct wire *w, uint64_t batches)
{
    return (struct reading){wall_ns(), process_cpu_ns(w->server),
                            w->backup ? process_cpu_ns(w->backup) : 0, thread_cpu_ns(), batches};
}

static struct sample wire_measure(struct wire *w, double seconds)
{
    struct reading from = {0}, to = {0};
    uint64_t batches = 0, warm_until = wall_ns() + (uint64_t)(seconds * 2e8);
    int outstanding = IN_FLIGHT;
    wire_prepare(w);
    wire_send(w, IN_FLIGHT);
    while (outstanding) {
        int answered = wire_read(w);
        batches += (uint64_t)answered;
        if (to.wall)
            outstanding -= answered;
        else if (answered)
            wire_send(w, answered);
        uint64_t now = wall_ns();
        if (!from.wall && now >= warm_until)
            from = reading_of(w, batches);
        else if (from.wall && !to.wall && now >= from.wall + (uint64_t)(seconds * 1e9))
            to = reading_of(w, batches);
    }
    for (int i = 0; i < PREPARED; i++)
        free(w->request[i]);
    double ops = (double)(to.batches - from.batches) * w->batch;
    return (struct sample){ops / ((double)(to.wall - from.wall) / 1e9),
                           (double)(to.server - from.server) / 1e3 / ops,
                           (double)(to.mine - from.mine) / 1e3 / ops,
                           (double)(to.backup - from.backup) / 1e3 / ops};
}

static struct sample raw_measure(const struct lethe_peer *p, int batch, double seconds)
{
    struct wire w = {.how = LETHE_GET, .fd = p->raw.fd, .batch = batch, .server = p->store.node[0],
                     .backup = p->store.nodes > 1 ? p->store.node[1] : 0, .raw = &p->raw};
    return wire_measure(&w, seconds);
}

/* --- redis ---------------------------------------------------------------------- */

struct redis_peer {
    pid_t pid;
    int fd;
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
    r.fd = connect_port(n);
    return r;
}

static struct sample redis_measure(const struct redis_peer *r, enum wire_how how, int batch,
                                   double seconds)
{
    struct wire w = {.how = how, .fd = r->fd, .batch = batch, .server = r->pid};
    return wire_measure(&w, seconds);
}

static void redis_fill(struct redis_peer *r)
{
    static char request[1 << 16], reply[4096];
    for (uint32_t n = 0; n < KEYS; n += BATCH_MAX) {
        write_all(r->fd, request, encode_redis(request, REDIS_SET, BATCH_MAX, n));
        for (size_t want = reply_bytes(REDIS_SET, BATCH_MAX); want;) {
            ssize_t got = read(r->fd, reply, want);
            if (got <= 0)
                exit(1);
            want -= (size_t)got;
        }
    }
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

static const int batches[] = {1, 16, 64};

static void one_run(const struct settings *s, struct report *r, int run)
{
    struct lethe_peer *alone = lethe_start(s, 0), *pair = lethe_start(s, 1);
    struct redis_peer redis = redis_start(s);
    redis_fill(&redis);
    for (int i = 0; i < 3; i++) {
        int b = batches[i];
        if (s->batch && s->batch != b)
            continue;
        report_progress("store: run %d of %d, batch %d ...", run + 1, s->runs, b);
#define POINT(peer, sample)                                                                       \
    if (!s->only || !strcmp(s->only, peer))                                                       \
    add(r, peer, b, sample)
        POINT("lethe get", raw_measure(alone, b, s->seconds));
        POINT("redis GET pipelined", redis_measure(&redis, REDIS_GET, b, s->seconds));
        POINT("redis MGET", redis_measure(&redis, REDIS_MGET, b, s->seconds));
        POINT("lethe get, with backup", raw_measure(pair, b, s->seconds));
        POINT("lethe get by liblethe", lethe_measure(alone, b, false, s->seconds));
        POINT("lethe cas", lethe_measure(alone, b, true, s->seconds));
        POINT("lethe cas, with backup", lethe_measure(pair, b, true, s->seconds));
        POINT("redis SET pipelined", redis_measure(&redis, REDIS_SET, b, s->seconds));
#undef POINT
    }
    lethe_stop(alone);
    lethe_stop(pair);
    close(redis.fd);
    process_stop(redis.pid);
}

static double better_redis(const struct report *r, int batch)
{
    char get[64], mget[64];
    const char *cost = "server CPU per operation";
    snprintf(get, sizeof get, "redis GET pipelined batch %d", batch);
    snprintf(mget, sizeof mget, "redis MGET batch %d", batch);
    double a = report_median(r, get, cost), b = report_median(r, mget, cost);
    return a < b ? a : b;
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
    for (int b = 1; b <= 64; b = b == 1 ? 16 : b * 4) {
        static char names[3][48];
        char *name = names[b == 1 ? 0 : b == 16 ? 1 : 2], ours[64];
        snprintf(name, sizeof names[0], "redis_cpu_over_store_tcp_batch%d", b);
        snprintf(ours, sizeof ours, "lethe get batch %d", b);
        if ((s.batch && s.batch != b) || s.only)
            continue;
        report_ratio(r, name,
                     better_redis(r, b) / report_median(r, ours, "server CPU per operation"),
                     b == 16 ? 2 : 0);
    }
    report_note(r, "redis: the better of pipelined GET and MGET; persistence off. Its SET is not "
                   "conditional and waits for no replica; our cas is and does.");
    report_note(r, "With a backup, backup and client share core 1, the primary has core 0.");
    return report_finish(r, s.out) ? 1 : 0;
}
