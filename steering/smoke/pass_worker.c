/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The smallest worker there is: what comes by one side leaves by the other,
 * unchanged. For steering's own tests, and to read: it is the whole protocol
 * between steering and a worker (join, probes, markers, doorbells, reconnecting).
 *
 *   pass_worker <control socket> <name> <own doorbell> <probe key file> [mode]
 *
 * mode "mute": forwards, but answers no probe. "forge": answers with wrong tags.
 * "slow": keeps each packet for SLOW_US. "hasty": the same, and returns markers
 * before what came before them. "old": knows no markers.
 * One thread, until SIGTERM; then it leaves, which another asks for, and empties
 * its rings.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "common/log/log.h"
#include "common/metrics/control.h"
#include "common/packet/doorbell.h"
#include "common/packet/dpdk_port.h"
#include "common/packet/probe.h"

enum { BURST = 64, MBUFS = 4095, IDLE_ROUNDS = 20, ETHER_BYTES = 14, ERR_BYTES = 512,
       LINE = 2048, SLOW_US = 20000, LEAVE_MS = 3000, QUIET_ROUNDS = 3 };

/* Packets on their way through, in order; they leave by side `to` at `due_us`. */
struct line {
    uint64_t in, out;          /* counts; `in` - `out` are here */
    struct { struct rte_mbuf *m; uint64_t due_us; uint8_t to; } packet[LINE];
};

struct worker {
    const char *control, *name;
    uint8_t key[PROBE_KEY_BYTES];
    uint64_t incarnation;
    struct doorbell *own, *steering;
    struct rte_mempool *pool;
    int port[2];
    bool mute, forge, slow, hasty, old;
    struct line line;
    struct probe marker;       /* the newest; its seq is the number of the change */
    unsigned came;             /* bits: sides where it was read */
    uint64_t barrier;          /* returned when that many have left */
    bool waits;
};

static volatile int stop;
static int left;               /* steering answered; set by the thread that asked */

static void on_signal(int number)
{
    stop = 1;
}

static int die(const char *sentence)
{
    fprintf(stderr, "pass_worker: %s\n", sentence);
    return 1;
}

/* --- join -------------------------------------------------------------------------- */

static int add_port(struct worker *w, json_t *reply, int side, char *err)
{
    static const char *const text[2] = {"inside", "outside"};
    char name[32];
    json_t *args = json_object_get(json_object_get(reply, text[side]), "devargs");
    snprintf(name, sizeof(name), "net_memif%d", side);
    w->port[side] = dpdk_port_add(name, json_string_value(args), w->pool, 2048, 2048, err,
                                  ERR_BYTES);
    return w->port[side] < 0 ? -1 : 0;
}

static int join(struct worker *w, bool ports, char *err)
{
    static char text[8192];
    char request[64];
    snprintf(request, sizeof(request), "join %s", w->name);
    if (control_ask(w->control, request, text, sizeof(text), 5000) < 0) {
        snprintf(err, ERR_BYTES, "nobody answers on %s", w->control);
        return -1;
    }
    json_t *reply = json_loads(text, 0, NULL);
    const char *bell = json_string_value(json_object_get(reply, "doorbell"));
    if (bell == NULL) {
        snprintf(err, ERR_BYTES, "join: %.400s", text);
        return -1;
    }
    doorbell_close(w->steering);
    w->steering = NULL;
    int rc = doorbell_open(bell, &w->steering, err, ERR_BYTES);
    for (int side = 0; ports && rc == 0 && side < 2; side++)
        rc = add_port(w, reply, side, err);
    json_decref(reply);
    return rc;
}

static bool linked(const struct worker *w)
{
    struct rte_eth_link l[2];
    rte_eth_link_get_nowait((uint16_t)w->port[0], &l[0]);
    rte_eth_link_get_nowait((uint16_t)w->port[1], &l[1]);
    return l[0].link_status == RTE_ETH_LINK_UP && l[1].link_status == RTE_ETH_LINK_UP;
}

/* A memif client does not reconnect by itself when steering was restarted. */
static void reconnect(struct worker *w)
{
    char err[ERR_BYTES];
    if (join(w, false, err) < 0)
        return;
    for (int side = 0; side < 2; side++) {
        rte_eth_dev_stop((uint16_t)w->port[side]);
        rte_eth_dev_start((uint16_t)w->port[side]);
    }
}

/* --- packets ----------------------------------------------------------------------- */

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void send_one(struct worker *w, int side, struct rte_mbuf *m)
{
    if (rte_eth_tx_burst((uint16_t)w->port[side], 0, &m, 1) != 1)
        rte_pktmbuf_free(m);
}

/* Signs p and sends it in m, which was a probe. */
static void send_probe(struct worker *w, int side, struct rte_mbuf *m, struct probe *p)
{
    p->incarnation = w->incarnation;
    probe_sign(p, w->key);
    if (w->forge)
        p->tag[0] ^= 1;
    memcpy(rte_pktmbuf_mtod(m, uint8_t *) + ETHER_BYTES, p, sizeof(*p));
    send_one(w, side, m);
}

static void return_marker(struct worker *w, int side)
{
    struct rte_mbuf *m = rte_pktmbuf_alloc(w->pool);
    uint8_t *frame = m != NULL ? (uint8_t *)rte_pktmbuf_append(m, PROBE_FRAME_BYTES) : NULL;
    struct probe p = w->marker;
    if (frame == NULL)
        return; /* steering asks again */
    memset(frame, 0, PROBE_FRAME_BYTES);
    frame[12] = PROBE_ETHERTYPE >> 8;
    frame[13] = PROBE_ETHERTYPE & 0xff;
    p.kind = PROBE_RETURNED;
    p.side = (uint32_t)side;
    send_probe(w, side, m, &p);
}

static void marker_came(struct worker *w, const struct probe *p)
{
    if (w->old || p->side > 1 || p->seq < w->marker.seq)
        return;
    bool again = p->seq == w->marker.seq && w->came == 3 && !w->waits;
    if (p->seq != w->marker.seq)
        w->came = 0;
    w->marker = *p;
    w->came |= 1u << p->side;
    if (again || w->hasty) {
        return_marker(w, (int)p->side);
    } else if (w->came == 3 && !w->waits) {
        w->barrier = w->line.in;
        w->waits = true;
    }
}

/* True: m was a probe, and is dealt with. */
static bool probe_came(struct worker *w, int side, struct rte_mbuf *m)
{
    uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
    struct probe p;
    if (m->data_len < ETHER_BYTES + sizeof(p) || (frame[12] << 8 | frame[13]) != PROBE_ETHERTYPE)
        return false;
    memcpy(&p, frame + ETHER_BYTES, sizeof(p));
    if (probe_verify(&p, w->key) && p.kind == PROBE_REQUEST && !w->mute) {
        p.kind = PROBE_REPLY;
        send_probe(w, side, m, &p);
        return true;
    }
    if (probe_verify(&p, w->key) && p.kind == PROBE_MARKER)
        marker_came(w, &p);
    rte_pktmbuf_free(m);
    return true;
}

static uint32_t take_in(struct worker *w, int side)
{
    struct rte_mbuf *m[BURST];
    struct line *l = &w->line;
    if (l->in - l->out > LINE - BURST)
        return 0;
    uint16_t n = rte_eth_rx_burst((uint16_t)w->port[side], 0, m, BURST);
    for (uint16_t i = 0; i < n; i++) {
        if (probe_came(w, side, m[i]))
            continue;
        l->packet[l->in % LINE].m = m[i];
        l->packet[l->in % LINE].to = !side;
        l->packet[l->in % LINE].due_us = w->slow ? now_us() + SLOW_US : 0;
        l->in++;
    }
    return n;
}

static uint32_t let_out(struct worker *w)
{
    struct line *l = &w->line;
    uint64_t now = w->slow ? now_us() : 0;
    uint32_t n = 0;
    for (; l->out < l->in && l->packet[l->out % LINE].due_us <= now; l->out++, n++) {
        struct rte_mbuf *m = l->packet[l->out % LINE].m;
        if (rte_eth_tx_burst((uint16_t)w->port[l->packet[l->out % LINE].to], 0, &m, 1) == 1)
            continue;
        if (linked(w))
            break; /* a full ring: in the next round */
        rte_pktmbuf_free(m);
    }
    if (w->waits && l->out >= w->barrier) {
        w->waits = false;
        return_marker(w, 0);
        return_marker(w, 1);
        n++;
    }
    return n;
}

static uint32_t one_round(struct worker *w)
{
    dpdk_poll_begin();
    uint32_t n = take_in(w, 0) + take_in(w, 1);
    n += let_out(w);
    dpdk_poll_end();
    if (n > 0 && w->steering != NULL)
        doorbell_ring(w->steering);
    return n;
}

/* Asks from a thread of its own: steering answers when the rings are done with. */
static void *ask_to_leave(void *arg)
{
    const struct worker *w = arg;
    char request[64], reply[1024];
    snprintf(request, sizeof(request), "leave %s", w->name);
    control_ask(w->control, request, reply, sizeof(reply), LEAVE_MS);
    __atomic_store_n(&left, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* Nothing comes any more, and nothing is left. */
static bool done(const struct worker *w, int empty)
{
    return __atomic_load_n(&left, __ATOMIC_ACQUIRE) && w->line.in == w->line.out &&
           empty >= QUIET_ROUNDS;
}

static void run(struct worker *w)
{
    int empty = 0, out_of_touch = 0;
    pthread_t thread = 0;
    while (!done(w, empty)) {
        if (stop && thread == 0 && pthread_create(&thread, NULL, ask_to_leave, w) != 0)
            return;
        empty = one_round(w) > 0 ? 0 : empty + 1;
        if (empty < IDLE_ROUNDS) {
            sched_yield();
            continue;
        }
        doorbell_arm(w->own);
        if (one_round(w) == 0)
            doorbell_sleep(w->own, NULL, 0, w->line.in > w->line.out || stop ? 1 : 10);
        else
            doorbell_disarm(w->own);
        dpdk_poll_begin();
        if (linked(w))
            out_of_touch = 0;
        else if (++out_of_touch % 10 == 0 && !stop)
            reconnect(w);
        dpdk_poll_end();
    }
    pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
    static struct worker w;
    char err[ERR_BYTES] = "";
    struct timespec ts;
    if (argc < 5)
        return die("usage: pass_worker <control> <name> <own doorbell> <key file> [mode]");
    w.control = argv[1];
    w.name = argv[2];
    const char *mode = argc > 5 ? argv[5] : "";
    w.mute = strcmp(mode, "mute") == 0;
    w.forge = strcmp(mode, "forge") == 0;
    w.hasty = strcmp(mode, "hasty") == 0;
    w.old = strcmp(mode, "old") == 0;
    w.slow = w.hasty || w.old || strcmp(mode, "slow") == 0;
    clock_gettime(CLOCK_REALTIME, &ts);
    w.incarnation = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    log_init("pass_worker", w.name, LOG_LEVEL_WARN);
    if (probe_key_load(argv[4], w.key, err, sizeof(err)) < 0 ||
        doorbell_create(argv[3], &w.own, err, sizeof(err)) < 0 ||
        dpdk_start("pass_worker", NULL, 48, err, sizeof(err)) < 0)
        return die(err);
    w.pool = rte_pktmbuf_pool_create("packets", MBUFS, 128, 0, 2048 + RTE_PKTMBUF_HEADROOM,
                                     SOCKET_ID_ANY);
    if (w.pool == NULL || join(&w, true, err) < 0)
        return die(err);
    run(&w);
    dpdk_port_remove((uint16_t)w.port[0]);
    dpdk_port_remove((uint16_t)w.port[1]);
    doorbell_close(w.steering);
    doorbell_close(w.own);
    return 0;
}
