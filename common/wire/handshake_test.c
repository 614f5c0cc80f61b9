/* SPDX-License-Identifier: BSD-3-Clause */
/* The MACs are those that Python's hmac computes over the golden messages, and
 * change with every part; secret files are refused for what they are. */
#include "tests/check.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/wire/auth.h"

static struct msg_hello hello;
static struct msg_challenge challenge;
static struct auth_secret secret;
static uint8_t nonce[AUTH_NONCE_BYTES];

static void load(const char *name, void *to, size_t bytes)
{
    char path[512];
    snprintf(path, sizeof path, "%s/v1/%s.bin", LETHE_GOLDEN_DIR, name);
    FILE *f = fopen(path, "rb");
    CHECK(f, "%s", path);
    assert_int_equal(fread(to, 1, bytes, f), bytes);
    fclose(f);
}

static int set_up(void **state)
{
    load("hello", &hello, sizeof hello);
    load("challenge", &challenge, sizeof challenge);
    secret.bytes = 32;
    for (uint8_t i = 0; i < 32; i++) {
        secret.secret[i] = i;
        nonce[i] = (uint8_t)(100 + i);
    }
    return 0;
}

/* hmac.new(key, label.ljust(24, b"\0") + hello + challenge + nonce, sha512).digest()[:32] */
static void macs_are_as_they_always_were(void **state)
{
    static const char *const want[] = {
        [AUTH_DIALLER] = "b71249f66b8673f7eeae7b9d181175f0e4a3a6c7e4a7e6ef8b3f994cd6cb5cd8",
        [AUTH_LISTENER] = "deb7697ef622a444091d94b215a432c9e7cc2502300b363b6a572fd68977e6b0"};
    for (int side = AUTH_DIALLER; side <= AUTH_LISTENER; side++) {
        uint8_t mac[AUTH_MAC_BYTES];
        char text[2 * AUTH_MAC_BYTES + 1];
        auth_mac(mac, &secret, (enum auth_side)side, &hello, &challenge, nonce);
        for (int i = 0; i < AUTH_MAC_BYTES; i++)
            snprintf(text + 2 * i, 3, "%02x", mac[i]);
        assert_string_equal(text, want[side]);
        assert_true(auth_mac_right(mac, &secret, (enum auth_side)side, &hello, &challenge, nonce));
        assert_false(auth_mac_right(mac, &secret, (enum auth_side)!side, &hello, &challenge, nonce));
    }
}

/* Any bit of what was said, of the secret or of the MAC. */
static void every_bit_counts(void **state)
{
    uint8_t mac[AUTH_MAC_BYTES];
    struct { void *at; size_t bytes; } parts[] = {
        {&hello, sizeof hello}, {&challenge, sizeof challenge}, {nonce, sizeof nonce},
        {secret.secret, 32}, {mac, sizeof mac}};
    auth_mac(mac, &secret, AUTH_DIALLER, &hello, &challenge, nonce);
    for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++)
        for (size_t bit = 0; bit < 8 * parts[p].bytes; bit++) {
            uint8_t *byte = (uint8_t *)parts[p].at + bit / 8;
            *byte ^= (uint8_t)(1 << bit % 8);
            CHECK(!auth_mac_right(mac, &secret, AUTH_DIALLER, &hello, &challenge, nonce),
                  "part %zu bit %zu", p, bit);
            *byte ^= (uint8_t)(1 << bit % 8);
        }
    assert_true(auth_mac_right(mac, &secret, AUTH_DIALLER, &hello, &challenge, nonce));
}

static void the_dialler_goes_step_by_step(void **state)
{
    struct auth_dial d = {0};
    struct msg_hello mine = hello;
    struct msg_proof proof;
    struct msg_proven proven = {0};
    assert_non_null(auth_dial_answer(&d, &secret, &challenge, &proof));
    assert_non_null(auth_dial_check(&d, &secret, &proven));
    auth_dial_begin(&d, &mine);
    assert_int_equal(mine.auth, AUTH_HMAC);
    assert_non_null(auth_dial_check(&d, &secret, &proven)); /* before any CHALLENGE */

    struct msg_challenge other = challenge;
    other.head.shard++;
    assert_non_null(auth_dial_answer(&d, &secret, &other, &proof));
    other = challenge;
    other.self.node = mine.self.node; /* reflected to where it came from */
    assert_non_null(auth_dial_answer(&d, &secret, &other, &proof));

    assert_null(auth_dial_answer(&d, &secret, &challenge, &proof));
    assert_null(msg_validate(&proof, sizeof proof));
    assert_true(auth_mac_right(proof.mac, &secret, AUTH_DIALLER, &mine, &challenge, proof.nonce));
    assert_non_null(auth_dial_answer(&d, &secret, &challenge, &proof)); /* once */
    memcpy(proven.mac, proof.mac, sizeof proven.mac);
    assert_non_null(auth_dial_check(&d, &secret, &proven)); /* our own, sent back */
    auth_mac(proven.mac, &secret, AUTH_LISTENER, &mine, &challenge, proof.nonce);
    assert_null(auth_dial_check(&d, &secret, &proven));
    assert_int_equal(d.state, AUTH_DIAL_DONE);
}

static void who_may_read_a_secret(void **state)
{
    static const struct { mode_t mode; uid_t owner, reader; bool fit; } rows[] = {
        {0600, 1000, 1000, true}, {0400, 0, 0, true}, {0640, 1000, 1000, false}, {0640, 0, 0, false},
        {0440, 0, 10001, true}, {0640, 0, 10001, true}, /* a mounted secret, by a group of its own */
        {0444, 0, 10001, false}, {0460, 0, 10001, false}, {0440, 1000, 10001, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK(auth_file_is_private(rows[i].mode, rows[i].owner, rows[i].reader) == rows[i].fit, "row %zu", i);
}

static void secret_files(void **state)
{
#define HEX32 "00112233445566778899aabbccddeeff"
    static const struct { const char *text, *says; mode_t mode; uint32_t bytes; } rows[] = {
        {HEX32 HEX32, NULL, 0600, 32},
        {HEX32 HEX32 "\n", NULL, 0400, 32},
        {HEX32 HEX32 HEX32 HEX32 "\r\n", NULL, 0600, 64},
        {HEX32 HEX32, "chmod 600", 0640, 0},
        {HEX32 HEX32, "chmod 600", 0604, 0},
        {HEX32 HEX32, "chmod 600", 0620, 0},
        {"", "64 to 128 hex digits", 0600, 0},
        {HEX32, "64 to 128 hex digits", 0600, 0},
        {HEX32 HEX32 "0", "64 to 128 hex digits", 0600, 0},
        {HEX32 HEX32 "zz", "64 to 128 hex digits", 0600, 0},
        {HEX32 HEX32 HEX32 HEX32 "00", "64 to 128 hex digits", 0600, 0},
        {HEX32 HEX32 HEX32 HEX32 HEX32 HEX32, "64 to 128 hex digits", 0600, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[] = "/tmp/secret-test-XXXXXX", err[300] = "";
        struct auth_secret s = {0};
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, rows[i].text, strlen(rows[i].text)), strlen(rows[i].text));
        fchmod(fd, rows[i].mode);
        close(fd);
        int rc = auth_secret_load(path, &s, err, sizeof err);
        CHECK((rc == 0) == !rows[i].says, "row %zu: %s", i, err);
        assert_int_equal(s.bytes, rows[i].bytes);
        CHECK(!rows[i].says || (strstr(err, rows[i].says) && strstr(err, path)), "row %zu: %s", i, err);
        CHECK(!strstr(err, "0011"), "row %zu tells the secret: %s", i, err);
        unlink(path);
    }
    char err[300];
    struct auth_secret s;
    assert_int_equal(auth_secret_load("/nonexistent/secret", &s, err, sizeof err), -ENOENT);
    assert_int_equal(auth_secret_load("/tmp", &s, err, sizeof err), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(macs_are_as_they_always_were, set_up),
        cmocka_unit_test_setup(every_bit_counts, set_up),
        cmocka_unit_test_setup(the_dialler_goes_step_by_step, set_up),
        cmocka_unit_test(who_may_read_a_secret),
        cmocka_unit_test(secret_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
