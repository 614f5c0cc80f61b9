/* SPDX-License-Identifier: BSD-3-Clause */
/* Every op and every status, on a single copy. */
#include "rig_test_support.h"

static const struct table_schema flows = {.name = "flows", .kind = TABLE_HASH, .key_size = 8,
                                          .part_len = 4, .value_size = 100};
static const struct table_schema ports = {.name = "ports", .kind = TABLE_POOL, .key_size = 4,
                                          .value_size = 16, .max_entries = 64 * 256 + 30,
                                          .quarantine_ms = 500};
static const struct table_schema counts = {.name = "counts", .kind = TABLE_COUNTERS,
                                           .key_size = 6, .part_len = 4, .value_size = 16};
static const struct table_schema small = {.name = "small", .kind = TABLE_HASH, .key_size = 4,
                                          .part_len = 4, .value_size = 8, .max_entries = 3};
static const struct table_schema block = {.name = "block", .kind = TABLE_POOL, .key_size = 4,
                                          .value_size = 16, .max_entries = 64,
                                          .quarantine_ms = 500};
enum { FLOWS, PORTS, COUNTS, SMALL, BLOCK };

struct key8 { uint32_t part, rest; };

static struct rig *start(struct shard_config config)
{
    struct rig *r = rig_new(7, 1, config);
    rig_start(r, 0);
    rig_client(r);
    assert_int_equal(rig_table(r, &flows), FLOWS);
    assert_int_equal(rig_table(r, &ports), PORTS);
    assert_int_equal(rig_table(r, &counts), COUNTS);
    assert_int_equal(rig_table(r, &small), SMALL);
    assert_int_equal(rig_table(r, &block), BLOCK);
    return r;
}

static int setup(void **state)
{
    *state = start((struct shard_config){0});
    return 0;
}
static int teardown(void **state)
{
    struct rig *r = *state;
    if (r->shard[0])
        rig_check_digest(r, 0);
    rig_free(r);
    return 0;
}

static struct rig_txn t;

static void begin_for(uint32_t part)
{
    rig_begin(&t, slot_of(&part, 4));
}

static const struct txn_result *res(const struct txn_result_head *h, int op)
{
    const struct txn_result *x = txn_result_of(h, op);
    assert_non_null(x);
    return x;
}

/* One op on flows with a value filled with `fill`. */
static const struct txn_result_head *flow_op(struct rig *r, uint8_t code, struct key8 key,
                                             uint64_t arg0, uint8_t fill)
{
    uint8_t value[100];
    memset(value, fill, sizeof value);
    begin_for(key.part);
    bool has_value = code == TXN_INSERT || code == TXN_CAS;
    rig_op(&t, (struct txn_op){.code = code, .table = FLOWS, .arg0 = arg0}, &key, sizeof key,
           value, has_value ? sizeof value : 0);
    return rig_call(r, &t);
}

static void test_hash(void **state)
{
    struct rig *r = *state;
    struct key8 k = {5, 77};
    const struct txn_result_head *h = flow_op(r, TXN_GET, k, 0, 0);
    assert_int_equal(h->status, TXN_OK);
    assert_int_equal(res(h, 0)->res, RES_ABSENT);
    h = flow_op(r, TXN_CHECK, k, 0, 0);
    assert_int_equal(h->status, TXN_OK);
    h = flow_op(r, TXN_INSERT, k, 0, 1);
    assert_int_equal(h->status, TXN_OK);
    uint64_t v1 = res(h, 0)->version;
    assert_true(v1 > 0);
    h = flow_op(r, TXN_INSERT, k, 0, 2);
    assert_int_equal(h->status, TXN_CONFLICT);
    assert_int_equal(res(h, 0)->res, RES_FAILED);
    assert_int_equal(res(h, 0)->version, v1);
    assert_int_equal(txn_result_value(res(h, 0))[99], 1);
    h = flow_op(r, TXN_GET, k, 0, 0);
    assert_int_equal(res(h, 0)->res, RES_HIT);
    assert_int_equal(res(h, 0)->value_len, 100);
    assert_int_equal(txn_result_value(res(h, 0))[0], 1);
    h = flow_op(r, TXN_CAS, k, v1 + 5, 3);
    assert_int_equal(h->status, TXN_CONFLICT);
    h = flow_op(r, TXN_CAS, k, v1, 3);
    assert_int_equal(h->status, TXN_OK);
    uint64_t v2 = res(h, 0)->version;
    assert_true(v2 > v1);
    h = flow_op(r, TXN_CHECK, k, v1, 0);
    assert_int_equal(h->status, TXN_CONFLICT);
    h = flow_op(r, TXN_DELETE, k, v1, 0);
    assert_int_equal(h->status, TXN_CONFLICT);
    h = flow_op(r, TXN_DELETE, k, v2, 0);
    assert_int_equal(h->status, TXN_OK);
    h = flow_op(r, TXN_INSERT, k, 0, 4);
    assert_true(res(h, 0)->version > v2);
}

static const struct txn_result_head *count_op(struct rig *r, uint8_t code, int64_t a, int64_t b,
                                              int64_t limit)
{
    uint8_t key[6] = {1, 0, 0, 0, 9, 9};
    int64_t d[2] = {a, b};
    begin_for(1);
    rig_op(&t, (struct txn_op){.code = code, .table = COUNTS, .arg0 = (uint64_t)limit}, key, 6, d,
           code == TXN_GET ? 0 : sizeof d);
    return rig_call(r, &t);
}

static void test_counters(void **state)
{
    struct rig *r = *state;
    int64_t sum[2];
    const struct txn_result_head *h = count_op(r, TXN_ADD, 5, -2, 0);
    assert_int_equal(h->status, TXN_OK);
    h = count_op(r, TXN_ADD, 5, -2, 0);
    memcpy(sum, txn_result_value(res(h, 0)), sizeof sum);
    assert_int_equal(sum[0], 10);
    assert_int_equal(sum[1], -4);
    h = count_op(r, TXN_ADD_LIMIT, 1, 0, 10);
    assert_int_equal(h->status, TXN_LIMIT);
    assert_int_equal(res(h, 0)->res, RES_FAILED);
    h = count_op(r, TXN_ADD_LIMIT, -1, 0, 10);
    assert_int_equal(h->status, TXN_OK);
    h = count_op(r, TXN_ADD_LIMIT, 1, 0, 10);
    assert_int_equal(h->status, TXN_OK);
    h = count_op(r, TXN_GET, 0, 0, 0);
    memcpy(sum, txn_result_value(res(h, 0)), sizeof sum);
    assert_int_equal(sum[0], 10);
}

static const struct txn_result_head *pool_op(struct rig *r, uint8_t code, uint8_t slot,
                                             uint32_t index, uint64_t version)
{
    uint8_t value[16] = {42};
    rig_begin(&t, slot);
    bool has_value = code == TXN_ALLOC || code == TXN_CAS;
    rig_op(&t, (struct txn_op){.code = code, .table = BLOCK, .arg0 = version}, &index,
           code == TXN_ALLOC ? 0 : 4, value, has_value ? sizeof value : 0);
    return rig_call(r, &t);
}

static void test_pool(void **state)
{
    struct rig *r = *state;
    bool seen[64] = {0};
    uint32_t last = 0;
    uint64_t version = 0;
    /* One block, all of it slot 0's: nobody can lend any. */
    for (int i = 0; i < 64; i++) {
        const struct txn_result_head *h = pool_op(r, TXN_ALLOC, 0, 0, 0);
        assert_int_equal(h->status, TXN_OK);
        last = res(h, 0)->index, version = res(h, 0)->version;
        assert_true(last < 64 && !seen[last]);
        seen[last] = true;
    }
    assert_int_equal(pool_op(r, TXN_ALLOC, 0, 0, 0)->status, TXN_EXHAUSTED);
    assert_int_equal(rig_status(r, 0).exhausted, 1);
    assert_int_equal(pool_op(r, TXN_FREE, 0, last, version + 1)->status, TXN_CONFLICT);
    assert_int_equal(pool_op(r, TXN_FREE, 0, last, version)->status, TXN_OK);
    assert_int_equal(rig_status(r, 0).pool_resting, 1);
    assert_int_equal(pool_op(r, TXN_ALLOC, 0, 0, 0)->status, TXN_EXHAUSTED);
    rig_run(r, 480);
    assert_int_equal(pool_op(r, TXN_ALLOC, 0, 0, 0)->status, TXN_EXHAUSTED);
    rig_run(r, 30);
    const struct txn_result_head *h = pool_op(r, TXN_ALLOC, 0, 0, 0);
    assert_int_equal(h->status, TXN_OK);
    assert_int_equal(res(h, 0)->index, last);
    h = pool_op(r, TXN_GET, 0, last, 0);
    assert_int_equal(res(h, 0)->res, RES_HIT);
    assert_int_equal(txn_result_value(res(h, 0))[0], 42);
    assert_int_equal(pool_op(r, TXN_GET, 0, 64, 0)->status, TXN_BAD_REQUEST);
}

/* get-or-create: allocate, insert what names the index, in one round trip. */
static void get_or_create(uint32_t part, uint64_t *seq, struct rig *r)
{
    struct key8 k = {part, 1};
    uint8_t record[16] = {7}, value[100] = {0};
    begin_for(part);
    int get = rig_op(&t, (struct txn_op){.code = TXN_GET, .table = FLOWS,
                                         .flags = TXN_TOUCH | TXN_SKIP_IF_PRESENT}, &k, 8, NULL, 0);
    int alloc = rig_op(&t, (struct txn_op){.code = TXN_ALLOC, .table = PORTS}, NULL, 0, record, 16);
    rig_op(&t, (struct txn_op){.code = TXN_INSERT, .table = FLOWS}, &k, 8, value, 100);
    txn_add_patch(&t.b, (struct txn_patch){.op = (uint8_t)alloc, .from = PATCH_INDEX, .len = 4,
                                           .into = PATCH_INTO_VALUE, .into_off = 10});
    txn_add_patch(&t.b, (struct txn_patch){.op = (uint8_t)alloc, .from = PATCH_VERSION, .len = 8,
                                           .into = PATCH_INTO_VALUE, .into_off = 14});
    txn_skip_to_here(&t.b, get);
    *seq = rig_submit(r, &t);
}

static void test_get_or_create(void **state)
{
    struct rig *r = *state;
    uint64_t seq;
    get_or_create(31, &seq, r);
    const struct txn_result_head *h = rig_await(r, seq);
    assert_int_equal(h->status, TXN_OK);
    assert_int_equal(h->nres, 3);
    uint32_t index = res(h, 1)->index;
    uint64_t version = res(h, 1)->version;
    get_or_create(31, &seq, r);
    h = rig_await(r, seq);
    assert_int_equal(h->nres, 1);
    assert_int_equal(res(h, 0)->res, RES_HIT);
    assert_memory_equal(txn_result_value(res(h, 0)) + 10, &index, 4);
    assert_memory_equal(txn_result_value(res(h, 0)) + 14, &version, 8);
    assert_int_equal(rig_status(r, 0).pool_used, 1);
}

static void test_guard_undoes_all(void **state)
{
    struct rig *r = *state;
    struct key8 k = {3, 3};
    uint8_t record[16] = {0}, value[100] = {0};
    flow_op(r, TXN_INSERT, k, 0, 1);
    struct shard_status before = rig_status(r, 0);
    begin_for(3);
    rig_op(&t, (struct txn_op){.code = TXN_ALLOC, .table = PORTS}, NULL, 0, record, 16);
    struct key8 other = {3, 4};
    rig_op(&t, (struct txn_op){.code = TXN_INSERT, .table = FLOWS}, &other, 8, value, 100);
    rig_op(&t, (struct txn_op){.code = TXN_INSERT, .table = FLOWS}, &k, 8, value, 100);
    const struct txn_result_head *h = rig_call(r, &t);
    assert_int_equal(h->status, TXN_CONFLICT);
    assert_int_equal(h->failed_op, 2);
    struct shard_status after = rig_status(r, 0);
    assert_int_equal(before.position, after.position);
    assert_int_equal(before.entries, after.entries);
    assert_int_equal(after.pool_used, 0);
    assert_int_equal(before.pool_free, after.pool_free);
}

static void test_stop_if_absent(void **state)
{
    struct rig *r = *state;
    struct key8 k = {8, 1};
    uint8_t value[100] = {0};
    begin_for(8);
    rig_op(&t, (struct txn_op){.code = TXN_GET, .table = FLOWS, .flags = TXN_STOP_IF_ABSENT}, &k, 8,
           NULL, 0);
    rig_op(&t, (struct txn_op){.code = TXN_INSERT, .table = FLOWS}, &k, 8, value, 100);
    const struct txn_result_head *h = rig_call(r, &t);
    assert_int_equal(h->status, TXN_OK);
    assert_int_equal(h->nres, 1);
    assert_int_equal(rig_status(r, 0).entries, 0);
}

static void test_scan(void **state)
{
    struct rig *r = *state;
    for (uint32_t i = 0; i < 400; i++)
        flow_op(r, TXN_INSERT, (struct key8){4, i}, 0, (uint8_t)i);
    uint64_t cursor = 0;
    uint32_t seen = 0;
    do {
        begin_for(4);
        rig_op(&t, (struct txn_op){.code = TXN_SCAN, .table = FLOWS, .arg0 = cursor}, NULL, 0, NULL,
               0);
        const struct txn_result_head *h = rig_call(r, &t);
        assert_int_equal(h->status, TXN_OK);
        seen += res(h, 0)->index;
        cursor = res(h, 0)->version;
    } while (cursor);
    assert_int_equal(seen, 400);
}

static void test_limits(void **state)
{
    struct rig *r = *state;
    uint64_t v = 0;
    for (uint32_t i = 0; i < 4; i++) {
        rig_begin(&t, slot_of(&i, 4));
        rig_op(&t, (struct txn_op){.code = TXN_INSERT, .table = SMALL}, &i, 4, &v, 8);
        assert_int_equal(rig_call(r, &t)->status, i < 3 ? TXN_OK : TXN_NO_MEMORY);
    }
}

static void test_bad_requests(void **state)
{
    struct rig *r = *state;
    struct key8 k = {9, 9};
    uint64_t v = 0;
    rig_begin(&t, (uint8_t)(slot_of(&k.part, 4) + 1)); /* another slot's key */
    rig_op(&t, (struct txn_op){.code = TXN_GET, .table = FLOWS}, &k, 8, NULL, 0);
    assert_int_equal(rig_call(r, &t)->status, TXN_BAD_REQUEST);
    begin_for(9); /* unknown table */
    rig_op(&t, (struct txn_op){.code = TXN_GET, .table = 17}, &k, 8, NULL, 0);
    assert_int_equal(rig_call(r, &t)->status, TXN_BAD_REQUEST);
    begin_for(9); /* wrong kind */
    rig_op(&t, (struct txn_op){.code = TXN_INSERT, .table = COUNTS}, &k, 6, &v, 8);
    assert_int_equal(rig_call(r, &t)->status, TXN_BAD_REQUEST);
    begin_for(9); /* wrong size */
    rig_op(&t, (struct txn_op){.code = TXN_INSERT, .table = FLOWS}, &k, 8, &v, 8);
    assert_int_equal(rig_call(r, &t)->status, TXN_BAD_REQUEST);
}

static void test_schemas(void **state)
{
    struct rig *r = *state;
    struct table_schema other = flows;
    assert_int_equal(rig_table(r, &flows), FLOWS);
    other.value_size = 64;
    assert_true(rig_table(r, &other) < 0);
    assert_non_null(strstr(r->table.text, "100"));
    assert_non_null(strstr(r->table.text, "64"));
}

static void test_hello(void **state)
{
    struct rig *r = *state;
    struct msg_status m = {.nonce = 1};
    msg_head_set(&m, MSG_STATUS, sizeof m, 0, 0);
    rig_frame(r, 0, 777, &m, sizeof m); /* before HELLO */
    assert_int_equal(r->closed, 1);
    rig_frame(r, 0, RIG_CLIENT, &m, sizeof m);
    assert_int_equal(r->closed, 1);
    assert_int_equal(r->status.role, SHARD_PRIMARY);
    struct msg_join j = {.self = rig_node(1)};
    msg_head_set(&j, MSG_JOIN, sizeof j, 0, 0);
    rig_frame(r, 0, RIG_CLIENT, &j, sizeof j); /* not a client's frame */
    assert_int_equal(r->closed, 2);
}

static void test_roles(void **state)
{
    struct rig *r = *state;
    uint32_t k = 1;
    rig_crash(r, 0);
    rig_boot(r, 0, (struct shard_config){0});
    rig_client_connect(r, RIG_CLIENT);
    rig_begin(&t, slot_of(&k, 4));
    rig_op(&t, (struct txn_op){.code = TXN_GET, .table = SMALL}, &k, 4, NULL, 0);
    assert_int_equal(rig_call(r, &t)->status, TXN_NOT_PRIMARY);
    assert_int_equal(rig_client_open(r, RIG_CLIENT, 5), 0);
    assert_int_equal(rig_table(r, &small), -EAGAIN);
    /* It has no data: being named primary of a later view does not help. */
    r->view.epoch = 2;
    r->view.members[0].incarnation = 1000 + r->now;
    shard_destroy(r->shard[0]);
    rig_boot(r, 0, (struct shard_config){0});
    rig_set_view(r, 0);
    rig_client_connect(r, RIG_CLIENT);
    rig_begin(&t, slot_of(&k, 4));
    rig_op(&t, (struct txn_op){.code = TXN_GET, .table = SMALL}, &k, 4, NULL, 0);
    assert_int_equal(rig_call(r, &t)->status, TXN_LOST);
    assert_int_equal(rig_status(r, 0).role, SHARD_LOST);
}

static void test_memory_limit(void **state)
{
    (void)state;
    struct rig *r = start((struct shard_config){.memory_bytes = 700000});
    int refused = 0;
    for (uint32_t i = 0; i < 5000; i++) {
        enum txn_status st = flow_op(r, TXN_INSERT, (struct key8){i, 1}, 0, 1)->status;
        assert_true(st == TXN_OK || st == TXN_NO_MEMORY);
        refused += st == TXN_NO_MEMORY;
    }
    assert_in_range(refused, 100, 4900);
    rig_check_digest(r, 0);
    rig_free(r);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_hash), T(test_counters), T(test_pool), T(test_get_or_create),
        T(test_guard_undoes_all), T(test_stop_if_absent), T(test_scan), T(test_limits),
        T(test_bad_requests), T(test_schemas), T(test_hello), T(test_roles),
        cmocka_unit_test(test_memory_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
