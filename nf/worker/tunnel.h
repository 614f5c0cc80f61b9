/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A worker's end of the tunnel from steering (vxlan.h): one DPDK port beside the
 * kernel on the underlay interface, both sides of the worker in it, told apart
 * by VNI. Belongs to the datapath thread, as side.h.
 *
 * Packets are taken from the configured front ends alone. Which one a packet
 * came from stays with its mbuf (hash.usr), and it goes back there, whatever was
 * made of it. What an NF sends does not exceed what the tunnel carries: such a
 * packet is dropped and counted.
 */
#ifndef NF_WORKER_TUNNEL_H
#define NF_WORKER_TUNNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config/site.h"
#include "common/packet/packet.h"

struct rte_mbuf;
struct rte_mempool;
struct tunnel;

struct tunnel_config {
    const struct site *site;   /* worker.tunnel; steering.tunnel's VNI and UDP port */
    const char *device;        /* "net_af_packet0,iface=eth1" */
    const char *address;       /* of that interface; NULL: its first */
    const char *name;
    const uint8_t *key;        /* the site's probe key */
    unsigned weight;
    uint64_t incarnation, timeout_us;
};

#define TUNNEL_DROPS(X)                                                        \
    X(stranger, "tunnel_stranger")  /* no front end of ours */                 \
    X(bad_outer, "tunnel_bad_outer")                                           \
    X(fragment, "tunnel_fragment")                                             \
    X(wrong_vni, "tunnel_wrong_vni")                                           \
    X(forged, "tunnel_forged")      /* an answer with a wrong tag */           \
    X(stale, "tunnel_replayed")                                                \
    X(too_big, "too_big_for_tunnel")                                           \
    X(nobody, "tunnel_unknown_front") /* nobody to send it to */
struct tunnel_counts {
#define X(name, text) uint64_t name;
    TUNNEL_DROPS(X)
#undef X
};

/* 0, or -errno and a sentence. */
int tunnel_open(struct tunnel **out, const struct tunnel_config *c, struct rte_mempool *pool, char *err,
                uint32_t err_len);
/* Says farewell to all front ends. */
void tunnel_close(struct tunnel *t);
int tunnel_port(const struct tunnel *t);
int tunnel_fd(const struct tunnel *t);
const struct tunnel_counts *tunnel_counts(const struct tunnel *t);

/* Inner frames of a side. */
uint32_t tunnel_rx(struct tunnel *t, enum packet_side side, struct rte_mbuf **burst, uint32_t n,
                   uint64_t now_us);
/* Drops all that has arrived, of both sides, unseen. How many frames. */
uint32_t tunnel_discard(struct tunnel *t);
/* Puts the outer headers before a frame. False: it cannot go, and was counted; it stays the caller's. */
bool tunnel_wrap(struct tunnel *t, enum packet_side side, struct rte_mbuf *m);
/* For a frame of the worker's own: as if it had come from front end `from`. */
void tunnel_mark(struct rte_mbuf *m, unsigned from);
/* The front end that a frame came from. */
unsigned tunnel_origin(const struct rte_mbuf *m);

/* Ten times a second: sends what is due. Bits of the front ends that have us joined anew, since the
 * last time; they may be other processes than before. */
unsigned tunnel_tend(struct tunnel *t, uint64_t now_us);
void tunnel_want(struct tunnel *t, uint64_t now_us);
void tunnel_leave(struct tunnel *t);
/* Some front end has us joined; *number: its number of us. */
bool tunnel_joined(const struct tunnel *t, unsigned *number);
/* All that had us joined send nothing new; *last: one of them goes on, as nobody else is there. */
bool tunnel_left(const struct tunnel *t, bool *last);

#endif
