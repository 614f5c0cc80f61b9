/* SPDX-License-Identifier: BSD-3-Clause */
/* Stories for check_chain (positions) and check_search (the slow oracle): what
 * both can see, both must see. */
#include "handmade.h"

/* Told of one key alone: both oracles answer. The search names itself. */
static const struct story one_key_stories[] = {
    {"insert, read, replace, read", "",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}},
      {3, 4, HIST_OK, {SEE(KEY_A, 5)}},
      {5, 6, HIST_OK, {CAS(KEY_A, 5, 8)}},
      {7, 8, HIST_OK, {SEE(KEY_A, 8)}}}},
    {"a read beside a write may see either", "",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}},
      {3, 9, HIST_OK, {CAS(KEY_A, 5, 8)}},
      {4, 5, HIST_OK, {SEE(KEY_A, 5)}},
      {6, 7, HIST_OK, {SEE(KEY_A, 8)}}}},
    {"a read goes back", "chain",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}},
      {3, 9, HIST_OK, {CAS(KEY_A, 5, 8)}},
      {4, 5, HIST_OK, {SEE(KEY_A, 8)}},
      {6, 7, HIST_OK, {SEE(KEY_A, 5)}}}},
    {"a deposed primary reads what its successor replaced", "chain",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}},
      {100, 110, HIST_OK, {CAS(KEY_A, 5, 2ull << 40)}},
      {120, 121, HIST_OK, {SEE(KEY_A, 5)}}}},
    {"it may, while the write is not acknowledged", "",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}},
      {100, 130, HIST_OK, {CAS(KEY_A, 5, 2ull << 40)}},
      {120, 121, HIST_OK, {SEE(KEY_A, 5)}}}},
    {"a read misses an acknowledged write", "chain",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}}, {3, 4, HIST_OK, {ABSENT(KEY_A)}}}},
    {"absent after a removal", "",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}},
      {3, 9, HIST_OK, {REMOVE(KEY_A, 5)}},
      {4, 5, HIST_OK, {ABSENT(KEY_A)}}}},
    {"absent, then back", "chain",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}},
      {3, NEVER, HIST_UNKNOWN, {REMOVE(KEY_A, 5)}},
      {4, 5, HIST_OK, {ABSENT(KEY_A)}},
      {6, 7, HIST_OK, {SEE(KEY_A, 5)}}}},
    {"expired, then back", "chain",
     {{1, 2, HIST_OK, {INSERT(KEY_IDLE, 5)}},
      {1500, 1501, HIST_OK, {ABSENT(KEY_IDLE)}},
      {1502, 1503, HIST_OK, {SEE(KEY_IDLE, 5)}}}},
    {"removed, acknowledged, then back", "chain",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}},
      {3, 4, HIST_OK, {REMOVE(KEY_A, 5)}},
      {6, 7, HIST_OK, {SEE(KEY_A, 5)}}}},
    {"get, or create", "",
     {{1, 2, HIST_OK, {ABSENT(KEY_A), INSERT(KEY_A, 5)}},
      {3, 4, HIST_OK, {SEE(KEY_A, 5)}}}},
    {"two replaced the same version", "chain",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}},
      {3, 9, HIST_OK, {CAS(KEY_A, 5, 7)}},
      {3, 9, HIST_OK, {CAS(KEY_A, 5, 8)}}}},
    {"two created it", "chain",
     {{1, 9, HIST_OK, {INSERT(KEY_A, 5)}}, {1, 9, HIST_OK, {INSERT(KEY_A, 6)}}}},
    {"a conflict reply tells an old entry", "chain",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}},
      {3, 4, HIST_OK, {CAS(KEY_A, 5, 8)}},
      {6, 7, HIST_REFUSED, {SEE(KEY_A, 5)}}}},
};

/* Only versions across keys tell these. */
static const struct story many_key_stories[] = {
    {"one that was told to be unknown had run before", "",
     {{0, 10, HIST_OK, {INSERT(KEY_A, 1)}},
      {20, 30, HIST_UNKNOWN, {CAS(KEY_A, 1, 0)}},
      {25, 50, HIST_OK, {INSERT(KEY_B, 3)}},
      {60, 70, HIST_OK, {SEE_TOKEN(KEY_A, 5, TOKEN(1, 0))}}}},
    {"it ran after its client was told", "chain",
     {{0, 10, HIST_OK, {INSERT(KEY_A, 1)}},
      {20, 30, HIST_UNKNOWN, {CAS(KEY_A, 1, 0)}},
      {40, 50, HIST_OK, {INSERT(KEY_B, 3)}},
      {60, 70, HIST_OK, {SEE_TOKEN(KEY_A, 5, TOKEN(1, 0))}}}},
    {"one that was never answered may run at any time", "",
     {{0, 10, HIST_OK, {INSERT(KEY_A, 1)}},
      {20, NEVER, HIST_UNKNOWN, {CAS(KEY_A, 1, 0)}},
      {40, 50, HIST_OK, {INSERT(KEY_B, 3)}},
      {60, 70, HIST_OK, {SEE_TOKEN(KEY_A, 5, TOKEN(1, 0))}}}},
    {"a later write has an earlier version", "chain",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5)}}, {3, 4, HIST_OK, {INSERT(KEY_B, 4)}}}},
    {"both keys of one txn", "",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5), INSERT(KEY_B, 5)}},
      {3, 9, HIST_OK, {CAS(KEY_A, 5, 7), CAS(KEY_B, 5, 7)}},
      {4, 5, HIST_OK, {SEE(KEY_A, 7), SEE(KEY_B, 7)}}}},
    {"half of a txn is seen", "chain",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 5), INSERT(KEY_B, 5)}},
      {3, 9, HIST_OK, {CAS(KEY_A, 5, 7), CAS(KEY_B, 5, 7)}},
      {4, 5, HIST_OK, {SEE(KEY_A, 7), SEE(KEY_B, 5)}}}},
    {"an unknown write stands where others had been", "chain",
     {{1, 2, HIST_OK, {INSERT(KEY_A, 9)}},
      {3, NEVER, HIST_UNKNOWN, {{.what = HIST_WRITE, .key = KEY_B}}},
      {6, 7, HIST_OK, {SEE_TOKEN(KEY_B, 4, TOKEN(1, 0))}}}},
    {"a write is seen before it was asked for", "chain",
     {{1, 2, HIST_OK, {SEE(KEY_A, 5)}}, {3, 4, HIST_OK, {INSERT(KEY_A, 5)}}}},
};

static const struct story async_stories[] = {
    {"an async entry goes back over a fail-over", "",
     {{1, 2, HIST_OK, {INSERT(KEY_ASYNC, 5)}},
      {3, 4, HIST_OK, {CAS(KEY_ASYNC, 5, 8)}},
      {700, 701, HIST_OK, {SEE(KEY_ASYNC, 5)}}}},
    {"an async entry goes back without one", "chain-async",
     {{1, 2, HIST_OK, {INSERT(KEY_ASYNC, 5)}},
      {3, 4, HIST_OK, {CAS(KEY_ASYNC, 5, 8)}},
      {100, 101, HIST_OK, {SEE(KEY_ASYNC, 5)}}}},
    {"and after it", "chain-async",
     {{700, 701, HIST_OK, {INSERT(KEY_ASYNC, 5)}},
      {703, 704, HIST_OK, {CAS(KEY_ASYNC, 5, 8)}},
      {710, 711, HIST_OK, {SEE(KEY_ASYNC, 5)}}}},
    {"what was its primary's alone begins above", "",
     {{1, 2, HIST_OK, {INSERT(KEY_ALONE, 5)}},
      {700, 701, HIST_OK, {ABSENT(KEY_ALONE)}},
      {702, 703, HIST_OK, {INSERT(KEY_ALONE, 9)}}}},
    {"and never goes back", "chain-async",
     {{1, 2, HIST_OK, {INSERT(KEY_ALONE, 5)}},
      {3, 4, HIST_OK, {CAS(KEY_ALONE, 5, 8)}},
      {700, 701, HIST_OK, {SEE(KEY_ALONE, 5)}}}},
};

static void test_chain(void **state)
{
    HANDMADE(one_key_stories, false, check_chain);
    HANDMADE(many_key_stories, false, check_chain);
    HANDMADE(async_stories, true, check_chain);
}

static void test_search(void **state)
{
    enum { N = sizeof one_key_stories / sizeof *one_key_stories };
    struct story told[N];
    for (int i = 0; i < N; i++) {
        told[i] = one_key_stories[i];
        if (told[i].check[0])
            told[i].check = "search";
    }
    HANDMADE(told, false, check_search);
}

/* Long histories are cut into windows; a fault in the last one is still seen,
 * and what reaches over an edge is no fault. */
static void test_search_windows(void **state)
{
    for (int broken = 0; broken < 2; broken++) {
        struct history h = {0};
        struct verdict v = {0};
        struct index x;
        handmade_keys(&h);
        for (int i = 1; i <= 400; i++) {
            struct row write = {i * 10, i * 10 + 15, HIST_OK,
                                {CAS(KEY_A, (uint64_t)i - 1, (uint64_t)i)}};
            handmade_row(&h, &write);
        }
        struct row last = {4100, 4101, HIST_OK, {SEE(KEY_A, broken ? 399 : 400)}};
        handmade_row(&h, &last);
        bool good = check_index_build(&x, &h, &v) && check_search(&x, &v);
        CHECK(good == !broken, "broken %d: %s", broken, v.text);
        check_index_free(&x);
        hist_clear(&h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_chain),
                                       cmocka_unit_test(test_search),
                                       cmocka_unit_test(test_search_windows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
