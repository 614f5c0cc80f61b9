/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which shard owns a hash slot, as far as this client knows: at first slot *
 * shards / 256 under epoch 0; then whatever a shard says under a greater epoch,
 * in a MAP (asked for when a session comes up) or in a MOVED. The map is a hint:
 * the shards check against their own logs. It decides where a txn goes that was
 * never sent, and under which epoch; what was sent stays where it was sent until
 * a final answer (client_impl.h, "Exactly once").
 */
#include "client/client_impl.h"

#include <stdio.h>

void lethe_map_init(struct lethe_client *c)
{
    for (int slot = 0; slot < LETHE_SLOTS; slot++)
        c->map[slot].shard = (uint16_t)(slot * c->shards / LETHE_SLOTS);
}

static struct session *owner(const struct lethe_txn *t)
{
    struct lethe_client *c = t->client;
    return &c->sessions[c->map[((const struct txn_head *)t->bytes)->slot].shard];
}

void lethe_map_queue(struct lethe_txn *t)
{
    struct session *s = owner(t);
    t->shard = (uint8_t)s->shard;
    lethe_list_append(s, &s->queue, t, SLOT_QUEUED);
}

/* Txns in the list that were never sent and belong elsewhere go there. */
static void sort_out(struct session *s, struct slot_list *l)
{
    struct lethe_client *c = s->client;
    for (uint16_t n = l->head, next; n != SLOT_NONE; n = next) {
        struct lethe_txn *t = &c->slots[n];
        next = t->next;
        if (t->seq || owner(t) == s)
            continue;
        lethe_list_remove(s, t);
        lethe_map_queue(t);
        owner(t)->flush_wanted |= s->flush_wanted || l == &s->delayed;
        c->strays = true;
    }
}

static bool merge(struct lethe_client *c, uint8_t slot, uint16_t shard, uint32_t epoch)
{
    if (shard >= c->shards || epoch <= c->map[slot].epoch)
        return false;
    c->map[slot].shard = shard;
    c->map[slot].epoch = epoch;
    return true;
}

static void sort_all(struct lethe_client *c)
{
    for (int i = 0; i < c->shards; i++) {
        sort_out(&c->sessions[i], &c->sessions[i].queue);
        sort_out(&c->sessions[i], &c->sessions[i].delayed);
    }
}

void lethe_map_answer(struct lethe_client *c, const struct msg_map *m)
{
    bool any = false;
    for (int slot = 0; slot < LETHE_SLOTS; slot++)
        if (m->slots[slot].known)
            any |= merge(c, (uint8_t)slot, m->slots[slot].shard, m->slots[slot].epoch);
    if (any)
        sort_all(c);
}

void lethe_map_moved(struct session *s, struct lethe_txn *t, const struct txn_moved *to)
{
    struct lethe_client *c = s->client;
    struct txn_head *h = (struct txn_head *)t->bytes;
    c->moved++;
    lethe_list_remove(s, t);
    lethe_seq_done(s, t);
    t->seq = 0; /* a new txn from here on */
    h->slot = to->slot;
    if (merge(c, to->slot, to->shard, to->slot_epoch))
        sort_all(c);
    lethe_map_queue(t);
    struct session *next = owner(t);
    c->strays = true;
    t->hops += t->hops < UINT8_MAX;
    if (t->hops <= HOPS_MAX) {
        next->flush_wanted = true;
        return;
    }
    /* Two shards that point at each other: the map is changing just now. */
    lethe_list_remove(next, t);
    t->due_us = c->now_us + HOP_DELAY_US;
    lethe_list_append(next, &next->delayed, t, SLOT_DELAYED);
    snprintf(next->trouble, sizeof next->trouble, "hash slot %u is said to be moved, by shard after "
             "shard; asking again", to->slot);
    next->pushed_back = true;
}
