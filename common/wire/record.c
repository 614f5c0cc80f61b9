/* SPDX-License-Identifier: BSD-3-Clause */
/* See record.h. */
#include "common/wire/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "common/wire/bugs.h"
#include "common/wire/crc.h"

#ifdef LETHE_PLANTED_BUGS
enum reader_bug reader_bug = READER_BUG_NONE;
void (*record_moment)(const struct record *r);
#endif

/* --- shapes ------------------------------------------------------------------------ */

uint8_t record_lines_for(uint32_t payload)
{
    uint32_t rest = payload > LINE0_PAYLOAD ? payload - LINE0_PAYLOAD : 0;
    return (uint8_t)(1 + (rest + LINE_PAYLOAD - 1) / LINE_PAYLOAD);
}

static uint16_t place_of_crc(uint32_t off)
{
    uint32_t rest = off - LINE0_PAYLOAD, line = rest / LINE_PAYLOAD, in_line = rest % LINE_PAYLOAD;
    if (off < LINE0_PAYLOAD)
        return off + 4 <= LINE0_PAYLOAD ? (uint16_t)(offsetof(struct record, payload) + off) : 0;
    return in_line + 4 <= LINE_PAYLOAD
               ? (uint16_t)((1 + line) * LINE_BYTES + offsetof(struct record_line, payload) + in_line)
               : 0;
}

struct record_shape record_shape_of(uint32_t key_size, uint32_t value_size)
{
    return (struct record_shape){.key_size = (uint16_t)key_size,
                                 .value_size = (uint16_t)value_size,
                                 .crc_at = place_of_crc(key_size + value_size),
                                 .lines = record_lines_for(key_size + value_size + 4)};
}

/* --- payload bytes [off, off + len) of a record, in or out, line by line ----------------- */

/* A part of a line: shorter by far than what memcpy is made for. */
static inline void copy_part(uint8_t *to, const uint8_t *from, uint32_t len)
{
    uint64_t word[2];
    if (len < 16) {
        memcpy(to, from, len);
        return;
    }
    for (uint32_t at = 0; at < len - 16; at += 16) {
        memcpy(word, from + at, 16);
        memcpy(to + at, word, 16);
    }
    memcpy(word, from + len - 16, 16); /* again some of what was copied, perhaps */
    memcpy(to + len - 16, word, 16);
}

static void payload_put(struct record *r, uint32_t off, const uint8_t *from, uint32_t len)
{
    if (off < LINE0_PAYLOAD) {
        uint32_t n = len < LINE0_PAYLOAD - off ? len : LINE0_PAYLOAD - off;
        copy_part(r->payload + off, from, n);
        off += n, from += n, len -= n;
    }
    struct record_line *line = (struct record_line *)(r + 1);
    off -= LINE0_PAYLOAD;
    for (line += off / LINE_PAYLOAD, off %= LINE_PAYLOAD; len; line++, off = 0) {
        uint32_t n = len < LINE_PAYLOAD - off ? len : LINE_PAYLOAD - off;
        copy_part(line->payload + off, from, n);
        from += n, len -= n;
    }
}

static void payload_get(const struct record *r, uint32_t off, uint8_t *to, uint32_t len)
{
    if (off < LINE0_PAYLOAD) {
        uint32_t n = len < LINE0_PAYLOAD - off ? len : LINE0_PAYLOAD - off;
        copy_part(to, r->payload + off, n);
        off += n, to += n, len -= n;
    }
    if (!len)
        return;
    const struct record_line *line = (const struct record_line *)(r + 1);
    off -= LINE0_PAYLOAD;
    for (line += off / LINE_PAYLOAD, off %= LINE_PAYLOAD; len; line++, off = 0) {
        uint32_t n = len < LINE_PAYLOAD - off ? len : LINE_PAYLOAD - off;
        copy_part(to, line->payload + off, n);
        to += n, len -= n;
    }
}

static uint32_t crc_of(const struct record_shape *s, uint64_t version, const void *key,
                       const void *value)
{
    uint32_t crc = crc32c(0, &version, sizeof version);
    crc = crc32c(crc, key, s->key_size);
    return crc32c(crc, value, s->value_size);
}

/* --- writing ----------------------------------------------------------------------------- */

/* What was written before is seen before what is written after it. */
static void then(const struct record *r)
{
    __atomic_thread_fence(__ATOMIC_RELEASE);
#ifdef LETHE_PLANTED_BUGS
    if (record_moment)
        record_moment(r);
#else
    (void)r;
#endif
}

static void set_versions(const struct record_shape *s, struct record *r, uint64_t version)
{
    struct record_line *line = (struct record_line *)(r + 1);
    for (int i = s->lines - 1; i > 0; i--)
        __atomic_store_n(&line[i - 1].version, version, __ATOMIC_RELAXED);
    then(r);
    __atomic_store_n(&r->version, version, __ATOMIC_RELAXED);
}

uint32_t record_write(const struct record_shape *s, struct record *r, uint64_t version,
                      const void *key, const void *value)
{
    uint32_t crc = crc_of(s, version, key, value);
    r->state = RECORD_PENDING;
    then(r);
    set_versions(s, r, 0);
    then(r);
    payload_put(r, 0, key, s->key_size);
    payload_put(r, s->key_size, value, s->value_size);
    payload_put(r, (uint32_t)s->key_size + s->value_size, (const uint8_t *)&crc, sizeof crc);
    then(r);
    set_versions(s, r, version);
    then(r);
    return crc;
}

/* --- reading ----------------------------------------------------------------------------- */

void record_value(const struct record_shape *s, const struct record *r, void *value)
{
    payload_get(r, s->key_size, value, s->value_size);
}

uint32_t record_crc(const struct record_shape *s, const struct record *r)
{
    uint32_t crc;
    if (s->crc_at)
        memcpy(&crc, (const uint8_t *)r + s->crc_at, sizeof crc);
    else
        payload_get(r, (uint32_t)s->key_size + s->value_size, (uint8_t *)&crc, sizeof crc);
    return crc;
}

uint32_t record_crc_slow(const struct record_shape *s, const struct record *r)
{
    uint8_t value[TXN_VALUE_MAX];
    record_value(s, r, value);
    return crc_of(s, r->version, r->payload, value);
}

/* What the versions tell apart the CRC does, too: they are the cheaper look. */
static bool is_of_one_moment(const struct record_shape *s, const struct record *copy)
{
    const struct record_line *line = (const struct record_line *)(copy + 1);
    if (READER_BUG(BUG_TORN_TAKEN))
        return true;
    if (!copy->version)
        return false;
    for (int i = 1; i < s->lines; i++)
        if (line[i - 1].version != copy->version)
            return false;
    return record_crc(s, copy) == record_crc_slow(s, copy) || READER_BUG(BUG_CRC_NOT_COMPARED);
}

enum record_verdict record_check(const struct record_shape *s, const struct record *copy,
                                 const void *key, uint16_t incarnation)
{
    bool same = copy->incarnation == incarnation || READER_BUG(BUG_RECORD_NOT_ITS);
    if (copy->state == RECORD_FREE || !same)
        return RECORD_NOT_ITS;
    if (copy->state != RECORD_COMMITTED && !READER_BUG(BUG_PENDING_TAKEN))
        return RECORD_NOT_COMMITTED;
    if (!is_of_one_moment(s, copy))
        return RECORD_TORN;
    same = !memcmp(copy->payload, key, s->key_size) || READER_BUG(BUG_RECORD_NOT_ITS);
    return same ? RECORD_GOOD : RECORD_NOT_ITS;
}
