/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a worker does ten times a second on the loop's thread, between rounds
 * and inside the DPDK gate: the store's health, steering's answers, links,
 * draining, publishing. Nothing here waits; creating a port takes milliseconds
 * and happens when steering (re)starts.
 */
#include <stdio.h>
#include <string.h>

#include "common/log/log.h"
#include "nf/worker/worker.h"

enum {
    TEND_US = 100 * 1000,
    TEND_JOINING_US = 20 * 1000,
    TROUBLE_US = 250 * 1000,    /* connecting takes a moment */
    LINK_GRACE_US = 300 * 1000, /* a fresh memif connects within */
    REMIND_US = 10 * 1000 * 1000,
    LEAVE_US = 3500 * 1000, /* steering answers `leave` within */
    QUIET_US = 50 * 1000,   /* rings empty that long: nothing comes any more */
    FINISH_US = 5000 * 1000,
    FINISH_LAST_US = 200 * 1000, /* packets come for ever: nobody else is there */
};

/* --- the store ------------------------------------------------------------------- */

static void tend_store(struct worker *w, uint64_t now_us)
{
    struct lethe_status st;
    state_status(w->store, now_us, &st);
    bool was_well = w->store_well;
    w->store_well =
        state_ready(w->store) ||
        (st.unreachable_since_us != 0 && now_us - st.unreachable_since_us <= w->unreachable_us);
    w->store_lost += was_well && !w->store_well && w->state != WORKER_WAITING;
    if (w->state == WORKER_WAITING && st.fatal[0])
        snprintf(w->fatal, sizeof w->fatal, "%s", st.fatal);
    if (!st.trouble[0])
        w->well_us = now_us;
    bool lasts = now_us - w->well_us > TROUBLE_US;
    joiner_complain(w->joiner, st.fatal[0] ? st.fatal : lasts ? st.trouble : "");
    if (w->state == WORKER_WAITING && state_ready(w->store)) {
        w->state = WORKER_SERVING;
        if (w->chain.site->worker.redis)
            log_info("Redis reached", "seeds=%s", w->chain.site->worker.redis);
        else
            log_info("store reached", "shards=%u by=%s", w->chain.site->store.shards,
                     state_kind(w->store));
        if (w->tunnel)
            tunnel_want(w->tunnel, now_us);
        else
            joiner_want(w->joiner);
    }
    pthread_mutex_lock(&w->public.lock);
    w->public.store = st;
    w->public.state = w->state;
    w->public.joined = w->joined;
    w->public.number = w->number;
    w->public.store_well = w->store_well;
    w->public.tended_us = now_us;
    pthread_mutex_unlock(&w->public.lock);
}

/* --- steering ---------------------------------------------------------------------- */

/* Opened anew with every answer: a steering that ended in good order removed
 * its doorbell, and the next one's is another file under the same name. */
static void bell_apply(struct worker *w, const char *path)
{
    char err[200];
    doorbell_close(w->steer_bell);
    w->steer_bell = NULL;
    if (doorbell_open(path, &w->steer_bell, err, sizeof err))
        log_warn("cannot ring steering", "%s", err);
}

static void port_complain(struct worker *w, uint64_t now_us, const char *err)
{
    if (w->port_said_us && now_us - w->port_said_us < REMIND_US)
        return;
    log_warn("port not opened", "%s", err);
    w->port_said_us = now_us;
}

static void side_apply(struct worker *w, struct side *s, const struct join_reply *r,
                       uint64_t now_us)
{
    static const char *const devices[] = {
        [SIDE_INSIDE] = "net_memif_inside", [SIDE_OUTSIDE] = "net_memif_outside"};
    char err[400];
    memcpy(s->peer, r->peer_mac[s->which], sizeof s->peer);
    if (s->port >= 0 && !strcmp(s->args, r->devargs[s->which])) {
        if (!side_link(s))
            side_restart(s);
        return;
    }
    side_close(s);
    if (side_open(s, devices[s->which], r->devargs[s->which], w->pool, err, sizeof err))
        port_complain(w, now_us, err);
}

static void tend_steering(struct worker *w, uint64_t now_us)
{
    struct join_reply r;
    if (joiner_take(w->joiner, &r)) {
        w->number = r.worker;
        w->marker[0] = (struct marker){0}; /* of an earlier steering, with other numbers */
        for (int i = 0; i < 2; i++)
            side_apply(w, &w->side[i], &r, now_us);
        bell_apply(w, r.doorbell);
        w->link_grace_us = now_us + LINK_GRACE_US;
    }
    bool up = side_link(&w->side[SIDE_INSIDE]);
    up &= side_link(&w->side[SIDE_OUTSIDE]);
    if (up && !w->joined)
        side_populate_rings();
    if (w->joined != up)
        log_info(up ? "links are up" : "links are down", "worker=%u", w->number);
    w->joined = up;
    /* Steering restarted, or has not been there yet: it makes the sockets anew. */
    if (!up && w->state == WORKER_SERVING && now_us >= w->link_grace_us)
        joiner_want(w->joiner);
}

static void tend_tunnel(struct worker *w, uint64_t now_us)
{
    for (unsigned fresh = tunnel_tend(w->tunnel, now_us); fresh; fresh &= fresh - 1)
        w->marker[__builtin_ctz(fresh)] = (struct marker){0};
    bool up = side_link(&w->side[SIDE_INSIDE]);
    side_link(&w->side[SIDE_OUTSIDE]);
    tunnel_joined(w->tunnel, &w->number);
    if (w->joined && !up)
        log_warn("no front end answers any more", "worker=%u", w->number);
    w->joined = up;
}

/* --- draining -------------------------------------------------------------------------- */

void tend_drain(struct worker *w, uint64_t now_us, bool received)
{
    bool last = false;
    if (w->state == WORKER_WAITING) {
        w->state = WORKER_DONE;
    } else if (w->state == WORKER_SERVING) {
        log_info("drain", "in_flight=%u cause=\"%s\"", engine_in_flight(w->engine), w->drain_cause);
        if (w->tunnel)
            tunnel_leave(w->tunnel);
        joiner_leave(w->joiner);
        w->tend_us = now_us;
        w->state = WORKER_LEAVING;
        w->leave_by_us = now_us + LEAVE_US;
    } else if (w->state == WORKER_LEAVING) {
        bool left = w->tunnel ? tunnel_left(w->tunnel, &last) : joiner_left(w->joiner, &last);
        if (!left && now_us < w->leave_by_us)
            return;
        w->state = WORKER_FINISHING;
        w->quiet_since_us = now_us;
        w->end_by_us = now_us + (last ? FINISH_LAST_US : FINISH_US);
    } else if (w->state == WORKER_FINISHING) {
        if (received || engine_in_flight(w->engine) || side_waiting(w))
            w->quiet_since_us = now_us;
        if (now_us - w->quiet_since_us >= QUIET_US || now_us >= w->end_by_us)
            w->state = WORKER_DONE;
    }
}

/* --- publishing -------------------------------------------------------------------------- */

static void tend_figures(struct worker *w, uint64_t now_us)
{
    const struct engine_stats *st = engine_stats(w->engine);
    uint64_t span = now_us - w->busy_since_us;
    if (span)
        w->busy_permille = (uint32_t)(w->busy_us * 1000 / span);
    w->busy_us = 0;
    w->busy_since_us = now_us;
    if (st->rtt_count != w->rtt_count)
        w->rtt_us = (uint32_t)((st->rtt_us.sum - w->rtt_sum) / (st->rtt_count - w->rtt_count));
    w->rtt_sum = st->rtt_us.sum;
    w->rtt_count = st->rtt_count;
}

void tend(struct worker *w, uint64_t now_us)
{
    w->tend_us = now_us + (w->steered && !w->joined ? TEND_JOINING_US : TEND_US);
    tend_store(w, now_us);
    if (w->tunnel)
        tend_tunnel(w, now_us);
    else if (w->steered)
        tend_steering(w, now_us);
    else
        for (int i = 0; i < 2; i++)
            side_link(&w->side[i]);
    trace_tend(w, now_us);
    tend_figures(w, now_us);
    report_publish(w);
}
