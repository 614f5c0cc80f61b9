/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The simulated world: one shard, two store nodes, a view service, clients, a
 * network between them, and one clock that only events move.
 *
 *   sched.c    the event queue; processes, pauses, crashes
 *   net.c      connections, messages, channels; loss, duplicates, reordering
 *   views.c    the view service and who is promoted
 *   node.c     a store process around statestore/core
 *   peer.c     a client process around client/lethe.h
 *   workload.c what clients ask, and the history of it
 *   faults.c   what goes wrong, and when
 *   run.c      one seed from start to verdict
 *
 * All of it runs in one thread, from one generator of chance.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "check.h"
#include "client/lethe.h"
#include "history.h"
#include "rng.h"
#include "statestore/core/shard.h"

enum {
    NODES = 2,
    CLIENTS_MAX = 5,
    PROC_VIEWS = NODES + CLIENTS_MAX, /* the view service is a process too */
    PROCS,
    NOBODY = -1,                      /* an event that belongs to no process */
    PENDING_MAX = 24,                 /* operations a client has outstanding */
    HELD_MAX = 24,                    /* pool indexes a client means to free */
    KEYS_MAX = 400,                   /* in the whole history */
};

enum {
    FAILURE_TIMEOUT_MS = 100,
    CLIENT_LEASE_MS = 2500,
    RETRY_MS = 25,
    LOG_BYTES = 10 * 1024,            /* fills up while a backup is silent */
};

/* What a run counts. Each must be non-zero over a whole invocation. */
#define SIM_COUNTS(X)                                                                              \
    X(operations, "operations")                                                                    \
    X(retries, "retries")                                                                          \
    X(duplicates, "duplicates suppressed by the result table")                                     \
    X(promotions, "promotions")                                                                    \
    X(joins, "joins completed under writes")                                                       \
    X(backup_drops, "backup drops")                                                                \
    X(crashes, "crashes")                                                                          \
    X(pauses, "pauses")                                                                            \
    X(resets, "connection resets")                                                                 \
    X(partitions, "partitions")                                                                    \
    X(dropped, "messages dropped")                                                                 \
    X(duplicated, "messages duplicated")                                                           \
    X(reordered, "messages reordered")                                                             \
    X(late_views, "view answers lost or late")                                                     \
    X(expiries, "expiries")                                                                        \
    X(touches, "touches replicated")                                                               \
    X(allocations, "allocations")                                                                  \
    X(frees, "frees")                                                                              \
    X(quarantined, "allocations refused, indexes in quarantine")                                   \
    X(retried_allocations, "retried allocations")                                                  \
    X(conflicts, "conflicts")                                                                      \
    X(full, "inserts refused, table full")                                                         \
    X(held, "replies held for commit")                                                             \
    X(held_back, "client frames the shard did not take at once")                                   \
    X(resnapshots, "snapshot parts that came late and were refused")                               \
    X(stale_clients, "client leases lost")
/* Counted too, but zero is no failure. */
#define SIM_NOTES(X)                                                                               \
    X(lost, "histories that ended with the shard lost")                                            \
    X(unknown, "operations whose outcome stayed unknown")                                          \
    X(drift_compares, "digests compared at equal positions")                                       \
    X(events, "events")

struct counts {
#define X(name, text) uint64_t name;
    SIM_COUNTS(X) SIM_NOTES(X)
#undef X
};

struct world;
struct event;
typedef void (*event_run)(struct world *w, const struct event *e);

struct event {
    uint64_t at_us, order;
    int proc;            /* NOBODY, or who it happens to: waits while it is paused */
    uint32_t life;       /* of that process; a later life never sees it */
    event_run run;
    uint64_t a, b;
    void *ptr;           /* owned by the event, freed after it */
};

struct proc {
    const char *name;
    bool alive;
    uint32_t life;
    uint64_t paused_until_us;
    uint64_t clock_us;   /* its monotonic clock is this much ahead */
};

struct sim_channel;
struct conn_end {
    int proc;
    uint32_t life;
    bool open;
    struct sim_channel *channel; /* clients' ends */
};
struct conn {
    struct conn_end end[2];      /* 0 dialled, 1 accepted */
    uint64_t ordered_us[2];      /* nothing from end i arrives before */
    uint64_t loose_us[2];        /* the latest arrival so far */
};

/* Client frames that the shard did not take yet. */
struct waiting_frame {
    uint32_t conn, bytes;
    void *frame;
};

struct node {
    int proc;                    /* its index, and its place in the world */
    struct world *world;
    struct shard *shard;
    struct msg_node self;
    uint32_t upstream;           /* connection to the primary; 0 */
    bool proposing;
    uint64_t old_epoch;
    struct shard_view want;
    struct waiting_frame *waiting;
    uint32_t nwaiting, waiting_room;
    uint64_t wake_us;            /* scheduled; UINT64_MAX: none */
    uint64_t traced;             /* the state that was traced last */
    uint64_t duplicates_seen, exhausted_seen, expired_seen, touches_seen; /* counted so far */
};

/* One op of a txn under way: where its answer goes in the history. */
struct asked {
    uint8_t code, table;
    uint16_t key;
    int16_t act;
};
struct pending {
    struct world *world;
    struct peer *peer;
    bool used;
    uint32_t op;                 /* in the history */
    int nasked;
    struct asked asked[TXN_OPS_MAX];
};
struct held_index {
    uint8_t slot;
    uint32_t index;
    uint64_t version;
};
struct peer {
    int proc, number;
    struct lethe_client *lethe;
    bool keeper;
    int tables[16];
    struct pending pending[PENDING_MAX];
    uint32_t npending;
    uint64_t wake_us, think_us;
    struct held_index held[HELD_MAX];
    uint32_t nheld;
    uint64_t version[KEYS_MAX];  /* by key: the last it saw */
    uint64_t renewed_us;         /* its lease, at the earliest */
    uint32_t kept;               /* keeper: how many it asked for */
    uint32_t hist_client;        /* number of this life in the history */
};

struct world {
    uint64_t seed, now_us, order;
    uint64_t fingerprint;        /* of every event so far: equal for equal seeds */
    struct rng rng;
    bool trace, stopped;         /* stopped: the workload asks no more */
    bool healed, over, lost;
    struct event *heap;
    uint32_t nheap, heap_room;
    struct proc procs[PROCS];
    struct conn *conns;
    uint32_t nconns, conns_room; /* connection n is conns[n - 1] */
    bool blocked[PROCS][PROCS];
    uint32_t drop_per_mille, slow_per_mille;
    struct shard_view view;      /* the view service's */
    uint64_t crashed_us;         /* of the primary; 0 */
    uint64_t incarnations;
    struct node nodes[NODES];
    struct peer peers[CLIENTS_MAX];
    int npeers;
    uint32_t hist_clients;
    struct history history;
    struct verdict verdict;
    struct counts counts;
    uint64_t *sent_seqs;         /* hash set: (client id, sequence) seen by the store */
};

/* --- sched.c ------------------------------------------------------------------ */

void sched_at(struct world *w, uint64_t at_us, int proc, event_run run, uint64_t a, uint64_t b,
              void *ptr);
/* Runs events up to `until_us`, or until the world is over. */
void sched_run(struct world *w, uint64_t until_us);
void sched_clear(struct world *w);
static inline uint64_t proc_now_us(const struct world *w, int proc)
{
    return w->now_us + w->procs[proc].clock_us;
}
void trace(const struct world *w, int proc, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* --- net.c --------------------------------------------------------------------- */

/* A connection from `from` to `to`; refused later if nobody is there. */
uint32_t net_dial(struct world *w, int from, int to);
struct channel *net_dial_channel(struct world *w, int from, int to);
int net_send(struct world *w, uint32_t conn, int from, const void *frame, uint32_t bytes);
/* `proc` closes its end; the other end hears of it. */
void net_close(struct world *w, uint32_t conn, int proc, const char *why);
bool net_is_open(const struct world *w, uint32_t conn, int proc);
/* The network breaks it: both ends hear of it. */
void net_reset(struct world *w, uint32_t conn);
void net_crash(struct world *w, int proc);
void net_clear(struct world *w);
const char *net_type_name(uint8_t type);

/* --- views.c -------------------------------------------------------------------- */

void views_propose(struct world *w, int node);
/* The primary died; decides, after a while, who goes on. */
void views_primary_died(struct world *w);
bool views_has(const struct world *w, const struct node *n);
/* The node the view names primary, alive or not. */
int views_primary(const struct world *w);

/* --- node.c --------------------------------------------------------------------- */

void node_start(struct world *w, int node);
void node_crash(struct world *w, int node);
void node_stop(struct world *w, int node); /* frees; counts what it did */
void node_frame(struct world *w, int node, uint32_t conn, const void *frame, uint32_t bytes);
void node_closed(struct world *w, int node, uint32_t conn);
void node_view(struct world *w, int node, const struct shard_view *view);
void node_count(struct world *w, int node);
/* Both replicas in the view, at one position, all of it committed. */
bool nodes_settled(const struct world *w);
/* Sets the verdict if equal positions have unequal digests or contents. */
bool nodes_equal(struct world *w, bool deep);

/* --- peer.c --------------------------------------------------------------------- */

void peer_start(struct world *w, int number);
void peer_crash(struct world *w, int number);
void peer_stop(struct world *w, int number);
void peer_ready(struct world *w, int number); /* something came in: poll */
uint32_t peers_pending(const struct world *w);

/* --- workload.c ----------------------------------------------------------------- */

void workload_keys(struct world *w);            /* declares every key in the history */
void workload_open_tables(struct peer *p);
bool workload_ask(struct world *w, struct peer *p); /* one txn; false: no room */
/* The state as the last observation of the history. */
void workload_observe_end(struct world *w, const struct shard *s);
/* After every time-out has passed: what must be gone is gone. */
bool workload_all_expired(struct world *w, const struct shard *s);

/* --- faults.c ------------------------------------------------------------------- */

void faults_start(struct world *w, uint64_t until_us);
void faults_heal(struct world *w);
/* Something changed: trouble may follow at once. */
void faults_provoke(struct world *w);

/* --- run.c ----------------------------------------------------------------------- */

/* One seed from start to verdict; false: the verdict says why. The caller owns
 * the world and clears it. */
bool run_seed(struct world *w, uint64_t seed, bool trace_on);
void run_clear(struct world *w);
/* A check of the simulator's own failed. */
void run_fail(struct world *w, const char *check, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
