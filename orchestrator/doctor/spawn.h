/* SPDX-License-Identifier: BSD-3-Clause */
/* Another program, asked: started, read until it ends or the time is over, then killed. Blocking. */
#ifndef LETHE_ORCHESTRATOR_DOCTOR_SPAWN_H
#define LETHE_ORCHESTRATOR_DOCTOR_SPAWN_H

#include <stdint.h>

struct spawned {
    int status;               /* exit status; -1: it could not be started, was killed, or took too long */
    char *out;                /* stdout, and stderr behind it if it was asked for; NUL behind; free() */
    uint32_t bytes;
};

enum { SPAWN_MAX = 8 << 20 };

/* `argv` ends with NULL; argv[0] is looked for in the PATH. `with_stderr`: else it is dropped.
 * `out` is never NULL but when memory is out. */
void spawn_ask(const char *const argv[], uint32_t timeout_ms, int with_stderr, struct spawned *s);

#endif
