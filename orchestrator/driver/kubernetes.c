/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pods as programs (kubernetes.h). A mirror keeps a kind of objects: list (in pages) -> watch -> watch ... A whole list tells
 * who is gone, too: what it does not have.
 *
 *   mirror ─▶ put_pod / drop_pod ─▶ kube_judge ─▶ on_end          list(): what is there, made when asked
 */
#include "orchestrator/driver/kubernetes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log/log.h"
#include "orchestrator/driver/kubernetes_objects.h"

enum {
    ASK_MS = 3000, COUNT_EVERY_MS = 1000, COUNT_MOST_MS = 5000, WATCH_S = 60, PAGE = 100, PAGES_MOST = 200,
    AGAIN_FIRST_MS = 200, AGAIN_MOST_MS = 5000, FORGET_FAILURES = 5, SELECTOR = 1024,
};

struct kube;

/* A kind of objects, as far as it is known. */
struct mirror {
    struct kube *kube;
    const char *what;         /* "pods" */
    struct kube_request *request;
    uv_timer_t timer;
    char version[KUBE_VERSION], next[KUBE_VERSION]; /* watched from there; of the list under way. "": it is to be listed */
    char more[KUBE_TOKEN];
    uint32_t failures, listed, pages; /* in a row; objects that take a place, and pages, of the list under way */
    uint64_t asked_ms;        /* when the watch was */
    bool told;                /* a line came in it */
    bool open, known, too_many, full; /* the watch is; listed wholly; more than the bound; no room for one since the list began */
    uint32_t round;           /* of lists */
    bool (*put)(struct kube *k, const json_t *object, uint32_t round); /* false: it takes no place */
    void (*gone)(struct kube *k, const json_t *object);
    void (*sweep)(struct kube *k, uint32_t round);
    uint32_t most;
};

struct pod { struct kube_pod is; uint32_t round; };
struct node { struct kube_node is; uint32_t round; };
struct group { char name[ORCH_NAME]; struct driver_count count; uint64_t written_ms; };

/* An order under way. */
struct order {
    struct kube *kube;
    struct order *next;
    struct kube_request *request;
    driver_told told;
    void *ctx;
    char group[ORCH_NAME];    /* "": it is none to scale */
    uint32_t replicas;
};

struct kube {
    struct driver driver;
    uv_loop_t *loop;
    struct kube_api *api;
    driver_on_end on_end;
    void (*news)(void *ctx);
    void *ctx;
    struct mirror pods_mirror, nodes_mirror;
    struct pod pods[KUBE_PODS];
    struct node *nodes;
    uint32_t npods, nnodes, ngroups, nstores, nfronts, closing, watch_s;
    struct group groups[ORCH_GROUPS];
    char stores[ORCH_STORES][ORCH_NAME];
    struct { char name[ORCH_NAME], address[KUBE_ADDRESS]; } fronts[ORCH_FRONTS];
    char selector[SELECTOR];
    struct kube_request *counting;
    uv_timer_t count_timer;
    uint32_t count_failures;
    uint64_t heard_ms;
    char why[DRIVER_NOTE];
    struct order *orders;
};

static struct kube *of(const struct driver *d)
{
    return (struct kube *)d;
}

static uint64_t again_ms(uint32_t failures, uint32_t most)
{
    uint64_t ms = AGAIN_FIRST_MS;
    for (uint32_t i = 1; i < failures && ms < most; i++)
        ms *= 2;
    return ms < most ? ms : most;
}

/* A refusal in words: the server's, else HTTP's, else why there was no answer. */
static void say(int status, const json_t *answer, const char *why, char *to, uint32_t room)
{
    kube_words(answer, to, room);
    if (!*to && status)
        snprintf(to, room, "it answered with status %d", status);
    else if (!*to)
        snprintf(to, room, "%s", why);
}

/* --- whose pod it is ---------------------------------------------------------------------------------- */

static const char *front_at(const struct kube *k, const char *host)
{
    for (uint32_t i = 0; i < k->nfronts; i++)
        if (*host && !strcmp(k->fronts[i].address, host))
            return k->fronts[i].name;
    return NULL;
}

/* Its name as an instance; NULL: it is none of the site's, or none yet (a front end without a node). */
static const char *instance_of(const struct kube *k, const struct kube_pod *p, enum orch_kind *kind)
{
    *kind = ORCH_STEERING;
    if (!strcmp(p->app, "steer"))
        return front_at(k, p->host);
    *kind = ORCH_STORE;
    for (uint32_t i = 0; !strcmp(p->app, "store") && i < k->nstores; i++)
        if (!strcmp(k->stores[i], p->name))
            return k->stores[i];
    *kind = ORCH_WORKER;
    for (uint32_t i = 0; i < k->ngroups; i++)
        if (!strcmp(k->groups[i].name, p->app) && strlen(p->name) < ORCH_NAME)
            return p->name;
    return NULL;
}

static const struct node *node_named(const struct kube *k, const char *name)
{
    for (uint32_t i = 0; i < k->nnodes; i++)
        if (!strcmp(k->nodes[i].is.name, name))
            return &k->nodes[i];
    return NULL;
}

static void describe(const struct kube *k, const struct kube_pod *p, struct driver_process *to)
{
    enum orch_kind kind;
    const char *name = instance_of(k, p, &kind);
    const struct node *n = node_named(k, p->node);
    int64_t age_s = p->started_s ? (int64_t)time(NULL) - p->started_s : 0;
    *to = (struct driver_process){.kind = kind, .leaving = p->deleted, .waits = !*p->container};
    snprintf(to->name, sizeof to->name, "%.31s", name ? name : p->name);
    if (kind == ORCH_WORKER)
        snprintf(to->group, sizeof to->group, "%.31s", p->app);
    snprintf(to->node, sizeof to->node, "%s", p->node);
    if (*p->container) {
        to->start = kube_number(p->container);
        to->age_ms = age_s > 0 ? (uint64_t)age_s * 1000 : 0;
    }
    if (*p->address && p->port)
        snprintf(to->address, sizeof to->address, strchr(p->address, ':') ? "http://[%s]:%u" : "http://%s:%u", p->address,
                 p->port);
    to->cut_off = k->nodes_mirror.known && *p->node && (!n || !n->is.ready);
    if (to->waits)
        snprintf(to->note, sizeof to->note, "%s", p->waiting);
    else if (to->cut_off)
        snprintf(to->note, sizeof to->note, "node %s is %s", p->node, n ? "not ready" : "not there");
    else if (n && n->is.cordoned)
        snprintf(to->note, sizeof to->note, "node %s takes no new pods", p->node);
}

/* --- pods ----------------------------------------------------------------------------------------------- */

/* Did its program end? */
static bool judge(struct kube *k, const struct kube_pod *was, const struct kube_pod *now, bool gone)
{
    struct kube_verdict v;
    struct driver_end end = {.proven = false};
    enum orch_kind kind;
    bool node_gone = k->nodes_mirror.known && !node_named(k, was->node);
    kube_judge(was, now, gone, node_gone, &v);
    if (!v.ended || !instance_of(k, was, &kind))
        return v.ended;
    describe(k, was, &end.process);
    end.proven = v.proven;
    end.status_known = v.status_known;
    end.exit_status = v.exit_status;
    end.signal = v.signal;
    snprintf(end.how, sizeof end.how, "%s", v.how);
    k->on_end(k->ctx, &end);
    return true;
}

static struct pod *pod_of(struct kube *k, const char *uid)
{
    for (uint32_t i = 0; i < k->npods; i++)
        if (!strcmp(k->pods[i].is.uid, uid))
            return &k->pods[i];
    return NULL;
}

static void forget_pod(struct kube *k, struct pod *p)
{
    *p = k->pods[--k->npods];
}

/* A container is not forgotten for being told of no more: its end is still to be told. Pods that are over may stay for days, in
 * thousands (evicted by a full node): of those in which nothing runs there is nothing to be known. */
static bool put_pod(struct kube *k, const json_t *object, uint32_t round)
{
    struct kube_pod now;
    if (kube_pod_read(object, &now))
        return true;
    struct pod *p = pod_of(k, now.uid);
    bool nothing = now.over && !*now.container;
    if (!p && nothing)
        return false;
    if (!p && k->npods == KUBE_PODS) {
        k->pods_mirror.full = true;
        return true;
    }
    if (!p) {
        k->pods[k->npods++] = (struct pod){now, round};
        return true;
    }
    struct kube_pod was = p->is;
    p->is = now;
    p->round = round;
    bool ended = judge(k, &was, &now, false);
    if (nothing && (ended || !*was.container)) {
        forget_pod(k, p);
        return false;
    }
    if (ended || *now.container)
        return true;
    memcpy(p->is.container, was.container, sizeof was.container);
    p->is.started_s = was.started_s;
    return true;
}

static void pod_gone(struct kube *k, const json_t *object)
{
    struct kube_pod last;
    struct pod *p = kube_pod_read(object, &last) ? NULL : pod_of(k, last.uid);
    if (!p)
        return;
    struct kube_pod was = p->is;
    forget_pod(k, p);
    judge(k, &was, &last, true);
}

static void sweep_pods(struct kube *k, uint32_t round)
{
    for (uint32_t i = 0; i < k->npods;) {
        struct kube_pod was = k->pods[i].is;
        if (k->pods[i].round == round) {
            i++;
            continue;
        }
        forget_pod(k, &k->pods[i]);
        judge(k, &was, NULL, true);
    }
}

/* --- nodes ------------------------------------------------------------------------------------------------- */

static bool put_node(struct kube *k, const json_t *object, uint32_t round)
{
    struct kube_node now;
    if (kube_node_read(object, &now))
        return true;
    struct node *n = (struct node *)node_named(k, now.name);
    if (!n && k->nnodes < KUBE_NODES)
        n = &k->nodes[k->nnodes++];
    if (n)
        *n = (struct node){now, round};
    return true;
}

static void node_gone(struct kube *k, const json_t *object)
{
    struct kube_node last;
    struct node *n = kube_node_read(object, &last) ? NULL : (struct node *)node_named(k, last.name);
    if (n)
        *n = k->nodes[--k->nnodes];
}

static void sweep_nodes(struct kube *k, uint32_t round)
{
    for (uint32_t i = 0; i < k->nnodes;)
        if (k->nodes[i].round == round)
            i++;
        else
            k->nodes[i] = k->nodes[--k->nnodes];
}

/* --- mirrors -------------------------------------------------------------------------------------------------- */

static void step(struct mirror *m);

static void on_step(uv_timer_t *timer)
{
    step(timer->data);
}

static void later(struct mirror *m, uint64_t ms)
{
    uv_timer_start(&m->timer, on_step, ms, 0);
}

static void failed(struct mirror *m, int status, const json_t *answer, const char *why)
{
    char words[KUBE_WORDS];
    if (++m->failures > FORGET_FAILURES)
        m->known = false;
    say(status, answer, why, words, sizeof words);
    snprintf(m->kube->why, sizeof m->kube->why, "%s: %.180s", m->what, words);
    if (m->failures == 1)
        log_warn("the API server does not tell of our objects", "what=%s cause=\"%s\"", m->what, words);
    later(m, again_ms(m->failures, AGAIN_MOST_MS));
    m->kube->news(m->kube->ctx);
}

static void path_of(const struct mirror *m, char *to, size_t room)
{
    const struct kube *k = m->kube;
    if (m == &k->nodes_mirror)
        snprintf(to, room, "/api/v1/nodes?limit=%d", PAGE);
    else
        snprintf(to, room, "/api/v1/namespaces/%s/pods?labelSelector=%s&limit=%d", kube_api_namespace(k->api),
                 k->selector, PAGE);
}

/* A page of a list. Cut at the bound, it tells who is there, not who is gone. A page may be empty and not the last one. */
static void on_list(void *ctx, int status, const json_t *answer, uint64_t sent_ms, const char *why)
{
    struct mirror *m = ctx;
    struct kube_list list;
    (void)sent_ms;
    m->request = NULL;
    if (status != 200 || kube_list_read(answer, &list)) {
        m->more[0] = 0;
        failed(m, status, status == 200 ? NULL : answer, status == 200 ? "it answered what is no list" : why);
        return;
    }
    if (!m->more[0]) { /* the first page */
        m->round++;
        m->listed = m->pages = 0;
        m->full = false;
        snprintf(m->next, sizeof m->next, "%s", list.version);
    }
    for (size_t i = 0; i < json_array_size(list.items); i++)
        m->listed += m->put(m->kube, json_array_get(list.items, i), m->round);
    m->pages++;
    snprintf(m->more, sizeof m->more, "%s", list.more);
    if (m->more[0] && m->listed < m->most && m->pages < PAGES_MOST) {
        step(m);
        return;
    }
    bool cut = m->more[0] || m->listed > m->most;
    m->more[0] = 0;
    m->too_many = cut || m->full;
    if (!cut)
        m->sweep(m->kube, m->round);
    snprintf(m->version, sizeof m->version, "%s", m->too_many ? "" : m->next);
    m->known = !m->too_many;
    if (m->too_many) /* not cut: there was no room for all beside those that are gone; now there is */
        later(m, cut ? AGAIN_MOST_MS : AGAIN_FIRST_MS);
    else
        step(m);
    m->kube->news(m->kube->ctx);
}

static void on_opened(void *ctx)
{
    ((struct mirror *)ctx)->open = true;
}

static bool on_line(void *ctx, const json_t *object)
{
    struct mirror *m = ctx;
    struct kube_event e;
    if (kube_event_read(object, &e) || e.change == KUBE_ERROR) {
        m->version[0] = 0; /* 410: it has forgotten where we were; whatever else it is, a list mends it */
        return false;
    }
    m->failures = 0;
    m->told = true;
    snprintf(m->version, sizeof m->version, "%s", e.version);
    if (e.change == KUBE_PUT)
        m->put(m->kube, e.object, m->round);
    else if (e.change == KUBE_GONE)
        m->gone(m->kube, e.object);
    m->too_many = m->full;
    if (m->too_many)
        m->version[0] = 0;
    m->kube->news(m->kube->ctx);
    return !m->too_many;
}

/* A server that was set back to an earlier state (etcd restored) knows our version not yet: it refuses the watch for good, or
 * opens it and says nothing, not even the bookmark that comes before its time is over. A list mends either; it is not asked for
 * lightly, for a list does not tell how those ended that are gone. */
static bool not_reached(const struct mirror *m, int status)
{
    bool passes = status == 401 || status == 403 || status == 429 || status == 503;
    return status == 200 ? !m->told : status && !passes && m->failures >= FORGET_FAILURES;
}

static void on_watch_end(void *ctx, int status, const json_t *answer, uint64_t sent_ms, const char *why)
{
    struct mirror *m = ctx;
    bool forgotten = status == 410 || !m->version[0] || not_reached(m, status);
    (void)sent_ms;
    m->request = NULL;
    m->open = false;
    if (forgotten)
        m->version[0] = 0;
    if (status == 200) { /* in good order: its time was over */
        m->failures = 0;
        later(m, AGAIN_FIRST_MS);
    } else {
        failed(m, status, answer, forgotten ? "it has forgotten where the watch was" : why);
    }
}

static void step(struct mirror *m)
{
    char path[KUBE_PATH];
    struct kube_watching w = {.opened = on_opened, .line = on_line, .ended = on_watch_end, .ctx = m};
    struct kube *k = m->kube;
    if (m->request || k->closing)
        return;
    path_of(m, path, sizeof path);
    size_t used = strlen(path);
    if (m->version[0]) {
        snprintf(path + used, sizeof path - used, "&watch=1&allowWatchBookmarks=true&timeoutSeconds=%u&resourceVersion=%s",
                 k->watch_s, m->version);
        m->told = false;
        m->request = kube_api_watch(k->api, path, ASK_MS, &w);
        m->asked_ms = uv_now(k->loop);
    } else {
        if (m->more[0])
            snprintf(path + used, sizeof path - used, "&continue=%s", m->more);
        m->request = kube_api_ask(k->api, "GET", path, NULL, NULL, ASK_MS, on_list, m);
    }
    if (!m->request)
        later(m, AGAIN_MOST_MS);
}

/* A watch ends by the server's clock. One that is not opened, or goes on for longer than was asked for, is nobody's: there may be
 * somebody between us and the server who keeps the connection. Looked at with each count. */
static void lose_patience(struct mirror *m)
{
    uint64_t watch_ms = (uint64_t)m->kube->watch_s * 1000, most_ms = m->open ? watch_ms + 2 * ASK_MS : watch_ms / 4;
    if (!m->request || !m->version[0] || uv_now(m->kube->loop) - m->asked_ms <= most_ms)
        return;
    kube_api_cancel(m->request);
    m->request = NULL;
    failed(m, 0, NULL, m->open ? "a watch did not end when its time was over" : "a watch was not answered in time");
    m->open = false;
}

static void hurry(struct mirror *m)
{
    m->failures = 0;
    if (!m->request)
        later(m, 0);
}

/* After a silence: what a watch has missed meanwhile the server sends only when its own patience allows, or never. */
static void renew(struct mirror *m)
{
    if (m->request && m->version[0]) {
        kube_api_cancel(m->request);
        m->request = NULL;
        m->open = false;
    }
    hurry(m);
}

/* --- counts --------------------------------------------------------------------------------------------------- */

static void ask_counts(uv_timer_t *timer);

/* What was asked before our own order was taken says nothing of what is now. */
static void take_counts(struct kube *k, const json_t *items, uint64_t sent_ms)
{
    for (uint32_t g = 0; g < k->ngroups; g++) {
        struct group *group = &k->groups[g];
        struct kube_deployment d;
        bool there = false;
        if (sent_ms < group->written_ms)
            continue;
        for (size_t i = 0; i < json_array_size(items) && !there; i++)
            there = !kube_deployment_read(json_array_get(items, i), &d) && !strcmp(d.name, group->name);
        group->count = (struct driver_count){.there = there, .replicas = there ? d.replicas : 0, .asked_ms = sent_ms};
    }
}

static void on_counts(void *ctx, int status, const json_t *answer, uint64_t sent_ms, const char *why)
{
    struct kube *k = ctx;
    struct kube_list list;
    char words[KUBE_WORDS];
    k->counting = NULL;
    if (status == 200 && !kube_list_read(answer, &list)) {
        if (k->count_failures) { /* it is back: nobody has to wait longer */
            renew(&k->pods_mirror);
            renew(&k->nodes_mirror);
        }
        k->count_failures = 0;
        take_counts(k, list.items, sent_ms);
        if (k->pods_mirror.open) {
            k->heard_ms = sent_ms;
            k->why[0] = 0;
        }
    } else {
        k->count_failures++;
        say(status, status == 200 ? NULL : answer, why, words, sizeof words);
        snprintf(k->why, sizeof k->why, "%.190s", words);
        if (k->count_failures == 1)
            log_warn("the API server does not answer", "cause=\"%s\"", words);
    }
    uv_timer_start(&k->count_timer, ask_counts, k->count_failures ? again_ms(k->count_failures, COUNT_MOST_MS) : COUNT_EVERY_MS,
                   0);
    k->news(k->ctx);
}

static void ask_counts(uv_timer_t *timer)
{
    struct kube *k = timer->data;
    char path[KUBE_PATH];
    lose_patience(&k->pods_mirror);
    lose_patience(&k->nodes_mirror);
    snprintf(path, sizeof path, "/apis/apps/v1/namespaces/%s/deployments?labelSelector=%s&limit=%d",
             kube_api_namespace(k->api), k->selector, PAGE);
    if (!k->closing && !k->counting)
        k->counting = kube_api_ask(k->api, "GET", path, NULL, NULL, ASK_MS, on_counts, k);
    if (!k->counting)
        uv_timer_start(&k->count_timer, ask_counts, COUNT_MOST_MS, 0);
}

/* --- orders ----------------------------------------------------------------------------------------------------- */

static void on_ordered(void *ctx, int status, const json_t *answer, uint64_t sent_ms, const char *why)
{
    struct order *o = ctx;
    struct kube *k = o->kube;
    char words[KUBE_WORDS];
    bool taken = status >= 200 && status < 300;
    (void)sent_ms;
    for (struct order **at = &k->orders; *at; at = &(*at)->next)
        if (*at == o) {
            *at = o->next;
            break;
        }
    for (uint32_t g = 0; taken && g < k->ngroups; g++)
        if (*o->group && !strcmp(k->groups[g].name, o->group)) {
            k->groups[g].written_ms = uv_now(k->loop) + 1;
            k->groups[g].count = (struct driver_count){true, o->replicas, uv_now(k->loop)};
        }
    say(status, taken ? NULL : answer, why, words, sizeof words);
    o->told(o->ctx, taken ? 200 : status ? status : 503, taken ? "" : words);
    free(o);
    k->news(k->ctx);
}

static int order(struct kube *k, const char *method, const char *path, const char *type, json_t *body, const char *group,
                 uint32_t replicas, driver_told told, void *ctx)
{
    struct order *o = body ? calloc(1, sizeof *o) : NULL;
    if (!o) {
        json_decref(body);
        return -ENOMEM;
    }
    *o = (struct order){.kube = k, .told = told, .ctx = ctx, .replicas = replicas};
    snprintf(o->group, sizeof o->group, "%s", group);
    o->request = kube_api_ask(k->api, method, path, type, body, ASK_MS, on_ordered, o);
    if (!o->request) {
        free(o);
        return -ENOMEM;
    }
    o->next = k->orders;
    k->orders = o;
    return 0;
}

static int scale(struct driver *d, const char *group, int64_t from, uint32_t to, driver_told told, void *ctx)
{
    struct kube *k = of(d);
    char path[300];
    snprintf(path, sizeof path, "/apis/apps/v1/namespaces/%s/deployments/%s/scale", kube_api_namespace(k->api), group);
    /* None is not written into a scale at all, so there is nothing to be tested. */
    json_t *body = from > 0 ? json_pack("[{s:s, s:s, s:I}, {s:s, s:s, s:I}]", "op", "test", "path", "/spec/replicas", "value",
                                        (json_int_t)from, "op", "add", "path", "/spec/replicas", "value", (json_int_t)to)
                            : json_pack("{s:{s:I}}", "spec", "replicas", (json_int_t)to);
    return order(k, "PATCH", path, from > 0 ? "application/json-patch+json" : "application/merge-patch+json", body, group, to,
                 told, ctx);
}

static int roll_out(struct driver *d, const char *group, driver_told told, void *ctx)
{
    struct kube *k = of(d);
    char path[300], now[32];
    time_t t = time(NULL);
    struct tm tm;
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
    snprintf(path, sizeof path, "/apis/apps/v1/namespaces/%s/deployments/%s", kube_api_namespace(k->api), group);
    json_t *body = json_pack("{s:{s:{s:{s:{s:s}}}}}", "spec", "template", "metadata", "annotations", "lethe.io/restarted-at", now);
    return order(k, "PATCH", path, "application/merge-patch+json", body, "", 0, told, ctx);
}

/* Of several pods of one name the one that stays, and of those the one that runs. */
static const struct kube_pod *best_of(const struct kube *k, const char *name)
{
    const struct kube_pod *best = NULL;
    int best_rank = -1;
    for (uint32_t i = 0; i < k->npods; i++) {
        const struct kube_pod *p = &k->pods[i].is;
        enum orch_kind kind;
        const char *called = instance_of(k, p, &kind);
        int rank = (p->deleted ? 0 : 2) + (*p->container ? 1 : 0);
        if (!called || strcmp(called, name) || p->over || (p->deleted && !*p->container) || rank <= best_rank)
            continue;
        best = p;
        best_rank = rank;
    }
    return best;
}

/* The kind is left out: the server takes that of the path then, and it has another version since 1.22. At once is within a
 * second: with none at all the pod's object would go first, and no kubelet would tell of its end. */
static int evict(struct driver *d, const char *name, bool at_once, driver_told told, void *ctx)
{
    struct kube *k = of(d);
    const struct kube_pod *p = best_of(k, name);
    char path[300];
    if (!p)
        return -ESRCH;
    snprintf(path, sizeof path, "/api/v1/namespaces/%s/pods/%s/eviction", kube_api_namespace(k->api), p->name);
    json_t *options = json_pack("{s:{s:s}}", "preconditions", "uid", p->uid);
    if (at_once)
        json_object_set_new(options, "gracePeriodSeconds", json_integer(1));
    json_t *body = json_pack("{s:{s:s, s:s}, s:o}", "metadata", "name", p->name, "namespace", kube_api_namespace(k->api),
                             "deleteOptions", options);
    return order(k, "POST", path, "application/json", body, "", 0, told, ctx);
}

/* --- what is told ------------------------------------------------------------------------------------------------- */

static void state(const struct driver *d, struct driver_platform_state *out)
{
    const struct kube *k = of(d);
    *out = (struct driver_platform_state){.heard_ms = k->heard_ms, .too_many = k->pods_mirror.too_many};
    snprintf(out->where, sizeof out->where, "namespace %s at https://%s", kube_api_namespace(k->api), kube_api_where(k->api));
    snprintf(out->why, sizeof out->why, "%s", k->why);
    if (out->too_many)
        snprintf(out->why, sizeof out->why, "there are more than %d pods with the labels of this site", KUBE_PODS);
}

static void count(const struct driver *d, const char *group, struct driver_count *out)
{
    const struct kube *k = of(d);
    *out = (struct driver_count){.there = false};
    for (uint32_t g = 0; g < k->ngroups; g++)
        if (!strcmp(k->groups[g].name, group))
            *out = k->groups[g].count;
}

static uint32_t hosts(const struct driver *d, struct driver_host *to, uint32_t room)
{
    const struct kube *k = of(d);
    uint32_t n = 0;
    for (uint32_t i = 0; i < k->nnodes && n < room; i++) {
        bool ours = false;
        for (uint32_t p = 0; p < k->npods && !ours; p++)
            ours = !strcmp(k->pods[p].is.node, k->nodes[i].is.name);
        if (!ours)
            continue;
        to[n] = (struct driver_host){.ready = k->nodes[i].is.ready, .cordoned = k->nodes[i].is.cordoned};
        snprintf(to[n++].name, DRIVER_NODE, "%s", k->nodes[i].is.name);
    }
    return n;
}

static uint32_t list(struct driver *d, struct driver_process *to, uint32_t room)
{
    struct kube *k = of(d);
    uint32_t n = 0;
    for (uint32_t i = 0; i < k->npods && n < room; i++) {
        const struct kube_pod *p = &k->pods[i].is;
        enum orch_kind kind;
        const char *name = instance_of(k, p, &kind);
        if (name && best_of(k, name) == p)
            describe(k, p, &to[n++]);
    }
    return n;
}

static void log_of(const struct driver *d, const char *name, char *to, uint32_t room)
{
    const struct kube *k = of(d);
    const struct kube_pod *p = best_of(k, name);
    snprintf(to, room, "kubectl -n %s logs %s", kube_api_namespace(k->api), p ? p->name : name);
}

/* Told as it is heard. */
static void look(struct driver *d)
{
    (void)d;
}

/* --- life ----------------------------------------------------------------------------------------------------------- */

/* Other labels: other pods are ours, so they are listed again. */
static void site(struct driver *d, const struct site *s)
{
    struct kube *k = of(d);
    char selector[SELECTOR];
    size_t used = (size_t)snprintf(selector, sizeof selector, "app%%20in%%20(steer,store");
    struct group groups[ORCH_GROUPS] = {0};
    uint32_t n = s->groups_count < ORCH_GROUPS ? s->groups_count : ORCH_GROUPS;
    for (uint32_t g = 0; g < n; g++) {
        snprintf(groups[g].name, sizeof groups[g].name, "%s", s->groups[g].name);
        count(d, groups[g].name, &groups[g].count);
        used += (size_t)snprintf(selector + used, sizeof selector - used, ",%s", groups[g].name);
    }
    snprintf(selector + used, sizeof selector - used, ")");
    memcpy(k->groups, groups, sizeof groups);
    k->ngroups = n;
    k->nstores = s->store.nodes_count < ORCH_STORES ? s->store.nodes_count : ORCH_STORES;
    for (uint32_t i = 0; i < k->nstores; i++)
        snprintf(k->stores[i], ORCH_NAME, "%s", s->store.nodes[i].name);
    k->nfronts = site_fronts(s) < ORCH_FRONTS ? site_fronts(s) : ORCH_FRONTS;
    for (uint32_t i = 0; i < k->nfronts; i++) {
        struct site_front f = site_front(s, i);
        snprintf(k->fronts[i].name, ORCH_NAME, "%s", f.name);
        snprintf(k->fronts[i].address, KUBE_ADDRESS, "%s", f.tunnel.address ? f.tunnel.address : "");
    }
    if (!strcmp(selector, k->selector))
        return;
    memcpy(k->selector, selector, sizeof selector);
    struct mirror *m = &k->pods_mirror;
    kube_api_cancel(m->request);
    m->request = NULL;
    m->open = false;
    m->version[0] = m->more[0] = 0;
    later(m, 0);
    later(&k->nodes_mirror, 0);
    uv_timer_start(&k->count_timer, ask_counts, 0, 0);
}

static void closed(struct kube *k)
{
    if (--k->closing)
        return;
    free(k->nodes);
    free(k);
}

static void mirror_closed(uv_handle_t *handle)
{
    closed(((struct mirror *)handle->data)->kube);
}

static void count_closed(uv_handle_t *handle)
{
    closed(handle->data);
}

static void destroy(struct driver *d)
{
    struct kube *k = of(d);
    k->closing = 3;
    kube_api_destroy(k->api);
    while (k->orders) {
        struct order *o = k->orders;
        k->orders = o->next;
        free(o);
    }
    uv_close((uv_handle_t *)&k->pods_mirror.timer, mirror_closed);
    uv_close((uv_handle_t *)&k->nodes_mirror.timer, mirror_closed);
    uv_close((uv_handle_t *)&k->count_timer, count_closed);
}

static const struct driver_platform platform = {
    .state = state, .site = site, .count = count, .hosts = hosts, .scale = scale, .evict = evict, .roll_out = roll_out};
static const struct driver_ops ops = {
    .name = "kubernetes", .platform = &platform, .list = list, .look = look, .log = log_of, .destroy = destroy};

int kubernetes_driver_create(struct driver **out, uv_loop_t *loop, const char *folder, driver_on_end on_end,
                             void (*news)(void *ctx), void *ctx, char *err, uint32_t err_len)
{
    struct kube *k = calloc(1, sizeof *k);
    if (!k || !(k->nodes = calloc(KUBE_NODES, sizeof *k->nodes))) {
        free(k);
        snprintf(err, err_len, "out of memory");
        return -ENOMEM;
    }
    k->driver.ops = &ops;
    k->loop = loop;
    k->watch_s = WATCH_S;
    k->on_end = on_end;
    k->news = news;
    k->ctx = ctx;
    k->pods_mirror = (struct mirror){.kube = k, .what = "pods", .put = put_pod, .gone = pod_gone, .sweep = sweep_pods, .most = KUBE_PODS};
    k->nodes_mirror = (struct mirror){.kube = k, .what = "nodes", .put = put_node, .gone = node_gone, .sweep = sweep_nodes,
                                      .most = KUBE_NODES};
    snprintf(k->why, sizeof k->why, "it was not asked yet");
    int rc = kube_api_create(&k->api, loop, folder, err, err_len);
    if (rc) {
        free(k->nodes);
        free(k);
        return rc;
    }
    uv_timer_init(loop, &k->pods_mirror.timer);
    uv_timer_init(loop, &k->nodes_mirror.timer);
    uv_timer_init(loop, &k->count_timer);
    k->pods_mirror.timer.data = &k->pods_mirror;
    k->nodes_mirror.timer.data = &k->nodes_mirror;
    k->count_timer.data = k;
    *out = &k->driver;
    return 0;
}

void kubernetes_driver_watch_s(struct driver *d, uint32_t s)
{
    of(d)->watch_s = s;
}
