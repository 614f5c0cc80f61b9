/* SPDX-License-Identifier: BSD-3-Clause */
/* Polling the programs (observe.h). */
#include "orchestrator/controller/observe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/controller/ask.h"

enum { VERBS = 2 };

struct target;

struct question {
    struct target *target;
    const char *verb;         /* NULL: not asked of this kind */
    struct reading *reading;
    struct ask *ask;          /* under way */
};

struct target {
    char name[ORCH_NAME], path[ASK_PATH];
    struct observer *observer;
    struct target *next;
    struct observed_program known;
    struct question questions[VERBS];
};

struct observer {
    uv_loop_t *loop;
    uv_timer_t timer;
    uint32_t timeout_ms;
    void (*news)(void *ctx);
    void *ctx;
    struct target *targets;
};

static void answered(void *ctx, const json_t *answer, uint64_t sent_ms, const char *why)
{
    struct question *q = ctx;
    struct reading *r = q->reading;
    q->ask = NULL;
    snprintf(q->target->known.why, sizeof q->target->known.why, "%s", why ? why : "");
    if (answer) {
        json_decref(r->before);
        r->before = r->now;
        r->before_ms = r->now_ms;
        r->now = json_incref((json_t *)answer);
        r->now_ms = sent_ms;
    }
    q->target->observer->news(q->target->observer->ctx);
}

static void ask_target(struct target *t)
{
    for (int i = 0; i < VERBS; i++) {
        struct question *q = &t->questions[i];
        if (q->verb && !q->ask)
            q->ask = ask_start(t->observer->loop, t->path, q->verb, t->observer->timeout_ms, answered, q);
    }
}

static void ask_all(uv_timer_t *timer)
{
    struct observer *o = timer->data;
    for (struct target *t = o->targets; t; t = t->next)
        ask_target(t);
}

static void reading_free(struct reading *r)
{
    json_decref(r->now);
    json_decref(r->before);
}

static void drop(struct target *t)
{
    for (int i = 0; i < VERBS; i++)
        if (t->questions[i].ask)
            ask_cancel(t->questions[i].ask);
    reading_free(&t->known.stats);
    reading_free(&t->known.more);
    free(t);
}

void observer_forget(struct observer *o, const char *name)
{
    for (struct target **at = &o->targets; *at; at = &(*at)->next)
        if (!strcmp((*at)->name, name)) {
            struct target *gone = *at;
            *at = gone->next;
            drop(gone);
            return;
        }
}

void observer_watch(struct observer *o, const char *name, enum orch_kind kind, const char *path)
{
    static const char *const more[] = {[ORCH_STEERING] = "workers", [ORCH_WORKER] = "status"};
    observer_forget(o, name);
    struct target *t = calloc(1, sizeof *t);
    if (!t)
        return; /* it stays unknown */
    snprintf(t->name, sizeof t->name, "%s", name);
    snprintf(t->path, sizeof t->path, "%s", path);
    t->observer = o;
    t->next = o->targets;
    t->questions[0] = (struct question){.target = t, .verb = "stats", .reading = &t->known.stats};
    t->questions[1] = (struct question){.target = t, .verb = more[kind], .reading = &t->known.more};
    o->targets = t;
    ask_target(t);
}

const struct observed_program *observer_get(const struct observer *o, const char *name)
{
    for (const struct target *t = o->targets; t; t = t->next)
        if (!strcmp(t->name, name))
            return &t->known;
    return NULL;
}

struct observer *observer_create(uv_loop_t *loop, uint32_t every_ms, uint32_t timeout_ms,
                                 void (*news)(void *ctx), void *ctx)
{
    struct observer *o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    *o = (struct observer){.loop = loop, .timeout_ms = timeout_ms, .news = news, .ctx = ctx};
    uv_timer_init(loop, &o->timer);
    o->timer.data = o;
    uv_timer_start(&o->timer, ask_all, 0, every_ms);
    return o;
}

static void closed(uv_handle_t *handle)
{
    free(handle->data);
}

void observer_destroy(struct observer *o)
{
    while (o->targets) {
        struct target *t = o->targets;
        o->targets = t->next;
        drop(t);
    }
    ask_close(o->loop);
    uv_close((uv_handle_t *)&o->timer, closed);
}
