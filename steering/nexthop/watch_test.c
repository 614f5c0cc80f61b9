/* SPDX-License-Identifier: BSD-3-Clause */
/* A made-up router: rounds of 10 ms, next hops that answer or do not. */
#include "tests/check.h"

#include "steering/nexthop/watch.h"

enum { TIMEOUT_US = 400000, ROUND_US = 10000, MS = 1000 };

struct router {
    struct watch w;
    uint64_t now_us, asked[WATCH_MAX];
    unsigned answering;        /* bits */
    unsigned changes;
};

static void begin(struct router *r, unsigned n, unsigned answering)
{
    memset(r, 0, sizeof *r);
    r->now_us = 5000000;
    r->answering = answering;
    watch_init(&r->w, n, TIMEOUT_US, 1000);
}

/* One round: answers to what was asked in the round before, time, probes. */
static void go_round(struct router *r, uint64_t passed_us)
{
    r->now_us += passed_us;
    for (unsigned i = 0; i < r->w.n; i++)
        if (r->asked[i] && r->answering >> i & 1) {
            assert_true(watch_answered(&r->w, i, r->asked[i]));
            assert_false(watch_answered(&r->w, i, r->asked[i])); /* said twice */
            r->asked[i] = 0;
        }
    r->changes += watch_tick(&r->w, r->now_us);
    assert_true(r->w.members != 0);
    for (unsigned i = 0; i < r->w.n; i++)
        watch_due(&r->w, i, &r->asked[i]);
}

/* How long until the members are `wanted`, in ms; it fails after five time-outs. */
static unsigned until(struct router *r, uint64_t wanted)
{
    uint64_t began_us = r->now_us;
    while (r->w.members != wanted || !r->w.settled) {
        CHECK(r->now_us - began_us < 5 * TIMEOUT_US, "%lx never became %lx", r->w.members, wanted);
        go_round(r, ROUND_US);
    }
    return (unsigned)((r->now_us - began_us) / MS);
}

static void go_on(struct router *r, unsigned ms)
{
    for (uint64_t end_us = r->now_us + ms * MS; r->now_us < end_us;)
        go_round(r, ROUND_US);
}

static void who_falls_silent_is_withdrawn_and_comes_back(void **state)
{
    struct router r;
    begin(&r, 2, 3);
    until(&r, 3);
    for (unsigned i = 0; i < 2; i++) {
        r.answering = 1u << i;
        unsigned ms = until(&r, 1u << i);
        CHECK(ms >= 300 && ms <= 520, "withdrawn after %u ms", ms); /* a time-out after a probe */
        r.answering = 3;
        ms = until(&r, 3);
        CHECK(ms >= 100 && ms <= 320, "back after %u ms", ms);      /* two answers */
    }
}

static void nothing_is_decided_before_it_is_known(void **state)
{
    struct router r;
    begin(&r, 3, 7);
    go_round(&r, ROUND_US);
    assert_false(r.w.settled);
    unsigned ms = until(&r, 7);
    CHECK(ms < 300, "all answer, and it took %u ms", ms);
    assert_int_equal(r.changes, 1);
    begin(&r, 3, 5); /* one is dead from the beginning */
    ms = until(&r, 5);
    CHECK(ms >= 390 && ms <= 420, "settled after %u ms", ms);
    assert_int_equal(r.changes, 1);
}

static void the_last_ones_stay(void **state)
{
    struct router r;
    begin(&r, 2, 3);
    until(&r, 3);
    r.answering = 2;
    until(&r, 2);
    r.answering = 0;
    go_on(&r, 3000);
    assert_int_equal(r.w.members, 2);
    assert_true(r.w.kept);
    r.answering = 1; /* the other one comes first */
    until(&r, 1);
    assert_false(r.w.kept);
    begin(&r, 2, 0); /* nobody ever answered: as configured */
    go_on(&r, 3000);
    assert_true(r.w.settled && r.w.kept);
    assert_int_equal(r.w.members, 3);
}

static void a_stopped_observer_condemns_nobody(void **state)
{
    struct router r;
    begin(&r, 2, 3);
    until(&r, 3);
    unsigned changes = r.changes;
    for (int i = 0; i < 5; i++) {
        go_round(&r, 10 * TIMEOUT_US); /* SIGSTOP; the answers are in the socket */
        go_on(&r, 50);
    }
    assert_int_equal(r.changes, changes);
}

static void old_and_invented_answers_prove_nothing(void **state)
{
    struct router r;
    begin(&r, 2, 3);
    until(&r, 3);
    r.answering = 1;
    for (uint64_t end_us = r.now_us + 2 * TIMEOUT_US; r.now_us < end_us; go_round(&r, ROUND_US)) {
        assert_false(watch_answered(&r.w, 1, 1001));
        assert_false(watch_answered(&r.w, 1, r.asked[1] + 1000));
    }
    assert_int_equal(r.w.members, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_falls_silent_is_withdrawn_and_comes_back),
        cmocka_unit_test(nothing_is_decided_before_it_is_known),
        cmocka_unit_test(the_last_ones_stay),
        cmocka_unit_test(a_stopped_observer_condemns_nobody),
        cmocka_unit_test(old_and_invented_answers_prove_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
