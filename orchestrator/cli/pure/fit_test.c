/* SPDX-License-Identifier: BSD-3-Clause */
/* Tables on narrow terminals: rows of widths before and after; cells that are cut. */
#include <string.h>

#include "orchestrator/cli/pure/fit.h"
#include "tests/check.h"

static void text_gives_way_then_the_last_columns(void **state)
{
    static const struct { int wide[4], least[4], room, after[4]; } rows[] = {
        {{5, 10, 4, 6}, {5, 4, 4, 4}, 80, {5, 10, 4, 6}},
        {{5, 10, 4, 6}, {5, 4, 4, 4}, 31, {5, 10, 4, 6}},
        {{5, 10, 4, 6}, {5, 4, 4, 4}, 30, {5, 9, 4, 6}},
        {{5, 10, 4, 8}, {5, 4, 4, 4}, 27, {5, 6, 4, 6}},
        {{5, 10, 4, 6}, {5, 4, 4, 4}, 23, {5, 4, 4, 4}},
        {{5, 10, 4, 6}, {5, 4, 4, 4}, 22, {5, 4, 4, 0}},
        {{5, 10, 4, 6}, {5, 4, 4, 4}, 16, {5, 4, 0, 0}},
        {{5, 10, 4, 6}, {5, 4, 4, 4}, 3, {5, 0, 0, 0}}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int wide[4];
        memcpy(wide, rows[i].wide, sizeof wide);
        fit_columns(wide, rows[i].least, 4, rows[i].room);
        CHECK(!memcmp(wide, rows[i].after, sizeof wide), "row %zu: %d %d %d %d", i, wide[0], wide[1], wide[2], wide[3]);
    }
}

static void a_cell_is_cut_between_letters(void **state)
{
    static const struct { const char *text; int wide, bytes; bool cut; } rows[] = {
        {"store-a", 7, 7, false}, {"store-a", 9, 7, false}, {"store-a", 6, 5, true}, {"", 3, 0, false},
        {"\xc3\xa4\xc3\xb6\xc3\xbc", 3, 6, false}, {"\xc3\xa4\xc3\xb6\xc3\xbc", 2, 2, true}, {"ab", 1, 0, true}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool cut;
        int bytes = fit_bytes(rows[i].text, rows[i].wide, &cut);
        CHECK(bytes == rows[i].bytes && cut == rows[i].cut, "row %zu: %d bytes, cut %d", i, bytes, cut);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_gives_way_then_the_last_columns),
        cmocka_unit_test(a_cell_is_cut_between_letters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
