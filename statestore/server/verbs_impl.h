/* SPDX-License-Identifier: BSD-3-Clause */
/* Between verbs.c (what is) and verbs_orders.c (what shall be). */
#ifndef STATESTORE_SERVER_VERBS_IMPL_H
#define STATESTORE_SERVER_VERBS_IMPL_H

#include <jansson.h>

#include "statestore/server/snapshot.h"
#include "statestore/server/verbs.h"

/* The answer, or NULL: no such verb. May cut up the words of argv. */
json_t *verbs_order(struct store *s, int argc, char **argv);
json_t *verbs_tables(const struct store *s); /* verbs_tables.c */
/* Into that answer: what a shard keeps that is led here. */
void verbs_tables_add(json_t *answer, uint16_t shard, const struct shard_snapshot *snap);

#endif
