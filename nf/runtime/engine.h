/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine: runs a chain of network functions over packets. No DPDK in it.
 *
 *   burst -> parse -> flow queue -> [ per NF: lookup -> replies -> process ->
 *   conditional updates -> adds ] -> emit or drop
 *
 * Owner: one thread, which calls everything here; nothing blocks, allocates or
 * logs after engine_create. All memory is allocated and touched at creation
 * and bounded by `packets_in_flight`; it does not depend on how many flows the
 * site has.
 *
 * Order. Packets with equal flow keys leave in the order they came. The first
 * starts a look-up; those that come while it is in flight wait, and then form
 * a *run*: the longest prefix that would send byte-identical look-ups. A run
 * takes one look-up, is processed in sequence on one working copy and commits
 * once. A packet never joins a look-up that was already sent: its answer may
 * be older than the packet.
 *
 * Commit. Per NF: entries written, deleted and created become one txn per hash
 * slot; when all succeeded the NF's adds follow; then the packet goes to the
 * next NF, and is emitted after the last. Adds to async tables are not waited
 * for. A conflict restores the run's packets and runs that NF again, on the
 * entry in the reply or after a fresh look-up, at most ENGINE_RERUNS_MAX times.
 *
 * Direction: packets from the inside meet the chain first to last, those from
 * the outside last to first.
 *
 * Buffers: a packet given to engine_rx belongs to the engine until exactly one
 * of `emit` and `drop` is called with its cookie, from within any engine call.
 */
#ifndef NF_RUNTIME_ENGINE_H
#define NF_RUNTIME_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/metrics/histogram.h"
#include "nf/runtime/backend.h"
#include "nf/runtime/instance.h"

enum {
    ENGINE_CHAIN_MAX = 8,
    ENGINE_PACKETS_DEFAULT = 1024, /* in flight */
    ENGINE_PACKETS_MAX = 16384,
    ENGINE_BURSTS_DEFAULT = 64, /* in flight */
    ENGINE_BURSTS_MAX = 256,
    ENGINE_TIMEOUT_DEFAULT_MS = 1000,
    ENGINE_RERUNS_MAX = 3,
    ENGINE_TXNS = 8192,       /* submitted and unanswered, given up ones included */
    ENGINE_SAVED_BYTES = 640, /* what of a packet is restored for a re-run; an
                                 NF rewrites headers or makes an ICMP error */
};

/* Why the engine drops. After these come the faults of packet_parse, then the
 * reasons of each NF; engine_reason_text names them all. */
#define ENGINE_DROPS(X)                                                                            \
    X(ENGINE_DROP_WINDOW, "window_full")     /* more packets than engine_room said */              \
    X(ENGINE_DROP_TIMEOUT, "store_timeout")  /* no answer from the store in time */                \
    X(ENGINE_DROP_CONFLICT, "conflict")      /* ENGINE_RERUNS_MAX re-runs, still a conflict */     \
    X(ENGINE_DROP_ABANDONED, "abandoned")    /* the client's lease was lost: outcome unknown */    \
    X(ENGINE_DROP_REFUSED, "commit_refused") /* a limit of the store, at commit */                 \
    X(ENGINE_DROP_STORE, "store_unserved")   /* busy, or the shard is lost */                      \
    X(ENGINE_DROP_AWAY, "held_too_long")     /* the loop was away: engine_discard_all */           \
    X(ENGINE_DROP_IPV6, "not_taken")         /* an NF does not take this IP version */             \
    X(ENGINE_DROP_NF_BUG, "nf_bug")          /* the NF broke a bound of lethe_nf.h */
enum engine_drop {
#define X(name, text) name,
    ENGINE_DROPS(X)
#undef X
        ENGINE_DROP_END
};

struct engine_config {
    const struct nf_instance *chain[ENGINE_CHAIN_MAX]; /* inside to outside; outlive it */
    int nchain;
    struct backend backend;
    uint32_t packets_in_flight; /* 0: the default */
    uint32_t window_bursts;     /* bursts in flight; 0: the default */
    uint32_t store_timeout_ms;  /* 0: the default */
    bool pass_untaken;          /* packets an NF does not take: past it, or dropped */
    uint64_t seed;              /* of nf_random */
    void *ctx;
    /* `pkt->len` bytes at `pkt->data` leave by `out`. */
    void (*emit)(void *ctx, void *cookie, const struct packet *pkt, enum packet_side out);
    void (*drop)(void *ctx, void *cookie, int reason);
};

struct engine;

/* Opens the tables of all NFs in chain order. 0, or -errno and a sentence. */
int engine_create(const struct engine_config *config, struct engine **out, char *err,
                  uint32_t err_len);
/* Packets held are dropped; replies that come later must not (the client goes first). */
void engine_destroy(struct engine *e);

struct engine_packet {
    void *cookie;
    uint8_t *data; /* Ethernet header first */
    uint32_t len, room;
};

/* How many packets engine_rx takes now; read no more than that off the ring. */
uint32_t engine_room(const struct engine *e);
/* One burst of one side. Excess over engine_room is dropped and counted. */
void engine_rx(struct engine *e, const struct engine_packet *burst, uint32_t n,
               enum packet_side side, uint64_t now_us);
/* After the bursts of all ports: one request per shard goes out. */
void engine_flush(struct engine *e);
/* Replies, what waited for room, time-outs; engine_flush afterwards. Returns
 * replies handled. */
int engine_poll(struct engine *e, uint64_t now_us);

/* Drops everything held, and forgets what was asked; late replies find
 * nothing. Returns how many packets. */
uint32_t engine_discard_all(struct engine *e, enum engine_drop reason);

/*
 * A barrier: has every packet that engine_rx was given up to now been emitted or
 * dropped? What comes later is not waited for, except that beyond 15 barriers that
 * still wait a further one may wait for packets that came up to the next.
 */
uint32_t engine_barrier(struct engine *e);
bool engine_barrier_passed(struct engine *e, uint32_t barrier);

uint32_t engine_in_flight(const struct engine *e);
/* When engine_poll is due even without a reply; UINT64_MAX: never. */
uint64_t engine_next_us(const struct engine *e);

/* --- traces of single packets (common/metrics/trace.h) ------------------------- */

struct engine_tracer {
    void *ctx;
    /* A packet came in, as parsed: what it shall be known by; 0: nobody asked for it. */
    uint32_t (*packet)(void *ctx, const struct packet *p);
    /* `what` is one of: "begun" (its turn came, in the NF), "answered" (its look-ups are),
     * "committed", "conflict", "counted", "emitted", "dropped" (and why). Else nf, why NULL. */
    void (*event)(void *ctx, uint32_t id, const char *what, const char *nf, const char *why);
    /* A txn for it left. */
    void (*sent)(void *ctx, uint32_t id, const char *nf, uint16_t shard, uint64_t client,
                 uint64_t seq);
    /* It leaves, as this. */
    void (*left)(void *ctx, uint32_t id, const struct packet *p);
};
/* NULL: off, at no cost but a comparison. `t` outlives that. */
void engine_trace(struct engine *e, const struct engine_tracer *t);
/* The backend says that the txn it was given with `user` left. */
void engine_trace_sent(struct engine *e, void *user, uint16_t shard, uint64_t client,
                       uint64_t seq);

/* --- counts: plain, written by the engine's thread --------------------------- */

struct engine_stats {
    uint64_t rx[2], tx[2];           /* packets by side */
    uint64_t untaken;                /* past an NF that does not take them */
    uint64_t runs, run_packets;      /* runs processed, packets in them */
    uint64_t lookups, commits, adds; /* txns */
    uint64_t conflicts, reruns, rounds;
    uint64_t events;                 /* expiries shown to NFs, and done */
    uint64_t adds_refused;
    uint64_t late_replies;          /* found nothing */
    uint64_t no_room;               /* submissions that had to wait */
    uint64_t rtt_count;             /* look-ups answered */
    struct histogram rtt_us;        /* of them */
    struct histogram commit_us;     /* commits, from the first txn out to the last answer */
    struct histogram held_us;       /* packets emitted, since engine_rx */
    struct histogram run_len;       /* packets of a run */
};
const struct engine_stats *engine_stats(const struct engine *e);
int engine_reasons(const struct engine *e);
uint64_t engine_drops(const struct engine *e, int reason);
/* "store_timeout", "bad_length", "nat44_no_mapping". */
const char *engine_reason_text(const struct engine *e, int reason);
/* Event counters of NF number `nf` of the chain (nf_ops.counter_names). */
uint64_t engine_nf_count(const struct engine *e, int nf, int counter);

#endif
