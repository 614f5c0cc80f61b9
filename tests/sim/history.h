/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A history: what the clients of one run asked, when, and what they were told.
 * It is all the checkers (check.h) see; it knows nothing of the store's code.
 *
 * An operation is one txn. Its acts say, key by key, what it saw, wrote and
 * removed. Every value written carries a token that names the operation and
 * the act, so whoever sees a value knows who wrote it.
 *
 * Times are simulated microseconds, which no clock shows: the store's time-outs
 * run by clocks that are somewhat fast or slow. An operation that was never answered, or
 * was answered "the outcome cannot be known", stays HIST_UNKNOWN: it may have
 * happened once, at any time since it was invoked, or never.
 */
#ifndef SIM_HISTORY_H
#define SIM_HISTORY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum hist_outcome {
    HIST_UNKNOWN = 0, /* may have happened once, or never */
    HIST_OK,          /* happened, as its acts say */
    HIST_REFUSED,     /* changed nothing; what it saw was true */
};

enum hist_what {
    HIST_NOT = 0, /* asked for, not done: its token must never be seen */
    HIST_SEE,     /* the key held `version` and `token`; version 0: absent */
    HIST_WRITE,   /* the key became `version`; `guard` as it was before */
    HIST_REMOVE,  /* version `guard` of the key was removed */
};

#define HIST_ANY UINT64_MAX    /* a write that does not say what was there before */
#define HIST_NEVER UINT64_MAX  /* a time */
#define HIST_NO_KEY UINT16_MAX /* an allocation whose index is not known */

enum {
    HIST_ACTS_MAX = 64, /* acts of one op: a scan lists many entries */
    HIST_TOKEN_ACTS = 32,
};

struct hist_act {
    uint8_t what;      /* enum hist_what */
    uint8_t touch;     /* a see or write that moves the idle deadline */
    uint8_t maybe;     /* a see that may have moved it, or not: not a proof */
    uint8_t owned;     /* an allocation whose index an entry will free by itself */
    uint16_t key;
    uint64_t guard, version, token;
    int64_t delta, value; /* counters: added; and as it was afterwards */
    uint32_t timeout_ms;  /* a write: of the entry; 0: the key's */
    bool has_value;
};

struct hist_op {
    uint32_t id, client;
    uint8_t outcome, status;       /* status: enum txn_status, for people */
    uint16_t slot, nacts;          /* slot: whose versions order it; may be a further order */
    uint32_t first_act;
    uint64_t invoked_us, completed_us;
};

struct hist_key {
    char name[40];
    uint16_t slot;
    bool sync;            /* false: acknowledged writes may be lost by a fail-over */
    bool alone;           /* not sync, and its primary's alone: what is lost is lost as a whole */
    bool vanishes;        /* may be removed by time or by a reaction */
    bool counter, pool;
    bool summed;          /* a counter only additions change */
    bool sketch;          /* additions and estimates; exact: nothing is lost, nothing collides */
    bool exact;
    bool grouped;         /* others' touches may move its deadline too */
    bool events;          /* each expiry is told to a consumer */
    bool absolute;        /* only the write that made it sets its deadline */
    uint32_t timeout_ms;  /* idle time-out; 0: none */
    uint32_t quarantine_ms;
};

/* A time in which some shard's time may have stood: from a crash, or the start
 * of a pause, to when it ran again. A promotion: acknowledged writes of async
 * tables from its begin on may be lost, while it lasts by two primaries. */
struct hist_stall {
    uint64_t from_us, to_us;
    bool promotion;
};

/* An event was shown to a consumer: this version of the key expired. */
struct hist_event {
    uint64_t version, token, at_us;
    uint32_t client;
    uint16_t key;
};

struct history {
    struct hist_op *ops;
    struct hist_act *acts;
    struct hist_key *keys;
    struct hist_stall *stalls;
    struct hist_event *events;
    uint32_t nops, nacts, nkeys, nstalls, nevents;
    bool all_told;        /* the end waited for events: none is under way */
    int32_t fast, slow;   /* clocks gain, or lose, at most that many in 1024 */
    uint32_t room_ops, room_acts, room_keys, room_stalls, room_events;
};

void hist_clear(struct history *h); /* frees */
uint16_t hist_add_key(struct history *h, const struct hist_key *key);
void hist_add_stall(struct history *h, uint64_t from_us, uint64_t to_us, bool promotion);

void hist_add_event(struct history *h, const struct hist_event *event);

/* Begins an operation; its acts follow by hist_act. Pointers into the history
 * are good until the next addition. */
uint32_t hist_invoke(struct history *h, uint32_t client, uint16_t slot, uint64_t now_us);
/* Appends an act to the operation begun last; its position among the acts. */
int hist_act(struct history *h, struct hist_act act);
/* The same for an operation anywhere: its acts move to the end if they must. */
int hist_act_late(struct history *h, uint32_t op, struct hist_act act);
void hist_complete(struct history *h, uint32_t op, enum hist_outcome outcome, uint8_t status,
                   uint64_t now_us);

/* What passes by true time, at least, while `ms` pass by somebody's clock; at most. */
static inline uint64_t hist_least_us(const struct history *h, uint64_t ms)
{
    return ms * 1000 * 1024 / (uint64_t)(1024 + h->fast);
}
static inline uint64_t hist_most_us(const struct history *h, uint64_t ms)
{
    return ms * 1000 * 1024 / (uint64_t)(1024 - h->slow);
}

static inline struct hist_act *hist_acts(const struct history *h, const struct hist_op *op)
{
    return h->acts + op->first_act;
}

/* Tokens: never 0. */
static inline uint64_t hist_token(uint32_t op, int act)
{
    return ((uint64_t)op + 1) * HIST_TOKEN_ACTS + (uint64_t)act;
}
static inline uint32_t hist_token_op(uint64_t token)
{
    return (uint32_t)(token / HIST_TOKEN_ACTS - 1);
}
static inline int hist_token_act(uint64_t token)
{
    return (int)(token % HIST_TOKEN_ACTS);
}

void hist_print_op(FILE *out, const struct history *h, uint32_t op);

#endif
