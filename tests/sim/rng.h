/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The one source of chance of a simulated run: splitmix64, seeded by the run's
 * number. Whoever draws, draws from here, in the order of simulated events, so
 * that a seed replays exactly.
 */
#ifndef SIM_RNG_H
#define SIM_RNG_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

struct rng {
    uint64_t state;
};

static inline uint64_t rng_next(struct rng *r)
{
    uint64_t z = (r->state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}
/* 0 .. n - 1 */
static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
    return (uint32_t)(((rng_next(r) >> 32) * n) >> 32);
}
/* low .. high, both included */
static inline uint64_t rng_between(struct rng *r, uint64_t low, uint64_t high)
{
    return low + rng_next(r) % (high - low + 1);
}
/* True `per_mille` times out of a thousand. */
static inline bool rng_chance(struct rng *r, uint32_t per_mille)
{
    return rng_below(r, 1000) < per_mille;
}
/* Exponential with this mean. */
static inline uint64_t rng_exp(struct rng *r, double mean)
{
    double u = (double)(rng_next(r) >> 11) / 9007199254740992.0;
    return (uint64_t)(-mean * log(1.0 - u));
}

#endif
