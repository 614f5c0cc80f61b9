/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A wish to change a view, until its outcome is known (DESIGN 4): the part of a
 * view provider that is easy to get wrong, as a pure state machine that the
 * etcd provider and the simulator both run.
 *
 * A compare-and-swap whose answer did not come may have happened, may happen
 * yet, or never. A read that still shows the old view proves nothing. So the
 * outcome is known only when the key has moved past what was compared: by this
 * wish, by somebody else's, or by this wish sent again with the same comparison
 * (then the first, still under way, can only fail). What stands is compared by
 * content, not only by its number.
 *
 * Thread: the owner's. One at a time per shard and node.
 */
#ifndef STATESTORE_CORE_PROPOSAL_H
#define STATESTORE_CORE_PROPOSAL_H

#include "shard.h"

struct proposal {
    bool open;
    bool asked;               /* a request is out and its answer not here */
    uint64_t old_epoch;
    struct shard_view want;
    uint64_t again_ms;        /* not before, the driver's clock */
    uint32_t delay_ms;
    uint32_t retry_ms;
};

enum proposal_answer {
    PROPOSAL_SWAPPED = 1,     /* the service says that it did it */
    PROPOSAL_STANDS,          /* it did not, or this came by a read or a watch: `view` stands */
    PROPOSAL_UNKNOWN,         /* time-out, connection lost, an error after sending */
};

/* A newer wish of the same epoch replaces nothing: the open one goes on. */
void proposal_open(struct proposal *p, uint64_t old_epoch, const struct shard_view *want,
                   uint32_t retry_ms, uint64_t now_ms);
/* True: send the compare-and-swap (old_epoch -> want) now; it counts as asked. */
bool proposal_due(struct proposal *p, uint64_t now_ms);
uint64_t proposal_next_ms(const struct proposal *p);
/* True: the outcome is known, in *outcome (the wish itself, or the view that
 * stands instead), and the proposal is closed. Also for views nobody asked for
 * (a watch): then only a view past old_epoch decides. */
bool proposal_answered(struct proposal *p, enum proposal_answer answer,
                       const struct shard_view *view, uint64_t now_ms,
                       struct shard_view *outcome);

#endif
