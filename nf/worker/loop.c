/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The datapath loop of a worker.
 *
 *   round: rx both sides -> engine -> replies -> markers -> tx both sides -> ring steering
 *   idle:  a few yields, arm the doorbell, one more round, sleep on the
 *          doorbell, the store's descriptor and the edge sockets
 *
 * A round that began more than max_hold_ms after the one before, or took
 * longer itself, discards everything this worker holds, receive rings
 * included: what it knows may be stale and its packets are late.
 *
 * No allocation, no log, no blocking but the sleep.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "common/packet/dpdk_port.h"
#include "nf/worker/worker.h"

enum {
    BURST = 64,
    IDLE_YIELDS = 32,         /* idle rounds before the doorbell is armed */
    SLEEP_MAX_US = 10 * 1000, /* a wake-up that a dying ringer lost costs this */
};

uint64_t loop_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* --- out of the engine ------------------------------------------------------------- */

void loop_emit(void *ctx, void *cookie, const struct packet *pkt, enum packet_side out)
{
    struct worker *w = ctx;
    struct rte_mbuf *m = cookie;
    m->data_len = (uint16_t)pkt->len;
    m->pkt_len = pkt->len;
    side_put(&w->side[out], m);
}

void loop_drop(void *ctx, void *cookie, int reason)
{
    (void)ctx;
    (void)reason; /* the engine counts */
    rte_pktmbuf_free(cookie);
}

/* --- into it ------------------------------------------------------------------------ */

static bool is_probe(const struct rte_mbuf *m)
{
    const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
    return m->data_len >= sizeof *eth && eth->ether_type == rte_cpu_to_be_16(PROBE_ETHERTYPE);
}

/* Which front end a frame came from. */
static unsigned origin(const struct worker *w, const struct rte_mbuf *m)
{
    return w->tunnel ? tunnel_origin(m) : 0;
}

/* A health probe is echoed, unless the store is out of our reach: then another
 * worker serves better. Markers go back in their own time (markers_out). */
static void genuine_in(struct worker *w, struct side *s, struct rte_mbuf *m, struct probe *p)
{
    if (p->kind == PROBE_MARKER) {
        s->n.bad_probe += p->side != s->which || !marker_came(&w->marker[origin(w, m)], p);
        rte_pktmbuf_free(m);
        return;
    }
    if (!w->store_well) {
        s->n.probes_withheld++;
        rte_pktmbuf_free(m);
        return;
    }
    p->kind = PROBE_REPLY;
    p->busy_permille = w->busy_permille;
    p->in_flight = engine_in_flight(w->engine);
    p->incarnation = w->incarnation;
    probe_sign(p, w->probe_key);
    memcpy(rte_pktmbuf_mtod(m, uint8_t *) + sizeof(struct rte_ether_hdr), p, sizeof *p);
    s->n.probes++;
    side_put(s, m);
}

static void probe_in(struct worker *w, struct side *s, struct rte_mbuf *m)
{
    struct probe p;
    bool whole = m->data_len >= sizeof(struct rte_ether_hdr) + sizeof p && m->nb_segs == 1;
    if (whole)
        memcpy(&p, rte_pktmbuf_mtod(m, uint8_t *) + sizeof(struct rte_ether_hdr), sizeof p);
    if (whole && w->has_probe_key && p.magic == PROBE_MAGIC &&
        (p.kind == PROBE_REQUEST || p.kind == PROBE_MARKER) && probe_verify(&p, w->probe_key)) {
        genuine_in(w, s, m, &p);
        return;
    }
    s->n.bad_probe++;
    rte_pktmbuf_free(m);
}

static void marker_out(struct worker *w, unsigned front, unsigned side)
{
    struct rte_mbuf *m = rte_pktmbuf_alloc(w->pool);
    char *frame = m ? rte_pktmbuf_append(m, PROBE_FRAME_BYTES) : NULL;
    if (!frame)
        return; /* steering asks again */
    struct probe p = marker_reply(&w->marker[front], side, w->incarnation);
    probe_sign(&p, w->probe_key);
    memset(frame, 0, PROBE_FRAME_BYTES);
    ((struct rte_ether_hdr *)frame)->ether_type = rte_cpu_to_be_16(PROBE_ETHERTYPE);
    memcpy(frame + sizeof(struct rte_ether_hdr), &p, sizeof p);
    tunnel_mark(m, front);
    side_put(&w->side[side], m);
}

/* Behind all that is on its way out by now. */
static void markers_out(struct worker *w)
{
    for (unsigned front = 0; front < SITE_FRONTS_MAX; front++) {
        uint8_t due = marker_due(&w->marker[front], w->engine);
        for (unsigned side = 0; due != 0 && side < 2; side++)
            if (due >> side & 1)
                marker_out(w, front, side);
    }
}

/* How much to read. With the window full, nothing: the rings wait. If that
 * lasts, the rings are read all the same (the engine drops and counts), for
 * there are probes in them: a slow store must not make us look dead. */
static uint32_t burst_max(struct worker *w, uint64_t now_us)
{
    uint32_t room = engine_room(w->engine);
    if (room) {
        w->full_us = 0;
        return room < BURST ? room : BURST;
    }
    if (w->full_us == 0)
        w->full_us = now_us;
    return now_us - w->full_us < w->full_patience_us ? 0 : BURST;
}

static uint32_t side_in(struct worker *w, struct side *s, uint64_t now_us, bool *received)
{
    struct rte_mbuf *burst[BURST];
    struct engine_packet in[BURST];
    uint32_t nin = 0;
    uint32_t n = side_rx(s, burst, burst_max(w, now_us), now_us);
    for (uint32_t i = 0; i < n; i++) {
        struct rte_mbuf *m = burst[i];
        if (is_probe(m)) {
            probe_in(w, s, m);
            continue;
        }
        s->n.rx++;
        if (m->nb_segs != 1) {
            s->n.segmented++;
            rte_pktmbuf_free(m);
            continue;
        }
        uint8_t *data = rte_pktmbuf_mtod(m, uint8_t *);
        if (s->learn && m->data_len >= sizeof(struct rte_ether_hdr))
            memcpy(s->peer, data + 6, sizeof s->peer);
        in[nin++] = (struct engine_packet){m, data, m->data_len,
                                           (uint32_t)m->data_len + rte_pktmbuf_tailroom(m)};
    }
    *received |= nin != 0;
    engine_rx(w->engine, in, nin, s->which, now_us);
    return n;
}

/* --- rounds --------------------------------------------------------------------------- */

static void discard_all(struct worker *w)
{
    w->absences++;
    engine_discard_all(w->engine, ENGINE_DROP_AWAY);
    side_discard(&w->side[SIDE_INSIDE]);
    side_discard(&w->side[SIDE_OUTSIDE]);
}

static bool too_long(const struct worker *w, uint64_t from_us, uint64_t to_us)
{
    return to_us - from_us > w->max_hold_us;
}

/* One round; how much it found to do. */
static uint32_t round_once(struct worker *w)
{
    uint64_t start = loop_now_us(), end;
    uint32_t work = 0, sent = 0;
    bool received = false;
    dpdk_poll_begin();
    if (too_long(w, w->last_us, start))
        discard_all(w);
    w->last_us = start;
    /* In turn: the first of the two may take all the room there is. */
    work += side_in(w, &w->side[w->rounds % 2], start, &received);
    work += side_in(w, &w->side[1 - w->rounds % 2], start, &received);
    engine_flush(w->engine);
    work += (uint32_t)engine_poll(w->engine, loop_now_us());
    engine_flush(w->engine);
    end = loop_now_us();
    if (too_long(w, start, end))
        discard_all(w);
    markers_out(w);
    sent += side_flush(&w->side[SIDE_INSIDE], end);
    sent += side_flush(&w->side[SIDE_OUTSIDE], end);
    if (start >= w->tend_us)
        tend(w, start);
    dpdk_poll_end();
    if (sent && w->steer_bell)
        doorbell_ring(w->steer_bell);
    if (w->drain)
        tend_drain(w, start, received);
    work += sent;
    if (work)
        w->busy_us += end - start;
    w->rounds++;
    return work;
}

/* --- sleeping ---------------------------------------------------------------------------- */

static int sleep_ms(const struct worker *w, uint64_t now_us, bool store_fd)
{
    uint64_t until = now_us + SLEEP_MAX_US;
    uint64_t due[] = {state_next_us(w->store), engine_next_us(w->engine), w->tend_us};
    for (int i = 0; i < 3; i++)
        if (due[i] < until)
            until = due[i];
    if (!store_fd && engine_in_flight(w->engine))
        return 0; /* nothing would tell us of an answer */
    return until <= now_us ? 1 : (int)((until - now_us + 999) / 1000);
}

static void sleep_once(struct worker *w)
{
    struct pollfd fds[3];
    int n = 0, fd = state_fd(w->store);
    if (fd >= 0)
        fds[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
    for (int i = 0; i < 2; i++)
        if (w->side[i].fd >= 0)
            fds[n++] = (struct pollfd){.fd = w->side[i].fd, .events = POLLIN};
    w->sleeps++;
    doorbell_sleep(w->bell, fds, n, sleep_ms(w, loop_now_us(), fd >= 0));
}

/* Nothing to do: the flag goes up, one more look, then sleep. */
static void idle(struct worker *w)
{
    doorbell_arm(w->bell);
    if (!state_arm(w->store) || round_once(w) || side_waiting(w)) {
        doorbell_disarm(w->bell);
        return;
    }
    sleep_once(w);
}

int loop_run(struct worker *w)
{
    uint32_t idles = 0;
    w->last_us = w->busy_since_us = w->well_us = loop_now_us();
    while (w->state != WORKER_DONE && !w->fatal[0]) {
        if (round_once(w)) {
            idles = 0;
        } else if (side_waiting(w) || ++idles < IDLE_YIELDS) {
            sched_yield(); /* who empties a full ring may want this processor */
        } else {
            idle(w);
        }
    }
    return w->fatal[0] ? -EIO : 0;
}
