/* SPDX-License-Identifier: BSD-3-Clause */
/* The ring of events (events.h). An event's JSON never changes once it is in the ring; answers hold
 * copies, so that no two threads share a jansson object. */
#include "orchestrator/controller/events.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "common/log/log.h"

enum { CAUSE_BYTES = 600 };

struct events {
    pthread_mutex_t lock;
    pthread_cond_t news;
    uint64_t next;            /* seq of the next one */
    bool closed;
    char epoch[20];
    json_t *ring[EVENTS_KEPT];
};

static const char *const kinds[] = {
#define X(id, text) [EVENT_##id] = text,
    EVENT_KINDS(X)
#undef X
};

struct events *events_create(void)
{
    struct events *e = calloc(1, sizeof *e);
    pthread_condattr_t attr;
    uint64_t life;
    if (!e || getrandom(&life, sizeof life, 0) != sizeof life) {
        free(e);
        return NULL;
    }
    snprintf(e->epoch, sizeof e->epoch, "%016lx", life);
    e->next = 1;
    pthread_mutex_init(&e->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&e->news, &attr);
    pthread_condattr_destroy(&attr);
    return e;
}

void events_destroy(struct events *e)
{
    if (!e)
        return;
    for (int i = 0; i < EVENTS_KEPT; i++)
        json_decref(e->ring[i]);
    pthread_cond_destroy(&e->news);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

void events_time(char to[32])
{
    struct timespec t;
    struct tm tm;
    char seconds[24];
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(to, 32, "%s.%03ldZ", seconds, t.tv_nsec / 1000000 % 1000);
}

static void word(char *to, size_t room, const json_t *v)
{
    size_t used = 0;
    *to = 0;
    if (json_is_string(v))
        snprintf(to, room, "%s", json_string_value(v));
    for (size_t i = 0; i < json_array_size(v) && used < room; i++)
        used += (size_t)snprintf(to + used, room - used, "%s%s", i ? "," : "",
                                 json_string_value(json_array_get(v, i)));
    if (json_is_number(v) || json_is_boolean(v)) {
        size_t n = json_dumpb(v, to, room - 1, JSON_ENCODE_ANY);
        to[n < room ? n : 0] = 0;
    }
}

/* The detail's words beside the others. */
static void flatten(const json_t *detail, char *to, size_t room)
{
    char text[200];
    size_t used = 0;
    const char *key;
    json_t *v;
    *to = 0;
    json_object_foreach((json_t *)detail, key, v) {
        bool quoted = json_is_string(v) || json_is_array(v);
        word(text, sizeof text, v);
        if (used < room && *text)
            used += (size_t)snprintf(to + used, room - used, quoted ? " %s=\"%s\"" : " %s=%s", key, text);
    }
}

static void no_quotes(char *text)
{
    for (; *text; text++)
        if (*text == '"')
            *text = '\'';
}

static void log_event(const json_t *o, enum event_kind kind)
{
    char detail[500], cause[CAUSE_BYTES];
    enum log_level level = kind == EVENT_ERROR                         ? LOG_LEVEL_ERROR
                           : kind == EVENT_EXIT || kind == EVENT_COPIES ? LOG_LEVEL_WARN
                                                                        : LOG_LEVEL_INFO;
    flatten(json_object_get(o, "detail"), detail, sizeof detail);
    snprintf(cause, sizeof cause, "%s", json_string_value(json_object_get(o, "cause")));
    no_quotes(cause);
    log_line(level, kinds[kind], "seq=%lld subject=\"%s\" because=%lld cause=\"%s\"%s",
             json_integer_value(json_object_get(o, "seq")), json_string_value(json_object_get(o, "subject")),
             json_integer_value(json_object_get(o, "because")), cause, detail);
}

uint64_t events_add(struct events *e, enum event_kind kind, const char *subject, uint64_t because,
                    json_t *detail, const char *cause, ...)
{
    char words[CAUSE_BYTES], now[32];
    va_list args;
    va_start(args, cause);
    vsnprintf(words, sizeof words, cause, args);
    va_end(args);
    for (char *p = words; *p; p++) /* names from outside may be anything */
        if ((unsigned char)*p >= 0x7f || (unsigned char)*p < 0x20)
            *p = '?';
    events_time(now);
    pthread_mutex_lock(&e->lock);
    uint64_t seq = e->next++;
    json_t *o = json_pack("{s:I, s:s, s:s, s:s, s:s, s:I, s:o}", "seq", (json_int_t)seq, "time", now,
                          "kind", kinds[kind], "subject", subject, "cause", words, "because",
                          (json_int_t)because, "detail", detail ? detail : json_object());
    json_decref(e->ring[seq % EVENTS_KEPT]);
    e->ring[seq % EVENTS_KEPT] = o;
    if (o)
        log_event(o, kind);
    pthread_cond_broadcast(&e->news);
    pthread_mutex_unlock(&e->lock);
    return seq;
}

/* Until there is one after `after`, or it is time. Locked. */
static void await(struct events *e, uint64_t after, uint32_t wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + (uint64_t)(wait_ms % 1000) * 1000000;
    until.tv_sec += wait_ms / 1000 + (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    while (!e->closed && e->next <= after + 1)
        if (pthread_cond_timedwait(&e->news, &e->lock, &until) == ETIMEDOUT)
            break;
}

json_t *events_after(struct events *e, uint64_t after, uint32_t limit, uint32_t wait_ms)
{
    json_t *list = json_array();
    pthread_mutex_lock(&e->lock);
    if (after >= e->next)
        after = e->next - 1; /* of an earlier life */
    if (wait_ms)
        await(e, after, wait_ms);
    uint64_t oldest = e->next > EVENTS_KEPT ? e->next - EVENTS_KEPT : 1;
    uint64_t lost = after + 1 < oldest ? oldest - after - 1 : 0, seq = after + lost;
    while (seq + 1 < e->next && json_array_size(list) < limit) {
        seq++;
        if (e->ring[seq % EVENTS_KEPT])
            json_array_append_new(list, json_deep_copy(e->ring[seq % EVENTS_KEPT]));
    }
    json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:o}", "epoch", e->epoch, "next", (json_int_t)seq,
                          "oldest", (json_int_t)oldest, "lost", (json_int_t)lost, "events", list);
    pthread_mutex_unlock(&e->lock);
    return o;
}

uint64_t events_last(struct events *e)
{
    pthread_mutex_lock(&e->lock);
    uint64_t last = e->next - 1;
    pthread_mutex_unlock(&e->lock);
    return last;
}

const char *events_epoch(const struct events *e)
{
    return e->epoch;
}

void events_close(struct events *e)
{
    pthread_mutex_lock(&e->lock);
    e->closed = true;
    pthread_cond_broadcast(&e->news);
    pthread_mutex_unlock(&e->lock);
}
