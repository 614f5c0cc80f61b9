/* SPDX-License-Identifier: BSD-3-Clause */
/* Markers at the worker: both must come, nothing that came before may be left, lost
 * ones are returned again, old ones are not. */
#include "nf/runtime/scripted_bench.h"

#include "nf/worker/marker.h"

static struct marker m;

static bool came(uint64_t seq, unsigned side)
{
    return marker_came(&m, &(struct probe){.kind = PROBE_MARKER, .seq = seq, .side = side, .worker = 7});
}

static int start(void **state)
{
    bench_start(1, 0, 0);
    m = (struct marker){0};
    return 0;
}

static int stop(void **state)
{
    bench_stop();
    return 0;
}

static void it_waits_for_both_and_for_what_came_before(void **state)
{
    bench_one(1, "w", 5);
    assert_int_equal(marker_due(&m, b->e), 0);
    assert_true(came(100, 0));
    bench_turn();
    assert_int_equal(marker_due(&m, b->e), 0);
    bench_one(2, "w", 6); /* behind one, before the other */
    assert_true(came(100, 1));
    bench_turn();
    assert_int_equal(b->left, 1);
    assert_int_equal(marker_due(&m, b->e), 0);
    bench_one(3, "w", 7);
    bench_turn();
    assert_int_equal(b->left, 2);
    assert_int_equal(marker_due(&m, b->e), 3);
    assert_int_equal(marker_due(&m, b->e), 0);
    bench_finish();
}

static void one_sent_again_is_returned_again_on_its_side(void **state)
{
    came(100, 0);
    came(100, 0);
    assert_int_equal(marker_due(&m, b->e), 0);
    came(100, 1);
    assert_int_equal(marker_due(&m, b->e), 3);
    bench_one(1, "w", 5); /* of the next time: it need not wait for that */
    came(100, 1);
    assert_int_equal(marker_due(&m, b->e), 2);
    came(100, 0);
    assert_int_equal(marker_due(&m, b->e), 1);
    bench_finish();
}

static void a_newer_one_takes_the_place_of_an_older(void **state)
{
    bench_one(1, "w", 5);
    came(100, 0);
    came(100, 1);
    assert_int_equal(marker_due(&m, b->e), 0);
    came(101, 1);
    assert_false(came(100, 0));
    bench_finish();
    assert_int_equal(marker_due(&m, b->e), 0);
    came(101, 0);
    assert_int_equal(marker_due(&m, b->e), 3);
    assert_false(came(100, 0));
    assert_int_equal(marker_due(&m, b->e), 0);
}

static void what_was_discarded_is_not_waited_for(void **state)
{
    struct bench_packet *q = bench_one(1, "w", 5);
    came(100, 0);
    came(100, 1);
    assert_int_equal(marker_due(&m, b->e), 0);
    engine_discard_all(b->e, ENGINE_DROP_AWAY);
    assert_string_equal(bench_reason(q), "held_too_long");
    assert_int_equal(marker_due(&m, b->e), 3);
}

static void the_reply_names_its_side_and_who_sends_it(void **state)
{
    assert_false(came(100, 2));
    came(100, 1);
    struct probe p = marker_reply(&m, 0, 42);
    assert_int_equal(p.kind, PROBE_RETURNED);
    assert_int_equal(p.side, 0);
    assert_int_equal(p.seq, 100);
    assert_int_equal(p.worker, 7);
    assert_int_equal(p.incarnation, 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_waits_for_both_and_for_what_came_before, start, stop),
        cmocka_unit_test_setup_teardown(one_sent_again_is_returned_again_on_its_side, start, stop),
        cmocka_unit_test_setup_teardown(a_newer_one_takes_the_place_of_an_older, start, stop),
        cmocka_unit_test_setup_teardown(what_was_discarded_is_not_waited_for, start, stop),
        cmocka_unit_test_setup_teardown(the_reply_names_its_side_and_who_sends_it, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
