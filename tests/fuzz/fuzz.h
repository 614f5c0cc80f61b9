/* SPDX-License-Identifier: BSD-3-Clause */
/* What the fuzz targets share: an assertion that no build switches off, and a
 * copy of the input that ASan guards to the byte. */
#ifndef LETHE_TESTS_FUZZ_H
#define LETHE_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond);                     \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Malloced, hence aligned to 16 and followed by a red zone. */
static inline void *guarded_copy(const void *data, size_t bytes)
{
    void *copy = malloc(bytes ? bytes : 1);
    MUST(copy);
    memcpy(copy, data, bytes);
    return copy;
}

/* Reads every byte, where a compiler cannot leave it out. */
static inline void read_all(const void *data, size_t bytes)
{
    static volatile uint8_t sink;
    for (size_t i = 0; i < bytes; i++)
        sink = (uint8_t)(sink + ((const volatile uint8_t *)data)[i]);
}

#endif
