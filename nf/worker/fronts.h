/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A worker's joining by tunnel, at each of its front ends: what to send when, and
 * what an answer means (the exchange is drawn in common/packet/tunnel.h). Pure:
 * no I/O, no clock; one thread.
 *
 * A front end is *known* from its first genuine answer on: how it is reached is
 * then what the newest answer came by. It is *joined* from a WELCOME on and
 * while its answers go on. Until it is joined the first JOIN, and every fourth,
 * is short; the others are as long as the path carries, and are answered as long: a
 * path that loses long packets joins nobody, instead of losing TCP's.
 */
#ifndef NF_WORKER_FRONTS_H
#define NF_WORKER_FRONTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config/site.h"
#include "common/packet/tunnel.h"
#include "common/packet/vxlan.h"

enum { FRONT_SILENT_US = 1500 * 1000 };

struct front {
    uint32_t address;          /* network order */
    bool known, joined, left, last;
    unsigned reason;           /* of a refusal */
    unsigned number;           /* its number of this worker */
    uint32_t mtu;              /* of IP packets inside */
    uint8_t mac[6], edge_mac[2][6]; /* of the router towards it; of its edges */
    uint64_t incarnation, issued_us; /* what it last said */
    uint64_t sent_seq, answered_seq;
    uint64_t next_us, heard_us;
    uint32_t its_mtu;          /* underlay; 0: not told yet */
    uint32_t short_answers;    /* since a long one: the path loses those */
};

struct fronts {
    unsigned n;
    struct front at[SITE_FRONTS_MAX];
    char name[TUNNEL_NAME_BYTES];
    uint32_t address;          /* ours, network order */
    unsigned weight;
    uint64_t incarnation, silent_us;
    uint8_t key[PROBE_KEY_BYTES];
    bool wants, leaves;        /* to be joined; to leave */
};

/* The message that is due at `f`, and how long its inner frame is to be; false: none is.
 * `path_mtu`: what the kernel knows of the way there. */
bool front_due(struct fronts *all, struct front *f, uint32_t path_mtu, uint64_t now_us,
               struct tunnel_message *m, uint32_t *frame_bytes);
/* The last one: not answered. */
bool front_farewell(struct fronts *all, struct front *f, struct tunnel_message *m);

enum front_result { FRONT_IGNORED, FRONT_FORGED, FRONT_STALE, FRONT_HEARD, FRONT_JOINED, FRONT_REFUSED };
/* An answer from `f`'s address; `mac`: who sent the frame, `bytes`: the inner frame's. */
enum front_result front_answer(struct fronts *all, struct front *f, const uint8_t mac[6],
                               const struct tunnel_message *m, uint32_t bytes, uint64_t now_us);
/* Time alone: joined no more. True: it changed. */
bool front_tick(const struct fronts *all, struct front *f, uint64_t now_us);

#endif
