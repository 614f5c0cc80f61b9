/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line of lethe-store (options.h). */
#include "statestore/server/options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/wire/address.h"

const char options_help[] =
    "lethe-store: one replica of Lethe's state store.\n"
    "\n"
    "  lethe-store --standalone --listen HOST:PORT [--listen-shm PATH] [--listen-verbs HOST:PORT]\n"
    "              [--shards N] [--control PATH]\n"
    "  lethe-store -c site.yaml --node NAME [--accept-loss]\n"
    "\n"
    "Shard i listens on PORT + i and has a thread of its own.\n"
    "\n"
    "  -c, --config FILE   the site; NAME is one of its store nodes. With store.etcd its\n"
    "                      nodes agree there on who replicates which shard: a backup takes\n"
    "                      over from a dead primary, a spare joins. Without it the first\n"
    "                      node is the primary for ever, the second its backup. No reply\n"
    "                      leaves before all replicas in the view have it.\n"
    "      --node NAME     which node of the site this process is\n"
    "      --bind ADDR     with -c: listen by tcp on this address of the host, for example 0.0.0.0,\n"
    "                      where the node's `listen` is not the host's own: a service's name, say\n"
    "      --accept-loss   with store.etcd: serve a shard of whose replicas nobody is left,\n"
    "                      which is proven; else it refuses (LOST), see the control verb.\n"
    "                      Without: the primary serves at once, although what an earlier one\n"
    "                      held is not here; else a primary that starts empty waits for its\n"
    "                      backup, and if that still holds state it refuses (LOST).\n"
    "      --standalone    one node without a backup and without a configuration file\n"
    "      --listen ADDR   address of shard 0, for example 127.0.0.1:7400; port 0 takes any\n"
    "                      free port for each shard and logs it\n"
    "      --listen-shm PATH   for programs of this host, by shared memory: sockets PATH.0, PATH.1...\n"
    "      --listen-verbs ADDR  by RDMA, on the address of an RDMA device's network interface\n"
    "      --shards N      1 to 16; with --standalone only (default 1)\n"
    "      --control PATH  Unix socket that answers `stats`, `digest`, `map`, and takes orders:\n"
    "                      move, lend, hand-over, rebalance, accept-loss (each says how it is\n"
    "                      written); with -c it is <run_dir>/<NAME>.sock unless given, with\n"
    "                      --standalone none\n"
    "      --metrics ADDR  serve /metrics, /healthz and /readyz at HOST:PORT; else they are at the\n"
    "                      Unix socket beside the control socket, <run_dir>/<NAME>.metrics.sock\n"
    "      --ask           with --metrics: answer there, too, what the control verbs `stats` and `tables`\n"
    "                      say (GET /v1/ask/stats), to whoever reaches that port\n"
    "      --check         read the configuration, say what is wrong with it, and exit\n"
    "  -v, --verbose       log more\n"
    "  -h, --help          this text\n"
    "      --version       the version\n"
    "\n"
    "SIGTERM: hand over what this node is the primary of, accept and read no more, answer\n"
    "what is held, exit 0. A second one exits at once. Exit status: 0, 1 (cannot run; the reason is on stderr), 2 (wrong option).\n"
    "\n"
    "Try it:\n"
    "  lethe-store --standalone --listen 127.0.0.1:7400 --control /tmp/store.sock &\n"
    "  echo stats | nc -U -N /tmp/store.sock      (nc of the package netcat-openbsd)\n"
    "Of a site: echo \"hand-over 0\" | nc -U -N /run/lethe/store-a.sock\n";

enum { OPT_NODE = 256, OPT_ACCEPT, OPT_STANDALONE, OPT_LISTEN, OPT_SHARDS, OPT_CONTROL,
       OPT_CHECK, OPT_VERSION, OPT_SHM, OPT_VERBS, OPT_METRICS,
       OPT_BIND, OPT_ASK };

static const struct option longs[] = {
    {"config", required_argument, NULL, 'c'},
    {"node", required_argument, NULL, OPT_NODE},
    {"accept-loss", no_argument, NULL, OPT_ACCEPT},
    {"standalone", no_argument, NULL, OPT_STANDALONE},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"listen-shm", required_argument, NULL, OPT_SHM},
    {"listen-verbs", required_argument, NULL, OPT_VERBS},
    {"shards", required_argument, NULL, OPT_SHARDS},
    {"control", required_argument, NULL, OPT_CONTROL},
    {"metrics", required_argument, NULL, OPT_METRICS},
    {"bind", required_argument, NULL, OPT_BIND},
    {"ask", no_argument, NULL, OPT_ASK},
    {"check", no_argument, NULL, OPT_CHECK},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPT_VERSION},
    {NULL, 0, NULL, 0}};

static int take_shards(struct options *o, const char *text, char *err, uint32_t err_len)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (*end || end == text || n < 1 || n > STORE_SHARDS_MAX) {
        snprintf(err, err_len, "--shards %s: write a number from 1 to %d", text,
                 STORE_SHARDS_MAX);
        return OPTIONS_USAGE;
    }
    o->shards = (unsigned)n;
    return 0;
}

static int take(struct options *o, int opt, char **argv, char *err, uint32_t err_len)
{
    switch (opt) {
    case 'c': o->config_path = optarg; return 0;
    case 'v': o->verbose = true; return 0;
    case 'h': o->help = true; return 0;
    case OPT_NODE: o->node = optarg; return 0;
    case OPT_ACCEPT: o->accept_loss = true; return 0;
    case OPT_STANDALONE: o->standalone = true; return 0;
    case OPT_LISTEN: o->listen = optarg; return 0;
    case OPT_SHM: o->listen_shm = optarg; return 0;
    case OPT_VERBS: o->listen_verbs = optarg; return 0;
    case OPT_SHARDS: return take_shards(o, optarg, err, err_len);
    case OPT_CONTROL: o->control_path = optarg; return 0;
    case OPT_METRICS: o->metrics = optarg; return 0;
    case OPT_BIND: o->bind = optarg; return 0;
    case OPT_ASK: o->ask = true; return 0;
    case OPT_CHECK: o->check = true; return 0;
    case OPT_VERSION: o->version = true; return 0;
    default:
        snprintf(err, err_len, "%s: %s; try --help", argv[optind - 1],
                 opt == ':' ? "needs an argument" : "no such option");
        return OPTIONS_USAGE;
    }
}

static int wrong_combination(const struct options *o, char *err, uint32_t err_len)
{
    const char *why = NULL;
    if (o->standalone == (o->config_path != NULL))
        why = o->standalone ? "--standalone and -c exclude each other"
                            : "say either --standalone --listen HOST:PORT or -c FILE --node NAME";
    else if (o->standalone && !o->listen)
        why = "--standalone needs --listen HOST:PORT, for example --listen 127.0.0.1:7400";
    else if (o->standalone && o->bind)
        why = "--bind goes with -c; here --listen says where";
    else if (o->ask && (!o->metrics || (o->standalone && !o->control_path)))
        why = "--ask goes with --metrics HOST:PORT and a control socket (--standalone: --control PATH)";
    else if (o->config_path && !o->node && !o->check)
        why = "-c needs --node NAME: which of the site's store nodes am I?";
    else if (o->config_path && (o->listen || o->listen_shm || o->listen_verbs || o->shards))
        why = "with -c, addresses and shards stand in the file: drop --listen... and --shards";
    if (!why)
        return 0;
    snprintf(err, err_len, "%s; try --help", why);
    return OPTIONS_USAGE;
}

/* --- the two ways to run ----------------------------------------------------------------- */

static int standalone(struct options *o, char *err, uint32_t err_len)
{
    o->node = o->node ? o->node : "store";
    o->store.node = 1;
    o->store.shards = (uint16_t)(o->shards ? o->shards : 1);
    o->store.listen = o->listen;
    o->store.listen_shm = o->listen_shm;
    o->store.listen_verbs = o->listen_verbs;
    if (o->control_path && strlen(o->control_path) >= sizeof o->control) {
        snprintf(err, err_len, "--control %s: a socket's path has at most %zu characters",
                 o->control_path, sizeof o->control - 1);
        return OPTIONS_USAGE;
    }
    snprintf(o->control, sizeof o->control, "%s", o->control_path ? o->control_path : "");
    return 0;
}

static int find_node(const struct site *site, const char *name)
{
    for (unsigned i = 0; i < site->store.nodes_count; i++)
        if (!strcmp(site->store.nodes[i].name, name))
            return (int)i;
    return -1;
}

static int check_site(const struct options *o, char *err, uint32_t err_len)
{
    const struct site *site = o->site;
    if (o->node && find_node(site, o->node) < 0) {
        snprintf(err, err_len, "%s: store: nodes: there is no node \"%s\"; the first is \"%s\"",
                 o->config_path, o->node, site->store.nodes_count ? site->store.nodes[0].name : "");
        return OPTIONS_CONFIG;
    }
    return 0;
}

static int load_tenant(struct auth_tenant *t, const struct site_tenant *from, char *err,
                       uint32_t err_len)
{
    t->name = from->name;
    t->tables = (const char *const *)from->tables;
    t->ntables = from->tables_count;
    return auth_secret_load(from->secret_file, &t->secret, err, err_len);
}

/* The secrets of the site, if it has any. */
static int load_secrets(struct options *o, char *err, uint32_t err_len)
{
    const struct site_store *st = &o->site->store;
    char why[300];
    int rc = 0;
    if (!st->tenants_count && !st->replica_secret_file)
        return 0;
    if (!(o->auth = calloc(1, sizeof *o->auth))) {
        snprintf(err, err_len, "out of memory");
        return OPTIONS_CONFIG;
    }
    o->store.auth = o->auth;
    if (st->replica_secret_file)
        rc = auth_secret_load(st->replica_secret_file, &o->auth->replicas, why, sizeof why);
    for (unsigned i = 0; !rc && i < st->tenants_count && i < AUTH_TENANTS_MAX; i++, o->auth->ntenants++)
        rc = load_tenant(&o->auth->tenants[i], &st->tenants[i], why, sizeof why);
    if (!rc)
        return 0;
    snprintf(err, err_len, "%s: store: %s", o->config_path, why);
    return OPTIONS_CONFIG;
}

/* Of tables, and of tenants' tables; both as the file has them. */
static void load_limits(struct options *o)
{
    const struct site_store *st = &o->site->store;
    struct store_config *c = &o->store;
    c->limits = o->limits;
    for (unsigned i = 0; i < st->limits_count && c->nlimits < OPTIONS_LIMITS_MAX; i++)
        o->limits[c->nlimits++] = (struct shard_limit){
            .who = "store.limits", .patterns = (const char *const *)st->limits[i].tables,
            .npatterns = st->limits[i].tables_count,
            .bytes = (uint64_t)st->limits[i].memory_mb << 20};
    for (unsigned i = 0; i < st->tenants_count && c->nlimits < OPTIONS_LIMITS_MAX; i++) {
        const struct site_tenant *t = &st->tenants[i];
        if (!t->memory_mb)
            continue;
        snprintf(o->limit_names[i], sizeof o->limit_names[i], "tenant %s", t->name);
        o->limits[c->nlimits++] = (struct shard_limit){
            .who = o->limit_names[i], .patterns = (const char *const *)t->tables,
            .npatterns = t->tables_count, .bytes = (uint64_t)t->memory_mb << 20};
    }
}

static int control_path(struct options *o, char *err, uint32_t err_len)
{
    char path[4096];
    if (o->control_path)
        snprintf(path, sizeof path, "%s", o->control_path);
    else
        snprintf(path, sizeof path, "%s/%s.sock", o->site->run_dir ? o->site->run_dir : ".",
                 o->node);
    if (strlen(path) >= sizeof o->control) {
        snprintf(err, err_len, "%s: a socket's path has at most %zu characters; choose a shorter "
                 "run_dir", path, sizeof o->control - 1);
        return OPTIONS_CONFIG;
    }
    memcpy(o->control, path, strlen(path) + 1);
    return 0;
}

/* The port is the site's: with that the others dial. */
static int bind_elsewhere(struct options *o, char *err, uint32_t err_len)
{
    char host[ADDRESS_HOST_MAX];
    uint8_t binary[16];
    uint16_t port;
    if (!o->bind)
        return 0;
    o->store.known = o->store.listen;
    if (address_split(o->store.listen, host, &port, err, err_len))
        return OPTIONS_CONFIG;
    bool six = strchr(o->bind, ':');
    if (inet_pton(six ? AF_INET6 : AF_INET, o->bind, binary) != 1) {
        snprintf(err, err_len, "--bind %s: write an address of this host, without a port, or 0.0.0.0 "
                 "for all", o->bind);
        return OPTIONS_USAGE;
    }
    snprintf(o->bound, sizeof o->bound, six ? "[%s]:%u" : "%s:%u", o->bind, port);
    o->store.listen = o->bound;
    return 0;
}

static int from_site(struct options *o, char *err, uint32_t err_len)
{
    if (site_load(o->config_path, NULL, 0, &o->site, NULL, err, err_len))
        return OPTIONS_CONFIG;
    int rc = check_site(o, err, err_len);
    if (rc || !o->node)
        return rc;
    const struct site_store *st = &o->site->store;
    int me = find_node(o->site, o->node);
    o->store.node = (uint32_t)me + 1;
    o->store.shards = (uint16_t)st->shards;
    o->store.listen = st->nodes[me].listen;
    o->store.listen_shm = st->nodes[me].shm;
    o->store.listen_verbs = st->nodes[me].verbs;
    for (unsigned i = 0; i < st->nodes_count; i++)
        o->nodes[i] = (struct store_node){st->nodes[i].name, st->nodes[i].listen,
                                          st->nodes[i].verbs};
    o->store.nodes = o->nodes;
    o->store.nnodes = st->nodes_count;
    o->store.etcd = (const char *const *)st->etcd;
    o->store.netcd = st->etcd_count;
    o->store.etcd_prefix = st->etcd_prefix;
    o->store.etcd_tls = (struct etcd_tls){st->etcd_ca, st->etcd_cert, st->etcd_key};
    o->store.copies = st->copies;
    o->store.min_copies = st->min_copies;
    load_limits(o);
    o->store.failure_timeout_ms = o->site->failure_timeout_ms;
    o->store.client_lease_ms = st->client_lease_ms;
    o->store.memory_bytes = (uint64_t)st->memory_mb * 1024 * 1024;
    if (o->accept_loss && me && !st->etcd_count)
        return snprintf(err, err_len, "--accept-loss is the primary's; %s is a backup", o->node),
               OPTIONS_USAGE;
    rc = bind_elsewhere(o, err, err_len);
    if (!rc)
        rc = load_secrets(o, err, err_len);
    return rc ? rc : control_path(o, err, err_len);
}

int options_parse(struct options *o, int argc, char **argv, char *err, uint32_t err_len)
{
    int opt, rc = 0;
    *o = (struct options){0};
    optind = 1;
    opterr = 0;
    while (!rc && (opt = getopt_long(argc, argv, ":c:vh", longs, NULL)) != -1)
        rc = take(o, opt, argv, err, err_len);
    if (rc || o->help || o->version)
        return rc;
    if (optind < argc) {
        snprintf(err, err_len, "%s: what is this? try --help", argv[optind]);
        return OPTIONS_USAGE;
    }
    rc = wrong_combination(o, err, err_len);
    if (rc)
        return rc;
    o->store.threads = true;
    o->store.spin_us = STORE_SPIN_US;
    o->store.accept_loss = o->accept_loss;
    return o->standalone ? standalone(o, err, err_len) : from_site(o, err, err_len);
}

void options_free(struct options *o)
{
    if (o->auth) {
        auth_secret_wipe(&o->auth->replicas);
        for (uint32_t i = 0; i < AUTH_TENANTS_MAX; i++)
            auth_secret_wipe(&o->auth->tenants[i].secret);
        free(o->auth);
    }
    o->auth = NULL;
    if (o->site)
        site_free(o->site, NULL, 0, NULL);
    o->site = NULL;
}
