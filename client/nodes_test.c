/* SPDX-License-Identifier: BSD-3-Clause */
/* The client among three replicas of one shard: who is tried when, and that a txn
 * survives the way from one primary to the next. */
#include "client/client_impl.h"
#include "client/fake_store.h"

enum { NODES = 3, RETRY_MS = 200, SILENCE_MS = RETRY_MS };

static struct fake f;
static struct node { struct channel *end; bool refuses; uint32_t dials; } nodes[NODES];

static struct channel *connect_fake(const char *address, char *err, uint32_t err_len)
{
    struct node *n = &nodes[address[1] - '1'];
    struct channel *theirs;
    n->dials++;
    if (n->refuses) {
        snprintf(err, err_len, "connection refused");
        return NULL;
    }
    channel_close(n->end);
    assert_int_equal(inproc_pair(FAKE_RING, &theirs, &n->end), 0);
    return theirs;
}

static void open_three(void)
{
    char err[200];
    struct lethe_config config = {.shards = 1, .address = "n1:7400,n2:7400,n3:7400"};
    struct table_schema schema = fake_schema("flows");
    memset(&f, 0, sizeof f);
    memset(nodes, 0, sizeof nodes);
    f.shards = 1, f.now_us = 1000, f.next_id = 100;
    f.client = lethe_client_create(&config, err, sizeof err);
    CHECK(f.client, "%s", err);
    f.client->connect = connect_fake;
    assert_int_equal(lethe_table_open(f.client, &schema), 0);
}

static void close_three(void)
{
    lethe_client_destroy(f.client);
    for (int i = 0; i < NODES; i++)
        channel_close(nodes[i].end);
}

/* The fake_ functions speak for this node (1..3) from here on. */
static void as(int node)
{
    for (int i = 0; i < FAKE_PATIENCE && !nodes[node - 1].end; i++)
        fake_poll(&f);
    CHECK(nodes[node - 1].end, "node %d was not dialled", node);
    f.end[0] = nodes[node - 1].end;
}

static void kill_node(int node)
{
    channel_close(nodes[node - 1].end);
    nodes[node - 1].end = NULL;
    nodes[node - 1].refuses = true;
}

/* Its connection is over; the next one counts. */
static void forget(int node)
{
    fake_poll(&f);
    kill_node(node);
    nodes[node - 1].refuses = false;
}

static void not_primary(int node, uint32_t primary)
{
    struct msg_welcome m = {.proto = 2, .shards = 1, .lease_ms = FAKE_LEASE_MS,
                            .primary_node = primary};
    as(node);
    fake_next(&f, 0, MSG_HELLO);
    fake_send(&f, 0, &m, MSG_WELCOME, sizeof m);
}

static uint64_t up_at(int node)
{
    as(node);
    return fake_up(&f, 0, 1, 5);
}

/* A reconnection: the client keeps its id. */
static void up_again_at(int node)
{
    as(node);
    fake_welcome(&f, 0);
    fake_table(&f, 0, 6, "");
}

static void submit(struct fake_call *call)
{
    uint64_t key = 1;
    struct lethe_txn *t = lethe_txn_begin(f.client, 7, fake_done, call);
    assert_non_null(t);
    lethe_txn_get(t, 0, &key, 0);
    lethe_txn_submit(t);
    lethe_flush(f.client);
}

static void expect_seq(uint64_t client, uint64_t seq)
{
    const struct msg_batch *m = fake_next(&f, 0, MSG_BATCH);
    assert_int_equal(m->client, client);
    assert_int_equal(m->ntxn, 1);
    assert_int_equal(((const struct txn_head *)(m + 1))->seq, seq);
}

/* A client whose first txn node 1 has got, and not answered. Its id. */
static uint64_t open_with_a_txn_at_1(struct fake_call *call)
{
    open_three();
    uint64_t id = up_at(1);
    fake_poll(&f);
    submit(call);
    expect_seq(id, 1);
    return id;
}

static void answer_first(uint64_t id, const struct fake_call *call)
{
    fake_result(&f, 0, id, 1, TXN_OK);
    fake_poll(&f);
    assert_int_equal(call->calls, 1);
}

static void expect_ready_at(int node)
{
    up_at(node);
    fake_poll(&f);
    assert_true(lethe_ready(f.client));
}

static void test_the_node_that_is_named_is_tried_next(void **state)
{
    open_three();
    nodes[0].refuses = true;
    not_primary(2, 3);
    uint64_t then = f.now_us;
    expect_ready_at(3);
    CHECK(f.now_us - then < 10 * FAKE_STEP_US, "after %lu us", f.now_us - then);
    assert_int_equal(nodes[0].dials, 1);
    assert_int_equal(nodes[1].dials, 1);
    close_three();
}

static void test_nodes_that_name_each_other_do_not_hide_the_third(void **state)
{
    open_three();
    not_primary(1, 2);
    not_primary(2, 1);
    expect_ready_at(3);
    close_three();
}

static void test_a_dead_primarys_txns_are_repeated_at_the_next(void **state)
{
    struct fake_call call = {0};
    uint64_t id = open_with_a_txn_at_1(&call);
    kill_node(1);
    uint64_t then = f.now_us;
    not_primary(2, 1); /* it has not heard yet */
    not_primary(3, 1);
    assert_true(f.now_us - then <= 5 * FAKE_STEP_US);
    for (int i = 0; i < 4; i++) { /* nobody serves: rounds with growing pauses */
        forget(2), forget(3);
        not_primary(2, 0);
        not_primary(3, 0);
    }
    forget(2);
    uint64_t ready = f.now_us;
    up_again_at(2);
    expect_seq(id, 1);
    CHECK(f.now_us - ready <= 60 * 1000, "%lu us after it was ready", f.now_us - ready);
    answer_first(id, &call);
    assert_int_equal(call.status, TXN_OK);
    struct lethe_status st;
    lethe_status(f.client, &st);
    assert_int_equal(st.reconnects, 1);
    assert_int_equal(st.leases, 1);
    assert_string_equal(st.trouble, "");
    close_three();
}

static void test_a_silent_primary_is_asked_and_then_left(void **state)
{
    struct fake_call call = {0};
    open_three();
    uint64_t id = up_at(1);
    fake_poll(&f);
    fake_pass_ms(&f, 500); /* nothing is owed: nothing is suspected */
    assert_int_equal(nodes[1].dials, 0);
    submit(&call);
    expect_seq(id, 1);
    fake_pass_ms(&f, SILENCE_MS / 2 + 5);
    assert_null(fake_here(&f, 0));
    assert_int_equal(f.statuses, 1);
    assert_int_equal(nodes[1].dials, 0);
    fake_pass_ms(&f, SILENCE_MS / 2 + 5);
    assert_int_equal(nodes[1].dials, 1);
    up_again_at(2);
    expect_seq(id, 1);
    answer_first(id, &call);
    close_three();
}

static void status_is(uint32_t role)
{
    struct msg_status_is m = {.status = {.role = role}};
    fake_send(&f, 0, &m, MSG_STATUS_IS, sizeof m);
}

static void test_a_primary_that_only_waits_is_not_left_at_once(void **state)
{
    struct fake_call call = {0};
    uint64_t id = open_with_a_txn_at_1(&call);
    fake_pass_ms(&f, 150);
    status_is(SHARD_PRIMARY);
    fake_pass_ms(&f, 150); /* beyond the silence allowed, but it spoke */
    status_is(SHARD_PRIMARY);
    fake_pass_ms(&f, 50);
    assert_int_equal(nodes[1].dials, 0);
    fake_here(&f, 0);
    fake_pass_ms(&f, 20);
    status_is(SHARD_PRIMARY);
    fake_pass_ms(&f, 60); /* too long without an answer: it may be cut off */
    assert_int_equal(nodes[1].dials, 1);
    forget(1);
    not_primary(2, 1);
    not_primary(3, 1);
    up_again_at(1);       /* it is, after all; nobody held its talk against it */
    expect_seq(id, 1);
    close_three();
}

static void test_a_silent_node_is_left_out_for_a_while(void **state)
{
    struct fake_call call = {0};
    uint64_t id = open_with_a_txn_at_1(&call);
    fake_pass_ms(&f, SILENCE_MS + 10);
    uint32_t before = nodes[0].dials;
    for (int i = 0; i < 3; i++) { /* both name it; it does not answer */
        not_primary(2, 1);
        not_primary(3, 1);
        forget(2), forget(3);
    }
    assert_int_equal(nodes[0].dials, before);
    up_again_at(2);
    expect_seq(id, 1);
    close_three();
}

/* Silent time after time: left out for long. It is there again, and the others name it. */
static void test_a_named_primary_is_not_left_out_for_long(void **state)
{
    open_three();
    nodes[1].refuses = nodes[2].refuses = true;
    fake_pass_ms(&f, 20 * SILENCE_MS);
    for (uint32_t dials = nodes[0].dials; nodes[0].dials == dials;)
        fake_poll(&f);
    nodes[1].refuses = nodes[2].refuses = false;
    for (int i = 0; i < 5000 && !nodes[1].end && !nodes[2].end; i++) /* it is left once more */
        fake_poll(&f);
    uint32_t before = nodes[0].dials;
    uint64_t then = f.now_us;
    while (nodes[0].dials == before) {
        for (int i = 2; i <= 3; i++)
            if (nodes[i - 1].end) {
                not_primary(i, 1);
                forget(i);
            }
        fake_poll(&f);
    }
    CHECK(f.now_us - then <= (SILENCE_MS + 100) * 1000, "left out for %lu us", f.now_us - then);
    close_three();
}

static void wait_for_dial(int node)
{
    for (int i = 0; i < 5000 && !nodes[node - 1].end; i++)
        fake_poll(&f);
}

static void test_a_word_ends_what_silence_had_cost(void **state)
{
    struct fake_call call = {0};
    open_three();
    nodes[1].refuses = nodes[2].refuses = true;
    fake_pass_ms(&f, 20 * SILENCE_MS); /* node 1 is there, and says nothing, many times */
    forget(2);
    wait_for_dial(2);
    uint64_t id = up_at(2);
    fake_poll(&f);
    submit(&call);
    expect_seq(id, 1);
    forget(1);
    kill_node(2);
    wait_for_dial(1);
    as(1);
    fake_welcome(&f, 0); /* it takes over, and reads nothing until it serves */
    fake_pass_ms(&f, SILENCE_MS + 10);
    uint32_t before = nodes[0].dials;
    uint64_t then = f.now_us;
    while (nodes[0].dials == before) {
        forget(3);
        while (!nodes[2].end && nodes[0].dials == before)
            fake_poll(&f);
        if (nodes[2].end)
            not_primary(3, 1);
    }
    CHECK(f.now_us - then <= (SILENCE_MS + 100) * 1000, "left alone for %lu us", f.now_us - then);
    close_three();
}

static void test_a_node_that_never_welcomes_costs_a_part_of_the_silence(void **state)
{
    open_three();
    as(1);
    fake_next(&f, 0, MSG_HELLO);
    fake_pass_ms(&f, SILENCE_MS / 4 - 10);
    assert_int_equal(nodes[1].dials, 0);
    fake_pass_ms(&f, 20);
    assert_int_equal(nodes[1].dials, 1);
    close_three();
}

static void test_all_silent_are_tried_again(void **state)
{
    open_three();
    fake_pass_ms(&f, 3000);
    for (int i = 0; i < NODES; i++)
        CHECK(nodes[i].dials >= 2, "node %d: %u dials", i + 1, nodes[i].dials);
    forget(2);
    wait_for_dial(2);
    expect_ready_at(2);
    close_three();
}

static void test_one_about_to_serve_is_asked_every_two_ms(void **state)
{
    struct fake_call call = {0};
    int asked = 0;
    open_three();
    uint64_t id = up_at(1);
    fake_poll(&f);
    submit(&call);
    for (int ms = 0; ms < 90; ms++) {
        const struct msg_head *m;
        while ((m = fake_here(&f, 0))) {
            assert_int_equal(m->type, MSG_BATCH);
            asked++;
            fake_result(&f, 0, id, 1, TXN_NOT_PRIMARY);
        }
        fake_poll(&f);
    }
    CHECK(asked >= 25 && asked <= 50, "%d times in 90 ms", asked);
    CHECK(f.statuses >= 1 && f.statuses <= (uint32_t)asked, "%u", f.statuses);
    fake_pass_ms(&f, 30);
    while (fake_here(&f, 0))
        fake_result(&f, 0, id, 1, TXN_NOT_PRIMARY);
    fake_poll(&f);
    fake_pass_ms(&f, 10);
    assert_null(fake_here(&f, 0)); /* slower now */
    fake_pass_ms(&f, 15);
    expect_seq(id, 1);
    answer_first(id, &call);
    close_three();
}

static void test_one_that_was_deposed_is_left(void **state)
{
    struct fake_call call = {0};
    uint64_t id = open_with_a_txn_at_1(&call);
    fake_result(&f, 0, id, 1, TXN_NOT_PRIMARY);
    fake_poll(&f);
    while (fake_here(&f, 0))
        ;
    assert_true(f.statuses >= 1);
    status_is(SHARD_IDLE);
    fake_poll(&f);
    assert_int_equal(nodes[1].dials, 1);
    up_again_at(2);
    expect_seq(id, 1);
    answer_first(id, &call);
    close_three();
}

static void test_a_lease_not_given_yet_is_asked_for_soon(void **state)
{
    open_three();
    as(1);
    fake_welcome(&f, 0);
    const struct msg_client_open *open = fake_next(&f, 0, MSG_CLIENT_OPEN);
    struct msg_client no = {.nonce = open->nonce};
    fake_send(&f, 0, &no, MSG_CLIENT, sizeof no);
    fake_poll(&f);
    fake_pass_ms(&f, 3);
    assert_non_null(fake_here(&f, 0));
    close_three();
}

static void test_trouble_tells_what_each_said(void **state)
{
    struct lethe_status st;
    open_three();
    nodes[0].refuses = true;
    not_primary(2, 1);
    fake_poll(&f);
    lethe_status(f.client, &st);
    CHECK(strstr(st.trouble, "n1:7400: connection refused"), "%s", st.trouble);
    CHECK(strstr(st.trouble, "n2:7400: does not serve the shard, node 1 does"), "%s", st.trouble);
    up_at(3);
    fake_poll(&f);
    lethe_status(f.client, &st);
    assert_string_equal(st.trouble, "");
    close_three();
}

static void test_a_dial_of_ones_own_is_called_again_until_it_finds_the_primary(void **state)
{
    fake_open(&f, 1, 0);
    for (uint32_t i = 1; i <= 5; i++) {
        struct msg_welcome m = {.proto = 2, .shards = 1, .lease_ms = 1, .primary_node = 2};
        fake_next(&f, 0, MSG_HELLO);
        assert_int_equal(f.dials, i);
        fake_send(&f, 0, &m, MSG_WELCOME, sizeof m);
        fake_poll(&f);
    }
    CHECK(f.now_us < 200 * 1000, "%lu us", f.now_us);
    uint64_t then = f.now_us;
    for (int i = 0; i < 10; i++) {
        struct msg_welcome m = {.proto = 2, .shards = 1, .lease_ms = 1};
        for (int ms = 0; ms < 60 && f.dials == 5u + (uint32_t)i; ms++)
            fake_poll(&f);
        fake_next(&f, 0, MSG_HELLO);
        fake_send(&f, 0, &m, MSG_WELCOME, sizeof m);
    }
    CHECK(f.now_us - then < 10 * 60 * 1000, "%lu us for ten", f.now_us - then);
    fake_up(&f, 0, 0, 0);
    fake_poll(&f);
    assert_true(lethe_ready(f.client));
    fake_close(&f);
}

static void test_wrong_lists_are_refused_with_a_sentence(void **state)
{
    const struct { const char *list, *says; } rows[] = {
        {"a:1,", "''"}, {"a:1,,b:1", "''"}, {"a:1,b", "'b'"}, {"a:1,b:65535", "65535"},
        {"verbs:a:1", "without RDMA"}, {"shm:run/s", "path"}, {"shm:/s|b", "'b'"}, {"a:1|", "''"},
        {"a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8,a:9,a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8", "more than 16"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char err[300] = "";
        struct lethe_config config = {.shards = 2, .address = rows[i].list};
        assert_null(lethe_client_create(&config, err, sizeof err));
        CHECK(strstr(err, rows[i].says), "row %zu: \"%s\"", i, err);
    }
}

/* --- a store of protocol 1 ------------------------------------------------------------ */

static void expect_old(const struct msg_head *h)
{
    const char *why = msg_validate(h, h->bytes);
    CHECK(h->proto == 1 && !why, "type %u of protocol %u: %s", h->type, h->proto, why ? why : "");
}

static void test_a_store_of_protocol_1_hears_nothing_newer(void **state)
{
    struct fake_call call = {0};
    const struct msg_head *h;
    struct table_schema schema = fake_schema("flows");
    int batches = 0;
    fake_open(&f, 1, 0);
    f.proto = 1;
    lethe_table_open(f.client, &schema);
    const struct msg_hello *hello = fake_next(&f, 0, MSG_HELLO);
    assert_int_equal(hello->proto_min, 1);
    struct msg_welcome m = {.proto = 1, .primary = 1, .shards = 1, .lease_ms = FAKE_LEASE_MS};
    fake_send(&f, 0, &m, MSG_WELCOME, sizeof m);
    const struct msg_client_open *open = fake_next(&f, 0, MSG_CLIENT_OPEN);
    expect_old(&open->head);
    struct msg_client id = {.nonce = open->nonce, .client = 7, .lease_ms = FAKE_LEASE_MS};
    fake_send(&f, 0, &id, MSG_CLIENT, sizeof id);
    expect_old(fake_next(&f, 0, MSG_TABLE_OPEN));
    f.client->map[7].epoch = 9; /* as if another shard had said so */
    struct msg_table opened = {.id = 3, .name = "flows"};
    fake_send(&f, 0, &opened, MSG_TABLE, sizeof opened);
    fake_poll(&f);
    submit(&call);
    for (int i = 0; i < 1900; i++) { /* retries, renewals, questions */
        while ((h = fake_any(&f, 0))) {
            expect_old(h);
            assert_int_not_equal(h->type, MSG_MAP_GET);
            batches += h->type == MSG_BATCH;
        }
        fake_poll(&f);
    }
    assert_true(batches > 5);
    fake_result(&f, 0, 7, 1, TXN_OK);
    fake_poll(&f);
    assert_int_equal(call.calls, 1);
    fake_close(&f);
}

static void test_a_table_that_protocol_1_lacks_is_fatal_there(void **state)
{
    struct lethe_status st;
    struct table_schema schema = fake_schema("timers");
    schema.flags = TABLE_EVENTS | TABLE_ABSOLUTE;
    fake_open(&f, 1, 0);
    f.proto = 1;
    assert_int_equal(lethe_table_open(f.client, &schema), 0);
    fake_welcome(&f, 0);
    fake_lease(&f, 0);
    fake_pass_ms(&f, 10);
    assert_null(fake_here(&f, 0));
    lethe_status(f.client, &st);
    CHECK(strstr(st.fatal, "timers") && strstr(st.fatal, "protocol 1"), "%s", st.fatal);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_node_that_is_named_is_tried_next),
        cmocka_unit_test(test_nodes_that_name_each_other_do_not_hide_the_third),
        cmocka_unit_test(test_a_dead_primarys_txns_are_repeated_at_the_next),
        cmocka_unit_test(test_a_silent_primary_is_asked_and_then_left),
        cmocka_unit_test(test_a_primary_that_only_waits_is_not_left_at_once),
        cmocka_unit_test(test_a_silent_node_is_left_out_for_a_while),
        cmocka_unit_test(test_a_named_primary_is_not_left_out_for_long),
        cmocka_unit_test(test_a_word_ends_what_silence_had_cost),
        cmocka_unit_test(test_a_node_that_never_welcomes_costs_a_part_of_the_silence),
        cmocka_unit_test(test_all_silent_are_tried_again),
        cmocka_unit_test(test_one_about_to_serve_is_asked_every_two_ms),
        cmocka_unit_test(test_one_that_was_deposed_is_left),
        cmocka_unit_test(test_a_lease_not_given_yet_is_asked_for_soon),
        cmocka_unit_test(test_trouble_tells_what_each_said),
        cmocka_unit_test(test_a_dial_of_ones_own_is_called_again_until_it_finds_the_primary),
        cmocka_unit_test(test_wrong_lists_are_refused_with_a_sentence),
        cmocka_unit_test(test_a_store_of_protocol_1_hears_nothing_newer),
        cmocka_unit_test(test_a_table_that_protocol_1_lacks_is_fatal_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
