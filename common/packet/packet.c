/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * packet_parse and packet_symmetric_hash: see packet.h.
 *
 * Stateless; any thread. Reads go through `struct view`, a window that ends at
 * the IP total length, so that nothing behind it (Ethernet padding, the rest
 * of an mbuf) is ever taken for packet.
 *
 * Faults beyond plain lengths, and who asks for them: a fragment that would
 * end past 65535 (RFC 791), a fragment that is not the last and no multiple of
 * eight bytes (RFC 791), a TCP fragment at offset 1, which could overwrite the
 * flags of the first (RFC 1858 2.2), an ICMP error whose quoted IP header is
 * not there (RFC 792).
 */
#include "packet.h"

#include <assert.h>
#include <string.h>

#include "packet_fields.h"

const char *packet_fault_text(enum packet_fault f)
{
    static const char *const texts[] = {
#define X(name, text) [name] = text,
        PACKET_FAULTS(X)
#undef X
    };
    return (unsigned)f < PACKET_FAULT_END ? texts[f] : "unknown";
}

/* The L3 header of a packet, or of the packet an ICMP error quotes. */
struct l3 {
    uint32_t l4, end; /* offsets from data; end: last byte + 1 that is there */
    uint8_t proto, ipv6;
    bool fragment, later;
};

/* --- layer 4 --------------------------------------------------------------- */

static bool is_echo(const struct l3 *h, uint8_t type)
{
    if (h->ipv6)
        return type == ICMP6_ECHO_REQUEST || type == ICMP6_ECHO_REPLY;
    return type == ICMP4_ECHO_REQUEST || type == ICMP4_ECHO_REPLY;
}

static bool is_error(const struct l3 *h, uint8_t type)
{
    if (h->ipv6)
        return type < 128; /* RFC 4443 2.1: the high bit tells errors from the rest */
    return type == ICMP4_UNREACHABLE || type == ICMP4_SOURCE_QUENCH || type == ICMP4_REDIRECT ||
           type == ICMP4_TIME_EXCEEDED || type == ICMP4_PARAMETER_PROBLEM;
}

static bool is_icmp(const struct l3 *h)
{
    return h->proto == (h->ipv6 ? PROTO_ICMP6 : PROTO_ICMP4);
}

static void take_ports(struct packet_tuple *t, const uint8_t *src, const uint8_t *dst)
{
    memcpy(&t->src_port, src, 2);
    memcpy(&t->dst_port, dst, 2);
}

static enum packet_fault parse_tcp(struct packet *p, const struct l3 *h)
{
    const uint8_t *tcp = p->data + h->l4;
    uint32_t there = h->end - h->l4, header;

    if (there < TCP_HEADER)
        return PACKET_TRUNCATED;
    header = (tcp[12] >> 4) * 4u;
    if (header < TCP_HEADER)
        return PACKET_BAD_HEADER;
    if (header > there) {
        if (!h->fragment)
            return PACKET_TRUNCATED;
        header = there; /* the options go on in the next fragment */
    }
    take_ports(&p->tuple, tcp, tcp + 2);
    p->has_l4 = 1;
    p->payload = (uint16_t)(h->l4 + header);
    return PACKET_OK;
}

static enum packet_fault parse_udp(struct packet *p, const struct l3 *h)
{
    const uint8_t *udp = p->data + h->l4;
    uint32_t there = h->end - h->l4, length;

    if (there < UDP_HEADER)
        return PACKET_TRUNCATED;
    length = load16(udp + 4);
    if (length < UDP_HEADER || (!h->fragment && length > there))
        return PACKET_BAD_LENGTH;
    take_ports(&p->tuple, udp, udp + 2);
    p->has_l4 = 1;
    p->payload = (uint16_t)(h->l4 + UDP_HEADER);
    return PACKET_OK;
}

static enum packet_fault parse_l3(const struct packet *p, uint32_t at, uint32_t end, bool quoted,
                                  struct packet_tuple *tuple, struct l3 *h);

/* The packet an ICMP error quotes. Its L4 header may be cut: eight bytes of it
 * are all that RFC 792 promises, and fewer leave inner_has_l4 at 0. */
static enum packet_fault parse_quoted(struct packet *p, uint32_t at, uint32_t end)
{
    struct l3 h;
    const uint8_t *l4;
    enum packet_fault fault = parse_l3(p, at, end, true, &p->inner, &h);

    if (fault != PACKET_OK)
        return fault;
    p->inner_l3 = (uint16_t)at;
    p->inner_l4 = (uint16_t)h.l4;
    if (h.later || h.end - h.l4 < 8)
        return PACKET_OK;
    l4 = p->data + h.l4;
    if (h.proto == PROTO_TCP || h.proto == PROTO_UDP) {
        take_ports(&p->inner, l4, l4 + 2);
        p->inner_has_l4 = 1;
        p->inner_has_checksum = h.proto == PROTO_UDP || h.end - h.l4 >= TCP_CHECKSUM + 2;
    } else if (is_icmp(&h) && is_echo(&h, l4[0])) {
        take_ports(&p->inner, l4 + ICMP_ID, l4 + ICMP_ID);
        p->inner_has_l4 = p->inner_has_checksum = 1;
    }
    return PACKET_OK;
}

static enum packet_fault parse_icmp(struct packet *p, const struct l3 *h)
{
    const uint8_t *icmp = p->data + h->l4;

    if (h->end - h->l4 < ICMP_HEADER)
        return PACKET_TRUNCATED;
    p->payload = (uint16_t)(h->l4 + ICMP_HEADER);
    if (is_echo(h, icmp[0])) {
        take_ports(&p->tuple, icmp + ICMP_ID, icmp + ICMP_ID);
        p->has_l4 = 1;
        return PACKET_OK;
    }
    if (!is_error(h, icmp[0]))
        return PACKET_OK;
    p->is_icmp_error = 1;
    return parse_quoted(p, p->payload, h->end);
}

static enum packet_fault parse_l4(struct packet *p, const struct l3 *h)
{
    p->payload = (uint16_t)h->l4;
    if (h->later)
        return PACKET_OK;
    if (h->proto == PROTO_TCP)
        return parse_tcp(p, h);
    if (h->proto == PROTO_UDP)
        return parse_udp(p, h);
    if (is_icmp(h))
        return parse_icmp(p, h);
    return PACKET_OK;
}

/* --- layer 3 --------------------------------------------------------------- */

/* A packet longer than what is there was cut on its way to us: if it is longer
 * than any Ethernet frame it is a segmentation-offload super-packet. */
static enum packet_fault cut_short(uint32_t total)
{
    return total > ETHERNET_MTU ? PACKET_SUPER : PACKET_TRUNCATED;
}

/* Options are not interpreted, but each must end inside the header. */
static bool options_bounded(const uint8_t *option, uint32_t len)
{
    while (len) {
        if (option[0] == IPOPT_END)
            return true;
        uint32_t one = option[0] == IPOPT_NOP ? 1 : len < 2 ? 0 : option[1];
        if (one == 0 || one > len || (one == 1 && option[0] != IPOPT_NOP))
            return false;
        option += one;
        len -= one;
    }
    return true;
}

static enum packet_fault check_fragment(const struct l3 *h, uint32_t field, uint32_t body)
{
    uint32_t offset = (field & IP4_OFFSET) * 8;

    if (offset + body > 65535)
        return PACKET_BAD_LENGTH;
    if ((field & IP4_MORE) && body % 8)
        return PACKET_BAD_LENGTH;
    if (h->proto == PROTO_TCP && offset == 8)
        return PACKET_BAD_HEADER;
    return PACKET_OK;
}

static enum packet_fault parse_ipv4(const struct packet *p, uint32_t at, uint32_t end, bool quoted,
                                    struct packet_tuple *tuple, struct l3 *h)
{
    const uint8_t *ip = p->data + at;
    uint32_t there = end - at, header, total, field;
    uint32_t src, dst;

    if (there < IP4_HEADER)
        return PACKET_TRUNCATED;
    header = (ip[0] & 15) * 4u;
    if (ip[0] >> 4 != 4 || header < IP4_HEADER)
        return PACKET_BAD_HEADER;
    if (header > there)
        return PACKET_TRUNCATED;
    total = load16(ip + 2);
    if (total < header)
        return PACKET_BAD_LENGTH;
    if (!quoted && total > there)
        return cut_short(total);
    if (!quoted && checksum_fold(checksum_add(0, ip, header)) != 0)
        return PACKET_BAD_CHECKSUM;
    if (!options_bounded(ip + IP4_HEADER, header - IP4_HEADER))
        return PACKET_BAD_HEADER;

    field = load16(ip + 6);
    h->proto = tuple->proto = ip[9];
    h->ipv6 = 0;
    h->l4 = at + header;
    h->end = at + (total < there ? total : there);
    h->later = (field & IP4_OFFSET) != 0;
    h->fragment = h->later || (field & IP4_MORE);
    memcpy(&src, ip + IP4_SRC, 4);
    memcpy(&dst, ip + IP4_DST, 4);
    tuple->src = packet_ipv4(src);
    tuple->dst = packet_ipv4(dst);
    return h->fragment && !quoted ? check_fragment(h, field, total - header) : PACKET_OK;
}

/* IPv6 is recognised, not followed: behind an extension header there are no
 * ports to see, and a fragment header marks a fragment. */
static enum packet_fault parse_ipv6(const struct packet *p, uint32_t at, uint32_t end, bool quoted,
                                    struct packet_tuple *tuple, struct l3 *h)
{
    const uint8_t *ip = p->data + at;
    uint32_t there = end - at, total;

    if (there < IP6_HEADER)
        return PACKET_TRUNCATED;
    if (ip[0] >> 4 != 6)
        return PACKET_BAD_HEADER;
    total = IP6_HEADER + load16(ip + 4);
    if (total > 65535)
        return PACKET_BAD_LENGTH;
    if (!quoted && total > there)
        return cut_short(total);
    h->proto = tuple->proto = ip[6];
    h->ipv6 = 1;
    h->l4 = at + IP6_HEADER;
    h->end = at + (total < there ? total : there);
    h->fragment = h->later = ip[6] == PROTO_IP6_FRAGMENT;
    memcpy(tuple->src.b, ip + IP6_SRC, 16);
    memcpy(tuple->dst.b, ip + IP6_DST, 16);
    return PACKET_OK;
}

static enum packet_fault parse_l3(const struct packet *p, uint32_t at, uint32_t end, bool quoted,
                                  struct packet_tuple *tuple, struct l3 *h)
{
    if (p->is_ipv6)
        return parse_ipv6(p, at, end, quoted, tuple, h);
    return parse_ipv4(p, at, end, quoted, tuple, h);
}

enum packet_fault packet_parse(struct packet *p, uint8_t *data, uint32_t len, uint32_t room,
                               enum packet_side side)
{
    struct l3 h;
    enum packet_fault fault;
    uint32_t type;

    assert(len <= room);
    memset(p, 0, sizeof *p);
    p->data = data;
    p->len = len;
    p->room = room;
    p->side = (uint8_t)side;
    if (len < ETHERNET_HEADER)
        return PACKET_TRUNCATED;
    type = load16(data + 12);
    if (type != ETHERTYPE_IP4 && type != ETHERTYPE_IP6)
        return PACKET_NOT_IP;
    p->is_ipv6 = type == ETHERTYPE_IP6;
    p->l3 = ETHERNET_HEADER;
    fault = parse_l3(p, ETHERNET_HEADER, len, false, &p->tuple, &h);
    if (fault != PACKET_OK)
        return fault;
    p->l4 = (uint16_t)h.l4;
    p->l3_len = (uint16_t)(h.end - p->l3);
    p->is_fragment = h.fragment;
    p->is_later_fragment = h.later;
    return parse_l4(p, &h);
}

/* --- hash ------------------------------------------------------------------ */

/* 64 x 64 -> 128 bit multiplication, folded: every input bit reaches every
 * output bit. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint64_t hash_end_point(const struct packet_addr *a, uint16_t port)
{
    uint64_t high, low;

    memcpy(&high, a->b, 8);
    memcpy(&low, a->b + 8, 8);
    return mix(high ^ 0xa0761d6478bd642full ^ port, low ^ 0xe7037ed1a0b428dbull);
}

uint64_t packet_symmetric_hash(const struct packet *p)
{
    const struct packet_tuple *t = p->is_icmp_error ? &p->inner : &p->tuple;
    bool ports = !p->is_fragment || p->is_icmp_error;
    uint64_t a = hash_end_point(&t->src, ports ? t->src_port : 0);
    uint64_t b = hash_end_point(&t->dst, ports ? t->dst_port : 0);
    uint64_t low = a < b ? a : b, high = a < b ? b : a;

    return mix(mix(low ^ 0x8ebc6af09c88c6e3ull, high ^ 0x589965cc75374cc3ull) ^ t->proto,
               0x1d8e4e27c47d124full);
}
