/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where the NAT bench keeps state: a local table, the store in a thread, the
 * store in a process, by shared memory or by tcp. Errors end the bench with a sentence.
 */
#ifndef LETHE_BENCH_NAT_PEER_H
#define LETHE_BENCH_NAT_PEER_H

#include <stdint.h>

#include "nf/runtime/backend.h"
#include "nf/runtime/instance.h"

enum peer_kind { PEER_LOCAL, PEER_SHM, PEER_INPROC, PEER_TCP };
struct peer;

/* Starts what local tables need (EAL, without hugepages). Once. */
void peer_environment(void);
/* nat44 with 64 external addresses. */
struct nf_instance *peer_nat(void);

const char *peer_name(enum peer_kind kind);
struct peer *peer_start(enum peer_kind kind, const char *store_program, const char *log_dir,
                        uint32_t mappings);
struct backend peer_backend(struct peer *p);
/* After the engine opened its tables: until the store has them too. */
void peer_wait_ready(struct peer *p);
/* CPU time spent for state outside the calling thread. */
uint64_t peer_cpu_ns(const struct peer *p);
void peer_stop(struct peer *p);

#endif
