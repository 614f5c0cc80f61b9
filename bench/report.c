/* SPDX-License-Identifier: BSD-3-Clause */
/* Collects measurements and writes them as a table and as JSON; see report.h. */
#include "bench/report.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { CASES_MAX = 256, RUNS_MAX = 64, RATIOS_MAX = 32, NOTES_MAX = 16 };

struct bench_case {
    char name[64], metric[40], unit[24];
    double values[RUNS_MAX];
    int n;
};

struct report {
    const char *question, *title;
    int runs, ncases, nratios, nnotes;
    struct bench_case cases[CASES_MAX];
    struct {
        const char *name;
        double value, hoped;
    } ratios[RATIOS_MAX];
    char notes[NOTES_MAX][240];
};

struct report *report_create(const char *question, const char *title, int runs)
{
    struct report *r = calloc(1, sizeof *r);
    assert(r);
    r->question = question;
    r->title = title;
    r->runs = runs;
    return r;
}

static struct bench_case *find_case(const struct report *r, const char *name, const char *metric)
{
    for (int i = 0; i < r->ncases; i++)
        if (!strcmp(r->cases[i].name, name) && !strcmp(r->cases[i].metric, metric))
            return (struct bench_case *)&r->cases[i];
    return NULL;
}

void report_add(struct report *r, const char *name, const char *metric, const char *unit,
                double value)
{
    struct bench_case *c = find_case(r, name, metric);
    if (!c) {
        assert(r->ncases < CASES_MAX);
        c = &r->cases[r->ncases++];
        snprintf(c->name, sizeof c->name, "%s", name);
        snprintf(c->metric, sizeof c->metric, "%s", metric);
        snprintf(c->unit, sizeof c->unit, "%s", unit);
    }
    assert(c->n < RUNS_MAX);
    int at = c->n++; /* kept sorted */
    while (at > 0 && c->values[at - 1] > value) {
        c->values[at] = c->values[at - 1];
        at--;
    }
    c->values[at] = value;
}

static double median_of(const struct bench_case *c)
{
    return c->n % 2 ? c->values[c->n / 2] : (c->values[c->n / 2 - 1] + c->values[c->n / 2]) / 2;
}

double report_median(const struct report *r, const char *name, const char *metric)
{
    const struct bench_case *c = find_case(r, name, metric);
    assert(c && c->n);
    return median_of(c);
}

void report_ratio(struct report *r, const char *ratio, double value, double hoped)
{
    assert(r->nratios < RATIOS_MAX);
    r->ratios[r->nratios].name = ratio;
    r->ratios[r->nratios].hoped = hoped;
    r->ratios[r->nratios++].value = value;
}

void report_note(struct report *r, const char *format, ...)
{
    assert(r->nnotes < NOTES_MAX);
    va_list ap;
    va_start(ap, format);
    vsnprintf(r->notes[r->nnotes++], sizeof r->notes[0], format, ap);
    va_end(ap);
}

static json_t *machine_json(void)
{
    struct utsname u;
    uname(&u);
    char model[128] = "unknown", line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "model name : %127[^\n]", model) == 1)
            break;
    if (f)
        fclose(f);
    return json_pack("{s:s, s:i, s:s}", "cpu", model, "cores", (int)sysconf(_SC_NPROCESSORS_ONLN),
                     "kernel", u.release);
}

static json_t *report_json(const struct report *r)
{
    json_t *cases = json_array(), *ratios = json_object(), *notes = json_array();
    for (int i = 0; i < r->ncases; i++) {
        const struct bench_case *c = &r->cases[i];
        json_array_append_new(cases, json_pack("{s:s, s:s, s:s, s:f, s:f, s:f}", "name", c->name,
                                               "metric", c->metric, "unit", c->unit, "median",
                                               median_of(c), "min", c->values[0], "max",
                                               c->values[c->n - 1]));
    }
    for (int i = 0; i < r->nratios; i++)
        json_object_set_new(ratios, r->ratios[i].name, json_real(r->ratios[i].value));
    for (int i = 0; i < r->nnotes; i++)
        json_array_append_new(notes, json_string(r->notes[i]));
    return json_pack("{s:s, s:o, s:i, s:o, s:o, s:o}", "question", r->question, "machine",
                     machine_json(), "runs", r->runs, "cases", cases, "ratios", ratios, "notes",
                     notes);
}

static void print_table(const struct report *r)
{
    const char *bold = isatty(1) ? "\033[1m" : "", *plain = isatty(1) ? "\033[0m" : "";
    printf("\n%s%s%s  (median of %d runs, min .. max)\n\n", bold, r->title, plain, r->runs);
    for (int i = 0; i < r->ncases; i++) {
        const struct bench_case *c = &r->cases[i];
        printf("  %-34s %-26s %12.4g %-10s (%.4g .. %.4g)\n", c->name, c->metric, median_of(c),
               c->unit, c->values[0], c->values[c->n - 1]);
    }
    printf("\n");
    for (int i = 0; i < r->nratios; i++) {
        printf("  %s%-40s %8.3f%s", bold, r->ratios[i].name, r->ratios[i].value, plain);
        if (r->ratios[i].hoped > 0)
            printf("   hoped for: %.3g", r->ratios[i].hoped);
        printf("\n");
    }
    for (int i = 0; i < r->nnotes; i++)
        printf("  %s\n", r->notes[i]);
    fflush(stdout);
}

int report_finish(struct report *r, const char *dir)
{
    if (isatty(2))
        fprintf(stderr, "\r\033[K");
    print_table(r);
    if (!dir) {
        free(r);
        return 0;
    }
    char path[512];
    snprintf(path, sizeof path, "%s/%s.json", dir, r->question);
    json_t *j = report_json(r);
    int rc = json_dump_file(j, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) ? -errno : 0;
    if (rc)
        fprintf(stderr, "%s: %s\n", path, strerror(-rc));
    else
        printf("  written: %s\n", path);
    json_decref(j);
    free(r);
    return rc;
}

void report_progress(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (isatty(2))
        fprintf(stderr, "\r\033[K");
    vfprintf(stderr, format, ap);
    if (!isatty(2))
        fprintf(stderr, "\n");
    va_end(ap);
}
