/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The cheapest client that lethe-store can have, for the store bench: it says
 * HELLO, leases an id and opens a table with real frames, encodes batches of
 * gets beforehand, and looks no further into a reply than a benchmark of
 * redis does. Gets change nothing, so one frame may be sent again and again,
 * with the same sequences and nothing acknowledged. One thread; blocking; what
 * goes wrong ends the program with a sentence.
 */
#ifndef BENCH_RAW_CLIENT_H
#define BENCH_RAW_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/wire/channel.h"
#include "common/wire/msg.h"

struct raw_client {
    int fd;                   /* tcp; or -1 */
    struct channel *channel;  /* shm; or NULL */
    uint64_t client;
    uint8_t table;
};

/* By tcp on loopback; by shm, to the socket file of a shard. */
struct raw_client raw_connect(int port, const struct table_schema *schema);
struct raw_client raw_connect_shm(const char *path, const struct table_schema *schema);
/* By a channel, which is the client's from now on. */
struct raw_client raw_connect_to(struct channel *channel, const struct table_schema *schema);
void raw_close(struct raw_client *r);
/* A BATCH frame of `n` gets of keys[i] (key_size bytes each, back to back);
 * its bytes. `room` for raw_gets_room(n). */
size_t raw_encode_gets(const struct raw_client *r, const struct table_schema *schema,
                       const char *keys, int n, void *room);
size_t raw_gets_room(int n);
/* How long the RESULTS frame is if every key is there, and whether this is
 * that frame and every get in it a hit. */
size_t raw_reply_bytes(const struct table_schema *schema, int n);
bool raw_reply_ok(const struct table_schema *schema, int n, const void *frame);

#endif
