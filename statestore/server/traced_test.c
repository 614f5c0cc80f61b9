/* SPDX-License-Identifier: BSD-3-Clause */
/* The stamps of txns: which step sets which, retries, places that another txn takes. */
#include "tests/check.h"

#include "statestore/server/traced.h"

static struct traced *t;
static struct traced_txn x;

static int start(void **state)
{
    t = traced_create();
    return t == NULL;
}

static int stop(void **state)
{
    traced_destroy(t);
    return 0;
}

/* A batch of a client: n txns from `seq` on. */
static const struct msg_batch *batch(uint64_t client, uint64_t seq, uint32_t n)
{
    static union { uint64_t align; uint8_t b[4096]; } frame;
    struct msg_batch *m = (struct msg_batch *)frame.b;
    struct txn_head *h = (struct txn_head *)(m + 1);
    *m = (struct msg_batch){.client = client, .ntxn = n};
    for (uint32_t i = 0; i < n; i++, h++)
        *h = (struct txn_head){.seq = seq + i, .bytes = sizeof *h, .slot = (uint8_t)(10 + i)};
    return m;
}

static const struct msg_results *results(uint64_t client, uint64_t seq, uint32_t n)
{
    static union { uint64_t align; uint8_t b[4096]; } frame;
    struct msg_results *m = (struct msg_results *)frame.b;
    struct txn_result_head *h = (struct txn_result_head *)(m + 1);
    *m = (struct msg_results){.client = client, .nres = n};
    for (uint32_t i = 0; i < n; i++, h++)
        *h = (struct txn_result_head){.seq = seq + i, .bytes = sizeof *h};
    return m;
}

static void each_step_has_its_stamp(void **state)
{
    traced_received(t, batch(9, 1, 2), 1000);
    assert_true(traced_find(t, 9, 2, &x));
    assert_true(x.received_us == 1000 && x.slot == 11);
    assert_true(!x.executed_us && !x.released_us && !x.sent_us);
    traced_executed(t, batch(9, 1, 2));
    traced_released(t, results(9, 1, 1)); /* the other one still waits for its commit */
    traced_sent(t);
    assert_true(traced_find(t, 9, 1, &x));
    assert_true(x.executed_us && x.executed_us <= x.released_us && x.released_us <= x.sent_us);
    assert_true(traced_find(t, 9, 2, &x));
    assert_true(x.executed_us && !x.released_us && !x.sent_us);
    traced_released(t, results(9, 2, 1));
    traced_sent(t);
    assert_true(traced_find(t, 9, 2, &x));
    assert_true(x.released_us <= x.sent_us && x.sent_us);
}

static void answered_within_its_step(void **state)
{
    traced_received(t, batch(9, 1, 1), 1000);
    traced_released(t, results(9, 1, 1));
    traced_executed(t, batch(9, 1, 1));
    assert_true(traced_find(t, 9, 1, &x));
    assert_true(x.executed_us == x.released_us);
}

static void a_retry_keeps_the_first_stamps(void **state)
{
    traced_received(t, batch(9, 1, 1), 1000);
    traced_received(t, batch(9, 1, 1), 2000);
    assert_true(traced_find(t, 9, 1, &x) && x.received_us == 1000);
}

static void unknown_ones_are_not_found(void **state)
{
    traced_released(t, results(9, 1, 1)); /* came before it was wanted */
    traced_sent(t);
    assert_false(traced_find(t, 9, 1, &x));
    traced_received(t, batch(9, 1, 1), 1000);
    assert_false(traced_find(t, 8, 1, &x));
    traced_received(t, batch(9, 1 + TRACED_TXNS, 1), 2000);
    assert_false(traced_find(t, 9, 1, &x)); /* its place is taken */
    assert_true(traced_find(t, 9, 1 + TRACED_TXNS, &x));
}

static void active_as_long_as_ordered(void **state)
{
    assert_false(traced_active(t, 5));
    traced_until(t, 10);
    assert_true(traced_active(t, 9));
    assert_false(traced_active(t, 10));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
        TEST(each_step_has_its_stamp), TEST(answered_within_its_step),
        TEST(a_retry_keeps_the_first_stamps), TEST(unknown_ones_are_not_found),
        TEST(active_as_long_as_ordered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
