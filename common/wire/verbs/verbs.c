/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verbs channel (verbs.h).
 *
 * Memory, registered once per channel:
 *   [ in ring: the peer writes | out ring: what we write, staged | credit: the peer writes ]
 * Staged bytes are written to the same offsets of the peer's in ring. They are
 * free again when the peer's credit has passed them: it read them, so the write is
 * over; no completion of a send is waited for but to count work requests.
 *
 * The immediate of a write: the bytes it makes visible / 8, or CREDIT: then the
 * credit words were written. A burst that passes the ring's end is two writes, the
 * second one with the immediate (RC keeps their order).
 *
 * Bounds: at most BURSTS bursts and credits are not yet confirmed by the peer's
 * credit, and RECVS receives are always posted, more than that: no receiver-not-
 * ready. SENDS work requests fit the send queue; every SIGNAL_EVERYth is signalled.
 *
 * The peer may be hostile: how frames are taken out of the ring, frame_ring.h;
 * an immediate or credit that cannot be closes the channel.
 *
 * A closed or dead peer shows as rdma_cm's DISCONNECTED (its kernel says so for
 * it) or as a failed write. What had arrived before is still lent.
 *
 * Trailers: on a link between replicas, if both know them, each frame in the ring is
 * followed by its position, the key of the ring and a CRC32C of all that. A frame is
 * taken only if they fit. They tell what of the ring's memory is a frame, and the
 * next one, when no completion tells it:
 *
 * A fence, in this order:
 *   1. QP -> ERR; then our receives come back, flushed or with what arrived before
 *      (FENCE_MS at most: step 2 does not rely on it);
 *   2. the queue pair is destroyed and the ring deregistered: no write lands any more,
 *      by whatever queue pair;
 *   3. recv lends what completions told, then, from there on, whatever has a trailer
 *      that fits, up to the first that has none: a write of which a part landed, or
 *      all but its notice. Then the channel is closed.
 * Of our own writes those count as lost that came back flushed or failed. A link is
 * fenced once; the next one has new queue pairs, a new ring and a new key.
 *
 * Thread: the owner's, everything. Nothing blocks but a fence, and close, which waits for its
 * last writes for at most CLOSE_MS, and not at all if the peer was not heard for HEARD_MS.
 */
#include "common/wire/verbs/channel_impl.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "common/wire/crc.h"
#include "common/wire/frame_ring.h"

uint64_t verbs_clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool is_up(struct verbs *v)
{
    if (v->state != UP)
        verbs_look(v);
    return v->c.open && v->state == UP;
}

/* --- completions -------------------------------------------------------------------------- */

static void on_arrival(struct verbs *v, uint32_t immediate)
{
    v->recvs--;
    if (!v->fenced && !verbs_post_recv(v)) {
        shut(v, "cannot post a receive");
        return;
    }
    v->got++;
    if (immediate == CREDIT)
        return;
    uint64_t tail = v->in_tail + (uint64_t)immediate * 8;
    if (tail - v->in_head > RING_BYTES)
        shut(v, "the other side wrote more than its ring holds");
    else
        v->in_tail = tail;
}

/* A stranger can SEND, too: that takes a receive, and is no frame. */
static void on_received(struct verbs *v, const struct ibv_wc *wc)
{
    if (wc->opcode == IBV_WC_RECV_RDMA_WITH_IMM) {
        on_arrival(v, be32toh(wc->imm_data));
        return;
    }
    v->recvs--;
    shut(v, "the other side sent what is no write into the ring");
}

/* Of one that failed only its number is valid. */
static void count_failed(struct verbs *v, const struct ibv_wc *wc)
{
    if (wc->wr_id == ID_RECV)
        v->recvs--;
    else
        v->lost++;
}

/* What had arrived is lent before we close. */
static void on_failed(struct verbs *v, const struct ibv_wc *wc)
{
    count_failed(v, wc);
    v->disconnected = true;
    if (!v->end && wc->status != IBV_WC_WR_FLUSH_ERR)
        v->end = ibv_wc_status_str(wc->status);
}

/* A signalled write is over, and with it the unsignalled ones before it. */
static void on_sent(struct verbs *v, uint32_t number)
{
    v->sends = v->sent - number;
    v->last = number == v->sent ? 0 : v->last;
    verbs_reads_sent(v, number);
}

bool verbs_poll(struct verbs *v)
{
    struct ibv_wc wc[POLL_MAX];
    int n, any = 0;
    do {
        n = ibv_poll_cq(v->cq, POLL_MAX, wc);
        for (int i = 0; i < n && v->c.open; i++) {
            if (wc[i].status != IBV_WC_SUCCESS)
                on_failed(v, &wc[i]);
            else if (wc[i].wr_id == ID_RECV)
                on_received(v, &wc[i]);
            else
                on_sent(v, (uint32_t)wc[i].wr_id);
        }
        any |= n > 0;
    } while (n == POLL_MAX && v->c.open);
    if (any && !v->disconnected)
        v->heard_ms = verbs_clock_ms();
    return any;
}

/* The peer's credit, if it can be one. The words are written as a whole with their
 * completion behind them; a torn pair is only ever older, never newer. */
static void see_credit(struct verbs *v)
{
    uint64_t head = v->credit->head, bursts = v->credit->bursts;
    if (head - v->head_seen > v->posted - v->head_seen ||
        bursts - v->bursts_seen > v->bursts - v->bursts_seen) {
        shut(v, "the other side wrote a credit that cannot be");
        return;
    }
    v->head_seen = head;
    v->bursts_seen = bursts;
}

/* --- writing ---------------------------------------------------------------------------------- */

static bool post(struct verbs *v, const void *from, uint64_t to, uint32_t bytes,
                 bool with_immediate, uint32_t immediate)
{
    struct ibv_sge sge = {.addr = (uintptr_t)from, .length = bytes, .lkey = v->mr->lkey};
    struct ibv_send_wr wr = {.sg_list = &sge, .num_sge = 1,
                             .opcode = with_immediate ? IBV_WR_RDMA_WRITE_WITH_IMM
                                                      : IBV_WR_RDMA_WRITE,
                             .imm_data = htobe32(immediate),
                             .wr.rdma = {.remote_addr = to, .rkey = v->peer.rkey}}, *bad;
    if (bytes <= INLINE_BYTES)
        wr.send_flags |= IBV_SEND_INLINE;
    if (++v->unsignalled == SIGNAL_EVERY) {
        wr.send_flags |= IBV_SEND_SIGNALED;
        v->unsignalled = 0;
    }
    wr.wr_id = ++v->sent;
    v->sends++;
    if (ibv_post_send(v->id->qp, &wr, &bad)) {
        shut(v, "cannot post a write");
        return false;
    }
    return true;
}

static bool may_post(const struct verbs *v)
{
    return v->c.open && v->bursts - v->bursts_seen < BURSTS && v->sends + 2 <= SENDS;
}

static void publish(struct verbs *v)
{
    uint64_t at = v->posted & (RING_BYTES - 1), bytes = v->out_tail - v->posted;
    if (!bytes)
        return;
    if (!may_post(v)) {
        see_credit(v);
        verbs_poll(v);
        if (!may_post(v))
            return; /* with the next flush, or recv */
    }
    if (at + bytes > RING_BYTES) {
        uint32_t first = (uint32_t)(RING_BYTES - at);
        if (!post(v, v->out + at, v->peer.ring + at, first, false, 0))
            return;
        at = 0;
        if (!post(v, v->out, v->peer.ring, (uint32_t)(bytes - first), true, (uint32_t)(bytes / 8)))
            return;
    } else if (!post(v, v->out + at, v->peer.ring + at, (uint32_t)bytes, true,
                     (uint32_t)(bytes / 8))) {
        return;
    }
    v->posted = v->out_tail;
    v->bursts++;
}

static bool fits(const struct verbs *v, uint64_t need)
{
    return v->out_tail + need - v->head_seen <= RING_BYTES;
}

static uint32_t crc_of(const void *frame, uint32_t bytes, const struct trailer *t)
{
    return crc32c(crc32c(0, frame, bytes), t, offsetof(struct trailer, crc));
}

static void put(struct verbs *v, const void *frame, uint32_t bytes)
{
    uint64_t position = frame_ring_begin(v->out, RING_BYTES, v->out_tail, bytes + v->trailer);
    uint8_t *at = v->out + (position & (RING_BYTES - 1));
    memcpy(at, frame, bytes);
    if (v->trailer) {
        struct trailer t = {.position = position, .key = v->peer.rkey};
        t.crc = crc_of(frame, bytes, &t);
        memcpy(at + bytes, &t, sizeof t);
    }
    v->out_tail = position + bytes + v->trailer;
}

static int verbs_send(struct channel *c, const void *frame, uint32_t bytes)
{
    struct verbs *v = of(c);
    if (bytes < sizeof(struct msg_head) || bytes > MSG_BYTES_MAX || bytes % 8 != 0)
        return -EMSGSIZE;
    bool up = is_up(v);
    if (!c->open || v->disconnected || v->fenced)
        return -ENOTCONN;
    if (!up)
        return -EAGAIN;
    uint64_t need = frame_ring_need(RING_BYTES, v->out_tail, bytes + v->trailer);
    if (!fits(v, need)) {
        publish(v); /* a reader cannot make room of what it does not see */
        verbs_poll(v);
        see_credit(v);
        verbs_look(v);
        if (!c->open || v->disconnected)
            return -ENOTCONN;
        v->waited = !fits(v, need);
        if (v->waited)
            return -EAGAIN;
    }
    put(v, frame, bytes);
    return 0;
}

static void verbs_flush(struct channel *c)
{
    if (!c->open || of(c)->state != UP || of(c)->fenced)
        return;
    publish(of(c));
    verbs_reads_post(of(c));
}

/* --- fencing ------------------------------------------------------------------------------------ */

static uint64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* The queue pair is in error: takes what comes back, until the last of it did. */
static void take_back(struct verbs *v)
{
    struct ibv_send_wr wr = {.wr_id = ID_LAST, .opcode = IBV_WR_RDMA_WRITE,
                             .send_flags = IBV_SEND_SIGNALED}, *bad;
    struct ibv_wc wc[POLL_MAX];
    bool last = ibv_post_send(v->id->qp, &wr, &bad) != 0;
    uint64_t until = clock_ms() + FENCE_MS;
    while ((v->recvs || !last) && clock_ms() < until) {
        int n = ibv_poll_cq(v->cq, POLL_MAX, wc);
        for (int i = 0; i < n; i++) {
            if (wc[i].wr_id == ID_LAST)
                last = true;
            else if (wc[i].status != IBV_WC_SUCCESS)
                count_failed(v, &wc[i]);
            else if (wc[i].wr_id == ID_RECV)
                on_received(v, &wc[i]);
        }
        if (n <= 0)
            sched_yield();
    }
}

static uint32_t verbs_fence(struct channel *c)
{
    struct verbs *v = of(c);
    struct ibv_qp_attr error = {.qp_state = IBV_QPS_ERR};
    if (v->state != UP || v->fenced)
        return v->lost;
    v->fenced = true;
    if (ibv_modify_qp(v->id->qp, &error, IBV_QP_STATE) == 0)
        take_back(v);
    verbs_cut_off(v);
    return v->lost;
}

/* --- reading ------------------------------------------------------------------------------------ */

/* Tells the peer how far we read, when that is worth a message. */
static void give_credit(struct verbs *v, bool all)
{
    bool due = v->in_head - v->released > RING_BYTES / 4 || v->got - v->got_told >= CREDIT_EVERY;
    if (!due && !(all && v->in_head - v->released > RING_BYTES / 8))
        return;
    if (v->sends + 2 > SENDS)
        return;
    struct credit now = {v->in_head, v->got};
    if (!post(v, &now, v->peer.credit, sizeof now, true, CREDIT))
        return;
    v->bursts++;
    v->released = v->in_head;
    v->got_told = v->got;
}

static bool trailer_fits(const struct verbs *v, uint64_t position, uint32_t bytes)
{
    struct trailer t;
    memcpy(&t, v->frame + bytes, sizeof t);
    return t.position == position && t.key == v->key && t.crc == crc_of(v->frame, bytes, &t);
}

/* The frame at in_head, if it ends before `tail`. NULL, or what is wrong. */
static const char *take(struct verbs *v, uint64_t tail, uint32_t *bytes)
{
    uint64_t head = v->in_head;
    const char *why = frame_ring_take(v->in, RING_BYTES, &head, tail, v->trailer, v->frame, bytes);
    if (!why && v->trailer && !trailer_fits(v, head - *bytes - v->trailer, *bytes))
        why = "a frame whose trailer does not fit";
    if (!why)
        v->in_head = head;
    return why;
}

static void shut_ended(struct verbs *v)
{
    shut(v, !v->disconnected ? "fenced" : v->end ? v->end : "the other side closed");
}

/* Beyond what completions told there is at most what the peer had room for. */
static const void *recv_fenced(struct verbs *v, uint32_t *bytes)
{
    bool told = v->in_head < v->in_tail;
    uint64_t most = v->released + RING_BYTES;
    if ((told || v->trailer) && !take(v, told ? v->in_tail : most, bytes))
        return v->frame;
    shut_ended(v);
    return NULL;
}

static const void *nothing(struct verbs *v, uint32_t *bytes)
{
    /* The log is in the ring of the backup, who dials; who was dialled may not know by whom. */
    if (v->disconnected && v->trailer && v->dialled) {
        verbs_fence(&v->c);
        return recv_fenced(v, bytes);
    }
    if (v->disconnected) {
        shut_ended(v);
        return NULL;
    }
    give_credit(v, true);
    if (v->posted != v->out_tail)
        publish(v);
    if (++v->empty % LOOK_EVERY == 0)
        verbs_look(v);
    return NULL;
}

static const void *verbs_recv(struct channel *c, uint32_t *bytes)
{
    struct verbs *v = of(c);
    if (v->fenced)
        return c->open ? recv_fenced(v, bytes) : NULL;
    if (!is_up(v))
        return NULL;
    give_credit(v, false);
    if (v->in_head == v->in_tail)
        verbs_poll(v);
    if (!c->open)
        return NULL;
    if (v->in_head == v->in_tail)
        return nothing(v, bytes);
    v->empty = 0;
    const char *why = take(v, v->in_tail, bytes);
    if (!why)
        return v->frame;
    char text[sizeof c->why];
    snprintf(text, sizeof text, "the other side sent what is no valid message: %s", why);
    shut(v, text);
    return NULL;
}

/* --- sleeping, closing ----------------------------------------------------------------------------- */

static int verbs_fd(struct channel *c, short *events)
{
    *events = POLLIN;
    return c->open ? of(c)->sleep_fd : -1;
}

static bool verbs_arm(struct channel *c)
{
    struct verbs *v = of(c);
    struct ibv_cq *cq;
    void *context;
    if (!c->open || v->fenced)
        return !c->open;
    if (v->state != UP)
        return !verbs_look(v);
    while (v->armed && ibv_get_cq_event(v->completions, &cq, &context) == 0) {
        ibv_ack_cq_events(cq, 1);
        v->armed = false;
    }
    if (!v->armed && ibv_req_notify_cq(v->cq, 0))
        return false;
    v->armed = true;
    /* What came before the notice was asked for rings no bell. */
    bool came = verbs_poll(v) | verbs_look(v);
    see_credit(v);
    if (v->posted != v->out_tail && may_post(v))
        publish(v);
    verbs_reads_post(v);
    if (v->disconnected || v->in_head != v->in_tail || verbs_reads_over(v) || !c->open)
        return !c->open;
    if (v->waited && came) {
        v->waited = false;
        return false;
    }
    return true;
}

/* What was flushed leaves before the connection does: a write of nothing, signalled,
 * completes after all before it. */
static void drain(struct verbs *v)
{
    uint64_t until = clock_ms() + CLOSE_MS;
    publish(v);
    v->unsignalled = SIGNAL_EVERY - 1;
    if (v->sends == SENDS || !post(v, v->out, v->peer.ring, 0, false, 0))
        return;
    v->last = v->sends;
    while (v->c.open && !v->disconnected && v->last && clock_ms() < until) {
        verbs_poll(v);
        sched_yield();
    }
}

static void verbs_close(struct channel *c)
{
    struct verbs *v = of(c);
    if (c->open && v->state == UP && !v->fenced) {
        verbs_poll(v);
        if (!v->disconnected && verbs_clock_ms() <= v->heard_ms + HEARD_MS)
            drain(v);
        else
            publish(v); /* may arrive; whoever closes has others to serve */
    }
    shut(v, "closed here");
    verbs_destroy(of(c));
}

const struct channel_ops verbs_ops = {
    .name = "verbs", .send = verbs_send, .flush = verbs_flush, .recv = verbs_recv,
    .fd = verbs_fd, .arm = verbs_arm, .close = verbs_close,
    .read = verbs_read, .read_done = verbs_read_done, .fence = verbs_fence,
};
