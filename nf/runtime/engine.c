/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine's outside (engine.h): creation, bursts in, replies in, time-outs,
 * counts. The flows' life is in run.c.
 */
#include "nf/runtime/engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nf/runtime/internal.h"

/* --- creation --------------------------------------------------------------------- */

static int reason_add(struct engine *e, const char *prefix, const char *text)
{
    if (e->nreasons == REASONS_MAX)
        return -E2BIG;
    char *name = e->reason_names[e->nreasons];
    snprintf(name, sizeof e->reason_names[0], "%s%s%s", prefix, *prefix ? "_" : "", text);
    e->reason_text[e->nreasons++] = name;
    return 0;
}

static int reasons_create(struct engine *e)
{
    static const char *const own[] = {
#define X(name, text) [name] = text,
        ENGINE_DROPS(X)
#undef X
    };
    int rc = 0;
    for (int i = 0; i < ENGINE_DROP_END; i++)
        rc |= reason_add(e, "", own[i]);
    for (int i = 0; i < PACKET_FAULT_END; i++)
        rc |= reason_add(e, "", packet_fault_text(i));
    for (int i = 0; i < e->nchain; i++) {
        struct chain_nf *nf = &e->chain[i];
        const char *const *names = nf_ops_of(nf)->drop_reasons;
        nf->reason_base = e->nreasons;
        for (; names && names[nf->nreasons] && !rc; nf->nreasons++)
            rc |= reason_add(e, nf_ops_of(nf)->name, names[nf->nreasons]);
    }
    return rc ? -E2BIG : 0;
}

static int tables_open(struct engine *e, struct chain_nf *nf, char *err, uint32_t err_len)
{
    for (int i = 0; i < nf->inst->ntables; i++) {
        const struct table_schema *s = &nf->inst->tables[i];
        int number = e->cfg.backend.table_open(e->cfg.backend.ctx, s);
        if (number < 0 || number > UINT8_MAX) {
            snprintf(err, err_len, "table %s of %s cannot be opened: %s", s->name,
                     nf_ops_of(nf)->name, strerror(number < 0 ? -number : ERANGE));
            return number < 0 ? number : -ERANGE;
        }
        nf->table[i] = (uint8_t)number;
    }
    return 0;
}

static int config_check(const struct engine_config *c, char *err, uint32_t err_len)
{
    if (c->nchain < 1 || c->nchain > ENGINE_CHAIN_MAX) {
        snprintf(err, err_len, "a chain has 1 to %d network functions, not %d", ENGINE_CHAIN_MAX,
                 c->nchain);
        return -EINVAL;
    }
    if (c->packets_in_flight > ENGINE_PACKETS_MAX) {
        snprintf(err, err_len, "packets_in_flight is at most %d, not %u", ENGINE_PACKETS_MAX,
                 c->packets_in_flight);
        return -EINVAL;
    }
    if (c->window_bursts > ENGINE_BURSTS_MAX) {
        snprintf(err, err_len, "window_bursts is at most %d, not %u", ENGINE_BURSTS_MAX,
                 c->window_bursts);
        return -EINVAL;
    }
    return 0;
}

static void config_apply(struct engine *e, const struct engine_config *c)
{
    e->cfg = *c;
    e->nchain = c->nchain;
    for (int i = 0; i < c->nchain; i++)
        e->chain[i].inst = c->chain[i], e->chain[i].e = e;
    e->npackets = c->packets_in_flight ? c->packets_in_flight : ENGINE_PACKETS_DEFAULT;
    e->timeout_us =
        1000ull * (c->store_timeout_ms ? c->store_timeout_ms : ENGINE_TIMEOUT_DEFAULT_MS);
    e->nburst_free = c->window_bursts ? c->window_bursts : ENGINE_BURSTS_DEFAULT;
    for (uint32_t i = 0; i < e->nburst_free; i++)
        e->burst_free[i] = (uint16_t)i;
    e->random = c->seed ? c->seed : 0x9E3779B97F4A7C15ull;
}

int engine_create(const struct engine_config *config, struct engine **out, char *err,
                  uint32_t err_len)
{
    int rc = config_check(config, err, err_len);
    if (rc)
        return rc;
    struct engine *e = aligned_alloc(64, (sizeof *e + 63) & ~(size_t)63);
    if (!e) {
        snprintf(err, err_len, "out of memory for the engine");
        return -ENOMEM;
    }
    memset(e, 0, sizeof *e);
    config_apply(e, config);
    for (int i = 0; !rc && i < e->nchain; i++)
        rc = tables_open(e, &e->chain[i], err, err_len);
    if (!rc && (rc = pools_create(e)))
        snprintf(err, err_len, "out of memory for %u packets in flight", e->npackets);
    if (!rc && (rc = reasons_create(e)))
        snprintf(err, err_len, "the chain's NFs have more than %d drop reasons", REASONS_MAX);
    for (int i = 0; !rc && i < e->nchain; i++)
        rc = events_listen(e, &e->chain[i], err, err_len);
    if (rc) {
        pools_destroy(e);
        free(e);
        return rc;
    }
    *out = e;
    return 0;
}

void engine_destroy(struct engine *e)
{
    if (!e)
        return;
    engine_discard_all(e, ENGINE_DROP_AWAY);
    pools_destroy(e);
    free(e);
}

/* --- bursts in ----------------------------------------------------------------------- */

uint32_t engine_room(const struct engine *e)
{
    return e->nburst_free ? e->npackets - e->jobs_used : 0;
}

static uint64_t flow_key(const struct engine *e, const struct packet *p)
{
    for (int i = 0; i < e->nchain; i++) {
        const struct chain_nf *nf = &e->chain[p->side == SIDE_INSIDE ? i : e->nchain - 1 - i];
        if (nf_ops_of(nf)->flow_key)
            return nf_ops_of(nf)->flow_key(nf->inst->self, p);
    }
    return packet_symmetric_hash(p);
}

static void refuse(struct engine *e, void *cookie, int reason)
{
    e->drops[reason]++;
    e->cfg.drop(e->cfg.ctx, cookie, reason);
}

static void packet_in(struct engine *e, const struct engine_packet *in, enum packet_side side,
                      uint16_t burst)
{
    uint16_t j = job_take(e);
    if (j == NONE) {
        refuse(e, in->cookie, ENGINE_DROP_WINDOW);
        return;
    }
    struct job *job = &e->jobs[j];
    job->cookie = in->cookie;
    job->since_us = e->now_us;
    job->burst = burst;
    job->epoch = (uint8_t)(e->epoch % ENGINE_BARRIERS);
    e->burst_left[burst]++;
    e->epoch_left[job->epoch]++;
    enum packet_fault fault = packet_parse(&job->pkt, in->data, in->len, in->room, side);
    if (fault != PACKET_OK) {
        job_drop(e, j, ENGINE_DROP_END + (int)fault);
        return;
    }
    if (__builtin_expect(e->tracer != NULL, 0))
        job->trace = e->tracer->packet(e->tracer->ctx, &job->pkt);
    struct flow *f = flow_of(e, flow_key(e, &job->pkt));
    flow_push(e, f, j);
    flow_fresh(e, f);
}

void engine_rx(struct engine *e, const struct engine_packet *burst, uint32_t n,
               enum packet_side side, uint64_t now_us)
{
    enum { AHEAD = 4 };
    if (n == 0)
        return;
    e->now_us = now_us;
    e->stats.rx[side] += n;
    if (e->nburst_free == 0) {
        for (uint32_t i = 0; i < n; i++)
            refuse(e, burst[i].cookie, ENGINE_DROP_WINDOW);
        return;
    }
    uint16_t number = e->burst_free[--e->nburst_free];
    e->burst_left[number] = 1; /* ours, until the burst is parsed */
    for (uint32_t i = 0; i < n; i++) {
        if (i + AHEAD < n)
            __builtin_prefetch(burst[i + AHEAD].data);
        packet_in(e, &burst[i], side, number);
    }
    if (--e->burst_left[number] == 0)
        e->burst_free[e->nburst_free++] = number;
    while (e->fresh_head != NONE) {
        struct flow *f = &e->flows[e->fresh_head];
        e->fresh_head = f->stall_next;
        f->fresh = false;
        flow_go(e, f);
    }
    e->fresh_tail = NONE;
}

void engine_flush(struct engine *e)
{
    e->cfg.backend.flush(e->cfg.backend.ctx);
}

/* --- replies, time ----------------------------------------------------------------------- */

static void stalled_resume(struct engine *e)
{
    struct flow *f;
    while ((f = flow_unstall(e)))
        if (flow_resume(e, f) == -EAGAIN)
            return;
}

static void waits_expire(struct engine *e)
{
    while (e->wait_head != NONE) {
        struct flow *f = &e->flows[e->wait_head];
        if (e->now_us - f->since_us <= e->timeout_us)
            return;
        run_abort(e, f, ENGINE_DROP_TIMEOUT);
    }
}

int engine_poll(struct engine *e, uint64_t now_us)
{
    e->now_us = now_us;
    int n = e->cfg.backend.poll(e->cfg.backend.ctx, now_us);
    stalled_resume(e);
    waits_expire(e);
    return n;
}

uint64_t engine_next_us(const struct engine *e)
{
    if (e->wait_head == NONE)
        return UINT64_MAX;
    return e->flows[e->wait_head].since_us + e->timeout_us + 1;
}

uint32_t engine_discard_all(struct engine *e, enum engine_drop reason)
{
    uint32_t dropped = 0;
    for (uint32_t i = 0; e->flows && i < e->npackets; i++) {
        struct flow *f = &e->flows[i];
        if (!f->in_use)
            continue;
        for (uint16_t j = f->head, next; j != NONE; j = next, dropped++) {
            next = e->jobs[j].next;
            job_drop(e, j, reason);
        }
        f->head = f->tail = NONE;
        f->run_len = 0;
        flow_give(e, f);
    }
    return dropped;
}

/* --- barriers -------------------------------------------------------------------------------
 * Packets are counted by epoch; a barrier ends the present one. It is passed when no
 * epoch up to that one has packets left. */

static void epochs_settle(struct engine *e)
{
    while (e->epoch_oldest != e->epoch && e->epoch_left[e->epoch_oldest % ENGINE_BARRIERS] == 0)
        e->epoch_oldest++;
}

uint32_t engine_barrier(struct engine *e)
{
    uint32_t barrier = e->epoch;
    epochs_settle(e);
    if (e->epoch - e->epoch_oldest < ENGINE_BARRIERS - 1)
        e->epoch++;
    return barrier;
}

bool engine_barrier_passed(struct engine *e, uint32_t barrier)
{
    epochs_settle(e);
    if ((int32_t)(e->epoch_oldest - barrier) > 0)
        return true;
    /* It shares the present epoch: no room for another one then. */
    return e->epoch_oldest == barrier && e->epoch_left[barrier % ENGINE_BARRIERS] == 0;
}

/* --- traces --------------------------------------------------------------------------------- */

void engine_trace(struct engine *e, const struct engine_tracer *t)
{
    e->tracer = t;
}

void run_trace(struct engine *e, const struct flow *f, const char *what)
{
    const struct engine_tracer *t = e->tracer;
    uint16_t j = f->head;
    for (int i = 0; i < f->run_len; i++, j = e->jobs[j].next)
        if (e->jobs[j].trace)
            t->event(t->ctx, e->jobs[j].trace, what, e->chain[f->nf].inst->ops->name, NULL);
}

void engine_trace_sent(struct engine *e, void *user, uint16_t shard, uint64_t client, uint64_t seq)
{
    const struct engine_tracer *t = e->tracer;
    const struct ticket *k = user;
    const struct flow *f = t && k->flow != NONE ? &e->flows[k->flow] : NULL;
    uint16_t j = f ? f->head : NONE;
    if (!f || f->generation != k->generation || !f->in_use)
        return;
    for (int i = 0; i < f->run_len; i++, j = e->jobs[j].next)
        if (e->jobs[j].trace)
            t->sent(t->ctx, e->jobs[j].trace, e->chain[f->nf].inst->ops->name, shard, client, seq);
}

/* --- counts --------------------------------------------------------------------------------- */

uint32_t engine_in_flight(const struct engine *e)
{
    return e->jobs_used;
}

const struct engine_stats *engine_stats(const struct engine *e)
{
    return &e->stats;
}

int engine_reasons(const struct engine *e)
{
    return e->nreasons;
}

uint64_t engine_drops(const struct engine *e, int reason)
{
    return e->drops[reason];
}

const char *engine_reason_text(const struct engine *e, int reason)
{
    return e->reason_text[reason];
}

uint64_t engine_nf_count(const struct engine *e, int nf, int counter)
{
    return e->chain[nf].counts[counter];
}
