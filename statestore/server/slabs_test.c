/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that clients may read: registered, resting, concealed; see slabs.h. */
#include "tests/check.h"

#include <errno.h>

#include "statestore/server/slabs.h"

enum { PAGE = 4096 };

static int exposed;               /* now */
static uint32_t keys;
static bool refuse;

static void *expose(struct listener *l, void *at, uint64_t bytes, uint32_t *rkey)
{
    errno = ENOMEM;
    if (refuse)
        return NULL;
    exposed++;
    *rkey = ++keys;
    return at;
}

static void conceal(void *what)
{
    *(volatile uint8_t *)what = 1; /* it is mapped still */
    exposed--;
}

static struct slabs s;
static struct listener listeners[2] = {{.fd = -1}, {.fd = -1, .expose = expose, .conceal = conceal}};

static struct shard_slabs start(void)
{
    exposed = 0;
    refuse = false;
    return slabs_open(&s, 3, listeners, 2);
}

static void test_without_rdma_there_is_none(void **state)
{
    assert_null(slabs_open(&s, 3, listeners, 1).make);
    slabs_sweep(&s, 1);
    slabs_close(&s);
}

static void test_what_is_given_back_rests(void **state)
{
    struct shard_slabs h = start();
    uint32_t a_key = 0, b_key = 0;
    uint8_t *a = h.make(h.ctx, PAGE, &a_key), *b = h.make(h.ctx, 3 * PAGE, &b_key);
    assert_true(a && b && a_key && b_key && a_key != b_key);
    assert_int_equal(a[0] | b[3 * PAGE - 1], 0);
    assert_int_equal(s.bytes, 4 * PAGE);
    slabs_sweep(&s, 1000);
    h.give_back(h.ctx, a, PAGE);
    slabs_sweep(&s, 1000 + SLABS_REST_MS);
    assert_int_equal(exposed, 2);
    a[0] = 1; /* mapped still */
    slabs_sweep(&s, 1001 + SLABS_REST_MS);
    assert_int_equal(exposed, 1);
    assert_int_equal(s.bytes, 3 * PAGE);
    h.give_back(h.ctx, b, 3 * PAGE);
    slabs_close(&s);
    assert_int_equal(exposed, 0);
}

static void test_resting_is_bounded(void **state)
{
    struct shard_slabs h = start();
    enum { BYTES = SLABS_REST_BYTES / 4 };
    uint32_t key;
    for (int i = 0; i < 10; i++)
        h.give_back(h.ctx, h.make(h.ctx, BYTES, &key), BYTES);
    assert_int_equal(exposed, 4);
    assert_true(s.resting_bytes <= SLABS_REST_BYTES);
    slabs_close(&s);
    assert_int_equal(exposed, 0);
}

static void test_what_cannot_be_registered_is_used(void **state)
{
    struct shard_slabs h = start();
    uint32_t key = 99;
    refuse = true;
    uint8_t *a = h.make(h.ctx, PAGE, &key);
    assert_non_null(a);
    assert_int_equal(key, 0);
    assert_int_equal(s.refused, PAGE);
    assert_int_equal(s.bytes, 0);
    h.give_back(h.ctx, a, PAGE); /* no need to rest */
    assert_null(s.oldest);
    slabs_close(&s);
}

/* The listener goes first, the shard gives its memory back later, and may make more. */
static void test_concealing(void **state)
{
    struct shard_slabs h = start();
    uint8_t *a[100];
    uint32_t key;
    for (int i = 0; i < 100; i++)
        a[i] = h.make(h.ctx, PAGE, &key);
    h.give_back(h.ctx, a[0], PAGE);
    slabs_conceal(&s);
    assert_int_equal(exposed, 0);
    assert_int_equal(s.bytes, 0);
    a[0] = h.make(h.ctx, PAGE, &key);
    assert_int_equal(key, 0);
    for (int i = 0; i < 50; i++) {
        a[i][0] = 1;
        h.give_back(h.ctx, a[i], PAGE);
    }
    slabs_close(&s); /* the rest */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_rdma_there_is_none),
        cmocka_unit_test(test_what_is_given_back_rests),
        cmocka_unit_test(test_resting_is_bounded),
        cmocka_unit_test(test_what_cannot_be_registered_is_used),
        cmocka_unit_test(test_concealing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
