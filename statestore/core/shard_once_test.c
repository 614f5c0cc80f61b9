/* SPDX-License-Identifier: BSD-3-Clause */
/* Exactly-once: retries, duplicates, watermarks, leases, the window. */
#include "internal.h"
#include "rig_test_support.h"

static const struct table_schema counts = {.name = "counts", .kind = TABLE_COUNTERS,
                                           .key_size = 4, .part_len = 4, .value_size = 8};
static const struct table_schema things = {.name = "things", .kind = TABLE_HASH, .key_size = 4,
                                           .part_len = 4, .value_size = 8};
enum { COUNTS, THINGS, LEASE_MS = 4000 };
static struct rig_txn t;

static int start(void **state)
{
    struct rig *r = rig_new(11, 2, (struct shard_config){.client_lease_ms = LEASE_MS});
    rig_start(r, 0);
    rig_client(r);
    assert_int_equal(rig_table(r, &counts), COUNTS);
    assert_int_equal(rig_table(r, &things), THINGS);
    rig_connect_backup(r, 1, 0);
    rig_run_until_copies(r, 2);
    *state = r;
    return 0;
}
static int stop(void **state)
{
    rig_free(*state);
    return 0;
}

static void build(uint8_t code, uint8_t table, uint32_t key, uint64_t arg0)
{
    uint64_t one = 1;
    rig_begin(&t, slot_of(&key, 4));
    rig_op(&t, (struct txn_op){.code = code, .table = table, .arg0 = arg0}, &key, 4, &one,
           code == TXN_GET || code == TXN_DELETE ? 0 : 8);
}

static int64_t counter(struct rig *r, uint32_t key)
{
    int64_t v;
    build(TXN_GET, COUNTS, key, 0);
    const struct txn_result *x = txn_result_first(rig_call(r, &t));
    if (x->res != RES_HIT)
        return 0;
    memcpy(&v, txn_result_value(x), 8);
    return v;
}

static void test_retry_is_not_executed(void **state)
{
    struct rig *r = *state;
    build(TXN_ADD, COUNTS, 1, 0);
    uint64_t seq = rig_submit(r, &t);
    for (int i = 0; i < 3; i++) { /* while it waits for the backup */
        build(TXN_ADD, COUNTS, 1, 0);
        rig_submit_as(r, &t, seq);
    }
    rig_await(r, seq);
    rig_run(r, 5);
    assert_int_equal(rig_results_of(r, seq), 4);
    build(TXN_ADD, COUNTS, 1, 0);
    rig_submit_as(r, &t, seq); /* and after it is done */
    rig_run(r, 5);
    assert_int_equal(rig_results_of(r, seq), 5);
    assert_int_equal(rig_status(r, 0).duplicates, 4);
    assert_int_equal(rig_status(r, 0).results_kept, 1);
    assert_int_equal(rig_status(r, 1).results_kept, 1);
    assert_int_equal(counter(r, 1), 1);
}

static void test_refused_stays_refused(void **state)
{
    struct rig *r = *state;
    build(TXN_INSERT, THINGS, 1, 0);
    uint64_t version = txn_result_first(rig_call(r, &t))->version;
    build(TXN_INSERT, THINGS, 1, 0);
    uint64_t seq = rig_submit(r, &t);
    assert_int_equal(rig_await(r, seq)->status, TXN_CONFLICT);
    build(TXN_DELETE, THINGS, 1, version);
    assert_int_equal(rig_await(r, rig_submit(r, &t))->status, TXN_OK);
    rig_results_clear(r);
    build(TXN_INSERT, THINGS, 1, 0); /* the second copy of what was refused */
    rig_submit_as(r, &t, seq);
    assert_int_equal(rig_await(r, seq)->status, TXN_CONFLICT);
    assert_int_equal(rig_status(r, 0).entries, 0);
}

static void test_watermark(void **state)
{
    struct rig *r = *state;
    for (int i = 0; i < 10; i++) {
        build(TXN_ADD, COUNTS, 1, 0);
        rig_call(r, &t);
    }
    rig_run(r, 20);
    assert_int_equal(rig_status(r, 0).results_kept, 1);
    assert_int_equal(rig_status(r, 1).results_kept, 1);
    rig_results_clear(r);
    build(TXN_ADD, COUNTS, 1, 0);
    rig_submit_as(r, &t, 3);
    assert_int_equal(rig_await(r, 3)->status, TXN_FORGOTTEN);
    assert_int_equal(counter(r, 1), 10);
    /* The backup knows the watermark of the last write. */
    uint64_t last = r->seq - 1;
    rig_crash(r, 0);
    rig_promote(r, 1);
    rig_client_connect(r, RIG_CLIENT);
    r->ack = 0;
    rig_results_clear(r);
    build(TXN_ADD, COUNTS, 1, 0);
    rig_submit_as(r, &t, 3);
    assert_int_equal(rig_await(r, 3)->status, TXN_FORGOTTEN);
    build(TXN_ADD, COUNTS, 1, 0);
    rig_submit_as(r, &t, last);
    assert_int_equal(rig_await(r, last)->status, TXN_OK);
    assert_int_equal(counter(r, 1), 10);
}

static void test_window_and_gaps(void **state)
{
    struct rig *r = *state;
    build(TXN_ADD, COUNTS, 1, 0);
    rig_submit_as(r, &t, MSG_CLIENT_WINDOW); /* far ahead, then backwards */
    assert_int_equal(rig_await(r, MSG_CLIENT_WINDOW)->status, TXN_OK);
    build(TXN_ADD, COUNTS, 1, 0);
    rig_submit_as(r, &t, 5);
    assert_int_equal(rig_await(r, 5)->status, TXN_OK);
    build(TXN_ADD, COUNTS, 1, 0);
    rig_submit_as(r, &t, MSG_CLIENT_WINDOW + 1);
    assert_int_equal(rig_await(r, MSG_CLIENT_WINDOW + 1)->status, TXN_BUSY);
    /* Reads alone move the watermark, too. */
    rig_results_clear(r);
    r->ack = r->seq = MSG_CLIENT_WINDOW;
    for (int i = 0; i < 3 * MSG_CLIENT_WINDOW; i++) {
        build(TXN_GET, COUNTS, 1, 0);
        assert_int_equal(rig_call(r, &t)->status, TXN_OK);
    }
    assert_int_equal(rig_status(r, 0).results_kept, 0);
    rig_check_same(r, 0, 1);
}

/* A client that never acknowledges pins results, within a bound of its own. */
static void test_kept_results_are_bounded(void **state)
{
    struct rig *r = *state;
    const struct table_schema wide = {.name = "wide", .kind = TABLE_COUNTERS, .key_size = 4,
                                      .part_len = 4, .value_size = TXN_VALUE_MAX};
    int64_t fields[TXN_VALUE_MAX / 8] = {1};
    uint8_t id = (uint8_t)rig_table(r, &wide);
    uint32_t key = 1;
    int status = TXN_OK, done = 0;
    for (; done < MSG_CLIENT_WINDOW && status == TXN_OK; done++) {
        rig_begin(&t, slot_of(&key, 4));
        for (int op = 0; op < TXN_OPS_MAX - 4; op++) /* each result has the whole value */
            rig_op(&t, (struct txn_op){.code = TXN_ADD, .table = id}, &key, 4, fields,
                   sizeof fields);
        status = rig_await(r, rig_submit(r, &t))->status; /* r->ack stays */
        rig_results_clear(r);
    }
    assert_int_equal(status, TXN_BUSY);
    assert_true(done > CLIENT_KEPT_FREE);
    assert_true(rig_status(r, 0).memory_bytes < 4 * (uint64_t)CLIENT_KEPT_BYTES);
    r->ack = r->seq; /* and goes on as soon as it acknowledges */
    build(TXN_ADD, COUNTS, 1, 0);
    assert_int_equal(rig_call(r, &t)->status, TXN_OK);
}

static void test_leases(void **state)
{
    struct rig *r = *state;
    uint64_t first = r->client;
    assert_int_equal(rig_client_open(r, RIG_CLIENT, 1), first); /* a retried opening */
    uint64_t second = rig_client_open(r, RIG_CLIENT, 2);
    assert_true(second && second != first);
    assert_int_equal(rig_status(r, 0).clients, 2);
    for (int i = 0; i < 20; i++) {
        rig_run(r, LEASE_MS / 10);
        rig_batch(r, RIG_CLIENT, first, 0, NULL, 0, 0); /* an empty batch renews */
    }
    assert_int_equal(rig_status(r, 0).clients, 1);
    rig_run(r, 10);
    assert_int_equal(rig_status(r, 1).clients, 1);
    build(TXN_ADD, COUNTS, 1, 0);
    assert_int_equal(rig_call(r, &t)->status, TXN_OK);
    r->client = second;
    build(TXN_ADD, COUNTS, 1, 0);
    assert_int_equal(rig_call(r, &t)->status, TXN_STALE_CLIENT);
    r->client = 12345;
    build(TXN_GET, COUNTS, 1, 0);
    assert_int_equal(rig_call(r, &t)->status, TXN_STALE_CLIENT);
    rig_check_same(r, 0, 1);
    /* A promoted backup gives the full lease again, and a new id to the next. */
    rig_crash(r, 0);
    rig_promote(r, 1);
    rig_client_connect(r, RIG_CLIENT);
    rig_run(r, LEASE_MS / 2);
    assert_int_equal(rig_status(r, 1).clients, 1);
    uint64_t third = rig_client_open(r, RIG_CLIENT, 3);
    assert_true(third > second);
    rig_run(r, 2 * LEASE_MS);
    assert_int_equal(rig_status(r, 1).clients, 0);
    assert_int_equal(rig_status(r, 1).results_kept, 0);
    rig_check_digest(r, 1);
}

/* A successor may know the client still, and run a late duplicate: so it is told only
 * when what let it go is committed. */
static void test_expired_is_told_when_committed(void **state)
{
    struct rig *r = *state;
    uint64_t mine = r->client, expires = rig_client_open(r, RIG_CLIENT, 2);
    while (rig_status(r, 0).clients == 2) {
        rig_deliver(r);
        rig_batch(r, RIG_CLIENT, mine, 0, NULL, 0, 0);
        r->now++;
        rig_tick(r); /* what the primary says now is not delivered yet */
    }
    assert_true(rig_status(r, 0).commit < rig_status(r, 0).position);
    r->client = expires;
    build(TXN_ADD, COUNTS, 1, 0);
    uint64_t early = rig_submit(r, &t);
    assert_int_equal(rig_result(r, early)->status, TXN_NOT_PRIMARY);
    rig_run(r, 5);
    assert_int_equal(rig_call(r, &t)->status, TXN_STALE_CLIENT);
}

static void test_results_survive_a_join(void **state)
{
    struct rig *r = *state;
    uint64_t seqs[50];
    for (int i = 0; i < 50; i++) {
        build(TXN_ADD, COUNTS, (uint32_t)i, 0);
        rig_await(r, seqs[i] = rig_submit(r, &t));
    }
    rig_crash(r, 1);
    rig_run(r, 10);
    rig_boot(r, 1, (struct shard_config){.client_lease_ms = LEASE_MS});
    rig_connect_backup(r, 1, 0);
    rig_run_until_copies(r, 2);
    rig_check_same(r, 0, 1);
    rig_crash(r, 0);
    rig_promote(r, 1);
    rig_client_connect(r, RIG_CLIENT);
    rig_results_clear(r);
    for (int i = 0; i < 50; i++) {
        build(TXN_ADD, COUNTS, (uint32_t)i, 0);
        rig_submit_as(r, &t, seqs[i]);
        assert_int_equal(rig_await(r, seqs[i])->status, TXN_OK);
    }
    assert_int_equal(rig_status(r, 1).duplicates, 50);
    for (uint32_t i = 0; i < 50; i++)
        assert_int_equal(counter(r, i), 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        T(test_retry_is_not_executed), T(test_refused_stays_refused), T(test_watermark),
        T(test_window_and_gaps), T(test_kept_results_are_bounded), T(test_leases),
        T(test_expired_is_told_when_committed), T(test_results_survive_a_join),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
