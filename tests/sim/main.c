/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim: runs seeds, finds planted bugs, replays one seed with a trace.
 * Exit status: 0 all seeds clean (or all planted bugs found), 1 not, 2 usage.
 */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/wire/bugs.h"
#include "world.h"

enum { COUNTS_MATTER_FROM = 100, BUG_SEEDS_MAX = 4000,
       BUG_SHARE = 4 /* of the time, for one bug */, REPLAY_EVERY = 25, JOBS_MAX = 64,
       FAILURES_MAX = 50 };

struct options {
    uint64_t first, seeds;
    bool one, trace, all_bugs, next, json;
    uint32_t part, parts;       /* of the planted bugs, from 1 */
    uint32_t jobs;
    int bug;                    /* in `bugs` */
    const char *seeds_file, *only;
    double minutes;
};

/* Bugs that the core has, and that are not in the list of those to be found. */
#ifndef SHARD_BUGS_VIEWS_NEXT
#define SHARD_BUGS_VIEWS_NEXT(X)
#endif
#ifndef SHARD_BUGS_MOVES_NEXT
#define SHARD_BUGS_MOVES_NEXT(X)
#endif
#ifndef SHARD_BUGS_TABLES_NEXT
#define SHARD_BUGS_TABLES_NEXT(X)
#endif
#define SIM_BUGS_NEXT(X)                                                                           \
    SHARD_BUGS_VIEWS_NEXT(X) SHARD_BUGS_MOVES_NEXT(X) SHARD_BUGS_TABLES_NEXT(X)
static const struct {
    enum shard_bug bug;
    enum reader_bug reader;
    bool next;
    const char *name, *text;
} bugs[] = {
#define X(name, text) {name, READER_BUG_NONE, false, #name, text},
    SHARD_BUGS(X)
#undef X
#define X(name, text) {BUG_NONE, name, false, #name, text},
    READER_BUGS(X)
#undef X
#define X(name, text) {name, READER_BUG_NONE, true, #name, text},
    SIM_BUGS_NEXT(X)
#undef X
#define X(name, text) {BUG_NONE, name, true, #name, text},
    READER_BUGS_NEXT(X)
#undef X
};
enum { BUGS = sizeof bugs / sizeof *bugs };

static int planted(void)
{
    int i = 0;
    while (bugs[i].bug != shard_bug || bugs[i].reader != reader_bug)
        i++;
    return i;
}

/* 0: none. */
static void plant(int bug)
{
    shard_bug = bugs[bug].bug;
    reader_bug = bugs[bug].reader;
}

static const char usage[] =
    "usage: sim [--seeds N] [--first S] [--file FILE]    run N seeds from S, and those of FILE\n"
    "       sim --seed S [--trace]                       replay one\n"
    "       sim --bug NAME [...]                         with a planted bug in the store\n"
    "       sim --all-bugs                               find every planted bug\n"
    "\n"
    "  --seeds N      how many seeds (default 200)\n"
    "  --first S      the first of them (default 1)\n"
    "  --file FILE    seeds to run before them: a number per line, # begins a remark\n"
    "  --seed S       just this one\n"
    "  --trace        print every event: simulated time, who, what\n"
    "  --bug NAME     one of the names below, or a part of it\n"
    "  --all-bugs     seeds until each is found; exit 1 if one survives\n"
    "  --next         those, too, that the core has and that need not be found yet\n"
    "  --only A,B     with --all-bugs: these alone\n"
    "  --part I/N     with --all-bugs: the I-th of N equal parts of them\n"
    "  --jobs N       run seeds in N processes (default 1)\n"
    "  --minutes M    stop after M minutes of real time (default: no limit; --all-bugs: 5)\n"
    "  -o json        the result as JSON\n"
    "  -h, --help     this\n"
    "\n"
    "planted bugs:\n";

static void print_usage(FILE *out)
{
    fputs(usage, out);
    for (int i = 1; i < BUGS; i++)
        fprintf(out, "  %-28s %s\n", bugs[i].name, bugs[i].text);
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- counts ---------------------------------------------------------------------------- */

static void counts_add(struct counts *to, const struct counts *more)
{
#define X(name, text) to->name += more->name;
    SIM_COUNTS(X) SIM_NOTES(X)
#undef X
}

static void counts_print(FILE *out, const struct counts *c)
{
#define X(name, text) fprintf(out, "  %12" PRIu64 "  %s\n", c->name, text);
    SIM_COUNTS(X) SIM_NOTES(X)
#undef X
}

static json_t *counts_json(const struct counts *c)
{
    json_t *o = json_object();
#define X(name, text) json_object_set_new(o, #name, json_integer((json_int_t)c->name));
    SIM_COUNTS(X) SIM_NOTES(X)
#undef X
    return o;
}

/* What never happened was never tested. */
static int counts_missing(FILE *out, const struct counts *c)
{
    int zeros = 0;
#define X(name, text)                                                                              \
    if (!c->name && ++zeros)                                                                       \
        fprintf(out, "FAILED: no %s in the whole run: nothing was shown about them\n", text);
    SIM_COUNTS(X)
#undef X
    return zeros;
}

/* --- one seed -------------------------------------------------------------------------- */

static void print_failure(FILE *out, const struct world *w)
{
    fprintf(out, "seed %" PRIu64 " FAILED %s: %s\n", w->seed, w->verdict.check, w->verdict.text);
    for (int i = 0; i < w->verdict.nops; i++)
        hist_print_op(out, &w->history, w->verdict.ops[i]);
    fprintf(out, "  replay: sim --seed %" PRIu64 " --trace", w->seed);
    if (planted())
        fprintf(out, " --bug %s", bugs[planted()].name);
    fprintf(out, "\n");
}

/* An assertion of the store's is a verdict, too. What the world held is lost. */
static sigjmp_buf aborted;

static void on_abort(int sig)
{
    (void)sig;
    siglongjmp(aborted, 1);
}

static bool run_one(struct world *w, uint64_t seed, const struct options *o, struct counts *total)
{
    bool good;
    if (sigsetjmp(aborted, 1)) {
        struct history empty = {0};
        w->history = empty;
        memset(w->replicas, 0, sizeof w->replicas);
        memset(w->peers, 0, sizeof w->peers);
        verdict_say(&w->verdict, "assertion", NULL, 0, "the store's code aborted at %.3f ms",
                    (double)w->now_us / 1000.0);
        return false;
    }
    good = run_seed(w, seed, o->trace);
    counts_add(total, &w->counts);
    return good;
}

/* --- many seeds ------------------------------------------------------------------------ */

/* Of one process; with several it lies in memory that they share. */
struct tally {
    struct counts counts;
    uint64_t runs, failed;
    uint64_t nth;               /* of all seeds, the other processes' too */
    uint32_t job;
    double began;
    struct { uint64_t seed; char check[24], text[400]; } failures[FAILURES_MAX];
};

/* Runs it once more: all must be the same. */
static void check_replay(struct world *w, const struct options *o)
{
    struct counts counts = w->counts;
    uint64_t fingerprint = w->fingerprint;
    run_clear(w);
    run_seed(w, w->seed, o->trace);
    if (w->fingerprint != fingerprint || memcmp(&counts, &w->counts, sizeof counts))
        run_fail(w, "replay", "the seed did not replay: %" PRIu64 " events, then %" PRIu64,
                 counts.steps, w->counts.steps);
}

static void tally_seed(struct tally *t, struct world *w, uint64_t seed, const struct options *o)
{
    if (t->nth++ % o->jobs != t->job)
        return;
    bool good = run_one(w, seed, o, &t->counts);
    if (t->runs++ % REPLAY_EVERY == 0 && good && !o->one)
        check_replay(w, o);
    if (w->verdict.bad) {
        print_failure(o->json ? stderr : stdout, w);
        if (t->failed < FAILURES_MAX) {
            t->failures[t->failed].seed = seed;
            snprintf(t->failures[t->failed].check, 24, "%s", w->verdict.check);
            snprintf(t->failures[t->failed].text, 400, "%s", w->verdict.text);
        }
        t->failed++;
    }
    if (o->one && !o->json)
        counts_print(stdout, &w->counts);
    run_clear(w);
}

static int tally_file(struct tally *t, struct world *w, const struct options *o)
{
    char line[400];
    FILE *f = fopen(o->seeds_file, "r");
    if (!f) {
        fprintf(stderr, "sim: cannot read %s\n", o->seeds_file);
        return 2;
    }
    while (fgets(line, sizeof line, f)) {
        char *end;
        uint64_t seed = strtoull(line, &end, 10);
        if (end != line)
            tally_seed(t, w, seed, o);
    }
    fclose(f);
    return 0;
}

static json_t *failures_json(const struct tally *t)
{
    json_t *rows = json_array();
    for (uint64_t i = 0; i < t->failed && i < FAILURES_MAX; i++)
        json_array_append_new(rows, json_pack("{s:I, s:s, s:s}", "seed",
                                              (json_int_t)t->failures[i].seed, "check",
                                              t->failures[i].check, "text", t->failures[i].text));
    return rows;
}

static int tally_print(const struct tally *t, const struct options *o)
{
    double seconds = seconds_now() - t->began;
    int missing = 0;
    if (t->runs >= COUNTS_MATTER_FROM && !planted())
        missing = counts_missing(o->json ? stderr : stdout, &t->counts);
    if (o->json) {
        json_t *out = json_pack("{s:I, s:I, s:f, s:i, s:o, s:o}", "seeds", (json_int_t)t->runs,
                                "failed", (json_int_t)t->failed, "seconds", seconds,
                                "counts_at_zero", missing, "counts", counts_json(&t->counts),
                                "failures", failures_json(t));
        json_dumpf(out, stdout, JSON_INDENT(2));
        printf("\n");
        json_decref(out);
    } else if (!o->one) {
        printf("%" PRIu64 " seeds, %" PRIu64 " failed, %.1f s\n", t->runs, t->failed, seconds);
        counts_print(stdout, &t->counts);
    } else if (!t->failed) {
        printf("seed %" PRIu64 " is clean\n", o->first);
    }
    return t->failed || missing ? 1 : 0;
}

static int run_share(struct tally *t, struct world *w, const struct options *o)
{
    int rc = o->seeds_file ? tally_file(t, w, o) : 0;
    for (uint64_t i = 0; !rc && i < o->seeds; i++) {
        if (o->minutes > 0 && seconds_now() - t->began > o->minutes * 60)
            break;
        tally_seed(t, w, o->first + i, o);
        if (!o->one && !t->job && isatty(2))
            fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " seeds, %.0f s ", i + 1, o->seeds,
                    seconds_now() - t->began);
    }
    return rc;
}

static void tally_add(struct tally *to, const struct tally *more)
{
    counts_add(&to->counts, &more->counts);
    to->runs += more->runs;
    for (uint64_t i = 0; i < more->failed; i++, to->failed++)
        if (i < FAILURES_MAX && to->failed < FAILURES_MAX)
            to->failures[to->failed] = more->failures[i];
}

/* Every process takes each jobs'th seed; this one is the first of them. */
static int run_many(struct world *w, const struct options *o)
{
    struct tally *t = mmap(NULL, o->jobs * sizeof *t, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid[JOBS_MAX];
    double began = seconds_now();
    if (t == MAP_FAILED) {
        perror("sim");
        return 1;
    }
    for (uint32_t i = 0; i < o->jobs; i++)
        t[i] = (struct tally){.job = i, .began = began};
    for (uint32_t i = 1; i < o->jobs; i++)
        if (!(pid[i] = fork()))
            _exit(run_share(&t[i], w, o));
    int rc = run_share(&t[0], w, o);
    for (uint32_t i = 1; i < o->jobs; i++) {
        int status = 1;
        if (pid[i] < 0 || waitpid(pid[i], &status, 0) < 0 || status) {
            printf("FAILED: process %u of %u did not run to its end\n", i + 1, o->jobs);
            rc = 1;
        }
        tally_add(&t[0], &t[i]);
    }
    if (!o->one && isatty(2))
        fprintf(stderr, "\r%60s\r", "");
    rc = rc ? rc : tally_print(&t[0], o);
    munmap(t, o->jobs * sizeof *t);
    return rc;
}

/* --- planted bugs ---------------------------------------------------------------------- */

/* The bug's doing, or would the seed fail without it? Leaves the verdict of the former. */
static bool is_its_doing(struct world *w, uint64_t seed, const struct options *o)
{
    struct counts unused = {0};
    struct verdict verdict = w->verdict;
    int bug = planted();
    run_clear(w);
    plant(0);
    bool good = run_one(w, seed, o, &unused);
    plant(bug);
    w->verdict = verdict;
    return good;
}

static void say_found(const struct world *w, const struct options *o, uint64_t seeds,
                      double seconds, json_t *rows)
{
    const char *name = bugs[planted()].name;
    json_array_append_new(rows,
                          json_pack("{s:s, s:I, s:I, s:s, s:s, s:f}", "bug", name, "seeds",
                                    (json_int_t)seeds, "seed", (json_int_t)w->seed, "check",
                                    w->verdict.check, "text", w->verdict.text, "seconds", seconds));
    if (!o->json)
        printf("found     %-29s %4" PRIu64 " seeds %6.1f s  %s: %s\n", name, seeds, seconds,
               w->verdict.check, w->verdict.text);
    fflush(stdout);
}

/* Seeds until one fails; 0: it survived. */
static uint64_t hunt(struct world *w, const struct options *o, double until, json_t *rows)
{
    double began = seconds_now();
    struct counts unused = {0};
    uint64_t i = 0;
    for (bool found = false; i < BUG_SEEDS_MAX && seconds_now() < until; run_clear(w)) {
        found = !run_one(w, o->first + i++, o, &unused) && is_its_doing(w, o->first + i - 1, o);
        if (!found)
            continue;
        say_found(w, o, i, seconds_now() - began, rows);
        run_clear(w);
        return i;
    }
    if (!o->json)
        printf("SURVIVED  %-29s %4" PRIu64 " seeds %6.1f s  %s\n", bugs[planted()].name, i,
               seconds_now() - began, bugs[planted()].text);
    fflush(stdout);
    return 0;
}

/* `list`: names with commas between. */
static bool is_listed(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = list; (at = strstr(at, name)); at += n)
        if ((at == list || at[-1] == ',') && (!at[n] || at[n] == ','))
            return true;
    return false;
}

static int run_all_bugs(struct world *w, const struct options *o)
{
    double began = seconds_now();
    double until = began + (o->minutes > 0 ? o->minutes : 5) * 60;
    json_t *rows = json_array();
    int survivors = 0, nbugs = 0;
    for (int i = 1, nth = 0; i < BUGS; i++) {
        if (bugs[i].next && !o->next)
            continue;
        if (o->only && !is_listed(o->only, bugs[i].name))
            continue;
        if (o->parts && (uint32_t)nth++ % o->parts != o->part - 1)
            continue;
        plant(i);
        double most = seconds_now() + (until - began) / BUG_SHARE;
        survivors += !hunt(w, o, most < until ? most : until, rows);
        nbugs++;
    }
    plant(0);
    double seconds = seconds_now() - began;
    if (o->json) {
        json_t *out = json_pack("{s:i, s:i, s:f, s:O}", "bugs", nbugs, "survivors",
                                survivors, "seconds", seconds, "found", rows);
        json_dumpf(out, stdout, JSON_INDENT(2));
        printf("\n");
        json_decref(out);
    } else {
        printf("%d planted bugs, %d survived, %.1f s\n", nbugs, survivors, seconds);
    }
    json_decref(rows);
    return survivors ? 1 : 0;
}

/* --- options --------------------------------------------------------------------------- */

static int bug_named(const char *text)
{
    for (int i = 0; i < BUGS; i++)
        if (strcasestr(bugs[i].name, text) || strcasestr(bugs[i].text, text))
            return i;
    fprintf(stderr, "sim: no planted bug is called %s\n", text);
    print_usage(stderr);
    exit(2);
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t n = strtoull(text, &end, 10);
    if (!*text || *end) {
        fprintf(stderr, "sim: %s is not a number\n", text);
        exit(2);
    }
    return n;
}

static void parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"seeds", required_argument, NULL, 'n'}, {"first", required_argument, NULL, 'f'},
        {"seed", required_argument, NULL, 's'},  {"trace", no_argument, NULL, 't'},
        {"bug", required_argument, NULL, 'b'},   {"all-bugs", no_argument, NULL, 'a'},
        {"minutes", required_argument, NULL, 'm'}, {"file", required_argument, NULL, 'F'},
        {"only", required_argument, NULL, 'O'},
        {"next", no_argument, NULL, 'N'},        {"part", required_argument, NULL, 'p'},
        {"jobs", required_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},        {0},
    };
    for (int c; (c = getopt_long(argc, argv, "o:h", longs, NULL)) != -1;) {
        switch (c) {
        case 'n': o->seeds = number(optarg); break;
        case 'f': o->first = number(optarg); break;
        case 's': o->first = number(optarg); o->seeds = 1; o->one = true; break;
        case 't': o->trace = true; break;
        case 'b': o->bug = bug_named(optarg); break;
        case 'a': o->all_bugs = true; break;
        case 'm': o->minutes = atof(optarg); break;
        case 'F': o->seeds_file = optarg; break;
        case 'N': o->next = true; break;
        case 'O': o->only = optarg; break;
        case 'p':
            if (sscanf(optarg, "%u/%u", &o->part, &o->parts) != 2 || !o->part ||
                o->part > o->parts) {
                fprintf(stderr, "sim: --part is %s, write 1/2 or 2/2\n", optarg);
                exit(2);
            }
            break;
        case 'j':
            o->jobs = (uint32_t)number(optarg);
            o->jobs = !o->jobs ? 1 : o->jobs < JOBS_MAX ? o->jobs : JOBS_MAX;
            break;
        case 'o': o->json = !strcmp(optarg, "json"); break;
        case 'h': print_usage(stdout); exit(0);
        default: print_usage(stderr); exit(2);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "sim: what is %s?\n", argv[optind]);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct options o = {.first = 1, .seeds = 200, .jobs = 1};
    struct world *w = malloc(sizeof *w);
    if (!w)
        return 1;
    parse(argc, argv, &o);
    setvbuf(stdout, NULL, o.trace ? _IOFBF : _IOLBF, 1 << 16);
    signal(SIGABRT, on_abort);
    plant(o.bug);
    int rc = o.all_bugs ? run_all_bugs(w, &o) : run_many(w, &o);
    free(w);
    return rc;
}
