/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * state: the store's tables and entries. Which tables there are, with which schemas, the controller
 * says (GET /v1/tables); what their bytes mean, lethe-nf --explain; entries are read from the
 * store itself (state_store.h).
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "orchestrator/cli/commands.h"
#include "orchestrator/cli/state_store.h"
#include "orchestrator/cli/wait.h"

enum { LIMIT = 100, LIMIT_MAX = 100000, WATCHED_MAX = 200000, CELL = 600 };

struct looking {              /* at one table */
    struct cli *cli;
    struct view view;
    struct state_store *store;
    json_t *tables;           /* the controller's answer */
    const json_t *table;      /* ours of them */
    char file[512];
};

/* --- tables ------------------------------------------------------------------------------------ */

static void say_missing(const json_t *tables)
{
    size_t i;
    json_t *o;
    uint64_t leads = 0;
    json_array_foreach(json_object_get(tables, "missing"), i, o)
        fprintf(stderr, "lethe: no answer of %s: %s\n", cli_text(o, "name"), cli_text(o, "why"));
    json_array_foreach(json_object_get(tables, "leads"), i, o)
        leads |= 1ull << (unsigned)cli_number(o, "shard", 0);
    for (unsigned shard = 0; shard < (unsigned)cli_number(tables, "shards", 0); shard++)
        if (!(leads >> shard & 1))
            fprintf(stderr, "lethe: shard %u: no primary answered; what it holds is not counted\n", shard);
}

static double sum_of(const json_t *table, const char *key)
{
    double sum = 0;
    size_t i;
    json_t *o;
    json_array_foreach(json_object_get(table, "shards"), i, o)
        sum += cli_number(o, key, 0);
    return sum;
}

/* "0: 12, 1: 14" */
static const char *by_shard(const json_t *table)
{
    static char text[400];
    size_t i, used = 0;
    json_t *o;
    *text = '\0';
    json_array_foreach(json_object_get(table, "shards"), i, o)
        if (used < sizeof text)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%.0f: %s", i ? ", " : "",
                                     cli_number(o, "shard", 0), cli_count(cli_number(o, "entries", 0)));
    return text;
}

static const char *bytes_text(double n)
{
    static char text[32];
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int i = 0;
    for (; n >= 10240 && i < 4; i++)
        n /= 1024;
    snprintf(text, sizeof text, "%.0f %s", n, units[i]);
    return text;
}

static void show_tables(struct cli *cli, const json_t *tables)
{
    static const char *const heads[] = {"TABLE", "KIND", "KEPT", ">KEY", ">VALUE", ">VERSION", ">TIME-OUT", ">ENTRIES", ">LIMIT",
                                        ">MEMORY", ">FREE", ">RESTING", "ENTRIES BY SHARD"};
    struct cli_table *t = cli_table(heads, 13);
    size_t i;
    json_t *o;
    json_array_foreach(json_object_get(tables, "tables"), i, o) {
        double entries = sum_of(o, "entries"), limit = cli_number(o, "max_entries", 0),
               shards = (double)json_array_size(json_object_get(o, "shards"));
        bool pool = !strcmp(cli_text(o, "kind"), "pool"), sync = !strcmp(cli_text(o, "durability"), "sync");
        limit *= pool ? 1 : shards; /* a pool's is of all shards, others' of each */
        double timeout_ms = cli_number(o, "timeout_ms", 0);
        cli_cell(t, CLI_HEAD, "%s", cli_text(o, "name"));
        cli_cell(t, CLI_PLAIN, "%s", cli_text(o, "kind"));
        cli_cell(t, sync ? CLI_PLAIN : CLI_FAINT, "%s", cli_text(o, "durability"));
        cli_cell(t, CLI_PLAIN, "%.0f B", cli_number(o, "key_size", 0));
        cli_cell(t, CLI_PLAIN, "%.0f B", cli_number(o, "value_size", 0));
        cli_cell(t, CLI_PLAIN, "%.0f", cli_number(o, "version", 0));
        cli_cell(t, CLI_PLAIN, "%s", timeout_ms > 0 ? cli_span(timeout_ms) : "-");
        cli_cell(t, limit > 0 && entries >= 0.9 * limit ? CLI_CARE : CLI_PLAIN, "%s", cli_count(entries));
        cli_cell(t, CLI_PLAIN, "%s", limit > 0 ? cli_count(limit) : "-");
        cli_cell(t, CLI_PLAIN, "%s", bytes_text(sum_of(o, "memory_bytes")));
        cli_cell(t, CLI_PLAIN, "%s", pool ? cli_count(sum_of(o, "free")) : "");
        cli_cell(t, CLI_PLAIN, "%s", pool ? cli_count(sum_of(o, "resting")) : "");
        cli_cell(t, CLI_FAINT, "%s", by_shard(o));
    }
    cli_table_print(cli, t, stdout);
}

static int run_tables(struct cli *cli, int argc, char **argv)
{
    json_t *tables;
    if (argc > 1)
        return cli_say(CLI_USAGE, "state tables takes nothing more, not '%s'", argv[1]);
    int status = cli_find(cli);
    if (!status)
        status = cli_get(cli, "/v1/tables", &tables);
    if (status)
        return status;
    say_missing(tables);
    if (cli->json)
        return cli_json(cli, tables);
    show_tables(cli, tables);
    json_decref(tables);
    return CLI_OK;
}

/* --- one table ------------------------------------------------------------------------------------ */

/* NULL, and said: bytes are shown as they are. */
static json_t *explained(const char *file)
{
    char program[600] = "lethe-nf";
    json_t *plan = cli_worker_program(file, NULL, program, sizeof program) ? NULL : cli_plan(program, file);
    if (!plan)
        fprintf(stderr, "lethe: %s --explain does not answer for %s: fields are not known by name, bytes are shown\n",
                program, file);
    return plan;
}

static int no_table(const json_t *tables, const char *name)
{
    char names[1200] = "";
    size_t i, used = 0;
    json_t *o;
    json_array_foreach(json_object_get(tables, "tables"), i, o)
        if (used < sizeof names)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s %s", i ? "," : "", cli_text(o, "name"));
    if (!used)
        return cli_say(CLI_REFUSED, "there is no table '%s': the store has none yet; workers make them", name);
    return cli_say(CLI_REFUSED, "there is no table '%s'; there are%s", name, names);
}

/* All but the store. */
static int look_at(struct looking *l, const char *name)
{
    char why[600];
    int status = cli_find(l->cli);
    if (!status)
        status = cli_get(l->cli, "/v1/tables", &l->tables);
    if (status)
        return status;
    l->table = cli_named(json_object_get(l->tables, "tables"), name);
    if (!l->table)
        return no_table(l->tables, name);
    if (!view_schema(&l->view, cli_text(l->table, "schema")))
        return cli_say(CLI_REFUSED, "%s has a schema that this lethe does not know; is it older than the store?", name);
    if (!cli_site_file(l->cli, l->file, sizeof l->file, why, sizeof why))
        return cli_say(CLI_USAGE, "%s", why);
    json_t *plan = explained(l->file);
    view_layout(&l->view, plan);
    json_decref(plan);
    return CLI_OK;
}

static void look_away(struct looking *l)
{
    state_close(l->store);
    view_free(&l->view);
    json_decref(l->tables);
}

static bool can_be_scanned(const struct looking *l)
{
    return l->view.schema.kind != TABLE_SKETCH;
}

static int no_scan(const struct looking *l)
{
    return cli_say(CLI_REFUSED, "%s is a sketch: it can only be asked for one key: lethe state get", l->view.schema.name);
}

/* Rows as a table; the last column is the time that is left, or the whole time-out. */
static void show_rows(struct looking *l, const struct rows *rows, const char *time)
{
    uint32_t n = view_columns(&l->view);
    const char *heads[2 * LAYOUT_FIELDS + 4];
    char names[2 * LAYOUT_FIELDS][40], cell[CELL];
    for (uint32_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "%s", view_column(&l->view, i));
        for (char *c = names[i]; *c; c++)
            *c = *c >= 'a' && *c <= 'z' ? (char)(*c - 32) : *c == '_' ? ' ' : *c;
        heads[i] = names[i];
    }
    heads[n] = time;
    heads[n + 1] = ">VERSION";
    struct cli_table *t = cli_table(heads, n + 2);
    for (uint32_t k = 0; k < rows->n; k++) {
        const struct row *r = &rows->at[k];
        for (uint32_t i = 0; i < n; i++) {
            view_cell(&l->view, r, i, cell, sizeof cell);
            cli_cell(t, CLI_PLAIN, "%s", cell);
        }
        cli_cell(t, CLI_PLAIN, "%s", r->left_ms ? cli_span(r->left_ms) : "-");
        cli_cell(t, CLI_FAINT, "%llu", (unsigned long long)r->version);
    }
    cli_table_print(l->cli, t, stdout);
}

/* --- get -------------------------------------------------------------------------------------------- */

static int run_get(struct cli *cli, int argc, char **argv)
{
    struct looking l = {.cli = cli};
    struct row row;
    uint8_t key[TXN_KEY_MAX] = {0};
    char err[700];
    bool found = false;
    if (argc < 3)
        return cli_say(CLI_USAGE, "write state get TABLE KEY; a key is FIELD=VALUE ..., or 0x and its bytes");
    int status = look_at(&l, argv[1]);
    if (!status && view_key(&l.view, argc - 2, argv + 2, key, err, sizeof err))
        status = cli_say(CLI_USAGE, "%s", err);
    if (!status)
        status = state_open(l.file, &l.view, &l.store);
    if (!status)
        status = state_get(l.store, key, &row, &found);
    if (!status && !found)
        status = cli_say(CLI_REFUSED, "%s has no such entry", argv[1]);
    if (!status && cli->json) {
        json_t *o = view_json(&l.view, &row);
        json_object_set(o, "timeout_ms", json_object_get(o, "left_ms"));
        json_object_del(o, "left_ms");
        cli_json(cli, o);
    } else if (!status) {
        struct rows one = {&row, 1, 1};
        show_rows(&l, &one, ">TIME-OUT");
    }
    look_away(&l);
    return status;
}

/* --- scan ------------------------------------------------------------------------------------------- */

struct filter {
    const struct view *view;
    struct match match[8];
    uint32_t n;
};

static bool passes(void *ctx, const struct row *row)
{
    const struct filter *f = ctx;
    for (uint32_t i = 0; i < f->n; i++)
        if (!view_matches(f->view, row, &f->match[i]))
            return false;
    return true;
}

struct scan_words { const char *table, *match[8]; uint32_t n, limit; };

static int scan_words(struct scan_words *w, int argc, char **argv)
{
    w->limit = LIMIT;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--limit")) {
            char *end = NULL;
            unsigned long n = i + 1 < argc ? strtoul(argv[++i], &end, 10) : 0;
            if (!end || *end || !n || n > LIMIT_MAX)
                return cli_say(CLI_USAGE, "--limit: a whole number from 1 to %d must follow it", LIMIT_MAX);
            w->limit = (uint32_t)n;
        } else if (!strcmp(argv[i], "--match")) {
            if (i + 1 == argc || w->n == 8)
                return cli_say(CLI_USAGE, "--match: FIELD=VALUE must follow it, at most 8 times");
            w->match[w->n++] = argv[++i];
        } else if (w->table || *argv[i] == '-') {
            return cli_say(CLI_USAGE, "state scan takes a table, --limit and --match, not '%s'", argv[i]);
        } else {
            w->table = argv[i];
        }
    }
    return w->table ? CLI_OK : cli_say(CLI_USAGE, "write state scan TABLE; `lethe state tables` tells which there are");
}

static void show_scan(struct looking *l, const struct rows *rows, uint64_t seen, bool counted)
{
    double more = counted ? (double)(seen - rows->n) : sum_of(l->table, "entries") - rows->n;
    if (!l->cli->json && !rows->n) {
        puts("no entry");
        return;
    }
    if (!l->cli->json) {
        show_rows(l, rows, ">LEFT");
        if (more > 0)
            printf("%.0f more%s; --limit shows them\n", more, counted ? "" : ", as of a second ago");
        return;
    }
    json_t *entries = json_array();
    for (uint32_t i = 0; i < rows->n; i++)
        json_array_append_new(entries, view_json(&l->view, &rows->at[i]));
    cli_json(l->cli, json_pack("{s:s, s:o, s:I, s:b}", "table", l->view.schema.name, "entries", entries, "more",
                               (json_int_t)(more > 0 ? more : 0), "counted", counted));
}

static int run_scan(struct cli *cli, int argc, char **argv)
{
    struct looking l = {.cli = cli};
    struct scan_words w = {.n = 0};
    struct filter f = {.view = &l.view};
    struct rows rows = {.n = 0};
    uint64_t seen = 0;
    char err[700];
    int status = scan_words(&w, argc, argv);
    if (!status)
        status = look_at(&l, w.table);
    if (!status && !can_be_scanned(&l))
        status = no_scan(&l);
    for (; !status && f.n < w.n; f.n++)
        if (view_match(&l.view, w.match[f.n], &f.match[f.n], err, sizeof err))
            status = cli_say(CLI_USAGE, "%s", err);
    if (!status)
        status = state_open(l.file, &l.view, &l.store);
    struct state_scan what = {0, LETHE_SLOTS - 1, w.limit, f.n > 0, f.n ? passes : NULL, &f};
    if (!status)
        status = state_scan(l.store, &what, &rows, &seen);
    if (!status) {
        say_missing(l.tables);
        show_scan(&l, &rows, seen, f.n > 0 || rows.n < w.limit);
    }
    rows_free(&rows);
    look_away(&l);
    return status;
}

/* --- watch ------------------------------------------------------------------------------------------ */

static volatile sig_atomic_t over;

static void end(int number)
{
    (void)number;
    over = 1;
}

static const char *time_text(void)
{
    static char text[40];
    struct timeval now;
    struct tm tm;
    gettimeofday(&now, NULL);
    localtime_r(&now.tv_sec, &tm);
    strftime(text, sizeof text, "%H:%M:%S", &tm);
    snprintf(text + 8, sizeof text - 8, ".%03ld", (long)now.tv_usec / 1000);
    return text;
}

static const struct { const char *text; enum cli_colour colour; } changes[] = {
    [ROW_INSERTED] = {"inserted", CLI_GOOD}, [ROW_CHANGED] = {"changed", CLI_PLAIN},
    [ROW_EXPIRED] = {"expired", CLI_CARE}, [ROW_DELETED] = {"deleted", CLI_BAD}};

static void print_change(struct looking *l, enum change what, const struct row *before, const struct row *now)
{
    const struct row *r = now ? now : before;
    uint32_t n = view_columns(&l->view), keys = l->view.layout.nkey ? l->view.layout.nkey : 1;
    char was[CELL], is[CELL];
    printf("%s  %s%-8s%s", time_text(), cli_paint(l->cli, changes[what].colour), changes[what].text, cli_paint(l->cli, CLI_PLAIN));
    for (uint32_t i = 0; i < n; i++) {
        view_cell(&l->view, r, i, is, sizeof is);
        if (before)
            view_cell(&l->view, before, i, was, sizeof was);
        if (what == ROW_CHANGED && i >= keys && strcmp(was, is) != 0)
            printf("  %s=%s -> %s", view_column(&l->view, i), was, is);
        else if (what != ROW_CHANGED || i < keys)
            printf("  %s=%s", view_column(&l->view, i), is);
    }
    if (now && now->left_ms)
        printf("  %s%s left%s", cli_paint(l->cli, CLI_FAINT), cli_span(now->left_ms), cli_paint(l->cli, CLI_PLAIN));
    putchar('\n');
}

static void told(void *ctx, enum change what, const struct row *before, const struct row *now)
{
    struct looking *l = ctx;
    if (!l->cli->json) {
        print_change(l, what, before, now);
        return;
    }
    json_t *o = json_pack("{s:s, s:s, s:o, s:o}", "time", time_text(), "change", changes[what].text, "before",
                          before ? view_json(&l->view, before) : json_null(), "now",
                          now ? view_json(&l->view, now) : json_null());
    json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
    putchar('\n');
    json_decref(o);
}

struct watch_words { const char *table; int nkey; char *key[16]; double every_s, seconds; };

static int watch_words(struct watch_words *w, int argc, char **argv)
{
    w->every_s = 1;
    for (int i = 1; i < argc; i++) {
        bool every = !strcmp(argv[i], "--every"), seconds = !strcmp(argv[i], "--seconds");
        if (every || seconds) {
            char *stop = NULL;
            double n = i + 1 < argc ? strtod(argv[i + 1], &stop) : 0;
            if (!stop || *stop || stop == argv[i + 1] || !(n >= 0.1) || n > 1e6)
                return cli_say(CLI_USAGE, "%s: a number of seconds, at least 0.1, must follow it", argv[i]);
            *(every ? &w->every_s : &w->seconds) = n;
            i++;
        } else if (*argv[i] == '-' || w->nkey == 16) {
            return cli_say(CLI_USAGE, "state watch takes a table, a key, --every and --seconds, not '%s'", argv[i]);
        } else if (!w->table) {
            w->table = argv[i];
        } else {
            w->key[w->nkey++] = argv[i];
        }
    }
    return w->table ? CLI_OK : cli_say(CLI_USAGE, "write state watch TABLE [KEY]");
}

static bool is_key(void *ctx, const struct row *row)
{
    return !memcmp(ctx, row->key, TXN_KEY_MAX);
}

/* Looks again and again. */
static int watch(struct looking *l, const struct state_scan *what, const struct watch_words *w)
{
    struct rows looks[2] = {{.n = 0}, {.n = 0}}, *now = &looks[0], *before = &looks[1], *swap;
    double begun = wait_now_s(), last = 0;
    uint64_t seen;
    int status = CLI_OK;
    for (bool first = true; !status && !over; first = false) {
        double looked = wait_now_s();
        now->n = 0;
        status = state_scan(l->store, what, now, &seen);
        if (!status && now->n == what->most)
            status = cli_say(CLI_REFUSED, "%s has more than %d entries, too many to watch: name a key, or look with "
                             "state scan --match", l->view.schema.name, WATCHED_MAX);
        if (!status && first)
            fprintf(stderr, "lethe: %s: %u entr%s now; a look every %g s: what comes and goes between two is not seen\n",
                    l->view.schema.name, now->n, now->n == 1 ? "y" : "ies", w->every_s);
        else if (!status)
            rows_compare(before, now, (uint64_t)((wait_now_s() - last) * 1000), told, l);
        fflush(stdout);
        swap = before, before = now, now = swap;
        last = looked;
        double left = w->seconds > 0 ? begun + w->seconds - wait_now_s() : w->every_s;
        if (left <= 0)
            break;
        if (!status && !over)
            wait_pause_ms((uint32_t)(1000 * (left < w->every_s ? left : w->every_s)));
    }
    rows_free(&looks[0]);
    rows_free(&looks[1]);
    return status;
}

static int run_watch(struct cli *cli, int argc, char **argv)
{
    struct looking l = {.cli = cli};
    struct watch_words w = {.nkey = 0};
    struct state_scan what = {0, LETHE_SLOTS - 1, WATCHED_MAX, false, NULL, NULL};
    uint8_t key[TXN_KEY_MAX] = {0};
    char err[700];
    int status = watch_words(&w, argc, argv);
    if (!status)
        status = look_at(&l, w.table);
    if (!status && !can_be_scanned(&l))
        status = no_scan(&l);
    if (!status && w.nkey && view_key(&l.view, w.nkey, w.key, key, err, sizeof err))
        status = cli_say(CLI_USAGE, "%s", err);
    if (!status && w.nkey) {
        what.wanted = is_key;
        what.ctx = key;
        state_slots_of(&l.view, key, &what.first, &what.last);
    }
    if (!status)
        status = state_open(l.file, &l.view, &l.store);
    signal(SIGINT, end);
    signal(SIGTERM, end);
    if (!status)
        status = watch(&l, &what, &w);
    look_away(&l);
    return status;
}

int cmd_state(struct cli *cli, int argc, char **argv)
{
    static const struct { const char *name; int (*run)(struct cli *cli, int argc, char **argv); } verbs[] = {
        {"tables", run_tables}, {"get", run_get}, {"scan", run_scan}, {"watch", run_watch}};
    for (uint32_t i = 0; argc > 1 && i < 4; i++)
        if (!strcmp(argv[1], verbs[i].name))
            return verbs[i].run(cli, argc - 1, argv + 1);
    return cli_say(CLI_USAGE, "write state tables, state get TABLE KEY, state scan TABLE, or state watch TABLE [KEY]");
}
