/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who owns a hash slot, and the source's side of a move. accept.c is the
 * destination's.
 *
 * Ownership is replicated state of each shard (DESIGN 4), per slot: struct slot's
 * owner, epoch, other. A slot epoch counts changes of owner; the first owner is
 * the static map's, under epoch 0. One move of a slot, owned by S under k, to D:
 *
 *   S (source)                              D (destination)
 *   RELEASE(k+1, D) logged: frozen
 *     ... committed: BEGIN ───────────────▶ INCOMING(k+1, S, attempt) logged
 *         PART 0.. (a window of them) ────▶ one log entry each
 *         END, when all are acknowledged ─▶ ACCEPT(k+1) logged
 *   GONE(k+1, D): content discarded ◀────── ... committed: ACCEPTED
 *
 * RELEASE is written only when a connection to D is there, one slot at a time; what
 * is ordered and not yet released is the primary's memory alone. A new primary of S
 * finds slots SENDING in its state and begins again with a greater attempt; one of
 * D keeps nothing of the transfer but the attempt's number and asks for all again.
 * After RELEASE the content does not change (no txn, no timer), so every attempt
 * sends the same.
 *
 * Refused (another schema, no memory): S may take the slot back, as ACCEPT(k+2) by
 * itself, only if D can never accept k+1 any more. D's promise must outlive D's
 * primary, so D logs it (GONE(k+2, S), marked refused) and tells it when that is
 * committed. From then on D knows of epoch k+2, and takes nothing below it.
 *
 * A txn is bound to (shard, slot epoch) when it is first sent, and runs only where
 * the slot is HERE under that very epoch. TXN_MOVED must never be told of a txn
 * that ran, or might run here later. It is not, because
 *   - kept results are looked at first, and they stay at the shard where the txn
 *     ran, replicated, until acknowledged: GONE and INCOMING discard entries, never
 *     results. So one that ran and whose client still asks finds its result; one
 *     that ran without effect (a failed guard) may lose it with its primary, but
 *     then nothing was done and nothing will be;
 *   - MOVED is told only of an epoch below the one known here, or one that is known
 *     to be another shard's, and waits until the entry that says so is committed:
 *     no later primary of this shard knows less;
 *   - epochs only grow: RELEASE names k+1, taking back k+2, a slot that comes back
 *     comes under an epoch above all that were here. What is bound to a lower one
 *     can never be equal again;
 *   - epoch 0 is the static owner's alone, so that a shard that never had the slot
 *     may say so at once.
 * An epoch above the one known here is answered TXN_BUSY: the slot may be about to
 * come. Two shards never own a slot: ACCEPT(k+1) comes of a committed RELEASE(k+1),
 * which every later primary of S has, and taking back of a committed refusal.
 *
 * Not covered: a shard whose loss an operator accepted starts by the static map, and
 * forgets what it had released.
 *
 * Versions continue: the slot's sequence travels (RELEASE lifts it above all that was
 * told), and version_base keeps them growing where views have lower epochs.
 *
 * Owner: the shard's thread, primary; nothing here can fail but for a full log or
 * memory, then it is tried again.
 */
#include <stdlib.h>

#include "internal.h"

/* --- the state --------------------------------------------------------------------- */

uint16_t static_owner(const struct shard *s, uint8_t slot)
{
    return (uint16_t)(slot * s->config.shards / LETHE_SLOTS);
}

void owners_reset(struct shard *s)
{
    for (int i = 0; i < LETHE_SLOTS; i++) {
        s->slot[i].other = static_owner(s, (uint8_t)i);
        if (s->slot[i].other == s->config.shard)
            s->slot[i].owner = OWNER_HERE;
    }
    s->sending = 0;
}

uint64_t owner_digest(const struct shard *s, uint8_t slot)
{
    const struct slot *o = &s->slot[slot];
    uint64_t h = mix64((uint64_t)o->epoch << 32 | (uint64_t)o->other << 16 | o->owner << 8 | slot);
    return o->epoch || o->version_base ? mix64(mix64(h ^ o->version_base) ^ o->attempt) : 0;
}

static void owner_set(struct shard *s, uint8_t slot, enum owner_state owner, const struct effect *e)
{
    struct slot *o = &s->slot[slot];
    s->digest -= owner_digest(s, slot);
    s->sending += (owner == OWNER_SENDING) - (o->owner == OWNER_SENDING);
    o->owner = (uint8_t)owner;
    o->other = (uint16_t)e->timeout_ms;
    o->epoch = e->children;
    o->attempt = owner == OWNER_INCOMING ? e->version : 0;
    s->digest += owner_digest(s, slot);
}

static void set_base(struct shard *s, uint8_t slot, uint64_t base, uint64_t attempt)
{
    s->digest -= owner_digest(s, slot);
    s->slot[slot].version_base = (uint32_t)base;
    s->slot[slot].attempt = attempt;
    s->digest += owner_digest(s, slot);
}

void slot_lift_base(struct shard *s, uint8_t slot, uint64_t base)
{
    if (base > s->slot[slot].version_base)
        set_base(s, slot, base, s->slot[slot].attempt);
}

uint64_t version_base_above(const struct shard *s, uint64_t version)
{
    uint64_t high = (version >> VERSION_EPOCH_SHIFT) + 2;
    return high > s->view.epoch ? high - s->view.epoch : 0;
}

void slot_clear(struct shard *s, uint8_t slot)
{
    if (s->role == SHARD_PRIMARY)
        timers_disarm_slot(s, slot);
    s->digest -= slot_entries_digest(s, slot);
    for (uint32_t i = 0; i < s->tables; i++) {
        if (s->table[i]->schema.kind == TABLE_POOL && s->table[i]->part[slot].pool)
            s->lent -= s->table[i]->part[slot].pool->lent;
        part_clear(s->table[i], slot);
    }
}

void apply_owner(struct shard *s, uint8_t slot, const struct effect *e)
{
    struct slot *o = &s->slot[slot];
    bool released = o->owner == OWNER_SENDING;
    switch ((enum effect_code)e->code) {
    case EFFECT_RELEASE:
        if (!SHARD_BUG(BUG_READERS_KEEP_SLOT))
            slot_forbid(s, slot);
        owner_set(s, slot, OWNER_SENDING, e);
        break;
    case EFFECT_ACCEPT:
        owner_set(s, slot, OWNER_HERE, e);
        set_base(s, slot, e->version, 0);
        if (is_serving(s))
            timers_arm_slot(s, slot);
        s->consumers.dirty = true; /* events that came along are to be told here now */
        break;
    case EFFECT_INCOMING:
        slot_clear(s, slot);
        owner_set(s, slot, OWNER_INCOMING, e);
        break;
    case EFFECT_GONE:
        slot_clear(s, slot);
        owner_set(s, slot, e->version ? OWNER_REFUSED : OWNER_GONE, e);
        break;
    default: /* EFFECT_OWNER */
        owner_set(s, slot, e->parent_table, e);
        set_base(s, slot, e->version, e->deadline_ms);
        break;
    }
    if (e->code != EFFECT_GONE || !released) /* RELEASE has said as much */
        o->owner_position = o->last_position;
}

/* --- who asks here for a slot that is not here --------------------------------------- */

enum txn_status slot_elsewhere(const struct shard *s, const struct txn_head *t,
                               struct txn_moved *to, uint64_t *position)
{
    const struct slot *o = &s->slot[t->slot];
    *to = (struct txn_moved){.slot = t->slot, .shard = o->other, .slot_epoch = o->epoch};
    *position = o->owner_position;
    switch ((enum owner_state)o->owner) {
    case OWNER_HERE:
        to->shard = s->config.shard;
        return t->slot_epoch < o->epoch ? TXN_MOVED : TXN_BUSY;
    case OWNER_SENDING:
    case OWNER_GONE:
    case OWNER_REFUSED: return t->slot_epoch <= o->epoch ? TXN_MOVED : TXN_BUSY;
    case OWNER_NONE: return t->slot_epoch == 0 ? TXN_MOVED : TXN_BUSY;
    case OWNER_INCOMING: break;
    }
    return TXN_BUSY;
}

/* A hint for clients, yet nothing in it may be taken back by a fail-over. */
void on_map_get(struct shard *s, uint32_t conn)
{
    struct msg_map m = {0};
    for (int i = 0; i < LETHE_SLOTS; i++) {
        const struct slot *o = &s->slot[i];
        if (s->role != SHARD_PRIMARY || s->collecting || o->owner == OWNER_NONE ||
            o->owner == OWNER_INCOMING ||
            (o->owner_position > s->commit && !SHARD_BUG(BUG_MAP_UNCOMMITTED)))
            continue;
        m.slots[i] = (struct map_slot){.shard = shard_owns(s, i) ? s->config.shard : o->other,
                                       .known = 1, .epoch = o->epoch};
    }
    shard_send(s, conn, &m, MSG_MAP, sizeof m);
}

/* --- what is to be sent --------------------------------------------------------------- */

/* The slot that is being released; -1: none. */
static int sending_slot(const struct shard *s)
{
    for (int i = 0; s->sending && i < LETHE_SLOTS; i++)
        if (s->slot[i].owner == OWNER_SENDING)
            return i;
    return -1;
}

static int queued_slot(const struct shard *s)
{
    for (int i = 0; s->moves.nqueued && i < LETHE_SLOTS; i++)
        if (s->moves.queued[i])
            return i;
    return -1;
}

int shard_wants_mover(const struct shard *s)
{
    int slot;
    if (!is_serving(s))
        return -1;
    if ((slot = sending_slot(s)) >= 0)
        return s->slot[slot].other;
    if (s->loans.open)
        return (int)s->loans.open - 1;
    slot = queued_slot(s);
    return slot >= 0 ? s->moves.queued_to[slot] : lend_wanted(s);
}

static void stop_sending(struct shard *s)
{
    struct moves *v = &s->moves;
    free(v->body);
    free(v->parts);
    v->body = NULL;
    v->parts = NULL;
    v->attempt = 0;
    v->body_room = v->nparts = v->parts_room = v->acked = 0;
}

void shard_move_through(struct shard *s, uint32_t conn)
{
    int to = shard_wants_mover(s);
    stop_sending(s);
    s->moves.loan_told_ms = 0;
    s->moves.conn = to >= 0 ? conn : 0;
    s->moves.conn_to = (uint16_t)to;
}

void moves_conn_closed(struct shard *s, uint32_t conn)
{
    if (s->moves.conn != conn)
        return;
    stop_sending(s);
    s->moves.conn = 0;
}

void moves_reset(struct shard *s)
{
    stop_sending(s);
    memset(&s->moves, 0, sizeof s->moves);
}

static void order_move(struct shard *s, const struct shard_order *o)
{
    struct moves *v = &s->moves;
    uint32_t queued = 0;
    for (int slot = o->first; slot <= o->last; slot++) {
        if (!shard_owns(s, slot))
            continue;
        v->nqueued += !v->queued[slot];
        v->queued[slot] = true;
        v->queued_to[slot] = o->to;
        queued++;
    }
    if (!queued)
        order_refuse(s, "shard %u owns none of the hash slots %u to %u; ask for the map",
                     s->config.shard, o->first, o->last);
    else
        shard_note(s, "move ordered: slots=%u first=%u last=%u to=%u", queued, o->first,
                   o->last, o->to);
}

void on_order(struct shard *s, const struct shard_order *o)
{
    if (s->role != SHARD_PRIMARY)
        order_refuse(s, "this is not the primary of shard %u; ask that one", s->config.shard);
    else if (s->collecting)
        order_refuse(s, "shard %u is taking over; ask again", s->config.shard);
    else if (o->to >= s->config.shards || o->to == s->config.shard)
        order_refuse(s, "shard %u is %s", o->to,
                     o->to == s->config.shard ? "this one" : "none of this store's");
    else if (o->kind == SHARD_ORDER_LEND)
        order_lend(s, o);
    else
        order_move(s, o);
}

/* Only with the destination at hand, so that nothing is frozen for one that is down. */
static void release_next(struct shard *s)
{
    struct moves *v = &s->moves;
    int slot = queued_slot(s);
    if (slot < 0 || !v->conn || v->queued_to[slot] != v->conn_to)
        return;
    struct effect e = {.code = EFFECT_RELEASE, .children = s->slot[slot].epoch + 1,
                       .timeout_ms = v->queued_to[slot]};
    if (shard_owns(s, slot) && !log_slot(s, (uint8_t)slot, &e))
        return; /* log full: the next step tries again */
    v->queued[slot] = false;
    v->nqueued--;
}

/* --- encoding ---------------------------------------------------------------------------- */

static bool add_part(struct moves *v, uint32_t from, uint32_t to)
{
    if (v->nparts == v->parts_room) {
        uint32_t room = v->parts_room ? 2 * v->parts_room : 64;
        struct move_part *parts = realloc(v->parts, room * sizeof *parts);
        if (!parts)
            return false;
        v->parts = parts;
        v->parts_room = room;
    }
    v->parts[v->nparts++] = (struct move_part){.offset = from, .bytes = to - from};
    return true;
}

/* Parts of whole effects. */
static bool cut(struct moves *v, uint32_t used)
{
    uint32_t begin = 0;
    for (uint32_t at = 0; at < used;) {
        uint32_t next = at + ((const struct effect *)(v->body + at))->bytes;
        if (next - begin > MOVE_BODY_BYTES && at > begin) {
            if (!add_part(v, begin, at))
                return false;
            begin = at;
        }
        at = next;
    }
    return add_part(v, begin, used);
}

static bool begin_attempt(struct shard *s, uint8_t slot)
{
    struct moves *v = &s->moves;
    struct bytes b = {.moves = true};
    stop_sending(s);
    bool ok = snapshot_tables(s, &b) && snapshot_slot(s, slot, &b);
    v->body = b.data;
    v->body_room = b.room;
    if (!ok || !cut(v, b.used)) {
        stop_sending(s);
        return false;
    }
    v->attempt = s->view.epoch << 32 | ++v->attempts;
    if (SHARD_BUG(BUG_ATTEMPT_WITHOUT_EPOCH))
        v->attempt = v->attempts;
    v->slot = slot;
    v->begun = false;
    v->told_ms = 0;
    v->progress_ms = s->now_ms;
    return true;
}

/* --- sending ------------------------------------------------------------------------------- */

void send_to_destination(struct shard *s, void *frame, enum msg_type type, uint32_t bytes)
{
    uint32_t padded = (bytes + 7) & ~7u;
    memset((uint8_t *)frame + bytes, 0, padded - bytes);
    msg_head_set(frame, type, padded, s->moves.conn_to, s->view.epoch);
    s->out->send(s->out->ctx, s->moves.conn, frame, padded);
}

static struct move_id id_of(const struct shard *s, uint8_t slot)
{
    return (struct move_id){.what = MOVE_SLOT, .slot = slot, .from_shard = s->config.shard,
                            .epoch = s->slot[slot].epoch};
}

bool is_due(const struct shard *s, uint64_t told_ms)
{
    return !told_ms || s->now_ms >= told_ms - 1 + resend_ms(s);
}

static void send_begin(struct shard *s)
{
    struct moves *v = &s->moves;
    struct msg_move_begin m = {.move = id_of(s, v->slot), .attempt = v->attempt,
                               .shard_time_ms = s->time_ms};
    if (!is_due(s, v->told_ms))
        return;
    v->told_ms = s->now_ms + 1;
    send_to_destination(s, &m, MSG_MOVE_BEGIN, sizeof m);
}

static void send_part(struct shard *s, uint32_t number)
{
    struct moves *v = &s->moves;
    struct move_part *part = &v->parts[number];
    struct msg_move_part *m = (struct msg_move_part *)s->scratch;
    if (!is_due(s, part->sent_ms))
        return;
    *m = (struct msg_move_part){.move = id_of(s, v->slot), .attempt = v->attempt, .part = number,
                                .body_bytes = part->bytes};
    memcpy(m + 1, v->body + part->offset, part->bytes);
    m->crc = crc32c(0, m + 1, part->bytes);
    part->sent_ms = s->now_ms + 1;
    send_to_destination(s, m, MSG_MOVE_PART, (uint32_t)sizeof *m + part->bytes);
}

static void send_end(struct shard *s)
{
    struct moves *v = &s->moves;
    struct msg_move_end m = {.move = id_of(s, v->slot), .attempt = v->attempt,
                             .parts = v->nparts};
    if (!is_due(s, v->told_ms))
        return;
    v->told_ms = s->now_ms + 1;
    send_to_destination(s, &m, MSG_MOVE_END, sizeof m);
}

static void send_some(struct shard *s)
{
    struct moves *v = &s->moves;
    if (!v->begun) {
        send_begin(s);
        return;
    }
    for (uint32_t i = v->acked; i < v->nparts && i < v->acked + MOVE_WINDOW; i++)
        send_part(s, i);
    if (v->acked == v->nparts || SHARD_BUG(BUG_FLIP_BEFORE_TAIL))
        send_end(s);
}

static bool is_released(const struct shard *s, int slot)
{
    return s->slot[slot].owner_position <= s->commit || SHARD_BUG(BUG_DOUBLE_OWNER);
}

void moves_run(struct shard *s)
{
    struct moves *v = &s->moves;
    if (s->role != SHARD_PRIMARY && v->live)
        moves_reset(s); /* others may lead now, and go on */
    if (!is_serving(s))
        return;
    v->live = true;
    accepts_run(s);
    int slot = sending_slot(s);
    if (slot < 0) {
        stop_sending(s);
        if (!s->loans.open)
            release_next(s);
        if ((slot = sending_slot(s)) < 0)
            lend_next(s);
        loan_send(s);
    }
    if (slot < 0 || !is_released(s, slot) || !v->conn || v->conn_to != s->slot[slot].other)
        return;
    /* A destination that forgot this attempt (it may know another primary now) is
     * silent about it. */
    if (v->attempt && (v->slot != slot ||
                       s->now_ms > v->progress_ms + 4ull * s->config.failure_timeout_ms))
        stop_sending(s);
    /* While a promotion still arms timers, not all deadlines have their slack. */
    if (!v->attempt && (s->arming || !begin_attempt(s, (uint8_t)slot)))
        return;
    send_some(s);
}

uint64_t moves_next_ms(const struct shard *s)
{
    const struct moves *v = &s->moves;
    bool busy = v->attempt || (v->conn && (v->nqueued || s->sending || v->nlends || s->loans.open));
    return is_serving(s) && busy ? s->now_ms + resend_ms(s) : UINT64_MAX;
}

/* --- what the destination says ---------------------------------------------------------------- */

static void on_taken(struct shard *s, const struct msg_move_ack *m)
{
    struct moves *v = &s->moves;
    if (m->attempt != v->attempt || m->next > v->nparts)
        return;
    if (!v->begun || m->next > v->acked)
        v->progress_ms = s->now_ms;
    if (m->next > v->acked)
        v->acked = m->next;
    if (!v->begun || v->acked == v->nparts)
        v->told_ms = 0;
    v->begun = true;
}

static void on_accepted(struct shard *s, uint8_t slot)
{
    struct effect gone = {.code = EFFECT_GONE, .children = s->slot[slot].epoch,
                          .timeout_ms = s->slot[slot].other};
    if (!log_slot(s, slot, &gone))
        return; /* log full: END is sent, and answered, again */
    s->slots_sent++;
    stop_sending(s);
}

static void on_refused(struct shard *s, uint8_t slot, const char *why)
{
    if (!slot_accept(s, slot, s->slot[slot].epoch + 1, s->config.shard))
        return;
    stop_sending(s);
    shard_note(s, "move given up: slot=%u to=%u cause=\"%s\"", slot, s->moves.conn_to, why);
}

static void on_move_ack(struct shard *s, const struct msg_move_ack *m)
{
    const struct slot *o = &s->slot[m->move.slot];
    if (is_serving(s) && m->move.what == MOVE_INDEXES && m->move.from_shard == s->config.shard)
        on_loan_ack(s, m);
    if (!is_serving(s) || m->move.what != MOVE_SLOT || m->move.from_shard != s->config.shard ||
        o->owner != OWNER_SENDING || o->epoch != m->move.epoch || o->other != s->moves.conn_to)
        return;
    switch ((enum move_state)m->state) {
    case MOVE_TAKEN: on_taken(s, m); break;
    case MOVE_ACCEPTED: on_accepted(s, m->move.slot); break;
    case MOVE_REFUSED: on_refused(s, m->move.slot, m->text); break;
    }
}

bool from_destination(struct shard *s, uint32_t conn, const struct msg_head *h)
{
    if (!conn || conn != s->moves.conn)
        return false;
    if (h->type == MSG_MOVE_ACK && h->shard == s->moves.conn_to)
        on_move_ack(s, (const void *)h);
    return true;
}
