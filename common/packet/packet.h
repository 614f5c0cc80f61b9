/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A packet as steering and network functions see it: one contiguous buffer and
 * where its headers are. Knows nothing of DPDK; the runtime points it at an
 * mbuf's data, a test at an array.
 *
 * packet_parse is the edge: it validates once (lengths, IHL, header checksum,
 * total length, fragments, options bounded) and afterwards every offset here
 * may be used without a check. Nothing beyond `len` is ever read; nothing
 * beyond `room` is ever written.
 *
 * Sources: RFC 791, 792, 768, 9293 (formats), RFC 1624 (incremental checksum).
 */
#ifndef LETHE_PACKET_H
#define LETHE_PACKET_H

#include <stdbool.h>
#include <stdint.h>

enum packet_side { SIDE_INSIDE = 0, SIDE_OUTSIDE = 1 };

/* Addresses have room for IPv6 from day one: IPv4 is ::ffff:a.b.c.d. */
struct packet_addr { uint8_t b[16]; };

struct packet_tuple {          /* 40 bytes, no padding, usable as a key */
    struct packet_addr src, dst;
    uint16_t src_port, dst_port; /* network order; ICMP echo: both the identifier */
    uint8_t proto, zero[3];
};

#define PACKET_FAULTS(X)                                                       \
    X(PACKET_OK, "ok")                                                         \
    X(PACKET_TRUNCATED, "truncated")                                           \
    X(PACKET_NOT_IP, "not_ip")                                                 \
    X(PACKET_BAD_HEADER, "bad_header")                                         \
    X(PACKET_BAD_CHECKSUM, "bad_ip_checksum")                                  \
    X(PACKET_BAD_LENGTH, "bad_length")                                         \
    X(PACKET_SUPER, "oversized")
enum packet_fault {
#define X(name, text) name,
    PACKET_FAULTS(X)
#undef X
        PACKET_FAULT_END
};
const char *packet_fault_text(enum packet_fault f);

struct packet {
    uint8_t *data;             /* Ethernet header first */
    uint32_t len, room;        /* bytes in use; bytes that may be used */
    uint8_t side;              /* enum packet_side it came in by */
    uint8_t is_ipv6, is_fragment, is_later_fragment, is_icmp_error;
    uint8_t has_l4;            /* an L4 header with ports or an echo id is there */
    uint16_t l3, l4, payload;  /* offsets from data */
    uint16_t l3_len;           /* IPv4 total length */
    struct packet_tuple tuple; /* ports 0 where !has_l4 */
    /* ICMP errors: the quoted packet (may be cut short after 8 bytes of L4) */
    uint16_t inner_l3, inner_l4;
    struct packet_tuple inner;
    uint8_t inner_has_l4, inner_has_checksum; /* quoted L4 checksum is inside */
};

/* Parses len bytes at data. On a fault the tuple may be partly filled. ARP and
 * other ethertypes are PACKET_NOT_IP. */
enum packet_fault packet_parse(struct packet *p, uint8_t *data, uint32_t len, uint32_t room,
                               enum packet_side side);

/* Equal for both directions of a flow. ICMP errors hash as the packet they
 * quote; fragments hash by (addresses, protocol) so that all of a datagram's
 * meet. */
uint64_t packet_symmetric_hash(const struct packet *p);

static inline struct packet_addr packet_ipv4(uint32_t network_order)
{
    struct packet_addr a = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0}};
    __builtin_memcpy(a.b + 12, &network_order, 4);
    return a;
}
static inline uint32_t packet_ipv4_of(const struct packet_addr *a) /* network order */
{
    uint32_t v;
    __builtin_memcpy(&v, a->b + 12, 4);
    return v;
}

/* --- rewriting (all keep IP, TCP, UDP, ICMP checksums right incrementally; a
 * wrong checksum stays exactly as wrong; UDP checksum 0 stays 0) ------------- */

void packet_set_src(struct packet *p, const struct packet_addr *addr, uint16_t port);
void packet_set_dst(struct packet *p, const struct packet_addr *addr, uint16_t port);
/* The packet quoted by an ICMP error, its own checksums and the outer ICMP's. */
void packet_set_inner_src(struct packet *p, const struct packet_addr *addr, uint16_t port);
void packet_set_inner_dst(struct packet *p, const struct packet_addr *addr, uint16_t port);
/* TTL - 1. False: it was <= 1 and nothing changed. */
bool packet_decrement_ttl(struct packet *p);
/* Turns the packet into an ICMP error about itself, from `from` to its source
 * (`rest`: bytes 4..7 of the ICMP header as a number, a next-hop MTU for one),
 * quoting as much as 576 bytes allow (RFC 1812 4.3.2.3), Ethernet addresses
 * swapped. False (drop it): about an ICMP error, a later fragment, a multicast
 * or broadcast (RFC 1122 3.2.2), or no room. */
bool packet_make_icmp_error(struct packet *p, uint8_t type, uint8_t code, uint32_t rest,
                            const struct packet_addr *from);
/* An ICMP error that may be believed (RFC 5508 REQ-3): IPv4, whole, its own
 * checksum right and that of the quoted IP header too. */
bool packet_icmp_error_intact(const struct packet *p);
/* Source and destination of the Ethernet header, for a packet turned round. */
void packet_swap_ethernet(struct packet *p);

/* The Internet checksum (RFC 1071), over words as they lie in memory: store
 * and load it raw, never swapped. fold gives the complement, what goes into a
 * header; 0 over bytes that contain a right checksum. add may be chained while
 * all parts but the last are of even length, 128 KiB in all. */
uint16_t checksum_fold(uint32_t sum);
uint32_t checksum_add(uint32_t sum, const void *data, uint32_t len);
/* HC' = ~(~HC + ~m + m'), RFC 1624 eqn 3, over `len` bytes (even). */
uint16_t checksum_update(uint16_t checksum, const void *old_bytes, const void *new_bytes,
                         uint32_t len);

#endif
