/* SPDX-License-Identifier: BSD-3-Clause */
/* The site's file, its programs, its folder, its secrets. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "orchestrator/controller/programs.h"
#include "orchestrator/doctor/look.h"
#include "orchestrator/doctor/spawn.h"

enum { PROGRAM_MS = 8000, TOKEN_LEAST = 16, TOKEN_MOST = 512 };

void look_not_used(struct doctor *d, const char *why)
{
    struct verdict v;
    verdict_is(&v, d->site ? DOCTOR_OK : DOCTOR_UNKNOWN, "%s", d->site ? why : "what the site needs is not known without its file");
    doctor_add(d, &v, "%s", "");
}

/* --- the file ------------------------------------------------------------------------------- */

/* What only lethe-nf knows: `nfs:` and the chain. */
static void look_nfs(struct doctor *d)
{
    char program[600];
    struct spawned s;
    struct verdict v;
    program_path(d->programs, ORCH_WORKER, "", program, sizeof program);
    if (access(program, X_OK))
        return; /* another check's */
    const char *argv[] = {program, "-c", d->file, "--check", NULL};
    spawn_ask(argv, PROGRAM_MS, 1, &s);
    char *line = s.out ? s.out : "";
    while (strchr(line, '\n') && strchr(line, '\n')[1])
        line = strchr(line, '\n') + 1; /* the last one says it */
    line[strcspn(line, "\n")] = '\0';
    if (s.status == 0) {
        verdict_is(&v, DOCTOR_OK, "%s", line);
    } else if (s.status < 0) {
        verdict_is(&v, DOCTOR_UNKNOWN, "%s --check did not end in time", program);
    } else {
        verdict_is(&v, DOCTOR_WRONG, "%.400s", line);
        verdict_mend(&v, "correct it, then: lethe-nf -c %s --check", d->file);
    }
    free(s.out);
    doctor_add(d, &v, "network functions");
}

void look_site(struct doctor *d)
{
    struct verdict v;
    if (!d->file) {
        verdict_is(&v, DOCTOR_UNKNOWN, "no site's file was named, and there is no site.yaml here");
        verdict_mend(&v, "lethe doctor -c FILE");
    } else if (!d->site) {
        verdict_is(&v, DOCTOR_WRONG, "%.400s", d->site_error);
        verdict_mend(&v, "correct that line of %s; the sample site.yaml explains each key", d->file);
    } else {
        verdict_is(&v, DOCTOR_OK, "%s: %u shards, %u nodes, %u groups", d->file, d->site->store.shards,
                   d->site->store.nodes_count, d->site->groups_count);
    }
    doctor_add(d, &v, "%s", "");
    if (d->site)
        look_nfs(d);
}

/* --- programs ---------------------------------------------------------------------------------- */

static void look_version(struct doctor *d, const char *path, const char *name, bool other)
{
    struct spawned s;
    struct verdict v;
    const char *argv[] = {path, "--version", NULL};
    char *real = realpath(path, NULL);
    spawn_ask(argv, PROGRAM_MS, 0, &s);
    if (s.out)
        s.out[strcspn(s.out, "\n")] = '\0';
    judge_version(real ? real : path, s.status == 0 && s.out ? s.out : "", name, LETHE_VERSION, other, &v);
    free(real);
    free(s.out);
    doctor_add(d, &v, "%s", name);
}

void look_programs(struct doctor *d)
{
    static const struct { enum orch_kind kind; const char *name; } kinds[] = {
        {ORCH_STORE, "lethe-store"}, {ORCH_STEERING, "lethe-steer"}, {ORCH_WORKER, "lethe-nf"}};
    const char *running = json_string_value(json_object_get(json_object_get(d->status, "controller"), "version"));
    char path[600];
    struct verdict v;
    for (uint32_t i = 0; i < 3; i++) {
        program_path(d->programs, kinds[i].kind, "", path, sizeof path);
        look_version(d, path, kinds[i].name, false);
    }
    snprintf(path, sizeof path, "%s/lethe-controller", d->programs);
    look_version(d, path, "lethe-controller", false);
    for (unsigned i = 0; d->site && i < d->site->groups_count; i++)
        if (d->site->groups[i].program) {
            program_path(d->programs, ORCH_WORKER, d->site->groups[i].program, path, sizeof path);
            look_version(d, path, "lethe-nf", true);
        }
    if (running && strcmp(running, LETHE_VERSION)) {
        verdict_is(&v, DOCTOR_WARNING, "the controller that runs is %s, lethe is " LETHE_VERSION, running);
        verdict_mend(&v, "kill -TERM %d; lethe up FILE: the site's programs go on meanwhile", (int)json_integer_value(
                     json_object_get(json_object_get(d->status, "controller"), "pid")));
        doctor_add(d, &v, "running");
    }
}

/* --- run_dir -------------------------------------------------------------------------------------- */

static void look_folder(struct doctor *d, const char *path)
{
    struct folder_facts f = {.path = path};
    struct stat st;
    struct verdict v;
    char parent[300];
    snprintf(parent, sizeof parent, "%s", path);
    if (stat(path, &st)) {
        f.error = errno;
        f.parent_writable = access(dirname(parent), W_OK) == 0;
    } else {
        f.folder = S_ISDIR(st.st_mode);
        f.mode = st.st_mode & 07777;
        f.writable = access(path, W_OK) == 0;
    }
    judge_folder(&f, &v);
    doctor_add(d, &v, "%s", "");
}

static void look_space(struct doctor *d, const char *path)
{
    struct statvfs s;
    struct verdict v;
    if (statvfs(path, &s))
        return; /* it is not there: said above */
    struct space_facts f = {.path = path, .free_bytes = (uint64_t)s.f_bavail * s.f_frsize,
                            .total_bytes = (uint64_t)s.f_blocks * s.f_frsize, .free_files = s.f_favail,
                            .total_files = s.f_files};
    judge_space(&f, &v);
    doctor_add(d, &v, "space");
}

void look_run_dir(struct doctor *d)
{
    if (!d->site) {
        look_not_used(d, "");
        return;
    }
    look_folder(d, d->site->run_dir);
    look_space(d, d->site->run_dir);
}

/* --- secrets ----------------------------------------------------------------------------------------- */

/* Length and alphabet only: what it holds is not kept, nor told. */
static void look_into(int fd, struct secret_facts *f)
{
    char text[1200];
    struct stat st;
    if (fstat(fd, &st)) {
        f->error = errno;
        return;
    }
    f->regular = S_ISREG(st.st_mode);
    f->mode = st.st_mode & 07777;
    f->owner = st.st_uid;
    ssize_t n = f->regular ? read(fd, text, sizeof text) : 0;
    if (n < 0)
        f->error = errno;
    const char *end = f->kind == SECRET_TOKEN && n > 0 ? memchr(text, '\n', (size_t)n) : NULL;
    if (end) /* a token is a file's first line */
        n = end - text;
    while (n > 0 && isspace((unsigned char)text[n - 1]))
        n--;
    f->length = n > 0 ? (uint32_t)n : 0;
    f->hex = true;
    for (ssize_t i = 0; i < n; i++)
        f->hex &= isxdigit((unsigned char)text[i]) != 0;
    sodium_memzero(text, sizeof text);
}

static void look_secret(struct doctor *d, const char *key, const char *path, enum secret_kind kind, uint32_t min,
                        uint32_t max)
{
    struct secret_facts f = {.path = path, .kind = kind, .min = min, .max = max};
    struct verdict v;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        f.error = errno;
    else {
        look_into(fd, &f);
        close(fd);
    }
    judge_secret(&f, &v);
    doctor_add(d, &v, "%s", key);
}

void look_secrets(struct doctor *d)
{
    const struct site *s = d->site;
    uint32_t before = d->n;
    if (!s) {
        look_not_used(d, "");
        return;
    }
    if (site_fronts(s) && !look_is_store_only(d))
        look_secret(d, "steering.probe_key_file", s->steering.probe_key_file, SECRET_HEX, 32, 32);
    for (unsigned i = 0; i < s->store.tenants_count; i++)
        look_secret(d, "store.tenants", s->store.tenants[i].secret_file, SECRET_HEX, 64, 128);
    if (s->worker.secret_file)
        look_secret(d, "worker.secret_file", s->worker.secret_file, SECRET_HEX, 64, 128);
    if (s->store.replica_secret_file)
        look_secret(d, "store.replica_secret_file", s->store.replica_secret_file, SECRET_HEX, 64, 128);
    if (s->controller.token_file)
        look_secret(d, "controller.token_file", s->controller.token_file, SECRET_TOKEN, TOKEN_LEAST, TOKEN_MOST);
    if (!s->store.tenants_count && s->store.nodes_count) {
        struct verdict v;
        verdict_is(&v, DOCTOR_ADVICE, "no tenants: whoever reaches the store's ports may read and change all state");
        verdict_mend(&v, "store.tenants and store.replica_secret_file, as the sample site.yaml says; or a network of their own");
        doctor_add(d, &v, "store.tenants");
    }
    if (d->n == before)
        look_not_used(d, "none are used");
}
