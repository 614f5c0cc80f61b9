/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fail-over of a store whose nodes replicate by verbs, as real processes under a client's
 * writes that never stop:
 *
 *     failover_verbs_test LETHE_STORE
 *
 *   etcd ── views of two shards ── store-a, store-b, store-c     copies: 2
 *   this program: a client by verbs, of all three
 *
 * A primary is paused, replaced, and goes on: what it still writes goes nowhere, and it counts
 * that itself. Primary and backup are killed; a backup is paused; slots move. After each, of
 * every write that was acknowledged there is one, and the members of a shard hold the same.
 * Runs where there is RDMA: in the machine of vm.sh, on 10.8.0.1.
 */
#include "statestore/server/etcd_test_support.h"
#include "common/wire/verbs/verbs.h"
#include "tests/rdma/nodes.h"

enum { NODES = 3, SHARDS = 2, LOAD = 8, PACE_US = 2000, LOOK_US = 50000, MOVED = 16, ROUNDS = 5 };

static const char *program;
static struct nodes nodes;
static struct real_etcd etcd;
static struct user user;
static uint64_t next_key = 1;
static bool paused[NODES];

/* --- load ----------------------------------------------------------------------------- */

static bool load(uint32_t outstanding)
{
    while (user.outstanding < outstanding && user_insert(&user, next_key))
        next_key++;
    lethe_flush(user.client);
    return user_turn(&user);
}

/* Paced, for two slow CPUs carry it all; and asking costs the nodes more than the load does. */
#define WAIT_UNDER_LOAD(cond)                                                                      \
    do {                                                                                           \
        uint64_t give_up = now_us() + PATIENCE_US, look = 0;                                       \
        while (load(LOAD) && (now_us() < look || !(cond))) {                                       \
            look = now_us() < look ? look : now_us() + LOOK_US;                                    \
            CHECK(now_us() < give_up, "waited in vain for: %s", #cond);                            \
            usleep(PACE_US);                                                                       \
        }                                                                                          \
    } while (0)

static bool goes_on(uint32_t *since)
{
    return user.ok >= *since + 4 * LOAD;
}


/* --- the site ------------------------------------------------------------------------- */

static void pause_node(int node)
{
    kill(nodes.pid[node], SIGSTOP);
    paused[node] = true;
}

static void continue_node(int node)
{
    kill(nodes.pid[node], SIGCONT);
    paused[node] = false;
}

static bool is(int node, int shard, const char *role)
{
    return nodes.pid[node] && !paused[node] && node_says(&nodes, node, shard, "role", role);
}

/* The node whose replica of the newest epoch has that role; -1: none. A deposed one that has not
 * heard of it yet has an older one. */
static int which(int shard, const char *role)
{
    int found = -1;
    int64_t newest = 0;
    for (int i = 0; i < NODES; i++) {
        int64_t epoch = is(i, shard, role) ? node_number(&nodes, i, shard, "view_epoch") : 0;
        if (epoch > newest) {
            newest = epoch;
            found = i;
        }
    }
    return found;
}

static bool serves(int node, int shard)
{
    return node >= 0 && is(node, shard, "primary") && node_says(&nodes, node, shard, "collecting", "");
}

/* By whoever runs; the machine is slow, so there may be a fail-over that no test asked for. */
static bool is_served(int shard)
{
    return serves(which(shard, "primary"), shard);
}

static int64_t epoch(int shard)
{
    int p = which(shard, "primary");
    return p < 0 ? 0 : node_number(&nodes, p, shard, "view_epoch");
}

/* Each shard is served, has two copies, and the backup's link is by verbs. */
static bool is_whole(void)
{
    for (int s = 0; s < SHARDS; s++) {
        int p = which(s, "primary"), b = which(s, "backup");
        if (!serves(p, s) || b < 0 || node_number(&nodes, p, s, "copies") != 2 ||
            !node_is_linked(&nodes, b, s))
            return false;
    }
    return true;
}

static bool same(int shard)
{
    char digest[2][20] = {"", "-"};
    int64_t position[2] = {0};
    int who[2] = {which(shard, "primary"), which(shard, "backup")};
    for (int i = 0; i < 2; i++) {
        const char *text = who[i] < 0 ? NULL
                           : json_string_value(node_told(&nodes, who[i], shard, "digest"));
        if (!text)
            return false;
        snprintf(digest[i], sizeof digest[i], "%s", text);
        position[i] = node_number(&nodes, who[i], shard, "position");
    }
    return position[0] == position[1] && !strcmp(digest[0], digest[1]);
}

static int64_t entries(void)
{
    int64_t n = 0;
    for (int s = 0; s < SHARDS; s++)
        n += node_number(&nodes, which(s, "primary"), s, "entries");
    return n;
}

static void writes_go_on(void)
{
    uint32_t since = user.ok;
    WAIT_UNDER_LOAD(goes_on(&since));
}

static void begin_whole(void)
{
    WAIT_UNDER_LOAD(is_whole());
    writes_go_on();
}

/* Nothing that was acknowledged is lost, nothing was done twice, all copies are the same. */
static void expect_everything_once(void)
{
    WAIT_UNDER_LOAD(is_whole());
    WAIT_FOR(load(0) && user.outstanding == 0);
    assert_int_equal(user.other + user.stale, 0);
    assert_int_equal(user.ok, next_key - 1);
    /* what the nodes told last may be older than the last acknowledgement */
    WAIT_FOR(entries() == user.ok);
    for (int s = 0; s < SHARDS; s++)
        WAIT_FOR(same(s));
    assert_int_equal(entries(), user.ok);
    for (int i = 0; i < NODES; i++)
        for (int s = 0; s < SHARDS; s++)
            WAIT_FOR(node_number(&nodes, i, s, "drifts") == 0); /* -1 of one that starts */
}

/* --- tests ---------------------------------------------------------------------------- */

static int start_site(void **state)
{
    etcd_begin(&etcd);
    nodes_begin(&nodes, program, NODES, SHARDS, etcd.client);
    for (int i = 0; i < NODES; i++)
        node_start(&nodes, i, NULL);
    WAIT_FOR(is_whole());
    user_create(&user, &(struct lethe_config){.shards = SHARDS, .window = 512, .retry_ms = 1000,
                                              .silence_ms = 4000,
                                              .verbs = &transport_verbs,
                                              .address = "verbs:10.8.0.1:7500,verbs:10.8.0.1:7510,"
                                                         "verbs:10.8.0.1:7520"});
    WAIT_FOR(user_turn(&user) && lethe_ready(user.client));
    return 0;
}

static int stop_site(void **state)
{
    lethe_client_destroy(user.client);
    nodes_end(&nodes);
    etcd_end(&etcd);
    return 0;
}

static bool takes(int node, const char *order)
{
    json_t *said = node >= 0 ? node_ask(&nodes, node, order) : NULL;
    bool taken = said && !json_object_get(said, "error");
    json_decref(said);
    return taken;
}

/* The primaries of the two shards are on two nodes; if not, one is asked to go. */
static bool lives_apart(void)
{
    int a = which(0, "primary"), b = which(1, "primary");
    if (!is_whole() || a != b)
        return a >= 0 && b >= 0 && a != b;
    takes(b, "hand-over 1");
    return false;
}

static int64_t slots_of(int shard)
{
    int p = which(shard, "primary");
    return p < 0 ? 0 : node_number(&nodes, p, shard, "slots_owned");
}

static void test_slots_move_over_verbs(void **state)
{
    char order[40];
    begin_whole();
    WAIT_UNDER_LOAD(lives_apart());
    int from = which(0, "primary");
    snprintf(order, sizeof order, "move 0-%d 1", MOVED - 1);
    WAIT_UNDER_LOAD(takes(from, order));
    WAIT_UNDER_LOAD(node_says(&nodes, from, 0, "moves_by", "verbs"));
    WAIT_UNDER_LOAD(slots_of(1) == LETHE_SLOTS / SHARDS + MOVED);
    writes_go_on();
    expect_everything_once();
}

/* True: it wrote before it knew. It may hear of its successor first. */
static bool late_writes_are_counted(void)
{
    begin_whole();
    int old = which(0, "primary");
    int64_t fences[NODES];
    for (int i = 0; i < NODES; i++)
        fences[i] = node_number(&nodes, i, 0, "fences");
    int64_t lost = node_number(&nodes, old, 0, "writes_lost");
    pause_node(old);
    load(2 * LOAD); /* what it finds when it goes on */
    WAIT_UNDER_LOAD(is_served(0));
    int next = which(0, "primary");
    WAIT_UNDER_LOAD(node_number(&nodes, next, 0, "fences") > fences[next]);
    writes_go_on();
    continue_node(old);
    WAIT_UNDER_LOAD(!is(old, 0, "primary") && node_number(&nodes, old, 0, "replicas_connected") == 0);
    expect_everything_once();
    return node_number(&nodes, old, 0, "writes_lost") > lost;
}

static void test_a_deposed_primarys_late_writes_go_nowhere(void **state)
{
    int round = 0;
    while (!late_writes_are_counted())
        CHECK(++round < ROUNDS, "no late write came to nothing: did they land?");
}

static void test_a_killed_primary_is_replaced(void **state)
{
    begin_whole();
    int old = which(0, "primary");
    node_kill(&nodes, old);
    WAIT_UNDER_LOAD(is_served(0));
    node_start(&nodes, old, NULL);
    expect_everything_once();
}

static void test_a_killed_backup_is_replaced(void **state)
{
    begin_whole();
    int backup = which(0, "backup");
    int64_t before = epoch(0);
    node_kill(&nodes, backup);
    WAIT_UNDER_LOAD(epoch(0) > before);
    node_start(&nodes, backup, NULL);
    expect_everything_once();
}

static void test_a_paused_backup_is_replaced(void **state)
{
    begin_whole();
    int backup = which(0, "backup");
    int64_t before = epoch(0);
    pause_node(backup);
    WAIT_UNDER_LOAD(epoch(0) > before);
    writes_go_on();
    continue_node(backup);
    expect_everything_once();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots_move_over_verbs),
        cmocka_unit_test(test_a_deposed_primarys_late_writes_go_nowhere),
        cmocka_unit_test(test_a_killed_primary_is_replaced),
        cmocka_unit_test(test_a_killed_backup_is_replaced),
        cmocka_unit_test(test_a_paused_backup_is_replaced),
    };
    if (argc < 2) {
        fprintf(stderr, "usage: failover_verbs_test LETHE_STORE\n");
        return 2;
    }
    program = argv[1];
    return cmocka_run_group_tests(tests, start_site, stop_site);
}
