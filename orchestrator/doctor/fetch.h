/* SPDX-License-Identifier: BSD-3-Clause */
/* One HTTP request to somebody who may be away (libcurl, without its proxies). Blocking. */
#ifndef LETHE_ORCHESTRATOR_DOCTOR_FETCH_H
#define LETHE_ORCHESTRATOR_DOCTOR_FETCH_H

#include <stdint.h>

#include "common/config/etcd/etcd.h"

struct fetched {
    int http;                 /* 0: nobody answered, and `error` says why */
    char error[200];
    char *text;               /* NUL behind it; free(); NULL: none */
    uint32_t bytes;
    double ms;
    int64_t date_s;           /* of its Date header, Unix time; 0: none */
};

enum { FETCH_MAX = 8 << 20 };

/* Of an etcd: https, too. */
void fetch_etcd(const char *url, const struct etcd_tls *tls, const char *body, uint32_t timeout_ms, struct fetched *f);
/* `url` with http://; or `socket` the path of a Unix socket, else NULL. `body` NULL: GET. */
void fetch(const char *url, const char *socket, const char *body, uint32_t timeout_ms, struct fetched *f);

#endif
