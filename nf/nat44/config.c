/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nat44's configuration (`nfs: nat44:` in site.yaml), checked: addresses,
 * time-outs, defaults; and the table schemas that follow from it. docs/nat.md
 * explains each key.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nat44.h"

/* --- addresses and prefixes ------------------------------------------------------- */

struct error {
    char *text;
    uint32_t len;
};

#define COMPLAIN(e, ...) (snprintf((e).text, (e).len, __VA_ARGS__), -EINVAL)

/* "192.0.2.1" or "192.0.2.0/24" -> first address and prefix length. */
static int parse_prefix(const char *key, const char *s, uint32_t *first, uint32_t *bits,
                        struct error e)
{
    char addr[64], *slash, *end = NULL;
    struct in_addr in;
    unsigned long len = 32;

    snprintf(addr, sizeof addr, "%s", s);
    slash = strchr(addr, '/');
    if (slash) {
        *slash = '\0';
        len = strtoul(slash + 1, &end, 10);
    }
    if (inet_pton(AF_INET, addr, &in) != 1 || len > 32 || (slash && (!slash[1] || *end)))
        return COMPLAIN(e,
                        "%s: \"%s\" is no IPv4 address or prefix; write one like 192.0.2.1 or "
                        "192.0.2.0/28",
                        key, s);
    *first = ntohl(in.s_addr);
    *bits = (uint32_t)len;
    if (len < 32 && *first & (0xffffffffu >> len)) {
        in.s_addr = htonl(*first & ~(0xffffffffu >> len));
        return COMPLAIN(e,
                        "%s: \"%s\" has bits behind its prefix; write %s/%lu, or the one "
                        "address without a prefix",
                        key, s, inet_ntoa(in), len);
    }
    return 0;
}

static uint32_t count_of(uint32_t bits)
{
    return bits ? 1u << (32 - bits) : 0xffffffff;
}

static int add_external(struct nat_self *self, const char *s, struct error e)
{
    uint32_t first, bits;
    int rc = parse_prefix("external", s, &first, &bits, e);

    if (rc)
        return rc;
    if (bits < 22 || self->addresses + count_of(bits) > NAT_ADDRESSES_MAX)
        return COMPLAIN(e, "external: more than %d addresses with \"%s\"; write fewer",
                        NAT_ADDRESSES_MAX, s);
    for (uint32_t i = 0; i < self->nexternal; i++) {
        const struct nat_range *r = &self->external[i];
        if (first < r->first + r->count && r->first < first + count_of(bits))
            return COMPLAIN(e,
                            "external: \"%s\" is there twice, overlapping entry %u; write each "
                            "address once",
                            s, i + 1);
    }
    self->external[self->nexternal++] =
        (struct nat_range){.first = first, .count = count_of(bits), .number = self->addresses};
    self->addresses += count_of(bits);
    return 0;
}

static int add_inside(struct nat_self *self, const char *s, struct error e)
{
    uint32_t first, bits, mask;
    int rc = parse_prefix("inside", s, &first, &bits, e);

    if (rc)
        return rc;
    mask = bits ? ~0u << (32 - bits) : 0;
    for (uint32_t i = 0; i < self->nexternal; i++) {
        const struct nat_range *r = &self->external[i];
        uint32_t last = r->first + r->count - 1;
        if ((r->first & mask) == first || (last & mask) == first)
            return COMPLAIN(e,
                            "inside: \"%s\" contains external addresses; write prefixes that "
                            "only inside hosts have",
                            s);
    }
    self->inside[self->ninside++] = (struct nat_prefix){.first = first, .mask = mask};
    return 0;
}

static int take_lists(struct nat_self *self, const struct nat_config *c, struct error e)
{
    /* RFC 1918 and RFC 6598 */
    static const char *const usual[] = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
                                        "100.64.0.0/10"};
    int rc = 0;

    for (unsigned i = 0; i < c->external_count && !rc; i++)
        rc = i < NAT_RANGES_MAX ? add_external(self, c->external[i], e)
                                : COMPLAIN(e,
                                           "external: more than %d entries; write longer "
                                           "prefixes",
                                           NAT_RANGES_MAX);
    for (unsigned i = 0; i < c->inside_count && !rc; i++)
        rc = i < NAT_PREFIXES_MAX ? add_inside(self, c->inside[i], e)
                                  : COMPLAIN(e,
                                             "inside: more than %d entries; write shorter "
                                             "prefixes",
                                             NAT_PREFIXES_MAX);
    for (unsigned i = 0; i < 4 && !c->inside_count && !rc; i++)
        rc = add_inside(self, usual[i], e);
    return rc;
}

static int take_own(struct nat_self *self, const char *key, const char *s, enum packet_side side,
                    struct error e)
{
    uint32_t first, bits;
    int rc;

    self->own[side] = nat_external_address(self, 0);
    if (!s || !s[0])
        return 0;
    rc = parse_prefix(key, s, &first, &bits, e);
    if (rc)
        return rc;
    self->own[side] = packet_ipv4(htonl(first));
    if (bits != 32 || !nat_is_unicast(&self->own[side]))
        return COMPLAIN(e,
                        "%s: \"%s\" is not one host's address; write the NAT's own address on "
                        "that side",
                        key, s);
    return 0;
}

/* --- numbers -------------------------------------------------------------------------- */

struct number {
    const char *key;
    unsigned given;
    uint32_t *ms;
    unsigned usual_s, least_s, most_s;
    const char *source;
};

static int take_seconds(const struct number *n, struct error e)
{
    unsigned s = n->given ? n->given : n->usual_s;

    if (s < n->least_s || s > n->most_s)
        return COMPLAIN(e, "%s: %u is outside %u..%u seconds (%s)", n->key, s, n->least_s,
                        n->most_s, n->source);
    *n->ms = s * 1000;
    return 0;
}

static int take_timeouts(struct nat_self *self, const struct nat_config *c, struct error e)
{
    enum { DAY = 86400 };
    const struct number numbers[] = {
        {"udp_s", c->udp_s, &self->udp_ms, 300, 120, DAY, "RFC 4787 REQ-5: not below 2 minutes"},
        {"icmp_s", c->icmp_s, &self->icmp_ms, 60, 60, DAY, "RFC 5508 REQ-2: not below 60 seconds"},
        {"tcp_transitory_s", c->tcp_transitory_s, &self->tcp_transitory_ms, 240, 240, DAY,
         "RFC 5382 REQ-5: not below 4 minutes"},
        {"tcp_established_s", c->tcp_established_s, &self->tcp_established_ms, 7440, 7440, 7 * DAY,
         "RFC 5382 REQ-5: not below 2 hours 4 minutes"},
        {"tcp_closing_s", c->tcp_closing_s, &self->tcp_closing_ms, 240, 240, DAY,
         "RFC 5382 REQ-5: not below 4 minutes"},
        {"tcp_reset_s", c->tcp_reset_s, &self->tcp_reset_ms, 240, 10, DAY,
         "RFC 7857 section 2: 4 minutes unless there is a reason"},
        {"port_rest_s", c->port_rest_s, &self->quarantine_ms, 120, 1, DAY,
         "RFC 6888 REQ-8: should be 120"},
    };
    int rc = 0;

    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0] && !rc; i++)
        rc = take_seconds(&numbers[i], e);
    self->fragment_ms = 2000;
    return rc;
}

/* --- schemas --------------------------------------------------------------------------- */

static const char *const proto_names[NAT_PROTOS] = {"tcp", "udp", "icmp"};

/* The list of external addresses, in 16 bits: the meaning of every index. */
static uint16_t fingerprint(const struct nat_self *self)
{
    uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a, a word at a time */

    for (uint32_t i = 0; i < self->nexternal; i++) {
        h = (h ^ self->external[i].first) * 0x100000001b3ull;
        h = (h ^ self->external[i].count) * 0x100000001b3ull;
    }
    return (uint16_t)((h ^ h >> 16 ^ h >> 32 ^ h >> 48) | 1);
}

static void schema_pool(const struct nat_self *self, int proto, struct table_schema *s)
{
    snprintf(s->name, sizeof s->name, "nat.ports.%s", proto_names[proto]);
    s->kind = TABLE_POOL;
    s->version = fingerprint(self);
    s->key_size = s->part_len = 4;
    s->value_size = sizeof(struct nat_end_point);
    s->max_entries = self->addresses * NAT_PORTS;
    s->quarantine_ms = self->quarantine_ms;
}

static void schema_map(const struct nat_self *self, int proto, struct table_schema *s)
{
    snprintf(s->name, sizeof s->name, "nat.map.%s", proto_names[proto]);
    s->kind = TABLE_HASH;
    s->version = 1;
    s->key_size = sizeof(struct nat_end_point);
    s->part_len = self->part_len;
    s->value_size = sizeof(struct nat_map);
    /* A TCP mapping lives as long as it has sessions. */
    s->timeout_ms = proto == NAT_TCP ? 0 : proto == NAT_UDP ? self->udp_ms : self->icmp_ms;
    s->flags = proto == NAT_TCP ? TABLE_PARENT_DIES : 0;
    s->reactions[0] = (struct table_reaction){
        .kind = REACT_FREE, .off = offsetof(struct nat_map, index), .len = 12};
    snprintf(s->reactions[0].table, TABLE_NAME_MAX, "nat.ports.%s", proto_names[proto]);
    if (!self->max_mappings)
        return;
    s->reactions[1] = (struct table_reaction){
        .kind = REACT_SUB, .off = offsetof(struct nat_end_point, addr), .len = 16};
    snprintf(s->reactions[1].table, TABLE_NAME_MAX, "nat.host");
}

static void schema_others(const struct nat_self *self, struct table_schema *t)
{
    t[NAT_SESSION] = (struct table_schema){.name = "nat.session",
                                           .kind = TABLE_HASH,
                                           .version = 1,
                                           .key_size = sizeof(struct nat_session_key),
                                           .part_len = self->part_len,
                                           .value_size = sizeof(struct nat_session),
                                           .timeout_ms = self->tcp_transitory_ms,
                                           .max_entries = self->max_sessions};
    /* Two seconds of lost fragments after a fail-over are nothing worth waiting for. */
    t[NAT_FRAG] = (struct table_schema){.name = "nat.frag",
                                        .kind = TABLE_HASH,
                                        .durability = DURABLE_ASYNC,
                                        .version = 1,
                                        .key_size = sizeof(struct nat_frag_key),
                                        .part_len = sizeof(struct nat_frag_key),
                                        .value_size = sizeof(struct nat_frag),
                                        .timeout_ms = self->fragment_ms,
                                        .max_entries = NAT_FRAGMENTS_MAX};
    t[NAT_HOST] = (struct table_schema){.name = "nat.host",
                                        .kind = TABLE_COUNTERS,
                                        .version = 1,
                                        .key_size = sizeof(struct packet_addr),
                                        .part_len = sizeof(struct packet_addr),
                                        .value_size = 8};
}

int nat_init(void *self_, const void *config, struct table_schema *tables, int *ntables, char *err,
             uint32_t err_len)
{
    const struct nat_config *c = config;
    struct nat_self *self = self_;
    struct error e = {err, err_len};
    int rc;

    memset(self, 0, sizeof *self);
    if (!c || !c->external_count)
        return COMPLAIN(e, "external: missing; write the addresses that inside hosts get outside, "
                           "like external: [192.0.2.1]");
    self->inbound_refresh = c->inbound_refresh;
    self->quiet = c->quiet;
    self->max_mappings = c->max_mappings_per_address;
    self->max_sessions = c->max_sessions;
    self->part_len = self->max_mappings ? sizeof(struct packet_addr) : sizeof(struct nat_end_point);
    rc = take_lists(self, c, e);
    if (!rc)
        rc = take_own(self, "inside_address", c->inside_address, SIDE_INSIDE, e);
    if (!rc)
        rc = take_own(self, "outside_address", c->outside_address, SIDE_OUTSIDE, e);
    if (!rc)
        rc = take_timeouts(self, c, e);
    if (rc)
        return rc;

    memset(tables, 0, NAT_TABLES * sizeof *tables);
    for (int proto = 0; proto < NAT_PROTOS; proto++) {
        schema_pool(self, proto, &tables[NAT_POOL + proto]);
        schema_map(self, proto, &tables[NAT_MAP + proto]);
    }
    schema_others(self, tables);
    *ntables = self->max_mappings ? NAT_TABLES : NAT_HOST;
    return 0;
}
