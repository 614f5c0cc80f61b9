/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The registry: a fixed array that only grows. Registering takes a lock;
 * `count` is stored last, so a reader that sees it sees complete entries
 * without the lock. Values are each written by one thread (control.h).
 */
#include "common/metrics/metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct entry { char name[METRIC_NAME_MAX]; const char *help; };

struct metrics {
    struct metric values[METRICS_MAX];
    struct entry entries[METRICS_MAX];
    _Atomic uint32_t count;            /* add_metric stores; partner: metrics_json's load */
    pthread_mutex_t registering;
    uint64_t started_ms;
    char instance[64];
};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

struct metrics *metrics_create(const char *instance)
{
    struct metrics *m = aligned_alloc(64, (sizeof *m + 63) / 64 * 64);
    if (!m)
        return NULL;
    memset(m, 0, sizeof *m);
    pthread_mutex_init(&m->registering, NULL);
    m->started_ms = now_ms();
    snprintf(m->instance, sizeof m->instance, "%s", instance);
    return m;
}

void metrics_destroy(struct metrics *m)
{
    if (!m)
        return;
    pthread_mutex_destroy(&m->registering);
    free(m);
}

static struct metric *add_metric(struct metrics *m, const char *name, const char *help)
{
    struct metric *found = NULL;
    pthread_mutex_lock(&m->registering);
    uint32_t n = atomic_load_explicit(&m->count, memory_order_relaxed); /* under the lock */
    for (uint32_t i = 0; i < n && !found; i++)
        if (strcmp(m->entries[i].name, name) == 0)
            found = &m->values[i];
    if (!found && n < METRICS_MAX && strlen(name) < METRIC_NAME_MAX) {
        strcpy(m->entries[n].name, name);
        m->entries[n].help = help;
        found = &m->values[n];
        atomic_store_explicit(&m->count, n + 1, memory_order_release);
    }
    pthread_mutex_unlock(&m->registering);
    return found;
}

struct metric *metrics_counter(struct metrics *m, const char *name, const char *help)
{
    return add_metric(m, name, help);
}

struct metric *metrics_gauge(struct metrics *m, const char *name, const char *help)
{
    return add_metric(m, name, help);
}

json_t *metrics_json(struct metrics *m)
{
    json_t *o = json_pack("{s:s, s:i, s:I}", "instance", m->instance, "pid", (int)getpid(),
                          "uptime_ms", (json_int_t)(now_ms() - m->started_ms));
    uint32_t n = atomic_load_explicit(&m->count, memory_order_acquire);
    for (uint32_t i = 0; i < n; i++)
        if (json_object_set_new(o, m->entries[i].name,
                                json_integer((json_int_t)metric_get(&m->values[i]))) != 0) {
            json_decref(o);
            return NULL;
        }
    return o;
}
