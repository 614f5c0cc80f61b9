/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reconciling a made-up site: programs that start slowly, crash, hang and are paused, an operator
 * who changes his mind, figures that are not known. Whatever happens, the promises of reconcile.h
 * hold at every step, told by an oracle that shares no code with it; and once it is quiet, what
 * runs is what is desired.
 */
#include "tests/check.h"

#include <errno.h>
#include <stdlib.h>

#include "orchestrator/core/reconcile.h"

#define SITE(more, front)                                                                          \
    "store:\n"                                                                                     \
    "  etcd: [\"127.0.0.1:2379\"]\n"                                                              \
    "  copies: 2\n"                                                                                \
    "  nodes:\n"                                                                                   \
    "    - {name: store-a, listen: \"127.0.0.1:7400\"}\n"                                         \
    "    - {name: store-b, listen: \"127.0.0.1:7410\"}\n"                                         \
    "    - {name: store-c, listen: \"127.0.0.1:7420\"}\n"                                         \
    "steering:\n"                                                                                  \
    "  workers_max: 10\n"                                                                          \
    "  inside: {address: 10.0.0.1, next_hop: 10.0.0.2, port: p}\n"                                 \
    "  outside: {address: 10.9.0.1, next_hop: 10.9.0.2, port: q}\n" more                           \
    "nfs: {a: 1}\n"                                                                                \
    "groups:\n"                                                                                    \
    "  - {name: nf, replicas: 2, max: 8}\n"                                                        \
    "  - {name: canary, replicas: 0, min: 0, max: 2" front "}\n"
#define MORE                                                                                       \
    "  more:\n"                                                                                    \
    "    - name: steer-2\n"                                                                        \
    "      inside: {address: 10.0.0.3, next_hop: 10.0.0.2, port: p}\n"                             \
    "      outside: {address: 10.9.0.3, next_hop: 10.9.0.2, port: q}\n"
/* One front end; two of them, each with a group; two, and both groups at the first. */
static const char text[] = SITE("", ""), two[] = SITE(MORE, ", front: steer-2"), idle[] = SITE(MORE, "");

/* --- the world --------------------------------------------------------------------------------- */

struct program {
    struct orch_instance seen;
    uint64_t ready_at_ms, gone_at_ms; /* 0: never */
    bool hung;                /* ends by SIGKILL only */
};

struct world {
    struct orch_desired *d;
    struct program at[ORCH_INSTANCES];
    uint32_t n;
    uint64_t now_ms;
    bool blind[2];            /* a front end's table is not known */
    bool crashing;            /* things break */
    uint64_t seed;
    uint32_t starts, drains, hand_overs, terminations, kills, waits;
    uint16_t leader[2];       /* index of a store by shard */
};

static uint32_t rnd(struct world *w, uint32_t n)
{
    w->seed = w->seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(w->seed >> 33) % n;
}

static struct program *find(struct world *w, const char *name)
{
    for (uint32_t i = 0; i < w->n; i++)
        if (!strcmp(w->at[i].seen.name, name))
            return &w->at[i];
    return NULL;
}

static void begin_with(struct world *w, uint64_t seed, const char *site)
{
    char err[300];
    memset(w, 0, sizeof *w);
    w->seed = seed * 77 + 5;
    w->now_ms = 1000000;
    CHECK(!desired_from_text(&w->d, "f", site, err, sizeof err), "%s", err);
}

static void begin(struct world *w, uint64_t seed)
{
    begin_with(w, seed, text);
}

static void end_program(struct world *w, struct program *p)
{
    bool asked = p->seen.told_ms;
    p->seen.failures = asked ? 0 : w->now_ms - p->seen.started_ms > ORCH_SOUND_MS ? 1 : p->seen.failures + 1;
    p->seen.alive = p->seen.ready = p->seen.leaving = p->seen.replace = false;
    p->seen.told_ms = p->seen.again_ms = 0;
    p->seen.leads = p->seen.only_copy = 0;
    p->seen.ended_ms = w->now_ms;
    p->gone_at_ms = 0;
}

static void live(struct world *w)
{
    for (uint32_t i = 0; i < w->n; i++) {
        struct program *p = &w->at[i];
        if (!p->seen.alive)
            continue;
        if (p->gone_at_ms && p->gone_at_ms <= w->now_ms)
            end_program(w, p);
        else if (w->crashing && !rnd(w, 60))
            end_program(w, p);
        else
            p->seen.ready = p->ready_at_ms <= w->now_ms && (!p->seen.leaving || p->seen.kind != ORCH_WORKER);
    }
    /* each shard is led by some store that is ready */
    for (int s = 0; s < 2; s++) {
        struct program *p = &w->at[w->leader[s]];
        if (p->seen.kind == ORCH_STORE && p->seen.alive && p->seen.ready)
            continue;
        for (uint32_t i = 0; i < w->n; i++)
            if (w->at[i].seen.kind == ORCH_STORE && w->at[i].seen.ready)
                w->leader[s] = (uint16_t)i;
    }
}

/* --- what is seen ---------------------------------------------------------------------------------- */

static uint32_t ready_stores(struct world *w)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->n; i++)
        n += w->at[i].seen.kind == ORCH_STORE && w->at[i].seen.alive && w->at[i].seen.ready;
    return n;
}

static void look(struct world *w, struct orch_observed *o)
{
    uint32_t stores = ready_stores(w);
    memset(o, 0, sizeof *o);
    o->tables_known = (uint8_t)((w->blind[0] ? 0 : 1) | (w->blind[1] ? 0 : 2));
    o->copies_known = stores > 0;
    o->copies_whole = stores >= 2;
    o->n = w->n;
    for (uint32_t i = 0; i < w->n; i++) {
        struct orch_instance *s = &w->at[i].seen;
        s->leads = 0;
        for (int k = 0; k < 2; k++)
            if (s->kind == ORCH_STORE && s->alive && s->ready && w->leader[k] == i)
                s->leads |= (uint16_t)(1 << k);
        s->only_copy = s->leads && stores == 1 ? s->leads : 0;
        o->at[i] = *s;
        if (s->kind == ORCH_WORKER && s->front >= site_fronts(w->d->site)) { /* no table has it */
            const struct orch_group *g = desired_group_of(w->d, s->name);
            o->at[i].front = g ? (uint8_t)g->front : ORCH_FRONT_NONE;
            o->at[i].ready = false;
        }
    }
}

/* --- the oracle ------------------------------------------------------------------------------------- */

/* Who serves beside it: where it does, or anywhere if nobody is to be there. */
static uint32_t serving_but(struct world *w, const struct orch_observed *o, const struct orch_action *a,
                            uint32_t n, const char *name)
{
    uint32_t serving = 0, front = orch_find(o, name)->front, wanted = 0;
    for (uint32_t g = 0; g < w->d->ngroups; g++)
        wanted += w->d->groups[g].front == front ? w->d->groups[g].replicas : 0;
    CHECK(!wanted || o->tables_known >> front & 1, "%s drained in the dark", name);
    for (uint32_t i = 0; i < o->n; i++) {
        const struct orch_instance *s = &o->at[i];
        bool stays = s->kind == ORCH_WORKER && s->alive && s->ready && !s->leaving && !s->told_ms &&
                     strcmp(s->name, name) && (!wanted || s->front == front);
        for (uint32_t k = 0; k < n; k++)
            if (a[k].verb != ORCH_START && !strcmp(a[k].name, s->name))
                stays = false;
        serving += stays;
    }
    return serving;
}

static void check_action(struct world *w, const struct orch_observed *o, const struct orch_action *a,
                         uint32_t n, const struct orch_action *x)
{
    struct program *p = find(w, x->name);
    bool alive = p && p->seen.alive;
    CHECK(x->why[0], "no reason for %s", x->name);
    if (x->verb == ORCH_START) {
        CHECK(!alive, "%s lives and is started", x->name);
        CHECK(!p || !p->seen.failures || w->now_ms - p->seen.ended_ms >= 200, "%s at once again", x->name);
        return;
    }
    CHECK(alive, "%s is dead and gets an order", x->name);
    CHECK(x->kind != ORCH_STORE || x->verb != ORCH_TERMINATE || !p->seen.told_ms, "%s is told twice", x->name);
    if (w->d->down)
        return;
    if (x->verb == ORCH_DRAIN && !p->seen.told_ms) {
        CHECK(o->tables_known, "%s drained in the dark", x->name);
        CHECK(serving_but(w, o, a, n, x->name) >= 1, "%s is the last one", x->name);
    }
    if (x->kind == ORCH_STEERING && x->verb == ORCH_TERMINATE && !p->seen.told_ms &&
        site_front_named(w->d->site, x->name) >= 0 && site_fronts(w->d->site) > 1) {
        uint32_t others = 0;
        for (uint32_t i = 0; i < o->n; i++)
            others += o->at[i].kind == ORCH_STEERING && o->at[i].alive && o->at[i].ready && !o->at[i].told_ms &&
                      strcmp(o->at[i].name, x->name);
        for (uint32_t k = 0; k < n; k++)
            others -= a[k].kind == ORCH_STEERING && a[k].verb != ORCH_START;
        CHECK(others == 1, "%s while the other front end is away", x->name);
    }
    if (x->kind == ORCH_STORE && x->verb == ORCH_TERMINATE && !p->seen.told_ms) {
        CHECK(!p->seen.leads && !p->seen.only_copy, "%s leads %x", x->name, p->seen.leads);
        for (uint32_t i = 0; i < o->n; i++)
            CHECK(o->at[i].kind != ORCH_STORE || !o->at[i].alive || !o->at[i].told_ms,
                  "%s while %s ends", x->name, o->at[i].name);
    }
    if (x->verb == ORCH_KILL)
        CHECK(p->seen.told_ms && w->now_ms - p->seen.told_ms >= 15000, "%s was given no time", x->name);
}

/* --- carrying out ------------------------------------------------------------------------------------ */

static void carry_out(struct world *w, const struct orch_action *x)
{
    struct program *p = find(w, x->name);
    if (w->crashing && !rnd(w, 8))
        return; /* it failed */
    if (x->verb == ORCH_START) {
        if (!p) {
            assert_true(w->n < ORCH_INSTANCES);
            p = &w->at[w->n++];
            snprintf(p->seen.name, sizeof p->seen.name, "%s", x->name);
        }
        p->seen.kind = x->kind;
        p->seen.alive = true;
        p->seen.config = desired_config(w->d, x->kind, x->kind == ORCH_WORKER ? &w->d->groups[x->group] : NULL);
        p->seen.front = x->kind == ORCH_WORKER ? (uint8_t)w->d->groups[x->group].front : 0;
        p->seen.started_ms = w->now_ms;
        p->ready_at_ms = w->now_ms + rnd(w, 3000);
        p->hung = w->crashing && !rnd(w, 10);
        p->gone_at_ms = w->crashing && !rnd(w, 4) ? w->now_ms + rnd(w, 200) + 1 : 0;
        w->starts++;
        return;
    }
    p->seen.again_ms = w->now_ms;
    if (x->verb == ORCH_HAND_OVER) {
        for (uint32_t i = 0; i < w->n; i++)
            if (w->at[i].seen.kind == ORCH_STORE && w->at[i].seen.ready && &w->at[i] != p)
                w->leader[x->shard] = (uint16_t)i;
        w->hand_overs++;
        return;
    }
    if (!p->seen.told_ms)
        p->seen.told_ms = w->now_ms;
    p->seen.leaving = true;
    if (x->verb == ORCH_KILL)
        p->gone_at_ms = w->now_ms + 1;
    else if (!p->hung)
        p->gone_at_ms = w->now_ms + rnd(w, 2000);
    w->kills += x->verb == ORCH_KILL;
    w->drains += x->verb == ORCH_DRAIN;
    w->terminations += x->verb == ORCH_TERMINATE;
}

static void step(struct world *w)
{
    static struct orch_observed o;
    struct orch_action a[ORCH_ACTIONS];
    uint64_t next_ms;
    live(w);
    look(w, &o);
    uint32_t n = orch_reconcile(w->d, &o, w->now_ms, a, &next_ms);
    assert_true(n <= ORCH_ACTIONS);
    CHECK(next_ms >= w->now_ms, "next is past");
    for (uint32_t i = 0; i < n; i++)
        check_action(w, &o, a, i, &a[i]);
    for (uint32_t i = 0; i < n; i++)
        carry_out(w, &a[i]);
    w->waits += !n && next_ms != UINT64_MAX;
    w->now_ms += 100 + rnd(w, 900);
}

/* --- an operator who changes his mind ------------------------------------------------------------------ */

static void change_mind(struct world *w)
{
    char err[400], other[sizeof two + 8];
    static const char *const nodes[] = {"store-a", "store-b", "store-c"};
    const char *site = site_fronts(w->d->site) == 1 && rnd(w, 3) ? text : rnd(w, 2) ? two : rnd(w, 3) ? idle : text;
    const char *at = strstr(site, "nfs: {a: 1}");
    switch (rnd(w, 7)) {
    case 0:
    case 1:
        desired_scale(w->d, rnd(w, 3) ? "nf" : "canary", rnd(w, 9), err, sizeof err);
        break;
    case 2:
        desired_stop(w->d, nodes[rnd(w, 3)], rnd(w, 2), err, sizeof err);
        break;
    case 3: /* another configuration of the NFs: workers have to be replaced */
        snprintf(other, sizeof other, "%.*snfs: {a: %u}%s", (int)(at - site), site, rnd(w, 3),
                 at + strlen("nfs: {a: 1}"));
        desired_text(w->d, "f", other, err, sizeof err);
        break;
    case 4:
        desired_down(w->d, !rnd(w, 3), err, sizeof err);
        break;
    case 5:
        w->blind[rnd(w, 2)] = !rnd(w, 3);
        break;
    default:
        if (w->n)
            w->at[rnd(w, w->n)].seen.replace = true;
    }
}

/* --- is it as desired? ------------------------------------------------------------------------------------ */

static const char *wrong(struct world *w)
{
    static char why[200];
    for (uint32_t i = 0; i < w->n; i++)
        if (w->at[i].seen.alive && (w->at[i].gone_at_ms || w->at[i].seen.told_ms || w->at[i].seen.replace))
            return snprintf(why, sizeof why, "%s is about to end (told %lu, replace %d, gone %lu)",
                            w->at[i].seen.name, w->at[i].seen.told_ms, w->at[i].seen.replace,
                            w->at[i].gone_at_ms), why;
    for (uint32_t g = 0; g < w->d->ngroups; g++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < w->n; i++) {
            const struct orch_instance *s = &w->at[i].seen;
            if (!s->alive || s->kind != ORCH_WORKER || desired_group_of(w->d, s->name) != &w->d->groups[g])
                continue;
            n++;
            if (!s->ready || s->config != desired_config(w->d, ORCH_WORKER, &w->d->groups[g]) || s->replace)
                return "a worker is not ready, or old";
        }
        snprintf(why, sizeof why, "%u workers of %s instead of %u", n, w->d->groups[g].name,
                 w->d->groups[g].replicas);
        if (n != w->d->groups[g].replicas)
            return why;
    }
    for (unsigned k = 0; k < w->d->site->store.nodes_count; k++) {
        const char *name = w->d->site->store.nodes[k].name;
        struct program *p = find(w, name);
        snprintf(why, sizeof why, "store %s is %s", name, p && p->seen.alive ? "there" : "not there");
        if ((p && p->seen.alive) == desired_is_stopped(w->d, name))
            return why;
    }
    for (uint32_t f = 0; f < site_fronts(w->d->site); f++) {
        struct program *p = find(w, site_front(w->d->site, f).name);
        if (!p || !p->seen.alive || p->seen.replace)
            return "no steering";
    }
    struct program *second = find(w, "steer-2");
    return second && second->seen.alive && site_fronts(w->d->site) == 1 ? "a front end too many" : NULL;
}

static void from_anywhere_it_becomes_what_is_desired(void **state)
{
    static struct world w;
    uint32_t drains = 0, hand_overs = 0, kills = 0, terminations = 0, ended_with_two = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        char err[200];
        begin_with(&w, seed, seed % 2 ? two : text);
        w.crashing = true;
        for (int i = 0; i < 300; i++) {
            if (!rnd(&w, 12))
                change_mind(&w);
            step(&w);
        }
        w.crashing = w.blind[0] = w.blind[1] = false;
        ended_with_two += site_fronts(w.d->site) == 2;
        desired_down(w.d, false, err, sizeof err);
        if (w.d->nstopped == 2) /* the last copy would not be restarted, rightly */
            desired_stop(w.d, w.d->stopped[0], false, err, sizeof err);
        int quiet = 0;
        for (; quiet < 600 && wrong(&w); quiet++)
            step(&w);
        CHECK(!wrong(&w), "seed %lu: %s", seed, wrong(&w));
        uint32_t starts = w.starts;
        for (int i = 0; i < 40; i++)
            step(&w);
        CHECK(!wrong(&w) && w.starts == starts, "seed %lu: it does not rest: %s", seed, wrong(&w));
        drains += w.drains;
        hand_overs += w.hand_overs;
        kills += w.kills;
        terminations += w.terminations;
        desired_free(w.d);
    }
    print_message("drains %u, hand-overs %u, terminations %u, kills %u; %u of 400 with two front ends\n", drains,
                  hand_overs, terminations, kills, ended_with_two);
    assert_true(drains && hand_overs && kills && terminations && ended_with_two > 50 && ended_with_two < 350);
}

/* --- stories ------------------------------------------------------------------------------------------------ */

static void run_until_right(struct world *w)
{
    for (int i = 0; i < 300 && wrong(w); i++)
        step(w);
    CHECK(!wrong(w), "%s", wrong(w));
}

static void what_keeps_ending_is_restarted_ever_later(void **state)
{
    static struct world w;
    uint64_t started[12], last = 0;
    uint32_t n = 0;
    begin(&w, 1);
    run_until_right(&w);
    struct program *p = find(&w, "nf-1");
    for (int i = 0; i < 4000 && n < 12; i++) {
        step(&w);
        if (p->seen.alive) {
            started[n++] = p->seen.started_ms;
            p->gone_at_ms = w.now_ms;
        }
    }
    assert_int_equal(n, 12);
    for (uint32_t i = 2; i < n; i++) {
        uint64_t gap = started[i] - started[i - 1];
        CHECK(gap + 1100 > last && gap < ORCH_BACKOFF_MOST_MS + 4000, "gap %u: %lu after %lu", i, gap, last);
        last = gap;
    }
    CHECK(last >= 20000, "still every %lu ms", last);
    assert_int_equal(orch_backoff_ms(0), 0);
    assert_int_equal(orch_backoff_ms(1), 200);
    assert_int_equal(orch_backoff_ms(UINT32_MAX), ORCH_BACKOFF_MOST_MS);
    desired_free(w.d);
}

static void a_single_worker_is_replaced_after_its_successor_serves(void **state)
{
    static struct world w;
    char err[300];
    begin(&w, 3);
    assert_int_equal(desired_scale(w.d, "nf", 1, err, sizeof err), 0);
    run_until_right(&w);
    find(&w, "nf-1")->seen.replace = true;
    bool both = false;
    for (int i = 0; i < 100 && wrong(&w); i++) {
        step(&w);
        struct program *b = find(&w, "nf-2");
        both |= b && b->seen.ready && find(&w, "nf-1")->seen.alive;
    }
    assert_true(both);
    assert_null(wrong(&w));
    assert_false(find(&w, "nf-1")->seen.alive);
    desired_free(w.d);
}

/* While all goes well, a group never has fewer ready workers than it is to have. */
static void a_group_is_replaced_without_a_gap(void **state)
{
    static struct world w;
    char err[300], other[sizeof text];
    begin(&w, 9);
    assert_int_equal(desired_scale(w.d, "nf", 4, err, sizeof err), 0);
    run_until_right(&w);
    snprintf(other, sizeof other, "%s", text);
    *strstr(other, "1}\ngroups") = '2';
    CHECK(!desired_text(w.d, "f", other, err, sizeof err), "%s", err);
    for (int i = 0; i < 200 && wrong(&w); i++) {
        uint32_t ready = 0;
        step(&w);
        for (uint32_t k = 0; k < w.n; k++)
            ready += w.at[k].seen.kind == ORCH_WORKER && w.at[k].seen.ready && !w.at[k].seen.leaving;
        CHECK(ready >= 4, "%u ready", ready);
    }
    assert_null(wrong(&w));
    assert_true(w.drains >= 4); /* some are told again */
    desired_free(w.d);
}

static void last_ones_are_not_killed_without_force(void **state)
{
    static struct world w;
    static struct orch_observed o;
    char why[400];
    begin(&w, 4);
    run_until_right(&w);
    look(&w, &o);
    assert_int_equal(orch_kill_allowed(&o, "nf-1", why, sizeof why), 0);
    assert_int_equal(orch_kill_allowed(&o, "store-a", why, sizeof why), 0);
    assert_int_equal(orch_kill_allowed(&o, "steer", why, sizeof why), -EPERM);
    ((struct orch_instance *)orch_find(&o, "nf-2"))->ready = false;
    assert_int_equal(orch_kill_allowed(&o, "nf-1", why, sizeof why), -EPERM);
    assert_non_null(strstr(why, "last worker"));
    ((struct orch_instance *)orch_find(&o, "store-a"))->only_copy = 2;
    assert_int_equal(orch_kill_allowed(&o, "store-a", why, sizeof why), -EPERM);
    assert_non_null(strstr(why, "last copy"));
    o.copies_known = false;
    assert_int_equal(orch_kill_allowed(&o, "store-b", why, sizeof why), -EPERM);
    desired_free(w.d);
}

static void set_ready(const struct orch_observed *o, const char *name, bool ready)
{
    ((struct orch_instance *)(uintptr_t)orch_find(o, name))->ready = ready;
}

static void one_of_two_front_ends_may_go(void **state)
{
    static struct world w;
    static struct orch_observed o;
    char why[400];
    begin_with(&w, 5, two);
    assert_int_equal(desired_scale(w.d, "canary", 1, why, sizeof why), 0);
    run_until_right(&w);
    look(&w, &o);
    assert_int_equal(orch_kill_allowed(&o, "steer", why, sizeof why), 0);
    assert_int_equal(orch_kill_allowed(&o, "steer-2", why, sizeof why), 0);
    /* the last one of its front end, though others serve elsewhere */
    assert_int_equal(orch_kill_allowed(&o, "nf-1", why, sizeof why), 0);
    assert_int_equal(orch_kill_allowed(&o, "canary-1", why, sizeof why), -EPERM);
    assert_non_null(strstr(why, "at its front end"));
    o.tables_known = 2;
    assert_int_equal(orch_kill_allowed(&o, "nf-1", why, sizeof why), -EPERM);
    set_ready(&o, "steer", false);
    assert_int_equal(orch_kill_allowed(&o, "steer-2", why, sizeof why), -EPERM);
    assert_non_null(strstr(why, "only steering"));
    assert_int_equal(orch_kill_allowed(&o, "steer", why, sizeof why), 0);
    desired_free(w.d);
}

/* Both wanted anew: one after the other, never both away. */
static void front_ends_are_started_anew_in_turn(void **state)
{
    static struct world w;
    begin_with(&w, 6, two);
    run_until_right(&w);
    find(&w, "steer")->seen.replace = find(&w, "steer-2")->seen.replace = true;
    uint32_t starts = w.starts;
    for (int i = 0; i < 100 && wrong(&w); i++) {
        step(&w);
        CHECK(find(&w, "steer")->seen.alive || find(&w, "steer-2")->seen.alive, "both are away");
    }
    assert_null(wrong(&w));
    assert_int_equal(w.starts, starts + 2);
    desired_free(w.d);
}

/* With its front end's last group a site needs no worker there: also the last one goes. */
static void a_front_end_is_emptied_when_its_group_moves(void **state)
{
    static struct world w;
    char err[300];
    begin_with(&w, 7, two);
    assert_int_equal(desired_scale(w.d, "canary", 2, err, sizeof err), 0);
    run_until_right(&w);
    assert_int_equal(find(&w, "canary-1")->seen.front, 1);
    CHECK(!desired_text(w.d, "f", idle, err, sizeof err), "%s", err);
    for (int i = 0; i < 200 && wrong(&w); i++)
        step(&w);
    assert_null(wrong(&w));
    for (uint32_t i = 0; i < w.n; i++)
        assert_false(w.at[i].seen.alive && w.at[i].seen.kind == ORCH_WORKER && w.at[i].seen.front == 1);
    desired_free(w.d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_anywhere_it_becomes_what_is_desired),
        cmocka_unit_test(what_keeps_ending_is_restarted_ever_later),
        cmocka_unit_test(a_single_worker_is_replaced_after_its_successor_serves),
        cmocka_unit_test(a_group_is_replaced_without_a_gap),
        cmocka_unit_test(last_ones_are_not_killed_without_force),
        cmocka_unit_test(one_of_two_front_ends_may_go),
        cmocka_unit_test(front_ends_are_started_anew_in_turn),
        cmocka_unit_test(a_front_end_is_emptied_when_its_group_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
