/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One-sided gets, the part that decides: where entries are remembered to be, how long
 * their primary may be read, and whether what was read may be believed. Pure: no verbs,
 * no clock, no channel; onesided.c does the reading, the simulator tears the copies.
 *
 * WHAT IS REMEMBERED. A get's reply may be preceded by MSG_PLACES (common/wire/msg.h): the
 * address, key and incarnation of the record that each get found. A place is a hint: it
 * says nothing about what is there now. It counts only
 *   - in the era it was learnt in: an era of a session ends with its connection, hence with
 *     the primary's process, and whenever a frame comes from another view epoch. A replica
 *     that discards its state leaves the view first, so (node, incarnation) changes with it;
 *   - while the client's map gives the hash slot to the same shard under the same slot
 *     epoch. The client may be late to hear of a move; that is why RELEASE changes the
 *     incarnation of every record of the slot before anything else can come of the move
 *     (statestore/core/move.c): ACCEPT needs RELEASE committed, which needs it applied at
 *     the source, whose memory this is. A primary of the source that never applied it is
 *     one whose lease is over.
 *   - for PLACE_MS since it was learnt or last believed: so long, and longer, a primary keeps
 *     memory registered that it gave back (statestore/server/slabs.h). A read of what is not
 *     registered any more is not wrong, but costs the connection.
 * The memory is bounded, sets of four ways; a fifth key of a set turns one out.
 *
 * HOW LONG. A reader's lease is nested in the primary's own. The primary holds leases from
 * all its backups, counted from when it sent the requests for them (statestore/core/
 * lease.c); with MSG_PLACES it says how much is left of the shortest. The client counts that
 * from when it SENT the request which this answers (stamp), on its own clock, less an eighth
 * for clocks that run apart and LEASE_ROUNDING_MS, and looks AFTER a read is over whether the
 * lease still holds. So
 *
 *     t0         <= t1           <= t2             <= t3
 *     request to    client sends    primary grants    read is over
 *     a backup      its request     what is left      on the client's clock
 *
 *     t3 - t1 <= left * 7/8 there, so t3 - t0 <= one maximum lease and what clocks may drift
 *
 * while every new primary answers nobody for one maximum lease, drift included, from when it
 * observed its view, which was after t0: it was a member that granted from t0 on, or joined by
 * a proposal of a primary, made after t2 if it was this one's. So neither a write of
 * its own, nor one it was told, can be older than a read that ends at t3.
 *   - A primary that proposes a view suspends reads, and grants nothing then. What it
 *     granted before stands, and may: t0 <= t2 < the proposal < the new view < its being
 *     observed, so the wait of whoever comes out of the proposal covers it. Also of a
 *     primary that had no backup: it grants one maximum lease from t2, no more.
 *   - No lease is ever given back early, and no proof of death, nor a planned hand-over,
 *     shortens the wait (statestore/core/collect.c). Who changes that has to add: "and no
 *     client was granted more".
 *   - Hearing of another view forgets the lease. So does a new connection.
 *
 * WHETHER TO BELIEVE IT. record_check (common/wire/record.h) on a private copy; then the
 * deadline, in shard time, of which the grant tells: an entry that may be past it is asked
 * for. Misses are never believed: only the shard knows that something is not there.
 *
 * TOUCHES. A read moves no deadline. In a table with TABLE_ONE_SIDED every deadline is
 * the time-out T and T/4 away; a get that touches is served one-sidedly only
 * while more than T of that is left, and is an ordinary one otherwise. So an entry that is
 * used is touched every T/4, whoever uses it, lives at least T after its last use, also if its
 * last user dies, and at most T/4 longer than elsewhere.
 */
#ifndef CLIENT_REMEMBER_H
#define CLIENT_REMEMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "client/lethe_reads.h"
#include "common/wire/bugs.h"
#include "common/wire/record.h"

/* --- leases ------------------------------------------------------------------------ */

enum {
    LEASE_DRIFT = 8,          /* one clock gains at most an eighth on another */
    LEASE_ROUNDING_MS = 2,
};

struct read_lease {           /* of one session; zeroed: none */
    uint64_t until_us;        /* client's clock */
    uint64_t from_us;         /* of the newest grant: when its request was sent, ... */
    uint64_t shard_ms;        /* ... and the shard time in it */
};

/* The client's clock as a stamp, never 0, and when the newest request with that stamp was sent, at the
 * earliest; 0: the stamp cannot be ours. */
uint32_t read_stamp(uint64_t now_us);
uint64_t read_stamp_us(uint32_t stamp, uint64_t now_us);
/* The answer to a request sent at `sent_us`: so much is left, and that is the shard's time. */
void read_lease_grant(struct read_lease *l, uint64_t sent_us, uint32_t left_ms, uint64_t shard_ms);
/* `now_us`: taken after the read was over. */
static inline bool read_lease_holds(const struct read_lease *l, uint64_t now_us)
{
    return now_us < l->until_us || READER_BUG(BUG_READER_NO_LEASE);
}
/* More than half of it is over. */
bool read_lease_is_short(const struct read_lease *l, uint64_t now_us);
/* Shard time is not later than this while the lease holds. */
uint64_t read_lease_shard_ms(const struct read_lease *l, uint64_t now_us);

/* --- places ---------------------------------------------------------------------------- */

#ifdef LETHE_SMALL_BOUNDS /* so that the simulator meets it */
enum { PLACE_MS = 300 };
#else
enum { PLACE_MS = 10 * 1000 };
#endif

struct place {
    uint64_t address;         /* in the primary's memory */
    uint64_t seen_us;         /* learnt, or last believed */
    uint32_t rkey;            /* opens the chunk that it is in, for reading alone */
    uint32_t slot_epoch, era; /* of the hash slot; of the session */
    uint16_t incarnation;
    uint8_t shard, table, slot;
    uint8_t key_len;          /* 0: nothing is remembered here */
    uint8_t key[TXN_KEY_MAX];
};

struct remember;
/* Room for `places`, rounded up to a power of two. NULL: no memory. */
struct remember *remember_create(uint32_t places, uint32_t seed);
void remember_destroy(struct remember *m);
/* NULL: not there. */
struct place *remember_find(struct remember *m, uint8_t table, const void *key, uint8_t key_len);
/* Whether it counts: for a slot that is with `shard` under `slot_epoch`, in that era. */
static inline bool place_counts(const struct place *p, uint16_t shard, uint32_t slot_epoch,
                                uint32_t era, uint64_t now_us)
{
    return p->shard == shard && p->slot_epoch == slot_epoch && p->era == era &&
           now_us < p->seen_us + PLACE_MS * 1000ull;
}
/* A place for the key, found or made, table and key set; the caller fills in the rest. */
struct place *remember_put(struct remember *m, uint8_t table, const void *key, uint8_t key_len);
static inline void place_forget(struct place *p)
{
    p->key_len = 0;
}

/* --- verdicts --------------------------------------------------------------------------- */

const char *read_outcome_word(enum read_outcome outcome);

/* What a copy of a record's lines is worth. `touch`: the get is one that moves the deadline.
 * READ_HIT, or READ_NO_LEASE, READ_TOUCH_DUE, READ_EXPIRED, READ_PENDING, READ_TORN,
 * READ_GONE (then the place is to be forgotten). `now_us` was taken after the last line was
 * there. */
enum read_outcome read_judge(const struct record_shape *shape, const struct record *copy,
                             const void *key, uint16_t incarnation, const struct read_lease *l,
                             bool touch, uint64_t now_us);

#endif
