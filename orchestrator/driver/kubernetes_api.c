/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests of kubernetes_api.h, by libcurl on the loop (curl_loop.h).
 *
 * A request that ended is taken out of curl first, then told of, then freed: so whoever is told may ask the next. What curl calls
 * in between (on_bytes, on_header) may not touch requests: a watch that is to end returns a short count.
 */
#include "orchestrator/driver/kubernetes_api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/driver/curl_loop.h"

enum { TOKEN_MOST = 16 * 1024, FIRST_BYTES = 4096, FOLDER = 200, URL_BYTES = KUBE_PATH + 120, KEEPALIVE_S = 5 };

struct kube_request {
    struct kube_api *api;
    struct kube_request *next;
    CURL *easy;
    struct curl_slist *headers;
    char *body, *text;
    size_t used, room;
    uint64_t sent_ms;
    bool watches;
    struct kube_watching on;  /* of one that does not watch: ended and ctx */
    char error[CURL_ERROR_SIZE];
};

struct kube_api {
    uv_loop_t *loop;
    struct curl_loop *curl;
    struct kube_request *open;
    char folder[FOLDER], namespace[64], where[80];
};

/* --- files of the service account ------------------------------------------------------------------ */

/* The first line; -errno. */
static int read_line(const char *folder, const char *name, char *to, size_t room)
{
    char path[FOLDER + 40];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "re");
    if (!f)
        return -errno;
    size_t n = fread(to, 1, room - 1, f);
    fclose(f);
    to[n] = 0;
    to[strcspn(to, "\r\n")] = 0;
    for (const char *c = to; *c; c++)
        if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f)
            return -EINVAL;
    return *to ? 0 : -ENODATA;
}

/* --- answers -------------------------------------------------------------------------------------------- */

static long status_of(const struct kube_request *r)
{
    long status = 0;
    curl_easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

/* False: it is to end. */
static bool take_lines(struct kube_request *r)
{
    char *at = r->text, *end;
    bool more = true;
    while (more && (end = memchr(at, '\n', r->used - (size_t)(at - r->text)))) {
        json_t *o = json_loadb(at, (size_t)(end - at), 0, NULL);
        at = end + 1;
        more = r->on.line(r->on.ctx, json_is_object(o) ? o : NULL);
        json_decref(o);
    }
    r->used -= (size_t)(at - r->text);
    memmove(r->text, at, r->used);
    return more;
}

static size_t on_bytes(char *bytes, size_t size, size_t n, void *ctx)
{
    struct kube_request *r = ctx;
    size_t room = r->room ? r->room : FIRST_BYTES;
    n *= size;
    if (r->used + n > (r->watches ? (size_t)KUBE_LINE_MOST : (size_t)KUBE_ANSWER_MOST)) {
        if (r->watches && status_of(r) == 200)
            r->on.line(r->on.ctx, NULL);
        return 0; /* curl ends it */
    }
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
    return r->watches && status_of(r) == 200 && !take_lines(r) ? 0 : n;
}

static size_t on_header(char *bytes, size_t size, size_t n, void *ctx)
{
    struct kube_request *r = ctx;
    if (size * n <= 2 && status_of(r) == 200) /* the empty line behind them */
        r->on.opened(r->on.ctx);
    (void)bytes;
    return size * n;
}

static void drop(struct kube_request *r)
{
    for (struct kube_request **at = &r->api->open; *at; at = &(*at)->next)
        if (*at == r) {
            *at = r->next;
            break;
        }
    if (r->easy) {
        curl_loop_remove(r->api->curl, r->easy);
        curl_easy_cleanup(r->easy);
    }
    curl_slist_free_all(r->headers);
    free(r->body);
    free(r->text);
    free(r);
}

void kube_api_cancel(struct kube_request *r)
{
    if (r)
        drop(r);
}

static void over(void *private_of_easy, CURLcode rc)
{
    struct kube_request *r = private_of_easy;
    struct kube_watching on = r->on;
    uint64_t sent_ms = r->sent_ms;
    char why[CURL_ERROR_SIZE + 40];
    int status = rc ? 0 : (int)status_of(r);
    json_t *answer = status && r->used ? json_loadb(r->text, r->used, 0, NULL) : NULL;
    snprintf(why, sizeof why, "%s", rc == CURLE_WRITE_ERROR ? "its answer is too long, or not as it should be"
                                    : *r->error             ? r->error
                                                            : curl_easy_strerror(rc));
    drop(r);
    on.ended(on.ctx, status, json_is_object(answer) ? answer : NULL, sent_ms, status ? "" : why);
    json_decref(answer);
}

/* --- requests ---------------------------------------------------------------------------------------------- */

static void set_options(struct kube_request *r, const char *method, const char *url, uint32_t timeout_ms)
{
    char ca[FOLDER + 40];
    snprintf(ca, sizeof ca, "%s/ca.crt", r->api->folder);
    curl_easy_setopt(r->easy, CURLOPT_URL, url);
    curl_easy_setopt(r->easy, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(r->easy, CURLOPT_PROXY, ""); /* whatever the environment says */
    curl_easy_setopt(r->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(r->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(r->easy, CURLOPT_CAINFO, ca);
    curl_easy_setopt(r->easy, CURLOPT_CAPATH, NULL);         /* and by no public one */
    curl_easy_setopt(r->easy, CURLOPT_CA_CACHE_TIMEOUT, 0L); /* it is changed, too; kept, it would be for a day */
    curl_easy_setopt(r->easy, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers);
    if (r->body)
        curl_easy_setopt(r->easy, CURLOPT_POSTFIELDS, r->body);
    curl_easy_setopt(r->easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(r->easy, CURLOPT_WRITEDATA, r);
    curl_easy_setopt(r->easy, CURLOPT_PRIVATE, r);
    curl_easy_setopt(r->easy, CURLOPT_ERRORBUFFER, r->error);
    curl_easy_setopt(r->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(r->easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(r->easy, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_S);
    curl_easy_setopt(r->easy, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_S);
    if (r->watches) {
        curl_easy_setopt(r->easy, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(r->easy, CURLOPT_HEADERDATA, r);
    } else {
        curl_easy_setopt(r->easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    }
}

/* Without a token it is asked as nobody, and the server's refusal says so. */
static void set_headers(struct kube_request *r, const char *type)
{
    char token[TOKEN_MOST] = "", line[TOKEN_MOST + 40];
    r->headers = curl_slist_append(NULL, "Accept: application/json");
    r->headers = curl_slist_append(r->headers, "Expect:");
    if (type) {
        snprintf(line, sizeof line, "Content-Type: %s", type);
        r->headers = curl_slist_append(r->headers, line);
    }
    if (!read_line(r->api->folder, "token", token, sizeof token)) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", token);
        r->headers = curl_slist_append(r->headers, line);
    }
}

static struct kube_request *begin(struct kube_api *a, const char *method, const char *path, const char *type,
                                  json_t *body, uint32_t timeout_ms, const struct kube_watching *on)
{
    struct kube_request *r = calloc(1, sizeof *r);
    char url[URL_BYTES];
    if (!r) {
        json_decref(body);
        return NULL;
    }
    r->api = a;
    r->on = *on;
    r->watches = on->line;
    r->body = body ? json_dumps(body, JSON_COMPACT) : NULL;
    bool bad = body && !r->body;
    json_decref(body);
    r->next = a->open;
    a->open = r;
    r->easy = curl_easy_init();
    snprintf(url, sizeof url, "https://%s%s", a->where, path);
    set_headers(r, type);
    if (r->easy)
        set_options(r, method, url, timeout_ms);
    uv_update_time(a->loop);
    r->sent_ms = uv_now(a->loop);
    if (bad || !r->easy || !curl_loop_add(a->curl, r->easy)) {
        drop(r);
        return NULL;
    }
    return r;
}

struct kube_request *kube_api_ask(struct kube_api *a, const char *method, const char *path, const char *type, json_t *body,
                                  uint32_t timeout_ms, kube_answered answered, void *ctx)
{
    struct kube_watching on = {.ended = answered, .ctx = ctx};
    return begin(a, method, path, type, body, timeout_ms, &on);
}

struct kube_request *kube_api_watch(struct kube_api *a, const char *path, uint32_t connect_ms,
                                    const struct kube_watching *w)
{
    return begin(a, "GET", path, NULL, NULL, connect_ms, w);
}

/* --- life ----------------------------------------------------------------------------------------------------- */

const char *kube_api_namespace(const struct kube_api *a)
{
    return a->namespace;
}

const char *kube_api_where(const struct kube_api *a)
{
    return a->where;
}

static int find_server(struct kube_api *a, char *err, uint32_t err_len)
{
    const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
    char ignored[TOKEN_MOST];
    if (!host || !*host || strlen(host) > 60 || !port || strspn(port, "0123456789") != strlen(port) || strlen(port) > 5 ||
        strpbrk(host, "/@?# ")) {
        snprintf(err, err_len, "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not say where the API server is: "
                 "does this run in a pod? Else use --driver process");
        return -EINVAL;
    }
    snprintf(a->where, sizeof a->where, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    int rc = read_line(a->folder, "namespace", a->namespace, sizeof a->namespace);
    if (!rc && strspn(a->namespace, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(a->namespace))
        rc = -EINVAL;
    const char *file = rc ? "namespace" : "token";
    if (!rc)
        rc = read_line(a->folder, "token", ignored, sizeof ignored);
    if (rc)
        snprintf(err, err_len, "%s/%s cannot be read (%s): give the pod its service account (serviceAccountName: controller, "
                 "automountServiceAccountToken: true)", a->folder, file, strerror(-rc));
    return rc;
}

int kube_api_create(struct kube_api **out, uv_loop_t *loop, const char *folder, char *err, uint32_t err_len)
{
    struct kube_api *a = calloc(1, sizeof *a);
    snprintf(err, err_len, "out of memory");
    if (!a)
        return -ENOMEM;
    a->loop = loop;
    snprintf(a->folder, sizeof a->folder, "%s", folder);
    int rc = find_server(a, err, err_len);
    a->curl = rc ? NULL : curl_loop_create(loop, 0, over);
    if (!a->curl) {
        free(a);
        return rc ? rc : -ENOMEM;
    }
    *out = a;
    return 0;
}

void kube_api_destroy(struct kube_api *a)
{
    while (a->open)
        drop(a->open);
    curl_loop_destroy(a->curl);
    free(a);
}
