/* SPDX-License-Identifier: BSD-3-Clause */
/* Stories for check_content, check_counters and check_sketch: versions, tokens, sums. */
#include "handmade.h"

static const struct story content_stories[] = {
    {"written once, seen once", "",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}},
      {3, 4, HIST_OK, {SEE_TOKEN(KEY_A, 5, TOKEN(0, 0))}}}},
    {"an unknown write may be seen", "",
     {{1, NEVER, HIST_UNKNOWN, {{.what = HIST_WRITE, .key = KEY_A}}},
      {3, 4, HIST_OK, {SEE_TOKEN(KEY_A, 5, TOKEN(0, 0))}}}},
    {"one version, two contents", "versions",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}},
      {1, NEVER, HIST_UNKNOWN, {{.what = HIST_WRITE, .key = KEY_A}}},
      {3, 4, HIST_OK, {SEE_TOKEN(KEY_A, 5, TOKEN(1, 0))}}}},
    {"one version of a slot, two keys of different txns", "versions",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}}, {3, 4, HIST_OK, {INSERT(KEY_B, 5)}}}},
    {"one version of a slot, two keys of one txn", "",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5), INSERT(KEY_B, 5)}}}},
    {"a version given twice", "versions",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}},
      {3, 4, HIST_OK, {REMOVE(KEY_A, 5)}},
      {5, 6, HIST_OK, {INSERT(KEY_A, 5)}}}},
    {"a refused txn took effect", "exactly-once",
     {{1, 2, HIST_REFUSED, {NOT_DONE(KEY_A)}},
      {3, 4, HIST_OK, {SEE_TOKEN(KEY_A, 5, TOKEN(0, 0))}}}},
    {"a txn ran twice", "exactly-once",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}},
      {3, 4, HIST_OK, {REMOVE(KEY_A, 5)}},
      {5, 6, HIST_OK, {SEE_TOKEN(KEY_A, 9, TOKEN(0, 0))}}}},
    {"an unknown txn ran twice", "exactly-once",
     {{1, NEVER, HIST_UNKNOWN, {{.what = HIST_WRITE, .key = KEY_A}}},
      {3, 4, HIST_OK, {SEE_TOKEN(KEY_A, 5, TOKEN(0, 0))}},
      {5, 6, HIST_OK, {SEE_TOKEN(KEY_A, 9, TOKEN(0, 0))}}}},
    {"a value nobody wrote", "content",
     {{1, 2, HIST_OK, {SEE_TOKEN(KEY_A, 5, 12345678)}}}},
    {"a value of another key", "content",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}},
      {3, 4, HIST_OK, {SEE_TOKEN(KEY_A, 5, TOKEN(0, 0))}},
      {5, NEVER, HIST_UNKNOWN, {{.what = HIST_WRITE, .key = KEY_A}}},
      {6, 7, HIST_OK, {SEE_TOKEN(KEY_B, 7, TOKEN(2, 0))}}}},
};

/* A fail-over from 500 to 600 ms lost the first run; the retry ran again. */
static const struct story async_stories[] = {
    {"an async txn runs again after a fail-over", "",
     {{400, 700, HIST_OK, {INSERT(KEY_ASYNC, 90)}},
      {410, 411, HIST_OK, {SEE_TOKEN(KEY_ASYNC, 5, TOKEN(0, 0))}}}},
    {"and may be refused then", "",
     {{400, 700, HIST_REFUSED, {NOT_DONE(KEY_ASYNC)}},
      {410, 411, HIST_OK, {SEE_TOKEN(KEY_ASYNC, 5, TOKEN(0, 0))}}}},
    {"an async txn runs twice without one", "exactly-once",
     {{400, 450, HIST_OK, {INSERT(KEY_ASYNC, 90)}},
      {410, 411, HIST_OK, {SEE_TOKEN(KEY_ASYNC, 5, TOKEN(0, 0))}}}},
    {"a sync txn runs twice over a fail-over", "exactly-once",
     {{400, 700, HIST_OK, {INSERT(KEY_A, 90)}},
      {410, 411, HIST_OK, {SEE_TOKEN(KEY_A, 5, TOKEN(0, 0))}}}},
};

static const struct story sum_stories[] = {
    {"the sum of what was acknowledged", "",
     {{1, 2, HIST_OK, {ADD(KEY_SUM, 10, 3)}},
      {3, 4, HIST_OK, {ADD(KEY_SUM, 7, 4)}},
      {5, 6, HIST_OK, {VALUE(KEY_SUM, 4, 17)}}}},
    {"an unknown addition may count", "",
     {{1, 2, HIST_OK, {ADD(KEY_SUM, 10, 3)}},
      {3, NEVER, HIST_UNKNOWN, {ADD(KEY_SUM, 7, 0)}},
      {5, 6, HIST_OK, {VALUE(KEY_SUM, 3, 10)}},
      {7, 8, HIST_OK, {VALUE(KEY_SUM, 4, 17)}}}},
    {"added twice", "exactly-once",
     {{1, 2, HIST_OK, {ADD(KEY_SUM, 10, 3)}}, {5, 6, HIST_OK, {VALUE(KEY_SUM, 4, 20)}}}},
    {"an unknown addition counts twice", "exactly-once",
     {{1, NEVER, HIST_UNKNOWN, {ADD(KEY_SUM, 7, 0)}},
      {5, 6, HIST_OK, {VALUE(KEY_SUM, 4, 14)}}}},
    {"an acknowledged addition is lost", "exactly-once",
     {{1, 2, HIST_OK, {ADD(KEY_SUM, 10, 3)}},
      {3, 4, HIST_OK, {ADD(KEY_SUM, 7, 4)}},
      {5, 6, HIST_OK, {VALUE(KEY_SUM, 5, 10)}}}},
    {"an unknown addition counts before it was asked for", "exactly-once",
     {{1, 2, HIST_OK, {VALUE(KEY_SUM, 4, 7)}},
      {3, NEVER, HIST_UNKNOWN, {ADD(KEY_SUM, 7, 0)}}}},
};

static void test_content(void **state)
{
    HANDMADE(content_stories, false, check_content);
    HANDMADE(async_stories, true, check_content);
}

static void test_sums(void **state)
{
    HANDMADE(sum_stories, false, check_counters);
}

static const struct story sketch_stories[] = {
    {"all that was acknowledged, and some of the rest", "",
     {{1, 2, HIST_OK, {COUNT(KEY_SKETCH, 5, 5)}},
      {3, 20, HIST_UNKNOWN, {COUNT(KEY_SKETCH, 70, 0)}},
      {4, 30, HIST_OK, {COUNT(KEY_SKETCH, 900, 905)}},
      {5, 6, HIST_OK, {ESTIMATE(KEY_SKETCH, 905)}},
      {40, 41, HIST_OK, {ESTIMATE(KEY_SKETCH, 975)}}}},
    {"one that was acknowledged is missing", "sketch",
     {{1, 2, HIST_OK, {COUNT(KEY_SKETCH, 5, 5)}},
      {3, 4, HIST_OK, {COUNT(KEY_SKETCH, 70, 75)}},
      {5, 6, HIST_OK, {ESTIMATE(KEY_SKETCH, 70)}}}},
    {"one counts twice", "sketch",
     {{1, 2, HIST_OK, {COUNT(KEY_SKETCH, 5, 5)}},
      {3, 50, HIST_OK, {COUNT(KEY_SKETCH, 70, 75)}},
      {5, 6, HIST_OK, {ESTIMATE(KEY_SKETCH, 10)}}}},
    {"more than was asked for", "sketch",
     {{1, 2, HIST_OK, {COUNT(KEY_SKETCH, 5, 5)}},
      {5, 6, HIST_OK, {ESTIMATE(KEY_SKETCH, 10)}},
      {7, 8, HIST_OK, {COUNT(KEY_SKETCH, 5, 10)}}}},
    {"refused, and added all the same", "sketch",
     {{1, 2, HIST_REFUSED, {COUNT(KEY_SKETCH, 5, 5)}},
      {5, 6, HIST_OK, {ESTIMATE(KEY_SKETCH, 5)}}}},
};

static void test_sketches(void **state)
{
    HANDMADE(sketch_stories, false, check_sketch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_content),
                                       cmocka_unit_test(test_sums),
                                       cmocka_unit_test(test_sketches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
