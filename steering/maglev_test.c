/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Maglev against an oracle that follows the paper's pseudocode with stored
 * permutations, and its two promises: even shares, little disruption.
 */
#include "tests/check.h"

#include <stdlib.h>

#include "steering/maglev.h"

enum { SIZE = MAGLEV_SIZE_DEFAULT };

static char names[MAGLEV_BACKENDS_MAX][16];
static uint16_t table[SIZE], other[SIZE];

static uint32_t make(struct maglev_backend *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof(names[i]), "nf-%u", i);
        b[i] = (struct maglev_backend){names[i], (uint16_t)i, 100};
    }
    return n;
}

/* Pseudocode 1 of the paper, literally. Backends must be given sorted. */
static void oracle(uint16_t *entry, uint32_t m, const struct maglev_backend *b, uint32_t n)
{
    uint32_t *permutation = malloc((size_t)n * m * sizeof(*permutation));
    uint32_t *next = calloc(n, sizeof(*next));
    assert_true(permutation != NULL && next != NULL);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t offset, skip;
        maglev_permutation(b[i].name, m, &offset, &skip);
        for (uint32_t j = 0; j < m; j++)
            permutation[(size_t)i * m + j] = (uint32_t)((offset + (uint64_t)j * skip) % m);
    }
    for (uint32_t j = 0; j < m; j++)
        entry[j] = MAGLEV_NONE;
    for (uint32_t filled = 0;;) {
        for (uint32_t i = 0; i < n; i++) {
            uint32_t c = permutation[(size_t)i * m + next[i]];
            while (entry[c] != MAGLEV_NONE)
                c = permutation[(size_t)i * m + ++next[i]];
            entry[c] = b[i].number;
            next[i]++;
            if (++filled == m) {
                free(permutation);
                free(next);
                return;
            }
        }
    }
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct maglev_backend *)a)->name,
                  ((const struct maglev_backend *)b)->name);
}

static void equals_the_papers_pseudocode(void **state)
{
    static const uint32_t sizes[] = {7, 101, 1009, 65537};
    struct maglev_backend b[MAGLEV_BACKENDS_MAX];
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
        for (uint32_t n = 1; n <= 7; n++) {
            make(b, n);
            maglev_build(table, sizes[s], b, n);
            qsort(b, n, sizeof(b[0]), compare);
            oracle(other, sizes[s], b, n);
            CHECK(memcmp(table, other, sizes[s] * sizeof(table[0])) == 0, "size %u n %u", sizes[s],
                  n);
        }
}

static void permutations_visit_every_bucket(void **state)
{
    static uint8_t seen[1009];
    for (int i = 0; i < 50; i++) {
        char name[16];
        uint32_t offset, skip;
        snprintf(name, sizeof(name), "w%d", i);
        maglev_permutation(name, 1009, &offset, &skip);
        memset(seen, 0, sizeof(seen));
        for (uint32_t j = 0; j < 1009; j++)
            seen[(offset + (uint64_t)j * skip) % 1009] = 1;
        CHECK(memchr(seen, 0, sizeof(seen)) == NULL, "%s offset %u skip %u", name, offset, skip);
    }
}

static void shares_are_even(void **state)
{
    static const uint32_t counts[] = {1, 2, 3, 5, 16, 64};
    struct maglev_backend b[MAGLEV_BACKENDS_MAX];
    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
        uint32_t n = make(b, counts[c]), share[MAGLEV_BACKENDS_MAX] = {0};
        maglev_build(table, SIZE, b, n);
        for (uint32_t i = 0; i < SIZE; i++)
            share[table[i]]++;
        for (uint32_t i = 0; i < n; i++)
            CHECK(share[i] == SIZE / n || share[i] == SIZE / n + 1, "n %u: %u has %u", n, i,
                  share[i]);
    }
}

static void order_of_arrival_does_not_matter(void **state)
{
    struct maglev_backend b[8], shuffled[8];
    static const int order[8] = {3, 7, 0, 5, 1, 6, 2, 4};
    make(b, 8);
    for (int i = 0; i < 8; i++)
        shuffled[i] = b[order[i]];
    maglev_build(table, SIZE, b, 8);
    maglev_build(other, SIZE, shuffled, 8);
    assert_memory_equal(table, other, sizeof(table));
}

static uint32_t moved_although_not_affected(uint32_t n, uint32_t victim)
{
    struct maglev_backend b[MAGLEV_BACKENDS_MAX];
    uint32_t moved = 0;
    make(b, n);
    maglev_build(table, SIZE, b, n);
    memmove(&b[victim], &b[victim + 1], (n - victim - 1) * sizeof(b[0]));
    maglev_build(other, SIZE, b, n - 1);
    for (uint32_t i = 0; i < SIZE; i++) {
        assert_int_not_equal(other[i], victim);
        moved += table[i] != victim && table[i] != other[i];
    }
    return moved;
}

/* hash mod n as the naive front end would: nearly everything moves. Maglev
 * moves a few per cent of what it need not (figure 12 of the paper). */
static void a_loss_moves_little_else(void **state)
{
    for (uint32_t n = 2; n <= 10; n++)
        for (uint32_t victim = 0; victim < n; victim++) {
            uint32_t naive = 0, maglev = moved_although_not_affected(n, victim);
            for (uint32_t h = 0; h < SIZE; h++) {
                uint32_t after = h % (n - 1);
                naive += h % n != victim && h % n != (after >= victim ? after + 1 : after);
            }
            CHECK(maglev < SIZE / 10, "n %u victim %u: %u of %u moved", n, victim, maglev, SIZE);
            CHECK(n == 2 ? maglev == 0 : maglev * 3 < naive, "n %u: maglev %u naive %u", n, maglev,
                  naive);
        }
}

static void a_return_restores_the_table(void **state)
{
    struct maglev_backend b[3];
    make(b, 3);
    maglev_build(table, SIZE, b, 3);
    maglev_build(other, SIZE, b, 2);
    maglev_build(other, SIZE, b, 3);
    assert_memory_equal(table, other, sizeof(table));
}

/* --- weights ------------------------------------------------------------------------ */

static const uint16_t weights[][6] = {
    {100, 50}, {100, 100, 50}, {100, 1}, {1, 2, 3, 4, 5}, {37, 100, 64, 9}, {50, 50, 100, 100, 25},
};

static uint32_t make_weighted(struct maglev_backend *b, const uint16_t *w)
{
    uint32_t n = 0;
    while (n < 6 && w[n] > 0)
        n++;
    make(b, n);
    for (uint32_t i = 0; i < n; i++)
        b[i].weight = w[i];
    return n;
}

/* Within a turn of the exact share for each pass over the backends: far below 1 %. */
static void shares_follow_weights(void **state)
{
    for (size_t row = 0; row < sizeof(weights) / sizeof(weights[0]); row++) {
        struct maglev_backend b[MAGLEV_BACKENDS_MAX];
        uint32_t n = make_weighted(b, weights[row]), sum = 0, share[6] = {0};
        maglev_build(table, SIZE, b, n);
        for (uint32_t i = 0; i < SIZE; i++)
            share[table[i]]++;
        for (uint32_t i = 0; i < n; i++)
            sum += b[i].weight;
        for (uint32_t i = 0; i < n; i++) {
            double exact = (double)SIZE * b[i].weight / sum;
            CHECK(share[i] > exact - n - 1 && share[i] < exact + n + 1, "row %zu: %u has %u of %.1f",
                  row, i, share[i], exact);
        }
    }
}

static void only_the_ratio_of_weights_counts(void **state)
{
    struct maglev_backend b[4];
    make(b, 4);
    maglev_build(table, SIZE, b, 4);
    for (int i = 0; i < 4; i++)
        b[i].weight = 7;
    maglev_build(other, SIZE, b, 4);
    assert_memory_equal(table, other, sizeof(table));
}

static void order_of_arrival_does_not_matter_with_weights(void **state)
{
    struct maglev_backend b[5], turned[5];
    uint32_t n = make_weighted(b, weights[3]);
    for (uint32_t i = 0; i < n; i++)
        turned[n - 1 - i] = b[i];
    maglev_build(table, SIZE, b, n);
    maglev_build(other, SIZE, turned, n);
    assert_memory_equal(table, other, sizeof(table));
}

/* Buckets that neither leave the one whose weight fell nor have to: a few per cent, as with a loss. */
static void a_changed_weight_moves_little_else(void **state)
{
    for (uint32_t n = 2; n <= 10; n++)
        for (uint16_t weight = 10; weight < 100; weight += 30) {
            struct maglev_backend b[MAGLEV_BACKENDS_MAX];
            uint32_t astray = 0, left = 0, needed;
            make(b, n);
            maglev_build(table, SIZE, b, n);
            b[0].weight = weight;
            maglev_build(other, SIZE, b, n);
            for (uint32_t i = 0; i < SIZE; i++) {
                left += table[i] == 0 && other[i] != 0;
                astray += table[i] != 0 && table[i] != other[i];
            }
            needed = SIZE / n - SIZE * weight / (weight + 100 * (n - 1));
            CHECK(left >= needed && left < needed + SIZE / 10, "n %u weight %u: %u left, %u needed", n,
                  weight, left, needed);
            CHECK(astray < SIZE / 10, "n %u weight %u: %u astray", n, weight, astray);
        }
}

static void nobody_gives_an_empty_table(void **state)
{
    maglev_build(table, SIZE, NULL, 0);
    for (uint32_t i = 0; i < SIZE; i++)
        assert_int_equal(table[i], MAGLEV_NONE);
}

static const struct { uint32_t size, backends; bool good; } sizes[] = {
    {65537, 64, true}, {65536, 64, false}, {65535, 64, false}, {251, 2, true}, {251, 3, false},
    {1048573, 64, true}, {1048583, 64, false}, {0, 0, false}, {2, 0, false}, {9409, 8, false},
};

static void size_rows(void **state)
{
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        CHECK(maglev_size_is_good(sizes[i].size, sizes[i].backends) == sizes[i].good, "%u for %u",
              sizes[i].size, sizes[i].backends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_papers_pseudocode),
        cmocka_unit_test(permutations_visit_every_bucket),
        cmocka_unit_test(shares_are_even),
        cmocka_unit_test(order_of_arrival_does_not_matter),
        cmocka_unit_test(a_loss_moves_little_else),
        cmocka_unit_test(a_return_restores_the_table),
        cmocka_unit_test(shares_follow_weights),
        cmocka_unit_test(only_the_ratio_of_weights_counts),
        cmocka_unit_test(order_of_arrival_does_not_matter_with_weights),
        cmocka_unit_test(a_changed_weight_moves_little_else),
        cmocka_unit_test(nobody_gives_an_empty_table),
        cmocka_unit_test(size_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
