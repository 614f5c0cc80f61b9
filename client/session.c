/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A session: the client's standing with one shard.
 *
 *   DOWN --dial--> CONNECTING --HELLO sent--> HELLO --[CHALLENGE, PROVEN,] WELCOME--> LEASE
 *   LEASE --CLIENT--> TABLES --all TABLEs--> UP        (any) --closed--> DOWN
 *
 * A client id survives a reconnection (LEASE is passed at once), to whichever
 * replica, because the store tells a retry from a new txn by it. A replica whose
 * WELCOME says that it does not serve is left at once; where to go then, and
 * after which delay, is nodes.c's. Frames are read before any time-out is looked
 * at, so that a caller that slept long does not take its own absence for the
 * store's.
 */
#include "client/client_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void say(struct session *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct session *s, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(s->trouble, sizeof s->trouble, format, ap);
    va_end(ap);
}

static void enter(struct session *s, enum session_state state)
{
    s->state = (uint8_t)state;
    s->step_us = s->client->now_us;
    s->blocked = false;
}

static void close_tables(struct session *s)
{
    for (int i = 0; i < TABLES_MAX; i++)
        s->table_id[i] = -1;
}

/* Closes; everything outstanding is sent again on the next channel. */
static void leave(struct session *s, enum node_verdict verdict, uint32_t primary, const char *why)
{
    struct lethe_client *c = s->client;
    say(s, "shard %u: %s", s->shard, why);
    lethe_sleep_forget(s);
    channel_close(s->channel);
    s->channel = NULL;
    lethe_reads_abandon(s);
    if (!s->down_since_us)
        s->down_since_us = c->now_us ? c->now_us : 1;
    lethe_batch_requeue(s);
    enter(s, SESSION_DOWN);
    lethe_nodes_next(s, verdict, primary, why);
}

static void drop(struct session *s, const char *why)
{
    leave(s, NODE_CLOSED, 0, why);
}

int lethe_session_send(struct session *s, void *frame, enum msg_type type, uint32_t bytes)
{
    msg_head_set(frame, type, bytes, s->shard, 0);
    msg_speak(frame, s->proto);
    return channel_send(s->channel, frame, bytes);
}

void lethe_session_ask(struct session *s)
{
    struct msg_status m = {.nonce = s->client->nonces};
    if (s->asked || lethe_session_send(s, &m, MSG_STATUS, sizeof m))
        return;
    s->asked = true;
    channel_flush(s->channel);
}

int lethe_session_stale(struct session *s)
{
    struct lethe_client *c = s->client;
    struct txn_result_head r = {.bytes = sizeof r, .status = TXN_STALE_CLIENT};
    struct slot_list sent = {SLOT_NONE, SLOT_NONE, 0};
    int done = 0;
    lethe_batch_requeue(s);
    /* What has a sequence was sent under the lost id; the rest only queues. */
    for (uint16_t n = s->queue.head, next; n != SLOT_NONE; n = next) {
        struct lethe_txn *t = &c->slots[n];
        next = t->next;
        if (!t->seq)
            continue;
        lethe_list_remove(s, t);
        lethe_list_append(s, &sent, t, SLOT_BUILDING);
    }
    s->id = 0;
    lethe_seq_reset(s);
    close_tables(s);
    s->nonce = ++c->nonces;
    enter(s, SESSION_LEASE);
    say(s, "shard %u: the lease of the client id was lost; leasing a new one", s->shard);
    for (uint16_t n = sent.head, next; n != SLOT_NONE; n = next, done++) {
        struct lethe_txn *t = &c->slots[n];
        lethe_done call = t->done;
        void *user = t->user;
        next = t->next;
        r.seq = t->seq;
        lethe_window_give(t);
        c->done++;
        if (call)
            call(user, &r);
    }
    return done;
}

/* --- steps: what each state sends ------------------------------------------------- */

static void dial(struct session *s)
{
    char err[120] = "";
    struct lethe_client *c = s->client;
    s->channel = lethe_nodes_dial(s, err, sizeof err);
    if (!s->channel) {
        drop(s, err);
        return;
    }
    s->heard_us = s->answered_us = c->now_us;
    s->counted = s->asked = false;
    s->one_sided = false;
    s->view_epoch = 0;
    s->proto = MSG_PROTO_MAX;
    close_tables(s);
    enter(s, SESSION_CONNECTING);
}

static int send_hello(struct session *s)
{
    struct msg_hello m = {.magic = MSG_MAGIC, .proto_min = MSG_PROTO_MIN,
                          .proto_max = MSG_PROTO_MAX, .role = ROLE_CLIENT,
                          .capabilities = channel_can_read(s->channel) ? CAP_ONE_SIDED : 0};
    msg_head_set(&m, MSG_HELLO, sizeof m, s->shard, 0);
    s->auth = (struct auth_dial){0};
    if (s->client->secret.bytes) {
        memcpy(m.tenant, s->client->tenant, sizeof m.tenant);
        auth_dial_begin(&s->auth, &m);
    }
    return channel_send(s->channel, &m, sizeof m);
}

static int send_client_open(struct session *s)
{
    struct msg_client_open m = {.nonce = s->nonce};
    return lethe_session_send(s, &m, MSG_CLIENT_OPEN, sizeof m);
}

static int send_table_opens(struct session *s)
{
    struct lethe_client *c = s->client;
    for (int i = 0; i < c->ntables; i++) {
        if (s->table_id[i] >= 0)
            continue;
        if (msg_schema_proto(&c->tables[i]) > s->proto) {
            snprintf(s->fatal, sizeof s->fatal, "shard %u: table %s has a kind, durability or flag "
                     "that the store, of protocol %u, does not know; upgrade the store", s->shard,
                     c->tables[i].name, s->proto);
            say(s, "%.150s", s->fatal);
            continue;
        }
        struct msg_table_open m = {.client = s->id, .schema = c->tables[i]};
        int rc = lethe_session_send(s, &m, MSG_TABLE_OPEN, sizeof m);
        if (rc)
            return rc;
    }
    return 0;
}

static void step(struct session *s)
{
    struct lethe_client *c = s->client;
    int rc = 0;
    switch (s->state) {
    case SESSION_DOWN:
        dial(s);
        if (s->state == SESSION_CONNECTING)
            step(s);
        return;
    case SESSION_CONNECTING:
        rc = send_hello(s);
        if (!rc)
            s->state = SESSION_HELLO;
        break;
    case SESSION_LEASE:
        rc = send_client_open(s);
        break;
    case SESSION_TABLES:
        rc = send_table_opens(s);
        break;
    default:
        break;
    }
    s->blocked = rc != 0;
    s->step_us = c->now_us + c->retry_us;
    channel_flush(s->channel);
}

/* --- frames: what each answer does -------------------------------------------------- */

static void ask_map(struct session *s)
{
    struct msg_map_get m = {.client = s->id};
    if (s->map_wanted && !lethe_session_send(s, &m, MSG_MAP_GET, sizeof m))
        s->map_wanted = false;
}

static void up_if_open(struct session *s)
{
    for (int i = 0; i < s->client->ntables; i++)
        if (s->table_id[i] < 0)
            return;
    s->state = SESSION_UP;
    lethe_nodes_up(s);
    if (!s->counted)
        s->client->reconnects++;
    s->map_wanted = s->proto >= 2 && !s->counted;
    s->counted = true;
    s->down_since_us = 0;
    s->trouble[0] = s->fatal[0] = 0;
    s->pushed_back = false;
    s->pushed_since_us = s->stop_told = 0;
    s->consume_us = s->answered_us = s->client->now_us;
    s->flush_wanted = s->queue.count != 0;
    ask_map(s);
    lethe_batch_send(s);
}

static void leased(struct session *s)
{
    enter(s, SESSION_TABLES);
    up_if_open(s);
    if (s->state == SESSION_TABLES)
        step(s);
}

/* CHALLENGE or PROVEN. */
static void on_auth(struct session *s, const struct msg_head *m)
{
    struct lethe_client *c = s->client;
    struct msg_proof proof;
    const char *why;
    if (!c->secret.bytes || s->state != SESSION_HELLO) {
        why = "the store asks for a secret at the wrong time; closed";
    } else if (m->type == MSG_PROVEN) {
        why = auth_dial_check(&s->auth, &c->secret, (const struct msg_proven *)m);
    } else {
        why = auth_dial_answer(&s->auth, &c->secret, (const struct msg_challenge *)m, &proof);
        if (!why && channel_send(s->channel, &proof, sizeof proof))
            why = "closed by the store";
        if (!why)
            channel_flush(s->channel);
    }
    if (why)
        drop(s, why);
}

static void leave_backup(struct session *s, uint32_t primary)
{
    char why[80] = "does not serve the shard";
    if (primary)
        snprintf(why, sizeof why, "does not serve the shard, node %u does", primary);
    leave(s, NODE_NOT_PRIMARY, primary, why);
}

static void on_status(struct session *s, const struct msg_status_is *m)
{
    if (s->state > SESSION_HELLO && m->status.role != SHARD_PRIMARY)
        leave(s, NODE_NOT_PRIMARY, 0, "serves the shard no longer");
}

static void on_welcome(struct session *s, const struct msg_welcome *m)
{
    if (s->state != SESSION_HELLO)
        return;
    if (s->client->secret.bytes && s->auth.state != AUTH_DIAL_DONE) {
        snprintf(s->fatal, sizeof s->fatal, "shard %u: the store at this address did not prove that "
                 "it holds the secret of tenant %s", s->shard, s->client->tenant);
        drop(s, s->fatal);
        return;
    }
    if (m->head.shard != s->shard || m->shards != s->client->shards) {
        snprintf(s->fatal, sizeof s->fatal,
                 "the store at this address is shard %u of %u, this client was configured for shard "
                 "%u of %u; make both read the same site.yaml",
                 m->head.shard, m->shards, s->shard, s->client->shards);
        drop(s, s->fatal);
        return;
    }
    if (!m->primary) {
        leave_backup(s, m->primary_node);
        return;
    }
    lethe_nodes_spoke(s);
    s->proto = m->proto;
    s->one_sided = m->capabilities & CAP_ONE_SIDED && channel_can_read(s->channel);
    s->lease_us = m->lease_ms * 1000ull;
    if (s->id) {
        leased(s);
        return;
    }
    s->nonce = ++s->client->nonces;
    enter(s, SESSION_LEASE);
    step(s);
}

/* One that was just made the primary serves within milliseconds. */
static uint64_t refused_until_us(const struct session *s)
{
    uint64_t now_us = s->client->now_us;
    return now_us + (now_us < s->answered_us + EAGER_FOR_US ? EAGER_US : REFUSED_US);
}

static void on_client(struct session *s, const struct msg_client *m)
{
    if (s->state != SESSION_LEASE || m->nonce != s->nonce)
        return;
    if (!m->client) {
        say(s, "shard %u does not serve now; it leases no client id", s->shard);
        s->step_us = refused_until_us(s);
        return;
    }
    s->id = m->client;
    s->lease_us = m->lease_ms * 1000ull;
    s->batch_us = s->client->now_us;
    s->client->leases++;
    leased(s);
}

static int table_number(const struct lethe_client *c, const char *name)
{
    for (int i = 0; i < c->ntables; i++)
        if (!strncmp(c->tables[i].name, name, TABLE_NAME_MAX))
            return i;
    return -1;
}

/* "Not now" rather than "never": the same question may be answered later. */
static bool transient(int32_t error)
{
    return error == -EAGAIN || error == -EBUSY || error == -ENOTCONN || error == -EHOSTDOWN;
}

static int on_table(struct session *s, const struct msg_table *m)
{
    struct lethe_client *c = s->client;
    int i = table_number(c, m->name);
    if (i < 0 || s->state != SESSION_TABLES)
        return 0;
    if (m->id >= 0 && m->id < TABLES_MAX) {
        s->table_id[i] = (int16_t)m->id;
        up_if_open(s);
        return 0;
    }
    if (m->id == -ESTALE)
        return lethe_session_stale(s);
    if (transient(m->id)) {
        say(s, "shard %u: table %s is not open yet: %.100s", s->shard, c->tables[i].name, m->text);
        s->step_us = refused_until_us(s);
        return 0;
    }
    snprintf(s->fatal, sizeof s->fatal, "shard %u: table %s: %.199s", s->shard, c->tables[i].name,
             m->text[0] ? m->text : strerror(m->id < 0 ? -m->id : EPROTO));
    say(s, "%.150s", s->fatal);
    s->step_us = c->now_us + FATAL_US;
    return 0;
}

static void on_error(struct session *s, const struct msg_error *m)
{
    char why[160];
    if (m->code == EPROTO || m->code == EPROTONOSUPPORT || m->code == EACCES)
        snprintf(s->fatal, sizeof s->fatal, "shard %u: the store says: %.199s", s->shard, m->text);
    snprintf(why, sizeof why, "the store says: %.130s", m->text);
    leave(s, m->code == EAGAIN ? NODE_NOT_PRIMARY : NODE_CLOSED, 0, why); /* not yet, or no */
}

static int on_frame(struct session *s, const struct msg_head *m)
{
    if (m->view_epoch > s->view_epoch) {
        s->view_epoch = m->view_epoch;
        lethe_reads_forget(s);
    }
    switch (m->type) {
    case MSG_CHALLENGE:
    case MSG_PROVEN:
        on_auth(s, m);
        return 0;
    case MSG_WELCOME:
        on_welcome(s, (const struct msg_welcome *)m);
        return 0;
    case MSG_CLIENT:
        on_client(s, (const struct msg_client *)m);
        return 0;
    case MSG_TABLE:
        return on_table(s, (const struct msg_table *)m);
    case MSG_RESULTS:
        return lethe_batch_results(s, (const struct msg_results *)m);
    case MSG_ERROR:
        on_error(s, (const struct msg_error *)m);
        return 0;
    case MSG_STATUS_IS:
        on_status(s, (const struct msg_status_is *)m);
        return 0;
    case MSG_MAP:
        lethe_map_answer(s->client, (const struct msg_map *)m);
        return 0;
    case MSG_PLACES:
        lethe_reads_places(s, (const struct msg_places *)m);
        return 0;
    case MSG_EVENTS:
        lethe_events_frame(s, (const struct msg_events *)m);
        return 0;
    default:
        drop(s, "the peer sent a message that no store sends to a client; closed");
        return 0;
    }
}

/* --- the session's part of a poll ---------------------------------------------------- */

static int receive(struct session *s)
{
    int done = 0;
    for (int i = 0; i < FRAMES_PER_POLL && s->channel; i++) {
        uint32_t bytes;
        const void *frame = channel_recv(s->channel, &bytes);
        if (!frame)
            break;
        s->heard_us = s->client->now_us;
        s->asked = false;
        done += on_frame(s, frame);
    }
    return done;
}

static bool is_owed(const struct session *s)
{
    return s->state != SESSION_UP || s->sent.count;
}

/* A mere consumer is owed nothing, yet it must notice that its store is gone, or
 * serves no longer: it would wait for events for ever. */
static bool expects(const struct session *s)
{
    return is_owed(s) || lethe_events_next_us(s) != UINT64_MAX;
}

/* Half the time is for asking: a store may owe answers that wait for its
 * backups, and yet be well. One that talks but answers nothing for long may be
 * cut off from the others, who know by now who serves instead. */
static void watch_silence(struct session *s)
{
    struct lethe_client *c = s->client;
    if (!s->channel || !expects(s))
        return;
    uint64_t patience_us = lethe_nodes_patience_us(s);
    if (c->now_us > s->heard_us + patience_us)
        leave(s, NODE_SILENT, 0, "no answer; connecting again");
    else if (c->elsewhere && is_owed(s) &&
             c->now_us > s->answered_us + STUCK_SILENCES * c->silence_us)
        leave(s, NODE_NOT_PRIMARY, 0, "is there, but answers nothing that was asked");
    else if (s->state > SESSION_HELLO && c->now_us > s->heard_us + patience_us / 2)
        lethe_session_ask(s);
}

int lethe_session_poll(struct session *s)
{
    struct lethe_client *c = s->client;
    int done = receive(s) + lethe_reads_poll(s);
    if (s->channel && !s->channel->open) {
        char why[160];
        memcpy(why, s->channel->why, sizeof why);
        drop(s, why[0] ? why : "closed by the store");
    }
    watch_silence(s);
    if (s->state != SESSION_UP && (s->blocked || c->now_us >= s->step_us))
        step(s);
    lethe_batch_timers(s);
    if (s->state == SESSION_UP) {
        ask_map(s);
        lethe_events_timers(s);
    }
    return done;
}

void lethe_session_tables(struct session *s)
{
    if (s->state != SESSION_UP && s->state != SESSION_TABLES)
        return;
    s->heard_us = s->answered_us = s->client->now_us; /* nothing was owed to us before */
    enter(s, SESSION_TABLES);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t lethe_session_next_us(const struct session *s)
{
    const struct lethe_client *c = s->client;
    uint64_t next = UINT64_MAX;
    if (s->state != SESSION_UP)
        next = s->step_us;
    if (s->channel && expects(s))
        next = earlier(next, s->heard_us + lethe_nodes_patience_us(s) / (s->asked ? 1 : 2) + 1);
    if (s->state != SESSION_UP)
        return next;
    next = earlier(next, lethe_events_next_us(s));
    if (s->held_bytes || s->map_wanted)
        next = c->now_us + HELD_US;
    if (s->delayed.count)
        next = earlier(next, c->slots[s->delayed.head].due_us);
    if (s->sent.count && !s->held_bytes)
        next = earlier(next, c->slots[s->sent.head].due_us);
    return s->lease_us ? earlier(next, s->batch_us + s->lease_us / 3) : next;
}
