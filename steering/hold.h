/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Planned changes of the table, without loss and without reordering: which
 * packets are kept back, in which order, until when. No I/O, no clock of its
 * own, no allocation after hold_create; one thread.
 *
 * A change is *planned* for a bucket whose old owner A is there and answers: a
 * worker joined or returned, or A leaves. It is *unplanned* if A is gone: then
 * its packets go to the new owner at once, and may overtake what A still has.
 *
 *   hold_begin     the new table is taken into use; A waits, for each such A
 *      A's rings   get a marker each (common/packet/probe.h), behind all that
 *                  was put there; the caller's part
 *   hold_put       packets of buckets that moved from A are kept, in order
 *   hold_returned  both markers came back, behind all that A had: A sent it
 *   hold_release   A's packets go to the backlogs of their new owners
 *   hold_backlog_* from a worker's backlog into its rings, as they take it; what
 *                  else comes for that worker queues behind it
 *
 * A also ends to wait when the markers are overdue, when there is no room for
 * another packet, or when A is gone; then order is not kept, and nothing is lost
 * all the same. While anybody waits the caller begins no other change.
 *
 * `packets_max` bounds all that is kept, backlogs included. Packets are the
 * caller's, by pointer: given with hold_put and hold_backlog_put, taken back with
 * hold_backlog_pop or from `lost`.
 */
#ifndef LETHE_STEERING_HOLD_H
#define LETHE_STEERING_HOLD_H

#include <stdbool.h>
#include <stdint.h>

enum { HOLD_WORKERS_MAX = 64, HOLD_NOWHERE = 0xff };

#define HOLD_REASONS(X)                                                        \
    X(HOLD_MARKER, "marker")           /* both came back */                    \
    X(HOLD_OVERDUE, "overdue")         /* they did not, in time */             \
    X(HOLD_FULL, "full")               /* packets_max */                       \
    X(HOLD_WORKER_GONE, "worker_gone") /* its link, its answers, or another's */
enum hold_reason {
#define X(name, text) name,
    HOLD_REASONS(X)
#undef X
        HOLD_REASON_END
};

struct hold_packet {
    void *packet;
    uint64_t hash, given_us;
    uint32_t next;
    uint8_t side;
};

struct hold_queue { uint32_t head, tail, n; };

struct hold_group {            /* of an old owner */
    struct hold_queue kept;
    uint64_t begun_us;
    uint8_t returned;          /* bits: sides whose marker came back */
};

struct hold {                  /* to be read; written in hold.c */
    uint64_t waits;            /* bits: old owners whose markers are not back */
    uint64_t backlogged;       /* bits: workers with a backlog, on either side */
    uint64_t number;           /* of the newest change: what its markers carry */
    uint64_t timeout_us;
    uint32_t size, packets_max, free;
    uint32_t kept_n, backlog_n;
    uint8_t *from;             /* of each bucket: the old owner, or HOLD_NOWHERE */
    struct hold_packet *packets;
    struct hold_group group[HOLD_WORKERS_MAX];
    struct hold_queue backlog[HOLD_WORKERS_MAX][2];
};

/* The owner of a hash value in the table in use, -1: none. */
typedef int (*hold_pick)(void *ctx, uint64_t hash);
/* A packet that nobody is there for. */
typedef void (*hold_lost)(void *ctx, void *packet);

/* `size`: buckets of the table. Changes count from `first_number`: any, better
 * not one that an earlier front end used. 0 or -ENOMEM. */
int hold_create(uint32_t size, uint32_t packets_max, uint64_t timeout_us, uint64_t first_number,
                struct hold **out);
void hold_destroy(struct hold *h);

/* From now on `after` instead of `before`. `planned`: bits of those that are there
 * and answer. Nobody may wait. Returns who waits now: h->waits. */
uint64_t hold_begin(struct hold *h, const uint16_t *before, const uint16_t *after,
                    uint64_t planned, uint64_t run_us);

/* Must a packet of this bucket be kept? */
static inline bool hold_wants(const struct hold *h, uint32_t bucket)
{
    return h->waits != 0 && h->from[bucket] != HOLD_NOWHERE && (h->waits >> h->from[bucket] & 1);
}
/* Keeps one that hold_wants. False: no room. */
bool hold_put(struct hold *h, uint32_t bucket, void *packet, uint64_t hash, uint8_t side, uint64_t run_us);

enum hold_judgement { HOLD_STALE, HOLD_ONE, HOLD_BOTH };
/* A genuine marker came back. HOLD_STALE: of another change, or a second time. */
enum hold_judgement hold_returned(struct hold *h, unsigned owner, uint8_t side, uint64_t number);
/* Who has waited for longer than timeout_us. */
uint64_t hold_overdue(const struct hold *h, uint64_t run_us);
/* `owner` waits no more. Returns how many packets were kept. */
uint32_t hold_release(struct hold *h, unsigned owner, hold_pick pick, hold_lost lost, void *ctx);

static inline uint32_t hold_backlog(const struct hold *h, unsigned worker, uint8_t side)
{
    return h->backlog[worker][side].n;
}
/* Behind what is there. False: no room. */
bool hold_backlog_put(struct hold *h, unsigned worker, uint8_t side, void *packet, uint64_t hash,
                      uint64_t run_us);
/* The first of them, at most `max`; they stay. */
uint32_t hold_backlog_peek(const struct hold *h, unsigned worker, uint8_t side, void **packets,
                           uint32_t max);
/* The same, up to the first that was given less than age_us ago. Released ones stand behind younger ones:
 * asked for again and again, nothing stays for twice that. */
uint32_t hold_backlog_old(const struct hold *h, unsigned worker, uint8_t side, uint64_t run_us,
                          uint64_t age_us, void **packets, uint32_t max);
/* The first n are the caller's again. */
void hold_backlog_pop(struct hold *h, unsigned worker, uint8_t side, uint32_t n);
/* The worker is gone: its backlog goes to whoever is picked now. */
void hold_backlog_move(struct hold *h, unsigned worker, hold_pick pick, hold_lost lost, void *ctx);

#endif
