/* SPDX-License-Identifier: BSD-3-Clause */
/* CRC32C by SSE4.2, eight bytes a step. See crc.h. */
#include "common/wire/crc.h"

#include <nmmintrin.h>
#include <string.h>

uint32_t crc32c(uint32_t crc, const void *data, size_t bytes)
{
    const uint8_t *p = data;
    uint64_t c = (uint32_t)~crc;
    for (; bytes >= 8; bytes -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        c = _mm_crc32_u64(c, word);
    }
    uint32_t c32 = (uint32_t)c;
    for (; bytes > 0; bytes--, p++)
        c32 = _mm_crc32_u8(c32, *p);
    return ~c32;
}
