/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lethe-controller: options, the site's file, then the engine until a signal. The API opens when the
 * engine is active. Programs outlive it.
 *
 * Found that another controller leads, it begins anew as the same process (exec): so its children stay
 * its own, and whoever supervises it sees one process.
 *
 * Exit status: 0 ended by a signal or checked, 1 cannot run, 2 wrong option or configuration.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/metrics/notify.h"
#include "orchestrator/controller/api.h"
#include "orchestrator/controller/engine.h"
#include "orchestrator/driver/kubernetes_api.h"
#include "orchestrator/driver/process.h"

enum { STATUS_TROUBLE = 1, STATUS_USAGE = 2, STILL_MS = 5000 };

static const char usage[] =
    "Usage: lethe-controller -c FILE [--driver NAME] [--programs DIR] [--metrics ADDR] [--check] [--version] [--help]\n"
    "Keeps a site as its site.yaml says, and as `lethe` changed it since: starts its programs, watches them,\n"
    "starts them again, scales. Several may run; one is active. Its end is not the programs' end.\n"
    "  -c FILE          the site's file: what there is to be, if nothing is kept yet; where etcd and the API are\n"
    "  --driver NAME    process (default): runs the programs on this host. kubernetes: they are pods, which the cluster\n"
    "                   runs and counts; this runs in a pod beside them, asks them over HTTP, scales and evicts\n"
    "  --service-account DIR  for kubernetes: folder of token, ca.crt and namespace; else where every pod has it\n"
    "  --programs DIR   folder of lethe-nf, lethe-steer and lethe-store\n"
    "  --metrics ADDR   serve /metrics, /healthz, /readyz at HOST:PORT; else at <run_dir>/controller.metrics.sock\n"
    "  --check          looks at the file, and ends\n"
    "Exit status: 0 ended by a signal or checked, 1 cannot run, 2 wrong option or configuration.\n";

struct program {
    const char *file, *programs, *metrics, *driver, *service_account;
    bool check, verbose, deaf, kubernetes;
    struct orch_desired *site; /* the file's */
    struct engine *engine;
    struct api *api;
};

/* -1: go on; else the exit status. */
static int read_options(struct program *p, int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"programs", required_argument, NULL, 'p'},
        {"metrics", required_argument, NULL, 'm'}, {"driver", required_argument, NULL, 'd'},
        {"service-account", required_argument, NULL, 's'},
        {"check", no_argument, NULL, 'C'},        {"verbose", no_argument, NULL, 'v'},
        {"version", no_argument, NULL, 'V'},      {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    for (int o; (o = getopt_long(argc, argv, "c:vh", options, NULL)) != -1;) {
        switch (o) {
        case 'c': p->file = optarg; break;
        case 'p': p->programs = optarg; break;
        case 'm': p->metrics = optarg; break;
        case 'd': p->driver = optarg; break;
        case 's': p->service_account = optarg; break;
        case 'C': p->check = true; break;
        case 'v': p->verbose = true; break;
        case 'V': printf("lethe-controller %s\n", LETHE_VERSION); return 0;
        case 'h': fputs(usage, stdout); return 0;
        default: fputs("Try lethe-controller --help.\n", stderr); return STATUS_USAGE;
        }
    }
    if (p->driver && strcmp(p->driver, "process") && strcmp(p->driver, "kubernetes")) {
        fprintf(stderr, "lethe-controller: --driver %s: there is no such driver; write process or kubernetes\n", p->driver);
        return STATUS_USAGE;
    }
    p->kubernetes = p->driver && !strcmp(p->driver, "kubernetes");
    if (optind == argc && p->file)
        return -1;
    fprintf(stderr, optind < argc ? "lethe-controller: %s: no such argument\n"
                                  : "lethe-controller: name the site's file with -c FILE%s\n",
            optind < argc ? argv[optind] : "");
    return STATUS_USAGE;
}

/* NULL, and a sentence. */
static char *read_file(const char *path, char *err, uint32_t err_len)
{
    char *text = malloc(ORCH_SITE_BYTES + 2);
    FILE *f = text ? fopen(path, "rb") : NULL;
    size_t n = f ? fread(text, 1, ORCH_SITE_BYTES + 1, f) : 0;
    if (f && !ferror(f) && n <= ORCH_SITE_BYTES && !memchr(text, 0, n)) {
        fclose(f);
        text[n] = 0;
        return text;
    }
    if (f && !ferror(f))
        snprintf(err, err_len, "%s: %s; is this a site.yaml?", path, n > ORCH_SITE_BYTES ? "is too long" : "is no text");
    else
        snprintf(err, err_len, "%s: cannot be read: %s; name the site's file with -c", path, strerror(errno));
    if (f)
        fclose(f);
    free(text);
    return NULL;
}

static int load(struct program *p)
{
    char err[900];
    char *text = read_file(p->file, err, sizeof err);
    int rc = text ? desired_from_text(&p->site, p->file, text, err, sizeof err) : -EIO;
    free(text);
    if (!rc && p->kubernetes && !p->site->site->store.etcd_count) {
        snprintf(err, sizeof err, "%s: store.etcd: is missing; with --driver kubernetes what is desired and who leads is kept in "
                 "etcd, for a pod's files end with it", p->file);
        desired_free(p->site);
        rc = -EINVAL;
    }
    if (rc)
        fprintf(stderr, "lethe-controller: %s\n", err);
    return rc;
}

/* The engine leads now. */
static int on_active(void *ctx)
{
    struct program *p = ctx;
    char err[900];
    int rc = api_start(&p->api, p->engine, &p->site->site->controller, p->site->site->run_dir, err, sizeof err);
    if (rc == -EADDRINUSE && !p->deaf)
        log_error("nobody can ask this controller", "%s; it keeps the site, and tries again", err);
    else if (rc && rc != -EADDRINUSE)
        log_error("the API cannot open", "%s", err);
    p->deaf = rc == -EADDRINUSE;
    if (rc)
        return rc;
    log_info("serving", "listen=%s", p->site->site->controller.listen);
    return 0;
}

/* --- what its supervisor is told ------------------------------------------------------------------------ */

static void is_healthy(void *ctx, char *why, uint32_t len)
{
    struct engine_health h;
    struct timespec t;
    engine_health(ctx, &h);
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t now_ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    if (!h.turned_ms)
        snprintf(why, len, "it begins");
    else if (now_ms > h.turned_ms + STILL_MS)
        snprintf(why, len, "its loop stands still for %lu ms", now_ms - h.turned_ms);
}

/* A standby is as ready as one can be. */
static void is_ready(void *ctx, char *why, uint32_t len)
{
    struct engine_health h;
    is_healthy(ctx, why, len);
    engine_health(ctx, &h);
    if (!*why && h.leads && !h.listens)
        snprintf(why, len, "leads, and cannot be asked: another process listens at controller.listen");
    else if (!*why && h.leads && !h.sure)
        snprintf(why, len, "leads, and takes no changes: etcd does not answer");
}

static void says(void *ctx, char *text, uint32_t len)
{
    struct engine_health h;
    engine_health(ctx, &h);
    if (h.leads)
        snprintf(text, len, "leads, revision %lu", h.revision);
    else
        snprintf(text, len, "stands by%s%s", *h.leader ? " for " : "", h.leader);
}

static int run(struct program *p, char **argv)
{
    char err[900] = "out of memory";
    struct engine_config c = {.file = p->file, .text = p->site->text, .site = p->site->site, .programs = p->programs, .metrics = p->metrics,
                              .active = on_active, .ctx = p};
    if (p->kubernetes)
        c.service_account = p->service_account ? p->service_account : KUBE_SERVICE_ACCOUNT;
    signal(SIGPIPE, SIG_IGN);
    if (p->kubernetes) /* it starts nothing; a container's first process gets orphans: no zombies */
        signal(SIGCHLD, SIG_IGN);
    if ((!p->kubernetes && process_run_dir(p->site->site->run_dir, err, sizeof err)) ||
        engine_create(&p->engine, &c, err, sizeof err)) {
        log_error("cannot run", "%s", err);
        return STATUS_TROUBLE;
    }
    log_info("started", "pid=%d waits until it is the active controller", getpid());
    struct notify *notify = notify_start(is_healthy, is_ready, says, p->engine);
    enum engine_end end = engine_run(p->engine);
    notify_stop(notify, end != ENGINE_LOST);
    api_stop(p->api);
    engine_destroy(p->engine);
    if (end == ENGINE_LOST) {
        notify_show();
        execv("/proc/self/exe", argv);
        log_error("cannot begin anew", "%s", strerror(errno));
    }
    return end == ENGINE_STOPPED ? 0 : STATUS_TROUBLE;
}

int main(int argc, char **argv)
{
    struct program p = {0};
    notify_hide(); /* what it starts is not what the supervisor watches */
    int status = read_options(&p, argc, argv);
    if (status >= 0)
        return status;
    log_init("lethe-controller", "controller", p.verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    if (load(&p))
        return STATUS_USAGE;
    if (p.check)
        printf("%s is right: %u groups, %u store nodes\n", p.file, p.site->ngroups, p.site->site->store.nodes_count);
    status = p.check ? 0 : run(&p, argv);
    desired_free(p.site);
    return status;
}
