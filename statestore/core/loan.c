/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pool indexes lent to another shard, because an operator ordered it.
 *
 *   S (source)                                  D (destination)
 *   LEND + LOAN(n, open) logged: the indexes
 *     of slot A are under way, nobody's
 *     ... committed: PART, with all of it ────▶ BORROW + LOAN(n, taken) logged: slot B has them
 *   LOAN_DONE(B) + LOAN(n, closed): a mark ◀─── ... committed: ACCEPTED by B
 *
 * or LOAN(n, refused), and they are free at A again. Each of these is one log entry that
 * changes a slot and the base (entry.also). A loan is one frame of at most LOAN_MAX free
 * indexes of one slot: the one that has most. An order for more is several loans.
 *
 * Numbers grow per pair of shards. The source has one loan open at a time, and no slot
 * is released meanwhile: what is under way never moves. Both sides remember the last
 * one of each other shard in replicated state, so that after any fail-over the source
 * sends an open one again, and the destination takes, or refuses, each number once and
 * repeats its answer. A number below the last one is a late duplicate: its answer was
 * heard.
 *
 * B is the slot that lent them once, if move_id.slot names it and it is with D: what is
 * lent back is its lender's own again, without a mark at A. Else D's driest slot. So
 * chains of marks lead over shards; slot_for follows them and says TXN_MOVED where they
 * leave. An index under way is TXN_BUSY: nobody has it, so whoever names it is late.
 *
 * Versions: PART says what B's have to begin above (its LEND's version), for no version
 * of an index is given twice.
 *
 * Not for pools of durability `none`: their marks would go with the primary.
 * Not covered: a shard whose loss an operator accepted has forgotten its loans.
 *
 * Owner: the shard's thread, primary. A full log or memory: tried again.
 */
#include <errno.h>
#include <stdio.h>

#include "internal.h"

/* --- as state ------------------------------------------------------------------------- */

static uint64_t loan_digest(uint32_t shard, const struct loan *l)
{
    uint64_t what = (uint64_t)shard << 32 | (uint64_t)l->state << 16 | l->slot << 8 | l->table;
    return l->state ? mix64(mix64(what ^ 0x10a2ull << 48) ^ l->number) : 0;
}

uint64_t loans_digest(const struct shard *s)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < s->config.shards; i++)
        sum += loan_digest(i, &s->loans.out[i]) + loan_digest(i, &s->loans.in[i]);
    return sum;
}

bool loan_fits(const struct shard *s, const struct effect *e)
{
    return e->timeout_ms < s->config.shards && e->children < LETHE_SLOTS && e->parent_table &&
           e->parent_table < LOAN_STATE_END &&
           (e->parent_table != LOAN_OPEN || s->table[e->table]);
}

void apply_loan(struct shard *s, const struct effect *e)
{
    bool ours = e->parent_table == LOAN_OPEN || e->parent_table == LOAN_CLOSED;
    struct loan *l = &(ours ? s->loans.out : s->loans.in)[e->timeout_ms];
    s->digest -= loan_digest(e->timeout_ms, l);
    *l = (struct loan){.number = (uint32_t)e->version, .state = e->parent_table,
                       .slot = (uint8_t)e->children, .table = e->table, .position = s->position};
    s->digest += loan_digest(e->timeout_ms, l);
    if (l->state == LOAN_OPEN)
        s->loans.open = e->timeout_ms + 1;
    else if (ours && s->loans.open == e->timeout_ms + 1)
        s->loans.open = 0;
}

int apply_loan_entry(struct shard *s, const struct entry *e, unsigned what)
{
    const struct effect *f = entry_first(e), *loan = effect_next(f);
    bool lends = f->code == EFFECT_LEND || f->code == EFFECT_BORROW || f->code == EFFECT_LOAN_DONE;
    if (e->effects != 2 || e->slot >= LETHE_SLOTS || !lends || loan->code != EFFECT_LOAN)
        return -EINVAL;
    if (what & APPLY_ALSO) {
        if (!loan_fits(s, loan))
            return -EINVAL;
        s->base_position = e->position;
        apply_loan(s, loan);
    }
    if (!(what & APPLY_SLOT))
        return 0;
    return effect_fits(s, (uint8_t)e->slot, f) ? apply_slot_lend(s, e, (uint8_t)e->slot, f)
                                               : -EINVAL;
}

/* --- logging ---------------------------------------------------------------------------- */

/* What happens to the slot, and what is remembered of it. */
static bool log_loan(struct shard *s, uint8_t slot, const struct effect *f, const struct lot *lot,
                     const struct effect *loan, uint64_t seq)
{
    uint32_t effects = effect_size(0, 0, f->value_len) + effect_size(0, 0, 0);
    uint32_t bytes = (uint32_t)sizeof(struct entry) + effects;
    struct entry *e = log_next(s, bytes);
    if (!e)
        return false;
    *e = (struct entry){.bytes = bytes, .slot = slot, .effects = 2, .position = s->position + 1,
                        .slot_seq = seq, .time_ms = s->time_ms, .effects_bytes = effects,
                        .sync = 1, .also = SLOT_BASE + 1};
    effect_write(effect_next(effect_write(e + 1, f, NULL, NULL, lot->index)), loan, NULL, NULL,
                 NULL);
    log_push(s, e);
    apply_entry(s, e, APPLY_OWN | APPLY_SLOT | APPLY_ALSO);
    commit_update(s);
    return true;
}

static struct effect effect_of(enum effect_code code, const struct table *t, const struct lot *lot,
                               uint32_t children)
{
    return (struct effect){.code = (uint8_t)code, .table = t->id, .children = children,
                           .value_len = (uint16_t)(lot->n * sizeof *lot->index)};
}

/* --- orders ----------------------------------------------------------------------------- */

static const char *not_lendable(const struct shard *s, const char *name)
{
    const struct table *t = table_by_name(s, name);
    return !t                                ? "no such table is open here"
           : t->schema.kind != TABLE_POOL    ? "it is no pool"
           : is_volatile(t)                  ? "its durability is none"
           : !LEND_MAX                       ? "lending is off"
                                             : NULL;
}

/* The slot of ours that has most free ones, or (`dry`) fewest; -1: no slot, or none free. */
static int extreme_slot(struct shard *s, struct table *t, bool dry)
{
    uint32_t best = 0;
    int slot = -1;
    for (int i = 0; i < LETHE_SLOTS; i++) {
        uint32_t n = shard_owns(s, i) ? pool_free_in(s, t, (uint8_t)i) : 0;
        if (shard_owns(s, i) && (dry ? slot < 0 || n < best : n > best))
            best = n, slot = i;
    }
    return slot;
}

void order_lend(struct shard *s, const struct shard_order *o)
{
    struct moves *v = &s->moves;
    const char *why = o->count ? not_lendable(s, o->table) : "it says 0 indexes";
    int i = 0;
    while (i < LEND_ORDERS_MAX && v->lend[i].count)
        i++;
    if (!why && i == LEND_ORDERS_MAX)
        why = "too many orders to lend are waiting";
    if (!why && extreme_slot(s, table_by_name(s, o->table), false) < 0)
        why = "none is free here";
    if (why) {
        order_refuse(s, "pool %.*s is not lent to shard %u: %s", TABLE_NAME_MAX, o->table, o->to,
                     why);
        return;
    }
    shard_note(s, "lend ordered: count=%u pool=%.*s to=%u", o->count, TABLE_NAME_MAX,
               o->table, o->to);
    v->lend[i] = (struct lend_order){.count = o->count, .to = o->to};
    memcpy(v->lend[i].table, o->table, TABLE_NAME_MAX);
    v->nlends++;
}

static struct lend_order *next_order(const struct shard *s)
{
    for (int i = 0; s->moves.nlends && i < LEND_ORDERS_MAX; i++)
        if (s->moves.lend[i].count)
            return (struct lend_order *)&s->moves.lend[i];
    return NULL;
}

int lend_wanted(const struct shard *s)
{
    const struct lend_order *o = next_order(s);
    return o ? o->to : -1;
}

static void order_done(struct shard *s, struct lend_order *o, uint32_t lent)
{
    o->count -= lent;
    s->moves.nlends -= !o->count;
}

/* A loan of free indexes of one slot; 0: log full, or no memory. */
static uint32_t release_some(struct shard *s, struct table *t, uint8_t from,
                             const struct lend_order *o)
{
    struct lot lot;
    uint32_t most = o->count < LOAN_MAX ? o->count : LOAN_MAX;
    uint32_t way = pool_draw(s, t, from, LETHE_SLOTS, most, &lot);
    struct effect lend = effect_of(EFFECT_LEND, t, &lot, LETHE_SLOTS);
    struct effect loan = {.code = EFFECT_LOAN, .table = t->id, .timeout_ms = o->to,
                          .version = s->loans.out[o->to].number + 1ull,
                          .parent_table = LOAN_OPEN, .children = from};
    if (way < LETHE_SLOTS) { /* first back to the slot here that lent them */
        while (lot.n > LEND_MAX)
            lot.n--;
        (void)log_lend(s, t, from, (uint8_t)way, &lot);
        return 0;
    }
    return log_loan(s, from, &lend, &lot, &loan, s->slot[from].seq) ? lot.n : 0;
}

void lend_next(struct shard *s)
{
    struct lend_order *o = next_order(s);
    if (!o || s->loans.open || s->moves.nqueued || !s->moves.conn || s->moves.conn_to != o->to)
        return;
    struct table *t = table_by_name(s, o->table);
    for (int i = 0; i < LETHE_SLOTS; i++) {
        int from = extreme_slot(s, t, false);
        if (from < 0) {
            shard_note(s, "lend given up: count=%u pool=%s to=%u cause=\"none is free here\"",
                       o->count, o->table, o->to);
            order_done(s, o, o->count);
            return;
        }
        uint32_t n = pool_open(t, (uint8_t)from) ? release_some(s, t, (uint8_t)from, o) : 0;
        order_done(s, o, n);
        if (n)
            return;
    }
}

/* --- the source -------------------------------------------------------------------------- */

/* What is under way of a slot: there is no more than one loan. */
static bool lot_under_way(const struct table *t, uint8_t slot, struct lot *lot)
{
    const struct pool_part *p = t->part[slot].pool;
    lot->n = 0;
    for (uint32_t i = 0; p && i < p->count; i++) {
        if (p->to[i] != POOL_UNDER_WAY)
            continue;
        if (lot->n == LOAN_MAX)
            return false;
        lot->index[lot->n++] = pool_index_of(p, slot, i);
    }
    return lot->n > 0;
}

/* The slot that lent them, if they were borrowed; they go one way. */
static uint8_t lender_of(const struct table *t, uint8_t slot, uint32_t index)
{
    const struct pool_part *p = t->part[slot].pool;
    uint32_t dense = pool_number(p, slot, index);
    return dense < p->home ? slot : (uint8_t)p->borrowed[dense - p->home].from;
}

static bool may_send(const struct shard *s)
{
    const struct moves *v = &s->moves;
    return s->loans.open && v->conn && v->conn_to == s->loans.open - 1 &&
           s->loans.out[v->conn_to].position <= s->commit && is_due(s, v->loan_told_ms);
}

void loan_send(struct shard *s)
{
    struct moves *v = &s->moves;
    struct msg_move_part *m = (struct msg_move_part *)s->scratch;
    struct lot lot;
    if (!may_send(s))
        return;
    const struct loan *l = &s->loans.out[v->conn_to];
    const struct table *t = s->table[l->table];
    if (!lot_under_way(t, l->slot, &lot))
        return;
    struct effect table = {.code = EFFECT_TABLE, .table = t->id, .value_len = sizeof t->schema};
    struct effect lend = effect_of(EFFECT_LEND, t, &lot, l->slot);
    lend.version = slot_next_version(s, l->slot);
    *m = (struct msg_move_part){
        .move = {.what = MOVE_INDEXES, .slot = lender_of(t, l->slot, lot.index[0]),
                 .from_shard = s->config.shard, .epoch = l->number},
        .attempt = l->number};
    struct effect *e = effect_write(m + 1, &table, NULL, NULL, &t->schema);
    e = effect_next(effect_write(effect_next(e), &lend, NULL, NULL, lot.index));
    m->body_bytes = (uint32_t)((uint8_t *)e - (uint8_t *)(m + 1));
    m->crc = crc32c(0, m + 1, m->body_bytes);
    v->loan_told_ms = s->now_ms + 1;
    send_to_destination(s, m, MSG_MOVE_PART, (uint32_t)sizeof *m + m->body_bytes);
}

void on_loan_ack(struct shard *s, const struct msg_move_ack *m)
{
    struct moves *v = &s->moves;
    const struct loan *l = &s->loans.out[v->conn_to];
    struct lot lot;
    if (l->state != LOAN_OPEN || l->number != m->move.epoch || l->position > s->commit ||
        (m->state != MOVE_ACCEPTED && m->state != MOVE_REFUSED) ||
        !lot_under_way(s->table[l->table], l->slot, &lot))
        return;
    const struct table *t = s->table[l->table];
    bool refused = m->state == MOVE_REFUSED;
    struct effect done = effect_of(EFFECT_LOAN_DONE, t, &lot, refused ? LETHE_SLOTS : m->move.slot);
    struct effect loan = {.code = EFFECT_LOAN, .table = t->id, .timeout_ms = v->conn_to,
                          .version = l->number, .parent_table = LOAN_CLOSED, .children = l->slot};
    struct lend_order *o = next_order(s);
    if (!log_loan(s, l->slot, &done, &lot, &loan, s->slot[l->slot].seq))
        return; /* log full: it is sent, and answered, again */
    v->loan_told_ms = 0;
    if (!refused)
        return;
    shard_note(s, "lend refused: count=%u pool=%.*s by=%u cause=\"%s\"", lot.n,
               TABLE_NAME_MAX, t->schema.name, v->conn_to, m->text);
    if (o && o->to == v->conn_to)
        order_done(s, o, o->count);
}

/* --- the destination ---------------------------------------------------------------------- */

static bool may_come(const struct table *t, uint8_t slot, const struct lot *lot, bool back)
{
    const struct pool_part *p = t->part[slot].pool;
    for (uint32_t i = 0; i < lot->n; i++) {
        uint32_t index = lot->index[i];
        uint32_t dense = p ? pool_number(p, slot, index) : REC_NONE;
        bool away = p && dense != REC_NONE && p->to[dense] && p->to[dense] != POOL_UNDER_WAY;
        if (back ? !away : !away && (dense != REC_NONE || slot_of_index(index) == slot))
            return false;
    }
    return true;
}

/* Ours that takes them; -1 and why. */
static int taker_of(struct shard *s, struct table *t, const struct msg_move_part *m,
                    const struct lot *lot, const char **why)
{
    int slot = m->move.slot;
    if (shard_owns(s, (uint32_t)slot) && may_come(t, m->move.slot, lot, true))
        return slot;
    slot = extreme_slot(s, t, true);
    *why = slot < 0 ? "it owns no hash slot" : "it has some of them";
    return slot >= 0 && may_come(t, (uint8_t)slot, lot, false) ? slot : -1;
}

struct offer { struct table *t; struct lot lot; uint8_t from; uint64_t version; };

/* TABLE, then LEND. NULL or what is wrong; o->t NULL then: it may pass by itself. */
static const char *read_part(struct shard *s, const struct msg_move_part *m, struct offer *o,
                             char *why, uint32_t why_len)
{
    const struct effect *table = (const void *)(m + 1), *lend = effect_next(table);
    const char *wrong = effects_check(table, m->body_bytes);
    uint8_t map[TABLES_MAX];
    if (wrong)
        return wrong;
    if (m->body_bytes <= table->bytes || m->body_bytes != table->bytes + lend->bytes ||
        table->code != EFFECT_TABLE || lend->code != EFFECT_LEND || lend->table != table->table ||
        lend->children >= LETHE_SLOTS || lend->value_len > LOAN_MAX * sizeof *o->lot.index)
        return "no loan is made like that";
    int err = learn_table(s, table, map, why, why_len);
    if (err)
        return err == -EAGAIN ? NULL : why;
    o->t = s->table[map[table->table]];
    o->from = (uint8_t)lend->children;
    o->version = lend->version;
    o->lot.n = lend->value_len / (uint32_t)sizeof *o->lot.index;
    memcpy(o->lot.index, effect_value(lend), lend->value_len);
    bool fits = o->t->schema.kind == TABLE_POOL && !is_volatile(o->t) && o->lot.n && !lend->key_len;
    for (uint32_t i = 0; fits && i < o->lot.n; i++)
        fits = o->lot.index[i] < o->t->schema.max_entries;
    return fits ? NULL : "no loan is made like that";
}

static void refuse_loan(struct shard *s, const struct msg_move_part *m, const char *why)
{
    struct effect e = {.code = EFFECT_LOAN, .timeout_ms = m->move.from_shard,
                       .version = m->move.epoch, .parent_table = LOAN_REFUSED};
    snprintf(s->moves.loan_text, sizeof s->moves.loan_text, "%s", why);
    if (log_base(s, &e, NULL, NULL))
        shard_note(s, "loan refused: from=%u cause=\"%s\"", m->move.from_shard, why);
}

static void take_loan(struct shard *s, const struct msg_move_part *m)
{
    struct offer o = {0};
    char text[104];
    const char *why = read_part(s, m, &o, text, sizeof text);
    int slot = !why && o.t ? taker_of(s, o.t, m, &o.lot, &why) : -1;
    if (slot >= 0 && !pool_reserve(o.t, (uint8_t)slot, o.lot.n))
        slot = -1, why = "it is out of memory";
    if (slot < 0) {
        if (why)
            refuse_loan(s, m, why);
        return;
    }
    uint64_t own = slot_next_version(s, (uint8_t)slot), seq = own > o.version ? own : o.version;
    struct effect borrow = effect_of(EFFECT_BORROW, o.t, &o.lot, o.from);
    borrow.version = version_base_above(s, seq);
    struct effect loan = {.code = EFFECT_LOAN, .timeout_ms = m->move.from_shard,
                          .version = m->move.epoch, .parent_table = LOAN_TAKEN,
                          .children = (uint32_t)slot};
    (void)log_loan(s, (uint8_t)slot, &borrow, &o.lot, &loan, seq); /* log full: it comes again */
}

void on_loan_part(struct shard *s, struct conn *c, const struct msg_move_part *m)
{
    uint16_t from = m->move.from_shard;
    if (from >= s->config.shards || from == s->config.shard || m->part)
        return;
    const struct loan *l = &s->loans.in[from];
    if (m->move.epoch > l->number)
        take_loan(s, m);
    if (m->move.epoch != l->number)
        return;
    s->moves.loan_answers += !s->moves.loan_conn[from];
    s->moves.loan_conn[from] = c->id;
}

void loans_answer(struct shard *s)
{
    struct moves *v = &s->moves;
    for (uint32_t from = 0; v->loan_answers && from < s->config.shards; from++) {
        const struct loan *l = &s->loans.in[from];
        if (!v->loan_conn[from] || l->position > s->commit)
            continue;
        struct msg_move_ack m = {.move = {.what = MOVE_INDEXES, .slot = l->slot,
                                          .from_shard = (uint16_t)from, .epoch = l->number},
                                 .attempt = l->number,
                                 .state = l->state == LOAN_TAKEN ? MOVE_ACCEPTED : MOVE_REFUSED};
        if (l->state == LOAN_REFUSED)
            memcpy(m.text, v->loan_text, sizeof m.text);
        if (conn_find(s, v->loan_conn[from]))
            shard_send(s, v->loan_conn[from], &m, MSG_MOVE_ACK, sizeof m);
        v->loan_conn[from] = 0;
        v->loan_answers--;
    }
}
