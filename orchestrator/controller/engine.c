/* SPDX-License-Identifier: BSD-3-Clause */
/* The engine's life and turns (engine.h). */
#include "orchestrator/controller/engine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log/log.h"
#include "orchestrator/controller/engine_impl.h"
#include "orchestrator/driver/kubernetes.h"
#include "orchestrator/driver/process.h"

/* --- programs that are tracked ------------------------------------------------------------------ */

uint64_t engine_now(struct engine *e)
{
    uv_update_time(&e->loop);
    return uv_now(&e->loop);
}

struct tracked *engine_find(struct engine *e, const char *name)
{
    for (uint32_t i = 0; i < e->n; i++)
        if (!strcmp(e->at[i].seen.name, name))
            return &e->at[i];
    return NULL;
}

/* Somebody dead for long, whom the platform tells of no more, makes room; NULL: none has. */
static struct tracked *reuse(struct engine *e)
{
    struct tracked *oldest = NULL;
    for (uint32_t i = 0; i < e->n; i++)
        if (!e->at[i].seen.alive && !e->at[i].listed && (!oldest || e->at[i].seen.ended_ms < oldest->seen.ended_ms))
            oldest = &e->at[i];
    return oldest;
}

struct tracked *engine_track(struct engine *e, const char *name, enum orch_kind kind)
{
    struct tracked *t = engine_find(e, name);
    if (t)
        return t;
    t = e->n < ORCH_INSTANCES ? &e->at[e->n++] : reuse(e);
    if (!t)
        return NULL;
    memset(t, 0, sizeof *t);
    snprintf(t->seen.name, sizeof t->seen.name, "%s", name);
    t->seen.kind = kind;
    return t;
}

const struct orch_group *engine_group(const struct engine *e, const struct tracked *t)
{
    if (t->seen.kind != ORCH_WORKER)
        return NULL;
    return e->driver && e->driver->ops->platform ? desired_group(e->desired, t->process.group)
                                                 : desired_group_of(e->desired, t->seen.name);
}

void engine_socket(const struct engine *e, const char *name, enum orch_kind kind, char *to,
                   uint32_t room)
{
    const struct site *s = e->desired->site;
    int front = kind == ORCH_STEERING ? site_front_named(s, name) : -1;
    if (front >= 0)
        snprintf(to, room, "%s", site_front(s, (unsigned)front).control);
    else
        snprintf(to, room, "%s/%s.sock", s->run_dir, name);
}

/* --- news of keep ------------------------------------------------------------------------------------ */

static void news_of_etcd(struct engine *e)
{
    bool away = e->kept.etcd && e->kept.away_since_ms;
    if (away == e->etcd_away)
        return;
    e->etcd_away = away;
    e->etcd_event = events_add(e->events, EVENT_ETCD, "etcd", away ? 0 : e->etcd_event,
                               json_pack("{s:s, s:b}", "endpoint", e->kept.endpoint, "reachable", !away),
                               away ? "it does not answer: %s; what runs goes on, changes wait"
                                    : "it answers%s", away ? e->kept.why : "");
}

static void news_of_desired(struct engine *e)
{
    struct orch_desired *d = NULL;
    while (keep_take(e->keep, &d)) {
        if (e->desired && d->revision <= e->desired->revision) {
            desired_free(d); /* our own change, heard back */
            continue;
        }
        bool ours = orders_heard(e, d->revision);
        if (e->desired && !ours)
            events_add(e->events, EVENT_SITE, "site", 0, json_pack("{s:I}", "revision", (json_int_t)d->revision),
                       "the desired state was changed elsewhere");
        desired_free(e->desired);
        e->desired = d;
        if (e->active)
            carry_site(e);
    }
}

/* Without it the site is kept all the same. */
static void start_report(struct engine *e)
{
    char path[200], err[300];
    snprintf(path, sizeof path, "%s/controller.metrics.sock", e->config.site->run_dir);
    if (report_start(&e->report, e->config.metrics ? e->config.metrics : path, err, sizeof err))
        log_warn("no metrics", "cause=\"%s\"", err);
}

/* An earlier controller that is stopped may hold the port until it goes on. */
static int listens(struct engine *e)
{
    int rc = e->listening ? 0 : e->config.active(e->config.ctx);
    e->listening = !rc;
    return rc == -EADDRINUSE ? 0 : rc;
}

static int become_active(struct engine *e)
{
    struct driver_process living[ORCH_INSTANCES];
    char err[400];
    int rc = e->config.service_account
                 ? kubernetes_driver_create(&e->driver, &e->loop, e->config.service_account, carry_ended, platform_news, e, err,
                                            sizeof err)
                 : process_driver_create(&e->driver, &e->loop, e->desired->site->run_dir, carry_ended, e, err, sizeof err);
    if (!rc) {
        e->observer = observer_create(&e->loop, POLL_MS, POLL_TIMEOUT_MS, engine_soon, e);
        rc = e->observer ? 0 : -ENOMEM;
    }
    if (rc) {
        log_error("cannot become active", "%s", err);
        return rc;
    }
    if (!e->report) /* there may be no address for two, so that a standby has none */
        start_report(e);
    e->active = true;
    e->active_ms = engine_now(e);
    events_add(e->events, EVENT_CONTROLLER, "controller", 0,
               json_pack("{s:i, s:s, s:I}", "pid", getpid(), "kept_in", e->kept.etcd ? "etcd" : "file",
                         "revision", (json_int_t)e->desired->revision),
               "this controller is the active one; the desired state is in %s",
               e->kept.etcd ? "etcd" : "a file of run_dir, for store.etcd is not there: one host keeps it");
    if (!e->config.service_account && strcmp(e->desired->text, e->config.text))
        log_warn("the kept site is another one than the file's", "file=%s revision=%lu what is kept stands; to take "
                 "the file: lethe up %s", e->config.file, e->desired->revision, e->config.file);
    carry_site(e);
    for (uint32_t i = 0, n = e->driver->ops->list(e->driver, living, ORCH_INSTANCES); i < n; i++)
        carry_adopt(e, &living[i]);
    return listens(e);
}

/* --- turns --------------------------------------------------------------------------------------------- */

static void finish(struct engine *e, enum engine_end end)
{
    e->end = end;
    uv_stop(&e->loop);
}

bool engine_sure(struct engine *e)
{
    keep_status(e->keep, &e->kept);
    return keep_clock_ms() < e->kept.sure_until_ms;
}

/* Only what takes nothing away goes on while it is not sure that we lead. */
static bool may(struct engine *e, const struct orch_action *a)
{
    return engine_sure(e) || a->verb == ORCH_START;
}

static void reconcile(struct engine *e)
{
    struct orch_action actions[ORCH_ACTIONS];
    uint64_t next_ms; /* a tick is soon enough */
    gather(e);
    if (e->driver->ops->platform)
        return; /* that does it */
    uint32_t n = orch_reconcile(e->desired, &e->observed, engine_now(e), actions, &next_ms);
    for (uint32_t i = 0; i < n; i++)
        if (may(e, &actions[i]))
            carry_out(e, &actions[i]);
}

static void tell_health(struct engine *e)
{
    struct engine_health h = {.turned_ms = keep_clock_ms(), .leads = e->active, .listens = e->listening,
                              .sure = keep_clock_ms() < e->kept.sure_until_ms,
                              .revision = e->desired ? e->desired->revision : 0};
    snprintf(h.leader, sizeof h.leader, "%s", e->kept.leader);
    if (!e->active)
        report_set(e->report, &(struct report_figures){.now_ms = uv_hrtime() / 1000000});
    pthread_mutex_lock(&e->lock);
    e->health = h;
    pthread_mutex_unlock(&e->lock);
}

void engine_health(struct engine *e, struct engine_health *out)
{
    pthread_mutex_lock(&e->lock);
    *out = e->health;
    pthread_mutex_unlock(&e->lock);
}

void engine_turn(struct engine *e)
{
    struct keep_view view;
    if (e->reconciling || e->end == ENGINE_LOST)
        return;
    e->reconciling = true;
    keep_status(e->keep, &e->kept);
    if (e->kept.role == KEEP_LOST && e->active) {
        log_warn("another controller leads", "leader=%s this one begins anew", e->kept.leader);
        finish(e, ENGINE_LOST);
    }
    news_of_desired(e);
    if (e->kept.role == KEEP_ACTIVE && e->desired && !e->active && become_active(e))
        finish(e, ENGINE_FAILED);
    if (e->active && e->end == ENGINE_STOPPED) {
        news_of_etcd(e);
        while (keep_next_view(e->keep, &view))
            gather_view(e, &view);
        gather(e);
        orders_changed(e);
        orders_take(e);
        carry_autoscale(e);
        reconcile(e);
        alerts_update(e);
        status_report(e);
    }
    e->reconciling = false;
    tell_health(e);
}

static void on_soon(uv_timer_t *timer)
{
    engine_turn(timer->data);
}

void engine_soon(void *engine)
{
    struct engine *e = engine;
    if (!uv_is_active((uv_handle_t *)&e->soon))
        uv_timer_start(&e->soon, on_soon, SOON_MS, 0);
}

static void on_wake(uv_async_t *async)
{
    engine_turn(async->data);
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct engine *e = signal->data;
    log_info("stopping", "signal=%d programs are left as they are", number);
    finish(e, ENGINE_STOPPED);
}

/* Children of an earlier life of this process, while nobody watches them. */
static void reap(struct engine *e)
{
    while (!e->active && waitpid(-1, NULL, WNOHANG) > 0)
        continue;
}

static void on_tick(uv_timer_t *timer)
{
    struct engine *e = timer->data;
    reap(e);
    if (e->active && e->end == ENGINE_STOPPED && listens(e))
        finish(e, ENGINE_FAILED);
    engine_turn(e);
}

static void keep_woke(void *ctx)
{
    uv_async_send(&((struct engine *)ctx)->wake);
}

enum engine_end engine_run(struct engine *e)
{
    uv_run(&e->loop, UV_RUN_DEFAULT);
    return e->end;
}

/* --- orders: the other threads' side ------------------------------------------------------------------------ */

static void order_drop(struct order *o)
{
    if (--o->refs)
        return;
    request_free(&o->request);
    json_decref(o->answer);
    free(o);
}

/* Nobody waits for it any more, so nobody is to carry it out. False: that began. */
static bool take_back(struct engine *e, struct order *o)
{
    struct order **at = &e->first;
    while (*at && *at != o)
        at = &(*at)->next;
    if (!*at)
        return false;
    *at = o->next;
    if (!*at)
        e->last = at;
    o->refs--; /* the queue's */
    return true;
}

json_t *engine_do(struct engine *e, struct request *r, int *status)
{
    struct order *o = calloc(1, sizeof *o);
    json_t *answer = NULL;
    struct timespec until;
    *status = 503;
    if (!o) {
        request_free(r);
        return json_pack("{s:s}", "error", "out of memory");
    }
    *o = (struct order){.request = *r, .refs = 2};
    *r = (struct request){0};
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += e->order_wait_ms / 1000;
    pthread_mutex_lock(&e->lock);
    if (!e->closed) {
        *e->last = o;
        e->last = &o->next;
        uv_async_send(&e->wake);
        while (!o->done && !pthread_cond_timedwait(&e->answered, &e->lock, &until))
            continue;
    } else {
        o->refs--; /* the engine's */
    }
    bool waits = !o->done && take_back(e, o);
    if (o->done) {
        *status = o->status;
        answer = o->answer;
        o->answer = NULL;
    }
    order_drop(o);
    pthread_mutex_unlock(&e->lock);
    if (answer)
        return answer;
    return json_pack("{s:s}", "error", waits ? "the controller did not come to it, and will not; ask again"
                                             : "it is not known what becomes of it; look at the events, and ask again");
}

void engine_close_orders(struct engine *e)
{
    collect_close(e);
    pthread_mutex_lock(&e->lock);
    e->closed = true;
    for (struct order *o = e->first, *next; o; o = next) {
        next = o->next;
        o->done = true;
        o->status = 503;
        order_drop(o);
    }
    e->first = NULL;
    e->last = &e->first;
    struct order **const begun[] = {e->change ? &e->change->order : NULL, &e->handing,
                                   e->asking ? &e->asking->order : NULL};
    for (size_t i = 0; i < sizeof begun / sizeof begun[0]; i++) {
        if (!begun[i] || !*begun[i])
            continue;
        (*begun[i])->done = true;
        (*begun[i])->status = 503;
        order_drop(*begun[i]);
        *begun[i] = NULL;
    }
    pthread_cond_broadcast(&e->answered);
    pthread_mutex_unlock(&e->lock);
}

struct events *engine_events(struct engine *e)
{
    return e->events;
}

const char *engine_programs(const struct engine *e)
{
    return e->programs;
}

/* --- life ------------------------------------------------------------------------------------------------------ */

static void set_names(struct engine *e)
{
    char host[24] = "";
    uint32_t life = 0;
    ssize_t n = readlink("/proc/self/exe", e->self, sizeof e->self - 1);
    gethostname(host, sizeof host - 1);
    if (getrandom(&life, sizeof life, 0) != sizeof life)
        life = (uint32_t)time(NULL);
    snprintf(e->id, sizeof e->id, "%s-%d-%08x", host, getpid(), life);
    e->self[n > 0 ? n : 0] = 0;
    const char *configured = e->config.programs ? e->config.programs : e->config.site->controller.programs;
    snprintf(e->programs, sizeof e->programs, "%s", configured ? configured : e->self);
    char *slash = configured ? NULL : strrchr(e->programs, '/');
    if (slash)
        *slash = 0;
    snprintf(e->site_path, sizeof e->site_path, "%s/site.yaml", e->config.site->run_dir);
}

static void set_up_loop(struct engine *e)
{
    pthread_condattr_t attr;
    uv_loop_init(&e->loop);
    uv_async_init(&e->loop, &e->wake, on_wake);
    uv_timer_init(&e->loop, &e->tick);
    uv_timer_init(&e->loop, &e->soon);
    uv_signal_init(&e->loop, &e->term);
    uv_signal_init(&e->loop, &e->interrupt);
    e->wake.data = e->tick.data = e->soon.data = e->term.data = e->interrupt.data = e;
    uv_timer_start(&e->tick, on_tick, 0, TICK_MS);
    uv_signal_start(&e->term, on_signal, SIGTERM);
    uv_signal_start(&e->interrupt, on_signal, SIGINT);
    pthread_mutex_init(&e->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&e->answered, &attr);
    pthread_condattr_destroy(&attr);
}

int engine_create(struct engine **out, const struct engine_config *config, char *err,
                  uint32_t err_len)
{
    struct engine *e = calloc(1, sizeof *e);
    if (!e)
        return -ENOMEM;
    e->config = *config;
    e->last = &e->first;
    e->order_wait_ms = ORDER_WAIT_MS;
    set_names(e);
    set_up_loop(e);
    e->events = events_create();
    struct keep_config k = {.site = config->site, .file = config->file, .text = config->text,
                            .wake = keep_woke, .ctx = e};
    snprintf(k.id, sizeof k.id, "%s", e->id);
    int rc = e->events ? keep_start(&e->keep, &k, err, err_len) : -ENOMEM;
    if (rc) {
        engine_destroy(e);
        return rc;
    }
    if (config->metrics)
        start_report(e);
    *out = e;
    return 0;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

void engine_destroy(struct engine *e)
{
    if (!e)
        return;
    uv_timer_stop(&e->tick); /* no more turns */
    uv_timer_stop(&e->soon);
    engine_close_orders(e);
    report_stop(e->report);
    keep_stop(e->keep);
    if (e->observer)
        observer_destroy(e->observer);
    if (e->driver)
        e->driver->ops->destroy(e->driver);
    platform_close(e);
    uv_run(&e->loop, UV_RUN_NOWAIT); /* what closes itself first */
    uv_walk(&e->loop, close_handle, NULL);
    uv_run(&e->loop, UV_RUN_DEFAULT);
    uv_loop_close(&e->loop);
    if (e->change) {
        desired_free(e->change->to);
        json_decref(e->change->detail);
        free(e->change);
    }
    desired_free(e->desired);
    events_destroy(e->events);
    pthread_cond_destroy(&e->answered);
    pthread_mutex_destroy(&e->lock);
    free(e);
}
