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
 * Before each request comes a read, sent after the wish: who cannot hear must
 * change nothing, for a view that names a deaf primary alone, or with others
 * that it keeps quiet by its heartbeats, stays until somebody heals the network.
 *
 * Thread: the owner's. One at a time per shard and node.
 */
#ifndef STATESTORE_CORE_PROPOSAL_H
#define STATESTORE_CORE_PROPOSAL_H

#include "shard.h"

struct proposal {
    bool open;
    bool asked;               /* a request is out and its answer not here */
    bool read;                /* a read was answered: the swap is next, or out */
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

enum proposal_request {
    PROPOSAL_NOTHING = 0,
    PROPOSAL_READ,            /* read the key, by a request sent from now on */
    PROPOSAL_SWAP,            /* send the compare-and-swap (old_epoch -> want) */
};

/* A newer wish of the same epoch replaces nothing: the open one goes on. */
void proposal_open(struct proposal *p, uint64_t old_epoch, const struct shard_view *want,
                   uint32_t retry_ms, uint64_t now_ms);
/* What to send now; it counts as asked. */
enum proposal_request proposal_due(struct proposal *p, uint64_t now_ms);
/* The read that it was asked for is answered; first say what stands. */
void proposal_was_read(struct proposal *p, uint64_t now_ms);
uint64_t proposal_next_ms(const struct proposal *p);
/* True: the outcome is known, in *outcome (the wish itself, or the view that
 * stands instead), and the proposal is closed. Also for views nobody asked for
 * (a watch): then only a view past old_epoch decides. */
bool proposal_answered(struct proposal *p, enum proposal_answer answer,
                       const struct shard_view *view, uint64_t now_ms,
                       struct shard_view *outcome);

#endif
