/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Asking a program's control socket without waiting: one request, one reply line, on the
 * controller's loop. Who is stopped or dead costs its time-out and nothing else.
 */
#ifndef LETHE_ORCHESTRATOR_CONTROLLER_ASK_H
#define LETHE_ORCHESTRATOR_CONTROLLER_ASK_H

#include <jansson.h>
#include <uv.h>

/* Called once, never from within ask_start. `answer` is lent; NULL: `why` says what happened.
 * `sent_ms`: uv_now when it was asked: what the answer says was true of a moment since. */
typedef void (*ask_answered)(void *ctx, const json_t *answer, uint64_t sent_ms, const char *why);

struct ask;
/* `request` is copied. NULL: no memory, and nothing will be called. */
struct ask *ask_start(uv_loop_t *loop, const char *path, const char *request, uint32_t timeout_ms,
                      ask_answered answered, void *ctx);
/* Nothing will be called any more. */
void ask_cancel(struct ask *a);

#endif
