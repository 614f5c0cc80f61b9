/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nat44's configuration: YAML in, as lethe-nf loads it; errors that name the
 * key; the schemas; external addresses and their indexes.
 */
#include "tests/check.h"

#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "nf/nat44/nat44.h"

static struct nat_self self;
static struct table_schema tables[NF_TABLES_MAX];
static int ntables;

static cyaml_schema_value_t top(void)
{
    return (cyaml_schema_value_t){.type = CYAML_MAPPING,
                                  .flags = CYAML_FLAG_POINTER,
                                  .data_size = nat44_ops.config_size,
                                  .mapping.fields = nat44_ops.config_fields};
}

/* 0, or -errno with a sentence; -1: libcyaml refused it. */
static int load(const char *yaml, char *err, uint32_t err_len)
{
    const cyaml_config_t config = {.log_level = CYAML_LOG_WARNING, .mem_fn = cyaml_mem};
    const cyaml_schema_value_t schema = top();
    void *data = NULL;
    int rc;

    if (cyaml_load_data((const uint8_t *)yaml, strlen(yaml), &config, &schema, &data, NULL))
        return -1;
    rc = nat44_ops.init(&self, data, tables, &ntables, err, err_len);
    cyaml_free(&config, &schema, data, 0);
    return rc;
}

static void must_load(const char *yaml)
{
    char err[300] = "libcyaml refused it";
    CHECK(load(yaml, err, sizeof err) == 0, "%s", err);
}

static const struct {
    const char *yaml, *says;
} refused[] = {
    {"external: [203.0.113.300]", "external: \"203.0.113.300\" is no IPv4 address"},
    {"external: [203.0.113.0/33]", "is no IPv4 address or prefix; write one like"},
    {"external: [203.0.113.0/]", "is no IPv4 address or prefix"},
    {"external: [203.0.113.0/2x]", "is no IPv4 address or prefix"},
    {"external: [203.0.113.1/24]", "write 203.0.113.0/24, or the one address"},
    {"external: [203.0.0.0/16]", "more than 1024 addresses"},
    {"external: [0.0.0.0/0]", "more than 1024 addresses"},
    {"external: [203.0.113.0/28, 203.0.113.3]", "is there twice, overlapping entry 1"},
    {"external: [10.0.0.1]", "inside: \"10.0.0.0/8\" contains external addresses"},
    {"external: [203.0.113.1]\ninside: [203.0.113.0/24]", "contains external addresses"},
    {"external: [203.0.113.1]\ninside: [10.0.0.1/8]", "inside: \"10.0.0.1/8\" has bits"},
    {"external: [203.0.113.1]\ninside_address: 10.0.0.0/8", "inside_address: \"10.0.0.0/8\""},
    {"external: [203.0.113.1]\noutside_address: 224.0.0.1", "outside_address: \"224.0.0.1\""},
    {"external: [203.0.113.1]\nudp_s: 30", "udp_s: 30 is outside 120..86400 seconds (RFC 4787"},
    {"external: [203.0.113.1]\nicmp_s: 59", "icmp_s: 59 is outside 60"},
    {"external: [203.0.113.1]\ntcp_established_s: 3600", "tcp_established_s: 3600"},
    {"external: [203.0.113.1]\ntcp_transitory_s: 60", "tcp_transitory_s: 60"},
    {"external: [203.0.113.1]\ntcp_reset_s: 9", "tcp_reset_s: 9 is outside 10"},
};

static void errors_name_key_and_cure(void **state)
{
    char err[300];

    for (unsigned i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        err[0] = '\0';
        CHECK(load(refused[i].yaml, err, sizeof err) == -EINVAL, "%s", refused[i].yaml);
        CHECK(strstr(err, refused[i].says), "%s: says \"%s\"", refused[i].yaml, err);
    }
    assert_int_equal(load("external: []", err, sizeof err), -1);
    assert_int_equal(load("external: [203.0.113.1]\nextarnal: 7", err, sizeof err), -1);
    assert_int_equal(nat44_ops.init(&self, NULL, tables, &ntables, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "external: missing"));
}

static void defaults_are_those_of_the_rfcs(void **state)
{
    must_load("external: [203.0.113.1]");
    assert_int_equal(self.udp_ms, 300000);
    assert_int_equal(self.icmp_ms, 60000);
    assert_int_equal(self.tcp_established_ms, 7440000);
    assert_int_equal(self.tcp_transitory_ms, 240000);
    assert_int_equal(self.quarantine_ms, 120000);
    assert_false(self.inbound_refresh);
    assert_int_equal(self.max_mappings, 0);
}

static struct packet_addr addr(uint32_t host_order)
{
    return packet_ipv4(__builtin_bswap32(host_order));
}

/* Every external end point of scattered ranges has an index of its own. */
static void indexes_and_back(void **state)
{
    struct packet_addr a, back;
    uint32_t index, seen = 0;
    uint16_t port;

    must_load("external: [203.0.113.4/30, 198.51.100.9, 192.0.2.128/25]");
    assert_int_equal(self.addresses, 4 + 1 + 128);
    for (uint32_t number = 0; number < self.addresses; number++) {
        a = nat_external_address(&self, number);
        assert_int_equal(nat_external_number(&self, &a), number);
        for (uint32_t p = 1024; p < 65536; p += number % 2 ? 64511 : 997) {
            CHECK(nat_index_of(&self, &a, __builtin_bswap16((uint16_t)p), &index), "port %u", p);
            CHECK(index >= seen && index < self.addresses * NAT_PORTS, "index %u", index);
            seen = index;
            nat_of_index(&self, index, &back, &port);
            assert_memory_equal(&a, &back, sizeof a);
            assert_int_equal(__builtin_bswap16(port), p);
        }
        assert_false(nat_index_of(&self, &a, __builtin_bswap16(1023), &index));
    }
    a = addr(0xcb007108); /* 203.0.113.8 */
    assert_int_equal(nat_external_number(&self, &a), -1);
    a = addr(0xcb007103);
    assert_int_equal(nat_external_number(&self, &a), -1);
}

static void schemas_are_valid(void **state)
{
    must_load("external: [203.0.113.0/28]");
    assert_int_equal(ntables, NAT_HOST);
    for (int i = 0; i < ntables; i++)
        CHECK(!schema_validate(&tables[i]), "%s: %s", tables[i].name, schema_validate(&tables[i]));
    CHECK(tables[NAT_POOL].max_entries > 1000000, "16 addresses are a million mappings: %u",
          tables[NAT_POOL].max_entries);
    assert_int_equal(tables[NAT_MAP].part_len, 20);
    must_load("external: [203.0.113.0/28]\nmax_mappings_per_address: 50");
    assert_int_equal(ntables, NAT_TABLES);
    for (int i = 0; i < ntables; i++)
        CHECK(!schema_validate(&tables[i]), "%s: %s", tables[i].name, schema_validate(&tables[i]));
    assert_int_equal(tables[NAT_MAP].part_len, 16);
}

/* Workers that would read each other's state wrongly are told apart. */
static void mixtures_are_refused(void **state)
{
    struct table_schema was[NF_TABLES_MAX];
    char err[200];

    must_load("external: [203.0.113.1, 203.0.113.2]");
    memcpy(was, tables, sizeof was);
    must_load("external: [203.0.113.1, 203.0.113.2]\nudp_s: 300");
    assert_int_equal(schema_compare(&was[NAT_POOL], &tables[NAT_POOL], err, sizeof err), 0);
    must_load("external: [203.0.113.2, 203.0.113.1]"); /* the same, in another order */
    assert_int_not_equal(schema_compare(&was[NAT_POOL], &tables[NAT_POOL], err, sizeof err), 0);
    must_load("external: [203.0.113.1, 203.0.113.2]\nmax_mappings_per_address: 50");
    assert_int_not_equal(schema_compare(&was[NAT_MAP], &tables[NAT_MAP], err, sizeof err), 0);
    CHECK(strstr(err, "nat.map.tcp"), "%s", err);
}

static void inside_prefixes(void **state)
{
    const struct {
        uint32_t a;
        bool usual, given;
    } rows[] = {
        {0x0a010203, true, false}, {0xac1fffff, true, false}, {0xac200000, false, false},
        {0xc0a80001, true, false}, {0x64400001, true, false}, {0x08080808, false, false},
        {0x0b000001, false, true}, {0x0b0000ff, false, true}, {0x0b000100, false, false},
    };

    must_load("external: [203.0.113.1]");
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct packet_addr a = addr(rows[i].a);
        CHECK(nat_is_inside(&self, &a) == rows[i].usual, "%08x", rows[i].a);
    }
    must_load("external: [203.0.113.1]\ninside: [11.0.0.0/24]");
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct packet_addr a = addr(rows[i].a);
        CHECK(nat_is_inside(&self, &a) == rows[i].given, "%08x", rows[i].a);
    }
}

/* --- docs/nat.md --------------------------------------------------------------------- */

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "r");
    CHECK(f, "%s", path);
    char *content = calloc(1, 131072);
    assert_non_null(content);
    CHECK(fread(content, 1, 131071, f) > 0, "%s is empty", path);
    fclose(f);
    return content;
}

/* Every row that the page quotes as `"..."` is a row of a test. */
static void the_page_names_real_rows(void **state)
{
    static const char *const files[] = {
        "/nf/nat44/nat44_test.c", "/nf/nat44/nat44_edge_test.c", "/nf/nat44/nat44_random_test.c",
        "/nf/nat44/nat44_config_test.c", "/common/packet/rewrite_test.c"};
    enum { FILES = sizeof files / sizeof files[0] };
    char *page = read_file(LETHE_SOURCE_DIR "/docs/nat.md"), *tests[FILES], path[512];
    unsigned rows = 0;

    for (int i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s%s", LETHE_SOURCE_DIR, files[i]);
        tests[i] = read_file(path);
    }
    for (char *at = strstr(page, "`\""); at; at = strstr(at, "`\""), rows++) {
        char *end = strstr(at + 2, "\"`");
        bool found = false;
        CHECK(end, "an open quotation: %.40s", at);
        *end = '\0';
        for (int i = 0; i < FILES; i++)
            found |= strstr(tests[i], at + 2) != NULL;
        CHECK(found, "docs/nat.md names \"%s\", which no test has", at + 2);
        at = end + 2;
    }
    CHECK(rows > 40, "only %u rows", rows);
    for (int i = 0; i < FILES; i++)
        free(tests[i]);
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_name_key_and_cure),
        cmocka_unit_test(defaults_are_those_of_the_rfcs),
        cmocka_unit_test(indexes_and_back),
        cmocka_unit_test(schemas_are_valid),
        cmocka_unit_test(mixtures_are_refused),
        cmocka_unit_test(inside_prefixes),
        cmocka_unit_test(the_page_names_real_rows),
    };
    return cmocka_run_group_tests_name("nat44_config", tests, NULL, NULL);
}
