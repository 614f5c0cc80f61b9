/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The view service, as a shard's loop sees it: who replicates the shard, and
 * whether it may serve. The core never invents a view and the loop never
 * decides one; both ask here. Providers:
 *   static    one node, or a pair whose first node is the primary for ever
 *   etcd      a key per shard, changed by compare-and-swap (views_etcd.c)
 *   memory    the same rules within one process, for tests and embedding
 * What those two have in common, and what an operator's acceptance of a loss
 * needs, stands in views_rules.h.
 *
 * Threads: start, incarnation, heard, propose, take, standing, holds about shard i are called
 *   by shard i's thread only (start, stop: before and after it runs). primary, node, accept_loss,
 *   service: any. destroy: when no loop runs any more. None of them waits for
 *   anybody but a short lock.
 * Order: start once; then take until it is empty whenever something happened:
 *   heard, propose, or a write to `wake_fd`; each view goes to the core as
 *   SHARD_EV_VIEW. A provider may leave out a view that a later one replaced.
 */
#ifndef STATESTORE_SERVER_VIEWS_H
#define STATESTORE_SERVER_VIEWS_H

#include "statestore/core/shard.h"

enum { VIEWS_SITE_ID = 33 };

enum views_standing {
    VIEWS_FOLLOWING = 1,      /* a backup or a spare: joins through the primary */
    VIEWS_WAITING,            /* may not serve yet */
    VIEWS_LOST,               /* may not serve until an operator accepts the loss */
    VIEWS_SERVING
};

/* What the site's nodes are known to be. */
struct views_node {
    uint64_t incarnation;     /* of the process that registered last; 0: none was ever seen */
    bool alive;               /* its registration stands. Its lapse alone means nothing */
    uint64_t epoch, position; /* what its replica of the shard holds; epoch 0: nothing */
};

/* How the service itself is. */
struct views_service {
    const char *kind;         /* "static", "etcd", "memory" */
    uint64_t away_ms;         /* for so long nothing was heard of it; 0: it is there */
    uint64_t requests, failures;
    uint32_t proposals;       /* open wishes, of all shards, and for how long the oldest */
    uint64_t proposal_ms;
    char trouble[160];        /* "" or a sentence */
    char site[VIEWS_SITE_ID]; /* which site's views these are, for ever; "": not known, or it has no name */
};

struct views;
struct views_ops {
    /* `wake_fd`: an eventfd of the loop, written to when there is something to take. */
    void (*start)(struct views *v, uint16_t shard, const struct msg_node *self, int wake_fd);
    /* Nothing is written to the shard's `wake_fd` any more. */
    void (*stop)(struct views *v, uint16_t shard);
    /* 0, or which incarnation we are instead of the one that `start` was told of: one above all that this
     * node ever had, where the service remembers those. Asked before each `take`, until that gave a first
     * view: take gives none while this has something to say. NULL: never another. */
    uint64_t (*incarnation)(struct views *v, uint16_t shard);
    /* A replica said HELLO. `held`: epoch of the newest view whose primary it
     * ever joined, 0 if it holds nothing (msg_hello.head.view_epoch). */
    void (*heard)(struct views *v, uint16_t shard, const struct msg_node *replica, uint64_t held);
    /* The core's wish to replace view `old_epoch` by `want`. */
    void (*propose)(struct views *v, uint16_t shard, uint64_t old_epoch,
                    const struct shard_view *want);
    /* The next outcome; false: none. */
    bool (*take)(struct views *v, uint16_t shard, struct shard_view *out);
    /* What the shard may do now; `why`, if not NULL, gets a sentence for a
     * person when it may not serve ("" otherwise). */
    enum views_standing (*standing)(const struct views *v, uint16_t shard, char *why,
                                    uint32_t why_len);
    /* Our replica is `self` now (discarding makes a new incarnation), and holds
     * this much of a log; told whenever the loop publishes. */
    void (*holds)(struct views *v, uint16_t shard, const struct msg_node *self, uint64_t epoch,
                  uint64_t position);
    /* Number of the node that is the primary of any shard, 0: unknown. */
    uint32_t (*primary)(const struct views *v, uint16_t shard);
    /* False: there is no such node, or nothing is known of nodes here. */
    bool (*node)(const struct views *v, uint32_t node, uint16_t shard, struct views_node *out);
    /* An operator wants this node to serve what it holds, in the words of
     * views_rules.h. 0: proposed; else -errno and a sentence. */
    int (*accept_loss)(struct views *v, uint16_t shard, const uint32_t *fenced, uint32_t nfenced,
                       char *why, uint32_t why_len);
    void (*service)(const struct views *v, struct views_service *out);
    void (*destroy)(struct views *v);
};
struct views {
    const struct views_ops *ops;
    bool elects;              /* a backup may become the primary, so a drain hands over */
};

/*
 * The static pair: nodes[0] of the site is the primary for ever, nodes[1] (if
 * any) its backup. The primary grants its own proposals at once. What a pair
 * without a third party cannot know is whether a primary that starts empty had
 * a life before; so it asks its backup, and serves only after hearing that the
 * backup holds nothing. A backup that does hold state of an earlier primary
 * means LOST, until a restart with accept_loss.
 */
struct views_static_config {
    uint16_t shards;
    bool backup;              /* this node is nodes[1] */
    bool alone;               /* there is no nodes[1] */
    bool accept_loss;
    const char *peer;         /* the other node's name, for sentences; kept */
};
struct views *views_static_create(const struct views_static_config *config); /* NULL: no memory */

/* What the electing providers need to know of the site. */
struct views_site {
    uint16_t shards;
    uint32_t node, nodes;     /* this one's number, from 1; how many there are */
    uint32_t copies;
    uint32_t failure_timeout_ms;
    const char *const *names; /* of the nodes, [0] is node 1's; kept */
    const char *listen;       /* of this node, for its registration; kept */
    uint64_t incarnation;     /* of this process, as far as it knows: see views_ops.incarnation */
    bool accept_loss;         /* said at start: for shards of which nobody is left then */
};

#endif
