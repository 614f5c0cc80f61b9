/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The log: a ring of entries from the oldest that someone may still need to
 * the newest, and, per position, the replies that wait for commit to pass it.
 *
 * Commit = the least position that every member of the view acknowledged;
 * while a change of view is proposed, every member of both views (DESIGN 4);
 * while the view has fewer members than min_copies it does not move.
 * An entry leaves the ring when it is committed and every peer has it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

int log_open(struct log *l, uint64_t bytes)
{
    uint64_t positions = 1024;
    while (positions < bytes / 128)
        positions *= 2;
    *l = (struct log){.room = bytes, .at_mask = positions - 1, .first = 1};
    l->ring = aligned_alloc(64, (bytes + 63) & ~63ull);
    l->at = calloc(positions, sizeof *l->at);
    return l->ring && l->at ? 0 : -ENOMEM;
}

void log_close(struct log *l)
{
    free(l->ring);
    free(l->at);
    *l = (struct log){0};
}

void log_reset(struct shard *s, uint64_t position)
{
    replies_drop_all(s);
    s->position = s->commit = position;
    s->log.begin = s->log.end = 0;
    s->log.first = position + 1;
}

static struct log_at *at(const struct shard *s, uint64_t position)
{
    return &s->log.at[position & s->log.at_mask];
}

struct entry *log_entry(const struct shard *s, uint64_t position)
{
    assert(position >= s->log.first && position <= s->position);
    return (struct entry *)(s->log.ring + at(s, position)->offset % s->log.room);
}

/* Where an entry of `bytes` would begin: it never wraps. While nobody lags it
 * begins where the last one did, so that the ring takes no more memory than is
 * behind, however big it may get. */
static uint64_t place(const struct shard *s, uint32_t bytes)
{
    const struct log *l = &s->log;
    uint64_t left = l->room - l->end % l->room;
    bool empty = l->first > s->position;
    return left < bytes || (empty && left < l->room) ? l->end + left : l->end;
}

bool log_has_room(const struct shard *s, uint32_t bytes)
{
    const struct log *l = &s->log;
    return (l->first > s->position || place(s, bytes) + bytes - l->begin <= l->room) &&
           s->position + 1 - l->first < l->at_mask;
}

void *log_next(struct shard *s, uint32_t bytes)
{
    if (!log_has_room(s, bytes))
        return NULL;
    return s->log.ring + place(s, bytes) % s->log.room;
}

/* The state at s->position is final: the next entry is about to change it. */
static void mark(struct shard *s)
{
    if (s->position % SHARD_MARK_EVERY || s->role == SHARD_JOINING)
        return;
    s->mark_position = s->position;
    s->mark_digest = s->digest;
}

void log_push(struct shard *s, const struct entry *e)
{
    struct log *l = &s->log;
    /* Written for up to as many bytes as were asked for: find it, not place() it. */
    uint64_t offset = l->end - l->end % l->room + (uint64_t)((const uint8_t *)e - l->ring);
    if (offset < l->end)
        offset += l->room;
    assert(e->position == s->position + 1);
    mark(s);
    if (l->first > s->position)
        l->begin = offset;
    s->position = e->position;
    *at(s, e->position) = (struct log_at){.offset = offset};
    l->end = offset + e->bytes;
}

bool log_base(struct shard *s, const struct effect *effect, const void *value,
              const struct client *client)
{
    uint32_t bytes = effect ? effect_size(0, 0, effect->value_len) : 0;
    struct entry *e = log_next(s, (uint32_t)sizeof *e + bytes);
    if (!e)
        return false;
    *e = (struct entry){.bytes = (uint32_t)sizeof *e + bytes, .slot = SLOT_BASE,
                        .effects = effect != NULL, .position = s->position + 1,
                        .time_ms = s->time_ms, .effects_bytes = bytes, .sync = 1};
    if (client) {
        e->client = client->id;
        e->ack = client->seen_ack;
    }
    if (effect)
        effect_write(e + 1, effect, NULL, NULL, value);
    log_push(s, e);
    apply_entry(s, e, APPLY_OWN | APPLY_SLOT | APPLY_CLIENT);
    commit_update(s);
    return true;
}

bool log_slot(struct shard *s, uint8_t slot, const struct effect *effect)
{
    uint32_t bytes = effect_size(0, 0, 0);
    struct entry *e = log_next(s, (uint32_t)sizeof *e + bytes);
    if (!e)
        return false;
    *e = (struct entry){.bytes = (uint32_t)sizeof *e + bytes, .slot = slot, .effects = 1,
                        .position = s->position + 1, .slot_seq = slot_next_version(s, slot),
                        .time_ms = s->time_ms, .effects_bytes = bytes,
                        .sync = effect->code <= EFFECT_OWNER};
    effect_write(e + 1, effect, NULL, NULL, NULL);
    log_push(s, e);
    apply_entry(s, e, APPLY_OWN | APPLY_SLOT);
    commit_update(s);
    return true;
}

/* --- commit --------------------------------------------------------------------- */

/* What this entry wrote, unless written again since, is committed. In a released slot it
 * stays pending: nobody is to read there any more (onesided.c). */
static void mark_committed(struct shard *s, const struct entry *e)
{
    const struct effect *f = entry_first(e);
    if (e->slot < LETHE_SLOTS && s->slot[e->slot].owner == OWNER_SENDING)
        return;
    for (uint32_t i = 0; i < e->effects; i++, f = effect_next(f)) {
        if ((f->code != EFFECT_PUT && f->code != EFFECT_ADD) || f->rec == REC_NONE)
            continue;
        struct table *t = s->table[f->table];
        if (f->rec >= t->part[e->slot].high)
            continue;
        struct record *r = record_at(t, (uint8_t)e->slot, f->rec);
        if (r->state == RECORD_PENDING && r->version == f->version)
            r->state = RECORD_COMMITTED;
    }
}

static void list_add(struct reply_list *list, struct reply *r)
{
    r->next = NULL;
    if (list->last)
        list->last->next = r;
    else
        list->first = r;
    list->last = r;
}

/* Committed: goes out now, or when there are leases. */
static void release(struct shard *s, struct reply_list *list)
{
    struct reply *r = list->first;
    *list = (struct reply_list){0};
    bool may_tell = r && lease_may_tell(s);
    while (r) {
        struct reply *next = r->next;
        if (r->appended || may_tell)
            reply_ready(s, r);
        else
            list_add(&s->suspended, r);
        r = next;
    }
}

void commit_to(struct shard *s, uint64_t position)
{
    while (s->commit < position) {
        s->commit++;
        if (s->commit < s->log.first)
            continue;
        mark_committed(s, log_entry(s, s->commit));
        release(s, &at(s, s->commit)->waiting);
    }
    log_trim(s);
}

void commit_update(struct shard *s)
{
    uint64_t least = s->position;
    if (s->role != SHARD_PRIMARY)
        return;
    for (int i = 0; i < PEERS_MAX; i++) {
        const struct peer *p = &s->peer[i];
        bool counts = p->in_view || p->join.gates;
        if (SHARD_BUG(BUG_OLD_VIEW_COMMITS))
            counts = view_index(&s->view, &p->node) > 0;
        if (p->node.node && counts && p->acked < least && !SHARD_BUG(BUG_ACK_BEFORE_BACKUP))
            least = p->acked;
    }
    s->held = least;
    if (least > s->commit && s->view.nmembers >= s->config.min_copies)
        commit_to(s, least);
}

void log_trim(struct shard *s)
{
    uint64_t upto = s->commit;
    for (int i = 0; i < PEERS_MAX; i++) {
        const struct peer *p = &s->peer[i];
        if (p->node.node && (p->in_view || p->join.state) && p->acked < upto)
            upto = p->acked;
    }
    if (upto < s->log.first)
        return;
    s->log.first = upto + 1;
    s->log.begin = upto < s->position ? at(s, upto + 1)->offset : s->log.end;
}

/* --- waiting for it ----------------------------------------------------------------- */

void reply_wait(struct shard *s, struct reply *r, uint64_t position)
{
    r->appended |= r->kind != REPLY_RESULT; /* says nothing that changes */
    if (position > s->commit)
        list_add(&at(s, position)->waiting, r);
    else if (!lease_may_tell(s))
        list_add(&s->suspended, r);
    else
        reply_ready(s, r);
}

void replies_release_suspended(struct shard *s)
{
    release(s, &s->suspended);
}

static void drop(struct shard *s, struct reply_list *list)
{
    for (struct reply *r = list->first, *next; r; r = next) {
        next = r->next;
        reply_free(s, r);
    }
    *list = (struct reply_list){0};
}

void replies_drop_all(struct shard *s)
{
    for (uint64_t p = s->commit + 1; p <= s->position; p++)
        if (p >= s->log.first)
            drop(s, &at(s, p)->waiting);
    drop(s, &s->suspended);
}
