/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Live connections whose every packet is numbered: what a planned change loses or reorders, this
 * sees. Client and server are one process, so both directions are judged, by one clock.
 *
 *   flow_pulse --server NETNS=ADDRESS --from NETNS=FIRST-LAST [--from ...] [--udp N] [--tcp N]
 *
 * UDP flows: each packet carries its flow and a number of its direction; the server counts the way
 * up and numbers its echo anew, the client counts the way down. Of a number above all seen before
 * nothing is said; one below is *reordered* (RFC 4737), or *duplicated* if it was seen. What did not
 * come before a drain ended is *lost*. The first RULERS flows send each 10 ms: their longest time
 * without an answer is the *hole*. The others send pulses of PULSE packets back to back, in turn.
 * Pressed, PRESS_FLOWS of them keep PRESS_WINDOW packets unanswered each, up to a rate: so there is
 * always a flow with packets in flight and one more right behind them, and what is in flight is
 * bounded however slow the machine is.
 *
 * TCP connections: now and then RECORDS numbered records, a segment each; the answer to each is
 * its number and a chain over all before. *Broken* is: reset, closed, answered wrongly, silent for
 * DEADLINE_S, never opened; of a UDP flow: another flow's packet, another outside end point, silent.
 * The kernel counts what came out of order, and what was sent again though it had not been lost.
 *
 * Standard input, a line each; what answers with a line of JSON is marked:
 *   pace N        pulses a second from now on          press N   up to N packets a second, 0: not
 *   rulers off    the first RULERS flows are silent from now on; rulers on
 *   slow PID ...  these processes stand still for SLOW_STOP_US and run for SLOW_RUN_US in turn, so that
 *                 packets are waiting in them whenever something changes; slow: nobody any more
 *   drain NAME    sending stops until all has come or nothing comes for QUIET_US; counts since the
 *                 last drain (JSON); sending goes on
 *   finish        a last record on every connection, its answer; counts (JSON); the end
 * The first line printed says that all flows and connections were answered once.
 *
 * One thread, one epoll. A socket belongs to the namespace in which it was made.
 */
#include "tests/net/flow_pulse.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void die(const char *what)
{
    fprintf(stderr, "flow_pulse: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* --- sending ----------------------------------------------------------------------- */

static void send_rulers(struct pulse *p)
{
    /* Spread over the interval; what a long absence missed is not made up for. */
    uint32_t n = p->calm ? 0 : p->udp_n < RULERS ? p->udp_n : RULERS;
    if (p->now_us - p->ruler_us > RULER_US)
        p->ruler_us = p->now_us - RULER_US;
    while (n && p->now_us - p->ruler_us >= RULER_US / RULERS) {
        p->ruler_us += RULER_US / RULERS;
        udp_send(p, &p->udp[p->ruler_next++ % n]);
    }
}

static void send_pulses(struct pulse *p)
{
    if (p->pace == 0 || p->udp_n <= RULERS)
        return;
    uint64_t every_us = 1000000 / p->pace;
    if (p->now_us - p->pulse_us > BEHIND_US)
        p->pulse_us = p->now_us - BEHIND_US;
    for (; p->now_us - p->pulse_us >= every_us; p->pulse_us += every_us) {
        struct flow *f = &p->udp[RULERS + p->pulse_next++ % (p->udp_n - RULERS)];
        for (uint32_t i = 0; i < PULSE; i++)
            udp_send(p, f);
    }
}

/* In turn over the flows, so that a flow's packets are near each other and not one burst. */
static void send_pressed(struct pulse *p)
{
    if (p->press == 0)
        return;
    uint64_t due = (p->now_us - p->press_us) * p->press / 1000000;
    if (due > PRESS_FLOWS * PRESS_WINDOW) {
        due = PRESS_FLOWS * PRESS_WINDOW;
        p->press_us = p->now_us - due * 1000000 / p->press;
    }
    uint32_t idle = 0, n = p->udp_n < PRESS_FLOWS ? p->udp_n : PRESS_FLOWS;
    while (due && idle < n) {
        struct flow *f = &p->udp[p->udp_n - 1 - p->press_next++ % n];
        if (p->now_us - f->answered_us > PRESS_STUCK_US && p->now_us - f->sent_us > PRESS_STUCK_US)
            f->answered = f->up.sent; /* lost: the window opens again */
        if (f->up.sent - f->answered >= PRESS_WINDOW || udp_send(p, f) != 0) {
            idle++;
            continue;
        }
        idle = 0;
        due--;
        p->press_us += 1000000 / p->press;
    }
}

/* --- slow workers -------------------------------------------------------------------- */

static void slow_signal(struct pulse *p, int number)
{
    for (uint32_t i = 0; i < p->slow_n; i++)
        pidfd_send_signal(p->slow[i], number, NULL, 0); /* one that has ended is none */
    p->slow_stopped = number == SIGSTOP;
    p->slow_us = p->now_us;
}

/* "PID PID ...", or nobody */
static void slow_set(struct pulse *p, const char *pids)
{
    char *end;
    slow_signal(p, SIGCONT);
    while (p->slow_n)
        close(p->slow[--p->slow_n]);
    for (long pid; (pid = strtol(pids, &end, 10)) > 0 && p->slow_n < SLOW_MAX; pids = end) {
        int fd = pidfd_open((pid_t)pid, 0);
        if (fd >= 0)
            p->slow[p->slow_n++] = fd;
    }
}

static void slow_turn(struct pulse *p)
{
    if (p->slow_n && p->now_us - p->slow_us >= (p->slow_stopped ? SLOW_STOP_US : SLOW_RUN_US))
        slow_signal(p, p->slow_stopped ? SIGCONT : SIGSTOP);
}

/* --- phases ------------------------------------------------------------------------ */

static void drain_begin(struct pulse *p, const char *name, enum phase phase)
{
    snprintf(p->name, sizeof p->name, "%s", name);
    p->phase = phase;
    p->drain_us = p->heard_us = p->now_us;
}

/* Sending stopped: everything came, or nothing comes any more. */
static void drain_look(struct pulse *p)
{
    bool quiet = p->now_us - p->heard_us > QUIET_US;
    if (p->phase == OPENING) {
        if (p->udp_answered == p->udp_n && p->tcp_opened == p->tcp_n) {
            printf("{\"opened\": %u}\n", p->udp_n + p->tcp_n);
            fflush(stdout);
            p->began_us = p->now_us;
            phase_reset(p);
            p->phase = RUNNING;
        }
        return;
    }
    if (p->phase == RUNNING || (udp_missing(p) && !quiet))
        return;
    if (p->phase == FINISHING) {
        if (p->tcp_done + p->tcp_broken < p->tcp_n)
            return;
        p->over = true;
    }
    report(p);
    phase_reset(p);
    p->phase = RUNNING;
}

static void command(struct pulse *p, char *line)
{
    char *name = strchr(line, ' ');
    const char *value = name ? name + 1 : "";
    if (name)
        *name = '\0';
    if (!strcmp(line, "pace")) {
        p->pace = (uint32_t)strtoul(value, NULL, 10);
        p->pulse_us = p->now_us;
    } else if (!strcmp(line, "press")) {
        p->press = (uint32_t)strtoul(value, NULL, 10);
        p->press_us = p->now_us;
    } else if (!strcmp(line, "rulers")) {
        p->calm = strcmp(value, "off") == 0;
        p->ruler_us = p->now_us;
    } else if (!strcmp(line, "slow")) {
        slow_set(p, value);
    } else if (!strcmp(line, "drain")) {
        drain_begin(p, value, DRAINING);
    } else if (!strcmp(line, "finish")) {
        drain_begin(p, "finish", FINISHING);
    } else {
        fprintf(stderr, "flow_pulse: no such order: %s\n", line);
    }
}

static void read_commands(struct pulse *p)
{
    ssize_t n = read(STDIN_FILENO, p->line + p->line_n, sizeof p->line - 1 - p->line_n);
    if (n <= 0) {
        p->over = true;
        return;
    }
    p->line_n += (uint32_t)n;
    p->line[p->line_n] = '\0';
    char *end, *at = p->line;
    for (; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        *end = '\0';
        command(p, at);
    }
    p->line_n = (uint32_t)strlen(at);
    memmove(p->line, at, p->line_n);
}

static void tick(struct pulse *p)
{
    slow_turn(p);
    if (p->phase == OPENING)
        udp_open_some(p);
    if (p->phase == RUNNING) {
        send_rulers(p);
        send_pulses(p);
        send_pressed(p);
    }
    if (p->now_us - p->tcp_us >= TCP_TICK_US) {
        p->tcp_us = p->now_us;
        if (p->phase == OPENING || p->phase == RUNNING)
            udp_ask_again(p);
        tcp_tick(p);
        drain_look(p);
    }
}

static void run(struct pulse *p)
{
    struct epoll_event events[256];
    while (!p->over) {
        int n = epoll_wait(p->epoll, events, 256, 1);
        p->now_us = now_us();
        for (int i = 0; i < n; i++) {
            uint32_t kind = (uint32_t)(events[i].data.u64 >> 32), number = (uint32_t)events[i].data.u64;
            if (kind == ON_STDIN)
                read_commands(p);
            else if (kind == ON_UDP_SERVER)
                udp_serve(p);
            else if (kind == ON_UDP)
                udp_receive(p, &p->udp[number]);
            else
                tcp_ready(p, kind, number);
        }
        p->now_us = now_us();
        tick(p);
    }
}

/* --- options ------------------------------------------------------------------------- */

/* "NETNS=FIRST[-LAST]" */
static void parse_place(char *text, struct place *to)
{
    char *equals = strchr(text, '='), *dash = equals ? strchr(equals, '-') : NULL;
    struct in_addr first, last;
    if (dash)
        *dash = '\0';
    if (equals)
        *equals = '\0';
    if (!equals || inet_pton(AF_INET, equals + 1, &first) != 1 ||
        inet_pton(AF_INET, dash ? dash + 1 : equals + 1, &last) != 1 ||
        (to->netns = open(text, O_RDONLY | O_CLOEXEC)) < 0) {
        fprintf(stderr, "flow_pulse: '%s': write NETNS=ADDRESS or NETNS=FIRST-LAST\n", text);
        exit(2);
    }
    to->first = ntohl(first.s_addr);
    to->count = ntohl(last.s_addr) - to->first + 1;
}

static uint32_t number(const char *text)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (*end || end == text || v > FLOWS_MAX) {
        fprintf(stderr, "flow_pulse: '%s' is no number up to %d\n", text, FLOWS_MAX);
        exit(2);
    }
    return (uint32_t)v;
}

static void options(struct pulse *p, int argc, char **argv)
{
    static const struct option known[] = {{"server", 1, NULL, 's'}, {"from", 1, NULL, 'f'},
                                          {"udp", 1, NULL, 'u'},    {"tcp", 1, NULL, 't'}, {0}};
    int c;
    p->udp_n = 800;
    p->tcp_n = 1200;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == 's')
            parse_place(optarg, &p->server);
        else if (c == 'f' && p->places < PLACES_MAX)
            parse_place(optarg, &p->place[p->places++]);
        else if (c == 'u')
            p->udp_n = number(optarg);
        else if (c == 't')
            p->tcp_n = number(optarg);
        else
            exit(2);
    }
    if (p->places == 0 || p->server.count == 0) {
        fprintf(stderr, "usage: flow_pulse --server NETNS=ADDRESS --from NETNS=FIRST-LAST [--udp N] [--tcp N]\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static struct pulse p;
    struct rlimit files;
    options(&p, argc, argv);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files); /* open_socket says if that is too few */
    }
    p.epoll = epoll_create1(EPOLL_CLOEXEC);
    p.udp = calloc(p.udp_n + 1, sizeof *p.udp);
    p.tcp = calloc(p.tcp_n + 1, sizeof *p.tcp);
    p.accepted = calloc(65536, sizeof *p.accepted);
    if (p.epoll < 0 || !p.udp || !p.tcp || !p.accepted)
        die("memory");
    p.now_us = p.opened_us = now_us();
    p.run = (uint32_t)p.now_us ^ (uint32_t)getpid() << 16;
    watch(&p, STDIN_FILENO, ON_STDIN, 0, EPOLLIN);
    udp_open_server(&p);
    tcp_open_server(&p);
    run(&p);
    slow_set(&p, "");
    return 0;
}
