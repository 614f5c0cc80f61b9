/* SPDX-License-Identifier: BSD-3-Clause */
/* What a chain's plan says: chains whose plans are known, recorded from their packets. */
#include "tests/check.h"

#include <stdlib.h>
#include <unistd.h>

#include "nf/worker/explain.h"

static char err[400], path[] = "/tmp/explain_test_XXXXXX";

/* The plan of a chain, with some of its NFs' keys. */
static json_t *plan_of(const char *chain, const char *nfs)
{
    struct chain c = {0};
    char text[2000];
    strcpy(path, "/tmp/explain_test_XXXXXX");
    int fd = mkstemp(path);
    int n = snprintf(text, sizeof text, "store:\n  nodes: [{name: a, listen: \"127.0.0.1:7400\"}]\n"
                                        "chain: [%s]\nnfs:\n%s", chain, nfs);
    assert_true(fd >= 0 && write(fd, text, (size_t)n) == n);
    close(fd);
    CHECK(chain_load(path, &c, err, sizeof err) == 0, "%s", err);
    json_t *plan = explain_chain(&c, path, err, sizeof err);
    CHECK(plan, "%s", err);
    chain_free(&c);
    unlink(path);
    return plan;
}

static json_t *case_of(const json_t *plan, const char *name, const char *side, const char *proto)
{
    size_t i;
    json_t *o;
    json_array_foreach(json_object_get(plan, "cases"), i, o)
        if (!strcmp(json_string_value(json_object_get(o, "case")), name) &&
            !strcmp(json_string_value(json_object_get(o, "side")), side) &&
            !strncmp(json_string_value(json_object_get(o, "packet")), proto, strlen(proto)))
            return o;
    CHECK(false, "no %s from the %s by %s", name, side, proto);
    return NULL;
}

static int number(const json_t *o, const char *key)
{
    CHECK(json_is_integer(json_object_get(o, key)), "%s", key);
    return (int)json_integer_value(json_object_get(o, key));
}

/* "get nat.session absent" of a step. */
static bool has_op(const json_t *o, size_t step, const char *wanted)
{
    size_t i;
    json_t *op, *ops = json_object_get(json_array_get(json_object_get(o, "steps"), step), "ops");
    json_array_foreach(ops, i, op) {
        char text[100];
        snprintf(text, sizeof text, "%s %s %s", json_string_value(json_object_get(op, "op")),
                 json_string_value(json_object_get(op, "table")),
                 json_string_value(json_object_get(op, "result")));
        if (!strcmp(text, wanted))
            return true;
    }
    return false;
}

static const char nat[] = "  nat44: {external: [203.0.113.0/28], inside: [10.1.0.0/16]}\n";

/* DESIGN 3: a new flow and an established packet both take one round trip. */
static void nat_takes_one_round_trip(void **state)
{
    json_t *plan = plan_of("nat44", nat);
    json_t *o = case_of(plan, "new flow", "inside", "tcp");
    assert_string_equal(json_string_value(json_object_get(plan, "source")), "10.1.0.5");
    assert_int_equal(number(o, "round_trips"), 1);
    assert_int_equal(number(o, "writes"), 3); /* an index, the mapping, the session */
    assert_true(has_op(o, 0, "get nat.session absent"));
    assert_true(has_op(o, 0, "alloc nat.ports.tcp done"));
    o = case_of(plan, "established", "inside", "tcp");
    assert_int_equal(number(o, "round_trips"), 1);
    assert_int_equal(number(o, "reads"), 1);
    assert_int_equal(number(o, "writes"), 0);
    assert_true(has_op(o, 0, "get nat.session hit"));
    o = case_of(plan, "established", "outside", "udp");
    assert_int_equal(number(o, "round_trips"), 1);
    assert_true(has_op(o, 0, "get nat.ports.udp hit"));
    json_decref(plan);
}

/* The answer opens the session: a compare-and-swap behind the look-up. */
static void a_commit_is_a_round_trip(void **state)
{
    json_t *plan = plan_of("nat44", nat);
    json_t *o = case_of(plan, "first answer", "outside", "tcp"), *second;
    assert_int_equal(number(o, "round_trips"), 2);
    assert_true(has_op(o, 1, "cas nat.session done"));
    second = json_array_get(json_object_get(o, "steps"), 1);
    assert_string_equal(json_string_value(json_object_get(second, "phase")), "commit");
    json_decref(plan);
}

/* Asynchronous counts go out and are not waited for. */
static void counts_are_not_waited_for(void **state)
{
    json_t *plan = plan_of("monitor", "  monitor: {}\n");
    json_t *o = case_of(plan, "established", "inside", "udp");
    json_t *step = json_array_get(json_object_get(o, "steps"), 0);
    assert_int_equal(number(o, "round_trips"), 0);
    assert_int_equal(number(o, "writes"), 1);
    assert_true(json_is_false(json_object_get(step, "waited_for")));
    assert_string_equal(json_string_value(json_object_get(step, "phase")), "count");
    assert_string_equal(json_string_value(json_object_get(step, "nf")), "monitor");
    json_decref(plan);
}

static void a_chain_has_the_tables_of_all(void **state)
{
    json_t *plan = plan_of("nat44, monitor", nat), *t;
    size_t i, nats = 0, monitors = 0;
    json_array_foreach(json_object_get(plan, "tables"), i, t) {
        nats += !strcmp(json_string_value(json_object_get(t, "nf")), "nat44");
        monitors += !strcmp(json_string_value(json_object_get(t, "table")), "monitor.flows");
    }
    assert_int_equal(nats, 8);
    assert_int_equal(monitors, 1);
    assert_int_equal(json_array_size(json_object_get(plan, "chain")), 2);
    json_decref(plan);
}

/* A source that the NAT does not translate is not a sample. */
static void the_sample_is_one_that_passes(void **state)
{
    json_t *plan = plan_of("nat44", "  nat44: {external: [203.0.113.0/28], inside: [172.16.0.0/12]}\n");
    assert_string_equal(json_string_value(json_object_get(plan, "source")), "172.16.0.5");
    json_decref(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nat_takes_one_round_trip), cmocka_unit_test(a_commit_is_a_round_trip),
        cmocka_unit_test(counts_are_not_waited_for), cmocka_unit_test(a_chain_has_the_tables_of_all),
        cmocka_unit_test(the_sample_is_one_that_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
