/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The order of a fence (link.c): what the primary had written is part of what its successor
 * takes over, also if nobody looked at it before the view came; what it writes later is not.
 *
 *   node 1 ── held channel ──▶ node 2     both driven by this thread; node 1 is paused by
 *                                         not being driven
 * Held: the reader finds nothing, as in memory that it did not look at, until it fences.
 */
#include <sys/eventfd.h>

#include "statestore/server/harness.h"
#include "statestore/server/views_memory.h"

enum { TIMEOUT_MS = 2000 };

static struct store *stores[2];
static struct views_memory *memory;
static bool held;
static uint32_t fences;

/* --- a channel whose reader is held --------------------------------------------------------- */

struct held {
    struct channel c;
    struct channel *under;
    bool fenced;
};

static struct held *of(struct channel *c)
{
    return (struct held *)c;
}

static int held_send(struct channel *c, const void *frame, uint32_t bytes)
{
    return of(c)->fenced ? -ENOTCONN : channel_send(of(c)->under, frame, bytes);
}

static void held_flush(struct channel *c)
{
    channel_flush(of(c)->under);
}

static const void *held_recv(struct channel *c, uint32_t *bytes)
{
    const void *frame = held && !of(c)->fenced ? NULL : channel_recv(of(c)->under, bytes);
    if (!frame && of(c)->fenced)
        c->open = false;
    return frame;
}

static int held_fd(struct channel *c, short *events)
{
    return channel_fd(of(c)->under, events);
}

static bool held_arm(struct channel *c)
{
    return held || channel_arm(of(c)->under);
}

static void held_close(struct channel *c)
{
    channel_close(of(c)->under);
    free(c);
}

static uint32_t held_fence(struct channel *c)
{
    of(c)->fenced = true;
    fences++;
    return 0;
}

static struct channel *dial_held(const char *address, char *err, uint32_t err_len)
{
    static const struct channel_ops ops = {.name = "held", .send = held_send, .flush = held_flush,
                                           .recv = held_recv, .fd = held_fd, .arm = held_arm,
                                           .close = held_close, .fence = held_fence};
    struct store *to = stores[!strcmp(address, "127.0.0.1:7510")];
    struct channel *under = to ? store_dial(to, 0, err, err_len) : NULL;
    struct held *h = under ? calloc(1, sizeof *h) : NULL;
    if (!h)
        return NULL;
    h->c = (struct channel){.ops = &ops, .open = true};
    h->under = under;
    return &h->c;
}

static struct channel *nobody(struct listener *l)
{
    return NULL;
}

static void close_listener(struct listener *l)
{
    close(l->fd);
}

static int listen_for_nobody(struct listener *out, const char *address, char *err, uint32_t err_len)
{
    *out = (struct listener){.fd = eventfd(0, EFD_CLOEXEC), .accept = nobody, .close = close_listener};
    return out->fd < 0 ? -errno : 0;
}

static uint16_t no_port(const struct listener *l)
{
    return 0;
}

static const struct transport by_held = {.name = "held", .connect = dial_held,
                                         .listen = listen_for_nobody, .port = no_port};

/* --- two nodes ------------------------------------------------------------------------------ */

static void start_node(uint32_t node)
{
    static const struct store_node nodes[] = {
        {"store-a", "127.0.0.1:1", "127.0.0.1:7500"}, {"store-b", "127.0.0.1:1", "127.0.0.1:7510"}};
    struct store_config config = {.shards = 1, .node = node, .nodes = nodes, .nnodes = 2,
                                  .memory = memory, .copies = 2, .verbs = &by_held,
                                  .listen_verbs = nodes[node - 1].verbs,
                                  .failure_timeout_ms = TIMEOUT_MS};
    stores[node - 1] = start(&config);
}

static bool turn(void)
{
    for (int i = 0; i < 2; i++)
        if (stores[i])
            store_poll(stores[i]);
    return true;
}

static struct shard_status status(int i)
{
    return snapshot_of(stores[i], 0).status;
}

static struct channel *dial_primary(void *ctx, uint16_t shard, char *err, uint32_t err_len)
{
    uint32_t node = views_memory_primary(memory, shard);
    return node && stores[node - 1] ? store_dial(stores[node - 1], shard, err, err_len) : NULL;
}

static bool follows(void)
{
    return status(0).copies == 2 && status(1).role == SHARD_BACKUP &&
           status(1).position == status(0).position &&
           !strcmp(snapshot_of(stores[1], 0).primary_by, "held");
}

static void test_what_landed_before_the_view_is_taken_over(void **state)
{
    struct user u;
    uint64_t key = 1;
    memory = views_memory_create();
    start_node(1);
    start_node(2);
    WAIT_FOR(turn() && status(0).role == SHARD_PRIMARY && status(0).copies == 2 &&
             status(1).role == SHARD_BACKUP);
    user_open(&u, 1, dial_primary, NULL);
    WAIT_FOR(turn() && user_turn(&u) && lethe_ready(u.client));
    while (key <= 100)
        user_insert(&u, key++);
    lethe_flush(u.client);
    WAIT_FOR(turn() && user_turn(&u) && u.outstanding == 0);
    WAIT_FOR(turn() && follows());

    held = true; /* it goes on to write; nobody looks */
    uint32_t fences_before = fences;
    uint64_t before = status(1).position;
    while (key <= 150)
        user_insert(&u, key++);
    lethe_flush(u.client);
    WAIT_FOR(store_poll(stores[0]) | user_turn(&u) && status(0).position >= before + 50);
    assert_int_equal(status(1).position, before);
    uint64_t written = status(0).position;

    /* Node 1 is paused; in the end nobody else has what it wrote. */
    WAIT_FOR(store_poll(stores[1]) | 1 && status(1).role == SHARD_PRIMARY);
    struct shard_snapshot s = snapshot_of(stores[1], 0);
    assert_int_equal(fences, fences_before + 1);
    assert_true(s.fences >= 1);
    assert_true(s.fence_frames >= 1);
    assert_true(s.status.position >= written);

    /* Gone for good; its client's answers come from what was taken over. */
    held = false;
    store_stop(stores[0]);
    stores[0] = NULL;
    WAIT_FOR(turn() && user_turn(&u) && u.outstanding == 0);
    assert_int_equal(u.ok, 150);
    WAIT_FOR(turn() && status(1).entries == 150);
    lethe_client_destroy(u.client);
    store_stop(stores[1]);
    views_memory_destroy(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_landed_before_the_view_is_taken_over),
    };
    log_init("link_fence_test", "test", getenv("LETHE_TEST_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
