/* SPDX-License-Identifier: BSD-3-Clause */
/* See curl_loop.h. A socket that curl waits for is a poll handle; its one time-out is the timer. */
#include "orchestrator/driver/curl_loop.h"

#include <stdlib.h>

struct curl_loop {
    uv_loop_t *loop;
    uv_timer_t timer;
    CURLM *multi;
    curl_loop_ended ended;
};

struct watched {
    uv_poll_t poll;
    struct curl_loop *of;
    curl_socket_t fd;
};

/* Who is told may add and remove others. */
static void act(struct curl_loop *c, curl_socket_t fd, int events)
{
    CURLMsg *m;
    int ignored;
    curl_multi_socket_action(c->multi, fd, events, &ignored);
    while ((m = curl_multi_info_read(c->multi, &ignored))) {
        CURLcode code = m->data.result;
        void *of = NULL;
        if (m->msg == CURLMSG_DONE && curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&of) == CURLE_OK)
            c->ended(of, code);
    }
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    struct watched *w = poll->data;
    act(w->of, w->fd, status < 0 ? CURL_CSELECT_ERR
                                 : (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
                                       (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0));
}

static void on_time(uv_timer_t *timer)
{
    act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int want_time(CURLM *multi, long ms, void *ctx)
{
    struct curl_loop *c = ctx;
    (void)multi;
    uv_update_time(c->loop);
    if (ms < 0)
        uv_timer_stop(&c->timer);
    else /* never early: libcurl would not say again what it said */
        uv_timer_start(&c->timer, on_time, (uint64_t)ms + 1, 0);
    return 0;
}

static void free_data(uv_handle_t *handle)
{
    free(handle->data);
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *of_socket)
{
    struct curl_loop *c = ctx;
    struct watched *w = of_socket;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (w)
            uv_close((uv_handle_t *)&w->poll, free_data); /* watches no more from now on */
        curl_multi_assign(c->multi, fd, NULL);
        return 0;
    }
    if (!w) {
        w = calloc(1, sizeof *w);
        if (!w || uv_poll_init_socket(c->loop, &w->poll, fd)) {
            free(w);
            return -1;
        }
        w->of = c;
        w->fd = fd;
        w->poll.data = w;
        curl_multi_assign(c->multi, fd, w);
    }
    return uv_poll_start(&w->poll, (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0),
                         on_ready) ? -1 : 0;
}

bool curl_loop_add(struct curl_loop *c, CURL *easy)
{
    return curl_multi_add_handle(c->multi, easy) == CURLM_OK;
}

void curl_loop_remove(struct curl_loop *c, CURL *easy)
{
    curl_multi_remove_handle(c->multi, easy);
}

struct curl_loop *curl_loop_create(uv_loop_t *loop, long connections_each, curl_loop_ended ended)
{
    struct curl_loop *c = curl_global_init(CURL_GLOBAL_DEFAULT) ? NULL : calloc(1, sizeof *c);
    CURLM *multi = c ? curl_multi_init() : NULL;
    if (!multi) {
        free(c);
        return NULL;
    }
    *c = (struct curl_loop){.loop = loop, .multi = multi, .ended = ended};
    uv_timer_init(loop, &c->timer);
    c->timer.data = c;
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, want_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, want_time);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, c);
    curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, connections_each);
    return c;
}

void curl_loop_destroy(struct curl_loop *c)
{
    curl_multi_cleanup(c->multi);
    uv_close((uv_handle_t *)&c->timer, free_data);
}
