/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Changing a parsed packet in place, checksums kept by RFC 1624 arithmetic: a
 * right one stays right, a wrong one stays exactly as wrong, so that the end
 * host finds the damage and not we hide it. A UDP checksum of 0 (none, RFC
 * 768) stays 0; one that becomes 0 is sent as 0xffff.
 *
 * Offsets were validated by packet_parse. What an ICMP error quotes is covered
 * by the error's own checksum too, so every byte changed in there is accounted
 * for in it, the quoted checksums' bytes included.
 */
#include "packet.h"

#include <assert.h>
#include <string.h>

#include "packet_fields.h"

/* Writes `len` bytes (even) at offset `at` and accounts for them in the
 * checksum at offset `sum`; 0: there is none. */
static void put(struct packet *p, uint32_t at, const void *bytes, uint32_t len, uint32_t sum)
{
    if (sum) {
        uint16_t c;
        memcpy(&c, p->data + sum, 2);
        c = checksum_update(c, p->data + at, bytes, len);
        memcpy(p->data + sum, &c, 2);
    }
    memcpy(p->data + at, bytes, len);
}

/* What has to change with one end point, as offsets; 0: not there. */
struct place {
    uint32_t addr, addr_len, port;
    uint32_t ip_sum; /* the header's own: covers the address */
    uint32_t l4_sum; /* covers the port and, with a pseudo-header, the address */
    uint32_t cover;  /* checksum of the ICMP error around it all */
    bool pseudo, udp;
};

static uint16_t updated(const struct packet *p, uint32_t sum, uint32_t at, const void *bytes,
                        uint32_t len)
{
    uint16_t c;

    memcpy(&c, p->data + sum, 2);
    return checksum_update(c, p->data + at, bytes, len);
}

/* The change of `len` bytes at `at` in the L4 checksum, which itself may be
 * covered by an outer one. */
static void account_l4(struct packet *p, const struct place *w, uint32_t at, const void *bytes,
                       uint32_t len)
{
    uint16_t c;

    memcpy(&c, p->data + w->l4_sum, 2);
    if (w->udp && c == 0)
        return;
    c = updated(p, w->l4_sum, at, bytes, len);
    if (w->udp && c == 0)
        c = 0xffff;
    put(p, w->l4_sum, &c, 2, w->cover);
}

static void set_end_point(struct packet *p, const struct place *w, const uint8_t *addr,
                          uint16_t port)
{
    if (w->l4_sum && w->pseudo)
        account_l4(p, w, w->addr, addr, w->addr_len);
    if (w->ip_sum) {
        uint16_t c = updated(p, w->ip_sum, w->addr, addr, w->addr_len);
        put(p, w->ip_sum, &c, 2, w->cover);
    }
    put(p, w->addr, addr, w->addr_len, w->cover);
    if (w->port) {
        if (w->l4_sum)
            account_l4(p, w, w->port, &port, 2);
        put(p, w->port, &port, 2, w->cover);
    }
}

static uint32_t checksum_at(uint8_t proto)
{
    return proto == PROTO_TCP ? TCP_CHECKSUM : proto == PROTO_UDP ? UDP_CHECKSUM : ICMP_CHECKSUM;
}

/* Where one end point of a header at l3/l4 stands. `second`: the destination. */
static struct place place_of(const struct packet *p, uint32_t l3, uint32_t l4, uint8_t proto,
                             bool second, bool ports, bool l4_sum)
{
    struct place w = {0};
    bool icmp = proto == PROTO_ICMP4 || proto == PROTO_ICMP6;

    w.addr_len = p->is_ipv6 ? 16 : 4;
    w.addr = l3 + (p->is_ipv6 ? (second ? IP6_DST : IP6_SRC) : (second ? IP4_DST : IP4_SRC));
    w.ip_sum = p->is_ipv6 ? 0 : l3 + IP4_CHECKSUM;
    w.pseudo = proto != PROTO_ICMP4;
    w.udp = proto == PROTO_UDP;
    if (ports)
        w.port = l4 + (icmp ? ICMP_ID : second ? 2 : 0);
    if (l4_sum)
        w.l4_sum = l4 + checksum_at(proto);
    return w;
}

static const uint8_t *addr_bytes(const struct packet *p, const struct packet_addr *addr)
{
    return p->is_ipv6 ? addr->b : addr->b + 12;
}

static void set_outer(struct packet *p, const struct packet_addr *addr, uint16_t port, bool second)
{
    struct packet_tuple *t = &p->tuple;
    /* Every ICMPv6 message covers the addresses, with or without ports. */
    bool sum = p->has_l4 || (t->proto == PROTO_ICMP6 && p->is_ipv6 && !p->is_later_fragment);
    struct place w = place_of(p, p->l3, p->l4, t->proto, second, p->has_l4, sum);

    set_end_point(p, &w, addr_bytes(p, addr), port);
    *(second ? &t->dst : &t->src) = *addr;
    if (!p->has_l4)
        return;
    if (t->proto == PROTO_ICMP4 || t->proto == PROTO_ICMP6)
        t->src_port = t->dst_port = port; /* an identifier is both */
    else
        *(second ? &t->dst_port : &t->src_port) = port;
}

static void set_inner(struct packet *p, const struct packet_addr *addr, uint16_t port, bool second)
{
    struct packet_tuple *t = &p->inner;
    struct place w;

    assert(p->is_icmp_error);
    w = place_of(p, p->inner_l3, p->inner_l4, t->proto, second, p->inner_has_l4,
                 p->inner_has_checksum);
    w.cover = p->l4 + ICMP_CHECKSUM;
    set_end_point(p, &w, addr_bytes(p, addr), port);
    *(second ? &t->dst : &t->src) = *addr;
    if (!p->inner_has_l4)
        return;
    if (t->proto == PROTO_ICMP4 || t->proto == PROTO_ICMP6)
        t->src_port = t->dst_port = port;
    else
        *(second ? &t->dst_port : &t->src_port) = port;
}

void packet_set_src(struct packet *p, const struct packet_addr *addr, uint16_t port)
{
    set_outer(p, addr, port, false);
}

void packet_set_dst(struct packet *p, const struct packet_addr *addr, uint16_t port)
{
    set_outer(p, addr, port, true);
}

void packet_set_inner_src(struct packet *p, const struct packet_addr *addr, uint16_t port)
{
    set_inner(p, addr, port, false);
}

void packet_set_inner_dst(struct packet *p, const struct packet_addr *addr, uint16_t port)
{
    set_inner(p, addr, port, true);
}

bool packet_decrement_ttl(struct packet *p)
{
    uint8_t *ip = p->data + p->l3;
    uint8_t word[2];

    if (p->is_ipv6) {
        if (ip[IP6_HOP_LIMIT] <= 1)
            return false;
        ip[IP6_HOP_LIMIT]--;
        return true;
    }
    if (ip[IP4_TTL] <= 1)
        return false;
    word[0] = (uint8_t)(ip[IP4_TTL] - 1);
    word[1] = ip[IP4_TTL + 1];
    put(p, p->l3 + IP4_TTL, word, 2, p->l3 + IP4_CHECKSUM);
    return true;
}

void packet_swap_ethernet(struct packet *p)
{
    uint8_t dst[6];

    memcpy(dst, p->data, 6);
    memcpy(p->data, p->data + 6, 6);
    memcpy(p->data + 6, dst, 6);
}
