/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a bench found: a table for people on stdout and, for machines,
 * build/bench/<question>.json:
 *
 *   {"question", "machine": {...}, "runs", "cases": [{"name", "metric", "unit",
 *    "median", "min", "max"}], "ratios": {name: value}}
 *
 * A case is one figure measured `runs` times, peers interleaved run by run, so
 * that a ratio of medians is a ratio from one run of the bench. One thread.
 */
#ifndef LETHE_BENCH_REPORT_H
#define LETHE_BENCH_REPORT_H

#include <stdint.h>

struct report;

struct report *report_create(const char *question, const char *title, int runs);
/* Adds one measurement of (name, metric). The unit is kept from the first. */
void report_add(struct report *r, const char *name, const char *metric, const char *unit,
                double value);
/* Median of a case; aborts if it was never measured. */
double report_median(const struct report *r, const char *name, const char *metric);
/* A ratio of two medians, and what was hoped for (0: nothing). */
void report_ratio(struct report *r, const char *ratio, double value, double hoped);
/* A sentence under the table and in the JSON ("notes"). */
void report_note(struct report *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Prints the table, writes <dir>/<question>.json (NULL: does not), frees. 0 or
 * -errno. */
int report_finish(struct report *r, const char *dir);

/* A line on stderr that a terminal overwrites: what is being measured now. */
void report_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
