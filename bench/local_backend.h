/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The baseline of the NAT bench: the engine's backend as a table in the
 * worker's own memory, what a stateful NAT has. It executes the very same
 * txns, so the NF's code is the same to the byte; nothing travels, nothing is
 * replicated, nothing waits.
 *
 * Hash tables and counters are DPDK's rte_hash in its lock-free mode, looked
 * up in bulk: flush takes the first key of every queued txn through
 * rte_hash_lookup_bulk and prefetches the rows found; poll executes and
 * answers. Pools are arrays with a free list. In the baseline's favour: no
 * expiry, no quarantine, no CRC, no groups, no versions beyond a counter. A
 * guard that fails after an earlier op of its txn wrote ends the bench: the
 * bench never gets there, and undoing is not what it measures.
 *
 * Thread: the engine's. EAL must have been started.
 */
#ifndef LETHE_BENCH_LOCAL_BACKEND_H
#define LETHE_BENCH_LOCAL_BACKEND_H

#include "nf/runtime/backend.h"

struct local_backend;

/* `capacity`: entries of tables whose name contains `big`; others get 4096. */
struct local_backend *local_backend_create(uint32_t capacity, const char *big);
struct backend local_backend(struct local_backend *l);
void local_backend_destroy(struct local_backend *l);

#endif
