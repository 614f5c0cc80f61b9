/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside common/metrics/: the registry as the control socket reads it; Unix sockets (socket.c). */
#ifndef LETHE_METRICS_METRICS_H
#define LETHE_METRICS_METRICS_H

#include <jansson.h>

#include "common/metrics/control.h"

enum { METRICS_MAX = 512, METRIC_NAME_MAX = 128, HISTOGRAMS_MAX = 16, COLLECTORS_MAX = 4 };

/* {"instance", "pid", "uptime_ms", then every metric by its name; a histogram is
 * {"count", "sum"}}. Any thread.
 * NULL: out of memory. The caller owns it. */
json_t *metrics_json(struct metrics *m);

/* A connected descriptor that does not block, or -errno. */
int socket_connect(const char *path);
/* Removes the socket that a dead program left at the path; refuses anything else. 0, or
 * -errno and a sentence. */
int socket_take_over(const char *path, char *err, uint32_t err_len);
/* A listening Unix socket at `path`, which at no moment is anybody's but its owner's: the file
 * gets the mode that the descriptor had at bind. The descriptor, or -errno and nothing is left. */
int socket_listen(const char *path, int backlog);

#endif
