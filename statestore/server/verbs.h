/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the store's control socket answers (common/metrics/control.h):
 *   stats     {"instance", "pid", "uptime_ms", "shards": [ {role, position,
 *             commit, digest, ...}, ... ]}
 *   digest    {"shards": [ {shard, role, position, digest, mark_position,
 *             mark_digest}, ... ]}; the mark is of the last position that all
 *             replicas mark (shard_mark_get)
 * Runs on the control thread; reads snapshots only.
 */
#ifndef STATESTORE_SERVER_VERBS_H
#define STATESTORE_SERVER_VERBS_H

#include "common/metrics/control.h"
#include "statestore/server/store.h"

struct verbs {
    const struct store *store;
    struct metrics *metrics;  /* their names stand in `stats`, too */
};
/* A control_handler; ctx is the struct verbs. Give control_start no metrics, so
 * that it asks here for `stats`. */
void verbs_handle(void *ctx, int argc, char **argv, char *reply, uint32_t room);

#endif
