/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The Maglev table that packets are looked up in, rebuilt beside the datapath.
 *
 * Threads: the datapath names the members it wants (table_want) and takes the
 * newest finished table at the start of a round (table_next); one other
 * thread builds (table_serve). Two buffers: one is current, the other finished,
 * spare or being built. The datapath never waits; until a table is finished it
 * goes on with the last one and sends what falls to a lost worker elsewhere.
 */
#ifndef LETHE_STEERING_TABLE_H
#define LETHE_STEERING_TABLE_H

#include <stdbool.h>
#include <stdint.h>

enum { TABLE_NAME_BYTES = 32, TABLE_WORKERS_MAX = 64 };

struct table {
    uint64_t members, build_us, number;         /* number: how many were built before */
    uint32_t size;
    uint32_t share[TABLE_WORKERS_MAX];          /* buckets of each worker */
    uint16_t bucket[];
};

struct tables;
/* `size`: see maglev_size_is_good. 0 or -ENOMEM. */
int tables_create(uint32_t size, struct tables **out);
void tables_destroy(struct tables *t);

/* Datapath, control time: the name of worker `number`, before it is wanted; its
 * weight is 100 then. */
void table_name(struct tables *t, unsigned number, const char *name);
/* Another weight, 1 to 100: counts from the next table_want on. */
void table_weigh(struct tables *t, unsigned number, unsigned weight);
/* Datapath: from now on these. The caller wakes the building thread. */
void table_want(struct tables *t, uint64_t members);
/* Datapath: the one in use. */
const struct table *table_current(const struct tables *t);
/* Datapath: the newest finished one, in use from now on; NULL: there is none. The
 * one before stays valid until table_retire, which must follow soon. */
const struct table *table_next(struct tables *t);
void table_retire(struct tables *t);
/* Builder: builds what is wanted, if it is new. False: nothing was to do. */
bool table_serve(struct tables *t);

#endif
