/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * HTTP around requests (api.h). A connection's thread reads, has request_parse look at it, hands it to
 * the engine and waits; events it waits for itself. A watchman cuts connections that take too long.
 */
#include "orchestrator/controller/api.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/wire/address.h"
#include "common/wire/auth.h"
#include "orchestrator/controller/openapi.h"
#include "orchestrator/controller/programs.h"

enum {
    CONNECTIONS = 64,
    OF_ONE_ADDRESS = 16,
    HEADERS_BYTES = 32 * 1024,
    REQUEST_MS = 10 * 1000,   /* to come, or to be fetched */
    SWALLOW_BYTES = 8 << 20,  /* a longer body is not even waited for */
    TOKEN_LEAST = 16, TOKEN_MOST = 512,
    SENTENCE = 900,
};

struct connection {
    int fd;                   /* -1: free */
    bool busy;                /* its request is whole, its answer is not there yet */
    uint64_t since_ms;
};

struct api {
    struct engine *engine;
    struct MHD_Daemon *daemon;
    int fd;
    char path[108], scratch[128];
    struct stat socket;       /* of the path, as we made it */
    bool has_token;
    uint8_t token[32];        /* its hash */
    pthread_t watchman;
    bool watches;
    pthread_mutex_t lock;     /* of these */
    bool stopping;
    struct connection connections[CONNECTIONS];
};

/* A request on its way in. */
struct incoming {
    struct connection *connection;
    char *body;
    size_t bytes, most;
    bool too_long;
};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- connections ------------------------------------------------------------------------------------ */

static void on_connection(void *ctx, struct MHD_Connection *c, void **slot, enum MHD_ConnectionNotificationCode code)
{
    struct api *a = ctx;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    pthread_mutex_lock(&a->lock);
    struct connection *k = *slot;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED && k) {
        k->fd = -1;
    } else if (code == MHD_CONNECTION_NOTIFY_STARTED && info) {
        for (int i = 0; i < CONNECTIONS && !k; i++)
            if (a->connections[i].fd < 0)
                k = &a->connections[i];
        if (k)
            *k = (struct connection){.fd = info->connect_fd, .since_ms = now_ms()};
        *slot = k;
    }
    pthread_mutex_unlock(&a->lock);
}

static void set_busy(struct api *a, struct connection *k, bool busy)
{
    if (!k)
        return;
    pthread_mutex_lock(&a->lock);
    k->busy = busy;
    k->since_ms = now_ms();
    pthread_mutex_unlock(&a->lock);
}

static void *watch(void *ctx)
{
    struct api *a = ctx;
    struct timespec nap = {.tv_nsec = 200 * 1000000l};
    for (bool stop = false; !stop;) {
        nanosleep(&nap, NULL);
        pthread_mutex_lock(&a->lock);
        stop = a->stopping;
        for (int i = 0; i < CONNECTIONS; i++) {
            struct connection *k = &a->connections[i];
            if (k->fd >= 0 && !k->busy && now_ms() - k->since_ms > REQUEST_MS)
                shutdown(k->fd, SHUT_RDWR); /* its thread closes it */
        }
        pthread_mutex_unlock(&a->lock);
    }
    return NULL;
}

/* --- who may ask ---------------------------------------------------------------------------------------- */

static void hash_of(const char *text, size_t n, uint8_t to[32])
{
    crypto_generichash(to, 32, (const uint8_t *)text, n, NULL, 0);
}

/* Hashes are compared: in constant time, whatever the lengths are. */
static bool may_ask(const struct api *a, struct MHD_Connection *c)
{
    static const char scheme[] = "Bearer ";
    const char *shown = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Authorization");
    uint8_t hash[32];
    if (!a->has_token)
        return true;
    bool bearer = shown && !strncasecmp(shown, scheme, sizeof scheme - 1);
    const char *token = bearer ? shown + sizeof scheme - 1 : "";
    hash_of(token, strlen(token), hash);
    return !sodium_memcmp(hash, a->token, sizeof hash) && bearer;
}

static int read_token(struct api *a, const char *file, char *err, uint32_t err_len)
{
    char text[TOKEN_MOST + 3];
    struct stat st;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 || fstat(fd, &st) ? -1 : read(fd, text, sizeof text - 1);
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0) {
        snprintf(err, err_len, "controller.token_file: %s cannot be read: %s", file, strerror(error));
        return -error;
    }
    text[n] = 0;
    size_t length = strcspn(text, "\r\n");
    if (!auth_file_is_private(st.st_mode, st.st_uid, geteuid()))
        snprintf(err, err_len, "controller.token_file: %s may be read by others; chmod 600 it", file);
    else if (length < TOKEN_LEAST || length > TOKEN_MOST)
        snprintf(err, err_len, "controller.token_file: %s has to hold %d to %d characters in its first line", file,
                 TOKEN_LEAST, TOKEN_MOST);
    else {
        hash_of(text, length, a->token);
        sodium_memzero(text, sizeof text);
        a->has_token = true;
        return 0;
    }
    return -EINVAL;
}

/* --- a request ------------------------------------------------------------------------------------------- */

static enum MHD_Result send_text(struct MHD_Connection *c, int status, char *text, enum MHD_ResponseMemoryMode mode)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(strlen(text), text, mode);
    if (!r)
        return MHD_NO;
    MHD_add_response_header(r, "Content-Type", "application/json");
    MHD_add_response_header(r, "Cache-Control", "no-store");
    if (status == 401)
        MHD_add_response_header(r, "WWW-Authenticate", "Bearer");
    enum MHD_Result rc = MHD_queue_response(c, (unsigned)status, r);
    MHD_destroy_response(r);
    return rc;
}

static enum MHD_Result send_json(struct MHD_Connection *c, int status, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (text)
        return send_text(c, status, text, MHD_RESPMEM_MUST_FREE);
    return send_text(c, 503, "{\"error\": \"out of memory\"}", MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result send_error(struct MHD_Connection *c, int status, const char *sentence)
{
    return send_json(c, status, json_pack("{s:s}", "error", sentence));
}

struct query { struct request_arg args[REQUEST_ARGS]; uint32_t n; bool too_many; };

static enum MHD_Result take_arg(void *ctx, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct query *q = ctx;
    (void)kind;
    if (q->n < REQUEST_ARGS)
        q->args[q->n++] = (struct request_arg){key, value};
    else
        q->too_many = true;
    return MHD_YES;
}

/* What needs the engine, and what does not. */
static json_t *carry_out(struct api *a, struct MHD_Connection *c, struct request *r, int *status)
{
    char err[SENTENCE];
    *status = 200;
    switch (r->kind) {
    case REQUEST_HEALTH:
        return json_pack("{s:b}", "ok", 1);
    case REQUEST_OPENAPI:
        return json_loads(openapi_text, 0, NULL);
    case REQUEST_EVENTS:
        MHD_set_connection_option(c, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)(r->wait_ms / 1000 + REQUEST_MS / 1000));
        return events_after(engine_events(a->engine), r->after, r->limit, r->wait_ms);
    case REQUEST_SITE_PUT:
        if (programs_check(engine_programs(a->engine), a->scratch, r->text, err, sizeof err)) {
            *status = 400;
            return json_pack("{s:s}", "error", err);
        }
        return engine_do(a->engine, r, status);
    default:
        return engine_do(a->engine, r, status);
    }
}

static enum MHD_Result serve(struct api *a, struct MHD_Connection *c, const char *method, const char *path,
                             struct incoming *in)
{
    struct query q = {.n = 0};
    struct request r;
    char err[SENTENCE];
    int status;
    MHD_get_connection_values(c, MHD_GET_ARGUMENT_KIND, take_arg, &q);
    if (in->too_long || q.too_many)
        return send_error(c, in->too_long ? 413 : 400, in->too_long ? "the body is too long"
                                                                    : "there are too many parameters");
    bool open = !strcmp(path, "/healthz") || !strcmp(path, "/readyz");
    if (!open && !may_ask(a, c))
        return send_error(c, 401, "show the token of controller.token_file: Authorization: Bearer TOKEN");
    if ((status = request_parse(method, path, q.args, q.n, in->body ? in->body : "", in->bytes, &r, err, sizeof err)))
        return send_error(c, status, err);
    set_busy(a, in->connection, true);
    json_t *answer = carry_out(a, c, &r, &status);
    request_free(&r);
    set_busy(a, in->connection, false);
    return send_json(c, status, answer);
}

/* "%00" would be the end of the path here, and nowhere before us (a proxy's rules): it stays as it is, and fits no path. */
static size_t unescape(void *ctx, struct MHD_Connection *c, char *text)
{
    (void)ctx, (void)c;
    return strstr(text, "%00") ? strlen(text) : MHD_http_unescape(text);
}

static enum MHD_Result count_length(void *ctx, enum MHD_ValueKind kind, const char *key, const char *value)
{
    (void)kind, (void)value;
    *(int *)ctx += !strcasecmp(key, "Content-Length") || !strcasecmp(key, "Transfer-Encoding");
    return MHD_YES;
}

/* Of a body with two lengths a proxy may have believed the other one (RFC 9112, 6.3): what it passed on as a body would be a request. */
static bool one_length(struct MHD_Connection *c)
{
    int n = 0;
    MHD_get_connection_values(c, MHD_HEADER_KIND, count_length, &n);
    return n <= 1;
}

/* A piece of the body. */
static void take_body(struct incoming *in, const char *bytes, size_t n)
{
    char *grown = in->too_long || n > in->most - in->bytes ? NULL : realloc(in->body, in->bytes + n + 1);
    if (!grown) {
        in->too_long = true;
        return;
    }
    in->body = grown;
    memcpy(in->body + in->bytes, bytes, n);
    in->bytes += n;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *c, const char *path, const char *method,
                                  const char *version, const char *bytes, size_t *nbytes, void **request)
{
    struct api *a = ctx;
    struct incoming *in = *request;
    (void)version;
    if (!in) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        in = *request = calloc(1, sizeof *in);
        if (!in)
            return MHD_NO;
        in->connection = info ? info->socket_context : NULL;
        in->most = request_body_max(path);
        set_busy(a, in->connection, false); /* a further request of this connection has its own time */
        const char *length = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Content-Length");
        if (!one_length(c))
            return send_error(c, 400, "the body has two lengths"); /* MHD reads on of none that is answered early */
        if (length && strtoull(length, NULL, 10) > SWALLOW_BYTES)
            return send_error(c, 413, "the body is too long");
        return MHD_YES;
    }
    if (*nbytes) {
        take_body(in, bytes, *nbytes);
        *nbytes = 0;
        return MHD_YES;
    }
    return serve(a, c, method, path, in);
}

static void on_completed(void *ctx, struct MHD_Connection *c, void **request, enum MHD_RequestTerminationCode code)
{
    struct incoming *in = *request;
    (void)ctx, (void)c, (void)code;
    if (in)
        free(in->body);
    free(in);
    *request = NULL;
}

/* --- listening ----------------------------------------------------------------------------------------------- */

/* A controller that is active listens here, whoever did before: of an earlier one only the file is left,
 * or it does not know yet that it is not active any more. */
static int listen_unix(struct api *a, const char *path, char *err, uint32_t err_len)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct stat st;
    if (!lstat(path, &st) && !S_ISSOCK(st.st_mode)) {
        snprintf(err, err_len, "controller.listen: %s is there and is no socket; remove it", path);
        return -EEXIST;
    }
    snprintf(a->path, sizeof a->path, "%s", path);
    snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
    unlink(path);
    a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (a->fd < 0 || fchmod(a->fd, 0600) || bind(a->fd, (struct sockaddr *)&un, sizeof un) || chmod(path, 0600) ||
        listen(a->fd, CONNECTIONS) || lstat(path, &a->socket)) {
        snprintf(err, err_len, "controller.listen: cannot listen at %s: %s", path, strerror(errno));
        return -errno;
    }
    return 0;
}

static int listen_tcp(struct api *a, const char *at, char *err, uint32_t err_len)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    char host[ADDRESS_HOST_MAX], service[8];
    uint16_t port;
    int one = 1, rc = address_split(at, host, &port, err, err_len);
    if (rc)
        return rc;
    snprintf(service, sizeof service, "%u", port);
    if ((rc = getaddrinfo(host, service, &hints, &found))) {
        snprintf(err, err_len, "controller.listen: %s: %s", at, gai_strerror(rc));
        return -EINVAL;
    }
    a->fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool bad = a->fd < 0 || setsockopt(a->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) ||
               bind(a->fd, found->ai_addr, found->ai_addrlen) || listen(a->fd, CONNECTIONS);
    rc = bad ? -errno : 0;
    if (bad)
        snprintf(err, err_len, "controller.listen: cannot listen at %s: %s", at, strerror(-rc));
    freeaddrinfo(found);
    return rc;
}

static int start_daemon(struct api *a, char *err, uint32_t err_len)
{
    a->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL, 0, NULL, NULL, on_request, a,
        MHD_OPTION_LISTEN_SOCKET, a->fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, a->path[0] ? 0u : (unsigned)OF_ONE_ADDRESS,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(REQUEST_MS / 1000), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HEADERS_BYTES, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, a, MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL, MHD_OPTION_END);
    if (a->daemon && !pthread_create(&a->watchman, NULL, watch, a)) {
        a->watches = true;
        return 0;
    }
    snprintf(err, err_len, "the API cannot start: %s", strerror(errno));
    return -EIO;
}

static void take_down(struct api *a)
{
    struct stat st;
    if (a->path[0] && a->fd >= 0 && !lstat(a->path, &st) && st.st_ino == a->socket.st_ino &&
        st.st_dev == a->socket.st_dev)
        unlink(a->path);
    if (a->daemon)
        MHD_stop_daemon(a->daemon); /* closes a->fd */
    else if (a->fd >= 0)
        close(a->fd);
    pthread_mutex_lock(&a->lock);
    a->stopping = true;
    pthread_mutex_unlock(&a->lock);
    if (a->watches)
        pthread_join(a->watchman, NULL);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

int api_start(struct api **out, struct engine *e, const struct site_controller *at, const char *scratch,
              char *err, uint32_t err_len)
{
    struct api *a = calloc(1, sizeof *a);
    sigset_t all, before;
    if (!a || sodium_init() < 0) {
        free(a);
        snprintf(err, err_len, "out of memory");
        return -ENOMEM;
    }
    a->engine = e;
    a->fd = -1;
    pthread_mutex_init(&a->lock, NULL);
    for (int i = 0; i < CONNECTIONS; i++)
        a->connections[i].fd = -1;
    snprintf(a->scratch, sizeof a->scratch, "%s", scratch);
    int rc = at->token_file ? read_token(a, at->token_file, err, err_len) : 0;
    if (!rc)
        rc = at->listen[0] == '/' ? listen_unix(a, at->listen, err, err_len) : listen_tcp(a, at->listen, err, err_len);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* its threads leave signals to the loop */
    if (!rc)
        rc = start_daemon(a, err, err_len);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc)
        take_down(a);
    else
        *out = a;
    return rc;
}

void api_stop(struct api *a)
{
    if (!a)
        return;
    events_close(engine_events(a->engine));
    engine_close_orders(a->engine);
    take_down(a);
}
