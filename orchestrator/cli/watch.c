/* SPDX-License-Identifier: BSD-3-Clause */
/* events, top: what goes on. Both end by ctrl-C. */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "orchestrator/cli/commands.h"
#include "orchestrator/cli/wait.h"

/* The server waits for an event so long; below the client's own time-out, 10 s. */
enum { WAIT_MS = 8000, AGAIN_MS = 500 };

/* --- events --------------------------------------------------------------------------- */

static enum cli_colour of_kind(const char *kind)
{
    static const char *const bad[] = {"exit", "kill", "error", "unready"};
    for (uint32_t i = 0; i < 4; i++)
        if (!strcmp(kind, bad[i]))
            return CLI_BAD;
    return !strcmp(kind, "ready") ? CLI_GOOD : CLI_PLAIN;
}

static void show_event(struct cli *cli, const json_t *e)
{
    if (cli->json) {
        json_dumpf(e, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
        putchar('\n');
        return;
    }
    const char *time = cli_text(e, "time"), *kind = cli_text(e, "kind");
    printf("%s%s%s %5.0f  %s%-10s%s %-16s %s", cli_paint(cli, CLI_FAINT), time,
           cli_paint(cli, CLI_PLAIN), cli_number(e, "seq", 0), cli_paint(cli, of_kind(kind)), kind,
           cli_paint(cli, CLI_PLAIN), cli_text(e, "subject"), cli_text(e, "cause"));
    if (cli_number(e, "because", 0) > 0)
        printf(" %s(of %.0f)%s", cli_paint(cli, CLI_FAINT), cli_number(e, "because", 0),
               cli_paint(cli, CLI_PLAIN));
    putchar('\n');
}

/* Shows what `page` holds; *after goes on. Another life of the controller begins anew. */
static void show_page(struct cli *cli, const json_t *page, char epoch[64], double *after)
{
    const json_t *e;
    size_t i;
    if (*epoch && strcmp(epoch, cli_text(page, "epoch"))) {
        fprintf(stderr, "lethe: another controller is active; its events:\n");
        *after = 0;
        *epoch = '\0';
        return;
    }
    snprintf(epoch, 64, "%s", cli_text(page, "epoch"));
    if (*after > 0 && cli_number(page, "lost", 0) > 0)
        fprintf(stderr, "lethe: %.0f events came and were forgotten meanwhile\n",
                cli_number(page, "lost", 0));
    json_array_foreach(json_object_get(page, "events"), i, e)
        show_event(cli, e);
    *after = cli_number(page, "next", *after);
    fflush(stdout);
}

int cmd_events(struct cli *cli, int argc, char **argv)
{
    bool follow = false;
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "-f") || !strcmp(argv[i], "--follow"))
            follow = true;
        else
            return cli_say(CLI_USAGE, "events takes -f and nothing else, not '%s'", argv[i]);
    char epoch[64] = "", path[128];
    double after = 0;
    int status = cli_find(cli);
    while (!status) {
        json_t *page;
        snprintf(path, sizeof path, "/v1/events?after=%.0f&wait_ms=%d", after,
                 follow && after > 0 ? WAIT_MS : 0);
        bool first = !*epoch;
        status = first || !follow ? cli_get(cli, path, &page) : cli_get_quietly(cli, path, &page);
        if (!status) {
            bool more = json_array_size(json_object_get(page, "events")) > 0;
            show_page(cli, page, epoch, &after);
            json_decref(page);
            if (!follow && !more)
                break;
        } else if (follow && !first && status == CLI_UNREACHABLE) {
            wait_pause_ms(AGAIN_MS); /* the next controller becomes active */
            status = CLI_OK;
        }
    }
    return status;
}

/* --- top -------------------------------------------------------------------------------- */

static volatile sig_atomic_t over;

static void end(int signal)
{
    (void)signal;
    over = 1;
}

/* True: 'q' was typed, or a signal came. */
static bool pause_or_key(uint32_t ms)
{
    struct pollfd in = {STDIN_FILENO, POLLIN, 0};
    char c;
    if (poll(&in, isatty(STDIN_FILENO) ? 1 : 0, (int)ms) > 0 && read(STDIN_FILENO, &c, 1) == 1)
        return c == 'q' || c == 3;
    return over;
}

/* For programs: an answer a line, and nothing while nobody answers. */
static void dump(struct cli *cli)
{
    json_t *status;
    if (cli_get_quietly(cli, "/v1/status", &status) != CLI_OK)
        return;
    json_dumpf(status, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
    putchar('\n');
    fflush(stdout);
    json_decref(status);
}

static uint32_t rows(const struct cli *cli)
{
    struct winsize size;
    return cli->terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 1 ? size.ws_row : UINT32_MAX;
}

/* On a terminal lines are cut at its edge (DECAWM is off), and the screen does not scroll. */
static void draw(struct cli *cli, uint32_t every_ms)
{
    char *text = NULL;
    size_t n = 0;
    uint32_t left = rows(cli);
    json_t *status;
    FILE *to = open_memstream(&text, &n);
    if (!to)
        return;
    fprintf(to, "%slethe top%s  every %s, q ends\n", cli_paint(cli, CLI_HEAD),
            cli_paint(cli, CLI_PLAIN), cli_span(every_ms));
    if (cli_get_quietly(cli, "/v1/status", &status) == CLI_OK) {
        cli_show_status(cli, status, to);
        json_decref(status);
    } else {
        fprintf(to, "\n%sno controller answers at %s; nothing is known%s\n", cli_paint(cli, CLI_BAD),
                cli->address, cli_paint(cli, CLI_PLAIN));
    }
    fclose(to);
    fputs(cli->terminal ? "\033[H" : "", stdout);
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        bool last = --left == 1 && next && *next; /* the row below is where the cursor stays */
        printf("%s%s\n", last ? "... a larger terminal shows the rest" : line, cli->terminal ? "\033[K" : "");
        if (last)
            break;
    }
    fputs(cli->terminal ? "\033[J" : "\n", stdout);
    fflush(stdout);
    free(text);
}

int cmd_top(struct cli *cli, int argc, char **argv)
{
    uint32_t every_ms = 1000, times = 0;
    for (int i = 1; i < argc; i++) {
        char *stop = NULL;
        double n = i + 1 < argc ? strtod(argv[i + 1], &stop) : 0;
        if (!stop || *stop || stop == argv[i + 1] || !(n > 0) || n > 3600)
            return cli_say(CLI_USAGE, "top takes --every SECONDS and --times N");
        if (!strcmp(argv[i], "--times") && n != (uint32_t)n)
            return cli_say(CLI_USAGE, "top --times %s: how often is a whole number", argv[i + 1]);
        if (!strcmp(argv[i], "--every"))
            every_ms = (uint32_t)(n * 1000);
        else if (!strcmp(argv[i], "--times"))
            times = (uint32_t)n;
        else
            return cli_say(CLI_USAGE, "top takes --every SECONDS and --times N, not '%s'", argv[i]);
        i++;
    }
    json_t *answer;
    int status = cli_find(cli);
    if (!status)
        status = cli_get(cli, "/v1/status", &answer);
    if (status)
        return status;
    json_decref(answer);
    cli->terminal &= !cli->json;
    struct termios before, raw;
    bool keys = cli->terminal && tcgetattr(STDIN_FILENO, &before) == 0;
    if (keys) {
        raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    signal(SIGINT, end);
    signal(SIGTERM, end);
    fputs(cli->terminal ? "\033[?1049h\033[?25l\033[?7l" : "", stdout);
    do
        cli->json ? dump(cli) : draw(cli, every_ms);
    while (!(times && --times == 0) && !pause_or_key(every_ms));
    fputs(cli->terminal ? "\033[?7h\033[?25h\033[?1049l" : "", stdout);
    if (keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
    return CLI_OK;
}
