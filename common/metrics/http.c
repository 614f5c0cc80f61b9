/* SPDX-License-Identifier: BSD-3-Clause */
/* See http.h. libmicrohttpd owns the connections, on one thread; one that asks a verb is suspended
 * until the control thread has its answer. */
#include "common/metrics/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/metrics/metrics.h"
#include "common/wire/address.h"

/* A connection; HTTP's thread alone. */
struct visitor {
    int fd;                   /* -1: free */
    uint64_t turn;            /* of its last request, or of its coming; the least has been still for longest */
    bool asks, leaves;
};

enum { VISITORS = 2 * HTTP_CONNECTIONS };

struct metrics_http {
    struct http_config config;
    struct visitor visitors[VISITORS];
    uint64_t turn;
    struct MHD_Daemon *daemon;
    pthread_mutex_t lock;      /* of the two below, and of each asking's reply */
    pthread_cond_t answered;
    uint32_t asking;           /* connections that are suspended */
    bool stopping;
    uint16_t port;
    char path[sizeof ((struct sockaddr_un *)0)->sun_path]; /* "": not a Unix socket */
};

/* A connection that asked a verb. */
struct asking {
    struct control_question question; /* first: the one is the other */
    struct metrics_http *http;
    struct MHD_Connection *connection;
    char *reply;               /* NULL: not yet, or out of memory */
};

enum { SENTENCE = 300 };
static const char ask_path[] = "/v1/ask/";

/* --- connections: HTTP's thread ----------------------------------------------------- */

/* Too many: who has been still for longest goes, so that nobody can keep the others out by staying. Those that asked a verb wait for
 * us, and do not count. */
static void make_room(struct metrics_http *h)
{
    struct visitor *oldest = NULL;
    int n = 0;
    for (int i = 0; i < VISITORS; i++) {
        struct visitor *v = &h->visitors[i];
        if (v->fd < 0 || v->asks || v->leaves)
            continue;
        n++;
        oldest = !oldest || v->turn < oldest->turn ? v : oldest;
    }
    if (n <= HTTP_CONNECTIONS)
        return;
    oldest->leaves = true;
    shutdown(oldest->fd, SHUT_RDWR);
}

static void on_connection(void *cls, struct MHD_Connection *c, void **slot, enum MHD_ConnectionNotificationCode code)
{
    struct metrics_http *h = cls;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct visitor *v = *slot;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED && v) {
        v->fd = -1;
    } else if (code == MHD_CONNECTION_NOTIFY_STARTED && info) {
        for (int i = 0; i < VISITORS && !v; i++)
            if (h->visitors[i].fd < 0)
                v = &h->visitors[i];
        if (v)
            *v = (struct visitor){.fd = info->connect_fd, .turn = ++h->turn};
        *slot = v;
        make_room(h);
    }
}

static void note(struct metrics_http *h, struct MHD_Connection *c, bool asks)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct visitor *v = info ? info->socket_context : NULL;
    if (!v)
        return;
    v->asks = asks;
    v->turn = ++h->turn;
}

/* --- requests: HTTP's thread --------------------------------------------------------- */

static enum MHD_Result reply(struct MHD_Connection *c, unsigned status, const char *type,
                             struct MHD_Response *r)
{
    if (!r)
        return MHD_NO;
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result ok = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result say(struct MHD_Connection *c, unsigned status, const char *sentence)
{
    char text[SENTENCE + 2];
    int n = snprintf(text, sizeof text, "%s\n", sentence);
    return reply(c, status, "text/plain; charset=utf-8",
                 MHD_create_response_from_buffer((size_t)n < sizeof text ? (size_t)n
                                                                         : sizeof text - 1,
                                                 text, MHD_RESPMEM_MUST_COPY));
}

static enum MHD_Result say_metrics(const struct metrics_http *h, struct MHD_Connection *c)
{
    size_t len;
    char *text = metrics_text(h->config.metrics, &len);
    if (!text)
        return say(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
    return reply(c, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8",
                 MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE));
}

static enum MHD_Result say_probe(const struct metrics_http *h, struct MHD_Connection *c,
                                 http_probe probe)
{
    char why[SENTENCE] = "";
    if (probe)
        probe(h->config.ctx, why, sizeof why);
    return say(c, *why ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK, *why ? why : "ok");
}

/* --- verbs: HTTP's thread asks, the control thread answers -------------------------------- */

static const char *allowed(const struct metrics_http *h, const char *verb)
{
    for (const char *const *at = h->config.asks; at && *at; at++)
        if (!strcmp(*at, verb))
            return *at;
    return NULL;
}

static enum MHD_Result say_what_there_is(const struct metrics_http *h, struct MHD_Connection *c)
{
    char text[SENTENCE] = "here are /metrics, /healthz and /readyz";
    for (const char *const *at = h->config.asks; at && *at; at++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s %s%s", at == h->config.asks ? ";" : ",",
                 ask_path, *at);
    return say(c, MHD_HTTP_NOT_FOUND, text);
}

static void answered(struct control_question *q, const char *reply)
{
    struct asking *a = (struct asking *)q;
    struct metrics_http *h = a->http;
    char *copy = strdup(reply);
    pthread_mutex_lock(&h->lock);
    a->reply = copy;
    MHD_resume_connection(a->connection); /* from here on `a` may be gone */
    h->asking--;
    pthread_cond_signal(&h->answered);
    pthread_mutex_unlock(&h->lock);
}

static enum MHD_Result say_reply(struct MHD_Connection *c, struct asking *a)
{
    static const char refusal[] = "{\"error\"";
    pthread_mutex_lock(&a->http->lock);
    char *text = a->reply;
    a->reply = NULL;
    pthread_mutex_unlock(&a->http->lock);
    if (!text)
        return say(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
    return reply(c, strncmp(text, refusal, sizeof refusal - 1) ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, "application/json",
                 MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE));
}

/* Called again when it is answered. */
static enum MHD_Result say_verb(struct metrics_http *h, struct MHD_Connection *c, const char *verb, void **seen)
{
    struct asking *a = calloc(1, sizeof *a);
    if (!a)
        return say(c, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
    *a = (struct asking){.question = {.verb = verb, .answered = answered}, .http = h, .connection = c};
    pthread_mutex_lock(&h->lock);
    bool late = h->stopping;
    h->asking += !late;
    pthread_mutex_unlock(&h->lock);
    if (late) {
        free(a);
        return say(c, MHD_HTTP_SERVICE_UNAVAILABLE, "it ends");
    }
    *seen = a;
    note(h, c, true);
    MHD_suspend_connection(c);
    control_question_put(h->config.control, &a->question);
    return MHD_YES;
}

static int head_seen;

static void completed(void *cls, struct MHD_Connection *c, void **seen, enum MHD_RequestTerminationCode how)
{
    struct asking *a = *seen;
    if (!a || *seen == &head_seen)
        return;
    free(a->reply);
    free(a);
    *seen = NULL;
}

/* --- requests --------------------------------------------------------------------------- */

static enum MHD_Result answer(void *cls, struct MHD_Connection *c, const char *url,
                              const char *method, const char *version, const char *body,
                              size_t *body_bytes, void **seen)
{
    struct metrics_http *h = cls;
    const char *verb;
    if (!*seen) { /* the head has come; a body may follow */
        *seen = &head_seen;
        return MHD_YES;
    }
    if (*body_bytes) {
        *body_bytes = 0;
        return MHD_YES;
    }
    note(h, c, false);
    if (*seen != &head_seen)
        return say_reply(c, *seen);
    if (strcmp(method, MHD_HTTP_METHOD_GET) && strcmp(method, MHD_HTTP_METHOD_HEAD))
        return say(c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD are answered here");
    if (!strcmp(url, "/metrics"))
        return say_metrics(h, c);
    if (!strcmp(url, "/healthz"))
        return say_probe(h, c, h->config.healthy);
    if (!strcmp(url, "/readyz"))
        return say_probe(h, c, h->config.ready);
    if (!strncmp(url, ask_path, sizeof ask_path - 1) && (verb = allowed(h, url + sizeof ask_path - 1)))
        return say_verb(h, c, verb, seen);
    return say_what_there_is(h, c);
}

/* --- listening ------------------------------------------------------------------------- */

static int cannot(const struct metrics_http *h, int error, char *err, uint32_t err_len)
{
    snprintf(err, err_len, "cannot serve metrics at %s: %s; choose another address with --metrics",
             h->config.address, strerror(error));
    return -error;
}

static int listen_unix(struct metrics_http *h, char *err, uint32_t err_len)
{
    if (strlen(h->config.address) >= sizeof h->path)
        return cannot(h, ENAMETOOLONG, err, err_len);
    int rc = socket_take_over(h->config.address, err, err_len);
    if (rc)
        return rc;
    int fd = socket_listen(h->config.address, HTTP_CONNECTIONS);
    if (fd < 0)
        return cannot(h, -fd, err, err_len);
    strcpy(h->path, h->config.address);
    return fd;
}

static int listen_at(const struct addrinfo *a)
{
    int one = 1;
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (!bind(fd, a->ai_addr, a->ai_addrlen) && !listen(fd, HTTP_CONNECTIONS))
        return fd;
    int error = errno;
    close(fd);
    return -error;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage at;
    char port[8] = "0";
    socklen_t len = sizeof at;
    getsockname(fd, (struct sockaddr *)&at, &len);
    getnameinfo((struct sockaddr *)&at, len, NULL, 0, port, sizeof port, NI_NUMERICSERV);
    return (uint16_t)atoi(port);
}

static int listen_tcp(struct metrics_http *h, char *err, uint32_t err_len)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *all = NULL;
    char host[ADDRESS_HOST_MAX], service[8];
    uint16_t port;
    int rc = address_split(h->config.address, host, &port, err, err_len);
    if (rc)
        return rc;
    snprintf(service, sizeof service, "%u", port);
    if ((rc = getaddrinfo(host, service, &hints, &all))) {
        snprintf(err, err_len, "metrics: %s: %s", host, gai_strerror(rc));
        return -EINVAL;
    }
    rc = listen_at(all);
    freeaddrinfo(all);
    if (rc < 0)
        return cannot(h, -rc, err, err_len);
    h->port = port_of(rc);
    return rc;
}

/* --- life --------------------------------------------------------------------------------- */

static void log_daemon(void *ctx, const char *format, va_list args)
{
    char text[SENTENCE];
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = 0;
    log_debug("http", "cause=\"%s\"", text);
}

/* Signals are the program's. poll and not epoll: with that, libmicrohttpd 0.9.75 does not see that who hung up in the middle of a
 * request is gone, and keeps his place until patience ends. */
static struct MHD_Daemon *start_daemon(struct metrics_http *h, int fd)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    struct MHD_Daemon *d = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME, 0, NULL,
        NULL, answer, h, MHD_OPTION_EXTERNAL_LOGGER, log_daemon, NULL, MHD_OPTION_NOTIFY_COMPLETED, completed, h,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)VISITORS, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_EACH, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)HTTP_PATIENCE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_HEAD_BYTES,
        MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return d;
}

static void release(struct metrics_http *h)
{
    if (h->path[0])
        unlink(h->path);
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->answered);
    free(h);
}

int metrics_http_start(struct metrics_http **out, const struct http_config *config, char *err,
                       uint32_t err_len)
{
    struct metrics_http *h = calloc(1, sizeof *h);
    if (!h) {
        snprintf(err, err_len, "out of memory for the metrics' listener");
        return -ENOMEM;
    }
    h->config = *config;
    for (int i = 0; i < VISITORS; i++)
        h->visitors[i].fd = -1;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->answered, NULL);
    int fd = strchr(config->address, '/') ? listen_unix(h, err, err_len)
                                       : listen_tcp(h, err, err_len);
    if (fd < 0) {
        release(h);
        return fd;
    }
    h->daemon = start_daemon(h, fd);
    if (!h->daemon) {
        close(fd);
        release(h);
        snprintf(err, err_len, "cannot start the thread that serves metrics");
        return -EAGAIN;
    }
    log_info("metrics served", "at=%s port=%u", config->address, h->port);
    h->config.address = NULL; /* the caller's */
    *out = h;
    return 0;
}

uint16_t metrics_http_port(const struct metrics_http *h)
{
    return h->port;
}

void metrics_http_stop(struct metrics_http *h)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    h->stopping = true;
    while (h->asking) /* the control thread still turns */
        pthread_cond_wait(&h->answered, &h->lock);
    pthread_mutex_unlock(&h->lock);
    MHD_stop_daemon(h->daemon);
    release(h);
}

int metrics_http_beside(struct metrics_http **out, const struct http_config *config,
                        const char *control, char *err, uint32_t err_len)
{
    struct http_config c = *config;
    char path[400];
    size_t n = strlen(control);
    if (c.address)
        return metrics_http_start(out, &c, err, err_len);
    if (n > 5 && !strcmp(control + n - 5, ".sock"))
        n -= 5;
    snprintf(path, sizeof path, "%.*s.metrics.sock", (int)n, control);
    c.address = path;
    int rc = metrics_http_start(out, &c, err, err_len);
    if (rc != -ENAMETOOLONG)
        return rc;
    log_warn("no metrics", "cause=\"%s\"", err);
    *out = NULL;
    return 0;
}
