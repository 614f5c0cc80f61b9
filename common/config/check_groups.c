/* SPDX-License-Identifier: BSD-3-Clause */
/* Defaults and limits of `controller` and `groups` (check.c). */
#include "common/config/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/wire/address.h"

enum {
    WORKERS_MOST = 64,         /* steering's most, and the site's */
    GROUP_NAME_MAX = 24,       /* a worker's name is its group's, '-' and a number */
    HOLD_MAX_MS = 24 * 3600 * 1000,
    LOAD_MAX = 1000 * 1000 * 1000,
};

#define AT(member) offsetof(struct site_group, member)
static const struct number {
    const char *key;
    size_t at;
    unsigned least, most, absent;
} numbers[] = {
    {"replicas", AT(replicas), 0, WORKERS_MOST, 1},
    {"min", AT(min), 0, WORKERS_MOST, 1},
    {"max", AT(max), 1, WORKERS_MOST, 0}, /* steering.workers_max */
    {"weight", AT(weight), 1, 100, 100},
    {"limits.memory_mb", AT(limits.memory_mb), 0, 1 << 20, 0},
    {"limits.nice", AT(limits.nice), 0, 19, 0},
    {"autoscale.busy_high_permille", AT(autoscale.busy_high_permille), 1, 1000, 700},
    {"autoscale.busy_low_permille", AT(autoscale.busy_low_permille), 0, 999, 300},
    {"autoscale.queue_high", AT(autoscale.queue_high), 0, LOAD_MAX, 512},
    {"autoscale.drops_high_pps", AT(autoscale.drops_high_pps), 0, LOAD_MAX, 1},
    {"autoscale.up_hold_ms", AT(autoscale.up_hold_ms), 0, HOLD_MAX_MS, 2000},
    {"autoscale.down_hold_ms", AT(autoscale.down_hold_ms), 0, HOLD_MAX_MS, 30000},
    {"autoscale.cooldown_ms", AT(autoscale.cooldown_ms), 0, HOLD_MAX_MS, 5000},
};
enum { NUMBERS = sizeof numbers / sizeof numbers[0] };

const char *group_number_hint(const char *key, char *to, uint32_t room)
{
    const char *rest = strncmp(key, "groups[", 7) ? NULL : strstr(key, "].");
    for (int i = 0; rest && i < NUMBERS; i++)
        if (!strcmp(numbers[i].key, rest + 2)) {
            snprintf(to, room, "a number from %u to %u", numbers[i].least, numbers[i].most);
            return to;
        }
    return NULL;
}

static int check_numbers(struct site_group *g, unsigned at, const struct complaint *c)
{
    char key[PLACE_PATH_MAX];
    for (int i = 0; i < NUMBERS; i++) {
        const struct number *n = &numbers[i];
        unsigned *value = (unsigned *)((char *)g + n->at);
        snprintf(key, sizeof key, "groups[%u].%s", at, n->key);
        if (!places_find(c->places, key))
            *value = n->absent;
        else if (*value < n->least || *value > n->most)
            return complain(c, key, "%u is too %s; write a number from %u to %u", *value,
                            *value < n->least ? "few" : "many", n->least, n->most);
    }
    return 0;
}

/* A worker's socket must be nobody else's. */
static bool is_worker_of(const char *group, const char *name)
{
    size_t n = strlen(group);
    return !strncmp(name, group, n) && name[n] == '-' && name[n + 1] &&
           strspn(name + n + 1, "0123456789") == strlen(name + n + 1);
}

static int check_name(const struct site *s, unsigned at, const struct complaint *c)
{
    const char *name = s->groups[at].name;
    char key[40];
    snprintf(key, sizeof key, "groups[%u].name", at);
    if (!is_instance_name(name) || strlen(name) > GROUP_NAME_MAX)
        return complain(c, key, "'%s' is no name; write up to %d letters, digits, '_' or '-'", name,
                        GROUP_NAME_MAX);
    for (unsigned i = 0; i < at; i++)
        if (!strcmp(s->groups[i].name, name))
            return complain(c, key, "'%s' is the name of two groups; give each its own", name);
    for (unsigned i = 0; i < s->store.nodes_count; i++)
        if (is_worker_of(name, s->store.nodes[i].name))
            return complain(c, key, "a store node is called like a worker of it, %s; choose another "
                            "name", s->store.nodes[i].name);
    for (unsigned i = 0; i < site_fronts(s); i++)
        if (is_worker_of(name, site_front(s, i).name))
            return complain(c, key, "a front end is called like a worker of it, %s; choose another "
                            "name", site_front(s, i).name);
    return 0;
}

/* Workers join it, and it has room for so many. */
static int check_front(struct site *s, unsigned at, const struct complaint *c)
{
    struct site_group *g = &s->groups[at];
    unsigned all = g->replicas;
    char key[40];
    snprintf(key, sizeof key, "groups[%u].front", at);
    if (!text_default(&g->front, "%s", SITE_FRONT_FIRST))
        return complain(c, "", "out of memory");
    if (strcmp(g->front, SITE_FRONT_FIRST) && site_front_named(s, g->front) < 0)
        return complain(c, key, "'%s' is no front end; write %s, or a name of steering.more", g->front,
                        SITE_FRONT_FIRST);
    for (unsigned i = 0; i < at; i++)
        if (!strcmp(s->groups[i].front, g->front))
            all += s->groups[i].replicas;
    if (all > s->steering.workers_max)
        return complain(c, "groups", "%u replicas together are more than steering.workers_max (%u) has "
                        "room for", all, s->steering.workers_max);
    return 0;
}

static int check_group(struct site *s, unsigned at, const struct complaint *c)
{
    struct site_group *g = &s->groups[at];
    const struct site_autoscale *a = &g->autoscale;
    char key[64];
    int bad = check_name(s, at, c);
    if (!bad)
        bad = check_numbers(g, at, c);
    if (bad)
        return bad;
    bool bounded = g->max != 0;
    if (!bounded)
        g->max = s->steering.workers_max;
    unsigned most = g->replicas > g->max && !bounded ? g->replicas : g->max;
    snprintf(key, sizeof key, "groups[%u].max", at);
    if (most > s->steering.workers_max)
        return complain(c, key, "%u workers are more than steering.workers_max (%u) has room for; "
                        "write less here or more there", most, s->steering.workers_max);
    snprintf(key, sizeof key, "groups[%u].replicas", at);
    if (g->replicas < g->min || g->replicas > g->max)
        return complain(c, key, "%u is not within min (%u) and max (%u); change one of them",
                        g->replicas, g->min, g->max);
    snprintf(key, sizeof key, "groups[%u].autoscale.busy_low_permille", at);
    return a->busy_low_permille < a->busy_high_permille
               ? 0
               : complain(c, key, "%u is not below busy_high_permille (%u); write less",
                          a->busy_low_permille, a->busy_high_permille);
}

static int check_controller(struct site *s, const struct complaint *c)
{
    struct site_controller *o = &s->controller;
    char host[ADDRESS_HOST_MAX], why[400];
    uint16_t port;
    if (!text_default(&o->listen, "%s/controller.sock", s->run_dir))
        return complain(c, "", "out of memory");
    if (o->listen[0] == '/')
        return strlen(o->listen) < 108 ? 0 : complain(c, "controller.listen", "is too long for a "
                                                      "socket's path; write at most 107 bytes");
    if (address_split(o->listen, host, &port, why, sizeof why) || !port)
        return complain(c, "controller.listen", "'%s' is neither a path from / nor host:port",
                        o->listen);
    return o->token_file ? 0 : complain(c, "controller.token_file", "is missing: whoever reaches %s "
                                        "could command this site; name a file with a secret, or "
                                        "listen at a socket's path", o->listen);
}

/* One group called nf, unless the file says else. */
static int fill_groups(struct site *s, const struct complaint *c)
{
    if (s->groups_count)
        return 0;
    free(s->groups);
    s->groups = calloc(1, sizeof *s->groups);
    if (!s->groups || !text_default(&s->groups[0].name, "%s", "nf"))
        return complain(c, "", "out of memory");
    s->groups_count = 1;
    return 0;
}

int site_check_groups(struct site *s, const struct complaint *c)
{
    unsigned all = 0;
    int bad = check_controller(s, c);
    if (!bad)
        bad = fill_groups(s, c);
    for (unsigned i = 0; !bad && i < s->groups_count; i++) {
        bad = check_group(s, i, c);
        if (!bad)
            bad = check_front(s, i, c);
        all += s->groups[i].replicas;
    }
    if (!bad && !all)
        bad = complain(c, "groups", "no worker at all; write at least one replica");
    if (!bad && all > WORKERS_MOST)
        bad = complain(c, "groups", "%u replicas together are more than the %d that a site may have", all,
                       WORKERS_MOST);
    return bad;
}
