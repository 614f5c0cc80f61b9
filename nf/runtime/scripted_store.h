/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A store for the engine's tests and for `lethe-nf --explain`, behind backend.h: an array of entries, a
 * slow and obvious execution of txns, and levers: when txns execute (flush),
 * how many answers poll delivers and in which order, how many it has room
 * for, which status the next ones get, what another worker writes meanwhile.
 *
 * It takes the whole array back when a guard fails, knows no time-outs and no
 * groups, and fails the test where the real store would answer BAD_REQUEST.
 */
#ifndef NF_RUNTIME_SCRIPTED_STORE_H
#define NF_RUNTIME_SCRIPTED_STORE_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "client/lethe.h"
#include "nf/runtime/backend.h"

#ifndef CHECK /* tests/check.h */
#define CHECK(cond, ...) assert(cond)
#endif

enum { SCRIPTED_TABLES = 16, SCRIPTED_ENTRIES = 512, SCRIPTED_QUEUE = 2048 };

struct scripted_entry {
    bool used;
    uint8_t table, key[TXN_KEY_MAX];
    uint64_t version;
    uint32_t timeout_ms;
    uint8_t value[TXN_VALUE_MAX];
};

struct scripted_txn {
    uint64_t txn[TXN_BYTES_MAX / 8], result[TXN_RESULT_MAX / 8];
    bool executed;
    backend_done done;
    void *user;
};

struct scripted_store {
    int ntables;
    struct table_schema tables[SCRIPTED_TABLES];
    struct scripted_entry entries[SCRIPTED_ENTRIES], backup[SCRIPTED_ENTRIES];
    uint64_t version;
    uint32_t next_index;
    struct scripted_txn queue[SCRIPTED_QUEUE];
    int nqueue;
    int room;                    /* txns it holds; then -EAGAIN */
    int deliver;                 /* answers in one poll */
    uint64_t shuffle;            /* not 0: state of a random order */
    uint8_t next_status;         /* enum txn_status of the next txn executed, then OK again */
    uint8_t every_status;        /* of every txn */
    int submitted[TXN_CODE_END]; /* txns by the code of their first op */
    backend_event listener[SCRIPTED_TABLES];
    void *listener_user[SCRIPTED_TABLES];
    /* Called before a txn executes: another worker acts. */
    void (*before)(struct scripted_store *s, const struct txn_head *t);
};

static inline uint64_t scripted_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline struct scripted_entry *scripted_find(struct scripted_store *s, int table,
                                                   const void *key)
{
    for (int i = 0; i < SCRIPTED_ENTRIES; i++) {
        struct scripted_entry *e = &s->entries[i];
        if (e->used && e->table == table && !memcmp(e->key, key, s->tables[table].key_size))
            return e;
    }
    return NULL;
}

static inline struct scripted_entry *scripted_put(struct scripted_store *s, int table,
                                                  const void *key, const void *value)
{
    struct scripted_entry *e = scripted_find(s, table, key);
    for (int i = 0; !e && i < SCRIPTED_ENTRIES; i++)
        if (!s->entries[i].used)
            e = &s->entries[i];
    CHECK(e, "the scripted store is full");
    e->used = true;
    e->table = (uint8_t)table;
    e->version = ++s->version;
    memcpy(e->key, key, s->tables[table].key_size);
    memcpy(e->value, value, s->tables[table].value_size);
    return e;
}

static inline uint64_t scripted_u64(struct scripted_store *s, int table, const void *key)
{
    struct scripted_entry *e = scripted_find(s, table, key);
    uint64_t v = 0;
    if (e)
        memcpy(&v, e->value, sizeof v);
    return v;
}

/* Appends a result of op `at`. */
static inline void scripted_result(struct scripted_store *s, struct txn_result_head *h, int at,
                                   enum txn_res res, const struct scripted_entry *e, bool value)
{
    struct txn_result *r = (struct txn_result *)((uint8_t *)h + h->bytes);
    uint32_t len = value && e ? s->tables[e->table].value_size : 0;
    *r = (struct txn_result){.op = (uint8_t)at, .res = (uint8_t)res, .value_len = (uint16_t)len};
    r->bytes = (uint32_t)sizeof *r + ((len + 7) & ~7u);
    memset(r + 1, 0, r->bytes - sizeof *r);
    if (e) {
        r->version = e->version;
        r->timeout_ms = e->timeout_ms;
        memcpy(&r->index, e->key, 4);
        memcpy(r + 1, e->value, len);
    }
    h->bytes = (uint16_t)(h->bytes + r->bytes);
    h->nres++;
}

static inline void scripted_patch(struct txn_op *op, const struct txn_result_head *h)
{
    uint8_t *key = (uint8_t *)(op + 1);
    const struct txn_patch *p = txn_patches(op);
    for (int i = 0; i < op->npatch; i++, p++) {
        const struct txn_result *from = txn_result_of(h, p->op);
        const void *src = p->from == PATCH_INDEX     ? (const void *)&from->index
                          : p->from == PATCH_VERSION ? (const void *)&from->version
                                                     : txn_result_value(from);
        uint8_t *into = key + (p->into == PATCH_KEY      ? 0
                               : p->into == PATCH_PARENT ? op->key_len
                                                         : op->key_len + op->parent_key_len);
        memcpy(into + p->into_off, (const uint8_t *)src + p->from_off, p->len);
    }
}

/* One op; false: its guard failed. */
static inline bool scripted_op(struct scripted_store *s, struct txn_op *op, int at,
                               struct txn_result_head *h, int *skip, bool *stop)
{
    scripted_patch(op, h);
    struct scripted_entry *e = op->key_len ? scripted_find(s, op->table, txn_key(op)) : NULL;
    bool guarded = op->code == TXN_CAS || op->code == TXN_DELETE || op->code == TXN_FREE;
    if ((guarded && (!e || e->version != op->arg0)) || (op->code == TXN_INSERT && e)) {
        scripted_result(s, h, at, RES_FAILED, e, true);
        h->status = TXN_CONFLICT;
        h->failed_op = (uint8_t)at;
        return false;
    }
    if (op->code == TXN_GET) {
        scripted_result(s, h, at, e ? RES_HIT : RES_ABSENT, e, true);
        if (e && op->flags & TXN_SKIP_IF_PRESENT)
            *skip = op->skip;
        *stop = !e && op->flags & TXN_STOP_IF_ABSENT;
        return true;
    }
    if ((op->code == TXN_ADD || op->code == TXN_ADD_LIMIT) && e) {
        for (int i = 0; i < op->value_len; i += 8) {
            int64_t sum, delta;
            memcpy(&sum, e->value + i, 8);
            memcpy(&delta, txn_value(op) + i, 8);
            sum += delta;
            memcpy(e->value + i, &sum, 8);
        }
        e->version = ++s->version;
    } else if (guarded && op->code != TXN_CAS) {
        e->used = false;
    } else if (op->code == TXN_ALLOC) {
        uint32_t index = s->next_index++;
        e = scripted_put(s, op->table, &index, txn_value(op));
    } else {
        e = scripted_put(s, op->table, txn_key(op), txn_value(op));
        if (op->timeout_ms)
            e->timeout_ms = op->timeout_ms;
    }
    scripted_result(s, h, at, RES_DONE, e, false);
    return true;
}

static inline void scripted_execute(struct scripted_store *s, struct scripted_txn *q)
{
    struct txn_head *t = (struct txn_head *)q->txn;
    struct txn_result_head *h = (struct txn_result_head *)q->result;
    struct txn_op *op = (struct txn_op *)(t + 1);
    *h = (struct txn_result_head){.bytes = sizeof *h};
    q->executed = true;
    if (s->before)
        s->before(s, t);
    h->status = s->next_status ? s->next_status : s->every_status;
    s->next_status = TXN_OK;
    if (h->status != TXN_OK)
        return;
    memcpy(s->backup, s->entries, sizeof s->entries);
    int skip = 0;
    bool stop = false;
    for (int i = 0; i < t->nops && !stop; i++, op = (struct txn_op *)((uint8_t *)op + op->bytes)) {
        if (skip) {
            skip--;
        } else if (!scripted_op(s, op, i, h, &skip, &stop)) {
            memcpy(s->entries, s->backup, sizeof s->entries);
            return;
        }
    }
}

static inline int scripted_table_open(void *ctx, const struct table_schema *schema)
{
    struct scripted_store *s = ctx;
    for (int i = 0; i < s->ntables; i++)
        if (!strcmp(s->tables[i].name, schema->name))
            return i;
    s->tables[s->ntables] = *schema;
    return s->ntables++;
}

static inline int scripted_submit(void *ctx, const void *txn, uint32_t bytes, backend_done done,
                                  void *user)
{
    struct scripted_store *s = ctx;
    const char *why = txn_validate(txn, bytes);
    CHECK(!why && bytes <= sizeof s->queue[0].txn, "%s, %u bytes", why ? why : "too long", bytes);
    if (s->nqueue >= s->room)
        return -EAGAIN;
    struct scripted_txn *q = &s->queue[s->nqueue++];
    memcpy(q->txn, txn, bytes);
    q->executed = false;
    q->done = done;
    q->user = user;
    s->submitted[txn_first(txn)->code]++;
    return 0;
}

static inline void scripted_flush(void *ctx)
{
    struct scripted_store *s = ctx;
    for (int i = 0; i < s->nqueue; i++)
        if (!s->queue[i].executed)
            scripted_execute(s, &s->queue[i]);
}

static inline int scripted_poll(void *ctx, uint64_t now_us)
{
    static struct scripted_txn q;
    struct scripted_store *s = ctx;
    int ready = 0, n = 0;
    (void)now_us;
    while (ready < s->nqueue && s->queue[ready].executed)
        ready++;
    for (; ready && n < s->deliver; ready--, n++) {
        int at = s->shuffle ? (int)(scripted_random(&s->shuffle) % (uint64_t)ready) : 0;
        q = s->queue[at];
        memmove(&s->queue[at], &s->queue[at + 1],
                (size_t)(s->nqueue - at - 1) * sizeof s->queue[0]);
        s->nqueue--;
        q.done(q.user, (struct txn_result_head *)q.result);
    }
    return n;
}

static inline int scripted_events(void *ctx, int table, backend_event handler, void *user)
{
    struct scripted_store *s = ctx;
    s->listener[table] = handler;
    s->listener_user[table] = user;
    return 0;
}

/* The entry's time is up: what the listener says. */
static inline bool scripted_expire(struct scripted_store *s, int table, uint32_t key,
                                   const char *value)
{
    char bytes[TXN_VALUE_MAX] = "";
    snprintf(bytes, sizeof bytes, "%s", value);
    struct lethe_event e = {.table = table, .slot = slot_of(&key, 4), .key_len = 4,
                            .value_len = (uint16_t)s->tables[table].value_size, .key = &key,
                            .value = bytes, .version = ++s->version};
    return s->listener[table](s->listener_user[table], &e);
}

static inline struct backend scripted_backend(struct scripted_store *s)
{
    s->room = SCRIPTED_QUEUE;
    s->deliver = SCRIPTED_QUEUE;
    return (struct backend){.ctx = s,
                            .table_open = scripted_table_open,
                            .submit = scripted_submit,
                            .flush = scripted_flush,
                            .poll = scripted_poll,
                            .events = scripted_events};
}

#endif
