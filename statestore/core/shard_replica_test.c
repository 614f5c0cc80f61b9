/* SPDX-License-Identifier: BSD-3-Clause */
/* Replication: output commit, joins under lossy delivery, promotion. */
#include "rig_test_support.h"

static const struct table_schema flows = {.name = "flows", .kind = TABLE_HASH, .key_size = 8,
                                          .part_len = 4, .value_size = 60, .timeout_ms = 4000};
static const struct table_schema ports = {.name = "ports", .kind = TABLE_POOL, .key_size = 4,
                                          .value_size = 16, .max_entries = 64 * 256,
                                          .quarantine_ms = 50};
static const struct table_schema counts = {.name = "counts", .kind = TABLE_COUNTERS,
                                           .key_size = 4, .part_len = 4, .value_size = 16,
                                           .durability = DURABLE_ASYNC};
enum { FLOWS, PORTS, COUNTS };
struct key8 { uint32_t part, rest; };

static struct rig_txn t;

static void open_tables(struct rig *r)
{
    rig_client(r);
    assert_int_equal(rig_table(r, &flows), FLOWS);
    assert_int_equal(rig_table(r, &ports), PORTS);
    assert_int_equal(rig_table(r, &counts), COUNTS);
}

static struct rig *start_pair(uint64_t seed)
{
    struct rig *r = rig_new(seed, 2, (struct shard_config){0});
    rig_start(r, 0);
    open_tables(r);
    rig_connect_backup(r, 1, 0);
    rig_run_until_copies(r, 2);
    return r;
}

static void insert_op(uint32_t part, uint32_t rest)
{
    struct key8 k = {part, rest};
    uint8_t value[60] = {(uint8_t)rest};
    rig_begin(&t, slot_of(&part, 4));
    rig_op(&t, (struct txn_op){.code = TXN_INSERT, .table = FLOWS}, &k, 8, value, 60);
}

static void get_with(uint32_t part, uint32_t rest, uint8_t flags)
{
    struct key8 k = {part, rest};
    rig_begin(&t, slot_of(&part, 4));
    rig_op(&t, (struct txn_op){.code = TXN_GET, .table = FLOWS, .flags = flags}, &k, 8, NULL, 0);
}

static void get_op(uint32_t part, uint32_t rest)
{
    get_with(part, rest, TXN_TOUCH);
}

static void add_op(uint32_t key)
{
    int64_t d[2] = {1, 1};
    rig_begin(&t, slot_of(&key, 4));
    rig_op(&t, (struct txn_op){.code = TXN_ADD, .table = COUNTS}, &key, 4, d, 16);
}

/* A mix of everything, in flight at once; results are not looked at. */
static void random_txn(struct rig *r)
{
    uint64_t x = rig_random(r);
    uint32_t part = (uint32_t)(x >> 8) % 40, rest = (uint32_t)(x >> 16) % 30;
    struct key8 k = {part, rest};
    uint8_t value[60] = {(uint8_t)x};
    uint8_t slot = slot_of(&part, 4);
    const struct txn_result_head *last = rig_result(r, r->seq);
    rig_begin(&t, slot);
    switch (x % 6) {
    case 0: insert_op(part, rest); break;
    case 1: get_with(part, rest, x >> 40 & 1 ? TXN_TOUCH : 0); break;
    case 2: add_op(part); break;
    case 3: rig_op(&t, (struct txn_op){.code = TXN_ALLOC, .table = PORTS}, NULL, 0, value, 16); break;
    case 4:
        if (last && last->nres && txn_result_first(last)->index) {
            const struct txn_result *a = txn_result_first(last);
            rig_begin(&t, slot_of_index(a->index));
            rig_op(&t, (struct txn_op){.code = TXN_FREE, .table = PORTS, .arg0 = a->version},
                   &a->index, 4, NULL, 0);
        } else {
            get_op(part, rest);
        }
        break;
    case 5:
        rig_op(&t, (struct txn_op){.code = TXN_DELETE, .table = FLOWS, .arg0 = last && last->nres
                                       ? txn_result_first(last)->version : 1}, &k, 8, NULL, 0);
        break;
    }
    rig_submit(r, &t);
}

static void load(struct rig *r, int txns, int per_ms)
{
    for (int i = 0; i < txns; i++) {
        random_txn(r);
        if (i % per_ms == 0)
            rig_run(r, 1);
        if (r->nresults > RIG_RESULTS_MAX / 2)
            rig_results_clear(r);
        if (r->seq > 600)
            r->ack = r->seq - 600;
    }
}

static void test_commit_waits_for_backup(void **state)
{
    (void)state;
    struct rig *r = start_pair(1);
    insert_op(1, 1);
    assert_int_equal(rig_call(r, &t)->status, TXN_OK);
    r->cut[1] = true; /* silent, but the view is not changed */
    r->hold_views = true;
    insert_op(1, 2);
    uint64_t insert = rig_submit(r, &t);
    get_op(1, 2);
    uint64_t hit = rig_submit(r, &t);
    get_op(1, 3);
    uint64_t miss = rig_submit(r, &t);
    get_with(1, 2, 0); /* the short way, read.c */
    uint64_t plain_hit = rig_submit(r, &t);
    get_with(1, 3, 0);
    uint64_t plain_miss = rig_submit(r, &t);
    insert_op(1, 2);
    uint64_t failed = rig_submit(r, &t);
    uint32_t elsewhere = 2;
    while (slot_of(&elsewhere, 4) == slot_of(&(uint32_t){1}, 4))
        elsewhere++;
    get_with(elsewhere, 1, 0);
    uint64_t other = rig_submit(r, &t);
    add_op(1);
    uint64_t async = rig_submit(r, &t);
    rig_run(r, RIG_FAILURE_MS / 2);
    assert_null(rig_result(r, insert));
    assert_null(rig_result(r, hit));
    assert_null(rig_result(r, miss));
    assert_null(rig_result(r, plain_hit));
    assert_null(rig_result(r, plain_miss));
    assert_null(rig_result(r, failed));
    assert_non_null(rig_result(r, other));
    assert_non_null(rig_result(r, async));
    assert_int_equal(rig_status(r, 0).waiting, 6);
    rig_run(r, 4 * RIG_FAILURE_MS); /* suspected, proposed, not answered */
    assert_null(rig_result(r, insert));
    get_with(elsewhere, 1, 0);
    uint64_t suspended = rig_submit(r, &t);
    rig_run(r, 10);
    assert_null(rig_result(r, suspended));
    r->hold_views = false;
    rig_run(r, 10);
    assert_int_equal(rig_await(r, insert)->status, TXN_OK);
    assert_int_equal(txn_result_first(rig_await(r, hit))->res, RES_HIT);
    assert_int_equal(txn_result_first(rig_await(r, miss))->res, RES_ABSENT);
    assert_int_equal(txn_result_first(rig_await(r, plain_hit))->res, RES_HIT);
    assert_int_equal(txn_result_first(rig_await(r, plain_miss))->res, RES_ABSENT);
    assert_int_equal(rig_await(r, failed)->status, TXN_CONFLICT);
    rig_await(r, suspended);
    assert_int_equal(rig_status(r, 0).copies, 1);
    /* Heard again, it learns that it was left out, and joins afresh. */
    r->cut[1] = false;
    rig_run_until_copies(r, 2);
    rig_check_same(r, 0, 1);
    rig_free(r);
}

static void test_join_under_writes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct rig *r = rig_new(seed, 3, (struct shard_config){0});
        rig_start(r, 0);
        open_tables(r);
        load(r, 3000, 20);
        r->drop = seed % 3 * 40;
        r->twice = seed % 2 * 60;
        r->swap = seed % 4 * 50;
        rig_connect_backup(r, 1, 0);
        load(r, 3000, 20);
        rig_run_until_copies(r, 2);
        rig_connect_backup(r, 2, 0);
        load(r, 3000, 20);
        rig_run_until_copies(r, 3);
        load(r, 500, 20);
        r->drop = 0;
        CHECK(rig_status(r, 0).entries > 100, "seed %lu", (unsigned long)seed);
        rig_check_same(r, 0, 1);
        rig_check_same(r, 0, 2);
        rig_free(r);
    }
}

/* One slot of more parts than the window, written to all the while. */
static void test_join_of_a_big_slot(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct rig *r = rig_new(seed, 2, (struct shard_config){0});
        rig_start(r, 0);
        open_tables(r);
        for (uint32_t i = 0; i < 8000; i++) {
            insert_op(1, i);
            rig_submit(r, &t);
            r->ack = r->seq;
        }
        rig_results_clear(r);
        r->drop = seed * 30;
        r->twice = r->swap = seed % 2 * 80;
        rig_connect_backup(r, 1, 0);
        for (uint32_t i = 8000; i < 10000; i++) {
            insert_op(1, i);
            r->ack = rig_submit(r, &t) - 100;
            get_op(1, i - 7000);
            rig_submit(r, &t);
            rig_run(r, i % 4 == 0);
        }
        CHECK(rig_status(r, 0).entries == 10000, "seed %lu", (unsigned long)seed);
        rig_run_until_copies(r, 2);
        r->drop = 0;
        rig_check_same(r, 0, 1);
        rig_free(r);
    }
}

static void test_promotion(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct rig *r = start_pair(seed);
        load(r, 2000, 10);
        rig_run(r, 50);
        insert_op(7, 1000);
        uint64_t seq = rig_submit(r, &t);
        rig_await(r, seq);
        struct shard_status was = rig_status(r, 0);
        rig_crash(r, 0);
        rig_promote(r, 1);
        struct shard_status is = rig_status(r, 1);
        assert_int_equal(is.role, SHARD_PRIMARY);
        CHECK(is.position >= was.commit, "lost committed entries");
        CHECK(is.shard_time_ms + RIG_FAILURE_MS / 2 > was.shard_time_ms &&
                  is.shard_time_ms <= was.shard_time_ms, "shard time does not continue");
        rig_client_connect(r, RIG_CLIENT);
        insert_op(7, 1000); /* a retry of what is done */
        rig_results_clear(r);
        rig_submit_as(r, &t, seq);
        const struct txn_result_head *h = rig_await(r, seq);
        assert_int_equal(h->status, TXN_OK);
        assert_int_equal(rig_status(r, 1).duplicates, 1);
        load(r, 1000, 10);
        rig_boot(r, 0, (struct shard_config){0});
        rig_connect_backup(r, 0, 1);
        rig_run_until_copies(r, 2);
        load(r, 1000, 10);
        rig_check_same(r, 1, 0);
        rig_free(r);
    }
}

/* A backup that does not acknowledge fills the log, or the waiting replies: the
 * shard says so, refuses what comes nevertheless, and goes on when it is gone. */
static void test_bounds(void **state)
{
    (void)state;
    for (int reads = 0; reads < 2; reads++) {
        struct rig *r = start_pair(4);
        uint64_t sent = 0;
        r->cut[1] = r->hold_views = true;
        insert_op(1, 1);
        rig_submit(r, &t);
        rig_run(r, 2 * RIG_FAILURE_MS); /* reads are suspended from now on */
        for (; shard_takes_requests(r->shard[0]); sent++) {
            CHECK(sent < 200000, "no bound");
            if (reads)
                get_op(1, (uint32_t)sent);
            else
                insert_op(1, (uint32_t)sent + 10);
            r->ack = ++r->seq - 1;
            rig_submit_as(r, &t, r->seq);
            r->ack = 0;
        }
        CHECK(sent > 1000, "bound after %lu", (unsigned long)sent);
        uint64_t seq = 0, position;
        enum txn_status status = TXN_OK;
        for (int i = 0; i < 200000 && status != TXN_BUSY; i++) {
            insert_op(1, (uint32_t)sent++ + 10);
            seq = rig_submit(r, &t);
            status = rig_result(r, seq) ? rig_result(r, seq)->status : TXN_OK;
            r->ack = r->seq;
        }
        assert_int_equal(status, TXN_BUSY);
        position = rig_status(r, 0).position;
        insert_op(1, (uint32_t)sent + 10);
        rig_await(r, rig_submit(r, &t));
        assert_int_equal(rig_status(r, 0).position, position);
        r->hold_views = false;
        rig_results_clear(r);
        rig_run(r, 20);
        assert_true(shard_takes_requests(r->shard[0]));
        assert_int_equal(rig_status(r, 0).waiting, 0);
        rig_check_digest(r, 0);
        rig_free(r);
    }
}

/* Three members; the one promoted is behind another one. */
static void test_promotion_of_the_shorter_log(void **state)
{
    (void)state;
    struct rig *r = rig_new(3, 3, (struct shard_config){0});
    rig_start(r, 0);
    open_tables(r);
    rig_connect_backup(r, 1, 0);
    rig_connect_backup(r, 2, 0);
    rig_run_until_copies(r, 3);
    load(r, 300, 10);
    rig_run(r, 20);
    r->cut[1] = true;
    insert_op(1, 2000);
    rig_submit(r, &t);
    rig_run(r, 5);
    assert_true(rig_status(r, 2).position > rig_status(r, 1).position);
    rig_crash(r, 0);
    r->cut[1] = false;
    struct msg_node one = r->view.members[1], two = r->view.members[2];
    r->view = (struct shard_view){.epoch = r->view.epoch + 1, .nmembers = 2, .members = {one, two}};
    r->primary = one.node == 2 ? 1 : 2;
    if (r->primary == 2)
        r->view.members[0] = two, r->view.members[1] = one, r->primary = 1;
    r->view.members[0] = one.node == 2 ? one : two;
    r->view.members[1] = one.node == 2 ? two : one;
    r->primary = 1;
    rig_connect_backup(r, 2, 1);
    rig_set_view(r, 1);
    rig_set_view(r, 2);
    assert_false(shard_takes_requests(r->shard[1]));
    for (int i = 0; i < 2000 && !shard_takes_requests(r->shard[1]); i++)
        rig_run(r, 1);
    assert_true(shard_takes_requests(r->shard[1]));
    rig_client_connect(r, RIG_CLIENT);
    load(r, 300, 10);
    rig_run_until_copies(r, 2);
    rig_check_same(r, 1, 2);
    rig_free(r);
}

static void test_backup_lost_and_back(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct rig *r = start_pair(seed);
        for (int round = 0; round < 4; round++) {
            load(r, 300, 10);
            if (round % 2) {
                rig_crash(r, 1);
                rig_run(r, 5);
                assert_int_equal(rig_status(r, 0).copies, 1);
                rig_boot(r, 1, (struct shard_config){0});
                rig_connect_backup(r, 1, 0);
            } else {
                r->paused[1] = true;
                load(r, 2000, 10);
                r->paused[1] = false;
            }
            rig_run_until_copies(r, 2);
        }
        load(r, 100, 10);
        rig_check_same(r, 0, 1);
        rig_free(r);
    }
}

/* An observer who asks one replica after the other finds the same marks. */
static void test_marks_agree(void **state)
{
    (void)state;
    uint64_t position[2], digest[2];
    struct rig *r = start_pair(7);
    load(r, 6000, 10);
    rig_check_same(r, 0, 1);
    for (int i = 0; i < 2; i++)
        shard_mark_get(r->shard[i], &position[i], &digest[i]);
    CHECK(digest[0] && position[0] && position[0] % SHARD_MARK_EVERY == 0 &&
              rig_status(r, 0).position - position[0] <= SHARD_MARK_EVERY,
          "mark at %lu", (unsigned long)position[0]);
    assert_int_equal(position[1], position[0]);
    assert_int_equal(digest[1], digest[0]);
    rig_free(r);
}

static void test_three_members_lossy(void **state)
{
    (void)state;
    struct rig *r = rig_new(9, 3, (struct shard_config){0});
    rig_start(r, 0);
    open_tables(r);
    rig_connect_backup(r, 1, 0);
    rig_connect_backup(r, 2, 0);
    r->drop = r->twice = r->swap = 100;
    load(r, 4000, 10);
    r->drop = 0;
    rig_run_until_copies(r, 3);
    rig_check_same(r, 0, 1);
    rig_check_same(r, 0, 2);
    rig_free(r);
}

static void test_fresh_view_of_two(void **state)
{
    (void)state;
    struct rig *r = rig_new(2, 2, (struct shard_config){0});
    rig_connect_backup(r, 1, 0);
    r->view = (struct shard_view){.epoch = 1, .nmembers = 2, .members = {rig_node(0), rig_node(1)}};
    r->view.members[0].incarnation += 1000;
    r->view.members[1].incarnation += 1000;
    rig_set_view(r, 0);
    rig_set_view(r, 1);
    rig_run_until_copies(r, 2);
    open_tables(r);
    load(r, 200, 10);
    rig_check_same(r, 0, 1);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commit_waits_for_backup),
        cmocka_unit_test(test_join_under_writes),
        cmocka_unit_test(test_join_of_a_big_slot),
        cmocka_unit_test(test_promotion),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_promotion_of_the_shorter_log),
        cmocka_unit_test(test_backup_lost_and_back),
        cmocka_unit_test(test_marks_agree),
        cmocka_unit_test(test_three_members_lossy),
        cmocka_unit_test(test_fresh_view_of_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
