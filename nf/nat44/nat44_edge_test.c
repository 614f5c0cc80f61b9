/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nat44: ICMP errors, hairpinning, fragments, refusals, damaged packets. Rows
 * run on the real engine and store (nf/testing/nat_scenario.h).
 */
#include "tests/check.h"

#include "nf/testing/nat_scenario.h"

#define ROWS(r) nat_rows_run(r, sizeof(r) / sizeof(r)[0])

static char *one[] = {"203.0.113.1"};
static const struct nat_config capped = {.external = one,
                                         .external_count = 1,
                                         .inside_address = "10.0.0.254",
                                         .max_mappings_per_address = 2};
/* A cap above what its slot has: the ports of one slot are soon used up. */
static const struct nat_config by_host = {.external = one,
                                          .external_count = 1,
                                          .inside_address = "10.0.0.254",
                                          .max_mappings_per_address = 100000};
static const struct nat_config quiet = {
    .external = one, .external_count = 1, .quiet = true, .max_mappings_per_address = 1};

static const struct nat_config one_session = {
    .external = one, .external_count = 1, .inside_address = "10.0.0.254", .max_sessions = 1};

#define PING_OUT OUT(PING(A, R, PA), PING(X, R, XA))
enum { UNREACHABLE = 3, REDIRECT = 5, EXCEEDED = 11, PARAMETER = 12 };

/* --- ICMP errors: RFC 5508 4 ---------------------------------------------------------- */

/* A router R2 complains about our packet to R. */
#define ERROR_IN(ty, co, q, after, ...)                                                            \
    IN(ERR(R2, X, ty, co), ERR(R2, A, ty, co), .quote = q, .quoted = after, ##__VA_ARGS__)
#define SENT_UDP U(X, XA, R, PR)
#define SENT_TCP T(SYN, X, XA, R, PR)
#define ERROR_IN_DROP(q, why, ...)                                                                 \
    IN_DROP(ERR(R2, X, UNREACHABLE, 1), why, .quote = q, .quoted = q, ##__VA_ARGS__)

/* clang-format off */
static const struct nat_row error_in_rows[] = {
    {"unreachable about udp, whole packet quoted (REQ-4)", NULL,
     {UDP_OUT, ERROR_IN(UNREACHABLE, 3, SENT_UDP, U(A, PA, R, PR))}, {1, 0, 0}},
    {"unreachable about udp without checksum", NULL,
     {UDP_OUT, ERROR_IN(UNREACHABLE, 3, U(X, XA, R, PR, .no_checksum = true), U(A, PA, R, PR))},
     {1, 0, 0}},
    {"fragmentation needed about tcp, 8 bytes quoted (RFC 5382 REQ-9)", NULL,
     {HANDSHAKE, ERROR_IN(UNREACHABLE, 4, T(ACK, X, XA, R, PR), T(ACK, A, PA, R, PR), .cut = 28,
                          .tcp = TCP_ESTABLISHED + 1)}, {1, 1, 0}},
    {"unreachable about tcp, 20 bytes quoted", NULL,
     {TCP_OUT(SYN, TCP_SYN_OUT),
      ERROR_IN(UNREACHABLE, 1, SENT_TCP, T(SYN, A, PA, R, PR), .cut = 40)}, {1, 1, 0}},
    {"time exceeded about a ping: traceroute", NULL,
     {PING_OUT, ERROR_IN(EXCEEDED, 0, PING(X, R, XA), PING(A, R, PA), .cut = 28)}, {1, 0, 0}},
    {"parameter problem", NULL, {UDP_OUT, ERROR_IN(PARAMETER, 0, SENT_UDP, U(A, PA, R, PR))},
     {1, 0, 0}},
    {"an error about nothing (REQ-4)", NULL,
     {ERROR_IN_DROP(U(X, 40000, R, PR), "nat44_no_mapping")}, {0, 0, 0}},
    {"an error with a wrong checksum (REQ-3)", NULL,
     {UDP_OUT, ERROR_IN_DROP(SENT_UDP, "nat44_bad_icmp_error", .damage = BAD_L4_SUM)}, {1, 0, 0}},
    {"an error that quotes a wrong IP checksum (REQ-3 a)", NULL,
     {UDP_OUT, ERROR_IN_DROP(SENT_UDP, "nat44_bad_icmp_error", .damage = BAD_QUOTED_SUM)},
     {1, 0, 0}},
    {"an error that quotes 7 bytes", NULL,
     {UDP_OUT, ERROR_IN_DROP(SENT_UDP, "nat44_bad_icmp_error", .cut = 27)}, {1, 0, 0}},
    {"an error that quotes no ports at all", NULL,
     {UDP_OUT, ERROR_IN_DROP(SENT_UDP, "nat44_bad_icmp_error", .cut = 20)}, {1, 0, 0}},
    {"an error that quotes half an IP header", NULL,
     {UDP_OUT, ERROR_IN_DROP(SENT_UDP, "truncated", .cut = 12)}, {1, 0, 0}},
    {"an error that quotes IP options (REQ-3 b)", NULL,
     {UDP_OUT, IN(ERR(R2, X, UNREACHABLE, 1), ERR(R2, A, UNREACHABLE, 1),
                  QUOTING(U(X, XA, R, PR, .options = 8), U(A, PA, R, PR)))}, {1, 0, 0}},
    {"an error to another address than it quotes", NULL,
     {UDP_OUT, ERROR_IN_DROP(U(R2, 7, R, PR), "nat44_no_mapping")}, {1, 0, 0}},
    {"a redirect", NULL,
     {UDP_OUT, IN_DROP(ERR(R2, X, REDIRECT, 0), "nat44_icmp_type", QUOTING(SENT_UDP, SENT_UDP))},
     {1, 0, 0}},
    {"errors do not refresh (REQ-6)", NULL,
     {UDP_OUT, WAIT_S(200), ERROR_IN(UNREACHABLE, 3, SENT_UDP, U(A, PA, R, PR)), WAIT_S(101)},
     {0, 0, 0}},
    {"errors do not end a connection (RFC 5382 REQ-10)", NULL,
     {HANDSHAKE, ERROR_IN(UNREACHABLE, 3, T(ACK, X, XA, R, PR), T(ACK, A, PA, R, PR)),
      TCP_IN(ACK, TCP_ESTABLISHED)}, {1, 1, 0}},
};
/* clang-format on */

static void errors_in(void **state)
{
    ROWS(error_in_rows);
}

/* Which external address a mapping gets is the store's choice, so this one is
 * asked of the classifier: an error that was sent to one, and quotes another. */
static void error_to_another_address(void **state)
{
    static struct nat_self self;
    static char *two[] = {"203.0.113.0/31"};
    const struct nat_config config = {.external = two, .external_count = 1};
    struct table_schema tables[NF_TABLES_MAX];
    uint8_t inner[FORGE_ROOM], frame[FORGE_ROOM];
    const struct forge q = U(X, 40000, R, PR);
    struct packet p;
    char err[200];
    int ntables;

    assert_int_equal(nat44_ops.init(&self, &config, tables, &ntables, err, sizeof err), 0);
    forge_frame(&q, inner);
    for (uint32_t last = 0; last < 2; last++) {
        const struct forge f = {.src = R2,
                                .dst = IP4(203, 0, 113, last),
                                .proto = 1,
                                .type = UNREACHABLE,
                                .quote = inner + FORGE_ETHER,
                                .quote_len = 38};
        uint32_t len = forge_frame(&f, frame);
        assert_int_equal(packet_parse(&p, frame, len, sizeof frame, SIDE_OUTSIDE), PACKET_OK);
        assert_int_equal(nat_classify(&self, &p).what, last == 1 ? NAT_FORWARD : NAT_DROP_IT);
    }
}

/* An inside host complains about a packet that we let in. */
#define ERROR_OUT(from, q, after, ...)                                                             \
    OUT(ERR(from, R, UNREACHABLE, 3), ERR(X, R, UNREACHABLE, 3), .quote = q, .quoted = after,      \
        ##__VA_ARGS__)

/* clang-format off */
static const struct nat_row error_out_rows[] = {
    {"port unreachable from the host (REQ-5)", NULL,
     {UDP_OUT, UDP_IN, ERROR_OUT(A, U(R, PR, A, PA), U(R, PR, X, XA))}, {1, 0, 0}},
    {"the same, 8 bytes quoted", NULL,
     {UDP_OUT, UDP_IN, ERROR_OUT(A, U(R, PR, A, PA), U(R, PR, X, XA), .cut = 28)}, {1, 0, 0}},
    {"time exceeded from a router inside (REQ-5)", NULL,
     {HANDSHAKE, ERROR_OUT(B, T(ACK, R, PR, A, PA), T(ACK, R, PR, X, XA), .cut = 28)}, {1, 1, 0}},
    {"errors of the inside do not refresh either (REQ-6)", NULL,
     {UDP_OUT, UDP_IN, WAIT_S(200), ERROR_OUT(A, U(R, PR, A, PA), U(R, PR, X, XA)), WAIT_S(101)},
     {0, 0, 0}},
    {"an error about nothing makes no mapping (REQ-5)", NULL,
     {OUT_DROP(ERR(A, R, UNREACHABLE, 3), "nat44_no_mapping",
               QUOTING(U(R, PR, A, PA), U(R, PR, A, PA)))}, {0, 0, 0}},
    {"an error about a packet to nobody inside", NULL,
     {OUT_DROP(ERR(A, R, UNREACHABLE, 3), "nat44_no_mapping",
               QUOTING(U(R, PR, R2, PA), U(R, PR, R2, PA)))}, {0, 0, 0}},
};
/* clang-format on */

static void errors_out(void **state)
{
    ROWS(error_out_rows);
}

/* --- hairpinning: RFC 4787 REQ-9, RFC 5382 REQ-8, RFC 5508 REQ-7 --------------------------- */

#define B_UDP_OUT OUT(U(B, PB, R, PR), U(X, XB, R, PR))
#define B_SYN_OUT OUT(T(SYN, B, PB, R, PR), T(SYN, X, XB, R, PR))

/* clang-format off */
static const struct nat_row hairpin_rows[] = {
    {"udp to a neighbour's external end point", NULL,
     {B_UDP_OUT, TURNED(U(A, PA, X, XB), U(X, XA, B, PB)),
      TURNED(U(B, PB, X, XA), U(X, XB, A, PA))}, {2, 0, 0}},
    {"udp to an external port without mapping", NULL,
     {OUT_DROP(U(A, PA, X, 40000), "nat44_no_mapping")}, {1, 0, 0}},
    {"udp to one's own external end point", NULL,
     {UDP_OUT, TURNED(U(A, PA, X, XA), U(X, XA, A, PA))}, {1, 0, 0}},
    {"tcp connection to a neighbour", NULL,
     {B_SYN_OUT, TURNED(T(SYN, A, PA, X, XB), T(SYN, X, XA, B, PB)),
      TURNED(T(SYNACK, B, PB, X, XA), T(SYNACK, X, XB, A, PA)),
      TURNED(T(ACK, A, PA, X, XB), T(ACK, X, XA, B, PB)), WAIT_S(3600),
      TURNED(T(ACK, B, PB, X, XA), T(ACK, X, XB, A, PA))}, {2, 2, 0}},
    {"tcp ACK to a neighbour, of no session", NULL,
     {B_SYN_OUT, OUT_DROP(T(ACK, A, PA, X, XB), "nat44_no_session")}, {1, 1, 0}},
    {"tcp SYN to an external port without mapping", NULL,
     {OUT_DROP(T(SYN, A, PA, X, 40000), "nat44_no_mapping")}, {1, 1, 0}},
    {"an error about a hairpinned packet", NULL,
     {B_UDP_OUT, TURNED(U(A, PA, X, XB), U(X, XA, B, PB)),
      TURNED(ERR(B, X, UNREACHABLE, 3), ERR(X, A, UNREACHABLE, 3),
             QUOTING(U(X, XA, B, PB), U(A, PA, X, XB)))}, {2, 0, 0}},
    {"the same, 8 bytes quoted", NULL,
     {B_UDP_OUT, TURNED(U(A, PA, X, XB), U(X, XA, B, PB)),
      TURNED(ERR(B, X, UNREACHABLE, 3), ERR(X, A, UNREACHABLE, 3),
             QUOTING(U(X, XA, B, PB), U(A, PA, X, XB)), .cut = 28)}, {2, 0, 0}},
};
/* clang-format on */

static void hairpin(void **state)
{
    ROWS(hairpin_rows);
}

/* --- fragments ---------------------------------------------------------------------------- */

#define FIRST(s, sp, d, dp)                                                                        \
    F(17, s, sp, d, dp, .data = 16, .frag = 0x2000, .id = 77, .udp_length = 64)
#define LATER(s, d) F(17, s, 0, d, 0, .data = 16, .frag = 0x2003, .id = 77)
#define LAST(s, d)  F(17, s, 0, d, 0, .data = 5, .frag = 0x0006, .id = 77)
#define FIRST_OUT   OUT(FIRST(A, PA, R, PR), FIRST(X, XA, R, PR))

/* clang-format off */
static const struct nat_row fragment_rows[] = {
    {"out, in order", NULL,
     {FIRST_OUT, OUT(LATER(A, R), LATER(X, R)), OUT(LAST(A, R), LAST(X, R))}, {1, 0, 1}},
    {"out, the later one first", NULL,
     {OUT_DROP(LATER(A, R), "nat44_fragment_out_of_order"), FIRST_OUT}, {1, 0, 1}},
    {"of another datagram", NULL,
     {FIRST_OUT, OUT_DROP(F(17, A, 0, R, 0, .data = 16, .frag = 0x2003, .id = 78),
                          "nat44_fragment_out_of_order")}, {1, 0, 1}},
    {"more than 2 s apart", NULL,
     {FIRST_OUT, WAIT_S(3), OUT_DROP(LATER(A, R), "nat44_fragment_out_of_order")}, {1, 0, 0}},
    {"the first one twice", NULL, {FIRST_OUT, FIRST_OUT, OUT(LAST(A, R), LAST(X, R))}, {1, 0, 1}},
    {"in, in order", NULL,
     {UDP_OUT, IN(FIRST(R, PR, X, XA), FIRST(R, PR, A, PA)), IN(LATER(R, X), LATER(R, A)),
      IN(LAST(R, X), LAST(R, A))}, {1, 0, 1}},
    {"in, without mapping", NULL,
     {IN_DROP(FIRST(R, PR, X, 40000), "nat44_no_mapping"),
      IN_DROP(LATER(R, X), "nat44_fragment_out_of_order")}, {0, 0, 0}},
    {"hairpinned", NULL,
     {B_UDP_OUT, TURNED(FIRST(A, PA, X, XB), FIRST(X, XA, B, PB)),
      TURNED(LATER(A, X), LATER(X, B))}, {2, 0, 1}},
    {"tcp, hairpinned", NULL,
     {B_SYN_OUT, TURNED(F(6, A, PA, X, XB, .flags = SYN, .data = 12, .frag = 0x2000, .id = 5),
                        T(SYN, X, XA, B, PB)),
      TURNED(F(6, A, 0, X, 0, .data = 12, .frag = 0x0004, .id = 5), F(6, X, 0, B, 0))}, {2, 3, 1}},
    {"of a ping", NULL,
     {OUT(F(1, A, PA, R, PA, .type = 8, .data = 16, .frag = 0x2000, .id = 9),
          F(1, X, XA, R, XA, .type = 8)),
      OUT(F(1, A, 0, R, 0, .data = 16, .frag = 0x0003, .id = 9), F(1, X, 0, R, 0))}, {1, 0, 1}},
};
/* clang-format on */

static void fragments(void **state)
{
    ROWS(fragment_rows);
}

/* --- TTL, protocols, addresses --------------------------------------------------------------- */

/* clang-format off */
static const struct nat_row refusal_rows[] = {
    {"ttl 1 out: time exceeded, and no state (traceroute)", NULL,
     {OUT_ERROR(U(A, PA, R, PR, .ttl = 1), ERR(NAT_IN, A, EXCEEDED, 0))}, {0, 0, 0}},
    {"ttl 0 out", NULL,
     {OUT_ERROR(U(A, PA, R, PR, .real_ttl_0 = true), ERR(NAT_IN, A, EXCEEDED, 0))}, {0, 0, 0}},
    {"ttl 2 out goes", NULL, {OUT(U(A, PA, R, PR, .ttl = 2), U(X, XA, R, PR))}, {1, 0, 0}},
    {"ttl 1 in", NULL,
     {UDP_OUT, IN_ERROR(U(R, PR, X, XA, .ttl = 1), ERR(NAT_OUT, R, EXCEEDED, 0))}, {1, 0, 0}},
    {"ttl 1, an error: silence", NULL,
     {UDP_OUT, IN_DROP(F(1, R2, 0, X, 0, .type = UNREACHABLE, .ttl = 1), "nat44_ttl_expired",
                       QUOTING(SENT_UDP, SENT_UDP))}, {1, 0, 0}},
    {"ttl 1, a later fragment: silence", NULL,
     {OUT_DROP(F(17, A, 0, R, 0, .data = 16, .frag = 0x2003, .ttl = 1), "nat44_ttl_expired")},
     {0, 0, 0}},
    {"a protocol we do not know, out: prohibited", NULL,
     {OUT_ERROR(F(47, A, 0, R, 0, .data = 20), ERR(NAT_IN, A, UNREACHABLE, 13))}, {0, 0, 0}},
    {"a protocol we do not know, in: silence", NULL,
     {IN_DROP(F(47, R, 0, X, 0, .data = 20), "nat44_unknown_protocol")}, {0, 0, 0}},
    {"a protocol we do not know, quiet", &quiet,
     {OUT_DROP(F(47, A, 0, R, 0, .data = 20), "nat44_unknown_protocol")}, {0, 0, 0}},
    {"a source that is not inside", NULL,
     {OUT_DROP(U(IP4(8, 8, 8, 8), 1000, R, PR), "nat44_martian")}, {0, 0, 0}},
    {"an inside source from outside", NULL, {IN_DROP(U(A, PA, X, 40000), "nat44_martian")},
     {0, 0, 0}},
    {"an inside source pings us from outside", NULL, {IN_DROP(PING(A, X, 7), "nat44_martian")},
     {0, 0, 0}},
    {"our own address as source from outside", NULL,
     {IN_DROP(U(X, 4000, X, 40000), "nat44_martian")}, {0, 0, 0}},
    {"loopback as source from outside", NULL,
     {IN_DROP(U(IP4(127, 0, 0, 1), 7, X, 40000), "nat44_martian")}, {0, 0, 0}},
    {"inside to inside", NULL, {OUT_DROP(U(A, PA, B, PB), "nat44_not_for_us")}, {0, 0, 0}},
    {"a ping of us in fragments", NULL,
     {OUT_DROP(F(1, A, 7, X, 7, .type = 8, .data = 16, .frag = 0x2000), "nat44_icmp_type")},
     {0, 0, 0}},
    {"to multicast", NULL, {OUT_DROP(U(A, PA, IP4(224, 0, 0, 251), 5353), "nat44_not_for_us")},
     {0, 0, 0}},
    {"from outside to an address that is not ours", NULL,
     {IN_DROP(U(R, PR, IP4(203, 0, 113, 2), 40000), "nat44_not_for_us")}, {0, 0, 0}},
};
/* clang-format on */

static void refusals(void **state)
{
    ROWS(refusal_rows);
}

/* clang-format off */
static const struct nat_row damaged_rows[] = {
    {"wrong IP checksum", NULL,
     {OUT_DROP(U(A, PA, R, PR), "bad_ip_checksum", .damage = BAD_IP_SUM)}, {0, 0, 0}},
    {"cut short on the wire", NULL, {OUT_DROP(U(A, PA, R, PR), "truncated", .damage = CUT_8_BYTES)},
     {0, 0, 0}},
    {"udp length too long", NULL,
     {OUT_DROP(U(A, PA, R, PR, .udp_length = 19), "bad_length")}, {0, 0, 0}},
    {"tcp fragment that could overwrite the flags (RFC 1858)", NULL,
     {OUT_DROP(F(6, A, 0, R, 0, .data = 20, .frag = 0x0001), "bad_header")}, {0, 0, 0}},
};
/* clang-format on */

static void damaged(void **state)
{
    ROWS(damaged_rows);
}

/* --- limits: RFC 6888 REQ-4, REQ-8, REQ-11 ------------------------------------------------------
 */

/* clang-format off */
static const struct nat_row limit_rows[] = {
    {"a cap of 2: the third mapping is refused (REQ-4)", &capped,
     {UDP_OUT, TCP_OUT(SYN, TCP_SYN_OUT),
      OUT_ERROR(PING(A, R, 9), ERR(NAT_IN, A, UNREACHABLE, 1)), UDP_OUT,
      TCP_IN(SYNACK, TCP_ESTABLISHED)}, {2, 1, 0}},
    {"the cap is each host's own", &capped,
     {UDP_OUT, TCP_OUT(SYN, TCP_SYN_OUT), OUT(U(B, PB, R, PR), U(X, XB, R, PR))}, {3, 1, 0}},
    {"what expired counts no more", &capped,
     {UDP_OUT, TCP_OUT(SYN, TCP_SYN_OUT), WAIT_S(301), UDP_OUT, TCP_OUT(SYN, TCP_SYN_OUT)},
     {2, 1, 0}},
    {"sessions used up: refused, and the old one works (REQ-5)", &one_session,
     {HANDSHAKE, OUT_ERROR(T(SYN, A, PA, R2, PR), ERR(NAT_IN, A, UNREACHABLE, 1)),
      OUT_ERROR(T(SYN, B, PB, R, PR), ERR(NAT_IN, B, UNREACHABLE, 1)),
      IN_DROP(T(SYN, R2, PR, X, XA), "nat44_state_full"), TCP_IN(ACK, TCP_ESTABLISHED)},
     {1, 1, 0}},
    {"a cap and quiet: dropped", &quiet,
     {UDP_OUT, OUT_DROP(PING(A, R, 9), "nat44_cap_reached")}, {1, 0, 0}},
};
/* clang-format on */

static void limits(void **state)
{
    ROWS(limit_rows);
}

/* All ports of one slot: each given out once, then refused, then, after the
 * quarantine, given out again. */
/* clang-format off */
static const struct nat_row exhaustion_rows[] = {
    {"ports used up: refused, nothing taken away (REQ-11)", &by_host,
     {{.fill = true}, OUT_ERROR(U(A, 19000, R, PR), ERR(NAT_IN, A, UNREACHABLE, 1)),
      WAIT_S(310)}, {0, 0, 0}},
    {"freed ports rest for two minutes (REQ-8)", &by_host,
     {{.fill = true}, WAIT_S(310), OUT_ERROR(U(A, 19000, R, PR), ERR(NAT_IN, A, UNREACHABLE, 1)),
      WAIT_S(121), {.fill = true}, WAIT_S(310)}, {0, 0, 0}},
};
/* clang-format on */

static void exhaustion(void **state)
{
    ROWS(exhaustion_rows);
}

/* --- two workers at once ----------------------------------------------------------------- */

static uint8_t state_found;

static void take_state(void *ctx, const struct shard_entry *e)
{
    struct nat_session s;
    if (strcmp(e->table, "nat.session"))
        return;
    memcpy(&s, e->value, sizeof s);
    state_found = s.state;
}

/* Sends two packets of A:PA <-> R:PR, out through one worker and in through
 * the other, before either has its answers. */
static void race(struct rig *r, uint16_t port, uint8_t flags_out, uint8_t flags_in)
{
    uint8_t out[FORGE_ROOM], in[FORGE_ROOM];
    const struct forge fo = T(flags_out, A, PA, R, PR), fi = T(flags_in, R, PR, X, port);
    const struct rig_in both[] = {{0, SIDE_INSIDE, out, forge_frame(&fo, out)},
                                  {1, SIDE_OUTSIDE, in, forge_frame(&fi, in)}};
    const struct rig_out *o;

    assert_int_equal(rig_race(r, both, 2, &o), 2);
    for (int i = 0; i < 2; i++) {
        CHECK(o[i].emitted, "packet %d: %s", o[i].which, o[i].reason);
        CHECK(!forge_check(o[i].frame, o[i].len), "%s", forge_check(o[i].frame, o[i].len));
    }
    rig_each(r, take_state, NULL);
}

/* Both ends finish at once: each worker sees an established session and writes
 * what it makes of it; one of the two writes is refused, and made again. */
static void both_ends_close_at_two_workers(void **state)
{
    const struct nf_ops *const chain[] = {&nat44_ops};
    const void *const configs[] = {&nat_scenario_config};
    struct rig *r = rig_create(chain, configs, 1, 77);
    const struct forge syn = T(SYN, A, PA, R, PR);
    uint8_t frame[FORGE_ROOM];
    const struct rig_out *o = rig_send(r, SIDE_INSIDE, frame, forge_frame(&syn, frame));
    uint16_t port = (uint16_t)forge_get16(o->frame + FORGE_ETHER + 20);

    race(r, port, SYN, SYNACK);
    assert_int_equal(state_found, TCP_ESTABLISHED);
    assert_int_equal(rig_stats(r).conflicts, 0);
    race(r, port, FIN, FIN);
    assert_int_equal(state_found, TCP_CLOSING);
    assert_int_equal(rig_stats(r).conflicts, 1);
    rig_destroy(r);
}

/* One new end point met by both workers at once has one mapping. */
static void one_mapping_made_at_two_workers(void **state)
{
    const struct nf_ops *const chain[] = {&nat44_ops};
    const void *const configs[] = {&nat_scenario_config};
    struct rig *r = rig_create(chain, configs, 1, 78);
    const struct forge f = T(SYN, A, PA, R, PR), g = T(SYN, A, PA, R2, PR);
    uint8_t one_frame[FORGE_ROOM], other[FORGE_ROOM];
    const struct rig_in both[] = {{0, SIDE_INSIDE, one_frame, forge_frame(&f, one_frame)},
                                  {1, SIDE_INSIDE, other, forge_frame(&g, other)}};
    const struct rig_out *o;

    assert_int_equal(rig_race(r, both, 2, &o), 2);
    assert_true(o[0].emitted && o[1].emitted);
    assert_int_equal(forge_get16(o[0].frame + FORGE_ETHER + 20),
                     forge_get16(o[1].frame + FORGE_ETHER + 20));
    assert_int_equal(rig_count(r, 0, NAT_COUNT_MAPPED), 1);
    assert_int_equal(rig_count(r, 0, NAT_COUNT_SESSION), 2);
    rig_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_in),
        cmocka_unit_test(error_to_another_address),
        cmocka_unit_test(errors_out),
        cmocka_unit_test(hairpin),
        cmocka_unit_test(fragments),
        cmocka_unit_test(refusals),
        cmocka_unit_test(damaged),
        cmocka_unit_test(limits),
        cmocka_unit_test(exhaustion),
        cmocka_unit_test(both_ends_close_at_two_workers),
        cmocka_unit_test(one_mapping_made_at_two_workers),
    };
    return cmocka_run_group_tests_name("nat44_edge", tests, NULL, NULL);
}
