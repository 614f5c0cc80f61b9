/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the core share: struct shard, and who does what.
 *
 *   shard.c     life, dispatch of events, status
 *   execute.c   a txn's ops, one by one, on the working set
 *   read.c      the shortest way of a plain get
 *   plan.c      the working set: what a txn is about to change; its log entry
 *   apply.c     a log entry (or snapshot record) becomes state
 *   log.c       the ring of entries, commit, replies that wait for it
 *   reply.c     connections, results on their way out
 *   request.c   what clients ask for: BATCH, CLIENT_OPEN, TABLE_OPEN
 *   client.c    leases, kept results, watermarks
 *   timer.c     the timing wheel, expiry
 *   view.c      roles: who is primary, proposals, suspicion
 *   collect.c   between being named primary and serving
 *   leave.c     who is about to be stopped, and who takes its place
 *   lease.c     what may be told without a commit to prove it
 *   peer.c      primary's side of replication
 *   backup.c    backup's side of replication
 *   snapshot.c  a slot's state to bytes
 *   join.c      primary's side of a join
 *   event.c     event logs: events, cursors, consumers as state
 *   consumer.c  primary's side of them: who is given which, pushing
 *   sketch.c    count-min sketches
 *   onesided.c  what clients that read one-sidedly are told
 *   limit.c     memory limits of tables and tenants
 *   move.c      who owns a hash slot; the source's side of a move
 *   accept.c    the destination's side
 *   lend.c      pool indexes lent from slot to slot
 *   loan.c      pool indexes lent from shard to shard
 *   digest.c    the slow digest, shard_each
 *   health.c    what an operator sees of it
 *
 * Everything runs on the shard's thread, inside shard_step.
 */
#ifndef STATESTORE_CORE_INTERNAL_H
#define STATESTORE_CORE_INTERNAL_H

#include "common/wire/crc.h"
#include "effect.h"
#include "shard.h"
#include "table.h"

enum {
    LOG_BYTES_DEFAULT = 16 * 1024 * 1024,
    REPLIES_MAX = 65536,          /* waiting for commit */
    REPLIES_SOFT = REPLIES_MAX - 4 * MSG_BATCH_MAX,
    CLIENTS_MAX = 4096,
    CLIENT_KEPT_FREE = MSG_CLIENT_WINDOW / 8, /* seqs behind the watermark not held to
                                                 CLIENT_KEPT_BYTES */
    CONNS_MAX = 16384,
    PEERS_MAX = 8,                /* in view, proposed, or joining */
    JOINERS_MAX = 2,              /* at a time */
    WORK_MAX = 96,                /* entries one txn may change, reactions included */
    TOUCHES_MAX = 2 * TXN_OPS_MAX,
    VERSION_EPOCH_SHIFT = 40,     /* writes of a hash slot in one epoch: fewer than 2^40 */
    REACTION_DEPTH_MAX = 4,
    EXPIRIES_PER_STEP = 512,
    CASCADES_PER_STEP = 8192, /* timers that go down a level of the wheel */
    TIMER_TICK_MS = 8,
    WILLING_MAX = 1024,           /* (client, table) that consume events */
    WHEEL_LEVELS = 4,
    WHEEL_BUCKETS = 256,
};

/* The simulator's build makes these small, so that its small shards meet them. */
#ifdef LETHE_SMALL_BOUNDS
#define SHARD_BOUND(real, simulated) (simulated)
#else
#define SHARD_BOUND(real, simulated) (real)
#endif
enum {
    LOG_ENTRY_MAX = SHARD_BOUND(128 * 1024, 1280),     /* one entry; see WORK_MAX */
    LOG_BYTES_MIN = 8 * LOG_ENTRY_MAX,
    /* encoded in one step, a big slot excepted */
    SNAPSHOT_STEP_BYTES = SHARD_BOUND(1024 * 1024, 8000),
    CHUNK_BODY_BYTES = SHARD_BOUND(48 * 1024, 1500),
    CHUNK_WINDOW = SHARD_BOUND(16, 48),                /* parts unacknowledged */
    APPEND_BODY_BYTES = SHARD_BOUND(128 * 1024, 2000),
    APPEND_WINDOW_BYTES = SHARD_BOUND(2 * 1024 * 1024, 5000),
    MOVE_BODY_BYTES = SHARD_BOUND(48 * 1024, 1000),    /* of a part: it becomes one log entry */
    LEND_MAX = SHARD_BOUND(32, 4),                     /* pool indexes at a time */
    LOAN_MAX = SHARD_BOUND(256, 8),                    /* to another shard: one part of a move */
    MOVE_WINDOW = SHARD_BOUND(16, 6),                  /* parts unacknowledged */
    CLIENT_KEPT_BYTES = SHARD_BOUND(4 * 1024 * 1024, 4096), /* results kept for one client */
};

/* --- kept results and waiting replies -------------------------------------------- */

/* A result that outlives its txn: waits for commit, or is kept for a retry, or
 * both. `refs` counts the waiting replies and the client's table. */
struct kept {
    struct kept *slot_next, **slot_prev; /* replicated ones, per hash slot */
    uint64_t client, seq;
    uint64_t position;        /* may be told when commit reaches it */
    uint64_t digest;          /* 0: not replicated */
    uint32_t refs;
    uint16_t bytes;
    uint8_t slot, class;
    bool replicated;
    uint8_t result[] __attribute__((aligned(8)));
};
enum { KEPT_CLASSES = 9, KEPT_CLASS_FIRST_BITS = 7 }; /* 128 bytes .. 32 KiB */

enum reply_kind { REPLY_RESULT, REPLY_CLIENT, REPLY_TABLE };
struct reply {
    struct reply *next;
    uint32_t conn;
    enum reply_kind kind;
    bool appended;            /* what commits it proves that we are the primary still */
    union {
        struct kept *kept;
        struct { uint64_t nonce, client; } opened;
        uint8_t table;
    };
};
struct reply_list { struct reply *first, *last; };

struct conn {
    struct conn *next;        /* same hash bucket */
    struct conn *ready_next;
    uint32_t id;
    uint8_t role;             /* enum msg_role; 0: no HELLO yet */
    uint8_t proto;            /* that both speak */
    bool is_ready;            /* in shard.ready */
    bool one_sided;           /* a client that reads so, and may */
    struct msg_node node;     /* of a replica */
    uint64_t nonce, client;   /* of the last CLIENT_OPEN */
    uint64_t open_position;
    struct reply_list ready;
};

struct client {
    uint64_t id;
    uint64_t ack;             /* replicated watermark */
    uint64_t seen_ack;        /* >= ack: what this replica was told */
    uint64_t lease_ms;        /* local, shard time: until when */
    struct kept **ring;       /* by seq & (room - 1), seqs in (seen_ack, seen_ack + room] */
    uint32_t room;
    uint32_t kept_bytes;      /* of the results in it */
};

/* --- the log ----------------------------------------------------------------------- */

struct log_at {               /* of one position */
    uint64_t offset;          /* ever growing; ring offset is % room */
    struct reply_list waiting;
};
struct log {
    uint8_t *ring;
    struct log_at *at;        /* by position & at_mask */
    uint64_t room, begin, end;
    uint64_t first;           /* oldest position still held; position + 1 if none */
    uint64_t at_mask;
};

/* --- working set of a txn ------------------------------------------------------------ */

struct work {
    uint8_t table;
    bool existed;             /* in the state before the txn */
    bool exists;              /* now */
    bool replaced;            /* the record that existed was deleted */
    bool written, meta;       /* value, or only deadline and children, change */
    bool event;               /* it expires, and its table has events */
    int16_t parent;           /* its work, -1: not loaded */
    uint8_t parent_table;
    bool has_parent;
    uint32_t parent_rec;
    uint32_t rec;             /* valid if existed */
    uint64_t version, deadline_ms, release_ms;
    uint32_t timeout_ms, children;
    uint8_t key[TXN_KEY_MAX] __attribute__((aligned(8)));
    uint8_t value[TXN_VALUE_MAX] __attribute__((aligned(8)));
    uint8_t delta[TXN_VALUE_MAX] __attribute__((aligned(8)));
};
struct touch { uint8_t table; uint32_t rec; uint64_t deadline_ms; };

struct exec {
    uint8_t slot;
    bool sync;                /* touched a sync table */
    bool writes;              /* not a read-only program */
    bool changed;             /* its entry has more than touches */
    bool logged;              /* it made an entry */
    bool expiry;              /* nobody's txn: a time is over */
    bool again;               /* its slot has borrowed in the middle of it */
    struct kept *kept;        /* its result, if that is kept; one reference */
    uint8_t status, failed_op, nres;
    uint32_t used;            /* bytes of result */
    uint8_t *result;          /* TXN_RESULT_MAX bytes of room */
    uint16_t result_at[TXN_OPS_MAX]; /* 0: skipped */
    uint64_t version;         /* of what it writes */
    int nwork, ntouch, npromised;
    struct pool_part *promised[TXN_OPS_MAX];
    struct touch touches[TOUCHES_MAX];
    struct work work[WORK_MAX];
};

/* --- timers ---------------------------------------------------------------------------- */

#define WHEEL_HEAD (1ull << 47)
struct wheel {
    /* The last row: buckets of level 1.. under way to the levels below. */
    rec_ref head[WHEEL_LEVELS + 1][WHEEL_BUCKETS];
    uint64_t tick;            /* everything due at or before it has fired */
    uint64_t armed;           /* entries in it */
    bool stuck;               /* one is due and could not be expired: log full, no memory */
};

/* --- consumers of events ------------------------------------------------------------------ */

struct willing {              /* a client that takes a table's events */
    uint64_t client;
    uint32_t conn, held;      /* held: event logs, while they are given out */
    uint8_t table;
};
struct consumers {
    bool dirty;               /* something changed since consumers_run */
    uint64_t due_ms;          /* driver's clock: something to send again */
    uint64_t wait_position;   /* commit of it lets something go on */
    uint64_t grace_ms;        /* promoted: until then a log waits for the consumer it had */
    uint32_t nwilling;
    struct willing willing[WILLING_MAX];
};

/* --- replication ------------------------------------------------------------------------- */

enum join_state { JOIN_NO = 0, JOIN_SNAPSHOT, JOIN_CATCH_UP };

struct chunk_part {
    uint32_t offset, bytes;   /* in join.body */
    uint16_t slot, part, last_part;
    bool acked;
    uint64_t sent_ms;         /* 0: not yet */
};
struct join {
    enum join_state state;
    uint64_t snapshot, begin; /* number; log position it began at */
    uint64_t position;        /* of the parts below */
    uint64_t begin_sent_ms;   /* SNAP_BEGIN */
    bool begun;               /* the joiner answered it */
    uint8_t todo[SLOT_BASE + 1]; /* 1: to be sent (again) */
    uint8_t *body;
    uint32_t body_bytes, body_room;
    struct chunk_part *parts;
    uint32_t nparts, parts_room;
    uint64_t end_position;    /* position when the last slot was encoded */
    bool gates;               /* commit waits for it as for a member */
    uint64_t gate;            /* commit when that began: to be acknowledged before proposing */
};

struct peer {
    struct msg_node node;     /* node 0: unused */
    uint32_t conn;            /* 0: none */
    bool in_view;             /* of the view, or of the view proposed */
    bool confirmed;           /* acknowledged something under this view */
    bool lost;                /* its connection closed */
    bool drifted;
    bool leaving;             /* it said so, at leaving_ms */
    uint8_t proto;            /* of its connection; 0: none so far */
    uint64_t acked, sent;     /* log positions */
    uint64_t told_position;   /* its own, as it said; above ours only after a take-over */
    uint64_t heard_ms, told_ms, progress_ms; /* driver's clock */
    uint64_t leased_until_ms, leaving_ms;
    uint64_t fetch_sent_ms;   /* 0: not yet, or all that was asked for came */
    uint32_t fetch_left;      /* bytes it sends for one FETCH, less what came */
    struct join join;
};

/* What a replica that joins has got so far. */
struct joining {
    uint32_t conn;            /* JOIN goes there; 0: nowhere */
    bool attached;            /* the primary of our view speaks to us on it */
    uint64_t asked_ms, heard_ms;
    uint32_t stamp;           /* latest heard from the primary of our view; 0: none */
    uint64_t stamped_ms;      /* stamp is not 0: when the primary last asked for a lease */
    bool suspected;           /* a note about the silence was made */
    uint64_t snapshot;
    uint64_t begun_epoch;     /* of SNAP_BEGIN */
    struct msg_node source;   /* the primary that sent it, once known */
    bool running;             /* SNAP_BEGIN came */
    bool complete;            /* every chunk came */
    uint16_t left;            /* slots and base still missing */
    uint64_t whole_at;        /* complete: the state is whole from this position on */
    uint16_t next_part[SLOT_BASE + 1];
    bool arrived[SLOT_BASE + 1];
    uint64_t position[SLOT_BASE + 1]; /* of the chunk; while not arrived: of its parts */
    uint16_t partial;         /* slots of which some parts came */
};

struct limit { uint64_t refused, noted_ms; };

/* PLACES under way, of the BATCH that is being executed. */
struct places {
    struct msg_places *frame; /* NULL: nobody reads one-sidedly here */
    uint32_t n;
    bool on;                  /* its connection wants them */
    uint32_t conn, stamp;
    uint64_t client, seq;     /* of the txn; 0: not of this one */
};

/* --- the shard ------------------------------------------------------------------------------ */

/* What this shard's log says of a hash slot. `epoch` is the newest slot epoch it
 * knows of, `other` the shard it is about; see move.c. */
enum owner_state {
    OWNER_NONE = 0,           /* never had it */
    OWNER_HERE,               /* ours under `epoch` */
    OWNER_SENDING,            /* released: goes to `other` under `epoch`; content is frozen */
    OWNER_GONE,               /* `other` has it under `epoch`, or had it */
    OWNER_REFUSED,            /* we did not take epoch - 1; `other` has it back under `epoch` */
    OWNER_INCOMING,           /* comes from `other`, to be ours under `epoch` */
};
struct slot {
    uint64_t seq;
    uint64_t volatile_seq;    /* newest version given to a write that was not logged */
    uint64_t last_position;   /* what a reply about this slot waits for */
    struct kept *results;     /* replicated ones */
    uint8_t owner;            /* enum owner_state */
    uint16_t other;
    uint32_t epoch;
    uint32_t version_base;    /* added to the view's epoch in versions: see slot_next_version */
    uint64_t attempt;         /* of the transfer that comes in */
    uint64_t owner_position;  /* local: what a word about the owner, or a version, waits for */
};

struct move_part { uint32_t offset, bytes; uint64_t sent_ms; /* + 1; 0: not yet */ };
struct incoming {             /* a transfer that comes in */
    bool used;
    bool answer;              /* its end is logged: tell it when that is committed */
    struct move_id id;
    uint64_t attempt;
    uint32_t conn, next;      /* next: part wanted */
    uint64_t time_offset;     /* our shard time less the source's */
    uint64_t heard_ms;
    uint8_t table[TABLES_MAX];/* the source's numbers to ours; TABLES_MAX: not told */
    char text[104];           /* why it was refused */
};
enum { INCOMING_MAX = 8, LEND_ORDERS_MAX = 16 };
struct lend_order { char table[TABLE_NAME_MAX + 1]; uint32_t count; uint16_t to; }; /* count 0: unused */

/* The last loan to, or from, another shard: replicated; see loan.c. */
enum loan_state {
    LOAN_NONE = 0,
    LOAN_OPEN,                /* ours: released, and may be on its way */
    LOAN_CLOSED,              /* ours: they have it, or refused it */
    LOAN_TAKEN,               /* theirs: slot `slot` here has it */
    LOAN_REFUSED,             /* theirs: never to be taken any more */
    LOAN_STATE_END
};
struct loan {
    uint32_t number;
    uint8_t state, slot, table; /* slot, table: ours, while open */
    uint64_t position;        /* local: what a word about it waits for */
};
struct loans {
    struct loan out[LETHE_SLOTS], in[LETHE_SLOTS]; /* by the other shard */
    uint32_t open;            /* the shard of the one that is open, + 1: one at a time */
};
struct moves {                /* a primary's; nothing of it is replicated */
    bool live;                /* something of it may be set */
    bool queued[LETHE_SLOTS]; /* ordered, not yet released */
    uint16_t queued_to[LETHE_SLOTS];
    uint32_t nqueued;
    uint32_t conn;            /* to the primary of shard conn_to; 0: none */
    uint16_t conn_to;
    uint64_t attempt;         /* 0: nothing is being sent */
    uint32_t attempts;
    uint8_t slot;             /* being sent */
    bool begun;               /* the destination answered BEGIN */
    uint8_t *body;
    uint32_t body_room;
    struct move_part *parts;
    uint32_t nparts, parts_room, acked;
    uint64_t told_ms;         /* BEGIN or END; 0: not yet */
    uint64_t progress_ms;
    struct incoming in[INCOMING_MAX];
    struct lend_order lend[LEND_ORDERS_MAX];
    uint32_t nlends;
    uint64_t loan_told_ms;    /* + 1; 0: not yet */
    uint32_t loan_conn[LETHE_SLOTS]; /* by source: whom to tell when it is committed */
    uint32_t loan_answers;    /* of them */
    char loan_text[104];      /* why the last one was refused */
};

struct shard {
    struct shard_config config;
    struct msg_node self;
    enum shard_role role;
    struct shard_view view;
    bool has_state;           /* was ever in a view, or joined */

    uint64_t now_ms;          /* driver's */
    uint64_t time_ms;         /* shard time */
    uint64_t time_epoch;      /* backup: whose time that is */
    uint64_t time_offset;     /* primary: time = now + offset (wraps) */
    uint64_t random[2];

    struct table *table[TABLES_MAX];
    uint32_t tables;
    struct slot slot[LETHE_SLOTS];
    uint32_t lent;            /* pool indexes that slots here lent to others */
    struct loans loans;
    uint32_t sending;         /* slots released and not gone yet */
    uint64_t base_position;   /* last position of the shard's own entries */
    uint64_t version_floor;   /* promoted: versions begin above what async txns may have lost */
    uint64_t memory_bytes;
    struct limit *limits;     /* of config.limits; the last one: of the shard as a whole */

    struct client *client;    /* open addressing by id */
    uint32_t client_room, clients;
    uint64_t client_counter;
    struct kept *kept_free[KEPT_CLASSES];
    void *kept_slabs;
    uint64_t kept_bytes, results_kept;
    uint64_t leases_checked_ms;

    struct log log;
    uint64_t position, commit, digest;
    uint64_t held;            /* primary: every member has it; commit, but for min_copies */
    uint64_t mark_position, mark_digest; /* shard_mark_get */
    struct reply_list suspended; /* committed; may not be told without leases */
    struct reply *reply_free;
    void *reply_slabs;
    uint32_t replies, replies_made;

    struct conn *conn[256];
    struct conn *ready;       /* connections with replies to send */
    uint32_t conns;

    struct wheel wheel;
    uint32_t arm_table, arm_slot, arm_rec; /* promotion: next record to arm */
    bool arming;

    struct consumers consumers;

    struct moves moves;
    uint64_t slots_sent, slots_taken; /* counted here, not replicated */
    char order_refused[160];  /* shard_order_refused */

    struct peer peer[PEERS_MAX];
    bool proposing;
    uint64_t proposed_ms;        /* since when */
    struct shard_view want;
    bool collecting;          /* primary, but not serving yet: collect.c */
    uint64_t serve_after_ms;
    uint64_t snapshots;       /* attempts so far */
    bool leaving;             /* we are to be stopped */
    uint64_t leaving_ms, leave_told_ms; /* since when; backup: the primary was told, 0: not */
    struct joining joining;
    bool ack_due;             /* backup: acknowledge at the end of the step */
    bool drifted;             /* compared the digest, and it differs */

    struct shard_status count; /* the counters of it */
    struct shard_counts counts;
    uint64_t unserved_ms;     /* collecting: since when nobody served, as far as we know */
    const struct shard_out *out;

    const uint8_t *hint_key;  /* the hash of this key is known already */
    uint64_t hint_hash;
    uint32_t hint_rec;        /* and where it perhaps stands */
    struct exec x;
    uint8_t *frame;           /* RESULTS under way */
    uint32_t frame_bytes, frame_results, frame_conn;
    uint64_t frame_client;
    struct places places;
    uint8_t *scratch;         /* any other frame, MSG_BYTES_MAX */
};

/* shard.c */
void shard_note(struct shard *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline bool shard_owns(const struct shard *s, uint32_t slot)
{
    return s->slot[slot].owner == OWNER_HERE;
}
uint64_t shard_random(struct shard *s);
/* Forgets all replicated state; the log, too. */
void state_discard(struct shard *s);
static inline uint32_t heartbeat_ms(const struct shard *s)
{
    uint32_t ms = s->config.failure_timeout_ms / 8;
    return ms ? ms : 1;
}
static inline uint32_t resend_ms(const struct shard *s)
{
    uint32_t ms = s->config.failure_timeout_ms / 4;
    return ms > 2 ? ms : 2;
}
/* How far a touch may move a deadline without being logged (g). */
static inline uint64_t touch_slack_ms(uint32_t timeout_ms)
{
    return timeout_ms / 8 > 100 ? timeout_ms / 8 : 100;
}
static inline uint64_t mix64(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

/* execute.c: runs a validated txn and writes its result (TXN_RESULT_MAX of
 * room); returns the result's bytes. What it was like is in s->x. */
uint32_t txn_execute(struct shard *s, const struct txn_head *t, uint8_t slot,
                     struct client *client, uint8_t *result);
/* read.c: answers a txn that is one plain get, whose key the hint is about, in this
 * table, if it may be told now; false: nothing was done, let txn_execute do it. */
bool read_now(struct shard *s, uint32_t conn, uint64_t client, const struct txn_head *t,
              const struct table *table);
/* A result that says only `status`; returns its bytes. */
uint32_t txn_refuse(uint8_t *result, uint64_t seq, enum txn_status status);

/* plan.c */
/* Version of the slot's next write, logged or not: above every one ever told. */
uint64_t slot_next_version(const struct shard *s, uint8_t slot);
void plan_begin(struct shard *s, uint8_t slot, uint8_t *result);
/* The working copy of an entry; NULL: the working set is full. For a record
 * that exists `rec` names it, else REC_NONE. */
struct work *plan_load(struct shard *s, struct table *t, const void *key, uint32_t rec);
struct work *plan_find(struct shard *s, uint8_t table, const void *key);
struct work *plan_parent(struct shard *s, struct work *w);
/* Deletes it with all that follows; false: the working set is full. */
bool plan_delete(struct shard *s, struct work *w, int depth);
bool plan_add(struct shard *s, struct work *w, const uint8_t *deltas);
/* Moves the deadline of a record and of its group. */
void plan_touch(struct shard *s, struct table *t, uint32_t rec);
/* A child was written: its parent lives at least as long. */
void plan_extend_parent(struct shard *s, struct work *child);
void plan_abandon(struct shard *s);
/* Makes the plan a log entry and applies it. client NULL: nobody's.
 * TXN_OK, TXN_NO_MEMORY or TXN_BUSY (log full), then nothing happened. */
enum txn_status plan_commit(struct shard *s, const struct client *client, uint64_t seq,
                            const void *result, uint32_t result_bytes);

/* Arms all of a slot: it is ours now. */
void timers_arm_slot(struct shard *s, uint8_t slot);
void timers_disarm_slot(struct shard *s, uint8_t slot);

/* apply.c */
enum {
    APPLY_SLOT = 1,           /* what it does to its slot, or to the base */
    APPLY_CLIENT = 2,         /* the client's watermark */
    APPLY_ALSO = 8,           /* what it does to its other slot */
    APPLY_OWN = 4,            /* planned here: checked, reserved, records known */
};
/* 0, -ENOMEM, or -EINVAL (refers to something unknown). After an error a
 * backup's state is of no use any more. */
int apply_entry(struct shard *s, const struct entry *e, unsigned what);
/* The effects of `e`, all on tables of DURABLE_NONE, here and now. */
void apply_volatile(struct shard *s, const struct entry *e);
/* Such tables are empty at a new primary. */
void volatile_discard(struct shard *s);
int apply_snapshot(struct shard *s, uint16_t slot, const void *effects, uint32_t bytes);
/* A slot's share of an entry that lends. */
int apply_slot_lend(struct shard *s, const struct entry *e, uint8_t slot, const struct effect *f);
/* Whether an effect of a move's part fits its table, but for who holds its index. */
bool effect_fits(const struct shard *s, uint8_t slot, const struct effect *e);
/* Of all tables' entries in one slot, from scratch. */
uint64_t slot_entries_digest(const struct shard *s, uint8_t slot);
uint64_t record_digest(const struct table *t, uint8_t slot, uint32_t rec);
uint64_t rest_digest(uint8_t table, uint32_t index, uint64_t release_ms);
uint64_t slot_digest(uint32_t slot, uint64_t seq);
uint64_t client_digest(uint64_t id, uint64_t ack);
uint64_t table_digest(const struct table *t);
uint64_t kept_digest(const struct kept *k);
struct table *table_by_name(const struct shard *s, const char *name);
/* Opens it here. 0, or -errno and *why: -EAGAIN may pass by itself. */
int table_open(struct shard *s, const struct table_schema *schema, const char **why, char *text,
               uint32_t room);
int table_add(struct shard *s, uint8_t id, const struct table_schema *schema);

/* log.c */
int log_open(struct log *l, uint64_t bytes);
void log_close(struct log *l);
void log_reset(struct shard *s, uint64_t position);
bool log_has_room(const struct shard *s, uint32_t bytes);
/* Where the next entry is to be written; then log_push counts it in. */
void *log_next(struct shard *s, uint32_t bytes);
void log_push(struct shard *s, const struct entry *e);
struct entry *log_entry(const struct shard *s, uint64_t position);
/* An entry of the shard itself with one effect. False: log full. */
bool log_base(struct shard *s, const struct effect *effect, const void *value,
              const struct client *client);
/* The same for a hash slot. What it needs is reserved. Replies of the slot wait for
 * it if it is about the owner. */
bool log_slot(struct shard *s, uint8_t slot, const struct effect *effect);
void commit_to(struct shard *s, uint64_t position);
/* Recomputes commit from what the members acknowledged. */
void commit_update(struct shard *s);
void log_trim(struct shard *s);
/* Waits for commit to reach `position`, then goes to its connection. */
void reply_wait(struct shard *s, struct reply *r, uint64_t position);
void replies_release_suspended(struct shard *s);
void replies_drop_all(struct shard *s);

/* reply.c */
struct conn *conn_find(const struct shard *s, uint32_t id);
struct conn *conn_open(struct shard *s, uint32_t id);
void conn_close(struct shard *s, uint32_t id);
void conns_destroy(struct shard *s);
/* An id that was opened here may be lost with the log's tail, and given to another. */
void conns_forget_clients(struct shard *s);
void conn_refuse(struct shard *s, uint32_t id, uint32_t code, const char *text);
struct reply *reply_new(struct shard *s, uint32_t conn, enum reply_kind kind);
void reply_free(struct shard *s, struct reply *r);
void reply_ready(struct shard *s, struct reply *r);
/* Sends everything that became ready. */
void replies_flush(struct shard *s);
/* The RESULTS frame under way: room for one more result, then count it in. */
static inline uint8_t *results_room(struct shard *s, uint32_t conn, uint64_t client);
static inline void results_push(struct shard *s, uint32_t bytes);
void results_send(struct shard *s);
/* Sends what is under way, if anything is, and begins another one. */
uint8_t *results_begin(struct shard *s, uint32_t conn, uint64_t client);
void shard_send(struct shard *s, uint32_t conn, void *frame, enum msg_type type, uint32_t bytes);

/* client.c */
struct client *client_find(const struct shard *s, uint64_t id);
struct client *client_add(struct shard *s, uint64_t id);
void client_gone(struct shard *s, uint64_t id);
void clients_clear(struct shard *s);
void client_acked(struct shard *s, struct client *c, uint64_t ack);
/* Makes room to keep the result of `seq`; false: out of memory. */
bool client_reach(struct client *c, uint64_t seq);
void client_renew(struct shard *s, struct client *c);
void clients_expire(struct shard *s);
void clients_renew_all(struct shard *s);
uint64_t clients_next_ms(const struct shard *s);
uint32_t client_lease_ms(const struct shard *s);
struct kept *client_result(const struct client *c, uint64_t seq);
struct kept *kept_new(struct shard *s, uint64_t client, uint64_t seq, uint8_t slot,
                      const void *result, uint32_t bytes);
void kept_put(struct shard *s, struct kept *k);
/* Leaving the role of a primary: what only this replica kept. */
void clients_forget_local(struct shard *s);
/* Keeps it for retries; false: out of memory. */
bool client_keep(struct shard *s, struct client *c, struct kept *k, bool replicated);

/* limit.c */
int limits_open(struct shard *s);
/* A bit per limit that a table of this name is held to. */
uint64_t limits_of(const struct shard *s, const char *name);
/* Whether each table may take so many bytes more; counts and notes if not. */
bool limits_allow(struct shard *s, const uint64_t *cost /* [TABLES_MAX] */);
/* Whether the table may be made; if not, why, as a sentence. */
bool limits_allow_table(struct shard *s, const struct table_schema *schema, char *text,
                        uint32_t room);

/* request.c: what clients ask for */
void on_batch(struct shard *s, uint32_t conn, const struct msg_batch *m);
void on_client_open(struct shard *s, struct conn *c, const struct msg_client_open *m);
void on_table_open(struct shard *s, struct conn *c, const struct msg_table_open *m);

/* timer.c */
void wheel_reset(struct shard *s);
/* The wheel looks at the record at its deadline, or earlier. */
void wheel_arm(struct shard *s, struct table *t, uint8_t slot, uint32_t rec);
void wheel_disarm(struct shard *s, struct table *t, uint8_t slot, uint32_t rec);
void timers_run(struct shard *s);
uint64_t timers_next_ms(const struct shard *s); /* driver's clock */
void timers_promote(struct shard *s);

/* Leaving the role of a primary: nothing is armed. */
void timers_stop(struct shard *s);

/* event.c: EFFECT_EVENT, EFFECT_CONSUMER, EFFECT_CURSOR */
void apply_event(struct shard *s, struct table *t, uint8_t slot, const struct effect *e, bool own);

/* sketch.c: EFFECT_ADD to a sketch, EFFECT_CELLS */
void sketch_add(struct shard *s, struct table *t, uint8_t slot, const void *key,
                const void *delta);
void apply_cells(struct shard *s, struct table *t, uint8_t slot, const struct effect *e);

/* consumer.c */
void on_consume(struct shard *s, struct conn *conn, const struct msg_consume *m);
void on_events_ack(struct shard *s, const struct msg_events_ack *m);
void consumers_conn_closed(struct shard *s, uint32_t conn);
void consumers_promote(struct shard *s);
/* At the end of a step: gives logs to consumers, pushes events. */
void consumers_run(struct shard *s);
uint64_t consumers_next_ms(const struct shard *s); /* driver's clock */

/* lease.c */
uint64_t lease_wait_ms(const struct shard *s);
uint32_t lease_stamp(const struct shard *s);
void lease_heard(struct shard *s, uint32_t stamp);
void lease_granted(struct shard *s, struct peer *p, uint32_t stamp);
/* How long a lease may be that is nested in ours; 0: none now. */
uint32_t lease_for_readers_ms(struct shard *s);
/* Whether what appended nothing may be told now. */
bool lease_may_tell(struct shard *s);
void lease_release(struct shard *s);

/* onesided.c */
uint32_t places_frame_bytes(void);
void places_begin(struct shard *s, uint32_t conn, const struct msg_batch *m);
void places_end(struct shard *s);
/* Those of the results so far; before them. */
void places_send(struct shard *s);
/* Op `op` of the txn under way found its entry there. */
void places_note(struct shard *s, int op, struct table *t, uint8_t slot, uint32_t rec);
/* What readers remember of the slot is void from here on. */
void slot_forbid(struct shard *s, uint8_t slot);
/* How much later than its time-out an idle entry goes, so that readers need not touch it each time. */
static inline uint64_t idle_slack_ms(const struct table *t, uint32_t timeout_ms)
{
    return t->schema.flags & TABLE_ONE_SIDED && !(t->schema.flags & TABLE_ABSOLUTE) ? timeout_ms / 4
                                                                                   : 0;
}

/* collect.c */
void collect_begin(struct shard *s);
void collect_run(struct shard *s);
uint64_t collect_next_ms(const struct shard *s);
void on_fetch(struct shard *s, const struct msg_fetch *m);
void on_tail(struct shard *s, struct conn *c, const struct msg_append *m);

/* view.c */
void on_view(struct shard *s, const struct shard_view *v);
bool node_same(const struct msg_node *a, const struct msg_node *b);
int view_index(const struct shard_view *v, const struct msg_node *n);
void propose(struct shard *s, const struct shard_view *want);
void propose_without(struct shard *s, const struct msg_node *gone, const char *why);
/* Out of the view; the data is kept, inert, until a snapshot begins. */
void leave_view(struct shard *s, const char *why);
/* A backup: asks for a view without its primary, itself first. */
void suspect(struct shard *s, const char *why);
void hand_over(struct shard *s);
/* Replicas wanted in the view. */
uint32_t copies_wanted(const struct shard *s);
/* Primary, and past the take-over: what it applies is its own. */
static inline bool is_serving(const struct shard *s)
{
    return s->role == SHARD_PRIMARY && !s->collecting;
}

/* peer.c */
struct peer *peer_of_node(struct shard *s, const struct msg_node *n);
struct peer *peer_add(struct shard *s, const struct msg_node *n);
void peer_remove(struct shard *s, struct peer *p);
void peers_adopt_view(struct shard *s);
void peers_new_epoch(struct shard *s);
void peers_we_were_away(struct shard *s, uint64_t ms);
void peers_flush(struct shard *s);
void peers_tick(struct shard *s);
/* By a primary, before it obeys a view that another one leads: tells all peers of it. */
void peers_tell_successor(struct shard *s);
void peers_conn_closed(struct shard *s, uint32_t conn);
uint64_t peers_next_ms(const struct shard *s);
/* In s->scratch: an APPEND, or TAIL, with entries after `after`, up to `limit`, as many as go
 * into one; the caller adds what else it says. */
struct msg_append *append_pack(struct shard *s, uint64_t after, uint64_t limit);
void on_ack(struct shard *s, struct conn *c, const struct msg_ack *m);
void peer_send_view(struct shard *s, struct peer *p);

/* leave.c */
void leave(struct shard *s);
void on_leave(struct shard *s, const struct conn *c, const struct msg_leave *m);
void leave_tell(struct shard *s);
void leavers_tick(struct shard *s);
/* Members that are not about to be stopped. */
uint32_t members_staying(const struct shard *s);
/* The view without the others, led by us if we stay. False: nobody of them can lead it now. */
bool view_of_stayers(struct shard *s, struct shard_view *want);
/* The place in the view of the backup that has most, of those that stay; 0: none is there. */
uint32_t heir(struct shard *s);

/* client.c, for a slot whose snapshot begins anew */
void slot_discard(struct shard *s, uint8_t slot);

/* move.c */
/* Who owns what before any move: the static map, under slot epoch 0. */
void owners_reset(struct shard *s);
uint16_t static_owner(const struct shard *s, uint8_t slot);
uint64_t owner_digest(const struct shard *s, uint8_t slot);
/* EFFECT_RELEASE .. EFFECT_OWNER */
void apply_owner(struct shard *s, uint8_t slot, const struct effect *e);
/* Versions of later views begin above those of this one: see version_base. */
uint64_t version_base_above(const struct shard *s, uint64_t version);
void slot_lift_base(struct shard *s, uint8_t slot, uint64_t base);
/* The slot's content; kept results stay. */
void slot_clear(struct shard *s, uint8_t slot);
/* For a txn that may not run in the slot it names: TXN_MOVED, and where to, or
 * TXN_BUSY. *position: what the reply waits for. */
enum txn_status slot_elsewhere(const struct shard *s, const struct txn_head *t,
                               struct txn_moved *to, uint64_t *position);
void on_order(struct shard *s, const struct shard_order *o);
void on_map_get(struct shard *s, uint32_t conn);
/* A frame on the connection that the driver made; false: none of ours. */
bool from_destination(struct shard *s, uint32_t conn, const struct msg_head *h);
void moves_conn_closed(struct shard *s, uint32_t conn);
/* At the end of a step. */
void moves_run(struct shard *s);
void moves_reset(struct shard *s);
uint64_t moves_next_ms(const struct shard *s);

void send_to_destination(struct shard *s, void *frame, enum msg_type type, uint32_t bytes);
/* Not told yet, or so long ago that it is told again. */
bool is_due(const struct shard *s, uint64_t told_ms);

/* loan.c */
void order_lend(struct shard *s, const struct shard_order *o);
int lend_wanted(const struct shard *s); /* the shard that the next order is about; -1: none */
void lend_next(struct shard *s);
void loan_send(struct shard *s);
void on_loan_part(struct shard *s, struct conn *c, const struct msg_move_part *m);
void on_loan_ack(struct shard *s, const struct msg_move_ack *m);
void loans_answer(struct shard *s);
uint64_t loans_digest(const struct shard *s);
/* EFFECT_LOAN, and an entry of one and what it does to a slot. */
void apply_loan(struct shard *s, const struct effect *e);
int apply_loan_entry(struct shard *s, const struct entry *e, unsigned what);
bool loan_fits(const struct shard *s, const struct effect *e);

/* health.c: says so, and keeps it for who ordered. */
void order_refuse(struct shard *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* lend.c */
struct lot { uint32_t n, index[LOAN_MAX > LEND_MAX ? LOAN_MAX : LEND_MAX]; };
/* Random free indexes, at most `most`, that go the same way first. From the way on:
 * a slot here that lent them, or `to`; for another shard (`to` LETHE_SLOTS):
 * LETHE_SLOTS + the slot that lent them, or that has them. */
uint32_t pool_draw(struct shard *s, struct table *t, uint8_t from, uint32_t to, uint32_t most,
                   struct lot *lot);
/* In a log entry: from slot to slot of this shard. */
enum txn_status log_lend(struct shard *s, struct table *t, uint8_t from, uint8_t to,
                         const struct lot *lot);
/* Free indexes of a slot of ours; 0 of others. */
uint32_t pool_free_in(struct shard *s, struct table *t, uint8_t slot);
/* EFFECT_LEND, EFFECT_BORROW and EFFECT_LOAN_DONE of a slot; 0 or -EINVAL. */
int apply_lend(struct shard *s, struct table *t, uint8_t slot, const struct effect *e);
/* The digest of what a slot lent and borrowed. */
uint64_t lends_digest(const struct table *t, uint8_t slot);
/* Lets the slot borrow free indexes of another one here, in a log entry of its own.
 * TXN_OK, TXN_EXHAUSTED (this shard has none), TXN_BUSY or TXN_NO_MEMORY. */
enum txn_status pool_borrow_some(struct shard *s, struct table *t, uint8_t slot);
/* Where a txn is to run: in the slot that has the pool index it names. TXN_OK and
 * *slot; or TXN_MOVED or TXN_BUSY. */
enum txn_status slot_for(const struct shard *s, const struct txn_head *t, uint8_t *slot,
                         struct txn_moved *to);

/* accept.c */
/* Our number of another shard's table: map[e->table], from EFFECT_TABLE; opened if it
 * is not there. 0, -EAGAIN, or what is wrong in `why`. */
int learn_table(struct shard *s, const struct effect *e, uint8_t *map, char *why, uint32_t why_len);
/* Logs that the slot is ours. False: log full. */
bool slot_accept(struct shard *s, uint8_t slot, uint32_t epoch, uint16_t from);
void on_move_begin(struct shard *s, struct conn *c, const struct msg_move_begin *m);
void on_move_part(struct shard *s, struct conn *c, const struct msg_move_part *m);
void on_move_end(struct shard *s, struct conn *c, const struct msg_move_end *m);
/* Tells what was accepted or refused and is committed by now. */
void accepts_run(struct shard *s);

/* join.c */
void on_join(struct shard *s, struct conn *c, const struct msg_join *m);
void on_chunk_ack(struct shard *s, struct conn *c, const struct msg_chunk_ack *m);
void join_run(struct shard *s, struct peer *p);
void join_stop(struct peer *p);
/* The last position that may be appended to the peer now. */
uint64_t join_append_limit(const struct shard *s, const struct peer *p);

/* snapshot.c: appends a slot's state to a growing buffer. */
struct bytes {
    uint8_t *data;
    uint32_t used, room;
    bool moves;               /* for another shard: the deadlines known here alone, no results */
};
bool snapshot_slot(const struct shard *s, uint16_t slot, struct bytes *b);
bool snapshot_tables(const struct shard *s, struct bytes *b);

/* backup.c */
/* NULL, or why the state is of no use any more. */
const char *take_entries(struct shard *s, const struct msg_append *m);
void on_append(struct shard *s, const struct msg_append *m);
void on_snap_begin(struct shard *s, const struct msg_snap_begin *m);
void on_chunk(struct shard *s, const struct msg_chunk *m);
void on_view_frame(struct shard *s, const struct msg_view *m);
/* At the end of a step: ask to join, acknowledge. */
void backup_tick(struct shard *s);
uint64_t backup_next_ms(const struct shard *s);

static inline uint8_t *results_room(struct shard *s, uint32_t conn, uint64_t client)
{
    if (s->frame_results && s->frame_conn == conn && s->frame_client == client &&
        s->frame_bytes + TXN_RESULT_MAX <= MSG_BYTES_MAX)
        return s->frame + s->frame_bytes;
    return results_begin(s, conn, client);
}
static inline void results_push(struct shard *s, uint32_t bytes)
{
    const struct txn_result_head *h = (const void *)(s->frame + s->frame_bytes);
    s->counts.results[h->status]++;
    s->frame_bytes += bytes;
    s->frame_results++;
}

#endif
