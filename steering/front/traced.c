/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Steering's part of a packet's trace (common/metrics/trace.h): a packet that comes in by an edge
 * ("received", "held" until then, "to_worker"), and one that a worker sends ("from_worker", "sent"), which is booked
 * under the side that it leaves by.
 */
#include "steering/front/steer.h"

#include <rte_mbuf.h>

static void book(struct steer *s, const struct rte_mbuf *m, const struct trace_event *e)
{
    trace_event(s->trace, m->hash.fdir.hi, e);
}

void traced_received(struct steer *s, struct rte_mbuf *m, const struct packet *p)
{
    m->hash.fdir.hi = trace_packet(s->trace, p);
    book(s, m, &(struct trace_event){.us = s->now_us, .what = "received"});
}

void traced_from_worker(struct steer *s, const struct worker *w, enum packet_side side,
                        struct rte_mbuf *m)
{
    struct packet p;
    uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
    bool whole = packet_parse(&p, frame, m->data_len, m->data_len, side) == PACKET_OK;
    m->hash.fdir.hi = whole ? trace_packet(s->trace, &p) : 0;
    book(s, m, &(struct trace_event){.what = "from_worker", .about = "worker", .number = w->number});
}

void traced_held(struct steer *s, unsigned owner)
{
    const struct hold_queue *q = &s->hold->group[owner].kept;
    for (uint32_t n = q->n, i = q->head; n > 0; n--, i = s->hold->packets[i].next)
        book(s, s->hold->packets[i].packet,
             &(struct trace_event){.what = "held", .about = "worker", .number = owner});
}

uint64_t traced_ids(struct rte_mbuf *const *m, uint16_t n, uint32_t *ids)
{
    for (uint16_t i = 0; i < n; i++)
        ids[i] = m[i]->hash.fdir.hi;
    return monotonic_us();
}

void traced_to_worker(struct steer *s, const struct worker *w, const uint32_t *ids, uint16_t n,
                      uint64_t us)
{
    for (uint16_t i = 0; i < n; i++)
        trace_event(s->trace, ids[i], &(struct trace_event){.us = us, .what = "to_worker",
                                                            .about = "worker", .number = w->number});
}

void traced_sent(struct steer *s, struct rte_mbuf *const *m, uint16_t n)
{
    for (uint16_t i = 0; i < n; i++)
        book(s, m[i], &(struct trace_event){.what = "sent"});
}

void traced_dropped(struct steer *s, struct rte_mbuf *const *m, uint32_t n, enum drop why)
{
    static const char *const reasons[] = {
#define X(name, text) [name] = text,
        DROPS(X)
#undef X
    };
    for (uint32_t i = 0; i < n; i++)
        book(s, m[i], &(struct trace_event){.what = "dropped", .why = reasons[why]});
}
