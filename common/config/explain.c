/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libcyaml's words for what is wrong ("Unexpected key: prt", then a backtrace
 * of lines and columns) become one sentence with the key's path and line. The
 * path of a value is found by its line and column (places.h): libcyaml's own
 * names for sequence entries count from 0 or 1 as it happens.
 */
#include "common/config/schema.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cyaml_words_log(cyaml_log_t level, void *ctx, const char *format, va_list args)
{
    struct cyaml_words *w = ctx;
    char line[256], *mark;
    if (level < CYAML_LOG_ERROR)
        return;
    vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\n")] = 0;
    if (strncmp(line, "  in ", 5) == 0) {
        if (w->line == 0 && (mark = strstr(line, "(line: ")))
            sscanf(mark, "(line: %u, column: %u)", &w->line, &w->column);
    } else if (!*w->message && strncmp(line, "Load: ", 6) == 0 &&
               strcmp(line, "Load: Backtrace:") != 0) {
        snprintf(w->message, sizeof w->message, "%s", line + 6);
    }
}

/* --- the schema at a path ------------------------------------------------------- */

static const cyaml_schema_field_t *field_named(const cyaml_schema_field_t *f, const char *name,
                                               size_t len)
{
    for (; f && f->key; f++)
        if (strlen(f->key) == len && memcmp(f->key, name, len) == 0)
            return f;
    return NULL;
}

/* The fields of the mapping at `path`, or NULL. */
static const cyaml_schema_field_t *fields_at(const cyaml_schema_value_t *v, const char *path)
{
    while (*path) {
        if (*path == '[') {
            if (v->type != CYAML_SEQUENCE)
                return NULL;
            v = v->sequence.entry;
            path += strcspn(path, "]") + 1;
            continue;
        }
        path += *path == '.';
        size_t len = strcspn(path, ".[");
        const cyaml_schema_field_t *f =
            v->type == CYAML_MAPPING ? field_named(v->mapping.fields, path, len) : NULL;
        if (!f)
            return NULL;
        v = &f->value;
        path += len;
    }
    return v->type == CYAML_MAPPING ? v->mapping.fields : NULL;
}

static void list_keys(const cyaml_schema_field_t *f, char *to, size_t room)
{
    size_t used = 0;
    *to = 0;
    for (; f && f->key && used < room; f++)
        used += (size_t)snprintf(to + used, room - used, "%s%s", used ? ", " : "", f->key);
}

/* --- the sentence ----------------------------------------------------------------- */

static const char *wanted(const char *type)
{
    static const struct { const char *type, *words; } all[] = {
        {"MAPPING", "keys with values, one a line and indented"},
        {"SEQUENCE", "a list: [a, b], or lines that begin with '- '"},
        {"UINT", "a number"}, {"INT", "a number"}, {"FLOAT", "a number"},
        {"STRING", "one text"}, {"ENUM", "true or false"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strncmp(type, all[i].type, strlen(all[i].type)) == 0)
            return all[i].words;
    return "something else";
}

/* The rest of `message` behind `start`, or NULL. */
static const char *after(const char *message, const char *start)
{
    size_t len = strlen(start);
    return strncmp(message, start, len) == 0 ? message + len : NULL;
}

static void child_of(char path[PLACE_PATH_MAX], const char *key)
{
    size_t used = strlen(path);
    snprintf(path + used, PLACE_PATH_MAX - used, "%s%s", used ? "." : "", key);
}

static int explain_value(const struct complaint *c, const char *key, const char *message)
{
    char hint[120];
    const char *rest, *number = number_hint(key, hint, sizeof hint);
    unsigned n;
    if ((rest = after(message, "Invalid ENUM value: "))) /* truth.h */
        return complain(c, key, "'%s' is neither true nor false; write one of the two", rest);
    if ((rest = strstr(message, "Invalid ")) && (rest = strchr(message, '\'')))
        return complain(c, key, "%s is no number here; write %s", rest,
                        number ? number : "a whole number");
    if ((rest = after(message, "Expecting ")))
        return complain(c, key, "needs %s", wanted(rest));
    if (sscanf(message, "STRING length > %u", &n) == 1)
        return complain(c, key, "is too long; write at most %u bytes", n);
    if (after(message, "STRING length <"))
        return complain(c, key, "is empty; write its value, or leave the key out");
    if (sscanf(message, "Excessive entries (%u max)", &n) == 1)
        return complain(c, key, "has too many entries; write at most %u", n);
    if (sscanf(message, "Insufficient entries (%u of %*u min)", &n) == 1 ||
        after(message, "Insufficient entries"))
        return complain(c, key, "has too few entries; write at least one");
    return complain(c, key, "%s", *message ? message : "cannot be read");
}

/* libcyaml's place of an unknown or missing key is that of the value before it,
 * which may be another mapping; so these two are found in the places instead. */

static int explain_unknown(const struct complaint *c, const cyaml_schema_value_t *top)
{
    char parent[PLACE_PATH_MAX], keys[400];
    for (uint32_t i = 0; i < c->places->count; i++) {
        const struct place *p = &c->places->at[i];
        const char *key = p->path + p->parent_bytes;
        snprintf(parent, sizeof parent, "%.*s", (int)p->parent_bytes, p->path);
        const cyaml_schema_field_t *fields = *p->path && *key != '[' ? fields_at(top, parent) : NULL;
        key += *key == '.';
        if (!fields || field_named(fields, key, strlen(key)))
            continue;
        list_keys(fields, keys, sizeof keys);
        return complain(c, p->path, "is no key here; known are: %s", keys);
    }
    return complain(c, "", "there is an unknown key");
}

static int explain_missing(const struct complaint *c, const cyaml_schema_value_t *top,
                           const char *key)
{
    for (uint32_t i = 0; i < c->places->count; i++) {
        char path[PLACE_PATH_MAX];
        snprintf(path, sizeof path, "%s", c->places->at[i].path);
        const cyaml_schema_field_t *f = field_named(fields_at(top, path), key, strlen(key));
        child_of(path, key);
        if (f && !(f->value.flags & CYAML_FLAG_OPTIONAL) && !places_find(c->places, path))
            return complain(c, path, "is missing; write it");
    }
    return complain(c, key, "is missing; write it");
}

int explain(const struct complaint *c, const struct cyaml_words *w,
            const cyaml_schema_value_t *top)
{
    const struct place *at = w->line ? places_find_value(c->places, w->line, w->column) : NULL;
    const char *key;
    if (after(w->message, "Unexpected key: "))
        return explain_unknown(c, top);
    if ((key = after(w->message, "Missing required mapping field: ")))
        return explain_missing(c, top, key);
    return explain_value(c, at ? at->path : "", w->message);
}
