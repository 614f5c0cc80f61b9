/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The shm channel: two processes of one host, two rings in shared memory. What
 * inproc is between threads, at memory speed, between programs that do not
 * trust each other; its functions are channel.h's.
 *
 *   listener                                client
 *   shm_listen  <------- connect ---------  shm_connect     Unix socket, SOCK_SEQPACKET
 *   shm_accept: peer's credentials, memfd
 *   (sealed), two eventfds  ---- SCM_RIGHTS ---->           then the rings are used
 *
 * The socket stays open and carries nothing more: it is how either end learns
 * that the other one died (kill -9 closes it).
 *
 * Who may connect: whoever can reach the socket file, if it runs as the
 * listener's user or as root. Secrets (auth.h) are asked for on top.
 */
#ifndef LETHE_WIRE_SHM_H
#define LETHE_WIRE_SHM_H

#include "common/wire/channel.h"

enum { SHM_RING_BYTES = 1024 * 1024 /* each direction; a power of two */ };

/* A listening descriptor on the socket file `path` (at most 107 bytes), or -errno
 * and a sentence. A file that nobody listens on any more is replaced. */
int shm_listen(const char *path, char *err, uint32_t err_len);
/* The next connection, or NULL: nobody waits, or who waits may not (then errno is
 * EPERM, and it was closed). */
struct channel *shm_accept(int listen_fd);
/* Usable at once (send says -EAGAIN until the rings came). NULL, errno (ENOENT: no such file,
 * ECONNREFUSED: nobody listens on it any more) and a sentence. */
struct channel *shm_connect(const char *path, char *err, uint32_t err_len);

#endif
