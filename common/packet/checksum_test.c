/* SPDX-License-Identifier: BSD-3-Clause */
/* The checksum against sums taken a byte at a time. */
#include "tests/check.h"

#include "packet.h"
#include "packet_forge.h"

enum { ROUNDS = 3000, BYTES = 3000 };

static uint16_t naive(const uint8_t *data, uint32_t len)
{
    uint8_t raw[2];
    uint16_t c;

    forge_be16(raw, ~forge_sum(0, data, len) & 0xffff);
    memcpy(&c, raw, 2);
    return c;
}

static void fill(uint64_t *seed, uint8_t *data, uint32_t len)
{
    uint64_t kind = forge_random(seed) % 4;

    for (uint32_t i = 0; i < len; i++)
        data[i] = kind == 0 ? 0xff : kind == 1 ? 0 : (uint8_t)forge_random(seed);
}

static void sum_of_any_length(void **state)
{
    static uint8_t data[BYTES];
    uint64_t seed = 1;

    for (int round = 0; round < ROUNDS; round++) {
        uint32_t len = (uint32_t)(forge_random(&seed) % BYTES);
        uint32_t odd = (uint32_t)(forge_random(&seed) % 2), cut = len / 2 & ~1u;
        fill(&seed, data, len);
        if (odd + len > BYTES)
            continue;
        uint16_t want = naive(data + odd, len);
        CHECK(checksum_fold(checksum_add(0, data + odd, len)) == want, "round %d length %u", round,
              len);
        uint32_t part = checksum_add(0, data + odd, cut);
        CHECK(checksum_fold(checksum_add(part, data + odd + cut, len - cut)) == want,
              "in two parts: round %d length %u", round, len);
    }
}

static void sum_of_the_longest(void **state)
{
    static uint8_t data[131072];

    memset(data, 0xff, sizeof data);
    data[0] = 0;
    assert_int_equal(checksum_fold(checksum_add(0, data, sizeof data)), naive(data, sizeof data));
}

/* Equal as checksums: 0 and 0xffff stand for the same sum. */
static bool same(uint16_t a, uint16_t b)
{
    return a % 0xffff == b % 0xffff;
}

static void update_is_recomputing(void **state)
{
    static uint8_t data[64], was[64];
    uint64_t seed = 2;

    for (int round = 0; round < ROUNDS * 10; round++) {
        fill(&seed, data, sizeof data);
        memcpy(was, data, sizeof data);
        uint16_t before = naive(data, sizeof data);
        uint32_t at = (uint32_t)(forge_random(&seed) % 24) * 2;
        uint32_t len = (uint32_t)(forge_random(&seed) % 8) * 2;
        fill(&seed, data + at, len);
        uint16_t after = checksum_update(before, was + at, data + at, len);
        CHECK(same(after, naive(data, sizeof data)), "round %d at %u length %u", round, at, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sum_of_any_length),
        cmocka_unit_test(sum_of_the_longest),
        cmocka_unit_test(update_is_recomputing),
    };
    return cmocka_run_group_tests_name("checksum", tests, NULL, NULL);
}
