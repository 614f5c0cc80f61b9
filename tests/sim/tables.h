/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tables the simulated clients use, and their keys: a few hot ones in three
 * hash slots, so that clients meet. A key has one number in the history.
 */
#ifndef SIM_TABLES_H
#define SIM_TABLES_H

#include "world.h"

enum sim_table {
    T_FLOWS = 0, /* sync hash, lives until deleted */
    T_IDLE,      /* sync hash, idle time-out */
    T_ALIVE,     /* sync hash, idle time-out, kept alive by the keeper */
    T_CALM,      /* async hash, idle time-out */
    T_SUMS,      /* sync counters */
    T_HITS,      /* async counters */
    T_CAPS,      /* sync counters, limit per partition */
    T_PORTS,     /* pool with quarantine */
    T_MAPS,      /* parents, own an index and a count */
    T_SESSIONS,  /* their children, idle time-out */
    T_TIMERS,    /* absolute time-outs of their own, with events */
    T_ENDS,      /* idle time-out, with events */
    T_BRIEF,     /* hash of the primary alone, idle time-out */
    T_TALLY,     /* counters of the primary alone */
    T_SEEN,      /* sync sketch */
    T_GUESS,     /* sketch of the primary alone */
    SIM_TABLES
};
enum {
    SIM_SLOTS = 3,
    /* All of the first shard's at first: slot 0's, a few of slot 1's, none of the last. */
    SIM_PORTS = POOL_BLOCK + 16,
    PORT_SLOT = 100,                /* in the history: + index; no slot of a key. See below */
    CAP_LIMIT = 3,
    IDLE_MAX = 5,                   /* of six in the first shard: inserts may find the table full */
    SESSIONS_PER_MAP = 3,
    EVENTS_MAX = 24,                /* of timers and their events: inserts may find it full */
    QUARANTINE_MS = 300,
    SKETCH_CELLS = 64,
    LONGEST_TIMEOUT_MS = 1500,
    DELAY_MIN_MS = 30,              /* of timers */
    DELAY_MAX_MS = 1200,
};

/* The hash slots: the first, its neighbour, the last. Everywhere here `slot`
 * counts them from 0. */
extern const uint8_t sim_slots[SIM_SLOTS];
uint32_t sim_slot_number(uint8_t hash_slot);

extern const struct table_schema sim_schemas[SIM_TABLES];
extern const uint8_t sim_per_slot[SIM_TABLES]; /* keys of a table in a slot; pool: 0 */

/* Number of key `i` of a table in a slot; of a pool index. */
uint16_t sim_key(enum sim_table table, uint32_t slot, uint32_t i);
uint16_t sim_port_key(uint32_t index);
/* An index is lent from slot to slot, and its versions grow all the same. What names
 * one index and nothing else runs where that is: in the history it stands in an order
 * of its own. */
uint8_t sim_port_slot(uint32_t index);
uint32_t sim_port_index(uint16_t key);
/* Its bytes; returns their count. */
uint32_t sim_key_bytes(uint16_t key, uint8_t *out);
enum sim_table sim_key_table(uint16_t key);
/* The other way round; HIST_NO_KEY: nobody ever asked for such a key. */
uint16_t sim_key_find(enum sim_table table, const uint8_t *bytes, uint32_t len);
/* SIM_TABLES: nobody opens such a table. */
enum sim_table sim_table_named(const char *name);
/* Where the token stands in a value. */
uint32_t sim_token_offset(enum sim_table table);
/* The token is all of the value, again and again: of several cache lines. */
static inline bool sim_is_filled(enum sim_table table)
{
    return table == T_FLOWS || table == T_IDLE;
}

#endif
