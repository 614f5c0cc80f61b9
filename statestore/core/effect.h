/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Log entries and effects, as bytes: what a primary tells its backups.
 *
 *   entry  = struct entry, `effects` effects, then the txn's encoded result
 *            (result_bytes, 0: none to be kept)
 *   effect = struct effect, key, parent key, value; padded to 8
 *
 * One txn, one expiry, one opening is ONE entry, applied atomically. Effects
 * say what the state becomes, not how it came about; only EFFECT_ADD is
 * relative, and so every entry is applied exactly once.
 *
 * A snapshot is made of the same effects (those from EFFECT_SLOT on occur
 * nowhere else); EFFECT_PUT then carries the record's own version and children.
 */
#ifndef STATESTORE_CORE_EFFECT_H
#define STATESTORE_CORE_EFFECT_H

#include <stdint.h>

#include "common/wire/msg.h"

enum {
    SLOT_BASE = LETHE_SLOTS,  /* entries and chunks of the shard as a whole */
};

enum effect_code {
    EFFECT_PUT = 1,           /* the record is now this; creates, or takes a pool index */
    EFFECT_ADD,               /* value = deltas; creates at 0 */
    EFFECT_DEL,               /* gone; a pool index rests until deadline_ms */
    EFFECT_META,              /* deadline and children only, same version */
    EFFECT_TABLE,             /* value = schema, table = id */
    EFFECT_CLIENT_OPEN,       /* version = id */
    EFFECT_CLIENT_GONE,       /* version = id */
    EFFECT_SLOT,              /* version = the slot's sequence */
    EFFECT_RESULT,            /* version = client, deadline_ms = seq, value = result */
    EFFECT_REST,              /* a pool index (key) that rests until deadline_ms */
    EFFECT_CLIENT,            /* version = id, deadline_ms = watermark */
    EFFECT_CLIENT_COUNTER,    /* version = last id given out */
    /* Ownership (move.c). children = slot epoch or loan, timeout_ms = the other shard. */
    EFFECT_RELEASE,           /* the slot goes to shard timeout_ms under epoch children */
    EFFECT_INCOMING,          /* what came of it so far is void: attempt `version` begins */
    EFFECT_ACCEPT,            /* the slot is ours under epoch children; version = version_base */
    EFFECT_GONE,              /* shard timeout_ms has it: discard; version 1: we refused it */
    EFFECT_OWNER,             /* snapshot: struct slot's owner = parent_table, epoch, other,
                                 version_base = version, attempt = deadline_ms */
    EFFECT_LEND,              /* pool indexes (value: u32 each) go to slot children, in the log:
                                 of the entry's `also` slot; LETHE_SLOTS: to another shard, under
                                 way */
    EFFECT_BORROW,            /* pool indexes that slot children had are this one's; version: the
                                 least version_base */
    EFFECT_LOAN_DONE,         /* slot children of the other shard has them; LETHE_SLOTS: refused,
                                 they stay */
    /* Events (event.c). */
    EFFECT_EVENT,             /* an expiry's event: version of the entry, key, value */
    EFFECT_CONSUMER,          /* version = client, children = consumer epoch */
    EFFECT_CURSOR,            /* version = cursor */
    EFFECT_CELLS,             /* snapshot: a run of a sketch's cells, from `children` on */
    EFFECT_LOAN,              /* of the base: the last loan to, or from, shard timeout_ms:
                                 number = version, state = parent_table, its slot = children */
    EFFECT_CODE_END
};

struct effect {               /* 40 bytes */
    uint8_t code, table, key_len, parent_table;
    uint8_t parent_key_len, zero;
    uint16_t value_len;
    uint32_t bytes;           /* with key, parent key, value, padding */
    uint32_t rec;             /* scratch of the replica that holds the entry */
    uint64_t version;
    uint64_t deadline_ms;
    uint32_t timeout_ms, children;
};

struct entry {                /* 72 bytes */
    uint32_t bytes;           /* all of it, multiple of 8 */
    uint16_t slot;            /* or SLOT_BASE */
    uint16_t effects;
    uint64_t position;
    uint64_t slot_seq;
    uint64_t time_ms;         /* shard time */
    uint64_t client, seq, ack;/* client 0: not a client's */
    uint32_t effects_bytes, result_bytes;
    uint32_t sync;            /* 1: replies of this slot wait for it */
    uint32_t also;            /* another slot it changes, or SLOT_BASE, + 1; 0: none */
};

static inline const uint8_t *effect_key(const struct effect *e)
{
    return (const uint8_t *)(e + 1);
}
static inline const uint8_t *effect_parent_key(const struct effect *e)
{
    return effect_key(e) + e->key_len;
}
static inline const uint8_t *effect_value(const struct effect *e)
{
    return effect_parent_key(e) + e->parent_key_len;
}
static inline struct effect *effect_next(const struct effect *e)
{
    return (struct effect *)((uint8_t *)(uintptr_t)e + e->bytes);
}
static inline struct effect *entry_first(const struct entry *e)
{
    return (struct effect *)(uintptr_t)(e + 1);
}
static inline const uint8_t *entry_result(const struct entry *e)
{
    return (const uint8_t *)(e + 1) + e->effects_bytes;
}
static inline uint32_t effect_size(uint32_t key_len, uint32_t parent_len, uint32_t value_len)
{
    return ((uint32_t)sizeof(struct effect) + key_len + parent_len + value_len + 7) & ~7u;
}

/* Writes an effect at `at` and returns it; key, parent and value may be NULL
 * when their length is 0. There must be effect_size() bytes. */
struct effect *effect_write(void *at, const struct effect *head, const void *key,
                            const void *parent_key, const void *value);
/* Bytes from another replica: NULL, or what is wrong with the shape of the
 * effects that fill `bytes` bytes. */
const char *effects_check(const void *effects, uint32_t bytes);
/* The same for an entry that has at most `room` bytes. */
const char *entry_check(const struct entry *e, uint32_t room);

#endif
