/* SPDX-License-Identifier: BSD-3-Clause */
#include "ops.h"

#include <stdlib.h>

static uint64_t next_token(const struct ops *o)
{
    return hist_token(o->number, (int)o->n);
}

/* Notes the op that the library put at `position`. */
static int asked(struct ops *o, int position, enum txn_code code, uint8_t table, uint16_t key,
                 struct hist_act act)
{
    if (position != (int)o->n)
        abort(); /* the txn was full: it is asked too much at once */
    act.key = key;
    o->asked[o->n] = (struct asked){(uint8_t)code, table, key};
    o->acts[o->n++] = act;
    return position;
}

static struct hist_act write_over(const struct ops *o, uint64_t guard)
{
    return (struct hist_act){.what = HIST_WRITE, .guard = guard, .token = next_token(o)};
}

/* What an op on a key needs. */
struct target {
    uint8_t number;
    int table; /* the client's */
    uint8_t key[TXN_KEY_MAX], value[TXN_VALUE_MAX];
};

static struct target target_of(const struct ops *o, uint16_t key)
{
    struct target t = {.number = o->keys->table_of(key)};
    t.table = o->tables[t.number];
    o->keys->bytes(key, t.key);
    o->keys->value(t.number, next_token(o), t.value);
    return t;
}

int ops_get(struct ops *o, uint16_t key, uint8_t flags)
{
    struct target t = target_of(o, key);
    return asked(o, lethe_txn_get(o->txn, t.table, t.key, flags), TXN_GET, t.number, key,
                 (struct hist_act){.what = HIST_SEE, .touch = flags & TXN_TOUCH ? 1 : 0});
}

int ops_check(struct ops *o, uint16_t key, uint64_t version)
{
    struct target t = target_of(o, key);
    return asked(o, lethe_txn_check(o->txn, t.table, t.key, version), TXN_CHECK, t.number, key,
                 (struct hist_act){.what = HIST_SEE, .version = version});
}

int ops_insert(struct ops *o, uint16_t key, uint16_t parent)
{
    struct target t = target_of(o, key);
    int at;
    if (parent == HIST_NO_KEY) {
        at = lethe_txn_insert(o->txn, t.table, t.key, t.value, 0);
    } else {
        struct target p = target_of(o, parent);
        at = lethe_txn_insert_child(o->txn, t.table, t.key, t.value, 0, p.table, p.key);
    }
    return asked(o, at, TXN_INSERT, t.number, key, write_over(o, 0));
}

int ops_cas(struct ops *o, uint16_t key, uint64_t version)
{
    struct target t = target_of(o, key);
    int at = lethe_txn_cas(o->txn, t.table, t.key, version, t.value, 0);
    return asked(o, at, TXN_CAS, t.number, key, write_over(o, version));
}

int ops_delete(struct ops *o, uint16_t key, uint64_t version)
{
    struct target t = target_of(o, key);
    return asked(o, lethe_txn_delete(o->txn, t.table, t.key, version), TXN_DELETE, t.number, key,
                 (struct hist_act){.what = HIST_REMOVE, .guard = version});
}

int ops_timer(struct ops *o, uint16_t key, uint32_t delay_ms)
{
    struct target t = target_of(o, key);
    struct hist_act act = write_over(o, 0);
    act.timeout_ms = delay_ms;
    int at = lethe_txn_timer(o->txn, t.table, t.key, t.value, delay_ms);
    return asked(o, at, TXN_INSERT, t.number, key, act);
}

static int added(struct ops *o, int position, enum txn_code code, uint16_t key, int64_t delta)
{
    return asked(o, position, code, o->keys->table_of(key), key,
                 (struct hist_act){.what = HIST_WRITE, .guard = HIST_ANY, .delta = delta});
}

int ops_add(struct ops *o, uint16_t key, int64_t delta)
{
    struct target t = target_of(o, key);
    int at = lethe_txn_add(o->txn, t.table, t.key, (int64_t[]){1, delta});
    return added(o, at, TXN_ADD, key, delta);
}

int ops_add_limit(struct ops *o, uint16_t key, int64_t delta, int64_t limit)
{
    struct target t = target_of(o, key);
    int at = lethe_txn_add_limit(o->txn, t.table, t.key, (int64_t[]){1, delta}, limit);
    return added(o, at, TXN_ADD_LIMIT, key, delta);
}

int ops_add_sketch(struct ops *o, uint16_t key, int64_t delta)
{
    struct target t = target_of(o, key);
    return added(o, lethe_txn_add(o->txn, t.table, t.key, &delta), TXN_ADD, key, delta);
}

int ops_alloc(struct ops *o, bool owned)
{
    uint8_t value[TXN_VALUE_MAX], pool = o->keys->ports;
    struct hist_act act = write_over(o, 0);
    act.owned = owned;
    o->keys->value(pool, act.token, value);
    value[8] = owned;
    return asked(o, lethe_txn_alloc(o->txn, o->tables[pool], value), TXN_ALLOC, pool, HIST_NO_KEY,
                 act);
}

int ops_free(struct ops *o, uint32_t index, uint64_t version)
{
    uint8_t pool = o->keys->ports;
    return asked(o, lethe_txn_free(o->txn, o->tables[pool], index, version), TXN_FREE, pool,
                 o->keys->of_port(index), (struct hist_act){.what = HIST_REMOVE, .guard = version});
}

void ops_scan(struct ops *o, uint8_t table)
{
    if (lethe_txn_scan(o->txn, o->tables[table], 0) != 0)
        abort();
    o->asked[0] = (struct asked){TXN_SCAN, table, HIST_NO_KEY};
}

void ops_session(struct ops *o, struct ops_session s)
{
    int first = ops_get(o, s.session, TXN_TOUCH | TXN_SKIP_IF_PRESENT);
    int second = ops_get(o, s.mapping, TXN_SKIP_IF_PRESENT);
    ops_add_limit(o, s.cap, s.delta, s.limit);
    uint8_t index = (uint8_t)ops_alloc(o, true);
    ops_insert(o, s.mapping, HIST_NO_KEY);
    const struct txn_patch names_index = {
        .op = index, .from = PATCH_INDEX, .len = 4, .into = PATCH_INTO_VALUE, .into_off = 0};
    const struct txn_patch names_version = {
        .op = index, .from = PATCH_VERSION, .len = 8, .into = PATCH_INTO_VALUE, .into_off = 4};
    if (!lethe_txn_patch(o->txn, names_index) || !lethe_txn_patch(o->txn, names_version))
        abort();
    lethe_txn_skip_to_here(o->txn, second);
    ops_insert(o, s.session, s.mapping);
    lethe_txn_skip_to_here(o->txn, first);
}
