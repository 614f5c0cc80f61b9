/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The store as monitoring sees it: its metrics, written from the shards' snapshots when
 * somebody asks, and what /healthz and /readyz say. Any thread; ctx is the struct store.
 */
#ifndef STATESTORE_SERVER_FIGURES_H
#define STATESTORE_SERVER_FIGURES_H

#include <stdint.h>

struct metrics_text;

void figures_collect(void *store, struct metrics_text *to);
void figures_healthy(void *store, char *why, uint32_t len);
/* This node takes part in each shard as far as it is to (serves, backs up caught up, or is a spare), and
 * each has the copies it is to have, or as many as nodes are registered: another may be stopped now. */
void figures_ready(void *store, char *why, uint32_t len);
/* "primary", "backup", "joining", "idle", "lost", "waiting". */
struct shard_snapshot;
const char *figures_role(const struct shard_snapshot *s);

#endif
