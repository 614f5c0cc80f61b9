/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line of lethe-nf (options.h). */
#include "nf/worker/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/packet/packet.h"

static const char help[] =
    "lethe-nf: a worker: runs the site's chain of network functions, keeps no state.\n"
    "\n"
    "  lethe-nf -c site.yaml --worker w1          joins steering and serves packets\n"
    "  lethe-nf -c site.yaml --check              reads the configuration, says what it means\n"
    "  lethe-nf -c site.yaml --explain            what the chain asks of the store\n"
    "  lethe-nf -c site.yaml --worker w1 \\\n"
    "    --port inside=net_af_packet0,iface=eth1 --port outside=net_af_packet1,iface=eth2\n"
    "                                             without steering, on ports of its own\n"
    "\n"
    "  -c, --config FILE       the site's file (default site.yaml)\n"
    "  -w, --worker NAME       this worker's name; its control socket is <run_dir>/NAME.sock\n"
    "      --name NAME         the same\n"
    "      --port SIDE=DEVICE  SIDE is inside or outside; DEVICE any DPDK virtual device with\n"
    "                          its arguments. Both sides, or neither (then: through steering)\n"
    "      --peer SIDE=MAC     with --port: where frames that leave by SIDE go; without it, to\n"
    "                          whoever sent the newest frame on that side. Nobody answers ARP\n"
    "                          on such ports: neighbours need a fixed entry\n"
    "      --front NAME        the front end to join, one of the site's steering.more; without it,\n"
    "                          the first, steer\n"
    "      --tunnel DEVICE     join the front ends of worker.tunnel across routers, by VXLAN; DEVICE\n"
    "                          is a DPDK device on the interface towards them, which stays the\n"
    "                          kernel's, too: net_af_packet0,iface=eth0\n"
    "      --address A         with --tunnel: this one of the interface's addresses, not its first\n"
    "      --weight N          share of flows, against the other workers'; 1 to 100 [100]\n"
    "      --metrics ADDR      serve /metrics, /healthz, /readyz at HOST:PORT instead of the Unix\n"
    "                          socket <run_dir>/NAME.metrics.sock\n"
    "      --ask               with --metrics: answer there, too, what the control verbs stats and status\n"
    "                          say (GET /v1/ask/stats), to whoever reaches that port\n"
    "      --check             stop after reading the configuration; exit 0 or 2\n"
    "      --explain           say what the chain keeps, and what a new flow's packet and an\n"
    "                          established one's read and write, in which round trips\n"
    "  -o json                 --check and --explain answer in JSON\n"
    "  -v, --verbose           log more\n"
    "      --version, --help\n"
    "\n"
    "SIGTERM drains: leaves steering, finishes what is in flight, exits 0. kill -9 is safe: all\n"
    "state is in the store. Ask a running worker, one word a line:\n"
    "  echo status | nc -U -N <run_dir>/NAME.sock     (stats, status, drain; netcat-openbsd)\n"
    "Exit status: 0 drained or checked, 1 cannot serve, 2 wrong option or configuration.\n";

enum { OPT_PORT = 256, OPT_PEER, OPT_METRICS, OPT_FRONT, OPT_TUNNEL, OPT_ADDRESS, OPT_WEIGHT, OPT_CHECK, OPT_EXPLAIN,
       OPT_VERSION, OPT_HELP, OPT_ASK };

static const struct option longs[] = {
    {"config", required_argument, NULL, 'c'},
    {"worker", required_argument, NULL, 'w'},
    {"name", required_argument, NULL, 'w'},
    {"port", required_argument, NULL, OPT_PORT},
    {"peer", required_argument, NULL, OPT_PEER},
    {"metrics", required_argument, NULL, OPT_METRICS},
    {"front", required_argument, NULL, OPT_FRONT},
    {"tunnel", required_argument, NULL, OPT_TUNNEL},
    {"address", required_argument, NULL, OPT_ADDRESS},
    {"weight", required_argument, NULL, OPT_WEIGHT},
    {"ask", no_argument, NULL, OPT_ASK},
    {"check", no_argument, NULL, OPT_CHECK},
    {"explain", no_argument, NULL, OPT_EXPLAIN},
    {"verbose", no_argument, NULL, 'v'},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, OPT_HELP},
    {"output", required_argument, NULL, 'o'},
    {NULL, 0, NULL, 0},
};

static bool wrong(const char *what, const char *arg, const char *instead)
{
    fprintf(stderr, "lethe-nf: %s%s%s; %s (see lethe-nf --help)\n", what, *arg ? " " : "", arg,
            instead);
    return false;
}

/* "inside=rest": the side's number, and the rest; -1 if it is not so. */
static int side_of(const char *arg, const char **rest)
{
    static const char *const names[] = {[SIDE_INSIDE] = "inside=", [SIDE_OUTSIDE] = "outside="};
    for (int side = 0; side < 2; side++) {
        size_t n = strlen(names[side]);
        if (!strncmp(arg, names[side], n) && arg[n]) {
            *rest = arg + n;
            return side;
        }
    }
    return -1;
}

static bool parse_port(struct options *o, const char *arg)
{
    const char *device;
    int side = side_of(arg, &device);
    if (side < 0)
        return wrong("--port", arg, "write inside=DEVICE or outside=DEVICE");
    o->port[side] = device;
    return true;
}

static bool parse_peer(struct options *o, const char *arg)
{
    const char *mac;
    unsigned b[6];
    char end;
    int side = side_of(arg, &mac);
    if (side < 0 || sscanf(mac, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4],
                           &b[5], &end) != 6)
        return wrong("--peer", arg, "write inside=02:00:00:00:00:01 or outside=...");
    for (int i = 0; i < 6; i++)
        o->peer[side][i] = (uint8_t)b[i];
    o->peer_given[side] = true;
    return true;
}

static bool parse_weight(struct options *o, const char *arg)
{
    char *end;
    unsigned long n = strtoul(arg, &end, 10);
    if (*end || end == arg || n < 1 || n > 100)
        return wrong("--weight", arg, "write a number from 1 to 100");
    o->weight = (unsigned)n;
    return true;
}

static bool name_ok(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    return n >= 1 && n <= 31 && name[n] == '\0' && name[0] != '.' && name[0] != '-' &&
           name[0] != '_';
}

static bool together(const struct options *o)
{
    if (!o->port[0] != !o->port[1])
        return wrong("--port for one side only", "", "give it for inside and for outside");
    if ((o->peer_given[0] || o->peer_given[1]) && !o->port[0])
        return wrong("--peer", "", "it goes with --port; steering tells its own addresses");
    if (o->front && o->port[0])
        return wrong("--front", o->front, "it goes without --port: such a worker joins nobody");
    if (o->address && !o->tunnel)
        return wrong("--address", o->address, "it goes with --tunnel");
    if (o->ask && !o->metrics)
        return wrong("--ask", "", "it goes with --metrics HOST:PORT");
    if (o->tunnel && (o->port[0] || o->front))
        return wrong("--tunnel", "", o->front ? "--front is for memif; worker.tunnel.steering says where a "
                                                "tunnel goes" : "it goes to steering; --port goes without");
    if (!o->check && !o->explain && !o->name)
        return wrong("no name", "", "add --worker NAME, for example --worker w1");
    if (o->name && !name_ok(o->name))
        return wrong("--worker", o->name,
                     "a name has 1 to 31 letters, digits, '.', '_' or '-' and starts with a "
                     "letter or digit");
    return true;
}

static bool take(struct options *o, int c)
{
    switch (c) {
    case 'c':
        o->config = optarg;
        return true;
    case 'w':
        o->name = optarg;
        return true;
    case OPT_PORT:
        return parse_port(o, optarg);
    case OPT_PEER:
        return parse_peer(o, optarg);
    case OPT_METRICS:
        o->metrics = optarg;
        return true;
    case OPT_FRONT:
        o->front = optarg;
        return true;
    case OPT_TUNNEL:
        o->tunnel = optarg;
        return true;
    case OPT_ADDRESS:
        o->address = optarg;
        return true;
    case OPT_WEIGHT:
        return parse_weight(o, optarg);
    case OPT_ASK:
        o->ask = true;
        return true;
    case OPT_CHECK:
        o->check = true;
        return true;
    case OPT_EXPLAIN:
        o->explain = true;
        return true;
    case 'o':
        o->json = !strcmp(optarg, "json");
        return o->json || wrong("-o", optarg, "the only other output is json");
    case 'v':
        o->verbose = true;
        return true;
    default: /* getopt has said what is wrong */
        fprintf(stderr, "lethe-nf: see lethe-nf --help\n");
        return false;
    }
}

bool options_parse(int argc, char **argv, struct options *o, int *exit_status)
{
    *o = (struct options){.config = "site.yaml", .weight = 100};
    *exit_status = EXIT_USAGE;
    for (int c; (c = getopt_long(argc, argv, "c:w:o:v", longs, NULL)) != -1;) {
        if (c == OPT_HELP || c == OPT_VERSION) {
            fputs(c == OPT_HELP ? help : "lethe-nf " LETHE_VERSION "\n", stdout);
            *exit_status = 0;
            return false;
        }
        if (!take(o, c))
            return false;
    }
    if (optind < argc)
        return wrong("unexpected argument", argv[optind], "options start with a dash");
    return together(o);
}
