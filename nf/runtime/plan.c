/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an NF's lookup writes: txns, in the bytes that will travel. Table
 * positions become the backend's numbers here, so nothing is translated later.
 * A bound passed marks the plan broken; the runtime drops and counts it.
 */
#include <string.h>

#include "nf/runtime/internal.h"

void nf_plan_begin(struct nf_plan *p, const struct chain_nf *nf, uint8_t *buf, uint32_t used)
{
    *p = (struct nf_plan){.nf = nf, .buf = buf, .used = used};
}

void nf_plan_end(struct nf_plan *p)
{
    if (!p->open.buf)
        return;
    if (((struct txn_head *)p->open.buf)->nops == 0)
        p->broken = true;
    p->used += txn_end(&p->open);
    p->open.buf = NULL;
}

void nf_lookup_begin(struct nf_plan *p, uint8_t slot)
{
    nf_plan_end(p);
    if (p->ntxn == NF_LOOKUPS_MAX || PLAN_BYTES - p->used < sizeof(struct txn_head)) {
        p->broken = true;
        return;
    }
    txn_begin(&p->open, p->buf + p->used, PLAN_BYTES - p->used, slot);
    p->ntxn++;
}

static const struct table_schema *schema_at(struct nf_plan *p, int table)
{
    if (!p->open.buf || table < 0 || table >= p->nf->inst->ntables) {
        p->broken = true;
        return NULL;
    }
    return &p->nf->inst->tables[table];
}

static int add_op(struct nf_plan *p, const struct txn_op *op, const void *key,
                  const void *parent_key, const void *value)
{
    int at = txn_add_op(&p->open, op, key, parent_key, value);
    if (at < 0)
        p->broken = true;
    return at;
}

int nf_get(struct nf_plan *p, int table, const void *key, uint8_t flags)
{
    const struct table_schema *s = schema_at(p, table);
    if (!s)
        return -1;
    struct txn_op op = {
        .code = TXN_GET, .table = p->nf->table[table], .flags = flags, .key_len = s->key_size};
    return add_op(p, &op, key, NULL, NULL);
}

int nf_insert(struct nf_plan *p, int table, const void *key, const void *value, uint32_t timeout_ms)
{
    const struct table_schema *s = schema_at(p, table);
    if (!s)
        return -1;
    struct txn_op op = {.code = TXN_INSERT,
                        .table = p->nf->table[table],
                        .key_len = s->key_size,
                        .value_len = (uint16_t)s->value_size,
                        .timeout_ms = timeout_ms};
    return add_op(p, &op, key, NULL, value);
}

int nf_insert_child(struct nf_plan *p, int table, const void *key, const void *value,
                    uint32_t timeout_ms, int parent_table, const void *parent_key)
{
    const struct table_schema *s = schema_at(p, table), *parent = schema_at(p, parent_table);
    if (!s || !parent)
        return -1;
    struct txn_op op = {.code = TXN_INSERT,
                        .table = p->nf->table[table],
                        .flags = TXN_HAS_PARENT,
                        .key_len = s->key_size,
                        .value_len = (uint16_t)s->value_size,
                        .timeout_ms = timeout_ms,
                        .parent_table = p->nf->table[parent_table],
                        .parent_key_len = parent->key_size};
    return add_op(p, &op, key, parent_key, value);
}

int nf_alloc(struct nf_plan *p, int pool, const void *record)
{
    const struct table_schema *s = schema_at(p, pool);
    if (!s)
        return -1;
    struct txn_op op = {
        .code = TXN_ALLOC, .table = p->nf->table[pool], .value_len = (uint16_t)s->value_size};
    return add_op(p, &op, NULL, NULL, record);
}

int nf_add_limit(struct nf_plan *p, int table, const void *key, const int64_t *deltas,
                 int64_t limit)
{
    const struct table_schema *s = schema_at(p, table);
    if (!s)
        return -1;
    struct txn_op op = {.code = TXN_ADD_LIMIT,
                        .table = p->nf->table[table],
                        .key_len = s->key_size,
                        .value_len = (uint16_t)s->value_size,
                        .arg0 = (uint64_t)limit};
    return add_op(p, &op, key, NULL, deltas);
}

void nf_patch(struct nf_plan *p, struct txn_patch patch)
{
    if (!p->open.buf || ((struct txn_head *)p->open.buf)->nops == 0 ||
        !txn_add_patch(&p->open, patch))
        p->broken = true;
}

void nf_skip_to_here(struct nf_plan *p, int at)
{
    if (!p->open.buf || at < 0 || at >= ((struct txn_head *)p->open.buf)->nops)
        p->broken = true;
    else
        txn_skip_to_here(&p->open, at);
}
