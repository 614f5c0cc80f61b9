/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Linearizability and output commit by positions.
 *
 * Within a hash slot versions order the writes. So each operation on sync
 * tables has a range of positions [low, high] in the slot's order where all it
 * saw was true at once: at or above every version it saw, below the next
 * version of each such key. A write stands exactly at its version. Sweeping
 * over time, `floor` is the highest low of all that completed: whoever is
 * invoked after it must be able to stand at or above the floor (a write: above
 * it). Whatever was seen absent, or whose removal was acknowledged, is dead:
 * who is invoked later may not see it again.
 *
 * Entries of async tables may be lost by a fail-over; for them only "a key's
 * version never goes back" is asked, between fail-overs. What is the primary's
 * alone is lost as a whole and begins above, so that it never goes back at all.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "check.h"

struct sweep {
    const struct index *x;
    const struct history *h;
    struct verdict *v;
    uint64_t *floor;          /* by slot */
    uint32_t *floor_op;       /* who set it */
    uint64_t *dead;           /* by key: versions up to it are gone */
    uint32_t *dead_op;
    uint64_t *async_floor;    /* by key, since the last fail-over */
    uint32_t *async_op;
    uint64_t *op_floor;       /* by op: floor of its slot at its invocation */
    uint32_t *op_floor_op;
    uint64_t epoch_us;        /* the last fail-over was over at */
    uint32_t under_way;       /* fail-overs */
};

/* Where an operation can stand. */
struct range {
    uint64_t low, high;
    uint64_t write_low; /* the lowest version it wrote; HIST_NEVER: none */
    const struct known *above; /* what bounds `high` */
};

static bool is_sync(const struct sweep *s, const struct hist_act *a)
{
    return a->key != HIST_NO_KEY && s->h->keys[a->key].sync;
}

static void range_sees(const struct sweep *s, struct range *r, uint16_t key, uint64_t version)
{
    const struct known *next = known_after(s->x, key, version);
    if (version > r->low)
        r->low = version;
    if (next && next->version - 1 < r->high) {
        r->high = next->version - 1;
        r->above = next;
    }
}

static struct range range_of(const struct sweep *s, const struct hist_op *op)
{
    struct range r = {0, HIST_NEVER, HIST_NEVER, NULL};
    for (int i = 0; i < op->nacts; i++) {
        const struct hist_act *a = &hist_acts(s->h, op)[i];
        if (!is_sync(s, a))
            continue;
        if (a->what == HIST_SEE && a->version)
            range_sees(s, &r, a->key, a->version);
        if (a->what == HIST_REMOVE)
            range_sees(s, &r, a->key, a->guard);
        if (a->what == HIST_WRITE && a->version) {
            if (a->version > r.low)
                r.low = a->version;
            if (a->version < r.write_low)
                r.write_low = a->version;
        }
    }
    return r;
}

/* Versions between what a write's guard names and the write itself. */
static bool guard_holds(struct sweep *s, const struct hist_op *op, const struct hist_act *a)
{
    const struct hist_key *key = &s->h->keys[a->key];
    if (a->guard == HIST_ANY)
        return true;
    const struct known *before = known_upto(s->x, a->key, a->version - 1);
    if (a->guard && before && before->version > a->guard)
        return BAD(s->v, "chain", OPS(op->id, before->first_done),
                   "%s version %" PRIu64 " replaced %" PRIu64 ", but %" PRIu64 " stood between",
                   key->name, a->version, a->guard, before->version);
    bool gone = !before || key->vanishes || before->remove_us < op->completed_us;
    if (a->guard == 0 && !gone)
        return BAD(s->v, "chain", OPS(before->first_done, op->id),
                   "%s was created at version %" PRIu64 " although version %" PRIu64
                   " was there and nobody removed it", key->name, a->version, before->version);
    return true;
}

/* An absent key: some version from the floor on must have been removable. */
static bool absence_holds(struct sweep *s, const struct hist_op *op, const struct hist_act *a,
                          uint64_t floor)
{
    const struct hist_key *key = &s->h->keys[a->key];
    const struct known *k = known_upto(s->x, a->key, floor);
    if (key->vanishes || !k)
        return true;
    const struct known *last = k;
    const struct known *end = s->x->known + s->x->first[a->key + 1];
    for (; k < end && k->wrote_after_us < op->completed_us; k++)
        if (k->remove_us < op->completed_us)
            return true;
    return BAD(s->v, "chain", OPS(last->first_done, s->op_floor_op[op->id], op->id),
               "%s was told absent although version %" PRIu64
               " was there before and nobody removed it", key->name, last->version);
}

static bool not_dead(struct sweep *s, const struct hist_op *op, const struct hist_act *a,
                     uint64_t version, uint64_t dead, uint32_t dead_op)
{
    if (!version || version == HIST_ANY || version > dead)
        return true;
    return BAD(s->v, "chain", OPS(dead_op, op->id),
               "%s version %" PRIu64 " is back although it was known to be gone",
               s->h->keys[a->key].name, version);
}

/* Everything an operation said, against what was known when it was invoked. */
static bool complete_sync(struct sweep *s, const struct hist_op *op)
{
    struct range r = range_of(s, op);
    uint64_t floor = s->op_floor[op->id];
    uint32_t by = s->op_floor_op[op->id];
    if (r.write_low != HIST_NEVER && r.write_low <= floor)
        return BAD(s->v, "chain", OPS(by, op->id),
                   "slot %u: version %" PRIu64 " was written after %" PRIu64
                   " had been seen", op->slot, r.write_low, floor);
    uint64_t need = r.write_low != HIST_NEVER ? r.write_low - 1 : r.low;
    if (r.write_low == HIST_NEVER && floor > need)
        need = floor;
    if (r.high < need)
        return BAD(s->v, "chain", OPS(r.above->first_done, by, op->id),
                   "slot %u: operation %u saw the state before version %" PRIu64
                   " of %s, and must stand at %" PRIu64 " or later", op->slot, op->id,
                   r.above->version, s->h->keys[r.above->key].name, need);
    for (int i = 0; i < op->nacts; i++) {
        const struct hist_act *a = &hist_acts(s->h, op)[i];
        if (is_sync(s, a) && a->what == HIST_WRITE && a->version && !guard_holds(s, op, a))
            return false;
        if (is_sync(s, a) && a->what == HIST_SEE && !a->version &&
            !absence_holds(s, op, a, need > floor ? need : floor))
            return false;
    }
    if (r.low > s->floor[op->slot]) {
        s->floor[op->slot] = r.low;
        s->floor_op[op->slot] = op->id;
    }
    return true;
}

static void bury(struct sweep *s, const struct hist_op *op)
{
    struct range r = range_of(s, op);
    uint64_t stands = r.low > s->op_floor[op->id] ? r.low : s->op_floor[op->id];
    if (stands >= r.write_low)
        stands = r.write_low - 1; /* what it saw was before what it wrote */
    for (int i = 0; i < op->nacts; i++) {
        const struct hist_act *a = &hist_acts(s->h, op)[i];
        if (!is_sync(s, a))
            continue;
        uint64_t gone = 0;
        if (a->what == HIST_REMOVE)
            gone = a->guard;
        if (a->what == HIST_SEE && !a->version)
            gone = stands;
        if (a->what == HIST_WRITE && a->version)
            gone = a->version - 1;
        if (gone > s->dead[a->key]) {
            s->dead[a->key] = gone;
            s->dead_op[a->key] = op->id;
        }
    }
}

/* What was dead when it was invoked may not be seen by it. The dead are noted
 * at invocation, by a second sweep's order: see sweep_run. */
static bool sees_no_dead(struct sweep *s, const struct hist_op *op)
{
    for (int i = 0; i < op->nacts; i++) {
        const struct hist_act *a = &hist_acts(s->h, op)[i];
        if (!is_sync(s, a) || op->outcome == HIST_UNKNOWN)
            continue;
        uint64_t version = a->what == HIST_SEE ? a->version : a->what == HIST_NOT ? 0 : a->guard;
        if (!not_dead(s, op, a, version, s->dead[a->key], s->dead_op[a->key]))
            return false;
    }
    return true;
}

/* --- async tables ------------------------------------------------------------- */

static bool invoke_async(struct sweep *s, const struct hist_op *op, uint64_t next_epoch_us)
{
    bool between = op->completed_us < next_epoch_us && op->invoked_us > s->epoch_us;
    if (op->outcome == HIST_UNKNOWN)
        return true;
    for (int i = 0; i < op->nacts; i++) {
        const struct hist_act *a = &hist_acts(s->h, op)[i];
        bool names = a->what == HIST_SEE || a->what == HIST_WRITE;
        if (a->key == HIST_NO_KEY || is_sync(s, a) || !names || !a->version ||
            (!between && !s->h->keys[a->key].alone))
            continue;
        if (a->version < s->async_floor[a->key])
            return BAD(s->v, "chain-async", OPS(s->async_op[a->key], op->id),
                       "%s went back from version %" PRIu64 " to %" PRIu64 "%s", s->h->keys[a->key].name, s->async_floor[a->key],
                       a->version, between ? " without a fail-over" : "");
    }
    return true;
}

static void complete_async(struct sweep *s, const struct hist_op *op)
{
    for (int i = 0; i < op->nacts; i++) {
        const struct hist_act *a = &hist_acts(s->h, op)[i];
        bool names = a->what == HIST_SEE || a->what == HIST_WRITE;
        if (a->key == HIST_NO_KEY || is_sync(s, a) || !names ||
            (op->invoked_us <= s->epoch_us && !s->h->keys[a->key].alone))
            continue;
        if (a->version > s->async_floor[a->key]) {
            s->async_floor[a->key] = a->version;
            s->async_op[a->key] = op->id;
        }
    }
}

/* --- the sweep ------------------------------------------------------------------ */

static uint64_t next_fail_over(const struct history *h, uint64_t after_us)
{
    uint64_t next = HIST_NEVER;
    for (uint32_t i = 0; i < h->nstalls; i++)
        if (h->stalls[i].promotion && h->stalls[i].to_us > after_us && h->stalls[i].from_us < next)
            next = h->stalls[i].from_us;
    return next;
}

static void async_forget(struct sweep *s, uint64_t now_us)
{
    s->epoch_us = now_us;
    for (uint32_t k = 0; k < s->h->nkeys; k++)
        if (!s->h->keys[k].alone)
            s->async_floor[k] = 0;
}

/* Nobody sees a version before its writer was invoked, and the writer itself
 * could not stand where its slot had been already. */
static bool writers_fit(struct sweep *s)
{
    for (uint32_t i = 0; i < s->x->nknown; i++) {
        const struct known *k = &s->x->known[i];
        if (k->writer == NO_OP || !s->h->keys[k->key].sync)
            continue;
        if (k->first_done_us < k->wrote_after_us)
            return BAD(s->v, "chain", OPS(k->first_done, k->writer),
                       "%s version %" PRIu64 " was seen before it was asked for",
                       s->h->keys[k->key].name, k->version);
        if (k->version <= s->op_floor[k->writer])
            return BAD(s->v, "chain", OPS(s->op_floor_op[k->writer], k->writer, k->first_done),
                       "slot %u: version %" PRIu64 " was written after %" PRIu64 " had been seen",
                       s->h->keys[k->key].slot, k->version, s->op_floor[k->writer]);
    }
    return true;
}

static int version_order(const void *pa, const void *pb)
{
    const struct known *a = *(const struct known *const *)pa, *b = *(const struct known *const *)pb;
    return a->version < b->version ? -1 : a->version > b->version;
}

/* One that ended unknown although it was answered was told that its client expired. If it
 * ran, then before: what a slot wrote before it was not asked for later than that. */
static bool nothing_runs_late(struct sweep *s, uint32_t slot, const struct known **by_version)
{
    const struct known *latest = NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->x->nknown; i++) {
        const struct known *k = &s->x->known[i];
        if (k->writer != NO_OP && s->h->keys[k->key].sync && s->h->keys[k->key].slot == slot)
            by_version[n++] = k;
    }
    qsort(by_version, n, sizeof *by_version, version_order);
    for (uint32_t i = 0; i < n; i++) {
        const struct known *k = by_version[i];
        const struct hist_op *op = &s->h->ops[k->writer];
        bool told = op->outcome == HIST_UNKNOWN && op->completed_us != HIST_NEVER;
        if (told && latest && latest->wrote_after_us > op->completed_us)
            return BAD(s->v, "chain", OPS(k->writer, latest->writer, k->first_done),
                       "slot %u: version %" PRIu64 " was written after its client was told that "
                       "it is unknown: version %" PRIu64 " came before, and was asked for later",
                       slot, k->version, latest->version);
        if (!latest || k->wrote_after_us > latest->wrote_after_us)
            latest = k;
    }
    return true;
}

static bool nothing_runs_after_stale(struct sweep *s, uint32_t slots)
{
    const struct known **room = malloc((s->x->nknown + 1ull) * sizeof *room);
    bool good = true;
    if (!room)
        abort();
    for (uint32_t slot = 0; slot < slots && good; slot++)
        good = nothing_runs_late(s, slot, room);
    free(room);
    return good;
}

static bool sweep_run(struct sweep *s, const struct moment *m, uint32_t n)
{
    uint64_t next_us = next_fail_over(s->h, 0);
    for (uint32_t i = 0; i < n; i++) {
        if (m[i].kind == FAIL_OVER_BEGINS && s->under_way++ == 0)
            async_forget(s, HIST_NEVER - 1); /* nothing counts until it is over */
        if (m[i].kind == FAIL_OVER_ENDS && --s->under_way == 0) {
            async_forget(s, m[i].at_us);
            next_us = next_fail_over(s->h, m[i].at_us);
        }
        if (m[i].kind == FAIL_OVER_BEGINS || m[i].kind == FAIL_OVER_ENDS)
            continue;
        const struct hist_op *op = &s->h->ops[m[i].op];
        if (m[i].kind == INVOKED) {
            s->op_floor[op->id] = s->floor[op->slot];
            s->op_floor_op[op->id] = s->floor_op[op->slot];
            if (!sees_no_dead(s, op) || !invoke_async(s, op, next_us))
                return false;
            continue;
        }
        if (!complete_sync(s, op))
            return false;
        bury(s, op);
        complete_async(s, op);
    }
    return writers_fit(s);
}

static uint32_t slots_of(const struct history *h)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < h->nops; i++)
        n = h->ops[i].slot < n ? n : h->ops[i].slot + 1u;
    return n;
}

bool check_chain(const struct index *x, struct verdict *v)
{
    const struct history *h = x->h;
    uint32_t slots = slots_of(h);
    size_t room = 2ull * h->nkeys + h->nops + slots + 1;
    struct sweep *s = calloc(1, sizeof *s);
    uint32_t nmoments;
    struct moment *m = moments_of(h, &nmoments);
    uint64_t *wide = calloc(room, sizeof *wide);
    uint32_t *narrow = calloc(room, sizeof *narrow);
    if (!s || !wide || !narrow)
        abort();
    *s = (struct sweep){.x = x, .h = h, .v = v};
    s->dead = wide;
    s->async_floor = wide + h->nkeys;
    s->op_floor = wide + 2 * h->nkeys;
    s->floor = s->op_floor + h->nops;
    s->dead_op = narrow;
    s->async_op = narrow + h->nkeys;
    s->op_floor_op = narrow + 2 * h->nkeys;
    s->floor_op = s->op_floor_op + h->nops;
    for (uint32_t i = 0; i < slots; i++)
        s->floor_op[i] = NO_OP;
    bool good = sweep_run(s, m, nmoments) && nothing_runs_after_stale(s, slots);
    free(narrow);
    free(wide);
    free(m);
    free(s);
    return good;
}
