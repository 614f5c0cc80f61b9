/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a run changed, as txns: entries written become compare-and-swaps,
 * deleted ones deletes, creations inserts; one txn per hash slot. Then, when
 * all of them succeeded, the adds, again one txn per hash slot. Txns are built
 * in the engine's scratch from the run's changes, so a submission that found
 * no room is simply built again.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "nf/runtime/internal.h"

enum { NOT_ONE = 0xff };

int failure_of(uint8_t status, bool commit)
{
    switch (status) {
    case TXN_OK:
        return 0;
    case TXN_STALE_CLIENT:
    case TXN_FORGOTTEN:
        return ENGINE_DROP_ABANDONED + 1;
    case TXN_BUSY:
    case TXN_NOT_PRIMARY:
    case TXN_LOST:
        return ENGINE_DROP_STORE + 1;
    case TXN_BAD_REQUEST:
        return ENGINE_DROP_NF_BUG + 1;
    case TXN_CONFLICT:
        return 0;
    default:
        return commit ? ENGINE_DROP_REFUSED + 1 : 0;
    }
}

/* --- conditional updates ------------------------------------------------------------ */

static void change_add(struct flow *f, uint8_t work, uint8_t update, uint8_t slot)
{
    struct change_ref *c = &f->changes[f->nchanges];
    *c = (struct change_ref){.work = work, .update = update, .slot = slot, .txn = NOT_ONE};
    for (int i = 0; i < f->nchanges && c->txn == NOT_ONE; i++)
        if (f->changes[i].slot == slot)
            c->txn = f->changes[i].txn;
    if (c->txn == NOT_ONE)
        c->txn = f->ntxn++;
    f->nchanges++;
}

void commit_list(struct flow *f)
{
    f->nchanges = f->ntxn = f->unsent = f->waiting = 0;
    f->conflict = f->mended = false;
    f->failure = 0;
    for (int i = 0; i < f->nwork; i++)
        if (f->work[i].change != CHANGE_NONE)
            change_add(f, (uint8_t)i, NOT_ONE, f->work[i].slot);
    for (int i = 0; i < f->nupdates; i++)
        if (f->updates[i].kind == UPDATE_CREATE)
            change_add(f, NOT_ONE, (uint8_t)i, f->updates[i].slot);
}

static bool build_work(struct txn_builder *b, const struct chain_nf *nf, const struct work *w)
{
    const struct table_schema *s = &nf->inst->tables[w->e.table];
    struct txn_op op = {.table = nf->table[w->e.table], .key_len = s->key_size};
    const void *value = w->e.value;
    bool pool = s->kind == TABLE_POOL;
    if (w->change == CHANGE_DELETE) {
        op.code = pool ? TXN_FREE : TXN_DELETE;
        value = NULL;
    } else {
        op.code = w->change == CHANGE_CAS ? TXN_CAS : TXN_INSERT;
        op.value_len = (uint16_t)s->value_size;
    }
    if (w->change != CHANGE_INSERT)
        op.arg0 = w->e.version;
    if (w->change == CHANGE_INSERT ||
        (w->change == CHANGE_CAS && w->e.timeout_ms != w->timeout_was))
        op.timeout_ms = w->e.timeout_ms;
    return txn_add_op(b, &op, w->e.key, NULL, value) >= 0;
}

static bool build_create(struct txn_builder *b, const struct chain_nf *nf, const struct update *u)
{
    const struct table_schema *s = &nf->inst->tables[u->table];
    struct txn_op op = {.code = TXN_INSERT,
                        .table = nf->table[u->table],
                        .key_len = s->key_size,
                        .value_len = (uint16_t)s->value_size,
                        .timeout_ms = u->timeout_ms};
    return txn_add_op(b, &op, u->key, NULL, u->value) >= 0;
}

/* Builds commit txn `number` in the scratch; its bytes, or 0: too many ops. */
static uint32_t commit_build(struct engine *e, struct flow *f, int number)
{
    const struct chain_nf *nf = &e->chain[f->nf];
    struct txn_builder b = {.buf = NULL};
    uint8_t ops = 0;
    for (int i = 0; i < f->nchanges; i++) {
        struct change_ref *c = &f->changes[i];
        if (c->txn != number)
            continue;
        if (!b.buf)
            txn_begin(&b, e->scratch_txn, sizeof e->scratch_txn, c->slot);
        bool fits = c->work != NOT_ONE ? build_work(&b, nf, &f->work[c->work])
                                       : build_create(&b, nf, &f->updates[c->update]);
        if (!fits)
            return 0;
        c->op = ops++;
    }
    return txn_end(&b);
}

/* The run's only change met another entry: is that in the answer? Then it
 * becomes the working copy, and a re-run needs no further look-up. */
static void commit_mend(struct flow *f, const struct txn_result_head *r)
{
    if (f->nchanges != 1 || f->changes[0].work == NOT_ONE)
        return;
    struct work *w = &f->work[f->changes[0].work];
    const struct txn_result *now = txn_result_of(r, r->failed_op);
    if (!now || now->version == 0 || now->value_len != w->e.value_len || w->hidden)
        return;
    w->change = CHANGE_NONE;
    w->e.found = NF_HIT;
    w->e.version = now->version;
    w->e.timeout_ms = w->timeout_was = now->timeout_ms;
    memcpy(w->e.value, txn_result_value(now), now->value_len);
    f->mended = true;
}

static void commit_settled(struct engine *e, struct flow *f)
{
    flow_unwait(e, f);
    if (f->failure)
        run_abort(e, f, f->failure - 1);
    else if (f->conflict)
        run_again(e, f);
    else
        run_committed(e, f);
}

static void commit_done(void *user, const struct txn_result_head *r)
{
    struct ticket *t = user;
    struct engine *e = t->e;
    struct flow *f = run_answer(t);
    if (!f)
        return;
    int failure = failure_of(r->status, true);
    if (failure)
        f->failure = (uint8_t)failure;
    if (r->status == TXN_CONFLICT) {
        f->conflict = true;
        commit_mend(f, r);
    }
    if (!flow_waits_for_none(f))
        return;
    histogram_add(&e->stats.commit_us, e->now_us - f->since_us);
    run_traced(e, f, f->conflict ? "conflict" : "committed");
    commit_settled(e, f);
}

int commit_submit(struct engine *e, struct flow *f)
{
    for (; f->unsent < f->ntxn; f->unsent++) {
        uint32_t bytes = commit_build(e, f, f->unsent);
        if (!bytes)
            return -E2BIG;
        int rc = run_submit(e, e->scratch_txn, bytes, commit_done, f, f->unsent);
        if (rc)
            return rc;
        f->waiting++;
        e->stats.commits++;
    }
    return 0;
}

/* --- adds ------------------------------------------------------------------------------ */

static void add_op(struct txn_builder *b, const struct chain_nf *nf, const struct update *u)
{
    const struct table_schema *s = &nf->inst->tables[u->table];
    struct txn_op op = {.code = TXN_ADD,
                        .table = nf->table[u->table],
                        .key_len = s->key_size,
                        .value_len = (uint16_t)s->value_size};
    int at = txn_add_op(b, &op, u->key, NULL, u->deltas);
    assert(at >= 0); /* RUN_UPDATES of NF_VALUE_MAX fit a txn */
    (void)at;
}

static void adds_done(void *user, const struct txn_result_head *r)
{
    struct ticket *t = user;
    struct engine *e = t->e;
    bool awaited = t->flow != NONE;
    struct flow *f = run_answer(t);
    if (r->status != TXN_OK)
        e->stats.adds_refused++;
    if (!awaited || !f)
        return;
    int failure = failure_of(r->status, true);
    if (failure)
        f->failure = (uint8_t)failure;
    if (!flow_waits_for_none(f))
        return;
    run_traced(e, f, "counted");
    run_added(e, f);
}

int add_submit(struct engine *e, const struct chain_nf *nf, const struct update *u)
{
    struct txn_builder b;
    txn_begin(&b, e->scratch_txn, sizeof e->scratch_txn, u->slot);
    add_op(&b, nf, u);
    int rc = run_submit(e, e->scratch_txn, txn_end(&b), adds_done, NULL, 0);
    e->stats.adds += !rc;
    return rc;
}

/* Builds the txn of every unsent add in the hash slot of the first; returns
 * its bytes, and whether a table of it is waited for. */
static uint32_t adds_build(struct engine *e, struct flow *f, const struct update *first,
                           uint32_t *members, bool *sync)
{
    const struct chain_nf *nf = &e->chain[f->nf];
    struct txn_builder b;
    txn_begin(&b, e->scratch_txn, sizeof e->scratch_txn, first->slot);
    *members = 0;
    *sync = false;
    for (int i = 0; i < f->nupdates; i++) {
        const struct update *u = &f->updates[i];
        if (u->kind != UPDATE_ADD || u->sent || u->slot != first->slot)
            continue;
        const struct table_schema *s = &nf->inst->tables[u->table];
        add_op(&b, nf, u);
        *members |= 1u << i;
        *sync |= s->durability == DURABLE_SYNC;
    }
    return txn_end(&b);
}
_Static_assert((int)RUN_UPDATES <= (int)TXN_OPS_MAX &&
                   (int)RUN_UPDATES * (32 + (int)TXN_KEY_MAX + (int)NF_VALUE_MAX + 8) + 16 <=
                       (int)TXN_BYTES_MAX,
               "the adds of a run fit one txn");

int adds_submit(struct engine *e, struct flow *f)
{
    for (int i = 0; i < f->nupdates; i++) {
        if (f->updates[i].kind != UPDATE_ADD || f->updates[i].sent)
            continue;
        uint32_t members;
        bool sync;
        uint32_t bytes = adds_build(e, f, &f->updates[i], &members, &sync);
        int rc = run_submit(e, e->scratch_txn, bytes, adds_done, sync ? f : NULL, 0);
        if (rc)
            return rc;
        e->stats.adds++;
        f->waiting += sync;
        for (; members; members &= members - 1)
            f->updates[__builtin_ctz(members)].sent = true;
    }
    return 0;
}
