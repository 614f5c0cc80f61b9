/* SPDX-License-Identifier: BSD-3-Clause */
/* A store inside another program (embed.h): one struct store, or two. */
#include "statestore/server/embed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct embed {
    struct store *replicas[2];    /* [1] NULL: no backup */
};

static int start_replica(struct embed *e, int replica, const struct embed_config *config,
                         char *err, uint32_t err_len)
{
    struct store_config sc = {
        .shards = config->shards,
        .node = (uint32_t)replica + 1,
        .listen = replica ? NULL : config->listen,
        .pair = config->backup,
        .peer_name = replica ? "primary" : "backup",
        .dial_primary = replica ? store_dial : NULL,
        .dial_ctx = replica ? e->replicas[0] : NULL,
        .threads = config->threads,
        .failure_timeout_ms = config->failure_timeout_ms,
        .memory_bytes = config->memory_bytes,
        .spin_us = config->spin_us,
    };
    return store_start(&e->replicas[replica], &sc, err, err_len);
}

int embed_start(struct embed **out, const struct embed_config *config, char *err,
                uint32_t err_len)
{
    struct embed *e = calloc(1, sizeof *e);
    if (!e) {
        snprintf(err, err_len, "out of memory");
        return -ENOMEM;
    }
    int rc = start_replica(e, 0, config, err, err_len);
    if (!rc && config->backup)
        rc = start_replica(e, 1, config, err, err_len);
    if (rc)
        embed_stop(e);
    else
        *out = e;
    return rc;
}

void embed_stop(struct embed *e)
{
    /* The backup first: it dials the primary. */
    for (int i = 1; i >= 0; i--)
        if (e->replicas[i])
            store_stop(e->replicas[i]);
    free(e);
}

bool embed_poll(struct embed *e)
{
    bool worked = store_poll(e->replicas[0]);
    if (e->replicas[1])
        worked |= store_poll(e->replicas[1]);
    return worked;
}

struct channel *embed_dial(void *embed, uint16_t shard, char *err, uint32_t err_len)
{
    struct embed *e = embed;
    return store_dial(e->replicas[0], shard, err, err_len);
}

uint32_t embed_copies(const struct embed *e)
{
    uint32_t least = UINT32_MAX;
    for (uint16_t i = 0; i < store_shards(e->replicas[0]); i++) {
        struct shard_snapshot s;
        store_snapshot(e->replicas[0], i, &s);
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
