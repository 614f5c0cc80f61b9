/* SPDX-License-Identifier: BSD-3-Clause */
/* One side of a worker (side.h). */
#include "nf/worker/side.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "common/packet/dpdk_port.h"
#include "nf/worker/tunnel.h"

/* The value of `iface=` in a device's arguments; false: there is none. */
static bool iface_of(const char *args, char *iface, size_t room)
{
    const char *at = strstr(args, "iface=");
    if (!at || (at != args && at[-1] != ','))
        return false;
    at += strlen("iface=");
    size_t n = strcspn(at, ",");
    if (n == 0 || n >= room)
        return false;
    memcpy(iface, at, n);
    iface[n] = '\0';
    return true;
}

int side_open(struct side *s, const char *device, const char *args, struct rte_mempool *pool,
              char *err, uint32_t err_len)
{
    char iface[64] = "";
    struct rte_ether_addr mac;
    if (iface_of(args, iface, sizeof iface)) {
        int rc = dpdk_check_offloads(iface, err, err_len);
        if (rc)
            return rc;
    }
    int port = dpdk_port_add(device, args, pool, SIDE_DESCS, SIDE_DESCS, err, err_len);
    if (port < 0)
        return port;
    snprintf(s->device, sizeof s->device, "%s", device);
    snprintf(s->args, sizeof s->args, "%s", args);
    s->port = port;
    s->fd = *iface ? dpdk_port_fd(iface) : -1;
    s->up = false;
    if (rte_eth_macaddr_get((uint16_t)port, &mac) == 0)
        memcpy(s->mac, mac.addr_bytes, sizeof s->mac);
    return 0;
}

void side_open_tunnel(struct side *s, struct tunnel *t)
{
    s->tunnel = t;
    s->port = tunnel_port(t);
    s->fd = s->which == SIDE_INSIDE ? tunnel_fd(t) : -1; /* one for both */
    s->up = false;
}

static void tx_drop(struct side *s, uint64_t *count)
{
    rte_pktmbuf_free_bulk(s->tx, s->ntx);
    *count += s->ntx;
    s->ntx = 0;
    s->stuck_us = 0;
}

void side_close(struct side *s)
{
    if (s->port < 0)
        return;
    tx_drop(s, &s->n.link_down);
    if (!s->tunnel)
        dpdk_port_remove((uint16_t)s->port);
    s->port = s->fd = -1;
    s->up = false;
}

void side_restart(struct side *s)
{
    if (s->port < 0)
        return;
    rte_eth_dev_stop((uint16_t)s->port);
    rte_eth_dev_start((uint16_t)s->port);
}

bool side_link(struct side *s)
{
    struct rte_eth_link link = {0};
    unsigned number;
    if (s->tunnel)
        return s->up = tunnel_joined(s->tunnel, &number);
    s->up = s->port >= 0 && rte_eth_link_get_nowait((uint16_t)s->port, &link) == 0 &&
            link.link_status == RTE_ETH_LINK_UP;
    return s->up;
}

uint32_t side_rx(struct side *s, struct rte_mbuf **burst, uint32_t n, uint64_t now_us)
{
    if (s->tunnel)
        return tunnel_rx(s->tunnel, s->which, burst, n, now_us);
    return s->port < 0 || n == 0 ? 0 : rte_eth_rx_burst((uint16_t)s->port, 0, burst, (uint16_t)n);
}

static uint32_t tx_offer(struct side *s)
{
    uint32_t sent = 0;
    if (s->ntx == 0)
        return 0;
    if (s->port < 0) {
        tx_drop(s, &s->n.link_down);
        return 0;
    }
    while (sent < s->ntx) {
        uint16_t n =
            rte_eth_tx_burst((uint16_t)s->port, 0, s->tx + sent, (uint16_t)(s->ntx - sent));
        if (n == 0)
            break;
        sent += n;
    }
    s->ntx -= sent;
    memmove(s->tx, s->tx + sent, s->ntx * sizeof s->tx[0]);
    s->n.tx += sent;
    return sent;
}

void side_put(struct side *s, struct rte_mbuf *m)
{
    struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, struct rte_ether_hdr *);
    if (s->tunnel && !tunnel_wrap(s->tunnel, s->which, m)) {
        rte_pktmbuf_free(m);
        return;
    }
    if (!s->tunnel) {
        memcpy(eth->dst_addr.addr_bytes, s->peer, sizeof s->peer);
        memcpy(eth->src_addr.addr_bytes, s->mac, sizeof s->mac);
    }
    if (s->ntx == SIDE_TX_ROOM)
        tx_offer(s);
    if (s->ntx == SIDE_TX_ROOM)
        tx_drop(s, &s->n.tx_full);
    s->tx[s->ntx++] = m;
}

uint32_t side_flush(struct side *s, uint64_t now_us)
{
    uint32_t sent = tx_offer(s);
    if (sent || s->ntx == 0)
        s->stuck_us = 0;
    else if (s->stuck_us == 0)
        s->stuck_us = now_us;
    else if (now_us - s->stuck_us > SIDE_TX_WAIT_US)
        tx_drop(s, s->up ? &s->n.tx_full : &s->n.link_down);
    return sent;
}

uint32_t side_discard(struct side *s)
{
    struct rte_mbuf *burst[64];
    uint32_t waited = s->ntx, came = 0, n;
    uint64_t unused = 0;
    tx_drop(s, &unused);
    if (s->tunnel)
        came = tunnel_discard(s->tunnel); /* the other side finds nothing left */
    while (!s->tunnel && came < SIDE_DISCARD_MAX && (n = side_rx(s, burst, 64, 0)) != 0) {
        rte_pktmbuf_free_bulk(burst, n);
        came += n;
    }
    s->n.rx += came;
    s->n.away += waited + came;
    return waited + came;
}

void side_populate_rings(void)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");
    while (maps && fgets(line, sizeof line, maps)) {
        uintptr_t from, to;
        if (strstr(line, "memif_region") && sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &from, &to) == 2)
            madvise((void *)from, to - from, MADV_POPULATE_WRITE); /* Linux 5.14; else later */
    }
    if (maps)
        fclose(maps);
}
