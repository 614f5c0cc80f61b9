/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Hash -> bucket -> worker -> its ring. Datapath thread only.
 *
 * A worker that turns out to be gone while its packets are being sent is marked
 * so at once, and those packets go to another one, once. In a planned change
 * packets may have to wait first (holding.c).
 */
#include "steering/front/steer.h"

#include <string.h>

#include <rte_mbuf.h>

#include "steering/maglev.h"

static uint64_t next_random(struct steer *s)
{
    s->rng ^= s->rng << 13; /* xorshift64, Marsaglia 2003 */
    s->rng ^= s->rng >> 7;
    s->rng ^= s->rng << 17;
    return s->rng;
}

static int any_member(const struct steer *s, uint64_t hash)
{
    return s->member_n == 0 ? -1 : s->member[(hash >> 32) % s->member_n];
}

int spread_pick(struct steer *s, uint64_t hash)
{
    if (s->spray)
        return any_member(s, next_random(s));
    uint16_t w = s->table->bucket[maglev_bucket(hash, s->table->size)];
    if (w != MAGLEV_NONE && (s->usable >> w & 1))
        return w;
    /* The table that knows of the loss is being built. */
    int other = any_member(s, hash);
    if (other >= 0 && w != MAGLEV_NONE)
        count_add(s, COUNT_RESTEERED, 1);
    return other;
}

void spread_dispose(struct steer *s, struct rte_mbuf **m, uint32_t n, enum drop why)
{
    drop_count(s, why, n);
    if (s->tracing)
        traced_dropped(s, m, n, why);
    rte_pktmbuf_free_bulk(m, n);
}

static void address(const struct steer *s, const struct worker *w, enum packet_side side,
                    struct rte_mbuf *m)
{
    uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
    memcpy(frame, w->mac[side], 6);
    memcpy(frame + 6, s->edge[side].mac, 6);
}

uint16_t spread_put(struct steer *s, struct worker *w, enum packet_side side, struct rte_mbuf **m,
                    uint16_t n)
{
    uint64_t bytes[BURST], sum = 0, us = 0;
    uint32_t ids[BURST];
    for (uint16_t i = 0; i < n; i++) {
        address(s, w, side, m[i]);
        bytes[i] = m[i]->pkt_len;
    }
    if (s->tracing)
        us = traced_ids(m, n, ids);
    uint16_t sent = worker_tx(s, w, side, m, n);
    if (s->tracing)
        traced_to_worker(s, w, ids, sent, us);
    for (uint16_t i = 0; i < sent; i++)
        sum += bytes[i];
    metric_add(w->count[W_TO_INSIDE + side], sent);
    metric_add(w->count[W_BYTES_TO_INSIDE + side], sum);
    w->ring |= sent > 0;
    w->asked_early = true;
    return sent;
}

/* The worker died under these packets. */
static void steer_again(struct steer *s, struct worker *w, enum packet_side side,
                        struct rte_mbuf **m, uint16_t n)
{
    uint16_t lost = 0;
    for (uint16_t i = 0; i < n; i++) {
        int other = any_member(s, m[i]->hash.usr * 0x9e3779b97f4a7c15ull);
        if (other >= 0 && (unsigned)other != w->number &&
            spread_put(s, &s->worker[other], side, &m[i], 1) == 1)
            count_add(s, COUNT_RESTEERED, 1);
        else
            m[lost++] = m[i];
    }
    metric_add(w->count[W_GONE], lost);
    spread_dispose(s, m, lost, DROP_WORKER_GONE);
}

static void flush(struct steer *s, struct worker *w, enum packet_side side)
{
    struct queue *q = &w->out[side];
    uint16_t n = q->n, sent = 0;
    if (n == 0)
        return;
    q->n = 0;
    if (hold_backlog(s->hold, w->number, side) == 0)
        sent = spread_put(s, w, side, q->m, n);
    if (sent == n)
        return;
    if (!worker_look_at_link(s, w)) {
        steer_again(s, w, side, q->m + sent, n - sent);
        return;
    }
    sent += holding_queue(s, w, side, q->m + sent, n - sent);
    metric_add(w->count[W_RING_FULL], n - sent);
    spread_dispose(s, q->m + sent, n - sent, DROP_RING_FULL);
}

void spread_flush(struct steer *s, struct worker *w)
{
    flush(s, w, SIDE_INSIDE);
    flush(s, w, SIDE_OUTSIDE);
}

void spread(struct steer *s, enum packet_side side, struct rte_mbuf *m, uint64_t hash)
{
    if (m->pkt_len > s->tunnel.fits && oversize(s, side, m, hash))
        return;
    if (s->hold->waits != 0 && holding_keep(s, side, m, hash))
        return;
    int number = spread_pick(s, hash);
    if (number < 0) {
        spread_dispose(s, &m, 1, DROP_NO_WORKER);
        return;
    }
    struct worker *w = &s->worker[number];
    m->hash.usr = (uint32_t)hash;
    w->out[side].m[w->out[side].n++] = m;
    if (w->out[side].n == BURST)
        flush(s, w, side);
}
