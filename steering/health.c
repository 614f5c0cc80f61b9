/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The health of workers. See health.h. The state machine is the table below.
 */
#include "steering/health.h"

#include <assert.h>
#include <string.h>

enum { PROBES_PER_TIMEOUT = 4, BUSY_PROBES_PER_TIMEOUT = 16, PROBE_GAP_MIN_US = 2000 };

const char *health_state_text(enum health_state s)
{
    static const char *const texts[] = {
#define X(name, text) [name] = text,
        HEALTH_STATES(X)
#undef X
    };
    return (unsigned)s < HEALTH_STATE_END ? texts[s] : "unknown";
}

const char *health_event_text(enum health_event e)
{
    static const char *const texts[] = {
#define X(name, text) [name] = text,
        HEALTH_EVENTS(X)
#undef X
    };
    return (unsigned)e < HEALTH_EVENT_END ? texts[e] : "unknown";
}

#define ABSENT  HEALTH_ABSENT
#define WAITING HEALTH_WAITING
#define TRIAL   HEALTH_TRIAL
#define HEALTHY HEALTH_HEALTHY
#define REMOVED HEALTH_REMOVED
#define LEAVING HEALTH_LEAVING

/* Two answers in a row make a worker healthy: one may be luck. A restart counts
 * as the first. Joining again changes nothing for who is here, and takes back a
 * leave. */
static const uint8_t next[HEALTH_STATE_END][HEALTH_EVENT_END] = {
    /*           nothing  joined   down     answer   restart  silent   leave    expired */
    [ABSENT] =  {ABSENT,  WAITING, ABSENT,  ABSENT,  ABSENT,  ABSENT,  ABSENT,  ABSENT},
    [WAITING] = {WAITING, WAITING, WAITING, TRIAL,   TRIAL,   WAITING, LEAVING, WAITING},
    [TRIAL] =   {TRIAL,   TRIAL,   WAITING, HEALTHY, TRIAL,   WAITING, LEAVING, TRIAL},
    [HEALTHY] = {HEALTHY, HEALTHY, WAITING, HEALTHY, TRIAL,   REMOVED, LEAVING, HEALTHY},
    [REMOVED] = {REMOVED, REMOVED, WAITING, TRIAL,   TRIAL,   REMOVED, LEAVING, REMOVED},
    [LEAVING] = {LEAVING, WAITING, ABSENT,  LEAVING, LEAVING, LEAVING, LEAVING, ABSENT},
};

enum health_state health_step(enum health_state s, enum health_event e)
{
    assert((unsigned)s < HEALTH_STATE_END && (unsigned)e < HEALTH_EVENT_END);
    return next[s][e];
}

uint64_t health_clock_advance(struct health_clock *c, uint64_t now_us)
{
    uint64_t passed = c->last_us == 0 || now_us < c->last_us ? 0 : now_us - c->last_us;
    c->last_us = now_us;
    c->run_us += passed < HEALTH_STEP_US ? passed : HEALTH_STEP_US;
    return c->run_us;
}

void health_init(struct health *h, uint64_t timeout_us, uint64_t first_seq)
{
    memset(h, 0, sizeof(*h));
    h->timeout_us = timeout_us;
    h->sent_seq = h->answered_seq = first_seq;
}

bool health_apply(struct health *h, enum health_event e, uint64_t run_us)
{
    enum health_state before = h->state;
    h->state = health_step(before, e);
    if (e == HEALTH_LINK_DOWN)
        h->unanswered_us = 0; /* what was in the rings is gone with them */
    if (h->state == LEAVING && before != LEAVING)
        h->leaving_us = run_us;
    if (h->state == ABSENT)
        h->incarnation = 0;
    return h->state != before;
}

bool health_probe_due(const struct health *h, bool traffic, uint64_t run_us)
{
    if (h->state == ABSENT)
        return false;
    if (run_us >= h->next_probe_us)
        return true;
    uint64_t gap = h->timeout_us / BUSY_PROBES_PER_TIMEOUT;
    gap = gap < PROBE_GAP_MIN_US ? PROBE_GAP_MIN_US : gap;
    uint64_t idle_gap = h->timeout_us / PROBES_PER_TIMEOUT;
    return traffic && run_us + idle_gap >= h->next_probe_us + gap;
}

uint64_t health_probe_sent(struct health *h, uint64_t run_us)
{
    h->next_probe_us = run_us + h->timeout_us / PROBES_PER_TIMEOUT;
    if (h->unanswered_us == 0)
        h->unanswered_us = run_us != 0 ? run_us : 1;
    return ++h->sent_seq;
}

enum health_event health_judge(struct health *h, uint64_t seq, uint64_t incarnation,
                               uint64_t run_us)
{
    if (h->state == ABSENT || seq <= h->answered_seq || seq > h->sent_seq)
        return HEALTH_NOTHING;
    bool restarted = h->incarnation != 0 && h->incarnation != incarnation;
    h->answered_seq = seq;
    h->incarnation = incarnation;
    /* An answer to an older probe proves life now; the later ones count from here. */
    h->unanswered_us = seq == h->sent_seq ? 0 : run_us != 0 ? run_us : 1;
    return restarted ? HEALTH_RESTARTED : HEALTH_ANSWERED;
}

enum health_event health_tick(const struct health *h, uint64_t run_us)
{
    if (h->state == LEAVING)
        return run_us - h->leaving_us >= HEALTH_LEAVE_MAX_US ? HEALTH_EXPIRED : HEALTH_NOTHING;
    if (h->state == ABSENT || h->unanswered_us == 0)
        return HEALTH_NOTHING;
    return run_us - h->unanswered_us >= h->timeout_us ? HEALTH_SILENT : HEALTH_NOTHING;
}

uint64_t health_members(uint64_t healthy, uint64_t before, uint64_t present, uint64_t linked,
                        bool *kept)
{
    uint64_t rest = before & present;
    *kept = healthy == 0 && rest != 0;
    if (healthy != 0)
        return healthy;
    return (rest & linked) != 0 ? rest & linked : rest;
}
