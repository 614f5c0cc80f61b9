/* SPDX-License-Identifier: BSD-3-Clause */
/* See layout.h. */
#include "common/packet/layout.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/packet/packet_text.h"

static const struct { const char *text; uint8_t bytes; } types[] = {
#define X(name, text, bytes) [name] = {text, bytes},
    FIELD_TYPES(X)
#undef X
};

struct end_point { struct packet_addr addr; uint16_t port; uint8_t proto, zero; };
_Static_assert(sizeof(struct end_point) == 20 && sizeof(struct packet_tuple) == 40, "as the types say");

static void copy(struct table_field *to, uint32_t *to_n, const struct table_field *from, uint32_t n)
{
    *to_n = n < LAYOUT_FIELDS ? n : LAYOUT_FIELDS;
    memcpy(to, from, *to_n * sizeof *to);
}

void layout_key(struct table_layout *l, const struct table_field *fields, uint32_t n)
{
    copy(l->key, &l->nkey, fields, n);
}

void layout_value(struct table_layout *l, const struct table_field *fields, uint32_t n)
{
    copy(l->value, &l->nvalue, fields, n);
}

uint32_t field_bytes(uint8_t type)
{
    return type < FIELD_TYPES_END ? types[type].bytes : 0;
}

const char *field_type_text(uint8_t type)
{
    return type < FIELD_TYPES_END ? types[type].text : "unknown";
}

uint8_t field_type_of(const char *text)
{
    uint8_t type = 0;
    while (type < FIELD_TYPES_END && strcmp(types[type].text, text) != 0)
        type++;
    return type;
}

/* --- numbers ------------------------------------------------------------------------------ */

/* Little-endian; of i64 the bits. */
static uint64_t number_at(const uint8_t *at, uint32_t bytes)
{
    uint64_t n = 0;
    memcpy(&n, at, bytes);
    return n;
}

static uint32_t names_of(const struct table_field *f)
{
    uint32_t n = 0;
    while (f->names && n < LAYOUT_NAMES && f->names[n])
        n++;
    return n;
}

bool field_number(const struct table_field *f, const uint8_t *bytes, int64_t *n)
{
    if (f->type > FIELD_BE16)
        return false;
    uint64_t raw = number_at(bytes + f->off, types[f->type].bytes);
    if (f->type == FIELD_U64 && raw > INT64_MAX)
        return false;
    *n = f->type == FIELD_BE16 ? ntohs((uint16_t)raw) : (int64_t)raw;
    return true;
}

/* From 0 to `most`, decimal. */
static bool whole(const char *text, uint64_t most, uint64_t *n)
{
    char *end;
    errno = 0;
    if (*text < '0' || *text > '9')
        return false;
    *n = strtoull(text, &end, 10);
    return !*end && !errno && *n <= most;
}

static bool read_number(const struct table_field *f, const char *text, uint8_t *at)
{
    uint32_t bytes = types[f->type].bytes;
    bool minus = f->type == FIELD_I64 && *text == '-';
    uint64_t n, most = f->type == FIELD_I64 ? (uint64_t)INT64_MAX + minus : UINT64_MAX >> (64 - 8 * bytes);
    if (!whole(text + minus, most, &n))
        return false;
    n = minus ? 0 - n : n;
    memcpy(at, &n, bytes);
    return true;
}

/* --- end points ---------------------------------------------------------------------------- */

static bool pooled_show(const struct layout_pool *pool, uint32_t index, char to[LAYOUT_TEXT])
{
    uint32_t number = pool->ports ? index / pool->ports : 0;
    for (uint32_t i = 0; pool->ports && i < pool->nranges; i++) {
        if (number < pool->ranges[i].count) {
            struct packet_addr a = packet_ipv4(htonl(pool->ranges[i].first + number));
            packet_end_text(&a, htons((uint16_t)(pool->first_port + index % pool->ports)), to);
            return true;
        }
        number -= pool->ranges[i].count;
    }
    return false;
}

static bool pooled_read(const struct layout_pool *pool, const char *text, uint32_t *index)
{
    struct packet_addr a;
    uint16_t port;
    uint32_t v4, number = 0;
    if (!packet_end_read(text, &a, &port))
        return false;
    memcpy(&v4, a.b + 12, sizeof v4);
    for (uint32_t i = 0; i < pool->nranges; i++) {
        uint32_t nth = ntohl(v4) - pool->ranges[i].first, place = ntohs(port) - pool->first_port;
        struct packet_addr same = packet_ipv4(v4);
        if (nth < pool->ranges[i].count && place < pool->ports && !memcmp(&same, &a, sizeof a)) {
            *index = (number + nth) * pool->ports + place;
            return true;
        }
        number += pool->ranges[i].count;
    }
    return false;
}

static bool end_point_read(const char *text, struct end_point *e)
{
    const char *slash = strchr(text, '/');
    char end[PACKET_END_TEXT];
    size_t n = slash ? (size_t)(slash - text) : 0;
    if (!n || n >= sizeof end)
        return false;
    memcpy(end, text, n);
    end[n] = 0;
    *e = (struct end_point){.zero = 0};
    return packet_end_read(end, &e->addr, &e->port) && packet_proto_read(slash + 1, &e->proto);
}

/* --- one field ---------------------------------------------------------------------------------- */

static void show_end_point(const uint8_t *at, char to[LAYOUT_TEXT])
{
    struct end_point e;
    char end[PACKET_END_TEXT], proto[8];
    memcpy(&e, at, sizeof e);
    packet_end_text(&e.addr, e.port, end);
    packet_proto_text(e.proto, proto);
    snprintf(to, LAYOUT_TEXT, "%s/%s", end, proto);
}

static void show_number(const struct table_field *f, const uint8_t *bytes, char to[LAYOUT_TEXT])
{
    int64_t n;
    if (field_number(f, bytes, &n))
        snprintf(to, LAYOUT_TEXT, "%lld", (long long)n);
    else
        snprintf(to, LAYOUT_TEXT, "%llu", (unsigned long long)number_at(bytes + f->off, field_bytes(f->type)));
}

void field_show(const struct table_field *f, const struct layout_pool *pool, const uint8_t *bytes,
                char to[LAYOUT_TEXT])
{
    const uint8_t *at = bytes + f->off;
    struct packet_addr a = {.b = {0}};
    struct packet_tuple flow;
    to[0] = 0;
    switch (f->type) {
    case FIELD_NAMES:
        if (*at < names_of(f))
            snprintf(to, LAYOUT_TEXT, "%s", f->names[*at]);
        else
            snprintf(to, LAYOUT_TEXT, "%u", *at);
        return;
    case FIELD_PROTO:
        packet_proto_text(*at, to);
        return;
    case FIELD_IPV4:
        a = packet_ipv4((uint32_t)number_at(at, 4));
        packet_addr_text(&a, to);
        return;
    case FIELD_ADDR:
        memcpy(&a, at, sizeof a);
        packet_addr_text(&a, to);
        return;
    case FIELD_END_POINT:
        show_end_point(at, to);
        return;
    case FIELD_FLOW:
        memcpy(&flow, at, sizeof flow);
        packet_flow_text(&flow, to);
        return;
    case FIELD_POOLED:
        if (!pooled_show(pool, (uint32_t)number_at(at, 4), to))
            snprintf(to, LAYOUT_TEXT, "%u", (uint32_t)number_at(at, 4));
        return;
    default:
        show_number(f, bytes, to);
    }
}

static bool read_be16(const char *text, uint8_t *at)
{
    uint16_t port;
    return packet_port_read(text, &port) && memcpy(at, &port, sizeof port);
}

static bool read_small(const struct table_field *f, const char *text, uint8_t *at)
{
    uint64_t n;
    uint32_t k = 0;
    if (f->type == FIELD_PROTO)
        return packet_proto_read(text, at);
    if (f->type == FIELD_BE16)
        return read_be16(text, at);
    while (k < names_of(f) && strcmp(f->names[k], text) != 0)
        k++;
    if (k < names_of(f))
        *at = (uint8_t)k;
    else if (whole(text, 255, &n))
        *at = (uint8_t)n;
    else
        return false;
    return true;
}

static bool read_address(const struct table_field *f, const char *text, uint8_t *at)
{
    struct packet_addr a;
    if (!packet_addr_read(text, &a))
        return false;
    if (f->type == FIELD_ADDR) {
        memcpy(at, &a, sizeof a);
        return true;
    }
    struct packet_addr v4 = packet_ipv4((uint32_t)number_at(a.b + 12, 4));
    if (memcmp(&v4, &a, sizeof a) != 0)
        return false;
    memcpy(at, a.b + 12, 4);
    return true;
}

bool field_read(const struct table_field *f, const struct layout_pool *pool, const char *text,
                uint8_t *bytes)
{
    uint8_t *at = bytes + f->off;
    struct end_point end;
    struct packet_tuple flow;
    uint32_t index;
    uint64_t n;
    switch (f->type) {
    case FIELD_NAMES:
    case FIELD_PROTO:
    case FIELD_BE16:
        return read_small(f, text, at);
    case FIELD_IPV4:
    case FIELD_ADDR:
        return read_address(f, text, at);
    case FIELD_END_POINT:
        return end_point_read(text, &end) && memcpy(at, &end, sizeof end);
    case FIELD_FLOW:
        return packet_flow_read(text, &flow) && memcpy(at, &flow, sizeof flow);
    case FIELD_POOLED:
        if (!pooled_read(pool, text, &index)) {
            if (!whole(text, UINT32_MAX, &n))
                return false;
            index = (uint32_t)n;
        }
        memcpy(at, &index, sizeof index);
        return true;
    default:
        return f->type < FIELD_TYPES_END && read_number(f, text, at);
    }
}

const char *field_example(const struct table_field *f)
{
    static const char *const examples[] = {
        [FIELD_U8] = "7", [FIELD_U16] = "7", [FIELD_U32] = "7", [FIELD_U64] = "7", [FIELD_I64] = "-7",
        [FIELD_BE16] = "443", [FIELD_PROTO] = "udp", [FIELD_IPV4] = "10.1.0.5", [FIELD_ADDR] = "10.1.0.5",
        [FIELD_END_POINT] = "10.1.0.5:5353/udp", [FIELD_FLOW] = "'udp 10.1.0.5:5353 > 192.0.2.10:53'",
        [FIELD_POOLED] = "203.0.113.1:1024"};
    if (f->type == FIELD_NAMES)
        return names_of(f) ? f->names[0] : "7";
    return f->type < FIELD_TYPES_END ? examples[f->type] : "";
}

/* --- the whole ------------------------------------------------------------------------------------ */

const char *layout_check(const struct table_field *fields, uint32_t n, uint32_t bytes)
{
    bool taken[256] = {false};
    for (uint32_t i = 0; i < n; i++) {
        const struct table_field *f = &fields[i];
        if (!f->name || !*f->name || strpbrk(f->name, " =\n"))
            return "a field has no name, or one that cannot be written";
        if (f->type >= FIELD_TYPES_END || f->off + field_bytes(f->type) > bytes || bytes > sizeof taken)
            return "a field is not inside";
        for (uint32_t k = f->off; k < f->off + field_bytes(f->type); k++) {
            if (taken[k])
                return "two fields overlap";
            taken[k] = true;
        }
    }
    return NULL;
}

bool layout_padding_is_zero(const struct table_field *fields, uint32_t n, const uint8_t *bytes,
                            uint32_t len)
{
    for (uint32_t k = 0; k < len; k++) {
        bool covered = false;
        for (uint32_t i = 0; i < n; i++) {
            const struct table_field *f = &fields[i];
            uint32_t size = field_bytes(f->type), in = k - f->off;
            covered |= k >= f->off && in < size;
            /* the paddings of types themselves */
            if (k >= f->off && in < size && bytes[k] &&
                ((f->type == FIELD_END_POINT && in == 19) || (f->type == FIELD_FLOW && in >= 37)))
                return false;
        }
        if (!covered && bytes[k])
            return false;
    }
    return true;
}
