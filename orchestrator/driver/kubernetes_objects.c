/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading the API server's objects, and judging deaths by them (kubernetes_objects.h). */
#include "orchestrator/driver/kubernetes_objects.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { REPLICAS_MOST = 1000000 };

static const char name_chars[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";
static const char id_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/-";

/* --- small things --------------------------------------------------------------------------------- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "";
}

/* Copied if it fits and holds such characters alone; else "", and false. A name begins with a letter or a digit: in a path, ".."
 * would make another one of it. */
static bool word(const char *text, const char *chars, char *to, size_t room)
{
    size_t n = strlen(text);
    bool good = n && n < room && (chars != name_chars || isalnum((unsigned char)*text)) && strspn(text, chars) == n;
    memcpy(to, good ? text : "", good ? n + 1 : 1);
    return good;
}

/* One line of printable ASCII, cut to fit. */
static void line(const char *text, char *to, size_t room)
{
    size_t n = 0;
    for (; text[n] && n + 1 < room; n++)
        to[n] = (unsigned char)text[n] >= 0x20 && (unsigned char)text[n] < 0x7f ? text[n] : ' ';
    to[n] = 0;
}

static void address(const char *text, char to[KUBE_ADDRESS])
{
    struct in6_addr a;
    bool good = strlen(text) < KUBE_ADDRESS && (inet_pton(AF_INET, text, &a) == 1 || inet_pton(AF_INET6, text, &a) == 1);
    snprintf(to, KUBE_ADDRESS, "%s", good ? text : "");
}

/* RFC 3339 in UTC, as Kubernetes writes it; 0: it is not. */
static int64_t seconds(const char *text)
{
    struct tm t = {0};
    if (strlen(text) > 40 ||
        sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour, &t.tm_min, &t.tm_sec) != 6 ||
        t.tm_year < 2000 || t.tm_year > 9999)
        return 0;
    t.tm_year -= 1900;
    t.tm_mon -= 1;
    time_t s = timegm(&t);
    return s > 0 ? s : 0;
}

static int32_t small(const json_t *o, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(o, key));
    return n > INT16_MAX || n < INT16_MIN ? 0 : (int32_t)n;
}

uint64_t kube_number(const char *container)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *container; container++)
        h = (h ^ (uint8_t)*container) * 0x100000001b3u;
    return (h & INT64_MAX) ? h & INT64_MAX : 1;
}

/* --- pods ------------------------------------------------------------------------------------------- */

/* Which container is ours, and the port it answers at. */
static const char *program_of(const json_t *spec, uint16_t *port)
{
    const json_t *containers = json_object_get(spec, "containers");
    *port = 0;
    for (size_t i = 0; i < json_array_size(containers); i++) {
        const json_t *c = json_array_get(containers, i), *ports = json_object_get(c, "ports");
        for (size_t k = 0; k < json_array_size(ports); k++) {
            const json_t *p = json_array_get(ports, k);
            json_int_t n = json_integer_value(json_object_get(p, "containerPort"));
            if (strcmp(text_of(p, "name"), "metrics") || n < 1 || n > UINT16_MAX)
                continue;
            *port = (uint16_t)n;
            return text_of(c, "name");
        }
    }
    return text_of(json_array_get(containers, 0), "name");
}

static void take_end(const json_t *state, struct kube_end *e)
{
    const json_t *terminated = json_object_get(state, "terminated");
    if (!word(text_of(terminated, "containerID"), id_chars, e->container, sizeof e->container))
        return;
    e->exit_code = small(terminated, "exitCode");
    e->signal = small(terminated, "signal");
    line(text_of(terminated, "reason"), e->reason, sizeof e->reason);
}

static void take_status(const json_t *s, struct kube_pod *p)
{
    const json_t *state = json_object_get(s, "state"), *running = json_object_get(state, "running");
    if (running && word(text_of(s, "containerID"), id_chars, p->container, sizeof p->container))
        p->started_s = seconds(text_of(running, "startedAt"));
    take_end(state, &p->ends[0]);
    take_end(json_object_get(s, "lastState"), &p->ends[1]);
    line(text_of(json_object_get(state, "waiting"), "reason"), p->waiting, sizeof p->waiting);
    if (json_object_get(state, "terminated"))
        snprintf(p->waiting, sizeof p->waiting, "its container ended");
}

/* Why no container is there, in the scheduler's words or by the phase. */
static void take_conditions(const json_t *status, struct kube_pod *p)
{
    const json_t *conditions = json_object_get(status, "conditions");
    for (size_t i = 0; i < json_array_size(conditions) && !*p->waiting; i++) {
        const json_t *c = json_array_get(conditions, i);
        if (!strcmp(text_of(c, "type"), "PodScheduled") && !strcmp(text_of(c, "status"), "False"))
            line(*text_of(c, "message") ? text_of(c, "message") : text_of(c, "reason"), p->waiting, sizeof p->waiting);
    }
    if (!*p->waiting && !*p->container)
        line(*p->node ? "its node has not started it" : "no node was chosen for it", p->waiting, sizeof p->waiting);
}

int kube_pod_read(const json_t *o, struct kube_pod *out)
{
    const json_t *meta = json_object_get(o, "metadata"), *spec = json_object_get(o, "spec");
    const json_t *status = json_object_get(o, "status"), *statuses = json_object_get(status, "containerStatuses");
    const char *phase = text_of(status, "phase");
    struct kube_pod p = {.deleted = json_is_string(json_object_get(meta, "deletionTimestamp")),
                         .over = !strcmp(phase, "Succeeded") || !strcmp(phase, "Failed")};
    memset(out, 0, sizeof *out);
    if (!word(text_of(meta, "name"), name_chars, p.name, sizeof p.name) ||
        !word(text_of(meta, "uid"), id_chars, p.uid, sizeof p.uid) || strchr(p.uid, '/'))
        return -EINVAL;
    word(text_of(json_object_get(meta, "labels"), "app"), name_chars, p.app, sizeof p.app);
    word(text_of(spec, "nodeName"), name_chars, p.node, sizeof p.node);
    address(text_of(status, "podIP"), p.address);
    address(text_of(status, "hostIP"), p.host);
    const char *program = program_of(spec, &p.port);
    for (size_t i = 0; i < json_array_size(statuses); i++)
        if (*program && !strcmp(text_of(json_array_get(statuses, i), "name"), program)) {
            take_status(json_array_get(statuses, i), &p);
            break;
        }
    take_conditions(status, &p);
    *out = p;
    return 0;
}

/* --- others ------------------------------------------------------------------------------------------- */

int kube_node_read(const json_t *o, struct kube_node *out)
{
    const json_t *conditions = json_object_get(json_object_get(o, "status"), "conditions");
    struct kube_node n = {.cordoned = json_is_true(json_object_get(json_object_get(o, "spec"), "unschedulable"))};
    memset(out, 0, sizeof *out);
    if (!word(text_of(json_object_get(o, "metadata"), "name"), name_chars, n.name, sizeof n.name))
        return -EINVAL;
    for (size_t i = 0; i < json_array_size(conditions); i++) {
        const json_t *c = json_array_get(conditions, i);
        n.ready |= !strcmp(text_of(c, "type"), "Ready") && !strcmp(text_of(c, "status"), "True");
    }
    *out = n;
    return 0;
}

int kube_deployment_read(const json_t *o, struct kube_deployment *out)
{
    const json_t *replicas = json_object_get(json_object_get(o, "spec"), "replicas");
    json_int_t n = replicas ? json_integer_value(replicas) : 1; /* Kubernetes' own default */
    struct kube_deployment d;
    memset(out, 0, sizeof *out);
    if (!word(text_of(json_object_get(o, "metadata"), "name"), name_chars, d.name, sizeof d.name) ||
        (replicas && !json_is_integer(replicas)) || n < 0 || n > REPLICAS_MOST)
        return -EINVAL;
    d.replicas = (uint32_t)n;
    memcpy(out->name, d.name, sizeof d.name);
    out->replicas = d.replicas;
    return 0;
}

int kube_list_read(const json_t *o, struct kube_list *out)
{
    const json_t *meta = json_object_get(o, "metadata"), *items = json_object_get(o, "items");
    const char *more = text_of(meta, "continue");
    *out = (struct kube_list){.items = NULL};
    if (!json_is_array(items) || (*more && !word(more, id_chars, out->more, sizeof out->more)) ||
        !word(text_of(meta, "resourceVersion"), id_chars, out->version, sizeof out->version))
        return -EINVAL;
    out->items = items;
    return 0;
}

int kube_event_read(const json_t *o, struct kube_event *out)
{
    static const struct { const char *type; enum kube_change change; } types[] = {
        {"ADDED", KUBE_PUT}, {"MODIFIED", KUBE_PUT}, {"DELETED", KUBE_GONE}, {"BOOKMARK", KUBE_BOOKMARK},
        {"ERROR", KUBE_ERROR}};
    const json_t *object = json_object_get(o, "object");
    *out = (struct kube_event){.change = KUBE_ERROR};
    for (size_t i = 0; json_is_object(object) && i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(text_of(o, "type"), types[i].type))
            continue;
        out->change = types[i].change;
        out->object = object;
        out->status = small(object, "code");
        bool versioned = word(text_of(json_object_get(object, "metadata"), "resourceVersion"), id_chars, out->version,
                              sizeof out->version);
        return versioned || out->change == KUBE_ERROR ? 0 : -EINVAL;
    }
    return -EINVAL;
}

void kube_words(const json_t *o, char *to, uint32_t room)
{
    line(text_of(o, "message"), to, room);
    if (!*to)
        line(text_of(o, "reason"), to, room);
}

/* --- deaths ------------------------------------------------------------------------------------------- */

/* By the runtime's convention 128 + n is signal n. */
static void kubelet_said(const struct kube_end *e, struct kube_verdict *v)
{
    int32_t signal = e->signal ? e->signal : e->exit_code > 128 && e->exit_code < 128 + 65 ? e->exit_code - 128 : 0;
    v->ended = v->proven = v->status_known = true;
    v->signal = signal;
    v->exit_status = signal ? 0 : e->exit_code;
    snprintf(v->how, sizeof v->how, "the kubelet says that its container terminated (%s, exit code %d)",
             *e->reason ? e->reason : "no reason given", e->exit_code);
}

void kube_judge(const struct kube_pod *was, const struct kube_pod *now, bool gone, bool node_gone,
                struct kube_verdict *v)
{
    const char *how = NULL;
    *v = (struct kube_verdict){0};
    if (!*was->container)
        return;
    for (int i = 0; now && i < 2; i++)
        if (!strcmp(now->ends[i].container, was->container)) {
            kubelet_said(&now->ends[i], v);
            return;
        }
    if (!now)
        how = "its pod is not there any more, and went while the API server was not heard: whether it is dead is not known";
    else if (gone)
        how = node_gone ? "its pod went with its node, and no kubelet said that its container ended: it may live"
                        : "its pod was removed by force: no kubelet said that its container ended, so it may live";
    else if (strcmp(now->container, was->container) && (*now->container || *now->ends[0].container))
        how = "its pod has another container by now, and the kubelet did not say how this one ended";
    else if (now->over && !*now->container && !*now->ends[0].container)
        how = "its pod failed (evicted, perhaps), and no kubelet said that its container ended: it may live";
    if (!how)
        return;
    v->ended = true;
    snprintf(v->how, sizeof v->how, "%s", how);
}
