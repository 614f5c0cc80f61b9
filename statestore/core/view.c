/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Roles and views. The view service has the last word; this file says what a
 * word of it makes of a replica:
 *
 *   now        the new view has us as  becomes   and
 *   primary    primary                 primary   members are compared
 *   primary    anything else           idle      state is kept, inert; next JOIN
 *   backup     primary                 primary   adopts its whole log; waits until
 *                                                every member told its position
 *   backup     backup                  backup
 *   backup     nothing                 idle      as above
 *   joining    backup (complete)       backup
 *   joining    primary (complete)      primary
 *   joining    primary otherwise       lost
 *   joining    nothing                 joining
 *   idle       primary, epoch 1, empty primary   a fresh start
 *   idle       primary otherwise       lost      refuses until an operator decides
 *   idle       backup, epoch 1, empty  backup    a fresh start
 *
 * "Us" means node and incarnation. Leaving a view makes a new incarnation, so
 * that nothing said by the old one counts any more.
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

void propose(struct shard *s, const struct shard_view *want)
{
    s->proposing = true;
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
    shard_note(s, "proposing a view without node %u: %s", gone->node, why);
    propose(s, &want);
}

void leave_view(struct shard *s, const char *why)
{
    shard_note(s, "left the view: %s; will rejoin as a new incarnation", why);
    replies_drop_all(s);
    s->role = SHARD_IDLE;
    s->self.incarnation++;
    s->proposing = s->collecting = false;
    s->joining.running = s->joining.complete = s->joining.attached = false;
    s->joining.asked_ms = 0;
    peers_adopt_view(s);
}

static void become_primary(struct shard *s)
{
    s->role = SHARD_PRIMARY;
    s->has_state = true;
    /* The last primary may have told versions of async entries that died with it. */
    s->version_floor = (s->view.epoch - 1) << VERSION_EPOCH_SHIFT;
    s->time_offset = s->time_ms - s->now_ms;
    s->leases_checked_ms = s->time_ms;
    s->joining.running = false;
    clients_renew_all(s);
    volatile_discard(s);
    timers_promote(s);
    consumers_promote(s);
    s->collecting = s->view.nmembers > 1;
    shard_note(s, "primary of epoch %lu from position %lu on", (unsigned long)s->view.epoch,
               (unsigned long)s->position);
}

static void become_backup(struct shard *s)
{
    s->role = SHARD_BACKUP;
    s->has_state = true;
    s->joining.running = false;
    s->ack_due = true;
    shard_note(s, "backup in epoch %lu at position %lu", (unsigned long)s->view.epoch,
               (unsigned long)s->position);
}

static void become_lost(struct shard *s)
{
    s->role = SHARD_LOST;
    s->joining.running = false;
    shard_note(s, "named primary of epoch %lu without its data: refusing everybody",
               (unsigned long)s->view.epoch);
}

static void adopt_as_idle(struct shard *s, int at)
{
    bool fresh = s->view.epoch == 1 && !s->has_state;
    if (at == 0 && fresh) {
        become_primary(s);
    } else if (at == 0) {
        become_lost(s);
    } else if (at > 0 && fresh) {
        become_backup(s);
    } else if (at > 0) {
        leave_view(s, "it names this incarnation, which has no data");
    }
}

static void adopt(struct shard *s)
{
    int at = view_index(&s->view, &s->self);
    switch (s->role) {
    case SHARD_PRIMARY:
        if (at != 0)
            leave_view(s, "another replica is the primary now");
        break;
    case SHARD_BACKUP:
        if (at == 0)
            become_primary(s);
        else if (at < 0)
            leave_view(s, "it names us no more");
        else
            s->ack_due = true;
        break;
    case SHARD_JOINING:
        if (at > 0 && s->joining.complete)
            become_backup(s);
        else if (at == 0 && s->joining.complete && s->position >= s->joining.whole_at)
            become_primary(s); /* was a member already, and nobody lived to tell us */
        else if (at == 0)
            become_lost(s);
        else if (at > 0)
            leave_view(s, "it names us before we have caught up");
        break;
    case SHARD_IDLE:
    case SHARD_LOST: adopt_as_idle(s, at); break;
    }
}

static bool same_members(const struct shard_view *a, const struct shard_view *b)
{
    if (a->nmembers != b->nmembers)
        return false;
    for (uint32_t i = 0; i < a->nmembers; i++)
        if (!node_same(&a->members[i], &b->members[i]))
            return false;
    return true;
}

void on_view(struct shard *s, const struct shard_view *v)
{
    bool known = v->epoch == s->view.epoch && same_members(v, &s->view);
    bool answered = s->proposing && (known || v->epoch > s->view.epoch);
    if (!known && v->epoch <= s->view.epoch)
        return;
    if (answered)
        s->proposing = false;
    if (!known) {
        s->view = *v;
        s->joining.attached &= s->role == SHARD_BACKUP;
        adopt(s);
    }
    peers_adopt_view(s);
    if (s->role != SHARD_PRIMARY)
        return;
    if (!known)
        peers_new_epoch(s);
    if (answered)
        replies_release_suspended(s);
    commit_update(s);
}
