/* SPDX-License-Identifier: BSD-3-Clause */
/* See state.h. RDMA and Redis are there if their libraries were when this was built. */
#include "nf/worker/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef LETHE_VERBS
#include "common/wire/verbs/verbs.h"
#define RDMA (&transport_verbs)
#else
#define RDMA NULL
#endif
#ifdef LETHE_REDIS
#include "client/redis/lethe_redis.h"
#include "nf/runtime/backend_redis.h"
#endif

struct state {
    struct lethe_client *store;   /* one of the two */
    struct lethe_redis *redis;
    const char **one_sided;       /* what the client keeps */
    char kind[8];
    uint64_t away_us;             /* Redis: not ready since; 0: it is */
};

static int create_store(struct state *s, const struct site *site, char *err, uint32_t err_len)
{
    char *addresses = site_store_addresses(site);
    s->one_sided = calloc(site->worker.one_sided_count + 1, sizeof *s->one_sided);
    if (!addresses || !s->one_sided) {
        free(addresses);
        snprintf(err, err_len, "no memory");
        return -ENOMEM;
    }
    for (unsigned i = 0; i < site->worker.one_sided_count; i++)
        s->one_sided[i] = site->worker.one_sided[i];
    struct lethe_config client = {.shards = (uint16_t)site->store.shards,
                                  .address = addresses,
                                  .verbs = RDMA,
                                  .one_sided = s->one_sided,
                                  .remember = site->worker.remember,
                                  .retry_ms = site_store_retry_ms(site),
                                  .silence_ms = site_store_silence_ms(site),
                                  .tenant = site->worker.tenant,
                                  .secret_file = site->worker.secret_file};
    s->store = lethe_client_create(&client, err, err_len);
    free(addresses);
    snprintf(s->kind, sizeof s->kind, "%s", site->worker.transport);
    return s->store ? 0 : -EINVAL;
}

static const char *const nothing[] = {NULL};

/* --- Redis --------------------------------------------------------------------------- */

#ifdef LETHE_REDIS

static int create_redis(struct state *s, const struct site *site, char *err, uint32_t err_len)
{
    struct lethe_redis_config client = {.seeds = site->worker.redis,
                                        .retry_ms = site_store_retry_ms(site)};
    s->redis = lethe_redis_create(&client, err, err_len);
    snprintf(s->kind, sizeof s->kind, "redis");
    return s->redis ? 0 : -EINVAL;
}

static void redis_status(struct state *s, uint64_t now_us, struct lethe_status *out)
{
    struct lethe_redis_status st;
    lethe_redis_status(s->redis, &st);
    if (lethe_redis_ready(s->redis))
        s->away_us = 0;
    else if (!s->away_us)
        s->away_us = now_us;
    *out = (struct lethe_status){.in_flight = st.in_flight, .window = st.window, .done = st.done,
                                 .retries = st.retries, .reconnects = st.reconnects,
                                 .moved = st.redirects, .unreachable_since_us = s->away_us};
    snprintf(out->trouble, sizeof out->trouble, "%s", st.trouble);
    snprintf(out->fatal, sizeof out->fatal, "%s", st.fatal);
}

#else /* nobody calls these: there is no client */

static int create_redis(struct state *s, const struct site *site, char *err, uint32_t err_len)
{
    snprintf(err, err_len, "worker: redis: this lethe-nf was built without hiredis; build it where "
             "libhiredis-dev is, or use the store");
    return -ENOTSUP;
}
static void redis_status(struct state *s, uint64_t now_us, struct lethe_status *out) { }
static struct backend backend_redis(struct lethe_redis *r) { return (struct backend){0}; }
static void lethe_redis_destroy(struct lethe_redis *r) { }
static bool lethe_redis_ready(const struct lethe_redis *r) { return false; }
static int lethe_redis_fd(const struct lethe_redis *r) { return -1; }
static uint64_t lethe_redis_next_us(const struct lethe_redis *r) { return UINT64_MAX; }
static const char *const *lethe_redis_lacks(void) { return nothing; }

#endif

/* --- either ---------------------------------------------------------------------------- */

void state_destroy(struct state *s)
{
    if (!s)
        return;
    if (s->redis)
        lethe_redis_destroy(s->redis);
    lethe_client_destroy(s->store);
    free(s->one_sided);
    free(s);
}

struct backend state_backend(struct state *s)
{
    return s->redis ? backend_redis(s->redis) : backend_lethe(s->store);
}

bool state_ready(const struct state *s)
{
    return s->redis ? lethe_redis_ready(s->redis) : lethe_ready(s->store);
}

int state_fd(struct state *s)
{
    return s->redis ? lethe_redis_fd(s->redis) : lethe_fd(s->store);
}

bool state_arm(struct state *s)
{
    return s->redis || lethe_arm(s->store);
}

uint64_t state_next_us(const struct state *s)
{
    return s->redis ? lethe_redis_next_us(s->redis) : lethe_next_us(s->store);
}

void state_trace(struct state *s, lethe_sent sent, void *ctx)
{
    if (s->store)
        lethe_trace(s->store, sent, ctx);
}

const char *const *state_lacks(const struct state *s)
{
    return s->redis ? lethe_redis_lacks() : nothing;
}

int state_create(struct state **out, const struct site *site, char *err, uint32_t err_len)
{
    struct state *s = calloc(1, sizeof *s);
    if (!s) {
        snprintf(err, err_len, "no memory");
        return -ENOMEM;
    }
    int rc = site->worker.redis ? create_redis(s, site, err, err_len)
                                : create_store(s, site, err, err_len);
    if (rc)
        state_destroy(s);
    else
        *out = s;
    return rc;
}

void state_status(struct state *s, uint64_t now_us, struct lethe_status *out)
{
    if (s->redis)
        redis_status(s, now_us, out);
    else
        lethe_status(s->store, out);
}

const char *state_kind(const struct state *s)
{
    return s->kind;
}
