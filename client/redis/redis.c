/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The Redis backend's window of txns, its tables and its poll (lethe_redis.h).
 *
 * A txn's life: FREE -> QUEUED -> SENT -> FREE. It gets its sequence when submitted
 * and keeps it over every retry, so that a server that ran it already answers with
 * the kept result. A lost connection, a redirection and "not now" put it back into
 * the queue; a txn that no server takes yet waits there.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include "client/redis/impl.h"
#include "common/wire/address.h"

enum { WINDOW_DEFAULT = 2048, RETRY_MS = 500, LEASE_MS = 600000, SWEEPS_PER_S = 64,
       ACK_BITS = 4 * WINDOW_MAX };

void redis_trouble(struct lethe_redis *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(r->trouble, sizeof r->trouble, format, args);
    va_end(args);
}

/* --- the window ----------------------------------------------------------------------- */

static uint16_t number_of(const struct txn_slot *t)
{
    return (uint16_t)(t - t->owner->slots);
}

static void enqueue(struct txn_slot *t, uint64_t due_us)
{
    struct lethe_redis *r = t->owner;
    uint16_t n = number_of(t);
    t->state = TXN_SLOT_QUEUED;
    t->due_us = due_us;
    t->next = NO_TXN;
    if (r->queue_tail == NO_TXN)
        r->queue_head = n;
    else
        r->slots[r->queue_tail].next = n;
    r->queue_tail = n;
}

static uint8_t *ack_byte(struct lethe_redis *r, uint64_t seq)
{
    return &r->acked[seq % ACK_BITS / 8];
}

static void acknowledge(struct lethe_redis *r, uint64_t seq)
{
    *ack_byte(r, seq) |= (uint8_t)(1 << seq % 8);
    while (r->ack + 1 < r->next_seq && *ack_byte(r, r->ack + 1) & 1 << (r->ack + 1) % 8) {
        r->ack++;
        *ack_byte(r, r->ack) &= (uint8_t)~(1 << r->ack % 8);
    }
}

static void complete(struct txn_slot *t, const struct txn_result_head *result)
{
    struct lethe_redis *r = t->owner;
    lethe_redis_done done = t->done;
    void *user = t->user;
    if (t->seq)
        acknowledge(r, t->seq);
    t->state = TXN_SLOT_FREE;
    t->seq = 0;
    t->next = r->free_head;
    r->free_head = number_of(t);
    r->in_flight--;
    if (!done)
        return;
    r->done++;
    r->completed++;
    done(user, result);
}

/* --- answers ------------------------------------------------------------------------------ */

static void again(struct txn_slot *t, uint64_t after_us)
{
    t->owner->retries++;
    enqueue(t, t->owner->now_us + after_us);
}

/* An error of Redis: none is the caller's business but ours. */
static void on_error(struct txn_slot *t, struct node *n, const char *text)
{
    struct lethe_redis *r = t->owner;
    if (!strncmp(text, "MOVED ", 6) || !strncmp(text, "ASK ", 4)) {
        int to = redis_redirect(r, text);
        t->asking = text[0] == 'A' && to >= 0;
        t->ask_node = (int16_t)to;
        if (!t->asking && to >= 0)
            r->owner_of[t->slot] = (int16_t)to;
        again(t, to >= 0 ? 0 : AGAIN_US);
        return;
    }
    if (!strncmp(text, "NOSCRIPT", 8)) {
        if (n->script == SCRIPT_LOADED)
            n->script = SCRIPT_NOT;
        again(t, 0);
        return;
    }
    redis_trouble(r, "%s:%u says: %.120s", n->host, n->port, text);
    r->map_wanted = true;
    again(t, AGAIN_US);
}

static const struct txn_result_head *result_in(const redisReply *e, const struct txn_slot *t,
                                               uint64_t *copy)
{
    const struct txn_result_head *h = (const void *)copy;
    if (e->type != REDIS_REPLY_STRING || e->len < sizeof *h || e->len > TXN_RESULT_MAX)
        return NULL;
    memcpy(copy, e->str, e->len);
    return !txn_result_validate(h, (uint32_t)e->len) && h->seq == t->seq ? h : NULL;
}

/* Who asked is named by number and sequence: a late answer to an earlier sending,
 * or to an earlier life of the slot, finds nobody. */
static void on_answer(redisAsyncContext *ac, void *reply, void *privdata)
{
    struct node *n = ac->data;
    const redisReply *e = reply;
    if (!n || !e)
        return; /* the connection is gone: node.c puts all back into the queue */
    struct lethe_redis *r = n->owner;
    uint64_t who = (uintptr_t)privdata;
    struct txn_slot *t = &r->slots[who & 0xffff];
    uint64_t copy[TXN_RESULT_MAX / 8];
    n->heard_us = r->now_us;
    n->outstanding -= n->outstanding > 0;
    if (t->state != TXN_SLOT_SENT || (t->seq & 0xffffffffffff) != who >> 16)
        return;
    if (e->type == REDIS_REPLY_ERROR) {
        on_error(t, n, e->str);
        return;
    }
    const struct txn_result_head *h = result_in(e, t, copy);
    if (!h) {
        redis_trouble(r, "%s:%u answers what is no result", n->host, n->port);
        again(t, AGAIN_US);
        return;
    }
    r->trouble[0] = 0;
    complete(t, h);
}

static void on_asking(redisAsyncContext *ac, void *reply, void *privdata)
{
}

/* --- sending --------------------------------------------------------------------------------- */

static bool send_to(struct lethe_redis *r, struct node *n, struct txn_slot *t)
{
    char tag[8], ack[24];
    int tag_len = snprintf(tag, sizeof tag, "{L%u}", t->slot);
    int ack_len = snprintf(ack, sizeof ack, "%lu", (unsigned long)r->ack);
    const char *argv[] = {"EVALSHA", r->sha, "1", tag, (const char *)t->txn,
                          t->writes ? r->client : "", ack, r->lease};
    size_t lens[] = {7, 40, 1, (size_t)tag_len, t->bytes, t->writes ? strlen(r->client) : 0,
                     (size_t)ack_len, strlen(r->lease)};
    uint64_t who = number_of(t) | (t->seq & 0xffffffffffff) << 16;
    if (t->asking && redisAsyncCommand(n->ac, on_asking, NULL, "ASKING") != REDIS_OK)
        return false;
    if (redisAsyncCommandArgv(n->ac, on_answer, (void *)(uintptr_t)who, 8, argv, lens) != REDIS_OK)
        return false;
    t->asking = false;
    t->state = TXN_SLOT_SENT;
    t->due_us = r->now_us + r->retry_us;
    n->outstanding++;
    return true;
}

static struct node *node_for(struct lethe_redis *r, const struct txn_slot *t)
{
    int at = t->asking ? t->ask_node : r->owner_of[t->slot];
    if (at >= 0)
        return &r->nodes[at];
    r->map_wanted = true;
    return NULL;
}

/* What can go, goes; the rest keeps its place. */
static void send_queued(struct lethe_redis *r)
{
    uint16_t n = r->queue_head;
    r->queue_head = r->queue_tail = NO_TXN;
    while (n != NO_TXN) {
        struct txn_slot *t = &r->slots[n];
        struct node *node = node_for(r, t);
        n = t->next;
        if (t->due_us > r->now_us || !node || !redis_node_takes(node) || !send_to(r, node, t))
            enqueue(t, t->due_us);
    }
}

void redis_requeue_node(struct lethe_redis *r, const struct node *n)
{
    int at = (int)(n - r->nodes);
    for (uint32_t i = 0; i < r->window; i++) {
        struct txn_slot *t = &r->slots[i];
        if (t->state == TXN_SLOT_SENT && r->owner_of[t->slot] == at)
            again(t, 0);
    }
}

static bool writes(const void *txn)
{
    const struct txn_op *op = txn_first(txn);
    for (int i = 0; i < ((const struct txn_head *)txn)->nops; i++, op = txn_next(op))
        if (op->code != TXN_GET && op->code != TXN_CHECK && op->code != TXN_SCAN)
            return true;
    return false;
}

static struct txn_slot *take_slot(struct lethe_redis *r)
{
    if (r->free_head == NO_TXN || r->next_seq - r->ack >= ACK_BITS)
        return NULL;
    struct txn_slot *t = &r->slots[r->free_head];
    r->free_head = t->next;
    r->in_flight++;
    t->seq = r->next_seq++;
    t->asking = false;
    return t;
}

int lethe_redis_submit(struct lethe_redis *r, const void *txn, uint32_t bytes,
                       lethe_redis_done done, void *user)
{
    struct txn_slot *t = bytes <= TXN_BYTES_MAX ? take_slot(r) : NULL;
    if (!t)
        return bytes <= TXN_BYTES_MAX ? -EAGAIN : -EMSGSIZE;
    memcpy(t->txn, txn, bytes);
    ((struct txn_head *)t->txn)->seq = t->seq;
    t->bytes = bytes;
    t->slot = ((struct txn_head *)t->txn)->slot;
    t->writes = writes(t->txn);
    t->done = done;
    t->user = user;
    enqueue(t, 0);
    return 0;
}

/* Entries that nobody asks for expire, too: a txn without ops looks for them. */
static void sweep(struct lethe_redis *r)
{
    struct txn_slot *t;
    if (r->now_us < r->sweep_us || !lethe_redis_ready(r) || r->in_flight > r->window / 2 ||
        !(t = take_slot(r)))
        return;
    r->sweep_us = r->now_us + r->sweep_every_us;
    *(struct txn_head *)t->txn = (struct txn_head){.seq = t->seq, .bytes = sizeof(struct txn_head),
                                                   .slot = r->sweep_slot};
    t->bytes = sizeof(struct txn_head);
    t->slot = r->sweep_slot++;
    t->writes = false;
    t->done = NULL;
    r->sweeps++;
    enqueue(t, 0);
}

/* --- tables ------------------------------------------------------------------------------------- */

static const char *const lacks[] = {
    "no output commit: a fail-over loses commits that the replica had not got",
    "no fencing: a cut-off master goes on answering for a while; no linearizable reads",
    "versions and allocated indexes may be given out again after such a loss",
    "max_entries is not enforced", "no events, no call-backs", "no sketch tables",
    "counters are exact up to 2^53", "durability is Redis' own, whatever the table says",
    NULL};

const char *const *lethe_redis_lacks(void)
{
    return lacks;
}

int lethe_redis_table_open(struct lethe_redis *r, const struct table_schema *schema)
{
    const char *why = schema_validate(schema);
    for (int i = 0; i < r->ntables; i++)
        if (!memcmp(&r->tables[i].schema, schema, sizeof *schema))
            return i;
    if (!why && (schema->flags & TABLE_EVENTS || schema->kind == TABLE_SKETCH)) {
        snprintf(r->fatal, sizeof r->fatal, "table %.24s needs %s, which Redis does not give; use the "
                 "store", schema->name, schema->kind == TABLE_SKETCH ? "a sketch" : "events");
        return -ENOTSUP;
    }
    if (why || r->ntables == TABLES_KEPT) {
        snprintf(r->fatal, sizeof r->fatal, "table %.24s: %s", schema->name,
                 why ? why : "too many tables");
        return why ? -EINVAL : -ENOSPC;
    }
    r->tables[r->ntables++] = (struct redis_table){.schema = *schema};
    if (redis_script_build(r))
        return r->ntables - 1;
    r->ntables--;
    return -ENOMEM;
}

/* The list of tables: whoever opens one first says what it is. */
static void on_table(redisAsyncContext *ac, void *reply, void *privdata)
{
    struct node *n = ac->data;
    const redisReply *e = reply;
    char differs[200];
    if (!n || !e)
        return;
    struct lethe_redis *r = n->owner;
    struct redis_table *t = &r->tables[(uintptr_t)privdata];
    n->heard_us = r->now_us;
    n->outstanding -= n->outstanding > 0;
    if (e->type == REDIS_REPLY_ERROR && !strncmp(e->str, "MOVED ", 6)) {
        int to = redis_redirect(r, e->str);
        r->registry = to >= 0 ? (int16_t)to : r->registry;
        t->asked_us = 0;
    } else if (e->type != REDIS_REPLY_STRING || e->len != sizeof t->schema) {
        redis_trouble(r, "%s:%u: table %.24s: %.100s", n->host, n->port, t->schema.name,
                      e->type == REDIS_REPLY_ERROR ? e->str : "what is registered is no schema");
    } else {
        struct table_schema have;
        memcpy(&have, e->str, sizeof have);
        t->open = schema_compare(&have, &t->schema, differs, sizeof differs) == 0;
        if (!t->open)
            snprintf(r->fatal, sizeof r->fatal, "%s", differs);
    }
}

static void open_tables(struct lethe_redis *r)
{
    static const char ask[] =
        "local v=redis.call('HGET',KEYS[1],ARGV[1]) if v then return v end "
        "redis.call('HSET',KEYS[1],ARGV[1],ARGV[2]) return ARGV[2]";
    struct node *n = r->registry >= 0 ? &r->nodes[r->registry] : NULL;
    if (!n || !n->up || !n->ac)
        return;
    for (int i = 0; i < r->ntables; i++) {
        struct redis_table *t = &r->tables[i];
        if (t->open || (t->asked_us && r->now_us < t->asked_us + r->retry_us))
            continue;
        size_t name = strnlen(t->schema.name, TABLE_NAME_MAX);
        if (redisAsyncCommand(n->ac, on_table, (void *)(uintptr_t)i, "EVAL %s 1 {lethe}tables %b %b",
                              ask, t->schema.name, name, &t->schema, sizeof t->schema) != REDIS_OK)
            continue;
        n->outstanding++;
        t->asked_us = r->now_us;
    }
}

bool lethe_redis_ready(const struct lethe_redis *r)
{
    for (int i = 0; i < r->ntables; i++)
        if (!r->tables[i].open)
            return false;
    for (int s = 0; s < LETHE_SLOTS; s++)
        if (r->owner_of[s] < 0 || !redis_node_takes(&r->nodes[r->owner_of[s]]))
            return false;
    return true;
}

/* --- poll ---------------------------------------------------------------------------------------- */

static bool is_wanted(const struct lethe_redis *r, const struct node *n)
{
    if (n->seed && (r->owner_of[0] < 0 || r->map_wanted))
        return true;
    for (int s = 0; s < LETHE_SLOTS; s++)
        if (r->owner_of[s] == n - r->nodes)
            return true;
    return r->registry == n - r->nodes;
}

void lethe_redis_flush(struct lethe_redis *r)
{
    send_queued(r);
    for (uint32_t i = 0; i < r->nnodes; i++)
        redis_node_flush(&r->nodes[i]);
}

int lethe_redis_poll(struct lethe_redis *r, uint64_t now_us)
{
    r->now_us = now_us;
    r->completed = 0;
    redis_nodes_events(r);
    for (uint32_t i = 0; i < r->nnodes; i++)
        if (r->nodes[i].ac || is_wanted(r, &r->nodes[i]))
            redis_node_turn(&r->nodes[i]);
    redis_map_ask(r);
    open_tables(r);
    sweep(r);
    lethe_redis_flush(r);
    return r->completed;
}

int lethe_redis_fd(const struct lethe_redis *r)
{
    return r->epoll_fd;
}

uint64_t lethe_redis_next_us(const struct lethe_redis *r)
{
    uint64_t next = lethe_redis_ready(r) ? r->sweep_us : r->now_us + DIAL_MIN_US;
    uint64_t soon = r->now_us + AGAIN_US;
    return r->in_flight && soon < next ? soon : next;
}

void lethe_redis_status(const struct lethe_redis *r, struct lethe_redis_status *out)
{
    *out = (struct lethe_redis_status){
        .in_flight = r->in_flight, .window = r->window, .done = r->done, .retries = r->retries,
        .redirects = r->redirects, .reconnects = r->reconnects, .sweeps = r->sweeps};
    for (uint32_t i = 0; i < r->nnodes; i++)
        out->masters += redis_node_takes(&r->nodes[i]) && is_wanted(r, &r->nodes[i]);
    memcpy(out->trouble, r->trouble, sizeof out->trouble);
    memcpy(out->fatal, r->fatal, sizeof out->fatal);
}

/* --- life ------------------------------------------------------------------------------------------ */

static int take_seeds(struct lethe_redis *r, const char *seeds, char *err, uint32_t err_len)
{
    char one[300], host[ADDRESS_HOST_MAX];
    uint16_t port;
    for (const char *at = seeds; at && *at;) {
        size_t len = strcspn(at, ",");
        if (len >= sizeof one) {
            snprintf(err, err_len, "seeds: an address of %zu characters", len);
            return -EINVAL;
        }
        snprintf(one, sizeof one, "%.*s", (int)len, at);
        int rc = address_split(one, host, &port, err, err_len);
        if (rc)
            return rc;
        int n = redis_node_of(r, host, port);
        if (n < 0) {
            snprintf(err, err_len, "seeds: '%s' cannot be used: too many, or its name is too long", one);
            return -EINVAL;
        }
        r->nodes[n].seed = true;
        at += len + (at[len] == ',');
    }
    if (r->nnodes)
        return 0;
    snprintf(err, err_len, "seeds: name a node of the cluster, host:port");
    return -EINVAL;
}

static bool make_window(struct lethe_redis *r, uint32_t window)
{
    r->window = window ? window : WINDOW_DEFAULT;
    if (r->window > WINDOW_MAX)
        r->window = WINDOW_MAX;
    r->slots = calloc(r->window, sizeof *r->slots);
    r->acked = calloc(1, ACK_BITS / 8);
    if (!r->slots || !r->acked)
        return false;
    r->free_head = r->queue_head = r->queue_tail = NO_TXN;
    for (uint32_t i = r->window; i-- > 0;) {
        r->slots[i].owner = r;
        r->slots[i].next = r->free_head;
        r->free_head = (uint16_t)i;
    }
    return true;
}

struct lethe_redis *lethe_redis_create(const struct lethe_redis_config *config, char *err,
                                       uint32_t err_len)
{
    struct lethe_redis *r = calloc(1, sizeof *r);
    uint64_t nonce[2] = {0};
    if (!r || !make_window(r, config->window)) {
        snprintf(err, err_len, "out of memory");
        lethe_redis_destroy(r);
        return NULL;
    }
    memset(r->owner_of, -1, sizeof r->owner_of);
    r->registry = -1;
    r->map_wanted = true;
    r->next_seq = 1;
    r->retry_us = (config->retry_ms ? config->retry_ms : RETRY_MS) * 1000ull;
    r->sweep_every_us = 1000000u / (config->sweeps_per_s ? config->sweeps_per_s : SWEEPS_PER_S);
    snprintf(r->lease, sizeof r->lease, "%u", config->lease_ms ? config->lease_ms : LEASE_MS);
    bool random = getrandom(nonce, sizeof nonce, 0) == sizeof nonce;
    snprintf(r->client, sizeof r->client, "%016lx%016lx", nonce[0], nonce[1]);
    r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (r->epoll_fd >= 0 && random && !take_seeds(r, config->seeds, err, err_len))
        return r;
    if (r->epoll_fd < 0 || !random)
        snprintf(err, err_len, "no descriptors, or no randomness, for a Redis client");
    lethe_redis_destroy(r);
    return NULL;
}

void lethe_redis_destroy(struct lethe_redis *r)
{
    if (!r)
        return;
    for (uint32_t i = 0; i < r->nnodes; i++) {
        redisAsyncContext *ac = r->nodes[i].ac;
        if (!ac)
            continue;
        ac->data = NULL;
        r->nodes[i].ac = NULL;
        redisAsyncFree(ac);
    }
    if (r->epoll_fd > 0)
        close(r->epoll_fd);
    free(r->slots);
    free(r->acked);
    free(r->script);
    free(r);
}
