/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control socket (control.h): a libuv loop on a thread of its own, which
 * owns everything here between control_start and control_stop.
 *
 *   accept -> read until '\n' -> answer -> write -> read on
 *                                  ^  | CONTROL_LATER
 *                                  '--'
 * Questions from within (http.c) come by a list and a wake-up, and are answered together.
 * A client is not read while its reply is being written, so a slow one holds
 * one request line and one reply, and holds up nobody. Signals are blocked on
 * this thread: they are the program's, and a client that went away must not
 * raise SIGPIPE.
 */
#include "common/metrics/control.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "common/metrics/metrics.h"

enum {
    LINE_MAX_BYTES = 4096,     /* a request */
    REPLY_MAX_BYTES = 128 * 1024,
    ARGS_MAX = 32,
    CLIENTS_MAX = 64,
};

struct control {
    uv_loop_t loop;
    uv_pipe_t listener;
    uv_async_t stop;
    uv_async_t asked;
    uv_timer_t again;          /* runs while there are `waiting` */
    uv_timer_t gap;            /* runs after an answer to `questions` */
    uv_thread_t thread;
    pthread_mutex_t lock;      /* of questions */
    struct control_question *questions;
    struct client *waiting;    /* whose answer is CONTROL_LATER */
    struct metrics *metrics;
    control_handler handler;
    void *ctx;
    int clients;
    char path[sizeof ((struct sockaddr_un *)0)->sun_path];
    char reply[REPLY_MAX_BYTES + 1]; /* to questions */
};

struct client {
    uv_pipe_t pipe;
    uv_write_t write;
    struct control *control;
    struct client *next;       /* of control's `waiting` */
    bool hang_up;              /* after the reply under way */
    uint32_t used;             /* of line */
    char line[LINE_MAX_BYTES];
    char asked[LINE_MAX_BYTES]; /* the request that is answered now */
    char reply[REPLY_MAX_BYTES + 1];
};

/* --- one request ------------------------------------------------------------- */

static void say_error(char *reply, uint32_t room, const char *sentence, const char *about)
{
    char text[300];
    snprintf(text, sizeof text, sentence, about);
    for (char *p = text; *p; p++) /* the request's bytes may not be UTF-8 */
        if ((unsigned char)*p >= 0x7f)
            *p = '?';
    json_t *o = json_pack("{s:s}", "error", text);
    size_t n = o ? json_dumpb(o, reply, room - 1, JSON_COMPACT) : 0;
    reply[n < room ? n : 0] = 0;
    json_decref(o);
}

static void say_stats(struct control *c, char *reply, uint32_t room)
{
    json_t *o = metrics_json(c->metrics);
    size_t n = o ? json_dumpb(o, reply, room - 1, JSON_COMPACT) : 0;
    json_decref(o);
    if (n == 0 || n >= room)
        say_error(reply, room, "%s", "the statistics do not fit a reply");
    else
        reply[n] = 0;
}

static void answer(struct control *c, char *line, char *reply, uint32_t room)
{
    char *argv[ARGS_MAX + 1], *rest = NULL;
    int argc = 0;
    *reply = 0;
    for (char *word = strtok_r(line, " \t\r", &rest); word; word = strtok_r(NULL, " \t\r", &rest)) {
        if (argc == ARGS_MAX) {
            say_error(reply, room, "%s", "too many words in one request");
            return;
        }
        argv[argc++] = word;
    }
    argv[argc] = NULL;
    if (argc == 0)
        say_error(reply, room, "%s", "empty request; write a verb, such as stats");
    else if (strcmp(argv[0], "stats") == 0 && argc == 1 && c->metrics)
        say_stats(c, reply, room);
    else if (c->handler)
        c->handler(c->ctx, argc, argv, reply, room);
    if (*reply == 0)
        say_error(reply, room, "unknown verb '%.200s'", argv[0]);
    for (char *p = reply; (p = strchr(p, '\n')); )
        *p = ' '; /* one object, one line */
}

/* --- clients ------------------------------------------------------------------- */

static void client_gone(uv_handle_t *handle)
{
    struct client *k = handle->data;
    k->control->clients--;
    free(k);
}

static void hang_up(struct client *k)
{
    if (!uv_is_closing((uv_handle_t *)&k->pipe))
        uv_close((uv_handle_t *)&k->pipe, client_gone);
}

static void serve(struct client *k);
static void read_on(struct client *k);

static void reply_written(uv_write_t *w, int status)
{
    struct client *k = w->data;
    if (status < 0 || k->hang_up)
        hang_up(k);
    else
        serve(k);
}

static void send_reply(struct client *k)
{
    size_t n = strlen(k->reply);
    k->reply[n] = '\n';
    uv_buf_t buf = uv_buf_init(k->reply, (unsigned)n + 1);
    k->write.data = k;
    uv_read_stop((uv_stream_t *)&k->pipe);
    if (uv_write(&k->write, (uv_stream_t *)&k->pipe, &buf, 1, reply_written) != 0)
        hang_up(k);
}

static void ask_waiting(uv_timer_t *timer);

static void ask_handler(struct client *k)
{
    struct control *c = k->control;
    char line[LINE_MAX_BYTES];
    strcpy(line, k->asked);
    answer(c, line, k->reply, REPLY_MAX_BYTES);
    if (strcmp(k->reply, CONTROL_LATER) != 0) {
        send_reply(k);
        return;
    }
    uv_read_stop((uv_stream_t *)&k->pipe);
    k->next = c->waiting;
    c->waiting = k;
    if (!uv_is_active((uv_handle_t *)&c->again))
        uv_timer_start(&c->again, ask_waiting, CONTROL_AGAIN_MS, 0);
}

static void ask_waiting(uv_timer_t *timer)
{
    struct control *c = timer->data;
    struct client *k = c->waiting, *next;
    c->waiting = NULL;
    for (; k; k = next) {
        next = k->next;
        ask_handler(k);
    }
}

/* Answers the first complete line there is; otherwise reads on. */
static void serve(struct client *k)
{
    char *end = memchr(k->line, '\n', k->used);
    if (!end && k->used == LINE_MAX_BYTES) {
        say_error(k->reply, REPLY_MAX_BYTES, "%s", "request longer than 4096 bytes");
        k->hang_up = true;
        send_reply(k);
        return;
    }
    if (!end) {
        read_on(k);
        return;
    }
    uint32_t n = (uint32_t)(end - k->line);
    memcpy(k->asked, k->line, n);
    k->asked[n] = 0;
    k->used -= n + 1;
    memmove(k->line, end + 1, k->used);
    ask_handler(k);
}

static void lend_line(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct client *k = handle->data;
    *buf = uv_buf_init(k->line + k->used, LINE_MAX_BYTES - k->used);
}

static void line_came(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct client *k = stream->data;
    if (n < 0) {
        hang_up(k);
        return;
    }
    k->used += (uint32_t)n;
    if (n > 0 && (memchr(k->line, '\n', k->used) || k->used == LINE_MAX_BYTES))
        serve(k);
}

static void read_on(struct client *k)
{
    int bad = uv_read_start((uv_stream_t *)&k->pipe, lend_line, line_came);
    if (bad && bad != UV_EALREADY)
        hang_up(k);
}

static void client_came(uv_stream_t *listener, int status)
{
    struct control *c = listener->data;
    struct client *k = status == 0 ? calloc(1, sizeof *k) : NULL;
    if (!k)
        return;
    k->control = c;
    c->clients++;
    uv_pipe_init(&c->loop, &k->pipe, 0);
    k->pipe.data = k;
    if (uv_accept(listener, (uv_stream_t *)&k->pipe) != 0) {
        hang_up(k);
    } else if (c->clients > CLIENTS_MAX) {
        say_error(k->reply, REPLY_MAX_BYTES, "%s", "too many connections here; try again");
        k->hang_up = true;
        send_reply(k);
    } else {
        read_on(k);
    }
}

/* --- questions from within ------------------------------------------------------------ */

/* Answers the first one, and all that ask the same. */
static void answer_alike(struct control *c, struct control_question **all)
{
    struct control_question *alike = NULL, **at = all, *q;
    char line[LINE_MAX_BYTES];
    snprintf(line, sizeof line, "%s", (*all)->verb);
    while ((q = *at))
        if (strcmp(q->verb, line) == 0) {
            *at = q->next;
            q->next = alike;
            alike = q;
        } else {
            at = &q->next;
        }
    answer(c, line, c->reply, REPLY_MAX_BYTES);
    if (strcmp(c->reply, CONTROL_LATER) == 0)
        say_error(c->reply, REPLY_MAX_BYTES, "%s", "this takes its time; ask at the control socket");
    while ((q = alike)) {
        alike = q->next;
        q->answered(q, c->reply);
    }
}

static void answer_questions(uv_timer_t *gap)
{
    struct control *c = gap->data;
    pthread_mutex_lock(&c->lock);
    struct control_question *all = c->questions;
    c->questions = NULL;
    pthread_mutex_unlock(&c->lock);
    if (!all)
        return;
    while (all)
        answer_alike(c, &all);
    uv_update_time(&c->loop);
    uv_timer_start(gap, answer_questions, CONTROL_GAP_MS, 0);
}

static void questions_came(uv_async_t *async)
{
    struct control *c = async->data;
    if (!uv_is_active((uv_handle_t *)&c->gap))
        answer_questions(&c->gap);
}

void control_question_put(struct control *c, struct control_question *q)
{
    pthread_mutex_lock(&c->lock);
    q->next = c->questions;
    c->questions = q;
    pthread_mutex_unlock(&c->lock);
    uv_async_send(&c->asked);
}

/* --- the thread -------------------------------------------------------------------- */

static void close_handle(uv_handle_t *handle, void *arg)
{
    if (!uv_is_closing(handle))
        uv_close(handle, handle->data == arg ? NULL : client_gone);
}

static void stop_asked(uv_async_t *async)
{
    struct control *c = async->data;
    uv_walk(&c->loop, close_handle, c);
}

static void run(void *arg)
{
    struct control *c = arg;
    uv_run(&c->loop, UV_RUN_DEFAULT); /* until every handle is closed */
}

static int start_thread(struct control *c)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int bad = uv_thread_create(&c->thread, run, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return bad;
}

static int listen_at(struct control *c, char *err, uint32_t err_len)
{
    int bad = socket_take_over(c->path, err, err_len);
    if (bad)
        return bad;
    int fd = socket_listen(c->path, CLIENTS_MAX);
    bad = fd < 0 ? fd : uv_pipe_open(&c->listener, fd);
    if (!bad)
        bad = uv_listen((uv_stream_t *)&c->listener, CLIENTS_MAX, client_came);
    if (bad)
        snprintf(err, err_len, "cannot listen at %s: %s; does its folder exist, and may we write "
                 "there?", c->path, uv_strerror(bad));
    if (bad && fd >= 0)
        unlink(c->path);
    return bad;
}

int control_start(struct control **out, const char *path, struct metrics *m,
                  control_handler handler, void *ctx, char *err, uint32_t err_len)
{
    struct control *c = calloc(1, sizeof *c);
    if (!c || strlen(path) >= sizeof c->path) {
        snprintf(err, err_len, c ? "%s is too long for a socket's path; choose a shorter run_dir"
                                 : "out of memory for the control socket %s", path);
        int error = c ? -ENAMETOOLONG : -ENOMEM;
        free(c);
        return error;
    }
    *c = (struct control){.metrics = m, .handler = handler, .ctx = ctx};
    strcpy(c->path, path);
    int bad = uv_loop_init(&c->loop);
    if (bad) {
        snprintf(err, err_len, "cannot start an event loop: %s", uv_strerror(bad));
        free(c);
        return bad;
    }
    uv_pipe_init(&c->loop, &c->listener, 0);
    uv_async_init(&c->loop, &c->stop, stop_asked);
    uv_async_init(&c->loop, &c->asked, questions_came);
    uv_timer_init(&c->loop, &c->again);
    uv_timer_init(&c->loop, &c->gap);
    pthread_mutex_init(&c->lock, NULL);
    c->listener.data = c->stop.data = c->asked.data = c->again.data = c->gap.data = c;
    bad = listen_at(c, err, err_len);
    if (!bad && (bad = start_thread(c)))
        snprintf(err, err_len, "cannot start the control thread: %s", uv_strerror(bad));
    if (!bad) {
        *out = c;
        return 0;
    }
    stop_asked(&c->stop); /* closes what there is; nothing runs yet */
    run(c);
    uv_loop_close(&c->loop);
    pthread_mutex_destroy(&c->lock);
    free(c);
    return bad;
}

void control_stop(struct control *c)
{
    if (!c)
        return;
    uv_async_send(&c->stop);
    uv_thread_join(&c->thread);
    int bad = uv_loop_close(&c->loop);
    assert(bad == 0 && !c->questions);
    (void)bad;
    pthread_mutex_destroy(&c->lock);
    unlink(c->path);
    free(c);
}
