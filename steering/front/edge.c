/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The two edges: packets in from the wire (validated here, once), ARP, and
 * packets out to the next hop of their side. Datapath thread only.
 */
#include "steering/front/steer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "common/packet/dpdk_port.h"
#include "steering/echo.h"

enum { ETHER_BYTES = 14, TYPE_ARP = 0x0806,
       PROTO_TCP = 6, PROTO_UDP = 17, TCP_CHECKSUM_AT = 16, UDP_CHECKSUM_AT = 6 };

/* --- opening ------------------------------------------------------------------- */

static int open_edge(struct steer *s, enum packet_side side, char *err, uint32_t err_len)
{
    const struct site_side *cfg = side == SIDE_INSIDE ? &s->front.inside : &s->front.outside;
    struct edge *e = &s->edge[side];
    e->port = dpdk_port_add_device(cfg->port, s->pool, EDGE_DESCS, EDGE_DESCS, e->mac, err, err_len);
    if (e->port < 0)
        return e->port;
    memcpy(e->arp.mac, e->mac, 6);
    e->fd = e->iface[0] != '\0' ? dpdk_port_fd(e->iface) : -1;
    return 0;
}

int edges_open(struct steer *s, char *err, uint32_t err_len)
{
    int rc = open_edge(s, SIDE_INSIDE, err, err_len);
    return rc < 0 ? rc : open_edge(s, SIDE_OUTSIDE, err, err_len);
}

/* --- out ------------------------------------------------------------------------ */

void edge_flush(struct steer *s, enum packet_side side)
{
    struct edge *e = &s->edge[side];
    uint64_t bytes[BURST], sum = 0;
    uint16_t n = e->out.n, sent = 0;
    if (n == 0)
        return;
    e->out.n = 0;
    for (uint16_t i = 0; i < n; i++)
        bytes[i] = e->out.m[i]->pkt_len;
    if (s->tracing)
        traced_sent(s, e->out.m, n);
    /* A full ring empties at the call that kicks the kernel: try twice. */
    for (int attempt = 0; attempt < 2 && sent < n; attempt++)
        sent += rte_eth_tx_burst((uint16_t)e->port, 0, e->out.m + sent, n - sent);
    for (uint16_t i = 0; i < sent; i++)
        sum += bytes[i];
    count_add(s, COUNT_TX, sent);
    count_add(s, COUNT_TX_BYTES, sum);
    if (sent < n) {
        drop_count(s, DROP_EDGE_FULL, n - sent);
        rte_pktmbuf_free_bulk(e->out.m + sent, n - sent);
    }
}

static void put_out(struct steer *s, enum packet_side side, struct rte_mbuf *m)
{
    struct edge *e = &s->edge[side];
    e->out.m[e->out.n++] = m;
    if (e->out.n == BURST)
        edge_flush(s, side);
}

static void send_resolved(struct steer *s, enum packet_side side, struct rte_mbuf *m)
{
    struct edge *e = &s->edge[side];
    uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
    memcpy(frame, e->arp.next_hop_mac, 6);
    memcpy(frame + 6, e->mac, 6);
    put_out(s, side, m);
}

void edge_send(struct steer *s, enum packet_side side, struct rte_mbuf *m)
{
    struct edge *e = &s->edge[side];
    if (e->arp.resolved) {
        send_resolved(s, side, m);
        return;
    }
    if (e->held_n == HELD_MAX) {
        drop_count(s, DROP_UNRESOLVED, 1);
        rte_pktmbuf_free(m);
        return;
    }
    if (e->held_n == 0)
        e->held_us = s->now_us;
    e->held[e->held_n++] = m;
}

static void release_held(struct steer *s, enum packet_side side)
{
    struct edge *e = &s->edge[side];
    uint16_t n = e->held_n;
    e->held_n = 0;
    for (uint16_t i = 0; i < n; i++)
        send_resolved(s, side, e->held[i]);
}

static void send_frame(struct steer *s, enum packet_side side, const uint8_t *frame, uint16_t len)
{
    struct rte_mbuf *m = rte_pktmbuf_alloc(s->pool);
    char *room = m != NULL ? rte_pktmbuf_append(m, len) : NULL;
    if (room == NULL) {
        drop_count(s, DROP_NO_BUFFER, 1);
        rte_pktmbuf_free(m);
        return;
    }
    memcpy(room, frame, len);
    m->hash.fdir.hi = 0;
    put_out(s, side, m);
}

/* --- ARP -------------------------------------------------------------------------- */

static void receive_arp(struct steer *s, enum packet_side side, const uint8_t *frame, uint32_t len)
{
    struct edge *e = &s->edge[side];
    uint8_t reply[ARP_FRAME_BYTES];
    bool resolved = e->arp.resolved;
    enum arp_result result = arp_receive(&e->arp, frame, len, s->now_us, reply);
    if (result == ARP_ANSWERED) {
        count_add(s, COUNT_ARP_ANSWERED, 1);
        send_frame(s, side, reply, sizeof(reply));
    } else if (result == ARP_LEARNED) {
        count_add(s, COUNT_ARP_LEARNED, 1);
    } else if (result == ARP_MALFORMED) {
        count_add(s, COUNT_ARP_MALFORMED, 1);
    } else if (result == ARP_CONFLICT) {
        if (metric_get(s->counts.count[COUNT_ARP_CONFLICT]) == 0)
            note_put(s, &(struct note){.kind = NOTE_CONFLICT, .worker = side});
        count_add(s, COUNT_ARP_CONFLICT, 1);
    }
    if (e->arp.resolved && !resolved) {
        note_put(s, &(struct note){.kind = NOTE_RESOLVED, .worker = side});
        metric_set(s->counts.gauge[GAUGE_RESOLVED_IN + side], 1);
    }
    if (e->arp.resolved)
        release_held(s, side);
}

void edge_tick(struct steer *s, enum packet_side side)
{
    struct edge *e = &s->edge[side];
    uint8_t request[ARP_FRAME_BYTES];
    if (arp_poll(&e->arp, s->now_us, request)) {
        count_add(s, COUNT_ARP_ASKED, 1);
        send_frame(s, side, request, sizeof(request));
        edge_flush(s, side);
    }
    if (e->held_n > 0 && s->now_us - e->held_us > HELD_MAX_US) {
        drop_count(s, DROP_UNRESOLVED, e->held_n);
        rte_pktmbuf_free_bulk(e->held, e->held_n);
        e->held_n = 0;
    }
}

/* --- in --------------------------------------------------------------------------- */

static const uint8_t fault_drops[PACKET_FAULT_END] = {
    [PACKET_TRUNCATED] = DROP_TRUNCATED,       [PACKET_NOT_IP] = DROP_NOT_IP,
    [PACKET_BAD_HEADER] = DROP_BAD_HEADER,     [PACKET_BAD_CHECKSUM] = DROP_BAD_CHECKSUM,
    [PACKET_BAD_LENGTH] = DROP_BAD_LENGTH,     [PACKET_SUPER] = DROP_OVERSIZED,
};

static uint32_t pseudo_header_sum(const struct packet *p, uint32_t l4_len)
{
    uint8_t rest[4] = {0, p->tuple.proto, (uint8_t)(l4_len >> 8), (uint8_t)l4_len};
    return checksum_add(checksum_add(0, p->data + p->l3 + 12, 8), rest, sizeof(rest));
}

/*
 * A checksum left to a network card that is none (veth) holds the sum of the
 * pseudo header and nothing else (Linux: CHECKSUM_PARTIAL). One in 65536 whole
 * checksums has that value too, so the sum over all decides.
 */
static bool has_partial_checksum(const struct packet *p)
{
    uint32_t at = p->tuple.proto == PROTO_TCP ? TCP_CHECKSUM_AT : UDP_CHECKSUM_AT;
    if (p->is_ipv6 || p->is_fragment || !p->has_l4 ||
        (p->tuple.proto != PROTO_TCP && p->tuple.proto != PROTO_UDP))
        return false;
    uint32_t l4_len = p->l3_len - (uint32_t)(p->l4 - p->l3);
    uint16_t field;
    memcpy(&field, p->data + p->l4 + at, 2);
    uint32_t sum = pseudo_header_sum(p, l4_len);
    uint16_t partial = checksum_fold(sum) ^ 0xffff;
    if (field == 0 || field != partial)
        return false;
    return checksum_fold(checksum_add(sum, p->data + p->l4, l4_len)) != 0;
}

static void discard(struct steer *s, struct rte_mbuf *m, enum drop why)
{
    drop_count(s, why, 1);
    rte_pktmbuf_free(m);
}

/* Routers ask so whether packets may come here; silence says no. */
static bool is_ready(const struct steer *s)
{
    return metric_get(s->counts.gauge[GAUGE_HEALTHY]) > 0 && s->end_us == 0 &&
           !__atomic_load_n(&s->edge_down, __ATOMIC_RELAXED);
}

static void receive_echo(struct steer *s, enum packet_side side, struct rte_mbuf *m, struct packet *p)
{
    if (!is_ready(s)) {
        count_add(s, COUNT_ECHO_REFUSED, 1);
        rte_pktmbuf_free(m);
    } else if (!echo_reply(p)) {
        discard(s, m, DROP_BAD_CHECKSUM);
    } else {
        count_add(s, COUNT_ECHO_ANSWERED, 1);
        m->hash.fdir.hi = 0;
        put_out(s, side, m);
    }
}

static void receive_one(struct steer *s, enum packet_side side, struct rte_mbuf *m)
{
    uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
    uint32_t len = m->data_len;
    struct packet p;
    if (len < ETHER_BYTES || m->nb_segs != 1) {
        discard(s, m, DROP_TRUNCATED);
        return;
    }
    if ((frame[12] << 8 | frame[13]) == TYPE_ARP) {
        receive_arp(s, side, frame, len);
        rte_pktmbuf_free(m);
        return;
    }
    if (memcmp(frame, s->edge[side].mac, 6) != 0) {
        discard(s, m, DROP_NOT_FOR_US); /* broadcast, multicast, a hub's rest */
        return;
    }
    if (len > s->mtu + ETHER_BYTES) {
        discard(s, m, DROP_OVERSIZED);
        return;
    }
    enum packet_fault fault = packet_parse(&p, frame, len, len, side);
    if (fault != PACKET_OK) {
        discard(s, m, (enum drop)fault_drops[fault]);
        return;
    }
    if (echo_is_request(&p, s->edge[side].arp.address)) {
        receive_echo(s, side, m, &p);
        return;
    }
    if (has_partial_checksum(&p))
        count_add(s, COUNT_PARTIAL, 1);
    if (s->tracing)
        traced_received(s, m, &p);
    spread(s, side, m, packet_symmetric_hash(&p));
}

uint32_t edge_receive(struct steer *s, enum packet_side side)
{
    struct rte_mbuf *m[BURST];
    uint64_t bytes = 0;
    uint16_t n = rte_eth_rx_burst((uint16_t)s->edge[side].port, 0, m, BURST);
    for (uint16_t i = 0; i < n && i < 4; i++)
        rte_prefetch0(rte_pktmbuf_mtod(m[i], void *));
    for (uint16_t i = 0; i < n; i++) {
        if (i + 4 < n)
            rte_prefetch0(rte_pktmbuf_mtod(m[i + 4], void *));
        bytes += m[i]->pkt_len;
        receive_one(s, side, m[i]);
    }
    count_add(s, COUNT_RX, n);
    count_add(s, COUNT_RX_BYTES, bytes);
    return n;
}
