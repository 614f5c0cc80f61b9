/* SPDX-License-Identifier: BSD-3-Clause */
/* Joining steering: what of its answers is taken, and the housekeeper against
 * a control socket of the test's own. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tests/check.h"

#include "common/metrics/control.h"
#include "nf/worker/join.h"

#define SIDE(n)                                                                                    \
    "{\"socket\": \"/run/x.sock\", \"id\": 0, \"mac\": \"02:4c:45:00:00:0" n "\", "                \
    "\"peer_mac\": \"02:00:00:00:00:1" n "\", \"devargs\": \"role=client,id=" n "\"}"
#define GOOD                                                                                       \
    "{\"ok\": true, \"name\": \"w1\", \"worker\": 3, \"inside\": " SIDE(                           \
        "0") ", \"outside\": " SIDE("1") ", \"doorbell\": \"/run/steer.bell\", \"mtu\": 1500, "    \
                                         "\"incarnation\": 1746012345678}"

static void whole_reply_is_taken(void **state)
{
    struct join_reply r;
    char err[200] = "";
    CHECK(join_reply_parse(GOOD, &r, err, sizeof err) == 0, "%s", err);
    assert_int_equal(r.worker, 3);
    assert_true(r.incarnation == 1746012345678u);
    assert_string_equal(r.devargs[0], "role=client,id=0");
    assert_string_equal(r.devargs[1], "role=client,id=1");
    assert_int_equal(r.mac[1][5], 1);
    assert_int_equal(r.peer_mac[0][5], 0x10);
    assert_string_equal(r.doorbell, "/run/steer.bell");
}

static void what_is_wrong_is_named(void **state)
{
    static const struct {
        const char *json, *says;
        int rc;
    } rows[] = {
        {"", "not JSON", -EPROTO},
        {"[]", "worker", -EPROTO},
        {"{\"error\": \"no room\"}", "no room", -ECONNREFUSED},
        {"{\"worker\": \"x\"}", "worker", -EPROTO},
        {"{\"worker\": 1}", "inside", -EPROTO},
        {"{\"worker\": 1, \"inside\": " SIDE("0") "}", "outside", -EPROTO},
        {"{\"worker\": 1, \"inside\": " SIDE("zz") ", \"outside\": " SIDE("1") "}", "inside",
         -EPROTO},
        {"{\"worker\": 1, \"inside\": " SIDE("0") ", \"outside\": " SIDE("1") "}", "doorbell",
         -EPROTO},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct join_reply r = {.worker = 77};
        char err[200] = "";
        int rc = join_reply_parse(rows[i].json, &r, err, sizeof err);
        CHECK(rc == rows[i].rc, "row %zu: %d", i, rc);
        CHECK(strstr(err, rows[i].says), "row %zu: \"%s\" does not say %s", i, err, rows[i].says);
        CHECK(r.worker == 77, "row %zu: the reply was touched", i);
    }
}

static void answer(void *ctx, int argc, char **argv, char *reply, uint32_t room)
{
    int *asked = ctx;
    if (!strcmp(argv[0], "join"))
        assert_true(argc == 3 && !strcmp(argv[2], "40"));
    else
        assert_int_equal(argc, 2);
    asked[strcmp(argv[0], "join") == 0 ? 0 : 1]++;
    if (asked[0] == 1 && !strcmp(argv[0], "join"))
        snprintf(reply, room, "{\"error\": \"not yet\"}");
    else
        snprintf(reply, room, "%s",
                 strcmp(argv[0], "join") ? "{\"ok\": true, \"last\": true}" : GOOD);
}

static bool within_10_s(bool (*condition)(struct joiner *j, struct join_reply *r), struct joiner *j,
                        struct join_reply *r)
{
    for (int i = 0; i < 10000; i++) {
        if (condition(j, r))
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return false;
}

static bool left(struct joiner *j, struct join_reply *r)
{
    bool last;
    return joiner_left(j, &last);
}

static void joins_until_answered_and_leaves(void **state)
{
    char folder[] = "/tmp/join-test-XXXXXX", path[64], err[200];
    int asked[2] = {0};
    struct control *c;
    struct joiner *j;
    struct join_reply r;
    bool last = false;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/steer.sock", folder);
    struct metrics *m = metrics_create("steer");
    CHECK(control_start(&c, path, m, answer, asked, err, sizeof err) == 0, "%s", err);
    assert_int_equal(joiner_start(&j, "w1", 40, path), 0);
    CHECK(!joiner_take(j, &r), "a reply that nobody asked for");
    joiner_want(j);
    assert_true(within_10_s(joiner_take, j, &r));
    assert_int_equal(r.worker, 3);
    CHECK(!joiner_take(j, &r), "one reply was given twice");
    joiner_leave(j);
    assert_true(within_10_s(left, j, &r));
    assert_true(joiner_left(j, &last) && last);
    joiner_stop(j);
    control_stop(c);
    metrics_destroy(m);
    CHECK(asked[0] == 2 && asked[1] == 1, "joins %d, leaves %d", asked[0], asked[1]);
    unlink(path);
    rmdir(folder);
}

struct refusing { const char *third; int asked; };

/* The first two are refused; the third is as `ctx` says. */
static void refuse_to_let_go(void *ctx, int argc, char **argv, char *reply, uint32_t room)
{
    struct refusing *r = ctx;
    static const char *const first[] = {"{\"error\": \"the datapath did not answer in time\"}",
                                        "{\"error\": \"an earlier order is still being carried out\"}"};
    assert_true(argc == 2 && !strcmp(argv[0], "leave"));
    snprintf(reply, room, "%s", r->asked < 2 ? first[r->asked] : r->third);
    r->asked++;
}

static void a_refused_leave_is_asked_again(void **state)
{
    static const struct { const char *third; bool last; } rows[] = {
        {"{\"ok\": true, \"last\": true}", true},
        {"{\"ok\": true, \"last\": false}", false},
        {"{\"error\": \"no worker of the name 'w1' has joined\"}", false},
    };
    char folder[] = "/tmp/join-test-XXXXXX", path[64], err[200];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/steer.sock", folder);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct refusing ctx = {rows[i].third, 0};
        struct metrics *m = metrics_create("steer");
        struct control *c;
        struct joiner *j;
        struct join_reply r;
        bool last = false;
        CHECK(control_start(&c, path, m, refuse_to_let_go, &ctx, err, sizeof err) == 0, "%s", err);
        assert_int_equal(joiner_start(&j, "w1", 100, path), 0);
        joiner_leave(j);
        assert_true(within_10_s(left, j, &r));
        CHECK(joiner_left(j, &last) && last == rows[i].last, "row %zu: last %d", i, last);
        joiner_stop(j);
        control_stop(c);
        metrics_destroy(m);
        CHECK(ctx.asked == 3, "row %zu: asked %d times", i, ctx.asked);
        unlink(path);
    }
    rmdir(folder);
}

static void without_steering_it_has_left_at_once(void **state)
{
    struct joiner *j;
    struct join_reply r;
    assert_int_equal(joiner_start(&j, "w1", 100, NULL), 0);
    joiner_leave(j);
    assert_true(within_10_s(left, j, &r));
    joiner_stop(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_reply_is_taken),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(joins_until_answered_and_leaves),
        cmocka_unit_test(a_refused_leave_is_asked_again),
        cmocka_unit_test(without_steering_it_has_left_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
