/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ops of a txn that a history client builds, and the act of the history that each
 * of them is. Of the simulator's clients and of those of a real store (tests/store):
 * what their keys and values are they say themselves.
 *
 * A struct ops is its builder's, from when the txn is begun until it is submitted;
 * then the first n of `asked` and `acts` are what was asked, op by op. An op too many
 * aborts: who asks is wrong.
 */
#ifndef SIM_OPS_H
#define SIM_OPS_H

#include "client/lethe.h"
#include "history.h"

/* An op, for whoever reads its answer. */
struct asked {
    uint8_t code, table; /* enum txn_code; as key_space has it */
    uint16_t key;        /* HIST_NO_KEY: the answer says which */
};

struct key_space {
    uint8_t (*table_of)(uint16_t key);
    uint32_t (*bytes)(uint16_t key, uint8_t *out);
    uint16_t (*of_port)(uint32_t index);
    void (*value)(uint8_t table, uint64_t token, uint8_t *value); /* all of TXN_VALUE_MAX */
    uint8_t ports;                                                /* the table that is a pool */
};

struct ops {
    const struct key_space *keys;
    const int *tables; /* the client's, by number */
    struct lethe_txn *txn;
    uint32_t number; /* of the operation, in the history */
    uint32_t n;
    struct asked *asked; /* both of TXN_OPS_MAX at least */
    struct hist_act *acts;
};

/* Each returns its position. A version: that of the entry, 0 of one that is absent. */
int ops_get(struct ops *o, uint16_t key, uint8_t flags);
int ops_check(struct ops *o, uint16_t key, uint64_t version);
int ops_insert(struct ops *o, uint16_t key, uint16_t parent); /* parent: or HIST_NO_KEY */
int ops_cas(struct ops *o, uint16_t key, uint64_t version);
int ops_delete(struct ops *o, uint16_t key, uint64_t version);
int ops_timer(struct ops *o, uint16_t key, uint32_t delay_ms);
int ops_add(struct ops *o, uint16_t key, int64_t delta); /* counters {1, delta} */
int ops_add_limit(struct ops *o, uint16_t key, int64_t delta, int64_t limit);
int ops_add_sketch(struct ops *o, uint16_t key, int64_t delta);
int ops_alloc(struct ops *o, bool owned); /* owned: by what the txn inserts */
int ops_free(struct ops *o, uint32_t index, uint64_t version);
void ops_scan(struct ops *o, uint8_t table); /* the only op; no act yet */

/* The whole of a new or known session in one txn: session? else mapping? else (count,
 * index, mapping); then the session as the mapping's child. */
struct ops_session {
    uint16_t session, mapping, cap;
    int64_t delta, limit; /* of the cap's counter */
};
void ops_session(struct ops *o, struct ops_session s);

#endif
