/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A store in this process: its shards' loops, their threads, their ports. The
 * program lethe-store, the tests and the embedding (embed.h) all start this.
 *
 * Threads: one per shard, unless `threads` is false: then store_poll drives all
 * shards in the caller's thread. Start, stop and poll belong to the thread that
 * started it; store_dial, store_drain, store_snapshot: any.
 */
#ifndef STATESTORE_SERVER_STORE_H
#define STATESTORE_SERVER_STORE_H

#include "common/config/etcd/etcd.h"
#include "statestore/server/loop.h"
#include "statestore/server/views.h"

struct views_memory;

enum { STORE_SHARDS_MAX = 16, STORE_NODES_MAX = 16, STORE_FAILURE_TIMEOUT_MS = 1000, STORE_SPIN_US = 50 };

struct store_node { const char *name, *listen, *verbs; }; /* verbs NULL: by tcp alone */

struct store_config {
    uint16_t shards;              /* 1..STORE_SHARDS_MAX */
    uint32_t node;                /* this node's number in the site, from 1 */
    const char *listen;           /* "host:port": shard i at port + i, port 0: any free ones;
                                     NULL: only store_dial */
    const char *known;            /* where the others find it, if they know it by another; else NULL */
    const char *listen_shm;       /* "/path": shard i at /path.i; NULL: not */
    const char *listen_verbs;     /* "host:port", as `listen`; NULL: not */
    const struct transport *verbs; /* &transport_verbs, if the program links it; NULL: none */
    const struct store_node *nodes; /* of the site, kept; NULL: this one is alone. Without etcd
                                     two are a pair: node 1 is the primary for ever */
    uint32_t nnodes;
    loop_dial_node dial;          /* instead of tcp to their addresses; never for this node */
    void *dial_ctx;
    const char *const *etcd;      /* its end points, kept */
    uint32_t netcd;               /* 0: static */
    const char *etcd_prefix;
    struct etcd_tls etcd_tls;     /* kept */
    struct views_memory *memory;  /* instead of etcd; kept */
    uint32_t copies, min_copies;  /* 0: 2 or as many as there are nodes, and 1 */
    const struct shard_limit *limits; /* kept */
    uint32_t nlimits;
    const struct auth_config *auth; /* secrets, kept; NULL: anybody may connect */
    bool accept_loss;
    bool threads;
    uint32_t failure_timeout_ms;  /* 0: STORE_FAILURE_TIMEOUT_MS */
    uint32_t client_lease_ms;     /* 0: the core's default */
    uint64_t memory_bytes;        /* per shard; 0: no limit */
    uint32_t spin_us;             /* before a shard's thread sleeps */
    uint32_t hello_timeout_ms;    /* 0: 5000 */
    uint32_t stall_ms;            /* 0: 10000 */
};

struct store;
/* 0, or -errno and a sentence for a person. Strings of the
 * configuration itself are copied. */
int store_start(struct store **out, const struct store_config *config, char *err,
                uint32_t err_len);
/* Asks every shard to finish what is held; store_stopped says when. */
void store_drain(struct store *s);
bool store_stopped(const struct store *s);
/* Stops at once (after a drain: what is left), joins the threads, frees. */
void store_stop(struct store *s);

/* A turn of every shard that never sleeps; true if anything was done. Only
 * without threads. */
bool store_poll(struct store *s);
/* An inproc channel to a shard: a lethe_dial whose context is the store. */
struct channel *store_dial(void *store, uint16_t shard, char *err, uint32_t err_len);
uint16_t store_shards(const struct store *s);
/* Whose limit `i` of a snapshot is; NULL: there are fewer. The last is the shard's. */
const char *store_limit_name(const struct store *s, uint32_t i);
/* 0 if it does not listen by tcp, by verbs. */
uint16_t store_port(const struct store *s, uint16_t shard);
uint16_t store_verbs_port(const struct store *s, uint16_t shard);
/* By any thread; see views.h and loop.h. */
struct views *store_views(const struct store *s);
/* Nodes are numbered from 1. */
uint32_t store_self(const struct store *s); /* this node's number */
uint32_t store_nodes(const struct store *s);
uint32_t store_copies(const struct store *s); /* wanted */
const char *store_node_name(const struct store *s, uint32_t node);
/* As loop_order and loop_map, with a second's patience. */
int store_order(struct store *s, uint16_t shard, const struct shard_order *order, char *why);
int store_map(struct store *s, uint16_t shard, struct msg_map *out);
struct traced *store_traced(const struct store *s, uint16_t shard);
/* False: a shard's thread hangs. */
bool store_alive(const struct store *s, uint16_t shard);
void store_snapshot(const struct store *s, uint16_t shard, struct shard_snapshot *out);

#endif
