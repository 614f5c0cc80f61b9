/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * etcd over HTTP (etcd.h), by libcurl's multi interface. A request is an easy
 * handle with its body and what came of its answer; both are bounded. The watch
 * is a request that does not end: its answer is one JSON object a line, each
 * handed on as it comes.
 *
 * A failure moves on to the next end point, for the requests from then on: who
 * owns a request knows whether it may be sent again.
 */
#include "common/config/etcd/etcd.h"

#include <curl/curl.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ANSWER_MAX = 4 * 1024 * 1024, ANSWER_FIRST = 4096, URL_MAX = 400 };

struct request {
    struct etcd *etcd;
    struct request *next;
    CURL *easy;
    uint32_t tag, endpoint;
    bool watch;
    char *body;
    char *text;               /* answer, or part of a line of the watch */
    size_t used, room;
    char error[CURL_ERROR_SIZE];
};

struct etcd {
    struct etcd_config config;
    CURLM *multi;
    struct curl_slist *headers;
    struct request *open;
    struct request *watch;    /* one of them; NULL: none */
    uint32_t at;              /* end point in use */
    uint64_t away_since_ms, requests, failures;
    bool called_back;         /* in this etcd_poll: its owner has something to do */
};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- requests ------------------------------------------------------------------------------- */

static void close_request(struct request *r)
{
    struct etcd *e = r->etcd;
    for (struct request **p = &e->open; *p; p = &(*p)->next)
        if (*p == r) {
            *p = r->next;
            break;
        }
    if (e->watch == r)
        e->watch = NULL;
    if (r->easy) {
        curl_multi_remove_handle(e->multi, r->easy);
        curl_easy_cleanup(r->easy);
    }
    free(r->body);
    free(r->text);
    free(r);
}

/* One JSON object a line. */
static void take_lines(struct request *r)
{
    char *line = r->text, *end;
    while ((end = memchr(line, '\n', r->used - (size_t)(line - r->text)))) {
        json_t *o = json_loadb(line, (size_t)(end - line), JSON_REJECT_DUPLICATES, NULL);
        line = end + 1;
        if (!o)
            continue; /* what is missed so is read again before long */
        r->etcd->away_since_ms = 0;
        r->etcd->called_back = true;
        r->etcd->config.watched(r->etcd->config.ctx, o, NULL);
        json_decref(o);
    }
    r->used -= (size_t)(line - r->text);
    memmove(r->text, line, r->used);
}

static size_t on_bytes(char *bytes, size_t size, size_t n, void *ctx)
{
    struct request *r = ctx;
    size_t room = r->room ? r->room : ANSWER_FIRST;
    n *= size;
    if (r->used + n > ANSWER_MAX)
        return 0; /* curl fails the transfer */
    while (room < r->used + n)
        room *= 2;
    if (room != r->room) {
        char *grown = realloc(r->text, room);
        if (!grown)
            return 0;
        r->text = grown;
        r->room = room;
    }
    memcpy(r->text + r->used, bytes, n);
    r->used += n;
    if (r->watch)
        take_lines(r);
    return n;
}

void etcd_tls_use(void *easy, const struct etcd_tls *tls)
{
    if (tls->ca)
        curl_easy_setopt(easy, CURLOPT_CAINFO, tls->ca);
    if (tls->cert)
        curl_easy_setopt(easy, CURLOPT_SSLCERT, tls->cert);
    if (tls->key)
        curl_easy_setopt(easy, CURLOPT_SSLKEY, tls->key);
}

static void set_options(struct request *r, const char *url)
{
    const struct etcd_config *c = &r->etcd->config;
    curl_easy_setopt(r->easy, CURLOPT_URL, url);
    curl_easy_setopt(r->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(r->easy, CURLOPT_PROXY, ""); /* whatever the environment says */
    curl_easy_setopt(r->easy, CURLOPT_NOSIGNAL, 1L);
    etcd_tls_use(r->easy, &c->tls);
    curl_easy_setopt(r->easy, CURLOPT_POSTFIELDS, r->body);
    curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->etcd->headers);
    curl_easy_setopt(r->easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(r->easy, CURLOPT_WRITEDATA, r);
    curl_easy_setopt(r->easy, CURLOPT_PRIVATE, r);
    curl_easy_setopt(r->easy, CURLOPT_ERRORBUFFER, r->error);
    curl_easy_setopt(r->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)c->timeout_ms);
    if (!r->watch)
        curl_easy_setopt(r->easy, CURLOPT_TIMEOUT_MS, (long)c->timeout_ms);
}

/* NULL: no memory. The body is taken in any case. */
static struct request *open_request(struct etcd *e, const char *path, json_t *body, bool watch)
{
    const char *at = e->config.endpoints[e->at];
    struct request *r = calloc(1, sizeof *r);
    char url[URL_MAX];
    snprintf(url, sizeof url, "%s%s/v3/%s", strstr(at, "://") ? "" : "http://", at, path);
    if (r) {
        *r = (struct request){.etcd = e, .next = e->open, .watch = watch, .endpoint = e->at,
                              .body = body ? json_dumps(body, JSON_COMPACT) : NULL,
                              .easy = curl_easy_init()};
        e->open = r;
        e->requests++;
    }
    json_decref(body);
    if (!r)
        return NULL;
    if (r->body && r->easy) {
        set_options(r, url);
        if (curl_multi_add_handle(e->multi, r->easy) == CURLM_OK)
            return r;
    }
    close_request(r);
    return NULL;
}

void etcd_post(struct etcd *e, const char *path, json_t *body, uint32_t tag)
{
    struct request *r = open_request(e, path, body, false);
    if (r)
        r->tag = tag;
    else
        e->config.answered(e->config.ctx, tag, NULL, "out of memory");
}

void etcd_unwatch(struct etcd *e)
{
    if (e->watch)
        close_request(e->watch);
}

void etcd_watch(struct etcd *e, json_t *body)
{
    etcd_unwatch(e);
    e->watch = open_request(e, "watch", body, true);
}

bool etcd_watches(const struct etcd *e)
{
    return e->watch != NULL;
}

/* --- answers ------------------------------------------------------------------------------------ */

static void failed(struct request *r, const char *why)
{
    struct etcd *e = r->etcd;
    e->failures++;
    if (!e->away_since_ms)
        e->away_since_ms = now_ms();
    if (e->at == r->endpoint)
        e->at = (e->at + 1) % e->config.nendpoints;
    if (r->watch)
        e->config.watched(e->config.ctx, NULL, why);
    else
        e->config.answered(e->config.ctx, r->tag, NULL, why);
}

/* etcd says {"error": ...} with an HTTP error. */
static void say_http_error(const struct request *r, long status, char *why, uint32_t len)
{
    json_t *o = json_loadb(r->text ? r->text : "", r->used, 0, NULL);
    const char *text = json_string_value(json_object_get(o, "error"));
    snprintf(why, len, "%.80s: HTTP %ld%s%.100s", r->etcd->config.endpoints[r->endpoint], status,
             text ? ": " : "", text ? text : "");
    json_decref(o);
}

static void ended(struct request *r, CURLcode code)
{
    struct etcd *e = r->etcd;
    char why[300];
    long status = 0;
    json_t *o = NULL;
    curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK)
        snprintf(why, sizeof why, "%.80s: %.200s", e->config.endpoints[r->endpoint],
                 r->error[0] ? r->error : curl_easy_strerror(code));
    else if (status != 200)
        say_http_error(r, status, why, sizeof why);
    else if (r->watch)
        snprintf(why, sizeof why, "%.80s ended the watch", e->config.endpoints[r->endpoint]);
    else if (!(o = json_loadb(r->text ? r->text : "", r->used, JSON_REJECT_DUPLICATES, NULL)) ||
             !json_is_object(o))
        snprintf(why, sizeof why, "%.80s answered what is no JSON object",
                 e->config.endpoints[r->endpoint]);
    else
        why[0] = 0;
    if (why[0]) {
        failed(r, why);
    } else {
        e->away_since_ms = 0;
        e->config.answered(e->config.ctx, r->tag, o, NULL);
    }
    json_decref(o);
    close_request(r);
}

static void reap(struct etcd *e)
{
    CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(e->multi, &left))) {
        struct request *r = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode code = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r);
        e->called_back = true;
        ended(r, code);
    }
}

void etcd_poll(struct etcd *e, int timeout_ms)
{
    int running;
    e->called_back = false;
    curl_multi_perform(e->multi, &running);
    reap(e);
    if (e->called_back)
        return;
    curl_multi_poll(e->multi, NULL, 0, timeout_ms, NULL);
    curl_multi_perform(e->multi, &running);
    reap(e);
}

void etcd_wake(struct etcd *e)
{
    curl_multi_wakeup(e->multi);
}

uint64_t etcd_away_since_ms(const struct etcd *e)
{
    return e->away_since_ms;
}

uint64_t etcd_requests(const struct etcd *e)
{
    return e->requests;
}

uint64_t etcd_failures(const struct etcd *e)
{
    return e->failures;
}

const char *etcd_endpoint(const struct etcd *e)
{
    return e->config.endpoints[e->at];
}

/* --- life ------------------------------------------------------------------------------------------ */

int etcd_create(struct etcd **out, const struct etcd_config *config, char *err, uint32_t err_len)
{
    struct etcd *e = NULL;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK && sodium_init() >= 0)
        e = calloc(1, sizeof *e);
    if (e) {
        e->config = *config;
        e->multi = curl_multi_init();
        e->headers = curl_slist_append(NULL, "Content-Type: application/json");
    }
    if (!e || !e->multi || !e->headers) {
        snprintf(err, err_len, "out of memory for etcd's client");
        etcd_destroy(e);
        return -ENOMEM;
    }
    *out = e;
    return 0;
}

void etcd_destroy(struct etcd *e)
{
    if (!e)
        return;
    while (e->open)
        close_request(e->open);
    curl_slist_free_all(e->headers);
    if (e->multi)
        curl_multi_cleanup(e->multi);
    free(e);
}

/* --- JSON's bytes and numbers ------------------------------------------------------------------------ */

json_t *etcd_text(const char *text)
{
    size_t n = strlen(text);
    size_t room = sodium_base64_ENCODED_LEN(n, sodium_base64_VARIANT_ORIGINAL);
    char *out = malloc(room);
    json_t *o = NULL;
    if (out) {
        sodium_bin2base64(out, room, (const uint8_t *)text, n, sodium_base64_VARIANT_ORIGINAL);
        o = json_string(out);
    }
    free(out);
    return o;
}

int etcd_bytes(const json_t *text, char *to, uint32_t room)
{
    const char *s = json_string_value(text);
    size_t n = 0;
    if (!s || !room ||
        sodium_base642bin((uint8_t *)to, room - 1, s, json_string_length(text), NULL, &n, NULL,
                          sodium_base64_VARIANT_ORIGINAL))
        return -1;
    to[n] = 0;
    return (int)n;
}

bool etcd_number(const json_t *object, const char *key, int64_t *out)
{
    const json_t *v = json_object_get(object, key);
    const char *s = json_string_value(v);
    char *end;
    *out = json_is_integer(v) ? json_integer_value(v) : 0;
    if (!v || json_is_integer(v))
        return true;
    if (!s || !*s)
        return false;
    errno = 0;
    *out = strtoll(s, &end, 10);
    return !*end && !errno;
}
