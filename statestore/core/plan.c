/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The working set: what a txn is about to change.
 *
 * Nothing of the state changes while a txn runs. An op that writes gets a
 * working copy of the entry; later ops of the same txn see it. If all guards
 * hold, the working set becomes the effects of one log entry, which is then
 * applied by the code that backups use; if one fails the set is dropped, which
 * is all the undo there is.
 *
 * Memory for the insertions is reserved before the entry is made: from there
 * on nothing can fail.
 */
#include <assert.h>

#include "internal.h"

uint64_t slot_next_version(const struct shard *s, uint8_t slot)
{
    const struct slot *o = &s->slot[slot];
    uint64_t floor = s->version_floor + ((uint64_t)o->version_base << VERSION_EPOCH_SHIFT);
    uint64_t next = (o->seq > o->volatile_seq ? o->seq : o->volatile_seq) + 1;
    return next < floor ? floor : next;
}

void plan_begin(struct shard *s, uint8_t slot, uint8_t *result)
{
    struct exec *x = &s->x;
    x->slot = slot;
    x->sync = x->writes = x->changed = x->logged = x->expiry = x->again = false;
    x->kept = NULL;
    x->status = TXN_OK;
    x->failed_op = x->nres = 0;
    x->used = sizeof(struct txn_result_head);
    x->result = result;
    x->version = slot_next_version(s, slot);
    x->nwork = x->ntouch = x->npromised = 0;
}

void plan_abandon(struct shard *s)
{
    for (int i = 0; i < s->x.npromised; i++)
        pool_unpromise(s->x.promised[i]);
    s->x.npromised = 0;
}

struct work *plan_find(struct shard *s, uint8_t table, const void *key)
{
    struct exec *x = &s->x;
    uint32_t len = s->table[table]->schema.key_size;
    for (int i = 0; i < x->nwork; i++)
        if (x->work[i].table == table && memcmp(x->work[i].key, key, len) == 0)
            return &x->work[i];
    return NULL;
}

/* An earlier op of the txn may have touched it. */
static uint64_t touched_deadline(const struct exec *x, uint8_t table, uint32_t rec,
                                 uint64_t deadline_ms)
{
    for (int i = 0; i < x->ntouch; i++) {
        const struct touch *t = &x->touches[i];
        if (t->table == table && t->rec == rec && t->deadline_ms > deadline_ms)
            deadline_ms = t->deadline_ms;
    }
    return deadline_ms;
}

static void load_record(const struct exec *x, struct work *w, const struct table *t)
{
    const struct record *r = record_at(t, x->slot, w->rec);
    const struct group *g = group_of(t, x->slot, w->rec);
    record_value(&t->shape, r, w->value);
    w->version = r->version;
    w->deadline_ms = touched_deadline(x, t->id, w->rec, r->deadline_ms);
    w->timeout_ms = r->timeout_ms;
    w->children = g->children;
    w->has_parent = g->parent_rec != REC_NONE;
    w->parent_rec = g->parent_rec;
    w->parent_table = g->parent_table;
}

struct work *plan_load(struct shard *s, struct table *t, const void *key, uint32_t rec)
{
    struct exec *x = &s->x;
    if (x->nwork == WORK_MAX)
        return NULL;
    struct work *w = &x->work[x->nwork++];
    memset(w, 0, offsetof(struct work, key));
    w->table = t->id;
    w->parent = -1;
    w->rec = rec;
    memcpy(w->key, key, t->schema.key_size);
    memset(w->delta, 0, t->schema.value_size);
    w->existed = w->exists = rec != REC_NONE;
    if (w->existed)
        load_record(x, w, t);
    else
        memset(w->value, 0, t->schema.value_size);
    return w;
}

/* The working copy of record `rec`. */
static struct work *load_rec(struct shard *s, struct table *t, uint32_t rec)
{
    const uint8_t *key = record_at(t, s->x.slot, rec)->payload;
    struct work *w = plan_find(s, t->id, key);
    return w ? w : plan_load(s, t, key, rec);
}

struct work *plan_parent(struct shard *s, struct work *w)
{
    if (w->parent < 0) {
        struct work *p = load_rec(s, s->table[w->parent_table], w->parent_rec);
        if (!p)
            return NULL;
        w->parent = (int16_t)(p - s->x.work);
    }
    return &s->x.work[w->parent];
}

/* --- deletes and reactions --------------------------------------------------------- */

static bool react_free(struct shard *s, const struct work *w, const struct table_reaction *r,
                       struct table *pool, int depth)
{
    uint32_t index;
    uint64_t version;
    memcpy(&index, w->value + r->off, sizeof index);
    if (index >= pool->schema.max_entries || !pool_holds(pool, s->x.slot, index))
        return true;
    struct work *p = plan_find(s, pool->id, &index);
    if (!p) {
        uint32_t rec = pool_find(pool, s->x.slot, index);
        if (rec == REC_NONE)
            return true;
        if (!(p = plan_load(s, pool, &index, rec)))
            return false;
    }
    version = p->version;
    if (r->len == sizeof index + sizeof version)
        memcpy(&version, w->value + r->off + sizeof index, sizeof version);
    if (!p->exists || (p->version != version && !SHARD_BUG(BUG_INDEX_FREED_TWICE)))
        return true;
    return plan_delete(s, p, depth);
}

static bool all_zero(const uint8_t *value, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        if (value[i])
            return false;
    return true;
}

static bool react_sub(struct shard *s, const struct work *w, const struct table_reaction *r,
                      struct table *counters, int depth)
{
    const uint8_t *key = w->key + r->off;
    int64_t deltas[TXN_VALUE_MAX / 8] = {-1}, field;
    if (r->len != counters->schema.key_size ||
        slot_of(key + counters->schema.part_off, counters->schema.part_len) != s->x.slot)
        return true;
    struct work *c = plan_find(s, counters->id, key);
    if (!c) {
        uint64_t hash = table_hash(counters, key, r->len);
        uint32_t rec = part_find(counters, s->x.slot, key, hash);
        if (rec == REC_NONE)
            return true;
        if (!(c = plan_load(s, counters, key, rec)))
            return false;
    }
    if (!c->exists)
        return true;
    plan_add(s, c, (const uint8_t *)deltas);
    memcpy(&field, c->value, sizeof field);
    if (field == 0 && all_zero(c->value, counters->schema.value_size))
        return plan_delete(s, c, depth);
    return true;
}

static bool react(struct shard *s, struct work *w, int depth)
{
    const struct table *t = s->table[w->table];
    for (int i = 0; i < TABLE_REACTIONS; i++) {
        if (t->reaction_table[i] < 0)
            continue;
        const struct table_reaction *r = &t->schema.reactions[i];
        struct table *target = s->table[t->reaction_table[i]];
        if (!(r->kind == REACT_FREE ? react_free : react_sub)(s, w, r, target, depth))
            return false;
    }
    return true;
}

bool plan_delete(struct shard *s, struct work *w, int depth)
{
    const struct table_schema *schema = &s->table[w->table]->schema;
    uint32_t rest_ms = SHARD_BUG(BUG_QUARANTINE_SKIPPED) ? 0 : schema->quarantine_ms;
    struct work *p = NULL;
    bool expiry = s->x.expiry, reacted;
    if (depth > REACTION_DEPTH_MAX)
        return true;
    if (w->has_parent && !(p = plan_parent(s, w)))
        return false;
    w->event = expiry && schema->flags & TABLE_EVENTS;
    w->replaced |= w->existed;
    w->exists = w->written = w->meta = w->has_parent = false;
    w->release_ms = s->time_ms + rest_ms;
    memset(w->delta, 0, schema->value_size);
    s->x.changed = true;
    s->x.expiry = false; /* a group expires as one; what reacts to it is only deleted */
    reacted = react(s, w, depth + 1);
    s->x.expiry = expiry;
    if (!reacted)
        return false;
    if (!p || !p->exists)
        return true;
    p->meta = true;
    return --p->children || !(s->table[p->table]->schema.flags & TABLE_PARENT_DIES) || plan_delete(s, p, depth);
}

bool plan_add(struct shard *s, struct work *w, const uint8_t *deltas)
{
    const struct table *t = s->table[w->table];
    for (uint32_t i = 0; i < t->schema.value_size; i += 8) {
        uint64_t d, sum, v;
        memcpy(&d, deltas + i, 8);
        memcpy(&sum, w->delta + i, 8);
        memcpy(&v, w->value + i, 8);
        sum += d, v += d;
        memcpy(w->delta + i, &sum, 8);
        memcpy(w->value + i, &v, 8);
    }
    w->exists = w->written = true;
    w->version = s->x.version;
    s->x.changed = true;
    return true;
}

/* --- touches ------------------------------------------------------------------------- */

/* `log`: an entry is made anyway. Returns whether one is. */
static bool touch_one(struct shard *s, struct table *t, uint32_t rec, uint64_t deadline_ms,
                      bool log)
{
    const struct record *r = record_at(t, s->x.slot, rec);
    struct work *w = s->x.nwork ? plan_find(s, t->id, r->payload) : NULL;
    if (r->deadline_ms >= deadline_ms || !r->timeout_ms || t->schema.flags & TABLE_ABSOLUTE)
        return false;
    log |= deadline_ms > replicated_ms(r, meta_at(t, s->x.slot, rec)) + touch_slack_ms(r->timeout_ms);
    log &= !SHARD_BUG(BUG_TOUCH_NOT_LOGGED);
    if (!w && log && (w = load_rec(s, t, rec)))
        w->meta = true;
    if (w) {
        w->deadline_ms = w->deadline_ms > deadline_ms ? w->deadline_ms : deadline_ms;
        w->meta |= log;
    }
    if (s->x.ntouch < TOUCHES_MAX)
        s->x.touches[s->x.ntouch++] = (struct touch){t->id, rec, deadline_ms};
    return log;
}

/* Of a parent: its child may be read for so long without a touch of either. */
static uint64_t idle_until(const struct shard *s, const struct table *pt, uint32_t timeout_ms,
                           uint64_t childs_slack)
{
    uint64_t own = idle_slack_ms(pt, timeout_ms);
    return s->time_ms + timeout_ms + (own > childs_slack ? own : childs_slack);
}

void plan_touch(struct shard *s, struct table *t, uint32_t rec)
{
    const struct group *g = group_of(t, s->x.slot, rec);
    uint32_t timeout_ms = record_at(t, s->x.slot, rec)->timeout_ms;
    uint64_t slack = idle_slack_ms(t, timeout_ms);
    uint64_t mine = timeout_ms ? s->time_ms + timeout_ms + slack : 0;
    bool logged = touch_one(s, t, rec, mine, false);
    if (g->parent_rec == REC_NONE)
        return;
    struct table *pt = s->table[g->parent_table];
    uint64_t its = idle_until(s, pt, record_at(pt, s->x.slot, g->parent_rec)->timeout_ms, slack);
    touch_one(s, pt, g->parent_rec, its > mine ? its : mine, logged);
}

void plan_extend_parent(struct shard *s, struct work *child)
{
    struct table *pt = s->table[child->parent_table];
    uint64_t deadline = child->deadline_ms;
    uint64_t slack = idle_slack_ms(s->table[child->table], child->timeout_ms);
    if (!child->has_parent)
        return;
    if (child->parent < 0) {
        uint64_t its = idle_until(s, pt, record_at(pt, s->x.slot, child->parent_rec)->timeout_ms,
                                  slack);
        touch_one(s, pt, child->parent_rec, its > deadline ? its : deadline, true);
        return;
    }
    struct work *p = &s->x.work[child->parent];
    if (!p->timeout_ms || pt->schema.flags & TABLE_ABSOLUTE)
        return;
    if (deadline < idle_until(s, pt, p->timeout_ms, slack))
        deadline = idle_until(s, pt, p->timeout_ms, slack);
    if (p->deadline_ms < deadline)
        p->deadline_ms = deadline;
}

/* Before the effects: an effect on the same record says more. */
static void apply_touches(struct shard *s)
{
    struct exec *x = &s->x;
    for (int i = 0; i < x->ntouch; i++) {
        const struct touch *t = &x->touches[i];
        struct record *r = record_at(s->table[t->table], x->slot, t->rec);
        struct meta *m = meta_at(s->table[t->table], x->slot, t->rec);
        if (r->deadline_ms < t->deadline_ms)
            deadline_move(r, m, t->deadline_ms);
    }
}

/* --- the working set becomes a log entry ---------------------------------------------- */

static bool is_logged(const struct work *w)
{
    return w->replaced || (w->exists && (w->written || w->meta));
}

static uint32_t work_bytes(const struct shard *s, const struct work *w)
{
    const struct table_schema *t = &s->table[w->table]->schema;
    uint32_t parent = w->has_parent ? s->table[w->parent_table]->schema.key_size : 0;
    uint32_t event = w->event ? effect_size(t->key_size, 0, t->value_size) : 0;
    return is_logged(w) ? effect_size(t->key_size, parent, t->value_size) +
                              effect_size(t->key_size, 0, 0) + event
                        : 0;
}

/* Passes: deletes; entries that may be parents; children; the rest. So that
 * whatever an effect refers to is there when it is applied. */
enum pass { PASS_DELETE, PASS_PUT, PASS_PUT_CHILD, PASS_META, PASS_EVENT, PASSES };

static bool in_pass(const struct work *w, enum pass pass)
{
    switch (pass) {
    case PASS_DELETE: return w->replaced;
    case PASS_PUT: return w->exists && w->written && !w->has_parent;
    case PASS_PUT_CHILD: return w->exists && w->written && w->has_parent;
    case PASS_META: return w->exists && !w->written && w->meta;
    case PASS_EVENT: return w->event;
    case PASSES: break;
    }
    return false;
}

static uint8_t *write_work(struct shard *s, const struct work *w, enum pass pass, uint8_t *at)
{
    const struct table_schema *t = &s->table[w->table]->schema;
    struct effect e = {.table = w->table, .key_len = t->key_size, .version = w->version,
                       .rec = w->existed ? w->rec : REC_NONE, .deadline_ms = w->deadline_ms,
                       .timeout_ms = w->timeout_ms, .children = w->children};
    const uint8_t *parent_key = NULL, *value = NULL;
    if (pass == PASS_DELETE) {
        e.code = EFFECT_DEL;
        e.deadline_ms = w->release_ms;
    } else if (pass == PASS_META) {
        e.code = EFFECT_META;
    } else if (pass == PASS_EVENT) {
        e = (struct effect){.code = EFFECT_EVENT, .table = w->table, .key_len = t->key_size,
                            .value_len = (uint16_t)t->value_size, .version = w->version,
                            .deadline_ms = s->time_ms};
        value = w->value;
    } else {
        bool counters = t->kind == TABLE_COUNTERS || t->kind == TABLE_SKETCH;
        e.code = counters ? EFFECT_ADD : EFFECT_PUT;
        value = counters ? w->delta : w->value;
        e.value_len = (uint16_t)t->value_size;
        e.rec = w->replaced ? REC_NONE : e.rec;
        if (w->has_parent && (!w->existed || w->replaced)) {
            e.parent_table = w->parent_table;
            e.parent_key_len = s->table[w->parent_table]->schema.key_size;
            parent_key = s->x.work[w->parent].key;
        }
    }
    struct effect *done = effect_write(at, &e, w->key, parent_key, value);
    return (uint8_t *)done + done->bytes;
}

static uint8_t *write_effects(struct shard *s, struct entry *e)
{
    uint8_t *at = (uint8_t *)(e + 1);
    for (int pass = 0; pass < PASSES; pass++)
        for (int i = 0; i < s->x.nwork; i++)
            if (in_pass(&s->x.work[i], pass)) {
                at = write_work(s, &s->x.work[i], pass, at);
                e->effects++;
            }
    return at;
}

/* May the tables grow by that? Events are not asked: an expiry makes room. */
static bool may_grow(struct shard *s, const uint8_t *more, uint64_t groups)
{
    uint64_t cost[TABLES_MAX] = {0};
    for (uint32_t i = 0; i < s->tables; i++)
        if (more[i] || groups >> i & 1)
            cost[i] = part_reserve_cost(s->table[i], s->x.slot, more[i], groups >> i & 1);
    return limits_allow(s, cost);
}

/* Insertions must not fail once the entry is written. */
static bool reserve(struct shard *s)
{
    uint8_t more[TABLES_MAX] = {0}, events[TABLES_MAX] = {0}; /* WORK_MAX at most */
    uint64_t cost = 0, groups = 0; /* groups: a bit per table */
    for (int i = 0; i < s->x.nwork; i++) {
        const struct work *w = &s->x.work[i];
        bool inserts = w->exists && w->written && (!w->existed || w->replaced);
        more[w->table] = (uint8_t)(more[w->table] + inserts);
        events[w->table] = (uint8_t)(events[w->table] + w->event);
        groups |= (uint64_t)(w->exists && (w->children || w->has_parent)) << w->table;
        s->x.sync |= is_logged(w) && s->table[w->table]->schema.durability == DURABLE_SYNC;
    }
    for (uint32_t i = 0; i < s->tables; i++) {
        const struct table *t = s->table[i];
        bool grouped = groups >> i & 1;
        if (!more[i] && !grouped)
            continue;
        bool bounded = t->schema.kind == TABLE_HASH || t->schema.kind == TABLE_COUNTERS;
        if (bounded && more[i] && t->schema.max_entries &&
            t->entries + t->pending + more[i] > t->schema.max_entries)
            return false;
        cost += part_reserve_cost(t, s->x.slot, more[i], grouped);
    }
    if (cost && !may_grow(s, more, groups))
        return false;
    for (uint32_t i = 0; i < s->tables; i++)
        if (((more[i] || groups >> i & 1) &&
             !part_reserve(s->table[i], s->x.slot, more[i], groups >> i & 1)) ||
            (events[i] && !event_reserve(s->table[i], s->x.slot, events[i])))
            return false;
    return true;
}

static void log_plan(struct shard *s, struct entry *e, const struct client *client, uint64_t seq,
                     const void *result, uint32_t result_bytes)
{
    *e = (struct entry){.slot = s->x.slot, .position = s->position + 1,
                        .slot_seq = s->x.version, .time_ms = s->time_ms,
                        .sync = s->x.sync};
    uint8_t *at = write_effects(s, e);
    e->effects_bytes = (uint32_t)(at - (uint8_t *)(e + 1));
    if (client) {
        e->client = client->id;
        e->seq = seq;
        e->ack = client->seen_ack;
        if (s->x.changed && result_bytes) {
            memcpy(at, result, result_bytes);
            at += result_bytes;
            e->result_bytes = result_bytes;
        }
    }
    e->bytes = (uint32_t)(at - (uint8_t *)e);
    assert(e->bytes % 8 == 0);
    log_push(s, e);
    apply_entry(s, e, APPLY_OWN | APPLY_SLOT | APPLY_CLIENT);
}

/* All that changes is in tables of DURABLE_NONE: no entry, no other replica. Its
 * version comes from the slot's sequence all the same, and the next entry's is
 * above it; what a promoted primary gives out is above all of this epoch's. */
static void apply_unlogged(struct shard *s)
{
    struct entry *e = (struct entry *)s->scratch;
    *e = (struct entry){.slot = s->x.slot};
    write_effects(s, e);
    apply_volatile(s, e);
    s->slot[s->x.slot].volatile_seq = s->x.version;
}

enum txn_status plan_commit(struct shard *s, const struct client *client, uint64_t seq,
                            const void *result, uint32_t result_bytes)
{
    uint32_t room = sizeof(struct entry) + result_bytes, effects = 0;
    bool logged = false;
    for (int i = 0; i < s->x.nwork; i++) {
        uint32_t bytes = work_bytes(s, &s->x.work[i]);
        effects += bytes;
        logged |= bytes && !is_volatile(s->table[s->x.work[i].table]);
    }
    if (!effects) {
        apply_touches(s);
        return TXN_OK;
    }
    if (room + effects > LOG_ENTRY_MAX || !reserve(s))
        return TXN_NO_MEMORY;
    struct entry *e = logged ? log_next(s, room + effects) : NULL;
    if (logged && !e)
        return TXN_BUSY;
    apply_touches(s);
    if (!logged) {
        apply_unlogged(s);
        return TXN_OK;
    }
    plan_abandon(s); /* what was promised is taken now, by its number */
    log_plan(s, e, client, seq, result, result_bytes);
    commit_update(s);
    return TXN_OK;
}
