/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine's bounded pools: packets in flight, flows in flight (a hash by
 * flow key; at most one per packet), tickets of unanswered txns. All linked by
 * 16-bit numbers, all allocated and touched once, so that what a worker's
 * memory holds does not depend on what it has seen.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nf/runtime/internal.h"

static void *touched(size_t n, size_t size)
{
    void *p = aligned_alloc(64, (n * size + 63) & ~(size_t)63);
    if (p)
        memset(p, 0, (n * size + 63) & ~(size_t)63);
    return p;
}

int pools_create(struct engine *e)
{
    uint32_t buckets = 64;
    while (buckets < 2 * e->npackets)
        buckets *= 2;
    e->bucket_mask = buckets - 1;
    e->jobs = touched(e->npackets, sizeof *e->jobs);
    e->flows = touched(e->npackets, sizeof *e->flows);
    e->tickets = touched(ENGINE_TXNS, sizeof *e->tickets);
    e->buckets = touched(buckets, sizeof *e->buckets);
    if (!e->jobs || !e->flows || !e->tickets || !e->buckets)
        return -ENOMEM;
    for (uint32_t i = 0; i < buckets; i++)
        e->buckets[i] = NONE;
    for (uint32_t i = 0; i < e->npackets; i++) {
        e->jobs[i].next = i + 1 < e->npackets ? (uint16_t)(i + 1) : NONE;
        e->flows[i].hash_next = e->jobs[i].next;
    }
    for (uint32_t i = 0; i < ENGINE_TXNS; i++) {
        e->tickets[i].e = e;
        e->tickets[i].next = i + 1 < ENGINE_TXNS ? (uint16_t)(i + 1) : NONE;
    }
    e->free_job = e->free_flow = e->free_ticket = 0;
    e->fresh_head = e->fresh_tail = e->wait_head = e->wait_tail = NONE;
    e->stall_head = e->stall_tail = NONE;
    return 0;
}

void pools_destroy(struct engine *e)
{
    free(e->jobs);
    free(e->flows);
    free(e->tickets);
    free(e->buckets);
}

/* --- packets -------------------------------------------------------------------- */

uint16_t job_take(struct engine *e)
{
    uint16_t j = e->free_job;
    if (j == NONE)
        return NONE;
    e->free_job = e->jobs[j].next;
    e->jobs_used++;
    e->jobs[j].next = NONE;
    e->jobs[j].stage = 0;
    e->jobs[j].saved = false;
    e->jobs[j].trace = 0;
    return j;
}

void job_give(struct engine *e, uint16_t j)
{
    uint16_t burst = e->jobs[j].burst;
    if (--e->burst_left[burst] == 0)
        e->burst_free[e->nburst_free++] = burst;
    e->epoch_left[e->jobs[j].epoch]--;
    e->jobs[j].next = e->free_job;
    e->free_job = j;
    e->jobs_used--;
}

/* --- flows ---------------------------------------------------------------------- */

uint16_t flow_number(const struct engine *e, const struct flow *f)
{
    return (uint16_t)(f - e->flows);
}

static uint16_t *bucket_of(struct engine *e, uint64_t key)
{
    return &e->buckets[(key * 0x9E3779B97F4A7C15ull >> 40) & e->bucket_mask];
}

struct flow *flow_of(struct engine *e, uint64_t key)
{
    uint16_t *bucket = bucket_of(e, key);
    for (uint16_t i = *bucket; i != NONE; i = e->flows[i].hash_next)
        if (e->flows[i].key == key)
            return &e->flows[i];
    /* There is a flow for every packet, and this packet has none. */
    struct flow *f = &e->flows[e->free_flow];
    e->free_flow = f->hash_next;
    f->key = key;
    f->hash_next = *bucket;
    *bucket = flow_number(e, f);
    f->head = f->tail = NONE;
    f->run_len = 0;
    f->phase = PHASE_IDLE;
    f->waits = f->stalled = f->fresh = false;
    f->in_use = true;
    return f;
}

void flow_push(struct engine *e, struct flow *f, uint16_t j)
{
    e->jobs[j].next = NONE;
    if (f->head == NONE)
        f->head = j;
    else
        e->jobs[f->tail].next = j;
    f->tail = j;
}

void flow_give(struct engine *e, struct flow *f)
{
    uint16_t *link = bucket_of(e, f->key);
    while (*link != flow_number(e, f))
        link = &e->flows[*link].hash_next;
    *link = f->hash_next;
    flow_quiet(e, f);
    f->generation++;
    f->in_use = false;
    f->hash_next = e->free_flow;
    e->free_flow = flow_number(e, f);
}

void flow_unwait(struct engine *e, struct flow *f)
{
    if (!f->waits)
        return;
    if (f->wait_prev == NONE)
        e->wait_head = f->wait_next;
    else
        e->flows[f->wait_prev].wait_next = f->wait_next;
    if (f->wait_next == NONE)
        e->wait_tail = f->wait_prev;
    else
        e->flows[f->wait_next].wait_prev = f->wait_prev;
    f->waits = false;
}

void flow_wait(struct engine *e, struct flow *f)
{
    flow_unwait(e, f);
    uint16_t i = flow_number(e, f);
    f->since_us = e->now_us;
    f->wait_prev = e->wait_tail;
    f->wait_next = NONE;
    if (e->wait_tail == NONE)
        e->wait_head = i;
    else
        e->flows[e->wait_tail].wait_next = i;
    e->wait_tail = i;
    f->waits = true;
}

/* --- flows that could not submit, oldest first ------------------------------------ */

void flow_stall(struct engine *e, struct flow *f)
{
    if (f->stalled)
        return;
    f->stalled = true;
    f->stall_next = NONE;
    if (e->stall_head == NONE)
        e->stall_head = flow_number(e, f);
    else
        e->flows[e->stall_tail].stall_next = flow_number(e, f);
    e->stall_tail = flow_number(e, f);
}

static void unstall(struct engine *e, struct flow *f)
{
    if (!f->stalled)
        return;
    uint16_t me = flow_number(e, f), prev = NONE;
    /* Flows give up in the order they began to wait: it is near the head. */
    for (uint16_t i = e->stall_head; i != me; i = e->flows[i].stall_next)
        prev = i;
    if (prev == NONE)
        e->stall_head = f->stall_next;
    else
        e->flows[prev].stall_next = f->stall_next;
    if (e->stall_tail == me)
        e->stall_tail = prev;
    f->stalled = false;
}

struct flow *flow_unstall(struct engine *e)
{
    if (e->stall_head == NONE)
        return NULL;
    struct flow *f = &e->flows[e->stall_head];
    unstall(e, f);
    return f;
}

void flow_quiet(struct engine *e, struct flow *f)
{
    flow_unwait(e, f);
    unstall(e, f);
}

void flow_fresh(struct engine *e, struct flow *f)
{
    if (f->fresh || f->phase != PHASE_IDLE)
        return;
    f->fresh = true;
    f->stall_next = NONE;
    if (e->fresh_head == NONE)
        e->fresh_head = flow_number(e, f);
    else
        e->flows[e->fresh_tail].stall_next = flow_number(e, f);
    e->fresh_tail = flow_number(e, f);
}

/* --- tickets ----------------------------------------------------------------------- */

struct ticket *ticket_take(struct engine *e, uint16_t flow, uint32_t generation, uint8_t number)
{
    if (e->free_ticket == NONE)
        return NULL;
    struct ticket *t = &e->tickets[e->free_ticket];
    e->free_ticket = t->next;
    t->flow = flow;
    t->generation = generation;
    t->number = number;
    t->sent_us = e->now_us;
    return t;
}

void ticket_give(struct engine *e, struct ticket *t)
{
    t->next = e->free_ticket;
    e->free_ticket = (uint16_t)(t - e->tickets);
}
