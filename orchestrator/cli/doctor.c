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
#include "orchestrator/cli/pure/clean.h"

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
    int error = *p->d.controller == '/' && access(p->d.controller, R_OK | W_OK) ? errno : 0;
    p->d.controller_hidden = error == EACCES;
    p->d.controller_error = status == CLI_USAGE     ? "its token cannot be read"
                            : status == CLI_REFUSED ? "it refused to tell"
                            : error == EACCES       ? "needs root, or the user who runs the site"
                            : error                 ? "there is no socket"
                                                    : "no answer";
    p->d.status = p->status;
    p->d.pods = p->status ? json_object_get(p->status, "platform") != NULL : getenv("KUBERNETES_SERVICE_HOST") != NULL;
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

enum { INDENT = 21 };

static void show_one(struct cli *cli, const struct doctor_finding *f, const char *check, uint32_t more, FILE *to)
{
    static const enum cli_colour colours[] = {CLI_GOOD, CLI_PLAIN, CLI_CARE, CLI_CARE, CLI_BAD};
    const char *faint = cli_paint(cli, CLI_FAINT), *plain = cli_paint(cli, CLI_PLAIN);
    char text[sizeof f->about + sizeof f->v.found + 4], mend[sizeof f->v.mend];
    snprintf(text, sizeof text, "%s%s%s", f->about, *f->about ? ": " : "", f->v.found);
    snprintf(mend, sizeof mend, "%s", f->v.mend);
    clean_text(text, false); /* names and words of programs are in it */
    clean_text(mend, false);
    fprintf(to, "%s%-8s%s %-11s ", cli_paint(cli, colours[f->v.is]), doctor_verdict_text(f->v.is), plain, check);
    cli_words(cli, text, INDENT, INDENT, to);
    if (more)
        fprintf(to, "%s; and %u more%s", faint, more, plain);
    fputc('\n', to);
    if (f->v.is >= DOCTOR_WARNING) {
        fprintf(to, "%*s%swhy  ", INDENT, "", faint);
        cli_words(cli, f->why, INDENT + 5, INDENT + 5, to);
        fprintf(to, "%s\n", plain);
    }
    if (f->v.is != DOCTOR_OK && *f->v.mend) /* in one line, to be copied */
        fprintf(to, "%*s%smend%s %s%s%s\n", INDENT, "", faint, plain, cli_paint(cli, CLI_HEAD), mend, plain);
}

void doctor_show(struct cli *cli, const struct doctor *d, bool all, FILE *to)
{
    for (uint32_t i = 0, end; i < d->n; i = end) {
        const char *check = d->findings[i].check;
        uint32_t well = 0, shown = 0;
        for (end = i; end < d->n && d->findings[end].check == check; end++)
            well += d->findings[end].v.is == DOCTOR_OK;
        for (uint32_t k = i; k < end; k++) {
            const struct doctor_finding *f = &d->findings[k];
            bool ok = f->v.is == DOCTOR_OK;
            if (ok && !all && well == 0)
                continue; /* told with the first of them */
            show_one(cli, f, shown++ ? "" : check, ok && !all ? well - 1 : 0, to);
            well = ok && !all ? 0 : well;
        }
    }
    if (d->lost)
        fprintf(to, "and %u findings more\n", d->lost);
    fprintf(to, "\n%s%u wrong%s, %u warnings, %u unknown, %u advice, %u ok\n",
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
    bool all = false;
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--all")) {
            all = true;
            argv[i] = argv[--argc];
            break;
        }
    if (argc > 2 || (argc == 2 && *argv[1] == '-'))
        return cli_say(CLI_USAGE, "write `lethe doctor`, or `lethe doctor CHECK`; see lethe help doctor");
    patient_find(cli, &p);
    int rc = doctor_run(&p.d, argc == 2 ? argv[1] : NULL);
    cli_progress_end(cli);
    int status = rc == -ENOENT ? no_such_check(argv[1]) : rc ? cli_say(CLI_REFUSED, "out of memory") : CLI_OK;
    if (!status && cli->json)
        cli_json(cli, doctor_json(&p.d));
    else if (!status)
        doctor_show(cli, &p.d, all || argc == 2, stdout);
    if (!status && doctor_count(&p.d, DOCTOR_WRONG))
        status = CLI_REFUSED;
    patient_free(&p);
    return status;
}
