/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the store's control socket answers (common/metrics/control.h):
 *   stats     {"instance", "pid", "uptime_ms", "shards": [ {role, position,
 *             commit, digest, ...}, ... ]}
 *   digest    {"shards": [ {shard, role, view_epoch, position, digest,
 *             mark_position, mark_digest}, ... ]}; the mark is of the last position
 *             that all replicas mark (shard_mark_get)
 *   map       {"slots": [ {first, last, shard}, ... ]}: runs of hash slots, as the
 *             shards here know
 *   tables    what the shards led here keep (verbs_tables.c)
 *   trace     when txns took which step: traced.h
 *   and orders, for shards whose primary is here (verbs_orders.c):
 *   move FIRST-LAST TO           hash slots to another shard
 *   lend TABLE COUNT TO [FROM]   free indexes of a pool to another shard
 *   hand-over SHARD              another member becomes the primary
 *   rebalance SHARD,SHARD,...    moves so that these own equal shares; prints the plan
 *   accept-loss SHARD in-these-words-data-may-be-lost [--fenced NODE ...]
 *             this node serves what it holds; see views_rules.h
 * An error is {"error": "sentence"}. From a shell:
 *   echo "hand-over 0" | nc -U -N /run/lethe/store-a.sock
 * Runs on the control thread; reads snapshots, waits for a shard to take an order, or
 * for its map, for at most a second.
 */
#ifndef STATESTORE_SERVER_VERBS_H
#define STATESTORE_SERVER_VERBS_H

#include "common/metrics/control.h"
#include "statestore/server/store.h"

struct verbs {
    struct store *store;
    struct metrics *metrics;  /* their names stand in `stats`, too */
};
/* A control_handler; ctx is the struct verbs. Give control_start no metrics, so
 * that it asks here for `stats`. */
void verbs_handle(void *ctx, int argc, char **argv, char *reply, uint32_t room);

#endif
