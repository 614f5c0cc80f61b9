/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A backup's, and a joiner's, side of replication.
 *
 * Entries are applied in order as they come, before they are committed; the
 * uncommitted tail stays in the ring, to be adopted should this replica become
 * the primary. What is there already, and what leaves a gap, is ignored: the
 * primary sends again. Frames of another epoch than ours are ignored as well.
 *
 * A joiner takes chunks and log at once. A slot's chunk, taken at position P,
 * is accepted while the joiner is not past P; the slot's entries up to P are in
 * the chunk and are skipped, those after P are applied. While only some parts
 * of a slot have come, the log is taken up to its P and no further.
 */
#include <errno.h>

#include "internal.h"

/* --- the log -------------------------------------------------------------------------- */

/* What of an entry is for us: everything, but for what a joiner has not got
 * yet or got with a chunk already. */
static unsigned what_to_apply(const struct shard *s, const struct entry *e)
{
    const struct joining *j = &s->joining;
    unsigned what = 0;
    if (s->role != SHARD_JOINING)
        return APPLY_SLOT | APPLY_ALSO | APPLY_CLIENT;
    if (j->arrived[e->slot] &&
        (e->position > j->position[e->slot] || SHARD_BUG(BUG_SNAPSHOT_OVERLAP)))
        what |= APPLY_SLOT;
    if (e->also && j->arrived[e->also - 1] && e->position > j->position[e->also - 1])
        what |= APPLY_ALSO;
    if (j->arrived[SLOT_BASE] && e->position > j->position[SLOT_BASE])
        what |= APPLY_CLIENT;
    return what;
}

/* Up to which position a joiner may go on now. */
static uint64_t may_reach(const struct shard *s)
{
    const struct joining *j = &s->joining;
    uint64_t least = UINT64_MAX;
    if (s->role != SHARD_JOINING || !j->partial)
        return least;
    for (int slot = 0; slot <= SLOT_BASE; slot++)
        if (j->next_part[slot] && !j->arrived[slot] && j->position[slot] < least)
            least = j->position[slot];
    return least;
}

/* The record numbers in it are the sender's. */
static void forget_records(struct entry *e)
{
    struct effect *f = entry_first(e);
    for (uint32_t i = 0; i < e->effects; i++, f = effect_next(f))
        f->rec = REC_NONE;
}

static int take_entry(struct shard *s, const struct entry *from)
{
    struct entry *e = log_next(s, from->bytes);
    if (!e)
        return -EAGAIN;
    memcpy(e, from, from->bytes);
    forget_records(e);
    log_push(s, e);
    if (e->time_ms > s->time_ms)
        s->time_ms = e->time_ms;
    return apply_entry(s, e, what_to_apply(s, e));
}

const char *take_entries(struct shard *s, const struct msg_append *m)
{
    const uint8_t *at = (const uint8_t *)(m + 1), *end = at + m->body_bytes;
    uint64_t last = may_reach(s);
    for (uint64_t position = m->first; at < end; position++) {
        const struct entry *e = (const struct entry *)at;
        const char *wrong = entry_check(e, (uint32_t)(end - at));
        if (wrong)
            return wrong;
        at += e->bytes;
        if (e->position != position)
            return "entries are not in order";
        if (position <= s->position)
            continue;
        if (position > s->position + 1 || position > last)
            return NULL;
        int err = take_entry(s, e);
        if (err == -EAGAIN)
            return NULL;
        if (err)
            return err == -ENOMEM ? "out of memory" : "an entry refers to what is not here";
    }
    return NULL;
}

static bool is_whole(const struct shard *s)
{
    return s->role == SHARD_BACKUP || (s->joining.complete && s->position >= s->joining.whole_at);
}

static void compare_digest(struct shard *s, const struct msg_append *m)
{
    if (!m->digest_position || m->digest_position != s->position || !is_whole(s))
        return;
    if (m->digest == s->digest || s->drifted)
        return;
    s->drifted = true;
    s->count.drifts++;
    shard_note(s, "drift: position=%lu cause=\"our digest is not the primary's\"",
               (unsigned long)s->position);
}

/* Useless state is dropped; a new incarnation joins afresh. */
static void break_off(struct shard *s, const char *why)
{
    leave_view(s, why);
    state_discard(s);
}

/* The primary of our view spoke. */
static void heard(struct shard *s)
{
    s->joining.heard_ms = s->now_ms;
    s->joining.suspected = false;
}

/* A joiner's log comes from whose snapshot it takes: what another primary says
 * begins with that one's snapshot. SNAP_BEGIN does not say who sent it, but
 * there is one primary to an epoch. */
static bool is_from_source(struct shard *s, const struct msg_append *m)
{
    struct joining *j = &s->joining;
    if (s->role != SHARD_JOINING || !j->running)
        return false;
    if (!j->source.node && m->head.view_epoch == j->begun_epoch)
        j->source = m->from;
    if (j->source.node)
        return node_same(&m->from, &j->source);
    leave_view(s, "another primary may have begun the snapshot");
    return false;
}

/* Whether it is from the primary that we follow, under our epoch. */
static bool is_followed(struct shard *s, const struct msg_append *m)
{
    if (s->role == SHARD_BACKUP &&
        (SHARD_BUG(BUG_STALE_EPOCH_ACCEPTED) || SHARD_BUG(BUG_LATE_WRITE_LANDS)))
        return true;
    if (m->head.view_epoch != s->view.epoch)
        return false;
    return s->role == SHARD_BACKUP ? node_same(&m->from, &s->view.members[0])
                                   : is_from_source(s, m);
}

void on_append(struct shard *s, const struct msg_append *m)
{
    if (!is_followed(s, m) || crc32c(0, m + 1, m->body_bytes) != m->crc)
        return;
    s->joining.attached = true;
    heard(s);
    lease_heard(s, m->stamp);
    const char *wrong = take_entries(s, m);
    if (wrong) {
        break_off(s, wrong);
        return;
    }
    /* An earlier primary may have told us a later time, and this one not: what it dates
     * since then would be over early if we went on from there. */
    if (m->shard_time_ms > s->time_ms || s->time_epoch != m->head.view_epoch)
        s->time_ms = m->shard_time_ms;
    s->time_epoch = m->head.view_epoch;
    if (m->commit > s->commit)
        commit_to(s, m->commit < s->position ? m->commit : s->position);
    compare_digest(s, m);
    s->ack_due = true;
}

void on_view_frame(struct shard *s, const struct msg_view *m)
{
    struct shard_view v = {.epoch = m->head.view_epoch, .nmembers = m->nmembers};
    if (m->nmembers > 3)
        return;
    memcpy(v.members, m->members, sizeof v.members);
    if (v.epoch > s->view.epoch) /* only the service answers a proposal */
        on_view(s, &v);
    if (s->role == SHARD_BACKUP && v.epoch == s->view.epoch) {
        s->joining.attached = s->ack_due = true;
        heard(s);
    }
}

/* --- snapshot ------------------------------------------------------------------------------ */

void on_snap_begin(struct shard *s, const struct msg_snap_begin *m)
{
    struct joining *j = &s->joining;
    uint32_t conn = j->conn;
    if ((s->role != SHARD_IDLE && s->role != SHARD_JOINING) || !node_same(&m->to, &s->self) ||
        m->head.view_epoch < s->view.epoch || m->snapshot <= j->snapshot)
        return;
    bool keep = SHARD_BUG(BUG_DEPOSED_KEEPS_DATA) && s->has_state;
    if (!keep)
        state_discard(s);
    *j = (struct joining){.conn = conn, .snapshot = m->snapshot, .running = true,
                          .begun_epoch = m->head.view_epoch,
                          .heard_ms = s->now_ms, .asked_ms = s->now_ms};
    if (m->head.view_epoch > s->view.epoch)
        s->view = (struct shard_view){.epoch = m->head.view_epoch};
    j->left = SLOT_BASE + 1;
    s->role = SHARD_JOINING;
    s->time_ms = m->shard_time_ms;
    log_reset(s, m->position);
    if (keep) {
        for (uint32_t slot = 0; slot <= SLOT_BASE; slot++)
            j->arrived[slot] = true, j->position[slot] = m->position;
        j->left = 0;
        j->complete = true;
    }
    shard_note(s, "joining: position=%lu cause=\"a snapshot begins\"", (unsigned long)m->position);
}

static void chunk_ack(struct shard *s, const struct msg_chunk *m, bool refused)
{
    struct msg_chunk_ack ack = {.self = s->self, .snapshot = m->snapshot,
                                .slot_or_base = m->slot_or_base, .part = m->part,
                                .refused = refused};
    shard_send(s, s->joining.conn, &ack, MSG_CHUNK_ACK, sizeof ack);
}

/* The parts that came so far are no use. */
static void forget_parts(struct shard *s, uint16_t slot)
{
    struct joining *j = &s->joining;
    if (!j->next_part[slot])
        return;
    j->next_part[slot] = 0;
    j->partial--;
    if (slot < LETHE_SLOTS)
        slot_discard(s, (uint8_t)slot);
}

static void refuse_slot(struct shard *s, const struct msg_chunk *m)
{
    forget_parts(s, m->slot_or_base);
    chunk_ack(s, m, true);
}

/* Whether this part is the next one of its slot; answers it if it is not. */
static bool is_next_part(struct shard *s, const struct msg_chunk *m)
{
    struct joining *j = &s->joining;
    uint16_t slot = m->slot_or_base;
    /* Encoded afresh: the rest of those before will never come. */
    if (!j->arrived[slot] && m->part == 0 && m->position > j->position[slot])
        forget_parts(s, slot);
    uint16_t next = j->next_part[slot];
    if (j->arrived[slot] || (next && m->position == j->position[slot] && m->part < next)) {
        chunk_ack(s, m, false);
        return false;
    }
    if (!next && m->part == 0) {
        if (m->position < s->position)
            refuse_slot(s, m);
        return m->position >= s->position;
    }
    return next && m->position == j->position[slot] && m->part == next;
}

void on_chunk(struct shard *s, const struct msg_chunk *m)
{
    struct joining *j = &s->joining;
    uint16_t slot = m->slot_or_base;
    if (s->role != SHARD_JOINING || !j->running || !node_same(&m->to, &s->self) ||
        m->snapshot != j->snapshot || m->head.view_epoch != s->view.epoch || slot > SLOT_BASE ||
        crc32c(0, m + 1, m->body_bytes) != m->crc)
        return;
    j->heard_ms = s->now_ms;
    if (!is_next_part(s, m))
        return;
    const char *wrong = effects_check(m + 1, m->body_bytes);
    memcpy(s->scratch, m + 1, m->body_bytes); /* applying writes into them */
    j->partial += j->next_part[slot]++ == 0;
    j->position[slot] = m->position;
    int err = wrong ? -EBADMSG : apply_snapshot(s, slot, s->scratch, m->body_bytes);
    if (err == -EINVAL) {
        refuse_slot(s, m); /* a table that the log will tell us of */
        return;
    }
    if (err) {
        break_off(s, wrong ? wrong : "out of memory");
        return;
    }
    chunk_ack(s, m, false);
    if (m->part < m->last_part)
        return;
    j->arrived[slot] = true;
    j->partial--;
    if (j->whole_at < m->position)
        j->whole_at = m->position;
    j->complete = --j->left == 0;
}

/* --- end of a step ---------------------------------------------------------------------------- */

static void send_ack(struct shard *s)
{
    struct msg_ack m = {.self = s->self, .position = s->position, .drifted = s->drifted,
                        .stamp = s->joining.stamp};
    s->ack_due = false;
    if (is_whole(s)) {
        m.digest_position = s->position;
        m.digest = s->digest;
    }
    shard_send(s, s->joining.conn, &m, MSG_ACK, sizeof m);
}

static bool wants_to_join(const struct shard *s)
{
    const struct joining *j = &s->joining;
    if (!j->conn || s->role == SHARD_PRIMARY || (s->leaving && s->role != SHARD_BACKUP))
        return false;
    return s->role != SHARD_BACKUP || !j->attached ||
           s->now_ms > j->heard_ms + s->config.failure_timeout_ms;
}

/* Silence counts while our own loop ran: shard.c puts off what it missed. */
static bool primary_is_silent(const struct shard *s)
{
    return s->now_ms > s->joining.heard_ms + s->config.failure_timeout_ms;
}

/* It is heard, but cannot change the view, and so answers no reads (lease.c). */
static bool primary_is_stuck(const struct shard *s)
{
    const struct joining *j = &s->joining;
    return s->role == SHARD_BACKUP && j->stamp &&
           s->now_ms > j->stamped_ms + s->config.failure_timeout_ms;
}

void backup_tick(struct shard *s)
{
    struct joining *j = &s->joining;
    if ((s->role == SHARD_BACKUP || s->role == SHARD_JOINING) && primary_is_silent(s))
        suspect(s, "it is silent");
    else if (primary_is_stuck(s))
        suspect(s, "it wished for another view, and no answer reaches it");
    if (j->conn && s->ack_due && (s->role == SHARD_BACKUP || s->role == SHARD_JOINING))
        send_ack(s);
    leave_tell(s);
    if (!wants_to_join(s) || (j->asked_ms && s->now_ms < j->asked_ms + resend_ms(s)))
        return;
    struct msg_join m = {.self = s->self};
    j->asked_ms = s->now_ms ? s->now_ms : 1;
    shard_send(s, j->conn, &m, MSG_JOIN, sizeof m);
}

/* Often enough that waiting is not taken for having been away. */
static uint64_t suspicion_ms(const struct shard *s)
{
    bool watches = s->role == SHARD_BACKUP && !s->proposing;
    return watches ? s->now_ms + heartbeat_ms(s) : UINT64_MAX;
}

uint64_t backup_next_ms(const struct shard *s)
{
    uint64_t suspicion = suspicion_ms(s), join = UINT64_MAX;
    if (s->joining.conn && s->role != SHARD_PRIMARY) {
        uint64_t asked = s->joining.asked_ms;
        join = asked ? (asked > s->now_ms ? asked : s->now_ms) + resend_ms(s) : s->now_ms;
    }
    return join < suspicion ? join : suspicion;
}
