/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The timing wheel (Varghese and Lauck, SOSP'87, scheme 7): four levels of 256
 * buckets, ticks of TIMER_TICK_MS of shard time; records are linked through
 * their meta, so arming allocates nothing. Only a primary's wheel is armed.
 *
 * A later deadline only moves the record's; the wheel finds out when the old one
 * is due, and arms it anew. What is armed is so for its deadline at the latest.
 * What is due and has no children is deleted by a log entry like any other
 * delete, with its reactions. A parent with children leaves the wheel; the entry
 * that takes its last child arms it.
 *
 * Links: a ref (table.h), or WHEEL_HEAD | bucket for the link back to a bucket;
 * 0 cannot be a ref of a next one, because refs are stored plus one.
 */
#include "internal.h"

static struct meta *meta_of(struct shard *s, rec_ref ref)
{
    ref--;
    return meta_at(s->table[ref >> 40], (uint8_t)(ref >> 32), (uint32_t)ref);
}

void wheel_reset(struct shard *s)
{
    memset(&s->wheel, 0, sizeof s->wheel);
    s->wheel.tick = s->time_ms / TIMER_TICK_MS;
    s->arming = false;
}

static void link_in(struct shard *s, rec_ref ref, struct meta *m, uint64_t due_tick)
{
    struct wheel *w = &s->wheel;
    uint64_t tick = due_tick > w->tick ? due_tick : w->tick + 1;
    uint64_t ahead = tick - w->tick, span = (uint64_t)1 << 32;
    if (ahead >= span)
        tick = w->tick + span - 1, ahead = span - 1;
    int level = 0;
    while (ahead >> 8 * (level + 1))
        level++;
    uint32_t bucket = (uint32_t)(tick >> 8 * level) & (WHEEL_BUCKETS - 1);
    rec_ref *head = &w->head[level][bucket];
    link_set(&m->next, *head);
    link_set(&m->prev, WHEEL_HEAD | (uint64_t)level << 8 | bucket);
    if (*head)
        link_set(&meta_of(s, *head)->prev, ref);
    *head = ref;
    w->armed++;
}

static void link_out(struct shard *s, struct meta *m)
{
    rec_ref next = link_get(&m->next), prev = link_get(&m->prev);
    if (prev & WHEEL_HEAD)
        s->wheel.head[prev >> 8 & 7][prev & (WHEEL_BUCKETS - 1)] = next;
    else
        link_set(&meta_of(s, prev)->next, next);
    if (next)
        link_set(&meta_of(s, next)->prev, prev);
    m->prev = (struct link){0};
    s->wheel.armed--;
}

static uint64_t due_tick(uint64_t deadline_ms)
{
    return (deadline_ms + TIMER_TICK_MS - 1) / TIMER_TICK_MS;
}

void wheel_arm(struct shard *s, struct table *t, uint8_t slot, uint32_t rec)
{
    struct meta *m = meta_at(t, slot, rec);
    const struct record *r = record_at(t, slot, rec);
    if (!is_armed(m))
        link_in(s, ref_make(t->id, slot, rec) + 1, m, due_tick(r->deadline_ms));
}

void wheel_disarm(struct shard *s, struct table *t, uint8_t slot, uint32_t rec)
{
    link_out(s, meta_at(t, slot, rec));
}

/* --- firing ------------------------------------------------------------------------ */

/* The expiry of a record: a delete under its own version, nobody's txn. */
static bool expire(struct shard *s, struct table *t, uint8_t slot, uint32_t rec)
{
    plan_begin(s, slot, s->scratch);
    s->x.expiry = true;
    struct work *w = plan_load(s, t, record_at(t, slot, rec)->payload, rec);
    bool done = w && plan_delete(s, w, 0) && plan_commit(s, NULL, 0, NULL, 0) == TXN_OK;
    plan_abandon(s);
    s->count.expired += done;
    return done;
}

/* False: it is due and could not be expired now; it fires again next tick. */
static bool fire(struct shard *s, rec_ref ref)
{
    struct table *t = s->table[(ref - 1) >> 40];
    uint8_t slot = (uint8_t)((ref - 1) >> 32);
    uint32_t rec = (uint32_t)(ref - 1);
    struct record *r = record_at(t, slot, rec);
    struct meta *m = meta_at(t, slot, rec);
    link_out(s, m);
    if (!r->deadline_ms || group_of(t, slot, rec)->children || !shard_owns(s, slot))
        return true;
    if (r->deadline_ms > s->time_ms) {
        link_in(s, ref, m, due_tick(r->deadline_ms));
        return true;
    }
    if (expire(s, t, slot, rec))
        return true;
    if (!is_armed(m))
        link_in(s, ref, m, 0);
    return false;
}

/* A bucket of a million must not stop the shard: it moves in many steps. */
static void cascade_begin(struct shard *s, int level)
{
    uint32_t bucket = (uint32_t)(s->wheel.tick >> 8 * level) & (WHEEL_BUCKETS - 1);
    rec_ref ref = s->wheel.head[level][bucket];
    s->wheel.head[level][bucket] = 0;
    s->wheel.head[WHEEL_LEVELS][level] = ref;
    if (ref)
        link_set(&meta_of(s, ref)->prev,
                 WHEEL_HEAD | (uint64_t)WHEEL_LEVELS << 8 | (uint32_t)level);
}

static bool is_cascading(const struct wheel *w)
{
    return w->head[WHEEL_LEVELS][1] || w->head[WHEEL_LEVELS][2] || w->head[WHEEL_LEVELS][3];
}

/* False: budget used up; the tick that comes next may have timers among the rest. */
static bool cascade(struct shard *s, int *budget)
{
    for (int level = 1; level < WHEEL_LEVELS; level++) {
        rec_ref *head = &s->wheel.head[WHEEL_LEVELS][level];
        while (*head) {
            rec_ref ref = *head, at = ref - 1;
            if (!(*budget)--)
                return false;
            struct meta *m = meta_of(s, ref);
            const struct record *r =
                record_at(s->table[at >> 40], (uint8_t)(at >> 32), (uint32_t)at);
            link_out(s, m);
            link_in(s, ref, m, due_tick(r->deadline_ms));
        }
    }
    return true;
}

/* --- promotion: nothing is armed yet -------------------------------------------------- */

void timers_promote(struct shard *s)
{
    wheel_reset(s);
    s->arming = true;
    s->arm_table = s->arm_slot = s->arm_rec = 0;
}

void timers_stop(struct shard *s)
{
    for (int level = 0; level <= WHEEL_LEVELS; level++)
        for (int bucket = 0; bucket < WHEEL_BUCKETS; bucket++)
            while (s->wheel.head[level][bucket])
                link_out(s, meta_of(s, s->wheel.head[level][bucket]));
    s->arming = false;
}

/* A primary that was demoted has deadlines of its own, without the slack. */
static void add_slack(struct record *r, struct meta *m)
{
    uint64_t late = replicated_ms(r, m) + touch_slack_ms(r->timeout_ms);
    if (r->deadline_ms && replicated_ms(r, m) && r->deadline_ms < late)
        deadline_move(r, m, late);
}

static void arm_one(struct shard *s, struct table *t, uint8_t slot, uint32_t rec)
{
    struct record *r = record_at(t, slot, rec);
    struct meta *m = meta_at(t, slot, rec);
    if (r->state == RECORD_FREE || is_armed(m))
        return;
    if (!(t->schema.flags & TABLE_ABSOLUTE) && !SHARD_BUG(BUG_TIMER_EARLY))
        add_slack(r, m);
    if (r->deadline_ms && !group_of(t, slot, rec)->children)
        wheel_arm(s, t, slot, rec);
}

void timers_disarm_slot(struct shard *s, uint8_t slot)
{
    for (uint32_t i = 0; i < s->tables; i++)
        for (uint32_t rec = 0; rec < s->table[i]->part[slot].high; rec++)
            if (record_at(s->table[i], slot, rec)->state != RECORD_FREE &&
                is_armed(meta_at(s->table[i], slot, rec)))
                link_out(s, meta_at(s->table[i], slot, rec));
}

static void arm_some(struct shard *s)
{
    for (int budget = 65536; budget && s->arm_table < s->tables; budget--) {
        struct table *t = s->table[s->arm_table];
        if (s->arm_rec < t->part[s->arm_slot].high) {
            arm_one(s, t, (uint8_t)s->arm_slot, s->arm_rec++);
            continue;
        }
        s->arm_rec = 0;
        if (++s->arm_slot == LETHE_SLOTS)
            s->arm_slot = 0, s->arm_table++;
    }
    s->arming = s->arm_table < s->tables;
}

/* Its deadlines are exact: whatever slack they need they have. */
void timers_arm_slot(struct shard *s, uint8_t slot)
{
    while (s->arming)
        arm_some(s);
    for (uint32_t i = 0; i < s->tables; i++)
        for (uint32_t rec = 0; rec < s->table[i]->part[slot].high; rec++) {
            const struct record *r = record_at(s->table[i], slot, rec);
            if (r->state != RECORD_FREE && r->deadline_ms &&
                !group_of(s->table[i], slot, rec)->children)
                wheel_arm(s, s->table[i], slot, rec);
        }
}

/* --- running ------------------------------------------------------------------------------ */

/* Fires what is due in the bucket of the next tick; false: budget used up. */
static bool run_tick(struct shard *s, int *budget, int *cascades)
{
    struct wheel *w = &s->wheel;
    if (!cascade(s, cascades))
        return false;
    rec_ref *head = &w->head[0][(w->tick + 1) & (WHEEL_BUCKETS - 1)];
    while (*head) {
        if (!(*budget)--)
            return false;
        if (!fire(s, *head)) {
            w->stuck = true;
            return false;
        }
    }
    w->tick++;
    for (int level = 1; level < WHEEL_LEVELS; level++) {
        if (w->tick & (((uint64_t)1 << 8 * level) - 1))
            break;
        cascade_begin(s, level);
    }
    return true;
}

/* What is stuck is tried again with every step; what may free it are frames. */
void timers_run(struct shard *s)
{
    int budget = EXPIRIES_PER_STEP, cascades = CASCADES_PER_STEP;
    uint64_t until = s->time_ms / TIMER_TICK_MS;
    if (s->role != SHARD_PRIMARY || s->collecting)
        return;
    if (s->arming)
        arm_some(s);
    if (!s->wheel.armed && s->wheel.tick < until)
        s->wheel.tick = until;
    s->wheel.stuck = false;
    while (s->wheel.tick < until && run_tick(s, &budget, &cascades))
        ;
}

static uint64_t next_tick(const struct wheel *w)
{
    uint64_t last = w->tick | (WHEEL_BUCKETS - 1);
    if (is_cascading(w))
        return w->tick + 1;
    for (uint64_t t = w->tick + 1; t <= last; t++)
        if (w->head[0][t & (WHEEL_BUCKETS - 1)])
            return t;
    return last + 1;
}

uint64_t timers_next_ms(const struct shard *s)
{
    if (s->role != SHARD_PRIMARY || s->collecting)
        return UINT64_MAX;
    if (s->arming)
        return s->now_ms;
    if (!s->wheel.armed)
        return UINT64_MAX;
    uint64_t due = next_tick(&s->wheel) * TIMER_TICK_MS - s->time_offset;
    /* Not at once: a driver that has nothing else to do would spin. */
    uint64_t again = s->now_ms + TIMER_TICK_MS;
    return s->wheel.stuck && due < again ? again : due;
}
