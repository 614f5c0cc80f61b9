/* SPDX-License-Identifier: BSD-3-Clause */
/* See rows.h. */
#include "orchestrator/cli/pure/rows.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/packet/packet_text.h"

/* --- bytes as hex ------------------------------------------------------------------------ */

static int nibble(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(const char *hex, void *to, uint32_t bytes)
{
    uint8_t *at = to;
    if (strlen(hex) != 2 * (size_t)bytes)
        return false;
    for (uint32_t i = 0; i < bytes; i++) {
        int high = nibble(hex[2 * i]), low = nibble(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        at[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static void show_hex(const uint8_t *bytes, uint32_t n, char *to, uint32_t room)
{
    uint32_t used = (uint32_t)snprintf(to, room, "0x");
    for (uint32_t i = 0; i < n && used + 2 < room; i++)
        used += (uint32_t)snprintf(to + used, room - used, "%02x", bytes[i]);
}

/* --- the view ------------------------------------------------------------------------------- */

bool view_schema(struct view *v, const char *hex)
{
    return read_hex(hex, &v->schema, sizeof v->schema) && !schema_validate(&v->schema) &&
           v->schema.key_size <= TXN_KEY_MAX && v->schema.value_size <= TXN_VALUE_MAX;
}

static uint32_t read_names(const json_t *list, const char **to)
{
    uint32_t n = 0;
    size_t i;
    json_t *o;
    json_array_foreach(list, i, o)
        if (n < LAYOUT_NAMES && json_is_string(o))
            to[n++] = json_string_value(o);
    to[n] = NULL;
    return n;
}

/* 0: there are none, or none that are right for so many bytes. */
static uint32_t read_fields(const json_t *list, struct table_field *to, const char *names[][LAYOUT_NAMES + 1],
                            uint32_t bytes)
{
    uint32_t n = 0;
    size_t i;
    json_t *o;
    if (json_array_size(list) > LAYOUT_FIELDS)
        return 0;
    json_array_foreach(list, i, o) {
        const char *name = json_string_value(json_object_get(o, "name"));
        const char *type = json_string_value(json_object_get(o, "type"));
        json_int_t off = json_integer_value(json_object_get(o, "offset"));
        if (!name || !type || off < 0 || off > UINT8_MAX)
            return 0;
        read_names(json_object_get(o, "names"), names[n]);
        to[n] = (struct table_field){name, field_type_of(type), (uint8_t)off, names[n]};
        n++;
    }
    return layout_check(to, n, bytes) ? 0 : n;
}

static void read_pool(const json_t *o, struct layout_pool *to)
{
    size_t i;
    json_t *range;
    json_int_t ports = json_integer_value(json_object_get(o, "ports")),
               first = json_integer_value(json_object_get(o, "first_port"));
    if (ports < 0 || first < 0 || ports + first > 65536)
        return;
    to->ports = (uint32_t)ports;
    to->first_port = (uint32_t)first;
    json_array_foreach(json_object_get(o, "ranges"), i, range) {
        const char *text = json_string_value(json_array_get(range, 0));
        json_int_t count = json_integer_value(json_array_get(range, 1));
        uint32_t v4;
        if (to->nranges == LAYOUT_RANGES || !text || inet_pton(AF_INET, text, &v4) != 1 || count < 1 || count > UINT32_MAX)
            return;
        to->ranges[to->nranges].first = ntohl(v4);
        to->ranges[to->nranges++].count = (uint32_t)count;
    }
}

void view_layout(struct view *v, const json_t *explained)
{
    size_t i;
    json_t *o;
    v->layout = (struct table_layout){.nkey = 0};
    json_array_foreach(json_object_get(explained, "tables"), i, o) {
        const char *name = json_string_value(json_object_get(o, "table"));
        if (!name || strcmp(name, v->schema.name) != 0)
            continue;
        json_decref(v->told);
        v->told = json_incref(o);
        v->layout.nkey = read_fields(json_object_get(o, "key"), v->layout.key, v->names, v->schema.key_size);
        v->layout.nvalue = read_fields(json_object_get(o, "value"), v->layout.value, v->names + LAYOUT_FIELDS,
                                       v->schema.value_size);
        read_pool(json_object_get(o, "pool"), &v->layout.pool);
        return;
    }
}

void view_free(struct view *v)
{
    json_decref(v->told);
    v->told = NULL;
}

static uint32_t key_columns(const struct view *v)
{
    return v->layout.nkey ? v->layout.nkey : 1;
}

uint32_t view_columns(const struct view *v)
{
    return key_columns(v) + (v->layout.nvalue ? v->layout.nvalue : 1);
}

/* The field of a column, NULL: bytes. */
static const struct table_field *field_of(const struct view *v, uint32_t i)
{
    if (i < key_columns(v))
        return v->layout.nkey ? &v->layout.key[i] : NULL;
    return v->layout.nvalue ? &v->layout.value[i - key_columns(v)] : NULL;
}

const char *view_column(const struct view *v, uint32_t i)
{
    const struct table_field *f = field_of(v, i);
    return f ? f->name : i < key_columns(v) ? "key" : "value";
}

void view_cell(const struct view *v, const struct row *r, uint32_t i, char *to, uint32_t room)
{
    bool key = i < key_columns(v);
    const struct table_field *f = field_of(v, i);
    const uint8_t *bytes = key ? r->key : r->value;
    uint32_t n = key ? v->schema.key_size : v->schema.value_size;
    bool first = i == 0 || i == key_columns(v);
    char text[LAYOUT_TEXT];
    if (!f) {
        show_hex(bytes, n, to, room);
        return;
    }
    field_show(f, &v->layout.pool, bytes, text);
    snprintf(to, room, "%s", text);
    /* bytes that no field has, and that say something all the same */
    if (first && !layout_padding_is_zero(key ? v->layout.key : v->layout.value, key ? v->layout.nkey : v->layout.nvalue,
                                         bytes, n) && strlen(to) + 4 < room) {
        strcat(to, " (");
        show_hex(bytes, n, to + strlen(to), room - (uint32_t)strlen(to) - 1);
        strcat(to, ")");
    }
}

static json_t *cells_json(const struct view *v, const struct row *r, uint32_t from, uint32_t to, const uint8_t *bytes,
                          uint32_t n)
{
    json_t *o = json_object();
    char text[2 * TXN_VALUE_MAX + 8];
    int64_t number;
    for (uint32_t i = from; i < to; i++) {
        const struct table_field *f = field_of(v, i);
        view_cell(v, r, i, text, sizeof text);
        if (f && field_number(f, bytes, &number))
            json_object_set_new(o, f->name, json_integer((json_int_t)number));
        else if (f)
            json_object_set_new(o, f->name, json_string(text));
    }
    show_hex(bytes, n, text, sizeof text);
    json_object_set_new(o, "hex", json_string(text));
    return o;
}

json_t *view_json(const struct view *v, const struct row *r)
{
    uint32_t keys = key_columns(v);
    return json_pack("{s:o, s:o, s:I, s:o}", "key", cells_json(v, r, 0, keys, r->key, v->schema.key_size), "value",
                     cells_json(v, r, keys, view_columns(v), r->value, v->schema.value_size), "version",
                     (json_int_t)r->version, "left_ms", r->left_ms ? json_integer(r->left_ms) : json_null());
}

/* --- what people write ------------------------------------------------------------------------- */

static void key_fields(const struct view *v, char *to, uint32_t room)
{
    uint32_t used = 0;
    *to = 0;
    for (uint32_t i = 0; i < v->layout.nkey && used < room; i++)
        used += (uint32_t)snprintf(to + used, room - used, "%s%s=%s", i ? " " : "", v->layout.key[i].name,
                                   field_example(&v->layout.key[i]));
    if (!v->layout.nkey)
        snprintf(to, room, "0x and %u hex digits", 2 * v->schema.key_size);
}

/* The field that `word` begins with, and where its value begins; -1: none. */
static int named(const struct view *v, const char *word, const char **value)
{
    const char *equals = strchr(word, '=');
    for (uint32_t i = 0; equals && i < v->layout.nkey; i++)
        if (!strncmp(word, v->layout.key[i].name, (size_t)(equals - word)) &&
            v->layout.key[i].name[equals - word] == '\0') {
            *value = equals + 1;
            return (int)i;
        }
    return -1;
}

int view_key(const struct view *v, int n, char *const words[], uint8_t key[TXN_KEY_MAX], char *err, uint32_t err_len)
{
    uint8_t read[TXN_KEY_MAX] = {0};
    uint32_t seen = 0;
    char wanted[400];
    key_fields(v, wanted, sizeof wanted);
    if (n == 1 && !strncmp(words[0], "0x", 2)) {
        if (!read_hex(words[0] + 2, key, v->schema.key_size)) {
            snprintf(err, err_len, "a key of %s has %u bytes: write 0x and %u hex digits", v->schema.name,
                     v->schema.key_size, 2 * v->schema.key_size);
            return -EINVAL;
        }
        return 0;
    }
    for (int i = 0; i < n; i++) {
        const char *value = words[i];
        int at = named(v, words[i], &value);
        if (at < 0 && n == 1 && v->layout.nkey == 1)
            at = 0;
        if (at < 0 || seen >> at & 1 || !field_read(&v->layout.key[at], &v->layout.pool, value, read)) {
            snprintf(err, err_len, "'%.100s' is no part of a key of %s; write %s", words[i], v->schema.name, wanted);
            return -EINVAL;
        }
        seen |= 1u << at;
    }
    if (!n || seen + 1 != 1u << v->layout.nkey) {
        snprintf(err, err_len, "a key of %s is %s", v->schema.name, wanted);
        return -EINVAL;
    }
    memcpy(key, read, sizeof read);
    return 0;
}

/* Whether `value` may stand for such a field, whole or its beginning. */
static bool may_be(const struct view *v, const struct table_field *f, const char *value)
{
    static const char *const rests[] = {"", "/udp", ":0/udp", ":1"};
    uint8_t scratch[TXN_VALUE_MAX + 8] = {0};
    struct table_field here = *f;
    struct packet_addr address;
    uint16_t port;
    char text[LAYOUT_TEXT + 8];
    bool whole_only = f->type != FIELD_END_POINT && f->type != FIELD_POOLED && f->type != FIELD_FLOW;
    here.off = 0;
    for (int i = 0; i < (whole_only ? 1 : 4); i++) {
        snprintf(text, sizeof text, "%s%s", value, rests[i]);
        if (field_read(&here, &v->layout.pool, text, scratch))
            return true;
    }
    return !whole_only && (packet_addr_read(value, &address) || packet_end_read(value, &address, &port));
}

int view_match(const struct view *v, const char *word, struct match *m, char *err, uint32_t err_len)
{
    const char *equals = strchr(word, '=');
    uint32_t n = view_columns(v), used;
    for (uint32_t i = 0; equals && i < n; i++) {
        const struct table_field *f = field_of(v, i);
        size_t len = (size_t)(equals - word);
        if (strncmp(view_column(v, i), word, len) || view_column(v, i)[len] || strlen(equals + 1) >= sizeof m->value)
            continue;
        if (f && !may_be(v, f, equals + 1)) {
            snprintf(err, err_len, "'%.100s': %s is written like %s", word, f->name, field_example(f));
            return -EINVAL;
        }
        m->column = i;
        snprintf(m->value, sizeof m->value, "%s", equals + 1);
        return 0;
    }
    used = (uint32_t)snprintf(err, err_len, "'%.100s': write FIELD=VALUE; the fields of %s are", word, v->schema.name);
    for (uint32_t i = 0; i < n && used < err_len; i++)
        used += (uint32_t)snprintf(err + used, err_len - used, "%s %s", i ? "," : "", view_column(v, i));
    return -EINVAL;
}

bool view_matches(const struct view *v, const struct row *r, const struct match *m)
{
    char text[2 * TXN_VALUE_MAX + 8];
    const struct table_field *f = field_of(v, m->column);
    view_cell(v, r, m->column, text, sizeof text);
    size_t n = strlen(m->value);
    if (f && f->type == FIELD_FLOW) { /* either end of it */
        for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
            if (!strncmp(word, m->value, n) && (!word[n] || word[n] == ':'))
                return true;
        view_cell(v, r, m->column, text, sizeof text);
    }
    if (strncmp(text, m->value, n) != 0)
        return false;
    bool end_point = f && (f->type == FIELD_END_POINT || f->type == FIELD_POOLED);
    return !text[n] || (end_point && (text[n] == ':' || text[n] == '/'));
}

/* --- rows --------------------------------------------------------------------------------------- */

bool rows_add(struct rows *r, const struct row *row)
{
    if (r->n == r->room) {
        uint32_t room = r->room ? 2 * r->room : 256;
        struct row *grown = realloc(r->at, room * sizeof *grown);
        if (!grown)
            return false;
        r->at = grown;
        r->room = room;
    }
    r->at[r->n++] = *row;
    return true;
}

void rows_free(struct rows *r)
{
    free(r->at);
    *r = (struct rows){.n = 0};
}

/* Keys are padded with zeros. */
static int by_key(const void *a, const void *b)
{
    return memcmp(((const struct row *)a)->key, ((const struct row *)b)->key, TXN_KEY_MAX);
}

/* A slot's entry may be seen twice, after a fail-over: the later version stays. */
void rows_sort(struct rows *r)
{
    uint32_t kept = 0;
    if (r->n)
        qsort(r->at, r->n, sizeof r->at[0], by_key);
    for (uint32_t i = 0; i < r->n; i++) {
        bool twice = kept && !by_key(&r->at[kept - 1], &r->at[i]);
        if (!twice)
            r->at[kept++] = r->at[i];
        else if (r->at[i].version > r->at[kept - 1].version)
            r->at[kept - 1] = r->at[i];
    }
    r->n = kept;
}

void rows_compare(const struct rows *before, const struct rows *now, uint64_t away_ms, rows_told told,
                  void *ctx)
{
    uint32_t i = 0, k = 0;
    while (i < before->n || k < now->n) {
        const struct row *was = i < before->n ? &before->at[i] : NULL, *is = k < now->n ? &now->at[k] : NULL;
        int order = !was ? 1 : !is ? -1 : by_key(was, is);
        if (order > 0) {
            told(ctx, ROW_INSERTED, NULL, is);
        } else if (order < 0) {
            told(ctx, was->left_ms && was->left_ms <= away_ms ? ROW_EXPIRED : ROW_DELETED, was, NULL);
        } else if (was->version != is->version) {
            told(ctx, ROW_CHANGED, was, is);
        }
        i += order <= 0;
        k += order >= 0;
    }
}
