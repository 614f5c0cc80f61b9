/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Entries of a table as people see them: by the layout that lethe-nf tells (common/packet/layout.h),
 * else in hex. And what came, changed and went between two looks. Pure.
 */
#ifndef LETHE_ORCHESTRATOR_CLI_ROWS_H
#define LETHE_ORCHESTRATOR_CLI_ROWS_H

#include <jansson.h>

#include "common/packet/layout.h"
#include "common/wire/schema.h"

struct row {
    uint64_t version;
    uint32_t left_ms;         /* until it expires, as of the look; 0: never */
    uint8_t key[TXN_KEY_MAX], value[TXN_VALUE_MAX];
};

struct rows {
    struct row *at;
    uint32_t n, room;
};

/* A table, and how it is shown. */
struct view {
    struct table_schema schema;
    struct table_layout layout; /* nkey 0: keys in hex; nvalue 0: values in hex */
    const char *names[2 * LAYOUT_FIELDS][LAYOUT_NAMES + 1];
    json_t *told;             /* lends the texts; NULL: none */
};

/* The schema from its hex in GET /v1/tables; false: it is none. */
bool view_schema(struct view *v, const char *hex);
/* The layout of the table from the answer of lethe-nf --explain; without one, or if it does not fit
 * the schema: hex. */
void view_layout(struct view *v, const json_t *explained);
void view_free(struct view *v);

bool rows_add(struct rows *r, const struct row *row); /* false: out of memory */
void rows_free(struct rows *r);
void rows_sort(struct rows *r); /* by key */

/* Columns of a key and a value: their names, and a row's. One "key", one "value" without a layout. */
uint32_t view_columns(const struct view *v);
const char *view_column(const struct view *v, uint32_t i);
void view_cell(const struct view *v, const struct row *r, uint32_t i, char *to, uint32_t room);
/* {"key": {...}, "value": {...}, "version", "left_ms" (null: never)}. */
json_t *view_json(const struct view *v, const struct row *r);

/* A key from FIELD=VALUE ..., from one VALUE if the key has one field, or from its bytes as 0x...;
 * 0, or -EINVAL and a sentence. */
int view_key(const struct view *v, int n, char *const words[], uint8_t key[TXN_KEY_MAX], char *err, uint32_t err_len);
/* "FIELD=VALUE" of a key or a value. An address also matches end points that have it. */
struct match { uint32_t column; char value[LAYOUT_TEXT]; };
int view_match(const struct view *v, const char *word, struct match *m, char *err, uint32_t err_len);
bool view_matches(const struct view *v, const struct row *r, const struct match *m);

/* Two looks, both sorted: calls for each difference. `away_ms`: from the start of the earlier look to the end of the
 * later. Who is gone expired if his time was up by then; else he was deleted. */
enum change { ROW_INSERTED, ROW_CHANGED, ROW_EXPIRED, ROW_DELETED };
typedef void (*rows_told)(void *ctx, enum change what, const struct row *before, const struct row *now);
void rows_compare(const struct rows *before, const struct rows *now, uint64_t away_ms, rows_told told,
                  void *ctx);

#endif
