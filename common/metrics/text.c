/* SPDX-License-Identifier: BSD-3-Clause */
/* See text.h. */
#include "common/metrics/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM_FIRST = 16 * 1024 };

static bool make_room(struct metrics_text *t, size_t more)
{
    size_t room = t->room ? t->room : ROOM_FIRST;
    while (room - t->used <= more)
        room *= 2;
    char *at = t->failed ? NULL : room == t->room ? t->at : realloc(t->at, room);
    t->failed |= !at;
    if (at) {
        t->at = at;
        t->room = room;
    }
    return at != NULL;
}

static void put_list(struct metrics_text *t, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    if (n >= 0 && make_room(t, (size_t)n))
        t->used += (size_t)vsnprintf(t->at + t->used, t->room - t->used, format, again);
    va_end(again);
}

__attribute__((format(printf, 2, 3))) static void put(struct metrics_text *t, const char *format,
                                                      ...)
{
    va_list args;
    va_start(args, format);
    put_list(t, format, args);
    va_end(args);
}

/* The name in base units; how many of the integer's make one. */
static uint32_t base_unit(const char *name, char *to, size_t room)
{
    static const struct { const char *end, *base; uint32_t per; } units[] = {
        {"_us", "_seconds", 1000000}, {"_ms", "_seconds", 1000}, {"_permille", "_ratio", 1000}};
    size_t len = strlen(name);
    bool total = len > 6 && !strcmp(name + len - 6, "_total");
    len -= total ? 6 : 0;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        size_t end = strlen(units[i].end);
        if (len <= end || memcmp(name + len - end, units[i].end, end))
            continue;
        snprintf(to, room, "%.*s%s%s", (int)(len - end), name, units[i].base,
                 total ? "_total" : "");
        return units[i].per;
    }
    snprintf(to, room, "%s", name);
    return 1;
}

void text_family(struct metrics_text *t, enum metric_type type, const char *name, const char *help)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    t->per = base_unit(name, t->name, sizeof t->name);
    put(t, "# HELP %s %s\n# TYPE %s %s\n", t->name, help, t->name, types[type]);
}

static void put_number(struct metrics_text *t, uint64_t value)
{
    if (t->per == 1)
        put(t, " %" PRIu64 "\n", value);
    else
        put(t, " %" PRIu64 ".%0*" PRIu64 "\n", value / t->per, t->per == 1000 ? 3 : 6,
            value % t->per);
}

void text_value(struct metrics_text *t, uint64_t value)
{
    put(t, "%s", t->name);
    put_number(t, value);
}

void text_sample(struct metrics_text *t, uint64_t value, const char *labels, ...)
{
    va_list args;
    va_start(args, labels);
    put(t, "%s{", t->name);
    put_list(t, labels, args);
    put(t, "}");
    put_number(t, value);
    va_end(args);
}

void text_histogram(struct metrics_text *t, const struct histogram *h, int first, int last,
                    const char *labels)
{
    const char *comma = *labels ? "," : "", *open = *labels ? "{" : "", *close = *labels ? "}" : "";
    uint64_t count = 0;
    for (int i = 0; i < HISTOGRAM_BUCKETS; i++) {
        count += h->bucket[i];
        if (i < first || i > last || i == HISTOGRAM_BUCKETS - 1)
            continue;
        put(t, "%s_bucket{%s%sle=\"%.10g\"} %" PRIu64 "\n", t->name, labels, comma,
            (double)(1ull << i) / t->per, count);
    }
    put(t, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", t->name, labels, comma, count);
    put(t, "%s_sum%s%s%s", t->name, open, labels, close);
    put_number(t, h->sum);
    put(t, "%s_count%s%s%s %" PRIu64 "\n", t->name, open, labels, close, count);
}

const char *text_label(char *to, size_t room, const char *value)
{
    size_t n = 0;
    for (; *value && n + 3 < room; value++) {
        if (*value == '"' || *value == '\\')
            to[n++] = '\\';
        to[n++] = (unsigned char)*value < ' ' ? '?' : *value;
    }
    to[n] = 0;
    return to;
}

void text_free(struct metrics_text *t)
{
    free(t->at);
    *t = (struct metrics_text){0};
}
