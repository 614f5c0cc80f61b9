/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the electing view providers (etcd, memory) have in common, pure: who is in
 * a shard's first view, when a shard is lost, and what an operator may accept.
 *
 * A member of a view is *proven* dead only by its node's own word: a newer
 * incarnation registered, for only one process at a time has the node's ports and
 * the older one's state is gone. A lapsed registration proves nothing. An
 * operator proves a death by fencing: making sure that the process cannot run.
 *
 * `nodes` has an entry per node of the site, [0] is node 1's.
 */
#ifndef STATESTORE_SERVER_VIEWS_RULES_H
#define STATESTORE_SERVER_VIEWS_RULES_H

#include "statestore/server/views.h"

/* The first view: the first `copies` live nodes, counted round from node
 * shard % nodes, once these are all there or `waited_ms` is long enough. A shard
 * that some node holds state of had a view before: then there is none, and `why`
 * says so. False: not (yet). */
bool rules_first_view(const struct views_site *site, uint16_t shard,
                      const struct views_node *nodes, uint64_t waited_ms, struct shard_view *out,
                      char *why, uint32_t why_len);

/* What `self` may do; as views_ops.standing. */
enum views_standing rules_standing(const struct views_site *site, uint16_t shard,
                                   const struct shard_view *view, const struct msg_node *self,
                                   const struct views_node *nodes, char *why, uint32_t why_len);

/* Nobody of the view is left, and that is proven. */
bool rules_lost(const struct shard_view *view, const struct views_node *nodes);

/* May `self` be named alone, with accepted_loss? 0 and the view to propose; -EPERM
 * and a sentence: who is neither proven dead nor among `fenced`, and what to do. */
int rules_accept_loss(const struct views_site *site, uint16_t shard,
                      const struct shard_view *view, const struct msg_node *self,
                      const struct views_node *nodes, const uint32_t *fenced, uint32_t nfenced,
                      struct shard_view *out, char *why, uint32_t why_len);

bool rules_same_node(const struct msg_node *a, const struct msg_node *b);
/* Members that came and went, for the operator's log. */
void rules_log_change(uint16_t shard, const struct shard_view *old, const struct shard_view *now);

#endif
