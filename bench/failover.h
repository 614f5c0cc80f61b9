/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One writer's way to a replicated store, for the fail-over bench: write a new
 * key, read it back. Two implementations, each the most patient and the best
 * informed client that its store can have: what a gap shows is the store's.
 *
 * Threads: one writer, one connection object, one thread. Blocking, but never
 * longer than about FAILOVER_TRY_MS. A key is a tag of TAG bytes, which decides
 * the hash slot and differs from run to run of the program, and a number.
 */
#ifndef BENCH_FAILOVER_H
#define BENCH_FAILOVER_H

#include <stdbool.h>
#include <stdint.h>

enum {
    FAILOVER_TAG = 16,
    FAILOVER_TRY_MS = 100,    /* an unanswered request, a connection not made: try another node */
    FAILOVER_RETRY_MS = 250,  /* a node that did not answer is left alone so long */
    FAILOVER_ASK_MS = 5,      /* meanwhile the others are asked who serves the range */
    FAILOVER_NODES_MAX = 8,
};

enum failover_read { READ_SAME, READ_ABSENT, READ_OTHER, READ_FAILED };

struct failover_peer {
    const char *name;
    /* `nodes`: "host:port,host:port,...". The writer's keys are in range `range`
     * of `ranges`. NULL: err says why. Waits until the store is there, 30 s. */
    void *(*open)(const char *nodes, int range, int ranges, int writer, char *err, uint32_t err_len);
    /* One attempt: true once the write of `n` is acknowledged. Call again with
     * the same n until it is. */
    bool (*write)(void *conn, uint64_t n);
    enum failover_read (*read)(void *conn, uint64_t n);
    /* What is wrong, for a person; NULL: nothing to be told. */
    const char *(*trouble)(void *conn);
    void (*close)(void *conn);
};

/* The `salt`th tag of a writer of this run. */
void failover_tag(char tag[FAILOVER_TAG + 1], int writer, uint32_t salt);

extern const struct failover_peer failover_redis, failover_lethe;

#endif
