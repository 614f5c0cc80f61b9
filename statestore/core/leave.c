/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Leaving: a replica is about to be stopped, on purpose, and lives still.
 *
 *   backup   says LEAVE to its primary, again and again, until a view names it no more
 *   primary  knows it of itself
 *
 * Who leaves counts among the members as ever (it acknowledges, commit waits for it), but
 * not among the copies that are wanted: so the primary admits a spare beside it, and when
 * that has caught up ONE change of view puts the spare in and the leaver out. If the leaver
 * is the primary, the same change names another member the primary. No write waits for
 * anybody who is gone, and the shard is never on fewer copies than before.
 *
 * No spare asks to join within failure_timeout_ms: the view goes on without the leaver. The
 * last copy of all does not leave: the driver stops it when it likes (shard_may_stop).
 */
#include "internal.h"

static bool stays(const struct shard *s, const struct msg_node *n)
{
    const struct peer *p = peer_of_node((struct shard *)(uintptr_t)s, n);
    return node_same(n, &s->self) ? !s->leaving : !p || !p->leaving;
}

uint32_t members_staying(const struct shard *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->view.nmembers; i++)
        n += stays(s, &s->view.members[i]);
    return n;
}

uint32_t heir(struct shard *s)
{
    uint32_t best = 0;
    uint64_t most = 0;
    for (uint32_t i = 1; i < s->view.nmembers; i++) {
        const struct peer *p = peer_of_node(s, &s->view.members[i]);
        if (p && p->conn && p->confirmed && !p->leaving && (!best || p->acked > most)) {
            best = i;
            most = p->acked;
        }
    }
    return best;
}

bool view_of_stayers(struct shard *s, struct shard_view *want)
{
    uint32_t first = s->leaving ? heir(s) : 0;
    *want = (struct shard_view){0};
    if (s->leaving && !first)
        return members_staying(s) == 0;
    want->members[want->nmembers++] = s->view.members[first];
    for (uint32_t i = 0; i < s->view.nmembers; i++)
        if (i != first && stays(s, &s->view.members[i]))
            want->members[want->nmembers++] = s->view.members[i];
    return true;
}

static bool somebody_joins(const struct shard *s)
{
    for (int i = 0; i < PEERS_MAX; i++)
        if (s->peer[i].node.node && s->peer[i].join.state != JOIN_NO)
            return true;
    return false;
}

/* Since when the first of them leaves; 0: nobody does. */
static uint64_t leaving_since(const struct shard *s)
{
    uint64_t first = s->leaving ? s->leaving_ms : 0;
    for (int i = 0; i < PEERS_MAX; i++) {
        const struct peer *p = &s->peer[i];
        if (p->node.node && p->leaving && p->in_view && (!first || p->leaving_ms < first))
            first = p->leaving_ms;
    }
    return first;
}

static bool waited(const struct shard *s, uint64_t since)
{
    return since && s->now_ms >= since + s->config.failure_timeout_ms;
}

void leavers_tick(struct shard *s)
{
    struct shard_view want;
    if (!waited(s, leaving_since(s)) || !is_serving(s) || s->proposing || s->view.nmembers < 2 ||
        somebody_joins(s) || !view_of_stayers(s, &want))
        return;
    if (!want.nmembers) /* all leave: the last one is we */
        want = (struct shard_view){.nmembers = 1, .members = {s->self}};
    shard_note(s, "view proposed: primary=%u copies=%u cause=\"a member leaves, and nobody is there to "
               "take its place\"", want.members[0].node, want.nmembers);
    propose(s, &want);
}

void on_leave(struct shard *s, const struct conn *c, const struct msg_leave *m)
{
    struct peer *p = s->role == SHARD_PRIMARY ? peer_of_node(s, &m->self) : NULL;
    if (!p || p->conn != c->id || p->leaving || view_index(&s->view, &p->node) < 1)
        return;
    p->leaving = true;
    p->leaving_ms = s->now_ms;
    shard_note(s, "leaves: node=%u cause=\"it is to be stopped\"", p->node.node);
}

/* --- the leaver's side -------------------------------------------------------------------- */

void leave(struct shard *s)
{
    if (s->leaving)
        return;
    s->leaving = true;
    s->leaving_ms = s->now_ms;
    s->leave_told_ms = 0;
}

void leave_tell(struct shard *s)
{
    struct msg_leave m = {.self = s->self};
    if (!s->leaving || s->role != SHARD_BACKUP || !s->joining.conn || !s->joining.attached ||
        (s->leave_told_ms && s->now_ms < s->leave_told_ms + resend_ms(s)))
        return;
    s->leave_told_ms = s->now_ms ? s->now_ms : 1;
    shard_send(s, s->joining.conn, &m, MSG_LEAVE, sizeof m);
}

bool shard_may_stop(const struct shard *s)
{
    bool member = s->role == SHARD_PRIMARY || s->role == SHARD_BACKUP;
    bool last = s->role == SHARD_PRIMARY && s->view.nmembers == 1 && !s->proposing &&
                !somebody_joins(s);
    return !member || (last && s->leaving && waited(s, s->leaving_ms));
}
