/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside common/config/: what site.c loads and check.c, explain.c work on. */
#ifndef LETHE_CONFIG_SCHEMA_H
#define LETHE_CONFIG_SCHEMA_H

#include <cyaml/cyaml.h>
#include <stdbool.h>

#include "common/config/places.h"
#include "common/config/site.h"

struct loaded {                 /* what libcyaml fills; `site` first */
    struct site site;
    void *nf_config;
};

/* Where an error is to be written. */
struct complaint {
    const char *file;
    const struct places *places;
    char *err;
    uint32_t err_len;
};

/* Writes "file:line: key: what; what to do"; returns -EINVAL. */
int complain(const struct complaint *c, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Fills in defaults of absent keys, checks what is there. 0 or -EINVAL. */
int site_check(struct loaded *l, const struct complaint *c);
/* The same of `controller` and `groups`. */
int site_check_groups(struct site *s, const struct complaint *c);
/* The same of `steering.more`; and one side of a front end, "inside" or "more[0].outside". */
int site_check_fronts(struct site *s, const struct complaint *c);
/* The same of `steering.tunnel` and `worker.tunnel`. */
int site_check_tunnels(const struct site *s, const struct complaint *c);
int site_check_side(const char *name, const struct site_side *side, const struct complaint *c);
/* Letters, digits, '_' and '-', at most 31: names become file and socket names. */
bool is_instance_name(const char *name);
/* Gives *text a value if it has none. */
bool text_default(char **text, const char *format, const char *detail);
/* What to write for a number, such as "a number from 1 to 16"; NULL if `key` is
 * none that site_check knows. */
const char *number_hint(const char *key, char *to, uint32_t room);
const char *group_number_hint(const char *key, char *to, uint32_t room); /* those of groups */

/* Collects what libcyaml logs during a load (cyaml_config.log_ctx). */
struct cyaml_words {
    char message[256];
    uint32_t line, column;      /* the innermost place of the backtrace */
};
void cyaml_words_log(cyaml_log_t level, void *words, const char *format, va_list args);
/* Turns them into a complaint. `top`: the schema. Returns -EINVAL. */
int explain(const struct complaint *c, const struct cyaml_words *w,
            const cyaml_schema_value_t *top);

#endif
