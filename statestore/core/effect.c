/* SPDX-License-Identifier: BSD-3-Clause */
/* Effects and entries as bytes: writing them, and checking those of others. */
#include <string.h>

#include "effect.h"

struct effect *effect_write(void *at, const struct effect *head, const void *key,
                            const void *parent_key, const void *value)
{
    struct effect *e = at;
    uint8_t *p = (uint8_t *)(e + 1);
    uint32_t size = effect_size(head->key_len, head->parent_key_len, head->value_len);
    memset((uint8_t *)at + size - 8, 0, 8); /* the padding */
    *e = *head;
    e->bytes = size;
    if (head->key_len)
        memcpy(p, key, head->key_len);
    p += head->key_len;
    if (head->parent_key_len)
        memcpy(p, parent_key, head->parent_key_len);
    p += head->parent_key_len;
    if (head->value_len)
        memcpy(p, value, head->value_len);
    return e;
}

const char *effects_check(const void *effects, uint32_t bytes)
{
    const struct effect *e = effects;
    for (uint32_t off = 0; off < bytes; off += e->bytes, e = effect_next(e)) {
        if (bytes - off < sizeof *e)
            return "effect cut short";
        if (e->bytes != effect_size(e->key_len, e->parent_key_len, e->value_len) ||
            e->bytes > bytes - off)
            return "effect of a wrong size";
        if (!e->code || e->code >= EFFECT_CODE_END || e->table >= TABLES_MAX ||
            e->parent_table >= TABLES_MAX)
            return "unknown effect or table";
    }
    return NULL;
}

static uint32_t effects_count(const struct entry *e)
{
    const uint8_t *end = (const uint8_t *)(e + 1) + e->effects_bytes;
    uint32_t n = 0;
    for (const struct effect *f = entry_first(e); (const uint8_t *)f < end; f = effect_next(f))
        n++;
    return n;
}

const char *entry_check(const struct entry *e, uint32_t room)
{
    if (room < sizeof *e || e->bytes > room || e->bytes % 8)
        return "entry cut short";
    if (e->slot > SLOT_BASE || e->also > SLOT_BASE + 1)
        return "entry of an unknown slot";
    if (e->effects_bytes > e->bytes - sizeof *e ||
        e->result_bytes > e->bytes - sizeof *e - e->effects_bytes ||
        e->bytes - sizeof *e - e->effects_bytes - e->result_bytes >= 8)
        return "entry of a wrong size";
    const char *wrong = effects_check(e + 1, e->effects_bytes);
    if (!wrong && effects_count(e) != e->effects)
        return "wrong count of effects";
    return wrong;
}
