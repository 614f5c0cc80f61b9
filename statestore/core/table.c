/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parts of tables: slabs and records. The index is in index.c, pools in
 * pool.c; table.h says how they belong together.
 */
#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "shard.h"
#include "table.h"

const struct group group_none = {.parent_rec = REC_NONE};

struct table *table_create(const struct table_schema *schema, uint8_t id, uint64_t seed,
                           uint64_t *memory_bytes)
{
    struct table *t = aligned_alloc(_Alignof(struct table), sizeof *t);
    if (!t)
        return NULL;
    memset(t, 0, sizeof *t);
    t->schema = *schema;
    t->id = id;
    uint32_t payload = schema->key_size + schema->value_size + 4;
    t->shape = record_shape_of(schema->key_size, schema->value_size);
    t->meta_inside = record_lines_for(payload + sizeof(struct meta)) == t->shape.lines;
    t->meta_stride = t->meta_inside ? t->shape.lines * LINE_BYTES : sizeof(struct meta);
    memset(t->reaction_table, -1, sizeof t->reaction_table);
    t->seed = seed;
    t->sketch_seed = hash_bytes(0x5e7c4ull, schema->name, TABLE_NAME_MAX);
    t->memory_bytes = memory_bytes;
    table_account(t, sizeof *t);
    for (int s = 0; s < LETHE_SLOTS; s++)
        t->part[s].free_head = REC_NONE;
    return t;
}

enum { PAGES_FROM = 16 * 1024, PAGE_BYTES = 4096 };

void *memory_new(uint64_t bytes)
{
    void *at;
    if (bytes >= PAGES_FROM) {
        at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return at == MAP_FAILED ? NULL : at;
    }
    if ((at = aligned_alloc(LINE_BYTES, bytes)))
        memset(at, 0, bytes);
    return at;
}

void memory_free(void *at, uint64_t bytes)
{
    if (at && bytes >= PAGES_FROM)
        munmap(at, bytes);
    else
        free(at);
}

static uint64_t chunk_bytes(const struct table *t, uint32_t c)
{
    uint32_t meta = t->meta_inside ? 0 : sizeof(struct meta), page = t->slabs ? PAGE_BYTES : 1;
    uint64_t bytes = ((uint64_t)CHUNK_FIRST << c) * (t->shape.lines * LINE_BYTES + meta);
    return (bytes + page - 1) / page * page;
}
static uint64_t rkeys_bytes(const struct table *t)
{
    return t->slabs ? CHUNKS_MAX * sizeof(uint32_t) : 0;
}
static uint64_t groups_bytes(uint32_t c)
{
    return ((uint64_t)CHUNK_FIRST << c) * sizeof(struct group);
}

static void drop_group(struct table *t, struct part *p, uint32_t c)
{
    table_account(t, -(int64_t)groups_bytes(c));
    free(p->groups[c]);
    p->groups[c] = NULL;
}

static void drop_groups(struct table *t, struct part *p)
{
    if (!p->groups)
        return;
    for (uint32_t c = 0; c < CHUNKS_MAX && p->groups[c]; c++)
        drop_group(t, p, c);
    free(p->groups);
    p->groups = NULL;
    p->grouped = false;
}

/* A reader may still look at what is given back: nothing in it is to be believed. */
static void give_chunks_back(struct table *t, uint8_t slot)
{
    struct part *p = &t->part[slot];
    for (uint32_t rec = 0; t->slabs && rec < p->high; rec++)
        record_at(t, slot, rec)->state = RECORD_FREE;
    for (uint32_t c = 0; c < CHUNKS_MAX && p->chunk[c].lines; c++) {
        table_account(t, -(int64_t)chunk_bytes(t, c));
        if (t->slabs)
            t->slabs->give_back(t->slabs->ctx, p->chunk[c].lines, chunk_bytes(t, c));
        else
            memory_free(p->chunk[c].lines, chunk_bytes(t, c));
    }
    if (p->rkeys)
        table_account(t, -(int64_t)rkeys_bytes(t));
    free(p->rkeys);
}

void part_clear(struct table *t, uint8_t slot)
{
    struct part *p = &t->part[slot];
    give_chunks_back(t, slot);
    drop_groups(t, p);
    index_destroy(t, &p->index);
    pool_close(t, slot);
    if (t->schema.flags & TABLE_EVENTS)
        events_close(t, slot);
    if (t->schema.kind == TABLE_SKETCH)
        sketch_close(t, slot);
    t->entries -= p->entries;
    memset(p, 0, sizeof *p);
    p->free_head = REC_NONE;
}

void table_destroy(struct table *t)
{
    if (!t)
        return;
    for (int s = 0; s < LETHE_SLOTS; s++)
        part_clear(t, (uint8_t)s);
    table_account(t, -(int64_t)sizeof *t);
    free(t);
}

static uint32_t records_left(const struct part *p)
{
    return p->free_count + (p->room - p->high);
}

static bool add_groups(struct table *t, struct part *p, uint32_t c)
{
    struct group *g = malloc(groups_bytes(c));
    if (!g)
        return false;
    for (uint32_t i = 0; i < (uint32_t)CHUNK_FIRST << c; i++)
        g[i] = group_none;
    p->groups[c] = g;
    table_account(t, (int64_t)groups_bytes(c));
    return true;
}

static uint8_t *chunk_new(struct table *t, struct part *p, uint32_t c)
{
    if (!t->slabs)
        return memory_new(chunk_bytes(t, c));
    if (!p->rkeys) {
        if (!(p->rkeys = calloc(1, rkeys_bytes(t))))
            return NULL;
        table_account(t, (int64_t)rkeys_bytes(t));
    }
    return t->slabs->make(t->slabs->ctx, chunk_bytes(t, c), &p->rkeys[c]);
}

static bool add_chunk(struct table *t, struct part *p)
{
    uint32_t in_chunk, c = chunk_of(p->room, &in_chunk);
    size_t records = (size_t)CHUNK_FIRST << c;
    if (c >= CHUNKS_MAX || (p->grouped && !add_groups(t, p, c)))
        return false;
    uint8_t *lines = chunk_new(t, p, c);
    if (!lines) {
        if (p->grouped)
            drop_group(t, p, c);
        return false;
    }
    uint8_t *metas = t->meta_inside ? lines + t->meta_stride - sizeof(struct meta)
                                    : lines + records * t->shape.lines * LINE_BYTES;
    p->chunk[c] = (struct chunk){lines, metas};
    p->room += (uint32_t)records;
    table_account(t, (int64_t)chunk_bytes(t, c));
    return true;
}

static bool start_groups(struct table *t, struct part *p)
{
    if (!(p->groups = calloc(CHUNKS_MAX, sizeof *p->groups)))
        return false;
    for (uint32_t c = 0; c < CHUNKS_MAX && p->chunk[c].lines; c++)
        if (!add_groups(t, p, c)) {
            drop_groups(t, p);
            return false;
        }
    p->grouped = true;
    return true;
}

bool part_reserve(struct table *t, uint8_t slot, uint32_t more, bool groups)
{
    struct part *p = &t->part[slot];
    if (t->schema.kind == TABLE_SKETCH)
        return sketch_reserve(t, slot);
    if (groups && !p->grouped && !start_groups(t, p))
        return false;
    while (records_left(p) < more)
        if (!add_chunk(t, p))
            return false;
    if (t->schema.kind == TABLE_POOL)
        return pool_open(t, slot);
    return index_reserve(t, slot, more);
}

uint64_t part_reserve_cost(const struct table *t, uint8_t slot, uint32_t more, bool groups)
{
    const struct part *p = &t->part[slot];
    uint64_t cost = 0, left = records_left(p), room = p->room;
    if (t->schema.kind == TABLE_SKETCH)
        return sketch_reserve_cost(t, slot);
    if (groups && !p->grouped)
        cost += room * sizeof(struct group);
    cost += p->rkeys || left >= more ? 0 : rkeys_bytes(t);
    while (left < more) {
        uint32_t in_chunk, c = chunk_of((uint32_t)room, &in_chunk);
        cost += chunk_bytes(t, c) + (groups || p->grouped ? groups_bytes(c) : 0);
        left += (uint64_t)CHUNK_FIRST << c;
        room += (uint64_t)CHUNK_FIRST << c;
    }
    if (t->schema.kind == TABLE_POOL)
        return cost + (p->pool ? 0 : pool_share(t->schema.max_entries, slot) * 30ull);
    return cost + index_reserve_cost(t, slot, more);
}

uint32_t part_insert(struct table *t, uint8_t slot, const void *key, uint64_t hash)
{
    struct part *p = &t->part[slot];
    uint32_t rec = p->free_head, incarnation = 1;
    if (rec != REC_NONE) {
        p->free_head = meta_at(t, slot, rec)->next.low;
        p->free_count--;
        incarnation = record_at(t, slot, rec)->incarnation + 1;
    } else {
        assert(p->high < p->room);
        rec = p->high++;
    }
    struct record *r = record_at(t, slot, rec);
    memset(r, 0, sizeof *r);
    r->incarnation = (uint16_t)incarnation;
    r->state = RECORD_PENDING;
    *meta_at(t, slot, rec) = (struct meta){0};
    if (p->grouped)
        *group_at(t, slot, rec) = group_none;
    if (t->schema.kind != TABLE_POOL)
        index_put(&p->index, hash, rec);
    p->entries++;
    t->entries++;
    return rec;
}

void part_remove(struct table *t, uint8_t slot, uint32_t rec)
{
    struct part *p = &t->part[slot];
    struct meta *m = meta_at(t, slot, rec);
    if (t->schema.kind != TABLE_POOL)
        index_drop(&p->index, record_hash(t, slot, rec), rec);
    record_at(t, slot, rec)->state = RECORD_FREE;
    m->next = (struct link){.low = p->free_head};
    p->free_head = rec;
    p->free_count++;
    p->entries--;
    t->entries--;
}
