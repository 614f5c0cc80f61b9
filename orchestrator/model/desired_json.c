/* SPDX-License-Identifier: BSD-3-Clause */
/* The desired state and policies as JSON (desired.h). What comes from etcd or from a request may be
 * anything. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "orchestrator/model/desired.h"

enum { HOLD_MAX_MS = 24 * 3600 * 1000, LOAD_MAX = 1000 * 1000 * 1000 };

#define AT(member) offsetof(struct orch_policy, member)
static const struct { const char *key; size_t at; uint32_t least, most; } numbers[] = {
    {"busy_high_permille", AT(busy_high_permille), 1, 1000},
    {"busy_low_permille", AT(busy_low_permille), 0, 999},
    {"queue_high", AT(queue_high), 0, LOAD_MAX},
    {"drops_high_pps", AT(drops_high_pps), 0, LOAD_MAX},
    {"up_hold_ms", AT(up_hold_ms), 0, HOLD_MAX_MS},
    {"down_hold_ms", AT(down_hold_ms), 0, HOLD_MAX_MS},
    {"cooldown_ms", AT(cooldown_ms), 0, HOLD_MAX_MS},
};
enum { NUMBERS = sizeof numbers / sizeof numbers[0] };

/* --- policies ------------------------------------------------------------------------------------ */

json_t *policy_to_json(const struct orch_policy *p)
{
    json_t *o = json_pack("{s:b}", "enabled", p->enabled);
    for (int i = 0; i < NUMBERS; i++)
        json_object_set_new(o, numbers[i].key,
                            json_integer(*(const uint32_t *)((const char *)p + numbers[i].at)));
    return o;
}

static int set_field(struct orch_policy *p, const char *key, const json_t *v, char *err,
                     uint32_t err_len)
{
    if (!strcmp(key, "enabled")) {
        p->enabled = json_is_true(v);
        if (json_is_boolean(v))
            return 0;
        snprintf(err, err_len, "enabled: write true or false");
        return -EINVAL;
    }
    for (int i = 0; i < NUMBERS; i++) {
        if (strcmp(numbers[i].key, key))
            continue;
        json_int_t n = json_integer_value(v);
        *(uint32_t *)((char *)p + numbers[i].at) = (uint32_t)n;
        if (json_is_integer(v) && n >= numbers[i].least && n <= numbers[i].most)
            return 0;
        snprintf(err, err_len, "%s: write a whole number from %u to %u", key, numbers[i].least,
                 numbers[i].most);
        return -EINVAL;
    }
    snprintf(err, err_len, "a policy has no such field; it has enabled");
    for (int i = 0; i < NUMBERS; i++) {
        size_t used = strlen(err);
        snprintf(err + used, err_len - used, ", %s", numbers[i].key);
    }
    return -EINVAL;
}

int policy_from_json(const json_t *o, struct orch_policy *p, char *err, uint32_t err_len)
{
    struct orch_policy n = *p;
    const char *key;
    json_t *v;
    if (!json_is_object(o)) {
        snprintf(err, err_len, "a policy is an object, such as {\"enabled\": true}");
        return -EINVAL;
    }
    json_object_foreach((json_t *)o, key, v) {
        int rc = set_field(&n, key, v, err, err_len);
        if (rc)
            return rc;
    }
    if (n.busy_low_permille >= n.busy_high_permille) {
        snprintf(err, err_len, "busy_low_permille (%u) must be below busy_high_permille (%u)",
                 n.busy_low_permille, n.busy_high_permille);
        return -EINVAL;
    }
    *p = n;
    return 0;
}

/* --- the whole ------------------------------------------------------------------------------------- */

json_t *desired_to_json(const struct orch_desired *d)
{
    json_t *groups = json_array(), *stopped = json_array();
    for (uint32_t i = 0; i < d->ngroups; i++)
        json_array_append_new(groups, json_pack("{s:s, s:i, s:o}", "name", d->groups[i].name,
                                                "replicas", d->groups[i].replicas, "autoscale",
                                                policy_to_json(&d->groups[i].autoscale)));
    for (uint32_t i = 0; i < d->nstopped; i++)
        json_array_append_new(stopped, json_string(d->stopped[i]));
    return json_pack("{s:I, s:b, s:s, s:o, s:o}", "revision", (json_int_t)d->revision, "down", d->down,
                     "site", d->text, "stopped", stopped, "groups", groups);
}

static int take_group(struct orch_desired *d, const json_t *o, char *err, uint32_t err_len)
{
    const char *name = json_string_value(json_object_get(o, "name"));
    const json_t *replicas = json_object_get(o, "replicas");
    struct orch_group *g = name ? (struct orch_group *)desired_group(d, name) : NULL;
    json_int_t n = json_integer_value(replicas);
    if (!g || !json_is_integer(replicas) || n < g->min || n > g->max) {
        snprintf(err, err_len, "the kept state has a group that its site cannot have: %.60s",
                 name ? name : "without a name");
        return -EINVAL;
    }
    g->replicas = (uint32_t)n;
    return policy_from_json(json_object_get(o, "autoscale"), &g->autoscale, err, err_len);
}

static int take_stopped(struct orch_desired *d, const json_t *list, char *err, uint32_t err_len)
{
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)list, i, v) {
        const char *name = json_string_value(v);
        int rc = name ? desired_stop(d, name, true, err, err_len) : -EINVAL;
        if (!name)
            snprintf(err, err_len, "the kept state has a node that is no name");
        if (rc)
            return -EINVAL;
    }
    return 0;
}

int desired_from_json(struct orch_desired **out, const json_t *kept, char *err, uint32_t err_len)
{
    const char *text = json_string_value(json_object_get(kept, "site"));
    const json_t *revision = json_object_get(kept, "revision"), *down = json_object_get(kept, "down");
    const json_t *groups = json_object_get(kept, "groups"), *stopped = json_object_get(kept, "stopped");
    struct orch_desired *d = NULL;
    if (!text || json_integer_value(revision) < 1 || !json_is_boolean(down) ||
        !json_is_array(groups) || !json_is_array(stopped)) {
        snprintf(err, err_len, "the kept state lacks site, revision, down, groups or stopped");
        return -EINVAL;
    }
    int rc = desired_from_text(&d, "the kept site", text, err, err_len);
    for (size_t i = 0; !rc && i < json_array_size(groups); i++)
        rc = take_group(d, json_array_get(groups, i), err, err_len);
    if (!rc)
        rc = take_stopped(d, stopped, err, err_len);
    if (rc) {
        desired_free(d);
        return -EINVAL;
    }
    d->revision = (uint64_t)json_integer_value(revision);
    d->down = json_is_true(down);
    *out = d;
    return 0;
}
