/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is seen of the programs, made into what the core decides by (orch_observed), and events for
 * what changed: who serves, how many copies a shard has, its view. Figures older than STALE_MS are as
 * if they were not there.
 */
#include <stdio.h>
#include <string.h>

#include "orchestrator/controller/engine_impl.h"

enum { BUSY_MOST = 1000 }; /* permille */

/* --- reading answers ------------------------------------------------------------------------------ */

int64_t gather_number(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

const char *gather_text(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "";
}

static const json_t *fresh(struct engine *e, const struct reading *r)
{
    return r->now && uv_now(&e->loop) - r->now_ms <= STALE_MS ? r->now : NULL;
}

/* Whoever got the address meanwhile may have the same name in another site. A site that has no etcd has no name, nor
 * does a store tell one that is older than those. */
const char *gather_other_site(struct engine *e, const char *name)
{
    const struct observed_program *p = observer_get(e->observer, name);
    const char *site = gather_text(json_object_get(p ? fresh(e, &p->stats) : NULL, "views"), "site");
    return *site && *e->kept.site && strcmp(site, e->kept.site) ? site : NULL;
}

const json_t *gather_stats(struct engine *e, const char *name)
{
    const struct observed_program *p = observer_get(e->observer, name);
    return p && !gather_other_site(e, name) ? fresh(e, &p->stats) : NULL;
}

const json_t *gather_more(struct engine *e, const char *name)
{
    const struct observed_program *p = observer_get(e->observer, name);
    return p ? fresh(e, &p->more) : NULL;
}

const struct reading *gather_table(struct engine *e, uint32_t front)
{
    const char *name = front < site_fronts(e->desired->site) ? site_front(e->desired->site, front).name : "";
    const struct tracked *t = engine_find(e, name);
    const struct observed_program *p = t && t->seen.alive ? observer_get(e->observer, name) : NULL;
    return p && p->more.now ? &p->more : NULL;
}

const json_t *gather_row(const struct reading *table, const char *name)
{
    const json_t *rows = table ? json_object_get(table->now, "workers") : NULL;
    for (size_t i = 0; i < json_array_size(rows); i++)
        if (!strcmp(gather_text(json_array_get(rows, i), "name"), name))
            return json_array_get(rows, i);
    return NULL;
}

const json_t *gather_shard(const json_t *stats, uint32_t shard)
{
    const json_t *rows = json_object_get(stats, "shards");
    for (size_t i = 0; i < json_array_size(rows); i++)
        if (gather_number(json_array_get(rows, i), "shard") == shard)
            return json_array_get(rows, i);
    return NULL;
}

int64_t gather_figure(const json_t *o, const char *key)
{
    int64_t n = gather_number(o, key);
    return n > 0 ? n : 0;
}

int64_t gather_sum(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

int64_t gather_rate(int64_t before, int64_t now, uint64_t ms)
{
    int64_t n;
    if (now <= before || !ms)
        return 0;
    return __builtin_mul_overflow(now - before, 1000, &n) ? INT64_MAX : n / (int64_t)ms;
}

/* Sum of lethe_worker_drops_total{reason="..."}; those that are not 0 by reason. */
int64_t gather_drops(const json_t *stats, json_t *by_reason)
{
    static const char prefix[] = "lethe_worker_drops_total{reason=\"";
    int64_t all = 0;
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)stats, key, v) {
        char reason[96];
        if (strncmp(key, prefix, sizeof prefix - 1) || json_integer_value(v) <= 0)
            continue;
        all = gather_sum(all, json_integer_value(v));
        snprintf(reason, sizeof reason, "%s", key + sizeof prefix - 1);
        reason[strcspn(reason, "\"")] = 0;
        if (by_reason)
            json_object_set_new(by_reason, reason, json_integer(json_integer_value(v)));
    }
    return all;
}

/* --- workers ----------------------------------------------------------------------------------------- */

/* Its front end is the one whose table has it; while none has, that of its group. */
static const json_t *find_row(struct engine *e, struct tracked *t, uint64_t *asked_ms)
{
    const struct orch_group *g = engine_group(e, t);
    t->seen.front = g ? (uint8_t)g->front : ORCH_FRONT_NONE;
    for (uint32_t i = 0; i < site_fronts(e->desired->site); i++) {
        const struct reading *table = e->observed.tables_known >> i & 1 ? gather_table(e, i) : NULL;
        const json_t *row = gather_row(table, t->seen.name);
        if (row) {
            t->seen.front = (uint8_t)i;
            *asked_ms = table->now_ms;
            return row;
        }
    }
    return NULL;
}

static void see_worker(struct engine *e, struct tracked *t)
{
    uint64_t asked_ms = 0;
    const json_t *row = find_row(e, t, &asked_ms);
    const char *says = gather_text(gather_more(e, t->seen.name), "state");
    /* Steering's row may still be of an earlier process of that name: so this one has to be asked, too. */
    t->seen.ready = !t->dying && row && (int64_t)(asked_ms - t->seen.started_ms) >= 0 &&
                    json_is_true(json_object_get(row, "in_table")) && json_is_true(json_object_get(row, "link")) &&
                    !strcmp(gather_text(row, "state"), "healthy") && !strcmp(says, "serving") &&
                    json_is_true(json_object_get(gather_more(e, t->seen.name), "links_up"));
    if (!strcmp(says, "leaving") || !strcmp(says, "finishing") || !strcmp(says, "done")) {
        t->seen.leaving = true;
        if (!t->seen.told_ms) /* an earlier controller's order, or somebody's signal */
            t->seen.told_ms = t->seen.again_ms = engine_now(e);
    }
}

/* Now and then, what a worker that leaves has still to do. */
static void tell_left(struct engine *e, struct tracked *t)
{
    const json_t *stats = gather_stats(e, t->seen.name);
    const char *says = gather_text(gather_more(e, t->seen.name), "state");
    char left[120];
    uint64_t now_ms = engine_now(e);
    if (now_ms - t->left_said_ms < LEFT_EVERY_MS)
        return;
    if (stats)
        snprintf(left, sizeof left, "%s, %ld packets held", *says ? says : "leaving",
                 gather_number(stats, "lethe_worker_in_flight"));
    else
        snprintf(left, sizeof left, "not known: it does not answer");
    t->left_said_ms = now_ms;
    if (!strcmp(left, t->left))
        return;
    snprintf(t->left, sizeof t->left, "%s", left);
    events_add(e->events, EVENT_DRAIN, t->seen.name, t->leave_event, NULL, "left to do: %s", left);
}

void gather_load(struct engine *e, const struct orch_group *g, struct orch_load *out)
{
    int64_t busy = 0, drops = 0;
    *out = (struct orch_load){0};
    for (uint32_t i = 0; i < e->n; i++) {
        struct tracked *t = &e->at[i];
        if (!t->seen.alive || engine_group(e, t) != g || !t->seen.ready)
            continue;
        const struct observed_program *p = observer_get(e->observer, t->seen.name);
        const json_t *stats = gather_stats(e, t->seen.name);
        out->ready++;
        if (!stats || !p->stats.before || p->stats.now_ms <= p->stats.before_ms)
            continue;
        out->known++;
        int64_t one = gather_figure(stats, "lethe_worker_busy_permille"), queue = gather_figure(stats, "lethe_worker_in_flight");
        busy += one < BUSY_MOST ? one : BUSY_MOST;
        out->queue_most = queue > out->queue_most ? (uint32_t)(queue < UINT32_MAX ? queue : UINT32_MAX) : out->queue_most;
        drops = gather_sum(drops, gather_rate(gather_drops(p->stats.before, NULL), gather_drops(stats, NULL),
                                              p->stats.now_ms - p->stats.before_ms));
    }
    out->drops_pps = (uint32_t)(drops < UINT32_MAX ? drops : UINT32_MAX);
    out->busy_permille = out->known ? (uint32_t)(busy / (int64_t)out->known) : 0;
}

/* --- stores ------------------------------------------------------------------------------------------- */

static void see_site(struct engine *e, struct tracked *t)
{
    const char *site = gather_other_site(e, t->seen.name);
    bool plain = site && strlen(site) < sizeof e->kept.site && strspn(site, "0123456789abcdef") == strlen(site);
    if (site && !t->other_site)
        events_add(e->events, EVENT_UNREADY, t->seen.name, t->start_event,
                   json_pack("{s:s, s:s}", "site", e->kept.site, "its_site", plain ? site : "?"), "what answers there is a store of another site: nothing that it says counts");
    t->other_site = site;
}

static void see_store(struct engine *e, struct tracked *t)
{
    see_site(e, t);
    const json_t *stats = t->dying ? NULL : gather_stats(e, t->seen.name), *rows = json_object_get(stats, "shards");
    bool serves = json_array_size(rows) > 0;
    t->seen.leads = t->seen.only_copy = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        int64_t shard = gather_number(row, "shard");
        const char *role = gather_text(row, "role");
        serves &= strcmp(role, "waiting") && strcmp(role, "lost");
        if (strcmp(role, "primary") || shard < 0 || shard >= ORCH_SHARDS)
            continue;
        t->seen.leads |= (uint16_t)(1u << shard);
        if (gather_number(row, "copies") <= 1)
            t->seen.only_copy |= (uint16_t)(1u << shard);
    }
    t->seen.ready = serves;
}

/* A store whose copies count: it lives, and nobody told it to end. */
static bool stands(const struct tracked *t)
{
    return t->seen.kind == ORCH_STORE && t->seen.alive && !t->dying && !t->seen.told_ms;
}

/* The row of whoever leads the shard by the newest view; NULL: not known. */
static const json_t *leading_row(struct engine *e, uint32_t shard, struct tracked **leader, bool *lost)
{
    const json_t *best = NULL;
    int64_t epoch = -1;
    *lost = false;
    for (uint32_t i = 0; i < e->n; i++) {
        if (!stands(&e->at[i]))
            continue;
        const json_t *row = gather_shard(gather_stats(e, e->at[i].seen.name), shard);
        const char *role = gather_text(row, "role");
        *lost |= !strcmp(role, "lost");
        if (!strcmp(role, "primary") && gather_number(row, "view_epoch") > epoch) {
            best = row;
            *leader = &e->at[i];
            epoch = gather_number(row, "view_epoch");
        }
    }
    return best;
}

/* What the primary says may be older than a backup's death: those are counted that say so themselves. */
static int64_t sure_copies(struct engine *e, uint32_t shard, const json_t *leads)
{
    int64_t copies = gather_number(leads, "copies"), living = 1;
    for (uint32_t i = 0; i < e->n; i++) {
        const json_t *row = stands(&e->at[i]) ? gather_shard(gather_stats(e, e->at[i].seen.name), shard) : NULL;
        living += !strcmp(gather_text(row, "role"), "backup") &&
                  gather_number(row, "view_epoch") == gather_number(leads, "view_epoch");
    }
    return living < copies ? living : copies;
}

static void tell_copies(struct engine *e, uint32_t shard, int copies, int64_t have)
{
    struct shard_seen *s = &e->shards[shard];
    char subject[24];
    if ((int)s->copies == copies || copies == COPIES_UNKNOWN)
        return;
    bool first = s->copies == COPIES_UNKNOWN && copies == COPIES_WHOLE;
    s->copies = copies;
    if (first)
        return;
    snprintf(subject, sizeof subject, "shard %u", shard);
    s->copies_event = events_add(
        e->events, EVENT_COPIES, subject, copies == COPIES_WHOLE ? s->copies_event : s->view_event,
        json_pack("{s:I, s:i}", "copies", (json_int_t)have, "wanted", (int)e->desired->site->store.copies),
        copies == COPIES_LOST  ? "no caught-up member is left: it refuses until the loss is accepted "
                                 "(docs/store.md, LOST)"
        : copies == COPIES_ONE ? "on fewer copies than wanted; one more death may be one too many"
                               : "all copies are there again");
}

/* Hash slots come and go, by an operator's order to the store. */
static void tell_slots(struct engine *e, uint32_t shard, const json_t *row)
{
    struct shard_seen *s = &e->shards[shard];
    int64_t owned = gather_figure(row, "slots_owned"), was = s->slots - 1;
    char subject[24];
    snprintf(subject, sizeof subject, "shard %u", shard);
    if (s->slots && owned != was)
        events_add(e->events, EVENT_MOVE, subject, 0, json_pack("{s:I, s:I}", "slots", (json_int_t)owned, "before",
                                                               (json_int_t)was),
                   "it owns %ld hash slots, and owned %ld: an order to the store, `move` or `rebalance`", owned, was);
    s->slots = gather_sum(owned, 1);
}

static void see_copies(struct engine *e)
{
    uint32_t nodes = 0;
    for (unsigned i = 0; i < e->desired->site->store.nodes_count; i++)
        nodes += !desired_is_stopped(e->desired, e->desired->site->store.nodes[i].name);
    uint32_t wanted = e->desired->site->store.copies < nodes ? e->desired->site->store.copies : nodes;
    e->observed.copies_known = e->observed.copies_whole = true;
    for (uint32_t s = 0; s < e->desired->site->store.shards && e->desired->site->store.nodes_count; s++) {
        bool lost;
        struct tracked *leader = NULL;
        const json_t *row = leading_row(e, s, &leader, &lost);
        int64_t copies = gather_number(row, "copies"), sure = row ? sure_copies(e, s, row) : 0;
        e->observed.copies_known &= row != NULL;
        e->observed.copies_whole &= sure >= wanted;
        e->shards[s].have = row ? copies : -1;
        if (row && sure <= 1)
            leader->seen.only_copy |= (uint16_t)(1u << s);
        if (row && !*gather_text(row, "collecting"))
            tell_slots(e, s, row);
        tell_copies(e, s, !row ? (lost ? COPIES_LOST : COPIES_UNKNOWN) : copies >= wanted ? COPIES_WHOLE : COPIES_ONE,
                    copies);
    }
}

/* --- views in etcd -------------------------------------------------------------------------------------- */

static bool is_member(char members[3][ORCH_NAME], uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++)
        if (!strcmp(members[i], name))
            return true;
    return false;
}

/* The event that explains a member's absence: its end, or an order to it. */
static uint64_t reason_of(struct engine *e, const char *name)
{
    const struct tracked *t = engine_find(e, name);
    return !t ? 0 : t->seen.alive && t->leave_event ? t->leave_event : t->end_event;
}

void gather_view(struct engine *e, const struct keep_view *v)
{
    struct shard_seen *s = &e->shards[v->shard];
    struct shard_seen was = *s;
    json_t *o = json_loads(v->text, 0, NULL), *names = json_array();
    const json_t *members = json_object_get(o, "members");
    uint64_t because = 0, epoch = (uint64_t)gather_number(o, "epoch");
    char cause[200] = "", subject[24];
    s->nmembers = 0;
    for (size_t i = 0; i < json_array_size(members) && s->nmembers < 3; i++) {
        int64_t node = gather_number(json_array_get(members, i), "node");
        if (node < 1 || node > e->desired->site->store.nodes_count)
            continue;
        snprintf(s->members[s->nmembers++], ORCH_NAME, "%s", e->desired->site->store.nodes[node - 1].name);
        json_array_append_new(names, json_string(e->desired->site->store.nodes[node - 1].name));
    }
    for (uint32_t i = 0; i < was.nmembers; i++)
        if (!is_member(s->members, s->nmembers, was.members[i])) {
            snprintf(cause + strlen(cause), sizeof cause - strlen(cause), "%s left; ", was.members[i]);
            because = reason_of(e, was.members[i]);
        }
    for (uint32_t i = 0; i < s->nmembers; i++)
        if (!is_member(was.members, was.nmembers, s->members[i]))
            snprintf(cause + strlen(cause), sizeof cause - strlen(cause), "%s came; ", s->members[i]);
    if (was.nmembers && s->nmembers && strcmp(was.members[0], s->members[0]))
        snprintf(cause + strlen(cause), sizeof cause - strlen(cause), "%s leads; ", s->members[0]);
    if (!because && was.nmembers && s->nmembers && strcmp(was.members[0], s->members[0])) {
        const struct tracked *led = engine_find(e, was.members[0]);
        because = s->move_event ? s->move_event : led ? led->leave_event : 0;
        s->move_event = 0;
    }
    snprintf(subject, sizeof subject, "shard %u", v->shard);
    if (was.view_known && epoch > was.epoch)
        s->view_event = events_add(e->events, EVENT_VIEW, subject, because,
                                   json_pack("{s:I, s:O}", "epoch", (json_int_t)epoch, "members", names),
                                   "%sepoch %lu", cause, epoch);
    s->view_known = true;
    s->epoch = epoch;
    json_decref(names);
    json_decref(o);
}

/* --- the whole --------------------------------------------------------------------------------------------- */

static void tell_ready(struct engine *e, struct tracked *t)
{
    const struct observed_program *p = observer_get(e->observer, t->seen.name);
    if (t->seen.ready == t->was_ready || (t->seen.leaving && !t->seen.ready))
        return;
    t->was_ready = t->seen.ready;
    if (t->other_site) /* said */
        return;
    if (t->seen.ready)
        events_add(e->events, EVENT_READY, t->seen.name, t->start_event,
                   json_pack("{s:I}", "after_ms", (json_int_t)(engine_now(e) - t->seen.started_ms)),
                   t->seen.kind == ORCH_WORKER ? "healthy, and in steering's table" : "it answers and serves");
    else
        events_add(e->events, EVENT_UNREADY, t->seen.name, 0, NULL, "%s",
                   p && p->why[0]                ? p->why
                   : t->seen.kind == ORCH_WORKER ? "steering took it out of its table, or does not answer"
                                                 : "it says that it does not serve, or answers late");
}

void gather(struct engine *e)
{
    engine_now(e); /* ages are counted to this moment */
    if (e->driver->ops->platform)
        platform_gather(e);
    e->observed.tables_known = 0;
    for (uint32_t i = 0; i < site_fronts(e->desired->site); i++) {
        const struct reading *table = gather_table(e, i);
        e->observed.tables_known |= (uint8_t)((table && fresh(e, table)) << i);
    }
    for (uint32_t i = 0; i < e->n; i++) {
        struct tracked *t = &e->at[i];
        if (!t->seen.alive)
            continue;
        if (t->seen.kind == ORCH_WORKER)
            see_worker(e, t);
        else if (t->seen.kind == ORCH_STORE)
            see_store(e, t);
        else
            t->seen.ready = !t->dying && gather_stats(e, t->seen.name);
        tell_ready(e, t);
        if (t->seen.leaving && t->seen.kind == ORCH_WORKER)
            tell_left(e, t);
    }
    see_copies(e);
    e->observed.n = e->n;
    for (uint32_t i = 0; i < e->n; i++)
        e->observed.at[i] = e->at[i].seen;
}
