/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a shard's primary may be: the addresses of the site's nodes, tried in
 * rounds. Each address once in a round, at once after the one before it; first
 * the node that a replica named as the primary, if this round was not there yet
 * (two replicas that name each other must not hide the third). After a round a
 * pause: 2 ms, doubling, at most 50 ms while somebody was there in the round,
 * so that a client meets a new primary a few milliseconds after it began to serve,
 * and at most 1 s while nobody was.
 *
 * An address that was silent (its host is cut off, its process paused) costs the
 * time it takes to see that. It is left out of the rounds for a while, which
 * doubles, and is tried anyway when nobody else is left; each time it is given
 * twice the time, in case it is just slow. A word from it ends that, and so does a refusal: its host is there. Whom a
 * replica names as the primary is left out no longer than the silence allowed: it may have been made that just now. Who
 * said WELCOME is given the whole of the silence allowed: it may be the next primary, who reads no requests before the old one's leases are over.
 *
 * A caller's own `dial` counts as one address: whom it reaches is its business.
 */
#include "client/client_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/wire/transport.h"

_Static_assert(LETHE_NODES_MAX <= 32, "addresses are bits in nodes.visited");

/* --- the list ------------------------------------------------------------------------- */

/* Of an address with alternatives, "shm:/run/lethe/store-a|10.0.0.1:7400", the next one; false:
 * there is none, or it is too long for one. */
static bool next_way(const char **at, char way[TRANSPORT_ADDRESS_MAX])
{
    size_t n = *at ? strcspn(*at, "|") : TRANSPORT_ADDRESS_MAX;
    if (n >= TRANSPORT_ADDRESS_MAX)
        return false;
    memcpy(way, *at, n);
    way[n] = 0;
    *at = (*at)[n] ? *at + n + 1 : NULL;
    return true;
}

static int check_address(const struct lethe_client *c, const char *address, char *err,
                         uint32_t err_len)
{
    char way[TRANSPORT_ADDRESS_MAX];
    const char *at = address, *rest;
    while (next_way(&at, way)) {
        const struct transport *t = transport_of(way, c->verbs, &rest, err, err_len);
        int rc = t ? transport_check(t, rest, c->shards, false, err, err_len) : -EINVAL;
        if (rc)
            return rc;
    }
    if (!at)
        return 0;
    snprintf(err, err_len, "address %.40s... is too long", address);
    return -EINVAL;
}

int lethe_nodes_parse(struct lethe_client *c, const char *list, char *err, uint32_t err_len)
{
    c->naddresses = 0;
    c->addresses = strdup(list ? list : "");
    if (!c->addresses) {
        snprintf(err, err_len, "out of memory");
        return -ENOMEM;
    }
    for (char *at = c->addresses, *comma; at; at = comma) {
        if ((comma = strchr(at, ',')))
            *comma++ = 0;
        if (c->naddresses == LETHE_NODES_MAX) {
            snprintf(err, err_len, "'%s' names more than %d addresses", list, LETHE_NODES_MAX);
            return -EINVAL;
        }
        int rc = check_address(c, at, err, err_len);
        if (rc)
            return rc;
        c->address[c->naddresses++] = at;
    }
    return 0;
}

/* *elsewhere: this way does not lead to the node from here, another one may. */
static struct channel *dial_way(struct session *s, const char *way, bool *elsewhere, char *err,
                                uint32_t err_len)
{
    struct lethe_client *c = s->client;
    char address[TRANSPORT_ADDRESS_MAX];
    const char *rest;
    const struct transport *t = transport_of(way, c->verbs, &rest, err, err_len);
    *elsewhere = false;
    if (!t || transport_of_shard(t, rest, s->shard, address, err, err_len))
        return NULL;
    if (t == &transport_tcp)
        return c->connect(address, err, err_len);
    struct channel *ch = t->connect(address, err, err_len);
    *elsewhere = !ch && (t != &transport_shm || errno == ENOENT);
    return ch;
}

struct channel *lethe_nodes_dial(struct session *s, char *err, uint32_t err_len)
{
    struct lethe_client *c = s->client;
    char way[TRANSPORT_ADDRESS_MAX];
    const char *at = c->address[s->nodes.at];
    struct channel *ch = NULL;
    bool elsewhere = true;
    if (c->dial)
        return c->dial(c->dial_ctx, s->shard, err, err_len);
    while (!ch && elsewhere && next_way(&at, way))
        ch = dial_way(s, way, &elsewhere, err, err_len);
    return ch;
}

/* --- rounds ----------------------------------------------------------------------------- */

static bool left_out(const struct session *s, int i)
{
    return s->client->now_us < s->nodes.skip_until_us[i];
}

/* The next in the ring that this round may still visit; -1: none. */
static int unvisited(const struct session *s)
{
    const struct nodes *n = &s->nodes;
    for (int step = 1; step <= s->client->naddresses; step++) {
        int i = (n->at + step) % s->client->naddresses;
        if (!(n->visited & 1u << i) && !left_out(s, i))
            return i;
    }
    return -1;
}

static void leave_out(struct session *s)
{
    struct nodes *n = &s->nodes;
    uint8_t *silences = &n->silences[n->at];
    n->skip_until_us[n->at] = s->client->now_us + (s->client->silence_us << *silences);
    *silences += *silences < SILENCES_MAX;
    n->silent_us[n->at] = s->client->now_us;
}

static void pause_round(struct session *s)
{
    struct nodes *n = &s->nodes;
    uint64_t most = n->alive ? DIAL_DELAY_ALIVE_US : DIAL_DELAY_MAX_US;
    if (s->dial_delay_us > most)
        s->dial_delay_us = most;
    s->step_us = s->client->now_us + s->dial_delay_us;
    s->dial_delay_us *= 2;
    n->visited = 0;
    n->alive = false;
}

void lethe_nodes_spoke(struct session *s)
{
    struct nodes *n = &s->nodes;
    n->silences[n->at] = 0;
    n->skip_until_us[n->at] = 0;
}

void lethe_nodes_next(struct session *s, enum node_verdict verdict, uint32_t primary,
                      const char *why)
{
    struct nodes *n = &s->nodes;
    int named = (int)primary - 1; /* nodes are numbered in the site's order, from 1 */
    snprintf(n->said[n->at], sizeof n->said[0], "%s", why);
    n->visited |= 1u << n->at;
    n->alive |= verdict == NODE_NOT_PRIMARY;
    if (verdict != NODE_SILENT)
        lethe_nodes_spoke(s);
    if (verdict == NODE_SILENT)
        leave_out(s);
    if (named >= s->client->naddresses || named == n->at || (named >= 0 && left_out(s, named) && s->client->now_us < n->silent_us[named] + s->client->silence_us))
        named = -1;
    s->step_us = s->client->now_us;
    int next = named >= 0 && !(n->visited & 1u << named) ? named : unvisited(s);
    if (next < 0) {
        pause_round(s);
        next = named >= 0 ? named : unvisited(s);
    }
    n->at = (uint8_t)(next >= 0 ? next : (n->at + 1) % s->client->naddresses);
}

void lethe_nodes_up(struct session *s)
{
    struct nodes *n = &s->nodes;
    n->visited = 0;
    n->alive = false;
    lethe_nodes_spoke(s);
    s->dial_delay_us = DIAL_DELAY_MIN_US;
}

uint64_t lethe_nodes_patience_us(const struct session *s)
{
    const struct lethe_client *c = s->client;
    if (s->state > SESSION_HELLO || c->naddresses == 1)
        return c->silence_us;
    return (c->silence_us / HANDSHAKE_PART) << s->nodes.silences[s->nodes.at];
}

void lethe_nodes_trouble(const struct session *s, char *text, size_t room)
{
    const struct lethe_client *c = s->client;
    size_t used = (size_t)snprintf(text, room, "%s", s->trouble);
    if (c->naddresses == 1 || s->state == SESSION_UP)
        return;
    for (int i = 0; i < c->naddresses && used < room; i++)
        if (s->nodes.said[i][0])
            used += (size_t)snprintf(text + used, room - used, "; %s: %s", c->address[i],
                                     s->nodes.said[i]);
}
