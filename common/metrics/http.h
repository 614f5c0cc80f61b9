/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a monitoring system asks of a program, over HTTP, on a thread of its own:
 *
 *   GET /metrics    all metrics of the registry, Prometheus' text format
 *   GET /healthz    200, or 503 and a sentence: the datapath stands still
 *   GET /readyz     200, or 503 and a sentence: do not send it work (yet)
 *   GET /v1/ask/VERB  with `asks`: what the control socket says to that verb, the same JSON; an
 *                   {"error": ...} comes with 503. What is not in the list is 404
 *
 * Where: "host:port" (port 0: any, the log says which), or the path of a Unix socket,
 * which is mode 0600. A program started without --metrics listens at
 * <run_dir>/<instance>.metrics.sock, so that two on one host never clash:
 *     curl --unix-socket /run/lethe/store-a.metrics.sock http://localhost/metrics
 *
 * Bounds: HTTP_CONNECTIONS at a time, beside those that wait for a verb's answer; for a further one the one that has been still for
 * longest is closed, and any in which nothing came or went for HTTP_PATIENCE_S. HTTP_CONNECTIONS_EACH of them one address's; a request's head of
 * HTTP_HEAD_BYTES; bodies are not read. Who asks a verb waits, and no other: the control thread
 * answers, and that seldom enough (control_question_put).
 * Nobody is asked who he is: listen where only the monitoring can reach. So `asks` has verbs that
 * change nothing and tell of no flow.
 */
#ifndef LETHE_METRICS_HTTP_H
#define LETHE_METRICS_HTTP_H

#include <stdint.h>

#include "common/metrics/control.h"

enum { HTTP_CONNECTIONS = 16, HTTP_CONNECTIONS_EACH = 8, HTTP_PATIENCE_S = 5, HTTP_HEAD_BYTES = 8 * 1024 };

/* Writes why not, one sentence; leaves `why` empty if it is so. HTTP's thread. */
typedef void (*http_probe)(void *ctx, char *why, uint32_t len);

struct http_config {
    struct metrics *metrics;
    const char *address;       /* lent for the call */
    http_probe healthy, ready; /* NULL: always */
    void *ctx;                 /* of the probes */
    const char *const *asks;   /* verbs, NULL at the end; lent. NULL: none */
    struct control *control;   /* with asks: outlives this */
};

struct metrics_http;
/* 0, or -errno and a sentence. */
int metrics_http_start(struct metrics_http **out, const struct http_config *config, char *err,
                       uint32_t err_len);
uint16_t metrics_http_port(const struct metrics_http *h); /* 0: a Unix socket */
void metrics_http_stop(struct metrics_http *h);           /* NULL: nothing to do */
/* The same at `config->address`, or without one beside the control socket: for
 * "/run/lethe/store-a.sock" at "/run/lethe/store-a.metrics.sock". Where that is too long for a
 * socket's path the log says so, *out is NULL and all else goes on. */
int metrics_http_beside(struct metrics_http **out, const struct http_config *config,
                        const char *control, char *err, uint32_t err_len);

#endif
