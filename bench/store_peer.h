/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Our side of a bench: lethe-store processes, alone or with backups, one shard,
 * on loopback; an etcd for their views if there are two backups; and a client of
 * them by liblethe. The primary runs on core 0,
 * everything else on core 1. One thread; what goes wrong ends the program with
 * a sentence.
 */
#ifndef BENCH_STORE_PEER_H
#define BENCH_STORE_PEER_H

#include <stdint.h>
#include <sys/types.h>

#include "client/lethe.h"

enum { STORE_BACKUPS_MAX = 2 };

struct store_peer {
    pid_t node[1 + STORE_BACKUPS_MAX]; /* the first is the primary */
    int nodes, port;
    char address[80];         /* of every node, commas between */
    char shm[80];             /* the same of a store alone, by shm: shard 0's file is this + ".0" */
    char dir[200];            /* its site, sockets and etcd's data; gone with it */
    pid_t etcd;               /* 0: none */
};

/* Defaults of every store bench; --store and --out change them. */
#define STORE_PROGRAM "build/release/statestore/lethe-store"
#define BENCH_OUT "build/bench"

/* Starts 1 + backups nodes; logs go to `out`. It does not
 * wait: store_client does. */
void store_start(struct store_peer *p, const char *program, const char *out, int backups);
void store_stop(struct store_peer *p);

/* A client for which the tables are open, with every backup in the view, within 15 s; ids[i] is its number of
 * schemas[i]. */
struct lethe_client *store_client(const struct store_peer *p, uint32_t window,
                                  const struct table_schema *schemas, int n, int *ids);
/* The same, by shm. */
struct lethe_client *store_client_shm(const struct store_peer *p, uint32_t window,
                                      const struct table_schema *schemas, int n, int *ids);
/* Polls, and sleeps 1 ms at most if nothing is to be done. */
void store_poll(struct lethe_client *c);

/* n as `len` decimal digits, leading zeros and all; no NUL. */
void store_digits(char *to, int len, uint64_t n);

/* Many txns, outstanding as the window allows: what `build` adds to txn `i` of
 * [0, n), in the slot it names. Returns when all are done; how many were not
 * TXN_OK. */
struct store_job {
    uint8_t (*slot)(void *ctx, uint64_t i);
    void (*build)(void *ctx, uint64_t i, struct lethe_txn *t);
    void (*done)(void *ctx, uint64_t i, const struct txn_result_head *h); /* NULL: nothing */
    void *ctx;
    uint32_t outstanding;      /* at most; 0: STORE_OUTSTANDING */
};
enum { STORE_OUTSTANDING = 1024 };
uint64_t store_run(struct lethe_client *c, const struct store_job *job, uint64_t n);

#endif
