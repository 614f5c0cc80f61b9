/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What clients ask, and how the answers become history. A request is recorded
 * when it is submitted, with what it would do; its answer says what it did.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tables.h"
#include "world.h"

static void answered(void *user, const struct txn_result_head *r);

/* --- building -------------------------------------------------------------------------- */

struct build {
    struct world *w;
    struct peer *p;
    struct pending *pending;
    struct lethe_txn *txn;
};

static bool begin(struct build *b, struct world *w, struct peer *p, uint32_t slot)
{
    *b = (struct build){.w = w, .p = p};
    for (int i = 0; i < PENDING_MAX && !b->pending; i++)
        if (!p->pending[i].used)
            b->pending = &p->pending[i];
    if (!b->pending)
        return false;
    b->txn = lethe_txn_begin(p->lethe, sim_slots[slot], answered, b->pending);
    if (!b->txn)
        return false;
    b->pending->op = hist_invoke(&w->history, p->hist_client, sim_slots[slot], w->now_us);
    b->pending->nasked = 0;
    return true;
}

static bool submit(struct build *b)
{
    b->pending->used = true;
    b->p->npending++;
    lethe_txn_submit(b->txn);
    return true;
}

/* The next act's token; remembers where the op's answer goes. */
static uint64_t next_token(const struct build *b)
{
    return hist_token(b->pending->op, b->w->history.ops[b->pending->op].nacts);
}

static int asked(struct build *b, int position, enum txn_code code, enum sim_table table,
                 uint16_t key, struct hist_act act)
{
    if (position != b->pending->nasked)
        abort(); /* the txn was full: the workload asks too much at once */
    act.key = key;
    int at = hist_act(&b->w->history, act);
    b->pending->asked[b->pending->nasked++] =
        (struct asked){(uint8_t)code, (uint8_t)table, key, (int16_t)at};
    return position;
}

static int ask_get(struct build *b, uint16_t key, uint8_t flags)
{
    uint8_t bytes[TXN_KEY_MAX];
    enum sim_table t = sim_key_table(key);
    sim_key_bytes(key, bytes);
    return asked(b, lethe_txn_get(b->txn, b->p->tables[t], bytes, flags), TXN_GET, t, key,
                 (struct hist_act){.what = HIST_SEE, .touch = flags & TXN_TOUCH ? 1 : 0});
}

static void value_of(struct build *b, enum sim_table t, uint8_t *value)
{
    uint64_t token = next_token(b);
    memset(value, 0, TXN_VALUE_MAX);
    memcpy(value + sim_token_offset(t), &token, sizeof token);
    for (uint32_t at = 8; sim_is_filled(t) && at < sim_schemas[t].value_size; at += 8)
        memcpy(value + at, &token, sizeof token);
}

static int ask_insert(struct build *b, uint16_t key, uint16_t parent)
{
    uint8_t bytes[TXN_KEY_MAX], parent_bytes[TXN_KEY_MAX], value[TXN_VALUE_MAX];
    enum sim_table t = sim_key_table(key);
    struct hist_act act = {.what = HIST_WRITE, .guard = 0, .token = next_token(b)};
    value_of(b, t, value);
    sim_key_bytes(key, bytes);
    if (parent == HIST_NO_KEY)
        return asked(b, lethe_txn_insert(b->txn, b->p->tables[t], bytes, value, 0), TXN_INSERT, t,
                     key, act);
    sim_key_bytes(parent, parent_bytes);
    int at = lethe_txn_insert_child(b->txn, b->p->tables[t], bytes, value, 0,
                                    b->p->tables[sim_key_table(parent)], parent_bytes);
    return asked(b, at, TXN_INSERT, t, key, act);
}

static int ask_cas(struct build *b, uint16_t key, uint64_t version)
{
    uint8_t bytes[TXN_KEY_MAX], value[TXN_VALUE_MAX];
    enum sim_table t = sim_key_table(key);
    struct hist_act act = {.what = HIST_WRITE, .guard = version, .token = next_token(b)};
    value_of(b, t, value);
    sim_key_bytes(key, bytes);
    return asked(b, lethe_txn_cas(b->txn, b->p->tables[t], bytes, version, value, 0), TXN_CAS, t,
                 key, act);
}

static int ask_check(struct build *b, uint16_t key, uint64_t version)
{
    uint8_t bytes[TXN_KEY_MAX];
    enum sim_table t = sim_key_table(key);
    sim_key_bytes(key, bytes);
    return asked(b, lethe_txn_check(b->txn, b->p->tables[t], bytes, version), TXN_CHECK, t, key,
                 (struct hist_act){.what = HIST_SEE, .version = version});
}

static int ask_delete(struct build *b, uint16_t key, uint64_t version)
{
    uint8_t bytes[TXN_KEY_MAX];
    enum sim_table t = sim_key_table(key);
    sim_key_bytes(key, bytes);
    return asked(b, lethe_txn_delete(b->txn, b->p->tables[t], bytes, version), TXN_DELETE, t, key,
                 (struct hist_act){.what = HIST_REMOVE, .guard = version});
}

static int ask_add(struct build *b, uint16_t key)
{
    uint8_t bytes[TXN_KEY_MAX];
    enum sim_table t = sim_key_table(key);
    int64_t deltas[2] = {1, (int64_t)(rng_next(&b->w->rng) >> 24)};
    sim_key_bytes(key, bytes);
    struct hist_act act = {.what = HIST_WRITE, .guard = HIST_ANY, .delta = deltas[1]};
    if (t == T_CAPS)
        return asked(b, lethe_txn_add_limit(b->txn, b->p->tables[t], bytes, deltas, CAP_LIMIT),
                     TXN_ADD_LIMIT, t, key, act);
    return asked(b, lethe_txn_add(b->txn, b->p->tables[t], bytes, deltas), TXN_ADD, t, key, act);
}

static int ask_sketch_add(struct build *b, uint16_t key)
{
    uint8_t bytes[TXN_KEY_MAX];
    enum sim_table t = sim_key_table(key);
    int64_t delta = (int64_t)(rng_next(&b->w->rng) >> 24);
    sim_key_bytes(key, bytes);
    return asked(b, lethe_txn_add(b->txn, b->p->tables[t], bytes, &delta), TXN_ADD, t, key,
                 (struct hist_act){.what = HIST_WRITE, .guard = HIST_ANY, .delta = delta});
}

static int ask_alloc(struct build *b, bool owned)
{
    uint8_t value[TXN_VALUE_MAX];
    struct hist_act act = {.what = HIST_WRITE, .guard = 0, .token = next_token(b), .owned = owned};
    value_of(b, T_PORTS, value);
    value[8] = owned;
    return asked(b, lethe_txn_alloc(b->txn, b->p->tables[T_PORTS], value), TXN_ALLOC, T_PORTS,
                 HIST_NO_KEY, act);
}

static int ask_free(struct build *b, uint32_t index, uint64_t version)
{
    return asked(b, lethe_txn_free(b->txn, b->p->tables[T_PORTS], index, version), TXN_FREE,
                 T_PORTS, sim_port_key(index),
                 (struct hist_act){.what = HIST_REMOVE, .guard = version});
}

/* --- what is asked --------------------------------------------------------------------- */

/* Low numbers are hot. */
static uint32_t pick(struct world *w, uint32_t n)
{
    uint32_t a = rng_below(&w->rng, n), b = rng_below(&w->rng, n);
    return a < b ? a : b;
}

static uint16_t pick_key(struct world *w, enum sim_table t, uint32_t slot)
{
    return sim_key(t, slot, pick(w, sim_per_slot[t]));
}

/* The whole of a new or known session in one txn: session? else mapping?
 * else (count, index, mapping); then the session as the mapping's child. */
static bool ask_session(struct build *b, uint32_t slot)
{
    uint32_t map = pick(b->w, sim_per_slot[T_MAPS]);
    uint32_t peer = rng_below(&b->w->rng, SESSIONS_PER_MAP);
    uint16_t map_key = sim_key(T_MAPS, slot, map);
    uint16_t session = sim_key(T_SESSIONS, slot, map * SESSIONS_PER_MAP + peer);
    int first = ask_get(b, session, TXN_TOUCH | TXN_SKIP_IF_PRESENT);
    int second = ask_get(b, map_key, TXN_SKIP_IF_PRESENT);
    ask_add(b, sim_key(T_CAPS, slot, 0));
    int index = ask_alloc(b, true);
    ask_insert(b, map_key, HIST_NO_KEY);
    struct txn_patch patch = {.op = (uint8_t)index, .from = PATCH_INDEX, .len = 4,
                              .into = PATCH_INTO_VALUE, .into_off = 0};
    bool fits = lethe_txn_patch(b->txn, patch);
    patch = (struct txn_patch){.op = (uint8_t)index, .from = PATCH_VERSION, .len = 8,
                               .into = PATCH_INTO_VALUE, .into_off = 4};
    if (!fits || !lethe_txn_patch(b->txn, patch))
        abort();
    lethe_txn_skip_to_here(b->txn, second);
    ask_insert(b, session, map_key);
    lethe_txn_skip_to_here(b->txn, first);
    return submit(b);
}

static bool ask_write(struct build *b, uint32_t slot)
{
    static const enum sim_table tables[] = {T_FLOWS, T_FLOWS, T_IDLE, T_CALM, T_BRIEF};
    enum sim_table t = tables[rng_below(&b->w->rng, 5)];
    uint16_t key = pick_key(b->w, t, slot);
    uint64_t version = b->p->version[key];
    uint32_t way = rng_below(&b->w->rng, 100);
    if (!version || way < 15)
        ask_insert(b, key, HIST_NO_KEY);
    else if (way < 55)
        ask_cas(b, key, version);
    else
        ask_delete(b, key, version);
    return submit(b);
}

/* Two keys of a slot at once: all of it, or nothing. */
static bool ask_pair(struct build *b, uint32_t slot)
{
    uint16_t one = sim_key(T_FLOWS, slot, 0), two = pick_key(b->w, T_IDLE, slot);
    uint64_t v1 = b->p->version[one], v2 = b->p->version[two];
    if (rng_chance(&b->w->rng, 400))
        ask_check(b, one, v1);
    else if (v1)
        ask_cas(b, one, v1);
    else
        ask_insert(b, one, HIST_NO_KEY);
    if (v2 && rng_chance(&b->w->rng, 500))
        ask_delete(b, two, v2);
    else if (!v2)
        ask_insert(b, two, HIST_NO_KEY);
    else
        ask_cas(b, two, v2);
    if (rng_chance(&b->w->rng, 300)) /* as durable as the others, for once */
        ask_add(b, pick_key(b->w, T_TALLY, slot));
    return submit(b);
}

static bool ask_read(struct build *b, uint32_t slot)
{
    static const enum sim_table tables[] = {T_FLOWS, T_FLOWS, T_IDLE, T_ALIVE,
                                            T_CALM, T_SUMS, T_HITS, T_MAPS, T_BRIEF, T_TALLY};
    enum sim_table t = tables[rng_below(&b->w->rng, 10)];
    bool touch = t == T_IDLE && rng_chance(&b->w->rng, 500);
    ask_get(b, pick_key(b->w, t, slot), touch ? TXN_TOUCH : 0);
    if (rng_chance(&b->w->rng, 300))
        ask_get(b, sim_key(T_FLOWS, slot, rng_below(&b->w->rng, sim_per_slot[T_FLOWS])), 0);
    return submit(b);
}

/* One key that others write much, or that may expire. */
static bool ask_get_only(struct build *b, uint32_t slot)
{
    static const enum sim_table tables[] = {T_FLOWS, T_FLOWS, T_SUMS, T_IDLE, T_IDLE};
    enum sim_table t = tables[rng_below(&b->w->rng, 5)];
    bool touch = t == T_IDLE && rng_chance(&b->w->rng, 30);
    ask_get(b, pick_key(b->w, t, slot), touch ? TXN_TOUCH : 0);
    return submit(b);
}

static bool ask_scan(struct build *b, uint32_t slot)
{
    static const enum sim_table tables[] = {T_FLOWS, T_IDLE, T_MAPS, T_SESSIONS, T_SUMS};
    enum sim_table t = tables[rng_below(&b->w->rng, 5)];
    int at = lethe_txn_scan(b->txn, b->p->tables[t], 0);
    if (at != 0)
        abort();
    b->pending->asked[b->pending->nasked++] =
        (struct asked){TXN_SCAN, (uint8_t)t, HIST_NO_KEY, -1};
    return submit(b);
}

/* By its index alone, whichever slot has it. */
static bool ask_index(struct build *b, uint32_t index, uint64_t version)
{
    b->w->history.ops[b->pending->op].slot = sim_port_slot(index);
    if (version)
        ask_free(b, index, version);
    else
        ask_get(b, sim_port_key(index), 0);
    return submit(b);
}

static bool ask_port(struct build *b, uint32_t slot)
{
    struct peer *p = b->p;
    (void)slot;
    if (p->nheld && rng_chance(&b->w->rng, 450)) {
        uint32_t at = rng_below(&b->w->rng, p->nheld);
        struct held_index held = p->held[at];
        if (rng_chance(&b->w->rng, 900)) /* else it will be freed twice */
            p->held[at] = p->held[--p->nheld];
        return ask_index(b, held.index, held.version);
    }
    if (rng_chance(&b->w->rng, 650)) {
        ask_alloc(b, false);
        return submit(b);
    }
    uint32_t index = rng_below(&b->w->rng, SIM_PORTS);
    bool frees = rng_chance(&b->w->rng, 700);
    return ask_index(b, index, frees ? p->version[sim_port_key(index)] : 0);
}

static bool ask_session_end(struct build *b, uint32_t slot)
{
    uint16_t key = pick_key(b->w, T_SESSIONS, slot);
    uint64_t version = b->p->version[key];
    if (version)
        ask_delete(b, key, version);
    else
        ask_get(b, key, 0);
    return submit(b);
}

static bool ask_sum(struct build *b, uint32_t slot)
{
    uint32_t way = rng_below(&b->w->rng, 100);
    ask_add(b, pick_key(b->w, way < 55 ? T_SUMS : way < 85 ? T_HITS : T_TALLY, slot));
    return submit(b);
}

static bool ask_sketch(struct build *b, uint32_t slot)
{
    uint16_t key = pick_key(b->w, rng_chance(&b->w->rng, 700) ? T_SEEN : T_GUESS, slot);
    if (rng_chance(&b->w->rng, 350))
        ask_get(b, key, 0);
    else
        ask_sketch_add(b, key);
    return submit(b);
}

static bool ask_timer(struct build *b, uint32_t slot)
{
    uint16_t key = pick_key(b->w, T_TIMERS, slot);
    uint64_t version = b->p->version[key];
    if (version && rng_chance(&b->w->rng, 350)) {
        ask_delete(b, key, version);
        return submit(b);
    }
    if (rng_chance(&b->w->rng, 250)) {
        ask_get(b, key, rng_chance(&b->w->rng, 500) ? TXN_TOUCH : 0);
        return submit(b);
    }
    uint8_t bytes[TXN_KEY_MAX], value[TXN_VALUE_MAX];
    uint32_t ms = (uint32_t)rng_between(&b->w->rng, DELAY_MIN_MS, DELAY_MAX_MS);
    struct hist_act act = {.what = HIST_WRITE, .guard = 0, .token = next_token(b),
                           .timeout_ms = ms};
    value_of(b, T_TIMERS, value);
    sim_key_bytes(key, bytes);
    asked(b, lethe_txn_timer(b->txn, b->p->tables[T_TIMERS], bytes, value, ms), TXN_INSERT,
          T_TIMERS, key, act);
    return submit(b);
}

static bool ask_end(struct build *b, uint32_t slot)
{
    uint16_t key = pick_key(b->w, T_ENDS, slot);
    uint64_t version = b->p->version[key];
    uint32_t way = rng_below(&b->w->rng, 100);
    if (!version || way < 40)
        ask_insert(b, key, HIST_NO_KEY);
    else if (way < 55)
        ask_delete(b, key, version);
    else if (way < 65)
        ask_cas(b, key, version);
    else
        ask_get(b, key, way < 90 ? TXN_TOUCH : 0);
    return submit(b);
}

/* The keeper goes round its entries, touching; it creates what it never had or
 * lost, and whether it was right to miss it the timer check decides. */
static bool ask_keep(struct build *b, uint32_t slot)
{
    uint32_t i = b->p->kept++ / SIM_SLOTS % sim_per_slot[T_ALIVE];
    uint16_t key = sim_key(T_ALIVE, slot, i);
    if (b->p->version[key])
        ask_get(b, key, TXN_TOUCH);
    else
        ask_insert(b, key, HIST_NO_KEY);
    return submit(b);
}

bool workload_ask(struct world *w, struct peer *p)
{
    static const struct {
        uint32_t weight;
        bool (*ask)(struct build *b, uint32_t slot);
    } kinds[] = {{26, ask_read}, {24, ask_write}, {6, ask_pair}, {4, ask_scan},
                 {16, ask_session}, {5, ask_session_end}, {14, ask_port}, {10, ask_sum},
                 {9, ask_timer}, {9, ask_end}, {8, ask_sketch}};
    struct build b;
    uint32_t slot = p->keeper ? p->kept % SIM_SLOTS : rng_below(&w->rng, SIM_SLOTS);
    if (!begin(&b, w, p, slot))
        return false;
    if (p->keeper)
        return ask_keep(&b, slot);
    if (p->reader && rng_chance(&w->rng, 985))
        return ask_get_only(&b, slot);
    uint32_t n = rng_below(&w->rng, 131);
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (n < kinds[i].weight)
            return kinds[i].ask(&b, slot);
        n -= kinds[i].weight;
    }
    return ask_read(&b, slot);
}

static bool told(void *user, const struct lethe_event *event);

void workload_open_tables(struct peer *p)
{
    for (int t = 0; t < SIM_TABLES; t++) {
        p->tables[t] = lethe_table_open(p->lethe, &sim_schemas[t]);
        if (p->tables[t] < 0)
            abort();
        bool events = sim_schemas[t].flags & TABLE_EVENTS;
        if (events && !p->keeper && lethe_events(p->lethe, p->tables[t], told, p))
            abort();
    }
}

/* --- answers --------------------------------------------------------------------------- */

/* What an entry's bytes say: its token, or a counter's value. */
static void read_value(struct world *w, enum sim_table t, const uint8_t *value, uint32_t len,
                       struct hist_act *a)
{
    if (len != sim_schemas[t].value_size)
        return;
    if (sim_is_filled(t) && memcmp(value, value + 8, len - 8))
        run_fail(w, "content", "an entry of %s, version %" PRIu64 ", is of two writes",
                 sim_schemas[t].name, a->version);
    if (t == T_SEEN || t == T_GUESS) {
        memcpy(&a->value, value, sizeof a->value);
        a->has_value = true;
    } else if (t == T_SUMS || t == T_HITS || t == T_TALLY) {
        memcpy(&a->value, value + 8, sizeof a->value);
        a->has_value = true;
    } else if (t != T_CAPS) {
        memcpy(&a->token, value + sim_token_offset(t), sizeof a->token);
    }
}

/* A mapping that lives holds its index: seeing one is seeing the other. */
static void see_owned_index(struct world *w, uint32_t op, const uint8_t *value)
{
    uint32_t index;
    uint64_t version;
    memcpy(&index, value, 4);
    memcpy(&version, value + 4, 8);
    uint16_t key = sim_port_key(index);
    if (key == HIST_NO_KEY)
        run_fail(w, "content", "a mapping names index %u, which the pool does not have", index);
    else
        hist_act_late(&w->history, op,
                      (struct hist_act){.what = HIST_SEE, .key = key, .version = version});
}

/* The attempt that was answered moved no deadline; one before it may have. */
static void did_not_touch(struct hist_act *a)
{
    a->maybe |= a->touch;
    a->touch = 0;
}

static void saw(struct world *w, struct pending *pd, const struct asked *k,
                const struct txn_result *r)
{
    const struct hist_op *op = &w->history.ops[pd->op];
    struct hist_act *a = &hist_acts(&w->history, op)[k->act];
    a->what = HIST_SEE;
    a->token = 0;
    a->guard = 0;
    a->delta = 0;
    a->version = r->res == RES_ABSENT ? 0 : r->version;
    if (a->version || w->history.keys[k->key].sketch)
        read_value(w, (enum sim_table)k->table, txn_result_value(r), r->value_len, a);
    else
        did_not_touch(a);
    pd->peer->version[k->key] = a->version;
    if (k->table == T_PORTS && a->version && r->value_len == 16 && txn_result_value(r)[8])
        pd->peer->version[k->key] = 0; /* a mapping's: not ours to free */
    if (k->table == T_MAPS && a->version && r->value_len == 24)
        see_owned_index(w, pd->op, txn_result_value(r));
}

static void did(struct world *w, struct pending *pd, const struct asked *k,
                const struct txn_result *r)
{
    const struct hist_op *op = &w->history.ops[pd->op];
    struct hist_act *a = &hist_acts(&w->history, op)[k->act];
    struct peer *p = pd->peer;
    if (k->code == TXN_DELETE || k->code == TXN_FREE) {
        w->counts.frees += k->code == TXN_FREE;
        p->version[k->key] = 0;
        return;
    }
    a->version = r->version;
    if (k->table == T_SEEN || k->table == T_GUESS) {
        w->counts.estimates++;
        read_value(w, (enum sim_table)k->table, txn_result_value(r), r->value_len, a);
        return;
    }
    if (!r->version)
        run_fail(w, "content", "operation %u wrote, but was told version 0", pd->op);
    if (k->code == TXN_ALLOC) {
        w->counts.allocations++;
        a->key = sim_port_key(r->index);
        if (a->key == HIST_NO_KEY)
            run_fail(w, "allocation", "the pool has no index %u", r->index);
        if (!a->owned && p->nheld < HELD_MAX)
            p->held[p->nheld++] = (struct held_index){r->index, r->version};
        return;
    }
    if (k->code == TXN_ADD || k->code == TXN_ADD_LIMIT)
        read_value(w, (enum sim_table)k->table, txn_result_value(r), r->value_len, a);
    p->version[k->key] = r->version;
}

/* Each op of a txn that was answered. */
static void settle(struct world *w, struct pending *pd, const struct txn_result_head *head,
                   bool ok)
{
    for (int i = 0; i < pd->nasked; i++) {
        const struct asked *k = &pd->asked[i];
        const struct txn_result *r = txn_result_of(head, i);
        const struct hist_op *op = &w->history.ops[pd->op];
        struct hist_act *a = &hist_acts(&w->history, op)[k->act];
        bool guard_told = !ok && r && i == head->failed_op && k->code != TXN_ALLOC;
        if (!ok)
            did_not_touch(a);
        if (r && (k->code == TXN_GET || guard_told))
            saw(w, pd, k, r);
        else if (ok && r && k->code != TXN_CHECK)
            did(w, pd, k, r);
        else if (!ok || !r)
            a->what = HIST_NOT;
    }
}

static void scanned(struct world *w, struct pending *pd, const struct txn_result *r)
{
    enum sim_table t = (enum sim_table)pd->asked[0].table;
    const uint8_t *at = txn_result_value(r);
    uint8_t slot = w->history.ops[pd->op].slot;
    bool listed[KEYS_MAX] = {false};
    for (uint32_t i = 0; i < r->index; i++) {
        const struct txn_scan_entry *e = (const struct txn_scan_entry *)at;
        const uint8_t *key_bytes = (const uint8_t *)(e + 1);
        uint16_t key = sim_key_find(t, key_bytes, e->key_len);
        if (key == HIST_NO_KEY || w->history.keys[key].slot != slot) {
            run_fail(w, "content", "a scan of %s lists a key nobody wrote there",
                     sim_schemas[t].name);
            return;
        }
        struct hist_act a = {.what = HIST_SEE, .key = key, .version = e->version};
        read_value(w, t, key_bytes + e->key_len, e->value_len, &a);
        hist_act_late(&w->history, pd->op, a);
        listed[key] = true;
        at += (sizeof *e + e->key_len + e->value_len + 7) & ~7ull;
    }
    for (uint32_t i = 0; !r->version && i < sim_per_slot[t]; i++) {
        uint16_t key = sim_key(t, sim_slot_number(slot), i);
        if (!listed[key])
            hist_act_late(&w->history, pd->op, (struct hist_act){.what = HIST_SEE, .key = key});
    }
}

/* Whatever was answered was executed after it was invoked, and renewed the
 * lease: it may not be lost before a whole lease from there. */
static void check_lease(struct world *w, const struct peer *p)
{
    uint64_t renewed_us = p->renewed_us[p->hears];
    if (renewed_us && w->now_us < renewed_us + hist_least_us(&w->history, CLIENT_LEASE_MS))
        run_fail(w, "lease", "client %u lost its lease of %d ms %.1f ms after it was renewed",
                 p->hist_client, CLIENT_LEASE_MS, (double)(w->now_us - renewed_us) / 1000.0);
}

static void answered(void *user, const struct txn_result_head *r)
{
    struct pending *pd = user;
    struct world *w = pd->world;
    enum hist_outcome outcome = r->status == TXN_OK ? HIST_OK : HIST_REFUSED;
    if (r->status == TXN_STALE_CLIENT) {
        check_lease(w, pd->peer);
        outcome = HIST_UNKNOWN;
        w->counts.stale_clients++;
        w->counts.unknown++;
    }
    if (r->status == TXN_FORGOTTEN || r->status == TXN_BAD_REQUEST)
        run_fail(w, "client", "operation %u was answered: %s", pd->op,
                 txn_status_text((enum txn_status)r->status));
    w->counts.operations++;
    w->counts.conflicts += r->status == TXN_CONFLICT;
    w->counts.full += r->status == TXN_NO_MEMORY;
    if (outcome != HIST_UNKNOWN && pd->asked[0].code != TXN_SCAN)
        settle(w, pd, r, outcome == HIST_OK);
    const struct txn_result *first = txn_result_of(r, 0);
    if (outcome == HIST_OK && pd->asked[0].code == TXN_SCAN && first)
        scanned(w, pd, first);
    hist_complete(&w->history, pd->op, outcome, r->status, w->now_us);
    const struct hist_op *op = &w->history.ops[pd->op];
    uint64_t *renewed_us = &pd->peer->renewed_us[pd->peer->hears];
    bool by_store = r->seq; /* else its memory was read */
    if (by_store && outcome != HIST_UNKNOWN && op->invoked_us > *renewed_us)
        *renewed_us = op->invoked_us;
    pd->used = false;
    pd->peer->npending--;
    if (w->trace) {
        trace(w, pd->peer->proc, "is told: %s", txn_status_text((enum txn_status)r->status));
        hist_print_op(stdout, &w->history, pd->op);
    }
}

/* --- events ---------------------------------------------------------------------------- */

enum { NOT_NOW_PER_MILLE = 80 };

static bool told_before(const struct history *h, const struct hist_event *e)
{
    for (uint32_t i = h->nevents; i > 0; i--)
        if (h->events[i - 1].key == e->key && h->events[i - 1].version == e->version)
            return true;
    return false;
}

static bool told(void *user, const struct lethe_event *event)
{
    struct peer *p = user;
    struct world *w = p->pending[0].world;
    enum sim_table t = T_TIMERS;
    while (p->tables[t] != event->table)
        t++;
    struct hist_event e = {.version = event->version, .at_us = w->now_us,
                           .client = p->hist_client,
                           .key = sim_key_find(t, event->key, event->key_len)};
    if (!w->stopped && rng_chance(&w->rng, NOT_NOW_PER_MILLE))
        return false;
    if (e.key == HIST_NO_KEY || event->value_len != sim_schemas[t].value_size ||
        w->history.keys[e.key].slot != event->slot) {
        run_fail(w, "event", "an event of table %s names a key that nobody wrote",
                 sim_schemas[t].name);
        return true;
    }
    memcpy(&e.token, event->value, sizeof e.token);
    bool again = told_before(&w->history, &e);
    w->counts.events += !again;
    w->counts.events_again += again;
    if (w->trace)
        trace(w, p->proc, "is told that %s version %" PRIu64 " expired%s",
              w->history.keys[e.key].name, e.version, again ? ", again" : "");
    hist_add_event(&w->history, &e);
    return true;
}

static void one_consumer(struct world *w, const struct msg_events *m)
{
    int t = w->table_of[m->head.shard][m->table] - 1;
    struct consumer_seen new = {(uint8_t)t, m->slot, m->epoch, m->client};
    for (uint32_t i = w->nconsumers; i > 0; i--) {
        const struct consumer_seen *c = &w->consumers[i - 1];
        if (c->table != new.table || c->slot != new.slot || c->epoch != new.epoch)
            continue;
        if (c->client != new.client)
            run_fail(w, "consumers", "clients %" PRIu64 " and %" PRIu64
                     " both get events of %s, slot %u, under consumer epoch %" PRIu64, c->client,
                     new.client, sim_schemas[t].name, new.slot, new.epoch);
        return;
    }
    if (w->nconsumers == w->consumers_room) {
        w->consumers_room = w->consumers_room ? 2 * w->consumers_room : 256;
        w->consumers = realloc(w->consumers, w->consumers_room * sizeof *w->consumers);
        if (!w->consumers)
            abort();
    }
    w->consumers[w->nconsumers++] = new;
}

void workload_overhears(struct world *w, const struct msg_head *h)
{
    const struct msg_table *m = (const struct msg_table *)h;
    if (h->type == MSG_TABLE && m->id >= 0)
        w->table_of[h->shard][m->id] = (int16_t)(sim_table_named(m->name) + 1);
    if (h->type == MSG_EVENTS)
        one_consumer(w, (const struct msg_events *)h);
}

/* --- the end --------------------------------------------------------------------------- */

struct ending {
    struct world *w;
    bool present[KEYS_MAX];
    bool bad;
};

static void observe(struct ending *end, uint16_t key, struct hist_act a)
{
    struct world *w = end->w;
    a.what = HIST_SEE;
    a.key = key;
    uint32_t op = hist_invoke(&w->history, HIST_NO_KEY, w->history.keys[key].slot, w->now_us);
    hist_act(&w->history, a);
    hist_complete(&w->history, op, HIST_OK, TXN_OK, w->now_us);
}

static void observe_entry(void *ctx, const struct shard_entry *e)
{
    struct ending *end = ctx;
    enum sim_table t = sim_table_named(e->table);
    uint16_t key = t == SIM_TABLES ? HIST_NO_KEY : sim_key_find(t, e->key, e->key_len);
    if (key == HIST_NO_KEY || end->present[key] ||
        (t != T_PORTS && end->w->history.keys[key].slot != e->slot)) {
        run_fail(end->w, "content", "table %s ends with an entry nobody made, or twice", e->table);
        return;
    }
    struct hist_act a = {.version = e->version};
    read_value(end->w, t, e->value, e->value_len, &a);
    end->present[key] = true;
    observe(end, key, a);
}

static void each_primary(struct world *w, struct ending *end,
                         void (*each)(void *ctx, const struct shard_entry *e))
{
    for (int shard = 0; shard < SHARDS; shard++)
        shard_each(w->replicas[views_primary(w, shard)][shard].shard, each, end);
}

void workload_observe_end(struct world *w)
{
    struct ending end = {.w = w};
    each_primary(w, &end, observe_entry);
    for (uint32_t key = 0; key < w->history.nkeys; key++)
        if (!end.present[key])
            observe(&end, (uint16_t)key, (struct hist_act){.version = 0});
}

static void must_be_gone(void *ctx, const struct shard_entry *e)
{
    struct ending *end = ctx;
    enum sim_table t = sim_table_named(e->table);
    bool mortal = t == T_IDLE || t == T_ALIVE || t == T_CALM || t == T_MAPS || t == T_SESSIONS ||
                  t == T_TIMERS || t == T_ENDS || t == T_BRIEF;
    if (mortal)
        run_fail(end->w, "timer-late",
                 "an entry of %s in slot %u (version %" PRIu64 ", %u children) outlived every "
                 "time-out", e->table, e->slot, e->version, e->children);
    if (t == T_PORTS && e->value[8])
        run_fail(end->w, "groups", "an index of slot %u is still taken by a mapping that is gone",
                 e->slot);
    int64_t count = 0;
    if (t == T_CAPS)
        memcpy(&count, e->value, sizeof count);
    if (count)
        run_fail(end->w, "groups", "the cap of slot %u counts %" PRId64
                 " mappings where none is left", e->slot, count);
}

bool workload_all_expired(struct world *w)
{
    struct ending end = {.w = w};
    each_primary(w, &end, must_be_gone);
    return !w->verdict.bad;
}
