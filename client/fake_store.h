/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For the client's tests: a store that says only what the test makes it say,
 * at the other end of inproc channels, and a clock that only the test moves.
 * Receive / expect: fake_next polls the client until its next frame is there.
 */
#ifndef LETHE_CLIENT_FAKE_STORE_H
#define LETHE_CLIENT_FAKE_STORE_H

#include <errno.h>
#include <stdlib.h>

#include "client/lethe.h"
#include "tests/check.h"

enum { FAKE_RING = 1024 * 1024, FAKE_LEASE_MS = 3000, FAKE_STEP_US = 1000, FAKE_PATIENCE = 60 };

struct fake {
    struct lethe_client *client;
    struct channel *end[LETHE_SHARDS_MAX]; /* the store's, of the newest dial */
    uint16_t shards;
    uint32_t dials;
    bool refuse;              /* dialling fails */
    uint64_t now_us;
    uint32_t map_gets, statuses; /* asked for; fake_next does not show them */
    uint8_t proto;            /* what the store speaks; 0: the newest */
    uint64_t next_id;
    uint64_t frame[MSG_BYTES_MAX / 8]; /* copy of the frame fake_next returned */
};

struct fake_call {            /* what a callback saw */
    int calls;
    uint8_t status;
    uint64_t seq;
};

static inline void fake_done(void *user, const struct txn_result_head *r)
{
    struct fake_call *call = user;
    call->calls++;
    call->status = r->status;
    call->seq = r->seq;
}

static inline struct channel *fake_dial(void *ctx, uint16_t shard, char *err, uint32_t err_len)
{
    struct fake *f = ctx;
    struct channel *theirs;
    f->dials++;
    if (f->refuse) {
        snprintf(err, err_len, "nobody is there");
        return NULL;
    }
    channel_close(f->end[shard]);
    assert_int_equal(inproc_pair(FAKE_RING, &theirs, &f->end[shard]), 0);
    return theirs;
}

static inline void fake_open(struct fake *f, uint16_t shards, uint32_t window)
{
    char err[200];
    memset(f, 0, sizeof *f);
    f->shards = shards;
    f->now_us = 1000;
    f->next_id = 100;
    struct lethe_config config = {.shards = shards, .window = window, .dial = fake_dial,
                                  .dial_ctx = f};
    f->client = lethe_client_create(&config, err, sizeof err);
    CHECK(f->client, "%s", err);
}

static inline void fake_close(struct fake *f)
{
    lethe_client_destroy(f->client);
    for (int i = 0; i < f->shards; i++)
        channel_close(f->end[i]);
}

static inline int fake_poll(struct fake *f)
{
    f->now_us += FAKE_STEP_US;
    return lethe_poll(f->client, f->now_us);
}

static inline void fake_pass_ms(struct fake *f, uint32_t ms)
{
    for (uint32_t i = 0; i < ms * 1000 / FAKE_STEP_US; i++)
        fake_poll(f);
}

/* What the client has sent to the shard already; NULL: nothing. */
static inline const void *fake_any(struct fake *f, uint16_t shard)
{
    uint32_t bytes;
    const void *m = f->end[shard] ? channel_recv(f->end[shard], &bytes) : NULL;
    if (!m)
        return NULL;
    memcpy(f->frame, m, bytes);
    return f->frame;
}

/* The same, past what a client asks beside its work. */
static inline const void *fake_here(struct fake *f, uint16_t shard)
{
    const struct msg_head *m;
    while ((m = fake_any(f, shard)) && (m->type == MSG_MAP_GET || m->type == MSG_STATUS)) {
        f->map_gets += m->type == MSG_MAP_GET;
        f->statuses += m->type == MSG_STATUS;
    }
    return m;
}

/* The next frame to the shard, which must be of this type. */
static inline const void *fake_next(struct fake *f, uint16_t shard, enum msg_type type)
{
    const struct msg_head *m = NULL;
    for (int i = 0; i < FAKE_PATIENCE && !m; i++)
        if (!(m = fake_here(f, shard)))
            fake_poll(f);
    CHECK(m, "the client sent nothing to shard %u, expected message type %d", shard, type);
    CHECK(m->type == type, "message type %u, expected %d", m->type, type);
    return m;
}

static inline void fake_send(struct fake *f, uint16_t shard, void *m, enum msg_type type,
                             uint32_t bytes)
{
    msg_head_set(m, type, bytes, shard, 1);
    msg_speak(m, f->proto ? f->proto : MSG_PROTO_MAX);
    assert_int_equal(channel_send(f->end[shard], m, bytes), 0);
    channel_flush(f->end[shard]);
}

static inline void fake_welcome(struct fake *f, uint16_t shard)
{
    struct msg_welcome m = {.proto = f->proto ? f->proto : MSG_PROTO_MAX, .primary = 1, .shards = f->shards,
                            .lease_ms = FAKE_LEASE_MS};
    fake_next(f, shard, MSG_HELLO);
    fake_send(f, shard, &m, MSG_WELCOME, sizeof m);
}

static inline uint64_t fake_lease(struct fake *f, uint16_t shard)
{
    const struct msg_client_open *open = fake_next(f, shard, MSG_CLIENT_OPEN);
    struct msg_client m = {.nonce = open->nonce, .client = f->next_id++,
                           .lease_ms = FAKE_LEASE_MS};
    fake_send(f, shard, &m, MSG_CLIENT, sizeof m);
    return m.client;
}

/* Answers one TABLE_OPEN with this id (below 0: an error and a text). */
static inline void fake_table(struct fake *f, uint16_t shard, int id, const char *text)
{
    const struct msg_table_open *open = fake_next(f, shard, MSG_TABLE_OPEN);
    struct msg_table m = {.id = id};
    memcpy(m.name, open->schema.name, sizeof m.name);
    snprintf(m.text, sizeof m.text, "%s", text);
    fake_send(f, shard, &m, MSG_TABLE, sizeof m);
}

/* The whole handshake at one shard with `tables` tables numbered from first_id;
 * returns the leased id. */
static inline uint64_t fake_up(struct fake *f, uint16_t shard, int tables, int first_id)
{
    fake_welcome(f, shard);
    uint64_t id = fake_lease(f, shard);
    for (int i = 0; i < tables; i++)
        fake_table(f, shard, first_id + i, "");
    return id;
}

static inline void fake_result(struct fake *f, uint16_t shard, uint64_t client, uint64_t seq,
                               enum txn_status status)
{
    struct {
        struct msg_results m;
        struct txn_result_head r;
    } frame = {.m = {.client = client, .nres = 1},
               .r = {.seq = seq, .bytes = sizeof frame.r, .status = (uint8_t)status}};
    fake_send(f, shard, &frame, MSG_RESULTS, sizeof frame);
}

static inline struct table_schema fake_schema(const char *name)
{
    struct table_schema s = {.kind = TABLE_HASH, .version = 1, .key_size = 8, .part_len = 8,
                             .value_size = 16};
    snprintf(s.name, sizeof s.name, "%s", name);
    return s;
}

#endif
