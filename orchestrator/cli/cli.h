/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lethe: the one command that people type. Each command asks the controller (openapi.json) and
 * shows what it answered: a table, or with -o json the answer itself, unchanged.
 *
 * One table of commands (commands.c) is the source of dispatch, help, the manual page and the
 * shells' completion; so none of them can lack a command.
 *
 * Thread: one; everything blocks. Errors go to stderr as "lethe: sentence", which says what to do.
 * What came from others is cleaned before it is shown (pure/clean.h); JSON goes out as ASCII.
 * What is older than the controller's limit is never shown as a figure: "unknown".
 */
#ifndef LETHE_ORCHESTRATOR_CLI_H
#define LETHE_ORCHESTRATOR_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum cli_exit {
    CLI_OK = 0,
    CLI_REFUSED = 1,          /* the controller says no, or something failed */
    CLI_USAGE = 2,            /* wrong option or argument; nothing was asked */
    CLI_UNREACHABLE = 3,      /* no controller answers, or none is active; or no store */
    CLI_NOT_YET = 4,          /* --wait: the time is over; status --well: something is wrong; trace: no packet came */
};

/* What stands before the command's name, or after it. */
struct cli {
    const char *config;       /* -c; NULL: site.yaml if it is there */
    const char *controller;   /* -C: socket path or host:port; NULL: of the site file */
    const char *token_file;
    bool json, colour, terminal; /* terminal: stdout is one */
    uint32_t columns;
    char address[256], token[520]; /* found by cli_find */
    const char *file;         /* of the text that is given: what the controller calls site.yaml */
};

struct cli_command {
    const char *name, *arguments;
    const char *summary;      /* one line */
    const char *help;         /* its options and what they mean; paragraphs for the manual */
    int (*run)(struct cli *cli, int argc, char **argv); /* argv[0]: its name; answers a cli_exit */
};
extern const struct cli_command cli_commands[]; /* ends with a NULL name */
extern const char cli_intro[], cli_options[], cli_ends[]; /* the manual's other parts */

int cli_manual(FILE *to);     /* troff -man */
int cli_completion(const char *shell, FILE *to); /* -1: no such shell */
int cli_help(const char *command, FILE *to); /* NULL: of all; -1: no such command */

/* "lethe: ..." on stderr; answers `status`. */
int cli_say(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* --- asking ---------------------------------------------------------------------- */

/* Where the controller is: -C, else LETHE_CONTROLLER, else of the site file, else
 * /run/lethe/controller.sock. 0 or CLI_USAGE, said. */
int cli_find(struct cli *cli);
/* One request; `body` may be NULL. CLI_OK and *answer (owned by the caller), or what was said on stderr:
 * CLI_REFUSED (the controller's own sentence), CLI_UNREACHABLE. `timeout_ms` 0: 10 s. */
int cli_ask(struct cli *cli, const char *method, const char *path, const char *type,
            const char *body, uint32_t timeout_ms, json_t **answer);
int cli_get(struct cli *cli, const char *path, json_t **answer);
/* As cli_get, but says nothing: to be asked again. */
int cli_get_quietly(struct cli *cli, const char *path, json_t **answer);
int cli_post(struct cli *cli, const char *path, const json_t *body, json_t **answer);
/* `text` as a part of a path; lent until the next call but three. */
const char *cli_escape(const char *text);

/* --- programs ---------------------------------------------------------------------- */

struct site;
/* lethe-controller: beside this program, or where a build has it, or of the PATH. */
void cli_controller_program(char *to, size_t room);
/* The folder of lethe-nf and the others: the site's `controller.programs`, else the controller's.
 * `site` may be NULL. */
void cli_programs(const struct site *site, char *to, size_t room);
/* The site's file: -c, else site.yaml if it is there, else the one that the controller keeps and its
 * programs read. False, and why: there is none. */
bool cli_site_file(struct cli *cli, char *to, size_t room, char *why, size_t why_room);
/* The lethe-nf of a group of that file; NULL: the site's. 0 or CLI_USAGE, said. */
int cli_worker_program(const char *file, const char *group, char *to, size_t room);
/* What it says of the file's chain (nf/worker/explain.h); NULL: nothing. */
json_t *cli_plan(const char *program, const char *file);

/* --- showing --------------------------------------------------------------------- */

enum cli_colour { CLI_PLAIN, CLI_GOOD, CLI_BAD, CLI_CARE, CLI_FAINT, CLI_HEAD };
const char *cli_paint(const struct cli *cli, enum cli_colour c); /* "" without colour */

/* A table: cells are collected, then printed with columns as wide as they must be. */
struct cli_table;
struct cli_table *cli_table(const char *const *heads, uint32_t n); /* a head that begins with '>': right aligned */
void cli_cell(struct cli_table *t, enum cli_colour c, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
uint32_t cli_table_lines(const struct cli_table *t);
void cli_table_print(struct cli *cli, struct cli_table *t, FILE *to); /* and frees */
/* Words from column `at` on, in lines that end before the terminal does; further lines begin at `indent`. */
void cli_words(struct cli *cli, const char *text, uint32_t at, uint32_t indent, FILE *to);
/* The answer as it came, indented on a terminal. */
int cli_json(struct cli *cli, json_t *answer); /* takes it; CLI_OK */

/* "1.2 s", "3 min", "2 d"; 1234567 → "1.23 M". In one of eight buffers. */
const char *cli_span(double ms);
const char *cli_count(double n);
/* Of an answer: a text, "" if it is not there; a number, or `none`. */
const char *cli_text(const json_t *object, const char *key);
double cli_number(const json_t *object, const char *key, double none);
/* The row of that "name", lent; NULL: there is none. */
const json_t *cli_named(const json_t *rows, const char *name);
/* Its figures are young enough to be shown. */
bool cli_fresh(const json_t *figures, double stale_ms);

/* What the whole site is, as `status` shows it; also for `top`. */
void cli_show_status(struct cli *cli, const json_t *status, FILE *to);
/* Nothing is wrong and nothing is unknown; but for stores and front ends with an earlier configuration. */
bool cli_well(const json_t *status, bool restarts_may_wait);

/* Progress of something longer than a moment: one line, written over on a terminal. */
void cli_progress(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cli_progress_end(struct cli *cli);

#endif
