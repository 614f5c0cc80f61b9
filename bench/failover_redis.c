/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A writer of Redis Cluster (failover.h): hiredis connections to every node and
 * the cluster's own word on who serves its slot. When the owner does not answer
 * it asks all others, every FAILOVER_ASK_MS, until one names another owner:
 * common client libraries notice later than that.
 */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/failover.h"
#include "bench/process.h"

enum { REDIS_SLOTS = 16384 };

struct node {
    char host[64];
    int port;
    redisContext *c;          /* NULL: not connected */
    uint64_t retry_ns;        /* it did not answer; not before then */
};

struct writer {
    struct node node[FAILOVER_NODES_MAX];
    int nodes, owner;         /* owner -1: not known */
    char tag[FAILOVER_TAG + 1];
    uint32_t slot;
};

/* CRC16-XMODEM, as the Redis Cluster specification has it. */
static uint32_t slot_of_tag(const char *tag)
{
    uint16_t crc = 0;
    for (; *tag; tag++) {
        crc ^= (uint16_t)((uint8_t)*tag << 8);
        for (int i = 0; i < 8; i++)
            crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc % REDIS_SLOTS;
}

static void drop(struct node *n)
{
    if (n->c)
        redisFree(n->c);
    n->c = NULL;
    n->retry_ns = wall_ns() + FAILOVER_RETRY_MS * 1000000ull;
}

static redisContext *connection(struct node *n)
{
    struct timeval patience = {0, FAILOVER_TRY_MS * 1000};
    if (n->c)
        return n->c;
    if (wall_ns() < n->retry_ns)
        return NULL;
    n->c = redisConnectWithTimeout(n->host, n->port, patience);
    if (!n->c || n->c->err || redisSetTimeout(n->c, patience) != REDIS_OK) {
        drop(n);
        return NULL;
    }
    return n->c;
}

static int node_number(const struct writer *w, const char *host, int port)
{
    for (int i = 0; i < w->nodes; i++)
        if (w->node[i].port == port && !strcmp(w->node[i].host, host))
            return i;
    return -1;
}

/* Who serves our slot, by the CLUSTER SLOTS of one node; -1: it says nobody. */
static int owner_by(struct writer *w, struct node *n)
{
    redisContext *c = connection(n);
    redisReply *r = c ? redisCommand(c, "CLUSTER SLOTS") : NULL;
    int owner = -1;
    if (c && !r)
        drop(n);
    for (size_t i = 0; r && r->type == REDIS_REPLY_ARRAY && i < r->elements; i++) {
        const redisReply *range = r->element[i];
        if (range->element[0]->integer <= w->slot && w->slot <= range->element[1]->integer)
            owner = node_number(w, range->element[2]->element[0]->str,
                                (int)range->element[2]->element[1]->integer);
    }
    if (r)
        freeReplyObject(r);
    return owner;
}

/* Asks the nodes in turn, but not one that did not answer just now; takes the
 * word of the first that names somebody who may be tried. */
static void ask(struct writer *w)
{
    w->owner = -1;
    for (int i = 0; i < w->nodes; i++) {
        if (wall_ns() < w->node[i].retry_ns)
            continue;
        int owner = owner_by(w, &w->node[i]);
        if (owner >= 0 && wall_ns() >= w->node[owner].retry_ns) {
            w->owner = owner;
            return;
        }
    }
    usleep(FAILOVER_ASK_MS * 1000);
}

static void moved(struct writer *w, const char *text)
{
    char host[64];
    int slot, port;
    w->owner = -1;
    if (sscanf(text, "MOVED %d %63[^:]:%d", &slot, host, &port) == 3)
        w->owner = node_number(w, host, port);
}

/* A command to the owner; NULL: none, or no answer, or an error that says to ask anew. */
static redisReply *command(struct writer *w, const char *format, uint64_t n)
{
    if (w->owner < 0)
        ask(w);
    if (w->owner < 0)
        return NULL;
    struct node *node = &w->node[w->owner];
    redisContext *c = connection(node);
    redisReply *r = c ? redisCommand(c, format, w->tag, n, n) : NULL;
    if (!r) {
        drop(node);
        w->owner = -1;
        return NULL;
    }
    if (r->type != REDIS_REPLY_ERROR)
        return r;
    w->owner = -1;
    if (!strncmp(r->str, "MOVED", 5))
        moved(w, r->str);
    else
        usleep(FAILOVER_ASK_MS * 1000); /* CLUSTERDOWN, LOADING, READONLY */
    freeReplyObject(r);
    return NULL;
}

static bool redis_write(void *conn, uint64_t n)
{
    redisReply *r = command(conn, "SET {%s}:%lu value-%lu", n);
    bool done = r && r->type == REDIS_REPLY_STATUS;
    if (r)
        freeReplyObject(r);
    return done;
}

static enum failover_read redis_read(void *conn, uint64_t n)
{
    char want[32];
    redisReply *r = command(conn, "GET {%s}:%lu", n);
    if (!r)
        return READ_FAILED;
    snprintf(want, sizeof want, "value-%lu", (unsigned long)n);
    enum failover_read found = r->type == REDIS_REPLY_NIL                              ? READ_ABSENT
                               : r->type == REDIS_REPLY_STRING && !strcmp(r->str, want) ? READ_SAME
                                                                                        : READ_OTHER;
    freeReplyObject(r);
    return found;
}

static void redis_close(void *conn)
{
    struct writer *w = conn;
    for (int i = 0; i < w->nodes; i++)
        if (w->node[i].c)
            redisFree(w->node[i].c);
    free(w);
}

static bool take_nodes(struct writer *w, const char *nodes)
{
    int used = 0;
    while (w->nodes < FAILOVER_NODES_MAX &&
           sscanf(nodes, "%63[^:]:%d%n", w->node[w->nodes].host, &w->node[w->nodes].port, &used) == 2) {
        w->nodes++;
        nodes += used;
        if (*nodes++ != ',')
            return true;
    }
    return false;
}

static void *redis_open(const char *nodes, int range, int ranges, int writer, char *err,
                        uint32_t err_len)
{
    struct writer *w = calloc(1, sizeof *w);
    if (!w || !take_nodes(w, nodes)) {
        snprintf(err, err_len, "nodes are written host:port,host:port,... (at most %d)",
                 FAILOVER_NODES_MAX);
        free(w);
        return NULL;
    }
    uint32_t first = (uint32_t)(REDIS_SLOTS * range / ranges);
    uint32_t last = (uint32_t)(REDIS_SLOTS * (range + 1) / ranges) - 1;
    uint32_t salt = 0;
    do { /* well inside, however the cluster rounded */
        failover_tag(w->tag, writer, salt++);
        w->slot = slot_of_tag(w->tag);
    } while (w->slot < first + 8 || w->slot + 8 > last);
    w->owner = -1;
    for (uint64_t end = wall_ns() + 30000000000u; w->owner < 0; ask(w))
        if (wall_ns() > end) {
            snprintf(err, err_len, "after 30 s no node says who serves slot %u", w->slot);
            redis_close(w);
            return NULL;
        }
    return w;
}

const struct failover_peer failover_redis = {"redis", redis_open, redis_write, redis_read,
                                             NULL, redis_close};
