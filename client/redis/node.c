/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One server: hiredis' asynchronous context driven by our own poll, not by an event
 * library. hiredis says when it wants to write; reading is always wanted. A server
 * takes txns when it has loaded the script.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "client/redis/impl.h"

/* --- what hiredis asks of an event library ------------------------------------------- */

static void watch(struct node *n)
{
    struct epoll_event ev = {.events = EPOLLIN | (n->wants_write ? EPOLLOUT : 0), .data.ptr = n};
    if (!n->ac)
        return;
    if (epoll_ctl(n->owner->epoll_fd, n->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, n->ac->c.fd, &ev) == 0)
        n->watched = true;
}

static void want_write(void *data)
{
    ((struct node *)data)->wants_write = true;
}

static void no_write(void *data)
{
    ((struct node *)data)->wants_write = false;
}

static void nothing(void *data)
{
}

static void gone(void *data)
{
    struct node *n = data;
    if (n->watched && n->ac)
        epoll_ctl(n->owner->epoll_fd, EPOLL_CTL_DEL, n->ac->c.fd, NULL);
    n->watched = false;
}

/* --- connecting -------------------------------------------------------------------------- */

/* hiredis frees the context after these. */
static void lost(struct node *n, const char *why)
{
    n->ac = NULL;
    n->up = n->watched = n->wants_write = false;
    n->script = SCRIPT_NOT;
    n->outstanding = 0;
    snprintf(n->why, sizeof n->why, "%.110s", why);
    n->dial_us = n->owner->now_us + n->delay_us;
    n->delay_us = n->delay_us * 2 < DIAL_MAX_US ? n->delay_us * 2 : DIAL_MAX_US;
    redis_trouble(n->owner, "%s:%u: %.110s", n->host, n->port, why);
    redis_requeue_node(n->owner, n);
    n->owner->map_wanted = true;
}

static void on_connect(const redisAsyncContext *ac, int status)
{
    struct node *n = ac->data;
    if (status != REDIS_OK) {
        lost(n, ac->errstr);
        return;
    }
    n->up = true;
    n->delay_us = DIAL_MIN_US;
    n->heard_us = n->owner->now_us;
    n->owner->reconnects++;
}

static void on_disconnect(const redisAsyncContext *ac, int status)
{
    if (ac->data)
        lost(ac->data, status == REDIS_OK ? "closed" : ac->errstr);
}

static void dial(struct node *n)
{
    redisAsyncContext *ac = redisAsyncConnect(n->host, n->port);
    if (!ac || ac->err) {
        snprintf(n->why, sizeof n->why, "%.110s", ac ? ac->errstr : "out of memory");
        redis_trouble(n->owner, "%s:%u: %.110s", n->host, n->port, n->why);
        if (ac)
            redisAsyncFree(ac);
        n->dial_us = n->owner->now_us + n->delay_us;
        return;
    }
    n->ac = ac;
    ac->data = n;
    ac->ev.data = n;
    ac->ev.addRead = nothing;
    ac->ev.delRead = nothing;
    ac->ev.addWrite = want_write;
    ac->ev.delWrite = no_write;
    ac->ev.cleanup = gone;
    redisAsyncSetConnectCallback(ac, on_connect);
    redisAsyncSetDisconnectCallback(ac, on_disconnect);
    n->heard_us = n->owner->now_us;
    n->wants_write = true; /* connected: it becomes writable */
    watch(n);
}

void redis_node_drop(struct node *n, const char *why)
{
    redisAsyncContext *ac = n->ac;
    if (!ac)
        return;
    gone(n);
    ac->data = NULL; /* callbacks of what was sent get NULL replies, and go their way */
    lost(n, why);
    redisAsyncFree(ac);
}

int redis_node_of(struct lethe_redis *r, const char *host, uint16_t port)
{
    for (uint32_t i = 0; i < r->nnodes; i++)
        if (r->nodes[i].port == port && !strcmp(r->nodes[i].host, host))
            return (int)i;
    if (r->nnodes == NODES_MAX || strlen(host) >= sizeof r->nodes[0].host || !port)
        return -1;
    struct node *n = &r->nodes[r->nnodes];
    *n = (struct node){.owner = r, .port = port, .delay_us = DIAL_MIN_US};
    strcpy(n->host, host);
    return (int)r->nnodes++;
}

/* --- the script ------------------------------------------------------------------------------- */

static void on_loaded(redisAsyncContext *ac, void *reply, void *privdata)
{
    struct node *n = ac->data;
    const redisReply *e = reply;
    if (!n || !e)
        return;
    n->heard_us = n->owner->now_us;
    n->outstanding -= n->outstanding > 0;
    if (e->type == REDIS_REPLY_STRING && e->len == 40) {
        if (n->script_version == n->owner->script_version)
            memcpy(n->owner->sha, e->str, 41);
        n->script = SCRIPT_LOADED;
        return;
    }
    n->script = SCRIPT_NOT;
    n->dial_us = n->owner->now_us + AGAIN_US;
    redis_trouble(n->owner, "%s:%u does not take the script: %.120s", n->host, n->port,
                  e->type == REDIS_REPLY_ERROR ? e->str : "strange answer");
}

bool redis_node_takes(const struct node *n)
{
    return n->up && n->ac && n->script == SCRIPT_LOADED &&
           n->script_version == n->owner->script_version;
}

void redis_node_turn(struct node *n)
{
    struct lethe_redis *r = n->owner;
    if (!n->ac) {
        if (r->now_us >= n->dial_us)
            dial(n);
        return;
    }
    if (n->outstanding && r->now_us > n->heard_us + 4 * r->retry_us) {
        redis_node_drop(n, "no answer; connecting again");
        return;
    }
    if (!n->up || !r->ntables || redis_node_takes(n) || r->now_us < n->dial_us ||
        (n->script == SCRIPT_ASKED && n->script_version == r->script_version))
        return;
    if (redisAsyncCommand(n->ac, on_loaded, NULL, "SCRIPT LOAD %s", r->script) == REDIS_OK) {
        n->script = SCRIPT_ASKED;
        n->script_version = r->script_version;
        n->outstanding++;
    }
}

/* --- bytes ---------------------------------------------------------------------------------------- */

void redis_node_flush(struct node *n)
{
    bool before = n->wants_write;
    if (n->up && n->ac && n->wants_write)
        redisAsyncHandleWrite(n->ac);
    if (n->ac && (before || n->wants_write))
        watch(n);
}

void redis_nodes_events(struct lethe_redis *r)
{
    struct epoll_event events[NODES_MAX];
    int n = epoll_wait(r->epoll_fd, events, NODES_MAX, 0);
    for (int i = 0; i < n; i++) {
        struct node *node = events[i].data.ptr;
        if (node->ac && (events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
            redisAsyncHandleWrite(node->ac);
        if (node->ac && (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
            redisAsyncHandleRead(node->ac);
        if (node->ac)
            watch(node);
    }
}
