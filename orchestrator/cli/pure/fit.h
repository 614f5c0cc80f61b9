/* SPDX-License-Identifier: BSD-3-Clause */
/* A table on a narrow terminal: which columns stay, how wide, and their cells cut to that. Pure. */
#ifndef LETHE_ORCHESTRATOR_CLI_FIT_H
#define LETHE_ORCHESTRATOR_CLI_FIT_H

#include <stdbool.h>
#include <stdint.h>

/* Columns on the terminal: UTF-8's continuation bytes take none. */
int fit_width(const char *text);
/* `wide`: of n columns, two spaces between; made to fit into `room`. Text gives way first, the widest before others,
 * down to `least`; then columns go (0), the last one first. The first one stays. */
void fit_columns(int *wide, const int *least, uint32_t n, int room);
/* How many bytes of `text` stand in `wide` columns. *cut: there is more of it, and a column is left for "…". */
int fit_bytes(const char *text, int wide, bool *cut);

#endif
