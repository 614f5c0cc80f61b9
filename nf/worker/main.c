/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lethe-nf: one worker. Assembles it in stages and takes it down in their
 * mirror order; in between, loop_run.
 *
 *   options -> site.yaml and NFs -> EAL and buffers -> store client -> engine
 *   -> doorbell -> ports (or, once the store answers, steering) -> control
 *
 * Exit status: 0 drained, 1 cannot serve, 2 wrong option or configuration.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <rte_mbuf.h>

#include "common/log/log.h"
#include "common/packet/dpdk_port.h"
#include "nf/worker/explain.h"
#include "nf/worker/worker.h"

enum {
    MBUFS_DEFAULT = 2048,
    MBUF_CACHE = 64,
    MAX_HOLD_DEFAULT_MS = 250,
    MEMORY_MB = 24, /* of EAL, without packet buffers */
    ERR_BYTES = 600,
};

static struct worker worker; /* zeroed; a signal handler needs to find it */

static void on_signal(int number)
{
    (void)number;
    worker.drain_cause = "a signal";
    worker.drain = true;
}

static int fail(int status, const char *text)
{
    log_error("lethe-nf cannot serve", "%s", text);
    return status;
}

/* --- --check ------------------------------------------------------------------------- */

static void check_say(const struct worker *w)
{
    const struct site *site = w->chain.site;
    const char *at = site->worker.redis ? site->worker.redis : site->store.nodes[0].listen;
    if (w->opt.json)
        printf("{\"ok\": true, \"chain\": [");
    else
        printf("%s is right. chain:", w->opt.config);
    for (int i = 0; i < w->chain.n; i++)
        printf(w->opt.json ? "%s\"%s\"" : "%s%s",
               i             ? ", "
               : w->opt.json ? ""
                             : " ",
               w->chain.nf[i]->ops->name);
    if (w->opt.json)
        printf("], \"%s\": \"%s\", \"shards\": %u}\n", site->worker.redis ? "redis" : "store", at,
               site->store.shards);
    else if (site->worker.redis)
        printf("; state in Redis at %s: commits are best effort\n", at);
    else
        printf("; store: %s, %u shards\n", at, site->store.shards);
}

static int say_plan(const struct worker *w, char *err)
{
    json_t *plan = explain_chain(&w->chain, w->opt.config, err, ERR_BYTES);
    if (!plan) {
        fprintf(stderr, "lethe-nf: %s\n", err);
        return EXIT_TROUBLE;
    }
    if (w->opt.json)
        json_dumpf(plan, stdout, JSON_COMPACT);
    else
        explain_say(plan);
    if (w->opt.json)
        putchar('\n');
    json_decref(plan);
    return 0;
}

/* --- stages ------------------------------------------------------------------------------ */

static uint32_t mbufs_of(const struct site *site)
{
    return site->worker.mbufs ? site->worker.mbufs : MBUFS_DEFAULT;
}

static int start_dpdk(struct worker *w, char *err)
{
    uint32_t mbufs = mbufs_of(w->chain.site);
    uint32_t bytes = RTE_MBUF_DEFAULT_BUF_SIZE + 256;
    uint32_t in_flight = w->chain.site->worker.packets_in_flight;
    if (mbufs < (in_flight ? in_flight : ENGINE_PACKETS_DEFAULT) + 512) {
        snprintf(err, ERR_BYTES,
                 "worker: mbufs: %u is too few for %u packets in flight; write at "
                 "least 512 more than those",
                 mbufs, in_flight ? in_flight : ENGINE_PACKETS_DEFAULT);
        return -EINVAL;
    }
    int rc =
        dpdk_start("lethe-nf", NULL, MEMORY_MB + mbufs / 1024 * (bytes / 1024 + 1), err, ERR_BYTES);
    if (rc)
        return rc;
    w->pool = rte_pktmbuf_pool_create("packets", mbufs, MBUF_CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
                                      SOCKET_ID_ANY);
    if (w->pool)
        return 0;
    snprintf(err, ERR_BYTES, "no memory for %u packet buffers", mbufs);
    return -ENOMEM;
}

static int start_engine(struct worker *w, char *err)
{
    const struct site *site = w->chain.site;
    uint32_t hold_ms = site->worker.max_hold_ms ? site->worker.max_hold_ms : MAX_HOLD_DEFAULT_MS;
    int rc = state_create(&w->store, site, err, ERR_BYTES);
    if (rc)
        return rc;
    for (const char *const *lack = state_lacks(w->store); *lack; lack++)
        log_warn("commits are best effort", "in=%s what_the_store_gives_and_it_does_not=\"%s\"",
                 state_kind(w->store), *lack);
    struct engine_config c = {
        .nchain = w->chain.n,
        .backend = state_backend(w->store),
        .packets_in_flight = site->worker.packets_in_flight,
        .window_bursts = site->worker.window_bursts,
        .store_timeout_ms = hold_ms,
        .pass_untaken = site->worker.ipv6 && !strcmp(site->worker.ipv6, "pass"),
        .ctx = w,
        .emit = loop_emit,
        .drop = loop_drop,
    };
    memcpy(c.chain, w->chain.nf, sizeof c.chain);
    if (getrandom(&c.seed, sizeof c.seed, 0) != sizeof c.seed ||
        getrandom(&w->incarnation, sizeof w->incarnation, 0) != sizeof w->incarnation) {
        snprintf(err, ERR_BYTES, "no random numbers from the kernel: %s", strerror(errno));
        return -EIO;
    }
    w->incarnation >>= 1; /* JSON knows signed numbers only */
    w->max_hold_us = 1000ull * hold_ms;
    w->unreachable_us = 1000ull * site->failure_timeout_ms;
    w->full_patience_us = w->unreachable_us / 2;
    rc = engine_create(&c, &w->engine, err, ERR_BYTES);
    w->packets_max = rc ? 0 : engine_room(w->engine);
    return rc;
}

static int start_bell(struct worker *w, char *err)
{
    char path[300];
    const char *run_dir = w->chain.site->run_dir;
    if (mkdir(run_dir, 0755) && errno != EEXIST) {
        snprintf(err, ERR_BYTES, "run_dir: %s cannot be made: %s", run_dir, strerror(errno));
        return -errno;
    }
    snprintf(path, sizeof path, "%s/%s.bell", run_dir, w->opt.name);
    return doorbell_create(path, &w->bell, err, ERR_BYTES);
}

/* "net_af_packet0,iface=eth1": the device's name, and its arguments. */
static int start_port(struct worker *w, struct side *s, char *err)
{
    char device[64];
    const char *spec = w->opt.port[s->which];
    size_t n = strcspn(spec, ",");
    if (n == 0 || n >= sizeof device) {
        snprintf(err, ERR_BYTES, "--port %s: names no device", spec);
        return -EINVAL;
    }
    memcpy(device, spec, n);
    device[n] = '\0';
    memcpy(s->peer, w->opt.peer[s->which], sizeof s->peer);
    s->learn = !w->opt.peer_given[s->which];
    return side_open(s, device, spec[n] ? spec + n + 1 : "", w->pool, err, ERR_BYTES);
}

static int start_tunnel(struct worker *w, char *err)
{
    const struct tunnel_config c = {
        .site = w->chain.site, .device = w->opt.tunnel, .address = w->opt.address,
        .name = w->opt.name, .key = w->probe_key,
        .weight = w->opt.weight, .incarnation = w->incarnation, .timeout_us = w->unreachable_us};
    int rc = tunnel_open(&w->tunnel, &c, w->pool, err, ERR_BYTES);
    for (int i = 0; i < 2 && rc == 0; i++)
        side_open_tunnel(&w->side[i], w->tunnel);
    return rc;
}

static int start_sides(struct worker *w, char *err)
{
    const struct site_steering *steering = &w->chain.site->steering;
    w->steered = !w->opt.port[SIDE_INSIDE];
    if (w->opt.front && site_front_named(w->chain.site, w->opt.front) < 0) {
        snprintf(err, ERR_BYTES, "%s: there is no front end '%s'; --front takes " SITE_FRONT_FIRST
                 " or a name of steering.more", w->opt.config, w->opt.front);
        return -EINVAL;
    }
    if (w->steered) {
        if (!steering->control || !steering->probe_key_file) {
            snprintf(err, ERR_BYTES,
                     "%s: steering: `control` and `probe_key_file` are needed, or "
                     "give --port for both sides",
                     w->opt.config);
            return -EINVAL;
        }
        int rc = probe_key_load(steering->probe_key_file, w->probe_key, err, ERR_BYTES);
        w->has_probe_key = rc == 0;
        return rc || !w->opt.tunnel ? rc : start_tunnel(w, err);
    }
    int rc = start_port(w, &w->side[SIDE_INSIDE], err);
    return rc ? rc : start_port(w, &w->side[SIDE_OUTSIDE], err);
}

static int start_control(struct worker *w, char *err)
{
    static const char *const asks[] = {"stats", "status", NULL};
    char path[300];
    int front = w->opt.front ? site_front_named(w->chain.site, w->opt.front) : 0;
    const char *join = w->steered && !w->tunnel ? site_front(w->chain.site, (unsigned)front).control : NULL;
    int rc = joiner_start(&w->joiner, w->opt.name, w->opt.weight, join);
    if (rc) {
        snprintf(err, ERR_BYTES, "no thread: %s", strerror(-rc));
        return rc;
    }
    w->metrics = metrics_create(w->opt.name);
    w->trace = trace_create();
    rc = w->metrics && w->trace ? report_create(w) : -ENOMEM;
    if (rc) {
        snprintf(err, ERR_BYTES, "metrics: %s", strerror(-rc));
        return rc;
    }
    snprintf(path, sizeof path, "%s/%s.sock", w->chain.site->run_dir, w->opt.name);
    rc = control_start(&w->control, path, w->metrics, report_control, w, err, ERR_BYTES);
    if (rc)
        return rc;
    struct http_config c = {.metrics = w->metrics, .ctx = w, .address = w->opt.metrics,
                            .healthy = report_healthy, .ready = report_ready,
                            .asks = w->opt.ask ? asks : NULL, .control = w->control};
    rc = metrics_http_beside(&w->http, &c, path, err, ERR_BYTES);
    if (!rc)
        w->notify = notify_start(report_healthy, report_ready, NULL, w);
    return rc;
}

static void signals_set(void)
{
    struct sigaction drain = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGTERM, &drain, NULL);
    sigaction(SIGINT, &drain, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGCHLD, &ignore, NULL); /* a container's first process gets orphans: no zombies */
}

static int start(struct worker *w, char *err)
{
    static int (*const stages[])(struct worker * w, char *err) = {
        start_dpdk, start_engine, start_bell, start_sides, start_control};
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        int rc = stages[i](w, err);
        if (rc)
            return rc;
    }
    return 0;
}

static void stop(struct worker *w)
{
    notify_stop(w->notify, true);
    metrics_http_stop(w->http);
    control_stop(w->control);
    joiner_stop(w->joiner);
    dpdk_poll_begin();
    /* The client first: its late answers must not meet a dead engine. */
    state_destroy(w->store);
    engine_destroy(w->engine);
    side_close(&w->side[SIDE_INSIDE]);
    side_close(&w->side[SIDE_OUTSIDE]);
    tunnel_close(w->tunnel);
    dpdk_poll_end();
    doorbell_close(w->steer_bell);
    doorbell_close(w->bell);
    report_destroy(w);
    metrics_destroy(w->metrics);
    trace_destroy(w->trace);
    chain_free(&w->chain);
}

/* --- serving -------------------------------------------------------------------------------- */

static int serve(struct worker *w)
{
    char err[ERR_BYTES] = "";
    for (int i = 0; i < 2; i++)
        w->side[i] = (struct side){.which = (enum packet_side)i, .port = -1, .fd = -1};
    pthread_mutex_init(&w->public.lock, NULL);
    signals_set();
    int rc = start(w, err);
    if (rc) {
        stop(w);
        return fail(EXIT_TROUBLE, err);
    }
    log_info("worker started", "chain of %d, %u packets in flight at most, %s", w->chain.n,
             engine_room(w->engine), w->tunnel ? "through steering, by tunnel" : w->steered ? "through steering" : "on its own ports");
    rc = loop_run(w);
    snprintf(err, sizeof err, "%s", w->fatal);
    uint32_t left = engine_in_flight(w->engine);
    stop(w);
    if (rc)
        return fail(EXIT_TROUBLE, err);
    log_info("drained", "packets_still_in_flight=%u", left);
    return 0;
}

int main(int argc, char **argv)
{
    struct worker *w = &worker;
    char err[ERR_BYTES] = "";
    int status;
    if (!options_parse(argc, argv, &w->opt, &status))
        return status;
    log_init("lethe-nf", w->opt.name ? w->opt.name : "-",
             w->opt.verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    int rc = chain_load(w->opt.config, &w->chain, err, sizeof err);
    if (rc) {
        if (w->opt.json)
            printf("{\"ok\": false}\n");
        fprintf(stderr, "lethe-nf: %s\n", err);
        return EXIT_USAGE;
    }
    if (!w->opt.check && !w->opt.explain)
        return serve(w);
    if (w->opt.explain)
        status = say_plan(w, err);
    else
        check_say(w);
    chain_free(&w->chain);
    return w->opt.explain ? status : 0;
}
