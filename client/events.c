/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Events: CONSUME goes to every shard whose session is up, again and again, so
 * that slots whose consumer went away come to us; EVENTS call the handler, in
 * order, until it says "not now", and what it took is acknowledged. The shard
 * repeats what is not acknowledged. A repetition under the same consumer epoch
 * of what the handler took already is acknowledged again and not shown again;
 * under a new epoch the cursor that the shard remembers counts, hence at least
 * once. A store of protocol 1 never gets here: a table with events is fatal there.
 * Memory: per table asked for, one cursor per hash slot.
 */
#include "client/client_impl.h"

#include <errno.h>
#include <stdlib.h>

struct consumer {
    lethe_handler handler;      /* NULL: no more */
    void *user;
    struct { uint64_t epoch, done; } slots[LETHE_SLOTS];
};

int lethe_events(struct lethe_client *c, int table, lethe_handler handler, void *user)
{
    if (table < 0 || table >= c->ntables || !(c->tables[table].flags & TABLE_EVENTS))
        return -EINVAL;
    if (!c->consumers[table] && !handler)
        return 0;
    if (!c->consumers[table])
        c->consumers[table] = calloc(1, sizeof *c->consumers[table]);
    if (!c->consumers[table])
        return -ENOMEM;
    c->consumers[table]->handler = handler;
    c->consumers[table]->user = user;
    for (int i = 0; i < c->shards; i++) {
        c->sessions[i].consume_us = c->now_us;
        c->sessions[i].stop_told &= ~(1ull << table);
    }
    return 0;
}

void lethe_events_destroy(struct lethe_client *c)
{
    for (int i = 0; i < TABLES_MAX; i++)
        free(c->consumers[i]);
}

/* True if the shard is to hear about this table, now and again. */
static bool to_tell(const struct session *s, int table)
{
    const struct consumer *k = s->client->consumers[table];
    return k && (k->handler || !(s->stop_told & 1ull << table));
}

void lethe_events_timers(struct session *s)
{
    struct lethe_client *c = s->client;
    if (c->now_us < s->consume_us)
        return;
    s->consume_us = c->now_us + CONSUME_US;
    bool sent = false;
    for (int i = 0; i < c->ntables; i++) {
        if (!to_tell(s, i))
            continue;
        struct msg_consume m = {.client = s->id, .table = (uint8_t)s->table_id[i],
                                .want = c->consumers[i]->handler != NULL};
        if (lethe_session_send(s, &m, MSG_CONSUME, sizeof m))
            break; /* no room: the next time */
        if (!m.want)
            s->stop_told |= 1ull << i;
        sent = true;
    }
    if (sent)
        channel_flush(s->channel);
}

uint64_t lethe_events_next_us(const struct session *s)
{
    for (int i = 0; i < s->client->ntables; i++)
        if (to_tell(s, i))
            return s->consume_us;
    return UINT64_MAX;
}

static int table_of(const struct session *s, uint8_t id)
{
    for (int i = 0; i < s->client->ntables; i++)
        if (s->table_id[i] == id)
            return i;
    return -1;
}

static bool show(struct consumer *k, int table, uint8_t slot, const struct msg_event *e)
{
    struct lethe_event event = {.table = table, .slot = slot, .key_len = e->key_len,
                                .value_len = e->value_len, .key = e + 1,
                                .value = (const uint8_t *)(e + 1) + e->key_len,
                                .version = e->version, .time_ms = e->time_ms};
    return k->handler && k->handler(k->user, &event);
}

void lethe_events_frame(struct session *s, const struct msg_events *m)
{
    int table = table_of(s, m->table);
    struct consumer *k = table < 0 ? NULL : s->client->consumers[table];
    /* Also while a further table is being opened: what is not taken now would be
     * skipped, were it the first of its epoch. */
    if (!k || (s->state != SESSION_UP && s->state != SESSION_TABLES) || m->client != s->id)
        return;
    if (k->slots[m->slot].epoch != m->epoch) {
        k->slots[m->slot].epoch = m->epoch;
        k->slots[m->slot].done = m->first - 1;
    }
    uint64_t *done = &k->slots[m->slot].done;
    const struct msg_event *e = (const struct msg_event *)(m + 1);
    for (uint64_t number = m->first; number < m->first + m->count; number++) {
        /* One that skips some is not what follows: those come first. */
        if (number > *done + 1 || (number == *done + 1 && !show(k, table, m->slot, e)))
            break;
        if (number > *done)
            *done = number;
        e = (const struct msg_event *)((const uint8_t *)e + e->bytes);
    }
    struct msg_events_ack ack = {.client = s->id, .epoch = m->epoch, .cursor = *done,
                                 .table = m->table, .slot = m->slot};
    /* No room: they are repeated, and so is this. */
    if (*done >= m->first && !lethe_session_send(s, &ack, MSG_EVENTS_ACK, sizeof ack))
        channel_flush(s->channel);
}
