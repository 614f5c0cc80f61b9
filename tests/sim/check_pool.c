/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * No double allocation, and quarantine: between two allocations of one index
 * somebody freed it (or the entry that owned it went), at least quarantine_ms
 * of shard time before. Shard time runs no faster than the fastest clock, so the
 * simulated gap must be at least nearly as long.
 */
#include <inttypes.h>

#include "check.h"

enum { SLOP_US = 2000 }; /* shard time counts milliseconds */

static const struct hist_act *written_by(const struct index *x, const struct known *k)
{
    return k->writer == NO_OP ? NULL
                              : &hist_acts(x->h, &x->h->ops[k->writer])[k->writer_act];
}

static bool reuse_holds(const struct index *x, const struct known *u, const struct known *v,
                        struct verdict *out)
{
    const struct hist_key *key = &x->h->keys[v->key];
    const struct hist_act *old = written_by(x, u), *new = written_by(x, v);
    if (!old || !new || new->guard != 0)
        return true; /* not an allocation */
    const struct hist_op *op = &x->h->ops[v->writer];
    uint64_t done_us = op->completed_us < v->first_done_us ? op->completed_us : v->first_done_us;
    bool freed = u->remove_us < done_us;
    if (!freed && !old->owned)
        return BAD(out, "allocation", OPS(u->writer, v->writer),
                   "%s was given out at version %" PRIu64 " and again at %" PRIu64
                   ", and nobody freed it", key->name, u->version, v->version);
    uint64_t live_us = u->wrote_after_us > u->last_seen_us ? u->wrote_after_us : u->last_seen_us;
    if (freed && !old->owned && u->remove_us > live_us)
        live_us = u->remove_us;
    if (done_us + SLOP_US < live_us + hist_least_us(x->h, key->quarantine_ms))
        return BAD(out, "quarantine", OPS(u->writer, v->writer),
                   "%s was given out again at version %" PRIu64 " at most %.1f ms after version %"
                   PRIu64 " was still live; its quarantine is %u ms", key->name, v->version,
                   done_us > live_us ? (double)(done_us - live_us) / 1000.0 : 0.0, u->version,
                   key->quarantine_ms);
    return true;
}

bool check_pool(const struct index *x, struct verdict *v)
{
    for (uint32_t i = 1; i < x->nknown; i++) {
        const struct known *a = &x->known[i - 1], *b = &x->known[i];
        if (a->key == b->key && x->h->keys[a->key].pool && !reuse_holds(x, a, b, v))
            return false;
    }
    return true;
}
