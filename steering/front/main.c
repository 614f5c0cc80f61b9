/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lethe-steer: options, start, stop.
 *
 * Start: site, checks, doorbell, aide, control socket (which also makes sure
 * that we are the only one), DPDK, edges, loop. Stop (SIGTERM, SIGINT): the
 * mirror of it. Exit status: 0, 1 cannot start, 2 wrong option.
 */
#include "steering/front/steer.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_mbuf.h>

#include "common/log/log.h"
#include "common/packet/dpdk_port.h"
#include "steering/maglev.h"

static volatile int stop;

static const char help[] =
"lethe-steer: spreads packets over the workers of a site\n"
"\n"
"  lethe-steer -c site.yaml [--name steer] [--spray] [--check]\n"
"\n"
"  -c, --config FILE   the site (needed)\n"
"  -n, --name NAME     which front end of the site this is: steer, or one of steering.more;\n"
"                      its doorbell is <run_dir>/NAME.bell  [steer]\n"
"      --at ADDRESS    instead of --name: the front end whose `tunnel` has this address, so that\n"
"                      all hosts can be given one command\n"
"      --metrics ADDR  serve /metrics, /healthz, /readyz at HOST:PORT instead of the Unix socket\n"
"                      <run_dir>/NAME.metrics.sock\n"
"      --ask           with --metrics: answer there, too, what the control verbs stats and workers\n"
"                      say (GET /v1/ask/workers), to whoever reaches that port\n"
"      --spray         every packet to a random worker instead of its flow's\n"
"      --check         look at the site and at the interfaces, say what is wrong, and end\n"
"  -v, --verbose       log more (what DPDK says, too)\n"
"  -h, --help          this text\n"
"      --version       the version\n"
"\n"
"What it does. A packet that comes in by an edge (steering.inside.port, steering.outside.port)\n"
"is hashed by its flow, both directions alike; a Maglev table of the healthy workers says who\n"
"gets it. What a worker sends leaves by the edge of the same side, to the side's next_hop.\n"
"Workers are asked four times per failure_timeout_ms whether they live; who does not answer\n"
"for that long, or closes its connection, is taken out, but never the last one.\n"
"\n"
"Prepare the edges (they carry no address of the kernel's):\n"
"  ip link set dev EDGE up\n"
"  ethtool -K EDGE tx off gro off      # and at the other end of a veth pair: tx off\n"
"\n"
"Ask it, and give it orders (one line, one line of JSON back), on steering.control,\n"
"with nc of the package netcat-openbsd:\n"
"  echo workers | nc -U -N <control>                 who is there, how healthy, how busy\n"
"  echo where tcp 10.0.0.5 4000 192.0.2.1 80 | ...   which worker a flow goes to\n"
"  echo spray on | ...       echo leave nf-1 | ...       echo stats | ...\n"
"steering/README.md describes the join of a worker.\n";

static int usage(const char *what)
{
    fprintf(stderr, "lethe-steer: %s; see lethe-steer --help\n", what);
    return 2;
}

static int fail(const char *sentence)
{
    log_error("cannot start", "%s", sentence);
    return 1;
}

static void on_signal(int number)
{
    stop = 1;
}

static void catch_signals(void)
{
    struct sigaction sa;
    memset(&sa, 0, sizeof(sa));
    sa.sa_handler = on_signal;
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_IGN); /* a container's first process gets orphans: no zombies */
}

struct options {
    const char *config, *name, *at, *metrics; /* name or at; neither: the first one */
    bool spray, ask, check, verbose, done;
};

/* 0, or the exit status; done: there is nothing to do. */
static int read_options(int argc, char **argv, struct options *o)
{
    static const struct option known[] = {
        {"config", required_argument, NULL, 'c'}, {"name", required_argument, NULL, 'n'},
        {"spray", no_argument, NULL, 's'},        {"check", no_argument, NULL, 'k'},
        {"verbose", no_argument, NULL, 'v'},      {"help", no_argument, NULL, 'h'},
        {"metrics", required_argument, NULL, 'm'}, {"at", required_argument, NULL, 'a'},
        {"ask", no_argument, NULL, 'q'},
        {"version", no_argument, NULL, 'V'},      {NULL, 0, NULL, 0}};
    int c;
    while ((c = getopt_long(argc, argv, "c:n:vh", known, NULL)) >= 0) {
        switch (c) {
        case 'c': o->config = optarg; break;
        case 'n': o->name = optarg; break;
        case 'm': o->metrics = optarg; break;
        case 'a': o->at = optarg; break;
        case 's': o->spray = true; break;
        case 'q': o->ask = true; break;
        case 'k': o->check = true; break;
        case 'v': o->verbose = true; break;
        case 'h': fputs(help, stdout); o->done = true; return 0;
        case 'V': puts("lethe-steer " LETHE_VERSION); o->done = true; return 0;
        default: return usage("wrong option");
        }
    }
    if (optind < argc)
        return usage("there are words that are no option");
    if (o->name != NULL && o->at != NULL)
        return usage("--name and --at exclude each other");
    if (o->ask && o->metrics == NULL)
        return usage("--ask goes with --metrics HOST:PORT");
    if (o->name == NULL && o->at == NULL)
        o->name = SITE_FRONT_FIRST;
    return o->config == NULL ? usage("no site given: -c site.yaml") : 0;
}

/* --- start and stop ------------------------------------------------------------------- */

static int prepare(struct steer *s, char *err, uint32_t err_len)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    s->incarnation = (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
    s->rng = s->incarnation | 1;
    s->timeout_us = (uint64_t)s->site->failure_timeout_ms * 1000;
    s->workers_max = s->site->steering.workers_max != 0 ? s->site->steering.workers_max
                                                        : WORKERS_DEFAULT;
    s->edge[0].port = s->edge[1].port = s->edge[0].fd = s->edge[1].fd = -1;
    int rc = check_site(s, err, err_len);
    if (rc == 0)
        rc = check_edges(s, err, err_len);
    return rc < 0 ? rc : tunnel_check(s, err, err_len);
}

static int allocate(struct steer *s)
{
    const struct site_steering *cfg = &s->site->steering;
    s->worker = calloc(s->workers_max, sizeof(*s->worker));
    s->trace = trace_create();
    if (s->worker == NULL || s->trace == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < s->workers_max; i++) {
        s->worker[i].number = i;
        s->worker[i].port[0] = s->worker[i].port[1] = -1;
    }
    int rc = tables_create(cfg->maglev_size != 0 ? cfg->maglev_size : MAGLEV_SIZE_DEFAULT,
                           &s->tables);
    if (rc == 0)
        rc = counts_create(s);
    if (rc == 0)
        rc = verbs_create(s);
    if (rc < 0)
        return rc;
    s->table = table_current(s->tables);
    rc = holding_create(s);
    return rc < 0 ? rc : aide_start(s);
}

/* Sockets of a steering that was killed; the control socket says we are alone. */
static void remove_stale_sockets(const char *folder)
{
    struct dirent *entry;
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');
        if (dot != NULL && strcmp(dot, ".memif") == 0)
            unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
}

static uint32_t buffers_needed(const struct steer *s)
{
    const struct site_front *cfg = &s->front;
    return MBUFS + s->hold->packets_max +
           (strncmp(cfg->inside.port, "net_af_xdp", 10) == 0 ? MBUFS_XDP : 0) +
           (strncmp(cfg->outside.port, "net_af_xdp", 10) == 0 ? MBUFS_XDP : 0);
}

static int start_dpdk(struct steer *s, char *err, uint32_t err_len)
{
    uint32_t buffers = buffers_needed(s);
    uint32_t buffers_mb = (uint32_t)(((uint64_t)buffers * (s->room + 512)) >> 20);
    uint32_t memory_mb = MEMORY_MB > 2 * buffers_mb ? MEMORY_MB : 2 * buffers_mb;
    int rc = dpdk_start("lethe-steer", NULL, memory_mb, err, err_len);
    if (rc < 0)
        return rc;
    s->pool = rte_pktmbuf_pool_create("packets", buffers, MBUF_CACHE, 0,
                                      (uint16_t)(s->room + RTE_PKTMBUF_HEADROOM), SOCKET_ID_ANY);
    if (s->pool == NULL) {
        snprintf(err, err_len, "no memory for %u packet buffers of %u bytes (%u MB were asked for)",
                 buffers, s->room, memory_mb);
        return -ENOMEM;
    }
    rc = edges_open(s, err, err_len);
    return rc < 0 ? rc : tunnel_open(s, err, err_len);
}

static void close_ports(struct steer *s)
{
    for (unsigned i = 0; s->worker != NULL && i < s->workers_max; i++)
        for (int side = 0; side < 2; side++)
            if (s->worker[i].port[side] >= 0)
                dpdk_port_remove((uint16_t)s->worker[i].port[side]);
    tunnel_close(s);
    for (int side = 0; side < 2; side++)
        if (s->edge[side].port >= 0)
            dpdk_port_remove((uint16_t)s->edge[side].port);
}

static int serve_metrics(struct steer *s, const struct options *o, struct control *control,
                         struct metrics_http **http, char *err, uint32_t err_len)
{
    static const char *const asks[] = {"stats", "workers", NULL};
    char path[300];
    struct http_config c = {.metrics = s->metrics, .ctx = s, .address = o->metrics,
                            .healthy = probe_healthy, .ready = probe_ready,
                            .asks = o->ask ? asks : NULL, .control = control};
    snprintf(path, sizeof(path), "%s/%s.sock", s->site->run_dir, s->name);
    metrics_collector(s->metrics, probe_edges, s);
    return metrics_http_beside(http, &c, path, err, err_len);
}

static int run(struct steer *s, const struct options *o)
{
    char err[ERR_BYTES] = "";
    struct control *control = NULL;
    struct metrics_http *http = NULL;
    int status = 1;
    if (allocate(s) < 0)
        return fail("out of memory");
    if (control_start(&control, s->front.control, s->metrics, verbs_handle, s, err,
                      sizeof(err)) < 0) {
        fail(err);
    } else if (remove_stale_sockets(s->front.memif_dir),
               start_dpdk(s, err, sizeof(err)) < 0) {
        fail(err);
    } else if (serve_metrics(s, o, control, &http, err, sizeof(err)) < 0) {
        fail(err);
    } else {
        log_info("steering runs", "inside=%s outside=%s mtu=%u workers_max=%u spray=%d",
                 s->edge[0].iface, s->edge[1].iface, s->mtu, s->workers_max, s->spray);
        metric_set(s->counts.gauge[GAUGE_SPRAY], s->spray);
        struct notify *notify = notify_start(probe_healthy, probe_ready, NULL, s);
        loop_run(s, &stop);
        notify_stop(notify, true);
        log_info("steering ends", "on a signal");
        status = 0;
    }
    verbs_close(s);
    metrics_http_stop(http);
    if (control != NULL)
        control_stop(control);
    aide_stop(s); /* it opens and closes ports, too */
    dpdk_poll_begin();
    close_ports(s);
    dpdk_poll_end();
    return status;
}

static void release(struct steer *s)
{
    for (unsigned i = 0; s->worker != NULL && i < s->workers_max; i++)
        doorbell_close(s->worker[i].bell);
    verbs_destroy(s);
    hold_destroy(s->hold);
    tables_destroy(s->tables);
    metrics_destroy(s->metrics);
    trace_destroy(s->trace);
    doorbell_close(s->bell);
    free(s->worker);
}

/* Which front end of the site this is. */
static int choose_front(struct steer *s, const struct site *site, const struct options *o, char *err,
                        uint32_t err_len)
{
    const char *name = o->at != NULL ? o->at : o->name;
    int at = o->at != NULL ? site_front_at(site, o->at) : site_front_named(site, o->name);
    s->site = site;
    if (at < 0 && o->at != NULL) {
        snprintf(err, err_len, "no front end of the site has `tunnel: {address: %s}`; --at takes the "
                 "tunnel's address of steering, or of one of steering.more", o->at);
        return -ENOENT;
    }
    if (at < 0) {
        snprintf(err, err_len, site_fronts(site) == 0 ? "the site has no `steering:`, so there is no "
                 "front end '%s'" : "the site has no front end '%s'; --name takes " SITE_FRONT_FIRST
                 " or a name of steering.more", name);
        return -ENOENT;
    }
    s->front = site_front(site, (unsigned)at);
    s->name = s->front.name;
    log_init("lethe-steer", s->name, o->verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    snprintf(s->bell_path, sizeof(s->bell_path), "%s/%s.bell", site->run_dir, s->name);
    return 0;
}

int main(int argc, char **argv)
{
    static struct steer s;
    struct options o = {0};
    struct site *site = NULL;
    char err[ERR_BYTES] = "";
    int status = read_options(argc, argv, &o);
    if (status != 0 || o.done)
        return status;
    log_init("lethe-steer", o.at != NULL ? o.at : o.name, o.verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    if (site_load(o.config, NULL, 0, &site, NULL, err, sizeof(err)) < 0)
        return fail(err);
    s.spray = o.spray;
    if (choose_front(&s, site, &o, err, sizeof(err)) < 0 || prepare(&s, err, sizeof(err)) < 0) {
        status = fail(err);
    } else if (o.check) {
        puts("lethe-steer: the site and its edges are fit");
    } else {
        catch_signals();
        status = doorbell_create(s.bell_path, &s.bell, err, sizeof(err)) < 0 ? fail(err) : run(&s, &o);
        release(&s);
    }
    site_free(site, NULL, 0, NULL);
    return status;
}
