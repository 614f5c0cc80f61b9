/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory limits: of the shard, and of groups of tables by name (shard_config).
 *
 * Only what would allocate is held to them, and it is asked before it allocates:
 * an insertion that needs no new chunk passes at the limit, and so do updates,
 * deletes and frees. An expiry may go over, by the room its event needs until the
 * event is acknowledged. Whoever is refused is told TXN_NO_MEMORY; which limit it
 * was is counted here, and said to the operator, every NOTE_EVERY_MS at most.
 */
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

enum { NOTE_EVERY_MS = 5000 };

int limits_open(struct shard *s)
{
    if (s->config.nlimits > SHARD_LIMITS_MAX)
        return -1;
    s->limits = calloc(s->config.nlimits + 1u, sizeof *s->limits);
    return s->limits ? 0 : -1;
}

/* A pattern is a name, or the beginning of one and '*'. */
static bool matches(const char *pattern, const char *name)
{
    size_t len = strlen(pattern);
    if (len && pattern[len - 1] == '*')
        return strncmp(pattern, name, len - 1) == 0;
    return strncmp(pattern, name, TABLE_NAME_MAX) == 0;
}

uint64_t limits_of(const struct shard *s, const char *name)
{
    uint64_t mask = 0;
    for (uint32_t i = 0; i < s->config.nlimits; i++)
        for (uint32_t k = 0; k < s->config.limits[i].npatterns; k++)
            if (matches(s->config.limits[i].patterns[k], name))
                mask |= 1ull << i;
    return mask;
}

/* The last one is that of the shard as a whole. */
static bool is_held(const struct shard *s, uint32_t i, uint64_t mask)
{
    return i == s->config.nlimits || mask >> i & 1;
}

static uint64_t used_by(const struct shard *s, uint32_t i)
{
    uint64_t sum = 0;
    for (uint32_t k = 0; k < s->tables; k++)
        sum += is_held(s, i, s->table[k]->limits) ? s->table[k]->bytes : 0;
    return sum;
}

void shard_limit_get(const struct shard *s, uint32_t i, struct shard_limit_status *out)
{
    *out = (struct shard_limit_status){0};
    if (i > s->config.nlimits)
        return;
    out->bytes = i < s->config.nlimits ? s->config.limits[i].bytes : s->config.memory_bytes;
    out->used = used_by(s, i);
    out->refused = s->limits[i].refused;
}

static const char *amount(uint64_t bytes, char text[24])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB"};
    int u = 0;
    for (; u < 3 && bytes >= 1024 && (bytes >= 10240 || bytes % 1024 == 0); u++)
        bytes /= 1024;
    snprintf(text, 24, "%lu %s", (unsigned long)bytes, units[u]);
    return text;
}

/* "tenant workers is at its limit of 64 MiB: nat.session holds 61 MiB" */
static void say(const struct shard *s, uint32_t i, char *text, uint32_t room)
{
    const struct table *most = NULL;
    char shard[24], limit[24], holds[24];
    struct shard_limit_status l;
    shard_limit_get(s, i, &l);
    for (uint32_t k = 0; k < s->tables; k++)
        if (is_held(s, i, s->table[k]->limits) && (!most || s->table[k]->bytes > most->bytes))
            most = s->table[k];
    snprintf(shard, sizeof shard, "shard %u", s->config.shard);
    int n = snprintf(text, room, "%s is at its limit of %s",
                     i < s->config.nlimits ? s->config.limits[i].who : shard,
                     amount(l.bytes, limit));
    if (most && n > 0 && (uint32_t)n < room)
        snprintf(text + n, room - (uint32_t)n, ": %s holds %s", most->schema.name,
                 amount(most->bytes, holds));
}

static void refused(struct shard *s, uint32_t i)
{
    struct limit *l = &s->limits[i];
    char text[200];
    l->refused++;
    if (l->noted_ms && s->now_ms < l->noted_ms + NOTE_EVERY_MS)
        return;
    l->noted_ms = s->now_ms ? s->now_ms : 1;
    say(s, i, text, sizeof text);
    shard_note(s, "limit reached: cause=\"%s\"", text);
}

/* The first limit that `cost` more bytes in the tables would pass; -1: none.
 * `mask`: of a table that is not there yet and takes `fresh`. */
static int first_passed(const struct shard *s, const uint64_t *cost, uint64_t mask, uint64_t fresh)
{
    for (uint32_t i = 0; i <= s->config.nlimits; i++) {
        struct shard_limit_status l;
        uint64_t more = is_held(s, i, mask) ? fresh : 0;
        shard_limit_get(s, i, &l);
        for (uint32_t k = 0; cost && k < s->tables; k++)
            more += is_held(s, i, s->table[k]->limits) ? cost[k] : 0;
        if (l.bytes && more && l.used + more > l.bytes)
            return (int)i;
    }
    return -1;
}

bool limits_allow(struct shard *s, const uint64_t *cost)
{
    int i = first_passed(s, cost, 0, 0);
    if (i >= 0)
        refused(s, (uint32_t)i);
    return i < 0;
}

bool limits_allow_table(struct shard *s, const struct table_schema *schema, char *text,
                        uint32_t room)
{
    int i = first_passed(s, NULL, limits_of(s, schema->name), sizeof(struct table));
    if (i < 0)
        return true;
    refused(s, (uint32_t)i);
    say(s, (uint32_t)i, text, room);
    return false;
}
