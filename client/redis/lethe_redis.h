/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Redis Cluster (or one redis-server) as the state store: the same txns, run by a
 * script on the master that owns the hash tag of their hash slot (txn.lua), through
 * hiredis' asynchronous interface. For sites that run Redis already.
 *
 * What it promises is less than the store does, and the caller can ask
 * (lethe_redis_lacks): a commit is what one master said. A fail-over loses what had
 * not reached the replica, versions and allocated indexes included; there is no
 * output commit. docs/backends.md has it side by side.
 *
 * Threads: one, the caller's. Nothing blocks. lethe_redis_poll makes one system
 * call and whatever hiredis needs for sockets that are ready; hiredis allocates.
 *
 *   hash slot s      keys "{Ls}...", so one Redis slot, one master
 *   retry            same (client, sequence): the script keeps results, as the store
 *   MOVED, ASK       followed; the map is read again
 *   time-outs        sorted sets, looked at by every txn of the slot and by a sweep
 *                    over all slots (keyspace notifications lose events)
 */
#ifndef LETHE_REDIS_H
#define LETHE_REDIS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wire/schema.h"
#include "common/wire/txn.h"

struct lethe_redis;

struct lethe_redis_config {
    const char *seeds;        /* "host:port,host:port": any nodes of the cluster; copied */
    uint32_t window;          /* txns outstanding; 0: 2048 */
    uint32_t retry_ms;        /* unanswered that long: connect and send again; 0: 500 */
    uint32_t lease_ms;        /* results of a silent client are forgotten; 0: 600000 */
    uint32_t sweeps_per_s;    /* hash slots looked at for time-outs; 0: 64 */
};

/* NULL and a sentence on a bad configuration; never waits for a server. */
struct lethe_redis *lethe_redis_create(const struct lethe_redis_config *config, char *err,
                                       uint32_t err_len);
void lethe_redis_destroy(struct lethe_redis *r);

/* The number of the table in txns, or -errno (-ENOTSUP: needs what Redis lacks; the
 * reason is in the status). Another schema under that name shows as status.fatal. */
int lethe_redis_table_open(struct lethe_redis *r, const struct table_schema *schema);
/* Connected to a master of every hash slot, and every table is open. */
bool lethe_redis_ready(const struct lethe_redis *r);

/* `result` is lent. TXN_BUSY, and what Redis says while it fails over, is retried and
 * never told. Called from lethe_redis_poll only. */
typedef void (*lethe_redis_done)(void *user, const struct txn_result_head *result);
/* Takes a copy. 0, or -EAGAIN: the window is full. */
int lethe_redis_submit(struct lethe_redis *r, const void *txn, uint32_t bytes,
                       lethe_redis_done done, void *user);
void lethe_redis_flush(struct lethe_redis *r);
int lethe_redis_poll(struct lethe_redis *r, uint64_t now_us);

/* To sleep: readable when poll has work; and poll again by then. */
int lethe_redis_fd(const struct lethe_redis *r);
uint64_t lethe_redis_next_us(const struct lethe_redis *r);

/* What a store of ours gives and Redis does not; sentences, NULL-terminated. */
const char *const *lethe_redis_lacks(void);

struct lethe_redis_status {
    uint32_t in_flight, window, masters;
    uint64_t done, retries, redirects, reconnects, sweeps;
    char trouble[200];        /* what is wrong now; "" if nothing */
    char fatal[240];          /* will not mend by waiting */
};
void lethe_redis_status(const struct lethe_redis *r, struct lethe_redis_status *out);

#endif
