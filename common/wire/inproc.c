/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inproc channel: two single-producer single-consumer byte rings between
 * two threads of one process. Frames are really copied in; the reader is lent
 * the ring's own bytes.
 *
 *   ring  [ free | lent | frames ... | not yet published | free ]
 *                ^head              ^tail               ^end's own tail
 *
 * Positions count bytes for ever; an index is position & (ring_bytes - 1).
 * Frames do not wrap: where one does not fit before the ring's end, a zero
 * length says "go on at the start". ring_bytes >= 2 * MSG_BYTES_MAX makes any
 * frame fit into an empty ring wherever its positions stand.
 *
 * Owner: each end belongs to one thread; the pair is freed by the end closed
 * last, so either may close first.
 *
 * Sleeping, without lost wake-ups (all four seq_cst, so one side at least sees
 * the other; fences would do, but the thread sanitizer cannot follow them):
 *   reader, arm:     reader_sleeps = 1;  then look at tail (and `closed`)
 *   writer, publish: tail = ...;         then look at reader_sleeps, ring
 *   writer, full:    writer_waits = 1;   then look at head
 *   reader, release: head = ...;         then look at writer_waits, ring
 */
#include "common/wire/channel.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/wire/msg.h"

struct ring {
    alignas(64) _Atomic uint64_t tail; /* writer stores; partner: tail_seen's load */
    _Atomic uint32_t reader_sleeps;    /* reader stores; partner: exchange in publish */
    alignas(64) _Atomic uint64_t head; /* reader stores; partner: head_seen's load */
    _Atomic uint32_t writer_waits;     /* writer stores; partner: exchange in release */
    alignas(64) uint8_t *bytes;
};

struct pair {
    struct ring rings[2];              /* rings[i] is written by end i */
    _Atomic bool closed[2];            /* end i stores; partner: peer_closed */
    int wake_fd[2];                    /* what end i sleeps on */
    _Atomic int ends;                  /* last to decrement frees; partner: itself */
    uint64_t ring_bytes;
};

struct end {
    struct channel c;
    struct pair *pair;
    int side;
    struct ring *in, *out;
    uint64_t out_tail, head_seen;      /* out_tail may be ahead of out->tail */
    uint64_t in_head, tail_seen;       /* in_head may be ahead of in->head */
    uint64_t released;                 /* in->head as we stored it last */
    uint32_t lent;
    bool waited;                       /* send said -EAGAIN, not yet relieved */
};

static struct end *of(struct channel *c)
{
    return (struct end *)c;
}

static void ring_bell(struct pair *p, int side)
{
    /* Can only fail when the counter is full, and then it is readable. */
    (void)!write(p->wake_fd[side], &(uint64_t){1}, 8);
}

static void shut(struct end *e, const char *why)
{
    if (!e->c.open)
        return;
    e->c.open = false;
    snprintf(e->c.why, sizeof e->c.why, "%s", why);
    atomic_store(&e->pair->closed[e->side], true); /* partner: peer_closed of the other end */
    ring_bell(e->pair, !e->side);
}

static bool peer_closed(const struct end *e)
{
    /* seq_cst: pairs with the store in shut as tail does in arm */
    return atomic_load(&e->pair->closed[!e->side]);
}

/* --- writing ------------------------------------------------------------------ */

static void publish(struct end *e)
{
    if (atomic_load_explicit(&e->out->tail, memory_order_relaxed) == e->out_tail)
        return;
    atomic_store(&e->out->tail, e->out_tail); /* partner: look, and arm, of the reader */
    if (atomic_load(&e->out->reader_sleeps) && atomic_exchange(&e->out->reader_sleeps, 0))
        ring_bell(e->pair, !e->side);
}

static bool fits(struct end *e, uint64_t need)
{
    return e->out_tail + need - e->head_seen <= e->pair->ring_bytes;
}

/* Waits are announced before the last look, so that the reader's release
 * either is seen here or sees us. */
static bool wait_for_room(struct end *e, uint64_t need)
{
    e->head_seen = atomic_load_explicit(&e->out->head, memory_order_acquire); /* partner: release */
    if (fits(e, need))
        return true;
    publish(e); /* a reader cannot make room of what it does not see */
    atomic_store(&e->out->writer_waits, 1);
    e->head_seen = atomic_load(&e->out->head);
    if (!fits(e, need)) {
        e->waited = true;
        return false;
    }
    atomic_store_explicit(&e->out->writer_waits, 0, memory_order_relaxed);
    return true;
}

static int inproc_send(struct channel *c, const void *frame, uint32_t bytes)
{
    struct end *e = of(c);
    uint64_t size = e->pair->ring_bytes, at = e->out_tail & (size - 1);
    if (bytes < sizeof(struct msg_head) || bytes > MSG_BYTES_MAX || bytes % 8 != 0)
        return -EMSGSIZE;
    if (!c->open || peer_closed(e))
        return -ENOTCONN;
    uint64_t skip = at + bytes <= size ? 0 : size - at;
    if (!fits(e, skip + bytes) && !wait_for_room(e, skip + bytes))
        return -EAGAIN;
    if (skip) {
        memset(e->out->bytes + at, 0, 8);
        at = 0;
    }
    memcpy(e->out->bytes + at, frame, bytes);
    e->out_tail += skip + bytes;
    return 0;
}

static void inproc_flush(struct channel *c)
{
    if (c->open)
        publish(of(c));
}

/* --- reading ------------------------------------------------------------------- */

static void release(struct end *e)
{
    if (e->released == e->in_head)
        return;
    e->released = e->in_head;
    atomic_store(&e->in->head, e->in_head); /* partner: wait_for_room of the writer */
    if (atomic_load(&e->in->writer_waits) && atomic_exchange(&e->in->writer_waits, 0))
        ring_bell(e->pair, !e->side);
}

/* True if there is something at in_head. */
static bool look(struct end *e)
{
    if (e->in_head == e->tail_seen) {
        e->tail_seen = atomic_load_explicit(&e->in->tail, memory_order_acquire); /* partner: publish */
        e->c.looks += e->in_head != e->tail_seen;
    }
    return e->in_head != e->tail_seen;
}

static const void *inproc_recv(struct channel *c, uint32_t *bytes)
{
    struct end *e = of(c);
    uint64_t mask = e->pair->ring_bytes - 1;
    e->in_head += e->lent;
    e->lent = 0;
    if (!c->open)
        return NULL;
    bool last = peer_closed(e); /* before the look: then it is the last one */
    if (e->in_head - e->released > mask / 4)
        release(e);
    if (!look(e)) {
        release(e);
        if (last)
            shut(e, "the other side closed");
        return NULL;
    }
    const struct msg_head *head = (const void *)(e->in->bytes + (e->in_head & mask));
    if (head->bytes == 0) { /* published together with the frame behind it */
        e->in_head = (e->in_head | mask) + 1;
        head = (const void *)e->in->bytes;
        release(e); /* it may be half the ring */
    }
    uint32_t n = head->bytes;
    const char *why = n > e->tail_seen - e->in_head ? "frame cut short" : msg_validate(head, n);
    if (why) {
        char text[sizeof c->why];
        snprintf(text, sizeof text, "the other side sent what is no valid message: %s", why);
        shut(e, text);
        return NULL;
    }
    e->lent = n;
    *bytes = n;
    return head;
}

/* --- sleeping, closing ------------------------------------------------------------ */

static int inproc_fd(struct channel *c, short *events)
{
    struct end *e = of(c);
    if (!c->open)
        return -1;
    *events = POLLIN;
    return e->pair->wake_fd[e->side];
}

static bool inproc_arm(struct channel *c)
{
    struct end *e = of(c);
    uint64_t count;
    if (!c->open)
        return true;
    /* Emptied before the looks below: a bell after them is for what they missed. */
    (void)!read(e->pair->wake_fd[e->side], &count, sizeof count);
    if (e->waited && atomic_load(&e->out->writer_waits) == 0) {
        e->waited = false;
        return false;
    }
    uint64_t at = e->in_head + e->lent;
    atomic_store(&e->in->reader_sleeps, 1);
    if (atomic_load(&e->in->tail) == at && !peer_closed(e))
        return true;
    atomic_store_explicit(&e->in->reader_sleeps, 0, memory_order_relaxed);
    return false;
}

static void leave(struct pair *p)
{
    /* acq_rel: all of either end's use happens before the free */
    if (atomic_fetch_sub_explicit(&p->ends, 1, memory_order_acq_rel) != 1)
        return;
    for (int i = 0; i < 2; i++) {
        if (p->wake_fd[i] >= 0)
            close(p->wake_fd[i]);
        free(p->rings[i].bytes);
    }
    free(p);
}

static void inproc_close(struct channel *c)
{
    struct end *e = of(c);
    inproc_flush(c);
    shut(e, "closed here");
    leave(e->pair);
    free(e);
}

static const struct channel_ops inproc_ops = {
    .name = "inproc", .send = inproc_send, .flush = inproc_flush, .recv = inproc_recv,
    .fd = inproc_fd, .arm = inproc_arm, .close = inproc_close,
};

static struct end *create_end(struct pair *p, int side)
{
    struct end *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->c.ops = &inproc_ops;
    e->c.open = true;
    e->c.cheap = true;
    e->pair = p;
    e->side = side;
    e->out = &p->rings[side];
    e->in = &p->rings[!side];
    return e;
}

static struct pair *create_pair(uint32_t ring_bytes)
{
    struct pair *p = aligned_alloc(64, sizeof *p);
    if (!p)
        return NULL;
    memset(p, 0, sizeof *p);
    p->ring_bytes = ring_bytes;
    atomic_init(&p->ends, 1);
    bool ok = true;
    for (int i = 0; i < 2; i++) {
        p->rings[i].bytes = aligned_alloc(64, ring_bytes);
        p->wake_fd[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        ok = ok && p->rings[i].bytes && p->wake_fd[i] >= 0;
    }
    if (ok)
        return p;
    leave(p);
    return NULL;
}

int inproc_pair(uint32_t ring_bytes, struct channel **a, struct channel **b)
{
    assert((ring_bytes & (ring_bytes - 1)) == 0 && ring_bytes >= 2 * MSG_BYTES_MAX);
    struct pair *p = create_pair(ring_bytes);
    if (!p)
        return -ENOMEM;
    struct end *x = create_end(p, 0), *y = create_end(p, 1);
    if (!x || !y) {
        free(x);
        free(y);
        leave(p);
        return -ENOMEM;
    }
    atomic_init(&p->ends, 2);
    *a = &x->c;
    *b = &y->c;
    return 0;
}
