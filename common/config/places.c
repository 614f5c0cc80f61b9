/* SPDX-License-Identifier: BSD-3-Clause */
/* See places.h. A stack of open mappings and sequences makes the paths. */
#include "common/config/places.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct level {
    bool mapping, key_next;
    uint32_t index;                    /* of the next entry of a sequence */
    char path[PLACE_PATH_MAX];
};

struct reader {
    struct places *places;
    uint32_t depth, documents;
    struct level levels[PLACES_DEPTH_MAX];
    char path[PLACE_PATH_MAX];         /* of the value that comes next */
    uint32_t key_line;
};

static int refuse(struct places *p, uint32_t line, const char *key, const char *why)
{
    p->bad_line = line;
    snprintf(p->bad_key, sizeof p->bad_key, "%s", key);
    snprintf(p->bad, sizeof p->bad, "%s", why);
    return -EINVAL;
}

static bool grow(struct places *p)
{
    uint32_t room = p->room ? 2 * p->room : 64;
    struct place *more = realloc(p->at, room * sizeof *more);
    if (!more)
        return false;
    p->at = more;
    p->room = room;
    return true;
}

static int note(struct reader *r, const char *path, uint32_t line, const yaml_mark_t *value)
{
    struct places *p = r->places;
    if (p->count == PLACES_MAX)
        return refuse(p, line, path, "the file has too many keys");
    if (p->count == p->room && !grow(p))
        return -ENOMEM;
    struct place *at = &p->at[p->count++];
    snprintf(at->path, sizeof at->path, "%s", path);
    at->parent_bytes = r->depth ? (uint32_t)strlen(r->levels[r->depth - 1].path) : 0;
    at->line = line;
    at->value_line = (uint32_t)value->line + 1;
    at->value_column = (uint32_t)value->column + 1;
    return 0;
}

/* Joins into `to`; false when it is too long. */
static bool join(char to[PLACE_PATH_MAX], const char *parent, const char *key, uint32_t index)
{
    int n = key ? snprintf(to, PLACE_PATH_MAX, "%s%s%s", parent, *parent ? "." : "", key)
                : snprintf(to, PLACE_PATH_MAX, "%s[%u]", parent, index);
    return n < PLACE_PATH_MAX;
}

static int read_key(struct reader *r, const yaml_event_t *e)
{
    struct level *top = &r->levels[r->depth - 1];
    uint32_t line = (uint32_t)e->start_mark.line + 1;
    const char *key = (const char *)e->data.scalar.value;
    char why[80];
    if (e->type != YAML_SCALAR_EVENT || !*key || strlen(key) != e->data.scalar.length)
        return refuse(r->places, line, top->path, "a key must be a plain word");
    if (!join(r->path, top->path, key, 0))
        return refuse(r->places, line, top->path, "a key in here is too long");
    const struct place *earlier = places_find(r->places, r->path);
    if (earlier) {
        snprintf(why, sizeof why, "is there twice, first in line %u; remove one", earlier->line);
        return refuse(r->places, line, r->path, why);
    }
    r->key_line = line;
    top->key_next = false;
    return 0;
}

/* Sets r->path and r->key_line for a value; true if it is a key instead. */
static bool is_key(struct reader *r, const yaml_event_t *e, bool *fits)
{
    struct level *top = r->depth ? &r->levels[r->depth - 1] : NULL;
    *fits = true;
    if (top && top->mapping) {
        if (top->key_next)
            return true;
        top->key_next = true;
        return false;
    }
    r->key_line = (uint32_t)e->start_mark.line + 1;
    if (top)
        *fits = join(r->path, top->path, NULL, top->index++);
    else
        r->path[0] = 0;
    return false;
}

static int read_node(struct reader *r, const yaml_event_t *e)
{
    bool fits;
    if (is_key(r, e, &fits))
        return read_key(r, e);
    if (!fits)
        return refuse(r->places, r->key_line, "", "a key in here is too long");
    int bad = note(r, r->path, r->key_line, &e->start_mark);
    if (bad || e->type == YAML_SCALAR_EVENT)
        return bad;
    if (r->depth == PLACES_DEPTH_MAX)
        return refuse(r->places, r->key_line, r->path, "too many levels of nesting");
    struct level *l = &r->levels[r->depth++];
    *l = (struct level){.mapping = e->type == YAML_MAPPING_START_EVENT, .key_next = true};
    strcpy(l->path, r->path);
    return 0;
}

static int read_event(struct reader *r, const yaml_event_t *e)
{
    uint32_t line = (uint32_t)e->start_mark.line + 1;
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        return r->documents++ == 0 ? 0
               : refuse(r->places, line, "---", "a second document; a site is one");
    case YAML_ALIAS_EVENT:
        return refuse(r->places, line, r->path, "aliases (*name) are not known here; write the "
                      "value itself");
    case YAML_SCALAR_EVENT:
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        return read_node(r, e);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        r->depth--;
        return 0;
    default:
        return 0;
    }
}

static int refuse_syntax(struct places *p, const yaml_parser_t *y)
{
    /* libyaml cannot always say where: then problem_mark is all zeros. */
    uint32_t line = (uint32_t)(y->problem_mark.line ? y->problem_mark.line : y->mark.line) + 1;
    char why[160];
    snprintf(why, sizeof why, "this is not YAML: %s", y->problem ? y->problem : "unreadable");
    return refuse(p, line, "", why);
}

int places_read(struct places *p, const uint8_t *text, uint32_t bytes)
{
    struct reader *r = calloc(1, sizeof *r);
    yaml_parser_t y;
    *p = (struct places){0};
    if (!r || !yaml_parser_initialize(&y)) {
        free(r);
        return -ENOMEM;
    }
    r->places = p;
    yaml_parser_set_input_string(&y, text, bytes);
    int bad = 0;
    for (bool end = false; !end && !bad;) {
        yaml_event_t e;
        if (!yaml_parser_parse(&y, &e)) {
            bad = refuse_syntax(p, &y);
            break;
        }
        end = e.type == YAML_STREAM_END_EVENT;
        bad = read_event(r, &e);
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&y);
    free(r);
    return bad;
}

void places_free(struct places *p)
{
    free(p->at);
    p->at = NULL;
    p->count = 0;
}

const struct place *places_find(const struct places *p, const char *path)
{
    for (uint32_t i = 0; i < p->count; i++)
        if (strcmp(p->at[i].path, path) == 0)
            return &p->at[i];
    return NULL;
}

const struct place *places_find_value(const struct places *p, uint32_t line, uint32_t column)
{
    for (uint32_t i = p->count; i-- > 0;)
        if (p->at[i].value_line == line && p->at[i].value_column == column)
            return &p->at[i];
    return NULL;
}

uint32_t places_line(const struct places *p, const char *path)
{
    char part[PLACE_PATH_MAX];
    snprintf(part, sizeof part, "%s", path);
    for (;;) {
        const struct place *at = places_find(p, part);
        if (at)
            return at->line;
        char *dot = strrchr(part, '.'), *bracket = strrchr(part, '[');
        char *cut = dot > bracket ? dot : bracket;
        if (!cut)
            return 1;
        *cut = 0;
    }
}
