/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The primary's side of replication: a peer is a replica in the view, or in
 * the view proposed, or one that joins.
 *
 * Entries are sent in order, up to a window; if no acknowledgement makes
 * progress for resend_ms() the peer gets everything after its last one again
 * (go-back-N: it ignores what it has). A heartbeat is an APPEND without
 * entries. Silence for failure_timeout_ms, or a closed connection, makes the
 * primary propose a view without the peer; until that is answered commit still
 * needs it.
 *
 * An acknowledgement counts only from the incarnation and under the epoch of
 * the view. After a promotion nothing is executed until every member told its
 * position, and what one has more than we was fetched (collect.c).
 */
#include <assert.h>

#include "internal.h"

struct peer *peer_of_node(struct shard *s, const struct msg_node *n)
{
    for (int i = 0; i < PEERS_MAX; i++)
        if (s->peer[i].node.node && node_same(&s->peer[i].node, n))
            return &s->peer[i];
    return NULL;
}

struct peer *peer_add(struct shard *s, const struct msg_node *n)
{
    for (int i = 0; i < PEERS_MAX; i++) {
        struct peer *p = &s->peer[i];
        if (p->node.node)
            continue;
        *p = (struct peer){.node = *n, .heard_ms = s->now_ms, .progress_ms = s->now_ms,
                           .acked = s->commit, .sent = s->commit};
        return p;
    }
    return NULL;
}

void peer_remove(struct shard *s, struct peer *p)
{
    join_stop(p);
    *p = (struct peer){0};
}

/* Compares the peers with the view, and with the one proposed. */
void peers_adopt_view(struct shard *s)
{
    const struct shard_view *views[] = {&s->view, s->proposing ? &s->want : NULL};
    for (int i = 0; i < PEERS_MAX; i++)
        s->peer[i].in_view = false;
    for (int v = 0; v < 2 && s->role == SHARD_PRIMARY; v++)
        for (uint32_t i = 0; views[v] && i < views[v]->nmembers; i++) {
            const struct msg_node *n = &views[v]->members[i];
            struct peer *p = peer_of_node(s, n);
            if (node_same(n, &s->self))
                continue; /* we have what we have; a hand-over may be open */
            if (!p)
                p = peer_add(s, n);
            assert(p); /* on_join leaves room: commit must not miss a member */
            p->in_view = true;
        }
    for (int i = 0; i < PEERS_MAX; i++) {
        struct peer *p = &s->peer[i];
        if (!p->node.node)
            continue;
        if (s->role != SHARD_PRIMARY || (!p->in_view && !p->join.state))
            peer_remove(s, p);
        else if (view_index(&s->view, &p->node) >= 0)
            join_stop(p);
    }
}

void peers_new_epoch(struct shard *s)
{
    for (int i = 0; i < PEERS_MAX; i++) {
        struct peer *p = &s->peer[i];
        p->confirmed = false;
        p->told_ms = 0; /* a heartbeat asks for the position, and for a lease */
        if (p->node.node && p->conn)
            peer_send_view(s, p);
    }
}

void peers_we_were_away(struct shard *s, uint64_t ms)
{
    s->proposed_ms += ms;
    for (int i = 0; i < PEERS_MAX; i++)
        s->peer[i].heard_ms += ms;
    s->joining.heard_ms += ms;
    s->joining.stamped_ms += ms;
}

void peers_conn_closed(struct shard *s, uint32_t conn)
{
    for (int i = 0; i < PEERS_MAX; i++) {
        struct peer *p = &s->peer[i];
        if (!p->node.node || p->conn != conn)
            continue;
        p->conn = 0;
        p->lost = true;
        if (p->join.state && !p->in_view)
            peer_remove(s, p);
    }
}

void peer_send_view(struct shard *s, struct peer *p)
{
    struct msg_view m = {.nmembers = s->view.nmembers};
    memcpy(m.members, s->view.members, s->view.nmembers * sizeof *m.members);
    shard_send(s, p->conn, &m, MSG_VIEW, sizeof m);
}

/* The last word of a primary that is none any more. Others would hear of the view from the
 * service, later: until then the next primary is asked in vain by everybody who knows. */
void peers_tell_successor(struct shard *s)
{
    for (int i = 0; i < PEERS_MAX; i++)
        if (s->peer[i].node.node && s->peer[i].conn)
            peer_send_view(s, &s->peer[i]);
}

/* --- sending the log ------------------------------------------------------------------ */

struct msg_append *append_pack(struct shard *s, uint64_t after, uint64_t limit)
{
    struct msg_append *m = (struct msg_append *)s->scratch;
    uint8_t *body = (uint8_t *)(m + 1);
    uint64_t position = after;
    uint32_t used = 0;
    *m = (struct msg_append){.from = s->self, .first = after + 1, .commit = s->commit,
                             .shard_time_ms = s->time_ms};
    while (position < limit) {
        const struct entry *e = log_entry(s, position + 1);
        if (used && used + e->bytes > APPEND_BODY_BYTES)
            break;
        memcpy(body + used, e, e->bytes);
        used += e->bytes;
        position++;
        m->count++;
    }
    m->body_bytes = used;
    m->crc = crc32c(0, body, used);
    return m;
}

/* One APPEND with entries sent + 1 .. at most limit; without any it is a
 * heartbeat. */
static void send_append(struct shard *s, struct peer *p, uint64_t limit)
{
    struct msg_append *m = append_pack(s, p->sent, limit);
    p->sent += m->count;
    if (p->sent == s->position) {
        m->digest_position = p->sent;
        m->digest = s->digest;
    }
    m->stamp = lease_stamp(s);
    p->told_ms = s->now_ms;
    shard_send(s, p->conn, m, MSG_APPEND, (uint32_t)sizeof *m + m->body_bytes);
}

static uint64_t bytes_under_way(const struct shard *s, const struct peer *p)
{
    if (p->sent == p->acked)
        return 0;
    return s->log.at[p->sent & s->log.at_mask].offset -
           s->log.at[(p->acked + 1) & s->log.at_mask].offset;
}

static void flush(struct shard *s, struct peer *p)
{
    if (p->join.state)
        join_run(s, p);
    uint64_t limit = join_append_limit(s, p);
    while (p->sent < limit && bytes_under_way(s, p) < APPEND_WINDOW_BYTES)
        send_append(s, p, limit);
    if (s->now_ms >= p->told_ms + heartbeat_ms(s)) {
        if (!p->confirmed)
            peer_send_view(s, p);
        send_append(s, p, p->sent);
    }
}

/* Nobody answers, neither members nor the view service: then to go on speaking
 * would only keep them from taking over. What a mere joiner says is no answer. */
static bool is_deaf(const struct shard *s)
{
    uint32_t silence_ms = s->config.failure_timeout_ms;
    if (!s->proposing || s->now_ms <= s->proposed_ms + silence_ms)
        return false;
    for (int i = 0; i < PEERS_MAX; i++)
        if (s->peer[i].in_view && s->now_ms <= s->peer[i].heard_ms + silence_ms)
            return false;
    return true;
}

void peers_flush(struct shard *s)
{
    if (is_deaf(s))
        return;
    for (int i = 0; i < PEERS_MAX; i++)
        if (s->peer[i].node.node && s->peer[i].conn)
            flush(s, &s->peer[i]);
}

/* --- suspecting, resending -------------------------------------------------------------- */

/* A joiner must not make clients wait: it has to start again instead. */
static bool holds_back_log(const struct shard *s, const struct peer *p)
{
    const struct log *l = &s->log;
    return p->acked < s->commit && l->end - l->begin > l->room / 2;
}

static void tick(struct shard *s, struct peer *p)
{
    bool silent = s->now_ms > p->heard_ms + s->config.failure_timeout_ms;
    if (p->sent > p->acked && s->now_ms >= p->progress_ms + resend_ms(s)) {
        p->sent = p->acked;
        p->progress_ms = s->now_ms;
    }
    if (view_index(&s->view, &p->node) > 0) {
        if (p->lost || silent)
            propose_without(s, &p->node, p->lost ? "its connection closed" : "it is silent");
    } else if (!p->in_view && (s->now_ms > p->heard_ms + 4ull * s->config.failure_timeout_ms ||
                               holds_back_log(s, p))) {
        shard_note(s, "join given up: node=%u cause=\"it does not keep up\"", p->node.node);
        peer_remove(s, p);
    } else if (!p->in_view && !s->proposing && members_staying(s) >= copies_wanted(s)) {
        peer_remove(s, p); /* others were faster: it stays a spare */
    } else if (!p->in_view && silent) {
        p->join.gates = false; /* until it is heard again nobody waits for it */
    }
}

void peers_tick(struct shard *s)
{
    for (int i = 0; i < PEERS_MAX; i++)
        if (s->peer[i].node.node)
            tick(s, &s->peer[i]);
}

uint64_t peers_next_ms(const struct shard *s)
{
    uint64_t least = UINT64_MAX;
    if (s->role != SHARD_PRIMARY)
        return least;
    for (int i = 0; i < PEERS_MAX; i++) {
        const struct peer *p = &s->peer[i];
        uint64_t due = p->told_ms + heartbeat_ms(s);
        if (!p->node.node)
            continue;
        /* Nothing to tell: yet not so long that it is taken for having been away. */
        if (!p->conn || due <= s->now_ms)
            due = s->now_ms + heartbeat_ms(s);
        if (due < least)
            least = due;
    }
    return least;
}

/* --- acknowledgements ---------------------------------------------------------------------- */

static void compare_digest(struct shard *s, struct peer *p, const struct msg_ack *m)
{
    bool differs = m->digest_position == s->position && m->digest_position &&
                   m->digest != s->digest;
    if ((!differs && !m->drifted) || p->drifted)
        return;
    p->drifted = true;
    s->count.drifts++;
    shard_note(s, "drift: node=%u position=%lu cause=\"its digest differs\"", p->node.node,
               (unsigned long)m->digest_position);
}

/* Whose acknowledgement it is: of that incarnation, under our epoch, on the
 * connection that we send on. */
static struct peer *acknowledges(struct shard *s, const struct conn *c, const struct msg_ack *m)
{
    struct peer *p = peer_of_node(s, &m->self);
    if (SHARD_BUG(BUG_OTHER_INCARNATION_ACKS))
        for (int i = 0; i < PEERS_MAX; i++)
            if (s->peer[i].node.node == m->self.node && s->peer[i].in_view)
                return &s->peer[i];
    if (!p || p->conn != c->id)
        return NULL;
    if (m->head.view_epoch != s->view.epoch && !SHARD_BUG(BUG_STALE_EPOCH_ACCEPTED))
        return NULL;
    return p;
}

void on_ack(struct shard *s, struct conn *c, const struct msg_ack *m)
{
    struct peer *p = s->role == SHARD_PRIMARY ? acknowledges(s, c, m) : NULL;
    if (!p)
        return;
    uint64_t position = m->position < s->position ? m->position : s->position;
    p->heard_ms = s->now_ms;
    if (m->position > s->position && !s->collecting && !SHARD_BUG(BUG_SHORTER_TAIL)) {
        propose_without(s, &p->node, "it has entries that are no part of this log");
        return;
    }
    if (p->join.state && !p->join.begun)
        return;
    lease_granted(s, p, m->stamp);
    p->confirmed = true;
    p->told_position = m->position;
    if (position > p->acked) {
        p->acked = position;
        p->progress_ms = s->now_ms;
        if (p->sent < p->acked)
            p->sent = p->acked;
    }
    compare_digest(s, p, m);
    commit_update(s);
    log_trim(s);
}
