/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A flow's life in the engine:
 *
 *        packets wait                         NF_MORE
 *             |                              .-------.
 *   IDLE -> form run -> LOOKUP -> process ---'       |
 *             ^            ^         | changes       |
 *             |            '--conflict-- COMMIT <----'
 *             |                      |     |
 *             '---- finish <--- ADDS (sync tables only are waited for)
 *
 * A phase that meets no room in the backend is stalled: flow_resume goes on
 * with it from engine_poll. Every wait has a time-out (engine.c).
 */
#include <errno.h>
#include <string.h>

#include "nf/runtime/internal.h"

void job_emit(struct engine *e, uint16_t j, enum packet_side out)
{
    struct job *job = &e->jobs[j];
    e->stats.tx[out]++;
    histogram_add(&e->stats.held_us, e->now_us - job->since_us);
    if (__builtin_expect(e->tracer && job->trace, 0)) {
        e->tracer->left(e->tracer->ctx, job->trace, &job->pkt);
        e->tracer->event(e->tracer->ctx, job->trace, "emitted", NULL, NULL);
    }
    e->cfg.emit(e->cfg.ctx, job->cookie, &job->pkt, out);
    job_give(e, j);
}

void job_drop(struct engine *e, uint16_t j, int reason)
{
    e->drops[reason]++;
    if (__builtin_expect(e->tracer && e->jobs[j].trace, 0))
        e->tracer->event(e->tracer->ctx, e->jobs[j].trace, "dropped", NULL, e->reason_text[reason]);
    e->cfg.drop(e->cfg.ctx, e->jobs[j].cookie, reason);
    job_give(e, j);
}

static uint16_t flow_pop(struct engine *e, struct flow *f)
{
    uint16_t j = f->head;
    f->head = e->jobs[j].next;
    if (f->head == NONE)
        f->tail = NONE;
    return j;
}

int run_submit(struct engine *e, const void *txn, uint32_t bytes, backend_done done, struct flow *f,
               int number)
{
    struct ticket *t =
        ticket_take(e, f ? flow_number(e, f) : NONE, f ? f->generation : 0, (uint8_t)number);
    int rc = t ? e->cfg.backend.submit(e->cfg.backend.ctx, txn, bytes, done, t) : -EAGAIN;
    if (rc) {
        if (t)
            ticket_give(e, t);
        e->stats.no_room++;
    }
    return rc;
}

struct flow *run_answer(struct ticket *t)
{
    struct engine *e = t->e;
    struct flow *f = t->flow == NONE ? NULL : &e->flows[t->flow];
    if (f && (f->generation != t->generation || !f->in_use)) {
        e->stats.late_replies++;
        f = NULL;
    }
    if (f)
        f->waiting--;
    ticket_give(e, t);
    return f;
}

/* --- finishing ---------------------------------------------------------------------- */

static void counts_keep(struct engine *e, struct flow *f)
{
    struct chain_nf *nf = &e->chain[f->nf];
    for (uint32_t left = f->counted; left; left &= left - 1)
        nf->counts[__builtin_ctz(left)] += f->count[__builtin_ctz(left)];
    f->counted = 0;
}

/* Everything the run caused is committed: its packets leave, or go to their
 * next NF, in front of what waits. */
static void run_finish(struct engine *e, struct flow *f)
{
    uint16_t kept_head = NONE, kept_tail = NONE;
    counts_keep(e, f);
    for (int n = f->run_len; n > 0; n--) {
        uint16_t j = flow_pop(e, f);
        struct job *job = &e->jobs[j];
        job->saved = false;
        if (job->verdict == NF_DROP) {
            job_drop(e, j, job->reason);
        } else if (job->verdict == NF_REPLY) {
            job_emit(e, j, job->pkt.side);
        } else if (++job->stage == e->nchain) {
            job_emit(e, j, job->pkt.side == SIDE_INSIDE ? SIDE_OUTSIDE : SIDE_INSIDE);
        } else {
            if (kept_head == NONE)
                kept_head = j;
            else
                e->jobs[kept_tail].next = j;
            kept_tail = j;
        }
    }
    if (kept_head != NONE) {
        e->jobs[kept_tail].next = f->head;
        if (f->head == NONE)
            f->tail = kept_tail;
        f->head = kept_head;
    }
    f->run_len = 0;
    f->phase = PHASE_IDLE;
}

static void run_drop(struct engine *e, struct flow *f, int reason)
{
    for (; f->run_len; f->run_len--)
        job_drop(e, flow_pop(e, f), reason);
    f->phase = PHASE_IDLE;
    /* Answers that still come are not for the next run of this flow. */
    f->generation++;
    flow_quiet(e, f);
}

void run_abort(struct engine *e, struct flow *f, int reason)
{
    run_drop(e, f, reason);
    flow_go(e, f);
}

/* --- phases: true when the run is finished, false when it waits ------------------------ */

static void phase_begin(struct engine *e, struct flow *f, enum phase phase)
{
    f->phase = (uint8_t)phase;
    f->waiting = f->unsent = f->ntxn = 0;
    f->failure = 0;
    flow_wait(e, f);
}

static bool adds_go(struct engine *e, struct flow *f)
{
    phase_begin(e, f, PHASE_ADDS);
    if (adds_submit(e, f)) {
        f->ntxn = 1; /* waits, whatever is answered meanwhile */
        flow_stall(e, f);
        return false;
    }
    if (f->waiting)
        return false;
    flow_unwait(e, f);
    run_finish(e, f);
    return true;
}

static bool commit_go(struct engine *e, struct flow *f)
{
    commit_list(f);
    if (f->nchanges == 0) {
        if (f->nupdates)
            return adds_go(e, f);
        run_finish(e, f);
        return true;
    }
    f->phase = PHASE_COMMIT;
    flow_wait(e, f);
    int rc = commit_submit(e, f);
    if (rc == -E2BIG) {
        run_drop(e, f, ENGINE_DROP_NF_BUG);
        return true;
    }
    if (rc)
        flow_stall(e, f);
    return false;
}

static int lookups_submit(struct engine *e, struct flow *f);

static void lookups_go(struct engine *e, struct flow *f, int round)
{
    phase_begin(e, f, PHASE_LOOKUP);
    f->unsent = f->round_first[round];
    f->ntxn = f->round_first[round + 1];
    if (lookups_submit(e, f))
        flow_stall(e, f);
}

static bool run_process(struct engine *e, struct flow *f)
{
    f->nupdates = 0;
    f->counted = 0;
    if (run_pass(e, f) == PASS_MORE) {
        e->stats.rounds++;
        lookups_go(e, f, f->rounds - 1);
        return false;
    }
    return commit_go(e, f);
}

static void lookup_done(void *user, const struct txn_result_head *r)
{
    struct ticket *t = user;
    struct engine *e = t->e;
    int number = t->number;
    histogram_add(&e->stats.rtt_us, e->now_us - t->sent_us);
    e->stats.rtt_count++;
    struct flow *f = run_answer(t);
    if (!f)
        return;
    int failure = failure_of(r->status, false);
    if (!failure && !entries_add(&e->chain[f->nf], f, number, r))
        failure = ENGINE_DROP_NF_BUG + 1;
    if (failure)
        f->failure = (uint8_t)failure;
    if (!flow_waits_for_none(f))
        return;
    flow_unwait(e, f);
    run_traced(e, f, "answered");
    if (f->failure)
        run_abort(e, f, f->failure - 1);
    else if (run_process(e, f))
        flow_go(e, f);
}

static int lookups_submit(struct engine *e, struct flow *f)
{
    for (; f->unsent < f->ntxn; f->unsent++) {
        uint32_t at = f->lookup_at[f->unsent], end = f->lookup_at[f->unsent + 1];
        int rc = run_submit(e, f->plan + at, end - at, lookup_done, f, f->unsent);
        if (rc)
            return rc;
        f->waiting++;
        e->stats.lookups++;
    }
    return 0;
}

int flow_resume(struct engine *e, struct flow *f)
{
    int rc = f->phase == PHASE_LOOKUP   ? lookups_submit(e, f)
             : f->phase == PHASE_COMMIT ? commit_submit(e, f)
                                        : adds_submit(e, f);
    if (rc == -E2BIG) {
        run_abort(e, f, ENGINE_DROP_NF_BUG);
        return 0;
    }
    if (rc) {
        flow_stall(e, f);
        return rc;
    }
    if (f->phase != PHASE_ADDS)
        return 0;
    f->ntxn = 0;
    if (f->waiting == 0)
        run_added(e, f);
    return 0;
}

void run_committed(struct engine *e, struct flow *f)
{
    bool finished = true;
    if (f->nupdates)
        finished = adds_go(e, f);
    else
        run_finish(e, f);
    if (finished)
        flow_go(e, f);
}

void run_added(struct engine *e, struct flow *f)
{
    flow_unwait(e, f);
    if (f->failure)
        run_drop(e, f, f->failure - 1);
    else
        run_finish(e, f);
    flow_go(e, f);
}

void run_again(struct engine *e, struct flow *f)
{
    e->stats.conflicts++;
    if (f->attempts++ == ENGINE_RERUNS_MAX) {
        run_abort(e, f, ENGINE_DROP_CONFLICT);
        return;
    }
    e->stats.reruns++;
    if (!f->mended && f->rounds) {
        f->rounds = 1;
        f->nlookups = f->round_first[1];
        f->nwork = 0;
        lookups_go(e, f, 0);
    } else if (run_process(e, f)) {
        flow_go(e, f);
    }
}

/* --- forming a run ----------------------------------------------------------------------- */

static int nf_number(const struct engine *e, const struct job *j)
{
    return j->pkt.side == SIDE_INSIDE ? j->stage : e->nchain - 1 - j->stage;
}

static bool taken(const struct chain_nf *nf, const struct packet *p)
{
    return p->is_ipv6 ? nf_ops_of(nf)->takes_ipv6 : nf_ops_of(nf)->takes_ipv4;
}

static void plan_packet(struct nf_plan *p, const struct chain_nf *nf, const struct packet *pkt,
                        uint8_t *buf)
{
    const struct nf_ops *ops = nf_ops_of(nf);
    nf_plan_begin(p, nf, buf, 0);
    bool wanted = ops->lookup && ops->lookup(nf->inst->self, pkt, p);
    nf_plan_end(p);
    if (!wanted && !p->broken)
        p->used = p->ntxn = 0;
}

/* The head packet passes by an NF that does not take it, or is dropped. */
static void head_untaken(struct engine *e, struct flow *f)
{
    uint16_t j = flow_pop(e, f);
    struct job *job = &e->jobs[j];
    if (!e->cfg.pass_untaken) {
        job_drop(e, j, ENGINE_DROP_IPV6);
        return;
    }
    e->stats.untaken++;
    if (++job->stage == e->nchain) {
        job_emit(e, j, job->pkt.side == SIDE_INSIDE ? SIDE_OUTSIDE : SIDE_INSIDE);
        return;
    }
    job->next = f->head;
    f->head = j;
    if (f->tail == NONE)
        f->tail = j;
}

/* The longest prefix whose look-ups are those of the head, byte for byte. */
static void run_gather(struct engine *e, struct flow *f, uint32_t plan_used)
{
    const struct job *head = &e->jobs[f->head];
    const struct chain_nf *nf = &e->chain[f->nf];
    struct nf_plan p;
    f->run_len = 1;
    for (uint16_t j = head->next; j != NONE; j = e->jobs[j].next) {
        const struct job *job = &e->jobs[j];
        if (job->pkt.side != head->pkt.side || job->stage != head->stage || !taken(nf, &job->pkt))
            return;
        plan_packet(&p, nf, &job->pkt, e->scratch_plan);
        if (p.broken || p.used != plan_used || memcmp(p.buf, f->plan, plan_used) != 0)
            return;
        f->run_len++;
    }
}

/* False: the head packet was dealt with otherwise. */
static bool run_form(struct engine *e, struct flow *f)
{
    struct job *head = &e->jobs[f->head];
    f->nf = (uint8_t)nf_number(e, head);
    const struct chain_nf *nf = &e->chain[f->nf];
    if (e->now_us - head->since_us > e->timeout_us) {
        job_drop(e, flow_pop(e, f), ENGINE_DROP_TIMEOUT);
        return false;
    }
    if (!taken(nf, &head->pkt)) {
        head_untaken(e, f);
        return false;
    }
    struct nf_plan p;
    f->attempts = f->rounds = f->nlookups = f->nwork = f->nupdates = 0;
    f->lookup_at[0] = 0;
    f->round_first[0] = 0;
    plan_packet(&p, nf, &head->pkt, f->plan);
    if (p.broken) {
        job_drop(e, flow_pop(e, f), ENGINE_DROP_NF_BUG);
        return false;
    }
    if (p.ntxn)
        lookups_append(f, &p);
    run_gather(e, f, p.used);
    run_traced(e, f, "begun");
    return true;
}

void flow_go(struct engine *e, struct flow *f)
{
    for (;;) {
        if (f->head == NONE) {
            flow_give(e, f);
            return;
        }
        if (!run_form(e, f))
            continue;
        if (f->nlookups) {
            lookups_go(e, f, 0);
            return;
        }
        if (!run_process(e, f))
            return;
    }
}
