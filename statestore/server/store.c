/* SPDX-License-Identifier: BSD-3-Clause */
/* A store in this process (store.h). */
#include "statestore/server/store.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/wire/address.h"
#include "statestore/server/views_etcd.h"
#include "statestore/server/views_memory.h"

enum { INPROC_RING_BYTES = 1024 * 1024, HELLO_TIMEOUT_MS = 5000, STALL_MS = 10000, ANSWER_TIMEOUT_MS = 1000 };

struct store {
    struct store_config config;
    char node_texts[STORE_NODES_MAX][160]; /* "store-a at 10.0.0.1:7400" */
    const char *names[STORE_NODES_MAX];
    uint64_t incarnation;
    struct views *views;
    struct loop *loops[STORE_SHARDS_MAX];
    uint16_t ports[STORE_SHARDS_MAX], verbs_ports[STORE_SHARDS_MAX];
    pthread_t threads[STORE_SHARDS_MAX];
    uint16_t nthreads;
};

/* --- addresses --------------------------------------------------------------------------- */

/* A shard may want to speak to another of the same process. */
static struct channel *dial_node(void *ctx, uint32_t node, uint16_t shard, char *err,
                                 uint32_t err_len)
{
    struct store *s = ctx;
    const struct store_config *c = &s->config;
    char address[TRANSPORT_ADDRESS_MAX];
    if (node == c->node)
        return store_dial(s, shard, err, err_len);
    if (c->dial)
        return c->dial(c->dial_ctx, node, shard, err, err_len);
    if (transport_of_shard(&transport_tcp, c->nodes[node - 1].listen, shard, address, err, err_len))
        return NULL;
    return tcp_connect(address, err, err_len);
}

static struct channel *dial_verbs(void *ctx, uint32_t node, uint16_t shard, char *err,
                                  uint32_t err_len)
{
    const struct store_config *c = &((struct store *)ctx)->config;
    const char *verbs = node == c->node ? NULL : c->nodes[node - 1].verbs;
    char address[TRANSPORT_ADDRESS_MAX];
    if (!verbs || transport_of_shard(c->verbs, verbs, shard, address, err, err_len))
        return NULL;
    return c->verbs->connect_replica ? c->verbs->connect_replica(address, err, err_len)
                                     : c->verbs->connect(address, err, err_len);
}

static const char *node_text(void *ctx, uint32_t node)
{
    struct store *s = ctx;
    return node >= 1 && node <= STORE_NODES_MAX ? s->node_texts[node - 1] : "nobody";
}

static int listen_by(struct store *s, const struct transport *t, const char *base, uint16_t shard,
                     struct loop_config *lc, uint16_t *port, char *err, uint32_t err_len)
{
    char address[TRANSPORT_ADDRESS_MAX];
    struct listener *l = &lc->listeners[lc->nlisteners];
    if (!base)
        return 0;
    int rc = transport_of_shard(t, base, shard, address, err, err_len);
    if (!rc)
        rc = t->listen(l, address, err, err_len);
    if (rc)
        return rc;
    lc->nlisteners++;
    *port = t->port(l);
    log_info("listening", "shard=%u by=%s address=%s port=%u", shard, t->name, address, *port);
    return 0;
}

/* tcp last: who tries another way first finds it when it finds tcp. */
static int listen_all(struct store *s, uint16_t shard, struct loop_config *lc, char *err,
                      uint32_t err_len)
{
    const struct store_config *c = &s->config;
    uint16_t none;
    int rc = listen_by(s, &transport_shm, c->listen_shm, shard, lc, &none, err, err_len);
    if (!rc)
        rc = listen_by(s, c->verbs, c->listen_verbs, shard, lc, &s->verbs_ports[shard], err, err_len);
    if (!rc)
        rc = listen_by(s, &transport_tcp, c->listen, shard, lc, &s->ports[shard], err, err_len);
    for (uint32_t i = 0; rc && i < lc->nlisteners; i++)
        listener_close(&lc->listeners[i]);
    return rc;
}

/* --- starting ------------------------------------------------------------------------------ */

/* By the wall clock. Where that was set back a view service that remembers says so (views.h). */
static uint64_t new_incarnation(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool elects(const struct store *s)
{
    return s->config.netcd || s->config.memory;
}

static struct loop_config loop_config_of(struct store *s, uint16_t shard)
{
    const struct store_config *c = &s->config;
    struct loop_config out = {
        .shard = {.shard = shard, .shards = c->shards,
                  .self = {.node = c->node, .incarnation = s->incarnation},
                  .seed = s->incarnation * 0x9e3779b97f4a7c15ull + shard,
                  .failure_timeout_ms = c->failure_timeout_ms,
                  .client_lease_ms = c->client_lease_ms, .memory_bytes = c->memory_bytes,
                  .copies = c->copies, .min_copies = c->min_copies, .limits = c->limits,
                  .nlimits = c->nlimits},
        .views = s->views,
        .primary_node = elects(s) ? 0 : 1,
        .nodes = c->nnodes,
        .dial = dial_node,
        .dial_verbs = c->listen_verbs ? dial_verbs : NULL,
        .dial_ctx = s,
        .node_text = node_text,
        .auth = c->auth,
        .spin_us = c->spin_us,
        .hello_timeout_ms = c->hello_timeout_ms,
        .stall_ms = c->stall_ms,
    };
    return out;
}

static void *run(void *loop)
{
    loop_run(loop);
    return NULL;
}

/* Signals are the main thread's business. */
static int start_thread(struct store *s, uint16_t shard)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&s->threads[shard], NULL, run, s->loops[shard]);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!rc)
        s->nthreads++;
    return -rc;
}

static int start_shards(struct store *s, char *err, uint32_t err_len)
{
    for (uint16_t i = 0; i < s->config.shards; i++) {
        struct loop_config lc = loop_config_of(s, i);
        int rc = listen_all(s, i, &lc, err, err_len);
        if (rc)
            return rc;
        rc = loop_create(&s->loops[i], &lc, err, err_len);
        if (rc)
            return rc;
    }
    for (uint16_t i = 0; s->config.threads && i < s->config.shards; i++) {
        int rc = start_thread(s, i);
        if (rc) {
            snprintf(err, err_len, "cannot start the thread of shard %u: %s", i, strerror(-rc));
            return rc;
        }
    }
    return 0;
}

static int create_views(struct store *s, char *err, uint32_t err_len)
{
    const struct store_config *c = &s->config;
    struct views_site site = {.shards = c->shards, .node = c->node, .nodes = c->nnodes,
                              .copies = c->copies, .failure_timeout_ms = c->failure_timeout_ms,
                              .names = s->names, .listen = c->known ? c->known : c->listen,
                              .incarnation = s->incarnation, .accept_loss = c->accept_loss};
    struct views_static_config pair = {.shards = c->shards, .backup = c->node != 1,
                                       .alone = c->nnodes == 1, .accept_loss = c->accept_loss,
                                       .peer = s->names[c->node == 1 && c->nnodes > 1]};
    if (c->memory)
        s->views = views_memory_join(c->memory, &site);
    else if (c->netcd)
        return views_etcd_create(&s->views, &site, c->etcd, c->netcd, &c->etcd_tls, c->etcd_prefix, err, err_len);
    else
        s->views = views_static_create(&pair);
    if (s->views)
        return 0;
    snprintf(err, err_len, "out of memory");
    return -ENOMEM;
}

/* Names and addresses of the nodes, for sentences. */
static void name_nodes(struct store *s)
{
    static const struct store_node alone = {.name = "this node", .listen = ""};
    struct store_config *c = &s->config;
    if (!c->nnodes) {
        c->nodes = &alone;
        c->nnodes = 1;
    }
    for (uint32_t i = 0; i < c->nnodes; i++) {
        const struct store_node *n = &c->nodes[i];
        s->names[i] = n->name;
        snprintf(s->node_texts[i], sizeof s->node_texts[i], "%.60s%s%.80s", n->name,
                 n->listen && n->listen[0] ? " at " : "", n->listen ? n->listen : "");
    }
}

static void warn_of_strangers(const struct store_config *c, const char *listen)
{
    if (!c->auth && listen && !auth_is_loopback(listen))
        log_warn("no authentication",
                 "address=%s whoever reaches it reads and writes everything; configure secrets "
                 "(store.tenants, store.replica_secret_file) or keep it on a network of its own",
                 listen);
}

static int set_up(struct store *s, char *err, uint32_t err_len)
{
    struct store_config *c = &s->config;
    warn_of_strangers(c, c->listen);
    warn_of_strangers(c, c->listen_verbs);
    if (!c->failure_timeout_ms)
        c->failure_timeout_ms = STORE_FAILURE_TIMEOUT_MS;
    if (!c->hello_timeout_ms)
        c->hello_timeout_ms = HELLO_TIMEOUT_MS;
    if (!c->stall_ms)
        c->stall_ms = STALL_MS;
    s->incarnation = new_incarnation();
    name_nodes(s);
    if (!c->copies)
        c->copies = c->nnodes < 2 ? c->nnodes : 2;
    return create_views(s, err, err_len);
}

int store_start(struct store **out, const struct store_config *config, char *err,
                uint32_t err_len)
{
    if (config->shards < 1 || config->shards > STORE_SHARDS_MAX) {
        snprintf(err, err_len, "%u shards: write a number from 1 to %d", config->shards,
                 STORE_SHARDS_MAX);
        return -EINVAL;
    }
    if (config->listen_verbs && !config->verbs) {
        snprintf(err, err_len, "verbs %s: this store was built without RDMA; leave it out, or build "
                 "where libibverbs-dev and librdmacm-dev are", config->listen_verbs);
        return -ENOTSUP;
    }
    bool elected = config->netcd || config->memory;
    if (config->nnodes > (elected ? STORE_NODES_MAX : 2) ||
        config->node > (config->nnodes ? config->nnodes : 1)) {
        snprintf(err, err_len, "node %u of %u: there may be %d nodes, without etcd 2", config->node,
                 config->nnodes, STORE_NODES_MAX);
        return -EINVAL;
    }
    struct store *s = calloc(1, sizeof *s);
    if (!s) {
        snprintf(err, err_len, "out of memory");
        return -ENOMEM;
    }
    s->config = *config;
    int rc = set_up(s, err, err_len);
    if (!rc)
        rc = start_shards(s, err, err_len);
    s->config.listen = s->config.listen_shm = s->config.listen_verbs = NULL; /* the caller's strings */
    if (rc)
        store_stop(s);
    else
        *out = s;
    return rc;
}

/* --- stopping ------------------------------------------------------------------------------- */

void store_drain(struct store *s)
{
    for (uint16_t i = 0; i < s->config.shards; i++)
        loop_stop(s->loops[i], true);
}

bool store_stopped(const struct store *s)
{
    for (uint16_t i = 0; i < s->config.shards; i++)
        if (!loop_stopped(s->loops[i]))
            return false;
    return true;
}

void store_stop(struct store *s)
{
    for (uint16_t i = 0; i < s->nthreads; i++)
        loop_stop(s->loops[i], false);
    for (uint16_t i = 0; i < s->nthreads; i++)
        pthread_join(s->threads[i], NULL);
    for (uint16_t i = 0; i < s->config.shards; i++)
        if (s->loops[i])
            loop_destroy(s->loops[i]);
    if (s->views)
        s->views->ops->destroy(s->views);
    free(s);
}

/* --- use -------------------------------------------------------------------------------------- */

bool store_poll(struct store *s)
{
    bool worked = false;
    for (uint16_t i = 0; i < s->config.shards; i++)
        worked |= loop_turn(s->loops[i]);
    return worked;
}

struct channel *store_dial(void *store, uint16_t shard, char *err, uint32_t err_len)
{
    struct store *s = store;
    struct channel *ours, *theirs;
    if (shard >= s->config.shards) {
        snprintf(err, err_len, "the store has no shard %u", shard);
        return NULL;
    }
    if (inproc_pair(INPROC_RING_BYTES, &ours, &theirs)) {
        snprintf(err, err_len, "out of memory for a channel");
        return NULL;
    }
    if (!loop_adopt(s->loops[shard], theirs))
        return ours;
    channel_close(theirs);
    channel_close(ours);
    snprintf(err, err_len, "shard %u takes no more connections just now", shard);
    return NULL;
}

uint16_t store_shards(const struct store *s)
{
    return s->config.shards;
}

uint16_t store_port(const struct store *s, uint16_t shard)
{
    return s->ports[shard];
}

uint16_t store_verbs_port(const struct store *s, uint16_t shard)
{
    return s->verbs_ports[shard];
}

uint32_t store_self(const struct store *s)
{
    return s->config.node ? s->config.node : 1;
}

uint32_t store_nodes(const struct store *s)
{
    return s->config.nnodes;
}

uint32_t store_copies(const struct store *s)
{
    return s->config.copies;
}

const char *store_node_name(const struct store *s, uint32_t node)
{
    return node >= 1 && node <= s->config.nnodes ? s->names[node - 1] : "nobody";
}

const char *store_limit_name(const struct store *s, uint32_t i)
{
    const struct store_config *c = &s->config;
    if (i >= c->nlimits)
        return i == c->nlimits ? "shard" : NULL;
    return c->limits[i].who;
}

struct views *store_views(const struct store *s)
{
    return s->views;
}

int store_order(struct store *s, uint16_t shard, const struct shard_order *order, char *why)
{
    return loop_order(s->loops[shard], order, why, ANSWER_TIMEOUT_MS);
}

int store_map(struct store *s, uint16_t shard, struct msg_map *out)
{
    return loop_map(s->loops[shard], out, ANSWER_TIMEOUT_MS);
}

struct traced *store_traced(const struct store *s, uint16_t shard)
{
    return loop_traced(s->loops[shard]);
}

bool store_alive(const struct store *s, uint16_t shard)
{
    return loop_alive(s->loops[shard]);
}

void store_snapshot(const struct store *s, uint16_t shard, struct shard_snapshot *out)
{
    loop_snapshot(s->loops[shard], out);
}
