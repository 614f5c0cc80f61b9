/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * When each step of a txn was taken here, while somebody wants to know it: see
 * common/metrics/trace.h for how this is put together with a worker's books.
 *
 *   received   its BATCH was read off the connection
 *   executed   the core has run it (the step that did is over, or its answer was made in it)
 *   released   what it rests on is committed: the core gives the answer out
 *   sent       the answer's bytes were given to the transport
 *
 * Every txn is booked, at the place that its client and sequence give, over whatever was there:
 * TRACED_TXNS in a row of one client are kept. Off, a shard looks at one bool per frame.
 *
 * Threads: the shard's writes, the control thread reads; a lock between them, while on.
 *
 *   trace on SECONDS                  {"ok": true, "now_us": 1, "until_us": 2}
 *   trace off
 *   trace read SHARD CLIENT SEQ ...   {"now_us": 7, "active": true, "txns": [{"shard": 0, "client": 9,
 *                                      "seq": 4, "slot": 17, "received_us": 1, "executed_us": 2,
 *                                      "released_us": 3, "sent_us": 4}]}; those that are kept; 0: not yet
 */
#ifndef STATESTORE_SERVER_TRACED_H
#define STATESTORE_SERVER_TRACED_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wire/msg.h"

enum { TRACED_TXNS = 16384 };

struct traced_txn {
    uint64_t client, seq, received_us, executed_us, released_us, sent_us;
    uint8_t slot;
};

struct traced;
struct traced *traced_create(void); /* NULL: out of memory */
void traced_destroy(struct traced *t);

/* The shard's thread. */
bool traced_active(const struct traced *t, uint64_t now_us);
void traced_received(struct traced *t, const struct msg_batch *m, uint64_t now_us);
void traced_executed(struct traced *t, const struct msg_batch *m);
void traced_released(struct traced *t, const struct msg_results *m);
/* All that was released since the last call. */
void traced_sent(struct traced *t);

/* The control thread. 0: off. */
void traced_until(struct traced *t, uint64_t until_us);
bool traced_find(struct traced *t, uint64_t client, uint64_t seq, struct traced_txn *out);

/* Answers the verb (argv[0] is "trace"), for all shards of a store. */
struct store;
struct json_t;
struct json_t *traced_verb(struct store *s, int argc, char **argv);

#endif
