/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The view service (etcd's part): a key per shard, changed by compare-and-swap
 * on its epoch, read, and watched. It decides nothing: whoever suspects asks.
 *
 * Requests and answers travel; they are lost, late (some by seconds, so that a
 * swap that its owner gave up happens after all) or come twice; a partition stops
 * either way, or one: then what was asked is done, and nobody hears of it. At times the
 * service is away, for all or for one node. A watch tells what changed, unless
 * that is lost, too; so nodes read now and then.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

enum { LOST_PER_MILLE = 80, LATE_PER_MILLE = 80, VERY_LATE_PER_MILLE = 15, TWICE_PER_MILLE = 50,
       TIMEOUT_US = 60000, IDLE_MAX_US = 2500000, IDLE_LOOK_US = 20000,
       THREAD_US = 500 };

/* What travels, either way. */
struct letter {
    struct shard_view view;   /* wanted; or the one that stands */
    uint64_t old_epoch;       /* compared; 0: a read */
    uint32_t request, life;
    bool swapped;
};

static uint64_t way_us(struct world *w, int from, int to)
{
    uint64_t us = 100 + rng_exp(&w->rng, 800) + w->lag_us[from][to];
    if (w->healed)
        return us;
    if (w->views_late_us)
        us += rng_exp(&w->rng, w->views_late_us);
    if (rng_chance(&w->rng, LATE_PER_MILLE)) {
        us += rng_exp(&w->rng, 100000);
        w->counts.late_views++;
    }
    if (rng_chance(&w->rng, VERY_LATE_PER_MILLE))
        us += rng_exp(&w->rng, 1000000);
    return us;
}

/* Sent now; does it get there? */
static bool lost(struct world *w, int from, int to)
{
    if (w->blocked[from][to] || w->now_us < w->views_back_us)
        return true;
    if (w->healed || !rng_chance(&w->rng, LOST_PER_MILLE + w->views_lost_per_mille))
        return false;
    w->counts.late_views++;
    return true;
}

bool views_same_node(const struct msg_node *a, const struct msg_node *b)
{
    return a->node == b->node && a->incarnation == b->incarnation;
}

static void say_view(const struct world *w, int shard, const char *what,
                     const struct shard_view *v)
{
    if (!w->trace)
        return;
    char text[128];
    int n = 0;
    for (uint32_t i = 0; i < v->nmembers; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %u.%" PRIu64, v->members[i].node,
                      v->members[i].incarnation);
    trace(w, PROC_VIEWS, "%s shard %d epoch %" PRIu64 " members%s", what, shard, v->epoch, text);
}

bool views_has(const struct world *w, const struct replica *r)
{
    const struct shard_view *v = views_of(w, r->number);
    for (uint32_t i = 0; i < v->nmembers; i++)
        if (views_same_node(&v->members[i], &r->self))
            return true;
    return false;
}

int views_primary(const struct world *w, int shard)
{
    return (int)views_of(w, shard)->members[0].node - 1;
}

/* --- what a fail-over may lose -------------------------------------------------------- */

void views_note_primary(struct world *w, struct replica *r)
{
    struct shard_key *k = &w->keys[r->number];
    if (r->st.view_epoch != r->primary_epoch) {
        r->primary_epoch = r->st.view_epoch;
        r->primary_from = r->st.position;
    }
    struct reached *last = k->nreached ? &k->reached[k->nreached - 1] : NULL;
    if (last && last->epoch == r->st.view_epoch && last->position >= r->st.position)
        return;
    if (k->nreached == k->reached_room) {
        k->reached_room = k->reached_room ? 2 * k->reached_room : 1024;
        k->reached = realloc(k->reached, k->reached_room * sizeof *k->reached);
        if (!k->reached)
            abort();
    }
    k->reached[k->nreached++] = (struct reached){r->st.view_epoch, r->st.position, w->now_us};
}

void views_note_fail_over(struct world *w, struct replica *r)
{
    struct shard_key *k = &w->keys[r->number];
    uint64_t from_us = r->heard_us;
    for (uint32_t i = 0; i < k->nreached; i++)
        if (k->reached[i].position > r->primary_from && k->reached[i].epoch < r->primary_epoch &&
            k->reached[i].us < from_us)
            from_us = k->reached[i].us;
    k->nreached = 0;
    if (from_us < k->lost_from_us)
        k->lost_from_us = from_us;
    views_end_fail_over(w, r->number, false);
}

void views_end_fail_over(struct world *w, int shard, bool by_force)
{
    struct shard_key *k = &w->keys[shard];
    if (k->lost_from_us == HIST_NEVER)
        return;
    for (int node = 0; node < NODES && !by_force; node++) {
        const struct replica *r = &w->replicas[node][shard];
        if (r->shard && r->st.role == SHARD_PRIMARY && r->st.view_epoch < k->served_epoch)
            return;
    }
    hist_add_stall(&w->history, k->lost_from_us, w->now_us, true);
    k->lost_from_us = HIST_NEVER;
}

/* --- what stands changes -------------------------------------------------------------- */

static uint32_t nodes_of(const struct shard_view *v)
{
    uint32_t set = 0;
    for (uint32_t i = 0; i < v->nmembers; i++)
        set |= 1u << v->members[i].node;
    return set;
}

static bool lives(const struct world *w, int shard, const struct msg_node *n)
{
    const struct replica *r = &w->replicas[n->node - 1][shard];
    return w->procs[r->proc].alive && views_same_node(&r->self, n);
}

static void count_change(struct world *w, int shard, const struct shard_view *old,
                         const struct shard_view *now)
{
    struct shard_key *key = &w->keys[shard];
    uint32_t gained = nodes_of(now) & ~nodes_of(old);
    w->counts.joins += gained && peers_pending(w);
    w->counts.spares += gained && (gained & ~key->full);
    w->counts.backup_drops += (nodes_of(old) & ~nodes_of(now)) != 0;
    if (now->nmembers >= w->copies)
        key->full = nodes_of(now);
    bool stays = false;
    for (uint32_t i = 1; i < now->nmembers; i++)
        stays |= views_same_node(&now->members[i], &old->members[0]);
    w->counts.hand_overs += stays;
    w->counts.deposed += !views_same_node(&old->members[0], &now->members[0]) &&
                         lives(w, shard, &old->members[0]);
}

void views_look_for_loss(struct world *w)
{
    for (int shard = 0; shard < SHARDS && !w->over; shard++) {
        const struct shard_view *v = views_of(w, shard);
        bool any = false;
        for (uint32_t i = 0; i < v->nmembers; i++)
            any |= lives(w, shard, &v->members[i]);
        if (any)
            continue;
        trace(w, PROC_VIEWS, "no member of shard %d lives: it is lost", shard);
        w->counts.lost++;
        w->lost = w->over = true;
    }
}

/* e->a: node, e->b: shard */
static void told(struct world *w, const struct event *e)
{
    const struct letter *l = e->ptr;
    node_view_answer(w, &w->replicas[e->a][e->b], l->request,
                     l->swapped ? PROPOSAL_SWAPPED : PROPOSAL_STANDS, &l->view);
}

static struct letter *letter_of(const struct letter *l)
{
    struct letter *copy = malloc(sizeof *copy);
    if (!copy)
        abort();
    *copy = *l;
    return copy;
}

/* e->a: node, e->b: shard: it arrives; the process has a thread of its own for
 * these, so that frames that came later may be seen earlier */
static void arrive(struct world *w, const struct event *e)
{
    if (!w->blocked[PROC_VIEWS][e->a])
        sched_at(w, w->now_us + rng_exp(&w->rng, THREAD_US), (int)e->a, told, e->a, e->b,
                 letter_of(e->ptr));
}

static void tell_watchers(struct world *w, int shard)
{
    struct letter l = {.view = *views_of(w, shard)};
    for (int node = 0; node < NODES; node++)
        if (w->procs[node].alive && !lost(w, PROC_VIEWS, node))
            sched_at(w, w->now_us + way_us(w, PROC_VIEWS, node), node, arrive, (uint64_t)node, (uint64_t)shard,
                     letter_of(&l));
}

static void adopt(struct world *w, int shard, const struct shard_view *want)
{
    struct shard_view old = *views_of(w, shard);
    w->keys[shard].view = *want;
    rules_view(w, shard, want);
    say_view(w, shard, "view is now", want);
    count_change(w, shard, &old, want);
    tell_watchers(w, shard);
    views_look_for_loss(w);
    faults_provoke(w);
    for (uint32_t i = 0; i < want->nmembers; i++)
        if (lives(w, shard, &want->members[i]))
            return;
    w->counts.lost++; /* it asked for the shard, and died */
    w->lost = w->over = true;
}

/* --- that somebody serves ----------------------------------------------------------------- */

/* Whether it would do: everybody's way to the service and back is open. */
static uint32_t able_now(const struct world *w, int shard)
{
    const struct shard_view *v = views_of(w, shard);
    uint32_t able = 0;
    for (uint32_t i = 0; i < v->nmembers; i++) {
        const struct replica *r = &w->replicas[v->members[i].node - 1][shard];
        bool good = lives(w, shard, &v->members[i]) && w->procs[r->proc].paused_until_us <= w->now_us &&
                    (r->st.role == SHARD_PRIMARY || r->st.role == SHARD_BACKUP) &&
                    !w->blocked[r->proc][PROC_VIEWS] && !w->blocked[PROC_VIEWS][r->proc] &&
                    !w->lag_us[r->proc][PROC_VIEWS] && !w->lag_us[PROC_VIEWS][r->proc];
        bool limps = w->views_late_us || w->views_lost_per_mille;
        able |= good && !limps && w->now_us >= w->views_back_us ? 1u << r->proc : 0;
    }
    return able;
}

/* No change of view holds it up. Whether clients reach it the store cannot know. */
static bool is_served(const struct world *w, int shard)
{
    const struct shard_view *v = views_of(w, shard);
    const struct replica *r = &w->replicas[v->members[0].node - 1][shard];
    return lives(w, shard, &v->members[0]) && r->st.role == SHARD_PRIMARY &&
           r->served_epoch == v->epoch && !r->proposal.open;
}

/* e->a: shard, e->b: epoch of its view the last time */
static void look_whether_served(struct world *w, const struct event *e)
{
    struct shard_key *k = &w->keys[e->a];
    k->able &= able_now(w, (int)e->a);
    if (is_served(w, (int)e->a) || !k->able || k->view.epoch != e->b) {
        k->idle_from_us = w->now_us;
        k->able = able_now(w, (int)e->a);
    } else if (w->now_us > k->idle_from_us + IDLE_MAX_US) {
        run_fail(w, "liveness", "for %.1f s nobody serves shard %d, though node %d could",
                 IDLE_MAX_US / 1e6, (int)e->a, __builtin_ctz(k->able) + 1);
    }
    sched_at(w, w->now_us + IDLE_LOOK_US, NOBODY, look_whether_served, e->a, k->view.epoch, NULL);
}

void views_watch_service(struct world *w)
{
    for (int shard = 0; shard < SHARDS; shard++)
        sched_at(w, w->now_us, NOBODY, look_whether_served, (uint64_t)shard, 0, NULL);
}

/* --- requests --------------------------------------------------------------------------- */

/* e->a: node, e->b: shard: a request arrives */
static void reach(struct world *w, const struct event *e)
{
    struct letter l = *(const struct letter *)e->ptr;
    int node = (int)e->a, shard = (int)e->b;
    if (w->blocked[node][PROC_VIEWS])
        return;
    l.swapped = l.old_epoch && views_of(w, shard)->epoch == l.old_epoch;
    if (l.swapped)
        adopt(w, shard, &l.view);
    else
        l.view = *views_of(w, shard);
    if (l.life != w->procs[node].life)
        return; /* nobody there who asked */
    if (lost(w, PROC_VIEWS, node)) {
        trace(w, PROC_VIEWS, "answer to %s lost", w->replicas[node][shard].name);
        return;
    }
    sched_at(w, w->now_us + way_us(w, PROC_VIEWS, node), node, arrive, e->a, e->b, letter_of(&l));
}

static void request(struct world *w, const struct replica *r, const struct letter *l)
{
    int times = 1 + (l->old_epoch && rng_chance(&w->rng, TWICE_PER_MILLE));
    while (times--) {
        if (lost(w, r->proc, PROC_VIEWS))
            continue;
        sched_at(w, w->now_us + way_us(w, r->proc, PROC_VIEWS), PROC_VIEWS, reach, (uint64_t)r->proc, r->number,
                 letter_of(l));
    }
}

/* e->a: node, e->b: shard: no answer came in time */
static void timed_out(struct world *w, const struct event *e)
{
    const struct letter *l = e->ptr;
    node_view_answer(w, &w->replicas[e->a][e->b], l->request, PROPOSAL_UNKNOWN, NULL);
}

void views_ask(struct world *w, struct replica *r, bool swap)
{
    struct letter l = {.view = r->proposal.want, .old_epoch = swap ? r->proposal.old_epoch : 0,
                       .request = ++r->request, .life = w->procs[r->proc].life};
    if (w->trace && swap) {
        replica_trace(r, "asks for");
        say_view(w, r->number, "is asked for", &l.view);
    }
    request(w, r, &l);
    sched_at(w, w->now_us + TIMEOUT_US, r->proc, timed_out, (uint64_t)r->proc, r->number,
             letter_of(&l));
}

void views_read(struct world *w, struct replica *r)
{
    struct letter l = {.life = w->procs[r->proc].life};
    request(w, r, &l);
}

void views_begin(struct world *w)
{
    for (int shard = 0; shard < SHARDS; shard++) {
        struct shard_view *v = &w->keys[shard].view;
        *v = (struct shard_view){.epoch = 1, .nmembers = 1};
        w->keys[shard].lost_from_us = HIST_NEVER;
        v->members[0] = w->replicas[rng_below(&w->rng, NODES)][shard].self;
        say_view(w, shard, "begins with", v);
        rules_view(w, shard, v);
        tell_watchers(w, shard);
    }
}
