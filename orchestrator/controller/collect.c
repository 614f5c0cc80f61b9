/* SPDX-License-Identifier: BSD-3-Clause */
/* See collect.h. */
#include "orchestrator/controller/collect.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/controller/ask.h"

enum { PATH_BYTES = 108 };

struct question {
    struct collect *collect;
    collect_took took;
    struct ask *ask;
    struct question *next;    /* all that are under way */
    uint64_t asked_us;
    enum orch_kind kind;
    char name[ORCH_NAME];
};

struct collect {
    struct engine *engine;
    struct order *order;
    collect_next next_step;
    struct question *questions;
    struct collect *next;
    json_t *json;
};

static uint64_t now_us(void)
{
    return uv_hrtime() / 1000; /* CLOCK_MONOTONIC, as a trace's stamps */
}

struct collect *collect_begin(struct engine *e, struct order *o)
{
    uint32_t n = 0;
    for (const struct collect *c = e->collects; c; c = c->next)
        n++;
    struct collect *c = n < COLLECTS ? calloc(1, sizeof *c) : NULL;
    json_t *json = c ? json_pack("{s:[]}", "missing") : NULL;
    if (!json) {
        free(c);
        orders_answer(e, o, 503, json_pack("{s:s}", "error", "too many such requests are under way; ask again"));
        return NULL;
    }
    *c = (struct collect){.engine = e, .order = o, .next = e->collects, .json = json};
    e->collects = c;
    return c;
}

void collect_wait(struct collect *c, collect_next next)
{
    c->next_step = next;
    if (!c->questions)
        next(c);
}

struct engine *collect_engine(const struct collect *c)
{
    return c->engine;
}

const struct request *collect_request(const struct collect *c)
{
    return &c->order->request;
}

json_t *collect_json(struct collect *c)
{
    return c->json;
}

void collect_missing(struct collect *c, const char *name, const char *why)
{
    json_t *all = json_object_get(c->json, "missing"), *m;
    size_t i;
    json_array_foreach(all, i, m)
        if (!strcmp(json_string_value(json_object_get(m, "name")), name))
            return;
    json_array_append_new(all, json_pack("{s:s, s:s}", "name", name, "why", why));
}

static void unlink_question(struct collect *c, struct question *q)
{
    struct question **at = &c->questions;
    while (*at != q)
        at = &(*at)->next;
    *at = q->next;
}

static void answered(void *ctx, const json_t *answer, uint64_t sent_ms, const char *why)
{
    struct question *q = ctx;
    struct collect *c = q->collect;
    struct collect_reply r = {c, q->name, q->kind, q->asked_us, now_us(), answer};
    (void)sent_ms;
    q->ask = NULL;
    if (answer)
        q->took(&r);
    else
        collect_missing(c, q->name, why);
    unlink_question(c, q);
    free(q);
    if (!c->questions)
        c->next_step(c);
}

void collect_ask(struct collect *c, const char *name, enum orch_kind kind, collect_took took,
                 const char *format, ...)
{
    char words[COLLECT_WORDS], path[PATH_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    const struct tracked *t = engine_find(c->engine, name);
    struct question *q = t && t->other_site ? NULL : calloc(1, sizeof *q);
    if (!q) {
        collect_missing(c, name, t && t->other_site ? "what answers there is a store of another site" : "out of memory");
        return;
    }
    *q = (struct question){.collect = c, .took = took, .next = c->questions, .kind = kind};
    snprintf(q->name, sizeof q->name, "%s", name);
    engine_socket(c->engine, name, kind, path, sizeof path);
    q->asked_us = now_us();
    q->ask = ask_start(&c->engine->loop, path, words, POLL_TIMEOUT_MS, answered, q);
    if (q->ask) {
        c->questions = q;
        return;
    }
    free(q);
    collect_missing(c, name, "out of memory");
}

/* --- its end ---------------------------------------------------------------------------------- */

static json_t *take_out(struct collect *c)
{
    struct collect **at = &c->engine->collects;
    json_t *json = c->json;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    free(c);
    return json;
}

void collect_answer(struct collect *c)
{
    struct engine *e = c->engine;
    struct order *o = c->order;
    orders_answer(e, o, 200, take_out(c));
}

void collect_close(struct engine *e)
{
    struct collect *c;
    while ((c = e->collects)) {
        struct order *o = c->order;
        for (struct question *q; (q = c->questions);) {
            c->questions = q->next;
            ask_cancel(q->ask);
            free(q);
        }
        json_decref(take_out(c));
        orders_answer(e, o, 503, json_pack("{s:s}", "error", "this controller ends; ask again"));
    }
}
