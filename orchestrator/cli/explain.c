/* SPDX-License-Identifier: BSD-3-Clause */
/* explain: a chain's state-access plan. lethe-nf knows it; here it is asked, and shown. */
#include <stdlib.h>
#include <string.h>

#include "common/config/site.h"
#include "orchestrator/cli/commands.h"
#include "orchestrator/cli/cli.h"
#include "orchestrator/controller/programs.h"
#include "orchestrator/doctor/spawn.h"

enum { EXPLAIN_MS = 30000, INDENT = 25 };

static void show_tables(struct cli *cli, const json_t *tables)
{
    static const char *const heads[] = {"TABLE", "OF", "KIND", "KEPT", ">KEY", ">VALUE", ">TIME-OUT"};
    struct cli_table *t = cli_table(heads, 7);
    const json_t *o;
    size_t i;
    json_array_foreach(tables, i, o) {
        double timeout_ms = cli_number(o, "timeout_ms", 0);
        bool sync = !strcmp(cli_text(o, "durability"), "sync");
        cli_cell(t, CLI_HEAD, "%s", cli_text(o, "table"));
        cli_cell(t, CLI_PLAIN, "%s", cli_text(o, "nf"));
        cli_cell(t, CLI_PLAIN, "%s", cli_text(o, "kind"));
        cli_cell(t, sync ? CLI_PLAIN : CLI_FAINT, "%s", cli_text(o, "durability"));
        cli_cell(t, CLI_PLAIN, "%.0f B", cli_number(o, "key_bytes", 0));
        cli_cell(t, CLI_PLAIN, "%.0f B", cli_number(o, "value_bytes", 0));
        cli_cell(t, CLI_PLAIN, "%s", timeout_ms > 0 ? cli_span(timeout_ms) : "-");
    }
    cli_table_print(cli, t, stdout);
}

static void show_costs(struct cli *cli, const json_t *cases)
{
    static const char *const heads[] = {"PACKET", "CASE", "FROM", ">ROUND TRIPS", ">READS", ">WRITES", "THEN"};
    struct cli_table *t = cli_table(heads, 7);
    const json_t *o;
    size_t i;
    json_array_foreach(cases, i, o) {
        double trips = cli_number(o, "round_trips", 0);
        const char *reason = cli_text(o, "reason"), *out = cli_text(o, "out");
        cli_cell(t, CLI_PLAIN, "%s", cli_text(o, "packet"));
        cli_cell(t, CLI_HEAD, "%s", cli_text(o, "case"));
        cli_cell(t, CLI_PLAIN, "%s", cli_text(o, "side"));
        cli_cell(t, trips > 1 ? CLI_CARE : CLI_GOOD, "%.0f", trips);
        cli_cell(t, CLI_PLAIN, "%.0f", cli_number(o, "reads", 0));
        cli_cell(t, CLI_PLAIN, "%.0f", cli_number(o, "writes", 0));
        cli_cell(t, *reason ? CLI_CARE : CLI_PLAIN, "%s%s%s", cli_text(o, "verdict"), *reason ? ": " : *out ? " by the " : "",
                 *reason ? reason : out);
    }
    cli_table_print(cli, t, stdout);
}

/* "get nat.session: absent, insert nat.map.tcp: done" */
static void step_text(const json_t *step, char *to, size_t room)
{
    const json_t *op;
    size_t i, n = 0;
    *to = '\0';
    json_array_foreach(json_object_get(step, "ops"), i, op) {
        if (!strcmp(cli_text(op, "result"), "skipped") || n >= room)
            continue;
        n += (size_t)snprintf(to + n, room - n, "%s%s %s: %s", n ? ", " : "", cli_text(op, "op"), cli_text(op, "table"),
                              cli_text(op, "result"));
    }
}

static void show_steps(struct cli *cli, const json_t *cases)
{
    const json_t *o, *step;
    size_t i, k;
    char text[2000];
    json_array_foreach(cases, i, o) {
        printf("\n%s%s%s, from the %s: %s\n", cli_paint(cli, CLI_HEAD), cli_text(o, "case"), cli_paint(cli, CLI_PLAIN),
               cli_text(o, "side"), cli_text(o, "packet"));
        json_array_foreach(json_object_get(o, "steps"), k, step) {
            bool waited = json_is_true(json_object_get(step, "waited_for"));
            step_text(step, text, sizeof text);
            printf("  %s%.0f. %-10s %-8s ", waited ? "" : cli_paint(cli, CLI_FAINT), cli_number(step, "round_trip", 0),
                   cli_text(step, "nf"), cli_text(step, "phase"));
            cli_words(cli, text, INDENT, INDENT, stdout);
            printf("%s%s\n", waited ? "" : "  (not waited for)", waited ? "" : cli_paint(cli, CLI_PLAIN));
        }
    }
}

static int show(struct cli *cli, json_t *plan)
{
    const json_t *o;
    size_t i;
    if (cli->json)
        return cli_json(cli, plan);
    printf("%schain%s ", cli_paint(cli, CLI_HEAD), cli_paint(cli, CLI_PLAIN));
    json_array_foreach(json_object_get(plan, "chain"), i, o)
        printf("%s%s", i ? ", " : "", json_string_value(o));
    printf("\n\n");
    show_tables(cli, json_object_get(plan, "tables"));
    putchar('\n');
    show_costs(cli, json_object_get(plan, "cases"));
    show_steps(cli, json_object_get(plan, "cases"));
    json_decref(plan);
    return CLI_OK;
}

int cli_worker_program(const char *file, const char *group, char *to, size_t room)
{
    struct site *site;
    char err[512], folder[512];
    const char *own = "";
    bool found = !group;
    if (site_load(file, NULL, 0, &site, NULL, err, sizeof err))
        return cli_say(CLI_USAGE, "%s", err);
    for (unsigned i = 0; group && i < site->groups_count; i++)
        if (!strcmp(site->groups[i].name, group)) {
            found = true;
            own = site->groups[i].program ? site->groups[i].program : "";
        }
    cli_programs(site, folder, sizeof folder);
    program_path(folder, ORCH_WORKER, own, to, (uint32_t)room);
    site_free(site, NULL, 0, NULL);
    return found ? 0 : cli_say(CLI_USAGE, "%s has no group '%s'", file, group);
}

json_t *cli_plan(const char *program, const char *file)
{
    const char *words[] = {program, "-c", file, "--explain", "-o", "json", NULL};
    struct spawned s;
    spawn_ask(words, EXPLAIN_MS, 0, &s);
    json_t *plan = s.status == 0 ? json_loadb(s.out, s.bytes, 0, NULL) : NULL;
    free(s.out);
    return plan;
}

int cmd_explain(struct cli *cli, int argc, char **argv)
{
    char file[512], why[600], program[600];
    struct spawned s;
    if (argc > 2 || (argc == 2 && *argv[1] == '-'))
        return cli_say(CLI_USAGE, "write `lethe explain`, or `lethe explain GROUP`");
    if (!cli_site_file(cli, file, sizeof file, why, sizeof why))
        return cli_say(CLI_USAGE, "%s", why);
    int status = cli_worker_program(file, argc == 2 ? argv[1] : NULL, program, sizeof program);
    if (status)
        return status;
    const char *words[] = {program, "-c", file, "--explain", "-o", "json", NULL};
    json_t *plan = cli_plan(program, file);
    if (plan)
        return show(cli, plan);
    spawn_ask(words, EXPLAIN_MS, 1, &s); /* again, for what it complains of */
    if (s.out)
        s.out[strcspn(s.out, "\n")] = '\0';
    status = cli_say(CLI_REFUSED, "%s: %s", program, s.out && *s.out ? s.out : "it is not there, or does not answer; `lethe-nf -c FILE --explain` tells it where "
                                                                                  "lethe-nf is (in a cluster: `kubectl exec deploy/nf -- lethe-nf ...`)");
    free(s.out);
    return status;
}
