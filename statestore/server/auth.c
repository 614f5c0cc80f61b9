/* SPDX-License-Identifier: BSD-3-Clause */
/* The listener's side of the handshake, and a tenant's tables (auth.h). */
#include "statestore/server/auth.h"

#include <stdio.h>
#include <string.h>

#include "common/wire/address.h"

/* --- the handshake -------------------------------------------------------------------------- */

/* Movers are the store's own nodes: what they bring is state. */
static bool is_node(const struct msg_hello *hello)
{
    return hello->role == ROLE_REPLICA || hello->role == ROLE_MOVER;
}

static const char *find_secret(struct auth_peer *p, const struct auth_config *a,
                               const struct msg_hello *hello)
{
    if (is_node(hello)) {
        p->secret = a->replicas.bytes ? &a->replicas : NULL;
        return p->secret ? NULL : "this store takes no replicas: it has no store.replica_secret_file";
    }
    for (uint32_t i = 0; i < a->ntenants; i++)
        if (!strcmp(a->tenants[i].name, hello->tenant))
            p->tenant = &a->tenants[i];
    p->secret = p->tenant ? &p->tenant->secret : NULL;
    return NULL;
}

const char *auth_challenge(struct auth_peer *p, const struct auth_config *a,
                           const struct msg_hello *hello, const struct msg_node *self,
                           struct msg_challenge *out)
{
    if (p->state != AUTH_PEER_NEW)
        return "a second HELLO";
    if (hello->auth == AUTH_NONE)
        return is_node(hello)
                   ? "this store asks replicas for a secret: name it by store.replica_secret_file"
                   : "this store asks for a tenant's secret: name both by worker.tenant and "
                     "worker.secret_file";
    if (hello->role == ROLE_REPLICA && hello->self.node == self->node)
        return "you have my own node number";
    const char *why = find_secret(p, a, hello);
    if (why)
        return why;
    *out = (struct msg_challenge){.self = *self};
    auth_nonce(out->nonce);
    msg_head_set(out, MSG_CHALLENGE, sizeof *out, hello->head.shard, 0);
    msg_speak(out, msg_common_proto(hello));
    p->hello = *hello;
    p->challenge = *out;
    p->state = AUTH_PEER_CHALLENGED;
    return NULL;
}

const char *auth_prove(struct auth_peer *p, const struct msg_proof *proof, struct msg_proven *out)
{
    if (p->state != AUTH_PEER_CHALLENGED)
        return "a PROOF that nobody asked for";
    /* For a name that nobody has the same work is done: time tells nothing either. */
    static const struct auth_secret nobodys = {.bytes = AUTH_SECRET_MIN};
    bool right = auth_mac_right(proof->mac, p->secret ? p->secret : &nobodys, AUTH_DIALLER,
                                &p->hello, &p->challenge, proof->nonce);
    if (!p->secret || !right)
        return is_node(&p->hello)
                   ? "wrong replica secret; give all nodes the same file"
                   : "unknown tenant or wrong secret; give both sides the same tenant and file";
    *out = (struct msg_proven){0};
    auth_mac(out->mac, p->secret, AUTH_LISTENER, &p->hello, &p->challenge, proof->nonce);
    msg_head_set(out, MSG_PROVEN, sizeof *out, p->hello.head.shard, 0);
    msg_speak(out, msg_common_proto(&p->hello));
    p->state = AUTH_PEER_PROVEN;
    return NULL;
}

/* --- tables ------------------------------------------------------------------------------------ */

static bool matches(const char *pattern, const char *name)
{
    size_t n = strcspn(pattern, "*");
    return pattern[n] ? !strncmp(pattern, name, n) : !strcmp(pattern, name);
}

static bool may_name(const struct auth_tenant *t, const char *table)
{
    for (uint32_t i = 0; i < t->ntables; i++)
        if (matches(t->tables[i], table))
            return true;
    return false;
}

/* What the schema lets happen to other tables, the tenant could do by itself. */
static const char *foreign_table(const struct auth_tenant *t, const struct table_schema *s)
{
    if (!may_name(t, s->name))
        return s->name;
    for (size_t i = 0; i < sizeof s->reactions / sizeof s->reactions[0]; i++)
        if (s->reactions[i].kind && !may_name(t, s->reactions[i].table))
            return s->reactions[i].table;
    return NULL;
}

const char *auth_wrong_table(const struct auth_peer *p, const struct table_schema *schema,
                             char *text, uint32_t len)
{
    const struct auth_tenant *t = p->tenant;
    const char *name = t ? foreign_table(t, schema) : NULL;
    if (!name)
        return NULL;
    int at = snprintf(text, len, "tenant %s may not open table %s; its tables (store.tenants) are:",
                      t->name, name);
    for (uint32_t i = 0; i < t->ntables && at < (int)len; i++)
        at += snprintf(text + at, len - (uint32_t)at, " %s", t->tables[i]);
    return text;
}

static bool opened(const struct auth_peer *p, uint8_t table)
{
    return table < TABLES_MAX && (p->open >> table & 1);
}

const char *auth_wrong_batch(const struct auth_peer *p, const struct msg_batch *m)
{
    const struct txn_head *t = (const struct txn_head *)(m + 1);
    if (!p->tenant)
        return NULL;
    for (uint32_t i = 0; i < m->ntxn; i++) {
        const struct txn_op *op = txn_first(t);
        for (uint32_t j = 0; j < t->nops; j++, op = txn_next(op))
            if (!opened(p, op->table) ||
                ((op->flags & TXN_HAS_PARENT) && !opened(p, op->parent_table)))
                return "a txn names a table that this connection did not open";
        t = (const struct txn_head *)((const uint8_t *)t + t->bytes);
    }
    return NULL;
}

const char *auth_wrong_events(const struct auth_peer *p, uint8_t table)
{
    return !p->tenant || opened(p, table)
               ? NULL : "events of a table that this connection did not open";
}

void auth_table_given(struct auth_peer *p, const struct msg_table *m)
{
    if (m->id >= 0 && m->id < TABLES_MAX)
        p->open |= 1ull << m->id;
}

/* --- addresses ----------------------------------------------------------------------------------- */

bool auth_is_loopback(const char *address)
{
    char host[ADDRESS_HOST_MAX], err[200];
    uint16_t port;
    if (address_split(address, host, &port, err, sizeof err))
        return false;
    return !strcmp(host, "localhost") || !strcmp(host, "::1") || !strncmp(host, "127.", 4);
}
