/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What runs programs for the controller: a table of functions. `process` (process.h) runs them
 * on this host: the controller decides what runs, the driver does it and tells what became of it.
 *
 * Where there is a `platform` (kubernetes.h), that decides: it starts, counts and replaces programs, and the
 * controller asks it for a count, or for one of them to go. The count of a group is the platform's: whoever
 * wrote it last has his way, an order is "written" when the platform took it, and what others wrote is adopted, not
 * fought. There is no `start` and no `signal` then.
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

enum { DRIVER_NODE = 64, DRIVER_NOTE = 200, DRIVER_NODES = 64 };

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
    char address[64];         /* where it is asked: "": its control socket on this host, else "http://IP:PORT" */
    /* Of a platform's program alone. */
    bool waits;               /* it is to be and does not run, yet or again: `note` says why. start is 0 */
    bool leaving;             /* was told to end, by whomever */
    char group[ORCH_NAME];    /* of a worker */
    bool cut_off;             /* its node is not ready, or not there: nobody hears the kubelet */
    char node[DRIVER_NODE];   /* "": none was chosen yet */
    char note[DRIVER_NOTE];
};

/* An end. Proven: the kernel said so by its pidfd, or a kubelet; how it ended is known then of children
 * of this controller, or from the kubelet. Not proven: the platform knows the program no more, and nobody said that it
 * is dead. */
struct driver_end {
    struct driver_process process;
    bool proven, status_known;
    int exit_status, signal;  /* signal 0: it ended by itself */
    char how[DRIVER_NOTE];    /* whose word it is; "": the pidfd's */
};
typedef void (*driver_on_end)(void *ctx, const struct driver_end *end);

/* What a platform is known to be like. */
struct driver_platform_state {
    char where[160];
    uint64_t heard_ms;        /* programs and nodes are known as of then, by uv_now; 0: never */
    bool too_many;            /* programs: those beyond the bound are not known, so nothing is known to be gone */
    char why[DRIVER_NOTE];    /* it is not heard; "" */
};
/* How many programs a group is to have. */
struct driver_count {
    bool there;               /* false: the platform has no such group */
    uint32_t replicas;
    uint64_t asked_ms;        /* true of a moment since then; 0: never asked */
};
struct driver_host { char name[DRIVER_NODE]; bool ready, cordoned; };

/* The outcome of an order, later, once, from the loop: 200: taken; else a status of HTTP and the platform's own
 * words: 403 no right, 404, 409 it changed meanwhile, 422 cannot be, 429 a budget forbids it now,
 * 503 not reached, or no answer: whether it was taken is not known. */
typedef void (*driver_told)(void *ctx, int status, const char *words);

/* Orders return 0 and are told later, or -errno and are not: -ESRCH no such program, -ENOMEM. After destroy nothing is told. */
struct driver_platform {
    void (*state)(const struct driver *d, struct driver_platform_state *out);
    /* The site whose programs these are: names of groups, stores and front ends. Copied from. */
    void (*site)(struct driver *d, const struct site *s);
    void (*count)(const struct driver *d, const char *group, struct driver_count *out);
    /* Those that programs of ours are on. */
    uint32_t (*hosts)(const struct driver *d, struct driver_host *to, uint32_t room);
    /* `from` -1: whatever it is now; else it is written only if the count still is that. */
    int (*scale)(struct driver *d, const char *group, int64_t from, uint32_t to, driver_told told, void *ctx);
    /* Ends one program in good order, or at once. Budgets are obeyed in either case. */
    int (*evict)(struct driver *d, const char *name, bool at_once, driver_told told, void *ctx);
    /* All programs of a group anew, as the platform does that. */
    int (*roll_out)(struct driver *d, const char *group, driver_told told, void *ctx);
};

struct driver_ops {
    const char *name;
    const struct driver_platform *platform; /* NULL: the controller decides */
    /* 0 and what was started, or -errno and a sentence: -EEXIST one of that name lives. */
    int (*start)(struct driver *d, const struct driver_spec *spec, struct driver_process *out,
                 char *err, uint32_t err_len);
    /* Sends a signal by pidfd, so that it can meet nobody else. 0; -ESRCH: it does not live. */
    int (*signal)(struct driver *d, const char *name, int number);
    /* Those that live; how many. */
    uint32_t (*list)(struct driver *d, struct driver_process *to, uint32_t room);
    /* Tells at once those ends that have happened by now. */
    void (*look)(struct driver *d);
    /* Where its own words go: a file's path, or the command that shows them. */
    void (*log)(const struct driver *d, const char *name, char *to, uint32_t room);
    /* Lets go of all; nothing is stopped. */
    void (*destroy)(struct driver *d);
};

struct driver { const struct driver_ops *ops; };

#endif
