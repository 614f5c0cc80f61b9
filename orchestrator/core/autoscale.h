/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How many workers a group should have, from what its workers do. Pure; the state between two
 * calls is a struct of the caller's.
 *
 *   up    mean busy fraction above busy_high, or a worker holding more than queue_high packets, or
 *         drops above drops_high_pps, for up_hold_ms without a break: as many more as bring the
 *         mean to the middle of the two marks, at least one, at most twice as many as there are
 *   down  all of them below their marks, and the mean would stay below busy_high with one worker
 *         less (hysteresis), for down_hold_ms: one less
 *
 * Between min and max, never while a worker that is wanted is not ready yet or its figures are
 * too old, never within cooldown_ms of a change, whoever made it.
 */
#ifndef LETHE_ORCHESTRATOR_CORE_AUTOSCALE_H
#define LETHE_ORCHESTRATOR_CORE_AUTOSCALE_H

#include "orchestrator/model/desired.h"

/* What the group's workers were seen to do, over the last poll. */
struct orch_load {
    uint32_t ready;           /* workers in steering's table */
    uint32_t known;           /* of those, with figures that are young enough */
    uint32_t busy_permille;   /* mean of the known */
    uint32_t queue_most;      /* most packets held by one of them */
    uint32_t drops_pps;
};

struct orch_scaler {          /* zeroed at first */
    uint64_t high_since_ms, low_since_ms; /* 0: it is not */
    uint64_t changed_ms;      /* replicas changed last, whoever did it */
    uint32_t replicas;        /* as seen last */
};

struct orch_decision {
    uint32_t replicas;        /* as they are, or as they are to be */
    bool change;
    char why[ORCH_WHY];       /* also if there is no change: what it waits for */
};

void orch_autoscale(struct orch_scaler *s, const struct orch_group *g, const struct orch_load *load,
                    uint64_t now_ms, struct orch_decision *out);

#endif
