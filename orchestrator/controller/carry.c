/* SPDX-License-Identifier: BSD-3-Clause */
/* Carrying out what was decided: starts, drains, signals, hand-overs, scaling; and what becomes of the
 * programs. Each is an event with its cause. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log/log.h"
#include "orchestrator/controller/ask.h"
#include "orchestrator/controller/engine_impl.h"
#include "orchestrator/controller/programs.h"

/* --- the programs' file --------------------------------------------------------------------------- */

void carry_site(struct engine *e)
{
    char tmp[240];
    if (e->driver && e->driver->ops->platform) {
        platform_site(e);
        return;
    }
    const char *text = e->desired->text;
    size_t n = strlen(text);
    snprintf(tmp, sizeof tmp, "%s.new", e->site_path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool ok = fd >= 0 && write(fd, text, n) == (ssize_t)n;
    if (fd >= 0)
        close(fd);
    if (!ok || rename(tmp, e->site_path))
        events_add(e->events, EVENT_ERROR, "site", 0, NULL, "%s cannot be written: %s; programs that are "
                   "started read what it was", e->site_path, strerror(errno));
}

/* --- beginnings ------------------------------------------------------------------------------------- */

void carry_begins(struct engine *e, struct tracked *t, const struct driver_process *p)
{
    char path[120];
    t->process = *p;
    t->seen.alive = true;
    t->seen.ready = t->seen.leaving = t->seen.replace = t->was_ready = t->dying = false;
    t->unproven = t->leaving_said = false;
    t->seen.config = p->config;
    t->seen.started_ms = engine_now(e) - p->age_ms;
    t->seen.told_ms = t->seen.again_ms = 0;
    t->leave_event = 0;
    t->left[0] = 0;
    engine_socket(e, t->seen.name, t->seen.kind, path, sizeof path);
    observer_watch(e->observer, t->seen.name, t->seen.kind, e->driver->ops->platform ? p->address : path);
}

void carry_adopt(struct engine *e, const struct driver_process *p)
{
    struct tracked *t = engine_track(e, p->name, p->kind);
    if (!t)
        return;
    carry_begins(e, t, p);
    t->start_event = events_add(e->events, EVENT_ADOPT, p->name, 0,
                                json_pack("{s:i, s:I}", "pid", p->pid, "age_ms", (json_int_t)p->age_ms),
                                "it lives since an earlier controller started it");
}

/* It could not even be started, or one that we do not know of lives. */
static void start_failed(struct engine *e, struct tracked *t, int rc, const char *err)
{
    struct driver_process living[ORCH_INSTANCES];
    for (uint32_t i = 0, n = e->driver->ops->list(e->driver, living, ORCH_INSTANCES); rc == -EEXIST && i < n; i++)
        if (!strcmp(living[i].name, t->seen.name)) {
            carry_adopt(e, &living[i]);
            return;
        }
    t->seen.failures++;
    t->seen.ended_ms = engine_now(e);
    t->end_event = events_add(e->events, EVENT_ERROR, t->seen.name, t->end_event,
                              json_pack("{s:I}", "again_in_ms", (json_int_t)orch_backoff_ms(t->seen.failures)),
                              "%s", err);
}

void carry_start(struct engine *e, const struct orch_action *a)
{
    struct tracked *t = engine_track(e, a->name, a->kind);
    const struct orch_group *g = a->kind == ORCH_WORKER ? &e->desired->groups[a->group] : NULL;
    char program[300], err[400], weight[16];
    struct driver_process p;
    if (!t)
        return;
    static const char *const named[] = {
        [ORCH_STORE] = "--node", [ORCH_STEERING] = "--name", [ORCH_WORKER] = "--worker"};
    const char *argv[10] = {program, "-c", e->site_path, named[a->kind], a->name};
    int n = 5;
    if (g && g->front) { /* else the first: a group's own program may be older than this option */
        argv[n++] = "--front";
        argv[n++] = site_front(e->desired->site, g->front).name;
    }
    if (g && g->weight != ORCH_WEIGHT) { /* likewise */
        snprintf(weight, sizeof weight, "%u", g->weight);
        argv[n++] = "--weight";
        argv[n++] = weight;
    }
    program_path(e->programs, a->kind, g ? g->program : "", program, sizeof program);
    struct driver_spec s = {.name = a->name, .kind = a->kind, .argv = argv,
                            .config = desired_config(e->desired, a->kind, g),
                            .memory_mb = g ? g->memory_mb : 0, .nice = g ? g->nice : 0};
    int rc = e->driver->ops->start(e->driver, &s, &p, err, sizeof err);
    if (rc) {
        start_failed(e, t, rc, err);
        return;
    }
    bool again = t->seen.ended_ms != 0;
    p.age_ms = 0;
    t->restarts += again;
    carry_begins(e, t, &p);
    t->start_event = events_add(e->events, EVENT_START, a->name, again ? t->end_event : 0,
                                json_pack("{s:i, s:s, s:I}", "pid", p.pid, "program", program, "restarts",
                                          (json_int_t)t->restarts), "%s", a->why);
}

/* --- ends ------------------------------------------------------------------------------------------------ */

static void say_end(struct engine *e, const struct driver_end *end, const char *name, bool asked, char *to, uint32_t room)
{
    char log[120] = "its log";
    if (*end->how)
        snprintf(to, room, "%.165s%s", end->how, asked || !end->proven ? "" : "; nobody here asked for that");
    else if (!end->status_known)
        snprintf(to, room, "it is dead; how it ended is not known, for an earlier controller had started it");
    else if (end->signal)
        snprintf(to, room, "killed by signal %d (%s)%s", end->signal, strsignal(end->signal),
                 asked ? "" : ", which this controller did not send");
    else if (end->exit_status) {
        e->driver->ops->log(e->driver, name, log, sizeof log);
        snprintf(to, room, "it ended by itself with status %d; %s says why", end->exit_status, log);
    } else
        snprintf(to, room, "it ended in good order%s", asked ? "" : ", though nobody asked for that here");
}

static void remember_end(struct engine *e, struct tracked *t, const struct driver_end *end, bool asked)
{
    uint64_t now_ms = engine_now(e);
    t->unasked_ends += !asked;
    bool sound = now_ms - t->seen.started_ms >= ORCH_SOUND_MS;
    t->last_exit.there = true;
    t->last_exit.known = end->status_known;
    t->last_exit.status = end->exit_status;
    t->last_exit.signal = end->signal;
    events_time(t->last_exit.time);
    say_end(e, end, t->seen.name, asked, t->last_exit.cause, sizeof t->last_exit.cause);
    t->seen.failures = asked ? 0 : sound ? 1 : t->seen.failures + 1;
    t->seen.alive = t->seen.ready = t->seen.leaving = t->seen.replace = t->was_ready = t->dying = false;
    t->seen.leads = t->seen.only_copy = 0;
    t->seen.told_ms = t->seen.again_ms = 0;
    t->seen.ended_ms = now_ms;
}

void carry_ended(void *engine, const struct driver_end *end)
{
    struct engine *e = engine;
    bool platform = e->driver->ops->platform, proven = end->proven || !platform;
    struct tracked *t = platform ? engine_track(e, end->process.name, end->process.kind)
                                 : engine_find(e, end->process.name);
    if (!t)
        return;
    if (platform && t->seen.alive && t->process.start != end->process.start) { /* of one that another has replaced */
        events_add(e->events, proven ? EVENT_EXIT : EVENT_GONE, t->seen.name, 0,
                   json_pack("{s:b, s:s}", "proven", proven, "node", end->process.node), "an earlier one: %s", end->how);
        return;
    }
    bool asked = t->seen.told_ms || t->dying, drained = t->seen.leaving && t->seen.kind == ORCH_WORKER;
    char log[300];
    remember_end(e, t, end, asked);
    e->driver->ops->log(e->driver, t->seen.name, log, sizeof log);
    t->end_event = events_add(
        e->events, proven ? EVENT_EXIT : EVENT_GONE, t->seen.name, t->leave_event,
        json_pack("{s:i, s:b, s:o, s:o, s:I, s:s, s:b}", "pid", end->process.pid, "proven", proven, "exit_status",
                  end->status_known && !end->signal ? json_integer(end->exit_status) : json_null(), "signal",
                  end->status_known ? json_integer(end->signal) : json_null(), "lived_ms",
                  (json_int_t)end->process.age_ms, "log", log, "asked", asked),
        "%s", t->last_exit.cause);
    if (drained && proven)
        events_add(e->events, EVENT_DRAIN, t->seen.name, t->end_event, NULL, "nothing is left: it is drained");
    observer_forget(e->observer, t->seen.name);
    if (!proven) /* nothing rests on it any more; it is shown as unknown until something is */
        t->seen.alive = t->dying = t->unproven = true;
    if (!asked && t->seen.failures > 1 && !platform)
        events_add(e->events, EVENT_RESTART, t->seen.name, t->end_event,
                   json_pack("{s:I, s:i}", "in_ms", (json_int_t)orch_backoff_ms(t->seen.failures), "failures",
                             (int)t->seen.failures),
                   "it ended %u times without living a minute: it is started again in %lu ms",
                   t->seen.failures, orch_backoff_ms(t->seen.failures));
    t->leave_event = 0;
    engine_soon(e);
}

/* --- orders to programs -------------------------------------------------------------------------------------- */

int carry_signal(struct engine *e, struct tracked *t, enum event_kind kind, int number, const char *why)
{
    uint64_t now_ms = engine_now(e);
    int rc = e->driver->ops->signal(e->driver, t->seen.name, number);
    bool again = t->seen.told_ms && kind != EVENT_KILL;
    t->dying |= !rc && number == SIGKILL;
    if (rc || again) {
        t->seen.again_ms = now_ms;
        return rc;
    }
    t->leave_event = events_add(e->events, kind, t->seen.name, t->leave_event,
                                json_pack("{s:i, s:i}", "pid", t->process.pid, "signal", number), "%s", why);
    if (kind != EVENT_KILL) {
        t->seen.told_ms = now_ms;
        t->seen.leaving = true;
    }
    t->seen.again_ms = now_ms;
    t->left_said_ms = now_ms;
    return 0;
}

struct hand_over { struct engine *e; char node[ORCH_NAME]; uint32_t shard; uint64_t event; bool answers; };

static void handed_over(void *ctx, const json_t *answer, uint64_t sent_ms, const char *why)
{
    struct hand_over *h = ctx;
    char subject[24];
    (void)sent_ms;
    snprintf(subject, sizeof subject, "shard %u", h->shard);
    if (!answer)
        events_add(h->e->events, EVENT_ERROR, subject, h->event, NULL, "%s did not take the order to hand it "
                   "over: %s", h->node, why);
    if (h->answers)
        orders_handed(h->e, answer ? gather_text(answer, "result") : NULL, why);
    free(h);
}

void carry_hand_over(struct engine *e, const char *node, uint32_t shard, const char *why, struct order *order)
{
    struct hand_over *h = calloc(1, sizeof *h);
    struct tracked *t = engine_find(e, node);
    char path[120], request[40], subject[24];
    e->handing = order ? order : e->handing;
    if (!h) {
        orders_handed(e, NULL, "out of memory");
        return;
    }
    *h = (struct hand_over){.e = e, .shard = shard, .answers = order};
    snprintf(h->node, sizeof h->node, "%s", node);
    snprintf(subject, sizeof subject, "shard %u", shard);
    uint64_t event = h->event = events_add(e->events, EVENT_MOVE, subject, 0, json_pack("{s:s}", "from", node),
                          "%s hands it over: %s", node, why);
    engine_socket(e, node, ORCH_STORE, path, sizeof path);
    snprintf(request, sizeof request, "hand-over %u", shard);
    if (!ask_start(&e->loop, path, request, POLL_TIMEOUT_MS, handed_over, h))
        handed_over(h, NULL, 0, "out of memory");
    if (t)
        t->seen.again_ms = engine_now(e);
    e->shards[shard].move_event = event;
}

void carry_out(struct engine *e, const struct orch_action *a)
{
    struct tracked *t = engine_find(e, a->name);
    if (a->verb == ORCH_START) {
        carry_start(e, a);
        return;
    }
    if (!t)
        return;
    switch (a->verb) {
    case ORCH_DRAIN:
        carry_signal(e, t, EVENT_DRAIN, SIGTERM, a->why);
        break;
    case ORCH_TERMINATE:
        carry_signal(e, t, EVENT_STOP, SIGTERM, a->why);
        break;
    case ORCH_KILL:
        carry_signal(e, t, EVENT_KILL, SIGKILL, a->why);
        break;
    case ORCH_HAND_OVER:
        carry_hand_over(e, a->name, a->shard, a->why, NULL);
        break;
    case ORCH_START:
        break;
    }
}

/* --- scaling by itself ------------------------------------------------------------------------------------------ */

/* One step is under way at most: the next one sees what came of it. */
static void scale_by_itself(struct engine *e, const struct orch_group *g, const struct orch_decision *d, json_t *detail)
{
    char err[ORCH_WHY];
    if (e->driver->ops->platform) { /* written only if nobody else has changed it meanwhile */
        if (platform_may_scale(e, g->name, d->replicas, err, sizeof err))
            json_decref(detail);
        else
            platform_scale(e, NULL, g->name, g->replicas, d->replicas, EVENT_AUTOSCALE, d->why, detail);
        return;
    }
    struct orch_desired *to = desired_copy(e->desired);
    int rc = to ? desired_scale(to, g->name, d->replicas, err, sizeof err) : -ENOMEM;
    if (!rc) {
        orders_begin(e, to, NULL, EVENT_AUTOSCALE, g->name, d->why, detail);
        return;
    }
    desired_free(to); /* the site has no room: it is said by the dry run */
    json_decref(detail);
}

void carry_autoscale(struct engine *e)
{
    for (uint32_t i = 0; i < e->desired->ngroups; i++) {
        struct orch_group g = e->desired->groups[i];
        struct orch_decision d;
        struct orch_load load;
        uint64_t asked_ms;
        if (e->driver->ops->platform && (!platform_count(e, g.name, &g.replicas, &asked_ms) || !e->platform.known))
            continue;
        gather_load(e, &e->desired->groups[i], &load);
        orch_autoscale(&e->scalers[i], &g, &load, engine_now(e), &d);
        if (d.change && !e->change && !e->asking && !e->desired->down && engine_sure(e))
            scale_by_itself(e, &g, &d, json_pack("{s:i, s:i, s:i, s:i, s:i}", "from", g.replicas, "to", d.replicas,
                                                 "busy_permille", load.busy_permille, "queue_most", load.queue_most,
                                                 "drops_pps", load.drops_pps));
    }
}
