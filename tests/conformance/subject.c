/* SPDX-License-Identifier: BSD-3-Clause */
/* The subjects: the store by each transport, Redis alone and as a cluster. */
#include "tests/conformance/subject.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/lethe.h"
#include "client/redis/lethe_redis.h"
#include "nf/runtime/backend_redis.h"
#include "statestore/server/embed.h"
#include "tests/ports.h"
#ifdef LETHE_VERBS
#include "common/wire/verbs/verbs.h"
#define RDMA (&transport_verbs)
#else
#define RDMA NULL
#endif

enum { PATIENCE_US = 30 * 1000 * 1000, REDIS_MAX = 6 };

uint64_t subject_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000;
}

static void breathe(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
}

bool subject_wait_ready(struct subject *s)
{
    uint64_t until = subject_now_us() + PATIENCE_US;
    while (!s->ready(s)) {
        if (subject_now_us() > until)
            return false;
        s->backend.poll(s->backend.ctx, subject_now_us());
        breathe();
    }
    return true;
}

static void keep(void *user, const struct txn_result_head *result)
{
    struct subject *s = user;
    memcpy(s->result, result, result->bytes);
    s->done = true;
}

const struct txn_result_head *subject_run(struct subject *s, struct txn_builder *b)
{
    uint64_t until = subject_now_us() + PATIENCE_US;
    uint32_t bytes = txn_end(b);
    s->done = false;
    while (s->backend.submit(s->backend.ctx, b->buf, bytes, keep, s) == -EAGAIN)
        s->backend.poll(s->backend.ctx, subject_now_us());
    s->backend.flush(s->backend.ctx);
    while (!s->done && subject_now_us() < until)
        if (!s->backend.poll(s->backend.ctx, subject_now_us()))
            breathe();
    return s->done ? (const struct txn_result_head *)s->result : NULL;
}

/* --- the store ------------------------------------------------------------------------- */

/* Two shards and a backup: inside this program, or by a transport of the column's name. */
struct ours {
    struct embed *embed;          /* inproc; else: */
    struct store *nodes[2];
    struct store_node names[2];
    char dir[40], shm[64], tcp[2][40], rdma[2][40];
    char address[200];
    struct lethe_client *client;
};

static bool connect_store(struct subject *s, struct ours *o, char *err, uint32_t err_len)
{
    static const char *const all[] = {"*", NULL};
    struct lethe_config c = {.shards = 2, .address = o->address, .verbs = RDMA,
                             .one_sided = strstr(s->name, "one-sided") ? all : NULL};
    if (o->embed) {
        c.dial = embed_dial;
        c.dial_ctx = o->embed;
    }
    o->client = lethe_client_create(&c, err, err_len);
    s->own = o;
    if (o->client)
        s->backend = backend_lethe(o->client);
    return o->client != NULL;
}

static bool all_have_two_copies(const struct ours *o)
{
    struct shard_snapshot snap;
    for (uint16_t i = 0; i < 2; i++) {
        store_snapshot(o->nodes[0], i, &snap);
        if (snap.status.copies < 2)
            return false;
    }
    return true;
}

static bool start_inproc(struct ours *o, char *err, uint32_t err_len)
{
    struct embed_config c = {.shards = 2, .threads = true, .backup = true};
    if (embed_start(&o->embed, &c, err, err_len))
        return false;
    uint64_t until = subject_now_us() + PATIENCE_US;
    while (embed_copies(o->embed) < 2 && subject_now_us() < until)
        breathe();
    return true;
}

/* Where the nodes listen and what the client dials. */
static bool name_nodes(struct subject *s, struct ours *o)
{
    bool verbs = !strncmp(s->name, "verbs", 5);
    uint16_t first = free_ports(4, 0), rdma = 7500;
    snprintf(o->dir, sizeof o->dir, "/tmp/lethe-conform-XXXXXX");
    if (!mkdtemp(o->dir))
        return false;
    snprintf(o->shm, sizeof o->shm, "%s/s", o->dir);
    for (int i = 0; i < 2; i++) {
        snprintf(o->tcp[i], sizeof o->tcp[i], "127.0.0.1:%u", first + 2 * i);
        snprintf(o->rdma[i], sizeof o->rdma[i], "10.8.0.1:%u", rdma + 2 * i);
        o->names[i] = (struct store_node){i ? "b" : "a", o->tcp[i], verbs ? o->rdma[i] : NULL};
    }
    if (verbs)
        snprintf(o->address, sizeof o->address, "verbs:%s", o->rdma[0]);
    else if (!strcmp(s->name, "shm"))
        snprintf(o->address, sizeof o->address, "shm:%s", o->shm);
    else
        snprintf(o->address, sizeof o->address, "%s", o->tcp[0]);
    return true;
}

static bool start_pair(struct subject *s, struct ours *o, char *err, uint32_t err_len)
{
    if (!name_nodes(s, o))
        return snprintf(err, err_len, "no temporary folder"), false;
    for (uint32_t i = 0; i < 2; i++) {
        struct store_config c = {.shards = 2, .node = i + 1, .nodes = o->names, .nnodes = 2,
                                 .threads = true, .listen = o->tcp[i],
                                 .listen_shm = i ? NULL : o->shm, .verbs = RDMA,
                                 .listen_verbs = o->names[i].verbs};
        if (store_start(&o->nodes[i], &c, err, err_len))
            return false;
    }
    uint64_t until = subject_now_us() + PATIENCE_US;
    while (!all_have_two_copies(o) && subject_now_us() < until)
        breathe();
    struct shard_snapshot snap;
    store_snapshot(o->nodes[1], 0, &snap);
    const char *want = o->names[1].verbs ? "verbs" : "tcp";
    if (!strcmp(snap.primary_by, want))
        return true;
    snprintf(err, err_len, "the backup's link is by \"%s\" and not by %s", snap.primary_by, want);
    return false;
}

static bool start_store(struct subject *s, char *err, uint32_t err_len)
{
    static struct ours ours;
    bool inproc = !strcmp(s->name, "inproc");
    s->own = NULL;
    if (inproc ? !start_inproc(&ours, err, err_len) : !start_pair(s, &ours, err, err_len))
        return false;
    return connect_store(s, &ours, err, err_len);
}

static void stop_store(struct subject *s)
{
    struct ours *o = s->own;
    char file[80];
    lethe_client_destroy(o->client);
    if (o->embed) {
        embed_stop(o->embed);
        return;
    }
    store_stop(o->nodes[1]);
    store_stop(o->nodes[0]);
    for (int i = 0; i < 2; i++) {
        snprintf(file, sizeof file, "%s.%d", o->shm, i);
        unlink(file);
    }
    rmdir(o->dir);
}

static bool store_ready(struct subject *s)
{
    return lethe_ready(((struct ours *)s->own)->client);
}

static void store_fatal(struct subject *s, char *text, uint32_t len)
{
    struct lethe_status st;
    lethe_status(((struct ours *)s->own)->client, &st);
    snprintf(text, len, "%s", st.fatal);
}

/* --- Redis ------------------------------------------------------------------------------- */

struct theirs {
    struct lethe_redis *client;
    char seeds[200];
    pid_t pids[REDIS_MAX];
    char dirs[REDIS_MAX][40];
    int n;
    char port[8];
};

static pid_t run_redis(const char *dir, uint16_t port, bool cluster)
{
    char number[8];
    snprintf(number, sizeof number, "%u", port);
    const char *argv[] = {"redis-server", "--port", number, "--bind", "127.0.0.1", "--save", "",
                          "--appendonly", "no", "--dir", dir, "--daemonize", "no", "--logfile", "log",
                          "--cluster-enabled", cluster ? "yes" : "no", "--cluster-node-timeout", "1000",
                          "--protected-mode", "no", NULL};
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp(argv[0], (char **)(uintptr_t)argv);
        _exit(127);
    }
    return pid;
}

/* "redis-cli --cluster create" when all answer. */
static bool make_cluster(const struct theirs *t, uint16_t first, char *err, uint32_t err_len)
{
    char command[600];
    int n = snprintf(command, sizeof command,
                     "for i in $(seq 150); do ok=1; for p in $(seq %u %u); do redis-cli -p $p ping "
                     ">/dev/null 2>&1 || ok=0; done; [ $ok = 1 ] && break; sleep 0.1; done; "
                     "redis-cli --cluster create", first, first + t->n - 1);
    for (int i = 0; i < t->n; i++)
        n += snprintf(command + n, sizeof command - (size_t)n, " 127.0.0.1:%u", first + i);
    snprintf(command + n, sizeof command - (size_t)n,
             " --cluster-replicas 1 --cluster-yes >/dev/null 2>&1");
    if (system(command) == 0)
        return true;
    snprintf(err, err_len, "redis-cli --cluster create failed; is Debian's redis-server installed?");
    return false;
}

static bool connect_redis(struct subject *s, struct theirs *t, char *err, uint32_t err_len)
{
    struct lethe_redis_config c = {.seeds = t->seeds, .sweeps_per_s = 1000};
    t->client = lethe_redis_create(&c, err, err_len);
    s->own = t;
    if (t->client)
        s->backend = backend_redis(t->client);
    return t->client != NULL;
}

static bool start_redis(struct subject *s, char *err, uint32_t err_len)
{
    static struct theirs t;
    bool cluster = !strcmp(s->name, "redis-cluster");
    t.n = cluster ? REDIS_MAX : 1;
    uint16_t first = free_ports(t.n, cluster ? 10000 : 0); /* a cluster's bus */
    for (int i = 0; i < t.n; i++) {
        snprintf(t.dirs[i], sizeof t.dirs[i], "/tmp/lethe-redis-XXXXXX");
        if (!mkdtemp(t.dirs[i])) {
            snprintf(err, err_len, "no temporary folder");
            return false;
        }
        t.pids[i] = run_redis(t.dirs[i], (uint16_t)(first + i), cluster);
    }
    snprintf(t.seeds, sizeof t.seeds, "127.0.0.1:%u", first);
    return (!cluster || make_cluster(&t, first, err, err_len)) && connect_redis(s, &t, err, err_len);
}

static void stop_redis(struct subject *s)
{
    struct theirs *t = s->own;
    char command[64];
    lethe_redis_destroy(t->client);
    for (int i = 0; i < t->n; i++) {
        kill(t->pids[i], SIGKILL);
        waitpid(t->pids[i], NULL, 0);
        snprintf(command, sizeof command, "rm -rf %s", t->dirs[i]);
        (void)!system(command);
    }
}

static bool redis_ready(struct subject *s)
{
    return lethe_redis_ready(((struct theirs *)s->own)->client);
}

static void redis_fatal(struct subject *s, char *text, uint32_t len)
{
    struct lethe_redis_status st;
    lethe_redis_status(((struct theirs *)s->own)->client, &st);
    snprintf(text, len, "%s", st.fatal);
}

/* --- all ------------------------------------------------------------------------------------ */

static struct subject subjects[] = {
    {"inproc", start_store, stop_store, store_ready, store_fatal, .is_store = true},
    {"tcp", start_store, stop_store, store_ready, store_fatal, .is_store = true},
    {"shm", start_store, stop_store, store_ready, store_fatal, .is_store = true},
    {"verbs", start_store, stop_store, store_ready, store_fatal, .is_store = true},
    {"verbs-one-sided", start_store, stop_store, store_ready, store_fatal, .is_store = true},
    {"redis", start_redis, stop_redis, redis_ready, redis_fatal, .is_store = false},
    {"redis-cluster", start_redis, stop_redis, redis_ready, redis_fatal, .is_store = false},
};

struct subject *subject_named(const char *name)
{
    for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++)
        if (!strcmp(subjects[i].name, name))
            return &subjects[i];
    return NULL;
}

bool subject_second(struct subject *first, struct subject *second, char *err, uint32_t err_len)
{
    *second = *first;
    if (!first->is_store) {
        struct theirs *t = calloc(1, sizeof *t), *of = first->own;
        memcpy(t->seeds, of->seeds, sizeof t->seeds);
        return connect_redis(second, t, err, err_len);
    }
    struct ours *o = calloc(1, sizeof *o);
    *o = *(struct ours *)first->own;
    return connect_store(second, o, err, err_len);
}

void subject_second_stop(struct subject *second)
{
    if (second->is_store)
        lethe_client_destroy(((struct ours *)second->own)->client);
    else
        lethe_redis_destroy(((struct theirs *)second->own)->client);
    free(second->own);
}
