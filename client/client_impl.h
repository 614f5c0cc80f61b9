/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of liblethe: one struct lethe_client, a session per shard, and a
 * window of txn slots that all sessions share. Everything here belongs to the
 * client's one thread; everything is allocated in lethe_client_create.
 *
 *   client.c   create, tables, status, the public poll and flush
 *   txn_ops.c  building a txn in a slot
 *   window.c   slots, their lists, sequence -> slot, the watermark
 *   session.c  dial, HELLO, lease, tables; what to do when a shard is away
 *   nodes.c    the addresses of the replicas: which one to try next, and when
 *   map.c      which shard owns which hash slot; txns that must go elsewhere
 *   batch.c    BATCH out, RESULTS in, retries
 *   onesided.c gets by RDMA READ; remember.c what they rest on
 *   events.c   CONSUME out, EVENTS in
 *   sleep.c    descriptor and deadlines for callers that sleep
 *
 * A slot's life: FREE -> BUILDING (begin) -> QUEUED (submit) -> SENT (in a
 * frame; only now it gets its sequence, so a txn that never left survives the
 * loss of a client id) -> FREE (answered). From SENT it goes back to QUEUED by
 * time-out or reconnection, and to DELAYED when the store said "not now". A get that is
 * tried one-sidedly is READING instead of QUEUED; answered, it never had a sequence.
 *
 * Exactly once. A txn is bound, when it gets its sequence, to one (shard, client
 * id, sequence, slot epoch) and every retry repeats that binding, to whichever
 * replica is the primary by then: the shard's log holds the ids and the results.
 * The binding ends in one of three ways only: a result (called back), the loss
 * of the id (STALE_CLIENT, called back), or MOVED, by which the shard promises
 * that the txn was not executed under this binding and never will be: a copy
 * still on its way carries the old slot epoch, which that shard does not own
 * any more. Then, and only then, it is bound anew, elsewhere. So at every time at
 * most one binding of a txn can be executed, and that one at most once. A changed
 * map alone moves only what was never sent.
 *
 * The bytes in a slot carry the CALLER's table numbers; they are translated
 * while being copied into a frame, so that a retry after a reconnection uses
 * the ids that this connection's store gave.
 */
#ifndef LETHE_CLIENT_IMPL_H
#define LETHE_CLIENT_IMPL_H

#include "client/lethe.h"
#include "client/remember.h"
#include "common/wire/auth.h"

enum {
    SLOT_NONE = 0xffff,
    /* How far a sequence may run ahead of our watermark: short of the protocol's
     * window, because the store's own watermark follows with some delay. */
    SEQ_AHEAD_MAX = MSG_CLIENT_WINDOW / 4 * 3,
    DIAL_DELAY_MIN_US = 2 * 1000, /* after a round over all addresses; doubles */
    DIAL_DELAY_MAX_US = 1000 * 1000,
    DIAL_DELAY_ALIVE_US = 50 * 1000, /* at most, while somebody is there who is not the primary */
    RETRY_DEFAULT_MS = 200,
    SILENCE_RETRIES = 10,       /* with one address: a shard that owes answers and says nothing that
                                   long is redialled; with several one retry_ms */
    HANDSHAKE_PART = 4,         /* of the silence allowed: a replica that does not even say WELCOME, */
    SILENCES_MAX = 3,           /* doubling so often with each time that it was silent */
    STUCK_SILENCES = 2,         /* it talks, but answers nothing that was asked: look elsewhere */
    PUSHED_BACK_US = 20 * 1000, /* BUSY, LOST: again after this */
    EAGER_US = 2 * 1000,        /* by one that may be about to serve the shard, or the slot: after
                                   this, ... */
    EAGER_FOR_US = 100 * 1000,  /* ... for so long; then PUSHED_BACK_US */
    HOPS_MAX = 4,               /* MOVED so often: not at once any more but after ... */
    HOP_DELAY_US = 5 * 1000,
    CONSUME_US = 200 * 1000,    /* CONSUME is repeated */
    REFUSED_US = 100 * 1000,    /* no client id for us now: ask again */
    FATAL_US = 1000 * 1000,     /* wrong schema: an operator may mend it meanwhile */
    READ_LEASE_ASK_US = 2000,   /* not oftener; a lease lasts some ten of them at least */
    HELD_US = 1000,             /* no room: try again then even if no descriptor says so */
    FRAMES_PER_POLL = 64,
};

enum slot_state { SLOT_FREE, SLOT_BUILDING, SLOT_QUEUED, SLOT_SENT, SLOT_DELAYED, SLOT_READING };

/* 65 cache lines: an odd number, so that slots spread over the cache's sets. */
struct lethe_txn {
    struct lethe_client *client;
    lethe_done done;
    void *user;
    uint64_t seq;               /* 0 until its first frame */
    uint64_t due_us;            /* SENT, DELAYED: again then; READING: see onesided.c, post */
    struct txn_builder build;
    uint16_t next, prev;        /* in the list of its state */
    uint8_t shard, state;
    uint8_t hops;               /* times MOVED */
    bool asked;                 /* tried one-sidedly, in vain: not again */
    uint8_t bytes[TXN_BYTES_MAX];
} __attribute__((aligned(64)));

struct slot_list {
    uint16_t head, tail;
    uint32_t count;
};

enum session_state {
    SESSION_DOWN,               /* no channel; dial at step_us */
    SESSION_CONNECTING,         /* a channel, HELLO not accepted by it yet */
    SESSION_HELLO,              /* waiting for CHALLENGE, PROVEN, WELCOME */
    SESSION_LEASE,              /* waiting for a client id */
    SESSION_TABLES,             /* waiting for tables */
    SESSION_UP
};

enum node_verdict {
    NODE_CLOSED,                /* refused, reset, or said ERROR */
    NODE_NOT_PRIMARY,           /* is there, does not serve the shard */
    NODE_SILENT,
};

/* Of one session. A round visits every address once, but those left out. */
struct nodes {
    uint8_t at;                 /* the address dialled now, or next */
    uint32_t visited;           /* bit per address: in this round */
    bool alive;                 /* somebody was there in this round */
    uint8_t silences[LETHE_NODES_MAX]; /* since it served last */
    uint64_t skip_until_us[LETHE_NODES_MAX];
    uint64_t silent_us[LETHE_NODES_MAX]; /* when it was left so */
    char said[LETHE_NODES_MAX][80];
};

struct session {                /* one per shard */
    struct lethe_client *client;
    struct channel *channel;    /* NULL: DOWN */
    uint16_t shard;
    uint8_t state;              /* enum session_state */
    bool flush_wanted;          /* queued txns may leave without another lethe_flush */
    bool pushed_back;           /* the newest answer was "not now" */
    bool blocked;               /* the present step found no room in the channel */
    bool counted;               /* this channel is in client->reconnects */
    bool asked;                 /* a STATUS, since the newest frame */
    bool map_wanted;            /* MAP_GET is to be sent */
    uint8_t proto;              /* of this connection */

    uint64_t id;                /* client id leased by this shard, 0: none */
    uint64_t nonce;             /* of the CLIENT_OPEN on its way */
    uint64_t next_seq, ack;
    struct slot_list queue, sent, delayed, reading;
    uint16_t *by_seq;           /* [MSG_CLIENT_WINDOW] slot of seq % size, or SLOT_NONE */
    uint8_t *frame;             /* [MSG_BYTES_MAX] */
    uint32_t held_bytes;        /* of `frame`, which the channel had no room for */
    int16_t table_id[TABLES_MAX]; /* the store's id of our table number; -1: not open */

    uint64_t step_us;           /* dial, or repeat the present step, then */
    uint64_t dial_delay_us;
    uint64_t heard_us;          /* last frame, or when we began to expect one */
    uint64_t answered_us;       /* last RESULTS, or when we began to wait for some */
    uint64_t pushed_since_us;   /* NOT_PRIMARY and nothing else since then; 0: not */
    uint64_t batch_us;          /* last BATCH sent: the lease counts from there */
    uint64_t lease_us;
    uint64_t down_since_us;     /* 0: UP */
    struct auth_dial auth;
    char trouble[160], fatal[240];
    struct nodes nodes;
    uint64_t consume_us;        /* CONSUME again then */
    /* One-sided reads; of this connection but for the era. */
    bool one_sided;             /* both sides can */
    bool reads_posted;          /* since the last flush */
    bool lease_used;            /* since it was asked for */
    uint32_t era;               /* grows with every connection and view */
    uint64_t view_epoch;        /* the newest that a frame named */
    struct read_lease read_lease;
    uint64_t lease_asked_us;
    uint64_t stop_told;         /* bit per table: this channel heard that we want no more */

    int watched_fd;             /* in the client's epoll set; -1: none */
    short watched_events;
};

struct lethe_client {
    uint16_t shards;
    uint32_t window;
    uint64_t retry_us, silence_us;
    lethe_dial dial;            /* NULL: to the addresses */
    void *dial_ctx;
    char *addresses;            /* cut at its commas */
    const char *address[LETHE_NODES_MAX];
    uint8_t naddresses;         /* with `dial` 1 */
    bool elsewhere;             /* there may be another replica to go to */
    struct channel *(*connect)(const char *address, char *err, uint32_t err_len); /* tcp's; a
                                   test may have its own */
    const struct transport *verbs; /* NULL: none */
    char tenant[32];
    struct auth_secret secret;  /* bytes 0: no authentication */

    struct lethe_txn *slots;
    uint16_t *free_slots;       /* a stack: the warmest slot is used first */
    uint32_t nfree;
    uint64_t now_us;            /* of the newest poll */
    bool was_ready, polling;
    int epoll_fd;               /* -1: nobody sleeps on us */
    uint64_t nonces;
    uint64_t done, retries, reconnects, leases, moved;
    lethe_sent sent;            /* lethe_trace; NULL: nobody wants to know */
    void *sent_ctx;
    bool strays;                /* some session got txns from another one */
    struct { uint16_t shard; uint32_t epoch; } map[LETHE_SLOTS];
    struct consumer *consumers[TABLES_MAX]; /* events.c; NULL: never asked for */

    /* One-sided reads. */
    const char *const *one_sided;
    uint32_t remember_places;
    struct remember *remember;  /* NULL: no table is for them */
    uint64_t (*clock_us)(void *ctx);
    void *clock_ctx;
    uint64_t clock_now_us;      /* its time at the newest poll: hints only */
    uint64_t outcomes[READ_OUTCOMES_END];
    struct record_shape shapes[TABLES_MAX];
    uint64_t read_result[(sizeof(struct txn_result_head) + sizeof(struct txn_result) +
                          TXN_VALUE_MAX) / 8 + 1];

    int ntables;
    struct table_schema tables[TABLES_MAX];
    struct session sessions[LETHE_SHARDS_MAX];
};

static inline uint16_t slot_number(const struct lethe_txn *t)
{
    return (uint16_t)(t - t->client->slots);
}

/* --- window.c ----------------------------------------------------------------- */

int lethe_window_create(struct lethe_client *c);
void lethe_window_destroy(struct lethe_client *c);
struct lethe_txn *lethe_window_take(struct lethe_client *c);
void lethe_window_give(struct lethe_txn *t);
void lethe_list_init(struct slot_list *l);
/* Links a slot that is in no list at the end (front) and sets its state. */
void lethe_list_append(struct session *s, struct slot_list *l, struct lethe_txn *t,
                       enum slot_state state);
void lethe_list_prepend(struct session *s, struct slot_list *l, struct lethe_txn *t,
                        enum slot_state state);
/* Unlinks it from the list of its state. */
void lethe_list_remove(struct session *s, struct lethe_txn *t);
/* Names a txn for the store; false: too far ahead of the watermark. */
bool lethe_seq_assign(struct session *s, struct lethe_txn *t);
/* The outstanding txn of that sequence, or NULL. */
struct lethe_txn *lethe_seq_find(struct session *s, uint64_t seq);
/* It is answered: forgets the sequence and moves the watermark. */
void lethe_seq_done(struct session *s, struct lethe_txn *t);
void lethe_seq_reset(struct session *s);

/* --- nodes.c ------------------------------------------------------------------ */

/* The comma-separated list. 0, or -errno and a sentence. */
int lethe_nodes_parse(struct lethe_client *c, const char *list, char *err, uint32_t err_len);
struct channel *lethe_nodes_dial(struct session *s, char *err, uint32_t err_len);
/* The present address did not do; `primary` is the node that it names, 0: none.
 * Chooses the next one and says when (step_us). */
void lethe_nodes_next(struct session *s, enum node_verdict verdict, uint32_t primary,
                      const char *why);
/* The node it is at is not silent: what it was is forgotten. */
void lethe_nodes_spoke(struct session *s);
void lethe_nodes_up(struct session *s);
/* How long a connection may be silent, now. */
uint64_t lethe_nodes_patience_us(const struct session *s);
/* Which addresses were tried and what each said. */
void lethe_nodes_trouble(const struct session *s, char *text, size_t room);

/* --- map.c ---------------------------------------------------------------------- */

void lethe_map_init(struct lethe_client *c);
void lethe_map_answer(struct lethe_client *c, const struct msg_map *m);
/* Queues a txn that has no sequence at the shard which owns its slot. */
void lethe_map_queue(struct lethe_txn *t);
/* A final MOVED for a txn of this session. */
void lethe_map_moved(struct session *s, struct lethe_txn *t, const struct txn_moved *to);

/* --- events.c ------------------------------------------------------------------- */

void lethe_events_timers(struct session *s);
uint64_t lethe_events_next_us(const struct session *s);
void lethe_events_frame(struct session *s, const struct msg_events *m);
void lethe_events_destroy(struct lethe_client *c);

/* --- session.c ---------------------------------------------------------------- */

/* Every frame but a BATCH goes out by this: in the connection's protocol. */
int lethe_session_send(struct session *s, void *frame, enum msg_type type, uint32_t bytes);
/* "Do you still serve?", unless asked since it last said something. */
void lethe_session_ask(struct session *s);

/* Receives and does what is due. Returns the txns completed. */
int lethe_session_poll(struct session *s);
/* The store knows our client id no more: calls back what was sent under it
 * with STALE_CLIENT and leases a new one. Returns the txns completed. */
int lethe_session_stale(struct session *s);
/* A table was added: opens it at this shard. */
void lethe_session_tables(struct session *s);
uint64_t lethe_session_next_us(const struct session *s);

/* --- batch.c ------------------------------------------------------------------ */

/* Sends what is queued, as frames; what the channel takes no more stays. */
void lethe_batch_send(struct session *s);
/* Time-outs, delayed retries, lease renewal. */
void lethe_batch_timers(struct session *s);
int lethe_batch_results(struct session *s, const struct msg_results *m);
/* After a reconnection: everything outstanding is queued again. */
void lethe_batch_requeue(struct session *s);

/* --- onesided.c --------------------------------------------------------------- */

uint64_t lethe_clock_monotonic(void *ctx);
/* A table was added. 0 or -ENOMEM. */
int lethe_reads_table(struct lethe_client *c, int table);
/* True: a read of it is posted, and will be answered or queued. */
bool lethe_reads_try(struct lethe_txn *t);
/* The session's part of a poll: reads that are over. Returns the txns completed. */
int lethe_reads_poll(struct session *s);
void lethe_reads_places(struct session *s, const struct msg_places *m);
/* A new era: nothing remembered counts, no lease. */
void lethe_reads_forget(struct session *s);
/* The channel is closed: what was being read is asked for. */
void lethe_reads_abandon(struct session *s);
/* The stamp of a BATCH that leaves now, 0: no lease is wanted. */
uint32_t lethe_reads_stamp(struct session *s);
/* A lease is wanted, and no BATCH goes out that might ask for it. */
bool lethe_reads_ask(const struct session *s);

/* --- sleep.c ------------------------------------------------------------------ */

/* Takes the session's channel out of the epoll set; before it is closed. */
void lethe_sleep_forget(struct session *s);

#endif
