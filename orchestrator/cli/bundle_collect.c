/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a support bundle holds. In the archive:
 *   site/         the file as it is here, as the controller keeps it, as the programs read it
 *   controller/   status, groups, shards, instances, events; desired state
 *   etcd/         every key of this site: views, the controller's state
 *   instances/    of each program: figures, metrics, limits, its process
 *   logs/         the end of each log
 *   host/         kernel, memory, processors, interfaces, routes, versions
 *   doctor.txt, doctor.json; SHA256SUMS, MISSING
 * Nobody is waited for longer than a few seconds. Secret files are read only to search for what they hold.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/config/etcd/etcd.h"
#include "common/config/site.h"
#include "common/metrics/control.h"
#include "orchestrator/cli/bundle.h"
#include "orchestrator/doctor/fetch.h"
#include "orchestrator/doctor/look.h"
#include "orchestrator/doctor/spawn.h"

enum { ASK_MS = 3000, REPLY_BYTES = 160 * 1024, EVENT_PAGES = 20, OLD_TAIL = 256 * 1024 };

/* --- secrets: first, so that nothing is put before they are known ------------------------------- */

static void know(struct bundle *b, const char *path)
{
    int rc = path ? redact_file(&b->secrets, path) : 0;
    if (rc && rc != -ENOENT)
        bundle_gap(b, path, "it cannot be read (%s), so the bundle was not searched for what it holds", strerror(-rc));
}

static void know_secrets(struct bundle *b)
{
    const struct site *s = b->patient.site;
    redact_add(&b->secrets, b->cli->token, strlen(b->cli->token));
    if (b->cli->token_file)
        know(b, b->cli->token_file);
    if (!s)
        return;
    know(b, s->steering.probe_key_file);
    know(b, s->worker.secret_file);
    know(b, s->store.replica_secret_file);
    know(b, s->controller.token_file);
    for (unsigned i = 0; i < s->store.tenants_count; i++)
        know(b, s->store.tenants[i].secret_file);
}

/* --- the site, the controller ---------------------------------------------------------------------- */

static const char *run_dir_of(const struct bundle *b)
{
    const struct site *s = b->patient.site;
    const char *told = cli_text(json_object_get(b->patient.status, "site"), "run_dir");
    return s ? s->run_dir : *told ? told : "/run/lethe";
}

static void collect_site(struct bundle *b)
{
    char path[600];
    if (b->patient.d.file)
        bundle_put_tail(b, b->patient.d.file, BUNDLE_TAIL, "site/site.yaml");
    else
        bundle_gap(b, "site/site.yaml", "no file was named with -c, and there is no site.yaml here");
    snprintf(path, sizeof path, "%s/site.yaml", run_dir_of(b));
    bundle_put_tail(b, path, BUNDLE_TAIL, "site/programs.yaml");
    snprintf(path, sizeof path, "%s/desired.json", run_dir_of(b));
    if (access(path, F_OK) == 0) /* else it is in etcd */
        bundle_put_tail(b, path, BUNDLE_FILE_MAX, "site/desired.json");
}

static void collect_events(struct bundle *b)
{
    json_t *all = json_array(), *page;
    double after = 0;
    for (int i = 0; i < EVENT_PAGES; i++) {
        char path[100];
        snprintf(path, sizeof path, "/v1/events?after=%.0f&limit=1000", after);
        if (cli_get_quietly(b->cli, path, &page))
            break;
        size_t n = json_array_size(json_object_get(page, "events"));
        json_array_extend(all, json_object_get(page, "events"));
        after = cli_number(page, "next", after);
        json_decref(page);
        if (!n)
            break;
    }
    bundle_put_json(b, all, "controller/events.json");
}

static void collect_controller(struct bundle *b)
{
    static const char *const parts[] = {"groups", "shards", "instances", "site"};
    char path[100], to[100];
    json_t *o;
    if (!b->patient.status) {
        bundle_gap(b, "controller/", "nobody answers at %s: %s", b->patient.d.controller, b->patient.d.controller_error);
        return;
    }
    bundle_put_json(b, json_incref(b->patient.status), "controller/status.json");
    for (uint32_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        snprintf(path, sizeof path, "/v1/%s", parts[i]);
        snprintf(to, sizeof to, "controller/%s.json", parts[i]);
        if (cli_get_quietly(b->cli, path, &o))
            bundle_gap(b, to, "the controller does not tell");
        else
            bundle_put_json(b, o, to);
    }
    collect_events(b);
}

/* --- etcd ------------------------------------------------------------------------------------------- */

/* Values are JSON or text; what is neither is shown as it came, in base64. */
static json_t *value_of(const json_t *text)
{
    static char value[1 << 20];
    int n = etcd_bytes(text, value, sizeof value);
    json_t *o = n > 0 ? json_loadb(value, (size_t)n, JSON_DECODE_ANY, NULL) : NULL;
    if (!o && n >= 0)
        o = json_stringn(value, (size_t)n); /* NULL: no UTF-8 */
    return o ? o : json_incref((json_t *)text);
}

/* Other sites' prefixes may begin as this one's does. */
static bool is_ours(const char *key, const char *prefix)
{
    size_t n = strlen(prefix);
    return !strncmp(key, prefix, n) && (!key[n] || key[n] == '/' || !strncmp(key + n, ".controller/", 12));
}

static json_t *keys_of(const json_t *answer, const char *prefix)
{
    json_t *all = json_array();
    const json_t *kv;
    char key[1000];
    size_t i;
    json_array_foreach(json_object_get(answer, "kvs"), i, kv) {
        if (etcd_bytes(json_object_get(kv, "key"), key, sizeof key) < 0 || !is_ours(key, prefix))
            continue;
        json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:o}", "key", key, "mod_revision",
                                             cli_text(kv, "mod_revision"), "version", cli_text(kv, "version"), "value",
                                             value_of(json_object_get(kv, "value"))));
    }
    return all;
}

static void collect_etcd(struct bundle *b)
{
    const struct site *s = b->patient.site;
    if (!s || !s->store.etcd_count)
        return;
    char url[400], end[300], why[200] = "";
    snprintf(end, sizeof end, "%s", s->store.etcd_prefix);
    end[strlen(end) - 1]++;
    json_t *ask = json_pack("{s:o, s:o, s:s}", "key", etcd_text(s->store.etcd_prefix), "range_end", etcd_text(end), "limit",
                            "2000");
    char *body = ask ? json_dumps(ask, JSON_COMPACT) : NULL;
    bool had = false;
    for (unsigned i = 0; body && i < s->store.etcd_count && !had; i++) {
        struct fetched f;
        const char *at = s->store.etcd[i];
        snprintf(url, sizeof url, "%s%s/v3/kv/range", strstr(at, "://") ? "" : "http://", at);
        fetch_etcd(url, &(struct etcd_tls){s->store.etcd_ca, s->store.etcd_cert, s->store.etcd_key}, body, ASK_MS, &f);
        json_t *answer = f.http == 200 ? json_loadb(f.text, f.bytes, 0, NULL) : NULL;
        had = answer != NULL;
        if (had)
            bundle_put_json(b, keys_of(answer, s->store.etcd_prefix), "etcd/keys.json");
        snprintf(why, sizeof why, "%s", f.http ? "it refuses" : f.error);
        json_decref(answer);
        free(f.text);
    }
    if (!had)
        bundle_gap(b, "etcd/keys.json", "no end point answers: %s", why);
    free(body);
    json_decref(ask);
}

/* --- programs ------------------------------------------------------------------------------------------ */

static void ask_control(struct bundle *b, const struct look_instance *one, const char *verb)
{
    char *reply = malloc(REPLY_BYTES), to[200];
    snprintf(to, sizeof to, "instances/%s/%s.json", one->name, verb);
    int rc = reply ? control_ask(one->socket, verb, reply, REPLY_BYTES, ASK_MS) : -ENOMEM;
    if (rc)
        bundle_gap(b, to, "%s: %s", one->socket, strerror(-rc));
    else
        bundle_put(b, reply, strlen(reply), "%s", to);
    free(reply);
}

static void collect_process(struct bundle *b, const char *name, int pid)
{
    static const char *const files[] = {"status", "limits", "cgroup", "schedstat"};
    char path[100], to[200];
    for (uint32_t i = 0; pid > 0 && i < sizeof files / sizeof files[0]; i++) {
        char text[16384];
        snprintf(path, sizeof path, "/proc/%d/%s", pid, files[i]);
        snprintf(to, sizeof to, "instances/%s/process.%s", name, files[i]);
        int n = doctor_read(&b->patient.d, text, sizeof text, "%s", path);
        if (n < 0)
            bundle_gap(b, to, "%s: %s", path, strerror(-n));
        else
            bundle_put(b, text, (size_t)n, "%s", to);
    }
}

/* <run_dir>/<name>.metrics.sock, of whoever has one: a dead one's stays. */
static void collect_metrics(struct bundle *b)
{
    DIR *folder = opendir(run_dir_of(b));
    for (struct dirent *e; folder && (e = readdir(folder));) {
        char path[600], to[300];
        char *end = strstr(e->d_name, ".metrics.sock");
        struct fetched f;
        if (!end || end[13])
            continue;
        snprintf(path, sizeof path, "%s/%s", run_dir_of(b), e->d_name);
        *end = '\0';
        snprintf(to, sizeof to, "instances/%s/metrics.txt", e->d_name);
        fetch("http://localhost/metrics", path, NULL, ASK_MS, &f);
        if (f.http == 200 && f.text)
            bundle_put(b, f.text, f.bytes, "%s", to);
        else
            bundle_gap(b, to, "%s: %s", path, f.http ? "refused" : f.error);
        free(f.text);
    }
    if (folder)
        closedir(folder);
    else
        bundle_gap(b, "instances/", "%s: %s", run_dir_of(b), strerror(errno));
}

static void collect_instances(struct bundle *b)
{
    struct look_instance *all = calloc(LOOK_INSTANCES, sizeof *all);
    uint32_t n = all ? look_all_instances(&b->patient.d, all) : 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!all[i].pid) {
            bundle_gap(b, all[i].name, "it does not run: %s", all[i].state);
            continue;
        }
        ask_control(b, &all[i], "stats");
        if (b->patient.site && site_front_named(b->patient.site, all[i].name) >= 0)
            ask_control(b, &all[i], "workers");
        collect_process(b, all[i].name, all[i].pid);
    }
    if (!n)
        bundle_gap(b, "instances/", "no program of the site is known to run on this host");
    collect_process(b, "controller", (int)cli_number(json_object_get(b->patient.status, "controller"), "pid", 0));
    collect_metrics(b);
    free(all);
}

/* The end of each log; of the older ones less. */
static void collect_logs(struct bundle *b)
{
    char path[700], to[400];
    snprintf(path, sizeof path, "%s/controller.log", run_dir_of(b));
    bundle_put_tail(b, path, BUNDLE_TAIL, "logs/controller.log");
    snprintf(path, sizeof path, "%s/log", run_dir_of(b));
    DIR *folder = opendir(path);
    for (struct dirent *e; folder && (e = readdir(folder));) {
        const char *dot = strstr(e->d_name, ".log");
        if (!dot || e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/log/%s", run_dir_of(b), e->d_name);
        snprintf(to, sizeof to, "logs/%s", e->d_name);
        bundle_put_tail(b, path, dot[4] ? OLD_TAIL : BUNDLE_TAIL, to);
    }
    if (folder)
        closedir(folder);
    else
        bundle_gap(b, "logs/", "%s: %s", path, strerror(errno));
}

/* --- the host ------------------------------------------------------------------------------------------ */

static void collect_commands(struct bundle *b)
{
    static const struct { const char *to; const char *argv[9]; } all[] = {
        {"uname.txt", {"uname", "-a"}},
        {"links.txt", {"ip", "-s", "-s", "-d", "link"}},
        {"addresses.txt", {"ip", "addr"}},
        {"routes.txt", {"ip", "route", "show", "table", "all"}},
        {"neighbours.txt", {"ip", "-s", "neigh"}},
        {"sockets.txt", {"ss", "-tinpO"}},
        {"listeners.txt", {"ss", "-lnpxtu"}},
        {"rdma.txt", {"rdma", "link"}},
        {"disks.txt", {"df", "-h"}},
        {"processes.txt", {"ps", "-eLo", "pid,tid,ppid,cls,pri,psr,stat,rss,time,wchan:20,comm"}},
        {"kernel.log", {"dmesg"}},
        {"journal.txt", {"journalctl", "--no-pager", "-n", "4000", "-u", "lethe*"}},
        {"packages.txt", {"dpkg-query", "-W", "*dpdk*", "librte*", "lethe*", "etcd*", "libuv1", "libsodium23"}}};
    for (uint32_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct spawned s;
        char to[100];
        spawn_ask(all[i].argv, ASK_MS, 0, &s);
        snprintf(to, sizeof to, "host/%s", all[i].to);
        uint32_t from = s.bytes > BUNDLE_TAIL && !strcmp(all[i].to, "kernel.log") ? s.bytes - BUNDLE_TAIL : 0;
        if (s.out && s.bytes)
            bundle_put(b, s.out + from, s.bytes - from, "%s", to);
        else
            bundle_gap(b, to, "%s is not there, may not tell, or says nothing", all[i].argv[0]);
        free(s.out);
    }
}

static void ethtool(void *ctx, struct doctor *d, const struct look_edge *e)
{
    static const char *const what[] = {"-k", "-S", "-i"};
    (void)d;
    for (uint32_t i = 0; i < 3; i++) {
        const char *argv[] = {"ethtool", what[i], e->iface, NULL};
        struct spawned s;
        spawn_ask(argv, ASK_MS, 1, &s);
        if (s.out && s.bytes)
            bundle_put(ctx, s.out, s.bytes, "host/ethtool%s.%s.txt", what[i], e->iface);
        free(s.out);
    }
}

static void collect_host(struct bundle *b)
{
    static const char *const files[] = {
        "/etc/os-release", "/proc/cpuinfo", "/proc/meminfo", "/proc/loadavg", "/proc/uptime", "/proc/stat", "/proc/vmstat",
        "/proc/self/limits", "/proc/self/cgroup", "/proc/self/mounts", "/proc/net/dev", "/proc/net/snmp", "/proc/net/netstat",
        "/proc/net/softnet_stat", "/proc/net/packet", "/proc/interrupts", "/proc/pressure/cpu", "/proc/pressure/memory",
        "/proc/pressure/io", "/sys/devices/system/clocksource/clocksource0/current_clocksource"};
    char *text = malloc(BUNDLE_TAIL);
    for (uint32_t i = 0; text && i < sizeof files / sizeof files[0]; i++) {
        int n = doctor_read(&b->patient.d, text, BUNDLE_TAIL, "%s", files[i]);
        if (n < 0)
            bundle_gap(b, files[i], "%s", strerror(-n));
        else
            bundle_put(b, text, (size_t)n, "host%s", files[i]);
    }
    free(text);
    collect_commands(b);
    look_each_edge(&b->patient.d, ethtool, b);
}

static void collect_doctor(struct bundle *b)
{
    char *text = NULL;
    size_t n = 0;
    struct cli plain = *b->cli;
    plain.colour = false;
    b->patient.d.progress = NULL;
    if (doctor_run(&b->patient.d, NULL)) {
        bundle_gap(b, "doctor.txt", "out of memory");
        return;
    }
    FILE *to = open_memstream(&text, &n);
    if (to) {
        doctor_show(&plain, &b->patient.d, true, to);
        fclose(to);
        bundle_put(b, text, n, "doctor.txt");
    }
    free(text);
    bundle_put_json(b, doctor_json(&b->patient.d), "doctor.json");
}

void bundle_collect(struct bundle *b)
{
    static const struct { const char *what; void (*collect)(struct bundle *b); } all[] = {
        {"the site's file", collect_site}, {"what the controller knows", collect_controller}, {"etcd", collect_etcd},
        {"the programs' figures", collect_instances}, {"logs", collect_logs}, {"the host", collect_host},
        {"what the doctor says", collect_doctor}};
    char path[2000];
    snprintf(path, sizeof path, "%s:/usr/sbin:/sbin", getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
    setenv("PATH", path, 1);
    know_secrets(b);
    for (uint32_t i = 0; i < sizeof all / sizeof all[0] && !bundle_over(); i++) {
        cli_progress(b->cli, "collecting %s (%u of %zu)", all[i].what, i + 1, sizeof all / sizeof all[0]);
        all[i].collect(b);
    }
}
