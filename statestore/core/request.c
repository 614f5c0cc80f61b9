/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What clients ask for: BATCH, CLIENT_OPEN, TABLE_OPEN. See client.c for the
 * rules of exactly-once that a BATCH is held to.
 */
#include <errno.h>
#include <stdio.h>

#include "internal.h"

enum { ACK_LAG_MAX = MSG_CLIENT_WINDOW / 4, PREFETCH_MAX = 64 };

/* --- BATCH ------------------------------------------------------------------------ */

static void refuse(struct shard *s, uint32_t conn, uint64_t client, uint64_t seq,
                   enum txn_status status)
{
    results_push(s, txn_refuse(results_room(s, conn, client), seq, status));
}

/* The kept result once more, when its position is committed. */
static void answer_again(struct shard *s, uint32_t conn, struct kept *k)
{
    struct reply *r;
    s->count.duplicates++;
    if (k->position <= s->commit && lease_may_tell(s)) {
        memcpy(results_room(s, conn, k->client), k->result, k->bytes);
        results_push(s, k->bytes);
    } else if ((r = reply_new(s, conn, REPLY_RESULT))) {
        r->kept = k;
        r->appended = k->replicated;
        k->refs++;
        reply_wait(s, r, k->position);
    }
}

/* The log position a reply waits for. */
static uint64_t waits_for(const struct shard *s, const struct exec *x)
{
    uint64_t last = s->slot[x->slot].last_position;
    if (!x->sync) /* versions under an ownership, or a base, that may yet be lost are not told */
        return s->slot[x->slot].owner_position;
    if (x->status == TXN_EXHAUSTED) /* a word about every slot here */
        return s->position;
    if (!x->logged && x->nres && (SHARD_BUG(BUG_READ_NOT_HELD) || SHARD_BUG(BUG_MISS_NOT_HELD))) {
        const struct txn_result *r = (const void *)(x->result + sizeof(struct txn_result_head));
        bool hit = r->res == RES_HIT;
        if (hit == SHARD_BUG(BUG_READ_NOT_HELD))
            return 0;
    }
    return last;
}

/* Puts a result aside until commit reaches `position`. If there is no memory
 * for that the client will ask again. */
static void hold(struct shard *s, uint32_t conn, uint64_t client, const struct txn_head *t,
                 uint32_t bytes, uint64_t position)
{
    struct exec *x = &s->x;
    struct kept *k = x->kept;
    if (k)
        k->refs++;
    else if (!(k = kept_new(s, client, t->seq, x->slot, x->result, bytes)))
        return;
    struct reply *r = reply_new(s, conn, REPLY_RESULT);
    if (!r) {
        kept_put(s, k);
        return;
    }
    r->kept = k;
    r->appended = x->sync && x->logged;
    reply_wait(s, r, position);
}

static void run(struct shard *s, uint32_t conn, struct client *c, const struct txn_head *t,
                uint8_t slot)
{
    struct exec *x = &s->x;
    uint8_t *out = results_room(s, conn, c->id);
    if (slot != t->slot)
        s->places.seq = 0; /* an index that is lent: remembered under another slot's epoch */
    uint32_t bytes = txn_execute(s, t, slot, c, out);
    uint64_t position = waits_for(s, x);
    if (x->kept) {
        x->kept->position = position;
        /* Busy means: was not done, ask again. */
        if (x->status != TXN_BUSY)
            client_keep(s, c, x->kept, x->logged && x->changed);
    }
    if (position <= s->commit && ((x->sync && x->logged) || lease_may_tell(s)))
        results_push(s, bytes);
    else
        hold(s, conn, c->id, t, bytes, position);
    if (x->kept)
        kept_put(s, x->kept);
}

static bool keeps_too_much(const struct client *c, const struct txn_head *t)
{
    return c->kept_bytes > CLIENT_KEPT_BYTES && t->seq > c->seen_ack + CLIENT_KEPT_FREE;
}

/* Its slot is not here, or not under the epoch that it is bound to. */
static void send_elsewhere(struct shard *s, uint32_t conn, struct client *c,
                           const struct txn_head *t)
{
    struct { struct txn_result_head h; struct txn_moved to; } r = {
        .h = {.seq = t->seq, .bytes = sizeof r, .status = TXN_MOVED}};
    const struct conn *from = conn_find(s, conn);
    uint64_t position;
    enum txn_status status = slot_elsewhere(s, t, &r.to, &position);
    if (status == TXN_MOVED && from && from->proto < 2)
        status = TXN_NOT_PRIMARY; /* it knows no MOVED */
    if (status != TXN_MOVED) {
        refuse(s, conn, c->id, t->seq, status);
    } else if (position <= s->commit) { /* for good: no lease is needed */
        memcpy(results_room(s, conn, c->id), &r, sizeof r);
        results_push(s, sizeof r);
    } else {
        struct kept *k = kept_new(s, c->id, t->seq, t->slot, &r, sizeof r);
        struct reply *reply = k ? reply_new(s, conn, REPLY_RESULT) : NULL;
        if (reply) {
            reply->kept = k;
            reply->appended = true;
            reply_wait(s, reply, position);
        } else if (k) {
            kept_put(s, k);
        }
    }
}

/* Not to run here now; an entry without effects keeps that answer. */
static void log_moved(struct shard *s, uint32_t conn, struct client *c, const struct txn_head *t,
                      const struct txn_moved *to)
{
    struct { struct txn_result_head h; struct txn_moved to; } r = {
        .h = {.seq = t->seq, .bytes = sizeof r, .status = TXN_MOVED}, .to = *to};
    struct kept *k = client_reach(c, t->seq)
                         ? kept_new(s, c->id, t->seq, t->slot, &r, sizeof r) : NULL;
    struct entry *e = k ? log_next(s, (uint32_t)(sizeof *e + sizeof r)) : NULL;
    if (!e) {
        if (k)
            kept_put(s, k);
        refuse(s, conn, c->id, t->seq, TXN_BUSY);
        return;
    }
    *e = (struct entry){.bytes = (uint32_t)(sizeof *e + sizeof r), .slot = t->slot,
                        .position = s->position + 1, .slot_seq = s->slot[t->slot].seq,
                        .time_ms = s->time_ms, .client = c->id, .seq = t->seq,
                        .ack = c->seen_ack, .result_bytes = sizeof r, .sync = 1};
    memcpy(e + 1, &r, sizeof r);
    log_push(s, e);
    apply_entry(s, e, APPLY_OWN | APPLY_SLOT | APPLY_CLIENT);
    k->position = s->position;
    client_keep(s, c, k, true);
    commit_update(s);
    answer_again(s, conn, k);
    kept_put(s, k);
}

/* In the slot that has the pool index it names, if it names one. */
static void run_where(struct shard *s, uint32_t conn, struct client *c, const struct txn_head *t)
{
    const struct conn *from = conn_find(s, conn);
    struct txn_moved to;
    uint8_t slot;
    enum txn_status status = slot_for(s, t, &slot, &to);
    if (status == TXN_OK)
        run(s, conn, c, t, slot);
    else if (status == TXN_BUSY)
        refuse(s, conn, c->id, t->seq, TXN_BUSY);
    else if (from && from->proto < 2)
        refuse(s, conn, c->id, t->seq, TXN_NOT_PRIMARY);
    else
        log_moved(s, conn, c, t, &to);
}

/* The first key of a txn. */
struct hint {
    const uint8_t *key;       /* NULL: none that can be looked up ahead */
    struct table *t;
    uint64_t hash;            /* not of a pool's */
    uint32_t rec;             /* where it perhaps stands; not of a pool's */
    uint32_t index;           /* a pool's */
    uint8_t slot;
    bool pool;
};

static void on_txn(struct shard *s, uint32_t conn, struct client *c, const struct txn_head *t,
                   const struct hint *hint)
{
    struct kept *k = client_result(c, t->seq);
    const struct slot *o = &s->slot[t->slot];
    s->places.seq = s->places.on ? t->seq : 0;
    if (k)
        answer_again(s, conn, k);
    else if (t->seq <= c->seen_ack)
        refuse(s, conn, c->id, t->seq, TXN_FORGOTTEN);
    else if (o->owner != OWNER_HERE || o->epoch != t->slot_epoch)
        send_elsewhere(s, conn, c, t);
    else if (t->seq > c->ack + MSG_CLIENT_WINDOW || s->replies >= REPLIES_MAX ||
             keeps_too_much(c, t))
        refuse(s, conn, c->id, t->seq, TXN_BUSY);
    else if (!hint->key || !read_now(s, conn, c->id, t, hint->t))
        run_where(s, conn, c, t);
}

static const struct txn_head *txn_after(const struct txn_head *t)
{
    return (const struct txn_head *)((const uint8_t *)t + t->bytes);
}

static struct hint hint_of(const struct shard *s, const struct txn_head *t)
{
    const struct txn_op *op = txn_first(t);
    struct table *table = op->table < s->tables ? s->table[op->table] : NULL;
    struct hint h = {.t = table, .slot = t->slot, .rec = REC_NONE};
    if (!table || op->npatch || op->key_len != table->schema.key_size)
        return h;
    h.pool = table->schema.kind == TABLE_POOL;
    if (h.pool)
        memcpy(&h.index, txn_key(op), sizeof h.index);
    else
        h.hash = table_hash(table, txn_key(op), op->key_len);
    /* Nobody has checked the index yet. */
    if (!h.pool || (h.index < table->schema.max_entries && slot_of_index(h.index) == t->slot))
        h.key = txn_key(op);
    return h;
}

/* Brings near what the first keys need, step by step for all of them, so that
 * the misses of one step overlap: part; bucket or pool; (number); record. */
static void prefetch(const struct shard *s, const struct txn_head *t, struct hint *hints,
                     uint32_t n)
{
    for (uint32_t i = 0; i < n; i++, t = txn_after(t)) {
        hints[i] = hint_of(s, t);
        if (hints[i].key)
            part_prefetch(hints[i].t, hints[i].slot);
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct hint *h = &hints[i];
        if (h->key && h->pool)
            pool_prefetch(h->t, h->slot);
        else if (h->key)
            part_prefetch_bucket(h->t, h->slot, h->hash);
    }
    for (uint32_t i = 0; i < n; i++)
        if (hints[i].key && hints[i].pool)
            pool_prefetch_number(hints[i].t, hints[i].slot, hints[i].index);
    for (uint32_t i = 0; i < n; i++) {
        struct hint *h = &hints[i];
        if (h->key && h->pool)
            pool_prefetch_record(h->t, h->slot, h->index);
        else if (h->key)
            h->rec = part_prefetch_record(h->t, h->slot, h->hash);
    }
}

static enum txn_status why_not(struct shard *s, const struct client *c)
{
    if (s->role == SHARD_LOST)
        return TXN_LOST;
    if (s->role != SHARD_PRIMARY || s->collecting)
        return TXN_NOT_PRIMARY;
    if (c)
        return TXN_OK;
    /* Another primary may have leased the id since; and what let it go has to be
     * committed, or a late duplicate might run at a successor after we said so. */
    bool known = s->base_position <= s->commit || SHARD_BUG(BUG_STALE_UNCOMMITTED);
    return lease_may_tell(s) && known ? TXN_STALE_CLIENT : TXN_NOT_PRIMARY;
}

void on_batch(struct shard *s, uint32_t conn, const struct msg_batch *m)
{
    struct hint hints[PREFETCH_MAX];
    const struct txn_head *t = (const struct txn_head *)(m + 1);
    struct client *c = client_find(s, m->client);
    struct effect again = {.code = EFFECT_CLIENT_OPEN, .version = m->client};
    if (SHARD_BUG(BUG_EXPIRED_CLIENT) && !c && s->role == SHARD_PRIMARY && m->client &&
        log_base(s, &again, NULL, NULL))
        c = client_find(s, m->client);
    enum txn_status refused = why_not(s, c);
    s->counts.batches++;
    if (refused == TXN_OK) {
        client_renew(s, c);
        if (c->seen_ack < m->ack)
            c->seen_ack = m->ack;
        if (c->seen_ack > c->ack + ACK_LAG_MAX ||
            (c->seen_ack > c->ack && c->kept_bytes > CLIENT_KEPT_BYTES / 2))
            log_base(s, NULL, NULL, c);
    }
    places_begin(s, conn, m);
    for (uint32_t i = 0; i < m->ntxn; i++, t = txn_after(t)) {
        if (refused != TXN_OK) {
            refuse(s, conn, m->client, t->seq, refused);
            continue;
        }
        uint32_t at = i % PREFETCH_MAX, left = m->ntxn - i;
        if (at == 0)
            prefetch(s, t, hints, left < PREFETCH_MAX ? left : PREFETCH_MAX);
        s->hint_key = hints[at].key;
        s->hint_hash = hints[at].hash;
        s->hint_rec = hints[at].rec;
        on_txn(s, conn, c, t, &hints[at]);
    }
    s->hint_key = NULL;
    places_end(s);
}

/* --- CLIENT_OPEN --------------------------------------------------------------------- */

/* Never reused, not even by a shard that starts anew after losing its state:
 * a driver's incarnations grow with time (nanoseconds), so ids do, too. */
static uint64_t next_client_id(const struct shard *s)
{
    uint64_t n = s->self.incarnation >> 16;
    if (n < s->client_counter)
        n = s->client_counter;
    return (uint64_t)(s->config.shard + 1) << 48 | (n + 1);
}

static bool open_client(struct shard *s, struct conn *c, uint64_t nonce)
{
    uint64_t id = next_client_id(s);
    struct effect open = {.code = EFFECT_CLIENT_OPEN, .version = id};
    if (s->role != SHARD_PRIMARY || s->collecting || s->clients >= CLIENTS_MAX ||
        !log_base(s, &open, NULL, NULL))
        return false;
    if (!client_find(s, id))
        return false;
    c->nonce = nonce;
    c->client = id;
    c->open_position = s->position;
    return true;
}

void on_client_open(struct shard *s, struct conn *c, const struct msg_client_open *m)
{
    struct reply *r = reply_new(s, c->id, REPLY_CLIENT);
    if (!r)
        return;
    r->opened.nonce = m->nonce;
    bool again = c->client && c->nonce == m->nonce && client_find(s, c->client);
    if (again || open_client(s, c, m->nonce)) {
        r->opened.client = c->client;
        reply_wait(s, r, c->open_position);
    } else {
        r->opened.client = 0;
        reply_ready(s, r);
    }
}

/* --- TABLE_OPEN ------------------------------------------------------------------------ */

static void refuse_table(struct shard *s, uint32_t conn, const struct table_schema *schema,
                         int err, const char *why)
{
    struct msg_table m = {.id = err};
    memcpy(m.name, schema->name, sizeof m.name);
    snprintf(m.text, sizeof m.text, "%s", why);
    shard_send(s, conn, &m, MSG_TABLE, sizeof m);
}

static const char *reactions_wrong(const struct shard *s, const struct table_schema *schema)
{
    for (int i = 0; i < TABLE_REACTIONS; i++) {
        const struct table_reaction *r = &schema->reactions[i];
        const struct table *t = r->kind ? table_by_name(s, r->table) : NULL;
        if (t && t->schema.kind != (r->kind == REACT_FREE ? TABLE_POOL : TABLE_COUNTERS))
            return "a reaction names a table of the wrong kind";
    }
    return NULL;
}

int table_open(struct shard *s, const struct table_schema *schema, const char **why,
               char *text, uint32_t room)
{
    struct effect e = {.code = EFFECT_TABLE, .table = (uint8_t)s->tables,
                       .value_len = sizeof *schema};
    if ((*why = schema_validate(schema)) || (*why = reactions_wrong(s, schema)))
        return -EINVAL;
    *why = "this shard has as many tables as it can have";
    if (s->tables == TABLES_MAX)
        return -ENOSPC;
    *why = text;
    if (!limits_allow_table(s, schema, text, room))
        return -ENOMEM;
    *why = "the log is full; try again";
    uint32_t id = s->tables;
    if (!log_base(s, &e, schema, NULL))
        return -EAGAIN;
    *why = "out of memory";
    if (s->tables == id)
        return -ENOMEM;
    s->table[id]->position = s->position;
    return 0;
}

void on_table_open(struct shard *s, struct conn *c, const struct msg_table_open *m)
{
    char differs[200] = "this replica does not serve the shard";
    const char *why = differs;
    struct client *client = client_find(s, m->client);
    struct table *t = NULL;
    int err = -EAGAIN;
    if (s->role == SHARD_PRIMARY && !s->collecting) {
        if (client)
            client_renew(s, client);
        t = table_by_name(s, m->schema.name);
        if (!t && !(err = table_open(s, &m->schema, &why, differs, sizeof differs)))
            t = table_by_name(s, m->schema.name);
        else if (t && schema_compare(&t->schema, &m->schema, differs, sizeof differs))
            t = NULL, err = -EEXIST;
    }
    struct reply *r = t ? reply_new(s, c->id, REPLY_TABLE) : NULL;
    if (!r) {
        refuse_table(s, c->id, &m->schema, t ? -EAGAIN : err, why);
        return;
    }
    r->table = t->id;
    reply_wait(s, r, t->position);
}
