/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Clients: leased ids, watermarks, results kept for a retry (RIFL, SOSP'15).
 *
 * Every txn that may write has its result kept until its client says that it
 * arrived. If the txn changed something, the result went into its log entry
 * and is kept by every replica. If it did not (a guard failed, a
 * get-or-create hit), the result is kept here only: a second copy of the
 * request must not find the guard passing after the first one was refused.
 * Plain reads are not kept: they are simply done again.
 *
 * What is kept for one client is bounded: beyond CLIENT_KEPT_BYTES a primary
 * answers TXN_BUSY, except close to the watermark, where the answers are that
 * let the client acknowledge.
 *
 * Two watermarks: `ack` moved by log entries, the same on every replica;
 * `seen_ack` what the client told this replica. At or below either nothing
 * executes. The watermark of a client that only reads gets an entry of its own
 * when it lags by a quarter of the window.
 */
#include <stdlib.h>

#include "internal.h"

enum { RING_FIRST = 64, CLIENTS_FIRST = 64 };

/* --- kept results ------------------------------------------------------------------ */

static uint32_t class_of(uint32_t bytes)
{
    uint32_t class = 0, need = (uint32_t)sizeof(struct kept) + bytes;
    while (1u << (class + KEPT_CLASS_FIRST_BITS) < need)
        class++;
    return class;
}

static bool more_kept(struct shard *s, uint32_t class)
{
    uint32_t size = 1u << (class + KEPT_CLASS_FIRST_BITS);
    uint32_t count = size < 65536 / 4 ? 65536 / size : 4;
    uint8_t *slab = aligned_alloc(64, 64 + (size_t)size * count);
    if (!slab)
        return false;
    *(void **)slab = s->kept_slabs;
    s->kept_slabs = slab;
    s->kept_bytes += (uint64_t)size * count;
    for (uint32_t i = 0; i < count; i++) {
        struct kept *k = (struct kept *)(slab + 64 + (size_t)i * size);
        k->slot_next = s->kept_free[class];
        s->kept_free[class] = k;
    }
    return true;
}

struct kept *kept_new(struct shard *s, uint64_t client, uint64_t seq, uint8_t slot,
                      const void *result, uint32_t bytes)
{
    uint32_t class = class_of(bytes);
    if (!s->kept_free[class] && !more_kept(s, class))
        return NULL;
    struct kept *k = s->kept_free[class];
    s->kept_free[class] = k->slot_next;
    *k = (struct kept){.client = client, .seq = seq, .refs = 1, .bytes = (uint16_t)bytes,
                       .slot = slot, .class = (uint8_t)class};
    memcpy(k->result, result, bytes);
    return k;
}

void kept_put(struct shard *s, struct kept *k)
{
    if (--k->refs)
        return;
    k->slot_next = s->kept_free[k->class];
    s->kept_free[k->class] = k;
}

static void forget(struct shard *s, struct kept *k)
{
    if (k->replicated) {
        s->digest -= k->digest;
        *k->slot_prev = k->slot_next;
        if (k->slot_next)
            k->slot_next->slot_prev = k->slot_prev;
        k->replicated = false;
        s->results_kept--;
    }
    kept_put(s, k);
}

static void list_in_slot(struct shard *s, struct kept *k)
{
    struct kept **head = &s->slot[k->slot].results;
    k->replicated = true;
    k->digest = kept_digest(k);
    k->slot_next = *head;
    k->slot_prev = head;
    if (*head)
        (*head)->slot_prev = &k->slot_next;
    *head = k;
    s->digest += k->digest;
    s->results_kept++;
}

static struct kept **ring_at(const struct client *c, uint64_t seq)
{
    return &c->ring[seq & (c->room - 1)];
}

static uint32_t kept_size(const struct kept *k)
{
    return 1u << (k->class + KEPT_CLASS_FIRST_BITS);
}

static void ring_clear(struct shard *s, struct client *c, struct kept **at)
{
    c->kept_bytes -= kept_size(*at);
    forget(s, *at);
    *at = NULL;
}

/* Room for seqs up to `seq`, which is within the window. */
bool client_reach(struct client *c, uint64_t seq)
{
    uint32_t room = c->room ? c->room : RING_FIRST;
    while (seq > c->ack + room)
        room *= 2;
    if (room == c->room)
        return true;
    struct kept **ring = calloc(room, sizeof(struct kept *));
    if (!ring)
        return false;
    for (uint32_t i = 0; i < c->room; i++)
        if (c->ring[i])
            ring[c->ring[i]->seq & (room - 1)] = c->ring[i];
    free(c->ring);
    c->ring = ring;
    c->room = room;
    return true;
}

struct kept *client_result(const struct client *c, uint64_t seq)
{
    struct kept *k = c->room ? *ring_at(c, seq) : NULL;
    return k && k->seq == seq ? k : NULL;
}

bool client_keep(struct shard *s, struct client *c, struct kept *k, bool replicated)
{
    if (k->seq <= c->ack)
        return true;
    if (k->seq > c->ack + MSG_CLIENT_WINDOW || !client_reach(c, k->seq))
        return false;
    struct kept **at = ring_at(c, k->seq);
    if (*at)
        ring_clear(s, c, at);
    *at = k;
    c->kept_bytes += kept_size(k);
    k->refs++;
    if (replicated)
        list_in_slot(s, k);
    return true;
}

static void forget_range(struct shard *s, struct client *c, uint64_t from, uint64_t to)
{
    if (to - from > c->room)
        from = to - c->room;
    for (uint64_t seq = from + 1; seq <= to; seq++) {
        struct kept **at = ring_at(c, seq);
        if (*at && (*at)->seq <= to)
            ring_clear(s, c, at);
    }
}

void client_acked(struct shard *s, struct client *c, uint64_t ack)
{
    if (ack <= c->ack)
        return;
    s->digest += client_digest(c->id, ack) - client_digest(c->id, c->ack);
    forget_range(s, c, c->ack, ack);
    c->ack = ack;
    if (c->seen_ack < ack)
        c->seen_ack = ack;
}

void clients_forget_local(struct shard *s)
{
    for (uint32_t i = 0; i < s->client_room; i++)
        for (uint32_t j = 0; s->client[i].id && j < s->client[i].room; j++) {
            struct kept **at = &s->client[i].ring[j];
            if (*at && !(*at)->replicated)
                ring_clear(s, &s->client[i], at);
        }
}

/* --- the table of clients ------------------------------------------------------------- */

static uint32_t client_place(const struct client *table, uint32_t room, uint64_t id)
{
    uint32_t i = (uint32_t)mix64(id) & (room - 1);
    while (table[i].id && table[i].id != id)
        i = (i + 1) & (room - 1);
    return i;
}

struct client *client_find(const struct shard *s, uint64_t id)
{
    if (!id || !s->client_room)
        return NULL;
    struct client *c = &s->client[client_place(s->client, s->client_room, id)];
    return c->id ? c : NULL;
}

static bool clients_grow(struct shard *s)
{
    uint32_t room = s->client_room ? s->client_room * 2 : CLIENTS_FIRST;
    struct client *table = calloc(room, sizeof *table);
    if (!table)
        return false;
    for (uint32_t i = 0; i < s->client_room; i++)
        if (s->client[i].id)
            table[client_place(table, room, s->client[i].id)] = s->client[i];
    free(s->client);
    s->client = table;
    s->client_room = room;
    return true;
}

struct client *client_add(struct shard *s, uint64_t id)
{
    struct client *c = client_find(s, id);
    if (c)
        return c;
    if (2 * (s->clients + 1) > s->client_room && !clients_grow(s))
        return NULL;
    c = &s->client[client_place(s->client, s->client_room, id)];
    *c = (struct client){.id = id};
    s->clients++;
    s->digest += client_digest(id, 0);
    client_renew(s, c);
    return c;
}

static void forget_all(struct shard *s, struct client *c)
{
    for (uint32_t i = 0; i < c->room; i++)
        if (c->ring[i])
            ring_clear(s, c, &c->ring[i]);
    free(c->ring);
    c->ring = NULL;
    c->room = 0;
}

void client_gone(struct shard *s, uint64_t id)
{
    uint32_t i = client_place(s->client, s->client_room, id), j = i;
    struct client *c = &s->client[i];
    forget_all(s, c);
    s->digest -= client_digest(id, c->ack);
    *c = (struct client){0};
    s->clients--;
    /* Whoever stands behind the hole and would rather stand in it, moves. */
    for (;;) {
        j = (j + 1) & (s->client_room - 1);
        if (!s->client[j].id)
            return;
        struct client moved = s->client[j];
        s->client[j].id = 0;
        s->client[client_place(s->client, s->client_room, moved.id)] = moved;
    }
}

void clients_clear(struct shard *s)
{
    for (uint32_t i = 0; i < s->client_room; i++)
        if (s->client[i].id)
            forget_all(s, &s->client[i]);
    free(s->client);
    s->client = NULL;
    s->client_room = s->clients = 0;
}

void slot_discard(struct shard *s, uint8_t slot)
{
    s->digest -= slot_digest(slot, s->slot[slot].seq) + owner_digest(s, slot);
    while (s->slot[slot].results) {
        struct kept *k = s->slot[slot].results;
        struct client *c = client_find(s, k->client);
        ring_clear(s, c, ring_at(c, k->seq));
    }
    slot_clear(s, slot);
    s->slot[slot] = (struct slot){0}; /* who owns it comes first in the snapshot */
}

/* --- leases ---------------------------------------------------------------------------- */

uint32_t client_lease_ms(const struct shard *s)
{
    return s->config.client_lease_ms ? s->config.client_lease_ms
                                     : 100 * s->config.failure_timeout_ms;
}

void client_renew(struct shard *s, struct client *c)
{
    c->lease_ms = s->time_ms + client_lease_ms(s);
}

void clients_renew_all(struct shard *s)
{
    for (uint32_t i = 0; i < s->client_room; i++)
        if (s->client[i].id)
            client_renew(s, &s->client[i]);
}

static uint32_t check_every_ms(const struct shard *s)
{
    return client_lease_ms(s) / 16 + 1;
}

void clients_expire(struct shard *s)
{
    if (s->time_ms < s->leases_checked_ms + check_every_ms(s))
        return;
    s->leases_checked_ms = s->time_ms;
    for (uint32_t i = 0; i < s->client_room; i++) {
        struct effect gone = {.code = EFFECT_CLIENT_GONE, .version = s->client[i].id};
        if (!gone.version || s->client[i].lease_ms > s->time_ms)
            continue;
        if (!log_base(s, &gone, NULL, NULL))
            return;
        i--; /* somebody else may have moved here */
    }
}

uint64_t clients_next_ms(const struct shard *s)
{
    if (!s->clients || s->role != SHARD_PRIMARY || s->collecting)
        return UINT64_MAX;
    return s->leases_checked_ms + check_every_ms(s) - s->time_offset;
}
