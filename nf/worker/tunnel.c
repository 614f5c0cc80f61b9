/* SPDX-License-Identifier: BSD-3-Clause */
/* A worker's end of the tunnel. See tunnel.h. */
#include "nf/worker/tunnel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "common/log/log.h"
#include "common/packet/dpdk_port.h"
#include "common/packet/underlay.h"
#include "nf/worker/fronts.h"
#include "nf/worker/side.h"

enum {
    ETHER_BYTES = 14, VXLAN_HEADER = 8, READY = 64,
    JOIN_BYTES_MAX = 2176,     /* more than a packet buffer holds */
    REMIND_US = 10 * 1000 * 1000,
    SHORT_ANSWERS = 8,         /* so many, and no long one: said */
};

struct tunnel {
    struct underlay under;
    struct fronts fronts;
    struct vxlan_path path[SITE_FRONTS_MAX];
    int port, fd;
    uint8_t mac[6];
    uint32_t vni;
    struct rte_mbuf *ready[2][READY]; /* read, by side, from ready_at */
    uint32_t ready_at[2], ready_n[2];
    struct tunnel_counts n;
    uint64_t said_us[SITE_FRONTS_MAX], wants_us;
    unsigned fresh;            /* bits: for tunnel_tend */
};

/* --- opening ------------------------------------------------------------------- */

static int open_port(struct tunnel *t, const char *spec, struct rte_mempool *pool, char *err,
                     uint32_t err_len)
{
    t->port = dpdk_port_add_device(spec, pool, SIDE_DESCS, SIDE_DESCS, t->mac, err, err_len);
    if (t->port < 0)
        return t->port;
    t->fd = dpdk_port_fd(t->under.iface);
    if (t->fd >= 0)
        underlay_filter(&t->under, t->fd); /* without it we read more, and drop it */
    return 0;
}

static void set_fronts(struct tunnel *t, const struct tunnel_config *c)
{
    struct fronts *all = &t->fronts;
    const struct site_worker_tunnel *to = &c->site->worker.tunnel;
    all->n = to->steering_count < SITE_FRONTS_MAX ? to->steering_count : SITE_FRONTS_MAX;
    for (unsigned i = 0; i < all->n; i++)
        inet_pton(AF_INET, to->steering[i], &all->at[i].address); /* site_check has seen to it */
    snprintf(all->name, sizeof all->name, "%s", c->name);
    all->weight = c->weight;
    all->incarnation = c->incarnation;
    all->silent_us = 2 * c->timeout_us > FRONT_SILENT_US ? 2 * c->timeout_us : FRONT_SILENT_US;
    memcpy(all->key, c->key, sizeof all->key);
}

int tunnel_open(struct tunnel **out, const struct tunnel_config *c, struct rte_mempool *pool, char *err,
                uint32_t err_len)
{
    const struct site_tunnel *shared = &c->site->steering.tunnel;
    if (c->site->worker.tunnel.steering_count == 0) {
        snprintf(err, err_len, "--tunnel: the site says not where to join; write worker.tunnel: {steering: "
                 "[ADDRESS]}");
        return -EINVAL;
    }
    struct tunnel *t = calloc(1, sizeof *t);
    if (!t) {
        snprintf(err, err_len, "out of memory");
        return -ENOMEM;
    }
    t->port = t->fd = t->under.fd = -1;
    t->vni = shared->vni;
    set_fronts(t, c);
    uint32_t room = (uint32_t)(rte_pktmbuf_data_room_size(pool) - RTE_PKTMBUF_HEADROOM);
    int rc = underlay_look(&t->under, c->device, c->address, (uint16_t)shared->udp_port, room, err, err_len);
    t->fronts.address = t->under.address;
    if (!rc)
        rc = underlay_hold(&t->under, err, err_len);
    if (!rc)
        rc = open_port(t, c->device, pool, err, err_len);
    if (rc) {
        tunnel_close(t);
        return rc;
    }
    *out = t;
    return 0;
}

static void send_by_kernel(struct tunnel *t, const struct front *f, const struct tunnel_message *m,
                           uint32_t frame_bytes)
{
    static const uint8_t nobody[6] = {0x02};
    uint8_t payload[VXLAN_HEADER + JOIN_BYTES_MAX] = {0};
    if (frame_bytes > JOIN_BYTES_MAX)
        frame_bytes = JOIN_BYTES_MAX;
    vxlan_write_header(payload, t->vni);
    tunnel_frame(payload + VXLAN_HEADER, nobody, t->mac, m);
    underlay_send(&t->under, f->address, payload, VXLAN_HEADER + frame_bytes);
}

void tunnel_close(struct tunnel *t)
{
    struct tunnel_message m;
    if (!t)
        return;
    for (unsigned i = 0; i < t->fronts.n && t->under.fd >= 0; i++)
        if (front_farewell(&t->fronts, &t->fronts.at[i], &m))
            send_by_kernel(t, &t->fronts.at[i], &m, TUNNEL_FRAME_BYTES);
    for (int side = 0; side < 2; side++)
        rte_pktmbuf_free_bulk(t->ready[side] + t->ready_at[side], t->ready_n[side]);
    if (t->port >= 0)
        dpdk_port_remove((uint16_t)t->port);
    underlay_close(&t->under);
    free(t);
}

int tunnel_port(const struct tunnel *t)
{
    return t->port;
}

int tunnel_fd(const struct tunnel *t)
{
    return t->fd;
}

const struct tunnel_counts *tunnel_counts(const struct tunnel *t)
{
    return &t->n;
}

/* --- in --------------------------------------------------------------------------- */

static int front_at(const struct fronts *all, uint32_t address)
{
    for (unsigned i = 0; i < all->n; i++)
        if (all->at[i].address == address)
            return (int)i;
    return -1;
}

void tunnel_mark(struct rte_mbuf *m, unsigned from)
{
    m->hash.usr = from << 16 | VXLAN_ENTROPY_FIRST;
}

unsigned tunnel_origin(const struct rte_mbuf *m)
{
    unsigned from = m->hash.usr >> 16;
    return from < SITE_FRONTS_MAX ? from : 0;
}

static void answered(struct tunnel *t, unsigned i, const uint8_t *outer, const struct vxlan_outer *o,
                     const struct tunnel_message *m, uint64_t now_us)
{
    struct front *f = &t->fronts.at[i];
    enum front_result r = front_answer(&t->fronts, f, outer + 6, m, o->inner_len, now_us);
    t->n.forged += r == FRONT_FORGED;
    t->n.stale += r == FRONT_STALE;
    if (r < FRONT_HEARD)
        return;
    uint32_t mtu = underlay_path_mtu(&t->under, f->address);
    f->mtu = (mtu != 0 && mtu < f->its_mtu ? mtu : f->its_mtu) - VXLAN_OVERHEAD;
    vxlan_path_set(&t->path[i], f->mac, t->mac, t->under.address, f->address, t->under.udp_port);
    if (r == FRONT_JOINED) {
        char at[INET_ADDRSTRLEN];
        inet_ntop(AF_INET, &f->address, at, sizeof at);
        t->fresh |= 1u << i;
        log_info("joined steering", "at=%s worker=%u by tunnel mtu=%u", at, f->number, f->mtu);
    }
}

/* True: an inner frame was put to its side. */
static bool unwrap(struct tunnel *t, struct rte_mbuf *m, uint64_t now_us)
{
    const uint8_t *frame = rte_pktmbuf_mtod(m, const uint8_t *);
    struct tunnel_message message;
    struct vxlan_outer o;
    if (m->nb_segs != 1 || m->data_len < ETHER_BYTES || memcmp(frame, t->mac, 6))
        return false; /* the kernel's, and what it sent itself */
    enum vxlan_fault fault = vxlan_parse(frame, m->data_len, t->under.udp_port, &o);
    if (fault == VXLAN_OTHER || (fault == VXLAN_OK && o.dst != t->under.address))
        return false;
    if (fault != VXLAN_OK) {
        *(fault == VXLAN_FRAGMENT ? &t->n.fragment : &t->n.bad_outer) += 1;
        return false;
    }
    int from = front_at(&t->fronts, o.src);
    uint32_t side = o.vni - t->vni;
    if (from < 0 || side > 1) {
        *(from < 0 ? &t->n.stranger : &t->n.wrong_vni) += 1;
        return false;
    }
    if (side == SIDE_INSIDE && tunnel_read(frame + o.inner, o.inner_len, &message)) {
        answered(t, (unsigned)from, frame, &o, &message, now_us);
        return false;
    }
    if (!t->fronts.at[from].joined) { /* also: short packets pass, long ones do not */
        t->n.stranger++;
        return false;
    }
    rte_pktmbuf_adj(m, (uint16_t)o.inner);
    rte_pktmbuf_trim(m, (uint16_t)(m->data_len - o.inner_len));
    m->hash.usr = (uint32_t)from << 16 | o.src_port;
    t->ready[side][t->ready_at[side] + t->ready_n[side]++] = m;
    return true;
}

static void read_port(struct tunnel *t, uint64_t now_us)
{
    struct rte_mbuf *m[READY];
    uint32_t most = 0;
    for (int side = 0; side < 2; side++) { /* to the front, so that the rest is room */
        memmove(t->ready[side], t->ready[side] + t->ready_at[side],
                t->ready_n[side] * sizeof t->ready[0][0]);
        t->ready_at[side] = 0;
        most = t->ready_n[side] > most ? t->ready_n[side] : most;
    }
    if (most == READY)
        return;
    uint16_t n = rte_eth_rx_burst((uint16_t)t->port, 0, m, (uint16_t)(READY - most));
    for (uint16_t i = 0; i < n; i++)
        if (!unwrap(t, m[i], now_us))
            rte_pktmbuf_free(m[i]);
}

uint32_t tunnel_rx(struct tunnel *t, enum packet_side side, struct rte_mbuf **burst, uint32_t n,
                   uint64_t now_us)
{
    if (t->ready_n[side] < n)
        read_port(t, now_us);
    n = n < t->ready_n[side] ? n : t->ready_n[side];
    memcpy(burst, t->ready[side] + t->ready_at[side], n * sizeof *burst);
    t->ready_at[side] += n;
    t->ready_n[side] -= n;
    return n;
}

uint32_t tunnel_discard(struct tunnel *t)
{
    struct rte_mbuf *m[READY];
    uint32_t dropped = 0;
    for (int side = 0; side < 2; side++) {
        rte_pktmbuf_free_bulk(t->ready[side] + t->ready_at[side], t->ready_n[side]);
        dropped += t->ready_n[side];
        t->ready_n[side] = 0;
    }
    for (uint32_t i = 0, n; i < SIDE_DISCARD_MAX && (n = rte_eth_rx_burst((uint16_t)t->port, 0, m, READY)); i += n) {
        rte_pktmbuf_free_bulk(m, n);
        dropped += n;
    }
    return dropped;
}

/* --- out -------------------------------------------------------------------------- */

bool tunnel_wrap(struct tunnel *t, enum packet_side side, struct rte_mbuf *m)
{
    unsigned to = tunnel_origin(m);
    const struct front *f = &t->fronts.at[to];
    uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
    uint32_t len = m->pkt_len;
    if (to >= t->fronts.n || !f->known) {
        t->n.nobody++;
        return false;
    }
    if (len > f->mtu + ETHER_BYTES) {
        t->n.too_big++;
        return false;
    }
    memcpy(frame, f->edge_mac[side], 6);
    memcpy(frame + 6, t->mac, 6);
    uint8_t *outer = (uint8_t *)rte_pktmbuf_prepend(m, VXLAN_OVERHEAD);
    if (!outer) {
        t->n.too_big++;
        return false;
    }
    vxlan_write(outer, &t->path[to], t->vni + side, len, (uint16_t)m->hash.usr);
    return true;
}

/* --- joining, leaving ------------------------------------------------------------------ */

static void complain(struct tunnel *t, unsigned i, uint64_t now_us)
{
    const struct front *f = &t->fronts.at[i];
    char at[INET_ADDRSTRLEN];
    if (f->joined || !t->fronts.wants || now_us - t->said_us[i] < REMIND_US)
        return;
    if (t->said_us[i] == 0 && now_us - t->wants_us < t->fronts.silent_us)
        return; /* give it a moment */
    t->said_us[i] = now_us;
    inet_ntop(AF_INET, &f->address, at, sizeof at);
    if (f->reason)
        log_warn("not joined", "at=%s steering refuses: %s", at, tunnel_reason_text(f->reason));
    else if (f->short_answers >= SHORT_ANSWERS)
        log_warn("not joined", "at=%s steering answers, but packets of %u bytes do not pass: write what "
                 "passes as mtu: into steering.tunnel", at, f->mtu + VXLAN_OVERHEAD);
    else
        log_warn("not joined", "at=%s nobody answers: is steering there, with steering.tunnel and this "
                 "site's probe key, and a way to it?", at);
}

unsigned tunnel_tend(struct tunnel *t, uint64_t now_us)
{
    unsigned fresh = t->fresh;
    t->fresh = 0;
    for (unsigned i = 0; i < t->fronts.n; i++) {
        struct front *f = &t->fronts.at[i];
        struct tunnel_message m;
        uint32_t bytes;
        if (front_tick(&t->fronts, f, now_us))
            t->said_us[i] = 0;
        complain(t, i, now_us);
        if (now_us >= f->next_us && /* before the kernel is asked */
            front_due(&t->fronts, f, underlay_path_mtu(&t->under, f->address), now_us, &m, &bytes))
            send_by_kernel(t, f, &m, bytes);
    }
    return fresh;
}

void tunnel_want(struct tunnel *t, uint64_t now_us)
{
    t->fronts.wants = true;
    t->wants_us = now_us;
}

void tunnel_leave(struct tunnel *t)
{
    t->fronts.leaves = true;
    for (unsigned i = 0; i < t->fronts.n; i++)
        t->fronts.at[i].next_us = 0;
}

bool tunnel_joined(const struct tunnel *t, unsigned *number)
{
    for (unsigned i = 0; i < t->fronts.n; i++)
        if (t->fronts.at[i].joined) {
            *number = t->fronts.at[i].number;
            return true;
        }
    return false;
}

bool tunnel_left(const struct tunnel *t, bool *last)
{
    bool left = true;
    *last = false;
    for (unsigned i = 0; i < t->fronts.n; i++) {
        const struct front *f = &t->fronts.at[i];
        left &= f->left || !f->joined;
        *last |= f->left && f->last;
    }
    return left;
}
