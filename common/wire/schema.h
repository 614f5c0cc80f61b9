/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A table's schema: plain data, declared by whoever opens the table, kept by
 * every replica. Opening a table with another schema is an error that names
 * both. Every size is bytes, every time milliseconds of shard time.
 */
#ifndef LETHE_WIRE_SCHEMA_H
#define LETHE_WIRE_SCHEMA_H

#include <stdint.h>

#include "txn.h"

/*
 * TABLE_SKETCH is a count-min sketch (Cormode and Muthukrishnan 2005) per hash
 * slot: SKETCH_ROWS rows of max_entries / SKETCH_ROWS cells of 64 bits. ADD adds
 * to a cell of each row, GET gives the least of them: never too little, at most
 * 2.72 / (cells of a row) of all that was added to the slot too much, with
 * probability 1 - e^-SKETCH_ROWS. It never grows; no time-out, no DELETE, no
 * SCAN. value_size is 8, max_entries a multiple of SKETCH_ROWS.
 */
enum table_kind { TABLE_HASH = 1, TABLE_POOL, TABLE_COUNTERS, TABLE_SKETCH };
enum { SKETCH_ROWS = 4, SKETCH_CELLS_MAX = 1 << 20 };
/* DURABLE_NONE: kept by the primary alone, lost with it; never for a pool, nor for
 * a table with parents, events or reactions. A txn takes its strongest table's. */
enum table_durability { DURABLE_SYNC = 0, DURABLE_ASYNC = 1, DURABLE_NONE = 2 };

/* table_schema.flags */
enum {
    TABLE_PARENT_DIES = 1,    /* an entry whose last child goes is deleted with its reactions;
                                 without: it lives to its time */
    TABLE_EVENTS = 2,         /* an expiry appends an event, kept until its consumer acknowledged
                                 it; pending events count against max_entries. Hash tables and
                                 counters */
    TABLE_ABSOLUTE = 4,       /* touches do not move deadlines, nor do writes that give no
                                 time-out: with TABLE_EVENTS this is timer(key, delay, payload),
                                 an insert with a time-out; DELETE cancels it */
    TABLE_ONE_SIDED = 8,      /* clients by RDMA may read its entries in the primary's memory, past
                                 its processor (client/remember.h); durability sync, no sketch.
                                 Idle time-outs last up to a quarter longer */
};

enum {
    TABLES_MAX = 64,
    TABLE_NAME_MAX = 24,      /* with the closing NUL */
    TABLE_REACTIONS = 2,
};

/*
 * A reaction runs in the same log entry as the delete or expiry of an entry of
 * this table (for the parent of a group: when its last child is gone).
 *   REACT_FREE  frees index  *(u32 *)(value + off)  of pool `table`, but only
 *               if the pool record there is the one named by version
 *               *(u64 *)(value + off + 4) when len == 12 (len == 4: no check)
 *   REACT_SUB   subtracts 1 from field 0 of counters `table` at key bytes
 *               [off, off + len) of the entry's key
 */
enum reaction_kind { REACT_NONE = 0, REACT_FREE, REACT_SUB };

struct table_reaction {       /* 32 bytes */
    uint8_t kind, off, len, zero[5];
    char table[TABLE_NAME_MAX];
};

struct table_schema {
    char name[TABLE_NAME_MAX];  /* NUL padded */
    uint8_t kind;               /* enum table_kind */
    uint8_t durability;         /* enum table_durability */
    uint16_t version;           /* schema version, the owner's number */
    uint8_t key_size;           /* pool: 4 */
    uint8_t part_off, part_len; /* partition key: these bytes of the key */
    uint8_t flags;              /* TABLE_PARENT_DIES, ... */
    uint32_t value_size;        /* counters: 8 * fields */
    uint32_t timeout_ms;        /* idle time-out of entries; 0: none */
    uint32_t max_entries;       /* over all slots of a shard; 0: unlimited.
                                   pool: number of indexes, over all shards */
    uint32_t quarantine_ms;     /* pool: rest of a freed index */
    struct table_reaction reactions[TABLE_REACTIONS];
};

/* NULL, or what is wrong with it (never trusts the NUL). */
const char *schema_validate(const struct table_schema *s);
/* 0 if equal; otherwise writes a sentence naming both values of the first
 * field that differs into err. */
int schema_compare(const struct table_schema *have, const struct table_schema *want, char *err,
                   uint32_t err_len);
/* "hash", "pool", "counters", "sketch"; "sync", "async", "none". */
const char *schema_kind_text(uint8_t kind);
const char *schema_durability_text(uint8_t durability);

#endif
