/* SPDX-License-Identifier: BSD-3-Clause */
/* Makes the packets of the NAT bench; see nat_flows.h. */
#include "bench/nat_flows.h"

#include <arpa/inet.h>
#include <string.h>

#include "common/packet/packet.h"

enum { IP = 14, UDP = 34, IP_BYTES = 46, UDP_BYTES = 26 };
static const uint32_t remote = 0xC6336401u; /* 198.51.100.1 */

static void put16(uint8_t *at, uint16_t host_order)
{
    uint16_t v = htons(host_order);
    memcpy(at, &v, 2);
}

static void put32(uint8_t *at, uint32_t host_order)
{
    uint32_t v = htonl(host_order);
    memcpy(at, &v, 4);
}

static uint32_t halves(uint32_t v)
{
    return (v >> 16) + (v & 0xffff);
}

static uint16_t fold(uint32_t sum)
{
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint16_t)~((sum >> 16) + sum);
}

static void make(uint8_t *f, uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport)
{
    static const uint8_t head[IP + 12] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0,
                                          0x45, 0, 0, IP_BYTES, 0, 0, 0x40, 0, 64, 17, 0, 0};
    memset(f, 0, FLOW_FRAME_BYTES);
    memcpy(f, head, sizeof head);
    put32(f + IP + 12, src);
    put32(f + IP + 16, dst);
    put16(f + UDP, sport);
    put16(f + UDP + 2, dport);
    put16(f + UDP + 4, UDP_BYTES);
    uint32_t ends = halves(src) + halves(dst);
    put16(f + IP + 10, fold(0x4500 + IP_BYTES + 0x4000 + 0x4011 + ends));
    put16(f + UDP + 6, fold(ends + 17u + 2u * UDP_BYTES + sport + dport));
}

void flow_frame_out(uint8_t *frame, uint32_t n)
{
    make(frame, 0x0A000000u + 256 + n / FLOW_HOST_PORTS,
         (uint16_t)(10000 + n % FLOW_HOST_PORTS * 7), remote, 53);
}

void flow_frame_in(uint8_t *frame, struct flow_outer outer)
{
    make(frame, remote, 53, ntohl(outer.addr), ntohs(outer.port));
}

struct flow_outer flow_source(const uint8_t *frame)
{
    struct flow_outer o;
    memcpy(&o.addr, frame + IP + 12, 4);
    memcpy(&o.port, frame + UDP, 2);
    return o;
}
