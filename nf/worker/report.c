/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a worker tells: metrics, copied from the loop's plain counters ten
 * times a second, and the verbs of its control socket.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nf/worker/worker.h"

enum { ROWS_MAX = 256, NAME_MAX_BYTES = 96, HISTOGRAMS = 4, STILL_US = 10 * 1000 * 1000 };

/* One published figure and where it comes from. */
struct row {
    char name[NAME_MAX_BYTES];
    struct metric *metric;
    uint64_t (*get)(const struct worker *w, int a, int b);
    int a, b;
};

struct report {
    int n;
    bool full;
    struct row rows[ROWS_MAX];
    struct metric_histogram *histogram[HISTOGRAMS];
    size_t histogram_at[HISTOGRAMS]; /* in struct engine_stats */
};

typedef uint64_t (*getter)(const struct worker *w, int a, int b);

/* --- figures ------------------------------------------------------------------------- */

static uint64_t forwarded(const struct side *s)
{
    return s->n.tx > s->n.probes ? s->n.tx - s->n.probes : 0;
}
static uint64_t get_rx(const struct worker *w, int a, int b)
{
    return w->side[0].n.rx + w->side[1].n.rx;
}
static uint64_t get_tx(const struct worker *w, int a, int b)
{
    return forwarded(&w->side[0]) + forwarded(&w->side[1]);
}
static uint64_t get_side_rx(const struct worker *w, int side, int b)
{
    return w->side[side].n.rx;
}
static uint64_t get_side_tx(const struct worker *w, int side, int b)
{
    return forwarded(&w->side[side]);
}
static uint64_t get_side_up(const struct worker *w, int side, int b)
{
    return w->side[side].up;
}
static uint64_t get_drop(const struct worker *w, int reason, int b)
{
    return engine_drops(w->engine, reason);
}
static uint64_t get_side_drop(const struct worker *w, int offset, int b)
{
    uint64_t v[2];
    for (int i = 0; i < 2; i++)
        memcpy(&v[i], (const char *)&w->side[i].n + offset, sizeof v[i]);
    return v[0] + v[1];
}
static uint64_t get_tunnel_drop(const struct worker *w, int offset, int b)
{
    uint64_t v;
    memcpy(&v, (const char *)tunnel_counts(w->tunnel) + offset, sizeof v);
    return v;
}
static uint64_t get_nf(const struct worker *w, int nf, int counter)
{
    return engine_nf_count(w->engine, nf, counter);
}
static uint64_t get_engine(const struct worker *w, int offset, int b)
{
    uint64_t v;
    memcpy(&v, (const char *)engine_stats(w->engine) + offset, sizeof v);
    return v;
}
static uint64_t get_in_flight(const struct worker *w, int a, int b)
{
    return engine_in_flight(w->engine);
}
static uint64_t get_u32(const struct worker *w, int offset, int b)
{
    uint32_t v;
    memcpy(&v, (const char *)w + offset, sizeof v);
    return v;
}
static uint64_t get_u64(const struct worker *w, int offset, int b)
{
    uint64_t v;
    memcpy(&v, (const char *)w + offset, sizeof v);
    return v;
}
static uint64_t get_room(const struct worker *w, int a, int b)
{
    return w->packets_max;
}
static uint64_t get_state(const struct worker *w, int a, int b)
{
    return w->state;
}
static uint64_t get_best_effort(const struct worker *w, int a, int b)
{
    return state_lacks(w->store)[0] != NULL;
}
static uint64_t get_client(const struct worker *w, int offset, int b)
{
    uint64_t v; /* the loop wrote it itself */
    memcpy(&v, (const char *)&w->public.store + offset, sizeof v);
    return v;
}
static uint64_t get_joined(const struct worker *w, int a, int b)
{
    return w->joined || !w->steered;
}
static uint64_t get_one_sided(const struct worker *w, int outcome, int b)
{
    return w->public.store.one_sided[outcome]; /* the loop's own: it writes it */
}
static uint64_t get_store_well(const struct worker *w, int a, int b)
{
    return w->store_well;
}
static uint64_t get_store_lost(const struct worker *w, int a, int b)
{
    return w->store_lost;
}

/* --- rows ------------------------------------------------------------------------------- */

static void row_add(struct worker *w, bool gauge, const char *name, const char *help, getter get,
                    int a, int b)
{
    struct report *r = w->report;
    if (r->n == ROWS_MAX) {
        r->full = true;
        return;
    }
    struct row *row = &r->rows[r->n];
    snprintf(row->name, sizeof row->name, "%s", name);
    row->metric = gauge ? metrics_gauge(w->metrics, row->name, help)
                        : metrics_counter(w->metrics, row->name, help);
    row->get = get;
    row->a = a;
    row->b = b;
    if (row->metric)
        r->n++;
    else
        r->full = true;
}

static void labelled(struct worker *w, bool gauge, const char *name, const char *label,
                     const char *value, const char *help, getter get, int a, int b)
{
    char full[NAME_MAX_BYTES];
    snprintf(full, sizeof full, "%s{%s=\"%s\"}", name, label, value);
    row_add(w, gauge, full, help, get, a, b);
}

static void rows_sides(struct worker *w)
{
    static const char *const names[] = {[SIDE_INSIDE] = "inside", [SIDE_OUTSIDE] = "outside"};
    row_add(w, false, "lethe_worker_rx_packets_total", "packets received", get_rx, 0, 0);
    row_add(w, false, "lethe_worker_tx_packets_total", "packets sent on", get_tx, 0, 0);
    for (int i = 0; i < 2; i++) {
        labelled(w, false, "lethe_worker_side_rx_packets_total", "side", names[i],
                 "packets received", get_side_rx, i, 0);
        labelled(w, false, "lethe_worker_side_tx_packets_total", "side", names[i],
                 "packets sent on", get_side_tx, i, 0);
        labelled(w, true, "lethe_worker_side_up", "side", names[i], "link is up", get_side_up, i,
                 0);
    }
}

static void rows_drops(struct worker *w)
{
    static const struct {
        const char *reason;
        size_t offset;
    } side_drops[] = {
        {"tx_full", offsetof(struct side_counts, tx_full)},
        {"link_down", offsetof(struct side_counts, link_down)},
        {"segmented", offsetof(struct side_counts, segmented)},
        {"away", offsetof(struct side_counts, away)},
        {"bad_probe", offsetof(struct side_counts, bad_probe)},
        {"probe_withheld", offsetof(struct side_counts, probes_withheld)},
    };
    static const struct {
        const char *reason;
        size_t offset;
    } tunnel_drops[] = {
#define X(name, text) {text, offsetof(struct tunnel_counts, name)},
        TUNNEL_DROPS(X)
#undef X
    };
    for (size_t i = 0; w->tunnel && i < sizeof tunnel_drops / sizeof *tunnel_drops; i++)
        labelled(w, false, "lethe_worker_drops_total", "reason", tunnel_drops[i].reason,
                 "packets dropped", get_tunnel_drop, (int)tunnel_drops[i].offset, 0);
    for (int i = 0; i < engine_reasons(w->engine); i++)
        if (i != ENGINE_DROP_END + PACKET_OK)
            labelled(w, false, "lethe_worker_drops_total", "reason",
                     engine_reason_text(w->engine, i), "packets dropped", get_drop, i, 0);
    for (size_t i = 0; i < sizeof side_drops / sizeof *side_drops; i++)
        labelled(w, false, "lethe_worker_drops_total", "reason", side_drops[i].reason,
                 "packets dropped", get_side_drop, (int)side_drops[i].offset, 0);
}

static void rows_nfs(struct worker *w)
{
    char name[NAME_MAX_BYTES];
    for (int i = 0; i < w->chain.n; i++) {
        const struct nf_ops *ops = w->chain.nf[i]->ops;
        for (int k = 0; ops->counter_names && ops->counter_names[k]; k++) {
            snprintf(name, sizeof name, "lethe_nf_%s_%s_total", ops->name, ops->counter_names[k]);
            row_add(w, false, name, "counted by the network function", get_nf, i, k);
        }
    }
}

static void rows_engine(struct worker *w)
{
    static const struct {
        const char *name, *help;
        size_t offset;
    } rows[] = {
        {"lethe_worker_runs_total", "runs processed", offsetof(struct engine_stats, runs)},
        {"lethe_worker_run_packets_total", "packets in them",
         offsetof(struct engine_stats, run_packets)},
        {"lethe_worker_lookups_total", "look-up txns", offsetof(struct engine_stats, lookups)},
        {"lethe_worker_commits_total", "commit txns", offsetof(struct engine_stats, commits)},
        {"lethe_worker_adds_total", "add txns", offsetof(struct engine_stats, adds)},
        {"lethe_worker_adds_refused_total", "adds the store refused",
         offsetof(struct engine_stats, adds_refused)},
        {"lethe_worker_conflicts_total", "commits that met a change of another worker",
         offsetof(struct engine_stats, conflicts)},
        {"lethe_worker_rounds_total", "further look-up rounds",
         offsetof(struct engine_stats, rounds)},
        {"lethe_worker_events_total", "expiries that NFs were told of",
         offsetof(struct engine_stats, events)},
        {"lethe_worker_late_replies_total", "answers after their packets had been dropped",
         offsetof(struct engine_stats, late_replies)},
        {"lethe_worker_untaken_total", "packets past an NF that does not take their IP version",
         offsetof(struct engine_stats, untaken)},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        row_add(w, false, rows[i].name, rows[i].help, get_engine, (int)rows[i].offset, 0);
}

/* Gets that could have been one-sided: how many were, and why the others not. */
static void rows_one_sided(struct worker *w)
{
    static const struct {
        const char *word, *help;
    } outcomes[] = {
#define X(name, word, text) {word, text},
        READ_OUTCOMES(X)
#undef X
    };
    for (int i = 0; i < READ_OUTCOMES_END && w->chain.site->worker.one_sided_count; i++)
        labelled(w, false, "lethe_worker_one_sided_gets_total", "outcome", outcomes[i].word,
                 outcomes[i].help, get_one_sided, i, 0);
}

static void rows_worker(struct worker *w)
{
    row_add(w, true, "lethe_worker_in_flight", "packets held", get_in_flight, 0, 0);
    row_add(w, true, "lethe_worker_in_flight_max", "packets it may hold", get_room, 0, 0);
    row_add(w, true, "lethe_worker_busy_permille", "share of time with something to do", get_u32,
            offsetof(struct worker, busy_permille), 0);
    row_add(w, true, "lethe_worker_store_rtt_us", "mean round trip of look-ups", get_u32,
            offsetof(struct worker, rtt_us), 0);
    row_add(w, true, "lethe_worker_state",
            "0 waiting for the store, 1 serving, 2 leaving, 3 finishing", get_state, 0, 0);
    row_add(w, true, "lethe_worker_store_well", "the store is reached", get_store_well, 0, 0);
    row_add(w, false, "lethe_worker_store_lost_total", "times that it was not any more",
            get_store_lost, 0, 0);
    row_add(w, true, "lethe_worker_joined", "both links to steering are up, or there is none",
            get_joined, 0, 0);
    row_add(w, false, "lethe_worker_store_retries_total", "txns sent again", get_client,
            offsetof(struct lethe_status, retries), 0);
    row_add(w, false, "lethe_worker_store_reconnects_total", "connections to the store made again",
            get_client, offsetof(struct lethe_status, reconnects), 0);
    row_add(w, false, "lethe_worker_store_moved_total",
            "txns that went to another shard than was thought", get_client,
            offsetof(struct lethe_status, moved), 0);
    row_add(w, false, "lethe_worker_client_leases_total", "times it got a client id", get_client,
            offsetof(struct lethe_status, leases), 0);
    row_add(w, true, "lethe_worker_best_effort",
            "1: the state is where acknowledged commits may be lost", get_best_effort, 0, 0);
    row_add(w, false, "lethe_worker_absences_total", "times the loop was away too long", get_u64,
            offsetof(struct worker, absences), 0);
    row_add(w, false, "lethe_worker_sleeps_total", "times the loop slept", get_u64,
            offsetof(struct worker, sleeps), 0);
}

static void histograms(struct worker *w)
{
    static const struct { const char *name, *help; size_t at; int first, last; } rows[HISTOGRAMS] = {
        {"lethe_worker_store_round_trip_us", "from a look-up's txn to its answer",
         offsetof(struct engine_stats, rtt_us), 4, 21},
        {"lethe_worker_commit_us", "from a run's first conditional update to its last answer",
         offsetof(struct engine_stats, commit_us), 4, 21},
        {"lethe_worker_packet_held_us", "from a packet's arrival to its leaving",
         offsetof(struct engine_stats, held_us), 4, 21},
        {"lethe_worker_run_size_packets", "packets of one flow processed on one look-up",
         offsetof(struct engine_stats, run_len), 0, 8},
    };
    for (int i = 0; i < HISTOGRAMS; i++) {
        w->report->histogram_at[i] = rows[i].at;
        w->report->histogram[i] = metrics_histogram(w->metrics, rows[i].name, rows[i].help,
                                                    rows[i].first, rows[i].last);
        w->report->full |= !w->report->histogram[i];
    }
}

int report_create(struct worker *w)
{
    w->report = calloc(1, sizeof *w->report);
    if (!w->report)
        return -ENOMEM;
    rows_worker(w);
    rows_sides(w);
    rows_nfs(w);
    rows_engine(w);
    rows_drops(w);
    rows_one_sided(w);
    histograms(w);
    return w->report->full ? -ENOSPC : 0;
}

void report_publish(struct worker *w)
{
    struct report *r = w->report;
    for (int i = 0; i < r->n; i++)
        metric_set(r->rows[i].metric, r->rows[i].get(w, r->rows[i].a, r->rows[i].b));
    for (int i = 0; i < HISTOGRAMS; i++)
        metric_histogram_set(r->histogram[i],
                             (const struct histogram *)((const char *)engine_stats(w->engine) +
                                                        r->histogram_at[i]));
}

void report_destroy(struct worker *w)
{
    free(w->report);
    w->report = NULL;
}

/* --- probes: the thread of HTTP --------------------------------------------------------------- */

static struct worker_public public_of(struct worker *w)
{
    pthread_mutex_lock(&w->public.lock);
    struct worker_public p = w->public;
    pthread_mutex_unlock(&w->public.lock);
    return p;
}

void report_healthy(void *ctx, char *why, uint32_t len)
{
    struct worker *w = ctx;
    struct worker_public p = public_of(w);
    uint64_t now_us = loop_now_us();
    if (p.tended_us && now_us > p.tended_us + STILL_US)
        snprintf(why, len, "the datapath has stood still for %lu s",
                 (unsigned long)((now_us - p.tended_us) / 1000000));
}

void report_ready(void *ctx, char *why, uint32_t len)
{
    struct worker *w = ctx;
    struct worker_public p = public_of(w);
    report_healthy(ctx, why, len);
    if (*why)
        return;
    if (p.state == WORKER_WAITING)
        snprintf(why, len, "the store has not been reached yet: %s", p.store.trouble);
    else if (p.state != WORKER_SERVING)
        snprintf(why, len, "draining");
    else if (!p.store_well)
        snprintf(why, len, "the store is out of reach: %s", p.store.trouble);
    else if (w->steered && !p.joined)
        snprintf(why, len, "the links to steering are down");
}

/* --- verbs: control thread ------------------------------------------------------------------ */

/* Where the state is, and what that place does not give; both never change. */
static void say_backend(const struct worker *w, json_t *o)
{
    json_t *lacks = json_array();
    for (const char *const *lack = state_lacks(w->store); *lack; lack++)
        json_array_append_new(lacks, json_string(*lack));
    json_object_set_new(o, "state_by", json_string(state_kind(w->store)));
    json_object_set_new(o, "best_effort", json_boolean(json_array_size(lacks) != 0));
    json_object_set_new(o, "lacks", lacks);
}

static void say_status(struct worker *w, char *reply, uint32_t room)
{
    static const char *const states[] = {"waiting", "serving", "leaving", "finishing", "done"};
    struct worker_public p = public_of(w);
    const char *trouble = p.store.fatal[0] ? p.store.fatal : p.store.trouble;
    json_t *o =
        json_pack("{s:s, s:b, s:b, s:i, s:s, s:i, s:I, s:I}", "state", states[p.state], "steered",
                  w->steered, "links_up", p.joined, "worker", (int)p.number, "store_trouble",
                  trouble, "store_in_flight", (int)p.store.in_flight, "store_retries",
                  (json_int_t)p.store.retries, "store_reconnects", (json_int_t)p.store.reconnects);
    if (o)
        say_backend(w, o);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    snprintf(reply, room, "%s", text ? text : "{\"error\": \"out of memory\"}");
    free(text);
    json_decref(o);
}

void report_control(void *ctx, int argc, char **argv, char *reply, uint32_t room)
{
    struct worker *w = ctx;
    if (!strcmp(argv[0], "status")) {
        say_status(w, reply, room);
    } else if (!strcmp(argv[0], "trace")) {
        trace_verb(w->trace, argc, argv, reply, room);
    } else if (!strcmp(argv[0], "drain")) {
        w->drain_cause = "ordered";
        w->drain = true;
        snprintf(reply, room, "{\"ok\": true, \"state\": \"draining\"}");
    } else {
        snprintf(reply, room,
                 "{\"error\": \"unknown request; a worker answers stats, status, trace, drain\"}");
    }
}
