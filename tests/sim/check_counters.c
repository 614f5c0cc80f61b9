/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Exactly once, by sums. Every addition to a summed counter adds a random
 * 40-bit number, so a value tells which additions it holds: at version v all
 * acknowledged ones up to v, a subset of the unknown ones, and nothing twice.
 * An async counter may lose acknowledged additions in a fail-over; it may not
 * hold more than was ever added.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "check.h"

enum { UNKNOWN_MAX = 22 };

struct addition {
    uint64_t version; /* 0: unknown outcome */
    uint64_t invoked_us;
    int64_t delta;
    uint32_t op;
};

bool subset_sums(const int64_t *deltas, int n, int64_t rest)
{
    if (rest == 0)
        return true;
    if (rest < 0 || n == 0)
        return false;
    return subset_sums(deltas + 1, n - 1, rest - deltas[0]) ||
           subset_sums(deltas + 1, n - 1, rest);
}

/* Of a table of the primary alone: an attempt whose primary died may have been seen, though the
 * txn is refused in the end. */
static bool may_have_been(const struct history *h, const struct hist_act *a)
{
    return h->keys[a->key].alone && a->what == HIST_NOT;
}

static uint32_t additions_of(const struct history *h, uint16_t key, struct addition *out)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < h->nops; i++) {
        const struct hist_op *op = &h->ops[i];
        for (int j = 0; j < op->nacts; j++) {
            const struct hist_act *a = &hist_acts(h, op)[j];
            bool wrote = a->what == HIST_WRITE && op->outcome != HIST_REFUSED;
            if (a->key != key || (!wrote && !may_have_been(h, a)))
                continue;
            uint64_t version = wrote && op->outcome == HIST_OK ? a->version : 0;
            out[n++] = (struct addition){version, op->invoked_us, a->delta, i};
        }
    }
    return n;
}

static bool value_fits(const struct index *x, uint16_t key, const struct hist_op *op,
                       const struct hist_act *a, const struct addition *adds, uint32_t n,
                       struct verdict *v)
{
    const struct hist_key *k = &x->h->keys[key];
    int64_t sum = 0, most = 0, unknown[UNKNOWN_MAX];
    int nunknown = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (adds[i].version && adds[i].version <= a->version)
            sum += adds[i].delta;
        if (adds[i].invoked_us <= op->completed_us)
            most += adds[i].delta;
        if (!adds[i].version && adds[i].invoked_us <= op->completed_us) {
            if (nunknown == UNKNOWN_MAX)
                return true; /* cannot tell */
            unknown[nunknown++] = adds[i].delta;
        }
    }
    if (k->sync && !subset_sums(unknown, nunknown, a->value - sum))
        return BAD(v, "exactly-once", OPS(op->id),
                   "%s is %" PRId64 " at version %" PRIu64 "; the acknowledged additions up to it "
                   "are %" PRId64 " (difference %" PRId64 ") and no subset of %d unknown ones "
                   "explains it", k->name, a->value, a->version, sum, a->value - sum, nunknown);
    if (!k->sync && a->value > most)
        return BAD(v, "exactly-once", OPS(op->id),
                   "%s is %" PRId64 ", more than was ever added (%" PRId64 ")", k->name, a->value,
                   most);
    return true;
}

static bool key_sums(const struct index *x, uint16_t key, struct addition *adds,
                     struct verdict *v)
{
    const struct history *h = x->h;
    uint32_t n = additions_of(h, key, adds);
    for (uint32_t i = 0; i < h->nops; i++)
        for (int j = 0; h->ops[i].outcome != HIST_UNKNOWN && j < h->ops[i].nacts; j++) {
            const struct hist_act *a = &hist_acts(h, &h->ops[i])[j];
            if (a->key == key && a->has_value && a->what != HIST_NOT &&
                !value_fits(x, key, &h->ops[i], a, adds, n, v))
                return false;
        }
    return true;
}

bool check_counters(const struct index *x, struct verdict *v)
{
    struct addition *adds = malloc((x->h->nacts + 1) * sizeof *adds);
    bool good = true;
    if (!adds)
        abort();
    for (uint32_t key = 0; good && key < x->h->nkeys; key++)
        if (x->h->keys[key].summed)
            good = key_sums(x, (uint16_t)key, adds, v);
    free(adds);
    return good;
}
