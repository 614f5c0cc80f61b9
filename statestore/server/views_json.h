/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What stands in etcd (views_etcd.h), as bytes: written here, and read from there,
 * where anybody may have written anything. Pure.
 */
#ifndef STATESTORE_SERVER_VIEWS_JSON_H
#define STATESTORE_SERVER_VIEWS_JSON_H

#include <jansson.h>

#include "statestore/server/views.h"

enum { VIEWS_JSON_MAX = 8192, VIEWS_SHARDS_MAX = 16 };

/* What a node says of itself. */
struct views_registration {
    uint64_t incarnation;     /* of its process; never 0 */
    uint32_t nholds;          /* shards */
    struct { uint64_t incarnation, epoch, position; } holds[VIEWS_SHARDS_MAX];
};

/* NULL, or what is wrong. Node numbers are 1..nodes, each once; at least one member;
 * epoch and incarnations are positive. `out` is untouched then. */
const char *views_json_view(const char *text, uint32_t bytes, uint32_t nodes,
                            struct shard_view *out);
const char *views_json_registration(const char *text, uint32_t bytes,
                                    struct views_registration *out);

/* One line of JSON, malloced; NULL: no memory. */
char *views_json_of_view(const struct shard_view *view);
char *views_json_of_registration(const struct views_registration *r, const char *name,
                                 const char *listen);

#endif
