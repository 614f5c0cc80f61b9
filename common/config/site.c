/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Loading site.yaml (site.h), in three steps over the same text:
 *   places.c   libyaml events: syntax, and where each key stands
 *   here       libcyaml: the schema below into struct site; its log becomes
 *              a sentence in explain.c
 *   check.c    defaults, ranges, and what the keys mean together
 * Runs at start-up, on one thread; allocates.
 */
#include "common/config/site.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config/schema.h"
#include "common/config/truth.h"

enum { FILE_BYTES_MAX = 256 * 1024, TEXT_MAX = 255 };

#define NUMBER(name, type, member) CYAML_FIELD_UINT(name, CYAML_FLAG_OPTIONAL, type, member)
#define TEXT(name, flags, type, member)                                                            \
    CYAML_FIELD_STRING_PTR(name, CYAML_FLAG_POINTER | (flags), type, member, 1, TEXT_MAX)
#define LIST(name, type, member, entry, most)                                                      \
    CYAML_FIELD_SEQUENCE(name, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, type, member, entry, 0,   \
                         most)
#define SECTION(name, type, member, fields)                                                        \
    CYAML_FIELD_MAPPING(name, CYAML_FLAG_OPTIONAL, type, member, fields)

static const cyaml_schema_value_t text_entry = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, TEXT_MAX)};

static const cyaml_schema_field_t node_fields[] = {
    TEXT("name", 0, struct site_node, name),
    TEXT("listen", 0, struct site_node, listen),
    TEXT("shm", CYAML_FLAG_OPTIONAL, struct site_node, shm),
    TEXT("verbs", CYAML_FLAG_OPTIONAL, struct site_node, verbs),
    CYAML_FIELD_END};
static const cyaml_schema_value_t node_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct site_node, node_fields)};

static const cyaml_schema_field_t tenant_fields[] = {
    TEXT("name", 0, struct site_tenant, name),
    TEXT("secret_file", 0, struct site_tenant, secret_file),
    LIST("tables", struct site_tenant, tables, &text_entry, 32),
    NUMBER("memory_mb", struct site_tenant, memory_mb),
    CYAML_FIELD_END};
static const cyaml_schema_value_t tenant_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct site_tenant, tenant_fields)};

static const cyaml_schema_field_t limit_fields[] = {
    LIST("tables", struct site_limit, tables, &text_entry, 32),
    NUMBER("memory_mb", struct site_limit, memory_mb),
    CYAML_FIELD_END};
static const cyaml_schema_value_t limit_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct site_limit, limit_fields)};

static const cyaml_schema_field_t store_fields[] = {
    NUMBER("shards", struct site_store, shards),
    LIST("nodes", struct site_store, nodes, &node_entry, SITE_NODES_MAX),
    LIST("etcd", struct site_store, etcd, &text_entry, 8),
    TEXT("etcd_prefix", CYAML_FLAG_OPTIONAL, struct site_store, etcd_prefix),
    TEXT("etcd_ca", CYAML_FLAG_OPTIONAL, struct site_store, etcd_ca),
    TEXT("etcd_cert", CYAML_FLAG_OPTIONAL, struct site_store, etcd_cert),
    TEXT("etcd_key", CYAML_FLAG_OPTIONAL, struct site_store, etcd_key),
    NUMBER("copies", struct site_store, copies),
    NUMBER("min_copies", struct site_store, min_copies),
    NUMBER("memory_mb", struct site_store, memory_mb),
    LIST("limits", struct site_store, limits, &limit_entry, 32),
    NUMBER("client_lease_ms", struct site_store, client_lease_ms),
    LIST("tenants", struct site_store, tenants, &tenant_entry, 16),
    TEXT("replica_secret_file", CYAML_FLAG_OPTIONAL, struct site_store, replica_secret_file),
    CYAML_FIELD_END};

static const cyaml_schema_field_t side_fields[] = {
    TEXT("address", CYAML_FLAG_OPTIONAL, struct site_side, address),
    TEXT("next_hop", CYAML_FLAG_OPTIONAL, struct site_side, next_hop),
    LIST("serves", struct site_side, serves, &text_entry, 64),
    TEXT("port", CYAML_FLAG_OPTIONAL, struct site_side, port),
    CYAML_FIELD_END};

static const cyaml_schema_field_t tunnel_fields[] = {
    TEXT("address", CYAML_FLAG_OPTIONAL, struct site_tunnel, address),
    TEXT("port", CYAML_FLAG_OPTIONAL, struct site_tunnel, port),
    LIST("more_ports", struct site_tunnel, more_ports, &text_entry, SITE_TUNNEL_PORTS_MAX - 1),
    NUMBER("vni", struct site_tunnel, vni),
    NUMBER("udp_port", struct site_tunnel, udp_port),
    NUMBER("mtu", struct site_tunnel, mtu),
    CYAML_FIELD_END};

static const cyaml_schema_field_t front_tunnel_fields[] = {
    TEXT("address", CYAML_FLAG_OPTIONAL, struct site_tunnel, address),
    TEXT("port", CYAML_FLAG_OPTIONAL, struct site_tunnel, port),
    LIST("more_ports", struct site_tunnel, more_ports, &text_entry, SITE_TUNNEL_PORTS_MAX - 1),
    CYAML_FIELD_END};

static const cyaml_schema_field_t front_fields[] = {
    TEXT("name", 0, struct site_front, name),
    SECTION("inside", struct site_front, inside, side_fields),
    SECTION("outside", struct site_front, outside, side_fields),
    TEXT("control", CYAML_FLAG_OPTIONAL, struct site_front, control),
    TEXT("memif_dir", CYAML_FLAG_OPTIONAL, struct site_front, memif_dir),
    SECTION("tunnel", struct site_front, tunnel, front_tunnel_fields),
    CYAML_FIELD_END};
static const cyaml_schema_value_t front_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct site_front, front_fields)};

static const cyaml_schema_field_t steering_fields[] = {
    SECTION("inside", struct site_steering, inside, side_fields),
    SECTION("outside", struct site_steering, outside, side_fields),
    TEXT("control", CYAML_FLAG_OPTIONAL, struct site_steering, control),
    TEXT("memif_dir", CYAML_FLAG_OPTIONAL, struct site_steering, memif_dir),
    LIST("more", struct site_steering, more, &front_entry, SITE_FRONTS_MAX - 1),
    TEXT("probe_key_file", CYAML_FLAG_OPTIONAL, struct site_steering, probe_key_file),
    NUMBER("workers_max", struct site_steering, workers_max),
    NUMBER("maglev_size", struct site_steering, maglev_size),
    SECTION("tunnel", struct site_steering, tunnel, tunnel_fields),
    CYAML_FIELD_END};

static const cyaml_schema_field_t worker_tunnel_fields[] = {
    LIST("steering", struct site_worker_tunnel, steering, &text_entry, SITE_FRONTS_MAX),
    CYAML_FIELD_END};

static const cyaml_schema_field_t worker_fields[] = {
    NUMBER("window_bursts", struct site_worker, window_bursts),
    NUMBER("max_hold_ms", struct site_worker, max_hold_ms),
    NUMBER("packets_in_flight", struct site_worker, packets_in_flight),
    NUMBER("mbufs", struct site_worker, mbufs),
    TEXT("ipv6", CYAML_FLAG_OPTIONAL, struct site_worker, ipv6),
    TEXT("transport", CYAML_FLAG_OPTIONAL, struct site_worker, transport),
    TEXT("redis", CYAML_FLAG_OPTIONAL, struct site_worker, redis),
    TEXT("tenant", CYAML_FLAG_OPTIONAL, struct site_worker, tenant),
    TEXT("secret_file", CYAML_FLAG_OPTIONAL, struct site_worker, secret_file),
    LIST("one_sided", struct site_worker, one_sided, &text_entry, 32),
    NUMBER("remember", struct site_worker, remember),
    SECTION("tunnel", struct site_worker, tunnel, worker_tunnel_fields),
    CYAML_FIELD_END};

static const cyaml_schema_field_t controller_fields[] = {
    TEXT("listen", CYAML_FLAG_OPTIONAL, struct site_controller, listen),
    TEXT("token_file", CYAML_FLAG_OPTIONAL, struct site_controller, token_file),
    TEXT("programs", CYAML_FLAG_OPTIONAL, struct site_controller, programs),
    CYAML_FIELD_END};

static const cyaml_schema_field_t group_limit_fields[] = {
    NUMBER("memory_mb", struct site_group_limits, memory_mb),
    NUMBER("nice", struct site_group_limits, nice),
    CYAML_FIELD_END};

static const cyaml_schema_field_t autoscale_fields[] = {
    CONFIG_TRUTH("enabled", struct site_autoscale, enabled),
    NUMBER("busy_high_permille", struct site_autoscale, busy_high_permille),
    NUMBER("busy_low_permille", struct site_autoscale, busy_low_permille),
    NUMBER("queue_high", struct site_autoscale, queue_high),
    NUMBER("drops_high_pps", struct site_autoscale, drops_high_pps),
    NUMBER("up_hold_ms", struct site_autoscale, up_hold_ms),
    NUMBER("down_hold_ms", struct site_autoscale, down_hold_ms),
    NUMBER("cooldown_ms", struct site_autoscale, cooldown_ms),
    CYAML_FIELD_END};

static const cyaml_schema_field_t group_fields[] = {
    TEXT("name", 0, struct site_group, name),
    NUMBER("replicas", struct site_group, replicas),
    NUMBER("min", struct site_group, min),
    NUMBER("max", struct site_group, max),
    NUMBER("weight", struct site_group, weight),
    TEXT("program", CYAML_FLAG_OPTIONAL, struct site_group, program),
    TEXT("front", CYAML_FLAG_OPTIONAL, struct site_group, front),
    CYAML_FIELD_MAPPING("autoscale", CYAML_FLAG_OPTIONAL, struct site_group, autoscale,
                        autoscale_fields),
    CYAML_FIELD_MAPPING("limits", CYAML_FLAG_OPTIONAL, struct site_group, limits,
                        group_limit_fields),
    CYAML_FIELD_END};
static const cyaml_schema_value_t group_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct site_group, group_fields)};

/* The last but one is `nfs`, completed by set_up with whoever's fields. */
static const cyaml_schema_field_t site_fields[] = {
    NUMBER("failure_timeout_ms", struct loaded, site.failure_timeout_ms),
    TEXT("run_dir", CYAML_FLAG_OPTIONAL, struct loaded, site.run_dir),
    SECTION("store", struct loaded, site.store, store_fields),
    SECTION("steering", struct loaded, site.steering, steering_fields),
    SECTION("worker", struct loaded, site.worker, worker_fields),
    CYAML_FIELD_SEQUENCE_COUNT("chain", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct loaded,
                               site.chain, site.chain_count, &text_entry, 0, 8),
    SECTION("controller", struct loaded, site.controller, controller_fields),
    CYAML_FIELD_SEQUENCE("groups", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct loaded,
                         site.groups, &group_entry, 0, SITE_GROUPS_MAX),
    CYAML_FIELD_IGNORE("nfs", CYAML_FLAG_OPTIONAL),
    CYAML_FIELD_END};
enum { SITE_FIELDS = sizeof site_fields / sizeof site_fields[0], NFS = SITE_FIELDS - 2 };

/* A load's or a free's view of the schema: its `nfs` is the caller's. */
struct setup {
    cyaml_schema_field_t fields[SITE_FIELDS];
    cyaml_schema_value_t top;
    cyaml_config_t config;
    struct cyaml_words words;
};

static void set_up(struct setup *u, const struct cyaml_schema_field *nf_fields, uint32_t nf_size)
{
    static const cyaml_schema_value_t top = {
        CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct loaded, site_fields)};
    memset(u, 0, sizeof *u);
    memcpy(u->fields, site_fields, sizeof u->fields);
    if (nf_fields) {
        u->fields[NFS].data_offset = offsetof(struct loaded, nf_config);
        u->fields[NFS].value = (cyaml_schema_value_t){
            .type = CYAML_MAPPING, .flags = CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
            .data_size = nf_size, .mapping = {.fields = nf_fields}};
    }
    u->top = top;
    u->top.mapping.fields = u->fields;
    u->config = (cyaml_config_t){.log_fn = cyaml_words_log, .log_ctx = &u->words,
                                 .log_level = CYAML_LOG_ERROR, .mem_fn = cyaml_mem,
                                 .flags = CYAML_CFG_NO_ALIAS};
}

char *site_store_addresses(const struct site *site)
{
    const struct site_store *st = &site->store;
    const char *by = site->worker.transport;
    size_t bytes = 0;
    char *list = NULL;
    FILE *f = open_memstream(&list, &bytes);
    for (unsigned i = 0; f && i < st->nodes_count; i++) {
        const struct site_node *n = &st->nodes[i];
        const char *best = !strcmp(by, "shm") ? n->shm : !strcmp(by, "verbs") ? n->verbs : NULL;
        fprintf(f, "%s%s%s%s%s%s", i ? "," : "", best ? by : "", best ? ":" : "", best ? best : "",
                best ? "|" : "", n->listen);
    }
    if (f && !fclose(f))
        return list;
    free(list);
    return NULL;
}

unsigned site_fronts(const struct site *site)
{
    return site->steering.inside.address ? 1 + site->steering.more_count : 0;
}

struct site_front site_front(const struct site *site, unsigned at)
{
    static char first[] = SITE_FRONT_FIRST;
    const struct site_steering *s = &site->steering;
    if (at)
        return s->more[at - 1];
    return (struct site_front){.name = first, .inside = s->inside, .outside = s->outside,
                               .control = s->control, .memif_dir = s->memif_dir, .tunnel = s->tunnel};
}

int site_front_named(const struct site *site, const char *name)
{
    for (unsigned i = 0; i < site_fronts(site); i++)
        if (!strcmp(site_front(site, i).name, name))
            return (int)i;
    return -1;
}

int site_front_at(const struct site *site, const char *tunnel_address)
{
    for (unsigned i = 0; i < site_fronts(site); i++) {
        struct site_front f = site_front(site, i);
        if (f.tunnel.address && !strcmp(f.tunnel.address, tunnel_address))
            return (int)i;
    }
    return -1;
}

unsigned site_store_retry_ms(const struct site *site)
{
    enum { MOST_MS = 200 };
    unsigned half = site->failure_timeout_ms / 2;
    return half < MOST_MS ? half : MOST_MS;
}

unsigned site_store_silence_ms(const struct site *site)
{
    return site->failure_timeout_ms / 2;
}

void site_free(struct site *site, const struct cyaml_schema_field *nf_fields, uint32_t nf_size,
               void *nf_config)
{
    struct setup u;
    if (!site)
        return;
    /* nf_config is what the load left in the struct behind the site */
    set_up(&u, nf_fields, nf_size);
    cyaml_free(&u.config, &u.top, site, 0);
}

static int load(const uint8_t *text, uint32_t bytes, const struct cyaml_schema_field *nf_fields,
                uint32_t nf_size, struct loaded **out, const struct complaint *c)
{
    struct setup u;
    struct loaded *l = NULL;
    set_up(&u, nf_fields, nf_size);
    cyaml_err_t bad = cyaml_load_data(text, bytes, &u.config, &u.top, (cyaml_data_t **)&l, NULL);
    if (bad == CYAML_OK && !l)
        return complain(c, "store.nodes", "the file is empty; write at least one node");
    if (bad != CYAML_OK) {
        if (!*u.words.message)
            snprintf(u.words.message, sizeof u.words.message, "%s", cyaml_strerror(bad));
        return explain(c, &u.words, &u.top);
    }
    if (site_check(l, c) != 0) {
        site_free(&l->site, nf_fields, nf_size, l->nf_config);
        return -EINVAL;
    }
    *out = l;
    return 0;
}

/* Values and keys are quoted in errors as they came; an error is one line. */
static void make_one_line(char *err)
{
    for (; *err; err++)
        if ((unsigned char)*err < 0x20 || *err == 0x7f)
            *err = '?';
}

static int parse(const char *file, const uint8_t *text, uint32_t bytes,
                 const struct cyaml_schema_field *nf_fields, uint32_t nf_size, struct site **site,
                 void **nf_config, char *err, uint32_t err_len)
{
    struct places places;
    struct loaded *l = NULL;
    struct complaint c = {.file = file, .places = &places, .err = err, .err_len = err_len};
    int bad = places_read(&places, text, bytes);
    if (bad == -EINVAL)
        snprintf(err, err_len, "%s:%u: %s%s%s", file, places.bad_line, places.bad_key,
                 *places.bad_key ? ": " : "", places.bad);
    else if (bad)
        snprintf(err, err_len, "%s: out of memory", file);
    else
        bad = load(text, bytes, nf_fields, nf_size, &l, &c);
    places_free(&places);
    if (bad) {
        make_one_line(err);
        return bad;
    }
    *site = &l->site;
    if (nf_config)
        *nf_config = l->nf_config;
    return 0;
}

int site_parse(const uint8_t *text, uint32_t bytes, const struct cyaml_schema_field *nf_fields,
               uint32_t nf_size, struct site **site, void **nf_config, char *err,
               uint32_t err_len)
{
    return parse("site.yaml", text, bytes, nf_fields, nf_size, site, nf_config, err, err_len);
}

/* The whole file, malloced; NULL and a sentence. */
static uint8_t *read_file(const char *path, uint32_t *bytes, char *err, uint32_t err_len)
{
    uint8_t *text = malloc(FILE_BYTES_MAX + 1);
    FILE *f = text ? fopen(path, "rb") : NULL;
    size_t n = f ? fread(text, 1, FILE_BYTES_MAX + 1, f) : 0;
    int error = errno;
    if (f && !ferror(f) && n <= FILE_BYTES_MAX) {
        fclose(f);
        *bytes = (uint32_t)n;
        return text;
    }
    if (n > FILE_BYTES_MAX)
        snprintf(err, err_len, "%s: is longer than %d bytes; is this a site.yaml?", path,
                 FILE_BYTES_MAX);
    else
        snprintf(err, err_len, "%s: cannot be read: %s; name the site's file with -c", path,
                 strerror(error));
    if (f)
        fclose(f);
    free(text);
    errno = error;
    return NULL;
}

int site_load(const char *path, const struct cyaml_schema_field *nf_fields, uint32_t nf_size,
              struct site **site, void **nf_config, char *err, uint32_t err_len)
{
    uint32_t bytes;
    uint8_t *text = read_file(path, &bytes, err, err_len);
    if (!text)
        return errno == ENOENT ? -ENOENT : -EIO;
    int bad = parse(path, text, bytes, nf_fields, nf_size, site, nf_config, err, err_len);
    free(text);
    return bad;
}

uint32_t site_line(const char *path, const char *key)
{
    char err[200];
    uint32_t bytes, line = 0;
    uint8_t *text = read_file(path, &bytes, err, sizeof err);
    struct places places;
    if (!text)
        return 0;
    if (places_read(&places, text, bytes) == 0)
        line = places_line(&places, key);
    places_free(&places);
    free(text);
    return line;
}
