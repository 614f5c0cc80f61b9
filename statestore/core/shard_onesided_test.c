/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One-sided reads, the store's side: what clients are told, and that the records which they
 * remember say no in time. Memory that the shard gave back stays here, as a reader's may.
 */
#include "common/wire/record.h"
#include "move_rig_test_support.h"

enum { PLACES_MAX = 1024, T_MS = 1000, LEASE_MS = RIG_FAILURE_MS / 4 };

static const struct table_schema schemas[] = {
    {.name = "flows", .kind = TABLE_HASH, .key_size = 8, .part_len = 4, .value_size = 100,
     .flags = TABLE_ONE_SIDED},
    {.name = "timed", .kind = TABLE_HASH, .key_size = 8, .part_len = 4, .value_size = 16,
     .timeout_ms = T_MS, .flags = TABLE_ONE_SIDED},
    {.name = "plain", .kind = TABLE_HASH, .key_size = 8, .part_len = 4, .value_size = 16},
    {.name = "ports", .kind = TABLE_POOL, .key_size = 4, .value_size = 12, .max_entries = 64512,
     .flags = TABLE_ONE_SIDED},
};
enum { FLOWS, TIMED, PLAIN, PORTS, TABLES };
static struct record_shape shape[TABLES];

/* --- memory ---------------------------------------------------------------------------- */

static void *graves[4096];
static uint32_t ngraves, made;
static bool unregistered; /* nothing can be registered */

static void *make(void *ctx, uint64_t bytes, uint32_t *rkey)
{
    void *at = aligned_alloc(4096, bytes);
    assert_int_equal(bytes % 4096, 0);
    memset(at, 0, bytes);
    *rkey = unregistered ? 0 : 77;
    made++;
    return at;
}

static void give_back(void *ctx, void *at, uint64_t bytes)
{
    assert_true(ngraves < sizeof graves / sizeof graves[0]);
    graves[ngraves++] = at;
}

static int clean(void **state)
{
    assert_int_equal(made, ngraves);
    while (ngraves)
        free(graves[--ngraves]);
    made = 0;
    unregistered = false;
    return 0;
}

static const struct shard_config config = {.slabs = {NULL, make, give_back}};

/* --- a client that reads one-sidedly ------------------------------------------------------ */

static struct msg_place places[PLACES_MAX];
static uint32_t nplaces, frames;
static struct msg_places told; /* the last */
static uint64_t results_before;

static void see(struct rig *r, uint32_t conn, const void *frame)
{
    const struct msg_places *m = frame;
    if (m->head.type != MSG_PLACES || conn != RIG_CLIENT)
        return;
    told = *m;
    frames++;
    results_before = r->nresults;
    for (uint32_t i = 0; i < m->nplaces && nplaces < PLACES_MAX; i++)
        places[nplaces++] = ((const struct msg_place *)(m + 1))[i];
}

static void say_hello(struct rig *r)
{
    struct msg_hello h = {.magic = MSG_MAGIC, .proto_min = MSG_PROTO_MIN, .role = ROLE_CLIENT,
                          .proto_max = MSG_PROTO_MAX, .capabilities = CAP_ONE_SIDED};
    msg_head_set(&h, MSG_HELLO, sizeof h, r->number, 0);
    rig_frame(r, r->primary, RIG_CLIENT, &h, sizeof h);
    r->see = see;
    nplaces = frames = 0;
}

static struct rig *start(int copies)
{
    struct rig *r = rig_new(5, copies, config);
    rig_start(r, 0);
    for (int i = 1; i < copies; i++)
        rig_connect_backup(r, i, 0);
    rig_run_until_copies(r, (uint32_t)copies);
    rig_client(r);
    for (int i = 0; i < TABLES; i++)
        assert_int_equal(rig_table(r, &schemas[i]), i);
    say_hello(r);
    return r;
}

static struct rig_txn t;

/* `n` is in the value's first byte. */
static const struct txn_result_head *one(struct rig *r, int table, uint8_t code, uint32_t key,
                                         uint8_t n, uint64_t version, uint8_t flags)
{
    uint32_t k[2] = {key, 0};
    uint8_t value[100] = {n}, slot = schemas[table].kind == TABLE_POOL ? slot_of_index(key)
                                                                       : slot_of(k, 4);
    uint32_t len = code == TXN_GET || code == TXN_DELETE ? 0 : schemas[table].value_size;
    rig_begin(&t, slot);
    rig_op(&t, (struct txn_op){.code = code, .table = (uint8_t)table, .flags = flags, .arg0 = version},
           k, schemas[table].key_size, value, len);
    return rig_call(r, &t);
}

/* Where a get finds it; NULL: it is not told. */
static const struct msg_place *place_of(struct rig *r, int table, uint32_t key)
{
    uint32_t before = nplaces;
    const struct txn_result_head *h = one(r, table, TXN_GET, key, 0, 0, 0);
    assert_int_equal(h->status, TXN_OK);
    assert_int_equal(txn_result_first(h)->res, RES_HIT);
    if (nplaces == before)
        return NULL;
    assert_int_equal(nplaces, before + 1);
    assert_int_equal(places[before].seq, h->seq);
    assert_int_equal(places[before].op, 0);
    assert_int_equal(places[before].rkey, 77);
    assert_int_equal(places[before].lines, shape[table].lines);
    return &places[before];
}

static const struct record *at(const struct msg_place *p)
{
    return (const struct record *)(uintptr_t)p->address;
}

static enum record_verdict look(int table, const struct msg_place *p, uint32_t key)
{
    uint32_t k[2] = {key, 0};
    return record_check(&shape[table], at(p), k, p->incarnation);
}

static uint8_t first_byte(int table, const struct msg_place *p)
{
    uint8_t value[100];
    record_value(&shape[table], at(p), value);
    return value[0];
}

/* --- tests ---------------------------------------------------------------------------------- */

static void test_a_get_tells_where(void **state)
{
    struct rig *r = start(2);
    uint64_t version = txn_result_first(one(r, FLOWS, TXN_INSERT, 1, 10, 0, 0))->version;
    const struct msg_place *p = place_of(r, FLOWS, 1);
    assert_non_null(p);
    assert_true(results_before < r->nresults); /* it came before what it is about */
    assert_int_equal(look(FLOWS, p, 1), RECORD_GOOD);
    assert_int_equal(at(p)->version, version);
    assert_int_equal(first_byte(FLOWS, p), 10);
    assert_int_equal(look(FLOWS, p, 2), RECORD_NOT_ITS);
    one(r, PLAIN, TXN_INSERT, 1, 1, 0, 0);
    assert_null(place_of(r, PLAIN, 1));
    /* Nothing is told of a miss. */
    uint32_t before = nplaces;
    one(r, FLOWS, TXN_GET, 99, 0, 0, 0);
    assert_int_equal(nplaces, before);
    rig_free(r);
}

static void test_a_pools_index_too(void **state)
{
    struct rig *r = start(1);
    uint8_t value[12] = {42};
    rig_begin(&t, 9);
    rig_op(&t, (struct txn_op){.code = TXN_ALLOC, .table = PORTS}, NULL, 0, value, sizeof value);
    uint32_t index = txn_result_first(rig_call(r, &t))->index;
    const struct msg_place *p = place_of(r, PORTS, index);
    assert_non_null(p);
    assert_int_equal(look(PORTS, p, index), RECORD_GOOD);
    assert_int_equal(first_byte(PORTS, p), 42);
    rig_free(r);
}

static void test_who_did_not_ask_is_told_nothing(void **state)
{
    struct rig *r = start(1);
    one(r, FLOWS, TXN_INSERT, 1, 1, 0, 0);
    rig_hello(r, 0, RIG_CLIENT, ROLE_CLIENT, (struct msg_node){0});
    assert_null(place_of(r, FLOWS, 1));
    assert_int_equal(frames, 0);
    rig_free(r);
}

static void test_what_cannot_be_registered_is_not_told(void **state)
{
    unregistered = true;
    struct rig *r = start(1);
    one(r, FLOWS, TXN_INSERT, 1, 1, 0, 0);
    assert_null(place_of(r, FLOWS, 1));
    rig_free(r);
}

static void test_a_write_is_pending_until_its_commit(void **state)
{
    struct rig *r = start(2);
    uint64_t version = txn_result_first(one(r, FLOWS, TXN_INSERT, 1, 10, 0, 0))->version;
    const struct msg_place *p = place_of(r, FLOWS, 1);
    uint32_t k[2] = {1, 0};
    uint8_t value[100] = {11};
    r->cut[1] = true;
    rig_begin(&t, slot_of(k, 4));
    rig_op(&t, (struct txn_op){.code = TXN_CAS, .table = FLOWS, .arg0 = version}, k, 8, value, 100);
    uint64_t seq = rig_submit(r, &t);
    assert_int_equal(look(FLOWS, p, 1), RECORD_NOT_COMMITTED);
    rig_run(r, 3);
    assert_int_equal(look(FLOWS, p, 1), RECORD_NOT_COMMITTED);
    r->cut[1] = false;
    assert_int_equal(rig_await(r, seq)->status, TXN_OK);
    assert_int_equal(look(FLOWS, p, 1), RECORD_GOOD);
    assert_int_equal(first_byte(FLOWS, p), 11);
    /* Deleted, that is so at once; and the number is another entry's then. */
    one(r, FLOWS, TXN_DELETE, 1, 0, at(p)->version, 0);
    assert_int_equal(look(FLOWS, p, 1), RECORD_NOT_ITS);
    one(r, FLOWS, TXN_INSERT, 1, 12, 0, 0);
    assert_int_equal(look(FLOWS, p, 1), RECORD_NOT_ITS);
    p = place_of(r, FLOWS, 1);
    assert_int_equal(look(FLOWS, p, 1), RECORD_GOOD);
    rig_free(r);
}

/* A BATCH of nothing that asks how long one may read. */
static uint32_t left(struct rig *r)
{
    struct msg_batch m = {.client = r->client, .stamp = 4711};
    uint32_t before = frames;
    msg_head_set(&m, MSG_BATCH, sizeof m, r->number, 0);
    rig_frame(r, r->primary, RIG_CLIENT, &m, sizeof m);
    assert_int_equal(frames, before + 1);
    assert_int_equal(told.stamp, 4711);
    assert_int_equal(told.client, r->client);
    return told.left_ms;
}

static void test_leases_are_nested(void **state)
{
    struct rig *r = start(2);
    rig_run(r, 50);
    assert_in_range(left(r), 1, LEASE_MS);
    r->paused[1] = true;
    rig_run(r, 2); /* what it granted has come */
    uint32_t had = left(r), now;
    for (int i = 0; i < LEASE_MS; i++, had = now) {
        rig_run(r, 1);
        now = left(r);
        CHECK(now <= had, "%u ms left, then %u, and nobody granted anything", had, now);
    }
    assert_int_equal(left(r), 0);
    r->paused[1] = false;
    rig_run(r, 30);
    assert_in_range(left(r), 1, LEASE_MS);
    rig_free(r);
}

static void test_none_is_granted_while_a_view_is_proposed(void **state)
{
    struct rig *r = start(2);
    rig_run(r, 50);
    assert_in_range(left(r), 1, LEASE_MS);
    r->hold_views = true;
    rig_disconnect(r, 0, 1);
    rig_run(r, 1); /* it proposes a view without the backup; the old lease still runs */
    assert_int_equal(left(r), 0);
    r->hold_views = false;
    rig_run_until_copies(r, 1);
    assert_int_equal(left(r), LEASE_MS); /* alone: one maximum lease from now */
    rig_free(r);
}

/* By a snapshot records come pending; a get heals them. */
static void test_a_promoted_joiner_is_read_too(void **state)
{
    struct rig *r = rig_new(5, 2, config);
    rig_start(r, 0);
    rig_run_until_copies(r, 1);
    rig_client(r);
    for (int i = 0; i < TABLES; i++)
        rig_table(r, &schemas[i]);
    one(r, FLOWS, TXN_INSERT, 1, 10, 0, 0);
    rig_connect_backup(r, 1, 0);
    rig_run_until_copies(r, 2);
    rig_crash(r, 0);
    rig_promote(r, 1);
    rig_client_connect(r, RIG_CLIENT);
    say_hello(r);
    const struct msg_place *p = place_of(r, FLOWS, 1);
    assert_non_null(p);
    assert_int_equal(look(FLOWS, p, 1), RECORD_GOOD);
    assert_int_equal(told.head.view_epoch, r->view.epoch);
    rig_free(r);
}

/* A deposed primary's memory says what it said, until it goes. */
static void test_a_deposed_primary_that_rejoins(void **state)
{
    struct rig *r = start(2);
    one(r, FLOWS, TXN_INSERT, 1, 10, 0, 0);
    struct msg_place p = *place_of(r, FLOWS, 1);
    rig_promote(r, 1);
    rig_set_view(r, 0);
    rig_disconnect(r, 0, 1);
    assert_int_equal(look(FLOWS, &p, 1), RECORD_GOOD);
    rig_run(r, 200);
    rig_connect_backup(r, 0, 1);
    rig_run_until_copies(r, 2);
    assert_int_equal(look(FLOWS, &p, 1), RECORD_NOT_ITS);
    rig_free(r);
}

/* --- hash slots that move ------------------------------------------------------------------- */

static uint32_t key_in(uint8_t slot)
{
    uint32_t k[2] = {0, 0};
    while (slot_of(k, 4) != slot)
        k[0]++;
    return k[0];
}

static void test_release_comes_before_anything_else(void **state)
{
    struct pair *p = pair_new(3, schemas, TABLES, config);
    struct rig *r = p->r[0];
    say_hello(r);
    uint32_t key = key_in(7), k[2] = {key, 0};
    uint8_t value[100] = {11};
    uint64_t version = txn_result_first(one(r, FLOWS, TXN_INSERT, key, 10, 0, 0))->version;
    struct msg_place was = *place_of(r, FLOWS, key);
    assert_int_equal(look(FLOWS, &was, key), RECORD_GOOD);
    /* A write, then RELEASE, neither committed. */
    r->cut[1] = true;
    rig_begin(&t, 7);
    rig_op(&t, (struct txn_op){.code = TXN_CAS, .table = FLOWS, .arg0 = version}, k, 8, value, 100);
    uint64_t seq = rig_submit(r, &t);
    assert_int_equal(look(FLOWS, &was, key), RECORD_NOT_COMMITTED);
    pair_order(p, 0, 7, 7);
    pair_drive(p, 0);
    struct shard_health h;
    shard_health_get(r->shard[0], &h);
    assert_int_equal(h.slots_sending, 1);
    assert_int_not_equal(look(FLOWS, &was, key), RECORD_GOOD);
    was.incarnation = at(&was)->incarnation; /* and whoever guessed that right */
    assert_int_equal(look(FLOWS, &was, key), RECORD_NOT_COMMITTED);
    r->cut[1] = false;
    for (int i = 0; i < 2000 && at(&was)->state != RECORD_FREE; i++) {
        pair_run(p, 1); /* both commit */
        assert_int_not_equal(look(FLOWS, &was, key), RECORD_GOOD);
    }
    assert_int_equal(rig_await(r, seq)->status, TXN_OK);
    pair_settle(p);
    assert_int_equal(look(FLOWS, &was, key), RECORD_NOT_ITS);
    pair_check(p);
    pair_free(p);
}

/* The destination has another schema of that name and refuses: the slot is ours again. */
static void test_a_slot_that_is_taken_back(void **state)
{
    struct table_schema other = schemas[FLOWS];
    struct pair *p = pair_new(3, NULL, 0, config);
    struct rig *r = p->r[0];
    other.value_size = 8;
    rig_table(p->r[1], &other);
    rig_table(r, &schemas[FLOWS]);
    say_hello(r);
    uint32_t key = key_in(7);
    one(r, FLOWS, TXN_INSERT, key, 10, 0, 0);
    struct msg_place was = *place_of(r, FLOWS, key);
    pair_order(p, 0, 7, 7);
    pair_settle(p);
    pair_run(p, 50);
    uint32_t epoch, k[2] = {key, 0};
    assert_int_equal(pair_owner(p, 7, &epoch), 0);
    assert_int_equal(epoch, 2);
    assert_int_equal(look(FLOWS, &was, key), RECORD_NOT_ITS);
    uint32_t before = nplaces;
    rig_begin(&t, 7);
    rig_op(&t, (struct txn_op){.code = TXN_GET, .table = FLOWS}, k, 8, NULL, 0);
    txn_end(&t.b);
    assert_non_null(pair_answer(p, 0, pair_submit_as(p, 0, &t, ++r->seq, epoch), 100));
    assert_int_equal(nplaces, before + 1);
    assert_int_equal(places[before].slot_epoch, epoch);
    assert_int_equal(look(FLOWS, &places[before], key), RECORD_GOOD);
    pair_free(p);
}

/* --- time ------------------------------------------------------------------------------------ */

/* A touch is good for a quarter of the time-out more, so that readers need not touch in between. */
static void test_deadlines_have_room_for_reads(void **state)
{
    struct rig *r = start(2);
    one(r, TIMED, TXN_INSERT, 1, 10, 0, 0);
    const struct msg_place *p = place_of(r, TIMED, 1);
    left(r);
    assert_in_range(at(p)->deadline_ms - told.shard_time_ms, T_MS * 5 / 4 - 5, T_MS * 5 / 4);
    rig_run(r, 500);
    one(r, TIMED, TXN_GET, 1, 0, 0, TXN_TOUCH);
    left(r);
    assert_in_range(at(p)->deadline_ms - told.shard_time_ms, T_MS * 5 / 4 - 5, T_MS * 5 / 4);
    assert_int_equal(at(p)->timeout_ms, T_MS);
    rig_run(r, T_MS * 5 / 4 - 20);
    assert_int_equal(look(TIMED, p, 1), RECORD_GOOD);
    rig_run(r, 60);
    assert_int_equal(look(TIMED, p, 1), RECORD_NOT_ITS);
    rig_free(r);
}

int main(void)
{
    for (int i = 0; i < TABLES; i++)
        shape[i] = record_shape_of(schemas[i].key_size, schemas[i].value_size);
#define T(name) cmocka_unit_test_teardown(name, clean)
    const struct CMUnitTest tests[] = {
        T(test_a_get_tells_where),
        T(test_a_pools_index_too),
        T(test_who_did_not_ask_is_told_nothing),
        T(test_what_cannot_be_registered_is_not_told),
        T(test_a_write_is_pending_until_its_commit),
        T(test_leases_are_nested),
        T(test_none_is_granted_while_a_view_is_proposed),
        T(test_a_promoted_joiner_is_read_too),
        T(test_a_deposed_primary_that_rejoins),
        T(test_release_comes_before_anything_else),
        T(test_a_slot_that_is_taken_back),
        T(test_deadlines_have_room_for_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
