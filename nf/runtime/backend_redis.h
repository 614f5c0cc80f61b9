/* SPDX-License-Identifier: BSD-3-Clause */
/* Redis Cluster as the engine's backend (client/redis/lethe_redis.h): commits there
 * are best effort, which who runs it has to be told. The client is the caller's. */
#ifndef NF_RUNTIME_BACKEND_REDIS_H
#define NF_RUNTIME_BACKEND_REDIS_H

#include "nf/runtime/backend.h"

struct lethe_redis;
struct backend backend_redis(struct lethe_redis *client);

#endif
