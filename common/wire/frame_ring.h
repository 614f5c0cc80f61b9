/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames in a byte ring that somebody else writes or reads: shm.c, verbs.c.
 *
 * Positions count bytes for ever; an index is position & (bytes - 1), `bytes` a
 * power of two of at least 2 * MSG_BYTES_MAX. A frame does not wrap: where it does
 * not fit before the end, a zero length says "go on at the start". So any frame
 * fits into an empty ring, wherever its positions stand.
 *
 * The writer may be hostile: a length is loaded once and bounded, and the frame is
 * copied out before it is validated, so that nothing changes between check and use.
 *
 * Behind each frame may stand a trailer (verbs): then all of a ring's frames have one, and
 * `bytes` here counts both.
 */
#ifndef LETHE_WIRE_FRAME_RING_H
#define LETHE_WIRE_FRAME_RING_H

#include <string.h>

#include "common/wire/msg.h"

/* Bytes that a frame takes at `tail`, with what it skips. */
static inline uint64_t frame_ring_need(uint64_t ring_bytes, uint64_t tail, uint32_t bytes)
{
    uint64_t at = tail & (ring_bytes - 1);
    return at + bytes <= ring_bytes ? bytes : ring_bytes - at + bytes;
}

/* The writer may go to the start from anywhere, if a frame goes with it; the tail there. */
static inline uint64_t frame_ring_skip(uint8_t *ring, uint64_t ring_bytes, uint64_t tail)
{
    uint64_t at = tail & (ring_bytes - 1);
    memset(ring + at, 0, 8);
    return tail + ring_bytes - at;
}

/* There is room for frame_ring_need(); returns the position where so many bytes begin. */
static inline uint64_t frame_ring_begin(uint8_t *ring, uint64_t ring_bytes, uint64_t tail,
                                        uint32_t bytes)
{
    uint64_t need = frame_ring_need(ring_bytes, tail, bytes);
    if (need != bytes)
        memset(ring + (tail & (ring_bytes - 1)), 0, 8);
    return tail + need - bytes;
}

/* The same; returns the new tail. */
static inline uint64_t frame_ring_put(uint8_t *ring, uint64_t ring_bytes, uint64_t tail,
                                      const void *frame, uint32_t bytes)
{
    uint64_t at = frame_ring_begin(ring, ring_bytes, tail, bytes);
    memcpy(ring + (at & (ring_bytes - 1)), frame, bytes);
    return at + bytes;
}

static inline uint32_t frame_ring_length(const uint8_t *ring, uint64_t at)
{
    uint32_t n;
    __atomic_load((const uint32_t *)(ring + at), &n, __ATOMIC_RELAXED);
    return n;
}

/* Copies the frame at *head (< tail) and its trailer to `copy`, with room for MSG_BYTES_MAX and
 * that, moves *head behind them; *bytes: of the frame. NULL, or what is wrong. */
static inline const char *frame_ring_take(const uint8_t *ring, uint64_t ring_bytes, uint64_t *head,
                                          uint64_t tail, uint32_t trailer, void *copy,
                                          uint32_t *bytes)
{
    uint64_t left = tail - *head, at = *head & (ring_bytes - 1);
    uint32_t n = frame_ring_length(ring, at);
    if (n == 0) {
        if (ring_bytes - at >= left)
            return "a ring that ends in nothing";
        *head += ring_bytes - at;
        left = tail - *head;
        at = 0;
        n = frame_ring_length(ring, at);
    }
    if (n < sizeof(struct msg_head) || n > MSG_BYTES_MAX || n % 8 || n + trailer > left ||
        at + n + trailer > ring_bytes)
        return "frame of a bad length";
    memcpy(copy, ring + at, n + trailer);
    *head += n + trailer;
    *bytes = n;
    return msg_validate(copy, n);
}

#endif
