/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lethe-store and its clients over verbs, as real processes that are killed:
 *
 *     store_verbs_test LETHE_STORE
 *
 *   store-a (primary) ── verbs ── store-b (backup)      tcp on 127.0.0.1 beside it
 *      └── verbs ── clients: this program, and one more of it that is killed
 *
 * Runs where there is RDMA: in the machine of vm.sh, on 10.8.0.1.
 */
#include "common/wire/verbs/verbs.h"
#include "tests/rdma/nodes.h"

static const char *self, *program;
static struct nodes nodes;
static struct lethe_client *client;
static int flows;
static uint32_t submitted, answered, inserted;
#define VERBS "verbs:10.8.0.1:7500"

/* --- clients ----------------------------------------------------------------------------- */

static void on_answer(void *user, const struct txn_result_head *r)
{
    answered++;
    inserted += r->status == TXN_OK;
}

static struct lethe_client *open_client(int *table)
{
    static const struct table_schema schema = {.name = "flows", .kind = TABLE_HASH, .version = 1,
                                               .key_size = 8, .part_len = 8, .value_size = 16};
    char err[300];
    struct lethe_config config = {.shards = 1, .address = VERBS, .verbs = &transport_verbs,
                                  .retry_ms = 1000};
    struct lethe_client *c = lethe_client_create(&config, err, sizeof err);
    CHECK(c, "%s", err);
    *table = lethe_table_open(c, &schema);
    return c;
}

static void insert(uint64_t key)
{
    uint64_t value[2] = {key, ~key};
    struct lethe_txn *t = lethe_txn_begin(client, slot_of(&key, sizeof key), on_answer, NULL);
    assert_non_null(t);
    lethe_txn_insert(t, flows, &key, value, 0);
    lethe_txn_submit(t);
    submitted++;
    lethe_flush(client);
}

static bool polled(void)
{
    lethe_poll(client, now_us());
    return true;
}

static void insert_and_wait(uint64_t from, uint32_t n)
{
    uint32_t before = inserted;
    for (uint32_t i = 0; i < n; i++)
        insert(from + i);
    WAIT_FOR(polled() && answered == submitted);
    assert_int_equal(inserted, before + n);
}

/* The one more: inserts for ever, until it is killed. */
static int insert_for_ever(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    client = open_client(&flows);
    for (uint64_t key = 1u << 30; polled(); key++) {
        while (!lethe_ready(client))
            polled();
        uint32_t before = answered;
        insert(key);
        while (answered == before)
            polled();
    }
    return 0;
}

/* --- tests ---------------------------------------------------------------------------------- */

static int64_t copies(void)
{
    return node_number(&nodes, 0, 0, "copies");
}

static int start_site(void **state)
{
    nodes_begin(&nodes, program, 2, 1, NULL);
    node_start(&nodes, 0, NULL);
    node_start(&nodes, 1, NULL);
    WAIT_FOR(copies() == 2);
    client = open_client(&flows);
    WAIT_FOR(polled() && lethe_ready(client));
    insert_and_wait(1, 100);
    return 0;
}

static int stop_site(void **state)
{
    lethe_client_destroy(client);
    nodes_end(&nodes);
    return 0;
}

static bool clients_are(int n)
{
    return node_number(&nodes, 0, 0, "clients_connected") == n;
}

static void test_the_link_is_by_verbs(void **state)
{
    WAIT_FOR(node_is_linked(&nodes, 1, 0));
}

static void test_the_store_notices_a_killed_client(void **state)
{
    WAIT_FOR(clients_are(1));
    pid_t other = spawn((const char *[]){self, program, "insert-for-ever", NULL});
    WAIT_FOR(clients_are(2));
    insert_and_wait(1000, 20);
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    WAIT_FOR(clients_are(1));
    insert_and_wait(2000, 20);
}

static void test_the_primary_notices_a_killed_backup_and_takes_it_back(void **state)
{
    node_kill(&nodes, 1);
    insert_and_wait(3000, 20); /* goes on with one copy */
    WAIT_FOR(copies() == 1);
    node_start(&nodes, 1, NULL);
    WAIT_FOR(copies() == 2);
    test_the_link_is_by_verbs(state);
    insert_and_wait(4000, 20);
}

/* The pair's primary comes back empty and must be told by its operator that this is meant; the
 * client hears of what was under way (STALE_CLIENT, unless it had not left yet), and goes on. */
static void test_a_client_goes_on_with_the_restarted_store(void **state)
{
    struct lethe_status st;
    node_kill(&nodes, 0);
    insert(5000);
    WAIT_FOR(polled() && (lethe_status(client, &st), st.trouble[0]) && !lethe_ready(client));
    node_start(&nodes, 0, "--accept-loss");
    WAIT_FOR(polled() && lethe_ready(client) && answered == submitted);
    insert_and_wait(6000, 20);
    lethe_status(client, &st);
    assert_true(st.reconnects >= 1);
    WAIT_FOR(copies() == 2);
    test_the_link_is_by_verbs(state);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_link_is_by_verbs),
        cmocka_unit_test(test_the_store_notices_a_killed_client),
        cmocka_unit_test(test_the_primary_notices_a_killed_backup_and_takes_it_back),
        cmocka_unit_test(test_a_client_goes_on_with_the_restarted_store),
    };
    if (argc < 2) {
        fprintf(stderr, "usage: store_verbs_test LETHE_STORE\n");
        return 2;
    }
    self = argv[0];
    program = argv[1];
    if (argc > 2)
        return insert_for_ever();
    return cmocka_run_group_tests(tests, start_site, stop_site);
}
