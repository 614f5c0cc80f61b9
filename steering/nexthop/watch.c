/* SPDX-License-Identifier: BSD-3-Clause */
/* Which next hops a route is to have. See watch.h. */
#include "steering/nexthop/watch.h"

#include <assert.h>
#include <string.h>

void watch_init(struct watch *w, unsigned n, uint64_t timeout_us, uint64_t first_seq)
{
    assert(n >= 1 && n <= WATCH_MAX);
    memset(w, 0, sizeof *w);
    w->n = n;
    w->timeout_us = timeout_us;
    w->members = (1ull << n) - 1;
    for (unsigned i = 0; i < n; i++) {
        health_init(&w->hop[i], timeout_us, first_seq);
        health_apply(&w->hop[i], HEALTH_JOINED, 0);
    }
}

bool watch_tick(struct watch *w, uint64_t now_us)
{
    uint64_t healthy = 0, all = (1ull << w->n) - 1, before = w->members;
    bool was_settled = w->settled, was_kept = w->kept;
    w->run_us = health_clock_advance(&w->clock, now_us);
    for (unsigned i = 0; i < w->n; i++) {
        health_apply(&w->hop[i], health_tick(&w->hop[i], w->run_us), w->run_us);
        healthy |= (uint64_t)(w->hop[i].state == HEALTH_HEALTHY) << i;
    }
    w->settled |= healthy == all || w->run_us >= w->timeout_us;
    if (w->settled)
        w->members = health_members(healthy, w->members, all, all, &w->kept);
    return w->members != before || w->settled != was_settled || w->kept != was_kept;
}

bool watch_due(struct watch *w, unsigned hop, uint64_t *seq)
{
    assert(hop < w->n);
    if (!health_probe_due(&w->hop[hop], false, w->run_us))
        return false;
    *seq = health_probe_sent(&w->hop[hop], w->run_us);
    return true;
}

bool watch_answered(struct watch *w, unsigned hop, uint64_t seq)
{
    assert(hop < w->n);
    enum health_event e = health_judge(&w->hop[hop], seq, 1, w->run_us);
    health_apply(&w->hop[hop], e, w->run_us);
    return e != HEALTH_NOTHING;
}
