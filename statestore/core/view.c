/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Roles and views. The view service has the last word; this file says what a
 * word of it makes of a replica:
 *
 *   now        the new view has us as  becomes   and
 *   primary    primary                 primary   members are compared
 *   primary    another member          backup    its log may be the longest
 *   primary    nothing                 idle      state is kept, inert; next JOIN
 *   backup     primary                 primary   takes over: collect.c
 *   backup     backup                  backup
 *   backup     nothing                 idle      as above
 *   joining    backup (complete)       backup
 *   joining    primary (complete)      primary
 *   joining    primary otherwise       lost
 *   joining    nothing                 joining
 *   idle       primary, epoch 1, empty primary   a fresh start
 *   idle, lost primary, accepted_loss  primary   of what it holds
 *   idle       primary otherwise       lost      refuses until an operator decides
 *   idle       backup, epoch 1, empty  backup    a fresh start
 *
 * "Us" means node and incarnation. Leaving a view makes a new incarnation, so
 * that nothing said by the old one counts any more. What it holds stays, for it
 * may be the last copy, until the snapshot of its rejoin begins.
 *
 * Proposals: the primary asks for views without a silent member, with one that
 * caught up, or led by another member; a backup asks for one without its
 * primary. One at a time. A primary's is over when the epoch has moved past the
 * one it compared, and until then commit needs both views (log.c) and nothing
 * is told that no commit proves (lease.c). If meanwhile no member is heard, a
 * primary keeps silent, too, so that a backup may suspect it: it may be one that
 * hears nothing but can still speak. A backup's changes nothing in what
 * it does: it goes on acknowledging until it learns of another view.
 */
#include "internal.h"

bool node_same(const struct msg_node *a, const struct msg_node *b)
{
    return a->node == b->node && a->incarnation == b->incarnation;
}

int view_index(const struct shard_view *v, const struct msg_node *n)
{
    for (uint32_t i = 0; i < v->nmembers; i++)
        if (node_same(&v->members[i], n))
            return (int)i;
    return -1;
}

/* --- proposals -------------------------------------------------------------------------- */

void propose(struct shard *s, const struct shard_view *want)
{
    s->proposing = true;
    s->proposed_ms = s->now_ms;
    s->want = *want;
    s->want.epoch = s->view.epoch + 1;
    peers_adopt_view(s);
    s->out->propose_view(s->out->ctx, s->view.epoch, &s->want);
}

void propose_without(struct shard *s, const struct msg_node *gone, const char *why)
{
    struct shard_view want = {0};
    if (s->proposing || view_index(&s->view, gone) < 1)
        return;
    for (uint32_t i = 0; i < s->view.nmembers; i++)
        if (!node_same(&s->view.members[i], gone))
            want.members[want.nmembers++] = s->view.members[i];
    shard_note(s, "view proposed: without=%u cause=\"%s\"", gone->node, why);
    propose(s, &want);
}

uint32_t copies_wanted(const struct shard *s)
{
    return s->config.copies && s->config.copies < 3 ? s->config.copies : 3;
}

/* A joiner has no say: it may lack what was told. */
static bool may_suspect(const struct shard *s)
{
    if (SHARD_BUG(BUG_JOINER_TAKES_OVER) && s->role == SHARD_JOINING && s->joining.running)
        return true;
    return s->role == SHARD_BACKUP && view_index(&s->view, &s->self) > 0;
}

void suspect(struct shard *s, const char *why)
{
    struct shard_view want = {.nmembers = 1, .members = {s->self}};
    if (s->proposing || !may_suspect(s))
        return;
    for (uint32_t i = 1; i < s->view.nmembers; i++)
        if (!node_same(&s->view.members[i], &s->self))
            want.members[want.nmembers++] = s->view.members[i];
    if (!s->joining.suspected)
        shard_note(s, "take-over proposed: from=%u cause=\"%s\"", s->view.members[0].node, why);
    s->joining.suspected = true;
    propose(s, &want);
}

/* The member that has most, first; the others as they were. */
void hand_over(struct shard *s)
{
    uint32_t best = heir(s);
    if (!is_serving(s) || s->proposing || !best) {
        order_refuse(s, "no hand-over of shard %u: %s", s->config.shard,
                     s->role != SHARD_PRIMARY ? "this is not the primary"
                     : s->collecting ? "it is taking over; ask again"
                     : s->proposing ? "a change of view is under way; ask again"
                                    : "no other member is there to take it; add a replica first");
        return;
    }
    struct shard_view want = {.nmembers = 1, .members = {s->view.members[best]}};
    for (uint32_t i = 1; i < s->view.nmembers; i++)
        if (i != best)
            want.members[want.nmembers++] = s->view.members[i];
    want.members[want.nmembers++] = s->self;
    shard_note(s, "hand-over: to=%u cause=\"ordered\"", want.members[0].node);
    propose(s, &want);
}

/* --- roles ------------------------------------------------------------------------------ */

/* Whatever only a primary has goes. */
static void step_down(struct shard *s)
{
    replies_drop_all(s);
    timers_stop(s);
    clients_forget_local(s);
    if (!SHARD_BUG(BUG_OLD_CLIENT_ID))
        conns_forget_clients(s);
    s->proposing = s->collecting = false;
    s->joining.running = s->joining.complete = s->joining.attached = false;
    s->joining.asked_ms = 0;
    s->joining.stamp = 0;
}

void leave_view(struct shard *s, const char *why)
{
    shard_note(s, "view left: cause=\"%s\" it will rejoin as a new incarnation", why);
    step_down(s);
    s->role = SHARD_IDLE;
    s->self.incarnation++;
    peers_adopt_view(s);
}

static void become_primary(struct shard *s)
{
    s->leaving_ms = s->now_ms; /* if we leave: others are given time to ask for our place */
    s->unserved_ms = s->role == SHARD_BACKUP && s->joining.heard_ms ? s->joining.heard_ms
                                                                    : s->now_ms;
    s->role = SHARD_PRIMARY;
    s->has_state = true;
    s->time_offset = s->time_ms - s->now_ms;
    s->joining.running = false;
    shard_note(s, "primary: epoch=%lu position=%lu", (unsigned long)s->view.epoch,
               (unsigned long)s->position);
    collect_begin(s);
}

/* The new primary is given time to speak. */
static void follow(struct shard *s)
{
    s->ack_due = true;
    s->joining.heard_ms = s->now_ms;
    s->joining.stamp = 0;
}

static void become_backup(struct shard *s)
{
    s->role = SHARD_BACKUP;
    s->has_state = true;
    s->joining.running = false;
    follow(s);
    shard_note(s, "backup: epoch=%lu position=%lu", (unsigned long)s->view.epoch,
               (unsigned long)s->position);
}

static void become_lost(struct shard *s)
{
    s->role = SHARD_LOST;
    s->joining.running = false;
    shard_note(s, "lost: epoch=%lu cause=\"named primary without its data; refusing everybody\"",
               (unsigned long)s->view.epoch);
}

static void adopt_as_idle(struct shard *s, int at)
{
    bool fresh = s->view.epoch == 1 && !s->has_state;
    if (at == 0 && (fresh || s->view.accepted_loss)) {
        become_primary(s);
    } else if (at == 0) {
        become_lost(s);
    } else if (at > 0 && fresh) {
        become_backup(s);
    } else if (at > 0) {
        leave_view(s, "it names this incarnation, which has no data");
    }
}

static void adopt_as_joiner(struct shard *s, int at)
{
    bool whole = s->joining.complete && s->position >= s->joining.whole_at;
    if (at > 0 && s->joining.complete) {
        become_backup(s);
    } else if (at > 0) {
        leave_view(s, "it names us before we have caught up");
    } else if (at == 0 && (whole || SHARD_BUG(BUG_JOINER_TAKES_OVER))) {
        become_primary(s); /* was a member already, and nobody lived to tell us */
    } else if (at == 0 && s->view.accepted_loss) {
        state_discard(s); /* parts of slots are of no use */
        become_primary(s);
    } else if (at == 0) {
        become_lost(s);
    } else if (s->view.nmembers && s->joining.source.node &&
               !node_same(&s->view.members[0], &s->joining.source)) {
        s->joining.running = false; /* the new primary begins anew */
    }
}

static void adopt(struct shard *s)
{
    int at = view_index(&s->view, &s->self);
    switch (s->role) {
    case SHARD_PRIMARY:
        if (at != 0)
            peers_tell_successor(s);
        if (at < 0) {
            leave_view(s, "another replica is the primary now");
        } else if (at > 0) {
            step_down(s);
            become_backup(s);
        }
        break;
    case SHARD_BACKUP:
        if (at == 0)
            become_primary(s);
        else if (at < 0)
            leave_view(s, "it names us no more");
        else
            follow(s);
        break;
    case SHARD_JOINING: adopt_as_joiner(s, at); break;
    case SHARD_IDLE:
    case SHARD_LOST: adopt_as_idle(s, at); break;
    }
}

/* An answer to a backup's proposal that is no later view: it failed. */
static void stands(struct shard *s)
{
    bool primary = s->role == SHARD_PRIMARY && !SHARD_BUG(BUG_UNKNOWN_TAKEN_FOR_FAILURE);
    if (!s->proposing || primary)
        return;
    s->proposing = false;
    peers_adopt_view(s);
    s->joining.stamped_ms = s->now_ms;
    s->joining.heard_ms = s->now_ms; /* once more, after as long a silence */
}

void on_view(struct shard *s, const struct shard_view *v)
{
    bool older = v->epoch < s->view.epoch && SHARD_BUG(BUG_STALE_EPOCH_ACCEPTED);
    if (v->epoch <= s->view.epoch && !older) {
        /* A snapshot told a joiner the number only. */
        if (v->epoch == s->view.epoch && !s->view.nmembers)
            s->view = *v;
        stands(s);
        return;
    }
    bool other = !v->nmembers || !s->view.nmembers ||
                 !node_same(&v->members[0], &s->view.members[0]);
    s->proposing = false; /* the epoch has moved past the one it compared */
    s->view = *v;
    s->counts.views++;
    s->joining.attached &= s->role == SHARD_BACKUP && !other;
    adopt(s);
    peers_adopt_view(s);
    if (s->role != SHARD_PRIMARY)
        return;
    peers_new_epoch(s);
    commit_update(s);
}
