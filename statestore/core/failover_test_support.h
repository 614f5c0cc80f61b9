/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the scenarios of failover_test.c are made of, on the rig of rig_test_support.h: two tables, a write and a read of
 * them, and the view service's word, which a scenario may give by itself (decide) and have everybody hear (follow).
 */
#ifndef STATESTORE_CORE_FAILOVER_TEST_SUPPORT_H
#define STATESTORE_CORE_FAILOVER_TEST_SUPPORT_H

#include "proposal.h"
#include "rig_test_support.h"

static const struct table_schema flows = {.name = "flows", .kind = TABLE_HASH, .key_size = 8,
                                          .part_len = 4, .value_size = 60, .timeout_ms = 4000};
static const struct table_schema counts = {.name = "counts", .kind = TABLE_COUNTERS,
                                           .key_size = 4, .part_len = 4, .value_size = 16,
                                           .durability = DURABLE_ASYNC};
enum { FLOWS, COUNTS, LEASE_MS = RIG_FAILURE_MS / 4, FLOW_G_MS = 500 };
struct key8 { uint32_t part, rest; };

static struct rig_txn t;

#define WRONG_IF(condition, what)                                                                  \
    do {                                                                                           \
        if (condition)                                                                             \
            return what;                                                                           \
    } while (0)

static void begin(struct rig *r, int members)
{
    rig_start(r, 0);
    rig_client(r);
    assert_int_equal(rig_table(r, &flows), FLOWS);
    assert_int_equal(rig_table(r, &counts), COUNTS);
    for (int i = 1; i < members; i++) {
        rig_connect_backup(r, i, 0);
        rig_run_until_copies(r, (uint32_t)i + 1);
    }
    rig_run(r, 20);
}

static uint64_t insert(struct rig *r, uint32_t rest)
{
    struct key8 k = {1, rest};
    uint8_t value[60] = {(uint8_t)rest};
    rig_begin(&t, slot_of(&k.part, 4));
    rig_op(&t, (struct txn_op){.code = TXN_INSERT, .table = FLOWS}, &k, 8, value, 60);
    return rig_submit(r, &t);
}

static uint64_t get(struct rig *r, uint32_t rest)
{
    struct key8 k = {1, rest};
    rig_begin(&t, slot_of(&k.part, 4));
    rig_op(&t, (struct txn_op){.code = TXN_GET, .table = FLOWS, .flags = TXN_TOUCH}, &k, 8, NULL,
           0);
    return rig_submit(r, &t);
}

static uint64_t add_async(struct rig *r)
{
    uint32_t key = 1;
    int64_t d[2] = {1, 1};
    rig_begin(&t, slot_of(&key, 4));
    rig_op(&t, (struct txn_op){.code = TXN_ADD, .table = COUNTS}, &key, 4, d, 16);
    return rig_submit(r, &t);
}

static bool is_ok(const struct rig *r, uint64_t seq)
{
    const struct txn_result_head *h = rig_result(r, seq);
    return h && h->status == TXN_OK;
}

static bool is_hit(struct rig *r, uint64_t seq)
{
    const struct txn_result_head *h = rig_await(r, seq);
    return h->status == TXN_OK && txn_result_first(h)->res == RES_HIT;
}

/* The service's word: these members, the first one the primary. */
static void decide(struct rig *r, const int *shards, uint32_t n)
{
    struct shard_view next = {.epoch = r->view.epoch + 1, .nmembers = n};
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < r->view.nmembers; j++)
            if (r->view.members[j].node == (uint32_t)shards[i] + 1)
                next.members[i] = r->view.members[j];
    r->view = next;
}

/* ... and everybody hears it, and dials. */
static void follow(struct rig *r)
{
    int primary = (int)r->view.members[0].node - 1;
    r->primary = primary;
    for (int i = 0; i < RIG_SHARDS; i++)
        if (r->shard[i])
            rig_set_view(r, i);
    for (int i = 0; i < RIG_SHARDS; i++)
        for (int j = 0; j < i; j++)
            rig_disconnect(r, i, j);
    for (int i = 0; i < RIG_SHARDS; i++)
        if (r->shard[i] && i != primary)
            rig_connect_backup(r, i, primary);
}

static uint32_t conn_from(const struct rig *r, int at, int with)
{
    for (uint32_t i = r->links; i-- > 0;)
        if (r->link[i].at == at && r->link[i].with == with)
            return r->link[i].conn;
    return 0;
}

static void inject_ack(struct rig *r, int from, struct msg_node self, uint64_t position,
                       uint32_t stamp)
{
    struct msg_ack m = {.self = self, .position = position, .stamp = stamp};
    msg_head_set(&m, MSG_ACK, sizeof m, 0, r->view.epoch);
    rig_frame(r, 0, conn_from(r, 0, from), &m, sizeof m);
    rig_run(r, 1);
}

static void run_until_serving(struct rig *r, int shard)
{
    r->primary = shard;
    rig_client_connect(r, RIG_CLIENT);
    CHECK(shard_takes_requests(r->shard[shard]), "shard %d does not serve", shard);
}

#endif
