/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nat44: network address and port translation of IPv4, endpoint-independent in
 * mapping and filtering. docs/nat.md lists what it does, RFC by RFC; nat44.h
 * says what it remembers. It has no memory of its own.
 */
#include <cyaml/cyaml.h>

#include "nat44.h"
#include "common/config/truth.h"

static const cyaml_schema_value_t text = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, 64),
};

#define NUMBER(key) CYAML_FIELD_UINT(#key, CYAML_FLAG_OPTIONAL, struct nat_config, key)
#define TEXT(key)                                                                                  \
    CYAML_FIELD_STRING_PTR(#key, CYAML_FLAG_POINTER_NULL_STR | CYAML_FLAG_OPTIONAL,                \
                           struct nat_config, key, 0, 64)

static const cyaml_schema_field_t fields[] = {
    CYAML_FIELD_SEQUENCE("external", CYAML_FLAG_POINTER, struct nat_config, external, &text, 1,
                         NAT_RANGES_MAX),
    CYAML_FIELD_SEQUENCE("inside", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct nat_config,
                         inside, &text, 0, NAT_PREFIXES_MAX),
    TEXT(inside_address),
    TEXT(outside_address),
    NUMBER(udp_s),
    NUMBER(icmp_s),
    NUMBER(tcp_transitory_s),
    NUMBER(tcp_established_s),
    NUMBER(tcp_closing_s),
    NUMBER(tcp_reset_s),
    NUMBER(port_rest_s),
    NUMBER(max_mappings_per_address),
    NUMBER(max_sessions),
    CONFIG_TRUTH("inbound_refresh", struct nat_config, inbound_refresh),
    CONFIG_TRUTH("quiet", struct nat_config, quiet),
    CYAML_FIELD_END};

static const char *const drops[] = {
#define X(name, text) text,
    NAT_DROPS(X)
#undef X
        NULL};

static const char *const counts[] = {
#define X(name, text) text,
    NAT_COUNTS(X)
#undef X
        NULL};

_Static_assert(sizeof(struct nat_end_point) == 20, "no padding: it is a key");
_Static_assert(sizeof(struct nat_session_key) == TXN_KEY_MAX, "no padding: it is a key");
_Static_assert(sizeof(struct nat_frag_key) == 36, "no padding: it is a key");
_Static_assert(sizeof(struct nat_map) == 16 && sizeof(struct nat_session) == 8 &&
                   sizeof(struct nat_frag) == 16,
               "values of the schemas");
_Static_assert(NAT_PORTS % POOL_BLOCK == 0, "an address is whole blocks of the pool");
_Static_assert((int)NAT_TABLES <= (int)NF_TABLES_MAX, "tables");

const struct nf_ops nat44_ops = {
    .name = "nat44",
    .takes_ipv4 = true,
    .config_size = sizeof(struct nat_config),
    .config_fields = fields,
    .drop_reasons = drops,
    .counter_names = counts,
    .self_size = sizeof(struct nat_self),
    .init = nat_init,
    .layout = nat_layout,
    .lookup = nat_lookup,
    .process = nat_process,
};
