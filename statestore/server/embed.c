/* SPDX-License-Identifier: BSD-3-Clause */
/* A store inside another program (embed.h): one struct store, or several. The
 * lock is for who dials a node that is being killed. */
#include "statestore/server/embed.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "statestore/server/views_memory.h"

struct embed {
    struct embed_config config;
    struct store_node names[STORE_NODES_MAX];
    char texts[STORE_NODES_MAX][16];
    uint32_t nodes;
    struct views_memory *memory;  /* NULL: static */
    pthread_rwlock_t lock;
    struct store *replicas[STORE_NODES_MAX]; /* NULL: killed */
};

struct channel *embed_dial_node(void *embed, uint32_t node, uint16_t shard, char *err,
                                uint32_t err_len)
{
    struct embed *e = embed;
    struct channel *ch = NULL;
    pthread_rwlock_rdlock(&e->lock);
    struct store *s = node >= 1 && node <= e->nodes ? e->replicas[node - 1] : NULL;
    if (s)
        ch = store_dial(s, shard, err, err_len);
    else
        snprintf(err, err_len, "node %u does not run", node);
    pthread_rwlock_unlock(&e->lock);
    if (!s)
        errno = ECONNREFUSED;
    return ch;
}

static int start_replica(struct embed *e, uint32_t i, bool accept_loss, char *err, uint32_t err_len)
{
    const struct embed_config *config = &e->config;
    struct store *s = NULL;
    struct store_config sc = {
        .shards = config->shards,
        .node = i + 1,
        .listen = i ? NULL : config->listen,
        .nodes = e->names,
        .nnodes = e->nodes,
        .dial = embed_dial_node,
        .dial_ctx = e,
        .memory = e->memory,
        .copies = config->copies,
        .min_copies = config->min_copies,
        .limits = config->limits,
        .nlimits = config->nlimits,
        .accept_loss = accept_loss,
        .threads = config->threads,
        .failure_timeout_ms = config->failure_timeout_ms,
        .memory_bytes = config->memory_bytes,
        .spin_us = config->spin_us,
    };
    int rc = store_start(&s, &sc, err, err_len);
    pthread_rwlock_wrlock(&e->lock);
    e->replicas[i] = rc ? NULL : s;
    pthread_rwlock_unlock(&e->lock);
    return rc;
}

int embed_start(struct embed **out, const struct embed_config *config, char *err,
                uint32_t err_len)
{
    struct embed *e = calloc(1, sizeof *e);
    if (!e) {
        snprintf(err, err_len, "out of memory");
        return -ENOMEM;
    }
    e->config = *config;
    e->nodes = config->nodes ? config->nodes : config->backup ? 2 : 1;
    if (e->nodes > STORE_NODES_MAX)
        e->nodes = STORE_NODES_MAX;
    pthread_rwlock_init(&e->lock, NULL);
    for (uint32_t i = 0; i < e->nodes; i++) {
        snprintf(e->texts[i], sizeof e->texts[i], "node-%u", i + 1);
        e->names[i] = (struct store_node){.name = e->texts[i]};
    }
    int rc = 0;
    if (config->nodes && !(e->memory = views_memory_create())) {
        snprintf(err, err_len, "out of memory");
        rc = -ENOMEM;
    }
    for (uint32_t i = 0; !rc && i < e->nodes; i++)
        rc = start_replica(e, i, false, err, err_len);
    if (rc)
        embed_stop(e);
    else
        *out = e;
    return rc;
}

void embed_kill(struct embed *e, uint32_t node)
{
    struct store *s = e->replicas[node - 1];
    pthread_rwlock_wrlock(&e->lock);
    e->replicas[node - 1] = NULL;
    pthread_rwlock_unlock(&e->lock);
    if (s)
        store_stop(s);
}

int embed_restart(struct embed *e, uint32_t node, bool accept_loss, char *err, uint32_t err_len)
{
    return start_replica(e, node - 1, accept_loss, err, err_len);
}

void embed_stop(struct embed *e)
{
    /* The backup first: it dials the primary. */
    for (uint32_t i = e->nodes; i >= 1; i--)
        embed_kill(e, i);
    views_memory_destroy(e->memory);
    pthread_rwlock_destroy(&e->lock);
    free(e);
}

bool embed_poll(struct embed *e)
{
    bool worked = false;
    for (uint32_t i = 0; i < e->nodes; i++)
        if (e->replicas[i])
            worked |= store_poll(e->replicas[i]);
    return worked;
}

struct store *embed_store(const struct embed *e, uint32_t node)
{
    return e->replicas[node - 1];
}

uint32_t embed_primary(const struct embed *e, uint16_t shard)
{
    return e->memory ? views_memory_primary(e->memory, shard) : 1;
}

struct channel *embed_dial(void *embed, uint16_t shard, char *err, uint32_t err_len)
{
    return embed_dial_node(embed, embed_primary(embed, shard), shard, err, err_len);
}

uint32_t embed_copies(const struct embed *e)
{
    uint32_t least = UINT32_MAX;
    for (uint16_t i = 0; i < e->config.shards; i++) {
        uint32_t node = embed_primary(e, i);
        struct shard_snapshot s = {0};
        if (node && e->replicas[node - 1])
            store_snapshot(e->replicas[node - 1], i, &s);
        if (s.status.role != SHARD_PRIMARY)
            s.status.copies = 0;
        least = s.status.copies < least ? s.status.copies : least;
    }
    return least;
}

void embed_snapshot(const struct embed *e, int replica, uint16_t shard,
                    struct shard_snapshot *out)
{
    store_snapshot(e->replicas[replica], shard, out);
}

uint16_t embed_port(const struct embed *e, uint16_t shard)
{
    return store_port(e->replicas[0], shard);
}
