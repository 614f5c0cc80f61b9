/* SPDX-License-Identifier: BSD-3-Clause */
/* A real etcd that wants certificates: views are kept there by whoever has the right files, and nobody else. */
#include "statestore/server/etcd_test_support.h"
#include <sys/eventfd.h>

#include "statestore/server/views_etcd.h"

static struct real_etcd etcd;
static char failed[300];

static void on_answer(void *ctx, uint32_t tag, const json_t *answer, const char *why)
{
    snprintf(failed, sizeof failed, "%s", answer ? "answered" : why);
}

/* What becomes of a question by a client with such files. */
static const char *asked_with(struct etcd_tls tls)
{
    const char *endpoint = etcd.url;
    struct etcd_config c = {.endpoints = &endpoint, .nendpoints = 1, .tls = tls, .timeout_ms = 5000,
                            .answered = on_answer, .watched = etcd_on_watch};
    struct etcd *e;
    char err[200];
    failed[0] = 0;
    CHECK(!etcd_create(&e, &c, err, sizeof err), "%s", err);
    etcd_post(e, "kv/range", json_pack("{s:o}", "key", etcd_text("/k")), 1);
    uint64_t give_up = now_us() + PATIENCE_US;
    while (!failed[0] && now_us() < give_up)
        etcd_poll(e, 50);
    etcd_destroy(e);
    return failed;
}

static void only_the_right_files_are_answered(void **state)
{
    assert_string_equal(asked_with((struct etcd_tls){etcd.ca, etcd.cert, etcd.key}), "answered");
    CHECK(strstr(asked_with((struct etcd_tls){NULL, etcd.cert, etcd.key}), "ertificate"), "the system's authorities: %s", failed);
    CHECK(strcmp(asked_with((struct etcd_tls){etcd.ca, NULL, NULL}), "answered"), "no certificate of ours is asked for");
    CHECK(strstr(asked_with((struct etcd_tls){"/nowhere.pem", etcd.cert, etcd.key}), "/nowhere.pem"), "%s", failed);
}

static void views_are_kept_there(void **state)
{
    static const char *const names[] = {"store-a"};
    struct views_site site = {.shards = 1, .node = 1, .nodes = 1, .copies = 1, .failure_timeout_ms = 150,
                              .names = names, .listen = "h:1", .incarnation = 7};
    struct etcd_tls tls = {etcd.ca, etcd.cert, etcd.key};
    struct msg_node self = {.node = 1, .incarnation = 7};
    const char *endpoint = etcd.url;
    struct views *v;
    char err[200];
    int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(!views_etcd_create(&v, &site, &endpoint, 1, &tls, "/lethe/tls", err, sizeof err), "%s", err);
    v->ops->start(v, 0, &self, wake);
    WAIT_FOR(v->ops->standing(v, 0, err, sizeof err) == VIEWS_SERVING);
    v->ops->stop(v, 0);
    v->ops->destroy(v);
    close(wake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_right_files_are_answered),
        cmocka_unit_test(views_are_kept_there),
    };
    signal(SIGPIPE, SIG_IGN);
    log_init("etcd_tls_test", "test", LOG_LEVEL_ERROR + 1);
    etcd_begin_as(&etcd, true);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    etcd_end(&etcd);
    return rc;
}
