/* SPDX-License-Identifier: BSD-3-Clause */
/* Planned changes of the table. See hold.h. Queues are linked by number in one
 * array of packets_max; what is free is a list in the same array. */
#include "steering/hold.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

int hold_create(uint32_t size, uint32_t packets_max, uint64_t timeout_us, uint64_t first_number,
                struct hold **out)
{
    struct hold *h = calloc(1, sizeof(*h));
    if (h == NULL)
        return -ENOMEM;
    h->size = size;
    h->packets_max = packets_max;
    h->timeout_us = timeout_us;
    h->number = first_number;
    h->from = malloc(size);
    h->packets = calloc(packets_max, sizeof(*h->packets));
    if (h->from == NULL || h->packets == NULL) {
        hold_destroy(h);
        return -ENOMEM;
    }
    memset(h->from, HOLD_NOWHERE, size);
    for (uint32_t i = 0; i < packets_max; i++)
        h->packets[i].next = i + 1 < packets_max ? i + 1 : NONE;
    h->free = packets_max > 0 ? 0 : NONE;
    *out = h;
    return 0;
}

void hold_destroy(struct hold *h)
{
    if (h == NULL)
        return;
    free(h->from);
    free(h->packets);
    free(h);
}

/* --- queues ---------------------------------------------------------------------- */

static void append(struct hold *h, struct hold_queue *q, uint32_t i)
{
    h->packets[i].next = NONE;
    if (q->n++ == 0)
        q->head = i;
    else
        h->packets[q->tail].next = i;
    q->tail = i;
}

static uint32_t take_first(struct hold *h, struct hold_queue *q)
{
    uint32_t i = q->head;
    q->head = h->packets[i].next;
    q->n--;
    return i;
}

static void give(struct hold *h, uint32_t i)
{
    h->packets[i].next = h->free;
    h->free = i;
}

static uint32_t fill(struct hold *h, void *packet, uint64_t hash, uint8_t side, uint64_t run_us)
{
    uint32_t i = h->free;
    if (i == NONE)
        return NONE;
    h->free = h->packets[i].next;
    h->packets[i] = (struct hold_packet){.packet = packet, .hash = hash, .given_us = run_us, .side = side};
    return i;
}

/* --- changes ----------------------------------------------------------------------- */

uint64_t hold_begin(struct hold *h, const uint16_t *before, const uint16_t *after,
                    uint64_t planned, uint64_t run_us)
{
    assert(h->waits == 0);
    for (uint32_t b = 0; b < h->size; b++) {
        uint16_t old = before[b];
        bool moves = old != after[b] && old < HOLD_WORKERS_MAX && (planned >> old & 1);
        h->from[b] = moves ? (uint8_t)old : HOLD_NOWHERE;
        h->waits |= moves ? 1ull << old : 0;
    }
    h->number++;
    for (uint64_t left = h->waits; left != 0; left &= left - 1)
        h->group[__builtin_ctzll(left)] = (struct hold_group){.begun_us = run_us};
    return h->waits;
}

bool hold_put(struct hold *h, uint32_t bucket, void *packet, uint64_t hash, uint8_t side, uint64_t run_us)
{
    assert(hold_wants(h, bucket));
    uint32_t i = fill(h, packet, hash, side, run_us);
    if (i == NONE)
        return false;
    append(h, &h->group[h->from[bucket]].kept, i);
    h->kept_n++;
    return true;
}

enum hold_judgement hold_returned(struct hold *h, unsigned owner, uint8_t side, uint64_t number)
{
    if (owner >= HOLD_WORKERS_MAX || side > 1 || number != h->number || !(h->waits >> owner & 1))
        return HOLD_STALE;
    struct hold_group *g = &h->group[owner];
    if (g->returned >> side & 1)
        return HOLD_STALE;
    g->returned |= (uint8_t)(1u << side);
    return g->returned == 3 ? HOLD_BOTH : HOLD_ONE;
}

uint64_t hold_overdue(const struct hold *h, uint64_t run_us)
{
    uint64_t late = 0;
    for (uint64_t left = h->waits; left != 0; left &= left - 1)
        if (run_us - h->group[__builtin_ctzll(left)].begun_us >= h->timeout_us)
            late |= left & -left;
    return late;
}

/* --- backlogs ------------------------------------------------------------------------ */

static void backlog_append(struct hold *h, unsigned worker, uint32_t i)
{
    append(h, &h->backlog[worker][h->packets[i].side], i);
    h->backlogged |= 1ull << worker;
    h->backlog_n++;
}

/* Each of the queue, in order, to the backlog of its owner. */
static void spread_out(struct hold *h, struct hold_queue *q, hold_pick pick, hold_lost lost,
                       void *ctx)
{
    while (q->n > 0) {
        uint32_t i = take_first(h, q);
        int worker = pick(ctx, h->packets[i].hash);
        if (worker >= 0) {
            backlog_append(h, (unsigned)worker, i);
        } else {
            lost(ctx, h->packets[i].packet);
            give(h, i);
        }
    }
}

uint32_t hold_release(struct hold *h, unsigned owner, hold_pick pick, hold_lost lost, void *ctx)
{
    struct hold_queue *q = &h->group[owner].kept;
    uint32_t n = q->n;
    assert(h->waits >> owner & 1);
    h->waits &= ~(1ull << owner);
    h->kept_n -= n;
    spread_out(h, q, pick, lost, ctx);
    return n;
}

bool hold_backlog_put(struct hold *h, unsigned worker, uint8_t side, void *packet, uint64_t hash,
                      uint64_t run_us)
{
    uint32_t i = fill(h, packet, hash, side, run_us);
    if (i == NONE)
        return false;
    backlog_append(h, worker, i);
    return true;
}

uint32_t hold_backlog_peek(const struct hold *h, unsigned worker, uint8_t side, void **packets,
                           uint32_t max)
{
    const struct hold_queue *q = &h->backlog[worker][side];
    uint32_t n = q->n < max ? q->n : max, at = q->head;
    for (uint32_t i = 0; i < n; i++, at = h->packets[at].next)
        packets[i] = h->packets[at].packet;
    return n;
}

uint32_t hold_backlog_old(const struct hold *h, unsigned worker, uint8_t side, uint64_t run_us,
                          uint64_t age_us, void **packets, uint32_t max)
{
    const struct hold_queue *q = &h->backlog[worker][side];
    uint32_t n = 0, at = q->head;
    for (; n < q->n && n < max && run_us - h->packets[at].given_us >= age_us; at = h->packets[at].next)
        packets[n++] = h->packets[at].packet;
    return n;
}

static void settle(struct hold *h, unsigned worker)
{
    if (h->backlog[worker][0].n + h->backlog[worker][1].n == 0)
        h->backlogged &= ~(1ull << worker);
}

void hold_backlog_pop(struct hold *h, unsigned worker, uint8_t side, uint32_t n)
{
    struct hold_queue *q = &h->backlog[worker][side];
    assert(n <= q->n);
    h->backlog_n -= n;
    for (; n > 0; n--)
        give(h, take_first(h, q));
    settle(h, worker);
}

void hold_backlog_move(struct hold *h, unsigned worker, hold_pick pick, hold_lost lost, void *ctx)
{
    for (int side = 0; side < 2; side++) {
        /* Off the list first: whoever is picked may be this one again. */
        struct hold_queue q = h->backlog[worker][side];
        h->backlog[worker][side] = (struct hold_queue){0};
        h->backlog_n -= q.n;
        settle(h, worker);
        spread_out(h, &q, pick, lost, ctx);
    }
}
