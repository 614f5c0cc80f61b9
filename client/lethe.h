/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * liblethe: the client of Lethe's state store. Asynchronous, batched, driven
 * by its caller.
 *
 * A client belongs to ONE thread, which calls lethe_poll() from whatever loop
 * it has: a DPDK polling loop (never blocks, makes at most one system call per
 * shard and burst), or libuv/epoll (sleep on lethe_fd, see examples/). It has
 * no thread and no global state of its own, and after lethe_client_create it
 * allocates nothing per operation.
 *
 *   struct lethe_client *c = lethe_client_create(&config, err, sizeof err);
 *   int flows = lethe_table_open(c, &schema);          // asked for
 *   while (!lethe_ready(c)) lethe_poll(c, now_us());    // opened at every shard
 *
 *   struct lethe_txn *t = lethe_txn_begin(c, slot, done, user);   // NULL: window full
 *   lethe_txn_get(t, flows, key, TXN_TOUCH);
 *   lethe_txn_submit(t);                                // queued in this burst's batch
 *   lethe_flush(c);                                     // one frame per shard
 *   lethe_poll(c, now_us());                            // calls done(user, result)
 *
 * Exactly once: a txn keeps its (client id, sequence) over every retry and
 * reconnection; the store executes it at most once and the callback runs
 * exactly once, with the outcome, or with TXN_STALE_CLIENT when the lease was
 * lost and the outcome cannot be known any more. After that the client leases
 * a new id by itself.
 *
 * Of the outcomes in txn.h three never reach a callback: "not now" (TXN_BUSY,
 * TXN_NOT_PRIMARY, TXN_LOST) is retried by the client, visible in lethe_status().
 *
 * Unreachable store: txns stay in the window and are retried for ever;
 * lethe_status() says since when and why. The window is the bound: begin
 * returns NULL when it is full, and the caller drops and counts.
 */
#ifndef LETHE_H
#define LETHE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wire/channel.h"
#include "common/wire/msg.h"

struct lethe_client;
struct lethe_txn;

enum {
    LETHE_SHARDS_MAX = 16,
    LETHE_WINDOW_DEFAULT = 2048,   /* txns outstanding per client */
};

/* How to reach shard `shard`: a new channel, or NULL and a sentence in err.
 * Called again, with growing delays, whenever the channel closed. */
typedef struct channel *(*lethe_dial)(void *ctx, uint16_t shard, char *err, uint32_t err_len);

struct lethe_config {
    uint16_t shards;               /* of the store: 1..LETHE_SHARDS_MAX */
    uint32_t window;               /* 0: LETHE_WINDOW_DEFAULT; at most MSG_CLIENT_WINDOW */
    uint32_t retry_ms;             /* unanswered that long: send again; 0: 200 */
    lethe_dial dial;               /* NULL: tcp to `address`, port + shard */
    void *dial_ctx;
    const char *address;           /* "host:port" of shard 0; copied */
    const char *tenant;            /* as whom; NULL: the store has no secrets */
    const char *secret_file;       /* the tenant's: 64 to 128 hex digits, mode 0600; read once.
                                      Nothing is sent to a store that does not hold it, too */
};

/* NULL and a sentence in err on a bad configuration; never waits for the store. */
struct lethe_client *lethe_client_create(const struct lethe_config *config, char *err,
                                         uint32_t err_len);
/* Callbacks of outstanding txns are not called. */
void lethe_client_destroy(struct lethe_client *c);

/* Asks every shard to open the table; returns the caller's number of it, or
 * -errno. Failure shows in lethe_status().fatal with both schemas. */
int lethe_table_open(struct lethe_client *c, const struct table_schema *schema);
/* True when connected, leased, and every table is open, at every shard. */
bool lethe_ready(const struct lethe_client *c);

/* --- txns ------------------------------------------------------------------ */

/* `result` is lent for the call. status as in txn.h; entries by txn_result_of. */
typedef void (*lethe_done)(void *user, const struct txn_result_head *result);

/* A txn in hash slot `slot` (slot_of, slot_of_index). NULL: the window is full
 * or the client was never ready yet; once it was, a txn may begin also while the
 * store is away, and leaves when it is back. Build it, then submit; one may abandon it by
 * lethe_txn_cancel before submit only. */
struct lethe_txn *lethe_txn_begin(struct lethe_client *c, uint8_t slot, lethe_done done,
                                  void *user);
void lethe_txn_cancel(struct lethe_txn *t);

/* Each appends one op and returns its position (a patch's source, the result's
 * name), or -1: the txn is full (TXN_OPS_MAX, TXN_BYTES_MAX). Key and value
 * sizes are the table's. Copied at once. */
int lethe_txn_get(struct lethe_txn *t, int table, const void *key, uint8_t flags);
int lethe_txn_check(struct lethe_txn *t, int table, const void *key, uint64_t version);
int lethe_txn_insert(struct lethe_txn *t, int table, const void *key, const void *value,
                     uint32_t timeout_ms);
int lethe_txn_insert_child(struct lethe_txn *t, int table, const void *key, const void *value,
                           uint32_t timeout_ms, int parent_table, const void *parent_key);
int lethe_txn_cas(struct lethe_txn *t, int table, const void *key, uint64_t version,
                  const void *value, uint32_t timeout_ms);
int lethe_txn_delete(struct lethe_txn *t, int table, const void *key, uint64_t version);
int lethe_txn_add(struct lethe_txn *t, int table, const void *key, const int64_t *deltas);
int lethe_txn_add_limit(struct lethe_txn *t, int table, const void *key, const int64_t *deltas,
                        int64_t limit);
int lethe_txn_alloc(struct lethe_txn *t, int pool, const void *record);
int lethe_txn_free(struct lethe_txn *t, int pool, uint32_t index, uint64_t version);
int lethe_txn_scan(struct lethe_txn *t, int table, uint64_t cursor);
/* To the op added last. False: too many patches. */
bool lethe_txn_patch(struct lethe_txn *t, struct txn_patch patch);
/* The `skip` of op `at` (a get with TXN_SKIP_IF_PRESENT) ends here. */
void lethe_txn_skip_to_here(struct lethe_txn *t, int at);

/* Submits a txn that was built elsewhere as bytes (txn.h) in which table
 * numbers are the caller's; they are translated in place per shard. 0, or
 * -EAGAIN: window full. Equivalent to begin + ops + submit. */
int lethe_submit_bytes(struct lethe_client *c, void *txn, uint32_t bytes, lethe_done done,
                       void *user);
/* Queues it in its shard's batch. Never fails. */
void lethe_txn_submit(struct lethe_txn *t);
/* Sends the batches begun so far. */
void lethe_flush(struct lethe_client *c);

/* Receives, calls back, retries, reconnects, renews the lease. Returns the
 * number of txns completed. `now_us`: any monotonic clock, always the same. */
int lethe_poll(struct lethe_client *c, uint64_t now_us);

/* --- sleeping --------------------------------------------------------------- */

/* One descriptor (epoll) that becomes readable when lethe_poll has work; -1
 * if a channel has none (then poll). */
int lethe_fd(struct lethe_client *c);
/* Call before sleeping: false means poll again now. */
bool lethe_arm(struct lethe_client *c);
/* Poll again by then even if the descriptor is silent (retries, lease). */
uint64_t lethe_next_us(const struct lethe_client *c);

struct lethe_status {
    uint32_t in_flight, window;
    uint64_t done, retries, reconnects, leases;
    uint64_t unreachable_since_us; /* 0: all shards connected */
    char trouble[200];             /* what is wrong now, for a person; "" if nothing */
    char fatal[240];               /* will not mend by waiting: wrong schema, ... */
};
void lethe_status(const struct lethe_client *c, struct lethe_status *out);

#endif
