/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rewriting against full recomputation of every checksum, on random packets;
 * and that a wrong checksum stays exactly as wrong.
 */
#include "tests/check.h"

#include "packet.h"
#include "packet_forge.h"

enum { ROUNDS = 20000 };

static uint64_t seed;

static struct packet_addr random_addr(void)
{
    return packet_ipv4((uint32_t)forge_random(&seed));
}

static struct forge random_forge(void)
{
    static const uint8_t protos[] = {1, 6, 17, 47};
    uint64_t r = forge_random(&seed), q = forge_random(&seed);
    struct forge f = {.src = (uint32_t)r,
                      .dst = (uint32_t)(r >> 32),
                      .sport = (uint16_t)q,
                      .dport = (uint16_t)(q >> 16),
                      .proto = protos[q >> 32 & 3],
                      .data = (uint16_t)(q >> 34 & 63),
                      .type = q >> 40 & 1 ? 8 : 0,
                      .options = (uint8_t)((q >> 41 & 3) * 4),
                      .ttl = (uint8_t)(q >> 44 & 63),
                      .id = (uint16_t)(q >> 48),
                      .no_checksum = !(q >> 50 & 7)};
    return f;
}

/* How far a checksum is off: one's complement sum of what it covers. */
static uint32_t off_by(const uint8_t *ip)
{
    uint32_t header = (ip[0] & 15) * 4u;

    return forge_l4_sum(ip, ip + header, forge_get16(ip + 2) - header) % 0xffff;
}

static void end_points(void **state)
{
    static uint8_t frame[FORGE_ROOM];
    struct packet p;

    for (int round = 0; round < ROUNDS; round++) {
        struct forge f = random_forge();
        uint32_t len = forge_frame(&f, frame);
        bool none = f.proto == 17 && f.no_checksum;
        struct packet_addr src = random_addr(), dst = random_addr();
        uint16_t sport = (uint16_t)forge_random(&seed), dport = (uint16_t)forge_random(&seed);
        f.no_checksum = none;
        if (f.proto != 17)
            f.no_checksum = false, len = forge_frame(&f, frame);
        assert_int_equal(packet_parse(&p, frame, len, len, SIDE_INSIDE), PACKET_OK);
        packet_set_src(&p, &src, sport);
        packet_set_dst(&p, &dst, dport);
        CHECK(forge_check(frame, len) == NULL, "round %d proto %u: %s", round, f.proto,
              forge_check(frame, len));
        CHECK(!none || forge_get16(frame + p.l4 + 6) == 0, "round %d: a UDP checksum appeared",
              round);
        /* What was written is what a fresh look finds, and what the tuple says. */
        struct packet again;
        assert_int_equal(packet_parse(&again, frame, len, len, SIDE_INSIDE), PACKET_OK);
        CHECK(memcmp(&again.tuple, &p.tuple, sizeof p.tuple) == 0, "round %d", round);
        CHECK(memcmp(&p.tuple.src, &src, 16) == 0 && memcmp(&p.tuple.dst, &dst, 16) == 0,
              "round %d", round);
        if (p.has_l4)
            CHECK(p.tuple.dst_port == dport && (f.proto == 1 || p.tuple.src_port == sport),
                  "round %d", round);
    }
}

static void wrong_stays_as_wrong(void **state)
{
    static uint8_t frame[FORGE_ROOM];
    struct packet p;
    unsigned seen = 0;

    for (int round = 0; round < ROUNDS; round++) {
        struct forge f = random_forge();
        f.no_checksum = false;
        if (f.proto == 47)
            continue;
        uint32_t len = forge_frame(&f, frame);
        assert_int_equal(packet_parse(&p, frame, len, len, SIDE_INSIDE), PACKET_OK);
        uint8_t *sum = frame + p.l4 + forge_checksum_at(f.proto);
        forge_be16(sum, (uint32_t)(1 + forge_random(&seed) % 0xfffe));
        uint32_t before = off_by(frame + 14);
        seen += before != 0;
        struct packet_addr a = random_addr();
        packet_set_src(&p, &a, (uint16_t)forge_random(&seed));
        CHECK(off_by(frame + 14) == before, "round %d proto %u: %u became %u", round, f.proto,
              before, off_by(frame + 14));
    }
    CHECK(seen > ROUNDS / 2, "only %u packets were wrong", seen);
}

/* A UDP checksum that becomes 0 must not read as "none". */
static void udp_zero_is_ffff(void **state)
{
    static uint8_t frame[FORGE_ROOM];
    struct packet p;
    struct forge f = {.src = IP4(10, 0, 0, 1), .dst = IP4(10, 0, 0, 2), .proto = 17, .sport = 1};
    unsigned hit = 0;

    for (uint32_t port = 0; port < 65536; port++) {
        uint32_t len = forge_frame(&f, frame);
        struct packet_addr same = packet_ipv4(__builtin_bswap32(f.src));
        assert_int_equal(packet_parse(&p, frame, len, len, SIDE_INSIDE), PACKET_OK);
        packet_set_src(&p, &same, (uint16_t)port);
        uint32_t c = forge_get16(frame + p.l4 + 6);
        CHECK(c != 0, "port %u", port);
        hit += c == 0xffff;
        CHECK(forge_check(frame, len) == NULL, "port %u", port);
    }
    assert_in_range(hit, 1, 2);
}

static void quoted_end_points(void **state)
{
    static uint8_t inner[FORGE_ROOM], frame[FORGE_ROOM];
    struct packet p;

    for (int round = 0; round < ROUNDS; round++) {
        struct forge f = random_forge();
        if (f.proto != 17)
            f.no_checksum = false;
        uint32_t inner_len = forge_frame(&f, inner) - 14;
        uint16_t least = (uint16_t)(20 + f.options + (f.proto == 47 ? 0 : 8));
        uint16_t cut = (uint16_t)(least + forge_random(&seed) % (inner_len - least + 1));
        struct forge e = {.src = (uint32_t)forge_random(&seed),
                          .dst = f.src,
                          .proto = 1,
                          .type = forge_random(&seed) & 1 ? 3 : 11,
                          .quote = inner + 14,
                          .quote_len = forge_random(&seed) & 1 ? (uint16_t)inner_len : cut};
        uint32_t len = forge_frame(&e, frame);
        struct packet_addr a = random_addr(), b = random_addr();
        assert_int_equal(packet_parse(&p, frame, len, len, SIDE_OUTSIDE), PACKET_OK);
        assert_true(packet_icmp_error_intact(&p));
        packet_set_dst(&p, &a, 0);
        packet_set_inner_src(&p, &a, (uint16_t)forge_random(&seed));
        packet_set_inner_dst(&p, &b, (uint16_t)forge_random(&seed));
        CHECK(forge_check(frame, len) == NULL, "round %d proto %u quoting %u of %u: %s", round,
              f.proto, e.quote_len, inner_len, forge_check(frame, len));
        assert_true(packet_icmp_error_intact(&p));
        struct packet again;
        assert_int_equal(packet_parse(&again, frame, len, len, SIDE_OUTSIDE), PACKET_OK);
        CHECK(memcmp(&again.inner, &p.inner, sizeof p.inner) == 0, "round %d", round);
    }
}

static void damaged_errors_are_not_believed(void **state)
{
    static uint8_t inner[FORGE_ROOM], frame[FORGE_ROOM];
    struct forge f = {.src = 1, .dst = 2, .proto = 17, .data = 8};
    struct forge e = {
        .src = 3, .dst = 1, .proto = 1, .type = 3, .quote = inner + 14, .quote_len = 36};
    struct packet p;
    uint32_t len;

    forge_frame(&f, inner);
    len = forge_frame(&e, frame);
    frame[38] ^= 1; /* the rest of the ICMP header: its checksum is wrong now */
    assert_int_equal(packet_parse(&p, frame, len, len, SIDE_OUTSIDE), PACKET_OK);
    assert_false(packet_icmp_error_intact(&p));
    inner[14 + 8] ^= 1; /* the quoted TTL: the quoted header's is */
    len = forge_frame(&e, frame);
    assert_int_equal(packet_parse(&p, frame, len, len, SIDE_OUTSIDE), PACKET_OK);
    assert_false(packet_icmp_error_intact(&p));
}

static void ttl(void **state)
{
    static uint8_t frame[FORGE_ROOM];
    struct packet p;

    for (uint32_t t = 0; t < 256; t++) {
        struct forge f = {.src = 5, .dst = 6, .proto = 17, .ttl = (uint8_t)t, .real_ttl_0 = true};
        uint32_t len = forge_frame(&f, frame);
        assert_int_equal(packet_parse(&p, frame, len, len, SIDE_INSIDE), PACKET_OK);
        CHECK(packet_decrement_ttl(&p) == (t > 1), "ttl %u", t);
        CHECK(frame[22] == (t > 1 ? t - 1 : t), "ttl %u", t);
        CHECK(forge_check(frame, len) == NULL, "ttl %u", t);
    }
}

static void making_an_error(void **state)
{
    static uint8_t frame[FORGE_ROOM], was[FORGE_ROOM];
    struct packet p;
    struct packet_addr from = packet_ipv4(__builtin_bswap32(IP4(192, 168, 7, 1)));

    for (uint16_t data = 0; data < 1400; data += 7) {
        struct forge f = {.src = IP4(10, 0, 0, 1),
                          .dst = IP4(8, 8, 8, 8),
                          .proto = 17,
                          .data = data,
                          .options = data & 8 ? 8 : 0};
        uint32_t len = forge_frame(&f, frame), quote = len - 14 < 548 ? len - 14 : 548;
        memcpy(was, frame, len);
        assert_int_equal(packet_parse(&p, frame, len, FORGE_ROOM, SIDE_INSIDE), PACKET_OK);
        assert_true(packet_make_icmp_error(&p, 3, 4, 0x05dc, &from));
        CHECK(forge_check(frame, p.len) == NULL, "%u bytes: %s", data, forge_check(frame, p.len));
        CHECK(p.len == 14 + 28 + quote, "%u bytes: %u", data, p.len);
        CHECK(memcmp(frame + 42, was + 14, quote) == 0, "%u bytes: the quote differs", data);
        CHECK(memcmp(frame, was + 6, 6) == 0 && memcmp(frame + 6, was, 6) == 0, "Ethernet");
        CHECK(forge_get32(frame + 26) == IP4(192, 168, 7, 1) && forge_get32(frame + 30) == f.src,
              "addresses");
        CHECK(frame[34] == 3 && frame[35] == 4 && forge_get32(frame + 38) == 0x05dc, "ICMP header");
        CHECK(p.is_icmp_error && packet_icmp_error_intact(&p), "%u bytes", data);
    }
}

/* Packets that must never be answered by an error (RFC 1122 3.2.2). */
static void no_error_about(void **state)
{
    static uint8_t frame[FORGE_ROOM], inner[FORGE_ROOM];
    struct packet_addr from = packet_ipv4(1);
    const uint32_t a = IP4(10, 0, 0, 1), b = IP4(8, 8, 8, 8);
    const struct {
        const char *name;
        struct forge f;
        uint32_t room;
        int ethernet;
        bool may;
    } rows[] = {
        {"a plain packet", {.src = a, .dst = b, .proto = 17}, FORGE_ROOM, 2, true},
        {"an echo request", {.src = a, .dst = b, .proto = 1, .type = 8}, FORGE_ROOM, 2, true},
        {"a first fragment",
         {.src = a, .dst = b, .proto = 17, .frag = 0x2000},
         FORGE_ROOM,
         2,
         true},
        {"an error",
         {.src = a, .dst = b, .proto = 1, .type = 3, .quote = inner + 14, .quote_len = 28},
         FORGE_ROOM,
         2,
         false},
        {"a redirect",
         {.src = a, .dst = b, .proto = 1, .type = 5, .quote = inner + 14, .quote_len = 28},
         FORGE_ROOM,
         2,
         false},
        {"a later fragment", {.src = a, .dst = b, .proto = 17, .frag = 8}, FORGE_ROOM, 2, false},
        {"to multicast", {.src = a, .dst = IP4(224, 0, 0, 1), .proto = 17}, FORGE_ROOM, 2, false},
        {"to broadcast", {.src = a, .dst = 0xffffffff, .proto = 17}, FORGE_ROOM, 2, false},
        {"to an Ethernet group", {.src = a, .dst = b, .proto = 17}, FORGE_ROOM, 1, false},
        {"from nobody", {.src = 0, .dst = b, .proto = 17}, FORGE_ROOM, 2, false},
        {"from loopback", {.src = IP4(127, 0, 0, 1), .dst = b, .proto = 17}, FORGE_ROOM, 2, false},
        {"from multicast", {.src = IP4(230, 0, 0, 1), .dst = b, .proto = 17}, FORGE_ROOM, 2, false},
        {"without room", {.src = a, .dst = b, .proto = 17, .data = 20}, 69, 2, false},
        {"of three bytes, with just room",
         {.src = a, .dst = b, .proto = 47, .data = 3},
         65,
         2,
         true},
        {"with just room", {.src = a, .dst = b, .proto = 17, .data = 20}, 70, 2, true},
    };
    struct packet p;

    forge_frame(&rows[0].f, inner);
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t len = forge_frame(&rows[i].f, frame);
        frame[0] = (uint8_t)rows[i].ethernet;
        assert_int_equal(packet_parse(&p, frame, len, rows[i].room, SIDE_INSIDE), PACKET_OK);
        CHECK(packet_make_icmp_error(&p, 11, 0, 0, &from) == rows[i].may, "%s", rows[i].name);
        CHECK(!rows[i].may || forge_check(frame, p.len) == NULL, "%s", rows[i].name);
    }
}

static void ipv6_pseudo_header(void **state)
{
    static uint8_t frame[FORGE_ROOM], fresh[40];
    struct packet_addr a;
    struct packet p;

    memset(frame, 0, 80);
    forge_be16(frame + 12, 0x86dd);
    frame[14] = 0x60;
    forge_be16(frame + 18, 12);
    frame[20] = 17;
    frame[21] = 9;
    forge_be16(frame + 58, 12);
    forge_be16(frame + 60, 0x1234); /* wrong, and must stay so */
    memset(a.b, 0x5a, 16);
    uint32_t before = forge_sum(0, frame + 22, 44) % 0xffff;
    assert_int_equal(packet_parse(&p, frame, 66, 66, SIDE_INSIDE), PACKET_OK);
    packet_set_src(&p, &a, 0x1111);
    packet_set_dst(&p, &a, 0x2222);
    assert_int_equal(forge_sum(0, frame + 22, 44) % 0xffff, before);
    memset(fresh, 0x5a, 32);
    assert_memory_equal(frame + 22, fresh, 32);
    assert_true(packet_decrement_ttl(&p));
    assert_int_equal(frame[21], 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(end_points),
        cmocka_unit_test(wrong_stays_as_wrong),
        cmocka_unit_test(udp_zero_is_ffff),
        cmocka_unit_test(quoted_end_points),
        cmocka_unit_test(damaged_errors_are_not_believed),
        cmocka_unit_test(ttl),
        cmocka_unit_test(making_an_error),
        cmocka_unit_test(no_error_about),
        cmocka_unit_test(ipv6_pseudo_header),
    };
    return cmocka_run_group_tests_name("rewrite", tests, NULL, NULL);
}
