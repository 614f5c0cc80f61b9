/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What keeps a site from running well, looked for on this host: `lethe doctor`.
 *
 * A check is a row of one table (doctor.c): a name, why it matters, and a function that looks. Looking
 * (look_*.c: files below `root`, ioctls, requests) and judging (judge.h, pure: facts -> verdict) are apart.
 * A function adds a finding for each thing it looked at; what could not be looked at is DOCTOR_UNKNOWN and
 * says what would be needed, never ok. Nothing is changed, nothing is written.
 *
 *     site.yaml ─┐
 *     /proc /sys ┼─▶ look_*.c ─ facts ─▶ judge_*.c ─ verdict ─▶ findings: what, why, how to mend it
 *     sockets   ─┘
 *
 * Thread: one, blocking; every question to somebody else has a time-out. Order: doctor_run once, then read
 * `findings`, then doctor_free.
 */
#ifndef LETHE_ORCHESTRATOR_DOCTOR_H
#define LETHE_ORCHESTRATOR_DOCTOR_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct site;

enum doctor_verdict {
    DOCTOR_OK,
    DOCTOR_ADVICE,            /* it works; this would be better */
    DOCTOR_UNKNOWN,           /* could not be looked at */
    DOCTOR_WARNING,           /* works now, or a little worse */
    DOCTOR_WRONG,             /* does not work, or will not */
};
const char *doctor_verdict_text(enum doctor_verdict v);

enum { DOCTOR_TEXT = 480, DOCTOR_FINDINGS_MAX = 256 };

struct verdict {
    enum doctor_verdict is;
    char found[DOCTOR_TEXT];
    const char *why;          /* literal; NULL: the row's */
    char mend[DOCTOR_TEXT];   /* a command, or what to do; "": nothing */
};

struct doctor_finding {
    const char *check, *why;
    char about[80];           /* "inside", "store-a shard 0"; "": the host */
    struct verdict v;
};

struct doctor {
    /* Set by the caller, lent until doctor_free. */
    const char *root;         /* before every path below /proc, /sys, /dev; "" but for tests */
    const char *file;         /* the site's; NULL: none was named, and there is no site.yaml */
    const struct site *site;  /* NULL: none, or it cannot be read */
    const char *site_error;   /* then why: "file:line: key: what" */
    const char *programs;     /* folder of lethe-nf and the others */
    const char *controller;   /* where it was asked */
    const char *controller_error; /* why there is no status */
    bool controller_hidden;   /* it may be there: this user must not look */
    const json_t *status;     /* of GET /v1/status; NULL: nobody answered */
    bool pods;                /* a cluster runs the programs: rows of hosts are passed over */
    void (*progress)(void *ctx, const char *check); /* NULL: not told */
    void *ctx;

    /* Of the checks. */
    const struct doctor_check *check;
    struct doctor_finding *findings;
    uint32_t n, lost;         /* lost: found beyond DOCTOR_FINDINGS_MAX */
};

struct doctor_check {
    const char *name, *why;
    void (*look)(struct doctor *d);
    bool host;                /* of the host that the site's programs run on */
};
extern const struct doctor_check doctor_checks[]; /* ends with a NULL name */

/* All checks; `only` NULL, or the name of the one to run. 0, -ENOMEM, -ENOENT (no such check). */
int doctor_run(struct doctor *d, const char *only);
void doctor_free(struct doctor *d);
uint32_t doctor_count(const struct doctor *d, enum doctor_verdict v);
/* {"ok", "wrong", "warnings", "unknown", "checks": [{"check", "about", "verdict", "found", "why", "mend"}]} */
json_t *doctor_json(const struct doctor *d);

/* --- for the checks ----------------------------------------------------------------------- */

void doctor_add(struct doctor *d, const struct verdict *v, const char *about, ...)
    __attribute__((format(printf, 3, 4)));
void verdict_is(struct verdict *v, enum doctor_verdict is, const char *found, ...)
    __attribute__((format(printf, 3, 4)));
void verdict_mend(struct verdict *v, const char *mend, ...) __attribute__((format(printf, 2, 3)));

/* A file below root; its bytes, NUL behind them, or -errno. */
int doctor_read(const struct doctor *d, char *to, uint32_t room, const char *path, ...)
    __attribute__((format(printf, 4, 5)));
/* The first number in it; `none`: no file, or no number. "max" is UINT64_MAX. */
uint64_t doctor_number(const struct doctor *d, uint64_t none, const char *path, ...)
    __attribute__((format(printf, 3, 4)));
/* Calls for each entry of a folder below root, until it answers false. -errno: cannot be read. */
int doctor_list(const struct doctor *d, const char *path, bool (*entry)(void *ctx, const char *name), void *ctx);
/* The number after `key` in a text of lines "key 12 ..." or "key: 12 kB"; `none`: it is not there. */
uint64_t doctor_field(const char *text, const char *key, uint64_t none);

/* The rows, in look_*.c. */
void look_site(struct doctor *d);
void look_programs(struct doctor *d);
void look_run_dir(struct doctor *d);
void look_secrets(struct doctor *d);
void look_memory(struct doctor *d);
void look_hugepages(struct doctor *d);
void look_memlock(struct doctor *d);
void look_descriptors(struct doctor *d);
void look_cgroup(struct doctor *d);
void look_cpu(struct doctor *d);
void look_clock(struct doctor *d);
void look_pauses(struct doctor *d);
void look_edges(struct doctor *d);
void look_tunnel(struct doctor *d);
void look_forwarding(struct doctor *d);
void look_rdma(struct doctor *d);
void look_ports(struct doctor *d);
void look_etcd(struct doctor *d);
void look_controller(struct doctor *d);
void look_instances(struct doctor *d);

#endif
