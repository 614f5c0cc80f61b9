/* SPDX-License-Identifier: BSD-3-Clause */
/* See echo.h. Offsets are of RFC 791's and RFC 792's fields. */
#include "steering/echo.h"

#include <string.h>

enum { IP_TTL = 8, IP_CHECKSUM = 10, IP_SRC = 12, IP_DST = 16, IP_BYTES = 20,
       ICMP_TYPE = 0, ICMP_CODE = 1, ICMP_CHECKSUM = 2, ICMP_BYTES = 8,
       PROTO_ICMP = 1, TYPE_ECHO = 8, TYPE_ECHO_REPLY = 0 };

bool echo_is_request(const struct packet *p, uint32_t address)
{
    const uint8_t *ip = p->data + p->l3, *icmp = p->data + p->l4;
    return !p->is_ipv6 && !p->is_fragment && p->has_l4 && p->tuple.proto == PROTO_ICMP &&
           p->l4 - p->l3 == IP_BYTES && p->l3_len >= IP_BYTES + ICMP_BYTES &&
           memcmp(ip + IP_DST, &address, 4) == 0 && icmp[ICMP_TYPE] == TYPE_ECHO && icmp[ICMP_CODE] == 0;
}

/* Sets a byte at an even place, and the checksum at `checksum` of what holds it. */
static void set_byte(uint8_t *at, uint8_t value, uint8_t *checksum)
{
    const uint8_t to[2] = {value, at[1]};
    uint16_t sum;
    memcpy(&sum, checksum, 2);
    sum = checksum_update(sum, at, to, 2);
    memcpy(checksum, &sum, 2);
    *at = value;
}

bool echo_reply(struct packet *p)
{
    uint8_t *ip = p->data + p->l3, *icmp = p->data + p->l4, src[4];
    if (checksum_fold(checksum_add(0, icmp, p->l3_len - IP_BYTES)) != 0)
        return false;
    packet_swap_ethernet(p);
    memcpy(src, ip + IP_SRC, 4);
    memcpy(ip + IP_SRC, ip + IP_DST, 4); /* no checksum changes by this */
    memcpy(ip + IP_DST, src, 4);
    set_byte(ip + IP_TTL, ECHO_TTL, ip + IP_CHECKSUM);
    set_byte(icmp + ICMP_TYPE, TYPE_ECHO_REPLY, icmp + ICMP_CHECKSUM);
    return true;
}
