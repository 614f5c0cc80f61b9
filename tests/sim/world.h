/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The simulated world: four store nodes, each with a replica of every shard, a
 * view service, clients, and a network between them. Time is what events move;
 * each process has a clock of its own, somewhat fast or slow.
 *
 *   sched.c    the event queue; processes, clocks, pauses, crashes
 *   net.c      connections, messages, channels; loss, duplicates, reordering
 *   ring.c     links by RDMA: a backup's memory that the primary writes into
 *   nic.c      one-sided reads: network cards that copy a core's memory
 *   views.c    the view service: a key per shard, compare-and-swap, watches
 *   node.c     a store process: life, links to primaries, the view provider
 *   replica.c  one shard's core in it: events in, effects out
 *   equal.c    replicas at one position are equal
 *   rules.c    rules that are watched while things happen
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
#include "nic.h"
#include "ops.h"
#include "ring.h"
#include "rng.h"
#include "statestore/core/proposal.h"

enum {
    SHARDS = 2,
    NODES = 4,
    COPIES_MAX = 3,
    CLIENTS_MAX = 6,
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
    SILENCE_MS = 4 * RETRY_MS,
    LOG_BYTES = 10 * 1024,            /* fills up while a backup is silent */
    CLOCK_UNIT = 1024,
    DRIFT_MAX = CLOCK_UNIT / 17,      /* of a clock, either way: one gains an eighth on another */
};

/* What a run counts. Each must be non-zero over a whole invocation. */
#define SIM_COUNTS(X)                                                                              \
    X(operations, "operations")                                                                    \
    X(retries, "retries")                                                                          \
    X(duplicates, "duplicates suppressed by the result table")                                     \
    X(fail_overs, "fail-overs completed")                                                          \
    X(joins, "joins completed under writes")                                                       \
    X(backup_drops, "backup drops")                                                                \
    X(deposed, "live primaries deposed")                                                           \
    X(tails, "log entries fetched from a member with a longer tail")                               \
    X(late_timers, "timers fired after a promotion")                                               \
    X(lapsed, "replies that waited for a lease alone")                                             \
    X(hand_overs, "hand-overs")                                                                    \
    X(leaves, "nodes that left before they were stopped")                                          \
    X(moves, "moves of hash slots completed")                                                      \
    X(moves_through, "moves with a fail-over in the middle")                                       \
    X(moved_txns, "txns that followed their slot")                                                 \
    X(lent, "indexes lent")                                                                        \
    X(loans, "lends between shards")                                                               \
    X(loans_through, "lends with a fail-over in the middle")                                       \
    X(crashes, "crashes")                                                                          \
    X(pauses, "pauses")                                                                            \
    X(resets, "connection resets")                                                                 \
    X(inner_losses, "nodes whose inner network was lost or slow")                                  \
    X(refusals, "nodes refused by another")                                                        \
    X(partitions, "partitions")                                                                    \
    X(dropped, "messages dropped")                                                                 \
    X(duplicated, "messages duplicated")                                                           \
    X(reordered, "messages reordered")                                                             \
    X(spares, "spares admitted")                                                                   \
    X(late_views, "view answers lost or late")                                                     \
    X(unknown_swaps, "compare-and-swaps of unknown outcome")                                       \
    X(outages, "outages of the view service")                                                      \
    X(expiries, "expiries")                                                                        \
    X(events, "events delivered")                                                                  \
    X(events_again, "events redelivered")                                                          \
    X(touches, "touches replicated")                                                               \
    X(allocations, "allocations")                                                                  \
    X(frees, "frees")                                                                              \
    X(quarantined, "allocations refused, indexes in quarantine")                                   \
    X(retried_allocations, "retried allocations")                                                  \
    X(estimates, "additions to sketches")                                                          \
    X(conflicts, "conflicts")                                                                      \
    X(full, "inserts refused, table full")                                                         \
    X(held, "replies held for commit")                                                             \
    X(held_back, "client frames the shard did not take at once")                                   \
    X(resnapshots, "snapshot parts that came late and were refused")                               \
    X(stale_clients, "client leases lost")                                                         \
    X(fences, "links by RDMA that were fenced")                                                    \
    X(fenced_frames, "frames found in the ring of a fenced link")                                  \
    X(fenced_writes, "late writes of a deposed primary, fenced off")                               \
    X(unseen, "writes that completed before the backup saw them")                                 \
    X(reads_hit, "gets answered by a one-sided read")                                              \
    X(reads_unknown, "gets asked for: no place remembered")                                        \
    X(reads_no_lease, "gets asked for: no lease, or over before the read was")                     \
    X(reads_touch_due, "gets asked for: a touch was due")                                          \
    X(reads_expired, "gets asked for: may be past the deadline")                                   \
    X(reads_pending, "gets asked for: the record was pending")                                     \
    X(reads_torn, "gets asked for: the copy was torn")                                             \
    X(reads_gone, "gets asked for: the record was another's, or free, or released")                \
    X(reads_full, "gets asked for: too many reads under way")                                      \
    X(reads_closed, "gets asked for: the connection closed")                                       \
    X(reads_amid, "reads of a record in the midst of a write")                                     \
    X(reads_given_up, "one-sided reads that the network lost too often")
/* Counted too, but zero is no failure. */
#define SIM_NOTES(X)                                                                               \
    X(lost, "histories that ended with the shard lost")                                            \
    X(reads_refused, "one-sided reads of memory that was gone")                                    \
    X(unknown, "operations whose outcome stayed unknown")                                          \
    X(drift_compares, "digests compared at equal positions")                                       \
    X(steps, "steps of the simulation")

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
    uint64_t clock_us;   /* its monotonic clock began at */
    int32_t drift;       /* and does CLOCK_UNIT + drift while CLOCK_UNIT pass */
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
    uint16_t shard, dialler;     /* accepting replica's; dialling replica's */
    bool refused;                /* nobody was there, or something on the way says so */
    bool broken[2];              /* end i hears of it whatever lies between */
    uint64_t ordered_us[2];      /* nothing from end i arrives before */
    uint64_t loose_us[2];        /* the latest arrival so far */
    uint64_t waits_us[2];        /* what is in order and waits for a partition's end goes then */
    struct ring ring;            /* of what end 1 sends, if it is one by RDMA */
};

/* Client frames that the shard did not take yet. */
struct waiting_frame {
    uint32_t conn, bytes;
    void *frame;
};

/* A connection that a replica made. */
struct link {
    uint32_t conn;               /* 0: none */
    int to;                      /* node */
    uint16_t shard;
    bool welcome;                /* by one that serves, ... */
    struct msg_node whom;        /* ... and this is that one */
    uint64_t since_us, heard_us;
};
struct replica {
    struct world *world;
    int proc;                    /* its node */
    uint16_t number;             /* its shard */
    char name[16];
    struct shard *shard;
    struct slabs slabs;
    struct msg_node self;
    struct shard_view known;     /* the newest view heard of */
    struct proposal proposal;
    uint32_t request;            /* number of the newest compare-and-swap */
    struct link upstream;        /* to the primary */
    struct link mover;           /* to the primary of the shard that gets something */
    struct waiting_frame *waiting;
    uint32_t nwaiting, waiting_room;
    uint64_t wake_us;            /* scheduled; UINT64_MAX: none */
    uint64_t heard_us;           /* the last APPEND, or when it was no longer the primary */
    bool stood_down;             /* since it served last; whoever followed may never have */
    struct shard_status seen;    /* counted so far */
    struct shard_status st;      /* after the last step */
    uint64_t primary_epoch, primary_from; /* its newest as primary, and where its log began then */
    uint64_t served_epoch;       /* it was seen to serve in this view */
    uint64_t traced;             /* the state that was traced last */
    uint64_t commit_seen;        /* by rules.c */
    uint64_t stepped_ms;         /* its clock at the last step */
    uint32_t steps;
    uint32_t lent;               /* its slots', counted so far */
};

/* A txn under way. */
struct pending {
    struct world *world;
    struct peer *peer;
    bool used;
    uint32_t op;                 /* in the history: its first acts are what was asked, one by one */
    uint32_t nasked;
    struct asked asked[TXN_OPS_MAX];
};
struct held_index {
    uint32_t index;
    uint64_t version;
};
struct peer {
    int proc, number;
    struct lethe_client *lethe;
    bool keeper, calm;           /* calm: it asks now and then */
    bool reader;                 /* mostly reads, and much */
    bool rdma;                   /* it may read past the store's processor */
    int tables[16];
    struct pending pending[PENDING_MAX];
    uint32_t npending;
    uint64_t wake_us, think_us;
    struct held_index held[HELD_MAX];
    uint32_t nheld;
    uint64_t version[KEYS_MAX];  /* by key: the last it saw */
    uint64_t renewed_us[SHARDS]; /* its leases, at the earliest */
    uint16_t hears;              /* the shard whose frame it reads now */
    uint64_t moved_seen;         /* counted so far */
    uint64_t reads_seen[READ_OUTCOMES_END];
    uint32_t kept;               /* keeper: how many it asked for */
    uint32_t hist_client;        /* number of this life in the history */
    int next_node[SHARDS];       /* to be tried */
};
/* What the view service keeps of a shard, and what is remembered to count. */
struct shard_key {
    struct shard_view view;
    uint32_t full;               /* nodes that were members when it was last complete */
    uint64_t served_epoch;       /* the newest in which a primary was seen to serve */
    struct msg_node served_by;
    struct reached { uint64_t epoch, position, us; } *reached; /* by primaries */
    uint32_t nreached, reached_room;
    uint64_t idle_from_us;       /* nobody serves it, though one of `able` could */
    uint32_t able;               /* nodes, all the time since */
    uint64_t lost_from_us;       /* of the fail-overs under way: what may be lost; HIST_NEVER */
    struct shard_view *past;     /* every view so far */
    uint32_t npast, past_room;
    struct held_position { struct msg_node node; uint64_t position; } *held; /* at most */
    uint32_t nheld, held_room;
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
    bool blocked[PROCS][PROCS];  /* from, to */
    uint64_t blocked_until_us[PROCS][PROCS];
    bool refuses[PROCS][PROCS];  /* who dials across is refused at once */
    uint32_t lag_us[PROCS][PROCS]; /* of that way, besides chance */
    uint32_t drop_per_mille, slow_per_mille;
    uint32_t views_lost_per_mille, views_late_us; /* besides what is always lost, or late */
    uint64_t views_back_us;      /* the view service is away until then */
    struct shard_key keys[SHARDS];
    uint32_t copies;             /* wanted */
    uint64_t incarnations;
    struct replica replicas[NODES][SHARDS];
    struct nic nic;
    struct peer peers[CLIENTS_MAX];
    int npeers;
    uint32_t hist_clients;
    struct history history;
    struct verdict verdict;
    struct counts counts;
    struct moving {              /* a hash slot, from the order on */
        uint64_t since_us;       /* 0: it is not */
        uint32_t epoch;          /* the newest that was begun, and accepted */
        uint32_t accepted;
        uint64_t served[SHARDS]; /* epochs of the shards when it was begun */
    } moving[LETHE_SLOTS];
    struct lending {             /* by the lending shard */
        uint32_t begun, taken;   /* numbers of loans */
        uint64_t served[SHARDS];
    } lending[SHARDS];
    struct consumer_seen {       /* who was sent events of a slot, under which epoch */
        uint8_t table, slot;
        uint64_t epoch, client;
    } *consumers;
    uint32_t nconsumers, consumers_room;
    int16_t table_of[SHARDS][TABLES_MAX]; /* by the shard's number: enum sim_table + 1 */
    uint64_t *sent_seqs;         /* hash sets: (client id, sequence) seen by the store; reads */
    struct leased_id {           /* told to a client process, under which nonce */
        uint64_t client, nonce;
        uint32_t life;
    } *leased;
    uint32_t nleased, leased_room;
    struct told_owner { uint64_t view_epoch; uint32_t epoch; } told[SHARDS][LETHE_SLOTS];
};

/* --- sched.c ------------------------------------------------------------------ */

void sched_at(struct world *w, uint64_t at_us, int proc, event_run run, uint64_t a, uint64_t b,
              void *ptr);
/* Runs events up to `until_us`, or until the world is over. */
void sched_run(struct world *w, uint64_t until_us);
void sched_clear(struct world *w);
static inline uint64_t proc_now_us(const struct world *w, int proc)
{
    const struct proc *p = &w->procs[proc];
    return p->clock_us + w->now_us + (uint64_t)((int64_t)w->now_us * p->drift / CLOCK_UNIT);
}
/* When its clock will show that; not before now. */
uint64_t proc_when_us(const struct world *w, int proc, uint64_t clock_us);
void trace(const struct world *w, int proc, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* --- net.c --------------------------------------------------------------------- */

/* A connection from `from` to `to`; refused later if nobody is there. */
uint32_t net_dial(struct world *w, int from, uint16_t dialler, int to, uint16_t shard);
struct channel *net_dial_channel(struct world *w, int from, int to, uint16_t shard, bool rdma);
/* The client's end, while it is open. */
struct nic_end *net_reads(struct world *w, uint32_t conn);
/* `shard`: of the replica that sends; a node may speak to itself. */
int net_send(struct world *w, uint32_t conn, int from, uint16_t shard, const void *frame,
             uint32_t bytes);
/* `proc` closes its end; the other end hears of it. */
void net_close(struct world *w, uint32_t conn, int proc, uint16_t shard, const char *why);
/* A frame is there for an end of a connection. */
void net_deliver(struct world *w, uint32_t conn, int end, const void *frame, uint32_t bytes);
bool net_is_open(const struct world *w, uint32_t conn, int proc, uint16_t shard);
/* The network breaks it: both ends hear of it. */
void net_reset(struct world *w, uint32_t conn);
/* A filter at `from` breaks all that it has with `to`, who hears nothing. */
void net_refuse(struct world *w, int from, int to);
void net_crash(struct world *w, int proc);
void net_clear(struct world *w);
const char *net_type_name(uint8_t type);

/* --- views.c -------------------------------------------------------------------- */

void views_begin(struct world *w);
/* The replica's proposal is due: a compare-and-swap travels, or the read before it. */
void views_ask(struct world *w, struct replica *r, bool swap);
/* It asks now and then what stands. */
void views_read(struct world *w, struct replica *r);
static inline const struct shard_view *views_of(const struct world *w, int shard)
{
    return &w->keys[shard].view;
}
bool views_has(const struct world *w, const struct replica *r);
/* No member of a view lives: the history ends. */
void views_look_for_loss(struct world *w);
/* Notes where a primary's log stands: what async writes a fail-over may lose. */
void views_note_primary(struct world *w, struct replica *r);
void views_note_fail_over(struct world *w, struct replica *r);
/* From now on: who could serve does, soon. */
void views_watch_service(struct world *w);
/* No more primaries of earlier views: the fail-over is over. */
void views_end_fail_over(struct world *w, int shard, bool by_force);
/* The node that the service's view names primary, alive or not. */
int views_primary(const struct world *w, int shard);
bool views_same_node(const struct msg_node *a, const struct msg_node *b);

/* --- node.c --------------------------------------------------------------------- */

void node_start(struct world *w, int node);
void node_crash(struct world *w, int node);
void node_stop(struct world *w, int node); /* frees; counts what it did */
void node_frame(struct world *w, struct replica *r, uint32_t conn, const void *frame,
                uint32_t bytes);
void node_closed(struct world *w, struct replica *r, uint32_t conn);
/* What the view service said to a replica, or that it said nothing. `request`
 * 0: not the answer to a proposal's request. */
void node_view_answer(struct world *w, struct replica *r, uint32_t request,
                      enum proposal_answer answer, const struct shard_view *view);

/* --- replica.c -------------------------------------------------------------------- */

void replica_create(struct world *w, int node, int shard);
void replica_destroy(struct replica *r);
void replica_step(struct replica *r, const struct shard_event *ev);
void replica_view(struct replica *r, const struct shard_view *view);
/* A frame for the core; a client's waits while it takes none. */
void replica_frame(struct replica *r, uint32_t conn, const void *frame, uint32_t bytes);
void replica_count(struct replica *r);
void replica_set_alarm(struct replica *r);
/* An operator's order, when the process runs. */
void replica_order(struct replica *r, const struct shard_order *order);
uint64_t replica_now_ms(const struct replica *r);
void replica_trace(const struct replica *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* --- rules.c ---------------------------------------------------------------------- */

/* It stands now. */
void rules_view(struct world *w, int shard, const struct shard_view *v);
/* Its state has changed, perhaps. */
void rules_stepped(struct replica *r);
/* It begins to serve a view. */
void rules_serves(struct replica *r, uint64_t epoch);
/* A store is asked this; true: it was before. */
bool rules_asked(struct world *w, uint64_t client, const struct txn_head *t);
/* It sends a frame. */
void rules_tells(struct replica *r, uint32_t conn, const void *frame);
void rules_clear(struct world *w);

/* --- equal.c ---------------------------------------------------------------------- */

/* All members of the view in it, at one position, all of it committed. */
bool replicas_settled(const struct world *w, int shard);
/* Sets the verdict if equal positions of one view have unequal digests, or, if
 * `deep`, contents. */
bool replicas_equal(struct world *w, int shard, bool deep);

/* --- peer.c --------------------------------------------------------------------- */

void peer_start(struct world *w, int number);
void peer_crash(struct world *w, int number);
void peer_stop(struct world *w, int number);
void peer_ready(struct world *w, int number); /* something came in: poll */
uint32_t peers_pending(const struct world *w);

/* --- workload.c ----------------------------------------------------------------- */

void workload_keys(struct world *w);            /* declares every key in the history */
uint8_t workload_slot(uint32_t n);              /* a hash slot that is used, or some other */
void workload_open_tables(struct peer *p);
bool workload_ask(struct world *w, struct peer *p); /* one txn; false: no room */
/* What a client hears from a store: two consumers never hold one epoch. */
void workload_overhears(struct world *w, const struct msg_head *h);
/* The state as the last observation of the history. */
void workload_observe_end(struct world *w);
/* After every time-out has passed: what must be gone is gone. */
bool workload_all_expired(struct world *w);

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
