/* SPDX-License-Identifier: BSD-3-Clause */
/* lethe: options, and which command. See cli.h. */
#include <curl/curl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "orchestrator/cli/cli.h"

enum { OPT_TOKEN = 256, OPT_COLOUR, OPT_HELP, OPT_VERSION };

static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
                                      {"controller", required_argument, NULL, 'C'},
                                      {"output", required_argument, NULL, 'o'},
                                      {"token-file", required_argument, NULL, OPT_TOKEN},
                                      {"color", required_argument, NULL, OPT_COLOUR},
                                      {"help", no_argument, NULL, OPT_HELP},
                                      {"version", no_argument, NULL, OPT_VERSION},
                                      {NULL, 0, NULL, 0}};

static int take_colour(struct cli *cli, const char *when)
{
    if (!strcmp(when, "always") || !strcmp(when, "never"))
        cli->colour = *when == 'a';
    else if (strcmp(when, "auto"))
        return cli_say(CLI_USAGE, "--color %s; write auto, always or never", when);
    return 0;
}

/* 0 go on; -1: done, exit 0; else the exit status. */
static int take(struct cli *cli, int c)
{
    switch (c) {
    case 'c':
        cli->config = optarg;
        return 0;
    case 'C':
        cli->controller = optarg;
        return 0;
    case 'o':
        cli->json = !strcmp(optarg, "json");
        return cli->json || !strcmp(optarg, "table")
                   ? 0 : cli_say(CLI_USAGE, "-o %s; write json or table", optarg);
    case OPT_TOKEN:
        cli->token_file = optarg;
        return 0;
    case OPT_COLOUR:
        return take_colour(cli, optarg);
    case OPT_HELP:
        cli_help(NULL, stdout);
        return -1;
    case OPT_VERSION:
        puts("lethe " LETHE_VERSION);
        return -1;
    default: /* getopt has said what is wrong */
        return cli_say(CLI_USAGE, "see lethe --help");
    }
}

static void look_at_terminal(struct cli *cli)
{
    struct winsize size;
    cli->terminal = isatty(STDOUT_FILENO);
    cli->colour = cli->terminal && !getenv("NO_COLOR");
    cli->columns = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 120;
}

/* 'o' of "-o", "-ojson", "--output" and "--output=json"; *value: what is in the same word, or NULL. 0: none
 * of every command's options. */
static int option_of(char *word, char **value)
{
    size_t n = strcspn(word, "=");
    *value = NULL;
    if (word[0] == '-' && word[1] && strchr("ocC", word[1])) {
        *value = word[2] ? word + 2 : NULL;
        return word[1];
    }
    for (const struct option *l = longs; l->name && !strncmp(word, "--", 2); l++)
        if (l->has_arg == required_argument && strlen(l->name) == n - 2 && !strncmp(word + 2, l->name, n - 2)) {
            *value = word[n] ? word + n + 1 : NULL;
            return l->val;
        }
    return 0;
}

/* Options of every command may stand behind its name, too: "-o json", "--config FILE", "--help". They are
 * taken out of its arguments. 0, or as take(). */
static int take_behind(struct cli *cli, const char *name, int *argc, char **argv)
{
    int kept = 1;
    for (int i = 1; i < *argc; i++) {
        char *a = argv[i], *value;
        if (!strcmp(a, "--help") || !strcmp(a, "-h")) {
            cli_help(name, stdout);
            return -1;
        }
        int option = option_of(a, &value);
        if (!option) {
            argv[kept++] = a;
            continue;
        }
        if (!value && ++i == *argc)
            return cli_say(CLI_USAGE, "%s: something must follow it; see lethe --help", a);
        optarg = value ? value : argv[i];
        int error = take(cli, option);
        if (error)
            return error;
    }
    *argc = kept;
    argv[kept] = NULL;
    return 0;
}

static const struct cli_command *find(const char *name)
{
    for (const struct cli_command *c = cli_commands; c->name; c++)
        if (!strcmp(c->name, name))
            return c;
    return NULL;
}

int main(int argc, char **argv)
{
    struct cli cli = {.json = false};
    int error = 0;
    look_at_terminal(&cli);
    for (int c; !error && (c = getopt_long(argc, argv, "+c:C:o:h", longs, NULL)) != -1;)
        error = take(&cli, c == 'h' ? OPT_HELP : c);
    if (error)
        return error < 0 ? CLI_OK : error;
    if (optind == argc) {
        cli_help(NULL, stderr);
        return CLI_USAGE;
    }
    const struct cli_command *command = find(argv[optind]);
    if (!command)
        return cli_say(CLI_USAGE, "there is no command '%s'; see lethe --help", argv[optind]);
    argc -= optind;
    argv += optind;
    error = take_behind(&cli, command->name, &argc, argv);
    if (error)
        return error < 0 ? CLI_OK : error;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    int status = command->run(&cli, argc, argv);
    curl_global_cleanup();
    return status;
}
