/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Traces of single packets: when each step of a packet's way through a program was taken.
 *
 * On order (the verb `trace` of a control socket) a program looks at each packet's flow, for some
 * seconds, and books the packets of the ordered flows, both directions of each. Otherwise it asks
 * one pointer, which is NULL.
 *
 * How the books of several programs are put together, by who asked them (`lethe trace`):
 *   steering and worker  book packets by their flow: nothing is written into a packet. Two entries
 *                        are of one packet if flow, IP identification, TCP sequence and bytes are
 *                        equal and their times follow each other. A NAT's packets leave as another
 *                        flow: the entry says which (`left_as`), to be ordered as well.
 *   worker and store     a txn is known by (shard, client id, sequence), which the wire carries
 *                        anyway. The worker books it when the request leaves; a store that is
 *                        traced books every txn (statestore/server/traced.h).
 *   clocks               CLOCK_MONOTONIC, microseconds: one clock on one host. Every answer says
 *                        `now_us`, so that of another host the asker knows the offset to half of
 *                        what its asking took.
 *
 *   trace on SECONDS tcp|udp|icmp ADDRESS PORT ADDRESS PORT     (icmp: the identifier, twice;
 *                                                               port 0: any)
 *     {"ok": true, "now_us": 1, "until_us": 2}     up to TRACE_FLOWS at a time, the oldest goes
 *   trace off
 *   trace read [AFTER]          entries with an id above AFTER, TRACE_TOLD at most
 *     {"now_us": 7, "active": true, "next": 3, "packets": [
 *       {"id": 3, "side": "inside", "flow": "tcp 10.1.0.5:40000 > 192.0.2.80:80", "bytes": 54,
 *        "ip_id": 17, "tcp_seq": 99, "left_as": "tcp 203.0.113.1:1024 > 192.0.2.80:80",
 *        "events": [{"us": 5, "what": "received"},
 *                   {"us": 6, "what": "sent", "nf": "nat44", "shard": 0, "client": 9, "seq": 4}]}]}
 *
 * Threads: trace_order, trace_verb: the control thread. The others: the datapath. A lock between
 * them, taken for packets that are booked only.
 */
#ifndef LETHE_METRICS_TRACE_H
#define LETHE_METRICS_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/packet/packet.h"

enum {
    TRACE_FLOWS = 4,
    TRACE_PACKETS = 256,      /* the newest ones are kept */
    TRACE_EVENTS = 32,        /* of one packet; later ones are left out */
    TRACE_TOLD = 40,          /* packets in one answer */
    TRACE_SECONDS_MAX = 600,
};

struct trace_event {
    uint64_t us;
    const char *what;         /* a constant */
    const char *nf;           /* or NULL */
    const char *why;          /* of a drop; or NULL */
    const char *about;        /* what `number` is: "shard", "worker"; NULL: nothing */
    uint32_t number;
    uint64_t client, seq;     /* 0: no txn */
};

struct trace;
struct trace *trace_create(void); /* NULL: out of memory */
void trace_destroy(struct trace *t);
uint64_t trace_now_us(void);

/* Control thread: answers the verb (argv[0] is "trace"). */
void trace_verb(struct trace *t, int argc, char **argv, char *reply, uint32_t room);

/* Datapath. Whether anything is ordered now; ask that now and then, and the rest only if so. */
bool trace_active(const struct trace *t, uint64_t now_us);
/* Books the packet if its flow is ordered: its id, 0: it is not. */
uint32_t trace_packet(struct trace *t, const struct packet *p);
/* `e->us` 0: now. An id of a packet that is not kept any more is ignored, and 0. */
void trace_event(struct trace *t, uint32_t id, const struct trace_event *e);
/* What it looks like now. */
void trace_left_as(struct trace *t, uint32_t id, const struct packet *p);

#endif
