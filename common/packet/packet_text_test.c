/* SPDX-License-Identifier: BSD-3-Clause */
/* Flows as text: what is written is read back; what is no flow is none. */
#include "tests/check.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "common/packet/packet_text.h"

static const char *const flows[] = {
    "tcp 10.1.0.5:40000 > 192.0.2.80:80",
    "udp 10.1.0.5:0 > 192.0.2.80:65535",
    "icmp 10.1.0.5:77 > 192.0.2.80:77",
    "47 10.1.0.5:0 > 192.0.2.80:0",
    "udp [2001:db8::1]:53 > [fe80::1]:5353",
    "udp [::]:53 > 10.0.0.1:5353",
};

static void a_flow_is_read_as_it_is_written(void **state)
{
    for (size_t i = 0; i < sizeof flows / sizeof flows[0]; i++) {
        struct packet_tuple f;
        char text[PACKET_FLOW_TEXT];
        CHECK(packet_flow_read(flows[i], &f), "%s", flows[i]);
        packet_flow_text(&f, text);
        assert_string_equal(text, flows[i]);
    }
    struct packet_tuple f;
    assert_true(packet_flow_read(flows[0], &f));
    assert_int_equal(f.proto, 6);
    assert_int_equal(f.src.b[10], 0xff);
    assert_int_equal(f.src.b[15], 5);
    assert_int_equal(ntohs(f.src_port), 40000);
    assert_int_equal(ntohs(f.dst_port), 80);
}

static void any_bytes_come_back(void **state)
{
    for (int i = 0; i < 20000; i++) {
        struct packet_tuple f = {.proto = (uint8_t)rand()}, back;
        char text[PACKET_FLOW_TEXT];
        for (int k = 0; k < 16; k++) {
            f.src.b[k] = rand() % 3 ? 0 : (uint8_t)rand();
            f.dst.b[k] = (uint8_t)rand();
        }
        f.src_port = (uint16_t)rand();
        f.dst_port = (uint16_t)rand();
        packet_flow_text(&f, text);
        CHECK(packet_flow_read(text, &back) && !memcmp(&f, &back, sizeof f), "%s", text);
    }
}

static void what_is_no_flow_is_none(void **state)
{
    static const char *const wrong[] = {
        "", "tcp", "tcp 10.1.0.5:1", "tcp 10.1.0.5:1 192.0.2.80:80", "tcp 10.1.0.5:1 > 192.0.2.80:80 x",
        "tcp 10.1.0.5:1 > 192.0.2.80", "tcp 10.1.0.5:1 > 192.0.2.80:65536", "tcp 10.1.0.5:1 > 192.0.2.80:-1",
        "tcp 10.1.0.5:1 > 192.0.2.80:+1", "tcp 10.1.0:1 > 192.0.2.80:80", "sctp 10.1.0.5:1 > 192.0.2.80:80",
        "256 10.1.0.5:1 > 192.0.2.80:80", "tcp 2001:db8::1:53 > 192.0.2.80:80", "tcp [10.1.0.5:1 > 192.0.2.80:80",
        "tcp []:1 > 192.0.2.80:80", "tcp 10.1.0.5:1 >192.0.2.80:80 ", "tcp 10.1.0.5:1\ntrace > 192.0.2.80:80"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct packet_tuple f = {.proto = 99};
        CHECK(!packet_flow_read(wrong[i], &f) && f.proto == 99, "%s", wrong[i]);
    }
    char longest[300];
    memset(longest, '1', sizeof longest);
    longest[sizeof longest - 1] = 0;
    struct packet_tuple f;
    assert_false(packet_flow_read(longest, &f));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flow_is_read_as_it_is_written),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(what_is_no_flow_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
