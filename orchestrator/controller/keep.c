/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Keeping in etcd, and what both ways of keeping share (keep.h).
 *
 * The thread owns all but what stands under `lock`. A turn: lease -> read, watch -> claim the
 * lead -> the change that is wished -> wait. Callbacks of etcd's client set what is known; the turn
 * acts on it, as in the store's views.
 */
#include "orchestrator/controller/keep.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log/log.h"
#include "orchestrator/controller/keep_impl.h"

enum {
    LEASE_S = 3,
    RETRY_MS = 300,
    READ_MS = 2000,
    REQUEST_MS = 2000,
    VALUE_BYTES = 2 * 1024 * 1024, /* a text of 256 KiB, escaped as badly as can be */
};

enum tag { TAG_GRANT = 1, TAG_KEEP, TAG_READ, TAG_CLAIM, TAG_CREATE, TAG_SWAP };

uint64_t keep_clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- what the thread tells ----------------------------------------------------------------------- */

void keep_set_role(struct keep *k, enum keep_role role)
{
    pthread_mutex_lock(&k->lock);
    bool news = k->status.role != role && k->status.role != KEEP_LOST;
    if (news)
        k->status.role = role;
    pthread_mutex_unlock(&k->lock);
    if (news)
        k->config.wake(k->config.ctx);
}

/* What is kept now; `text` need not end in NUL. */
void keep_set_desired(struct keep *k, const char *text, size_t bytes)
{
    struct orch_desired *d = NULL;
    char err[700] = "it is no JSON";
    json_t *o = json_loadb(text, bytes, 0, NULL);
    int rc = o ? desired_from_json(&d, o, err, sizeof err) : -EINVAL;
    json_decref(o);
    if (rc) {
        log_error("the kept state cannot be read", "where=%s why=\"%s\" nothing changes until it is "
                  "mended or deleted", k->where, err);
        return;
    }
    free(k->known);
    k->known = strndup(text, bytes);
    pthread_mutex_lock(&k->lock);
    desired_free(k->fresh);
    k->fresh = d;
    pthread_mutex_unlock(&k->lock);
    k->config.wake(k->config.ctx);
}

void keep_set_swapped(struct keep *k, int rc, const char *why)
{
    pthread_mutex_lock(&k->lock);
    k->swap_done = true;
    k->swap_rc = rc;
    snprintf(k->swap_why, sizeof k->swap_why, "%s", why);
    pthread_mutex_unlock(&k->lock);
    k->config.wake(k->config.ctx);
}

/* The change that is wished, taken; NULL: none. */
json_t *keep_wish(struct keep *k)
{
    pthread_mutex_lock(&k->lock);
    json_t *wish = k->wish;
    k->wish = NULL;
    pthread_mutex_unlock(&k->lock);
    return wish;
}

/* --- etcd: requests -------------------------------------------------------------------------------- */

static json_t *number_of(int64_t n)
{
    char text[24];
    snprintf(text, sizeof text, "%ld", n);
    return json_string(text);
}

static json_t *key_of(const struct keep *k, const char *name)
{
    char key[300];
    snprintf(key, sizeof key, "%s.controller/%s", k->prefix, name);
    return etcd_text(key);
}

/* Ours and the stores': '.' is before '/', '0' behind it. */
static json_t *range_of(const struct keep *k)
{
    char to[300];
    snprintf(to, sizeof to, "%s0", k->prefix);
    return json_pack("{s:o, s:o}", "key", key_of(k, ""), "range_end", etcd_text(to));
}

static json_t *if_made(const struct keep *k, const char *name, int64_t create_revision)
{
    return json_pack("{s:o, s:s, s:s, s:o}", "key", key_of(k, name), "target", "CREATE", "result", "EQUAL",
                     "create_revision", number_of(create_revision));
}

static json_t *put_of(const struct keep *k, const char *name, const char *value, int64_t lease)
{
    return json_pack("{s:{s:o, s:o, s:o}}", "request_put", "key", key_of(k, name), "value", etcd_text(value),
                     "lease", number_of(lease));
}

static void post(struct keep *k, const char *path, json_t *body, enum tag tag)
{
    k->asked |= 1u << tag;
    k->asked_ms[tag] = keep_clock_ms();
    etcd_post(k->etcd, path, body, tag);
}

static bool asked(const struct keep *k, enum tag tag)
{
    return k->asked >> tag & 1;
}

/* Made only by the leader: its id is compared with it. */
static void post_desired(struct keep *k, json_t *condition, const char *text, enum tag tag)
{
    json_t *leads = json_pack("{s:o, s:s, s:s, s:o}", "key", key_of(k, "leader"), "target", "VALUE",
                              "result", "EQUAL", "value", etcd_text(k->config.id));
    post(k, "kv/txn", json_pack("{s:[o, o], s:[o]}", "compare", condition, leads, "success",
                                put_of(k, "desired", text, 0)), tag);
}

/* --- etcd: what it says ------------------------------------------------------------------------------ */

static void on_view(struct keep *k, uint32_t shard, int64_t revision, const char *text, size_t bytes)
{
    if (shard >= ORCH_SHARDS || revision <= k->view_revision[shard] || bytes >= sizeof k->views[0].text)
        return;
    k->view_revision[shard] = revision;
    pthread_mutex_lock(&k->lock);
    if (k->nviews < KEEP_VIEWS) {
        struct keep_view *v = &k->views[k->nviews++];
        v->shard = shard;
        memcpy(v->text, text, bytes);
        v->text[bytes] = 0;
    }
    pthread_mutex_unlock(&k->lock);
    k->config.wake(k->config.ctx);
}

static void on_leader(struct keep *k, int64_t revision, const char *id)
{
    if (revision <= k->leader_revision)
        return;
    k->leader_revision = revision;
    snprintf(k->leader, sizeof k->leader, "%s", id);
    pthread_mutex_lock(&k->lock);
    snprintf(k->status.leader, sizeof k->status.leader, "%s", id);
    enum keep_role role = k->status.role;
    pthread_mutex_unlock(&k->lock);
    if (*id && strcmp(id, k->config.id) && role == KEEP_ACTIVE)
        keep_set_role(k, KEEP_LOST);
}

static void on_kv(struct keep *k, const json_t *kv, bool gone)
{
    char key[300], *rest = key + strlen(k->prefix);
    int64_t revision;
    if (etcd_bytes(json_object_get(kv, "key"), key, sizeof key) < (int)strlen(k->prefix) ||
        !etcd_number(kv, "mod_revision", &revision))
        return;
    const json_t *value = json_object_get(kv, "value");
    int bytes = gone || !value ? 0 : etcd_bytes(value, k->value, VALUE_BYTES);
    if (bytes < 0)
        return;
    k->value[bytes] = 0;
    if (!strcmp(rest, ".controller/leader")) {
        on_leader(k, revision, k->value);
    } else if (!strcmp(rest, ".controller/desired")) {
        if (revision <= k->desired_revision)
            return;
        k->desired_revision = revision;
        k->desired_there = !gone;
        if (!gone)
            keep_set_desired(k, k->value, (size_t)bytes);
    } else if (!strncmp(rest, "/shards/", 8) && !gone) {
        on_view(k, (uint32_t)strtoul(rest + 8, NULL, 10), revision, k->value, (size_t)bytes);
    } else if (!strcmp(rest, "/site") && !gone && (size_t)bytes < sizeof k->status.site) {
        pthread_mutex_lock(&k->lock);
        memcpy(k->status.site, k->value, (size_t)bytes + 1);
        pthread_mutex_unlock(&k->lock);
    }
}

/* Set up anew, its revisions begin again: what is there is read as if for the first time, and what is
 * not there is written again from what was known last. */
static void look_at_cluster(struct keep *k, const json_t *header)
{
    const char *id = json_string_value(json_object_get(header, "cluster_id"));
    if (!id || !strcmp(id, k->cluster))
        return;
    if (*k->cluster) {
        log_error("another etcd", "was it set up anew? the desired state is written to it as it was");
        k->leader_revision = k->desired_revision = k->lease = 0;
        memset(k->view_revision, 0, sizeof k->view_revision);
        k->desired_there = false;
        k->leader[0] = 0;
        k->rewatch = true;
    }
    snprintf(k->cluster, sizeof k->cluster, "%s", id);
}

static void on_read(struct keep *k, const json_t *answer)
{
    const json_t *kvs = json_object_get(answer, "kvs"), *header = json_object_get(answer, "header");
    bool leader = false, desired = false;
    char key[300];
    int64_t revision = 0;
    etcd_number(header, "revision", &revision);
    look_at_cluster(k, header);
    for (size_t i = 0; i < json_array_size(kvs); i++) {
        const json_t *kv = json_array_get(kvs, i);
        on_kv(k, kv, false);
        if (etcd_bytes(json_object_get(kv, "key"), key, sizeof key) < 0)
            continue;
        leader |= !strcmp(key + strlen(k->prefix), ".controller/leader");
        desired |= !strcmp(key + strlen(k->prefix), ".controller/desired");
    }
    if (!leader)
        on_leader(k, revision, "");
    if (!desired && revision > k->desired_revision) {
        k->desired_revision = revision;
        k->desired_there = false;
    }
    k->synced = true;
    k->read_revision = revision;
    k->read_due_ms = k->now_ms + READ_MS;
}

static void on_kept(struct keep *k, const json_t *answer)
{
    int64_t ttl = 0;
    if (!etcd_number(json_object_get(answer, "result"), "TTL", &ttl) || ttl <= 0) {
        k->lease = 0; /* it lapsed */
        k->read_due_ms = k->now_ms;
    } else {
        k->lease_until_ms = k->keep_sent_ms + 1000u * LEASE_S;
    }
    k->keep_due_ms = k->now_ms + 1000u * LEASE_S / 3;
}

/* What was put has the answer's revision. A refusal is told after what stands was read, so that who
 * asks again knows it. */
static void on_swapped(struct keep *k, const json_t *answer, bool done)
{
    int64_t revision = 0;
    etcd_number(json_object_get(answer, "header"), "revision", &revision);
    if (done) {
        if (revision > k->desired_revision) {
            k->desired_revision = revision;
            free(k->known);
            k->known = k->swap_text;
            k->swap_text = NULL;
        }
        keep_set_swapped(k, 0, "");
    } else {
        k->read_due_ms = k->now_ms;
        k->swap_settles = true;
    }
}

static void on_answer(struct keep *k, enum tag tag, const json_t *answer)
{
    bool done = json_is_true(json_object_get(answer, "succeeded"));
    switch (tag) {
    case TAG_GRANT:
        if (!etcd_number(answer, "ID", &k->lease))
            k->lease = 0;
        k->lease_until_ms = k->keep_sent_ms + 1000u * LEASE_S;
        k->keep_due_ms = k->now_ms + 1000u * LEASE_S / 3;
        break;
    case TAG_KEEP:
        on_kept(k, answer);
        break;
    case TAG_READ:
        on_read(k, answer);
        break;
    case TAG_CLAIM:
    case TAG_CREATE:
        k->read_due_ms = k->now_ms; /* what came of it stands there */
        break;
    case TAG_SWAP:
        on_swapped(k, answer, done);
        break;
    }
}

static void on_failure(struct keep *k, enum tag tag, const char *why)
{
    uint64_t again = k->now_ms + RETRY_MS;
    snprintf(k->why, sizeof k->why, "%s", why);
    if (tag == TAG_GRANT || tag == TAG_KEEP)
        k->keep_due_ms = again;
    if (tag == TAG_READ) {
        k->read_due_ms = again;
        k->rewatch = true;
    }
    if (tag == TAG_CLAIM || tag == TAG_CREATE)
        k->claim_due_ms = again;
    if (tag != TAG_SWAP)
        return;
    k->read_due_ms = k->now_ms;
    keep_set_swapped(k, -ETIMEDOUT, why);
}

static void answered(void *ctx, uint32_t number, const json_t *answer, const char *why)
{
    struct keep *k = ctx;
    k->now_ms = keep_clock_ms();
    k->asked &= ~(1u << number);
    if (k->tried_ms < k->asked_ms[number])
        k->tried_ms = k->asked_ms[number];
    if (answer) {
        k->why[0] = 0;
        on_answer(k, (enum tag)number, answer);
    } else {
        on_failure(k, (enum tag)number, why);
    }
}

static void watched(void *ctx, const json_t *message, const char *why)
{
    struct keep *k = ctx;
    const json_t *result = json_object_get(message, "result"), *events = json_object_get(result, "events");
    k->now_ms = keep_clock_ms();
    if (!message || !result || json_is_true(json_object_get(result, "canceled"))) {
        if (why)
            snprintf(k->why, sizeof k->why, "%s", why);
        k->rewatch = true;
        k->read_due_ms = k->watch_due_ms = k->now_ms + RETRY_MS;
        return;
    }
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *e = json_array_get(events, i);
        const char *type = json_string_value(json_object_get(e, "type"));
        on_kv(k, json_object_get(e, "kv"), type && !strcmp(type, "DELETE"));
    }
}

/* --- etcd: the turn ------------------------------------------------------------------------------------ */

static void keep_lease(struct keep *k)
{
    if (asked(k, TAG_GRANT) || asked(k, TAG_KEEP) || k->now_ms < k->keep_due_ms)
        return;
    k->keep_sent_ms = k->now_ms;
    if (!k->lease)
        post(k, "lease/grant", json_pack("{s:o}", "TTL", number_of(LEASE_S)), TAG_GRANT);
    else
        post(k, "lease/keepalive", json_pack("{s:o}", "ID", number_of(k->lease)), TAG_KEEP);
}

static void keep_reading(struct keep *k)
{
    if (k->rewatch)
        etcd_unwatch(k->etcd);
    k->rewatch = false;
    if (!asked(k, TAG_READ) && k->now_ms >= k->read_due_ms) {
        k->read_due_ms = k->now_ms + READ_MS;
        post(k, "kv/range", range_of(k), TAG_READ);
    }
    if (k->synced && !asked(k, TAG_READ) && !etcd_watches(k->etcd) && k->now_ms >= k->watch_due_ms) {
        json_t *what = range_of(k);
        json_object_set_new(what, "start_revision", number_of(k->read_revision + 1));
        etcd_watch(k->etcd, json_pack("{s:o}", "create_request", what));
    }
}

static char *first_state(const struct keep *k)
{
    struct orch_desired *d = NULL;
    char err[300];
    if (k->known)
        return strdup(k->known);
    if (desired_from_text(&d, k->config.file, k->config.text, err, sizeof err))
        return NULL;
    json_t *o = desired_to_json(d);
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    desired_free(d);
    return text;
}

static void keep_leading(struct keep *k)
{
    bool free_now = !*k->leader, ours = !strcmp(k->leader, k->config.id);
    if (!k->synced || !k->lease || asked(k, TAG_CLAIM) || asked(k, TAG_CREATE) ||
        k->now_ms < k->claim_due_ms)
        return;
    if (free_now) {
        k->claim_due_ms = k->now_ms + RETRY_MS;
        post(k, "kv/txn", json_pack("{s:[o], s:[o]}", "compare", if_made(k, "leader", 0), "success",
                                    put_of(k, "leader", k->config.id, k->lease)), TAG_CLAIM);
    } else if (ours && !k->desired_there) {
        char *text = first_state(k);
        k->claim_due_ms = k->now_ms + RETRY_MS;
        if (text)
            post_desired(k, if_made(k, "desired", 0), text, TAG_CREATE);
        free(text);
    } else if (ours) {
        keep_set_role(k, KEEP_ACTIVE);
    }
}

static void keep_swapping(struct keep *k)
{
    if (k->swap_settles && !asked(k, TAG_READ) && k->read_due_ms > k->now_ms) {
        k->swap_settles = false;
        keep_set_swapped(k, -EAGAIN, "another change came first");
    }
    if (asked(k, TAG_SWAP) || k->swap_settles || !k->desired_there)
        return;
    json_t *wish = keep_wish(k);
    char *text = wish ? json_dumps(wish, JSON_COMPACT) : NULL;
    if (text)
        post_desired(k, json_pack("{s:o, s:s, s:s, s:o}", "key", key_of(k, "desired"), "target", "MOD",
                                  "result", "EQUAL", "mod_revision", number_of(k->desired_revision)),
                     text, TAG_SWAP);
    else if (wish)
        keep_set_swapped(k, -ENOMEM, "out of memory");
    if (text) {
        free(k->swap_text);
        k->swap_text = text;
    }
    json_decref(wish);
}

static void say_status(struct keep *k)
{
    pthread_mutex_lock(&k->lock);
    struct keep_status *s = &k->status;
    bool was_away = s->away_since_ms, was_sure = k->said_sure;
    bool leads = s->role == KEEP_ACTIVE && k->lease && !strcmp(k->leader, k->config.id);
    s->sure_until_ms = leads ? k->lease_until_ms : 0;
    k->said_sure = k->now_ms < s->sure_until_ms;
    s->tried_ms = k->tried_ms;
    s->away_since_ms = etcd_away_since_ms(k->etcd);
    s->requests = etcd_requests(k->etcd);
    s->failures = etcd_failures(k->etcd);
    snprintf(s->endpoint, sizeof s->endpoint, "%s", etcd_endpoint(k->etcd));
    snprintf(s->why, sizeof s->why, "%s", k->why);
    bool news = was_away != (s->away_since_ms != 0) || was_sure != k->said_sure;
    pthread_mutex_unlock(&k->lock);
    if (news)
        k->config.wake(k->config.ctx);
}

static void run_etcd(struct keep *k)
{
    while (!atomic_load_explicit(&k->stop, memory_order_acquire)) {
        k->now_ms = keep_clock_ms();
        keep_lease(k);
        keep_reading(k);
        keep_leading(k);
        keep_swapping(k);
        say_status(k);
        etcd_poll(k->etcd, k->swap_settles ? 5 : 100);
    }
    if (k->lease && !strcmp(k->leader, k->config.id)) { /* so that another need not wait */
        etcd_post(k->etcd, "lease/revoke", json_pack("{s:o}", "ID", number_of(k->lease)), TAG_KEEP);
        k->asked |= 1u << TAG_KEEP;
        for (int i = 0; i < 10 && asked(k, TAG_KEEP); i++)
            etcd_poll(k->etcd, 50);
    }
}

/* --- life -------------------------------------------------------------------------------------------------- */

static void *run(void *ctx)
{
    struct keep *k = ctx;
    if (k->etcd)
        run_etcd(k);
    else
        keep_run_file(k);
    return NULL;
}

/* As the end points: the site may go. */
static struct etcd_tls tls_of(struct keep *k, const struct site *site)
{
    const char *from[] = {site->store.etcd_ca, site->store.etcd_cert, site->store.etcd_key};
    for (int i = 0; i < 3; i++)
        k->tls[i] = from[i] ? strdup(from[i]) : NULL;
    return (struct etcd_tls){k->tls[0], k->tls[1], k->tls[2]};
}

static int start_etcd(struct keep *k, const struct site *site, char *err, uint32_t err_len)
{
    for (unsigned i = 0; i < site->store.etcd_count; i++)
        k->endpoints[i] = strdup(site->store.etcd[i]);
    struct etcd_config c = {.endpoints = (const char *const *)k->endpoints,
                            .nendpoints = site->store.etcd_count, .tls = tls_of(k, site), .timeout_ms = REQUEST_MS, .ctx = k,
                            .answered = answered, .watched = watched};
    snprintf(k->prefix, sizeof k->prefix, "%s", site->store.etcd_prefix);
    snprintf(k->where, sizeof k->where, "etcd:%s.controller/desired", k->prefix);
    k->value = malloc(VALUE_BYTES + 1);
    k->status.etcd = true;
    return k->value ? etcd_create(&k->etcd, &c, err, err_len) : -ENOMEM;
}

int keep_start(struct keep **out, const struct keep_config *config, char *err, uint32_t err_len)
{
    struct keep *k = calloc(1, sizeof *k);
    sigset_t all, before;
    if (!k)
        return -ENOMEM;
    k->config = *config;
    pthread_mutex_init(&k->lock, NULL);
    int rc = config->site->store.etcd_count ? start_etcd(k, config->site, err, err_len)
                                            : keep_open_file(k, config->site->run_dir, err, err_len);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (!rc)
        rc = -pthread_create(&k->thread, NULL, run, k);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    k->running = !rc;
    if (rc)
        keep_stop(k);
    else
        *out = k;
    return rc;
}

void keep_stop(struct keep *k)
{
    if (!k)
        return;
    atomic_store_explicit(&k->stop, true, memory_order_release);
    if (k->running && k->etcd)
        etcd_wake(k->etcd);
    if (k->running)
        pthread_join(k->thread, NULL);
    if (k->etcd)
        etcd_destroy(k->etcd);
    keep_close_file(k);
    for (int i = 0; i < KEEP_ENDPOINTS; i++)
        free(k->endpoints[i]);
    for (int i = 0; i < 3; i++)
        free(k->tls[i]);
    desired_free(k->fresh);
    json_decref(k->wish);
    free(k->value);
    free(k->known);
    free(k->swap_text);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

/* --- the controller's side ------------------------------------------------------------------------------- */

void keep_status(struct keep *k, struct keep_status *out)
{
    pthread_mutex_lock(&k->lock);
    *out = k->status;
    pthread_mutex_unlock(&k->lock);
}

bool keep_take(struct keep *k, struct orch_desired **out)
{
    pthread_mutex_lock(&k->lock);
    struct orch_desired *d = k->fresh;
    k->fresh = NULL;
    pthread_mutex_unlock(&k->lock);
    if (d)
        *out = d;
    return d;
}

int keep_swap(struct keep *k, json_t *json)
{
    pthread_mutex_lock(&k->lock);
    bool busy = k->swapping;
    if (!busy) {
        k->wish = json;
        k->swapping = true;
        k->swap_done = false;
    }
    pthread_mutex_unlock(&k->lock);
    if (busy)
        json_decref(json);
    else if (k->etcd)
        etcd_wake(k->etcd);
    return busy ? -EBUSY : 0;
}

bool keep_swapped(struct keep *k, int *rc, char *why, uint32_t why_len)
{
    pthread_mutex_lock(&k->lock);
    bool done = k->swapping && k->swap_done;
    if (done) {
        k->swapping = k->swap_done = false;
        *rc = k->swap_rc;
        snprintf(why, why_len, "%s", k->swap_why);
    }
    pthread_mutex_unlock(&k->lock);
    return done;
}

bool keep_next_view(struct keep *k, struct keep_view *out)
{
    pthread_mutex_lock(&k->lock);
    bool there = k->nviews;
    if (there) {
        *out = k->views[0];
        memmove(k->views, k->views + 1, --k->nviews * sizeof k->views[0]);
    }
    pthread_mutex_unlock(&k->lock);
    return there;
}
