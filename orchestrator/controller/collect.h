/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests of the API that many programs are asked for: each is asked at its control socket without
 * waiting (ask.h), and the request is answered when all have answered or their time is over. Who
 * did not answer is named, with why: a part of the truth is told as a part.
 *
 * The engine's loop owns it all. COLLECTS requests at a time; one more is refused.
 *
 *   c = collect_begin(e, o)                     NULL: refused, and answered
 *   collect_ask(c, name, kind, took, "trace read %u", after)     any number, also from `took`
 *   collect_wait(c, next)                       next(c) when nothing is left to wait for, perhaps
 *                                               at once: asks on and waits, or collect_answer
 */
#ifndef LETHE_ORCHESTRATOR_CONTROLLER_COLLECT_H
#define LETHE_ORCHESTRATOR_CONTROLLER_COLLECT_H

#include <jansson.h>

#include "orchestrator/controller/engine_impl.h"

enum { COLLECTS = 8, COLLECT_WORDS = 480 };

struct collect;
struct collect_reply {
    struct collect *collect;
    const char *name;         /* of the program; lent for the call */
    enum orch_kind kind;
    uint64_t asked_us, answered_us; /* our CLOCK_MONOTONIC */
    const json_t *answer;     /* lent for the call */
};
typedef void (*collect_took)(const struct collect_reply *r);
typedef void (*collect_next)(struct collect *c);

struct collect *collect_begin(struct engine *e, struct order *o);
/* One that does not answer is missing, and `took` is not called. */
void collect_ask(struct collect *c, const char *name, enum orch_kind kind, collect_took took,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));
void collect_wait(struct collect *c, collect_next next);
struct engine *collect_engine(const struct collect *c);
const struct request *collect_request(const struct collect *c);
/* What is put together: an object, and its array "missing". Borrowed. */
json_t *collect_json(struct collect *c);
/* `name` did not do it, for that reason; told once for each name. */
void collect_missing(struct collect *c, const char *name, const char *why);
/* Answers with collect_json; c is gone. */
void collect_answer(struct collect *c);

#endif
