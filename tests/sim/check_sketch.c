/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Estimates. They have no versions, so time alone says what one must hold: what was
 * added and acknowledged before it was asked for, its own addition, and of what was
 * under way, or stayed unknown, some or none; nothing twice. Additions are random
 * 40-bit numbers, so a sum tells which ones it holds. Of a sketch that goes with its
 * primary: not more than was ever added.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "check.h"

enum { OPEN_MAX = 20 };

struct addition { uint64_t invoked_us, completed_us; int64_t delta; uint32_t op; };

static uint32_t additions_of(const struct history *h, uint16_t key, struct addition *out)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < h->nops; i++) {
        const struct hist_op *op = &h->ops[i];
        for (int j = 0; j < op->nacts && op->outcome != HIST_REFUSED; j++) {
            const struct hist_act *a = &hist_acts(h, op)[j];
            bool sure = op->outcome == HIST_OK;
            if (a->key == key && a->what == HIST_WRITE)
                out[n++] = (struct addition){op->invoked_us, sure ? op->completed_us : HIST_NEVER,
                                             a->delta, i};
        }
    }
    return n;
}

static bool estimate_fits(const struct history *h, const struct hist_op *op,
                          const struct hist_act *a, const struct addition *adds, uint32_t n,
                          struct verdict *v)
{
    const struct hist_key *key = &h->keys[a->key];
    int64_t least = 0, most = 0, open[OPEN_MAX];
    int nopen = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool holds = adds[i].completed_us < op->invoked_us || adds[i].op == op->id;
        if (adds[i].invoked_us > op->completed_us)
            continue;
        most += adds[i].delta;
        if (holds)
            least += adds[i].delta;
        else if (nopen < OPEN_MAX)
            open[nopen++] = adds[i].delta;
        else
            nopen = OPEN_MAX + 1;
    }
    bool told_apart = key->exact && nopen <= OPEN_MAX;
    if (a->value >= (key->exact ? least : 0) && a->value <= most &&
        (!told_apart || subset_sums(open, nopen, a->value - least)))
        return true;
    return BAD(v, "sketch", OPS(op->id),
               "%s is estimated %" PRId64 "; acknowledged before are %" PRId64 ", asked for at all %"
               PRId64 ", and no sum of what is open between (%d) explains it", key->name, a->value,
               least, most, nopen);
}

static bool key_fits(const struct history *h, uint16_t key, struct addition *adds,
                     struct verdict *v)
{
    uint32_t n = additions_of(h, key, adds);
    for (uint32_t i = 0; i < h->nops; i++)
        for (int j = 0; h->ops[i].outcome == HIST_OK && j < h->ops[i].nacts; j++) {
            const struct hist_act *a = &hist_acts(h, &h->ops[i])[j];
            if (a->key == key && a->has_value && !estimate_fits(h, &h->ops[i], a, adds, n, v))
                return false;
        }
    return true;
}

bool check_sketch(const struct index *x, struct verdict *v)
{
    struct addition *adds = malloc((x->h->nacts + 1ull) * sizeof *adds);
    bool good = true;
    if (!adds)
        abort();
    for (uint32_t key = 0; good && key < x->h->nkeys; key++)
        if (x->h->keys[key].sketch)
            good = key_fits(x->h, (uint16_t)key, adds, v);
    free(adds);
    return good;
}
