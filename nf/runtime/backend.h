/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The state behind an engine, as four functions, and a fifth for events: the store through liblethe
 * (backend_lethe), a shard stepped directly, or a local table in a test or a
 * bench. It takes txns as bytes (common/wire/txn.h) and answers each once.
 *
 * Thread: the engine's. Nothing here blocks. `done` is called from within
 * poll, never from within submit or flush; the result is lent for that call.
 * From within `done` the engine may submit.
 */
#ifndef NF_RUNTIME_BACKEND_H
#define NF_RUNTIME_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wire/schema.h"
#include "common/wire/txn.h"

struct lethe_client;
struct lethe_event;

typedef void (*backend_done)(void *user, const struct txn_result_head *result);

/* `event->table` is the backend's number. True: done; false: again later. */
typedef bool (*backend_event)(void *user, const struct lethe_event *event);

struct backend {
    void *ctx;
    /* The backend's number of a table (0..255), the same in every txn, or
     * -errno. Opening the same schema again gives the same table. */
    int (*table_open)(void *ctx, const struct table_schema *schema);
    /* Takes a copy of the txn. 0, or -EAGAIN: no room now, ask again after
     * the next poll. */
    int (*submit)(void *ctx, const void *txn, uint32_t bytes, backend_done done, void *user);
    /* One burst is over: send what was submitted. */
    void (*flush)(void *ctx);
    /* Delivers replies; their number. */
    int (*poll)(void *ctx, uint64_t now_us);
    /* Calls the handler, from within poll, for each event of a table with
     * TABLE_EVENTS, in order per hash slot. 0 or -errno. NULL: knows no events. */
    int (*events)(void *ctx, int table, backend_event handler, void *user);
};

/* liblethe as a backend: the client is the caller's and outlives it. */
struct backend backend_lethe(struct lethe_client *client);

#endif
