/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of a shard's loop.
 *   loop.c    turns, epoll, reading, sleeping
 *   edge.c    what a connection may say: HELLO, PROOF, then the messages of its role
 *   effects.c what the core wants done: send, close, propose, note
 *   link.c    connections that we dial: to our primary, to another shard's
 *   orders.c  what operators want, from other threads
 *   publish.c snapshots for other threads
 * Everything belongs to the loop's thread, except `inbox` and the atomics.
 */
#ifndef STATESTORE_SERVER_LOOP_IMPL_H
#define STATESTORE_SERVER_LOOP_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "statestore/server/conns.h"
#include "statestore/server/loop.h"
#include "statestore/server/slabs.h"
#include "statestore/server/traced.h"

enum {
    /* Of one connection: fairness. What one read brought is answered by one write. */
    FRAMES_PER_TURN = 64,
    BYTES_PER_TURN = 64 * 1024,
    FLUSH_BYTES = 4 * 1024,   /* of replies go out before the turn is over, if that is cheap */
    ACCEPTS_PER_TURN = 16,
    EVENTS_PER_TURN = 64,
    INBOX_MAX = 64,
    ORDERS_MAX = 16,
    PUBLISH_MS = 50,
    LOANS_MS = 1000,
    SWEEP_MS = 100,
    LOOK_US = 20,             /* while spinning epoll is asked that often; see spins */
    DRAIN_MS = 3000,          /* a drain takes no longer, ... */
    LEAVE_MS = 10000,         /* ... after it waited so long for another to take its place, */
    HAND_OVER_MS = 2000,      /* ... and then for another primary */
    LINK_DELAY_MIN_MS = 10,
    LINK_DELAY_MAX_MS = 1000,
    LINK_WELCOME_MIN_MS = 2000,
    LINK_SILENCE_MIN_MS = 5000,
    LINK_LOG_MS = 30000,      /* "still unreachable" at most so often */
    STILL_MS = 10000,         /* without a turn: a loop that hangs */
    COMMITS_WATCHED = 256,    /* appends whose commit is timed */
    STRANGER_LOG_MS = 5000,   /* "authentication failed", "table refused", too */
};

#define SELF_CONN UINT32_MAX  /* the loop itself, as a client of its shard */

enum link_state { LINK_IDLE, LINK_CONNECTING, LINK_HELLO, LINK_JOINED };

/* A connection that we dial: a replica's to its primary, or a move's source to
 * the primary of the destination. */
struct link {
    uint8_t state;            /* enum link_state */
    uint8_t kind;             /* CONN_LINK or CONN_CARRIER */
    uint32_t conn;            /* number */
    uint32_t node;            /* whom to dial; 0: nobody */
    uint16_t shard;           /* of theirs */
    bool by_verbs;            /* the present connection */
    bool plain;               /* the next one not by verbs: it just failed */
    bool plain_told;          /* the log knows */
    uint64_t dial_ms, delay_ms;
    uint64_t since_ms;        /* away since; 0: joined */
    uint64_t logged_ms;
    struct msg_node primary;  /* whose state we hold, or began to; node 0: nobody's */
    uint64_t held;            /* epoch of it */
    struct auth_dial auth;
    char why[160];
};

/* Appends that are not committed yet, a sample of them if there are many. */
struct commit_at { uint64_t position, since_us; };
struct commits { uint64_t newest; uint32_t first, end; struct commit_at at[COMMITS_WATCHED]; };

enum stop_how { STOP_NO, STOP_DRAIN, STOP_NOW };

struct loop {
    struct loop_config config;
    struct shard *shard;
    struct slabs slabs;
    struct shard_out out;
    uint16_t number;
    struct conns conns;
    uint16_t ready[CONNS_MAX], dirty[CONNS_MAX];
    uint32_t nready, ndirty, ndoomed;
    int epoll_fd, wake_fd;
    uint64_t now_us, now_ms;
    bool woken;               /* somebody wrote to wake_fd */
    uint64_t spin_until_us;
    uint64_t looked_us;       /* at epoll, last */
    uint64_t sweep_ms;
    uint64_t stranger_logged_ms;
    uint64_t drain_until_ms;  /* 0: not draining */
    bool changed;             /* since the last snapshot */
    bool accept_more;         /* somebody may wait to be accepted */
    bool fencing;             /* in link_fence */
    uint64_t published_ms, loans_counted_ms;
    struct shard_view view;   /* the newest that the view service said; epoch 0: none */
    uint64_t held_epoch;      /* of the view that our replica last was a member of; 0: holds nothing */
    struct link link, carrier;
    uint64_t leaving_ms;      /* since then it is to be stopped; 0: it is not */
    uint64_t hand_over_until_ms; /* 0: nothing is handed over */
    struct shard_snapshot mine; /* its counters; the rest is filled on publishing */

    struct commits commits;
    struct traced *traced;
    bool tracing;             /* it is wanted: looked at once a turn */
    _Atomic uint64_t turned_ms; /* partner: loop_alive */

    struct snapshot_box box;
    _Atomic int stop;         /* enum stop_how; others store, partner: take_stop */
    _Atomic bool stopped;     /* partner: loop_stopped */
    pthread_mutex_t inbox_lock;
    struct channel *inbox[INBOX_MAX];
    uint32_t ninbox;
    struct shard_order orders[ORDERS_MAX];
    uint32_t norders;
    uint32_t orders_wanted, orders_given; /* under the lock, as all of these */
    char order_said[ORDERS_MAX][ORDER_SENTENCE]; /* of order number i % ORDERS_MAX */
    struct msg_map map;       /* answer to the last request for it */
    uint32_t maps_wanted, maps_given;
    pthread_cond_t given;     /* an order or a map was */
    _Alignas(8) uint8_t older[MSG_BYTES_MAX]; /* a frame on its way to a peer of an older protocol */
};

/* --- loop.c ------------------------------------------------------------------------- */

void loop_step(struct loop *l, struct shard_event ev);
/* Hands the core every view that was decided meanwhile. */
void loop_take_views(struct loop *l);
/* Registers the connection and looks at it in this turn. NULL: full, then the
 * channel is closed. */
struct conn *loop_add(struct loop *l, struct channel *channel, enum conn_kind kind);
/* Closes it after the present step; `why` is for the log. */
void loop_doom(struct loop *l, struct conn *c, const char *why);
void loop_watch(struct loop *l, struct conn *c);
void loop_make_ready(struct loop *l, struct conn *c);
void loop_make_dirty(struct loop *l, struct conn *c);

/* --- edge.c ------------------------------------------------------------------------- */

/* One frame from a connection; steps the core if its sender may say that. */
void edge_frame(struct loop *l, struct conn *c, const void *frame, uint32_t bytes);
/* Whoever may knock may not fill the log: false for a while after it was true. */
bool loop_may_log(struct loop *l);
/* Not let in within hello_timeout_ms: closes it. */
void edge_late(struct loop *l, struct conn *c);

/* --- effects.c ---------------------------------------------------------------------- */

void effects_init(struct loop *l);
/* Sends a frame, in the words of the connection's protocol. As conn_send. */
int effects_send(struct loop *l, struct conn *c, const void *frame, uint32_t bytes);
/* Says ERROR and dooms. */
void effects_refuse(struct loop *l, struct conn *c, uint32_t code, const char *text);

/* --- link.c ------------------------------------------------------------------------- */

void link_init(struct loop *l);
void link_turn(struct loop *l);
/* The link of a connection that we dialled. */
struct link *link_of(struct loop *l, const struct conn *c);
/* Handshake, WELCOME or ERROR of the far end; true: the frame was the link's own. */
bool link_frame(struct loop *l, struct conn *c, const struct msg_head *m);
/* `refused`: nothing listens there. */
void link_closed(struct loop *l, struct link *k, bool refused, const char *why);
uint64_t link_next_ms(const struct loop *l);
/* Before the core hears of `view`; see link.c. */
void link_fence(struct loop *l, const struct shard_view *view);

/* --- orders.c ----------------------------------------------------------------------- */

void orders_take(struct loop *l);
/* A frame for SELF_CONN. */
void orders_answered(struct loop *l, const struct msg_head *m);

/* --- publish.c ---------------------------------------------------------------------- */

void publish(struct loop *l);
/* After each step: how long commits take. */
void watch_commit(struct loop *l);

#endif
