/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line: rows of arguments -> what is understood, or exit status 2. */
#include <getopt.h>
#include <unistd.h>

#include "tests/check.h"

#include "common/packet/packet.h"
#include "nf/worker/options.h"

enum { ARGS = 8 };

static bool parse(const char *const *args, struct options *o, int *status)
{
    char *argv[ARGS + 2] = {(char *)(uintptr_t) "lethe-nf"};
    int argc = 1;
    for (; args[argc - 1]; argc++)
        argv[argc] = (char *)(uintptr_t)args[argc - 1];
    optind = 0; /* getopt starts afresh */
    return options_parse(argc, argv, o, status);
}

/* What a wrong line prints is for people; here it would only look like a failure. */
static bool parse_quietly(const char *const *args, struct options *o, int *status)
{
    fflush(stderr);
    int kept = dup(2);
    if (!freopen("/dev/null", "w", stderr))
        fail();
    bool ok = parse(args, o, status);
    fflush(stderr);
    dup2(kept, 2);
    close(kept);
    return ok;
}

static void wrong_lines_exit_with_2(void **state)
{
    static const char *const rows[][ARGS] = {
        {"-c", "x.yaml"},
        {"--worker", "-w1"},
        {"--worker", "a/b"},
        {"--worker", "w1", "more"},
        {"--worker", "w1", "--nonsense"},
        {"--worker", "w1", "--port", "inside=net_null0"},
        {"--worker", "w1", "--port", "aside=net_null0"},
        {"--worker", "w1", "--peer", "inside=02:00:00:00:00:01"},
        {"--worker", "w1", "-o", "xml"},
        {"-ww1", "--front=steer-2", "--port=inside=net_null0", "--port=outside=net_null1"},
        {"-ww1", "--tunnel=net_af_packet0,iface=e0", "--front=steer-2"},
        {"-ww1", "--tunnel=net_null2", "--port=inside=net_null0", "--port=outside=net_null1"},
        {"-ww1", "--address=10.9.1.1"},
        {"-ww1", "--ask"},
        {"-ww1", "--weight=0"},
        {"-ww1", "--weight=101"},
        {"-ww1", "--weight=5x"},
        {"-ww1", "--weight="},
        {"--worker"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct options o;
        int status = 0;
        CHECK(!parse_quietly(rows[i], &o, &status), "row %zu was taken", i);
        CHECK(status == EXIT_USAGE, "row %zu: status %d", i, status);
    }
}

static void right_lines_are_understood(void **state)
{
    struct options o;
    int status;
    static const char *const plain[] = {"-c", "s.yaml", "--worker", "w-1", NULL};
    assert_true(parse(plain, &o, &status));
    assert_string_equal(o.config, "s.yaml");
    assert_string_equal(o.name, "w-1");
    assert_null(o.port[SIDE_INSIDE]);
    assert_null(o.front);
    static const char *const front[] = {"--worker", "w-1", "--front", "steer-2", NULL};
    assert_true(parse(front, &o, &status));
    assert_string_equal(o.front, "steer-2");
    assert_null(o.tunnel);
    assert_int_equal(o.weight, 100);
    static const char *const tunnel[] = {"-ww1", "--tunnel=net_af_packet0,iface=e0", "--weight=7",
                                         "--address=10.9.1.1", NULL};
    assert_true(parse(tunnel, &o, &status));
    assert_string_equal(o.tunnel, "net_af_packet0,iface=e0");
    assert_int_equal(o.weight, 7);
    assert_string_equal(o.address, "10.9.1.1");
    static const char *const ports[] = {"--name=w1", "--port=inside=net_null0",
                                        "--port=outside=net_af_packet1,iface=e1",
                                        "--peer=outside=02:00:00:00:00:fe", NULL};
    assert_true(parse(ports, &o, &status));
    assert_string_equal(o.port[SIDE_OUTSIDE], "net_af_packet1,iface=e1");
    assert_true(o.peer_given[SIDE_OUTSIDE] && !o.peer_given[SIDE_INSIDE]);
    assert_int_equal(o.peer[SIDE_OUTSIDE][5], 0xfe);
    static const char *const check[] = {"--check", "-o", "json", NULL};
    assert_true(parse(check, &o, &status));
    assert_true(o.check && o.json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_lines_exit_with_2),
        cmocka_unit_test(right_lines_are_understood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
