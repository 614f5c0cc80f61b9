/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The TCP state machine of a session, as a table (RFC 5382, RFC 7857 2, and
 * the shape of RFC 6146 3.5.2).
 *
 * It follows a connection well enough to choose a time-out, and no further:
 * sequence numbers are the end hosts' business. Each change of state is a
 * compare-and-swap in the store, so states that would not change the time-out
 * are not told apart: an ordinary connection costs one change when it opens
 * and two when it closes.
 *
 *   state         time-out      why
 *   SYN_OUT       transitory    RFC 5382 REQ-5: >= 4 min
 *   SYN_IN        transitory
 *   SYN_BOTH      transitory    a flood of outside SYNs, answered by the
 *                               inside, ends here until an ACK comes back
 *   ESTABLISHED   established   RFC 5382 REQ-5: >= 2 h 4 min
 *   FIN_OUT       established   half closed: the other side may send for hours
 *   FIN_IN        established
 *   CLOSING       closing       TIME_WAIT of the ends
 *   RESET         reset         RFC 7857 2: not gone at once, for an RST may be
 *                               forged; the inside still talking revives it.
 *                               The outside does not: segments that were in
 *                               flight when the inside reset would leave
 *                               sessions behind for two hours.
 *
 * No ICMP message and no time-out but its own ends a session (RFC 5382 REQ-10).
 */
#include "nat44.h"

/* Marks a state that the segment does not change. */
#define SAME TCP_STATES

#define OUT 0
#define IN  1

/* clang-format off */
static const uint8_t next_state[TCP_STATES][2][SEGMENTS] = {
    /* Who sent it: [SYN]       [SYN_ACK]     [ACK]            [FIN]        [RST]      [OTHER] */
    [TCP_SYN_OUT] = {
        [OUT] = {SAME,          SAME,         SAME,            SAME,        TCP_RESET, SAME},
        /* SYN + SYN crossing: a simultaneous open, RFC 5382 REQ-2 */
        [IN]  = {TCP_SYN_BOTH,  TCP_ESTABLISHED, SAME,         SAME,        TCP_RESET, SAME},
    },
    [TCP_SYN_IN] = {
        /* a SYN from the inside: simultaneous open again */
        [OUT] = {TCP_SYN_BOTH,  TCP_SYN_BOTH, SAME,            SAME,        TCP_RESET, SAME},
        [IN]  = {SAME,          SAME,         SAME,            SAME,        TCP_RESET, SAME},
    },
    [TCP_SYN_BOTH] = {
        [OUT] = {SAME,          SAME,         SAME,            TCP_FIN_OUT, TCP_RESET, SAME},
        /* the outside acknowledges our SYN: it is there, and not forged */
        [IN]  = {SAME,          TCP_ESTABLISHED, TCP_ESTABLISHED, TCP_FIN_IN, TCP_RESET, SAME},
    },
    [TCP_ESTABLISHED] = {
        /* A SYN into a living connection changes nothing: the ends answer it
         * by a challenge ACK (RFC 9293 3.10.7.4), and by an RST if it is real. */
        [OUT] = {SAME,          SAME,         SAME,            TCP_FIN_OUT, TCP_RESET, SAME},
        [IN]  = {SAME,          SAME,         SAME,            TCP_FIN_IN,  TCP_RESET, SAME},
    },
    [TCP_FIN_OUT] = {
        /* the inside uses its port again towards the same remote end point */
        [OUT] = {TCP_SYN_OUT,   SAME,         SAME,            SAME,        TCP_RESET, SAME},
        [IN]  = {SAME,          SAME,         SAME,            TCP_CLOSING, TCP_RESET, SAME},
    },
    [TCP_FIN_IN] = {
        [OUT] = {TCP_SYN_OUT,   SAME,         SAME,            TCP_CLOSING, TCP_RESET, SAME},
        [IN]  = {SAME,          SAME,         SAME,            SAME,        TCP_RESET, SAME},
    },
    [TCP_CLOSING] = {
        [OUT] = {TCP_SYN_OUT,   SAME,         SAME,            SAME,        SAME,      SAME},
        [IN]  = {TCP_SYN_IN,    SAME,         SAME,            SAME,        SAME,      SAME},
    },
    [TCP_RESET] = {
        [OUT] = {TCP_SYN_OUT,   SAME,         TCP_ESTABLISHED, TCP_FIN_OUT, SAME,      SAME},
        [IN]  = {TCP_SYN_IN,    SAME,         SAME,            SAME,        SAME,      SAME},
    },
};
/* clang-format on */

enum nat_segment nat_segment_of(const struct packet *p)
{
    uint8_t flags = p->data[p->l4 + TCP_FLAGS];

    if (flags & TCP_RST)
        return SEGMENT_RST;
    if (flags & TCP_SYN)
        return flags & TCP_FIN ? SEGMENT_OTHER : flags & TCP_ACK ? SEGMENT_SYN_ACK : SEGMENT_SYN;
    if (flags & TCP_FIN)
        return SEGMENT_FIN;
    return flags & TCP_ACK ? SEGMENT_ACK : SEGMENT_OTHER;
}

enum nat_tcp nat_tcp_next(enum nat_tcp state, bool outward, enum nat_segment segment)
{
    uint8_t next;

    if (state >= TCP_STATES) /* of a newer worker: leave it alone */
        return state;
    next = next_state[state][outward ? OUT : IN][segment];
    return next == SAME ? state : (enum nat_tcp)next;
}

uint32_t nat_tcp_timeout_ms(const struct nat_self *self, enum nat_tcp state)
{
    switch (state) {
    case TCP_ESTABLISHED:
    case TCP_FIN_OUT:
    case TCP_FIN_IN:
        return self->tcp_established_ms;
    case TCP_CLOSING:
        return self->tcp_closing_ms;
    case TCP_RESET:
        return self->tcp_reset_ms;
    default:
        return self->tcp_transitory_ms;
    }
}
