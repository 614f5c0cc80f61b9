/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * External addresses and the pool indexes that stand for them:
 *
 *     index = number of the address * 64512 + port - 1024
 *
 * The number is the address's place in the configuration, so all workers of a
 * site must have the same list; config.c puts it into the pools' schema.
 */
#include "nat44.h"

static uint32_t host_order(const struct packet_addr *addr)
{
    return __builtin_bswap32(packet_ipv4_of(addr));
}

int nat_external_number(const struct nat_self *self, const struct packet_addr *addr)
{
    uint32_t a = host_order(addr);

    for (uint32_t i = 0; i < self->nexternal; i++) {
        const struct nat_range *r = &self->external[i];
        if (a - r->first < r->count)
            return (int)(r->number + (a - r->first));
    }
    return -1;
}

struct packet_addr nat_external_address(const struct nat_self *self, uint32_t number)
{
    const struct nat_range *r = self->external;

    while (number - r->number >= r->count)
        r++;
    return packet_ipv4(__builtin_bswap32(r->first + (number - r->number)));
}

bool nat_index_of(const struct nat_self *self, const struct packet_addr *addr, uint16_t port,
                  uint32_t *index)
{
    uint16_t p = __builtin_bswap16(port);
    int number = nat_external_number(self, addr);

    if (number < 0 || p < NAT_PORT_MIN)
        return false;
    *index = (uint32_t)number * NAT_PORTS + (p - NAT_PORT_MIN);
    return true;
}

void nat_of_index(const struct nat_self *self, uint32_t index, struct packet_addr *addr,
                  uint16_t *port)
{
    *addr = nat_external_address(self, index / NAT_PORTS);
    *port = __builtin_bswap16((uint16_t)(NAT_PORT_MIN + index % NAT_PORTS));
}

bool nat_is_inside(const struct nat_self *self, const struct packet_addr *addr)
{
    uint32_t a = host_order(addr);

    for (uint32_t i = 0; i < self->ninside; i++)
        if ((a & self->inside[i].mask) == self->inside[i].first)
            return true;
    return false;
}

bool nat_is_unicast(const struct packet_addr *addr)
{
    uint32_t first = host_order(addr) >> 24;

    return first != 0 && first != 127 && first < 224;
}
