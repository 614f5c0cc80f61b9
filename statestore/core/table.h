/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tables: where entries are kept. Internal to the core.
 *
 * A table has one *part* per hash slot, with its own index and its own slab, so
 * that a hash slot is what is snapshot and moved as a whole.
 *
 *   index   64-byte buckets of 8 x (16-bit fingerprint, 32-bit record number);
 *           a key has two buckets to be in, and the first one has an overflow
 *           chain. It grows by a rehash of this one part.
 *   slab    records of whole 64-byte lines, in chunks that double; a record is
 *           never moved, its number never changes while it lives.
 *   meta    what readers of a record do not need: the wheel's links. At the end
 *           of the record's last line if that has room, else in an array.
 *   groups  parents and children: an array per chunk, in parts that have any.
 *
 * A record's lines are record.h's (common/wire). A reader past the processor sees them; what
 * follows the CRC in the last one is no reader's business.
 *
 * A pool has no index: its indexes are dense in the part, see pool.c.
 *
 * Thread: the shard's. Errors: part_reserve and table_create are the only
 * functions that allocate and can fail; after a successful reserve the
 * insertions reserved for cannot fail.
 */
#ifndef STATESTORE_CORE_TABLE_H
#define STATESTORE_CORE_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/wire/msg.h"
#include "common/wire/record.h"

enum {
    BUCKET_WAYS = 8,
    CHUNKS_MAX = 26,          /* chunk c holds CHUNK_FIRST << c records */
    CHUNK_FIRST_BITS = 4,
    CHUNK_FIRST = 1 << CHUNK_FIRST_BITS,
};
#define REC_NONE UINT32_MAX

/* A place in the shard: table << 40 | slot << 32 | record, 46 bits; see timer.c
 * for the values with bit 47 set. */
typedef uint64_t rec_ref;

/* Links between metas, 48 bits each: a rec_ref plus one, or what timer.c says. */
struct link { uint32_t low; uint16_t high; } __attribute__((packed, aligned(2)));
static inline rec_ref link_get(const struct link *l)
{
    return (uint64_t)l->high << 32 | l->low;
}
static inline void link_set(struct link *l, rec_ref ref)
{
    *l = (struct link){(uint32_t)ref, (uint16_t)(ref >> 32)};
}

struct meta {
    struct link next, prev;   /* timing wheel; prev 0: not in it; next also chains free records */
    uint32_t ahead_ms;        /* of the deadline that every replica knows is the record's */
};
_Static_assert(sizeof(struct meta) == 16, "memory of an entry");

struct group {
    uint32_t children;
    uint32_t parent_rec;      /* REC_NONE: no parent */
    uint32_t parent_mix;      /* CRC32C of the parent's key: replica-independent */
    uint8_t parent_table, zero[3];
};
extern const struct group group_none;

struct bucket {
    uint16_t print[BUCKET_WAYS]; /* fingerprint, 0: free */
    uint32_t rec[BUCKET_WAYS];
    uint32_t overflow;        /* next bucket of the chain; 0: none */
    uint32_t zero[3];
} __attribute__((aligned(64)));

struct index {
    struct bucket *buckets;   /* `count` of them, then the overflow buckets */
    uint32_t count, entries;
    uint32_t overflow_used, overflow_room;
};

struct resting { uint64_t release_ms; uint32_t dense, zero; };

/* One slot's share of a pool. `dense` numbers the indexes that it knows: its own
 * 0..home - 1, then those it borrowed, below `count`. */
struct pool_part {
    uint32_t count, free_count, reserved;
    uint32_t home, room;      /* own indexes; numbers there is memory for */
    uint32_t *free;           /* dense numbers; the last `reserved` of them are promised */
    uint32_t *pos;            /* dense -> position in free, or REC_NONE */
    uint32_t *rec;            /* dense -> record, or REC_NONE */
    uint16_t *to;             /* dense -> slot it is lent to, + 1; 0: here; POOL_UNDER_WAY */
    struct resting *rest;     /* quarantine, a ring of `room` */
    /* Ring positions, ever growing: [logged, ready) are free again on this
     * replica but the log has not said so yet; [ready, end) still rest. */
    uint64_t logged, ready, end;
    struct borrowed *borrowed; /* dense - home -> which; NULL: never borrowed */
    uint32_t unused;          /* numbers given back: chained through borrowed.index */
    uint32_t lent;            /* how many are */
    uint32_t *map;            /* open addressing: index -> dense + 1; 0: empty */
    uint32_t map_mask;
};
/* from: the slot that lent it first; the slot itself: several did, so that a mark is kept
 * when it goes back; LETHE_SLOTS: unused. */
struct borrowed { uint32_t index, from; };
enum { POOL_UNDER_WAY = LETHE_SLOTS + 1 }; /* `to`: in a loan to another shard */

/* A pending event, as it is told: the message's event, then key, value, padding. */
struct event {
    uint64_t position;        /* of the log; told when commit reaches it */
    struct msg_event e;
};

/* One slot's share of a table's events; see event.c. Made at first use. */
struct event_log {
    uint64_t next, cursor;    /* number of the next one; all up to `cursor` are gone */
    uint64_t client;          /* the consumer; 0: none yet */
    uint64_t consumer_position; /* of the log, since when it is */
    uint8_t *ring;            /* by number & (room - 1) */
    uint32_t room, epoch;     /* the consumer's */
    uint64_t sent, sent_ms;   /* primary: up to where, and when the oldest was */
    uint32_t patience;        /* times that it was sent again in vain */
};

struct chunk {                /* lines NULL: not allocated yet */
    uint8_t *lines;
    uint8_t *metas;           /* the first; the others follow at the table's meta_stride */
};

/* Its first cache line is all that a look-up needs but the chunk's. */
struct part {
    struct index index;
    struct pool_part *pool;   /* made at first use */
    uint32_t high;            /* record numbers below it were in use once */
    uint32_t room;            /* record numbers that have memory */
    uint32_t free_head, free_count;
    uint32_t entries;
    bool grouped;             /* every chunk has its groups */
    union {                   /* made at first use */
        struct event_log *events; /* TABLE_EVENTS */
        uint64_t *cells;      /* TABLE_SKETCH: its rows, one behind the other */
    };
    struct chunk chunk[CHUNKS_MAX] __attribute__((aligned(64)));
    struct group **groups;    /* if grouped: of each chunk */
    uint32_t *rkeys;          /* of each chunk, by which clients read it (0: none can); made with the
                                 first one of a table with slabs */
};

struct table {
    struct table_schema schema;
    uint8_t id;
    struct record_shape shape;
    bool meta_inside;         /* of the record's last line */
    uint32_t meta_stride;
    int8_t reaction_table[TABLE_REACTIONS]; /* -1: not open (yet) */
    uint64_t seed;
    uint64_t sketch_seed;     /* the same at every replica */
    uint64_t position;        /* log position of its opening */
    uint64_t entries;
    uint64_t pending;         /* events; they count against max_entries */
    uint64_t pending_slots[LETHE_SLOTS / 64];
    uint64_t bytes;           /* of memory */
    uint64_t limits;          /* a bit per limit it is held to (limit.c) */
    uint64_t *memory_bytes;   /* the shard's account of it */
    const struct shard_slabs *slabs; /* where its chunks are from; NULL: memory_new */
    uint64_t dry_noted_ms;    /* this pool: a note was made */
    uint32_t lend_least;      /* where to look for a lender, and what makes one: lend.c */
    uint8_t lend_at;
    struct part part[LETHE_SLOTS];
};

/* A load whose result nobody waits for, not a prefetch: a processor may drop a
 * prefetch whose page is not in its TLB, and here it hardly ever is. */
static inline void bring_near(const void *at)
{
    (void)*(const volatile uint8_t *)at;
}

struct table *table_create(const struct table_schema *schema, uint8_t id, uint64_t seed,
                           uint64_t *memory_bytes);
void table_destroy(struct table *t);
/* Throws away one slot's entries. */
void part_clear(struct table *t, uint8_t slot);
/* Makes room for `more` insertions; `groups`: of what has or is a parent, or for
 * a record becoming one. False: out of memory, nothing changed that anyone can
 * see. */
bool part_reserve(struct table *t, uint8_t slot, uint32_t more, bool groups);
/* What part_reserve would allocate now, in bytes. */
uint64_t part_reserve_cost(const struct table *t, uint8_t slot, uint32_t more, bool groups);

static inline bool is_volatile(const struct table *t)
{
    return t->schema.durability == DURABLE_NONE;
}
static inline void table_account(struct table *t, int64_t bytes)
{
    t->bytes += (uint64_t)bytes;
    *t->memory_bytes += (uint64_t)bytes;
}

/* Zeroed memory for slabs and indexes, whole pages of its own if it is big: what
 * is given back leaves no hole, what is never written takes no memory. */
void *memory_new(uint64_t bytes);
void memory_free(void *at, uint64_t bytes);

/* A seeded hash of a key (a folded-multiply chain). */
uint64_t hash_bytes(uint64_t seed, const void *key, uint32_t len);
uint64_t table_hash(const struct table *t, const void *key, uint32_t len);
/* The record of a key, or REC_NONE. Not for pools. */
uint32_t part_find(const struct table *t, uint8_t slot, const void *key, uint64_t hash);
/* Brings a look-up's memory near, in this order and with other work between:
 * each step reads what the one before it fetched. */
static inline void part_prefetch(const struct table *t, uint8_t slot)
{
    bring_near(&t->part[slot]);
}
void part_prefetch_bucket(const struct table *t, uint8_t slot, uint64_t hash);
/* Returns whose record that was: perhaps the key's, REC_NONE: nobody's. */
uint32_t part_prefetch_record(const struct table *t, uint8_t slot, uint64_t hash);
/* part_find with such a guess, which may be of earlier. */
uint32_t part_find_near(const struct table *t, uint8_t slot, const void *key, uint64_t hash,
                        uint32_t guess);

/* A new record for the key (not there before), entered in the index; the
 * caller writes it. Room was reserved. */
uint32_t part_insert(struct table *t, uint8_t slot, const void *key, uint64_t hash);
void part_remove(struct table *t, uint8_t slot, uint32_t rec);

static inline uint32_t chunk_of(uint32_t rec, uint32_t *in_chunk)
{
    uint32_t n = rec + CHUNK_FIRST;
    uint32_t c = 31u - (uint32_t)__builtin_clz(n) - CHUNK_FIRST_BITS;
    *in_chunk = n - ((uint32_t)CHUNK_FIRST << c);
    return c;
}
static inline struct record *record_at(const struct table *t, uint8_t slot, uint32_t rec)
{
    uint32_t i, c = chunk_of(rec, &i);
    return (struct record *)(t->part[slot].chunk[c].lines + (size_t)i * t->shape.lines * LINE_BYTES);
}
static inline struct meta *meta_at(const struct table *t, uint8_t slot, uint32_t rec)
{
    uint32_t i, c = chunk_of(rec, &i);
    return (struct meta *)(t->part[slot].chunk[c].metas + (size_t)i * t->meta_stride);
}
static inline bool is_armed(const struct meta *m)
{
    return m->prev.low | m->prev.high;
}
static inline const struct group *group_of(const struct table *t, uint8_t slot, uint32_t rec)
{
    if (!t->part[slot].grouped)
        return &group_none;
    uint32_t i, c = chunk_of(rec, &i);
    return &t->part[slot].groups[c][i];
}
/* To be written: part_reserve was asked for groups. */
static inline struct group *group_at(struct table *t, uint8_t slot, uint32_t rec)
{
    uint32_t i, c = chunk_of(rec, &i);
    return &t->part[slot].groups[c][i];
}
/* Of the key of a record that exists; not of a pool's. */
static inline uint64_t record_hash(const struct table *t, uint8_t slot, uint32_t rec)
{
    return table_hash(t, record_at(t, slot, rec)->payload, t->schema.key_size);
}
/* The deadline that every replica knows; 0: never. */
static inline uint64_t replicated_ms(const struct record *r, const struct meta *m)
{
    return r->deadline_ms - m->ahead_ms;
}
/* Moves the record's own, not the replicated one. */
static inline void deadline_move(struct record *r, struct meta *m, uint64_t deadline_ms)
{
    m->ahead_ms += (uint32_t)(deadline_ms - r->deadline_ms);
    r->deadline_ms = deadline_ms;
}
static inline rec_ref ref_make(uint8_t table, uint8_t slot, uint32_t rec)
{
    return (uint64_t)table << 40 | (uint64_t)slot << 32 | rec;
}

/* --- index.c, for table.c only ------------------------------------------------ */

void index_destroy(struct table *t, struct index *ix);
bool index_reserve(struct table *t, uint8_t slot, uint32_t more);
uint64_t index_reserve_cost(const struct table *t, uint8_t slot, uint32_t more);
void index_put(struct index *ix, uint64_t hash, uint32_t rec);
void index_drop(struct index *ix, uint64_t hash, uint32_t rec);

/* Of a record that exists: its lines and its meta. */
static inline void record_prefetch(const struct table *t, uint8_t slot, uint32_t rec)
{
    const uint8_t *line = (const uint8_t *)record_at(t, slot, rec);
    for (int i = 0; i < t->shape.lines; i++)
        bring_near(line + i * LINE_BYTES);
    if (!t->meta_inside)
        bring_near(meta_at(t, slot, rec));
}

/* --- pool.c ----------------------------------------------------------------- */

/* Number of indexes of a pool of `indexes` that belong to the slot. */
uint32_t pool_share(uint32_t indexes, uint8_t slot);
/* Of a slot's own index. */
static inline uint32_t pool_dense(uint32_t index)
{
    return index / POOL_BLOCK / LETHE_SLOTS * POOL_BLOCK + index % POOL_BLOCK;
}
static inline uint32_t pool_index(uint8_t slot, uint32_t dense)
{
    return (dense / POOL_BLOCK * LETHE_SLOTS + slot) * POOL_BLOCK + dense % POOL_BLOCK;
}
/* Makes the slot's share if it is not there yet. False: no memory. */
bool pool_open(struct table *t, uint8_t slot);
void pool_close(struct table *t, uint8_t slot);
uint32_t pool_find(const struct table *t, uint8_t slot, uint32_t index);
/* As for parts, after part_prefetch. The index is of the slot and of the pool. */
void pool_prefetch(const struct table *t, uint8_t slot);
void pool_prefetch_number(const struct table *t, uint8_t slot, uint32_t index);
void pool_prefetch_record(const struct table *t, uint8_t slot, uint32_t index);
/* Lets indexes whose rest is over be promised again. */
void pool_mature(struct pool_part *p, uint64_t now_ms);
/* Promises a random free index: false if there is none. pool_unpromise takes
 * all promises back; pool_take makes a free index used. */
bool pool_promise(struct pool_part *p, uint64_t random, uint32_t *dense);
void pool_unpromise(struct pool_part *p);
void pool_take(struct pool_part *p, uint32_t dense, uint32_t rec);
/* The index rests until release_ms. */
void pool_rest(struct pool_part *p, uint32_t dense, uint64_t release_ms);

/* Number of an index that the slot has, or has lent; REC_NONE: knows nothing of it. */
uint32_t pool_number(const struct pool_part *p, uint8_t slot, uint32_t index);
uint32_t pool_index_of(const struct pool_part *p, uint8_t slot, uint32_t dense);
/* Whether the slot has it, not lent. */
bool pool_holds(const struct table *t, uint8_t slot, uint32_t index);
/* Room to borrow `more`. False: no memory. */
bool pool_reserve(struct table *t, uint8_t slot, uint32_t more);
/* A free index goes to slot `to`: home again if it was borrowed of it. False: it is
 * not free here. */
bool pool_lend(struct pool_part *p, uint8_t slot, uint32_t index, uint16_t to);
/* What is under way to another shard arrived in its slot `to`; LETHE_SLOTS: stays here
 * and is free. False: it is not under way. */
bool pool_loan_done(struct pool_part *p, uint8_t slot, uint32_t index, uint16_t to);
/* It is ours, and free: lent before and back again, or borrowed. False: it is here. */
bool pool_borrow(struct pool_part *p, uint8_t slot, uint32_t index, uint8_t from);

/* --- event.c: the memory of events ------------------------------------------ */

/* Makes the log, and room in it for `more` events. False: out of memory. */
bool event_reserve(struct table *t, uint8_t slot, uint32_t more);
uint64_t event_reserve_cost(const struct table *t, uint8_t slot, uint32_t more);
void events_close(struct table *t, uint8_t slot);
struct event *event_at(const struct table *t, const struct event_log *l, uint64_t number);
static inline struct event_log *event_log_of(const struct table *t, uint8_t slot)
{
    return t->schema.flags & TABLE_EVENTS ? t->part[slot].events : NULL;
}
uint64_t events_digest(const struct table *t, uint8_t slot);

/* --- sketch.c ---------------------------------------------------------------- */

bool sketch_reserve(struct table *t, uint8_t slot);
uint64_t sketch_reserve_cost(const struct table *t, uint8_t slot);
void sketch_close(struct table *t, uint8_t slot);
int64_t sketch_estimate(const struct table *t, uint8_t slot, const void *key);
uint64_t sketch_digest(const struct table *t, uint8_t slot);

#endif
