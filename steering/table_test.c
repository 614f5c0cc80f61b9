/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The hand-over of tables: what the datapath holds never changes under it and
 * becomes what it last asked for.
 */
#include "tests/check.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "steering/maglev.h"
#include "steering/table.h"

enum { SIZE = 1009, CHANGES = 3000 };

/* As the datapath does it. */
static const struct table *newest(struct tables *t)
{
    if (table_next(t) != NULL)
        table_retire(t);
    return table_current(t);
}

static void starts_empty_and_follows_what_is_wanted(void **state)
{
    struct tables *t;
    assert_int_equal(tables_create(SIZE, &t), 0);
    assert_int_equal(newest(t)->bucket[0], MAGLEV_NONE);
    assert_false(table_serve(t));
    table_name(t, 3, "a");
    table_name(t, 5, "b");
    table_want(t, 1 << 3 | 1 << 5);
    assert_int_equal(newest(t)->members, 0);
    assert_true(table_serve(t));
    assert_false(table_serve(t));
    const struct table *now = newest(t);
    assert_int_equal(now->members, 1 << 3 | 1 << 5);
    assert_int_equal(now->share[3] + now->share[5], SIZE);
    assert_ptr_equal(newest(t), now);
    tables_destroy(t);
}

static void a_weight_counts_from_the_next_want_on(void **state)
{
    struct tables *t;
    assert_int_equal(tables_create(SIZE, &t), 0);
    table_name(t, 0, "a");
    table_name(t, 1, "b");
    table_want(t, 3);
    assert_true(table_serve(t));
    assert_in_range(newest(t)->share[1], SIZE / 2, SIZE / 2 + 1);
    table_weigh(t, 1, 50);
    assert_false(table_serve(t));
    table_want(t, 3);
    assert_true(table_serve(t));
    assert_in_range(newest(t)->share[1], SIZE / 3 - 1, SIZE / 3 + 1);
    table_name(t, 1, "c"); /* somebody else under this number */
    table_want(t, 3);
    assert_true(table_serve(t));
    assert_in_range(newest(t)->share[1], SIZE / 2, SIZE / 2 + 1);
    tables_destroy(t);
}

/* The builder may finish several tables while the datapath holds one. */
static void an_overtaken_table_is_never_seen_and_the_held_one_stays(void **state)
{
    static uint16_t before[SIZE];
    struct tables *t;
    assert_int_equal(tables_create(SIZE, &t), 0);
    table_name(t, 9, "held");
    table_want(t, 1 << 9);
    assert_true(table_serve(t));
    const struct table *held = newest(t);
    memcpy(before, held->bucket, sizeof(before));
    for (unsigned i = 0; i < 4; i++) {
        table_name(t, i, &"abcd"[i]);
        table_want(t, 1u << i);
        assert_true(table_serve(t)); /* not taken by the datapath in between */
        assert_memory_equal(before, held->bucket, sizeof(before));
        assert_int_equal(held->members, 1 << 9);
    }
    assert_int_equal(newest(t)->members, 8);
    assert_int_equal(newest(t)->share[3], SIZE);
    tables_destroy(t);
}

/* Both can be read until table_retire. */
static void the_one_before_stays_until_it_is_retired(void **state)
{
    struct tables *t;
    assert_int_equal(tables_create(SIZE, &t), 0);
    table_name(t, 1, "a");
    table_name(t, 2, "b");
    table_want(t, 1 << 1);
    assert_true(table_serve(t));
    const struct table *before = newest(t);
    table_want(t, 1 << 1 | 1 << 2);
    assert_true(table_serve(t));
    const struct table *after = table_next(t);
    assert_non_null(after);
    assert_ptr_equal(table_current(t), after);
    assert_int_equal(before->share[1], SIZE);
    assert_in_range(after->share[2], SIZE / 2 - SIZE / 20, SIZE / 2 + SIZE / 20);
    table_retire(t);
    assert_null(table_next(t));
    tables_destroy(t);
}

static int stop;

static void *build(void *arg)
{
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
        if (!table_serve(arg))
            sched_yield();
    return NULL;
}

static void the_held_table_does_not_change(void **state)
{
    struct tables *t;
    pthread_t thread;
    uint64_t rng = 88172645463325252ull, last = 0;
    stop = 0;
    assert_int_equal(tables_create(SIZE, &t), 0);
    for (unsigned i = 0; i < 8; i++)
        table_name(t, i, &"abcdefgh"[i]);
    assert_int_equal(pthread_create(&thread, NULL, build, t), 0);
    for (int change = 0; change < CHANGES; change++) {
        rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
        table_want(t, rng & 0xff);
        const struct table *now = newest(t);
        CHECK(now->number >= last, "change %d: an older table", change);
        last = now->number;
        for (uint32_t b = 0; b < SIZE; b++) {
            bool member = now->bucket[b] != MAGLEV_NONE && (now->members >> now->bucket[b] & 1);
            CHECK(member || now->members == 0, "change %d bucket %u: %u", change, b,
                  now->bucket[b]);
        }
    }
    table_want(t, 0x5);
    while (newest(t)->members != 0x5)
        sched_yield();
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    tables_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_empty_and_follows_what_is_wanted),
        cmocka_unit_test(a_weight_counts_from_the_next_want_on),
        cmocka_unit_test(an_overtaken_table_is_never_seen_and_the_held_one_stays),
        cmocka_unit_test(the_one_before_stays_until_it_is_retired),
        cmocka_unit_test(the_held_table_does_not_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
