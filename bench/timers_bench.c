/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Question "timers": of DUE timers that are due together among LIVE others,
 * under load, how many are told within LIMIT seconds, and how late? lethe-store's
 * event tables beside redis-server's keyspace notifications.
 *
 *   ours    a table with TABLE_EVENTS | TABLE_ABSOLUTE: an insert is a timer, its
 *           expiry an event, which is kept until its consumer has acknowledged it
 *   redis   keys with a time-out, notify-keyspace-events Ex, one subscriber; as it
 *           comes (hz 10, active-expire-effort 1), and tuned to do its utmost
 *           for it (hz 500, active-expire-effort 10)
 *
 * Load with each: LOAD_OPS gets each millisecond of random live keys, from the
 * same thread. Live timers are due in an hour or two, evenly. Lateness counts from
 * when the timer was asked for plus its time-out, so it holds the insert, too. A
 * timer told twice counts once; one told early is an error.
 */
#include <getopt.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bench/process.h"
#include "bench/report.h"
#include "bench/store_peer.h"

enum {
    KEY = 16, VALUE = 16, LOAD_OPS = 16, HOUR_MS = 3600000, PIPELINE = 100,
    LEAD_MS = 3000,           /* the due ones are asked for so long before */
    EARLY_MS = 2,             /* clocks are read in whole ms */
};

struct settings {
    int runs;
    long live, due;
    double limit_s;
    const char *store, *out;
};

/* One run's due timers. */
struct told {
    long due, told, early, twice;
    uint64_t *due_ns;         /* when each ought to be */
    double *late_ms;          /* of those told, in order of coming */
    bool *seen;
};

static struct told told_new(long due)
{
    return (struct told){.due = due, .due_ns = calloc((size_t)due, sizeof(uint64_t)),
                         .late_ms = calloc((size_t)due, sizeof(double)),
                         .seen = calloc((size_t)due, sizeof(bool))};
}

static void told_free(struct told *t)
{
    free(t->due_ns);
    free(t->late_ms);
    free(t->seen);
}

static void told_one(struct told *t, long i)
{
    if (i < 0 || i >= t->due)
        return;
    double late = ((double)wall_ns() - (double)t->due_ns[i]) / 1e6;
    if (t->seen[i]) {
        t->twice++;
        return;
    }
    t->seen[i] = true;
    t->early += late < -EARLY_MS;
    t->late_ms[t->told++] = late;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void tell(struct report *r, const char *name, struct told *t, double ops_per_s)
{
    report_add(r, name, "delivered", "of 1", (double)t->told / (double)t->due);
    qsort(t->late_ms, (size_t)t->told, sizeof *t->late_ms, by_size);
    if (t->told) {
        report_add(r, name, "lateness p50", "ms", t->late_ms[t->told / 2]);
        report_add(r, name, "lateness p99", "ms", t->late_ms[t->told * 99 / 100]);
    }
    report_add(r, name, "early", "", (double)t->early);
    report_add(r, name, "load", "1/s", ops_per_s);
}

/* Keys: live ones are numbers from 0, due ones 'd' and a number. */
static void live_key(uint64_t n, char key[KEY])
{
    store_digits(key, KEY, n);
}
static void due_key(uint64_t n, char key[KEY])
{
    key[0] = 'd';
    store_digits(key + 1, KEY - 1, n);
}
static long due_number(const char *key)
{
    char digits[KEY] = {0};
    memcpy(digits, key + 1, KEY - 1);
    return key[0] == 'd' ? atol(digits) : -1;
}

static uint32_t far_ms(uint64_t n)
{
    return HOUR_MS + (uint32_t)(n * 2654435761u % HOUR_MS);
}

/* --- ours -------------------------------------------------------------------------------- */

static const struct table_schema schema = {.name = "bench.timers", .kind = TABLE_HASH, .version = 1,
                                           .key_size = KEY, .part_len = KEY, .value_size = VALUE,
                                           .timeout_ms = HOUR_MS,
                                           .flags = TABLE_EVENTS | TABLE_ABSOLUTE};

struct ours {
    const struct settings *s;
    struct lethe_client *c;
    int table;
    struct told told;
    uint64_t due_ns;          /* 0: filling with live ones */
    uint64_t loads, loading;
};

static void ours_key(const struct ours *o, uint64_t i, char key[KEY])
{
    if (o->due_ns)
        due_key(i, key);
    else
        live_key(i, key);
}

static uint8_t ours_slot(void *ctx, uint64_t i)
{
    char key[KEY];
    ours_key(ctx, i, key);
    return slot_of(key, KEY);
}

static void ours_insert(void *ctx, uint64_t i, struct lethe_txn *t)
{
    struct ours *o = ctx;
    char key[KEY];
    static const char value[VALUE];
    uint64_t now = wall_ns();
    uint32_t in_ms = o->due_ns ? (uint32_t)((o->due_ns - now) / 1000000) : far_ms(i);
    ours_key(o, i, key);
    if (o->due_ns)
        o->told.due_ns[i] = now + (uint64_t)in_ms * 1000000;
    lethe_txn_insert(t, o->table, key, value, in_ms);
}

static bool on_event(void *user, const struct lethe_event *e)
{
    struct ours *o = user;
    told_one(&o->told, due_number(e->key));
    return true;
}

static void on_load(void *user, const struct txn_result_head *h)
{
    struct ours *o = user;
    (void)h;
    o->loads++;
    o->loading--;
}

static void ours_load(struct ours *o, uint64_t tick)
{
    char key[KEY];
    for (int i = 0; i < LOAD_OPS; i++) {
        live_key((tick * LOAD_OPS + (uint64_t)i) * 2654435761u % (uint64_t)o->s->live, key);
        struct lethe_txn *t = lethe_txn_begin(o->c, slot_of(key, KEY), on_load, o);
        if (!t)
            break;
        lethe_txn_get(t, o->table, key, 0);
        lethe_txn_submit(t);
        o->loading++;
    }
    lethe_flush(o->c);
}

static void check(uint64_t failed, const char *what)
{
    if (!failed)
        return;
    fprintf(stderr, "\n%lu %s failed\n", (unsigned long)failed, what);
    exit(1);
}

static void ours_run(const struct settings *s, struct report *r)
{
    struct store_peer p;
    struct ours o = {.s = s, .told = told_new(s->due)};
    struct store_job job = {ours_slot, ours_insert, NULL, &o, 0};
    store_start(&p, s->store, s->out, 0);
    o.c = store_client(&p, 4096, &schema, 1, &o.table);
    check(lethe_events(o.c, o.table, on_event, &o) != 0, "subscriptions");
    check(store_run(o.c, &job, (uint64_t)s->live), "inserts");
    uint64_t start = wall_ns(), tick = 0;
    o.due_ns = start + LEAD_MS * 1000000ull;
    check(store_run(o.c, &job, (uint64_t)s->due), "inserts");
    uint64_t end = o.due_ns + (uint64_t)(s->limit_s * 1e9), next = wall_ns();
    for (uint64_t now; (now = wall_ns()) < end && o.told.told < s->due;) {
        if (now >= next) {
            ours_load(&o, tick++);
            next += 1000000;
        }
        store_poll(o.c);
    }
    tell(r, "lethe-store events", &o.told, (double)o.loads / ((double)(wall_ns() - start) / 1e9));
    lethe_client_destroy(o.c);
    store_stop(&p);
    told_free(&o.told);
}

/* --- redis ----------------------------------------------------------------------------------- */

static redisContext *redis_connect(int port)
{
    redisContext *c = redisConnect("127.0.0.1", port);
    if (!c || c->err) {
        fprintf(stderr, "\nredis-server: %s\n", c ? c->errstr : "out of memory");
        exit(1);
    }
    return c;
}

static void redis_replies(redisContext *c, int n)
{
    for (redisReply *r; n--; freeReplyObject(r))
        if (redisGetReply(c, (void **)&r) != REDIS_OK || r->type == REDIS_REPLY_ERROR) {
            fprintf(stderr, "\nredis-server: %s\n", c->err ? c->errstr : r->str);
            exit(1);
        }
}

static uint64_t unix_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void redis_fill(redisContext *c, const struct settings *s)
{
    char key[KEY];
    for (long i = 0; i < s->live;) {
        int n = 0;
        for (; n < PIPELINE && i < s->live; n++, i++) {
            live_key((uint64_t)i, key);
            redisAppendCommand(c, "SET %b %s PX %u", key, (size_t)KEY, "0123456789abcdef",
                               far_ms((uint64_t)i));
        }
        redis_replies(c, n);
    }
}

static void redis_due(redisContext *c, const struct settings *s, struct told *t)
{
    char key[KEY];
    uint64_t at_ms = unix_ms() + LEAD_MS, at_ns = wall_ns() + LEAD_MS * 1000000ull;
    for (long i = 0; i < s->due; i++) {
        t->due_ns[i] = at_ns;
        due_key((uint64_t)i, key);
        redisAppendCommand(c, "SET %b %s PXAT %lu", key, (size_t)KEY, "0123456789abcdef", at_ms);
        redis_replies(c, 1);
    }
}

static void redis_load(redisContext *c, const struct settings *s, uint64_t tick)
{
    char key[KEY];
    for (int i = 0; i < LOAD_OPS; i++) {
        live_key((tick * LOAD_OPS + (uint64_t)i) * 2654435761u % (uint64_t)s->live, key);
        redisAppendCommand(c, "GET %b", key, (size_t)KEY);
    }
    redis_replies(c, LOAD_OPS);
}

/* What the subscriber has heard so far, without waiting. */
static void redis_hear(redisContext *sub, struct told *t)
{
    struct pollfd f = {sub->fd, POLLIN, 0};
    redisReply *r;
    if (poll(&f, 1, 0) > 0 && redisBufferRead(sub) != REDIS_OK)
        exit(1);
    for (; redisGetReplyFromReader(sub, (void **)&r) == REDIS_OK && r; freeReplyObject(r))
        if (r->type == REDIS_REPLY_ARRAY && r->elements == 3 && r->element[2]->type == REDIS_REPLY_STRING &&
            r->element[2]->len == KEY)
            told_one(t, due_number(r->element[2]->str));
}

static void redis_run(const struct settings *s, struct report *r, bool tuned)
{
    char port[16], log[256];
    int number = free_port(1);
    struct told t = told_new(s->due);
    snprintf(port, sizeof port, "%d", number);
    snprintf(log, sizeof log, "%s/redis.log", s->out);
    const char *argv[] = {"redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
                          "--appendonly", "no", "--notify-keyspace-events", "Ex",
                          "--hz", tuned ? "500" : "10", "--active-expire-effort", tuned ? "10" : "1",
                          NULL};
    pid_t pid = process_start(argv, 0, log);
    close(connect_port(number));
    redisContext *c = redis_connect(number), *sub = redis_connect(number);
    redisAppendCommand(sub, "SUBSCRIBE __keyevent@0__:expired");
    redis_replies(sub, 1);
    redis_fill(c, s);
    uint64_t start = wall_ns(), next = start, tick = 0;
    redis_due(c, s, &t);
    uint64_t end = t.due_ns[0] + (uint64_t)(s->limit_s * 1e9);
    for (uint64_t now; (now = wall_ns()) < end && t.told < s->due;) {
        if (now >= next) {
            redis_load(c, s, tick++);
            next += 1000000;
        } else {
            struct pollfd f = {sub->fd, POLLIN, 0};
            poll(&f, 1, 1);
        }
        redis_hear(sub, &t);
    }
    tell(r, tuned ? "redis notifications, tuned" : "redis notifications", &t,
         (double)(tick * LOAD_OPS) / ((double)(wall_ns() - start) / 1e9));
    redisFree(c);
    redisFree(sub);
    process_stop(pid);
    told_free(&t);
}

static int usage(const char *self, int code)
{
    fprintf(code ? stderr : stdout,
            "usage: %s [--runs N] [--live N] [--due N] [--limit SECONDS] [--store PROGRAM]\n"
            "          [--out DIR]\n"
            "Timers due together among many live ones, under load, beside redis's keyspace\n"
            "notifications. Writes DIR/timers.json. Defaults: 1 run, 1000000 live, 1000 due,\n"
            "30 s, %s, %s.\n", self, STORE_PROGRAM, BENCH_OUT);
    return code;
}

int main(int argc, char **argv)
{
    struct settings s = {1, 1000000, 1000, 30, STORE_PROGRAM, BENCH_OUT};
    static const struct option options[] = {
        {"runs", 1, 0, 'r'},  {"live", 1, 0, 'l'}, {"due", 1, 0, 'd'},  {"limit", 1, 0, 't'},
        {"store", 1, 0, 'p'}, {"out", 1, 0, 'o'},  {"help", 0, 0, 'h'}, {0, 0, 0, 0},
    };
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (o) {
        case 'r': s.runs = atoi(optarg); break;
        case 'l': s.live = atol(optarg); break;
        case 'd': s.due = atol(optarg); break;
        case 't': s.limit_s = atof(optarg); break;
        case 'p': s.store = optarg; break;
        case 'o': s.out = optarg; break;
        case 'h': return usage(argv[0], 0);
        default: return usage(argv[0], 2);
        }
    }
    if (s.runs < 1 || s.runs > 50 || s.live < 1000 || s.due < 1 || s.limit_s <= 0 || optind != argc)
        return usage(argv[0], 2);
    mkdir(s.out, 0755);
    pin_to_core(1);
    struct report *r = report_create("timers", "Timers due together, told to their consumer", s.runs);
    for (int run = 0; run < s.runs; run++) {
        report_progress("timers: run %d of %d ...", run + 1, s.runs);
        ours_run(&s, r);
        redis_run(&s, r, false);
        redis_run(&s, r, true);
    }
    report_ratio(r, "timers_delivered_fraction", report_median(r, "lethe-store events", "delivered"), 1);
    report_ratio(r, "redis_timers_delivered_fraction",
                 report_median(r, "redis notifications", "delivered"), 0);
    report_note(r, "%ld due together among %ld live, %g s to tell them; %d gets each ms meanwhile.",
                s.due, s.live, s.limit_s, LOAD_OPS);
    report_note(r, "tuned: hz 500, active-expire-effort 10; else redis's defaults.");
    return report_finish(r, s.out) ? 1 : 0;
}
