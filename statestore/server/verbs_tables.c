/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verb `tables`: what the shards that are led here keep, as of the last second.
 *
 *   {"leads": [{"shard": 0, "view_epoch": 3}],
 *    "tables": [{"name": "nat.session", "kind": "hash", "durability": "sync", "version": 1,
 *                "key_size": 40, "value_size": 8, "timeout_ms": 240000, "max_entries": 0,
 *                "schema": "6e61...",            struct table_schema, in hex: as lethe_table_open wants it
 *                "shards": [[0, 7, 4096, 0, null, null]]}]}
 *
 * Of each shard: its number, entries, memory_bytes, events_pending, free, resting. Rows without names: there are
 * TABLES_MAX * STORE_SHARDS_MAX of them where one node leads all, and the answer is one line of bounded length.
 * free, resting: indexes of a pool, else null. For a pool, entries are indexes in use.
 */
#include "statestore/server/verbs_impl.h"

#include <stdio.h>
#include <string.h>

#include "statestore/server/figures.h"

static json_t *hex(const void *bytes, size_t n)
{
    char text[2 * sizeof(struct table_schema) + 1];
    for (size_t i = 0; i < n; i++)
        snprintf(text + 2 * i, 3, "%02x", ((const uint8_t *)bytes)[i]);
    return json_string(text);
}

static json_t *table_object(const struct table_schema *s)
{
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:I, s:I, s:o, s:[]}", "name", s->name, "kind",
                     schema_kind_text(s->kind), "durability", schema_durability_text(s->durability),
                     "version", (int)s->version, "key_size", (int)s->key_size, "value_size",
                     (int)s->value_size, "timeout_ms", (json_int_t)s->timeout_ms, "max_entries",
                     (json_int_t)s->max_entries, "schema", hex(s, sizeof *s), "shards");
}

static json_t *table_of(json_t *all, const struct table_schema *s)
{
    size_t i;
    json_t *t;
    json_array_foreach(all, i, t)
        if (!strcmp(json_string_value(json_object_get(t, "name")), s->name))
            return t;
    t = table_object(s);
    json_array_append_new(all, t);
    return t;
}

void verbs_tables_add(json_t *answer, uint16_t shard, const struct shard_snapshot *snap)
{
    json_t *tables = json_object_get(answer, "tables");
    json_array_append_new(json_object_get(answer, "leads"),
                          json_pack("{s:i, s:I}", "shard", (int)shard, "view_epoch",
                                    (json_int_t)snap->status.view_epoch));
    for (uint32_t i = 0; i < snap->ntables; i++) {
        const struct shard_table *t = &snap->tables[i];
        bool pool = t->kind == TABLE_POOL;
        json_t *row = json_pack("[i, I, I, I, o, o]", (int)shard, (json_int_t)t->entries, (json_int_t)t->bytes,
                                (json_int_t)t->events_pending,
                                pool ? json_integer((json_int_t)t->pool_free) : json_null(),
                                pool ? json_integer((json_int_t)t->pool_resting) : json_null());
        json_array_append_new(json_object_get(table_of(tables, &t->schema), "shards"), row);
    }
}

json_t *verbs_tables(const struct store *s)
{
    json_t *answer = json_pack("{s:[], s:[]}", "leads", "tables");
    for (uint16_t i = 0; i < store_shards(s); i++) {
        struct shard_snapshot snap;
        store_snapshot(s, i, &snap);
        if (strcmp(figures_role(&snap), "primary") == 0)
            verbs_tables_add(answer, i, &snap);
    }
    return answer;
}
