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

enum { INPROC_RING_BYTES = 1024 * 1024, HELLO_TIMEOUT_MS = 5000, STALL_MS = 10000 };

struct store {
    struct store_config config;
    char *primary, *peer_name, *primary_text;
    struct views *views;
    struct loop *loops[STORE_SHARDS_MAX];
    uint16_t ports[STORE_SHARDS_MAX];
    pthread_t threads[STORE_SHARDS_MAX];
    uint16_t nthreads;
};

/* --- addresses --------------------------------------------------------------------------- */

/* "host:port" of shard 0 -> of shard i. */
static int shard_address(const char *base, uint16_t shard, char *out, uint32_t len, char *err,
                         uint32_t err_len)
{
    char host[ADDRESS_HOST_MAX];
    uint16_t port;
    int rc = address_split(base, host, &port, err, err_len);
    if (rc)
        return rc;
    if (port && port + shard > 65535) {
        snprintf(err, err_len, "%s: shard %u would need port %u; choose a lower one", base, shard,
                 port + shard);
        return -EINVAL;
    }
    snprintf(out, len, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port ? port + shard : 0);
    return 0;
}

static struct channel *dial_tcp(void *ctx, uint16_t shard, char *err, uint32_t err_len)
{
    const struct store *s = ctx;
    char address[300];
    if (shard_address(s->primary, shard, address, sizeof address, err, err_len))
        return NULL;
    return tcp_connect(address, err, err_len);
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    if (getsockname(fd, (struct sockaddr *)&a, &len))
        return 0;
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                         : ((struct sockaddr_in *)&a)->sin_port);
}

static int listen_at(struct store *s, uint16_t shard, int *fd, char *err, uint32_t err_len)
{
    char address[300];
    *fd = -1;
    if (!s->config.listen)
        return 0;
    int rc = shard_address(s->config.listen, shard, address, sizeof address, err, err_len);
    if (rc)
        return rc;
    rc = tcp_listen(address, err, err_len);
    if (rc < 0)
        return rc;
    *fd = rc;
    s->ports[shard] = port_of(rc);
    log_info("listening", "shard=%u address=%s port=%u", shard, address, s->ports[shard]);
    return 0;
}

/* --- starting ------------------------------------------------------------------------------ */

/* Never the same twice on one host, also over restarts. */
static uint64_t new_incarnation(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool is_backup(const struct store *s)
{
    return s->config.pair && s->config.node != 1;
}

static struct loop_config loop_config_of(struct store *s, uint16_t shard, int listen_fd)
{
    const struct store_config *c = &s->config;
    uint64_t incarnation = new_incarnation();
    struct loop_config out = {
        .shard = {.shard = shard, .shards = c->shards,
                  .self = {.node = c->node, .incarnation = incarnation},
                  .seed = incarnation * 0x9e3779b97f4a7c15ull + shard,
                  .failure_timeout_ms = c->failure_timeout_ms,
                  .client_lease_ms = c->client_lease_ms, .memory_bytes = c->memory_bytes},
        .listen_fd = listen_fd,
        .views = s->views,
        .primary = s->primary_text,
        .auth = c->auth,
        .spin_us = c->spin_us,
        .hello_timeout_ms = c->hello_timeout_ms,
        .stall_ms = c->stall_ms,
    };
    if (is_backup(s)) {
        out.dial_primary = c->dial_primary ? c->dial_primary : dial_tcp;
        out.dial_ctx = c->dial_primary ? c->dial_ctx : s;
    }
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
        int fd, rc = listen_at(s, i, &fd, err, err_len);
        if (rc)
            return rc;
        struct loop_config lc = loop_config_of(s, i, fd);
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

static char *copy_of(const char *text)
{
    return strdup(text ? text : "");
}

static int set_up(struct store *s, char *err, uint32_t err_len)
{
    struct store_config *c = &s->config;
    char text[400];
    if (!c->auth && c->listen && !auth_is_loopback(c->listen))
        log_warn("no authentication",
                 "address=%s whoever reaches it reads and writes everything; configure secrets "
                 "(store.tenants, store.replica_secret_file) or keep it on a network of its own",
                 c->listen);
    if (!c->failure_timeout_ms)
        c->failure_timeout_ms = STORE_FAILURE_TIMEOUT_MS;
    if (!c->hello_timeout_ms)
        c->hello_timeout_ms = HELLO_TIMEOUT_MS;
    if (!c->stall_ms)
        c->stall_ms = STALL_MS;
    s->primary = copy_of(c->primary);
    s->peer_name = copy_of(c->peer_name);
    snprintf(text, sizeof text, "%.60s%s%.256s", c->peer_name ? c->peer_name : "",
             c->primary ? " at " : "", c->primary ? c->primary : "");
    s->primary_text = copy_of(text);
    struct views_static_config vc = {.shards = c->shards, .backup = is_backup(s),
                                     .alone = !c->pair, .accept_loss = c->accept_loss,
                                     .peer = s->peer_name};
    s->views = views_static_create(&vc);
    if (s->primary && s->peer_name && s->primary_text && s->views)
        return 0;
    snprintf(err, err_len, "out of memory");
    return -ENOMEM;
}

int store_start(struct store **out, const struct store_config *config, char *err,
                uint32_t err_len)
{
    if (config->shards < 1 || config->shards > STORE_SHARDS_MAX) {
        snprintf(err, err_len, "%u shards: write a number from 1 to %d", config->shards,
                 STORE_SHARDS_MAX);
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
    s->config.listen = NULL; /* the caller's string, not needed any more */
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
    free(s->primary);
    free(s->peer_name);
    free(s->primary_text);
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

void store_snapshot(const struct store *s, uint16_t shard, struct shard_snapshot *out)
{
    loop_snapshot(s->loops[shard], out);
}
