/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A histogram with fixed buckets, powers of two: one writer, plain stores, no
 * lock, no search. Bucket i counts values in (2^(i-1), 2^i], the first also 0,
 * the last everything above. Others get at it through a copy that the writer
 * makes (metric_histogram_set, a snapshot).
 */
#ifndef LETHE_METRICS_HISTOGRAM_H
#define LETHE_METRICS_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_BUCKETS = 24 };
struct histogram { uint64_t bucket[HISTOGRAM_BUCKETS]; uint64_t sum; };

static inline void histogram_add(struct histogram *h, uint64_t value)
{
    uint32_t i = value <= 1 ? 0 : 64u - (uint32_t)__builtin_clzll(value - 1);
    h->bucket[i < HISTOGRAM_BUCKETS ? i : HISTOGRAM_BUCKETS - 1]++;
    h->sum += value;
}

#endif
