/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One pass of `process` over a run's packets, in sequence, on one working
 * copy. A packet whose call does not fit the run (it asks for other look-ups,
 * changes more than a run can hold, follows a deletion) ends the run before
 * itself: it is restored and gets a look-up of its own afterwards.
 */
#include <string.h>

#include "nf/runtime/internal.h"

enum step { STEP_OK, STEP_SPLIT, STEP_MORE };

static uint32_t saved_bytes(uint32_t len)
{
    return len < ENGINE_SAVED_BYTES ? len : ENGINE_SAVED_BYTES;
}

static void job_restore(struct job *j)
{
    if (!j->saved)
        return;
    j->pkt = j->before;
    memcpy(j->pkt.data, j->bytes, saved_bytes(j->before.len));
}

static void job_ready(struct job *j)
{
    if (j->saved) {
        job_restore(j);
        return;
    }
    j->before = j->pkt;
    memcpy(j->bytes, j->pkt.data, saved_bytes(j->pkt.len));
    j->saved = true;
}

/* --- what a call asked for ------------------------------------------------------- */

static struct work *absent_work(struct flow *f, const struct nf_instance *nf,
                                const struct update *u)
{
    for (int i = 0; i < f->nwork; i++) {
        struct work *w = &f->work[i];
        if (!w->hidden && w->e.found == NF_ABSENT && w->e.table == u->table &&
            memcmp(w->e.key, u->key, nf->tables[u->table].key_size) == 0)
            return w;
    }
    return NULL;
}

static struct update *same_update(struct flow *f, const struct nf_instance *nf,
                                  const struct update *u)
{
    for (int i = 0; i < f->nupdates; i++) {
        struct update *have = &f->updates[i];
        if (have->kind == u->kind && have->table == u->table && have->slot == u->slot &&
            memcmp(have->key, u->key, nf->tables[u->table].key_size) == 0)
            return have;
    }
    return NULL;
}

/* Can the call's updates join the run's? Creating one key twice cannot. */
static bool updates_fit(struct flow *f, struct nf_call *c)
{
    const struct nf_instance *nf = c->nf->inst;
    int more = 0;
    for (int i = 0; i < c->nupdates; i++) {
        const struct update *u = &c->updates[i];
        bool same = same_update(f, nf, u) != NULL;
        if (u->kind == UPDATE_CREATE && same)
            return false;
        more += !same;
    }
    return f->nupdates + more <= RUN_UPDATES;
}

static void take_create(struct flow *f, const struct nf_instance *nf, const struct update *u)
{
    struct work *w = absent_work(f, nf, u);
    if (!w) {
        f->updates[f->nupdates++] = *u;
        return;
    }
    w->slot = u->slot;
    w->change = CHANGE_INSERT;
    w->e.found = NF_HIT;
    w->e.timeout_ms = u->timeout_ms;
    memcpy(w->e.value, u->value, nf->tables[u->table].value_size);
}

static void take_add(struct flow *f, const struct nf_instance *nf, const struct update *u)
{
    struct update *have = same_update(f, nf, u);
    if (!have) {
        f->updates[f->nupdates++] = *u;
        return;
    }
    for (uint32_t i = 0; i < nf->tables[u->table].value_size / 8; i++)
        have->deltas[i] += u->deltas[i];
}

static void take_write(struct work *w, const struct nf_entry *copy)
{
    memcpy(w->e.value, copy->value, sizeof w->e.value);
    w->e.timeout_ms = copy->timeout_ms;
    if (w->e.found == NF_ABSENT) {
        w->e.found = NF_HIT;
        w->change = CHANGE_INSERT;
    } else if (w->change == CHANGE_NONE) {
        w->change = CHANGE_CAS;
    }
}

static void take_delete(struct work *w)
{
    w->change = w->change == CHANGE_INSERT ? CHANGE_NONE : CHANGE_DELETE;
    w->e.found = NF_ABSENT;
}

static void take_counts(struct flow *f, const struct nf_call *c)
{
    for (uint32_t left = c->counted; left; left &= left - 1) {
        int i = __builtin_ctz(left);
        if (!(f->counted & 1u << i))
            f->count[i] = 0;
        f->counted |= 1u << i;
        f->count[i] = (uint16_t)(f->count[i] + c->counts[i]);
    }
}

static void call_take(struct flow *f, struct nf_call *c)
{
    for (uint32_t left = c->written; left; left &= left - 1) {
        int i = __builtin_ctz(left);
        take_write(&f->work[c->from[i]], &c->entries[i]);
    }
    for (uint32_t left = c->deleted; left; left &= left - 1)
        take_delete(&f->work[c->from[__builtin_ctz(left)]]);
    for (int i = 0; i < c->nupdates; i++) {
        if (c->updates[i].kind == UPDATE_CREATE)
            take_create(f, c->nf->inst, &c->updates[i]);
        else
            take_add(f, c->nf->inst, &c->updates[i]);
    }
    take_counts(f, c);
}

/* --- further rounds ---------------------------------------------------------------- */

bool lookups_append(struct flow *f, const struct nf_plan *p)
{
    if (f->rounds == NF_ROUNDS_MAX || p->ntxn == 0)
        return false;
    uint32_t used = f->lookup_at[f->nlookups];
    if (used + p->used > PLAN_BYTES)
        return false;
    if (p->buf != f->plan)
        memcpy(f->plan + used, p->buf, p->used);
    f->round_first[f->rounds] = f->nlookups;
    for (int i = 0; i < p->ntxn; i++) {
        f->lookup_at[f->nlookups++] = (uint16_t)used;
        used += ((const struct txn_head *)(f->plan + used))->bytes;
    }
    f->lookup_at[f->nlookups] = (uint16_t)used;
    f->round_first[++f->rounds] = f->nlookups;
    return true;
}

static bool round_equals(const struct flow *f, int round, const struct nf_plan *p)
{
    uint32_t from = f->lookup_at[f->round_first[round]];
    uint32_t to = f->lookup_at[f->round_first[round + 1]];
    return to - from == p->used && memcmp(f->plan + from, p->buf, p->used) == 0;
}

/* Forgets the rounds from `rounds` on; nothing was changed on their ground yet. */
static void rounds_cut(struct flow *f, int rounds)
{
    f->rounds = (uint8_t)rounds;
    f->nlookups = rounds ? f->round_first[rounds] : 0;
    int kept = 0;
    for (int i = 0; i < f->nwork; i++)
        if (f->work[i].e.lookup < f->nlookups)
            f->work[kept++] = f->work[i];
    f->nwork = (uint8_t)kept;
}

/* --- the pass ------------------------------------------------------------------------ */

static void job_bug(struct job *j)
{
    j->verdict = NF_DROP;
    j->reason = ENGINE_DROP_NF_BUG;
}

static void job_judge(struct engine *e, struct job *j, const struct chain_nf *nf, int verdict)
{
    j->verdict = (uint8_t)verdict;
    if (verdict != NF_DROP)
        return;
    int reason = e->call.reason;
    bool known = reason >= 0 && reason < nf->nreasons;
    j->reason = (int16_t)(known ? nf->reason_base + reason : ENGINE_DROP_NF_BUG);
}

/* NF_MORE: STEP_OK if the round it names is here already. */
static enum step more(struct engine *e, struct flow *f, int visible, bool first)
{
    struct nf_plan *p = &e->call.more;
    if (visible < f->rounds) {
        if (round_equals(f, visible, p))
            return STEP_OK;
        if (!first)
            return STEP_SPLIT;
        rounds_cut(f, visible);
    }
    if (!first)
        return STEP_SPLIT;
    return lookups_append(f, p) ? STEP_MORE : STEP_OK;
}

static bool verdict_known(int v)
{
    return v == NF_PASS || v == NF_DROP || v == NF_REPLY;
}

static enum step packet_process(struct engine *e, struct flow *f, struct job *j, bool first)
{
    struct chain_nf *nf = &e->chain[f->nf];
    struct nf_call *c = &e->call;
    for (int visible = f->rounds ? 1 : 0;; visible++) {
        job_ready(j);
        call_open(e, f, visible);
        int v = nf->inst->ops->process(nf->inst->self, &j->pkt, c);
        if (v == NF_MORE && c->more_named) {
            nf_plan_end(&c->more);
            c->broken |= c->more.broken || c->more.ntxn == 0 || visible >= NF_ROUNDS_MAX;
            enum step s = c->broken ? STEP_SPLIT : more(e, f, visible, first);
            if (s == STEP_OK && visible >= f->rounds)
                c->broken = true; /* did not fit */
            if (!c->broken) {
                call_close(e);
                if (s == STEP_OK)
                    continue;
                return s;
            }
        }
        if (c->broken || !verdict_known(v)) {
            job_restore(j);
            job_bug(j);
        } else if (!first && !updates_fit(f, c)) {
            call_close(e);
            return STEP_SPLIT;
        } else {
            call_take(f, c);
            job_judge(e, j, nf, v);
        }
        call_close(e);
        return STEP_OK;
    }
}

/* The run ends before `from`; what is behind gets a look-up of its own. */
static void run_cut(struct engine *e, struct flow *f, uint16_t from, int len)
{
    uint16_t j = from;
    for (int i = len; i < f->run_len; i++, j = e->jobs[j].next)
        job_restore(&e->jobs[j]);
    f->run_len = (uint16_t)len;
}

enum pass run_pass(struct engine *e, struct flow *f)
{
    uint16_t j = f->head;
    for (int i = 0; i < f->run_len; i++, j = e->jobs[j].next) {
        enum step s = packet_process(e, f, &e->jobs[j], i == 0);
        if (s == STEP_MORE)
            return PASS_MORE;
        bool last = i + 1 == f->run_len;
        if (s == STEP_SPLIT) {
            run_cut(e, f, j, i);
            break;
        }
        if (last)
            break;
        if (e->call.deleted) {
            run_cut(e, f, e->jobs[j].next, i + 1);
            break;
        }
        entries_settle(f);
    }
    e->stats.runs++;
    e->stats.run_packets += f->run_len;
    histogram_add(&e->stats.run_len, f->run_len);
    return PASS_DONE;
}
