/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of the Redis backend.
 *   redis.c     create, tables, the window of txns, poll
 *   node.c      a connection: hiredis in our loop, loading the script
 *   cluster.c   who owns which hash slot: CLUSTER SLOTS, MOVED, ASK
 *   script.c    the script's text: the tables in front of txn.lua
 *   txn.lua     what a txn does
 * All of it belongs to the caller's thread.
 */
#ifndef LETHE_REDIS_IMPL_H
#define LETHE_REDIS_IMPL_H

#include <hiredis/async.h>
#include <hiredis/hiredis.h>

#include "client/redis/lethe_redis.h"

enum {
    NODES_MAX = 64,
    WINDOW_MAX = 16384,
    TABLES_KEPT = 32,
    AGAIN_US = 20 * 1000,         /* CLUSTERDOWN, LOADING, ...: again after this */
    DIAL_MIN_US = 10 * 1000, DIAL_MAX_US = 1000 * 1000,
    MAP_US = 100 * 1000,          /* the map is asked for at most so often */
    SCRIPT_ROOM = 65536,
};

enum script_state { SCRIPT_NOT, SCRIPT_ASKED, SCRIPT_LOADED };

struct node {
    struct lethe_redis *owner;
    char host[64];
    uint16_t port;
    redisAsyncContext *ac;        /* NULL: not connected */
    bool up, wants_write, watched, seed;
    uint8_t script;               /* enum script_state */
    uint32_t script_version;      /* of the owner's text, that was loaded */
    uint32_t outstanding;
    uint64_t heard_us, dial_us, delay_us;
    char why[120];
};

enum txn_state { TXN_SLOT_FREE, TXN_SLOT_QUEUED, TXN_SLOT_SENT };

struct txn_slot {
    struct lethe_redis *owner;
    lethe_redis_done done;        /* NULL with user NULL: a sweep */
    void *user;
    uint64_t seq, due_us;
    uint32_t bytes;
    uint16_t next;                /* queue, or free list */
    uint8_t state, slot;
    bool writes, asking;
    int16_t ask_node;             /* of an ASK answer */
    uint8_t txn[TXN_BYTES_MAX] __attribute__((aligned(8)));
};
enum { NO_TXN = 0xffff };

struct redis_table {
    struct table_schema schema;
    bool open, asked;
    uint64_t asked_us;
};

struct lethe_redis {
    struct node nodes[NODES_MAX];
    uint32_t nnodes;
    int16_t owner_of[LETHE_SLOTS];  /* node, -1: unknown */
    int16_t registry;               /* who owns the list of tables */
    bool single;                    /* one server without cluster mode */
    bool mapping;                   /* CLUSTER SLOTS is asked for */
    bool map_wanted;
    uint64_t mapped_us;
    struct redis_table tables[TABLES_KEPT];
    int ntables;
    char client[40], lease[16];
    char *script;                   /* text; version counts its changes */
    char sha[41];
    uint32_t script_version;
    struct txn_slot *slots;
    uint32_t window, in_flight;
    uint16_t free_head, queue_head, queue_tail;
    uint64_t next_seq, ack;
    uint8_t *acked;                 /* a bit per sequence in (ack, ack + ACK_BITS] */
    uint64_t retry_us, sweep_every_us, sweep_us, now_us;
    uint8_t sweep_slot;
    int epoll_fd;
    int completed;                  /* within this poll */
    uint64_t done, retries, redirects, reconnects, sweeps;
    char trouble[200], fatal[240];
};

/* node.c */
/* The node at that address, new if need be; -1: too many. */
int redis_node_of(struct lethe_redis *r, const char *host, uint16_t port);
void redis_node_turn(struct node *n);       /* dials when due; loads the script */
void redis_node_drop(struct node *n, const char *why);
void redis_node_flush(struct node *n);
bool redis_node_takes(const struct node *n); /* connected, and it has the script */
void redis_nodes_events(struct lethe_redis *r);

/* cluster.c */
uint16_t redis_slot_of(uint8_t hash_slot);  /* of the tag {Ls} */
uint16_t redis_key_slot(const char *key, uint32_t len);
void redis_map_ask(struct lethe_redis *r);  /* when wanted and not too soon */
/* "MOVED 3999 127.0.0.1:6381" -> the node, or -1. */
int redis_redirect(struct lethe_redis *r, const char *text);

/* script.c */
/* Builds the text for the tables open now. False: no memory. */
bool redis_script_build(struct lethe_redis *r);

/* redis.c */
void redis_trouble(struct lethe_redis *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Everything sent to the node goes back to the queue. */
void redis_requeue_node(struct lethe_redis *r, const struct node *n);

#endif
