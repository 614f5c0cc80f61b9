/* SPDX-License-Identifier: BSD-3-Clause */
/* See slabs.h. */
#include "statestore/server/slabs.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/log/log.h"

struct slab {
    void *at;                     /* first: what slabs are compared by */
    uint64_t bytes;
    void *exposed;                /* NULL: not registered */
    uint64_t since_ms;            /* resting */
    struct slab *next;            /* resting */
};

static int by_address(const void *a, const void *b)
{
    const void *x = ((const struct slab *)a)->at, *y = ((const struct slab *)b)->at;
    return x < y ? -1 : x > y;
}

/* --- registering ---------------------------------------------------------------------- */

static void conceal(struct slabs *s, struct slab *slab)
{
    if (!slab->exposed)
        return;
    s->by->conceal(slab->exposed);
    slab->exposed = NULL;
    s->bytes -= slab->bytes;
}

static void tell_refused(struct slabs *s, uint64_t bytes, int why)
{
    s->refused += bytes;
    if (s->logged_ms && s->now_ms < s->logged_ms + SLABS_LOG_MS)
        return;
    s->logged_ms = s->now_ms ? s->now_ms : 1;
    log_warn("not readable one-sidedly",
             "shard=%u bytes=%lu refused_bytes=%lu why=\"%s\" what=\"entries there are got by requests; "
             "raise the limit of locked memory (ulimit -l, LimitMEMLOCK= of the service)\"",
             s->shard, bytes, s->refused, strerror(why));
}

static void expose(struct slabs *s, struct slab *slab, uint32_t *rkey)
{
    *rkey = 0;
    if (!s->by)
        return;
    slab->exposed = s->by->expose(s->by, slab->at, slab->bytes, rkey);
    if (slab->exposed)
        s->bytes += slab->bytes;
    else
        tell_refused(s, slab->bytes, errno);
}

/* --- the core's hooks ------------------------------------------------------------------- */

static void *make(void *ctx, uint64_t bytes, uint32_t *rkey)
{
    struct slabs *s = ctx;
    struct slab *slab = calloc(1, sizeof *slab);
    void *at = slab ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                    : MAP_FAILED;
    if (at != MAP_FAILED) {
        *slab = (struct slab){.at = at, .bytes = bytes};
        if (tsearch(slab, &s->live, by_address)) {
            expose(s, slab, rkey);
            return at;
        }
        munmap(at, bytes);
    }
    free(slab);
    return NULL;
}

static void drop(struct slabs *s, struct slab *slab)
{
    conceal(s, slab);
    munmap(slab->at, slab->bytes);
    free(slab);
}

static void drop_oldest(struct slabs *s)
{
    struct slab *slab = s->oldest;
    s->oldest = slab->next;
    if (!s->oldest)
        s->newest = NULL;
    s->resting_bytes -= slab->bytes;
    drop(s, slab);
}

static void give_back(void *ctx, void *at, uint64_t bytes)
{
    struct slabs *s = ctx;
    struct slab key = {.at = at}, **found = tfind(&key, &s->live, by_address), *slab = *found;
    tdelete(slab, &s->live, by_address);
    if (!slab->exposed) {
        drop(s, slab);
        return;
    }
    slab->since_ms = s->now_ms;
    if (s->newest)
        s->newest->next = slab;
    else
        s->oldest = slab;
    s->newest = slab;
    s->resting_bytes += bytes;
    while (s->resting_bytes > SLABS_REST_BYTES)
        drop_oldest(s);
}

/* --- life --------------------------------------------------------------------------------- */

struct shard_slabs slabs_open(struct slabs *s, uint16_t shard, struct listener *listeners,
                              uint32_t nlisteners)
{
    *s = (struct slabs){.shard = shard};
    for (uint32_t i = 0; i < nlisteners && !s->by; i++)
        if (listeners[i].expose)
            s->by = &listeners[i];
    return s->by ? (struct shard_slabs){s, make, give_back} : (struct shard_slabs){0};
}

void slabs_sweep(struct slabs *s, uint64_t now_ms)
{
    s->now_ms = now_ms;
    while (s->oldest && now_ms > s->oldest->since_ms + SLABS_REST_MS)
        drop_oldest(s);
}

/* twalk(3) has no context; a shard's thread has one at a time. */
static _Thread_local struct slabs *walking;
static void conceal_node(const void *node, VISIT visit, int depth)
{
    if (visit == preorder || visit == leaf)
        conceal(walking, *(struct slab *const *)node);
}

void slabs_conceal(struct slabs *s)
{
    if (!s->by)
        return;
    while (s->oldest)
        drop_oldest(s);
    walking = s;
    twalk(s->live, conceal_node);
    s->by = NULL;
}

void slabs_close(struct slabs *s)
{
    slabs_conceal(s);
    while (s->live) /* the shard gave back all it had */
        give_back(s, (*(struct slab **)s->live)->at, 0);
}
