/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages of joining by tunnel: their tags, and what is fresh. */
#include "tests/check.h"

#include "common/packet/tunnel.h"

static const uint8_t key[PROBE_KEY_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static struct tunnel_message message(void)
{
    struct tunnel_message m = {.magic = TUNNEL_MAGIC, .kind = TUNNEL_JOIN, .version = 1,
                               .incarnation = 7, .seq = 3, .front = 9, .issued_us = 100,
                               .weight = 100, .mtu = 1500, .name = "nf-1"};
    tunnel_sign(&m, key);
    return m;
}

static void signed_message_verifies_and_survives_its_frame(void **state)
{
    static const uint8_t to[6] = {2, 1}, from[6] = {2, 2};
    struct tunnel_message m = message(), read;
    uint8_t frame[TUNNEL_FRAME_BYTES];
    assert_true(tunnel_verify(&m, key));
    tunnel_frame(frame, to, from, &m);
    assert_true(tunnel_read(frame, sizeof(frame), &read));
    assert_memory_equal(&read, &m, sizeof(m));
    assert_true(tunnel_read(frame, 14 + sizeof(m), &read));
    assert_false(tunnel_read(frame, 14 + sizeof(m) - 1, &read));
    frame[12] = 8;
    assert_false(tunnel_read(frame, sizeof(frame), &read));
}

static void every_changed_bit_is_refused(void **state)
{
    struct tunnel_message good = message();
    for (size_t bit = 0; bit < 8 * sizeof(good); bit++) {
        struct tunnel_message m = good;
        ((uint8_t *)&m)[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CHECK(!tunnel_verify(&m, key), "byte %zu bit %zu", bit / 8, bit % 8);
    }
}

static void a_probe_is_no_message_and_a_message_no_probe(void **state)
{
    struct tunnel_message m = message();
    struct probe p;
    memcpy(&p, &m, sizeof(p));
    assert_false(probe_verify(&p, key));
}

/* Signed with the right key, and yet not to be believed. */
static void ranges_are_checked_although_signed(void **state)
{
    struct tunnel_message m[8];
    for (int i = 0; i < 8; i++)
        m[i] = message();
    m[0].kind = TUNNEL_LEFT + 1;
    m[1].kind = 0;
    m[2].weight = 0;
    m[3].weight = WEIGHT_MAX + 1;
    m[4].mtu = TUNNEL_MTU_MIN - 1;
    memset(m[5].name, 'a', sizeof(m[5].name));
    m[6].name[0] = '.';
    m[7].name[20] = 'x'; /* behind its end */
    for (int i = 0; i < 8; i++) {
        tunnel_sign(&m[i], key);
        CHECK(!tunnel_verify(&m[i], key), "row %d", i);
    }
}

enum { FRONT = 9, NOW = TUNNEL_FRESH_US + 1000 };
static const struct {
    const char *name;
    struct tunnel_seen seen;
    uint64_t front, issued_us, seq, floor_us;
    enum tunnel_verdict verdict;
} rows[] = {
    {"first", {0, 0}, FRONT, NOW - 5, 1, 0, TUNNEL_FRESH},
    {"has not heard of us", {0, 0}, 0, 0, 1, 0, TUNNEL_UNKNOWN_TIME},
    {"heard of an earlier steering", {0, 0}, FRONT - 1, NOW - 5, 1, 0, TUNNEL_UNKNOWN_TIME},
    {"issued now", {0, 0}, FRONT, NOW, 1, 0, TUNNEL_FRESH},
    {"issued later than now", {0, 0}, FRONT, NOW + 1, 1, 0, TUNNEL_UNKNOWN_TIME},
    {"just fresh", {0, 0}, FRONT, NOW - TUNNEL_FRESH_US, 1, 0, TUNNEL_FRESH},
    {"too old", {0, 0}, FRONT, NOW - TUNNEL_FRESH_US - 1, 1, 0, TUNNEL_UNKNOWN_TIME},
    {"before the floor", {0, 0}, FRONT, NOW - 5, 1, NOW - 4, TUNNEL_UNKNOWN_TIME},
    {"again", {NOW - 5, 7}, FRONT, NOW - 5, 7, 0, TUNNEL_STALE},
    {"an earlier one", {NOW - 5, 7}, FRONT, NOW - 5, 6, 0, TUNNEL_STALE},
    {"the next", {NOW - 5, 7}, FRONT, NOW - 5, 8, 0, TUNNEL_FRESH},
    {"a new process, its numbers from 1", {NOW - 5, 700}, FRONT, NOW - 4, 1, 0, TUNNEL_FRESH},
    {"of the process before it", {NOW - 4, 1}, FRONT, NOW - 5, 701, 0, TUNNEL_STALE},
};

static void freshness_rows(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tunnel_message m = message();
        m.front = rows[i].front;
        m.issued_us = rows[i].issued_us;
        m.seq = rows[i].seq;
        enum tunnel_verdict got = tunnel_judge(&rows[i].seen, &m, FRONT, rows[i].floor_us, NOW);
        CHECK(got == rows[i].verdict, "%s: %d", rows[i].name, got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signed_message_verifies_and_survives_its_frame),
        cmocka_unit_test(every_changed_bit_is_refused),
        cmocka_unit_test(a_probe_is_no_message_and_a_message_no_probe),
        cmocka_unit_test(ranges_are_checked_although_signed),
        cmocka_unit_test(freshness_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
