/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The desired state (desired.h): from a text, and its changes. A change is made on the struct
 * only after everything about it was found right.
 */
#include "orchestrator/model/desired.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *orch_kind_text(enum orch_kind kind)
{
    static const char *const texts[] = {
#define X(id, text) [ORCH_##id] = text,
        ORCH_KINDS(X)
#undef X
    };
    return texts[kind];
}

/* --- who has to be started anew ------------------------------------------------------------------------ */

/* Does a program of that kind read what stands below this top-level key? */
static bool reads(enum orch_kind kind, const char *line, size_t bytes)
{
    static const struct { const char *key; uint8_t kinds; } keys[] = {
        {"store:", 1 << ORCH_STORE | 1 << ORCH_WORKER},
        {"steering:", 1 << ORCH_STEERING | 1 << ORCH_WORKER},
        {"worker:", 1 << ORCH_WORKER}, {"chain:", 1 << ORCH_WORKER}, {"nfs:", 1 << ORCH_WORKER},
        {"controller:", 0}, {"groups:", 0},
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (bytes >= strlen(keys[i].key) && !memcmp(line, keys[i].key, strlen(keys[i].key)))
            return keys[i].kinds >> kind & 1;
    return true;
}

static void mix(uint64_t *hash, const void *bytes, size_t n)
{
    for (const uint8_t *p = bytes; n--; p++)
        *hash = (*hash ^ *p) * 0x100000001b3; /* FNV-1a */
}

static uint64_t hash_part(const char *text, enum orch_kind kind)
{
    uint64_t hash = 0xcbf29ce484222325;
    bool read = true;
    for (const char *line = text, *next; *line; line = next) {
        size_t n = strcspn(line, "\n"), blank = strspn(line, " ");
        next = line + n + (line[n] == '\n');
        if (blank == n || line[blank] == '#')
            continue;
        if (!blank && line[0] != '-' && line[0] != ']' && line[0] != '}')
            read = reads(kind, line, n);
        if (read)
            mix(&hash, line, n);
    }
    return hash;
}

uint64_t desired_config(const struct orch_desired *d, enum orch_kind kind,
                        const struct orch_group *g)
{
    uint64_t hash = d->parts[kind];
    if (g) {
        mix(&hash, g->program, strlen(g->program));
        mix(&hash, &g->memory_mb, sizeof g->memory_mb);
        mix(&hash, &g->nice, sizeof g->nice);
        const char *front = site_front(d->site, g->front).name; /* its place may change */
        if (g->front)
            mix(&hash, front, strlen(front));
        if (g->weight != ORCH_WEIGHT)
            mix(&hash, &g->weight, sizeof g->weight);
    }
    return hash >> 1 ? hash >> 1 : 1;
}

/* --- from a text ----------------------------------------------------------------------------- */

static void group_of(const struct site *site, const struct site_group *from, struct orch_group *to)
{
    int front = site_front_named(site, from->front);
    const struct site_autoscale *a = &from->autoscale;
    *to = (struct orch_group){
        .replicas = from->replicas, .min = from->min, .max = from->max,
        .memory_mb = from->limits.memory_mb, .nice = (int32_t)from->limits.nice,
        .front = front > 0 ? (uint32_t)front : 0, .weight = from->weight,
        .autoscale = {.enabled = a->enabled, .busy_high_permille = a->busy_high_permille,
                      .busy_low_permille = a->busy_low_permille, .queue_high = a->queue_high,
                      .drops_high_pps = a->drops_high_pps, .up_hold_ms = a->up_hold_ms,
                      .down_hold_ms = a->down_hold_ms, .cooldown_ms = a->cooldown_ms}};
    snprintf(to->name, sizeof to->name, "%s", from->name);
    snprintf(to->program, sizeof to->program, "%s", from->program ? from->program : "");
}

int desired_from_text(struct orch_desired **out, const char *file, const char *text, char *err,
                      uint32_t err_len)
{
    static const char standard[] = "site.yaml";
    char why[700];
    size_t bytes = strlen(text);
    struct orch_desired *d = calloc(1, sizeof *d);
    if (bytes > ORCH_SITE_BYTES) {
        snprintf(err, err_len, "%s is longer than %d bytes; is this a site's file?", file,
                 ORCH_SITE_BYTES);
        free(d);
        return -EINVAL;
    }
    if (!d || !(d->text = strdup(text))) {
        free(d);
        snprintf(err, err_len, "out of memory");
        return -ENOMEM;
    }
    int rc = site_parse((const uint8_t *)text, (uint32_t)bytes, NULL, 0, &d->site, NULL, why,
                        sizeof why);
    if (rc) {
        bool named = !strncmp(why, standard, sizeof standard - 1);
        snprintf(err, err_len, "%s%s", named ? file : "", why + (named ? sizeof standard - 1 : 0));
        d->site = NULL;
        desired_free(d);
        return -EINVAL;
    }
    d->revision = 1;
    for (int kind = 0; kind <= ORCH_WORKER; kind++)
        d->parts[kind] = hash_part(text, (enum orch_kind)kind);
    d->ngroups = d->site->groups_count;
    for (uint32_t i = 0; i < d->ngroups; i++)
        group_of(d->site, &d->site->groups[i], &d->groups[i]);
    *out = d;
    return 0;
}

struct orch_desired *desired_copy(const struct orch_desired *d)
{
    struct orch_desired *c = NULL;
    char err[200];
    if (desired_from_text(&c, "site.yaml", d->text, err, sizeof err))
        return NULL;
    char *text = c->text;
    struct site *site = c->site;
    *c = *d;
    c->text = text;
    c->site = site;
    return c;
}

void desired_free(struct orch_desired *d)
{
    if (!d)
        return;
    site_free(d->site, NULL, 0, NULL);
    free(d->text);
    free(d);
}

/* --- finding ------------------------------------------------------------------------------------ */

static struct orch_group *group_named(struct orch_desired *d, const char *name)
{
    for (uint32_t i = 0; i < d->ngroups; i++)
        if (!strcmp(d->groups[i].name, name))
            return &d->groups[i];
    return NULL;
}

const struct orch_group *desired_group(const struct orch_desired *d, const char *name)
{
    return group_named((struct orch_desired *)d, name);
}

const struct orch_group *desired_group_of(const struct orch_desired *d, const char *name)
{
    for (uint32_t i = 0; i < d->ngroups; i++) {
        size_t n = strlen(d->groups[i].name);
        if (!strncmp(d->groups[i].name, name, n) && name[n] == '-' && name[n + 1] &&
            strspn(name + n + 1, "0123456789") == strlen(name + n + 1))
            return &d->groups[i];
    }
    return NULL;
}

bool desired_is_stopped(const struct orch_desired *d, const char *node)
{
    for (uint32_t i = 0; i < d->nstopped; i++)
        if (!strcmp(d->stopped[i], node))
            return true;
    return false;
}

static void say_groups(const struct orch_desired *d, char *to, size_t room)
{
    size_t used = 0;
    *to = 0;
    for (uint32_t i = 0; i < d->ngroups && used < room; i++)
        used += (size_t)snprintf(to + used, room - used, "%s%s", i ? ", " : "", d->groups[i].name);
}

/* NULL, and a sentence. */
static struct orch_group *wanted_group(struct orch_desired *d, const char *name, char *err,
                                       uint32_t err_len)
{
    char names[ORCH_GROUPS * ORCH_NAME];
    struct orch_group *g = group_named(d, name);
    if (!g) {
        say_groups(d, names, sizeof names);
        snprintf(err, err_len, "there is no group '%.40s'; this site has: %s", name, names);
    }
    return g;
}

/* --- changes ------------------------------------------------------------------------------------- */

int desired_scale(struct orch_desired *d, const char *group, int64_t replicas, char *err,
                  uint32_t err_len)
{
    struct orch_group *g = wanted_group(d, group, err, err_len);
    if (!g)
        return -ENOENT;
    if (replicas < g->min || replicas > g->max) {
        snprintf(err, err_len, "%ld replicas of %s cannot be: write a number from %u to %u (its min "
                 "and max in site.yaml)", replicas, g->name, g->min, g->max);
        return -EINVAL;
    }
    int64_t others = 0, beside = 0; /* of the site; of the same front end */
    for (uint32_t i = 0; i < d->ngroups; i++) {
        others += &d->groups[i] == g ? 0 : d->groups[i].replicas;
        beside += &d->groups[i] == g || d->groups[i].front != g->front ? 0 : d->groups[i].replicas;
    }
    if (others + replicas < 1) {
        snprintf(err, err_len, "the site's last worker is not taken away; `lethe down` stops a site");
        return -EINVAL;
    }
    if (others + replicas > ORCH_WORKERS) {
        snprintf(err, err_len, "%ld replicas of %s and %ld of other groups are more than the %d that a site "
                 "may have", replicas, g->name, others, ORCH_WORKERS);
        return -EINVAL;
    }
    if (beside + replicas > d->site->steering.workers_max) {
        snprintf(err, err_len, "%ld replicas of %s and %ld of other groups are more than "
                 "steering.workers_max (%u) has room for", replicas, g->name, beside,
                 d->site->steering.workers_max);
        return -EINVAL;
    }
    if (g->replicas == replicas) {
        snprintf(err, err_len, "%s has %ld replicas already", g->name, replicas);
        return -EALREADY;
    }
    g->replicas = (uint32_t)replicas;
    d->revision++;
    return 0;
}

int desired_policy(struct orch_desired *d, const char *group, const struct orch_policy *p,
                   char *err, uint32_t err_len)
{
    struct orch_group *g = wanted_group(d, group, err, err_len);
    if (!g)
        return -ENOENT;
    if (!memcmp(&g->autoscale, p, sizeof *p)) {
        snprintf(err, err_len, "%s has this policy already", g->name);
        return -EALREADY;
    }
    g->autoscale = *p;
    d->revision++;
    return 0;
}

static const struct site_node *node_named(const struct site *s, const char *name)
{
    for (unsigned i = 0; i < s->store.nodes_count; i++)
        if (!strcmp(s->store.nodes[i].name, name))
            return &s->store.nodes[i];
    return NULL;
}

int desired_stop(struct orch_desired *d, const char *node, bool stopped, char *err,
                 uint32_t err_len)
{
    if (!node_named(d->site, node)) {
        snprintf(err, err_len, "there is no store node '%.40s' in this site", node);
        return -ENOENT;
    }
    if (desired_is_stopped(d, node) == stopped) {
        snprintf(err, err_len, "%s is taken %s already", node, stopped ? "out" : "in");
        return -EALREADY;
    }
    if (stopped && !d->site->store.etcd_count && !strcmp(node, d->site->store.nodes[0].name)) {
        snprintf(err, err_len, "%s stays: in a site without store.etcd the first node is the primary for "
                 "ever", node);
        return -EINVAL;
    }
    if (stopped && d->site->store.nodes_count - d->nstopped <= d->site->store.min_copies) {
        snprintf(err, err_len, "%s stays: without it there would be %u nodes, and store.min_copies is %u",
                 node, d->site->store.nodes_count - d->nstopped - 1, d->site->store.min_copies);
        return -EINVAL;
    }
    if (stopped) {
        snprintf(d->stopped[d->nstopped++], ORCH_NAME, "%s", node);
    } else {
        uint32_t i = 0;
        while (strcmp(d->stopped[i], node))
            i++;
        memmove(d->stopped[i], d->stopped[--d->nstopped], ORCH_NAME);
    }
    d->revision++;
    return 0;
}

int desired_down(struct orch_desired *d, bool down, char *err, uint32_t err_len)
{
    if (d->down == down) {
        snprintf(err, err_len, "the site is %s already", down ? "down" : "up");
        return -EALREADY;
    }
    d->down = down;
    d->revision++;
    return 0;
}

/* --- another text ----------------------------------------------------------------------------------- */

static bool same_etcd(const struct site_store *a, const struct site_store *b)
{
    bool same = a->etcd_count == b->etcd_count && !strcmp(a->etcd_prefix, b->etcd_prefix);
    for (unsigned i = 0; same && i < a->etcd_count; i++)
        same = !strcmp(a->etcd[i], b->etcd[i]);
    return same;
}

/* What a running site cannot change: a key, or NULL. */
static const char *fixed_key(const struct site *a, const struct site *b)
{
    if (strcmp(a->run_dir, b->run_dir))
        return "run_dir";
    if (a->store.shards != b->store.shards)
        return "store.shards";
    if (!same_etcd(&a->store, &b->store))
        return "store.etcd and store.etcd_prefix";
    /* Nodes have numbers by their place. */
    for (unsigned i = 0; i < a->store.nodes_count; i++)
        if (i >= b->store.nodes_count || strcmp(a->store.nodes[i].name, b->store.nodes[i].name) ||
            strcmp(a->store.nodes[i].listen, b->store.nodes[i].listen))
            return "the store.nodes there are (further ones may follow them)";
    return NULL;
}

/* What was changed by hand stays, unless the new text says something else than the old one. */
static void keep_numbers(const struct orch_desired *old, struct orch_desired *d)
{
    struct orch_group was;
    for (uint32_t i = 0; i < d->ngroups; i++) {
        struct orch_group *g = &d->groups[i];
        const struct orch_group *now = desired_group(old, g->name);
        if (!now)
            continue;
        group_of(old->site, &old->site->groups[now - old->groups], &was);
        if (was.replicas == g->replicas && now->replicas >= g->min && now->replicas <= g->max)
            g->replicas = now->replicas;
        if (!memcmp(&was.autoscale, &g->autoscale, sizeof was.autoscale))
            g->autoscale = now->autoscale;
    }
}

static bool fits(const struct orch_desired *d)
{
    uint32_t all = 0, of[ORCH_FRONTS] = {0};
    bool room = true;
    for (uint32_t i = 0; i < d->ngroups; i++) {
        all += d->groups[i].replicas;
        of[d->groups[i].front] += d->groups[i].replicas;
        room &= of[d->groups[i].front] <= d->site->steering.workers_max;
    }
    return all && all <= ORCH_WORKERS && room;
}

int desired_text(struct orch_desired *d, const char *file, const char *text, char *err,
                 uint32_t err_len)
{
    struct orch_desired *n = NULL;
    if (!strcmp(d->text, text) && !d->down) {
        snprintf(err, err_len, "the site is described by this text already");
        return -EALREADY;
    }
    int rc = desired_from_text(&n, file, text, err, err_len);
    if (rc)
        return rc;
    const char *fixed = fixed_key(d->site, n->site);
    if (fixed) {
        snprintf(err, err_len, "%s: another value of %s would make another site of it; keep what it was, "
                 "or give the new site its own run_dir and store.etcd_prefix", file, fixed);
        desired_free(n);
        return -EPERM;
    }
    keep_numbers(d, n);
    if (!fits(n)) /* with what was changed by hand: the text alone does */
        for (uint32_t i = 0; i < n->ngroups; i++)
            n->groups[i].replicas = n->site->groups[i].replicas;
    n->revision = d->revision + 1;
    n->nstopped = d->nstopped;
    memcpy(n->stopped, d->stopped, sizeof n->stopped);
    struct orch_desired old = *d;
    *d = *n;
    *n = old;
    desired_free(n);
    return 0;
}
