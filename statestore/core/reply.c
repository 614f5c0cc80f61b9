/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections, and results on their way out.
 *
 * A result that may be told at once is written straight into the RESULTS frame
 * under way. One that has to wait is a `reply` in the log (log.c); once its
 * position is committed it goes to its connection's ready list, and at the end
 * of the step each such connection gets its results in as few frames as there
 * is room for. A reply whose connection is gone is dropped: the client asks
 * again, with the same sequence.
 */
#include <assert.h>
#include <stdlib.h>

#include "internal.h"

/* --- connections ------------------------------------------------------------------- */

static struct conn **conn_place(const struct shard *s, uint32_t id)
{
    struct conn **at = (struct conn **)(uintptr_t)&s->conn[id * 2654435761u >> 24];
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

struct conn *conn_find(const struct shard *s, uint32_t id)
{
    return *conn_place(s, id);
}

struct conn *conn_open(struct shard *s, uint32_t id)
{
    struct conn **at = conn_place(s, id);
    if (*at)
        return *at;
    if (s->conns == CONNS_MAX || !(*at = calloc(1, sizeof **at)))
        return NULL;
    (*at)->id = id;
    s->conns++;
    return *at;
}

static void unready(struct shard *s, struct conn *c)
{
    struct conn **at = &s->ready;
    while (*at && *at != c)
        at = &(*at)->ready_next;
    if (*at)
        *at = c->ready_next;
}

void conn_close(struct shard *s, uint32_t id)
{
    struct conn **at = conn_place(s, id), *c = *at;
    if (!c)
        return;
    if (c->is_ready)
        unready(s, c);
    while (c->ready.first) {
        struct reply *r = c->ready.first;
        c->ready.first = r->next;
        reply_free(s, r);
    }
    *at = c->next;
    s->conns--;
    free(c);
}

void conns_forget_clients(struct shard *s)
{
    for (int i = 0; i < 256; i++)
        for (struct conn *c = s->conn[i]; c; c = c->next)
            c->nonce = c->client = 0;
}

void conns_destroy(struct shard *s)
{
    for (int i = 0; i < 256; i++)
        while (s->conn[i])
            conn_close(s, s->conn[i]->id);
}

void shard_send(struct shard *s, uint32_t conn, void *frame, enum msg_type type, uint32_t bytes)
{
    uint32_t padded = (bytes + 7) & ~7u;
    memset((uint8_t *)frame + bytes, 0, padded - bytes);
    msg_head_set(frame, type, padded, s->config.shard, s->view.epoch);
    const struct conn *c = conn_find(s, conn);
    if (c && c->proto)
        msg_speak(frame, c->proto);
    s->out->send(s->out->ctx, conn, frame, padded);
}

void conn_refuse(struct shard *s, uint32_t id, uint32_t code, const char *text)
{
    struct msg_error m = {.code = code};
    strncpy(m.text, text, sizeof m.text - 1);
    shard_send(s, id, &m, MSG_ERROR, sizeof m);
    s->out->close(s->out->ctx, id, text);
}

/* --- replies ------------------------------------------------------------------------ */

static bool more_replies(struct shard *s)
{
    enum { SLAB = 1024 };
    if (s->replies_made + SLAB > REPLIES_MAX)
        return false;
    void **slab = malloc(sizeof *slab + SLAB * sizeof(struct reply));
    if (!slab)
        return false;
    *slab = s->reply_slabs;
    s->reply_slabs = slab;
    struct reply *r = (struct reply *)(slab + 1);
    for (int i = 0; i < SLAB; i++) {
        r[i].next = s->reply_free;
        s->reply_free = &r[i];
    }
    s->replies_made += SLAB;
    return true;
}

struct reply *reply_new(struct shard *s, uint32_t conn, enum reply_kind kind)
{
    if (!s->reply_free && !more_replies(s))
        return NULL;
    struct reply *r = s->reply_free;
    s->reply_free = r->next;
    s->replies++;
    *r = (struct reply){.conn = conn, .kind = kind};
    return r;
}

void reply_free(struct shard *s, struct reply *r)
{
    if (r->kind == REPLY_RESULT && r->kept)
        kept_put(s, r->kept);
    r->next = s->reply_free;
    s->reply_free = r;
    s->replies--;
}

void reply_ready(struct shard *s, struct reply *r)
{
    struct conn *c = conn_find(s, r->conn);
    if (!c) {
        reply_free(s, r);
        return;
    }
    r->next = NULL;
    if (c->ready.last)
        c->ready.last->next = r;
    else
        c->ready.first = r;
    c->ready.last = r;
    if (!c->is_ready) {
        c->is_ready = true;
        c->ready_next = s->ready;
        s->ready = c;
    }
}

/* --- the RESULTS frame under way ------------------------------------------------------- */

void results_send(struct shard *s)
{
    struct msg_results *m = (struct msg_results *)s->frame;
    if (!s->frame_results)
        return;
    places_send(s);
    *m = (struct msg_results){.client = s->frame_client, .nres = s->frame_results};
    shard_send(s, s->frame_conn, m, MSG_RESULTS, s->frame_bytes);
    s->frame_results = 0;
}

uint8_t *results_begin(struct shard *s, uint32_t conn, uint64_t client)
{
    results_send(s);
    s->frame_conn = conn;
    s->frame_client = client;
    s->frame_bytes = sizeof(struct msg_results);
    return s->frame + s->frame_bytes;
}

static void send_result(struct shard *s, uint32_t conn, const struct kept *k)
{
    memcpy(results_room(s, conn, k->client), k->result, k->bytes);
    results_push(s, k->bytes);
}

static void send_client(struct shard *s, const struct reply *r)
{
    struct msg_client m = {.nonce = r->opened.nonce, .client = r->opened.client,
                           .lease_ms = client_lease_ms(s)};
    shard_send(s, r->conn, &m, MSG_CLIENT, sizeof m);
}

static void send_table(struct shard *s, const struct reply *r)
{
    struct msg_table m = {.id = r->table};
    memcpy(m.name, s->table[r->table]->schema.name, sizeof m.name);
    shard_send(s, r->conn, &m, MSG_TABLE, sizeof m);
}

static void send_reply(struct shard *s, const struct reply *r)
{
    if (r->kind != REPLY_RESULT)
        results_send(s);
    switch (r->kind) {
    case REPLY_RESULT: send_result(s, r->conn, r->kept); break;
    case REPLY_CLIENT: send_client(s, r); break;
    case REPLY_TABLE: send_table(s, r); break;
    }
}

void replies_flush(struct shard *s)
{
    while (s->ready) {
        struct conn *c = s->ready;
        s->ready = c->ready_next;
        c->is_ready = false;
        struct reply *r = c->ready.first;
        c->ready = (struct reply_list){0};
        while (r) {
            struct reply *next = r->next;
            send_reply(s, r);
            reply_free(s, r);
            r = next;
        }
    }
    results_send(s);
}
