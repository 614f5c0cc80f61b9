/* SPDX-License-Identifier: BSD-3-Clause */
/* See clean.h. */
#include "orchestrator/cli/pure/clean.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* How many bytes the character has, and which it is; 0: this is no UTF-8. Jansson's own reader refuses the rest (surrogates,
 * too long forms), which no terminal takes for a command. */
static size_t character(const unsigned char *at, uint32_t *code)
{
    size_t n = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf5 ? 4 : 0;
    *code = n < 2 ? at[0] : at[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (at[i] & 0x3f);
    }
    return n;
}

static bool commands(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

void clean_text(char *text, bool lines)
{
    unsigned char *from = (unsigned char *)text, *to = from;
    while (*from) {
        uint32_t code;
        size_t n = character(from, &code);
        bool blank = code == '\n' || code == '\t';
        if (n && (!commands(code) || (blank && lines))) {
            memmove(to, from, n);
            to += n;
        } else {
            *to++ = n && blank ? ' ' : '?';
        }
        from += n ? n : 1;
    }
    *to = 0;
}

/* A new string; NULL: no memory. */
static char *cleaned(const char *text)
{
    char *copy = strdup(text);
    if (copy)
        clean_text(copy, false);
    return copy;
}

static json_t *clean_string(const json_t *o)
{
    char *text = cleaned(json_string_value(o));
    json_t *clean = text ? json_string(text) : NULL;
    free(text);
    return clean;
}

static json_t *clean_copy(const json_t *o)
{
    json_t *to = json_is_object(o) ? json_object() : json_is_array(o) ? json_array() : NULL, *v;
    const char *key;
    size_t i;
    bool good = true;
    if (json_is_string(o))
        return clean_string(o);
    if (!json_is_object(o) && !json_is_array(o))
        return json_incref((json_t *)o);
    json_object_foreach((json_t *)o, key, v) {
        char *name = cleaned(key);
        good = name && !json_object_set_new(to, name, clean_copy(v)) && good;
        free(name);
    }
    json_array_foreach(o, i, v)
        good = !json_array_append_new(to, clean_copy(v)) && good;
    if (good)
        return to;
    json_decref(to);
    return NULL;
}

json_t *clean_json(json_t *o)
{
    json_t *clean = o ? clean_copy(o) : NULL;
    json_decref(o);
    return clean;
}
