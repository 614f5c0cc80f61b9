/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A rig for tests of the core: up to three shards, a view service and clients,
 * wired by queues, on a clock that only moves when told. Replication messages
 * may be dropped, duplicated and reordered by a seeded generator; client
 * connections are reliable and ordered, as channels are.
 *
 *   struct rig *r = rig_new(seed, 2);
 *   rig_start(r, 0);                    // primary of a fresh view {0}
 *   rig_connect_backup(r, 1, 0);        // 1 dials 0 and joins
 *   rig_run_until_copies(r, 2);
 *   struct rig_txn t = rig_begin(slot); ...; rig_call(r, &t)
 *
 * Header only, so that every test program includes what it needs of it.
 */
#ifndef STATESTORE_CORE_RIG_TEST_SUPPORT_H
#define STATESTORE_CORE_RIG_TEST_SUPPORT_H

#include <errno.h>
#include <stdlib.h>

#include "statestore/core/shard.h"
#include "tests/check.h"

enum {
    RIG_SHARDS = 3,
    RIG_CLIENT = 100,         /* endpoint of the client's side */
    RIG_QUEUE_MAX = 65536,
    RIG_RESULTS_MAX = 65536,
    RIG_FAILURE_MS = 80,
};

struct rig_message {
    int to;                   /* shard */
    uint32_t conn;            /* number at the receiver */
    uint32_t bytes;
    bool faulty;              /* may be lost, doubled, overtaken */
    void *frame;
};

struct rig_result { uint64_t client; struct txn_result_head *result; };

struct rig_end { struct rig *rig; int shard; };

struct rig {
    uint16_t number;          /* of the shard that is replicated here */
    struct rig_end ends[RIG_SHARDS];
    /* Takes frames of connections that are neither a link's nor a client's. */
    bool (*other)(struct rig *r, int shard, uint32_t conn, const void *frame, uint32_t bytes);
    void *other_ctx;
    struct shard *shard[RIG_SHARDS];
    bool paused[RIG_SHARDS];
    bool cut[RIG_SHARDS];     /* replication with it is cut off */
    bool deaf[RIG_SHARDS];    /* it is heard, and hears nobody; so its view provider swaps nothing */
    uint64_t now, random;
    uint32_t drop, twice, swap; /* per mille, of replication messages */
    struct shard_view view;
    bool hold_views;          /* proposals are not answered */
    bool views_away[RIG_SHARDS]; /* its proposals do not reach the service */
    bool take_overs;          /* a backup's proposal is granted; else: the view stands */
    bool answer[RIG_SHARDS];  /* it waits for an answer */
    struct rig_message *queue;
    uint32_t queued;
    struct rig_result *results;
    uint32_t nresults;
    uint64_t opened;          /* client id of the last MSG_CLIENT */
    struct msg_table table;   /* the last MSG_TABLE */
    bool table_came, client_came;
    struct shard_status status;
    struct msg_map map;       /* the last MSG_MAP */
    uint32_t closed;          /* connections closed by a shard */
    uint64_t client, seq, ack;
    int primary;
    uint32_t dial;            /* counts connections made by replicas */
    struct { int at, with; uint32_t conn, peer_conn; } link[256];
    uint32_t links;
    bool talk;                /* print notes */
    /* Every frame that goes to a client; every note. */
    void (*see)(struct rig *r, uint32_t conn, const void *frame);
    void (*hear)(struct rig *r, const char *note);
};

static inline uint64_t rig_random(struct rig *r)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return r->random;
}


static inline void rig_push(struct rig *r, int to, uint32_t conn, const void *frame,
                            uint32_t bytes, bool faulty)
{
    CHECK(r->queued < RIG_QUEUE_MAX, "the rig's queue is full");
    struct rig_message m = {to, conn, bytes, faulty, aligned_alloc(64, (bytes + 63) & ~63u)};
    memcpy(m.frame, frame, bytes);
    r->queue[r->queued++] = m;
}

static inline void rig_client_frame(struct rig *r, const void *frame)
{
    const struct msg_head *h = frame;
    if (h->type == MSG_CLIENT) {
        r->opened = ((const struct msg_client *)frame)->client;
        r->client_came = true;
    } else if (h->type == MSG_TABLE) {
        r->table = *(const struct msg_table *)frame;
        r->table_came = true;
    } else if (h->type == MSG_MAP) {
        r->map = *(const struct msg_map *)frame;
    } else if (h->type == MSG_STATUS_IS) {
        r->status = ((const struct msg_status_is *)frame)->status;
    } else if (h->type == MSG_RESULTS) {
        const struct msg_results *m = frame;
        const struct txn_result_head *res = (const void *)(m + 1);
        for (uint32_t i = 0; i < m->nres; i++) {
            CHECK(!txn_result_validate(res, res->bytes), "%s", txn_result_validate(res, res->bytes));
            CHECK(r->nresults < RIG_RESULTS_MAX, "too many results");
            struct txn_result_head *copy = malloc(res->bytes);
            memcpy(copy, res, res->bytes);
            r->results[r->nresults++] = (struct rig_result){m->client, copy};
            res = (const void *)((const uint8_t *)res + res->bytes);
        }
    }
}

static inline void rig_send(void *ctx, uint32_t conn, const void *frame, uint32_t bytes)
{
    struct rig_end *e = ctx;
    struct rig *r = e->rig;
    CHECK(!msg_validate(frame, bytes), "a shard sends a bad frame: %s",
          msg_validate(frame, bytes));
    for (uint32_t i = 0; i < r->links; i++)
        if (r->link[i].at == e->shard && r->link[i].conn == conn) {
            if (!r->cut[e->shard] && !r->cut[r->link[i].with] && !r->deaf[r->link[i].with])
                rig_push(r, r->link[i].with, r->link[i].peer_conn, frame, bytes, true);
            return;
        }
    if (r->see)
        r->see(r, conn, frame);
    if (!r->other || !r->other(r, e->shard, conn, frame, bytes))
        rig_client_frame(r, frame);
}

static inline void rig_close(void *ctx, uint32_t conn, const char *why)
{
    (void)conn;
    (void)why;
    ((struct rig_end *)ctx)->rig->closed++;
}

static inline void rig_propose(void *ctx, uint64_t old_epoch, const struct shard_view *want)
{
    struct rig_end *e = ctx;
    struct rig *r = e->rig;
    bool primarys = r->view.members[0].node == (uint32_t)e->shard + 1;
    if (r->deaf[e->shard] || r->views_away[e->shard])
        return;
    if (r->view.epoch == old_epoch && (primarys || r->take_overs))
        r->view = *want;
    r->answer[e->shard] = true;
}

static inline void rig_note(void *ctx, const char *text)
{
    struct rig_end *e = ctx;
    if (e->rig->hear)
        e->rig->hear(e->rig, text);
    if (e->rig->talk)
        print_message("[%lu] shard %d: %s\n", (unsigned long)e->rig->now, e->shard, text);
}

static inline void rig_event(struct rig *r, int shard, struct shard_event ev)
{
    struct shard_out out = {&r->ends[shard], rig_send, rig_close, rig_propose, rig_note};
    if (r->shard[shard])
        shard_step(r->shard[shard], &ev, r->now, &out);
}

static inline void rig_frame(struct rig *r, int shard, uint32_t conn, const void *frame,
                             uint32_t bytes)
{
    const char *wrong = msg_validate(frame, bytes);
    CHECK(!wrong, "%s", wrong);
    rig_event(r, shard, (struct shard_event){.kind = SHARD_EV_FRAME, .conn = conn, .frame = frame,
                                             .frame_bytes = bytes});
}

static inline void rig_set_view(struct rig *r, int shard)
{
    rig_event(r, shard, (struct shard_event){.kind = SHARD_EV_VIEW, .view = &r->view});
}

static inline struct msg_node rig_node(int shard)
{
    return (struct msg_node){.node = (uint32_t)shard + 1, .incarnation = 1000u * (shard + 1)};
}

static inline void rig_boot(struct rig *r, int shard, struct shard_config c)
{
    c.shards = c.shards ? c.shards : 1;
    c.shard = r->number;
    c.self = rig_node(shard);
    c.self.incarnation += r->now;
    c.seed = r->random + (uint64_t)shard;
    c.failure_timeout_ms = RIG_FAILURE_MS;
    r->shard[shard] = shard_create(&c);
    r->ends[shard] = (struct rig_end){r, shard};
}

static inline struct rig *rig_new(uint64_t seed, int shards, struct shard_config config)
{
    struct rig *r = calloc(1, sizeof *r);
    r->number = config.shard;
    r->random = seed * 0x9e3779b97f4a7c15ull + 1;
    r->now = 1000;
    r->queue = calloc(RIG_QUEUE_MAX, sizeof *r->queue);
    r->results = calloc(RIG_RESULTS_MAX, sizeof *r->results);
    for (int i = 0; i < shards; i++)
        rig_boot(r, i, config);
    return r;
}

static inline void rig_results_clear(struct rig *r)
{
    for (uint32_t i = 0; i < r->nresults; i++)
        free(r->results[i].result);
    r->nresults = 0;
}

static inline void rig_free(struct rig *r)
{
    for (int i = 0; i < RIG_SHARDS; i++)
        shard_destroy(r->shard[i]);
    for (uint32_t i = 0; i < r->queued; i++)
        free(r->queue[i].frame);
    rig_results_clear(r);
    free(r->queue);
    free(r->results);
    free(r);
}

/* --- time ---------------------------------------------------------------------------- */

/* Delivers what is queued now; what that causes waits for the next round. */
static inline void rig_deliver(struct rig *r)
{
    uint32_t n = r->queued;
    struct rig_message *now = malloc((n + 1) * sizeof *now);
    memcpy(now, r->queue, n * sizeof *now);
    r->queued = 0;
    for (uint32_t i = 0; i + 1 < n; i++)
        if (now[i].faulty && rig_random(r) % 1000 < r->swap) {
            uint32_t j = i + 1 + (uint32_t)(rig_random(r) % (n - i - 1));
            struct rig_message m = now[i];
            now[i] = now[j];
            now[j] = m;
        }
    for (uint32_t i = 0; i < n; i++) {
        bool dead = !r->shard[now[i].to], paused = r->paused[now[i].to];
        if (paused) {
            rig_push(r, now[i].to, now[i].conn, now[i].frame, now[i].bytes, now[i].faulty);
        } else if (!dead && (!now[i].faulty || rig_random(r) % 1000 >= r->drop)) {
            rig_frame(r, now[i].to, now[i].conn, now[i].frame, now[i].bytes);
            if (now[i].faulty && rig_random(r) % 1000 < r->twice)
                rig_push(r, now[i].to, now[i].conn, now[i].frame, now[i].bytes, true);
        }
        free(now[i].frame);
    }
    free(now);
    for (int i = 0; i < RIG_SHARDS && !r->hold_views; i++)
        if (r->answer[i] && !r->paused[i]) {
            r->answer[i] = false;
            rig_set_view(r, i);
        }
}

static inline void rig_tick(struct rig *r)
{
    for (int i = 0; i < RIG_SHARDS; i++)
        if (r->shard[i] && !r->paused[i] && shard_next_ms(r->shard[i]) <= r->now)
            rig_event(r, i, (struct shard_event){.kind = SHARD_EV_TICK});
}

static inline void rig_run(struct rig *r, uint64_t ms)
{
    for (uint64_t end = r->now + ms; r->now < end; r->now++) {
        rig_deliver(r);
        rig_deliver(r);
        rig_tick(r);
    }
    rig_deliver(r);
}

static inline struct shard_status rig_status(struct rig *r, int shard)
{
    struct shard_status st;
    shard_status_get(r->shard[shard], &st);
    return st;
}

static inline void rig_run_until_copies(struct rig *r, uint32_t copies)
{
    for (int i = 0; i < 20000; i++) {
        struct shard_status st = rig_status(r, r->primary);
        if (st.role == SHARD_PRIMARY && st.copies == copies && st.commit == st.position &&
            shard_takes_requests(r->shard[r->primary]))
            return;
        rig_run(r, 1);
    }
    fail_msg("not %u copies in 20 s", copies);
}

/* --- wiring ------------------------------------------------------------------------------ */

static inline void rig_hello(struct rig *r, int shard, uint32_t conn, uint8_t role,
                             struct msg_node self)
{
    struct msg_hello h = {.magic = MSG_MAGIC, .proto_min = MSG_PROTO_MIN,
                          .proto_max = MSG_PROTO_MAX, .role = role, .self = self};
    msg_head_set(&h, MSG_HELLO, sizeof h, r->number, 0);
    rig_frame(r, shard, conn, &h, sizeof h);
}

static inline void rig_disconnect(struct rig *r, int a, int b)
{
    for (uint32_t i = 0; i < r->links; i++) {
        int at = r->link[i].at, with = r->link[i].with;
        if (!((at == a && with == b) || (at == b && with == a)))
            continue;
        uint32_t conn = r->link[i].conn;
        r->link[i] = r->link[--r->links];
        i--;
        rig_event(r, at, (struct shard_event){.kind = SHARD_EV_CLOSED, .conn = conn});
    }
}

/* `backup` dials `primary` and wants to join. */
static inline void rig_connect_backup(struct rig *r, int backup, int primary)
{
    uint32_t there = 1000 + 2 * ++r->dial, here = there + 1;
    r->link[r->links].at = backup, r->link[r->links].with = primary;
    r->link[r->links].conn = here, r->link[r->links++].peer_conn = there;
    r->link[r->links].at = primary, r->link[r->links].with = backup;
    r->link[r->links].conn = there, r->link[r->links++].peer_conn = here;
    rig_hello(r, primary, there, ROLE_REPLICA, rig_node(backup));
    shard_join_through(r->shard[backup], here);
}

static inline void rig_start(struct rig *r, int primary)
{
    r->primary = primary;
    r->view = (struct shard_view){.epoch = 1, .nmembers = 1, .members = {rig_node(primary)}};
    r->view.members[0].incarnation += r->now;
    rig_set_view(r, primary);
}

static inline void rig_crash(struct rig *r, int shard)
{
    shard_destroy(r->shard[shard]);
    r->shard[shard] = NULL;
    for (int i = 0; i < RIG_SHARDS; i++)
        if (i != shard)
            rig_disconnect(r, shard, i);
}

/* The view service names `shard` the only member, in the next epoch. */
static inline void rig_promote(struct rig *r, int shard)
{
    for (uint32_t i = 0; i < r->view.nmembers; i++)
        if (r->view.members[i].node == (uint32_t)shard + 1)
            r->view.members[0] = r->view.members[i];
    r->view.nmembers = 1;
    r->view.epoch++;
    r->primary = shard;
    rig_set_view(r, shard);
}

/* --- a client ------------------------------------------------------------------------------- */

/* As a driver does, it holds the client's frames while a primary takes over. */
static inline void rig_client_connect(struct rig *r, uint32_t conn)
{
    for (int i = 0; i < 2000 && rig_status(r, r->primary).role == SHARD_PRIMARY &&
                    !shard_takes_requests(r->shard[r->primary]); i++)
        rig_run(r, 1);
    rig_hello(r, r->primary, conn, ROLE_CLIENT, (struct msg_node){0});
}

static inline uint64_t rig_client_open(struct rig *r, uint32_t conn, uint64_t nonce)
{
    struct msg_client_open m = {.nonce = nonce};
    msg_head_set(&m, MSG_CLIENT_OPEN, sizeof m, r->number, 0);
    r->client_came = false;
    rig_frame(r, r->primary, conn, &m, sizeof m);
    for (int i = 0; i < 2000 && !r->client_came; i++)
        rig_run(r, 1);
    CHECK(r->client_came, "CLIENT_OPEN is not answered");
    return r->opened;
}

static inline int rig_table(struct rig *r, const struct table_schema *schema)
{
    struct msg_table_open m = {.client = r->client, .schema = *schema};
    msg_head_set(&m, MSG_TABLE_OPEN, sizeof m, r->number, 0);
    r->table_came = false;
    rig_frame(r, r->primary, RIG_CLIENT, &m, sizeof m);
    for (int i = 0; i < 2000 && !r->table_came; i++)
        rig_run(r, 1);
    CHECK(r->table_came, "TABLE_OPEN is not answered");
    return r->table.id;
}

/* Connects client 1 of the rig. */
static inline void rig_client(struct rig *r)
{
    rig_client_connect(r, RIG_CLIENT);
    r->client = rig_client_open(r, RIG_CLIENT, 1);
    CHECK(r->client, "no lease");
}

struct rig_txn {
    uint64_t buf[TXN_BYTES_MAX / 8];
    struct txn_builder b;
};

static inline void rig_begin(struct rig_txn *t, uint8_t slot)
{
    txn_begin(&t->b, t->buf, sizeof t->buf, slot);
}

static inline void rig_batch(struct rig *r, uint32_t conn, uint64_t client, uint64_t ack,
                             const void *txns, uint32_t bytes, uint32_t ntxn)
{
    static uint64_t frame[MSG_BYTES_MAX / 8];
    struct msg_batch *m = (struct msg_batch *)frame;
    *m = (struct msg_batch){.client = client, .ack = ack, .ntxn = ntxn};
    if (bytes)
        memcpy(m + 1, txns, bytes);
    msg_head_set(m, MSG_BATCH, (uint32_t)sizeof *m + bytes, r->number, 0);
    rig_frame(r, r->primary, conn, m, (uint32_t)sizeof *m + bytes);
}

/* Sends one txn with this sequence; does not wait. */
static inline void rig_submit_as(struct rig *r, struct rig_txn *t, uint64_t seq)
{
    uint32_t bytes = txn_end(&t->b);
    ((struct txn_head *)t->buf)->seq = seq;
    rig_batch(r, RIG_CLIENT, r->client, r->ack, t->buf, bytes, 1);
}

static inline uint64_t rig_submit(struct rig *r, struct rig_txn *t)
{
    rig_submit_as(r, t, ++r->seq);
    return r->seq;
}

/* The newest result of a sequence, or NULL. */
static inline const struct txn_result_head *rig_result(const struct rig *r, uint64_t seq)
{
    for (uint32_t i = r->nresults; i-- > 0;)
        if (r->results[i].result->seq == seq)
            return r->results[i].result;
    return NULL;
}

static inline uint32_t rig_results_of(const struct rig *r, uint64_t seq)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->nresults; i++)
        n += r->results[i].result->seq == seq;
    return n;
}

static inline const struct txn_result_head *rig_await(struct rig *r, uint64_t seq)
{
    const struct txn_result_head *h;
    for (int i = 0; i < 5000 && !(h = rig_result(r, seq)); i++)
        rig_run(r, 1);
    CHECK(h, "no answer to txn %lu", (unsigned long)seq);
    return h;
}

/* Sends it, waits for the result, acknowledges it with the next one. */
static inline const struct txn_result_head *rig_call(struct rig *r, struct rig_txn *t)
{
    if (r->nresults > RIG_RESULTS_MAX / 2)
        rig_results_clear(r);
    const struct txn_result_head *h = rig_await(r, rig_submit(r, t));
    r->ack = r->seq;
    return h;
}

/* --- ops ------------------------------------------------------------------------------------- */

static inline int rig_op(struct rig_txn *t, struct txn_op op, const void *key, uint32_t key_len,
                         const void *value, uint32_t value_len)
{
    op.key_len = (uint8_t)key_len;
    op.value_len = (uint16_t)value_len;
    int at = txn_add_op(&t->b, &op, key, NULL, value);
    CHECK(at >= 0, "the txn is full");
    return at;
}

static inline void rig_check_digest(struct rig *r, int shard)
{
    struct shard_status st = rig_status(r, shard);
    CHECK(st.digest == shard_digest_slow(r->shard[shard]),
          "shard %d: the incremental digest is not the slow one at position %lu", shard,
          (unsigned long)st.position);
}

/* Runs until the backup stands where the primary does, then compares. */
static inline void rig_check_same(struct rig *r, int a, int b)
{
    for (int i = 0; i < 3000 && rig_status(r, a).position != rig_status(r, b).position; i++)
        rig_run(r, 1);
    struct shard_status x = rig_status(r, a), y = rig_status(r, b);
    CHECK(x.position == y.position, "positions %lu and %lu", (unsigned long)x.position,
          (unsigned long)y.position);
    CHECK(x.digest == y.digest, "digests differ at position %lu", (unsigned long)x.position);
    CHECK(!x.drifts && !y.drifts, "drift noticed");
    rig_check_digest(r, a);
    rig_check_digest(r, b);
}

#endif
