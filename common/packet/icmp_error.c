/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ICMP errors: making one out of the packet it is about, and checking one
 * before anybody believes what it quotes. IPv4; RFC 792, 1122 3.2.2, 1812 4.3.
 */
#include "packet.h"

#include <string.h>

#include "packet_fields.h"

enum {
    ERROR_BYTES_MAX = 576, /* RFC 1812 4.3.2.3: of the whole ICMP datagram */
    ERROR_TTL = 64,
    ERROR_TOS = 0xc0, /* RFC 1812 4.3.2.5: precedence 6, internetwork control */
};

/* RFC 1122 3.2.2: a source that does not define a single host. */
static bool is_single_host(uint32_t host_order)
{
    uint32_t first = host_order >> 24;

    return first != 0 && first != 127 && first < 224;
}

/* Whether an error about this packet may be sent at all. */
static bool may_answer(const struct packet *p)
{
    uint32_t src = __builtin_bswap32(packet_ipv4_of(&p->tuple.src));
    uint32_t dst = __builtin_bswap32(packet_ipv4_of(&p->tuple.dst));

    if (p->is_ipv6 || p->is_icmp_error || p->is_later_fragment)
        return false;
    if (p->data[0] & 1) /* sent to a link-layer group */
        return false;
    return is_single_host(src) && dst >> 24 < 224; /* no multicast, no broadcast */
}

static void write_ip(uint8_t *ip, uint32_t total, const struct packet_addr *from, uint32_t to)
{
    uint32_t src = packet_ipv4_of(from);
    uint16_t sum;

    memset(ip, 0, IP4_HEADER);
    ip[0] = 0x45;
    ip[1] = ERROR_TOS;
    store16(ip + 2, (uint16_t)total);
    store16(ip + 6, IP4_DF); /* an atomic datagram: its id may be anything, RFC 6864 */
    ip[IP4_TTL] = ERROR_TTL;
    ip[IP4_TTL + 1] = PROTO_ICMP4;
    memcpy(ip + IP4_SRC, &src, 4);
    memcpy(ip + IP4_DST, &to, 4);
    sum = checksum_fold(checksum_add(0, ip, IP4_HEADER));
    memcpy(ip + IP4_CHECKSUM, &sum, 2);
}

bool packet_make_icmp_error(struct packet *p, uint8_t type, uint8_t code, uint32_t rest,
                            const struct packet_addr *from)
{
    const uint32_t front = ETHERNET_HEADER + IP4_HEADER + ICMP_HEADER;
    uint32_t quote = p->l3_len, least = (uint32_t)(p->l4 - p->l3) + 8;
    uint32_t to = packet_ipv4_of(&p->tuple.src);
    uint8_t *icmp = p->data + ETHERNET_HEADER + IP4_HEADER;
    uint16_t sum;

    if (!may_answer(p))
        return false;
    if (quote > ERROR_BYTES_MAX - IP4_HEADER - ICMP_HEADER)
        quote = ERROR_BYTES_MAX - IP4_HEADER - ICMP_HEADER;
    if (least > quote)
        least = quote; /* a packet of less than eight bytes of payload */
    if (p->room < front + least)
        return false;
    if (quote > p->room - front)
        quote = p->room - front;

    memmove(p->data + front, p->data + p->l3, quote);
    icmp[0] = type;
    icmp[1] = code;
    memset(icmp + ICMP_CHECKSUM, 0, 2);
    store16(icmp + 4, (uint16_t)(rest >> 16));
    store16(icmp + 6, (uint16_t)rest);
    sum = checksum_fold(checksum_add(0, icmp, ICMP_HEADER + quote));
    memcpy(icmp + ICMP_CHECKSUM, &sum, 2);
    write_ip(p->data + ETHERNET_HEADER, IP4_HEADER + ICMP_HEADER + quote, from, to);
    packet_swap_ethernet(p);
    return packet_parse(p, p->data, front + quote, p->room, p->side) == PACKET_OK;
}

bool packet_icmp_error_intact(const struct packet *p)
{
    const uint8_t *inner = p->data + p->inner_l3;
    uint32_t icmp_len = p->l3_len - (uint32_t)(p->l4 - p->l3);

    if (!p->is_icmp_error || p->is_ipv6 || p->is_fragment)
        return false;
    return checksum_fold(checksum_add(0, p->data + p->l4, icmp_len)) == 0 &&
           checksum_fold(checksum_add(0, inner, (uint32_t)(p->inner_l4 - p->inner_l3))) == 0;
}
