/* SPDX-License-Identifier: BSD-3-Clause */
/* Schemas: each rule has a row that breaks it; a difference names both sides. */
#include "tests/check.h"

#include "common/wire/schema.h"

static struct table_schema session(void)
{
    return (struct table_schema){
        .name = "nat44.session", .kind = TABLE_HASH, .version = 1, .key_size = 24, .part_off = 4,
        .part_len = 8, .value_size = 40, .timeout_ms = 1000, .max_entries = 100,
        .reactions = {{REACT_FREE, 28, 12, {0}, "nat44.port"}, {REACT_SUB, 4, 4, {0}, "nat44.cap"}},
    };
}

#define ROWS(X)                                                                                    \
    X(name_empty, "name: ", memset(s->name, 0, TABLE_NAME_MAX))                                     \
    X(name_no_nul, "name: ", memset(s->name, 'a', TABLE_NAME_MAX))                                  \
    X(name_rest, "name: ", s->name[20] = 'x')                                                       \
    X(name_blank, "name: ", s->name[2] = ' ')                                                       \
    X(kind0, "kind: ", s->kind = 0)                                                                 \
    X(kind5, "kind: ", s->kind = 5)                                                                 \
    X(durability, "durability: unknown", s->durability = 3)                                         \
    X(none_reacts, "durability: events", s->durability = DURABLE_NONE)                              \
    X(none_events, "durability: events",                                                            \
      (memset(s->reactions, 0, sizeof s->reactions), s->durability = DURABLE_NONE,                  \
       s->flags = TABLE_EVENTS))                                                                    \
    X(none_dies, "durability: events",                                                              \
      (memset(s->reactions, 0, sizeof s->reactions), s->durability = DURABLE_NONE,                  \
       s->flags = TABLE_PARENT_DIES))                                                               \
    X(none_pool, "durability: a pool", (s->kind = TABLE_POOL, s->durability = DURABLE_NONE))        \
    X(sketch_value, "value_size: a sketch", s->kind = TABLE_SKETCH)                                 \
    X(sketch_cells, "max_entries: a sketch",                                                        \
      (s->kind = TABLE_SKETCH, s->value_size = 8, s->max_entries = 6))                              \
    X(sketch_cells_max, "max_entries: a sketch",                                                    \
      (s->kind = TABLE_SKETCH, s->value_size = 8, s->max_entries = SKETCH_CELLS_MAX + 4))           \
    X(sketch_time, "timeout_ms", (s->kind = TABLE_SKETCH, s->value_size = 8))                       \
    X(sketch_reacts, "reaction: a sketch",                                                          \
      (s->kind = TABLE_SKETCH, s->value_size = 8, s->timeout_ms = 0))                               \
    X(flag16, "flags: ", s->flags = 16)                                                             \
    X(one_sided, "flags: one-sided", (s->flags = TABLE_ONE_SIDED, s->durability = DURABLE_ASYNC))   \
    X(pool_events, "flags: pools", (s->kind = TABLE_POOL, s->flags = TABLE_EVENTS))                 \
    X(key0, "key_size: write", s->key_size = 0)                                                     \
    X(key41, "key_size: write", s->key_size = 41)                                                   \
    X(pool_key, "key_size: a pool", s->kind = TABLE_POOL)                                           \
    X(part_out, "part_off", s->part_off = 17)                                                       \
    X(part_none, "part_off", s->part_len = 0)                                                       \
    X(value257, "value_size: write", s->value_size = 257)                                           \
    X(counters, "value_size: counters", (s->kind = TABLE_COUNTERS, s->value_size = 12))             \
    X(counters0, "value_size: counters", (s->kind = TABLE_COUNTERS, s->value_size = 0))             \
    X(pool_size, "max_entries: ",                                                                   \
      (s->kind = TABLE_POOL, s->key_size = 4, s->part_off = s->part_len = 0, s->max_entries = 0))   \
    X(rest, "quarantine_ms: ", s->quarantine_ms = 1)                                                \
    X(react_kind, "reaction: unknown", s->reactions[1].kind = 3)                                    \
    X(react_zero, "reaction: unknown", s->reactions[1].zero[4] = 1)                                 \
    X(react_none, "reaction: fields", s->reactions[1].kind = REACT_NONE)                            \
    X(react_table, "reaction: not a", s->reactions[0].table[0] = 0)                                 \
    X(react_len, "reaction: no index", s->reactions[0].len = 8)                                     \
    X(react_out, "reaction: no index", s->reactions[0].off = 29)                                    \
    X(sub_len, "reaction: those", s->reactions[1].len = 0)                                          \
    X(sub_out, "reaction: those", s->reactions[1].off = 21)
#define ROW(n, w, code) static void break_##n(struct table_schema *s) { (void)(code); }
#define ENTRY(n, w, code) {#n, w, break_##n},
ROWS(ROW)
static const struct { const char *name, *why; void (*damage)(struct table_schema *); } rows[] = {
    ROWS(ENTRY)};

static void each_rule_is_named(void **state)
{
    struct table_schema good = session();
    assert_null(schema_validate(&good));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct table_schema s = session();
        rows[i].damage(&s);
        const char *why = schema_validate(&s);
        CHECK(why && strncmp(why, rows[i].why, strlen(rows[i].why)) == 0, "%s: got '%s'",
              rows[i].name, why ? why : "valid");
    }
}

static void pool_and_counters_are_valid(void **state)
{
    struct table_schema pool = {.name = "p", .kind = TABLE_POOL, .key_size = 4, .value_size = 16,
                                .max_entries = 64512, .quarantine_ms = 1000};
    assert_null(schema_validate(&pool));
    struct table_schema counters = {.name = "c", .kind = TABLE_COUNTERS, .key_size = 40,
                                    .part_len = 40, .value_size = 16, .durability = DURABLE_ASYNC};
    assert_null(schema_validate(&counters));
    struct table_schema sketch = {.name = "s", .kind = TABLE_SKETCH, .key_size = 13,
                                  .part_len = 13, .value_size = 8, .max_entries = 4096,
                                  .durability = DURABLE_NONE};
    assert_null(schema_validate(&sketch));
    struct table_schema none = {.name = "n", .kind = TABLE_HASH, .key_size = 8, .part_len = 8,
                                .value_size = 8, .timeout_ms = 100, .durability = DURABLE_NONE,
                                .flags = TABLE_ABSOLUTE};
    assert_null(schema_validate(&none));
}

static void difference_names_both(void **state)
{
    struct table_schema a = session(), b = session();
    char err[240] = "untouched";
    assert_int_equal(schema_compare(&a, &b, err, sizeof err), 0);
    assert_string_equal(err, "untouched");
    b.version = 2;
    assert_int_not_equal(schema_compare(&a, &b, err, sizeof err), 0);
    assert_string_equal(err, "table nat44.session: the store has schema version 1, asked for is "
                             "version 2");
    b.version = 1, b.value_size = 48;
    assert_int_not_equal(schema_compare(&a, &b, err, sizeof err), 0);
    assert_string_equal(err, "table nat44.session: the store has schema version 1 with value_size "
                             "40, asked for is version 1 with value_size 48");
    b = a, b.reactions[1].off = 0;
    assert_int_not_equal(schema_compare(&a, &b, err, sizeof err), 0);
    assert_non_null(strstr(err, "reaction 1: kind 2 on 'nat44.cap' at 4+4, asked for is version 1 "
                                "with kind 2 on 'nat44.cap' at 0+4"));
    b = a, b.name[0] = 'x';
    assert_int_not_equal(schema_compare(&a, &b, err, sizeof err), 0);
    assert_non_null(strstr(err, "'nat44.session', asked for is 'xat44.session'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_rule_is_named),
        cmocka_unit_test(pool_and_counters_are_valid),
        cmocka_unit_test(difference_names_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
