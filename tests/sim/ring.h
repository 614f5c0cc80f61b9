/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Links by RDMA: what a primary says to a backup it writes, one-sided, into a ring in the
 * backup's memory. Such a write
 *   lands    in order, or not at all, whether the backup's process runs or is paused, and also
 *            when the primary, which posted it, is paused, or deposed by then; across a
 *            partition the card tries again, and breaks the connection after a while;
 *   is told  to the backup's processor at that moment or later;
 *   completes at the primary, which may be before that: it says that the write landed.
 * Before a replica hears of a view that another primary leads its driver fences the link, as
 * statestore/server/link.c does: nothing lands any more; what had landed, and was not told of
 * yet, is taken; the rest, and what was under way in pieces, never was.
 */
#ifndef SIM_RING_H
#define SIM_RING_H

#include <stdbool.h>
#include <stdint.h>

struct world;

enum { RING_BYTES = 24 * 1024 };

struct landed {
    uint32_t bytes;
    void *frame;
};
/* Of a connection; the dialling end's memory. */
struct ring {
    bool used;                   /* it is one by RDMA */
    bool fenced;
    uint64_t last_us;            /* when the newest write is to land */
    uint64_t waits_us, stuck_us; /* for the way to be free again: until, since */
    uint64_t deaf_until_us;
    struct landed *landed;
    uint32_t nlanded, room;      /* in `landed` */
    uint64_t bytes;              /* of those not taken */
    uint64_t ever, taken;        /* writes that landed; and those that were taken of them */
};

/* False: no room in the ring; the sender drops the frame, and sends again by its own time-out. */
bool ring_write(struct world *w, uint32_t conn, const void *frame, uint32_t bytes);
/* Nothing lands any more. What did, in order; NULL: that is all. Owned by the caller. */
void ring_fence(struct world *w, uint32_t conn);
void *ring_take(struct world *w, uint32_t conn, uint32_t *bytes);
/* The memory goes. */
void ring_close(struct ring *r);

#endif
