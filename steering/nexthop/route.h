/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A route of the kernel's (rtnetlink, RFC 3549, by libmnl) with one or more next hops of equal
 * weight. Replaced as a whole in one message: packets see the old one or the new one. One thread.
 */
#ifndef LETHE_STEERING_NEXTHOP_ROUTE_H
#define LETHE_STEERING_NEXTHOP_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

enum { ROUTE_HOPS_MAX = 8 };

struct route {
    uint32_t prefix;           /* network order */
    uint8_t length;
    uint32_t metric;           /* 0: none, as `ip route` has it */
};

struct routes;
/* 0, or -errno and a sentence. */
int routes_open(struct routes **out, char *err, uint32_t err_len);
void routes_close(struct routes *r);
/* Puts it into the main table, in place of one with the same prefix and metric. `dev`: NULL: the
 * kernel finds out. 0, or -errno: of the kernel. */
int routes_put(struct routes *r, const struct route *route, const uint32_t *hops, unsigned n, const char *dev);
/* To wait on; then: true if links or routes changed, so that a route may have been taken away. */
int routes_fd(const struct routes *r);
bool routes_changed(struct routes *r);

#endif
