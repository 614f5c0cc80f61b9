/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What every program says of itself, asked all the time where it answers (ask.h): "stats", and of
 * workers "status", of steering "workers". One question a program and verb is under way at most, so
 * one that is stopped holds up nobody. Everything keeps the time when it was *asked*: it is true
 * of a moment since then.
 *
 * The controller's loop owns it all.
 */
#ifndef LETHE_ORCHESTRATOR_CONTROLLER_OBSERVE_H
#define LETHE_ORCHESTRATOR_CONTROLLER_OBSERVE_H

#include <jansson.h>
#include <uv.h>

#include "orchestrator/model/desired.h"

struct observer;

/* An answer; all NULL and 0: there was none since the process began. */
struct reading {
    json_t *now, *before;     /* the newest two; lent until the loop's next turn */
    uint64_t now_ms, before_ms; /* uv_now when they were asked */
};

struct observed_program {
    struct reading stats;
    struct reading more;      /* status of a worker, workers of steering */
    char why[120];            /* the last question's failure, "" */
};

/* `news` after each answer. */
struct observer *observer_create(uv_loop_t *loop, uint32_t every_ms, uint32_t timeout_ms,
                                 void (*news)(void *ctx), void *ctx);
void observer_destroy(struct observer *o);
/* Begins, and forgets what an earlier process of that name said. path: as ask.h has it. */
void observer_watch(struct observer *o, const char *name, enum orch_kind kind, const char *path);
void observer_forget(struct observer *o, const char *name);
/* NULL: nobody watches it. */
const struct observed_program *observer_get(const struct observer *o, const char *name);

#endif
