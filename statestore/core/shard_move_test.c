/* SPDX-License-Identifier: BSD-3-Clause */
/* Moves of hash slots between two shards of two replicas each. */
#include "move_rig_test_support.h"

enum { KEYS = 400 };

static const struct table_schema schemas[] = {
    {.name = "counts", .kind = TABLE_COUNTERS, .key_size = 8, .part_len = 4, .value_size = 8},
    {.name = "parents", .kind = TABLE_HASH, .key_size = 8, .part_len = 4, .value_size = 200,
     .timeout_ms = 3000},
    {.name = "flows", .kind = TABLE_HASH, .key_size = 8, .part_len = 4, .value_size = 200,
     .timeout_ms = 3000},
    {.name = "ports", .kind = TABLE_POOL, .key_size = 4, .value_size = 8, .max_entries = 64512,
     .quarantine_ms = 50},
    {.name = "hits", .kind = TABLE_COUNTERS, .durability = DURABLE_ASYNC, .key_size = 8,
     .part_len = 4, .value_size = 8},
    {.name = "ends", .kind = TABLE_HASH, .key_size = 8, .part_len = 4, .value_size = 200,
     .timeout_ms = 100, .flags = TABLE_EVENTS},
};
enum { SCHEMAS = sizeof schemas / sizeof *schemas };

static struct rig_txn t;

/* Table numbers differ from shard to shard. */
static uint8_t table_at(int shard, const char *name)
{
    for (int i = 0; i < SCHEMAS; i++)
        if (!strcmp(schemas[i].name, name))
            return (uint8_t)(shard ? SCHEMAS - 1 - i : i);
    return TABLES_MAX;
}

struct key { uint32_t part, rest; };

static struct key key_of(uint8_t slot, uint32_t n)
{
    struct key k = {0, n};
    while (slot_of(&k.part, 4) != slot)
        k.part++;
    return k;
}

/* One op by a client that follows the slot; the table number is put in anew for the
 * shard that is asked, so the op is built again when it moved. */
static const struct txn_result_head *one(struct pair *p, uint8_t slot, const char *table,
                                         struct txn_op op, const void *key, uint32_t key_len,
                                         const void *value, uint32_t value_len)
{
    for (int i = 0; i < 20; i++) {
        int at = p->map[slot].shard;
        uint32_t epoch = p->map[slot].epoch;
        op.table = table_at(at, table);
        rig_begin(&t, slot);
        rig_op(&t, op, key, key_len, value, value_len);
        txn_end(&t.b);
        t.b.used = 0;
        struct rig *r = p->r[at];
        uint64_t seq = ++r->seq;
        const struct txn_result_head *x = NULL;
        if (r->nresults > RIG_RESULTS_MAX / 2)
            rig_results_clear(r);
        for (int tries = 0; tries < 3000; tries++) {
            if (r->shard[r->primary])
                pair_submit_as(p, at, &t, seq, epoch);
            x = pair_answer(p, at, seq, 3);
            if (x && x->status != TXN_BUSY && x->status != TXN_NOT_PRIMARY)
                break;
            if (x)
                rig_results_clear(r);
            pair_run(p, 1);
        }
        CHECK(x && x->status != TXN_BUSY, "txn %lu of slot %u at shard %d: no answer",
              (unsigned long)seq, slot, at);
        r->ack = seq;
        const struct txn_moved *to = txn_moved_of(x);
        if (!to)
            return x;
        CHECK(to->slot == slot && (to->slot_epoch > epoch || to->shard != at),
              "MOVED to where it was");
        p->map[slot] = (struct map_slot){.shard = to->shard, .epoch = to->slot_epoch};
    }
    fail_msg("moved without an end");
    return NULL;
}

static uint64_t newest[LETHE_SLOTS];

static void add(struct pair *p, uint8_t slot)
{
    struct key k = key_of(slot, 0);
    int64_t delta = 1;
    const struct txn_result_head *x =
        one(p, slot, "counts", (struct txn_op){.code = TXN_ADD}, &k, sizeof k, &delta, 8);
    assert_int_equal(x->status, TXN_OK);
    uint64_t version = txn_result_first(x)->version;
    CHECK(version > newest[slot], "slot %u: version %lx after %lx", slot, (unsigned long)version,
          (unsigned long)newest[slot]);
    newest[slot] = version;
}

static int64_t count(struct pair *p, uint8_t slot)
{
    struct key k = key_of(slot, 0);
    const struct txn_result_head *x =
        one(p, slot, "counts", (struct txn_op){.code = TXN_GET}, &k, sizeof k, NULL, 0);
    int64_t n = 0;
    assert_int_equal(x->status, TXN_OK);
    if (txn_result_first(x)->res == RES_HIT)
        memcpy(&n, txn_result_value(txn_result_first(x)), 8);
    return n;
}

static void insert(struct pair *p, uint8_t slot, const char *table, uint32_t n)
{
    struct key k = key_of(slot, n);
    uint8_t value[200] = {(uint8_t)n};
    assert_int_equal(one(p, slot, table, (struct txn_op){.code = TXN_INSERT}, &k, sizeof k, value,
                         sizeof value)->status, TXN_OK);
}

struct counting { const char *table; uint8_t slot; uint32_t n; uint64_t least_ms; };
static void count_one(void *ctx, const struct shard_entry *e)
{
    struct counting *c = ctx;
    if (strcmp(e->table, c->table) || e->slot != c->slot)
        return;
    c->n++;
    if (!c->least_ms || e->deadline_ms < c->least_ms)
        c->least_ms = e->deadline_ms;
}

static uint32_t live(struct pair *p, int shard, const char *table, uint8_t slot)
{
    struct counting c = {.table = table, .slot = slot};
    shard_each(p->r[shard]->shard[p->r[shard]->primary], count_one, &c);
    return c.n;
}

static struct pair *start(uint64_t seed)
{
    memset(newest, 0, sizeof newest);
    return pair_new(seed, schemas, SCHEMAS, (struct shard_config){0});
}

/* All of it comes over, writes go on, versions grow, nothing is left behind. */
static void test_move_under_writes(void **state)
{
    (void)state;
    struct pair *p = start(1);
    for (uint32_t n = 0; n < KEYS; n++)
        insert(p, 5, "flows", n);
    for (int i = 0; i < 20; i++)
        add(p, 5);
    pair_order(p, 0, 3, 9);
    for (int i = 0; i < 200; i++)
        add(p, (uint8_t)(3 + i % 7));
    pair_settle(p);
    for (uint8_t slot = 3; slot <= 9; slot++) {
        uint32_t epoch;
        assert_int_equal(pair_owner(p, slot, &epoch), 1);
        assert_int_equal(epoch, 1);
    }
    assert_int_equal(count(p, 5), 20 + 200 / 7 + 1);
    assert_int_equal(live(p, 1, "flows", 5), KEYS);
    assert_int_equal(live(p, 0, "flows", 5), 0);
    pair_check(p);
    pair_free(p);
}

/* A primary dies after each frame there is; the move ends, once, all the same. */
static void kill_after_each(int victim)
{
    uint32_t kills = 0;
    for (int at = 1; at < 60; at++) {
        struct pair *p = start((uint64_t)at);
        for (uint32_t n = 0; n < KEYS; n++)
            insert(p, 7, "flows", n);
        for (int i = 0; i < 10; i++)
            add(p, 7);
        p->kill_at = at;
        p->victim = victim;
        pair_order(p, 0, 7, 7);
        for (int i = 0; i < 20; i++)
            add(p, 7);
        pair_settle(p);
        uint32_t epoch;
        int owner = pair_owner(p, 7, &epoch);
        /* A queue is its primary's own: ordered again. */
        CHECK(owner == 1 || (!victim && p->kills), "killed at frame %d: not moved", at);
        for (int i = 0; i < 5; i++)
            add(p, 7);
        assert_int_equal(count(p, 7), 35);
        assert_int_equal(live(p, owner, "flows", 7), KEYS);
        assert_int_equal(live(p, !owner, "flows", 7), 0);
        pair_check(p);
        kills += p->kills;
        bool last = !p->kills;
        pair_free(p);
        if (last)
            break;
    }
    CHECK(kills >= 6, "only %u kills", kills);
}

static void test_source_dies(void **state)
{
    (void)state;
    kill_after_each(0);
}

static void test_destination_dies(void **state)
{
    (void)state;
    kill_after_each(1);
}

/* Frames lost, doubled, late, overtaken; slots go to and fro. */
static void test_bad_network(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct pair *p = start(seed);
        uint32_t adds[8] = {0};
        p->drop = 150, p->twice = 150, p->swap = 200, p->late = 300;
        for (uint32_t n = 0; n < KEYS; n++)
            insert(p, (uint8_t)(40 + n % 8), "parents", n);
        for (int round = 0; round < 4; round++) {
            pair_order(p, round % 2, 40, 47);
            for (int i = 0; i < 60; i++) {
                add(p, (uint8_t)(40 + i % 8));
                adds[i % 8]++;
            }
            pair_settle(p);
        }
        for (uint8_t i = 0; i < 8; i++) {
            uint32_t epoch;
            assert_int_equal(pair_owner(p, (uint8_t)(40 + i), &epoch), 0);
            assert_int_equal(epoch, 4);
            assert_int_equal(count(p, (uint8_t)(40 + i)), adds[i]);
        }
        pair_check(p);
        pair_free(p);
    }
}

/* The source dies with its RELEASE told to nobody: nothing may have come of it. */
static void test_release_must_commit(void **state)
{
    (void)state;
    struct pair *p = start(10);
    uint32_t epoch;
    add(p, 70);
    p->r[0]->cut[1] = true;
    pair_order(p, 0, 70, 70);
    pair_run(p, 10);
    struct msg_map map; /* a client that believed it would ask there for ever */
    pair_map(p, 0, &map);
    assert_false(map.slots[70].known && map.slots[70].epoch);
    pair_kill(p);
    p->r[0]->cut[1] = false;
    pair_run(p, 300);
    assert_int_equal(pair_owner(p, 70, &epoch), 0);
    assert_int_equal(epoch, 0);
    add(p, 70);
    assert_int_equal(count(p, 70), 2);
    pair_free(p);
}

static void build_add(int shard, uint8_t slot)
{
    struct key k = key_of(slot, 0);
    int64_t delta = 1;
    rig_begin(&t, slot);
    rig_op(&t, (struct txn_op){.code = TXN_ADD, .table = table_at(shard, "counts")}, &k, sizeof k,
           &delta, 8);
}

static enum txn_status ask(struct pair *p, int at, uint64_t seq, uint32_t epoch)
{
    rig_results_clear(p->r[at]);
    pair_submit_as(p, at, &t, seq, epoch);
    const struct txn_result_head *x = pair_answer(p, at, seq, 300);
    CHECK(x, "no answer");
    return x->status;
}

/* What ran is answered again where it ran, wherever its slot is by now; what did not
 * run before the move never runs there, though the slot comes back. */
static void test_retries_across_moves(void **state)
{
    (void)state;
    struct pair *p = start(3);
    uint64_t ran = ++p->r[0]->seq, late = ++p->r[0]->seq;
    build_add(0, 11);
    assert_int_equal(ask(p, 0, ran, 0), TXN_OK);
    pair_order(p, 0, 11, 11);
    pair_settle(p);
    assert_int_equal(ask(p, 0, ran, 0), TXN_OK);
    assert_int_equal(ask(p, 0, late, 0), TXN_MOVED);
    assert_int_equal(count(p, 11), 1);
    pair_order(p, 1, 11, 11);
    pair_settle(p);
    build_add(0, 11);
    p->r[0]->ack = 0;
    assert_int_equal(ask(p, 0, ran, 0), TXN_OK);
    assert_int_equal(ask(p, 0, late, 0), TXN_MOVED);
    assert_int_equal(count(p, 11), 1);
    rig_crash(p->r[0], 0);
    rig_promote(p->r[0], 1);
    rig_client_connect(p->r[0], RIG_CLIENT);
    p->r[0]->ack = 0;
    build_add(0, 11);
    assert_int_equal(ask(p, 0, ran, 0), TXN_OK);
    assert_int_equal(ask(p, 0, late, 0), TXN_MOVED);
    add(p, 11);
    assert_int_equal(count(p, 11), 2);
    pair_free(p);
}

/* A slot that was never here; one that may be about to come; an old client. */
static void test_asked_at_the_wrong_shard(void **state)
{
    (void)state;
    struct pair *p = start(4);
    build_add(1, 20);
    assert_int_equal(ask(p, 1, ++p->r[1]->seq, 0), TXN_MOVED);
    const struct txn_moved *to = txn_moved_of(rig_result(p->r[1], p->r[1]->seq));
    assert_int_equal(to->shard, 0);
    assert_int_equal(to->slot_epoch, 0);
    assert_int_equal(ask(p, 1, ++p->r[1]->seq, 1), TXN_BUSY);
    assert_int_equal(ask(p, 0, ++p->r[0]->seq, 1), TXN_BUSY);
    struct msg_hello h = {.magic = MSG_MAGIC, .proto_min = 1, .proto_max = 1, .role = ROLE_CLIENT};
    msg_head_set(&h, MSG_HELLO, sizeof h, 1, 0);
    rig_frame(p->r[1], 0, RIG_CLIENT, &h, sizeof h);
    assert_int_equal(ask(p, 1, ++p->r[1]->seq, 0), TXN_NOT_PRIMARY);
    pair_free(p);
}

/* Idle time-outs go over: nothing dies early, nothing lives for ever. */
static void test_deadlines_travel(void **state)
{
    (void)state;
    struct pair *p = start(5);
    for (uint32_t n = 0; n < 50; n++)
        insert(p, 30, "flows", n);
    uint64_t born = p->r[0]->now;
    pair_run(p, 1500);
    pair_order(p, 0, 30, 30);
    pair_settle(p);
    assert_int_equal(live(p, 1, "flows", 30), 50);
    while (p->r[0]->now < born + 2950)
        pair_run(p, 1);
    assert_int_equal(live(p, 1, "flows", 30), 50);
    pair_run(p, 200);
    assert_int_equal(live(p, 1, "flows", 30), 0);
    pair_check(p);
    pair_free(p);
}

/* Refused: the slot stays, under a later epoch, and can go once the cause is gone. */
static void test_refused(void **state)
{
    (void)state;
    struct pair *p = start(6);
    struct table_schema other = {.name = "more", .kind = TABLE_COUNTERS, .key_size = 8,
                                 .part_len = 4, .value_size = 8};
    uint32_t epoch;
    for (int i = 0; i < 5; i++)
        add(p, 50);
    rig_table(p->r[0], &other);
    other.value_size = 16;
    rig_table(p->r[1], &other);
    pair_order(p, 0, 50, 50);
    for (int i = 0; i < 30; i++)
        add(p, 50);
    pair_settle(p);
    assert_int_equal(pair_owner(p, 50, &epoch), 0);
    assert_int_equal(epoch, 2);
    assert_int_equal(count(p, 50), 35);
    build_add(1, 50);
    assert_int_equal(ask(p, 1, ++p->r[1]->seq, 1), TXN_MOVED);
    pair_check(p);
    pair_free(p);
}

/* A replica that joins learns of slots that are gone, and of their results. */
static void test_joiner_knows(void **state)
{
    (void)state;
    struct pair *p = start(7);
    uint64_t ran = ++p->r[0]->seq;
    build_add(0, 60);
    assert_int_equal(ask(p, 0, ran, 0), TXN_OK);
    pair_order(p, 0, 60, 61);
    pair_settle(p);
    for (int i = 0; i < 2; i++) {
        struct rig *r = p->r[i];
        rig_crash(r, 1);
        rig_run_until_copies(r, 1);
        rig_boot(r, 1, (struct shard_config){.shards = 2, .client_lease_ms = 1000000});
        rig_connect_backup(r, 1, 0);
        rig_run_until_copies(r, 2);
    }
    pair_check(p);
    rig_crash(p->r[0], 0);
    rig_promote(p->r[0], 1);
    rig_client_connect(p->r[0], RIG_CLIENT);
    build_add(0, 60);
    assert_int_equal(ask(p, 0, ran, 0), TXN_OK);
    assert_int_equal(ask(p, 0, ++p->r[0]->seq, 0), TXN_MOVED);
    pair_free(p);
}

enum { TAKEN = 900 };
struct taken { uint32_t index; uint64_t version; };

static void take(struct pair *p, uint8_t slot, struct taken *taken, uint32_t n)
{
    uint64_t value = 1;
    for (uint32_t i = 0; i < n; i++) {
        const struct txn_result_head *x =
            one(p, slot, "ports", (struct txn_op){.code = TXN_ALLOC}, NULL, 0, &value, 8);
        assert_int_equal(x->status, TXN_OK);
        taken[i] = (struct taken){txn_result_first(x)->index, txn_result_first(x)->version};
        for (uint32_t k = 0; k < i; k++)
            assert_int_not_equal(taken[k].index, taken[i].index);
    }
}

/* As somebody asks who knows the index alone. */
static enum txn_status get_index(struct pair *p, int at, uint8_t slot, uint32_t epoch,
                                 uint32_t index)
{
    rig_begin(&t, slot);
    rig_op(&t, (struct txn_op){.code = TXN_GET, .table = table_at(at, "ports")}, &index, 4, NULL,
           0);
    return ask(p, at, ++p->r[at]->seq, epoch);
}

/* Borrowed indexes are found by their first slot, at backups, at joiners, and when the
 * slot that has them, or the one that lent them, lives with another shard. */
static void test_lent_indexes(void **state)
{
    (void)state;
    static struct taken taken[TAKEN];
    struct pair *p = start(8);
    uint32_t away = 0, epoch;
    take(p, 5, taken, TAKEN); /* it has 252 */
    pair_check(p);
    for (int i = 0; i < TAKEN; i++) {
        assert_int_equal(get_index(p, 0, slot_of_index(taken[i].index), 0, taken[i].index), TXN_OK);
        const struct txn_result_head *x = rig_result(p->r[0], p->r[0]->seq);
        assert_int_equal(txn_result_first(x)->res, RES_HIT);
        away += slot_of_index(taken[i].index) != 5;
    }
    CHECK(away > TAKEN / 2, "only %u are borrowed", away);
    pair_order(p, 0, 5, 5);
    pair_settle(p);
    pair_check(p);
    assert_int_equal(live(p, 1, "ports", 5), TAKEN);
    for (int i = 0; i < TAKEN; i += 9) {
        uint8_t home = slot_of_index(taken[i].index);
        if (home == 5)
            continue;
        assert_int_equal(get_index(p, 0, home, 0, taken[i].index), TXN_MOVED);
        const struct txn_moved *to = txn_moved_of(rig_result(p->r[0], p->r[0]->seq));
        assert_int_equal(to->slot, 5);
        assert_int_equal(to->shard, 1);
        assert_int_equal(to->slot_epoch, 1);
        assert_int_equal(get_index(p, 1, 5, 1, taken[i].index), TXN_OK);
        assert_int_equal(txn_result_first(rig_result(p->r[1], p->r[1]->seq))->res, RES_HIT);
    }
    /* The lenders follow; one comes back with what it lent. */
    pair_order(p, 0, 0, 30);
    pair_settle(p);
    pair_order(p, 1, 5, 5);
    pair_settle(p);
    assert_int_equal(pair_owner(p, 5, &epoch), 0);
    pair_check(p);
    for (int i = 0; i < TAKEN; i++) {
        uint8_t home = slot_of_index(taken[i].index);
        const struct txn_result_head *x =
            one(p, 5, "ports", (struct txn_op){.code = TXN_FREE, .arg0 = taken[i].version},
                &taken[i].index, 4, NULL, 0);
        assert_int_equal(x->status, TXN_OK);
        assert_int_equal(home == 5 || home < 128, true);
    }
    pair_run(p, 60);
    take(p, 5, taken, TAKEN);
    pair_check(p);
    rig_crash(p->r[0], 0);
    rig_promote(p->r[0], 1);
    rig_client_connect(p->r[0], RIG_CLIENT);
    take(p, 5, taken, 20);
    pair_check(p);
    pair_free(p);
}

/* That an index is elsewhere is kept like a result: a delayed copy does not run when
 * the index is back. */
static void test_moved_index_is_final(void **state)
{
    (void)state;
    static struct taken taken[400];
    struct pair *p = start(9);
    take(p, 5, taken, 400);
    int i = 0;
    while (slot_of_index(taken[i].index) == 5)
        i++;
    uint8_t home = slot_of_index(taken[i].index);
    pair_order(p, 0, 5, 5);
    pair_settle(p);
    assert_int_equal(get_index(p, 0, home, 0, taken[i].index), TXN_MOVED);
    uint64_t seq = p->r[0]->seq;
    pair_order(p, 1, 5, 5);
    pair_settle(p);
    assert_int_equal(get_index(p, 0, home, 0, taken[i].index), TXN_OK);
    assert_int_equal(ask(p, 0, seq, 0), TXN_MOVED);
    rig_crash(p->r[0], 0);
    rig_promote(p->r[0], 1);
    rig_client_connect(p->r[0], RIG_CLIENT);
    assert_int_equal(ask(p, 0, seq, 0), TXN_MOVED);
    pair_free(p);
}

/* --- events --------------------------------------------------------------------------- */

static uint32_t heard;

static void hear(struct rig *r, uint32_t conn, const void *frame)
{
    (void)r;
    (void)conn;
    const struct msg_events *m = frame;
    heard += m->head.type == MSG_EVENTS ? m->count : 0;
}

/* Events that nobody took before the slot left go to who waits for them over there,
 * though nothing else happens there. */
static void test_events_that_came_along(void **state)
{
    (void)state;
    struct pair *p = start(10);
    struct rig *r = p->r[1];
    struct msg_consume m = {.client = r->client, .table = table_at(1, "ends"), .want = 1};
    heard = 0;
    r->see = hear;
    msg_head_set(&m, MSG_CONSUME, sizeof m, r->number, 0);
    rig_frame(r, r->primary, RIG_CLIENT, &m, sizeof m);
    insert(p, 20, "ends", 0);
    for (int i = 0; i < 2000 && live(p, 0, "ends", 20); i++)
        pair_run(p, 1);
    pair_order(p, 0, 20, 20);
    pair_settle(p);
    for (int i = 0; i < 1000 && !heard; i++)
        pair_run(p, 1);
    CHECK(heard, "no event of the slot that came");
    pair_free(p);
}

/* --- versions ------------------------------------------------------------------------- */

/* Its primary dies, the other replica serves, a new one comes: two views on. */
static void next_primary(struct pair *p, int at)
{
    struct rig *r = p->r[at];
    int dead = r->primary;
    rig_crash(r, dead);
    rig_promote(r, !dead);
    rig_client_connect(r, RIG_CLIENT);
    rig_boot(r, dead, (struct shard_config){.shards = 2, .client_lease_ms = 1000000});
    rig_connect_backup(r, dead, r->primary);
    rig_run_until_copies(r, 2);
}

/* The version of a write that is told before any backup has it. */
static uint64_t hit(struct pair *p, int at, uint8_t slot, uint32_t epoch)
{
    struct key k = key_of(slot, 0);
    int64_t delta = 1;
    rig_begin(&t, slot);
    rig_op(&t, (struct txn_op){.code = TXN_ADD, .table = table_at(at, "hits")}, &k, sizeof k,
           &delta, 8);
    uint64_t seq = pair_submit_as(p, at, &t, ++p->r[at]->seq, epoch);
    const struct txn_result_head *x = rig_result(p->r[at], seq);
    CHECK(x && x->status == TXN_OK, "a write of an async table was not told at once");
    return txn_result_first(x)->version;
}

/* A slot that was here before, under a greater base than the one it comes back with:
 * what was told of async entries, and died with the primary, is not told again. */
static void test_versions_of_a_slot_that_was_here(void **state)
{
    (void)state;
    struct pair *p = start(9);
    for (int i = 0; i < 3; i++)
        next_primary(p, 1);
    for (int from = 0, i = 0; i < 4; i++, from = !from) {
        for (int k = 0; i == 3 && k < 2; k++)
            next_primary(p, 0); /* while it is away */
        pair_order(p, from, 9, 9);
        pair_settle(p);
        add(p, 9);
    }
    for (int i = 0; i < 4; i++) {
        uint64_t told = hit(p, 0, 9, 4);
        next_primary(p, 0);
        uint64_t version = hit(p, 0, 9, 4);
        CHECK(version > told, "version %lx after %lx was told", (unsigned long)version,
              (unsigned long)told);
    }
    pair_check(p);
    pair_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_move_under_writes),
        cmocka_unit_test(test_source_dies),
        cmocka_unit_test(test_destination_dies),
        cmocka_unit_test(test_bad_network),
        cmocka_unit_test(test_release_must_commit),
        cmocka_unit_test(test_retries_across_moves),
        cmocka_unit_test(test_asked_at_the_wrong_shard),
        cmocka_unit_test(test_deadlines_travel),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_joiner_knows),
        cmocka_unit_test(test_lent_indexes),
        cmocka_unit_test(test_moved_index_is_final),
        cmocka_unit_test(test_events_that_came_along),
        cmocka_unit_test(test_versions_of_a_slot_that_was_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
