/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * site.yaml, as a program without network functions reads it and as lethe-nf
 * does. What is taken must keep its promises (bounds, no NULL where none may
 * be); what is refused must be refused in one line that names file and line.
 */
#include "tests/fuzz/fuzz.h"

#include <cyaml/cyaml.h>

#include "common/config/site.h"
#include "common/config/truth.h"
#include "common/log/log.h"

struct nat { char **external; unsigned external_count, udp_s; bool quiet; };
struct nfs { struct nat *nat44; };
static const cyaml_schema_value_t text = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, 64)};
static const cyaml_schema_field_t nat_fields[] = {
    CYAML_FIELD_SEQUENCE("external", CYAML_FLAG_POINTER, struct nat, external, &text, 1, 4),
    CYAML_FIELD_UINT("udp_s", CYAML_FLAG_OPTIONAL, struct nat, udp_s),
    CONFIG_TRUTH("quiet", struct nat, quiet), CYAML_FIELD_END};
static const cyaml_schema_field_t nf_fields[] = {
    CYAML_FIELD_MAPPING_PTR("nat44", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct nfs, nat44,
                            nat_fields),
    CYAML_FIELD_END};

static void check_site(const struct site *s)
{
    MUST(s->store.shards >= 1 && s->store.shards <= 16);
    MUST(s->store.nodes_count >= 1 && s->store.nodes_count <= SITE_NODES_MAX);
    for (unsigned i = 0; i < s->store.nodes_count; i++)
        MUST(*s->store.nodes[i].name && strchr(s->store.nodes[i].listen, ':'));
    MUST(s->failure_timeout_ms >= 20 && s->failure_timeout_ms <= 10000);
    MUST(s->store.copies >= 1 && s->store.copies <= s->store.nodes_count);
    MUST(s->store.min_copies >= 1 && s->store.min_copies <= s->store.copies);
    MUST(s->store.etcd_count || s->store.nodes_count <= 2);
    MUST(s->worker.mbufs > s->worker.packets_in_flight);
    MUST(s->run_dir && s->steering.control && s->steering.memif_dir && s->worker.ipv6);
    MUST(!s->steering.inside.address == !s->steering.outside.address);
    for (unsigned i = 0; i < s->chain_count; i++)
        MUST(*s->chain[i]);
    MUST(site_fronts(s) <= SITE_FRONTS_MAX);
    for (unsigned i = 0; i < site_fronts(s); i++) {
        struct site_front f = site_front(s, i);
        MUST(f.inside.address && f.outside.port && f.control && f.memif_dir);
        MUST(site_front_named(s, f.name) == (int)i);
    }
    for (unsigned i = 0; i < s->groups_count; i++)
        MUST(!site_fronts(s) || site_front_named(s, s->groups[i].front) >= 0);
}

static void check_error(const char *err)
{
    MUST(strncmp(err, "site.yaml:", 10) == 0);
    MUST(err[10] >= '1' && err[10] <= '9');
    for (; *err; err++)
        MUST((unsigned char)*err >= 0x20);
}

static void parse(const uint8_t *data, uint32_t size, const cyaml_schema_field_t *fields)
{
    uint32_t nf_size = fields ? sizeof(struct nfs) : 0;
    struct site *site = NULL;
    void *config = NULL;
    char err[300] = "";
    if (site_parse(data, size, fields, nf_size, &site, &config, err, sizeof err) != 0) {
        MUST(!site && !config);
        check_error(err);
        return;
    }
    check_site(site);
    if (config && ((struct nfs *)config)->nat44)
        MUST(((struct nfs *)config)->nat44->external_count >= 1);
    site_free(site, fields, nf_size, config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    log_init("fuzz_site", NULL, LOG_LEVEL_ERROR); /* a short time-out would warn */
    uint8_t *copy = guarded_copy(data, size);
    parse(copy, (uint32_t)size, NULL);
    parse(copy, (uint32_t)size, nf_fields);
    free(copy);
    return 0;
}
