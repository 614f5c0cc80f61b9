/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Workers: their memif ports (or their ends of the tunnel, tunnel.c), links,
 * probes, joining and leaving, and what they send. Datapath thread only; ports are made and removed here too, between
 * two rounds, and the time that takes is measured (GAUGE_STALL_US).
 */
#include "steering/front/steer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "common/packet/dpdk_port.h"
#include "common/packet/tunnel.h"

enum { ETHER_BYTES = 14 };

static const char *const side_text[2] = {"inside", "outside"};

/* --- who gets packets ----------------------------------------------------------- */

void workers_usable(struct steer *s)
{
    s->usable = s->members;
    for (unsigned i = 0; i < s->workers_max; i++) {
        const struct worker *w = &s->worker[i];
        if (w->health.state == HEALTH_LEAVING && w->link)
            s->usable |= s->table->members & 1ull << i;
    }
}

/* Has somebody been lost who did not say so before? */
static bool lost_unplanned(const struct steer *s, uint64_t gone)
{
    for (; gone != 0; gone &= gone - 1)
        if (s->worker[__builtin_ctzll(gone)].health.state != HEALTH_LEAVING)
            return true;
    return false;
}

/* After any change of a state or a link. */
static void review_members(struct steer *s)
{
    uint64_t healthy = 0, present = 0, linked = 0;
    unsigned workers = 0;
    bool kept;
    for (unsigned i = 0; i < s->workers_max; i++) {
        const struct worker *w = &s->worker[i];
        healthy |= (uint64_t)(w->health.state == HEALTH_HEALTHY) << i;
        present |= (uint64_t)worker_present(w) << i;
        linked |= (uint64_t)w->link << i;
        workers += worker_present(w);
    }
    uint64_t members = health_members(healthy, s->members, present, linked, &kept);
    if (kept && !s->kept) {
        count_add(s, COUNT_KEPT, 1);
        note_put(s, &(struct note){.kind = NOTE_KEPT, .a = members});
    }
    s->kept = kept;
    metric_set(s->counts.gauge[GAUGE_WORKERS], workers);
    metric_set(s->counts.gauge[GAUGE_HEALTHY], (uint64_t)__builtin_popcountll(healthy));
    if (members == s->members) {
        workers_usable(s);
        return;
    }
    bool unplanned = lost_unplanned(s, s->members & ~members);
    count_add(s, COUNT_REMOVALS, (uint64_t)__builtin_popcountll(s->members & ~members));
    count_add(s, COUNT_RETURNS, (uint64_t)__builtin_popcountll(members & ~s->members));
    s->members = members;
    s->member_n = 0;
    for (uint8_t i = 0; i < s->workers_max; i++)
        if (members >> i & 1)
            s->member[s->member_n++] = i;
    metric_set(s->counts.gauge[GAUGE_MEMBERS], s->member_n);
    workers_usable(s);
    table_want(s->tables, members);
    aide_wake(s);
    if (unplanned)
        holding_end(s);
}

static void stalled_since(struct steer *s, uint64_t began_us)
{
    uint64_t us = monotonic_us() - began_us;
    if (us > metric_get(s->counts.gauge[GAUGE_STALL_US]))
        metric_set(s->counts.gauge[GAUGE_STALL_US], us);
}

static void remove_ports(struct steer *s, struct worker *w)
{
    uint64_t began_us = monotonic_us();
    for (int side = 0; side < 2; side++) {
        char path[PATH_BYTES];
        uint8_t mac[6];
        if (w->port[side] < 0)
            continue;
        assert(w->out[side].n == 0);
        dpdk_port_remove((uint16_t)w->port[side]);
        w->port[side] = -1;
        worker_memif(s, w, (enum packet_side)side, path, mac);
        unlink(path);
    }
    doorbell_close(w->bell);
    w->bell = NULL;
    w->link = false;
    if (w->peer.on)
        tunnel_unset(s, w);
    stalled_since(s, began_us);
}

/* Its end may have been seen while packets were put into its rings (spread.c): no time to do it then. */
static void clear_absent(struct steer *s, struct worker *w)
{
    if (!worker_present(w) && (w->port[0] >= 0 || w->port[1] >= 0 || w->peer.on))
        remove_ports(s, w);
}

void worker_apply(struct steer *s, struct worker *w, enum health_event e)
{
    enum health_state before = w->health.state;
    if (e == HEALTH_NOTHING || !health_apply(&w->health, e, s->run_us))
        return;
    metric_set(w->count[W_STATE], w->health.state);
    struct note n = {.kind = NOTE_STATE, .worker = (uint8_t)w->number, .event = (uint8_t)e,
                     .before = (uint8_t)before, .state = (uint8_t)w->health.state};
    memcpy(n.name, w->name, sizeof(n.name));
    note_put(s, &n);
    review_members(s);
    if (w->health.state != HEALTH_HEALTHY && w->health.state != HEALTH_LEAVING)
        holding_worker_gone(s, w);
}

/* --- ports ------------------------------------------------------------------------ */

void worker_memif(const struct steer *s, const struct worker *w, enum packet_side side,
                  char path[PATH_BYTES], uint8_t mac[6])
{
    snprintf(path, PATH_BYTES, "%s/%s.%s.memif", s->front.memif_dir, w->name,
             side_text[side]);
    /* From the name, not from the number: a worker keeps its port over a
     * restart of steering, which may number workers anew. */
    const uint8_t key[crypto_shorthash_KEYBYTES] = "memif";
    uint8_t hash[crypto_shorthash_BYTES];
    crypto_shorthash(hash, (const uint8_t *)w->name, strlen(w->name), key);
    const uint8_t made[6] = {0x02, hash[0], hash[1], hash[2], hash[3], (uint8_t)side};
    memcpy(mac, made, sizeof(made)); /* locally administered; the link has two ends only */
}

static int add_port(struct steer *s, struct worker *w, enum packet_side side, char *err,
                    uint32_t err_len)
{
    char name[32], args[256], path[PATH_BYTES];
    const uint8_t *mac = s->edge[side].mac;
    worker_memif(s, w, side, path, w->mac[side]);
    unlink(path); /* of a steering that was killed */
    snprintf(name, sizeof(name), "net_memif%u", 2 * w->number + side);
    snprintf(args, sizeof(args),
             "role=server,id=%u,bsize=%d,rsize=%d,socket-abstract=no,socket=%s,"
             "mac=%02x:%02x:%02x:%02x:%02x:%02x",
             (unsigned)side, MEMIF_BUFFER_BYTES, MEMIF_RING_LOG2, path, mac[0], mac[1], mac[2],
             mac[3], mac[4], mac[5]);
    int port = dpdk_port_add(name, args, s->pool, MEMIF_DESCS, MEMIF_DESCS, err, err_len);
    if (port < 0)
        return port;
    w->port[side] = port;
    return 0;
}

static void open_bell(struct steer *s, struct worker *w)
{
    char path[256], err[ERR_BYTES];
    snprintf(path, sizeof(path), "%s/%s.bell", s->site->run_dir, w->name);
    doorbell_close(w->bell);
    w->bell = NULL;
    doorbell_open(path, &w->bell, err, sizeof(err)); /* not there yet: looked for again */
}

/* --- join, leave -------------------------------------------------------------------- */

struct worker *worker_named(struct steer *s, const char *name)
{
    for (unsigned i = 0; i < s->workers_max; i++)
        if (worker_present(&s->worker[i]) && strcmp(s->worker[i].name, name) == 0)
            return &s->worker[i];
    return NULL;
}

static struct worker *free_place(struct steer *s)
{
    for (unsigned i = 0; i < s->workers_max; i++)
        clear_absent(s, &s->worker[i]);
    for (unsigned i = 0; i < s->workers_max; i++)
        if (!worker_present(&s->worker[i]))
            return &s->worker[i];
    return NULL;
}

static void begin_life(struct steer *s, struct worker *w)
{
    /* Starting from the clock, a probe of an earlier steering is never fresh. */
    health_init(&w->health, s->timeout_us, s->incarnation + s->now_us);
    w->weight = WEIGHT_MAX;
    table_name(s->tables, w->number, w->name);
    counts_worker(s, w);
    metric_set(w->count[W_WEIGHT], w->weight);
    metric_set(w->count[W_MTU], s->mtu);
}

static int make_worker(struct steer *s, struct worker *w, const char *name, char *err,
                       uint32_t err_len)
{
    uint64_t began_us = monotonic_us();
    snprintf(w->name, sizeof(w->name), "%s", name);
    int rc = add_port(s, w, SIDE_INSIDE, err, err_len);
    if (rc == 0)
        rc = add_port(s, w, SIDE_OUTSIDE, err, err_len);
    if (rc < 0) {
        remove_ports(s, w);
        return rc;
    }
    begin_life(s, w);
    stalled_since(s, began_us);
    return 0;
}

struct worker *worker_enrol(struct steer *s, const char *name)
{
    char path[PATH_BYTES];
    struct worker *w = free_place(s);
    if (w == NULL)
        return NULL;
    snprintf(w->name, sizeof(w->name), "%s", name);
    for (int side = 0; side < 2; side++)
        worker_memif(s, w, (enum packet_side)side, path, w->mac[side]);
    begin_life(s, w);
    return w;
}

void worker_weigh(struct steer *s, struct worker *w, unsigned weight)
{
    if (w->weight == weight)
        return;
    w->weight = weight;
    table_weigh(s->tables, w->number, weight);
    metric_set(w->count[W_WEIGHT], weight);
    if (s->members >> w->number & 1) {
        table_want(s->tables, s->members);
        aide_wake(s);
    }
}

int worker_join(struct steer *s, const char *name, unsigned weight, unsigned *number, char *err,
                uint32_t err_len)
{
    if (!worker_name_is_good(name)) {
        snprintf(err, err_len, "'%s' is no worker's name: 1 to %d characters of a-z A-Z 0-9 . _ -, "
                 "the first a letter or digit", name, TABLE_NAME_BYTES - 1);
        return -EINVAL;
    }
    struct worker *w = worker_named(s, name);
    if (w != NULL && w->peer.on) {
        snprintf(err, err_len, "a worker of the name '%s' has joined by tunnel; choose another", name);
        return -EEXIST;
    }
    if (w == NULL) {
        w = free_place(s);
        if (w == NULL) {
            snprintf(err, err_len, "there are %u workers already, as many as "
                     "steering.workers_max allows", s->workers_max);
            return -ENOSPC;
        }
        int rc = make_worker(s, w, name, err, err_len);
        if (rc < 0)
            return rc;
    }
    worker_weigh(s, w, weight);
    worker_apply(s, w, HEALTH_JOINED);
    open_bell(s, w);
    note_worker(s, NOTE_JOIN, w, 0, 0);
    *number = w->number;
    return 0;
}

int worker_leave(struct steer *s, const char *name, unsigned *number, bool *last, bool *later,
                 char *err, uint32_t err_len)
{
    struct worker *w = worker_named(s, name);
    if (w == NULL) {
        snprintf(err, err_len, "no worker of the name '%s' has joined", name);
        return -ENOENT;
    }
    bool first = w->health.state != HEALTH_LEAVING;
    *number = w->number;
    worker_apply(s, w, HEALTH_LEAVE);
    *last = (s->members >> w->number & 1) != 0;
    *later = !*last && ((s->usable | s->hold->waits) >> w->number & 1) != 0;
    if (first)
        note_worker(s, NOTE_LEAVE, w, *last, 0);
    if (!w->link) {
        worker_apply(s, w, HEALTH_LINK_DOWN);
        remove_ports(s, w);
    }
    return 0;
}

/* --- the way to a worker and back ----------------------------------------------------- */

uint16_t worker_tx(struct steer *s, struct worker *w, enum packet_side side, struct rte_mbuf **m,
                   uint16_t n)
{
    if (w->peer.on)
        return tunnel_tx(s, w, side, m, n);
    return rte_eth_tx_burst((uint16_t)w->port[side], 0, m, n);
}

/* --- links, probes -------------------------------------------------------------------- */

static bool link_of(int port)
{
    struct rte_eth_link link;
    return port >= 0 && rte_eth_link_get_nowait((uint16_t)port, &link) == 0 &&
           link.link_status == RTE_ETH_LINK_UP;
}

bool worker_look_at_link(struct steer *s, struct worker *w)
{
    bool link = w->peer.on ? tunnel_link(s, w) : link_of(w->port[0]) && link_of(w->port[1]);
    if (link && !w->link) {
        if (!w->peer.on)
            open_bell(s, w); /* a clean restart made new files */
        w->health.next_probe_us = s->run_us;
    }
    bool lost = w->link && !link;
    w->link = link;
    if (lost)
        worker_apply(s, w, HEALTH_LINK_DOWN);
    return link;
}

bool worker_put_probe(struct steer *s, struct worker *w, enum packet_side side, struct probe *p)
{
    struct rte_mbuf *m = rte_pktmbuf_alloc(s->pool);
    uint8_t *frame = m != NULL ? (uint8_t *)rte_pktmbuf_append(m, PROBE_FRAME_BYTES) : NULL;
    if (frame == NULL) {
        drop_count(s, DROP_NO_BUFFER, 1);
        rte_pktmbuf_free(m);
        return false;
    }
    m->hash.usr = m->hash.fdir.hi = 0; /* no flow, no trace */
    p->magic = PROBE_MAGIC;
    p->version = 1;
    p->worker = (uint16_t)w->number;
    p->sent_us = monotonic_us();
    probe_sign(p, s->probe_key);
    memset(frame, 0, PROBE_FRAME_BYTES);
    memcpy(frame, w->mac[side], 6);
    memcpy(frame + 6, s->edge[side].mac, 6);
    frame[12] = PROBE_ETHERTYPE >> 8;
    frame[13] = PROBE_ETHERTYPE & 0xff;
    memcpy(frame + ETHER_BYTES, p, sizeof(*p));
    if (worker_tx(s, w, side, &m, 1) == 1) {
        w->ring = true;
        return true;
    }
    rte_pktmbuf_free(m);
    return false;
}

static void send_probe(struct steer *s, struct worker *w)
{
    struct probe p = {.kind = PROBE_REQUEST, .seq = health_probe_sent(&w->health, s->run_us)};
    w->asked_early = false;
    if (worker_put_probe(s, w, SIDE_INSIDE, &p)) /* a full ring is no answer either */
        count_add(s, COUNT_PROBES, 1);
}

static void receive_reply(struct steer *s, struct worker *w, const struct probe *p)
{
    enum health_event e = health_judge(&w->health, p->seq, p->incarnation, s->run_us);
    if (e == HEALTH_NOTHING) {
        count_add(s, COUNT_STALE, 1);
        return;
    }
    count_add(s, COUNT_REPLIES, 1);
    uint64_t now_us = monotonic_us();
    metric_set(w->count[W_RTT_US], now_us > p->sent_us ? now_us - p->sent_us : 0);
    metric_set(w->count[W_BUSY], p->busy_permille);
    metric_set(w->count[W_IN_FLIGHT], p->in_flight);
    if (e == HEALTH_RESTARTED) {
        count_add(s, COUNT_RESTARTS, 1);
        note_worker(s, NOTE_RESTARTED, w, p->incarnation, 0);
    }
    worker_apply(s, w, e);
}

static void receive_probe(struct steer *s, struct worker *w, enum packet_side side,
                          const uint8_t *frame, uint32_t len)
{
    struct probe p;
    if (len < ETHER_BYTES + sizeof(p)) {
        count_add(s, COUNT_FORGED, 1);
        return;
    }
    memcpy(&p, frame + ETHER_BYTES, sizeof(p));
    if (!probe_verify(&p, s->probe_key) || p.worker != w->number) {
        count_add(s, COUNT_FORGED, 1);
    } else if (p.kind == PROBE_REPLY) {
        receive_reply(s, w, &p);
    } else if (p.kind == PROBE_RETURNED && p.side == side) {
        /* Of another process than the one that answers: it says nothing of this one. */
        if (p.incarnation != w->health.incarnation || !holding_returned(s, w, side, p.seq))
            count_add(s, COUNT_STALE, 1);
    } else {
        count_add(s, COUNT_FORGED, 1);
    }
}

/* A worker by tunnel that is long silent and not needed: pods come and go under ever new names. */
static bool is_forgotten(const struct steer *s, const struct worker *w)
{
    return w->peer.on && !w->link && !(s->members >> w->number & 1) &&
           s->run_us - w->peer.heard_us > TUNNEL_FORGET_US;
}

void worker_tick(struct steer *s, struct worker *w)
{
    if (worker_present(w)) {
        worker_look_at_link(s, w);
        if (is_forgotten(s, w)) {
            worker_apply(s, w, HEALTH_LEAVE);
            worker_apply(s, w, HEALTH_LINK_DOWN);
        }
        worker_apply(s, w, health_tick(&w->health, s->run_us));
    }
    clear_absent(s, w);
    if (!worker_present(w))
        return;
    if (w->link && health_probe_due(&w->health, w->asked_early, s->run_us)) {
        if (w->bell == NULL && !w->peer.on)
            open_bell(s, w);
        send_probe(s, w);
    }
}

/* --- what it sends ----------------------------------------------------------------------- */

void worker_rx(struct steer *s, struct worker *w, enum packet_side side, struct rte_mbuf *m)
{
    const uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *);
    if (m->data_len < ETHER_BYTES) {
        drop_count(s, DROP_TRUNCATED, 1);
        rte_pktmbuf_free(m);
    } else if ((frame[12] << 8 | frame[13]) == PROBE_ETHERTYPE) {
        receive_probe(s, w, side, frame, m->data_len);
        rte_pktmbuf_free(m);
    } else {
        metric_add(w->count[W_FROM_INSIDE + side], 1);
        metric_add(w->count[W_BYTES_FROM_INSIDE + side], m->pkt_len);
        if (s->tracing)
            traced_from_worker(s, w, side, m);
        edge_send(s, side, m);
    }
}

static uint32_t receive_side(struct steer *s, struct worker *w, enum packet_side side)
{
    struct rte_mbuf *m[BURST];
    uint16_t n = rte_eth_rx_burst((uint16_t)w->port[side], 0, m, BURST);
    for (uint16_t i = 0; i < n; i++)
        worker_rx(s, w, side, m[i]);
    return n;
}

uint32_t worker_receive(struct steer *s, struct worker *w)
{
    if (!w->link || w->peer.on)
        return 0;
    return receive_side(s, w, SIDE_INSIDE) + receive_side(s, w, SIDE_OUTSIDE);
}
