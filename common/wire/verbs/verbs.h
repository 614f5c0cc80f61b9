/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verbs channel: two hosts with RDMA, a reliable connection (RC), a ring in
 * each one's memory that the other one writes into. InfiniBand and RoCE v2; in CI
 * over soft-RoCE (tests/rdma/vm.sh). Its functions are channel.h's; a library of its
 * own (lethe_verbs), so that only who wants RDMA links libibverbs and librdmacm.
 *
 *   frames   RDMA WRITE WITH IMMEDIATE of a whole burst into the peer's ring; the
 *            immediate is how much. Its completion at the receiver (not at the
 *            sender) is what says that the bytes are visible.
 *   credits  the reader writes how far it has read back, in the same way, after a
 *            quarter of the ring or some bursts.
 *   fence    QP -> ERR, flush, deregister; then what landed in the ring is read to its end,
 *            frame by frame, whether a completion told of it or not.
 *   asleep   the completion channel's descriptor; nothing is polled.
 *
 * Addresses are those of the RDMA device's own network interface ("10.8.0.1:7400";
 * rdma_cm finds device, port and GID by it).
 */
#ifndef LETHE_WIRE_VERBS_H
#define LETHE_WIRE_VERBS_H

#include "common/wire/transport.h"

/* NULL, or a sentence that says why there can be no verbs channel here and what to
 * do: no device, too little lockable memory (with the number needed). */
const char *verbs_trouble(char *text, uint32_t len);

struct verbs_listener;
/* NULL and a sentence. */
struct verbs_listener *verbs_listen(const char *address, char *err, uint32_t err_len);
/* Readable when somebody may be waiting. */
int verbs_listener_fd(const struct verbs_listener *l);
uint16_t verbs_listener_port(const struct verbs_listener *l);
/* The next connection, usable at once (send says -EAGAIN until it is established), or
 * NULL: none now. */
struct channel *verbs_accept(struct verbs_listener *l);
void verbs_listener_close(struct verbs_listener *l);

/* Usable at once. NULL and a sentence on a bad address. */
struct channel *verbs_connect(const char *address, char *err, uint32_t err_len);

/* The same, and its frames have trailers, if whoever listens knows them (verbs.c). */
struct channel *verbs_connect_replica(const char *address, char *err, uint32_t err_len);

/* For who takes a transport. */
extern const struct transport transport_verbs;

#endif
