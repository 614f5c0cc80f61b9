/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Idle time-outs, in simulated time, which shard time outruns only as far as
 * clocks are fast:
 *   never early  who is told "absent" finishes at least T after the last
 *                acknowledged touch or write was invoked, unless somebody may
 *                have removed the entry;
 *   not for ever who sees an entry began at most T + g + slack (and whatever
 *                time the shard stood still) after the last possible touch.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "check.h"

enum { SLOP_US = 2000, LATE_SLACK_MS = 1500, UNKNOWN_LIVES_US = 5000000 };

/* What the sweep knows of a key's entry. */
struct proof {
    uint64_t version, live_us; /* touched at live_us at the earliest */
    uint32_t op;
    uint64_t touched_us;       /* touched at the latest; by anybody */
    uint32_t timeout_ms;       /* of this version */
};

/* Somebody may have removed or replaced it before `op` was answered. */
static bool excused(const struct index *x, uint16_t key, uint64_t version,
                    const struct hist_op *op)
{
    const struct known *k = known_find(x, key, version);
    if (k && k->remove_us < op->completed_us)
        return true;
    const struct known *end = x->known + x->first[key + 1];
    for (k = known_after(x, key, version); k && k < end; k++)
        if (k->writer != op->id && k->wrote_after_us < op->completed_us)
            return true;
    return false;
}

static bool not_early(const struct index *x, const struct proof *p, const struct hist_op *op,
                      const struct hist_act *a, struct verdict *v)
{
    const struct hist_key *key = &x->h->keys[a->key];
    bool absent = (a->what == HIST_SEE && !a->version) ||
                  (a->what == HIST_WRITE && a->guard == 0);
    uint64_t due_us = p->live_us + hist_least_us(x->h, p->timeout_ms);
    if (!absent || !p->version || op->completed_us + SLOP_US >= due_us ||
        excused(x, a->key, p->version, op))
        return true;
    return BAD(v, "timer-early", OPS(p->op, op->id),
               "%s (time-out %u ms) was absent %.1f ms after version %" PRIu64
               " was touched or written", key->name, p->timeout_ms,
               (double)(op->completed_us - p->live_us) / 1000.0, p->version);
}

static uint64_t stalled_us(const struct history *h, uint64_t from_us, uint64_t to_us)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < h->nstalls; i++) {
        uint64_t a = h->stalls[i].from_us > from_us ? h->stalls[i].from_us : from_us;
        uint64_t b = h->stalls[i].to_us < to_us ? h->stalls[i].to_us : to_us;
        sum += b > a ? b - a : 0;
    }
    return sum;
}

static bool not_late(const struct index *x, const struct proof *p, const struct hist_op *op,
                     const struct hist_act *a, struct verdict *v)
{
    const struct hist_key *key = &x->h->keys[a->key];
    if (a->what != HIST_SEE || !a->version || key->grouped || !p->touched_us ||
        op->invoked_us <= p->touched_us || a->version != p->version)
        return true;
    const struct known *k = known_find(x, a->key, a->version);
    if (k && (k->writer == NO_OP || k->wrote_after_us > p->touched_us))
        return true; /* a write whose end nobody told */
    uint64_t g_ms = p->timeout_ms / 8 > 100 ? p->timeout_ms / 8 : 100;
    uint64_t most_us = hist_most_us(x->h, p->timeout_ms + g_ms + LATE_SLACK_MS) +
                       stalled_us(x->h, p->touched_us, op->invoked_us);
    if (op->invoked_us - p->touched_us <= most_us)
        return true;
    return BAD(v, "timer-late", OPS(p->op, op->id),
               "%s (time-out %u ms) was still there %.1f ms after the last touch", key->name,
               p->timeout_ms, (double)(op->invoked_us - p->touched_us) / 1000.0);
}

static void touched(struct proof *p, uint64_t until_us)
{
    if (until_us > p->touched_us)
        p->touched_us = until_us;
}

/* At invocation: an op that may touch does so until it completes. */
static void may_touch(const struct index *x, struct proof *p, const struct hist_op *op,
                      const struct hist_act *a)
{
    bool touch = (a->touch || a->maybe) && !x->h->keys[a->key].absolute;
    if (touch || a->what == HIST_WRITE)
        touched(p, op->completed_us == HIST_NEVER || op->outcome == HIST_UNKNOWN
                       ? op->invoked_us + UNKNOWN_LIVES_US
                       : op->completed_us);
}

/* At completion: what is now certain. */
static void learn(const struct index *x, struct proof *p, const struct hist_op *op,
                  const struct hist_act *a)
{
    const struct hist_key *key = &x->h->keys[a->key];
    bool moved = a->what == HIST_WRITE ||
                 (a->what == HIST_SEE && a->touch && !a->maybe && !key->absolute);
    if ((a->what != HIST_SEE && a->what != HIST_WRITE) || a->version < p->version || !a->version)
        return;
    if (a->version > p->version) {
        const struct known *k = known_find(x, a->key, a->version);
        p->version = a->version;
        p->live_us = k ? k->wrote_after_us : 0;
        p->op = op->id;
        p->timeout_ms = key->timeout_ms;
        if (k && k->writer != NO_OP) {
            uint32_t ms = hist_acts(x->h, &x->h->ops[k->writer])[k->writer_act].timeout_ms;
            p->timeout_ms = ms ? ms : p->timeout_ms;
        }
    }
    if (moved && (a->what == HIST_SEE || a->guard == 0) && op->invoked_us > p->live_us) {
        p->live_us = op->invoked_us;
        p->op = op->id;
    }
}

static bool sweep(const struct index *x, const struct moment *m, uint32_t n, struct proof *proofs,
                  struct verdict *v)
{
    for (uint32_t i = 0; i < n; i++) {
        if (m[i].kind != INVOKED && m[i].kind != COMPLETED)
            continue;
        const struct hist_op *op = &x->h->ops[m[i].op];
        for (int j = 0; j < op->nacts; j++) {
            const struct hist_act *a = &hist_acts(x->h, op)[j];
            if (a->key == HIST_NO_KEY || !x->h->keys[a->key].timeout_ms ||
                !x->h->keys[a->key].sync)
                continue;
            struct proof *p = &proofs[a->key];
            bool told = op->outcome != HIST_UNKNOWN;
            if (m[i].kind == INVOKED && told &&
                (!not_early(x, p, op, a, v) || !not_late(x, p, op, a, v)))
                return false;
            if (m[i].kind == INVOKED)
                may_touch(x, p, op, a);
            else
                learn(x, p, op, a);
        }
    }
    return true;
}

bool check_timers(const struct index *x, struct verdict *v)
{
    const struct history *h = x->h;
    uint32_t n;
    struct moment *m = moments_of(h, &n);
    struct proof *proofs = calloc(h->nkeys + 1, sizeof *proofs);
    if (!proofs)
        abort();
    bool good = sweep(x, m, n, proofs, v);
    free(proofs);
    free(m);
    return good;
}
