/* SPDX-License-Identifier: BSD-3-Clause */
/* Probe tags: a signed probe verifies, and no changed byte goes unnoticed. */
#include "tests/check.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/packet/probe.h"

static const uint8_t key[PROBE_KEY_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static struct probe signed_probe(void)
{
    struct probe p = {.magic = PROBE_MAGIC, .kind = PROBE_REPLY, .version = 1, .worker = 7,
                      .seq = 0x0123456789abcdef, .sent_us = 99, .busy_permille = 500,
                      .in_flight = 12, .incarnation = 42};
    probe_sign(&p, key);
    return p;
}

static void signed_probe_verifies(void **state)
{
    struct probe p = signed_probe();
    assert_true(probe_verify(&p, key));
}

static void every_changed_bit_is_refused(void **state)
{
    struct probe good = signed_probe();
    for (size_t bit = 0; bit < 8 * sizeof(good); bit++) {
        struct probe p = good;
        ((uint8_t *)&p)[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CHECK(!probe_verify(&p, key), "byte %zu bit %zu", bit / 8, bit % 8);
    }
}

static void another_key_is_refused(void **state)
{
    struct probe p = signed_probe();
    for (size_t i = 0; i < sizeof(key); i++) {
        uint8_t other[PROBE_KEY_BYTES];
        memcpy(other, key, sizeof(other));
        other[i] ^= 0x80;
        CHECK(!probe_verify(&p, other), "key byte %zu", i);
    }
}

static void unknown_kind_and_version_are_refused_although_signed(void **state)
{
    struct probe p = signed_probe();
    for (unsigned kind = 0; kind <= UINT8_MAX; kind++) {
        p.kind = (uint8_t)kind;
        probe_sign(&p, key);
        bool known = kind == PROBE_REQUEST || kind == PROBE_REPLY || kind == PROBE_MARKER ||
                     kind == PROBE_RETURNED;
        CHECK(probe_verify(&p, key) == known, "kind %u", kind);
    }
    p = signed_probe();
    p.version = 2;
    probe_sign(&p, key);
    assert_false(probe_verify(&p, key));
}

/* From another implementation of SipHash-2-4: other builds must agree. */
static void tag_is_the_same_everywhere(void **state)
{
    struct probe p = signed_probe();
    static const uint8_t golden[8] = {0xa5, 0xb2, 0x78, 0x82, 0x52, 0x17, 0x79, 0x87};
    assert_memory_equal(p.tag, golden, sizeof(golden));
}

static const struct { const char *name, *text; int rc; } key_files[] = {
    {"good", "000102030405060708090a0b0c0d0e0f\n", 0},
    {"good without newline, upper case", "000102030405060708090A0B0C0D0E0F", 0},
    {"empty", "", -EINVAL},
    {"short", "0001020304\n", -EINVAL},
    {"long", "000102030405060708090a0b0c0d0e0f00\n", -EINVAL},
    {"not hex", "000102030405060708090a0b0c0d0exx\n", -EINVAL},
};

static void key_file_rows(void **state)
{
    for (size_t i = 0; i < sizeof(key_files) / sizeof(key_files[0]); i++) {
        char path[] = "/tmp/probe_test.XXXXXX", err[300] = "";
        uint8_t got[PROBE_KEY_BYTES] = {0xee};
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, key_files[i].text, strlen(key_files[i].text)),
                         strlen(key_files[i].text));
        close(fd);
        int rc = probe_key_load(path, got, err, sizeof(err));
        CHECK(rc == key_files[i].rc, "%s: %d (%s)", key_files[i].name, rc, err);
        if (rc == 0)
            CHECK(got[0] == 0 && got[15] == 15, "%s", key_files[i].name);
        else
            CHECK(got[0] == 0xee && strstr(err, path) != NULL, "%s: %s", key_files[i].name, err);
        unlink(path);
    }
}

static void missing_key_file_says_how_to_make_one(void **state)
{
    char err[300] = "";
    uint8_t got[PROBE_KEY_BYTES];
    assert_int_equal(probe_key_load("/nonexistent/key", got, err, sizeof(err)), -ENOENT);
    assert_non_null(strstr(err, "openssl rand -hex 16"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signed_probe_verifies),
        cmocka_unit_test(every_changed_bit_is_refused),
        cmocka_unit_test(another_key_is_refused),
        cmocka_unit_test(unknown_kind_and_version_are_refused_although_signed),
        cmocka_unit_test(tag_is_the_same_everywhere),
        cmocka_unit_test(key_file_rows),
        cmocka_unit_test(missing_key_file_says_how_to_make_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
