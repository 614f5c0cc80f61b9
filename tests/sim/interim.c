/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the core does not do by itself: promoting a member when a primary's
 * process is dead.
 */
#include "interim.h"

#include <errno.h>
#include <stdlib.h>

/* e->a: node, e->b: shard */
static void promote(struct world *w, const struct event *e)
{
    int shard = (int)e->b;
    struct shard_key *key = &w->keys[shard];
    const struct replica *dead = &w->replicas[e->a][shard];
    if (views_primary(w, shard) != (int)e->a ||
        (w->procs[e->a].alive && views_has(w, dead)))
        return;
    for (uint32_t i = 1; i < key->view.nmembers; i++) {
        struct replica *r = &w->replicas[key->view.members[i].node - 1][shard];
        if (!w->procs[r->proc].alive || !views_has(w, r))
            continue;
        key->view = (struct shard_view){.epoch = key->view.epoch + 1, .nmembers = 1};
        key->view.members[0] = r->self;
        trace(w, PROC_VIEWS, "promotes %s", r->name);
        node_view_answer(w, r, 0, PROPOSAL_STANDS, &key->view);
        return;
    }
    w->counts.lost++;
    w->lost = w->over = true;
}

void interim_died(struct world *w, int node)
{
    for (int shard = 0; shard < SHARDS; shard++)
        if (views_primary(w, shard) == node)
            sched_at(w, w->now_us + rng_between(&w->rng, 5000, 150000), PROC_VIEWS, promote,
                     (uint64_t)node, (uint64_t)shard, NULL);
}

bool interim_goes_elsewhere(const void *frame)
{
    const struct msg_head *h = frame;
    const struct msg_results *r = frame;
    if (h->type == MSG_WELCOME)
        return !((const struct msg_welcome *)frame)->primary;
    if (h->type == MSG_TABLE)
        return ((const struct msg_table *)frame)->id == -EAGAIN;
    return h->type == MSG_RESULTS && r->nres &&
           ((const struct txn_result_head *)(r + 1))->status == TXN_NOT_PRIMARY;
}
