/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside common/metrics/: the registry as the control socket reads it. */
#ifndef LETHE_METRICS_METRICS_H
#define LETHE_METRICS_METRICS_H

#include <jansson.h>

#include "common/metrics/control.h"

enum { METRICS_MAX = 512, METRIC_NAME_MAX = 128 };

/* {"instance", "pid", "uptime_ms", then every metric by its name}. Any thread.
 * NULL: out of memory. The caller owns it. */
json_t *metrics_json(struct metrics *m);

#endif
