/* SPDX-License-Identifier: BSD-3-Clause */
/* The controller's metrics (report.h). */
#include "orchestrator/controller/report.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/metrics/http.h"
#include "common/metrics/text.h"

enum { STILL_MS = 5000 };     /* a loop that did not turn for so long does not live */

struct report {
    struct metrics *metrics;
    struct metrics_http *http;
    pthread_mutex_t lock;
    struct report_figures f;
};

static struct report_figures copy_of(struct report *r)
{
    pthread_mutex_lock(&r->lock);
    struct report_figures f = r->f;
    pthread_mutex_unlock(&r->lock);
    return f;
}

static void collect_kinds(const struct report_figures *f, struct metrics_text *to)
{
    text_family(to, METRIC_GAUGE, "lethe_controller_instances", "processes that live");
    for (int k = 0; k < REPORT_KINDS; k++)
        text_sample(to, f->kinds[k].alive, "kind=\"%s\"", orch_kind_text((enum orch_kind)k));
    text_family(to, METRIC_GAUGE, "lethe_controller_instances_ready", "those that serve");
    for (int k = 0; k < REPORT_KINDS; k++)
        text_sample(to, f->kinds[k].ready, "kind=\"%s\"", orch_kind_text((enum orch_kind)k));
    text_family(to, METRIC_COUNTER, "lethe_controller_restarts_total", "processes started again");
    for (int k = 0; k < REPORT_KINDS; k++)
        text_sample(to, f->kinds[k].restarts, "kind=\"%s\"", orch_kind_text((enum orch_kind)k));
    text_family(to, METRIC_COUNTER, "lethe_controller_unasked_exits_total", "ends that nobody asked for");
    for (int k = 0; k < REPORT_KINDS; k++)
        text_sample(to, f->kinds[k].ends, "kind=\"%s\"", orch_kind_text((enum orch_kind)k));
}

static void collect(void *ctx, struct metrics_text *to)
{
    struct report_figures f = copy_of(ctx);
    text_family(to, METRIC_GAUGE, "lethe_controller_revision", "of the desired state");
    text_value(to, f.revision);
    text_family(to, METRIC_GAUGE, "lethe_controller_leads", "1: it leads for certain, and takes changes");
    text_value(to, f.sure);
    text_family(to, METRIC_GAUGE, "lethe_controller_listens", "0: it leads, and its address is held by another process");
    text_value(to, f.listening);
    text_family(to, METRIC_GAUGE, "lethe_controller_etcd_away_ms", "so long etcd has not answered");
    text_value(to, f.etcd_away_ms);
    text_family(to, METRIC_COUNTER, "lethe_controller_events_total", "events, by GET /v1/events");
    text_value(to, f.events);
    text_family(to, METRIC_GAUGE, "lethe_controller_alerts", "what ails the site, by GET /v1/status");
    text_sample(to, f.alerts_critical, "severity=\"critical\"");
    text_sample(to, f.alerts_warning, "severity=\"warning\"");
    text_family(to, METRIC_GAUGE, "lethe_controller_group_replicas", "workers wanted");
    for (uint32_t i = 0; i < f.ngroups; i++)
        text_sample(to, f.groups[i].replicas, "group=\"%s\"", f.groups[i].name);
    text_family(to, METRIC_GAUGE, "lethe_controller_group_running", "processes");
    for (uint32_t i = 0; i < f.ngroups; i++)
        text_sample(to, f.groups[i].running, "group=\"%s\"", f.groups[i].name);
    text_family(to, METRIC_GAUGE, "lethe_controller_group_ready", "workers in steering's table");
    for (uint32_t i = 0; i < f.ngroups; i++)
        text_sample(to, f.groups[i].ready, "group=\"%s\"", f.groups[i].name);
    collect_kinds(&f, to);
}

static void is_healthy(void *ctx, char *why, uint32_t len)
{
    struct report_figures f = copy_of(ctx);
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t now_ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    if (now_ms > f.now_ms + STILL_MS)
        snprintf(why, len, "its loop stands still for %lu ms", now_ms - f.now_ms);
}

static void is_ready(void *ctx, char *why, uint32_t len)
{
    struct report_figures f = copy_of(ctx);
    if (!f.active)
        snprintf(why, len, "it waits until it leads: another controller does, or etcd does not answer");
    else if (!f.sure)
        snprintf(why, len, "it takes no changes: etcd does not answer");
    else if (!f.listening)
        snprintf(why, len, "it leads and cannot be asked: another process listens at controller.listen");
}

int report_start(struct report **out, const char *address, char *err, uint32_t err_len)
{
    struct report *r = calloc(1, sizeof *r);
    struct timespec t;
    snprintf(err, err_len, "out of memory");
    if (!r)
        return -ENOMEM;
    pthread_mutex_init(&r->lock, NULL);
    clock_gettime(CLOCK_MONOTONIC, &t);
    r->f.now_ms = (uint64_t)t.tv_sec * 1000;
    r->metrics = metrics_create("controller");
    int rc = r->metrics ? 0 : -ENOMEM;
    if (!rc) {
        struct http_config c = {.metrics = r->metrics, .address = address, .healthy = is_healthy, .ready = is_ready,
                                .ctx = r};
        metrics_collector(r->metrics, collect, r);
        rc = metrics_http_start(&r->http, &c, err, err_len);
    }
    if (rc)
        report_stop(r);
    else
        *out = r;
    return rc;
}

void report_set(struct report *r, const struct report_figures *f)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->f = *f;
    pthread_mutex_unlock(&r->lock);
}

void report_stop(struct report *r)
{
    if (!r)
        return;
    metrics_http_stop(r->http);
    if (r->metrics)
        metrics_destroy(r->metrics);
    pthread_mutex_destroy(&r->lock);
    free(r);
}
