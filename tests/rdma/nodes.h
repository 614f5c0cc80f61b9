/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stores of a site as real processes, each listening by verbs on a port of 10.8.0.1 and by
 * tcp on one of 127.0.0.1, for tests in the machine of vm.sh. Nodes count from 0. They are
 * killed with the test.
 */
#ifndef TESTS_RDMA_NODES_H
#define TESTS_RDMA_NODES_H

#include <jansson.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "common/metrics/control.h"
#include "statestore/server/harness.h"

enum { NODES_MAX = 3, NODE_VERBS_PORT = 7500, NODE_TCP_PORT = 7400, NODE_PORTS = 10 };

struct nodes {
    const char *program;      /* lethe-store */
    char dir[40], site[60];
    pid_t pid[NODES_MAX];     /* 0: does not run */
    json_t *told[NODES_MAX];  /* by its control socket, at told_us */
    uint64_t told_us[NODES_MAX];
};

static inline pid_t spawn(const char *const *argv)
{
    extern char **environ;
    pid_t pid;
    int rc = posix_spawn(&pid, argv[0], NULL, NULL, (char **)(uintptr_t)argv, environ);
    CHECK(rc == 0, "%s: %s", argv[0], strerror(rc));
    return pid;
}

static inline const char *node_name(int node)
{
    static const char *const names[NODES_MAX] = {"store-a", "store-b", "store-c"};
    return names[node];
}

/* Writes the site's file. */
static inline void nodes_begin(struct nodes *n, const char *program, int count, int shards,
                               const char *etcd)
{
    *n = (struct nodes){.program = program, .dir = "/tmp/lethe-verbs-XXXXXX"};
    assert_non_null(mkdtemp(n->dir));
    snprintf(n->site, sizeof n->site, "%s/site.yaml", n->dir);
    FILE *f = fopen(n->site, "w");
    assert_non_null(f);
    fprintf(f, "failure_timeout_ms: 3000\nrun_dir: %s\nstore:\n  shards: %d\n", n->dir, shards);
    if (etcd)
        fprintf(f, "  copies: 2\n  etcd: [\"%s\"]\n", etcd);
    fprintf(f, "  nodes:\n");
    for (int i = 0; i < count; i++)
        fprintf(f, "    - {name: %s, listen: \"127.0.0.1:%d\", verbs: \"10.8.0.1:%d\"}\n",
                node_name(i), NODE_TCP_PORT + NODE_PORTS * i, NODE_VERBS_PORT + NODE_PORTS * i);
    fclose(f);
}

static inline void node_start(struct nodes *n, int node, const char *option)
{
    n->pid[node] = spawn((const char *[]){n->program, "-c", n->site, "--node", node_name(node),
                                          option, NULL});
}

static inline void node_kill(struct nodes *n, int node)
{
    kill(n->pid[node], SIGKILL);
    waitpid(n->pid[node], NULL, 0);
    n->pid[node] = 0;
    n->told_us[node] = 0;
}

static inline void nodes_end(struct nodes *n)
{
    for (int i = 0; i < NODES_MAX; i++) {
        if (n->pid[i])
            node_kill(n, i);
        json_decref(n->told[i]);
    }
}

/* What its control socket answers; NULL: nothing. */
static inline json_t *node_ask(const struct nodes *n, int node, const char *what)
{
    static char reply[65536];
    char path[80];
    snprintf(path, sizeof path, "%s/%s.sock", n->dir, node_name(node));
    if (!n->pid[node] || control_ask(path, what, reply, sizeof reply, 5000))
        return NULL;
    return json_loads(reply, 0, NULL);
}

/* Of a shard, as `stats` tells it, or told less than TOLD_US ago: asking costs a node more than
 * its work does. Gone with the next call. */
static inline const json_t *node_told(struct nodes *n, int node, int shard, const char *key)
{
    enum { TOLD_US = 20000 };
    if (now_us() > n->told_us[node] + TOLD_US) {
        json_decref(n->told[node]);
        n->told[node] = node_ask(n, node, "stats");
        n->told_us[node] = now_us();
    }
    json_t *shards = json_object_get(n->told[node], "shards");
    return json_object_get(json_array_get(shards, (size_t)shard), key);
}

static inline int64_t node_number(struct nodes *n, int node, int shard, const char *key)
{
    const json_t *v = node_told(n, node, shard, key);
    return v ? json_integer_value(v) : -1;
}

static inline bool node_says(struct nodes *n, int node, int shard, const char *key,
                             const char *text)
{
    const char *said = json_string_value(node_told(n, node, shard, key));
    return said && !strcmp(said, text);
}

/* Its link to the shard's primary is by verbs. A node that met its primary between the start of
 * one listener and that of the other goes on by tcp; then it is started again. */
static inline bool node_is_linked(struct nodes *n, int node, int shard)
{
    if (node_says(n, node, shard, "primary_by", "tcp")) {
        node_kill(n, node);
        node_start(n, node, NULL);
    }
    return node_says(n, node, shard, "primary_by", "verbs");
}

#endif
