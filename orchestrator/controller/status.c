/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the API tells: JSON as openapi.json has it. Every block of figures has its age, counted from
 * when its question was sent; of a process that is dead there are no figures.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "orchestrator/controller/engine_impl.h"

static void put(json_t *o, const char *key, json_t *v)
{
    json_object_set_new(o, key, v ? v : json_null());
}

static void put_number(json_t *o, const char *key, int64_t v)
{
    json_object_set_new(o, key, json_integer(v));
}

static json_t *age_of(struct engine *e, uint64_t asked_ms)
{
    uint64_t now_ms = uv_now(&e->loop);
    return json_integer((json_int_t)(now_ms > asked_ms ? now_ms - asked_ms : 0));
}

/* Numbers of `from` under other names. */
struct field { const char *to, *from; };
static void copy_numbers(json_t *o, const json_t *from, const struct field *f, size_t n)
{
    for (size_t i = 0; i < n; i++)
        put_number(o, f[i].to, gather_number(from, f[i].from));
}
#define COPY(o, from, fields) copy_numbers(o, from, fields, sizeof fields / sizeof fields[0])

static const struct observed_program *known(struct engine *e, const struct tracked *t)
{
    return t->seen.alive && !t->other_site ? observer_get(e->observer, t->seen.name) : NULL;
}

/* --- a process ------------------------------------------------------------------------------------ */

bool status_outdated(struct engine *e, const struct tracked *t)
{
    const struct orch_group *g = engine_group(e, t);
    return t->seen.alive && t->seen.config &&
           t->seen.config != desired_config(e->desired, t->seen.kind, g);
}

static bool waits(struct engine *e, const struct tracked *t)
{
    const struct orch_group *g = engine_group(e, t);
    bool wanted = t->seen.kind != ORCH_WORKER ? !desired_is_stopped(e->desired, t->seen.name) : g && t->seen.failures;
    uint64_t due = t->seen.ended_ms + orch_backoff_ms(t->seen.failures) + TICK_MS;
    if (e->driver->ops->platform)
        return !t->seen.alive && t->process.waits;
    return !t->seen.alive && wanted && !e->desired->down &&
           (t->seen.kind != ORCH_WORKER || engine_now(e) < due);
}

/* One that does not answer: on a platform that is known to run it, or else nothing is known. */
static const char *silent(struct engine *e, const struct tracked *t)
{
    if (e->driver->ops->platform && (!e->platform.known || t->process.cut_off || !*t->process.address))
        return "unknown";
    return "silent";
}

const char *status_state(struct engine *e, const struct tracked *t)
{
    if (t->unproven)
        return "unknown";
    if (!t->seen.alive && t->process.waits)
        return t->last_exit.there ? "waiting" : "starting";
    if (!t->seen.alive && e->driver->ops->platform)
        return "ended";
    if (!t->seen.alive)
        return waits(e, t)                                                                         ? "waiting"
               : t->seen.kind == ORCH_STORE && desired_is_stopped(e->desired, t->seen.name) ? "stopped"
                                                                                             : "ended";
    if (t->seen.told_ms)
        return t->seen.kind == ORCH_WORKER ? "draining" : "stopping";
    if (t->other_site)
        return "other_site";
    if (!gather_stats(e, t->seen.name))
        return engine_now(e) - t->seen.started_ms > 2 * STALE_MS ? silent(e, t) : "starting";
    return t->seen.ready ? "ready" : "starting";
}

bool status_shown(struct engine *e, const struct tracked *t)
{
    return t->seen.alive || t->seen.kind != ORCH_WORKER || waits(e, t);
}

static json_t *last_exit(const struct tracked *t, const char *log)
{
    bool known_end = t->last_exit.known;
    if (!t->last_exit.there)
        return NULL;
    json_t *o = json_pack("{s:s, s:s, s:s}", "time", t->last_exit.time, "cause", t->last_exit.cause, "log", log);
    put(o, "exit_status", known_end && !t->last_exit.signal ? json_integer(t->last_exit.status) : NULL);
    put(o, "signal", known_end ? json_integer(t->last_exit.signal) : NULL);
    return o;
}

static json_t *draining(struct engine *e, const struct tracked *t)
{
    bool store = t->seen.kind == ORCH_STORE && t->seen.alive &&
                 (desired_is_stopped(e->desired, t->seen.name) || t->seen.replace);
    if (!t->seen.alive || (!t->seen.told_ms && !store))
        return NULL;
    const json_t *stats = gather_stats(e, t->seen.name);
    char left[160];
    json_t *o = json_object();
    if (t->seen.kind == ORCH_WORKER)
        snprintf(left, sizeof left, "%s", t->left[0] ? t->left : "it was told to leave");
    else if (t->seen.leads)
        snprintf(left, sizeof left, "leads %d shards", __builtin_popcount(t->seen.leads));
    else if (t->seen.told_ms)
        snprintf(left, sizeof left, "ends");
    else
        snprintf(left, sizeof left, "waits until every shard has its copies");
    put_number(o, "since_ms", t->seen.told_ms ? (int64_t)(engine_now(e) - t->seen.told_ms) : 0);
    put(o, "left", json_string(left));
    put(o, "packets", t->seen.kind == ORCH_WORKER && stats
                          ? json_integer(gather_number(stats, "lethe_worker_in_flight")) : NULL);
    put(o, "shards", t->seen.kind == ORCH_STORE && stats ? json_integer(__builtin_popcount(t->seen.leads)) : NULL);
    return o;
}

json_t *status_process(struct engine *e, const struct tracked *t)
{
    const struct orch_group *g = engine_group(e, t);
    char log[300];
    uint64_t now_ms = engine_now(e), due = t->seen.ended_ms + orch_backoff_ms(t->seen.failures);
    e->driver->ops->log(e->driver, t->seen.name, log, sizeof log);
    json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:b, s:s}", "name", t->seen.name, "kind", orch_kind_text(t->seen.kind),
                          "state", status_state(e, t), "restarts", (json_int_t)t->restarts, "outdated",
                          status_outdated(e, t), "log", log);
    put(o, "group", g ? json_string(g->name) : NULL);
    put(o, "node", *t->process.node ? json_string(t->process.node) : NULL);
    put(o, "note", *t->process.note ? json_string(t->process.note) : NULL);
    put(o, "pid", t->seen.alive && t->process.pid ? json_integer(t->process.pid) : NULL);
    put(o, "uptime_ms", t->seen.alive ? json_integer((json_int_t)(now_ms - t->seen.started_ms)) : NULL);
    put(o, "last_exit", last_exit(t, log));
    put(o, "restart_in_ms", waits(e, t) && !e->driver->ops->platform ? json_integer(due > now_ms ? (json_int_t)(due - now_ms) : 0) : NULL);
    put(o, "draining", draining(e, t));
    return o;
}

json_t *status_instances(struct engine *e)
{
    json_t *all = json_array();
    for (uint32_t i = 0; i < e->n; i++)
        json_array_append_new(all, status_process(e, &e->at[i]));
    return all;
}

json_t *status_instance(struct engine *e, const struct tracked *t)
{
    const struct observed_program *p = known(e, t);
    json_t *o = json_pack("{s:o}", "process", status_process(e, t));
    put(o, "age_ms", p && p->stats.now ? age_of(e, p->stats.now_ms) : NULL);
    put(o, "stats", p && p->stats.now ? json_deep_copy(p->stats.now) : NULL);
    return o;
}

/* --- workers ------------------------------------------------------------------------------------------ */

static void put_rates(json_t *o, const struct reading *r)
{
    uint64_t ms = r->before ? r->now_ms - r->before_ms : 0;
    int64_t packets = gather_rate(gather_figure(r->before, "lethe_worker_tx_packets_total"),
                                  gather_figure(r->now, "lethe_worker_tx_packets_total"), ms);
    int64_t drops = ms ? gather_rate(gather_drops(r->before, NULL), gather_drops(r->now, NULL), ms) : 0;
    put(o, "packets_per_s", ms ? json_integer(packets) : NULL);
    put(o, "drops_per_s", ms ? json_integer(drops) : NULL);
    put(o, "window_ms", ms ? json_integer((json_int_t)ms) : NULL);
}

static json_t *worker_figures(struct engine *e, const struct tracked *t)
{
    static const struct field fields[] = {
        {"busy_permille", "lethe_worker_busy_permille"}, {"in_flight", "lethe_worker_in_flight"},
        {"rx_packets", "lethe_worker_rx_packets_total"}, {"tx_packets", "lethe_worker_tx_packets_total"},
        {"store_rtt_us", "lethe_worker_store_rtt_us"}, {"uptime_ms", "uptime_ms"}};
    static const char *const states[] = {"waiting", "serving", "leaving", "finishing", "done"};
    const struct observed_program *p = known(e, t);
    if (!p || !p->stats.now)
        return NULL;
    int64_t state = gather_number(p->stats.now, "lethe_worker_state");
    json_t *o = json_object(), *drops = json_object();
    put(o, "age_ms", age_of(e, p->stats.now_ms));
    put(o, "state", json_string(states[state >= 0 && state < 5 ? state : 0]));
    COPY(o, p->stats.now, fields);
    put_rates(o, &p->stats);
    gather_drops(p->stats.now, drops);
    put(o, "drops", drops);
    put(o, "store_well", json_boolean(gather_number(p->stats.now, "lethe_worker_store_well")));
    return o;
}

static const struct field row_fields[] = {
    {"buckets", "buckets"}, {"packets_to", "packets_to"}, {"packets_from", "packets_from"},
    {"busy_permille", "busy_permille"}, {"in_flight", "in_flight"}, {"rtt_us", "rtt_us"}};

static void put_row(json_t *o, const json_t *row)
{
    put(o, "state", json_string(gather_text(row, "state")));
    put(o, "link", json_boolean(json_is_true(json_object_get(row, "link"))));
    put(o, "in_table", json_boolean(json_is_true(json_object_get(row, "in_table"))));
    COPY(o, row, row_fields);
}

static json_t *steering_row(struct engine *e, const struct tracked *t)
{
    const struct reading *table = t->seen.alive ? gather_table(e, t->seen.front) : NULL;
    const json_t *row = gather_row(table, t->seen.name);
    if (!row)
        return NULL;
    json_t *o = json_object();
    put(o, "age_ms", age_of(e, table->now_ms));
    put(o, "front", json_string(site_front(e->desired->site, t->seen.front).name));
    put_row(o, row);
    return o;
}

/* --- steering --------------------------------------------------------------------------------------------- */

static json_t *steering_workers(struct engine *e, const json_t *rows, uint64_t asked_ms)
{
    json_t *all = json_array();
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        json_t *o = json_pack("{s:s, s:o}", "name", gather_text(row, "name"), "age_ms", age_of(e, asked_ms));
        put_row(o, row);
        put_number(o, "bytes_to", gather_number(row, "bytes_to"));
        put_number(o, "bytes_from", gather_number(row, "bytes_from"));
        json_array_append_new(all, o);
    }
    return all;
}

static void put_steering(struct engine *e, const struct tracked *t, json_t *o)
{
    const struct observed_program *p = known(e, t);
    const json_t *rows = p && p->more.now ? json_object_get(p->more.now, "workers") : NULL;
    int64_t in_table = 0, buckets = 0;
    put(o, "workers", rows ? steering_workers(e, rows, p->more.now_ms) : NULL);
    if (!rows || !p->stats.now) {
        put(o, "figures", NULL);
        return;
    }
    for (size_t i = 0; i < json_array_size(rows); i++) {
        in_table += json_is_true(json_object_get(json_array_get(rows, i), "in_table"));
        buckets = gather_sum(buckets, gather_figure(json_array_get(rows, i), "buckets"));
    }
    uint64_t older = p->stats.now_ms < p->more.now_ms ? p->stats.now_ms : p->more.now_ms;
    put(o, "figures", json_pack("{s:o, s:I, s:b, s:I, s:I, s:I}", "age_ms", age_of(e, older), "uptime_ms",
                                (json_int_t)gather_number(p->stats.now, "uptime_ms"), "spray",
                                json_is_true(json_object_get(p->more.now, "spray")), "incarnation",
                                (json_int_t)gather_number(p->more.now, "incarnation"), "workers_in_table",
                                (json_int_t)in_table, "buckets", (json_int_t)buckets));
}

/* --- stores ------------------------------------------------------------------------------------------------- */

static json_t *store_figures(struct engine *e, const struct tracked *t)
{
    const struct observed_program *p = known(e, t);
    const json_t *rows = p ? json_object_get(p->stats.now, "shards") : NULL;
    const json_t *views = p ? json_object_get(p->stats.now, "views") : NULL;
    int64_t memory = 0, clients = 0, leads = 0, backs = 0;
    if (!p || !p->stats.now)
        return NULL;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        memory = gather_sum(memory, gather_figure(row, "memory_bytes"));
        clients = gather_sum(clients, gather_figure(row, "clients"));
        leads += !strcmp(gather_text(row, "role"), "primary");
        backs += !strcmp(gather_text(row, "role"), "backup");
    }
    return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:s}", "age_ms", age_of(e, p->stats.now_ms), "uptime_ms",
                     (json_int_t)gather_number(p->stats.now, "uptime_ms"), "memory_bytes", (json_int_t)memory, "clients",
                     (json_int_t)clients, "leads", (json_int_t)leads, "backs", (json_int_t)backs, "views",
                     gather_text(views, "kind"), "views_away_ms", (json_int_t)gather_number(views, "away_ms"), "trouble",
                     gather_text(views, "trouble"));
}

/* --- shards --------------------------------------------------------------------------------------------------- */

struct replica { const struct tracked *store; const json_t *row; uint64_t asked_ms; };

static uint32_t replicas_of(struct engine *e, uint32_t shard, struct replica to[ORCH_STORES], bool *all_fresh)
{
    uint32_t n = 0;
    *all_fresh = true;
    for (uint32_t i = 0; i < e->n && n < ORCH_STORES; i++) {
        const struct tracked *t = &e->at[i];
        if (t->seen.kind != ORCH_STORE || !t->seen.alive)
            continue;
        const struct observed_program *p = known(e, t);
        const json_t *row = p ? gather_shard(p->stats.now, shard) : NULL;
        *all_fresh &= row && gather_stats(e, t->seen.name);
        if (row)
            to[n++] = (struct replica){t, row, p->stats.now_ms};
    }
    return n;
}

static json_t *replica_json(struct engine *e, const struct replica *r)
{
    static const struct field fields[] = {
        {"epoch", "view_epoch"}, {"position", "position"}, {"commit", "commit"}, {"copies", "copies"},
        {"entries", "entries"}, {"pool_used", "pool_used"}, {"memory_bytes", "memory_bytes"},
        {"events_pending", "events_pending"}, {"waiting", "waiting"}};
    json_t *o = json_pack("{s:s, s:s, s:s, s:s}", "node", r->store->seen.name, "role", gather_text(r->row, "role"),
                          "digest", gather_text(r->row, "digest"), "why", gather_text(r->row, "trouble"));
    put(o, "age_ms", age_of(e, r->asked_ms));
    COPY(o, r->row, fields);
    return o;
}

/* Who leads by the newest view that anybody told; a deposed one may think so still. */
static const struct replica *leader_of(struct engine *e, uint32_t shard, const struct replica *r, uint32_t n)
{
    const struct replica *best = NULL;
    int64_t epoch = e->shards[shard].view_known ? (int64_t)e->shards[shard].epoch : 0;
    for (uint32_t i = 0; i < n; i++)
        if (!strcmp(gather_text(r[i].row, "role"), "primary") && gather_number(r[i].row, "view_epoch") >= epoch) {
            best = &r[i];
            epoch = gather_number(r[i].row, "view_epoch");
        }
    return best;
}

/* A digest is of a position; a role, of an epoch: rows of other epochs say nothing of this view. */
static json_t *backups_of(const struct replica *leader, const struct replica *r, uint32_t n, uint64_t *oldest_ms)
{
    json_t *all = json_array();
    for (uint32_t i = 0; leader && i < n; i++) {
        if (strcmp(gather_text(r[i].row, "role"), "backup") ||
            gather_number(r[i].row, "view_epoch") != gather_number(leader->row, "view_epoch"))
            continue;
        json_array_append_new(all, json_string(r[i].store->seen.name));
        *oldest_ms = r[i].asked_ms < *oldest_ms ? r[i].asked_ms : *oldest_ms;
    }
    return all;
}

/* Reads wait without leases, writes with too few copies. */
static bool answers(struct engine *e, const json_t *row)
{
    const json_t *lease = json_object_get(row, "lease_left_ms");
    return !*gather_text(row, "collecting") && !(json_is_integer(lease) && !json_integer_value(lease)) &&
           gather_number(row, "copies") >= e->desired->site->store.min_copies;
}

static json_t *shard_json(struct engine *e, uint32_t shard)
{
    struct replica r[ORCH_STORES];
    bool all_fresh, lost = false, serves = false;
    uint32_t n = replicas_of(e, shard, r, &all_fresh);
    const struct replica *leader = leader_of(e, shard, r, n);
    uint64_t oldest_ms = leader ? leader->asked_ms : UINT64_MAX;
    json_t *replicas = json_array();
    for (uint32_t i = 0; i < n; i++) {
        json_array_append_new(replicas, replica_json(e, &r[i]));
        lost |= !strcmp(gather_text(r[i].row, "role"), "lost");
        if (!leader && r[i].asked_ms < oldest_ms)
            oldest_ms = r[i].asked_ms; /* that there is none rests on all of them */
    }
    serves = leader && answers(e, leader->row);
    int64_t position = leader ? gather_figure(leader->row, "position") : 0;
    int64_t commit = leader ? gather_figure(leader->row, "commit") : 0;
    json_t *backups = backups_of(leader, r, n, &oldest_ms);
    json_t *o = json_pack("{s:i, s:s, s:o, s:i, s:o}", "shard", shard, "state",
                          serves                            ? "serving"
                          : lost                            ? "lost"
                          : leader || (n && all_fresh) ? "waiting"
                                                       : "unknown",
                          "backups", backups, "copies_wanted", (int)e->desired->site->store.copies, "replicas", replicas);
    put(o, "age_ms", oldest_ms != UINT64_MAX ? age_of(e, oldest_ms) : NULL);
    put(o, "primary", leader ? json_string(leader->store->seen.name) : NULL);
    put(o, "copies", leader ? json_integer(gather_number(leader->row, "copies")) : NULL);
    put(o, "epoch", leader ? json_integer(gather_number(leader->row, "view_epoch")) : NULL);
    put(o, "position", leader ? json_integer(position) : NULL);
    put(o, "commit", leader ? json_integer(commit) : NULL);
    put(o, "lag", leader ? json_integer(position > commit ? position - commit : 0) : NULL);
    put(o, "digest", leader ? json_string(gather_text(leader->row, "digest")) : NULL);
    return o;
}

json_t *status_shards(struct engine *e)
{
    json_t *all = json_array();
    for (uint32_t i = 0; i < e->desired->site->store.shards && e->desired->site->store.nodes_count; i++)
        json_array_append_new(all, shard_json(e, i));
    return all;
}

/* --- groups ----------------------------------------------------------------------------------------------------- */

/* The platform's count is the truth; old, it is none. */
static void put_replicas(struct engine *e, const struct orch_group *g, json_t *o)
{
    uint32_t replicas;
    uint64_t asked_ms;
    put(o, "replicas_age_ms", NULL);
    if (!e->driver->ops->platform)
        return;
    bool known = platform_count(e, g->name, &replicas, &asked_ms);
    put(o, "replicas", known ? json_integer(replicas) : NULL);
    put(o, "replicas_age_ms", known ? age_of(e, asked_ms) : NULL);
}

json_t *status_group(struct engine *e, const struct orch_group *g)
{
    int running = 0, ready = 0, outdated = 0;
    for (uint32_t i = 0; i < e->n; i++) {
        const struct tracked *t = &e->at[i];
        if (!t->seen.alive || t->unproven || engine_group(e, t) != g)
            continue;
        running++;
        ready += t->seen.ready && !t->seen.leaving;
        outdated += status_outdated(e, t);
    }
    const struct reading *table = e->observed.tables_known >> g->front & 1 ? gather_table(e, g->front) : NULL;
    json_t *o = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:s, s:i, s:i, s:o}", "name", g->name, "replicas", g->replicas,
                          "running", running, "outdated", outdated, "min", g->min, "max", g->max, "program", g->program,
                          "memory_mb", g->memory_mb, "nice", g->nice, "autoscale", policy_to_json(&g->autoscale));
    put_replicas(e, g, o);
    put(o, "front", site_fronts(e->desired->site) ? json_string(site_front(e->desired->site, g->front).name) : NULL);
    put(o, "ready", table ? json_integer(ready) : NULL);
    put(o, "age_ms", table ? age_of(e, table->now_ms) : NULL);
    return o;
}

json_t *status_groups(struct engine *e)
{
    json_t *all = json_array();
    for (uint32_t i = 0; i < e->desired->ngroups; i++)
        json_array_append_new(all, status_group(e, &e->desired->groups[i]));
    return all;
}

/* A dry run: on a copy of what is remembered, as if the policy were enabled. */
json_t *status_plan(struct engine *e, const struct orch_group *g, const struct orch_policy *with)
{
    struct orch_scaler scaler = e->scalers[g - e->desired->groups];
    struct orch_group as = *g;
    struct orch_load load;
    struct orch_decision d;
    uint64_t asked_ms;
    if (e->driver->ops->platform)
        platform_count(e, g->name, &as.replicas, &asked_ms);
    as.autoscale = *with;
    as.autoscale.enabled = true;
    gather_load(e, g, &load);
    orch_autoscale(&scaler, &as, &load, engine_now(e), &d);
    return json_pack("{s:s, s:i, s:i, s:b, s:s, s:o, s:{s:i, s:i, s:i, s:i, s:i}}", "group", g->name, "replicas",
                     as.replicas, "wanted", d.replicas, "change", d.change, "why", d.why, "policy", policy_to_json(with),
                     "load", "ready", load.ready, "known", load.known, "busy_permille", load.busy_permille, "queue_most",
                     load.queue_most, "drops_pps", load.drops_pps);
}

/* For the monitoring system. */
void status_report(struct engine *e)
{
    uint64_t now_ms = uv_hrtime() / 1000000, asked_ms;
    struct report_figures f = {.active = true, .now_ms = now_ms, .revision = e->desired->revision, .events = events_last(e->events),
                               .sure = keep_clock_ms() < e->kept.sure_until_ms, .listening = e->listening, .ngroups = e->desired->ngroups};
    if (e->kept.away_since_ms && now_ms > e->kept.away_since_ms)
        f.etcd_away_ms = now_ms - e->kept.away_since_ms;
    for (uint32_t g = 0; g < f.ngroups; g++) {
        snprintf(f.groups[g].name, sizeof f.groups[g].name, "%s", e->desired->groups[g].name);
        f.groups[g].replicas = e->desired->groups[g].replicas;
        if (e->driver->ops->platform)
            platform_count(e, f.groups[g].name, &f.groups[g].replicas, &asked_ms);
    }
    for (uint32_t i = 0; i < e->n; i++) {
        const struct tracked *t = &e->at[i];
        const struct orch_group *g = engine_group(e, t);
        f.kinds[t->seen.kind].alive += t->seen.alive && !t->unproven;
        f.kinds[t->seen.kind].ready += t->seen.alive && t->seen.ready;
        f.kinds[t->seen.kind].restarts += t->restarts;
        f.kinds[t->seen.kind].ends += t->unasked_ends;
        if (!g || !t->seen.alive || t->unproven)
            continue;
        f.groups[g - e->desired->groups].running++;
        f.groups[g - e->desired->groups].ready += t->seen.ready && !t->seen.leaving;
    }
    alerts_count(e, &f.alerts_critical, &f.alerts_warning);
    report_set(e->report, &f);
}

/* --- the whole ---------------------------------------------------------------------------------------------------- */

static json_t *etcd_json(struct engine *e)
{
    const struct keep_status *k = &e->kept;
    if (!k->etcd)
        return NULL;
    uint64_t now_ms = uv_hrtime() / 1000000;
    json_t *o = json_pack("{s:b, s:I, s:s, s:I, s:I, s:s}", "reachable", !k->away_since_ms, "away_ms",
                          (json_int_t)(k->away_since_ms && now_ms > k->away_since_ms ? now_ms - k->away_since_ms : 0),
                          "endpoint", k->endpoint, "requests", (json_int_t)k->requests, "failures",
                          (json_int_t)k->failures, "why", k->why);
    put(o, "age_ms", k->tried_ms ? json_integer((json_int_t)(now_ms - k->tried_ms)) : NULL);
    return o;
}

static json_t *site_json(struct engine *e)
{
    const struct site *s = e->desired->site;
    json_t *chain = json_array();
    for (unsigned i = 0; i < s->chain_count; i++)
        json_array_append_new(chain, json_string(s->chain[i]));
    return json_pack("{s:I, s:b, s:o, s:s, s:s, s:s, s:i, s:i, s:i}", "revision", (json_int_t)e->desired->revision, "down",
                     e->desired->down, "chain", chain, "run_dir", s->run_dir, "config", e->site_path, "kept_in",
                     e->kept.etcd ? "etcd" : "file", "failure_timeout_ms", s->failure_timeout_ms, "shards",
                     s->store.shards, "copies", s->store.copies);
}

json_t *status_all(struct engine *e)
{
    json_t *programs[] = {[ORCH_STORE] = json_array(), [ORCH_STEERING] = json_array(), [ORCH_WORKER] = json_array()};
    char now[32];
    events_time(now);
    for (uint32_t i = 0; i < e->n; i++) {
        const struct tracked *t = &e->at[i];
        if (!status_shown(e, t))
            continue;
        json_t *o = status_process(e, t);
        if (t->seen.kind == ORCH_WORKER) {
            put(o, "figures", worker_figures(e, t));
            put(o, "steering", steering_row(e, t));
        } else if (t->seen.kind == ORCH_STORE) {
            put(o, "figures", store_figures(e, t));
        } else {
            put_steering(e, t, o);
        }
        json_array_append_new(programs[t->seen.kind], o);
    }
    json_t *o = json_pack(
        "{s:s, s:i, s:{s:i, s:s, s:s, s:I, s:s}, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "now", now, "stale_after_ms",
        STALE_MS, "controller", "pid", getpid(), "version", LETHE_VERSION, "epoch", events_epoch(e->events), "active_ms",
        (json_int_t)(engine_now(e) - e->active_ms), "driver", e->driver->ops->name, "site", site_json(e), "groups",
        status_groups(e), "workers", programs[ORCH_WORKER], "steering", programs[ORCH_STEERING], "stores",
        programs[ORCH_STORE], "shards", status_shards(e), "alerts", alerts_json(e));
    if (o)
        put(o, "etcd", etcd_json(e));
    if (o)
        put(o, "platform", platform_json(e));
    return o;
}
