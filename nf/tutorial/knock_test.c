/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tutorial's NF does what docs/writing-an-nf.md says, and the page shows
 * the very file.
 */
#include "tests/check.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/packet/packet_forge.h"
#include "nf/testing/rig.h"

extern const struct nf_ops knock_ops;

#define VISITOR IP4(198, 51, 100, 7)
#define OTHER   IP4(198, 51, 100, 8)
#define SERVER  IP4(10, 0, 0, 1)

static struct rig *rig;

static bool offer(uint32_t src, uint8_t proto, uint16_t dport)
{
    const struct forge f = {
        .src = src, .dst = SERVER, .proto = proto, .sport = 999, .dport = dport, .flags = 2};
    uint8_t frame[FORGE_ROOM];
    const struct rig_out *o = rig_send(rig, SIDE_OUTSIDE, frame, forge_frame(&f, frame));

    if (!o->emitted)
        assert_string_equal(o->reason, "knock_not_open");
    return o->emitted;
}

static void knocks(uint32_t src, int n)
{
    for (int i = 0; i < n; i++)
        assert_true(offer(src, 17, (uint16_t)(7001 + i)));
}

static bool ssh(uint32_t src)
{
    return offer(src, 6, 22);
}

static void closed_to_strangers(void **state)
{
    assert_false(ssh(VISITOR));
    assert_true(offer(VISITOR, 6, 80)); /* not ours to judge */
    assert_int_equal(rig_stats(rig).lookups, 1);
}

static void three_knocks_open(void **state)
{
    knocks(VISITOR, 2);
    assert_false(ssh(VISITOR));
    assert_true(offer(VISITOR, 17, 7003));
    assert_true(ssh(VISITOR));
    assert_false(ssh(OTHER));
}

static void wrong_order_starts_again(void **state)
{
    assert_true(offer(VISITOR, 17, 7001));
    assert_true(offer(VISITOR, 17, 7003));
    assert_true(offer(VISITOR, 17, 7002));
    assert_false(ssh(VISITOR));
    assert_true(offer(VISITOR, 17, 7001));
    assert_true(offer(VISITOR, 17, 7001)); /* the first one again is a first one */
    assert_true(offer(VISITOR, 17, 7002));
    assert_true(offer(VISITOR, 17, 7003));
    assert_true(ssh(VISITOR));
}

static void patience_ends(void **state)
{
    knocks(VISITOR, 2);
    rig_advance(rig, 11000);
    assert_true(offer(VISITOR, 17, 7003));
    assert_false(ssh(VISITOR));
}

static void stays_open_while_used(void **state)
{
    knocks(VISITOR, 3);
    for (int i = 0; i < 3; i++) {
        rig_advance(rig, 250000);
        assert_true(ssh(VISITOR));
    }
    rig_advance(rig, 340000); /* 300 s and a little: touches are logged lazily */
    assert_false(ssh(VISITOR));
}

static int set_up(void **state)
{
    static const struct nf_ops *const chain[] = {&knock_ops};
    static const void *const configs[] = {NULL};
    rig = rig_create(chain, configs, 1, 5);
    return 0;
}

static int tear_down(void **state)
{
    rig_destroy(rig);
    return 0;
}

/* --- the page ---------------------------------------------------------------------------- */

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "r");
    CHECK(f, "%s", path);
    char *text = calloc(1, 65536);
    assert_non_null(text);
    CHECK(fread(text, 1, 65535, f) > 0, "%s is empty", path);
    fclose(f);
    return text;
}

static void the_page_shows_the_file(void **state)
{
    char *page = read_file(LETHE_SOURCE_DIR "/docs/writing-an-nf.md");
    char *code = read_file(LETHE_SOURCE_DIR "/nf/tutorial/knock.c");
    int lines = 0;

    CHECK(strstr(page, code), "docs/writing-an-nf.md does not contain nf/tutorial/knock.c as it "
                              "is; copy it again");
    for (const char *c = code; *c; c++)
        lines += *c == '\n';
    CHECK(lines <= 60, "the 60-line NF has %d lines", lines);
    free(page);
    free(code);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(closed_to_strangers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(three_knocks_open, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_order_starts_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(patience_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stays_open_while_used, set_up, tear_down),
        cmocka_unit_test(the_page_shows_the_file),
    };
    return cmocka_run_group_tests_name("knock", tests, NULL, NULL);
}
