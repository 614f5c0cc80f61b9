/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The mirror of pods: that nobody who is gone stays in it, whatever of the API server's words was missed. The server is
 * made up: it remembers what it was asked, and answers when the test wants it.
 */
#include "tests/check.h"

#include <stdlib.h>

#include "common/config/site.h"
#include "common/log/log.h"
#include "orchestrator/driver/kubernetes.h"
#include "orchestrator/driver/kubernetes_api.h"

enum { REQUESTS = 8 };

struct kube_api { uv_loop_t *loop; };
struct kube_request { char path[600]; bool used; struct kube_watching on; uint64_t sent_ms; };

static struct {
    uv_loop_t loop;
    struct kube_api api;
    struct driver *driver;
    struct kube_request at[REQUESTS];
    uint32_t ends, cancelled;
    struct driver_end last;
} w;

/* --- what is made up ------------------------------------------------------------------------------- */

int kube_api_create(struct kube_api **out, uv_loop_t *loop, const char *folder, char *err, uint32_t err_len)
{
    *out = &w.api;
    return 0;
}

void kube_api_destroy(struct kube_api *a)
{
}

const char *kube_api_namespace(const struct kube_api *a)
{
    return "lethe";
}

const char *kube_api_where(const struct kube_api *a)
{
    return "10.96.0.1:443";
}

struct kube_request *kube_api_watch(struct kube_api *a, const char *path, uint32_t connect_ms, const struct kube_watching *on)
{
    for (int i = 0; i < REQUESTS; i++)
        if (!w.at[i].used) {
            w.at[i] = (struct kube_request){.used = true, .on = *on, .sent_ms = uv_now(&w.loop)};
            snprintf(w.at[i].path, sizeof w.at[i].path, "%s", path);
            return &w.at[i];
        }
    return NULL;
}

struct kube_request *kube_api_ask(struct kube_api *a, const char *method, const char *path, const char *type, json_t *body,
                                  uint32_t timeout_ms, kube_answered answered, void *ctx)
{
    json_decref(body);
    return kube_api_watch(a, path, timeout_ms, &(struct kube_watching){.ended = answered, .ctx = ctx});
}

void kube_api_cancel(struct kube_request *r)
{
    w.cancelled += r && r->used;
    if (r)
        r->used = false;
}

static void on_end(void *ctx, const struct driver_end *end)
{
    w.ends++;
    w.last = *end;
}

static void news(void *ctx)
{
}

/* --- the server's side -------------------------------------------------------------------------------- */

/* The request under way with both words in its path; it is waited for. */
static struct kube_request *asked(const char *what, const char *how)
{
    for (bool more = true;; more = uv_run(&w.loop, UV_RUN_ONCE)) {
        for (int i = 0; i < REQUESTS; i++)
            if (w.at[i].used && strstr(w.at[i].path, what) && strstr(w.at[i].path, how))
                return &w.at[i];
        CHECK(more, "nobody asks for %s, %s, and nothing is waited for", what, how);
    }
}

static void answer(struct kube_request *r, int status, json_t *o)
{
    r->used = false;
    r->on.ended(r->on.ctx, status, o, r->sent_ms, status ? "" : "it hung up");
    json_decref(o);
}

static json_t *pod(const char *name, const char *uid, const char *status)
{
    json_error_t error;
    json_t *s = json_loads(status, 0, &error);
    CHECK(s, "%s: %s", error.text, status);
    return json_pack("{s:{s:s, s:s, s:s, s:{s:s}}, s:{s:s, s:[{s:s}]}, s:o}", "metadata", "name", name, "uid", uid,
                     "resourceVersion", "8", "labels", "app", *name == 's' ? "store" : "nf", "spec", "nodeName", "n1", "containers",
                     "name", "c", "status", s);
}

#define RUNS(id) "{\"phase\": \"Running\", \"containerStatuses\": [{\"name\": \"c\", \"containerID\": \"" id "\", \"state\": {\"running\": {}}}]}"
#define PENDS "{\"phase\": \"Pending\"}"
#define EVICTED "{\"phase\": \"Failed\", \"reason\": \"Evicted\"}"

static json_t *listed(const char *version, json_t *first, json_t *second)
{
    json_t *items = json_array();
    if (first)
        json_array_append_new(items, first);
    if (second)
        json_array_append_new(items, second);
    return json_pack("{s:{s:s}, s:o}", "metadata", "resourceVersion", version, "items", items);
}

static void line(struct kube_request *watch, const char *type, json_t *object)
{
    json_t *o = json_pack("{s:s, s:o}", "type", type, "object", object);
    watch->on.line(watch->on.ctx, o);
    json_decref(o);
}

/* The list answered, the watch behind it opened. */
static struct kube_request *lists(json_t *o)
{
    answer(asked("/pods?", "limit"), 200, o);
    struct kube_request *watch = asked("/pods?", "watch=1");
    watch->on.opened(watch->on.ctx);
    return watch;
}

static void counts(int status)
{
    answer(asked("/deployments?", ""), status, status == 200 ? listed("1", NULL, NULL) : NULL);
}

/* Of the one program that the driver tells of: its start; 0: it is to be; -1: there is none, or several. */
static int64_t only(const char *name)
{
    struct driver_process all[4];
    uint32_t n = w.driver->ops->list(w.driver, all, 4);
    return n == 1 && !strcmp(all[0].name, name) ? (int64_t)(all[0].start >> 1) : -1;
}

static int set_up(void **state)
{
    static struct site_group groups[] = {{.name = "nf"}};
    static struct site_node nodes[] = {{.name = "store-0"}};
    struct site site = {.groups = groups, .groups_count = 1, .store = {.nodes = nodes, .nodes_count = 1}};
    char err[100];
    memset(&w, 0, sizeof w);
    uv_loop_init(&w.loop);
    assert_int_equal(kubernetes_driver_create(&w.driver, &w.loop, "", on_end, news, NULL, err, sizeof err), 0);
    w.driver->ops->platform->site(w.driver, &site);
    return 0;
}

static int tear_down(void **state)
{
    w.driver->ops->destroy(w.driver);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    return uv_loop_close(&w.loop);
}

/* --- who is gone ---------------------------------------------------------------------------------------- */

static void who_went_while_the_watch_was_cut_is_told_of(void **state)
{
    struct kube_request *watch = lists(listed("5", pod("nf-a", "1", RUNS("x://a")), NULL));
    assert_true(only("nf-a") > 0);
    answer(watch, 0, NULL);
    watch = asked("/pods?", "resourceVersion=5"); /* from where it was */
    line(watch, "DELETED", pod("nf-a", "1", RUNS("x://a")));
    CHECK(w.ends == 1 && !w.last.proven && only("nf-a") == -1, "%u", w.ends);
}

static void who_went_before_the_servers_memory_is_swept(void **state)
{
    struct kube_request *watch = lists(listed("5", pod("nf-a", "1", RUNS("x://a")), pod("nf-b", "2", PENDS)));
    answer(watch, 0, NULL);
    answer(asked("/pods?", "watch=1"), 410, NULL);
    assert_int_equal(w.ends, 0);
    lists(listed("90", NULL, NULL));
    CHECK(w.ends == 1 && !w.last.proven && !strcmp(w.last.process.name, "nf-a") && only("nf-b") == -1, "%u: %s", w.ends, w.last.how);
}

static void who_went_between_two_pages_is_swept(void **state)
{
    struct kube_request *watch = lists(listed("5", pod("nf-a", "1", RUNS("x://a")), NULL));
    line(watch, "ERROR", json_pack("{s:s, s:i}", "kind", "Status", "code", 410));
    answer(watch, 0, NULL);
    json_t *page = listed("90", pod("nf-b", "2", RUNS("x://b")), NULL);
    json_object_set_new(json_object_get(page, "metadata"), "continue", json_string("more"));
    answer(asked("/pods?", "limit"), 200, page);
    answer(asked("/pods?", "continue=more"), 410, NULL); /* it took too long */
    assert_int_equal(w.ends, 0);
    lists(listed("95", pod("nf-b", "2", RUNS("x://b")), NULL));
    CHECK(w.ends == 1 && only("nf-b") > 0, "%u", w.ends);
}

/* The first one's last word may come when the second one runs. */
static void of_two_pods_of_one_name_the_one_that_stays_counts(void **state)
{
    struct kube_request *watch = lists(listed("5", pod("store-0", "1", RUNS("x://a")), NULL));
    int64_t first = only("store-0");
    json_t *leaves = pod("store-0", "1", RUNS("x://a"));
    json_object_set_new(json_object_get(leaves, "metadata"), "deletionTimestamp", json_string("2026-05-04T10:12:12Z"));
    line(watch, "MODIFIED", leaves);
    assert_int_equal(only("store-0"), first);
    line(watch, "ADDED", pod("store-0", "2", PENDS));
    assert_int_equal(only("store-0"), 0);
    line(watch, "MODIFIED", pod("store-0", "2", RUNS("x://b")));
    int64_t second = only("store-0");
    CHECK(second > 0 && second != first && !w.ends, "%ld", (long)second);
    line(watch, "DELETED", pod("store-0", "1", RUNS("x://a")));
    CHECK(w.ends == 1 && (int64_t)(w.last.process.start >> 1) == first && only("store-0") == second, "%u", w.ends);
}

static void an_evicted_pod_whose_object_stays_is_gone(void **state)
{
    struct kube_request *watch = lists(listed("5", pod("nf-a", "1", RUNS("x://a")), NULL));
    line(watch, "MODIFIED", pod("nf-a", "1", EVICTED));
    CHECK(w.ends == 1 && !w.last.proven && only("nf-a") == -1, "%u", w.ends);
    line(watch, "DELETED", pod("nf-a", "1", EVICTED));
    assert_int_equal(w.ends, 1);
}

/* --- silence ----------------------------------------------------------------------------------------------- */

static void after_a_silence_no_watch_is_believed(void **state)
{
    struct driver_platform_state said;
    lists(listed("5", pod("nf-a", "1", RUNS("x://a")), NULL));
    counts(0);
    counts(0);
    assert_int_equal(w.cancelled, 0); /* it may be the way there alone */
    counts(200);
    w.driver->ops->platform->state(w.driver, &said);
    CHECK(w.cancelled == 1 && !said.heard_ms, "%u", w.cancelled);
    struct kube_request *watch = asked("/pods?", "resourceVersion=5");
    watch->on.opened(watch->on.ctx);
    line(watch, "DELETED", pod("nf-a", "1", RUNS("x://a")));
    assert_int_equal(w.ends, 1);
    counts(200);
    w.driver->ops->platform->state(w.driver, &said);
    CHECK(w.cancelled == 1 && said.heard_ms, "%u", w.cancelled);
}

static void a_watch_that_is_never_answered_is_begun_again(void **state)
{
    answer(asked("/pods?", "limit"), 200, listed("5", NULL, NULL));
    asked("/pods?", "watch=1");
    counts(0);
    counts(200);
    assert_int_equal(w.cancelled, 1);
    asked("/pods?", "watch=1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(who_went_while_the_watch_was_cut_is_told_of),
        T(who_went_before_the_servers_memory_is_swept),
        T(who_went_between_two_pages_is_swept),
        T(of_two_pods_of_one_name_the_one_that_stays_counts),
        T(an_evicted_pod_whose_object_stays_is_gone),
        T(after_a_silence_no_watch_is_believed),
        T(a_watch_that_is_never_answered_is_begun_again),
    };
    log_init("kubernetes_test", "", LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
