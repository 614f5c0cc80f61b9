/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Questions to metrics ports (ask.h): libcurl on the controller's loop (curl_loop.h). A hub a loop,
 * made with the first question, has the connections.
 *
 * libcurl's own call-backs only count, copy and note; who asked is called after it has returned.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/controller/ask_impl.h"
#include "orchestrator/driver/curl_loop.h"

enum { URL_BYTES = 1024, HEAD_MOST = 16 * 1024, CONNECTIONS_EACH = 4 };

struct hub {
    struct curl_loop *curl;
    struct ask_http *asks;    /* under way */
};

struct ask_http {
    struct ask ask;
    struct hub *hub;
    struct ask_http *next;
    CURL *easy;
    const char *why;          /* what stopped it, if we did */
    size_t head;              /* bytes of headers */
};

/* --- the ends --------------------------------------------------------------------------------- */

static void release(struct ask *a)
{
    struct ask_http *h = (struct ask_http *)a;
    struct ask_http **at = &h->hub->asks;
    while (*at != h)
        at = &(*at)->next;
    *at = h->next;
    curl_loop_remove(h->hub->curl, h->easy);
    curl_easy_cleanup(h->easy);
    free(a->reply);
    free(h);
}

static const char *sentence(CURLcode code)
{
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT: return "it did not answer in time";
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR: return "it hung up";
    case CURLE_COULDNT_CONNECT: return "nobody answers there";
    case CURLE_UNSUPPORTED_PROTOCOL: return "it answered what is no HTTP/1.1";
    default: return curl_easy_strerror(code);
    }
}

static void over(void *private_of_easy, CURLcode code)
{
    struct ask_http *h = private_of_easy;
    long status = 0;
    char why[ASK_WHY];
    curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK) {
        ask_end(&h->ask, NULL, h->why ? h->why : sentence(code));
        return;
    }
    if (status == 200 || (h->ask.used && h->ask.reply[0] == '{')) {
        ask_take(&h->ask, h->ask.used);
        return;
    }
    ask_refused(status, h->ask.reply, h->ask.used, why);
    ask_end(&h->ask, NULL, why);
}

/* --- libcurl's call-backs ------------------------------------------------------------------------ */

static size_t on_bytes(char *bytes, size_t one, size_t n, void *ctx)
{
    struct ask_http *h = ctx;
    size_t left = n * one;
    while (left && ask_grow(&h->ask)) {
        size_t part = h->ask.room - h->ask.used < left ? h->ask.room - h->ask.used : left;
        memcpy(h->ask.reply + h->ask.used, bytes + (n * one - left), part);
        h->ask.used += part;
        left -= part;
    }
    if (left)
        h->why = "its answer is too long";
    return left ? 0 : n * one;
}

static size_t on_head(char *bytes, size_t one, size_t n, void *ctx)
{
    struct ask_http *h = ctx;
    (void)bytes;
    h->head += n * one;
    if (h->head > HEAD_MOST)
        h->why = "its answer's head is too long";
    return h->why ? 0 : n * one;
}

/* --- the hub --------------------------------------------------------------------------------------- */

static struct hub *hub_of(uv_loop_t *loop)
{
    struct hub *hub = loop->data;
    if (hub || !(hub = calloc(1, sizeof *hub)))
        return hub;
    hub->curl = curl_loop_create(loop, CONNECTIONS_EACH, over);
    if (!hub->curl) {
        free(hub);
        return NULL;
    }
    loop->data = hub;
    return hub;
}

void ask_close(uv_loop_t *loop)
{
    struct hub *hub = loop->data;
    if (!hub)
        return;
    while (hub->asks)
        ask_cancel(&hub->asks->ask);
    curl_loop_destroy(hub->curl);
    free(hub);
    loop->data = NULL;
}

static void set_up(struct ask_http *h, const char *url, uint32_t timeout_ms)
{
    CURL *c = h->easy;
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_PROXY, ""); /* whatever the environment says */
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, h);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, h);
    curl_easy_setopt(c, CURLOPT_PRIVATE, h);
}

struct ask *ask_http_start(uv_loop_t *loop, const char *path, const char *request, uint32_t timeout_ms,
                           ask_answered answered, void *ctx)
{
    char url[URL_BYTES];
    struct hub *hub = hub_of(loop);
    struct ask_http *h = hub ? calloc(1, sizeof *h) : NULL;
    CURL *easy = h ? curl_easy_init() : NULL;
    char *words = easy ? curl_easy_escape(easy, request, 0) : NULL;
    if (!words) {
        curl_easy_cleanup(easy);
        free(h);
        return NULL;
    }
    h->hub = hub;
    h->easy = easy;
    ask_init(&h->ask, loop, answered, ctx, release);
    snprintf(url, sizeof url, "%s/v1/ask/%s", path, words);
    curl_free(words);
    if (!ask_is_url(path)) {
        h->why = "it cannot be asked there: http://ADDRESS:PORT is needed";
        snprintf(url, sizeof url, "none:"); /* libcurl says that it does not, later as all */
    }
    set_up(h, url, timeout_ms);
    h->next = hub->asks;
    hub->asks = h;
    curl_loop_add(hub->curl, easy);
    return &h->ask;
}
