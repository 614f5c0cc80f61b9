/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One side of a worker: a DPDK port, or one of two in a tunnel's, the frames waiting to leave by it, and
 * its counts. Belongs to the datapath thread, which calls all of this between
 * dpdk_poll_begin and dpdk_poll_end.
 */
#ifndef NF_WORKER_SIDE_H
#define NF_WORKER_SIDE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/packet/packet.h"

struct rte_mbuf;
struct rte_mempool;
struct tunnel;

enum {
    SIDE_TX_ROOM = 2048,         /* frames waiting to leave */
    SIDE_TX_WAIT_US = 20 * 1000, /* the port takes nothing that long: they are dropped */
    SIDE_DESCS = 1024,
    SIDE_DISCARD_MAX = 8192,     /* of one receive ring, at once */
};

struct side_counts {
    uint64_t rx, tx;
    uint64_t tx_full, link_down, segmented, away, bad_probe, probes, probes_withheld;
};

struct side {
    enum packet_side which;
    char device[64], args[512];
    int port; /* -1: none yet */
    struct tunnel *tunnel; /* whose port it is, and both sides'; NULL: a port of this side's own */
    int fd;   /* to sleep on; -1: none */
    bool up;
    bool learn; /* peer: the source of the newest frame */
    uint8_t mac[6], peer[6];
    struct rte_mbuf *tx[SIDE_TX_ROOM];
    uint32_t ntx;
    uint64_t stuck_us; /* since when the port takes nothing; 0: it does */
    struct side_counts n;
};

/* Opens `device` ("net_memif_inside") with `args`. `iface=` in the args: the
 * kernel interface's offloads are checked first. 0, or -errno and a sentence. */
int side_open(struct side *s, const char *device, const char *args, struct rte_mempool *pool,
              char *err, uint32_t err_len);
/* The same by a tunnel, which stays its owner's. */
void side_open_tunnel(struct side *s, struct tunnel *t);
void side_close(struct side *s);
/* Stops and starts the port, which makes a memif connect again. */
void side_restart(struct side *s);
bool side_link(struct side *s);

uint32_t side_rx(struct side *s, struct rte_mbuf **burst, uint32_t n, uint64_t now_us);
/* Takes the frame; fills its Ethernet addresses. */
void side_put(struct side *s, struct rte_mbuf *m);
/* Offers what waits to the port; the number it took. */
uint32_t side_flush(struct side *s, uint64_t now_us);
/* A memif's rings become resident now, not slot by slot as they are first used. */
void side_populate_rings(void);
/* Drops what waits to leave, and all that has arrived. How many. */
uint32_t side_discard(struct side *s);

#endif
