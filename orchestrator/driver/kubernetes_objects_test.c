/* SPDX-License-Identifier: BSD-3-Clause */
/* What an API server tells, as it was recorded, and what follows from it for a program's death. */
#include "tests/check.h"

#include <errno.h>

#include "orchestrator/driver/kubernetes_objects.h"

#define A "containerd://0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9"
#define B "containerd://ffffffff4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9"
#define C "containerd://cccccccc4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9"

/* As 1.20 writes it, without what nobody reads. %s: of metadata; the container's status. */
static const char pod_text[] =
    "{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"nf-5d4f8b6c9-x2x4z\", \"namespace\": \"lethe\", "
    "\"uid\": \"9a1f7a8e-41a4-4c6e-9a6b-0c4f5d2f1e3a\", \"resourceVersion\": \"812\", \"labels\": {\"app\": \"nf\", "
    "\"pod-template-hash\": \"5d4f8b6c9\"}%s}, \"spec\": {\"nodeName\": \"n1\", \"containers\": [{\"name\": \"sidecar\"}, "
    "{\"name\": \"nf\", \"ports\": [{\"name\": \"metrics\", \"containerPort\": 9471, \"protocol\": \"TCP\"}, {\"name\": \"vxlan\", "
    "\"containerPort\": 4789}]}]}, \"status\": {\"phase\": \"Running\", \"hostIP\": \"10.88.0.1\", \"podIP\": \"10.244.1.7\", "
    "\"containerStatuses\": [{\"name\": \"sidecar\", \"containerID\": \"" C "\", \"state\": {\"running\": {}}}, %s]}}";

#define RUNNING(id) "\"name\": \"nf\", \"containerID\": \"" id "\", \"state\": {\"running\": {\"startedAt\": \"2026-05-04T10:11:12Z\"}}"
#define ENDED(id, code, why)                                                                       \
    "{\"terminated\": {\"exitCode\": " #code ", \"reason\": \"" why "\", \"startedAt\": \"2026-05-04T10:11:12Z\", "                  \
    "\"finishedAt\": \"2026-05-04T10:11:19Z\", \"containerID\": \"" id "\"}}"
#define DELETED ", \"deletionTimestamp\": \"2026-05-04T10:12:12Z\", \"deletionGracePeriodSeconds\": 20"
#define FORCED ", \"deletionTimestamp\": \"2026-05-04T10:12:12Z\", \"deletionGracePeriodSeconds\": 0"

static struct kube_pod pod(const char *meta, const char *status)
{
    char text[4096];
    struct kube_pod p;
    snprintf(text, sizeof text, pod_text, meta, status);
    json_error_t error;
    json_t *o = json_loads(text, 0, &error);
    CHECK(o, "%s at %d: %s", error.text, error.position, text);
    CHECK(!kube_pod_read(o, &p), "%s", text);
    json_decref(o);
    return p;
}

static void a_pod_is_read(void **state)
{
    struct kube_pod p = pod("", "{" RUNNING(A) ", \"lastState\": {}}");
    assert_string_equal(p.name, "nf-5d4f8b6c9-x2x4z");
    assert_string_equal(p.uid, "9a1f7a8e-41a4-4c6e-9a6b-0c4f5d2f1e3a");
    assert_string_equal(p.app, "nf");
    assert_string_equal(p.node, "n1");
    assert_string_equal(p.address, "10.244.1.7");
    assert_string_equal(p.host, "10.88.0.1");
    assert_int_equal(p.port, 9471);
    assert_string_equal(p.container, A); /* not the sidecar's */
    assert_int_equal(p.started_s, 1777889472);
    assert_false(p.deleted || p.over);
    p = pod(DELETED, "{\"name\": \"nf\", \"state\": {\"waiting\": {\"reason\": \"ContainerCreating\"}}}");
    assert_true(p.deleted);
    assert_string_equal(p.container, "");
    assert_string_equal(p.waiting, "ContainerCreating");
}

static void what_cannot_be_is_not_believed(void **state)
{
    static const char *const rows[] = {
        "{}", "[]", "{\"metadata\": {\"name\": \"a\"}}", "{\"metadata\": {\"name\": \"a/../b\", \"uid\": \"1\"}}",
        "{\"metadata\": {\"name\": \"a\", \"uid\": \"1/2\"}}", "{\"metadata\": {\"name\": 7, \"uid\": \"1\"}}",
        "{\"metadata\": {\"name\": \"\", \"uid\": \"1\"}}", "{\"metadata\": {\"name\": \"..\", \"uid\": \"1\"}}",
        "{\"metadata\": {\"name\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\", \"uid\": \"1\"}}"};
    struct kube_pod p;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *o = json_loads(rows[i], 0, NULL);
        CHECK(kube_pod_read(o, &p) && !*p.name, "%s is believed", rows[i]);
        json_decref(o);
    }
    json_t *o = json_loads("{\"metadata\": {\"name\": \"a\", \"uid\": \"1\"}, \"spec\": {\"nodeName\": \"A B\", \"containers\": [{\"name\": "
                           "\"x\", \"ports\": [{\"name\": \"metrics\", \"containerPort\": 70000}]}]}, \"status\": {\"podIP\": "
                           "\"1.2.3.4/evil\", \"containerStatuses\": [{\"name\": \"x\", \"containerID\": \"a b\", \"state\": "
                           "{\"running\": {}}}]}}", 0, NULL);
    assert_int_equal(kube_pod_read(o, &p), 0);
    CHECK(!*p.node && !*p.address && !p.port && !*p.container, "%s %s %u %s", p.node, p.address, p.port, p.container);
    json_decref(o);
}

static void deaths_are_judged_by_the_kubelets_word(void **state)
{
    static const struct {
        const char *what, *was, *meta, *now; /* now NULL: a list does not have it */
        bool gone, node_gone, ended, proven;
        int exit_status, signal;
        const char *how;
    } rows[] = {
        {"nothing happened", "{" RUNNING(A) "}", "", "{" RUNNING(A) "}", false, false, false, false, 0, 0, ""},
        {"told to go", "{" RUNNING(A) "}", DELETED, "{" RUNNING(A) "}", false, false, false, false, 0, 0, ""},
        {"terminated", "{" RUNNING(A) "}", DELETED, "{\"name\": \"nf\", \"state\": " ENDED(A, 0, "Completed") "}", false, false, true,
         true, 0, 0, "Completed, exit code 0"},
        {"crashed and is back", "{" RUNNING(A) "}", "", "{" RUNNING(B) ", \"lastState\": " ENDED(A, 139, "Error") "}", false, false, true,
         true, 0, 11, "Error, exit code 139"},
        {"no memory", "{" RUNNING(A) "}", "", "{\"name\": \"nf\", \"state\": {\"waiting\": {\"reason\": \"CrashLoopBackOff\"}}, "
         "\"lastState\": " ENDED(A, 137, "OOMKilled") "}", false, false, true, true, 0, 9, "OOMKilled"},
        {"exit 3", "{" RUNNING(A) "}", "", "{\"name\": \"nf\", \"state\": " ENDED(A, 3, "Error") "}", false, false, true, true, 3, 0, "code 3"},
        {"gone in good order", "{" RUNNING(A) "}", DELETED, "{\"name\": \"nf\", \"state\": " ENDED(A, 0, "Completed") "}", true, false,
         true, true, 0, 0, "kubelet says"},
        {"removed by force", "{" RUNNING(A) "}", FORCED, "{" RUNNING(A) "}", true, false, true, false, 0, 0, "by force"},
        {"gone with its node", "{" RUNNING(A) "}", FORCED, "{" RUNNING(A) "}", true, true, true, false, 0, 0, "with its node"},
        {"another one's end proves nothing", "{" RUNNING(A) "}", FORCED, "{\"name\": \"nf\", \"state\": " ENDED(B, 0, "Completed") "}",
         true, false, true, false, 0, 0, "may live"},
        {"gone while nobody looked", "{" RUNNING(A) "}", "", NULL, true, false, true, false, 0, 0, "not heard"},
        {"two later", "{" RUNNING(A) "}", "", "{" RUNNING(C) ", \"lastState\": " ENDED(B, 1, "Error") "}", false, false, true, false, 0,
         0, "another container"},
        {"two later, and ended", "{" RUNNING(A) "}", "", "{\"name\": \"nf\", \"state\": " ENDED(B, 1, "Error") "}", false, false, true,
         false, 0, 0, "another container"},
        {"a status without a word", "{" RUNNING(A) "}", "", "{\"name\": \"nf\", \"state\": {}}", false, false, false, false, 0, 0, ""},
        {"it never ran", "{\"name\": \"nf\", \"state\": {\"waiting\": {}}}", FORCED, "{\"name\": \"nf\", \"state\": {\"waiting\": {}}}",
         true, false, false, false, 0, 0, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kube_pod was = pod("", rows[i].was), now = rows[i].now ? pod(rows[i].meta, rows[i].now) : was;
        struct kube_verdict v;
        kube_judge(&was, rows[i].now ? &now : NULL, rows[i].gone, rows[i].node_gone, &v);
        CHECK(v.ended == rows[i].ended && v.proven == rows[i].proven && v.status_known == rows[i].proven, "%s: %d %d", rows[i].what,
              v.ended, v.proven);
        CHECK(v.exit_status == rows[i].exit_status && v.signal == rows[i].signal, "%s: %d %d", rows[i].what, v.exit_status, v.signal);
        CHECK(strstr(v.how, rows[i].how) && !*v.how == !v.ended, "%s: '%s'", rows[i].what, v.how);
    }
}

/* As 1.20 writes it: the object stays, for as long as nobody deletes it, and has no word of containers. Later ones keep theirs. */
static void an_evicted_pod_runs_no_more(void **state)
{
    static const struct { const char *statuses; bool ended, proven; } rows[] = {
        {"[]", true, false}, {"[{" RUNNING(A) "}]", false, false}, {"[{\"name\": \"nf\", \"state\": " ENDED(A, 137, "Error") "}]", true, true}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct kube_pod was = pod("", "{" RUNNING(A) "}"), now;
        struct kube_verdict v;
        json_t *o = json_pack("{s:{s:s, s:s, s:{s:s}}, s:{s:s, s:[{s:s}]}, s:{s:s, s:s, s:s, s:o}}", "metadata", "name", was.name, "uid",
                              was.uid, "labels", "app", "nf", "spec", "nodeName", "n1", "containers", "name", "nf", "status", "phase",
                              "Failed", "reason", "Evicted", "message", "The node was low on resource", "containerStatuses",
                              json_loads(rows[i].statuses, 0, NULL));
        assert_int_equal(kube_pod_read(o, &now), 0);
        kube_judge(&was, &now, false, false, &v);
        CHECK(now.over && v.ended == rows[i].ended && v.proven == rows[i].proven && !*v.how == !v.ended, "%s: %d %d %s", rows[i].statuses,
              v.ended, v.proven, v.how);
        json_decref(o);
    }
}

static void lists_events_and_words(void **state)
{
    struct kube_list list;
    struct kube_event e;
    char words[80];
    json_t *o = json_loads("{\"kind\": \"PodList\", \"metadata\": {\"resourceVersion\": \"77\", \"continue\": \"eyJ2_-\"}, \"items\": [{}]}",
                           0, NULL);
    assert_int_equal(kube_list_read(o, &list), 0);
    assert_string_equal(list.version, "77");
    assert_string_equal(list.more, "eyJ2_-");
    assert_int_equal(json_array_size(list.items), 1);
    json_object_set_new(json_object_get(o, "metadata"), "continue", json_string("a&b"));
    assert_int_equal(kube_list_read(o, &list), -EINVAL);
    json_decref(o);
    static const struct { const char *line; int rc; enum kube_change change; int status; } rows[] = {
        {"{\"type\": \"ADDED\", \"object\": {\"metadata\": {\"resourceVersion\": \"8\"}}}", 0, KUBE_PUT, 0},
        {"{\"type\": \"DELETED\", \"object\": {\"metadata\": {\"resourceVersion\": \"8\"}}}", 0, KUBE_GONE, 0},
        {"{\"type\": \"BOOKMARK\", \"object\": {\"metadata\": {\"resourceVersion\": \"8\"}}}", 0, KUBE_BOOKMARK, 0},
        {"{\"type\": \"ERROR\", \"object\": {\"kind\": \"Status\", \"code\": 410, \"reason\": \"Expired\"}}", 0, KUBE_ERROR, 410},
        {"{\"type\": \"MODIFIED\", \"object\": {\"metadata\": {}}}", -EINVAL, KUBE_PUT, 0},
        {"{\"type\": \"ELSE\", \"object\": {}}", -EINVAL, KUBE_ERROR, 0}, {"{}", -EINVAL, KUBE_ERROR, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        o = json_loads(rows[i].line, 0, NULL);
        CHECK(kube_event_read(o, &e) == rows[i].rc && e.change == rows[i].change && e.status == rows[i].status, "%s", rows[i].line);
        json_decref(o);
    }
    o = json_loads("{\"message\": \"Cannot evict pod as it would violate\\nthe pod's disruption budget.\", \"reason\": \"TooManyRequests\"}", 0, NULL);
    kube_words(o, words, sizeof words);
    assert_string_equal(words, "Cannot evict pod as it would violate the pod's disruption budget.");
    json_decref(o);
}

static void nodes_and_deployments(void **state)
{
    struct kube_node n;
    struct kube_deployment d;
    json_t *o = json_loads("{\"metadata\": {\"name\": \"n1\"}, \"spec\": {\"unschedulable\": true}, \"status\": {\"conditions\": [{\"type\": "
                           "\"MemoryPressure\", \"status\": \"False\"}, {\"type\": \"Ready\", \"status\": \"Unknown\"}]}}", 0, NULL);
    CHECK(!kube_node_read(o, &n) && n.cordoned && !n.ready, "%s", n.name);
    json_decref(o);
    static const struct { const char *spec; int rc; uint32_t replicas; } rows[] = {
        {"{\"replicas\": 3}", 0, 3}, {"{}", 0, 1}, {"{\"replicas\": 0}", 0, 0}, {"{\"replicas\": -1}", -EINVAL, 0},
        {"{\"replicas\": \"3\"}", -EINVAL, 0}, {"{\"replicas\": 99999999999}", -EINVAL, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        o = json_pack("{s:{s:s}, s:o}", "metadata", "name", "nf", "spec", json_loads(rows[i].spec, 0, NULL));
        CHECK(kube_deployment_read(o, &d) == rows[i].rc && d.replicas == rows[i].replicas, "%s", rows[i].spec);
        json_decref(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pod_is_read), cmocka_unit_test(what_cannot_be_is_not_believed),
        cmocka_unit_test(deaths_are_judged_by_the_kubelets_word), cmocka_unit_test(an_evicted_pod_runs_no_more), cmocka_unit_test(lists_events_and_words),
        cmocka_unit_test(nodes_and_deployments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
