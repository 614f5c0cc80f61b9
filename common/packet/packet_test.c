/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * packet_parse and the symmetric hash: named rows of damaged packets, every
 * truncation of every packet in a buffer of exactly that size (so that
 * AddressSanitizer sees a byte too many), and random damage.
 */
#include "tests/check.h"

#include <stdlib.h>

#include "packet.h"
#include "packet_forge.h"

#define A IP4(10, 1, 2, 3)
#define B IP4(203, 0, 113, 9)

static uint8_t quote_tcp[FORGE_ROOM];
static const struct forge quoted = {.src = B, .dst = A, .proto = 6, .sport = 80, .dport = 4000};

/* clang-format off */
/* What each kind of packet parses to. */
static const struct good {
    const char *name;
    struct forge f;
    bool has_l4, fragment, later, error;
    uint16_t sport, dport, payload;
} goods[] = {
    {"tcp", {.src = A, .dst = B, .proto = 6, .sport = 1, .dport = 2, .data = 9}, true, false, false,
     false, 1, 2, 54},
    {"tcp with ip options", {.src = A, .dst = B, .proto = 6, .sport = 1, .dport = 2, .options = 8},
     true, false, false, false, 1, 2, 62},
    {"udp", {.src = A, .dst = B, .proto = 17, .sport = 1, .dport = 2, .data = 9}, true, false,
     false, false, 1, 2, 42},
    {"udp, empty", {.src = A, .dst = B, .proto = 17, .sport = 1, .dport = 2}, true, false, false,
     false, 1, 2, 42},
    {"icmp echo request", {.src = A, .dst = B, .proto = 1, .type = 8, .sport = 77}, true, false,
     false, false, 77, 77, 42},
    {"icmp echo reply", {.src = A, .dst = B, .proto = 1, .type = 0, .sport = 77}, true, false,
     false, false, 77, 77, 42},
    {"icmp timestamp", {.src = A, .dst = B, .proto = 1, .type = 13, .data = 12}, false, false,
     false, false, 0, 0, 42},
    {"first fragment", {.src = A, .dst = B, .proto = 17, .sport = 1, .dport = 2, .data = 16,
     .frag = 0x2000, .udp_length = 999}, true, true, false, false, 1, 2, 42},
    {"middle fragment", {.src = A, .dst = B, .proto = 200, .data = 16, .frag = 0x2003}, false,
     true, true, false, 0, 0, 34},
    {"fragment at 32768", {.src = A, .dst = B, .proto = 17, .data = 3, .frag = 0x1000}, false, true,
     true, false, 0, 0, 34},
    {"last fragment", {.src = A, .dst = B, .proto = 17, .data = 3, .frag = 0x0003}, false, true,
     true, false, 0, 0, 34},
    {"unknown protocol", {.src = A, .dst = B, .proto = 47, .data = 3}, false, false, false, false,
     0, 0, 34},
    {"icmp error, whole quote", {.src = A, .dst = B, .proto = 1, .type = 3, .quote = quote_tcp + 14,
     .quote_len = 40}, false, false, false, true, 0, 0, 42},
    {"icmp error, 8 bytes quoted", {.src = A, .dst = B, .proto = 1, .type = 11,
     .quote = quote_tcp + 14, .quote_len = 28}, false, false, false, true, 0, 0, 42},
    {"icmp error, 7 bytes quoted", {.src = A, .dst = B, .proto = 1, .type = 12,
     .quote = quote_tcp + 14, .quote_len = 27}, false, false, false, true, 0, 0, 42},
};

/* clang-format on */
static enum packet_fault parse(struct packet *p, uint8_t *frame, uint32_t len)
{
    return packet_parse(p, frame, len, len, SIDE_INSIDE);
}

static void good_packets(void **state)
{
    static uint8_t frame[FORGE_ROOM];
    struct packet p;

    for (unsigned i = 0; i < sizeof goods / sizeof goods[0]; i++) {
        const struct good *g = &goods[i];
        uint32_t len = forge_frame(&g->f, frame);
        struct packet_addr src = packet_ipv4(__builtin_bswap32(A));
        CHECK(parse(&p, frame, len) == PACKET_OK, "%s", g->name);
        CHECK(p.has_l4 == g->has_l4 && p.is_fragment == g->fragment &&
                  p.is_later_fragment == g->later && p.is_icmp_error == g->error,
              "%s", g->name);
        CHECK(p.tuple.src_port == htobe16(g->sport) && p.tuple.dst_port == htobe16(g->dport), "%s",
              g->name);
        CHECK(p.payload == g->payload && p.l3_len == len - 14, "%s: %u", g->name, p.payload);
        CHECK(memcmp(&p.tuple.src, &src, 16) == 0 && p.tuple.proto == g->f.proto, "%s", g->name);
    }
}

static void quoted_packets(void **state)
{
    static uint8_t frame[FORGE_ROOM];
    struct packet p;

    for (uint16_t cut = 20; cut <= 40; cut++) {
        struct forge f = {
            .src = A, .dst = B, .proto = 1, .type = 3, .quote = quote_tcp + 14, .quote_len = cut};
        uint32_t len = forge_frame(&f, frame);
        CHECK(parse(&p, frame, len) == PACKET_OK, "quote of %u", cut);
        CHECK(p.inner_l3 == 42 && p.inner_l4 == 62, "quote of %u", cut);
        CHECK(p.inner_has_l4 == (cut >= 28), "quote of %u", cut);
        CHECK(p.inner_has_checksum == (cut >= 38), "quote of %u", cut);
        CHECK(p.inner.src_port == (cut >= 28 ? htobe16(80) : 0), "quote of %u", cut);
    }
}

/* clang-format off */
/* One byte or two changed: the fault it must give. sum: mend the IP checksum. */
static const struct bad {
    const char *name;
    struct forge f;
    int at, value;       /* 16 bits there, -1: nothing */
    bool sum;
    int shorter;         /* bytes cut off the end of the frame */
    enum packet_fault fault;
} bads[] = {
    {"no ethernet header", {.proto = 6}, -1, 0, false, 41, PACKET_TRUNCATED},
    {"arp", {.proto = 6}, 12, 0x0806, false, 0, PACKET_NOT_IP},
    {"vlan tag", {.proto = 6}, 12, 0x8100, false, 0, PACKET_NOT_IP},
    {"ip header cut", {.proto = 6}, -1, 0, false, 21, PACKET_TRUNCATED},
    {"version 5", {.proto = 6}, 14, 0x5500, true, 0, PACKET_BAD_HEADER},
    {"IHL 4", {.proto = 6}, 14, 0x4400, true, 0, PACKET_BAD_HEADER},
    {"IHL past the end", {.proto = 200}, 14, 0x4f00, false, 0, PACKET_TRUNCATED},
    {"total length below the header", {.proto = 6}, 16, 19, true, 0, PACKET_BAD_LENGTH},
    {"total length past the frame", {.proto = 6}, 16, 41, true, 0, PACKET_TRUNCATED},
    {"super-packet, cut", {.proto = 6}, 16, 9000, true, 0, PACKET_SUPER},
    {"ip checksum", {.proto = 6}, 24, 0x1234, false, 0, PACKET_BAD_CHECKSUM},
    {"option of length 0", {.proto = 6, .options = 4}, 34, 0x0700, true, 0, PACKET_BAD_HEADER},
    {"option of length 1", {.proto = 6, .options = 4}, 34, 0x0701, true, 0, PACKET_BAD_HEADER},
    {"option past the header", {.proto = 6, .options = 4}, 34, 0x0705, true, 0, PACKET_BAD_HEADER},
    {"option without a length", {.proto = 6, .options = 4}, 36, 0x0107, true, 0, PACKET_BAD_HEADER},
    {"tcp header cut", {.proto = 6}, 16, 39, true, 0, PACKET_TRUNCATED},
    {"tcp data offset 4", {.proto = 6}, 46, 0x4000, false, 0, PACKET_BAD_HEADER},
    {"tcp options past the end", {.proto = 6}, 46, 0x6000, false, 0, PACKET_TRUNCATED},
    {"udp header cut", {.proto = 17}, 16, 27, true, 0, PACKET_TRUNCATED},
    {"udp length 7", {.proto = 17, .udp_length = 7}, -1, 0, false, 0, PACKET_BAD_LENGTH},
    {"udp length past the end", {.proto = 17, .udp_length = 9}, -1, 0, false, 0,
     PACKET_BAD_LENGTH},
    {"icmp header cut", {.proto = 1, .type = 8}, 16, 27, true, 0, PACKET_TRUNCATED},
    {"fragment past 65535", {.proto = 17, .frag = 0x1fff}, -1, 0, false, 0, PACKET_BAD_LENGTH},
    {"fragment of 9 bytes, more to come", {.proto = 17, .data = 1, .frag = 0x2000}, -1, 0, false,
     0, PACKET_BAD_LENGTH},
    {"tcp fragment over the flags", {.proto = 6, .frag = 1}, -1, 0, false, 0, PACKET_BAD_HEADER},
    {"first fragment, tcp header cut", {.proto = 6, .frag = 0x2000, .data = 4}, 16, 36, true, 0,
     PACKET_TRUNCATED},
    {"error that quotes nothing", {.proto = 1, .type = 3}, -1, 0, false, 0, PACKET_TRUNCATED},
    {"error that quotes half a header", {.proto = 1, .type = 3, .quote = quote_tcp + 14,
     .quote_len = 19}, -1, 0, false, 0, PACKET_TRUNCATED},
    {"error that quotes no IPv4", {.proto = 1, .type = 3, .quote = quote_tcp + 15,
     .quote_len = 28}, -1, 0, false, 0, PACKET_BAD_HEADER},
};

/* clang-format on */
static void bad_packets(void **state)
{
    static uint8_t frame[FORGE_ROOM];
    struct packet p;

    for (unsigned i = 0; i < sizeof bads / sizeof bads[0]; i++) {
        struct forge f = bads[i].f;
        f.src = A;
        f.dst = B;
        uint32_t len = forge_frame(&f, frame);
        if (bads[i].at >= 0)
            forge_be16(frame + bads[i].at, (uint32_t)bads[i].value);
        if (bads[i].sum) {
            uint32_t header = (frame[14] & 15) * 4u;
            forge_be16(frame + 24, 0);
            forge_be16(frame + 24, ~forge_sum(0, frame + 14, header) & 0xffff);
        }
        enum packet_fault got = parse(&p, frame, len - (uint32_t)bads[i].shorter);
        CHECK(got == bads[i].fault, "%s: %s", bads[i].name, packet_fault_text(got));
    }
}

/* In a buffer of its own size, whatever is read behind it is seen. */
static enum packet_fault parse_alone(const uint8_t *frame, uint32_t len)
{
    struct packet p;
    uint8_t *alone = malloc(len ? len : 1);
    enum packet_fault fault;

    assert_non_null(alone);
    memcpy(alone, frame, len);
    fault = parse(&p, alone, len);
    if (fault == PACKET_OK) {
        struct packet_addr a = packet_ipv4(__builtin_bswap32(IP4(192, 0, 2, 1)));
        packet_symmetric_hash(&p);
        packet_set_src(&p, &a, 7);
        packet_set_dst(&p, &a, 7);
        packet_decrement_ttl(&p);
        if (p.is_icmp_error) {
            packet_set_inner_src(&p, &a, 7);
            packet_set_inner_dst(&p, &a, 7);
            packet_icmp_error_intact(&p);
        }
        packet_make_icmp_error(&p, 11, 0, 0, &a);
    }
    free(alone);
    return fault;
}

static void every_truncation(void **state)
{
    static uint8_t frame[FORGE_ROOM];

    for (unsigned i = 0; i < sizeof goods / sizeof goods[0]; i++) {
        uint32_t whole = forge_frame(&goods[i].f, frame);
        for (uint32_t len = 0; len < whole; len++)
            CHECK(parse_alone(frame, len) == PACKET_TRUNCATED, "%s at %u", goods[i].name, len);
        assert_int_equal(parse_alone(frame, whole), PACKET_OK);
    }
}

static void make_ipv6(uint8_t *frame, uint8_t proto, uint32_t body)
{
    memset(frame, 0, 54);
    forge_be16(frame + 12, 0x86dd);
    frame[14] = 0x60;
    forge_be16(frame + 18, body);
    frame[20] = proto;
    frame[21] = 64;
    frame[22] = frame[38] = 0xfd;
    frame[37] = 1;
    frame[53] = 2;
}

static void ipv6_is_recognised(void **state)
{
    static uint8_t frame[FORGE_ROOM], inner[FORGE_ROOM];
    struct packet p;

    make_ipv6(frame, 17, 12);
    forge_be16(frame + 54, 1000);
    forge_be16(frame + 56, 53);
    forge_be16(frame + 58, 12);
    assert_int_equal(parse(&p, frame, 66), PACKET_OK);
    CHECK(p.is_ipv6 && p.has_l4 && p.tuple.src_port == htobe16(1000) &&
              p.tuple.dst_port == htobe16(53) && p.tuple.src.b[15] == 1 && p.payload == 62,
          "udp");
    assert_int_equal(parse(&p, frame, 65), PACKET_TRUNCATED);
    make_ipv6(frame, 58, 8);
    frame[54] = 128;
    forge_be16(frame + 58, 99);
    assert_int_equal(parse(&p, frame, 62), PACKET_OK);
    CHECK(p.has_l4 && p.tuple.src_port == htobe16(99), "echo");
    /* destination unreachable, quoting a UDP header in IPv6 */
    make_ipv6(inner, 17, 8);
    forge_be16(inner + 54, 53);
    forge_be16(inner + 56, 1000);
    make_ipv6(frame, 58, 8 + 48);
    frame[54] = 1;
    memcpy(frame + 62, inner + 14, 48);
    assert_int_equal(parse(&p, frame, 110), PACKET_OK);
    CHECK(p.is_icmp_error && p.inner_has_l4 && p.inner.src_port == htobe16(53) && !p.has_l4,
          "error");
    assert_int_equal(parse(&p, frame, 109), PACKET_TRUNCATED);
    make_ipv6(frame, 58, 8 + 39);
    frame[54] = 1;
    assert_int_equal(parse(&p, frame, 101), PACKET_TRUNCATED);
    make_ipv6(frame, 17, 65535);
    assert_int_equal(parse(&p, frame, 66), PACKET_BAD_LENGTH);
    make_ipv6(frame, 0, 8);
    assert_int_equal(parse(&p, frame, 62), PACKET_OK);
    CHECK(!p.has_l4 && p.tuple.proto == 0, "extension header");
    frame[14] = 0x40;
    assert_int_equal(parse(&p, frame, 62), PACKET_BAD_HEADER);
}

/* Random damage of random packets: parse survives and never reads behind. */
static void random_damage(void **state)
{
    static uint8_t frame[FORGE_ROOM];
    uint64_t seed = 77;
    unsigned survived = 0;

    for (int round = 0; round < 40000; round++) {
        const struct good *g = &goods[forge_random(&seed) % (sizeof goods / sizeof goods[0])];
        uint32_t len = forge_frame(&g->f, frame);
        for (uint64_t hits = forge_random(&seed) % 4; hits; hits--)
            frame[12 + forge_random(&seed) % (len - 12)] = (uint8_t)forge_random(&seed);
        if (frame[12] == 8 && frame[13] == 0 && (frame[14] & 15) >= 5 && forge_random(&seed) % 4) {
            uint32_t header = (frame[14] & 15) * 4u;
            forge_be16(frame + 24, 0);
            forge_be16(frame + 24, ~forge_sum(0, frame + 14, header) & 0xffff);
        }
        survived += parse_alone(frame, len) == PACKET_OK;
    }
    CHECK(survived > 1000, "only %u of the damaged packets were read", survived);
}

static uint64_t hash_of(const struct forge *f)
{
    static uint8_t frame[FORGE_ROOM];
    struct packet p;
    uint32_t len = forge_frame(f, frame);

    assert_int_equal(parse(&p, frame, len), PACKET_OK);
    return packet_symmetric_hash(&p);
}

static void hash_is_symmetric(void **state)
{
    static const uint8_t protos[] = {1, 6, 17};
    static uint8_t inner[FORGE_ROOM];
    uint64_t seed = 3;

    for (int round = 0; round < 5000; round++) {
        uint64_t r = forge_random(&seed), q = forge_random(&seed);
        struct forge f = {.src = (uint32_t)r,
                          .dst = (uint32_t)(r >> 32),
                          .sport = (uint16_t)q,
                          .dport = (uint16_t)(q >> 16),
                          .proto = protos[q >> 40 & 1 ? 1 : 2],
                          .data = 8};
        if (q >> 41 & 1)
            f.proto = 1, f.type = 8, f.dport = f.sport;
        struct forge back = f;
        back.src = f.dst, back.dst = f.src, back.sport = f.dport, back.dport = f.sport;
        if (f.proto == 1)
            back.type = 0;
        uint64_t want = hash_of(&f);
        CHECK(hash_of(&back) == want, "round %d: the way back", round);
        forge_frame(&f, inner);
        struct forge error = {.src = (uint32_t)q,
                              .dst = f.src,
                              .proto = 1,
                              .type = 3,
                              .quote = inner + 14,
                              .quote_len = 28};
        CHECK(hash_of(&error) == want, "round %d: an error about it", round);
        error.dst = f.dst;
        forge_frame(&back, inner);
        CHECK(hash_of(&error) == want, "round %d: an error about the way back", round);
    }
}

static void hash_of_fragments(void **state)
{
    struct forge first = {
        .src = A, .dst = B, .proto = 17, .sport = 5, .dport = 6, .data = 16, .frag = 0x2000};
    struct forge later = {.src = A, .dst = B, .proto = 17, .data = 16, .frag = 3};
    struct forge other = {.src = A, .dst = B, .proto = 6, .data = 16, .frag = 3};

    assert_true(hash_of(&first) == hash_of(&later));
    assert_true(hash_of(&other) != hash_of(&later));
}

/* Flows spread evenly: 64 buckets, mean 1000 each. */
static void hash_spreads(void **state)
{
    unsigned buckets[64] = {0};

    for (uint32_t i = 0; i < 64000; i++) {
        struct forge f = {
            .src = A, .dst = B, .proto = 6, .sport = (uint16_t)(1024 + i), .dport = 443};
        buckets[hash_of(&f) % 64]++;
    }
    for (int i = 0; i < 64; i++)
        CHECK(buckets[i] > 800 && buckets[i] < 1200, "bucket %d holds %u", i, buckets[i]);
}

/* Two front ends of neighbouring versions must steer alike. */
static void hash_stays_what_it_is(void **state)
{
    struct forge f = {.src = A, .dst = B, .proto = 6, .sport = 40000, .dport = 443};

    CHECK(hash_of(&f) == 0xdc30d2c90d978aa0, "0x%016" PRIx64, hash_of(&f));
}

static int set_up(void **state)
{
    forge_frame(&quoted, quote_tcp);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_packets),       cmocka_unit_test(quoted_packets),
        cmocka_unit_test(bad_packets),        cmocka_unit_test(every_truncation),
        cmocka_unit_test(ipv6_is_recognised), cmocka_unit_test(random_damage),
        cmocka_unit_test(hash_is_symmetric),  cmocka_unit_test(hash_of_fragments),
        cmocka_unit_test(hash_spreads),       cmocka_unit_test(hash_stays_what_it_is),
    };
    return cmocka_run_group_tests_name("packet", tests, set_up, NULL);
}
