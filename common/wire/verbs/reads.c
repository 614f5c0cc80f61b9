/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One-sided reads of the peer's memory (channel.h: read, read_done), on the same queue pair and
 * completion queue as the rings.
 *
 *   free --read--> staged --flush: one chain, one doorbell--> under way --completion--> over
 *     ▲                                                                                  │
 *     └── next read_done ── lent <──────────────────── read_done ────────────────────────┘
 *
 * Each has a place of CHANNEL_READ_BYTES in memory of their own, made and registered at the
 * first read, so that who only answers pays nothing. The last of a chain is signalled; a queue
 * pair completes in order, so any later completion tells of those before it as well. How many
 * are on the wire at once the device decides (initiator depth); the rest wait in its queue.
 */
#include "common/wire/verbs/channel_impl.h"

#include <errno.h>
#include <stdlib.h>

enum { MASK = CHANNEL_READS - 1 };
_Static_assert((CHANNEL_READS & MASK) == 0, "positions in queues are masked");

struct queue {
    uint8_t place[CHANNEL_READS];
    uint32_t number[CHANNEL_READS]; /* of the work request, once it is under way */
    uint32_t head, tail;
};
struct verbs_reads {
    uint8_t *memory;
    struct ibv_mr *mr;
    struct queue spare, staged, away, over;
    bool lent;                    /* the head of `over` */
    uint64_t token[CHANNEL_READS];
    struct ibv_sge sge[CHANNEL_READS];
    struct ibv_send_wr wr[CHANNEL_READS]; /* by place; chained in their order when posted */
};

static uint32_t count(const struct queue *q)
{
    return q->tail - q->head;
}

static void push(struct queue *q, uint8_t place, uint32_t number)
{
    q->place[q->tail & MASK] = place;
    q->number[q->tail++ & MASK] = number;
}

static uint8_t pop(struct queue *q)
{
    return q->place[q->head++ & MASK];
}

static bool make(struct verbs *v)
{
    struct verbs_reads *r = calloc(1, sizeof *r);
    v->reads = r;
    if (!r || !(r->memory = aligned_alloc(4096, CHANNEL_READS * CHANNEL_READ_BYTES)) ||
        !(r->mr = ibv_reg_mr(v->id->pd, r->memory, CHANNEL_READS * CHANNEL_READ_BYTES,
                             IBV_ACCESS_LOCAL_WRITE))) {
        verbs_reads_destroy(v);
        return false;
    }
    for (int i = 0; i < CHANNEL_READS; i++)
        push(&r->spare, (uint8_t)i, 0);
    return true;
}

void verbs_reads_destroy(struct verbs *v)
{
    struct verbs_reads *r = v->reads;
    v->reads = NULL;
    if (!r)
        return;
    if (r->mr)
        ibv_dereg_mr(r->mr);
    free(r->memory);
    free(r);
}

int verbs_read(struct channel *c, const struct channel_read *want)
{
    struct verbs *v = of(c);
    struct verbs_reads *r = v->reads;
    if (want->bytes == 0 || want->bytes > CHANNEL_READ_BYTES)
        return -EMSGSIZE;
    if (!c->open || v->state != UP || v->disconnected || v->fenced)
        return -ENOTCONN;
    if (!r && !make(v))
        return -ENOMEM;
    r = v->reads;
    if (!count(&r->spare))
        return -EAGAIN;
    uint8_t place = pop(&r->spare);
    r->token[place] = want->token;
    r->sge[place] = (struct ibv_sge){.addr = (uintptr_t)(r->memory + place * CHANNEL_READ_BYTES),
                                     .length = want->bytes, .lkey = r->mr->lkey};
    r->wr[place] = (struct ibv_send_wr){.sg_list = &r->sge[place], .num_sge = 1,
                                        .opcode = IBV_WR_RDMA_READ,
                                        .wr.rdma = {.remote_addr = want->address,
                                                    .rkey = want->rkey}};
    push(&r->staged, place, 0);
    return 0;
}

/* As many as fit the send queue; the rest with the next flush, or when some are over. */
void verbs_reads_post(struct verbs *v)
{
    struct verbs_reads *r = v->reads;
    struct ibv_send_wr *first = NULL, *last = NULL, *bad;
    while (r && count(&r->staged) && v->sends < SENDS) {
        uint8_t place = pop(&r->staged);
        struct ibv_send_wr *wr = &r->wr[place];
        if (last)
            last->next = wr;
        else
            first = wr;
        last = wr;
        wr->wr_id = ++v->sent;
        v->sends++;
        push(&r->away, place, v->sent);
    }
    if (!first)
        return;
    last->send_flags = IBV_SEND_SIGNALED;
    v->unsignalled = 0;
    if (ibv_post_send(v->id->qp, first, &bad))
        shut(v, "cannot post a read");
}

void verbs_reads_sent(struct verbs *v, uint32_t number)
{
    struct verbs_reads *r = v->reads;
    while (r && count(&r->away) && (int32_t)(number - r->away.number[r->away.head & MASK]) >= 0)
        push(&r->over, pop(&r->away), 0);
}

bool verbs_reads_over(const struct verbs *v)
{
    const struct verbs_reads *r = v->reads;
    return r && count(&r->over) > r->lent;
}

const void *verbs_read_done(struct channel *c, uint64_t *token)
{
    struct verbs *v = of(c);
    struct verbs_reads *r = v->reads;
    if (!r)
        return NULL;
    if (r->lent)
        push(&r->spare, pop(&r->over), 0);
    r->lent = false;
    if (!count(&r->over) && count(&r->away) && c->open)
        verbs_poll(v);
    if (!count(&r->over)) {
        if (c->open && count(&r->staged))
            verbs_reads_post(v);
        return NULL;
    }
    uint8_t place = r->over.place[r->over.head & MASK];
    r->lent = true;
    *token = r->token[place];
    return r->memory + place * CHANNEL_READ_BYTES;
}
