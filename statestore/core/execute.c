/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs the ops of a txn, one by one, on the working set (plan.c), and writes
 * the result. What an op sees: the working copy if an earlier op of the txn
 * made one, else the record itself; a plain read makes no copy.
 *
 * The txn's shape was validated at the edge. What depends on state is checked
 * here: tables, kinds, key sizes, and that every key is of the txn's slot.
 */
#include <assert.h>

#include "internal.h"

/* What an op found: a working copy, a record, or nothing. */
struct found {
    struct table *t;
    const uint8_t *key;
    uint64_t hash;
    struct work *w;
    uint32_t rec;
    bool exists;
};

enum { OP_NEXT = 0, OP_FAILED = -1, OP_STOP = -2 };

static const uint8_t kinds_of_op[TXN_CODE_END] = {
    [TXN_GET] = 1 << TABLE_HASH | 1 << TABLE_POOL | 1 << TABLE_COUNTERS | 1 << TABLE_SKETCH,
    [TXN_CHECK] = 1 << TABLE_HASH | 1 << TABLE_POOL,
    [TXN_INSERT] = 1 << TABLE_HASH,
    [TXN_CAS] = 1 << TABLE_HASH | 1 << TABLE_POOL,
    [TXN_DELETE] = 1 << TABLE_HASH,
    [TXN_ADD] = 1 << TABLE_COUNTERS | 1 << TABLE_SKETCH,
    [TXN_ADD_LIMIT] = 1 << TABLE_COUNTERS,
    [TXN_ALLOC] = 1 << TABLE_POOL,
    [TXN_FREE] = 1 << TABLE_POOL,
    [TXN_SCAN] = 1 << TABLE_HASH | 1 << TABLE_POOL | 1 << TABLE_COUNTERS,
};

static bool op_has_value(uint8_t code)
{
    return code == TXN_INSERT || code == TXN_CAS || code == TXN_ADD || code == TXN_ADD_LIMIT ||
           code == TXN_ALLOC;
}
static bool op_has_key(uint8_t code)
{
    return code != TXN_ALLOC && code != TXN_SCAN;
}
static bool op_writes(uint8_t code)
{
    return code != TXN_GET && code != TXN_CHECK && code != TXN_SCAN;
}

/* --- results -------------------------------------------------------------------- */

static int fail(struct shard *s, enum txn_status status)
{
    s->x.status = (uint8_t)status;
    return OP_FAILED;
}

/* Appends a result and returns where its value goes. */
static uint8_t *result_add(struct shard *s, int op, enum txn_res res, uint32_t value_len,
                           struct txn_result head)
{
    struct exec *x = &s->x;
    struct txn_result *r = (struct txn_result *)(x->result + x->used);
    uint32_t bytes = ((uint32_t)sizeof *r + value_len + 7) & ~7u;
    assert(x->used + bytes <= TXN_RESULT_MAX);
    if (value_len % 8)
        memset((uint8_t *)r + bytes - 8, 0, 8);
    head.op = (uint8_t)op;
    head.res = (uint8_t)res;
    head.value_len = (uint16_t)value_len;
    head.bytes = bytes;
    *r = head;
    x->result_at[op] = (uint16_t)x->used;
    x->used += bytes;
    x->nres++;
    return (uint8_t *)(r + 1);
}

static uint32_t index_of(const struct found *f)
{
    uint32_t index = 0;
    if (f->t->schema.kind == TABLE_POOL)
        memcpy(&index, f->key, sizeof index);
    return index;
}

/* The entry as it is now. */
static void result_entry(struct shard *s, int op, enum txn_res res, const struct found *f)
{
    struct txn_result head = {.index = index_of(f)};
    uint32_t len = f->t->schema.value_size;
    if (!f->exists) {
        result_add(s, op, res, 0, head);
    } else if (f->w) {
        head.version = f->w->version;
        head.timeout_ms = f->w->timeout_ms;
        memcpy(result_add(s, op, res, len, head), f->w->value, len);
    } else {
        const struct record *r = record_at(f->t, s->x.slot, f->rec);
        head.version = r->version;
        head.timeout_ms = r->timeout_ms;
        record_value(&f->t->shape, r, result_add(s, op, res, len, head));
    }
}

static int fail_with_entry(struct shard *s, int op, enum txn_status status, const struct found *f)
{
    result_entry(s, op, RES_FAILED, f);
    return fail(s, status);
}

static void result_done(struct shard *s, int op, const struct found *f, const struct work *w)
{
    struct txn_result head = {.index = index_of(f), .version = w->exists ? w->version : 0,
                              .timeout_ms = w->exists ? w->timeout_ms : 0};
    result_add(s, op, RES_DONE, 0, head);
}

/* --- looking up -------------------------------------------------------------------- */

static bool key_in_slot(const struct shard *s, const struct table *t, const uint8_t *key)
{
    uint32_t index;
    if (t->schema.kind != TABLE_POOL)
        return slot_of(key + t->schema.part_off, t->schema.part_len) == s->x.slot;
    memcpy(&index, key, sizeof index);
    return index < t->schema.max_entries && pool_holds(t, s->x.slot, index);
}

static void look_up(struct shard *s, struct table *t, const uint8_t *key, struct found *f)
{
    *f = (struct found){.t = t, .key = key, .rec = REC_NONE};
    if (s->x.nwork && (f->w = plan_find(s, t->id, key))) {
        f->exists = f->w->exists;
        return;
    }
    if (t->schema.kind == TABLE_POOL) {
        f->rec = pool_find(t, s->x.slot, index_of(f));
    } else {
        bool hinted = key == s->hint_key;
        f->hash = hinted ? s->hint_hash : table_hash(t, key, t->schema.key_size);
        f->rec = hinted ? part_find_near(t, s->x.slot, key, f->hash, s->hint_rec)
                        : part_find(t, s->x.slot, key, f->hash);
    }
    f->exists = f->rec != REC_NONE;
}

static uint64_t version_of(const struct shard *s, const struct found *f)
{
    if (!f->exists)
        return 0;
    return f->w ? f->w->version : record_at(f->t, s->x.slot, f->rec)->version;
}

/* The working copy to write to. */
static struct work *writable(struct shard *s, struct found *f)
{
    if (!f->w)
        f->w = plan_load(s, f->t, f->key, f->rec);
    if (!f->w)
        fail(s, TXN_NO_MEMORY);
    return f->w;
}

/* Version of what is written now. */
static uint64_t next_version(const struct shard *s, const struct work *w)
{
    if (SHARD_BUG(BUG_VERSION_REUSED))
        return w->exists ? w->version + 1 : 1;
    return s->x.version;
}

static void set_value(struct shard *s, struct work *w, const struct table *t, const uint8_t *value,
                      uint32_t timeout_ms)
{
    w->version = next_version(s, w);
    memcpy(w->value, value, t->schema.value_size);
    w->timeout_ms = timeout_ms;
    w->deadline_ms = timeout_ms ? s->time_ms + timeout_ms + idle_slack_ms(t, timeout_ms) : 0;
    w->exists = w->written = true;
    s->x.changed = true;
}

/* --- ops ---------------------------------------------------------------------------- */

static int op_get(struct shard *s, int i, const struct txn_op *op, struct found *f)
{
    result_entry(s, i, f->exists ? RES_HIT : RES_ABSENT, f);
    if (!f->exists)
        return op->flags & TXN_STOP_IF_ABSENT ? OP_STOP : OP_NEXT;
    /* In the working set it may be for another's sake: a child's, a counter's. */
    uint32_t rec = f->w && !f->w->replaced ? f->w->rec : f->rec;
    if (s->places.seq && !f->w && !op->npatch)
        places_note(s, i, f->t, s->x.slot, rec);
    if (op->flags & TXN_TOUCH && rec != REC_NONE)
        plan_touch(s, f->t, rec);
    return op->flags & TXN_SKIP_IF_PRESENT ? op->skip : OP_NEXT;
}

static int op_check(struct shard *s, int i, const struct txn_op *op, struct found *f)
{
    if (version_of(s, f) != op->arg0)
        return fail_with_entry(s, i, TXN_CONFLICT, f);
    result_add(s, i, RES_DONE, 0,
               (struct txn_result){.index = index_of(f), .version = op->arg0});
    return OP_NEXT;
}

/* The parent has to exist, and to be nobody's child. */
static int adopt(struct shard *s, int i, const struct txn_op *op, struct found *child)
{
    struct table *pt = op->parent_table < s->tables ? s->table[op->parent_table] : NULL;
    const uint8_t *key = txn_parent_key(op);
    struct found p;
    if (!pt || pt->schema.kind != TABLE_HASH || op->parent_key_len != pt->schema.key_size ||
        !key_in_slot(s, pt, key))
        return fail(s, TXN_BAD_REQUEST);
    if (is_volatile(pt) != is_volatile(child->t))
        return fail(s, TXN_BAD_REQUEST);
    look_up(s, pt, key, &p);
    if (!p.exists)
        return fail_with_entry(s, i, TXN_CONFLICT, child);
    struct work *w = writable(s, &p);
    if (!w)
        return OP_FAILED;
    if (w->has_parent || w == child->w)
        return fail(s, TXN_BAD_REQUEST);
    w->children++;
    w->meta = true;
    child->w->has_parent = true;
    child->w->parent_table = pt->id;
    child->w->parent = (int16_t)(w - s->x.work);
    return OP_NEXT;
}

static int op_insert(struct shard *s, int i, const struct txn_op *op, struct found *f)
{
    uint32_t timeout = op->timeout_ms ? op->timeout_ms : f->t->schema.timeout_ms;
    if (f->exists)
        return fail_with_entry(s, i, TXN_CONFLICT, f);
    struct work *w = writable(s, f);
    if (!w)
        return OP_FAILED;
    w->children = 0;
    if (op->flags & TXN_HAS_PARENT && adopt(s, i, op, f) != OP_NEXT)
        return OP_FAILED;
    set_value(s, w, f->t, txn_value(op), timeout);
    plan_extend_parent(s, w);
    result_done(s, i, f, w);
    return OP_NEXT;
}

/* What was written is not what moves this one's deadline. */
static bool keeps_deadline(const struct table *t, const struct txn_op *op)
{
    return t->schema.flags & TABLE_ABSOLUTE && !op->timeout_ms;
}

static int op_cas(struct shard *s, int i, const struct txn_op *op, struct found *f)
{
    if (!f->exists || version_of(s, f) != op->arg0)
        return fail_with_entry(s, i, TXN_CONFLICT, f);
    struct work *w = writable(s, f);
    if (!w)
        return OP_FAILED;
    uint64_t deadline_ms = w->deadline_ms;
    set_value(s, w, f->t, txn_value(op), op->timeout_ms ? op->timeout_ms : w->timeout_ms);
    if (keeps_deadline(f->t, op))
        w->deadline_ms = deadline_ms;
    plan_extend_parent(s, w);
    result_done(s, i, f, w);
    return OP_NEXT;
}

static uint32_t children_of(const struct shard *s, const struct found *f)
{
    return f->w ? f->w->children : group_of(f->t, s->x.slot, f->rec)->children;
}

/* DELETE and FREE. */
static int op_delete(struct shard *s, int i, const struct txn_op *op, struct found *f)
{
    bool guard = version_of(s, f) == op->arg0 ||
                 (op->code == TXN_FREE && SHARD_BUG(BUG_INDEX_FREED_TWICE));
    if (!f->exists || !guard || children_of(s, f))
        return fail_with_entry(s, i, TXN_CONFLICT, f);
    struct work *w = writable(s, f);
    if (!w)
        return OP_FAILED;
    if (!plan_delete(s, w, 0))
        return fail(s, TXN_NO_MEMORY);
    result_done(s, i, f, w);
    return OP_NEXT;
}

static int op_add(struct shard *s, int i, const struct txn_op *op, struct found *f)
{
    int64_t now = 0, delta;
    uint32_t timeout = op->timeout_ms ? op->timeout_ms : f->t->schema.timeout_ms;
    uint8_t value[TXN_VALUE_MAX];
    if (op->code == TXN_ADD_LIMIT) {
        if (f->exists && f->w)
            memcpy(&now, f->w->value, sizeof now);
        else if (f->exists) {
            record_value(&f->t->shape, record_at(f->t, s->x.slot, f->rec), value);
            memcpy(&now, value, sizeof now);
        }
        memcpy(&delta, txn_value(op), sizeof delta);
        if (__builtin_add_overflow(now, delta, &now) || now > (int64_t)op->arg0)
            return fail_with_entry(s, i, TXN_LIMIT, f);
    }
    struct work *w = writable(s, f);
    if (!w)
        return OP_FAILED;
    if (!w->exists) {
        memset(w->value, 0, f->t->schema.value_size);
        memset(w->delta, 0, f->t->schema.value_size);
        w->timeout_ms = timeout;
    } else if (op->timeout_ms) {
        w->timeout_ms = timeout;
    }
    uint64_t version = next_version(s, w);
    bool fresh = !w->exists;
    plan_add(s, w, txn_value(op));
    w->version = version;
    if (fresh || !keeps_deadline(f->t, op))
        w->deadline_ms =
            w->timeout_ms ? s->time_ms + w->timeout_ms + idle_slack_ms(f->t, w->timeout_ms) : 0;
    f->exists = true;
    result_entry(s, i, RES_DONE, f);
    return OP_NEXT;
}

/* GET and ADD; an entry of a sketch is always there, and has no version. */
static int op_sketch(struct shard *s, int i, const struct txn_op *op, struct found *f)
{
    uint8_t slot = s->x.slot;
    int64_t estimate;
    f->key = txn_key(op);
    f->w = plan_find(s, f->t->id, f->key);
    if (!f->w && op->code == TXN_ADD) {
        if (!(f->w = plan_load(s, f->t, f->key, REC_NONE)))
            return fail(s, TXN_NO_MEMORY);
        estimate = sketch_estimate(f->t, slot, f->key);
        memcpy(f->w->value, &estimate, sizeof estimate);
    }
    if (op->code == TXN_ADD)
        plan_add(s, f->w, txn_value(op));
    estimate = sketch_estimate(f->t, slot, f->key);
    memcpy(result_add(s, i, op->code == TXN_ADD ? RES_DONE : RES_HIT, sizeof estimate,
                      (struct txn_result){0}),
           f->w ? f->w->value : (const uint8_t *)&estimate, sizeof estimate);
    return op->code == TXN_GET && op->flags & TXN_SKIP_IF_PRESENT ? op->skip : OP_NEXT;
}

static int op_alloc(struct shard *s, int i, const struct txn_op *op, struct found *f)
{
    struct exec *x = &s->x;
    uint32_t dense, index, timeout = op->timeout_ms ? op->timeout_ms : f->t->schema.timeout_ms;
    if (!f->t->part[x->slot].pool) {
        uint64_t cost[TABLES_MAX] = {0};
        cost[f->t->id] = part_reserve_cost(f->t, x->slot, 1, false);
        if (!limits_allow(s, cost) || !pool_open(f->t, x->slot))
            return fail(s, TXN_NO_MEMORY);
    }
    struct pool_part *p = f->t->part[x->slot].pool;
    if (!p->reserved)
        pool_mature(p, s->time_ms);
    if (!pool_promise(p, shard_random(s), &dense)) {
        enum txn_status status = pool_borrow_some(s, f->t, x->slot);
        /* What was borrowed lifts the slot's versions: the txn begins anew. */
        x->again = status == TXN_OK;
        if (!x->again)
            result_add(s, i, RES_FAILED, 0, (struct txn_result){0});
        s->count.exhausted += status == TXN_EXHAUSTED;
        return fail(s, x->again ? TXN_BUSY : status);
    }
    x->promised[x->npromised++] = p;
    index = pool_index_of(p, x->slot, dense);
    struct work *w = plan_load(s, f->t, &index, REC_NONE);
    if (!w)
        return fail(s, TXN_NO_MEMORY);
    set_value(s, w, f->t, txn_value(op), timeout);
    f->key = w->key;
    result_done(s, i, f, w);
    return OP_NEXT;
}

/* --- scan ------------------------------------------------------------------------------ */

static uint32_t left_ms(const struct shard *s, const struct record *r)
{
    if (!r->deadline_ms)
        return 0;
    uint64_t left = r->deadline_ms > s->time_ms ? r->deadline_ms - s->time_ms : 1;
    return left > UINT32_MAX ? UINT32_MAX : (uint32_t)left;
}

static uint32_t scan_put(const struct shard *s, const struct table *t, const struct record *r,
                         uint8_t *at)
{
    uint32_t key_len = t->schema.key_size, value_len = t->schema.value_size;
    struct txn_scan_entry *e = (struct txn_scan_entry *)at;
    *e = (struct txn_scan_entry){.version = r->version, .key_len = (uint16_t)key_len,
                                 .value_len = (uint16_t)value_len, .left_ms = left_ms(s, r)};
    memcpy(e + 1, r->payload, key_len);
    record_value(&t->shape, r, (uint8_t *)(e + 1) + key_len);
    uint32_t used = (uint32_t)sizeof *e + key_len + value_len, padded = (used + 7) & ~7u;
    memset(at + used, 0, padded - used);
    return padded;
}

/* The cursor is the number of the next record to look at, and whose number:
 * records are never moved, so whoever stays through the scan is seen. At a new
 * primary they stand elsewhere, so that it begins again. */
static int op_scan(struct shard *s, int i, const struct txn_op *op, struct found *f)
{
    struct exec *x = &s->x;
    const struct part *p = &f->t->part[x->slot];
    uint32_t size = ((uint32_t)sizeof(struct txn_scan_entry) + f->t->schema.key_size +
                     f->t->schema.value_size + 7) & ~7u;
    uint8_t *value = x->result + x->used + sizeof(struct txn_result);
    uint32_t room = TXN_RESULT_MAX - x->used - (uint32_t)sizeof(struct txn_result), used = 0;
    uint64_t whose = mix64(s->version_floor ^ s->slot[x->slot].epoch ^
                           (uint64_t)s->config.shard << 32) >> 32 << 32;
    uint64_t rec = (op->arg0 ^ whose) >> 32 ? 0 : (uint32_t)op->arg0;
    struct txn_result head = {0};
    for (; rec < p->high && used + size <= room; rec++) {
        const struct record *r = record_at(f->t, x->slot, (uint32_t)rec);
        if (r->state == RECORD_FREE)
            continue;
        used += scan_put(s, f->t, r, value + used);
        head.index++;
    }
    head.version = rec < p->high ? whose | rec : 0;
    result_add(s, i, RES_DONE, used, head);
    return OP_NEXT;
}

/* --- patches ------------------------------------------------------------------------------ */

/* A copy of the op with the bytes of earlier results filled in; NULL: there
 * are no such bytes. */
static const struct txn_op *patched(struct shard *s, const struct txn_op *op, uint8_t *copy)
{
    const struct txn_patch *p = txn_patches(op);
    struct txn_op *to = (struct txn_op *)copy;
    memcpy(copy, op, op->bytes);
    for (int k = 0; k < op->npatch; k++, p++) {
        if (!s->x.result_at[p->op])
            return NULL;
        const struct txn_result *r = (const void *)(s->x.result + s->x.result_at[p->op]);
        const uint8_t *from = txn_result_value(r);
        uint32_t len = r->value_len;
        if (p->from == PATCH_INDEX)
            from = (const uint8_t *)&r->index, len = sizeof r->index;
        else if (p->from == PATCH_VERSION)
            from = (const uint8_t *)&r->version, len = sizeof r->version;
        if ((uint32_t)p->from_off + p->len > len)
            return NULL;
        const uint8_t *into = p->into == PATCH_KEY      ? txn_key(to)
                              : p->into == PATCH_PARENT ? txn_parent_key(to)
                                                        : txn_value(to);
        memcpy((uint8_t *)(uintptr_t)into + p->into_off, from + p->from_off, p->len);
    }
    return to;
}

/* --- the program --------------------------------------------------------------------------- */

static struct table *table_for(const struct shard *s, const struct txn_op *op)
{
    struct table *t = op->table < s->tables ? s->table[op->table] : NULL;
    if (!t || !(kinds_of_op[op->code] & 1 << t->schema.kind))
        return NULL;
    if (op_has_value(op->code) && op->value_len != t->schema.value_size)
        return NULL;
    if (op_has_key(op->code) && op->key_len != t->schema.key_size)
        return NULL;
    return t;
}

static int run_op(struct shard *s, int i, const struct txn_op *op)
{
    uint8_t copy[sizeof(struct txn_op) + 2 * TXN_KEY_MAX + TXN_VALUE_MAX + 8 +
                 TXN_PATCHES_MAX * sizeof(struct txn_patch)] __attribute__((aligned(8)));
    struct found f = {.t = table_for(s, op), .rec = REC_NONE};
    s->counts.ops[op->code]++;
    if (!f.t || (op->npatch && (op->bytes > sizeof copy || !(op = patched(s, op, copy)))))
        return fail(s, TXN_BAD_REQUEST);
    s->x.sync |= f.t->schema.durability == DURABLE_SYNC;
    s->x.writes |= op_writes(op->code);
    if (op_has_key(op->code)) {
        if (!key_in_slot(s, f.t, txn_key(op)))
            return fail(s, TXN_BAD_REQUEST);
        if (f.t->schema.kind == TABLE_SKETCH)
            return op_sketch(s, i, op, &f);
        look_up(s, f.t, txn_key(op), &f);
    }
    switch ((enum txn_code)op->code) {
    case TXN_GET: return op_get(s, i, op, &f);
    case TXN_CHECK: return op_check(s, i, op, &f);
    case TXN_INSERT: return op_insert(s, i, op, &f);
    case TXN_CAS: return op_cas(s, i, op, &f);
    case TXN_FREE:
    case TXN_DELETE: return op_delete(s, i, op, &f);
    case TXN_ADD:
    case TXN_ADD_LIMIT: return op_add(s, i, op, &f);
    case TXN_ALLOC: return op_alloc(s, i, op, &f);
    case TXN_SCAN: return op_scan(s, i, op, &f);
    case TXN_CODE_END: break;
    }
    return fail(s, TXN_BAD_REQUEST);
}

static void run_ops(struct shard *s, const struct txn_head *t)
{
    const struct txn_op *op = txn_first(t);
    memset(s->x.result_at, 0, sizeof s->x.result_at);
    for (int i = 0, skip = 0; i < t->nops; i++, op = txn_next(op)) {
        if (skip) {
            /* A skipped write still makes the program one that may write. */
            s->x.writes |= op_writes(op->code);
            skip--;
            continue;
        }
        int next = run_op(s, i, op);
        if (next == OP_FAILED)
            s->x.failed_op = (uint8_t)i;
        if (next < 0) {
            for (; i < t->nops; i++, op = txn_next(op))
                s->x.writes |= op_writes(op->code);
            return;
        }
        skip = next;
    }
}

uint32_t txn_refuse(uint8_t *result, uint64_t seq, enum txn_status status)
{
    *(struct txn_result_head *)result = (struct txn_result_head){
        .seq = seq, .bytes = sizeof(struct txn_result_head), .status = (uint8_t)status};
    return sizeof(struct txn_result_head);
}

/* A result that may be asked for again is kept; that must not fail after the
 * entry is logged. */
static bool keep(struct shard *s, struct client *c, uint64_t seq)
{
    struct exec *x = &s->x;
    if (!c || !x->writes)
        return true;
    if (!client_reach(c, seq))
        return false;
    x->kept = kept_new(s, c->id, seq, x->slot, x->result, x->used);
    return x->kept != NULL;
}

static void refuse(struct shard *s, uint64_t seq, enum txn_status status)
{
    s->x.status = (uint8_t)status;
    s->x.used = txn_refuse(s->x.result, seq, status);
    if (s->x.kept)
        memcpy(s->x.kept->result, s->x.result, s->x.kept->bytes = (uint16_t)s->x.used);
}

uint32_t txn_execute(struct shard *s, const struct txn_head *t, uint8_t slot,
                     struct client *client, uint8_t *result)
{
    struct exec *x = &s->x;
    for (int tries = 0;; tries++) {
        plan_begin(s, slot, result);
        run_ops(s, t);
        if (!x->again || tries == TXN_OPS_MAX)
            break;
        plan_abandon(s);
    }
    *(struct txn_result_head *)result = (struct txn_result_head){
        .seq = t->seq, .bytes = (uint16_t)x->used, .status = x->status, .nres = x->nres,
        .failed_op = x->failed_op};
    uint64_t position = s->position; /* a slot that ran dry has borrowed before it */
    s->count.txns++;
    if (!keep(s, client, t->seq)) {
        refuse(s, t->seq, TXN_BUSY);
    } else if ((x->status == TXN_OK || SHARD_BUG(BUG_TXN_HALF_APPLIED)) &&
               (x->nwork || x->ntouch)) {
        enum txn_status status = plan_commit(s, client, t->seq, result, x->used);
        if (status != TXN_OK)
            refuse(s, t->seq, status);
    }
    plan_abandon(s);
    x->logged = s->position > position;
    s->count.touches_logged += x->logged && !x->changed;
    s->count.conflicts += x->status == TXN_CONFLICT || x->status == TXN_LIMIT;
    return x->used;
}
