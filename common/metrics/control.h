/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Counters of a program, and the Unix socket by which people and the site's
 * tools ask for them and give orders.
 *
 * Counters: a metric is a name, a help text and a uint64_t that one thread
 * writes with plain stores (metric_add) and anybody reads; they are padded so
 * that two threads never write one cache line. A name may carry labels, and ends
 * in its unit (text.h says how units are told to Prometheus):
 *     lethe_worker_drops_total{reason="conflict"}     lethe_worker_store_rtt_us
 * A histogram is kept by its owner (histogram.h) and copied here now and then.
 * A collector writes families of its own when somebody asks, from snapshots.
 * All of it is served by http.h.
 *
 * Control socket: <run_dir>/<instance>.sock, one thread of its own (libuv).
 * One request a line, one JSON object a line back:
 *     stats            {"instance": ..., "pid": ..., "uptime_ms": ..., metrics}
 *     <verb> args...   the program's own verbs: drain, join, leave, ...
 * An error is {"error": "sentence"}. Handlers run on the control thread and
 * must only set flags or read counters of the datapath.
 */
#ifndef LETHE_METRICS_CONTROL_H
#define LETHE_METRICS_CONTROL_H

#include <stddef.h>
#include <stdint.h>

struct histogram;
struct metrics_text;
struct metrics;                 /* a program's registry */
struct metric { uint64_t value; char pad[56]; } __attribute__((aligned(64)));

struct metrics *metrics_create(const char *instance);
/* `name` as Prometheus would have it: lethe_worker_packets_total. NULL: full. */
struct metric *metrics_counter(struct metrics *m, const char *name, const char *help);
struct metric *metrics_gauge(struct metrics *m, const char *name, const char *help);
/* Buckets first..last are told (histogram.h). The copy: by one thread. */
struct metric_histogram;
struct metric_histogram *metrics_histogram(struct metrics *m, const char *name, const char *help,
                                           int first, int last);
void metric_histogram_set(struct metric_histogram *to, const struct histogram *from);
/* Called by metrics_text, on its caller's thread. At most 4, before anybody asks. */
void metrics_collector(struct metrics *m, void (*collect)(void *ctx, struct metrics_text *to),
                       void *ctx);
/* All of it, as /metrics serves it, 0-ended, *len without that; free() it. NULL: out of
 * memory. Any thread. */
char *metrics_text(struct metrics *m, size_t *len);
void metrics_destroy(struct metrics *m);

static inline void metric_add(struct metric *c, uint64_t n)
{
    __atomic_store_n(&c->value, c->value + n, __ATOMIC_RELAXED); /* one writer */
}
static inline void metric_set(struct metric *c, uint64_t v)
{
    __atomic_store_n(&c->value, v, __ATOMIC_RELAXED);
}
static inline uint64_t metric_get(const struct metric *c)
{
    return __atomic_load_n(&c->value, __ATOMIC_RELAXED);
}

/* One request line, split at blanks. Writes one JSON object (no newline), or
 * CONTROL_LATER: it is called with the same words again in CONTROL_AGAIN_MS, and
 * so on; only this client waits meanwhile. It is the handler that ends that. */
#define CONTROL_LATER "later"
enum { CONTROL_AGAIN_MS = 2 };
typedef void (*control_handler)(void *ctx, int argc, char **argv, char *reply, uint32_t room);

struct control;
/* Starts the control thread. An existing socket file is taken over only if
 * nobody answers on it; otherwise -EADDRINUSE and a sentence. */
int control_start(struct control **out, const char *path, struct metrics *m,
                  control_handler handler, void *ctx, char *err, uint32_t err_len);
void control_stop(struct control *c);
/* A question from within the program, answered on the control thread, with what a client would be
 * told. The handler is asked the same verb every CONTROL_GAP_MS at most, however many ask: who comes
 * meanwhile gets the next answer, so none is older than its question. Any thread; nobody asks
 * when control_stop is called. */
struct control_question {
    const char *verb;         /* one word; lent until then, as is all of this */
    void (*answered)(struct control_question *q, const char *reply); /* reply: lent */
    struct control_question *next;
};
enum { CONTROL_GAP_MS = 20 };
void control_question_put(struct control *c, struct control_question *q);
/* Client side: one request, one reply line; 0 or -errno. */
int control_ask(const char *path, const char *request, char *reply, uint32_t room,
                uint32_t timeout_ms);

#endif
