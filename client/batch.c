/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * BATCH out, RESULTS in. One frame per shard and flush, several only beyond
 * MSG_BATCH_MAX or MSG_BYTES_MAX. A frame that the channel has no room for is
 * held as it is and offered again; nothing else is built meanwhile, which is
 * how the store's back-pressure reaches the window and, by a NULL from
 * lethe_txn_begin, the caller.
 */
#include "client/client_impl.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The txn's bytes for this shard: its sequence, and the store's table ids. */
static void copy_translated(const struct session *s, uint8_t *to, const struct lethe_txn *t)
{
    struct txn_head *h = (struct txn_head *)to;
    memcpy(to, t->bytes, ((const struct txn_head *)t->bytes)->bytes);
    h->seq = t->seq;
    if (s->proto < 2) /* which knows of no moves */
        h->slot_epoch = 0;
    struct txn_op *op = (struct txn_op *)(h + 1);
    for (int i = 0; i < h->nops; i++) {
        assert(op->table < s->client->ntables);
        op->table = (uint8_t)s->table_id[op->table];
        if (op->code == TXN_INSERT && (op->flags & TXN_HAS_PARENT)) {
            assert(op->parent_table < s->client->ntables);
            op->parent_table = (uint8_t)s->table_id[op->parent_table];
        }
        op = (struct txn_op *)((uint8_t *)op + op->bytes);
    }
}

/* Moves queued txns into s->frame; returns its bytes, 0 if none may leave. */
static uint32_t build_frame(struct session *s)
{
    struct lethe_client *c = s->client;
    struct msg_batch *m = (struct msg_batch *)s->frame;
    uint32_t used = sizeof *m;
    m->ntxn = 0;
    while (s->queue.count && m->ntxn < MSG_BATCH_MAX) {
        struct lethe_txn *t = &c->slots[s->queue.head];
        uint32_t bytes = ((const struct txn_head *)t->bytes)->bytes;
        bool fresh = !t->seq;
        if (used + bytes > MSG_BYTES_MAX || (fresh && !lethe_seq_assign(s, t)))
            break;
        copy_translated(s, s->frame + used, t);
        used += bytes;
        m->ntxn++;
        lethe_list_remove(s, t);
        t->due_us = c->now_us + c->retry_us;
        /* Silence counts from when we began to wait; a retry waits already. */
        if (fresh && !s->sent.count)
            s->heard_us = s->answered_us = c->now_us;
        lethe_list_append(s, &s->sent, t, SLOT_SENT);
        if (c->sent)
            c->sent(c->sent_ctx, t->user, s->shard, s->id, t->seq);
    }
    if (!m->ntxn)
        return 0;
    msg_head_set(m, MSG_BATCH, used, s->shard, 0);
    msg_speak(m, s->proto);
    m->client = s->id;
    m->stamp = 0;
    return used;
}

/* Offers the held frame; true when there is none left. */
static bool send_held(struct session *s)
{
    if (!s->held_bytes)
        return true;
    struct msg_batch *m = (struct msg_batch *)s->frame;
    m->ack = s->ack;
    m->stamp = lethe_reads_stamp(s);
    if (channel_send(s->channel, m, s->held_bytes))
        return false;
    s->held_bytes = 0;
    s->batch_us = s->client->now_us;
    return true;
}

void lethe_batch_send(struct session *s)
{
    if (s->state != SESSION_UP)
        return;
    while (send_held(s) && s->queue.count) {
        s->held_bytes = build_frame(s);
        if (!s->held_bytes)
            break;
    }
    s->flush_wanted = s->held_bytes || s->queue.count;
    channel_flush(s->channel);
}

/* --- timers ----------------------------------------------------------------------- */

static bool requeue_due(struct session *s, struct slot_list *l)
{
    struct lethe_client *c = s->client;
    bool any = false;
    while (l->count && c->slots[l->head].due_us <= c->now_us) {
        struct lethe_txn *t = &c->slots[l->head];
        lethe_list_remove(s, t);
        /* In front: a new txn may be unable to leave before this one is answered. */
        lethe_list_prepend(s, &s->queue, t, SLOT_QUEUED);
        c->retries++;
        any = true;
    }
    return any;
}

static void renew_lease(struct session *s)
{
    struct msg_batch m = {.client = s->id, .ack = s->ack, .stamp = lethe_reads_stamp(s)};
    /* No room: what fills the channel renews it as well. */
    lethe_session_send(s, &m, MSG_BATCH, sizeof m);
    s->batch_us = s->client->now_us;
    channel_flush(s->channel);
}

void lethe_batch_timers(struct session *s)
{
    if (s->state != SESSION_UP)
        return;
    bool due = requeue_due(s, &s->delayed);
    /* What sits in a held frame is not late, it has not left. */
    if (!s->held_bytes)
        due |= requeue_due(s, &s->sent);
    if (due || s->flush_wanted)
        lethe_batch_send(s);
    bool due_lease = s->lease_us && s->client->now_us >= s->batch_us + s->lease_us / 3;
    if (!s->held_bytes && (due_lease || lethe_reads_ask(s)))
        renew_lease(s);
}

void lethe_batch_requeue(struct session *s)
{
    struct lethe_client *c = s->client;
    struct slot_list *from[] = {&s->delayed, &s->sent};
    for (int i = 0; i < 2; i++) {
        while (from[i]->count) {
            struct lethe_txn *t = &c->slots[from[i]->tail];
            lethe_list_remove(s, t);
            lethe_list_prepend(s, &s->queue, t, SLOT_QUEUED);
            c->retries++;
        }
    }
    s->held_bytes = 0;
    s->flush_wanted = s->queue.count != 0;
}

/* --- results ------------------------------------------------------------------------ */

/* One that was just made the primary serves within milliseconds; one that was
 * deposed never again, which it says when asked. A shard that a slot moved to just
 * now is BUSY until it has accepted it. */
static uint64_t push_back_us(struct session *s, const struct lethe_txn *t, enum txn_status status)
{
    uint64_t now_us = s->client->now_us;
    if (status != TXN_NOT_PRIMARY && !(status == TXN_BUSY && t->hops))
        return PUSHED_BACK_US;
    if (status == TXN_NOT_PRIMARY)
        lethe_session_ask(s);
    if (!s->pushed_since_us)
        s->pushed_since_us = now_us;
    return now_us < s->pushed_since_us + EAGER_FOR_US ? EAGER_US : PUSHED_BACK_US;
}

static void push_back(struct session *s, struct lethe_txn *t, enum txn_status status)
{
    /* An answer to an attempt before the newest one: that one is under way. */
    if (t->state != SLOT_SENT)
        return;
    lethe_list_remove(s, t);
    t->due_us = s->client->now_us + push_back_us(s, t, status);
    lethe_list_append(s, &s->delayed, t, SLOT_DELAYED);
    if (!s->pushed_back)
        snprintf(s->trouble, sizeof s->trouble, "shard %u answers: %s", s->shard,
                 txn_status_text(status));
    s->pushed_back = true;
}

static void complete(struct session *s, struct lethe_txn *t, const struct txn_result_head *r)
{
    lethe_done done = t->done;
    void *user = t->user;
    if (s->pushed_back) {
        s->pushed_back = false;
        s->trouble[0] = 0;
    }
    s->pushed_since_us = 0;
    lethe_list_remove(s, t);
    lethe_seq_done(s, t);
    /* Free before the call: the callback may begin another one. */
    lethe_window_give(t);
    s->client->done++;
    if (done)
        done(user, r);
}

int lethe_batch_results(struct session *s, const struct msg_results *m)
{
    const uint8_t *at = (const uint8_t *)(m + 1);
    int done = 0;
    s->answered_us = s->client->now_us;
    for (uint32_t i = 0; i < m->nres; i++) {
        const struct txn_result_head *r = (const struct txn_result_head *)at;
        at += r->bytes;
        /* The id may be lost by a result, or by a callback's doing: look each time. */
        if (!s->id || m->client != s->id)
            return done;
        struct lethe_txn *t = lethe_seq_find(s, r->seq);
        switch (r->status) {
        case TXN_STALE_CLIENT:
            return done + lethe_session_stale(s);
        case TXN_BUSY:
        case TXN_NOT_PRIMARY:
        case TXN_LOST:
            if (t)
                push_back(s, t, r->status);
            break;
        case TXN_MOVED:
            if (t)
                lethe_map_moved(s, t, txn_moved_of(r));
            break;
        default:
            if (t) {
                complete(s, t, r);
                done++;
            }
        }
    }
    return done;
}
