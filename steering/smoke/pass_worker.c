/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The smallest worker there is: what comes by one side leaves by the other,
 * unchanged. For steering's own tests, and to read: it is the whole protocol
 * between steering and a worker (join, probes, doorbells, reconnecting).
 *
 *   pass_worker <control socket> <name> <own doorbell> <probe key file> [mode]
 *
 * mode "mute": forwards, but answers no probe. "forge": answers with wrong tags.
 * One thread, until SIGTERM; then it leaves and empties its rings.
 */
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

enum { BURST = 64, MBUFS = 2047, IDLE_ROUNDS = 20, ETHER_BYTES = 14, ERR_BYTES = 512 };

struct worker {
    const char *control, *name, *mode;
    uint8_t key[PROBE_KEY_BYTES];
    uint64_t incarnation;
    struct doorbell *own, *steering;
    struct rte_mempool *pool;
    int port[2];
};

static volatile int stop;

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

/* True: m is a probe, and is now its answer. */
static bool answer_probe(struct worker *w, struct rte_mbuf *m)
{
    uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
    struct probe p;
    if (m->data_len < ETHER_BYTES + sizeof(p) || (frame[12] << 8 | frame[13]) != PROBE_ETHERTYPE)
        return false;
    memcpy(&p, frame + ETHER_BYTES, sizeof(p));
    if (!probe_verify(&p, w->key) || p.kind != PROBE_REQUEST)
        return false;
    p.kind = PROBE_REPLY;
    p.incarnation = w->incarnation;
    probe_sign(&p, w->key);
    if (strcmp(w->mode, "forge") == 0)
        p.tag[0] ^= 1;
    memcpy(frame + ETHER_BYTES, &p, sizeof(p));
    return true;
}

static void send_packets(struct worker *w, int side, struct rte_mbuf **m, uint16_t n)
{
    uint16_t sent = n > 0 ? rte_eth_tx_burst((uint16_t)w->port[side], 0, m, n) : 0;
    if (sent < n)
        rte_pktmbuf_free_bulk(m + sent, n - sent);
}

static uint32_t pass(struct worker *w, int from)
{
    struct rte_mbuf *in[BURST], *out[BURST], *probes[BURST];
    uint16_t nout = 0, nprobes = 0;
    uint16_t n = rte_eth_rx_burst((uint16_t)w->port[from], 0, in, BURST);
    for (uint16_t i = 0; i < n; i++) {
        if (!answer_probe(w, in[i]))
            out[nout++] = in[i];
        else if (strcmp(w->mode, "mute") == 0)
            rte_pktmbuf_free(in[i]);
        else
            probes[nprobes++] = in[i];
    }
    send_packets(w, from, probes, nprobes);
    send_packets(w, !from, out, nout);
    return n;
}

static uint32_t one_round(struct worker *w)
{
    dpdk_poll_begin();
    uint32_t n = pass(w, 0) + pass(w, 1);
    dpdk_poll_end();
    if (n > 0 && w->steering != NULL)
        doorbell_ring(w->steering);
    return n;
}

static void run(struct worker *w)
{
    int empty = 0, out_of_touch = 0;
    while (!stop) {
        empty = one_round(w) > 0 ? 0 : empty + 1;
        if (empty < IDLE_ROUNDS) {
            sched_yield();
            continue;
        }
        doorbell_arm(w->own);
        if (one_round(w) == 0)
            doorbell_sleep(w->own, NULL, 0, 10);
        else
            doorbell_disarm(w->own);
        dpdk_poll_begin();
        if (linked(w))
            out_of_touch = 0;
        else if (++out_of_touch % 10 == 0)
            reconnect(w);
        dpdk_poll_end();
    }
}

static void leave(struct worker *w)
{
    char request[64], reply[1024];
    snprintf(request, sizeof(request), "leave %s", w->name);
    if (control_ask(w->control, request, reply, sizeof(reply), 2000) < 0)
        return;
    while (one_round(w) > 0)
        continue;
}

int main(int argc, char **argv)
{
    static struct worker w;
    char err[ERR_BYTES] = "";
    struct timespec ts;
    if (argc < 5)
        return die("usage: pass_worker <control> <name> <own doorbell> <key file> [mute|forge]");
    w.control = argv[1];
    w.name = argv[2];
    w.mode = argc > 5 ? argv[5] : "";
    clock_gettime(CLOCK_REALTIME, &ts);
    w.incarnation = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    log_init("pass_worker", w.name, LOG_LEVEL_WARN);
    if (probe_key_load(argv[4], w.key, err, sizeof(err)) < 0 ||
        doorbell_create(argv[3], &w.own, err, sizeof(err)) < 0 ||
        dpdk_start("pass_worker", NULL, 32, err, sizeof(err)) < 0)
        return die(err);
    w.pool = rte_pktmbuf_pool_create("packets", MBUFS, 128, 0, 2048 + RTE_PKTMBUF_HEADROOM,
                                     SOCKET_ID_ANY);
    if (w.pool == NULL || join(&w, true, err) < 0)
        return die(err);
    run(&w);
    leave(&w);
    dpdk_port_remove((uint16_t)w.port[0]);
    dpdk_port_remove((uint16_t)w.port[1]);
    doorbell_close(w.steering);
    doorbell_close(w.own);
    return 0;
}
