/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What runs programs for the controller: a table of functions. `process` (process.h) runs them
 * on this host; another one may have them run elsewhere. The controller decides what runs, the
 * driver does it and tells what became of it.
 *
 * One thread: the controller's loop. Nothing here blocks for longer than an exec. Ends are told
 * from that loop, or from within `look`.
 *
 * What is started outlives the controller: the next one finds it by `list`, and hears of its end
 * as of any other's.
 */
#ifndef LETHE_ORCHESTRATOR_DRIVER_DRIVER_H
#define LETHE_ORCHESTRATOR_DRIVER_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "orchestrator/core/reconcile.h"

struct driver;

/* One program to start. Lent for the call. */
struct driver_spec {
    const char *name;         /* of the instance: its pid file, its log */
    enum orch_kind kind;
    const char *const *argv;  /* argv[0] is the program's path */
    uint64_t config;          /* kept, and told by `list` */
    uint32_t memory_mb;       /* limit of its data; 0: none */
    int32_t nice;
};

struct driver_process {
    char name[ORCH_NAME];
    enum orch_kind kind;
    int pid;
    uint64_t start;           /* with the pid, its name for ever: the kernel's start time */
    uint64_t config;
    uint64_t age_ms;          /* since its start */
};

/* A death that is proven: the kernel said so by its pidfd. How it ended is known of children of
 * this controller only. */
struct driver_end {
    struct driver_process process;
    bool status_known;
    int exit_status, signal;  /* signal 0: it ended by itself */
};
typedef void (*driver_on_end)(void *ctx, const struct driver_end *end);

struct driver_ops {
    const char *name;
    /* 0 and what was started, or -errno and a sentence: -EEXIST one of that name lives. */
    int (*start)(struct driver *d, const struct driver_spec *spec, struct driver_process *out,
                 char *err, uint32_t err_len);
    /* Sends a signal by pidfd, so that it can meet nobody else. 0; -ESRCH: it does not live. */
    int (*signal)(struct driver *d, const char *name, int number);
    /* Those that live; how many. */
    uint32_t (*list)(struct driver *d, struct driver_process *to, uint32_t room);
    /* Tells at once those ends that have happened by now. */
    void (*look)(struct driver *d);
    /* Where its own words go: a file's path. */
    void (*log)(const struct driver *d, const char *name, char *to, uint32_t room);
    /* Lets go of all; nothing is stopped. */
    void (*destroy)(struct driver *d);
};

struct driver { const struct driver_ops *ops; };

#endif
