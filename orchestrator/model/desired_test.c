/* SPDX-License-Identifier: BSD-3-Clause */
/* The desired state: from a text and back, what may be changed, what is refused and changes nothing. */
#include "tests/check.h"

#include <errno.h>
#include <stdlib.h>

#include "orchestrator/model/desired.h"

#define HEAD                                                                                       \
    "store:\n"                                                                                     \
    "  etcd: [\"127.0.0.1:2379\"]\n"                                                               \
    "  nodes:\n"                                                                                   \
    "    - {name: store-a, listen: \"127.0.0.1:7400\"}\n"                                          \
    "    - {name: store-b, listen: \"127.0.0.1:7410\"}\n"
#define GROUPS "groups:\n  - {name: nf, replicas: 2, min: 1, max: 8}\n  - {name: canary, replicas: 0, min: 0}\n"

static char err[700];

static struct orch_desired *made(const char *text)
{
    struct orch_desired *d = NULL;
    CHECK(!desired_from_text(&d, "site.yaml", text, err, sizeof err), "%s", err);
    return d;
}

static void it_survives_being_kept(void **state)
{
    struct orch_desired *d = made(HEAD GROUPS), *e = NULL;
    struct orch_policy p = d->groups[0].autoscale;
    p.enabled = true;
    assert_int_equal(desired_scale(d, "nf", 5, err, sizeof err), 0);
    assert_int_equal(desired_policy(d, "nf", &p, err, sizeof err), 0);
    assert_int_equal(desired_stop(d, "store-b", true, err, sizeof err), 0);
    json_t *o = desired_to_json(d);
    CHECK(!desired_from_json(&e, o, err, sizeof err), "%s", err);
    assert_int_equal(e->revision, 4);
    assert_memory_equal(e->groups, d->groups, sizeof d->groups);
    assert_true(desired_is_stopped(e, "store-b"));
    struct orch_desired *c = desired_copy(e);
    assert_string_equal(c->text, d->text);
    assert_int_equal(c->groups[0].replicas, 5);
    json_decref(o);
    desired_free(c);
    desired_free(d);
    desired_free(e);
}

static void replicas_that_cannot_be_are_refused(void **state)
{
    static const struct { const char *group; int64_t n; int rc; const char *says; } rows[] = {
        {"nf", -1, -EINVAL, "-1 replicas of nf cannot be: write a number from 1 to 8"},
        {"nf", 1000000000, -EINVAL, "1000000000 replicas of nf cannot be"},
        {"nf", INT64_MIN, -EINVAL, "cannot be"},
        {"nf", 0, -EINVAL, "cannot be"},
        {"nf", 9, -EINVAL, "cannot be"},
        {"nf", 2, -EALREADY, "nf has 2 replicas already"},
        {"fw", 2, -ENOENT, "there is no group 'fw'; this site has: nf, canary"},
        {"", 2, -ENOENT, "there is no group ''"},
        {"canary", 15, -EINVAL, "more than steering.workers_max (16)"},
    };
    struct orch_desired *d = made(HEAD GROUPS);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int rc = desired_scale(d, rows[i].group, rows[i].n, err, sizeof err);
        CHECK(rc == rows[i].rc && strstr(err, rows[i].says), "row %zu: %d, %s", i, rc, err);
        assert_int_equal(d->revision, 1);
        assert_int_equal(d->groups[0].replicas, 2);
    }
    desired_free(d);
    d = made(HEAD "groups:\n  - {name: nf, min: 0}\n  - {name: b, replicas: 0, min: 0}\n");
    assert_int_equal(desired_scale(d, "nf", 0, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "last worker"));
    desired_free(d);
}

static void the_last_node_stays(void **state)
{
    struct orch_desired *d = made(HEAD);
    assert_int_equal(desired_stop(d, "store-x", true, err, sizeof err), -ENOENT);
    assert_int_equal(desired_stop(d, "store-a", false, err, sizeof err), -EALREADY);
    assert_int_equal(desired_stop(d, "store-a", true, err, sizeof err), 0);
    assert_int_equal(desired_stop(d, "store-b", true, err, sizeof err), -EINVAL);
    assert_int_equal(desired_stop(d, "store-a", false, err, sizeof err), 0);
    assert_int_equal(d->nstopped, 0);
    desired_free(d);
}

static void another_text_keeps_what_was_changed_by_hand(void **state)
{
    struct orch_desired *d = made(HEAD GROUPS);
    assert_int_equal(desired_scale(d, "nf", 4, err, sizeof err), 0);
    assert_int_equal(desired_text(d, "f", HEAD GROUPS, err, sizeof err), -EALREADY);
    CHECK(!desired_text(d, "f", HEAD GROUPS "chain: [nat44]\n", err, sizeof err), "%s", err);
    assert_int_equal(d->groups[0].replicas, 4);
    CHECK(!desired_text(d, "f", HEAD "groups: [{name: nf, replicas: 3}]\n", err, sizeof err), "%s", err);
    assert_int_equal(d->groups[0].replicas, 3);
    assert_int_equal(d->ngroups, 1);
    assert_int_equal(d->revision, 4);
    desired_free(d);
}

static void texts_that_cannot_be_change_nothing(void **state)
{
    static const struct { const char *text; int rc; const char *says; } rows[] = {
        {"", -EINVAL, "my.yaml:1: store.nodes: the file is empty"},
        {"store: [", -EINVAL, "my.yaml:2: this is not YAML"},
        {HEAD "groups: [{name: nf, replicas: -1}]\n", -EINVAL, "my.yaml:6: groups[0].replicas: '-1'"},
        {HEAD "run_dir: /tmp/other\n", -EPERM, "run_dir"},
        {HEAD "  shards: 3\n", -EPERM, "store.shards"},
        {HEAD "  etcd_prefix: /other\n", -EPERM, "store.etcd_prefix"},
        {"store:\n  nodes: [{name: store-a, listen: \"127.0.0.1:7400\"}]\n", -EPERM, "store.etcd"},
    };
    struct orch_desired *d = made(HEAD GROUPS);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int rc = desired_text(d, "my.yaml", rows[i].text, err, sizeof err);
        CHECK(rc == rows[i].rc && strstr(err, rows[i].says), "row %zu: %d, %s", i, rc, err);
        assert_string_equal(d->text, HEAD GROUPS);
        assert_int_equal(d->revision, 1);
    }
    CHECK(!desired_text(d, "f", HEAD "    - {name: store-c, listen: \"127.0.0.1:7420\"}\n", err, sizeof err),
          "%s", err);
    desired_free(d);
}

static void who_reads_a_key_is_started_anew(void **state)
{
    struct orch_desired *a = made(HEAD GROUPS "nfs: {x: 1}\n"), *b = made(HEAD GROUPS "\n# now\nnfs: {x: 1}\n");
    struct orch_desired *c = made(HEAD GROUPS "nfs: {x: 2}\n"), *e = made(HEAD "failure_timeout_ms: 300\n");
    struct orch_desired *f = made(HEAD "groups:\n  - {name: nf, replicas: 5, limits: {nice: 3}}\nnfs: {x: 1}\n");
    for (int kind = 0; kind <= ORCH_WORKER; kind++) {
        enum orch_kind k = (enum orch_kind)kind;
        assert_true(desired_config(a, k, NULL) == desired_config(b, k, NULL));
        assert_true((desired_config(a, k, NULL) == desired_config(c, k, NULL)) == (k != ORCH_WORKER));
        assert_true(desired_config(a, k, NULL) != desired_config(e, k, NULL));
        assert_true(desired_config(a, k, NULL) == desired_config(f, k, NULL));
    }
    assert_true(desired_config(a, ORCH_WORKER, &a->groups[0]) != desired_config(f, ORCH_WORKER, &f->groups[0]));
    struct orch_desired *g = made(HEAD "groups: [{name: nf, weight: 40}]\n");
    struct orch_desired *h = made(HEAD "groups: [{name: nf, weight: 100}]\n"), *i0 = made(HEAD);
    assert_true(desired_config(g, ORCH_WORKER, &g->groups[0]) != desired_config(h, ORCH_WORKER, &h->groups[0]));
    assert_true(desired_config(i0, ORCH_WORKER, &i0->groups[0]) == desired_config(h, ORCH_WORKER, &h->groups[0]));
    assert_int_equal(g->groups[0].weight, 40);
    struct orch_desired *all[] = {a, b, c, e, f, g, h, i0};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        desired_free(all[i]);
}

static void policies_are_read_strictly(void **state)
{
    static const struct { const char *json, *says; } rows[] = {
        {"[]", "a policy is an object"},
        {"{\"enabled\": 1}", "enabled: write true or false"},
        {"{\"busy_high\": 700}", "a policy has no such field; it has enabled, busy_high_permille"},
        {"{\"busy_high_permille\": 1001}", "busy_high_permille: write a whole number from 1 to 1000"},
        {"{\"busy_high_permille\": 0.5}", "busy_high_permille: write"},
        {"{\"queue_high\": -1}", "queue_high: write"},
        {"{\"busy_low_permille\": 800}", "must be below"},
        {"{\"cooldown_ms\": 1e30}", "cooldown_ms: write"},
    };
    struct orch_policy p = {false, 700, 300, 512, 1, 2000, 30000, 5000}, was = p;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *o = json_loads(rows[i].json, 0, NULL);
        CHECK(policy_from_json(o, &p, err, sizeof err) == -EINVAL && strstr(err, rows[i].says), "row %zu: %s",
              i, err);
        assert_memory_equal(&p, &was, sizeof p);
        json_decref(o);
    }
    json_t *o = json_loads("{\"enabled\": true, \"queue_high\": 9}", 0, NULL);
    assert_int_equal(policy_from_json(o, &p, err, sizeof err), 0);
    assert_true(p.enabled && p.queue_high == 9 && p.busy_high_permille == 700);
    json_decref(o);
}

static void kept_states_that_cannot_be_are_not_believed(void **state)
{
    static const char *const rows[] = {
        "[]", "{}", "{\"revision\": 1}",
        "{\"revision\": 0, \"down\": false, \"site\": \"\", \"stopped\": [], \"groups\": []}",
        "{\"revision\": 2, \"down\": false, \"site\": \"x\", \"stopped\": [], \"groups\": []}",
        "{\"revision\": 2, \"down\": false, \"site\": \"SITE\", \"stopped\": [\"x\"], \"groups\": []}",
        "{\"revision\": 2, \"down\": false, \"site\": \"SITE\", \"stopped\": [1], \"groups\": []}",
        "{\"revision\": 2, \"down\": false, \"site\": \"SITE\", \"stopped\": [], \"groups\": [1]}",
        "{\"revision\": 2, \"down\": false, \"site\": \"SITE\", \"stopped\": [], \"groups\": [{\"name\": \"nf\", "
        "\"replicas\": 77, \"autoscale\": {}}]}",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct orch_desired *d = NULL;
        json_t *o = json_loads(rows[i], 0, NULL);
        if (!strcmp(json_string_value(json_object_get(o, "site")) ?: "", "SITE"))
            json_object_set_new(o, "site", json_string(HEAD GROUPS));
        CHECK(desired_from_json(&d, o, err, sizeof err) == -EINVAL && !d, "row %zu is believed", i);
        json_decref(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_survives_being_kept),
        cmocka_unit_test(replicas_that_cannot_be_are_refused),
        cmocka_unit_test(the_last_node_stays),
        cmocka_unit_test(another_text_keeps_what_was_changed_by_hand),
        cmocka_unit_test(texts_that_cannot_be_change_nothing),
        cmocka_unit_test(who_reads_a_key_is_started_anew),
        cmocka_unit_test(policies_are_read_strictly),
        cmocka_unit_test(kept_states_that_cannot_be_are_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
