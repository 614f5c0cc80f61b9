/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The simulated network cards: who reads a store's memory asks nobody's CPU.
 *
 * A read travels to the node, whose card copies the 64-byte lines one by one, in any order, at
 * times of its own choice, the words of a line in ascending order, from the very memory of the
 * core there, and travels back. So the core may run between two lines, or words; and at what it
 * calls a moment (common/wire/record.h) it is in the middle of writing that very record. A node
 * that is paused, deposed or cut off from its peers is read all the same; one that crashed, or
 * closed the connection, is not.
 *
 * The network loses reads; the card asks again, some times, and then gives up: the connection is
 * broken, as a queue pair is. So it is if that memory is not there any more.
 *
 * What a card does happens to no process; only the completion waits for a client that is paused.
 */
#ifndef SIM_NIC_H
#define SIM_NIC_H

#include "common/wire/channel.h"

struct world;

enum { NIC_JOBS = 256 };

/* One read, from the request to the completion. */
struct nic_job {
    bool used, copying;
    bool torn;                   /* it was written while it was read */
    uint8_t left;                /* lines that are not whole */
    uint8_t words[CHANNEL_READ_BYTES / 64]; /* of each line, copied so far */
    uint32_t serial;             /* of the use: what is under way of an earlier one is void */
    uint32_t conn, tries;
    uint64_t token, address;
    uint32_t rkey, bytes;
    uint8_t data[CHANNEL_READ_BYTES] __attribute__((aligned(8)));
};
struct nic {
    uint32_t copying;            /* jobs that are */
    struct nic_job jobs[NIC_JOBS];
};

/* A client's end of a connection. */
struct nic_over {
    struct nic_over *next;
    uint64_t token;
    uint8_t *data;               /* behind it, 64-byte aligned */
};
struct nic_end {
    uint32_t nposted, under_way;
    struct channel_read posted[CHANNEL_READS];
    struct nic_over *over, *lent;
};
/* As channel.h says. */
int nic_post(struct world *w, struct nic_end *end, const struct channel_read *r);
void nic_flush(struct world *w, uint32_t conn, struct nic_end *end);
const void *nic_done(struct nic_end *end, uint64_t *token);
void nic_close(struct world *w, uint32_t conn, struct nic_end *end);

/* --- the store's memory that may be read ----------------------------------------------------- */

/* Of one replica. Addresses are counted from 1 GB on in each, and keys from 1, so that what one
 * node said names something at another one, too. What is given back is kept for a while, and
 * then its address and key are another one's. */
struct slab {
    uint8_t *at;
    uint64_t address, bytes, until_us; /* until_us: kept; 0: in use; UINT64_MAX: gone */
};
struct slabs {
    uint32_t n, room;
    struct slab *slab;
};
struct replica;
struct shard_slabs nic_slabs(struct replica *r);
void nic_slabs_destroy(struct replica *r);
/* MSG_PLACES on its way out: real addresses become those. */
void nic_translate(const struct replica *r, void *frame);

/* From now on the cores write in this world. */
void nic_begin(struct world *w);

#endif
