/* SPDX-License-Identifier: BSD-3-Clause */
/* Checking and comparing table schemas (schema.h). Pure; any thread. */
#include "common/wire/schema.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

_Static_assert(sizeof(struct table_reaction) == 32, "wire format");
_Static_assert(sizeof(struct table_schema) == 112, "wire format");

static bool is_zero(const void *data, size_t bytes)
{
    const uint8_t *p = data;
    while (bytes > 0 && *p == 0)
        p++, bytes--;
    return bytes == 0;
}

/* Letters, digits, '_', '-', '.', then NULs to the end. */
static bool is_name(const char name[TABLE_NAME_MAX])
{
    size_t len = strnlen(name, TABLE_NAME_MAX);
    if (len == 0 || len == TABLE_NAME_MAX || !is_zero(name + len, TABLE_NAME_MAX - len))
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '-' || c == '.'))
            return false;
    }
    return true;
}

static const char *check_reaction(const struct table_schema *s, const struct table_reaction *r)
{
    uint32_t end = (uint32_t)r->off + r->len;
    if (r->kind == REACT_NONE)
        return is_zero(r, sizeof *r) ? NULL : "reaction: fields set, but no kind";
    if (r->kind > REACT_SUB || !is_zero(r->zero, sizeof r->zero))
        return "reaction: unknown kind";
    if (!is_name(r->table))
        return "reaction: not a table name";
    if (r->kind == REACT_FREE && ((r->len != 4 && r->len != 12) || end > s->value_size))
        return "reaction: no index (4 bytes, or 12 with its version) at that place of the value";
    if (r->kind == REACT_SUB && (r->len == 0 || end > s->key_size))
        return "reaction: those bytes are not inside the key";
    return NULL;
}

static const char *check_sketch(const struct table_schema *s)
{
    if (s->value_size != 8)
        return "value_size: a sketch's estimates are 8 bytes";
    if (s->max_entries == 0 || s->max_entries % SKETCH_ROWS || s->max_entries > SKETCH_CELLS_MAX)
        return "max_entries: a sketch has 4 to 1048576 cells in each hash slot, a multiple of 4";
    if (s->timeout_ms | s->quarantine_ms | s->flags)
        return "timeout_ms, quarantine_ms, flags: a sketch has none of them";
    return s->reactions[0].kind | s->reactions[1].kind ? "reaction: a sketch loses no entries"
                                                       : NULL;
}

static const char *check_durability(const struct table_schema *s)
{
    if (s->durability > DURABLE_NONE)
        return "durability: unknown";
    if (s->durability != DURABLE_NONE)
        return NULL;
    if (s->kind == TABLE_POOL)
        return "durability: a pool's indexes would be given out twice without replication";
    if (s->flags & (TABLE_PARENT_DIES | TABLE_EVENTS) || s->reactions[0].kind ||
        s->reactions[1].kind)
        return "durability: events and reactions need a replicated table";
    return NULL;
}

static const char *check_flags(const struct table_schema *s)
{
    if (s->flags > (TABLE_PARENT_DIES | TABLE_EVENTS | TABLE_ABSOLUTE | TABLE_ONE_SIDED))
        return "flags: an unknown one is set";
    if (s->flags & TABLE_EVENTS && s->kind == TABLE_POOL)
        return "flags: pools have no events; keep a timer beside the index";
    if (s->flags & TABLE_ONE_SIDED && (s->kind == TABLE_SKETCH || s->durability != DURABLE_SYNC))
        return "flags: one-sided reads need entries that are committed: no sketch, durability sync";
    return NULL;
}

static const char *check_sizes(const struct table_schema *s)
{
    bool pool = s->kind == TABLE_POOL;
    if (s->key_size == 0 || s->key_size > TXN_KEY_MAX)
        return "key_size: write a number from 1 to 40";
    if (pool && s->key_size != 4)
        return "key_size: a pool's key is its index, 4 bytes";
    if ((uint32_t)s->part_off + s->part_len > s->key_size || (s->part_len == 0 && !pool))
        return "part_off, part_len: the partition key must be a part of the key";
    if (s->kind == TABLE_SKETCH)
        return check_sketch(s);
    if (s->value_size > TXN_VALUE_MAX)
        return "value_size: write a number up to 256";
    if (s->kind == TABLE_COUNTERS && (s->value_size == 0 || s->value_size % 8 != 0))
        return "value_size: counters are 8 bytes each";
    if (pool && s->max_entries == 0)
        return "max_entries: a pool needs its number of indexes";
    if (!pool && s->quarantine_ms != 0)
        return "quarantine_ms: only pools have one";
    return NULL;
}

const char *schema_validate(const struct table_schema *s)
{
    if (!is_name(s->name))
        return "name: 1 to 23 letters, digits, '_', '-' or '.', padded with NULs";
    if (s->kind < TABLE_HASH || s->kind > TABLE_SKETCH)
        return "kind: not a table kind";
    const char *why = check_durability(s);
    if (!why)
        why = check_flags(s);
    if (!why)
        why = check_sizes(s);
    for (int i = 0; !why && i < TABLE_REACTIONS; i++)
        why = check_reaction(s, &s->reactions[i]);
    return why;
}

static uint32_t number_at(const struct table_schema *s, size_t off, size_t bytes)
{
    uint32_t n = 0;
    memcpy(&n, (const uint8_t *)s + off, bytes);
    return n;
}

static int compare_numbers(const struct table_schema *have, const struct table_schema *want,
                           char *err, uint32_t err_len)
{
#define FIELD(f) {#f, offsetof(struct table_schema, f), sizeof(((struct table_schema *)0)->f)}
    static const struct { const char *name; size_t off, bytes; } fields[] = {
        FIELD(kind), FIELD(durability), FIELD(key_size), FIELD(part_off),
        FIELD(part_len), FIELD(flags), FIELD(value_size), FIELD(timeout_ms),
        FIELD(max_entries), FIELD(quarantine_ms)};
#undef FIELD
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        uint32_t h = number_at(have, fields[i].off, fields[i].bytes);
        uint32_t w = number_at(want, fields[i].off, fields[i].bytes);
        if (h == w)
            continue;
        snprintf(err, err_len,
                 "table %.*s: the store has schema version %u with %s %u, asked for is "
                 "version %u with %s %u",
                 TABLE_NAME_MAX, have->name, have->version, fields[i].name, h, want->version,
                 fields[i].name, w);
        return -1;
    }
    return 0;
}

static int compare_reactions(const struct table_schema *have, const struct table_schema *want,
                             char *err, uint32_t err_len)
{
    for (int i = 0; i < TABLE_REACTIONS; i++) {
        const struct table_reaction *h = &have->reactions[i], *w = &want->reactions[i];
        if (memcmp(h, w, sizeof *h) == 0)
            continue;
        snprintf(err, err_len,
                 "table %.*s: the store has schema version %u with reaction %d: kind %u on '%.*s' "
                 "at %u+%u, asked for is version %u with kind %u on '%.*s' at %u+%u",
                 TABLE_NAME_MAX, have->name, have->version, i, h->kind, TABLE_NAME_MAX, h->table,
                 h->off, h->len, want->version, w->kind, TABLE_NAME_MAX, w->table, w->off, w->len);
        return -1;
    }
    return 0;
}

int schema_compare(const struct table_schema *have, const struct table_schema *want, char *err,
                   uint32_t err_len)
{
    if (memcmp(have->name, want->name, TABLE_NAME_MAX) != 0) {
        snprintf(err, err_len, "table names differ: the store has '%.*s', asked for is '%.*s'",
                 TABLE_NAME_MAX, have->name, TABLE_NAME_MAX, want->name);
        return -1;
    }
    if (compare_numbers(have, want, err, err_len) != 0 ||
        compare_reactions(have, want, err, err_len) != 0)
        return -1;
    if (have->version == want->version)
        return 0;
    snprintf(err, err_len, "table %.*s: the store has schema version %u, asked for is version %u",
             TABLE_NAME_MAX, have->name, have->version, want->version);
    return -1;
}

const char *schema_kind_text(uint8_t kind)
{
    static const char *const texts[] = {[TABLE_HASH] = "hash", [TABLE_POOL] = "pool",
                                        [TABLE_COUNTERS] = "counters", [TABLE_SKETCH] = "sketch"};
    return kind && kind < sizeof texts / sizeof texts[0] ? texts[kind] : "unknown";
}

const char *schema_durability_text(uint8_t durability)
{
    static const char *const texts[] = {"sync", "async", "none"};
    return durability < sizeof texts / sizeof texts[0] ? texts[durability] : "unknown";
}
