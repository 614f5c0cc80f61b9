/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The messages of Lethe's protocol, and its limits: this header is the
 * protocol. One frame = struct msg_head + body, little-endian, at most
 * MSG_BYTES_MAX. A connection serves one shard. The first frame in each
 * direction is HELLO / WELCOME; before them nothing else is read, but for the
 * handshake of a site with secrets (auth.h): CHALLENGE, PROOF, PROVEN.
 *
 *   client  → store   HELLO, PROOF, CLIENT_OPEN, TABLE_OPEN, BATCH, STATUS, MAP_GET, CONSUME,
 *                     EVENTS_ACK
 *   store   → client  CHALLENGE, PROVEN, WELCOME, CLIENT, TABLE, RESULTS, STATUS_IS, ERROR, MAP,
 *                     EVENTS, PLACES
 *   backup  → primary HELLO (role replica), PROOF, JOIN, ACK, CHUNK_ACK, TAIL
 *   primary → backup  CHALLENGE, PROVEN, WELCOME, VIEW, SNAP_BEGIN, CHUNK, SNAP_END, APPEND, ERROR,
 *                     FETCH
 *   source  → destination of a move (two shards' primaries; the source dials)
 *                     HELLO (role mover), PROOF, MOVE_BEGIN, MOVE_PART, MOVE_END
 *   destination → source   CHALLENGE, PROVEN, WELCOME, MOVE_ACK, ERROR
 *
 * Protocol 2 adds to 1: leases (stamps), FETCH and TAIL, moves and maps, events.
 * A frame says in head.proto which one it is of: HELLO the newest that its
 * sender speaks, every other one, from the first answer on, the newest that
 * both speak (HELLO's range tells the listener; nothing else may be in it that
 * the protocol did not have). A client of protocol 1 is served as before, but
 * for hash slots that were moved: it is told NOT_PRIMARY.
 *
 * Channels are ordered and reliable, yet the replication messages carry
 * positions and are re-sent by time-out, so that loss, duplication and
 * reordering are harmless (the simulator does all three).
 *
 * Validation is at the edge: msg_validate() checks everything in a frame that
 * can be checked without state; after it returns NULL the body may be read
 * through the structs below.
 */
#ifndef LETHE_WIRE_MSG_H
#define LETHE_WIRE_MSG_H

#include <stdint.h>
#include <sys/socket.h> /* has a constant MSG_BATCH, too, which nobody needs: */
#undef MSG_BATCH
#define MSG_BATCH MSG_BATCH_OF_TXNS

#include "schema.h"
#include "txn.h"

enum {
    MSG_PROTO_MIN = 1,
    MSG_PROTO_MAX = 2,
    MSG_BYTES_MAX = 256 * 1024, /* one frame */
    MSG_BATCH_MAX = 256,        /* txns in one BATCH */
    MSG_CLIENT_WINDOW = 8192,   /* seqs of one client between watermark and newest */
};
#define MSG_MAGIC 0x4548544Cu /* "LTHE" */

enum msg_type {
    MSG_HELLO = 1, MSG_WELCOME, MSG_ERROR,
    MSG_CLIENT_OPEN, MSG_CLIENT, MSG_TABLE_OPEN, MSG_TABLE,
    MSG_BATCH, MSG_RESULTS,
    MSG_JOIN, MSG_VIEW, MSG_SNAP_BEGIN, MSG_CHUNK, MSG_CHUNK_ACK, MSG_SNAP_END,
    MSG_APPEND, MSG_ACK,
    MSG_STATUS, MSG_STATUS_IS,
    MSG_CHALLENGE, MSG_PROOF, MSG_PROVEN,
    MSG_FETCH, MSG_TAIL,
    MSG_MOVE_BEGIN, MSG_MOVE_PART, MSG_MOVE_END, MSG_MOVE_ACK,
    MSG_MAP_GET, MSG_MAP,
    MSG_CONSUME, MSG_EVENTS, MSG_EVENTS_ACK,
    MSG_PLACES,
    MSG_LEAVE,
    MSG_TYPE_END
};

struct msg_head {             /* 24 bytes */
    uint32_t bytes;           /* whole frame, multiple of 8 */
    uint8_t type, proto;
    uint16_t shard;
    uint64_t view_epoch;      /* of the sender; 0 from a client that knows none */
    uint64_t map_epoch;
};

enum msg_auth { AUTH_NONE = 0, AUTH_HMAC = 1 /* HMAC-SHA-512-256, see auth.h */ };
enum { AUTH_NONCE_BYTES = 32, AUTH_MAC_BYTES = 32 };

enum msg_role { ROLE_CLIENT = 1, ROLE_REPLICA = 2, ROLE_ADMIN = 3, ROLE_MOVER = 4 };

/* Who a replica is. A replica that discards its state starts a new
 * incarnation; acknowledgements count only from the incarnation in the view. */
struct msg_node {
    uint32_t node, zero;
    uint64_t incarnation;
};

enum { CAP_ONE_SIDED = 1 }; /* a client that reads one-sidedly, and a store that lets it */

/* head.view_epoch of a replica: the epoch of the newest view whose primary it
 * ever joined, 0 if it holds nothing. A primary that starts empty asks by it
 * whether there had been something. */
struct msg_hello {
    struct msg_head head;
    uint32_t magic;
    uint8_t proto_min, proto_max, role, auth; /* auth: enum msg_auth */
    uint64_t capabilities;                    /* CAP_...: what its sender would use */
    struct msg_node self;                     /* replicas; zero from clients */
    char tenant[32];                          /* clients with auth; else "" */
};

struct msg_welcome {
    struct msg_head head;
    uint8_t proto, primary, zero[2]; /* proto picked; 1 if this replica serves */
    uint16_t shards, zero2;          /* of the store; slot s lives in shard s * shards / 256 */
    struct msg_node self;
    uint64_t capabilities;           /* of those asked for, what there is */
    uint32_t lease_ms;               /* of client ids */
    uint32_t primary_node;           /* who is, as far as this replica knows; 0: unknown, or
                                        protocol 1 */
};

/* Authentication, between HELLO and WELCOME, if HELLO asked for it. */
struct msg_challenge {
    struct msg_head head;
    struct msg_node self;     /* of the replica that asks */
    uint8_t nonce[AUTH_NONCE_BYTES];
};
struct msg_proof {
    struct msg_head head;
    uint8_t nonce[AUTH_NONCE_BYTES], mac[AUTH_MAC_BYTES];
};
struct msg_proven {
    struct msg_head head;
    uint8_t mac[AUTH_MAC_BYTES];
};

/* Closes the connection after it. `text` is for a person, NUL padded. */
struct msg_error {
    struct msg_head head;
    uint32_t code;  /* errno */
    uint32_t zero;
    char text[200];
};

/* `nonce` makes a retried CLIENT_OPEN harmless on one connection. */
struct msg_client_open { struct msg_head head; uint64_t nonce; };
struct msg_client {
    struct msg_head head;
    uint64_t nonce, client;   /* the leased id, never reused; 0: refused */
    uint32_t lease_ms, zero;
};

struct msg_table_open {
    struct msg_head head;
    uint64_t client;
    struct table_schema schema;
};
struct msg_table {
    struct msg_head head;
    char name[TABLE_NAME_MAX];
    int32_t id;               /* >= 0, the same in every shard of this kind of
                                 site only by luck: keep it per shard; or -errno */
    uint32_t zero;
    char text[200];           /* if id < 0: the two schemas, for a person */
};

/* Body: `ntxn` txns back to back. An empty batch renews the client's lease. */
struct msg_batch {
    struct msg_head head;
    uint64_t client;
    uint64_t ack;             /* every result with seq <= ack has arrived */
    uint32_t ntxn;
    uint32_t stamp;           /* client's clock, ms, low bits: PLACES is to answer this, at once; 0: need
                                 not. Only with CAP_ONE_SIDED */
};

/* Body: `nres` results back to back, in the order they became releasable. */
struct msg_results {
    struct msg_head head;
    uint64_t client;
    uint32_t nres, zero;
};

/* --- one-sided reads (client/remember.h), with CAP_ONE_SIDED alone ------------ */

/* The get `op` of txn `seq` found its entry here. A hint: no word about what is there now. */
struct msg_place {            /* 32 bytes */
    uint64_t seq, address;
    uint32_t rkey, slot_epoch;
    uint16_t incarnation;
    uint8_t op, lines;
    uint32_t zero;
};
/* Before the RESULTS that it is about. Body: `nplaces` of them. */
struct msg_places {
    struct msg_head head;
    uint64_t client;
    uint64_t shard_time_ms;
    uint32_t stamp;           /* of the BATCH that this answers; 0: it had none, nothing is granted */
    uint32_t left_ms;         /* of the shortest lease that the primary holds, now; 0: none */
    uint32_t nplaces, zero;
};

/* --- replication ---------------------------------------------------------- */

struct msg_view {             /* who replicates the shard, from the primary */
    struct msg_head head;
    struct msg_node members[3]; /* [0] is the primary; node 0: none */
    uint32_t nmembers, zero;
};

struct msg_join { struct msg_head head; struct msg_node self; };

/* A backup is about to be stopped: its primary sees to another copy, and to a view without it. */
struct msg_leave { struct msg_head head; struct msg_node self; };

struct msg_snap_begin {       /* discard everything, then expect 256 chunks + SNAP_END */
    struct msg_head head;
    struct msg_node to;
    uint64_t snapshot;        /* number of this attempt */
    uint64_t position;        /* the log from position + 1 on will follow */
    uint64_t shard_time_ms;
};

/* A part of one hash slot's (or, slot_or_base 256, the shard's own) state.
 * `position` is the log position it was taken at; a chunk of a slot may be in
 * several parts, all taken at one position. Body: state records. */
struct msg_chunk {
    struct msg_head head;
    struct msg_node to;
    uint64_t snapshot, position;
    uint16_t slot_or_base, part, last_part, zero;
    uint32_t body_bytes, crc;   /* CRC32C of the body */
};
struct msg_chunk_ack {
    struct msg_head head;
    struct msg_node self;
    uint64_t snapshot;
    uint16_t slot_or_base, part, refused, zero; /* refused: stale, send afresh */
    uint32_t zero2, zero3;
};
struct msg_snap_end { struct msg_head head; struct msg_node to; uint64_t snapshot; };

/* Log entries first..first + count - 1, back to back; count 0: a heartbeat.
 * `digest` is the digest of the primary's replicated state at
 * `digest_position` (0: none sent): a backup that stands at exactly that
 * position compares, and reports drift. */
struct msg_append {
    struct msg_head head;
    struct msg_node from;
    uint64_t first;
    uint64_t commit;
    uint64_t shard_time_ms;
    uint64_t digest_position, digest;
    uint32_t count, body_bytes;
    uint32_t crc;             /* CRC32C of the body */
    uint32_t stamp;           /* primary's clock, ms, low bits, when it sent this: a lease counts
                                 from there */
};
struct msg_ack {
    struct msg_head head;
    struct msg_node self;
    uint64_t position;        /* everything up to it is applied here */
    uint64_t digest_position, digest; /* its own, for the primary to compare */
    uint32_t drifted;         /* 1: compared, and differs */
    uint32_t stamp;           /* of the latest APPEND heard under this epoch: grants a lease */
};

/* A new primary, before it serves, to a member that has more of the log. The
 * member answers with TAIL frames, laid out like APPEND, `from` itself. */
struct msg_fetch { struct msg_head head; struct msg_node from; uint64_t first; };

/* --- moves (statestore/core/move.c) ------------------------------------------ */

enum move_what { MOVE_SLOT = 1, MOVE_INDEXES = 2 };

/* What was RELEASEd by shard `from_shard` to the shard that hears this. A slot:
 * all its state. Indexes: free ones of a pool, lent to a slot that ran dry. */
struct move_id {              /* 16 bytes */
    uint8_t what, slot;       /* enum move_what; the slot that moves, or that borrows */
    uint16_t from_shard;
    uint32_t epoch;           /* slot: its epoch from now on; indexes: number of the loan, growing
                                 per pair of shards */
    uint64_t zero;
};
struct msg_move_begin {
    struct msg_head head;
    struct move_id move;
    uint64_t attempt;         /* parts of an earlier one are void */
    uint64_t shard_time_ms;   /* the source's: deadlines in the parts are in its time */
};
/* Body: effects (statestore/core/effect.h); the tables they name come first, with
 * the source's numbers and their schemas. */
struct msg_move_part {
    struct msg_head head;
    struct move_id move;
    uint64_t attempt;
    uint32_t part, zero;      /* from 0 */
    uint32_t body_bytes, crc; /* CRC32C of the body */
};
struct msg_move_end {
    struct msg_head head;
    struct move_id move;
    uint64_t attempt;
    uint32_t parts, zero;
};
enum move_state { MOVE_TAKEN = 1 /* parts < `next` */, MOVE_ACCEPTED, MOVE_REFUSED };
struct msg_move_ack {
    struct msg_head head;
    struct move_id move;
    uint64_t attempt;
    uint32_t state;           /* enum move_state */
    uint32_t next;            /* part wanted next */
    char text[104];           /* refused: why, for a person */
};

struct msg_map_get { struct msg_head head; uint64_t client; };
/* What this shard knows of each slot for certain: it owns it, or released it. */
struct map_slot {             /* 8 bytes */
    uint16_t shard;
    uint8_t known, zero;      /* 0: never had it; by default it is with slot * shards / 256 */
    uint32_t epoch;           /* the greater one of two answers is the newer */
};
struct msg_map { struct msg_head head; struct map_slot slots[LETHE_SLOTS]; };

/* --- events (statestore/core/event.c) ------------------------------------------ */

/* "Give me events of this table": of slots that have no consumer, or whose
 * consumer is gone. `want` 0: no more. Repeated until an EVENTS frame comes. Of an
 * unknown client: answered by a TXN_STALE_CLIENT of sequence 0. */
struct msg_consume {
    struct msg_head head;
    uint64_t client;
    uint8_t table, want, zero[6];
};
/* Events `first` .. `first` + count - 1 of one (table, slot), to its consumer.
 * Body: struct msg_event, key, value; padded to 8. Sent again until acknowledged. */
struct msg_events {
    struct msg_head head;
    uint64_t client;
    uint64_t epoch;           /* of the consumer; an acknowledgement repeats it */
    uint64_t first;
    uint8_t table, slot;
    uint16_t count;
    uint32_t body_bytes;
};
struct msg_event {            /* 24 bytes */
    uint64_t version;         /* of the entry that expired: (key, version) names the event */
    uint64_t time_ms;         /* shard time of the expiry */
    uint8_t key_len, zero;
    uint16_t value_len;
    uint32_t bytes;           /* with key, value, padding */
};
struct msg_events_ack {
    struct msg_head head;
    uint64_t client, epoch;
    uint64_t cursor;          /* all up to it are done */
    uint8_t table, slot, zero[6];
};

/* --- status ---------------------------------------------------------------- */

struct msg_status { struct msg_head head; uint64_t nonce; };

enum shard_role { SHARD_PRIMARY = 1, SHARD_BACKUP, SHARD_JOINING, SHARD_LOST, SHARD_IDLE };

struct shard_status {
    uint64_t position, commit, digest; /* digest of the state at `position` */
    uint64_t entries, pool_used, pool_free, pool_resting;
    uint64_t txns, conflicts, exhausted, expired, touches_logged, duplicates;
    uint64_t clients, results_kept, memory_bytes;
    uint64_t shard_time_ms, view_epoch;
    uint32_t role;            /* enum shard_role */
    uint32_t copies;          /* in-view replicas, this one included */
    uint32_t drifts;          /* digest comparisons that differed */
    uint32_t waiting;         /* replies held for output commit */
};
struct msg_status_is { struct msg_head head; uint64_t nonce; struct shard_status status; };

/* NULL, or what is wrong. `bytes` is what was received of this frame. */
const char *msg_validate(const void *frame, uint32_t bytes);

/* Fills a head, of the newest protocol. bytes is rounded up to 8 by the caller. */
void msg_head_set(void *frame, enum msg_type type, uint32_t bytes, uint16_t shard,
                  uint64_t view_epoch);
/* Makes a frame one of the protocol that WELCOME picked: head.proto, and zero in the fixed fields
 * that 1 did not have. Whoever speaks 1 sends no later message, no slot_epoch, and NOT_PRIMARY
 * instead of MOVED: that is the sender's business. */
void msg_speak(void *frame, uint8_t proto);
/* The protocol that a table of this schema needs. */
uint8_t msg_schema_proto(const struct table_schema *s);
/* The protocol in which a HELLO is answered. */
uint8_t msg_common_proto(const struct msg_hello *m);

#endif
