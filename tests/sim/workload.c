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

static uint8_t table_of(uint16_t key)
{
    return (uint8_t)sim_key_table(key);
}

static void value_of(uint8_t table, uint64_t token, uint8_t *value)
{
    enum sim_table t = (enum sim_table)table;
    memset(value, 0, TXN_VALUE_MAX);
    memcpy(value + sim_token_offset(t), &token, sizeof token);
    for (uint32_t at = 8; sim_is_filled(t) && at < sim_schemas[t].value_size; at += 8)
        memcpy(value + at, &token, sizeof token);
}

static const struct key_space key_space = {
    .table_of = table_of, .bytes = sim_key_bytes, .of_port = sim_port_key, .value = value_of,
    .ports = T_PORTS,
};

struct build {
    struct world *w;
    struct peer *p;
    struct pending *pending;
    struct ops ops;
    struct hist_act acts[TXN_OPS_MAX];
};

static bool begin(struct build *b, struct world *w, struct peer *p, uint32_t slot)
{
    struct pending *pd = NULL;
    for (int i = 0; i < PENDING_MAX && !pd; i++)
        if (!p->pending[i].used)
            pd = &p->pending[i];
    struct lethe_txn *txn = pd ? lethe_txn_begin(p->lethe, sim_slots[slot], answered, pd) : NULL;
    if (!txn)
        return false;
    pd->op = hist_invoke(&w->history, p->hist_client, sim_slots[slot], w->now_us);
    b->w = w;
    b->p = p;
    b->pending = pd;
    b->ops = (struct ops){.keys = &key_space, .tables = p->tables, .txn = txn, .number = pd->op,
                          .asked = pd->asked, .acts = b->acts};
    return true;
}

static bool submit(struct build *b)
{
    struct ops *o = &b->ops;
    for (uint32_t i = 0; i < o->n; i++)
        hist_act(&b->w->history, o->acts[i]);
    b->pending->nasked = o->n;
    b->pending->used = true;
    b->p->npending++;
    lethe_txn_submit(o->txn);
    return true;
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

static int64_t some_delta(struct build *b)
{
    return (int64_t)(rng_next(&b->w->rng) >> 24);
}

static bool ask_session(struct build *b, uint32_t slot)
{
    uint32_t map = pick(b->w, sim_per_slot[T_MAPS]);
    uint32_t peer = rng_below(&b->w->rng, SESSIONS_PER_MAP);
    ops_session(&b->ops, (struct ops_session){
        .session = sim_key(T_SESSIONS, slot, map * SESSIONS_PER_MAP + peer),
        .mapping = sim_key(T_MAPS, slot, map), .cap = sim_key(T_CAPS, slot, 0),
        .delta = some_delta(b), .limit = CAP_LIMIT});
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
        ops_insert(&b->ops, key, HIST_NO_KEY);
    else if (way < 55)
        ops_cas(&b->ops, key, version);
    else
        ops_delete(&b->ops, key, version);
    return submit(b);
}

/* Two keys of a slot at once: all of it, or nothing. */
static bool ask_pair(struct build *b, uint32_t slot)
{
    uint16_t one = sim_key(T_FLOWS, slot, 0), two = pick_key(b->w, T_IDLE, slot);
    uint64_t v1 = b->p->version[one], v2 = b->p->version[two];
    if (rng_chance(&b->w->rng, 400))
        ops_check(&b->ops, one, v1);
    else if (v1)
        ops_cas(&b->ops, one, v1);
    else
        ops_insert(&b->ops, one, HIST_NO_KEY);
    if (v2 && rng_chance(&b->w->rng, 500))
        ops_delete(&b->ops, two, v2);
    else if (!v2)
        ops_insert(&b->ops, two, HIST_NO_KEY);
    else
        ops_cas(&b->ops, two, v2);
    if (rng_chance(&b->w->rng, 300)) { /* as durable as the others, for once */
        uint16_t tally = pick_key(b->w, T_TALLY, slot);
        ops_add(&b->ops, tally, some_delta(b));
    }
    return submit(b);
}

static bool ask_read(struct build *b, uint32_t slot)
{
    static const enum sim_table tables[] = {T_FLOWS, T_FLOWS, T_IDLE, T_ALIVE,
                                            T_CALM, T_SUMS, T_HITS, T_MAPS, T_BRIEF, T_TALLY};
    enum sim_table t = tables[rng_below(&b->w->rng, 10)];
    bool touch = t == T_IDLE && rng_chance(&b->w->rng, 500);
    ops_get(&b->ops, pick_key(b->w, t, slot), touch ? TXN_TOUCH : 0);
    if (rng_chance(&b->w->rng, 300))
        ops_get(&b->ops, sim_key(T_FLOWS, slot, rng_below(&b->w->rng, sim_per_slot[T_FLOWS])), 0);
    return submit(b);
}

/* One key that others write much, or that may expire. */
static bool ask_get_only(struct build *b, uint32_t slot)
{
    static const enum sim_table tables[] = {T_FLOWS, T_FLOWS, T_SUMS, T_IDLE, T_IDLE};
    enum sim_table t = tables[rng_below(&b->w->rng, 5)];
    bool touch = t == T_IDLE && rng_chance(&b->w->rng, 30);
    ops_get(&b->ops, pick_key(b->w, t, slot), touch ? TXN_TOUCH : 0);
    return submit(b);
}

static bool ask_scan(struct build *b, uint32_t slot)
{
    static const enum sim_table tables[] = {T_FLOWS, T_IDLE, T_MAPS, T_SESSIONS, T_SUMS};
    enum sim_table t = tables[rng_below(&b->w->rng, 5)];
    ops_scan(&b->ops, (uint8_t)t);
    return submit(b);
}

/* By its index alone, whichever slot has it. */
static bool ask_index(struct build *b, uint32_t index, uint64_t version)
{
    b->w->history.ops[b->pending->op].slot = sim_port_slot(index);
    if (version)
        ops_free(&b->ops, index, version);
    else
        ops_get(&b->ops, sim_port_key(index), 0);
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
        ops_alloc(&b->ops, false);
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
        ops_delete(&b->ops, key, version);
    else
        ops_get(&b->ops, key, 0);
    return submit(b);
}

static bool ask_sum(struct build *b, uint32_t slot)
{
    uint32_t way = rng_below(&b->w->rng, 100);
    uint16_t key = pick_key(b->w, way < 55 ? T_SUMS : way < 85 ? T_HITS : T_TALLY, slot);
    ops_add(&b->ops, key, some_delta(b));
    return submit(b);
}

static bool ask_sketch(struct build *b, uint32_t slot)
{
    uint16_t key = pick_key(b->w, rng_chance(&b->w->rng, 700) ? T_SEEN : T_GUESS, slot);
    if (rng_chance(&b->w->rng, 350))
        ops_get(&b->ops, key, 0);
    else
        ops_add_sketch(&b->ops, key, some_delta(b));
    return submit(b);
}

static bool ask_timer(struct build *b, uint32_t slot)
{
    uint16_t key = pick_key(b->w, T_TIMERS, slot);
    uint64_t version = b->p->version[key];
    if (version && rng_chance(&b->w->rng, 350)) {
        ops_delete(&b->ops, key, version);
        return submit(b);
    }
    if (rng_chance(&b->w->rng, 250)) {
        ops_get(&b->ops, key, rng_chance(&b->w->rng, 500) ? TXN_TOUCH : 0);
        return submit(b);
    }
    ops_timer(&b->ops, key, (uint32_t)rng_between(&b->w->rng, DELAY_MIN_MS, DELAY_MAX_MS));
    return submit(b);
}

static bool ask_end(struct build *b, uint32_t slot)
{
    uint16_t key = pick_key(b->w, T_ENDS, slot);
    uint64_t version = b->p->version[key];
    uint32_t way = rng_below(&b->w->rng, 100);
    if (!version || way < 40)
        ops_insert(&b->ops, key, HIST_NO_KEY);
    else if (way < 55)
        ops_delete(&b->ops, key, version);
    else if (way < 65)
        ops_cas(&b->ops, key, version);
    else
        ops_get(&b->ops, key, way < 90 ? TXN_TOUCH : 0);
    return submit(b);
}

/* The keeper goes round its entries, touching; it creates what it never had or
 * lost, and whether it was right to miss it the timer check decides. */
static bool ask_keep(struct build *b, uint32_t slot)
{
    uint32_t i = b->p->kept++ / SIM_SLOTS % sim_per_slot[T_ALIVE];
    uint16_t key = sim_key(T_ALIVE, slot, i);
    if (b->p->version[key])
        ops_get(&b->ops, key, TXN_TOUCH);
    else
        ops_insert(&b->ops, key, HIST_NO_KEY);
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

static void saw(struct world *w, struct pending *pd, uint32_t i, const struct txn_result *r)
{
    const struct asked *k = &pd->asked[i];
    struct hist_act *a = &hist_acts(&w->history, &w->history.ops[pd->op])[i];
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

static void did(struct world *w, struct pending *pd, uint32_t i, const struct txn_result *r)
{
    const struct asked *k = &pd->asked[i];
    struct hist_act *a = &hist_acts(&w->history, &w->history.ops[pd->op])[i];
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
    for (uint32_t i = 0; i < pd->nasked; i++) {
        const struct asked *k = &pd->asked[i];
        const struct txn_result *r = txn_result_of(head, (int)i);
        struct hist_act *a = &hist_acts(&w->history, &w->history.ops[pd->op])[i];
        bool guard_told = !ok && r && i == head->failed_op && k->code != TXN_ALLOC;
        if (!ok)
            did_not_touch(a);
        if (r && (k->code == TXN_GET || guard_told))
            saw(w, pd, i, r);
        else if (ok && r && k->code != TXN_CHECK)
            did(w, pd, i, r);
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
