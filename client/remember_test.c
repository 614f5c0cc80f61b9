/* SPDX-License-Identifier: BSD-3-Clause */
/* Remembering, leases, verdicts: remember.h, row by row. */
#include "tests/check.h"

#include "client/remember.h"

/* --- leases ------------------------------------------------------------------------ */

static void test_a_lease_counts_from_when_its_request_was_sent(void **state)
{
    struct read_lease l = {0};
    assert_false(read_lease_holds(&l, 0));
    read_lease_grant(&l, 1000 * 1000, 80, 5000);
    /* 80 ms less a tenth and an eighth: 80 - 10 - 2 */
    assert_true(read_lease_holds(&l, 1000 * 1000 + 67999));
    assert_false(read_lease_holds(&l, 1000 * 1000 + 68000));
    assert_false(read_lease_is_short(&l, 1000 * 1000 + 33999));
    assert_true(read_lease_is_short(&l, 1000 * 1000 + 34000));
}

static void test_a_lease_never_shrinks_and_none_is_none(void **state)
{
    struct read_lease l = {0};
    read_lease_grant(&l, 1000, 100, 1);
    uint64_t until = l.until_us;
    read_lease_grant(&l, 2000, 0, 2);
    read_lease_grant(&l, 2000, 2, 2);  /* less than it takes off */
    read_lease_grant(&l, 0, 1000, 3);  /* of nobody's request */
    assert_int_equal(l.until_us, until);
    read_lease_grant(&l, 500, 90, 0);  /* an earlier one's answer, late */
    assert_int_equal(l.until_us, until);
    assert_int_equal(l.shard_ms, 1);
}

/* Whatever the two clocks do within their bound, it is over in time: the primary's
 * maximum lease and an eighth, on the clock of whoever waits. */
static void test_it_is_over_before_a_new_primary_serves(void **state)
{
    for (uint32_t max_ms = 1; max_ms < 600; max_ms += 7)
        for (uint32_t left_ms = 0; left_ms <= max_ms; left_ms += 3) {
            struct read_lease l = {0};
            read_lease_grant(&l, 1000000, left_ms, 1);
            uint64_t on_mine = l.until_us ? l.until_us - 1000000 : 0;
            uint64_t gone = (max_ms - left_ms) * 1000ull;
            uint64_t there = (gone + on_mine) * 9 / 8, wait = (max_ms + (max_ms + 7) / 8 + 2) * 1000ull;
            CHECK(there <= wait, "max %u left %u: over after %lu, waits %lu", max_ms, left_ms, there, wait);
        }
}

static void test_stamps(void **state)
{
    uint64_t wrap_us = (1ull << 32) * 1000;
    assert_int_equal(read_stamp_us(read_stamp(5999), 7000), 5000);
    assert_int_equal(read_stamp_us(read_stamp(wrap_us - 1000), wrap_us + 3000), wrap_us - 1000);
    assert_int_equal(read_stamp_us(0, 7000), 0);
    assert_int_equal(read_stamp_us(8, 7000), 0);                 /* of the future */
    assert_int_equal(read_stamp(wrap_us), UINT32_MAX);           /* never none */
    assert_int_equal(read_stamp_us(UINT32_MAX, wrap_us + 500), wrap_us - 1000);
}

static void test_shard_time_is_never_later(void **state)
{
    struct read_lease l = {0};
    read_lease_grant(&l, 1000000, 200, 70000);
    assert_true(read_lease_shard_ms(&l, 1000000) >= 70000);
    assert_true(read_lease_shard_ms(&l, 1000000 + 80000) >= 70000 + 80 * 9 / 8);
}

/* --- places -------------------------------------------------------------------------- */

static void test_places_are_found_by_table_and_key(void **state)
{
    struct remember *m = remember_create(1000, 1);
    for (uint32_t i = 0; i < 100; i++)
        for (uint8_t table = 0; table < 2; table++)
            remember_put(m, table, &i, sizeof i)->address = 64 * (2 * i + table);
    for (uint32_t i = 0; i < 100; i++)
        for (uint8_t table = 0; table < 2; table++) {
            struct place *p = remember_find(m, table, &i, sizeof i);
            if (p) /* a set may have been full */
                assert_int_equal(p->address, 64 * (2 * i + table));
        }
    uint32_t key = 7;
    struct place *p = remember_put(m, 0, &key, sizeof key);
    assert_ptr_equal(remember_put(m, 0, &key, sizeof key), p);
    assert_ptr_equal(remember_find(m, 0, &key, sizeof key), p);
    assert_null(remember_find(m, 2, &key, sizeof key));
    assert_null(remember_find(m, 0, &key, 3));
    place_forget(p);
    assert_null(remember_find(m, 0, &key, sizeof key));
    remember_destroy(m);
}

static void test_the_memory_is_bounded(void **state)
{
    enum { PLACES = 64, KEYS = 10000 };
    struct remember *m = remember_create(PLACES, 1);
    int found = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        remember_put(m, 0, &i, sizeof i)->address = i;
        assert_int_equal(remember_find(m, 0, &i, sizeof i)->address, i);
    }
    for (uint32_t i = 0; i < KEYS; i++)
        found += remember_find(m, 0, &i, sizeof i) != NULL;
    assert_int_equal(found, PLACES);
    remember_destroy(m);
}

/* --- verdicts -------------------------------------------------------------------------- */

static void test_verdicts(void **state)
{
    /* lease until 1068 ms; shard time is 5000 at 1000 ms; T is 400 */
    enum { NOW = 1010, LATE = 1068 };
    static const struct row {
        const char *what;
        uint64_t deadline_ms, now_ms;
        uint32_t timeout_ms;
        bool touch;
        uint8_t state;
        uint16_t incarnation;
        enum read_outcome want;
    } rows[] = {
        {"no deadline", 0, NOW, 0, true, RECORD_COMMITTED, 1, READ_HIT},
        {"touched just now", 5500, NOW, 400, true, RECORD_COMMITTED, 1, READ_HIT},
        {"a quarter is nearly over", 5415, NOW, 400, true, RECORD_COMMITTED, 1, READ_HIT},
        {"a quarter is over", 5412, NOW, 400, true, RECORD_COMMITTED, 1, READ_TOUCH_DUE},
        {"... no touch wanted", 5412, NOW, 400, false, RECORD_COMMITTED, 1, READ_HIT},
        {"nearly past it", 5014, NOW, 400, false, RECORD_COMMITTED, 1, READ_HIT},
        {"may be past it", 5013, NOW, 400, false, RECORD_COMMITTED, 1, READ_EXPIRED},
        {"absolute", 5413, NOW, 0, true, RECORD_COMMITTED, 1, READ_HIT},
        {"pending", 0, NOW, 0, false, RECORD_PENDING, 1, READ_PENDING},
        {"free", 0, NOW, 0, false, RECORD_FREE, 1, READ_GONE},
        {"another's", 0, NOW, 0, false, RECORD_COMMITTED, 2, READ_GONE},
        {"the lease was over", 0, LATE, 0, false, RECORD_COMMITTED, 1, READ_NO_LEASE},
    };
    struct record_shape shape = record_shape_of(8, 64);
    struct read_lease l = {0};
    read_lease_grant(&l, 1000 * 1000, 80, 5000);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];
        _Alignas(64) uint8_t memory[RECORD_LINES_MAX * LINE_BYTES] = {0}, value[64] = {0};
        struct record *copy = (void *)memory;
        record_write(&shape, copy, 9, "the key", value);
        copy->state = r->state;
        copy->incarnation = r->incarnation;
        copy->deadline_ms = r->deadline_ms;
        copy->timeout_ms = r->timeout_ms;
        enum read_outcome got = read_judge(&shape, copy, "the key", 1, &l, r->touch, r->now_ms * 1000);
        CHECK(got == r->want, "%s: %s, not %s", r->what, read_outcome_word(got),
              read_outcome_word(r->want));
        memory[LINE_BYTES + 20] ^= 1;
        got = read_judge(&shape, copy, "the key", 1, &l, r->touch, r->now_ms * 1000);
        CHECK(got != READ_HIT, "%s: a torn copy is a hit", r->what);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_lease_counts_from_when_its_request_was_sent),
        cmocka_unit_test(test_a_lease_never_shrinks_and_none_is_none),
        cmocka_unit_test(test_it_is_over_before_a_new_primary_serves),
        cmocka_unit_test(test_stamps),
        cmocka_unit_test(test_shard_time_is_never_later),
        cmocka_unit_test(test_places_are_found_by_table_and_key),
        cmocka_unit_test(test_the_memory_is_bounded),
        cmocka_unit_test(test_verdicts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
