/* SPDX-License-Identifier: BSD-3-Clause */
/* Barriers: passed when, and not before, every packet that came before has left.
 * The oracle looks at each of those packets. */
#include "nf/runtime/scripted_bench.h"

#include "nf/runtime/internal.h"

enum { OUTSTANDING = 12, SEEDS = 12, PACKETS = 1500 };

struct watched { uint32_t number; int before; }; /* before: packets made so far */

static bool all_left(int before)
{
    for (int i = 0; i < before; i++)
        if (b->packets[i].state == 0)
            return false;
    return true;
}

static void an_empty_engine_has_passed_it(void **state)
{
    bench_start(1, 0, 0);
    for (int i = 0; i < 3 * ENGINE_BARRIERS; i++)
        assert_true(engine_barrier_passed(b->e, engine_barrier(b->e)));
    bench_stop();
}

static void later_packets_are_not_waited_for(void **state)
{
    bench_start(1, 0, 0);
    bench_one(1, "w", 5); /* two round trips */
    uint32_t barrier = engine_barrier(b->e);
    bench_turn();
    assert_false(engine_barrier_passed(b->e, barrier));
    bench_one(2, "w", 6);
    bench_turn();
    assert_int_equal(engine_in_flight(b->e), 1);
    assert_true(engine_barrier_passed(b->e, barrier));
    bench_finish();
    assert_true(engine_barrier_passed(b->e, barrier));
    bench_stop();
}

static void discarding_passes_it(void **state)
{
    bench_start(1, 0, 0);
    struct bench_packet *q = bench_one(1, "w", 5);
    uint32_t barrier = engine_barrier(b->e);
    assert_false(engine_barrier_passed(b->e, barrier));
    engine_discard_all(b->e, ENGINE_DROP_AWAY);
    assert_string_equal(bench_reason(q), "held_too_long");
    assert_true(engine_barrier_passed(b->e, barrier));
    bench_stop();
}

/* Beyond what is kept apart they are late, never early, and pass in the end. */
static void many_at_once_are_never_early(void **state)
{
    uint32_t barriers[3 * ENGINE_BARRIERS];
    bench_start(1, 0, 0);
    for (int i = 0; i < 3 * ENGINE_BARRIERS; i++) {
        bench_one((uint16_t)i, "w", (uint32_t)i);
        barriers[i] = engine_barrier(b->e);
        assert_false(engine_barrier_passed(b->e, barriers[i]));
    }
    bench_turn();
    for (int i = 0; i < 3 * ENGINE_BARRIERS; i++)
        assert_false(engine_barrier_passed(b->e, barriers[i]));
    bench_finish();
    for (int i = 0; i < 3 * ENGINE_BARRIERS; i++)
        assert_true(engine_barrier_passed(b->e, barriers[i]));
    bench_stop();
}

static uint64_t chance;

static void some_packets(void)
{
    static const char *const orders[] = {"r-", "w-", "wa", "xw", "-a", "m-", "p-", "ww"};
    int from = b->npackets, n = (int)(scripted_random(&chance) % 8);
    enum packet_side side = scripted_random(&chance) % 4 == 0;
    for (int i = 0; i < n && i < (int)engine_room(b->e); i++) {
        uint16_t flow = (uint16_t)(scripted_random(&chance) % 6);
        bench_packet(flow, orders[scripted_random(&chance) % 8], flow * 8u, side);
    }
    if (b->npackets > from)
        bench_send(from);
}

static void as_the_oracle_says(uint64_t seed)
{
    struct watched w[OUTSTANDING];
    int n = 0, passed = 0, waited = 0;
    bench_start(2, 100, 40);
    chance = seed;
    b->store.shuffle = seed ^ 0x5555;
    while (b->npackets < PACKETS) {
        some_packets();
        if (n < OUTSTANDING && scripted_random(&chance) % 2)
            w[n++] = (struct watched){engine_barrier(b->e), b->npackets};
        b->store.deliver = (int)(scripted_random(&chance) % 6);
        b->store.room = b->store.nqueue + (int)(scripted_random(&chance) % 6);
        bench_turn();
        if (scripted_random(&chance) % 200 == 0)
            engine_discard_all(b->e, ENGINE_DROP_AWAY);
        for (int i = 0; i < n; i++) {
            bool is = engine_barrier_passed(b->e, w[i].number);
            CHECK(is == all_left(w[i].before), "seed %" PRIu64 ": barrier %u after %d packets: %d",
                  seed, w[i].number, w[i].before, is);
            waited += !is;
            if (is)
                passed++, w[i--] = w[--n];
        }
    }
    CHECK(passed > 20 && waited > 20, "seed %" PRIu64 ": %d passed, %d waited", seed, passed, waited);
    b->store.room = b->store.deliver = SCRIPTED_QUEUE;
    bench_finish();
    bench_stop();
}

static void random_traffic_is_as_the_oracle_says(void **state)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        as_the_oracle_says(seed * 7919);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_engine_has_passed_it),
        cmocka_unit_test(later_packets_are_not_waited_for),
        cmocka_unit_test(discarding_passes_it),
        cmocka_unit_test(many_at_once_are_never_early),
        cmocka_unit_test(random_traffic_is_as_the_oracle_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
