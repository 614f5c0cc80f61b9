/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A site whose programs a platform runs (driver.h): what it tells made into tracked programs and events, and
 * orders of the API and of autoscaling made into orders to it.
 *
 * The count of a group is the platform's. Nothing is decided while what is known of it is older than PLATFORM_STALE_MS, and an
 * order is answered when the platform has taken it, or refused it in its own words. One order is under way at a time:
 * the next one is judged by what that took away.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log/log.h"
#include "orchestrator/controller/engine_impl.h"

enum { SENTENCE = 700, UNPROVEN_KEPT_MS = 10 * 60 * 1000, UNHEARD_MS = 5000 };

static const struct driver_platform *platform(const struct engine *e)
{
    return e->driver->ops->platform;
}

void platform_news(void *engine)
{
    struct engine *e = engine;
    e->platform.news = true;
    engine_soon(e);
}

void platform_site(struct engine *e)
{
    platform(e)->site(e->driver, e->desired->site);
    e->platform.news = true;
}

/* The text is the platform's, too: what it gave this controller stands, whatever is kept. */
static void take_text(struct engine *e)
{
    char err[SENTENCE];
    if (e->platform.text_refused || e->change || !strcmp(e->desired->text, e->config.text) || !engine_sure(e))
        return;
    struct orch_desired *to = desired_copy(e->desired);
    int rc = to ? desired_text(to, e->config.file, e->config.text, err, sizeof err) : -ENOMEM;
    if (!rc && orders_begin(e, to, NULL, EVENT_SITE, "site", "its file has another text than what was kept", json_object()))
        return;
    e->platform.text_refused = rc && rc != -ENOMEM;
    if (e->platform.text_refused) {
        desired_free(to);
        events_add(e->events, EVENT_ERROR, "site", 0, NULL, "%s; this controller goes on with what was kept", err);
    } else if (rc) {
        desired_free(to);
    }
}

/* --- whether it is heard ---------------------------------------------------------------------------- */

static void see_state(struct engine *e)
{
    struct platform *p = &e->platform;
    uint64_t now_ms = engine_now(e);
    platform(e)->state(e->driver, &p->state);
    p->known = p->state.heard_ms && now_ms - p->state.heard_ms <= PLATFORM_STALE_MS && !p->state.too_many;
    bool away = !p->known && now_ms - e->active_ms > PLATFORM_STALE_MS;
    if (away == p->away || (p->away && !p->known))
        return;
    p->away = away;
    p->away_event = events_add(e->events, EVENT_PLATFORM, "platform", away ? 0 : p->away_event,
                               json_pack("{s:s, s:b}", "where", p->state.where, "known", !away),
                               away ? "what it runs and wants is not known any more, and nothing is decided by it: %s"
                                    : "it is known again%s", away ? p->state.why : "");
}

static void see_hosts(struct engine *e)
{
    struct platform *p = &e->platform;
    struct driver_host now[DRIVER_NODES];
    uint32_t n = platform(e)->hosts(e->driver, now, DRIVER_NODES);
    for (uint32_t i = 0; i < n; i++) {
        const struct driver_host *was = NULL;
        for (uint32_t k = 0; k < p->nhosts && !was; k++)
            was = !strcmp(p->hosts[k].name, now[i].name) ? &p->hosts[k] : NULL;
        if (was ? was->ready == now[i].ready && was->cordoned == now[i].cordoned : now[i].ready && !now[i].cordoned)
            continue;
        events_add(e->events, EVENT_NODE, now[i].name, 0,
                   json_pack("{s:b, s:b}", "ready", now[i].ready, "cordoned", now[i].cordoned), "it %s%s",
                   now[i].ready ? "is ready" : "is not ready: nobody hears its kubelet",
                   now[i].cordoned ? ", and takes no new pods (it was cordoned)" : "");
    }
    memcpy(p->hosts, now, sizeof now);
    p->nhosts = n;
}

/* --- counts -------------------------------------------------------------------------------------------- */

static struct platform_count *count_of(struct engine *e, const char *group)
{
    struct platform_count *free = NULL;
    for (uint32_t i = 0; i < ORCH_GROUPS; i++) {
        struct platform_count *c = &e->platform.counts[i];
        if (!strcmp(c->group, group))
            return c;
        if (!free && !desired_group(e->desired, c->group))
            free = c;
    }
    *free = (struct platform_count){.seen = false}; /* there are as many as there may be groups */
    snprintf(free->group, sizeof free->group, "%s", group);
    return free;
}

static void see_counts(struct engine *e)
{
    for (uint32_t g = 0; g < e->desired->ngroups; g++) {
        struct platform_count *c = count_of(e, e->desired->groups[g].name);
        struct driver_count now;
        platform(e)->count(e->driver, c->group, &now);
        bool others = c->seen && c->is.there && now.there && now.replicas != c->is.replicas;
        if (others)
            events_add(e->events, EVENT_SCALE, c->group, 0,
                       json_pack("{s:I, s:I, s:b}", "from", (json_int_t)c->is.replicas, "to", (json_int_t)now.replicas,
                                 "by_others", 1), "scaled by others: it is to have %u from now on", now.replicas);
        c->is = now;
        c->seen |= now.asked_ms && now.there;
    }
}

bool platform_count(struct engine *e, const char *group, uint32_t *replicas, uint64_t *asked_ms)
{
    const struct platform_count *c = count_of(e, group);
    *replicas = c->is.replicas;
    *asked_ms = c->is.asked_ms;
    return c->is.there && c->is.asked_ms && engine_now(e) - c->is.asked_ms <= PLATFORM_STALE_MS;
}

/* --- programs ---------------------------------------------------------------------------------------------- */

static const char *on_node(const struct driver_process *p, char *to, uint32_t room)
{
    snprintf(to, room, *p->node ? " on node %s" : "%s", p->node);
    return to;
}

static void see_begin(struct engine *e, struct tracked *t, const struct driver_process *p)
{
    char node[80];
    bool again = t->seen.ended_ms, adopted = !again && p->age_ms > engine_now(e) - e->active_ms + PLATFORM_STALE_MS;
    t->restarts += again;
    carry_begins(e, t, p);
    t->start_event = events_add(e->events, adopted ? EVENT_ADOPT : EVENT_START, p->name, again ? t->end_event : 0,
                                json_pack("{s:s, s:s, s:I}", "node", p->node, "address", p->address, "age_ms",
                                          (json_int_t)p->age_ms),
                                adopted ? "it lives since before this controller%s" : "the platform started it%s",
                                on_node(p, node, sizeof node));
}

/* Asked by us or by others: its pod is being deleted. */
static void see_leaving(struct engine *e, struct tracked *t, const struct driver_process *p)
{
    t->leaving_said = true;
    t->seen.leaving = true;
    if (!t->seen.told_ms)
        t->seen.told_ms = t->seen.again_ms = t->left_said_ms = engine_now(e);
    if (t->leave_event)
        return; /* ours */
    t->leave_event = events_add(e->events, t->seen.kind == ORCH_WORKER ? EVENT_DRAIN : EVENT_STOP, p->name, 0,
                                json_pack("{s:s}", "node", p->node), "its pod is told to go, not by an order to this controller%s%s",
                                *p->note ? ": " : "", p->note);
}

static void see_program(struct engine *e, const struct driver_process *p)
{
    struct tracked *t = engine_track(e, p->name, p->kind);
    if (!t)
        return;
    t->listed = true;
    if (p->start && (p->start != t->process.start || !t->seen.alive))
        see_begin(e, t, p);
    else if (p->start && strcmp(p->address, t->process.address))
        observer_watch(e->observer, t->seen.name, t->seen.kind, p->address);
    if (!t->seen.alive || p->start)
        t->process = *p;
    if (p->start && p->leaving && !t->leaving_said)
        see_leaving(e, t, p);
}

static void see_programs(struct engine *e)
{
    struct driver_process *all = calloc(ORCH_INSTANCES, sizeof *all);
    uint32_t n = all ? e->driver->ops->list(e->driver, all, ORCH_INSTANCES) : 0;
    for (uint32_t i = 0; all && i < e->n; i++)
        e->at[i].listed = false;
    for (uint32_t i = 0; i < n; i++) { /* those that are new take no place of theirs */
        struct tracked *t = engine_find(e, all[i].name);
        if (t)
            t->listed = true;
    }
    for (uint32_t i = 0; i < n; i++)
        see_program(e, &all[i]);
    for (uint32_t i = 0; all && i < e->n; i++) {
        struct tracked *t = &e->at[i];
        t->process.waits &= t->listed;
        t->waits_since_ms = !t->process.waits ? 0 : t->waits_since_ms ? t->waits_since_ms : engine_now(e);
    }
    free(all);
}

/* All that a worker could still do it does by a front end that hears it. True: each has said since its end that it does not. */
static bool is_unheard(struct engine *e, const struct tracked *t)
{
    uint32_t fronts = site_fronts(e->desired->site);
    for (uint32_t i = 0; i < fronts; i++) {
        const struct reading *table = gather_table(e, i);
        if (!table || table->now_ms <= t->seen.ended_ms || engine_now(e) - table->now_ms > STALE_MS ||
            json_is_true(json_object_get(gather_row(table, t->seen.name), "link")))
            return false;
    }
    return fronts && t->seen.kind == ORCH_WORKER;
}

/* Who may live, for nobody said that it is dead: until it cannot matter any more, or for long enough. */
static void see_unproven(struct engine *e, struct tracked *t)
{
    uint64_t now_ms = engine_now(e);
    if (!is_unheard(e, t))
        t->unheard_ms = 0;
    else if (!t->unheard_ms)
        t->unheard_ms = now_ms;
    bool unheard = t->unheard_ms && now_ms - t->unheard_ms >= UNHEARD_MS;
    if (!unheard && now_ms - t->seen.ended_ms <= UNPROVEN_KEPT_MS)
        return;
    t->unproven = t->dying = t->seen.alive = false;
    if (unheard)
        events_add(e->events, EVENT_GONE, t->seen.name, t->end_event, NULL,
                   "no front end hears it any more: it takes part in nothing, and is told of no more");
}

void platform_gather(struct engine *e)
{
    take_text(e);
    see_state(e);
    if (e->platform.news) {
        e->platform.news = false;
        see_counts(e);
        see_hosts(e);
        see_programs(e);
    }
    for (uint32_t i = 0; i < e->n; i++)
        if (e->at[i].unproven)
            see_unproven(e, &e->at[i]);
}

/* --- orders -------------------------------------------------------------------------------------------------- */

static void forget(struct engine *e)
{
    json_decref(e->asking->detail);
    free(e->asking);
    e->asking = NULL;
}

void platform_close(struct engine *e)
{
    if (e->asking)
        forget(e);
}

/* What it means for the program: from now on nothing rests on it, though the platform has yet to tell. */
static void taken(struct engine *e, const struct asking *a, uint64_t event)
{
    struct tracked *t = a->start ? engine_find(e, a->subject) : NULL;
    if (!t || t->process.start != a->start || !t->seen.alive)
        return;
    t->leave_event = event;
    t->seen.leaving = true;
    t->dying |= a->kind == EVENT_KILL;
    t->seen.told_ms = t->seen.again_ms = t->left_said_ms = engine_now(e);
}

/* A wrong token of ours is not the asker's. */
static int http_of(int status)
{
    return status == 422 ? 400 : status == 400 || status == 403 || status == 404 || status == 409 || status == 429 ? status : 503;
}

static void told(void *ctx, int status, const char *words)
{
    struct engine *e = ctx;
    struct asking *a = e->asking;
    if (status == 200) {
        if (a->scales) /* before it is seen: it was not others */
            count_of(e, a->subject)->is.replicas = a->to;
        taken(e, a, events_add(e->events, a->kind, a->subject, 0, json_incref(a->detail), "%s", a->cause));
        if (a->order)
            orders_done(e, a->order, a->result);
    } else {
        events_add(e->events, EVENT_ERROR, a->subject, 0, json_incref(a->detail), "not done (%s): %s", a->cause,
                   *words ? words : "no reason given");
        char sentence[SENTENCE];
        snprintf(sentence, sizeof sentence, status == 503 ? "the API server did not take it, as far as is known: %s"
                                                          : "the API server refused it: %s", words);
        if (a->order)
            orders_refuse(e, a->order, http_of(status), sentence);
    }
    forget(e);
    engine_soon(e);
}

static struct asking *ask(struct engine *e, struct order *o, enum event_kind kind, const char *subject, const char *cause,
                          json_t *detail)
{
    struct asking *a = calloc(1, sizeof *a);
    if (!a) {
        json_decref(detail);
        return NULL;
    }
    *a = (struct asking){.order = o, .kind = kind, .detail = detail};
    snprintf(a->subject, sizeof a->subject, "%s", subject);
    snprintf(a->cause, sizeof a->cause, "%s", cause);
    e->asking = a;
    return a;
}

/* It could not even be asked. */
static void not_asked(struct engine *e, struct order *o, int rc)
{
    if (e->asking)
        forget(e);
    if (o)
        orders_refuse(e, o, rc == -ESRCH ? 404 : 503, rc == -ESRCH ? "it has no pod now" : "out of memory");
}

void platform_scale(struct engine *e, struct order *o, const char *group, int64_t from, uint32_t to,
                    enum event_kind kind, const char *cause, json_t *detail)
{
    struct asking *a = ask(e, o, kind, group, cause, detail);
    if (a) {
        a->scales = true;
        a->to = to;
        snprintf(a->result, sizeof a->result, "written to Deployment %s, which is what counts; events tell how it goes", group);
    }
    int rc = a ? platform(e)->scale(e->driver, group, from, to, told, e) : -ENOMEM;
    if (rc)
        not_asked(e, o, rc);
}

/* As if the platform's counts were the desired state's: that is what bounds are held against. */
int platform_may_scale(struct engine *e, const char *group, int64_t replicas, char *err, uint32_t err_len)
{
    struct orch_desired *as = desired_copy(e->desired);
    snprintf(err, err_len, "out of memory");
    if (!as)
        return -ENOMEM;
    for (uint32_t g = 0; g < as->ngroups; g++)
        as->groups[g].replicas = count_of(e, as->groups[g].name)->is.replicas;
    int rc = desired_scale(as, group, replicas, err, err_len);
    desired_free(as);
    return rc;
}

static void on_scale(struct engine *e, struct order *o)
{
    char err[SENTENCE];
    const char *group = o->request.name;
    uint32_t now = 0;
    uint64_t asked_ms;
    int rc = platform_may_scale(e, group, o->request.replicas, err, sizeof err);
    bool known = desired_group(e->desired, group) && platform_count(e, group, &now, &asked_ms);
    if (o->request.revision && o->request.revision != e->desired->revision)
        orders_refuse(e, o, 409, "the desired state is another revision by now; nothing was changed");
    else if (!engine_sure(e))
        orders_refuse(e, o, 503, "this controller is not certain that it still leads, so it changes nothing; ask again when etcd answers");
    else if (rc == -EALREADY && known)
        orders_done(e, o, err);
    else if (rc && rc != -EALREADY)
        orders_refuse(e, o, rc == -ENOENT ? 404 : rc == -ENOMEM ? 503 : 400, err);
    else
        platform_scale(e, o, group, -1, (uint32_t)o->request.replicas, EVENT_SCALE, "an operator wants it",
                       json_pack("{s:o, s:I}", "from", known ? json_integer(now) : json_null(), "to",
                                 (json_int_t)o->request.replicas));
}

static void on_roll_out(struct engine *e, struct order *o)
{
    const char *group = o->request.name;
    struct asking *a;
    if (!engine_sure(e)) {
        orders_refuse(e, o, 503, "this controller is not certain that it still leads, so it changes nothing; ask again when etcd answers");
        return;
    }
    a = ask(e, o, EVENT_RESTART, group, "an operator wants the whole group started anew", json_object());
    if (a)
        snprintf(a->result, sizeof a->result, "Deployment %s rolls out: a new worker serves before an old one goes", group);
    int rc = a ? platform(e)->roll_out(e->driver, group, told, e) : -ENOMEM;
    if (rc)
        not_asked(e, o, rc);
}

static void on_evict(struct engine *e, struct order *o)
{
    static const char *const comes_back[] = {
        [ORCH_WORKER] = "its Deployment starts another one in its place; `lethe scale` makes them fewer",
        [ORCH_STORE] = "it is started again, empty, and catches up", [ORCH_STEERING] = "it is started again"};
    struct tracked *t = engine_find(e, o->request.name);
    bool kill = o->request.kind == REQUEST_KILL, drain = o->request.kind == REQUEST_DRAIN;
    if (!t && o->request.kind == REQUEST_RESTART && desired_group(e->desired, o->request.name)) {
        on_roll_out(e, o);
        return;
    }
    if (!t) {
        orders_no_instance(e, o);
        return;
    }
    if (drain && t->seen.kind == ORCH_STEERING) {
        orders_refuse(e, o, 403, "it is a front end: take it out of the routes that lead to it; `restart` starts it anew");
        return;
    }
    if (!orders_may_end(e, o, t, !o->request.force))
        return;
    struct asking *a = ask(e, o, kill ? EVENT_KILL : t->seen.kind == ORCH_WORKER ? EVENT_DRAIN : EVENT_STOP, t->seen.name,
                           o->request.force ? "an operator wants it, by force" : "an operator wants it",
                           json_pack("{s:s, s:b}", "node", t->process.node, "at_once", kill));
    if (a) {
        a->start = t->process.start;
        snprintf(a->result, sizeof a->result, "%s; %s", kill ? "killed" : "evicted: it is told to end in good order",
                 comes_back[t->seen.kind]);
    }
    int rc = a ? platform(e)->evict(e->driver, t->seen.name, kill, told, e) : -ENOMEM;
    if (rc)
        not_asked(e, o, rc);
}

/* What a platform, or only a program's own host, can do. */
static const struct { enum request_kind kind; const char *instead; } refused[] = {
    {REQUEST_SITE_PUT, "here a site is what its manifests say: change site.yaml in the overlay, and `kubectl apply -k` it"},
    {REQUEST_DOWN, "here a site is taken down by `kubectl delete -k` of its overlay"},
    {REQUEST_START, "here the platform starts programs: `lethe scale` a group; a store node that is missing is the StatefulSet's "
                    "(`kubectl describe pod` says what it waits for)"},
    {REQUEST_HAND_OVER, "here the controller asks programs and orders them nothing: `lethe restart` of the store's pod hands over "
                        "all that it leads before it ends"},
    {REQUEST_TRACE_ON, "here the controller cannot have packets traced, for it reaches no control socket; look at the metrics, and at "
                       "`kubectl logs`"},
    {REQUEST_TRACE, "here the controller cannot have packets traced, for it reaches no control socket"},
    {REQUEST_TABLES, "here the controller cannot read tables, for it reaches no control socket; sizes and counts are in `lethe status` "
                     "and in the metrics"},
};

bool platform_order(struct engine *e, struct order *o)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (refused[i].kind == o->request.kind) {
            orders_refuse(e, o, 501, refused[i].instead);
            return true;
        }
    switch (o->request.kind) {
    case REQUEST_SCALE: on_scale(e, o); return true;
    case REQUEST_DRAIN: case REQUEST_KILL: case REQUEST_RESTART: on_evict(e, o); return true;
    default: return false;
    }
}

bool platform_waits(const struct engine *e, enum request_kind kind)
{
    return e->asking && (kind == REQUEST_SCALE || kind == REQUEST_DRAIN || kind == REQUEST_KILL || kind == REQUEST_RESTART);
}

/* --- what is told of it ------------------------------------------------------------------------------------------ */

json_t *platform_json(struct engine *e)
{
    const struct platform *p = &e->platform;
    json_t *nodes = json_array();
    uint64_t now_ms = engine_now(e);
    if (!e->driver->ops->platform) {
        json_decref(nodes);
        return json_null();
    }
    for (uint32_t i = 0; i < p->nhosts; i++)
        json_array_append_new(nodes, json_pack("{s:s, s:b, s:b}", "name", p->hosts[i].name, "ready", p->hosts[i].ready,
                                               "cordoned", p->hosts[i].cordoned));
    return json_pack("{s:s, s:b, s:o, s:s, s:o}", "where", p->state.where, "known", p->known, "age_ms",
                     p->state.heard_ms ? json_integer((json_int_t)(now_ms - p->state.heard_ms)) : json_null(), "why",
                     p->known ? "" : p->state.why, "nodes", nodes);
}
