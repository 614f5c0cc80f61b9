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
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/metrics/text.h"

struct metric_histogram { /* relaxed stores and loads: the sum may be a moment ahead */
    uint64_t bucket[HISTOGRAM_BUCKETS], sum;
    int first, last;
};

struct entry {
    char name[METRIC_NAME_MAX];
    const char *help;
    struct metric_histogram *histogram;
    uint16_t family;          /* the first entry with this name up to the labels */
    uint8_t type;             /* enum metric_type */
};

struct collector { void (*collect)(void *ctx, struct metrics_text *to); void *ctx; };

struct metrics {
    struct metric values[METRICS_MAX];
    struct entry entries[METRICS_MAX];
    _Atomic uint32_t count;            /* add_metric stores; partner: metrics_json's load */
    struct metric_histogram histograms[HISTOGRAMS_MAX];
    uint32_t nhistograms, ncollectors; /* under the lock */
    struct collector collectors[COLLECTORS_MAX];
    pthread_mutex_t registering;
    uint64_t started_ms, started_s; /* monotonic; of the calendar */
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
    m->started_s = (uint64_t)time(NULL);
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

static size_t family_len(const char *name)
{
    return strcspn(name, "{");
}

static uint16_t family_of(const struct metrics *m, uint32_t n, const char *name)
{
    size_t len = family_len(name);
    for (uint32_t i = 0; i < n; i++)
        if (family_len(m->entries[i].name) == len && !memcmp(m->entries[i].name, name, len))
            return m->entries[i].family;
    return (uint16_t)n;
}

/* Under the lock. -1: full. */
static int add_entry(struct metrics *m, enum metric_type type, const char *name, const char *help)
{
    uint32_t n = atomic_load_explicit(&m->count, memory_order_relaxed); /* under the lock */
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(m->entries[i].name, name) == 0)
            return (int)i;
    if (n == METRICS_MAX || strlen(name) >= METRIC_NAME_MAX ||
        (type == METRIC_HISTOGRAM && m->nhistograms == HISTOGRAMS_MAX))
        return -1;
    struct entry *e = &m->entries[n];
    strcpy(e->name, name);
    e->help = help;
    e->type = (uint8_t)type;
    e->family = family_of(m, n, name);
    if (type == METRIC_HISTOGRAM)
        e->histogram = &m->histograms[m->nhistograms++];
    atomic_store_explicit(&m->count, n + 1, memory_order_release);
    return (int)n;
}

static struct metric *add_metric(struct metrics *m, enum metric_type type, const char *name,
                                 const char *help)
{
    pthread_mutex_lock(&m->registering);
    int i = add_entry(m, type, name, help);
    pthread_mutex_unlock(&m->registering);
    return i < 0 ? NULL : &m->values[i];
}

struct metric *metrics_counter(struct metrics *m, const char *name, const char *help)
{
    return add_metric(m, METRIC_COUNTER, name, help);
}

struct metric *metrics_gauge(struct metrics *m, const char *name, const char *help)
{
    return add_metric(m, METRIC_GAUGE, name, help);
}

struct metric_histogram *metrics_histogram(struct metrics *m, const char *name, const char *help,
                                           int first, int last)
{
    pthread_mutex_lock(&m->registering);
    int i = add_entry(m, METRIC_HISTOGRAM, name, help);
    struct metric_histogram *h = i < 0 ? NULL : m->entries[i].histogram;
    if (h) {
        h->first = first;
        h->last = last;
    }
    pthread_mutex_unlock(&m->registering);
    return h;
}

void metric_histogram_set(struct metric_histogram *to, const struct histogram *from)
{
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
        __atomic_store_n(&to->bucket[i], from->bucket[i], __ATOMIC_RELAXED);
    __atomic_store_n(&to->sum, from->sum, __ATOMIC_RELAXED);
}

static void histogram_get(const struct metric_histogram *from, struct histogram *to)
{
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
        to->bucket[i] = __atomic_load_n(&from->bucket[i], __ATOMIC_RELAXED);
    to->sum = __atomic_load_n(&from->sum, __ATOMIC_RELAXED);
}

void metrics_collector(struct metrics *m, void (*collect)(void *ctx, struct metrics_text *to),
                       void *ctx)
{
    pthread_mutex_lock(&m->registering);
    if (m->ncollectors < COLLECTORS_MAX)
        m->collectors[m->ncollectors++] = (struct collector){collect, ctx};
    pthread_mutex_unlock(&m->registering);
}

/* --- telling ----------------------------------------------------------------------- */

static json_t *entry_json(struct metrics *m, uint32_t i)
{
    struct histogram h;
    uint64_t count = 0;
    if (m->entries[i].type != METRIC_HISTOGRAM)
        return json_integer((json_int_t)metric_get(&m->values[i]));
    histogram_get(m->entries[i].histogram, &h);
    for (int k = 0; k < HISTOGRAM_BUCKETS; k++)
        count += h.bucket[k];
    return json_pack("{s:I, s:I}", "count", (json_int_t)count, "sum", (json_int_t)h.sum);
}

json_t *metrics_json(struct metrics *m)
{
    json_t *o = json_pack("{s:s, s:i, s:I}", "instance", m->instance, "pid", (int)getpid(),
                          "uptime_ms", (json_int_t)(now_ms() - m->started_ms));
    uint32_t n = atomic_load_explicit(&m->count, memory_order_acquire);
    for (uint32_t i = 0; i < n; i++)
        if (json_object_set_new(o, m->entries[i].name, entry_json(m, i)) != 0) {
            json_decref(o);
            return NULL;
        }
    return o;
}

/* What stands between the braces of a name. */
static int labels_of(const char *name, const char **labels)
{
    size_t at = family_len(name);
    *labels = name + at + (name[at] == '{');
    return (int)strcspn(*labels, "}");
}

static void write_entry(struct metrics *m, struct metrics_text *t, uint32_t i)
{
    struct histogram h;
    const struct entry *e = &m->entries[i];
    char text[METRIC_NAME_MAX];
    const char *labels;
    int len = labels_of(e->name, &labels);
    snprintf(text, sizeof text, "%.*s", len, labels);
    if (e->type == METRIC_HISTOGRAM) {
        histogram_get(e->histogram, &h);
        text_histogram(t, &h, e->histogram->first, e->histogram->last, text);
    } else if (*text) {
        text_sample(t, metric_get(&m->values[i]), "%s", text);
    } else {
        text_value(t, metric_get(&m->values[i]));
    }
}

static void write_entries(struct metrics *m, struct metrics_text *t)
{
    char family[METRIC_NAME_MAX];
    uint32_t n = atomic_load_explicit(&m->count, memory_order_acquire);
    for (uint32_t i = 0; i < n; i++) {
        const struct entry *e = &m->entries[i];
        if (e->family != i)
            continue;
        snprintf(family, sizeof family, "%.*s", (int)family_len(e->name), e->name);
        text_family(t, (enum metric_type)e->type, family, e->help);
        for (uint32_t k = i; k < n; k++)
            if (m->entries[k].family == i)
                write_entry(m, t, k);
    }
}

static uint64_t resident_bytes(void)
{
    unsigned long all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%lu %lu", &all, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t microseconds(const struct timeval *t)
{
    return (uint64_t)t->tv_sec * 1000000 + (uint64_t)t->tv_usec;
}

static void write_process(const struct metrics *m, struct metrics_text *t)
{
    char name[160];
    struct rusage used = {0};
    getrusage(RUSAGE_SELF, &used);
    text_family(t, METRIC_GAUGE, "lethe_build_info", "which program this is; always 1");
    text_sample(t, 1, "instance_name=\"%s\",version=\"%s\"",
                text_label(name, sizeof name, m->instance), LETHE_VERSION);
    text_family(t, METRIC_COUNTER, "process_cpu_us_total", "processor time used");
    text_value(t, microseconds(&used.ru_utime) + microseconds(&used.ru_stime));
    text_family(t, METRIC_GAUGE, "process_resident_memory_bytes", "memory in use");
    text_value(t, resident_bytes());
    text_family(t, METRIC_GAUGE, "process_start_time_seconds", "since 1970");
    text_value(t, m->started_s);
}

char *metrics_text(struct metrics *m, size_t *len)
{
    struct metrics_text t = {0};
    write_process(m, &t);
    write_entries(m, &t);
    for (uint32_t i = 0; i < m->ncollectors; i++)
        m->collectors[i].collect(m->collectors[i].ctx, &t);
    if (t.failed) {
        text_free(&t);
        return NULL;
    }
    *len = t.used;
    return t.at;
}
