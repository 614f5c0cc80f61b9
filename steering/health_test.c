/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Health: the transition table row by row, then stories in (virtual) time, fed
 * with replies and silence.
 */
#include "tests/check.h"

#include "steering/health.h"

enum { TIMEOUT_US = 400000, ROUND_US = 1000 };

#define ROW(from, event, to) {HEALTH_##from, HEALTH_##event, HEALTH_##to}
static const struct { enum health_state from; enum health_event event; enum health_state to; }
rows[] = {
    ROW(ABSENT, JOINED, WAITING),     ROW(ABSENT, ANSWERED, ABSENT),
    ROW(ABSENT, LEAVE, ABSENT),       ROW(ABSENT, LINK_DOWN, ABSENT),
    ROW(WAITING, ANSWERED, TRIAL),    ROW(WAITING, RESTARTED, TRIAL),
    ROW(WAITING, SILENT, WAITING),    ROW(WAITING, LINK_DOWN, WAITING),
    ROW(WAITING, JOINED, WAITING),    ROW(WAITING, LEAVE, LEAVING),
    ROW(TRIAL, ANSWERED, HEALTHY),    ROW(TRIAL, RESTARTED, TRIAL),
    ROW(TRIAL, SILENT, WAITING),      ROW(TRIAL, LINK_DOWN, WAITING),
    ROW(TRIAL, JOINED, TRIAL),        ROW(TRIAL, LEAVE, LEAVING),
    ROW(HEALTHY, ANSWERED, HEALTHY),  ROW(HEALTHY, RESTARTED, TRIAL),
    ROW(HEALTHY, SILENT, REMOVED),    ROW(HEALTHY, LINK_DOWN, WAITING),
    ROW(HEALTHY, JOINED, HEALTHY),    ROW(HEALTHY, LEAVE, LEAVING),
    ROW(HEALTHY, EXPIRED, HEALTHY),   ROW(REMOVED, ANSWERED, TRIAL),
    ROW(REMOVED, RESTARTED, TRIAL),   ROW(REMOVED, SILENT, REMOVED),
    ROW(REMOVED, LINK_DOWN, WAITING), ROW(REMOVED, JOINED, REMOVED),
    ROW(REMOVED, LEAVE, LEAVING),     ROW(LEAVING, JOINED, WAITING),
    ROW(LEAVING, ANSWERED, LEAVING),  ROW(LEAVING, SILENT, LEAVING),
    ROW(LEAVING, LINK_DOWN, ABSENT),  ROW(LEAVING, EXPIRED, ABSENT),
    ROW(LEAVING, LEAVE, LEAVING),
};

static void transition_rows(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum health_state got = health_step(rows[i].from, rows[i].event);
        CHECK(got == rows[i].to, "%s + %s: %s instead of %s", health_state_text(rows[i].from),
              health_event_text(rows[i].event), health_state_text(got),
              health_state_text(rows[i].to));
    }
}

static void nothing_never_changes_a_state(void **state)
{
    for (int s = 0; s < HEALTH_STATE_END; s++)
        assert_int_equal(health_step((enum health_state)s, HEALTH_NOTHING), s);
}

/* --- a little world: one worker, a clock, replies `delay_us` after a probe ---- */

struct world {
    struct health h;
    struct health_clock clock;
    uint64_t now_us, run_us, probes, answers;
    uint64_t pending_seq[64], pending_at[64], incarnation;
    int pending;
    bool alive, traffic;
    uint64_t delay_us;
    int changes;
};

static void apply(struct world *w, enum health_event e)
{
    w->changes += e != HEALTH_NOTHING && health_apply(&w->h, e, w->run_us);
}

static void deliver(struct world *w)
{
    int left = 0;
    for (int i = 0; i < w->pending; i++) {
        if (w->alive && w->pending_at[i] <= w->now_us) {
            w->answers++;
            apply(w, health_judge(&w->h, w->pending_seq[i], w->incarnation, w->run_us));
        } else {
            w->pending_seq[left] = w->pending_seq[i];
            w->pending_at[left++] = w->pending_at[i];
        }
    }
    w->pending = left;
}

/* One round of a front end's loop, `passed_us` after the last one. */
static void round_after(struct world *w, uint64_t passed_us)
{
    w->now_us += passed_us;
    w->run_us = health_clock_advance(&w->clock, w->now_us);
    deliver(w); /* first what came, then judgement */
    apply(w, health_tick(&w->h, w->run_us));
    if (health_probe_due(&w->h, w->traffic, w->run_us) && w->pending < 64) {
        w->pending_seq[w->pending] = health_probe_sent(&w->h, w->run_us);
        w->pending_at[w->pending++] = w->now_us + w->delay_us;
        w->probes++;
    }
}

static void run(struct world *w, uint64_t us)
{
    for (uint64_t end = w->now_us + us; w->now_us < end;)
        round_after(w, ROUND_US);
}

static struct world healthy_world(void)
{
    struct world w = {.now_us = 5000000, .incarnation = 77, .alive = true, .delay_us = 2000};
    health_init(&w.h, TIMEOUT_US, 1000);
    round_after(&w, ROUND_US);
    apply(&w, HEALTH_JOINED);
    run(&w, TIMEOUT_US);
    CHECK(w.h.state == HEALTH_HEALTHY, "%s", health_state_text(w.h.state));
    w.changes = 0;
    return w;
}

static void probes_are_a_quarter_of_the_timeout_apart(void **state)
{
    struct world w = healthy_world();
    w.probes = 0;
    run(&w, 10 * TIMEOUT_US);
    CHECK(w.probes >= 39 && w.probes <= 40, "%" PRIu64, w.probes);
    w.probes = 0;
    w.traffic = true;
    run(&w, 10 * TIMEOUT_US);
    CHECK(w.probes >= 150 && w.probes <= 160, "under traffic %" PRIu64, w.probes);
}

static void a_slow_worker_stays(void **state)
{
    struct world w = healthy_world();
    w.delay_us = TIMEOUT_US - 30000;
    run(&w, 20 * TIMEOUT_US);
    CHECK(w.changes == 0, "%d changes, now %s", w.changes, health_state_text(w.h.state));
}

static void a_silent_worker_goes_after_the_timeout_and_not_before(void **state)
{
    struct world w = healthy_world();
    w.alive = false;
    uint64_t since = w.now_us;
    while (w.h.state == HEALTH_HEALTHY)
        round_after(&w, ROUND_US);
    assert_int_equal(w.h.state, HEALTH_REMOVED);
    CHECK(w.now_us - since >= TIMEOUT_US * 3 / 4, "after %" PRIu64 " us", w.now_us - since);
    CHECK(w.now_us - since <= TIMEOUT_US * 5 / 4 + 2 * ROUND_US, "after %" PRIu64 " us",
          w.now_us - since);
}

static void a_returned_worker_needs_two_answers(void **state)
{
    struct world w = healthy_world();
    w.alive = false;
    run(&w, 2 * TIMEOUT_US);
    assert_int_equal(w.h.state, HEALTH_REMOVED);
    w.pending = 0; /* what it got meanwhile it discards */
    w.alive = true;
    w.answers = 0;
    while (w.answers < 1)
        round_after(&w, ROUND_US);
    assert_int_equal(w.h.state, HEALTH_TRIAL);
    while (w.answers < 2)
        round_after(&w, ROUND_US);
    assert_int_equal(w.h.state, HEALTH_HEALTHY);
}

/* SIGSTOP of the front end: answers wait in the rings, or are even lost. */
static void a_paused_observer_condemns_nobody(void **state)
{
    for (int lost = 0; lost < 2; lost++) {
        struct world w = healthy_world();
        for (int i = 0; i < 20; i++) {
            run(&w, TIMEOUT_US / 2);
            do /* until a probe is on its way */
                round_after(&w, ROUND_US);
            while (w.pending == 0);
            if (lost)
                w.pending = 0;
            round_after(&w, 30 * (uint64_t)TIMEOUT_US);
        }
        CHECK(w.changes == 0, "lost %d: %d changes, %s", lost, w.changes,
              health_state_text(w.h.state));
    }
}

/* A starved loop, every round 60 ms late, still finds a dead worker. */
static void a_starved_observer_still_finds_the_dead(void **state)
{
    struct world w = healthy_world();
    w.alive = false;
    for (int i = 0; i < 60; i++)
        round_after(&w, 60000);
    assert_int_equal(w.h.state, HEALTH_REMOVED);
}

static void old_and_invented_replies_prove_nothing(void **state)
{
    struct world w = healthy_world();
    w.alive = false;
    uint64_t old = w.h.answered_seq;
    for (int i = 0; i < 2 * TIMEOUT_US / ROUND_US; i++) {
        round_after(&w, ROUND_US);
        assert_int_equal(health_judge(&w.h, old, 77, w.run_us), HEALTH_NOTHING);
        assert_int_equal(health_judge(&w.h, w.h.sent_seq + 1, 77, w.run_us), HEALTH_NOTHING);
    }
    assert_int_equal(w.h.state, HEALTH_REMOVED);
}

static void another_incarnation_starts_over(void **state)
{
    struct world w = healthy_world();
    w.incarnation = 78;
    w.answers = 0;
    while (w.answers < 1)
        round_after(&w, ROUND_US);
    assert_int_equal(w.h.state, HEALTH_TRIAL);
    run(&w, TIMEOUT_US);
    assert_int_equal(w.h.state, HEALTH_HEALTHY);
}

static void link_down_forgets_unanswered_probes(void **state)
{
    struct world w = healthy_world();
    w.alive = false;
    run(&w, TIMEOUT_US / 2);
    apply(&w, HEALTH_LINK_DOWN);
    assert_int_equal(w.h.state, HEALTH_WAITING);
    assert_int_equal(w.h.unanswered_us, 0);
}

static void leaving_ends_by_link_down_or_by_time(void **state)
{
    struct world w = healthy_world();
    apply(&w, HEALTH_LEAVE);
    run(&w, HEALTH_LEAVE_MAX_US - 10 * ROUND_US);
    assert_int_equal(w.h.state, HEALTH_LEAVING);
    run(&w, 20 * ROUND_US);
    assert_int_equal(w.h.state, HEALTH_ABSENT);
    w = healthy_world();
    apply(&w, HEALTH_LEAVE);
    apply(&w, HEALTH_LINK_DOWN);
    assert_int_equal(w.h.state, HEALTH_ABSENT);
}

/* --- members ---------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint64_t healthy, before, present, linked, members;
    bool kept;
} views[] = {
    {"nobody ever", 0, 0, 0, 0, 0, false},
    {"present, never healthy", 0, 0, 7, 7, 0, false},
    {"all healthy", 7, 3, 7, 7, 7, false},
    {"one lost", 5, 7, 7, 5, 5, false},
    {"last one silent", 0, 4, 7, 4, 4, true},
    {"last one's link down", 0, 4, 7, 0, 4, true},
    {"all silent at once", 0, 7, 7, 7, 7, true},
    {"all silent, one link down", 0, 7, 7, 6, 6, true},
    {"last one left for good", 0, 4, 3, 3, 0, false},
    {"another is back", 1, 4, 7, 7, 1, false},
};

static void member_rows(void **state)
{
    for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++) {
        bool kept = !views[i].kept;
        uint64_t got = health_members(views[i].healthy, views[i].before, views[i].present,
                                      views[i].linked, &kept);
        CHECK(got == views[i].members && kept == views[i].kept, "%s: %" PRIx64 " kept %d",
              views[i].name, got, kept);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transition_rows),
        cmocka_unit_test(nothing_never_changes_a_state),
        cmocka_unit_test(probes_are_a_quarter_of_the_timeout_apart),
        cmocka_unit_test(a_slow_worker_stays),
        cmocka_unit_test(a_silent_worker_goes_after_the_timeout_and_not_before),
        cmocka_unit_test(a_returned_worker_needs_two_answers),
        cmocka_unit_test(a_paused_observer_condemns_nobody),
        cmocka_unit_test(a_starved_observer_still_finds_the_dead),
        cmocka_unit_test(old_and_invented_replies_prove_nothing),
        cmocka_unit_test(another_incarnation_starts_over),
        cmocka_unit_test(link_down_forgets_unanswered_probes),
        cmocka_unit_test(leaving_ends_by_link_down_or_by_time),
        cmocka_unit_test(member_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
