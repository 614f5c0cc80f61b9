/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor: what orchestrator/doctor/ found, shown. */
#include "orchestrator/doctor/doctor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/config/site.h"
#include "orchestrator/cli/commands.h"
#include "orchestrator/cli/doctor.h"

static void progress(void *ctx, const char *check)
{
    struct cli *cli = ctx;
    if (cli->terminal)
        cli_progress(cli, "looking at %s", check);
}

/* The controller's address even of a site whose file is wrong; its status if it answers. */
static void ask_controller(struct cli *cli, struct patient *p)
{
    static const char usual[] = "/run/lethe/controller.sock";
    if (!p->site && !cli->controller && !getenv("LETHE_CONTROLLER"))
        cli->controller = usual;
    int status = cli_find(cli);
    if (!status)
        status = cli_get_quietly(cli, "/v1/status", &p->status);
    p->d.controller = *cli->address ? cli->address : usual;
    p->d.controller_error = status == CLI_USAGE ? "its token cannot be read" : status == CLI_REFUSED ? "it refused to tell"
                            : access(p->d.controller, F_OK) && *p->d.controller == '/' ? "there is no socket"
                                                                                      : "no answer";
    p->d.status = p->status;
}

void patient_find(struct cli *cli, struct patient *p)
{
    char why[600];
    *p = (struct patient){.d = {.root = "", .ctx = cli, .progress = progress, .site_error = p->err}};
    if (cli_site_file(cli, p->file, sizeof p->file, why, sizeof why)) {
        p->d.file = p->file;
        if (site_load(p->file, NULL, 0, &p->site, NULL, p->err, sizeof p->err))
            p->site = NULL;
    }
    p->d.site = p->site;
    cli_programs(p->site, p->programs, sizeof p->programs);
    p->d.programs = p->programs;
    ask_controller(cli, p);
}

void patient_free(struct patient *p)
{
    doctor_free(&p->d);
    site_free(p->site, NULL, 0, NULL);
    json_decref(p->status);
}

static void lines_of(struct cli *cli, const char *head, const char *text, enum cli_colour c, FILE *to)
{
    if (*text)
        fprintf(to, "         %s%s%s %s%s%s\n", cli_paint(cli, CLI_FAINT), head, cli_paint(cli, CLI_PLAIN),
                cli_paint(cli, c), text, cli_paint(cli, CLI_PLAIN));
}

void doctor_show(struct cli *cli, const struct doctor *d, FILE *to)
{
    static const enum cli_colour colours[] = {CLI_GOOD, CLI_PLAIN, CLI_CARE, CLI_CARE, CLI_BAD};
    for (uint32_t i = 0; i < d->n; i++) {
        const struct doctor_finding *f = &d->findings[i];
        bool again = i && d->findings[i - 1].check == f->check;
        fprintf(to, "%s%-8s%s %-11s %s%s%s\n", cli_paint(cli, colours[f->v.is]), doctor_verdict_text(f->v.is),
                cli_paint(cli, CLI_PLAIN), again ? "" : f->check, f->about, *f->about ? ": " : "", f->v.found);
        if (f->v.is >= DOCTOR_WARNING)
            lines_of(cli, "why ", f->why, CLI_FAINT, to);
        if (f->v.is != DOCTOR_OK)
            lines_of(cli, "mend", f->v.mend, CLI_HEAD, to);
    }
    if (d->lost)
        fprintf(to, "and %u findings more\n", d->lost);
    fprintf(to, "\n%s%u wrong%s, %u to be careful of, %u unknown, %u advised, %u ok\n",
            cli_paint(cli, doctor_count(d, DOCTOR_WRONG) ? CLI_BAD : CLI_GOOD), doctor_count(d, DOCTOR_WRONG),
            cli_paint(cli, CLI_PLAIN), doctor_count(d, DOCTOR_WARNING), doctor_count(d, DOCTOR_UNKNOWN),
            doctor_count(d, DOCTOR_ADVICE), doctor_count(d, DOCTOR_OK));
}

static int no_such_check(const char *name)
{
    char all[400] = "";
    for (const struct doctor_check *c = doctor_checks; c->name; c++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", *all ? ", " : "", c->name);
    return cli_say(CLI_USAGE, "there is no check '%s'; there are %s", name, all);
}

int cmd_doctor(struct cli *cli, int argc, char **argv)
{
    struct patient p;
    if (argc > 2 || (argc == 2 && *argv[1] == '-'))
        return cli_say(CLI_USAGE, "write `lethe doctor`, or `lethe doctor CHECK`; see lethe help doctor");
    patient_find(cli, &p);
    int rc = doctor_run(&p.d, argc == 2 ? argv[1] : NULL);
    cli_progress_end(cli);
    int status = rc == -ENOENT ? no_such_check(argv[1]) : rc ? cli_say(CLI_REFUSED, "out of memory") : CLI_OK;
    if (!status && cli->json)
        cli_json(cli, doctor_json(&p.d));
    else if (!status)
        doctor_show(cli, &p.d, stdout);
    if (!status && doctor_count(&p.d, DOCTOR_WRONG))
        status = CLI_REFUSED;
    patient_free(&p);
    return status;
}
