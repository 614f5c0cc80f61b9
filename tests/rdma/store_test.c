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
#include "tests/check.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/lethe.h"
#include "common/metrics/control.h"
#include "common/wire/verbs/verbs.h"

enum { PATIENCE_S = 60, ROOM = 65536 };

static const char *program, *self;
static const char *const names[] = {"store-a", "store-b"};
static char dir[] = "/tmp/lethe-verbs-XXXXXX";
static pid_t pids[2];
static struct lethe_client *client;
static int flows;
static uint32_t submitted, answered, inserted;
#define VERBS "verbs:10.8.0.1:7500"

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000;
}

#define WAIT_FOR(cond)                                                                             \
    do {                                                                                           \
        uint64_t give_up = now_us() + PATIENCE_S * 1000000ull;                                     \
        while (!(cond)) {                                                                          \
            CHECK(now_us() < give_up, "waited in vain for: %s", #cond);                            \
            nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);                                \
        }                                                                                          \
    } while (0)

/* --- the site ------------------------------------------------------------------------- */

static pid_t spawn(const char *const *argv)
{
    extern char **environ;
    pid_t pid;
    int rc = posix_spawn(&pid, argv[0], NULL, NULL, (char **)(uintptr_t)argv, environ);
    CHECK(rc == 0, "%s: %s", argv[0], strerror(rc));
    return pid;
}

static void start_node(int node)
{
    char config[80];
    snprintf(config, sizeof config, "%s/site.yaml", dir);
    pids[node] = spawn((const char *[]){program, "-c", config, "--node", names[node], NULL});
}

static void kill_node(int node)
{
    kill(pids[node], SIGKILL);
    waitpid(pids[node], NULL, 0);
    pids[node] = 0;
}

/* Does the node's control socket say this of its shard 0? */
static bool says(int node, const char *what)
{
    static char reply[ROOM];
    char path[80];
    snprintf(path, sizeof path, "%s/%s.sock", dir, names[node]);
    return control_ask(path, "stats", reply, sizeof reply, 5000) == 0 && strstr(reply, what);
}

static void write_site(void)
{
    char path[80];
    snprintf(path, sizeof path, "%s/site.yaml", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "failure_timeout_ms: 2000\nrun_dir: %s\nstore:\n  shards: 1\n  nodes:\n"
            "    - {name: store-a, listen: \"127.0.0.1:7400\", verbs: \"10.8.0.1:7500\"}\n"
            "    - {name: store-b, listen: \"127.0.0.1:7410\", verbs: \"10.8.0.1:7510\"}\n", dir);
    fclose(f);
}

/* --- clients ----------------------------------------------------------------------------- */

static void on_result(void *user, const struct txn_result_head *r)
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
    struct lethe_txn *t = lethe_txn_begin(client, slot_of(&key, sizeof key), on_result, NULL);
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

static int start_site(void **state)
{
    assert_non_null(mkdtemp(dir));
    write_site();
    start_node(0);
    start_node(1);
    WAIT_FOR(says(0, "\"copies\":2"));
    client = open_client(&flows);
    WAIT_FOR(polled() && lethe_ready(client));
    insert_and_wait(1, 100);
    return 0;
}

static int stop_site(void **state)
{
    lethe_client_destroy(client);
    for (int i = 0; i < 2; i++)
        if (pids[i])
            kill_node(i);
    return 0;
}

static bool clients_are(int n)
{
    char text[48];
    snprintf(text, sizeof text, "\"clients_connected\":%d,", n);
    return says(0, text);
}

static void test_the_link_is_by_verbs(void **state)
{
    WAIT_FOR(says(1, "\"primary_by\":\"verbs\""));
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
    kill_node(1);
    insert_and_wait(3000, 20); /* goes on with one copy */
    WAIT_FOR(says(0, "\"copies\":1"));
    start_node(1);
    WAIT_FOR(says(0, "\"copies\":2"));
    test_the_link_is_by_verbs(state);
    insert_and_wait(4000, 20);
}

/* The pair's primary comes back empty and must be told by its operator that this is meant; the
 * client hears of what was under way (STALE_CLIENT, unless it had not left yet), and goes on. */
static void test_a_client_goes_on_with_the_restarted_store(void **state)
{
    char config[80];
    struct lethe_status st;
    kill_node(0);
    insert(5000);
    WAIT_FOR(polled() && (lethe_status(client, &st), st.trouble[0]) && !lethe_ready(client));
    snprintf(config, sizeof config, "%s/site.yaml", dir);
    pids[0] = spawn((const char *[]){program, "-c", config, "--node", names[0], "--accept-loss", NULL});
    WAIT_FOR(polled() && lethe_ready(client) && answered == submitted);
    insert_and_wait(6000, 20);
    lethe_status(client, &st);
    assert_true(st.reconnects >= 1);
    WAIT_FOR(says(0, "\"copies\":2"));
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
