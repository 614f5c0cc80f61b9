/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Example 1: insert an entry, get it back, and see a guard fail; with the
 * plainest loop there is: poll until done. A DPDK worker's loop looks the same,
 * it only does other things between two polls.
 *
 *   lethe-store --standalone --listen 127.0.0.1:7400 &
 *   01_get_and_insert 127.0.0.1:7400
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/lethe.h"

enum { PATIENCE_S = 10 };

/* The client owns no clock; it is told the time with every poll. Any monotonic
 * clock in microseconds will do. */
static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000;
}

/* A table is data: a name, the sizes of key and value, which bytes of the key
 * choose the hash slot (here: all). Whoever opens it first creates it; whoever
 * opens it with another schema gets an error that names both. */
static const struct table_schema people = {
    .name = "example_people",
    .kind = TABLE_HASH,
    .version = 1,
    .key_size = 16,
    .part_len = 16,
    .value_size = 32,
    .timeout_ms = 60000, /* an entry that nobody touches for a minute expires */
};

/* What the callbacks leave behind. */
struct answer {
    int outstanding;
    enum txn_status status;
    uint64_t version;
    char value[33];
};

/* Called from lethe_poll, once per txn, whatever happened on the way: lost
 * connections, retries. `result` is lent for the call only, so copy. */
static void answered(void *user, const struct txn_result_head *result)
{
    struct answer *a = user;
    a->outstanding--;
    a->status = result->status;
    a->version = 0;
    a->value[0] = 0;
    /* Operation 0's result. It is there for a hit, and also when its guard
     * failed: then it carries what the store holds instead. */
    const struct txn_result *r = txn_result_of(result, 0);
    if (r && r->value_len == 32) {
        a->version = r->version;
        memcpy(a->value, txn_result_value(r), 32);
    }
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

static void wait_for(struct lethe_client *c, struct answer *a)
{
    while (a->outstanding)
        lethe_poll(c, now_us());
}

static struct lethe_txn *begin(struct lethe_client *c, const char key[16], struct answer *a)
{
    /* A txn lives in one hash slot: that of its keys' partition bytes. NULL
     * would mean that the window is full; with one txn at a time it never is. */
    struct lethe_txn *t = lethe_txn_begin(c, slot_of(key, 16), answered, a);
    if (!t)
        abort();
    a->outstanding++;
    return t;
}

static void insert(struct lethe_client *c, int table, const char key[16], const char value[32],
                   struct answer *a)
{
    struct lethe_txn *t = begin(c, key, a);
    lethe_txn_insert(t, table, key, value, 0); /* 0: the table's time-out */
    lethe_txn_submit(t);                       /* queued: many may follow */
    lethe_flush(c);                            /* one frame for all of them */
    wait_for(c, a);
    printf("insert %-8s -> %s\n", key, txn_status_text(a->status));
}

static void get(struct lethe_client *c, int table, const char key[16], struct answer *a)
{
    struct lethe_txn *t = begin(c, key, a);
    lethe_txn_get(t, table, key, TXN_TOUCH); /* a hit moves the entry's deadline */
    lethe_txn_submit(t);
    lethe_flush(c);
    wait_for(c, a);
    if (a->version)
        printf("get    %-8s -> \"%s\", version %lu\n", key, a->value, a->version);
    else
        printf("get    %-8s -> not there\n", key);
}

static int run(struct lethe_client *c, int table)
{
    static const char ada[16] = "ada", bob[16] = "bob";
    static const char mathematician[32] = "mathematician", painter[32] = "painter";
    struct answer a = {0};

    get(c, table, bob, &a);
    if (a.version)
        return 1;

    insert(c, table, ada, mathematician, &a);
    if (a.status != TXN_OK && a.status != TXN_CONFLICT) /* an earlier run's is fine */
        return 1;

    /* There is no blind overwriting: an insert is guarded by "absent", and the
     * refusal carries the entry that is there. */
    insert(c, table, ada, painter, &a);
    if (a.status != TXN_CONFLICT || strcmp(a.value, mathematician))
        return 1;
    printf("       what is there: \"%s\", version %lu\n", a.value, a.version);

    get(c, table, ada, &a);
    return a.version && !strcmp(a.value, mathematician) ? 0 : 1;
}

int main(int argc, char **argv)
{
    char err[200];
    if (argc != 2) {
        fprintf(stderr, "usage: %s HOST:PORT\n", argv[0]);
        return 1;
    }
    /* As many shards as the store has: they choose where a hash slot lives. */
    struct lethe_config config = {.address = argv[1], .shards = 1};
    struct lethe_client *c = lethe_client_create(&config, err, sizeof err);
    if (!c) {
        fprintf(stderr, "%s\n", err);
        return 1;
    }
    int table = lethe_table_open(c, &people); /* asked for; open once ready */
    int failed = table < 0 || wait_until_ready(c) || run(c, table);
    lethe_client_destroy(c);
    puts(failed ? "FAILED" : "ok");
    return failed ? 1 : 0;
}
