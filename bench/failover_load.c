/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The load of the fail-over bench (store_failover.py): WRITERS threads, each of
 * which writes a new key every so often, in turn over the ranges of the store
 * (writer w writes to range w % RANGES), retries a write until it is
 * acknowledged, and remembers when that was. At the end each reads back every
 * key whose write was acknowledged.
 *
 * Asked line by line on stdin, answers with one line of JSON each:
 *   event RANGE NS     what happens to RANGE's primary happens now; NS is
 *                      CLOCK_MONOTONIC, taken just before
 *   flowing N SECONDS  waits until every writer of RANGE has had N writes
 *                      acknowledged that were begun after the event
 *   stop               writes no more, reads back, tells, ends
 *
 * A gap is the longest time between two acknowledgements in a row of the
 * range's writers, from the last before the event on. Lost is an acknowledged
 * key that is absent, or holds another value, at the end.
 */
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "bench/failover.h"
#include "bench/process.h"

enum { WRITERS_MAX = 64, WRITES_MAX = 4 << 20, READ_TRIES = 2000 };

struct writer {
    pthread_t thread;
    void *conn;
    int range;
    uint64_t *begun, *acked;      /* ns, of write n */
    _Atomic uint64_t writes;      /* acknowledged; partner: release in run, acquire in flowing */
    uint64_t tries;               /* attempts that failed */
    uint64_t absent, other, unread;
};

static struct {
    const struct failover_peer *peer;
    const char *nodes;
    int writers, ranges, inside;
    uint64_t interval_ns;
    _Atomic bool stop;
    struct writer writer[WRITERS_MAX];
    int event_range;
    uint64_t event_ns;
} g = {.writers = 6, .ranges = 3, .interval_ns = 4000000, .inside = -1};

void failover_tag(char tag[FAILOVER_TAG + 1], int writer, uint32_t salt)
{
    static uint32_t run_ms;
    if (!run_ms)
        run_ms = (uint32_t)(wall_ns() / 1000000);
    snprintf(tag, FAILOVER_TAG + 1, "%08x%02x%06x", run_ms, (uint8_t)writer, salt & 0xffffffu);
}

/* --- writers ------------------------------------------------------------------------- */

static void sleep_until(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* A write that is late is not made up for: the pace goes on from it. */
static void *run(void *user)
{
    struct writer *w = user;
    uint64_t due = wall_ns() + g.interval_ns * (uint64_t)(w - g.writer) / (uint64_t)g.writers;
    for (uint64_t n = 0; !g.stop && n < WRITES_MAX; n++) {
        sleep_until(due);
        w->begun[n] = wall_ns();
        while (!g.peer->write(w->conn, n)) {
            w->tries++;
            if (g.stop)
                return NULL;
        }
        w->acked[n] = wall_ns();
        atomic_store_explicit(&w->writes, n + 1, memory_order_release);
        due = due + g.interval_ns > w->acked[n] ? due + g.interval_ns : w->acked[n];
    }
    return NULL;
}

static void *read_back(void *user)
{
    struct writer *w = user;
    for (uint64_t n = 0; n < w->writes; n++) {
        enum failover_read found = READ_FAILED;
        for (int i = 0; i < READ_TRIES && found == READ_FAILED; i++)
            found = g.peer->read(w->conn, n);
        w->absent += found == READ_ABSENT;
        w->other += found == READ_OTHER;
        w->unread += found == READ_FAILED;
    }
    return NULL;
}

static void all(void *(*how)(void *))
{
    for (int i = 0; i < g.writers; i++)
        pthread_create(&g.writer[i].thread, NULL, how, &g.writer[i]);
}

static void join(void)
{
    for (int i = 0; i < g.writers; i++)
        pthread_join(g.writer[i].thread, NULL);
}

static void *table_of_times(void)
{
    void *t = mmap(NULL, sizeof(uint64_t) * WRITES_MAX, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (t == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return t;
}

static void start(void)
{
    char err[200];
    for (int i = 0; i < g.writers; i++) {
        struct writer *w = &g.writer[i];
        /* Inside a partition a writer's keys are its own: another number. */
        int number = g.inside < 0 ? i : i + WRITERS_MAX;
        w->range = g.inside < 0 ? i % g.ranges : g.inside;
        w->begun = table_of_times();
        w->acked = table_of_times();
        w->conn = g.peer->open(g.nodes, w->range, g.ranges, number, err, sizeof err);
        if (!w->conn) {
            fprintf(stderr, "failover_load: %s\n", err);
            exit(1);
        }
    }
    all(run);
    printf("{\"ready\": true}\n");
    fflush(stdout);
}

/* --- what it found ---------------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* All acknowledgements of a range, in order. The caller frees. */
static uint64_t *acks_of(int range, uint64_t *count)
{
    uint64_t n = 0, *acks;
    for (int i = 0; i < g.writers; i++)
        n += g.writer[i].range == range ? g.writer[i].writes : 0;
    acks = malloc((n + 1) * sizeof *acks);
    *count = 0;
    for (int i = 0; acks && i < g.writers; i++)
        if (g.writer[i].range == range) {
            memcpy(acks + *count, g.writer[i].acked, g.writer[i].writes * sizeof *acks);
            *count += g.writer[i].writes;
        }
    if (acks)
        qsort(acks, *count, sizeof *acks, by_time);
    return acks;
}

struct gap { double ms, at_ms; /* when it began, after the event */ };

static struct gap longest(const uint64_t *acks, uint64_t n, uint64_t from, uint64_t to)
{
    struct gap g0 = {0, 0};
    for (uint64_t i = 1; i < n; i++) {
        double ms = (double)(acks[i] - acks[i - 1]) / 1e6;
        if (acks[i] > from && acks[i] <= to && ms > g0.ms)
            g0 = (struct gap){ms, ((double)acks[i - 1] - (double)g.event_ns) / 1e6};
    }
    return g0;
}

static double median_latency_ms(void)
{
    uint64_t n = 0, *all_of = malloc(sizeof(uint64_t) * WRITES_MAX);
    for (int i = 0; all_of && i < g.writers; i++)
        for (uint64_t k = 0; k < g.writer[i].writes && n < WRITES_MAX; k++)
            all_of[n++] = g.writer[i].acked[k] - g.writer[i].begun[k];
    if (all_of)
        qsort(all_of, n, sizeof *all_of, by_time);
    double ms = all_of && n ? (double)all_of[n / 2] / 1e6 : 0;
    free(all_of);
    return ms;
}

static void tell(void)
{
    uint64_t n, acked = 0, absent = 0, other = 0, unread = 0, tries = 0;
    uint64_t *acks = acks_of(g.event_range, &n);
    struct gap before = longest(acks, n, 0, g.event_ns);
    struct gap after = longest(acks, n, g.event_ns, UINT64_MAX);
    for (int i = 0; i < g.writers; i++) {
        const struct writer *w = &g.writer[i];
        acked += w->writes, absent += w->absent, other += w->other, unread += w->unread;
        tries += w->tries;
    }
    printf("{\"gap_ms\": %.3f, \"gap_at_ms\": %.3f, \"gap_before_ms\": %.3f, \"acked\": %lu, "
           "\"acked_range\": %lu, \"lost\": %lu, \"absent\": %lu, \"other_value\": %lu, "
           "\"unread\": %lu, \"failed_attempts\": %lu, \"median_latency_ms\": %.3f}\n",
           after.ms, after.at_ms, before.ms, acked, n, absent + other, absent, other, unread,
           tries, median_latency_ms());
    fflush(stdout);
    free(acks);
}

/* --- what it is asked ------------------------------------------------------------------------ */

static bool flows(const struct writer *w, uint64_t n)
{
    uint64_t have = atomic_load_explicit(&w->writes, memory_order_acquire);
    return have >= n && w->begun[have - n] > g.event_ns;
}

static void flowing(uint64_t n, double seconds)
{
    uint64_t end = wall_ns() + (uint64_t)(seconds * 1e9);
    bool all_flow = false;
    while (!all_flow && wall_ns() < end) {
        all_flow = true;
        for (int i = 0; i < g.writers; i++)
            if (g.writer[i].range == g.event_range && !flows(&g.writer[i], n))
                all_flow = false;
        usleep(2000);
    }
    for (int i = 0; !all_flow && i < g.writers; i++)
        if (g.writer[i].range == g.event_range && g.peer->trouble)
            fprintf(stderr, "writer %d: %lu acknowledged: %s\n", i, (unsigned long)g.writer[i].writes,
                    g.peer->trouble(g.writer[i].conn));
    printf("{\"flowing\": %s}\n", all_flow ? "true" : "false");
    fflush(stdout);
}

static int obey(void)
{
    char line[200];
    unsigned long n;
    double seconds;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "event %d %lu", &g.event_range, &n) == 2) {
            g.event_ns = n;
            printf("{\"event\": %d}\n", g.event_range);
            fflush(stdout);
        } else if (sscanf(line, "flowing %lu %lf", &n, &seconds) == 2) {
            flowing(n, seconds);
        } else if (!strcmp(line, "stop\n")) {
            g.stop = true;
            join();
            all(read_back);
            join();
            tell();
            return 0;
        } else {
            fprintf(stderr, "failover_load: not understood: %s", line);
            return 2;
        }
    }
    return 1; /* whoever asked is gone */
}

static int usage(const char *self, int code)
{
    fprintf(code ? stderr : stdout,
            "usage: %s --peer redis|lethe --nodes HOST:PORT,... [--writers N] [--ranges N]\n"
            "          [--interval-us N] [--inside RANGE]\n"
            "The writers of bench/store_failover.py, which tells it on stdin what happens.\n"
            "--inside: all writers write to that range (they stand beside its primary).\n",
            self);
    return code;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"peer", 1, 0, 'p'},        {"nodes", 1, 0, 'n'},  {"writers", 1, 0, 'w'},
        {"ranges", 1, 0, 'r'},      {"inside", 1, 0, 's'}, {"interval-us", 1, 0, 'i'},
        {"help", 0, 0, 'h'},        {0, 0, 0, 0},
    };
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'p': g.peer = !strcmp(optarg, "redis") ? &failover_redis
                           : !strcmp(optarg, "lethe") ? &failover_lethe : NULL; break;
        case 'n': g.nodes = optarg; break;
        case 'w': g.writers = atoi(optarg); break;
        case 'r': g.ranges = atoi(optarg); break;
        case 's': g.inside = atoi(optarg); break;
        case 'i': g.interval_ns = strtoul(optarg, NULL, 10) * 1000; break;
        case 'h': return usage(argv[0], 0);
        default: return usage(argv[0], 2);
        }
    }
    if (!g.peer || !g.nodes || g.writers < 1 || g.writers > WRITERS_MAX || g.ranges < 1 ||
        g.inside >= g.ranges || !g.interval_ns || optind != argc)
        return usage(argv[0], 2);
    start();
    return obey();
}
