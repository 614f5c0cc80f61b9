/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For the server's tests: stores in this process on ports of the kernel's
 * choice, clients that dial them, raw connections, and waiting for conditions
 * (with a bound that only a hang reaches).
 */
#ifndef STATESTORE_SERVER_HARNESS_H
#define STATESTORE_SERVER_HARNESS_H

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client/lethe.h"
#include "common/log/log.h"
#include "statestore/server/embed.h"
#include "tests/check.h"

enum { PATIENCE_US = 60 * 1000 * 1000 };

static inline uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000;
}

static inline void nap(void)
{
    struct timespec t = {.tv_nsec = 200 * 1000};
    nanosleep(&t, NULL);
}

#define WAIT_FOR(cond)                                                                            \
    do {                                                                                          \
        uint64_t give_up = now_us() + PATIENCE_US;                                                \
        while (!(cond)) {                                                                         \
            CHECK(now_us() < give_up, "waited in vain for: %s", #cond);                           \
            nap();                                                                                \
        }                                                                                         \
    } while (0)

/* --- stores ------------------------------------------------------------------------------ */

static inline struct store_config store_of(uint16_t shards)
{
    return (struct store_config){.shards = shards, .node = 1, .listen = "127.0.0.1:0",
                                 .threads = true, .failure_timeout_ms = 500};
}

static inline struct store *start(const struct store_config *config)
{
    struct store *s;
    char err[300];
    CHECK(!store_start(&s, config, err, sizeof err), "%s", err);
    return s;
}

static inline struct channel *dial_store(void *ctx, uint16_t shard, char *err, uint32_t err_len)
{
    char address[40];
    struct store *const *s = ctx;
    snprintf(address, sizeof address, "127.0.0.1:%u", *s ? store_port(*s, shard) : 1);
    return tcp_connect(address, err, err_len);
}

static inline struct channel *dial_store_node(void *ctx, uint32_t node, uint16_t shard, char *err,
                                              uint32_t err_len)
{
    return dial_store(ctx, shard, err, err_len);
}

static inline struct shard_snapshot snapshot_of(const struct store *s, uint16_t shard)
{
    struct shard_snapshot snap;
    store_snapshot(s, shard, &snap);
    return snap;
}

/* --- clients ------------------------------------------------------------------------------- */

enum { VALUE_BYTES = 32 };

static inline struct table_schema flows_schema(void)
{
    return (struct table_schema){.name = "flows", .kind = TABLE_HASH, .version = 1, .key_size = 8,
                                 .part_len = 8, .value_size = VALUE_BYTES};
}

struct user {
    struct lethe_client *client;
    int flows;
    uint32_t outstanding, answered, ok, stale, other;
};

static inline void on_result(void *ctx, const struct txn_result_head *r)
{
    struct user *u = ctx;
    u->outstanding--;
    u->answered++;
    u->ok += r->status == TXN_OK;
    u->stale += r->status == TXN_STALE_CLIENT;
    u->other += r->status != TXN_OK && r->status != TXN_STALE_CLIENT;
}

static inline bool user_turn(struct user *u)
{
    lethe_poll(u->client, now_us());
    return true;
}

static inline void user_create(struct user *u, const struct lethe_config *config)
{
    char err[200];
    struct table_schema schema = flows_schema();
    memset(u, 0, sizeof *u);
    u->client = lethe_client_create(config, err, sizeof err);
    CHECK(u->client, "%s", err);
    u->flows = lethe_table_open(u->client, &schema);
}

static inline void user_open(struct user *u, uint16_t shards, lethe_dial dial, void *ctx)
{
    user_create(u, &(struct lethe_config){.shards = shards, .window = 512, .dial = dial,
                                          .dial_ctx = ctx});
}

static inline void user_open_at(struct user *u, uint16_t shards, const char *address)
{
    user_create(u, &(struct lethe_config){.shards = shards, .window = 512, .address = address});
}

static inline bool user_insert(struct user *u, uint64_t key)
{
    uint8_t value[VALUE_BYTES];
    struct lethe_txn *t = lethe_txn_begin(u->client, slot_of(&key, sizeof key), on_result, u);
    if (!t)
        return false;
    memset(value, (int)key, sizeof value);
    lethe_txn_insert(t, u->flows, &key, value, 0);
    lethe_txn_submit(t);
    u->outstanding++;
    return true;
}

static inline void user_wait(struct user *u)
{
    lethe_flush(u->client);
    WAIT_FOR(user_turn(u) && u->outstanding == 0);
}

/* Inserts keys from..from + n - 1, as many at once as the window takes. */
static inline void user_insert_many(struct user *u, uint64_t from, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        while (!user_insert(u, from + i)) {
            lethe_flush(u->client);
            user_turn(u);
        }
    }
    user_wait(u);
}

/* --- raw connections -------------------------------------------------------------------------- */

static inline int raw_connect(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 20};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    CHECK(!connect(fd, (struct sockaddr *)&a, sizeof a), "connect: %s", strerror(errno));
    return fd;
}

static inline void raw_send(int fd, const void *bytes, size_t n)
{
    assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), n);
}

static inline void raw_hello(int fd, uint8_t role)
{
    struct msg_hello m = {.magic = MSG_MAGIC, .proto_min = MSG_PROTO_MIN,
                          .proto_max = MSG_PROTO_MAX, .role = role};
    msg_head_set(&m, MSG_HELLO, sizeof m, 0, 0);
    raw_send(fd, &m, sizeof m);
}

/* Reads one whole frame into `to`; its bytes, or 0 at the end of the stream. */
static inline uint32_t raw_frame(int fd, void *to, uint32_t room)
{
    struct msg_head *h = to;
    ssize_t n = recv(fd, to, sizeof *h, MSG_WAITALL);
    if (n <= 0)
        return 0;
    assert_int_equal(n, sizeof *h);
    assert_true(h->bytes <= room);
    uint32_t rest = h->bytes - (uint32_t)sizeof *h;
    assert_int_equal(recv(fd, h + 1, rest, MSG_WAITALL), rest);
    return h->bytes;
}

/* Reads whatever comes until the store closes. */
static inline void raw_expect_closed(int fd)
{
    uint8_t bytes[65536];
    ssize_t n;
    while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0)
        ;
    CHECK(n == 0 || errno == ECONNRESET, "the store did not close: %s", strerror(errno));
    close(fd);
}

#endif
