/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a shard's thread tells the rest of the process about itself, by a
 * seqlock: the shard's thread writes, anybody reads, nobody waits for a lock.
 * A reader always sees one whole snapshot, so position and digest in it belong
 * together.
 */
#ifndef STATESTORE_SERVER_SNAPSHOT_H
#define STATESTORE_SERVER_SNAPSHOT_H

#include <stdatomic.h>
#include <string.h>

#include "common/metrics/histogram.h"
#include "statestore/server/views.h"

enum { SNAPSHOT_LIMITS = 49 };

struct shard_snapshot {
    struct shard_status status;
    struct shard_health health;
    struct shard_loans loans; /* counted every LOANS_MS */
    uint64_t mark_position, mark_digest; /* shard_mark_get */
    uint32_t standing;        /* enum views_standing */
    uint32_t connections, clients_connected, replicas_connected;
    uint64_t frames_in, frames_out, accepted, closed, slow_readers, auth_failures;
    uint64_t readable_bytes, unreadable_bytes; /* one-sidedly: slabs.h */
    uint64_t fences, fence_frames; /* earlier primaries; what they had written and we not seen */
    uint64_t writes_lost;     /* as a primary, to backups that fenced us or died */
    uint32_t primary_node, zero; /* as far as this replica knows, 0: none */
    uint64_t peer_since_ms;   /* backup: for how long the primary is away; 0: connected */
    uint32_t moves_to, zero2; /* 1 + the shard that something is being sent to; 0: nothing */
    struct shard_counts counts;
    struct histogram batch_txns, commit_us;
    uint64_t bytes_in, bytes_out;
    uint32_t members, nreplicas; /* of the view; of `replicas` */
    struct msg_node member[3];
    struct shard_replica replicas[SHARD_REPLICAS_MAX];
    uint64_t ntables;
    struct shard_table tables[TABLES_MAX]; /* every LOANS_MS */
    struct shard_limit_status limits[SNAPSHOT_LIMITS]; /* as configured; behind them the shard's */
    char primary_by[8];       /* backup: the transport of its link, "" while it is away */
    char moves_by[8];         /* of the latest connection by which something moved, or moves */
    char trouble[192];        /* "" or a sentence */
};
_Static_assert(sizeof(struct shard_snapshot) % 8 == 0, "copied by words");
enum { SNAPSHOT_WORDS = sizeof(struct shard_snapshot) / 8 };

struct snapshot_box {
    _Atomic uint64_t turn;    /* odd while being written; partner: snapshot_read's two loads */
    _Atomic uint64_t words[SNAPSHOT_WORDS];
};

/* Writer: the shard's thread only. */
static inline void snapshot_write(struct snapshot_box *b, const struct shard_snapshot *s)
{
    const uint64_t *from = (const uint64_t *)s;
    uint64_t turn = atomic_load_explicit(&b->turn, memory_order_relaxed);
    atomic_store_explicit(&b->turn, turn + 1, memory_order_relaxed);
    /* release stores: whoever sees one of them sees the odd turn before it */
    for (int i = 0; i < SNAPSHOT_WORDS; i++)
        atomic_store_explicit(&b->words[i], from[i], memory_order_release);
    atomic_store_explicit(&b->turn, turn + 2, memory_order_release);
}

static inline void snapshot_read(const struct snapshot_box *box, struct shard_snapshot *s)
{
    struct snapshot_box *b = (struct snapshot_box *)box;
    uint64_t *to = (uint64_t *)s, before, after;
    do {
        before = atomic_load_explicit(&b->turn, memory_order_acquire);
        for (int i = 0; i < SNAPSHOT_WORDS; i++)
            to[i] = atomic_load_explicit(&b->words[i], memory_order_acquire);
        after = atomic_load_explicit(&b->turn, memory_order_relaxed);
    } while (before != after || (before & 1));
}

#endif
