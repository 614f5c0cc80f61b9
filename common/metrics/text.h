/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Prometheus' text exposition, version 0.0.4, written into a buffer that grows.
 *
 * A family is begun once and holds all of its samples. Its name ends in the unit
 * of the integers given for it; what is written is in base units, as convention
 * has it: ..._us and ..._ms become ..._seconds, ..._permille becomes ..._ratio,
 * before a final _total, too.
 *
 * Thread: whoever owns the buffer. Out of memory: `failed`, and nothing more is written.
 */
#ifndef LETHE_METRICS_TEXT_H
#define LETHE_METRICS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/metrics/histogram.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metrics_text {
    char *at;
    size_t used, room;
    bool failed;
    uint32_t per;             /* integers of one base unit, of the family begun last */
    char name[160];           /* of it */
};

void text_family(struct metrics_text *t, enum metric_type type, const char *name,
                 const char *help);
void text_value(struct metrics_text *t, uint64_t value);
/* `labels` as they stand between the braces: shard="0",role="primary". */
void text_sample(struct metrics_text *t, uint64_t value, const char *labels, ...)
    __attribute__((format(printf, 3, 4)));
/* Buckets first..last of it, then all. */
void text_histogram(struct metrics_text *t, const struct histogram *h, int first, int last,
                    const char *labels);
/* A label's value, of names that come from outside; returns `to`. */
const char *text_label(char *to, size_t room, const char *value);
void text_free(struct metrics_text *t);

#endif
