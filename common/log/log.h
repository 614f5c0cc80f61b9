/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Logging: a coloured line on a terminal, a JSON object a line otherwise, to
 * stderr. For control paths; the datapath counts instead. Any thread.
 *
 *   log_info("backup joined", "node=%u position=%lu", node, position);
 *
 * The event is a constant phrase to search for; the rest says which one, in words
 * key=value or key="some words", which are fields of the JSON object, too; the reason
 * of an event is its `cause`.
 */
#ifndef LETHE_LOG_H
#define LETHE_LOG_H

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

/* `program` and `instance` are kept as pointers. */
void log_init(const char *program, const char *instance, enum log_level least);
void log_line(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
