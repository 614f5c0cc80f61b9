/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A txn: the one unit of work that the store executes atomically, as bytes.
 *
 * The same bytes are what a network function plans, what the client keeps for
 * a retry, what travels, and what the shard executes: nothing is translated on
 * the way. A txn names ONE hash slot and is a short straight program of ops.
 * Ops run in order on the state that the earlier ones left; if any guard fails
 * nothing at all is applied and the result says which op failed and what the
 * store holds there now.
 *
 *   txn    = struct txn_head, then `nops` ops
 *   op     = struct txn_op, key, parent key, value, patches; padded to 8 bytes
 *   patch  = struct txn_patch: copies bytes of an earlier op's result into
 *            this op's key, parent key or value before it runs ("allocate an
 *            index, store the record in it, insert the record that names it")
 *   result = struct txn_result_head, then one struct txn_result per op that
 *            ran (skipped ops have none), each followed by its value, padded
 *
 * Everything is little-endian and naturally aligned from the start of the txn.
 * Builders never allocate: they write into a buffer the caller owns and return
 * false, writing nothing, when it is full. Validation happens once, at the
 * edge (txn_validate); execution trusts validated bytes.
 */
#ifndef LETHE_WIRE_TXN_H
#define LETHE_WIRE_TXN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LETHE_SLOTS = 256,        /* hash slots, fixed for ever */
    TXN_KEY_MAX = 40,         /* bytes of a key */
    TXN_VALUE_MAX = 256,      /* bytes of a value */
    TXN_OPS_MAX = 16,         /* ops in one txn */
    TXN_PATCHES_MAX = 4,      /* patches in one op */
    TXN_BYTES_MAX = 4096,     /* one encoded txn */
    TXN_RESULT_MAX = 16384,   /* one encoded result (a scan fills it at most) */
    POOL_BLOCK = 64,          /* indexes in one block of a pool */
};

/* What an op does. Kinds of table it applies to: h hash, p pool, c counters. */
enum txn_code {
    TXN_GET = 1,   /* hpc  read; see the flags below */
    TXN_CHECK,     /* hp   guard: version == arg0 (0: must be absent) */
    TXN_INSERT,    /* h    guard: absent; creates with value, timeout, parent */
    TXN_CAS,       /* hp   guard: version == arg0; replaces the value, and the
                           entry's time-out if timeout_ms != 0 */
    TXN_DELETE,    /* h    guard: version == arg0; runs the table's reactions */
    TXN_ADD,       /* c    value = int64 deltas[value_size / 8]; creates at 0 */
    TXN_ADD_LIMIT, /* c    as ADD, guard: field 0 afterwards <= (int64)arg0 */
    TXN_ALLOC,     /* p    takes a random free index of this slot, stores value */
    TXN_FREE,      /* p    guard: version == arg0; the index goes to quarantine */
    TXN_SCAN,      /* hpc  alone in its txn; arg0 = cursor (0 starts); the
                           result's index is the number of entries, version the
                           next cursor (0: done), value packed scan entries.
                           Who stays all the while is seen, after a fail-over
                           perhaps twice */
    TXN_CODE_END
};

/* Flags of TXN_GET. */
enum {
    TXN_TOUCH = 1,            /* on a hit move the deadline of the whole group */
    TXN_STOP_IF_ABSENT = 2,   /* on a miss skip every later op, status stays OK */
    TXN_SKIP_IF_PRESENT = 4,  /* on a hit skip the next `skip` ops: with the
                                 create ops behind it this is get-or-create */
};

/* Flags of TXN_INSERT: the entry belongs to the group of a parent entry. */
enum { TXN_HAS_PARENT = 8 };

struct txn_head {             /* 16 bytes */
    uint64_t seq;             /* the client's sequence; 0 while being built */
    uint16_t bytes;           /* whole txn, this head included, multiple of 8 */
    uint8_t slot;             /* the hash slot every key of it maps to */
    uint8_t nops;
    uint32_t slot_epoch;      /* of the hash slot, as whoever sends it knows it: set once, with
                                 seq, never changed by a retry. The txn may run only where the
                                 slot is owned under this very epoch; see TXN_MOVED */
};

struct txn_op {               /* 32 bytes */
    uint8_t code, table, flags, skip;
    uint8_t key_len;          /* pool: 4, the index as u32 (absent for ALLOC) */
    uint8_t npatch;
    uint16_t value_len;
    uint32_t timeout_ms;      /* 0: the table's, or unchanged for a CAS */
    uint8_t parent_table, parent_key_len;
    uint16_t bytes;           /* whole op, tail and padding included */
    uint64_t arg0;
    uint64_t arg1;            /* zero, kept for later */
};

enum txn_patch_from { PATCH_VALUE = 0, PATCH_INDEX = 1, PATCH_VERSION = 2 };
enum txn_patch_into { PATCH_KEY = 0, PATCH_PARENT = 1, PATCH_INTO_VALUE = 2 };

struct txn_patch {            /* 8 bytes */
    uint8_t op;               /* the earlier op whose result is the source */
    uint8_t from, from_off;   /* enum txn_patch_from, byte offset in it */
    uint8_t len;
    uint8_t into, zero;       /* enum txn_patch_into */
    uint16_t into_off;
};

/* Outcome of a whole txn. Only OK applied anything. */
#define TXN_STATUSES(X)                                                                      \
    X(TXN_OK, "done")                                                                        \
    X(TXN_CONFLICT, "a guard failed; the result carries the current entry")                  \
    X(TXN_LIMIT, "a counter would pass its limit")                                           \
    X(TXN_EXHAUSTED, "no free index left in this shard's part of the pool")                   \
    X(TXN_NO_MEMORY, "the table's entry limit or the shard's memory limit is reached")       \
    X(TXN_BUSY, "too many operations outstanding; try again")                                \
    X(TXN_BAD_REQUEST, "malformed, unknown table, or a key outside the named hash slot")     \
    X(TXN_STALE_CLIENT, "unknown or expired client id; nothing was executed")                \
    X(TXN_FORGOTTEN, "at or below the acknowledged watermark; nothing was executed")         \
    X(TXN_NOT_PRIMARY, "this replica does not serve the shard")                              \
    X(TXN_LOST, "no caught-up copy of this shard is left; an operator must accept the loss")   \
    X(TXN_MOVED, "the hash slot is owned elsewhere; was not executed here and never will be")

enum txn_status {
#define X(name, text) name,
    TXN_STATUSES(X)
#undef X
        TXN_STATUS_END
};
const char *txn_status_text(enum txn_status status);

enum txn_res { RES_HIT = 1, RES_ABSENT, RES_DONE, RES_FAILED /* this op's guard */ };

struct txn_result_head {      /* 16 bytes */
    uint64_t seq;
    uint16_t bytes;           /* whole result, this head included */
    uint8_t status;           /* enum txn_status */
    uint8_t nres;
    uint8_t failed_op;        /* valid if status != OK and a guard failed */
    uint8_t zero[3];
};

struct txn_result {           /* 24 bytes */
    uint8_t op;               /* position of the op in the txn */
    uint8_t res;              /* enum txn_res */
    uint16_t value_len;
    uint32_t index;           /* ALLOC and pool GET: the index */
    uint64_t version;         /* of the entry now; 0 if absent */
    uint32_t timeout_ms;      /* of the entry */
    uint32_t bytes;           /* this result with value and padding */
};

/* Behind the head of a TXN_MOVED result: where to ask, as a NEW txn with a new
 * sequence, in hash slot `slot` (another one than was asked for when the pool
 * index is lent to it), at shard `shard`, under `slot_epoch`. */
struct txn_moved { uint8_t slot, zero; uint16_t shard; uint32_t slot_epoch; };
static inline const struct txn_moved *txn_moved_of(const struct txn_result_head *h)
{
    return h->status == TXN_MOVED ? (const struct txn_moved *)(h + 1) : NULL;
}

struct txn_scan_entry {       /* 16 bytes, then key, value, padding to 8 */
    uint64_t version;
    uint16_t key_len, value_len;
    uint32_t left_ms;         /* until the entry expires; 0: never */
};

/* --- building: the caller owns `buf`, 8-byte aligned --------------------- */

struct txn_builder {
    uint8_t *buf;
    uint32_t used, room;      /* bytes */
};

void txn_begin(struct txn_builder *b, void *buf, uint32_t room, uint8_t slot);
/* Appends an op; returns its position, or -1 when it does not fit. `op` gives
 * code, lengths and arguments; its `bytes` and `npatch` are set here. A key or
 * value given as NULL is zeros, for patches to fill. */
int txn_add_op(struct txn_builder *b, const struct txn_op *op, const void *key,
               const void *parent_key, const void *value);
/* Adds a patch to the op added last. */
bool txn_add_patch(struct txn_builder *b, struct txn_patch patch);
/* Sets the `skip` of op number `at` to cover every op added after it. */
void txn_skip_to_here(struct txn_builder *b, int at);
/* Closes the txn (head, padding); returns its bytes. */
uint32_t txn_end(struct txn_builder *b);

/* --- reading -------------------------------------------------------------- */

/* Checks lengths, counts, codes, flags, patch ranges (targets inside key,
 * parent or value; source an earlier op), SCAN alone, skip in range; NOT table
 * ids, which only the shard knows. `bytes` is what may be read from `txn` on,
 * at least the txn's own length. Returns NULL, or what is wrong. */
const char *txn_validate(const void *txn, uint32_t bytes);
const char *txn_result_validate(const void *result, uint32_t bytes);

static inline const struct txn_op *txn_first(const struct txn_head *t)
{
    return (const struct txn_op *)(t + 1);
}
static inline const struct txn_op *txn_next(const struct txn_op *op)
{
    return (const struct txn_op *)((const uint8_t *)op + op->bytes);
}
static inline const uint8_t *txn_key(const struct txn_op *op)
{
    return (const uint8_t *)(op + 1);
}
static inline const uint8_t *txn_parent_key(const struct txn_op *op)
{
    return txn_key(op) + op->key_len;
}
static inline const uint8_t *txn_value(const struct txn_op *op)
{
    return txn_parent_key(op) + op->parent_key_len;
}
/* Patches follow the value at the next multiple of 8 from the op's start. */
static inline const struct txn_patch *txn_patches(const struct txn_op *op)
{
    uint32_t off = sizeof *op + op->key_len + op->parent_key_len + op->value_len;
    return (const struct txn_patch *)((const uint8_t *)op + ((off + 7) & ~7u));
}
static inline const struct txn_result *txn_result_first(const struct txn_result_head *h)
{
    return (const struct txn_result *)(h + 1);
}
static inline const struct txn_result *txn_result_next(const struct txn_result *r)
{
    return (const struct txn_result *)((const uint8_t *)r + r->bytes);
}
static inline const uint8_t *txn_result_value(const struct txn_result *r)
{
    return (const uint8_t *)(r + 1);
}
/* The result of op number `op`, or NULL if it was skipped. */
const struct txn_result *txn_result_of(const struct txn_result_head *h, int op);
/* The scan entry at *offset (0 starts) of a scan's result, and *offset moved
 * behind it; NULL at the end, or when the rest is malformed. */
const struct txn_scan_entry *txn_scan_next(const struct txn_result *r, uint32_t *offset);

/* --- hash slots ------------------------------------------------------------ */

/* Hash slot of a partition key. */
uint8_t slot_of(const void *partition_key, uint32_t len);
/* Hash slot that owns a pool index at first, and again whenever it is not lent. */
static inline uint8_t slot_of_index(uint32_t index)
{
    return (uint8_t)((index / POOL_BLOCK) % LETHE_SLOTS);
}

#endif
