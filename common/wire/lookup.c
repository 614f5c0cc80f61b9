/* SPDX-License-Identifier: BSD-3-Clause */
/* See lookup.h. */
#include "common/wire/lookup.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/wire/address.h"

struct lookup {
    atomic_int owners;         /* the caller, the thread; the last one frees */
    atomic_bool done;          /* released after found and why, acquired before they are read */
    int fd;                    /* an eventfd */
    struct addrinfo *found;
    const char *why;
    char host[ADDRESS_HOST_MAX], service[8];
};

static atomic_int running;

const char *lookup_error(int error)
{
    return error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error);
}

static void put(struct lookup *l)
{
    if (atomic_fetch_sub_explicit(&l->owners, 1, memory_order_acq_rel) > 1)
        return;
    if (l->found)
        freeaddrinfo(l->found);
    close(l->fd);
    free(l);
}

static void *look_up(void *ctx)
{
    struct lookup *l = ctx;
    struct addrinfo hints = {.ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    int error = getaddrinfo(l->host, l->service, &hints, &l->found);
    if (error) {
        l->found = NULL;
        l->why = error == EAI_SYSTEM ? strerrordesc_np(errno) : gai_strerror(error);
    }
    atomic_store_explicit(&l->done, true, memory_order_release);
    atomic_fetch_sub(&running, 1);
    eventfd_write(l->fd, 1);
    put(l);
    return NULL;
}

/* Signals are for threads that expect them. */
static int start_thread(struct lookup *l)
{
    pthread_t thread;
    pthread_attr_t detached;
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, &detached, look_up, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
    return error;
}

static struct lookup *create(const char *host, uint16_t port)
{
    struct lookup *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    snprintf(l->host, sizeof l->host, "%s", host);
    snprintf(l->service, sizeof l->service, "%u", port);
    atomic_init(&l->owners, 2);
    l->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l->fd >= 0)
        return l;
    int error = errno;
    free(l);
    errno = error;
    return NULL;
}

struct lookup *lookup_start(const char *host, uint16_t port)
{
    struct lookup *l = NULL;
    int error = EAGAIN;
    if (atomic_fetch_add(&running, 1) < LOOKUPS_MAX) {
        l = create(host, port);
        error = l ? start_thread(l) : errno;
    }
    if (!error)
        return l;
    atomic_fetch_sub(&running, 1);
    if (l) {
        atomic_store(&l->owners, 1);
        put(l);
    }
    errno = error;
    return NULL;
}

int lookup_fd(const struct lookup *l)
{
    return l->fd;
}

bool lookup_done(struct lookup *l, struct addrinfo **found, const char **why)
{
    if (!atomic_load_explicit(&l->done, memory_order_acquire))
        return false;
    *found = l->found;
    *why = l->why;
    l->found = NULL;
    return true;
}

void lookup_drop(struct lookup *l)
{
    if (l)
        put(l);
}
