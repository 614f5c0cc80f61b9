/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Naive oracles: an array per kind of table, compared with the store after
 * every op and as a whole at the end. One replica, few slots, so that buckets
 * overflow, chunks grow and records are reused.
 */
#include "rig_test_support.h"

enum { FLOWS, PORTS, COUNTS, SIDE = 64, KEYS = SIDE * SIDE };

static const struct table_schema flows = {.name = "flows", .kind = TABLE_HASH, .key_size = 40,
                                          .part_len = 4, .value_size = 256};
static const struct table_schema ports = {.name = "ports", .kind = TABLE_POOL, .key_size = 4,
                                          .value_size = 24, .max_entries = 200000,
                                          .quarantine_ms = 20};
static const struct table_schema counts = {.name = "counts", .kind = TABLE_COUNTERS,
                                           .key_size = 13, .part_len = 4, .value_size = 24};

struct known { bool there; uint8_t slot; uint64_t version; uint8_t value[256]; uint64_t free_at; };
struct oracle {
    uint64_t seed;
    struct known flow[KEYS], count[KEYS], *port;
    uint64_t newest[256]; /* version per slot */
    uint64_t ok, conflicts, exhausted;
};

static struct rig_txn t;
#define SEED "seed %lu", (unsigned long)o->seed

static struct rig *start(uint64_t seed)
{
    struct rig *r = rig_new(seed, 1, (struct shard_config){.client_lease_ms = 1000000});
    rig_start(r, 0);
    rig_client(r);
    assert_int_equal(rig_table(r, &flows), FLOWS);
    assert_int_equal(rig_table(r, &ports), PORTS);
    assert_int_equal(rig_table(r, &counts), COUNTS);
    return r;
}

/* A change that happened gives a version above every earlier one of the slot. */
static void newer(struct oracle *o, uint8_t slot, uint64_t version)
{
    CHECK(version > o->newest[slot], SEED);
    o->newest[slot] = version;
    o->ok++;
}

static void check_entry(struct oracle *o, const struct txn_result *x, const struct known *k,
                        uint32_t len)
{
    CHECK((x->version != 0) == k->there, SEED);
    if (!k->there)
        return;
    CHECK(x->version == k->version && x->value_len == len, SEED);
    CHECK(memcmp(txn_result_value(x), k->value, len) == 0, SEED);
}

static uint32_t make_key(uint32_t n, uint8_t *key, uint32_t len)
{
    uint32_t part = n % SIDE, rest = n / SIDE;
    memset(key, 0xab, len);
    memcpy(key, &part, 4);
    memcpy(key + len - 4, &rest, 4);
    return part;
}

/* The version an op guards on: mostly right. */
static uint64_t guess(struct rig *r, const struct known *k)
{
    return rig_random(r) % 8 ? k->version : k->version + 1;
}

static void hash_op(struct rig *r, struct oracle *o, uint32_t n)
{
    static const uint8_t codes[] = {TXN_GET, TXN_CHECK, TXN_INSERT, TXN_CAS, TXN_DELETE};
    struct known *k = &o->flow[n];
    uint8_t key[40], value[256], code = codes[rig_random(r) % 5];
    uint32_t part = make_key(n, key, sizeof key);
    uint8_t slot = slot_of(&part, 4);
    uint64_t arg = code == TXN_INSERT || code == TXN_GET ? 0 : guess(r, k);
    bool writes_value = code == TXN_INSERT || code == TXN_CAS;
    for (uint32_t i = 0; i < sizeof value; i += 8)
        memcpy(value + i, &(uint64_t){rig_random(r)}, 8);
    rig_begin(&t, slot);
    rig_op(&t, (struct txn_op){.code = code, .table = FLOWS, .arg0 = arg}, key, sizeof key, value,
           writes_value ? sizeof value : 0);
    const struct txn_result_head *h = rig_call(r, &t);
    const struct txn_result *x = txn_result_first(h);
    bool holds = code == TXN_GET || (code == TXN_INSERT && !k->there) ||
                 (code == TXN_CHECK && k->version == arg) ||
                 ((code == TXN_CAS || code == TXN_DELETE) && k->there && k->version == arg);
    CHECK(h->status == (holds ? TXN_OK : TXN_CONFLICT), SEED);
    if (!holds || code == TXN_GET) {
        check_entry(o, x, k, sizeof value);
        o->conflicts += !holds;
    } else if (writes_value) {
        newer(o, slot, x->version);
        k->there = true;
        k->version = x->version;
        memcpy(k->value, value, sizeof value);
    } else if (code == TXN_DELETE) {
        *k = (struct known){0};
    }
}

static void counter_op(struct rig *r, struct oracle *o, uint32_t n)
{
    struct known *k = &o->count[n];
    uint8_t key[13], sum[24] = {0};
    uint32_t part = make_key(n, key, sizeof key);
    uint8_t slot = slot_of(&part, 4), code = rig_random(r) % 2 ? TXN_ADD : TXN_ADD_LIMIT;
    int64_t d[3] = {(int64_t)(rig_random(r) % 50) - 20, 1, -3}, limit = 30, first;
    for (int i = 0; i < 3; i++) {
        int64_t v;
        memcpy(&v, k->value + 8 * i, 8);
        v += d[i];
        memcpy(sum + 8 * i, &v, 8);
    }
    memcpy(&first, sum, 8);
    rig_begin(&t, slot);
    rig_op(&t, (struct txn_op){.code = code, .table = COUNTS,
                               .arg0 = code == TXN_ADD ? 0 : (uint64_t)limit},
           key, sizeof key, d, sizeof d);
    const struct txn_result_head *h = rig_call(r, &t);
    const struct txn_result *x = txn_result_first(h);
    if (code == TXN_ADD_LIMIT && first > limit) {
        CHECK(h->status == TXN_LIMIT, SEED);
        check_entry(o, x, k, sizeof sum);
        return;
    }
    CHECK(h->status == TXN_OK, SEED);
    newer(o, slot, x->version);
    k->there = true;
    k->version = x->version;
    memcpy(k->value, sum, sizeof sum);
    check_entry(o, x, k, sizeof sum);
}

/* In the whole pool: slots borrow from each other. */
static uint32_t free_now(const struct rig *r, const struct oracle *o)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < ports.max_entries; i++)
        n += !o->port[i].there && o->port[i].free_at <= r->now;
    return n;
}

static void pool_alloc(struct rig *r, struct oracle *o, uint8_t slot)
{
    uint8_t value[24];
    memcpy(value, &(uint64_t[3]){rig_random(r), 1, 2}, sizeof value);
    rig_begin(&t, slot);
    rig_op(&t, (struct txn_op){.code = TXN_ALLOC, .table = PORTS}, NULL, 0, value, sizeof value);
    const struct txn_result_head *h = rig_call(r, &t);
    const struct txn_result *x = txn_result_first(h);
    if (h->status == TXN_EXHAUSTED) {
        CHECK(!free_now(r, o), SEED);
        o->exhausted++;
        return;
    }
    CHECK(h->status == TXN_OK && x->index < ports.max_entries, SEED);
    struct known *k = &o->port[x->index];
    CHECK(!k->there && k->free_at <= r->now, SEED);
    newer(o, slot, x->version);
    k->there = true;
    k->slot = slot;
    k->version = x->version;
    memcpy(k->value, value, sizeof value);
}

static void pool_op(struct rig *r, struct oracle *o)
{
    uint8_t slot = (uint8_t)(100 + rig_random(r) % 3), value[24] = {0};
    uint32_t block = slot + 256u * (uint32_t)(rig_random(r) % 12);
    uint32_t index = block * 64 + (uint32_t)(rig_random(r) % 64);
    if (rig_random(r) % 3 == 0 || index >= ports.max_entries) {
        pool_alloc(r, o, slot);
        return;
    }
    struct known *k = &o->port[index];
    uint8_t code = rig_random(r) % 3 == 0 ? TXN_CAS : rig_random(r) % 4 ? TXN_GET : TXN_FREE;
    uint64_t version = guess(r, k);
    rig_begin(&t, slot);
    rig_op(&t, (struct txn_op){.code = code, .table = PORTS,
                               .arg0 = code == TXN_GET ? 0 : version}, &index, 4, value,
           code == TXN_CAS ? sizeof value : 0);
    const struct txn_result_head *h = rig_call(r, &t);
    const struct txn_result *x = txn_result_first(h);
    if (code == TXN_GET || !k->there || version != k->version) {
        CHECK(h->status == (code == TXN_GET ? TXN_OK : TXN_CONFLICT), SEED);
        check_entry(o, x, k, sizeof value);
    } else if (code == TXN_CAS) {
        newer(o, k->slot, x->version); /* it runs where the index is */
        k->version = x->version;
        memcpy(k->value, value, sizeof value);
    } else {
        *k = (struct known){.free_at = r->now + ports.quarantine_ms};
    }
}

struct counted { struct oracle *o; uint32_t flows, ports, counts; };

static void count_entry(void *ctx, const struct shard_entry *e)
{
    struct counted *c = ctx;
    struct oracle *o = c->o;
    uint32_t part, rest;
    memcpy(&part, e->key, 4);
    memcpy(&rest, e->key + e->key_len - 4, 4);
    const struct known *k = e->kind == TABLE_POOL   ? &o->port[part]
                            : e->kind == TABLE_HASH ? &o->flow[rest * SIDE + part]
                                                    : &o->count[rest * SIDE + part];
    CHECK(k->there && k->version == e->version, SEED);
    CHECK(memcmp(k->value, e->value, e->value_len) == 0, SEED);
    c->flows += e->kind == TABLE_HASH;
    c->ports += e->kind == TABLE_POOL;
    c->counts += e->kind == TABLE_COUNTERS;
}

static void check_all(struct rig *r, struct oracle *o)
{
    struct counted c = {.o = o}, want = {0};
    shard_each(r->shard[0], count_entry, &c);
    for (uint32_t i = 0; i < KEYS; i++) {
        want.flows += o->flow[i].there;
        want.counts += o->count[i].there;
    }
    for (uint32_t i = 0; i < ports.max_entries; i++)
        want.ports += o->port[i].there;
    CHECK(c.flows == want.flows && c.ports == want.ports && c.counts == want.counts, SEED);
    rig_check_digest(r, 0);
}

static void test_oracle(void **state)
{
    (void)state;
    struct oracle *o = malloc(sizeof *o);
    for (uint64_t seed = 1; seed <= 6; seed++) {
        memset(o, 0, sizeof *o);
        o->seed = seed;
        o->port = calloc(ports.max_entries, sizeof *o->port);
        struct rig *r = start(seed);
        for (int i = 0; i < 12000; i++) {
            uint64_t kind = rig_random(r) % 8;
            if (kind == 0)
                pool_op(r, o);
            else if (kind < 3)
                counter_op(r, o, (uint32_t)(rig_random(r) % KEYS));
            else
                hash_op(r, o, (uint32_t)(rig_random(r) % KEYS));
            if (i % 64 == 0)
                rig_run(r, 1);
        }
        check_all(r, o);
        CHECK(o->ok > 1000 && o->conflicts > 100, SEED);
        rig_free(r);
        free(o->port);
    }
    free(o);
}

static void pool_free(struct rig *r, struct oracle *o, uint32_t index)
{
    rig_begin(&t, slot_of_index(index));
    rig_op(&t, (struct txn_op){.code = TXN_FREE, .table = PORTS, .arg0 = o->port[index].version},
           &index, 4, NULL, 0);
    CHECK(rig_call(r, &t)->status == TXN_OK, SEED);
    o->port[index] = (struct known){.free_at = r->now + ports.quarantine_ms};
}

/* All of the pool, by few slots and then by all: every index once, nobody refused
 * before the last one is gone. Then at the brim, over and over. */
static void test_pool_at_the_brim(void **state)
{
    (void)state;
    struct oracle *o = calloc(1, sizeof *o);
    o->seed = 77;
    o->port = calloc(ports.max_entries, sizeof *o->port);
    struct rig *r = start(o->seed);
    for (uint32_t i = 0; i < ports.max_entries; i++)
        pool_alloc(r, o, (uint8_t)(rig_random(r) % (i < 60000 ? 3 : 256)));
    CHECK(o->ok == ports.max_entries && !o->exhausted, SEED);
    pool_alloc(r, o, 9);
    CHECK(o->exhausted == 1, SEED);
    rig_check_digest(r, 0);
    for (int i = 0; i < 6000; i++) {
        if (i % 7 < 3)
            pool_alloc(r, o, (uint8_t)rig_random(r));
        uint32_t index = (uint32_t)(rig_random(r) % ports.max_entries);
        if (i % 7 > 3 && o->port[index].there)
            pool_free(r, o, index);
        if (i % 8 == 0)
            rig_run(r, 1);
    }
    CHECK(o->exhausted > 10 && o->ok > ports.max_entries + 500, SEED);
    check_all(r, o);
    rig_free(r);
    free(o->port);
    free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle),
        cmocka_unit_test(test_pool_at_the_brim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
