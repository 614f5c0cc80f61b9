/* SPDX-License-Identifier: BSD-3-Clause */
/* Others, asked: etcd, the controller, every program of the site. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/metrics/control.h"
#include "orchestrator/doctor/fetch.h"
#include "orchestrator/doctor/look.h"
#include "orchestrator/driver/process.h"

enum { REPLY_BYTES = 160 * 1024, READS = 3 };

/* --- etcd ------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

struct end { const char *base; struct etcd_tls tls; };

/* One answer as JSON; NULL and *f says why. */
static json_t *etcd_ask(const struct end *e, const char *path, const char *body, struct fetched *f)
{
    char url[400];
    snprintf(url, sizeof url, "%s%s", e->base, path);
    fetch_etcd(url, &e->tls, body, LOOK_ASK_MS, f);
    json_t *o = f->http == 200 && f->text ? json_loadb(f->text, f->bytes, 0, NULL) : NULL;
    if (!o && f->http)
        snprintf(f->error, sizeof f->error, "HTTP %d: %.100s", f->http, f->text ? f->text : "");
    free(f->text);
    f->text = NULL;
    return o;
}

/* The bound that holds 99 of 100 fsyncs, of the buckets of its metrics; -1: not told. */
static double fsync_p99(const char *metrics)
{
    static const char name[] = "\netcd_disk_wal_fsync_duration_seconds_bucket{le=\"";
    const char *all = metrics ? strstr(metrics, "\netcd_disk_wal_fsync_duration_seconds_count ") : NULL;
    double total = all ? strtod(strchr(all, ' '), NULL) : 0;
    if (!(total > 0))
        return -1;
    for (const char *at = metrics; (at = strstr(at, name)); at++) {
        const char *bound = at + sizeof name - 1, *count = strchr(bound, ' ');
        if (count && strtod(count, NULL) >= 0.99 * total)
            return strncmp(bound, "+Inf", 4) ? 1000 * strtod(bound, NULL) : INFINITY;
    }
    return -1;
}

static void etcd_alarms(const struct end *e, struct etcd_facts *f)
{
    struct fetched got;
    const json_t *a;
    size_t i;
    json_t *o = etcd_ask(e, "/v3/maintenance/alarm", "{\"action\":\"GET\"}", &got);
    json_array_foreach(json_object_get(o, "alarms"), i, a) {
        f->nospace |= !strcmp(text_of(a, "alarm"), "NOSPACE");
        f->corrupt |= !strcmp(text_of(a, "alarm"), "CORRUPT");
    }
    json_decref(o);
}

/* What one end point says; how many members it knows. */
static uint32_t etcd_look(const struct end *e, struct etcd_facts *f)
{
    struct fetched got;
    char url[400];
    uint32_t members = 0;
    json_t *o = etcd_ask(e, "/v3/maintenance/status", "{}", &got);
    if (!o) {
        snprintf(f->error, sizeof f->error, "%s", got.error);
        return 0;
    }
    snprintf(f->version, sizeof f->version, "%s", text_of(o, "version"));
    f->leader = *text_of(o, "leader") && strcmp(text_of(o, "leader"), "0");
    f->db_bytes = strtoull(text_of(o, "dbSize"), NULL, 10);
    json_decref(o);
    etcd_alarms(e, f);
    f->read_ms = INFINITY;
    for (int i = 0; i < READS && (i == 0 || f->reads); i++) {
        o = etcd_ask(e, "/v3/kv/range", "{\"key\":\"AA==\",\"limit\":\"1\"}", &got);
        f->reads = o != NULL;
        if (o && got.ms < f->read_ms)
            f->read_ms = got.ms;
        if (!o)
            snprintf(f->read_error, sizeof f->read_error, "%.150s", got.error);
        json_decref(o);
    }
    o = etcd_ask(e, "/v3/cluster/member/list", "{}", &got);
    members = (uint32_t)json_array_size(json_object_get(o, "members"));
    json_decref(o);
    snprintf(url, sizeof url, "%s/metrics", e->base);
    fetch_etcd(url, &e->tls, NULL, LOOK_ASK_MS, &got);
    f->fsync_p99_ms = got.http == 200 ? fsync_p99(got.text) : -1;
    free(got.text);
    return members;
}

void look_etcd(struct doctor *d)
{
    struct verdict v;
    uint32_t answer = 0, members = 0;
    if (!d->site || !d->site->store.etcd_count) {
        look_not_used(d, "not used: the store is a static pair, whose backup does not take over");
        return;
    }
    for (unsigned i = 0; i < d->site->store.etcd_count; i++) {
        char base[300];
        const char *at = d->site->store.etcd[i];
        struct etcd_facts f = {.endpoint = at, .failure_timeout_ms = d->site->failure_timeout_ms};
        snprintf(base, sizeof base, "%s%s", strstr(at, "://") ? "" : "http://", at);
        struct end e = {base, {d->site->store.etcd_ca, d->site->store.etcd_cert, d->site->store.etcd_key}};
        uint32_t known = etcd_look(&e, &f);
        judge_etcd(&f, &v);
        doctor_add(d, &v, "%s", at);
        if (*f.error)
            continue;
        answer++;
        members = known > members ? known : members;
        if (f.reads) {
            judge_etcd_speed(&f, &v);
            doctor_add(d, &v, "%s", at);
        }
    }
    if (!answer && d->site->store.etcd_count == 1)
        return; /* said */
    judge_etcd_members(d->site->store.etcd_count, answer, members, &v);
    doctor_add(d, &v, "members");
}

/* --- programs ------------------------------------------------------------------------------------ */

int look_socket_pid(const char *socket, int *error)
{
    char *reply = malloc(REPLY_BYTES);
    *error = reply ? -control_ask(socket, "stats", reply, REPLY_BYTES, LOOK_ASK_MS) : ENOMEM;
    json_t *o = *error ? NULL : json_loads(reply, 0, NULL);
    int pid = (int)json_integer_value(json_object_get(o, "pid"));
    if (!*error && !pid)
        *error = EPROTO;
    json_decref(o);
    free(reply);
    return pid;
}

static void socket_of(struct doctor *d, struct look_instance *one)
{
    const struct site *s = d->site;
    const char *run_dir = s ? s->run_dir : text_of(json_object_get(d->status, "site"), "run_dir");
    int front = s ? site_front_named(s, one->name) : -1;
    snprintf(one->socket, sizeof one->socket, "%.100s/%s.sock", run_dir, one->name);
    if (front >= 0)
        snprintf(one->socket, sizeof one->socket, "%s", site_front(s, (unsigned)front).control);
}

static uint32_t by_status(struct doctor *d, struct look_instance *to)
{
    static const char *const kinds[] = {"stores", "steering", "workers"};
    const json_t *p;
    uint32_t n = 0;
    size_t i;
    for (uint32_t k = 0; k < 3; k++)
        json_array_foreach(json_object_get(d->status, kinds[k]), i, p) {
            if (n == LOOK_INSTANCES)
                break;
            struct look_instance *one = &to[n++];
            *one = (struct look_instance){.pid = (int)json_integer_value(json_object_get(p, "pid")),
                                          .outdated = json_is_true(json_object_get(p, "outdated"))};
            snprintf(one->name, sizeof one->name, "%s", text_of(p, "name"));
            snprintf(one->state, sizeof one->state, "%s", text_of(p, "state"));
            snprintf(one->log, sizeof one->log, "%s", text_of(p, "log"));
            socket_of(d, one);
        }
    return n;
}

/* {"name", "pid", "start"} of a program that lives. */
static bool read_pid_file(const char *path, struct look_instance *one)
{
    json_t *o = json_load_file(path, 0, NULL);
    json_int_t pid = json_integer_value(json_object_get(o, "pid")), start = json_integer_value(json_object_get(o, "start"));
    bool lives = pid > 0 && start > 0 && process_start_time((int)pid) == (uint64_t)start;
    if (lives)
        snprintf(one->name, sizeof one->name, "%s", text_of(o, "name"));
    one->pid = lives ? (int)pid : 0;
    json_decref(o);
    return lives;
}

static uint32_t by_pid_files(struct doctor *d, struct look_instance *to)
{
    char path[600];
    uint32_t n = 0;
    if (!d->site)
        return 0;
    snprintf(path, sizeof path, "%s/pids", d->site->run_dir);
    DIR *folder = opendir(path);
    for (struct dirent *e; folder && n < LOOK_INSTANCES && (e = readdir(folder));) {
        struct look_instance *one = &to[n];
        *one = (struct look_instance){.pid = 0};
        snprintf(path, sizeof path, "%s/pids/%s", d->site->run_dir, e->d_name);
        if (e->d_name[0] == '.' || !read_pid_file(path, one))
            continue;
        snprintf(one->log, sizeof one->log, "%.120s/log/%s.log", d->site->run_dir, one->name);
        socket_of(d, one);
        n++;
    }
    if (folder)
        closedir(folder);
    return n;
}

uint32_t look_all_instances(struct doctor *d, struct look_instance to[LOOK_INSTANCES])
{
    return d->status ? by_status(d, to) : by_pid_files(d, to);
}

void look_instances(struct doctor *d)
{
    struct look_instance *all = calloc(LOOK_INSTANCES, sizeof *all);
    uint32_t n = all ? look_all_instances(d, all) : 0;
    struct verdict v;
    for (uint32_t i = 0; i < n; i++) {
        struct instance_facts f = {.name = all[i].name, .state = all[i].state, .log = all[i].log, .pid = all[i].pid,
                                   .outdated = all[i].outdated};
        f.answers = f.pid && look_socket_pid(all[i].socket, &f.error) == f.pid;
        if (f.pid && !f.answers && !f.error)
            f.error = EADDRINUSE;
        judge_instance(&f, &v);
        doctor_add(d, &v, "%s", all[i].name);
    }
    if (!n) {
        verdict_is(&v, DOCTOR_UNKNOWN, "no program of the site is known to run%s", d->pods ? "" : " on this host");
        doctor_add(d, &v, "%s", "");
    }
    free(all);
}

/* --- the controller --------------------------------------------------------------------------------- */

void look_controller(struct doctor *d)
{
    struct verdict v;
    const json_t *a;
    size_t i;
    if (!d->status) {
        struct look_instance *all = calloc(LOOK_INSTANCES, sizeof *all);
        uint32_t n = all ? by_pid_files(d, all) : 0;
        free(all);
        verdict_is(&v, n ? DOCTOR_WRONG : DOCTOR_UNKNOWN, "nobody answers at %s (%s)%s", d->controller, d->controller_error,
                   n ? ", and the site's programs run: nobody starts again what dies" : "");
        if (d->pods)
            verdict_mend(&v, "kubectl -n lethe logs deploy/controller; it says what it waits for");
        else if (!d->controller_hidden)
            verdict_mend(&v, "lethe up %s", d->file ? d->file : "FILE");
        doctor_add(d, &v, "%s", "");
        return;
    }
    verdict_is(&v, DOCTOR_OK, "it answers at %s, pid %d, and leads", d->controller,
               (int)json_integer_value(json_object_get(json_object_get(d->status, "controller"), "pid")));
    doctor_add(d, &v, "%s", "");
    json_array_foreach(json_object_get(d->status, "alerts"), i, a) {
        bool critical = !strcmp(text_of(a, "severity"), "critical");
        verdict_is(&v, critical ? DOCTOR_WRONG : DOCTOR_WARNING, "%s: %s", text_of(a, "kind"), text_of(a, "text"));
        verdict_mend(&v, "lethe status, lethe events; docs/operations.md says what each alert means");
        doctor_add(d, &v, "%s", text_of(a, "subject"));
    }
}
