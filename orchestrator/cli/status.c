/* SPDX-License-Identifier: BSD-3-Clause */
/* status, and the tables that it consists of. A figure older than `stale_after_ms` is "unknown". */
#include <string.h>

#include "orchestrator/cli/cli.h"
#include "orchestrator/cli/commands.h"

static enum cli_colour of_state(const char *state)
{
    static const char *const good[] = {"ready", "serving", "healthy"};
    static const char *const bad[] = {"silent", "ended", "lost", "waiting", "other_site"};
    for (uint32_t i = 0; i < 3; i++)
        if (!strcmp(state, good[i]))
            return CLI_GOOD;
    for (uint32_t i = 0; i < 5; i++)
        if (!strcmp(state, bad[i]))
            return CLI_BAD;
    return CLI_CARE;
}

/* A number of a block of figures, or "unknown" if that is too old. */
static void figure(struct cli_table *t, const json_t *figures, double stale, const char *key,
                   const char *unit)
{
    double n = cli_number(figures, key, -1);
    if (!cli_fresh(figures, stale) || n < 0)
        cli_cell(t, CLI_CARE, "unknown");
    else
        cli_cell(t, CLI_PLAIN, "%s%s%s", cli_count(n), *unit == 'B' && n < 99999.5 ? " " : "", unit);
}

static void percent(struct cli_table *t, const json_t *figures, double stale)
{
    double n = cli_number(figures, "busy_permille", -1);
    if (!cli_fresh(figures, stale) || n < 0)
        cli_cell(t, CLI_CARE, "unknown");
    else
        cli_cell(t, n >= 900 ? CLI_CARE : CLI_PLAIN, "%.0f %%", n / 10);
}

static void age(struct cli_table *t, const json_t *figures, double stale)
{
    double ms = cli_number(figures, "age_ms", -1);
    if (ms < 0)
        cli_cell(t, CLI_CARE, "never");
    else
        cli_cell(t, ms > stale ? CLI_CARE : CLI_FAINT, "%s", cli_span(ms));
}

static void note(struct cli_table *t, const json_t *p)
{
    const json_t *draining = json_object_get(p, "draining"), *ended = json_object_get(p, "last_exit");
    double again = cli_number(p, "restart_in_ms", -1);
    double since = cli_number(draining, "since_ms", 0); /* it was told to end; 0: not yet */
    if (json_is_object(draining))
        cli_cell(t, CLI_CARE, since > 0 ? "draining for %s: %s" : "draining%s: %s", since > 0 ? cli_span(since) : "",
                 cli_text(draining, "left"));
    else if (again >= 0)
        cli_cell(t, CLI_BAD, "%s; again in %s", cli_text(ended, "cause"), cli_span(again));
    else if (json_is_true(json_object_get(p, "outdated")))
        cli_cell(t, CLI_CARE, "runs with an earlier configuration");
    else if (*cli_text(p, "note"))
        cli_cell(t, CLI_CARE, "%s", cli_text(p, "note"));
    else
        cli_cell(t, CLI_FAINT, "%s", "");
}

static void process(struct cli_table *t, const json_t *p)
{
    double up = cli_number(p, "uptime_ms", -1), restarts = cli_number(p, "restarts", 0);
    cli_cell(t, CLI_PLAIN, "%s", cli_text(p, "name"));
    cli_cell(t, of_state(cli_text(p, "state")), "%s", cli_text(p, "state"));
    cli_cell(t, CLI_PLAIN, "%s", up < 0 ? "-" : cli_span(up));
    cli_cell(t, restarts > 0 ? CLI_CARE : CLI_FAINT, "%.0f", restarts);
}

/* --- the parts ------------------------------------------------------------------------ */

static void show_groups(struct cli *cli, const json_t *status, double stale, FILE *to)
{
    static const char *const heads[] = {"GROUP", ">WANTED", ">RUNNING", ">READY", ">MIN", ">MAX",
                                        "AUTOSCALE", ">AGE"};
    struct cli_table *t = cli_table(heads, 8);
    const json_t *g;
    size_t i;
    json_array_foreach(json_object_get(status, "groups"), i, g) {
        const json_t *policy = json_object_get(g, "autoscale");
        double ready = cli_number(g, "ready", -1), wanted = cli_number(g, "replicas", -1);
        cli_cell(t, CLI_PLAIN, "%s", cli_text(g, "name"));
        if (wanted < 0)
            cli_cell(t, CLI_CARE, "unknown");
        else
            cli_cell(t, CLI_PLAIN, "%.0f", wanted);
        cli_cell(t, CLI_PLAIN, "%.0f", cli_number(g, "running", 0));
        if (ready < 0 || !cli_fresh(g, stale))
            cli_cell(t, CLI_CARE, "unknown");
        else
            cli_cell(t, ready == wanted ? CLI_GOOD : CLI_CARE, "%.0f", ready);
        cli_cell(t, CLI_PLAIN, "%.0f", cli_number(g, "min", 0));
        cli_cell(t, CLI_PLAIN, "%.0f", cli_number(g, "max", 0));
        if (json_is_true(json_object_get(policy, "enabled")))
            cli_cell(t, CLI_PLAIN, "busy %.0f-%.0f %%", cli_number(policy, "busy_low_permille", 0) / 10,
                     cli_number(policy, "busy_high_permille", 0) / 10);
        else
            cli_cell(t, CLI_FAINT, "off");
        age(t, g, stale);
    }
    cli_table_print(cli, t, to);
}

/* What there is to share at the front end that a worker joined. */
static double buckets_of(const json_t *status, const char *front)
{
    const json_t *s = cli_named(json_object_get(status, "steering"), front);
    return cli_number(json_object_get(s, "figures"), "buckets", 0);
}

static void show_workers(struct cli *cli, const json_t *status, double stale, FILE *to)
{
    static const char *const heads[] = {"WORKER", "STATE", ">UP", ">RESTARTS", ">BUSY", ">PACKETS/S",
                                        ">DROPS/S", ">HELD", ">STORE RTT", ">SHARE", ">AGE", ""};
    static const char *const with_front[] = {"WORKER", "STATE", ">UP", ">RESTARTS", ">BUSY", ">PACKETS/S",
                                             ">DROPS/S", ">HELD", ">STORE RTT", ">SHARE", "OF", ">AGE", ""};
    bool several = json_array_size(json_object_get(status, "steering")) > 1;
    const json_t *w;
    size_t i;
    struct cli_table *t = several ? cli_table(with_front, 13) : cli_table(heads, 12);
    json_array_foreach(json_object_get(status, "workers"), i, w) {
        const json_t *f = json_object_get(w, "figures"), *row = json_object_get(w, "steering");
        process(t, w);
        percent(t, f, stale);
        figure(t, f, stale, "packets_per_s", "");
        figure(t, f, stale, "drops_per_s", "");
        figure(t, f, stale, "in_flight", "");
        figure(t, f, stale, "store_rtt_us", " µs");
        const char *front = cli_text(row, "front");
        double buckets = buckets_of(status, front);
        if (cli_fresh(row, stale) && buckets > 0)
            cli_cell(t, CLI_PLAIN, "%.0f %%", 100 * cli_number(row, "buckets", 0) / buckets);
        else
            cli_cell(t, CLI_CARE, "unknown");
        if (several)
            cli_cell(t, CLI_PLAIN, "%s", cli_fresh(row, stale) ? front : "unknown");
        age(t, f, stale);
        note(t, w);
    }
    cli_table_print(cli, t, to);
}

static void show_others(struct cli *cli, const json_t *status, double stale, FILE *to)
{
    static const char *const heads[] = {"PROGRAM", "STATE", ">UP", ">RESTARTS", ">MEMORY", ">CLIENTS",
                                        ">LEADS", ">BACKS", ">AGE", ""};
    struct cli_table *t = cli_table(heads, 10);
    const json_t *p;
    size_t i;
    json_array_foreach(json_object_get(status, "steering"), i, p) {
        process(t, p);
        for (int k = 0; k < 4; k++)
            cli_cell(t, CLI_FAINT, "-");
        age(t, json_object_get(p, "figures"), stale);
        note(t, p);
    }
    json_array_foreach(json_object_get(status, "stores"), i, p) {
        const json_t *f = json_object_get(p, "figures");
        process(t, p);
        figure(t, f, stale, "memory_bytes", "B");
        figure(t, f, stale, "clients", "");
        figure(t, f, stale, "leads", "");
        figure(t, f, stale, "backs", "");
        age(t, f, stale);
        note(t, p);
    }
    cli_table_print(cli, t, to);
}

static void join_names(const json_t *names, char *to, size_t room)
{
    const json_t *n;
    size_t i, used = 0;
    *to = '\0';
    json_array_foreach(names, i, n)
        if (used < room)
            used += (size_t)snprintf(to + used, room - used, "%s%s", i ? ", " : "",
                                     json_string_value(n));
    if (!*to)
        snprintf(to, room, "none");
}

static void show_shards(struct cli *cli, const json_t *status, double stale, FILE *to)
{
    static const char *const heads[] = {">SHARD", "STATE", "PRIMARY", "BACKUPS", ">COPIES", ">EPOCH",
                                        ">POSITION", ">LAG", ">AGE"};
    struct cli_table *t = cli_table(heads, 9);
    const json_t *s;
    size_t i;
    json_array_foreach(json_object_get(status, "shards"), i, s) {
        bool fresh = cli_fresh(s, stale);
        double copies = cli_number(s, "copies", -1), wanted = cli_number(s, "copies_wanted", 0);
        char backups[256];
        join_names(json_object_get(s, "backups"), backups, sizeof backups);
        cli_cell(t, CLI_PLAIN, "%.0f", cli_number(s, "shard", 0));
        cli_cell(t, fresh ? of_state(cli_text(s, "state")) : CLI_CARE, "%s",
                 fresh ? cli_text(s, "state") : "unknown");
        cli_cell(t, fresh ? CLI_PLAIN : CLI_CARE, "%s",
                 !fresh ? "unknown" : *cli_text(s, "primary") ? cli_text(s, "primary") : "none");
        cli_cell(t, fresh ? CLI_PLAIN : CLI_CARE, "%s", fresh ? backups : "unknown");
        if (fresh && copies >= 0)
            cli_cell(t, copies < wanted ? CLI_BAD : CLI_GOOD, "%.0f of %.0f", copies, wanted);
        else
            cli_cell(t, CLI_CARE, "unknown");
        figure(t, s, stale, "epoch", "");
        figure(t, s, stale, "position", "");
        figure(t, s, stale, "lag", "");
        age(t, s, stale);
    }
    cli_table_print(cli, t, to);
}

static void show_alerts(struct cli *cli, const json_t *status, FILE *to)
{
    const json_t *a;
    size_t i;
    json_array_foreach(json_object_get(status, "alerts"), i, a) {
        bool critical = !strcmp(cli_text(a, "severity"), "critical");
        fprintf(to, "%s%-8s%s  %s: %s (%s, for %s)\n", cli_paint(cli, critical ? CLI_BAD : CLI_CARE),
                cli_text(a, "severity"), cli_paint(cli, CLI_PLAIN), cli_text(a, "subject"), cli_text(a, "text"),
                cli_text(a, "kind"), cli_span(cli_number(a, "since_ms", 0)));
    }
    if (!json_array_size(json_object_get(status, "alerts")))
        fprintf(to, "%sno alerts%s\n", cli_paint(cli, CLI_GOOD), cli_paint(cli, CLI_PLAIN));
}

static void show_top_line(struct cli *cli, const json_t *status, FILE *to)
{
    const json_t *site = json_object_get(status, "site"), *etcd = json_object_get(status, "etcd");
    const json_t *controller = json_object_get(status, "controller");
    char chain[256];
    join_names(json_object_get(site, "chain"), chain, sizeof chain);
    fprintf(to, "%schain%s %s   %srevision%s %.0f   %scontroller%s pid %.0f for %s   %setcd%s ",
            cli_paint(cli, CLI_FAINT), cli_paint(cli, CLI_PLAIN), chain, cli_paint(cli, CLI_FAINT),
            cli_paint(cli, CLI_PLAIN), cli_number(site, "revision", 0), cli_paint(cli, CLI_FAINT),
            cli_paint(cli, CLI_PLAIN), cli_number(controller, "pid", 0),
            cli_span(cli_number(controller, "active_ms", 0)), cli_paint(cli, CLI_FAINT),
            cli_paint(cli, CLI_PLAIN));
    if (!json_is_object(etcd))
        fputs("none", to);
    else if (json_is_true(json_object_get(etcd, "reachable")))
        fprintf(to, "%sanswers%s", cli_paint(cli, CLI_GOOD), cli_paint(cli, CLI_PLAIN));
    else
        fprintf(to, "%saway for %s%s", cli_paint(cli, CLI_BAD),
                cli_span(cli_number(etcd, "away_ms", 0)), cli_paint(cli, CLI_PLAIN));
    if (json_is_true(json_object_get(site, "down")))
        fprintf(to, "   %sDOWN, by order%s", cli_paint(cli, CLI_CARE), cli_paint(cli, CLI_PLAIN));
    fputc('\n', to);
}

/* Where one runs the programs: whether it is heard, and what ails its nodes. */
static void show_platform(const json_t *status, FILE *to)
{
    const json_t *p = json_object_get(status, "platform"), *n;
    size_t i;
    if (!json_is_object(p))
        return;
    fprintf(to, "%s: ", cli_text(p, "where"));
    if (json_is_true(json_object_get(p, "known")))
        fprintf(to, "as of %s ago", cli_span(cli_number(p, "age_ms", 0)));
    else
        fprintf(to, "NOT KNOWN: %s", cli_text(p, "why"));
    json_array_foreach(json_object_get(p, "nodes"), i, n)
        if (!json_is_true(json_object_get(n, "ready")) || json_is_true(json_object_get(n, "cordoned")))
            fprintf(to, "; node %s %s%s", cli_text(n, "name"), json_is_true(json_object_get(n, "ready")) ? "is ready" : "is NOT READY",
                    json_is_true(json_object_get(n, "cordoned")) ? ", cordoned" : "");
    fputc('\n', to);
}

void cli_show_status(struct cli *cli, const json_t *status, FILE *to)
{
    double stale = cli_number(status, "stale_after_ms", 0);
    show_top_line(cli, status, to);
    show_platform(status, to);
    fputc('\n', to);
    show_groups(cli, status, stale, to);
    fputc('\n', to);
    show_workers(cli, status, stale, to);
    fputc('\n', to);
    show_others(cli, status, stale, to);
    fputc('\n', to);
    show_shards(cli, status, stale, to);
    fputc('\n', to);
    show_alerts(cli, status, to);
}

/* --- well ------------------------------------------------------------------------------- */

/* A store node that an operator took out is as wished. */
static bool all_ready(const json_t *rows)
{
    const json_t *p;
    size_t i;
    json_array_foreach(rows, i, p)
        if (strcmp(cli_text(p, "state"), "ready") && strcmp(cli_text(p, "state"), "stopped"))
            return false;
    return true;
}

static bool alerts(const json_t *status, bool restarts_may_wait)
{
    const json_t *a;
    size_t i;
    json_array_foreach(json_object_get(status, "alerts"), i, a)
        if (!restarts_may_wait || strcmp(cli_text(a, "kind"), "outdated"))
            return true;
    return false;
}

bool cli_well(const json_t *status, bool restarts_may_wait)
{
    double stale = cli_number(status, "stale_after_ms", 0);
    const json_t *g, *s;
    size_t i;
    json_array_foreach(json_object_get(status, "groups"), i, g)
        if (!cli_fresh(g, stale) || cli_number(g, "ready", -1) != cli_number(g, "replicas", -2) ||
            cli_number(g, "outdated", 0) > 0)
            return false;
    json_array_foreach(json_object_get(status, "shards"), i, s)
        if (!cli_fresh(s, stale) || strcmp(cli_text(s, "state"), "serving") ||
            cli_number(s, "copies", 0) < cli_number(s, "copies_wanted", 0))
            return false;
    return !alerts(status, restarts_may_wait) &&
           all_ready(json_object_get(status, "workers")) &&
           all_ready(json_object_get(status, "steering")) &&
           all_ready(json_object_get(status, "stores"));
}

int cmd_status(struct cli *cli, int argc, char **argv)
{
    bool well = false;
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--well"))
            well = true;
        else
            return cli_say(CLI_USAGE, "status takes --well and nothing else, not '%s'", argv[i]);
    json_t *status;
    int error = cli_find(cli);
    if (!error)
        error = cli_get(cli, "/v1/status", &status);
    if (error)
        return error;
    int answer = well && !cli_well(status, false) ? CLI_NOT_YET : CLI_OK;
    if (cli->json)
        cli_json(cli, json_incref(status));
    else
        cli_show_status(cli, status, stdout);
    json_decref(status);
    return answer;
}
