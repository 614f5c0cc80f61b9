/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The shortest way: a txn that is one get without a touch, of an entry about
 * which everything is committed, under a valid lease. It changes nothing, so it
 * needs no working set, no log entry and no kept result; its result is written
 * where it leaves. Says and counts exactly what txn_execute would; whatever is
 * not that simple, or would have to wait, is left to it.
 */
#include "internal.h"

static bool is_plain(const struct txn_head *t, const struct table *table)
{
    const struct txn_op *op = txn_first(t);
    return t->nops == 1 && op->code == TXN_GET && !(op->flags & TXN_TOUCH) &&
           (table->schema.kind == TABLE_HASH || table->schema.kind == TABLE_COUNTERS);
}

/* What a get waits for otherwise; see waits_for in request.c. */
static bool may_tell(struct shard *s, const struct table *table, uint8_t slot)
{
    const struct slot *o = &s->slot[slot];
    uint64_t position = table->schema.durability == DURABLE_SYNC ? o->last_position
                                                                 : o->owner_position;
    return position <= s->commit && lease_may_tell(s);
}

bool read_now(struct shard *s, uint32_t conn, uint64_t client, const struct txn_head *t,
              const struct table *table)
{
    if (!is_plain(t, table) || !may_tell(s, table, t->slot))
        return false;
    const struct table_schema *schema = &table->schema;
    const uint8_t *key = txn_key(txn_first(t));
    if (slot_of(key + schema->part_off, schema->part_len) != t->slot)
        return false;
    uint32_t rec = part_find_near(table, t->slot, key, s->hint_hash, s->hint_rec), len = 0;
    struct txn_result_head *h = (struct txn_result_head *)results_room(s, conn, client);
    struct txn_result *r = (struct txn_result *)(h + 1);
    *r = (struct txn_result){.res = RES_ABSENT};
    if (rec != REC_NONE) {
        places_note(s, 0, (struct table *)(uintptr_t)table, t->slot, rec);
        const struct record *entry = record_at(table, t->slot, rec);
        len = schema->value_size;
        *r = (struct txn_result){.res = RES_HIT, .value_len = (uint16_t)len,
                                 .version = entry->version,
                                 .timeout_ms = entry->timeout_ms};
        if (len % 8)
            memset((uint8_t *)(r + 1) + (len & ~7u), 0, 8);
        record_value(&table->shape, entry, r + 1);
    }
    r->bytes = ((uint32_t)sizeof *r + len + 7) & ~7u;
    *h = (struct txn_result_head){.seq = t->seq, .bytes = (uint16_t)(sizeof *h + r->bytes),
                                  .status = TXN_OK, .nres = 1};
    results_push(s, h->bytes);
    s->count.txns++;
    s->counts.ops[TXN_GET]++;
    return true;
}
