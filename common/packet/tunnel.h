/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a worker joins steering across routers: messages in the tunnel itself,
 * inner Ethernet type 0x88B5 like probes, on the inside VNI, told from probes by
 * their magic. Signed with the site's probe key (SipHash-2-4, probe.h).
 *
 *   worker                                    steering
 *     JOIN (front 0) ───────────────────────▶   who are you? I know no time of yours
 *     ◀───────────── AGAIN (front, issued_us)   its incarnation, its clock
 *     JOIN (front, issued_us, seq) ─────────▶   fresh: the outer address is believed
 *     ◀──── WELCOME (number, edge MACs, MTU)
 *     ... a JOIN every TUNNEL_JOIN_MS, each answered ...
 *     LEAVE ────────────────────────────────▶   out of the table
 *     ◀──────────── LEAVING, then LEFT          LEFT: nothing new will be sent
 *     GONE ─────────────────────────────────▶   the place is free; not answered
 *
 * Freshness without common clocks: a message counts only if it echoes this
 * steering's incarnation and a time that this steering issued at most
 * TUNNEL_FRESH_US ago, and if (issued_us, seq) is above that of the last one
 * accepted under this name, and if it came from the address that it names: whoever
 * caught it on its way moves nobody. An answer counts only if it echoes the worker's
 * incarnation and a seq above the last one answered. A replay meets neither.
 */
#ifndef LETHE_PACKET_TUNNEL_H
#define LETHE_PACKET_TUNNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/packet/probe.h"

#define TUNNEL_MAGIC 0x54484c31u
enum {
    TUNNEL_NAME_BYTES = 32, TUNNEL_FRAME_BYTES = 128,
    TUNNEL_FRESH_US = 10 * 1000 * 1000,
    TUNNEL_JOIN_MS = 200,      /* between two JOINs of a worker */
    TUNNEL_MTU_MIN = 576,      /* of the underlay */
    WEIGHT_MAX = 100,
};

enum tunnel_kind {
    TUNNEL_JOIN = 1, TUNNEL_LEAVE, TUNNEL_GONE,              /* a worker's */
    TUNNEL_WELCOME, TUNNEL_AGAIN, TUNNEL_REFUSED, TUNNEL_LEAVING, TUNNEL_LEFT, /* steering's */
};

#define TUNNEL_REASONS(X)                                                      \
    X(TUNNEL_NO_REASON, "")                                                    \
    X(TUNNEL_NO_ROOM, "there are as many workers as steering.workers_max allows") \
    X(TUNNEL_NAME_TAKEN, "another living worker has this name")    \
    X(TUNNEL_ADDRESS_TAKEN, "a living worker of another name has this address")\
    X(TUNNEL_LAST, "nobody else is there")
enum tunnel_reason {
#define X(name, text) name,
    TUNNEL_REASONS(X)
#undef X
        TUNNEL_REASON_END
};
const char *tunnel_reason_text(unsigned reason);

struct tunnel_message {        /* little-endian, behind a 14-byte Ethernet header */
    uint32_t magic;
    uint8_t kind, version;     /* version 1 */
    uint16_t worker;           /* steering's: its number of the worker */
    uint64_t incarnation, seq; /* the worker's; echoed */
    uint64_t front, issued_us; /* steering's incarnation and clock; the newest heard are echoed */
    uint16_t weight;           /* 1 to WEIGHT_MAX */
    uint16_t mtu;              /* of the sender's underlay */
    uint16_t reason, zero;     /* REFUSED, LEFT: enum tunnel_reason */
    union {
        uint8_t mac[2][6];     /* steering's: its edges', by side */
        uint32_t address;      /* a worker's: whence it sends, network order */
    };
    char name[TUNNEL_NAME_BYTES]; /* of the worker, zeros behind it */
    uint8_t tag[8];            /* of everything above; must be last */
} __attribute__((packed));

void tunnel_sign(struct tunnel_message *m, const uint8_t key[PROBE_KEY_BYTES]);
/* Magic, version, kind, tag, name and ranges are right. */
bool tunnel_verify(const struct tunnel_message *m, const uint8_t key[PROBE_KEY_BYTES]);
/* Writes the frame, Ethernet header and all, TUNNEL_FRAME_BYTES. */
void tunnel_frame(uint8_t *frame, const uint8_t dst[6], const uint8_t src[6],
                  const struct tunnel_message *m);
/* An inner frame of type 0x88B5 that holds such a message (not whether it is genuine). */
bool tunnel_read(const uint8_t *frame, uint32_t len, struct tunnel_message *m);

/* 1 to 31 characters of a-z A-Z 0-9 . _ -, the first a letter or digit. */
bool worker_name_is_good(const char *name);

/* --- steering's judgement of a genuine JOIN, LEAVE or GONE ----------------------- */

struct tunnel_seen { uint64_t issued_us, seq; }; /* of the last one accepted; 0: none */
enum tunnel_verdict { TUNNEL_FRESH, TUNNEL_UNKNOWN_TIME, TUNNEL_STALE };

/* `front`: this steering's incarnation; times before `floor_us` are not known any more. */
enum tunnel_verdict tunnel_judge(const struct tunnel_seen *seen, const struct tunnel_message *m,
                                 uint64_t front, uint64_t floor_us, uint64_t now_us);

#endif
