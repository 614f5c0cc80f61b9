/* SPDX-License-Identifier: BSD-3-Clause */
/* Schemas, and keys to numbers and back (keys.h). */
#include "keys.h"

#include <stdlib.h>
#include <string.h>

#define HASH(n, keys, values, timeout)                                                             \
    .name = n, .kind = TABLE_HASH, .version = 1, .key_size = keys, .part_off = 0, .part_len = 4,   \
    .value_size = values, .timeout_ms = timeout

const struct table_schema key_schemas[KEY_TABLES] = {
    [T_FLOWS] = {HASH("history.flows", 8, 16, 0)},
    [T_IDLE] = {HASH("history.idle", 8, 16, 1500)},
    [T_SUMS] = {.name = "history.sums", .kind = TABLE_COUNTERS, .version = 1, .key_size = 8,
                .part_len = 4, .value_size = 16},
    [T_CAPS] = {.name = "history.caps", .kind = TABLE_COUNTERS, .version = 1, .key_size = 4,
                .part_len = 4, .value_size = 8},
    [T_MAPS] = {HASH("history.maps", 8, 24, 0), .flags = TABLE_PARENT_DIES,
                .reactions = {{.kind = REACT_FREE, .off = 0, .len = 12, .table = "history.ports"},
                              {.kind = REACT_SUB, .off = 0, .len = 4, .table = "history.caps"}}},
    [T_SESSIONS] = {HASH("history.sessions", 12, 8, 1200)},
    [T_PORTS] = {.name = "history.ports", .kind = TABLE_POOL, .version = 1, .key_size = 4,
                 .part_len = 4, .value_size = 16, .max_entries = PORTS, .quarantine_ms = 300},
};

const uint8_t keys_per_slot[KEY_TABLES] = {
    [T_FLOWS] = 4, [T_IDLE] = 3, [T_SUMS] = 4, [T_CAPS] = 1, [T_MAPS] = 4,
    [T_SESSIONS] = 4 * SESSIONS_PER_MAP, [T_PORTS] = 0,
};

static uint32_t nslots;
static uint8_t slots[LETHE_SLOTS];     /* by number */
static uint32_t parts[LETHE_SLOTS];    /* by number: a partition key that hashes there */
static uint16_t first[KEY_TABLES + 1]; /* a table's first key */

void keys_init(uint32_t n)
{
    nslots = n < 1 ? 1 : n > LETHE_SLOTS ? LETHE_SLOTS : n;
    for (uint32_t i = 0; i < nslots; i++) {
        slots[i] = (uint8_t)(i * 37 + 5); /* 37 and 256 have no common factor: all differ */
        for (uint32_t k = 1; !parts[i]; k++)
            if (slot_of(&k, sizeof k) == slots[i])
                parts[i] = k;
    }
    uint32_t key = 0;
    for (int t = 0; t < KEY_TABLES; t++) {
        first[t] = (uint16_t)key;
        key += t == T_PORTS ? (uint32_t)PORTS : keys_per_slot[t] * nslots;
    }
    first[KEY_TABLES] = (uint16_t)key;
    if (key > KEYS_MAX)
        abort();
}

uint32_t keys_slots(void)
{
    return nslots;
}

uint8_t keys_slot(uint32_t i)
{
    return slots[i];
}

uint32_t keys_part(uint32_t i)
{
    return parts[i];
}

uint32_t keys_count(void)
{
    return first[KEY_TABLES];
}

uint16_t key_of(enum key_table table, uint32_t i, uint32_t n)
{
    return (uint16_t)(first[table] + i * keys_per_slot[table] + n);
}

uint16_t key_of_port(uint32_t index)
{
    return index < PORTS ? (uint16_t)(first[T_PORTS] + index) : HIST_NO_KEY;
}

uint32_t key_port(uint16_t key)
{
    return key - (uint32_t)first[T_PORTS];
}

enum key_table key_table(uint16_t key)
{
    int t = 0;
    while (key >= first[t + 1])
        t++;
    return (enum key_table)t;
}

static uint32_t slot_number(uint16_t key)
{
    enum key_table t = key_table(key);
    return (key - (uint32_t)first[t]) / keys_per_slot[t];
}

uint8_t key_slot(uint16_t key)
{
    return key_table(key) == T_PORTS ? slot_of_index(key_port(key)) : slots[slot_number(key)];
}

uint16_t key_order(uint16_t key)
{
    return key_table(key) == T_PORTS ? (uint16_t)(LETHE_SLOTS + key_port(key)) : key_slot(key);
}

uint32_t key_bytes(uint16_t key, uint8_t *out)
{
    enum key_table t = key_table(key);
    uint32_t words[3] = {key_port(key), 0, 0};
    if (t != T_PORTS) {
        uint32_t n = (key - (uint32_t)first[t]) % keys_per_slot[t];
        words[0] = parts[slot_number(key)];
        words[1] = t == T_SESSIONS ? n / SESSIONS_PER_MAP : n;
        words[2] = t == T_SESSIONS ? n % SESSIONS_PER_MAP : 0;
    }
    memcpy(out, words, key_schemas[t].key_size);
    return key_schemas[t].key_size;
}

uint16_t key_find(enum key_table table, const uint8_t *bytes, uint32_t len)
{
    uint32_t words[3] = {0}, i = 0, n;
    if (len != key_schemas[table].key_size)
        return HIST_NO_KEY;
    memcpy(words, bytes, len);
    if (table == T_PORTS)
        return key_of_port(words[0]);
    while (i < nslots && parts[i] != words[0])
        i++;
    n = table == T_SESSIONS ? words[1] * SESSIONS_PER_MAP + words[2] : words[1];
    bool ours = i < nslots && n < keys_per_slot[table] &&
                (table != T_SESSIONS || words[2] < SESSIONS_PER_MAP);
    return ours ? key_of(table, i, n) : HIST_NO_KEY;
}

uint32_t key_token_offset(enum key_table table)
{
    return table == T_MAPS ? 16 : 0; /* index and version of the pool record stand first */
}

void keys_declare(struct history *h)
{
    for (uint32_t n = 0; n < keys_count(); n++) {
        uint16_t key = (uint16_t)n;
        enum key_table t = key_table(key);
        const struct table_schema *s = &key_schemas[t];
        struct hist_key k = {
            .sync = true,
            .slot = key_order(key),
            .counter = s->kind == TABLE_COUNTERS,
            .pool = s->kind == TABLE_POOL,
            .summed = t == T_SUMS,
            .grouped = t == T_SESSIONS || t == T_MAPS,
            .vanishes = s->timeout_ms || t == T_MAPS || t == T_PORTS || t == T_CAPS,
            .timeout_ms = s->timeout_ms,
            .quarantine_ms = s->quarantine_ms,
        };
        if (t == T_PORTS)
            snprintf(k.name, sizeof k.name, "ports[%u]", key_port(key));
        else
            snprintf(k.name, sizeof k.name, "%s[%u.%u]", s->name + sizeof "history." - 1, k.slot,
                     (key - (uint32_t)first[t]) % keys_per_slot[t]);
        hist_add_key(h, &k);
    }
}
