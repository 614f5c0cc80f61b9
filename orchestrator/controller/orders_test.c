/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Orders to programs, one right after the other: each is judged by what is so when it is carried out, also
 * by what the one before took away. The engine's gathering and judging are the real ones; the programs, what
 * they say (observe.h), the asking of stores (ask.h) and the driver are made up here.
 */
#include "orchestrator/controller/engine_test_support.h"

#include <signal.h>

#include "common/log/log.h"
#include "orchestrator/controller/ask.h"

static const char text[] =
    "store:\n"
    "  etcd: [\"127.0.0.1:2379\"]\n"
    "  shards: 1\n"
    "  copies: 2\n"
    "  nodes:\n"
    "    - {name: store-a, listen: \"127.0.0.1:7400\"}\n"
    "    - {name: store-b, listen: \"127.0.0.1:7410\"}\n"
    "steering:\n"
    "  workers_max: 10\n"
    "  inside: {address: 10.0.0.1, next_hop: 10.0.0.2, port: p}\n"
    "  outside: {address: 10.9.0.1, next_hop: 10.9.0.2, port: q}\n"
    "nfs: {a: 1}\n"
    "groups: [{name: nf, replicas: 2, max: 8}]\n";

static struct {
    uint32_t kills, terminations;
    ask_answered answered;    /* of the hand-over that was asked for last */
    void *asker;
    char dir[64];
} w;

/* --- what is made up ------------------------------------------------------------------------------- */

struct ask *ask_start(uv_loop_t *loop, const char *path, const char *request, uint32_t timeout_ms,
                      ask_answered answered, void *ctx)
{
    w.answered = answered;
    w.asker = ctx;
    return (struct ask *)&w;
}

void ask_cancel(struct ask *a)
{
}

/* Nobody's death is proven before the next order: that is what matters. */
static int send_signal(struct driver *d, const char *name, int number)
{
    w.kills += number == SIGKILL;
    w.terminations += number == SIGTERM;
    return 0;
}

static void look(struct driver *d)
{
}

static void log_of(const struct driver *d, const char *name, char *to, uint32_t room)
{
    *to = '\0';
}

static const struct driver_ops ops = {.name = "made up", .signal = send_signal, .look = look, .log = log_of};
static struct driver driver = {&ops};

#define TABLE "{\"workers\": [" ROW("nf-1") ", " ROW("nf-2") "]}" /* steering's */

static void lives(const char *name, enum orch_kind kind)
{
    struct tracked *t = engine_track(&rig.e, name, kind);
    t->seen.alive = true;
    t->seen.started_ms = engine_now(&rig.e) - 60000;
}

static int set_up(void **state)
{
    memset(&w, 0, sizeof w);
    snprintf(w.dir, sizeof w.dir, "/tmp/lethe-orders-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    rig_open(text, &driver);
    snprintf(rig.e.site_path, sizeof rig.e.site_path, "%s/site.yaml", w.dir);
    lives("store-a", ORCH_STORE);
    lives("store-b", ORCH_STORE);
    lives("steer", ORCH_STEERING);
    lives("nf-1", ORCH_WORKER);
    lives("nf-2", ORCH_WORKER);
    says("store-a", STORE("primary", 2, 3), NULL);
    says("store-b", STORE("backup", 2, 3), NULL);
    says("steer", "{}", TABLE);
    says("nf-1", "{}", WORKER);
    says("nf-2", "{}", WORKER);
    return 0;
}

static int tear_down(void **state)
{
    char command[100];
    rig_close();
    snprintf(command, sizeof command, "rm -rf '%s'", w.dir);
    return system(command);
}

/* --- one after the other -------------------------------------------------------------------------------- */

static void of_two_that_are_killed_at_once_the_last_one_stays(void **state)
{
    static const struct { const char *first, *second, *says; } rows[] = {
        {"store-a", "store-b", "not every shard's copies are known"}, {"store-b", "store-a", "last copy"},
        {"nf-1", "nf-2", "last worker"}, {"nf-2", "nf-1", "last worker"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (uint32_t k = 0; k < rig.e.n; k++)
            rig.e.at[k].dying = false;
        w.kills = 0;
        struct order *a = order(REQUEST_KILL, rows[i].first, false), *b = order(REQUEST_KILL, rows[i].second, false);
        struct order *c = i ? NULL : order(REQUEST_RESTART, rows[i].second, false);
        orders_take(&rig.e);
        EXPECT(a, 200, "killed");
        EXPECT(b, 403, rows[i].says);
        if (c)
            EXPECT(c, 403, rows[i].says);
        assert_int_equal(w.kills, 1);
        rig_forget_orders();
    }
}

static void a_primary_counts_no_backup_that_is_to_end_or_of_another_view(void **state)
{
    struct order *a = order(REQUEST_RESTART, "store-b", true), *b = order(REQUEST_KILL, "store-a", false);
    orders_take(&rig.e);
    EXPECT(a, 200, "told to end");
    EXPECT(b, 403, "last copy");
    engine_find(&rig.e, "store-b")->seen.told_ms = 0;
    says("store-b", STORE("backup", 2, 2), NULL);
    struct order *c = order(REQUEST_KILL, "store-a", false);
    orders_take(&rig.e);
    EXPECT(c, 403, "last copy");
    assert_int_equal(w.kills, 0);
}

/* Steering's row is of the process before: the new one serves nobody yet. */
static void a_worker_that_was_just_started_saves_nobody(void **state)
{
    engine_find(&rig.e, "nf-1")->seen.started_ms = engine_now(&rig.e) + 1;
    struct order *a = order(REQUEST_KILL, "nf-2", false);
    orders_take(&rig.e);
    EXPECT(a, 403, "last worker");
    engine_find(&rig.e, "nf-1")->seen.started_ms = 1;
    says("nf-1", "{}", "{\"state\": \"waiting\", \"links_up\": true}");
    struct order *b = order(REQUEST_KILL, "nf-2", false);
    orders_take(&rig.e);
    EXPECT(b, 403, "last worker");
}

static void a_drain_is_judged_again_when_it_was_kept(void **state)
{
    struct order *a = order(REQUEST_DRAIN, "nf-1", false), *b = order(REQUEST_KILL, "nf-2", false);
    orders_take(&rig.e);
    assert_false(a->done);
    EXPECT(b, 200, "killed");
    keep_set_swapped(&rig.keep, 0, "");
    orders_changed(&rig.e);
    EXPECT(a, 200, "kept");
    assert_int_equal(w.terminations, 0);
    assert_true(engine_find(&rig.e, "nf-1")->seen.replace); /* and goes as soon as another one serves */
    carry_ended(&rig.e, &(struct driver_end){.process = {.name = "nf-1"}, .status_known = true, .signal = SIGSEGV});
    assert_int_equal(engine_find(&rig.e, "nf-1")->unasked_ends, 1); /* nobody has told it to end yet */
    carry_ended(&rig.e, &(struct driver_end){.process = {.name = "nf-2"}, .status_known = true, .signal = SIGKILL});
    assert_int_equal(engine_find(&rig.e, "nf-2")->unasked_ends, 0);
}

static void a_drain_that_is_heard_of_before_its_answer_names_who_goes(void **state)
{
    struct order *a = order(REQUEST_DRAIN, "nf-1", false);
    orders_take(&rig.e);
    assert_false(a->done);
    assert_false(orders_heard(&rig.e, rig.e.desired->revision)); /* an earlier one */
    assert_false(engine_find(&rig.e, "nf-1")->seen.replace);
    assert_true(orders_heard(&rig.e, rig.e.change->to->revision));
    assert_true(engine_find(&rig.e, "nf-1")->seen.replace);
    assert_false(engine_find(&rig.e, "nf-2")->seen.replace);
    keep_set_swapped(&rig.keep, 0, "");
    orders_changed(&rig.e);
    EXPECT(a, 200, "kept");
    assert_int_equal(w.terminations, 1);
}

/* Nobody takes over from it: to wait until it leads nothing would be to wait for ever. */
static void without_etcd_the_primary_ends_only_by_force(void **state)
{
    char err[300], alone[sizeof text];
    const char *etcd = strstr(text, "  etcd:"), *rest = strchr(etcd, '\n') + 1;
    snprintf(alone, sizeof alone, "%.*s%s", (int)(etcd - text), text, rest);
    desired_free(rig.e.desired);
    CHECK(!desired_from_text(&rig.e.desired, "f", alone, err, sizeof err), "%s", err);
    struct order *a = order(REQUEST_RESTART, "store-a", false), *b = order(REQUEST_KILL, "store-a", false);
    struct order *c = order(REQUEST_RESTART, "store-b", false), *d = order(REQUEST_RESTART, "store-a", true);
    orders_take(&rig.e);
    EXPECT(a, 403, "primary for ever");
    EXPECT(b, 403, "LOST");
    EXPECT(c, 200, "told to end");
    EXPECT(d, 200, "told to end");
    assert_false(engine_find(&rig.e, "store-a")->seen.replace);
}

static void who_is_not_sure_to_lead_ends_nothing(void **state)
{
    rig.keep.status.sure_until_ms = keep_clock_ms(); /* it was, until now */
    struct order *all[] = {order(REQUEST_KILL, "nf-1", false),   order(REQUEST_KILL, "nf-1", true),
                           order(REQUEST_RESTART, "nf-1", true), order(REQUEST_RESTART, "nf-1", false),
                           order(REQUEST_DRAIN, "nf-1", false),  order(REQUEST_HAND_OVER, "", false)};
    orders_take(&rig.e);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        EXPECT(all[i], 503, "");
    CHECK(!w.kills && !w.terminations && !w.asker && !engine_find(&rig.e, "nf-1")->seen.replace, "carried out");
}

/* --- hand-over ------------------------------------------------------------------------------------------ */

static void a_hand_over_is_answered_with_the_stores_word(void **state)
{
    struct order *a = order(REQUEST_HAND_OVER, "", false), *b = order(REQUEST_HAND_OVER, "", false);
    orders_take(&rig.e);
    assert_false(a->done);
    assert_false(b->done); /* one after the other */
    w.answered(w.asker, NULL, 0, "a move is under way");
    EXPECT(a, 409, "a move is under way");
    orders_take(&rig.e);
    json_t *o = json_pack("{s:s}", "result", "ordered by the store");
    w.answered(w.asker, o, 0, NULL);
    json_decref(o);
    EXPECT(b, 200, "ordered by the store");
}

/* --- who waits no more ------------------------------------------------------------------------------------ */

static void what_nobody_waits_for_is_not_carried_out(void **state)
{
    struct request r = {.kind = REQUEST_KILL, .force = true, .name = "nf-1"};
    int status;
    json_t *o = engine_do(&rig.e, &r, &status); /* order_wait_ms is 0, and nobody takes orders */
    CHECK(status == 503 && strstr(json_string_value(json_object_get(o, "error")), "will not"), "%d", status);
    json_decref(o);
    orders_take(&rig.e);
    assert_int_equal(w.kills, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(of_two_that_are_killed_at_once_the_last_one_stays),
        T(a_primary_counts_no_backup_that_is_to_end_or_of_another_view),
        T(a_worker_that_was_just_started_saves_nobody),
        T(a_drain_is_judged_again_when_it_was_kept),
        T(a_drain_that_is_heard_of_before_its_answer_names_who_goes),
        T(without_etcd_the_primary_ends_only_by_force),
        T(who_is_not_sure_to_lead_ends_nothing),
        T(a_hand_over_is_answered_with_the_stores_word),
        T(what_nobody_waits_for_is_not_carried_out),
    };
    log_init("orders_test", "", LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
