/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nat44: UDP, TCP and echo. Rows run on the real engine and store; what a row
 * may say stands in nf/testing/nat_scenario.h. The rest is in nat44_edge_test.
 */
#include "tests/check.h"

#include "nf/testing/nat_scenario.h"

#define ROWS(r) nat_rows_run(r, sizeof(r) / sizeof(r)[0])

static char *one[] = {"203.0.113.1"};
static const struct nat_config refreshing = {
    .external = one, .external_count = 1, .inbound_refresh = true};
static const struct nat_config hasty = {.external = one, .external_count = 1, .tcp_reset_s = 10};

/* --- UDP: RFC 4787 ------------------------------------------------------------------- */

/* clang-format off */
static const struct nat_row udp_rows[] = {
    {"udp out: a mapping is made", NULL, {UDP_OUT}, {1, 0, 0}},
    {"udp out again: the same mapping", NULL, {UDP_OUT, UDP_OUT}, {1, 0, 0}},
    {"udp to another remote: the same external end point (REQ-1)", NULL,
     {UDP_OUT, OUT(U(A, PA, R2, 99), U(X, XA, R2, 99))}, {1, 0, 0}},
    {"udp from another port: another mapping", NULL,
     {UDP_OUT, OUT(U(B, PB, R, PR), U(X, XB, R, PR))}, {2, 0, 0}},
    {"udp in through a mapping", NULL, {UDP_OUT, UDP_IN}, {1, 0, 0}},
    {"udp in from a stranger: filtering is endpoint-independent (REQ-8)", NULL,
     {UDP_OUT, IN(U(R2, 99, X, XA), U(R2, 99, A, PA))}, {1, 0, 0}},
    {"udp in without mapping", NULL, {IN_DROP(U(R, PR, X, 40000), "nat44_no_mapping")}, {0, 0, 0}},
    {"udp in to a port below 1024", NULL, {IN_DROP(U(R, PR, X, 53), "nat44_no_mapping")},
     {0, 0, 0}},
    {"udp and tcp of one end point are two mappings", NULL,
     {UDP_OUT, TCP_OUT(SYN, TCP_SYN_OUT), UDP_IN}, {2, 1, 0}},
    {"udp without checksum stays without", NULL,
     {OUT(U(A, PA, R, PR, .no_checksum = true), U(X, XA, R, PR)),
      IN(U(R, PR, X, XA, .no_checksum = true), U(R, PR, A, PA))}, {1, 0, 0}},
    {"wrong udp checksum stays as wrong, both ways", NULL,
     {OUT(U(A, PA, R, PR), U(X, XA, R, PR), .damage = BAD_L4_SUM),
      IN(U(R, PR, X, XA), U(R, PR, A, PA), .damage = BAD_L4_SUM)}, {1, 0, 0}},
    {"udp with IP options", NULL,
     {OUT(U(A, PA, R, PR, .options = 8), U(X, XA, R, PR)), UDP_IN}, {1, 0, 0}},
    {"udp mapping still there after 4 min 59 s (REQ-5)", NULL, {UDP_OUT, WAIT_S(299), UDP_IN},
     {1, 0, 0}},
    {"udp mapping gone after 5 min", NULL,
     {UDP_OUT, WAIT_S(301), IN_DROP(U(R, PR, X, 40000), "nat44_no_mapping")}, {0, 0, 0}},
    {"udp out refreshes (REQ-6)", NULL, {UDP_OUT, WAIT_S(200), UDP_OUT, WAIT_S(200), UDP_IN},
     {1, 0, 0}},
    {"udp in does not refresh (REQ-6)", NULL, {UDP_OUT, WAIT_S(200), UDP_IN, WAIT_S(101)},
     {0, 0, 0}},
    {"udp in refreshes if configured", &refreshing,
     {UDP_OUT, WAIT_S(200), UDP_IN, WAIT_S(200), UDP_IN}, {1, 0, 0}},
};
/* clang-format on */

static void udp(void **state)
{
    ROWS(udp_rows);
}

/* --- TCP: RFC 5382, RFC 7857 ------------------------------------------------------------ */

/* clang-format off */
static const struct nat_row tcp_rows[] = {
    {"SYN out: mapping and session", NULL, {TCP_OUT(SYN, TCP_SYN_OUT)}, {1, 1, 0}},
    {"SYN again", NULL, {TCP_OUT(SYN, TCP_SYN_OUT), TCP_OUT(SYN, TCP_SYN_OUT)}, {1, 1, 0}},
    {"SYN to a second remote: the same mapping (REQ-1)", NULL,
     {TCP_OUT(SYN, TCP_SYN_OUT), OUT(T(SYN, A, PA, R2, PR), T(SYN, X, XA, R2, PR))}, {1, 2, 0}},
    {"handshake and data", NULL,
     {HANDSHAKE, TCP_OUT(ACK, TCP_ESTABLISHED), TCP_IN(ACK, TCP_ESTABLISHED)}, {1, 1, 0}},
    {"ACK of no session", NULL, {OUT_DROP(T(ACK, A, PA, R, PR), "nat44_no_session")}, {0, 0, 0}},
    {"RST of no session", NULL, {OUT_DROP(T(RST, A, PA, R, PR), "nat44_no_session")}, {0, 0, 0}},
    {"SYN|ACK of no session", NULL, {OUT_DROP(T(SYNACK, A, PA, R, PR), "nat44_no_session")},
     {0, 0, 0}},
    {"SYN in without mapping: silence (REQ-4)", NULL,
     {IN_DROP(T(SYN, R, PR, X, 40000), "nat44_no_mapping")}, {0, 0, 0}},
    {"ACK in from a stranger at a mapping", NULL,
     {HANDSHAKE, IN_DROP(T(ACK, R2, PR, X, XA), "nat44_no_session")}, {1, 1, 0}},
    {"SYN in from a stranger at a mapping (REQ-3)", NULL,
     {HANDSHAKE, IN(T(SYN, R2, 99, X, XA), T(SYN, R2, 99, A, PA))}, {1, 2, 0}},
    {"connection opened by the outside (REQ-2)", NULL,
     {OUT(T(SYN, A, PA, R2, PR), T(SYN, X, XA, R2, PR)), TCP_IN(SYN, TCP_SYN_IN),
      TCP_OUT(SYNACK, TCP_SYN_BOTH), TCP_OUT(SYNACK, TCP_SYN_BOTH), TCP_IN(ACK, TCP_ESTABLISHED)},
     {1, 2, 0}},
    {"simultaneous open (REQ-2)", NULL,
     {TCP_OUT(SYN, TCP_SYN_OUT), TCP_IN(SYN, TCP_SYN_BOTH), TCP_OUT(SYNACK, TCP_SYN_BOTH),
      TCP_IN(SYNACK, TCP_ESTABLISHED)}, {1, 1, 0}},
    {"SYN unanswered: there after 3 min 59 s, gone after 4 min (REQ-5)", NULL,
     {TCP_OUT(SYN, TCP_SYN_OUT), WAIT_S(239), TCP_IN(SYNACK, TCP_ESTABLISHED)}, {1, 1, 0}},
    {"SYN unanswered for 4 min: session, mapping and port go", NULL,
     {TCP_OUT(SYN, TCP_SYN_OUT), WAIT_S(241)}, {0, 0, 0}},
    {"SYN in, unanswered for 4 min: the other session stays", NULL,
     {HANDSHAKE, IN(T(SYN, R2, 99, X, XA), T(SYN, R2, 99, A, PA)), WAIT_S(241),
      TCP_IN(ACK, TCP_ESTABLISHED)}, {1, 1, 0}},
    {"established, idle for 2 h 3 min (REQ-5)", NULL,
     {HANDSHAKE, WAIT_S(7380), TCP_IN(ACK, TCP_ESTABLISHED)}, {1, 1, 0}},
    {"established, idle for 2 h 4 min", NULL, {HANDSHAKE, WAIT_S(7441)}, {0, 0, 0}},
    {"established, refreshed by the inside", NULL,
     {HANDSHAKE, WAIT_S(7000), TCP_OUT(ACK, TCP_ESTABLISHED), WAIT_S(7000),
      TCP_IN(ACK, TCP_ESTABLISHED)}, {1, 1, 0}},
    {"established, in does not refresh", NULL,
     {HANDSHAKE, WAIT_S(7000), TCP_IN(ACK, TCP_ESTABLISHED), WAIT_S(441)}, {0, 0, 0}},
    {"established, in refreshes if configured", &refreshing,
     {HANDSHAKE, WAIT_S(7000), TCP_IN(ACK, TCP_ESTABLISHED), WAIT_S(7000),
      TCP_OUT(ACK, TCP_ESTABLISHED)}, {1, 1, 0}},
    {"inside finishes first: half closed lives on", NULL,
     {HANDSHAKE, TCP_OUT(FIN, TCP_FIN_OUT), WAIT_S(3600), TCP_IN(ACK, TCP_FIN_OUT)}, {1, 1, 0}},
    {"outside finishes first", NULL,
     {HANDSHAKE, TCP_IN(FIN, TCP_FIN_IN), WAIT_S(3600), TCP_OUT(ACK, TCP_FIN_IN),
      TCP_OUT(FIN, TCP_CLOSING), TCP_IN(ACK, TCP_CLOSING)}, {1, 1, 0}},
    {"both finished: four minutes of TIME_WAIT", NULL,
     {HANDSHAKE, TCP_OUT(FIN, TCP_FIN_OUT), TCP_IN(FIN, TCP_CLOSING), TCP_OUT(ACK, TCP_CLOSING),
      WAIT_S(239), TCP_IN(FIN, TCP_CLOSING)}, {1, 1, 0}},
    {"both finished: then everything goes", NULL,
     {HANDSHAKE, TCP_OUT(FIN, TCP_FIN_OUT), TCP_IN(FIN, TCP_CLOSING), TCP_OUT(ACK, TCP_CLOSING),
      WAIT_S(241)}, {0, 0, 0}},
    {"RST in, and silence: gone after 4 min", NULL,
     {HANDSHAKE, TCP_IN(RST, TCP_RESET), WAIT_S(241)}, {0, 0, 0}},
    {"RST in, gone after 10 s if configured", &hasty,
     {HANDSHAKE, TCP_IN(RST, TCP_RESET), WAIT_S(11)}, {0, 0, 0}},
    {"forged RST in: the inside talks on and the session lives", NULL,
     {HANDSHAKE, TCP_IN(RST, TCP_RESET), TCP_OUT(ACK, TCP_ESTABLISHED), WAIT_S(3600),
      TCP_IN(ACK, TCP_ESTABLISHED)}, {1, 1, 0}},
    {"RST out: what was in flight does not revive it", NULL,
     {HANDSHAKE, TCP_OUT(RST, TCP_RESET), TCP_IN(ACK, TCP_RESET), WAIT_S(241)}, {0, 0, 0}},
    {"RST in for a refused SYN", NULL, {TCP_OUT(SYN, TCP_SYN_OUT), TCP_IN(RST, TCP_RESET)},
     {1, 1, 0}},
    {"SYN uses a closed session again", NULL,
     {HANDSHAKE, TCP_OUT(FIN, TCP_FIN_OUT), TCP_IN(FIN, TCP_CLOSING), TCP_OUT(SYN, TCP_SYN_OUT),
      TCP_IN(SYNACK, TCP_ESTABLISHED)}, {1, 1, 0}},
    {"SYN uses a reset session again", NULL,
     {HANDSHAKE, TCP_OUT(RST, TCP_RESET), TCP_OUT(SYN, TCP_SYN_OUT),
      TCP_IN(SYNACK, TCP_ESTABLISHED)}, {1, 1, 0}},
    {"SYN into a living connection changes nothing", NULL,
     {HANDSHAKE, TCP_OUT(SYN, TCP_ESTABLISHED), TCP_IN(SYN, TCP_ESTABLISHED)}, {1, 1, 0}},
    {"mapping with two sessions dies with the second", NULL,
     {TCP_OUT(SYN, TCP_SYN_OUT), WAIT_S(200), OUT(T(SYN, A, PA, R2, PR), T(SYN, X, XA, R2, PR)),
      WAIT_S(100), OUT(T(SYN, A, PA, R2, PR), T(SYN, X, XA, R2, PR))}, {1, 1, 0}},
    {"wrong tcp checksum stays as wrong, both ways", NULL,
     {OUT(T(SYN, A, PA, R, PR), T(SYN, X, XA, R, PR), .damage = BAD_L4_SUM),
      IN(T(SYNACK, R, PR, X, XA), T(SYNACK, R, PR, A, PA), .damage = BAD_L4_SUM)}, {1, 1, 0}},
};
/* clang-format on */

static void tcp(void **state)
{
    ROWS(tcp_rows);
}

/* --- echo: RFC 5508 ------------------------------------------------------------------------ */

/* clang-format off */
static const struct nat_row echo_rows[] = {
    {"ping out and back (REQ-1)", NULL,
     {OUT(PING(A, R, PA), PING(X, R, XA)), IN(PONG(R, X, XA), PONG(R, A, PA))}, {1, 0, 0}},
    {"ping twice: one identifier", NULL,
     {OUT(PING(A, R, PA), PING(X, R, XA)), OUT(PING(A, R2, PA), PING(X, R2, XA))}, {1, 0, 0}},
    {"two hosts, one identifier: two outside", NULL,
     {OUT(PING(A, R, PA), PING(X, R, XA)), OUT(PING(B, R, PB), PING(X, R, XB))}, {2, 0, 0}},
    {"echo reply to nothing", NULL, {IN_DROP(PONG(R, X, 40000), "nat44_no_mapping")}, {0, 0, 0}},
    {"echo reply from the inside", NULL, {OUT_DROP(PONG(A, R, PA), "nat44_icmp_type")},
     {0, 0, 0}},
    {"timestamp request", NULL,
     {OUT_DROP(F(1, A, 7, R, 7, .type = 13, .data = 12), "nat44_icmp_type")}, {0, 0, 0}},
    {"ping mapping there after 59 s (REQ-2)", NULL,
     {OUT(PING(A, R, PA), PING(X, R, XA)), WAIT_S(59), IN(PONG(R, X, XA), PONG(R, A, PA))},
     {1, 0, 0}},
    {"ping mapping gone after 60 s", NULL, {OUT(PING(A, R, PA), PING(X, R, XA)), WAIT_S(61)},
     {0, 0, 0}},
    {"wrong icmp checksum stays as wrong", NULL,
     {OUT(PING(A, R, PA), PING(X, R, XA), .damage = BAD_L4_SUM)}, {1, 0, 0}},
    {"ping of the external address from outside", NULL,
     {{.from = SIDE_OUTSIDE, .in = PING(R, X, 7), .out = PONG(X, R, 7), .want = WANT_ECHO}},
     {0, 0, 0}},
    {"ping of the external address from inside", NULL,
     {{.from = SIDE_INSIDE, .in = PING(A, X, 7), .out = PONG(X, A, 7), .want = WANT_ECHO}},
     {0, 0, 0}},
    {"ping of the NAT's own inside address", NULL,
     {{.from = SIDE_INSIDE, .in = PING(A, NAT_IN, 7), .out = PONG(NAT_IN, A, 7),
       .want = WANT_ECHO}}, {0, 0, 0}},
};
/* clang-format on */

static void echo(void **state)
{
    ROWS(echo_rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(udp),
        cmocka_unit_test(tcp),
        cmocka_unit_test(echo),
    };
    return cmocka_run_group_tests_name("nat44", tests, NULL, NULL);
}
