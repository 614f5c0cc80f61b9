/* SPDX-License-Identifier: BSD-3-Clause */
/* Traces of packets: which packets are booked, what is told of them, wrong orders. */
#include "tests/check.h"

#include <jansson.h>
#include <stdlib.h>

#include "common/metrics/trace.h"
#include "common/packet/packet_forge.h"

static struct trace *t;
static uint8_t frame[FORGE_ROOM];
static char reply[200000];

static int start(void **state)
{
    t = trace_create();
    return t == NULL;
}

static int stop(void **state)
{
    trace_destroy(t);
    return 0;
}

static json_t *ask(const char *request)
{
    char words[200], *argv[16], *rest = NULL;
    int argc = 0;
    snprintf(words, sizeof words, "%s", request);
    for (char *w = strtok_r(words, " ", &rest); w; w = strtok_r(NULL, " ", &rest))
        argv[argc++] = w;
    trace_verb(t, argc, argv, reply, sizeof reply);
    json_t *o = json_loads(reply, 0, NULL);
    CHECK(o, "%s: %s", request, reply);
    return o;
}

static void order(const char *request)
{
    json_t *o = ask(request);
    CHECK(json_is_true(json_object_get(o, "ok")), "%s: %s", request, reply);
    json_decref(o);
}

static struct packet packet(uint8_t proto, uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport)
{
    struct forge f = {.proto = proto, .src = src, .dst = dst, .sport = sport, .dport = dport,
                      .data = 10, .id = 77};
    struct packet p;
    uint32_t len = forge_frame(&f, frame);
    assert_int_equal(packet_parse(&p, frame, len, sizeof frame, SIDE_INSIDE), PACKET_OK);
    return p;
}

#define HOST IP4(10, 1, 0, 5)
#define SERVER IP4(192, 0, 2, 80)

static uint32_t book(uint8_t proto, uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport)
{
    struct packet p = packet(proto, src, sport, dst, dport);
    return trace_packet(t, &p);
}

static void a_port_0_is_any(void **state)
{
    order("trace on 60 udp 10.1.0.5 0 192.0.2.80 53");
    assert_int_equal(book(17, HOST, 40000, SERVER, 53), 1);
    assert_int_equal(book(17, SERVER, 53, HOST, 40001), 2);
    assert_int_equal(book(17, HOST, 40000, SERVER, 54), 0);
    assert_int_equal(book(17, HOST + 1, 40000, SERVER, 53), 0);
}

static void off_until_ordered(void **state)
{
    assert_false(trace_active(t, trace_now_us()));
    assert_int_equal(book(6, HOST, 40000, SERVER, 80), 0);
    order("trace on 60 tcp 10.1.0.5 40000 192.0.2.80 80");
    assert_true(trace_active(t, trace_now_us()));
    assert_int_equal(book(6, HOST, 40000, SERVER, 80), 1);
    assert_int_equal(book(6, SERVER, 80, HOST, 40000), 2); /* the other direction */
    assert_int_equal(book(6, HOST, 40001, SERVER, 80), 0);
    assert_int_equal(book(17, HOST, 40000, SERVER, 80), 0);
    assert_false(trace_active(t, trace_now_us() + 61000000));
    order("trace off");
    assert_false(trace_active(t, trace_now_us()));
    assert_int_equal(book(6, HOST, 40000, SERVER, 80), 0);
}

static void tells_what_was_booked(void **state)
{
    order("trace on 60 udp 10.1.0.5 40000 192.0.2.80 53");
    struct packet p = packet(17, HOST, 40000, SERVER, 53);
    uint32_t id = trace_packet(t, &p);
    trace_event(t, id, &(struct trace_event){.us = 5, .what = "received"});
    trace_event(t, id, &(struct trace_event){.us = 6, .what = "sent", .nf = "nat44", .about = "shard",
                                             .number = 1, .client = 1ull << 49, .seq = 4});
    trace_event(t, id, &(struct trace_event){.what = "dropped", .why = "conflict"});
    struct packet out = packet(17, IP4(203, 0, 113, 1), 1024, SERVER, 53);
    trace_left_as(t, id, &out);
    json_t *o = ask("trace read");
    const char *flow, *left, *what[3], *nf, *why, *side;
    int shard, seq, bytes, ip_id;
    json_int_t us[2], client, last_us;
    CHECK(json_unpack(o, "{s:b, s:i, s:[{s:s, s:s, s:i, s:i, s:s, s:[{s:I,s:s}, {s:I,s:s,s:s,s:i,s:I,"
                         "s:i}, {s:I,s:s,s:s}]}]}", "active", &bytes, "next", &bytes, "packets",
                      "flow", &flow, "side", &side, "bytes", &bytes, "ip_id", &ip_id, "left_as", &left,
                      "events", "us", &us[0], "what", &what[0], "us", &us[1], "what", &what[1], "nf",
                      &nf, "shard", &shard, "client", &client, "seq", &seq, "us", &last_us, "what",
                      &what[2], "reason", &why) == 0, "%s", reply);
    assert_string_equal(flow, "udp 10.1.0.5:40000 > 192.0.2.80:53");
    assert_string_equal(left, "udp 203.0.113.1:1024 > 192.0.2.80:53");
    assert_string_equal(side, "inside");
    assert_string_equal(what[1], "sent");
    assert_string_equal(nf, "nat44");
    assert_string_equal(why, "conflict");
    assert_int_equal(shard, 1);
    assert_int_equal(seq, 4);
    assert_int_equal(bytes, 52);
    assert_int_equal(ip_id, 77);
    assert_int_equal(us[0], 5);
    assert_true(client == 1ll << 49 && last_us > 0);
    json_decref(o);
}

static void keeps_the_newest_and_reads_on(void **state)
{
    order("trace on 60 icmp 10.1.0.5 9 192.0.2.80 9");
    struct forge f = {.proto = 1, .type = 8, .src = HOST, .dst = SERVER, .sport = 9};
    struct packet p;
    uint32_t len = forge_frame(&f, frame), seen = 0, next = 0;
    assert_int_equal(packet_parse(&p, frame, len, sizeof frame, SIDE_INSIDE), PACKET_OK);
    for (int i = 0; i < 3 * TRACE_PACKETS; i++)
        trace_packet(t, &p);
    trace_event(t, 1, &(struct trace_event){.what = "late"}); /* its place is another's by now */
    for (;;) {
        char request[40];
        snprintf(request, sizeof request, "trace read %u", next);
        json_t *o = ask(request);
        size_t n = json_array_size(json_object_get(o, "packets"));
        CHECK(n <= TRACE_TOLD && !strstr(reply, "late"), "%zu", n);
        next = (uint32_t)json_integer_value(json_object_get(o, "next"));
        json_decref(o);
        if (!n)
            break;
        seen += (uint32_t)n;
    }
    assert_int_equal(seen, TRACE_PACKETS);
    assert_int_equal(next, 3 * TRACE_PACKETS);
}

static void several_flows_the_oldest_goes(void **state)
{
    for (int i = 0; i <= TRACE_FLOWS; i++) {
        char request[100];
        snprintf(request, sizeof request, "trace on 60 udp 10.1.0.5 %d 192.0.2.80 53", 1000 + i);
        order(request);
        order(request); /* the same once more takes no place */
    }
    assert_int_equal(book(17, HOST, 1000, SERVER, 53), 0);
    for (int i = 1; i <= TRACE_FLOWS; i++)
        assert_int_equal(book(17, HOST, (uint16_t)(1000 + i), SERVER, 53), i);
}

static void wrong_orders_change_nothing(void **state)
{
    static const char *const wrong[] = {
        "trace", "trace on", "trace on 5", "trace on 0 tcp 10.1.0.5 1 192.0.2.80 2",
        "trace on 601 tcp 10.1.0.5 1 192.0.2.80 2", "trace on -1 tcp 10.1.0.5 1 192.0.2.80 2",
        "trace on 5 sctp 10.1.0.5 1 192.0.2.80 2", "trace on 5 tcp 10.1.0.500 1 192.0.2.80 2",
        "trace on 5 tcp 10.1.0.5 65536 192.0.2.80 2", "trace on 5 tcp 10.1.0.5 x 192.0.2.80 2",
        "trace read 1 2", "trace dance"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        json_t *o = ask(wrong[i]);
        CHECK(json_object_get(o, "error"), "%s: %s", wrong[i], reply);
        json_decref(o);
    }
    assert_false(trace_active(t, trace_now_us()));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
        TEST(off_until_ordered), TEST(a_port_0_is_any), TEST(tells_what_was_booked),
        TEST(keeps_the_newest_and_reads_on),
        TEST(several_flows_the_oldest_goes), TEST(wrong_orders_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
