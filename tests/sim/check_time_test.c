/* SPDX-License-Identifier: BSD-3-Clause */
/* Stories for check_pool and check_timers: allocations, quarantine (300 ms),
 * idle time-outs (1000 ms). */
#include "handmade.h"

static const struct story pool_stories[] = {
    {"freed, rested, given out again", "",
     {{1, 2, HIST_OK, {INSERT(KEY_PORT, 5)}},
      {10, 11, HIST_OK, {REMOVE(KEY_PORT, 5)}},
      {400, 401, HIST_OK, {INSERT(KEY_PORT, 9)}}}},
    {"given out twice", "allocation",
     {{1, 2, HIST_OK, {INSERT(KEY_PORT, 5)}}, {400, 401, HIST_OK, {INSERT(KEY_PORT, 9)}}}},
    {"the free was refused", "allocation",
     {{1, 2, HIST_OK, {INSERT(KEY_PORT, 5)}},
      {10, 11, HIST_REFUSED, {REMOVE(KEY_PORT, 5)}},
      {400, 401, HIST_OK, {INSERT(KEY_PORT, 9)}}}},
    {"given out in quarantine", "quarantine",
     {{1, 2, HIST_OK, {INSERT(KEY_PORT, 5)}},
      {10, 11, HIST_OK, {REMOVE(KEY_PORT, 5)}},
      {200, 201, HIST_OK, {INSERT(KEY_PORT, 9)}}}},
    {"an unknown allocation was in quarantine", "quarantine",
     {{1, 2, HIST_OK, {INSERT(KEY_PORT, 5)}},
      {10, 11, HIST_OK, {REMOVE(KEY_PORT, 5)}},
      {200, NEVER, HIST_UNKNOWN, {{.what = HIST_WRITE, .key = KEY_PORT}}},
      {220, 221, HIST_OK, {SEE_TOKEN(KEY_PORT, 9, TOKEN(2, 0))}}}},
    {"its owner let it go", "",
     {{1, 2, HIST_OK, {{.what = HIST_WRITE, .key = KEY_PORT, .version = 5, .owned = 1}}},
      {400, 401, HIST_OK, {INSERT(KEY_PORT, 9)}}}},
    {"its owner was just seen", "quarantine",
     {{1, 2, HIST_OK, {{.what = HIST_WRITE, .key = KEY_PORT, .version = 5, .owned = 1}}},
      {300, 301, HIST_OK, {SEE(KEY_PORT, 5)}},
      {400, 401, HIST_OK, {INSERT(KEY_PORT, 9)}}}},
};

static const struct story timer_stories[] = {
    {"absent after its time-out", "",
     {{1, 2, HIST_OK, {INSERT(KEY_IDLE, 5)}}, {1001, 1002, HIST_OK, {ABSENT(KEY_IDLE)}}}},
    {"absent before it", "timer-early",
     {{1, 2, HIST_OK, {INSERT(KEY_IDLE, 5)}}, {900, 901, HIST_OK, {ABSENT(KEY_IDLE)}}}},
    {"absent although touched", "timer-early",
     {{1, 2, HIST_OK, {INSERT(KEY_IDLE, 5)}},
      {800, 801, HIST_OK, {TOUCH(KEY_IDLE, 5)}},
      {1500, 1501, HIST_OK, {ABSENT(KEY_IDLE)}}}},
    {"seen, but not touched", "",
     {{1, 2, HIST_OK, {INSERT(KEY_IDLE, 5)}},
      {800, 801, HIST_OK, {SEE(KEY_IDLE, 5)}},
      {1500, 1501, HIST_OK, {ABSENT(KEY_IDLE)}}}},
    {"created anew before its time-out", "timer-early",
     {{1, 2, HIST_OK, {INSERT(KEY_IDLE, 5)}}, {900, 901, HIST_OK, {INSERT(KEY_IDLE, 7)}}}},
    {"removed by somebody", "",
     {{1, 2, HIST_OK, {INSERT(KEY_IDLE, 5)}},
      {10, NEVER, HIST_UNKNOWN, {REMOVE(KEY_IDLE, 5)}},
      {900, 901, HIST_OK, {ABSENT(KEY_IDLE)}}}},
    {"an unknown touch proves nothing", "",
     {{1, 2, HIST_OK, {INSERT(KEY_IDLE, 5)}},
      {800, NEVER, HIST_UNKNOWN, {TOUCH(KEY_IDLE, 5)}},
      {1500, 1501, HIST_OK, {ABSENT(KEY_IDLE)}}}},
    {"still there at last", "timer-late",
     {{1, 2, HIST_OK, {INSERT(KEY_IDLE, 5)}}, {9000, 9001, HIST_OK, {SEE(KEY_IDLE, 5)}}}},
    {"kept alive", "",
     {{1, 2, HIST_OK, {INSERT(KEY_IDLE, 5)}},
      {900, 901, HIST_OK, {TOUCH(KEY_IDLE, 5)}},
      {1800, 1801, HIST_OK, {TOUCH(KEY_IDLE, 5)}},
      {2700, 2701, HIST_OK, {SEE(KEY_IDLE, 5)}}}},
};

static void test_pool(void **state)
{
    HANDMADE(pool_stories, false, check_pool);
}

static void test_timers(void **state)
{
    HANDMADE(timer_stories, false, check_timers);
}

/* The shard's time stood still: what was not late by it is not late. */
static void test_stalls_excuse(void **state)
{
    struct history h = {0};
    struct verdict v = {0};
    struct index x;
    handmade_tell(&h, &timer_stories[7]);
    hist_add_stall(&h, 100000, 8000000, false);
    CHECK(check_index_build(&x, &h, &v) && check_timers(&x, &v), "%s", v.text);
    check_index_free(&x);
    hist_clear(&h);
}

/* --- events: told at `told_ms`, 0: never -------------------------------------------- */

static const struct {
    struct story story;
    int told_ms, again_ms;
} event_stories[] = {
    {{"told when due", "", {{1, 2, HIST_OK, {INSERT(KEY_TIMER, 5)}}}}, 510, 0},
    {{"told twice", "", {{1, 2, HIST_OK, {INSERT(KEY_TIMER, 5)}}}}, 510, 900},
    {{"told late", "", {{1, 2, HIST_OK, {INSERT(KEY_TIMER, 5)}}}}, 3000, 0},
    {{"never told", "event-lost", {{1, 2, HIST_OK, {INSERT(KEY_TIMER, 5)}}}}, 0, 0},
    {{"told early", "event-early", {{1, 2, HIST_OK, {INSERT(KEY_TIMER, 5)}}}}, 400, 0},
    {{"early, and again in time", "event-early", {{1, 2, HIST_OK, {INSERT(KEY_TIMER, 5)}}}}, 400,
     510},
    {{"a touch moves no absolute deadline", "",
      {{1, 2, HIST_OK, {INSERT(KEY_TIMER, 5)}}, {300, 301, HIST_OK, {TOUCH(KEY_TIMER, 5)}}}},
     510, 0},
    {{"deleted, and told", "event",
      {{1, 2, HIST_OK, {INSERT(KEY_TIMER, 5)}}, {10, 11, HIST_OK, {REMOVE(KEY_TIMER, 5)}}}},
     510, 0},
    {{"deleted, and not told", "",
      {{1, 2, HIST_OK, {INSERT(KEY_TIMER, 5)}}, {10, 11, HIST_OK, {REMOVE(KEY_TIMER, 5)}}}}, 0, 0},
    {{"perhaps deleted", "",
      {{1, 2, HIST_OK, {INSERT(KEY_TIMER, 5)}},
       {10, NEVER, HIST_UNKNOWN, {REMOVE(KEY_TIMER, 5)}}}}, 0, 0},
    {{"seen after it was told", "event",
      {{1, 2, HIST_OK, {INSERT(KEY_TIMER, 5)}}, {600, 601, HIST_OK, {SEE(KEY_TIMER, 5)}}}},
     510, 0},
};

static void test_events(void **state)
{
    for (size_t i = 0; i < sizeof event_stories / sizeof *event_stories; i++) {
        const struct story *s = &event_stories[i].story;
        const int told[] = {event_stories[i].told_ms, event_stories[i].again_ms};
        struct history h = {.all_told = true};
        struct verdict v = {0};
        struct index x;
        handmade_tell(&h, s);
        for (int j = 0; j < 2 && told[j]; j++)
            hist_add_event(&h, &(struct hist_event){.key = KEY_TIMER, .version = 5,
                                                    .token = TOKEN(0, 0),
                                                    .at_us = (uint64_t)told[j] * 1000});
        bool good = check_index_build(&x, &h, &v) && check_events(&x, &v);
        CHECK(good == !v.bad && !strcmp(v.bad ? v.check : "", s->check),
              "%s: expected \"%s\", got \"%s\" %s", s->name, s->check, v.bad ? v.check : "",
              v.text);
        check_index_free(&x);
        hist_clear(&h);
    }
}

/* A fast clock may fire so much earlier, and no more. */
static void test_fast_clocks(void **state)
{
    for (int fast = 0; fast < 2; fast++) {
        struct history h = {.fast = fast ? 128 : 0};
        struct verdict v = {0};
        struct index x;
        handmade_tell(&h, &timer_stories[1]);
        bool good = check_index_build(&x, &h, &v) && check_timers(&x, &v);
        CHECK(good == (fast == 1), "clocks %s: %s", fast ? "an eighth fast" : "true", v.text);
        check_index_free(&x);
        hist_clear(&h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pool), cmocka_unit_test(test_timers),
                                       cmocka_unit_test(test_stalls_excuse),
                                       cmocka_unit_test(test_events),
                                       cmocka_unit_test(test_fast_clocks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
