/* SPDX-License-Identifier: BSD-3-Clause */
/* What the two ways of asking share: ask.c by a control socket, ask_http.c by HTTP. */
#ifndef LETHE_ORCHESTRATOR_CONTROLLER_ASK_IMPL_H
#define LETHE_ORCHESTRATOR_CONTROLLER_ASK_IMPL_H

#include <stdbool.h>

#include "orchestrator/controller/ask.h"

/* The first member of whatever asks. */
struct ask {
    ask_answered answered;    /* NULL: answered already, or cancelled */
    void *ctx;
    uint64_t sent_ms;
    char *reply;              /* of ASK_REPLY_MOST at most */
    size_t used, room;
    void (*release)(struct ask *a); /* now, or by the loop */
};

void ask_init(struct ask *a, uv_loop_t *loop, ask_answered answered, void *ctx, void (*release)(struct ask *a));
/* Room for one byte more, at least. False: the reply is too long, or no memory. */
bool ask_grow(struct ask *a);
/* Tells, once, and releases. */
void ask_end(struct ask *a, const json_t *answer, const char *why);
/* The end by what was said: a JSON object without "error". */
void ask_take(struct ask *a, size_t bytes);
/* ask_read.c, pure. A new object; NULL: `why` says what is wrong with it, printable. */
json_t *ask_read(const char *reply, size_t bytes, char why[ASK_WHY]);
/* The sentence of a refusal that is text: "HTTP status 404: <its first line>". */
void ask_refused(long status, const char *reply, size_t bytes, char why[ASK_WHY]);
/* "http://IP:PORT" and nothing else. */
bool ask_is_url(const char *path);

struct ask *ask_http_start(uv_loop_t *loop, const char *path, const char *request, uint32_t timeout_ms,
                           ask_answered answered, void *ctx);

#endif
