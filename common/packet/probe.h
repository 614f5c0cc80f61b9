/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * In-band health probes between steering and a worker, in the same rings as
 * the packets, so that they measure what packets meet. Keyed against forgery:
 * SipHash-2-4 over the body (libsodium crypto_shorthash), with the site's
 * probe key; a frame with a wrong tag is counted and dropped.
 *
 * Ethernet type 0x88B5 (IEEE 802 local experimental 1), then this struct.
 * Steering sends REQUEST on the worker's inside ring; the worker echoes it as
 * REPLY, with its load, on the ring it came from.
 *
 * Markers, of planned changes. Steering puts MARKER into *both* of a worker's
 * rings, behind all packets it has put there, each naming its side; `seq` is the
 * number of the change. When both have come, and every packet that came before
 * them on either ring was sent or dropped, the worker returns each as RETURNED on
 * its own side, behind what it sent. Steering may send one again; one that was
 * returned already is returned at once. A newer `seq` takes the place of an older.
 */
#ifndef LETHE_PACKET_PROBE_H
#define LETHE_PACKET_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#define PROBE_ETHERTYPE 0x88B5
#define PROBE_MAGIC 0x50484c31u
enum probe_kind { PROBE_REQUEST = 1, PROBE_REPLY, PROBE_MARKER, PROBE_RETURNED };
enum { PROBE_KEY_BYTES = 16, PROBE_FRAME_BYTES = 64 };

struct probe {                 /* little-endian, behind a 14-byte Ethernet header */
    uint32_t magic;
    uint8_t kind, version;     /* version 1 */
    uint16_t worker;           /* steering's number of the worker */
    uint64_t seq, sent_us;     /* echoed */
    union {
        uint32_t busy_permille; /* REPLY: share of time the worker was busy */
        uint32_t side;          /* MARKER, RETURNED: enum packet_side */
    };
    uint32_t in_flight;        /* REPLY: packets it holds */
    uint64_t incarnation;      /* REPLY, RETURNED: of the worker process */
    uint8_t tag[8];            /* of everything above; must be last */
} __attribute__((packed));

/* Reads 16 bytes as 32 hex digits from a file; 0 or -errno and a sentence. */
int probe_key_load(const char *path, uint8_t key[PROBE_KEY_BYTES], char *err, uint32_t err_len);
void probe_sign(struct probe *p, const uint8_t key[PROBE_KEY_BYTES]);
bool probe_verify(const struct probe *p, const uint8_t key[PROBE_KEY_BYTES]);

#endif
