/* SPDX-License-Identifier: BSD-3-Clause */
/* Orders that go on after the controller took them: --wait (what there is without --no-wait)
 * shows what is left until it is done. */
#ifndef LETHE_ORCHESTRATOR_CLI_WAIT_H
#define LETHE_ORCHESTRATOR_CLI_WAIT_H

#include "orchestrator/cli/cli.h"

struct waiting {
    bool wait;
    double timeout_s;
};

/* Takes "--no-wait" and "--timeout SECONDS" out of the arguments. 0 or CLI_USAGE, said. */
int wait_options(struct waiting *w, int *argc, char **argv);
/* What is still missing, in words, into `left`; false: it is done. `ctx` is the caller's. */
typedef bool (*wait_left)(const json_t *status, const void *ctx, char *left, uint32_t room);
/* Asks for the status again and again. CLI_OK, CLI_NOT_YET, or CLI_UNREACHABLE when nobody
 * answered for 10 s. */
int wait_for(struct cli *cli, const struct waiting *w, wait_left left, const void *ctx);
double wait_now_s(void);
void wait_pause_ms(uint32_t ms);

#endif
