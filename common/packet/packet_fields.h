/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Numbers of the protocols that common/packet and the network functions read
 * and write: offsets in headers, types, lengths. Bytes; offsets from the start
 * of the header named.
 */
#ifndef LETHE_PACKET_FIELDS_H
#define LETHE_PACKET_FIELDS_H

#include <stdint.h>

enum {
    ETHERNET_HEADER = 14,
    ETHERNET_MTU = 1500,
    ETHERTYPE_IP4 = 0x0800,
    ETHERTYPE_IP6 = 0x86dd,

    IP4_HEADER = 20, /* without options */
    IP4_TTL = 8,     /* and the protocol behind it: one checksum word */
    IP4_CHECKSUM = 10,
    IP4_SRC = 12,
    IP4_DST = 16,
    IP4_DF = 0x4000, /* in the fragment field at 6 */
    IP4_MORE = 0x2000,
    IP4_OFFSET = 0x1fff,
    IPOPT_END = 0,
    IPOPT_NOP = 1,

    IP6_HEADER = 40,
    IP6_HOP_LIMIT = 7,
    IP6_SRC = 8,
    IP6_DST = 24,

    PROTO_ICMP4 = 1,
    PROTO_TCP = 6,
    PROTO_UDP = 17,
    PROTO_IP6_FRAGMENT = 44,
    PROTO_ICMP6 = 58,

    TCP_HEADER = 20, /* without options */
    TCP_FLAGS = 13,
    TCP_CHECKSUM = 16,
    TCP_FIN = 1,
    TCP_SYN = 2,
    TCP_RST = 4,
    TCP_ACK = 16,

    UDP_HEADER = 8,
    UDP_CHECKSUM = 6,

    ICMP_HEADER = 8,
    ICMP_CHECKSUM = 2,
    ICMP_ID = 4, /* of an echo */
    ICMP4_ECHO_REPLY = 0,
    ICMP4_UNREACHABLE = 3,
    ICMP4_SOURCE_QUENCH = 4,
    ICMP4_REDIRECT = 5,
    ICMP4_ECHO_REQUEST = 8,
    ICMP4_TIME_EXCEEDED = 11,
    ICMP4_PARAMETER_PROBLEM = 12,
    ICMP6_ECHO_REQUEST = 128,
    ICMP6_ECHO_REPLY = 129,
};

static inline uint16_t load16(const uint8_t *at) /* network order */
{
    return (uint16_t)(at[0] << 8 | at[1]);
}
static inline void store16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

#endif
