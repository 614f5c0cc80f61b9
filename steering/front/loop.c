/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The datapath's loop.
 *
 * A round: packets from the edges -> workers' rings, or the tunnel; packets and
 * probe replies from the workers -> edges; then, each TICK_US, time: links, silence, probes,
 * ARP; what is held (holding.c); one order of the control thread. Replies are read before silence is
 * judged, and run time (health.h) advances by little however long we were away.
 *
 * Idle: IDLE_ROUNDS empty rounds with sched_yield, then arm the doorbell, poll
 * once more, and sleep on it and the edges' sockets.
 */
#include "steering/front/steer.h"

#include <sched.h>
#include <time.h>

#include <rte_mempool.h>

#include "common/packet/dpdk_port.h"

enum { HOLDING_SLEEP_US = 1000 };

uint64_t monotonic_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void tick(struct steer *s)
{
    if (s->now_us - s->tick_us < TICK_US)
        return;
    s->tick_us = s->now_us;
    metric_set(s->counts.gauge[GAUGE_ROUND_MS], s->now_us / 1000);
    for (unsigned i = 0; i < s->workers_max; i++)
        worker_tick(s, &s->worker[i]);
    edge_tick(s, SIDE_INSIDE);
    edge_tick(s, SIDE_OUTSIDE);
    tunnel_tick(s);
    if (s->now_us - s->window_us >= BUSY_WINDOW_US) {
        metric_set(s->counts.gauge[GAUGE_BUSY], s->busy_us * 1000 / (s->now_us - s->window_us));
        metric_set(s->counts.gauge[GAUGE_BUFFERS], rte_mempool_avail_count(s->pool));
        s->window_us = s->now_us;
        s->busy_us = 0;
    }
}

static void ring_workers(struct steer *s)
{
    for (unsigned i = 0; i < s->workers_max; i++) {
        struct worker *w = &s->worker[i];
        if (!w->ring)
            continue;
        w->ring = false;
        if (w->bell != NULL)
            doorbell_ring(w->bell);
    }
}

static void advance_clocks(struct steer *s, bool was_busy)
{
    uint64_t now_us = monotonic_us();
    if (was_busy)
        s->busy_us += now_us - s->now_us;
    if (now_us - s->now_us > HEALTH_STEP_US)
        count_add(s, COUNT_PAUSES, 1);
    s->now_us = now_us;
    s->run_us = health_clock_advance(&s->clock, now_us);
}

static uint32_t one_round(struct steer *s, bool was_busy)
{
    uint32_t n = 0;
    dpdk_poll_begin();
    advance_clocks(s, was_busy);
    s->tracing = trace_active(s->trace, s->now_us);
    holding_take_table(s);
    n += edge_receive(s, SIDE_INSIDE);
    n += edge_receive(s, SIDE_OUTSIDE);
    for (unsigned i = 0; i < s->workers_max; i++)
        spread_flush(s, &s->worker[i]);
    for (unsigned i = 0; i < s->workers_max; i++)
        n += worker_receive(s, &s->worker[i]);
    n += tunnel_receive(s);
    tick(s);
    holding_round(s);
    edge_flush(s, SIDE_INSIDE);
    edge_flush(s, SIDE_OUTSIDE);
    verbs_serve(s);
    dpdk_poll_end();
    ring_workers(s);
    return n;
}

/* Until the next probe, SLEEP_MAX_MS at most. */
static int sleep_ms(const struct steer *s)
{
    uint64_t due_us = s->run_us + SLEEP_MAX_MS * 1000;
    for (unsigned i = 0; i < s->workers_max; i++) {
        const struct worker *w = &s->worker[i];
        if (w->link && w->health.next_probe_us < due_us)
            due_us = w->health.next_probe_us;
    }
    if (holding_busy(s) && due_us > s->run_us + HOLDING_SLEEP_US)
        due_us = s->run_us + HOLDING_SLEEP_US;
    int ms = due_us <= s->run_us ? 1 : (int)((due_us - s->run_us + 999) / 1000);
    bool blind = s->edge[0].fd < 0 || s->edge[1].fd < 0;
    for (unsigned i = 0; i < s->tunnel.by_n; i++)
        blind |= s->tunnel.by[i].port >= 0 && s->tunnel.by[i].fd < 0;
    if (blind)
        ms = ms < SLEEP_BLIND_MS ? ms : SLEEP_BLIND_MS;
    return ms;
}

static void sleep_a_while(struct steer *s)
{
    struct pollfd fds[2 + SITE_TUNNEL_PORTS_MAX];
    int n = 0;
    for (int side = 0; side < 2; side++)
        if (s->edge[side].fd >= 0)
            fds[n++] = (struct pollfd){.fd = s->edge[side].fd, .events = POLLIN};
    for (unsigned i = 0; i < s->tunnel.by_n; i++)
        if (s->tunnel.by[i].fd >= 0)
            fds[n++] = (struct pollfd){.fd = s->tunnel.by[i].fd, .events = POLLIN};
    count_add(s, COUNT_SLEEPS, 1);
    doorbell_sleep(s->bell, fds, n, sleep_ms(s));
}

/* Told to end, one of several front ends serves on until routers have turned from it: it answers
 * no more echo requests, and what they do not hear for a failure time-out they spare. Without a
 * worker it has no reason to. */
static bool over(struct steer *s, bool stop)
{
    uint64_t us = END_TIMEOUTS * s->timeout_us < END_MAX_US ? END_TIMEOUTS * s->timeout_us : END_MAX_US;
    if (!stop || site_fronts(s->site) < 2 || metric_get(s->counts.gauge[GAUGE_HEALTHY]) == 0)
        return stop;
    if (s->end_us == 0) {
        __atomic_store_n(&s->end_us, s->now_us + us, __ATOMIC_RELAXED); /* probe_ready */
        note_put(s, &(struct note){.kind = NOTE_ENDS, .a = us / 1000});
    }
    return s->now_us >= s->end_us;
}

void loop_run(struct steer *s, const volatile int *stop)
{
    uint32_t empty = 0;
    bool busy = false;
    s->now_us = s->window_us = monotonic_us();
    while (!over(s, *stop)) {
        busy = one_round(s, busy) > 0;
        empty = busy ? 0 : empty + 1;
        if (busy)
            continue;
        if (empty < IDLE_ROUNDS) {
            sched_yield();
            continue;
        }
        doorbell_arm(s->bell);
        busy = one_round(s, false) > 0; /* what came before the ringers saw the flag */
        if (busy) {
            doorbell_disarm(s->bell);
            empty = 0;
            continue;
        }
        sleep_a_while(s);
    }
}
