/* SPDX-License-Identifier: BSD-3-Clause */
/* Autoscaling over load curves in virtual time: it follows, it rests, it keeps its bounds. */
#include "tests/check.h"

#include "orchestrator/core/autoscale.h"

enum { STEP_MS = 250, READY_MS = 1500 };

struct world {
    struct orch_group g;
    struct orch_scaler s;
    struct orch_decision last;
    uint64_t now_ms, changed_ms;
    uint32_t ready, changes;
    bool known;
    uint32_t queue, drops;
};

static void begin(struct world *w)
{
    *w = (struct world){.g = {.name = "nf", .replicas = 1, .min = 1, .max = 6,
                              .autoscale = {true, 700, 300, 512, 1, 2000, 30000, 5000}},
                        .now_ms = 5000, .ready = 1, .known = true};
}

/* `load`: permille of one worker that all of the work is. */
static void run(struct world *w, uint32_t load, uint32_t ms)
{
    for (uint64_t end = w->now_ms + ms; w->now_ms < end; w->now_ms += STEP_MS) {
        if (w->now_ms - w->changed_ms >= READY_MS || w->ready > w->g.replicas)
            w->ready = w->g.replicas;
        uint32_t busy = w->ready ? load / w->ready : 0;
        struct orch_load l = {.ready = w->ready, .known = w->known ? w->ready : 0,
                              .busy_permille = busy < 1000 ? busy : 1000, .queue_most = w->queue,
                              .drops_pps = w->drops};
        orch_autoscale(&w->s, &w->g, &l, w->now_ms, &w->last);
        assert_true(w->last.why[0]);
        if (!w->last.change) {
            assert_int_equal(w->last.replicas, w->g.replicas);
            continue;
        }
        CHECK(w->last.replicas != w->g.replicas, "a change to the same: %s", w->last.why);
        CHECK(w->last.replicas >= w->g.min && w->last.replicas <= w->g.max, "out of bounds: %u",
              w->last.replicas);
        CHECK(w->last.replicas + 1 >= w->g.replicas && w->last.replicas <= 2 * w->g.replicas,
              "from %u to %u", w->g.replicas, w->last.replicas);
        CHECK(!w->changes || w->now_ms - w->changed_ms >= w->g.autoscale.cooldown_ms, "no cool-down");
        w->g.replicas = w->last.replicas;
        w->changed_ms = w->now_ms;
        w->changes++;
    }
}

static void it_follows_a_load_up_and_down_again(void **state)
{
    struct world w;
    begin(&w);
    run(&w, 200, 60000);
    assert_int_equal(w.g.replicas, 1);
    run(&w, 2000, 60000);
    CHECK(w.g.replicas == 4, "%u workers for 2000 permille: %s", w.g.replicas, w.last.why);
    uint32_t changes = w.changes;
    run(&w, 2000, 600000);
    CHECK(w.changes == changes, "it does not rest: %s", w.last.why);
    run(&w, 100, 200000);
    CHECK(w.g.replicas == 1, "%u workers for 100 permille: %s", w.g.replicas, w.last.why);
}

static void no_load_makes_it_swing(void **state)
{
    for (uint32_t load = 0; load <= 14000; load += 50) {
        struct world w;
        begin(&w);
        if (load > 7000) /* marks so close that one worker less is often too few */
            w.g.autoscale.busy_low_permille = 650;
        run(&w, load % 7000, 300000);
        uint32_t changes = w.changes;
        run(&w, load % 7000, 600000);
        CHECK(w.changes == changes, "at load %u it changes still: %s", load, w.last.why);
        CHECK(w.g.replicas == 6 || load % 7000 / w.g.replicas <= 700, "load %u and %u workers", load, w.g.replicas);
    }
}

static void a_short_peak_is_let_pass(void **state)
{
    struct world w;
    begin(&w);
    for (int i = 0; i < 20; i++) {
        run(&w, 900, 1500);
        run(&w, 400, 1500);
    }
    assert_int_equal(w.changes, 0);
}

static void queues_and_drops_make_it_grow(void **state)
{
    struct world w;
    begin(&w);
    w.queue = 600;
    run(&w, 400, 4000);
    assert_int_equal(w.g.replicas, 2);
    assert_non_null(strstr(w.last.why, "cool-down"));
    begin(&w);
    w.drops = 50;
    run(&w, 400, 4000);
    assert_int_equal(w.g.replicas, 2);
}

static void it_does_nothing_in_the_dark(void **state)
{
    struct world w;
    begin(&w);
    w.known = false;
    run(&w, 5000, 60000);
    assert_int_equal(w.changes, 0);
    assert_non_null(strstr(w.last.why, "not known"));
    begin(&w);
    w.g.autoscale.enabled = false;
    run(&w, 5000, 60000);
    assert_int_equal(w.changes, 0);
}

static void what_others_change_starts_its_cool_down(void **state)
{
    struct world w;
    begin(&w);
    run(&w, 400, 10000);
    w.g.replicas = 3; /* by hand */
    w.changed_ms = w.now_ms;
    run(&w, 2500, 4750);
    assert_int_equal(w.g.replicas, 3);
    run(&w, 2500, 10000);
    assert_true(w.g.replicas > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_follows_a_load_up_and_down_again),
        cmocka_unit_test(no_load_makes_it_swing),
        cmocka_unit_test(a_short_peak_is_let_pass),
        cmocka_unit_test(queues_and_drops_make_it_grow),
        cmocka_unit_test(it_does_nothing_in_the_dark),
        cmocka_unit_test(what_others_change_starts_its_cool_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
