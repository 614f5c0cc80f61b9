/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The window: preallocated txn slots, the lists they stand in, and the map
 * from a shard's sequence numbers to slots. No search anywhere: a sequence is
 * an index into a ring as wide as the protocol's window.
 */
#include "client/client_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(offsetof(struct lethe_txn, bytes) == 64, "one line of our own before the bytes");
_Static_assert(sizeof(struct lethe_txn) / 64 % 2 == 1, "slots must not share cache sets");
_Static_assert((MSG_CLIENT_WINDOW & (MSG_CLIENT_WINDOW - 1)) == 0, "a sequence is masked");
_Static_assert((int)MSG_CLIENT_WINDOW < (int)SLOT_NONE, "slot numbers are 16 bits");

/* Touched at once: memory does not grow with use, and no first packet of a
 * burst pays for a page fault. */
static void *alloc_touched(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    if (p)
        memset(p, 0, (bytes + 63) & ~(size_t)63);
    return p;
}

static int session_memory(struct session *s)
{
    s->by_seq = alloc_touched(MSG_CLIENT_WINDOW * sizeof *s->by_seq);
    s->frame = alloc_touched(MSG_BYTES_MAX);
    if (!s->by_seq || !s->frame)
        return -ENOMEM;
    lethe_list_init(&s->queue);
    lethe_list_init(&s->sent);
    lethe_list_init(&s->delayed);
    lethe_list_init(&s->reading);
    lethe_seq_reset(s);
    return 0;
}

int lethe_window_create(struct lethe_client *c)
{
    c->slots = alloc_touched(c->window * sizeof *c->slots);
    c->free_slots = alloc_touched(c->window * sizeof *c->free_slots);
    if (!c->slots || !c->free_slots)
        return -ENOMEM;
    for (uint32_t i = 0; i < c->window; i++) {
        c->slots[i].client = c;
        c->free_slots[i] = (uint16_t)(c->window - 1 - i);
    }
    c->nfree = c->window;
    for (int i = 0; i < c->shards; i++)
        if (session_memory(&c->sessions[i]))
            return -ENOMEM;
    return 0;
}

void lethe_window_destroy(struct lethe_client *c)
{
    for (int i = 0; i < c->shards; i++) {
        free(c->sessions[i].by_seq);
        free(c->sessions[i].frame);
    }
    free(c->slots);
    free(c->free_slots);
}

struct lethe_txn *lethe_window_take(struct lethe_client *c)
{
    if (!c->nfree)
        return NULL;
    struct lethe_txn *t = &c->slots[c->free_slots[--c->nfree]];
    assert(t->state == SLOT_FREE);
    t->state = SLOT_BUILDING;
    t->seq = 0;
    t->hops = 0;
    t->asked = false;
    return t;
}

void lethe_window_give(struct lethe_txn *t)
{
    struct lethe_client *c = t->client;
    t->state = SLOT_FREE;
    c->free_slots[c->nfree++] = slot_number(t);
}

/* --- lists ---------------------------------------------------------------------- */

void lethe_list_init(struct slot_list *l)
{
    l->head = l->tail = SLOT_NONE;
    l->count = 0;
}

void lethe_list_append(struct session *s, struct slot_list *l, struct lethe_txn *t,
                       enum slot_state state)
{
    struct lethe_txn *slots = s->client->slots;
    uint16_t n = slot_number(t);
    t->state = (uint8_t)state;
    t->next = SLOT_NONE;
    t->prev = l->tail;
    if (l->tail != SLOT_NONE)
        slots[l->tail].next = n;
    else
        l->head = n;
    l->tail = n;
    l->count++;
}

void lethe_list_prepend(struct session *s, struct slot_list *l, struct lethe_txn *t,
                        enum slot_state state)
{
    struct lethe_txn *slots = s->client->slots;
    uint16_t n = slot_number(t);
    t->state = (uint8_t)state;
    t->prev = SLOT_NONE;
    t->next = l->head;
    if (l->head != SLOT_NONE)
        slots[l->head].prev = n;
    else
        l->tail = n;
    l->head = n;
    l->count++;
}

static struct slot_list *list_of(struct session *s, const struct lethe_txn *t)
{
    switch (t->state) {
    case SLOT_QUEUED:
        return &s->queue;
    case SLOT_SENT:
        return &s->sent;
    case SLOT_DELAYED:
        return &s->delayed;
    case SLOT_READING:
        return &s->reading;
    default:
        assert(!"a slot that is in no list");
        return NULL;
    }
}

void lethe_list_remove(struct session *s, struct lethe_txn *t)
{
    struct slot_list *l = list_of(s, t);
    struct lethe_txn *slots = s->client->slots;
    if (t->prev != SLOT_NONE)
        slots[t->prev].next = t->next;
    else
        l->head = t->next;
    if (t->next != SLOT_NONE)
        slots[t->next].prev = t->prev;
    else
        l->tail = t->prev;
    l->count--;
}

/* --- sequences -------------------------------------------------------------------- */

bool lethe_seq_assign(struct session *s, struct lethe_txn *t)
{
    if (s->next_seq - s->ack > SEQ_AHEAD_MAX)
        return false;
    struct txn_head *h = (struct txn_head *)t->bytes;
    h->slot_epoch = s->client->map[h->slot].epoch; /* with the sequence: never changed by a retry */
    t->seq = s->next_seq++;
    s->by_seq[t->seq % MSG_CLIENT_WINDOW] = slot_number(t);
    return true;
}

struct lethe_txn *lethe_seq_find(struct session *s, uint64_t seq)
{
    if (seq <= s->ack || seq >= s->next_seq)
        return NULL;
    uint16_t n = s->by_seq[seq % MSG_CLIENT_WINDOW];
    return n == SLOT_NONE ? NULL : &s->client->slots[n];
}

void lethe_seq_done(struct session *s, struct lethe_txn *t)
{
    s->by_seq[t->seq % MSG_CLIENT_WINDOW] = SLOT_NONE;
    while (s->ack + 1 < s->next_seq && s->by_seq[(s->ack + 1) % MSG_CLIENT_WINDOW] == SLOT_NONE)
        s->ack++;
}

void lethe_seq_reset(struct session *s)
{
    s->next_seq = 1;
    s->ack = 0;
    memset(s->by_seq, 0xff, MSG_CLIENT_WINDOW * sizeof *s->by_seq);
}
