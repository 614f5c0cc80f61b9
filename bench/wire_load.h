/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The load of the store bench: one connection or many, requests encoded
 * beforehand, replies all of one known size and not parsed, but that they are no
 * errors is seen. The cheapest client that a server can have, the same for everybody:
 * lethe-store over tcp and shm, redis-server. It is to saturate the server and
 * not the client.
 *
 * One thread; what goes wrong ends the program with a sentence.
 */
#ifndef BENCH_WIRE_LOAD_H
#define BENCH_WIRE_LOAD_H

#include <sys/types.h>

#include "bench/raw_client.h"

enum { KEYS = 100000, KEY = 16, VALUE = 64, IN_FLIGHT = 64, BATCH_MAX = 64, CROWD = 64 };
enum wire_how { LETHE_GET, REDIS_GET, REDIS_MGET, REDIS_SET };

struct wire {
    enum wire_how how;
    int batch;                   /* operations */
    pid_t server, backup;        /* backup 0: none */
    const struct raw_client *raw; /* LETHE_GET: the connection */
    int fd;                      /* redis: the connection */
};

struct sample {
    double ops_per_s, server_us, client_us, backup_us; /* us of CPU per operation */
};

extern const struct table_schema bench_schema;

/* A key in [0, KEYS), uniform; and its text. */
uint32_t pick_key(void);
void key_of(uint32_t n, char key[KEY + 1]);

/* IN_FLIGHT batches outstanding; what one read answered is asked anew by one
 * write. A server's cost is its own CPU clock, over the measured interval. */
struct sample wire_measure(const struct wire *w, double seconds);
/* `n` connections (at most CROWD), which all do the same, one batch outstanding on each. */
struct sample wire_measure_crowd(const struct wire *w, int n, double seconds);
/* One batch outstanding: the median of `samples` round trips, us. spin: asks
 * again and again for the reply instead of sleeping in a read; shm always does. */
double wire_latency_us(const struct wire *w, int samples, bool spin);
/* So many batches, one at a time; how many were answered. */
long wire_run(const struct wire *w, long batches);
/* SETs of all keys. */
void wire_fill_redis(int fd);

#endif
