/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The index of one part: buckets of eight fingerprints compared by one SSE
 * instruction. A key lives in either of two buckets, or in the overflow chain
 * of the first. Grows at 7/8 of its ways, or when overflow buckets run out.
 */
#include <assert.h>
#include <emmintrin.h>
#include <stdlib.h>

#include "table.h"

static inline uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 p = (unsigned __int128)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static inline uint64_t hash_of(uint64_t seed, const void *key, uint32_t len)
{
    const uint8_t *k = key;
    uint64_t h = seed ^ (len * 0x9e3779b97f4a7c15ull), w;
    for (; len >= 8; k += 8, len -= 8) {
        memcpy(&w, k, 8);
        h = fold(h ^ w, 0xa0761d6478bd642full ^ seed >> 7);
    }
    if (len) {
        w = 0;
        memcpy(&w, k, len);
        h = fold(h ^ w, 0xe7037ed1a0b428dbull);
    }
    return fold(h, 0x8ebc6af09c88c6e3ull);
}

uint64_t hash_bytes(uint64_t seed, const void *key, uint32_t len)
{
    return hash_of(seed, key, len);
}

uint64_t table_hash(const struct table *t, const void *key, uint32_t len)
{
    return hash_of(t->seed, key, len);
}

static inline uint16_t print_of(uint64_t hash)
{
    uint16_t p = (uint16_t)(hash >> 48);
    return p ? p : 1;
}
static inline uint32_t first_of(const struct index *ix, uint64_t hash)
{
    return (uint32_t)((uint64_t)(uint32_t)hash * ix->count >> 32);
}
static inline uint32_t second_of(const struct index *ix, uint64_t hash)
{
    return (uint32_t)((uint64_t)(uint32_t)(hash >> 16) * ix->count >> 32);
}
/* Bit 2w is set where way w has this fingerprint. */
static inline uint32_t ways_with(const struct bucket *b, uint16_t print)
{
    __m128i have = _mm_load_si128((const __m128i *)b->print);
    __m128i eq = _mm_cmpeq_epi16(have, _mm_set1_epi16((short)print));
    return (uint32_t)_mm_movemask_epi8(eq) & 0x5555u;
}

static inline bool same_key(const struct table *t, uint8_t slot, uint32_t rec, const void *key)
{
    /* Eight bytes at a time, in line: a call of memcmp costs more than it does. */
    const uint8_t *have = record_at(t, slot, rec)->payload, *want = key;
    uint32_t len = t->schema.key_size;
    uint64_t x, y;
    for (; len >= 8; have += 8, want += 8, len -= 8) {
        memcpy(&x, have, 8);
        memcpy(&y, want, 8);
        if (x != y)
            return false;
    }
    for (; len; have++, want++, len--)
        if (*have != *want)
            return false;
    return true;
}

static uint32_t find_in(const struct table *t, uint8_t slot, const struct bucket *b,
                        const void *key, uint16_t print)
{
    for (uint32_t m = ways_with(b, print); m; m &= m - 1) {
        uint32_t rec = b->rec[__builtin_ctz(m) / 2];
        if (same_key(t, slot, rec, key))
            return rec;
    }
    return REC_NONE;
}

uint32_t part_find(const struct table *t, uint8_t slot, const void *key, uint64_t hash)
{
    const struct index *ix = &t->part[slot].index;
    uint16_t print = print_of(hash);
    if (!ix->buckets)
        return REC_NONE;
    const struct bucket *b = &ix->buckets[first_of(ix, hash)];
    for (;;) {
        uint32_t rec = find_in(t, slot, b, key, print);
        if (rec != REC_NONE)
            return rec;
        if (!b->overflow)
            break;
        b = &ix->buckets[b->overflow];
    }
    return find_in(t, slot, &ix->buckets[second_of(ix, hash)], key, print);
}

uint32_t part_find_near(const struct table *t, uint8_t slot, const void *key, uint64_t hash,
                        uint32_t guess)
{
    if (guess < t->part[slot].high && record_at(t, slot, guess)->state != RECORD_FREE &&
        same_key(t, slot, guess, key))
        return guess;
    return part_find(t, slot, key, hash);
}

void part_prefetch_bucket(const struct table *t, uint8_t slot, uint64_t hash)
{
    const struct index *ix = &t->part[slot].index;
    if (!ix->buckets)
        return;
    bring_near(&ix->buckets[first_of(ix, hash)]);
    bring_near(&ix->buckets[second_of(ix, hash)]);
}

uint32_t part_prefetch_record(const struct table *t, uint8_t slot, uint64_t hash)
{
    const struct index *ix = &t->part[slot].index;
    uint16_t print = print_of(hash);
    if (!ix->buckets)
        return REC_NONE;
    const struct bucket *b = &ix->buckets[first_of(ix, hash)];
    uint32_t m = ways_with(b, print);
    if (!m) {
        b = &ix->buckets[second_of(ix, hash)];
        if (!(m = ways_with(b, print)))
            return REC_NONE;
    }
    uint32_t rec = b->rec[__builtin_ctz(m) / 2];
    record_prefetch(t, slot, rec);
    return rec;
}

/* --- changing it ---------------------------------------------------------------- */

static void bucket_set(struct bucket *b, int way, uint16_t print, uint32_t rec)
{
    b->print[way] = print;
    b->rec[way] = rec;
}

static int ways_used(const struct bucket *b)
{
    return BUCKET_WAYS - __builtin_popcount(ways_with(b, 0));
}

/* False only if the key needs a new overflow bucket and none is left. */
static bool put(struct index *ix, uint64_t hash, uint32_t rec)
{
    struct bucket *one = &ix->buckets[first_of(ix, hash)];
    struct bucket *two = &ix->buckets[second_of(ix, hash)];
    struct bucket *b = ways_used(two) < ways_used(one) ? two : one;
    if (ways_used(b) == BUCKET_WAYS) {
        for (b = one; ways_used(b) == BUCKET_WAYS && b->overflow;)
            b = &ix->buckets[b->overflow];
        if (ways_used(b) == BUCKET_WAYS) {
            if (ix->overflow_used == ix->overflow_room)
                return false;
            b->overflow = ix->count + ix->overflow_used++;
            b = &ix->buckets[b->overflow];
        }
    }
    bucket_set(b, __builtin_ctz(ways_with(b, 0)) / 2, print_of(hash), rec);
    ix->entries++;
    return true;
}

void index_put(struct index *ix, uint64_t hash, uint32_t rec)
{
    bool done = put(ix, hash, rec);
    assert(done);
    (void)done;
}

static bool drop_from(struct bucket *b, uint16_t print, uint32_t rec)
{
    for (uint32_t m = ways_with(b, print); m; m &= m - 1) {
        int way = __builtin_ctz(m) / 2;
        if (b->rec[way] != rec)
            continue;
        bucket_set(b, way, 0, 0);
        return true;
    }
    return false;
}

void index_drop(struct index *ix, uint64_t hash, uint32_t rec)
{
    struct bucket *b = &ix->buckets[first_of(ix, hash)];
    uint16_t print = print_of(hash);
    bool done = drop_from(&ix->buckets[second_of(ix, hash)], print, rec);
    while (!done) {
        done = drop_from(b, print, rec);
        assert(done || b->overflow);
        b = &ix->buckets[b->overflow];
    }
    ix->entries--;
}

static uint32_t overflow_for(uint32_t buckets)
{
    return buckets / 8 + 2;
}
static uint64_t index_bytes(uint32_t buckets)
{
    return buckets ? ((uint64_t)buckets + overflow_for(buckets)) * sizeof(struct bucket) : 0;
}
static uint32_t buckets_of(const struct index *ix)
{
    return ix->buckets ? ix->count : 0;
}

void index_destroy(struct table *t, struct index *ix)
{
    table_account(t, -(int64_t)index_bytes(buckets_of(ix)));
    memory_free(ix->buckets, index_bytes(buckets_of(ix)));
    memset(ix, 0, sizeof *ix);
}

/* A big part that has just grown wastes a fifth at most, a small one half. */
static uint32_t next_size(uint32_t buckets)
{
    return buckets < 64 ? 2 * buckets : buckets + buckets / 4;
}

static uint32_t buckets_needed(const struct index *ix, uint32_t more)
{
    uint64_t entries = (uint64_t)ix->entries + more;
    uint32_t n = buckets_of(ix) ? buckets_of(ix) : 2;
    while (entries * 8 > (uint64_t)n * BUCKET_WAYS * 7)
        n = next_size(n);
    /* Every insertion reserved for might need an overflow bucket of its own. */
    if (n == buckets_of(ix) && ix->overflow_room - ix->overflow_used < more)
        n = next_size(n);
    while (n != buckets_of(ix) && overflow_for(n) < more)
        n = next_size(n);
    return n;
}

/* Moves every entry into a new index of n buckets. */
static bool rehash(struct table *t, uint8_t slot, uint32_t n)
{
    struct index *old = &t->part[slot].index;
    struct index ix = {.count = n, .overflow_room = overflow_for(n)};
    ix.buckets = memory_new(index_bytes(n));
    if (!ix.buckets)
        return false;
    uint32_t all = old->buckets ? old->count + old->overflow_used : 0;
    for (uint32_t i = 0; i < all; i++)
        for (int w = 0; w < BUCKET_WAYS; w++) {
            const struct bucket *b = &old->buckets[i];
            if (b->print[w] && !put(&ix, record_hash(t, slot, b->rec[w]), b->rec[w])) {
                memory_free(ix.buckets, index_bytes(n));
                return rehash(t, slot, next_size(n));
            }
        }
    table_account(t, (int64_t)index_bytes(n));
    index_destroy(t, old);
    *old = ix;
    return true;
}

bool index_reserve(struct table *t, uint8_t slot, uint32_t more)
{
    struct index *ix = &t->part[slot].index;
    for (;;) {
        uint32_t n = buckets_needed(ix, more);
        if (n == buckets_of(ix))
            return true;
        if (!rehash(t, slot, n))
            return false;
    }
}

uint64_t index_reserve_cost(const struct table *t, uint8_t slot, uint32_t more)
{
    const struct index *ix = &t->part[slot].index;
    uint32_t n = buckets_needed(ix, more);
    return n == buckets_of(ix) ? 0 : index_bytes(n) - index_bytes(buckets_of(ix));
}
