/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Steering's metrics, made at the start and a worker's at its first join: the
 * datapath only adds. What the registry has no room for is counted out of sight.
 */
#include "steering/front/steer.h"

#include <errno.h>
#include <stdio.h>

#include "common/metrics/text.h"

static struct metric out_of_sight;

static struct metric *own(struct metric *m)
{
    return m != NULL ? m : &out_of_sight;
}

static void make_drops(struct steer *s)
{
    static const char *const reasons[] = {
#define X(name, text) [name] = "lethe_steer_drops_total{reason=\"" text "\"}",
        DROPS(X)
#undef X
    };
    for (int i = 0; i < DROP_END; i++)
        s->counts.drop[i] = own(metrics_counter(s->metrics, reasons[i], "packets dropped"));
}

static void make_releases(struct steer *s)
{
    static const char *const names[] = {
#define X(name, text) [name] = "lethe_steer_hold_releases_total{reason=\"" text "\"}",
        HOLD_REASONS(X)
#undef X
    };
    for (int i = 0; i < HOLD_REASON_END; i++)
        s->counts.release[i] = own(metrics_counter(
            s->metrics, names[i], "ends of a hold, of one old owner in a planned change"));
}

static void make_info(struct steer *s, struct worker *w)
{
    char name[128];
    snprintf(name, sizeof(name), "lethe_steer_worker_info{worker=\"%u\",name=\"%s\"}", w->number,
             w->name);
    if (w->info != NULL)
        metric_set(w->info, 0); /* its number had another name */
    w->info = metrics_gauge(s->metrics, name, "1: the number's present name");
    if (w->info != NULL)
        metric_set(w->info, 1);
}

void counts_worker(struct steer *s, struct worker *w)
{
    static const struct { const char *name, *labels; } made[] = {
#define X(id, text, tags) [id] = {text, tags},
        WORKER_COUNTS(X)
#undef X
    };
    make_info(s, w);
    if (w->count[0] != w->unregistered)
        return;
    for (int i = 0; i < W_END; i++) {
        char name[128];
        snprintf(name, sizeof(name), "lethe_steer_worker_%s{worker=\"%u\"%s%s}", made[i].name,
                 w->number, made[i].labels[0] != '\0' ? "," : "", made[i].labels);
        struct metric *m = i >= W_STATE
                               ? metrics_gauge(s->metrics, name, "of a worker, by number")
                               : metrics_counter(s->metrics, name, "of a worker, by number");
        if (m != NULL)
            w->count[i] = m;
    }
}

static void make_tunnel(struct steer *s, struct tunnel_by *by)
{
    static const struct { const char *name, *labels; } made[] = {
#define X(id, text, tags) [id] = {text, tags},
        BY_COUNTS(X)
#undef X
    };
    char iface[2 * UNDERLAY_IFACE_BYTES];
    text_label(iface, sizeof(iface), by->under.iface);
    for (int i = 0; i < BY_END; i++) {
        char name[128];
        snprintf(name, sizeof(name), "lethe_steer_tunnel_%s{interface=\"%s\"%s}", made[i].name, iface,
                 made[i].labels);
        by->count[i] = own(i >= BY_UP ? metrics_gauge(s->metrics, name, "of an interface of the tunnel")
                                      : metrics_counter(s->metrics, name, "of an interface of the tunnel"));
    }
}

int counts_create(struct steer *s)
{
    static const struct { const char *name, *help; } counts[] = {
#define X(id, text, about) [id] = {text, about},
        COUNTS(X)
#undef X
    }, gauges[] = {
#define X(id, text, about) [id] = {text, about},
        GAUGES(X)
#undef X
    };
    s->metrics = metrics_create(s->name);
    if (s->metrics == NULL)
        return -ENOMEM;
    for (int i = 0; i < COUNT_END; i++)
        s->counts.count[i] = own(metrics_counter(s->metrics, counts[i].name, counts[i].help));
    for (int i = 0; i < GAUGE_END; i++)
        s->counts.gauge[i] = own(metrics_gauge(s->metrics, gauges[i].name, gauges[i].help));
    make_drops(s);
    make_releases(s);
    for (unsigned i = 0; i < s->tunnel.by_n; i++)
        make_tunnel(s, &s->tunnel.by[i]);
    for (unsigned i = 0; i < s->workers_max; i++)
        for (int c = 0; c < W_END; c++)
            s->worker[i].count[c] = &s->worker[i].unregistered[c];
    return 0;
}
