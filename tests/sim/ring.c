/* SPDX-License-Identifier: BSD-3-Clause */
#include "ring.h"

#include <stdlib.h>
#include <string.h>

#include "world.h"

enum {
    AGAIN_US = 4000,
    STUCK_US = 400000,           /* then the connection is broken */
    UNSEEN_US = 3,               /* from landing to being told, mostly */
    LATE_US = 2000, LATE_PER_MILLE = 60,
    DEAF_US = 40000, DEAF_PER_MILLE = 3, /* of nothing at all it is told */
};

struct post { uint64_t bytes, frame[]; };

static struct post *post_of(const void *frame, uint32_t bytes)
{
    struct post *p = malloc(sizeof *p + bytes);
    if (!p)
        abort();
    p->bytes = bytes;
    memcpy(p->frame, frame, bytes);
    return p;
}

static uint64_t way_us(struct world *w, int from, int to)
{
    uint64_t us = 3 + rng_exp(&w->rng, 20);
    if (rng_chance(&w->rng, w->slow_per_mille))
        us += rng_exp(&w->rng, 15000);
    return us + w->lag_us[from][to];
}

/* --- the backup's ------------------------------------------------------------------------- */

void *ring_take(struct world *w, uint32_t conn, uint32_t *bytes)
{
    struct ring *r = &w->conns[conn - 1].ring;
    if (!r->nlanded)
        return NULL;
    struct landed first = r->landed[0];
    memmove(r->landed, r->landed + 1, --r->nlanded * sizeof first);
    r->bytes -= first.bytes;
    r->taken++;
    *bytes = first.bytes;
    return first.frame;
}

/* e->a: connection, e->b: the write; all up to it are told by this. */
static void told(struct world *w, const struct event *e)
{
    uint32_t conn = (uint32_t)e->a;
    if (w->now_us < w->conns[conn - 1].ring.deaf_until_us) {
        sched_at(w, w->conns[conn - 1].ring.deaf_until_us, w->conns[conn - 1].end[0].proc, told, e->a,
                 e->b, NULL);
        return;
    }
    while (w->conns[conn - 1].ring.taken < e->b && !w->conns[conn - 1].ring.fenced) {
        uint32_t bytes;
        void *frame = ring_take(w, conn, &bytes);
        if (!frame)
            return;
        net_deliver(w, conn, 0, frame, bytes);
        free(frame);
    }
}

void ring_fence(struct world *w, uint32_t conn)
{
    w->conns[conn - 1].ring.fenced = true;
}

void ring_close(struct ring *r)
{
    for (uint32_t i = 0; i < r->nlanded; i++)
        free(r->landed[i].frame);
    free(r->landed);
    r->landed = NULL;
    r->nlanded = r->room = 0;
    r->bytes = 0;
    r->fenced = true;
}

/* --- the primary's ------------------------------------------------------------------------ */

/* The write has landed. That is no acknowledgement: who says so has not looked at it. */
static void completed(struct world *w, const struct event *e)
{
    const struct post *p = e->ptr;
    const struct msg_append *m = (const struct msg_append *)p->frame;
    const struct conn *c = &w->conns[e->a - 1];
    w->counts.unseen += c->ring.taken < e->b && !c->ring.fenced;
    bool counts = SHARD_BUG(BUG_COMPLETION_ACKS) || SHARD_BUG(BUG_TAIL_NOT_SCANNED);
    if (!counts || m->head.type != MSG_APPEND || !c->end[1].open)
        return;
    struct msg_ack ack = {.self = w->replicas[c->end[0].proc][c->dialler].self,
                          .position = m->first + m->count - 1, .stamp = m->stamp};
    msg_head_set(&ack, MSG_ACK, sizeof ack, c->shard, m->head.view_epoch);
    net_deliver(w, (uint32_t)e->a, 1, &ack, sizeof ack);
}

static void add(struct ring *r, const struct post *p)
{
    if (r->nlanded == r->room) {
        r->room = r->room ? 2 * r->room : 8;
        r->landed = realloc(r->landed, r->room * sizeof *r->landed);
        if (!r->landed)
            abort();
    }
    void *copy = aligned_alloc(8, p->bytes);
    if (!copy)
        abort();
    memcpy(copy, p->frame, p->bytes);
    r->landed[r->nlanded++] = (struct landed){(uint32_t)p->bytes, copy};
    r->bytes += p->bytes;
    r->ever++;
}

static void land(struct world *w, const struct event *e);

/* Somebody waits for a partition to end, and so does whatever is behind it, so that all
 * stay in order. */
static bool waits(struct world *w, const struct event *e, struct conn *c)
{
    const struct post *p = e->ptr;
    struct ring *r = &c->ring;
    if (r->waits_us <= w->now_us) {
        if (!w->blocked[c->end[1].proc][c->end[0].proc]) {
            r->stuck_us = 0;
            return false;
        }
        if (!r->stuck_us)
            r->stuck_us = w->now_us;
        if (w->now_us > r->stuck_us + STUCK_US) {
            net_reset(w, (uint32_t)e->a);
            return true;
        }
        r->waits_us = (w->now_us / AGAIN_US + 1) * AGAIN_US;
    }
    sched_at(w, r->waits_us, NOBODY, land, e->a, 0, post_of(p->frame, (uint32_t)p->bytes));
    return true;
}

/* A ring that was not fenced is in use again, for the link to the next primary. */
static void land_late(struct world *w, const struct event *e)
{
    const struct conn *c = &w->conns[e->a - 1];
    const struct replica *backup = &w->replicas[c->end[0].proc][c->dialler];
    struct event next = *e;
    next.a = backup->upstream.conn;
    if (next.a && next.a != e->a && w->conns[next.a - 1].ring.used)
        land(w, &next);
}

/* e->a: connection. The host's processor has no part in it. */
static void land(struct world *w, const struct event *e)
{
    struct conn *c = &w->conns[e->a - 1];
    struct ring *r = &c->ring;
    int from = c->end[1].proc, to = c->end[0].proc;
    if (!c->end[0].open || c->end[0].life != w->procs[to].life || r->fenced) {
        w->counts.fenced_writes += r->fenced;
        if (SHARD_BUG(BUG_LATE_WRITE_LANDS) && c->end[0].life == w->procs[to].life)
            land_late(w, e);
        return;
    }
    if (waits(w, e, c))
        return;
    const struct post *p = e->ptr;
    uint64_t unseen_us = rng_exp(&w->rng, rng_chance(&w->rng, LATE_PER_MILLE) ? LATE_US : UNSEEN_US);
    add(r, p);
    if (rng_chance(&w->rng, DEAF_PER_MILLE))
        r->deaf_until_us = w->now_us + rng_exp(&w->rng, DEAF_US);
    sched_at(w, w->now_us + unseen_us, to, told, e->a, r->ever, NULL);
    sched_at(w, w->now_us + way_us(w, to, from), from, completed, e->a, r->ever,
             post_of(p->frame, (uint32_t)p->bytes));
}

bool ring_write(struct world *w, uint32_t conn, const void *frame, uint32_t bytes)
{
    struct conn *c = &w->conns[conn - 1];
    struct ring *r = &c->ring;
    uint64_t at_us = w->now_us + way_us(w, c->end[1].proc, c->end[0].proc);
    if (r->bytes + bytes > RING_BYTES)
        return false;
    if (at_us <= r->last_us)
        at_us = r->last_us + 1;
    r->last_us = at_us;
    sched_at(w, at_us, NOBODY, land, conn, 0, post_of(frame, bytes));
    return true;
}
