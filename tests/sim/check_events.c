/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Events of expiry:
 *   true      the version was written with that token; nobody removed or
 *             replaced it and was told so; nobody sees it afterwards
 *   not early after the last acknowledged touch (of an absolute one: the write)
 *             its time-out passed
 *   not lost  a version that ended, and that nobody can have removed or
 *             replaced, was told, if the history waited for that
 * Twice is allowed, once is needed.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "check.h"

enum { SLOP_US = 2000 };

/* What operations said of one version, by its place among the known ones. */
struct life {
    uint64_t live_us;      /* touched, at the earliest; of acknowledged ones */
    uint32_t live_op;
    uint32_t end_op;       /* removed or replaced by, acknowledged; NO_OP */
    bool may_end;          /* or perhaps */
    uint64_t seen_us;      /* invoked latest of who saw it */
    uint32_t seen_op;
    uint64_t told_us;      /* first event; HIST_NEVER */
};

static uint32_t timeout_of(const struct index *x, const struct known *k)
{
    const struct hist_act *a =
        k->writer == NO_OP ? NULL : &hist_acts(x->h, &x->h->ops[k->writer])[k->writer_act];
    return a && a->timeout_ms ? a->timeout_ms : x->h->keys[k->key].timeout_ms;
}

static struct life *life_of(const struct index *x, struct life *lives, uint16_t key,
                            uint64_t version)
{
    const struct known *k = known_find(x, key, version);
    return k ? &lives[k - x->known] : NULL;
}

/* A version that `a` removes or replaces, if it does. */
static void note_end(const struct index *x, struct life *lives, const struct hist_op *op,
                     const struct hist_act *a)
{
    bool ends = a->what == HIST_REMOVE || (a->what == HIST_WRITE && a->guard);
    struct life *l = ends ? life_of(x, lives, a->key, a->guard) : NULL;
    if (!l || op->outcome == HIST_REFUSED)
        return;
    l->may_end = true;
    if (op->outcome == HIST_OK && l->end_op == NO_OP)
        l->end_op = op->id;
}

static void note_life(const struct index *x, struct life *lives, const struct hist_op *op,
                      const struct hist_act *a)
{
    struct life *l = life_of(x, lives, a->key, a->version);
    bool moves = a->what == HIST_WRITE || (a->touch && !x->h->keys[a->key].absolute);
    if (!l || op->outcome == HIST_UNKNOWN)
        return;
    if (moves && a->what != HIST_NOT && op->invoked_us >= l->live_us) {
        l->live_us = op->invoked_us;
        l->live_op = op->id;
    }
    if (a->what == HIST_SEE && op->invoked_us >= l->seen_us) {
        l->seen_us = op->invoked_us;
        l->seen_op = op->id;
    }
}

static bool event_fits(const struct index *x, struct life *lives, const struct hist_event *e,
                       struct verdict *v)
{
    const struct history *h = x->h;
    const struct hist_key *key = &h->keys[e->key];
    const struct known *k = known_find(x, e->key, e->version);
    if (!key->events)
        return BAD(v, "event", OPS(NO_OP), "an event of %s, which has none", key->name);
    if (!k) /* nobody was told of this version: its writer's token at least */
        return hist_token_op(e->token) < h->nops ||
               BAD(v, "event", OPS(NO_OP), "%s version %" PRIu64 " expired, which nobody wrote",
                   key->name, e->version);
    struct life *l = &lives[k - x->known];
    if (e->at_us < l->told_us)
        l->told_us = e->at_us;
    if (k->token && k->token != e->token)
        return BAD(v, "event", OPS(k->first_done), "%s version %" PRIu64
                   " expired with another value", key->name, e->version);
    if (l->end_op != NO_OP)
        return BAD(v, "event", OPS(l->end_op), "%s version %" PRIu64
                   " expired, but operation %u was told that it ended it", key->name, e->version,
                   l->end_op);
    if (e->at_us + SLOP_US < l->live_us + hist_least_us(h, timeout_of(x, k)))
        return BAD(v, "event-early", OPS(l->live_op), "%s version %" PRIu64
                   " (time-out %u ms) was told expired %.1f ms after it was written or touched",
                   key->name, e->version, timeout_of(x, k),
                   e->at_us > l->live_us ? (double)(e->at_us - l->live_us) / 1000.0 : 0.0);
    return true;
}

static bool life_fits(const struct index *x, const struct known *k, const struct life *l,
                      struct verdict *v)
{
    const struct hist_key *key = &x->h->keys[k->key];
    if (l->seen_us > l->told_us)
        return BAD(v, "event", OPS(l->seen_op), "%s version %" PRIu64
                   " was seen %.1f ms after it was told expired", key->name, k->version,
                   (double)(l->seen_us - l->told_us) / 1000.0);
    if (x->h->all_told && l->told_us == HIST_NEVER && !l->may_end)
        return BAD(v, "event-lost", OPS(k->writer, k->first_done), "%s version %" PRIu64
                   " is gone, nobody removed it, and no consumer was told", key->name, k->version);
    return true;
}

static void learn(const struct index *x, struct life *lives)
{
    const struct history *h = x->h;
    for (uint32_t i = 0; i < x->nknown; i++)
        lives[i] = (struct life){.live_op = NO_OP, .end_op = NO_OP, .seen_op = NO_OP,
                                 .told_us = HIST_NEVER};
    for (uint32_t i = 0; i < h->nops; i++)
        for (int j = 0; j < h->ops[i].nacts; j++) {
            const struct hist_act *a = &hist_acts(h, &h->ops[i])[j];
            if (a->key == HIST_NO_KEY || !h->keys[a->key].events)
                continue;
            note_end(x, lives, &h->ops[i], a);
            note_life(x, lives, &h->ops[i], a);
        }
}

bool check_events(const struct index *x, struct verdict *v)
{
    struct life *lives = malloc((x->nknown + 1) * sizeof *lives);
    bool good = true;
    if (!lives)
        abort();
    learn(x, lives);
    for (uint32_t i = 0; good && i < x->h->nevents; i++)
        good = event_fits(x, lives, &x->h->events[i], v);
    for (uint32_t i = 0; good && i < x->nknown; i++)
        if (x->h->keys[x->known[i].key].events)
            good = life_fits(x, &x->known[i], &lives[i], v);
    free(lives);
    return good;
}
