/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The shard: the store's core, a pure state machine.
 *
 *     step(shard, event, now) -> effects
 *
 * It does no I/O, reads no clock, owns no thread and draws no randomness but
 * from the seed it was given, so the server (statestore/server/) and the
 * simulator (tests/sim/) drive the very same code.
 *
 * Owner: one thread. Time: `now_ms` is the driver's monotonic clock; the shard
 * keeps *shard time* itself, which only the primary's steps advance and which
 * travels in the log and in heartbeats; deadlines are shard time.
 *
 * Order of one write (DESIGN 1): a BATCH arrives; each txn is executed at once
 * and, if it changed anything, becomes ONE log entry holding its effects and
 * its result; the entry goes to every in-view backup; when all of them
 * acknowledged it the commit position passes it; then, and only then, its
 * result is released. Reads, misses, failed guards, exhausted pools and scans
 * wait for the last position of their hash slot in the same way. Txns that
 * touch only `async` tables are released at once.
 *
 * Views: a view is an epoch and its members, member 0 the primary. The core
 * never invents a view: to drop a silent backup, or to admit one that has
 * caught up, it asks (out->propose_view) and goes on only when the driver
 * answers with SHARD_EV_VIEW. From asking until the answer, commit needs the
 * members of both views and reads are suspended. A backup that suspects its
 * primary asks for a view without it, itself first.
 *
 * Leases: what appended nothing is answered only while every in-view backup
 * granted a lease, counted from when the request for it was *sent*. A new
 * primary seals the members (their epoch moves on), adopts the longest log among
 * them, and answers nobody before one maximum lease, drift included, is over.
 *
 * Ownership: a hash slot is owned by this shard if its log says so. RELEASE is
 * committed here, the state is sent, ACCEPT is committed there, then it is gone
 * here; a txn is bound to (shard, slot epoch) when it is first sent, so that
 * TXN_MOVED is a final answer and its result, if it ran, stays where it ran.
 *
 * Errors: frames were validated at the edge (msg_validate). Table ids, slots
 * and client ids are checked here and answered with a txn_status. Running out
 * of memory is TXN_NO_MEMORY, never an abort.
 */
#ifndef STATESTORE_CORE_SHARD_H
#define STATESTORE_CORE_SHARD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wire/msg.h"

struct shard;

/*
 * Memory of tables with TABLE_ONE_SIDED: clients may read it, the driver registers it. What was
 * given back is read no more in earnest: every record in it was made RECORD_FREE. Yet reads
 * may be on their way for which its address must not yet be another's: the driver keeps it
 * for a while. Thread: the shard's.
 */
struct shard_slabs {
    void *ctx;
    /* Zeroed whole pages of its own, or NULL: no memory. *rkey: by which clients read it; 0: none can
     * (what cannot be registered is used all the same, by requests). */
    void *(*make)(void *ctx, uint64_t bytes, uint32_t *rkey);
    void (*give_back)(void *ctx, void *at, uint64_t bytes);
};

struct shard_config {
    uint16_t shard, shards;      /* this shard's number, and how many there are */
    struct msg_node self;
    uint64_t seed;               /* of the random port choice */
    uint32_t failure_timeout_ms; /* every delay below derives from it */
    uint32_t client_lease_ms;    /* shard time; 0: 100 * failure_timeout_ms */
    uint64_t memory_bytes;       /* limit over all tables; 0: unlimited */
    uint32_t log_bytes;          /* bound of the unacknowledged log; 0: 16 MiB */
    uint32_t copies;             /* replicas wanted in the view, 1..3; 0: 3. More may not join */
    uint32_t min_copies;         /* commit waits while the view has fewer; 0: 1 */
    const struct shard_limit *limits; /* kept */
    uint32_t nlimits;
    struct shard_slabs slabs;    /* make NULL: nobody reads one-sidedly here */
};

/* Memory of all tables whose name matches ("nat.session", "nat.*", "*"): one of a
 * table, or, with several patterns, of a tenant. */
struct shard_limit {
    const char *who;             /* for sentences: "tenant workers" */
    const char *const *patterns;
    uint32_t npatterns;
    uint64_t bytes;
};

enum { SHARD_LIMITS_MAX = 63 };
/* How limit `i` stands; i == nlimits: memory_bytes of the shard as a whole. */
struct shard_limit_status { uint64_t bytes, used, refused; };
void shard_limit_get(const struct shard *s, uint32_t i, struct shard_limit_status *out);

struct shard_view {
    uint64_t epoch;
    uint32_t nmembers;
    struct msg_node members[3];
    bool accepted_loss;          /* an operator said that members[0] is to serve what it has, or
                                    nothing, because all who had more are proven dead */
};

/* What the operator's tools ask of a primary. */
enum shard_order_kind {
    SHARD_ORDER_MOVE = 1,        /* slots first..last of those owned here go to shard `to` */
    SHARD_ORDER_LEND,            /* up to `count` free indexes of pool `table` to `to` */
    SHARD_ORDER_HAND_OVER,       /* another member is to be the primary: planned, nobody died */
    SHARD_ORDER_LEAVE,           /* this replica is about to be stopped (any role; until it is) */
};
struct shard_order {
    enum shard_order_kind kind;
    uint8_t first, last;
    uint16_t to;
    uint32_t count;
    char table[TABLE_NAME_MAX];
};

enum shard_event_kind {
    SHARD_EV_FRAME = 1,  /* a validated frame came in on `conn` */
    SHARD_EV_CLOSED,     /* `conn` is gone; its number is not used again */
    SHARD_EV_TICK,       /* time went on; due at least when shard_next_ms() says */
    SHARD_EV_VIEW,       /* the view service's word: the view is now `view` */
    SHARD_EV_SUSPECT,    /* the driver has cause to think that `node`, the primary, is gone: its
                            port refuses us. If we follow another one already it is no news.
                            Silence the core notices by itself */
    SHARD_EV_ORDER,
};

struct shard_event {
    enum shard_event_kind kind;
    uint32_t conn;               /* driver's number of a connection, never 0 */
    const void *frame;
    uint32_t frame_bytes;
    const struct shard_view *view;
    const struct shard_order *order;
    uint32_t node;
};

/* Where effects go. Called during shard_step only, in order; the frame is lent
 * for the call. `ctx` is the driver's. */
struct shard_out {
    void *ctx;
    void (*send)(void *ctx, uint32_t conn, const void *frame, uint32_t bytes);
    void (*close)(void *ctx, uint32_t conn, const char *why);
    /* Ask the view service to replace view `old_epoch` by `want`; answered
     * later, or within the next step, by SHARD_EV_VIEW with the outcome
     * (`want`, or the view that stands instead). */
    void (*propose_view)(void *ctx, uint64_t old_epoch, const struct shard_view *want);
    /* A line for the operator's log: role changes, drift, limits. Not per txn. An event of few
     * words, ": ", then what it is about as key=value, `cause` among it:
     *     view proposed: without=2 cause="it is silent" */
    void (*note)(void *ctx, const char *text);
};

/* A shard that belongs to no view yet: it answers NOT_PRIMARY until an
 * SHARD_EV_VIEW names it the primary, or, as a backup, until a snapshot. NULL:
 * out of memory. */
struct shard *shard_create(const struct shard_config *config);
void shard_destroy(struct shard *s);

/* A replica that is not in the view: keep sending JOIN to the primary on this
 * connection (the driver made it and sent HELLO / got WELCOME) until the view
 * holds us. `conn` 0: stop. */
void shard_join_through(struct shard *s, uint32_t conn);

/* The shard this one wants to send something to, -1: none; and the connection
 * to that shard's primary (the driver made it, said HELLO as ROLE_MOVER and was
 * welcomed by one that serves). `conn` 0: it is gone. */
int shard_wants_mover(const struct shard *s);
void shard_move_through(struct shard *s, uint32_t conn);

/* `now_ms` is read after the frame was received: a read is served under a lease
 * that was valid then. */
void shard_step(struct shard *s, const struct shard_event *ev, uint64_t now_ms,
                const struct shard_out *out);

/* When the next SHARD_EV_TICK is due, driver's clock; UINT64_MAX: never. */
uint64_t shard_next_ms(const struct shard *s);
/* False while the unacknowledged log or the waiting replies are at their
 * bound: the driver then reads no client frame, which is the back-pressure. */
bool shard_takes_requests(const struct shard *s);
/* Nobody needs this replica (any more): it is in no view; or, told to leave, it is the last copy
 * of all and nobody came to take it. */
bool shard_may_stop(const struct shard *s);

void shard_status_get(const struct shard *s, struct shard_status *out);
/* What an operator sees beyond that, as of the last step. Local: nothing of it is on the wire. */
#define SHARD_NO_LEASE UINT64_MAX
enum shard_collecting {          /* what a primary waits for before it serves */
    SHARD_COLLECTS_NOTHING = 0,
    SHARD_COLLECTS_MEMBERS,      /* a member has not said yet what it has */
    SHARD_COLLECTS_TAIL,         /* one has more than we, and sends it */
    SHARD_COLLECTS_LEASE,        /* an earlier primary may answer reads still */
};
struct shard_health {
    uint64_t lease_left_ms;      /* until the shortest lease runs out; 0: it did, nothing is read.
                                    SHARD_NO_LEASE: no backup to have one of, or no primary */
    uint64_t lease_wait_ms;      /* collecting: left of the wait for earlier leases */
    uint64_t proposal_open_ms;   /* how long our own proposal is unanswered; 0: none */
    uint64_t events_pending;
    uint64_t slots_sent, slots_taken; /* moves done, as source and destination, since the start */
    uint64_t indexes_to_lend;    /* ordered, and not lent yet */
    uint32_t collecting;         /* enum shard_collecting */
    uint32_t collects_from;      /* the node it is about; 0: none */
    uint32_t slots_owned, slots_sending, slots_incoming, slots_queued;
    uint32_t consumers;          /* (client, table) that take events */
    uint32_t suspended_replies;  /* committed, but not told without leases */
    uint64_t timers_armed;       /* entries that the primary's wheel watches */
    uint64_t timers_late_ms;     /* how far the wheel is behind shard time */
};
void shard_health_get(const struct shard *s, struct shard_health *out);
/* Counted since the start. Local. */
struct shard_counts {
    uint64_t ops[TXN_CODE_END], results[TXN_STATUS_END], batches;
    uint64_t views;              /* adopted */
    uint64_t takeovers, takeover_ms, takeover_last_ms; /* from the last word of the earlier
                                    primary, if it was heard, to serving; all, and the newest */
};
void shard_counts_get(const struct shard *s, struct shard_counts *out);
/* A primary's log positions that a replica has not acknowledged. */
struct shard_replica { uint32_t node, joining; uint64_t lag; };
enum { SHARD_REPLICAS_MAX = 8 };
uint32_t shard_replicas_get(const struct shard *s, struct shard_replica out[SHARD_REPLICAS_MAX]);
/* pool_*: of slots owned here. Looks at every slot of pools: for once in a while. */
struct shard_table {
    char name[TABLE_NAME_MAX];
    uint64_t entries, max_entries, bytes, events_pending, pool_free, pool_resting;
    uint32_t kind, zero;         /* enum table_kind */
    struct table_schema schema;
};
uint32_t shard_tables_get(const struct shard *s, struct shard_table *out, uint32_t room);
/* Serves: *position of its log, *commit. Cheap, for after each step. */
bool shard_progress(const struct shard *s, uint64_t *position, uint64_t *commit);
/* Pool indexes that slots here lent, and have borrowed; and those of them that crossed
 * shards. Looks at every index of a pool that lent: for once in a while. */
struct shard_loans { uint64_t lent, lent_to_shards, borrowed, borrowed_from_shards; };
void shard_loans_get(const struct shard *s, struct shard_loans *out);
/* Why the last SHARD_EV_ORDER was not taken, a sentence; "": it was. */
const char *shard_order_refused(const struct shard *s);
/* Another incarnation than shard_config's, and a later one: before the first SHARD_EV_VIEW. */
void shard_self_set(struct shard *s, uint64_t incarnation);
/* Who we are now: discarding state makes a new incarnation. */
void shard_self_get(const struct shard *s, struct msg_node *out);

/* The last position that is a multiple of SHARD_MARK_EVERY, and the digest of
 * the state there; 0: none yet, or not since the state was discarded. All
 * replicas mark the same positions, so that an observer who asks one after the
 * other, while writes go on, can compare. */
enum { SHARD_MARK_EVERY = 1024 };
void shard_mark_get(const struct shard *s, uint64_t *position, uint64_t *digest);

/* --- for tests, the digest and the simulator's checkers --------------------- */

/* Pool indexes that hash slots of this shard lent to slots here or elsewhere. */
uint32_t shard_lent(const struct shard *s);

/* One entry of the state, as seen by an oracle. */
struct shard_entry {
    const char *table;
    uint8_t kind, slot, key_len;
    const uint8_t *key, *value;
    uint32_t value_len, children;
    uint64_t version, deadline_ms, replicated_deadline_ms;
};
/* Every live entry, in no order. */
void shard_each(const struct shard *s, void (*each)(void *ctx, const struct shard_entry *e),
                void *ctx);
/* Recomputes the digest from the whole content, slowly: the oracle of the
 * incremental one. */
uint64_t shard_digest_slow(const struct shard *s);

/* Planted bugs (DESIGN 7): compiled in only with -DLETHE_PLANTED_BUGS, chosen
 * at run time so that one build of the simulator finds them all. */
#define SHARD_BUGS_FIRST(X)                                                                       \
    X(BUG_NONE, "none")                                                                           \
    X(BUG_ACK_BEFORE_BACKUP, "acknowledge before the backup has it")                              \
    X(BUG_READ_NOT_HELD, "reply not held for an uncommitted read")                                \
    X(BUG_MISS_NOT_HELD, "reply not held for an uncommitted miss")                                \
    X(BUG_VERSION_REUSED, "version reused after delete and re-insert")                            \
    X(BUG_RESULTS_NOT_REPLICATED, "result table not replicated")                                  \
    X(BUG_SNAPSHOT_OVERLAP, "snapshot and live log overlap applied twice")                        \
    X(BUG_TOUCH_NOT_LOGGED, "touch never replicated; an active entry expires after promotion")    \
    X(BUG_QUARANTINE_SKIPPED, "pool index given out during quarantine")
#define SHARD_BUGS_VIEWS(X)                                                                       \
    X(BUG_DEPOSED_KEEPS_DATA, "deposed replica keeps its data")                                   \
    X(BUG_TIMER_EARLY, "timer early after promotion")                                             \
    X(BUG_OLD_VIEW_COMMITS, "commit by the old view alone while a change is open")                \
    X(BUG_JOINER_TAKES_OVER, "a freshly added backup takes over at once")                         \
    X(BUG_SHORTER_TAIL, "shorter tail adopted")                                                   \
    X(BUG_UNKNOWN_TAKEN_FOR_FAILURE, "compare-and-swap of unknown outcome taken for a failure")   \
    X(BUG_UNKNOWN_TAKEN_FOR_SUCCESS, "compare-and-swap of unknown outcome taken for a success")   \
    X(BUG_READ_AFTER_LEASE, "read after the lease lapsed")                                        \
    X(BUG_NO_WAIT, "take-over without waiting")                                                   \
    X(BUG_LEASE_FROM_RECEIPT, "lease counted from receipt")                                       \
    X(BUG_READS_WHILE_PROPOSING, "reads not suspended while a proposal is open")                  \
    X(BUG_STALE_EPOCH_ACCEPTED, "stale epoch accepted")                                           \
    X(BUG_OTHER_INCARNATION_ACKS, "acknowledgement of another incarnation counted")               \
    X(BUG_TAIL_COMMITTED, "adopted tail taken for committed")
/* Those that the simulator does not find yet. */
#define SHARD_BUGS_VIEWS_NEXT(X)                                                                  \
    X(BUG_ONE_LEASE, "a lease from one backup is enough")                                         \
    X(BUG_WAIT_WITHOUT_DRIFT, "drift of clocks left out of the wait")                             \
    X(BUG_MAP_UNCOMMITTED, "the map tells of an uncommitted release")                             \
    X(BUG_OLD_CLIENT_ID, "client ids of an earlier term remembered")                              \
    X(BUG_UNANSWERED_WISH_KEPT, "a primary whose wish is unanswered asks for leases for ever")    \
    X(BUG_ATTEMPT_WITHOUT_EPOCH, "attempts of a move numbered without the epoch")                 \
    X(BUG_STALE_UNCOMMITTED, "a client is told that it expired before that is committed")
/* Of links by RDMA: in the simulator's driver (tests/sim/ring.h), and in the core. */
#define SHARD_BUGS_WRITES(X)                                                                      \
    X(BUG_COMPLETION_ACKS, "completion of a WRITE taken for an acknowledgement")                  \
    X(BUG_TAIL_NOT_SCANNED, "the same, and a sealed ring's tail not looked at")                   \
    X(BUG_LATE_WRITE_LANDS, "neither the link fenced nor an earlier epoch's entries refused")
#define SHARD_BUGS_MOVES(X)                                                                       \
    X(BUG_DOUBLE_OWNER, "double owner after a fail-over in the middle of a move")                 \
    X(BUG_FLIP_BEFORE_TAIL, "map flips before all of the slot has come")                          \
    X(BUG_INDEX_FREED_TWICE, "index freed twice")
#define SHARD_BUGS_MOVES_NEXT(X)                                                                  \
    X(BUG_READERS_KEEP_SLOT, "records of a released slot are read one-sidedly still")
#define SHARD_BUGS_TABLES(X)                                                                      \
    X(BUG_TXN_HALF_APPLIED, "txn half applied")                                                   \
    X(BUG_EVENT_LOST, "event lost in fail-over")                                                  \
    X(BUG_TWO_CONSUMERS, "two consumers on one cursor")                                           \
    X(BUG_EXPIRED_CLIENT, "expired client id executed")
#define SHARD_BUGS_TABLES_NEXT(X)
#define SHARD_BUGS(X) SHARD_BUGS_FIRST(X) SHARD_BUGS_VIEWS(X) SHARD_BUGS_MOVES(X) SHARD_BUGS_TABLES(X) \
    SHARD_BUGS_WRITES(X)
enum shard_bug {
#define X(name, text) name,
    SHARD_BUGS(X)
#undef X
    SHARD_BUG_END,
#define X(name, text) name,
    SHARD_BUGS_VIEWS_NEXT(X) SHARD_BUGS_MOVES_NEXT(X) SHARD_BUGS_TABLES_NEXT(X)
#undef X
};
#ifdef LETHE_PLANTED_BUGS
extern enum shard_bug shard_bug;
#define SHARD_BUG(b) (shard_bug == (b))
#else
#define SHARD_BUG(b) 0
#endif

#endif
