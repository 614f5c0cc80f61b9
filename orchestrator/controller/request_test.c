/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests: what is taken for what, and what is refused with which status and sentence. */
#include "tests/check.h"

#include <stdlib.h>

#include "orchestrator/controller/request.h"

static struct request r;
static char err[900];

static int parse(const char *method, const char *path, const char *key, const char *value, const char *body)
{
    struct request_arg arg = {key, value};
    *err = 0;
    return request_parse(method, path, &arg, key != NULL, body, strlen(body), &r, err, sizeof err);
}

static const struct { const char *method, *path, *key, *value, *body; int status; const char *says; } refused[] = {
    {"GET", "/", NULL, NULL, "", 404, "no such path"},
    {"GET", "/v1/status/", NULL, NULL, "", 404, "no such path"},
    {"GET", "/v1/groups/", NULL, NULL, "", 404, "no such path"},
    {"GET", "/v1/groups/a/b", NULL, NULL, "", 404, "no such path"},
    {"GET", "/v1/groups/..", NULL, NULL, "", 404, "no such path"},
    {"GET", "/v1/groups/0123456789012345678901234567890123", NULL, NULL, "", 404, "no such path"},
    {"PATCH", "/v1/site", NULL, NULL, "", 405, "takes GET, PUT"},
    {"GET", "/v1/status", NULL, NULL, "{}", 400, "takes no body"},
    {"GET", "/v1/status", "after", "1", "", 400, "no such parameter"},
    {"GET", "/v1/events", "after", NULL, "", 400, "after: write a whole number"},
    {"GET", "/v1/events", "after", "1x", "", 400, "after: write a whole number"},
    {"GET", "/v1/events", "after", "99999999999999999999999", "", 400, "after: write a whole number"},
    {"GET", "/v1/events", "wait_ms", "60001", "", 400, "from 0 to 60000"},
    {"GET", "/v1/events", "limit", "0", "", 400, "from 1 to 1000"},
    {"POST", "/v1/groups/nf/scale", NULL, NULL, "", 400, "no JSON"},
    {"POST", "/v1/groups/nf/scale", NULL, NULL, "[]", 400, "a JSON object"},
    {"POST", "/v1/groups/nf/scale", NULL, NULL, "{}", 400, "replicas: write a whole number"},
    {"POST", "/v1/groups/nf/scale", NULL, NULL, "{\"replicas\": null}", 400, "replicas: write"},
    {"POST", "/v1/groups/nf/scale", NULL, NULL, "{\"replicas\": 1e3}", 400, "replicas: write"},
    {"POST", "/v1/groups/nf/scale", "revision", "-1", "{\"replicas\": 1}", 400, "revision: write"},
    {"POST", "/v1/instances/nf-1/drain", NULL, NULL, "{\"force\": true}", 400, "has to be empty"},
    {"POST", "/v1/instances/nf-1/kill", NULL, NULL, "{\"force\": 1}", 400, "force: write true or false"},
    {"POST", "/v1/shards/nf-1/hand-over", NULL, NULL, "", 404, "no such shard"},
    {"POST", "/v1/shards/16/hand-over", NULL, NULL, "", 404, "no such shard"},
    {"POST", "/v1/trace", NULL, NULL, "{}", 400, "flow: write"},
    {"POST", "/v1/trace", NULL, NULL, "{\"flow\": \"udp 10.0.0.1:1 > 10.0.0.2:2\"}", 400, "seconds: write"},
    {"POST", "/v1/trace", NULL, NULL, "{\"flow\": \"udp 10.0.0.1:1 > 10.0.0.2:2\", \"seconds\": 601}", 400, "1 to 600"},
    {"POST", "/v1/trace", NULL, NULL, "{\"flow\": \"47 10.0.0.1:1 > 10.0.0.2:2\", \"seconds\": 1}", 400, "flow: write"},
    {"POST", "/v1/trace", NULL, NULL, "{\"flow\": \"udp 10.0.0.1:1 > 10.0.0.2:2; drain\", \"seconds\": 1}", 400,
     "flow: write"},
    {"POST", "/v1/trace", NULL, NULL, "{\"flow\": 7, \"seconds\": 1, \"a\": 1}", 400, "not known here"},
    {"GET", "/v1/trace", "limit", "257", "", 400, "from 0 to 256"},
    {"GET", "/v1/trace", "limit", "0", "", 400, "from 1 to 256"},
    {"GET", "/v1/tables", "limit", "1", "", 400, "no such parameter"},
    {"PUT", "/v1/site", NULL, NULL, "", 400, "the body is empty"},
    {"PUT", "/v1/site", NULL, NULL, "\xc3\x28", 400, "no text in UTF-8"},
};

static void what_cannot_be_is_refused(void **state)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        int status = parse(refused[i].method, refused[i].path, refused[i].key, refused[i].value, refused[i].body);
        CHECK(status == refused[i].status && strstr(err, refused[i].says), "row %zu: %d %s", i, status, err);
        assert_null(r.text);
        assert_null(r.policy);
    }
}

static void a_body_has_its_bound(void **state)
{
    size_t n = REQUEST_JSON_MAX + 1;
    char *body = malloc(n);
    memset(body, ' ', n);
    assert_int_equal(request_parse("POST", "/v1/groups/nf/scale", NULL, 0, body, n, &r, err, sizeof err), 413);
    assert_int_equal(request_parse("PUT", "/v1/site", NULL, 0, body, n, &r, err, sizeof err), 0);
    request_free(&r);
    free(body);
    assert_int_equal(request_body_max("/v1/site"), 256 * 1024);
    assert_int_equal(request_parse("PUT", "/v1/site", NULL, 0, "a\0b", 3, &r, err, sizeof err), 400);
}

static void what_can_be_is_taken(void **state)
{
    assert_int_equal(parse("POST", "/v1/groups/nf/scale", "revision", "7", "{\"replicas\": -3}"), 0);
    assert_int_equal(r.kind, REQUEST_SCALE);
    assert_string_equal(r.name, "nf");
    assert_true(r.replicas == -3 && r.revision == 7); /* whether it can be, the desired state knows */
    assert_int_equal(parse("POST", "/v1/instances/store-a/kill", NULL, NULL, ""), 0);
    assert_true(r.kind == REQUEST_KILL && !r.force);
    assert_int_equal(parse("POST", "/v1/instances/store-a/kill", NULL, NULL, "{\"force\": true}"), 0);
    assert_true(r.force);
    assert_int_equal(parse("GET", "/v1/events", "after", "12", ""), 0);
    assert_true(r.after == 12 && r.wait_ms == 0 && r.limit == 100);
    assert_int_equal(parse("POST", "/v1/shards/3/hand-over", NULL, NULL, "{}"), 0);
    assert_int_equal(r.shard, 3);
    assert_int_equal(parse("PUT", "/v1/groups/nf/autoscale", NULL, NULL, "{\"enabled\": true}"), 0);
    assert_true(json_is_true(json_object_get(r.policy, "enabled")));
    request_free(&r);
    assert_int_equal(parse("PUT", "/v1/site", NULL, NULL, "store: {}\n"), 0);
    assert_string_equal(r.text, "store: {}\n");
    request_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(a_body_has_its_bound),
        cmocka_unit_test(what_can_be_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
