/* SPDX-License-Identifier: BSD-3-Clause */
/* What the core wants done (struct shard_out). Called during a step, so nothing
 * here steps the core again: closing waits until the step is over. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log/log.h"
#include "statestore/server/loop_impl.h"

/* To a peer of an older protocol every frame says that it is of that one, and
 * what came later is not said. */
static const void *in_older_words(struct loop *l, uint8_t proto, const void *frame, uint32_t bytes)
{
    memcpy(l->older, frame, bytes);
    msg_speak(l->older, proto);
    return l->older;
}

int effects_send(struct loop *l, struct conn *c, const void *frame, uint32_t bytes)
{
    const struct msg_head *m = frame;
    uint8_t proto = c->proto ? c->proto : MSG_PROTO_MIN; /* without a HELLO: readable for anybody */
    if (proto != m->proto) {
        if (proto < 2 && m->type > MSG_PROVEN)
            return 0;
        frame = in_older_words(l, proto, frame, bytes);
    }
    l->mine.frames_out++;
    l->mine.bytes_out += bytes;
    loop_make_dirty(l, c);
    c->unflushed += bytes;
    return conn_send(c, frame, bytes, l->now_ms);
}

static void on_send(void *ctx, uint32_t number, const void *frame, uint32_t bytes)
{
    struct loop *l = ctx;
    if (number == SELF_CONN) {
        orders_answered(l, frame);
        return;
    }
    struct conn *c = conns_find(&l->conns, number);
    if (!c || c->doomed)
        return;
    if (l->tracing && ((const struct msg_head *)frame)->type == MSG_RESULTS)
        traced_released(l->traced, frame);
    if (c->auth.tenant && ((const struct msg_head *)frame)->type == MSG_TABLE)
        auth_table_given(&c->auth, frame);
    int rc = effects_send(l, c, frame, bytes);
    if (!rc)
        return;
    if (rc == -ENOBUFS) {
        l->mine.slow_readers++;
        loop_doom(l, c, "slow reader: it leaves more unread than the bound of its backlog");
    } else if (rc == -ENOMEM) {
        loop_doom(l, c, "out of memory for its backlog");
    } else {
        loop_make_ready(l, c); /* closed by the peer: the next read says so */
    }
}

static void on_close(void *ctx, uint32_t number, const char *why)
{
    struct loop *l = ctx;
    struct conn *c = conns_find(&l->conns, number);
    if (c)
        loop_doom(l, c, why);
}

static void on_propose(void *ctx, uint64_t old_epoch, const struct shard_view *want)
{
    struct loop *l = ctx;
    l->config.views->ops->propose(l->config.views, l->number, old_epoch, want);
}

static void on_note(void *ctx, const char *text)
{
    static const struct { const char *event; enum log_level level; } loud[] = {
        {"drift", LOG_LEVEL_ERROR}, {"lost", LOG_LEVEL_ERROR}, {"limit reached", LOG_LEVEL_WARN},
        {"view proposed", LOG_LEVEL_WARN}, {"take-over proposed", LOG_LEVEL_WARN},
        {"view left", LOG_LEVEL_WARN}};
    struct loop *l = ctx;
    const char *words = strstr(text, ": ");
    enum log_level level = LOG_LEVEL_INFO;
    char event[40];
    snprintf(event, sizeof event, "%.*s", words ? (int)(words - text) : 5, words ? text : "shard");
    for (size_t i = 0; i < sizeof loud / sizeof loud[0]; i++)
        if (!strcmp(event, loud[i].event))
            level = loud[i].level;
    log_line(level, event, "shard=%u %s", l->number, words ? words + 2 : text);
}

void effects_init(struct loop *l)
{
    l->out = (struct shard_out){l, on_send, on_close, on_propose, on_note};
}

void effects_refuse(struct loop *l, struct conn *c, uint32_t code, const char *text)
{
    struct msg_error m = {.code = code};
    snprintf(m.text, sizeof m.text, "%s", text);
    msg_head_set(&m, MSG_ERROR, sizeof m, l->number, 0);
    effects_send(l, c, &m, sizeof m);
    loop_doom(l, c, text);
}
