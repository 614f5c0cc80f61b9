/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Defaults and limits of site.yaml. Numbers are a table; the rest is one small
 * function a section. Every message says what to write instead. The limits of
 * other folders (bursts, workers, the table's size) are repeated here because
 * nothing below may depend on those folders; their own code checks them again.
 */
#include "common/config/schema.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log/log.h"
#include "common/wire/address.h"
#include "common/wire/schema.h"
#include "common/wire/transport.h"

enum {
    SHARDS_MAX = 16,
    COPIES_MAX = 3,
    MEMORY_MB_MAX = 1 << 20,
    RUN_DIR_MAX = 64,          /* with "/<instance>.sock" behind it, a socket's path has 107 */
    INSTANCE_MAX = 31,
    SHORT_TIMEOUT_MS = 100,
    LEASE_TIMEOUTS = 10,       /* a client lease is at least that many failure time-outs */
};

static const struct number {
    const char *key;
    size_t at;
    unsigned least, most, absent;
} numbers[] = {
    {"failure_timeout_ms", offsetof(struct site, failure_timeout_ms), 20, 10000, 500},
    {"store.shards", offsetof(struct site, store.shards), 1, SHARDS_MAX, 2},
    {"store.copies", offsetof(struct site, store.copies), 1, COPIES_MAX, 2},
    {"store.min_copies", offsetof(struct site, store.min_copies), 1, COPIES_MAX, 1},
    {"store.memory_mb", offsetof(struct site, store.memory_mb), 0, MEMORY_MB_MAX, 0},
    {"store.client_lease_ms", offsetof(struct site, store.client_lease_ms), 0, 86400000, 0},
    {"steering.workers_max", offsetof(struct site, steering.workers_max), 1, 64, 16},
    {"steering.maglev_size", offsetof(struct site, steering.maglev_size), 251, 1048573, 65537},
    {"steering.tunnel.vni", offsetof(struct site, steering.tunnel.vni), 1, 0xfffffe, 4097},
    {"steering.tunnel.udp_port", offsetof(struct site, steering.tunnel.udp_port), 1, 65535, 4789},
    {"steering.tunnel.mtu", offsetof(struct site, steering.tunnel.mtu), 576, 65535, 0},
    {"worker.window_bursts", offsetof(struct site, worker.window_bursts), 1, 256, 64},
    {"worker.max_hold_ms", offsetof(struct site, worker.max_hold_ms), 10, 60000, 1000},
    {"worker.packets_in_flight", offsetof(struct site, worker.packets_in_flight), 64, 16384, 1024},
    {"worker.mbufs", offsetof(struct site, worker.mbufs), 1024, 1 << 20, 8192},
    {"worker.remember", offsetof(struct site, worker.remember), 64, 1 << 24, 16384},
};
enum { NUMBERS = sizeof numbers / sizeof numbers[0] };

int complain(const struct complaint *c, const char *key, const char *format, ...)
{
    char what[600];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    snprintf(c->err, c->err_len, "%s:%u: %s%s%s", c->file, places_line(c->places, key), key,
             *key ? ": " : "", what);
    return -EINVAL;
}

const char *number_hint(const char *key, char *to, uint32_t room)
{
    for (int i = 0; i < NUMBERS; i++)
        if (strcmp(numbers[i].key, key) == 0) {
            snprintf(to, room, "a number from %u to %u", numbers[i].least, numbers[i].most);
            return to;
        }
    return group_number_hint(key, to, room);
}

static int check_numbers(struct site *s, const struct complaint *c)
{
    for (int i = 0; i < NUMBERS; i++) {
        const struct number *n = &numbers[i];
        unsigned *value = (unsigned *)((char *)s + n->at);
        if (!places_find(c->places, n->key))
            *value = n->absent;
        else if (*value < n->least || *value > n->most)
            return complain(c, n->key, "%u is too %s; write a number from %u to %u", *value,
                            *value < n->least ? "few" : "many", n->least, n->most);
    }
    return 0;
}

static bool is_prime(unsigned n)
{
    for (unsigned d = 2; d * d <= n; d++)
        if (n % d == 0)
            return false;
    return n > 1;
}

bool is_instance_name(const char *name)
{
    size_t len = strlen(name);
    return len > 0 && len <= INSTANCE_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == len;
}

/* --- store ---------------------------------------------------------------------- */

struct listen_at { char host[ADDRESS_HOST_MAX]; uint16_t port; };

/* The other ways to a node. */
static int check_ways(const struct site *s, unsigned i, const struct complaint *c)
{
    const struct site_node *n = &s->store.nodes[i];
    char key[64], why[400];
    snprintf(key, sizeof key, "store.nodes[%u].shm", i);
    if (n->shm && transport_check(&transport_shm, n->shm, s->store.shards, false, why, sizeof why))
        return complain(c, key, "%s", why);
    snprintf(key, sizeof key, "store.nodes[%u].verbs", i);
    /* its addresses are written as tcp's */
    if (n->verbs && transport_check(&transport_tcp, n->verbs, s->store.shards, false, why, sizeof why))
        return complain(c, key, "%s", why);
    if ((n->shm && strpbrk(n->shm, ",|")) || (n->verbs && strpbrk(n->verbs, ",|")))
        return complain(c, key, "',' and '|' part addresses; choose others");
    return 0;
}

static int check_node(const struct site *s, unsigned i, struct listen_at *l,
                      const struct complaint *c)
{
    const struct site_node *n = &s->store.nodes[i];
    char key[64], why[400];
    snprintf(key, sizeof key, "store.nodes[%u].name", i);
    if (!is_instance_name(n->name))
        return complain(c, key, "'%s' is no name; write up to %d letters, digits, '_' or '-'",
                        n->name, INSTANCE_MAX);
    for (unsigned j = 0; j < i; j++)
        if (strcmp(s->store.nodes[j].name, n->name) == 0)
            return complain(c, key, "'%s' is the name of two nodes; give each its own", n->name);
    snprintf(key, sizeof key, "store.nodes[%u].listen", i);
    if (address_split(n->listen, l->host, &l->port, why, sizeof why) != 0)
        return complain(c, key, "%s", why);
    if (l->port == 0 || l->port + s->store.shards - 1 > 65535)
        return complain(c, key, "port %u cannot be: shard i listens at port + i; write a port from "
                        "1 to %u", l->port, 65536 - s->store.shards);
    return check_ways(s, i, c);
}

/* A table's name, or the beginning of one and a closing '*'. */
static bool is_table_pattern(const char *p)
{
    size_t n = strlen(p), plain = strcspn(p, "*");
    return n > 0 && n < TABLE_NAME_MAX && (plain == n || plain == n - 1);
}

static int check_tables(const char *key, char **tables, unsigned n, const struct complaint *c)
{
    for (unsigned i = 0; i < n; i++)
        if (!is_table_pattern(tables[i]))
            return complain(c, key, "'%s' names no tables; write a name of up to %d characters, or "
                            "the beginning of one and a '*'", tables[i], TABLE_NAME_MAX - 1);
    return 0;
}

static int check_memory(const char *key, unsigned memory_mb, const struct complaint *c)
{
    return memory_mb <= MEMORY_MB_MAX ? 0 : complain(c, key, "%u is too many; write a number from 0 "
                                                     "to %d", memory_mb, MEMORY_MB_MAX);
}

static int check_tenant(const struct site_store *st, unsigned i, const struct complaint *c)
{
    const struct site_tenant *t = &st->tenants[i];
    char key[64];
    snprintf(key, sizeof key, "store.tenants[%u].name", i);
    if (!is_instance_name(t->name))
        return complain(c, key, "'%s' is no name; write up to %d letters, digits, '_' or '-'",
                        t->name, INSTANCE_MAX);
    for (unsigned j = 0; j < i; j++)
        if (strcmp(st->tenants[j].name, t->name) == 0)
            return complain(c, key, "'%s' is the name of two tenants; give each its own", t->name);
    snprintf(key, sizeof key, "store.tenants[%u].tables", i);
    if (t->tables_count == 0)
        return complain(c, key, "no table, so %s could open none; write a list such as "
                        "[\"nat.*\"]", t->name);
    int bad = check_tables(key, t->tables, t->tables_count, c);
    snprintf(key, sizeof key, "store.tenants[%u].memory_mb", i);
    return bad ? bad : check_memory(key, t->memory_mb, c);
}

/* With secrets nobody connects without one, so whoever has to connect needs one. */
static int check_secrets(const struct site *s, const struct complaint *c)
{
    const struct site_store *st = &s->store;
    const struct site_worker *w = &s->worker;
    bool known = false;
    for (unsigned i = 0; i < st->tenants_count; i++) {
        int bad = check_tenant(st, i, c);
        if (bad)
            return bad;
        known |= w->tenant && strcmp(st->tenants[i].name, w->tenant) == 0;
    }
    if (st->tenants_count && st->nodes_count > 1 && !st->replica_secret_file)
        return complain(c, "store.replica_secret_file", "is missing: with tenants, the nodes show "
                        "each other a secret, too; name its file");
    if (st->replica_secret_file && !st->tenants_count)
        return complain(c, "store.tenants", "no tenant, so no worker could connect; write at least "
                        "one beside replica_secret_file");
    if (!w->tenant != !w->secret_file)
        return complain(c, w->tenant ? "worker.secret_file" : "worker.tenant",
                        "is missing; tenant and secret_file go together");
    if (w->tenant && !known)
        return complain(c, "worker.tenant", "'%s' is none of store.tenants; name one of them",
                        w->tenant);
    return 0;
}

static int check_limits(const struct site_store *st, const struct complaint *c)
{
    char key[64];
    for (unsigned i = 0; i < st->limits_count; i++) {
        const struct site_limit *l = &st->limits[i];
        snprintf(key, sizeof key, "store.limits[%u].tables", i);
        if (l->tables_count == 0)
            return complain(c, key, "no table; write a list such as [\"nat.*\"]");
        int bad = check_tables(key, l->tables, l->tables_count, c);
        snprintf(key, sizeof key, "store.limits[%u].memory_mb", i);
        if (!bad && l->memory_mb == 0)
            bad = complain(c, key, "no limit; write the MiB that these tables may have in a shard");
        if (!bad)
            bad = check_memory(key, l->memory_mb, c);
        if (bad)
            return bad;
    }
    return 0;
}

/* [http[s]://]host:port */
static int check_endpoint(const struct site_store *st, unsigned i, const struct complaint *c)
{
    char host[ADDRESS_HOST_MAX], why[400], key[64];
    const char *at = st->etcd[i], *scheme = strstr(at, "://");
    uint16_t port;
    snprintf(key, sizeof key, "store.etcd[%u]", i);
    if (scheme && strncmp(at, "http://", 7) && strncmp(at, "https://", 8))
        return complain(c, key, "'%s' is no end point; write one such as http://127.0.0.1:2379", at);
    if (address_split(scheme ? scheme + 3 : at, host, &port, why, sizeof why))
        return complain(c, key, "%s", why);
    return port ? 0 : complain(c, key, "'%s' has no port; etcd's is 2379", at);
}

/* Files for TLS are of https end points, and a certificate goes with its key. Whether they are there and fit
 * shows where they are used. */
static int check_tls(const struct site_store *st, const struct complaint *c)
{
    const char *key = st->etcd_ca ? "store.etcd_ca" : st->etcd_cert ? "store.etcd_cert" : st->etcd_key ? "store.etcd_key" : NULL;
    bool https = false;
    for (unsigned i = 0; i < st->etcd_count; i++)
        https |= !strncmp(st->etcd[i], "https://", 8);
    if (key && !https)
        return complain(c, key, "is for https, and no end point of store.etcd is such; write one as https://host:2379, or "
                        "leave it out");
    if (!st->etcd_cert != !st->etcd_key)
        return complain(c, st->etcd_cert ? "store.etcd_cert" : "store.etcd_key", "a certificate and its key go together; "
                        "write %s, too", st->etcd_cert ? "etcd_key" : "etcd_cert");
    return 0;
}

/* Who keeps the views, and how many copies there are to be. */
static int check_views(struct site_store *st, const struct complaint *c)
{
    int bad = 0;
    for (unsigned i = 0; !bad && i < st->etcd_count; i++)
        bad = check_endpoint(st, i, c);
    if (!bad)
        bad = check_tls(st, c);
    if (bad)
        return bad;
    if (st->etcd_prefix[0] != '/' || st->etcd_prefix[strlen(st->etcd_prefix) - 1] == '/' ||
        strpbrk(st->etcd_prefix, " \t\""))
        return complain(c, "store.etcd_prefix", "'%s' cannot be; write where this site's keys begin, "
                        "such as /lethe/site", st->etcd_prefix);
    if (!st->etcd_count && st->nodes_count > 2)
        return complain(c, "store.etcd", "is missing: more than two nodes agree through etcd; write "
                        "its end points, such as [\"127.0.0.1:2379\"]");
    if (!places_find(c->places, "store.copies") && st->copies > st->nodes_count)
        st->copies = st->nodes_count;
    if (st->copies > st->nodes_count)
        return complain(c, "store.copies", "%u copies need as many nodes, and there are %u; write "
                        "more nodes, or fewer copies", st->copies, st->nodes_count);
    if (st->min_copies > st->copies)
        return complain(c, "store.min_copies", "%u is more than copies (%u), so no write would ever "
                        "be answered; write at most %u", st->min_copies, st->copies, st->copies);
    return 0;
}

static int check_store(struct site *s, const struct complaint *c)
{
    struct listen_at at[SITE_NODES_MAX];
    struct site_store *st = &s->store;
    if (st->nodes_count == 0 && s->worker.redis)
        return 0; /* the state is elsewhere */
    if (st->nodes_count == 0)
        return complain(c, "store.nodes", "no node; write at least one, such as "
                        "- {name: store-a, listen: \"127.0.0.1:7400\"}");
    for (unsigned i = 0; i < st->nodes_count; i++) {
        int bad = check_node(s, i, &at[i], c);
        for (unsigned j = 0; !bad && j < i; j++) {
            unsigned apart = (unsigned)abs(at[i].port - at[j].port);
            char key[64];
            snprintf(key, sizeof key, "store.nodes[%u].listen", i);
            if (apart < st->shards && strcmp(at[i].host, at[j].host) == 0)
                bad = complain(c, key, "overlaps the ports of node %s (%u to %u, one a shard); "
                               "choose another", st->nodes[j].name, at[j].port,
                               at[j].port + st->shards - 1);
        }
        if (bad)
            return bad;
    }
    int bad = check_views(st, c);
    if (!bad)
        bad = check_limits(st, c);
    if (bad)
        return bad;
    if (st->client_lease_ms == 0)
        st->client_lease_ms = 100 * s->failure_timeout_ms;
    if (st->client_lease_ms < LEASE_TIMEOUTS * s->failure_timeout_ms)
        return complain(c, "store.client_lease_ms", "%u is too short for a failure_timeout_ms of "
                        "%u; write at least %u", st->client_lease_ms, s->failure_timeout_ms,
                        LEASE_TIMEOUTS * s->failure_timeout_ms);
    return 0;
}

/* --- steering ---------------------------------------------------------------------- */

static int check_address(const char *section, const char *name, const char *value,
                         const struct complaint *c)
{
    struct in_addr a;
    char key[64];
    snprintf(key, sizeof key, "steering.%s.%s", section, name);
    if (!value)
        return complain(c, key, "is missing; write an IPv4 address, such as 10.0.0.1");
    if (inet_pton(AF_INET, value, &a) != 1)
        return complain(c, key, "'%s' is no IPv4 address; write one, such as 10.0.0.1", value);
    return 0;
}

static int check_prefix(const char *key, const char *text, const struct complaint *c)
{
    struct in_addr a;
    char address[64], trailing;
    unsigned length = 32;
    const char *slash = strchr(text, '/');
    size_t n = slash ? (size_t)(slash - text) : strlen(text);
    bool good = n < sizeof address;
    if (good) {
        memcpy(address, text, n);
        address[n] = 0;
        good = inet_pton(AF_INET, address, &a) == 1 &&
               (!slash || (isdigit((unsigned char)slash[1]) &&
                           sscanf(slash, "/%u%c", &length, &trailing) == 1 && length <= 32));
    }
    if (!good)
        return complain(c, key, "'%s' is no IPv4 address or prefix; write one, such as 203.0.113.1 "
                        "or 203.0.113.0/28", text);
    uint32_t mask = length ? ~0u << (32 - length) : 0, bits = ntohl(a.s_addr);
    if (bits & ~mask) {
        a.s_addr = htonl(bits & mask);
        inet_ntop(AF_INET, &a, address, sizeof address);
        return complain(c, key, "'%s' has bits set behind its prefix length; write %s/%u", text,
                        address, length);
    }
    return 0;
}

int site_check_side(const char *name, const struct site_side *side, const struct complaint *c)
{
    char key[64];
    int bad = check_address(name, "address", side->address, c);
    if (!bad)
        bad = check_address(name, "next_hop", side->next_hop, c);
    for (unsigned i = 0; !bad && i < side->serves_count; i++) {
        snprintf(key, sizeof key, "steering.%s.serves[%u]", name, i);
        bad = check_prefix(key, side->serves[i], c);
    }
    snprintf(key, sizeof key, "steering.%s.port", name);
    if (!bad && !side->port)
        bad = complain(c, key, "is missing; write a DPDK device, such as "
                       "net_af_packet0,iface=eth0");
    return bad;
}

static int check_steering(struct site *s, const struct complaint *c)
{
    if (!is_prime(s->steering.maglev_size))
        return complain(c, "steering.maglev_size", "%u is not prime; write a prime such as 65537",
                        s->steering.maglev_size);
    if (s->steering.maglev_size < 10 * s->steering.workers_max)
        return complain(c, "steering.maglev_size", "%u is too small for %u workers; write a prime "
                        "of 100 times as many, such as 65537", s->steering.maglev_size,
                        s->steering.workers_max);
    if (!places_find(c->places, "steering"))
        return site_check_tunnels(s, c); /* a site of the store alone, or a worker's file elsewhere */
    int bad = site_check_side("inside", &s->steering.inside, c);
    if (!bad)
        bad = site_check_side("outside", &s->steering.outside, c);
    if (!bad)
        bad = site_check_tunnels(s, c);
    return bad ? bad : site_check_fronts(s, c);
}

/* --- the rest ------------------------------------------------------------------------ */

static int check_redis(const struct site *s, const struct complaint *c)
{
    char why[400], one[ADDRESS_HOST_MAX + 16], host[ADDRESS_HOST_MAX];
    uint16_t port;
    for (const char *at = s->worker.redis, *next; at; at = next) {
        next = strchr(at, ',');
        snprintf(one, sizeof one, "%.*s", (int)(next ? next - at : (long)strlen(at)), at);
        next = next ? next + 1 : NULL;
        if (address_split(one, host, &port, why, sizeof why))
            return complain(c, "worker.redis", "%s", why);
    }
    const char *not_with_it = places_find(c->places, "worker.transport") ? "worker.transport"
                              : s->worker.tenant                         ? "worker.tenant"
                              : s->worker.one_sided_count                ? "worker.one_sided"
                                                                         : NULL;
    return not_with_it ? complain(c, not_with_it, "is about the store, but with worker.redis the state "
                                  "is in Redis; leave one of the two out")
                       : 0;
}

/* How workers reach the state. */
static int check_reach(const struct site *s, const struct complaint *c)
{
    const char *by = s->worker.transport;
    bool shm = !strcmp(by, "shm"), any = !strcmp(by, "tcp");
    if (s->worker.redis)
        return check_redis(s, c);
    if (!any && !shm && strcmp(by, "verbs"))
        return complain(c, "worker.transport", "'%s' is none; write tcp, shm or verbs", by);
    for (unsigned i = 0; i < s->store.nodes_count; i++)
        any |= (shm ? s->store.nodes[i].shm : s->store.nodes[i].verbs) != NULL;
    return any ? 0 : complain(c, "worker.transport", "none of store.nodes has `%s`; give it to at least "
                              "one, or write tcp", by);
}

static int check_worker(struct site *s, const struct complaint *c)
{
    int bad = check_reach(s, c);
    if (!bad)
        bad = check_tables("worker.one_sided", s->worker.one_sided, s->worker.one_sided_count, c);
    if (bad)
        return bad;
    if (strcmp(s->worker.ipv6, "pass") != 0 && strcmp(s->worker.ipv6, "drop") != 0)
        return complain(c, "worker.ipv6", "'%s' is neither; write pass or drop", s->worker.ipv6);
    /* Everything in flight, one full receive ring and one burst being filled. */
    if (s->worker.mbufs < s->worker.packets_in_flight + 512)
        return complain(c, "worker.mbufs", "%u do not hold %u packets_in_flight and the rings; "
                        "write at least %u", s->worker.mbufs, s->worker.packets_in_flight,
                        s->worker.packets_in_flight + 512);
    for (unsigned i = 0; i < s->chain_count; i++)
        for (unsigned j = 0; j < i; j++)
            if (strcmp(s->chain[i], s->chain[j]) == 0) {
                char key[32];
                snprintf(key, sizeof key, "chain[%u]", i);
                return complain(c, key, "'%s' is in the chain twice; its tables would be the same",
                                s->chain[i]);
            }
    return 0;
}

bool text_default(char **text, const char *format, const char *detail)
{
    if (*text)
        return true;
    size_t room = strlen(format) + strlen(detail) + 1;
    *text = malloc(room);
    if (*text)
        snprintf(*text, room, format, detail);
    return *text != NULL;
}

static int fill_texts(struct site *s, const struct complaint *c)
{
    bool ok = text_default(&s->run_dir, "%s", "/run/lethe") &&
              text_default(&s->store.etcd_prefix, "%s", "/lethe/site") &&
              text_default(&s->steering.control, "%s/steer.sock", s->run_dir) &&
              text_default(&s->steering.memif_dir, "%s", s->run_dir) &&
              text_default(&s->steering.probe_key_file, "%s/probe.key", s->run_dir) &&
              text_default(&s->worker.ipv6, "%s", "drop") &&
              text_default(&s->worker.transport, "%s", "tcp");
    return ok ? 0 : complain(c, "", "out of memory");
}

int site_check(struct loaded *l, const struct complaint *c)
{
    struct site *s = &l->site;
    int bad = check_numbers(s, c);
    if (!bad)
        bad = fill_texts(s, c);
    if (!bad && strlen(s->run_dir) > RUN_DIR_MAX)
        bad = complain(c, "run_dir", "is too long for the paths of sockets; write at most %d bytes",
                       RUN_DIR_MAX);
    if (!bad)
        bad = check_store(s, c);
    if (!bad)
        bad = check_steering(s, c);
    if (!bad)
        bad = check_worker(s, c);
    if (!bad)
        bad = check_secrets(s, c);
    if (!bad)
        bad = site_check_groups(s, c);
    if (!bad && s->failure_timeout_ms < SHORT_TIMEOUT_MS)
        log_warn("failure time-out is short",
                 "%s:%u failure_timeout_ms=%u; below %d a host that is "
                 "busy for a moment looks dead: fail-overs without a failure", c->file,
                 places_line(c->places, "failure_timeout_ms"), s->failure_timeout_ms,
                 SHORT_TIMEOUT_MS);
    return bad;
}
