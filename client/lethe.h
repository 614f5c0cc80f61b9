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
 * Of the outcomes in txn.h four never reach a callback: "not now" (TXN_BUSY,
 * TXN_NOT_PRIMARY, TXN_LOST) is retried by the client, and TXN_MOVED is followed to
 * the shard that owns the hash slot now; both are visible in lethe_status().
 *
 * Several replicas: the client goes from address to address until one serves
 * the shard, follows what a replica says about who does, and goes on when the
 * one that served closes, is silent or serves no longer. Client ids and results
 * are replicated: what was outstanding is repeated at the new primary under the
 * same sequence.
 *
 * One-sided gets: a get of a table with TABLE_ONE_SIDED, alone in its txn or with all behind
 * it skipped on a hit, is answered by an RDMA READ of the primary's memory if the shard is
 * reached by verbs and the client knows where the entry is (remember.h); else, and on a
 * miss, by a request. Nothing else differs, but that txns under way together run in any
 * order. Gets that touch go by a request once in a quarter of the time-out.
 *
 * Unreachable store: txns stay in the window and are retried for ever;
 * lethe_status() says since when and why. The window is the bound: begin
 * returns NULL when it is full, and the caller drops and counts.
 */
#ifndef LETHE_H
#define LETHE_H

#include <stdbool.h>
#include <stdint.h>

#include "client/lethe_reads.h"
#include "common/wire/channel.h"
#include "common/wire/msg.h"

struct lethe_client;
struct lethe_txn;
struct transport;

enum {
    LETHE_SHARDS_MAX = 16,
    LETHE_NODES_MAX = 16,          /* addresses */
    LETHE_WINDOW_DEFAULT = 2048,   /* txns outstanding per client */
    LETHE_REMEMBER_DEFAULT = 16384, /* places of entries, some 80 bytes each */
};

/* How to reach shard `shard`: a new channel, or NULL and a sentence in err.
 * Called again, with growing delays, whenever the channel closed, or its peer
 * does not serve the shard: then another replica may be given. */
typedef struct channel *(*lethe_dial)(void *ctx, uint16_t shard, char *err, uint32_t err_len);

struct lethe_config {
    uint16_t shards;               /* of the store: 1..LETHE_SHARDS_MAX */
    uint32_t window;               /* 0: LETHE_WINDOW_DEFAULT; at most MSG_CLIENT_WINDOW */
    uint32_t retry_ms;             /* unanswered that long: send again; 0: 200 */
    uint32_t silence_ms;           /* answers are owed and nothing at all is heard so long: another
                                      address, or `dial` again; 0: retry_ms with several
                                      addresses, else 10 * retry_ms. A new primary is silent for
                                      about 0.3 of the store's failure time-out: allow more */
    lethe_dial dial;               /* NULL: to `address` */
    void *dial_ctx;
    const char *address;           /* of shard 0, of each node of the store, in the site's order, commas
                                      between; copied. "host:port" (tcp), "shm:/path",
                                      "verbs:host:port"; alternatives, best first, for one node:
                                      "shm:/path|host:port": the next one is taken where the node is
                                      not on this host, or this host has no RDMA */
    const struct transport *verbs; /* &transport_verbs of lethe_verbs (common/wire/verbs/verbs.h);
                                      NULL: no address may be one of verbs */
    const char *const *one_sided;  /* tables that are opened with TABLE_ONE_SIDED if they can be ("nat.*" or a
                                      whole name), NULL behind the last, kept: for schemas that are not
                                      the caller's own. All clients of a table have to agree. NULL: none */
    uint32_t remember;             /* entries of such tables whose place is remembered; 0:
                                      LETHE_REMEMBER_DEFAULT */
    uint64_t (*clock_us)(void *ctx); /* of one-sided reads' leases: monotonic, read when called; NULL:
                                      CLOCK_MONOTONIC */
    void *clock_ctx;
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
/* A timer: an event of `table`, a hash table with TABLE_EVENTS and TABLE_ABSOLUTE,
 * after delay_ms (at least 1), unless its key is deleted before. */
int lethe_txn_timer(struct lethe_txn *t, int table, const void *key, const void *payload,
                    uint32_t delay_ms);
int lethe_txn_alloc(struct lethe_txn *t, int pool, const void *record);
int lethe_txn_free(struct lethe_txn *t, int pool, uint32_t index, uint64_t version);
int lethe_txn_scan(struct lethe_txn *t, int table, uint64_t cursor);
/* To the op added last. False: too many patches. */
bool lethe_txn_patch(struct lethe_txn *t, struct txn_patch patch);
/* The `skip` of op `at` (a get with TXN_SKIP_IF_PRESENT) ends here. */
void lethe_txn_skip_to_here(struct lethe_txn *t, int at);

/* From now on `sent` is told of every txn that leaves in a frame, with the `user` it was
 * submitted with and what its store knows it by; again at a retry. NULL: no more. */
typedef void (*lethe_sent)(void *ctx, void *user, uint16_t shard, uint64_t client, uint64_t seq);
void lethe_trace(struct lethe_client *c, lethe_sent sent, void *ctx);

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

/* --- events ------------------------------------------------------------------- */

/* An entry that expired from a table with TABLE_EVENTS. Lent for the call. */
struct lethe_event {
    int table;
    uint8_t slot, key_len;
    uint16_t value_len;
    const void *key, *value;
    uint64_t version;              /* with the key it names the event, for ever */
    uint64_t time_ms;              /* shard time of the expiry */
};
/* True: done, never again. False: not now; it is delivered again later, and
 * before it none of the same hash slot. It may begin and submit txns. */
typedef bool (*lethe_handler)(void *user, const struct lethe_event *event);

/* Asks for the table's events at every shard, from now on and over every
 * reconnection; handler NULL: no more. Each hash slot's events go to one client,
 * in order, at least once: after a fail-over, or when an acknowledgement was lost,
 * one that was done may come again, and whoever cannot bear that remembers (key,
 * version), best by a guard in the txn that handles it. 0, -EINVAL (not an open
 * table with TABLE_EVENTS), -ENOMEM. A store of protocol 1 has none. */
int lethe_events(struct lethe_client *c, int table, lethe_handler handler, void *user);

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
    uint64_t one_sided[READ_OUTCOMES_END]; /* gets of tables with TABLE_ONE_SIDED that could have been:
                                      lethe_reads.h */
    uint64_t moved;                /* txns that went to another shard than was thought */
    uint64_t unreachable_since_us; /* 0: all shards connected */
    char trouble[400];             /* what is wrong now, for a person; "" if nothing. With several
                                      addresses, what each of them said */
    char fatal[240];               /* will not mend by waiting: wrong schema, ... */
};
void lethe_status(const struct lethe_client *c, struct lethe_status *out);

#endif
