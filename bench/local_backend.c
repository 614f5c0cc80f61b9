/* SPDX-License-Identifier: BSD-3-Clause */
/* The NAT bench's baseline; see local_backend.h. */
#include "bench/local_backend.h"

#include <assert.h>
#include <errno.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_prefetch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QUEUE = 1024, BULK = RTE_HASH_LOOKUP_BULK_MAX, SMALL = 4096 };

struct row {
    uint64_t version, deadline_us;
    uint32_t timeout_ms, used;
    uint8_t value[TXN_VALUE_MAX];
};

struct local_table {
    struct table_schema schema;
    struct rte_hash *hash;       /* not for pools */
    uint8_t *rows;
    uint32_t row_bytes, capacity;
    uint32_t *free, nfree;       /* pools */
};

struct queued {
    uint8_t txn[1024] __attribute__((aligned(8)));
    backend_done done;
    void *user;
    int32_t first;               /* row of the first op's key, or < 0 */
};

struct local_backend {
    struct local_table tables[TABLES_MAX];
    int ntables;
    uint32_t capacity;
    const char *big;
    uint64_t version, now_us;
    uint32_t random, nqueued, nready;
    struct queued *queue;
};

static void give_up(const char *what)
{
    fprintf(stderr, "local backend: %s\n", what);
    exit(1);
}

static struct row *row_at(const struct local_table *t, uint32_t n)
{
    return (struct row *)(t->rows + (size_t)n * t->row_bytes);
}

static void table_make_hash(struct local_table *t, int number)
{
    char name[RTE_HASH_NAMESIZE];
    snprintf(name, sizeof name, "local%d", number);
    struct rte_hash_parameters p = {
        .name = name,
        .entries = t->capacity,
        .key_len = t->schema.key_size,
        .hash_func = rte_hash_crc,
        .extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF,
        .socket_id = SOCKET_ID_ANY,
    };
    t->hash = rte_hash_create(&p);
    if (!t->hash)
        give_up("rte_hash_create failed");
}

static int table_open(void *ctx, const struct table_schema *s)
{
    struct local_backend *l = ctx;
    for (int i = 0; i < l->ntables; i++)
        if (!strncmp(l->tables[i].schema.name, s->name, sizeof s->name))
            return i;
    if (l->ntables == TABLES_MAX)
        return -ENOSPC;
    struct local_table *t = &l->tables[l->ntables];
    bool pool = s->kind == TABLE_POOL;
    t->schema = *s;
    t->capacity = pool ? s->max_entries : strstr(s->name, l->big) ? l->capacity : SMALL;
    t->row_bytes = (uint32_t)(offsetof(struct row, value) + s->value_size + 7) & ~7u;
    t->rows = calloc(t->capacity + 1, t->row_bytes);
    if (!t->rows)
        return -ENOMEM;
    if (!pool) {
        table_make_hash(t, l->ntables);
        return l->ntables++;
    }
    t->free = malloc(t->capacity * sizeof *t->free);
    for (uint32_t i = 0; i < t->capacity; i++)
        t->free[t->nfree++] = i;
    return l->ntables++;
}

static int submit(void *ctx, const void *txn, uint32_t bytes, backend_done done, void *user)
{
    struct local_backend *l = ctx;
    if (l->nqueued == QUEUE)
        return -EAGAIN;
    struct queued *q = &l->queue[l->nqueued++];
    assert(bytes <= sizeof q->txn);
    memcpy(q->txn, txn, bytes);
    q->done = done;
    q->user = user;
    return 0;
}

/* Rows of the first keys of txns from..to - 1, which all name table t. */
static void lookup_bulk(struct local_backend *l, struct local_table *t, const uint32_t *which, int n)
{
    const void *keys[BULK];
    int32_t found[BULK];
    for (int i = 0; i < n; i++)
        keys[i] = txn_key(txn_first((struct txn_head *)l->queue[which[i]].txn));
    rte_hash_lookup_bulk(t->hash, keys, (uint32_t)n, found);
    for (int i = 0; i < n; i++) {
        l->queue[which[i]].first = found[i];
        if (found[i] >= 0)
            rte_prefetch0(row_at(t, (uint32_t)found[i]));
    }
}

static void flush(void *ctx)
{
    struct local_backend *l = ctx;
    for (int number = 0; number < l->ntables; number++) {
        struct local_table *t = &l->tables[number];
        uint32_t which[BULK];
        int n = 0;
        for (uint32_t i = l->nready; i < l->nqueued; i++) {
            const struct txn_op *op = txn_first((struct txn_head *)l->queue[i].txn);
            if (op->table != number)
                continue;
            if (t->schema.kind == TABLE_POOL) {
                uint32_t index;
                memcpy(&index, txn_key(op), sizeof index);
                if (op->key_len == 4 && index < t->capacity)
                    rte_prefetch0(row_at(t, index));
                continue;
            }
            which[n++] = i;
            if (n == BULK) {
                lookup_bulk(l, t, which, n);
                n = 0;
            }
        }
        if (n)
            lookup_bulk(l, t, which, n);
    }
    l->nready = l->nqueued;
}

/* --- executing one txn ------------------------------------------------------------ */

struct run {
    struct local_backend *l;
    struct txn_result_head *head;
    struct txn_result *next, *of[TXN_OPS_MAX];
    uint8_t op_copy[1024] __attribute__((aligned(8)));
    int at;
    bool wrote;
};

static void put_result(struct run *r, enum txn_res res, const struct local_table *t,
                       const struct row *row, uint32_t index)
{
    struct txn_result *out = r->next;
    uint32_t n = row ? t->schema.value_size : 0;
    *out = (struct txn_result){.op = (uint8_t)r->at,
                               .res = (uint8_t)res,
                               .value_len = (uint16_t)n,
                               .index = index,
                               .version = row ? row->version : 0,
                               .timeout_ms = row ? row->timeout_ms : 0,
                               .bytes = (uint32_t)(sizeof *out + n + 7) & ~7u};
    if (n)
        memcpy(out + 1, row->value, n);
    r->of[r->at] = out;
    r->head->nres++;
    r->next = (struct txn_result *)((uint8_t *)out + out->bytes);
}

static const struct txn_op *patched(struct run *r, const struct txn_op *op)
{
    if (!op->npatch)
        return op;
    memcpy(r->op_copy, op, op->bytes);
    struct txn_op *copy = (struct txn_op *)r->op_copy;
    const struct txn_patch *p = txn_patches(op);
    for (int i = 0; i < op->npatch; i++, p++) {
        const struct txn_result *from = r->of[p->op];
        if (!from)
            give_up("a patch from an op that did not run");
        const uint8_t *src = p->from == PATCH_VALUE   ? txn_result_value(from)
                             : p->from == PATCH_INDEX ? (const uint8_t *)&from->index
                                                      : (const uint8_t *)&from->version;
        uint8_t *into = (uint8_t *)(uintptr_t)(p->into == PATCH_KEY      ? txn_key(copy)
                                               : p->into == PATCH_PARENT ? txn_parent_key(copy)
                                                                         : txn_value(copy));
        memcpy(into + p->into_off, src + p->from_off, p->len);
    }
    return copy;
}

static struct row *find(struct local_table *t, const struct txn_op *op, int32_t known,
                        uint32_t *index)
{
    if (t->schema.kind == TABLE_POOL) {
        memcpy(index, txn_key(op), sizeof *index);
        struct row *row = *index < t->capacity ? row_at(t, *index) : NULL;
        return row && row->used ? row : NULL;
    }
    /* A miss is looked up again: an earlier txn of the burst may have made it. */
    int32_t at = known >= 0 ? known : rte_hash_lookup(t->hash, txn_key(op));
    return at >= 0 ? row_at(t, (uint32_t)at) : NULL;
}

static struct row *create(struct local_table *t, const struct txn_op *op)
{
    int32_t at = rte_hash_add_key(t->hash, txn_key(op));
    if (at < 0)
        give_up("the table is too small for this bench");
    struct row *row = row_at(t, (uint32_t)at);
    memset(row, 0, t->row_bytes);
    row->used = 1;
    return row;
}

static void fill(struct run *r, const struct local_table *t, struct row *row,
                 const struct txn_op *op)
{
    memcpy(row->value, txn_value(op), op->value_len);
    row->version = ++r->l->version;
    if (op->timeout_ms || !row->timeout_ms)
        row->timeout_ms = op->timeout_ms ? op->timeout_ms : t->schema.timeout_ms;
    row->deadline_us = r->l->now_us + row->timeout_ms * 1000ull;
    r->wrote = true;
}

static void add_fields(struct run *r, struct local_table *t, struct row *row,
                       const struct txn_op *op)
{
    for (uint32_t i = 0; i < t->schema.value_size / 8; i++) {
        int64_t have, delta;
        memcpy(&have, row->value + 8 * i, 8);
        memcpy(&delta, txn_value(op) + 8 * i, 8);
        have += delta;
        memcpy(row->value + 8 * i, &have, 8);
    }
    row->version = ++r->l->version;
    r->wrote = true;
}

static bool over_limit(const struct row *row, const struct txn_op *op)
{
    int64_t have = 0, delta;
    if (row)
        memcpy(&have, row->value, 8);
    memcpy(&delta, txn_value(op), 8);
    return have + delta > (int64_t)op->arg0;
}

static struct row *alloc(struct run *r, struct local_table *t, const struct txn_op *op,
                         uint32_t *index)
{
    if (!t->nfree)
        return NULL;
    r->l->random = r->l->random * 1664525u + 1013904223u;
    uint32_t pick = (uint32_t)(((uint64_t)r->l->random * t->nfree) >> 32);
    *index = t->free[pick];
    t->free[pick] = t->free[--t->nfree];
    struct row *row = row_at(t, *index);
    row->used = 1;
    fill(r, t, row, op);
    return row;
}

static void release(struct run *r, struct local_table *t, const struct txn_op *op, struct row *row,
                    uint32_t index)
{
    row->used = 0;
    if (t->schema.kind == TABLE_POOL)
        t->free[t->nfree++] = index;
    else
        rte_hash_del_key(t->hash, txn_key(op));
    r->wrote = true;
}

/* The status the op ends the txn with, TXN_OK to go on. *stop: skip the rest. */
static enum txn_status execute_op(struct run *r, const struct txn_op *op, int32_t known,
                                  int *skip, bool *stop)
{
    struct local_table *t = &r->l->tables[op->table];
    uint32_t index = 0;
    struct row *row = op->code == TXN_ALLOC ? NULL : find(t, op, known, &index);
    switch (op->code) {
    case TXN_GET:
        put_result(r, row ? RES_HIT : RES_ABSENT, t, row, index);
        if (row && (op->flags & TXN_TOUCH))
            row->deadline_us = r->l->now_us + row->timeout_ms * 1000ull;
        *skip = row && (op->flags & TXN_SKIP_IF_PRESENT) ? op->skip : 0;
        *stop = !row && (op->flags & TXN_STOP_IF_ABSENT);
        return TXN_OK;
    case TXN_INSERT:
        if (!row)
            fill(r, t, row = create(t, op), op);
        else
            return put_result(r, RES_FAILED, t, row, index), TXN_CONFLICT;
        break;
    case TXN_ALLOC:
        if (!(row = alloc(r, t, op, &index)))
            return put_result(r, RES_FAILED, t, NULL, 0), TXN_EXHAUSTED;
        break;
    case TXN_ADD_LIMIT:
        if (over_limit(row, op))
            return put_result(r, RES_FAILED, t, row, 0), TXN_LIMIT;
        /* fallthrough */
    case TXN_ADD:
        add_fields(r, t, row ? row : (row = create(t, op)), op);
        break;
    case TXN_CHECK:
    case TXN_CAS:
    case TXN_DELETE:
    case TXN_FREE:
        if ((row ? row->version : 0) != op->arg0)
            return put_result(r, RES_FAILED, t, row, index), TXN_CONFLICT;
        if (op->code == TXN_CAS)
            fill(r, t, row, op);
        else if (op->code != TXN_CHECK)
            release(r, t, op, row, index);
        break;
    default:
        return TXN_BAD_REQUEST;
    }
    put_result(r, RES_DONE, t, row, index);
    return TXN_OK;
}

static void execute(struct local_backend *l, struct queued *q)
{
    static uint8_t out[TXN_RESULT_MAX] __attribute__((aligned(8)));
    const struct txn_head *txn = (const struct txn_head *)q->txn;
    const struct txn_op *op = txn_first(txn);
    struct run r = {.l = l, .head = (struct txn_result_head *)out};
    *r.head = (struct txn_result_head){.seq = txn->seq};
    r.next = (struct txn_result *)(r.head + 1);
    int skip = 0;
    bool stop = false;
    for (r.at = 0; r.at < txn->nops && !stop; r.at++, op = txn_next(op)) {
        if (skip && skip--)
            continue;
        enum txn_status s = execute_op(&r, patched(&r, op), r.at ? -1 : q->first, &skip, &stop);
        if (s != TXN_OK) {
            if (r.wrote)
                give_up("a guard failed after a write");
            r.head->status = (uint8_t)s;
            r.head->failed_op = (uint8_t)r.at;
            break;
        }
    }
    r.head->bytes = (uint16_t)((uint8_t *)r.next - out);
    q->done(q->user, r.head);
}

static int poll_backend(void *ctx, uint64_t now_us)
{
    struct local_backend *l = ctx;
    uint32_t n = l->nready;
    l->now_us = now_us;
    for (uint32_t i = 0; i < n; i++)
        execute(l, &l->queue[i]); /* may submit: goes behind nqueued */
    memmove(l->queue, l->queue + n, (l->nqueued - n) * sizeof *l->queue);
    l->nqueued -= n;
    l->nready -= n;
    return (int)n;
}

struct local_backend *local_backend_create(uint32_t capacity, const char *big)
{
    struct local_backend *l = calloc(1, sizeof *l);
    l->capacity = capacity;
    l->big = big;
    l->queue = calloc(QUEUE, sizeof *l->queue);
    return l;
}

struct backend local_backend(struct local_backend *l)
{
    return (struct backend){l, table_open, submit, flush, poll_backend, NULL};
}

void local_backend_destroy(struct local_backend *l)
{
    for (int i = 0; i < l->ntables; i++) {
        if (l->tables[i].hash)
            rte_hash_free(l->tables[i].hash);
        free(l->tables[i].rows);
        free(l->tables[i].free);
    }
    free(l->queue);
    free(l);
}
