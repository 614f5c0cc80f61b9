/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * liblethe's public face: creation, tables, begin and submit, poll, status.
 * The order inside a poll: per shard receive (calling back), reconnect, retry;
 * nothing is sent for the caller that it did not flush, except retries.
 */
#include "client/client_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int check_config(const struct lethe_config *config, char *err, uint32_t err_len)
{
    if (config->shards < 1 || config->shards > LETHE_SHARDS_MAX) {
        snprintf(err, err_len, "shards is %u; it must be 1 to %d, as in the store's configuration",
                 config->shards, LETHE_SHARDS_MAX);
        return -EINVAL;
    }
    if (config->window > MSG_CLIENT_WINDOW) {
        snprintf(err, err_len, "window is %u; the protocol allows at most %d", config->window,
                 MSG_CLIENT_WINDOW);
        return -EINVAL;
    }
    return 0;
}

static int load_secret(struct lethe_client *c, const struct lethe_config *config, char *err,
                       uint32_t err_len)
{
    if (!config->tenant && !config->secret_file)
        return 0;
    if (!config->tenant || !config->secret_file) {
        snprintf(err, err_len, "tenant and secret_file go together; give both or none");
        return -EINVAL;
    }
    if (!config->tenant[0] || strlen(config->tenant) >= sizeof c->tenant) {
        snprintf(err, err_len, "tenant '%s': a name has 1 to %zu characters", config->tenant,
                 sizeof c->tenant - 1);
        return -EINVAL;
    }
    snprintf(c->tenant, sizeof c->tenant, "%s", config->tenant);
    return auth_secret_load(config->secret_file, &c->secret, err, err_len);
}

/* --- creation -------------------------------------------------------------------------- */

static void session_init(struct lethe_client *c, uint16_t shard)
{
    struct session *s = &c->sessions[shard];
    s->client = c;
    s->shard = shard;
    s->state = SESSION_DOWN;
    s->dial_delay_us = DIAL_DELAY_MIN_US;
    s->down_since_us = 1;
    s->proto = MSG_PROTO_MAX;
    s->watched_fd = -1;
    for (int i = 0; i < TABLES_MAX; i++)
        s->table_id[i] = -1;
    snprintf(s->trouble, sizeof s->trouble, "shard %u: not connected yet", shard);
}

struct lethe_client *lethe_client_create(const struct lethe_config *config, char *err,
                                         uint32_t err_len)
{
    if (check_config(config, err, err_len))
        return NULL;
    struct lethe_client *c = calloc(1, sizeof *c);
    if (!c)
        goto no_memory;
    c->epoll_fd = -1;
    c->shards = config->shards;
    c->dial = config->dial;
    c->dial_ctx = config->dial_ctx;
    c->connect = tcp_connect;
    c->verbs = config->verbs;
    c->one_sided = config->one_sided;
    c->remember_places = config->remember ? config->remember : LETHE_REMEMBER_DEFAULT;
    c->clock_us = config->clock_us ? config->clock_us : lethe_clock_monotonic;
    c->clock_ctx = config->clock_ctx;
    c->naddresses = 1;
    if (load_secret(c, config, err, err_len) ||
        (!c->dial && lethe_nodes_parse(c, config->address, err, err_len))) {
        auth_secret_wipe(&c->secret);
        free(c->addresses);
        free(c);
        return NULL;
    }
    c->window = config->window ? config->window : LETHE_WINDOW_DEFAULT;
    c->retry_us = (config->retry_ms ? config->retry_ms : RETRY_DEFAULT_MS) * 1000ull;
    c->silence_us = c->naddresses > 1 ? c->retry_us : SILENCE_RETRIES * c->retry_us;
    c->elsewhere = c->naddresses > 1 || (c->dial && config->silence_ms);
    if (config->silence_ms)
        c->silence_us = config->silence_ms * 1000ull;
    lethe_map_init(c);
    for (uint16_t i = 0; i < c->shards; i++)
        session_init(c, i);
    if (!lethe_window_create(c))
        return c;
    lethe_client_destroy(c);
no_memory:
    snprintf(err, err_len, "out of memory for a client with this window");
    return NULL;
}

void lethe_client_destroy(struct lethe_client *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->shards; i++) {
        lethe_sleep_forget(&c->sessions[i]);
        channel_close(c->sessions[i].channel);
    }
    if (c->epoll_fd >= 0)
        close(c->epoll_fd);
    lethe_window_destroy(c);
    lethe_events_destroy(c);
    remember_destroy(c->remember);
    free(c->addresses);
    auth_secret_wipe(&c->secret);
    free(c);
}

/* --- tables ------------------------------------------------------------------------------ */

/* As configured, if it is named there. */
static struct table_schema with_option(const struct lethe_client *c, const struct table_schema *s)
{
    struct table_schema schema = *s;
    bool can = s->kind != TABLE_SKETCH && s->durability == DURABLE_SYNC;
    for (const char *const *name = c->one_sided; can && name && *name; name++) {
        size_t n = strcspn(*name, "*");
        if (!strncmp(*name, s->name, (*name)[n] ? n : TABLE_NAME_MAX))
            schema.flags |= TABLE_ONE_SIDED;
    }
    return schema;
}

int lethe_table_open(struct lethe_client *c, const struct table_schema *wanted)
{
    char differs[8];
    struct table_schema schema = with_option(c, wanted);
    if (schema_validate(&schema))
        return -EINVAL;
    for (int i = 0; i < c->ntables; i++)
        if (!strncmp(c->tables[i].name, schema.name, TABLE_NAME_MAX))
            return schema_compare(&c->tables[i], &schema, differs, sizeof differs) ? -EEXIST : i;
    if (c->ntables == TABLES_MAX)
        return -ENOSPC;
    c->tables[c->ntables] = schema;
    if (lethe_reads_table(c, c->ntables))
        return -ENOMEM;
    c->ntables++;
    for (int i = 0; i < c->shards; i++)
        lethe_session_tables(&c->sessions[i]);
    return c->ntables - 1;
}

bool lethe_ready(const struct lethe_client *c)
{
    for (int i = 0; i < c->shards; i++)
        if (c->sessions[i].state != SESSION_UP)
            return false;
    return true;
}

/* --- txns -------------------------------------------------------------------------------- */

static struct lethe_txn *take(struct lethe_client *c, lethe_done done, void *user)
{
    struct lethe_txn *t = c->was_ready ? lethe_window_take(c) : NULL;
    if (!t)
        return NULL;
    t->done = done;
    t->user = user;
    return t;
}

struct lethe_txn *lethe_txn_begin(struct lethe_client *c, uint8_t slot, lethe_done done,
                                  void *user)
{
    struct lethe_txn *t = take(c, done, user);
    if (t)
        txn_begin(&t->build, t->bytes, sizeof t->bytes, slot);
    return t;
}

void lethe_txn_cancel(struct lethe_txn *t)
{
    assert(t->state == SLOT_BUILDING);
    lethe_window_give(t);
}

void lethe_txn_submit(struct lethe_txn *t)
{
    assert(t->state == SLOT_BUILDING);
    txn_end(&t->build);
    if (!lethe_reads_try(t))
        lethe_map_queue(t);
}

int lethe_submit_bytes(struct lethe_client *c, void *txn, uint32_t bytes, lethe_done done,
                       void *user)
{
    const struct txn_head *h = txn;
    assert(bytes <= TXN_BYTES_MAX && h->bytes == bytes);
    struct lethe_txn *t = take(c, done, user);
    if (!t)
        return -EAGAIN;
    memcpy(t->bytes, txn, bytes);
    if (!lethe_reads_try(t))
        lethe_map_queue(t);
    return 0;
}

void lethe_flush(struct lethe_client *c)
{
    for (int i = 0; i < c->shards; i++) {
        struct session *s = &c->sessions[i];
        if (s->reads_posted && s->channel)
            channel_flush(s->channel);
        s->reads_posted = false;
        if (!s->queue.count && !s->held_bytes)
            continue;
        s->flush_wanted = true;
        lethe_batch_send(s);
    }
}

/* What a session got from another one's, in this poll. */
static void send_strays(struct lethe_client *c)
{
    for (int i = 0; c->strays && i < c->shards; i++)
        if (c->sessions[i].flush_wanted)
            lethe_batch_send(&c->sessions[i]);
    c->strays = false;
}

void lethe_trace(struct lethe_client *c, lethe_sent sent, void *ctx)
{
    c->sent = sent;
    c->sent_ctx = ctx;
}

int lethe_poll(struct lethe_client *c, uint64_t now_us)
{
    int done = 0;
    assert(!c->polling); /* not from a callback */
    c->polling = true;
    c->now_us = now_us;
    if (c->remember)
        c->clock_now_us = c->clock_us(c->clock_ctx);
    for (int i = 0; i < c->shards; i++)
        done += lethe_session_poll(&c->sessions[i]);
    send_strays(c);
    if (!c->was_ready)
        c->was_ready = lethe_ready(c);
    c->polling = false;
    return done;
}

/* --- status ------------------------------------------------------------------------------- */

void lethe_status(const struct lethe_client *c, struct lethe_status *out)
{
    struct lethe_status st = {
        .in_flight = c->window - c->nfree,
        .window = c->window,
        .done = c->done,
        .retries = c->retries,
        .reconnects = c->reconnects > c->shards ? c->reconnects - c->shards : 0,
        .leases = c->leases,
        .moved = c->moved,
    };
    memcpy(st.one_sided, c->outcomes, sizeof st.one_sided);
    for (int i = 0; i < c->shards; i++) {
        const struct session *s = &c->sessions[i];
        uint64_t since = s->down_since_us;
        if (since && (!st.unreachable_since_us || since < st.unreachable_since_us))
            st.unreachable_since_us = since;
        if (s->trouble[0] && !st.trouble[0])
            lethe_nodes_trouble(s, st.trouble, sizeof st.trouble);
        if (s->fatal[0] && !st.fatal[0])
            snprintf(st.fatal, sizeof st.fatal, "%s", s->fatal);
    }
    *out = st;
}
