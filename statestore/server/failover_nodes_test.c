/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Several nodes in one process, their views in memory: a killed primary's backup
 * serves, a spare takes the empty place, a shard of which nobody is left refuses
 * until an operator accepts that, a drain hands over first.
 */
#include <signal.h>

#include "statestore/server/figures.h"
#include "statestore/server/harness.h"

enum { SHARDS = 2, TIMEOUT_MS = 200 };

static struct embed *cluster;

static void start_cluster(uint32_t nodes, uint32_t copies)
{
    struct embed_config ec = {.shards = SHARDS, .threads = true, .nodes = nodes, .copies = copies,
                              .failure_timeout_ms = TIMEOUT_MS};
    char err[300];
    CHECK(!embed_start(&cluster, &ec, err, sizeof err), "%s", err);
    WAIT_FOR(embed_copies(cluster) == copies);
}

static void restart(uint32_t node, bool accept_loss)
{
    char err[300];
    CHECK(!embed_restart(cluster, node, accept_loss, err, sizeof err), "%s", err);
}

static void open_ready(struct user *u)
{
    user_open(u, SHARDS, embed_dial, cluster);
    WAIT_FOR(user_turn(u) && lethe_ready(u->client));
}

static uint64_t entries(void)
{
    uint64_t n = 0;
    for (uint16_t i = 0; i < SHARDS; i++) {
        struct shard_snapshot s;
        store_snapshot(embed_store(cluster, embed_primary(cluster, i)), i, &s);
        n += s.status.entries;
    }
    return n;
}

/* Of a node that runs. */
static struct shard_snapshot at(uint32_t node, uint16_t shard)
{
    return snapshot_of(embed_store(cluster, node), shard);
}

static void first_views_go_round(void **state)
{
    start_cluster(3, 2);
    assert_int_equal(embed_primary(cluster, 0), 1);
    assert_int_equal(embed_primary(cluster, 1), 2);
    WAIT_FOR(at(2, 0).status.role == SHARD_BACKUP && at(3, 1).status.role == SHARD_BACKUP);
    assert_int_equal(at(1, 0).status.view_epoch, 1);
    embed_stop(cluster);
}

static void a_killed_primary_is_replaced_and_nothing_is_lost(void **state)
{
    struct user u;
    uint64_t key = 1;
    start_cluster(3, 2);
    open_ready(&u);
    for (int round = 0; round < 4; round++) {
        uint32_t victim = embed_primary(cluster, 0);
        user_insert_many(&u, key, 500);
        key += 500;
        for (int i = 0; i < 100; i++) /* in flight when it dies */
            if (user_insert(&u, key))
                key++;
        lethe_flush(u.client);
        embed_kill(cluster, victim);
        user_wait(&u);
        WAIT_FOR(embed_primary(cluster, 0) != victim && embed_primary(cluster, 1) != victim);
        WAIT_FOR(embed_copies(cluster) == 2); /* the spare has taken its place */
        restart(victim, false);
    }
    assert_int_equal(u.ok, key - 1);
    WAIT_FOR(entries() == key - 1);
    lethe_client_destroy(u.client);
    embed_stop(cluster);
}

static void a_restarted_node_joins_empty(void **state)
{
    struct user u;
    start_cluster(2, 2);
    open_ready(&u);
    user_insert_many(&u, 1, 300);
    for (uint32_t node = 1; node <= 2; node++) {
        embed_kill(cluster, node);
        WAIT_FOR(embed_primary(cluster, 0) == 3 - node && embed_primary(cluster, 1) == 3 - node);
        user_insert_many(&u, node * 1000, 300);
        restart(node, false);
        WAIT_FOR(embed_copies(cluster) == 2);
    }
    WAIT_FOR(entries() == 900);
    lethe_client_destroy(u.client);
    embed_stop(cluster);
}

/* Node 1 is the last copy, and dies too. */
static void start_and_lose_both(void)
{
    start_cluster(2, 2);
    embed_kill(cluster, 2);
    WAIT_FOR(at(1, 0).status.copies == 1 && at(1, 1).status.copies == 1);
    embed_kill(cluster, 1);
}

static int accept_at(uint32_t node, uint16_t shard, const uint32_t *fenced, uint32_t n, char *why)
{
    struct views *v = store_views(embed_store(cluster, node));
    return v->ops->accept_loss(v, shard, fenced, n, why, 400);
}

static void nobody_left_is_lost_until_accepted(void **state)
{
    char why[400];
    start_and_lose_both();
    restart(2, false);
    /* Node 1 was the last copy; that it does not run proves nothing. */
    WAIT_FOR(at(2, 0).standing == VIEWS_FOLLOWING);
    assert_int_equal(accept_at(2, 0, NULL, 0, why), -EPERM);
    CHECK(strstr(why, "node-1") && strstr(why, "--fenced node-1"), "%s", why);
    restart(1, false);
    WAIT_FOR(at(1, 0).standing == VIEWS_LOST && at(1, 0).status.role == SHARD_LOST);
    CHECK(strstr(at(1, 0).trouble, "LOST"), "%s", at(1, 0).trouble);
    assert_int_equal(embed_copies(cluster), 0);
    CHECK(!accept_at(2, 0, NULL, 0, why), "%s", why);
    WAIT_FOR(embed_primary(cluster, 0) == 2 && at(2, 0).status.role == SHARD_PRIMARY);
    assert_int_equal(accept_at(1, 1, NULL, 0, why), 0);
    WAIT_FOR(embed_copies(cluster) == 2);
    embed_stop(cluster);
}

static void a_fenced_node_needs_no_proof(void **state)
{
    uint32_t one = 1;
    char why[400];
    start_and_lose_both();
    restart(2, false);
    CHECK(!accept_at(2, 0, &one, 1, why), "%s", why);
    WAIT_FOR(at(2, 0).status.role == SHARD_PRIMARY);
    embed_stop(cluster);
}

static void loss_accepted_at_the_start_serves(void **state)
{
    start_and_lose_both();
    restart(1, true);
    WAIT_FOR(embed_copies(cluster) == 1);
    restart(2, true); /* there is somebody now: it joins as ever */
    WAIT_FOR(embed_copies(cluster) == 2);
    assert_int_equal(embed_primary(cluster, 0), 1);
    embed_stop(cluster);
}

static void a_drain_hands_over_first(void **state)
{
    struct user u;
    start_cluster(3, 2);
    open_ready(&u);
    user_insert_many(&u, 1, 200);
    store_drain(embed_store(cluster, 1));
    WAIT_FOR(user_turn(&u) && store_stopped(embed_store(cluster, 1)));
    /* It was still alive when it was asked: nobody had to find out that it is dead. */
    assert_int_not_equal(embed_primary(cluster, 0), 1);
    assert_int_not_equal(at(1, 0).status.role, SHARD_PRIMARY);
    embed_kill(cluster, 1);
    user_insert_many(&u, 1000, 200);
    WAIT_FOR(entries() == 400 && embed_copies(cluster) == 2);
    lethe_client_destroy(u.client);
    embed_stop(cluster);
}

static bool is_ready(uint32_t node)
{
    char why[300] = "";
    figures_ready(embed_store(cluster, node), why, sizeof why);
    return !why[0];
}

/* As a StatefulSet does: the next one is stopped as soon as the last one says that it is ready. */
static void kill_one_after_another(uint32_t nodes, uint32_t copies, int rounds)
{
    struct user u;
    uint64_t key = 1;
    start_cluster(nodes, copies);
    for (uint32_t node = 1; node <= nodes; node++)
        WAIT_FOR(is_ready(node));
    open_ready(&u);
    for (int round = 0; round < rounds; round++) {
        uint32_t victim = nodes - (uint32_t)round % nodes;
        user_insert_many(&u, key, 100);
        key += 100;
        embed_kill(cluster, victim);
        restart(victim, false);
        WAIT_FOR(is_ready(victim));
    }
    user_insert_many(&u, key, 100);
    WAIT_FOR(entries() == key + 99);
    lethe_client_destroy(u.client);
    embed_stop(cluster);
}

static void who_is_ready_may_be_followed_by_the_next(void **state)
{
    kill_one_after_another(3, 2, 6); /* a spare: ready only when the others' copies are there */
    kill_one_after_another(3, 3, 3);
    kill_one_after_another(2, 2, 2);
}

/* Nobody waits for a copy that nobody can keep. */
static void too_few_nodes_are_ready_all_the_same(void **state)
{
    start_cluster(3, 3);
    embed_kill(cluster, 3);
    WAIT_FOR(is_ready(1) && is_ready(2));
    embed_kill(cluster, 2);
    WAIT_FOR(is_ready(1));
    restart(2, false);
    WAIT_FOR(is_ready(1) && is_ready(2) && embed_copies(cluster) == 2);
    restart(3, false);
    WAIT_FOR(is_ready(1) && is_ready(2) && is_ready(3) && embed_copies(cluster) == 3);
    embed_stop(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_views_go_round),
        cmocka_unit_test(a_killed_primary_is_replaced_and_nothing_is_lost),
        cmocka_unit_test(a_restarted_node_joins_empty),
        cmocka_unit_test(nobody_left_is_lost_until_accepted),
        cmocka_unit_test(a_fenced_node_needs_no_proof),
        cmocka_unit_test(loss_accepted_at_the_start_serves),
        cmocka_unit_test(a_drain_hands_over_first),
        cmocka_unit_test(who_is_ready_may_be_followed_by_the_next),
        cmocka_unit_test(too_few_nodes_are_ready_all_the_same),
    };
    signal(SIGPIPE, SIG_IGN);
    log_init("failover_test", "test",
             getenv("LETHE_TEST_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
