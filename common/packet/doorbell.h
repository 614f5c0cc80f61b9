/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A doorbell wakes a sleeping poller in another process (memif has no
 * descriptor to sleep on). One per process, owned by its poller; anybody who
 * put packets into one of its rings rings it.
 *
 * It is a page in shared memory with a `sleeping` flag (path) and a FIFO
 * (path.fifo); both survive kill -9 of either side and cross network
 * namespaces. No wake-up is lost, because
 *   sleeper: sleeping = 1; full fence; POLL ONCE MORE; then ppoll
 *   ringer:  put packets;  full fence; if exchange(sleeping, 0) == 1 write a byte
 * and one of the two always sees the other's store (Dekker).
 */
#ifndef LETHE_PACKET_DOORBELL_H
#define LETHE_PACKET_DOORBELL_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

struct doorbell;

/* The owner's side; takes over files a dead owner left. */
int doorbell_create(const char *path, struct doorbell **out, char *err, uint32_t err_len);
/* A ringer's side. -ENOENT: the owner does not exist (yet). */
int doorbell_open(const char *path, struct doorbell **out, char *err, uint32_t err_len);
void doorbell_close(struct doorbell *d); /* the owner's also removes the files */

void doorbell_ring(struct doorbell *d);
/* Sets the flag and fences; poll once more after it. */
void doorbell_arm(struct doorbell *d);
/* Clears the flag, when the extra poll found work. */
void doorbell_disarm(struct doorbell *d);
/* Sleeps until rung, one of `extra` is ready, or timeout_ms; then disarms. */
void doorbell_sleep(struct doorbell *d, struct pollfd *extra, int nextra, int timeout_ms);

#endif
