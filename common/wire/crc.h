/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CRC32C (Castagnoli, RFC 3720 appendix B.4), by the SSE4.2 instruction that
 * the x86-64-v2 baseline always has. Pure; any thread.
 */
#ifndef LETHE_WIRE_CRC_H
#define LETHE_WIRE_CRC_H

#include <stddef.h>
#include <stdint.h>

/* CRC of `bytes` bytes that continue what gave `crc`; 0 starts. Hence
 * crc32c(crc32c(0, a), b) == crc32c(0, a followed by b). */
uint32_t crc32c(uint32_t crc, const void *data, size_t bytes);

#endif
