/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nat44's tests as tables: a row is a name and a few steps; a step is a packet
 * and what must come of it, or a wait. A row starts on an empty store and ends
 * with a look at everything that is in it.
 *
 * Ports 1 and 2 are names: XA stands for the external port (or identifier) of
 * the mapping of host A, port PA, XB for that of B, PB; which port that is, is
 * read from the store.
 *
 * Of every packet that comes out is checked: addresses, ports, TTL, that its
 * payload is what went in, every checksum by recomputation, and that a wrong
 * L4 checksum is as wrong as it was. After every row: mappings and pool
 * records name each other, every session has its mapping, no two mappings
 * share an index, and counts per host are right.
 */
#ifndef NF_TESTING_NAT_SCENARIO_H
#define NF_TESTING_NAT_SCENARIO_H

#include "common/packet/packet_forge.h"
#include "nf/nat44/nat44.h"
#include "nf/testing/rig.h"

enum { XA = 1, XB = 2, PA = 4000, PB = 5000, PR = 80 };
#define A       IP4(10, 0, 0, 1)
#define B       IP4(10, 0, 0, 2)
#define R       IP4(198, 51, 100, 7) /* remote hosts */
#define R2      IP4(198, 51, 100, 8)
#define X       IP4(203, 0, 113, 1) /* the external address */
#define NAT_IN  IP4(10, 0, 0, 254)  /* the NAT's own, inside and outside */
#define NAT_OUT IP4(198, 51, 100, 254)

enum want { WANT_PASS = 1, WANT_TURNED, WANT_ERROR, WANT_ECHO, WANT_DROP };
enum damage { WHOLE = 0, BAD_L4_SUM, BAD_IP_SUM, BAD_QUOTED_SUM, CUT_8_BYTES };

struct nat_step {
    enum packet_side from;
    struct forge in, out;       /* out: addresses, ports, type and code */
    struct forge quote, quoted; /* of ICMP errors, before and after; proto 0: none */
    uint16_t cut;               /* bytes of the quoted packet; 0: all */
    enum damage damage;
    enum want want;     /* 0: no packet, only a wait */
    const char *reason; /* WANT_DROP */
    int tcp;            /* state of session A:PA - R:PR after it, + 1; 0: any */
    uint64_t wait_ms;   /* before it */
    bool fill;          /* sends UDP packets of A until the ports are used up */
};
struct nat_row {
    const char *name;
    const struct nat_config *config; /* NULL: nat_scenario_config */
    struct nat_step steps[10];
    struct {
        int maps, sessions, frags;
    } after;
};

extern const struct nat_config nat_scenario_config;

/* Runs all rows, then fails the cmocka test if one did not hold. */
void nat_rows_run(const struct nat_row *rows, unsigned n);

/* clang-format off */
/* --- steps ------------------------------------------------------------------------ */

#define F(p, s, sp, d, dp, ...)                                                                   \
    {                                                                                             \
        .proto = p, .src = s, .sport = sp, .dst = d, .dport = dp, ##__VA_ARGS__                   \
    }
#define U(s, sp, d, dp, ...) F(17, s, sp, d, dp, .data = 10, ##__VA_ARGS__)
#define T(fl, s, sp, d, dp) F(6, s, sp, d, dp, .flags = fl, .data = 7)
#define PING(s, d, i) F(1, s, i, d, i, .type = 8, .data = 12)
#define PONG(s, d, i) F(1, s, i, d, i, .type = 0, .data = 12)
#define ERR(s, d, ty, co) F(1, s, 0, d, 0, .type = ty, .code = co)

#define OUT(i, o, ...) {.from = SIDE_INSIDE, .in = i, .out = o, .want = WANT_PASS, ##__VA_ARGS__}
#define IN(i, o, ...) {.from = SIDE_OUTSIDE, .in = i, .out = o, .want = WANT_PASS, ##__VA_ARGS__}
#define TURNED(i, o, ...) {.from = SIDE_INSIDE, .in = i, .out = o, .want = WANT_TURNED, ##__VA_ARGS__}
#define OUT_DROP(i, why, ...) {.from = SIDE_INSIDE, .in = i, .want = WANT_DROP, .reason = why, ##__VA_ARGS__}
#define IN_DROP(i, why, ...) {.from = SIDE_OUTSIDE, .in = i, .want = WANT_DROP, .reason = why, ##__VA_ARGS__}
/* The NAT answers with an ICMP error about the packet. */
#define OUT_ERROR(i, e) {.from = SIDE_INSIDE, .in = i, .out = e, .want = WANT_ERROR}
#define IN_ERROR(i, e) {.from = SIDE_OUTSIDE, .in = i, .out = e, .want = WANT_ERROR}
#define WAIT_S(s) {.wait_ms = (s) * 1000ull}
#define QUOTING(q, after) .quote = q, .quoted = after

/* The usual packets: A:PA and R:PR. */
#define UDP_OUT OUT(U(A, PA, R, PR), U(X, XA, R, PR))
#define UDP_IN IN(U(R, PR, X, XA), U(R, PR, A, PA))
#define TCP_OUT(fl, st) OUT(T(fl, A, PA, R, PR), T(fl, X, XA, R, PR), .tcp = (st) + 1)
#define TCP_IN(fl, st) IN(T(fl, R, PR, X, XA), T(fl, R, PR, A, PA), .tcp = (st) + 1)
enum { SYN = TCP_SYN, ACK = TCP_ACK, FIN = TCP_FIN | TCP_ACK, RST = TCP_RST | TCP_ACK,
       SYNACK = TCP_SYN | TCP_ACK };
#define HANDSHAKE TCP_OUT(SYN, TCP_SYN_OUT), TCP_IN(SYNACK, TCP_ESTABLISHED), TCP_OUT(ACK, TCP_ESTABLISHED)
/* clang-format on */

#endif
