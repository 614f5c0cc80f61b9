/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the API wants. A question is answered at once; a change of the desired state is answered when
 * it is kept, and until then further ones wait in the queue; an order to a program is checked by the
 * core's rule and carried out.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/controller/engine_impl.h"

enum { SENTENCE = 700 };
#define NOT_SURE                                                                                   \
    "this controller is not certain that it still leads, so it ends nothing and hands nothing over; ask again " \
    "when etcd answers"

/* --- answering ------------------------------------------------------------------------------------- */

void orders_answer(struct engine *e, struct order *o, int status, json_t *json)
{
    pthread_mutex_lock(&e->lock);
    o->done = true;
    o->status = status;
    o->answer = json;
    pthread_cond_broadcast(&e->answered);
    bool last = !--o->refs;
    pthread_mutex_unlock(&e->lock);
    if (!last)
        return;
    request_free(&o->request);
    json_decref(o->answer);
    free(o);
}

static void answer(struct engine *e, struct order *o, int status, json_t *json)
{
    orders_answer(e, o, status, json);
}

static void refuse(struct engine *e, struct order *o, int status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static void refuse(struct engine *e, struct order *o, int status, const char *format, ...)
{
    char text[SENTENCE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p >= 0x7f || (unsigned char)*p < 0x20)
            *p = '?';
    answer(e, o, status, json_pack("{s:s}", "error", text));
}

void orders_refuse(struct engine *e, struct order *o, int status, const char *sentence)
{
    refuse(e, o, status, "%s", sentence);
}

void orders_no_instance(struct engine *e, struct order *o)
{
    refuse(e, o, 404, "there is no instance '%s'; `lethe status` (GET /v1/instances) tells which there are", o->request.name);
}

static void done(struct engine *e, struct order *o, const char *result)
{
    answer(e, o, 200, json_pack("{s:b, s:I, s:s}", "ok", 1, "revision", (json_int_t)e->desired->revision,
                                "result", result));
}

void orders_done(struct engine *e, struct order *o, const char *result)
{
    done(e, o, result);
}

static int status_of(int rc)
{
    return rc == -ENOENT ? 404 : rc == -EPERM ? 403 : rc == -ENOMEM ? 503 : 400;
}

/* --- changes of the desired state --------------------------------------------------------------------- */

bool orders_begin(struct engine *e, struct orch_desired *to, struct order *order, enum event_kind kind,
                  const char *subject, const char *cause, json_t *detail)
{
    struct change *c = e->change ? NULL : calloc(1, sizeof *c);
    json_t *json = c ? desired_to_json(to) : NULL;
    if (!json || keep_swap(e->keep, json)) {
        desired_free(to);
        json_decref(detail);
        free(c);
        return false;
    }
    *c = (struct change){.to = to, .order = order, .until_ms = engine_now(e) + SWAP_WAIT_MS, .kind = kind,
                         .detail = detail};
    snprintf(c->subject, sizeof c->subject, "%s", subject);
    snprintf(c->cause, sizeof c->cause, "%s", cause);
    e->change = c;
    return true;
}

/* Judged again: much may have happened while the change was kept. Refused now, it leaves as soon as it may. */
static void drain_now(struct engine *e, const char *name, uint64_t because)
{
    char err[SENTENCE];
    struct tracked *t;
    e->driver->ops->look(e->driver);
    gather(e);
    t = engine_find(e, name);
    if (!t || !t->seen.alive || t->seen.leaving)
        return;
    t->leave_event = because;
    if (orch_kill_allowed(&e->observed, name, err, sizeof err)) {
        t->seen.replace = true; /* the first to go, by the core's rule */
        events_add(e->events, EVENT_DRAIN, name, because, NULL, "not yet: %s", err);
    } else {
        carry_signal(e, t, EVENT_DRAIN, SIGTERM, "an operator wants it drained");
    }
}

static void change_made(struct engine *e, struct change *c)
{
    if (c->to->revision > e->desired->revision) { /* else it was heard of already */
        desired_free(e->desired);
        e->desired = c->to;
    } else {
        desired_free(c->to);
    }
    c->to = NULL;
    carry_site(e);
    json_object_set_new(c->detail, "revision", json_integer((json_int_t)e->desired->revision));
    uint64_t seq = events_add(e->events, c->kind, c->subject, 0, json_incref(c->detail), "%s", c->cause);
    if (*c->drain)
        drain_now(e, c->drain, seq);
    if (c->order)
        done(e, c->order, "kept; events tell how it goes");
}

bool orders_heard(struct engine *e, uint64_t revision)
{
    struct change *c = e->change;
    if (!c || c->to->revision != revision)
        return false;
    struct tracked *t = *c->drain ? engine_find(e, c->drain) : NULL;
    if (t && t->seen.alive && !t->seen.leaving)
        t->seen.replace = true; /* there is one too many from now on: it is this one that goes */
    return true;
}

void orders_changed(struct engine *e)
{
    struct change *c = e->change;
    char why[240];
    int rc;
    if (c && c->order && engine_now(e) > c->until_ms) {
        refuse(e, c->order, 503, "etcd does not answer: whether the change is made is not known; look at "
               "the revision, and ask again");
        c->order = NULL;
    }
    if (!c || !keep_swapped(e->keep, &rc, why, sizeof why))
        return;
    e->change = NULL;
    if (!rc)
        change_made(e, c);
    else if (c->order && rc == -EAGAIN)
        refuse(e, c->order, 409, "another change came first, and nothing was changed; look at it, and ask again");
    else if (c->order)
        refuse(e, c->order, 503, rc == -ETIMEDOUT ? "etcd does not answer (%s): whether the change is made is not "
                                                    "known; look at the revision, and ask again"
                                                  : "it cannot be kept, and nothing was changed: %s", why);
    desired_free(c->to);
    json_decref(c->detail);
    free(c);
}

/* The desired state to be changed, or NULL and an answer. */
static struct orch_desired *to_change(struct engine *e, struct order *o)
{
    uint64_t revision = o->request.revision;
    if (revision && revision != e->desired->revision) {
        refuse(e, o, 409, "the desired state is revision %lu by now, not %lu; nothing was changed",
               e->desired->revision, revision);
        return NULL;
    }
    if (!engine_sure(e)) {
        refuse(e, o, 503, "%s, so nothing can be changed now; ask again",
               e->kept.etcd ? "etcd does not answer" : "the desired state cannot be kept");
        return NULL;
    }
    struct orch_desired *to = desired_copy(e->desired);
    if (!to)
        refuse(e, o, 503, "out of memory");
    return to;
}

/* Has `to` kept; it was changed with `rc` and `err`. */
static void change(struct engine *e, struct order *o, struct orch_desired *to, int rc, const char *err,
                   enum event_kind kind, const char *subject, const char *cause, json_t *detail)
{
    if (!rc) {
        if (!orders_begin(e, to, o, kind, subject, cause, detail))
            refuse(e, o, 503, "another change is being kept; ask again");
        return;
    }
    desired_free(to);
    json_decref(detail);
    if (rc == -EALREADY)
        done(e, o, err);
    else
        refuse(e, o, status_of(rc), "%s", err);
}

static void on_scale(struct engine *e, struct order *o)
{
    char err[SENTENCE];
    const struct orch_group *g = desired_group(e->desired, o->request.name);
    json_t *detail = json_pack("{s:i, s:I}", "from", g ? (int)g->replicas : 0, "to", (json_int_t)o->request.replicas);
    struct orch_desired *to = to_change(e, o);
    if (to)
        change(e, o, to, desired_scale(to, o->request.name, o->request.replicas, err, sizeof err), err, EVENT_SCALE,
               o->request.name, "an operator wants it", detail);
    else
        json_decref(detail);
}

static void on_policy(struct engine *e, struct order *o)
{
    char err[SENTENCE];
    struct orch_desired *to = to_change(e, o);
    const struct orch_group *g = to ? desired_group(to, o->request.name) : NULL;
    struct orch_policy p = g ? g->autoscale : (struct orch_policy){0};
    if (!to)
        return;
    int rc = g ? policy_from_json(o->request.policy, &p, err, sizeof err) : 0;
    if (!rc)
        rc = desired_policy(to, o->request.name, &p, err, sizeof err);
    change(e, o, to, rc, err, EVENT_POLICY, o->request.name, "an operator wants another policy", policy_to_json(&p));
}

static void on_site_put(struct engine *e, struct order *o)
{
    char err[SENTENCE];
    struct orch_desired *to = to_change(e, o);
    if (to)
        change(e, o, to, desired_text(to, "site.yaml", o->request.text, err, sizeof err), err, EVENT_SITE, "site",
               "an operator gave another text", json_object());
}

static void on_down(struct engine *e, struct order *o)
{
    char err[SENTENCE];
    if (!o->request.force) {
        refuse(e, o, 403, "this would stop every program, and what only they hold would be lost; write "
               "{\"force\": true} if that is meant");
        return;
    }
    struct orch_desired *to = to_change(e, o);
    if (to)
        change(e, o, to, desired_down(to, true, err, sizeof err), err, EVENT_SITE, "site",
               "an operator wants it down", json_object());
}

/* --- orders to programs ------------------------------------------------------------------------------------ */

/* NULL, and an answer. */
static struct tracked *wanted(struct engine *e, struct order *o)
{
    struct tracked *t = engine_find(e, o->request.name);
    if (!t)
        orders_no_instance(e, o);
    return t;
}

/* Without etcd nobody takes over from the first node, and it comes back empty: its shards are LOST then. */
static bool leads_for_ever(const struct engine *e, const struct tracked *t)
{
    const struct site *s = e->desired->site;
    return t->seen.kind == ORCH_STORE && !s->store.etcd_count && !strcmp(t->seen.name, s->store.nodes[0].name);
}

bool orders_may_end(struct engine *e, struct order *o, const struct tracked *t, bool judged)
{
    char err[SENTENCE];
    if (!engine_sure(e))
        refuse(e, o, 503, NOT_SURE);
    else if (!t->seen.alive || t->dying)
        refuse(e, o, 409, "%s is not running", t->seen.name);
    else if (judged && leads_for_ever(e, t))
        refuse(e, o, 403, "%s is the primary for ever, for store.etcd is not there: nobody takes over, and started "
               "again it is empty and its shards LOST; use force if that is meant", t->seen.name);
    else if (judged && orch_kill_allowed(&e->observed, t->seen.name, err, sizeof err))
        refuse(e, o, 403, "%s", err);
    else
        return true;
    return false;
}

static void drain_worker(struct engine *e, struct order *o, struct tracked *t)
{
    char err[SENTENCE];
    const struct orch_group *g = desired_group_of(e->desired, t->seen.name);
    if (!t->seen.alive || t->seen.leaving || !g) {
        refuse(e, o, 409, t->seen.alive ? "%s is leaving already" : "%s is not running", t->seen.name);
        return;
    }
    if (!orders_may_end(e, o, t, true))
        return;
    struct orch_desired *to = to_change(e, o);
    if (!to)
        return;
    int rc = desired_scale(to, g->name, (int64_t)g->replicas - 1, err, sizeof err);
    change(e, o, to, rc, err, EVENT_SCALE, g->name, "an operator wants one of them drained",
           json_pack("{s:i, s:i, s:s}", "from", g->replicas, "to", g->replicas - 1, "instance", t->seen.name));
    if (!rc && e->change && e->change->order == o)
        snprintf(e->change->drain, sizeof e->change->drain, "%s", t->seen.name);
}

static void take_store(struct engine *e, struct order *o, bool out)
{
    char err[SENTENCE];
    struct orch_desired *to = to_change(e, o);
    if (to)
        change(e, o, to, desired_stop(to, o->request.name, out, err, sizeof err), err, out ? EVENT_DRAIN : EVENT_SITE,
               o->request.name, out ? "an operator takes it out: its roles are handed over first"
                                    : "an operator takes it back in", json_object());
}

static void on_drain(struct engine *e, struct order *o)
{
    struct tracked *t = wanted(e, o);
    if (!t)
        return;
    if (t->seen.kind == ORCH_WORKER)
        drain_worker(e, o, t);
    else if (t->seen.kind == ORCH_STORE)
        take_store(e, o, true);
    else
        refuse(e, o, 403, "%s is a front end: take it out of the routes that lead to it; `restart` starts it anew",
               t->seen.name);
}

static void on_start(struct engine *e, struct order *o)
{
    struct tracked *t = wanted(e, o);
    if (!t)
        return;
    if (t->seen.kind == ORCH_STORE)
        take_store(e, o, false);
    else
        refuse(e, o, 400, "%s is no store node; workers are started by scaling their group", t->seen.name);
}

static void on_kill(struct engine *e, struct order *o)
{
    struct tracked *t = wanted(e, o);
    if (!t || !orders_may_end(e, o, t, !o->request.force))
        return;
    if (carry_signal(e, t, EVENT_KILL, SIGKILL, o->request.force ? "an operator wants it, by force"
                                                                      : "an operator wants it"))
        refuse(e, o, 409, "%s is not running", t->seen.name);
    else
        done(e, o, "killed; it is started again");
}

static void on_restart(struct engine *e, struct order *o)
{
    struct tracked *t = wanted(e, o);
    if (!t || !orders_may_end(e, o, t, !o->request.force && t->seen.kind != ORCH_WORKER)) /* a worker goes when it may */
        return;
    if (o->request.force) {
        carry_signal(e, t, EVENT_STOP, SIGTERM, "an operator wants it started anew, by force");
        done(e, o, "told to end; it is started again");
    } else {
        t->seen.replace = true;
        done(e, o, t->seen.kind == ORCH_WORKER     ? "it is drained when another one serves in its place"
                   : t->seen.kind == ORCH_STEERING ? "it is told to end while another one serves, and started again"
                                                   : "it is told to end as soon as it leads nothing, and started again");
    }
}

static void on_hand_over(struct engine *e, struct order *o)
{
    uint32_t shard = o->request.shard;
    if (shard >= e->desired->site->store.shards) {
        refuse(e, o, 404, "there is no shard %u; this site has %u", shard, e->desired->site->store.shards);
        return;
    }
    if (!engine_sure(e)) {
        refuse(e, o, 503, NOT_SURE);
        return;
    }
    for (uint32_t i = 0; i < e->n; i++) {
        struct tracked *t = &e->at[i];
        if (t->seen.kind != ORCH_STORE || !t->seen.alive || !(t->seen.leads >> shard & 1))
            continue;
        if (t->seen.only_copy >> shard & 1)
            refuse(e, o, 403, "shard %u has no backup that could take over; wait until there is one", shard);
        else
            carry_hand_over(e, t->seen.name, shard, "an operator wants it", o);
        return;
    }
    refuse(e, o, 503, "who leads shard %u is not known now; ask again", shard);
}

/* The store's word. */
void orders_handed(struct engine *e, const char *result, const char *why)
{
    struct order *o = e->handing;
    e->handing = NULL;
    if (o && result)
        done(e, o, *result ? result : "taken; events tell how it goes");
    else if (o)
        refuse(e, o, 409, "not handed over: %s", why);
}

/* --- questions ------------------------------------------------------------------------------------------------ */

static void on_group(struct engine *e, struct order *o)
{
    char err[SENTENCE];
    const struct orch_group *g = desired_group(e->desired, o->request.name);
    struct orch_policy p = g ? g->autoscale : (struct orch_policy){0};
    if (!g)
        refuse(e, o, 404, "there is no group '%s'; `lethe status` (GET /v1/groups) tells which there are", o->request.name);
    else if (o->request.kind == REQUEST_GROUP)
        answer(e, o, 200, status_group(e, g));
    else if (o->request.policy && policy_from_json(o->request.policy, &p, err, sizeof err))
        refuse(e, o, 400, "%s", err);
    else
        answer(e, o, 200, status_plan(e, g, &p));
}

static void on_instance(struct engine *e, struct order *o)
{
    struct tracked *t = wanted(e, o);
    if (t)
        answer(e, o, 200, status_instance(e, t));
}

static void on_question(struct engine *e, struct order *o)
{
    switch (o->request.kind) {
    case REQUEST_STATUS: answer(e, o, 200, status_all(e)); break;
    case REQUEST_GROUPS: answer(e, o, 200, status_groups(e)); break;
    case REQUEST_INSTANCES: answer(e, o, 200, status_instances(e)); break;
    case REQUEST_SHARDS: answer(e, o, 200, status_shards(e)); break;
    case REQUEST_READY: answer(e, o, 200, json_pack("{s:b}", "ok", 1)); break;
    case REQUEST_SITE:
        answer(e, o, 200, json_pack("{s:I, s:s}", "revision", (json_int_t)e->desired->revision, "text",
                                    e->desired->text));
        break;
    default: refuse(e, o, 404, "there is no such path"); break;
    }
}

/* --- the queue --------------------------------------------------------------------------------------------------- */

static void (*handler_of(enum request_kind kind, bool *changes))(struct engine *, struct order *)
{
    static const struct {
        enum request_kind kind;
        bool changes;
        void (*handle)(struct engine *e, struct order *o);
    } handlers[] = {
        {REQUEST_SCALE, true, on_scale},     {REQUEST_POLICY, true, on_policy},
        {REQUEST_SITE_PUT, true, on_site_put}, {REQUEST_DOWN, true, on_down},
        {REQUEST_DRAIN, true, on_drain},     {REQUEST_START, true, on_start},
        {REQUEST_KILL, false, on_kill},      {REQUEST_RESTART, false, on_restart},
        {REQUEST_HAND_OVER, false, on_hand_over}, {REQUEST_GROUP, false, on_group},
        {REQUEST_PLAN, false, on_group},     {REQUEST_PLAN_WITH, false, on_group},
        {REQUEST_INSTANCE, false, on_instance}, {REQUEST_TRACE_ON, false, tracing_order},
        {REQUEST_TRACE, false, tracing_read},   {REQUEST_TABLES, false, tables_read},
    };
    for (size_t i = 0; i < sizeof handlers / sizeof handlers[0]; i++)
        if (handlers[i].kind == kind) {
            *changes = handlers[i].changes;
            return handlers[i].handle;
        }
    *changes = false;
    return on_question;
}

/* The first that can be handled now; NULL: none. */
static struct order *next_order(struct engine *e, void (**handle)(struct engine *, struct order *))
{
    pthread_mutex_lock(&e->lock);
    struct order **at = &e->first, *o;
    bool changes;
    for (; (o = *at); at = &o->next) {
        *handle = handler_of(o->request.kind, &changes);
        if (!(changes && e->change) && !(o->request.kind == REQUEST_HAND_OVER && e->handing) &&
            !platform_waits(e, o->request.kind))
            break;
    }
    if (o) {
        *at = o->next;
        if (!*at)
            e->last = at;
    }
    pthread_mutex_unlock(&e->lock);
    return o;
}

void orders_take(struct engine *e)
{
    void (*handle)(struct engine *, struct order *);
    struct order *o;
    while ((o = next_order(e, &handle))) {
        o->next = NULL;
        e->driver->ops->look(e->driver); /* who asks may know of a death already */
        gather(e);                       /* and the order before may have taken somebody away */
        if (!e->driver->ops->platform || !platform_order(e, o))
            handle(e, o);
    }
}
