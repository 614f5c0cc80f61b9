/* SPDX-License-Identifier: BSD-3-Clause */
/* The rules of the electing view providers (views_rules.h). */
#include "statestore/server/views_rules.h"

#include <errno.h>
#include <stdio.h>

#include "common/log/log.h"

enum { FIRST_VIEW_TIMEOUTS = 4, FIRST_VIEW_MIN_MS = 1000 };

bool rules_same_node(const struct msg_node *a, const struct msg_node *b)
{
    return a->node == b->node && a->incarnation == b->incarnation;
}

static const char *name_of(const struct views_site *site, uint32_t node)
{
    return node >= 1 && node <= site->nodes ? site->names[node - 1] : "a node that the site has not";
}

static bool proven_dead(const struct msg_node *m, const struct views_node *nodes)
{
    return nodes[m->node - 1].incarnation > m->incarnation;
}

/* --- the first view --------------------------------------------------------------------------- */

bool rules_first_view(const struct views_site *site, uint16_t shard,
                      const struct views_node *nodes, uint64_t waited_ms, struct shard_view *out,
                      char *why, uint32_t why_len)
{
    uint64_t patience = (uint64_t)FIRST_VIEW_TIMEOUTS * site->failure_timeout_ms;
    bool preferred = true;
    struct shard_view v = {.epoch = 1};
    if (patience < FIRST_VIEW_MIN_MS)
        patience = FIRST_VIEW_MIN_MS;
    for (uint32_t i = 0; i < site->nodes; i++)
        if (nodes[i].epoch) {
            snprintf(why, why_len, "no view of shard %u is kept, yet %s holds its state of epoch %lu: "
                     "the view was lost; restore it, or tell the node that is to serve: accept-loss "
                     "%u in-these-words-data-may-be-lost", shard, name_of(site, i + 1),
                     nodes[i].epoch, shard);
            return false;
        }
    for (uint32_t i = 0; i < site->nodes && v.nmembers < site->copies && v.nmembers < 3; i++) {
        uint32_t node = (shard + i) % site->nodes + 1;
        if (nodes[node - 1].alive)
            v.members[v.nmembers++] =
                (struct msg_node){.node = node, .incarnation = nodes[node - 1].incarnation};
        else
            preferred &= i >= site->copies;
    }
    preferred &= v.nmembers == site->copies || v.nmembers == 3;
    snprintf(why, why_len, "shard %u waits for %u nodes to register", shard, site->copies);
    if (!v.nmembers || (!preferred && waited_ms < patience))
        return false;
    *out = v;
    return true;
}

/* --- lost ---------------------------------------------------------------------------------------- */

bool rules_lost(const struct shard_view *view, const struct views_node *nodes)
{
    for (uint32_t i = 0; i < view->nmembers; i++)
        if (!proven_dead(&view->members[i], nodes))
            return false;
    return view->nmembers > 0;
}

/* Who has most of it still, 0: nobody anything. */
static uint32_t fullest(const struct views_site *site, const struct views_node *nodes)
{
    uint32_t best = 0;
    for (uint32_t i = 0; i < site->nodes; i++) {
        const struct views_node *n = &nodes[i], *b = best ? &nodes[best - 1] : NULL;
        if (n->alive && n->epoch &&
            (!b || n->epoch > b->epoch || (n->epoch == b->epoch && n->position > b->position)))
            best = i + 1;
    }
    return best;
}

static void say_lost(const struct views_site *site, uint16_t shard, const struct shard_view *view,
                     const struct views_node *nodes, char *why, uint32_t len)
{
    uint32_t best = fullest(site, nodes);
    if (best)
        snprintf(why, len, "LOST: nobody of shard %u's view %lu is left; %s holds epoch %lu up to %lu. "
                 "To serve that, tell it: accept-loss %u in-these-words-data-may-be-lost", shard,
                 view->epoch, name_of(site, best), nodes[best - 1].epoch, nodes[best - 1].position,
                 shard);
    else
        snprintf(why, len, "LOST: nobody of shard %u's view %lu is left, nor any data. To start empty, "
                 "tell a node: accept-loss %u in-these-words-data-may-be-lost", shard, view->epoch,
                 shard);
}

enum views_standing rules_standing(const struct views_site *site, uint16_t shard,
                                   const struct shard_view *view, const struct msg_node *self,
                                   const struct views_node *nodes, char *why, uint32_t why_len)
{
    why[0] = 0;
    if (!view->epoch)
        return VIEWS_WAITING;
    if (rules_same_node(&view->members[0], self))
        return VIEWS_SERVING;
    if (!rules_lost(view, nodes))
        return VIEWS_FOLLOWING;
    say_lost(site, shard, view, nodes, why, why_len);
    return VIEWS_LOST;
}

/* --- accepting a loss -------------------------------------------------------------------------------- */

static bool is_fenced(uint32_t node, const uint32_t *fenced, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (fenced[i] == node)
            return true;
    return false;
}

int rules_accept_loss(const struct views_site *site, uint16_t shard,
                      const struct shard_view *view, const struct msg_node *self,
                      const struct views_node *nodes, const uint32_t *fenced, uint32_t nfenced,
                      struct shard_view *out, char *why, uint32_t why_len)
{
    uint64_t epoch = view->epoch;
    for (uint32_t i = 0; i < view->nmembers; i++) {
        const struct msg_node *m = &view->members[i];
        if (rules_same_node(m, self) || proven_dead(m, nodes) || is_fenced(m->node, fenced, nfenced))
            continue;
        snprintf(why, why_len, "%s of shard %u's view %lu is not proven dead: %s. If it is dead, start "
                 "it again: that proves it. If that cannot be, make sure that its process cannot run "
                 "any more and add --fenced %s", name_of(site, m->node), shard, view->epoch,
                 nodes[m->node - 1].alive ? "it is registered"
                                          : "that its registration lapsed proves nothing",
                 name_of(site, m->node));
        return -EPERM;
    }
    for (uint32_t i = 0; i < site->nodes; i++) /* a view that the service forgot */
        if (nodes[i].epoch > epoch)
            epoch = nodes[i].epoch;
    *out = (struct shard_view){.epoch = epoch + 1, .nmembers = 1, .members = {*self},
                               .accepted_loss = true};
    return 0;
}

/* --- the log ------------------------------------------------------------------------------------------ */

static bool has(const struct shard_view *v, const struct msg_node *n)
{
    for (uint32_t i = 0; i < v->nmembers; i++)
        if (rules_same_node(&v->members[i], n))
            return true;
    return false;
}

void rules_log_change(uint16_t shard, const struct shard_view *old, const struct shard_view *now)
{
    if (now->accepted_loss)
        log_warn("loss accepted", "shard=%u node=%u epoch=%lu", shard, now->members[0].node,
                 now->epoch);
    for (uint32_t i = 0; i < old->nmembers; i++)
        if (!has(now, &old->members[i]))
            log_warn(i ? "backup dropped" : "primary dropped", "shard=%u node=%u epoch=%lu copies=%u",
                     shard, old->members[i].node, now->epoch, now->nmembers);
    for (uint32_t i = 0; old->epoch && i < now->nmembers; i++)
        if (!has(old, &now->members[i]))
            log_info("backup caught up", "shard=%u node=%u epoch=%lu copies=%u", shard,
                     now->members[i].node, now->epoch, now->nmembers);
    if (!old->epoch || !rules_same_node(&old->members[0], &now->members[0]))
        log_info("primary", "shard=%u node=%u epoch=%lu copies=%u", shard, now->members[0].node,
                 now->epoch, now->nmembers);
}
