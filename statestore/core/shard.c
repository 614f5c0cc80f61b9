/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The shard's life, and its one entry: an event comes in, goes to who handles
 * it, and at the end of the step everything that piled up goes out, in this
 * order: replies, snapshot parts, log entries, the acknowledgement.
 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

void shard_note(struct shard *s, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (s->out && s->out->note)
        s->out->note(s->out->ctx, text);
}

/* xorshift128+ (Vigna). */
uint64_t shard_random(struct shard *s)
{
    uint64_t a = s->random[0], b = s->random[1];
    s->random[0] = b;
    a ^= a << 23;
    s->random[1] = a ^ b ^ a >> 18 ^ b >> 5;
    return s->random[1] + b;
}

struct shard *shard_create(const struct shard_config *config)
{
    struct shard *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->config = *config;
    s->self = config->self;
    s->role = SHARD_IDLE;
    s->random[0] = mix64(config->seed + 1);
    s->random[1] = mix64(config->seed + 2) | 1;
    uint64_t log_bytes = config->log_bytes ? config->log_bytes : LOG_BYTES_DEFAULT;
    if (!s->config.shards)
        s->config.shards = 1;
    if (!s->config.failure_timeout_ms)
        s->config.failure_timeout_ms = 1000;
    s->frame = aligned_alloc(64, MSG_BYTES_MAX);
    s->scratch = aligned_alloc(64, MSG_BYTES_MAX);
    s->places.frame = config->slabs.make ? malloc(places_frame_bytes()) : NULL;
    int err = log_open(&s->log, log_bytes < LOG_BYTES_MIN ? LOG_BYTES_MIN : log_bytes);
    if (limits_open(s) || err || !s->frame || !s->scratch ||
        (config->slabs.make && !s->places.frame)) {
        shard_destroy(s);
        return NULL;
    }
    owners_reset(s);
    wheel_reset(s);
    return s;
}

void state_discard(struct shard *s)
{
    replies_drop_all(s);
    for (uint32_t i = 0; i < s->tables; i++)
        table_destroy(s->table[i]);
    memset(s->table, 0, sizeof s->table);
    s->tables = 0;
    clients_clear(s);
    memset(s->slot, 0, sizeof s->slot);
    owners_reset(s);
    s->client_counter = s->base_position = s->digest = 0;
    s->sending = s->lent = 0;
    memset(&s->loans, 0, sizeof s->loans);
    s->mark_position = s->mark_digest = 0;
    s->has_state = s->drifted = false;
    log_reset(s, 0);
    wheel_reset(s);
}

static void free_slabs(void *slab)
{
    while (slab) {
        void *next = *(void **)slab;
        free(slab);
        slab = next;
    }
}

void shard_destroy(struct shard *s)
{
    if (!s)
        return;
    if (s->log.at)
        state_discard(s);
    conns_destroy(s);
    moves_reset(s);
    for (int i = 0; i < PEERS_MAX; i++)
        join_stop(&s->peer[i]);
    free_slabs(s->kept_slabs);
    free_slabs(s->reply_slabs);
    log_close(&s->log);
    free(s->frame);
    free(s->scratch);
    free(s->places.frame);
    free(s->limits);
    free(s);
}

void shard_join_through(struct shard *s, uint32_t conn)
{
    s->joining.conn = conn;
    s->joining.attached = false;
    s->joining.asked_ms = 0;
}

/* --- frames ------------------------------------------------------------------------ */

/* The node that serves, as far as we know; protocol 1 does not ask. */
static uint32_t primary_node(const struct shard *s, uint8_t proto)
{
    if (proto < 2)
        return 0;
    return s->role == SHARD_PRIMARY ? s->self.node : s->view.members[0].node;
}

static void on_hello(struct shard *s, uint32_t conn, const struct msg_hello *m)
{
    struct msg_welcome w = {.primary = s->role == SHARD_PRIMARY,
                            .shards = s->config.shards, .self = s->self,
                            .lease_ms = client_lease_ms(s)};
    if (m->magic != MSG_MAGIC) {
        conn_refuse(s, conn, EPROTO, "this is not Lethe's protocol");
        return;
    }
    if (m->proto_min > MSG_PROTO_MAX || m->proto_max < MSG_PROTO_MIN) {
        conn_refuse(s, conn, EPROTO, "no common protocol version; upgrade the older side");
        return;
    }
    if (m->role < ROLE_CLIENT || m->role > ROLE_MOVER || m->auth) {
        conn_refuse(s, conn, EPROTO, "unknown role or authentication method");
        return;
    }
    struct conn *c = conn_open(s, conn);
    if (!c) {
        conn_refuse(s, conn, EBUSY, "too many connections");
        return;
    }
    w.proto = c->proto = msg_common_proto(m);
    w.primary_node = primary_node(s, w.proto);
    c->role = m->role;
    c->node = m->self;
    c->one_sided = s->places.frame && m->role == ROLE_CLIENT && c->proto >= 2 &&
                   m->capabilities & CAP_ONE_SIDED;
    w.capabilities = c->one_sided ? CAP_ONE_SIDED : 0;
    shard_send(s, conn, &w, MSG_WELCOME, sizeof w);
}

static void on_status(struct shard *s, uint32_t conn, const struct msg_status *m)
{
    struct msg_status_is is = {.nonce = m->nonce};
    shard_status_get(s, &is.status);
    shard_send(s, conn, &is, MSG_STATUS_IS, sizeof is);
}

/* What a replica hears on the connection that it made to its primary. */
static bool from_primary(struct shard *s, uint32_t conn, const struct msg_head *h)
{
    if (!s->joining.conn || conn != s->joining.conn)
        return false;
    switch ((enum msg_type)h->type) {
    case MSG_VIEW: on_view_frame(s, (const void *)h); return true;
    case MSG_APPEND: on_append(s, (const void *)h); return true;
    case MSG_SNAP_BEGIN: on_snap_begin(s, (const void *)h); return true;
    case MSG_CHUNK: on_chunk(s, (const void *)h); return true;
    case MSG_FETCH: on_fetch(s, (const void *)h); return true;
    case MSG_SNAP_END: return true; /* its parts were counted already */
    case MSG_WELCOME:
    case MSG_ERROR: return true;
    default: return false;
    }
}

static bool from_client(struct shard *s, struct conn *c, const struct msg_head *h)
{
    switch ((enum msg_type)h->type) {
    case MSG_CLIENT_OPEN: on_client_open(s, c, (const void *)h); return true;
    case MSG_TABLE_OPEN: on_table_open(s, c, (const void *)h); return true;
    case MSG_BATCH: on_batch(s, c->id, (const void *)h); return true;
    case MSG_CONSUME: on_consume(s, c, (const void *)h); return true;
    case MSG_EVENTS_ACK: on_events_ack(s, (const void *)h); return true;
    case MSG_MAP_GET: on_map_get(s, c->id); return true;
    default: return false;
    }
}

static bool from_backup(struct shard *s, struct conn *c, const struct msg_head *h)
{
    switch ((enum msg_type)h->type) {
    case MSG_JOIN: on_join(s, c, (const void *)h); return true;
    case MSG_ACK: on_ack(s, c, (const void *)h); return true;
    case MSG_CHUNK_ACK: on_chunk_ack(s, c, (const void *)h); return true;
    case MSG_TAIL: on_tail(s, c, (const void *)h); return true;
    case MSG_LEAVE: on_leave(s, c, (const void *)h); return true;
    default: return false;
    }
}

static bool from_source(struct shard *s, struct conn *c, const struct msg_head *h)
{
    switch ((enum msg_type)h->type) {
    case MSG_MOVE_BEGIN: on_move_begin(s, c, (const void *)h); return true;
    case MSG_MOVE_PART: on_move_part(s, c, (const void *)h); return true;
    case MSG_MOVE_END: on_move_end(s, c, (const void *)h); return true;
    default: return false;
    }
}

static bool from_conn(struct shard *s, struct conn *c, const struct msg_head *h)
{
    switch ((enum msg_role)c->role) {
    case ROLE_CLIENT: return from_client(s, c, h);
    case ROLE_REPLICA: return from_backup(s, c, h);
    case ROLE_MOVER: return from_source(s, c, h);
    case ROLE_ADMIN: break;
    }
    return false;
}

static void on_frame(struct shard *s, uint32_t conn, const void *frame)
{
    const struct msg_head *h = frame;
    struct conn *c = conn_find(s, conn);
    if (from_destination(s, conn, h))
        return;
    if (h->shard != s->config.shard) {
        conn_refuse(s, conn, EPROTO, "that shard is not served on this connection");
        return;
    }
    if (h->type == MSG_HELLO) {
        on_hello(s, conn, frame);
        return;
    }
    if (from_primary(s, conn, h))
        return;
    if (!c) {
        conn_refuse(s, conn, EPROTO, "the first frame must be HELLO");
        return;
    }
    if (h->type == MSG_STATUS)
        on_status(s, conn, frame);
    else if (h->type == MSG_MAP_GET && c->role == ROLE_ADMIN)
        on_map_get(s, conn);
    else if (!from_conn(s, c, h))
        conn_refuse(s, conn, EPROTO, "a frame that this role may not send");
}

static void on_closed(struct shard *s, uint32_t conn)
{
    conn_close(s, conn);
    peers_conn_closed(s, conn);
    consumers_conn_closed(s, conn);
    moves_conn_closed(s, conn);
    if (s->joining.conn == conn)
        shard_join_through(s, 0);
}

/* --- the step ------------------------------------------------------------------------ */

static void time_goes_on(struct shard *s, uint64_t now_ms)
{
    if (s->now_ms && now_ms > s->now_ms + s->config.failure_timeout_ms / 4)
        peers_we_were_away(s, now_ms - s->now_ms);
    if (now_ms > s->now_ms)
        s->now_ms = now_ms;
    if (s->role == SHARD_PRIMARY && s->now_ms + s->time_offset > s->time_ms)
        s->time_ms = s->now_ms + s->time_offset;
}

void shard_step(struct shard *s, const struct shard_event *ev, uint64_t now_ms,
                const struct shard_out *out)
{
    s->out = out;
    time_goes_on(s, now_ms);
    timers_run(s);
    switch (ev->kind) {
    case SHARD_EV_FRAME: on_frame(s, ev->conn, ev->frame); break;
    case SHARD_EV_CLOSED: on_closed(s, ev->conn); break;
    case SHARD_EV_VIEW: on_view(s, ev->view); break;
    case SHARD_EV_SUSPECT:
        if (s->view.members[0].node == ev->node)
            suspect(s, "it refuses us");
        break;
    case SHARD_EV_ORDER:
        s->order_refused[0] = 0;
        if (ev->order->kind == SHARD_ORDER_HAND_OVER)
            hand_over(s);
        else if (ev->order->kind == SHARD_ORDER_LEAVE)
            leave(s);
        else
            on_order(s, ev->order);
        break;
    case SHARD_EV_TICK: break;
    }
    if (s->role == SHARD_PRIMARY) {
        collect_run(s);
        if (!s->collecting)
            clients_expire(s);
        peers_tick(s);
        leavers_tick(s);
        commit_update(s);
        lease_release(s);
        replies_flush(s);
        consumers_run(s);
        moves_run(s);
        peers_flush(s);
    } else {
        moves_run(s);
        replies_flush(s);
        backup_tick(s);
    }
    s->out = NULL;
}

uint64_t shard_next_ms(const struct shard *s)
{
    uint64_t due[] = {timers_next_ms(s), clients_next_ms(s), peers_next_ms(s), backup_next_ms(s),
                      consumers_next_ms(s), collect_next_ms(s), moves_next_ms(s)};
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < sizeof due / sizeof *due; i++)
        if (due[i] < least)
            least = due[i];
    return least;
}

bool shard_takes_requests(const struct shard *s)
{
    const struct log *l = &s->log;
    uint64_t positions = s->position + 1 - l->first;
    return !s->collecting && s->replies < REPLIES_SOFT &&
           l->end - l->begin < l->room - l->room / 4 && positions < l->at_mask - l->at_mask / 4;
}

static void count_pools(const struct shard *s, struct shard_status *out)
{
    for (uint32_t i = 0; i < s->tables; i++) {
        const struct table *t = s->table[i];
        out->entries += t->entries;
        if (t->schema.kind != TABLE_POOL)
            continue;
        out->pool_used += t->entries;
        for (uint32_t slot = 0; slot < LETHE_SLOTS; slot++) {
            const struct pool_part *p = t->part[slot].pool;
            if (!shard_owns(s, slot))
                continue;
            out->pool_free += p ? p->free_count : pool_share(t->schema.max_entries, (uint8_t)slot);
            out->pool_resting += p ? p->end - p->ready : 0;
        }
    }
}

void shard_mark_get(const struct shard *s, uint64_t *position, uint64_t *digest)
{
    *position = s->mark_position;
    *digest = s->mark_digest;
}

uint32_t shard_lent(const struct shard *s)
{
    return s->lent;
}

void shard_self_set(struct shard *s, uint64_t incarnation)
{
    assert(!s->view.epoch && incarnation > s->self.incarnation);
    s->self.incarnation = incarnation;
}

void shard_self_get(const struct shard *s, struct msg_node *out)
{
    *out = s->self;
}

void shard_status_get(const struct shard *s, struct shard_status *out)
{
    *out = s->count;
    out->position = s->position;
    out->commit = s->commit;
    out->digest = s->digest;
    out->clients = s->clients;
    out->results_kept = s->results_kept;
    out->memory_bytes = s->memory_bytes + s->kept_bytes;
    out->shard_time_ms = s->time_ms;
    out->view_epoch = s->view.epoch;
    out->role = s->role;
    out->copies = s->role == SHARD_PRIMARY || s->role == SHARD_BACKUP ? s->view.nmembers : 0;
    out->waiting = s->replies;
    count_pools(s, out);
}
