/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Leases: why what appended nothing may be told (DESIGN 4).
 *
 * A write is proven by its commit: every member acknowledged it under our
 * epoch. A read, a miss, a failed guard, a scan, an old result and an async
 * txn prove nothing, so they are told only while every in-view backup grants a
 * lease, and while no change of view is open.
 *
 * Each APPEND carries our clock when it was sent; an acknowledgement returns
 * the latest one that the backup heard under this epoch. The lease runs from
 * there, not from the receipt: on its way nobody knows how long it took. A
 * backup that learns of a later epoch grants nothing under this one any more,
 * and whoever becomes primary answers nobody for lease_wait_ms() after that,
 * which is longer by what two clocks may drift apart.
 *
 * A primary whose wish for another view is unanswered for long can answer no read, and asks
 * for no lease any more (stamp 0). A backup that heard some before takes that as a word to try
 * itself (backup.c): its way to the view service may be open, and if it is not, nothing
 * changes.
 *
 * Clients that read one-sidedly obey leases nested in these (client/remember.h): they are
 * told how much is left of the shortest, of one maximum lease where there is no backup.
 * What they were granted is never taken back, so nothing may shorten the wait of a new
 * primary: neither a lease that is given back nor a death that is proven.
 *
 * Replies without a lease wait in s->suspended, in order, bounded as all
 * replies are (REPLIES_MAX); leaving the view drops them.
 */
#include "internal.h"

enum { CLOCK_DRIFT = 8, /* one clock gains at most an eighth on another */ ROUNDING_MS = 2,
       UNANSWERED = 4 /* failure time-outs, until a wish is past hope */ };

static uint32_t lease_ms(const struct shard *s)
{
    uint32_t ms = s->config.failure_timeout_ms / 4;
    return ms ? ms : 1;
}

uint64_t lease_wait_ms(const struct shard *s)
{
    uint32_t ms = lease_ms(s);
    if (SHARD_BUG(BUG_WAIT_WITHOUT_DRIFT))
        return ms + ROUNDING_MS;
    return ms + (ms + CLOCK_DRIFT - 1) / CLOCK_DRIFT + ROUNDING_MS;
}

/* 0 means none, so that moment counts as the one before. */
uint32_t lease_stamp(const struct shard *s)
{
    if (s->proposing && s->now_ms > s->proposed_ms + UNANSWERED * s->config.failure_timeout_ms &&
        !SHARD_BUG(BUG_UNANSWERED_WISH_KEPT))
        return 0;
    uint32_t stamp = (uint32_t)s->now_ms;
    return stamp ? stamp : UINT32_MAX;
}

void lease_heard(struct shard *s, uint32_t stamp)
{
    struct joining *j = &s->joining;
    if (stamp)
        j->stamped_ms = s->now_ms;
    if (stamp && (!j->stamp || (int32_t)(stamp - j->stamp) > 0))
        j->stamp = stamp;
}

void lease_granted(struct shard *s, struct peer *p, uint32_t stamp)
{
    uint32_t age = (uint32_t)s->now_ms - stamp;
    if (!stamp || age > INT32_MAX || age > s->now_ms)
        return;
    if (SHARD_BUG(BUG_LEASE_FROM_RECEIPT))
        age = 0;
    uint64_t until = s->now_ms - age + lease_ms(s);
    if (until > p->leased_until_ms)
        p->leased_until_ms = until;
}

static bool leases_hold(struct shard *s)
{
    uint32_t held = 0, wanted = s->view.nmembers - 1;
    for (uint32_t i = 1; i < s->view.nmembers; i++) {
        const struct peer *p = peer_of_node(s, &s->view.members[i]);
        /* A backup of protocol 1 knows no leases, and never takes over by itself. */
        held += p && (p->proto == 1 || s->now_ms < p->leased_until_ms);
    }
    return held == wanted || (held && SHARD_BUG(BUG_ONE_LEASE));
}

bool lease_may_tell(struct shard *s)
{
    if (s->role != SHARD_PRIMARY || s->collecting)
        return false;
    if (s->proposing && !SHARD_BUG(BUG_READS_WHILE_PROPOSING))
        return false;
    return leases_hold(s) || SHARD_BUG(BUG_READ_AFTER_LEASE);
}

uint32_t lease_for_readers_ms(struct shard *s)
{
    uint64_t left = lease_ms(s);
    if (!lease_may_tell(s))
        return 0;
    for (uint32_t i = 1; i < s->view.nmembers; i++) {
        const struct peer *p = peer_of_node(s, &s->view.members[i]);
        uint64_t its = p && p->proto != 1 && p->leased_until_ms > s->now_ms
                           ? p->leased_until_ms - s->now_ms : 0;
        left = its < left ? its : left;
    }
    return (uint32_t)left;
}

void lease_release(struct shard *s)
{
    if (s->suspended.first && lease_may_tell(s))
        replies_release_suspended(s);
}
