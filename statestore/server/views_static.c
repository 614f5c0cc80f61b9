/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The static pair's view provider (views.h). Per shard: its standing, the
 * current view, and at most a few outcomes not yet taken. An entry belongs to
 * its shard's thread and has cache lines of its own.
 */
#include "statestore/server/views.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/log/log.h"
#include "statestore/server/views_rules.h"

enum { OUTCOMES_MAX = 4 };

struct entry {
    enum views_standing standing;
    struct msg_node self;
    struct shard_view view;
    uint64_t lost_epoch;        /* what the backup still holds */
    struct shard_view outcomes[OUTCOMES_MAX];
    uint32_t noutcomes;
} __attribute__((aligned(64)));

struct views_static {
    struct views views;
    struct views_static_config config;
    struct entry entries[];
};

static struct views_static *of(struct views *v)
{
    return (struct views_static *)v;
}

static void decide(struct entry *e, const struct shard_view *view)
{
    e->view = *view;
    if (e->noutcomes < OUTCOMES_MAX)
        e->outcomes[e->noutcomes++] = *view;
}

static void serve_alone(struct entry *e)
{
    struct shard_view first = {.epoch = 1, .nmembers = 1, .members = {e->self}};
    e->standing = VIEWS_SERVING;
    decide(e, &first);
}

static void start(struct views *v, uint16_t shard, const struct msg_node *self, int wake_fd)
{
    struct views_static *s = of(v);
    struct entry *e = &s->entries[shard];
    e->self = *self;
    if (s->config.backup) {
        e->standing = VIEWS_FOLLOWING;
    } else if (s->config.alone || s->config.accept_loss) {
        if (s->config.accept_loss)
            log_warn("starting empty", "shard=%u the operator accepted the loss of what was there",
                     shard);
        serve_alone(e);
    } else {
        e->standing = VIEWS_WAITING;
        log_info("waiting for backup",
                 "shard=%u backup=%s it must say that it holds no state before this empty primary "
                 "may serve; start it, or restart me with --accept-loss",
                 shard, s->config.peer);
    }
}

static void stop(struct views *v, uint16_t shard)
{
}

static void heard(struct views *v, uint16_t shard, const struct msg_node *replica, uint64_t held)
{
    struct views_static *s = of(v);
    struct entry *e = &s->entries[shard];
    if (e->standing != VIEWS_WAITING)
        return;
    if (!held) {
        log_info("backup is empty", "shard=%u node=%u this primary serves from now on", shard,
                 replica->node);
        serve_alone(e);
        return;
    }
    e->standing = VIEWS_LOST;
    e->lost_epoch = held;
    log_error("LOST",
              "shard=%u backup=%s still holds the state of an earlier primary (epoch %lu) and I "
              "hold nothing; I serve only after a restart with --accept-loss, which discards it",
              shard, s->config.peer, held);
}

static void propose(struct views *v, uint16_t shard, uint64_t old_epoch,
                    const struct shard_view *want)
{
    struct entry *e = &of(v)->entries[shard];
    struct shard_view next = *want;
    /* Compare-and-swap: a wish made on an older view is answered by the view that stands. */
    if (old_epoch != e->view.epoch) {
        decide(e, &e->view);
        return;
    }
    next.epoch = old_epoch + 1;
    rules_log_change(shard, &e->view, &next);
    decide(e, &next);
}

static bool take(struct views *v, uint16_t shard, struct shard_view *out)
{
    struct entry *e = &of(v)->entries[shard];
    if (!e->noutcomes)
        return false;
    *out = e->outcomes[0];
    e->noutcomes--;
    for (uint32_t i = 0; i < e->noutcomes; i++)
        e->outcomes[i] = e->outcomes[i + 1];
    return true;
}

static enum views_standing standing(const struct views *v, uint16_t shard, char *why,
                                    uint32_t why_len)
{
    const struct views_static *s = (const struct views_static *)v;
    const struct entry *e = &s->entries[shard];
    if (!why)
        return e->standing;
    why[0] = 0;
    if (e->standing == VIEWS_WAITING)
        snprintf(why, why_len, "shard %u waits for backup %s to say what it holds", shard,
                 s->config.peer);
    else if (e->standing == VIEWS_LOST)
        snprintf(why, why_len,
                 "LOST: shard %u is empty, backup %s holds state of epoch %lu; an operator must "
                 "restart it with --accept-loss",
                 shard, s->config.peer, e->lost_epoch);
    return e->standing;
}

static void destroy(struct views *v)
{
    free(v);
}

static void holds(struct views *v, uint16_t shard, const struct msg_node *self, uint64_t epoch,
                  uint64_t position)
{
}

static uint32_t primary(const struct views *v, uint16_t shard)
{
    return 1;
}

static bool node(const struct views *v, uint32_t number, uint16_t shard, struct views_node *out)
{
    return false;
}

static int accept_loss(struct views *v, uint16_t shard, const uint32_t *fenced, uint32_t nfenced,
                       char *why, uint32_t why_len)
{
    snprintf(why, why_len, "this site has no etcd, so nobody can tell who is dead; restart the "
             "primary with --accept-loss instead");
    return -ENOTSUP;
}

static void service(const struct views *v, struct views_service *out)
{
    *out = (struct views_service){.kind = "static"};
}

static const struct views_ops static_ops = {start, stop, NULL, heard, propose, take, standing, holds, primary,
                                            node, accept_loss, service, destroy};

struct views *views_static_create(const struct views_static_config *config)
{
    size_t bytes = sizeof(struct views_static) + config->shards * sizeof(struct entry);
    struct views_static *s = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    if (!s)
        return NULL;
    *s = (struct views_static){.views = {.ops = &static_ops}, .config = *config};
    for (uint16_t i = 0; i < config->shards; i++)
        s->entries[i] = (struct entry){.standing = VIEWS_WAITING};
    return &s->views;
}
