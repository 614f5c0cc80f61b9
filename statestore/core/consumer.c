/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The primary's side of event logs (event.c): who consumes which, and pushing.
 *
 *   a connection said CONSUME      its client is willing, for that table
 *   a log has events, no consumer  the willing client with the fewest logs gets it:
 *                                  EFFECT_CONSUMER under the next epoch, told when
 *                                  that entry is committed
 *   its own position is committed  the event is pushed, in order, EVENTS_WINDOW
 *                                  unacknowledged at most; the oldest are sent again,
 *                                  more and more rarely, until acknowledged
 *   EVENTS_ACK of client and epoch EFFECT_CURSOR, and the events are gone
 *   no longer willing              (connection closed, want 0, id expired) the log
 *                                  goes to another one under the next epoch
 *
 * So each event reaches somebody at least once, and of two who believe to be the
 * consumer only one moves the cursor. A slow consumer holds up its own logs and
 * nothing else. Who is willing is not replicated: after a promotion clients say
 * it again, and a log waits failure_timeout_ms for the consumer it had.
 *
 * Runs at the end of a step, and only if something changed: an event, a consumer,
 * the commit that was waited for, the time.
 */
#include <errno.h>

#include "internal.h"

enum {
    EVENTS_WINDOW = SHARD_BOUND(256, 6),
    EVENTS_BODY_BYTES = SHARD_BOUND(16 * 1024, 400),
    PATIENCE_MAX = 5,         /* sent again after resend_ms << 5 at the latest */
};

static bool serves(const struct shard *s)
{
    return s->role == SHARD_PRIMARY && !s->collecting;
}

static void due(struct shard *s, uint64_t at_ms)
{
    if (s->consumers.due_ms > at_ms)
        s->consumers.due_ms = at_ms;
}

static void wait_for(struct shard *s, uint64_t position)
{
    if (s->consumers.wait_position > position)
        s->consumers.wait_position = position;
}

/* --- who is willing ------------------------------------------------------------ */

static struct willing *willing_find(struct consumers *c, uint8_t table, uint64_t client)
{
    for (uint32_t i = 0; i < c->nwilling; i++)
        if (c->willing[i].table == table && c->willing[i].client == client)
            return &c->willing[i];
    return NULL;
}

static void willing_remove(struct consumers *c, struct willing *w)
{
    *w = c->willing[--c->nwilling];
    c->dirty = true;
}

static void drop_expired(struct shard *s)
{
    struct consumers *c = &s->consumers;
    for (uint32_t i = c->nwilling; i-- > 0;)
        if (!client_find(s, c->willing[i].client))
            willing_remove(c, &c->willing[i]);
}

void consumers_conn_closed(struct shard *s, uint32_t conn)
{
    struct consumers *c = &s->consumers;
    for (uint32_t i = c->nwilling; i-- > 0;)
        if (c->willing[i].conn == conn)
            willing_remove(c, &c->willing[i]);
}

/* What a consumer was sent may be lost with its connection, or with a primary. */
static void send_afresh(struct shard *s, const struct table *t, uint64_t client)
{
    for (int slot = 0; slot < LETHE_SLOTS; slot++) {
        struct event_log *l = event_log_of(t, (uint8_t)slot);
        if (l && (l->client == client || !client)) {
            l->sent = l->cursor;
            l->patience = 0;
        }
    }
    s->consumers.dirty = true;
}

void consumers_promote(struct shard *s)
{
    s->consumers = (struct consumers){.dirty = true,
                                      .grace_ms = s->now_ms + s->config.failure_timeout_ms};
    for (uint32_t i = 0; i < s->tables; i++)
        send_afresh(s, s->table[i], 0);
}

void on_consume(struct shard *s, struct conn *conn, const struct msg_consume *m)
{
    struct consumers *c = &s->consumers;
    struct client *client = client_find(s, m->client);
    const struct table *t = m->table < s->tables ? s->table[m->table] : NULL;
    if (s->role != SHARD_PRIMARY) /* who only consumes would not find out */
        conn_refuse(s, conn->id, EAGAIN, "this replica is not the primary; ask another");
    if (!serves(s))
        return;
    /* Another primary may have leased the id since, or what let it go is not committed:
     * it asks again. */
    if (!client && (!lease_may_tell(s) || s->base_position > s->commit))
        return;
    if (!client) { /* a mere consumer has no txn by which to hear of it */
        results_push(s, txn_refuse(results_room(s, conn->id, m->client), 0, TXN_STALE_CLIENT));
        return;
    }
    if (!t || !(t->schema.flags & TABLE_EVENTS)) {
        conn_refuse(s, conn->id, EINVAL, "CONSUME of a table that has no events");
        return;
    }
    client_renew(s, client);
    struct willing *w = willing_find(c, m->table, m->client);
    if (w && !m->want) {
        willing_remove(c, w);
    } else if (w && w->conn != conn->id) {
        w->conn = conn->id;
        send_afresh(s, t, m->client);
    } else if (!w && m->want) {
        if (c->nwilling == WILLING_MAX) {
            conn_refuse(s, conn->id, EBUSY, "this shard has as many consumers as it can have");
            return;
        }
        c->willing[c->nwilling++] = (struct willing){.client = m->client, .conn = conn->id,
                                                     .table = m->table};
        send_afresh(s, t, m->client);
    }
}

void on_events_ack(struct shard *s, const struct msg_events_ack *m)
{
    struct client *client = client_find(s, m->client);
    struct table *t = m->table < s->tables ? s->table[m->table] : NULL;
    struct event_log *l = t ? event_log_of(t, m->slot) : NULL;
    struct effect e = {.code = EFFECT_CURSOR, .table = m->table, .version = m->cursor};
    if (!serves(s) || !client || !l || !shard_owns(s, m->slot))
        return;
    client_renew(s, client);
    if ((l->client != m->client || l->epoch != m->epoch) && !SHARD_BUG(BUG_TWO_CONSUMERS))
        return;
    if (m->cursor <= l->cursor || m->cursor >= l->next ||
        event_at(t, l, m->cursor)->position > s->commit)
        return;
    l->patience = 0;
    l->sent_ms = s->now_ms;
    log_slot(s, m->slot, &e); /* log full: it is sent, and acknowledged, again */
}

/* --- giving out ------------------------------------------------------------------- */

static void count_held(struct shard *s, const struct table *t)
{
    struct consumers *c = &s->consumers;
    for (uint32_t i = 0; i < c->nwilling; i++)
        c->willing[i].held = 0;
    for (int slot = 0; slot < LETHE_SLOTS; slot++) {
        const struct event_log *l = event_log_of(t, (uint8_t)slot);
        struct willing *w = l && l->client ? willing_find(c, t->id, l->client) : NULL;
        if (w)
            w->held++;
    }
}

static struct willing *least_busy(struct consumers *c, uint8_t table)
{
    struct willing *least = NULL;
    for (uint32_t i = 0; i < c->nwilling; i++)
        if (c->willing[i].table == table && (!least || c->willing[i].held < least->held))
            least = &c->willing[i];
    return least;
}

/* The consumer of the log, who may be a new one; NULL: nobody for now. */
static struct willing *consumer_of(struct shard *s, struct table *t, uint8_t slot, bool *counted)
{
    struct consumers *c = &s->consumers;
    struct event_log *l = t->part[slot].events;
    struct willing *w = l->client ? willing_find(c, t->id, l->client) : NULL;
    if (w)
        return w;
    if (client_find(s, l->client) && s->now_ms < c->grace_ms) {
        due(s, c->grace_ms);
        return NULL;
    }
    if (!*counted)
        count_held(s, t);
    *counted = true;
    if (!(w = least_busy(c, t->id)))
        return NULL;
    struct effect e = {.code = EFFECT_CONSUMER, .table = t->id, .version = w->client,
                       .children = l->epoch + !SHARD_BUG(BUG_TWO_CONSUMERS)};
    if (!log_slot(s, slot, &e)) {
        due(s, s->now_ms + resend_ms(s));
        return NULL;
    }
    w->held++;
    return w;
}

/* --- pushing ------------------------------------------------------------------------ */

/* One frame of events from `first` on, `last` at most; returns its last one. */
static uint64_t send_frame(struct shard *s, const struct table *t, uint8_t slot, uint32_t conn,
                           uint64_t first, uint64_t last)
{
    const struct event_log *l = t->part[slot].events;
    struct msg_events *m = (struct msg_events *)s->scratch;
    *m = (struct msg_events){.client = l->client, .epoch = l->epoch, .first = first,
                             .table = t->id, .slot = slot};
    uint64_t n = first;
    for (; n <= last; n++) {
        const struct event *e = event_at(t, l, n);
        if (e->position > s->commit) {
            wait_for(s, e->position);
            break;
        }
        if (m->count && m->body_bytes + e->e.bytes > EVENTS_BODY_BYTES)
            break;
        memcpy((uint8_t *)(m + 1) + m->body_bytes, &e->e, e->e.bytes);
        m->body_bytes += e->e.bytes;
        m->count++;
    }
    if (m->count)
        shard_send(s, conn, m, MSG_EVENTS, (uint32_t)sizeof *m + m->body_bytes);
    return n - 1;
}

static void push(struct shard *s, struct table *t, uint8_t slot, uint32_t conn)
{
    struct event_log *l = t->part[slot].events;
    uint64_t last = l->next - 1;
    if (last > l->cursor + EVENTS_WINDOW)
        last = l->cursor + EVENTS_WINDOW;
    if (l->sent > l->cursor &&
        s->now_ms >= l->sent_ms + ((uint64_t)resend_ms(s) << l->patience)) {
        send_frame(s, t, slot, conn, l->cursor + 1, l->sent);
        l->sent_ms = s->now_ms;
        l->patience += l->patience < PATIENCE_MAX;
    }
    while (l->sent < last) {
        uint64_t upto = send_frame(s, t, slot, conn, l->sent + 1, last);
        if (upto == l->sent)
            break;
        if (l->sent == l->cursor)
            l->sent_ms = s->now_ms;
        l->sent = upto;
    }
    if (l->sent > l->cursor)
        due(s, l->sent_ms + ((uint64_t)resend_ms(s) << l->patience));
}

static void run_slot(struct shard *s, struct table *t, uint8_t slot, bool *counted)
{
    struct event_log *l = t->part[slot].events;
    if (!shard_owns(s, slot))
        return;
    const struct willing *w = consumer_of(s, t, slot, counted);
    if (!w)
        return;
    if (l->consumer_position > s->commit)
        wait_for(s, l->consumer_position);
    else
        push(s, t, slot, w->conn);
}

void consumers_run(struct shard *s)
{
    struct consumers *c = &s->consumers;
    if (!serves(s) || (!c->dirty && s->now_ms < c->due_ms && s->commit < c->wait_position))
        return;
    drop_expired(s);
    c->dirty = false;
    c->due_ms = c->wait_position = UINT64_MAX;
    for (uint32_t i = 0; i < s->tables; i++) {
        struct table *t = s->table[i];
        bool counted = false;
        for (int word = 0; t->pending && word < LETHE_SLOTS / 64; word++)
            for (uint64_t m = t->pending_slots[word]; m; m &= m - 1)
                run_slot(s, t, (uint8_t)(64 * word + __builtin_ctzll(m)), &counted);
    }
}

uint64_t consumers_next_ms(const struct shard *s)
{
    if (!serves(s))
        return UINT64_MAX;
    return s->consumers.dirty ? s->now_ms : s->consumers.due_ms;
}
