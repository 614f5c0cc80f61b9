/* SPDX-License-Identifier: BSD-3-Clause */
/* A primary and its backup over tcp: joining, leaving, coming back, and what a
 * primary that starts empty may do. */
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "statestore/server/harness.h"

/* --- the pair --------------------------------------------------------------------------- */

static struct store *primary, *backup;
static uint32_t failure_timeout_ms = 500;
static _Atomic uint16_t primary_port[STORE_SHARDS_MAX]; /* 0: nobody there */
static _Atomic int link_fd;                             /* of the newest link to shard 0 */

static const struct store_node nodes[] = {{.name = "store-a"}, {.name = "store-b"}};

/* Clients and the backup dial by this: a restarted primary has other ports. */
static struct channel *dial(void *ctx, uint16_t shard, char *err, uint32_t err_len)
{
    char address[40];
    short events;
    uint16_t port = primary_port[shard];
    snprintf(address, sizeof address, "127.0.0.1:%u", port ? port : 1);
    struct channel *ch = tcp_connect(address, err, err_len);
    if (ch && ctx == &link_fd && !shard)
        link_fd = channel_fd(ch, &events);
    return ch;
}

static struct channel *dial_node(void *ctx, uint32_t node, uint16_t shard, char *err,
                                 uint32_t err_len)
{
    assert_int_equal(node, 1);
    return dial(ctx, shard, err, err_len);
}

static void start_primary(uint16_t shards, bool accept_loss)
{
    struct store_config config = store_of(shards);
    config.nodes = nodes;
    config.nnodes = 2;
    config.failure_timeout_ms = failure_timeout_ms;
    config.accept_loss = accept_loss;
    primary = start(&config);
    for (uint16_t i = 0; i < shards; i++)
        primary_port[i] = store_port(primary, i);
}

static void stop_primary(void)
{
    for (int i = 0; i < STORE_SHARDS_MAX; i++)
        primary_port[i] = 0;
    store_stop(primary);
    primary = NULL;
}

static void start_backup(uint16_t shards, bool threads)
{
    struct store_config config = store_of(shards);
    config.nodes = nodes;
    config.nnodes = 2;
    config.failure_timeout_ms = failure_timeout_ms;
    config.node = 2;
    config.dial = dial_node;
    config.dial_ctx = &link_fd;
    config.threads = threads;
    backup = start(&config);
}

static void stop_backup(void)
{
    store_stop(backup);
    backup = NULL;
}

static uint32_t copies(uint16_t shards)
{
    uint32_t least = UINT32_MAX;
    for (uint16_t i = 0; i < shards; i++) {
        uint32_t n = snapshot_of(primary, i).status.copies;
        least = n < least ? n : least;
    }
    return least;
}

/* Both replicas at one position, with one digest. */
static bool equal(uint16_t shards)
{
    for (uint16_t i = 0; i < shards; i++) {
        struct shard_snapshot a = snapshot_of(primary, i), b = snapshot_of(backup, i);
        if (a.status.position != b.status.position || a.status.role != SHARD_PRIMARY ||
            b.status.role != SHARD_BACKUP)
            return false;
        CHECK(a.status.digest == b.status.digest,
              "shard %u at position %lu: digests %lx and %lx", i, a.status.position,
              a.status.digest, b.status.digest);
        assert_int_equal(a.status.drifts + b.status.drifts, 0);
    }
    return true;
}

static uint64_t entries(uint16_t shards)
{
    uint64_t n = 0;
    for (uint16_t i = 0; i < shards; i++)
        n += snapshot_of(primary, i).status.entries;
    return n;
}

static void open_ready(struct user *u, uint16_t shards)
{
    user_open(u, shards, dial, NULL);
    WAIT_FOR(user_turn(u) && lethe_ready(u->client));
}

/* --- tests -------------------------------------------------------------------------------- */

static void test_both_hold_the_same(void **state)
{
    struct user u;
    start_primary(4, false);
    start_backup(4, true);
    open_ready(&u, 4);
    WAIT_FOR(user_turn(&u) && copies(4) == 2);
    user_insert_many(&u, 1, 5000);
    assert_int_equal(u.ok, 5000);
    WAIT_FOR(entries(4) == 5000 && equal(4)); /* what is published may be a moment old */
    assert_int_not_equal(snapshot_of(backup, 0).status.digest, 0);
    lethe_client_destroy(u.client);
    stop_backup();
    stop_primary();
}

static void test_a_backup_may_go_and_come_back_while_writes_go_on(void **state)
{
    struct user u;
    uint64_t key = 1;
    start_primary(2, false);
    start_backup(2, true);
    open_ready(&u, 2);
    WAIT_FOR(copies(2) == 2);
    for (int round = 0; round < 3; round++) {
        stop_backup();
        for (int i = 0; i < 5; i++, key += 300)
            user_insert_many(&u, key, 300); /* waits until they are answered */
        WAIT_FOR(copies(2) == 1);
        start_backup(2, true);
        while (copies(2) < 2) {
            user_insert_many(&u, key, 300);
            key += 300;
            nap(); /* others need the processors, too */
        }
        user_insert_many(&u, key, 300);
        key += 300;
        WAIT_FOR(equal(2));
    }
    assert_int_equal(u.ok, key - 1);
    lethe_client_destroy(u.client);
    stop_backup();
    stop_primary();
}

static void test_a_broken_link_heals(void **state)
{
    struct user u;
    start_primary(1, false);
    start_backup(1, true);
    open_ready(&u, 1);
    WAIT_FOR(copies(1) == 2);
    user_insert_many(&u, 1, 1000);
    for (int round = 0; round < 3; round++) {
        uint64_t accepted = snapshot_of(primary, 0).accepted;
        shutdown(link_fd, SHUT_RDWR);
        user_insert_many(&u, 10000 + (uint64_t)round * 1000, 1000);
        WAIT_FOR(snapshot_of(primary, 0).accepted > accepted && copies(1) == 2);
        WAIT_FOR(equal(1));
    }
    lethe_client_destroy(u.client);
    stop_backup();
    stop_primary();
}

static void test_a_hanging_backup_is_dropped_and_comes_back(void **state)
{
    struct user u;
    start_primary(1, false);
    start_backup(1, false); /* turns only when told to: as if stopped and continued */
    user_open(&u, 1, dial, NULL);
    WAIT_FOR((store_poll(backup) || true) && user_turn(&u) && lethe_ready(u.client) &&
             copies(1) == 2);
    user_insert_many(&u, 1, 1000); /* answered only once the backup has left the view */
    assert_int_equal(u.ok, 1000);
    WAIT_FOR(copies(1) == 1);
    WAIT_FOR((store_poll(backup) || true) && copies(1) == 2);
    WAIT_FOR((store_poll(backup) || true) && equal(1));
    lethe_client_destroy(u.client);
    stop_backup();
    stop_primary();
}

static void test_no_reply_before_the_backup_has_it(void **state)
{
    struct user u;
    start_primary(1, false);
    start_backup(1, false);
    user_open(&u, 1, dial, NULL);
    WAIT_FOR((store_poll(backup) || true) && user_turn(&u) && lethe_ready(u.client) &&
             copies(1) == 2);
    /* The backup hangs. An answer means that it is out of the view, and the view's
     * end is published no later than 100 ms after. */
    assert_true(user_insert(&u, 7));
    user_wait(&u);
    WAIT_FOR(copies(1) == 1);
    assert_true(snapshot_of(primary, 0).status.view_epoch > 2);
    lethe_client_destroy(u.client);
    stop_backup();
    stop_primary();
}

static void test_a_drain_waits_for_the_backup(void **state)
{
    struct user u;
    failure_timeout_ms = 20000; /* a hanging backup stays in the view */
    start_primary(1, false);
    start_backup(1, false);
    WAIT_FOR((store_poll(backup) || true) && copies(1) == 2);
    user_open(&u, 1, dial, NULL);
    WAIT_FOR((store_poll(backup) || true) && user_turn(&u) && lethe_ready(u.client));
    assert_true(user_insert(&u, 7));
    lethe_flush(u.client);
    WAIT_FOR(user_turn(&u) && snapshot_of(primary, 0).status.waiting == 1);
    store_drain(primary);
    for (int i = 0; i < 20; i++) {
        user_turn(&u);
        nap();
    }
    assert_false(store_stopped(primary));
    assert_int_equal(u.answered, 0);
    WAIT_FOR((store_poll(backup) || true) && store_stopped(primary));
    stop_primary();
    WAIT_FOR(user_turn(&u) && u.answered == 1);
    assert_int_equal(u.ok, 1);
    lethe_client_destroy(u.client);
    stop_backup();
    failure_timeout_ms = 500;
}

static void test_an_empty_primary_waits_for_its_backup(void **state)
{
    struct user u;
    struct lethe_status st;
    start_primary(1, false);
    user_open(&u, 1, dial, NULL);
    WAIT_FOR(user_turn(&u) && (lethe_status(u.client, &st), strstr(st.trouble, "waits for")));
    CHECK(strstr(st.trouble, "store-b"), "%s", st.trouble);
    assert_int_equal(snapshot_of(primary, 0).standing, VIEWS_WAITING);
    start_backup(1, true);
    WAIT_FOR(user_turn(&u) && lethe_ready(u.client));
    lethe_client_destroy(u.client);
    stop_backup();
    stop_primary();
}

static void test_accepted_loss_waits_for_nobody(void **state)
{
    struct user u;
    start_primary(1, true);
    open_ready(&u, 1);
    user_insert_many(&u, 1, 10);
    lethe_client_destroy(u.client);
    stop_primary();
}

static void test_a_restarted_primary_is_lost_until_an_operator_accepts(void **state)
{
    struct user u;
    struct lethe_status st;
    start_primary(2, false);
    start_backup(2, true);
    open_ready(&u, 2);
    WAIT_FOR(copies(2) == 2);
    user_insert_many(&u, 1, 1000);
    WAIT_FOR(equal(2));
    stop_primary();
    WAIT_FOR(snapshot_of(backup, 0).peer_since_ms);
    uint64_t kept = snapshot_of(backup, 0).status.digest;
    assert_true(snapshot_of(backup, 0).status.entries > 0);
    start_primary(2, false); /* empty, and the backup is not */
    WAIT_FOR(user_turn(&u) && (lethe_status(u.client, &st), strstr(st.trouble, "LOST")));
    WAIT_FOR(snapshot_of(primary, 0).status.role == SHARD_LOST &&
             snapshot_of(primary, 1).status.role == SHARD_LOST);
    assert_true(user_insert(&u, 5000));
    lethe_flush(u.client);
    /* It stays so, also when the backup dials again and again. */
    uint64_t refused = snapshot_of(primary, 0).closed;
    WAIT_FOR(user_turn(&u) && snapshot_of(primary, 0).closed > refused + 5);
    assert_int_equal(snapshot_of(primary, 0).status.role, SHARD_LOST);
    assert_int_equal(u.answered, 1000);
    assert_int_equal(snapshot_of(backup, 0).status.digest, kept); /* inert, not discarded */

    stop_primary();
    start_primary(2, true);
    user_wait(&u);
    assert_int_equal(u.stale, 1);
    user_insert_many(&u, 6000, 10); /* the other shard's lease is lost, too */
    WAIT_FOR(user_turn(&u) && lethe_ready(u.client) && copies(2) == 2);
    uint32_t before = u.ok;
    user_insert_many(&u, 1, 1000); /* the old ones are gone */
    assert_int_equal(u.ok, before + 1000);
    WAIT_FOR(equal(2));
    lethe_client_destroy(u.client);
    stop_backup();
    stop_primary();
}

static void test_a_client_of_the_backup_is_told(void **state)
{
    struct user u;
    struct lethe_status st;
    start_primary(1, false);
    start_backup(1, true);
    user_open(&u, 1, dial_store, &backup);
    WAIT_FOR(user_turn(&u) && (lethe_status(u.client, &st), strstr(st.trouble, "not serve")));
    lethe_client_destroy(u.client);
    stop_backup();
    stop_primary();
}

/* --- RDMA that does not work --------------------------------------------------------------- */

static bool no_device;            /* else: a connection that never comes up */
static _Atomic uint32_t rdma_dials;

static struct channel *nobody(struct listener *l)
{
    return NULL;
}
static void close_listener(struct listener *l)
{
    close(l->fd);
}
static int listen_in_vain(struct listener *out, const char *address, char *err, uint32_t err_len)
{
    *out = (struct listener){.fd = eventfd(0, EFD_CLOEXEC), .accept = nobody, .close = close_listener};
    return out->fd < 0 ? -errno : 0;
}
static uint16_t no_port(const struct listener *l)
{
    return 0;
}
static struct channel *dial_in_vain(const char *address, char *err, uint32_t err_len)
{
    rdma_dials++;
    assert_string_equal(address, "127.0.0.1:7500");
    if (!no_device)
        return tcp_connect("127.0.0.1:1", err, err_len);
    snprintf(err, err_len, "there is no RDMA device");
    return NULL;
}

static void test_a_link_goes_by_tcp_where_rdma_fails(void **state)
{
    static const struct transport broken = {"verbs", false, dial_in_vain, listen_in_vain, no_port, NULL};
    static const struct store_node with_rdma[] = {{.name = "store-a", .verbs = "127.0.0.1:7500"},
                                                  {.name = "store-b", .verbs = "127.0.0.1:7510"}};
    for (int i = 0; i < 2; i++) {
        no_device = i;
        rdma_dials = 0;
        start_primary(1, false);
        struct store_config config = store_of(1);
        config.nodes = with_rdma;
        config.nnodes = config.node = 2;
        config.dial = dial_node;
        config.verbs = &broken;
        config.listen_verbs = with_rdma[1].verbs;
        backup = start(&config);
        WAIT_FOR(copies(1) == 2 && equal(1));
        assert_true(rdma_dials >= 1);
        assert_string_equal(snapshot_of(backup, 0).primary_by, "tcp");
        stop_backup();
        stop_primary();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_link_goes_by_tcp_where_rdma_fails),
        cmocka_unit_test(test_both_hold_the_same),
        cmocka_unit_test(test_a_backup_may_go_and_come_back_while_writes_go_on),
        cmocka_unit_test(test_a_broken_link_heals),
        cmocka_unit_test(test_a_hanging_backup_is_dropped_and_comes_back),
        cmocka_unit_test(test_no_reply_before_the_backup_has_it),
        cmocka_unit_test(test_a_drain_waits_for_the_backup),
        cmocka_unit_test(test_an_empty_primary_waits_for_its_backup),
        cmocka_unit_test(test_accepted_loss_waits_for_nobody),
        cmocka_unit_test(test_a_restarted_primary_is_lost_until_an_operator_accepts),
        cmocka_unit_test(test_a_client_of_the_backup_is_told),
    };
    signal(SIGPIPE, SIG_IGN);
    log_init("pair_test", "test", getenv("LETHE_TEST_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
