/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Building a txn in its window slot. Sizes of keys and values are the table's;
 * a table number that was never opened is the caller's bug and asserts.
 */
#include "client/client_impl.h"

#include <assert.h>

static const struct table_schema *schema_of(const struct lethe_txn *t, int table)
{
    assert(t->state == SLOT_BUILDING && table >= 0 && table < t->client->ntables);
    return &t->client->tables[table];
}

static int add_keyed(struct lethe_txn *t, int table, struct txn_op op, const void *key,
                     const void *value)
{
    const struct table_schema *schema = schema_of(t, table);
    op.table = (uint8_t)table;
    op.key_len = schema->key_size;
    op.value_len = value ? (uint16_t)schema->value_size : 0;
    return txn_add_op(&t->build, &op, key, NULL, value);
}

int lethe_txn_get(struct lethe_txn *t, int table, const void *key, uint8_t flags)
{
    return add_keyed(t, table, (struct txn_op){.code = TXN_GET, .flags = flags}, key, NULL);
}

int lethe_txn_check(struct lethe_txn *t, int table, const void *key, uint64_t version)
{
    return add_keyed(t, table, (struct txn_op){.code = TXN_CHECK, .arg0 = version}, key, NULL);
}

int lethe_txn_insert(struct lethe_txn *t, int table, const void *key, const void *value,
                     uint32_t timeout_ms)
{
    return add_keyed(t, table, (struct txn_op){.code = TXN_INSERT, .timeout_ms = timeout_ms}, key,
                     value);
}

int lethe_txn_insert_child(struct lethe_txn *t, int table, const void *key, const void *value,
                           uint32_t timeout_ms, int parent_table, const void *parent_key)
{
    const struct table_schema *schema = schema_of(t, table);
    struct txn_op op = {
        .code = TXN_INSERT,
        .table = (uint8_t)table,
        .flags = TXN_HAS_PARENT,
        .key_len = schema->key_size,
        .value_len = (uint16_t)schema->value_size,
        .timeout_ms = timeout_ms,
        .parent_table = (uint8_t)parent_table,
        .parent_key_len = schema_of(t, parent_table)->key_size,
    };
    return txn_add_op(&t->build, &op, key, parent_key, value);
}

int lethe_txn_cas(struct lethe_txn *t, int table, const void *key, uint64_t version,
                  const void *value, uint32_t timeout_ms)
{
    struct txn_op op = {.code = TXN_CAS, .arg0 = version, .timeout_ms = timeout_ms};
    return add_keyed(t, table, op, key, value);
}

int lethe_txn_delete(struct lethe_txn *t, int table, const void *key, uint64_t version)
{
    return add_keyed(t, table, (struct txn_op){.code = TXN_DELETE, .arg0 = version}, key, NULL);
}

int lethe_txn_add(struct lethe_txn *t, int table, const void *key, const int64_t *deltas)
{
    return add_keyed(t, table, (struct txn_op){.code = TXN_ADD}, key, deltas);
}

int lethe_txn_add_limit(struct lethe_txn *t, int table, const void *key, const int64_t *deltas,
                        int64_t limit)
{
    struct txn_op op = {.code = TXN_ADD_LIMIT, .arg0 = (uint64_t)limit};
    return add_keyed(t, table, op, key, deltas);
}

int lethe_txn_timer(struct lethe_txn *t, int table, const void *key, const void *payload,
                    uint32_t delay_ms)
{
    assert((schema_of(t, table)->flags & TABLE_EVENTS) && (schema_of(t, table)->flags & TABLE_ABSOLUTE));
    return lethe_txn_insert(t, table, key, payload, delay_ms ? delay_ms : 1);
}

int lethe_txn_alloc(struct lethe_txn *t, int pool, const void *record)
{
    struct txn_op op = {.code = TXN_ALLOC, .table = (uint8_t)pool};
    op.value_len = (uint16_t)schema_of(t, pool)->value_size;
    return txn_add_op(&t->build, &op, NULL, NULL, record);
}

int lethe_txn_free(struct lethe_txn *t, int pool, uint32_t index, uint64_t version)
{
    return add_keyed(t, pool, (struct txn_op){.code = TXN_FREE, .arg0 = version}, &index, NULL);
}

int lethe_txn_scan(struct lethe_txn *t, int table, uint64_t cursor)
{
    schema_of(t, table);
    struct txn_op op = {.code = TXN_SCAN, .table = (uint8_t)table, .arg0 = cursor};
    return txn_add_op(&t->build, &op, NULL, NULL, NULL);
}

bool lethe_txn_patch(struct lethe_txn *t, struct txn_patch patch)
{
    return txn_add_patch(&t->build, patch);
}

void lethe_txn_skip_to_here(struct lethe_txn *t, int at)
{
    txn_skip_to_here(&t->build, at);
}
