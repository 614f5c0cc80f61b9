/* SPDX-License-Identifier: BSD-3-Clause */
/* One question to a control socket (ask.h): connect, write, read until '\n', close. */
#include "orchestrator/controller/ask.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

enum { REQUEST_BYTES = 512, REPLY_FIRST = 16 * 1024, REPLY_MOST = 256 * 1024 };

struct ask {
    uv_pipe_t pipe;
    uv_timer_t timer;
    uv_connect_t connect;
    uv_write_t write;
    ask_answered answered;    /* NULL: answered already, or cancelled */
    void *ctx;
    uint64_t sent_ms;
    char request[REQUEST_BYTES];
    char *reply;
    size_t used, room;
    int open;                 /* handles not closed yet */
};

static void closed(uv_handle_t *handle)
{
    struct ask *a = handle->data;
    if (--a->open)
        return;
    free(a->reply);
    free(a);
}

static void end(struct ask *a, const json_t *answer, const char *why)
{
    ask_answered answered = a->answered;
    a->answered = NULL;
    if (!uv_is_closing((uv_handle_t *)&a->pipe)) {
        uv_close((uv_handle_t *)&a->pipe, closed);
        uv_close((uv_handle_t *)&a->timer, closed);
    }
    if (answered)
        answered(a->ctx, answer, a->sent_ms, why);
}

void ask_cancel(struct ask *a)
{
    a->answered = NULL;
    end(a, NULL, NULL);
}

static void take_line(struct ask *a, size_t bytes)
{
    json_t *o = json_loadb(a->reply, bytes, 0, NULL);
    const char *error = json_string_value(json_object_get(o, "error"));
    if (!json_is_object(o))
        end(a, NULL, "it answered what is no JSON object");
    else
        end(a, error ? NULL : o, error);
    json_decref(o);
}

static void lend(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct ask *a = handle->data;
    (void)suggested;
    if (a->used == a->room && a->room < REPLY_MOST) {
        size_t room = a->room ? a->room * 2 : REPLY_FIRST;
        char *grown = realloc(a->reply, room);
        if (grown) {
            a->reply = grown;
            a->room = room;
        }
    }
    *buf = uv_buf_init(a->reply + a->used, (unsigned)(a->room - a->used));
}

static void bytes_came(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct ask *a = stream->data;
    char *line_end;
    (void)buf;
    if (n < 0) {
        end(a, NULL, n == UV_ENOBUFS ? "its answer is too long" : "it hung up");
        return;
    }
    a->used += (size_t)n;
    if (n && (line_end = memchr(a->reply, '\n', a->used)))
        take_line(a, (size_t)(line_end - a->reply));
}

static void written(uv_write_t *w, int status)
{
    if (status && status != UV_ECANCELED)
        end(w->data, NULL, uv_strerror(status));
}

static void connected(uv_connect_t *c, int status)
{
    struct ask *a = c->data;
    uv_buf_t buf = uv_buf_init(a->request, (unsigned)strlen(a->request));
    if (status == UV_ECANCELED || !a->answered)
        return;
    if (!status)
        status = uv_write(&a->write, (uv_stream_t *)&a->pipe, &buf, 1, written);
    if (!status)
        status = uv_read_start((uv_stream_t *)&a->pipe, lend, bytes_came);
    if (status)
        end(a, NULL, uv_strerror(status));
}

static void too_late(uv_timer_t *timer)
{
    end(timer->data, NULL, "it did not answer in time");
}

struct ask *ask_start(uv_loop_t *loop, const char *path, const char *request, uint32_t timeout_ms,
                      ask_answered answered, void *ctx)
{
    struct ask *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->answered = answered;
    a->ctx = ctx;
    a->open = 2;
    uv_update_time(loop);
    a->sent_ms = uv_now(loop);
    snprintf(a->request, sizeof a->request, "%s\n", request);
    uv_pipe_init(loop, &a->pipe, 0);
    uv_timer_init(loop, &a->timer);
    a->pipe.data = a->timer.data = a->connect.data = a->write.data = a;
    uv_timer_start(&a->timer, too_late, timeout_ms, 0);
    uv_pipe_connect(&a->connect, &a->pipe, path, connected); /* errors come there, too */
    return a;
}
