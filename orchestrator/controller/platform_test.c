/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine where a platform runs the programs: it starts and ends nothing itself, takes the platform's counts as they are, and
 * believes neither old figures nor deaths that nobody proved. The platform is made up: it remembers what it was asked, and
 * tells of the outcome when the test wants it. So are the programs (observe.h). There is no `start` and no `signal` to call.
 */
#include "orchestrator/controller/engine_test_support.h"

#include "common/log/log.h"

static const char text[] =
    "store:\n"
    "  etcd: [\"127.0.0.1:2379\"]\n"
    "  shards: 1\n"
    "  copies: 2\n"
    "  nodes:\n"
    "    - {name: store-0, listen: \"store-0:7400\"}\n"
    "    - {name: store-1, listen: \"store-1:7400\"}\n"
    "steering:\n"
    "  workers_max: 10\n"
    "  inside: {address: 10.0.0.1, next_hop: 10.0.0.2, port: p}\n"
    "  outside: {address: 10.9.0.1, next_hop: 10.9.0.2, port: q}\n"
    "nfs: {a: 1}\n"
    "groups: [{name: nf, replicas: 1, max: 8, autoscale: {enabled: true, up_hold_ms: 1, cooldown_ms: 0}}]\n";

enum { PODS = 8 };

static struct {
    struct driver_process pods[PODS];
    uint32_t npods;
    struct driver_count count;
    struct driver_platform_state state;
    uint32_t scales, evictions, roll_outs;
    int64_t from;
    uint32_t to;
    char evicted[ORCH_NAME];
    bool at_once;
    driver_told told;
    void *teller;
} w;

/* --- what is made up ------------------------------------------------------------------------------- */

static void state_of(const struct driver *d, struct driver_platform_state *out)
{
    *out = w.state;
}

static void site_of(struct driver *d, const struct site *s)
{
}

static void count_of_group(const struct driver *d, const char *group, struct driver_count *out)
{
    *out = w.count;
}

static uint32_t hosts_of(const struct driver *d, struct driver_host *to, uint32_t room)
{
    return 0;
}

static int remember(driver_told told, void *ctx)
{
    assert_null(w.told); /* one at a time */
    w.told = told;
    w.teller = ctx;
    return 0;
}

static int scale(struct driver *d, const char *group, int64_t from, uint32_t to, driver_told told, void *ctx)
{
    w.scales++;
    w.from = from;
    w.to = to;
    return remember(told, ctx);
}

static int evict(struct driver *d, const char *name, bool at_once, driver_told told, void *ctx)
{
    w.evictions++;
    w.at_once = at_once;
    snprintf(w.evicted, sizeof w.evicted, "%s", name);
    return remember(told, ctx);
}

static int roll_out(struct driver *d, const char *group, driver_told told, void *ctx)
{
    w.roll_outs++;
    return remember(told, ctx);
}

static uint32_t list(struct driver *d, struct driver_process *to, uint32_t room)
{
    memcpy(to, w.pods, w.npods * sizeof *to);
    return w.npods;
}

static void look(struct driver *d)
{
}

static void log_of(const struct driver *d, const char *name, char *to, uint32_t room)
{
    snprintf(to, room, "kubectl logs %s", name);
}

static const struct driver_platform platform = {
    .state = state_of, .site = site_of, .count = count_of_group, .hosts = hosts_of, .scale = scale, .evict = evict, .roll_out = roll_out};
static const struct driver_ops ops = {.name = "made up", .platform = &platform, .list = list, .look = look, .log = log_of};
static struct driver driver = {&ops};

static void tell(int status, const char *words)
{
    driver_told told = w.told;
    assert_non_null(told);
    w.told = NULL;
    if (status == 200 && w.to)
        w.count = (struct driver_count){true, w.to, engine_now(&rig.e)};
    told(w.teller, status, words);
}

#define TABLE "{\"workers\": [" ROW("nf-7f-a") ", " ROW("nf-7f-b") "]}" /* steering's */

static struct driver_process *pod(const char *name, enum orch_kind kind, uint64_t start)
{
    struct driver_process *p = &w.pods[w.npods++];
    *p = (struct driver_process){.kind = kind, .start = start, .waits = !start, .address = "http://10.244.1.7:9471", .node = "n1"};
    snprintf(p->name, sizeof p->name, "%s", name);
    snprintf(p->group, sizeof p->group, "%s", kind == ORCH_WORKER ? "nf" : "");
    return p;
}

static void turn(void)
{
    w.state.heard_ms = w.count.asked_ms = engine_now(&rig.e);
    rig.e.platform.news = true;
    engine_turn(&rig.e);
}

static int set_up(void **state)
{
    memset(&w, 0, sizeof w);
    rig_open(text, &driver);
    rig.e.active = true;
    rig.keep.status.role = KEEP_ACTIVE;
    rig.e.config.text = rig.e.desired->text;
    rig.e.active_ms = engine_now(&rig.e);
    w.count = (struct driver_count){.there = true, .replicas = 2};
    pod("store-0", ORCH_STORE, 1);
    pod("store-1", ORCH_STORE, 2);
    pod("steer", ORCH_STEERING, 3);
    pod("nf-7f-a", ORCH_WORKER, 4);
    pod("nf-7f-b", ORCH_WORKER, 5);
    turn();
    while (engine_now(&rig.e) < rig.e.active_ms + 3)
        usleep(500);
    says("store-0", STORE("primary", 2, 3), NULL);
    says("store-1", STORE("backup", 2, 3), NULL);
    says("steer", "{}", TABLE);
    says("nf-7f-a", "{}", WORKER);
    says("nf-7f-b", "{}", WORKER);
    turn();
    return 0;
}

static int tear_down(void **state)
{
    platform_close(&rig.e);
    rig_close();
    return 0;
}

static struct order *order_scale(int64_t replicas)
{
    struct order *o = order(REQUEST_SCALE, "nf", false);
    o->request.replicas = replicas;
    return o;
}

/* The newest event of that kind; NULL. Lent until the next call. */
static const json_t *event(const char *kind)
{
    static json_t *all;
    const json_t *found = NULL;
    json_decref(all);
    all = events_after(rig.e.events, 0, 1000, 0);
    const json_t *rows = json_object_get(all, "events");
    for (size_t i = 0; i < json_array_size(rows); i++)
        if (!strcmp(gather_text(json_array_get(rows, i), "kind"), kind))
            found = json_array_get(rows, i);
    return found;
}

static const char *cause(const char *kind)
{
    return gather_text(event(kind), "cause");
}

static json_int_t replicas(void)
{
    json_t *o = status_group(&rig.e, &rig.e.desired->groups[0]);
    const json_t *v = json_object_get(o, "replicas");
    json_int_t n = json_is_null(v) ? -1 : json_integer_value(v);
    json_decref(o);
    return n;
}

static const char *state_text(const char *name)
{
    return status_state(&rig.e, engine_find(&rig.e, name));
}

/* --- counts ------------------------------------------------------------------------------------------ */

static void the_platforms_count_is_adopted(void **state)
{
    assert_int_equal(replicas(), 2); /* the text's is 1 */
    CHECK(!event("scale"), "%s", cause("scale"));
    w.count.replicas = 5;
    turn();
    assert_int_equal(replicas(), 5);
    CHECK(strstr(cause("scale"), "by others"), "%s", cause("scale"));
    assert_int_equal(w.scales, 0); /* and is not fought */
}

static void an_order_is_answered_when_it_is_written(void **state)
{
    struct order *a = order_scale(4), *b = order_scale(6);
    turn();
    assert_int_equal(w.scales, 1);
    assert_false(a->done || b->done);
    tell(200, "");
    EXPECT(a, 200, "Deployment nf");
    turn();
    assert_int_equal(w.to, 6);
    CHECK(!strcmp(cause("scale"), "an operator wants it"), "%s", cause("scale"));
    tell(403, "deployments.apps \"nf\" is forbidden");
    EXPECT(b, 403, "is forbidden");
    CHECK(strstr(cause("error"), "is forbidden"), "%s", cause("error"));
    assert_int_equal(replicas(), 4);
    struct order *c = order_scale(99), *d = order_scale(4);
    turn();
    EXPECT(c, 400, "from 1 to 8");
    EXPECT(d, 200, "already");
    assert_int_equal(w.scales, 2);
}

static void load(const char *stats)
{
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "nf-7f-b" : "nf-7f-a";
        says(name, stats, WORKER);
        for (uint32_t k = 0; k < rig.n; k++)
            if (!strcmp(rig.at[k].name, name)) {
                json_decref(rig.at[k].says.stats.before);
                rig.at[k].says.stats.before = NULL;
                rig.at[k].says.stats.before = json_loads(stats, 0, NULL);
                rig.at[k].says.stats.before_ms = rig.at[k].says.stats.now_ms - 1;
            }
    }
}

static void unload(void)
{
    for (uint32_t k = 0; k < rig.n; k++) {
        json_decref(rig.at[k].says.stats.before);
        rig.at[k].says.stats.before = NULL;
    }
}

/* A while under load, with a count that is young, or of long ago; until it scales. */
static void busy_for(uint32_t ms, bool young)
{
    for (uint64_t begin = engine_now(&rig.e); engine_now(&rig.e) < begin + ms && !w.scales; usleep(1000)) {
        load("{\"lethe_worker_busy_permille\": 990}");
        says("steer", "{}", TABLE);
        w.state.heard_ms = engine_now(&rig.e);
        w.count.asked_ms = young ? engine_now(&rig.e) : 1;
        rig.e.platform.news = true;
        engine_turn(&rig.e);
    }
}

static void autoscaling_goes_by_the_platforms_count_if_it_is_young(void **state)
{
    busy_for(30, false);
    assert_int_equal(w.scales, 0);
    busy_for(20000, true);
    unload();
    CHECK(w.scales == 1 && w.from == 2 && w.to > 2, "%u: %ld to %u", w.scales, (long)w.from, w.to); /* if nobody changed it meanwhile */
    tell(409, "it changed");
    CHECK(strstr(cause("error"), "it changed"), "%s", cause("error"));
}

/* --- what others say --------------------------------------------------------------------------------- */

static void figures_that_cannot_be_neither_wrap_nor_count(void **state)
{
    struct orch_load of;
    json_t *a = json_loads("{\"lethe_worker_drops_total{reason=\\\"x\\\"}\": 9223372036854775807,"
                           " \"lethe_worker_drops_total{reason=\\\"y\\\"}\": 9223372036854775807,"
                           " \"lethe_worker_drops_total{reason=\\\"z\\\"}\": -9223372036854775808}", 0, NULL), *by = json_object();
    CHECK(gather_drops(a, by) == INT64_MAX && json_object_size(by) == 2, "%ld", (long)gather_drops(a, NULL));
    json_decref(a);
    json_decref(by);
    assert_true(gather_rate(0, INT64_MAX, 1) == INT64_MAX && gather_rate(INT64_MAX, 0, 1) == 0 && gather_rate(0, 5, 1000) == 5);
    load("{\"lethe_worker_busy_permille\": 9223372036854775807, \"lethe_worker_in_flight\": 4294967296,"
         " \"lethe_worker_tx_packets_total\": -9223372036854775808,"
         " \"lethe_worker_drops_total{reason=\\\"x\\\"}\": 9223372036854775807}");
    for (uint32_t i = 0; i < rig.n; i++)
        if (rig.at[i].says.stats.before)
            json_object_clear(rig.at[i].says.stats.before);
    turn();
    gather_load(&rig.e, &rig.e.desired->groups[0], &of);
    CHECK(of.known == 2 && of.busy_permille == 1000 && of.queue_most == UINT32_MAX && of.drops_pps == UINT32_MAX,
          "%u known, busy %u, queue %u, drops %u", of.known, of.busy_permille, of.queue_most, of.drops_pps);
    load("{\"lethe_worker_busy_permille\": -5, \"lethe_worker_in_flight\": -1}");
    turn();
    gather_load(&rig.e, &rig.e.desired->groups[0], &of);
    CHECK(of.known == 2 && !of.busy_permille && !of.queue_most && !of.drops_pps, "busy %u, queue %u, drops %u", of.busy_permille,
          of.queue_most, of.drops_pps);
    says("store-0", "{\"shards\": [{\"shard\": 0, \"role\": \"primary\", \"copies\": 2, \"view_epoch\": 3, \"position\": 9223372036854775807,"
         " \"commit\": -9223372036854775808, \"memory_bytes\": 9223372036854775807, \"slots_owned\": 9223372036854775807},"
         " {\"shard\": 1, \"memory_bytes\": 9223372036854775807}]}", NULL);
    says("steer", "{}", "{\"workers\": [{\"buckets\": 9223372036854775807}, {\"buckets\": 9223372036854775807}]}");
    turn();
    json_t *all = status_all(&rig.e), *store = json_array_get(json_object_get(all, "stores"), 0);
    CHECK(gather_number(json_object_get(store, "figures"), "memory_bytes") == INT64_MAX &&
          gather_number(json_array_get(json_object_get(all, "shards"), 0), "lag") == INT64_MAX, "%s", json_dumps(all, 0));
    json_decref(all);
    unload();
}

/* The controller's machine may have started after the pod. */
static void a_worker_may_be_older_than_this_machine(void **state)
{
    w.pods[3].start = 44;
    w.pods[3].age_ms = engine_now(&rig.e) + 1000 * 1000 * 1000;
    turn();
    says("steer", "{}", TABLE);
    says("nf-7f-a", "{}", WORKER);
    turn();
    assert_string_equal(state_text("nf-7f-a"), "ready");
}

/* --- who is to go --------------------------------------------------------------------------------------- */

static void of_two_evictions_at_once_the_second_is_judged_by_the_first(void **state)
{
    static const struct { const char *first, *second, *says; } rows[] = {
        {"nf-7f-a", "nf-7f-b", "last worker"}, {"store-1", "store-0", "last copy"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct order *a = order(REQUEST_RESTART, rows[i].first, false), *b = order(REQUEST_KILL, rows[i].second, false);
        turn();
        assert_int_equal(w.evictions, i + 1);
        assert_false(b->done);
        tell(200, "");
        turn();
        EXPECT(a, 200, "good order");
        EXPECT(b, 403, rows[i].says);
    }
    CHECK(!w.at_once && !strcmp(w.evicted, "store-1"), "%s", w.evicted);
}

static void a_refused_eviction_leaves_all_as_it_was(void **state)
{
    struct order *a = order(REQUEST_DRAIN, "nf-7f-a", false);
    turn();
    tell(429, "Cannot evict pod as it would violate the pod's disruption budget.");
    EXPECT(a, 429, "disruption budget");
    turn();
    assert_string_equal(state_text("nf-7f-a"), "ready");
    struct order *b = order(REQUEST_KILL, "nf-7f-a", false);
    turn();
    assert_true(w.at_once);
    tell(503, "no answer");
    EXPECT(b, 503, "as far as is known");
    struct order *c = order(REQUEST_RESTART, "nf", false);
    turn();
    assert_int_equal(w.roll_outs, 1);
    tell(200, "");
    EXPECT(c, 200, "rolls out");
}

static void who_is_not_sure_to_lead_asks_for_nothing(void **state)
{
    rig.keep.status.sure_until_ms = keep_clock_ms();
    struct order *all[] = {order_scale(3), order(REQUEST_KILL, "nf-7f-a", true),
                           order(REQUEST_RESTART, "nf", false), order(REQUEST_DRAIN, "nf-7f-a", false)};
    turn();
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        EXPECT(all[i], 503, "certain");
    CHECK(!w.scales && !w.evictions && !w.roll_outs, "asked");
}

static void what_cannot_be_here_says_what_to_use(void **state)
{
    static const struct { enum request_kind kind; const char *says; } rows[] = {
        {REQUEST_SITE_PUT, "kubectl apply"}, {REQUEST_DOWN, "kubectl delete"}, {REQUEST_START, "lethe scale"},
        {REQUEST_HAND_OVER, "lethe restart"}, {REQUEST_TRACE_ON, "metrics"}, {REQUEST_TRACE, "control socket"},
        {REQUEST_TABLES, "lethe status"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct order *o = order(rows[i].kind, "store-0", true);
        turn();
        EXPECT(o, 501, rows[i].says);
    }
}

static void who_still_waits_at_the_end_is_answered(void **state)
{
    struct order *a = order_scale(4);
    turn();
    assert_false(a->done);
    engine_close_orders(&rig.e);
    CHECK(a->done && a->status == 503, "%d", a->status);
    tell(200, ""); /* and its outcome goes nowhere */
}

/* --- ends -------------------------------------------------------------------------------------------------- */

static void gone_is_not_dead(void **state)
{
    struct driver_end end = {.process = w.pods[1], .how = "its pod was removed by force"};
    w.npods = 1;
    carry_ended(&rig.e, &end);
    turn();
    assert_string_equal(state_text("store-1"), "unknown");
    CHECK(event("gone") && !event("exit"), "%s", cause("gone"));
    struct order *a = order(REQUEST_KILL, "store-0", false); /* nothing rests on it any more */
    turn();
    EXPECT(a, 403, "last copy");
    pod("store-1", ORCH_STORE, 0); /* its successor: to be, but not yet there */
    turn();
    assert_string_equal(state_text("store-1"), "unknown");
    w.pods[1].start = 9;
    w.pods[1].age_ms = 1000 * 1000 * 1000; /* its node's clock is wrong */
    w.pods[1].waits = false;
    turn();
    CHECK(strcmp(state_text("store-1"), "unknown") && engine_find(&rig.e, "store-1")->restarts == 1, "%s", state_text("store-1"));
}

/* A worker removed by force is told of as long as a front end may hear it, and no longer. */
static void an_unproven_worker_matters_while_it_is_heard(void **state)
{
    static const char *const heard[] = {TABLE, NULL, "{\"workers\": [" ROW("nf-7f-b") ", {\"name\": \"nf-7f-a\", \"link\": false}]}",
                                        "{\"workers\": [" ROW("nf-7f-b") "]}"};
    for (size_t i = 0; i < sizeof heard / sizeof heard[0]; i++) {
        struct driver_end end = {.process = w.pods[3], .how = "its pod was removed by force"};
        struct tracked *t = engine_find(&rig.e, "nf-7f-a");
        end.process.start = t->process.start;
        w.npods = 3;
        carry_ended(&rig.e, &end);
        says("steer", "{}", TABLE); /* of the moment of its end: says nothing */
        rig.at[2].says.more.now_ms = t->seen.ended_ms;
        turn();
        CHECK(t->unproven && !t->unheard_ms, "%zu", i);
        while (engine_now(&rig.e) <= t->seen.ended_ms)
            usleep(500);
        says("steer", "{}", heard[i]);
        turn();
        CHECK(t->unproven && !t->unheard_ms == (i < 2), "%zu", i); /* not by one look: steering may just have begun */
        t->unheard_ms = t->unheard_ms ? 1 : 0; /* since long ago */
        says("steer", "{}", heard[i]);
        turn();
        assert_string_equal(state_text("nf-7f-a"), i < 2 ? "unknown" : "ended");
        CHECK(status_shown(&rig.e, t) == (i < 2), "%zu", i);
        if (i > 1)
            CHECK(strstr(cause("gone"), "no front end hears it"), "%s", cause("gone"));
        w.npods = 5;
        w.pods[3].start++;
        turn();
        CHECK(t->seen.alive && !t->unproven, "%zu", i);
    }
}

static void a_proven_end_is_one(void **state)
{
    struct driver_end end = {.process = w.pods[3], .proven = true, .status_known = true, .signal = 9, .how = "the kubelet says OOMKilled"};
    carry_ended(&rig.e, &end);
    CHECK(event("exit") && !event("gone") && strstr(cause("exit"), "OOMKilled; nobody here"), "%s", cause("exit"));
    w.pods[3].start = 0;
    w.pods[3].waits = true;
    turn();
    assert_string_equal(state_text("nf-7f-a"), "waiting");
    end.process.start = 77; /* of one that ran before the one that runs now */
    end.process.name[6] = 'b';
    carry_ended(&rig.e, &end);
    assert_true(engine_find(&rig.e, "nf-7f-b")->seen.alive);
}

static const char *alert_of(const char *subject)
{
    for (uint32_t i = 0; i < rig.e.nalerts; i++)
        if (!strcmp(rig.e.alerts[i].subject, subject))
            return rig.e.alerts[i].text;
    return "";
}

static void a_pod_that_does_not_begin_is_told(void **state)
{
    struct driver_process *p = pod("nf-80-c", ORCH_WORKER, 0);
    snprintf(p->note, sizeof p->note, "ErrImagePull");
    turn();
    assert_string_equal(alert_of("nf-80-c"), ""); /* it may take a while */
    assert_true(engine_find(&rig.e, "nf-80-c")->waits_since_ms);
    engine_find(&rig.e, "nf-80-c")->waits_since_ms = 1; /* long ago */
    turn();
    CHECK(strstr(alert_of("nf-80-c"), "ErrImagePull"), "%s", alert_of("nf-80-c"));
    p->start = 6;
    p->waits = false;
    turn();
    assert_string_equal(alert_of("nf-80-c"), "");
}

static void who_ends_again_and_again_is_told_with_why(void **state)
{
    struct driver_end end = {.process = w.pods[3], .proven = true, .status_known = true, .signal = 9, .how = "the kubelet says OOMKilled"};
    carry_ended(&rig.e, &end);
    engine_find(&rig.e, "nf-7f-a")->seen.failures = 2;
    w.pods[3].start = 0;
    w.pods[3].waits = true;
    turn();
    CHECK(strstr(alert_of("nf-7f-a"), "OOMKilled"), "%s", alert_of("nf-7f-a"));
}

static void what_is_not_heard_for_long_is_unknown(void **state)
{
    snprintf(w.state.why, sizeof w.state.why, "connection refused");
    rig.e.active_ms = w.state.heard_ms = w.count.asked_ms = 1; /* long ago: since the machine began */
    rig.e.platform.news = true;
    engine_turn(&rig.e);
    json_t *o = platform_json(&rig.e);
    CHECK(!json_is_true(json_object_get(o, "known")) && !strcmp(gather_text(o, "why"), "connection refused"), "%s", gather_text(o, "why"));
    json_decref(o);
    assert_int_equal(replicas(), -1);
    CHECK(strstr(cause("platform"), "connection refused"), "%s", cause("platform"));
    struct order *a = order_scale(4); /* may be tried all the same */
    engine_turn(&rig.e);
    tell(503, "connection refused");
    EXPECT(a, 503, "connection refused");
    turn();
    assert_int_equal(replicas(), 2);
    CHECK(strstr(cause("platform"), "known again"), "%s", cause("platform"));
}

/* Its pod's address was given out anew, to one of the same name. */
static void a_store_of_another_site_does_not_count(void **state)
{
#define OF_SITE(id) \
    "{\"views\": {\"site\": \"" id "\"}, \"shards\": [{\"shard\": 0, \"role\": \"backup\", \"copies\": 2, \"view_epoch\": 3}]}"
    says("store-1", OF_SITE("ab12"), NULL); /* nobody knows which one is ours */
    turn();
    assert_string_equal(state_text("store-1"), "ready");
    snprintf(rig.keep.status.site, sizeof rig.keep.status.site, "ab12");
    turn();
    assert_string_equal(state_text("store-1"), "ready");
    assert_string_equal(state_text("store-0"), "ready"); /* older, it has no word for that */
    struct order *a = order(REQUEST_KILL, "store-0", false);
    says("store-1", OF_SITE("cd34"), NULL);
    turn();
    EXPECT(a, 403, "last copy");
    assert_string_equal(state_text("store-1"), "other_site");
    CHECK(strstr(cause("unready"), "a store of another site"), "%s", cause("unready"));
    json_t *alerts = alerts_json(&rig.e);
    char *told = json_dumps(alerts, 0);
    CHECK(strstr(told, "other_site") && !strstr(told, "silent"), "%s", told);
    free(told);
    json_decref(alerts);
    json_t *status = status_all(&rig.e);
    told = json_dumps(json_object_get(status, "shards"), 0);
    CHECK(strstr(told, "store-0") && !strstr(told, "\"store-1\", \"role\""), "%s", told);
    free(told);
    json_decref(status);
    says("store-1", OF_SITE("ab12"), NULL);
    turn();
    assert_string_equal(state_text("store-1"), "ready");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(the_platforms_count_is_adopted),
        T(an_order_is_answered_when_it_is_written),
        T(autoscaling_goes_by_the_platforms_count_if_it_is_young),
        T(figures_that_cannot_be_neither_wrap_nor_count),
        T(a_worker_may_be_older_than_this_machine),
        T(a_store_of_another_site_does_not_count),
        T(of_two_evictions_at_once_the_second_is_judged_by_the_first),
        T(a_refused_eviction_leaves_all_as_it_was),
        T(who_is_not_sure_to_lead_asks_for_nothing),
        T(what_cannot_be_here_says_what_to_use),
        T(who_still_waits_at_the_end_is_answered),
        T(gone_is_not_dead),
        T(an_unproven_worker_matters_while_it_is_heard),
        T(a_proven_end_is_one),
        T(a_pod_that_does_not_begin_is_told),
        T(who_ends_again_and_again_is_told_with_why),
        T(what_is_not_heard_for_long_is_unknown),
    };
    log_init("platform_test", "", LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
