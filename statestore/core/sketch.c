/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Count-min sketches (schema.h): per hash slot SKETCH_ROWS rows of cells, made at
 * the first ADD. An ADD goes to one cell of each row, the estimate is the least
 * of them: what a cell holds besides is what other keys put there.
 *
 * Every replica must find the same cells for a key, whatever its own seed and,
 * after a move, whatever number the table has: the hash is seeded by the table's
 * name. So whoever knows the name can make keys collide; a sketch may be misled
 * upwards by those who may write to it, never downwards while each key's own sum
 * is not negative.
 *
 * Digest: a sum over the cells that are not zero. Nothing ever leaves a sketch.
 */
#include <stdlib.h>

#include "internal.h"

static uint32_t row_cells(const struct table *t)
{
    return t->schema.max_entries / SKETCH_ROWS;
}

static uint64_t cells_bytes(const struct table *t)
{
    return (uint64_t)t->schema.max_entries * sizeof(uint64_t);
}

uint64_t sketch_reserve_cost(const struct table *t, uint8_t slot)
{
    return t->part[slot].cells ? 0 : cells_bytes(t);
}

bool sketch_reserve(struct table *t, uint8_t slot)
{
    struct part *p = &t->part[slot];
    if (p->cells)
        return true;
    if (!(p->cells = calloc(t->schema.max_entries, sizeof *p->cells)))
        return false;
    table_account(t, (int64_t)cells_bytes(t));
    return true;
}

void sketch_close(struct table *t, uint8_t slot)
{
    if (!t->part[slot].cells)
        return;
    free(t->part[slot].cells);
    t->part[slot].cells = NULL;
    table_account(t, -(int64_t)cells_bytes(t));
}

/* The key's cell in each row: independent functions of one hash (Kirsch and
 * Mitzenmacher 2006), mapped to [0, row) by a multiplication. */
static void places(const struct table *t, const void *key, uint32_t place[SKETCH_ROWS])
{
    uint64_t hash = hash_bytes(t->sketch_seed, key, t->schema.key_size);
    uint64_t step = mix64(hash ^ 0x9e3779b97f4a7c15ull) | 1;
    uint32_t cells = row_cells(t);
    for (uint32_t row = 0; row < SKETCH_ROWS; row++, hash += step)
        place[row] = row * cells + (uint32_t)((unsigned __int128)hash * cells >> 64);
}

int64_t sketch_estimate(const struct table *t, uint8_t slot, const void *key)
{
    const uint64_t *cells = t->part[slot].cells;
    uint32_t place[SKETCH_ROWS];
    int64_t least = INT64_MAX;
    if (!cells)
        return 0;
    places(t, key, place);
    for (int row = 0; row < SKETCH_ROWS; row++)
        if ((int64_t)cells[place[row]] < least)
            least = (int64_t)cells[place[row]];
    return least;
}

static uint64_t cell_digest(const struct table *t, uint8_t slot, uint32_t cell, uint64_t value)
{
    uint64_t where = 0x5ce7c4ull << 40 | (uint64_t)t->id << 28 | (uint64_t)slot << 20 | cell;
    return value ? mix64(mix64(where) ^ value) : 0;
}

uint64_t sketch_digest(const struct table *t, uint8_t slot)
{
    const uint64_t *cells = t->part[slot].cells;
    uint64_t sum = 0;
    if (!cells || is_volatile(t))
        return 0;
    for (uint32_t i = 0; i < t->schema.max_entries; i++)
        sum += cell_digest(t, slot, i, cells[i]);
    return sum;
}

static void set_cell(struct shard *s, struct table *t, uint8_t slot, uint32_t cell, uint64_t value)
{
    uint64_t *at = &t->part[slot].cells[cell];
    if (!is_volatile(t))
        s->digest += cell_digest(t, slot, cell, value) - cell_digest(t, slot, cell, *at);
    *at = value;
}

void sketch_add(struct shard *s, struct table *t, uint8_t slot, const void *key,
                const void *delta)
{
    uint32_t place[SKETCH_ROWS];
    uint64_t add;
    memcpy(&add, delta, sizeof add);
    places(t, key, place);
    for (int row = 0; row < SKETCH_ROWS; row++)
        set_cell(s, t, slot, place[row], t->part[slot].cells[place[row]] + add);
}

void apply_cells(struct shard *s, struct table *t, uint8_t slot, const struct effect *e)
{
    uint64_t value;
    for (uint32_t i = 0; i < e->value_len / 8u; i++) {
        memcpy(&value, effect_value(e) + 8 * i, 8);
        set_cell(s, t, slot, e->children + i, value);
    }
}
