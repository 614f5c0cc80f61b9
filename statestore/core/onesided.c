/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The primary's side of one-sided reads (client/remember.h has the whole of it): where
 * gets found their entries is told to clients that asked for that (CAP_ONE_SIDED), with
 * how long they may read; and what they may remember is made void before it is another's.
 *
 * A reader believes what is committed, by a lease nested in ours. So here is all that has
 * to hold:
 *   - a record is pending from before it is written until its commit (record.h, log.c);
 *   - RELEASE of a hash slot, when it is applied, hence before it is committed, hence
 *     before anybody can accept the slot: every record of it gets another incarnation and
 *     is pending. Writes that commit later do not commit it (log.c), for the slot is not
 *     ours any more. If it is taken back, or comes back, gets heal it;
 *   - memory that goes (GONE, a new transfer, state_discard, a table's end): every
 *     record is made RECORD_FREE before it is given back (table.c);
 *   - leases: only while we hold them from all our backups and propose nothing (lease.c).
 *
 * Stepping down changes nothing in the records: what clients were granted ends before a
 * successor serves. Nor does it matter then that we apply what that one has written.
 *
 * Healed: a record is pending though its write is committed, when it came by a snapshot or
 * with its slot. A get finds out: whatever of the slot is to be told, is committed.
 */
#include "internal.h"

enum { PLACES_MAX = 512 };

uint32_t places_frame_bytes(void)
{
    return (uint32_t)(sizeof(struct msg_places) + PLACES_MAX * sizeof(struct msg_place));
}

static void tell(struct shard *s)
{
    struct places *p = &s->places;
    *p->frame = (struct msg_places){.client = p->client, .shard_time_ms = s->time_ms,
                                    .stamp = p->stamp, .left_ms = lease_for_readers_ms(s),
                                    .nplaces = p->n};
    shard_send(s, p->conn, p->frame, MSG_PLACES,
               (uint32_t)(sizeof *p->frame + p->n * sizeof(struct msg_place)));
    p->n = 0;
}

void places_send(struct shard *s)
{
    if (s->places.n)
        tell(s);
}

void places_begin(struct shard *s, uint32_t conn, const struct msg_batch *m)
{
    struct places *p = &s->places;
    const struct conn *from = p->frame ? conn_find(s, conn) : NULL;
    p->on = from && from->one_sided;
    p->conn = conn;
    p->client = m->client;
    p->stamp = p->on ? m->stamp : 0;
    p->seq = 0;
}

void places_end(struct shard *s)
{
    if (s->places.n || s->places.stamp)
        tell(s);
    s->places.on = false;
    s->places.stamp = 0;
}

void places_note(struct shard *s, int op, struct table *t, uint8_t slot, uint32_t rec)
{
    struct places *p = &s->places;
    const struct part *part = &t->part[slot];
    const struct slot *o = &s->slot[slot];
    uint32_t in_chunk, rkey = part->rkeys ? part->rkeys[chunk_of(rec, &in_chunk)] : 0;
    if (!p->seq || !rkey)
        return;
    struct record *r = record_at(t, slot, rec);
    if (r->state == RECORD_PENDING && o->last_position <= s->commit)
        r->state = RECORD_COMMITTED;
    if (p->n == PLACES_MAX)
        tell(s);
    ((struct msg_place *)(p->frame + 1))[p->n++] =
        (struct msg_place){.seq = p->seq, .address = (uintptr_t)r, .rkey = rkey,
                           .slot_epoch = o->epoch, .incarnation = r->incarnation,
                           .op = (uint8_t)op, .lines = t->shape.lines};
}

void slot_forbid(struct shard *s, uint8_t slot)
{
    for (uint32_t i = 0; i < s->tables; i++) {
        struct table *t = s->table[i];
        for (uint32_t rec = 0; t->slabs && rec < t->part[slot].high; rec++) {
            struct record *r = record_at(t, slot, rec);
            r->incarnation++;
            if (r->state == RECORD_COMMITTED)
                r->state = RECORD_PENDING;
        }
    }
}
