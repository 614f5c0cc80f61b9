/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An interface that comes and goes under a running datapath: a bridge is there when the first
 * container of a host is. What its owner does about it, by what the kernel says of it now; no I/O.
 *
 *   CLOSED ──open──▶ OFFERED ──▶ USED ──recall──▶ RECALLED ──▶ RETURNED ──close──▶ CLOSED
 *
 * Two threads, one state. The one that opens and closes moves it on in CLOSED, USED and RETURNED (the
 * acts), the datapath in OFFERED (it takes the port) and RECALLED (it has let go of it): whoever may
 * move it on owns the port. Each stores with release what the other loads with acquire.
 */
#ifndef LETHE_STEERING_AWAITED_H
#define LETHE_STEERING_AWAITED_H

#include "common/packet/underlay.h"

enum awaited_state { AWAITED_CLOSED, AWAITED_OFFERED, AWAITED_USED, AWAITED_RECALLED, AWAITED_RETURNED };
enum awaited_act { AWAITED_NOTHING, AWAITED_OPEN, AWAITED_RECALL, AWAITED_CLOSE };

/* `opened`: as it was just before it was opened. *cause: why it is recalled. A port keeps the MAC and
 * the kernel's number that its interface had, so one whose interface has others is of no use. */
enum awaited_act awaited_next(enum awaited_state state, const struct underlay_facts *opened,
                              const struct underlay_facts *now, const char **cause);

#endif
