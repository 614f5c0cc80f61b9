/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One client of the store, and what it asks: seeded random txns of every kind over
 * few hot keys. Each is recorded before it is sent and when it is answered.
 * One thread; any number of clients.
 */
#ifndef TESTS_STORE_ASK_H
#define TESTS_STORE_ASK_H

#include "keys.h"
#include "record.h"
#include "tests/sim/ops.h"
#include "tests/sim/rng.h"

enum { PENDING_MAX = 64, HELD_MAX = 24 };

struct asker;
struct pending { /* a txn under way */
    struct asker *asker;
    bool used;
    uint32_t number;           /* in the record */
    uint8_t slot;              /* it names */
    uint16_t order;            /* in the history: see key_order */
    uint32_t nasked;
    uint64_t asked_us;
    struct asked asked[TXN_OPS_MAX];
    struct hist_act acts[HIST_ACTS_MAX]; /* the first `nasked` are what was asked */
    uint32_t nacts;
};
struct held_index {
    uint8_t slot;
    uint32_t index;
    uint64_t version;
};

struct asker {
    struct record *record;
    struct record_worker *counts;
    struct lethe_client *lethe;
    struct rng rng;
    uint32_t number;           /* of the client, in the history */
    uint32_t window;           /* operations at once; at most PENDING_MAX */
    uint32_t ports;            /* percent of what is asked, beside the usual mix: the pool */
    uint32_t lease_ms;         /* a client's lease; 0: not judged */
    uint64_t renewed_us[LETHE_SLOTS]; /* the lease at the slot's shard, at the earliest */
    int tables[KEY_TABLES];
    struct pending pending[PENDING_MAX];
    uint32_t npending, in_slot[LETHE_SLOTS];
    struct held_index held[HELD_MAX];
    uint32_t nheld;
    uint64_t version[KEYS_MAX]; /* by key: the last it saw */
};

/* Opens the tables of a.lethe. False: the library refuses. */
bool ask_open(struct asker *a);
/* One random txn; false: not now (window, or the record is full). */
bool ask_random(struct asker *a);
/* Reads one key. */
bool ask_key(struct asker *a, uint16_t key);

#endif
