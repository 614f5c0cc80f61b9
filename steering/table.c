/* SPDX-License-Identifier: BSD-3-Clause */
/* Tables built beside the datapath. See table.h. */
#include "steering/table.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "steering/maglev.h"

enum { WEIGHT_DEFAULT = 100 };

struct tables {
    pthread_mutex_t names_lock;
    char names[TABLE_WORKERS_MAX][TABLE_NAME_BYTES];
    uint16_t weights[TABLE_WORKERS_MAX];
    uint64_t wanted, wanted_version;  /* version: release/acquire, orders `wanted` and names */
    uint64_t built_version, count;    /* builder's */
    struct table *current, *retiring; /* datapath's */
    struct table *fresh, *spare;      /* handed over by atomic exchange */
    struct table *all[2];
};

static struct table *table_alloc(uint32_t size)
{
    struct table *t = calloc(1, sizeof(*t) + size * sizeof(t->bucket[0]));
    if (t == NULL)
        return NULL;
    t->size = size;
    maglev_build(t->bucket, size, NULL, 0);
    return t;
}

int tables_create(uint32_t size, struct tables **out)
{
    struct tables *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return -ENOMEM;
    for (int i = 0; i < 2; i++)
        t->all[i] = table_alloc(size);
    if (t->all[0] == NULL || t->all[1] == NULL) {
        free(t->all[0]);
        free(t->all[1]);
        free(t);
        return -ENOMEM;
    }
    pthread_mutex_init(&t->names_lock, NULL);
    t->current = t->all[0];
    t->spare = t->all[1];
    *out = t;
    return 0;
}

void tables_destroy(struct tables *t)
{
    if (t == NULL)
        return;
    pthread_mutex_destroy(&t->names_lock);
    free(t->all[0]);
    free(t->all[1]);
    free(t);
}

void table_name(struct tables *t, unsigned number, const char *name)
{
    pthread_mutex_lock(&t->names_lock);
    snprintf(t->names[number], sizeof(t->names[number]), "%s", name);
    t->weights[number] = WEIGHT_DEFAULT;
    pthread_mutex_unlock(&t->names_lock);
}

void table_weigh(struct tables *t, unsigned number, unsigned weight)
{
    pthread_mutex_lock(&t->names_lock);
    t->weights[number] = (uint16_t)weight;
    pthread_mutex_unlock(&t->names_lock);
}

void table_want(struct tables *t, uint64_t members)
{
    __atomic_store_n(&t->wanted, members, __ATOMIC_RELAXED);
    __atomic_store_n(&t->wanted_version, t->wanted_version + 1, __ATOMIC_RELEASE);
}

const struct table *table_current(const struct tables *t)
{
    return t->current;
}

const struct table *table_next(struct tables *t)
{
    assert(t->retiring == NULL);
    if (__atomic_load_n(&t->fresh, __ATOMIC_RELAXED) == NULL)
        return NULL;
    struct table *fresh = __atomic_exchange_n(&t->fresh, NULL, __ATOMIC_ACQ_REL);
    if (fresh == NULL)
        return NULL; /* the builder took it back to build a newer one */
    t->retiring = t->current;
    t->current = fresh;
    return fresh;
}

void table_retire(struct tables *t)
{
    __atomic_store_n(&t->spare, t->retiring, __ATOMIC_RELEASE);
    t->retiring = NULL;
}

/* The buffer that is not current: spare, or finished and not yet taken. */
static struct table *take_buffer(struct tables *t)
{
    for (;;) {
        struct table *b = __atomic_exchange_n(&t->spare, NULL, __ATOMIC_ACQ_REL);
        if (b == NULL)
            b = __atomic_exchange_n(&t->fresh, NULL, __ATOMIC_ACQ_REL);
        if (b != NULL)
            return b;
        sched_yield(); /* the datapath is between table_next and table_retire */
    }
}

static uint64_t clock_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

bool table_serve(struct tables *t)
{
    char names[TABLE_WORKERS_MAX][TABLE_NAME_BYTES];
    uint16_t weights[TABLE_WORKERS_MAX];
    struct maglev_backend backends[TABLE_WORKERS_MAX];
    uint32_t n = 0;
    uint64_t version = __atomic_load_n(&t->wanted_version, __ATOMIC_ACQUIRE);
    if (version == t->built_version)
        return false;
    uint64_t began_us = clock_us(), members = __atomic_load_n(&t->wanted, __ATOMIC_RELAXED);
    pthread_mutex_lock(&t->names_lock);
    memcpy(names, t->names, sizeof(names));
    memcpy(weights, t->weights, sizeof(weights));
    pthread_mutex_unlock(&t->names_lock);

    struct table *b = take_buffer(t);
    for (uint16_t i = 0; i < TABLE_WORKERS_MAX; i++)
        if (members >> i & 1)
            backends[n++] = (struct maglev_backend){names[i], i, weights[i]};
    maglev_build(b->bucket, b->size, backends, n);
    memset(b->share, 0, sizeof(b->share));
    for (uint32_t i = 0; n > 0 && i < b->size; i++)
        b->share[b->bucket[i]]++;
    b->members = members;
    b->number = ++t->count;
    b->build_us = clock_us() - began_us;
    t->built_version = version;
    __atomic_store_n(&t->fresh, b, __ATOMIC_RELEASE);
    return true;
}
