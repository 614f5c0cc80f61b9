/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Steering's own answer to ICMP echo requests (RFC 792) for an edge's address, by which routers
 * see whether this front end serves. It is made in place of the request. Frames in, frames out;
 * no I/O; one thread.
 */
#ifndef LETHE_STEERING_ECHO_H
#define LETHE_STEERING_ECHO_H

#include <stdbool.h>
#include <stdint.h>

#include "common/packet/packet.h"

enum { ECHO_TTL = 64 };

/* Is it an echo request for `address` (network order)? Of fragments, and with IP options, none is. */
bool echo_is_request(const struct packet *p, uint32_t address);
/* Turns such a request into its reply, to whoever sent it. False: its checksum is wrong; it is as
 * it was. */
bool echo_reply(struct packet *p);

#endif
