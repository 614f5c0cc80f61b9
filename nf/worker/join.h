/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The housekeeper: a thread for what the datapath must not wait for. It joins
 * and leaves steering through its control socket, and says in the log what
 * ails the store, once and again every 10 s.
 *
 * The loop asks by flags and takes answers by numbers; nothing here blocks it.
 */
#ifndef NF_WORKER_JOIN_H
#define NF_WORKER_JOIN_H

#include <stdbool.h>
#include <stdint.h>

enum { JOIN_TEXT = 256, JOIN_DEVARGS = 512 };

/* Steering's answer to `join` (steering/README.md). */
struct join_reply {
    unsigned worker;
    uint64_t incarnation;
    unsigned mtu;
    char devargs[2][JOIN_DEVARGS]; /* by enum packet_side */
    uint8_t mac[2][6], peer_mac[2][6];
    char doorbell[JOIN_TEXT]; /* steering's */
};

/* Reads the JSON; 0, or -errno and a sentence. */
int join_reply_parse(const char *json, struct join_reply *r, char *err, uint32_t err_len);

struct joiner;

/* `control`: steering's socket, NULL without steering, or where it is reached by tunnel. */
int joiner_start(struct joiner **out, const char *name, unsigned weight, const char *control);
/* Joins the thread. */
void joiner_stop(struct joiner *j);

/* Wants to be joined (again); asked until it is answered. */
void joiner_want(struct joiner *j);
/* True, and the reply, once for every new one. */
bool joiner_take(struct joiner *j, struct join_reply *r);
/* Wants to leave; asked until it is let go, or is not known there. */
void joiner_leave(struct joiner *j);
/* True when steering let it go, or cannot be asked; *last: it goes on sending. */
bool joiner_left(struct joiner *j, bool *last);

/* What to say about the store: "" nothing. Kept until told otherwise. */
void joiner_complain(struct joiner *j, const char *text);

#endif
