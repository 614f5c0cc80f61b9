/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One-sided gets against a writer that never stops:
 *
 *     onesided_test [READS [LEAST]]
 *
 *   writer  client by verbs ──▶ store a (primary) ── verbs ──▶ store b (backup)
 *   reader  client by verbs ──▶ store a: RDMA READ of its memory
 *
 * Every value is a pattern made of its key and of a number that the writer counts up; so it tells
 * which write it is of. For each get: the pattern is whole; the number is not less than
 * what was acknowledged to the writer, or seen by the reader, before the get began, nor more than what the writer
 * ever began; a number has one version, and versions grow with numbers. Some
 * writes are a delete and an insert, so records are given to other keys. Entries with a
 * time-out T, mostly read one-sidedly, never go before T after their last get.
 *
 * Ends when READS (10^6) gets were answered by reads. On a machine that has no time for us it ends
 * after ENOUGH_S, if they were at least LEAST (READS / 10), and says so. Runs where there is RDMA: in the
 * machine of vm.sh, on 10.8.0.1.
 */
#include "tests/check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "client/lethe.h"
#include "common/wire/verbs/verbs.h"
#include "statestore/server/store.h"

enum {
    ENOUGH_S = 120,
    KEYS = 256, TIMED_KEYS = 8, T_MS = 2000, PATIENCE_S = 600,
    READ_WINDOW = 128, WRITE_WINDOW = 3, RETRY_MS = 2000, FAILURE_MS = 4000,
    TIMED_EVERY = 64,             /* gets, one of a timed key */
    DELETE_EVERY = 64,            /* writes, one is a delete and an insert */
};
#define VERBS "verbs:10.8.0.1:7700"

static const struct table_schema flows = {.name = "flows", .kind = TABLE_HASH, .key_size = 8,
                                          .part_len = 8, .value_size = 200,
                                          .flags = TABLE_ONE_SIDED};
static const struct table_schema timed = {.name = "timed", .kind = TABLE_HASH, .key_size = 8,
                                          .part_len = 8, .value_size = 24, .timeout_ms = T_MS,
                                          .flags = TABLE_ONE_SIDED};
enum { FLOWS, TIMED };

static struct store *stores[2];
static uint64_t wanted = 1000 * 1000, least;
static _Atomic uint64_t begun[KEYS], acknowledged[KEYS]; /* numbers of writes */
static _Atomic bool stop, writes;
static _Atomic uint64_t total_writes;

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void pattern(uint64_t key, uint64_t number, uint64_t value[25])
{
    value[0] = number;
    for (int i = 1; i < 25; i++)
        value[i] = (number * 0x9e3779b97f4a7c15ull + (uint64_t)i) ^ key * 0xbf58476d1ce4e5b9ull;
}

static struct lethe_client *client_open(void)
{
    char err[300];
    struct lethe_config config = {.shards = 1, .address = VERBS, .verbs = &transport_verbs,
                                  .retry_ms = RETRY_MS};
    struct lethe_client *c = lethe_client_create(&config, err, sizeof err);
    CHECK(c, "%s", err);
    assert_int_equal(lethe_table_open(c, &flows), FLOWS);
    assert_int_equal(lethe_table_open(c, &timed), TIMED);
    uint64_t until = now_us() + PATIENCE_S * 1000000ull;
    while (!lethe_ready(c)) {
        struct lethe_status st;
        lethe_poll(c, now_us());
        lethe_status(c, &st);
        CHECK(now_us() < until && !st.fatal[0], "not served: %s%s", st.trouble, st.fatal);
    }
    return c;
}

/* --- the writer ---------------------------------------------------------------------------- */

static struct writing {
    uint64_t key, number, version; /* version 0: it is not there */
    bool busy, deletes;
} writing[KEYS];
static struct lethe_client *writer;
static int under_way;

static void written(void *user, const struct txn_result_head *h)
{
    struct writing *w = user;
    CHECK(h->status == TXN_OK, "a write: %s", txn_status_text(h->status));
    w->busy = false;
    under_way--;
    w->version = w->deletes ? 0 : txn_result_first(h)->version;
    if (!w->deletes)
        atomic_store(&acknowledged[w->key], w->number);
    atomic_fetch_add(&total_writes, 1);
}

static void write_one(struct writing *w, uint64_t count)
{
    uint64_t value[25];
    struct lethe_txn *t = lethe_txn_begin(writer, slot_of(&w->key, 8), written, w);
    CHECK(t, "the writer's window is full");
    w->deletes = w->version && count % DELETE_EVERY == 0;
    if (!w->deletes) {
        w->number++;
        atomic_store(&begun[w->key], w->number);
    }
    pattern(w->key, w->number, value);
    if (w->deletes)
        lethe_txn_delete(t, FLOWS, &w->key, w->version);
    else if (w->version)
        lethe_txn_cas(t, FLOWS, &w->key, w->version, value, 0);
    else
        lethe_txn_insert(t, FLOWS, &w->key, value, 0);
    lethe_txn_submit(t);
    w->busy = true;
    under_way++;
}

static void *write_on(void *arg)
{
    uint64_t next = 0;
    writer = client_open();
    for (uint64_t i = 0; i < KEYS; i++)
        writing[i].key = i;
    while (!atomic_load(&stop)) {
        while (under_way < WRITE_WINDOW && !writing[next % KEYS].busy) {
            write_one(&writing[next % KEYS], next);
            next++;
        }
        lethe_flush(writer);
        if (!lethe_poll(writer, now_us()))
            nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
        if (atomic_load(&total_writes) > 2 * KEYS)
            atomic_store(&writes, true);
    }
    lethe_client_destroy(writer);
    return NULL;
}

/* --- the reader ---------------------------------------------------------------------------- */

static struct reading {
    bool busy, timed;
    uint64_t key, floor, begun_us;
} reading[READ_WINDOW];
static uint64_t used_us[TIMED_KEYS]; /* began the last get that found it */
static struct seen { uint64_t number, version; } seen[KEYS];
static struct lethe_client *reader;
static uint64_t answered, misses;

static void check_value(const struct reading *r, const struct txn_result *x)
{
    uint64_t value[25], want[25];
    struct seen *s = &seen[r->key];
    memcpy(value, txn_result_value(x), sizeof value);
    pattern(r->key, value[0], want);
    CHECK(!memcmp(value, want, sizeof value), "key %lu: half a value, of write %lu", r->key, value[0]);
    CHECK(value[0] >= r->floor, "key %lu: write %lu, but %lu was acknowledged before", r->key,
          value[0], r->floor);
    CHECK(value[0] <= atomic_load(&begun[r->key]), "key %lu: write %lu was never begun", r->key, value[0]);
    CHECK((value[0] == s->number) == (x->version == s->version) &&
              (value[0] < s->number) == (x->version < s->version),
          "key %lu: write %lu has version %lx, %lu had %lx", r->key, value[0], x->version, s->number,
          s->version);
    if (value[0] > s->number)
        *s = (struct seen){value[0], x->version};
}

static void inserted(void *user, const struct txn_result_head *h)
{
    CHECK(h->status == TXN_OK || h->status == TXN_CONFLICT, "an insert: %s", txn_status_text(h->status));
}

static void insert_timed(uint64_t key)
{
    uint8_t value[24] = {0};
    struct lethe_txn *t = lethe_txn_begin(reader, slot_of(&key, 8), inserted, NULL);
    CHECK(t, "the reader's window is full");
    lethe_txn_insert(t, TIMED, &key, value, 0);
    lethe_txn_submit(t);
}

/* A machine that stands still for long may lose one, rightly. */
static void check_time(const struct reading *r, bool hit)
{
    uint64_t *used = &used_us[r->key], now = now_us();
    if (hit) {
        *used = *used > r->begun_us ? *used : r->begun_us;
        return;
    }
    CHECK(now >= *used + T_MS * 1000ull, "an entry went %lu ms after it was used", (now - *used) / 1000);
    insert_timed(r->key);
}

static void got(void *user, const struct txn_result_head *h)
{
    struct reading *r = user;
    CHECK(h->status == TXN_OK, "a get: %s", txn_status_text(h->status));
    const struct txn_result *x = txn_result_first(h);
    bool hit = x->res == RES_HIT;
    if (r->timed)
        check_time(r, hit);
    else if (hit)
        check_value(r, x);
    misses += !hit;
    answered++;
    r->busy = false;
}

static void get_one(struct reading *r, uint64_t count)
{
    *r = (struct reading){.busy = true, .timed = count % TIMED_EVERY == 0, .begun_us = now_us()};
    r->key = r->timed ? count / TIMED_EVERY % TIMED_KEYS : (count * 2654435761u >> 7) % KEYS;
    if (!r->timed) {
        r->floor = atomic_load(&acknowledged[r->key]);
        r->floor = r->floor > seen[r->key].number ? r->floor : seen[r->key].number;
    }
    struct lethe_txn *t = lethe_txn_begin(reader, slot_of(&r->key, 8), got, r);
    CHECK(t, "the reader's window is full");
    lethe_txn_get(t, r->timed ? TIMED : FLOWS, &r->key, r->timed ? TXN_TOUCH : 0);
    lethe_txn_submit(t);
}

static void report(uint64_t took_us, const struct lethe_status *st)
{
    static const char *const words[] = {
#define X(name, word, text) word,
        READ_OUTCOMES(X)
#undef X
    };
    print_message("%lu gets in %.1f s, %lu of them absent, beside %lu writes\n", answered,
                  (double)took_us / 1e6, misses, atomic_load(&total_writes));
    for (int i = 0; i < READ_OUTCOMES_END; i++)
        print_message("  %-10s %lu\n", words[i], st->one_sided[i]);
}

static void test_reads_against_a_writer_that_never_stops(void **state)
{
    pthread_t t;
    struct lethe_status st = {0};
    int reading_now = 0;
    uint64_t count = 0, until = now_us() + PATIENCE_S * 1000000ull;
    uint64_t enough = now_us() + ENOUGH_S * 1000000ull;
    reader = client_open();
    assert_int_equal(pthread_create(&t, NULL, write_on, NULL), 0);
    while (!atomic_load(&writes)) {
        lethe_poll(reader, now_us());
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    for (uint64_t key = 0; key < TIMED_KEYS; key++)
        insert_timed(key);
    uint64_t begun_us = now_us(), began_with = atomic_load(&total_writes);
    while (st.one_sided[READ_HIT] < wanted) {
        /* Bursts: a post is a system call here, and each one is slow. */
        for (int i = 0; i < READ_WINDOW && reading_now <= READ_WINDOW / 4; i++)
            if (!reading[i].busy)
                get_one(&reading[i], count++);
        reading_now = READ_WINDOW;
        lethe_flush(reader);
        while (reading_now > READ_WINDOW / 4 && now_us() < until) {
            if (!lethe_poll(reader, now_us())) /* the others need the processor */
                nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
            reading_now = 0;
            for (int i = 0; i < READ_WINDOW; i++)
                reading_now += reading[i].busy;
        }
        lethe_status(reader, &st);
        if (now_us() > enough && st.one_sided[READ_HIT] >= least)
            break;
        if (now_us() > until) {
            report(now_us() - begun_us, &st);
            fail_msg("not done after %d s: %s", PATIENCE_S, st.trouble);
        }
    }
    report(now_us() - begun_us, &st);
    if (st.one_sided[READ_HIT] < wanted)
        print_message("NOT ALL: %lu of %lu reads in %d s; this machine is busy\n", st.one_sided[READ_HIT],
                      wanted, ENOUGH_S);
    atomic_store(&stop, true);
    pthread_join(t, NULL);
    CHECK(atomic_load(&total_writes) > began_with + 100, "the writer stopped");
    CHECK(st.one_sided[READ_PENDING] && st.one_sided[READ_GONE] && st.one_sided[READ_UNKNOWN],
          "nothing was written where it was read");
    assert_int_equal(st.reconnects, 0);
    lethe_client_destroy(reader);
}

/* --- both stores ----------------------------------------------------------------------------- */

static int start(void **state)
{
    static const struct store_node nodes[] = {{"a", "127.0.0.1:7690", "10.8.0.1:7700"},
                                              {"b", "127.0.0.1:7692", "10.8.0.1:7702"}};
    char err[300];
    struct shard_snapshot snap;
    for (uint32_t i = 0; i < 2; i++) {
        struct store_config c = {.shards = 1, .node = i + 1, .nodes = nodes, .nnodes = 2,
                                 .threads = true, .listen = nodes[i].listen,
                                 .listen_verbs = nodes[i].verbs, .verbs = &transport_verbs,
                                 .failure_timeout_ms = FAILURE_MS};
        CHECK(!store_start(&stores[i], &c, err, sizeof err), "%s", err);
    }
    uint64_t until = now_us() + PATIENCE_S * 1000000ull;
    do {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        store_snapshot(stores[0], 0, &snap);
        CHECK(now_us() < until, "no backup");
    } while (snap.status.copies < 2);
    return 0;
}

static int finish(void **state)
{
    struct shard_snapshot snap;
    store_snapshot(stores[0], 0, &snap);
    CHECK(snap.readable_bytes && !snap.unreadable_bytes, "%lu bytes registered, %lu not",
          snap.readable_bytes, snap.unreadable_bytes);
    for (int i = 0; i < 2; i++)
        store_stop(stores[i]);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_against_a_writer_that_never_stops)};
    if (argc > 1)
        wanted = strtoull(argv[1], NULL, 10);
    least = argc > 2 ? strtoull(argv[2], NULL, 10) : wanted / 10;
    return cmocka_run_group_tests(tests, start, finish);
}
