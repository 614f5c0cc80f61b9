/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A store inside another program: benches, tests, trying things out. Clients
 * reach it by inproc channels; messages are really passed, nothing is shortcut.
 *
 *   struct embed *e;
 *   struct embed_config ec = {.shards = 1, .threads = true};
 *   if (embed_start(&e, &ec, err, sizeof err)) ...
 *   struct lethe_config lc = {.shards = 1, .dial = embed_dial, .dial_ctx = e};
 *
 * With threads each shard has a thread of its own, as in lethe-store. Without,
 * nothing happens but in embed_poll: one thread may drive its client and the
 * shards in turn. With `backup` a second replica runs beside, joined to the
 * first by inproc channels, so that output commit is the real one. With `nodes`
 * there are that many, their views are kept in memory, and any may be killed: a
 * backup becomes the primary, a spare joins.
 *
 * embed_kill, embed_restart: by the thread that started it. embed_dial: any.
 */
#ifndef STATESTORE_SERVER_EMBED_H
#define STATESTORE_SERVER_EMBED_H

#include "statestore/server/store.h"

struct embed_config {
    uint16_t shards;
    bool threads;
    bool backup;
    uint32_t nodes;               /* 0: one, or with `backup` a static pair */
    uint32_t copies, min_copies;  /* with `nodes`; as in store_config */
    const char *listen;           /* the first also reachable by tcp there; NULL: not */
    uint32_t failure_timeout_ms;  /* 0: the store's default */
    uint64_t memory_bytes;        /* per shard; 0: no limit */
    const struct shard_limit *limits; /* kept */
    uint32_t nlimits;
    uint32_t spin_us;             /* 0: sleep at once */
};

struct embed;
/* 0, or -errno and a sentence. A backup joins within moments: embed_copies. */
int embed_start(struct embed **out, const struct embed_config *config, char *err,
                uint32_t err_len);
void embed_stop(struct embed *e);
/* Without threads: one turn of every shard; true if anything was done. */
bool embed_poll(struct embed *e);
/* A lethe_dial to the shard's primary; ctx is the struct embed. */
struct channel *embed_dial(void *embed, uint16_t shard, char *err, uint32_t err_len);
/* The same to a node, from 1. */
struct channel *embed_dial_node(void *embed, uint32_t node, uint16_t shard, char *err,
                                uint32_t err_len);
/* With `nodes`: stops one (1..) at once, its state is gone; starts it again, empty. */
void embed_kill(struct embed *e, uint32_t node);
int embed_restart(struct embed *e, uint32_t node, bool accept_loss, char *err, uint32_t err_len);
/* Number of the node that is the shard's primary, 0: none yet. */
uint32_t embed_primary(const struct embed *e, uint16_t shard);
/* NULL while it is killed. */
struct store *embed_store(const struct embed *e, uint32_t node);
/* In-view replicas of the shard that has fewest, as last published. */
uint32_t embed_copies(const struct embed *e);
/* replica 0: the first node, a pair's primary; 1: its backup. */
void embed_snapshot(const struct embed *e, int replica, uint16_t shard,
                    struct shard_snapshot *out);
uint16_t embed_port(const struct embed *e, uint16_t shard);

#endif
