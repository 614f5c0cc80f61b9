/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of checks, their findings, and files below a root. See doctor.h. */
#include "orchestrator/doctor/doctor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct doctor_check doctor_checks[] = {
    {"site", "every program reads this file, and ends if it is wrong", look_site, false},
    {"programs", "a site is started from these; neighbouring versions understand each other, others do not", look_programs, true},
    {"run_dir", "control sockets, rings, pid files and logs are there", look_run_dir, true},
    {"secrets", "who can read a secret can act as its owner; who has another one is refused", look_secrets, true},
    {"memory", "a store keeps all state of all flows in memory; what the kernel kills or swaps out is gone or late", look_memory, true},
    {"hugepages", "DPDK uses them if they are there; AF_XDP ports stall without", look_hugepages, true},
    {"memlock", "RDMA pins the memory of each connection", look_memlock, true},
    {"descriptors", "each connection is a descriptor", look_descriptors, true},
    {"cgroup", "its limits hold for all programs of the site together", look_cgroup, true},
    {"cpu", "a processor that sleeps deeply or runs slowly shows as latency", look_cpu, true},
    {"clock", "leases and time-outs are measured by it; logs of several hosts are compared by the time of day", look_clock, true},
    {"pauses", "who is not scheduled for failure_timeout_ms counts as dead", look_pauses, true},
    {"edges", "packets enter and leave here", look_edges, true},
    {"tunnel", "workers on other networks get their packets by it", look_tunnel, true},
    {"forwarding", "steering sees a copy of each packet; the kernel must drop its own", look_forwarding, true},
    {"rdma", "the store's verbs channels need an active device", look_rdma, true},
    {"ports", "the store's nodes listen here", look_ports, true},
    {"etcd", "the replicas agree there on who replicates what; without it nobody takes over from the dead", look_etcd, false},
    {"controller", "it starts what died, and scales", look_controller, false},
    {"instances", "each program of the site answers on its control socket", look_instances, false},
    {NULL, NULL, NULL, false}};

const char *doctor_verdict_text(enum doctor_verdict v)
{
    static const char *const texts[] = {"ok", "advice", "unknown", "warning", "wrong"};
    return texts[v];
}

/* Where programs are pods this host is none of theirs, and what it lacks is no fault. */
static void pass_over(struct doctor *d)
{
    static const struct doctor_check hosts = {"nodes", "programs run there, not here", NULL, true};
    struct verdict v;
    d->check = &hosts;
    verdict_is(&v, DOCTOR_UNKNOWN, "programs are pods: their nodes, volumes and secrets are not looked at from here");
    verdict_mend(&v, "kubectl -n lethe describe pods; docs/kubernetes.md, When something is wrong");
    doctor_add(d, &v, "%s", "");
}

int doctor_run(struct doctor *d, const char *only)
{
    bool any = false, passed_over = false;
    doctor_free(d); /* of a run before */
    d->findings = calloc(DOCTOR_FINDINGS_MAX, sizeof *d->findings);
    if (!d->findings)
        return -ENOMEM;
    for (const struct doctor_check *c = doctor_checks; c->name; c++) {
        if (only && strcmp(only, c->name))
            continue;
        any = true;
        if (c->host && d->pods) {
            if (!passed_over)
                pass_over(d);
            passed_over = true;
            continue;
        }
        d->check = c;
        if (d->progress)
            d->progress(d->ctx, c->name);
        c->look(d);
    }
    return any ? 0 : -ENOENT;
}

void doctor_free(struct doctor *d)
{
    free(d->findings);
    d->findings = NULL;
    d->n = d->lost = 0;
}

uint32_t doctor_count(const struct doctor *d, enum doctor_verdict v)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < d->n; i++)
        count += d->findings[i].v.is == v;
    return count;
}

json_t *doctor_json(const struct doctor *d)
{
    json_t *all = json_array();
    for (uint32_t i = 0; i < d->n; i++) {
        const struct doctor_finding *f = &d->findings[i];
        json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "check", f->check, "about", f->about,
                                             "verdict", doctor_verdict_text(f->v.is), "found", f->v.found, "why",
                                             f->why, "mend", f->v.mend));
    }
    return json_pack("{s:b, s:i, s:i, s:i, s:o}", "ok", doctor_count(d, DOCTOR_WRONG) == 0, "wrong",
                     (int)doctor_count(d, DOCTOR_WRONG), "warnings", (int)doctor_count(d, DOCTOR_WARNING), "unknown",
                     (int)doctor_count(d, DOCTOR_UNKNOWN), "checks", all);
}

/* --- findings -------------------------------------------------------------------------------- */

/* What came from outside (a header, a file's name) may be no UTF-8, and must not steer a terminal. */
static void clean(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || (unsigned char)*text >= 0x7f)
            *text = '?';
}

void doctor_add(struct doctor *d, const struct verdict *v, const char *about, ...)
{
    if (d->n == DOCTOR_FINDINGS_MAX) {
        d->lost++;
        return;
    }
    struct doctor_finding *f = &d->findings[d->n++];
    va_list args;
    f->check = d->check->name;
    f->v = *v;
    f->why = v->why ? v->why : d->check->why;
    va_start(args, about);
    vsnprintf(f->about, sizeof f->about, about, args);
    va_end(args);
    clean(f->about);
    clean(f->v.found);
    clean(f->v.mend);
}

void verdict_is(struct verdict *v, enum doctor_verdict is, const char *found, ...)
{
    va_list args;
    v->is = is;
    v->why = NULL;
    v->mend[0] = '\0';
    va_start(args, found);
    vsnprintf(v->found, sizeof v->found, found, args);
    va_end(args);
}

void verdict_mend(struct verdict *v, const char *mend, ...)
{
    va_list args;
    va_start(args, mend);
    vsnprintf(v->mend, sizeof v->mend, mend, args);
    va_end(args);
}

/* --- files -------------------------------------------------------------------------------------- */

static int read_below(const struct doctor *d, const char *path, char *to, uint32_t room)
{
    char whole[1200];
    to[0] = '\0';
    snprintf(whole, sizeof whole, "%s%s", d->root, path);
    int fd = open(whole, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    uint32_t used = 0;
    ssize_t n = 0;
    while (used + 1 < room && (n = read(fd, to + used, room - 1 - used)) > 0)
        used += (uint32_t)n;
    int error = errno;
    close(fd);
    to[used] = '\0';
    return n < 0 ? -error : (int)used;
}

int doctor_read(const struct doctor *d, char *to, uint32_t room, const char *path, ...)
{
    char full[1000];
    va_list args;
    va_start(args, path);
    vsnprintf(full, sizeof full, path, args);
    va_end(args);
    return read_below(d, full, to, room);
}

uint64_t doctor_number(const struct doctor *d, uint64_t none, const char *path, ...)
{
    char full[1000], text[64], *end;
    va_list args;
    va_start(args, path);
    vsnprintf(full, sizeof full, path, args);
    va_end(args);
    if (read_below(d, full, text, sizeof text) <= 0)
        return none;
    if (!strncmp(text, "max", 3))
        return UINT64_MAX;
    uint64_t n = strtoull(text, &end, 10);
    return end == text ? none : n;
}

int doctor_list(const struct doctor *d, const char *path, bool (*entry)(void *ctx, const char *name), void *ctx)
{
    char whole[1200];
    snprintf(whole, sizeof whole, "%s%s", d->root, path);
    DIR *folder = opendir(whole);
    if (!folder)
        return -errno;
    for (struct dirent *e; (e = readdir(folder));)
        if (e->d_name[0] != '.' && !entry(ctx, e->d_name))
            break;
    closedir(folder);
    return 0;
}

uint64_t doctor_field(const char *text, const char *key, uint64_t none)
{
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, key, n) && strchr(": \t=", line[n]) && line[n]) {
            const char *at = line + n + strspn(line + n, ": \t=");
            char *end;
            if (!strncmp(at, "unlimited", 9) || !strncmp(at, "max", 3))
                return UINT64_MAX;
            uint64_t value = strtoull(at, &end, 10);
            return end == at ? none : value;
        }
    }
    return none;
}
