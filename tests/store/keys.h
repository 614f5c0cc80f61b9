/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tables that the history clients use and their keys: few and hot, in some
 * hash slots, so that clients meet. A key has one number in the history; the
 * numbers of pool indexes come last.
 */
#ifndef TESTS_STORE_KEYS_H
#define TESTS_STORE_KEYS_H

#include "common/wire/schema.h"
#include "tests/sim/history.h"

enum key_table {
    T_FLOWS = 0, /* lives until deleted */
    T_IDLE,      /* idle time-out */
    T_SUMS,      /* counters that only additions change */
    T_CAPS,      /* counters with a limit */
    T_MAPS,      /* parents: own an index and a count */
    T_SESSIONS,  /* their children, idle time-out */
    T_PORTS,     /* pool with quarantine */
    KEY_TABLES
};
enum {
    SESSIONS_PER_MAP = 3,
    CAP_LIMIT = 3,
    PORTS = LETHE_SLOTS * POOL_BLOCK,
    KEYS_MAX = 60000,
};

extern const struct table_schema key_schemas[KEY_TABLES];
extern const uint8_t keys_per_slot[KEY_TABLES];

/* Chooses the hash slots, spread over all shards. Before all else. */
void keys_init(uint32_t nslots);
uint32_t keys_slots(void);
uint8_t keys_slot(uint32_t i);              /* the hash slot; i below keys_slots() */
uint32_t keys_part(uint32_t i);             /* a partition key that hashes there */
uint32_t keys_count(void);

uint16_t key_of(enum key_table table, uint32_t i, uint32_t n); /* n-th of the i-th slot */
uint16_t key_of_port(uint32_t index);       /* HIST_NO_KEY: no such index */
uint32_t key_port(uint16_t key);
enum key_table key_table(uint16_t key);
uint8_t key_slot(uint16_t key);             /* pool: where it belongs at first */
/* What names one pool index and nothing else runs wherever that was lent to: in the
 * history it stands in an order of its own, behind all slots. Else the slot. */
uint16_t key_order(uint16_t key);
uint32_t key_bytes(uint16_t key, uint8_t *out); /* how many */
/* HIST_NO_KEY: nobody ever asks for such a key. */
uint16_t key_find(enum key_table table, const uint8_t *bytes, uint32_t len);
/* Where the token stands in a value. */
uint32_t key_token_offset(enum key_table table);
/* Tells the history all of them, in order. */
void keys_declare(struct history *h);

#endif
