/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views of several stores in one process: what etcd does, by compare-and-swap
 * under a mutex. For embedding and for tests of fail-over.
 *
 * A store joins with its number and may leave (its provider's destroy) and come
 * back as a new incarnation. Create before the first, destroy after the last.
 */
#ifndef STATESTORE_SERVER_VIEWS_MEMORY_H
#define STATESTORE_SERVER_VIEWS_MEMORY_H

#include "statestore/server/views.h"

struct views_memory;
struct views_memory *views_memory_create(void); /* NULL: no memory */
void views_memory_destroy(struct views_memory *m);
/* Number of the shard's primary, 0: none yet. */
uint32_t views_memory_primary(struct views_memory *m, uint16_t shard);
/* A provider for one store; NULL: no memory. */
struct views *views_memory_join(struct views_memory *m, const struct views_site *site);

#endif
