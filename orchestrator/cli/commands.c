/* SPDX-License-Identifier: BSD-3-Clause */
/* The commands, and what is made of this one table: help, the manual page, completion. */
#include "orchestrator/cli/commands.h"

#include <string.h>

#include "orchestrator/cli/cli.h"

#define WAITS                                                                                      \
    "Waits until it is done, and shows what is left; --no-wait does not, --timeout SECONDS "       \
    "(120) waits no longer and ends with status 4. What was ordered goes on in any case."

const struct cli_command cli_commands[] = {
    {"up", "[FILE] [--no-start]", "brings a site up, or changes it to what FILE says",
     "FILE is a site.yaml. Starts lethe-controller if none answers (not with --no-start); it starts the rest. "
     "Workers whose configuration changed are replaced one by one; for stores and steering, status shows which run "
     "with an earlier one. " WAITS, cmd_up},
    {"down", "--force", "stops every program of the site",
     "With the last store goes the state of all connections, hence --force. The controller stays. " WAITS, cmd_down},
    {"status", "[--well]", "everything that is known, each figure with its age",
     "A figure that is older than the controller's limit is shown as unknown. --well: exit status 4 if "
     "anything is wrong or unknown, for scripts.", cmd_status},
    {"top", "[--every SECONDS] [--times N]", "status, live; q ends it", "", cmd_top},
    {"scale", "GROUP=N", "how many workers a group shall have",
     "Fewer: those that go are drained, they finish what they hold. " WAITS, cmd_scale},
    {"autoscale", "GROUP [on|off] [--dry-run] [--busy-high %] [--busy-low %] [--queue N] [--drops N] "
     "[--up-hold S] [--down-hold S] [--cooldown S]",
     "a group's policy, and what it would do now",
     "Without more than GROUP, or with --dry-run: changes nothing, says what the policy would do, and why. "
     "Settings that are not named stay as they are.", cmd_autoscale},
    {"drain", "NAME", "takes a worker or a store node out without harm",
     "A worker finishes what it holds; its group has one replica less afterwards. A store node hands over "
     "what it leads. On Kubernetes its pod is evicted, and another one comes in its place. " WAITS, cmd_drain},
    {"start", "NAME", "takes a drained store node back in", WAITS, cmd_start},
    {"restart", "NAME [--force]", "ends a program in good order, and starts it with the present configuration",
     "On Kubernetes its pod is evicted; NAME may be a group there, which rolls out as a whole. " WAITS, cmd_restart},
    {"kill", "NAME [--force]", "SIGKILL; the controller starts it again",
     "On Kubernetes its pod is evicted with a second of grace; --force does not overrule a budget. Refused for the last copy of a shard, the last ready worker and the only front end, unless --force "
     "says that it is meant.", cmd_kill},
    {"hand-over", "SHARD", "another member becomes a shard's primary", "Nothing dies, nothing is lost.",
     cmd_hand_over},
    {"events", "[-f]", "what happened, and why", "-f goes on with what happens.", cmd_events},
    {"explain", "[GROUP]", "what the chain keeps in the store, and what each packet asks of it",
     "Tables, reads, writes and round trips of a new flow's packets and of an established one's. Asks the site's "
     "lethe-nf (or GROUP's own) with the site's file (-c), or with the file that the controller keeps; no program "
     "has to run.", cmd_explain},
    {"doctor", "[CHECK] [--all]", "looks for what ails this host and the site, and says how to mend each",
     "Works without a controller, too, and without root as far as that goes: what could not be looked at is "
     "unknown, never ok. Exit status 1 if something is wrong; warnings alone are 0. CHECK: only that one. --all: also each thing "
     "that is ok.", cmd_doctor},
    {"trace", "tcp|udp|icmp ADDR[:PORT] ADDR[:PORT] [--seconds N] [--packets N]",
     "where the time of one flow's packets went",
     "Follows packets of the flow, and of their answers, through steering, worker and store, for --seconds (10) or until "
     "--packets (3) are complete. The flow is named as it comes in, either end first; a NAT's other side is followed by "
     "itself. Without a port: any; for icmp it is the identifier. Exit status 4: no packet came.", cmd_trace},
    {"support-bundle", "[FILE.tar.gz|FILE.tar.zst]", "everything that whoever helps you needs, in one file",
     "The site's file, desired state, status, events, figures and the end of the logs of each program, what the doctor "
     "says, the host; what could not be had is listed in it, with the reason. Secrets are not in it: what the "
     "secret files hold is blotted out wherever it stands. At most 96 MiB before packing. Works without a controller.",
     cmd_support_bundle},
    {"state", "tables | get TABLE KEY | scan TABLE [--limit N] [--match FIELD=VALUE] | watch TABLE [KEY] [--every S] "
     "[--seconds S]", "what the store keeps: its tables, and their entries",
     "tables: kinds, sizes, limits, entries of each. get: one entry; KEY is FIELD=VALUE ..., the value alone if the key has "
     "one field, or 0x and its bytes. scan: entries, --limit (100) of them, those whose fields are as --match says; an "
     "address matches each of its ports. watch: what comes, changes and goes, until ctrl-C, by a look every --every (1) "
     "seconds; what comes and goes between two looks is not seen. Read as the site's workers read (-c FILE: addresses, "
     "tenant, secret); nothing lives longer for being looked at.", cmd_state},
    {"completion", "bash|zsh|fish", "completion of commands, for your shell",
     "For example: lethe completion bash > /etc/bash_completion.d/lethe", cmd_completion},
    {"help", "[COMMAND|--man]", "this, one command, or the manual page", "", cmd_help},
    {NULL, NULL, NULL, NULL, NULL}};

const char cli_intro[] = "operates a site of Lethe: network functions that keep no state";
const char cli_options[] =
    "  -c, --config FILE      the site's file: says where its controller is (site.yaml, if it is there)\n"
    "  -C, --controller ADDR  its socket, or host:port (also LETHE_CONTROLLER; /run/lethe/controller.sock)\n"
    "      --token-file FILE  what a controller at host:port wants to see (the site's token_file)\n"
    "  -o, --output FORMAT    json: the controller's answer, for programs; table\n"
    "      --color WHEN       auto, always, never\n"
    "      --version, --help\n";
const char cli_ends[] =
    "Exit status: 0 done, 1 refused or failed, 2 wrong option, 3 no controller (or store) answers, 4 not\n"
    "done yet (status --well: something is wrong; trace: no packet came).\n";

static const struct cli_command *find(const char *name)
{
    for (const struct cli_command *c = cli_commands; c->name; c++)
        if (!strcmp(c->name, name))
            return c;
    return NULL;
}

/* Words, in lines of at most `wide`, each after `indent` blanks. */
static void fill(FILE *to, const char *text, int indent, int wide)
{
    int at = 0;
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (at && at + 1 + n > wide)
            at = 0, fputc('\n', to);
        at += fprintf(to, "%*s%.*s", at ? 1 : indent, "", n, text);
        text += n + strspn(text + n, " ");
    }
    fputc('\n', to);
}

int cli_help(const char *command, FILE *to)
{
    const struct cli_command *one = command ? find(command) : NULL;
    if (command && !one)
        return -1;
    if (one) {
        fprintf(to, "lethe %s %s\n  %s\n", one->name, one->arguments, one->summary);
        if (*one->help)
            fputc('\n', to), fill(to, one->help, 2, 96);
        fprintf(to, "\nOptions of every command:\n%s", cli_options);
        return 0;
    }
    fprintf(to, "lethe %s\n\n  lethe up site.yaml      # then\n  lethe status\n  lethe scale nf=4\n\n"
            "Commands (`lethe help COMMAND` says more):\n", cli_intro);
    for (const struct cli_command *c = cli_commands; c->name; c++)
        fprintf(to, "  %-14s %s\n", c->name, c->summary);
    fprintf(to, "\nOptions, before a command or behind it:\n%s\n%s", cli_options, cli_ends);
    return 0;
}

/* --- the manual page ------------------------------------------------------------------- */

/* troff: no line begins with a full stop or a quote, and a hyphen is a minus. */
static void troff(FILE *to, const char *text)
{
    bool begin = true;
    for (; *text; text++) {
        if (begin && (*text == '.' || *text == '\''))
            fputs("\\&", to);
        if (*text == '-' || *text == '\\')
            fputc('\\', to);
        fputs(*text == '\\' ? "e" : (char[]){*text, 0}, to);
        begin = *text == '\n';
    }
}

int cli_manual(FILE *to)
{
    fprintf(to, ".TH LETHE 1 \"\" \"lethe " LETHE_VERSION "\"\n.SH NAME\nlethe \\- %s\n.SH SYNOPSIS\n"
            ".B lethe\n[OPTION]... COMMAND [ARGUMENT]...\n.SH COMMANDS\n", cli_intro);
    for (const struct cli_command *c = cli_commands; c->name; c++) {
        fputs(".TP\n\\fB", to);
        troff(to, c->name);
        fputs("\\fR ", to);
        troff(to, c->arguments);
        fputc('\n', to);
        troff(to, c->summary);
        fputs(".\n", to);
        troff(to, c->help);
        if (*c->help)
            fputc('\n', to);
    }
    fputs(".SH OPTIONS\n.nf\n", to);
    troff(to, cli_options);
    fputs(".fi\n.SH EXIT STATUS\n.nf\n", to);
    troff(to, cli_ends);
    fputs(".fi\n", to);
    return CLI_OK;
}

int cmd_help(struct cli *cli, int argc, char **argv)
{
    (void)cli;
    if (argc == 2 && !strcmp(argv[1], "--man"))
        return cli_manual(stdout);
    if (argc > 2 || cli_help(argc == 2 ? argv[1] : NULL, stdout))
        return cli_say(CLI_USAGE, "there is no command '%s'; see lethe --help", argv[argc - 1]);
    return CLI_OK;
}

/* --- completion ------------------------------------------------------------------------- */

static void names(FILE *to)
{
    for (const struct cli_command *c = cli_commands; c->name; c++)
        fprintf(to, "%s%s", c == cli_commands ? "" : " ", c->name);
}

int cli_completion(const char *shell, FILE *to)
{
    if (!strcmp(shell, "bash")) {
        fputs("_lethe() {\n  local word=${COMP_WORDS[COMP_CWORD]}\n"
              "  if [ \"$COMP_CWORD\" = 1 ]; then COMPREPLY=($(compgen -W '", to);
        names(to);
        fputs("' -- \"$word\"))\n  else COMPREPLY=($(compgen -f -- \"$word\")); fi\n}\n"
              "complete -F _lethe lethe\n", to);
    } else if (!strcmp(shell, "zsh")) {
        fputs("#compdef lethe\n_arguments '1:command:((", to);
        for (const struct cli_command *c = cli_commands; c->name; c++) {
            fprintf(to, "%s\\:\"", c->name);
            for (const char *s = c->summary; *s; s++)
                if (*s != '\'' && *s != '"')
                    fputc(*s, to);
            fputs("\" ", to);
        }
        fputs("))' '*:file:_files'\n", to);
    } else if (!strcmp(shell, "fish")) {
        for (const struct cli_command *c = cli_commands; c->name; c++) {
            fprintf(to, "complete -c lethe -n __fish_use_subcommand -f -a %s -d '", c->name);
            for (const char *s = c->summary; *s; s++)
                fprintf(to, *s == '\'' ? "\\'" : "%c", *s);
            fputs("'\n", to);
        }
    } else {
        return -1;
    }
    return 0;
}

int cmd_completion(struct cli *cli, int argc, char **argv)
{
    (void)cli;
    if (argc != 2 || cli_completion(argv[1], stdout))
        return cli_say(CLI_USAGE, "write `lethe completion bash`, zsh or fish");
    return CLI_OK;
}
