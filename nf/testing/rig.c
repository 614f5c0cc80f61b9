/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * See rig.h. Frames of the shard are handled as the client would, but for
 * retries, which a channel that loses nothing does not need; results are kept
 * aside until the engine polls, as backend.h asks.
 */
#include "rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/lethe.h"

enum {
    SEQS = 4096,    /* txns outstanding per worker */
    CONN_FIRST = 1, /* of worker 0 */
    STEP_MS = 20,   /* of rig_advance */
    INBOX = 1 << 20,
};

struct pending {
    uint64_t seq;
    backend_done done;
    void *user;
};

struct worker { /* a client of the shard, and its engine */
    struct rig *rig;
    uint32_t conn;
    uint64_t client, seq, ack;
    struct pending pending[SEQS];
    uint8_t batch[MSG_BYTES_MAX] __attribute__((aligned(8)));
    uint32_t batch_bytes, batch_txns;
    uint8_t inbox[INBOX] __attribute__((aligned(8)));
    uint32_t inbox_bytes;
    int32_t table_id; /* of the last TABLE frame */
    struct {
        backend_event handler;
        void *user;
    } listeners[TABLES_MAX];
    struct engine *engine;
};

struct rig {
    struct shard *shard;
    uint64_t now_ms;
    int nchain, nout, next_worker;
    bool listens; /* somebody wants events */
    struct nf_instance *nf[ENGINE_CHAIN_MAX];
    struct worker worker[RIG_WORKERS];
    struct rig_out out[RIG_OUT_MAX];
    uint8_t buffers[RIG_OUT_MAX][RIG_FRAME];
};

#define REQUIRE(cond, ...)                                                                         \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: rig: %s: ", __FILE__, __LINE__, #cond);                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fprintf(stderr, "\n");                                                                 \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* --- frames from the shard ------------------------------------------------------------- */

static void on_send(void *ctx, uint32_t conn, const void *frame, uint32_t bytes)
{
    struct rig *r = ctx;
    struct worker *w = &r->worker[conn - CONN_FIRST];
    const struct msg_head *head = frame;
    const char *why = msg_validate(frame, bytes);

    REQUIRE(!why, "the shard sent a bad frame: %s", why);
    switch (head->type) {
    case MSG_WELCOME:
        break;
    case MSG_CLIENT:
        w->client = ((const struct msg_client *)frame)->client;
        break;
    case MSG_TABLE: {
        const struct msg_table *t = frame;
        REQUIRE(t->id >= 0, "%s", t->text);
        w->table_id = t->id;
        break;
    }
    case MSG_RESULTS:
    case MSG_EVENTS:
        REQUIRE(w->inbox_bytes + bytes <= INBOX, "inbox full");
        memcpy(w->inbox + w->inbox_bytes, frame, bytes);
        w->inbox_bytes += bytes;
        break;
    default:
        REQUIRE(false, "frame type %u: %s", head->type,
                head->type == MSG_ERROR ? ((const struct msg_error *)frame)->text : "unexpected");
    }
}

static void on_close(void *ctx, uint32_t conn, const char *why)
{
    REQUIRE(false, "connection %u closed: %s", conn, why);
}

static void on_propose(void *ctx, uint64_t old_epoch, const struct shard_view *want)
{
    REQUIRE(false, "a standalone shard proposed a view after %lu", (unsigned long)old_epoch);
}

static void on_note(void *ctx, const char *text)
{
}

static void step(struct rig *r, enum shard_event_kind kind, uint32_t conn, const void *frame,
                 uint32_t bytes, const struct shard_view *view)
{
    const struct shard_event ev = {
        .kind = kind, .conn = conn, .frame = frame, .frame_bytes = bytes, .view = view};
    const struct shard_out out = {
        .ctx = r, .send = on_send, .close = on_close, .propose_view = on_propose, .note = on_note};

    shard_step(r->shard, &ev, r->now_ms, &out);
}

static void send_frame(struct worker *w, void *frame, enum msg_type type, uint32_t bytes)
{
    const char *why;

    msg_head_set(frame, type, bytes, 0, 0);
    why = msg_validate(frame, bytes);
    REQUIRE(!why, "%s", why);
    step(w->rig, SHARD_EV_FRAME, w->conn, frame, bytes, NULL);
}

/* --- backend.h ---------------------------------------------------------------------------- */

static int table_open(void *ctx, const struct table_schema *schema)
{
    struct worker *w = ctx;
    struct msg_table_open m = {.client = w->client, .schema = *schema};

    w->table_id = -1;
    send_frame(w, &m, MSG_TABLE_OPEN, sizeof m);
    REQUIRE(w->table_id >= 0, "no answer to TABLE_OPEN of %s", schema->name);
    return w->table_id;
}

static int submit(void *ctx, const void *txn, uint32_t bytes, backend_done done, void *user)
{
    struct worker *w = ctx;
    struct pending *p = &w->pending[(w->seq + 1) % SEQS];
    struct txn_head *copy;

    if (p->done || w->batch_txns == MSG_BATCH_MAX || w->batch_bytes + bytes > sizeof w->batch)
        return -EAGAIN;
    copy = (struct txn_head *)(w->batch + w->batch_bytes);
    memcpy(copy, txn, bytes);
    copy->seq = ++w->seq;
    *p = (struct pending){.seq = w->seq, .done = done, .user = user};
    w->batch_bytes += bytes;
    w->batch_txns++;
    return 0;
}

static void batch_begin(struct worker *w)
{
    w->batch_bytes = sizeof(struct msg_batch);
    w->batch_txns = 0;
}

static void flush(void *ctx)
{
    struct worker *w = ctx;
    struct msg_batch *m = (struct msg_batch *)w->batch;

    if (!w->batch_txns)
        return;
    while (w->ack < w->seq && !w->pending[(w->ack + 1) % SEQS].done)
        w->ack++;
    *m = (struct msg_batch){.client = w->client, .ack = w->ack, .ntxn = w->batch_txns};
    send_frame(w, m, MSG_BATCH, w->batch_bytes);
    batch_begin(w);
}

static void deliver(struct worker *w, const struct txn_result_head *result)
{
    struct pending *p = &w->pending[result->seq % SEQS];
    struct pending was = *p;

    REQUIRE(was.done && was.seq == result->seq, "answer to nothing: %lu",
            (unsigned long)result->seq);
    p->done = NULL;
    was.done(was.user, result);
}

static int results_in(struct worker *w, const struct msg_results *m)
{
    const uint8_t *result = (const uint8_t *)(m + 1);

    for (uint32_t i = 0; i < m->nres; i++) {
        const struct txn_result_head *h = (const struct txn_result_head *)result;
        result += h->bytes;
        deliver(w, h);
    }
    return (int)m->nres;
}

/* Shown until one is refused, acknowledged so far; the shard repeats the rest. */
static void events_in(struct worker *w, const struct msg_events *m)
{
    const struct msg_event *e = (const struct msg_event *)(m + 1);
    struct msg_events_ack ack = {.client = w->client, .epoch = m->epoch, .cursor = m->first - 1,
                                 .table = m->table, .slot = m->slot};

    for (uint16_t i = 0; i < m->count; i++) {
        struct lethe_event event = {.table = m->table, .slot = m->slot, .key_len = e->key_len,
                                    .value_len = e->value_len, .key = e + 1,
                                    .value = (const uint8_t *)(e + 1) + e->key_len,
                                    .version = e->version, .time_ms = e->time_ms};
        if (!w->listeners[m->table].handler(w->listeners[m->table].user, &event))
            break;
        ack.cursor++;
        e = (const struct msg_event *)((const uint8_t *)e + e->bytes);
    }
    if (ack.cursor >= m->first)
        send_frame(w, &ack, MSG_EVENTS_ACK, sizeof ack);
}

static int events(void *ctx, int table, backend_event handler, void *user)
{
    struct worker *w = ctx;
    struct msg_consume m = {.client = w->client, .table = (uint8_t)table, .want = 1};

    w->listeners[table].handler = handler;
    w->listeners[table].user = user;
    w->rig->listens = true;
    send_frame(w, &m, MSG_CONSUME, sizeof m);
    return 0;
}

static int poll_store(void *ctx, uint64_t now_us)
{
    struct worker *w = ctx;
    uint32_t bytes = w->inbox_bytes;
    int n = 0;

    for (uint32_t at = 0; at < bytes;) {
        const struct msg_head *h = (const struct msg_head *)(w->inbox + at);
        if (h->type == MSG_RESULTS)
            n += results_in(w, (const struct msg_results *)h);
        else
            events_in(w, (const struct msg_events *)h);
        at += h->bytes;
    }
    memmove(w->inbox, w->inbox + bytes, w->inbox_bytes - bytes);
    w->inbox_bytes -= bytes;
    return n;
}

/* --- engines ------------------------------------------------------------------------------- */

/* A packet's cookie is its buffer. */
static struct rig_out *next_out(struct rig *r, const void *cookie)
{
    REQUIRE(r->nout < RIG_OUT_MAX, "more outcomes than packets");
    struct rig_out *o = &r->out[r->nout++];
    *o = (struct rig_out){.which = (int)(((const uint8_t *)cookie - r->buffers[0]) / RIG_FRAME)};
    return o;
}

static void on_emit(void *ctx, void *cookie, const struct packet *p, enum packet_side side)
{
    struct worker *w = ctx;
    struct rig_out *o = next_out(w->rig, cookie);

    REQUIRE(p->len <= RIG_FRAME, "%u bytes", p->len);
    o->emitted = true;
    o->side = side;
    o->len = p->len;
    memcpy(o->frame, p->data, p->len);
}

static void on_drop(void *ctx, void *cookie, int reason)
{
    struct worker *w = ctx;
    next_out(w->rig, cookie)->reason = engine_reason_text(w->engine, reason);
}

static void worker_start(struct rig *r, int i, uint64_t seed)
{
    struct worker *w = &r->worker[i];
    struct msg_hello hello = {.magic = MSG_MAGIC,
                              .proto_min = MSG_PROTO_MIN,
                              .proto_max = MSG_PROTO_MAX,
                              .role = ROLE_CLIENT};
    struct msg_client_open open = {.nonce = (uint64_t)i + 1};
    struct engine_config config = {
        .nchain = r->nchain,
        .packets_in_flight = RIG_OUT_MAX,
        .store_timeout_ms = 10000,
        .seed = seed + (uint64_t)i + 1,
        .ctx = w,
        .emit = on_emit,
        .drop = on_drop,
        .backend = {w, table_open, submit, flush, poll_store, events},
    };
    char err[300];

    w->rig = r;
    w->conn = CONN_FIRST + (uint32_t)i;
    batch_begin(w);
    send_frame(w, &hello, MSG_HELLO, sizeof hello);
    for (int tries = 0; !w->client && tries < 1000; tries++) {
        /* A new primary may have to wait for old leases first. */
        send_frame(w, &open, MSG_CLIENT_OPEN, sizeof open);
        if (!w->client)
            rig_advance(r, STEP_MS);
    }
    REQUIRE(w->client, "no client id");
    for (int n = 0; n < r->nchain; n++)
        config.chain[n] = r->nf[n];
    REQUIRE(engine_create(&config, &w->engine, err, sizeof err) == 0, "%s", err);
}

struct rig *rig_create(const struct nf_ops *const *chain, const void *const *configs, int n,
                       uint64_t seed)
{
    struct rig *r = calloc(1, sizeof *r);
    const struct msg_node self = {.node = 1, .incarnation = 1};
    const struct shard_config config = {.shards = 1,
                                        .self = self,
                                        .seed = seed,
                                        .failure_timeout_ms = 500,
                                        .client_lease_ms = UINT32_MAX / 2};
    const struct shard_view view = {.epoch = 1, .nmembers = 1, .members = {self}};
    char err[300];

    REQUIRE(r, "no memory");
    r->now_ms = 1000000;
    r->nchain = n;
    r->shard = shard_create(&config);
    REQUIRE(r->shard, "no shard");
    step(r, SHARD_EV_VIEW, 0, NULL, 0, &view);
    for (int i = 0; i < n; i++)
        REQUIRE(nf_instance_create(chain[i], configs[i], &r->nf[i], err, sizeof err) == 0, "%s",
                err);
    for (int i = 0; i < RIG_WORKERS; i++)
        worker_start(r, i, seed);
    return r;
}

void rig_destroy(struct rig *r)
{
    for (int i = 0; i < RIG_WORKERS; i++)
        engine_destroy(r->worker[i].engine);
    for (int i = 0; i < r->nchain; i++)
        nf_instance_destroy(r->nf[i]);
    shard_destroy(r->shard);
    free(r);
}

static uint32_t in_flight(const struct rig *r)
{
    uint32_t n = 0;

    for (int i = 0; i < RIG_WORKERS; i++)
        n += engine_in_flight(r->worker[i].engine);
    return n;
}

/* All ask, then all are answered, in turns. Two rounds at least: additions to
 * async tables are sent behind their packet. */
static void run(struct rig *r)
{
    for (int rounds = 0; in_flight(r) || rounds < 2; rounds++) {
        REQUIRE(rounds < 1000, "%u packets are stuck", in_flight(r));
        for (int i = 0; i < RIG_WORKERS; i++)
            engine_flush(r->worker[i].engine);
        step(r, SHARD_EV_TICK, 0, NULL, 0, NULL);
        for (int i = 0; i < RIG_WORKERS; i++)
            engine_poll(r->worker[i].engine, r->now_ms * 1000);
    }
    for (int i = 0; i < RIG_WORKERS; i++)
        engine_flush(r->worker[i].engine);
}

static struct engine_packet take(struct rig *r, int i, const uint8_t *frame, uint32_t len)
{
    memcpy(r->buffers[i], frame, len);
    return (struct engine_packet){r->buffers[i], r->buffers[i], len, RIG_FRAME};
}

int rig_race(struct rig *r, const struct rig_in *in, int n, const struct rig_out **out)
{
    REQUIRE(n <= RIG_OUT_MAX, "%d packets", n);
    r->nout = 0;
    for (int i = 0; i < n; i++) {
        struct engine_packet one = take(r, i, in[i].frame, in[i].len);
        engine_rx(r->worker[in[i].worker].engine, &one, 1, in[i].side, r->now_ms * 1000);
    }
    run(r);
    *out = r->out;
    return r->nout;
}

int rig_burst(struct rig *r, enum packet_side side, const uint8_t (*frames)[RIG_FRAME],
              const uint32_t *lens, int n, const struct rig_out **out)
{
    struct engine *e = r->worker[r->next_worker++ % RIG_WORKERS].engine;
    struct engine_packet burst[RIG_OUT_MAX];

    REQUIRE(n <= RIG_OUT_MAX, "%d packets", n);
    r->nout = 0;
    for (int i = 0; i < n; i++)
        burst[i] = take(r, i, frames[i], lens[i]);
    engine_rx(e, burst, (uint32_t)n, side, r->now_ms * 1000);
    run(r);
    *out = r->out;
    return r->nout;
}

const struct rig_out *rig_send(struct rig *r, enum packet_side side, const uint8_t *frame,
                               uint32_t len)
{
    const struct rig_out *out;
    int n = rig_burst(r, side, (const uint8_t(*)[RIG_FRAME])frame, &len, 1, &out);

    REQUIRE(n == 1, "%d outcomes of one packet", n);
    return out;
}

void rig_advance(struct rig *r, uint64_t ms)
{
    while (ms) {
        uint64_t by = ms < STEP_MS ? ms : STEP_MS;
        r->now_ms += by;
        ms -= by;
        step(r, SHARD_EV_TICK, 0, NULL, 0, NULL);
        if (r->listens) /* what is not acknowledged soon is sent again */
            run(r);
    }
}

uint64_t rig_now_ms(const struct rig *r)
{
    return r->now_ms;
}

/* --- looking in ---------------------------------------------------------------------------- */

void rig_each(struct rig *r, void (*each)(void *ctx, const struct shard_entry *e), void *ctx)
{
    shard_each(r->shard, each, ctx);
}

void rig_status(struct rig *r, struct shard_status *out)
{
    shard_status_get(r->shard, out);
}

static const struct table_schema *schema_of(const struct rig *r, const char *table)
{
    for (int i = 0; i < r->nchain; i++)
        for (int t = 0; t < r->nf[i]->ntables; t++)
            if (!strcmp(r->nf[i]->tables[t].name, table))
                return &r->nf[i]->tables[t];
    return NULL;
}

static void inserted(void *user, const struct txn_result_head *result)
{
    REQUIRE(result->status == TXN_OK, "%s", txn_status_text((enum txn_status)result->status));
}

void rig_insert(struct rig *r, const char *table, const void *key, const void *value)
{
    const struct table_schema *s = schema_of(r, table);
    struct worker *w = &r->worker[0];
    uint8_t txn[1024] __attribute__((aligned(8)));
    struct txn_builder b;

    REQUIRE(s, "no NF of the chain declares %s", table);
    struct txn_op op = {.code = TXN_INSERT,
                        .table = (uint8_t)table_open(w, s),
                        .key_len = s->key_size,
                        .value_len = (uint16_t)s->value_size};
    txn_begin(&b, txn, sizeof txn, slot_of((const uint8_t *)key + s->part_off, s->part_len));
    REQUIRE(txn_add_op(&b, &op, key, NULL, value) == 0, "%s", table);
    uint32_t bytes = txn_end(&b);
    REQUIRE(submit(w, txn, bytes, inserted, NULL) == 0, "%s", table);
    flush(w);
    step(r, SHARD_EV_TICK, 0, NULL, 0, NULL);
    poll_store(w, r->now_ms * 1000);
}

uint64_t rig_count(const struct rig *r, int nf, int counter)
{
    uint64_t sum = 0;

    for (int i = 0; i < RIG_WORKERS; i++)
        sum += engine_nf_count(r->worker[i].engine, nf, counter);
    return sum;
}

struct engine_stats rig_stats(const struct rig *r)
{
    struct engine_stats sum = {0};

    for (int i = 0; i < RIG_WORKERS; i++) {
        const struct engine_stats *s = engine_stats(r->worker[i].engine);
        sum.lookups += s->lookups;
        sum.commits += s->commits;
        sum.adds += s->adds;
        sum.rounds += s->rounds;
        sum.runs += s->runs;
        sum.conflicts += s->conflicts;
    }
    return sum;
}
