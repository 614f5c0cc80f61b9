/* SPDX-License-Identifier: BSD-3-Clause */
/* Pool indexes lent from shard to shard: two shards of two replicas each. */
#include "move_rig_test_support.h"

enum { INDEXES = 16384, SHARES = INDEXES / LETHE_SLOTS, QUARANTINE_MS = 400, LOT = 256 };

static const struct table_schema schemas[] = {
    {.name = "ports", .kind = TABLE_POOL, .key_size = 4, .value_size = 8, .max_entries = INDEXES,
     .quarantine_ms = QUARANTINE_MS},
    {.name = "other", .kind = TABLE_COUNTERS, .key_size = 8, .part_len = 4, .value_size = 8},
};
enum { SCHEMAS = sizeof schemas / sizeof *schemas };

static struct rig_txn t;
struct taken { uint32_t index; uint64_t version; };

static uint8_t ports_at(int shard)
{
    return shard ? SCHEMAS - 1 : 0;
}

static struct pair *start(uint64_t seed)
{
    return pair_new(seed, schemas, SCHEMAS, (struct shard_config){0});
}

/* One op where it belongs, whatever the first guess: follows MOVED from slot to slot.
 * The slot it ran in is *slot, the hops *hops. */
static const struct txn_result_head *ask(struct pair *p, uint8_t *slot, struct txn_op op,
                                         const uint32_t *index, uint32_t *hops)
{
    uint64_t value = 7;
    for (*hops = 0; *hops < 20; ++*hops) {
        int at = p->map[*slot].shard;
        struct rig *r = p->r[at];
        const struct txn_result_head *x = NULL;
        uint64_t seq = ++r->seq;
        op.table = ports_at(at);
        rig_begin(&t, *slot);
        rig_op(&t, op, index, index ? 4 : 0, op.code == TXN_ALLOC ? &value : NULL,
               op.code == TXN_ALLOC ? 8 : 0);
        txn_end(&t.b);
        t.b.used = 0;
        for (int tries = 0; tries < 3000; tries++) {
            if (r->nresults > RIG_RESULTS_MAX / 2)
                rig_results_clear(r);
            if (r->shard[r->primary])
                pair_submit_as(p, at, &t, seq, p->map[*slot].epoch);
            x = pair_answer(p, at, seq, 3);
            if (x && x->status != TXN_BUSY && x->status != TXN_NOT_PRIMARY)
                break;
            if (x)
                rig_results_clear(r);
            x = NULL;
            pair_run(p, 1);
        }
        CHECK(x, "no answer about slot %u", *slot);
        r->ack = seq;
        const struct txn_moved *to = txn_moved_of(x);
        if (!to)
            return x;
        struct map_slot *m = &p->map[to->slot];
        if (to->slot_epoch > m->epoch)
            *m = (struct map_slot){.shard = to->shard, .epoch = to->slot_epoch};
        *slot = to->slot;
    }
    fail_msg("MOVED without an end");
    return NULL;
}

static enum txn_status take(struct pair *p, uint8_t slot, struct taken *taken)
{
    uint32_t hops;
    const struct txn_result_head *x = ask(p, &slot, (struct txn_op){.code = TXN_ALLOC}, NULL, &hops);
    if (x->status == TXN_OK)
        *taken = (struct taken){txn_result_first(x)->index, txn_result_first(x)->version};
    return x->status;
}

/* All there are in a shard. */
static uint32_t take_all(struct pair *p, int shard, struct taken *taken)
{
    static bool seen[INDEXES];
    uint32_t n = 0;
    memset(seen, 0, sizeof seen);
    while (take(p, shard ? 200 : 10, &taken[n]) == TXN_OK) {
        CHECK(!seen[taken[n].index], "index %u twice", taken[n].index);
        seen[taken[n++].index] = true;
    }
    return n;
}

static enum txn_status give_back(struct pair *p, const struct taken *taken, uint32_t *hops)
{
    uint8_t slot = slot_of_index(taken->index);
    return ask(p, &slot, (struct txn_op){.code = TXN_FREE, .arg0 = taken->version}, &taken->index,
               hops)->status;
}

static bool is_hit(struct pair *p, uint32_t index, uint32_t *hops)
{
    uint8_t slot = slot_of_index(index);
    const struct txn_result_head *x = ask(p, &slot, (struct txn_op){.code = TXN_GET}, &index, hops);
    assert_int_equal(x->status, TXN_OK);
    return txn_result_first(x)->res == RES_HIT;
}

/* Nothing was lost or doubled; replicas are equal. */
static uint32_t free_at(struct pair *p, int shard)
{
    return (uint32_t)rig_status(p->r[shard], p->r[shard]->primary).pool_free;
}

static void check_all(struct pair *p)
{
    uint64_t n = 0;
    for (int i = 0; i < 2; i++) {
        struct shard_status st = rig_status(p->r[i], p->r[i]->primary);
        n += st.pool_free + st.pool_used + st.pool_resting;
    }
    assert_int_equal(n, INDEXES);
    pair_check(p);
}

static void promote(struct pair *p, int shard)
{
    struct rig *r = p->r[shard];
    rig_crash(r, r->primary);
    rig_promote(r, !r->primary);
    rig_client_connect(r, RIG_CLIENT);
    pair_run(p, 50);
}

/* Several loans for one order; found by their first slot; freed, they rest and stay. */
static void test_lent_used_freed(void **state)
{
    (void)state;
    static struct taken all[INDEXES], again[INDEXES];
    struct pair *p = start(1);
    uint32_t hops, away = 0, n;
    pair_lend(p, 0, "ports", 600);
    pair_settle(p);
    assert_int_equal(free_at(p, 0), INDEXES / 2 - 600);
    assert_int_equal(free_at(p, 1), INDEXES / 2 + 600);
    check_all(p);
    n = take_all(p, 1, all);
    assert_int_equal(n, INDEXES / 2 + 600);
    check_all(p);
    for (uint32_t i = 0; i < n; i++) {
        if (slot_of_index(all[i].index) >= 128)
            continue;
        CHECK(is_hit(p, all[i].index, &hops), "index %u is not found", all[i].index);
        CHECK(hops >= 1, "index %u is where it was", all[i].index);
        away++;
    }
    assert_int_equal(away, 600);
    promote(p, 0);
    promote(p, 1);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(give_back(p, &all[i], &hops), TXN_OK);
    for (uint32_t i = 0; i < n; i += 7)
        assert_int_equal(give_back(p, &all[i], &hops), TXN_CONFLICT);
    assert_int_equal(free_at(p, 0), INDEXES / 2 - 600);
    pair_run(p, QUARANTINE_MS + 50);
    assert_int_equal(take_all(p, 1, again), n);
    check_all(p);
    pair_free(p);
}

/* An index is never given the same version twice, whichever shard gives it. */
static void test_versions_grow(void **state)
{
    (void)state;
    static struct taken all[INDEXES], there[INDEXES];
    static uint64_t newest[INDEXES];
    struct pair *p = start(2);
    uint32_t hops, n = 0, both = 0;
    for (int i = 0; i < 5; i++)
        promote(p, 0), rig_boot(p->r[0], !p->r[0]->primary, (struct shard_config){.shards = 2}),
            rig_connect_backup(p->r[0], !p->r[0]->primary, p->r[0]->primary),
            rig_run_until_copies(p->r[0], 2);
    n = take_all(p, 0, all);
    for (uint32_t i = 0; i < n; i++) {
        newest[all[i].index] = all[i].version;
        assert_int_equal(give_back(p, &all[i], &hops), TXN_OK);
    }
    pair_run(p, QUARANTINE_MS + 50);
    pair_lend(p, 0, "ports", 1000);
    pair_settle(p);
    promote(p, 1);
    n = take_all(p, 1, there);
    for (uint32_t i = 0; i < n; i++) {
        CHECK(there[i].version > newest[there[i].index], "index %u: version %lx after %lx",
              there[i].index, (unsigned long)there[i].version,
              (unsigned long)newest[there[i].index]);
        both += newest[there[i].index] != 0;
    }
    assert_int_equal(both, 1000);
    pair_free(p);
}

/* A primary dies after each frame there is: nothing is lost or doubled, the loan ends. */
static void kill_after_each(int victim)
{
    uint32_t kills = 0, hops;
    for (int at = 1; at < 40; at++) {
        struct pair *p = start((uint64_t)at);
        static struct taken all[INDEXES];
        p->kill_at = at;
        p->victim = victim;
        pair_lend(p, 0, "ports", LOT + 100);
        pair_run(p, 30);
        pair_settle(p);
        pair_run(p, 50);
        (void)is_hit(p, 0, &hops); /* they serve */
        (void)is_hit(p, INDEXES - 1, &hops);
        check_all(p);
        uint32_t lent = INDEXES / 2 - free_at(p, 0);
        /* An order is its primary's own. */
        CHECK(lent == LOT + 100 || (!victim && p->kills && lent <= LOT + 100),
              "killed at frame %d: %u lent", at, lent);
        p->kill_at = 0;
        pair_lend(p, 0, "ports", 10);
        pair_settle(p);
        assert_int_equal(INDEXES / 2 - free_at(p, 0), lent + 10);
        if (at % 5 == 1)
            assert_int_equal(take_all(p, 1, all), INDEXES / 2 + lent + 10);
        check_all(p);
        kills += p->kills;
        bool last = !p->kills;
        pair_free(p);
        if (last)
            break;
    }
    CHECK(kills >= 4, "only %u kills", kills);
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

/* Frames lost, doubled, late: loans both ways, slots that move, no index lost or doubled. */
static void test_bad_network(void **state)
{
    (void)state;
    static struct taken all[INDEXES];
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct pair *p = start(seed);
        struct taken held[LETHE_SLOTS] = {0};
        uint32_t hops, nheld = 0;
        p->drop = 150, p->twice = 200, p->swap = 200, p->late = 300;
        for (int round = 0; round < 12; round++) {
            int from = round % 2;
            pair_lend(p, from, "ports", 100 + 200u * (uint32_t)(pair_chance(p, 500)));
            if (round % 3 == 1)
                pair_order(p, from, from ? 130 : 20, from ? 140 : 30);
            pair_lend(p, !from, "ports", 20);
            for (int i = 0; i < 10; i++)
                if (take(p, (uint8_t)(pair_chance(p, 500) ? 25 : 135), &held[nheld]) == TXN_OK)
                    nheld++;
            if (round == 5)
                promote(p, 1);
            for (int i = 0; i < 5; i++)
                assert_int_equal(give_back(p, &held[--nheld], &hops), TXN_OK);
        }
        pair_settle(p);
        check_all(p);
        for (uint32_t i = 0; i < nheld; i++)
            CHECK(is_hit(p, held[i].index, &hops), "index %u is lost", held[i].index);
        while (nheld)
            assert_int_equal(give_back(p, &held[--nheld], &hops), TXN_OK);
        pair_run(p, QUARANTINE_MS + 50);
        uint32_t n = take_all(p, 0, all);
        n += take_all(p, 1, all);
        assert_int_equal(n, INDEXES);
        pair_free(p);
    }
}

/* The taker moves on while loans come, the lender too; the chain of MOVED ends. */
static void test_slots_move_meanwhile(void **state)
{
    (void)state;
    static struct taken all[INDEXES];
    struct pair *p = start(3);
    uint32_t hops, most = 0;
    for (int i = 0; i < 4; i++) {
        pair_lend(p, 0, "ports", 500);
        pair_order(p, 1, (uint8_t)(128 + 32 * i), (uint8_t)(128 + 32 * i + 31));
        pair_lend(p, 1, "ports", 300);
        pair_order(p, 0, (uint8_t)(32 * i), (uint8_t)(32 * i + 31));
        pair_settle(p);
        check_all(p);
    }
    uint32_t epoch, n = 0;
    assert_int_equal(pair_owner(p, 200, &epoch), 0);
    p->map[200] = (struct map_slot){.shard = 0, .epoch = epoch};
    p->map[10] = (struct map_slot){.shard = 1, .epoch = epoch};
    for (int shard = 0; shard < 2; shard++) {
        uint32_t more = take_all(p, !shard, all);
        for (uint32_t i = 0; i < more; i++) {
            CHECK(is_hit(p, all[i].index, &hops), "index %u is not found", all[i].index);
            most = hops > most ? hops : most;
        }
        n += more;
    }
    assert_int_equal(n, INDEXES);
    CHECK(most >= 2, "no chain was longer than %u", most);
    check_all(p);
    pair_free(p);
}

/* What is lent back is home's own again: no mark, no detour. */
static void test_lent_back(void **state)
{
    (void)state;
    struct pair *p = start(4);
    struct taken one;
    uint32_t hops;
    pair_order(p, 1, 128, 254); /* shard 1 keeps one slot, which takes all */
    pair_settle(p);
    pair_lend(p, 0, "ports", LOT);
    pair_settle(p);
    assert_int_equal(shard_lent(p->r[0]->shard[p->r[0]->primary]), LOT);
    assert_int_equal(take(p, 255, &one), TXN_OK);
    assert_int_equal(give_back(p, &one, &hops), TXN_OK);
    pair_run(p, QUARANTINE_MS + 50);
    pair_lend(p, 1, "ports", INDEXES);
    pair_settle(p);
    assert_int_equal(free_at(p, 1), 0);
    check_all(p);
    /* Those of slot 255 itself are lent; all others are home. */
    assert_int_equal(shard_lent(p->r[0]->shard[p->r[0]->primary]), 0);
    assert_int_equal(shard_lent(p->r[1]->shard[p->r[1]->primary]), SHARES);
    pair_free(p);
}

/* Refused, or not to be done: the indexes stay, free, and loans go on afterwards. */
static void test_refused(void **state)
{
    (void)state;
    struct pair *p = start(5);
    struct table_schema more = {.name = "more", .kind = TABLE_POOL, .key_size = 4, .value_size = 8,
                                .max_entries = INDEXES};
    struct table_schema wide = more;
    wide.value_size = 16;
    rig_table(p->r[0], &more);
    rig_table(p->r[1], &wide);
    uint32_t before = free_at(p, 0);
    pair_lend(p, 0, "more", 50);
    pair_settle(p);
    assert_int_equal(free_at(p, 0), before);
    pair_lend(p, 0, "nobody", 50);
    pair_lend(p, 0, "other", 50);
    pair_lend(p, 0, "ports", 0);
    pair_settle(p);
    assert_int_equal(free_at(p, 0), before);
    pair_free(p);
    p = start(6);
    pair_order(p, 1, 128, 255);
    pair_settle(p);
    before = free_at(p, 0);
    pair_lend(p, 0, "ports", 50); /* it owns no slot */
    pair_settle(p);
    assert_int_equal(free_at(p, 0), before);
    pair_order(p, 0, 200, 200);
    pair_settle(p);
    before = free_at(p, 0);
    pair_lend(p, 0, "ports", 50);
    pair_settle(p);
    assert_int_equal(free_at(p, 0), before - 50);
    pair_check(p);
    pair_free(p);
}

/* A joiner learns of loans, and serves by what it learnt. */
static void test_joiner_knows(void **state)
{
    (void)state;
    static struct taken all[INDEXES];
    struct pair *p = start(6);
    uint32_t hops;
    pair_lend(p, 0, "ports", 300);
    pair_settle(p);
    uint32_t n = take_all(p, 1, all);
    for (int i = 0; i < 2; i++) {
        struct rig *r = p->r[i];
        rig_crash(r, 1);
        rig_run_until_copies(r, 1);
        rig_boot(r, 1, (struct shard_config){.shards = 2, .client_lease_ms = 1000000});
        rig_connect_backup(r, 1, 0);
        pair_lend(p, 0, "ports", 100); /* meanwhile */
        rig_run_until_copies(r, 2);
        pair_settle(p);
    }
    check_all(p);
    promote(p, 0);
    promote(p, 1);
    for (uint32_t i = 0; i < n; i++)
        CHECK(is_hit(p, all[i].index, &hops), "index %u is lost", all[i].index);
    pair_lend(p, 0, "ports", 100);
    pair_settle(p);
    assert_int_equal(take_all(p, 1, all), 300);
    check_all(p);
    pair_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lent_used_freed),
        cmocka_unit_test(test_versions_grow),
        cmocka_unit_test(test_source_dies),
        cmocka_unit_test(test_destination_dies),
        cmocka_unit_test(test_bad_network),
        cmocka_unit_test(test_slots_move_meanwhile),
        cmocka_unit_test(test_lent_back),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_joiner_knows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
