/* SPDX-License-Identifier: BSD-3-Clause */
/* One question to a control socket (ask.h): connect, write, read until '\n', close. And what both ways
 * of asking share. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/controller/ask_impl.h"

enum { REQUEST_BYTES = 512, REPLY_FIRST = 16 * 1024 };

/* --- shared ----------------------------------------------------------------------------------- */

void ask_init(struct ask *a, uv_loop_t *loop, ask_answered answered, void *ctx, void (*release)(struct ask *a))
{
    uv_update_time(loop);
    *a = (struct ask){.answered = answered, .ctx = ctx, .sent_ms = uv_now(loop), .release = release};
}

bool ask_grow(struct ask *a)
{
    size_t room = a->room ? a->room * 2 : REPLY_FIRST;
    char *grown = a->used < a->room ? a->reply : a->room < ASK_REPLY_MOST ? realloc(a->reply, room) : NULL;
    if (!grown)
        return false;
    if (a->used == a->room)
        a->room = room;
    a->reply = grown;
    return true;
}

void ask_end(struct ask *a, const json_t *answer, const char *why)
{
    ask_answered answered = a->answered;
    void *ctx = a->ctx;
    uint64_t sent_ms = a->sent_ms;
    a->answered = NULL;
    a->release(a);
    if (answered)
        answered(ctx, answer, sent_ms, why);
}

void ask_take(struct ask *a, size_t bytes)
{
    char why[ASK_WHY];
    json_t *o = ask_read(a->reply, bytes, why);
    ask_end(a, o, o ? NULL : why);
    json_decref(o);
}

void ask_cancel(struct ask *a)
{
    a->answered = NULL;
    ask_end(a, NULL, NULL);
}

/* --- a control socket ------------------------------------------------------------------------- */

struct ask_pipe {
    struct ask ask;
    uv_pipe_t pipe;
    uv_timer_t timer;
    uv_connect_t connect;
    uv_write_t write;
    char request[REQUEST_BYTES];
    int open;                 /* handles not closed yet */
};

static void closed(uv_handle_t *handle)
{
    struct ask_pipe *p = handle->data;
    if (--p->open)
        return;
    free(p->ask.reply);
    free(p);
}

static void release(struct ask *a)
{
    struct ask_pipe *p = (struct ask_pipe *)a;
    if (uv_is_closing((uv_handle_t *)&p->pipe))
        return;
    uv_close((uv_handle_t *)&p->pipe, closed);
    uv_close((uv_handle_t *)&p->timer, closed);
}

static void lend(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct ask *a = handle->data;
    (void)suggested;
    size_t room = ask_grow(a) ? a->room - a->used : 0;
    *buf = uv_buf_init(room ? a->reply + a->used : NULL, (unsigned)room);
}

static void bytes_came(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct ask *a = stream->data;
    char *line_end;
    (void)buf;
    if (n < 0) {
        ask_end(a, NULL, n == UV_ENOBUFS ? "its answer is too long" : "it hung up");
        return;
    }
    a->used += (size_t)n;
    if (n && (line_end = memchr(a->reply, '\n', a->used)))
        ask_take(a, (size_t)(line_end - a->reply));
}

static void written(uv_write_t *w, int status)
{
    if (status && status != UV_ECANCELED)
        ask_end(w->data, NULL, uv_strerror(status));
}

static void connected(uv_connect_t *c, int status)
{
    struct ask_pipe *p = c->data;
    uv_buf_t buf = uv_buf_init(p->request, (unsigned)strlen(p->request));
    if (status == UV_ECANCELED || !p->ask.answered)
        return;
    if (!status)
        status = uv_write(&p->write, (uv_stream_t *)&p->pipe, &buf, 1, written);
    if (!status)
        status = uv_read_start((uv_stream_t *)&p->pipe, lend, bytes_came);
    if (status)
        ask_end(&p->ask, NULL, uv_strerror(status));
}

static void too_late(uv_timer_t *timer)
{
    ask_end(timer->data, NULL, "it did not answer in time");
}

struct ask *ask_start(uv_loop_t *loop, const char *path, const char *request, uint32_t timeout_ms,
                      ask_answered answered, void *ctx)
{
    if (!strncmp(path, "http:", 5))
        return ask_http_start(loop, path, request, timeout_ms, answered, ctx);
    struct ask_pipe *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    ask_init(&p->ask, loop, answered, ctx, release);
    p->open = 2;
    snprintf(p->request, sizeof p->request, "%s\n", request);
    uv_pipe_init(loop, &p->pipe, 0);
    uv_timer_init(loop, &p->timer);
    p->pipe.data = p->timer.data = p->connect.data = p->write.data = p;
    uv_timer_start(&p->timer, too_late, timeout_ms, 0);
    uv_pipe_connect(&p->connect, &p->pipe, path, connected); /* errors come there, too */
    return &p->ask;
}
