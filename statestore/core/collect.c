/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Taking over: what a new primary does between being named and serving.
 *
 *   seal     it tells the members of the view (MSG_VIEW; or their own view
 *            service does). A member of epoch e + 1 acknowledges nothing, and
 *            grants no lease, under an earlier epoch: the old primary can
 *            neither commit nor read any more once one member knows.
 *   collect  each member's first acknowledgement under the epoch tells its
 *            position. Whoever has more than we is asked (MSG_FETCH) and sends
 *            it (MSG_TAIL); we apply it as a backup does, until nobody has
 *            more. A silent member leaves the view first (peer.c).
 *   wait     nobody is answered before one maximum lease is over, counted from
 *            when we observed the view (lease.c): an earlier primary may
 *            answer reads until then, whoever it was and whatever it
 *            promised us. Only the first view of all has no earlier primary.
 *   serve    timers, client leases, versions.
 *
 * What was adopted is committed when every member acknowledged it under the
 * new epoch, as any other entry is: a new primary begins with what its members
 * are known to have, and that is what was committed before.
 */
#include <errno.h>

#include "internal.h"

void collect_begin(struct shard *s)
{
    bool wait = s->view.epoch > 1 && !SHARD_BUG(BUG_NO_WAIT);
    s->collecting = true;
    s->serve_after_ms = wait ? s->now_ms + lease_wait_ms(s) : s->now_ms;
}

static void send_fetch(struct shard *s, struct peer *p)
{
    struct msg_fetch m = {.from = s->self, .first = s->position + 1};
    p->fetch_sent_ms = s->now_ms ? s->now_ms : 1;
    p->fetch_left = APPEND_WINDOW_BYTES;
    shard_send(s, p->conn, &m, MSG_FETCH, sizeof m);
}

/* True: everybody told its position, and nobody has more than we. */
static bool nothing_is_missing(struct shard *s)
{
    bool whole = true;
    for (uint32_t i = 1; i < s->view.nmembers; i++) {
        struct peer *p = peer_of_node(s, &s->view.members[i]);
        if (!p || !p->confirmed) {
            whole = false;
        } else if (p->told_position > s->position && !SHARD_BUG(BUG_SHORTER_TAIL)) {
            whole = false;
            if (p->conn && (!p->fetch_sent_ms || s->now_ms >= p->fetch_sent_ms + resend_ms(s)))
                send_fetch(s, p);
        }
    }
    return whole;
}

static void serve(struct shard *s)
{
    s->collecting = false;
    s->counts.takeovers++;
    s->counts.takeover_last_ms = s->now_ms - s->unserved_ms;
    s->counts.takeover_ms += s->counts.takeover_last_ms;
    /* Earlier primaries may have told versions of async entries that died with them. */
    s->version_floor = (s->view.epoch - 1) << VERSION_EPOCH_SHIFT;
    s->time_offset = s->time_ms - s->now_ms;
    s->leases_checked_ms = s->time_ms;
    clients_renew_all(s);
    volatile_discard(s);
    timers_promote(s);
    consumers_promote(s);
    shard_note(s, "serving: epoch=%lu position=%lu unserved_ms=%lu cause=\"nobody has more, and earlier "
               "leases are over\"", (unsigned long)s->view.epoch, (unsigned long)s->position,
               (unsigned long)s->counts.takeover_last_ms);
}

void collect_run(struct shard *s)
{
    if (s->role == SHARD_PRIMARY && s->collecting && nothing_is_missing(s) &&
        s->now_ms >= s->serve_after_ms)
        serve(s);
}

/* What is missing comes by frames; asking again is due with the heartbeats. */
uint64_t collect_next_ms(const struct shard *s)
{
    bool waits = s->role == SHARD_PRIMARY && s->collecting && s->serve_after_ms > s->now_ms;
    return waits ? s->serve_after_ms : UINT64_MAX;
}

/* --- the member's side -------------------------------------------------------------- */

void on_fetch(struct shard *s, const struct msg_fetch *m)
{
    if (s->role != SHARD_BACKUP || m->head.view_epoch != s->view.epoch ||
        !node_same(&m->from, &s->view.members[0]) || m->first < s->log.first)
        return;
    s->joining.heard_ms = s->now_ms;
    uint64_t position = m->first - 1, bytes = 0;
    while (position < s->position && bytes < APPEND_WINDOW_BYTES) {
        struct msg_append *tail = append_pack(s, position, s->position);
        position += tail->count;
        bytes += tail->body_bytes;
        shard_send(s, s->joining.conn, tail, MSG_TAIL, (uint32_t)sizeof *tail + tail->body_bytes);
    }
}

/* --- the new primary's -------------------------------------------------------------- */

void on_tail(struct shard *s, struct conn *c, const struct msg_append *m)
{
    struct peer *p = peer_of_node(s, &m->from);
    if (s->role != SHARD_PRIMARY || !s->collecting || !p || p->conn != c->id ||
        view_index(&s->view, &p->node) < 1 || m->head.view_epoch != s->view.epoch ||
        crc32c(0, m + 1, m->body_bytes) != m->crc)
        return;
    p->heard_ms = s->now_ms;
    uint64_t before = s->position;
    const char *wrong = take_entries(s, m);
    if (wrong) {
        leave_view(s, wrong); /* the others have it all, and one of them will suspect us */
        return;
    }
    if (SHARD_BUG(BUG_TAIL_COMMITTED))
        commit_to(s, s->position);
    /* Committed under an earlier epoch: all members have it, we had not heard. */
    if (m->commit > s->commit)
        commit_to(s, m->commit < s->position ? m->commit : s->position);
    p->fetch_left -= p->fetch_left < m->body_bytes ? p->fetch_left : m->body_bytes;
    if (s->position > before && p->fetch_left == 0)
        p->fetch_sent_ms = 0; /* it sent as much as it does at a time: ask for more */
}
