/* SPDX-License-Identifier: BSD-3-Clause */
/* See remember.h. */
#include "client/remember.h"

#include <stdlib.h>
#include <string.h>

#include "common/wire/bugs.h"
#include "common/wire/crc.h"

/* --- leases ------------------------------------------------------------------------ */

uint32_t read_stamp(uint64_t now_us)
{
    uint32_t stamp = (uint32_t)(now_us / 1000);
    return stamp ? stamp : UINT32_MAX; /* 0 means none: that moment counts as the one before */
}

uint64_t read_stamp_us(uint32_t stamp, uint64_t now_us)
{
    uint64_t now_ms = now_us / 1000;
    uint32_t age = (uint32_t)now_ms - stamp;
    if (READER_BUG(BUG_READER_LEASE_FROM_RECEIPT))
        return now_us;
    return stamp && age <= INT32_MAX && age <= now_ms ? (now_ms - age) * 1000 : 0;
}

void read_lease_grant(struct read_lease *l, uint64_t sent_us, uint32_t left_ms, uint64_t shard_ms)
{
    uint32_t drift_ms = (left_ms + LEASE_DRIFT - 1) / LEASE_DRIFT + LEASE_ROUNDING_MS;
    if (!sent_us || left_ms <= drift_ms)
        return;
    uint64_t until_us = sent_us + (left_ms - drift_ms) * 1000ull;
    if (sent_us >= l->from_us) {
        l->from_us = sent_us;
        l->shard_ms = shard_ms;
    }
    if (until_us > l->until_us)
        l->until_us = until_us;
}

bool read_lease_is_short(const struct read_lease *l, uint64_t now_us)
{
    return now_us >= l->from_us + (l->until_us - l->from_us) / 2;
}

uint64_t read_lease_shard_ms(const struct read_lease *l, uint64_t now_us)
{
    uint64_t age_ms = now_us > l->from_us ? (now_us - l->from_us) / 1000 : 0;
    return l->shard_ms + age_ms + age_ms / LEASE_DRIFT + LEASE_ROUNDING_MS;
}

/* --- places -------------------------------------------------------------------------- */

enum { WAYS = 4 };
struct set {
    struct place way[WAYS];
    uint8_t next;             /* to be turned out */
};
struct remember {
    uint32_t mask, seed;
    struct set sets[];
};

struct remember *remember_create(uint32_t places, uint32_t seed)
{
    uint32_t sets = 1;
    while (sets < (places + WAYS - 1) / WAYS && sets < 1u << 28)
        sets *= 2;
    struct remember *m = calloc(1, sizeof *m + sets * sizeof m->sets[0]);
    if (m) {
        m->mask = sets - 1;
        m->seed = seed;
    }
    return m;
}

void remember_destroy(struct remember *m)
{
    free(m);
}

static struct set *set_of(struct remember *m, uint8_t table, const void *key, uint8_t key_len)
{
    return &m->sets[crc32c(m->seed + table, key, key_len) & m->mask];
}

static struct place *find(struct set *s, uint8_t table, const void *key, uint8_t key_len)
{
    for (int i = 0; i < WAYS; i++) {
        struct place *p = &s->way[i];
        if (p->key_len == key_len && p->table == table && !memcmp(p->key, key, key_len))
            return p;
    }
    return NULL;
}

struct place *remember_find(struct remember *m, uint8_t table, const void *key, uint8_t key_len)
{
    return find(set_of(m, table, key, key_len), table, key, key_len);
}

static struct place *way_for_another(struct set *s)
{
    for (int i = 0; i < WAYS; i++)
        if (!s->way[i].key_len)
            return &s->way[i];
    return &s->way[s->next++ % WAYS];
}

struct place *remember_put(struct remember *m, uint8_t table, const void *key, uint8_t key_len)
{
    struct set *s = set_of(m, table, key, key_len);
    struct place *p = find(s, table, key, key_len);
    if (p)
        return p;
    p = way_for_another(s);
    *p = (struct place){.table = table, .key_len = key_len};
    memcpy(p->key, key, key_len);
    return p;
}

/* --- verdicts -------------------------------------------------------------------------- */

const char *read_outcome_word(enum read_outcome outcome)
{
    static const char *const words[] = {
#define X(name, word, text) word,
        READ_OUTCOMES(X)
#undef X
    };
    return words[outcome];
}

enum read_outcome read_judge(const struct record_shape *shape, const struct record *copy,
                             const void *key, uint16_t incarnation, const struct read_lease *l,
                             bool touch, uint64_t now_us)
{
    if (!read_lease_holds(l, now_us))
        return READ_NO_LEASE;
    switch (record_check(shape, copy, key, incarnation)) {
    case RECORD_TORN: return READ_TORN;
    case RECORD_NOT_COMMITTED: return READ_PENDING;
    case RECORD_NOT_ITS: return READ_GONE;
    case RECORD_GOOD: break;
    }
    if (!copy->deadline_ms)
        return READ_HIT;
    uint64_t shard_ms = read_lease_shard_ms(l, now_us);
    if (shard_ms >= copy->deadline_ms)
        return READ_EXPIRED;
    return touch && copy->timeout_ms && copy->deadline_ms - shard_ms < copy->timeout_ms
               ? READ_TOUCH_DUE : READ_HIT;
}
