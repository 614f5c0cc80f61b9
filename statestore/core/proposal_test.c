/* SPDX-License-Identifier: BSD-3-Clause */
/* A wish to change a view: when its outcome is known, and when it is not. */
#include "proposal.h"

#include "tests/check.h"

enum { RETRY_MS = 20 };

static const struct shard_view want = {.epoch = 5, .nmembers = 1, .members = {{.node = 2, .incarnation = 7}}};
static const struct shard_view old = {.epoch = 4, .nmembers = 2, .members = {{.node = 1, .incarnation = 3}, {.node = 2, .incarnation = 7}}};
static const struct shard_view other = {.epoch = 5, .nmembers = 1, .members = {{.node = 1, .incarnation = 3}}};

static struct proposal asked(void)
{
    struct proposal p = {0};
    proposal_open(&p, 4, &want, RETRY_MS, 1000);
    assert_int_equal(proposal_due(&p, 1000), PROPOSAL_READ);
    assert_int_equal(proposal_due(&p, 1000), PROPOSAL_NOTHING); /* one request at a time */
    proposal_was_read(&p, 1000);
    assert_int_equal(proposal_due(&p, 1000), PROPOSAL_SWAP);
    assert_int_equal(proposal_due(&p, 1000), PROPOSAL_NOTHING);
    return p;
}

static void test_swapped(void **state)
{
    (void)state;
    struct shard_view out = {0};
    struct proposal p = asked();
    assert_true(proposal_answered(&p, PROPOSAL_SWAPPED, NULL, 1001, &out));
    assert_memory_equal(&out, &want, sizeof out);
    assert_false(p.open);
    assert_int_equal(proposal_next_ms(&p), UINT64_MAX);
}

static void test_another_was_first(void **state)
{
    (void)state;
    struct shard_view out = {0};
    struct proposal p = asked();
    assert_true(proposal_answered(&p, PROPOSAL_STANDS, &other, 1001, &out));
    assert_memory_equal(&out, &other, sizeof out); /* the same number, other members */
    assert_false(p.open);
}

/* A read of the old view proves nothing: the request is still under way. */
static void test_the_old_view_is_no_outcome(void **state)
{
    (void)state;
    struct shard_view out = {0};
    struct proposal p = asked();
    assert_false(proposal_answered(&p, PROPOSAL_STANDS, &old, 1001, &out));
    assert_true(p.open);
    assert_int_equal(out.epoch, 0);
}

/* Asked again and again, later and later, until the epoch has moved. */
static void test_unknown(void **state)
{
    (void)state;
    struct shard_view out = {0};
    struct proposal p = asked();
    uint64_t now = 1100, waited = 0;
    for (int i = 0; i < 10; i++) {
        assert_false(proposal_answered(&p, PROPOSAL_UNKNOWN, NULL, now, &out));
        uint64_t next = proposal_next_ms(&p);
        CHECK(next > now && next - now >= waited && next - now <= 16 * RETRY_MS,
              "again after %lu ms", (unsigned long)(next - now));
        waited = next - now;
        assert_int_equal(proposal_due(&p, next - 1), PROPOSAL_NOTHING);
        assert_int_equal(proposal_due(&p, next), PROPOSAL_READ);
        if (i % 2) { /* every swap has a read of its own before it */
            proposal_was_read(&p, next + 1);
            assert_int_equal(proposal_due(&p, next + 1), PROPOSAL_SWAP);
        }
        now = next + 100;
    }
    assert_true(waited > RETRY_MS);
    assert_int_equal(out.epoch, 0);
    /* The first request did it, and the watch tells. */
    assert_true(proposal_answered(&p, PROPOSAL_STANDS, &want, now, &out));
    assert_memory_equal(&out, &want, sizeof out);
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    struct shard_view out = {0}, newer = other;
    struct proposal p = asked();
    proposal_open(&p, 4, &other, RETRY_MS, 1001);
    assert_memory_equal(&p.want, &want, sizeof want);
    assert_true(p.asked);
    newer.epoch = 6;
    proposal_open(&p, 5, &newer, RETRY_MS, 1002); /* the epoch moved: what was open is over */
    assert_int_equal(p.old_epoch, 5);
    assert_int_equal(proposal_due(&p, 1002), PROPOSAL_READ);
    assert_false(proposal_answered(&p, PROPOSAL_STANDS, &other, 1003, &out));
}

static void test_a_watch(void **state)
{
    (void)state;
    struct shard_view out = {0};
    struct proposal p = asked();
    assert_true(proposal_answered(&p, PROPOSAL_SWAPPED, NULL, 1001, &out));
    out = (struct shard_view){0};
    assert_false(proposal_answered(&p, PROPOSAL_STANDS, &old, 1002, &out));
    assert_false(proposal_answered(&p, PROPOSAL_UNKNOWN, NULL, 1002, &out));
    assert_int_equal(out.epoch, 0);
    assert_true(proposal_answered(&p, PROPOSAL_STANDS, &other, 1002, &out));
    assert_int_equal(out.epoch, 5);
    assert_int_equal(proposal_due(&p, 2000), PROPOSAL_NOTHING);
}

/* Who hears nothing asks, and asks again, and never swaps. */
static void test_deaf(void **state)
{
    (void)state;
    struct shard_view out = {0};
    struct proposal p = {0};
    proposal_open(&p, 4, &want, RETRY_MS, 1000);
    for (uint64_t now = 1000; p.open && now < 3000; now = proposal_next_ms(&p)) {
        assert_int_equal(proposal_due(&p, now), PROPOSAL_READ);
        assert_false(proposal_answered(&p, PROPOSAL_UNKNOWN, NULL, now + 50, &out));
        proposal_was_read(&p, now + 51); /* of a request that was given up */
        assert_false(p.read);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_swapped),
        cmocka_unit_test(test_another_was_first),
        cmocka_unit_test(test_the_old_view_is_no_outcome),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_a_watch),
        cmocka_unit_test(test_deaf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
