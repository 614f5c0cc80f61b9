/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which master owns which hash slot. The map is asked of any node that answers
 * (CLUSTER SLOTS), again whenever a redirection or a lost connection says that it
 * is old. A server without cluster mode owns everything.
 */
#include <stdlib.h>
#include <string.h>

#include "client/redis/impl.h"

/* CRC-16/XMODEM, as Redis Cluster's specification says. */
static uint16_t crc16(const char *bytes, uint32_t len)
{
    uint16_t crc = 0;
    for (uint32_t i = 0; i < len; i++) {
        crc ^= (uint16_t)((uint8_t)bytes[i] << 8);
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc;
}

uint16_t redis_key_slot(const char *key, uint32_t len)
{
    return crc16(key, len) & 16383;
}

uint16_t redis_slot_of(uint8_t hash_slot)
{
    char tag[8];
    int n = snprintf(tag, sizeof tag, "L%u", hash_slot);
    return redis_key_slot(tag, (uint32_t)n);
}

static void all_to(struct lethe_redis *r, int node)
{
    for (int s = 0; s < LETHE_SLOTS; s++)
        r->owner_of[s] = (int16_t)node;
    r->registry = (int16_t)node;
    r->single = true;
}

/* One element of the answer: first, last, {host, port, id}, replicas... */
static void take_range(struct lethe_redis *r, const redisReply *e, const struct node *asked)
{
    if (e->type != REDIS_REPLY_ARRAY || e->elements < 3 || e->element[2]->type != REDIS_REPLY_ARRAY ||
        e->element[2]->elements < 2 || e->element[2]->element[1]->type != REDIS_REPLY_INTEGER)
        return;
    long long first = e->element[0]->integer, last = e->element[1]->integer;
    const redisReply *master = e->element[2];
    /* An empty host: the one that was asked. */
    const char *host = master->element[0]->type == REDIS_REPLY_STRING && master->element[0]->len
                           ? master->element[0]->str : asked->host;
    int node = redis_node_of(r, host, (uint16_t)master->element[1]->integer);
    if (node < 0)
        return;
    for (int s = 0; s < LETHE_SLOTS; s++)
        if (redis_slot_of((uint8_t)s) >= first && redis_slot_of((uint8_t)s) <= last)
            r->owner_of[s] = (int16_t)node;
    uint16_t registry = redis_key_slot("lethe", 5);
    if (registry >= first && registry <= last)
        r->registry = (int16_t)node;
}

static void on_slots(redisAsyncContext *ac, void *reply, void *privdata)
{
    struct node *n = ac->data;
    struct lethe_redis *r = privdata;
    const redisReply *e = reply;
    r->mapping = false;
    if (!e) {
        r->map_wanted = true;
        return;
    }
    n->heard_us = r->now_us;
    n->outstanding -= n->outstanding > 0;
    if (e->type == REDIS_REPLY_ERROR && strstr(e->str, "cluster support disabled")) {
        all_to(r, (int)(n - r->nodes));
    } else if (e->type != REDIS_REPLY_ARRAY) {
        redis_trouble(r, "%s:%u says: %.100s", n->host, n->port,
                      e->type == REDIS_REPLY_ERROR ? e->str : "no array of slots");
        r->map_wanted = true;
    } else {
        for (size_t i = 0; i < e->elements; i++)
            take_range(r, e->element[i], n);
    }
}

void redis_map_ask(struct lethe_redis *r)
{
    if (!r->map_wanted || r->mapping || (r->mapped_us && r->now_us < r->mapped_us + MAP_US))
        return;
    /* Not always the same one: it may be cut off and not know. */
    for (uint32_t i = 0; i < r->nnodes; i++) {
        struct node *n = &r->nodes[(i + r->redirects + r->reconnects) % r->nnodes];
        if (!n->up || !n->ac ||
            redisAsyncCommand(n->ac, on_slots, r, "CLUSTER SLOTS") != REDIS_OK)
            continue;
        n->outstanding++;
        r->mapping = true;
        r->map_wanted = false;
        r->mapped_us = r->now_us;
        return;
    }
}

int redis_redirect(struct lethe_redis *r, const char *text)
{
    char host[64];
    const char *space = strrchr(text, ' '), *colon = strrchr(text, ':');
    if (!space || !colon || colon < space || (size_t)(colon - space) > sizeof host)
        return -1;
    size_t len = (size_t)(colon - space - 1);
    memcpy(host, space + 1, len);
    host[len] = 0;
    r->redirects++;
    r->map_wanted = true;
    return len ? redis_node_of(r, host, (uint16_t)atoi(colon + 1)) : -1;
}
