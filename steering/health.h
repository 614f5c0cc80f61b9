/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which workers get packets: a state machine per worker, fed with what
 * happened to it and with time, and the choice of the table's members from all
 * of them. No I/O, no clock of its own; one thread.
 *
 *            join          link up, probed          answer       answer
 *    absent ──────▶ waiting ──────────────▶ (still) ──────▶ trial ──────▶ healthy
 *                     ▲  ▲                                    │             │
 *                     │  └──────────── link down ─────────────┴─────────────┤ silent
 *                     └──────────────── link down ──── removed ◀────────────┘
 *                                                         │ answer
 *                                                         └──────▶ trial
 *    any ── leave ──▶ leaving ── link down, or too long ──▶ absent
 *
 * Time is *run time* (health_clock): it advances with the observer's own loop,
 * and by at most HEALTH_STEP_US per round. A front end that was itself stopped
 * for seconds has seen no silence, and condemns nobody.
 */
#ifndef LETHE_STEERING_HEALTH_H
#define LETHE_STEERING_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

enum { HEALTH_STEP_US = 25000, HEALTH_LEAVE_MAX_US = 10000000, HEALTH_WORKERS_MAX = 64 };

#define HEALTH_STATES(X)                                                       \
    X(HEALTH_ABSENT, "absent")                                                 \
    X(HEALTH_WAITING, "waiting")                                               \
    X(HEALTH_TRIAL, "trial")                                                   \
    X(HEALTH_HEALTHY, "healthy")                                               \
    X(HEALTH_REMOVED, "removed")                                               \
    X(HEALTH_LEAVING, "leaving")
enum health_state {
#define X(name, text) name,
    HEALTH_STATES(X)
#undef X
        HEALTH_STATE_END
};
const char *health_state_text(enum health_state s);

#define HEALTH_EVENTS(X)                                                       \
    X(HEALTH_NOTHING, "nothing")                                               \
    X(HEALTH_JOINED, "joined")                                                 \
    X(HEALTH_LINK_DOWN, "link_down")     /* its memif lost the other end */    \
    X(HEALTH_ANSWERED, "answered")       /* a fresh, genuine reply */          \
    X(HEALTH_RESTARTED, "restarted")     /* the same, of a new incarnation */  \
    X(HEALTH_SILENT, "silent")           /* failure_timeout without reply */   \
    X(HEALTH_LEAVE, "leave")                                                   \
    X(HEALTH_EXPIRED, "expired")         /* leaving for too long */
enum health_event {
#define X(name, text) name,
    HEALTH_EVENTS(X)
#undef X
        HEALTH_EVENT_END
};
const char *health_event_text(enum health_event e);

/* The whole state machine. */
enum health_state health_step(enum health_state s, enum health_event e);

struct health_clock { uint64_t last_us, run_us; };
/* Once a round, with a monotonic clock; returns run time. */
uint64_t health_clock_advance(struct health_clock *c, uint64_t now_us);

struct health {
    enum health_state state;
    uint64_t timeout_us;       /* of failure */
    uint64_t next_probe_us;    /* run time */
    uint64_t unanswered_us;    /* run time of the oldest unanswered probe; 0: none */
    uint64_t leaving_us;       /* run time at which it began to leave */
    uint64_t sent_seq, answered_seq;
    uint64_t incarnation;      /* 0: not known yet */
};

/* `first_seq`: probes of this life count from here (any number, better not one
 * that an earlier front end used). */
void health_init(struct health *h, uint64_t timeout_us, uint64_t first_seq);
/* Applies an event at run time `run_us`; true: the state is another one now. */
bool health_apply(struct health *h, enum health_event e, uint64_t run_us);

/* Is a probe due? Every timeout / 4; under traffic every timeout / 16. */
bool health_probe_due(const struct health *h, bool traffic, uint64_t run_us);
/* Notes that one is sent; its sequence number. */
uint64_t health_probe_sent(struct health *h, uint64_t run_us);
/* A reply whose tag was right. HEALTH_NOTHING: old, repeated, never asked. */
enum health_event health_judge(struct health *h, uint64_t seq, uint64_t incarnation,
                               uint64_t run_us);
/* What the passage of time means: HEALTH_SILENT, HEALTH_EXPIRED or nothing. */
enum health_event health_tick(const struct health *h, uint64_t run_us);

/*
 * The members of the table, as bits: all healthy workers. If there is none,
 * those of `before` that are still `present` (not absent), and of these only
 * the ones with a link if any has: the last worker is never removed, and when
 * all seem to fail at once it is more likely we who do. *kept: it came to that.
 */
uint64_t health_members(uint64_t healthy, uint64_t before, uint64_t present, uint64_t linked,
                        bool *kept);

#endif
