/* SPDX-License-Identifier: BSD-3-Clause */
/* The connection table and its backlogs (conns.h). */
#include "statestore/server/conns.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { PLACE_BITS = 12 };
_Static_assert(1 << PLACE_BITS == CONNS_MAX, "a number's low bits are its place");
_Static_assert((int)BACKLOG_FIRST_BYTES >= (int)MSG_BYTES_MAX, "any frame fits into the first backlog");

void conns_init(struct conns *cs)
{
    memset(cs, 0, sizeof *cs);
    for (uint16_t i = 0; i < CONNS_MAX; i++)
        cs->free_places[i] = i;
    cs->nfree = CONNS_MAX;
}

struct conn *conns_add(struct conns *cs, struct channel *channel, enum conn_kind kind,
                       uint64_t now_ms)
{
    if (!cs->nfree)
        return NULL;
    uint16_t place = cs->free_places[cs->free_head];
    cs->free_head = (cs->free_head + 1) % CONNS_MAX;
    cs->nfree--;
    cs->used++;
    uint32_t generation = ++cs->generation[place]; /* from 1: a number is never 0 */
    struct conn *c = &cs->all[place];
    *c = (struct conn){.channel = channel, .kind = (uint8_t)kind, .place = place, .fd = -1,
                       .number = generation << PLACE_BITS | place, .opened_ms = now_ms,
                       .heard_ms = now_ms,
                       /* the place may still stand in the loop's lists */
                       .ready = c->ready, .dirty = c->dirty};
    return c;
}

struct conn *conns_find(struct conns *cs, uint32_t number)
{
    struct conn *c = &cs->all[number % CONNS_MAX];
    return c->channel && c->number == number ? c : NULL;
}

void conns_remove(struct conns *cs, struct conn *c)
{
    channel_close(c->channel);
    c->channel = NULL;
    free(c->backlog);
    c->backlog = NULL;
    cs->free_places[(cs->free_head + cs->nfree) % CONNS_MAX] = c->place;
    cs->nfree++;
    cs->used--;
}

/* --- backlog --------------------------------------------------------------------------- */

static int backlog_room(struct conn *c, uint32_t bytes)
{
    uint32_t held = conn_backlog(c);
    if (c->backlog && c->end + bytes <= c->room)
        return 0;
    if (held + bytes > BACKLOG_MAX_BYTES)
        return -ENOBUFS;
    if (c->begin) {
        memmove(c->backlog, c->backlog + c->begin, held);
        c->begin = 0;
        c->end = held;
    }
    uint32_t room = c->room ? c->room : BACKLOG_FIRST_BYTES;
    while (room < held + bytes)
        room *= 2;
    if (room == c->room)
        return 0;
    uint8_t *grown = realloc(c->backlog, room);
    if (!grown)
        return -ENOMEM;
    c->backlog = grown;
    c->room = room;
    return 0;
}

static int backlog_keep(struct conn *c, const void *frame, uint32_t bytes, uint64_t now_ms)
{
    int rc = backlog_room(c, bytes);
    if (rc)
        return rc;
    if (!conn_backlog(c))
        c->blocked_ms = now_ms;
    memcpy(c->backlog + c->end, frame, bytes);
    c->end += bytes;
    return 0;
}

int conn_send(struct conn *c, const void *frame, uint32_t bytes, uint64_t now_ms)
{
    if (conn_backlog(c)) /* order: what waits goes first */
        return backlog_keep(c, frame, bytes, now_ms);
    int rc = channel_send(c->channel, frame, bytes);
    return rc == -EAGAIN ? backlog_keep(c, frame, bytes, now_ms) : rc;
}

bool conn_drain(struct conn *c, uint64_t now_ms)
{
    while (conn_backlog(c)) {
        const struct msg_head *m = (const struct msg_head *)(c->backlog + c->begin);
        if (channel_send(c->channel, m, m->bytes))
            return false;
        c->begin += m->bytes;
        c->blocked_ms = now_ms;
    }
    if (c->backlog) {
        free(c->backlog);
        c->backlog = NULL;
        c->begin = c->end = c->room = 0;
        c->blocked_ms = 0;
    }
    return true;
}

void conn_name(const struct conn *c, char *name, uint32_t len)
{
    char host[64], port[8];
    struct sockaddr_storage peer;
    socklen_t bytes = sizeof peer;
    if (c->fd >= 0 && !getpeername(c->fd, (struct sockaddr *)&peer, &bytes) &&
        !getnameinfo((struct sockaddr *)&peer, bytes, host, sizeof host, port, sizeof port,
                     NI_NUMERICHOST | NI_NUMERICSERV))
        snprintf(name, len, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    else
        snprintf(name, len, "%s", c->channel->ops->name);
}
