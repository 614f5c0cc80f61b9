/* SPDX-License-Identifier: BSD-3-Clause */
/* Fields of keys and values as text: known ones, any bytes there and back, wrong text, wrong layouts. */
#include "tests/check.h"

#include <stdlib.h>

#include "common/packet/layout.h"

static const char *const states[] = {"syn_out", "established", NULL};
static const struct layout_pool pool = {.nranges = 2, .first_port = 1024, .ports = 64512,
                                        .ranges = {{0xcb007101, 2}, {0xcb007201, 1}}}; /* 203.0.113.1-2, 203.0.114.1 */

static const struct { uint8_t type; const char *text; uint8_t bytes[40]; } known[] = {
    {FIELD_U8, "200", {200}},
    {FIELD_U16, "513", {1, 2}},
    {FIELD_U32, "4294967295", {255, 255, 255, 255}},
    {FIELD_U64, "18446744073709551615", {255, 255, 255, 255, 255, 255, 255, 255}},
    {FIELD_I64, "-2", {254, 255, 255, 255, 255, 255, 255, 255}},
    {FIELD_I64, "-9223372036854775808", {0, 0, 0, 0, 0, 0, 0, 128}},
    {FIELD_BE16, "258", {1, 2}},
    {FIELD_NAMES, "established", {1}},
    {FIELD_NAMES, "9", {9}},
    {FIELD_PROTO, "tcp", {6}},
    {FIELD_PROTO, "47", {47}},
    {FIELD_IPV4, "10.1.0.5", {10, 1, 0, 5}},
    {FIELD_ADDR, "10.1.0.5", {[10] = 255, 255, 10, 1, 0, 5}},
    {FIELD_ADDR, "2001:db8::1", {0x20, 0x01, 0x0d, 0xb8, [15] = 1}},
    {FIELD_END_POINT, "10.1.0.5:258/udp", {[10] = 255, 255, 10, 1, 0, 5, 1, 2, 17}},
    {FIELD_END_POINT, "[2001:db8::1]:258/tcp", {0x20, 0x01, 0x0d, 0xb8, [15] = 1, 1, 2, 6}},
    {FIELD_FLOW, "udp 10.1.0.5:258 > 192.0.2.1:1",
     {[10] = 255, 255, 10, 1, 0, 5, [26] = 255, 255, 192, 0, 2, 1, 1, 2, 0, 1, 17}},
    {FIELD_POOLED, "203.0.113.1:1024", {0}},
    {FIELD_POOLED, "203.0.113.2:1025", {1, 252}},
    {FIELD_POOLED, "203.0.114.1:1024", {0, 248, 1}},
    {FIELD_POOLED, "4294967295", {255, 255, 255, 255}}, /* nowhere: another pool */
};

static void what_is_known(void **state)
{
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct table_field f = {"f", known[i].type, 0, states};
        uint8_t bytes[48] = {0};
        char text[LAYOUT_TEXT];
        field_show(&f, &pool, known[i].bytes, text);
        CHECK(!strcmp(text, known[i].text), "%s, not %s", text, known[i].text);
        CHECK(field_read(&f, &pool, known[i].text, bytes), "%s", known[i].text);
        CHECK(!memcmp(bytes, known[i].bytes, 40), "%s", known[i].text);
        assert_true(field_read(&f, &pool, field_type_of("names") == f.type ? "syn_out" : field_example(&f)[0] == '\''
                               ? "udp 10.1.0.5:5353 > 192.0.2.10:53" : field_example(&f), bytes));
    }
}

static void any_bytes_come_back(void **state)
{
    for (int i = 0; i < 60000; i++) {
        struct table_field f = {"f", (uint8_t)(i % FIELD_TYPES_END), (uint8_t)(rand() % 5), states};
        uint8_t bytes[48], back[48] = {0}, size = (uint8_t)field_bytes(f.type);
        char text[LAYOUT_TEXT];
        memset(bytes, 0, sizeof bytes);
        for (int k = 0; k < size; k++)
            bytes[f.off + k] = rand() % 4 ? (uint8_t)rand() : 0;
        if (f.type == FIELD_END_POINT)
            bytes[f.off + 19] = 0;
        if (f.type == FIELD_FLOW)
            memset(bytes + f.off + 37, 0, 3);
        assert_true(layout_padding_is_zero(&f, 1, bytes, sizeof bytes));
        field_show(&f, &pool, bytes, text);
        CHECK(field_read(&f, &pool, text, back) && !memcmp(bytes, back, sizeof bytes), "%s: %s", field_type_text(f.type),
              text);
    }
}

static void what_it_is_not(void **state)
{
    static const struct { uint8_t type; const char *text; } rows[] = {
        {FIELD_U8, "256"}, {FIELD_U8, "-1"}, {FIELD_U8, ""}, {FIELD_U8, "0x7"}, {FIELD_U8, "7 "}, {FIELD_U16, "65536"},
        {FIELD_U32, "4294967296"}, {FIELD_U64, "18446744073709551616"}, {FIELD_I64, "9223372036854775808"},
        {FIELD_I64, "-9223372036854775809"}, {FIELD_I64, "--1"}, {FIELD_BE16, "65536"}, {FIELD_NAMES, "syn"},
        {FIELD_NAMES, "256"}, {FIELD_PROTO, "sctp"}, {FIELD_IPV4, "10.1.0"}, {FIELD_IPV4, "::1"}, {FIELD_ADDR, "host"},
        {FIELD_END_POINT, "10.1.0.5:5353"}, {FIELD_END_POINT, "10.1.0.5/udp"}, {FIELD_END_POINT, "10.1.0.5:5353/sctp"},
        {FIELD_END_POINT, "/udp"}, {FIELD_FLOW, "10.1.0.5:5353"}, {FIELD_POOLED, "203.0.113.3:1024"},
        {FIELD_POOLED, "203.0.113.1:1023"}, {FIELD_POOLED, "203.0.113.1"}, {FIELD_POOLED, "[2001:db8::1]:1024"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct table_field f = {"f", rows[i].type, 0, states};
        uint8_t bytes[48], before[48];
        memset(bytes, 0xaa, sizeof bytes);
        memcpy(before, bytes, sizeof before);
        CHECK(!field_read(&f, &pool, rows[i].text, bytes), "%s: '%s'", field_type_text(f.type), rows[i].text);
        assert_memory_equal(bytes, before, sizeof bytes);
    }
}

static void a_layout_is_checked(void **state)
{
    struct table_field f[] = {{"a", FIELD_U32, 0, NULL}, {"b", FIELD_U16, 6, NULL}};
    uint8_t bytes[8] = {1, 2, 3, 4, 0, 0, 7, 8};
    assert_null(layout_check(f, 2, 8));
    assert_true(layout_padding_is_zero(f, 2, bytes, 8));
    bytes[5] = 1;
    assert_false(layout_padding_is_zero(f, 2, bytes, 8));
    assert_non_null(layout_check(f, 2, 7));
    f[1].off = 3;
    assert_string_equal(layout_check(f, 2, 8), "two fields overlap");
    f[1].off = 6;
    f[1].name = "b=";
    assert_non_null(layout_check(f, 2, 8));
    f[1] = (struct table_field){"b", FIELD_TYPES_END, 6, NULL};
    assert_non_null(layout_check(f, 2, 8));
    for (uint8_t t = 0; t < FIELD_TYPES_END; t++)
        assert_int_equal(field_type_of(field_type_text(t)), t);
    assert_int_equal(field_type_of("u128"), FIELD_TYPES_END);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_known),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(what_it_is_not),
        cmocka_unit_test(a_layout_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
