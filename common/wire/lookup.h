/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A host's name looked up beside the caller, who may not wait for a resolver: a
 * thread for each, LOOKUPS_MAX at once. The system's resolver sets how long one takes.
 *
 * Threads: one caller owns a lookup. Who lost interest drops it; the thread that
 * still waits then frees what is left.
 */
#ifndef LETHE_WIRE_LOOKUP_H
#define LETHE_WIRE_LOOKUP_H

#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>

enum { LOOKUPS_MAX = 16 };

struct lookup;

/* NULL and errno: EAGAIN (as many are under way), ENOMEM, or why there is no thread. */
struct lookup *lookup_start(const char *host, uint16_t port);
/* Readable once it is done. */
int lookup_fd(const struct lookup *l);
/* False: not yet. True: *found (the caller's, freeaddrinfo), or NULL and why not in *why,
 * a sentence that lasts. Once. */
bool lookup_done(struct lookup *l, struct addrinfo **found, const char **why);
/* NULL is allowed. */
void lookup_drop(struct lookup *l);

/* A getaddrinfo error's text; of EAI_SYSTEM, errno's. */
const char *lookup_error(int error);

#endif
