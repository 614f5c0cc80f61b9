/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Records of every shape, against a plain copy of what was written: key and
 * value, links of the wheel, deadlines and groups share lines, and none may
 * write over another. Every byte accounted for is given back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "table.h"

enum { SLOT = 7, RECORDS = 100, GROUPED_FROM = 40 };

struct copy {
    uint32_t rec, incarnation, ahead_ms, timeout_ms, children;
    uint64_t version, deadline_ms, next, prev;
    uint8_t key[TXN_KEY_MAX], value[TXN_VALUE_MAX];
};

static uint64_t seed = 0x9e3779b97f4a7c15ull;
static uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void write_one(struct table *t, struct copy *c, uint32_t n, bool grouped)
{
    uint32_t key_len = t->schema.key_size;
    for (uint32_t i = 0; i < sizeof c->key; i++)
        c->key[i] = (uint8_t)draw();
    for (uint32_t i = 0; i < sizeof c->value; i++)
        c->value[i] = (uint8_t)draw();
    memcpy(c->key, &n, sizeof n);
    assert_true(part_reserve(t, SLOT, 1, grouped));
    c->rec = part_insert(t, SLOT, c->key, table_hash(t, c->key, key_len));
    struct record *r = record_at(t, SLOT, c->rec);
    struct meta *m = meta_at(t, SLOT, c->rec);
    assert_int_equal(r->state, RECORD_PENDING);
    assert_false(is_armed(m));
    assert_int_equal(group_of(t, SLOT, c->rec)->parent_rec, REC_NONE);
    assert_int_equal(group_of(t, SLOT, c->rec)->children, 0);
    c->incarnation = r->incarnation;
    c->version = draw();
    record_write(&t->shape, r, c->version, c->key, c->value);
    r->state = RECORD_COMMITTED;
    r->deadline_ms = c->deadline_ms = draw() >> 18;
    r->timeout_ms = c->timeout_ms = (uint32_t)draw();
    m->ahead_ms = c->ahead_ms = (uint32_t)draw();
    link_set(&m->next, c->next = draw() >> 16);
    link_set(&m->prev, c->prev = draw() >> 16 | 1);
    if (t->part[SLOT].grouped)
        group_at(t, SLOT, c->rec)->children = c->children = (uint32_t)draw();
    else
        c->children = 0;
}

static void check_one(const struct table *t, const struct copy *c)
{
    uint32_t key_len = t->schema.key_size;
    uint8_t value[TXN_VALUE_MAX];
    const struct record *r = record_at(t, SLOT, c->rec);
    const struct meta *m = meta_at(t, SLOT, c->rec);
    const struct record_line *line = (const struct record_line *)(r + 1);
    assert_int_equal(part_find(t, SLOT, c->key, table_hash(t, c->key, key_len)), c->rec);
    record_value(&t->shape, r, value);
    assert_memory_equal(value, c->value, t->schema.value_size);
    assert_int_equal(record_crc(&t->shape, r), record_crc_slow(&t->shape, r));
    assert_int_equal(r->version, c->version);
    for (int i = 1; i < t->shape.lines; i++)
        assert_int_equal(line[i - 1].version, c->version);
    assert_int_equal(r->incarnation, c->incarnation);
    assert_int_equal(r->state, RECORD_COMMITTED);
    assert_true(r->deadline_ms == c->deadline_ms && r->timeout_ms == c->timeout_ms);
    assert_true(link_get(&m->next) == c->next && link_get(&m->prev) == c->prev);
    assert_true(is_armed(m));
    assert_int_equal(m->ahead_ms, c->ahead_ms);
    assert_int_equal(group_of(t, SLOT, c->rec)->children, c->children);
}

static void check_shape(uint16_t key_size, uint16_t value_size)
{
    static struct copy copy[RECORDS];
    struct table_schema schema = {.name = "shape", .kind = TABLE_HASH, .key_size = key_size,
                                  .part_len = key_size, .value_size = value_size};
    uint64_t memory = 0;
    struct table *t = table_create(&schema, 3, draw(), &memory);
    assert_non_null(t);
    uint64_t empty = memory;
    for (uint32_t n = 0; n < RECORDS; n++)
        write_one(t, &copy[n], n, n == GROUPED_FROM);
    for (uint32_t n = 0; n < RECORDS; n += 3) { /* these numbers are given out once more */
        part_remove(t, SLOT, copy[n].rec);
        assert_int_equal(record_at(t, SLOT, copy[n].rec)->state, RECORD_FREE);
        write_one(t, &copy[n], n, false);
        assert_int_equal(copy[n].incarnation, 2);
    }
    for (uint32_t n = 0; n < RECORDS; n++)
        check_one(t, &copy[n]);
    uint64_t before = memory, cost = part_reserve_cost(t, SLOT, 3 * RECORDS, true);
    assert_true(part_reserve(t, SLOT, 3 * RECORDS, true));
    assert_int_equal(memory - before, cost);
    part_clear(t, SLOT);
    assert_int_equal(memory, empty);
    table_destroy(t);
    assert_int_equal(memory, 0);
}

static void test_every_shape(void **state)
{
    (void)state;
    for (uint16_t key = 4; key <= TXN_KEY_MAX; key = (uint16_t)(key + 3))
        for (uint16_t value = 1; value <= TXN_VALUE_MAX; value = (uint16_t)(value + 3))
            check_shape(key, value);
}

/* What an entry costs: a table of the size that is measured beside Redis keeps
 * everything in two lines, and nothing beside them but the index. */
static void test_memory_of_an_entry(void **state)
{
    (void)state;
    struct table_schema schema = {.name = "flows", .kind = TABLE_HASH, .key_size = 13,
                                  .part_len = 13, .value_size = 64};
    uint64_t memory = 0;
    struct table *t = table_create(&schema, 0, 1, &memory);
    assert_non_null(t);
    assert_true(t->meta_inside);
    assert_int_equal(t->shape.lines, 2);
    uint64_t before = memory;
    assert_true(part_reserve(t, SLOT, CHUNK_FIRST, false));
    uint64_t index = ((uint64_t)t->part[SLOT].index.count + t->part[SLOT].index.overflow_room) *
                     sizeof(struct bucket);
    assert_int_equal(memory - before - index, CHUNK_FIRST * 2 * LINE_BYTES);
    table_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_shape),
        cmocka_unit_test(test_memory_of_an_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
