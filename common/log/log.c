/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One line, one write(2), so that lines of several threads never mix. Nothing
 * is kept between lines but what log_init set, before there are threads.
 * A line that does not fit its bound ends in "...".
 */
#include "common/log/log.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DETAIL_MAX = 1024, LINE_MAX_BYTES = 4096 };

static struct {
    const char *program, *instance;
    enum log_level least;
    bool coloured;
} settings = {.program = "lethe", .instance = "", .least = LOG_LEVEL_INFO};

static const struct { const char *name, *colour; } levels[] = {
    [LOG_LEVEL_DEBUG] = {"debug", "\033[2m"},
    [LOG_LEVEL_INFO] = {"info", "\033[32m"},
    [LOG_LEVEL_WARN] = {"warn", "\033[33m"},
    [LOG_LEVEL_ERROR] = {"error", "\033[31m"},
};

void log_init(const char *program, const char *instance, enum log_level least)
{
    settings.program = program;
    settings.instance = instance ? instance : "";
    settings.least = least;
    settings.coloured = !getenv("NO_COLOR");
}

/* What came from outside may hold anything; both forms of a line may not. */
static void clean(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p; p++)
        if (*p < 0x20 || *p >= 0x7f)
            *p = *p == '\n' || *p == '\t' ? ' ' : '?';
}

static size_t terminal_line(char *line, enum log_level level, const char *event,
                            const char *detail, const struct timespec *now)
{
    struct tm tm;
    char clock[16];
    localtime_r(&now->tv_sec, &tm);
    strftime(clock, sizeof clock, "%H:%M:%S", &tm);
    const char *on = settings.coloured ? levels[level].colour : "";
    const char *off = settings.coloured ? "\033[0m" : "";
    int n = snprintf(line, LINE_MAX_BYTES, "%s.%03ld %s%-5s%s %s%s%s  %s  %s\n", clock,
                     now->tv_nsec / 1000000, on, levels[level].name, off, settings.program,
                     *settings.instance ? "/" : "", settings.instance, event, detail);
    return n < LINE_MAX_BYTES ? (size_t)n : LINE_MAX_BYTES - 1;
}

/* The words key=value and key="some words" of a detail, as fields of their own: strings, or
 * numbers if they are digits and not in quotes. A quote ends
 * where a blank or nothing follows. What log_line writes itself is not replaced. */
static void set_fields(json_t *o, const char *detail)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz_0123456789";
    for (const char *p = detail; *p; p += *p == ' ') {
        size_t len = strspn(p, letters);
        char key[40], value[DETAIL_MAX];
        if (!len || p[len] != '=' || len >= sizeof key || (p != detail && p[-1] != ' ')) {
            p += strcspn(p, " ");
            continue;
        }
        const char *from = p + len + 1, *end = from + strcspn(from, " ");
        bool quoted = *from == '"';
        if (quoted && (end = strstr(++from, "\" ")) == NULL)
            end = from + strlen(from) - (strlen(from) && from[strlen(from) - 1] == '"');
        snprintf(key, sizeof key, "%.*s", (int)len, p);
        snprintf(value, sizeof value, "%.*s", (int)(end - from), from);
        size_t digits = strspn(value, "0123456789");
        if (!json_object_get(o, key))
            json_object_set_new(o, key, !quoted && digits && digits < 16 && !value[digits]
                                            ? json_integer(strtoll(value, NULL, 10))
                                            : json_string(value));
        p = end + (*end == '"');
    }
}

static size_t json_line(char *line, enum log_level level, const char *event, const char *detail,
                        const struct timespec *now)
{
    struct tm tm;
    char day[32], time_text[48];
    gmtime_r(&now->tv_sec, &tm);
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(time_text, sizeof time_text, "%s.%03ldZ", day, now->tv_nsec / 1000000);
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "time", time_text, "level",
                          levels[level].name, "program", settings.program, "instance",
                          settings.instance, "event", event, "detail", detail);
    if (o)
        set_fields(o, detail);
    size_t n = o ? json_dumpb(o, line, LINE_MAX_BYTES - 1, JSON_COMPACT) : 0;
    json_decref(o);
    if (n == 0 || n >= LINE_MAX_BYTES - 1)
        return 0;
    line[n] = '\n';
    return n + 1;
}

void log_line(enum log_level level, const char *event, const char *format, ...)
{
    char detail[DETAIL_MAX], line[LINE_MAX_BYTES];
    struct timespec now;
    va_list args;
    if (level < settings.least)
        return;
    va_start(args, format);
    int n = vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    if (n >= DETAIL_MAX)
        strcpy(detail + DETAIL_MAX - 4, "...");
    clean(detail);
    clock_gettime(CLOCK_REALTIME, &now);
    size_t bytes = isatty(STDERR_FILENO) ? 0 : json_line(line, level, event, detail, &now);
    if (bytes == 0)
        bytes = terminal_line(line, level, event, detail, &now);
    /* A log that cannot be written has nowhere to say so. */
    (void)!write(STDERR_FILENO, line, bytes);
}
