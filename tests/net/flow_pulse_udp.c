/* SPDX-License-Identifier: BSD-3-Clause */
/* UDP flows of flow_pulse: numbered packets, both ends. */
#include "tests/net/flow_pulse.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FILL = 8, AT_ONCE = 64, SERVER_BUFFER = 8 << 20 };

struct message {
    uint32_t run, flow, up, down; /* down: 0 on the way up */
    uint64_t sent_us, echoed_us;
    uint32_t fill[FILL];          /* of flow and up */
};

void watch(struct pulse *p, int fd, enum watched kind, uint32_t number, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.u64 = (uint64_t)kind << 32 | number};
    if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &e) != 0 &&
        (errno != EEXIST || epoll_ctl(p->epoll, EPOLL_CTL_MOD, fd, &e) != 0))
        die("epoll_ctl");
}

int open_socket(const struct place *at, int type, uint32_t address, uint16_t port)
{
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons(port),
                               .sin_addr.s_addr = htonl(address)};
    int fd, yes = 1;
    if (setns(at->netns, CLONE_NEWNET) != 0)
        die("setns");
    fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || fd >= 65536 || (port && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes)) ||
        bind(fd, (struct sockaddr *)&from, sizeof from) != 0)
        die("socket");
    return fd;
}

static void fill(struct message *m)
{
    uint32_t x = m->flow * 2654435761u ^ m->up * 40503u ^ m->run;
    for (int i = 0; i < FILL; i++)
        m->fill[i] = x = x * 1664525u + 1013904223u;
}

static bool whole(const struct pulse *p, const struct message *m, ssize_t n)
{
    struct message want = *m;
    if (n != sizeof *m || m->run != p->run || m->flow >= p->udp_n)
        return false;
    fill(&want);
    return memcmp(want.fill, m->fill, sizeof want.fill) == 0;
}

static void flow_broken(struct pulse *p, struct flow *f, const char *why)
{
    p->udp_broken += !f->broken;
    f->broken = true;
    note(p, "flow %u: %s", f->number, why);
}

/* --- order ----------------------------------------------------------------------------- */

static void slide(struct track *t, uint32_t number)
{
    if (number - t->highest >= SEEN)
        memset(t->seen, 0, sizeof t->seen);
    else
        for (uint32_t i = t->highest + 1; i != number; i++)
            t->seen[i % SEEN / 64] &= ~(1ull << i % 64);
    t->highest = number;
}

/* A packet of a direction came. `sent_us`: by that direction's sender. */
static void arrive(struct pulse *p, struct flow *f, struct track *t, struct way_counts *c,
                   uint32_t number, uint64_t sent_us)
{
    const char *way = t == &f->up ? "up" : "down";
    uint64_t took_us = p->now_us > sent_us ? p->now_us - sent_us : 0, *bits = &t->seen[number % SEEN / 64];
    uint64_t bit = 1ull << number % 64;
    p->heard_us = p->now_us;
    if (number <= t->base_sent) { /* counted as lost already */
        c->late++;
        return;
    }
    if (number > t->highest) {
        slide(t, number);
    } else if (t->highest - number < SEEN && *bits & bit) {
        c->duplicated++;
        note(p, "flow %u %s: %u again", f->number, way, number);
        return;
    } else {
        c->reordered++;
        note(p, "flow %u %s: %u after %u, %.1f ms under way, at %.3f s", f->number, way, number,
             t->highest, (double)took_us / 1e3, (double)(p->now_us - p->began_us) / 1e6);
    }
    *bits |= bit;
    t->arrived++;
    if (took_us > c->slowest_us)
        c->slowest_us = took_us;
}

bool udp_silent(const struct pulse *p, const struct flow *f)
{
    return f->asked_us && p->now_us > f->asked_us && p->now_us - f->asked_us > DEADLINE_S * 1000000ull;
}

bool udp_missing(const struct pulse *p)
{
    for (uint32_t i = 0; i < p->udp_made; i++) {
        const struct flow *f = &p->udp[i];
        if (f->up.arrived != f->up.sent - f->up.base_sent ||
            f->down.arrived != f->down.sent - f->down.base_sent)
            return true;
    }
    return false;
}

/* --- the client's end -------------------------------------------------------------------- */

int udp_send(struct pulse *p, struct flow *f)
{
    struct message m = {.run = p->run, .flow = f->number, .up = f->up.sent + 1, .sent_us = now_us()};
    fill(&m);
    if (send(f->fd, &m, sizeof m, 0) != sizeof m) {
        p->refused++; /* also an ICMP error about an earlier one */
        return -errno;
    }
    f->up.sent++;
    f->sent_us = m.sent_us;
    if (!f->asked_us)
        f->asked_us = m.sent_us;
    return 0;
}

void udp_receive(struct pulse *p, struct flow *f)
{
    struct message m;
    for (int i = 0; i < AT_ONCE; i++) {
        ssize_t n = recv(f->fd, &m, sizeof m, 0);
        if (n < 0) {
            p->refused += errno != EAGAIN;
            return;
        }
        if (!whole(p, &m, n) || m.flow != f->number || m.up > f->up.sent || m.down > f->down.sent) {
            flow_broken(p, f, "got what was not its own");
            continue;
        }
        p->udp_answered += f->answered == 0;
        if (m.up > f->answered)
            f->answered = m.up;
        if (f->answered_us && p->now_us - f->answered_us > f->hole_us)
            f->hole_us = p->now_us - f->answered_us;
        f->answered_us = p->now_us;
        if (udp_silent(p, f))
            flow_broken(p, f, "was silent for too long");
        f->asked_us = 0;
        arrive(p, f, &f->down, &p->down, m.down, m.echoed_us);
    }
}

static void open_flow(struct pulse *p)
{
    uint32_t i = p->udp_made++;
    const struct place *at = &p->place[i % p->places];
    struct flow *f = &p->udp[i];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT),
                             .sin_addr.s_addr = htonl(p->server.first)};
    f->number = i;
    f->fd = open_socket(at, SOCK_DGRAM, at->first + i / p->places % at->count, 0);
    if (connect(f->fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("connect");
    watch(p, f->fd, ON_UDP, i, EPOLLIN);
    udp_send(p, f);
}

void udp_open_some(struct pulse *p)
{
    for (int i = 0; i < OPEN_PER_TICK && p->udp_made < p->udp_n; i++)
        open_flow(p);
}

void udp_ask_again(struct pulse *p)
{
    for (uint32_t i = 0; i < p->udp_made; i++) {
        struct flow *f = &p->udp[i];
        if (f->asked_us && p->now_us > f->sent_us && p->now_us - f->sent_us > ASK_AGAIN_US)
            udp_send(p, f);
    }
}

/* --- the server's end ---------------------------------------------------------------------- */

void udp_open_server(struct pulse *p)
{
    int bytes = SERVER_BUFFER;
    p->udp_server = open_socket(&p->server, SOCK_DGRAM, p->server.first, PORT);
    if (setsockopt(p->udp_server, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0)
        die("SO_RCVBUFFORCE");
    watch(p, p->udp_server, ON_UDP_SERVER, 0, EPOLLIN);
}

void udp_serve(struct pulse *p)
{
    struct sockaddr_in from;
    struct message m;
    for (int i = 0; i < AT_ONCE; i++) {
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(p->udp_server, &m, sizeof m, 0, (struct sockaddr *)&from, &len);
        if (n < 0)
            return;
        if (!whole(p, &m, n) || m.up > p->udp[m.flow].up.sent) {
            note(p, "the server got %zd bytes that nobody sent", n);
            p->udp_broken++;
            continue;
        }
        struct flow *f = &p->udp[m.flow];
        if (f->outside.sin_port == 0)
            f->outside = from;
        else if (f->outside.sin_port != from.sin_port || f->outside.sin_addr.s_addr != from.sin_addr.s_addr)
            flow_broken(p, f, "got another outside end point");
        arrive(p, f, &f->up, &p->up, m.up, m.sent_us);
        m.down = f->down.sent + 1;
        m.echoed_us = now_us();
        if (sendto(p->udp_server, &m, sizeof m, 0, (struct sockaddr *)&from, len) == sizeof m)
            f->down.sent++;
        else
            p->refused++;
    }
}

uint32_t udp_socket_drops(const struct pulse *p)
{
    uint32_t sum = 0, info[SK_MEMINFO_VARS];
    for (uint32_t i = 0; i <= p->udp_made; i++) {
        socklen_t len = sizeof info;
        if (getsockopt(i ? p->udp[i - 1].fd : p->udp_server, SOL_SOCKET, SO_MEMINFO, info, &len) == 0)
            sum += info[SK_MEMINFO_DROPS];
    }
    return sum;
}
