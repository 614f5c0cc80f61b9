/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A site in one thread, for tests of network functions: the real engine (one
 * per worker) on a real standalone shard that is stepped directly, on a clock
 * that only the test moves.
 *
 *   packets -> worker 0 | worker 1 -> engine -> BATCH -> shard_step -> RESULTS
 *
 * Every packet goes to the other worker than the one before, so a test that
 * passes here has shown that its NF keeps nothing. rig_send runs until nothing
 * is in flight. Everything asserts: a rig that cannot be built fails the test.
 */
#ifndef NF_TESTING_RIG_H
#define NF_TESTING_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "nf/runtime/engine.h"
#include "statestore/core/shard.h"

enum { RIG_WORKERS = 2, RIG_FRAME = 2048, RIG_OUT_MAX = 64 };

struct rig;

struct rig_out { /* what became of a packet, in order */
    int which;   /* its place among those that went in */
    bool emitted;
    enum packet_side side; /* emitted: where it left */
    const char *reason;    /* dropped: engine_reason_text */
    uint32_t len;
    uint8_t frame[RIG_FRAME];
};

/* A chain of `n` NFs, inside to outside; configs[i] as its init wants it. */
struct rig *rig_create(const struct nf_ops *const *chain, const void *const *configs, int n,
                       uint64_t seed);
void rig_destroy(struct rig *r);

/* One packet to the next worker; returns what became of it. */
const struct rig_out *rig_send(struct rig *r, enum packet_side side, const uint8_t *frame,
                               uint32_t len);
/* A burst to ONE worker, then runs; the number of outcomes, in *out. */
int rig_burst(struct rig *r, enum packet_side side, const uint8_t (*frames)[RIG_FRAME],
              const uint32_t *lens, int n, const struct rig_out **out);
/* Packets to workers of the test's choice, all received before any of their
 * look-ups is answered: what one worker does the other does not see in time. */
struct rig_in {
    int worker;
    enum packet_side side;
    const uint8_t *frame;
    uint32_t len;
};
int rig_race(struct rig *r, const struct rig_in *in, int n, const struct rig_out **out);
/* Moves the clock in small steps, timers firing on the way and the NFs hearing of
 * what expired. */
void rig_advance(struct rig *r, uint64_t ms);
uint64_t rig_now_ms(const struct rig *r);

/* The store's content. */
void rig_each(struct rig *r, void (*each)(void *ctx, const struct shard_entry *e), void *ctx);
void rig_status(struct rig *r, struct shard_status *out);
/* Writes behind the workers' back, as an operator would: inserts an entry. */
void rig_insert(struct rig *r, const char *table, const void *key, const void *value);
/* Sum over the workers of an NF's counter, of look-up txns, and of rounds. */
uint64_t rig_count(const struct rig *r, int nf, int counter);
struct engine_stats rig_stats(const struct rig *r);

#endif
