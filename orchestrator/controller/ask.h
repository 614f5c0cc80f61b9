/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Asking a program without waiting: one request, one answer, on the controller's loop. Who is
 * stopped or dead costs its time-out and nothing else.
 *
 *   path "/run/lethe/w1.sock"       its control socket
 *   path "http://10.244.1.7:9471"   its metrics port (common/metrics/http.h, started with --ask),
 *                                   which answers what changes nothing; an address, no name: nobody
 *                                   waits for a resolver
 *
 * By HTTP the answer is whoever's that has the address: it is read with bounds (ASK_REPLY_MOST),
 * no redirect is followed. Connections are kept and used again; ask_close closes them.
 */
#ifndef LETHE_ORCHESTRATOR_CONTROLLER_ASK_H
#define LETHE_ORCHESTRATOR_CONTROLLER_ASK_H

#include <jansson.h>
#include <uv.h>

enum { ASK_REPLY_MOST = 256 * 1024, ASK_PATH = 108, ASK_WHY = 200 };

/* Called once, never from within ask_start. `answer` is lent; NULL: `why` says what happened, in one
 * line of printable ASCII. `sent_ms`: uv_now when it was asked: what the answer says was true of a
 * moment since. */
typedef void (*ask_answered)(void *ctx, const json_t *answer, uint64_t sent_ms, const char *why);

struct ask;
/* `request` is copied. NULL: no memory, and nothing will be called. The loop's `data` is ask's. */
struct ask *ask_start(uv_loop_t *loop, const char *path, const char *request, uint32_t timeout_ms,
                      ask_answered answered, void *ctx);
/* Nothing will be called any more. */
void ask_cancel(struct ask *a);
/* Lets go of all that asks by HTTP: nothing of it will be called any more. Not from within a
 * call of ask's; afterwards the loop has to turn once. */
void ask_close(uv_loop_t *loop);

#endif
