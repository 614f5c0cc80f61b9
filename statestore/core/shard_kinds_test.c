/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sketches against an exact oracle; tables that only the primary keeps; memory
 * limits of tables and tenants. On a pair, with promotions.
 */
#include "rig_test_support.h"

enum { FLOWS, SKETCH, CACHE, CACHE_COUNTS, LOOSE, PORTS };
enum { ROW = 512 };

static const struct table_schema schemas[] = {
    {.name = "flows", .kind = TABLE_HASH, .key_size = 8, .part_len = 4, .value_size = 60},
    {.name = "heavy", .kind = TABLE_SKETCH, .key_size = 8, .part_len = 4, .value_size = 8,
     .max_entries = SKETCH_ROWS * ROW},
    {.name = "cache", .kind = TABLE_HASH, .key_size = 8, .part_len = 4, .value_size = 8,
     .durability = DURABLE_NONE, .timeout_ms = 2000},
    {.name = "cache.counts", .kind = TABLE_COUNTERS, .key_size = 8, .part_len = 4,
     .value_size = 8, .durability = DURABLE_NONE},
    {.name = "cache.sketch", .kind = TABLE_SKETCH, .key_size = 8, .part_len = 4, .value_size = 8,
     .max_entries = 16, .durability = DURABLE_NONE},
    {.name = "ports", .kind = TABLE_POOL, .key_size = 4, .value_size = 8,
     .max_entries = 256 * 1024},
};

struct key8 { uint32_t part, rest; };
static struct rig_txn t;
static char note[256];

static void hear(struct rig *r, const char *text)
{
    (void)r;
    if (strstr(text, "limit"))
        snprintf(note, sizeof note, "%s", text);
}

static int start_with(struct shard_config c, int shards, void **state)
{
    struct rig *r = rig_new(9, shards, c);
    note[0] = 0;
    r->hear = hear;
    rig_start(r, 0);
    rig_client(r);
    for (int i = 0; i < 6; i++)
        assert_int_equal(rig_table(r, &schemas[i]), i);
    rig_connect_backup(r, 1, 0);
    rig_run_until_copies(r, 2);
    *state = r;
    return 0;
}

static int start(void **state)
{
    return start_with((struct shard_config){.client_lease_ms = 1000000}, 3, state);
}

static int stop(void **state)
{
    rig_free(*state);
    return 0;
}

static void fail_over(struct rig *r)
{
    rig_crash(r, 0);
    rig_promote(r, 1);
    rig_client_connect(r, RIG_CLIENT);
    for (int i = 0; i < 5000 && !shard_takes_requests(r->shard[1]); i++)
        rig_run(r, 1);
}

static int op(uint8_t code, uint8_t table, uint32_t part, uint32_t rest, const void *value,
              uint64_t arg0)
{
    struct key8 k = {part, rest};
    bool has = code == TXN_INSERT || code == TXN_CAS || code == TXN_ADD || code == TXN_ADD_LIMIT;
    return rig_op(&t, (struct txn_op){.code = code, .table = table, .arg0 = arg0}, &k, 8, value,
                  has ? schemas[table].value_size : 0);
}

static const struct txn_result_head *one(struct rig *r, uint8_t code, uint8_t table,
                                         uint32_t part, uint32_t rest, uint64_t value,
                                         uint64_t arg0)
{
    uint64_t v[8] = {value};
    rig_begin(&t, slot_of(&part, 4));
    op(code, table, part, rest, v, arg0);
    return rig_call(r, &t);
}

static int64_t number(const struct txn_result_head *h)
{
    int64_t n;
    assert_int_equal(h->status, TXN_OK);
    memcpy(&n, txn_result_value(txn_result_first(h)), sizeof n);
    return n;
}

/* --- sketches ---------------------------------------------------------------------- */

static void check_against(struct rig *r, const int64_t *truth, uint32_t keys)
{
    int64_t total = 0;
    uint32_t beyond = 0;
    for (uint32_t i = 0; i < keys; i++)
        total += truth[i];
    for (uint32_t i = 0; i < keys; i++) {
        const struct txn_result_head *h = one(r, TXN_GET, SKETCH, 1, i, 0, 0);
        assert_int_equal(txn_result_first(h)->res, RES_HIT);
        int64_t got = number(h);
        CHECK(got >= truth[i], "key %u: %ld of %ld", i, (long)got, (long)truth[i]);
        beyond += (double)(got - truth[i]) > 2.72 / ROW * (double)total;
    }
    CHECK(beyond <= keys * 2 / 100, "%u of %u keys beyond the bound", beyond, keys); /* e^-4 */
}

static void test_sketch_error_bound(void **state)
{
    enum { KEYS = 3000 };
    static int64_t truth[KEYS];
    struct rig *r = *state;
    memset(truth, 0, sizeof truth);
    for (uint32_t i = 0; i < 12000; i++) {
        uint32_t key = (uint32_t)(rig_random(r) % KEYS);
        key = key % (1 + (uint32_t)(rig_random(r) % KEYS)); /* some far more often */
        int64_t add = 1 + (int64_t)(rig_random(r) % 100);
        truth[key] += add;
        assert_int_equal(one(r, TXN_ADD, SKETCH, 1, key, (uint64_t)add, 0)->status, TXN_OK);
    }
    check_against(r, truth, KEYS);
    rig_check_same(r, 0, 1);
    /* A joiner, with another seed, that gets the cells by a snapshot. */
    rig_connect_backup(r, 2, 0);
    rig_run_until_copies(r, 3);
    rig_check_same(r, 0, 2);
    fail_over(r);
    check_against(r, truth, KEYS);
    assert_int_equal(number(one(r, TXN_GET, SKETCH, 2, 1, 0, 0)), 0);
}

static void test_sketch_takes_get_and_add_only(void **state)
{
    static const uint8_t no[] = {TXN_CHECK, TXN_INSERT, TXN_CAS, TXN_DELETE, TXN_ADD_LIMIT};
    struct rig *r = *state;
    for (size_t i = 0; i < sizeof no; i++)
        assert_int_equal(one(r, no[i], SKETCH, 1, 1, 1, no[i] != TXN_INSERT)->status, TXN_BAD_REQUEST);
    rig_begin(&t, 1);
    rig_op(&t, (struct txn_op){.code = TXN_SCAN, .table = SKETCH}, NULL, 0, NULL, 0);
    assert_int_equal(rig_call(r, &t)->status, TXN_BAD_REQUEST);
}

static void test_sketch_in_a_txn(void **state)
{
    struct rig *r = *state;
    int64_t five = 5, got;
    uint32_t part = 3;
    for (int fails = 0; fails < 2; fails++) {
        rig_begin(&t, slot_of(&part, 4));
        op(TXN_ADD, SKETCH, part, 1, &five, 0);
        op(TXN_ADD, SKETCH, part, 1, &five, 0);
        int at = op(TXN_GET, SKETCH, part, 1, NULL, 0);
        if (fails)
            op(TXN_CHECK, FLOWS, part, 1, NULL, 77);
        const struct txn_result_head *h = rig_call(r, &t);
        assert_int_equal(h->status, fails ? TXN_CONFLICT : TXN_OK);
        memcpy(&got, txn_result_value(txn_result_of(h, at)), 8);
        assert_int_equal(got, fails ? 20 : 10);
    }
    assert_int_equal(number(one(r, TXN_GET, SKETCH, part, 1, 0, 0)), 10);
    rig_check_same(r, 0, 1);
}

/* --- DURABLE_NONE ------------------------------------------------------------------- */

static void test_none_is_the_primarys_own(void **state)
{
    struct rig *r = *state;
    struct shard_status before = rig_status(r, 0);
    r->cut[1] = r->hold_views = true; /* nobody acknowledges anything */
    const struct txn_result_head *h = one(r, TXN_INSERT, CACHE, 1, 1, 11, 0);
    uint64_t v1 = txn_result_first(h)->version;
    assert_int_equal(h->status, TXN_OK);
    h = one(r, TXN_CAS, CACHE, 1, 1, 12, v1);
    uint64_t v2 = txn_result_first(h)->version;
    assert_true(v2 > v1);
    assert_int_equal(one(r, TXN_CAS, CACHE, 1, 1, 13, v1)->status, TXN_CONFLICT);
    assert_int_equal(number(one(r, TXN_GET, CACHE, 1, 1, 0, 0)), 12);
    number(one(r, TXN_ADD, CACHE_COUNTS, 1, 1, 5, 0));
    assert_int_equal(number(one(r, TXN_ADD, CACHE_COUNTS, 1, 1, 5, 0)), 10);
    assert_int_equal(number(one(r, TXN_ADD, LOOSE, 1, 1, 3, 0)), 3);
    assert_int_equal(rig_status(r, 0).position, before.position);
    assert_int_equal(rig_status(r, 0).entries, 2);
    r->cut[1] = r->hold_views = false;
    rig_run(r, 10);
    /* A logged write of the slot is above them all. */
    h = one(r, TXN_INSERT, FLOWS, 1, 1, 1, 0);
    assert_true(txn_result_first(h)->version > v2);
    uint64_t last = txn_result_first(one(r, TXN_ADD, CACHE_COUNTS, 1, 1, 1, 0))->version;
    rig_check_digest(r, 0);
    if (rig_status(r, 0).copies == 2) {
        rig_check_same(r, 0, 1);
        assert_int_equal(rig_status(r, 1).entries, 1);
    }
    assert_true(last > txn_result_first(h)->version);
}

static void test_none_ends_with_the_primary(void **state)
{
    struct rig *r = *state;
    uint64_t told = 0;
    for (int i = 0; i < 20; i++)
        told = txn_result_first(one(r, TXN_ADD, CACHE_COUNTS, 1, 1, 1, 0))->version;
    uint64_t stale = txn_result_first(one(r, TXN_INSERT, CACHE, 1, 2, 7, 0))->version;
    rig_connect_backup(r, 2, 0);
    rig_run_until_copies(r, 3);
    rig_check_same(r, 0, 2);
    fail_over(r);
    assert_int_equal(txn_result_first(one(r, TXN_GET, CACHE, 1, 2, 0, 0))->res, RES_ABSENT);
    assert_int_equal(number(one(r, TXN_ADD, LOOSE, 1, 1, 3, 0)), 3);
    uint64_t again = txn_result_first(one(r, TXN_INSERT, CACHE, 1, 2, 8, 0))->version;
    assert_true(again > told && again > stale);
    assert_int_equal(one(r, TXN_CAS, CACHE, 1, 2, 9, stale)->status, TXN_CONFLICT);
    rig_check_digest(r, 1);
}

/* Both stay, the other one leads. */
static void hand_over(struct rig *r, int from, int to)
{
    struct msg_node leader = r->view.members[1];
    r->view.members[1] = r->view.members[0];
    r->view.members[0] = leader;
    r->view.epoch++;
    r->primary = to;
    rig_set_view(r, from);
    rig_set_view(r, to);
    rig_disconnect(r, from, to);
    rig_connect_backup(r, from, to);
    rig_client_connect(r, RIG_CLIENT);
    for (int i = 0; i < 5000 && !shard_takes_requests(r->shard[to]); i++)
        rig_run(r, 1);
    rig_run_until_copies(r, 2);
}

/* A primary that becomes one again has its own of last time: nobody may see it. */
static void test_none_ends_with_the_term(void **state)
{
    struct rig *r = *state;
    one(r, TXN_INSERT, FLOWS, 1, 1, 1, 0);
    one(r, TXN_INSERT, CACHE, 1, 2, 7, 0);
    number(one(r, TXN_ADD, CACHE_COUNTS, 1, 1, 5, 0));
    number(one(r, TXN_ADD, LOOSE, 1, 1, 3, 0));
    hand_over(r, 0, 1);
    assert_int_equal(txn_result_first(one(r, TXN_GET, CACHE, 1, 2, 0, 0))->res, RES_ABSENT);
    hand_over(r, 1, 0);
    assert_int_equal(rig_status(r, 0).role, SHARD_PRIMARY);
    assert_int_equal(txn_result_first(one(r, TXN_GET, CACHE, 1, 2, 0, 0))->res, RES_ABSENT);
    assert_int_equal(number(one(r, TXN_ADD, CACHE_COUNTS, 1, 1, 1, 0)), 1);
    assert_int_equal(number(one(r, TXN_ADD, LOOSE, 1, 1, 1, 0)), 1);
    assert_int_equal(txn_result_first(one(r, TXN_GET, FLOWS, 1, 1, 0, 0))->res, RES_HIT);
    rig_run(r, 2500);
    rig_check_same(r, 0, 1);
}

static void test_none_times_out_without_a_log(void **state)
{
    struct rig *r = *state;
    one(r, TXN_INSERT, CACHE, 1, 1, 11, 0);
    uint64_t position = rig_status(r, 0).position;
    rig_run(r, 1900);
    assert_int_equal(rig_status(r, 0).entries, 1);
    rig_run(r, 150);
    assert_int_equal(rig_status(r, 0).entries, 0);
    assert_int_equal(rig_status(r, 0).position, position);
    rig_check_same(r, 0, 1);
}

static void test_none_in_a_mixed_txn(void **state)
{
    struct rig *r = *state;
    uint64_t v[8] = {1};
    uint32_t part = 1;
    uint64_t position = rig_status(r, 0).position;
    rig_begin(&t, slot_of(&part, 4));
    op(TXN_INSERT, FLOWS, part, 1, v, 0);
    op(TXN_INSERT, CACHE, part, 1, v, 0);
    op(TXN_ADD, LOOSE, part, 1, v, 0);
    assert_int_equal(rig_call(r, &t)->status, TXN_OK);
    assert_int_equal(rig_status(r, 0).position, position + 1);
    rig_check_same(r, 0, 1);
    assert_int_equal(rig_status(r, 0).entries, 2);
    assert_int_equal(rig_status(r, 1).entries, 1);
    /* It waits as its strongest table's does. */
    r->cut[1] = r->hold_views = true;
    rig_begin(&t, slot_of(&part, 4));
    op(TXN_INSERT, FLOWS, part, 2, v, 0);
    op(TXN_ADD, CACHE_COUNTS, part, 1, v, 0);
    uint64_t seq = rig_submit(r, &t);
    rig_run(r, 20);
    assert_null(rig_result(r, seq));
    r->cut[1] = r->hold_views = false;
    assert_int_equal(rig_await(r, seq)->status, TXN_OK);
}

static void test_none_has_no_foreign_parent(void **state)
{
    struct rig *r = *state;
    struct key8 k = {1, 1}, parent = {1, 2};
    uint64_t v[8] = {1};
    assert_int_equal(one(r, TXN_INSERT, FLOWS, 1, 2, 1, 0)->status, TXN_OK);
    assert_int_equal(one(r, TXN_INSERT, CACHE, 1, 2, 1, 0)->status, TXN_OK);
    for (int same = 0; same < 2; same++) {
        struct txn_op o = {.code = TXN_INSERT, .table = CACHE, .flags = TXN_HAS_PARENT,
                           .parent_table = same ? CACHE : FLOWS, .key_len = 8,
                           .parent_key_len = 8, .value_len = 8};
        rig_begin(&t, slot_of(&k.part, 4));
        txn_add_op(&t.b, &o, &k, &parent, v);
        assert_int_equal(rig_call(r, &t)->status, same ? TXN_OK : TXN_BAD_REQUEST);
    }
    rig_check_same(r, 0, 1);
}

/* --- limits -------------------------------------------------------------------------- */

static const char *const tenant_patterns[] = {"nat.*", "flows"};
static const char *const port_pattern[] = {"ports"};
static const struct shard_limit limits[] = {
    {.who = "tenant workers", .patterns = tenant_patterns, .npatterns = 2, .bytes = 2 << 20},
    {.who = "table ports", .patterns = port_pattern, .npatterns = 1, .bytes = 256 * 1024},
};

static int start_limited(void **state)
{
    struct shard_config c = {.client_lease_ms = 1000000, .limits = limits, .nlimits = 2,
                             .memory_bytes = 64 << 20};
    return start_with(c, 2, state);
}

static uint32_t fill(struct rig *r, uint8_t table, uint32_t timeout_ms)
{
    uint64_t v[8] = {0};
    for (uint32_t i = 0; i < 100000; i++) {
        struct key8 k = {i, i};
        rig_begin(&t, slot_of(&k.part, 4));
        rig_op(&t, (struct txn_op){.code = TXN_INSERT, .table = table, .timeout_ms = timeout_ms},
               &k, 8, v, schemas[table].value_size);
        const struct txn_result_head *h = rig_call(r, &t);
        if (h->status == TXN_NO_MEMORY)
            return i;
        assert_int_equal(h->status, TXN_OK);
    }
    fail_msg("never at the limit");
    return 0;
}

static struct shard_limit_status limit_of(struct rig *r, uint32_t i)
{
    struct shard_limit_status l;
    shard_limit_get(r->shard[0], i, &l);
    return l;
}

static void test_limit_of_a_tenant(void **state)
{
    struct rig *r = *state;
    uint32_t n = fill(r, FLOWS, 30000);
    assert_true(n > 1000);
    assert_non_null(strstr(note, "tenant workers is at its limit of 2 MiB: flows holds "));
    struct shard_limit_status l = limit_of(r, 0);
    assert_int_equal(l.bytes, 2 << 20);
    assert_int_equal(l.refused, 1);
    assert_true(l.used <= l.bytes && l.used > l.bytes * 3 / 4);
    /* Said again only after a while; others go on. */
    note[0] = 0;
    for (int i = 0; i < 3; i++)
        one(r, TXN_INSERT, FLOWS, n, n, 1, 0);
    assert_int_equal(limit_of(r, 0).refused, 4);
    assert_string_equal(note, "");
    assert_int_equal(one(r, TXN_INSERT, CACHE, 1, 1, 1, 0)->status, TXN_OK);
    /* What is there is read, written, deleted, and its place used again. */
    const struct txn_result_head *h = one(r, TXN_GET, FLOWS, n - 1, n - 1, 0, 0);
    h = one(r, TXN_CAS, FLOWS, n - 1, n - 1, 5, txn_result_first(h)->version);
    assert_int_equal(h->status, TXN_OK);
    h = one(r, TXN_DELETE, FLOWS, n - 1, n - 1, 0, txn_result_first(h)->version);
    assert_int_equal(h->status, TXN_OK);
    assert_int_equal(one(r, TXN_INSERT, FLOWS, n - 1, n - 1, 1, 0)->status, TXN_OK);
    struct table_schema another = {.name = "nat.session", .kind = TABLE_HASH, .key_size = 8,
                                   .part_len = 8, .value_size = 8};
    assert_true(rig_table(r, &another) < 0);
    assert_non_null(strstr(r->table.text, "tenant workers is at its limit of 2 MiB"));
    another.name[0] = 'w';
    assert_true(rig_table(r, &another) > 0);
    rig_run(r, 32000); /* all but the one without a time-out expire, at the limit */
    assert_int_equal(rig_status(r, 0).entries, 1);
    assert_int_equal(one(r, TXN_INSERT, FLOWS, n, n, 1, 0)->status, TXN_OK);
    rig_check_same(r, 0, 1);
}

static void test_limit_of_a_pool(void **state)
{
    struct rig *r = *state;
    uint64_t v = 1;
    uint32_t got = 0;
    struct { uint32_t index; uint64_t version; uint8_t slot; } last = {0};
    for (int slot = 0; slot < LETHE_SLOTS; slot++) {
        rig_begin(&t, (uint8_t)slot);
        rig_op(&t, (struct txn_op){.code = TXN_ALLOC, .table = PORTS}, NULL, 0, &v, 8);
        const struct txn_result_head *h = rig_call(r, &t);
        if (h->status != TXN_OK) {
            assert_int_equal(h->status, TXN_NO_MEMORY);
            continue;
        }
        got++;
        last.index = txn_result_first(h)->index, last.version = txn_result_first(h)->version;
        last.slot = (uint8_t)slot;
    }
    assert_in_range(got, 1, LETHE_SLOTS - 1);
    assert_true(limit_of(r, 1).used <= limit_of(r, 1).bytes);
    assert_non_null(strstr(note, "table ports is at its limit of 256 KiB"));
    rig_begin(&t, last.slot);
    rig_op(&t, (struct txn_op){.code = TXN_FREE, .table = PORTS, .arg0 = last.version},
           &last.index, 4, NULL, 0);
    assert_int_equal(rig_call(r, &t)->status, TXN_OK);
    rig_begin(&t, last.slot);
    rig_op(&t, (struct txn_op){.code = TXN_ALLOC, .table = PORTS}, NULL, 0, &v, 8);
    assert_int_equal(rig_call(r, &t)->status, TXN_OK);
    rig_check_same(r, 0, 1);
}

static void test_memory_is_counted_once(void **state)
{
    struct rig *r = *state;
    fill(r, FLOWS, 0);
    uint64_t sum = 0;
    struct shard_limit_status all = limit_of(r, 2);
    sum = rig_status(r, 0).memory_bytes;
    assert_int_equal(all.bytes, 64 << 20);
    assert_true(all.used <= sum && all.used > limit_of(r, 0).used + limit_of(r, 1).used);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
#define L(f) cmocka_unit_test_setup_teardown(f, start_limited, stop)
    const struct CMUnitTest tests[] = {
        T(test_sketch_error_bound), T(test_sketch_takes_get_and_add_only),
        T(test_sketch_in_a_txn), T(test_none_is_the_primarys_own),
        T(test_none_ends_with_the_primary), T(test_none_ends_with_the_term),
        T(test_none_times_out_without_a_log),
        T(test_none_in_a_mixed_txn), T(test_none_has_no_foreign_parent),
        L(test_limit_of_a_tenant), L(test_limit_of_a_pool), L(test_memory_is_counted_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
