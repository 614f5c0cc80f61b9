/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of the view provider on etcd.
 *   views_etcd.c       the interface to the shards' threads, and the control thread's turn
 *   views_etcd_said.c  what etcd answers and its watch says
 * The control thread owns everything but the boxes and what `lock` guards.
 */
#ifndef STATESTORE_SERVER_VIEWS_ETCD_IMPL_H
#define STATESTORE_SERVER_VIEWS_ETCD_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "statestore/core/proposal.h"
#include "common/config/etcd/etcd.h"
#include "statestore/server/views_etcd.h"
#include "statestore/server/views_json.h"
#include "statestore/server/views_rules.h"

enum {
    SHARDS_MAX = VIEWS_SHARDS_MAX, NODES_MAX = 16,
    PREFIX_MAX = 200, KEY_MAX_BYTES = PREFIX_MAX + 40,
    REQUEST_MIN_MS = 300, REQUEST_MAX_MS = 2000,
    RETRY_MIN_MS = 20, RETRY_MAX_MS = 500,
    READ_MIN_MS = 500, READ_MAX_MS = 5000,
    LEASE_MIN_S = 5,
    HOLDS_MS = 2000,          /* positions in the registration are at most so old */
    AWAY_LOG_MS = 30000,
    ACCEPT_LEASES = 4,
    INCARNATION_STEP = 1000000000, /* a process that discards what it holds takes the next few */
};

enum tag { TAG_READ = 1, TAG_GRANT, TAG_KEEP, TAG_REGISTER, TAG_ASK, TAG_SWAP, TAG_CREATE, TAG_SITE };
/* Of a swap also which epoch it compares: an answer may come when its wish is decided, by a
 * watch, and the next one is open. */
static inline uint32_t tag_of(enum tag t, uint32_t shard, uint64_t epoch)
{
    return (uint32_t)t << 24 | (uint32_t)(epoch & 0xffff) << 8 | shard;
}

struct box {                  /* between a shard's thread and the control thread */
    pthread_mutex_t lock;
    int wake_fd;              /* -1: not started */
    struct msg_node self;
    uint64_t least;           /* incarnation of ours; 0: etcd has not answered yet */
    bool raised;              /* `self` has one by that, and its loop does not know yet */
    uint64_t held_epoch, held_position;
    bool wished, accepted;    /* something is in `want`, in `accept` */
    uint64_t old_epoch;
    struct shard_view want, accept;
    struct shard_view view;   /* the newest */
    uint64_t taken;           /* epoch */
    enum views_standing standing;
    char why[240];
} __attribute__((aligned(64)));

struct key {                  /* a shard's, as known */
    int64_t revision;         /* of its content, or of the moment it was not there */
    bool present;
    char bad[80];             /* its content is no view, because ...; `view` is an older one */
    struct shard_view view;   /* epoch 0: never seen */
    int64_t view_revision;    /* what a compare of `view` is on */
    struct proposal proposal;
    uint64_t proposed_ms;
    bool swapping;            /* a create or an accepted loss is under way */
    struct shard_view swap;
    uint64_t absent_ms, again_ms;
    bool accept_at_start;     /* said when this process was started, of the view found then, ... */
    uint64_t accept_epoch, accept_until_ms; /* ... for so long: registrations of the dead may still stand */
};

struct node {
    struct views_registration reg; /* of the last one seen; incarnation 0: none */
    bool alive;
    int64_t revision;
};

struct views_etcd {
    struct views views;
    struct views_site site;
    char prefix[PREFIX_MAX];
    struct etcd *etcd;
    struct etcd_config config;
    pthread_t thread;
    bool running;
    _Atomic bool stop;        /* partner: run */
    uint32_t retry_ms, read_ms;

    /* the control thread's */
    uint64_t now_ms;
    bool synced, reading, rewatch;
    int64_t read_revision, cluster;
    uint64_t read_due_ms, watch_due_ms;
    int64_t lease;
    uint32_t lease_s;
    bool granting, keeping, registering, superseded;
    uint64_t grant_due_ms, keep_due_ms, register_due_ms, registered_ms;
    struct views_registration told;
    uint64_t telling_newest, told_newest; /* in incarnations/<n> */
    char site_id[VIEWS_SITE_ID]; /* the newest that stood there, or else the one that was drawn; "": none yet */
    bool site_stands, site_asked;
    uint64_t site_due_ms;
    uint64_t away_logged_ms;
    char why[200];            /* what etcd said last when it failed */
    struct key keys[SHARDS_MAX];

    pthread_mutex_t lock;     /* of the two below */
    struct node nodes[NODES_MAX];
    struct views_service service;
    struct box boxes[SHARDS_MAX];
};

static inline uint64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static inline void key_name(const struct views_etcd *p, const char *kind, uint32_t number,
                     char name[KEY_MAX_BYTES])
{
    snprintf(name, KEY_MAX_BYTES, "%s/%s/%u", p->prefix, kind, number);
}

/* The highest incarnation in it. */
uint64_t views_etcd_highest(const struct views_registration *r);

/* --- views_etcd_said.c ---------------------------------------------------------------- */

/* Callbacks of struct etcd_config; they start and end no request. */
void views_etcd_answered(void *ctx, uint32_t tag, const json_t *answer, const char *why);
void views_etcd_watched(void *ctx, const json_t *message, const char *why);
/* The shard's open proposal, if any, learns what stands, or that nothing is known. */
void views_etcd_tell(struct views_etcd *p, uint16_t shard, enum proposal_answer answer);

#endif
