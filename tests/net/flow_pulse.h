/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * flow_pulse's own header: what its files share.
 *
 *   flow_pulse.c      orders, pace, phases        flow_pulse_udp.c   numbered packets, their order
 *   flow_pulse_say.c  the reports                 flow_pulse_tcp.c   numbered records, connections
 */
#ifndef LETHE_TESTS_NET_FLOW_PULSE_H
#define LETHE_TESTS_NET_FLOW_PULSE_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

enum {
    PORT = 7010, PLACES_MAX = 8, FLOWS_MAX = 20000,
    RULERS = 32, RULER_US = 10000,
    PULSE = 4, BEHIND_US = 20000,
    PRESS_FLOWS = 64, PRESS_WINDOW = 6, PRESS_STUCK_US = 500000,
    SEEN = 4096,                /* numbers of a direction that are told from a duplicate */
    QUIET_US = 4000000,
    OPEN_PER_TICK = 4, ASK_AGAIN_US = 1000000,
    RECORDS = 2, TCP_EVERY_US = 4000000, TCP_TICK_US = 2000, LAST_US = 1000000,
    DEADLINE_S = 15,
    SLOW_MAX = 16, SLOW_STOP_US = 5000, SLOW_RUN_US = 2000,
    EXAMPLES = 8,
};

enum watched { ON_STDIN, ON_UDP_SERVER, ON_UDP, ON_LISTENER, ON_TCP, ON_ACCEPTED };
enum phase { OPENING, RUNNING, DRAINING, FINISHING };

struct place {                  /* a host of the network */
    int netns;
    uint32_t first, count;      /* its addresses, host order */
};

struct track {                  /* one direction of a flow */
    uint32_t sent, highest;
    uint32_t base_sent, arrived; /* at the last drain; unlike ones since then */
    uint64_t seen[SEEN / 64];
};

struct flow {
    int fd;
    uint32_t number;
    struct track up, down;
    uint32_t answered;          /* greatest number of the way up that came back */
    uint64_t sent_us, answered_us, hole_us;
    uint64_t asked_us;          /* when what is unanswered began, 0: nothing is */
    struct sockaddr_in outside; /* as the server saw it first */
    bool broken;
};

struct connection {             /* client's end */
    int fd;
    enum { NEW, CONNECTING, OPEN, LAST, DONE, BROKEN } state;
    uint32_t number, answered, chain, chain_at[RECORDS];
    uint64_t next_us, asked_us;
    uint8_t part[64];
    uint32_t part_n;
};

struct accepted {               /* server's end, by descriptor */
    bool used;
    uint32_t number, chain, part_n;
    uint8_t part[64];
};

struct way_counts {             /* since the last drain */
    uint64_t reordered, duplicated, late, slowest_us;
};

struct pulse {
    struct place server, place[PLACES_MAX];
    uint32_t places, run;
    int epoll, udp_server, listener;
    struct flow *udp;
    struct connection *tcp;
    struct accepted *accepted;
    uint32_t udp_n, tcp_n;
    uint32_t udp_made, udp_answered, tcp_made, tcp_opened, tcp_done, tcp_broken, udp_broken;

    enum phase phase;
    bool over, calm;            /* calm: rulers are silent */
    char name[64], line[1024];
    uint32_t line_n;
    uint64_t now_us, opened_us, began_us, drain_us, heard_us;
    uint32_t pace, press;
    uint64_t ruler_us, pulse_us, press_us, tcp_us;
    uint32_t ruler_next, pulse_next, press_next;

    int slow[SLOW_MAX];         /* pidfds */
    uint32_t slow_n;
    bool slow_stopped;
    uint64_t slow_us;

    struct way_counts up, down;
    uint64_t exchanges, tcp_slowest_us, refused;
    uint64_t tcp_again, tcp_needless, tcp_out_of_order; /* the kernel's, as of the last drain */
    char example[EXAMPLES][160];
    uint32_t examples;
};

uint64_t now_us(void);
void die(const char *what) __attribute__((noreturn));
void watch(struct pulse *p, int fd, enum watched kind, uint32_t number, uint32_t events);
/* A socket of a place, bound to one of its addresses and a port, 0: any. */
int open_socket(const struct place *at, int type, uint32_t address, uint16_t port);
/* Notes an example of what went wrong, for people. */
void note(struct pulse *p, const char *text, ...) __attribute__((format(printf, 2, 3)));

void udp_open_server(struct pulse *p);
void udp_open_some(struct pulse *p);
void udp_ask_again(struct pulse *p);           /* of those that were not answered for a while */
int udp_send(struct pulse *p, struct flow *f); /* 0, or the kernel did not take it */
void udp_serve(struct pulse *p);
void udp_receive(struct pulse *p, struct flow *f);
bool udp_missing(const struct pulse *p);       /* something sent since the last drain has not come */
bool udp_silent(const struct pulse *p, const struct flow *f); /* beyond the deadline */
uint32_t udp_socket_drops(const struct pulse *p);

void tcp_open_server(struct pulse *p);
void tcp_tick(struct pulse *p);
void tcp_ready(struct pulse *p, uint32_t kind, uint32_t number);
/* Sums of the kernel's counts over all connections, both ends. */
void tcp_kernel(const struct pulse *p, uint64_t *again, uint64_t *needless, uint64_t *out_of_order);

void report(struct pulse *p);
void phase_reset(struct pulse *p);

#endif
