/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Hand-made histories for the checkers' own tests: rows of operations, times
 * in milliseconds, and the check that must object ("" for none).
 */
#ifndef SIM_HANDMADE_H
#define SIM_HANDMADE_H

#include "tests/check.h"

#include "check.h"

enum { ACTS = 4, ROWS = 14, NEVER = -1 };

struct row {
    int begin_ms, end_ms;
    enum hist_outcome outcome;
    struct hist_act acts[ACTS];
};

/* What acts of a row look like. A write's token is made when the row is added;
 * TOKEN(r, a) names the token of row r's act a. */
#define SEE(k, v) {.what = HIST_SEE, .key = (k), .version = (v)}
#define SEE_TOKEN(k, v, t) {.what = HIST_SEE, .key = (k), .version = (v), .token = (t)}
#define TOUCH(k, v) {.what = HIST_SEE, .key = (k), .version = (v), .touch = 1}
#define ABSENT(k) {.what = HIST_SEE, .key = (k)}
#define INSERT(k, v) {.what = HIST_WRITE, .key = (k), .version = (v)}
#define CAS(k, g, v) {.what = HIST_WRITE, .key = (k), .guard = (g), .version = (v)}
#define REMOVE(k, g) {.what = HIST_REMOVE, .key = (k), .guard = (g)}
#define NOT_DONE(k) {.what = HIST_NOT, .key = (k), .guard = HIST_ANY}
#define ADD(k, d, v)                                                                               \
    {.what = HIST_WRITE, .key = (k), .guard = HIST_ANY, .delta = (d), .version = (v)}
#define VALUE(k, v, n)                                                                             \
    {.what = HIST_SEE, .key = (k), .version = (v), .value = (n), .has_value = true}
#define COUNT(k, d, n)                                                                             \
    {.what = HIST_WRITE, .key = (k), .guard = HIST_ANY, .delta = (d), .value = (n), .has_value = true}
#define ESTIMATE(k, n) {.what = HIST_SEE, .key = (k), .value = (n), .has_value = true}
#define TOKEN(r, a) (((r) + 1) * HIST_TOKEN_ACTS + (a))

struct story {
    const char *name, *check; /* "": all is well */
    struct row rows[ROWS];
};

/* The keys of every story, all in slot 0: two plain ones, one that expires,
 * a pool index, a sum, an async one, one whose expiry is told, one of the primary alone, a sketch's. */
enum { KEY_A, KEY_B, KEY_IDLE, KEY_PORT, KEY_SUM, KEY_ASYNC, KEY_TIMER, KEY_ALONE, KEY_SKETCH };

static inline void handmade_keys(struct history *h)
{
    hist_add_key(h, &(struct hist_key){.name = "a", .sync = true});
    hist_add_key(h, &(struct hist_key){.name = "b", .sync = true});
    hist_add_key(h, &(struct hist_key){.name = "idle", .sync = true, .vanishes = true,
                                       .timeout_ms = 1000});
    hist_add_key(h, &(struct hist_key){.name = "port", .sync = true, .vanishes = true,
                                       .pool = true, .quarantine_ms = 300});
    hist_add_key(h, &(struct hist_key){.name = "sum", .sync = true, .counter = true,
                                       .summed = true});
    hist_add_key(h, &(struct hist_key){.name = "async"});
    hist_add_key(h, &(struct hist_key){.name = "timer", .sync = true, .vanishes = true,
                                       .timeout_ms = 500, .events = true, .absolute = true});
    hist_add_key(h, &(struct hist_key){.name = "alone", .alone = true, .vanishes = true});
    hist_add_key(h, &(struct hist_key){.name = "sketch", .sketch = true, .exact = true,
                                       .vanishes = true});
}

static inline void handmade_row(struct history *h, const struct row *r)
{
    uint32_t op = hist_invoke(h, 0, 0, (uint64_t)r->begin_ms * 1000);
    for (int i = 0; i < ACTS; i++) {
        struct hist_act a = r->acts[i];
        bool empty = a.what == HIST_NOT && a.guard != HIST_ANY;
        if (empty)
            break;
        bool tokened = a.what == HIST_NOT || (a.what == HIST_WRITE && a.guard != HIST_ANY);
        if (tokened && !a.token)
            a.token = hist_token(op, i);
        hist_act(h, a);
    }
    if (r->end_ms != NEVER)
        hist_complete(h, op, r->outcome, 0, (uint64_t)r->end_ms * 1000);
}

static inline void handmade_tell(struct history *h, const struct story *s)
{
    handmade_keys(h);
    for (int i = 0; i < ROWS && (s->rows[i].end_ms || s->rows[i].begin_ms); i++)
        handmade_row(h, &s->rows[i]);
}

/* Runs one checker over each story; a fail-over lasts from 500 to 600 ms when
 * `fail_over` is set. */
static inline void handmade_check(const struct story *stories, size_t n, bool fail_over,
                                  bool (*check)(const struct index *, struct verdict *))
{
    for (size_t i = 0; i < n; i++) {
        struct history h = {0};
        struct verdict v = {0};
        struct index x;
        handmade_tell(&h, &stories[i]);
        if (fail_over)
            hist_add_stall(&h, 500000, 600000, true);
        bool good = check_index_build(&x, &h, &v) && check(&x, &v);
        CHECK(good == !v.bad, "%s", stories[i].name);
        CHECK(!strcmp(v.bad ? v.check : "", stories[i].check), "%s: expected \"%s\", got \"%s\" %s",
              stories[i].name, stories[i].check, v.bad ? v.check : "", v.text);
        check_index_free(&x);
        hist_clear(&h);
    }
}
#define HANDMADE(stories, fail_over, check)                                                        \
    handmade_check((stories), sizeof(stories) / sizeof *(stories), (fail_over), (check))

#endif
