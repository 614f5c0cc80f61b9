/* SPDX-License-Identifier: BSD-3-Clause */
/* See traced.h. */
#include "statestore/server/traced.h"

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "statestore/server/store.h"

enum { RELEASED_MAX = 4096, SECONDS_MAX = 600 };

struct traced {
    _Atomic uint64_t until_us;     /* partner: traced_active */
    pthread_mutex_t lock;          /* of all below */
    uint32_t nreleased;            /* places of what waits for traced_sent; more are not told */
    uint16_t released[RELEASED_MAX];
    struct traced_txn txns[TRACED_TXNS];
};

static uint64_t clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

struct traced *traced_create(void)
{
    struct traced *t = calloc(1, sizeof *t); /* untouched until it is wanted */
    if (t)
        pthread_mutex_init(&t->lock, NULL);
    return t;
}

void traced_destroy(struct traced *t)
{
    if (!t)
        return;
    pthread_mutex_destroy(&t->lock);
    free(t);
}

bool traced_active(const struct traced *t, uint64_t now_us)
{
    return now_us < atomic_load_explicit(&((struct traced *)t)->until_us, memory_order_relaxed);
}

void traced_until(struct traced *t, uint64_t until_us)
{
    atomic_store_explicit(&t->until_us, until_us, memory_order_relaxed);
}

static struct traced_txn *place(struct traced *t, uint64_t client, uint64_t seq)
{
    return &t->txns[(client * 7919 + seq) % TRACED_TXNS];
}

static struct traced_txn *find(struct traced *t, uint64_t client, uint64_t seq)
{
    struct traced_txn *x = place(t, client, seq);
    return x->client == client && x->seq == seq ? x : NULL;
}

void traced_received(struct traced *t, const struct msg_batch *m, uint64_t now_us)
{
    const struct txn_head *h = (const struct txn_head *)(m + 1);
    pthread_mutex_lock(&t->lock);
    for (uint32_t i = 0; i < m->ntxn; i++) {
        struct traced_txn *x = place(t, m->client, h->seq);
        if (x->client != m->client || x->seq != h->seq) /* else it comes again */
            *x = (struct traced_txn){.client = m->client, .seq = h->seq, .received_us = now_us,
                                     .slot = h->slot};
        h = (const struct txn_head *)((const uint8_t *)h + h->bytes);
    }
    pthread_mutex_unlock(&t->lock);
}

void traced_executed(struct traced *t, const struct msg_batch *m)
{
    const struct txn_head *h = (const struct txn_head *)(m + 1);
    uint64_t now_us = clock_us();
    pthread_mutex_lock(&t->lock);
    for (uint32_t i = 0; i < m->ntxn; i++) {
        struct traced_txn *x = find(t, m->client, h->seq);
        if (x && !x->executed_us)
            x->executed_us = now_us;
        h = (const struct txn_head *)((const uint8_t *)h + h->bytes);
    }
    pthread_mutex_unlock(&t->lock);
}

void traced_released(struct traced *t, const struct msg_results *m)
{
    const struct txn_result_head *h = (const struct txn_result_head *)(m + 1);
    uint64_t now_us = clock_us();
    pthread_mutex_lock(&t->lock);
    for (uint32_t i = 0; i < m->nres; i++) {
        struct traced_txn *x = find(t, m->client, h->seq);
        if (x && !x->released_us) {
            x->released_us = now_us;
            x->executed_us = x->executed_us ? x->executed_us : now_us;
            if (t->nreleased < RELEASED_MAX)
                t->released[t->nreleased++] = (uint16_t)(x - t->txns);
        }
        h = (const struct txn_result_head *)((const uint8_t *)h + h->bytes);
    }
    pthread_mutex_unlock(&t->lock);
}

void traced_sent(struct traced *t)
{
    uint64_t now_us = clock_us();
    pthread_mutex_lock(&t->lock);
    for (uint32_t i = 0; i < t->nreleased; i++)
        t->txns[t->released[i]].sent_us = now_us;
    t->nreleased = 0;
    pthread_mutex_unlock(&t->lock);
}

bool traced_find(struct traced *t, uint64_t client, uint64_t seq, struct traced_txn *out)
{
    pthread_mutex_lock(&t->lock);
    const struct traced_txn *x = find(t, client, seq);
    if (x)
        *out = *x;
    pthread_mutex_unlock(&t->lock);
    return x != NULL;
}

/* --- the verb ---------------------------------------------------------------------------- */

static json_t *turn(struct store *s, unsigned long seconds)
{
    uint64_t now_us = clock_us(), until_us = seconds ? now_us + seconds * 1000000 : 0;
    for (uint16_t i = 0; i < store_shards(s); i++)
        traced_until(store_traced(s, i), until_us);
    return json_pack("{s:b, s:I, s:I}", "ok", 1, "now_us", (json_int_t)now_us, "until_us",
                     (json_int_t)until_us);
}

static json_t *txn_json(unsigned long shard, const struct traced_txn *x)
{
    return json_pack("{s:i, s:I, s:I, s:i, s:I, s:I, s:I, s:I}", "shard", (int)shard, "client",
                     (json_int_t)x->client, "seq", (json_int_t)x->seq, "slot", (int)x->slot,
                     "received_us", (json_int_t)x->received_us, "executed_us",
                     (json_int_t)x->executed_us, "released_us", (json_int_t)x->released_us,
                     "sent_us", (json_int_t)x->sent_us);
}

static json_t *read_txns(struct store *s, int argc, char **argv)
{
    unsigned long shard = strtoul(argv[2], NULL, 10);
    struct traced_txn x;
    json_t *all = json_array();
    uint64_t now_us = clock_us();
    if (shard >= store_shards(s)) {
        json_decref(all);
        return json_pack("{s:s}", "error", "there is no such shard here");
    }
    struct traced *t = store_traced(s, (uint16_t)shard);
    for (int i = 4; i < argc; i++)
        if (traced_find(t, strtoull(argv[3], NULL, 10), strtoull(argv[i], NULL, 10), &x))
            json_array_append_new(all, txn_json(shard, &x));
    return json_pack("{s:I, s:b, s:o}", "now_us", (json_int_t)now_us, "active",
                     traced_active(t, now_us), "txns", all);
}

json_t *traced_verb(struct store *s, int argc, char **argv)
{
    unsigned long seconds = argc == 3 && !strcmp(argv[1], "on") ? strtoul(argv[2], NULL, 10) : 0;
    if (seconds && seconds <= SECONDS_MAX)
        return turn(s, seconds);
    if (argc == 2 && !strcmp(argv[1], "off"))
        return turn(s, 0);
    if (argc >= 5 && !strcmp(argv[1], "read"))
        return read_txns(s, argc, argv);
    return json_pack("{s:s}", "error", "say 'trace on SECONDS' (1 to 600), 'trace off' or 'trace "
                                       "read SHARD CLIENT SEQ ...'");
}
