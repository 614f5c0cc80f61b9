/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What to do next, so that what runs becomes what is desired. Pure: no I/O, no clock; the same
 * arguments give the same actions. Called again and again (each second, and whenever something
 * was seen); an action that came to nothing is found missing and done again.
 *
 *   desired + observed, now → at most ORCH_ACTIONS actions, each with its reason
 *
 * Promises, whatever is observed:
 *   - a worker is drained only while another one is ready in the table of its front end and stays
 *     (`down` excepted), and only while that table is known; if the site has no worker for that
 *     front end any more, while another one is ready in any table;
 *   - nothing is started under the name of a process that lives;
 *   - what is desired is started in any case, also while nothing is known of steering;
 *   - a store node is stopped only when it leads no shard and holds no shard's only copy;
 *   - one node of the store at a time, and only while every shard has all its other copies;
 *   - a front end is started anew only while another one, if the site has another, is ready;
 *   - what keeps ending is restarted ever later: 200 ms, doubled, 30 s at most; after 60 s of life
 *     from the beginning again.
 */
#ifndef LETHE_ORCHESTRATOR_CORE_RECONCILE_H
#define LETHE_ORCHESTRATOR_CORE_RECONCILE_H

#include "orchestrator/model/desired.h"

enum {
    ORCH_ACTIONS = 32,
    ORCH_BACKOFF_FIRST_MS = 200,
    ORCH_BACKOFF_MOST_MS = 30 * 1000,
    ORCH_SOUND_MS = 60 * 1000, /* who lived so long has not failed to start */
    ORCH_AGAIN_MS = 1000,      /* an order that shows no effect is given again after it */
    ORCH_PATIENCE_MS = 15 * 1000, /* who is to end and lives after it gets SIGKILL */
    ORCH_FRONT_NONE = 0xff,
};

/* One program, as far as it is known. */
struct orch_instance {
    char name[ORCH_NAME];
    enum orch_kind kind;
    bool alive;               /* its process is there: proof of the driver */
    uint8_t front;            /* worker: the front end that it joins, as site_front counts; or none known */
    bool ready;               /* worker: healthy and in that one's table; others: it answers and serves */
    bool leaving;             /* was told to end, or says that it does */
    bool replace;             /* an operator wants it started anew */
    uint64_t config;          /* desired_config it was started with; 0: not known */
    uint64_t started_ms, ended_ms;
    uint32_t failures;        /* ends in a row that nobody asked for */
    uint64_t told_ms;         /* since when it is leaving; 0: it is not */
    uint64_t again_ms;        /* when the order that ends it, or hands over, was given last */
    uint16_t leads;           /* store: bit per shard whose primary it is */
    uint16_t only_copy;       /* store: bit per shard that nobody else holds */
};

struct orch_observed {
    uint8_t tables_known;     /* bit per front end: its table was read lately */
    bool copies_known;        /* every shard's primary told its copies lately */
    bool copies_whole;        /* ... and each has as many as it is to have */
    uint32_t n;
    struct orch_instance at[ORCH_INSTANCES]; /* those that were there once, too, until forgotten */
};

enum orch_verb {
    ORCH_START,
    ORCH_DRAIN,               /* worker: leaves steering, finishes, ends with 0 (by SIGTERM) */
    ORCH_HAND_OVER,           /* store: another member becomes the primary of `shard` */
    ORCH_TERMINATE,           /* SIGTERM */
    ORCH_KILL,                /* SIGKILL: it did not end on SIGTERM */
};

struct orch_action {
    enum orch_verb verb;
    enum orch_kind kind;
    char name[ORCH_NAME];
    uint32_t group;           /* START of a worker: index into desired->groups */
    uint32_t shard;           /* HAND_OVER */
    char why[ORCH_WHY];
};

/* How many actions were written. *next_ms: when to ask again if nothing happens (a back-off
 * ends, an order is due again); UINT64_MAX: never. */
uint32_t orch_reconcile(const struct orch_desired *d, const struct orch_observed *o,
                        uint64_t now_ms, struct orch_action actions[ORCH_ACTIONS],
                        uint64_t *next_ms);

/* May this instance be killed, or restarted? 0; -EPERM and why not without force: it is the last
 * ready worker of its front end, the last copy of a shard (or that is not known), the only front
 * end that lives. */
int orch_kill_allowed(const struct orch_observed *o, const char *name, char *why,
                      uint32_t why_len);
const struct orch_instance *orch_find(const struct orch_observed *o, const char *name);
/* How long to wait after so many ends in a row that nobody asked for. */
uint64_t orch_backoff_ms(uint32_t failures);
#endif
