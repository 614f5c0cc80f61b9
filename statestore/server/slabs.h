/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that clients may read one-sidedly: slab chunks of tables with TABLE_ONE_SIDED
 * (struct shard_slabs), whole pages, each registered by itself, for reading alone, by the
 * shard's RDMA listener. A client learns the key of a chunk only with the place of an entry
 * that it found there by a get, so only of tables that it may open.
 *
 *   make ──▶ read by clients ──give_back──▶ resting ──▶ unregistered, unmapped
 *
 * Resting: nothing in it is valid any more, but a client may yet read it (it trusts a place for
 * PLACE_MS, client/remember.h), and a read of what is not registered costs it its
 * connection. So it stays for SLABS_REST_MS; beyond SLABS_REST_BYTES the oldest goes at once.
 *
 * Cannot be registered (too little lockable memory, no keys left): used all the same, by
 * requests alone; counted, and told once in SLABS_LOG_MS. Registering is a system call and pins
 * the pages: a chunk of a megabyte takes some hundred microseconds of the shard's thread.
 *
 * Order at the end: slabs_conceal before the listeners close, slabs_close after the shard is
 * gone. Thread: the shard's.
 */
#ifndef STATESTORE_SERVER_SLABS_H
#define STATESTORE_SERVER_SLABS_H

#include "common/wire/transport.h"
#include "statestore/core/shard.h"

enum {
    SLABS_REST_MS = 20 * 1000,
    SLABS_REST_BYTES = 64 * 1024 * 1024,
    SLABS_LOG_MS = 30 * 1000,
};

struct slab;
struct slabs {
    struct listener *by;          /* NULL: nobody can read (any more) */
    uint16_t shard;               /* for sentences */
    void *live;                   /* tsearch(3), by address */
    struct slab *oldest, *newest; /* resting */
    uint64_t resting_bytes;
    uint64_t now_ms;              /* of the newest slabs_sweep */
    uint64_t logged_ms;
    uint64_t bytes;               /* that clients can read */
    uint64_t refused;             /* bytes that could not be registered */
};

/* The hooks for the core; make NULL if none of the listeners can expose memory. */
struct shard_slabs slabs_open(struct slabs *s, uint16_t shard, struct listener *listeners,
                              uint32_t nlisteners);
void slabs_sweep(struct slabs *s, uint64_t now_ms);
/* Nobody reads any more. */
void slabs_conceal(struct slabs *s);
void slabs_close(struct slabs *s);

#endif
