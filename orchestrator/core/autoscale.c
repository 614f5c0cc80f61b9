/* SPDX-License-Identifier: BSD-3-Clause */
/* How many workers a group should have (autoscale.h). */
#include "orchestrator/core/autoscale.h"

#include <stdio.h>

static uint32_t clamp(uint32_t v, uint32_t least, uint32_t most)
{
    return v < least ? least : v > most ? most : v;
}

/* NULL: not high. */
static const char *high(const struct orch_policy *p, const struct orch_load *l, char *why,
                        uint32_t room)
{
    if (l->busy_permille > p->busy_high_permille)
        snprintf(why, room, "busy %u permille, above %u", l->busy_permille, p->busy_high_permille);
    else if (p->queue_high && l->queue_most > p->queue_high)
        snprintf(why, room, "a worker holds %u packets, above %u", l->queue_most, p->queue_high);
    else if (p->drops_high_pps && l->drops_pps > p->drops_high_pps)
        snprintf(why, room, "%u packets/s dropped, above %u", l->drops_pps, p->drops_high_pps);
    else
        return NULL;
    return why;
}

/* Low now, and not high with one worker less. */
static bool low(const struct orch_policy *p, const struct orch_load *l)
{
    uint64_t after = l->ready > 1 ? (uint64_t)l->busy_permille * l->ready / (l->ready - 1) : UINT64_MAX;
    return l->busy_permille < p->busy_low_permille && after < p->busy_high_permille &&
           (!p->queue_high || l->queue_most < p->queue_high / 2 + 1);
}

/* Enough to bring the mean to the middle of the marks; a queue or drops ask for one more. */
static uint32_t enough(const struct orch_group *g, const struct orch_load *l)
{
    const struct orch_policy *p = &g->autoscale;
    uint32_t middle = (p->busy_high_permille + p->busy_low_permille) / 2;
    uint64_t all = (uint64_t)l->busy_permille * l->ready;
    uint64_t want = (all + middle - 1) / (middle ? middle : 1);
    if (want > 2ull * g->replicas)
        want = 2ull * g->replicas;
    if (want <= g->replicas)
        want = g->replicas + 1;
    return clamp((uint32_t)want, g->min, g->max);
}

static void stay(struct orch_decision *out, const struct orch_group *g)
{
    out->replicas = g->replicas;
    out->change = false;
}

static void grow(struct orch_scaler *s, const struct orch_group *g, const struct orch_load *l,
                 uint64_t now_ms, const char *why, struct orch_decision *out)
{
    const struct orch_policy *p = &g->autoscale;
    uint64_t held = now_ms - s->high_since_ms;
    uint32_t want = enough(g, l);
    if (want <= g->replicas)
        snprintf(out->why, sizeof out->why, "%s; but max is %u", why, g->max);
    else if (held < p->up_hold_ms)
        snprintf(out->why, sizeof out->why, "%s for %lu ms; acts after %u", why, held, p->up_hold_ms);
    else {
        snprintf(out->why, sizeof out->why, "%s for %lu ms: %u workers to bring busy to about %u permille",
                 why, held, want, (p->busy_high_permille + p->busy_low_permille) / 2);
        out->replicas = want;
        out->change = true;
    }
}

static void shrink(struct orch_scaler *s, const struct orch_group *g, const struct orch_load *l,
                   uint64_t now_ms, struct orch_decision *out)
{
    const struct orch_policy *p = &g->autoscale;
    uint64_t held = now_ms - s->low_since_ms;
    uint32_t least = g->min ? g->min : 1; /* to nought only by hand */
    if (g->replicas <= least)
        snprintf(out->why, sizeof out->why, "busy %u permille, below %u; but %u is the least",
                 l->busy_permille, p->busy_low_permille, least);
    else if (held < p->down_hold_ms)
        snprintf(out->why, sizeof out->why, "busy %u permille, below %u for %lu ms; acts after %u",
                 l->busy_permille, p->busy_low_permille, held, p->down_hold_ms);
    else {
        snprintf(out->why, sizeof out->why, "busy %u permille, below %u for %lu ms: one worker less, and "
                 "busy stays below %u", l->busy_permille, p->busy_low_permille, held,
                 p->busy_high_permille);
        out->replicas = g->replicas - 1;
        out->change = true;
    }
}

/* Since when it has been so without a break. */
static void mark(uint64_t *since_ms, bool so, uint64_t now_ms)
{
    if (!so)
        *since_ms = 0;
    else if (!*since_ms)
        *since_ms = now_ms ? now_ms : 1;
}

void orch_autoscale(struct orch_scaler *s, const struct orch_group *g, const struct orch_load *l,
                    uint64_t now_ms, struct orch_decision *out)
{
    const struct orch_policy *p = &g->autoscale;
    char why[160];
    stay(out, g);
    if (s->replicas != g->replicas) { /* by whomever */
        bool first = !s->replicas && !s->changed_ms;
        s->replicas = g->replicas;
        s->changed_ms = first ? 0 : now_ms;
        s->high_since_ms = s->low_since_ms = 0;
    }
    bool known = l->ready == g->replicas && l->known == l->ready && l->ready;
    const char *up = known ? high(p, l, why, sizeof why) : NULL;
    bool down = known && !up && low(p, l);
    mark(&s->high_since_ms, up != NULL, now_ms);
    mark(&s->low_since_ms, down, now_ms);
    if (!p->enabled)
        snprintf(out->why, sizeof out->why, "the policy is not enabled");
    else if (l->ready != g->replicas)
        snprintf(out->why, sizeof out->why, "waits: %u of %u workers are ready", l->ready, g->replicas);
    else if (!known)
        snprintf(out->why, sizeof out->why, "waits: the figures of %u of %u workers are not known",
                 l->ready - l->known, l->ready);
    else if (s->changed_ms && now_ms - s->changed_ms < p->cooldown_ms)
        snprintf(out->why, sizeof out->why, "waits: replicas changed %lu ms ago, cool-down is %u ms",
                 now_ms - s->changed_ms, p->cooldown_ms);
    else if (up)
        grow(s, g, l, now_ms, up, out);
    else if (down)
        shrink(s, g, l, now_ms, out);
    else
        snprintf(out->why, sizeof out->why, "busy %u permille, between %u and %u, or one worker less would "
                 "be too few", l->busy_permille, p->busy_low_permille, p->busy_high_permille);
}
