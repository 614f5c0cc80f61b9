/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The loop of a client process (worker.h): polls its clients, asks at a given pace, sleeps on
 * their descriptors. Ends when the phase says so, and with its starter.
 */
#include "worker.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "ask.h"
#include "fill.h"

enum { CLIENTS_MAX = 16, BURST_US = 20000, SLEEP_MAX_US = 20000, READER = WORKERS_MAX - 1, FILL_TIMEOUT_S = 60 };

struct worker {
    struct record *record;
    struct record_worker *counts;
    const struct worker_config *config;
    struct asker *askers[CLIENTS_MAX];
    uint32_t nclients;
    uint64_t paced_us;          /* asked for until then */
    struct rng rng;
};

static void enter(const char *namespace_path)
{
    int fd = namespace_path ? open(namespace_path, O_RDONLY | O_CLOEXEC) : -1;
    if (namespace_path && (fd < 0 || setns(fd, CLONE_NEWNET))) {
        perror(namespace_path);
        _exit(2);
    }
    if (fd >= 0)
        close(fd);
}

static struct asker *asker_create(struct worker *w, uint32_t number)
{
    char err[300];
    const struct worker_config *wc = w->config;
    struct lethe_config config = {.shards = (uint16_t)wc->shards, .address = wc->nodes,
                                  .retry_ms = wc->retry_ms, .tenant = wc->tenant,
                                  .secret_file = wc->secret_file};
    struct asker *a = calloc(1, sizeof *a);
    if (!a)
        abort();
    a->record = w->record;
    a->counts = w->counts;
    a->number = number;
    a->window = wc->window < PENDING_MAX ? wc->window : (uint32_t)PENDING_MAX;
    a->lease_ms = wc->lease_ms;
    a->ports = wc->ports;
    a->rng.state = rng_next(&w->rng);
    a->lethe = lethe_client_create(&config, err, sizeof err);
    if (!a->lethe || !ask_open(a)) {
        fprintf(stderr, "store_history: %s\n", a->lethe ? "a table is refused" : err);
        _exit(2);
    }
    return a;
}

static void publish(struct worker *w)
{
    uint64_t retries = 0, reconnects = 0, leases = 0;
    uint32_t ready = 0, waiting = 0;
    for (uint32_t i = 0; i < w->nclients; i++) {
        struct lethe_status st;
        lethe_status(w->askers[i]->lethe, &st);
        retries += st.retries;
        reconnects += st.reconnects;
        leases += st.leases;
        ready += lethe_ready(w->askers[i]->lethe);
        waiting += w->askers[i]->npending;
        const char *trouble = st.fatal[0] ? st.fatal : st.trouble;
        if (i == 0 || trouble[0])
            snprintf(w->counts->trouble, sizeof w->counts->trouble, "%.199s", trouble);
    }
    atomic_store(&w->counts->retries, retries);
    atomic_store(&w->counts->reconnects, reconnects);
    atomic_store(&w->counts->leases, leases);
    atomic_store(&w->counts->ready, ready);
    atomic_store(&w->counts->waiting, waiting);
}

/* Until some client has work, or `until_us`. */
static void sleep_until(struct worker *w, uint64_t until_us)
{
    struct pollfd fds[CLIENTS_MAX];
    for (uint32_t i = 0; i < w->nclients; i++) {
        struct lethe_client *c = w->askers[i]->lethe;
        if (!lethe_arm(c))
            return;
        uint64_t next_us = lethe_next_us(c);
        until_us = next_us < until_us ? next_us : until_us;
        fds[i] = (struct pollfd){.fd = lethe_fd(c), .events = POLLIN};
    }
    uint64_t now_us = record_now_us();
    uint64_t left_us = until_us > now_us ? until_us - now_us : 0;
    left_us = left_us < SLEEP_MAX_US ? left_us : SLEEP_MAX_US;
    const struct timespec t = {.tv_nsec = (long)left_us * 1000};
    ppoll(fds, w->nclients, &t, NULL);
}

/* Asks what is due since last time; what could not be asked is not caught up with. */
static void ask_due(struct worker *w, uint64_t now_us)
{
    uint32_t rate = w->config->rate_ops;
    uint64_t each_us = rate ? 1000000 / rate : 0;
    if (w->paced_us + BURST_US < now_us)
        w->paced_us = now_us - BURST_US;
    for (uint32_t n = 0; n < PENDING_MAX && (!rate || w->paced_us < now_us); n++) {
        ask_random(w->askers[rng_below(&w->rng, w->nclients)]);
        w->paced_us += each_us;
    }
}

static uint32_t turn(struct worker *w)
{
    uint32_t waiting = 0;
    for (uint32_t i = 0; i < w->nclients; i++) {
        lethe_flush(w->askers[i]->lethe);
        lethe_poll(w->askers[i]->lethe, record_now_us());
        waiting += w->askers[i]->npending;
    }
    return waiting;
}

static void run(struct worker *w)
{
    uint64_t published_us = 0;
    for (;;) {
        uint32_t phase = atomic_load(&w->record->phase);
        uint64_t now_us = record_now_us();
        if (phase == PHASE_ASK)
            ask_due(w, now_us);
        uint32_t waiting = turn(w);
        if (now_us > published_us + 10000) {
            publish(w);
            published_us = now_us;
        }
        if (phase == PHASE_END || (phase == PHASE_FINISH && !waiting))
            break;
        uint64_t until_us = phase == PHASE_ASK && w->config->rate_ops ? w->paced_us
                                                                      : now_us + SLEEP_MAX_US;
        sleep_until(w, until_us);
    }
    publish(w);
}

/* Indexes from slot to slot: a client asks one slot only so much at once. */
static uint16_t nth_key(uint32_t n)
{
    if (key_table((uint16_t)n) != T_PORTS)
        return (uint16_t)n;
    uint32_t i = key_port((uint16_t)n);
    return key_of_port(i % LETHE_SLOTS * POOL_BLOCK + i / LETHE_SLOTS);
}

static int read_all(struct worker *w, uint32_t timeout_s)
{
    uint64_t until_us = record_now_us() + timeout_s * 1000000ull;
    uint32_t key = 0, waiting = 1;
    while ((key < keys_count() || waiting) && record_now_us() < until_us) {
        while (key < keys_count()) {
            if (!ask_key(w->askers[0], nth_key(key)))
                break;
            key++;
        }
        waiting = turn(w);
        sleep_until(w, until_us);
    }
    publish(w);
    return key < keys_count() || waiting;
}

static pid_t fork_into(const char *namespace_path)
{
    pid_t parent = getpid(), pid = fork();
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    signal(SIGINT, SIG_IGN);
    enter(namespace_path);
    return 0;
}

pid_t worker_start(struct record *r, const struct worker_config *config, int place, uint32_t life,
                   const char *namespace_path)
{
    struct worker w = {.record = r, .counts = &r->workers[place], .config = config,
                       .nclients = config->clients < CLIENTS_MAX ? config->clients
                                                                 : (uint32_t)CLIENTS_MAX,
                       .rng = {config->seed * 1000003 + (uint64_t)place * 1009 + life}};
    pid_t pid = fork_into(namespace_path);
    if (pid)
        return pid;
    for (uint32_t i = 0; i < w.nclients; i++)
        w.askers[i] = asker_create(&w, (uint32_t)place * CLIENTS_MAX + i);
    run(&w);
    _exit(0);
}

pid_t worker_read_all(struct record *r, const struct worker_config *config,
                      const char *namespace_path, uint32_t timeout_s)
{
    struct worker w = {.record = r, .counts = &r->workers[READER], .config = config, .nclients = 1};
    pid_t pid = fork_into(namespace_path);
    if (pid)
        return pid;
    w.askers[0] = asker_create(&w, (uint32_t)READER * CLIENTS_MAX);
    w.askers[0]->window = PENDING_MAX;
    _exit(read_all(&w, timeout_s));
}

pid_t worker_fill(struct record *r, const struct worker_config *config, const char *namespace_path,
                  uint32_t each, bool insert)
{
    struct worker w = {.record = r, .counts = &r->workers[READER], .config = config, .nclients = 1};
    pid_t pid = fork_into(namespace_path);
    if (pid)
        return pid;
    struct lethe_client *c = asker_create(&w, (uint32_t)READER * CLIENTS_MAX)->lethe;
    uint32_t missing = insert ? fill_slots(c, each, FILL_TIMEOUT_S) : fill_missing(c, each, FILL_TIMEOUT_S);
    if (missing)
        fprintf(stderr, "store_history: ballast: %u entries are missing\n", missing);
    _exit(missing != 0);
}
