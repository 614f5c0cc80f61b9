/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See proposal.h. Requests of one wish all compare the same epoch, so at most
 * one of them swaps anything; which one does not matter. Hence sending it again
 * is harmless, and the only way to an end: the key moves past old_epoch by
 * whichever request comes first, and every other one then fails.
 */
#include "proposal.h"

#include <string.h>

enum { DELAY_DOUBLINGS = 3 };

void proposal_open(struct proposal *p, uint64_t old_epoch, const struct shard_view *want,
                   uint32_t retry_ms, uint64_t now_ms)
{
    if (p->open && p->old_epoch >= old_epoch)
        return;
    *p = (struct proposal){.open = true, .old_epoch = old_epoch, .want = *want,
                           .again_ms = now_ms, .delay_ms = retry_ms ? retry_ms : 1,
                           .retry_ms = retry_ms ? retry_ms : 1};
}

enum proposal_request proposal_due(struct proposal *p, uint64_t now_ms)
{
    if (!p->open || p->asked || now_ms < p->again_ms)
        return PROPOSAL_NOTHING;
    p->asked = true;
    return p->read ? PROPOSAL_SWAP : PROPOSAL_READ;
}

void proposal_was_read(struct proposal *p, uint64_t now_ms)
{
    if (!p->open || !p->asked || p->read)
        return;
    p->read = true;
    p->asked = false;
    p->again_ms = now_ms;
}

uint64_t proposal_next_ms(const struct proposal *p)
{
    return p->open && !p->asked ? p->again_ms : UINT64_MAX;
}

/* Later and later, for a service that is away is not helped by questions. */
static void ask_again(struct proposal *p, uint64_t now_ms)
{
    p->asked = p->read = false;
    p->again_ms = now_ms + p->delay_ms;
    if (p->delay_ms < p->retry_ms << DELAY_DOUBLINGS)
        p->delay_ms *= 2;
}

static bool decide(struct proposal *p, const struct shard_view *view, struct shard_view *outcome)
{
    p->open = p->asked = false;
    *outcome = *view;
    return true;
}

bool proposal_answered(struct proposal *p, enum proposal_answer answer,
                       const struct shard_view *view, uint64_t now_ms,
                       struct shard_view *outcome)
{
    bool past = view && view->epoch > p->old_epoch;
    if (!p->open) {
        if (past && answer == PROPOSAL_STANDS)
            *outcome = *view;
        return past && answer == PROPOSAL_STANDS;
    }
    switch (answer) {
    case PROPOSAL_SWAPPED:
        return decide(p, &p->want, outcome);
    case PROPOSAL_UNKNOWN:
        if (p->read && SHARD_BUG(BUG_UNKNOWN_TAKEN_FOR_SUCCESS))
            return decide(p, &p->want, outcome);
        if (p->read && SHARD_BUG(BUG_UNKNOWN_TAKEN_FOR_FAILURE))
            return decide(p, &(struct shard_view){.epoch = p->old_epoch}, outcome);
        ask_again(p, now_ms);
        return false;
    case PROPOSAL_STANDS:
        if (past) /* by content it may be the wish itself, swapped by a request given up */
            return decide(p, view, outcome);
        /* The service compared something else than it shows now, or this came by a
         * read or a watch: what is under way may still happen. */
        return false;
    }
    return false;
}
