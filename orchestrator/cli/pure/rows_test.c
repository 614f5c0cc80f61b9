/* SPDX-License-Identifier: BSD-3-Clause */
/* Entries for people: what lethe-nf tells of fields, keys as written, matches, differences between looks; answers that
 * are wrong in any way. */
#include "tests/check.h"

#include <stdlib.h>

#include "orchestrator/cli/pure/rows.h"

static struct view v;
static char err[700];

static const char told[] =
    "{\"tables\": [{\"table\": \"nat.session\", \"key\": [{\"name\": \"inside\", \"type\": \"end_point\", \"offset\": 0}, "
    "{\"name\": \"remote\", \"type\": \"end_point\", \"offset\": 20}], \"value\": [{\"name\": \"outside\", \"type\": \"pooled\", "
    "\"offset\": 0}, {\"name\": \"state\", \"type\": \"names\", \"offset\": 4, \"names\": [\"syn\", \"established\"]}], "
    "\"pool\": {\"first_port\": 1024, \"ports\": 64512, \"ranges\": [[\"203.0.113.1\", 2]]}}]}";

static void schema(const char *name, uint8_t key_size, uint32_t value_size)
{
    struct table_schema s = {.kind = TABLE_HASH, .version = 1, .key_size = key_size, .part_len = key_size,
                             .value_size = value_size};
    char hex[2 * sizeof s + 1];
    snprintf(s.name, sizeof s.name, "%s", name);
    for (size_t i = 0; i < sizeof s; i++)
        snprintf(hex + 2 * i, 3, "%02x", ((uint8_t *)&s)[i]);
    memset(&v, 0, sizeof v);
    assert_true(view_schema(&v, hex));
    hex[3] = 'g';
    assert_false(view_schema(&(struct view){.told = NULL}, hex));
    assert_false(view_schema(&(struct view){.told = NULL}, "00"));
}

static void layout(const char *text)
{
    json_t *o = json_loads(text, 0, NULL);
    assert_non_null(o);
    view_layout(&v, o);
    json_decref(o);
}

static void session(void)
{
    schema("nat.session", 40, 8);
    layout(told);
}

static struct row row_of(const char *inside, const char *remote, uint64_t version, uint32_t left_ms)
{
    char a[100], b[100], *words[] = {a, b};
    struct row r = {.version = version, .left_ms = left_ms, .value = {1, 0, 0, 0, 1}};
    snprintf(a, sizeof a, "inside=%s", inside);
    snprintf(b, sizeof b, "remote=%s", remote);
    CHECK(!view_key(&v, 2, words, r.key, err, sizeof err), "%s", err);
    return r;
}

static void an_entry_is_told_by_its_fields(void **state)
{
    char cell[600];
    static const char *const wanted[] = {"10.1.0.5:40000/tcp", "192.0.2.80:80/tcp", "203.0.113.1:1025", "established"};
    session();
    struct row r = row_of(wanted[0], wanted[1], 7, 500);
    assert_int_equal(view_columns(&v), 4);
    for (uint32_t i = 0; i < 4; i++) {
        view_cell(&v, &r, i, cell, sizeof cell);
        assert_string_equal(cell, wanted[i]);
    }
    assert_string_equal(view_column(&v, 2), "outside");
    r.value[5] = 0xab; /* where no field is: it is not hidden */
    view_cell(&v, &r, 2, cell, sizeof cell);
    assert_string_equal(cell, "203.0.113.1:1025 (0x0100000001ab0000)");
    json_t *o = view_json(&v, &r);
    assert_string_equal(json_string_value(json_object_get(json_object_get(o, "key"), "inside")), wanted[0]);
    assert_string_equal(json_string_value(json_object_get(json_object_get(o, "value"), "hex")), "0x0100000001ab0000");
    assert_int_equal(json_integer_value(json_object_get(o, "left_ms")), 500);
    json_decref(o);
    view_free(&v);
}

static void without_a_layout_it_is_hex(void **state)
{
    static const char *const wrong[] = {
        "{}", "[]", "{\"tables\": [7, {}, {\"table\": 7}]}", "{\"tables\": [{\"table\": \"knock\"}]}",
        "{\"tables\": [{\"table\": \"knock\", \"key\": [{\"name\": \"a\", \"type\": \"u32\", \"offset\": 1}]}]}",
        "{\"tables\": [{\"table\": \"knock\", \"key\": [{\"name\": \"a\", \"type\": \"u128\", \"offset\": 0}]}]}",
        "{\"tables\": [{\"table\": \"knock\", \"key\": [{\"name\": \"a\", \"type\": \"u32\", \"offset\": -1}]}]}",
        "{\"tables\": [{\"table\": \"knock\", \"key\": [{\"type\": \"u32\", \"offset\": 0}]}]}",
        "{\"tables\": [{\"table\": \"knock\", \"key\": [{}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}]}]}"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char cell[600], *word = (char[]){"0x0a000001"};
        struct row r = {.value = {1, 2}};
        schema("knock", 4, 2);
        layout(wrong[i]);
        assert_int_equal(view_columns(&v), 2);
        assert_int_equal(view_key(&v, 1, &word, r.key, err, sizeof err), 0);
        view_cell(&v, &r, 0, cell, sizeof cell);
        assert_string_equal(cell, "0x0a000001");
        view_cell(&v, &r, 1, cell, sizeof cell);
        assert_string_equal(cell, "0x0102");
        view_free(&v);
    }
}

static void a_key_is_all_its_fields(void **state)
{
    static const struct { const char *words[3]; const char *says; } rows[] = {
        {{"inside=10.1.0.5:1/tcp", "remote=192.0.2.80:80/tcp", NULL}, NULL},
        {{"remote=192.0.2.80:80/tcp", "inside=10.1.0.5:1/tcp", NULL}, NULL},
        {{"inside=10.1.0.5:1/tcp", NULL}, "a key of nat.session is inside=10.1.0.5:5353/udp remote="},
        {{"inside=10.1.0.5:1/tcp", "inside=10.1.0.5:1/tcp", NULL}, "no part of a key"},
        {{"inside=10.1.0.5:1", "remote=192.0.2.80:80/tcp", NULL}, "no part of a key"},
        {{"in=10.1.0.5:1/tcp", "remote=192.0.2.80:80/tcp", NULL}, "no part of a key"},
        {{"10.1.0.5:1/tcp", NULL}, "no part of a key"},
        {{"0x12", NULL}, "80 hex digits"},
        {{NULL}, "a key of nat.session is"}};
    session();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t key[TXN_KEY_MAX] = {0};
        char text[3][100], *words[3];
        int n = 0;
        for (; rows[i].words[n]; n++) {
            snprintf(text[n], sizeof text[n], "%s", rows[i].words[n]);
            words[n] = text[n];
        }
        int rc = view_key(&v, n, words, key, err, sizeof err);
        CHECK(rows[i].says ? rc && strstr(err, rows[i].says) : !rc, "row %zu: %s", i, err);
    }
    view_free(&v);
}

static void matches_are_by_field(void **state)
{
    static const struct { const char *word; int matches; } rows[] = { /* -1: refused */
        {"inside=10.1.0.5:40000/tcp", 1}, {"inside=10.1.0.5:40000", 1}, {"inside=10.1.0.5", 1}, {"inside=10.1.0.50", 0},
        {"inside=10.1.0.5:4000", 0}, {"remote=10.1.0.5", 0}, {"remote=192.0.2.80", 1}, {"outside=203.0.113.1", 1},
        {"outside=203.0.113.1:1025", 1}, {"outside=203.0.113.1:102", 0}, {"state=established", 1}, {"state=syn", 0},
        {"state=open", -1}, {"inside=somebody", -1}, {"inside=abc", -1}, {"inside=10.1", -1},
        {"inside=10.1.0.5:", -1}, {"inside=2001:db8::1", 0}, {"outside=fade", -1}, {"port=7", -1}, {"inside", -1}, {"=7", -1}, {"", -1}};
    session();
    struct row r = row_of("10.1.0.5:40000/tcp", "192.0.2.80:80/tcp", 7, 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct match m;
        int rc = view_match(&v, rows[i].word, &m, err, sizeof err);
        CHECK((rc != 0) == (rows[i].matches < 0), "%s: %s", rows[i].word, err);
        CHECK(rc || view_matches(&v, &r, &m) == rows[i].matches, "%s", rows[i].word);
    }
    view_free(&v);
}

static char said[400];

static void say(void *ctx, enum change what, const struct row *before, const struct row *now)
{
    static const char *const texts[] = {"inserted", "changed", "expired", "deleted"};
    const struct row *r = now ? now : before;
    assert_true((before != NULL) == (what != ROW_INSERTED) && (now != NULL) == (what <= ROW_CHANGED));
    snprintf(said + strlen(said), sizeof said - strlen(said), "%s %d; ", texts[what], r->key[0]);
}

static void looks_are_compared(void **state)
{
    struct rows before = {.n = 0}, now = {.n = 0};
    static const struct { uint8_t key; uint64_t version; uint32_t left_ms; } was[] = {
        {9, 1, 500}, {1, 2, 0}, {3, 3, 900}, {5, 4, 100}, {7, 5, 0}, {7, 4, 0}, {8, 6, 900}}, is[] = {
        {1, 2, 0}, {4, 9, 0}, {3, 8, 900}, {9, 1, 900}};
    for (int i = 0; i < 7; i++)
        assert_true(rows_add(&before, &(struct row){.key = {was[i].key}, .version = was[i].version, .left_ms = was[i].left_ms}));
    for (int i = 0; i < 4; i++)
        assert_true(rows_add(&now, &(struct row){.key = {is[i].key}, .version = is[i].version, .left_ms = is[i].left_ms}));
    rows_sort(&before);
    rows_sort(&now);
    assert_int_equal(before.n, 6); /* 7 was seen twice: the later version */
    assert_int_equal(before.at[3].version, 5);
    said[0] = 0;
    rows_compare(&before, &now, 200, say, NULL);
    assert_string_equal(said, "changed 3; inserted 4; expired 5; deleted 7; deleted 8; ");
    rows_free(&before);
    rows_free(&now);
}

/* Against a naive look at each pair. */
static void any_looks_are_compared(void **state)
{
    for (int round = 0; round < 500; round++) {
        struct rows looks[2] = {{.n = 0}, {.n = 0}};
        uint8_t there[2][20] = {{0}};
        for (int i = 0; i < 40; i++) {
            int look = rand() % 2, key = rand() % 20;
            if (!there[look][key])
                rows_add(&looks[look], &(struct row){.key = {(uint8_t)key}, .version = (uint64_t)(there[look][key] = 1 + (uint8_t)(rand() % 2))});
        }
        char wanted[400] = "";
        for (int key = 0; key < 20; key++) {
            int a = there[0][key], b = there[1][key];
            const char *what = !a && b ? "inserted" : a && !b ? "deleted" : a != b ? "changed" : NULL;
            if (what)
                snprintf(wanted + strlen(wanted), sizeof wanted - strlen(wanted), "%s %d; ", what, key);
        }
        rows_sort(&looks[0]);
        rows_sort(&looks[1]);
        said[0] = 0;
        rows_compare(&looks[0], &looks[1], 1000, say, NULL);
        assert_string_equal(said, wanted);
        rows_free(&looks[0]);
        rows_free(&looks[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_is_told_by_its_fields),
        cmocka_unit_test(without_a_layout_it_is_hex),
        cmocka_unit_test(a_key_is_all_its_fields),
        cmocka_unit_test(matches_are_by_field),
        cmocka_unit_test(looks_are_compared),
        cmocka_unit_test(any_looks_are_compared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
