/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Time-outs, touches, groups and reactions, on a pair: what expires when, what
 * the backup knows of it, and what a promoted backup does.
 *
 * The tables are a NAT's: mappings hold an index of `ports` and count against
 * `hosts`; sessions belong to a mapping, which dies with its last one.
 */
#include "rig_test_support.h"

enum { SESSION_MS = 2000, MAPPING_MS = 3000, G_MS = 250 };
enum { PORTS, HOSTS, MAPPINGS, SESSIONS };

static const struct table_schema ports = {.name = "ports", .kind = TABLE_POOL, .key_size = 4,
                                          .value_size = 8, .max_entries = 64 * 256,
                                          .quarantine_ms = 100};
static const struct table_schema hosts = {.name = "hosts", .kind = TABLE_COUNTERS, .key_size = 4,
                                          .part_len = 4, .value_size = 8};
static const struct table_schema mappings = {
    .name = "mappings", .kind = TABLE_HASH, .key_size = 8, .part_len = 4, .value_size = 16,
    .timeout_ms = MAPPING_MS, .flags = TABLE_PARENT_DIES,
    .reactions = {{.kind = REACT_FREE, .off = 0, .len = 12, .table = "ports"},
                  {.kind = REACT_SUB, .off = 0, .len = 4, .table = "hosts"}}};
static const struct table_schema sessions = {.name = "sessions", .kind = TABLE_HASH,
                                             .key_size = 12, .part_len = 4, .value_size = 8,
                                             .timeout_ms = SESSION_MS};

struct mapping_key { uint32_t host, port; };
struct session_key { uint32_t host, port, peer; };
static struct rig_txn t;

static int start_alone(void **state, uint32_t log_bytes)
{
    struct rig *r = rig_new(5, 3, (struct shard_config){.client_lease_ms = 1000000,
                                                        .log_bytes = log_bytes});
    rig_start(r, 0);
    rig_client(r);
    /* A reaction may name a table that is opened later. */
    assert_int_equal(rig_table(r, &ports), PORTS);
    assert_int_equal(rig_table(r, &hosts), HOSTS);
    assert_int_equal(rig_table(r, &mappings), MAPPINGS);
    assert_int_equal(rig_table(r, &sessions), SESSIONS);
    *state = r;
    return 0;
}

static int start_with(void **state, uint32_t log_bytes)
{
    start_alone(state, log_bytes);
    rig_connect_backup(*state, 1, 0);
    rig_run_until_copies(*state, 2);
    return 0;
}

static int start_single(void **state)
{
    return start_alone(state, 0);
}

static int start(void **state)
{
    return start_with(state, 0);
}

static int start_with_a_small_log(void **state)
{
    return start_with(state, 1); /* the least there can be */
}

static int stop(void **state)
{
    rig_free(*state);
    return 0;
}

static int session_op(uint32_t host, uint32_t port, uint32_t peer, struct txn_op op)
{
    struct session_key k = {host, port, peer};
    struct mapping_key m = {host, port};
    uint64_t value = peer;
    bool insert = op.code == TXN_INSERT;
    op.table = SESSIONS;
    op.key_len = sizeof k;
    op.value_len = insert || op.code == TXN_CAS ? sizeof value : 0;
    if (insert) {
        op.flags = TXN_HAS_PARENT;
        op.parent_table = MAPPINGS;
        op.parent_key_len = sizeof m;
    }
    return txn_add_op(&t.b, &op, &k, &m, &value);
}

/* A new flow: cap, index, mapping, session. */
static const struct txn_result_head *new_flow(struct rig *r, uint32_t host, uint32_t port,
                                              uint32_t peer, int64_t cap)
{
    struct mapping_key m = {host, port};
    int64_t one = 1;
    uint8_t value[16] = {0};
    rig_begin(&t, slot_of(&host, 4));
    rig_op(&t, (struct txn_op){.code = TXN_ADD_LIMIT, .table = HOSTS, .arg0 = (uint64_t)cap},
           &host, 4, &one, 8);
    rig_op(&t, (struct txn_op){.code = TXN_ALLOC, .table = PORTS}, NULL, 0, &m, 8);
    rig_op(&t, (struct txn_op){.code = TXN_INSERT, .table = MAPPINGS}, &m, 8, value, 16);
    txn_add_patch(&t.b, (struct txn_patch){.op = 1, .from = PATCH_INDEX, .len = 4,
                                           .into = PATCH_INTO_VALUE});
    txn_add_patch(&t.b, (struct txn_patch){.op = 1, .from = PATCH_VERSION, .len = 8,
                                           .into = PATCH_INTO_VALUE, .into_off = 4});
    session_op(host, port, peer, (struct txn_op){.code = TXN_INSERT});
    return rig_call(r, &t);
}

static const struct txn_result_head *session(struct rig *r, uint32_t host, uint32_t port,
                                             uint32_t peer, struct txn_op op)
{
    rig_begin(&t, slot_of(&host, 4));
    session_op(host, port, peer, op);
    return rig_call(r, &t);
}

struct find { const char *table; struct shard_entry e; bool found; int count; };

static void find_one(void *ctx, const struct shard_entry *e)
{
    struct find *f = ctx;
    if (strcmp(e->table, f->table) != 0)
        return;
    f->e = *e;
    f->found = true;
    f->count++;
}

static struct find find(struct rig *r, int shard, const char *table)
{
    struct find f = {.table = table};
    shard_each(r->shard[shard], find_one, &f);
    return f;
}

static void test_new_flow(void **state)
{
    struct rig *r = *state;
    assert_int_equal(new_flow(r, 1, 10, 99, 2)->status, TXN_OK);
    assert_int_equal(find(r, 0, "mappings").e.children, 1);
    assert_int_equal(session(r, 1, 10, 98, (struct txn_op){.code = TXN_INSERT})->status, TXN_OK);
    assert_int_equal(find(r, 0, "mappings").e.children, 2);
    assert_int_equal(new_flow(r, 1, 11, 99, 2)->status, TXN_OK);
    assert_int_equal(new_flow(r, 1, 12, 99, 2)->status, TXN_LIMIT);
    assert_int_equal(rig_status(r, 0).pool_used, 2);
    /* No mapping, no session. */
    const struct txn_result_head *h = session(r, 1, 77, 1, (struct txn_op){.code = TXN_INSERT});
    assert_int_equal(h->status, TXN_CONFLICT);
    /* A mapping with sessions stays. */
    struct mapping_key m = {1, 10};
    rig_begin(&t, slot_of(&m.host, 4));
    rig_op(&t, (struct txn_op){.code = TXN_GET, .table = MAPPINGS}, &m, 8, NULL, 0);
    uint64_t version = txn_result_first(rig_call(r, &t))->version;
    rig_begin(&t, slot_of(&m.host, 4));
    rig_op(&t, (struct txn_op){.code = TXN_DELETE, .table = MAPPINGS, .arg0 = version}, &m, 8,
           NULL, 0);
    assert_int_equal(rig_call(r, &t)->status, TXN_CONFLICT);
    rig_check_same(r, 0, 1);
}

static void test_last_child_takes_all(void **state)
{
    struct rig *r = *state;
    const struct txn_result_head *h = new_flow(r, 1, 10, 99, 5);
    uint64_t version = txn_result_of(h, 3)->version;
    h = session(r, 1, 10, 98, (struct txn_op){.code = TXN_INSERT});
    uint64_t other = txn_result_of(h, 0)->version;
    h = session(r, 1, 10, 99, (struct txn_op){.code = TXN_DELETE, .arg0 = version});
    assert_int_equal(h->status, TXN_OK);
    assert_int_equal(find(r, 0, "mappings").e.children, 1);
    assert_int_equal(rig_status(r, 0).pool_used, 1);
    uint64_t position = rig_status(r, 0).position;
    h = session(r, 1, 10, 98, (struct txn_op){.code = TXN_DELETE, .arg0 = other});
    assert_int_equal(h->status, TXN_OK);
    assert_int_equal(rig_status(r, 0).position, position + 1); /* one entry does it all */
    assert_int_equal(rig_status(r, 0).entries, 0);             /* the host's counter, too */
    assert_int_equal(rig_status(r, 0).pool_resting, 1);
    assert_int_equal(rig_status(r, 1).entries, 0);
    rig_check_same(r, 0, 1);
}

static void test_idle_group_expires(void **state)
{
    struct rig *r = *state;
    new_flow(r, 1, 10, 99, 5);
    rig_run(r, SESSION_MS - 30);
    assert_int_equal(rig_status(r, 0).entries, 4);
    rig_run(r, 60);
    assert_int_equal(rig_status(r, 0).entries, 0);
    assert_int_equal(rig_status(r, 0).expired, 1);
    rig_run(r, 10);
    assert_int_equal(rig_status(r, 1).entries, 0);
    rig_check_same(r, 0, 1);
}

static void test_touch_keeps_alive(void **state)
{
    struct rig *r = *state;
    new_flow(r, 1, 10, 99, 5);
    uint64_t position = rig_status(r, 0).position;
    for (int i = 0; i < 100; i++) {
        rig_run(r, 50);
        assert_int_equal(
            txn_result_first(session(r, 1, 10, 99, (struct txn_op){.code = TXN_GET,
                                                                   .flags = TXN_TOUCH}))->res,
            RES_HIT);
    }
    /* Logged once per g, not once per touch. */
    uint64_t logged = rig_status(r, 0).position - position;
    assert_in_range(logged, 5000 / (G_MS + 110), 5000 / G_MS + 1);
    assert_int_equal(rig_status(r, 0).touches_logged, logged);
    struct find p = find(r, 0, "mappings"), b = find(r, 1, "mappings");
    struct find c = find(r, 0, "sessions");
    assert_true(p.e.deadline_ms >= c.e.deadline_ms);
    assert_int_equal(p.e.replicated_deadline_ms, b.e.replicated_deadline_ms);
    assert_true(p.e.deadline_ms <= p.e.replicated_deadline_ms + MAPPING_MS / 8);
    rig_check_same(r, 0, 1);
    rig_run(r, SESSION_MS + 50);
    assert_int_equal(rig_status(r, 0).entries, 0);
}

static void test_promoted_backup_is_not_early(void **state)
{
    struct rig *r = *state;
    new_flow(r, 1, 10, 99, 5);
    for (int i = 0; i < 20; i++) {
        rig_run(r, 100);
        session(r, 1, 10, 99, (struct txn_op){.code = TXN_GET, .flags = TXN_TOUCH});
    }
    uint64_t deadline = find(r, 0, "sessions").e.deadline_ms;
    rig_crash(r, 0);
    rig_promote(r, 1);
    rig_client_connect(r, RIG_CLIENT);
    while (rig_status(r, 1).shard_time_ms < deadline) {
        CHECK(find(r, 1, "sessions").found, "expired early");
        rig_run(r, 1);
    }
    rig_run(r, G_MS + 50);
    assert_int_equal(rig_status(r, 1).entries, 0);
    rig_check_digest(r, 1);
}

static void test_cas_changes_timeout(void **state)
{
    struct rig *r = *state;
    const struct txn_result_head *h = new_flow(r, 1, 10, 99, 5);
    uint64_t version = txn_result_of(h, 3)->version;
    h = session(r, 1, 10, 99, (struct txn_op){.code = TXN_CAS, .arg0 = version,
                                              .timeout_ms = 20000});
    assert_int_equal(h->status, TXN_OK);
    assert_int_equal(find(r, 1, "sessions").e.deadline_ms,
                     find(r, 0, "sessions").e.deadline_ms + 20000 / 8);
    assert_true(find(r, 0, "mappings").e.deadline_ms >= find(r, 0, "sessions").e.deadline_ms);
    rig_run(r, 19000);
    assert_int_equal(rig_status(r, 0).entries, 4);
    /* Shorter again: it must not wait for the long one. */
    version = txn_result_of(h, 0)->version;
    h = session(r, 1, 10, 99, (struct txn_op){.code = TXN_CAS, .arg0 = version,
                                              .timeout_ms = 300});
    assert_int_equal(h->status, TXN_OK);
    rig_run(r, 400);
    assert_false(find(r, 0, "sessions").found);
    rig_check_same(r, 0, 1);
}

static void test_many_at_once(void **state)
{
    struct rig *r = *state;
    for (uint32_t i = 0; i < 3000; i++) {
        uint32_t host = i;
        rig_begin(&t, slot_of(&host, 4));
        struct mapping_key m = {host, 1};
        uint8_t value[16] = {255, 255, 255, 255};
        rig_op(&t, (struct txn_op){.code = TXN_INSERT, .table = MAPPINGS,
                                   .timeout_ms = 1 + i * 7919 % 700000}, &m, 8, value, 16);
        rig_submit(r, &t);
        if (i % 50 == 0)
            rig_run(r, 1);
        r->ack = r->seq > 500 ? r->seq - 500 : 0;
    }
    uint64_t begin = rig_status(r, 0).shard_time_ms, last = 0;
    while (rig_status(r, 0).entries) {
        struct find f = find(r, 0, "mappings");
        CHECK(f.e.deadline_ms + 2 * 8 + 1 >= rig_status(r, 0).shard_time_ms, "late");
        rig_run(r, 250);
        last = rig_status(r, 0).shard_time_ms - begin;
        CHECK(last < 710000, "never expires");
    }
    assert_int_equal(rig_status(r, 0).expired, 3000);
    rig_check_same(r, 0, 1);
}

static uint64_t submit_mapping(struct rig *r, uint32_t host, uint32_t timeout_ms)
{
    struct mapping_key m = {host, 1};
    uint8_t value[16] = {255, 255, 255, 255};
    rig_begin(&t, slot_of(&host, 4));
    rig_op(&t, (struct txn_op){.code = TXN_INSERT, .table = MAPPINGS, .timeout_ms = timeout_ms},
           &m, 8, value, 16);
    return rig_submit(r, &t);
}

/* More than go down a level in one step; they are due within a few ticks. */
static void test_a_full_bucket_of_the_wheel(void **state)
{
    enum { MANY = 20000, FIRST_MS = 6000 };
    struct rig *r = *state;
    uint64_t due = r->now + FIRST_MS, last = 0;
    for (uint32_t i = 0; i < MANY; i++) {
        submit_mapping(r, i, (uint32_t)(due - r->now) + i % 30);
        r->ack = r->seq > 500 ? r->seq - 500 : 0;
        if (i % 100 == 0)
            rig_run(r, 1);
        if (i % 10000 == 0)
            rig_results_clear(r);
    }
    rig_run(r, 20);
    assert_int_equal(rig_status(r, 0).entries, MANY);
    rig_run(r, due - r->now - 1);
    assert_int_equal(rig_status(r, 0).entries, MANY); /* none early */
    for (; rig_status(r, 0).entries; last = rig_status(r, 0).expired) {
        bool more = r->now > due + 50 && shard_takes_requests(r->shard[0]);
        CHECK(!more || shard_next_ms(r->shard[0]) <= r->now, "it rests with timers due");
        CHECK(r->now < due + 500, "late: %lu expired", (unsigned long)last);
        rig_run(r, 1);
    }
    assert_int_equal(rig_status(r, 0).expired, MANY);
    rig_check_same(r, 0, 1);
}

/* Those that are due first go down last: while the others do, the driver must not
 * sleep as if nobody else were left; no heartbeat wakes this one. */
static void test_a_bucket_on_its_way_down(void **state)
{
    enum { EARLY = 100, LATE = 20000, WINDOW_MS = 256 * 8 };
    struct rig *r = *state;
    uint64_t offset = rig_status(r, 0).shard_time_ms - r->now;
    uint64_t window = ((r->now + offset) / WINDOW_MS + 3) * WINDOW_MS - offset;
    uint64_t early = window + 600, late = window + 1600;
    for (uint32_t i = 0; i < EARLY + LATE; i++) {
        submit_mapping(r, i, (uint32_t)((i < EARLY ? early : late) - r->now));
        r->ack = r->seq > 500 ? r->seq - 500 : 0;
        if (i % 100 == 0)
            rig_run(r, 1);
        if (i % 10000 == 0)
            rig_results_clear(r);
    }
    rig_run(r, window - r->now - 16);
    assert_int_equal(rig_status(r, 0).entries, EARLY + LATE);
    for (; r->now < early; rig_run(r, 1))
        CHECK(shard_next_ms(r->shard[0]) <= early + 16, "at %lu it rests until %lu, first due %lu",
              (unsigned long)r->now, (unsigned long)shard_next_ms(r->shard[0]),
              (unsigned long)early);
    rig_run(r, 50);
    assert_int_equal(rig_status(r, 0).expired, EARLY);
}

/* What is due while the log is full waits, and the driver may sleep meanwhile. */
static void test_due_while_the_log_is_full(void **state)
{
    enum { DUE = 200 };
    struct rig *r = *state;
    const struct txn_result_head *h = NULL;
    uint32_t host = 0;
    while (host < DUE)
        submit_mapping(r, host++, 1500);
    rig_run(r, 20);
    r->ack = r->seq;
    r->cut[1] = r->hold_views = true;
    for (; !h || h->status != TXN_BUSY; r->ack = r->seq) {
        h = rig_result(r, submit_mapping(r, host++, 1000000));
        CHECK(host < 200000, "the log is never full");
    }
    rig_run(r, 3000);
    rig_tick(r);
    CHECK(rig_status(r, 0).expired < DUE, "the log had room after all");
    CHECK(shard_next_ms(r->shard[0]) > r->now, "due %lu ms ago, and nothing can be done",
          (unsigned long)(r->now - shard_next_ms(r->shard[0])));
    r->hold_views = false;
    rig_run(r, 100);
    assert_int_equal(rig_status(r, 0).expired, DUE);
    rig_check_digest(r, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        T(test_new_flow), T(test_last_child_takes_all), T(test_idle_group_expires),
        T(test_touch_keeps_alive), T(test_promoted_backup_is_not_early),
        T(test_cas_changes_timeout), T(test_many_at_once),
        T(test_a_full_bucket_of_the_wheel),
        cmocka_unit_test_setup_teardown(test_a_bucket_on_its_way_down, start_single, stop),
        cmocka_unit_test_setup_teardown(test_due_while_the_log_is_full, start_with_a_small_log,
                                        stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
