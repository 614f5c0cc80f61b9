/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two shards, each a rig with a primary and a backup, and the driver that connects
 * a source of moves to its destination. A client per shard follows TXN_MOVED.
 *
 *   struct pair *p = pair_new(seed, schemas, n);
 *   pair_add(p, slot);                 // adds 1 to a counter of the slot, wherever it is
 *   pair_order(p, 0, first, last);     // shard 0 gives them to the other one
 *   pair_lend(p, 0, pool, count);      // shard 0 lends indexes to the other one
 *   pair_run(p, ms);
 *
 * Frames between the shards may be lost, doubled and overtaken, and after the
 * kill_at'th of them a primary dies; its backup is promoted 5 ms later.
 */
#ifndef STATESTORE_CORE_MOVE_RIG_TEST_SUPPORT_H
#define STATESTORE_CORE_MOVE_RIG_TEST_SUPPORT_H

#include "rig_test_support.h"

enum { PAIR_QUEUE_MAX = 4096, PAIR_SEQS = 1 << 16 };

struct pair_link { int at, shard; uint32_t conn; }; /* one end: rig, replica, its number */
struct pair_message { struct pair_link to; uint32_t bytes; void *frame; };

struct pair {
    struct rig *r[2];
    bool linked[2];           /* [i]: rig i has a connection that it dialled */
    int wanted[2];
    struct pair_link here[2], there[2];
    uint32_t conns;
    struct pair_message *queue;
    uint32_t queued, delivered;
    uint32_t drop, twice, swap, late; /* per mille */
    uint64_t random;
    int kill_at, victim;      /* 0: nobody; the rig whose primary dies */
    uint64_t promote_ms;
    uint32_t kills, gone;     /* transfers seen to their end: GONE */
    struct map_slot map[LETHE_SLOTS];
};

static inline uint32_t pair_chance(struct pair *p, uint32_t per_mille)
{
    p->random = p->random * 6364136223846793005ull + 1442695040888963407ull;
    return (p->random >> 33) % 1000 < per_mille;
}

static inline void pair_push(struct pair *p, struct pair_link to, const void *frame, uint32_t bytes)
{
    CHECK(p->queued < PAIR_QUEUE_MAX, "the pair's queue is full");
    struct pair_message m = {to, bytes, aligned_alloc(64, (bytes + 63) & ~63u)};
    memcpy(m.frame, frame, bytes);
    p->queue[p->queued++] = m;
}

static inline bool pair_other(struct rig *r, int shard, uint32_t conn, const void *frame,
                              uint32_t bytes)
{
    struct pair *p = r->other_ctx;
    for (int i = 0; i < 2; i++) {
        const struct pair_link *ends[] = {&p->here[i], &p->there[i]};
        for (int k = 0; k < 2; k++)
            if (p->linked[i] && p->r[ends[k]->at] == r && ends[k]->shard == shard &&
                ends[k]->conn == conn) {
                pair_push(p, *ends[!k], frame, bytes);
                return true;
            }
    }
    return conn >= 5000;
}

static inline void pair_unlink(struct pair *p, int i)
{
    const struct pair_link *ends[] = {&p->here[i], &p->there[i]};
    if (!p->linked[i])
        return;
    p->linked[i] = false;
    for (int k = 0; k < 2; k++)
        rig_event(p->r[ends[k]->at], ends[k]->shard,
                  (struct shard_event){.kind = SHARD_EV_CLOSED, .conn = ends[k]->conn});
}

/* What a driver does: dials, and redials when somebody else leads. */
static inline void pair_drive(struct pair *p, int i)
{
    struct rig *r = p->r[i], *to = p->r[!i];
    struct shard *from = r->shard[r->primary];
    int want = from ? shard_wants_mover(from) : -1;
    bool right = p->linked[i] && p->here[i].shard == r->primary && want == !i &&
                 p->there[i].shard == to->primary;
    if (p->linked[i] && !right)
        pair_unlink(p, i);
    if (want != !i || p->linked[i] || !to->shard[to->primary] ||
        rig_status(to, to->primary).role != SHARD_PRIMARY)
        return;
    p->here[i] = (struct pair_link){i, r->primary, 5000 + ++p->conns};
    p->there[i] = (struct pair_link){!i, to->primary, 5000 + ++p->conns};
    p->linked[i] = true;
    rig_hello(to, to->primary, p->there[i].conn, ROLE_MOVER, rig_node(r->primary));
    shard_move_through(from, p->here[i].conn);
    rig_event(r, r->primary, (struct shard_event){.kind = SHARD_EV_TICK});
}

static inline void pair_kill(struct pair *p)
{
    struct rig *r = p->r[p->victim];
    for (int i = 0; i < 2; i++)
        pair_unlink(p, i);
    rig_crash(r, r->primary);
    p->promote_ms = r->now + 5;
    p->kills++;
}

static inline void pair_deliver(struct pair *p)
{
    uint32_t n = p->queued;
    struct pair_message *now = malloc((n + 1) * sizeof *now);
    memcpy(now, p->queue, n * sizeof *now);
    p->queued = 0;
    for (uint32_t i = 0; i + 1 < n; i++)
        if (pair_chance(p, p->swap)) {
            struct pair_message m = now[i];
            now[i] = now[i + 1];
            now[i + 1] = m;
        }
    for (uint32_t i = 0; i < n; i++) {
        struct rig *r = p->r[now[i].to.at];
        bool open = false;
        for (int k = 0; k < 2; k++)
            open |= p->linked[k] && (!memcmp(&p->here[k], &now[i].to, sizeof now[i].to) ||
                                     !memcmp(&p->there[k], &now[i].to, sizeof now[i].to));
        if (open && pair_chance(p, p->late)) {
            pair_push(p, now[i].to, now[i].frame, now[i].bytes);
        } else if (open && r->shard[now[i].to.shard] && !pair_chance(p, p->drop)) {
            rig_frame(r, now[i].to.shard, now[i].to.conn, now[i].frame, now[i].bytes);
            if (pair_chance(p, p->twice))
                pair_push(p, now[i].to, now[i].frame, now[i].bytes);
            p->delivered++;
        }
        free(now[i].frame);
        if (p->kill_at && (int)p->delivered == p->kill_at && !p->promote_ms && !p->kills)
            pair_kill(p);
    }
    free(now);
}

static inline void pair_run(struct pair *p, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        for (int k = 0; k < 2; k++) {
            struct rig *r = p->r[k];
            if (p->promote_ms && k == p->victim && r->now >= p->promote_ms) {
                p->promote_ms = 0;
                rig_promote(r, !r->primary);
                rig_client_connect(r, RIG_CLIENT);
            }
            rig_run(r, 1);
            pair_drive(p, k);
        }
        pair_deliver(p);
    }
}

static inline void pair_order(struct pair *p, int from, uint8_t first, uint8_t last)
{
    struct shard_order o = {.kind = SHARD_ORDER_MOVE, .first = first, .last = last,
                            .to = (uint16_t)!from};
    rig_event(p->r[from], p->r[from]->primary,
              (struct shard_event){.kind = SHARD_EV_ORDER, .order = &o});
}

static inline void pair_lend(struct pair *p, int from, const char *pool, uint32_t count)
{
    struct shard_order o = {.kind = SHARD_ORDER_LEND, .count = count, .to = (uint16_t)!from};
    snprintf(o.table, sizeof o.table, "%s", pool);
    rig_event(p->r[from], p->r[from]->primary,
              (struct shard_event){.kind = SHARD_EV_ORDER, .order = &o});
}

static inline struct pair *pair_new(uint64_t seed, const struct table_schema *schemas, int n,
                                    struct shard_config config)
{
    struct pair *p = calloc(1, sizeof *p);
    p->queue = calloc(PAIR_QUEUE_MAX, sizeof *p->queue);
    p->random = seed;
    config.shards = 2;
    config.client_lease_ms = config.client_lease_ms ? config.client_lease_ms : 1000000;
    for (int i = 0; i < 2; i++) {
        config.shard = (uint16_t)i;
        struct rig *r = p->r[i] = rig_new(seed + (uint64_t)i, 2, config);
        r->other = pair_other;
        r->other_ctx = p;
        rig_start(r, 0);
        rig_connect_backup(r, 1, 0);
        rig_run_until_copies(r, 2);
        rig_run(r, 300u * (uint32_t)i); /* nobody's clock is another's */
        rig_client(r);
        for (int k = 0; k < n; k++)
            rig_table(r, &schemas[i ? n - 1 - k : k]); /* other numbers there */
    }
    for (int slot = 0; slot < LETHE_SLOTS; slot++)
        p->map[slot].shard = (uint16_t)(slot * 2 / LETHE_SLOTS);
    return p;
}

static inline void pair_free(struct pair *p)
{
    for (uint32_t i = 0; i < p->queued; i++)
        free(p->queue[i].frame);
    for (int i = 0; i < 2; i++)
        rig_free(p->r[i]);
    free(p->queue);
    free(p);
}

/* Sends it to shard `at` under `epoch`. */
static inline uint64_t pair_submit_as(struct pair *p, int at, struct rig_txn *t, uint64_t seq,
                                      uint32_t epoch)
{
    struct rig *r = p->r[at];
    uint32_t bytes = t->b.used ? txn_end(&t->b) : ((struct txn_head *)t->buf)->bytes;
    struct txn_head *h = (struct txn_head *)t->buf;
    t->b.used = 0;
    h->seq = seq;
    h->slot_epoch = epoch;
    rig_batch(r, RIG_CLIENT, r->client, r->ack, t->buf, bytes, 1);
    return seq;
}

static inline const struct txn_result_head *pair_answer(struct pair *p, int at, uint64_t seq,
                                                        int patience_ms)
{
    const struct txn_result_head *h = rig_result(p->r[at], seq);
    for (int i = 0; !h && i < patience_ms; i++) {
        pair_run(p, 1);
        h = rig_result(p->r[at], seq);
    }
    return h;
}

static inline void pair_settle(struct pair *p)
{
    for (int i = 0; i < 20000; i++) {
        bool busy = p->promote_ms;
        for (int k = 0; k < 2; k++) {
            struct rig *r = p->r[k];
            struct shard *s = r->shard[r->primary];
            busy |= !s || shard_wants_mover(s) >= 0 || rig_status(r, r->primary).waiting;
        }
        if (!busy)
            return;
        pair_run(p, 1);
    }
    fail_msg("the moves do not end");
}

static inline void pair_map(struct pair *p, int at, struct msg_map *map)
{
    struct msg_map_get m = {0};
    struct rig *r = p->r[at];
    msg_head_set(&m, MSG_MAP_GET, sizeof m, r->number, 0);
    rig_frame(r, r->primary, RIG_CLIENT, &m, sizeof m);
    *map = r->map;
}

/* Exactly one shard owns it: returns which. */
static inline int pair_owner(struct pair *p, uint8_t slot, uint32_t *epoch)
{
    struct msg_map map[2];
    int owner = -1;
    for (int i = 0; i < 2; i++) {
        pair_map(p, i, &map[i]);
        if (map[i].slots[slot].known && map[i].slots[slot].shard == i) {
            CHECK(owner < 0, "slot %u has two owners", slot);
            owner = i;
        }
    }
    CHECK(owner >= 0, "slot %u has no owner", slot);
    *epoch = map[owner].slots[slot].epoch;
    return owner;
}

static inline void pair_check(struct pair *p)
{
    for (int i = 0; i < 2; i++) {
        struct rig *r = p->r[i];
        if (r->shard[0] && r->shard[1])
            rig_check_same(r, 0, 1);
        else
            rig_check_digest(r, r->primary);
    }
}

#endif
