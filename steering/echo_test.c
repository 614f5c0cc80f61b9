/* SPDX-License-Identifier: BSD-3-Clause */
/* Echo requests for an edge's address: which are, and what they become. */
#include "tests/check.h"

#include <arpa/inet.h>

#include "common/packet/packet_forge.h"
#include "steering/echo.h"

#define OWN IP4(198, 51, 100, 1)
#define ROUTER IP4(198, 51, 100, 2)

static const struct row {
    const char *what;
    struct forge f;
    bool is;
} rows[] = {
    {"ping", {.proto = 1, .type = 8, .src = ROUTER, .dst = OWN, .sport = 77, .data = 56}, true},
    {"ping without data", {.proto = 1, .type = 8, .src = ROUTER, .dst = OWN, .sport = 1}, true},
    {"odd length", {.proto = 1, .type = 8, .src = ROUTER, .dst = OWN, .sport = 1, .data = 33}, true},
    {"last hop", {.proto = 1, .type = 8, .src = ROUTER, .dst = OWN, .ttl = 1, .data = 8}, true},
    {"reply", {.proto = 1, .type = 0, .src = ROUTER, .dst = OWN, .sport = 77, .data = 56}, false},
    {"of another code", {.proto = 1, .type = 8, .code = 1, .src = ROUTER, .dst = OWN, .data = 8}, false},
    {"for another", {.proto = 1, .type = 8, .src = ROUTER, .dst = OWN + 1, .data = 8}, false},
    {"through us", {.proto = 1, .type = 8, .src = OWN, .dst = ROUTER, .data = 8}, false},
    {"options", {.proto = 1, .type = 8, .src = ROUTER, .dst = OWN, .options = 4, .data = 8}, false},
    {"fragment", {.proto = 1, .type = 8, .src = ROUTER, .dst = OWN, .frag = 0x2000, .data = 8}, false},
    {"udp", {.proto = 17, .src = ROUTER, .dst = OWN, .sport = 8, .dport = 8, .data = 8}, false},
    {"tcp", {.proto = 6, .src = ROUTER, .dst = OWN, .sport = 8, .dport = 8}, false},
};

static bool parse(const struct row *r, uint8_t *frame, uint32_t *len, struct packet *p)
{
    *len = forge_frame(&r->f, frame);
    return packet_parse(p, frame, *len, FORGE_ROOM, SIDE_OUTSIDE) == PACKET_OK;
}

static void requests_are_known(void **state)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t frame[FORGE_ROOM];
        struct packet p;
        uint32_t len;
        CHECK(parse(&rows[i], frame, &len, &p), "%s is no packet", rows[i].what);
        CHECK(echo_is_request(&p, htonl(OWN)) == rows[i].is, "%s", rows[i].what);
    }
}

static void replies_go_back_whole(void **state)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t frame[FORGE_ROOM], was[FORGE_ROOM];
        struct packet p;
        uint32_t len;
        if (!rows[i].is)
            continue;
        parse(&rows[i], frame, &len, &p);
        memcpy(was, frame, len);
        CHECK(echo_reply(&p), "%s", rows[i].what);
        CHECK(!forge_check(frame, len), "%s: %s", rows[i].what, forge_check(frame, len));
        CHECK(!memcmp(frame, was + 6, 6) && !memcmp(frame + 6, was, 6), "%s: to whom?", rows[i].what);
        CHECK(forge_get32(frame + 26) == OWN && forge_get32(frame + 30) == ROUTER, "%s", rows[i].what);
        CHECK(frame[22] == ECHO_TTL && frame[34] == 0, "%s: ttl %u, type %u", rows[i].what, frame[22], frame[34]);
        /* identifier, sequence and data are the asker's own */
        CHECK(!memcmp(frame + 38, was + 38, len - 38), "%s: what it says", rows[i].what);
    }
}

static void a_spoilt_request_is_left_alone(void **state)
{
    uint8_t frame[FORGE_ROOM], was[FORGE_ROOM];
    struct packet p;
    uint32_t len;
    parse(&rows[0], frame, &len, &p);
    frame[len - 1] ^= 4;
    memcpy(was, frame, len);
    assert_true(echo_is_request(&p, htonl(OWN)));
    assert_false(echo_reply(&p));
    assert_memory_equal(frame, was, len);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_known),
        cmocka_unit_test(replies_go_back_whole),
        cmocka_unit_test(a_spoilt_request_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
