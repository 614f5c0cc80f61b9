/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What other threads want of a shard: orders of operators, which go to the core as
 * events, and its map. For the map the loop is a client of its own shard, by a
 * connection number that no connection has: HELLO, MAP_GET, closed.
 *
 * The lock guards the lists and the answers; nobody holds it while the core runs.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "statestore/server/loop_impl.h"

static struct timespec after_ms(uint32_t ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

/* With the lock: until `given` reached `mine`. 0 or -ETIMEDOUT. */
static int wait_given(struct loop *l, const uint32_t *given, uint32_t mine, uint32_t timeout_ms)
{
    struct timespec until = after_ms(timeout_ms);
    int rc = 0;
    eventfd_write(l->wake_fd, 1);
    while (!rc && (int32_t)(*given - mine) < 0)
        rc = -pthread_cond_timedwait(&l->given, &l->inbox_lock, &until);
    return (int32_t)(*given - mine) >= 0 ? 0 : -ETIMEDOUT;
}

int loop_order(struct loop *l, const struct shard_order *order, char *why, uint32_t timeout_ms)
{
    int rc = -EBUSY;
    why[0] = 0;
    pthread_mutex_lock(&l->inbox_lock);
    if (l->norders < ORDERS_MAX) {
        uint32_t mine = ++l->orders_wanted;
        l->orders[l->norders++] = *order;
        rc = wait_given(l, &l->orders_given, mine, timeout_ms);
        if (!rc)
            memcpy(why, l->order_said[mine % ORDERS_MAX], ORDER_SENTENCE);
        if (why[0])
            rc = -EINVAL;
    }
    pthread_mutex_unlock(&l->inbox_lock);
    return rc;
}

int loop_map(struct loop *l, struct msg_map *out, uint32_t timeout_ms)
{
    pthread_mutex_lock(&l->inbox_lock);
    int rc = wait_given(l, &l->maps_given, ++l->maps_wanted, timeout_ms);
    if (!rc)
        *out = l->map;
    pthread_mutex_unlock(&l->inbox_lock);
    return rc;
}

static void say(struct loop *l, void *frame, uint32_t bytes)
{
    struct shard_event ev = {.kind = SHARD_EV_FRAME, .conn = SELF_CONN, .frame = frame,
                             .frame_bytes = bytes};
    loop_step(l, ev);
}

static void ask_map(struct loop *l)
{
    struct msg_hello hello = {.magic = MSG_MAGIC, .proto_min = MSG_PROTO_MIN,
                              .proto_max = MSG_PROTO_MAX, .role = ROLE_ADMIN};
    struct msg_map_get get = {0};
    msg_head_set(&hello, MSG_HELLO, sizeof hello, l->number, 0);
    msg_head_set(&get, MSG_MAP_GET, sizeof get, l->number, 0);
    say(l, &hello, sizeof hello);
    say(l, &get, sizeof get);
    loop_step(l, (struct shard_event){.kind = SHARD_EV_CLOSED, .conn = SELF_CONN});
}

static void answer(struct loop *l, const char *refused)
{
    pthread_mutex_lock(&l->inbox_lock);
    snprintf(l->order_said[++l->orders_given % ORDERS_MAX], ORDER_SENTENCE, "%s", refused);
    pthread_cond_broadcast(&l->given);
    pthread_mutex_unlock(&l->inbox_lock);
}

void orders_take(struct loop *l)
{
    struct shard_order orders[ORDERS_MAX];
    pthread_mutex_lock(&l->inbox_lock);
    uint32_t n = l->norders;
    bool map = l->maps_wanted != l->maps_given;
    memcpy(orders, l->orders, n * sizeof orders[0]);
    l->norders = 0;
    pthread_mutex_unlock(&l->inbox_lock);
    for (uint32_t i = 0; i < n; i++) {
        loop_step(l, (struct shard_event){.kind = SHARD_EV_ORDER, .order = &orders[i]});
        answer(l, shard_order_refused(l->shard));
    }
    if (map)
        ask_map(l);
}

void orders_answered(struct loop *l, const struct msg_head *m)
{
    if (m->type != MSG_MAP)
        return;
    pthread_mutex_lock(&l->inbox_lock);
    memcpy(&l->map, m, sizeof l->map);
    l->maps_given = l->maps_wanted;
    pthread_cond_broadcast(&l->given);
    pthread_mutex_unlock(&l->inbox_lock);
}
