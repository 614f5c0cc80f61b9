/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lethe-store: one replica server. The main thread starts everything and then
 * only waits for signals; a thread per shard does the work (loop.c), one more
 * answers the control socket.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/metrics/control.h"
#include "common/metrics/http.h"
#include "common/metrics/notify.h"
#include "statestore/server/figures.h"
#include "statestore/server/options.h"
#include "statestore/server/verbs.h"

#ifdef LETHE_VERBS
#include "common/wire/verbs/verbs.h"
#define RDMA (&transport_verbs)
#else
#define RDMA NULL
#endif

enum { EXIT_USAGE = 2, STOP_POLL_MS = 20 };

static sigset_t stop_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    return set;
}

static void wait_for_stop(struct store *s)
{
    sigset_t set = stop_signals();
    struct timespec poll = {.tv_nsec = STOP_POLL_MS * 1000000};
    int sig;
    while (sigwait(&set, &sig))
        ;
    log_info("stopping", "signal=%d answering what is held; a second signal exits at once", sig);
    store_drain(s);
    while (!store_stopped(s)) {
        if (sigtimedwait(&set, NULL, &poll) > 0) {
            log_warn("stopped", "a second signal; what was held is not answered");
            _exit(EXIT_FAILURE);
        }
    }
}

/* A store without a control socket and without --metrics is not asked. */
static int serve_metrics(const struct options *o, struct store *s, struct metrics *m, struct control *control,
                         struct metrics_http **http, char *err, uint32_t err_len)
{
    static const char *const asks[] = {"stats", "tables", NULL};
    struct http_config c = {.metrics = m, .address = o->metrics, .ctx = s,
                            .healthy = figures_healthy, .ready = figures_ready,
                            .asks = o->ask ? asks : NULL, .control = control};
    metrics_collector(m, figures_collect, s);
    if (!o->metrics && !o->control[0])
        return 0;
    return metrics_http_beside(http, &c, o->control, err, err_len);
}

static int serve(const struct options *o, struct store *s)
{
    char err[500];
    struct metrics *m = metrics_create(o->node);
    struct verbs verbs = {.store = s, .metrics = m};
    struct control *control = NULL;
    struct metrics_http *http = NULL;
    int rc = 0;
    if (!m) {
        log_error("cannot start", "out of memory");
        return EXIT_FAILURE;
    }
    if (o->control[0])
        rc = control_start(&control, o->control, NULL, verbs_handle, &verbs, err, sizeof err);
    if (!rc)
        rc = serve_metrics(o, s, m, control, &http, err, sizeof err);
    if (rc) {
        log_error("cannot start", "%s", err);
    } else {
        struct notify *notify = notify_start(figures_healthy, figures_ready, NULL, s);
        wait_for_stop(s);
        notify_stop(notify, true);
    }
    metrics_http_stop(http);
    if (control)
        control_stop(control);
    metrics_destroy(m);
    return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* The default of 1024 descriptors is a shell's, not a server's. */
static void raise_descriptors(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files))
        return;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

static int run(const struct options *o)
{
    char err[300];
    struct store *s;
    log_init("lethe-store", o->node, o->verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    sigset_t set = stop_signals();
    sigprocmask(SIG_BLOCK, &set, NULL); /* before any thread: all inherit it */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN); /* a container's first process gets orphans: no zombies */
    raise_descriptors();
    if (store_start(&s, &o->store, err, sizeof err)) {
        log_error("cannot start", "%s", err);
        return EXIT_FAILURE;
    }
    int status = serve(o, s);
    store_stop(s);
    if (!status)
        log_info("stopped", "everything held was answered");
    return status;
}

int main(int argc, char **argv)
{
    struct options o;
    char err[500];
    int status = EXIT_SUCCESS, rc = options_parse(&o, argc, argv, err, sizeof err);
    if (rc) {
        fprintf(stderr, "lethe-store: %s\n", err);
        status = rc == OPTIONS_USAGE ? EXIT_USAGE : EXIT_FAILURE;
    } else if (o.help) {
        fputs(options_help, stdout);
    } else if (o.version) {
        puts("lethe-store " LETHE_VERSION);
    } else if (o.check) {
        printf("%s is fine%s\n", o.config_path ? o.config_path : "the command line",
               o.config_path ? " for a store; chain and nfs are lethe-nf's to check" : "");
    } else {
        o.store.verbs = RDMA;
        status = run(&o);
    }
    options_free(&o);
    return status;
}
