/* SPDX-License-Identifier: BSD-3-Clause */
/* What ails the site now, and since when. Found anew in each turn; what is not found any more is gone. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "orchestrator/controller/engine_impl.h"

enum { POD_PATIENCE_MS = 30 * 1000 }; /* an image may have to be fetched */

static const struct { const char *text; bool critical; } kinds[] = {
#define X(id, text, critical) [ALERT_##id] = {text, critical},
    ALERT_KINDS(X)
#undef X
};

static void alert(struct engine *e, enum alert_kind kind, const char *subject, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static void alert(struct engine *e, enum alert_kind kind, const char *subject, const char *format, ...)
{
    struct alert *a = NULL;
    va_list args;
    for (uint32_t i = 0; i < e->nalerts && !a; i++)
        if (e->alerts[i].kind == kind && !strcmp(e->alerts[i].subject, subject))
            a = &e->alerts[i];
    if (!a && e->nalerts == ALERTS_MAX)
        return;
    if (!a) {
        a = &e->alerts[e->nalerts++];
        *a = (struct alert){.kind = kind, .since_ms = engine_now(e)};
        snprintf(a->subject, sizeof a->subject, "%s", subject);
    }
    a->seen = true;
    va_start(args, format);
    vsnprintf(a->text, sizeof a->text, format, args);
    va_end(args);
}

static void of_shards(struct engine *e)
{
    char subject[24];
    for (uint32_t s = 0; s < e->desired->site->store.shards && e->desired->site->store.nodes_count; s++) {
        bool led = false, few = e->shards[s].have == 1;
        for (uint32_t i = 0; i < e->n; i++)
            led |= e->at[i].seen.alive && e->at[i].seen.leads >> s & 1;
        snprintf(subject, sizeof subject, "shard %u", s);
        if (e->shards[s].copies == COPIES_LOST && !led)
            alert(e, ALERT_LOST, subject, "no caught-up member is left; see LOST in docs/store.md");
        else if (!led)
            alert(e, ALERT_NO_PRIMARY, subject, "nobody is heard to lead it");
        else if (few)
            alert(e, ALERT_ONE_COPY, subject, "it has one copy; one more death loses it");
        else if (e->shards[s].copies == COPIES_ONE)
            alert(e, ALERT_ONE_COPY, subject, "it has fewer copies than wanted");
    }
}

static uint32_t ready_workers(struct engine *e, uint32_t front)
{
    const struct reading *table = gather_table(e, front);
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->n; i++) {
        const struct orch_instance *s = &e->at[i].seen;
        bool serves = s->kind == ORCH_WORKER && s->alive && s->ready;
        n += serves && (s->front == front || /* by tunnel it is in all their tables */
                        json_is_true(json_object_get(gather_row(table, s->name), "in_table")));
    }
    return n;
}

/* Without any it is the site that does not serve; without one of several, the others do. */
static void of_fronts(struct engine *e, uint32_t workers)
{
    const struct site *s = e->desired->site;
    uint32_t fronts = site_fronts(s), running = 0;
    bool runs[ORCH_FRONTS] = {0};
    for (uint32_t i = 0; i < fronts; i++) {
        const struct tracked *t = engine_find(e, site_front(s, i).name);
        runs[i] = t && t->seen.alive && t->seen.ready;
        running += runs[i];
    }
    if (fronts && !running)
        alert(e, ALERT_NO_STEERING, "site", "no steering is known to run");
    for (uint32_t i = 0; i < fronts && running; i++) {
        const char *name = site_front(s, i).name;
        if (!runs[i])
            alert(e, ALERT_FRONT_END, name, "front end %s is not known to run; routers are to spare it", name);
        else if (workers && !ready_workers(e, i))
            alert(e, ALERT_FRONT_END, name, "front end %s has no worker that serves; routers are to spare it", name);
    }
}

static void of_programs(struct engine *e)
{
    uint32_t workers = 0;
    for (uint32_t i = 0; i < e->n; i++) {
        const struct tracked *t = &e->at[i];
        const char *state = status_state(e, t);
        workers += t->seen.kind == ORCH_WORKER && t->seen.alive && t->seen.ready;
        if (t->seen.alive && t->other_site)
            alert(e, ALERT_OTHER_SITE, t->seen.name, "what answers there is a store of another site: same address, same name? "
                  "Nothing that it says counts");
        if (!strcmp(state, "silent"))
            alert(e, ALERT_SILENT, t->seen.name, e->driver->ops->platform ? "its container runs and does not answer"
                                                                          : "its process lives and does not answer");
        if (t->seen.failures > 1 && status_shown(e, t) && !t->seen.ready)
            alert(e, ALERT_RESTARTING, t->seen.name, "it ended %u times without living a minute%s%s", t->seen.failures,
                  t->last_exit.there ? ": " : "", t->last_exit.there ? t->last_exit.cause : "");
        if (t->seen.alive && t->seen.kind != ORCH_WORKER && status_outdated(e, t))
            alert(e, ALERT_OUTDATED, t->seen.name, "it runs with an earlier configuration; restart it");
    }
    if (!workers)
        alert(e, ALERT_NO_WORKER, "site", "no worker is known to serve");
    of_fronts(e, workers);
}

/* Images that are nowhere, secrets and volumes that are missing, no node with room: nobody else says it here. */
static void of_pods(struct engine *e)
{
    for (uint32_t i = 0; i < e->n; i++) {
        const struct tracked *t = &e->at[i];
        if (t->waits_since_ms && engine_now(e) - t->waits_since_ms > POD_PATIENCE_MS && t->seen.failures < 2)
            alert(e, ALERT_PLATFORM, t->seen.name, "its pod does not begin%s%.40s; `kubectl describe pod %s` says what it waits for",
                  *t->process.note ? ": " : "", t->process.note, t->seen.name);
    }
}

static void of_platform(struct engine *e)
{
    const struct platform *p = &e->platform;
    uint32_t replicas;
    uint64_t asked_ms;
    if (p->away)
        alert(e, ALERT_PLATFORM, "platform", "what it runs and wants is not known: %.100s", p->state.why);
    for (uint32_t i = 0; i < p->nhosts; i++)
        if (!p->hosts[i].ready)
            alert(e, ALERT_PLATFORM, p->hosts[i].name, "the node is not ready, and has programs of this site");
    for (uint32_t g = 0; g < e->desired->ngroups && p->known; g++)
        if (!platform_count(e, e->desired->groups[g].name, &replicas, &asked_ms) && asked_ms)
            alert(e, ALERT_PLATFORM, e->desired->groups[g].name, "there is no Deployment of that name and label app");
    if (p->known)
        of_pods(e);
}

void alerts_update(struct engine *e)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < e->nalerts; i++)
        e->alerts[i].seen = false;
    if (!e->desired->down) {
        of_shards(e);
        of_programs(e);
    }
    if (e->driver->ops->platform)
        of_platform(e);
    if (e->etcd_away)
        alert(e, ALERT_ETCD_AWAY, "etcd", "it does not answer: what runs goes on, changes of view and of the desired "
              "state wait");
    for (uint32_t i = 0; i < e->nalerts; i++)
        if (e->alerts[i].seen)
            e->alerts[kept++] = e->alerts[i];
    e->nalerts = kept;
}

json_t *alerts_json(struct engine *e)
{
    json_t *all = json_array();
    for (uint32_t i = 0; i < e->nalerts; i++) {
        const struct alert *a = &e->alerts[i];
        json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:s, s:I}", "kind", kinds[a->kind].text, "severity",
                                             kinds[a->kind].critical ? "critical" : "warning", "subject", a->subject,
                                             "text", a->text, "since_ms",
                                             (json_int_t)(engine_now(e) - a->since_ms)));
    }
    return all;
}

void alerts_count(const struct engine *e, uint32_t *critical, uint32_t *warning)
{
    for (uint32_t i = 0; i < e->nalerts; i++)
        ++*(kinds[e->alerts[i].kind].critical ? critical : warning);
}
