/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * store_history: clients of a real store, and a verdict over all they saw.
 *
 *   store_history --nodes HOST:PORT[,...] --shards N [--in NAMESPACE]... [options]
 *
 * One client process per --in (by default one, here). It answers commands on standard
 * input, a JSON object a line:
 *   status       counts since the start; writes since the last mark or point
 *   point        writes are counted from here
 *   mark TEXT    a fault is about to happen
 *   gap          it is over: the longest time without an acknowledged write in a hash slot since the mark
 *   fill N, look N   inserts N further entries a hash slot; are they all there?
 *   respawn I    client process I was killed: another one
 *   finish S     asks nothing new, waits S seconds for what is under way, reads every key,
 *                judges the history; exit status 0: possible, 1: not
 *   quit         ends without a verdict, status 0; end of input does with status 2
 *
 * An operation that was not answered, because its client died or lost its lease, stays
 * unknown: it may have happened once, or never.
 */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keys.h"
#include "tests/sim/check.h"
#include "worker.h"

enum { STALLS_MAX = 4096, READ_TIMEOUT_S = 30 };

struct history_run {
    struct record *record;
    struct worker_config config;
    const char *namespaces[WORKERS_MAX];
    int nworkers;
    pid_t pid[WORKERS_MAX]; /* 0: dead */
    uint32_t lives[WORKERS_MAX];
    uint64_t began_us;      /* every client had been ready; 0: not yet */
    uint64_t mark_us, point_us;
    struct hist_stall stalls[STALLS_MAX];
    uint32_t nstalls;
};

/* --- processes -------------------------------------------------------------------------- */

static void spawn(struct history_run *h, int place)
{
    h->pid[place] = worker_start(h->record, &h->config, place, h->lives[place]++,
                                 h->namespaces[place]);
    if (h->pid[place] < 0) {
        perror("store_history: fork");
        exit(2);
    }
}

static void reap(struct history_run *h)
{
    for (int i = 0; i < h->nworkers; i++)
        if (h->pid[i] && waitpid(h->pid[i], NULL, WNOHANG) == h->pid[i]) {
            h->pid[i] = 0;
            atomic_store(&h->record->workers[i].ready, 0);
            atomic_store(&h->record->workers[i].waiting, 0);
        }
}

static bool any_alive(struct history_run *h)
{
    reap(h);
    for (int i = 0; i < h->nworkers; i++)
        if (h->pid[i])
            return true;
    return false;
}

static void end_workers(struct history_run *h, enum record_phase phase, uint64_t until_us)
{
    atomic_store(&h->record->phase, phase);
    while (any_alive(h) && record_now_us() < until_us)
        usleep(5000);
    atomic_store(&h->record->phase, PHASE_END);
    for (int i = 0; i < h->nworkers; i++)
        if (h->pid[i]) {
            kill(h->pid[i], SIGKILL);
            waitpid(h->pid[i], NULL, 0);
            h->pid[i] = 0;
        }
}

/* --- answers ---------------------------------------------------------------------------- */

static void set(json_t *o, const char *key, uint64_t value)
{
    json_object_set_new(o, key, json_integer((json_int_t)value));
}

static int say(json_t *o)
{
    char *line = json_dumps(o, JSON_COMPACT);
    printf("%s\n", line ? line : "{}");
    fflush(stdout);
    free(line);
    json_decref(o);
    return 0;
}

static void add_counts(const struct history_run *h, json_t *o)
{
    const struct record *r = h->record;
    uint64_t asked = 0, told = 0, retries = 0, reconnects = 0, leases = 0, ready = 0, waiting = 0;
    uint64_t borrowed = 0;
    json_t *by = json_object();
    for (int i = 0; i < WORKERS_MAX; i++) {
        const struct record_worker *w = &r->workers[i];
        asked += atomic_load(&w->asked);
        told += atomic_load(&w->told);
        retries += atomic_load(&w->retries);
        reconnects += atomic_load(&w->reconnects);
        leases += atomic_load(&w->leases);
        borrowed += atomic_load(&w->borrowed);
        ready += atomic_load(&w->ready);
        waiting += atomic_load(&w->waiting);
    }
    static const char *const names[] = {
#define X(name, text) #name,
        TXN_STATUSES(X)
#undef X
    };
    for (int s = 0; s < TXN_STATUS_END; s++) {
        uint64_t n = 0;
        for (int i = 0; i < WORKERS_MAX; i++)
            n += atomic_load(&r->workers[i].by_status[s]);
        if (n)
            set(by, names[s] + sizeof "TXN_" - 1, n);
    }
    set(o, "asked", asked);
    set(o, "told", told);
    set(o, "retries", retries);
    set(o, "reconnects", reconnects);
    set(o, "leases", leases);
    set(o, "borrowed", borrowed);
    set(o, "ready", ready);
    set(o, "waiting", waiting);
    set(o, "clients", (uint64_t)h->nworkers * h->config.clients);
    json_object_set_new(o, "by_status", by);
}

static void add_gap(json_t *o, const struct record_gap *g)
{
    json_object_set_new(o, "gap_ms", json_real((double)g->longest_us / 1000));
    set(o, "gap_slot", g->slot);
    set(o, "writes", g->writes);
    set(o, "slots_served", g->slots_served);
    set(o, "slots", keys_slots());
}

static int on_status(struct history_run *h)
{
    json_t *o = json_object(), *pids = json_array(), *troubles = json_array();
    reap(h);
    add_counts(h, o);
    struct record_gap g = record_gap(h->record, h->point_us, record_now_us());
    add_gap(o, &g);
    for (int i = 0; i < h->nworkers; i++) {
        char text[200];
        memcpy(text, h->record->workers[i].trouble, sizeof text);
        text[sizeof text - 1] = 0;
        json_array_append_new(pids, json_integer(h->pid[i]));
        json_array_append_new(troubles, json_string(text));
    }
    json_object_set_new(o, "pids", pids);
    json_object_set_new(o, "troubles", troubles);
    return say(o);
}

static int on_point(struct history_run *h, bool mark)
{
    h->point_us = record_now_us();
    if (!mark)
        return say(json_pack("{s:b}", "ok", 1));
    h->mark_us = h->point_us;
    if (!h->began_us)
        h->began_us = h->mark_us;
    return say(json_pack("{s:b}", "ok", 1));
}

static int on_gap(struct history_run *h)
{
    json_t *o = json_object();
    uint64_t now_us = record_now_us();
    struct record_gap g = record_gap(h->record, h->mark_us, now_us);
    if (h->nstalls < STALLS_MAX)
        h->stalls[h->nstalls++] = (struct hist_stall){h->mark_us, now_us, true};
    add_gap(o, &g);
    return say(o);
}

static int on_fill(struct history_run *h, int each, bool insert)
{
    int status = 1;
    pid_t pid = worker_fill(h->record, &h->config, h->namespaces[0], (uint32_t)each, insert);
    bool ok = each > 0 && waitpid(pid, &status, 0) == pid && status == 0;
    return say(json_pack("{s:b}", "ok", ok));
}

static int on_respawn(struct history_run *h, int place)
{
    reap(h);
    bool can = place >= 0 && place < h->nworkers && !h->pid[place];
    if (can)
        spawn(h, place);
    return say(json_pack("{s:b}", "ok", can));
}

/* --- the verdict ------------------------------------------------------------------------ */

static bool judge(struct history_run *h, json_t *o)
{
    struct history history = {0};
    struct verdict v = {0};
    uint64_t outcomes[3] = {0};
    keys_declare(&history);
    record_history(h->record, &history);
    for (uint32_t i = 0; i < h->nstalls; i++)
        hist_add_stall(&history, h->stalls[i].from_us, h->stalls[i].to_us, true);
    for (uint32_t i = 0; i < history.nops; i++)
        outcomes[history.ops[i].outcome]++;
    bool good = check_all(&history, &v);
    for (int i = 0; i < v.nops; i++)
        hist_print_op(stderr, &history, v.ops[i]);
    set(o, "operations", history.nops);
    set(o, "done", outcomes[HIST_OK]);
    set(o, "refused", outcomes[HIST_REFUSED]);
    set(o, "unknown", outcomes[HIST_UNKNOWN]);
    if (!good) {
        json_object_set_new(o, "check", json_string(v.check));
        json_object_set_new(o, "text", json_string(v.text));
    }
    hist_clear(&history);
    return good;
}

static int on_finish(struct history_run *h, unsigned seconds)
{
    json_t *o = json_object();
    int status = 1;
    uint64_t ended_us = record_now_us();
    end_workers(h, PHASE_FINISH, ended_us + seconds * 1000000ull);
    atomic_store(&h->record->phase, PHASE_ASK);
    pid_t reader = worker_read_all(h->record, &h->config, h->namespaces[0], READ_TIMEOUT_S);
    bool read = waitpid(reader, &status, 0) == reader && status == 0;
    struct record_gap g = record_gap(h->record, h->began_us, ended_us);
    add_counts(h, o);
    add_gap(o, &g);
    bool good = judge(h, o);
    uint32_t wrong = atomic_load(&h->record->nwrong), full = atomic_load(&h->record->full);
    set(o, "wrong_answers", wrong);
    if (wrong)
        json_object_set_new(o, "wrong", json_string(h->record->wrong));
    json_object_set_new(o, "linearizable", json_boolean(good));
    json_object_set_new(o, "all_read", json_boolean(read));
    json_object_set_new(o, "record_full", json_boolean(full));
    bool ok = good && read && !wrong && !full;
    json_object_set_new(o, "ok", json_boolean(ok));
    say(o);
    return ok ? 0 : 1;
}

/* --- commands and options --------------------------------------------------------------- */

static int serve(struct history_run *h)
{
    char line[400];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!strcmp(line, "status"))
            on_status(h);
        else if (!strncmp(line, "mark", 4))
            on_point(h, true);
        else if (!strcmp(line, "point"))
            on_point(h, false);
        else if (!strcmp(line, "gap"))
            on_gap(h);
        else if (!strncmp(line, "respawn ", 8))
            on_respawn(h, atoi(line + 8));
        else if (!strncmp(line, "fill ", 5) || !strncmp(line, "look ", 5))
            on_fill(h, atoi(line + 5), line[0] == 'f');
        else if (!strncmp(line, "finish ", 7))
            return on_finish(h, (unsigned)atoi(line + 7));
        else if (!strcmp(line, "quit"))
            return 0;
        else
            say(json_pack("{s:s}", "error", "what is this?"));
    }
    return 2;
}

static int usage(void)
{
    fprintf(stderr, "usage: store_history --nodes HOST:PORT[,...] --shards N [--in NAMESPACE]...\n"
                    "  [--tenant NAME --secret-file FILE] [--clients 2] [--window 24] [--slots 16]\n"
                    "  [--rate OPS_PER_S_AND_PROCESS] [--seed N] [--lease-ms N] [--retry-ms N]\n"
                    "  [--operations ROOM] [--ports PERCENT_MORE_OF_THE_POOL]\n");
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"nodes", 1, 0, 'n'},   {"shards", 1, 0, 's'}, {"in", 1, 0, 'i'},       {"tenant", 1, 0, 't'},
        {"secret-file", 1, 0, 'f'}, {"clients", 1, 0, 'c'}, {"window", 1, 0, 'w'}, {"slots", 1, 0, 'S'},
        {"rate", 1, 0, 'r'},    {"seed", 1, 0, 'e'},   {"lease-ms", 1, 0, 'l'}, {"retry-ms", 1, 0, 'y'},
        {"operations", 1, 0, 'o'}, {"ports", 1, 0, 'p'}, {0}};
    static struct history_run h = {.config = {.shards = 1, .clients = 2, .window = 24, .seed = 1}};
    uint32_t slots = 16, room = 1000000;
    for (int opt; (opt = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        uint32_t number = optarg ? (uint32_t)strtoul(optarg, NULL, 10) : 0;
        switch (opt) {
        case 'n': h.config.nodes = optarg; break;
        case 's': h.config.shards = number; break;
        case 't': h.config.tenant = optarg; break;
        case 'f': h.config.secret_file = optarg; break;
        case 'c': h.config.clients = number; break;
        case 'w': h.config.window = number; break;
        case 'S': slots = number; break;
        case 'r': h.config.rate_ops = number; break;
        case 'e': h.config.seed = number; break;
        case 'l': h.config.lease_ms = number; break;
        case 'y': h.config.retry_ms = number; break;
        case 'o': room = number; break;
        case 'p': h.config.ports = number; break;
        case 'i':
            if (h.nworkers == WORKERS_MAX - 1)
                return usage();
            h.namespaces[h.nworkers++] = optarg;
            break;
        default: return usage();
        }
    }
    if (!h.config.nodes || optind < argc)
        return usage();
    if (!h.nworkers)
        h.nworkers = 1;
    keys_init(slots);
    h.record = record_create(room);
    if (!h.record) {
        perror("store_history: shared memory");
        return 2;
    }
    for (int i = 0; i < h.nworkers; i++)
        spawn(&h, i);
    int status = serve(&h);
    end_workers(&h, PHASE_END, record_now_us() + 200000);
    return status;
}
