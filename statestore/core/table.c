/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Parts of tables: slabs and records. The index is in index.c, pools in
 * pool.c; table.h says how they belong together.
 */
#include <assert.h>
#include <stdlib.h>

#include "common/wire/crc.h"
#include "table.h"

static uint8_t lines_for(uint32_t payload)
{
    uint32_t rest = payload > LINE0_PAYLOAD ? payload - LINE0_PAYLOAD : 0;
    return (uint8_t)(1 + (rest + LINE_PAYLOAD - 1) / LINE_PAYLOAD);
}

struct table *table_create(const struct table_schema *schema, uint8_t id, uint64_t seed,
                           uint64_t *memory_bytes)
{
    struct table *t = aligned_alloc(_Alignof(struct table), sizeof *t);
    if (!t)
        return NULL;
    memset(t, 0, sizeof *t);
    t->schema = *schema;
    t->id = id;
    t->record_lines = lines_for(schema->key_size + schema->value_size + 4);
    memset(t->reaction_table, -1, sizeof t->reaction_table);
    t->seed = seed;
    t->sketch_seed = hash_bytes(0x5e7c4ull, schema->name, TABLE_NAME_MAX);
    t->memory_bytes = memory_bytes;
    table_account(t, sizeof *t);
    for (int s = 0; s < LETHE_SLOTS; s++)
        t->part[s].free_head = REC_NONE;
    return t;
}

static uint64_t chunk_bytes(const struct table *t, uint32_t c)
{
    return ((uint64_t)CHUNK_FIRST << c) * (t->record_lines * LINE_BYTES + sizeof(struct meta));
}

void part_clear(struct table *t, uint8_t slot)
{
    struct part *p = &t->part[slot];
    for (uint32_t c = 0; c < CHUNKS_MAX && p->chunk[c].lines; c++) {
        table_account(t, -(int64_t)chunk_bytes(t, c));
        free(p->chunk[c].lines);
        free(p->chunk[c].metas);
    }
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

static bool add_chunk(struct table *t, struct part *p)
{
    uint32_t in_chunk, c = chunk_of(p->room, &in_chunk);
    size_t records = (size_t)CHUNK_FIRST << c;
    if (c >= CHUNKS_MAX)
        return false;
    void *lines = aligned_alloc(LINE_BYTES, records * t->record_lines * LINE_BYTES);
    void *metas = aligned_alloc(LINE_BYTES, records * sizeof(struct meta));
    if (!lines || !metas) {
        free(lines);
        free(metas);
        return false;
    }
    p->chunk[c] = (struct chunk){lines, metas};
    p->room += (uint32_t)records;
    table_account(t, (int64_t)chunk_bytes(t, c));
    return true;
}

bool part_reserve(struct table *t, uint8_t slot, uint32_t more)
{
    struct part *p = &t->part[slot];
    if (t->schema.kind == TABLE_SKETCH)
        return sketch_reserve(t, slot);
    while (records_left(p) < more)
        if (!add_chunk(t, p))
            return false;
    if (t->schema.kind == TABLE_POOL)
        return pool_open(t, slot);
    return index_reserve(t, slot, more);
}

uint64_t part_reserve_cost(const struct table *t, uint8_t slot, uint32_t more)
{
    const struct part *p = &t->part[slot];
    uint64_t cost = 0, left = records_left(p), room = p->room;
    if (t->schema.kind == TABLE_SKETCH)
        return sketch_reserve_cost(t, slot);
    while (left < more) {
        uint32_t in_chunk, c = chunk_of((uint32_t)room, &in_chunk);
        cost += chunk_bytes(t, c);
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
    struct meta *m = meta_at(t, slot, rec);
    *m = (struct meta){.parent_rec = REC_NONE};
    struct record *r = record_at(t, slot, rec);
    memset(r, 0, sizeof *r);
    r->incarnation = incarnation;
    r->state = RECORD_PENDING;
    r->key_len = t->schema.key_size;
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

/* --- records ------------------------------------------------------------------ */

/* Copies payload bytes [off, off + len) of a record in or out, line by line. */
static void payload_put(struct record *r, uint32_t off, const uint8_t *from, uint32_t len)
{
    if (off < LINE0_PAYLOAD) {
        uint32_t n = len < LINE0_PAYLOAD - off ? len : LINE0_PAYLOAD - off;
        memcpy(r->payload + off, from, n);
        off += n, from += n, len -= n;
    }
    struct record_line *line = (struct record_line *)(r + 1);
    off -= LINE0_PAYLOAD;
    for (line += off / LINE_PAYLOAD, off %= LINE_PAYLOAD; len; line++, off = 0) {
        uint32_t n = len < LINE_PAYLOAD - off ? len : LINE_PAYLOAD - off;
        memcpy(line->payload + off, from, n);
        from += n, len -= n;
    }
}

static void payload_get(const struct record *r, uint32_t off, uint8_t *to, uint32_t len)
{
    if (off < LINE0_PAYLOAD) {
        uint32_t n = len < LINE0_PAYLOAD - off ? len : LINE0_PAYLOAD - off;
        memcpy(to, r->payload + off, n);
        off += n, to += n, len -= n;
    }
    if (!len)
        return;
    const struct record_line *line = (const struct record_line *)(r + 1);
    off -= LINE0_PAYLOAD;
    for (line += off / LINE_PAYLOAD, off %= LINE_PAYLOAD; len; line++, off = 0) {
        uint32_t n = len < LINE_PAYLOAD - off ? len : LINE_PAYLOAD - off;
        memcpy(to, line->payload + off, n);
        to += n, len -= n;
    }
}

static uint32_t crc_of(const struct table *t, uint64_t version, const void *key, const void *value)
{
    uint32_t crc = crc32c(0, &version, sizeof version);
    crc = crc32c(crc, key, t->schema.key_size);
    return crc32c(crc, value, t->schema.value_size);
}

uint32_t record_write(const struct table *t, struct record *r, uint64_t version, const void *key,
                      const void *value)
{
    uint32_t key_len = t->schema.key_size, value_len = t->schema.value_size;
    uint32_t crc = crc_of(t, version, key, value);
    struct record_line *line = (struct record_line *)(r + 1);
    r->version = version;
    for (int i = 1; i < t->record_lines; i++)
        line[i - 1].version = version;
    payload_put(r, 0, key, key_len);
    payload_put(r, key_len, value, value_len);
    payload_put(r, key_len + value_len, (const uint8_t *)&crc, sizeof crc);
    return crc;
}

void record_value(const struct table *t, const struct record *r, void *value)
{
    payload_get(r, t->schema.key_size, value, t->schema.value_size);
}

uint32_t record_crc(const struct table *t, const struct record *r)
{
    uint32_t crc;
    payload_get(r, t->schema.key_size + t->schema.value_size, (uint8_t *)&crc, sizeof crc);
    return crc;
}

uint32_t record_crc_slow(const struct table *t, const struct record *r)
{
    uint8_t value[TXN_VALUE_MAX];
    record_value(t, r, value);
    return crc_of(t, r->version, r->payload, value);
}
