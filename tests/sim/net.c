/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The network. A connection carries frames between two processes. What sets a
 * connection up (HELLO .. TABLE, ERROR) arrives in order and unharmed, as a
 * channel promises, and so do EVENTS; a loss of those is a connection reset. Everything else
 * carries sequences or positions and is re-sent by its owner, so the network
 * drops it, sends it twice and lets it overtake, each message by chance.
 * Across a partition the former waits and the latter is lost. A way may be slow
 * for a while: what was sent then comes late, the news of a broken connection, too.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

enum { NO_SHARD = 0xffff, DUPLICATE_PER_MILLE = 15, NO_ROOM_PER_MILLE = 3, INBOX_MAX = 256,
       AGAIN_US = 10000 };

const char *net_type_name(uint8_t type)
{
    static const char *const names[MSG_TYPE_END] = {
        [MSG_HELLO] = "HELLO", [MSG_WELCOME] = "WELCOME", [MSG_ERROR] = "ERROR",
        [MSG_CLIENT_OPEN] = "CLIENT_OPEN", [MSG_CLIENT] = "CLIENT",
        [MSG_TABLE_OPEN] = "TABLE_OPEN", [MSG_TABLE] = "TABLE", [MSG_BATCH] = "BATCH",
        [MSG_RESULTS] = "RESULTS", [MSG_JOIN] = "JOIN", [MSG_VIEW] = "VIEW",
        [MSG_SNAP_BEGIN] = "SNAP_BEGIN", [MSG_CHUNK] = "CHUNK", [MSG_CHUNK_ACK] = "CHUNK_ACK",
        [MSG_SNAP_END] = "SNAP_END", [MSG_APPEND] = "APPEND", [MSG_ACK] = "ACK",
        [MSG_STATUS] = "STATUS", [MSG_STATUS_IS] = "STATUS_IS",
        [MSG_FETCH] = "FETCH", [MSG_TAIL] = "TAIL", [MSG_MOVE_BEGIN] = "MOVE_BEGIN",
        [MSG_MOVE_PART] = "MOVE_PART", [MSG_MOVE_END] = "MOVE_END", [MSG_MOVE_ACK] = "MOVE_ACK",
        [MSG_MAP_GET] = "MAP_GET", [MSG_MAP] = "MAP", [MSG_CONSUME] = "CONSUME",
        [MSG_EVENTS] = "EVENTS", [MSG_EVENTS_ACK] = "EVENTS_ACK",
        [MSG_PLACES] = "PLACES", [MSG_LEAVE] = "LEAVE",
    };
    return type < MSG_TYPE_END && names[type] ? names[type] : "?";
}

static bool in_order(uint8_t type)
{
    return type <= MSG_TABLE || type == MSG_EVENTS;
}

static void describe(char *to, size_t room, const struct msg_head *h)
{
    const struct msg_batch *b = (const void *)h;
    const struct msg_results *r = (const void *)h;
    const struct msg_append *a = (const void *)h;
    const struct msg_ack *k = (const void *)h;
    const struct msg_chunk *c = (const void *)h;
    const struct msg_table *t = (const void *)h;
    int n = snprintf(to, room, "%u %s e%" PRIu64, h->shard, net_type_name(h->type), h->view_epoch);
    to += n;
    room -= (size_t)n;
    if (h->type == MSG_BATCH)
        snprintf(to, room, " client %" PRIu64 " ack %" PRIu64 " %u txns from seq %" PRIu64,
                 b->client, b->ack, b->ntxn,
                 b->ntxn ? ((const struct txn_head *)(b + 1))->seq : 0);
    if (h->type == MSG_RESULTS)
        snprintf(to, room, " client %" PRIu64 " %u results from seq %" PRIu64, r->client, r->nres,
                 r->nres ? ((const struct txn_result_head *)(r + 1))->seq : 0);
    if (h->type == MSG_APPEND)
        snprintf(to, room, " %" PRIu64 "+%u commit %" PRIu64 " time %" PRIu64, a->first, a->count,
                 a->commit, a->shard_time_ms);
    if (h->type == MSG_ACK)
        snprintf(to, room, " position %" PRIu64 "%s", k->position, k->drifted ? " DRIFTED" : "");
    if (h->type == MSG_TABLE)
        snprintf(to, room, " %s is %d %.60s", t->name, t->id, t->text);
    if (h->type == MSG_CLIENT)
        snprintf(to, room, " id %" PRIu64, ((const struct msg_client *)(const void *)h)->client);
    if (h->type >= MSG_MOVE_BEGIN && h->type <= MSG_MOVE_ACK) {
        const struct msg_move_ack *m = (const void *)h; /* they begin alike */
        static const char *const states[] = {"", " taken", " ACCEPTED", " REFUSED"};
        snprintf(to, room, " slot %u from shard %u epoch %u attempt %" PRIu64 "%s", m->move.slot,
                 m->move.from_shard, m->move.epoch, m->attempt,
                 h->type == MSG_MOVE_ACK ? states[m->state & 3] : "");
    }
    if (h->type == MSG_EVENTS) {
        const struct msg_events *e = (const void *)h;
        snprintf(to, room, " table %u slot %u consumer %" PRIu64 " epoch %" PRIu64 ": %" PRIu64
                 "+%u", e->table, e->slot, e->client, e->epoch, e->first, e->count);
    }
    if (h->type == MSG_EVENTS_ACK) {
        const struct msg_events_ack *e = (const void *)h;
        snprintf(to, room, " table %u slot %u epoch %" PRIu64 " cursor %" PRIu64, e->table,
                 e->slot, e->epoch, e->cursor);
    }
    if (h->type == MSG_CHUNK)
        snprintf(to, room, " snapshot %" PRIu64 " slot %u at %" PRIu64, c->snapshot,
                 c->slot_or_base, c->position);
}

/* --- delivery -------------------------------------------------------------------- */

struct sim_channel {
    struct channel base;
    struct world *world;
    uint32_t conn;
    int proc;
    struct parcel *inbox[INBOX_MAX];
    uint32_t first, count;
    struct parcel *lent;
    struct nic_end reads;
};

struct parcel {
    uint64_t bytes;
    uint64_t frame[];   /* 8-byte aligned */
};

static struct conn *conn_of(struct world *w, uint32_t number)
{
    return &w->conns[number - 1];
}

/* Which end is the replica's, or the client's, of this life. */
static int end_of(const struct world *w, const struct conn *c, int proc, uint16_t shard)
{
    if (c->end[0].proc == c->end[1].proc)
        return c->shard == shard;
    return c->end[1].proc == proc && c->end[1].life == w->procs[proc].life;
}

static struct replica *replica_at(struct world *w, const struct conn *c, int end)
{
    return &w->replicas[c->end[end].proc][end ? c->shard : c->dialler];
}

static struct parcel *parcel_of(const void *frame, uint32_t bytes)
{
    struct parcel *p = malloc(sizeof *p + bytes);
    if (!p)
        abort();
    p->bytes = bytes;
    memcpy(p->frame, frame, bytes);
    return p;
}

void net_deliver(struct world *w, uint32_t number, int to, const void *frame, uint32_t bytes)
{
    struct conn *conn = conn_of(w, number);
    struct conn_end *end = &conn->end[to];
    if (!end->open || end->life != w->procs[end->proc].life)
        return;
    if (w->trace) {
        char text[160];
        describe(text, sizeof text, frame);
        trace(w, end->proc, "<- #%u %s", number, text);
    }
    if (end->proc < NODES) {
        node_frame(w, replica_at(w, conn, to), number, frame, bytes);
        return;
    }
    struct sim_channel *c = end->channel;
    workload_overhears(w, frame);
    if (c->count == INBOX_MAX)
        return; /* the network may lose anything it may reorder */
    c->inbox[(c->first + c->count++) % INBOX_MAX] = parcel_of(frame, bytes);
    peer_ready(w, end->proc - NODES);
}

/* e->a: connection, e->b: receiving end, e->ptr: the parcel */
static void deliver(struct world *w, const struct event *e)
{
    const struct parcel *p = e->ptr;
    net_deliver(w, (uint32_t)e->a, (int)e->b, p->frame, (uint32_t)p->bytes);
}

static uint64_t delay_us(struct world *w)
{
    uint64_t us = 20 + rng_exp(&w->rng, 80);
    if (rng_chance(&w->rng, 30))
        us += rng_exp(&w->rng, 1500);
    if (rng_chance(&w->rng, w->slow_per_mille))
        us += rng_exp(&w->rng, 15000);
    return us;
}

static void schedule(struct world *w, uint32_t number, int from, const void *frame, uint32_t bytes)
{
    struct conn *c = conn_of(w, number);
    const struct msg_head *h = frame;
    uint64_t at_us = w->now_us + delay_us(w) + w->lag_us[c->end[from].proc][c->end[!from].proc];
    w->fingerprint += (uint64_t)h->type << 32 | bytes;
    if (at_us <= c->ordered_us[from])
        at_us = c->ordered_us[from] + 1;
    if (in_order(h->type)) {
        if (at_us <= c->loose_us[from] && h->type == MSG_ERROR)
            at_us = c->loose_us[from] + 1;
        c->ordered_us[from] = at_us;
    } else if (at_us < c->loose_us[from]) {
        w->counts.reordered++;
    } else {
        c->loose_us[from] = at_us;
    }
    sched_at(w, at_us, c->end[!from].proc, deliver, number, (uint64_t)!from,
             parcel_of(frame, bytes));
}

static void send_again(struct world *w, const struct event *e);

/* Across a partition it waits, and what is behind it, too. True: it does. */
static bool waits(struct world *w, uint32_t number, int from, const void *frame, uint32_t bytes,
                  bool again)
{
    struct conn *c = conn_of(w, number);
    bool cut = w->blocked[c->end[from].proc][c->end[!from].proc];
    if (!cut && (again || c->waits_us[from] < w->now_us))
        return false;
    /* All at one time, so that they stay in order. */
    c->waits_us[from] = (w->now_us / AGAIN_US + 1) * AGAIN_US;
    sched_at(w, c->waits_us[from], NOBODY, send_again, number, (uint64_t)from,
             parcel_of(frame, bytes));
    return true;
}

/* e->a: connection, e->b: sending end: what waited for a partition to heal */
static void send_again(struct world *w, const struct event *e)
{
    const struct parcel *p = e->ptr;
    struct conn *c = conn_of(w, (uint32_t)e->a);
    if (c->end[e->b].open &&
        !waits(w, (uint32_t)e->a, (int)e->b, p->frame, (uint32_t)p->bytes, true))
        schedule(w, (uint32_t)e->a, (int)e->b, p->frame, (uint32_t)p->bytes);
}

int net_send(struct world *w, uint32_t number, int proc, uint16_t shard, const void *frame,
             uint32_t bytes)
{
    struct conn *c = conn_of(w, number);
    const struct msg_head *h = frame;
    int from = end_of(w, c, proc, shard);
    if (!c->end[from].open)
        return -ENOTCONN;
    if (msg_validate(frame, bytes))
        run_fail(w, "wire", "%s sent an invalid %s: %s", w->procs[proc].name,
                 net_type_name(h->type), msg_validate(frame, bytes));
    if (from == 1 && c->ring.used) {
        w->fingerprint += (uint64_t)h->type << 32 | bytes;
        w->counts.dropped += !ring_write(w, number, frame, bytes);
        return 0;
    }
    bool cut = w->blocked[proc][c->end[!from].proc];
    if (in_order(h->type)) {
        if (!waits(w, number, from, frame, bytes, false))
            schedule(w, number, from, frame, bytes);
        return 0;
    }
    if (cut || rng_chance(&w->rng, w->drop_per_mille)) {
        w->counts.dropped++;
        if (w->trace) {
            char text[160];
            describe(text, sizeof text, h);
            trace(w, proc, "-> #%u %s LOST", number, text);
        }
        return 0;
    }
    schedule(w, number, from, frame, bytes);
    if (rng_chance(&w->rng, DUPLICATE_PER_MILLE)) {
        w->counts.duplicated++;
        schedule(w, number, from, frame, bytes);
    }
    return 0;
}

/* --- opening and closing ------------------------------------------------------------ */

/* e->a: connection, e->b: the end that hears of it */
static void hear_closed(struct world *w, const struct event *e)
{
    struct conn *c = conn_of(w, (uint32_t)e->a);
    struct conn_end *end = &c->end[e->b];
    if (!end->open || end->life != w->procs[end->proc].life)
        return;
    if (!c->broken[e->b] && w->blocked[c->end[!e->b].proc][end->proc]) { /* it does not get here either */
        sched_at(w, w->now_us + 10000, end->proc, hear_closed, e->a, e->b, NULL);
        return;
    }
    end->open = false;
    trace(w, end->proc, "#%u closed by the other side or the network", (uint32_t)e->a);
    if (end->proc < NODES) {
        node_closed(w, replica_at(w, c, (int)e->b), (uint32_t)e->a);
        return;
    }
    end->channel->base.open = false;
    snprintf(end->channel->base.why, sizeof end->channel->base.why, "connection reset");
    peer_ready(w, end->proc - NODES);
}

static void tell_closed(struct world *w, uint32_t number, int end, uint64_t after_us)
{
    struct conn *c = conn_of(w, number);
    uint64_t at_us = w->now_us + after_us;
    if (!c->broken[end])
        at_us += w->lag_us[c->end[!end].proc][c->end[end].proc];
    if (!c->broken[end] && at_us <= c->ordered_us[!end])
        at_us = c->ordered_us[!end] + 1;
    if (c->end[end].open)
        sched_at(w, at_us, c->end[end].proc, hear_closed, number, (uint64_t)end, NULL);
}

uint32_t net_dial(struct world *w, int from, uint16_t dialler, int to, uint16_t shard)
{
    if (w->nconns == w->conns_room) {
        w->conns_room = w->conns_room ? w->conns_room * 2 : 64;
        w->conns = realloc(w->conns, w->conns_room * sizeof *w->conns);
        if (!w->conns)
            abort();
    }
    struct conn *c = &w->conns[w->nconns++];
    memset(c, 0, sizeof *c);
    c->end[0] = (struct conn_end){from, w->procs[from].life, true, NULL};
    c->end[1] = (struct conn_end){to, w->procs[to].life, w->procs[to].alive, NULL};
    c->shard = shard;
    c->dialler = dialler;
    c->broken[0] = w->refuses[from][to];
    c->refused = !w->procs[to].alive || w->refuses[from][to];
    c->end[1].open = !c->refused;
    trace(w, from, "#%u dials %s for shard %u", w->nconns, w->procs[to].name, shard);
    if (c->refused)
        tell_closed(w, w->nconns, 0, delay_us(w));
    return w->nconns;
}

void net_close(struct world *w, uint32_t number, int proc, uint16_t shard, const char *why)
{
    struct conn *c = conn_of(w, number);
    int end = end_of(w, c, proc, shard);
    if (!c->end[end].open)
        return;
    trace(w, proc, "closes #%u: %s", number, why);
    c->end[end].open = false;
    tell_closed(w, number, !end, delay_us(w));
}

bool net_is_open(const struct world *w, uint32_t number, int proc, uint16_t shard)
{
    const struct conn *c = &w->conns[number - 1];
    const struct conn_end *e = &c->end[end_of(w, c, proc, shard)];
    return e->open && e->proc == proc && e->life == w->procs[proc].life;
}

void net_reset(struct world *w, uint32_t number)
{
    tell_closed(w, number, 0, delay_us(w));
    tell_closed(w, number, 1, delay_us(w));
}

void net_refuse(struct world *w, int from, int to)
{
    for (uint32_t i = 1; i <= w->nconns; i++)
        for (int end = 0; end < 2; end++) {
            struct conn *c = conn_of(w, i);
            if (c->end[end].proc != from || c->end[!end].proc != to || !c->end[end].open)
                continue;
            c->broken[end] = true;
            tell_closed(w, i, end, delay_us(w));
        }
}

/* Mostly the dead process's host says so at once; sometimes nobody does. */
void net_crash(struct world *w, int proc)
{
    for (uint32_t i = 1; i <= w->nconns; i++)
        for (int end = 0; end < 2; end++) {
            struct conn_end *e = &conn_of(w, i)->end[end];
            if (!e->open || e->proc != proc || e->life != w->procs[proc].life)
                continue;
            e->open = false;
            bool silent = rng_chance(&w->rng, 150);
            tell_closed(w, i, !end, delay_us(w) + (silent ? rng_below(&w->rng, 400000) : 0));
        }
}

void net_clear(struct world *w)
{
    for (uint32_t i = 0; i < w->nconns; i++)
        ring_close(&w->conns[i].ring);
    free(w->conns);
    w->conns = NULL;
    w->nconns = w->conns_room = 0;
}

/* --- a client's channel --------------------------------------------------------------- */

static int channel_send_sim(struct channel *base, const void *frame, uint32_t bytes)
{
    struct sim_channel *c = (struct sim_channel *)base;
    if (!base->open)
        return -ENOTCONN;
    if (rng_chance(&c->world->rng, NO_ROOM_PER_MILLE))
        return -EAGAIN;
    return net_send(c->world, c->conn, c->proc, NO_SHARD, frame, bytes);
}

static void channel_flush_sim(struct channel *base)
{
    struct sim_channel *c = (struct sim_channel *)base;
    if (base->open)
        nic_flush(c->world, c->conn, &c->reads);
}

static const void *channel_recv_sim(struct channel *base, uint32_t *bytes)
{
    struct sim_channel *c = (struct sim_channel *)base;
    free(c->lent);
    c->lent = NULL;
    if (!c->count || !base->open)
        return NULL;
    c->lent = c->inbox[c->first];
    c->first = (c->first + 1) % INBOX_MAX;
    c->count--;
    *bytes = (uint32_t)c->lent->bytes;
    c->world->peers[c->proc - NODES].hears = conn_of(c->world, c->conn)->shard;
    return c->lent->frame;
}

static int channel_fd_sim(struct channel *base, short *events)
{
    (void)base;
    (void)events;
    return -1;
}

static bool channel_arm_sim(struct channel *base)
{
    const struct sim_channel *c = (const struct sim_channel *)base;
    return !c->count && !c->reads.over;
}

static int channel_read_sim(struct channel *base, const struct channel_read *r)
{
    struct sim_channel *c = (struct sim_channel *)base;
    return base->open ? nic_post(c->world, &c->reads, r) : -ENOTCONN;
}

static const void *channel_read_done_sim(struct channel *base, uint64_t *token)
{
    return base->open ? nic_done(&((struct sim_channel *)base)->reads, token) : NULL;
}

struct nic_end *net_reads(struct world *w, uint32_t number)
{
    struct sim_channel *c = conn_of(w, number)->end[0].channel;
    return c && c->base.open ? &c->reads : NULL;
}

static void channel_close_sim(struct channel *base)
{
    struct sim_channel *c = (struct sim_channel *)base;
    nic_close(c->world, c->conn, &c->reads);
    struct conn_end *end = &conn_of(c->world, c->conn)->end[0];
    net_close(c->world, c->conn, c->proc, NO_SHARD, "by the client");
    end->channel = NULL;
    for (; c->count; c->count--, c->first = (c->first + 1) % INBOX_MAX)
        free(c->inbox[c->first]);
    free(c->lent);
    free(c);
}

struct channel *net_dial_channel(struct world *w, int from, int to, uint16_t shard, bool rdma)
{
    static const struct channel_ops plain = {
        "simulated", channel_send_sim, channel_flush_sim, channel_recv_sim,
        channel_fd_sim, channel_arm_sim, channel_close_sim, NULL, NULL, NULL,
    }, reads = {
        "simulated RDMA", channel_send_sim, channel_flush_sim, channel_recv_sim,
        channel_fd_sim, channel_arm_sim, channel_close_sim, channel_read_sim,
        channel_read_done_sim, NULL,
    };
    struct sim_channel *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    c->base.ops = rdma ? &reads : &plain;
    c->base.open = true;
    c->world = w;
    c->proc = from;
    c->conn = net_dial(w, from, NO_SHARD, to, shard);
    conn_of(w, c->conn)->end[0].channel = c;
    return &c->base;
}
