/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The destination's side of a move; move.c says what the steps are, and why.
 *
 * BEGIN of a newer attempt voids what came before (an INCOMING entry). Each part
 * becomes one log entry of the slot, in order, with our own table numbers and our
 * own shard time; tables that are not open here are opened first. END, when all
 * parts have come, becomes ACCEPT. Answers repeat, for frames do.
 *
 * Deadlines and rests are moved by (our shard time - the source's) as of BEGIN: an
 * entry lives as long as it would have at the source, and the way of BEGIN longer.
 *
 * BEGIN and END of a slot that the log knows under that epoch or a later one are
 * answered by what the log says: accepted (whatever became of it since), or refused.
 * A source that still asks although a later epoch exists is a deposed primary,
 * whose entries cannot commit: what it hears does not matter.
 *
 * Memory is reserved before a part is logged; what is refused is discarded by the
 * entry that says so.
 */
#include <errno.h>
#include <stdio.h>

#include "internal.h"

/* --- transfers that come in ---------------------------------------------------------- */

static struct incoming *find(struct shard *s, const struct move_id *id)
{
    for (int i = 0; i < INCOMING_MAX; i++) {
        struct incoming *in = &s->moves.in[i];
        if (in->used && in->id.slot == id->slot && in->id.epoch == id->epoch &&
            in->id.from_shard == id->from_shard)
            return in;
    }
    return NULL;
}

/* For one of an earlier epoch or attempt of the slot, or the one that has been
 * silent longest. */
static struct incoming *make(struct shard *s, uint8_t slot)
{
    struct incoming *oldest = NULL;
    for (int i = 0; i < INCOMING_MAX; i++)
        if (s->moves.in[i].used && s->moves.in[i].id.slot == slot)
            return &s->moves.in[i];
    for (int i = 0; i < INCOMING_MAX; i++) {
        struct incoming *in = &s->moves.in[i];
        if (!in->used)
            return in;
        if (!oldest || in->heard_ms < oldest->heard_ms)
            oldest = in;
    }
    return s->now_ms > oldest->heard_ms + s->config.failure_timeout_ms ? oldest : NULL;
}

static void tell(struct shard *s, uint32_t conn, const struct move_id *id, uint64_t attempt,
                 enum move_state state, uint32_t next, const char *why)
{
    struct msg_move_ack m = {.move = *id, .attempt = attempt, .state = state, .next = next};
    snprintf(m.text, sizeof m.text, "%s", why);
    shard_send(s, conn, &m, MSG_MOVE_ACK, sizeof m);
}

static void tell_taken(struct shard *s, const struct incoming *in)
{
    tell(s, in->conn, &in->id, in->attempt, MOVE_TAKEN, in->next, "");
}

/* What became of it, if the log has decided. */
static bool is_decided(const struct shard *s, const struct move_id *id, enum move_state *state)
{
    const struct slot *o = &s->slot[id->slot];
    *state = MOVE_ACCEPTED;
    if (o->owner == OWNER_REFUSED && o->epoch == id->epoch + 1 && o->other == id->from_shard)
        *state = MOVE_REFUSED;
    return o->epoch > id->epoch || (o->epoch == id->epoch && o->owner == OWNER_HERE);
}

static bool answer_decided(struct shard *s, struct conn *c, const struct move_id *id,
                           uint64_t attempt)
{
    const struct incoming *in = find(s, id);
    enum move_state state;
    if (!is_decided(s, id, &state))
        return false;
    if (s->slot[id->slot].owner_position <= s->commit)
        tell(s, c->id, id, attempt, state, 0,
             state == MOVE_ACCEPTED ? "" : in ? in->text : "refused earlier");
    return true;
}

/* --- deciding -------------------------------------------------------------------------- */

/* The base counts from the version this very entry gets, which an earlier base, of when
 * the slot was here before, may have lifted above all that came with it. */
bool slot_accept(struct shard *s, uint8_t slot, uint32_t epoch, uint16_t from)
{
    struct effect e = {.code = EFFECT_ACCEPT, .children = epoch, .timeout_ms = from,
                       .version = version_base_above(s, slot_next_version(s, slot))};
    return log_slot(s, slot, &e);
}

static void refuse(struct shard *s, struct incoming *in, const char *why)
{
    struct effect e = {.code = EFFECT_GONE, .children = in->id.epoch + 1,
                       .timeout_ms = in->id.from_shard, .version = 1};
    if (!log_slot(s, in->id.slot, &e))
        return; /* log full: the part comes again */
    snprintf(in->text, sizeof in->text, "%s", why);
    in->answer = true;
    shard_note(s, "move refused: slot=%u from=%u cause=\"%s\"", in->id.slot, in->id.from_shard, why);
}

void accepts_run(struct shard *s)
{
    loans_answer(s);
    for (int i = 0; i < INCOMING_MAX; i++) {
        struct incoming *in = &s->moves.in[i];
        enum move_state state;
        if (!in->used || !in->answer || !is_decided(s, &in->id, &state) ||
            s->slot[in->id.slot].owner_position > s->commit)
            continue;
        if (conn_find(s, in->conn))
            tell(s, in->conn, &in->id, in->attempt, state, 0, in->text);
        in->answer = false;
        in->used = state == MOVE_REFUSED; /* its text may be asked for again */
    }
}

/* --- BEGIN --------------------------------------------------------------------------------- */

void on_move_begin(struct shard *s, struct conn *c, const struct msg_move_begin *m)
{
    struct slot *o = &s->slot[m->move.slot];
    struct incoming *in = find(s, &m->move);
    if (!is_serving(s) || m->move.what != MOVE_SLOT || m->move.from_shard == s->config.shard ||
        answer_decided(s, c, &m->move, m->attempt))
        return;
    if (in && in->attempt == m->attempt) {
        in->conn = c->id;
        tell_taken(s, in);
        return;
    }
    if (shard_owns(s, m->move.slot) ||
        (o->owner == OWNER_INCOMING && o->epoch == m->move.epoch && m->attempt < o->attempt))
        return;
    struct effect e = {.code = EFFECT_INCOMING, .children = m->move.epoch,
                       .timeout_ms = m->move.from_shard, .version = m->attempt};
    if (!(in = make(s, m->move.slot)) || !log_slot(s, m->move.slot, &e))
        return; /* comes again */
    *in = (struct incoming){.used = true, .id = m->move, .attempt = m->attempt, .conn = c->id,
                            .time_offset = s->time_ms - m->shard_time_ms, .heard_ms = s->now_ms};
    memset(in->table, TABLES_MAX, sizeof in->table);
    tell_taken(s, in);
}

/* --- PART ------------------------------------------------------------------------------------ */

/* The transfer a part or an end belongs to, while it is open. */
static struct incoming *open_transfer(struct shard *s, struct conn *c, const struct move_id *id,
                                      uint64_t attempt)
{
    struct incoming *in = find(s, id);
    const struct slot *o = &s->slot[id->slot];
    if (!is_serving(s) || id->what != MOVE_SLOT || !in || in->attempt != attempt ||
        o->owner != OWNER_INCOMING || o->epoch != id->epoch || o->attempt != attempt)
        return NULL;
    in->conn = c->id;
    in->heard_ms = s->now_ms;
    return in;
}

int learn_table(struct shard *s, const struct effect *e, uint8_t *map, char *why, uint32_t why_len)
{
    const struct table_schema *schema = (const void *)effect_value(e);
    const char *wrong = "a schema cut short";
    snprintf(why, why_len, "%s", wrong);
    if (e->value_len != sizeof *schema)
        return -EINVAL;
    struct table *t = table_by_name(s, schema->name);
    if (t && schema_compare(&t->schema, schema, why, why_len))
        return -EEXIST;
    char text[200];
    int err = t ? 0 : table_open(s, schema, &wrong, text, sizeof text);
    snprintf(why, why_len, "table %.*s: %.70s", TABLE_NAME_MAX, schema->name, wrong);
    if (!err)
        map[e->table] = table_by_name(s, schema->name)->id;
    return err;
}

static int learn_tables(struct shard *s, struct incoming *in, const struct msg_move_part *m,
                        char *why, uint32_t why_len)
{
    const uint8_t *at = (const uint8_t *)(m + 1), *end = at + m->body_bytes;
    int err = 0;
    for (; at < end && !err; at += ((const struct effect *)at)->bytes)
        if (((const struct effect *)at)->code == EFFECT_TABLE)
            err = learn_table(s, (const void *)at, in->table, why, why_len);
    return err;
}

static uint64_t our_time(const struct incoming *in, uint64_t source_ms)
{
    uint64_t ms = source_ms + in->time_offset;
    if (!source_ms)
        return 0;
    /* Long due there, while here less time has passed in all: due at once. */
    return (int64_t)ms > 0 ? ms : 1;
}

/* Rewrites an effect for this shard; false: it has no business in a move. */
/* Who holds a pool's index is seen when what was borrowed has been applied. */
static bool translate(const struct shard *s, const struct incoming *in, struct effect *e)
{
    e->rec = REC_NONE;
    switch ((enum effect_code)e->code) {
    case EFFECT_SLOT: return true;
    case EFFECT_PUT:
    case EFFECT_REST:
    case EFFECT_EVENT: e->deadline_ms = our_time(in, e->deadline_ms); break;
    case EFFECT_CONSUMER:
    case EFFECT_CURSOR:
    case EFFECT_CELLS:
    case EFFECT_BORROW: break;
    case EFFECT_LEND:
        if (e->children >= LETHE_SLOTS) /* no slot leaves with a loan under way */
            return false;
        break;
    default: return false;
    }
    e->table = in->table[e->table];
    e->parent_table = e->parent_key_len ? in->table[e->parent_table] : 0;
    return e->table < TABLES_MAX && e->parent_table < TABLES_MAX &&
           effect_fits(s, in->id.slot, e);
}

/* Copies a part's effects, but for its tables, behind an entry's head. */
static bool copy_effects(const struct shard *s, const struct incoming *in,
                         const struct msg_move_part *m, struct entry *e)
{
    const uint8_t *from = (const uint8_t *)(m + 1), *end = from + m->body_bytes;
    uint8_t *at = (uint8_t *)(e + 1);
    for (uint32_t bytes; from < end; from += bytes) {
        bytes = ((const struct effect *)from)->bytes;
        if (((const struct effect *)from)->code == EFFECT_TABLE)
            continue;
        memcpy(at, from, bytes);
        if (!translate(s, in, (struct effect *)at))
            return false;
        at += bytes;
        e->effects++;
    }
    e->effects_bytes = (uint32_t)(at - (uint8_t *)(e + 1));
    e->bytes = (uint32_t)sizeof *e + e->effects_bytes;
    return true;
}

/* Memory for what the part creates, within the limits. */
static bool reserve(struct shard *s, uint8_t slot, struct entry *e)
{
    uint32_t more[TABLES_MAX] = {0}, events[TABLES_MAX] = {0};
    uint64_t cost[TABLES_MAX] = {0};
    bool groups[TABLES_MAX] = {0};
    const struct effect *f = entry_first(e);
    for (uint32_t i = 0; i < e->effects; i++, f = effect_next(f)) {
        more[f->table] += f->code == EFFECT_PUT || f->code == EFFECT_REST ||
                          f->code == EFFECT_CELLS;
        events[f->table] += f->code == EFFECT_EVENT;
        groups[f->table] |= f->code == EFFECT_PUT && (f->children || f->parent_key_len);
    }
    for (uint32_t i = 0; i < s->tables; i++)
        cost[i] = (more[i] ? part_reserve_cost(s->table[i], slot, more[i], groups[i]) : 0) +
                  (events[i] ? event_reserve_cost(s->table[i], slot, events[i]) : 0);
    if (!limits_allow(s, cost))
        return false;
    for (uint32_t i = 0; i < s->tables; i++)
        if ((more[i] && !part_reserve(s->table[i], slot, more[i], groups[i])) ||
            (events[i] && !event_reserve(s->table[i], slot, events[i])))
            return false;
    return true;
}

/* 0, -EAGAIN (it comes again), or an error: *why. */
static int take_part(struct shard *s, struct incoming *in, const struct msg_move_part *m,
                     char *why, uint32_t why_len)
{
    uint8_t slot = in->id.slot;
    int err = learn_tables(s, in, m, why, why_len);
    struct entry *e = err ? NULL : log_next(s, (uint32_t)sizeof *e + m->body_bytes);
    if (err || !e)
        return err ? err : -EAGAIN;
    *e = (struct entry){.slot = slot, .position = s->position + 1, .slot_seq = s->slot[slot].seq,
                        .time_ms = s->time_ms, .sync = 1};
    snprintf(why, why_len, "a part of it makes no sense here");
    if (!copy_effects(s, in, m, e))
        return -EBADMSG;
    snprintf(why, why_len, "a memory limit of shard %u is reached", s->config.shard);
    if (!reserve(s, slot, e))
        return -ENOMEM;
    snprintf(why, why_len, "a part of it refers to what did not come");
    if (e->effects) {
        log_push(s, e);
        err = apply_entry(s, e, APPLY_OWN | APPLY_SLOT);
        commit_update(s);
    }
    return err;
}

static bool take_end(struct shard *s, struct incoming *in)
{
    if (!slot_accept(s, in->id.slot, in->id.epoch, in->id.from_shard))
        return false;
    s->slots_taken++;
    in->answer = true;
    return true;
}

void on_move_part(struct shard *s, struct conn *c, const struct msg_move_part *m)
{
    if (is_serving(s) && m->move.what == MOVE_INDEXES) {
        on_loan_part(s, c, m);
        return;
    }
    struct incoming *in = open_transfer(s, c, &m->move, m->attempt);
    char why[104];
    if (!in || m->part > in->next)
        return;
    if (m->part == in->next) {
        const char *wrong = effects_check(m + 1, m->body_bytes);
        snprintf(why, sizeof why, "%s", wrong ? wrong : "");
        int err = wrong ? -EBADMSG : take_part(s, in, m, why, sizeof why);
        if (err == -EAGAIN)
            return;
        if (err) {
            refuse(s, in, why);
            return;
        }
        in->next++;
        if (SHARD_BUG(BUG_FLIP_BEFORE_TAIL) && take_end(s, in))
            return;
    }
    tell_taken(s, in);
}

/* --- END -------------------------------------------------------------------------------------- */

void on_move_end(struct shard *s, struct conn *c, const struct msg_move_end *m)
{
    if (!is_serving(s) || m->move.what != MOVE_SLOT || answer_decided(s, c, &m->move, m->attempt))
        return;
    struct incoming *in = open_transfer(s, c, &m->move, m->attempt);
    if (!in)
        return;
    if (in->next != m->parts)
        tell_taken(s, in);
    else
        take_end(s, in); /* log full: it comes again */
}
