/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lethe-steer's own header: what its files share.
 *
 *   main.c     options, start, stop          loop.c     rounds, back-off, timers
 *   check.c    what must hold at the start   edge.c     edge ports, ARP, next hop
 *   verbs.c    control socket, hand-over     worker.c   join, leave, links, probes
 *   notes.c    log lines from the datapath   spread.c   hash -> worker -> ring
 *   counts.c   metrics                       probes.c   /healthz, /readyz
 *   holding.c  planned changes (hold.h)      traced.c   traces of packets
 *   tunnel.c   workers behind routers        enrol.c    how they join
 *   beside.c   interfaces that come and go   oversize.c packets too large for them
 *
 * Threads: the *datapath* (main) owns everything in struct steer but for what
 * is said otherwise. The *control* thread (control.h) hands orders over one at
 * a time (struct order) and reads metrics. The *aide* builds tables, writes
 * log lines, opens and closes the tunnel's further interfaces. EAL's interrupt thread connects and tears down memif rings, and
 * takes turns with the datapath (dpdk_poll_begin).
 */
#ifndef LETHE_STEERING_FRONT_STEER_H
#define LETHE_STEERING_FRONT_STEER_H

#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/config/site.h"
#include "common/metrics/control.h"
#include "common/metrics/http.h"
#include "common/metrics/notify.h"
#include "common/metrics/trace.h"
#include "common/packet/doorbell.h"
#include "common/packet/packet.h"
#include "common/packet/probe.h"
#include "common/packet/tunnel.h"
#include "common/packet/underlay.h"
#include "common/packet/vxlan.h"
#include "steering/arp.h"
#include "steering/awaited.h"
#include "steering/health.h"
#include "steering/hold.h"
#include "steering/table.h"

struct rte_mbuf;
struct rte_mempool;

/* All bounds of the datapath. */
enum {
    BURST = 64,                /* packets per burst and queue */
    MBUFS = 2047, MBUF_CACHE = 256,
    MBUFS_XDP = 8192,          /* more for each AF_XDP edge: its rings hold them */
    MEMORY_MB = 32,            /* of DPDK, with packet buffers of 2 KiB */
    EDGE_DESCS = 1024, MEMIF_DESCS = 2048, MEMIF_RING_LOG2 = 11,
    MEMIF_BUFFER_BYTES = 2048, /* larger packets take several */
    HELD_MAX = 32,             /* packets that wait for the next hop's MAC, per side */
    HELD_MAX_US = 1000000,
    HOLD_PACKETS = 4096,       /* of planned changes: buffers beyond MBUFS, of 2 KiB; */
    HOLD_PACKETS_MIN = 512,    /* fewer of larger ones */
    HOLD_MAX_US = 1000000,     /* and failure_timeout_ms at most */
    HOLD_OLD_US = 5000000,     /* what waits for a worker that does not answer is dropped then */
    MARKERS_PER_TIMEOUT = 8,   /* sent again that often, until they come back */
    WORKERS_DEFAULT = 16,
    IDLE_ROUNDS = 20,          /* empty rounds with sched_yield before sleeping */
    SLEEP_MAX_MS = 10, SLEEP_BLIND_MS = 1, /* blind: an edge without descriptor */
    TICK_US = 1000,            /* timers are looked at this often */
    BUSY_WINDOW_US = 1000000,
    TUNNEL_SILENT_US = 1500000, /* so long without JOIN: no link; and two failure time-outs at least */
    TUNNEL_FORGET_US = 60000000, /* and then, who is not in the table loses his place */
    ICMP_PER_S = 500, ICMP_BURST = 100, /* answers to packets too large for a tunnel */
    NOTES_MAX = 256, ORDER_WAIT_MS = 5000,
    EDGES_LOOK_MS = 50,        /* the aide asks the kernel whether they carry */
    BESIDE_LOOK_MS = 1000,     /* ... and whether the tunnel's further interfaces are there */
    END_TIMEOUTS = 4,          /* told to end, it serves on so long: routers turn from it in one, */
    END_MAX_US = 10000000,     /* ... and at most so long, below ORCH_PATIENCE_MS */
    PATH_BYTES = 108, ERR_BYTES = 512,
};

/* --- metrics (counts.c) -------------------------------------------------------- */

#define DROPS(X)                                                               \
    X(DROP_NO_WORKER, "no_worker")                                             \
    X(DROP_RING_FULL, "worker_ring_full")                                      \
    X(DROP_WORKER_GONE, "worker_gone")                                         \
    X(DROP_HELD_TOO_LONG, "held_too_long")      /* for one that does not answer */ \
    X(DROP_NOT_FOR_US, "not_for_us")                                           \
    X(DROP_NOT_IP, "not_ip")                                                   \
    X(DROP_OVERSIZED, "oversized")                                             \
    X(DROP_TRUNCATED, "truncated")                                             \
    X(DROP_BAD_HEADER, "bad_header")                                           \
    X(DROP_BAD_CHECKSUM, "bad_ip_checksum")                                    \
    X(DROP_BAD_LENGTH, "bad_length")                                           \
    X(DROP_TOO_BIG, "too_big_for_tunnel")                                      \
    X(DROP_TUNNEL_STRANGER, "tunnel_stranger")  /* no worker has this address */ \
    X(DROP_TUNNEL_ASTRAY, "tunnel_other_interface") /* than the worker's joins */ \
    X(DROP_TUNNEL_OUTER, "tunnel_bad_outer")                                   \
    X(DROP_TUNNEL_FRAGMENT, "tunnel_fragment")                                 \
    X(DROP_TUNNEL_VNI, "tunnel_wrong_vni")                                     \
    X(DROP_TUNNEL_FORGED, "tunnel_forged")      /* a join with a wrong tag */  \
    X(DROP_TUNNEL_STALE, "tunnel_replayed")                                    \
    X(DROP_UNRESOLVED, "next_hop_unresolved")                                  \
    X(DROP_EDGE_FULL, "edge_full")                                             \
    X(DROP_NO_BUFFER, "no_buffer")
enum drop {
#define X(name, text) name,
    DROPS(X)
#undef X
        DROP_END
};

#define COUNTS(X)                                                              \
    X(COUNT_RX, "lethe_steer_rx_packets_total", "packets from the edges")      \
    X(COUNT_TX, "lethe_steer_tx_packets_total", "packets to the edges")        \
    X(COUNT_RX_BYTES, "lethe_steer_rx_bytes_total", "bytes from the edges")    \
    X(COUNT_TX_BYTES, "lethe_steer_tx_bytes_total", "bytes to the edges")      \
    X(COUNT_PARTIAL, "lethe_steer_partial_checksums_total",                    \
      "packets with a checksum left to an offload: run ethtool -K <if> tx off")\
    X(COUNT_RESTEERED, "lethe_steer_resteered_total",                          \
      "packets sent to another worker than the table's, which was lost")       \
    X(COUNT_PROBES, "lethe_steer_probes_total", "probes sent")                 \
    X(COUNT_REPLIES, "lethe_steer_probe_replies_total", "fresh genuine replies")\
    X(COUNT_FORGED, "lethe_steer_probes_forged_total", "probe frames with a wrong tag or sender")\
    X(COUNT_STALE, "lethe_steer_probes_stale_total", "replies that were old or repeated")\
    X(COUNT_REMOVALS, "lethe_steer_removals_total", "workers taken out of the table")\
    X(COUNT_RETURNS, "lethe_steer_returns_total", "workers put into the table") \
    X(COUNT_KEPT, "lethe_steer_last_worker_kept_total",                        \
      "times that no worker was healthy and the last ones stayed in the table")\
    X(COUNT_RESTARTS, "lethe_steer_worker_restarts_total", "new incarnations seen")\
    X(COUNT_TABLES, "lethe_steer_tables_total", "tables taken into use")       \
    X(COUNT_ARP_ANSWERED, "lethe_steer_arp_answered_total", "ARP requests answered")\
    X(COUNT_ARP_LEARNED, "lethe_steer_arp_learned_total", "next hop's MAC heard")\
    X(COUNT_ARP_ASKED, "lethe_steer_arp_asked_total", "ARP requests sent")     \
    X(COUNT_ARP_CONFLICT, "lethe_steer_arp_conflicts_total",                   \
      "ARP frames of somebody else who uses our address")                      \
    X(COUNT_ARP_MALFORMED, "lethe_steer_arp_malformed_total", "ARP frames refused")\
    X(COUNT_ECHO_ANSWERED, "lethe_steer_echo_answered_total",                  \
      "echo requests for an edge's address answered: it serves")               \
    X(COUNT_ECHO_REFUSED, "lethe_steer_echo_refused_total",                    \
      "such requests not answered: no worker is healthy, an edge is down, or it ends")\
    X(COUNT_HELD, "lethe_steer_held_total", "packets held in planned changes")  \
    X(COUNT_TUNNEL_JOINS, "lethe_steer_tunnel_joins_total",                    \
      "fresh genuine messages of workers that join, stay or leave by tunnel")  \
    X(COUNT_TUNNEL_REFUSED, "lethe_steer_tunnel_joins_refused_total",          \
      "the same, of workers that were told why they cannot join")              \
    X(COUNT_PMTU, "lethe_steer_packet_too_big_total",                          \
      "ICMP \"fragmentation needed\" sent: the packet does not fit the worker's tunnel")\
    X(COUNT_FRAGMENTED, "lethe_steer_fragmented_total",                        \
      "packets without DF cut to fit the worker's tunnel")                     \
    X(COUNT_SLEEPS, "lethe_steer_sleeps_total", "times the loop slept")        \
    X(COUNT_PAUSES, "lethe_steer_pauses_total",                                \
      "rounds later than 25 ms, of which health counts 25 ms only")            \
    X(COUNT_NOTES_LOST, "lethe_steer_log_lines_lost_total", "log lines lost to a full ring")
enum count {
#define X(id, name, help) id,
    COUNTS(X)
#undef X
        COUNT_END
};

#define GAUGES(X)                                                              \
    X(GAUGE_MEMBERS, "lethe_steer_workers_in_table", "members of the table")   \
    X(GAUGE_HEALTHY, "lethe_steer_workers_healthy", "workers that answer probes")\
    X(GAUGE_WORKERS, "lethe_steer_workers", "workers that have joined")        \
    X(GAUGE_ROUND_MS, "lethe_steer_round_ms", "when the loop last looked at its timers, by the "\
      "host's monotonic clock")                                                \
    X(GAUGE_BUSY, "lethe_steer_busy_permille", "share of time with packets at hand")\
    X(GAUGE_TABLE_US, "lethe_steer_table_build_us", "time the last table took to build")\
    X(GAUGE_STALL_US, "lethe_steer_join_stall_us",                             \
      "longest time a join or removal kept packets waiting")                   \
    X(GAUGE_RESOLVED_IN, "lethe_steer_next_hop_resolved{side=\"inside\"}",     \
      "1: the next hop's MAC is known")                                        \
    X(GAUGE_RESOLVED_OUT, "lethe_steer_next_hop_resolved{side=\"outside\"}",   \
      "1: the next hop's MAC is known")                                        \
    X(GAUGE_BUFFERS, "lethe_steer_buffers_free", "packet buffers that are not in use")\
    X(GAUGE_HELD, "lethe_steer_held_packets",                                  \
      "packets held in a planned change, or waiting behind those for a ring")  \
    X(GAUGE_HOLD_US, "lethe_steer_hold_us", "time that the last hold lasted")  \
    X(GAUGE_SPRAY, "lethe_steer_spray", "1: every packet goes to a random worker")
enum gauge {
#define X(id, name, help) id,
    GAUGES(X)
#undef X
        GAUGE_END
};

/* Per worker; `side` and direction are in the name. */
#define WORKER_COUNTS(X)                                                       \
    X(W_TO_INSIDE, "packets_total", "side=\"inside\",direction=\"to\"")        \
    X(W_TO_OUTSIDE, "packets_total", "side=\"outside\",direction=\"to\"")      \
    X(W_FROM_INSIDE, "packets_total", "side=\"inside\",direction=\"from\"")    \
    X(W_FROM_OUTSIDE, "packets_total", "side=\"outside\",direction=\"from\"")  \
    X(W_BYTES_TO_INSIDE, "bytes_total", "side=\"inside\",direction=\"to\"")    \
    X(W_BYTES_TO_OUTSIDE, "bytes_total", "side=\"outside\",direction=\"to\"")  \
    X(W_BYTES_FROM_INSIDE, "bytes_total", "side=\"inside\",direction=\"from\"")\
    X(W_BYTES_FROM_OUTSIDE, "bytes_total", "side=\"outside\",direction=\"from\"")\
    X(W_RING_FULL, "drops_total", "reason=\"worker_ring_full\"")               \
    X(W_GONE, "drops_total", "reason=\"worker_gone\"")                         \
    X(W_TOO_BIG, "drops_total", "reason=\"too_big_for_tunnel\"")               \
    X(W_TUNNEL_BAD, "drops_total", "reason=\"tunnel_refused\"")  /* of its address */ \
    X(W_STATE, "state", "")                                                    \
    X(W_RTT_US, "probe_rtt_us", "")                                            \
    X(W_BUSY, "busy_permille", "")                                             \
    X(W_IN_FLIGHT, "in_flight", "")                                            \
    X(W_WEIGHT, "weight", "")                                                  \
    X(W_MTU, "mtu_bytes", "")    /* of IP packets on the way to it */
enum worker_count {
#define X(id, name, labels) id,
    WORKER_COUNTS(X)
#undef X
        W_END
};

/* Per interface of the tunnel; its name and the direction are labels. */
#define BY_COUNTS(X)                                                           \
    X(BY_FROM, "packets_total", ",direction=\"from\"")                         \
    X(BY_TO, "packets_total", ",direction=\"to\"")                             \
    X(BY_LOST, "interface_losses_total", "")  /* it went away in use */        \
    X(BY_UP, "interface_up", "")                                               \
    X(BY_MTU, "mtu_bytes", "")                /* of the underlay by it; 0: not there */
enum by_count {
#define X(id, name, labels) id,
    BY_COUNTS(X)
#undef X
        BY_END
};

struct counts {
    struct metric *drop[DROP_END], *count[COUNT_END], *gauge[GAUGE_END];
    struct metric *release[HOLD_REASON_END];
};

/* --- state ------------------------------------------------------------------------ */

struct queue {                 /* packets of this round on their way to a port */
    uint16_t n;
    struct rte_mbuf *m[BURST];
};

struct edge {
    int port;
    int fd;                    /* to sleep on; -1: none */
    uint8_t mac[6];
    char iface[32];            /* "": not a kernel interface */
    struct arp arp;
    struct queue out;
    struct rte_mbuf *held[HELD_MAX]; /* for the next hop, while it is unresolved */
    uint16_t held_n;
    uint64_t held_us;          /* when the first was */
};

/* A worker's end of the tunnel, as its last fresh and genuine message came from. */
struct peer {
    bool on;                   /* it joined by tunnel */
    uint8_t by;                /* the interface it came by */
    uint32_t address;          /* network order */
    uint32_t mtu;              /* of IP packets inside */
    struct tunnel_seen seen;
    uint64_t incarnation, heard_us; /* run time */
    struct vxlan_path path;    /* to the last router on the way here */
};

struct worker {
    char name[TABLE_NAME_BYTES];
    unsigned number, weight;
    struct health health;
    int port[2];               /* by side; -1: none */
    bool link, asked_early;    /* asked_early: packets since the last probe */
    uint8_t mac[2][6];
    struct queue out[2];
    struct doorbell *bell;     /* the worker's; NULL: not there yet */
    bool ring;                 /* something was put into its rings this round */
    uint8_t marked;            /* bits: sides where the marker was put */
    uint64_t mark_us;          /* run time at which it is put again */
    uint64_t catches_up_us;    /* run time until which it may have a backlog */
    struct peer peer;
    struct metric *count[W_END];
    struct metric *info;       /* lethe_steer_worker_info of its present name; NULL: none */
    struct metric unregistered[W_END]; /* for what the registry has no room for */
};

/* An interface where packets for the tunnel's address come in. `under`: set at the start, and read by all. */
struct tunnel_by {
    struct underlay under;
    int port, fd;              /* -1: it is not there */
    uint8_t mac[6];
    uint32_t mtu;              /* of the underlay */
    uint64_t since_us;         /* run time: what was heard before came by another port */
    struct metric *count[BY_END];
    struct beside {            /* of a further one, which comes and goes: awaited.h says who owns what when */
        int state;
        int port, fd;
        uint8_t mac[6];
        uint32_t mtu;
        struct underlay_facts opened; /* the aide's alone, as is what follows */
        bool said;
    } beside;
};

struct tunnel {                /* of the site's steering.tunnel */
    struct tunnel_by by[SITE_TUNNEL_PORTS_MAX]; /* the first is there from start to end */
    unsigned by_n;             /* 0: there is no tunnel */
    int tended;                /* the further ones are: set with release when DPDK runs */
    uint64_t look_us;          /* the aide's: when it looks for them next */
    uint32_t vni;              /* inside */
    uint64_t floor_us;         /* messages echoing an earlier time are refused */
    uint32_t address[TABLE_WORKERS_MAX]; /* of peers, by number: 0: none */
    uint32_t fits;             /* frames up to here fit all peers */
    uint64_t icmp_credit_us, icmp_us;
};

struct note {
    uint8_t kind, worker, state, event, before;
    char name[TABLE_NAME_BYTES];
    uint64_t a, b;
};

struct aide;
struct order;

struct steer {
    const struct site *site;
    struct site_front front;   /* the part of it that is this instance */
    const char *name;          /* of this instance */
    char bell_path[PATH_BYTES];
    uint8_t probe_key[PROBE_KEY_BYTES];
    uint64_t incarnation, timeout_us;
    uint32_t mtu, room;        /* IP bytes of a packet; data bytes of a buffer */
    struct rte_mempool *pool;
    struct doorbell *bell;
    struct edge edge[2];       /* by side */
    struct tunnel tunnel;
    struct worker *worker;     /* workers_max of them */
    unsigned workers_max;
    uint64_t members;          /* bits: who shall get packets */
    uint64_t usable;           /* bits: who may: members, and who leaves while s->table names it */
    uint8_t member[TABLE_WORKERS_MAX], member_n; /* the same as a list */
    struct tables *tables;
    const struct table *table;
    struct hold *hold;
    bool spray, kept;
    uint64_t end_us;           /* told to end, it goes on until then; 0: it was not. Others read it, too */
    int edge_down;             /* an edge's interface does not carry: the aide writes, the datapath reads */
    uint64_t rng, now_us, run_us, tick_us, busy_us, window_us;
    struct health_clock clock;
    struct aide *aide;
    struct order *order;
    struct metrics *metrics;
    struct trace *trace;
    bool tracing;              /* it is wanted: looked at once a round */
    struct counts counts;
};

static inline void drop_count(struct steer *s, enum drop why, uint64_t n)
{
    metric_add(s->counts.drop[why], n);
}
static inline void count_add(struct steer *s, enum count what, uint64_t n)
{
    metric_add(s->counts.count[what], n);
}

int counts_create(struct steer *s);
/* At a join. */
void counts_worker(struct steer *s, struct worker *w);

/* --- traced.c: while s->tracing, on the datapath. A traced packet's id is in its buffer
 * (hash.fdir.hi), 0 in all others ----------------------------------------------------- */
void traced_received(struct steer *s, struct rte_mbuf *m, const struct packet *p);
void traced_from_worker(struct steer *s, const struct worker *w, enum packet_side side,
                        struct rte_mbuf *m);
/* What is kept of that old owner's is released now. */
void traced_held(struct steer *s, unsigned owner);
/* Before packets go to a worker, who is quick: their ids; the time. */
uint64_t traced_ids(struct rte_mbuf *const *m, uint16_t n, uint32_t *ids);
/* When they are in its ring, and no longer ours. */
void traced_to_worker(struct steer *s, const struct worker *w, const uint32_t *ids, uint16_t n,
                      uint64_t us);
void traced_sent(struct steer *s, struct rte_mbuf *const *m, uint16_t n);
void traced_dropped(struct steer *s, struct rte_mbuf *const *m, uint32_t n, enum drop why);

/* --- probes.c: of http.h, on its thread ------------------------------------------- */
void probe_healthy(void *ctx, char *why, uint32_t len);
void probe_ready(void *ctx, char *why, uint32_t len);
/* lethe_steer_edge_up. */
void probe_edges(void *ctx, struct metrics_text *to);
/* Does the edge's interface carry? Asks the kernel. */
bool edge_up(const struct edge *e);

/* --- check.c: 0 or -errno and a sentence ------------------------------------------ */
int check_site(struct steer *s, char *err, uint32_t err_len);
int check_edges(struct steer *s, char *err, uint32_t err_len);

/* --- edge.c -------------------------------------------------------------------------- */
int edges_open(struct steer *s, char *err, uint32_t err_len);
uint32_t edge_receive(struct steer *s, enum packet_side side);
void edge_send(struct steer *s, enum packet_side side, struct rte_mbuf *m);
void edge_flush(struct steer *s, enum packet_side side);
void edge_tick(struct steer *s, enum packet_side side);

/* --- tunnel.c ------------------------------------------------------------------------ */
/* 0 where the site has no tunnel. */
int tunnel_check(struct steer *s, char *err, uint32_t err_len);
int tunnel_open(struct steer *s, char *err, uint32_t err_len);
void tunnel_close(struct steer *s);
uint32_t tunnel_receive(struct steer *s);
/* worker_tx of a peer. What does not fit is taken, dropped and counted. */
uint16_t tunnel_tx(struct steer *s, struct worker *w, enum packet_side side, struct rte_mbuf **m,
                   uint16_t n);
/* Takes interfaces that have come, lets go of those that have gone. */
void tunnel_tick(struct steer *s);
/* What the aide does for it (beside.c): looks for further interfaces, opens and closes them. */
void beside_tend(struct steer *s);
/* A DPDK port on `device`, which is u's interface. 0 or -errno and a sentence. */
int tunnel_open_port(struct steer *s, const char *device, const struct underlay *u, int *port, int *fd,
                     uint8_t mac[6], char *err, uint32_t err_len);
/* Is it heard of? */
bool tunnel_link(const struct steer *s, const struct worker *w);
/* w is a peer from here on, or at another address; or none any more. */
void tunnel_set(struct steer *s, struct worker *w, uint8_t by, uint32_t address, const uint8_t mac[6],
                uint32_t mtu);
void tunnel_unset(struct steer *s, struct worker *w);

/* --- enrol.c ------------------------------------------------------------------------- */
/* A joining message. `outer`: the whole frame it came in, `by` what interface. */
void enrol(struct steer *s, uint8_t by, const uint8_t *outer, const struct vxlan_outer *o,
           const struct tunnel_message *m);

/* --- oversize.c ---------------------------------------------------------------------- */
/* A packet that may be too large for its worker (s->tunnel.fits). True: it is, and was taken. */
bool oversize(struct steer *s, enum packet_side side, struct rte_mbuf *m, uint64_t hash);

/* --- spread.c ------------------------------------------------------------------------ */
/* The worker of a hash value; -1: there is none. */
int spread_pick(struct steer *s, uint64_t hash);
void spread(struct steer *s, enum packet_side side, struct rte_mbuf *m, uint64_t hash);
void spread_flush(struct steer *s, struct worker *w);
/* Puts packets, BURST at most, into a worker's ring; how many it took. */
uint16_t spread_put(struct steer *s, struct worker *w, enum packet_side side, struct rte_mbuf **m,
                    uint16_t n);
void spread_dispose(struct steer *s, struct rte_mbuf **m, uint32_t n, enum drop why);

/* --- holding.c ----------------------------------------------------------------------- */
int holding_create(struct steer *s);
/* Takes the next table, if there is one and nobody waits. */
void holding_take_table(struct steer *s);
/* True: the packet is kept. Only while s->hold->waits. */
bool holding_keep(struct steer *s, enum packet_side side, struct rte_mbuf *m, uint64_t hash);
/* Packets that w's ring did not take: how many of them, from the first, wait for it. */
uint16_t holding_queue(struct steer *s, struct worker *w, enum packet_side side,
                       struct rte_mbuf **m, uint16_t n);
/* A genuine marker of w came back. False: it is an old one. */
bool holding_returned(struct steer *s, struct worker *w, enum packet_side side, uint64_t number);
/* Each round, after the workers were read: markers, time, backlogs. */
void holding_round(struct steer *s);
/* w does not answer any more, or its rings are gone. */
void holding_worker_gone(struct steer *s, struct worker *w);
/* An unplanned change: nobody waits any more. */
void holding_end(struct steer *s);
/* Is there something that the loop must not sleep over? */
static inline bool holding_busy(const struct steer *s)
{
    return (s->hold->waits | s->hold->backlogged) != 0;
}

/* --- worker.c ------------------------------------------------------------------------ */
int worker_join(struct steer *s, const char *name, unsigned weight, unsigned *number, char *err,
                uint32_t err_len);
struct worker *worker_named(struct steer *s, const char *name);
/* The same as worker_join for who comes by tunnel: NULL: no room. Its peer is set by the caller. */
struct worker *worker_enrol(struct steer *s, const char *name);
void worker_apply(struct steer *s, struct worker *w, enum health_event e);
/* In steering's table. */
void worker_weigh(struct steer *s, struct worker *w, unsigned weight);
/* To be asked again while *later: packets may still be put into its rings. */
int worker_leave(struct steer *s, const char *name, unsigned *number, bool *last, bool *later,
                 char *err, uint32_t err_len);
/* After a change of members, links or the table in use. */
void workers_usable(struct steer *s);
/* A frame of PROBE_FRAME_BYTES, signed here, into a ring. False: no buffer, or no room. */
bool worker_put_probe(struct steer *s, struct worker *w, enum packet_side side, struct probe *p);
uint32_t worker_receive(struct steer *s, struct worker *w);
/* Whatever goes to a worker, packets, probes, markers, goes through here, BURST at most, by the
 * way that it joined by; how many were taken. Their Ethernet headers are written. */
uint16_t worker_tx(struct steer *s, struct worker *w, enum packet_side side, struct rte_mbuf **m,
                   uint16_t n);
/* And whatever comes from one: takes the frame. */
void worker_rx(struct steer *s, struct worker *w, enum packet_side side, struct rte_mbuf *m);
void worker_tick(struct steer *s, struct worker *w);
/* Asks the driver now; true: the link is there. */
bool worker_look_at_link(struct steer *s, struct worker *w);
void worker_memif(const struct steer *s, const struct worker *w, enum packet_side side,
                  char path[PATH_BYTES], uint8_t mac[6]);
static inline bool worker_present(const struct worker *w)
{
    return w->health.state != HEALTH_ABSENT;
}

/* --- loop.c -------------------------------------------------------------------------- */
uint64_t monotonic_us(void);
/* Until *stop is set. */
void loop_run(struct steer *s, const volatile int *stop);

/* --- notes.c: the aide ---------------------------------------------------------------- */
enum note_kind { NOTE_STATE, NOTE_JOIN, NOTE_LEAVE, NOTE_TABLE, NOTE_KEPT, NOTE_RESTARTED,
                 NOTE_RESOLVED, NOTE_CONFLICT, NOTE_SPRAY, NOTE_HOLD, NOTE_ENDS };
int aide_start(struct steer *s);
void aide_stop(struct steer *s);
void aide_wake(struct steer *s);
void note_put(struct steer *s, const struct note *n);
void note_worker(struct steer *s, enum note_kind kind, const struct worker *w, uint64_t a,
                 uint64_t b);

/* --- verbs.c -------------------------------------------------------------------------- */
int verbs_create(struct steer *s);
void verbs_destroy(struct steer *s);
/* Datapath: carries out the order that waits, if one does. */
void verbs_serve(struct steer *s);
/* The loop ends: whoever waits is told so. */
void verbs_close(struct steer *s);
void verbs_handle(void *ctx, int argc, char **argv, char *reply, uint32_t room);

#endif
