/* SPDX-License-Identifier: BSD-3-Clause */
/* A client process of the history: some clients in one thread, in a network namespace. */
#ifndef TESTS_STORE_WORKER_H
#define TESTS_STORE_WORKER_H

#include <sys/types.h>

#include "record.h"

struct worker_config {
    const char *nodes;          /* of the store, as lethe_config.address */
    const char *tenant, *secret_file;
    uint32_t shards, clients, window, ports, rate_ops, lease_ms, retry_ms;
    uint64_t seed;
};

/* Forks worker `place`; `life` makes its chance another one than its forerunner's.
 * namespace_path NULL: where we are. Its pid, or -1. */
pid_t worker_start(struct record *r, const struct worker_config *config, int place, uint32_t life,
                   const char *namespace_path);
/* Forks one that reads every key once and then ends: 0, or 1 when some were not answered
 * within timeout_s. */
pid_t worker_read_all(struct record *r, const struct worker_config *config,
                      const char *namespace_path, uint32_t timeout_s);

/* Forks one that inserts ballast (fill.h), or reads it: 0, or 1 when some is missing. */
pid_t worker_fill(struct record *r, const struct worker_config *config, const char *namespace_path,
                  uint32_t each, bool insert);

#endif
