/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The connections of one shard: a fixed table, the numbers by which the core
 * knows them, and per connection a bounded backlog of frames that its channel
 * had no room for.
 *
 * Owner: the shard's thread. A number is never used again while anything may
 * remember it: its low bits are the place in the table, the rest counts.
 */
#ifndef STATESTORE_SERVER_CONNS_H
#define STATESTORE_SERVER_CONNS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wire/channel.h"
#include "common/wire/msg.h"
#include "statestore/server/auth.h"

enum {
    CONNS_MAX = 4096,                      /* of one shard */
    BACKLOG_FIRST_BYTES = 256 * 1024,      /* allocated at the first frame that finds no room */
    BACKLOG_PAUSE_BYTES = 256 * 1024,      /* above it, nothing more is read from a client */
    BACKLOG_MAX_BYTES = 16 * 1024 * 1024,  /* above it, the connection is closed */
};

enum conn_kind {
    CONN_NEW = 1,             /* accepted, not let in yet (edge.c) */
    CONN_CLIENT,              /* clients and administrators */
    CONN_REPLICA,             /* a backup that dialled us */
    CONN_MOVER,               /* another shard's primary that dialled us: a move's source */
    CONN_LINK,                /* we dialled the primary */
    CONN_CARRIER,             /* we dialled another shard's primary */
};

struct conn {
    struct channel *channel;  /* NULL: this place is free */
    uint32_t number;
    uint16_t place;
    uint8_t kind;             /* enum conn_kind */
    uint8_t proto;            /* that both speak; 0: no HELLO yet */
    bool ready, dirty, doomed;
    bool signalled;           /* an event came while it still had frames to be read, or the
                                 stream's end with them */
    bool quiet;               /* its closing is no news for the log */
    uint32_t looks;           /* of its channel's, that the clock was read after */
    uint32_t unflushed;       /* bytes sent since the last flush */
    int fd;                   /* in the epoll set, -1: none, polled each turn */
    uint64_t opened_ms;
    uint64_t heard_ms;
    uint64_t blocked_ms;      /* since when the backlog has not moved; 0: it is empty */
    uint8_t *backlog;
    uint32_t begin, end, room;
    struct auth_peer auth;
    char why[160];            /* doomed: why */
};

struct conns {
    struct conn all[CONNS_MAX];
    uint16_t free_places[CONNS_MAX]; /* a queue: the place free longest comes first */
    uint32_t free_head, nfree, used;
    uint32_t generation[CONNS_MAX];
};

void conns_init(struct conns *cs);
/* NULL: the table is full. */
struct conn *conns_add(struct conns *cs, struct channel *channel, enum conn_kind kind,
                       uint64_t now_ms);
struct conn *conns_find(struct conns *cs, uint32_t number);
/* Closes its channel and frees its place. */
void conns_remove(struct conns *cs, struct conn *c);

/* Sends, or keeps in the backlog. 0, -ENOTCONN, -ENOBUFS (beyond the bound), -ENOMEM. */
int conn_send(struct conn *c, const void *frame, uint32_t bytes, uint64_t now_ms);
/* Moves the backlog on; true when it is empty. */
bool conn_drain(struct conn *c, uint64_t now_ms);
static inline uint32_t conn_backlog(const struct conn *c)
{
    return c->end - c->begin;
}
/* The far end's address, or "inproc". */
void conn_name(const struct conn *c, char *name, uint32_t len);

#endif
