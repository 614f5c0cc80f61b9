/* SPDX-License-Identifier: BSD-3-Clause */
/* VXLAN over IPv4. See vxlan.h; formats: RFC 791, 768, 7348 section 5. */
#include "common/packet/vxlan.h"

#include <string.h>

#include "common/packet/packet.h"
#include "common/packet/packet_fields.h"

enum {
    VXLAN_HEADER = 8,
    VXLAN_FLAG_I = 0x08,
    IP_AT = ETHERNET_HEADER,
    UDP_AT = IP_AT + IP4_HEADER,
    VXLAN_AT = UDP_AT + UDP_HEADER,
    TTL = 64,
};
_Static_assert(VXLAN_AT + VXLAN_HEADER == VXLAN_OVERHEAD, "the outer headers");

const char *vxlan_fault_text(enum vxlan_fault f)
{
    static const char *const texts[] = {
#define X(name, text) [name] = text,
        VXLAN_FAULTS(X)
#undef X
    };
    return texts[f];
}

/* --- reading -------------------------------------------------------------------- */

/* The IP header and its length; *ip_end: where the datagram ends. */
static enum vxlan_fault parse_ip(const uint8_t *frame, uint32_t len, uint32_t *l4, uint32_t *ip_end)
{
    const uint8_t *ip = frame + IP_AT;
    if (len < IP_AT + 1 || load16(frame + 12) != ETHERTYPE_IP4)
        return VXLAN_OTHER;
    if (len < UDP_AT)
        return VXLAN_TRUNCATED;
    if (ip[IP4_TTL + 1] != PROTO_UDP)
        return VXLAN_OTHER;
    uint32_t header = (ip[0] & 15) * 4u, total = load16(ip + 2);
    if (ip[0] >> 4 != 4 || header < IP4_HEADER || total < header || IP_AT + header > len)
        return VXLAN_BAD_OUTER;
    if (checksum_fold(checksum_add(0, ip, header)) != 0)
        return VXLAN_BAD_OUTER;
    *l4 = IP_AT + header;
    *ip_end = IP_AT + total;
    if (load16(ip + 6) & (IP4_MORE | IP4_OFFSET))
        return VXLAN_FRAGMENT;
    return *ip_end > len ? VXLAN_TRUNCATED : VXLAN_OK;
}

enum vxlan_fault vxlan_parse(const uint8_t *frame, uint32_t len, uint16_t udp_port,
                             struct vxlan_outer *o)
{
    uint32_t l4 = 0, end = 0;
    enum vxlan_fault fault = parse_ip(frame, len, &l4, &end);
    if (fault != VXLAN_OK)
        return fault;
    const uint8_t *udp = frame + l4, *vxlan = udp + UDP_HEADER;
    if (end < l4 + UDP_HEADER)
        return VXLAN_TRUNCATED;
    if (load16(udp + 2) != udp_port)
        return VXLAN_OTHER;
    uint32_t udp_len = load16(udp + 4);
    if (l4 + udp_len > end)
        return VXLAN_BAD_OUTER;
    if (udp_len < UDP_HEADER + VXLAN_HEADER + ETHERNET_HEADER)
        return VXLAN_TRUNCATED;
    if (!(vxlan[0] & VXLAN_FLAG_I))
        return VXLAN_BAD_HEADER;
    memcpy(&o->src, frame + IP_AT + IP4_SRC, 4);
    memcpy(&o->dst, frame + IP_AT + IP4_DST, 4);
    o->src_port = load16(udp);
    o->vni = (uint32_t)vxlan[4] << 16 | (uint32_t)vxlan[5] << 8 | vxlan[6];
    o->inner = l4 + UDP_HEADER + VXLAN_HEADER;
    o->inner_len = udp_len - UDP_HEADER - VXLAN_HEADER;
    return VXLAN_OK;
}

/* --- writing -------------------------------------------------------------------- */

void vxlan_path_set(struct vxlan_path *p, const uint8_t dst_mac[6], const uint8_t src_mac[6],
                    uint32_t src, uint32_t dst, uint16_t udp_port)
{
    uint8_t *ip = p->header + IP_AT, *udp = p->header + UDP_AT;
    memset(p, 0, sizeof(*p));
    memcpy(p->header, dst_mac, 6);
    memcpy(p->header + 6, src_mac, 6);
    store16(p->header + 12, ETHERTYPE_IP4);
    ip[0] = 0x45;
    store16(ip + 6, IP4_DF);
    ip[IP4_TTL] = TTL;
    ip[IP4_TTL + 1] = PROTO_UDP;
    memcpy(ip + IP4_SRC, &src, 4);
    memcpy(ip + IP4_DST, &dst, 4);
    p->sum = checksum_add(0, ip, IP4_HEADER);
    store16(udp + 2, udp_port);
}

void vxlan_write_header(uint8_t *header, uint32_t vni)
{
    memset(header, 0, VXLAN_HEADER);
    header[0] = VXLAN_FLAG_I;
    header[4] = (uint8_t)(vni >> 16);
    header[5] = (uint8_t)(vni >> 8);
    header[6] = (uint8_t)vni;
}

void vxlan_write(uint8_t *outer, const struct vxlan_path *p, uint32_t vni, uint32_t inner_len,
                 uint16_t src_port)
{
    uint8_t *ip = outer + IP_AT, *udp = outer + UDP_AT;
    uint32_t udp_len = UDP_HEADER + VXLAN_HEADER + inner_len;
    memcpy(outer, p->header, VXLAN_AT);
    store16(ip + 2, (uint16_t)(IP4_HEADER + udp_len));
    uint16_t sum = checksum_fold(checksum_add(p->sum, ip + 2, 2));
    memcpy(ip + IP4_CHECKSUM, &sum, 2);
    store16(udp, src_port);
    store16(udp + 4, (uint16_t)udp_len);
    vxlan_write_header(outer + VXLAN_AT, vni);
}
