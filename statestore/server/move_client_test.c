/* SPDX-License-Identifier: BSD-3-Clause */
/* A client of a real store of two shards while hash slots move between them: it
 * follows MOVED, nothing is lost, nothing is executed twice. */
#include <signal.h>

#include "statestore/server/harness.h"

enum { KEYS = 6000, FIRST = 0, LAST = 63 };

/* All of FIRST..LAST belong to this shard, as both shards say. */
static bool moved_to(struct store *s, uint16_t shard)
{
    struct msg_map m;
    for (uint16_t by = 0; by < 2; by++) {
        if (store_map(s, by, &m))
            return false;
        for (int slot = FIRST; slot <= LAST; slot++)
            if (!m.slots[slot].known || m.slots[slot].shard != shard)
                return false;
    }
    return true;
}

static uint64_t entries(struct store *s)
{
    return snapshot_of(s, 0).status.entries + snapshot_of(s, 1).status.entries;
}

static void slots_move_under_a_writing_client(void **state)
{
    struct store_config config = store_of(2);
    struct store *s = start(&config);
    struct user u, late;
    struct lethe_status st;
    uint64_t key = 1;
    user_open(&u, 2, dial_store, &s);
    user_open(&late, 2, dial_store, &s);
    WAIT_FOR(user_turn(&u) && user_turn(&late) && lethe_ready(u.client) && lethe_ready(late.client));
    user_insert_many(&u, key, KEYS);
    key += KEYS;
    for (uint16_t to = 1; to != UINT16_MAX; to--) { /* there, and back again */
        struct shard_order order = {.kind = SHARD_ORDER_MOVE, .first = FIRST, .last = LAST, .to = to};
        char why[ORDER_SENTENCE];
        assert_int_equal(store_order(s, !to, &order, why), 0);
        uint64_t give_up = now_us() + PATIENCE_US;
        for (bool there = false; !there || u.outstanding;) {
            there = there || moved_to(s, to);
            CHECK(now_us() < give_up, "the slots did not move to shard %u, or %u answers are missing",
                  to, u.outstanding);
            for (int i = 0; i < 8 && !there && user_insert(&u, key); i++)
                key++;
            lethe_flush(u.client);
            user_turn(&u);
        }
    }
    lethe_status(u.client, &st);
    CHECK(u.ok == key - 1 && !u.other && !u.stale, "%u of %lu inserted, %u otherwise", u.ok, key - 1,
          u.other);
    CHECK(st.moved > 0, "nothing was told MOVED");
    /* One that knows of nothing: its map is of the time before. */
    for (uint64_t i = 1; i < key; i += 7) {
        while (!user_insert(&late, i)) {
            lethe_flush(late.client);
            user_turn(&late);
        }
    }
    user_wait(&late);
    assert_int_equal(late.ok, 0);
    assert_int_equal(late.other, (key - 2) / 7 + 1); /* each was there, found where it is now */
    WAIT_FOR(entries(s) == key - 1);
    lethe_client_destroy(u.client);
    lethe_client_destroy(late.client);
    store_stop(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(slots_move_under_a_writing_client)};
    signal(SIGPIPE, SIG_IGN);
    log_init("move_client_test", "", LOG_LEVEL_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
