/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lethe-nexthop: keeps routes to those front ends that serve. It runs beside a router (Linux), one
 * for each side of the site.
 *
 *   ping.c   asks and hears          watch.c  decides (pure)          route.c  tells the kernel
 *
 * One thread; a round at least every ROUND_MS. What is to be is written when it changes, when the
 * kernel lost it (a link that went down, somebody's `ip route del`), and again until it succeeds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log/log.h"
#include "common/metrics/control.h"
#include "common/metrics/http.h"
#include "common/metrics/notify.h"
#include "steering/nexthop/ping.h"
#include "steering/nexthop/route.h"
#include "steering/nexthop/watch.h"

enum {
    ROUND_MS = 20,             /* below health.h's step, so that time is not lost */
    PROBES = 4,                /* of a time-out, as health.c sends them */
    INTERVAL_MS = 125, INTERVAL_MOST_MS = 2500,
    AGAIN_US = 500 * 1000,     /* a route that could not be put */
    STILL_US = 2000 * 1000,    /* a loop without a round for so long stands still */
    ROUTES_MAX = 16, ERR_BYTES = 300, LIST_BYTES = WATCH_MAX * INET_ADDRSTRLEN + WATCH_MAX,
};

static volatile sig_atomic_t stop;

static const char help[] =
    "lethe-nexthop: keeps a router's routes to those front ends of a site that serve\n"
    "\n"
    "  lethe-nexthop --route 203.0.113.0/28 --via 198.51.100.1 --via 198.51.100.3 --dev out\n"
    "\n"
    "      --route PREFIX  or `default`; several may be given. It is put into the main table, with all\n"
    "                      next hops that answer, in place of one with the same prefix and metric\n"
    "      --via ADDRESS   a next hop: the address of a front end's edge; up to 8\n"
    "      --dev NAME      the interface that leads to them  [the kernel finds out]\n"
    "      --metric N      of the routes  [none]\n"
    "      --interval MS   between two pings of a next hop; silence of four takes it out  [125]\n"
    "      --metrics ADDR  serve /metrics, /healthz, /readyz at HOST:PORT or a Unix socket's path\n"
    "  -v, --verbose       log more\n"
    "  -h, --help          this text\n"
    "      --version       the version\n"
    "\n"
    "lethe-steer answers ping at its edges while a worker of its own is healthy; killed, stopped or\n"
    "without workers it is silent. Who is silent for four intervals is taken out of the routes; after\n"
    "two answers it is back. The last one is never taken out: if none answers, those that answered\n"
    "last stay. A router spreads connections, and not hosts, with\n"
    "  sysctl -w net.ipv4.fib_multipath_hash_policy=1\n"
    "\n"
    "SIGTERM ends it and leaves the routes as they are: nobody watches them from then on. It needs\n"
    "CAP_NET_RAW and CAP_NET_ADMIN. Exit status: 0 ended by a signal, 1 cannot start, 2 wrong option.\n";

struct options {
    struct route routes[ROUTES_MAX];
    unsigned nroutes, nhops;
    uint32_t hops[WATCH_MAX], metric;
    char name[WATCH_MAX][INET_ADDRSTRLEN];
    const char *dev, *metrics;
    unsigned interval_ms;
    bool verbose;
};

struct nexthop {
    struct options o;
    struct watch watch;
    struct ping *ping;
    struct routes *routes;
    struct metrics *metrics;
    struct metrics_http *http;
    struct notify *notify;
    _Atomic uint64_t round_us; /* the loop's last, for the supervisor's thread */
    struct metric *in_route[WATCH_MAX], *answers[WATCH_MAX], *probes, *withdrawn, *returned, *kept, *failures;
    uint64_t put;              /* the members that the kernel was told; 0: none yet */
    int error;                 /* of the last attempt, said once */
    uint64_t again_us;         /* when it is made again */
};

/* --- options --------------------------------------------------------------------------------- */

static int usage(const char *what, const char *value)
{
    fprintf(stderr, "lethe-nexthop: %s%s%s; see lethe-nexthop --help\n", what, *value ? " " : "", value);
    return 2;
}

static bool number(const char *text, unsigned long least, unsigned long most, unsigned *to)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || n < least || n > most)
        return false;
    *to = (unsigned)n;
    return true;
}

static bool take_route(struct options *o, const char *text)
{
    char address[INET_ADDRSTRLEN];
    unsigned length = 32;
    const char *slash = strchr(text, '/');
    if (o->nroutes == ROUTES_MAX)
        return false;
    struct route *r = &o->routes[o->nroutes];
    if (!strcmp(text, "default")) {
        text = "0.0.0.0/0";
        slash = text + strlen("0.0.0.0");
    }
    size_t n = slash ? (size_t)(slash - text) : strlen(text);
    if (n >= sizeof address || (slash && !number(slash + 1, 0, 32, &length)))
        return false;
    snprintf(address, sizeof address, "%.*s", (int)n, text);
    if (inet_pton(AF_INET, address, &r->prefix) != 1)
        return false;
    r->length = (uint8_t)length;
    o->nroutes++;
    return !(r->prefix & ~(length ? htonl(~0u << (32 - length)) : 0));
}

static bool take_via(struct options *o, const char *text)
{
    uint32_t address;
    if (o->nhops == WATCH_MAX || inet_pton(AF_INET, text, &address) != 1)
        return false;
    for (unsigned i = 0; i < o->nhops; i++)
        if (o->hops[i] == address)
            return false;
    o->hops[o->nhops] = address;
    inet_ntop(AF_INET, &address, o->name[o->nhops++], INET_ADDRSTRLEN);
    return true;
}

enum { OPT_ROUTE = 256, OPT_VIA, OPT_DEV, OPT_METRIC, OPT_INTERVAL, OPT_METRICS, OPT_VERSION };

/* 0: go on; else *status is the exit status. */
static int take(struct options *o, int c, int *status)
{
    *status = 2;
    switch (c) {
    case OPT_ROUTE:
        return take_route(o, optarg) ? 0 : usage("--route takes a prefix such as 203.0.113.0/28, 16 at most, not", optarg);
    case OPT_VIA:
        return take_via(o, optarg) ? 0 : usage("--via takes 8 different IPv4 addresses at most, not", optarg);
    case OPT_DEV:
        o->dev = optarg;
        return 0;
    case OPT_METRIC:
        return number(optarg, 0, UINT32_MAX, &o->metric) ? 0 : usage("--metric takes a number, not", optarg);
    case OPT_INTERVAL:
        return number(optarg, 5, INTERVAL_MOST_MS, &o->interval_ms) ? 0 : usage("--interval takes 5 to 2500 ms, not",
                                                                               optarg);
    case OPT_METRICS:
        o->metrics = optarg;
        return 0;
    case 'v':
        o->verbose = true;
        return 0;
    case 'h':
    case OPT_VERSION:
        fputs(c == 'h' ? help : "lethe-nexthop " LETHE_VERSION "\n", stdout);
        *status = 0;
        return 1;
    default:
        return usage("wrong option", "");
    }
}

/* True: go on. */
static bool read_options(int argc, char **argv, struct options *o, int *status)
{
    static const struct option known[] = {
        {"route", required_argument, NULL, OPT_ROUTE}, {"via", required_argument, NULL, OPT_VIA},
        {"dev", required_argument, NULL, OPT_DEV}, {"metric", required_argument, NULL, OPT_METRIC},
        {"interval", required_argument, NULL, OPT_INTERVAL}, {"metrics", required_argument, NULL, OPT_METRICS},
        {"verbose", no_argument, NULL, 'v'}, {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, OPT_VERSION}, {NULL, 0, NULL, 0}};
    *o = (struct options){.interval_ms = INTERVAL_MS};
    for (int c; (c = getopt_long(argc, argv, "vh", known, NULL)) >= 0;)
        if (take(o, c, status))
            return false;
    *status = 2;
    if (optind < argc)
        return usage("there are words that are no option:", argv[optind]), false;
    if (!o->nroutes || !o->nhops)
        return usage("it takes at least one --route and one --via", ""), false;
    for (unsigned i = 0; i < o->nroutes; i++)
        o->routes[i].metric = o->metric;
    return true;
}

/* --- the kernel is told ------------------------------------------------------------------------ */

static void list(const struct nexthop *x, uint64_t members, char to[LIST_BYTES])
{
    size_t used = 0;
    *to = 0;
    for (unsigned i = 0; i < x->o.nhops; i++)
        if (members >> i & 1)
            used += (size_t)snprintf(to + used, LIST_BYTES - used, "%s%s", used ? "," : "", x->o.name[i]);
}

static void put(struct nexthop *x, uint64_t now_us)
{
    uint32_t hops[WATCH_MAX];
    unsigned n = 0;
    int error = 0;
    char names[LIST_BYTES];
    for (unsigned i = 0; i < x->o.nhops; i++)
        if (x->watch.members >> i & 1)
            hops[n++] = x->o.hops[i];
    for (unsigned i = 0; i < x->o.nroutes; i++) {
        int rc = routes_put(x->routes, &x->o.routes[i], hops, n, x->o.dev);
        error = error ? error : rc;
    }
    list(x, x->watch.members, names);
    if (error && error != x->error)
        log_error("route not put", "via=%s cause=\"%s\" it is tried again", names, strerror(-error));
    else if (!error && (x->put != x->watch.members || x->error))
        log_info("route put", "via=%s routes=%u", names, x->o.nroutes);
    x->error = error;
    x->again_us = now_us + AGAIN_US;
    if (error)
        metric_add(x->failures, 1);
    else
        x->put = x->watch.members;
}

/* What changed, and why, for people. */
static void tell(struct nexthop *x, uint64_t before)
{
    uint64_t gone = before & ~x->watch.members, come = x->watch.members & ~before;
    for (unsigned i = 0; i < x->o.nhops; i++) {
        metric_set(x->in_route[i], x->watch.members >> i & 1);
        if (gone >> i & 1)
            log_warn("next hop withdrawn", "via=%s left=%d cause=\"no answer to ping for %u ms\"", x->o.name[i],
                     __builtin_popcountll(x->watch.members), PROBES * x->o.interval_ms);
        if (come >> i & 1)
            log_info("next hop returned", "via=%s cause=\"it answers ping\"", x->o.name[i]);
    }
    metric_add(x->withdrawn, (uint64_t)__builtin_popcountll(gone));
    metric_add(x->returned, (uint64_t)__builtin_popcountll(come));
    if (x->watch.kept && !metric_get(x->kept))
        log_warn("no next hop answers, the last ones stay", "left=%d", __builtin_popcountll(x->watch.members));
    metric_set(x->kept, x->watch.kept);
}

/* --- rounds -------------------------------------------------------------------------------------- */

static uint64_t monotonic_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void hear(struct nexthop *x)
{
    uint32_t address;
    uint64_t seq;
    while (ping_receive(x->ping, &address, &seq))
        for (unsigned i = 0; i < x->o.nhops; i++)
            if (x->o.hops[i] == address && watch_answered(&x->watch, i, seq))
                metric_add(x->answers[i], 1);
}

static void one_round(struct nexthop *x)
{
    uint64_t now_us = monotonic_us(), before = x->watch.members, seq;
    x->round_us = now_us;
    hear(x);
    if (watch_tick(&x->watch, now_us))
        tell(x, before);
    bool now = x->watch.members != before || routes_changed(x->routes);
    if (x->watch.settled && (now || (x->put != x->watch.members && !x->error) || (x->error && now_us >= x->again_us)))
        put(x, now_us);
    for (unsigned i = 0; i < x->o.nhops; i++)
        if (watch_due(&x->watch, i, &seq)) {
            ping_send(x->ping, x->o.hops[i], seq);
            metric_add(x->probes, 1);
        }
}

static void run(struct nexthop *x)
{
    while (!stop) {
        struct pollfd fds[] = {{.fd = ping_fd(x->ping), .events = POLLIN},
                               {.fd = routes_fd(x->routes), .events = POLLIN}};
        one_round(x);
        poll(fds, 2, ROUND_MS);
    }
}

/* --- start and stop -------------------------------------------------------------------------------- */

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

static void ready(void *ctx, char *why, uint32_t len)
{
    const struct nexthop *x = ctx;
    if (metric_get(x->kept))
        snprintf(why, len, "no next hop answers");
}

static void healthy(void *ctx, char *why, uint32_t len)
{
    struct nexthop *x = ctx;
    uint64_t round_us = x->round_us, now_us = monotonic_us();
    if (round_us && now_us > round_us + STILL_US)
        snprintf(why, len, "its loop has stood still for %lu s", (unsigned long)((now_us - round_us) / 1000000));
}

static int count(struct nexthop *x)
{
    char name[120];
    x->metrics = metrics_create("nexthop");
    if (!x->metrics)
        return -ENOMEM;
    for (unsigned i = 0; i < x->o.nhops; i++) {
        snprintf(name, sizeof name, "lethe_nexthop_in_route{via=\"%s\"}", x->o.name[i]);
        x->in_route[i] = metrics_gauge(x->metrics, name, "1: the routes have this next hop");
        metric_set(x->in_route[i], 1);
    }
    for (unsigned i = 0; i < x->o.nhops; i++) {
        snprintf(name, sizeof name, "lethe_nexthop_answers_total{via=\"%s\"}", x->o.name[i]);
        x->answers[i] = metrics_counter(x->metrics, name, "pings answered");
    }
    x->probes = metrics_counter(x->metrics, "lethe_nexthop_probes_total", "pings sent");
    x->withdrawn = metrics_counter(x->metrics, "lethe_nexthop_withdrawals_total", "next hops taken out");
    x->returned = metrics_counter(x->metrics, "lethe_nexthop_returns_total", "next hops put in again");
    x->failures = metrics_counter(x->metrics, "lethe_nexthop_route_failures_total", "routes that the kernel did not take");
    x->kept = metrics_gauge(x->metrics, "lethe_nexthop_last_kept", "1: none answers, the last ones stay");
    return 0;
}

static void look_at_policy(void)
{
    FILE *f = fopen("/proc/sys/net/ipv4/fib_multipath_hash_policy", "r");
    int policy = f ? fgetc(f) : '1';
    if (f)
        fclose(f);
    if (policy == '0')
        log_warn("flows of two hosts all take one next hop", "remedy=\"sysctl -w net.ipv4.fib_multipath_hash_policy=1\"");
}

static int start(struct nexthop *x, char *err, uint32_t err_len)
{
    struct sigaction sa = {.sa_handler = on_signal};
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    watch_init(&x->watch, x->o.nhops, (uint64_t)PROBES * x->o.interval_ms * 1000, monotonic_us());
    int rc = count(x);
    if (!rc)
        rc = ping_open(&x->ping, x->o.dev, err, err_len);
    if (!rc)
        rc = routes_open(&x->routes, err, err_len);
    if (!rc && x->o.metrics) {
        struct http_config c = {.metrics = x->metrics, .address = x->o.metrics, .ready = ready, .ctx = x};
        rc = metrics_http_start(&x->http, &c, err, err_len);
    }
    return rc;
}

int main(int argc, char **argv)
{
    static struct nexthop x;
    char err[ERR_BYTES] = "out of memory";
    int status;
    if (!read_options(argc, argv, &x.o, &status))
        return status;
    status = 0;
    log_init("lethe-nexthop", "nexthop", x.o.verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    if (start(&x, err, sizeof err)) {
        log_error("cannot start", "%s", err);
        status = 1;
    } else {
        log_info("next hops are watched", "next_hops=%u routes=%u interval_ms=%u", x.o.nhops, x.o.nroutes,
                 x.o.interval_ms);
        look_at_policy();
        x.notify = notify_start(healthy, ready, NULL, &x);
        run(&x);
        notify_stop(x.notify, true);
        log_info("ends", "cause=\"a signal\" the routes stay as they are");
    }
    metrics_http_stop(x.http);
    routes_close(x.routes);
    ping_close(x.ping);
    metrics_destroy(x.metrics);
    return status;
}
