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
 * There may be several interfaces. A worker's frames go out by the one that its last
 * genuine message came by, and are taken from that one alone: who is on the other
 * cannot speak for it. The further ones come and go (beside.c).
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

static uint32_t mtu_by(const struct steer *s, uint32_t interface_mtu)
{
    uint32_t told = s->front.tunnel.mtu;
    return told != 0 && told < interface_mtu ? told : interface_mtu;
}

int tunnel_check(struct steer *s, char *err, uint32_t err_len)
{
    const struct site_tunnel *cfg = &s->front.tunnel;
    struct tunnel *t = &s->tunnel;
    t->fits = UINT32_MAX;
    t->icmp_credit_us = 1000000ull * ICMP_BURST / ICMP_PER_S;
    t->vni = cfg->vni;
    t->by_n = cfg->address != NULL ? 1 + cfg->more_ports_count : 0;
    for (unsigned i = 0; i < t->by_n; i++) {
        struct tunnel_by *by = &t->by[i];
        by->port = by->fd = -1;
        int rc = i == 0 ? underlay_look(&by->under, cfg->port, cfg->address, (uint16_t)cfg->udp_port,
                                        s->room, err, err_len)
                        : underlay_look_beside(&by->under, &t->by[0].under, cfg->more_ports[i - 1],
                                               s->room, err, err_len);
        if (rc < 0 && (i == 0 || rc != -ENODEV))
            return rc;
        by->mtu = i == 0 ? mtu_by(s, by->under.mtu) : 0;
    }
    return 0;
}

int tunnel_open_port(struct steer *s, const char *device, const struct underlay *u, int *port, int *fd,
                     uint8_t mac[6], char *err, uint32_t err_len)
{
    int opened = dpdk_port_add_device(device, s->pool, EDGE_DESCS, EDGE_DESCS, mac, err, err_len);
    if (opened < 0)
        return opened;
    *port = opened;
    *fd = dpdk_port_fd(u->iface);
    if (*fd >= 0)
        underlay_filter(u, *fd); /* without it we read more, and drop it */
    return 0;
}

int tunnel_open(struct steer *s, char *err, uint32_t err_len)
{
    struct tunnel *t = &s->tunnel;
    struct tunnel_by *first = &t->by[0];
    if (t->by_n == 0)
        return 0;
    int rc = underlay_hold(&first->under, err, err_len);
    if (rc == 0)
        rc = tunnel_open_port(s, s->front.tunnel.port, &first->under, &first->port, &first->fd,
                              first->mac, err, err_len);
    if (rc < 0)
        return rc;
    metric_set(first->count[BY_UP], 1);
    metric_set(first->count[BY_MTU], first->mtu);
    __atomic_store_n(&t->tended, 1, __ATOMIC_RELEASE); /* beside_tend */
    return 0;
}

/* The aide has ended. */
void tunnel_close(struct steer *s)
{
    for (unsigned i = 0; i < s->tunnel.by_n; i++) {
        struct tunnel_by *by = &s->tunnel.by[i];
        int port = i == 0 ? by->port : by->beside.state != AWAITED_CLOSED ? by->beside.port : -1;
        if (port >= 0)
            dpdk_port_remove((uint16_t)port);
        by->port = by->fd = -1;
        by->beside.state = AWAITED_CLOSED;
    }
    if (s->tunnel.by_n > 0)
        underlay_close(&s->tunnel.by[0].under);
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

void tunnel_set(struct steer *s, struct worker *w, uint8_t by, uint32_t address, const uint8_t mac[6],
                uint32_t mtu)
{
    struct tunnel *t = &s->tunnel;
    const struct tunnel_by *b = &t->by[by];
    uint32_t least = (mtu < b->mtu ? mtu : b->mtu) - VXLAN_OVERHEAD;
    struct peer *p = &w->peer;
    if (p->on && p->by == by && p->address == address && p->mtu == least &&
        memcmp(p->path.header, mac, 6) == 0 && memcmp(p->path.header + 6, b->mac, 6) == 0)
        return;
    p->on = true;
    p->by = by;
    p->address = address;
    p->mtu = least;
    vxlan_path_set(&p->path, mac, b->mac, b->under.address, address, b->under.udp_port);
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
    const struct tunnel_by *by = &s->tunnel.by[w->peer.by];
    return w->peer.heard_us != 0 && s->run_us - w->peer.heard_us < patience_us && by->port >= 0 &&
           w->peer.heard_us >= by->since_us;
}

static struct worker *worker_at(struct steer *s, uint32_t address)
{
    for (unsigned i = 0; i < s->workers_max; i++)
        if (s->tunnel.address[i] == address && s->worker[i].peer.on)
            return &s->worker[i];
    return NULL;
}

/* --- interfaces that come and go -------------------------------------------------------- */

static void take(struct steer *s, struct tunnel_by *by)
{
    by->port = by->beside.port;
    by->fd = by->beside.fd;
    memcpy(by->mac, by->beside.mac, 6);
    by->mtu = mtu_by(s, by->beside.mtu);
    by->since_us = s->run_us;
    metric_set(by->count[BY_UP], 1);
    metric_set(by->count[BY_MTU], by->mtu);
}

/* Its workers are heard again by the next port, or by another interface. */
static void let_go(struct steer *s, struct tunnel_by *by)
{
    by->port = by->fd = -1;
    metric_set(by->count[BY_UP], 0);
    metric_set(by->count[BY_MTU], 0);
    metric_add(by->count[BY_LOST], 1);
    for (unsigned i = 0; i < s->workers_max; i++) {
        struct worker *w = &s->worker[i];
        if (worker_present(w) && w->peer.on && &s->tunnel.by[w->peer.by] == by)
            worker_look_at_link(s, w);
    }
}

void tunnel_tick(struct steer *s)
{
    for (unsigned i = 1; i < s->tunnel.by_n; i++) {
        struct tunnel_by *by = &s->tunnel.by[i];
        int state = __atomic_load_n(&by->beside.state, __ATOMIC_ACQUIRE); /* beside_tend */
        if (state == AWAITED_OFFERED) {
            take(s, by);
            __atomic_store_n(&by->beside.state, AWAITED_USED, __ATOMIC_RELEASE);
        } else if (state == AWAITED_RECALLED) {
            let_go(s, by);
            __atomic_store_n(&by->beside.state, AWAITED_RETURNED, __ATOMIC_RELEASE);
        }
    }
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

static void receive_inner(struct steer *s, uint8_t by, struct rte_mbuf *m, const struct vxlan_outer *o)
{
    struct tunnel_message message;
    const uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
    enum packet_side side = o->vni == s->tunnel.vni ? SIDE_INSIDE : SIDE_OUTSIDE;
    if (o->vni - s->tunnel.vni > 1) {
        discard(s, m, o->src, DROP_TUNNEL_VNI);
        return;
    }
    if (side == SIDE_INSIDE && tunnel_read(frame + o->inner, o->inner_len, &message)) {
        enrol(s, by, frame, o, &message);
        rte_pktmbuf_free(m);
        return;
    }
    struct worker *w = worker_at(s, o->src);
    if (w == NULL || !w->link) {
        discard(s, m, 0, DROP_TUNNEL_STRANGER);
        return;
    }
    if (w->peer.by != by) {
        discard(s, m, o->src, DROP_TUNNEL_ASTRAY);
        return;
    }
    metric_add(s->tunnel.by[by].count[BY_FROM], 1);
    rte_pktmbuf_adj(m, (uint16_t)o->inner);
    rte_pktmbuf_trim(m, (uint16_t)(m->data_len - o->inner_len));
    m->hash.fdir.hi = 0;
    worker_rx(s, w, side, m);
}

static void receive_outer(struct steer *s, uint8_t by, struct rte_mbuf *m)
{
    static const uint8_t drops[VXLAN_FAULT_END] = {
        [VXLAN_TRUNCATED] = DROP_TUNNEL_OUTER, [VXLAN_BAD_OUTER] = DROP_TUNNEL_OUTER,
        [VXLAN_FRAGMENT] = DROP_TUNNEL_FRAGMENT, [VXLAN_BAD_HEADER] = DROP_TUNNEL_OUTER};
    const struct tunnel_by *b = &s->tunnel.by[by];
    const uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
    struct vxlan_outer o = {0};
    if (m->nb_segs != 1 || m->data_len < ETHER_BYTES || memcmp(frame, b->mac, 6) != 0) {
        rte_pktmbuf_free(m); /* the kernel's, and what it sent itself */
        return;
    }
    enum vxlan_fault fault = vxlan_parse(frame, m->data_len, b->under.udp_port, &o);
    if (fault == VXLAN_OTHER || (fault == VXLAN_OK && o.dst != b->under.address))
        rte_pktmbuf_free(m);
    else if (fault != VXLAN_OK)
        discard(s, m, 0, (enum drop)drops[fault]);
    else
        receive_inner(s, by, m, &o);
}

uint32_t tunnel_receive(struct steer *s)
{
    struct rte_mbuf *m[BURST];
    uint32_t all = 0;
    for (uint8_t by = 0; by < s->tunnel.by_n; by++) {
        int port = s->tunnel.by[by].port;
        uint16_t n = port >= 0 ? rte_eth_rx_burst((uint16_t)port, 0, m, BURST) : 0;
        for (uint16_t i = 0; i < n; i++)
            receive_outer(s, by, m[i]);
        all += n;
    }
    return all;
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
    const struct tunnel_by *by = &s->tunnel.by[w->peer.by];
    uint16_t sent = by->port >= 0 ? rte_eth_tx_burst((uint16_t)by->port, 0, m, n) : 0;
    for (uint16_t i = sent; i < n; i++)
        rte_pktmbuf_adj(m[i], VXLAN_OVERHEAD);
    metric_add(by->count[BY_TO], sent);
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
