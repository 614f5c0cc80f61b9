/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views in etcd (views_etcd.h): the logic; etcd.c speaks HTTP.
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
#include "statestore/server/views_etcd.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "common/log/log.h"
#include "statestore/core/proposal.h"
#include "statestore/server/etcd.h"
#include "statestore/server/views_json.h"
#include "statestore/server/views_rules.h"

enum {
    SHARDS_MAX = VIEWS_SHARDS_MAX, NODES_MAX = 16,
    PREFIX_MAX = 200, KEY_MAX_BYTES = PREFIX_MAX + 40,
    REQUEST_MIN_MS = 300, REQUEST_MAX_MS = 2000,
    RETRY_MIN_MS = 20, RETRY_MAX_MS = 500,
    READ_MIN_MS = 500, READ_MAX_MS = 5000,
    LEASE_MIN_S = 5,
    HOLDS_MS = 2000,          /* positions in the registration are at most so old */
    AWAY_LOG_MS = 30000,
    ACCEPT_LEASES = 4,
};

enum tag { TAG_READ = 1, TAG_GRANT, TAG_KEEP, TAG_REGISTER, TAG_SWAP, TAG_CREATE };
static uint32_t tag_of(enum tag t, uint32_t shard) { return (uint32_t)t << 8 | shard; }

struct box {                  /* between a shard's thread and the control thread */
    pthread_mutex_t lock;
    int wake_fd;              /* -1: not started */
    struct msg_node self;
    uint64_t held_epoch, held_position;
    bool wished, accepted;    /* something is in `want`, in `accept` */
    uint64_t old_epoch;
    struct shard_view want, accept;
    struct shard_view view;   /* the newest */
    uint64_t taken;           /* epoch */
    enum views_standing standing;
    char why[240];
} __attribute__((aligned(64)));

struct key {                  /* a shard's, as known */
    int64_t revision;         /* of its content, or of the moment it was not there */
    bool present;
    char bad[80];             /* its content is no view, because ...; `view` is an older one */
    struct shard_view view;   /* epoch 0: never seen */
    int64_t view_revision;    /* what a compare of `view` is on */
    struct proposal proposal;
    uint64_t proposed_ms;
    bool swapping;            /* a create or an accepted loss is under way */
    struct shard_view swap;
    uint64_t absent_ms, again_ms;
    bool accept_at_start;     /* said when this process was started, of the view found then, ... */
    uint64_t accept_epoch, accept_until_ms; /* ... for so long: registrations of the dead may still stand */
};

struct node {
    struct views_registration reg; /* of the last one seen; incarnation 0: none */
    bool alive;
    int64_t revision;
};

struct views_etcd {
    struct views views;
    struct views_site site;
    char prefix[PREFIX_MAX];
    struct etcd *etcd;
    struct etcd_config config;
    pthread_t thread;
    bool running;
    _Atomic bool stop;        /* partner: run */
    uint32_t retry_ms, read_ms;

    /* the control thread's */
    uint64_t now_ms;
    bool synced, reading, rewatch;
    int64_t read_revision, cluster;
    uint64_t read_due_ms, watch_due_ms;
    int64_t lease;
    uint32_t lease_s;
    bool granting, keeping, registering, superseded;
    uint64_t grant_due_ms, keep_due_ms, register_due_ms, registered_ms;
    struct views_registration told;
    uint64_t away_logged_ms;
    char why[200];            /* what etcd said last when it failed */
    struct key keys[SHARDS_MAX];

    pthread_mutex_t lock;     /* of the two below */
    struct node nodes[NODES_MAX];
    struct views_service service;
    struct box boxes[SHARDS_MAX];
};

static struct views_etcd *of(const struct views *v)
{
    return (struct views_etcd *)v;
}

static uint64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
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

static void key_name(const struct views_etcd *p, const char *kind, uint32_t number,
                     char name[KEY_MAX_BYTES])
{
    snprintf(name, KEY_MAX_BYTES, "%s/%s/%u", p->prefix, kind, number);
}

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
    etcd_post(p->etcd, "kv/txn", body, tag_of(tag, shard));
}

/* --- what etcd says of a key --------------------------------------------------------------------------- */

static void deliver(struct views_etcd *p, uint16_t shard)
{
    struct box *b = &p->boxes[shard];
    const struct shard_view *v = &p->keys[shard].view;
    pthread_mutex_lock(&b->lock);
    if (v->epoch > b->view.epoch) {
        rules_log_change(shard, &b->view, v);
        b->view = *v;
        if (b->wake_fd >= 0)
            eventfd_write(b->wake_fd, 1);
    }
    pthread_mutex_unlock(&b->lock);
}

static void tell_proposal(struct views_etcd *p, uint16_t shard, enum proposal_answer answer)
{
    struct key *k = &p->keys[shard];
    struct shard_view outcome;
    if (k->proposal.open)
        proposal_answered(&k->proposal, answer, k->view.epoch ? &k->view : NULL, p->now_ms,
                          &outcome); /* a known outcome is in the box already */
}

static void take_view(struct views_etcd *p, uint16_t shard, int64_t revision,
                      const struct shard_view *view)
{
    struct key *k = &p->keys[shard];
    k->revision = revision;
    k->present = true;
    k->bad[0] = 0;
    if (view->epoch < k->view.epoch) {
        snprintf(k->bad, sizeof k->bad, "it is the old view %lu, view %lu was seen", view->epoch,
                 k->view.epoch);
        log_error("view went back", "shard=%u epoch=%lu seen=%lu was etcd restored from a backup?",
                  shard, view->epoch, k->view.epoch);
        return;
    }
    k->view = *view;
    k->view_revision = revision;
    deliver(p, shard);
}

static void on_shard_text(struct views_etcd *p, uint16_t shard, int64_t revision, const char *text,
                          int bytes)
{
    struct key *k = &p->keys[shard];
    struct shard_view view;
    if (revision <= k->revision)
        return;
    const char *wrong = bytes < 0 ? "its value is no base64, or too long"
                                  : views_json_view(text, (uint32_t)bytes, p->site.nodes, &view);
    if (!wrong) {
        take_view(p, shard, revision, &view);
        return;
    }
    k->revision = revision;
    k->present = true;
    snprintf(k->bad, sizeof k->bad, "%s", wrong);
    log_error("view cannot be read", "shard=%u revision=%ld why=\"%s\" nothing changes until it is "
              "mended", shard, revision, wrong);
}

static void on_shard_gone(struct views_etcd *p, uint16_t shard, int64_t revision)
{
    struct key *k = &p->keys[shard];
    if (revision <= k->revision || !k->present)
        return;
    k->present = false;
    k->revision = revision;
    k->absent_ms = p->now_ms;
    log_error("view is gone", "shard=%u epoch=%lu somebody deleted its key; nothing changes until it "
              "is restored", shard, k->view.epoch);
}

static void on_node_text(struct views_etcd *p, uint32_t number, int64_t revision, const char *text,
                         int bytes)
{
    struct node *n = &p->nodes[number - 1];
    struct views_registration reg;
    const char *wrong = bytes < 0 ? "its value is no base64, or too long"
                                  : views_json_registration(text, (uint32_t)bytes, &reg);
    if (revision <= n->revision)
        return;
    if (wrong) {
        log_warn("registration cannot be read", "node=%u why=\"%s\"", number, wrong);
        return;
    }
    pthread_mutex_lock(&p->lock);
    n->revision = revision;
    n->alive = true;
    if (reg.incarnation >= n->reg.incarnation) /* what was proven stays so */
        n->reg = reg;
    pthread_mutex_unlock(&p->lock);
    if (number != p->site.node)
        return;
    p->superseded = reg.incarnation > p->site.incarnation;
    if (reg.incarnation < p->site.incarnation)
        p->register_due_ms = p->now_ms;
}

static void on_node_gone(struct views_etcd *p, uint32_t number, int64_t revision)
{
    struct node *n = &p->nodes[number - 1];
    if (revision <= n->revision || !n->alive)
        return;
    pthread_mutex_lock(&p->lock);
    n->revision = revision;
    n->alive = false;
    pthread_mutex_unlock(&p->lock);
    log_info("registration lapsed", "node=%u name=%s which proves nothing", number,
             p->site.names[number - 1]);
    if (number == p->site.node)
        p->register_due_ms = p->now_ms;
}

/* "shards/3" -> its number; false: another key, or a number that the site has not. */
static bool numbered(const char *name, const char *kind, uint32_t least, uint32_t most,
                     uint32_t *out)
{
    size_t n = strlen(kind);
    char *end;
    if (strncmp(name, kind, n) || name[n] != '/' || name[n + 1] < '0' || name[n + 1] > '9')
        return false;
    unsigned long v = strtoul(name + n + 1, &end, 10);
    *out = (uint32_t)v;
    return !*end && v >= least && v <= most;
}

/* A key and its value, or that it was deleted. */
static void on_kv(struct views_etcd *p, const json_t *kv, bool gone)
{
    char name[KEY_MAX_BYTES], text[VIEWS_JSON_MAX + 1];
    size_t n = strlen(p->prefix);
    int64_t revision;
    uint32_t number;
    if (etcd_bytes(json_object_get(kv, "key"), name, sizeof name) < 0 ||
        strncmp(name, p->prefix, n) || name[n] != '/' ||
        !etcd_number(kv, "mod_revision", &revision) || revision <= 0)
        return;
    const json_t *value = json_object_get(kv, "value");
    int bytes = gone ? 0 : value ? etcd_bytes(value, text, sizeof text) : 0;
    if (numbered(name + n + 1, "shards", 0, p->site.shards - 1u, &number)) {
        if (gone)
            on_shard_gone(p, (uint16_t)number, revision);
        else
            on_shard_text(p, (uint16_t)number, revision, text, bytes);
        tell_proposal(p, (uint16_t)number, PROPOSAL_STANDS);
    } else if (numbered(name + n + 1, "nodes", 1, p->site.nodes, &number)) {
        if (gone)
            on_node_gone(p, number, revision);
        else
            on_node_text(p, number, revision, text, bytes);
    }
}

/* --- answers ------------------------------------------------------------------------------------------------ */

/* Revisions of another etcd mean nothing. */
static int64_t header_of(struct views_etcd *p, const json_t *answer)
{
    const json_t *h = json_object_get(answer, "header");
    const char *id = json_string_value(json_object_get(h, "cluster_id"));
    int64_t revision = 0, cluster = id ? (int64_t)strtoull(id, NULL, 10) : 0;
    if (!etcd_number(h, "revision", &revision) || revision < 0)
        revision = 0;
    if (cluster && p->cluster && cluster != p->cluster) {
        log_error("another etcd", "was it set up anew? views are taken from it only if they are newer");
        for (int i = 0; i < SHARDS_MAX; i++)
            p->keys[i].revision = 0;
        for (int i = 0; i < NODES_MAX; i++)
            p->nodes[i].revision = 0;
        p->lease = 0;
    }
    p->cluster = cluster ? cluster : p->cluster;
    return revision;
}

static bool is_listed(const json_t *kvs, const char *name)
{
    char key[KEY_MAX_BYTES];
    for (size_t i = 0; i < json_array_size(kvs); i++)
        if (etcd_bytes(json_object_get(json_array_get(kvs, i), "key"), key, sizeof key) >= 0 &&
            !strcmp(key, name))
            return true;
    return false;
}

static void on_read(struct views_etcd *p, const json_t *answer)
{
    int64_t revision = header_of(p, answer);
    const json_t *kvs = json_object_get(answer, "kvs");
    char name[KEY_MAX_BYTES];
    for (size_t i = 0; i < json_array_size(kvs); i++)
        on_kv(p, json_array_get(kvs, i), false);
    for (uint16_t i = 0; i < p->site.shards; i++) {
        key_name(p, "shards", i, name);
        if (!is_listed(kvs, name))
            on_shard_gone(p, i, revision);
    }
    for (uint32_t i = 1; i <= p->site.nodes; i++) {
        key_name(p, "nodes", i, name);
        if (!is_listed(kvs, name))
            on_node_gone(p, i, revision);
    }
    if (!p->synced)
        log_info("etcd answers", "endpoint=%s revision=%ld", etcd_endpoint(p->etcd), revision);
    for (uint16_t i = 0; i < p->site.shards; i++) {
        tell_proposal(p, i, PROPOSAL_STANDS);
        if (!p->keys[i].absent_ms)
            p->keys[i].absent_ms = p->now_ms;
    }
    p->synced = true;
    p->read_revision = revision;
    p->read_due_ms = p->now_ms + p->read_ms;
}

static void on_granted(struct views_etcd *p, const json_t *answer)
{
    if (!etcd_number(answer, "ID", &p->lease))
        p->lease = 0;
    p->keep_due_ms = p->now_ms + p->lease_s * 1000u / 3;
    p->register_due_ms = p->now_ms;
}

static void on_kept(struct views_etcd *p, const json_t *answer)
{
    const json_t *result = json_object_get(answer, "result");
    int64_t ttl;
    if (!etcd_number(result, "TTL", &ttl) || ttl <= 0)
        p->lease = 0; /* it lapsed: a new one, and a new registration */
    p->keep_due_ms = p->now_ms + p->lease_s * 1000u / 3;
    p->grant_due_ms = p->now_ms;
}

/* The answer of a compare-and-swap: what stands in the key now. */
static bool on_swapped(struct views_etcd *p, uint16_t shard, const json_t *answer,
                       const struct shard_view *want)
{
    struct key *k = &p->keys[shard];
    int64_t revision = header_of(p, answer);
    if (json_is_true(json_object_get(answer, "succeeded"))) {
        if (revision > k->revision)
            take_view(p, shard, revision, want);
        return true;
    }
    const json_t *range = json_object_get(
        json_array_get(json_object_get(answer, "responses"), 0), "response_range");
    const json_t *kv = json_array_get(json_object_get(range, "kvs"), 0);
    if (kv)
        on_kv(p, kv, false);
    else if (range)
        on_shard_gone(p, shard, revision);
    return false;
}

static void on_failed(struct views_etcd *p, enum tag tag, uint16_t shard, const char *why)
{
    uint64_t again = p->now_ms + p->retry_ms;
    snprintf(p->why, sizeof p->why, "%s", why);
    if (!p->away_logged_ms || p->now_ms >= p->away_logged_ms + AWAY_LOG_MS) {
        log_warn("etcd does not answer", "why=\"%s\" views stand; who needs a new one waits", why);
        p->away_logged_ms = p->now_ms;
    }
    switch (tag) {
    case TAG_READ:
        p->read_due_ms = again;
        p->rewatch = true; /* the watch may hang on the same end point */
        break;
    case TAG_GRANT: p->grant_due_ms = again; break;
    case TAG_KEEP: p->keep_due_ms = again; break;
    case TAG_REGISTER: p->register_due_ms = again; break;
    case TAG_SWAP:
        tell_proposal(p, shard, PROPOSAL_UNKNOWN);
        p->read_due_ms = p->now_ms;
        break;
    case TAG_CREATE:
        p->keys[shard].again_ms = again;
        p->read_due_ms = p->now_ms;
        break;
    }
}

static void answered(void *ctx, uint32_t number, const json_t *answer, const char *why)
{
    struct views_etcd *p = ctx;
    enum tag tag = number >> 8;
    uint16_t shard = number & 0xff;
    struct key *k = &p->keys[shard < SHARDS_MAX ? shard : 0];
    p->now_ms = clock_ms();
    p->reading &= tag != TAG_READ;
    p->granting &= tag != TAG_GRANT;
    p->keeping &= tag != TAG_KEEP;
    p->registering &= tag != TAG_REGISTER;
    k->swapping &= tag != TAG_CREATE;
    if (!answer) {
        on_failed(p, tag, shard, why);
        return;
    }
    if (p->away_logged_ms)
        log_info("etcd answers again", "endpoint=%s", etcd_endpoint(p->etcd));
    p->away_logged_ms = 0;
    switch (tag) {
    case TAG_READ: on_read(p, answer); break;
    case TAG_GRANT: on_granted(p, answer); break;
    case TAG_KEEP: on_kept(p, answer); break;
    case TAG_REGISTER:
        header_of(p, answer);
        p->registered_ms = p->now_ms;
        break;
    case TAG_SWAP:
        tell_proposal(p, shard, on_swapped(p, shard, answer, &k->proposal.want) ? PROPOSAL_SWAPPED
                                                                                : PROPOSAL_STANDS);
        tell_proposal(p, shard, PROPOSAL_UNKNOWN); /* if that decided nothing: again */
        break;
    case TAG_CREATE:
        on_swapped(p, shard, answer, &k->swap);
        tell_proposal(p, shard, PROPOSAL_STANDS);
        break;
    }
}

static void watched(void *ctx, const json_t *message, const char *why)
{
    struct views_etcd *p = ctx;
    const json_t *result = json_object_get(message, "result");
    const json_t *events = json_object_get(result, "events");
    p->now_ms = clock_ms();
    if (!message || json_is_true(json_object_get(result, "canceled")) || !result) {
        p->rewatch = true;
        p->read_due_ms = p->now_ms;
        p->watch_due_ms = p->now_ms + p->retry_ms;
        return;
    }
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *e = json_array_get(events, i);
        const char *type = json_string_value(json_object_get(e, "type"));
        on_kv(p, json_object_get(e, "kv"), type && !strcmp(type, "DELETE"));
    }
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

static void keep_registered(struct views_etcd *p)
{
    struct views_registration r;
    if (!p->synced || p->superseded)
        return;
    if (!p->lease) {
        if (!p->granting && p->now_ms >= p->grant_due_ms) {
            p->granting = true;
            etcd_post(p->etcd, "lease/grant", json_pack("{s:o}", "TTL", number_of(p->lease_s)),
                      tag_of(TAG_GRANT, 0));
        }
        return;
    }
    if (!p->keeping && p->now_ms >= p->keep_due_ms) {
        p->keeping = true;
        etcd_post(p->etcd, "lease/keepalive", json_pack("{s:o}", "ID", number_of(p->lease)),
                  tag_of(TAG_KEEP, 0));
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
    etcd_post(p->etcd, "kv/put", json_pack("{s:o, s:o, s:o}", "key", etcd_text(name), "value",
                                           etcd_text(text), "lease", number_of(p->lease)),
              tag_of(TAG_REGISTER, 0));
    free(text);
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
        etcd_post(p->etcd, "kv/range", range_of(p), tag_of(TAG_READ, 0));
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
        tell_proposal(p, i, PROPOSAL_STANDS);
    }
}

static void send_proposal(struct views_etcd *p, uint16_t shard)
{
    struct key *k = &p->keys[shard];
    if (!k->proposal.open || !proposal_due(&k->proposal, p->now_ms))
        return;
    if (k->present && !k->bad[0] && k->view.epoch == k->proposal.old_epoch) {
        post_swap(p, shard, k->view_revision, &k->proposal.want, TAG_SWAP);
        return;
    }
    p->read_due_ms = p->now_ms; /* we are behind, or the key is broken */
    tell_proposal(p, shard, PROPOSAL_UNKNOWN);
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

static void start(struct views *v, uint16_t shard, const struct msg_node *self, int wake_fd)
{
    struct box *b = &of(v)->boxes[shard];
    pthread_mutex_lock(&b->lock);
    b->self = *self;
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
    bool news = b->view.epoch > b->taken;
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
    bool news = b->self.incarnation != self->incarnation || b->held_epoch != epoch;
    b->self = *self;
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

static const struct views_ops etcd_ops = {start, stop, heard, propose, take, standing, holds, primary,
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
                      const char *const *endpoints, uint32_t nendpoints, const char *prefix,
                      char *err, uint32_t err_len)
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
        .endpoints = endpoints, .nendpoints = nendpoints, .ctx = p, .answered = answered,
        .watched = watched,
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
