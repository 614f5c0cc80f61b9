/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Example 3: what a NAT does for the first packet of a flow, in ONE round trip:
 * look the mapping up, and if there is none, take a free port, remember in the
 * port's record whose it is, and create the mapping that names the port.
 *
 *   op 0  get mapping[inside]            a hit: skip the next two
 *   op 1  alloc a port, record = inside  the store picks a random free one
 *   op 2  insert mapping[inside]         patched: the port's index and version,
 *                                        as op 1 found them
 *
 * The way back then needs no second table: the record at the port's index is
 * the reverse mapping. When the mapping expires, its reaction frees the port.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/lethe.h"

enum { PATIENCE_S = 10, PORTS = 16384 };

struct inside {               /* key of a mapping, and record of a port */
    uint32_t address;
    uint16_t port, protocol;
};

struct mapping {              /* 12 bytes, as REACT_FREE wants them */
    uint32_t port_index;
    uint8_t port_version[8];  /* names this very allocation of the port */
};

static const struct table_schema ports = {
    .name = "example_ports", .kind = TABLE_POOL, .version = 1, .key_size = 4,
    .value_size = sizeof(struct inside), .max_entries = PORTS, .quarantine_ms = 1000,
};

static const struct table_schema mappings = {
    .name = "example_mappings", .kind = TABLE_HASH, .version = 1,
    .key_size = sizeof(struct inside), .part_len = sizeof(struct inside),
    .value_size = sizeof(struct mapping), .timeout_ms = 30000,
    .reactions = {{.kind = REACT_FREE, .off = 0, .len = 12, .table = "example_ports"}},
};

struct answer {
    bool done, created;
    enum txn_status status;
    uint32_t port_index;
    struct inside owner;
};

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000;
}

static void mapped(void *user, const struct txn_result_head *result)
{
    struct answer *a = user;
    const struct txn_result *got = txn_result_of(result, 0), *port = txn_result_of(result, 1);
    struct mapping m;
    a->done = true;
    a->status = result->status;
    a->created = port != NULL; /* a skipped op has no result */
    if (port) {
        a->port_index = port->index;
    } else if (got && got->value_len == sizeof m) {
        memcpy(&m, txn_result_value(got), sizeof m);
        a->port_index = m.port_index;
    }
}

static void looked_up(void *user, const struct txn_result_head *result)
{
    struct answer *a = user;
    const struct txn_result *r = txn_result_of(result, 0);
    a->done = true;
    a->status = result->status;
    memset(&a->owner, 0, sizeof a->owner);
    if (r && r->res == RES_HIT)
        memcpy(&a->owner, txn_result_value(r), sizeof a->owner);
}

static void wait_for(struct lethe_client *c, struct answer *a)
{
    lethe_flush(c);
    while (!a->done)
        lethe_poll(c, now_us());
}

/* The port of an inside end point; created if need be. */
static struct answer map(struct lethe_client *c, int table, int pool, struct inside from)
{
    struct answer a = {0};
    struct mapping blank = {0};
    struct lethe_txn *t = lethe_txn_begin(c, slot_of(&from, sizeof from), mapped, &a);
    if (!t)
        abort();
    int get = lethe_txn_get(t, table, &from, TXN_TOUCH | TXN_SKIP_IF_PRESENT);
    int alloc = lethe_txn_alloc(t, pool, &from);
    lethe_txn_insert(t, table, &from, &blank, 0);
    lethe_txn_patch(t, (struct txn_patch){.op = (uint8_t)alloc, .from = PATCH_INDEX, .len = 4,
                                          .into = PATCH_INTO_VALUE, .into_off = 0});
    lethe_txn_patch(t, (struct txn_patch){.op = (uint8_t)alloc, .from = PATCH_VERSION, .len = 8,
                                          .into = PATCH_INTO_VALUE, .into_off = 4});
    lethe_txn_skip_to_here(t, get);
    lethe_txn_submit(t);
    wait_for(c, &a);
    return a;
}

/* Whose port is it? The way of a packet that comes from outside. */
static struct answer owner_of(struct lethe_client *c, int pool, uint32_t port_index)
{
    struct answer a = {0};
    struct lethe_txn *t = lethe_txn_begin(c, slot_of_index(port_index), looked_up, &a);
    if (!t)
        abort();
    lethe_txn_get(t, pool, &port_index, 0);
    lethe_txn_submit(t);
    wait_for(c, &a);
    return a;
}

static int run(struct lethe_client *c, int table, int pool)
{
    for (uint16_t i = 0; i < 4; i++) {
        struct inside from = {.address = 0x0a000001, .port = (uint16_t)(40000 + i), .protocol = 6};
        struct answer first = map(c, table, pool, from), again = map(c, table, pool, from);
        struct answer back = owner_of(c, pool, first.port_index);
        printf("10.0.0.1:%u -> port number %u of the pool (%s), again: %u (%s), back: 10.0.0.1:%u\n",
               from.port, first.port_index, first.created ? "created" : "was there",
               again.port_index, again.created ? "created" : "was there", back.owner.port);
        if (first.status != TXN_OK || again.status != TXN_OK || back.status != TXN_OK ||
            again.created || again.port_index != first.port_index ||
            memcmp(&back.owner, &from, sizeof from))
            return 1;
    }
    return 0;
}

static int wait_until_ready(struct lethe_client *c)
{
    uint64_t give_up = now_us() + PATIENCE_S * 1000000ull;
    struct lethe_status st;
    while (!lethe_ready(c)) {
        lethe_poll(c, now_us());
        lethe_status(c, &st);
        if (st.fatal[0] || now_us() > give_up) {
            fprintf(stderr, "not ready: %s\n", st.fatal[0] ? st.fatal : st.trouble);
            return -1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    char err[200];
    if (argc != 2) {
        fprintf(stderr, "usage: %s HOST:PORT\n", argv[0]);
        return 1;
    }
    struct lethe_config config = {.address = argv[1], .shards = 1};
    struct lethe_client *c = lethe_client_create(&config, err, sizeof err);
    if (!c) {
        fprintf(stderr, "%s\n", err);
        return 1;
    }
    int pool = lethe_table_open(c, &ports), table = lethe_table_open(c, &mappings);
    int failed = pool < 0 || table < 0 || wait_until_ready(c) || run(c, table, pool);
    lethe_client_destroy(c);
    puts(failed ? "FAILED" : "ok");
    return failed ? 1 : 0;
}
