/* SPDX-License-Identifier: BSD-3-Clause */
/* What the NAT's keys and values are, for people who look at its tables. */
#include "nat44.h"

static const char *const states[] = {
    [TCP_SYN_OUT] = "syn_out", [TCP_SYN_IN] = "syn_in", [TCP_SYN_BOTH] = "syn_both",
    [TCP_ESTABLISHED] = "established", [TCP_FIN_OUT] = "fin_out", [TCP_FIN_IN] = "fin_in",
    [TCP_CLOSING] = "closing", [TCP_RESET] = "reset", [TCP_STATES] = NULL};

static const struct table_field end_point[] = {{"inside", FIELD_END_POINT, 0, NULL}};
static const struct table_field outside[] = {{"outside", FIELD_POOLED, 0, NULL}};
static const struct table_field map[] = {
    {"outside", FIELD_POOLED, offsetof(struct nat_map, index), NULL},
    {"pool_version", FIELD_U64, offsetof(struct nat_map, version), NULL}};
static const struct table_field session_key[] = {
    {"inside", FIELD_END_POINT, offsetof(struct nat_session_key, inside), NULL},
    {"remote", FIELD_END_POINT, offsetof(struct nat_session_key, remote), NULL}};
static const struct table_field session[] = {
    {"outside", FIELD_POOLED, offsetof(struct nat_session, index), NULL},
    {"state", FIELD_NAMES, offsetof(struct nat_session, state), states}};
static const struct table_field frag_key[] = {
    {"src", FIELD_ADDR, offsetof(struct nat_frag_key, src), NULL},
    {"dst", FIELD_ADDR, offsetof(struct nat_frag_key, dst), NULL},
    {"ip_id", FIELD_BE16, offsetof(struct nat_frag_key, id), NULL},
    {"proto", FIELD_PROTO, offsetof(struct nat_frag_key, proto), NULL}};
static const struct table_field frag[] = {
    {"becomes_src", FIELD_IPV4, offsetof(struct nat_frag, src), NULL},
    {"becomes_dst", FIELD_IPV4, offsetof(struct nat_frag, dst), NULL},
    {"turned", FIELD_U8, offsetof(struct nat_frag, turned), NULL}};
static const struct table_field host_key[] = {{"inside", FIELD_ADDR, 0, NULL}};
static const struct table_field host[] = {{"mappings", FIELD_I64, 0, NULL}};

#define COUNT(fields) (uint32_t)(sizeof(fields) / sizeof(fields)[0])

static void pool_of(const struct nat_self *self, struct layout_pool *pool)
{
    *pool = (struct layout_pool){.nranges = self->nexternal, .first_port = NAT_PORT_MIN, .ports = NAT_PORTS};
    for (uint32_t i = 0; i < self->nexternal; i++) {
        pool->ranges[i].first = self->external[i].first;
        pool->ranges[i].count = self->external[i].count;
    }
}

_Static_assert((int)NAT_RANGES_MAX <= (int)LAYOUT_RANGES, "the ranges fit");

void nat_layout(const void *self, int table, struct table_layout *out)
{
    pool_of(self, &out->pool);
    if (table == NAT_SESSION) {
        layout_key(out, session_key, COUNT(session_key));
        layout_value(out, session, COUNT(session));
    } else if (table == NAT_FRAG) {
        layout_key(out, frag_key, COUNT(frag_key));
        layout_value(out, frag, COUNT(frag));
    } else if (table == NAT_HOST) {
        layout_key(out, host_key, COUNT(host_key));
        layout_value(out, host, COUNT(host));
    } else if (table >= NAT_POOL) {
        layout_key(out, outside, COUNT(outside));
        layout_value(out, end_point, COUNT(end_point));
    } else {
        layout_key(out, end_point, COUNT(end_point));
        layout_value(out, map, COUNT(map));
    }
}
