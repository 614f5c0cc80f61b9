/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * GET /v1/tables: what the store keeps, of each shard as its primary says it (the verb `tables` of
 * statestore/server/verbs_tables.c). Two may say that they lead a shard, one of them deposed: the
 * later view's word is taken. Its rows have no names, here they get them.
 */
#include <string.h>

#include "orchestrator/controller/collect.h"

static json_t *find(json_t *all, const char *key, const json_t *like)
{
    size_t i;
    json_t *o;
    json_array_foreach(all, i, o)
        if (json_equal(json_object_get(o, key), json_object_get(like, key)))
            return o;
    return NULL;
}

/* `row`, of a shard: in place of an earlier view's. */
static void put_row(json_t *rows, json_t *row)
{
    json_t *there = find(rows, "shard", row);
    if (!there)
        json_array_append(rows, row);
    else if (gather_number(there, "view_epoch") < gather_number(row, "view_epoch"))
        json_object_update(there, row);
}

/* A store of an earlier release names what is in a row itself. */
static json_t *named(json_t *row, const json_t *leads, const char *store)
{
    static const char *const names[] = {"shard", "entries", "memory_bytes", "events_pending", "free", "resting"};
    json_t *o = json_is_object(row) ? json_copy(row) : json_object();
    for (size_t i = 0; i < sizeof names / sizeof *names && json_is_array(row); i++)
        json_object_set(o, names[i], json_array_get(row, i));
    if (json_is_array(row))
        json_object_set(o, "view_epoch", json_object_get(find((json_t *)leads, "shard", o), "view_epoch"));
    json_object_set_new(o, "store", json_string(store));
    return o;
}

static void add_table(json_t *tables, const json_t *table, const json_t *leads, const char *store)
{
    json_t *mine = find(tables, "name", table), *row;
    size_t i;
    if (!mine) {
        mine = json_copy((json_t *)table);
        json_object_set_new(mine, "shards", json_array());
        json_array_append_new(tables, mine);
    }
    json_array_foreach(json_object_get(table, "shards"), i, row) {
        json_t *o = named(row, leads, store);
        put_row(json_object_get(mine, "shards"), o);
        json_decref(o);
    }
}

static void took(const struct collect_reply *r)
{
    json_t *all = collect_json(r->collect), *o;
    size_t i;
    json_array_foreach(json_object_get(r->answer, "leads"), i, o) {
        json_object_set_new(o, "store", json_string(r->name));
        put_row(json_object_get(all, "leads"), o);
    }
    json_array_foreach(json_object_get(r->answer, "tables"), i, o)
        add_table(json_object_get(all, "tables"), o, json_object_get(r->answer, "leads"), r->name);
}

void tables_read(struct engine *e, struct order *o)
{
    struct collect *c = collect_begin(e, o);
    if (!c)
        return;
    json_object_set_new(collect_json(c), "shards", json_integer(e->desired->site->store.shards));
    json_object_set_new(collect_json(c), "leads", json_array());
    json_object_set_new(collect_json(c), "tables", json_array());
    for (uint32_t i = 0; i < e->n; i++)
        if (e->at[i].seen.alive && e->at[i].seen.kind == ORCH_STORE)
            collect_ask(c, e->at[i].seen.name, ORCH_STORE, took, "tables");
    collect_wait(c, collect_answer);
}
