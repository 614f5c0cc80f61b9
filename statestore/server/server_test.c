/* SPDX-License-Identifier: BSD-3-Clause */
/* One store in this process, its threads, tcp and inproc; well and badly
 * behaved peers. */
#include <arpa/inet.h>
#include <netinet/tcp.h>

#include "statestore/server/harness.h"

/* --- the ordinary life --------------------------------------------------------------- */

static void test_insert_and_get_over_tcp(void **state)
{
    struct store_config config = store_of(4);
    struct store *s = start(&config);
    struct user u;
    user_open(&u, 4, dial_store, &s);
    WAIT_FOR(user_turn(&u) && lethe_ready(u.client));
    user_insert_many(&u, 1, 5000);
    assert_int_equal(u.ok, 5000);
    user_insert_many(&u, 1, 10); /* they are there already */
    assert_int_equal(u.other, 10);
    WAIT_FOR(snapshot_of(s, 0).status.entries + snapshot_of(s, 1).status.entries +
                 snapshot_of(s, 2).status.entries + snapshot_of(s, 3).status.entries ==
             5000);
    lethe_client_destroy(u.client);
    store_stop(s);
}

/* A way that does not lead to the node from here is passed over; one that does is not. */
static void test_shared_memory_where_the_store_is_on_this_host(void **state)
{
    char dir[] = "/tmp/server-shm-XXXXXX", path[40], list[160], file[44];
    struct store_config config = store_of(1);
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    config.listen_shm = path;
    struct store *s = start(&config);
        for (int i = 0; i < 3; i++) {
        struct user u;
        if (i == 2)
            snprintf(list, sizeof list, "tcp:127.0.0.1:%u", store_port(s, 0));
        else
            snprintf(list, sizeof list, "shm:%s%s|127.0.0.1:%u", path, i ? "-elsewhere" : "",
                     i ? store_port(s, 0) : 1);
        user_open_at(&u, 1, list);
        WAIT_FOR(user_turn(&u) && lethe_ready(u.client));
        user_insert_many(&u, 1 + 3000u * (unsigned)i, 3000);
        assert_int_equal(u.ok, 3000);
        lethe_client_destroy(u.client);
    }
    store_stop(s);
    s = start(&config); /* the socket's file is taken over */
    store_stop(s);
    snprintf(file, sizeof file, "%s.0", path);
    unlink(file);
    rmdir(dir);
}

static void run_embedded(bool threads, bool backup)
{
    struct embed *e;
    struct user u;
    char err[200];
    struct embed_config config = {.shards = 2, .threads = threads, .backup = backup};
    CHECK(!embed_start(&e, &config, err, sizeof err), "%s", err);
    user_open(&u, 2, embed_dial, e);
    WAIT_FOR((threads || embed_poll(e) || true) && user_turn(&u) && lethe_ready(u.client) &&
             (!backup || embed_copies(e) == 2));
    for (uint64_t key = 1; key <= 3000; key++)
        while (!user_insert(&u, key)) {
            lethe_flush(u.client);
            if (!threads)
                embed_poll(e);
            user_turn(&u);
        }
    lethe_flush(u.client);
    WAIT_FOR((threads || embed_poll(e) || true) && user_turn(&u) && u.outstanding == 0);
    assert_int_equal(u.ok, 3000);
    lethe_client_destroy(u.client);
    embed_stop(e);
}

static void test_embedded_with_threads(void **state)
{
    run_embedded(true, false);
    run_embedded(true, true);
}

static void test_embedded_driven_by_one_thread(void **state)
{
    run_embedded(false, false);
    run_embedded(false, true);
}

static void test_a_restarted_store_makes_old_clients_stale(void **state)
{
    struct store_config config = store_of(1);
    struct store *s = start(&config);
    struct user u;
    user_open(&u, 1, dial_store, &s);
    WAIT_FOR(user_turn(&u) && lethe_ready(u.client));
    user_insert_many(&u, 1, 100);
    store_stop(s);
    s = NULL;
    for (uint64_t key = 200; key < 210; key++)
        assert_true(user_insert(&u, key));
    lethe_flush(u.client);
    s = start(&config);
    user_wait(&u);
    /* The store does not know the client: it says so, and never executes them. */
    assert_int_equal(u.stale, 10);
    WAIT_FOR(user_turn(&u) && lethe_ready(u.client));
    user_insert_many(&u, 200, 10);
    assert_int_equal(u.ok, 110);
    lethe_client_destroy(u.client);
    store_stop(s);
}

/* Client ids are never reused, over restarts either: a client of the earlier
 * store must not be taken for one of this store's. */
static void test_a_restarted_store_takes_nobody_for_another(void **state)
{
    struct store_config config = store_of(1);
    struct store *s = start(&config);
    struct user first, second;
    user_open(&first, 1, dial_store, &s);
    WAIT_FOR(user_turn(&first) && lethe_ready(first.client));
    user_open(&second, 1, dial_store, &s);
    WAIT_FOR(user_turn(&second) && lethe_ready(second.client));
    user_insert_many(&first, 1, 1000);
    store_stop(s);
    s = start(&config);
    user_insert_many(&second, 5000, 10); /* told that it is unknown, leases an id */
    WAIT_FOR(user_turn(&second) && lethe_ready(second.client));
    user_insert_many(&first, 6000, 10);  /* under the id that it had */
    assert_int_equal(first.stale, 10);
    user_insert_many(&second, 7000, 10);
    assert_int_equal(second.ok, 10);
    assert_int_equal(second.other, 0);
    lethe_client_destroy(first.client);
    lethe_client_destroy(second.client);
    store_stop(s);
}

static void test_two_hundred_connections(void **state)
{
    enum { CLIENTS = 200 };
    static struct user users[CLIENTS];
    struct store_config config = store_of(1);
    struct store *s = start(&config);
    for (int i = 0; i < CLIENTS; i++)
        user_open(&users[i], 1, dial_store, &s);
    for (int i = 0; i < CLIENTS; i++)
        WAIT_FOR(user_turn(&users[i]) && lethe_ready(users[i].client));
    for (int i = 0; i < CLIENTS; i++) {
        for (uint64_t k = 0; k < 20; k++)
            assert_true(user_insert(&users[i], (uint64_t)i * 1000 + k));
        lethe_flush(users[i].client);
    }
    for (int i = 0; i < CLIENTS; i++) {
        user_wait(&users[i]);
        assert_int_equal(users[i].ok, 20);
    }
    WAIT_FOR(snapshot_of(s, 0).clients_connected == CLIENTS);
    for (int i = 0; i < CLIENTS; i++)
        lethe_client_destroy(users[i].client);
    WAIT_FOR(snapshot_of(s, 0).connections == 0);
    store_stop(s);
}

static void test_position_and_digest_belong_together(void **state)
{
    struct store_config config = store_of(1);
    struct store *s = start(&config);
    struct user u;
    uint64_t seen[2][64] = {0};
    int n = 0;
    user_open(&u, 1, dial_store, &s);
    WAIT_FOR(user_turn(&u) && lethe_ready(u.client));
    for (uint64_t key = 1; n < 20; key++) {
        user_insert_many(&u, key * 100, 50);
        struct shard_snapshot snap = snapshot_of(s, 0);
        if (n && seen[0][n - 1] == snap.status.position) {
            assert_int_equal(seen[1][n - 1], snap.status.digest);
            continue;
        }
        seen[0][n] = snap.status.position;
        seen[1][n++] = snap.status.digest;
        assert_true(snap.status.commit <= snap.status.position);
    }
    lethe_client_destroy(u.client);
    store_stop(s);
}

static void test_a_drain_answers_what_is_held(void **state)
{
    struct store_config config = store_of(2);
    struct store *s = start(&config);
    struct user u;
    user_open(&u, 2, dial_store, &s);
    WAIT_FOR(user_turn(&u) && lethe_ready(u.client));
    for (uint64_t key = 1; key <= 100; key++)
        assert_true(user_insert(&u, key));
    lethe_flush(u.client);
    WAIT_FOR(snapshot_of(s, 0).status.txns + snapshot_of(s, 1).status.txns == 100);
    store_drain(s);
    WAIT_FOR(store_stopped(s));
    store_stop(s);
    s = NULL;
    for (int i = 0; i < 1000 && u.outstanding; i++)
        user_turn(&u);
    assert_int_equal(u.ok, 100);
    lethe_client_destroy(u.client);
}

static void ask_status(int fd, uint64_t first, uint32_t n)
{
    static struct msg_status burst[64];
    for (uint32_t i = 0; i < n; i++) {
        burst[i].nonce = first + i;
        msg_head_set(&burst[i], MSG_STATUS, sizeof burst[i], 0, 0);
    }
    raw_send(fd, burst, n * sizeof burst[0]);
}

static void expect_status(int fd, uint64_t first, uint32_t n)
{
    struct msg_status_is is;
    for (uint32_t i = 0; i < n; i++) {
        CHECK(raw_frame(fd, &is, sizeof is) == sizeof is, "no answer to %lu", first + i);
        assert_int_equal(is.nonce, first + i);
    }
}

/* What arrives while the store still works on more frames than it reads in one
 * turn is answered without anything else having to happen. */
static void test_nothing_that_arrives_meanwhile_is_forgotten(void **state)
{
    enum { FIRST = 64, MEANWHILE = 4, ROUNDS = 200 };
    struct store_config config = store_of(1);
    struct store *s = start(&config);
    struct msg_welcome welcome;
    int one = 1, fd = raw_connect(store_port(s, 0));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    raw_hello(fd, ROLE_CLIENT);
    assert_int_equal(raw_frame(fd, &welcome, sizeof welcome), sizeof welcome);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        ask_status(fd, 0, FIRST);
        expect_status(fd, 0, 1);
        ask_status(fd, FIRST, MEANWHILE);
        expect_status(fd, 1, FIRST + MEANWHILE - 1);
    }
    close(fd);
    store_stop(s);
}

/* --- peers that misbehave ---------------------------------------------------------------- */

static void test_garbage_closes(void **state)
{
    struct store_config config = store_of(1);
    struct store *s = start(&config);
    char http[] = "GET / HTTP/1.0\r\nHost: nobody\r\n\r\n";
    int fd = raw_connect(store_port(s, 0));
    raw_send(fd, http, sizeof http);
    raw_expect_closed(fd);

    struct msg_join join = {.self = {.node = 2, .incarnation = 1}};
    msg_head_set(&join, MSG_JOIN, sizeof join, 0, 0);
    fd = raw_connect(store_port(s, 0)); /* before HELLO */
    raw_send(fd, &join, sizeof join);
    raw_expect_closed(fd);

    fd = raw_connect(store_port(s, 0)); /* what only a replica may say */
    raw_hello(fd, ROLE_CLIENT);
    raw_send(fd, &join, sizeof join);
    raw_expect_closed(fd);
    WAIT_FOR(snapshot_of(s, 0).connections == 0);
    store_stop(s);
}

static void test_a_wrong_hello_is_answered_with_a_sentence(void **state)
{
    struct store_config config = store_of(2);
    struct store *s = start(&config);
    const struct { uint16_t shard; uint8_t min, max, auth; const char *says; } rows[] = {
        {1, 1, 1, 0, "this is shard 0 of 2"},
        {0, 9, 9, 0, "protocol 9 to 9"},
        {0, 1, 1, 3, "authentication method 3"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct msg_hello m = {.magic = MSG_MAGIC, .proto_min = rows[i].min,
                              .proto_max = rows[i].max, .auth = rows[i].auth,
                              .role = ROLE_CLIENT};
        struct msg_error e;
        msg_head_set(&m, MSG_HELLO, sizeof m, rows[i].shard, 0);
        int fd = raw_connect(store_port(s, 0));
        raw_send(fd, &m, sizeof m);
        assert_int_equal(raw_frame(fd, &e, sizeof e), sizeof e);
        assert_int_equal(e.head.type, MSG_ERROR);
        CHECK(strstr(e.text, rows[i].says), "row %zu: \"%s\"", i, e.text);
        raw_expect_closed(fd);
    }
    store_stop(s);
}

static void test_half_open_connections_are_closed(void **state)
{
    struct store_config config = store_of(1);
    config.hello_timeout_ms = 100;
    struct store *s = start(&config);
    int silent = raw_connect(store_port(s, 0)), half = raw_connect(store_port(s, 0));
    struct msg_hello m = {.magic = MSG_MAGIC};
    msg_head_set(&m, MSG_HELLO, sizeof m, 0, 0);
    raw_send(half, &m, sizeof m / 2);
    raw_expect_closed(silent);
    raw_expect_closed(half);
    WAIT_FOR(snapshot_of(s, 0).connections == 0);
    store_stop(s);
}

/* What it said and that it ended come in one event. */
static void test_who_ends_at_once_is_closed_at_once(void **state)
{
    struct store_config config = store_of(1);
    struct store *s = start(&config);
    struct msg_hello hello = {.magic = MSG_MAGIC, .proto_min = 1, .proto_max = 1, .role = ROLE_CLIENT};
    struct msg_status status = {.nonce = 1};
    uint8_t both[sizeof hello + sizeof status];
    msg_head_set(&hello, MSG_HELLO, sizeof hello, 0, 0);
    msg_head_set(&status, MSG_STATUS, sizeof status, 0, 0);
    memcpy(both, &hello, sizeof hello);
    memcpy(both + sizeof hello, &status, sizeof status);
    for (int i = 0; i < 200; i++) {
        int fd = raw_connect(store_port(s, 0));
        raw_send(fd, both, sizeof both);
        shutdown(fd, SHUT_WR);
        raw_expect_closed(fd);
    }
    WAIT_FOR(snapshot_of(s, 0).connections == 0);
    store_stop(s);
}

/* Asks for a lot and reads nothing. */
static int open_glutton(struct store *s, uint64_t *client)
{
    struct msg_client_open open = {.nonce = 1};
    struct msg_welcome welcome;
    struct msg_client leased;
    int small = 4096, fd = raw_connect(store_port(s, 0));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    raw_hello(fd, ROLE_CLIENT);
    assert_int_equal(raw_frame(fd, &welcome, sizeof welcome), sizeof welcome);
    msg_head_set(&open, MSG_CLIENT_OPEN, sizeof open, 0, 0);
    raw_send(fd, &open, sizeof open);
    assert_int_equal(raw_frame(fd, &leased, sizeof leased), sizeof leased);
    *client = leased.client;
    return fd;
}

static uint32_t scan_batch(uint8_t *buf, uint64_t client, uint64_t first)
{
    struct msg_batch *m = (struct msg_batch *)buf;
    uint8_t *at = (uint8_t *)(m + 1);
    struct txn_op op = {.code = TXN_SCAN};
    memset(m, 0, sizeof *m);
    for (uint32_t i = 0; i < MSG_BATCH_MAX; i++) {
        struct txn_builder b;
        txn_begin(&b, at, 256, 0);
        assert_int_equal(txn_add_op(&b, &op, NULL, NULL, NULL), 0);
        uint32_t bytes = txn_end(&b);
        ((struct txn_head *)at)->seq = first + i;
        at += bytes;
    }
    m->client = client;
    m->ntxn = MSG_BATCH_MAX;
    uint32_t bytes = (uint32_t)(at - buf);
    msg_head_set(m, MSG_BATCH, bytes, 0, 0);
    return bytes;
}

static void test_a_slow_reader_is_closed_and_hurts_nobody(void **state)
{
    static uint8_t buf[MSG_BYTES_MAX] __attribute__((aligned(8)));
    struct store_config config = store_of(1);
    config.stall_ms = 200;
    struct store *s = start(&config);
    struct user u;
    uint64_t client;
    user_open(&u, 1, dial_store, &s);
    WAIT_FOR(user_turn(&u) && lethe_ready(u.client));
    /* Hash slot 0 full of entries: a scan of it fills a whole result. */
    for (uint64_t key = 1, n = 0; n < 400; key++)
        if (slot_of(&key, sizeof key) == 0 && ++n)
            while (!user_insert(&u, key))
                user_wait(&u);
    user_wait(&u);
    int fd = open_glutton(s, &client);
    for (uint64_t first = 1; snapshot_of(s, 0).slow_readers == 0; first += MSG_BATCH_MAX) {
        uint32_t bytes = scan_batch(buf, client, first);
        if (send(fd, buf, bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            nap();
        user_insert_many(&u, 1000000000 + first * 1000, 10); /* others are served meanwhile */
    }
    raw_expect_closed(fd);
    WAIT_FOR(snapshot_of(s, 0).connections == 1);
    lethe_client_destroy(u.client);
    store_stop(s);
}

/* --- starting -------------------------------------------------------------------------------- */

static void test_a_busy_port_is_said_clearly(void **state)
{
    char err[300] = "", address[40];
    struct store *second;
    struct store_config config = store_of(1);
    struct store *s = start(&config);
    snprintf(address, sizeof address, "127.0.0.1:%u", store_port(s, 0));
    config.listen = address;
    assert_int_equal(store_start(&second, &config, err, sizeof err), -EADDRINUSE);
    CHECK(strstr(err, "in use"), "%s", err);
    store_stop(s);
}

static void test_wrong_starts_are_refused_with_a_sentence(void **state)
{
    const struct { uint16_t shards; const char *listen, *says; } rows[] = {
        {0, "127.0.0.1:0", "shards"},
        {17, "127.0.0.1:0", "shards"},
        {1, "localhost", "localhost"},
        {4, "127.0.0.1:65533", "port 65536"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct store *s;
        char err[300] = "";
        struct store_config config = store_of(rows[i].shards);
        config.listen = rows[i].listen;
        assert_true(store_start(&s, &config, err, sizeof err) < 0);
        CHECK(strstr(err, rows[i].says), "row %zu: \"%s\"", i, err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_insert_and_get_over_tcp),
        cmocka_unit_test(test_shared_memory_where_the_store_is_on_this_host),
        cmocka_unit_test(test_embedded_with_threads),
        cmocka_unit_test(test_embedded_driven_by_one_thread),
        cmocka_unit_test(test_a_restarted_store_makes_old_clients_stale),
        cmocka_unit_test(test_a_restarted_store_takes_nobody_for_another),
        cmocka_unit_test(test_two_hundred_connections),
        cmocka_unit_test(test_position_and_digest_belong_together),
        cmocka_unit_test(test_a_drain_answers_what_is_held),
        cmocka_unit_test(test_nothing_that_arrives_meanwhile_is_forgotten),
        cmocka_unit_test(test_garbage_closes),
        cmocka_unit_test(test_a_wrong_hello_is_answered_with_a_sentence),
        cmocka_unit_test(test_half_open_connections_are_closed),
        cmocka_unit_test(test_who_ends_at_once_is_closed_at_once),
        cmocka_unit_test(test_a_slow_reader_is_closed_and_hurts_nobody),
        cmocka_unit_test(test_a_busy_port_is_said_clearly),
        cmocka_unit_test(test_wrong_starts_are_refused_with_a_sentence),
    };
    log_init("server_test", "test", LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
