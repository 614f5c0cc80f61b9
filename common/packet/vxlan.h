/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VXLAN over IPv4 (RFC 7348): how a frame crosses routers between steering and
 * a worker. Pure: bytes in, bytes out; any thread.
 *
 *   [Ethernet 14][IPv4 20][UDP 8][VXLAN 8] [inner Ethernet frame ...]
 *    `------------ VXLAN_OVERHEAD --------´
 *
 * Written: no IP options, DF, TTL 64, identification 0 (an atomic datagram, RFC
 * 6864), UDP checksum 0 (section 5 of RFC 7348), the UDP source port from the
 * dynamic range as the routers' entropy.
 * Read: everything is checked once, here. IP options are stepped over, a UDP
 * checksum is not looked at (the RFC allows it), reserved VXLAN bits are
 * ignored but for the I flag, which must be set. Fragments are refused:
 * whoever sends them has another idea of the path's MTU.
 */
#ifndef LETHE_PACKET_VXLAN_H
#define LETHE_PACKET_VXLAN_H

#include <stdbool.h>
#include <stdint.h>

enum {
    VXLAN_OVERHEAD = 50,       /* in front of the inner frame; and, as the inner Ethernet header
                                * takes the outer one's place, MTU minus the inner IP packet */
    VXLAN_PORT = 4789,
    VXLAN_VNI_MAX = 0xffffff,
    VXLAN_ENTROPY_FIRST = 0xc000, /* RFC 6335: dynamic ports begin at 49152 */
};

#define VXLAN_FAULTS(X)                                                        \
    X(VXLAN_OK, "ok")                                                          \
    X(VXLAN_OTHER, "other")            /* not IPv4, UDP and our port: the kernel's */ \
    X(VXLAN_TRUNCATED, "truncated")                                            \
    X(VXLAN_BAD_OUTER, "bad_outer")    /* IP header, its checksum, a length */ \
    X(VXLAN_FRAGMENT, "fragment")                                              \
    X(VXLAN_BAD_HEADER, "bad_header")  /* no VNI in it */
enum vxlan_fault {
#define X(name, text) name,
    VXLAN_FAULTS(X)
#undef X
        VXLAN_FAULT_END
};
const char *vxlan_fault_text(enum vxlan_fault f);

struct vxlan_outer {
    uint32_t src, dst;         /* network order */
    uint16_t src_port;         /* host order */
    uint32_t vni;
    uint32_t inner, inner_len; /* of the inner frame: offset, bytes (an Ethernet header at least) */
};

/* Reads a whole frame of `len` bytes. VXLAN_OTHER is no fault of anybody's. */
enum vxlan_fault vxlan_parse(const uint8_t *frame, uint32_t len, uint16_t udp_port,
                             struct vxlan_outer *o);

/* The way from one host to another: everything but VNI, length and entropy. */
struct vxlan_path {
    uint8_t header[VXLAN_OVERHEAD];
    uint32_t sum;              /* of the IP header, its length left out */
};
/* Addresses in network order. */
void vxlan_path_set(struct vxlan_path *p, const uint8_t dst_mac[6], const uint8_t src_mac[6],
                    uint32_t src, uint32_t dst, uint16_t udp_port);
/* Writes the VXLAN_OVERHEAD bytes at `outer`, which the inner frame stands behind. */
void vxlan_write(uint8_t *outer, const struct vxlan_path *p, uint32_t vni, uint32_t inner_len,
                 uint16_t src_port);
/* The VXLAN header alone, 8 bytes: for what a UDP socket sends. */
void vxlan_write_header(uint8_t *header, uint32_t vni);

/* A source port out of a flow's hash. */
static inline uint16_t vxlan_entropy(uint32_t hash)
{
    return (uint16_t)(VXLAN_ENTROPY_FIRST | ((hash ^ hash >> 16) & 0x3fff));
}

#endif
