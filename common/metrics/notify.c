/* SPDX-License-Identifier: BSD-3-Clause */
/* A supervisor is told (notify.h). */
#include "common/metrics/notify.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/log/log.h"

enum { LOOK_MS = 200, SEND_MS = 500, SENTENCE_BYTES = 240 };

enum { SOCKET, WATCHDOG, PID, VARIABLES };
static const char *const names[VARIABLES] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"};
static char *hidden[VARIABLES]; /* by notify_hide */

struct notify {
    http_probe healthy, ready, says;
    void *ctx;
    int fd;
    struct sockaddr_un to;
    socklen_t to_len;
    uint32_t every_ms;          /* WATCHDOG=1; 0: nobody asked for it */
    pthread_t thread;
    pthread_mutex_t lock;       /* of stop */
    pthread_cond_t woken;
    bool stop;
    /* the thread's */
    bool told_ready;
    char said[SENTENCE_BYTES];
    uint64_t alive_ms;          /* WATCHDOG=1 was sent then */
};

/* --- the environment -------------------------------------------------------------------------------- */

static const char *variable(int which)
{
    const char *text = hidden[which] ? hidden[which] : getenv(names[which]);
    return text ? text : "";
}

void notify_hide(void)
{
    for (int i = 0; i < VARIABLES; i++) {
        const char *text = getenv(names[i]);
        if (!text)
            continue;
        free(hidden[i]);
        hidden[i] = strdup(text);
        unsetenv(names[i]);
    }
}

void notify_show(void)
{
    for (int i = 0; i < VARIABLES; i++)
        if (hidden[i])
            setenv(names[i], hidden[i], 1);
}

/* A third of the time after which we are thought dead; 0: it is not for us. */
static uint32_t watchdog_ms(void)
{
    const char *pid = variable(PID);
    uint64_t us = strtoull(variable(WATCHDOG), NULL, 10);
    if (!us || (*pid && strtol(pid, NULL, 10) != getpid()))
        return 0;
    return us / 3000 ? us / 3000 < UINT32_MAX ? (uint32_t)(us / 3000) : UINT32_MAX : 1;
}

/* False: there is none, or its path cannot be one. */
static bool place_of(struct sockaddr_un *to, socklen_t *len)
{
    const char *path = variable(SOCKET);
    size_t n = strlen(path);
    if (!n || (*path != '/' && *path != '@') || n >= sizeof to->sun_path)
        return false;
    *to = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(to->sun_path, path, n);
    if (*path == '@')
        to->sun_path[0] = 0; /* abstract: its length ends it */
    *len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (*path == '/'));
    return true;
}

/* --- telling -------------------------------------------------------------------------------------------- */

/* False: it was not, for its queue is full, or nobody listens now. */
static bool tell(struct notify *n, const char *text)
{
    if (sendto(n->fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&n->to, n->to_len) >= 0)
        return true;
    log_debug("the supervisor is not told", "cause=\"%s\"", strerror(errno));
    return false;
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void look(struct notify *n)
{
    char sick[SENTENCE_BYTES] = "", why[SENTENCE_BYTES] = "", text[SENTENCE_BYTES + 40];
    n->healthy(n->ctx, sick, sizeof sick);
    if (n->every_ms && !*sick && now_ms() - n->alive_ms >= n->every_ms) {
        n->alive_ms = now_ms();
        tell(n, "WATCHDOG=1");
    }
    n->ready(n->ctx, why, sizeof why);
    bool ready = !*why;
    if (ready && n->says)
        n->says(n->ctx, why, sizeof why);
    if (!*why)
        snprintf(why, sizeof why, "ready");
    why[strcspn(why, "\n")] = 0;
    bool first = ready && !n->told_ready;
    if (!first && !strcmp(why, n->said))
        return;
    snprintf(text, sizeof text, "%sSTATUS=%s", first ? "READY=1\n" : "", why);
    if (!tell(n, text))
        return; /* the next look says it */
    n->told_ready |= first;
    snprintf(n->said, sizeof n->said, "%s", why);
}

static void *run(void *ctx)
{
    struct notify *n = ctx;
    uint32_t nap_ms = n->every_ms && n->every_ms < LOOK_MS ? n->every_ms : LOOK_MS;
    pthread_mutex_lock(&n->lock);
    while (!n->stop) {
        struct timespec until;
        pthread_mutex_unlock(&n->lock);
        look(n);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += (long)nap_ms * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_mutex_lock(&n->lock);
        while (!n->stop && !pthread_cond_timedwait(&n->woken, &n->lock, &until))
            continue;
    }
    pthread_mutex_unlock(&n->lock);
    return NULL;
}

struct notify *notify_start(http_probe healthy, http_probe ready, http_probe says, void *ctx)
{
    struct sockaddr_un to;
    socklen_t to_len;
    sigset_t all, before;
    if (!place_of(&to, &to_len)) {
        if (*variable(SOCKET))
            log_warn("the supervisor is not told", "NOTIFY_SOCKET=%s is no socket's path", variable(SOCKET));
        return NULL;
    }
    struct notify *n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    *n = (struct notify){.healthy = healthy, .ready = ready, .says = says, .ctx = ctx, .to = to, .to_len = to_len,
                         .every_ms = watchdog_ms()};
    struct timeval patience = {.tv_usec = SEND_MS * 1000};
    n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (n->fd >= 0)
        setsockopt(n->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&n->woken, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&n->lock, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are others' */
    int rc = n->fd < 0 ? errno : pthread_create(&n->thread, NULL, run, n);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!rc)
        return n;
    log_warn("the supervisor is not told", "cause=\"%s\"", strerror(rc));
    if (n->fd >= 0)
        close(n->fd);
    free(n);
    return NULL;
}

void notify_stop(struct notify *n, bool ends)
{
    if (!n)
        return;
    pthread_mutex_lock(&n->lock);
    n->stop = true;
    pthread_cond_signal(&n->woken);
    pthread_mutex_unlock(&n->lock);
    pthread_join(n->thread, NULL);
    tell(n, ends ? "STOPPING=1\nSTATUS=stopping" : "STATUS=begins anew");
    close(n->fd);
    pthread_cond_destroy(&n->woken);
    pthread_mutex_destroy(&n->lock);
    free(n);
}
