/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A writer of Lethe's store (failover.h): liblethe as any program uses it. A
 * write is an insert; it is begun once, and liblethe carries it through every
 * fail-over, so that an attempt only waits some more for the same one.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/failover.h"
#include "bench/process.h"
#include "client/lethe.h"

enum { RETRY_MS = 20 };

struct failover_key { char tag[FAILOVER_TAG]; uint64_t n; };
static const struct table_schema schema = {.name = "bench.failover", .kind = TABLE_HASH,
                                           .version = 1, .key_size = sizeof(struct failover_key),
                                           .part_len = FAILOVER_TAG, .value_size = 16};

struct writer {
    struct lethe_client *client;
    int table;
    char tag[FAILOVER_TAG + 1];
    char address[512];
    bool pending;                /* a txn is outstanding */
    bool unknown;                /* of an earlier attempt nobody knows the outcome */
    uint8_t status;              /* of the last one */
    bool same;                   /* a get's value */
    uint8_t res;
    uint64_t n;                  /* what it is about */
};

static struct failover_key key_of(const struct writer *w, uint64_t n)
{
    struct failover_key k = {.n = n};
    memcpy(k.tag, w->tag, FAILOVER_TAG);
    return k;
}

static void value_of(uint64_t n, char value[16])
{
    memset(value, 0, 16);
    snprintf(value, 16, "%lu", (unsigned long)n);
}

static void on_done(void *user, const struct txn_result_head *h)
{
    struct writer *w = user;
    const struct txn_result *r = txn_result_of(h, 0);
    char want[16];
    value_of(w->n, want);
    w->pending = false;
    w->status = h->status;
    w->res = r ? r->res : 0;
    w->same = r && r->value_len == sizeof want && !memcmp(txn_result_value(r), want, sizeof want);
}

/* Until nothing is pending, at most FAILOVER_TRY_MS. */
static bool settle(struct writer *w)
{
    uint64_t end = wall_ns() / 1000 + FAILOVER_TRY_MS * 1000;
    for (uint64_t now; w->pending && (now = wall_ns() / 1000) < end;) {
        lethe_poll(w->client, now);
        if (!w->pending || !lethe_arm(w->client))
            continue;
        uint64_t next = lethe_next_us(w->client);
        int ms = next <= now ? 1 : next > end ? (int)((end - now) / 1000 + 1) : (int)((next - now) / 1000 + 1);
        struct pollfd f = {lethe_fd(w->client), POLLIN, 0};
        poll(&f, 1, ms);
    }
    return !w->pending;
}

static bool begin(struct writer *w, uint64_t n, bool write)
{
    char value[16];
    struct failover_key key = key_of(w, n);
    value_of(n, value);
    w->n = n;
    struct lethe_txn *t = lethe_txn_begin(w->client, slot_of(&key, FAILOVER_TAG), on_done, w);
    if (!t)
        return false;
    if (write)
        lethe_txn_insert(t, w->table, &key, value, 0);
    else
        lethe_txn_get(t, w->table, &key, 0);
    w->pending = true;
    lethe_txn_submit(t);
    lethe_flush(w->client);
    return true;
}

static bool lethe_write(void *conn, uint64_t n)
{
    struct writer *w = conn;
    if (!w->pending && !begin(w, n, true)) {
        lethe_poll(w->client, wall_ns() / 1000); /* a new lease is under way */
        return false;
    }
    if (!settle(w))
        return false;
    if (w->status == TXN_OK || (w->status == TXN_CONFLICT && w->unknown && w->same)) {
        w->unknown = false;
        return true;
    }
    w->unknown |= w->status == TXN_STALE_CLIENT;
    return false;
}

static enum failover_read lethe_read(void *conn, uint64_t n)
{
    struct writer *w = conn;
    bool other = w->pending; /* the write that was never acknowledged */
    if (!settle(w) || (!other && !begin(w, n, false)) || other || !settle(w) || w->status != TXN_OK)
        return READ_FAILED;
    return w->res == RES_ABSENT ? READ_ABSENT : w->same ? READ_SAME : READ_OTHER;
}

/* A writer's thread may be polling meanwhile: torn figures, in a message only. */
static const char *lethe_trouble(void *conn)
{
    static char text[640];
    struct writer *w = conn;
    struct lethe_status st;
    lethe_status(w->client, &st);
    snprintf(text, sizeof text, "write %lu %s, in flight %u, done %lu, retries %lu, reconnects %lu, "
             "leases %lu; %.200s %.200s", (unsigned long)w->n, w->pending ? "outstanding" : "not begun",
             st.in_flight, (unsigned long)st.done, (unsigned long)st.retries,
             (unsigned long)st.reconnects, (unsigned long)st.leases, st.trouble, st.fatal);
    return text;
}

static void lethe_close(void *conn)
{
    struct writer *w = conn;
    lethe_client_destroy(w->client);
    free(w);
}

static void *lethe_open(const char *nodes, int range, int ranges, int writer, char *err,
                        uint32_t err_len)
{
    struct writer *w = calloc(1, sizeof *w);
    if (!w) {
        snprintf(err, err_len, "out of memory");
        return NULL;
    }
    uint32_t salt = 0;
    do
        failover_tag(w->tag, writer, salt++);
    while (slot_of(w->tag, FAILOVER_TAG) * ranges / LETHE_SLOTS != range);
    snprintf(w->address, sizeof w->address, "%s", nodes);
    struct lethe_config config = {.shards = (uint16_t)ranges, .address = w->address,
                                  .retry_ms = RETRY_MS, .window = 64};
    w->client = lethe_client_create(&config, err, err_len);
    if (!w->client || (w->table = lethe_table_open(w->client, &schema)) < 0) {
        free(w);
        return NULL;
    }
    for (uint64_t end = wall_ns() + 30000000000u; !lethe_ready(w->client);) {
        lethe_poll(w->client, wall_ns() / 1000);
        struct pollfd f = {lethe_fd(w->client), POLLIN, 0};
        poll(&f, 1, 1);
        if (wall_ns() > end) {
            struct lethe_status st;
            lethe_status(w->client, &st);
            snprintf(err, err_len, "the store is not ready after 30 s: %s %s", st.trouble, st.fatal);
            lethe_close(w);
            return NULL;
        }
    }
    return w;
}

const struct failover_peer failover_lethe = {"lethe", lethe_open, lethe_write, lethe_read,
                                             lethe_trouble, lethe_close};
