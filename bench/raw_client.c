/* SPDX-License-Identifier: BSD-3-Clause */
/* A client without liblethe; see raw_client.h. */
#include "bench/raw_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/process.h"
#include "common/wire/shm.h"

static void give_up(const char *why)
{
    fprintf(stderr, "\nraw client: %s\n", why);
    exit(1);
}

static void say(const struct raw_client *r, void *frame, enum msg_type type, uint32_t bytes)
{
    msg_head_set(frame, type, bytes, 0, 0);
    if (r->channel) {
        while (channel_send(r->channel, frame, bytes))
            if (!r->channel->open)
                give_up(r->channel->why);
        channel_flush(r->channel);
    } else if (write(r->fd, frame, bytes) != (ssize_t)bytes) {
        give_up("the store closed the connection");
    }
}

static void read_all(const struct raw_client *r, uint8_t *to, size_t n)
{
    for (ssize_t got; n; to += got, n -= (size_t)got)
        if ((got = read(r->fd, to, n)) <= 0)
            give_up("the store closed the connection");
}

static void next_frame(const struct raw_client *r, struct msg_head *frame, uint32_t room)
{
    const void *lent = NULL;
    uint32_t bytes;
    while (r->channel && !(lent = channel_recv(r->channel, &bytes)))
        if (!r->channel->open)
            give_up(r->channel->why);
    if (lent) {
        memcpy(frame, lent, bytes < room ? bytes : room);
        return;
    }
    read_all(r, (uint8_t *)frame, sizeof *frame);
    if (frame->bytes == room)
        read_all(r, (uint8_t *)(frame + 1), room - sizeof *frame);
}

/* The next frame, which must be of this type. */
static void hear(const struct raw_client *r, enum msg_type type, void *frame, uint32_t bytes)
{
    const struct msg_head *head = frame;
    next_frame(r, frame, bytes);
    if (head->type != type || head->bytes != bytes)
        give_up("the store answers something else");
    if (msg_validate(frame, bytes))
        give_up("the store sends what is no valid message");
}

static struct raw_client open_table(struct raw_client r, const struct table_schema *schema)
{
    struct msg_hello hello = {.magic = MSG_MAGIC, .proto_min = MSG_PROTO_MIN,
                              .proto_max = MSG_PROTO_MAX, .role = ROLE_CLIENT};
    struct msg_welcome welcome;
    say(&r, &hello, MSG_HELLO, sizeof hello);
    hear(&r, MSG_WELCOME, &welcome, sizeof welcome);
    struct msg_client_open lease = {.nonce = 1};
    struct msg_client client;
    say(&r, &lease, MSG_CLIENT_OPEN, sizeof lease);
    hear(&r, MSG_CLIENT, &client, sizeof client);
    r.client = client.client;
    struct msg_table_open open = {.client = r.client, .schema = *schema};
    struct msg_table table;
    say(&r, &open, MSG_TABLE_OPEN, sizeof open);
    hear(&r, MSG_TABLE, &table, sizeof table);
    if (!r.client || table.id < 0)
        give_up(r.client ? table.text : "no client id");
    r.table = (uint8_t)table.id;
    return r;
}

struct raw_client raw_connect(int port, const struct table_schema *schema)
{
    return open_table((struct raw_client){.fd = connect_port(port)}, schema);
}

struct raw_client raw_connect_to(struct channel *channel, const struct table_schema *schema)
{
    return open_table((struct raw_client){.fd = -1, .channel = channel}, schema);
}

struct raw_client raw_connect_shm(const char *path, const struct table_schema *schema)
{
    char err[200];
    struct channel *channel = shm_connect(path, err, sizeof err);
    if (!channel)
        give_up(err);
    return raw_connect_to(channel, schema);
}

void raw_close(struct raw_client *r)
{
    if (r->channel)
        channel_close(r->channel);
    else
        close(r->fd);
}

size_t raw_gets_room(int n)
{
    return sizeof(struct msg_batch) +
           (size_t)n * (sizeof(struct txn_head) + sizeof(struct txn_op) + TXN_KEY_MAX);
}

size_t raw_encode_gets(const struct raw_client *r, const struct table_schema *schema,
                       const char *keys, int n, void *room)
{
    struct msg_batch *m = room;
    uint32_t used = sizeof *m;
    for (int i = 0; i < n; i++, keys += schema->key_size) {
        struct txn_builder b;
        struct txn_op get = {.code = TXN_GET, .table = r->table, .key_len = schema->key_size};
        uint8_t *at = (uint8_t *)room + used;
        txn_begin(&b, at, (uint32_t)raw_gets_room(1), slot_of(keys + schema->part_off, schema->part_len));
        txn_add_op(&b, &get, keys, NULL, NULL);
        used += txn_end(&b);
        ((struct txn_head *)at)->seq = (uint64_t)i + 1;
    }
    *m = (struct msg_batch){.client = r->client, .ntxn = (uint32_t)n};
    msg_head_set(m, MSG_BATCH, used, 0, 0);
    return used;
}

static size_t result_bytes(const struct table_schema *schema)
{
    return sizeof(struct txn_result_head) + sizeof(struct txn_result) +
           ((schema->value_size + 7) & ~7u);
}

size_t raw_reply_bytes(const struct table_schema *schema, int n)
{
    return sizeof(struct msg_results) + (size_t)n * result_bytes(schema);
}

bool raw_reply_ok(const struct table_schema *schema, int n, const void *frame)
{
    const struct msg_results *m = frame;
    const uint8_t *at = (const uint8_t *)(m + 1);
    bool ok = m->head.type == MSG_RESULTS && m->head.bytes == raw_reply_bytes(schema, n);
    for (int i = 0; ok && i < n; i++, at += result_bytes(schema)) {
        const struct txn_result_head *h = (const struct txn_result_head *)at;
        const struct txn_result *r = (const struct txn_result *)(h + 1);
        ok = h->status == TXN_OK && h->nres == 1 && r->res == RES_HIT;
    }
    return ok;
}
