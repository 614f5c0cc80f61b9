/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The store's way from a frame to its reply, to be counted by callgrind: the
 * same instructions on every run, whatever else the machine does.
 *
 *   valgrind --tool=callgrind --toggle-collect=edge_frame build/release/bench/store_path --batch 16
 *
 * The store is a thread of this process, reached by message passing; the load is
 * wire_load.h's. Says how many gets that were; filling the table first costs what
 * `--gets 0` shows.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/process.h"
#include "bench/wire_load.h"
#include "client/lethe.h"
#include "statestore/server/embed.h"

static void give_up(const char *why)
{
    fprintf(stderr, "store_path: %s\n", why);
    exit(1);
}

static void on_filled(void *user, const struct txn_result_head *h)
{
    if (h->status != TXN_OK)
        give_up(txn_status_text(h->status));
    --*(int *)user;
}

static void fill(struct embed *store)
{
    static const char value[VALUE] = "value";
    char err[240], key[KEY + 1];
    struct lethe_config config = {.shards = 1, .dial = embed_dial, .dial_ctx = store};
    struct lethe_client *c = lethe_client_create(&config, err, sizeof err);
    int table = c ? lethe_table_open(c, &bench_schema) : -1, left = 0;
    if (table < 0)
        give_up(err);
    for (uint32_t n = 0; n < KEYS || left;) {
        lethe_poll(c, wall_ns() / 1000);
        for (; n < KEYS && left < BATCH_MAX && lethe_ready(c); n++, left++) {
            key_of(n, key);
            struct lethe_txn *t = lethe_txn_begin(c, slot_of(key, KEY), on_filled, &left);
            if (!t)
                break;
            lethe_txn_insert(t, table, key, value, 0);
            lethe_txn_submit(t);
        }
        lethe_flush(c);
    }
    lethe_client_destroy(c);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"batch", 1, 0, 'b'}, {"gets", 1, 0, 'n'}, {0, 0, 0, 0}};
    int batch = 16;
    long gets = 320000, done = 0;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'b')
            batch = atoi(optarg);
        else if (o == 'n')
            gets = atol(optarg);
        else
            return 2;
    }
    if (batch < 1 || batch > BATCH_MAX)
        give_up("--batch is 1 to 64");
    char err[240];
    struct embed *store;
    struct embed_config config = {.shards = 1, .threads = true, .spin_us = 50};
    if (embed_start(&store, &config, err, sizeof err))
        give_up(err);
    fill(store);
    struct raw_client raw = raw_connect_to(embed_dial(store, 0, err, sizeof err), &bench_schema);
    struct wire w = {.how = LETHE_GET, .batch = batch, .raw = &raw};
    done = wire_run(&w, gets / batch) * batch;
    raw_close(&raw);
    embed_stop(store);
    printf("%d keys, %ld gets in batches of %d\n", KEYS, done, batch);
    return 0;
}
