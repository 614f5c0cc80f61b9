/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The digest: a sum, modulo 2^64, of one hash per thing that is replicated.
 * A sum knows no order, so each change costs one subtraction and one addition
 * and replicas whose slabs are arranged differently still agree. Here: the
 * hash of each thing, and the sum over everything from scratch.
 *
 *   records (key, value, version, replicated deadline, time-out, children,
 *   parent), resting pool indexes, slot sequences, clients' watermarks, kept
 *   results, tables, the counter of client ids, event logs,
 *   cells of sketches, who owns the slots, pool indexes lent,
 *   loans to and from other shards
 */
#include "internal.h"

uint64_t record_digest(const struct table *t, uint8_t slot, uint32_t rec)
{
    const struct record *r = record_at(t, slot, rec);
    const struct group *g = group_of(t, slot, rec);
    if (is_volatile(t))
        return 0;
    uint64_t h = mix64((uint64_t)record_crc(&t->shape, r) << 16 | (uint64_t)slot << 8 | (t->id + 1u));
    h = mix64(h ^ r->version);
    h = mix64(h ^ replicated_ms(r, meta_at(t, slot, rec)));
    h = mix64(h ^ ((uint64_t)r->timeout_ms << 32 | g->children));
    return mix64(h ^ g->parent_mix);
}

uint64_t rest_digest(uint8_t table, uint32_t index, uint64_t release_ms)
{
    return mix64(mix64((uint64_t)index << 16 | 0x8000u | table) ^ release_ms);
}

uint64_t slot_digest(uint32_t slot, uint64_t seq)
{
    return seq ? mix64(mix64(0x510700000000ull | slot) ^ seq) : 0;
}

uint64_t client_digest(uint64_t id, uint64_t ack)
{
    return mix64(mix64(id ^ 0xc11e27ull) ^ ack);
}

uint64_t table_digest(const struct table *t)
{
    return mix64(crc32c(t->id, &t->schema, sizeof t->schema) | 1ull << 40);
}

uint64_t kept_digest(const struct kept *k)
{
    uint64_t h = mix64(k->client ^ 0x4e57ull);
    h = mix64(h ^ k->seq);
    return mix64(h ^ ((uint64_t)crc32c(k->slot, k->result, k->bytes) << 8 | 1));
}

static uint64_t pool_digest(const struct table *t, uint8_t slot)
{
    const struct pool_part *p = t->part[slot].pool;
    uint64_t sum = 0;
    for (uint64_t i = p ? p->logged : 0; p && i < p->end; i++) {
        const struct resting *r = &p->rest[i % p->room];
        sum += rest_digest(t->id, pool_index_of(p, slot, r->dense), r->release_ms);
    }
    return sum;
}

static uint64_t part_digest(const struct table *t, uint8_t slot)
{
    uint64_t sum = pool_digest(t, slot) + lends_digest(t, slot) + events_digest(t, slot);
    if (is_volatile(t))
        return 0;
    if (t->schema.kind == TABLE_SKETCH)
        return sketch_digest(t, slot);
    for (uint32_t rec = 0; rec < t->part[slot].high; rec++) {
        const struct record *r = record_at(t, slot, rec);
        if (r->state == RECORD_FREE)
            continue;
        sum += record_digest(t, slot, rec);
        if (record_crc_slow(&t->shape, r) != record_crc(&t->shape, r))
            sum += 1; /* a damaged record shows */
    }
    return sum;
}

uint64_t slot_entries_digest(const struct shard *s, uint8_t slot)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < s->tables; i++)
        sum += part_digest(s->table[i], slot);
    return sum;
}

uint64_t shard_digest_slow(const struct shard *s)
{
    uint64_t sum = slot_digest(SLOT_BASE, s->client_counter) + loans_digest(s);
    for (uint32_t i = 0; i < s->tables; i++)
        sum += table_digest(s->table[i]);
    for (uint32_t slot = 0; slot < LETHE_SLOTS; slot++) {
        sum += slot_entries_digest(s, (uint8_t)slot);
        sum += slot_digest(slot, s->slot[slot].seq) + owner_digest(s, (uint8_t)slot);
        for (const struct kept *k = s->slot[slot].results; k; k = k->slot_next)
            sum += kept_digest(k);
    }
    for (uint32_t i = 0; i < s->client_room; i++)
        if (s->client[i].id)
            sum += client_digest(s->client[i].id, s->client[i].ack);
    return sum;
}

static void each_in_part(const struct shard *s, const struct table *t, uint8_t slot,
                         void (*each)(void *, const struct shard_entry *), void *ctx)
{
    uint8_t value[TXN_VALUE_MAX] __attribute__((aligned(8)));
    for (uint32_t rec = 0; rec < t->part[slot].high; rec++) {
        const struct record *r = record_at(t, slot, rec);
        const struct meta *m = meta_at(t, slot, rec);
        if (r->state == RECORD_FREE)
            continue;
        record_value(&t->shape, r, value);
        struct shard_entry e = {.table = t->schema.name, .kind = t->schema.kind, .slot = slot,
                                .key_len = t->schema.key_size, .key = r->payload, .value = value,
                                .value_len = t->schema.value_size,
                                .children = group_of(t, slot, rec)->children,
                                .version = r->version, .deadline_ms = r->deadline_ms,
                                .replicated_deadline_ms = replicated_ms(r, m)};
        each(ctx, &e);
    }
}

void shard_each(const struct shard *s, void (*each)(void *ctx, const struct shard_entry *e),
                void *ctx)
{
    for (uint32_t i = 0; i < s->tables; i++)
        for (int slot = 0; slot < LETHE_SLOTS; slot++)
            each_in_part(s, s->table[i], (uint8_t)slot, each, ctx);
}
