/* SPDX-License-Identifier: BSD-3-Clause */
/* The shard's list of tables, and which table a reaction of another one means. */
#include <errno.h>

#include "internal.h"

struct table *table_by_name(const struct shard *s, const char *name)
{
    for (uint32_t i = 0; i < s->tables; i++)
        if (strncmp(s->table[i]->schema.name, name, TABLE_NAME_MAX) == 0)
            return s->table[i];
    return NULL;
}

static uint8_t kind_wanted(const struct table_reaction *r)
{
    return r->kind == REACT_FREE ? TABLE_POOL : TABLE_COUNTERS;
}

/* A table may name one that is opened later. */
static void resolve_reactions(struct shard *s)
{
    for (uint32_t i = 0; i < s->tables; i++)
        for (int k = 0; k < TABLE_REACTIONS; k++) {
            const struct table_reaction *r = &s->table[i]->schema.reactions[k];
            const struct table *t = r->kind ? table_by_name(s, r->table) : NULL;
            if (t && t->schema.kind == kind_wanted(r))
                s->table[i]->reaction_table[k] = (int8_t)t->id;
        }
}

void volatile_discard(struct shard *s)
{
    for (uint32_t i = 0; i < s->tables; i++)
        for (int slot = 0; is_volatile(s->table[i]) && slot < LETHE_SLOTS; slot++)
            part_clear(s->table[i], (uint8_t)slot);
}

int table_add(struct shard *s, uint8_t id, const struct table_schema *schema)
{
    if (id < s->tables)
        return 0;
    if (id != s->tables || id >= TABLES_MAX)
        return -EINVAL;
    struct table *t = table_create(schema, id, mix64(s->config.seed + id + 1), &s->memory_bytes);
    if (!t)
        return -ENOMEM;
    t->limits = limits_of(s, schema->name);
    if (schema->flags & TABLE_ONE_SIDED && s->config.slabs.make)
        t->slabs = &s->config.slabs;
    s->table[s->tables++] = t;
    s->digest += table_digest(t);
    resolve_reactions(s);
    return 0;
}
