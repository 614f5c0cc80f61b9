/* SPDX-License-Identifier: BSD-3-Clause */
/* autoscale: a group's policy; what it would do now, and why; another one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/cli/commands.h"
#include "orchestrator/cli/cli.h"

static const struct { const char *option, *key; double scale; const char *unit; } settings[] = {
    {"--busy-high", "busy_high_permille", 10, "%"}, {"--busy-low", "busy_low_permille", 10, "%"},
    {"--queue", "queue_high", 1, "packets"},        {"--drops", "drops_high_pps", 1, "packets/s"},
    {"--up-hold", "up_hold_ms", 1000, "s"},         {"--down-hold", "down_hold_ms", 1000, "s"},
    {"--cooldown", "cooldown_ms", 1000, "s"}};
enum { SETTINGS = sizeof settings / sizeof *settings };

/* One setting and its number, as JSON has it. */
static int take(json_t *change, const char *option, const char *text)
{
    char *end = NULL;
    errno = 0;
    for (uint32_t i = 0; i < SETTINGS; i++) {
        if (strcmp(option, settings[i].option))
            continue;
        double n = text ? strtod(text, &end) : 0;
        if (!end || *end || end == text || errno || !(n >= 0) || n > 1e9)
            return cli_say(CLI_USAGE, "%s: a number of %s must follow it", option, settings[i].unit);
        if (*settings[i].unit == '%' && n > 100)
            return cli_say(CLI_USAGE, "%s %s: a part of the time, from 0.1 to 100 %%", option, text);
        json_object_set_new(change, settings[i].key, json_integer((json_int_t)(n * settings[i].scale + 0.5)));
        return 0;
    }
    return cli_say(CLI_USAGE, "autoscale has no '%s'; see `lethe help autoscale`", option);
}

static void show(struct cli *cli, const json_t *plan, bool only_planned)
{
    const json_t *policy = json_object_get(plan, "policy"), *load = json_object_get(plan, "load");
    double now = cli_number(plan, "replicas", 0), wanted = cli_number(plan, "wanted", 0);
    bool on = json_is_true(json_object_get(policy, "enabled"));
    printf("%s%s%s  autoscale is %s%s%s; ", cli_paint(cli, CLI_HEAD), cli_text(plan, "group"),
           cli_paint(cli, CLI_PLAIN), cli_paint(cli, on ? CLI_GOOD : CLI_FAINT), on ? "on" : "off",
           cli_paint(cli, CLI_PLAIN));
    if (wanted == now)
        printf("%.0f workers, and %s keep them\n", now, only_planned ? "this policy would" : "it would");
    else
        printf("%.0f workers, and %s have %.0f\n", now, only_planned ? "this policy would" : "it would", wanted);
    printf("why     %s\n", cli_text(plan, "why"));
    printf("load    busy %.1f %% (mean of %.0f of %.0f ready), most held by one %s packets, drops %s/s\n",
           cli_number(load, "busy_permille", 0) / 10, cli_number(load, "known", 0),
           cli_number(load, "ready", 0), cli_count(cli_number(load, "queue_most", 0)),
           cli_count(cli_number(load, "drops_pps", 0)));
    printf("policy ");
    for (uint32_t i = 0; i < SETTINGS; i++)
        printf(" %s %g %s%s", settings[i].option + 2, cli_number(policy, settings[i].key, 0) / settings[i].scale,
               settings[i].unit, i + 1 < SETTINGS ? "," : "\n");
}

int cmd_autoscale(struct cli *cli, int argc, char **argv)
{
    const char *group = NULL;
    bool dry = false;
    int status = 0;
    json_t *change = json_object(), *answer = NULL;
    for (int i = 1; i < argc && !status; i++) {
        if (!strcmp(argv[i], "--dry-run"))
            dry = true;
        else if (*argv[i] == '-')
            status = take(change, argv[i], i + 1 < argc ? argv[i + 1] : NULL), i++;
        else if (group && (!strcmp(argv[i], "on") || !strcmp(argv[i], "off")))
            json_object_set_new(change, "enabled", json_boolean(argv[i][1] == 'n'));
        else if (!group)
            group = argv[i];
        else
            status = cli_say(CLI_USAGE, "what is '%s'? See `lethe help autoscale`", argv[i]);
    }
    if (!status && !group)
        status = cli_say(CLI_USAGE, "write `lethe autoscale GROUP`; see `lethe help autoscale`");
    if (!status)
        status = cli_find(cli);
    if (!status) {
        char path[512], *body = json_dumps(change, JSON_COMPACT);
        bool planned = json_object_size(change) > 0 && dry, put = json_object_size(change) > 0 && !dry;
        snprintf(path, sizeof path, "/v1/groups/%s/autoscale%s", cli_escape(group), planned ? "/plan" : "");
        status = cli_ask(cli, put ? "PUT" : planned ? "POST" : "GET", path, "application/json",
                         put || planned ? body : NULL, 0, &answer);
        free(body);
        if (!status && cli->json)
            cli_json(cli, json_incref(answer));
        else if (!status && put)
            printf("%s\n", *cli_text(answer, "result") ? cli_text(answer, "result") : "done");
        else if (!status)
            show(cli, answer, planned);
    }
    json_decref(change);
    json_decref(answer);
    return status;
}
