/* SPDX-License-Identifier: BSD-3-Clause */
/* Joining by tunnel, the worker's part. See fronts.h. */
#include "nf/worker/fronts.h"

#include <string.h>

enum {
    OUTER_BYTES = 36,          /* what an inner frame grows by, beyond the outer Ethernet header */
    SHORT_EVERY = 4,
    JOIN_US = TUNNEL_JOIN_MS * 1000,
};

static struct tunnel_message message(struct fronts *all, struct front *f, enum tunnel_kind kind,
                                     uint32_t mtu)
{
    struct tunnel_message m = {
        .magic = TUNNEL_MAGIC, .version = 1, .kind = (uint8_t)kind, .incarnation = all->incarnation,
        .seq = ++f->sent_seq, .front = f->incarnation, .issued_us = f->issued_us,
        .address = all->address, .weight = (uint16_t)all->weight, .mtu = (uint16_t)(mtu < UINT16_MAX ? mtu : UINT16_MAX)};
    memcpy(m.name, all->name, sizeof(m.name));
    tunnel_sign(&m, all->key);
    return m;
}

bool front_due(struct fronts *all, struct front *f, uint32_t path_mtu, uint64_t now_us,
               struct tunnel_message *m, uint32_t *frame_bytes)
{
    enum tunnel_kind kind = all->leaves ? TUNNEL_LEAVE : TUNNEL_JOIN;
    if (now_us < f->next_us || (!all->wants && !all->leaves) || path_mtu < TUNNEL_MTU_MIN ||
        (all->leaves && !f->known))
        return false;
    uint32_t mtu = f->its_mtu != 0 && f->its_mtu < path_mtu ? f->its_mtu : path_mtu;
    bool is_short = kind != TUNNEL_JOIN || f->incarnation == 0 ||
                    (!f->joined && f->sent_seq % SHORT_EVERY == 0);
    *m = message(all, f, kind, mtu);
    *frame_bytes = is_short ? TUNNEL_FRAME_BYTES : mtu - OUTER_BYTES;
    f->next_us = now_us + JOIN_US;
    return true;
}

bool front_farewell(struct fronts *all, struct front *f, struct tunnel_message *m)
{
    if (!f->known)
        return false;
    *m = message(all, f, TUNNEL_GONE, TUNNEL_MTU_MIN);
    return true;
}

static enum front_result welcome(struct front *f, const struct tunnel_message *m, uint32_t bytes)
{
    bool is_new = !f->joined;
    if (bytes <= TUNNEL_FRAME_BYTES && !f->joined) {
        f->short_answers++; /* it lives, but does the path carry packets? */
        return FRONT_HEARD;
    }
    f->short_answers = 0;
    f->joined = true;
    f->reason = 0;
    f->number = m->worker;
    memcpy(f->edge_mac, m->mac, sizeof(f->edge_mac));
    return is_new ? FRONT_JOINED : FRONT_HEARD;
}

enum front_result front_answer(struct fronts *all, struct front *f, const uint8_t mac[6],
                               const struct tunnel_message *m, uint32_t bytes, uint64_t now_us)
{
    if (!tunnel_verify(m, all->key))
        return FRONT_FORGED;
    if (m->kind < TUNNEL_WELCOME || m->incarnation != all->incarnation ||
        strcmp(m->name, all->name) != 0)
        return FRONT_IGNORED; /* of a process that had this address, or this name, before */
    if (m->seq <= f->answered_seq || m->seq > f->sent_seq)
        return FRONT_STALE;
    bool restarted = f->incarnation != 0 && f->incarnation != m->front;
    f->answered_seq = m->seq;
    f->incarnation = m->front;
    f->issued_us = m->issued_us;
    f->its_mtu = m->mtu;
    f->heard_us = now_us;
    f->known = true;
    f->joined &= !restarted;
    memcpy(f->mac, mac, 6);
    switch (m->kind) {
    case TUNNEL_WELCOME:
        return welcome(f, m, bytes);
    case TUNNEL_AGAIN:
        f->next_us = now_us; /* at once, with the time that it issued */
        return FRONT_HEARD;
    case TUNNEL_REFUSED:
        f->joined = false;
        f->reason = m->reason;
        return FRONT_REFUSED;
    case TUNNEL_LEFT:
        f->left = all->leaves;
        f->last = m->reason == TUNNEL_LAST;
        return FRONT_HEARD;
    default:
        return FRONT_HEARD;
    }
}

bool front_tick(const struct fronts *all, struct front *f, uint64_t now_us)
{
    if (!f->joined || now_us - f->heard_us < all->silent_us)
        return false;
    f->joined = false;
    return true;
}
