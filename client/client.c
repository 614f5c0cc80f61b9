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

#include "common/wire/address.h"

/* --- the default dial: tcp, port + shard --------------------------------------------- */

static struct channel *dial_tcp(void *ctx, uint16_t shard, char *err, uint32_t err_len)
{
    char host[ADDRESS_HOST_MAX], address[ADDRESS_HOST_MAX + 16];
    uint16_t port;
    if (address_split(ctx, host, &port, err, err_len))
        return NULL;
    snprintf(address, sizeof address, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port + shard);
    return tcp_connect(address, err, err_len);
}

static int check_address(const char *address, unsigned shards, char *err, uint32_t err_len)
{
    char host[ADDRESS_HOST_MAX];
    uint16_t port;
    int rc = address_split(address ? address : "", host, &port, err, err_len);
    if (rc || (port && port + shards - 1 <= 65535))
        return rc;
    snprintf(err, err_len, "address %s: shards 0 to %u need ports from 1 to 65535", address,
             shards - 1);
    return -EINVAL;
}

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
    return config->dial ? 0 : check_address(config->address, config->shards, err, err_len);
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
    if (load_secret(c, config, err, err_len)) {
        free(c);
        return NULL;
    }
    c->shards = config->shards;
    c->window = config->window ? config->window : LETHE_WINDOW_DEFAULT;
    c->retry_us = (config->retry_ms ? config->retry_ms : RETRY_DEFAULT_MS) * 1000ull;
    c->epoll_fd = -1;
    for (uint16_t i = 0; i < c->shards; i++)
        session_init(c, i);
    c->dial = config->dial ? config->dial : dial_tcp;
    c->dial_ctx = config->dial_ctx;
    if (!config->dial)
        c->dial_ctx = c->address = strdup(config->address);
    if ((config->dial || c->address) && !lethe_window_create(c))
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
    free(c->address);
    auth_secret_wipe(&c->secret);
    free(c);
}

/* --- tables ------------------------------------------------------------------------------ */

int lethe_table_open(struct lethe_client *c, const struct table_schema *schema)
{
    char differs[8];
    if (schema_validate(schema))
        return -EINVAL;
    for (int i = 0; i < c->ntables; i++)
        if (!strncmp(c->tables[i].name, schema->name, TABLE_NAME_MAX))
            return schema_compare(&c->tables[i], schema, differs, sizeof differs) ? -EEXIST : i;
    if (c->ntables == TABLES_MAX)
        return -ENOSPC;
    c->tables[c->ntables++] = *schema;
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

static struct lethe_txn *take(struct lethe_client *c, uint8_t slot, lethe_done done, void *user)
{
    struct lethe_txn *t = c->was_ready ? lethe_window_take(c) : NULL;
    if (!t)
        return NULL;
    t->shard = (uint8_t)(slot * c->shards / LETHE_SLOTS);
    t->done = done;
    t->user = user;
    return t;
}

static void queue(struct lethe_txn *t)
{
    struct session *s = &t->client->sessions[t->shard];
    lethe_list_append(s, &s->queue, t, SLOT_QUEUED);
}

struct lethe_txn *lethe_txn_begin(struct lethe_client *c, uint8_t slot, lethe_done done,
                                  void *user)
{
    struct lethe_txn *t = take(c, slot, done, user);
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
    queue(t);
}

int lethe_submit_bytes(struct lethe_client *c, void *txn, uint32_t bytes, lethe_done done,
                       void *user)
{
    const struct txn_head *h = txn;
    assert(bytes <= TXN_BYTES_MAX && h->bytes == bytes);
    struct lethe_txn *t = take(c, h->slot, done, user);
    if (!t)
        return -EAGAIN;
    memcpy(t->bytes, txn, bytes);
    queue(t);
    return 0;
}

void lethe_flush(struct lethe_client *c)
{
    for (int i = 0; i < c->shards; i++) {
        struct session *s = &c->sessions[i];
        if (!s->queue.count && !s->held_bytes)
            continue;
        s->flush_wanted = true;
        lethe_batch_send(s);
    }
}

int lethe_poll(struct lethe_client *c, uint64_t now_us)
{
    int done = 0;
    assert(!c->polling); /* not from a callback */
    c->polling = true;
    c->now_us = now_us;
    for (int i = 0; i < c->shards; i++)
        done += lethe_session_poll(&c->sessions[i]);
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
    };
    for (int i = 0; i < c->shards; i++) {
        const struct session *s = &c->sessions[i];
        uint64_t since = s->down_since_us;
        if (since && (!st.unreachable_since_us || since < st.unreachable_since_us))
            st.unreachable_since_us = since;
        if (s->trouble[0] && !st.trouble[0])
            snprintf(st.trouble, sizeof st.trouble, "%s", s->trouble);
        if (s->fatal[0] && !st.fatal[0])
            snprintf(st.fatal, sizeof st.fatal, "%s", s->fatal);
    }
    *out = st;
}
