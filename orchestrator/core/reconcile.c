/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One step from what is to what shall be (reconcile.h). A plan collects actions; each section
 * below looks at one kind of instance. Counters in the plan say what this step has already given
 * away (ready workers, room in steering, the store's one node at a time).
 */
#include "orchestrator/core/reconcile.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct plan {
    const struct orch_desired *d;
    const struct orch_observed *o;
    uint64_t now_ms, next_ms;
    uint32_t n;
    struct orch_action *actions;
    uint32_t fronts;          /* the site's front ends */
    uint32_t ready[ORCH_FRONTS], ready_all; /* workers that serve and stay */
    uint32_t workers[ORCH_FRONTS]; /* processes */
};

/* --- small things ----------------------------------------------------------------------------- */

uint64_t orch_backoff_ms(uint32_t failures)
{
    uint64_t ms = failures ? ORCH_BACKOFF_FIRST_MS : 0;
    for (uint32_t i = 1; i < failures && ms < ORCH_BACKOFF_MOST_MS; i++)
        ms *= 2;
    return ms < ORCH_BACKOFF_MOST_MS ? ms : ORCH_BACKOFF_MOST_MS;
}

const struct orch_instance *orch_find(const struct orch_observed *o, const char *name)
{
    for (uint32_t i = 0; i < o->n; i++)
        if (!strcmp(o->at[i].name, name))
            return &o->at[i];
    return NULL;
}

static void wait_until(struct plan *p, uint64_t ms)
{
    if (ms < p->next_ms)
        p->next_ms = ms;
}

static struct orch_action *act(struct plan *p, enum orch_verb verb, enum orch_kind kind,
                               const char *name, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
static struct orch_action *act(struct plan *p, enum orch_verb verb, enum orch_kind kind,
                               const char *name, const char *format, ...)
{
    static struct orch_action none; /* the rest is for the next step */
    va_list args;
    if (p->n == ORCH_ACTIONS) {
        wait_until(p, p->now_ms);
        return &none;
    }
    struct orch_action *a = &p->actions[p->n++];
    *a = (struct orch_action){.verb = verb, .kind = kind};
    snprintf(a->name, sizeof a->name, "%s", name);
    va_start(args, format);
    vsnprintf(a->why, sizeof a->why, format, args);
    va_end(args);
    return a;
}

/* Starts it, unless it keeps ending and has to wait. False: it waits. */
static bool start(struct plan *p, enum orch_kind kind, const char *name, uint32_t group,
                  const char *why)
{
    const struct orch_instance *i = orch_find(p->o, name);
    uint64_t due = i && i->failures ? i->ended_ms + orch_backoff_ms(i->failures) : 0;
    if (due > p->now_ms) {
        wait_until(p, due);
        return false;
    }
    act(p, ORCH_START, kind, name, "%s", why)->group = group;
    return true;
}

/* Who is to end and does not gets the order again, and is killed in the end. A store is told once: at a second signal
 * it would end at once, and not answer what it holds. */
static void insist(struct plan *p, const struct orch_instance *i, enum orch_verb verb)
{
    uint64_t kill_ms = i->told_ms + ORCH_PATIENCE_MS, again_ms = i->again_ms + ORCH_AGAIN_MS;
    if (i->told_ms && p->now_ms >= kill_ms && p->now_ms >= again_ms)
        act(p, ORCH_KILL, i->kind, i->name, "it was to end and lives since %lu s",
            (p->now_ms - i->told_ms) / 1000);
    else if (p->now_ms >= again_ms && (!i->told_ms || i->kind != ORCH_STORE))
        act(p, verb, i->kind, i->name, "it is to end and lives");
    wait_until(p, p->now_ms >= again_ms ? p->now_ms + ORCH_AGAIN_MS : again_ms);
}

/* --- stopping it all ------------------------------------------------------------------------------ */

static uint32_t stop_kind(struct plan *p, enum orch_kind kind)
{
    uint32_t alive = 0;
    for (uint32_t k = 0; k < p->o->n; k++) {
        const struct orch_instance *i = &p->o->at[k];
        if (!i->alive || i->kind != kind)
            continue;
        alive++;
        if (i->told_ms)
            insist(p, i, kind == ORCH_WORKER ? ORCH_DRAIN : ORCH_TERMINATE);
        else
            act(p, kind == ORCH_WORKER ? ORCH_DRAIN : ORCH_TERMINATE, kind, i->name,
                "the site is to be down");
    }
    return alive;
}

/* --- store nodes ------------------------------------------------------------------------------------ */

/* Roles first, then the process. */
static void end_store(struct plan *p, const struct orch_instance *i, bool *one, const char *why)
{
    if (i->told_ms) {
        insist(p, i, ORCH_TERMINATE);
        return;
    }
    if (*one || !p->o->copies_whole) {
        wait_until(p, p->now_ms + ORCH_AGAIN_MS); /* another one's turn, or a copy is missing */
        return;
    }
    *one = true;
    if (i->leads && p->now_ms < i->again_ms + ORCH_AGAIN_MS) {
        wait_until(p, i->again_ms + ORCH_AGAIN_MS);
        return;
    }
    for (uint32_t s = 0; s < ORCH_SHARDS && i->leads; s++)
        if (i->leads >> s & 1)
            act(p, ORCH_HAND_OVER, ORCH_STORE, i->name, "%s", why)->shard = s;
    if (!i->leads && !i->only_copy)
        act(p, ORCH_TERMINATE, ORCH_STORE, i->name, "%s; it leads no shard", why);
}

static bool is_node(const struct orch_desired *d, const char *name)
{
    for (unsigned k = 0; k < d->site->store.nodes_count; k++)
        if (!strcmp(d->site->store.nodes[k].name, name))
            return true;
    return false;
}

static void stores(struct plan *p)
{
    bool one = false; /* a node is on its way out */
    for (uint32_t k = 0; k < p->o->n; k++)
        one |= p->o->at[k].kind == ORCH_STORE && p->o->at[k].alive && p->o->at[k].told_ms;
    for (unsigned k = 0; k < p->d->site->store.nodes_count; k++) {
        const char *name = p->d->site->store.nodes[k].name;
        const struct orch_instance *i = orch_find(p->o, name);
        if ((!i || !i->alive) && !desired_is_stopped(p->d, name))
            start(p, ORCH_STORE, name, 0, i && i->ended_ms ? "it ended" : "the site has it");
    }
    for (uint32_t k = 0; k < p->o->n; k++) {
        const struct orch_instance *i = &p->o->at[k];
        if (i->kind != ORCH_STORE || !i->alive)
            continue;
        if (!is_node(p->d, i->name))
            end_store(p, i, &one, "the site has it no more");
        else if (desired_is_stopped(p->d, i->name))
            end_store(p, i, &one, "an operator took it out");
        else if (i->told_ms || i->replace)
            end_store(p, i, &one, "an operator wants it started anew");
    }
}

/* --- steering ----------------------------------------------------------------------------------------- */

/* Another front end serves, and stays. */
static bool another_front(const struct plan *p, const struct orch_instance *but)
{
    for (uint32_t k = 0; k < p->o->n; k++) {
        const struct orch_instance *i = &p->o->at[k];
        if (i != but && i->kind == ORCH_STEERING && i->alive && i->ready && !i->told_ms &&
            site_front_named(p->d->site, i->name) >= 0)
            return true;
    }
    return false;
}

static void steering(struct plan *p)
{
    bool one = false; /* is on its way out */
    for (uint32_t at = 0; at < p->fronts; at++) {
        const char *name = site_front(p->d->site, at).name;
        const struct orch_instance *i = orch_find(p->o, name);
        if (!i || !i->alive)
            start(p, ORCH_STEERING, name, 0, i && i->ended_ms ? "it ended" : "the site has it");
        one |= i && i->alive && i->told_ms;
    }
    for (uint32_t k = 0; k < p->o->n; k++) {
        const struct orch_instance *i = &p->o->at[k];
        bool wanted = site_front_named(p->d->site, i->name) >= 0;
        if (i->kind != ORCH_STEERING || !i->alive)
            continue;
        if (i->told_ms) {
            insist(p, i, ORCH_TERMINATE);
        } else if (!wanted) {
            act(p, ORCH_TERMINATE, ORCH_STEERING, i->name, "the site has it no more");
        } else if (i->replace && (p->fronts == 1 || (!one && another_front(p, i)))) {
            one = true;
            act(p, ORCH_TERMINATE, ORCH_STEERING, i->name, "an operator wants it started anew");
        } else if (i->replace) {
            wait_until(p, p->now_ms + ORCH_AGAIN_MS);
        }
    }
}

/* --- workers -------------------------------------------------------------------------------------------- */

struct count { uint32_t fresh, fresh_ready, old; };

static bool is_old(const struct plan *p, const struct orch_group *g, const struct orch_instance *i)
{
    return i->replace || (i->config && i->config != desired_config(p->d, ORCH_WORKER, g));
}

static bool stays(const struct orch_instance *i)
{
    return i->kind == ORCH_WORKER && i->alive && !i->leaving && !i->told_ms;
}

/* A worker's number behind its group's name. */
static unsigned number_of(const char *name)
{
    unsigned n = 0;
    const char *dash = strrchr(name, '-');
    return dash && sscanf(dash + 1, "%9u", &n) == 1 ? n : 0;
}

/* Does any worker of the site join that front end? */
static bool is_served(const struct plan *p, uint32_t front)
{
    for (uint32_t at = 0; at < p->d->ngroups; at++)
        if (p->d->groups[at].front == front && p->d->groups[at].replicas)
            return true;
    return false;
}

/* Who serves beside it and stays; 0 also while that is not known. */
static uint32_t others_of(const struct plan *p, const struct orch_instance *i)
{
    uint32_t self = i->ready && stays(i);
    if (i->front >= p->fronts || !is_served(p, i->front))
        return p->o->tables_known ? p->ready_all - self : 0;
    return p->o->tables_known >> i->front & 1 ? p->ready[i->front] - self : 0;
}

static bool drain(struct plan *p, const struct orch_instance *i, const char *why)
{
    if (!others_of(p, i)) {
        wait_until(p, p->now_ms + ORCH_AGAIN_MS); /* the last one stays until another is ready */
        return false;
    }
    if (p->n == ORCH_ACTIONS) {
        wait_until(p, p->now_ms);
        return false;
    }
    act(p, ORCH_DRAIN, ORCH_WORKER, i->name, "%s", why);
    if (i->ready && stays(i)) {
        p->ready_all--;
        if (i->front < p->fronts)
            p->ready[i->front]--;
    }
    return true;
}

static bool drained_now(const struct plan *p, const char *name)
{
    for (uint32_t k = 0; k < p->n; k++)
        if (p->actions[k].verb == ORCH_DRAIN && !strcmp(p->actions[k].name, name))
            return true;
    return false;
}

/* Who goes first when there are too many: old ones, then those that do not serve, then the highest
 * number. */
static const struct orch_instance *to_go(const struct plan *p, const struct orch_group *g)
{
    const struct orch_instance *best = NULL;
    uint32_t best_rank = 0;
    for (uint32_t k = 0; k < p->o->n; k++) {
        const struct orch_instance *i = &p->o->at[k];
        if (!stays(i) || desired_group_of(p->d, i->name) != g || drained_now(p, i->name))
            continue;
        uint32_t rank = (is_old(p, g, i) ? 2u << 20 : 0) + (i->ready ? 0 : 1u << 20) +
                        (number_of(i->name) & 0xfffff) + 1;
        if (rank > best_rank) {
            best = i;
            best_rank = rank;
        }
    }
    return best;
}

/* Starts `n` more under the lowest free numbers; those that wait for their restart count. */
static void start_workers(struct plan *p, uint32_t group, uint32_t n, const char *why)
{
    const struct orch_group *g = &p->d->groups[group];
    char name[ORCH_NAME + 12];
    for (uint32_t number = 1; n && number <= 2 * ORCH_WORKERS; number++) {
        snprintf(name, sizeof name, "%s-%u", g->name, number);
        const struct orch_instance *i = orch_find(p->o, name);
        if (i && i->alive)
            continue;
        if (p->workers[g->front] >= p->d->site->steering.workers_max) {
            wait_until(p, p->now_ms + ORCH_AGAIN_MS); /* somebody is still leaving */
            return;
        }
        p->workers[g->front]++;
        n--;
        start(p, ORCH_WORKER, name, group, why);
    }
}

static struct count count_of(const struct plan *p, const struct orch_group *g)
{
    struct count c = {0};
    for (uint32_t k = 0; k < p->o->n; k++) {
        const struct orch_instance *i = &p->o->at[k];
        if (!stays(i) || desired_group_of(p->d, i->name) != g)
            continue;
        if (is_old(p, g, i))
            c.old++;
        else {
            c.fresh++;
            c.fresh_ready += i->ready;
        }
    }
    return c;
}

static void group(struct plan *p, uint32_t at)
{
    const struct orch_group *g = &p->d->groups[at];
    struct count c = count_of(p, g);
    uint32_t have = c.fresh + c.old;
    char why[ORCH_WHY];
    snprintf(why, sizeof why, "%s is to have %u worker%s and has %u", g->name, g->replicas,
             g->replicas == 1 ? "" : "s", have);
    if (have < g->replicas)
        start_workers(p, at, g->replicas - have, why);
    bool room = p->workers[g->front] < p->d->site->steering.workers_max;
    if (c.old && have == g->replicas && room) { /* one more, so that an old one can go */
        start_workers(p, at, 1, "an older one is to be replaced");
        return;
    }
    if (c.old && have == g->replicas) { /* no room: one goes first */
        const struct orch_instance *i = to_go(p, g);
        drain(p, i, "it runs with an earlier configuration, and steering has no room beside it");
        return;
    }
    for (uint32_t excess = have > g->replicas ? have - g->replicas : 0; excess; excess--) {
        const struct orch_instance *i = to_go(p, g);
        bool old = i && is_old(p, g, i);
        if (old && excess == 1 && c.fresh_ready < c.fresh) {
            wait_until(p, p->now_ms + ORCH_AGAIN_MS); /* its successor first */
            return;
        }
        if (!i || !drain(p, i, old ? i->replace ? "an operator wants it away"
                                                : "it runs with an earlier configuration"
                                   : why))
            return;
    }
}

static void workers(struct plan *p)
{
    for (uint32_t k = 0; k < p->o->n; k++) {
        const struct orch_instance *i = &p->o->at[k];
        if (i->kind != ORCH_WORKER || !i->alive)
            continue;
        p->ready_all += stays(i) && i->ready;
        if (i->front < p->fronts) {
            p->workers[i->front]++;
            p->ready[i->front] += stays(i) && i->ready;
        }
        if (i->told_ms)
            insist(p, i, ORCH_DRAIN);
    }
    for (uint32_t at = 0; at < p->d->ngroups && p->fronts; at++)
        group(p, at); /* without steering there is nobody to serve */
    for (uint32_t k = 0; k < p->o->n; k++) {
        const struct orch_instance *i = &p->o->at[k];
        if (stays(i) && !desired_group_of(p->d, i->name) && !drain(p, i, "the site has its group no more"))
            return;
    }
}

/* --- the step ---------------------------------------------------------------------------------------------- */

uint32_t orch_reconcile(const struct orch_desired *d, const struct orch_observed *o,
                        uint64_t now_ms, struct orch_action actions[ORCH_ACTIONS],
                        uint64_t *next_ms)
{
    struct plan p = {.d = d, .o = o, .now_ms = now_ms, .next_ms = UINT64_MAX, .actions = actions,
                     .fronts = site_fronts(d->site)};
    if (!d->down) {
        stores(&p);
        steering(&p);
        workers(&p);
    } else if (!stop_kind(&p, ORCH_WORKER) && !stop_kind(&p, ORCH_STEERING)) {
        stop_kind(&p, ORCH_STORE);
    }
    *next_ms = p.next_ms;
    return p.n;
}

/* --- what is not killed without force ------------------------------------------------------------------------ */

int orch_kill_allowed(const struct orch_observed *o, const char *name, char *why, uint32_t why_len)
{
    const struct orch_instance *i = orch_find(o, name);
    uint32_t ready = 0, fronts = 0;
    if (!i || !i->alive)
        return 0;
    for (uint32_t k = 0; k < o->n; k++) {
        const struct orch_instance *x = &o->at[k];
        ready += x != i && stays(x) && x->ready && x->front == i->front;
        fronts += x != i && x->kind == ORCH_STEERING && x->alive && x->ready && !x->told_ms;
    }
    bool known = i->front < ORCH_FRONTS && o->tables_known >> i->front & 1;
    if (i->kind == ORCH_WORKER && (!known || !ready)) {
        snprintf(why, why_len, known
                                   ? "%s is the last worker that serves at its front end; start another one "
                                     "first, or kill it by force"
                                   : "what steering's table holds is not known, so %s may be the last worker "
                                     "that serves; try again, or use force", name);
        return -EPERM;
    }
    if (i->kind == ORCH_STEERING && !fronts) {
        snprintf(why, why_len, "%s is the only steering that serves: no packet would pass until it is back; use "
                 "force if that is meant", name);
        return -EPERM;
    }
    if (i->kind == ORCH_STORE && (i->only_copy || !o->copies_known)) {
        snprintf(why, why_len, i->only_copy
                                   ? "%s holds the last copy of a shard: it would be lost; wait until there is "
                                     "another, or use force"
                                   : "not every shard's copies are known now, so %s may hold the last one; "
                                     "try again, or use force", name);
        return -EPERM;
    }
    return 0;
}
