/* SPDX-License-Identifier: BSD-3-Clause */
/* Orders about one program or one group: scale, drain, start, restart, kill, hand-over. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/cli/commands.h"
#include "orchestrator/cli/wait.h"

static const json_t *process_of(const json_t *status, const char *name)
{
    static const char *const kinds[] = {"workers", "stores", "steering"};
    for (uint32_t i = 0; i < 3; i++) {
        const json_t *p = cli_named(json_object_get(status, kinds[i]), name);
        if (p)
            return p;
    }
    return NULL;
}

/* Posts, and says what the controller says comes next. */
static int order(struct cli *cli, const char *path, json_t *body)
{
    json_t *answer;
    int status = cli_post(cli, path, body, &answer);
    json_decref(body);
    if (status)
        return status;
    if (cli->json)
        return cli_json(cli, answer);
    printf("%s\n", *cli_text(answer, "result") ? cli_text(answer, "result") : "done");
    fflush(stdout);
    json_decref(answer);
    return CLI_OK;
}

/* --- scale ------------------------------------------------------------------------- */

struct scaled {
    const char *group;
    double replicas;
};

/* As many as wanted are ready, and the others are gone. */
static bool scale_left(const json_t *status, const void *ctx, char *left, uint32_t room)
{
    const struct scaled *s = ctx;
    const json_t *g = cli_named(json_object_get(status, "groups"), s->group), *w;
    double ready = cli_number(g, "ready", -1), running = cli_number(g, "running", -1);
    double held = 0;
    size_t i;
    if (!cli_fresh(g, cli_number(status, "stale_after_ms", 0))) {
        snprintf(left, room, "%s: how many are ready is not known", s->group);
        return true;
    }
    json_array_foreach(json_object_get(status, "workers"), i, w)
        held += cli_number(json_object_get(w, "draining"), "packets", 0);
    snprintf(left, room, "%s: %.0f of %.0f ready, %.0f running, %.0f packets held by those that leave",
             s->group, ready, s->replicas, running, held);
    return ready != s->replicas || running != s->replicas;
}

int cmd_scale(struct cli *cli, int argc, char **argv)
{
    struct waiting w;
    if (wait_options(&w, &argc, argv))
        return CLI_USAGE;
    char *equals = argc == 2 ? strchr(argv[1], '=') : NULL, *end = NULL;
    if (!equals || equals == argv[1])
        return cli_say(CLI_USAGE, "write `lethe scale GROUP=N`, for example `lethe scale nf=4`");
    *equals = '\0';
    errno = 0;
    long long n = strtoll(equals + 1, &end, 10);
    if (errno || *end || end == equals + 1)
        return cli_say(CLI_USAGE, "'%s' is no number of workers; write `lethe scale %s=4`",
                       equals + 1, argv[1]);
    char path[512];
    snprintf(path, sizeof path, "/v1/groups/%s/scale", cli_escape(argv[1]));
    int status = cli_find(cli);
    if (!status)
        status = order(cli, path, json_pack("{s:I}", "replicas", (json_int_t)n));
    struct scaled ctx = {argv[1], (double)n};
    return status || !w.wait ? status : wait_for(cli, &w, scale_left, &ctx);
}

/* --- drain, restart, start ------------------------------------------------------------ */

/* A process that ends, or comes back. `pid`: before the order; 0: it had none. */
struct ending {
    const char *name;
    double pid;
    char group[64];           /* of a worker; "": it is none */
    bool runs;                /* it did, before the order */
};

static bool drain_left(const json_t *status, const void *ctx, char *left, uint32_t room)
{
    const struct ending *e = ctx;
    const json_t *p = process_of(status, e->name), *d = json_object_get(p, "draining");
    const char *state = cli_text(p, "state");
    double pid = cli_number(p, "pid", 0);
    bool elsewhere = e->runs && e->pid == 0; /* where a platform runs it: no process number tells one from the next */
    if (!p || (elsewhere ? strcmp(state, "draining") && strcmp(state, "stopping") : pid == 0 || pid != e->pid))
        return false;
    snprintf(left, room, "%s: %s", e->name,
             *cli_text(d, "left") ? cli_text(d, "left") : cli_text(p, "state"));
    return true;
}

static bool back_left(const json_t *status, const void *ctx, char *left, uint32_t room)
{
    const struct ending *e = ctx;
    const json_t *p = process_of(status, e->name);
    const char *state = cli_text(p, "state");
    snprintf(left, room, "%s: %s", e->name, *state ? state : "not there yet");
    return strcmp(state, "ready") || (e->pid && cli_number(p, "pid", 0) == e->pid);
}

/* A worker comes back under another name: its group is whole again. */
static bool whole_left(const json_t *status, const void *ctx, char *left, uint32_t room)
{
    const struct ending *e = ctx;
    const json_t *g = cli_named(json_object_get(status, "groups"), e->group);
    if (drain_left(status, ctx, left, room))
        return true;
    snprintf(left, room, "%s has ended; %s: %.0f of %.0f ready", e->name, e->group,
             cli_number(g, "ready", 0), cli_number(g, "replicas", 0));
    return !cli_fresh(g, cli_number(status, "stale_after_ms", 0)) ||
           cli_number(g, "ready", -1) != cli_number(g, "replicas", -2);
}

static int about_one(struct cli *cli, int argc, char **argv, const char *verb, bool forced,
                     wait_left left)
{
    struct waiting w;
    json_t *status;
    bool force = false;
    if (wait_options(&w, &argc, argv))
        return CLI_USAGE;
    if (forced && argc == 3 && (!strcmp(argv[1], "--force") || !strcmp(argv[2], "--force"))) {
        argv[1] = !strcmp(argv[1], "--force") ? argv[2] : argv[1];
        argc = 2;
        force = true;
    }
    if (argc != 2 || *argv[1] == '-')
        return cli_say(CLI_USAGE, "write `lethe %s NAME`, a name of `lethe status`%s", argv[0],
                       forced ? "; --force may follow" : "");
    int error = cli_find(cli);
    if (!error)
        error = cli_get(cli, "/v1/status", &status);
    if (error)
        return error;
    const json_t *process = process_of(status, argv[1]);
    struct ending e = {argv[1], cli_number(process, "pid", 0), "", cli_number(process, "uptime_ms", -1) >= 0};
    snprintf(e.group, sizeof e.group, "%s", cli_text(process, "group"));
    if (!strcmp(verb, "start"))
        e.pid = 0; /* it may be there already */
    else if (!strcmp(verb, "restart") && *e.group)
        left = whole_left;
    else if (!strcmp(verb, "restart") && !process)
        left = NULL; /* a group, which a platform rolls out; or it is not known at all */
    json_decref(status);
    char path[512];
    snprintf(path, sizeof path, "/v1/instances/%s/%s", cli_escape(argv[1]), verb);
    error = order(cli, path, force ? json_pack("{s:b}", "force", 1) : json_object());
    return error || !w.wait || !left ? error : wait_for(cli, &w, left, &e);
}

int cmd_drain(struct cli *cli, int argc, char **argv)
{
    return about_one(cli, argc, argv, "drain", false, drain_left);
}

int cmd_restart(struct cli *cli, int argc, char **argv)
{
    return about_one(cli, argc, argv, "restart", true, back_left);
}

int cmd_start(struct cli *cli, int argc, char **argv)
{
    return about_one(cli, argc, argv, "start", false, back_left);
}

int cmd_kill(struct cli *cli, int argc, char **argv)
{
    return about_one(cli, argc, argv, "kill", true, NULL);
}

int cmd_hand_over(struct cli *cli, int argc, char **argv)
{
    char *end = NULL, path[128];
    unsigned long shard = argc == 2 ? strtoul(argv[1], &end, 10) : 0;
    if (argc != 2 || *end || end == argv[1] || shard > 65535)
        return cli_say(CLI_USAGE, "write `lethe hand-over SHARD`, for example `lethe hand-over 0`");
    snprintf(path, sizeof path, "/v1/shards/%lu/hand-over", shard);
    int error = cli_find(cli);
    return error ? error : order(cli, path, json_object());
}
