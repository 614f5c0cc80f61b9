/* SPDX-License-Identifier: BSD-3-Clause */
/* Histories in which an earlier core broke a promise: one row each, directed. */
#include "rig_test_support.h"

static const struct table_schema flows = {.name = "flows", .kind = TABLE_HASH, .key_size = 8,
                                          .part_len = 4, .value_size = 60};
static const struct table_schema maps = {.name = "maps", .kind = TABLE_HASH, .key_size = 8,
                                         .part_len = 4, .value_size = 8, .timeout_ms = 8000};
static const struct table_schema late = {.name = "late", .kind = TABLE_HASH, .key_size = 8,
                                         .part_len = 4, .value_size = 60};
enum { FLOWS, MAPS, LATE };
struct key8 { uint32_t part, rest; };

static struct rig_txn t;

static struct rig *start_alone(uint64_t seed, int shards)
{
    struct rig *r = rig_new(seed, shards, (struct shard_config){0});
    rig_start(r, 0);
    rig_client(r);
    assert_int_equal(rig_table(r, &flows), FLOWS);
    assert_int_equal(rig_table(r, &maps), MAPS);
    return r;
}

static void insert(uint8_t table, uint32_t part, uint32_t rest)
{
    struct key8 k = {part, rest};
    uint8_t value[60] = {(uint8_t)rest};
    rig_begin(&t, slot_of(&part, 4));
    rig_op(&t, (struct txn_op){.code = TXN_INSERT, .table = table}, &k, 8, value,
           table == MAPS ? 8 : 60);
}

static void get(uint8_t table, uint32_t part, uint32_t rest)
{
    struct key8 k = {part, rest};
    rig_begin(&t, slot_of(&part, 4));
    rig_op(&t, (struct txn_op){.code = TXN_GET, .table = table}, &k, 8, NULL, 0);
}

static void set_members(struct rig *r, int first, int second)
{
    struct shard_view next = {.epoch = r->view.epoch + 1, .nmembers = 2};
    for (uint32_t i = 0; i < r->view.nmembers; i++) {
        if (r->view.members[i].node == (uint32_t)first + 1)
            next.members[0] = r->view.members[i];
        if (r->view.members[i].node == (uint32_t)second + 1)
            next.members[1] = r->view.members[i];
    }
    r->view = next;
    r->primary = first;
}

/* A third replica joins while the second lags; the primary dies, the third is
 * promoted. What only its snapshot holds must not be told before the second
 * has it, and the second must come to have it, or leave. */
static void test_join_past_a_backup_that_lags(void **state)
{
    (void)state;
    struct rig *r = start_alone(1, 3);
    rig_connect_backup(r, 1, 0);
    rig_run_until_copies(r, 2);
    r->cut[1] = true;
    for (uint32_t i = 0; i < 10; i++) {
        insert(FLOWS, 1, i);
        rig_submit(r, &t);
    }
    rig_connect_backup(r, 2, 0);
    rig_run(r, RIG_FAILURE_MS / 2);
    bool joined = r->view.nmembers == 3;
    uint64_t behind = rig_status(r, 1).position;
    if (!joined) {
        r->cut[1] = false;
        rig_run_until_copies(r, 3);
    } else {
        rig_crash(r, 0);
        r->cut[1] = false;
        set_members(r, 2, 1);
        rig_connect_backup(r, 1, 2);
        rig_set_view(r, 2);
        rig_set_view(r, 1);
        rig_client_connect(r, RIG_CLIENT);
        for (int i = 0; i < 2000 && !shard_takes_requests(r->shard[2]); i++)
            rig_deliver(r);
        r->cut[1] = r->hold_views = true;
        get(FLOWS, 1, 3);
        uint64_t seq = rig_submit(r, &t);
        rig_run(r, RIG_FAILURE_MS / 2);
        CHECK(!rig_result(r, seq) || rig_status(r, 1).position > behind,
              "told what only one of two members holds");
        r->cut[1] = r->hold_views = false;
        insert(FLOWS, 1, 100);
        rig_call(r, &t);
        rig_run_until_copies(r, 2);
        rig_check_same(r, 2, 1);
    }
    rig_free(r);
}

static struct key8 parent = {1, 1}, child = {1, 2};

/* One shard with both; the child's version. */
static struct rig *start_family(uint64_t seed, uint64_t *version)
{
    struct rig *r = start_alone(seed, 1);
    uint64_t value = 0;
    insert(MAPS, 1, 1);
    assert_int_equal(rig_call(r, &t)->status, TXN_OK);
    rig_begin(&t, slot_of(&parent, 4));
    struct txn_op op = {.code = TXN_INSERT, .table = MAPS, .flags = TXN_HAS_PARENT,
                        .parent_table = MAPS, .key_len = 8, .parent_key_len = 8, .value_len = 8};
    assert_int_equal(txn_add_op(&t.b, &op, &child, &parent, &value), 0);
    const struct txn_result_head *h = rig_call(r, &t);
    assert_int_equal(h->status, TXN_OK);
    *version = txn_result_first(h)->version;
    return r;
}

/* Both in one txn: the touch is the first op, or the last. */
static void touch_and_delete(struct rig *r, bool touch_last, uint64_t version)
{
    rig_begin(&t, slot_of(&parent, 4));
    for (int i = 0; i < 2; i++)
        if (i == touch_last)
            rig_op(&t, (struct txn_op){.code = TXN_GET, .table = MAPS, .flags = TXN_TOUCH}, &parent, 8, NULL, 0);
        else
            rig_op(&t, (struct txn_op){.code = TXN_DELETE, .table = MAPS, .arg0 = version}, &child, 8, NULL, 0);
    assert_int_equal(rig_call(r, &t)->status, TXN_OK);
}

static void expect_parent(struct rig *r)
{
    get(MAPS, 1, 1);
    assert_int_equal(txn_result_first(rig_call(r, &t))->res, RES_HIT);
}

/* A touch and a change of the same entry in one txn: the touch stays. */
static void test_touch_then_delete_of_a_child(void **state)
{
    (void)state;
    uint64_t version;
    struct rig *r = start_family(2, &version);
    rig_run(r, 7000);
    touch_and_delete(r, false, version);
    rig_run(r, 7000);
    expect_parent(r);
    rig_free(r);
}

/* The same with a touch too small to be logged by itself, in either order. */
static void test_small_touch_beside_delete_of_a_child(void **state)
{
    (void)state;
    for (int last = 0; last < 2; last++) {
        uint64_t version;
        struct rig *r = start_family(3, &version);
        rig_run(r, 900);
        touch_and_delete(r, last, version);
        rig_run(r, 7900);
        expect_parent(r);
        rig_free(r);
    }
}

/* So many writes per round trip that a joiner is always thousands behind. */
static void test_join_under_a_constant_stream(void **state)
{
    (void)state;
    struct rig *r = start_alone(4, 2);
    rig_connect_backup(r, 1, 0);
    uint32_t n = 0;
    for (int hop = 0; hop < 300 && rig_status(r, 0).copies < 2; hop++) {
        for (int i = 0; i < 1000 && shard_takes_requests(r->shard[0]); i++) {
            insert(FLOWS, n % 64, n);
            n++;
            r->ack = rig_submit(r, &t);
        }
        rig_deliver(r);
        rig_results_clear(r);
        r->now += hop % 4 == 0;
        rig_tick(r);
    }
    assert_int_equal(rig_status(r, 0).copies, 2);
    rig_check_same(r, 0, 1);
    rig_free(r);
}

static uint32_t part_of(uint8_t slot)
{
    uint32_t part = 0;
    while (slot_of(&part, 4) != slot)
        part++;
    return part;
}

static void fill(struct rig *r, uint8_t table, uint8_t slot, uint32_t entries)
{
    for (uint32_t i = 0; i < entries; i++) {
        insert(table, part_of(slot), i);
        r->ack = rig_submit(r, &t);
    }
    rig_results_clear(r);
}

/* The message under way to `shard` that has this type; NULL: none. */
static const struct rig_message *under_way(const struct rig *r, int shard, enum msg_type type,
                                           uint32_t from)
{
    for (uint32_t i = from; i < r->queued; i++)
        if (r->queue[i].to == shard && ((const struct msg_head *)r->queue[i].frame)->type == type)
            return &r->queue[i];
    return NULL;
}

/* A table is opened while a join goes on, so that the joiner refuses a slot of
 * many parts in its midst; then the slot's first part comes once more. */
static void test_part_of_a_refused_slot_again(void **state)
{
    (void)state;
    enum { BIG = 101, SLOT = 100 }; /* one is encoded right after the other */
    static struct msg_chunk *first;
    struct rig *r = start_alone(7, 2);
    bool again = false;
    fill(r, FLOWS, BIG, 10000); /* more than is encoded in one go */
    fill(r, FLOWS, SLOT, 2000);
    rig_connect_backup(r, 1, 0);
    for (; !under_way(r, 1, MSG_CHUNK, 0); r->now++) {
        rig_deliver(r);
        rig_tick(r);
    }
    assert_int_equal(rig_table(r, &late), LATE);
    fill(r, LATE, SLOT, 1000);
    for (int hop = 0; hop < 200 && !again; hop++) {
        const struct rig_message *m;
        for (uint32_t i = 0; (m = under_way(r, 1, MSG_CHUNK, i)); i = (uint32_t)(m - r->queue) + 1) {
            const struct msg_chunk *c = m->frame;
            if (c->slot_or_base != SLOT || c->part || first)
                continue;
            first = aligned_alloc(64, (m->bytes + 63) & ~63u);
            memcpy(first, c, m->bytes);
        }
        rig_deliver(r);
        for (uint32_t i = 0; (m = under_way(r, 0, MSG_CHUNK_ACK, i)) && !again;
             i = (uint32_t)(m - r->queue) + 1)
            again = ((const struct msg_chunk_ack *)m->frame)->refused;
    }
    CHECK(again && first, "no slot was refused");
    for (uint32_t i = 0; i < r->links; i++)
        if (r->link[i].at == 1)
            rig_push(r, 1, r->link[i].conn, first, first->head.bytes, true);
    free(first);
    fill(r, MAPS, SLOT, 1); /* so that it is encoded at another position now */
    rig_run(r, 20 * RIG_FAILURE_MS);
    assert_int_equal(rig_status(r, 0).copies, 2);
    rig_check_same(r, 0, 1);
    rig_free(r);
}

/* A JOIN that a replica sent before it discarded its state comes late. */
static void test_join_of_an_earlier_incarnation(void **state)
{
    (void)state;
    struct rig *r = start_alone(5, 2);
    rig_connect_backup(r, 1, 0);
    rig_run_until_copies(r, 2);
    struct msg_join m = {.self = r->view.members[1]};
    uint64_t epoch = r->view.epoch;
    m.self.incarnation--;
    msg_head_set(&m, MSG_JOIN, sizeof m, 0, epoch);
    for (uint32_t i = 0; i < r->links; i++)
        if (r->link[i].at == 0)
            rig_frame(r, 0, r->link[i].conn, &m, sizeof m);
    rig_run(r, 20);
    assert_int_equal(r->view.epoch, epoch);
    assert_int_equal(rig_status(r, 0).copies, 2);
    rig_free(r);
}

/* A replica dies quietly while it is being admitted, and joins anew before the
 * view with it is confirmed. */
static void test_two_incarnations_of_a_joiner(void **state)
{
    (void)state;
    struct rig *r = start_alone(8, 2);
    r->hold_views = true;
    rig_connect_backup(r, 1, 0);
    while (!r->answer[0] && !r->answer[1] && !r->answer[2])
        rig_run(r, 1);
    shard_destroy(r->shard[1]);
    r->shard[1] = NULL;
    r->links = 0; /* no FIN, no RST */
    r->now++;
    rig_boot(r, 1, (struct shard_config){0});
    rig_connect_backup(r, 1, 0);
    rig_run(r, RIG_FAILURE_MS / 2);
    r->hold_views = false;
    rig_deliver(r);
    CHECK(r->view.nmembers < 3, "the view names node %u twice", r->view.members[2].node);
    rig_run(r, 2 * RIG_FAILURE_MS);
    assert_int_equal(rig_status(r, 0).copies, 2);
    rig_check_same(r, 0, 1);
    rig_free(r);
}

static uint64_t scan_some(struct rig *r, uint8_t slot, uint64_t cursor, uint8_t *seen)
{
    rig_begin(&t, slot);
    rig_op(&t, (struct txn_op){.code = TXN_SCAN, .table = FLOWS, .arg0 = cursor}, NULL, 0, NULL, 0);
    const struct txn_result *res = txn_result_first(rig_call(r, &t));
    const uint8_t *at = txn_result_value(res);
    for (uint32_t i = 0; i < res->index; i++) {
        const struct txn_scan_entry *e = (const void *)at;
        const struct key8 *k = (const void *)(e + 1);
        seen[k->rest] = 1;
        at += (sizeof *e + e->key_len + e->value_len + 7) & ~7ull;
    }
    return res->version;
}

/* A scan that goes on at a new primary, whose records stand elsewhere. */
static void test_scan_over_a_promotion(void **state)
{
    (void)state;
    enum { ENTRIES = 600, GONE = 200 };
    struct rig *r = start_alone(6, 2);
    uint8_t seen[ENTRIES] = {0}, slot = slot_of(&(uint32_t){1}, 4);
    uint64_t version[GONE], cursor = 0;
    for (uint32_t i = 0; i < ENTRIES; i++) {
        insert(FLOWS, 1, i);
        uint64_t v = txn_result_first(rig_call(r, &t))->version;
        if (i < GONE)
            version[i] = v;
    }
    for (uint32_t i = 0; i < GONE; i++) {
        struct key8 k = {1, i};
        rig_begin(&t, slot);
        rig_op(&t, (struct txn_op){.code = TXN_DELETE, .table = FLOWS, .arg0 = version[i]}, &k, 8,
               NULL, 0);
        assert_int_equal(rig_call(r, &t)->status, TXN_OK);
    }
    rig_connect_backup(r, 1, 0);
    rig_run_until_copies(r, 2);
    cursor = scan_some(r, slot, 0, seen);
    assert_true(cursor);
    rig_crash(r, 0);
    rig_promote(r, 1);
    rig_client_connect(r, RIG_CLIENT);
    while (cursor)
        cursor = scan_some(r, slot, cursor, seen);
    for (uint32_t i = GONE; i < ENTRIES; i++)
        CHECK(seen[i], "entry %u stayed all the while and was not seen", i);
    rig_free(r);
}

/* --- three copies, crashes at any time -------------------------------------------- */

enum { UNTOLD_MAX = 512, SEQS_MAX = 16384 };
struct three {
    struct rig *r;
    uint64_t boot[RIG_SHARDS];
    uint32_t seqs;            /* so many were used */
    bool is_key[SEQS_MAX];    /* of an insertion, of a key of that number */
    uint32_t promotions, copies3;
};

static void three_boot(struct three *h, int shard)
{
    h->boot[shard] = rig_node(shard).incarnation + h->r->now;
    rig_boot(h->r, shard, (struct shard_config){0});
}

/* Alive, and what the view names. */
static bool is_member(const struct three *h, int shard)
{
    const struct shard_view *v = &h->r->view;
    for (uint32_t i = 0; i < v->nmembers; i++)
        if (h->r->shard[shard] && v->members[i].node == (uint32_t)shard + 1 &&
            v->members[i].incarnation >= h->boot[shard])
            return true;
    return false;
}

static void dial_primary(struct three *h)
{
    for (int i = 0; i < RIG_SHARDS; i++)
        for (int k = 0; k < i; k++)
            rig_disconnect(h->r, i, k);
    for (int i = 0; i < RIG_SHARDS; i++)
        if (i != h->r->primary && h->r->shard[i])
            rig_connect_backup(h->r, i, h->r->primary);
}

/* The members that live, one of them in front. */
static void three_promote(struct three *h, int first)
{
    struct rig *r = h->r;
    struct shard_view next = {.epoch = r->view.epoch + 1, .nmembers = 1};
    for (uint32_t i = 0; i < r->view.nmembers; i++) {
        int shard = (int)r->view.members[i].node - 1;
        if (shard == first)
            next.members[0] = r->view.members[i];
        else if (is_member(h, shard))
            next.members[next.nmembers++] = r->view.members[i];
    }
    r->view = next;
    r->primary = first;
    memset(r->answer, 0, sizeof r->answer);
    h->promotions++;
    rig_set_view(r, first);
    dial_primary(h);
    rig_client_connect(r, RIG_CLIENT);
}

static void three_crash(struct three *h)
{
    struct rig *r = h->r;
    int victim = (int)(rig_random(r) % RIG_SHARDS), heir = -1;
    for (int i = 0; i < RIG_SHARDS; i++)
        if (i != victim && is_member(h, i) && (heir < 0 || rig_random(r) % 2))
            heir = i;
    if (!r->shard[victim] || heir < 0)
        return;
    rig_crash(r, victim);
    if (victim == r->primary)
        three_promote(h, heir);
}

static void three_insert(struct three *h, uint32_t key)
{
    insert(FLOWS, key % 8, key);
    rig_submit_as(h->r, &t, key);
}

/* Everything is asked for until it is answered; nothing ran twice. */
static void three_settle(struct three *h, uint32_t from)
{
    struct rig *r = h->r;
    for (uint32_t key = from; key <= h->seqs; key++) {
        const struct txn_result_head *res;
        for (int i = 0; !(res = rig_result(r, key)) || res->status == TXN_NOT_PRIMARY ||
                        res->status == TXN_BUSY; i++) {
            CHECK(i < 500, "key %u is not answered", key);
            if (i % 20 == 0)
                three_insert(h, key);
            rig_run(r, 1);
        }
        CHECK(res->status == TXN_OK, "key %u: status %d", key, res->status);
    }
    r->ack = h->seqs;
}

static void three_check_all(struct three *h)
{
    struct rig *r = h->r;
    r->seq = h->seqs;
    for (uint32_t key = 1; key <= h->seqs; key += 1 + (uint32_t)(rig_random(r) % 16)) {
        if (!h->is_key[key])
            continue;
        get(FLOWS, key % 8, key);
        const struct txn_result_head *res = rig_await(r, rig_submit(r, &t));
        CHECK(res->status == TXN_OK && txn_result_first(res)->res == RES_HIT,
              "key %u was told and is gone", key);
        r->ack = r->seq;
    }
    h->seqs = (uint32_t)r->seq;
    rig_results_clear(r);
}

static void three_round(struct three *h)
{
    struct rig *r = h->r;
    uint32_t from = h->seqs + 1;
    int away = (int)(rig_random(r) % RIG_SHARDS);
    r->drop = (uint32_t)(rig_random(r) % 3) * 60;
    r->twice = r->swap = (uint32_t)(rig_random(r) % 2) * 100;
    r->cut[away] = away != r->primary && rig_random(r) % 2;
    for (uint32_t n = (uint32_t)(rig_random(r) % (UNTOLD_MAX / 2)); n; n--) {
        CHECK(h->seqs + 1 < SEQS_MAX, "too long");
        h->is_key[++h->seqs] = true;
        three_insert(h, h->seqs);
        if (rig_random(r) % 8 == 0)
            rig_deliver(r);
        if (rig_random(r) % 32 == 0)
            rig_run(r, 1 + rig_random(r) % 8);
        if (rig_random(r) % 150 == 0)
            three_crash(h);
    }
    h->copies3 += rig_status(r, r->primary).copies == 3;
    three_crash(h);
    r->cut[away] = false;
    three_settle(h, from);
    for (int i = 0; i < RIG_SHARDS; i++)
        if (!r->shard[i]) {
            three_boot(h, i);
            rig_connect_backup(r, i, r->primary);
        }
    rig_run(r, rig_random(r) % 400);
    three_check_all(h);
}

static void test_three_copies_and_crashes(void **state)
{
    (void)state;
    static struct three h;
    uint32_t promotions = 0, copies3 = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        h = (struct three){.r = start_alone(seed, RIG_SHARDS)};
        for (int i = 0; i < RIG_SHARDS; i++)
            h.boot[i] = rig_node(i).incarnation + 1000;
        dial_primary(&h);
        for (int round = 0; round < 12; round++)
            three_round(&h);
        h.r->drop = 0;
        rig_run_until_copies(h.r, 3);
        rig_check_same(h.r, 0, 1);
        rig_check_same(h.r, 1, 2);
        promotions += h.promotions;
        copies3 += h.copies3;
        rig_free(h.r);
    }
    CHECK(promotions > 40 && copies3 > 40, "%u promotions, %u", promotions, copies3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join_past_a_backup_that_lags),
        cmocka_unit_test(test_touch_then_delete_of_a_child),
        cmocka_unit_test(test_small_touch_beside_delete_of_a_child),
        cmocka_unit_test(test_join_under_a_constant_stream),
        cmocka_unit_test(test_part_of_a_refused_slot_again),
        cmocka_unit_test(test_join_of_an_earlier_incarnation),
        cmocka_unit_test(test_two_incarnations_of_a_joiner),
        cmocka_unit_test(test_scan_over_a_promotion),
        cmocka_unit_test(test_three_copies_and_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
