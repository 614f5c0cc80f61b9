/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One shard's loop: the driver around the pure core. It owns the shard, its
 * listeners and its connections; it turns bytes, time and the view
 * service's word into steps, and the steps' effects into frames.
 *
 * Threads: loop_run or loop_turn, by one thread, from create to destroy.
 *   loop_adopt, loop_stop, loop_snapshot: any thread.
 * A turn: what epoll says is ready -> accept, adopt -> for each ready
 *   connection drain its backlog and step the core with a few frames
 *   (fairness) -> tick -> link to the primary -> flush each connection that
 *   was written to, once -> publish a snapshot. With nothing to do it spins
 *   for spin_us, then sleeps until the next deadline.
 * Back-pressure: while !shard_takes_requests clients are not read; a client
 *   with a backlog is not read; a backlog that stands still or passes its
 *   bound closes the connection ("slow reader").
 */
#ifndef STATESTORE_SERVER_LOOP_H
#define STATESTORE_SERVER_LOOP_H

#include "common/wire/transport.h"
#include "statestore/server/auth.h"
#include "statestore/server/snapshot.h"

/* A new channel to shard `shard`, or NULL and a sentence, and errno ECONNREFUSED
 * if nobody can be there. (client/lethe.h has the same type, as lethe_dial.) */
typedef struct channel *(*loop_dial)(void *ctx, uint16_t shard, char *err, uint32_t err_len);

/* The same, to a node of the site. */
typedef struct channel *(*loop_dial_node)(void *ctx, uint32_t node, uint16_t shard, char *err,
                                          uint32_t err_len);

enum { LOOP_LISTENERS_MAX = 3 }; /* tcp, shm, verbs */

struct loop_config {
    struct shard_config shard;
    struct listener listeners[LOOP_LISTENERS_MAX]; /* owned from now on */
    uint32_t nlisteners;      /* 0: only adopted channels */
    struct views *views;      /* shared by all loops, see views.h */
    uint32_t primary_node;    /* of a static site; 0: whom the view names */
    uint32_t nodes;           /* of the site */
    loop_dial_node dial;
    loop_dial_node dial_verbs; /* tried before `dial`; NULL, or no sentence with its NULL: not between
                                  these two nodes */
    void *dial_ctx;
    /* Name and address of a node, for sentences. */
    const char *(*node_text)(void *ctx, uint32_t node);
    const struct auth_config *auth; /* NULL: anybody may connect; kept */
    uint32_t spin_us;
    uint32_t hello_timeout_ms; /* a connection not let in by then is closed */
    uint32_t stall_ms;        /* so long may a backlog stand still */
};

struct loop;
/* 0, or -errno and a sentence; then the listeners are closed. */
int loop_create(struct loop **out, const struct loop_config *config, char *err, uint32_t err_len);
void loop_destroy(struct loop *l);
/* Turns until loop_stop took effect. */
void loop_run(struct loop *l);
/* One turn that never sleeps; true if it did anything. */
bool loop_turn(struct loop *l);
/* Hands over a connected channel, as if accepted. 0, or -EBUSY: too many at once
 * (the caller keeps the channel). */
int loop_adopt(struct loop *l, struct channel *channel);
/* An operator's order, for the core. Waits until the core took it, at most `timeout_ms`. 0, or
 * -EBUSY: too many wait; -EINVAL: it was refused, `why` (ORDER_SENTENCE) says why; -ETIMEDOUT: not
 * known yet. What comes of one that was taken the core says in its notes and its status. */
enum { ORDER_SENTENCE = 160 };
int loop_order(struct loop *l, const struct shard_order *order, char *why, uint32_t timeout_ms);
/* Which slots are whose, as the shard knows. Waits at most `timeout_ms`: 0 or
 * -ETIMEDOUT. */
int loop_map(struct loop *l, struct msg_map *out, uint32_t timeout_ms);
/* drain: hand over what we are the primary of, accept and read no more, finish what is held (for a bounded time), then
 * stop; else stop at once. */
void loop_stop(struct loop *l, bool drain);
bool loop_stopped(const struct loop *l);
struct traced;
struct traced *loop_traced(const struct loop *l); /* see traced.h */
/* False: it made no turn for long. Any thread. */
bool loop_alive(const struct loop *l);
void loop_snapshot(const struct loop *l, struct shard_snapshot *out);

#endif
