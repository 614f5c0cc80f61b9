/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The slow oracle: is there any order of a key's operations, consistent with
 * real time, in which each found what it says it found? Search after Wing and
 * Gong, remembering (done, state) pairs as Lowe does. A key's history is cut
 * into windows of 48 operations by invocation; what reaches over an edge of
 * its window is optional there, and a window may begin in any state, so a
 * possible history is never called impossible.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { WINDOW = 48, CARRIED = 16, SEEN_ROOM = 1 << 15, STEPS_MAX = 200000 };
#define ANY_STATE (UINT64_MAX - 1) /* HIST_ANY means "unchanged" in a step */
#define UNSEEN (1ull << 62)

/* What one operation did to one key. */
struct step {
    uint32_t op;
    uint64_t invoked_us, completed_us;
    uint64_t before, after; /* versions; HIST_ANY: whatever it was */
    bool optional;
};

struct search {
    struct step step[64];
    uint32_t nsteps;
    bool vanishes;
    uint64_t must;          /* bit mask of the steps that are not optional */
    uint64_t *seen;         /* hash set of states */
    uint32_t visited;
    uint64_t best;          /* most steps done, for the verdict */
};

/* Of an unknown write: a version nobody saw (yet: settle_unknown); a counter's
 * addition leaves no token, so any version seen later may be it. */
static uint64_t unseen_version(const struct history *h, const struct hist_op *op,
                               const struct hist_act *a)
{
    return h->keys[a->key].counter ? ANY_STATE : UNSEEN + op->id;
}

static bool step_of(const struct history *h, const struct hist_op *op, uint16_t key,
                    struct step *out)
{
    bool any = false;
    for (int i = 0; i < op->nacts; i++) {
        const struct hist_act *a = &hist_acts(h, op)[i];
        bool told = op->outcome != HIST_UNKNOWN;
        if (a->key != key || a->what == HIST_NOT || (!told && a->what == HIST_SEE))
            continue;
        uint64_t before = a->what == HIST_SEE ? a->version : a->guard;
        if (!any)
            *out = (struct step){op->id, op->invoked_us, op->completed_us, before, HIST_ANY, !told};
        any = true;
        if (a->what == HIST_REMOVE)
            out->after = 0;
        if (a->what == HIST_WRITE)
            out->after = told ? a->version : unseen_version(h, op, a);
    }
    return any;
}

static bool remembered(struct search *s, uint64_t done, uint64_t state)
{
    uint64_t mark = (done * 0x9e3779b97f4a7c15ull) ^ ((state + 1) * 0xc2b2ae3d27d4eb4full);
    mark ^= mark >> 29;
    mark |= 1; /* 0 is an empty place */
    uint32_t at = (uint32_t)(mark >> 20) & (SEEN_ROOM - 1);
    for (uint32_t i = 0; i < 64; i++, at = (at + 1) & (SEEN_ROOM - 1)) {
        if (s->seen[at] == mark)
            return true;
        if (!s->seen[at]) {
            s->seen[at] = mark;
            return false;
        }
    }
    return false;
}

static bool fits(const struct search *s, const struct step *step, uint64_t state)
{
    if (step->before == HIST_ANY || state == ANY_STATE || step->before == state)
        return true;
    return step->before == 0 && s->vanishes; /* it vanished just before */
}

static uint64_t state_after(const struct step *step, uint64_t state)
{
    if (step->after != HIST_ANY)
        return step->after;
    return step->before != HIST_ANY ? step->before : state;
}

static bool explore(struct search *s, uint64_t done, uint64_t state)
{
    if ((done & s->must) == s->must || ++s->visited > STEPS_MAX)
        return true; /* found, or given up: the chain check has the last word */
    if (remembered(s, done, state))
        return false;
    if (__builtin_popcountll(done) > __builtin_popcountll(s->best))
        s->best = done;
    uint64_t deadline_us = HIST_NEVER;
    for (uint32_t i = 0; i < s->nsteps; i++)
        if (!(done >> i & 1) && !s->step[i].optional && s->step[i].completed_us < deadline_us)
            deadline_us = s->step[i].completed_us;
    for (uint32_t i = 0; i < s->nsteps; i++) {
        const struct step *step = &s->step[i];
        if (done >> i & 1 || step->invoked_us > deadline_us || !fits(s, step, state))
            continue;
        if (explore(s, done | 1ull << i, state_after(step, state)))
            return true;
    }
    return false;
}

static bool window_holds(struct search *s, const struct index *x, uint16_t key, bool at_start,
                         struct verdict *v)
{
    s->must = 0;
    s->visited = 0;
    s->best = 0;
    s->vanishes = x->h->keys[key].vanishes;
    memset(s->seen, 0, SEEN_ROOM * sizeof *s->seen);
    for (uint32_t i = 0; i < s->nsteps; i++)
        if (!s->step[i].optional)
            s->must |= 1ull << i;
    if (explore(s, 0, at_start ? 0 : ANY_STATE))
        return true;
    uint32_t ops[VERDICT_OPS];
    int n = 0;
    for (uint32_t i = 0; i < s->nsteps && n < VERDICT_OPS; i++)
        if (!(s->best >> i & 1) && !s->step[i].optional)
            ops[n++] = s->step[i].op;
    return verdict_say(v, "search", ops, n, "%s: no order of %u operations explains these",
                       x->h->keys[key].name, s->nsteps);
}

/* Steps i .. i + WINDOW - 1, and what reaches into them from before. False:
 * too much does, and nothing is asked of this window. */
static bool window_fill(struct search *s, const struct step *all, uint32_t n, uint32_t i)
{
    uint64_t from_us = all[i].invoked_us;
    uint64_t to_us = i + WINDOW < n ? all[i + WINDOW].invoked_us : HIST_NEVER;
    s->nsteps = 0;
    for (uint32_t j = i; j-- > 0;) {
        if (all[j].completed_us < from_us)
            continue;
        if (s->nsteps == CARRIED)
            return false;
        s->step[s->nsteps] = all[j];
        s->step[s->nsteps++].optional = true;
    }
    for (uint32_t j = i; j < n && j < i + WINDOW; j++) {
        s->step[s->nsteps] = all[j];
        s->step[s->nsteps++].optional |= all[j].completed_us >= to_us;
    }
    return true;
}

/* Steps of every sync key in one pass: ops are in order of invocation. Pools
 * and counters that reactions change have versions nobody asked for. */
struct bucket {
    struct step *steps;
    uint32_t n, room;
};

static void bucket_add(struct bucket *b, const struct step *step)
{
    if (b->n == b->room) {
        b->room = b->room ? b->room * 2 : 64;
        b->steps = realloc(b->steps, b->room * sizeof *b->steps);
        if (!b->steps)
            abort();
    }
    b->steps[b->n++] = *step;
}

/* An unknown write whose token was seen has a version after all. */
static void settle_unknown(const struct index *x, struct bucket *all)
{
    for (uint32_t i = 0; i < x->nknown; i++) {
        const struct known *k = &x->known[i];
        if (k->writer == NO_OP || x->h->ops[k->writer].outcome != HIST_UNKNOWN)
            continue;
        struct bucket *b = &all[k->key];
        for (uint32_t j = 0; j < b->n; j++)
            if (b->steps[j].op == k->writer)
                b->steps[j].after = k->version;
    }
}

static void buckets_fill(const struct index *x, struct bucket *all)
{
    const struct history *h = x->h;
    for (uint32_t i = 0; i < h->nops; i++)
        for (int j = 0; j < h->ops[i].nacts; j++) {
            uint16_t key = hist_acts(h, &h->ops[i])[j].key;
            bool counted = key != HIST_NO_KEY && h->keys[key].sync && !h->keys[key].pool &&
                           (!h->keys[key].counter || h->keys[key].summed);
            struct step step;
            if (counted && step_of(h, &h->ops[i], key, &step) &&
                (!all[key].n || all[key].steps[all[key].n - 1].op != i))
                bucket_add(&all[key], &step);
        }
    settle_unknown(x, all);
}

bool check_search(const struct index *x, struct verdict *v)
{
    struct search *s = calloc(1, sizeof *s);
    struct bucket *all = calloc(x->h->nkeys + 1, sizeof *all);
    bool good = true;
    if (!s || !all)
        abort();
    s->seen = malloc(SEEN_ROOM * sizeof *s->seen);
    if (!s->seen)
        abort();
    buckets_fill(x, all);
    for (uint32_t key = 0; key < x->h->nkeys; key++) {
        for (uint32_t i = 0; good && i < all[key].n; i += WINDOW) {
            if (window_fill(s, all[key].steps, all[key].n, i))
                good = window_holds(s, x, (uint16_t)key, i == 0, v);
        }
        free(all[key].steps);
    }
    free(s->seen);
    free(all);
    free(s);
    return good;
}
