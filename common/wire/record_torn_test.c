/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Records that are read while they are written: copies whose lines are of several moments,
 * put together from images, and by a reader that copies lines in random order while a
 * writer never stops. A value tells its version; a good copy is of one write, which was
 * committed, and not older than what was committed before the copy began.
 */
#include "tests/check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/wire/record.h"

enum { KEYS = 2, WRITES = 400000, GOOD_ENOUGH = 2000 };

static const struct { uint16_t key, value; } shapes[] = {
    {4, 4}, {4, 36}, {4, 37}, {8, 64}, {13, 64}, {24, 72}, {40, 256}, {40, 1}, {16, 84}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static uint64_t draw(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void value_of(uint64_t version, uint8_t *value, uint32_t len)
{
    uint64_t seed = version * 0x9e3779b97f4a7c15ull + 1;
    for (uint32_t i = 0; i < len; i++)
        value[i] = (uint8_t)draw(&seed);
}

static void write_it(const struct record_shape *s, struct record *r, uint64_t version,
                     const void *key)
{
    uint8_t value[TXN_VALUE_MAX];
    value_of(version, value, s->value_size);
    record_write(s, r, version, key, value);
}

static bool tells_its_version(const struct record_shape *s, const struct record *r)
{
    uint8_t value[TXN_VALUE_MAX], want[TXN_VALUE_MAX];
    record_value(s, r, value);
    value_of(r->version, want, s->value_size);
    return !memcmp(value, want, s->value_size);
}

/* --- images --------------------------------------------------------------------------- */

/* The record as it was before, in the midst of, and after a write; each line of the copy
 * is of one of them. Only whole ones are good. */
static void mix(const struct record_shape *s, uint64_t *seed)
{
    _Alignas(64) static uint8_t image[3][RECORD_LINES_MAX * LINE_BYTES];
    _Alignas(64) uint8_t copy[RECORD_LINES_MAX * LINE_BYTES];
    static const uint8_t key[TXN_KEY_MAX] = "the key";
    struct record *before = (void *)image[0], *amid = (void *)image[1], *after = (void *)image[2];
    before->incarnation = after->incarnation = 7;
    write_it(s, before, 41, key);
    write_it(s, after, 42, key);
    memcpy(image[1], image[0], sizeof image[0]);
    for (int i = 0; i < s->lines; i++) { /* its versions are 0, its payload is of both */
        memset(image[1] + i * LINE_BYTES, 0, 8);
        memcpy(image[1] + i * LINE_BYTES + 40, image[2] + i * LINE_BYTES + 40, 24);
    }
    before->state = after->state = RECORD_COMMITTED;
    amid->state = RECORD_PENDING;
    for (int n = 0; n < 2000; n++) {
        int from[RECORD_LINES_MAX];
        bool whole = true;
        for (int i = 0; i < s->lines; i++) {
            from[i] = (int)(draw(seed) % 3);
            whole &= from[i] == from[0] && from[i] != 1;
            memcpy(copy + i * LINE_BYTES, image[from[i]] + i * LINE_BYTES, LINE_BYTES);
        }
        enum record_verdict v = record_check(s, (void *)copy, key, 7);
        CHECK((v == RECORD_GOOD) == whole, "lines of %d %d %d ...: verdict %d", from[0],
              from[s->lines > 1], from[s->lines > 2 ? 2 : 0], v);
    }
}

static void test_lines_of_several_moments(void **state)
{
    uint64_t seed = 0x9e3779b97f4a7c15ull;
    for (int i = 0; i < SHAPES; i++) {
        struct record_shape s = record_shape_of(shapes[i].key, shapes[i].value);
        mix(&s, &seed);
    }
}

/* Any word of another moment than the rest. */
static void test_words_of_several_moments(void **state)
{
    _Alignas(64) uint8_t a[RECORD_LINES_MAX * LINE_BYTES], b[sizeof a], copy[sizeof a];
    static const uint8_t key[TXN_KEY_MAX] = "the key";
    for (int i = 0; i < SHAPES; i++) {
        struct record_shape s = record_shape_of(shapes[i].key, shapes[i].value);
        memset(a, 0, sizeof a);
        memset(b, 0, sizeof b);
        write_it(&s, (void *)a, 1, key);
        write_it(&s, (void *)b, 2, key);
        ((struct record *)a)->state = ((struct record *)b)->state = RECORD_COMMITTED;
        for (int w = 0; w < s.lines * 8; w++) {
            memcpy(copy, a, sizeof a);
            memcpy(copy + w * 8, b + w * 8, 8);
            enum record_verdict v = record_check(&s, (void *)copy, key, 0);
            bool same = !memcmp(copy, a, sizeof a);
            CHECK((v == RECORD_GOOD) == same, "word %d: verdict %d", w, v);
        }
    }
}

static void test_whose_it_is(void **state)
{
    _Alignas(64) uint8_t memory[RECORD_LINES_MAX * LINE_BYTES] = {0};
    struct record *r = (void *)memory;
    struct record_shape s = record_shape_of(8, 64);
    assert_int_equal(record_check(&s, r, "the key", 0), RECORD_NOT_ITS);
    r->incarnation = 3;
    write_it(&s, r, 5, "the key");
    assert_int_equal(record_check(&s, r, "the key", 3), RECORD_NOT_COMMITTED);
    r->state = RECORD_COMMITTED;
    assert_int_equal(record_check(&s, r, "the key", 3), RECORD_GOOD);
    assert_int_equal(record_check(&s, r, "the key", 2), RECORD_NOT_ITS);
    assert_int_equal(record_check(&s, r, "the kez", 3), RECORD_NOT_ITS);
    r->state = RECORD_FREE;
    assert_int_equal(record_check(&s, r, "the key", 3), RECORD_NOT_ITS);
}

/* --- threads ---------------------------------------------------------------------------- */

static struct shared {
    _Alignas(64) uint8_t memory[RECORD_LINES_MAX * LINE_BYTES];
    struct record_shape shape;
    _Atomic uint64_t committed;   /* newest version that was */
    _Atomic uint64_t owner;       /* key number << 16 | incarnation */
    _Atomic bool stop;
} shared;
static const uint8_t keys[KEYS][TXN_KEY_MAX] = {"one", "two"};

/* Writes, commits now and then, gives the record to another key now and then. */
static void *writer(void *arg)
{
    struct shared *m = arg;
    struct record *r = (void *)m->memory;
    uint64_t seed = 12345;
    uint32_t key = 0;
    for (uint64_t version = 1; !atomic_load_explicit(&m->stop, memory_order_relaxed); version++) {
        if (draw(&seed) % 64 == 0) {
            r->state = RECORD_FREE;
            __atomic_thread_fence(__ATOMIC_RELEASE);
            r->incarnation++;
            key = (key + 1) % KEYS;
            atomic_store(&m->owner, (uint64_t)key << 16 | r->incarnation);
        }
        write_it(&m->shape, r, version, keys[key]);
        if (draw(&seed) % 4 == 0)
            continue; /* the next write comes before its commit */
        __atomic_thread_fence(__ATOMIC_RELEASE);
        r->state = RECORD_COMMITTED;
        atomic_store_explicit(&m->committed, version, memory_order_release);
    }
    return NULL;
}

/* A line's words in ascending order; the lines in any, with any time between. */
__attribute__((no_sanitize("thread"))) static void copy_lines(const struct shared *m, uint8_t *to,
                                                              uint64_t *seed)
{
    uint32_t n = m->shape.lines, order[RECORD_LINES_MAX];
    for (uint32_t i = 0; i < n; i++) {
        uint32_t j = (uint32_t)(draw(seed) % (i + 1));
        order[i] = order[j];
        order[j] = i;
    }
    for (uint32_t i = 0; i < n; i++) {
        const volatile uint64_t *from = (const volatile uint64_t *)(m->memory + order[i] * LINE_BYTES);
        uint64_t *line = (uint64_t *)(to + order[i] * LINE_BYTES);
        for (int w = 0; w < LINE_BYTES / 8; w++)
            line[w] = from[w];
        for (volatile uint32_t pause = (uint32_t)(draw(seed) % 64); pause; pause--)
            ;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
    }
}

static void test_against_a_writer_that_never_stops(void **state)
{
    _Alignas(64) uint8_t copy[RECORD_LINES_MAX * LINE_BYTES];
    const struct record *r = (const void *)copy;
    uint64_t seed = 77, found[4] = {0};
    for (int i = 0; i < SHAPES; i++) {
        pthread_t t;
        uint64_t newest = 0, good = 0;
        memset(&shared, 0, sizeof shared);
        shared.shape = record_shape_of(shapes[i].key, shapes[i].value);
        assert_int_equal(pthread_create(&t, NULL, writer, &shared), 0);
        for (uint32_t n = 0; n < WRITES || good < GOOD_ENOUGH; n++) {
            uint64_t committed = atomic_load_explicit(&shared.committed, memory_order_acquire);
            uint64_t owner = atomic_load(&shared.owner);
            copy_lines(&shared, copy, &seed);
            enum record_verdict v = record_check(&shared.shape, r, keys[owner >> 16],
                                                 (uint16_t)owner);
            found[v]++;
            if (v != RECORD_GOOD)
                continue;
            good++;
            CHECK(tells_its_version(&shared.shape, r), "a good copy of version %lu is none", r->version);
            CHECK(r->version >= newest && r->version >= committed,
                  "version %lu after %lu was seen and %lu committed", r->version, newest, committed);
            newest = r->version;
        }
        atomic_store(&shared.stop, true);
        pthread_join(t, NULL);
    }
    print_message("good %lu, torn %lu, pending %lu, another's %lu\n", found[RECORD_GOOD],
                  found[RECORD_TORN], found[RECORD_NOT_COMMITTED], found[RECORD_NOT_ITS]);
    assert_true(found[RECORD_TORN] && found[RECORD_NOT_COMMITTED] && found[RECORD_NOT_ITS]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_of_several_moments),
        cmocka_unit_test(test_words_of_several_moments),
        cmocka_unit_test(test_whose_it_is),
        cmocka_unit_test(test_against_a_writer_that_never_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
