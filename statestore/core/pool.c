/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One slot's share of a pool's indexes.
 *
 * Free indexes stand in one dense array, so that a random one is found in one
 * step however few are left. A freed index rests in a first-in-first-out ring
 * (the rest is the same for all, so their ends are in order).
 *
 * Whether an index still rests is a question of shard time, which runs on
 * between two log entries. So that primary and backup agree at every log
 * position, the ring has two ends that move: `ready`, up to which this replica
 * may give indexes out, and `logged`, up to which an applied log entry's own
 * time has said so; the digest covers [logged, end).
 *
 * Indexes are lent by slots that have many to slots that have none (lend.c). A
 * borrowed one gets a dense number behind the slot's own, found through a small
 * open-addressing map; given back, the number is used again. A slot keeps the mark
 * whom it lent to, for those who ask it.
 *
 * Promises: a txn that allocates is promised indexes while it is planned, and
 * takes them when it is applied, or gives them all back.
 */
#include <assert.h>
#include <stdlib.h>

#include "table.h"

uint32_t pool_share(uint32_t indexes, uint8_t slot)
{
    uint32_t blocks = indexes / POOL_BLOCK, rest = indexes % POOL_BLOCK;
    uint32_t mine = blocks / LETHE_SLOTS + (slot < blocks % LETHE_SLOTS);
    return mine * POOL_BLOCK + (slot == blocks % LETHE_SLOTS ? rest : 0);
}

static uint64_t share_bytes(uint32_t room)
{
    return sizeof(struct pool_part) +
           (uint64_t)room * (3 * sizeof(uint32_t) + sizeof(uint16_t) + sizeof(struct resting));
}

static uint64_t borrowed_bytes(const struct pool_part *p)
{
    return p->borrowed ? (uint64_t)(p->room - p->home) * sizeof *p->borrowed +
                             (p->map_mask + 1ull) * sizeof *p->map
                       : 0;
}

/* Makes room for numbers below `room`. */
static bool numbers_grow(struct pool_part *p, uint32_t room)
{
    uint32_t *numbers = malloc((3 * (size_t)room + 1) * sizeof *numbers);
    struct resting *rest = malloc(((size_t)room + 1) * sizeof *rest);
    uint16_t *to = calloc((size_t)room + 1, sizeof *to);
    if (!numbers || !rest || !to) {
        free(numbers);
        free(rest);
        free(to);
        return false;
    }
    for (uint32_t i = 0; i < p->count; i++) {
        numbers[i] = p->free[i];
        numbers[room + i] = p->pos[i];
        numbers[2 * (size_t)room + i] = p->rec[i];
        to[i] = p->to[i];
    }
    for (uint64_t i = p->logged; i < p->end; i++)
        rest[i % room] = p->rest[i % p->room];
    free(p->free);
    free(p->rest);
    free(p->to);
    p->free = numbers;
    p->pos = numbers + room;
    p->rec = numbers + 2 * (size_t)room;
    p->rest = rest;
    p->to = to;
    p->room = room;
    return true;
}

bool pool_open(struct table *t, uint8_t slot)
{
    struct part *part = &t->part[slot];
    if (part->pool)
        return true;
    uint32_t count = pool_share(t->schema.max_entries, slot);
    struct pool_part *p = calloc(1, sizeof *p);
    if (!p || !numbers_grow(p, count)) {
        free(p);
        return false;
    }
    p->count = p->free_count = p->home = count;
    p->unused = REC_NONE;
    for (uint32_t i = 0; i < count; i++) {
        p->free[i] = p->pos[i] = i;
        p->rec[i] = REC_NONE;
    }
    part->pool = p;
    table_account(t, (int64_t)share_bytes(count));
    return true;
}

void pool_close(struct table *t, uint8_t slot)
{
    struct pool_part *p = t->part[slot].pool;
    if (!p)
        return;
    table_account(t, -(int64_t)(share_bytes(p->room) + borrowed_bytes(p)));
    free(p->free);
    free(p->rest);
    free(p->to);
    free(p->borrowed);
    free(p->map);
    free(p);
    t->part[slot].pool = NULL;
}

/* --- which number an index has ---------------------------------------------------- */

static uint32_t map_at(const struct pool_part *p, uint32_t index)
{
    return index * 2654435761u >> 7 & p->map_mask;
}

static uint32_t map_find(const struct pool_part *p, uint32_t index)
{
    uint32_t i = map_at(p, index);
    while (p->map[i] && p->borrowed[p->map[i] - 1 - p->home].index != index)
        i = (i + 1) & p->map_mask;
    return i;
}

static void map_drop(struct pool_part *p, uint32_t index)
{
    uint32_t i = map_find(p, index);
    p->map[i] = 0;
    /* Whoever stands behind the hole and would rather stand in it, moves. */
    for (uint32_t moved; p->map[i = (i + 1) & p->map_mask];) {
        moved = p->map[i];
        p->map[i] = 0;
        p->map[map_find(p, p->borrowed[moved - 1 - p->home].index)] = moved;
    }
}

uint32_t pool_number(const struct pool_part *p, uint8_t slot, uint32_t index)
{
    if (slot_of_index(index) == slot)
        return pool_dense(index);
    return p->borrowed ? p->map[map_find(p, index)] - 1 : REC_NONE;
}

uint32_t pool_index_of(const struct pool_part *p, uint8_t slot, uint32_t dense)
{
    return dense < p->home ? pool_index(slot, dense) : p->borrowed[dense - p->home].index;
}

bool pool_holds(const struct table *t, uint8_t slot, uint32_t index)
{
    const struct pool_part *p = t->part[slot].pool;
    if (!p)
        return slot_of_index(index) == slot;
    uint32_t dense = pool_number(p, slot, index);
    return dense != REC_NONE && !p->to[dense];
}

/* --- looking up --------------------------------------------------------------------- */

uint32_t pool_find(const struct table *t, uint8_t slot, uint32_t index)
{
    const struct pool_part *p = t->part[slot].pool;
    uint32_t dense = p ? pool_number(p, slot, index) : REC_NONE;
    return dense != REC_NONE ? p->rec[dense] : REC_NONE;
}

void pool_prefetch(const struct table *t, uint8_t slot)
{
    const struct pool_part *p = t->part[slot].pool;
    if (p)
        bring_near(p);
}

void pool_prefetch_number(const struct table *t, uint8_t slot, uint32_t index)
{
    const struct pool_part *p = t->part[slot].pool;
    if (p && slot_of_index(index) == slot)
        bring_near(&p->rec[pool_dense(index)]);
}

void pool_prefetch_record(const struct table *t, uint8_t slot, uint32_t index)
{
    uint32_t rec = pool_find(t, slot, index);
    if (rec != REC_NONE)
        record_prefetch(t, slot, rec);
}

static void swap_free(struct pool_part *p, uint32_t i, uint32_t j)
{
    uint32_t a = p->free[i], b = p->free[j];
    p->free[i] = b, p->pos[b] = i;
    p->free[j] = a, p->pos[a] = j;
}

static void make_free(struct pool_part *p, uint32_t dense)
{
    assert(p->pos[dense] == REC_NONE && p->rec[dense] == REC_NONE);
    p->free[p->free_count] = dense;
    p->pos[dense] = p->free_count++;
    /* The promised ones stay the last. */
    swap_free(p, p->free_count - 1, p->free_count - 1 - p->reserved);
}

void pool_mature(struct pool_part *p, uint64_t now_ms)
{
    assert(!p->reserved);
    while (p->ready < p->end && p->rest[p->ready % p->room].release_ms <= now_ms)
        make_free(p, p->rest[p->ready++ % p->room].dense);
}

bool pool_promise(struct pool_part *p, uint64_t random, uint32_t *dense)
{
    uint32_t left = p->free_count - p->reserved;
    if (!left)
        return false;
    uint32_t at = (uint32_t)((unsigned __int128)random * left >> 64);
    *dense = p->free[at];
    swap_free(p, at, left - 1);
    p->reserved++;
    return true;
}

void pool_unpromise(struct pool_part *p)
{
    p->reserved = 0;
}

void pool_take(struct pool_part *p, uint32_t dense, uint32_t rec)
{
    uint32_t at = p->pos[dense];
    assert(at != REC_NONE);
    swap_free(p, at, p->free_count - 1);
    p->free_count--;
    p->pos[dense] = REC_NONE;
    p->rec[dense] = rec;
}

void pool_rest(struct pool_part *p, uint32_t dense, uint64_t release_ms)
{
    assert(p->end - p->logged < p->room);
    p->rec[dense] = REC_NONE;
    p->rest[p->end++ % p->room] = (struct resting){.release_ms = release_ms, .dense = dense};
}

/* --- lending -------------------------------------------------------------------------- */

static bool borrowed_grow(struct pool_part *p, uint32_t room)
{
    uint32_t size = 16, used = p->count - p->home;
    while (size < 2 * (room - p->home))
        size *= 2;
    struct borrowed *borrowed = calloc(room - p->home, sizeof *borrowed);
    uint32_t *map = calloc(size, sizeof *map);
    if (!borrowed || !map) {
        free(borrowed);
        free(map);
        return false;
    }
    if (used)
        memcpy(borrowed, p->borrowed, used * sizeof *borrowed);
    free(p->borrowed);
    free(p->map);
    p->borrowed = borrowed;
    p->map = map;
    p->map_mask = size - 1;
    for (uint32_t i = 0; i < used; i++)
        if (borrowed[i].from < LETHE_SLOTS)
            map[map_find(p, borrowed[i].index)] = p->home + i + 1;
    return true;
}

bool pool_reserve(struct table *t, uint8_t slot, uint32_t more)
{
    if (!pool_open(t, slot))
        return false;
    struct pool_part *p = t->part[slot].pool;
    uint32_t room = p->room, unused = 0;
    for (uint32_t i = p->unused; i != REC_NONE && unused < more; unused++)
        i = p->borrowed[i - p->home].index;
    more -= unused;
    while (room - p->count < more || room == p->home)
        room = p->home + (room > p->home ? 2 * (room - p->home) : 64);
    if (room == p->room && p->borrowed)
        return true;
    uint64_t before = share_bytes(p->room) + borrowed_bytes(p);
    bool ok = numbers_grow(p, room) && borrowed_grow(p, room);
    table_account(t, (int64_t)(share_bytes(p->room) + borrowed_bytes(p) - before));
    return ok;
}

/* It went to slot `to`: a mark says so, unless nobody but that slot ever pointed here. */
static void went_to(struct pool_part *p, uint32_t dense, uint16_t to)
{
    p->to[dense] = (uint16_t)(to + 1);
    if (dense < p->home || p->borrowed[dense - p->home].from != to) {
        p->lent++;
        return;
    }
    map_drop(p, p->borrowed[dense - p->home].index);
    p->to[dense] = 0;
    p->borrowed[dense - p->home] = (struct borrowed){.index = p->unused, .from = LETHE_SLOTS};
    p->unused = dense;
}

bool pool_lend(struct pool_part *p, uint8_t slot, uint32_t index, uint16_t to)
{
    uint32_t dense = pool_number(p, slot, index);
    if (dense == REC_NONE || p->pos[dense] == REC_NONE)
        return false;
    pool_take(p, dense, REC_NONE);
    if (to + 1 == POOL_UNDER_WAY)
        p->to[dense] = POOL_UNDER_WAY, p->lent++;
    else
        went_to(p, dense, to);
    return true;
}

bool pool_loan_done(struct pool_part *p, uint8_t slot, uint32_t index, uint16_t to)
{
    uint32_t dense = pool_number(p, slot, index);
    if (dense == REC_NONE || p->to[dense] != POOL_UNDER_WAY)
        return false;
    p->to[dense] = 0;
    p->lent--;
    if (to < LETHE_SLOTS)
        went_to(p, dense, to);
    else
        make_free(p, dense);
    return true;
}

bool pool_borrow(struct pool_part *p, uint8_t slot, uint32_t index, uint8_t from)
{
    uint32_t dense = pool_number(p, slot, index);
    if (dense != REC_NONE) {
        if (!p->to[dense] || p->to[dense] == POOL_UNDER_WAY)
            return false;
        p->to[dense] = 0;
        p->lent--;
        if (dense >= p->home)
            p->borrowed[dense - p->home].from = slot;
        make_free(p, dense);
        return true;
    }
    if (p->unused != REC_NONE) {
        dense = p->unused;
        p->unused = p->borrowed[dense - p->home].index;
    } else {
        dense = p->count++;
    }
    p->borrowed[dense - p->home] = (struct borrowed){.index = index, .from = from};
    p->map[map_find(p, index)] = dense + 1;
    p->pos[dense] = p->rec[dense] = REC_NONE;
    p->to[dense] = 0;
    make_free(p, dense);
    return true;
}
