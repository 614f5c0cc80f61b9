/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A replica and a primary that speak protocol 1 with each other: the replica is fed, and tells the primary
 * nothing that came later, above all not that it leaves (core/leave.c).
 *
 *   node 1 ◀── channel that offers protocol `offered` ── node 2     both driven by this thread
 */
#include "statestore/server/harness.h"
#include "statestore/server/views_memory.h"

enum { TIMEOUT_MS = 1000, INSERTS = 50 };

static struct store *stores[2];
static uint8_t offered;                 /* node 2's HELLO says: up to that one */
static uint32_t said[MSG_TYPE_END];     /* by node 2, of each type */

/* --- the channel ---------------------------------------------------------------------------- */

struct older {
    struct channel c;
    struct channel *under;
};

static struct channel *under(struct channel *c)
{
    return ((struct older *)c)->under;
}

static int older_send(struct channel *c, const void *frame, uint32_t bytes)
{
    const struct msg_head *head = frame;
    struct msg_hello hello;
    said[head->type]++;
    if (head->type != MSG_HELLO)
        return channel_send(under(c), frame, bytes);
    memcpy(&hello, frame, sizeof hello);
    hello.head.proto = hello.proto_max = offered;
    return channel_send(under(c), &hello, bytes);
}

static void older_flush(struct channel *c)
{
    channel_flush(under(c));
}

static const void *older_recv(struct channel *c, uint32_t *bytes)
{
    const void *frame = channel_recv(under(c), bytes);
    c->open = under(c)->open;
    memcpy(c->why, under(c)->why, sizeof c->why);
    return frame;
}

static int older_fd(struct channel *c, short *events)
{
    return channel_fd(under(c), events);
}

static bool older_arm(struct channel *c)
{
    return channel_arm(under(c));
}

static void older_close(struct channel *c)
{
    channel_close(under(c));
    free(c);
}

static struct channel *dial(void *ctx, uint32_t node, uint16_t shard, char *err, uint32_t err_len)
{
    static const struct channel_ops ops = {.name = "older", .send = older_send, .flush = older_flush, .recv = older_recv,
                                           .fd = older_fd, .arm = older_arm, .close = older_close};
    struct channel *to = stores[node - 1] ? store_dial(stores[node - 1], shard, err, err_len) : NULL;
    struct older *o = to ? calloc(1, sizeof *o) : NULL;
    if (!o)
        return NULL;
    o->c = (struct channel){.ops = &ops, .open = true};
    o->under = to;
    return &o->c;
}

/* --- two nodes ------------------------------------------------------------------------------ */

static void start_node(struct views_memory *memory, uint32_t node)
{
    static const struct store_node nodes[] = {{"store-a", "127.0.0.1:1", NULL}, {"store-b", "127.0.0.1:1", NULL}};
    struct store_config config = {.shards = 1, .node = node, .nodes = nodes, .nnodes = 2, .memory = memory,
                                  .copies = 2, .dial = dial, .failure_timeout_ms = TIMEOUT_MS};
    stores[node - 1] = start(&config);
}

static bool turn(void)
{
    return store_poll(stores[0]) | store_poll(stores[1]) | 1;
}

static uint32_t said_since(enum msg_type first)
{
    uint32_t n = 0;
    for (int type = first; type < MSG_TYPE_END; type++)
        n += said[type];
    return n;
}

/* Node 2 replicates node 1, is told to end, and goes on to acknowledge what comes. */
static void leave_after_hello_of(uint8_t proto)
{
    struct views_memory *memory = views_memory_create();
    struct user u;
    offered = proto;
    memset(said, 0, sizeof said);
    start_node(memory, 1);
    start_node(memory, 2);
    WAIT_FOR(turn() && snapshot_of(stores[0], 0).status.copies == 2 &&
             snapshot_of(stores[1], 0).status.role == SHARD_BACKUP);
    user_open(&u, 1, store_dial, stores[0]);
    WAIT_FOR(turn() && user_turn(&u) && lethe_ready(u.client));
    store_drain(stores[1]);
    uint32_t acks = said[MSG_ACK];
    for (uint64_t key = 1; key <= INSERTS; key++) {
        user_insert(&u, key);
        lethe_flush(u.client);
        WAIT_FOR(turn() && user_turn(&u) && u.outstanding == 0);
    }
    assert_int_equal(u.ok, INSERTS);
    if (proto == 1) {
        assert_true(said[MSG_ACK] > acks); /* it is no other's replica meanwhile */
        assert_int_equal(said_since(MSG_PROVEN + 1), 0);
        assert_int_equal(said[MSG_HELLO], 1); /* nor was the connection closed for what it said */
    } else {
        WAIT_FOR(turn() && user_turn(&u) && said[MSG_LEAVE]);
    }
    lethe_client_destroy(u.client);
    store_stop(stores[1]);
    store_stop(stores[0]);
    stores[0] = stores[1] = NULL;
    views_memory_destroy(memory);
}

static void a_primary_of_protocol_2_is_told(void **state)
{
    leave_after_hello_of(2);
}

static void a_primary_of_protocol_1_is_not(void **state)
{
    leave_after_hello_of(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_primary_of_protocol_2_is_told),
        cmocka_unit_test(a_primary_of_protocol_1_is_not),
    };
    log_init("older_peer_test", "test", getenv("LETHE_TEST_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
