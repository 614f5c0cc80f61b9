/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client of etcd's HTTP/JSON gateway (v3.4 and later): requests with a
 * time-out each, one watch, several end points tried in turn.
 *
 * Thread: the owner's, but for etcd_wake. Nothing blocks but etcd_poll, which
 * waits for answers until its time-out, and calls back from there.
 * An answer that did not come, was no JSON or carried an HTTP error is "failed": of
 * a request that changes something it is then unknown whether it did.
 */
#ifndef LETHE_CONFIG_ETCD_H
#define LETHE_CONFIG_ETCD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct etcd;

/* `answer` NULL: failed, and `why` is a sentence; the answer is lent. */
typedef void (*etcd_answered)(void *ctx, uint32_t tag, const json_t *answer, const char *why);

/* Of https end points, files in PEM. NULL: the system's authorities; no certificate of ours. */
struct etcd_tls { const char *ca, *cert, *key; };
/* `easy`: a CURL handle. */
void etcd_tls_use(void *easy, const struct etcd_tls *tls);

struct etcd_config {
    const char *const *endpoints; /* [http[s]://]host:port; kept */
    uint32_t nendpoints;
    struct etcd_tls tls;      /* its strings are kept */
    uint32_t timeout_ms;      /* of a request, connecting included */
    void *ctx;
    etcd_answered answered;   /* a request was answered, or failed */
    /* A message of the watch; NULL: the watch ended. */
    void (*watched)(void *ctx, const json_t *message, const char *why);
};

int etcd_create(struct etcd **out, const struct etcd_config *config, char *err, uint32_t err_len);
void etcd_destroy(struct etcd *e);

/* POSTs `body` (taken) to "/v3/<path>"; answered later, also with a failure. */
void etcd_post(struct etcd *e, const char *path, json_t *body, uint32_t tag);
/* Starts the watch, and ends the one before. */
void etcd_watch(struct etcd *e, json_t *body);
void etcd_unwatch(struct etcd *e);
bool etcd_watches(const struct etcd *e);

/* Works, calls back; waits at most `timeout_ms`, if there was nothing to call back for. */
void etcd_poll(struct etcd *e, int timeout_ms);
/* Ends etcd_poll's wait; any thread. */
void etcd_wake(struct etcd *e);

/* When something was heard last, and since when nothing (0: it answers); milliseconds of
 * CLOCK_MONOTONIC. */
uint64_t etcd_away_since_ms(const struct etcd *e);
uint64_t etcd_requests(const struct etcd *e);
uint64_t etcd_failures(const struct etcd *e);
const char *etcd_endpoint(const struct etcd *e);

/* Keys and values are base64 in JSON. */
json_t *etcd_text(const char *text);
/* The bytes of a base64 string, NUL behind them; -1: not base64, or more than
 * `room` - 1. */
int etcd_bytes(const json_t *text, char *to, uint32_t room);
/* gRPC's int64 is a string in JSON; absent is 0. False: it is something else. */
bool etcd_number(const json_t *object, const char *key, int64_t *out);

#endif
