/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which next hops a route is to have: those that answer, by the state machine that steering has for
 * its workers (health.h), time included: silence counts only while this loop ran. No I/O, no clock
 * of its own; one thread.
 *
 *   probes due, answers, time → bits of the next hops that the route is to have
 *
 * Promises:
 *   - the last one is never withdrawn: if none answers, those that answered last stay;
 *   - at the start nothing is decided until all answered, or had a whole time-out to do so;
 *   - who was silent comes back after two answers.
 */
#ifndef LETHE_STEERING_NEXTHOP_WATCH_H
#define LETHE_STEERING_NEXTHOP_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "steering/health.h"

enum { WATCH_MAX = 8 };

struct watch {
    unsigned n;
    struct health hop[WATCH_MAX];
    struct health_clock clock;
    uint64_t timeout_us, run_us;
    uint64_t members;          /* bits: those of the route */
    bool settled;              /* something was decided */
    bool kept;                 /* none answers, the last ones stay */
};

/* `first_seq`: probes count from here; better not from where an earlier life's did. */
void watch_init(struct watch *w, unsigned n, uint64_t timeout_us, uint64_t first_seq);
/* Once a round, with a monotonic clock, after the answers of the round were told. True: `members`,
 * `settled` or `kept` is another one now. */
bool watch_tick(struct watch *w, uint64_t now_us);
/* Is a probe to be sent? Then its number. */
bool watch_due(struct watch *w, unsigned hop, uint64_t *seq);
/* A genuine answer came. False: it is old, repeated, or was never asked for. */
bool watch_answered(struct watch *w, unsigned hop, uint64_t seq);

#endif
