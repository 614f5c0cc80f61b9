/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where each key of a YAML text stands: one pass over libyaml's events, before
 * libcyaml reads the text for its content (and forgets the lines). Also finds
 * what libcyaml does not: broken syntax with its line, keys written twice,
 * anchors, a second document, nesting without end.
 *
 * A key's name is its path: "store.nodes[0].listen"; the root's is "".
 */
#ifndef LETHE_CONFIG_PLACES_H
#define LETHE_CONFIG_PLACES_H

#include <stdint.h>

enum { PLACES_MAX = 4096, PLACE_PATH_MAX = 160, PLACES_DEPTH_MAX = 12 };

struct place {
    char path[PLACE_PATH_MAX];
    uint32_t parent_bytes;             /* of path: the mapping or list it is in */
    uint32_t line;                     /* of the key, from 1 */
    uint32_t value_line, value_column; /* of the value, from 1, as libcyaml counts */
};

struct places {
    uint32_t count, room;
    struct place *at;
    uint32_t bad_line;                 /* where places_read failed */
    char bad_key[PLACE_PATH_MAX];
    char bad[200];                     /* and why */
};

/* 0, or -EINVAL (`bad` says why) or -ENOMEM. Free in any case. */
int places_read(struct places *p, const uint8_t *text, uint32_t bytes);
void places_free(struct places *p);

const struct place *places_find(const struct places *p, const char *path);
/* The innermost key whose value starts there. */
const struct place *places_find_value(const struct places *p, uint32_t line, uint32_t column);
/* The line of `path`, or of the nearest key that holds it; at least 1. */
uint32_t places_line(const struct places *p, const char *path);

#endif
