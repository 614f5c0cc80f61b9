/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The inside of the engine: its structures and who calls whom. Everything
 * here belongs to the engine's one thread and is allocated in engine_create.
 *
 *   engine.c  create, rx, poll, discard, counts
 *   flow.c    packets, flows in flight, tickets: the bounded pools
 *   run.c     a flow's life: look-up -> process -> commit -> adds -> next NF
 *   pass.c    one synchronous pass of `process` over a run's packets
 *   commit.c  changes as txns; their answers
 *   plan.c    what an NF's lookup writes (nf_get, nf_insert, ...)
 *   call.c    what an NF's process sees (nf_entry, nf_entry_write, ...)
 *   entries.c results -> entries
 *   event.c   expiries of the NFs' tables
 *
 * A flow in flight owns a FIFO of packets. The first `run_len` of them are the
 * run that is being looked up, processed or committed. When it is done, those
 * that passed stay at the head, one NF further; then the next run is formed.
 *
 * Working copies: `struct flow.work` is the run's; `process` only ever sees
 * the copy in `struct nf_call`, which is poisoned when the call returns.
 */
#ifndef NF_RUNTIME_INTERNAL_H
#define NF_RUNTIME_INTERNAL_H

#include "nf/runtime/engine.h"

enum {
    NONE = 0xffff,
    PLAN_BYTES = 2048, /* look-ups of one run, per NF, over all rounds */
    LOOKUPS_MAX = NF_LOOKUPS_MAX * NF_ROUNDS_MAX,
    RUN_UPDATES = 12, /* creations and distinct adds of one run */
    CHANGES_MAX = NF_ENTRIES_MAX + RUN_UPDATES,
    POISON = 0xdb,
    ENGINE_BARRIERS = 16, /* epochs kept apart; a power of two */
    REASONS_MAX = 128,
    COUNTERS_MAX = 32, /* per NF */
};

/* --- plans ---------------------------------------------------------------------- */

struct nf_plan {
    const struct chain_nf *nf;
    uint8_t *buf;            /* PLAN_BYTES, 8-byte aligned */
    uint32_t used;           /* closed txns */
    struct txn_builder open; /* buf NULL: none */
    uint8_t ntxn;
    bool broken; /* a bound was passed: a bug of the NF */
};

/* A place in the chain. */
struct chain_nf {
    const struct nf_instance *inst;
    struct engine *e;
    uint8_t table[NF_TABLES_MAX]; /* the backend's numbers */
    int reason_base, nreasons;
    uint64_t counts[COUNTERS_MAX];
};

void nf_plan_begin(struct nf_plan *p, const struct chain_nf *nf, uint8_t *buf, uint32_t used);
/* Closes the open txn. */
void nf_plan_end(struct nf_plan *p);

/* --- working copies -------------------------------------------------------------- */

enum change { CHANGE_NONE, CHANGE_CAS, CHANGE_DELETE, CHANGE_INSERT };

struct work {
    struct nf_entry e;
    uint32_t timeout_was;
    uint8_t slot;
    uint8_t change; /* enum change, of the run so far */
    bool hidden;    /* skipped, in the eyes of the run's later packets */
};

enum update_kind { UPDATE_CREATE = 1, UPDATE_ADD };

struct update {                /* by nf_create, nf_add */
    uint8_t kind, table, slot; /* table: position in tables[] */
    bool sent;
    uint32_t timeout_ms;
    uint8_t key[TXN_KEY_MAX];
    union {
        uint8_t value[NF_VALUE_MAX];
        int64_t deltas[NF_VALUE_MAX / 8];
    };
};

/* What a commit changes: a working copy or a creation, and where its op is. */
struct change_ref {
    uint8_t work, update; /* 0xff: not one */
    uint8_t slot, txn, op;
};

/* One process call. */
struct nf_call {
    struct engine *e;
    const struct chain_nf *nf;
    int nentries;
    struct nf_entry entries[NF_ENTRIES_MAX];
    uint8_t from[NF_ENTRIES_MAX]; /* entries[i] is a copy of work[from[i]] */
    uint32_t written, deleted;    /* bits */
    int nlookups;
    const uint8_t *status; /* of each look-up */
    int nupdates;
    struct update updates[NF_UPDATES_MAX];
    struct nf_plan more;
    bool more_named, broken;
    int reason;
    uint64_t counts[COUNTERS_MAX]; /* kept only if the call stands */
    uint32_t counted;              /* bits */
};

/* --- packets, flows, tickets --------------------------------------------------------- */

struct job { /* a packet in flight */
    struct packet pkt, before;
    void *cookie;
    uint64_t since_us;
    uint16_t next;
    uint16_t burst;
    uint8_t stage;   /* NFs passed */
    uint8_t verdict; /* of the present pass */
    int16_t reason;
    uint8_t epoch;
    bool saved; /* `before` and `bytes` are of this stage */
    uint32_t trace; /* what the tracer knows it by; 0: nothing */
    uint8_t bytes[ENGINE_SAVED_BYTES];
};

enum phase {
    PHASE_IDLE,   /* no run */
    PHASE_LOOKUP, /* txns of the present round out, or to go out */
    PHASE_COMMIT,
    PHASE_ADDS,
};

struct flow {
    uint64_t key, since_us; /* since_us: of the present wait */
    uint32_t generation;    /* an answer to an older one finds nothing */
    uint16_t hash_next;
    uint16_t wait_prev, wait_next; /* by since_us */
    uint16_t stall_next;
    uint16_t head, tail, run_len;
    uint8_t phase; /* enum phase */
    uint8_t nf;    /* position in the chain */
    uint8_t attempts;
    bool waits, stalled, fresh, in_use;

    uint8_t waiting;       /* answers outstanding */
    uint8_t unsent;        /* next txn to submit */
    uint8_t ntxn;          /* txns of this phase */
    uint8_t failure;       /* enum engine_drop + 1 */
    bool conflict, mended; /* mended: the answer held all that a re-run needs */

    uint8_t nlookups, rounds;
    uint8_t round_first[NF_ROUNDS_MAX + 1]; /* first look-up of each round */
    uint16_t lookup_at[LOOKUPS_MAX + 1];    /* offset in plan; [nlookups]: end */
    uint8_t status[LOOKUPS_MAX];
    uint8_t nwork, nupdates, nchanges;
    uint32_t counted; /* bits: events of the run, counted if it stands */
    uint16_t count[COUNTERS_MAX];
    struct change_ref changes[CHANGES_MAX];
    struct work work[NF_ENTRIES_MAX];
    struct update updates[RUN_UPDATES];
    uint8_t plan[PLAN_BYTES] __attribute__((aligned(8)));
};

/* Who an answer is for. Outlives a flow that gave up waiting. */
struct ticket {
    struct engine *e;
    uint64_t sent_us;
    uint32_t generation;
    uint16_t flow; /* NONE: an add nobody waits for */
    uint16_t next;
    uint8_t number; /* of the txn in its phase */
};

struct engine {
    struct engine_config cfg;
    struct chain_nf chain[ENGINE_CHAIN_MAX];
    int nchain;
    const struct engine_tracer *tracer; /* NULL: off */
    uint64_t now_us, timeout_us, random;

    struct job *jobs;
    struct flow *flows;
    struct ticket *tickets;
    uint16_t *buckets;
    uint32_t npackets, bucket_mask;
    uint16_t free_job, free_flow, free_ticket;
    uint32_t jobs_used;

    uint16_t burst_left[ENGINE_BURSTS_MAX]; /* packets of a burst still held */
    uint16_t burst_free[ENGINE_BURSTS_MAX];
    uint32_t nburst_free;

    uint32_t epoch, epoch_oldest;        /* a barrier ends one; oldest with packets held, or newest */
    uint32_t epoch_left[ENGINE_BARRIERS]; /* packets of an epoch still held */

    uint16_t fresh_head, fresh_tail; /* flows to start when the burst is parsed */
    uint16_t wait_head, wait_tail;   /* oldest wait first */
    uint16_t stall_head, stall_tail; /* the backend had no room */

    struct nf_call call;
    uint8_t scratch_plan[PLAN_BYTES] __attribute__((aligned(8)));
    uint8_t scratch_more[PLAN_BYTES] __attribute__((aligned(8)));
    uint8_t scratch_txn[TXN_BYTES_MAX] __attribute__((aligned(8)));

    struct engine_stats stats;
    uint64_t drops[REASONS_MAX];
    const char *reason_text[REASONS_MAX];
    char reason_names[REASONS_MAX][48];
    int nreasons;
};

/* --- flow.c ------------------------------------------------------------------------ */

int pools_create(struct engine *e);
void pools_destroy(struct engine *e);
uint16_t job_take(struct engine *e);
/* Back to the pool, after emit or drop. */
void job_give(struct engine *e, uint16_t job);
/* The flow in flight with this key; made if there is none. */
struct flow *flow_of(struct engine *e, uint64_t key);
void flow_push(struct engine *e, struct flow *f, uint16_t job);
/* Ends an empty flow. */
void flow_give(struct engine *e, struct flow *f);
uint16_t flow_number(const struct engine *e, const struct flow *f);
void flow_wait(struct engine *e, struct flow *f);
void flow_unwait(struct engine *e, struct flow *f);
void flow_stall(struct engine *e, struct flow *f);
/* The oldest stalled flow, no longer stalled; or NULL. */
struct flow *flow_unstall(struct engine *e);
/* Neither waits nor is stalled any more. */
void flow_quiet(struct engine *e, struct flow *f);
void flow_fresh(struct engine *e, struct flow *f);
struct ticket *ticket_take(struct engine *e, uint16_t flow, uint32_t generation, uint8_t number);
void ticket_give(struct engine *e, struct ticket *t);

/* --- engine.c: traces ----------------------------------------------------------------- */

void run_trace(struct engine *e, const struct flow *f, const char *what);
/* Tells the tracer, if there is one, of the run's packets that it wants. */
static inline void run_traced(struct engine *e, const struct flow *f, const char *what)
{
    if (__builtin_expect(e->tracer != NULL, 0))
        run_trace(e, f, what);
}

/* --- run.c ------------------------------------------------------------------------- */

/* Forms runs and takes them on until the flow waits or is empty (and given back). */
void flow_go(struct engine *e, struct flow *f);
/* The backend has room again: submits what the phase has unsent. -EAGAIN: not
 * enough, the flow is stalled again. */
int flow_resume(struct engine *e, struct flow *f);
/* Drops the run, then goes on with what is behind it. */
void run_abort(struct engine *e, struct flow *f, int reason);
/* Processes the run again after a conflict. */
void run_again(struct engine *e, struct flow *f);
/* Conditional updates are in: sends the adds and goes on. */
void run_committed(struct engine *e, struct flow *f);
/* The adds that are waited for are in. */
void run_added(struct engine *e, struct flow *f);
void job_emit(struct engine *e, uint16_t job, enum packet_side out);
void job_drop(struct engine *e, uint16_t job, int reason);
/* 0: submitted. -EAGAIN: ask again after the next poll. f NULL: nobody waits. */
int run_submit(struct engine *e, const void *txn, uint32_t bytes, backend_done done, struct flow *f,
               int number);
/* The flow of an answer, or NULL: nobody waits, or it gave up. Frees the ticket. */
struct flow *run_answer(struct ticket *t);

/* --- pass.c ------------------------------------------------------------------------ */

enum pass {
    PASS_DONE, /* every packet of the (perhaps shortened) run has a verdict */
    PASS_MORE, /* another round was appended to the plan */
};
enum pass run_pass(struct engine *e, struct flow *f);
/* Appends p's txns to the flow's look-ups as a round; false: no room. */
bool lookups_append(struct flow *f, const struct nf_plan *p);

/* --- commit.c ------------------------------------------------------------------------ */

/* Lists the run's changes and numbers their txns. */
void commit_list(struct flow *f);
/* Submits from f->unsent on; 0 or -EAGAIN. */
int commit_submit(struct engine *e, struct flow *f);
/* Submits the run's unsent adds; 0 or -EAGAIN. */
int adds_submit(struct engine *e, struct flow *f);
/* Submits one add that nobody waits for; 0 or -EAGAIN. */
int add_submit(struct engine *e, const struct chain_nf *nf, const struct update *u);
/* Why a run whose txn was answered so must go: enum engine_drop + 1; 0: it need not. */
int failure_of(uint8_t status, bool commit);

/* --- entries.c ----------------------------------------------------------------------- */

/* Appends the entries of look-up `number`; false: more than NF_ENTRIES_MAX. */
bool entries_add(const struct chain_nf *nf, struct flow *f, int number,
                 const struct txn_result_head *r);
/* After a packet: what it created looks to the next one as found by its get. */
void entries_settle(struct flow *f);

/* --- event.c ------------------------------------------------------------------------- */

/* Listens for the events of its tables. 0, or -errno and a sentence. */
int events_listen(struct engine *e, struct chain_nf *nf, char *err, uint32_t err_len);

/* --- call.c -------------------------------------------------------------------------- */

/* Shows the look-ups of the first `rounds` rounds. */
void call_open(struct engine *e, struct flow *f, int rounds);
/* Shows nothing: for `expired`. */
void call_open_empty(struct engine *e, const struct chain_nf *nf);
void call_close(struct engine *e);

static inline bool flow_waits_for_none(const struct flow *f)
{
    return f->waiting == 0 && f->unsent == f->ntxn;
}

static inline const struct nf_ops *nf_ops_of(const struct chain_nf *nf)
{
    return nf->inst->ops;
}

#endif
