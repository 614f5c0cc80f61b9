/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Question "memory": what does an entry cost in resident memory, beside
 * redis-server? ENTRIES keys of KEY bytes with values of VALUE bytes and a
 * time-out each; lethe-store standalone, redis-server without persistence. An
 * entry's cost is the growth of the process's VmRSS from before the first to
 * after the last, divided by their number.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/process.h"
#include "bench/report.h"
#include "bench/store_peer.h"

enum { KEY = 13, VALUE = 64, TIMEOUT_MS = 3600000, PIPELINE = 100 };

struct settings {
    int runs;
    long entries;
    const char *store, *out;
};

static const struct table_schema schema = {.name = "bench.memory", .kind = TABLE_HASH, .version = 1,
                                           .key_size = KEY, .part_len = KEY, .value_size = VALUE,
                                           .timeout_ms = TIMEOUT_MS};

static double rss_kb(pid_t pid)
{
    char path[64], line[200];
    double kb = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmRSS: %lf", &kb) == 1)
            break;
    if (f)
        fclose(f);
    return kb;
}

static void key_of(uint64_t n, char key[KEY])
{
    store_digits(key, KEY, n);
}

/* Not all zeros, and no two alike: nobody may share them. */
static void value_of(uint64_t n, char value[VALUE])
{
    store_digits(value, VALUE, n);
}

/* --- Lethe -------------------------------------------------------------------------------- */

static uint8_t insert_slot(void *ctx, uint64_t i)
{
    (void)ctx;
    char key[KEY];
    key_of(i, key);
    return slot_of(key, KEY);
}

static void insert_build(void *ctx, uint64_t i, struct lethe_txn *t)
{
    char key[KEY], value[VALUE];
    key_of(i, key);
    value_of(i, value);
    lethe_txn_insert(t, *(int *)ctx, key, value, 0);
}

static double lethe_bytes(const struct settings *s)
{
    struct store_peer p;
    int table;
    store_start(&p, s->store, s->out, 0);
    struct lethe_client *c = store_client(&p, 4096, &schema, 1, &table);
    double before = rss_kb(p.node[0]);
    struct store_job job = {insert_slot, insert_build, NULL, &table, 0};
    uint64_t failed = store_run(c, &job, (uint64_t)s->entries);
    double after = rss_kb(p.node[0]);
    lethe_client_destroy(c);
    store_stop(&p);
    if (failed) {
        fprintf(stderr, "\n%lu inserts failed\n", (unsigned long)failed);
        exit(1);
    }
    return (after - before) * 1024 / (double)s->entries;
}

/* --- redis ---------------------------------------------------------------------------------- */

static void redis_exchange(int fd, const char *request, size_t bytes, int replies)
{
    char reply[PIPELINE * 5];
    while (bytes) {
        ssize_t n = write(fd, request, bytes);
        if (n <= 0)
            exit(1);
        request += n, bytes -= (size_t)n;
    }
    for (size_t want = (size_t)replies * 5; want;) { /* +OK\r\n */
        ssize_t n = read(fd, reply, want);
        if (n <= 0 || reply[0] == '-') {
            fprintf(stderr, "\nredis-server refuses a SET\n");
            exit(1);
        }
        want -= (size_t)n;
    }
}

static double redis_bytes(const struct settings *s)
{
    char port[16], log[256], key[KEY], value[VALUE], request[PIPELINE * 160];
    int number = free_port(1);
    snprintf(port, sizeof port, "%d", number);
    snprintf(log, sizeof log, "%s/redis.log", s->out);
    const char *argv[] = {"redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
                          "--appendonly", "no", NULL};
    pid_t pid = process_start(argv, 0, log);
    int fd = connect_port(number);
    double before = rss_kb(pid);
    for (uint64_t i = 0; i < (uint64_t)s->entries;) {
        char *at = request;
        int n = 0;
        for (; n < PIPELINE && i < (uint64_t)s->entries; n++, i++) {
            key_of(i, key);
            value_of(i, value);
            at += sprintf(at, "*5\r\n$3\r\nSET\r\n$%d\r\n%.*s\r\n$%d\r\n%.*s\r\n$2\r\nPX\r\n$7\r\n%d\r\n",
                          KEY, KEY, key, VALUE, VALUE, value, TIMEOUT_MS);
        }
        redis_exchange(fd, request, (size_t)(at - request), n);
    }
    double after = rss_kb(pid);
    close(fd);
    process_stop(pid);
    return (after - before) * 1024 / (double)s->entries;
}

static int usage(const char *self, int code)
{
    fprintf(code ? stderr : stdout,
            "usage: %s [--runs N] [--entries N] [--store PROGRAM] [--out DIR]\n"
            "Resident memory of an entry in lethe-store and in redis-server. Writes\n"
            "DIR/memory.json. Defaults: 3 runs of 1000000, %s, %s.\n",
            self, STORE_PROGRAM, BENCH_OUT);
    return code;
}

int main(int argc, char **argv)
{
    struct settings s = {3, 1000000, STORE_PROGRAM, BENCH_OUT};
    static const struct option options[] = {
        {"runs", 1, 0, 'r'}, {"entries", 1, 0, 'e'}, {"store", 1, 0, 'p'},
        {"out", 1, 0, 'o'},  {"help", 0, 0, 'h'},    {0, 0, 0, 0},
    };
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'r': s.runs = atoi(optarg); break;
        case 'e': s.entries = atol(optarg); break;
        case 'p': s.store = optarg; break;
        case 'o': s.out = optarg; break;
        case 'h': return usage(argv[0], 0);
        default: return usage(argv[0], 2);
        }
    }
    if (s.runs < 1 || s.runs > 50 || s.entries < 1000 || optind != argc)
        return usage(argv[0], 2);
    mkdir(s.out, 0755);
    pin_to_core(1);
    struct report *r = report_create("memory", "Resident memory of an entry", s.runs);
    for (int run = 0; run < s.runs; run++) {
        report_progress("memory: run %d of %d ...", run + 1, s.runs);
        report_add(r, "lethe-store", "memory per entry", "bytes", lethe_bytes(&s));
        report_add(r, "redis-server", "memory per entry", "bytes", redis_bytes(&s));
    }
    report_ratio(r, "redis_rss_over_store_rss_per_entry",
                 report_median(r, "redis-server", "memory per entry") /
                     report_median(r, "lethe-store", "memory per entry"), 1.33);
    report_note(r, "%ld entries: %d-byte key, %d-byte value, a time-out each. Ours keeps a version, "
                   "a checksum and what replication needs with each.", s.entries, KEY, VALUE);
    return report_finish(r, s.out) ? 1 : 0;
}
