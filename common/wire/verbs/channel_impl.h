/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between verbs.c (the rings: writing, reading, sleeping, fencing), reads.c (one-sided reads) and
 * connect.c (memory and queues, rdma_cm, listening). What a connection is, and its bounds.
 */
#ifndef LETHE_WIRE_VERBS_CHANNEL_H
#define LETHE_WIRE_VERBS_CHANNEL_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <stdio.h>

#include "common/wire/verbs/verbs.h"

enum {
    RING_BYTES = 1024 * 1024,
    CREDIT_BYTES = 4096,
    MEMORY_BYTES = 2 * RING_BYTES + CREDIT_BYTES,
    RECVS = 256, BURSTS = 192, CREDIT_EVERY = 48,
    SENDS = 512, SIGNAL_EVERY = 32,
    CQ_ENTRIES = RECVS + SENDS,
    INLINE_BYTES = 64,
    POLL_MAX = 32,
    LOOK_EVERY = 4096,            /* empty recvs between two looks at rdma_cm */
    RESOLVE_MS = 2000,
    CLOSE_MS = 200,
    HEARD_MS = 500,               /* closing: a peer not heard for longer is not waited for */
    FENCE_MS = 200,
    BACKLOG = 128,
    NO_LISTENER = 8,              /* IB_CM_REJ_INVALID_SERVICE_ID, what rdma_cm's status is then */
};
#define CREDIT 0xffffffffu
#define HAND_SHAKE 0x3156454Cu /* "LEV1" */
/* Work requests that are no numbered write. */
#define ID_RECV UINT64_MAX
#define ID_LAST (UINT64_MAX - 1)

/* What each side tells the other one while connecting. */
struct offer {
    uint32_t magic, rkey;
    uint64_t ring, credit;        /* addresses */
    uint32_t ring_bytes;
    uint32_t features;            /* those that both offer are used; older peers say 0 */
};
enum { FEATURE_TRAILERS = 1 };
/* Behind a frame in the ring, on a link with trailers. */
struct trailer {
    uint64_t position;            /* where its frame begins, bytes for ever */
    uint32_t key;                 /* of the ring: no other connection's */
    uint32_t crc;                 /* CRC32C of the frame and of the above */
};
/* How far the reader is: bytes and bursts, both for ever growing. */
struct credit { uint64_t head, bursts; };

enum verbs_state { RESOLVING = 1, ROUTING, CONNECTING, ACCEPTING, UP };

struct verbs {
    struct channel c;
    enum verbs_state state;
    struct rdma_event_channel *events;
    struct rdma_cm_id *id;
    struct ibv_comp_channel *completions;
    struct ibv_cq *cq;
    struct ibv_mr *mr;
    uint8_t *memory, *in, *out;
    const volatile struct credit *credit; /* the peer writes it */
    struct offer peer;
    uint32_t features, trailer;   /* ours; bytes of one, 0: there are none */
    uint32_t key;                 /* of our ring */
    uint64_t out_tail, posted, head_seen;
    uint64_t in_head, in_tail, released;
    uint64_t bursts, bursts_seen; /* sent; confirmed */
    uint64_t got, got_told;       /* bursts that came; that we confirmed */
    uint32_t sent;                /* work requests, for ever growing */
    uint32_t sends, unsignalled;  /* in the send queue; since the last signalled one */
    uint32_t last;                /* closing: sends still out */
    uint32_t lost;                /* writes that came to nothing, as far as known */
    uint32_t recvs;               /* posted, and not come back */
    uint32_t empty;
    uint64_t heard_ms;            /* it, or its device, last told us something */
    const char *end;              /* disconnected: why, if we know better */
    bool waited, disconnected, armed, fenced, dialled;
    int sleep_fd;
    struct verbs_reads *reads;    /* NULL: none was asked for yet */
    uint8_t *frame;               /* MSG_BYTES_MAX and a trailer: what is lent */
    char address[72];
};

static inline struct verbs *of(struct channel *c)
{
    return (struct verbs *)c;
}

static inline void shut(struct verbs *v, const char *why)
{
    if (!v->c.open)
        return;
    v->c.open = false;
    snprintf(v->c.why, sizeof v->c.why, "%.56s: %.100s", v->address, why);
    if (v->state == UP)
        rdma_disconnect(v->id);
}

/* --- connect.c ------------------------------------------------------------------------ */

bool verbs_post_recv(struct verbs *v);
/* What rdma_cm has to say; true if anything. */
bool verbs_look(struct verbs *v);
/* Nothing comes in any more, by whatever queue pair; what has come stays readable. */
void verbs_cut_off(struct verbs *v);
void verbs_destroy(struct verbs *v);

/* --- reads.c -------------------------------------------------------------------------- */

int verbs_read(struct channel *c, const struct channel_read *want);
const void *verbs_read_done(struct channel *c, uint64_t *token);
/* Those that were asked for leave. */
void verbs_reads_post(struct verbs *v);
/* All work requests up to this one are over. */
void verbs_reads_sent(struct verbs *v, uint32_t number);
/* There is one that read_done will give. */
bool verbs_reads_over(const struct verbs *v);
void verbs_reads_destroy(struct verbs *v);

/* --- verbs.c -------------------------------------------------------------------------- */

/* CLOCK_MONOTONIC_COARSE: cheap, to some milliseconds. */
uint64_t verbs_clock_ms(void);
/* Takes completions; true if there were any. */
bool verbs_poll(struct verbs *v);

extern const struct channel_ops verbs_ops;

#endif
