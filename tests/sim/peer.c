/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client process: liblethe in a loop that polls when something came in, when
 * lethe_next_us says so, and when it thinks of something to ask. A crashed one
 * forgets everything; what it had outstanding stays unknown for ever.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

enum { THINK_US = 9000, READ_US = 4000, CALM_US = 60000, KEEP_US = 45000,
       DIAL_FAILS_PER_MILLE = 20, READERS_PER_MILLE = 450, RDMA_PER_MILLE = 750, PLACES = 4096,
       RESTLESS_PER_MILLE = 250, RESTLESS_US = 60000 };

static void poll_now(struct world *w, struct peer *p);

static struct channel *dial(void *ctx, uint16_t shard, char *err, uint32_t err_len)
{
    struct peer *p = ctx;
    struct world *w = p->pending[0].world;
    if (rng_chance(&w->rng, DIAL_FAILS_PER_MILLE)) {
        snprintf(err, err_len, "no route to shard %u just now", shard);
        return NULL;
    }
    int to = p->next_node[shard]++ % NODES; /* wherever the primary is, the client finds it */
    return net_dial_channel(w, p->proc, to, shard, p->rdma);
}

static void wake(struct world *w, const struct event *e)
{
    struct peer *p = &w->peers[e->a];
    if (p->wake_us > w->now_us)
        return;
    p->wake_us = UINT64_MAX;
    poll_now(w, p);
}

static void set_alarm(struct world *w, struct peer *p)
{
    uint64_t next_us = lethe_next_us(p->lethe);
    if (next_us == UINT64_MAX)
        return;
    uint64_t at_us = proc_when_us(w, p->proc, next_us);
    if (at_us <= w->now_us)
        at_us = w->now_us + 100;
    if (at_us >= p->wake_us)
        return;
    p->wake_us = at_us;
    sched_at(w, at_us, p->proc, wake, (uint64_t)p->number, 0, NULL);
}

static void count_reads(struct world *w, struct peer *p, const struct lethe_status *st)
{
    uint64_t *counts[READ_OUTCOMES_END] = {
        &w->counts.reads_hit, &w->counts.reads_unknown, &w->counts.reads_no_lease,
        &w->counts.reads_touch_due, &w->counts.reads_expired, &w->counts.reads_pending,
        &w->counts.reads_torn, &w->counts.reads_gone, &w->counts.reads_full,
        &w->counts.reads_closed,
    };
    for (int i = 0; i < READ_OUTCOMES_END; i++) {
        *counts[i] += st->one_sided[i] - p->reads_seen[i];
        p->reads_seen[i] = st->one_sided[i];
    }
}

static uint64_t clock_us(void *ctx)
{
    const struct peer *p = ctx;
    return proc_now_us(p->pending[0].world, p->proc);
}

static void poll_now(struct world *w, struct peer *p)
{
    lethe_poll(p->lethe, proc_now_us(w, p->proc));
    struct lethe_status st;
    lethe_status(p->lethe, &st);
    if (st.fatal[0])
        run_fail(w, "client", "client %d gave up: %s", p->number, st.fatal);
    count_reads(w, p, &st);
    w->counts.moved_txns += st.moved - p->moved_seen;
    p->moved_seen = st.moved;
    set_alarm(w, p);
}

static void think(struct world *w, const struct event *e)
{
    struct peer *p = &w->peers[e->a];
    uint64_t mean_us = p->keeper ? KEEP_US : p->calm ? CALM_US : p->reader ? READ_US : THINK_US;
    sched_at(w, w->now_us + 200 + rng_exp(&w->rng, (double)mean_us), p->proc, think, e->a, 0,
             NULL);
    if (w->stopped || !lethe_ready(p->lethe))
        return;
    uint32_t burst = p->reader ? 1 + rng_below(&w->rng, 3) : 1;
    if (!p->keeper && !p->reader && rng_chance(&w->rng, 250))
        burst += rng_below(&w->rng, rng_chance(&w->rng, 200) ? PENDING_MAX : 4);
    bool any = false;
    while (burst-- && workload_ask(w, p))
        any = true;
    if (!any)
        return;
    lethe_flush(p->lethe);
    set_alarm(w, p);
}

/* e->a: client. Something on the way breaks its connections, again and again. */
static void break_one(struct world *w, const struct event *e)
{
    struct peer *p = &w->peers[e->a];
    uint32_t open[2 * SHARDS], n = 0;
    for (uint32_t i = w->nconns; i > 0 && n < 2 * SHARDS; i--)
        if (w->conns[i - 1].end[0].proc == p->proc && w->conns[i - 1].end[0].open)
            open[n++] = i;
    if (n && !w->healed)
        net_reset(w, open[rng_below(&w->rng, n)]);
    sched_at(w, w->now_us + 1000 + rng_exp(&w->rng, RESTLESS_US), p->proc, break_one, e->a, 0,
             NULL);
}

/* e->a: client. Polls once for all that came in at this moment. */
static void came_in(struct world *w, const struct event *e)
{
    poll_now(w, &w->peers[e->a]);
}

void peer_ready(struct world *w, int number)
{
    sched_at(w, w->now_us, w->peers[number].proc, came_in, (uint64_t)number, 0, NULL);
}

void peer_start(struct world *w, int number)
{
    struct peer *p = &w->peers[number];
    struct proc *proc = &w->procs[NODES + number];
    char err[160];
    proc->alive = true;
    proc->life++;
    proc->paused_until_us = 0;
    memset(p, 0, sizeof *p);
    p->proc = NODES + number;
    p->number = number;
    p->keeper = number == 0;
    p->calm = rng_chance(&w->rng, 250);
    p->reader = !p->keeper && rng_chance(&w->rng, READERS_PER_MILLE);
    p->rdma = rng_chance(&w->rng, RDMA_PER_MILLE);
    p->wake_us = UINT64_MAX;
    p->hist_client = w->hist_clients++;
    for (int i = 0; i < PENDING_MAX; i++)
        p->pending[i] = (struct pending){.world = w, .peer = p};
    struct lethe_config config = {.shards = SHARDS, .window = PENDING_MAX, .retry_ms = RETRY_MS,
                                  .silence_ms = SILENCE_MS << rng_below(&w->rng, 5),
                                  .dial = dial, .dial_ctx = p, .remember = PLACES,
                                  .clock_us = clock_us, .clock_ctx = p};
    p->lethe = lethe_client_create(&config, err, sizeof err);
    if (!p->lethe)
        abort();
    workload_open_tables(p);
    trace(w, p->proc, "starts as client %u of the history", p->hist_client);
    sched_at(w, w->now_us + 100, p->proc, came_in, (uint64_t)number, 0, NULL);
    sched_at(w, w->now_us + 1000, p->proc, think, (uint64_t)number, 0, NULL);
    if (!p->keeper && rng_chance(&w->rng, RESTLESS_PER_MILLE))
        sched_at(w, w->now_us + 1000, p->proc, break_one, (uint64_t)number, 0, NULL);
}

void peer_stop(struct world *w, int number)
{
    struct peer *p = &w->peers[number];
    for (int i = 0; i < PENDING_MAX; i++)
        w->counts.unknown += p->pending[i].used;
    lethe_client_destroy(p->lethe);
    p->lethe = NULL;
    p->npending = 0;
}

void peer_crash(struct world *w, int number)
{
    struct peer *p = &w->peers[number];
    trace(w, p->proc, "CRASHES with %u operations outstanding", p->npending);
    w->counts.crashes++;
    net_crash(w, p->proc);
    peer_stop(w, number);
    w->procs[p->proc].alive = false;
    w->procs[p->proc].life++;
}

uint32_t peers_pending(const struct world *w)
{
    uint32_t n = 0;
    for (int i = 0; i < w->npeers; i++)
        n += w->peers[i].npending;
    return n;
}
