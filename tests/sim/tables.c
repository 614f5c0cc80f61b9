/* SPDX-License-Identifier: BSD-3-Clause */
/* Schemas, and keys to numbers and back. */
#include "tables.h"

#include <stdlib.h>
#include <string.h>

#define HASH(n, d, keys, values, timeout)                                                          \
    .name = n, .kind = TABLE_HASH, .durability = d, .version = 1, .key_size = keys, .part_off = 0, \
    .part_len = 4, .value_size = values, .timeout_ms = timeout
#define COUNTERS(n, d, keys, values)                                                               \
    .name = n, .kind = TABLE_COUNTERS, .durability = d, .version = 1, .key_size = keys,            \
    .part_off = 0, .part_len = 4, .value_size = values

#define SKETCH(n, d)                                                                               \
    .name = n, .kind = TABLE_SKETCH, .durability = d, .version = 1, .key_size = 8, .part_off = 0,  \
    .part_len = 4, .value_size = 8, .max_entries = SKETCH_CELLS

const struct table_schema sim_schemas[SIM_TABLES] = {
    [T_FLOWS] = {HASH("flows", DURABLE_SYNC, 8, 112, 0), .flags = TABLE_ONE_SIDED},
    [T_IDLE] = {HASH("idle", DURABLE_SYNC, 8, 112, 700), .flags = TABLE_ONE_SIDED,
                .max_entries = IDLE_MAX},
    [T_ALIVE] = {HASH("alive", DURABLE_SYNC, 8, 8, LONGEST_TIMEOUT_MS), .flags = TABLE_ONE_SIDED},
    [T_CALM] = {HASH("calm", DURABLE_ASYNC, 8, 16, 900)},
    [T_SUMS] = {COUNTERS("sums", DURABLE_SYNC, 8, 16), .flags = TABLE_ONE_SIDED},
    [T_HITS] = {COUNTERS("hits", DURABLE_ASYNC, 8, 16)},
    [T_CAPS] = {COUNTERS("caps", DURABLE_SYNC, 4, 8)},
    [T_PORTS] = {.name = "ports", .kind = TABLE_POOL, .version = 1, .key_size = 4,
                 .part_len = 4, .value_size = 16, .max_entries = SIM_PORTS,
                 .quarantine_ms = QUARANTINE_MS, .flags = TABLE_ONE_SIDED},
    [T_MAPS] = {HASH("maps", DURABLE_SYNC, 8, 24, 0), .flags = TABLE_PARENT_DIES | TABLE_ONE_SIDED,
                .reactions = {{.kind = REACT_FREE, .off = 0, .len = 12, .table = "ports"},
                              {.kind = REACT_SUB, .off = 0, .len = 4, .table = "caps"}}},
    [T_SESSIONS] = {HASH("sessions", DURABLE_SYNC, 12, 8, 800)},
    [T_TIMERS] = {HASH("timers", DURABLE_SYNC, 8, 8, DELAY_MAX_MS),
                  .flags = TABLE_EVENTS | TABLE_ABSOLUTE, .max_entries = EVENTS_MAX},
    [T_ENDS] = {HASH("ends", DURABLE_SYNC, 8, 16, 400), .flags = TABLE_EVENTS},
    [T_BRIEF] = {HASH("brief", DURABLE_NONE, 8, 16, 600)},
    [T_TALLY] = {COUNTERS("tally", DURABLE_NONE, 8, 16)},
    [T_SEEN] = {SKETCH("seen", DURABLE_SYNC)},
    [T_GUESS] = {SKETCH("guess", DURABLE_NONE)},
};

const uint8_t sim_slots[SIM_SLOTS] = {0, 1, 255};

uint32_t sim_slot_number(uint8_t hash_slot)
{
    uint32_t slot = 0;
    while (sim_slots[slot] != hash_slot)
        slot++;
    return slot;
}

const uint8_t sim_per_slot[SIM_TABLES] = {
    [T_FLOWS] = 4, [T_IDLE] = 3, [T_ALIVE] = 2, [T_CALM] = 2, [T_SUMS] = 2, [T_HITS] = 1,
    [T_CAPS] = 1, [T_PORTS] = 0, [T_MAPS] = 4, [T_SESSIONS] = 4 * SESSIONS_PER_MAP,
    [T_TIMERS] = 4, [T_ENDS] = 3, [T_BRIEF] = 2, [T_TALLY] = 1, [T_SEEN] = 2, [T_GUESS] = 1,
};

/* A partition key of slot s: the smallest number that hashes there. */
static uint32_t part_of(uint32_t slot)
{
    static uint32_t found[SIM_SLOTS];
    if (!found[slot])
        for (uint32_t n = 1; !found[slot]; n++)
            if (slot_of(&n, sizeof n) == sim_slots[slot])
                found[slot] = n;
    return found[slot];
}

static uint32_t first_key(enum sim_table table)
{
    uint32_t n = 0;
    for (int t = 0; t < (int)table; t++)
        n += t == T_PORTS ? (uint32_t)SIM_PORTS : sim_per_slot[t] * (uint32_t)SIM_SLOTS;
    return n;
}

uint16_t sim_key(enum sim_table table, uint32_t slot, uint32_t i)
{
    return (uint16_t)(first_key(table) + slot * sim_per_slot[table] + i);
}

uint16_t sim_port_key(uint32_t index)
{
    return index < SIM_PORTS ? (uint16_t)(first_key(T_PORTS) + index) : HIST_NO_KEY;
}

uint32_t sim_port_index(uint16_t key)
{
    return key - first_key(T_PORTS);
}

uint8_t sim_port_slot(uint32_t index)
{
    return (uint8_t)(PORT_SLOT + index);
}

enum sim_table sim_key_table(uint16_t key)
{
    int t = SIM_TABLES - 1;
    while (first_key((enum sim_table)t) > key)
        t--;
    return (enum sim_table)t;
}

uint32_t sim_key_bytes(uint16_t key, uint8_t *out)
{
    enum sim_table table = sim_key_table(key);
    uint32_t n = key - first_key(table);
    if (table == T_PORTS) {
        n = sim_port_index(key);
        memcpy(out, &n, 4);
        return 4;
    }
    uint32_t i = n % sim_per_slot[table];
    uint32_t words[3] = {part_of(n / sim_per_slot[table]), i, 0};
    if (table == T_SESSIONS) {
        words[1] = i / SESSIONS_PER_MAP;
        words[2] = i % SESSIONS_PER_MAP;
    }
    memcpy(out, words, sim_schemas[table].key_size);
    return sim_schemas[table].key_size;
}

uint16_t sim_key_find(enum sim_table table, const uint8_t *bytes, uint32_t len)
{
    uint32_t first = first_key(table), end = first_key((enum sim_table)(table + 1));
    for (uint32_t key = first; key < end; key++) {
        uint8_t mine[TXN_KEY_MAX];
        if (sim_key_bytes((uint16_t)key, mine) == len && !memcmp(mine, bytes, len))
            return (uint16_t)key;
    }
    return HIST_NO_KEY;
}

enum sim_table sim_table_named(const char *name)
{
    int t = 0;
    while (t < SIM_TABLES && strcmp(sim_schemas[t].name, name))
        t++;
    return (enum sim_table)t;
}

uint32_t sim_token_offset(enum sim_table table)
{
    return table == T_MAPS ? 16 : 0;
}

uint8_t workload_slot(uint32_t n)
{
    return n < SIM_SLOTS ? sim_slots[n] : 77;
}

static void declare(struct world *w, uint16_t number)
{
    enum sim_table table = sim_key_table(number);
    const struct table_schema *s = &sim_schemas[table];
    uint32_t n = number - first_key(table);
    struct hist_key key = {
        .sync = s->durability == DURABLE_SYNC,
        .alone = s->durability == DURABLE_NONE,
        .counter = s->kind == TABLE_COUNTERS,
        .pool = s->kind == TABLE_POOL,
        .summed = table == T_SUMS || table == T_HITS || table == T_TALLY,
        .grouped = table == T_SESSIONS || table == T_MAPS,
        .vanishes = s->timeout_ms || table == T_MAPS || table == T_PORTS || table == T_CAPS ||
                    table == T_TALLY,
        .timeout_ms = table == T_BRIEF ? 0 : s->timeout_ms, /* it goes with its primary, or slot */
        .events = s->flags & TABLE_EVENTS,
        .absolute = s->flags & TABLE_ABSOLUTE,
        .quarantine_ms = s->quarantine_ms,
    };
    if (s->kind == TABLE_SKETCH) {
        key.sketch = key.vanishes = true;
        key.exact = key.sync; /* so few keys share no cell of every row */
        key.sync = false;     /* estimates have no versions */
    }
    if (table == T_PORTS) {
        key.slot = sim_port_slot(sim_port_index(number));
        snprintf(key.name, sizeof key.name, "%s[%u]", s->name, sim_port_index(number));
    } else {
        key.slot = sim_slots[n / sim_per_slot[table]];
        snprintf(key.name, sizeof key.name, "%s[%u.%u]", s->name, key.slot,
                 n % sim_per_slot[table]);
    }
    hist_add_key(&w->history, &key);
}

void workload_keys(struct world *w)
{
    uint32_t n = first_key(SIM_TABLES);
    if (n > KEYS_MAX)
        abort();
    for (uint32_t key = 0; key < n; key++)
        declare(w, (uint16_t)key);
}
