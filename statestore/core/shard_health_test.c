/* SPDX-License-Identifier: BSD-3-Clause */
/* What an operator sees of a shard: each figure in a situation where it is not zero, and
 * what an order is answered that cannot be carried out. */
#include "move_rig_test_support.h"

enum { LEASE_MS = RIG_FAILURE_MS / 4, COUNTS = 0, TIMERS = 1, PORTS = 2, SCHEMAS = 3 };

static const struct table_schema schemas[SCHEMAS] = {
    {.name = "counts", .kind = TABLE_COUNTERS, .key_size = 8, .part_len = 4, .value_size = 8},
    {.name = "timers", .kind = TABLE_HASH, .key_size = 8, .part_len = 4, .value_size = 12,
     .timeout_ms = 50, .flags = TABLE_EVENTS},
    {.name = "ports", .kind = TABLE_POOL, .key_size = 4, .value_size = 8, .max_entries = 16384},
};

static struct rig_txn t;

static struct shard_health health(const struct rig *r, int shard)
{
    struct shard_health h;
    shard_health_get(r->shard[shard], &h);
    return h;
}

static struct shard_loans loans(const struct rig *r)
{
    struct shard_loans n;
    shard_loans_get(r->shard[r->primary], &n);
    return n;
}

static uint64_t op(struct rig *r, uint8_t table, enum txn_code code, const void *value, uint32_t bytes)
{
    uint32_t key[2] = {1, 1};
    rig_begin(&t, slot_of(key, 4));
    rig_op(&t, (struct txn_op){.code = (uint8_t)code, .table = table}, key, 8, value, bytes);
    return rig_submit(r, &t);
}

static struct rig *start(int members)
{
    struct rig *r = rig_new(3, members, (struct shard_config){.client_lease_ms = 1000000});
    rig_start(r, 0);
    rig_client(r);
    for (int i = 0; i < SCHEMAS; i++)
        assert_int_equal(rig_table(r, &schemas[i]), i);
    for (int i = 1; i < members; i++) {
        rig_connect_backup(r, i, 0);
        rig_run_until_copies(r, (uint32_t)i + 1);
    }
    rig_run(r, 20);
    return r;
}

static void test_leases_and_proposals(void **state)
{
    (void)state;
    struct rig *r = start(2);
    struct shard_health h = health(r, 0);
    CHECK(h.lease_left_ms > 0 && h.lease_left_ms <= LEASE_MS, "%lu ms of lease", h.lease_left_ms);
    assert_int_equal(h.slots_owned, LETHE_SLOTS);
    CHECK(!h.proposal_open_ms && !h.suspended_replies && !h.collecting, "nothing is amiss yet");
    assert_int_equal(health(r, 1).lease_left_ms, SHARD_NO_LEASE);
    r->hold_views = r->cut[1] = true;
    rig_run(r, LEASE_MS + 5);
    assert_int_equal(health(r, 0).lease_left_ms, 0);
    op(r, COUNTS, TXN_GET, NULL, 0);
    op(r, COUNTS, TXN_GET, NULL, 0);
    assert_int_equal(health(r, 0).suspended_replies, 2);
    rig_run(r, 2 * RIG_FAILURE_MS);
    uint64_t since = health(r, 0).proposal_open_ms;
    CHECK(since > 0, "no proposal is open");
    rig_run(r, 10);
    assert_int_equal(health(r, 0).proposal_open_ms, since + 10);
    rig_free(r);
}

/* What it waits for; and no order is taken meanwhile. */
static void expect_collecting(struct rig *r, enum shard_collecting what, uint32_t node)
{
    const struct shard_order orders[] = {{.kind = SHARD_ORDER_MOVE, .last = 9, .to = 1},
                                         {.kind = SHARD_ORDER_LEND, .count = 1, .to = 1},
                                         {.kind = SHARD_ORDER_HAND_OVER}};
    struct shard_health h = health(r, 1);
    assert_int_equal(h.collecting, what);
    assert_int_equal(h.collects_from, node);
    for (int i = 0; i < 3; i++) {
        rig_event(r, 1, (struct shard_event){.kind = SHARD_EV_ORDER, .order = &orders[i]});
        CHECK(strstr(shard_order_refused(r->shard[1]), "taking over; ask again"), "order %d: %s", i,
              shard_order_refused(r->shard[1]));
    }
}

static void test_collecting(void **state)
{
    (void)state;
    struct rig *r = start(3);
    int64_t one = 1;
    r->hold_views = r->cut[1] = true;
    for (int i = 0; i < 50; i++)
        op(r, COUNTS, TXN_ADD, &one, 8);
    rig_run(r, 2);
    assert_true(rig_status(r, 2).position > rig_status(r, 1).position);
    rig_crash(r, 0);
    struct msg_node heir = rig_node(1), other = rig_node(2);
    for (uint32_t i = 0; i < 3; i++) {
        heir = r->view.members[i].node == heir.node ? r->view.members[i] : heir;
        other = r->view.members[i].node == other.node ? r->view.members[i] : other;
    }
    r->view = (struct shard_view){.epoch = r->view.epoch + 1, .nmembers = 2,
                                  .members = {heir, other}};
    r->primary = 1;
    rig_set_view(r, 1);
    rig_set_view(r, 2);
    expect_collecting(r, SHARD_COLLECTS_MEMBERS, 3);
    assert_true(health(r, 1).lease_wait_ms > LEASE_MS);
    rig_connect_backup(r, 2, 1);
    r->cut[1] = false;
    bool tail = false;
    for (int i = 0; i < 1000 && health(r, 1).collecting != SHARD_COLLECTS_LEASE; i++) {
        r->now += i % 100 == 99; /* message by message */
        rig_tick(r);
        rig_deliver(r);
        if (!tail && health(r, 1).collecting == SHARD_COLLECTS_TAIL) {
            tail = true;
            expect_collecting(r, SHARD_COLLECTS_TAIL, 3);
        }
    }
    CHECK(tail, "it never said that it waits for the longer log");
    expect_collecting(r, SHARD_COLLECTS_LEASE, 0);
    rig_run(r, 2 * LEASE_MS);
    assert_int_equal(health(r, 1).collecting, SHARD_COLLECTS_NOTHING);
    rig_free(r);
}

static void test_events(void **state)
{
    (void)state;
    struct rig *r = start(1);
    uint8_t value[12] = {0};
    struct msg_consume m = {.client = r->client, .table = TIMERS, .want = 1};
    rig_await(r, op(r, TIMERS, TXN_INSERT, value, sizeof value));
    rig_run(r, 500);
    assert_int_equal(health(r, 0).events_pending, 1);
    assert_int_equal(health(r, 0).consumers, 0);
    msg_head_set(&m, MSG_CONSUME, sizeof m, 0, 0);
    rig_frame(r, 0, RIG_CLIENT, &m, sizeof m);
    assert_int_equal(health(r, 0).consumers, 1);
    assert_int_equal(health(r, 0).lease_left_ms, SHARD_NO_LEASE);
    rig_free(r);
}

static void test_moves(void **state)
{
    (void)state;
    struct pair *p = pair_new(4, schemas, SCHEMAS, (struct shard_config){0});
    bool sending = false, incoming = false;
    pair_order(p, 0, 0, 9);
    assert_int_equal(health(p->r[0], 0).slots_queued, 10);
    for (int i = 0; i < 3000 && health(p->r[1], 0).slots_taken < 10; i++) {
        sending |= health(p->r[0], 0).slots_sending == 1;
        incoming |= health(p->r[1], 0).slots_incoming == 1;
        pair_run(p, 1);
    }
    pair_settle(p);
    CHECK(sending && incoming, "no slot was seen on its way");
    assert_int_equal(health(p->r[0], 0).slots_owned, LETHE_SLOTS / 2 - 10);
    assert_int_equal(health(p->r[1], 0).slots_owned, LETHE_SLOTS / 2 + 10);
    assert_int_equal(health(p->r[0], 0).slots_sent, 10);
    assert_int_equal(health(p->r[1], 0).slots_taken, 10);
    pair_order(p, 0, 0, 9);
    assert_non_null(strstr(shard_order_refused(p->r[0]->shard[0]), "owns none"));
    pair_free(p);
}

static void test_loans(void **state)
{
    (void)state;
    struct pair *p = pair_new(5, schemas, SCHEMAS, (struct shard_config){0});
    pair_lend(p, 0, "ports", 100);
    assert_string_equal(shard_order_refused(p->r[0]->shard[0]), "");
    assert_int_equal(health(p->r[0], 0).indexes_to_lend, 100);
    pair_settle(p);
    assert_int_equal(health(p->r[0], 0).indexes_to_lend, 0);
    struct shard_loans from = loans(p->r[0]), to = loans(p->r[1]);
    assert_int_equal(from.lent, 100);
    assert_int_equal(from.lent_to_shards, 100);
    assert_int_equal(to.borrowed, 100);
    assert_int_equal(to.borrowed_from_shards, 100);
    CHECK(!from.borrowed && !to.lent, "%lu borrowed, %lu lent", from.borrowed, to.lent);
    pair_lend(p, 0, "nobody", 1);
    assert_non_null(strstr(shard_order_refused(p->r[0]->shard[0]), "no such table"));
    pair_lend(p, 0, "counts", 1);
    assert_non_null(strstr(shard_order_refused(p->r[0]->shard[0]), "no pool"));
    pair_lend(p, 0, "ports", 16384);
    pair_settle(p);
    pair_lend(p, 0, "ports", 1);
    assert_non_null(strstr(shard_order_refused(p->r[0]->shard[0]), "none is free"));
    pair_free(p);
}

/* Slots of one shard lend to each other by themselves. */
static void test_loans_inside(void **state)
{
    (void)state;
    struct rig *r = start(1);
    uint64_t value = 1;
    for (int i = 0; i < 16384 / LETHE_SLOTS + 1; i++) {
        rig_begin(&t, 7);
        rig_op(&t, (struct txn_op){.code = TXN_ALLOC, .table = PORTS}, NULL, 0, &value, 8);
        assert_int_equal(rig_await(r, rig_submit(r, &t))->status, TXN_OK);
    }
    struct shard_loans n = loans(r);
    CHECK(n.lent && n.lent == n.borrowed, "%lu lent, %lu borrowed", n.lent, n.borrowed);
    CHECK(!n.lent_to_shards && !n.borrowed_from_shards, "there is no other shard");
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leases_and_proposals), cmocka_unit_test(test_collecting),
        cmocka_unit_test(test_events),               cmocka_unit_test(test_moves),
        cmocka_unit_test(test_loans),                cmocka_unit_test(test_loans_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
