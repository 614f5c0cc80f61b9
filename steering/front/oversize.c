/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets too large for the tunnel to their worker. Datapath thread only.
 *
 * With DF the sender is told what fits (ICMP 3/4, RFC 792, RFC 1191), from the
 * address of the edge that it came in by; at most ICMP_PER_S, and never about
 * what RFC 1122 3.2.2 exempts. Without DF the packet is cut (RFC 791), and
 * its fragments go the way of the whole: the flow's worker gets all of them. IPv6
 * is neither: dropped and counted.
 */
#define ALLOW_EXPERIMENTAL_API /* rte_ipv4_fragment_copy_nonseg_packet, still so in 22.11 */
#include "steering/front/steer.h"

#include <string.h>

#include <rte_ip_frag.h>
#include <rte_mbuf.h>

enum { ETHER_BYTES = 14, FRAGMENTS_MAX = 32, FRAGMENT_AT = 6, CHECKSUM_AT = 10, DF = 0x40,
       ICMP_UNREACHABLE = 3, ICMP_TOO_BIG = 4 };

static void discard(struct steer *s, struct worker *w, struct rte_mbuf *m)
{
    drop_count(s, DROP_TOO_BIG, 1);
    metric_add(w->count[W_TOO_BIG], 1);
    if (s->tracing)
        traced_dropped(s, &m, 1, DROP_TOO_BIG);
    rte_pktmbuf_free(m);
}

/* A bucket of ICMP_BURST answers that fills by ICMP_PER_S; in microseconds. */
static bool may_answer(struct steer *s)
{
    const uint64_t price_us = 1000000 / ICMP_PER_S;
    struct tunnel *t = &s->tunnel;
    t->icmp_credit_us += s->now_us - t->icmp_us;
    t->icmp_us = s->now_us;
    if (t->icmp_credit_us > ICMP_BURST * price_us)
        t->icmp_credit_us = ICMP_BURST * price_us;
    if (t->icmp_credit_us < price_us)
        return false;
    t->icmp_credit_us -= price_us;
    return true;
}

static void tell_sender(struct steer *s, struct worker *w, struct rte_mbuf *m, struct packet *p)
{
    enum packet_side side = (enum packet_side)p->side;
    struct packet_addr from = packet_ipv4(s->edge[side].arp.address);
    if (!may_answer(s) || !packet_make_icmp_error(p, ICMP_UNREACHABLE, ICMP_TOO_BIG, w->peer.mtu, &from)) {
        discard(s, w, m);
        return;
    }
    m->data_len = (uint16_t)p->len;
    m->pkt_len = p->len;
    count_add(s, COUNT_PMTU, 1);
    edge_send(s, side, m);
}

static void finish_fragment(const struct rte_mbuf *whole, const uint8_t *ether, struct rte_mbuf *f)
{
    uint8_t *ip = rte_pktmbuf_mtod(f, uint8_t *);
    uint32_t header = (ip[0] & 15) * 4u;
    memset(ip + CHECKSUM_AT, 0, 2);
    uint16_t sum = checksum_fold(checksum_add(0, ip, header));
    memcpy(ip + CHECKSUM_AT, &sum, 2);
    memcpy(rte_pktmbuf_prepend(f, ETHER_BYTES), ether, ETHER_BYTES);
    f->hash = whole->hash;
}

static void cut(struct steer *s, struct worker *w, struct rte_mbuf *m, const struct packet *p,
                uint64_t hash)
{
    enum packet_side side = (enum packet_side)p->side;
    struct rte_mbuf *part[FRAGMENTS_MAX];
    uint8_t ether[ETHER_BYTES];
    memcpy(ether, p->data, sizeof(ether));
    rte_pktmbuf_trim(m, (uint16_t)(m->data_len - p->l3 - p->l3_len)); /* Ethernet's padding */
    rte_pktmbuf_adj(m, ETHER_BYTES);
    int n = rte_ipv4_fragment_copy_nonseg_packet(m, part, FRAGMENTS_MAX, (uint16_t)w->peer.mtu, s->pool);
    if (n <= 0) {
        discard(s, w, m);
        return;
    }
    count_add(s, COUNT_FRAGMENTED, 1);
    for (int i = 0; i < n; i++) {
        finish_fragment(m, ether, part[i]);
        spread(s, side, part[i], hash);
    }
    rte_pktmbuf_free(m);
}

bool oversize(struct steer *s, enum packet_side side, struct rte_mbuf *m, uint64_t hash)
{
    struct packet p;
    int number = spread_pick(s, hash);
    struct worker *w = number >= 0 ? &s->worker[number] : NULL;
    if (w == NULL || !w->peer.on || m->pkt_len <= w->peer.mtu + ETHER_BYTES)
        return false;
    uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
    if (packet_parse(&p, frame, m->data_len, (uint32_t)m->data_len + rte_pktmbuf_tailroom(m), side) !=
            PACKET_OK || p.is_ipv6)
        discard(s, w, m);
    else if (frame[p.l3 + FRAGMENT_AT] & DF)
        tell_sender(s, w, m, &p);
    else
        cut(s, w, m, &p, hash);
    return true;
}
