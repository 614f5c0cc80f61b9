/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views in etcd (views_etcd.h): the interface and the turn; common/config/etcd/ speaks HTTP, views_etcd_said.c
 * hears what it says.
 *
 *   shards' threads ──(box: lock, wish, newest view, standing)── control thread ── etcd
 *
 * The control thread owns everything but the boxes and `nodes`, which have locks.
 * A turn of it: take wishes -> keep the lease and the registration -> read or
 * watch -> send what is due (proposals, first views, accepted losses) -> say what
 * each shard may do -> wait for answers, a wish, or the next deadline.
 *
 * What is known of a key is its newest content and the mod_revision that had it;
 * answers may overtake each other, so a lower revision changes nothing. A compare
 * is always on the revision whose content was looked at.
 *
 * Nothing here is called back from a watch's or an answer's processing that would
 * end that request: callbacks set flags, the turn acts.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#include "common/log/log.h"
#include "statestore/server/views_etcd_impl.h"

static struct views_etcd *of(const struct views *v)
{
    return (struct views_etcd *)v;
}

static uint32_t clamp(uint64_t v, uint32_t least, uint32_t most)
{
    return v < least ? least : v > most ? most : (uint32_t)v;
}

/* --- what the rules need ----------------------------------------------------------------------- */

static void rows_of(struct views_etcd *p, uint16_t shard, struct views_node rows[NODES_MAX])
{
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < NODES_MAX; i++) {
        const struct node *n = &p->nodes[i];
        rows[i] = (struct views_node){.incarnation = n->reg.incarnation, .alive = n->alive};
        if (shard >= n->reg.nholds)
            continue;
        rows[i].incarnation = n->reg.holds[shard].incarnation;
        rows[i].epoch = n->reg.holds[shard].epoch;
        rows[i].position = n->reg.holds[shard].position;
    }
    pthread_mutex_unlock(&p->lock);
}

/* --- JSON for etcd --------------------------------------------------------------------------------- */

static json_t *number_of(int64_t n)
{
    char text[24];
    snprintf(text, sizeof text, "%ld", n);
    return json_string(text);
}

/* All keys below the prefix: '0' is behind '/'. */
static json_t *range_of(const struct views_etcd *p)
{
    char from[KEY_MAX_BYTES], to[KEY_MAX_BYTES];
    snprintf(from, sizeof from, "%s/", p->prefix);
    snprintf(to, sizeof to, "%s0", p->prefix);
    return json_pack("{s:o, s:o}", "key", etcd_text(from), "range_end", etcd_text(to));
}

/* What stands, before it is to be replaced: proposal.h. */
static void post_ask(struct views_etcd *p, uint16_t shard, uint64_t old_epoch)
{
    char name[KEY_MAX_BYTES];
    key_name(p, "shards", shard, name);
    etcd_post(p->etcd, "kv/range", json_pack("{s:o}", "key", etcd_text(name)),
              tag_of(TAG_ASK, shard, old_epoch));
}

/* If the key still has `revision` (0: is not there) it becomes `view`; else it is read. */
static void post_swap(struct views_etcd *p, uint16_t shard, int64_t revision,
                      const struct shard_view *view, enum tag tag)
{
    char name[KEY_MAX_BYTES], *text = views_json_of_view(view);
    key_name(p, "shards", shard, name);
    json_t *body = !text ? NULL : json_pack(
        "{s:[{s:o, s:s, s:s, s:o}], s:[{s:{s:o, s:o}}], s:[{s:{s:o}}]}",
        "compare", "key", etcd_text(name), "target", "MOD", "result", "EQUAL", "mod_revision",
        number_of(revision),
        "success", "request_put", "key", etcd_text(name), "value", etcd_text(text),
        "failure", "request_range", "key", etcd_text(name));
    free(text);
    etcd_post(p->etcd, "kv/txn", body, tag_of(tag, shard, view->epoch - 1));
}

/* --- the control thread's turn: lease and registration ----------------------------------------------------- */

static void gather_holds(struct views_etcd *p, struct views_registration *r)
{
    *r = (struct views_registration){.incarnation = p->site.incarnation,
                                     .nholds = p->site.shards};
    for (uint16_t i = 0; i < p->site.shards; i++) {
        struct box *b = &p->boxes[i];
        pthread_mutex_lock(&b->lock);
        r->holds[i].incarnation = b->self.incarnation ? b->self.incarnation : r->incarnation;
        r->holds[i].epoch = b->held_epoch;
        r->holds[i].position = b->held_position;
        pthread_mutex_unlock(&b->lock);
    }
}

/* Epochs and incarnations are told at once, positions now and then. */
static bool worth_telling(const struct views_etcd *p, const struct views_registration *r)
{
    bool position = false;
    for (uint16_t i = 0; i < p->site.shards; i++) {
        if (r->holds[i].epoch != p->told.holds[i].epoch ||
            r->holds[i].incarnation != p->told.holds[i].incarnation)
            return true;
        position |= r->holds[i].position != p->told.holds[i].position;
    }
    return position && p->now_ms >= p->registered_ms + HOLDS_MS;
}

uint64_t views_etcd_highest(const struct views_registration *r)
{
    uint64_t newest = r->incarnation;
    for (uint32_t i = 0; i < r->nholds; i++)
        if (r->holds[i].incarnation > newest)
            newest = r->holds[i].incarnation;
    return newest;
}

static void keep_registered(struct views_etcd *p)
{
    struct views_registration r;
    if (!p->synced || p->superseded)
        return;
    if (!p->lease) {
        if (!p->granting && p->now_ms >= p->grant_due_ms) {
            p->granting = true;
            etcd_post(p->etcd, "lease/grant", json_pack("{s:o}", "TTL", number_of(p->lease_s)),
                      tag_of(TAG_GRANT, 0, 0));
        }
        return;
    }
    if (!p->keeping && p->now_ms >= p->keep_due_ms) {
        p->keeping = true;
        etcd_post(p->etcd, "lease/keepalive", json_pack("{s:o}", "ID", number_of(p->lease)),
                  tag_of(TAG_KEEP, 0, 0));
    }
    gather_holds(p, &r);
    bool due = p->register_due_ms && p->now_ms >= p->register_due_ms;
    if (p->registering || !(due || worth_telling(p, &r)))
        return;
    char name[KEY_MAX_BYTES];
    char *text = views_json_of_registration(&r, p->site.names[p->site.node - 1], p->site.listen);
    if (!text)
        return;
    key_name(p, "nodes", p->site.node, name);
    p->register_due_ms = 0;
    p->registering = true;
    p->told = r;
    json_t *puts = json_pack("[{s:{s:o, s:o, s:o}}]", "request_put", "key", etcd_text(name), "value", etcd_text(text),
                             "lease", number_of(p->lease));
    free(text);
    uint64_t newest = views_etcd_highest(&r);
    if (newest != p->told_newest) { /* outlives the lease: a later process has to be above it (views_etcd_said.c) */
        char digits[24];
        snprintf(digits, sizeof digits, "%lu", newest);
        key_name(p, "incarnations", p->site.node, name);
        json_array_append_new(puts, json_pack("{s:{s:o, s:o}}", "request_put", "key", etcd_text(name), "value",
                                              etcd_text(digits)));
        p->telling_newest = newest;
    }
    etcd_post(p->etcd, "kv/txn", json_pack("{s:o}", "success", puts), tag_of(TAG_REGISTER, 0, 0));
}

/* --- ... which site this is ------------------------------------------------------------------------------------- */

/* Only where there is none; if etcd forgot it, the one that was known. */
static void keep_named(struct views_etcd *p)
{
    char name[KEY_MAX_BYTES];
    uint64_t drawn[2];
    if (!p->synced || p->site_stands || p->site_asked || p->now_ms < p->site_due_ms)
        return;
    if (!p->site_id[0] && getrandom(drawn, sizeof drawn, 0) != sizeof drawn)
        return;
    if (!p->site_id[0])
        snprintf(p->site_id, sizeof p->site_id, "%016lx%016lx", drawn[0], drawn[1]);
    snprintf(name, sizeof name, "%s/site", p->prefix);
    p->site_asked = true;
    etcd_post(p->etcd, "kv/txn", json_pack(
        "{s:[{s:o, s:s, s:s, s:s}], s:[{s:{s:o, s:o}}]}",
        "compare", "key", etcd_text(name), "target", "CREATE", "result", "EQUAL", "create_revision", "0",
        "success", "request_put", "key", etcd_text(name), "value", etcd_text(p->site_id)), tag_of(TAG_SITE, 0, 0));
}

/* --- ... reading and watching ---------------------------------------------------------------------------------- */

static void keep_reading(struct views_etcd *p)
{
    if (p->rewatch) {
        etcd_unwatch(p->etcd);
        p->rewatch = false;
    }
    if (!p->reading && p->now_ms >= p->read_due_ms) {
        p->reading = true;
        etcd_post(p->etcd, "kv/range", range_of(p), tag_of(TAG_READ, 0, 0));
    }
    if (p->synced && !p->reading && !etcd_watches(p->etcd) && p->now_ms >= p->watch_due_ms) {
        json_t *what = range_of(p);
        json_object_set_new(what, "start_revision", number_of(p->read_revision + 1));
        etcd_watch(p->etcd, json_pack("{s:o}", "create_request", what));
    }
}

/* --- ... proposals, first views, accepted losses ------------------------------------------------------------------ */

static void take_wishes(struct views_etcd *p)
{
    for (uint16_t i = 0; i < p->site.shards; i++) {
        struct box *b = &p->boxes[i];
        struct key *k = &p->keys[i];
        pthread_mutex_lock(&b->lock);
        bool wished = b->wished;
        uint64_t old_epoch = b->old_epoch;
        struct shard_view want = b->want;
        b->wished = false;
        pthread_mutex_unlock(&b->lock);
        if (!wished)
            continue;
        if (!k->proposal.open)
            k->proposed_ms = p->now_ms;
        proposal_open(&k->proposal, old_epoch, &want, p->retry_ms, p->now_ms);
        views_etcd_tell(p, i, PROPOSAL_STANDS);
    }
}

static void send_proposal(struct views_etcd *p, uint16_t shard)
{
    struct key *k = &p->keys[shard];
    enum proposal_request request = proposal_due(&k->proposal, p->now_ms);
    if (request == PROPOSAL_READ)
        post_ask(p, shard, k->proposal.old_epoch);
    if (request != PROPOSAL_SWAP)
        return;
    if (k->present && !k->bad[0] && k->view.epoch == k->proposal.old_epoch) {
        post_swap(p, shard, k->view_revision, &k->proposal.want, TAG_SWAP);
        return;
    }
    p->read_due_ms = p->now_ms; /* we are behind, or the key is broken */
    views_etcd_tell(p, shard, PROPOSAL_UNKNOWN);
}

static void swap(struct views_etcd *p, uint16_t shard, const struct shard_view *want)
{
    struct key *k = &p->keys[shard];
    k->swapping = true;
    k->swap = *want;
    k->again_ms = p->now_ms + p->retry_ms;
    post_swap(p, shard, k->present ? k->view_revision : 0, want, TAG_CREATE);
}

/* What an operator accepted, now or when this process was started. */
static bool accepted(struct views_etcd *p, uint16_t shard, const struct views_node *rows,
                     const struct msg_node *self, struct shard_view *want)
{
    struct box *b = &p->boxes[shard];
    struct key *k = &p->keys[shard];
    char why[240];
    pthread_mutex_lock(&b->lock);
    bool now = b->accepted;
    *want = b->accept;
    b->accepted = false;
    pthread_mutex_unlock(&b->lock);
    if (now)
        return want->epoch > k->view.epoch;
    if (!k->accept_at_start || !k->view.epoch)
        return false;
    if (!k->accept_epoch) {
        k->accept_epoch = k->view.epoch;
        k->accept_until_ms = p->now_ms + ACCEPT_LEASES * 1000ull * p->lease_s;
    }
    k->accept_at_start = k->view.epoch == k->accept_epoch && p->now_ms < k->accept_until_ms;
    return k->accept_at_start && rules_lost(&k->view, rows) &&
           !rules_accept_loss(&p->site, shard, &k->view, self, rows, NULL, 0, want, why,
                              sizeof why);
}

static void shard_turn(struct views_etcd *p, uint16_t shard, char *why, uint32_t why_len)
{
    struct key *k = &p->keys[shard];
    struct box *b = &p->boxes[shard];
    struct views_node rows[NODES_MAX];
    struct shard_view want;
    why[0] = 0;
    send_proposal(p, shard);
    rows_of(p, shard, rows);
    pthread_mutex_lock(&b->lock);
    struct msg_node self = b->self;
    pthread_mutex_unlock(&b->lock);
    if (k->bad[0])
        snprintf(why, why_len, "the view of shard %u in etcd cannot be used: %s; write it again under "
                 "%.100s/shards/%u", shard, k->bad, p->prefix, shard);
    if (!self.node || !p->synced || k->swapping || p->now_ms < k->again_ms || k->bad[0])
        return;
    if (accepted(p, shard, rows, &self, &want)) {
        k->accept_at_start = false;
        swap(p, shard, &want);
    } else if (!k->present && k->view.epoch) {
        snprintf(why, why_len, "etcd forgot the view of shard %u; write it again under %.100s/shards/%u",
                 shard, p->prefix, shard);
    } else if (!k->present && rows[p->site.node - 1].alive &&
               rules_first_view(&p->site, shard, rows, p->now_ms - k->absent_ms, &want, why,
                                why_len)) {
        swap(p, shard, &want);
    }
}

/* --- ... saying what each shard may do ------------------------------------------------------------------------------- */

static void say_standing(struct views_etcd *p, uint16_t shard, const char *why)
{
    struct box *b = &p->boxes[shard];
    struct key *k = &p->keys[shard];
    struct views_node rows[NODES_MAX];
    char text[sizeof b->why];
    rows_of(p, shard, rows);
    pthread_mutex_lock(&b->lock);
    enum views_standing s =
        rules_standing(&p->site, shard, &k->view, &b->self, rows, text, sizeof text);
    if (s == VIEWS_WAITING && !p->synced)
        snprintf(text, sizeof text, "shard %u waits for etcd at %.60s%s%.120s", shard,
                 etcd_endpoint(p->etcd), p->why[0] ? ": " : "", p->why);
    else if (*why)
        snprintf(text, sizeof text, "%s", why);
    bool changed = s != b->standing || strcmp(text, b->why);
    b->standing = s;
    memcpy(b->why, text, sizeof text);
    if (changed && b->wake_fd >= 0)
        eventfd_write(b->wake_fd, 1);
    pthread_mutex_unlock(&b->lock);
    if (s == VIEWS_LOST && changed)
        log_error("LOST", "shard=%u %s", shard, text);
}

static void say_service(struct views_etcd *p)
{
    struct views_service s = {.kind = "etcd", .requests = etcd_requests(p->etcd),
                              .failures = etcd_failures(p->etcd)};
    uint64_t since = etcd_away_since_ms(p->etcd), oldest = 0;
    for (uint16_t i = 0; i < p->site.shards; i++) {
        const struct key *k = &p->keys[i];
        s.proposals += k->proposal.open;
        if (k->proposal.open && (!oldest || k->proposed_ms < oldest))
            oldest = k->proposed_ms;
    }
    s.proposal_ms = oldest ? p->now_ms - oldest : 0;
    if (since)
        s.away_ms = p->now_ms > since ? p->now_ms - since : 1;
    if (p->superseded)
        snprintf(s.trouble, sizeof s.trouble, "another process is registered as %s since; stop one of "
                 "them", p->site.names[p->site.node - 1]);
    else if (since)
        snprintf(s.trouble, sizeof s.trouble, "etcd does not answer: %.120s", p->why);
    if (p->site_stands)
        memcpy(s.site, p->site_id, sizeof s.site);
    pthread_mutex_lock(&p->lock);
    p->service = s;
    pthread_mutex_unlock(&p->lock);
}

/* --- the control thread ------------------------------------------------------------------------------------------------ */

static int wait_ms(const struct views_etcd *p)
{
    uint64_t next = p->now_ms + p->retry_ms;
    for (uint16_t i = 0; i < p->site.shards; i++)
        if (p->keys[i].proposal.open && proposal_next_ms(&p->keys[i].proposal) < next)
            next = proposal_next_ms(&p->keys[i].proposal);
    if (!p->reading && p->read_due_ms < next)
        next = p->read_due_ms;
    return next > p->now_ms ? (int)(next - p->now_ms) : 0;
}

static void *run(void *ctx)
{
    struct views_etcd *p = ctx;
    char why[240];
    while (!atomic_load_explicit(&p->stop, memory_order_acquire)) {
        p->now_ms = clock_ms();
        take_wishes(p);
        keep_registered(p);
        keep_named(p);
        keep_reading(p);
        for (uint16_t i = 0; i < p->site.shards; i++) {
            shard_turn(p, i, why, sizeof why);
            say_standing(p, i, why);
        }
        say_service(p);
        etcd_poll(p->etcd, wait_ms(p));
    }
    return NULL;
}

/* --- the interface (views.h) --------------------------------------------------------------------------------------------- */

/* What a loop says of itself before it asked for its incarnation is too old. */
static void set_self(struct box *b, const struct msg_node *self)
{
    b->self = *self;
    if (self->incarnation < b->least) {
        b->self.incarnation = b->least;
        b->raised = true;
    }
}

static void start(struct views *v, uint16_t shard, const struct msg_node *self, int wake_fd)
{
    struct box *b = &of(v)->boxes[shard];
    pthread_mutex_lock(&b->lock);
    set_self(b, self);
    b->wake_fd = wake_fd;
    eventfd_write(wake_fd, 1);
    pthread_mutex_unlock(&b->lock);
    etcd_wake(of(v)->etcd);
}

static void stop(struct views *v, uint16_t shard)
{
    struct box *b = &of(v)->boxes[shard];
    pthread_mutex_lock(&b->lock);
    b->wake_fd = -1;
    pthread_mutex_unlock(&b->lock);
}

static uint64_t incarnation(struct views *v, uint16_t shard)
{
    struct box *b = &of(v)->boxes[shard];
    pthread_mutex_lock(&b->lock);
    uint64_t now = b->raised ? b->self.incarnation : 0;
    b->raised = false;
    pthread_mutex_unlock(&b->lock);
    return now;
}

static void heard(struct views *v, uint16_t shard, const struct msg_node *replica, uint64_t held)
{
}

static void propose(struct views *v, uint16_t shard, uint64_t old_epoch,
                    const struct shard_view *want)
{
    struct box *b = &of(v)->boxes[shard];
    pthread_mutex_lock(&b->lock);
    b->wished = true;
    b->old_epoch = old_epoch;
    b->want = *want;
    b->want.epoch = old_epoch + 1;
    pthread_mutex_unlock(&b->lock);
    etcd_wake(of(v)->etcd);
}

static bool take(struct views *v, uint16_t shard, struct shard_view *out)
{
    struct box *b = &of(v)->boxes[shard];
    pthread_mutex_lock(&b->lock);
    bool news = b->view.epoch > b->taken && !b->raised;
    if (news) {
        *out = b->view;
        b->taken = out->epoch;
    }
    pthread_mutex_unlock(&b->lock);
    return news;
}

static enum views_standing standing(const struct views *v, uint16_t shard, char *why,
                                    uint32_t why_len)
{
    struct box *b = &of(v)->boxes[shard];
    pthread_mutex_lock(&b->lock);
    enum views_standing s = b->standing;
    if (why)
        snprintf(why, why_len, "%s", b->why);
    pthread_mutex_unlock(&b->lock);
    return s;
}

static void holds(struct views *v, uint16_t shard, const struct msg_node *self, uint64_t epoch,
                  uint64_t position)
{
    struct box *b = &of(v)->boxes[shard];
    pthread_mutex_lock(&b->lock);
    struct msg_node before = b->self;
    set_self(b, self);
    bool news = b->self.incarnation != before.incarnation || b->held_epoch != epoch;
    b->held_epoch = epoch;
    b->held_position = position;
    pthread_mutex_unlock(&b->lock);
    if (news)
        etcd_wake(of(v)->etcd);
}

static uint32_t primary(const struct views *v, uint16_t shard)
{
    struct box *b = &of(v)->boxes[shard];
    pthread_mutex_lock(&b->lock);
    uint32_t node = b->view.members[0].node;
    pthread_mutex_unlock(&b->lock);
    return node;
}

static bool node(const struct views *v, uint32_t number, uint16_t shard, struct views_node *out)
{
    struct views_node rows[NODES_MAX];
    if (number < 1 || number > of(v)->site.nodes)
        return false;
    rows_of(of(v), shard, rows);
    *out = rows[number - 1];
    return true;
}

static int accept_loss(struct views *v, uint16_t shard, const uint32_t *fenced, uint32_t nfenced,
                       char *why, uint32_t why_len)
{
    struct views_etcd *p = of(v);
    struct box *b = &p->boxes[shard];
    struct views_node rows[NODES_MAX];
    struct shard_view want;
    rows_of(p, shard, rows);
    pthread_mutex_lock(&b->lock);
    int rc = rules_accept_loss(&p->site, shard, &b->view, &b->self, rows, fenced, nfenced, &want,
                               why, why_len);
    if (!rc) {
        b->accepted = true;
        b->accept = want;
    }
    pthread_mutex_unlock(&b->lock);
    etcd_wake(p->etcd);
    return rc;
}

static void service(const struct views *v, struct views_service *out)
{
    struct views_etcd *p = of(v);
    pthread_mutex_lock(&p->lock);
    *out = p->service;
    pthread_mutex_unlock(&p->lock);
}

static void destroy(struct views *v)
{
    struct views_etcd *p = of(v);
    if (p->running) {
        atomic_store_explicit(&p->stop, true, memory_order_release);
        etcd_wake(p->etcd);
        pthread_join(p->thread, NULL);
    }
    etcd_destroy(p->etcd);
    for (int i = 0; i < SHARDS_MAX; i++)
        pthread_mutex_destroy(&p->boxes[i].lock);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static const struct views_ops etcd_ops = {start, stop, incarnation, heard, propose, take, standing, holds, primary,
                                          node, accept_loss, service, destroy};

/* --- life ------------------------------------------------------------------------------------------------------------------- */

static int start_thread(struct views_etcd *p)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&p->thread, NULL, run, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    p->running = !rc;
    return -rc;
}

static void set_up(struct views_etcd *p, const struct views_site *site, const char *prefix)
{
    uint64_t f = site->failure_timeout_ms;
    p->views = (struct views){.ops = &etcd_ops, .elects = true};
    p->site = *site;
    snprintf(p->prefix, sizeof p->prefix, "%s", prefix);
    p->retry_ms = clamp(f / 2, RETRY_MIN_MS, RETRY_MAX_MS);
    p->read_ms = clamp(2 * f, READ_MIN_MS, READ_MAX_MS);
    p->lease_s = clamp((10 * f + 999) / 1000, LEASE_MIN_S, 60);
    pthread_mutex_init(&p->lock, NULL);
    for (int i = 0; i < SHARDS_MAX; i++) {
        pthread_mutex_init(&p->boxes[i].lock, NULL);
        p->boxes[i].wake_fd = -1;
        p->boxes[i].standing = VIEWS_WAITING;
        snprintf(p->boxes[i].why, sizeof p->boxes[i].why, "shard %d waits for etcd", i);
        p->keys[i].accept_at_start = site->accept_loss;
    }
}

int views_etcd_create(struct views **out, const struct views_site *site,
                      const char *const *endpoints, uint32_t nendpoints,
                      const struct etcd_tls *tls, const char *prefix, char *err, uint32_t err_len)
{
    struct views_etcd *p = NULL;
    if (strlen(prefix) >= PREFIX_MAX) {
        snprintf(err, err_len, "etcd's prefix is longer than %d bytes", PREFIX_MAX - 1);
        return -EINVAL;
    }
    if (posix_memalign((void **)&p, 64, sizeof *p)) {
        snprintf(err, err_len, "out of memory");
        return -ENOMEM;
    }
    memset(p, 0, sizeof *p);
    set_up(p, site, prefix);
    p->config = (struct etcd_config){
        .endpoints = endpoints, .nendpoints = nendpoints, .tls = *tls, .ctx = p, .answered = views_etcd_answered,
        .watched = views_etcd_watched,
        .timeout_ms = clamp(2ull * site->failure_timeout_ms, REQUEST_MIN_MS, REQUEST_MAX_MS)};
    int rc = etcd_create(&p->etcd, &p->config, err, err_len);
    if (!rc && (rc = start_thread(p)))
        snprintf(err, err_len, "cannot start etcd's thread: %s", strerror(-rc));
    if (rc)
        destroy(&p->views);
    else
        *out = &p->views;
    return rc;
}
