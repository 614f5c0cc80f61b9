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

static uint64_t share_bytes(uint32_t count)
{
    return sizeof(struct pool_part) +
           (uint64_t)count * (3 * sizeof(uint32_t) + sizeof(struct resting));
}

bool pool_open(struct table *t, uint8_t slot)
{
    struct part *part = &t->part[slot];
    if (part->pool)
        return true;
    uint32_t count = pool_share(t->schema.max_entries, slot);
    struct pool_part *p = calloc(1, sizeof *p);
    uint32_t *numbers = malloc((3 * (size_t)count + 1) * sizeof *numbers);
    struct resting *rest = malloc(((size_t)count + 1) * sizeof *rest);
    if (!p || !numbers || !rest) {
        free(p);
        free(numbers);
        free(rest);
        return false;
    }
    *p = (struct pool_part){.count = count, .free_count = count, .free = numbers,
                            .pos = numbers + count, .rec = numbers + 2 * (size_t)count,
                            .rest = rest};
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
    table_account(t, -(int64_t)share_bytes(p->count));
    free(p->free);
    free(p->rest);
    free(p);
    t->part[slot].pool = NULL;
}

uint32_t pool_find(const struct table *t, uint8_t slot, uint32_t index)
{
    const struct pool_part *p = t->part[slot].pool;
    return p ? p->rec[pool_dense(index)] : REC_NONE;
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
    if (p)
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
}

void pool_mature(struct pool_part *p, uint64_t now_ms)
{
    assert(!p->reserved);
    while (p->ready < p->end && p->rest[p->ready % p->count].release_ms <= now_ms)
        make_free(p, p->rest[p->ready++ % p->count].dense);
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
    assert(p->end - p->logged < p->count);
    p->rec[dense] = REC_NONE;
    p->rest[p->end++ % p->count] = (struct resting){.release_ms = release_ms, .dense = dense};
}
