/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What etcd answers and what its watch says (views_etcd_impl.h): the control thread's
 * knowledge of keys and registrations, and what becomes of requests that failed.
 *
 * Answers may overtake each other: of a key only a higher revision is news.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "common/log/log.h"
#include "statestore/server/views_etcd_impl.h"

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

void views_etcd_tell(struct views_etcd *p, uint16_t shard, enum proposal_answer answer)
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
    log_error("view cannot be read", "shard=%u revision=%ld cause=\"%s\" nothing changes until it is "
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
        log_warn("registration cannot be read", "node=%u cause=\"%s\"", number, wrong);
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

/* Some name of a site; what is none is not taken for one, and stands. */
static void on_site(struct views_etcd *p, const char *text, int bytes)
{
    p->site_stands = bytes > 0 && bytes < VIEWS_SITE_ID && strspn(text, "0123456789abcdef") == (size_t)bytes;
    if (p->site_stands)
        memcpy(p->site_id, text, (size_t)bytes + 1);
    else if (bytes)
        p->site_due_ms = UINT64_MAX;
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
        views_etcd_tell(p, (uint16_t)number, PROPOSAL_STANDS);
    } else if (numbered(name + n + 1, "nodes", 1, p->site.nodes, &number)) {
        if (gone)
            on_node_gone(p, number, revision);
        else
            on_node_text(p, number, revision, text, bytes);
    } else if (!strcmp(name + n + 1, "site")) {
        on_site(p, text, bytes);
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
        p->told_newest = 0;
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

/* --- which incarnation is a new one ------------------------------------------------------------------------- */

/* The highest of this node that a key tells; 0: none. */
static uint64_t told_by(const struct views_etcd *p, const json_t *kv)
{
    char name[KEY_MAX_BYTES], text[VIEWS_JSON_MAX + 1];
    const json_t *value = json_object_get(kv, "value");
    struct views_registration r;
    struct shard_view v;
    uint32_t number;
    size_t n = strlen(p->prefix);
    if (etcd_bytes(json_object_get(kv, "key"), name, sizeof name) < 0 || strncmp(name, p->prefix, n) || name[n] != '/')
        return 0;
    int bytes = value ? etcd_bytes(value, text, sizeof text) : 0;
    uint64_t newest = 0;
    if (bytes <= 0)
        return 0;
    if (numbered(name + n + 1, "incarnations", p->site.node, p->site.node, &number)) {
        newest = strtoull(text, NULL, 10);
    } else if (numbered(name + n + 1, "nodes", p->site.node, p->site.node, &number)) {
        newest = views_json_registration(text, (uint32_t)bytes, &r) ? 0 : views_etcd_highest(&r);
    } else if (numbered(name + n + 1, "shards", 0, SHARDS_MAX - 1, &number) &&
               !views_json_view(text, (uint32_t)bytes, p->site.nodes, &v)) {
        for (uint32_t i = 0; i < v.nmembers; i++)
            if (v.members[i].node == p->site.node && v.members[i].incarnation > newest)
                newest = v.members[i].incarnation;
    }
    return newest;
}

/* Above all that this node had, whatever the wall clock says; before anything else of the first answer
 * is heeded, so before any loop has a view. */
static void be_newest(struct views_etcd *p, const json_t *kvs)
{
    uint64_t newest = 0;
    for (size_t i = 0; i < json_array_size(kvs); i++) {
        uint64_t told = told_by(p, json_array_get(kvs, i));
        newest = told > newest ? told : newest;
    }
    if (newest >= p->site.incarnation) {
        log_warn("the wall clock was set back", "by_ms=%lu an earlier process of this node began later by it",
                 (newest - p->site.incarnation) / 1000000);
        p->site.incarnation = newest + INCARNATION_STEP;
    }
    for (uint16_t i = 0; i < p->site.shards; i++) {
        struct box *b = &p->boxes[i];
        pthread_mutex_lock(&b->lock);
        b->least = p->site.incarnation;
        b->raised = b->self.node && b->self.incarnation < b->least;
        if (b->raised)
            b->self.incarnation = b->least;
        if (b->raised && b->wake_fd >= 0)
            eventfd_write(b->wake_fd, 1);
        pthread_mutex_unlock(&b->lock);
    }
}

static void on_read(struct views_etcd *p, const json_t *answer)
{
    int64_t revision = header_of(p, answer);
    const json_t *kvs = json_object_get(answer, "kvs");
    char name[KEY_MAX_BYTES];
    if (!p->synced)
        be_newest(p, kvs);
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
    snprintf(name, sizeof name, "%s/site", p->prefix);
    p->site_stands &= is_listed(kvs, name);
    if (!p->synced)
        log_info("etcd answers", "endpoint=%s revision=%ld", etcd_endpoint(p->etcd), revision);
    for (uint16_t i = 0; i < p->site.shards; i++) {
        views_etcd_tell(p, i, PROPOSAL_STANDS);
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

/* The answer of a compare-and-swap: what stands in the key now. True: it was done; `want`
 * NULL: what that was is not known any more. */
static bool on_swapped(struct views_etcd *p, uint16_t shard, const json_t *answer,
                       const struct shard_view *want)
{
    struct key *k = &p->keys[shard];
    int64_t revision = header_of(p, answer);
    if (json_is_true(json_object_get(answer, "succeeded"))) {
        if (revision > k->revision && want)
            take_view(p, shard, revision, want);
        else if (revision > k->revision)
            p->read_due_ms = p->now_ms;
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

/* The one key, read before it is to be replaced. */
static void on_asked(struct views_etcd *p, uint16_t shard, const json_t *answer)
{
    int64_t revision = header_of(p, answer);
    const json_t *kv = json_array_get(json_object_get(answer, "kvs"), 0);
    if (kv)
        on_kv(p, kv, false);
    else
        on_shard_gone(p, shard, revision);
    views_etcd_tell(p, shard, PROPOSAL_STANDS);
}

static void on_failed(struct views_etcd *p, enum tag tag, uint16_t shard, bool open,
                      const char *why)
{
    uint64_t again = p->now_ms + p->retry_ms;
    snprintf(p->why, sizeof p->why, "%s", why);
    if (!p->away_logged_ms || p->now_ms >= p->away_logged_ms + AWAY_LOG_MS) {
        log_warn("etcd does not answer", "cause=\"%s\" %s", why,
                 p->synced ? "views stand; who needs a new one waits"
                           : "this node waits for it: until then it is a member of nothing");
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
    case TAG_ASK:
    case TAG_SWAP:
        if (open)
            views_etcd_tell(p, shard, PROPOSAL_UNKNOWN);
        p->read_due_ms = p->now_ms;
        break;
    case TAG_CREATE:
        p->keys[shard].again_ms = again;
        p->read_due_ms = p->now_ms;
        break;
    case TAG_SITE: p->site_due_ms = again; break;
    }
}

void views_etcd_answered(void *ctx, uint32_t number, const json_t *answer, const char *why)
{
    struct views_etcd *p = ctx;
    enum tag tag = number >> 24;
    uint16_t shard = number & 0xff;
    struct key *k = &p->keys[shard < SHARDS_MAX ? shard : 0];
    bool done, open = k->proposal.open && (k->proposal.old_epoch & 0xffff) == (number >> 8 & 0xffff);
    p->now_ms = clock_ms();
    p->reading &= tag != TAG_READ;
    p->granting &= tag != TAG_GRANT;
    p->keeping &= tag != TAG_KEEP;
    p->registering &= tag != TAG_REGISTER;
    k->swapping &= tag != TAG_CREATE;
    p->site_asked &= tag != TAG_SITE;
    if (!answer) {
        on_failed(p, tag, shard, (tag != TAG_SWAP && tag != TAG_ASK) || open, why);
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
        p->told_newest = p->telling_newest;
        break;
    case TAG_ASK:
        on_asked(p, shard, answer);
        if (open)
            proposal_was_read(&k->proposal, p->now_ms);
        break;
    case TAG_SWAP:
        done = on_swapped(p, shard, answer, open ? &k->proposal.want : NULL);
        views_etcd_tell(p, shard, done && open ? PROPOSAL_SWAPPED : PROPOSAL_STANDS);
        if (open)
            views_etcd_tell(p, shard, PROPOSAL_UNKNOWN); /* if that decided nothing: again */
        break;
    case TAG_CREATE:
        on_swapped(p, shard, answer, &k->swap);
        views_etcd_tell(p, shard, PROPOSAL_STANDS);
        break;
    case TAG_SITE:
        p->read_due_ms = p->now_ms; /* what stands there, ours or another's */
        p->site_due_ms = p->now_ms + p->read_ms;
        break;
    }
}

void views_etcd_watched(void *ctx, const json_t *message, const char *why)
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
