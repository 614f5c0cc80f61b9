/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views in memory (views_memory.h). One mutex guards everything; a change wakes
 * every loop that is joined, and each takes the newest view it has not seen.
 * A shard's first view waits for all the nodes that it prefers, for ever.
 */
#include "statestore/server/views_memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "statestore/server/views_rules.h"

enum { SHARDS_MAX = 16, NODES_MAX = 16 };

struct member;
struct views_memory {
    pthread_mutex_t lock;
    struct shard_view views[SHARDS_MAX];
    struct views_node nodes[SHARDS_MAX][NODES_MAX];
    struct member *members[NODES_MAX];
    uint64_t requests;
};

struct member {               /* one store's provider */
    struct views views;
    struct views_memory *m;
    struct views_site site;
    struct msg_node self[SHARDS_MAX];
    uint64_t taken[SHARDS_MAX]; /* epoch */
    int wake_fd[SHARDS_MAX];
};

static struct member *of(const struct views *v)
{
    return (struct member *)v;
}

static void decide(struct views_memory *m, uint16_t shard, const struct shard_view *view)
{
    struct shard_view old = m->views[shard];
    m->views[shard] = *view;
    rules_log_change(shard, &old, view);
    for (int i = 0; i < NODES_MAX; i++)
        if (m->members[i] && m->members[i]->wake_fd[shard] >= 0)
            eventfd_write(m->members[i]->wake_fd[shard], 1);
}

static void start(struct views *v, uint16_t shard, const struct msg_node *self, int wake_fd)
{
    struct member *b = of(v);
    struct views_memory *m = b->m;
    struct shard_view first;
    char why[200];
    pthread_mutex_lock(&m->lock);
    b->self[shard] = *self;
    b->wake_fd[shard] = wake_fd;
    m->nodes[shard][b->site.node - 1] =
        (struct views_node){.incarnation = self->incarnation, .alive = true};
    if (!m->views[shard].epoch &&
        rules_first_view(&b->site, shard, m->nodes[shard], 0, &first, why, sizeof why))
        decide(m, shard, &first);
    struct shard_view accepted;
    if (b->site.accept_loss && rules_lost(&m->views[shard], m->nodes[shard]) &&
        !rules_accept_loss(&b->site, shard, &m->views[shard], self, m->nodes[shard], NULL, 0,
                           &accepted, why, sizeof why))
        decide(m, shard, &accepted);
    pthread_mutex_unlock(&m->lock);
}

static void stop(struct views *v, uint16_t shard)
{
    struct member *b = of(v);
    pthread_mutex_lock(&b->m->lock);
    b->wake_fd[shard] = -1;
    pthread_mutex_unlock(&b->m->lock);
}

static void heard(struct views *v, uint16_t shard, const struct msg_node *replica, uint64_t held)
{
}

static void propose(struct views *v, uint16_t shard, uint64_t old_epoch,
                    const struct shard_view *want)
{
    struct member *b = of(v);
    pthread_mutex_lock(&b->m->lock);
    b->m->requests++;
    if (b->m->views[shard].epoch == old_epoch) {
        struct shard_view next = *want;
        next.epoch = old_epoch + 1;
        decide(b->m, shard, &next);
    } else {
        b->taken[shard] = 0; /* answered by the view that stands */
    }
    pthread_mutex_unlock(&b->m->lock);
}

static bool take(struct views *v, uint16_t shard, struct shard_view *out)
{
    struct member *b = of(v);
    pthread_mutex_lock(&b->m->lock);
    bool news = b->m->views[shard].epoch > b->taken[shard];
    if (news) {
        *out = b->m->views[shard];
        b->taken[shard] = out->epoch;
    }
    pthread_mutex_unlock(&b->m->lock);
    return news;
}

static enum views_standing standing(const struct views *v, uint16_t shard, char *why,
                                    uint32_t why_len)
{
    struct member *b = of(v);
    char ours[200];
    pthread_mutex_lock(&b->m->lock);
    enum views_standing s =
        rules_standing(&b->site, shard, &b->m->views[shard], &b->self[shard], b->m->nodes[shard],
                       why ? why : ours, why ? why_len : sizeof ours);
    pthread_mutex_unlock(&b->m->lock);
    if (s == VIEWS_WAITING && why)
        snprintf(why, why_len, "shard %u waits for nodes to start", shard);
    return s;
}

static void holds(struct views *v, uint16_t shard, const struct msg_node *self, uint64_t epoch,
                  uint64_t position)
{
    struct member *b = of(v);
    pthread_mutex_lock(&b->m->lock);
    b->self[shard] = *self;
    b->m->nodes[shard][b->site.node - 1] = (struct views_node){
        .incarnation = self->incarnation, .alive = true, .epoch = epoch, .position = position};
    pthread_mutex_unlock(&b->m->lock);
}

uint32_t views_memory_primary(struct views_memory *m, uint16_t shard)
{
    pthread_mutex_lock(&m->lock);
    uint32_t node = m->views[shard].members[0].node;
    pthread_mutex_unlock(&m->lock);
    return node;
}

static uint32_t primary(const struct views *v, uint16_t shard)
{
    return views_memory_primary(of(v)->m, shard);
}

static bool node(const struct views *v, uint32_t number, uint16_t shard, struct views_node *out)
{
    struct member *b = of(v);
    if (number < 1 || number > b->site.nodes)
        return false;
    pthread_mutex_lock(&b->m->lock);
    *out = b->m->nodes[shard][number - 1];
    pthread_mutex_unlock(&b->m->lock);
    return true;
}

static int accept_loss(struct views *v, uint16_t shard, const uint32_t *fenced, uint32_t nfenced,
                       char *why, uint32_t why_len)
{
    struct member *b = of(v);
    struct shard_view want;
    pthread_mutex_lock(&b->m->lock);
    int rc = rules_accept_loss(&b->site, shard, &b->m->views[shard], &b->self[shard],
                               b->m->nodes[shard], fenced, nfenced, &want, why, why_len);
    if (!rc)
        decide(b->m, shard, &want);
    pthread_mutex_unlock(&b->m->lock);
    return rc;
}

static void service(const struct views *v, struct views_service *out)
{
    struct member *b = of(v);
    pthread_mutex_lock(&b->m->lock);
    *out = (struct views_service){.kind = "memory", .requests = b->m->requests};
    pthread_mutex_unlock(&b->m->lock);
}

static void destroy(struct views *v)
{
    struct member *b = of(v);
    pthread_mutex_lock(&b->m->lock);
    b->m->members[b->site.node - 1] = NULL;
    for (uint16_t i = 0; i < b->site.shards; i++)
        b->m->nodes[i][b->site.node - 1].alive = false;
    pthread_mutex_unlock(&b->m->lock);
    free(b);
}

static const struct views_ops memory_ops = {start, stop, NULL, heard, propose, take, standing, holds, primary,
                                            node, accept_loss, service, destroy};

struct views *views_memory_join(struct views_memory *m, const struct views_site *site)
{
    struct member *b = calloc(1, sizeof *b);
    if (!b)
        return NULL;
    *b = (struct member){.views = {.ops = &memory_ops, .elects = true}, .m = m, .site = *site};
    for (int i = 0; i < SHARDS_MAX; i++)
        b->wake_fd[i] = -1;
    pthread_mutex_lock(&m->lock);
    m->members[site->node - 1] = b;
    pthread_mutex_unlock(&m->lock);
    return &b->views;
}

struct views_memory *views_memory_create(void)
{
    struct views_memory *m = calloc(1, sizeof *m);
    if (m)
        pthread_mutex_init(&m->lock, NULL);
    return m;
}

void views_memory_destroy(struct views_memory *m)
{
    if (!m)
        return;
    pthread_mutex_destroy(&m->lock);
    free(m);
}
