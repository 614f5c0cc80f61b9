/* SPDX-License-Identifier: BSD-3-Clause */
/* See marker.h. */
#include "nf/worker/marker.h"

#include "nf/runtime/engine.h"

bool marker_came(struct marker *m, const struct probe *p)
{
    if (p->side > 1 || p->seq < m->probe.seq)
        return false;
    if (p->seq != m->probe.seq)
        *m = (struct marker){0};
    m->probe = *p;
    m->came |= (uint8_t)(1u << p->side);
    if (m->returned)
        m->due |= (uint8_t)(1u << p->side); /* it got lost */
    return true;
}

uint8_t marker_due(struct marker *m, struct engine *e)
{
    if (m->came == 3 && !m->waits && !m->returned) {
        m->barrier = engine_barrier(e);
        m->waits = true;
    }
    if (m->waits && engine_barrier_passed(e, m->barrier)) {
        m->waits = false;
        m->returned = true;
        m->due = 3;
    }
    uint8_t due = m->due;
    m->due = 0;
    return due;
}

struct probe marker_reply(const struct marker *m, unsigned side, uint64_t incarnation)
{
    struct probe p = m->probe;
    p.kind = PROBE_RETURNED;
    p.side = side;
    p.incarnation = incarnation;
    return p;
}
