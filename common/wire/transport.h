/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Transports that cross a process: how one connects and listens, by which word an
 * address names it, and where shard i of a store is.
 *
 *   host:port, tcp:host:port   shard i at port + i
 *   shm:/path                  shard i at /path.i, a socket file of this host
 *   verbs:host:port            shard i at port + i; needs lethe_verbs (verbs/verbs.h)
 *
 * A program that has RDMA passes &transport_verbs to whoever takes a transport; one
 * that does not passes NULL and need not link librdmacm.
 */
#ifndef LETHE_WIRE_TRANSPORT_H
#define LETHE_WIRE_TRANSPORT_H

#include "common/wire/channel.h"

enum { TRANSPORT_ADDRESS_MAX = 300 };

/* Somebody who listens. Owner and thread: as of a channel. */
struct listener {
    int fd;                   /* readable when somebody may be waiting; -1: does not listen */
    void *own;
    struct channel *(*accept)(struct listener *l); /* NULL: nobody waits any more */
    void (*close)(struct listener *l);
    /* Lets who connects here read that memory, whole pages, one-sidedly, and no more, by *rkey. What
     * conceal takes, before the listener is closed and the memory goes; or NULL and errno. NULL
     * functions: this transport has no such thing. */
    void *(*expose)(struct listener *l, void *at, uint64_t bytes, uint32_t *rkey);
    void (*conceal)(void *exposed);
};

struct transport {
    const char *name;
    bool is_path;             /* addresses are socket files, not host:port */
    /* Usable at once; NULL and a sentence. errno ENOENT of shm: it is not of this host. */
    struct channel *(*connect)(const char *address, char *err, uint32_t err_len);
    /* 0, or -errno and a sentence. */
    int (*listen)(struct listener *out, const char *address, char *err, uint32_t err_len);
    uint16_t (*port)(const struct listener *l); /* the one taken; 0: has none */
    /* As connect, for a shard's log: its frames have trailers, so that a fence finds also what
     * this side was not told of. NULL: `connect` does. */
    struct channel *(*connect_replica)(const char *address, char *err, uint32_t err_len);
};

extern const struct transport transport_tcp, transport_shm;

/* The transport that the address names, and in *rest what follows its name. NULL and a
 * sentence: an unknown one, or verbs where `verbs` is NULL. */
const struct transport *transport_of(const char *address, const struct transport *verbs,
                                     const char **rest, char *err, uint32_t err_len);
/* Checks an address without its transport's name, for shards 0 to shards - 1. Port 0 is for
 * listeners alone. 0, or -EINVAL and a sentence. */
int transport_check(const struct transport *t, const char *address, uint32_t shards, bool listener,
                    char *err, uint32_t err_len);
/* Of shard 0 -> of shard i. 0, or -EINVAL and a sentence. */
int transport_of_shard(const struct transport *t, const char *address, uint16_t shard,
                       char out[TRANSPORT_ADDRESS_MAX], char *err, uint32_t err_len);
static inline void listener_close(struct listener *l)
{
    if (l->fd >= 0)
        l->close(l);
    l->fd = -1;
}

#endif
