/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The NAT bench's traffic, made inside the worker: no kernel, no NIC, no
 * memory touched but the packet itself. Flow n is one UDP end point of an
 * inside host; packets of both directions, minimum Ethernet size, checksums
 * right.
 */
#ifndef LETHE_BENCH_NAT_FLOWS_H
#define LETHE_BENCH_NAT_FLOWS_H

#include <stdbool.h>
#include <stdint.h>

enum { FLOW_FRAME_BYTES = 60, FLOW_HOST_PORTS = 64 };

/* An external end point as the NAT gave it, network order; 0: none yet. */
struct flow_outer {
    uint32_t addr;
    uint16_t port;
};

/* The frame of flow n from the inside. */
void flow_frame_out(uint8_t *frame, uint32_t n);
/* The answer to its external end point. */
void flow_frame_in(uint8_t *frame, struct flow_outer outer);
/* Source end point of a translated frame. */
struct flow_outer flow_source(const uint8_t *frame);

#endif
