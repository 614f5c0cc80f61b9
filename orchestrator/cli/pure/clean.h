/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Text of others, made fit for a terminal: a name, an event or an error may hold what moves the cursor, paints, or writes from
 * right to left, and so have a terminal show what is not so. Letters of any alphabet stay. Pure.
 */
#ifndef LETHE_ORCHESTRATOR_CLI_CLEAN_H
#define LETHE_ORCHESTRATOR_CLI_CLEAN_H

#include <jansson.h>
#include <stdbool.h>

/* In place: '?' for each character that commands (C0, DEL, C1, Unicode's marks of direction and of lines) and each byte that
 * is no UTF-8. Blanks for tab and line feed; `lines`: these stay. */
void clean_text(char *text, bool lines);
/* The same for all strings and keys of `o`, which is taken; NULL: it was NULL, or no memory. */
json_t *clean_json(json_t *o);

#endif
