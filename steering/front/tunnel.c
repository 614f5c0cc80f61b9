/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Workers behind routers: steering's end of the tunnel (vxlan.h, tunnel.h).
 * Datapath thread only, but for opening and closing.
 *
 *   in:  wire -> is it for our MAC, address and UDP port? else it is the kernel's,
 *        which has the interface, too -> VNI -> a joining message (enrol.c), or
 *        a frame of a worker that has joined, known by its outer address.
 *   out: worker_tx -> the outer headers are put in front, in the mbuf's headroom,
 *        and taken off again from what the port did not take.
 *
 * A packet's outer address is not proof of who sent it: the network between
 * must not let strangers send with our workers' addresses (steering/README.md).
 */
#include "steering/front/steer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "common/packet/dpdk_port.h"

enum { ETHER_BYTES = 14 };

_Static_assert(RTE_PKTMBUF_HEADROOM >= VXLAN_OVERHEAD + ETHER_BYTES,
               "outer headers fit in front of a packet, and of a fragment without Ethernet header");

/* --- opening ------------------------------------------------------------------- */

int tunnel_check(struct steer *s, char *err, uint32_t err_len)
{
    const struct site_tunnel *cfg = &s->front.tunnel;
    struct tunnel *t = &s->tunnel;
    t->port = t->fd = t->under.fd = -1;
    t->fits = UINT32_MAX;
    t->icmp_credit_us = 1000000ull * ICMP_BURST / ICMP_PER_S;
    if (cfg->address == NULL)
        return 0;
    int rc = underlay_look(&t->under, cfg->port, cfg->address, (uint16_t)cfg->udp_port, s->room, err,
                           err_len);
    t->vni = cfg->vni;
    t->mtu = cfg->mtu != 0 && cfg->mtu < t->under.mtu ? cfg->mtu : t->under.mtu;
    return rc;
}

int tunnel_open(struct steer *s, char *err, uint32_t err_len)
{
    const struct site_tunnel *cfg = &s->front.tunnel;
    struct tunnel *t = &s->tunnel;
    struct rte_ether_addr mac;
    char device[64];
    if (cfg->address == NULL)
        return 0;
    int rc = underlay_hold(&t->under, err, err_len);
    if (rc < 0)
        return rc;
    size_t n = strcspn(cfg->port, ",");
    snprintf(device, sizeof(device), "%.*s", (int)n, cfg->port);
    t->port = dpdk_port_add(device, cfg->port + n + 1, s->pool, EDGE_DESCS, EDGE_DESCS, err, err_len);
    if (t->port < 0)
        return t->port;
    rc = rte_eth_macaddr_get((uint16_t)t->port, &mac);
    if (rc < 0) {
        snprintf(err, err_len, "port %s has no MAC address", device);
        return rc;
    }
    memcpy(t->mac, mac.addr_bytes, 6);
    t->fd = dpdk_port_fd(t->under.iface);
    if (t->fd >= 0)
        underlay_filter(t->fd, t->under.udp_port); /* without it we read more, and drop it */
    return 0;
}

void tunnel_close(struct steer *s)
{
    if (s->tunnel.port >= 0)
        dpdk_port_remove((uint16_t)s->tunnel.port);
    s->tunnel.port = s->tunnel.fd = -1;
    underlay_close(&s->tunnel.under);
}

/* --- peers ------------------------------------------------------------------------ */

static void review_fits(struct steer *s)
{
    s->tunnel.fits = UINT32_MAX;
    for (unsigned i = 0; i < s->workers_max; i++) {
        const struct peer *p = &s->worker[i].peer;
        if (p->on && p->mtu + ETHER_BYTES < s->tunnel.fits)
            s->tunnel.fits = p->mtu + ETHER_BYTES;
    }
}

void tunnel_set(struct steer *s, struct worker *w, uint32_t address, const uint8_t mac[6], uint32_t mtu)
{
    struct tunnel *t = &s->tunnel;
    uint32_t least = (mtu < t->mtu ? mtu : t->mtu) - VXLAN_OVERHEAD;
    struct peer *p = &w->peer;
    if (p->on && p->address == address && p->mtu == least && memcmp(p->mac, mac, 6) == 0)
        return;
    p->on = true;
    p->address = address;
    p->mtu = least;
    memcpy(p->mac, mac, 6);
    vxlan_path_set(&p->path, mac, t->mac, t->under.address, address, t->under.udp_port);
    t->address[w->number] = address;
    metric_set(w->count[W_MTU], least);
    review_fits(s);
}

void tunnel_unset(struct steer *s, struct worker *w)
{
    memset(&w->peer, 0, sizeof(w->peer));
    s->tunnel.address[w->number] = 0;
    s->tunnel.floor_us = s->now_us + 1; /* its last messages are worth nothing any more */
    metric_set(w->count[W_MTU], s->mtu);
    review_fits(s);
}

bool tunnel_link(const struct steer *s, const struct worker *w)
{
    uint64_t patience_us = 2 * s->timeout_us > TUNNEL_SILENT_US ? 2 * s->timeout_us : TUNNEL_SILENT_US;
    return w->peer.heard_us != 0 && s->run_us - w->peer.heard_us < patience_us;
}

static struct worker *worker_at(struct steer *s, uint32_t address)
{
    for (unsigned i = 0; i < s->workers_max; i++)
        if (s->tunnel.address[i] == address && s->worker[i].peer.on)
            return &s->worker[i];
    return NULL;
}

/* --- in --------------------------------------------------------------------------- */

static void discard(struct steer *s, struct rte_mbuf *m, uint32_t from, enum drop why)
{
    struct worker *w = from != 0 ? worker_at(s, from) : NULL;
    drop_count(s, why, 1);
    if (w != NULL)
        metric_add(w->count[W_TUNNEL_BAD], 1);
    rte_pktmbuf_free(m);
}

static void receive_inner(struct steer *s, struct rte_mbuf *m, const struct vxlan_outer *o)
{
    struct tunnel_message message;
    const uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
    enum packet_side side = o->vni == s->tunnel.vni ? SIDE_INSIDE : SIDE_OUTSIDE;
    if (o->vni - s->tunnel.vni > 1) {
        discard(s, m, o->src, DROP_TUNNEL_VNI);
        return;
    }
    if (side == SIDE_INSIDE && tunnel_read(frame + o->inner, o->inner_len, &message)) {
        enrol(s, frame, o, &message);
        rte_pktmbuf_free(m);
        return;
    }
    struct worker *w = worker_at(s, o->src);
    if (w == NULL || !w->link) {
        discard(s, m, 0, DROP_TUNNEL_STRANGER);
        return;
    }
    rte_pktmbuf_adj(m, (uint16_t)o->inner);
    rte_pktmbuf_trim(m, (uint16_t)(m->data_len - o->inner_len));
    m->hash.fdir.hi = 0;
    worker_rx(s, w, side, m);
}

static void receive_outer(struct steer *s, struct rte_mbuf *m)
{
    static const uint8_t drops[VXLAN_FAULT_END] = {
        [VXLAN_TRUNCATED] = DROP_TUNNEL_OUTER, [VXLAN_BAD_OUTER] = DROP_TUNNEL_OUTER,
        [VXLAN_FRAGMENT] = DROP_TUNNEL_FRAGMENT, [VXLAN_BAD_HEADER] = DROP_TUNNEL_OUTER};
    const uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
    struct vxlan_outer o = {0};
    if (m->nb_segs != 1 || m->data_len < ETHER_BYTES || memcmp(frame, s->tunnel.mac, 6) != 0) {
        rte_pktmbuf_free(m); /* the kernel's, and what it sent itself */
        return;
    }
    enum vxlan_fault fault = vxlan_parse(frame, m->data_len, s->tunnel.under.udp_port, &o);
    if (fault == VXLAN_OTHER || (fault == VXLAN_OK && o.dst != s->tunnel.under.address))
        rte_pktmbuf_free(m);
    else if (fault != VXLAN_OK)
        discard(s, m, 0, (enum drop)drops[fault]);
    else
        receive_inner(s, m, &o);
}

uint32_t tunnel_receive(struct steer *s)
{
    struct rte_mbuf *m[BURST];
    if (s->tunnel.port < 0)
        return 0;
    uint16_t n = rte_eth_rx_burst((uint16_t)s->tunnel.port, 0, m, BURST);
    for (uint16_t i = 0; i < n; i++)
        receive_outer(s, m[i]);
    return n;
}

/* --- out -------------------------------------------------------------------------- */

static bool fits(const struct worker *w, const struct rte_mbuf *m)
{
    return m->nb_segs == 1 && m->pkt_len <= w->peer.mtu + ETHER_BYTES;
}

/* Packets that all fit: how many the port took; the others are as they were. */
static uint16_t send_run(struct steer *s, struct worker *w, enum packet_side side, struct rte_mbuf **m,
                         uint16_t n)
{
    for (uint16_t i = 0; i < n; i++) {
        uint32_t len = m[i]->pkt_len;
        uint8_t *outer = (uint8_t *)rte_pktmbuf_prepend(m[i], VXLAN_OVERHEAD);
        vxlan_write(outer, &w->peer.path, s->tunnel.vni + side, len, vxlan_entropy(m[i]->hash.usr));
    }
    uint16_t sent = rte_eth_tx_burst((uint16_t)s->tunnel.port, 0, m, n);
    for (uint16_t i = sent; i < n; i++)
        rte_pktmbuf_adj(m[i], VXLAN_OVERHEAD);
    return sent;
}

/* What was taken is always the first of m: callers keep their place by the number. */
uint16_t tunnel_tx(struct steer *s, struct worker *w, enum packet_side side, struct rte_mbuf **m,
                   uint16_t n)
{
    for (uint16_t at = 0, end; at < n; at = end) {
        for (end = at; end < n && fits(w, m[end]); end++)
            continue;
        uint16_t sent = end > at ? send_run(s, w, side, m + at, (uint16_t)(end - at)) : 0;
        if (at + sent < end)
            return (uint16_t)(at + sent);
        if (end < n) { /* it was to go elsewhere when it was looked at (oversize.c) */
            drop_count(s, DROP_TOO_BIG, 1);
            metric_add(w->count[W_TOO_BIG], 1);
            rte_pktmbuf_free(m[end++]);
        }
    }
    return n;
}
