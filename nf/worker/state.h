/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a worker's state is: in the store (liblethe, by the transport that site.yaml
 * names) or in a Redis Cluster (worker.redis). What the loop needs to know of either.
 *
 * Thread: the loop's. Nothing blocks.
 */
#ifndef NF_WORKER_STATE_H
#define NF_WORKER_STATE_H

#include "client/lethe.h"
#include "common/config/site.h"
#include "nf/runtime/backend.h"

struct state;

/* 0, or -errno and a sentence; never waits for anybody. */
int state_create(struct state **out, const struct site *site, char *err, uint32_t err_len);
void state_destroy(struct state *s);
struct backend state_backend(struct state *s);

/* Reached, every table open. */
bool state_ready(const struct state *s);
/* To sleep: as lethe_fd, lethe_arm, lethe_next_us. */
int state_fd(struct state *s);
bool state_arm(struct state *s);
uint64_t state_next_us(const struct state *s);
/* As lethe_trace; of Redis nothing is told. */
void state_trace(struct state *s, lethe_sent sent, void *ctx);
void state_status(struct state *s, uint64_t now_us, struct lethe_status *out);

/* How it is reached: "tcp", "shm", "verbs", "redis". */
const char *state_kind(const struct state *s);
/* What commits there do not have that the store gives; NULL-terminated sentences, none of the store. */
const char *const *state_lacks(const struct state *s);

#endif
