/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Maglev table building. See maglev.h. The permutations are walked, not
 * stored: bucket j of a backend is (offset + j * skip) mod size.
 */
#include "steering/maglev.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

bool maglev_size_is_good(uint32_t size, uint32_t backends)
{
    if (size < 3 || size > MAGLEV_SIZE_MAX || size / 100 < backends || size % 2 == 0)
        return false;
    for (uint32_t d = 3; d * d <= size; d += 2)
        if (size % d == 0)
            return false;
    return true;
}

static uint64_t hash_name(const char *name, uint8_t which)
{
    /* Constants, not secrets: all front ends must agree. */
    const uint8_t key[crypto_shorthash_KEYBYTES] = {'m', 'a', 'g', 'l', 'e', 'v', which};
    uint8_t tag[crypto_shorthash_BYTES];
    uint64_t h = 0;
    crypto_shorthash(tag, (const uint8_t *)name, strlen(name), key);
    for (int i = 7; i >= 0; i--)
        h = h << 8 | tag[i];
    return h;
}

void maglev_permutation(const char *name, uint32_t size, uint32_t *offset, uint32_t *skip)
{
    *offset = (uint32_t)(hash_name(name, 1) % size);
    *skip = (uint32_t)(hash_name(name, 2) % (size - 1)) + 1;
}

static int by_name(const void *a, const void *b)
{
    const struct maglev_backend *x = a, *y = b;
    return strcmp(x->name, y->name);
}

struct walker {
    uint32_t at, skip;
    uint16_t number;
    uint32_t weight, credit;   /* a turn costs the greatest weight */
};

static uint32_t next_bucket(struct walker *w, uint32_t size)
{
    uint32_t bucket = w->at;
    w->at += w->skip;
    if (w->at >= size)
        w->at -= size;
    return bucket;
}

/* Each in turn; who weighs less than the heaviest has to save up for its turns. */
static void fill(uint16_t *table, uint32_t size, struct walker *walkers, uint32_t n, uint32_t heaviest)
{
    for (uint32_t filled = 0, turn = 0; filled < size; turn = turn + 1 == n ? 0 : turn + 1) {
        struct walker *w = &walkers[turn];
        w->credit += w->weight;
        if (w->credit < heaviest)
            continue;
        w->credit -= heaviest;
        uint32_t bucket = next_bucket(w, size);
        while (table[bucket] != MAGLEV_NONE)
            bucket = next_bucket(w, size);
        table[bucket] = w->number;
        filled++;
    }
}

void maglev_build(uint16_t *table, uint32_t size, const struct maglev_backend *backends,
                  uint32_t n)
{
    struct maglev_backend sorted[MAGLEV_BACKENDS_MAX];
    struct walker walkers[MAGLEV_BACKENDS_MAX];
    uint32_t heaviest = 0;
    assert(n <= MAGLEV_BACKENDS_MAX);

    for (uint32_t i = 0; i < size; i++)
        table[i] = MAGLEV_NONE;
    if (n == 0)
        return;
    memcpy(sorted, backends, n * sizeof(*backends));
    qsort(sorted, n, sizeof(*sorted), by_name);
    for (uint32_t i = 0; i < n; i++) {
        assert(sorted[i].weight > 0);
        walkers[i] = (struct walker){.number = sorted[i].number, .weight = sorted[i].weight};
        maglev_permutation(sorted[i].name, size, &walkers[i].at, &walkers[i].skip);
        heaviest = sorted[i].weight > heaviest ? sorted[i].weight : heaviest;
    }
    fill(table, size, walkers, n, heaviest);
}
