/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The highest incarnation that a node ever had, as etcd tells (views_etcd.h): one question, asked
 * before the process has an incarnation itself, so that it is above all earlier ones whatever the
 * wall clock says. The caller's thread; nothing is left behind.
 */
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "statestore/server/views_etcd_impl.h"

enum { PATIENCE_MS = 2000, AGAIN_MS = 50 };

struct question {
    const char *prefix;
    uint32_t node, nodes;
    bool answered, failed;
    uint64_t newest;
    char why[200];
};

static void at_least(struct question *q, uint64_t incarnation)
{
    if (incarnation > q->newest)
        q->newest = incarnation;
}

static void from_registration(struct question *q, const char *text, uint32_t bytes)
{
    struct views_registration r;
    if (views_json_registration(text, bytes, &r))
        return;
    at_least(q, r.incarnation);
    for (uint32_t i = 0; i < r.nholds; i++)
        at_least(q, r.holds[i].incarnation);
}

static void from_view(struct question *q, const char *text, uint32_t bytes)
{
    struct shard_view v;
    if (views_json_view(text, bytes, q->nodes, &v))
        return;
    for (uint32_t i = 0; i < v.nmembers; i++)
        if (v.members[i].node == q->node)
            at_least(q, v.members[i].incarnation);
}

static void from_kv(struct question *q, const json_t *kv)
{
    char name[KEY_MAX_BYTES], own[40], text[VIEWS_JSON_MAX + 1];
    size_t n = strlen(q->prefix);
    const json_t *value = json_object_get(kv, "value");
    if (etcd_bytes(json_object_get(kv, "key"), name, sizeof name) < 0 || strncmp(name, q->prefix, n))
        return;
    int bytes = value ? etcd_bytes(value, text, sizeof text) : 0;
    if (bytes <= 0)
        return;
    if (!strncmp(name + n, "/shards/", 8))
        from_view(q, text, (uint32_t)bytes);
    snprintf(own, sizeof own, "/nodes/%u", q->node);
    if (!strcmp(name + n, own))
        from_registration(q, text, (uint32_t)bytes);
    snprintf(own, sizeof own, "/incarnations/%u", q->node);
    if (!strcmp(name + n, own) && isdigit((unsigned char)text[0]))
        at_least(q, strtoull(text, NULL, 10));
}

static void answered(void *ctx, uint32_t tag, const json_t *answer, const char *why)
{
    struct question *q = ctx;
    const json_t *kvs = json_object_get(answer, "kvs");
    q->answered = true;
    q->failed = !answer;
    if (!answer)
        snprintf(q->why, sizeof q->why, "%s", why);
    for (size_t i = 0; i < json_array_size(kvs); i++)
        from_kv(q, json_array_get(kvs, i));
}

static void watched(void *ctx, const json_t *message, const char *why)
{
}

int views_etcd_newest(const struct views_site *site, const char *const *endpoints, uint32_t nendpoints,
                      const struct etcd_tls *tls, const char *prefix, uint64_t *newest, char *why,
                      uint32_t why_len)
{
    struct question q = {.prefix = prefix, .node = site->node, .nodes = site->nodes, .failed = true};
    struct etcd_config config = {.endpoints = endpoints, .nendpoints = nendpoints, .tls = *tls, .ctx = &q,
                                 .answered = answered, .watched = watched,
                                 .timeout_ms = views_etcd_timeout_ms(site)};
    struct etcd *etcd;
    int rc = etcd_create(&etcd, &config, why, why_len);
    if (rc)
        return rc;
    uint64_t until_ms = clock_ms() + PATIENCE_MS;
    for (uint32_t tried = 0; q.failed && (tried < nendpoints || clock_ms() < until_ms); tried++) {
        if (tried >= nendpoints) /* a failure moves on to the next one; all have failed */
            poll(NULL, 0, AGAIN_MS);
        etcd_post(etcd, "kv/range", views_etcd_range(prefix), 1);
        for (q.answered = false; !q.answered;)
            etcd_poll(etcd, (int)config.timeout_ms);
    }
    etcd_destroy(etcd);
    *newest = q.newest;
    if (q.failed)
        snprintf(why, why_len, "%s", q.why);
    return q.failed ? -ETIMEDOUT : 0;
}
