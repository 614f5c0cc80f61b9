/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * site.yaml: one file describes a site, and every program of it reads the same
 * file (libcyaml). Errors name file, line and key and what to write instead.
 * The keys, their units and defaults are commented in the sample site.yaml.
 *
 * The network functions' own configuration stands under `nfs:`; only lethe-nf
 * knows those schemas, the others skip that key.
 */
#ifndef LETHE_CONFIG_SITE_H
#define LETHE_CONFIG_SITE_H

#include <stdbool.h>
#include <stdint.h>

struct cyaml_schema_field;

enum { SITE_NODES_MAX = 16, SITE_GROUPS_MAX = 8, SITE_FRONTS_MAX = 4, SITE_TUNNEL_PORTS_MAX = 3 };
/* What the first front end, which site.yaml does not name, is called. */
#define SITE_FRONT_FIRST "steer"

struct site_node {
    char *name;
    char *listen;               /* "host:port" of shard 0; shard i at port + i */
    char *shm;                  /* sockets of its shards, for its own host: <shm>.i; NULL: none */
    char *verbs;                /* "host:port" as `listen`, by RDMA; NULL: not */
};

/* One side of the site's NFs. All NULL if the file has no `steering:`. */
struct site_side {
    char *address;              /* steering's own address on it, "10.0.0.1" */
    char *next_hop;             /* where packets leaving by this side go */
    char **serves;              /* addresses and prefixes that steering answers ARP for */
    unsigned serves_count;
    char *port;                 /* DPDK device of steering: "net_af_packet0,iface=..." */
};

/* Who may open tables, if its secret is shown. */
struct site_tenant {
    char *name;
    char *secret_file;          /* 64 to 128 hex digits, mode 0600 */
    char **tables;              /* "nat.session", "nat.*" or "*" */
    unsigned tables_count;
    unsigned memory_mb;         /* of all its tables, in each shard; 0: no limit */
};

/* Memory of the tables that match, together, in each shard. */
struct site_limit {
    char **tables;
    unsigned tables_count;
    unsigned memory_mb;
};

struct site_store {
    unsigned shards;
    struct site_node *nodes;    /* without etcd the first is the primary of a static pair */
    unsigned nodes_count;
    char **etcd;                /* end points of etcd's clients, where the views are; none: static */
    unsigned etcd_count;
    char *etcd_prefix;          /* of this site's keys there */
    char *etcd_ca, *etcd_cert, *etcd_key; /* of https end points, files in PEM; NULL: the system's, none */
    unsigned copies, min_copies; /* replicas wanted of a shard; fewer make writes wait */
    unsigned memory_mb;         /* per shard, 0: no limit */
    struct site_limit *limits;
    unsigned limits_count;
    unsigned client_lease_ms;
    struct site_tenant *tenants; /* none, and no replica_secret_file: anybody may connect */
    unsigned tenants_count;
    char *replica_secret_file;  /* what the nodes show each other; NULL: none */
};

/* Steering's end of the tunnel to workers behind routers (VXLAN). address NULL: there is none. */
struct site_tunnel {
    char *address;              /* the kernel's, on the underlay interface */
    char *port;                 /* DPDK device on that interface: "net_af_packet2,iface=..." */
    char **more_ports;          /* on further ones, where packets for the address come in, too */
    unsigned more_ports_count;
    unsigned vni, udp_port;     /* inside; outside is vni + 1 */
    unsigned mtu;               /* of the path to the workers; 0: the interfaces' */
};

/* A front end: a lethe-steer with workers of its own. Each side of a site may have several. */
struct site_front {
    char *name;                 /* of the instance, its sockets and its log */
    struct site_side inside, outside;
    char *control;              /* Unix socket: workers join and leave here */
    char *memif_dir;            /* where the memif sockets are; nobody else's */
    struct site_tunnel tunnel;
};

struct site_steering {
    struct site_side inside, outside; /* of the first front end, as are these two: site_front tells */
    char *control;
    char *memif_dir;
    struct site_front *more;    /* the others */
    unsigned more_count;
    char *probe_key_file;       /* 32 bytes as hex; made by `make run`, mode 0600 */
    unsigned workers_max, maglev_size;
    struct site_tunnel tunnel;  /* of the first front end; the others' have its numbers */
};

struct site_worker {
    unsigned window_bursts, max_hold_ms, packets_in_flight, mbufs;
    char *ipv6;                 /* "pass" or "drop" for NFs that do not take it */
    char *transport;            /* "tcp", "shm", "verbs": how it reaches the store */
    char *redis;                /* "host:port,host:port" of a Redis Cluster, instead of it; NULL: not */
    char *tenant, *secret_file; /* as whom it connects to the store; NULL: as nobody */
    char **one_sided;           /* tables ("nat.session", "nat.*") read one-sidedly, by verbs */
    unsigned one_sided_count;
    unsigned remember;          /* entries whose place each worker remembers for that */
    struct site_worker_tunnel {
        char **steering;        /* addresses that a worker joins, and takes packets from, by tunnel */
        unsigned steering_count;
    } tunnel;
};

/* lethe-controller: where it is asked, and by whom. */
struct site_controller {
    char *listen;               /* path of a Unix socket, or "host:port" */
    char *token_file;           /* who shows its content may ask; needed with host:port */
    char *programs;             /* folder of lethe-nf and the others; NULL: where it is itself */
};

/* When a group of workers grows and shrinks by itself: orchestrator/core/autoscale.h. */
struct site_autoscale {
    bool enabled;
    unsigned busy_high_permille, busy_low_permille, queue_high, drops_high_pps;
    unsigned up_hold_ms, down_hold_ms, cooldown_ms;
};

/* Workers that are alike, <name>-1, <name>-2, ...; all groups serve the one chain. */
struct site_group {
    char *name;
    unsigned replicas, min, max;
    unsigned weight;            /* of each worker in steering's table, 1 to 100 */
    char *program;              /* another lethe-nf; NULL: the site's */
    char *front;                /* the front end that its workers join */
    struct site_group_limits { unsigned memory_mb, nice; } limits; /* of a worker; 0: none */
    struct site_autoscale autoscale;
};

struct site {
    unsigned failure_timeout_ms;
    char *run_dir;              /* control sockets: <run_dir>/<instance>.sock */
    struct site_store store;
    struct site_steering steering;
    struct site_worker worker;
    char **chain;               /* names of NFs, inside to outside */
    unsigned chain_count;
    struct site_controller controller;
    struct site_group *groups;  /* at least one: "nf" */
    unsigned groups_count;
};

/* 0, or -errno with a message of "file:line: key: what; what to do" in err.
 * `nf_fields` (lethe-nf only, else NULL): a libcyaml field array for the keys
 * below `nfs:`, loaded into *nf_config. Free with site_free. */
int site_load(const char *path, const struct cyaml_schema_field *nf_fields, uint32_t nf_size,
              struct site **site, void **nf_config, char *err, uint32_t err_len);
/* The same from memory, for tests and the fuzzer. */
int site_parse(const uint8_t *text, uint32_t bytes, const struct cyaml_schema_field *nf_fields,
               uint32_t nf_size, struct site **site, void **nf_config, char *err,
               uint32_t err_len);
/* For errors found later, in what the values mean: the line of `key`
 * ("nfs.nat44.external[0]") in the file, or of the nearest key that holds it; 0
 * if the file cannot be read any more. */
uint32_t site_line(const char *path, const char *key);
/* How many front ends the site has: 0 without `steering:`. */
unsigned site_fronts(const struct site *site);
/* One of them, from 0; its texts are the site's. */
struct site_front site_front(const struct site *site, unsigned at);
/* Its place; -1: the site has none of that name. */
int site_front_named(const struct site *site, const char *name);
/* The place of the one whose tunnel has this address; -1: none has. */
int site_front_at(const struct site *site, const char *tunnel_address);
/* All store nodes' addresses with commas between, as liblethe takes them, for the workers'
 * transport: by tcp where a node has no other, or is not on this host; malloced, NULL: no memory. And its retry time: half the failure time-out, at most 200 ms. And the silence it allows: half the
 * failure time-out, so that a silent primary is left about when the other replicas have agreed on the next one,
 * and that one is not left while it waits for the old one's leases to end, less than a third of a time-out. */
char *site_store_addresses(const struct site *site);
unsigned site_store_retry_ms(const struct site *site);
unsigned site_store_silence_ms(const struct site *site);
void site_free(struct site *site, const struct cyaml_schema_field *nf_fields, uint32_t nf_size,
               void *nf_config);

#endif
