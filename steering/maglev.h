/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software
 * Network Load Balancer", NSDI 2016, section 3.4): a table of `size` buckets
 * (a prime much larger than the number of backends) in which every backend has
 * nearly the same share, and few buckets change hands when a backend comes or
 * goes.
 *
 * The table depends on the *set of names and weights* only, not on their order
 * or on local numbers: front ends that see the same workers have the same table.
 * A weight is "the relative frequency of a backend's turns" (the paper, end of
 * section 3.4): who weighs half as much as the heaviest takes every other turn.
 * Pure functions; any thread.
 */
#ifndef LETHE_STEERING_MAGLEV_H
#define LETHE_STEERING_MAGLEV_H

#include <stdbool.h>
#include <stdint.h>

enum { MAGLEV_BACKENDS_MAX = 64, MAGLEV_SIZE_DEFAULT = 65537, MAGLEV_SIZE_MAX = 1048573 };
#define MAGLEV_NONE 0xffffu     /* a bucket without backend: there is none */

struct maglev_backend {
    const char *name;           /* unique among the backends of a table */
    uint16_t number;            /* what to write into its buckets */
    uint16_t weight;            /* at least 1; what counts is the ratio */
};

/* A size that maglev_build takes: a prime, at most MAGLEV_SIZE_MAX and at
 * least 100 times the backends (section 5.3 of the paper: within 1 % even). */
bool maglev_size_is_good(uint32_t size, uint32_t backends);

/* Fills table[0 .. size). n <= MAGLEV_BACKENDS_MAX; n == 0: all MAGLEV_NONE. */
void maglev_build(uint16_t *table, uint32_t size, const struct maglev_backend *backends,
                  uint32_t n);

/* The bucket of a hash value. */
static inline uint32_t maglev_bucket(uint64_t hash, uint32_t size)
{
    /* The high bits of a 64 x 64 multiplication would do as well; the modulo
     * keeps buckets comparable with other implementations. */
    return (uint32_t)(hash % size);
}

/* offset and skip of a backend's permutation of the buckets; for tests. */
void maglev_permutation(const char *name, uint32_t size, uint32_t *offset, uint32_t *skip);

#endif
