/* SPDX-License-Identifier: BSD-3-Clause */
/* Books put together: whole packets, packets that are alike, missing pieces, clocks of other hosts, retries. */
#include "tests/check.h"

#include <stdlib.h>

#include "orchestrator/cli/pure/trace_match.h"

#define SAME "\"clock\": {\"asked_us\": 0, \"answered_us\": 1000000, \"now_us\": 500000}"
#define IN "udp 10.1.0.5:40000 > 192.0.2.80:53"
#define OUT "udp 203.0.113.1:1024 > 192.0.2.80:53"
#define PACKET(flow) "\"flow\": \"" flow "\", \"side\": \"inside\", \"bytes\": 63, \"ip_id\": 7, \"tcp_seq\": 0"
#define STEER(clock, rows) "{\"name\": \"steer\", \"kind\": \"steering\", " clock ", \"packets\": [" rows "]}"
#define WORKER(clock, rows) "{\"name\": \"nf-1\", \"kind\": \"worker\", " clock ", \"packets\": [" rows "]}"
#define STORE(clock) "{\"name\": \"store-a\", \"kind\": \"store\", " clock "}"
#define CAME(at) "{" PACKET(IN) ", \"events\": [{\"us\": " #at "00, \"what\": \"received\"}, {\"us\": " #at "04, " \
    "\"what\": \"to_worker\", \"worker\": 1}]}"
#define LEFT(at) "{" PACKET(OUT) ", \"events\": [{\"us\": " #at "90, \"what\": \"from_worker\", \"worker\": 1}, " \
    "{\"us\": " #at "95, \"what\": \"sent\"}]}"
#define DONE(at) "{" PACKET(IN) ", \"left_as\": \"" OUT "\", \"events\": [{\"us\": " #at "10, \"what\": \"received\"}, " \
    "{\"us\": " #at "12, \"what\": \"begun\", \"nf\": \"nat44\"}, " \
    "{\"us\": " #at "15, \"what\": \"sent\", \"nf\": \"nat44\", \"shard\": 1, \"client\": 9, \"seq\": " #at "}, " \
    "{\"us\": " #at "60, \"what\": \"answered\", \"nf\": \"nat44\"}, {\"us\": " #at "70, \"what\": \"emitted\"}, " \
    "{\"us\": " #at "71, \"what\": \"sent\", \"nf\": \"monitor\", \"shard\": 0, \"client\": 9, \"seq\": 99}]}"
#define TXN(at) "{\"store\": \"store-a\", \"shard\": 1, \"client\": 9, \"seq\": " #at ", \"slot\": 3, \"received_us\": " #at \
    "20, \"executed_us\": " #at "25, \"released_us\": " #at "50, \"sent_us\": " #at "52}"
#define ANSWER(programs, txns) "{\"programs\": [" programs "], \"txns\": [" txns "], \"missing\": []}"

static json_t *match(const char *text, const char *since)
{
    json_error_t at;
    json_t *answer = json_loads(text, 0, &at), *begun = since ? json_loads(since, 0, NULL) : NULL;
    CHECK(answer, "%d: %s", at.column, at.text);
    json_t *packets = trace_match(answer, begun);
    json_decref(answer);
    json_decref(begun);
    return packets;
}

static json_int_t number(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

/* "received 0, spread 4, ...", and whether they make up the whole. */
static void steps_are(const json_t *packet, const char *wanted)
{
    char told[600] = "";
    size_t i;
    json_t *s;
    json_int_t at = 0;
    json_array_foreach(json_object_get(packet, "steps"), i, s) {
        snprintf(told + strlen(told), sizeof told - strlen(told), "%s%s %d", i ? ", " : "", text(s, "step"),
                 (int)number(s, "us"));
        at += number(s, "us");
        assert_int_equal(number(s, "at_us"), at);
    }
    CHECK(!strcmp(told, wanted), "told   %s\nwanted %s", told, wanted);
    assert_int_equal(number(packet, "total_us"), at);
}

static const char *lacks(const json_t *packet)
{
    const char *s = json_string_value(json_array_get(json_object_get(packet, "missing"), 0));
    return s ? s : "";
}

#define WHOLE "received 0, spread 4, ring_in 6, turn 2, batch 3, to_store 5, execute 5, commit 25, reply 2, answer 8, " \
    "process 10, ring_out 20, edge 5"

static void a_whole_packet(void **state)
{
    json_t *packets = match(ANSWER(STEER(SAME, CAME(1) "," LEFT(1)) "," WORKER(SAME, DONE(1)) "," STORE(SAME), TXN(1)), NULL);
    const json_t *p = json_array_get(packets, 0);
    assert_int_equal(json_array_size(packets), 1);
    steps_are(p, WHOLE);
    assert_string_equal(text(p, "end"), "sent");
    assert_string_equal(text(p, "left_as"), OUT);
    assert_true(json_is_true(json_object_get(p, "complete")));
    assert_int_equal(number(p, "clock_error_us"), 0);
    assert_string_equal(text(json_array_get(json_object_get(p, "steps"), 5), "where"), "nf-1 to store-a, shard 1");
    json_t *rows = trace_summary(packets);
    assert_int_equal(json_array_size(rows), 12);
    assert_string_equal(text(json_array_get(rows, 6), "step"), "commit");
    assert_int_equal(number(json_array_get(rows, 6), "p50_us"), 25);
    json_decref(rows);
    json_decref(packets);
}

static void packets_that_are_alike_stay_in_their_order(void **state)
{
    json_t *packets = match(ANSWER(STEER(SAME, CAME(1) "," CAME(2) "," LEFT(3) "," LEFT(4)) "," WORKER(SAME, DONE(3) ","
                                         DONE(4)) "," STORE(SAME), TXN(3) "," TXN(4)), NULL);
    assert_int_equal(json_array_size(packets), 2);
    assert_int_equal(number(json_array_get(packets, 0), "total_us"), 295); /* 100 to 395 */
    assert_int_equal(number(json_array_get(packets, 1), "total_us"), 295); /* 200 to 495 */
    json_decref(packets);
}

static void the_first_of_two_was_lost_in_the_ring(void **state)
{
    json_t *packets = match(ANSWER(STEER(SAME, CAME(1) "," CAME(2) "," LEFT(2)) "," WORKER(SAME, DONE(2)) "," STORE(SAME),
                                   TXN(2)), NULL);
    assert_int_equal(json_array_size(packets), 2);
    assert_string_equal(lacks(json_array_get(packets, 0)), "no worker has told of it");
    assert_string_equal(text(json_array_get(packets, 0), "end"), "unknown");
    steps_are(json_array_get(packets, 1), WHOLE);
    json_decref(packets);
}

static void missing_pieces_are_named_and_not_made_up(void **state)
{
    static const struct { const char *answer, *lacks, *steps; } rows[] = {
        {ANSWER(STEER(SAME, CAME(1) "," LEFT(1)) "," WORKER(SAME, DONE(1)), ""),
         "no store has told of request 1 of client 9 at shard 1",
         "received 0, spread 4, ring_in 6, turn 2, batch 3, store 45, process 10, ring_out 20, edge 5"},
        {ANSWER(STEER(SAME, CAME(1)) "," WORKER(SAME, DONE(1)) "," STORE(SAME), TXN(1)),
         "steering has not told how it went out as " OUT,
         "received 0, spread 4, ring_in 6, turn 2, batch 3, to_store 5, execute 5, commit 25, reply 2, answer 8, process 10"},
        {ANSWER(STEER(SAME, LEFT(1)) "," WORKER(SAME, DONE(1)) "," STORE(SAME), TXN(1)),
         "steering has not told how it came in",
         "ring_in 0, turn 2, batch 3, to_store 5, execute 5, commit 25, reply 2, answer 8, process 10, ring_out 20, edge 5"},
        {ANSWER(WORKER(SAME, DONE(1)) "," STORE(SAME), TXN(1)), "no steering has answered",
         "ring_in 0, turn 2, batch 3, to_store 5, execute 5, commit 25, reply 2, answer 8, process 10"},
        {ANSWER(STEER(SAME, CAME(1)) "," WORKER(SAME, ""), ""), "no worker has told of it", "received 0, spread 4"},
        {ANSWER(STEER(SAME, CAME(1) "," LEFT(1)) "," WORKER(SAME, DONE(1)) "," STORE(SAME),
                "{\"store\": \"store-a\", \"shard\": 1, \"client\": 9, \"seq\": 1, \"received_us\": 120, \"executed_us\": 125, "
                "\"released_us\": 0, \"sent_us\": 0}"),
         "store-a has not told when the request was released",
         "received 0, spread 4, ring_in 6, turn 2, batch 3, to_store 5, execute 5, answer 35, process 10, ring_out 20, edge 5"},
        {ANSWER(STEER(SAME, CAME(1)) "," WORKER(SAME, "{" PACKET(IN) ", \"events\": [{\"us\": 110, \"what\": \"received\"}, "
                "{\"us\": 112, \"what\": \"begun\", \"nf\": \"nat44\"}]}"), ""),
         "nf-1 has not told what became of it", "received 0, spread 4, ring_in 6, turn 2"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *packets = match(rows[i].answer, NULL);
        const json_t *p = json_array_get(packets, 0);
        CHECK(!strcmp(lacks(p), rows[i].lacks), "row %zu: %s", i, lacks(p));
        steps_are(p, rows[i].steps);
        assert_false(json_is_true(json_object_get(p, "complete")));
        json_decref(packets);
    }
}

static void a_drop_is_the_end(void **state)
{
    json_t *packets = match(ANSWER(STEER(SAME, CAME(1)) "," WORKER(SAME, "{" PACKET(IN) ", \"events\": [{\"us\": 110, "
        "\"what\": \"received\"}, {\"us\": 112, \"what\": \"begun\", \"nf\": \"nat44\"}, {\"us\": 400, \"what\": \"dropped\", "
        "\"reason\": \"store_timeout\"}]}"), ""), NULL);
    const json_t *p = json_array_get(packets, 0);
    steps_are(p, "received 0, spread 4, ring_in 6, turn 2, dropped 288");
    assert_string_equal(text(p, "end"), "dropped");
    assert_string_equal(text(p, "reason"), "store_timeout");
    assert_true(json_is_true(json_object_get(p, "complete")));
    json_decref(packets);
    packets = match(ANSWER(STEER(SAME, "{" PACKET(IN) ", \"events\": [{\"us\": 100, \"what\": \"received\"}, {\"us\": 101, "
                                       "\"what\": \"dropped\", \"reason\": \"no_worker\"}]}"), ""), NULL);
    p = json_array_get(packets, 0);
    steps_are(p, "received 0, dropped 1");
    assert_true(json_is_true(json_object_get(p, "complete")));
    json_decref(packets);
}

/* now_us lies outside of asked..answered: another clock, 7000 s ahead (2000 us to ask: give or take 1000). */
#define AHEAD "\"clock\": {\"asked_us\": 1000, \"answered_us\": 3000, \"now_us\": 7000000002000}"
#define FAR(at) "70000000001" #at

static void clocks_of_other_hosts_are_moved(void **state)
{
    json_t *packets = match(ANSWER(STEER(SAME, CAME(1) "," LEFT(1)) "," WORKER(SAME, DONE(1)) "," STORE(AHEAD),
        "{\"store\": \"store-a\", \"shard\": 1, \"client\": 9, \"seq\": 1, \"received_us\": " FAR(20) ", \"executed_us\": " FAR(25)
        ", \"released_us\": " FAR(50) ", \"sent_us\": " FAR(52) "}"), NULL);
    const json_t *p = json_array_get(packets, 0);
    steps_are(p, WHOLE);
    assert_int_equal(number(p, "clock_error_us"), 1000);
    json_decref(packets);
}

/* A store whose clock is told wrongly stays between request and answer, and the whole is right. */
static void what_cannot_be_is_bounded_by_what_is_known(void **state)
{
    json_t *packets = match(ANSWER(STEER(SAME, CAME(1) "," LEFT(1)) "," WORKER(SAME, DONE(1)) "," STORE(SAME),
        "{\"store\": \"store-a\", \"shard\": 1, \"client\": 9, \"seq\": 1, \"received_us\": 5, \"executed_us\": 130, "
        "\"released_us\": 5000, \"sent_us\": 6000}"), NULL);
    steps_are(json_array_get(packets, 0), "received 0, spread 4, ring_in 6, turn 2, batch 3, to_store 0, execute 15, "
              "commit 30, reply 0, answer 0, process 10, ring_out 20, edge 5");
    json_decref(packets);
}

static void a_request_that_was_sent_twice(void **state)
{
    json_t *packets = match(ANSWER(STEER(SAME, CAME(1) "," LEFT(1)) "," WORKER(SAME, "{" PACKET(IN) ", \"left_as\": \"" OUT
        "\", \"events\": [{\"us\": 110, \"what\": \"received\"}, {\"us\": 112, \"what\": \"begun\", \"nf\": \"nat44\"}, "
        "{\"us\": 113, \"what\": \"sent\", \"shard\": 1, \"client\": 9, \"seq\": 1}, {\"us\": 118, \"what\": \"sent\", "
        "\"shard\": 1, \"client\": 9, \"seq\": 1}, {\"us\": 160, \"what\": \"answered\"}, {\"us\": 170, \"what\": \"emitted\"}]}")
        "," STORE(SAME) ", {\"name\": \"store-b\", \"kind\": \"store\", " SAME "}",
        "{\"store\": \"store-b\", \"shard\": 1, \"client\": 9, \"seq\": 1, \"received_us\": 114, \"executed_us\": 115, "
        "\"released_us\": 0, \"sent_us\": 0}, " TXN(1)), NULL);
    steps_are(json_array_get(packets, 0), "received 0, spread 4, ring_in 6, turn 2, batch 1, again 5, to_store 2, execute 5, "
              "commit 25, reply 2, answer 8, process 10, ring_out 20, edge 5");
    json_decref(packets);
}

/* The worker asked again while the backups were waited for: that is no step. */
static void a_request_that_the_store_had_already(void **state)
{
    json_t *packets = match(ANSWER(STEER(SAME, CAME(1) "," LEFT(1)) "," WORKER(SAME, "{" PACKET(IN) ", \"left_as\": \"" OUT
        "\", \"events\": [{\"us\": 110, \"what\": \"received\"}, {\"us\": 112, \"what\": \"begun\", \"nf\": \"nat44\"}, "
        "{\"us\": 115, \"what\": \"sent\", \"shard\": 1, \"client\": 9, \"seq\": 1}, {\"us\": 140, \"what\": \"sent\", "
        "\"shard\": 1, \"client\": 9, \"seq\": 1}, {\"us\": 160, \"what\": \"answered\"}, {\"us\": 170, \"what\": \"emitted\"}]}")
        "," STORE(SAME), TXN(1)), NULL);
    steps_are(json_array_get(packets, 0), WHOLE);
    assert_int_equal(number(json_array_get(packets, 0), "repeated"), 1);
    json_decref(packets);
}

static void what_was_booked_before_is_left_out(void **state)
{
    const char *since = "{\"programs\": [{\"name\": \"steer\", \"clock\": {\"now_us\": 200}}, {\"name\": \"nf-1\", \"clock\": "
                        "{\"now_us\": 200}}]}";
    json_t *packets = match(ANSWER(STEER(SAME, CAME(1) "," LEFT(1) "," CAME(2) "," LEFT(2)) "," WORKER(SAME, DONE(1) ","
                                         DONE(2)) "," STORE(SAME), TXN(1) "," TXN(2)), since);
    assert_int_equal(json_array_size(packets), 1);
    steps_are(json_array_get(packets, 0), WHOLE);
    json_decref(packets);
}

static void others_flows_are_others(void **state)
{
    json_t *packets = match(ANSWER(STEER(SAME, CAME(1) "," LEFT(1)) "," WORKER(SAME, DONE(1)), ""), NULL);
    static const struct { const char *flow; size_t n; } rows[] = {
        {IN, 1}, {OUT, 1}, {"udp 192.0.2.80:53 > 10.1.0.5:40000", 1}, {"udp 10.1.0.5:0 > 192.0.2.80:0", 1},
        {"udp 192.0.2.80:53 > 10.1.0.5:0", 1}, {"udp 10.1.0.5:40001 > 192.0.2.80:53", 0},
        {"tcp 10.1.0.5:40000 > 192.0.2.80:53", 0}, {"udp 10.1.0.6:0 > 192.0.2.80:0", 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *of = trace_of_flow(packets, rows[i].flow);
        CHECK(json_array_size(of) == rows[i].n, "%s", rows[i].flow);
        json_decref(of);
    }
    json_decref(packets);
}

/* Whatever an answer holds: nothing breaks, and times still add up. */
static void anything_is_survived(void **state)
{
    static const char *const odd[] = {
        "[]", "{}", "{\"programs\": 7}", "{\"programs\": [{}]}", "{\"programs\": [{\"packets\": [{}, 7, []]}]}",
        "{\"programs\": [{\"kind\": \"worker\", \"packets\": [{\"events\": [{}, {\"what\": \"sent\"}, 7]}]}]}",
        ANSWER(WORKER("\"clock\": 7", DONE(1)), "7, {}"),
        ANSWER(STEER(SAME, CAME(9) "," LEFT(1)) "," WORKER(SAME, DONE(5)), TXN(5))};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        json_t *packets = match(odd[i], odd[(i + 3) % 8]), *rows = trace_summary(packets);
        json_decref(rows);
        json_decref(packets);
    }
}

static void any_port_is_not_shown(void **state)
{
    static const char *const rows[][2] = {
        {"tcp 10.1.0.5:0 > 192.0.2.10:80", "tcp 10.1.0.5 > 192.0.2.10:80"},
        {"udp 10.1.0.5:53 > 192.0.2.10:0", "udp 10.1.0.5:53 > 192.0.2.10"},
        {"tcp [2001:db8::1]:0 > [2001:db8:0::2]:0", "tcp [2001:db8::1] > [2001:db8:0::2]"},
        {"tcp 10.1.0.5:80 > 192.0.2.10:8080", "tcp 10.1.0.5:80 > 192.0.2.10:8080"}};
    char text[PACKET_FLOW_TEXT];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_string_equal(trace_flow_shown(rows[i][0], text), rows[i][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_packet),
        cmocka_unit_test(packets_that_are_alike_stay_in_their_order),
        cmocka_unit_test(the_first_of_two_was_lost_in_the_ring),
        cmocka_unit_test(missing_pieces_are_named_and_not_made_up),
        cmocka_unit_test(a_drop_is_the_end),
        cmocka_unit_test(clocks_of_other_hosts_are_moved),
        cmocka_unit_test(what_cannot_be_is_bounded_by_what_is_known),
        cmocka_unit_test(a_request_that_was_sent_twice),
        cmocka_unit_test(a_request_that_the_store_had_already),
        cmocka_unit_test(what_was_booked_before_is_left_out),
        cmocka_unit_test(others_flows_are_others),
        cmocka_unit_test(anything_is_survived),
        cmocka_unit_test(any_port_is_not_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
