/* SPDX-License-Identifier: BSD-3-Clause */
/* One HTTP request (fetch.h). */
#include "orchestrator/doctor/fetch.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config/etcd/etcd.h"

static size_t take(char *data, size_t one, size_t n, void *to)
{
    struct fetched *f = to;
    size_t bytes = one * n;
    if (f->bytes + bytes > FETCH_MAX)
        return 0;
    char *more = realloc(f->text, f->bytes + bytes + 1);
    if (!more)
        return 0;
    f->text = more;
    memcpy(more + f->bytes, data, bytes);
    f->bytes += (uint32_t)bytes;
    more[f->bytes] = '\0';
    return bytes;
}

static void ask(const char *url, const char *socket, const struct etcd_tls *tls, const char *body, uint32_t timeout_ms,
                struct fetched *f)
{
    struct curl_header *date;
    *f = (struct fetched){0};
    CURL *c = curl_easy_init();
    if (!c) {
        snprintf(f->error, sizeof f->error, "out of memory");
        return;
    }
    curl_easy_setopt(c, CURLOPT_URL, url);
    if (socket)
        curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, socket);
    if (tls)
        etcd_tls_use(c, tls);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_PROXY, "");
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, f);
    if (body)
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
    CURLcode code = curl_easy_perform(c);
    long http = 0;
    curl_off_t us = 0;
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &http);
    curl_easy_getinfo(c, CURLINFO_TOTAL_TIME_T, &us);
    f->ms = (double)us / 1000;
    if (code == CURLE_OK) {
        f->http = (int)http;
        if (curl_easy_header(c, "Date", 0, CURLH_HEADER, -1, &date) == CURLHE_OK)
            f->date_s = curl_getdate(date->value, NULL);
    } else {
        snprintf(f->error, sizeof f->error, "%s", code == CURLE_OPERATION_TIMEDOUT ? "no answer in time"
                 : curl_easy_strerror(code));
    }
    if (f->date_s < 0)
        f->date_s = 0;
    curl_easy_cleanup(c);
}

void fetch(const char *url, const char *socket, const char *body, uint32_t timeout_ms, struct fetched *f)
{
    ask(url, socket, NULL, body, timeout_ms, f);
}

void fetch_etcd(const char *url, const struct etcd_tls *tls, const char *body, uint32_t timeout_ms, struct fetched *f)
{
    ask(url, NULL, tls, body, timeout_ms, f);
}
