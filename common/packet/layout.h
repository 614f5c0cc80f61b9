/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the bytes of a table's keys and values are, for people: fields with a name, a type and a
 * place. Network functions declare it beside the schema (nf_ops.layout), `lethe-nf --explain -o json`
 * tells it, `lethe state` shows entries by it. The store knows nothing of it.
 *
 * Bytes that no field covers are padding: zeros. What is written is read back as the same bytes,
 * as long as padding is zero (layout_padding_is_zero says so).
 *
 * Pure. Bytes are what is in memory: little-endian but where a type says network order.
 */
#ifndef LETHE_PACKET_LAYOUT_H
#define LETHE_PACKET_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

/* clang-format off */
#define FIELD_TYPES(X)                                                                            \
    X(FIELD_U8, "u8", 1)                                                                          \
    X(FIELD_U16, "u16", 2)                                                                        \
    X(FIELD_U32, "u32", 4)                                                                        \
    X(FIELD_U64, "u64", 8)                                                                        \
    X(FIELD_I64, "i64", 8)                                                                        \
    X(FIELD_BE16, "be16", 2)                   /* network order: a port, an IP identification */  \
    X(FIELD_NAMES, "names", 1)                 /* a number below the count of names, by name */   \
    X(FIELD_PROTO, "proto", 1)                 /* tcp */                                          \
    X(FIELD_IPV4, "ipv4", 4)                   /* 10.1.0.5 */                                     \
    X(FIELD_ADDR, "addr", 16)                  /* 10.1.0.5, 2001:db8::1 */                        \
    X(FIELD_END_POINT, "end_point", 20)        /* 10.1.0.5:5353/udp: addr, be16, proto, zero */   \
    X(FIELD_FLOW, "flow", 40)                  /* tcp 10.1.0.5:40000 > 192.0.2.80:80 */           \
    X(FIELD_POOLED, "pooled", 4)               /* 203.0.113.1:1024: an index of the layout's pool */
/* clang-format on */
enum field_type {
#define X(name, text, bytes) name,
    FIELD_TYPES(X)
#undef X
        FIELD_TYPES_END
};

enum { LAYOUT_FIELDS = 12, LAYOUT_RANGES = 64, LAYOUT_TEXT = 160, LAYOUT_NAMES = 32 };

struct table_field {
    const char *name;
    uint8_t type;             /* enum field_type */
    uint8_t off;
    const char *const *names; /* FIELD_NAMES: NULL-ended, at most LAYOUT_NAMES */
};

/* What the indexes of a pool stand for: address by address, in the order of the ranges, `ports`
 * ports of each from first_port on. */
struct layout_pool {
    uint32_t nranges, first_port, ports;
    struct { uint32_t first, count; } ranges[LAYOUT_RANGES]; /* IPv4, host order */
};

struct table_layout {
    uint32_t nkey, nvalue;    /* 0: nothing is known, bytes are shown */
    struct table_field key[LAYOUT_FIELDS], value[LAYOUT_FIELDS];
    struct layout_pool pool;
};

void layout_key(struct table_layout *l, const struct table_field *fields, uint32_t n);
void layout_value(struct table_layout *l, const struct table_field *fields, uint32_t n);

uint32_t field_bytes(uint8_t type);
const char *field_type_text(uint8_t type);
uint8_t field_type_of(const char *text); /* FIELD_TYPES_END: none */

/* The field of a key or value at `bytes` (which its place is counted from). */
void field_show(const struct table_field *f, const struct layout_pool *pool, const uint8_t *bytes,
                char to[LAYOUT_TEXT]);
/* False: `text` is no such thing; `bytes` is as it was. */
bool field_read(const struct table_field *f, const struct layout_pool *pool, const char *text,
                uint8_t *bytes);
/* What a person may write for it, such as "10.1.0.5:5353/udp". */
const char *field_example(const struct table_field *f);
/* Integers, whole: false: it is none, or does not fit. */
bool field_number(const struct table_field *f, const uint8_t *bytes, int64_t *n);

/* NULL, or what is wrong: fields that overlap, or leave `bytes`, that have no name. */
const char *layout_check(const struct table_field *fields, uint32_t n, uint32_t bytes);
bool layout_padding_is_zero(const struct table_field *fields, uint32_t n, const uint8_t *bytes,
                            uint32_t len);

#endif
