/* SPDX-License-Identifier: BSD-3-Clause */
/* The asking side of the control socket: one request, one reply line, blocking
 * up to a deadline. No state; any thread. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/metrics/metrics.h"

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* 0 when `events` came before the deadline. */
static int await(int fd, short events, uint64_t deadline_ms)
{
    struct pollfd p = {.fd = fd, .events = events};
    for (;;) {
        uint64_t now = now_ms();
        int n = poll(&p, 1, now < deadline_ms ? (int)(deadline_ms - now) : 0);
        if (n > 0)
            return 0;
        if (n == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

static int send_all(int fd, const char *bytes, size_t n, uint64_t deadline_ms)
{
    while (n > 0) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent > 0) {
            bytes += sent;
            n -= (size_t)sent;
            continue;
        }
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return -errno;
        int bad = await(fd, POLLOUT, deadline_ms);
        if (bad)
            return bad;
    }
    return 0;
}

static int receive_line(int fd, char *reply, uint32_t room, uint64_t deadline_ms)
{
    uint32_t used = 0;
    for (;;) {
        if (used == room)
            return -EMSGSIZE;
        int bad = await(fd, POLLIN, deadline_ms);
        if (bad)
            return bad;
        ssize_t n = recv(fd, reply + used, room - used, 0);
        if (n == 0)
            return -ECONNRESET;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -errno;
        used += n > 0 ? (uint32_t)n : 0;
        char *end = memchr(reply, '\n', used);
        if (end) {
            *end = 0;
            return 0;
        }
    }
}

int control_ask(const char *path, const char *request, char *reply, uint32_t room,
                uint32_t timeout_ms)
{
    uint64_t deadline_ms = now_ms() + timeout_ms;
    int fd = socket_connect(path);
    if (fd < 0)
        return fd;
    int bad = send_all(fd, request, strlen(request), deadline_ms);
    if (!bad)
        bad = send_all(fd, "\n", 1, deadline_ms);
    if (!bad)
        bad = receive_line(fd, reply, room, deadline_ms);
    close(fd);
    return bad;
}
