/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who may connect to this store (common/wire/auth.h has the handshake): the
 * listener's side of it, and which tables a tenant may name. It stands between a
 * connection and the core, which never sees a frame of who has not proven itself.
 *
 * Threads: struct auth_config is read only once a store runs, by all its threads;
 * struct auth_peer belongs to its connection's shard.
 */
#ifndef STATESTORE_SERVER_AUTH_H
#define STATESTORE_SERVER_AUTH_H

#include "common/wire/auth.h"

enum { AUTH_TENANTS_MAX = 16 };

struct auth_tenant {
    const char *name;
    const char *const *tables;    /* "nat.session", "nat.*" or "*" */
    uint32_t ntables;
    struct auth_secret secret;
};

struct auth_config {
    struct auth_secret replicas;  /* bytes 0: no replica may connect */
    uint32_t ntenants;
    struct auth_tenant tenants[AUTH_TENANTS_MAX];
};

enum auth_peer_state { AUTH_PEER_NEW, AUTH_PEER_CHALLENGED, AUTH_PEER_PROVEN };

struct auth_peer {                /* of one connection; zeroed: nothing said yet */
    uint8_t state;                /* enum auth_peer_state */
    const struct auth_secret *secret;  /* NULL: nobody has this name, and no proof is right */
    const struct auth_tenant *tenant;  /* NULL: a replica, or no authentication here */
    uint64_t open;                /* bit per table number that this connection was given */
    struct msg_hello hello;
    struct msg_challenge challenge;
};
_Static_assert(TABLES_MAX <= 64, "tables are bits here");

/* HELLO came: fills in the CHALLENGE to send. A name that nobody has is challenged
 * like any other, so that names cannot be tried out. NULL, or what is wrong. */
const char *auth_challenge(struct auth_peer *p, const struct auth_config *a,
                           const struct msg_hello *hello, const struct msg_node *self,
                           struct msg_challenge *out);
/* PROOF came: fills in the PROVEN to send. NULL, or what is wrong, for the peer. */
const char *auth_prove(struct auth_peer *p, const struct msg_proof *proof, struct msg_proven *out);

/* May the tenant have a table of this schema? NULL, or a sentence in `text`. */
const char *auth_wrong_table(const struct auth_peer *p, const struct table_schema *schema,
                             char *text, uint32_t len);
/* Does every txn name only tables that this connection opened? NULL, or a sentence. */
const char *auth_wrong_batch(const struct auth_peer *p, const struct msg_batch *m);
/* The same of CONSUME and EVENTS_ACK, which name one table. */
const char *auth_wrong_events(const struct auth_peer *p, uint8_t table);
/* The store gave the peer a table's number. */
void auth_table_given(struct auth_peer *p, const struct msg_table *m);

/* True if only this host can reach "host:port". */
bool auth_is_loopback(const char *address);

#endif
