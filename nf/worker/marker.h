/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The worker's part of a planned change (common/packet/probe.h): steering's
 * markers go back when all that came before them has left, behind it.
 *
 * The loop tells of each genuine marker (marker_came), and once a round, when
 * what it read is in the engine and before it sends, asks which sides to return
 * (marker_due). All that the engine emitted by then stands before those.
 */
#ifndef NF_WORKER_MARKER_H
#define NF_WORKER_MARKER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/packet/probe.h"

struct engine;

struct marker {                /* zeroed: none came yet */
    struct probe probe;        /* the newest; its seq is the number of the change */
    uint8_t came;              /* bits: sides where it was read */
    uint8_t due;               /* bits: sides where it is to be returned */
    bool waits, returned;      /* for the barrier; it has been passed */
    uint32_t barrier;
};

/* False: of an older change than the newest, or of no side. */
bool marker_came(struct marker *m, const struct probe *p);
/* Bits of the sides to return it on now. */
uint8_t marker_due(struct marker *m, struct engine *e);
/* What to send there, unsigned. */
struct probe marker_reply(const struct marker *m, unsigned side, uint64_t incarnation);

#endif
