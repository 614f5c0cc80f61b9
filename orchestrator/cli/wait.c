/* SPDX-License-Identifier: BSD-3-Clause */
/* See wait.h. */
#include "orchestrator/cli/wait.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOOK_MS = 200, SILENT_S = 10 };

double wait_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void wait_pause_ms(uint32_t ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

int wait_options(struct waiting *w, int *argc, char **argv)
{
    *w = (struct waiting){true, 120};
    int kept = 1;
    for (int i = 1; i < *argc; i++) {
        char *end = NULL;
        if (!strcmp(argv[i], "--no-wait")) {
            w->wait = false;
        } else if (!strcmp(argv[i], "--timeout")) {
            w->timeout_s = i + 1 < *argc ? strtod(argv[i + 1], &end) : 0;
            if (!end || *end || end == argv[i + 1] || !(w->timeout_s > 0) || w->timeout_s > 1e6)
                return cli_say(CLI_USAGE, "--timeout: a number of seconds must follow it");
            i++;
        } else {
            argv[kept++] = argv[i];
        }
    }
    *argc = kept;
    argv[kept] = NULL;
    return 0;
}

int wait_for(struct cli *cli, const struct waiting *w, wait_left left, const void *ctx)
{
    double begun = wait_now_s(), heard = begun;
    bool waited = false;
    char missing[256] = "";
    for (;;) {
        json_t *status;
        double now = wait_now_s();
        if (cli_get_quietly(cli, "/v1/status", &status) == CLI_OK) {
            heard = now;
            bool more = left(status, ctx, missing, sizeof missing);
            json_decref(status);
            if (!more) {
                if (waited)
                    cli_progress(cli, "done in %.1f s", now - begun);
                cli_progress_end(cli);
                return CLI_OK;
            }
            waited = true;
            cli_progress(cli, "%s", missing);
        } else if (now - heard > SILENT_S) {
            cli_progress_end(cli);
            return cli_say(CLI_UNREACHABLE, "the controller at %s does not answer any more; the order is "
                           "kept, and the next one goes on with it: `lethe up FILE` starts one if none stands by",
                           cli->address);
        }
        if (now - begun > w->timeout_s) {
            cli_progress_end(cli);
            return cli_say(CLI_NOT_YET, "not done in %.0f s: %s; it goes on: see `lethe status`",
                           w->timeout_s, missing);
        }
        wait_pause_ms(LOOK_MS);
    }
}
