/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The network function API. docs/writing-an-nf.md builds an NF in 60 lines.
 *
 * An NF is data and three functions, or four. It keeps NO state: everything it wants to
 * remember of a flow it declares as a table of the state store, so that any
 * worker may handle any packet of any flow, and a worker may die at any moment.
 *
 *   tables[]   what it remembers (schema: key, value, time-out, partition key)
 *   lookup     packet -> the state it needs, as txns (get, or get-or-create);
 *              a new flow and an established packet both take one round trip
 *   process    packet + the entries -> verdict, and changes to the entries
 *   expired    (optional) an entry's time is up
 *
 * The runtime (nf/runtime/) does the rest: bursts, batches, order within a
 * flow, retries on conflict, output commit: a packet leaves only after every
 * change it caused, and everything it read, is replicated.
 *
 * Rules, which the runtime holds NFs to:
 *   - lookup and process never block and never call anything but this header
 *     and common/packet. They run on the worker's one datapath thread.
 *   - They get NO writable memory that outlives the call. `self` is read-only
 *     configuration; an entry's `value` is a working copy; its change becomes
 *     a compare-and-swap. On a conflict process runs AGAIN, on a packet
 *     restored to what it was and on the entries as they are now.
 *   - An entry is changed only after nf_entry_write, nf_entry_delete.
 *   - Commutative counts go by nf_add; they are sent after everything else
 *     of the packet succeeded, exactly once.
 *
 * IPv4 packets only reach NFs that set takes_ipv4 (likewise IPv6); others are
 * passed or dropped by configuration, and counted.
 */
#ifndef LETHE_NF_H
#define LETHE_NF_H

#include <stdbool.h>
#include <stdint.h>

#include "common/packet/layout.h"
#include "common/packet/packet.h"
#include "common/wire/schema.h"
#include "common/wire/txn.h"

struct cyaml_schema_field;

enum {
    NF_TABLES_MAX = 12,      /* tables of one NF */
    NF_LOOKUPS_MAX = 4,      /* txns of one packet, per NF and round */
    NF_ENTRIES_MAX = 12,     /* entries of one packet, per NF, over all rounds */
    NF_UPDATES_MAX = 8,      /* changes by one process call */
    NF_ROUNDS_MAX = 4,
    NF_VALUE_MAX = 128,      /* of NF tables; <= TXN_VALUE_MAX */
};

/* --- what lookup writes: txns ---------------------------------------------- */

/*
 * A plan: up to NF_LOOKUPS_MAX txns. nf_lookup_begin starts one in a hash slot;
 * ops are appended as in txn.h. `table` is the position in the NF's tables[].
 * Every op returns its position in the txn (patch source) or -1 when full,
 * which the runtime notices by itself and counts as a bug of the NF.
 */
struct nf_plan;

void nf_lookup_begin(struct nf_plan *p, uint8_t slot);
int nf_get(struct nf_plan *p, int table, const void *key, uint8_t flags);
int nf_insert(struct nf_plan *p, int table, const void *key, const void *value,
              uint32_t timeout_ms);
int nf_insert_child(struct nf_plan *p, int table, const void *key, const void *value,
                    uint32_t timeout_ms, int parent_table, const void *parent_key);
int nf_alloc(struct nf_plan *p, int pool, const void *record);
int nf_add_limit(struct nf_plan *p, int table, const void *key, const int64_t *deltas,
                 int64_t limit);
void nf_patch(struct nf_plan *p, struct txn_patch patch);
void nf_skip_to_here(struct nf_plan *p, int at);

/* --- what process sees: entries --------------------------------------------- */

enum nf_found {
    NF_ABSENT = 0,           /* looked up, not there */
    NF_HIT,                  /* there before */
    NF_CREATED,              /* made by this packet's get-or-create */
    NF_REFUSED,              /* the txn failed: see nf_entry.status */
};

struct nf_entry {
    uint8_t lookup, op;      /* txn number (over all rounds), op in it */
    uint8_t table;           /* position in tables[] */
    uint8_t found;           /* enum nf_found */
    uint8_t status;          /* enum txn_status of its txn */
    uint8_t key_len;
    uint16_t value_len;
    uint32_t index;          /* pool: the index */
    uint32_t timeout_ms;     /* change it after nf_entry_write for the new one */
    uint64_t version;
    uint8_t key[TXN_KEY_MAX];
    uint8_t value[NF_VALUE_MAX]; /* working copy */
};

enum nf_verdict {
    NF_PASS = 1,             /* to the next NF, at the end: out of the other side */
    NF_DROP,                 /* count under nf_drop's reason */
    NF_REPLY,                /* the packet was turned round (ICMP error, hairpin):
                                skips later NFs, leaves by the side it came from */
    NF_MORE,                 /* nf_more_* named further txns: call me again */
};

/* One process call. Opaque; lives for the call. */
struct nf_call;

/* Entry of lookup `lookup`, op `op` (counted over all rounds); NULL if that op
 * was skipped. In a run of packets of one flow, `found` of an entry that an
 * earlier packet created is NF_HIT. */
struct nf_entry *nf_entry(struct nf_call *c, int lookup, int op);
/* The status of lookup `lookup` as a whole. */
enum txn_status nf_lookup_status(const struct nf_call *c, int lookup);
/* Declares that the caller changes e->value (and e->timeout_ms, 0: keep). */
void nf_entry_write(struct nf_call *c, struct nf_entry *e);
void nf_entry_delete(struct nf_call *c, struct nf_entry *e);
/* Creates an entry that lookup did not; a conflict drops nothing, it re-runs. */
void nf_create(struct nf_call *c, int table, uint8_t slot, const void *key, const void *value,
               uint32_t timeout_ms);
/* Commutative; a copy is taken. slot: of the key's partition bytes. */
void nf_add(struct nf_call *c, int table, uint8_t slot, const void *key, const int64_t *deltas);
/* For NF_MORE: the plan of the next round. */
struct nf_plan *nf_more(struct nf_call *c);
/* For NF_DROP: position in the NF's drop_reasons[]. Returns NF_DROP. */
enum nf_verdict nf_drop(struct nf_call *c, int reason);
/* Counts an event: position in the NF's counter_names[]. Not flow state. */
void nf_count(struct nf_call *c, int counter);
/* Random bits for protocol fields; not for state. */
uint32_t nf_random(struct nf_call *c);

/* --- what expired sees -------------------------------------------------------- */

/* An entry that expired from a table with TABLE_EVENTS. Lent for the call. */
struct nf_event {
    uint8_t table;           /* position in tables[] */
    uint8_t slot, key_len;
    uint16_t value_len;
    const void *key, *value;
    uint64_t version;        /* with the key it names the event */
    uint64_t time_ms;        /* of the store's clock */
};

/* --- an NF -------------------------------------------------------------------- */

struct nf_ops {
    const char *name;              /* "nat44"; also its key under `nfs:` in site.yaml */
    bool takes_ipv4, takes_ipv6;
    uint32_t config_size;          /* bytes of its parsed configuration */
    const struct cyaml_schema_field *config_fields; /* libcyaml; NULL: none */
    const char *const *drop_reasons;   /* NULL-ended; Prometheus label values */
    const char *const *counter_names;  /* NULL-ended */

    /* Control time. Checks the configuration and fills `self` (self_size
     * bytes, read-only from then on) and the schemas of its tables, which may
     * depend on it. `config` may be NULL: defaults. 0, or -errno and a sentence
     * naming the key that is wrong and what to write instead. */
    uint32_t self_size;
    int (*init)(void *self, const void *config, struct table_schema *tables, int *ntables,
                char *err, uint32_t err_len);

    /* Control time. What the bytes of its table `table` (position in tables[]) are, for people
     * who look at entries: `out` is empty before. NULL, or left empty: they are shown as hex. */
    void (*layout)(const void *self, int table, struct table_layout *out);

    /* Datapath. False: this NF needs nothing for this packet; process is then
     * called with no entries. */
    bool (*lookup)(const void *self, const struct packet *pkt, struct nf_plan *plan);
    enum nf_verdict (*process)(const void *self, struct packet *pkt, struct nf_call *call);

    /* Datapath. An entry of one of its tables with TABLE_EVENTS expired, or a
     * timer (TABLE_ABSOLUTE) is due. One worker of all is told; another one, or
     * the same, once more, if that one dies or an acknowledgement is lost: at
     * least once. Of the calls above only nf_count, nf_add and nf_random may be
     * used; the adds are sent and not waited for. NULL: it does not care. */
    void (*expired)(const void *self, const struct nf_event *event, struct nf_call *call);

    /* Two packets with equal flow keys are kept in order and may form a run.
     * NULL: the symmetric 5-tuple. */
    uint64_t (*flow_key)(const void *self, const struct packet *pkt);
};

/* Every NF of this build, NULL-ended (nf/registry.c). */
extern const struct nf_ops *const nf_registry[];

#endif
