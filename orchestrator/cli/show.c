/* SPDX-License-Identifier: BSD-3-Clause */
/* How answers look: colours, tables, figures. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "orchestrator/cli/cli.h"
#include "orchestrator/cli/pure/clean.h"
#include "orchestrator/cli/pure/fit.h"

const char *cli_paint(const struct cli *cli, enum cli_colour c)
{
    static const char *const codes[] = {
        [CLI_PLAIN] = "\033[0m", [CLI_GOOD] = "\033[32m",  [CLI_BAD] = "\033[31;1m",
        [CLI_CARE] = "\033[33m", [CLI_FAINT] = "\033[2m", [CLI_HEAD] = "\033[1m"};
    return cli->colour ? codes[c] : "";
}

int cli_say(int status, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        text = NULL;
    va_end(args);
    if (text)
        clean_text(text, true); /* of a server, maybe */
    fprintf(stderr, "lethe: %s\n", text ? text : "out of memory");
    free(text);
    return status;
}

/* --- tables ------------------------------------------------------------------------ */

struct cell {
    char *text;
    enum cli_colour colour;
};

struct cli_table {
    const char *const *heads;
    uint32_t n, cells, room;
    struct cell *cell;
};

static void *must(void *p)
{
    if (!p) {
        fputs("lethe: out of memory\n", stderr);
        exit(CLI_REFUSED);
    }
    return p;
}

struct cli_table *cli_table(const char *const *heads, uint32_t n)
{
    struct cli_table *t = must(calloc(1, sizeof *t));
    t->heads = heads;
    t->n = n;
    return t;
}

void cli_cell(struct cli_table *t, enum cli_colour c, const char *format, ...)
{
    va_list args;
    if (t->cells == t->room) {
        t->room = t->room ? 2 * t->room : 64;
        t->cell = must(realloc(t->cell, t->room * sizeof *t->cell));
    }
    struct cell *at = &t->cell[t->cells++];
    va_start(args, format);
    if (vasprintf(&at->text, format, args) < 0)
        must(NULL);
    va_end(args);
    at->colour = c;
}

uint32_t cli_table_lines(const struct cli_table *t)
{
    return t->cells / t->n;
}

static void print_cell(struct cli *cli, const char *text, enum cli_colour c, int wide, bool right,
                       bool last, FILE *to)
{
    bool cut;
    int bytes = fit_bytes(text, wide, &cut), pad = cut ? 0 : wide - fit_width(text);
    fprintf(to, "%*s%s%.*s%s%s", right ? pad : 0, "", c == CLI_PLAIN ? "" : cli_paint(cli, c), bytes,
            text, cut ? "…" : "", c == CLI_PLAIN ? "" : cli_paint(cli, CLI_PLAIN));
    if (!last)
        fprintf(to, "%*s", (right ? 0 : pad) + 2, "");
}

/* As wide as they must be; on a narrow terminal text is cut, numbers and the first column never. */
static int *widths(const struct cli *cli, const struct cli_table *t)
{
    enum { TEXT_LEAST = 8 };
    int *wide = must(calloc(2 * t->n, sizeof *wide)), *least = wide + t->n;
    for (uint32_t i = 0; i < t->n; i++)
        least[i] = wide[i] = fit_width(t->heads[i]) - (t->heads[i][0] == '>');
    for (uint32_t i = 0; i < t->cells; i++)
        if (fit_width(t->cell[i].text) > wide[i % t->n])
            wide[i % t->n] = fit_width(t->cell[i].text);
    for (uint32_t i = 0; i < t->n; i++) {
        bool whole = i == 0 || t->heads[i][0] == '>' || wide[i] < TEXT_LEAST;
        least[i] = whole ? wide[i] : least[i] > TEXT_LEAST ? least[i] : TEXT_LEAST;
    }
    if (cli->terminal)
        fit_columns(wide, least, t->n, (int)cli->columns);
    return wide;
}

void cli_table_print(struct cli *cli, struct cli_table *t, FILE *to)
{
    int *wide = widths(cli, t);
    uint32_t shown = t->n;
    while (shown > 1 && !wide[shown - 1])
        shown--;
    for (uint32_t i = 0; i < shown; i++) {
        bool right = t->heads[i][0] == '>';
        print_cell(cli, t->heads[i] + right, CLI_HEAD, wide[i], right, i + 1 == shown, to);
    }
    fputc('\n', to);
    for (uint32_t i = 0; i < t->cells; i++) {
        uint32_t column = i % t->n;
        if (column < shown)
            print_cell(cli, t->cell[i].text, t->cell[i].colour, wide[column],
                       t->heads[column][0] == '>', column + 1 == shown, to);
        if (column + 1 == t->n)
            fputc('\n', to);
        free(t->cell[i].text);
    }
    free(wide);
    free(t->cell);
    free(t);
}

void cli_words(struct cli *cli, const char *text, uint32_t at, uint32_t indent, FILE *to)
{
    enum { LEAST_COLUMNS = 60 };
    uint32_t wide = cli->columns > LEAST_COLUMNS ? cli->columns : LEAST_COLUMNS;
    for (bool first = true; *text; first = false) {
        int n = (int)strcspn(text, " ");
        bool anew = !first && at + 1 + (uint32_t)n > wide;
        at = anew ? indent + (uint32_t)n : at + (uint32_t)n + !first;
        fprintf(to, anew ? "\n%*s%.*s" : "%*s%.*s", anew ? (int)indent : !first, "", n, text);
        text += n + strspn(text + n, " ");
    }
}

int cli_json(struct cli *cli, json_t *answer)
{
    json_dumpf(answer, stdout, JSON_ENCODE_ANY | JSON_ENSURE_ASCII | (cli->terminal ? JSON_INDENT(2) : JSON_COMPACT));
    fputc('\n', stdout);
    json_decref(answer);
    return CLI_OK;
}

/* --- figures ------------------------------------------------------------------------ */

static char *buffer(void)
{
    static char kept[8][32];
    static unsigned next;
    return kept[next++ % 8];
}

const char *cli_span(double ms)
{
    static const struct { double ms; const char *unit; } units[] = {
        {86400e3, "d"}, {3600e3, "h"}, {60e3, "min"}, {1e3, "s"}, {1, "ms"}};
    char *to = buffer();
    uint32_t i = 0;
    while (i < 4 && ms < (i == 3 ? 1 : 2) * units[i].ms)
        i++;
    double n = ms / units[i].ms;
    snprintf(to, 32, "%.*f %s", i == 3 && n < 10 ? 1 : 0, n, units[i].unit);
    return to;
}

const char *cli_count(double n)
{
    static const char *const units[] = {"", " k", " M", " G", " T"};
    char *to = buffer();
    int i = 0;
    for (; i < 4 && (n >= 99999.5 || (i && n >= 999.5)); i++)
        n /= 1000;
    snprintf(to, 32, "%.*f%s", i == 0 || n >= 99.95 ? 0 : n >= 9.995 ? 1 : 2, n, units[i]);
    return to;
}

const char *cli_text(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

double cli_number(const json_t *object, const char *key, double none)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : none;
}

const json_t *cli_named(const json_t *rows, const char *name)
{
    const json_t *r;
    size_t i;
    json_array_foreach(rows, i, r)
        if (!strcmp(cli_text(r, "name"), name))
            return r;
    return NULL;
}

bool cli_fresh(const json_t *figures, double stale_ms)
{
    double age = cli_number(figures, "age_ms", -1);
    return age >= 0 && age <= stale_ms;
}

/* --- progress ----------------------------------------------------------------------- */

static char shown[256];

void cli_progress(struct cli *cli, const char *format, ...)
{
    char now[256];
    va_list args;
    va_start(args, format);
    vsnprintf(now, sizeof now, format, args);
    va_end(args);
    clean_text(now, false);
    if (!strcmp(now, shown) || cli->json)
        return;
    snprintf(shown, sizeof shown, "%s", now);
    if (cli->terminal && cli->columns > 1 && strlen(now) >= cli->columns)
        now[cli->columns - 1] = '\0'; /* a wrapped line could not be written over */
    fprintf(stderr, cli->terminal ? "\r\033[K%s" : "%s\n", now);
    fflush(stderr);
}

void cli_progress_end(struct cli *cli)
{
    if (*shown && cli->terminal)
        fputc('\n', stderr);
    *shown = '\0';
}
