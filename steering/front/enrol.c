/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Joining and leaving by tunnel (the exchange is drawn in common/packet/tunnel.h).
 * Datapath thread only.
 *
 * An answer goes back the way its message came and is as long as that was, so
 * that a path which does not carry what it should answers nobody, and a
 * stranger's copy of a message draws no more bytes than it cost. Only a fresh and
 * genuine message says where a worker is; it says so again every
 * TUNNEL_JOIN_MS, so that a route, a router or the interface may change.
 */
#include "steering/front/steer.h"

#include <stdio.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

enum { ETHER_BYTES = 14 };

struct asked {                 /* a genuine message, and where it came from */
    const struct tunnel_message *m;
    const uint8_t *mac;        /* of the frame's sender */
    uint8_t by;                /* the interface */
    uint32_t address, len;     /* len: of the inner frame */
};

static void answer(struct steer *s, const struct asked *a, enum tunnel_kind kind,
                   const struct worker *w, enum tunnel_reason reason)
{
    static const uint8_t nobody[6] = {0x02};
    const struct tunnel_by *by = &s->tunnel.by[a->by];
    struct vxlan_path path;
    struct tunnel_message m = *a->m;
    uint32_t len = a->len > TUNNEL_FRAME_BYTES ? a->len : TUNNEL_FRAME_BYTES;
    struct rte_mbuf *buf = rte_pktmbuf_alloc(s->pool);
    if (len > by->mtu - VXLAN_OVERHEAD + ETHER_BYTES)
        len = TUNNEL_FRAME_BYTES;
    uint8_t *frame = buf != NULL
                         ? (uint8_t *)rte_pktmbuf_append(buf, (uint16_t)(VXLAN_OVERHEAD + len)) : NULL;
    if (frame == NULL) {
        drop_count(s, DROP_NO_BUFFER, 1);
        rte_pktmbuf_free(buf);
        return;
    }
    m.kind = (uint8_t)kind;
    m.reason = (uint16_t)reason;
    m.worker = w != NULL ? (uint16_t)w->number : 0;
    m.front = s->incarnation;
    m.issued_us = s->now_us;
    m.mtu = (uint16_t)(by->mtu < UINT16_MAX ? by->mtu : UINT16_MAX);
    for (int side = 0; side < 2; side++)
        memcpy(m.mac[side], s->edge[side].mac, 6);
    tunnel_sign(&m, s->probe_key);
    memset(frame + VXLAN_OVERHEAD, 0, len);
    tunnel_frame(frame + VXLAN_OVERHEAD, w != NULL ? w->mac[SIDE_INSIDE] : nobody,
                 s->edge[SIDE_INSIDE].mac, &m);
    vxlan_path_set(&path, a->mac, by->mac, by->under.address, a->address, by->under.udp_port);
    vxlan_write(frame, &path, s->tunnel.vni, len, VXLAN_ENTROPY_FIRST);
    if (rte_eth_tx_burst((uint16_t)by->port, 0, &buf, 1) != 1)
        rte_pktmbuf_free(buf); /* it will ask again */
}

static void refuse(struct steer *s, const struct asked *a, enum tunnel_reason reason)
{
    count_add(s, COUNT_TUNNEL_REFUSED, 1);
    answer(s, a, TUNNEL_REFUSED, NULL, reason);
}

static bool lives(const struct steer *s, const struct worker *w)
{
    return w->health.state == HEALTH_HEALTHY || w->health.state == HEALTH_TRIAL ||
           s->run_us - w->peer.heard_us < s->timeout_us;
}

/* A living worker keeps its name, too: a second process elsewhere that was given the same one by mistake
 * would take its packets, and it them again. One process may change its address, and a new one may have the
 * old one's. */
static bool name_is_free(const struct steer *s, const struct asked *a, const struct worker *w)
{
    return w == NULL || (w->peer.on && (w->peer.address == a->address ||
                                        w->peer.incarnation == a->m->incarnation || !lives(s, w)));
}

/* Whoever else had this address: one worker an address, and the living one keeps it. */
static bool address_is_free(struct steer *s, const struct asked *a, const struct worker *w)
{
    for (unsigned i = 0; i < s->workers_max; i++) {
        struct worker *other = &s->worker[i];
        if (other == w || !other->peer.on || other->peer.address != a->address)
            continue;
        if (lives(s, other))
            return false;
        s->tunnel.address[i] = other->peer.address = 0;
        other->peer.heard_us = 0; /* its link is lost at the next look */
    }
    return true;
}

static void remember(struct steer *s, struct worker *w, const struct asked *a)
{
    w->peer.seen = (struct tunnel_seen){.issued_us = a->m->issued_us, .seq = a->m->seq};
    w->peer.incarnation = a->m->incarnation;
    w->peer.heard_us = s->run_us != 0 ? s->run_us : 1;
}

static void join(struct steer *s, struct worker *w, const struct asked *a)
{
    if (!name_is_free(s, a, w)) {
        refuse(s, a, TUNNEL_NAME_TAKEN);
        return;
    }
    if (!address_is_free(s, a, w)) {
        refuse(s, a, TUNNEL_ADDRESS_TAKEN);
        return;
    }
    bool is_new = w == NULL;
    if (is_new)
        w = worker_enrol(s, a->m->name);
    if (w == NULL) {
        refuse(s, a, TUNNEL_NO_ROOM);
        return;
    }
    bool moved = !is_new && (w->peer.address != a->address || w->peer.by != a->by);
    tunnel_set(s, w, a->by, a->address, a->mac, a->m->mtu);
    bool same = w->peer.incarnation == a->m->incarnation;
    remember(s, w, a);
    worker_weigh(s, w, a->m->weight);
    if (w->health.state == HEALTH_LEAVING && same) { /* sent before its LEAVE; or told to by others */
        answer(s, a, TUNNEL_LEAVING, w, TUNNEL_NO_REASON);
        return;
    }
    worker_apply(s, w, HEALTH_JOINED);
    if (is_new || moved || !same)
        note_worker(s, NOTE_JOIN, w, a->address, a->by);
    worker_look_at_link(s, w);
    answer(s, a, TUNNEL_WELCOME, w, TUNNEL_NO_REASON);
}

static void leave(struct steer *s, struct worker *w, const struct asked *a)
{
    bool last = false, later = false;
    unsigned number;
    char err[ERR_BYTES];
    if (w == NULL || !w->peer.on || w->peer.incarnation != a->m->incarnation) {
        answer(s, a, TUNNEL_LEFT, NULL, TUNNEL_NO_REASON);
        return;
    }
    remember(s, w, a);
    worker_leave(s, w->name, &number, &last, &later, err, sizeof(err));
    answer(s, a, later ? TUNNEL_LEAVING : TUNNEL_LEFT, w, last ? TUNNEL_LAST : TUNNEL_NO_REASON);
}

static void gone(struct steer *s, struct worker *w, const struct asked *a)
{
    if (w == NULL || !w->peer.on || w->peer.incarnation != a->m->incarnation)
        return;
    remember(s, w, a);
    w->peer.heard_us = 0;
    worker_look_at_link(s, w);
}

void enrol(struct steer *s, uint8_t by, const uint8_t *outer, const struct vxlan_outer *o,
           const struct tunnel_message *m)
{
    static const struct tunnel_seen nothing;
    struct asked a = {.m = m, .mac = outer + 6, .by = by, .address = o->src, .len = o->inner_len};
    if (!tunnel_verify(m, s->probe_key) || m->kind > TUNNEL_GONE) {
        drop_count(s, DROP_TUNNEL_FORGED, 1);
        return;
    }
    struct worker *w = worker_named(s, m->name);
    enum tunnel_verdict v = tunnel_judge(w != NULL && w->peer.on ? &w->peer.seen : &nothing, m,
                                         s->incarnation, s->tunnel.floor_us, s->now_us);
    if (v == TUNNEL_UNKNOWN_TIME) {
        answer(s, &a, TUNNEL_AGAIN, NULL, TUNNEL_NO_REASON);
        return;
    }
    if (v == TUNNEL_STALE) {
        drop_count(s, DROP_TUNNEL_STALE, 1);
        return;
    }
    if (m->address != a.address) { /* caught on its way, and sent from elsewhere */
        drop_count(s, DROP_TUNNEL_FORGED, 1);
        return;
    }
    count_add(s, COUNT_TUNNEL_JOINS, 1);
    if (m->kind == TUNNEL_JOIN)
        join(s, w, &a);
    else if (m->kind == TUNNEL_LEAVE)
        leave(s, w, &a);
    else
        gone(s, w, &a);
}
