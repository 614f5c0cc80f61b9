/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packet -> what has to be done with it, from the packet and the configuration
 * alone. lookup and process both start here, so that they always agree.
 */
#include <string.h>

#include "nat44.h"

static struct nat_packet drop(enum nat_drop reason)
{
    return (struct nat_packet){.what = NAT_DROP_IT, .reason = reason};
}

static bool proto_of(uint8_t ip_proto, enum nat_proto *proto)
{
    switch (ip_proto) {
    case PROTO_TCP:
        *proto = NAT_TCP;
        return true;
    case PROTO_UDP:
        *proto = NAT_UDP;
        return true;
    case PROTO_ICMP4:
        *proto = NAT_ICMP;
        return true;
    default:
        return false;
    }
}

static struct nat_end_point end_point(const struct packet_addr *addr, uint16_t port, uint8_t proto)
{
    return (struct nat_end_point){.addr = *addr, .port = port, .proto = proto};
}

static bool same_addr(const struct packet_addr *a, const struct packet_addr *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static uint8_t icmp_type(const struct packet *p)
{
    return p->data[p->l4];
}

static bool is_echo_request(const struct packet *p)
{
    return p->tuple.proto == PROTO_ICMP4 && !p->is_fragment && p->has_l4 &&
           icmp_type(p) == ICMP4_ECHO_REQUEST;
}

/*
 * An ICMP error (RFC 5508 4). One from the outside quotes a packet that we
 * sent: its source is an external end point. One from the inside quotes a
 * packet that we let in: its destination is an internal end point; and if that
 * had been hairpinned, its source is external and the error goes back inside.
 */
static struct nat_packet classify_error(const struct nat_self *self, const struct packet *p)
{
    struct nat_packet w = {.what = NAT_FORWARD};
    uint8_t type = icmp_type(p);

    if (type != ICMP4_UNREACHABLE && type != ICMP4_TIME_EXCEEDED && type != ICMP4_PARAMETER_PROBLEM)
        return drop(NAT_DROP_ICMP_TYPE);
    if (!packet_icmp_error_intact(p) || !p->inner_has_l4 || !proto_of(p->inner.proto, &w.proto))
        return drop(NAT_DROP_BAD_ERROR);
    w.out = p->side == SIDE_INSIDE;
    w.in = nat_external_number(self, &p->tuple.dst) >= 0;
    if (w.out) {
        if (!nat_is_inside(self, &p->inner.dst))
            return drop(NAT_DROP_NO_MAPPING);
        w.inside = end_point(&p->inner.dst, p->inner.dst_port, p->inner.proto);
    }
    if (w.in && (!same_addr(&p->inner.src, &p->tuple.dst) ||
                 !nat_index_of(self, &p->inner.src, p->inner.src_port, &w.index)))
        return drop(NAT_DROP_NO_MAPPING);
    return w;
}

static struct nat_packet classify_flow(const struct nat_self *self, const struct packet *p)
{
    struct nat_packet w = {.what = NAT_FORWARD, .remember = p->is_fragment};
    bool from_inside = p->side == SIDE_INSIDE;

    if (!proto_of(p->tuple.proto, &w.proto)) {
        w.what = from_inside ? NAT_PROHIBITED : NAT_DROP_IT;
        w.reason = NAT_DROP_PROTOCOL;
        return w;
    }
    if (w.proto == NAT_ICMP) {
        uint8_t wanted = from_inside ? ICMP4_ECHO_REQUEST : ICMP4_ECHO_REPLY;
        if (!p->has_l4 || icmp_type(p) != wanted)
            return drop(NAT_DROP_ICMP_TYPE);
    }
    w.out = from_inside;
    w.in = nat_external_number(self, &p->tuple.dst) >= 0;
    if (w.out)
        w.inside = end_point(&p->tuple.src, p->tuple.src_port, p->tuple.proto);
    if (w.in && w.out && w.proto == NAT_ICMP) /* a ping of ours, in fragments */
        return drop(NAT_DROP_ICMP_TYPE);
    if (w.in && !nat_index_of(self, &p->tuple.dst, p->tuple.dst_port, &w.index))
        return drop(NAT_DROP_NO_MAPPING);
    return w;
}

/* Whether the source can be on the side that the packet came from. */
static bool source_fits(const struct nat_self *self, const struct packet *p)
{
    const struct packet_addr *src = &p->tuple.src;

    if (p->side == SIDE_INSIDE)
        return nat_is_inside(self, src);
    return nat_is_unicast(src) && !nat_is_inside(self, src) && nat_external_number(self, src) < 0;
}

/* Whether we are the way to the destination. */
static bool destination_fits(const struct nat_self *self, const struct packet *p)
{
    const struct packet_addr *dst = &p->tuple.dst;

    if (nat_external_number(self, dst) >= 0)
        return true;
    return p->side == SIDE_INSIDE && nat_is_unicast(dst) && !nat_is_inside(self, dst);
}

static bool is_own(const struct nat_self *self, const struct packet *p)
{
    return same_addr(&p->tuple.dst, &self->own[p->side]) ||
           nat_external_number(self, &p->tuple.dst) >= 0;
}

struct nat_packet nat_classify(const struct nat_self *self, const struct packet *p)
{
    if (!source_fits(self, p))
        return drop(NAT_DROP_MARTIAN);
    if (is_echo_request(p) && is_own(self, p))
        return (struct nat_packet){.what = NAT_ECHO};
    if (!destination_fits(self, p))
        return drop(NAT_DROP_NOT_FOR_US);
    if (p->data[p->l3 + IP4_TTL] <= 1)
        return (struct nat_packet){.what = NAT_TTL_EXPIRED};
    if (p->is_later_fragment)
        return (struct nat_packet){.what = NAT_LATER_FRAGMENT};
    if (p->is_icmp_error)
        return classify_error(self, p);
    return classify_flow(self, p);
}
