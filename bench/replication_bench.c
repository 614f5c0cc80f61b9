/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Question "replication": what does it cost that a write is acknowledged only
 * when every backup has it? lethe-store alone, with one and with two backups;
 * one client by liblethe; inserts of new 16-byte keys with 64-byte values into
 * a table that is replicated synchronously: one at a time (latency) and many
 * outstanding (throughput).
 *
 * The primary has core 0, client and backups share core 1: on two cores the
 * backups' own work is part of what is measured.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/process.h"
#include "bench/report.h"
#include "bench/store_peer.h"

enum { KEY = 16, VALUE = 64, OUTSTANDING = 256 };

struct settings {
    int runs, backups;
    long writes;              /* of one throughput point; a twentieth, one at a time */
    const char *store, *out;
};

static const struct table_schema schema = {.name = "bench.replication", .kind = TABLE_HASH,
                                           .version = 1, .key_size = KEY, .part_len = KEY,
                                           .value_size = VALUE};

struct inserts {
    int table;
    uint64_t first;           /* number of the first key */
    uint64_t begun_ns, *took_ns; /* one at a time: of each; else NULL */
};

static uint8_t insert_slot(void *ctx, uint64_t i)
{
    char key[KEY];
    store_digits(key, KEY, ((struct inserts *)ctx)->first + i);
    return slot_of(key, KEY);
}

static void insert_build(void *ctx, uint64_t i, struct lethe_txn *t)
{
    struct inserts *in = ctx;
    char key[KEY], value[VALUE];
    store_digits(key, KEY, in->first + i);
    store_digits(value, VALUE, i);
    in->begun_ns = wall_ns();
    lethe_txn_insert(t, in->table, key, value, 0);
}

static void insert_done(void *ctx, uint64_t i, const struct txn_result_head *h)
{
    struct inserts *in = ctx;
    (void)h;
    if (in->took_ns)
        in->took_ns[i] = wall_ns() - in->begun_ns;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void inserts(struct lethe_client *c, struct inserts *in, uint64_t n, uint32_t outstanding)
{
    struct store_job job = {insert_slot, insert_build, insert_done, in, outstanding};
    uint64_t failed = store_run(c, &job, n);
    in->first += n;
    if (failed) {
        fprintf(stderr, "\n%lu inserts failed\n", (unsigned long)failed);
        exit(1);
    }
}

static uint64_t cpu_of(const struct store_peer *p)
{
    uint64_t ns = 0;
    for (int i = 0; i < p->nodes; i++)
        ns += process_cpu_ns(p->node[i]);
    return ns;
}

static void measure(const struct settings *s, struct report *r, int backups)
{
    static const char *const names[] = {"no backup", "one backup", "two backups"};
    struct store_peer p;
    struct inserts in = {0};
    uint64_t n = (uint64_t)s->writes, singles = n / 20;
    store_start(&p, s->store, s->out, backups);
    struct lethe_client *c = store_client(&p, 4096, &schema, 1, &in.table);
    inserts(c, &in, n / 10, OUTSTANDING); /* warms up */
    uint64_t primary = process_cpu_ns(p.node[0]), every = cpu_of(&p), t0 = wall_ns();
    inserts(c, &in, n, OUTSTANDING);
    double wall = (double)(wall_ns() - t0);
    primary = process_cpu_ns(p.node[0]) - primary;
    every = cpu_of(&p) - every;
    in.took_ns = calloc(singles, sizeof *in.took_ns);
    inserts(c, &in, singles, 1);
    qsort(in.took_ns, singles, sizeof *in.took_ns, by_size);
    report_add(r, names[backups], "writes", "1/s", (double)n / wall * 1e9);
    report_add(r, names[backups], "latency p50", "us", (double)in.took_ns[singles / 2] / 1e3);
    report_add(r, names[backups], "latency p99", "us", (double)in.took_ns[singles * 99 / 100] / 1e3);
    report_add(r, names[backups], "primary CPU per write", "us", (double)primary / 1e3 / (double)n);
    report_add(r, names[backups], "CPU of all per write", "us", (double)every / 1e3 / (double)n);
    free(in.took_ns);
    lethe_client_destroy(c);
    store_stop(&p);
}

static int usage(const char *self, int code)
{
    fprintf(code ? stderr : stdout,
            "usage: %s [--runs N] [--writes N] [--backups N] [--store PROGRAM] [--out DIR]\n"
            "Throughput and latency of writes with no backup and with up to N (1 or 2). Writes\n"
            "DIR/replication.json. Defaults: 5 runs of 200000 a point, 2 backups, %s, %s.\n",
            self, STORE_PROGRAM, BENCH_OUT);
    return code;
}

static void ratio(struct report *r, const char *name, const char *with, const char *metric)
{
    report_ratio(r, name, report_median(r, with, metric) / report_median(r, "no backup", metric), 0);
}

int main(int argc, char **argv)
{
    struct settings s = {5, 2, 200000, STORE_PROGRAM, BENCH_OUT};
    static const struct option options[] = {
        {"runs", 1, 0, 'r'}, {"writes", 1, 0, 'w'}, {"store", 1, 0, 'p'},
        {"out", 1, 0, 'o'},  {"help", 0, 0, 'h'},   {"backups", 1, 0, 'b'},
        {0, 0, 0, 0},
    };
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'r': s.runs = atoi(optarg); break;
        case 'b': s.backups = atoi(optarg); break;
        case 'w': s.writes = atol(optarg); break;
        case 'p': s.store = optarg; break;
        case 'o': s.out = optarg; break;
        case 'h': return usage(argv[0], 0);
        default: return usage(argv[0], 2);
        }
    }
    if (s.runs < 1 || s.runs > 50 || s.writes < 2000 || s.backups < 1 ||
        s.backups > STORE_BACKUPS_MAX || optind != argc)
        return usage(argv[0], 2);
    mkdir(s.out, 0755);
    pin_to_core(1);
    struct report *r = report_create("replication", "Writes with no, one and two backups", s.runs);
    for (int run = 0; run < s.runs; run++)
        for (int backups = 0; backups <= s.backups; backups++) {
            report_progress("replication: run %d of %d, %d backups ...", run + 1, s.runs, backups);
            measure(&s, r, backups);
        }
    ratio(r, "writes_one_backup_over_none", "one backup", "writes");
    ratio(r, "latency_p50_one_backup_over_none", "one backup", "latency p50");
    if (s.backups > 1) {
        ratio(r, "writes_two_backups_over_none", "two backups", "writes");
        ratio(r, "latency_p50_two_backups_over_none", "two backups", "latency p50");
    }
    report_note(r, "%d outstanding for writes/s, one at a time for latency. The primary has core 0; "
                   "client and backups share core 1.", OUTSTANDING);
    return report_finish(r, s.out) ? 1 : 0;
}
