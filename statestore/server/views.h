/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The view service, as a shard's loop sees it: who replicates the shard, and
 * whether it may serve. The core never invents a view and the loop never
 * decides one; both ask here. Today's provider is the static pair (below); one
 * on etcd has the same five functions.
 *
 * Threads: everything about shard i is called by shard i's thread only, and a
 * provider keeps nothing that two shards share.
 * Order: start once; then, whenever something happened (heard, propose), take
 * until it is empty and hand each view to the core as SHARD_EV_VIEW.
 */
#ifndef STATESTORE_SERVER_VIEWS_H
#define STATESTORE_SERVER_VIEWS_H

#include "statestore/core/shard.h"

enum views_standing {
    VIEWS_FOLLOWING = 1,      /* a backup: joins through the primary */
    VIEWS_WAITING,            /* a primary that may not serve yet */
    VIEWS_LOST,               /* a primary that may not serve until an operator accepts the loss */
    VIEWS_SERVING
};

struct views;
struct views_ops {
    void (*start)(struct views *v, uint16_t shard, const struct msg_node *self);
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
    void (*destroy)(struct views *v);
};
struct views {
    const struct views_ops *ops;
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

#endif
