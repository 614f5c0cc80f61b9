/* SPDX-License-Identifier: BSD-3-Clause */
/* Building txns and reading their answers (ask.h). */
#include "ask.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void answered(void *user, const struct txn_result_head *r);

/* --- building --------------------------------------------------------------------------- */

static uint8_t table_of(uint16_t key)
{
    return (uint8_t)key_table(key);
}

static void value_of(uint8_t table, uint64_t token, uint8_t *value)
{
    memset(value, 0, TXN_VALUE_MAX);
    memcpy(value + key_token_offset((enum key_table)table), &token, sizeof token);
}

static const struct key_space key_space = {
    .table_of = table_of, .bytes = key_bytes, .of_port = key_of_port, .value = value_of,
    .ports = T_PORTS,
};

struct build {
    struct asker *a;
    struct pending *pending;
    struct ops ops;
    uint32_t slot_number;
};

static bool begin(struct build *b, struct asker *a, uint8_t slot)
{
    *b = (struct build){.a = a};
    /* one silent shard must not use up the window: others go on meanwhile */
    if (a->npending >= a->window || a->in_slot[slot] > a->window / 4)
        return false;
    struct pending *p = NULL;
    for (int i = 0; i < PENDING_MAX && !p; i++)
        if (!a->pending[i].used)
            p = &a->pending[i];
    struct lethe_txn *txn = p ? lethe_txn_begin(a->lethe, slot, answered, p) : NULL;
    if (!txn)
        return false;
    if (!record_number(a->record, &p->number)) {
        lethe_txn_cancel(txn);
        return false;
    }
    p->asker = a;
    p->slot = slot;
    p->order = slot;
    b->pending = p;
    b->ops = (struct ops){.keys = &key_space, .tables = a->tables, .txn = txn, .number = p->number,
                          .asked = p->asked, .acts = p->acts};
    return true;
}

static bool submit(struct build *b)
{
    struct pending *p = b->pending;
    p->nasked = p->nacts = b->ops.n;
    if (!record_asked(b->a->record, p->number, b->a->number, p->order, p->acts, p->nacts)) {
        lethe_txn_cancel(b->ops.txn);
        return false;
    }
    p->used = true;
    p->asked_us = record_now_us();
    b->a->npending++;
    b->a->in_slot[p->slot]++;
    atomic_fetch_add(&b->a->counts->asked, 1);
    lethe_txn_submit(b->ops.txn);
    return true;
}

/* --- what is asked ---------------------------------------------------------------------- */

/* Low numbers are hot. */
static uint32_t pick(struct asker *a, uint32_t n)
{
    uint32_t x = rng_below(&a->rng, n), y = rng_below(&a->rng, n);
    return x < y ? x : y;
}

static uint16_t pick_key(const struct build *b, enum key_table t)
{
    return key_of(t, b->slot_number, pick(b->a, keys_per_slot[t]));
}

static int64_t some_delta(struct build *b)
{
    return (int64_t)(rng_next(&b->a->rng) >> 24);
}

static void want_session(struct build *b)
{
    uint32_t map = pick(b->a, keys_per_slot[T_MAPS]);
    uint32_t peer = rng_below(&b->a->rng, SESSIONS_PER_MAP);
    ops_session(&b->ops, (struct ops_session){
        .session = key_of(T_SESSIONS, b->slot_number, map * SESSIONS_PER_MAP + peer),
        .mapping = key_of(T_MAPS, b->slot_number, map), .cap = key_of(T_CAPS, b->slot_number, 0),
        .delta = some_delta(b), .limit = CAP_LIMIT});
}

static void want_write(struct build *b)
{
    uint16_t key = pick_key(b, rng_chance(&b->a->rng, 650) ? T_FLOWS : T_IDLE);
    uint64_t version = b->a->version[key];
    uint32_t way = rng_below(&b->a->rng, 100);
    if (!version || way < 10)
        ops_insert(&b->ops, key, HIST_NO_KEY);
    else if (way < 70)
        ops_cas(&b->ops, key, version);
    else
        ops_delete(&b->ops, key, version);
}

/* Two keys of a slot at once: all of it, or nothing. */
static void want_pair(struct build *b)
{
    uint16_t one = key_of(T_FLOWS, b->slot_number, 0), two = pick_key(b, T_IDLE);
    uint64_t v1 = b->a->version[one], v2 = b->a->version[two];
    if (rng_chance(&b->a->rng, 400))
        ops_check(&b->ops, one, v1);
    else if (v1)
        ops_cas(&b->ops, one, v1);
    else
        ops_insert(&b->ops, one, HIST_NO_KEY);
    if (v2 && rng_chance(&b->a->rng, 400))
        ops_delete(&b->ops, two, v2);
    else if (!v2)
        ops_insert(&b->ops, two, HIST_NO_KEY);
    else
        ops_cas(&b->ops, two, v2);
}

static void want_read(struct build *b)
{
    static const enum key_table tables[] = {T_FLOWS, T_FLOWS, T_IDLE, T_SUMS, T_MAPS, T_SESSIONS};
    enum key_table t = tables[rng_below(&b->a->rng, 6)];
    ops_get(&b->ops, pick_key(b, t), t == T_IDLE && rng_chance(&b->a->rng, 500) ? TXN_TOUCH : 0);
    if (rng_chance(&b->a->rng, 300))
        ops_get(&b->ops, key_of(T_FLOWS, b->slot_number, rng_below(&b->a->rng, keys_per_slot[T_FLOWS])), 0);
}

/* Get-or-create of one key. */
static void want_or_create(struct build *b)
{
    uint16_t key = pick_key(b, rng_chance(&b->a->rng, 500) ? T_FLOWS : T_IDLE);
    int found = ops_get(&b->ops, key, TXN_SKIP_IF_PRESENT);
    ops_insert(&b->ops, key, HIST_NO_KEY);
    lethe_txn_skip_to_here(b->ops.txn, found);
}

static void want_scan(struct build *b)
{
    static const enum key_table tables[] = {T_FLOWS, T_IDLE, T_MAPS, T_SESSIONS, T_SUMS};
    enum key_table t = tables[rng_below(&b->a->rng, 5)];
    ops_scan(&b->ops, (uint8_t)t);
}

static void want_port(struct build *b)
{
    struct asker *a = b->a;
    uint32_t at = a->nheld ? rng_below(&a->rng, a->nheld) : 0;
    bool any = a->nheld && rng_chance(&a->rng, 100); /* whose slot this is not: it is followed */
    for (uint32_t i = 0; !any && i < a->nheld && a->held[at].slot != b->pending->slot; i++)
        at = (at + 1) % a->nheld;
    bool mine = a->nheld && (any || a->held[at].slot == b->pending->slot);
    if (mine && (a->nheld > HELD_MAX / 2 || rng_chance(&a->rng, 550))) {
        b->pending->order = key_order(key_of_port(a->held[at].index));
        ops_free(&b->ops, a->held[at].index, a->held[at].version);
        if (rng_chance(&a->rng, 900)) /* else it will be freed twice */
            a->held[at] = a->held[--a->nheld];
    } else if (a->nheld < HELD_MAX && rng_chance(&a->rng, 600)) {
        ops_alloc(&b->ops, false);
    } else {
        uint32_t index = b->pending->slot * (uint32_t)POOL_BLOCK + rng_below(&a->rng, POOL_BLOCK);
        uint16_t key = key_of_port(index);
        b->pending->order = key_order(key);
        if (a->version[key])
            ops_free(&b->ops, index, a->version[key]); /* somebody's who may be gone by now */
        else
            ops_get(&b->ops, key, 0);
    }
}

static void want_session_end(struct build *b)
{
    uint16_t key = pick_key(b, T_SESSIONS);
    if (b->a->version[key])
        ops_delete(&b->ops, key, b->a->version[key]);
    else
        ops_get(&b->ops, key, 0);
}

static void want_sum(struct build *b)
{
    uint16_t key = pick_key(b, T_SUMS);
    ops_add(&b->ops, key, some_delta(b));
}

bool ask_random(struct asker *a)
{
    static const struct {
        uint32_t weight;
        void (*want)(struct build *b);
    } kinds[] = {{18, want_read},     {26, want_write},      {6, want_pair},  {2, want_scan},
                 {16, want_session},  {5, want_session_end}, {12, want_port}, {9, want_sum},
                 {100, want_or_create}};
    struct build b;
    uint32_t number = rng_below(&a->rng, keys_slots());
    if (!begin(&b, a, keys_slot(number)))
        return false;
    b.slot_number = number;
    uint32_t n = rng_below(&a->rng, 100), i = 0;
    while (n >= kinds[i].weight)
        n -= kinds[i++].weight;
    if (rng_chance(&a->rng, a->ports * 10))
        want_port(&b);
    else
        kinds[i].want(&b);
    return submit(&b);
}

bool ask_key(struct asker *a, uint16_t key)
{
    struct build b;
    if (!begin(&b, a, key_slot(key)))
        return false;
    b.pending->order = key_order(key);
    ops_get(&b.ops, key, 0);
    return submit(&b);
}

bool ask_open(struct asker *a)
{
    for (int t = 0; t < KEY_TABLES; t++) {
        a->tables[t] = lethe_table_open(a->lethe, &key_schemas[t]);
        if (a->tables[t] < 0)
            return false;
    }
    return true;
}

/* --- answers ---------------------------------------------------------------------------- */

static void add_act(struct pending *p, struct hist_act act)
{
    if (p->nacts == HIST_ACTS_MAX)
        abort();
    p->acts[p->nacts++] = act;
}

/* What an entry's bytes say: its token, or a counter's value. */
static void read_value(enum key_table t, const uint8_t *value, uint32_t len, struct hist_act *act)
{
    if (len != key_schemas[t].value_size)
        return;
    if (t == T_SUMS) {
        memcpy(&act->value, value + 8, sizeof act->value);
        act->has_value = true;
    } else if (t != T_CAPS) {
        memcpy(&act->token, value + key_token_offset(t), sizeof act->token);
    }
}

/* A mapping that lives holds its index: seeing one is seeing the other. */
static void see_owned_index(struct pending *p, const uint8_t *value)
{
    uint32_t index;
    uint64_t version;
    memcpy(&index, value, 4);
    memcpy(&version, value + 4, 8);
    uint16_t key = key_of_port(index);
    if (key == HIST_NO_KEY)
        record_wrong(p->asker->record, "a mapping names index %u, which the pool does not have", index);
    else
        add_act(p, (struct hist_act){.what = HIST_SEE, .key = key, .version = version});
}

static void saw(struct pending *p, uint32_t i, const struct txn_result *r)
{
    const struct asked *k = &p->asked[i];
    struct hist_act *act = &p->acts[i];
    bool touch = act->touch && r->res != RES_ABSENT;
    *act = (struct hist_act){.what = HIST_SEE, .touch = touch, .key = k->key,
                             .version = r->res == RES_ABSENT ? 0 : r->version};
    if (act->version)
        read_value((enum key_table)k->table, txn_result_value(r), r->value_len, act);
    uint64_t version = act->version;
    bool owned = k->table == T_PORTS && version && r->value_len == 16 && txn_result_value(r)[8];
    p->asker->version[k->key] = owned ? 0 : version; /* a mapping's: not ours to free */
    if (k->table == T_MAPS && version && r->value_len == 24)
        see_owned_index(p, txn_result_value(r));
}

static void did(struct pending *p, uint32_t i, const struct txn_result *r)
{
    const struct asked *k = &p->asked[i];
    struct hist_act *act = &p->acts[i];
    struct asker *a = p->asker;
    if (k->code == TXN_DELETE || k->code == TXN_FREE) {
        a->version[k->key] = 0;
        return;
    }
    act->version = r->version;
    if (!r->version)
        record_wrong(a->record, "operation %u wrote, but was told version 0", p->number);
    if (k->code == TXN_ALLOC) {
        act->key = key_of_port(r->index);
        if (act->key == HIST_NO_KEY)
            record_wrong(a->record, "the pool has no index %u", r->index);
        else if (key_slot(act->key) != p->slot)
            atomic_fetch_add(&a->counts->borrowed, 1);
        if (!act->owned && a->nheld < HELD_MAX)
            a->held[a->nheld++] = (struct held_index){p->slot, r->index, r->version};
        return;
    }
    if (k->code == TXN_ADD || k->code == TXN_ADD_LIMIT)
        read_value((enum key_table)k->table, txn_result_value(r), r->value_len, act);
    a->version[k->key] = r->version;
}

/* Each op of a txn that was answered. True: it changed something. */
static bool settle(struct pending *p, const struct txn_result_head *head, bool ok)
{
    bool wrote = false;
    for (uint32_t i = 0; i < p->nasked; i++) {
        const struct asked *k = &p->asked[i];
        const struct txn_result *r = txn_result_of(head, (int)i);
        bool guard_told = !ok && r && i == head->failed_op && k->code != TXN_ALLOC;
        if (!ok)
            p->acts[i].touch = 0;
        if (r && (k->code == TXN_GET || guard_told)) {
            saw(p, i, r);
        } else if (ok && r && k->code != TXN_CHECK) {
            did(p, i, r);
            wrote = true;
        } else if (!ok || !r) {
            p->acts[i].what = HIST_NOT;
        }
    }
    return wrote;
}

static void scanned(struct pending *p, const struct txn_result *r)
{
    enum key_table t = (enum key_table)p->asked[0].table;
    uint32_t offset = 0, listed = 0, number = 0;
    const struct txn_scan_entry *e;
    while (keys_slot(number) != p->slot)
        number++;
    while ((e = txn_scan_next(r, &offset))) {
        const uint8_t *bytes = (const uint8_t *)(e + 1);
        uint16_t key = key_find(t, bytes, e->key_len);
        if (key == HIST_NO_KEY || key_slot(key) != p->slot) {
            record_wrong(p->asker->record, "a scan of %s in slot %u lists a key nobody wrote there",
                         key_schemas[t].name, p->slot);
            return;
        }
        struct hist_act act = {.what = HIST_SEE, .key = key, .version = e->version};
        read_value(t, bytes + e->key_len, e->value_len, &act);
        add_act(p, act);
        listed |= 1u << (key - key_of(t, number, 0));
    }
    for (uint32_t i = 0; !r->version && i < keys_per_slot[t]; i++)
        if (!(listed >> i & 1))
            add_act(p, (struct hist_act){.what = HIST_SEE, .key = key_of(t, number, i)});
}

/* Whatever was answered was executed after it was asked, and renewed the lease: it may
 * not be lost before a whole lease from there. Each shard leases an id of its own; a txn
 * that names a pool index follows it, to whichever shard. */
static void judge_lease(struct asker *a, const struct pending *p, bool lost)
{
    uint64_t now_us = record_now_us(), *renewed_us = &a->renewed_us[p->slot];
    if (!a->lease_ms || p->order != p->slot)
        return;
    if (!lost && p->asked_us > *renewed_us)
        *renewed_us = p->asked_us;
    else if (lost && *renewed_us && now_us < *renewed_us + a->lease_ms * 1000ull)
        record_wrong(a->record, "client %u lost its lease of %u ms %.1f ms after it was renewed",
                     a->number, a->lease_ms, (double)(now_us - *renewed_us) / 1000.0);
}

static void answered(void *user, const struct txn_result_head *r)
{
    struct pending *p = user;
    struct asker *a = p->asker;
    const struct txn_result *first = txn_result_of(r, 0);
    enum hist_outcome outcome = r->status == TXN_OK             ? HIST_OK
                                : r->status == TXN_STALE_CLIENT ? HIST_UNKNOWN
                                                                : HIST_REFUSED;
    bool wrote = false;
    judge_lease(a, p, outcome == HIST_UNKNOWN);
    if (r->status == TXN_FORGOTTEN || r->status == TXN_BAD_REQUEST || r->status >= TXN_STATUS_END)
        record_wrong(a->record, "operation %u was answered: %s", p->number,
                     r->status < TXN_STATUS_END ? txn_status_text(r->status) : "no known status");
    if (outcome != HIST_UNKNOWN && p->asked[0].code != TXN_SCAN)
        wrote = settle(p, r, outcome == HIST_OK);
    else if (outcome == HIST_OK && first)
        scanned(p, first);
    record_told(a->record, p->number, outcome, r->status, p->acts, p->nacts, wrote);
    atomic_fetch_add(&a->counts->told, 1);
    if (r->status < TXN_STATUS_END)
        atomic_fetch_add(&a->counts->by_status[r->status], 1);
    p->used = false;
    a->npending--;
    a->in_slot[p->slot]--;
}
