/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The primary's side of a join: snapshot and live log at the same time, while
 * writes go on.
 *
 * SNAP_BEGIN says at which position the log begins that will follow. Then
 * slots are encoded, as many in one go as make SNAPSHOT_STEP_BYTES, all at the
 * position P where the log stands; their parts go out, CHUNK_WINDOW at a time,
 * and are sent again until acknowledged. Until all have been, the log is held
 * at P for this peer only. So a slot's parts always meet a joiner that is not
 * past P; if reordering makes it so, it refuses and the slot is encoded afresh.
 *
 * The view proposed is without those that leave (leave.c).
 *
 * When every slot has arrived and what the joiner lacks fits the window, commit
 * begins to wait for it; when it has all that was committed before, a view with
 * it is proposed. So whoever the view names has every entry that was ever told.
 * Nor has it, in its snapshot, what the other members lack: it could not send
 * them that, nor know which replies have to wait for it.
 */
#include <stdlib.h>

#include "internal.h"

void join_stop(struct peer *p)
{
    free(p->join.body);
    free(p->join.parts);
    p->join = (struct join){0};
}

uint64_t join_append_limit(const struct shard *s, const struct peer *p)
{
    if (p->join.state != JOIN_SNAPSHOT)
        return s->position;
    return p->join.begun ? p->join.position : p->join.begin;
}

static void join_start(struct shard *s, struct peer *p)
{
    struct join *j = &p->join;
    join_stop(p);
    j->state = JOIN_SNAPSHOT;
    j->snapshot = s->view.epoch << 32 | ++s->snapshots;
    j->begin = j->position = s->position;
    p->acked = p->sent = s->position;
    p->confirmed = p->drifted = false;
    for (uint32_t slot = 0; slot < LETHE_SLOTS; slot++)
        j->todo[slot] = 1; /* what is not ours has a forwarding, and kept results */
    j->todo[SLOT_BASE] = 1;
    shard_note(s, "join begun: node=%u position=%lu cause=\"it asked\"", p->node.node, (unsigned long)j->begin);
}

static void attach(struct shard *s, struct peer *p, const struct conn *c)
{
    p->heard_ms = s->now_ms;
    if (p->conn == c->id)
        return;
    p->conn = c->id;
    p->proto = c->proto;
    p->lost = false;
    p->sent = p->acked;
    p->told_ms = 0;
}

/* The replica at `n`'s node has started again. False: an earlier one is still
 * in the view, or in the view proposed. */
static bool drop_earlier(struct shard *s, const struct msg_node *n)
{
    bool none = true;
    for (int i = 0; i < PEERS_MAX; i++) {
        struct peer *p = &s->peer[i];
        if (p->node.node != n->node || node_same(&p->node, n))
            continue;
        if (p->in_view) {
            propose_without(s, &p->node, "it came back without its state");
            none = false;
        } else {
            peer_remove(s, p);
        }
    }
    return none;
}

/* Incarnations grow: what an earlier one said comes late. */
static bool is_of_the_past(const struct shard *s, const struct msg_node *n)
{
    for (int i = 0; i < PEERS_MAX; i++)
        if (s->peer[i].node.node == n->node && s->peer[i].node.incarnation > n->incarnation)
            return true;
    return false;
}

static uint32_t joiners(const struct shard *s)
{
    uint32_t n = 0;
    for (int i = 0; i < PEERS_MAX; i++)
        n += s->peer[i].node.node && view_index(&s->view, &s->peer[i].node) < 0;
    return n;
}

/* A spare keeps asking: when a member has left it is its turn. */
static bool may_begin(const struct shard *s)
{
    uint32_t n = joiners(s);
    return !s->collecting && n < JOINERS_MAX && members_staying(s) + n < copies_wanted(s);
}

void on_join(struct shard *s, struct conn *c, const struct msg_join *m)
{
    if (s->role != SHARD_PRIMARY || !m->self.node || m->self.node == s->self.node ||
        is_of_the_past(s, &m->self))
        return;
    struct peer *p = peer_of_node(s, &m->self);
    bool member = view_index(&s->view, &m->self) > 0;
    drop_earlier(s, &m->self);
    if (!p && may_begin(s) && (p = peer_add(s, &m->self)))
        join_start(s, p);
    if (!p)
        return;
    attach(s, p, c);
    if (member || m->head.view_epoch != s->view.epoch)
        peer_send_view(s, p);
}

/* --- encoding ------------------------------------------------------------------------ */

static bool add_part(struct join *j, uint16_t slot, uint16_t part, uint32_t from, uint32_t to)
{
    if (j->nparts == j->parts_room) {
        uint32_t room = j->parts_room ? 2 * j->parts_room : 512;
        struct chunk_part *parts = realloc(j->parts, room * sizeof *parts);
        if (!parts)
            return false;
        j->parts = parts;
        j->parts_room = room;
    }
    j->parts[j->nparts++] =
        (struct chunk_part){.offset = from, .bytes = to - from, .slot = slot, .part = part};
    return true;
}

/* Cuts body [from, to) into parts of whole effects. */
static bool cut(struct join *j, uint16_t slot, uint32_t from, uint32_t to)
{
    uint32_t first = j->nparts, begin = from;
    for (uint32_t at = from; at < to;) {
        uint32_t next = at + ((const struct effect *)(j->body + at))->bytes;
        if (next - begin > CHUNK_BODY_BYTES && at > begin) {
            if (!add_part(j, slot, (uint16_t)(j->nparts - first), begin, at))
                return false;
            begin = at;
        }
        at = next;
    }
    if (!add_part(j, slot, (uint16_t)(j->nparts - first), begin, to))
        return false;
    for (uint32_t i = first; i < j->nparts; i++)
        j->parts[i].last_part = (uint16_t)(j->nparts - first - 1);
    return true;
}

static bool encode_some(struct shard *s, struct join *j)
{
    struct bytes b = {.data = j->body, .room = j->body_room};
    j->nparts = 0;
    j->position = s->position;
    for (int i = SLOT_BASE; i >= 0 && b.used < SNAPSHOT_STEP_BYTES; i--) {
        uint32_t from = b.used;
        if (!j->todo[i])
            continue;
        bool ok = snapshot_slot(s, (uint16_t)i, &b);
        j->body = b.data;
        j->body_room = b.room;
        if (!ok || !cut(j, (uint16_t)i, from, b.used))
            return false;
        j->todo[i] = 0;
    }
    return true;
}

/* --- sending --------------------------------------------------------------------------- */

static void send_begin(struct shard *s, struct peer *p)
{
    struct msg_snap_begin m = {.to = p->node, .snapshot = p->join.snapshot,
                               .position = p->join.begin, .shard_time_ms = s->time_ms};
    p->join.begin_sent_ms = s->now_ms;
    shard_send(s, p->conn, &m, MSG_SNAP_BEGIN, sizeof m);
}

static void send_part(struct shard *s, struct peer *p, struct chunk_part *part)
{
    struct msg_chunk *m = (struct msg_chunk *)s->scratch;
    *m = (struct msg_chunk){.to = p->node, .snapshot = p->join.snapshot,
                            .position = p->join.position, .slot_or_base = part->slot,
                            .part = part->part, .last_part = part->last_part,
                            .body_bytes = part->bytes};
    memcpy(m + 1, p->join.body + part->offset, part->bytes);
    m->crc = crc32c(0, m + 1, part->bytes);
    part->sent_ms = s->now_ms + 1;
    shard_send(s, p->conn, m, MSG_CHUNK, (uint32_t)sizeof *m + part->bytes);
}

/* Returns how many parts are not acknowledged yet. */
static uint32_t send_parts(struct shard *s, struct peer *p)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < p->join.nparts && open < CHUNK_WINDOW; i++) {
        struct chunk_part *part = &p->join.parts[i];
        if (part->acked)
            continue;
        open++;
        if (!part->sent_ms || s->now_ms >= part->sent_ms - 1 + resend_ms(s))
            send_part(s, p, part);
    }
    return open;
}

static bool anything_todo(const struct join *j)
{
    return memchr(j->todo, 1, sizeof j->todo) != NULL;
}

static void end_snapshot(struct shard *s, struct peer *p)
{
    struct msg_snap_end m = {.to = p->node, .snapshot = p->join.snapshot};
    p->join.state = JOIN_CATCH_UP;
    p->join.end_position = p->join.position;
    free(p->join.body);
    p->join.body = NULL;
    p->join.body_room = 0;
    shard_send(s, p->conn, &m, MSG_SNAP_END, sizeof m);
}

/* Of the log, with what is under way. */
static uint64_t bytes_behind(const struct shard *s, const struct peer *p)
{
    return p->acked == s->position
               ? 0 : s->log.end - s->log.at[(p->acked + 1) & s->log.at_mask].offset;
}

static void propose_with(struct shard *s, struct peer *p)
{
    struct shard_view want;
    struct join *j = &p->join;
    if (s->proposing || members_staying(s) >= copies_wanted(s) || p->acked < j->end_position ||
        s->held < j->end_position)
        return;
    if (!j->gates && bytes_behind(s, p) <= APPEND_WINDOW_BYTES) {
        j->gates = true;
        j->gate = s->commit;
    }
    if (!j->gates || p->acked < j->gate || !drop_earlier(s, &p->node) || !view_of_stayers(s, &want))
        return;
    want.members[want.nmembers++] = p->node;
    shard_note(s, "join proposed: node=%u position=%lu cause=\"it has caught up\"", p->node.node,
               (unsigned long)p->acked);
    propose(s, &want);
}

void join_run(struct shard *s, struct peer *p)
{
    struct join *j = &p->join;
    if (j->state == JOIN_CATCH_UP) {
        propose_with(s, p);
        return;
    }
    if (!j->begun && (!j->begin_sent_ms || s->now_ms >= j->begin_sent_ms + resend_ms(s)))
        send_begin(s, p);
    if (send_parts(s, p))
        return;
    if (!anything_todo(j)) {
        end_snapshot(s, p);
    } else if (!encode_some(s, j)) {
        shard_note(s, "join given up: node=%u cause=\"no memory for its snapshot\"", p->node.node);
        peer_remove(s, p);
    } else {
        send_parts(s, p);
    }
}

void on_chunk_ack(struct shard *s, struct conn *c, const struct msg_chunk_ack *m)
{
    struct peer *p = peer_of_node(s, &m->self);
    if (s->role != SHARD_PRIMARY || !p || p->conn != c->id || p->join.state != JOIN_SNAPSHOT ||
        m->snapshot != p->join.snapshot || m->head.view_epoch != s->view.epoch)
        return;
    p->heard_ms = s->now_ms;
    p->join.begun = true;
    for (uint32_t i = 0; i < p->join.nparts; i++) {
        struct chunk_part *part = &p->join.parts[i];
        if (part->slot != m->slot_or_base || (part->part != m->part && !m->refused))
            continue;
        if (m->refused && !part->acked)
            p->join.todo[part->slot] = 1;
        part->acked = true;
    }
}
