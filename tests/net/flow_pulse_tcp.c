/* SPDX-License-Identifier: BSD-3-Clause */
/* TCP connections of flow_pulse: numbered records, both ends. */
#include "tests/net/flow_pulse.h"

#include <errno.h>
#include <linux/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct record {
    uint32_t connection, number, value, chain; /* chain: 0 when asked; over all values when answered */
};

static uint32_t chained(uint32_t chain, uint32_t value)
{
    return (chain ^ value) * 2654435761u + 1;
}

static void no_delay(int fd)
{
    int yes = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0)
        die("TCP_NODELAY");
}

/* --- the client's end -------------------------------------------------------------------- */

static void broken(struct pulse *p, struct connection *c, const char *why)
{
    note(p, "connection %u, record %u: %s", (uint32_t)(c - p->tcp), c->number, why);
    p->tcp_broken++;
    close(c->fd);
    c->fd = -1;
    c->state = BROKEN;
}

static void open_one(struct pulse *p)
{
    uint32_t i = p->tcp_made++;
    struct connection *c = &p->tcp[i];
    const struct place *at = &p->place[i % p->places];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT),
                             .sin_addr.s_addr = htonl(p->server.first)};
    c->fd = open_socket(at, SOCK_STREAM, at->first + i / p->places % at->count, 0);
    no_delay(c->fd);
    c->state = CONNECTING;
    c->asked_us = p->now_us;
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
        broken(p, c, strerror(errno));
    else
        watch(p, c->fd, ON_TCP, i, EPOLLIN | EPOLLOUT);
}

static void ask(struct pulse *p, struct connection *c)
{
    for (int i = 0; i < RECORDS; i++) {
        struct record r = {.connection = (uint32_t)(c - p->tcp), .number = c->number + 1};
        r.value = (r.number * 40503u ^ r.connection ^ p->run) * 2654435761u;
        if (send(c->fd, &r, sizeof r, MSG_NOSIGNAL) != sizeof r) {
            broken(p, c, strerror(errno));
            return;
        }
        c->number++;
        c->chain = c->chain_at[c->number % RECORDS] = chained(c->chain, r.value);
    }
    c->asked_us = p->now_us;
    c->next_us = p->now_us + TCP_EVERY_US;
}

static void answered(struct pulse *p, struct connection *c, const struct record *r)
{
    if (c->answered == c->number || r->number != c->answered + 1 || r->connection != c - p->tcp ||
        r->chain != c->chain_at[r->number % RECORDS]) {
        broken(p, c, "a wrong answer");
        return;
    }
    if (++c->answered < c->number)
        return;
    p->exchanges++;
    if (p->now_us - c->asked_us > p->tcp_slowest_us)
        p->tcp_slowest_us = p->now_us - c->asked_us;
    c->asked_us = 0;
    if (c->state == LAST) { /* stays open: the kernel's counts are asked yet */
        c->state = DONE;
        p->tcp_done++;
    }
}

static void connected(struct pulse *p, struct connection *c, uint32_t number)
{
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error) {
        broken(p, c, strerror(error));
        return;
    }
    watch(p, c->fd, ON_TCP, number, EPOLLIN);
    c->state = OPEN;
    c->asked_us = 0;
    p->tcp_opened++;
    c->next_us = p->now_us + number * 40503ull % TCP_EVERY_US; /* spread */
}

static void client_ready(struct pulse *p, struct connection *c, uint32_t number)
{
    if (c->state == CONNECTING) {
        connected(p, c, number);
        return;
    }
    if (c->state != OPEN && c->state != LAST)
        return;
    ssize_t n = recv(c->fd, c->part + c->part_n, sizeof c->part - c->part_n, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            broken(p, c, n == 0 ? "closed by the other side" : strerror(errno));
        return;
    }
    c->part_n += (uint32_t)n;
    uint32_t at = 0;
    struct record r;
    for (; c->part_n - at >= sizeof r && c->fd >= 0; at += sizeof r) {
        memcpy(&r, c->part + at, sizeof r);
        answered(p, c, &r);
    }
    memmove(c->part, c->part + at, c->part_n -= at);
}

void tcp_tick(struct pulse *p)
{
    if (p->phase == OPENING)
        for (int i = 0; i < 2 * OPEN_PER_TICK && p->tcp_made < p->tcp_n; i++)
            open_one(p);
    for (uint32_t i = 0; i < p->tcp_made; i++) {
        struct connection *c = &p->tcp[i];
        if (c->asked_us && p->now_us > c->asked_us && p->now_us - c->asked_us > DEADLINE_S * 1000000ull && c->fd >= 0)
            broken(p, c, "silent for 15 s");
        if (c->state != OPEN || c->asked_us)
            continue;
        bool last = p->phase == FINISHING; /* spread, too */
        if (p->now_us < (last ? p->drain_us + i * (uint64_t)LAST_US / p->tcp_n : c->next_us))
            continue;
        if (last)
            c->state = LAST;
        ask(p, c);
    }
}

/* --- the server's end ---------------------------------------------------------------------- */

void tcp_open_server(struct pulse *p)
{
    p->listener = open_socket(&p->server, SOCK_STREAM, p->server.first, PORT);
    if (listen(p->listener, 4096) != 0)
        die("listen");
    watch(p, p->listener, ON_LISTENER, 0, EPOLLIN);
}

static void take_in(struct pulse *p)
{
    for (;;) {
        int fd = accept4(p->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (fd >= 65536)
            die("descriptors");
        no_delay(fd);
        p->accepted[fd] = (struct accepted){.used = true};
        watch(p, fd, ON_ACCEPTED, (uint32_t)fd, EPOLLIN);
    }
}

static bool serve(struct accepted *a, int fd)
{
    ssize_t n = recv(fd, a->part + a->part_n, sizeof a->part - a->part_n, 0);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    a->part_n += (uint32_t)n;
    uint32_t at = 0;
    struct record r;
    for (; a->part_n - at >= sizeof r; at += sizeof r) {
        memcpy(&r, a->part + at, sizeof r);
        if (r.number != a->number + 1)
            return false; /* the client sees that it is closed */
        a->number = r.number;
        r.chain = a->chain = chained(a->chain, r.value);
        if (send(fd, &r, sizeof r, MSG_NOSIGNAL) != sizeof r)
            return false;
    }
    memmove(a->part, a->part + at, a->part_n -= at);
    return true;
}

void tcp_ready(struct pulse *p, uint32_t kind, uint32_t number)
{
    if (kind == ON_LISTENER) {
        take_in(p);
    } else if (kind == ON_TCP) {
        client_ready(p, &p->tcp[number], number);
    } else if (p->accepted[number].used && !serve(&p->accepted[number], (int)number)) {
        p->accepted[number].used = false;
        close((int)number);
    }
}

/* --- what the kernel counted ------------------------------------------------------------------ */

static void add_kernel(int fd, uint64_t *again, uint64_t *needless, uint64_t *out_of_order)
{
    struct tcp_info t = {0};
    socklen_t len = sizeof t;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &t, &len) != 0)
        return;
    *again += t.tcpi_total_retrans;
    *needless += t.tcpi_dsack_dups;
    *out_of_order += t.tcpi_rcv_ooopack;
}

void tcp_kernel(const struct pulse *p, uint64_t *again, uint64_t *needless, uint64_t *out_of_order)
{
    *again = *needless = *out_of_order = 0;
    for (uint32_t i = 0; i < p->tcp_made; i++)
        if (p->tcp[i].fd >= 0)
            add_kernel(p->tcp[i].fd, again, needless, out_of_order);
    for (int fd = 0; fd < 65536; fd++)
        if (p->accepted[fd].used)
            add_kernel(fd, again, needless, out_of_order);
}
