/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
 *
 * Sums are taken over 16-bit words as they lie in memory: a one's complement
 * sum does not care about the byte order as long as it is the same throughout,
 * so a checksum is loaded and stored raw and never swapped.
 */
#include "packet.h"

#include <string.h>

uint16_t checksum_fold(uint32_t sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

uint32_t checksum_add(uint32_t sum, const void *data, uint32_t len)
{
    const uint8_t *at = data;
    uint64_t wide = sum;

    for (; len >= 4; len -= 4, at += 4) {
        uint32_t word;
        memcpy(&word, at, 4);
        wide += word;
    }
    if (len >= 2) {
        uint16_t word;
        memcpy(&word, at, 2);
        wide += word;
        at += 2;
        len -= 2;
    }
    if (len)
        wide += *at; /* padded with a zero byte behind it */
    /* 32-bit words carry into bit 16 and up, which folds back: 2^16 = 1 mod 0xffff. */
    wide = (wide & 0xffffffff) + (wide >> 32);
    wide = (wide & 0xffff) + ((wide >> 16) & 0xffff) + (wide >> 32);
    return (uint32_t)wide;
}

uint16_t checksum_update(uint16_t checksum, const void *old_bytes, const void *new_bytes,
                         uint32_t len)
{
    const uint8_t *was = old_bytes, *is = new_bytes;
    uint32_t sum = (uint16_t)~checksum;

    for (uint32_t i = 0; i + 2 <= len; i += 2) {
        uint16_t m, m2;
        memcpy(&m, was + i, 2);
        memcpy(&m2, is + i, 2);
        sum += (uint16_t)~m;
        sum += m2;
    }
    return checksum_fold(sum);
}
