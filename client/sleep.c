/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For callers that sleep: one epoll descriptor over the channels of all
 * shards, made on first use. A channel says which events it waits for (POLLOUT
 * only while it could not send), so the set is brought up to date in
 * lethe_arm, just before sleeping.
 */
#include "client/client_impl.h"

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

static uint32_t epoll_events(short events)
{
    return (events & POLLIN ? EPOLLIN : 0u) | (events & POLLOUT ? EPOLLOUT : 0u);
}

void lethe_sleep_forget(struct session *s)
{
    if (s->watched_fd >= 0)
        epoll_ctl(s->client->epoll_fd, EPOLL_CTL_DEL, s->watched_fd, NULL);
    s->watched_fd = -1;
}

/* False: this channel has nothing to sleep on. */
static bool watch(struct session *s)
{
    short events = POLLIN;
    int fd = channel_fd(s->channel, &events);
    if (fd < 0)
        return !s->channel->open; /* closed: the next poll sees to it */
    /* While connecting a channel may try another address by another socket,
     * which may even get the same number. */
    if (fd == s->watched_fd && events == s->watched_events && s->state > SESSION_CONNECTING)
        return true;
    struct epoll_event ev = {.events = epoll_events(events)};
    if (fd != s->watched_fd)
        lethe_sleep_forget(s);
    if (epoll_ctl(s->client->epoll_fd, EPOLL_CTL_MOD, fd, &ev) &&
        epoll_ctl(s->client->epoll_fd, EPOLL_CTL_ADD, fd, &ev))
        return false;
    s->watched_fd = fd;
    s->watched_events = events;
    return true;
}

static bool watch_all(struct lethe_client *c)
{
    bool all = true;
    for (int i = 0; i < c->shards; i++)
        if (c->sessions[i].channel)
            all &= watch(&c->sessions[i]);
    return all;
}

int lethe_fd(struct lethe_client *c)
{
    if (c->epoll_fd < 0)
        c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (c->epoll_fd < 0 || !watch_all(c))
        return -1;
    return c->epoll_fd;
}

bool lethe_arm(struct lethe_client *c)
{
    bool quiet = c->epoll_fd < 0 || watch_all(c);
    for (int i = 0; i < c->shards; i++) {
        struct session *s = &c->sessions[i];
        if (s->channel && (!s->channel->open || !channel_arm(s->channel)))
            quiet = false;
    }
    return quiet && lethe_next_us(c) > c->now_us;
}

uint64_t lethe_next_us(const struct lethe_client *c)
{
    uint64_t next = UINT64_MAX;
    for (int i = 0; i < c->shards; i++) {
        uint64_t then = lethe_session_next_us(&c->sessions[i]);
        next = then < next ? then : next;
    }
    return next;
}
