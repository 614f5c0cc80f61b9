/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a site is to be: the text of its site.yaml, and what operators changed since
 * (replicas, policies, nodes taken out). Plain data, one owner, no I/O, no clock.
 *
 * It is kept as one JSON object (below), in etcd at <etcd_prefix>.controller/desired, outside
 * the range of keys that the stores read, and changed by compare-and-swap; a site without
 * store.etcd keeps it in <run_dir>/desired.json. `revision` grows by one with every change.
 *
 *   {"revision": 7, "down": false, "site": "<text>", "stopped": ["store-c"],
 *    "groups": [{"name": "nf", "replicas": 4, "autoscale": {...}}]}
 *
 * Names, limits, programs of groups are the text's; only replicas and policies may differ from
 * it. A new text changes a group's replicas or policy only if it says something else than the
 * text before: so that `lethe up FILE` after `lethe scale` undoes nothing.
 */
#ifndef LETHE_ORCHESTRATOR_MODEL_DESIRED_H
#define LETHE_ORCHESTRATOR_MODEL_DESIRED_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/config/site.h"

enum {
    ORCH_NAME = 32,           /* an instance's name with its NUL: site.yaml's limit */
    ORCH_GROUPS = SITE_GROUPS_MAX,
    ORCH_WEIGHT = 100,        /* of a worker, unless its group says else */
    ORCH_STORES = SITE_NODES_MAX,
    ORCH_FRONTS = SITE_FRONTS_MAX,
    ORCH_STEERINGS = 2 * ORCH_FRONTS, /* those that another text no longer has beside */
    ORCH_WORKERS = 64,        /* of a site; steering's workers_max, too */
    ORCH_INSTANCES = 2 * ORCH_WORKERS + ORCH_STORES + ORCH_STEERINGS, /* replaced ones beside */
    ORCH_SHARDS = 16,
    ORCH_SITE_BYTES = 256 * 1024, /* of the text */
    ORCH_WHY = 320,           /* a sentence */
};

#define ORCH_KINDS(X)                                                                              \
    X(STORE, "store")                                                                              \
    X(STEERING, "steering")                                                                        \
    X(WORKER, "worker")
enum orch_kind {
#define X(id, text) ORCH_##id,
    ORCH_KINDS(X)
#undef X
};
const char *orch_kind_text(enum orch_kind kind);

/* When a group grows or shrinks by itself (core/autoscale.h). */
struct orch_policy {
    bool enabled;
    uint32_t busy_high_permille, busy_low_permille; /* mean of the group's ready workers */
    uint32_t queue_high;      /* packets held by one worker; 0: not looked at */
    uint32_t drops_high_pps;  /* dropped by the group, for want of room or time; 0: not looked at */
    uint32_t up_hold_ms, down_hold_ms; /* so long without a break before it acts */
    uint32_t cooldown_ms;     /* after any change of replicas */
};

struct orch_group {
    char name[ORCH_NAME];     /* workers are <name>-1, <name>-2, ... */
    uint32_t replicas, min, max;
    char program[256];        /* of its workers; "": the site's lethe-nf */
    uint32_t front;           /* the front end that they join, as site_front counts */
    uint32_t weight;          /* of a worker in steering's table */
    uint32_t memory_mb;       /* of a worker's data; 0: no limit */
    int32_t nice;
    struct orch_policy autoscale;
};

struct orch_desired {
    uint64_t revision;
    bool down;                /* everything is to be stopped */
    uint32_t ngroups, nstopped;
    struct orch_group groups[ORCH_GROUPS];
    char stopped[ORCH_STORES][ORCH_NAME]; /* store nodes taken out by an operator */
    char *text;               /* site.yaml, malloced */
    struct site *site;        /* `text`, parsed */
    uint64_t parts[3];        /* by orch_kind: a hash of what its programs read of `text` */
};

/* From a site's text. 0, or -EINVAL and "file:line: key: what; what to do". */
int desired_from_text(struct orch_desired **out, const char *file, const char *text, char *err,
                      uint32_t err_len);
/* From what is kept. 0, or -EINVAL and a sentence: nothing of it is believed. */
int desired_from_json(struct orch_desired **out, const json_t *kept, char *err, uint32_t err_len);
json_t *desired_to_json(const struct orch_desired *d);
struct orch_desired *desired_copy(const struct orch_desired *d); /* NULL: no memory */
void desired_free(struct orch_desired *d);

/* Changes. Each answers 0 and has raised `revision`, or says why not and changed nothing:
 * -ENOENT no such group or node, -EINVAL what was asked for cannot be, -EALREADY it is so. */
int desired_scale(struct orch_desired *d, const char *group, int64_t replicas, char *err,
                  uint32_t err_len);
int desired_policy(struct orch_desired *d, const char *group, const struct orch_policy *p,
                   char *err, uint32_t err_len);
/* A store node is taken out, or back in. The last one stays. */
int desired_stop(struct orch_desired *d, const char *node, bool stopped, char *err,
                 uint32_t err_len);
int desired_down(struct orch_desired *d, bool down, char *err, uint32_t err_len);
/* Another text; -EPERM: it changes what cannot change while a site runs (run_dir, store.etcd,
 * store.etcd_prefix, store.shards, the address of a node). */
int desired_text(struct orch_desired *d, const char *file, const char *text, char *err,
                 uint32_t err_len);

const struct orch_group *desired_group(const struct orch_desired *d, const char *name);
/* The group whose worker `name` is, <group>-<n>; NULL: of none. */
const struct orch_group *desired_group_of(const struct orch_desired *d, const char *name);
bool desired_is_stopped(const struct orch_desired *d, const char *node);
/* Changes when the programs of a kind have to be started anew: a hash of the parts of the text
 * that they read, and of the group's own numbers (NULL: no worker). Positive as an int64_t. */
uint64_t desired_config(const struct orch_desired *d, enum orch_kind kind,
                        const struct orch_group *g);

/* Fields that are absent stay as they are in *p. 0, or -EINVAL and a sentence, *p untouched: a
 * field that is not known, a number that cannot be. */
int policy_from_json(const json_t *o, struct orch_policy *p, char *err, uint32_t err_len);
json_t *policy_to_json(const struct orch_policy *p);

#endif
