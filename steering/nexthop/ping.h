/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ICMP echo requests (RFC 792) with a number, and their answers. Data carries a tag keyed for this
 * process, so that nobody answers who did not get the request. One raw socket, one thread.
 */
#ifndef LETHE_STEERING_NEXTHOP_PING_H
#define LETHE_STEERING_NEXTHOP_PING_H

#include <stdbool.h>
#include <stdint.h>

struct ping;
/* `dev`: the interface they leave and come in by; NULL: any. 0, or -errno and a sentence. */
int ping_open(struct ping **out, const char *dev, char *err, uint32_t err_len);
void ping_close(struct ping *p);
int ping_fd(const struct ping *p);
/* A request that cannot be sent is one that is not answered. Addresses in network order. */
void ping_send(struct ping *p, uint32_t address, uint64_t seq);
/* The next genuine answer; false: there is none (now). */
bool ping_receive(struct ping *p, uint32_t *address, uint64_t *seq);

#endif
