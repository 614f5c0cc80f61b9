/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nat44, inside: what the NAT remembers, and what its files share.
 *
 *   config.c    YAML -> struct nat_self and the table schemas
 *   address.c   external addresses <-> pool indexes; who is inside
 *   classify.c  packet -> what has to be done with it, without any state
 *   plan.c      lookup: that as txns
 *   process.c   entries -> translated packet, or its refusal
 *   tcp.c       the TCP state machine, a table
 *   layout.c    its tables' keys and values, for people
 *
 * State, per protocol p of tcp, udp, icmp:
 *
 *   nat.map.<p>    internal end point -> index (and version) of the pool record
 *   nat.ports.<p>  index -> internal end point; the index IS the external
 *                  address and port, so this is the reverse mapping
 *   nat.session    internal + remote end point -> TCP state; child of its
 *                  nat.map.tcp entry, which dies with its last session
 *   nat.frag       addresses, protocol, IP id -> translated addresses
 *   nat.host       internal address -> mappings it holds; only with a cap
 *
 * An entry of nat.map frees its index when it dies, if the record there is
 * still its own. All of one mapping lies in one hash slot, that of the
 * internal end point (of the internal address with a cap), because an index is
 * allocated in the slot of the txn: so either direction is one round trip.
 */
#ifndef NF_NAT44_H
#define NF_NAT44_H

#include "common/packet/packet_fields.h"
#include "nf/lethe_nf.h"

enum {
    NAT_RANGES_MAX = 64,      /* entries of `external` */
    NAT_ADDRESSES_MAX = 1024, /* addresses in them */
    NAT_PREFIXES_MAX = 32,    /* entries of `inside` */
    NAT_PORT_MIN = 1024,
    NAT_PORTS = 65536 - NAT_PORT_MIN, /* of one address; whole blocks of the pool */
    NAT_FRAGMENTS_MAX = 65536,        /* remembered per shard */
};

/* --- tables ----------------------------------------------------------------- */

enum nat_proto { NAT_TCP, NAT_UDP, NAT_ICMP, NAT_PROTOS };
enum nat_table {
    NAT_MAP = 0, /* + enum nat_proto */
    NAT_POOL = NAT_MAP + NAT_PROTOS,
    NAT_SESSION = NAT_POOL + NAT_PROTOS,
    NAT_FRAG,
    NAT_HOST, /* last: not there without a cap */
    NAT_TABLES,
};

struct nat_end_point { /* key of nat.map, record of nat.ports */
    struct packet_addr addr;
    uint16_t port; /* network order; ICMP: the identifier */
    uint8_t proto, zero;
};
struct nat_map { /* off and len of the REACT_FREE of nat.map */
    uint32_t index;
    uint8_t version[8]; /* of the pool record */
    uint32_t zero;
};
struct nat_session_key {
    struct nat_end_point inside, remote;
};
struct nat_session {
    uint32_t index;         /* copied from the mapping: one get is enough */
    uint8_t state, zero[3]; /* enum nat_tcp */
};
struct nat_frag_key {
    struct packet_addr src, dst;
    uint8_t id[2], proto, zero;
};
struct nat_frag {
    uint32_t src, dst;       /* after translation, network order */
    uint8_t turned, zero[7]; /* 1: back to the side it came from (hairpin) */
};

/* --- configuration ------------------------------------------------------------ */

struct nat_range { /* of external addresses, host order */
    uint32_t first, count;
    uint32_t number; /* of the first one */
};
struct nat_prefix {
    uint32_t first, mask;
};

struct nat_self {
    struct nat_range external[NAT_RANGES_MAX];
    struct nat_prefix inside[NAT_PREFIXES_MAX];
    uint32_t nexternal, ninside, addresses;
    struct packet_addr own[2]; /* by enum packet_side: source of our ICMP errors */
    uint32_t udp_ms, icmp_ms, fragment_ms, quarantine_ms;
    uint32_t tcp_transitory_ms, tcp_established_ms, tcp_closing_ms, tcp_reset_ms;
    uint32_t max_mappings; /* per internal address; 0: no cap */
    uint32_t max_sessions; /* per shard; 0: no limit */
    bool inbound_refresh, quiet;
    uint8_t part_len; /* of an end point: its partition key */
};

/* As loaded from YAML: keys of docs/nat.md; 0 or absent: the default. */
struct nat_config {
    char **external, **inside;
    unsigned external_count, inside_count;
    char *inside_address, *outside_address;
    unsigned udp_s, icmp_s, tcp_transitory_s, tcp_established_s, tcp_closing_s, tcp_reset_s;
    unsigned port_rest_s, max_mappings_per_address, max_sessions;
    bool inbound_refresh, quiet;
};
int nat_init(void *self, const void *config, struct table_schema *tables, int *ntables, char *err,
             uint32_t err_len);

/* --- address.c ------------------------------------------------------------------ */

/* Number of an external address, or -1. */
int nat_external_number(const struct nat_self *self, const struct packet_addr *addr);
struct packet_addr nat_external_address(const struct nat_self *self, uint32_t number);
/* Index of an external end point (port in network order); false: none can be. */
bool nat_index_of(const struct nat_self *self, const struct packet_addr *addr, uint16_t port,
                  uint32_t *index);
void nat_of_index(const struct nat_self *self, uint32_t index, struct packet_addr *addr,
                  uint16_t *port);
bool nat_is_inside(const struct nat_self *self, const struct packet_addr *addr);
bool nat_is_unicast(const struct packet_addr *addr);

/* --- classify.c ----------------------------------------------------------------- */

/* clang-format off */
#define NAT_DROPS(X)                                                                              \
    X(NAT_DROP_NO_MAPPING, "no_mapping")           /* inbound, or an ICMP error about nothing */  \
    X(NAT_DROP_NO_SESSION, "no_session")           /* TCP that is no SYN, of no session */        \
    X(NAT_DROP_PORTS_EXHAUSTED, "ports_exhausted")                                                \
    X(NAT_DROP_CAP_REACHED, "cap_reached")         /* max_mappings_per_address */                 \
    X(NAT_DROP_STATE_FULL, "state_full")           /* a table's or the store's memory limit */    \
    X(NAT_DROP_STORE, "store_refused")                                                            \
    X(NAT_DROP_MARTIAN, "martian")                 /* a source that cannot be on that side */     \
    X(NAT_DROP_NOT_FOR_US, "not_for_us")           /* a destination that we do not route */       \
    X(NAT_DROP_PROTOCOL, "unknown_protocol")                                                      \
    X(NAT_DROP_ICMP_TYPE, "icmp_type")             /* neither echo nor an error we translate */   \
    X(NAT_DROP_BAD_ERROR, "bad_icmp_error")        /* checksums, fragments, no ports quoted */    \
    X(NAT_DROP_FRAGMENT_ORDER, "fragment_out_of_order")                                           \
    X(NAT_DROP_TTL, "ttl_expired")                 /* and no ICMP error may be sent about it */
enum nat_drop {
#define X(name, text) name,
    NAT_DROPS(X)
#undef X
        NAT_DROP_END
};

#define NAT_COUNTS(X)                                                                             \
    X(NAT_COUNT_MAPPED, "mappings_created")                                                       \
    X(NAT_COUNT_SESSION, "sessions_created")                                                      \
    X(NAT_COUNT_EXHAUSTED, "ports_exhausted")                                                     \
    X(NAT_COUNT_CAP, "cap_reached")                                                               \
    X(NAT_COUNT_FULL, "state_full")                                                               \
    X(NAT_COUNT_PROHIBITED, "protocols_refused")                                                  \
    X(NAT_COUNT_TTL, "ttl_expired")                                                               \
    X(NAT_COUNT_ECHO, "echoes_answered")                                                          \
    X(NAT_COUNT_HAIRPIN, "hairpinned")                                                            \
    X(NAT_COUNT_ERROR, "icmp_errors_translated")                                                  \
    X(NAT_COUNT_FRAGMENT, "fragments_translated")                                                 \
    X(NAT_COUNT_ERROR_SENT, "icmp_errors_sent")
enum nat_count {
#define X(name, text) name,
    NAT_COUNTS(X)
#undef X
        NAT_COUNT_END
};

/* clang-format on */
enum nat_case {
    NAT_DROP_IT, /* for `reason` */
    NAT_FORWARD, /* translate one half or both */
    NAT_LATER_FRAGMENT,
    NAT_TTL_EXPIRED,
    NAT_ECHO,       /* a ping of one of our own addresses */
    NAT_PROHIBITED, /* a protocol we do not translate, from the inside */
};

/*
 * What a packet asks for. A packet from the inside has an `out` half (its
 * sender's end point becomes external), one from the outside an `in` half (the
 * external end point it is for becomes internal), a hairpinned one has both.
 * For an ICMP error the end points are those of the packet it quotes.
 */
struct nat_packet {
    enum nat_case what;
    enum nat_drop reason;
    enum nat_proto proto;
    bool out, in;
    bool remember;               /* a first fragment */
    struct nat_end_point inside; /* out: key of the mapping */
    uint32_t index;              /* in: index of the mapping */
};
struct nat_packet nat_classify(const struct nat_self *self, const struct packet *p);

/* --- plan.c ----------------------------------------------------------------------- */

/* The look-ups of a forwarded packet come in this order; -1: not made. */
struct nat_lookups {
    int out, in, frag, hairpin, count;
};
struct nat_lookups nat_lookups_of(const struct nat_packet *w);
/* Positions of the ops of an out half that creates. */
struct nat_ops {
    int insert, map, session;
};
struct nat_ops nat_ops_of(const struct nat_self *self, bool tcp);
enum { NAT_OP_GET = 0, NAT_OP_IN_SESSION = 1, NAT_OP_IN_CREATE = 2, NAT_OP_HAIRPIN_CREATE = 1 };

bool nat_lookup(const void *self, const struct packet *p, struct nf_plan *plan);
/* The second round of hairpinned TCP: the session at the receiver's mapping,
 * whose remote end point is known only now. */
void nat_plan_hairpin(const struct nat_self *self, const struct packet *p, struct nf_plan *plan,
                      const struct nat_end_point *receiver, uint32_t receiver_index,
                      uint32_t sender_index);
struct nat_frag_key nat_frag_key_of(const struct packet *p);

/* --- layout.c ------------------------------------------------------------------------ */

void nat_layout(const void *self, int table, struct table_layout *out);

/* --- tcp.c -------------------------------------------------------------------------- */

enum nat_tcp {
    TCP_SYN_OUT = 0, /* the inside sent a SYN */
    TCP_SYN_IN,      /* the outside sent a SYN */
    TCP_SYN_BOTH,    /* both did; the handshake is not finished */
    TCP_ESTABLISHED,
    TCP_FIN_OUT, /* the inside finished sending */
    TCP_FIN_IN,
    TCP_CLOSING, /* both finished */
    TCP_RESET,   /* an RST passed, which may have been forged */
    TCP_STATES
};
enum nat_segment {
    SEGMENT_SYN,
    SEGMENT_SYN_ACK,
    SEGMENT_ACK,
    SEGMENT_FIN,
    SEGMENT_RST,
    SEGMENT_OTHER,
    SEGMENTS
};

enum nat_segment nat_segment_of(const struct packet *p);
/* `outward`: sent by the inside. */
enum nat_tcp nat_tcp_next(enum nat_tcp state, bool outward, enum nat_segment segment);
uint32_t nat_tcp_timeout_ms(const struct nat_self *self, enum nat_tcp state);

/* --- process.c ------------------------------------------------------------------------ */

enum nf_verdict nat_process(const void *self, struct packet *p, struct nf_call *call);

extern const struct nf_ops nat44_ops;

#endif
