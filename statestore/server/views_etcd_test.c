/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The view provider on a real etcd (package etcd-server): who is in the first view,
 * compare-and-swap with an etcd that is killed or stopped in the middle of it, keys
 * that somebody else wrote, deleted keys, end points that do not answer.
 *
 * A "node" here is a provider without a store behind it.
 */
#include <poll.h>
#include <sys/eventfd.h>

#include "common/wire/address.h"
#include "statestore/server/figures.h"
#include "statestore/server/etcd_test_support.h"
#include "statestore/server/views_etcd.h"
#include "statestore/server/views_json.h"

enum { SHARDS = 2, NODES_MAX = 3 };
#define PREFIX "/lethe/test"

static struct real_etcd etcd;

struct test_node {
    struct views *v;
    struct msg_node self;
    int wake_fd;
    struct shard_view view[SHARDS]; /* the newest that was taken */
};
static struct test_node nodes[NODES_MAX + 1]; /* by number */
static const char *const names[] = {"store-a", "store-b", "store-c"};
static const char *const one_endpoint[] = {etcd.client};
enum { FAILURE_TIMEOUT_MS = 150, PATIENT_MS = 5000 };
static uint32_t failure_timeout_ms; /* of the nodes that are started from now on */

static struct etcd_tls tls;    /* likewise */

static void create_node(uint32_t number, uint64_t incarnation, bool accept_loss,
                        const char *const *endpoints, uint32_t nendpoints)
{
    struct test_node *n = &nodes[number];
    struct views_site site = {.shards = SHARDS, .node = number, .nodes = NODES_MAX, .copies = 2,
                              .failure_timeout_ms = failure_timeout_ms, .names = names,
                              .listen = "h:1", .incarnation = incarnation,
                              .accept_loss = accept_loss};
    char err[200];
    *n = (struct test_node){.self = {.node = number, .incarnation = incarnation},
                            .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    CHECK(!views_etcd_create(&n->v, &site, endpoints, nendpoints, &tls, PREFIX, err, sizeof err), "%s",
          err);
}

static void begin_shards(uint32_t number)
{
    struct test_node *n = &nodes[number];
    for (uint16_t i = 0; i < SHARDS; i++)
        n->v->ops->start(n->v, i, &n->self, n->wake_fd);
}

static void start_node_at(uint32_t number, uint64_t incarnation, bool accept_loss,
                          const char *const *endpoints, uint32_t nendpoints)
{
    create_node(number, incarnation, accept_loss, endpoints, nendpoints);
    begin_shards(number);
}

static void start_node(uint32_t number, uint64_t incarnation)
{
    start_node_at(number, incarnation, false, one_endpoint, 1);
}

static void stop_node(uint32_t number)
{
    struct test_node *n = &nodes[number];
    if (!n->v)
        return;
    n->v->ops->destroy(n->v);
    close(n->wake_fd);
    n->v = NULL;
}

/* A turn of the node's loop: the newest epoch of the shard. */
static uint64_t epoch_at(uint32_t number, uint16_t shard)
{
    struct test_node *n = &nodes[number];
    for (uint16_t i = 0; i < SHARDS; i++)
        while (n->v->ops->take(n->v, i, &n->view[i]))
            ;
    return n->view[shard].epoch;
}

static const struct shard_view *view_at(uint32_t number, uint16_t shard)
{
    epoch_at(number, shard);
    return &nodes[number].view[shard];
}

static void propose_on(uint64_t epoch, uint32_t number, uint16_t shard, uint32_t nmembers,
                       const uint32_t *members)
{
    struct test_node *n = &nodes[number];
    struct shard_view want = {.nmembers = nmembers};
    for (uint32_t i = 0; i < nmembers; i++)
        want.members[i] = nodes[members[i]].self;
    n->v->ops->propose(n->v, shard, epoch, &want);
}

static void propose(uint32_t number, uint16_t shard, uint32_t nmembers, const uint32_t *members)
{
    propose_on(epoch_at(number, shard), number, shard, nmembers, members);
}

static enum views_standing standing_of(uint32_t number, uint16_t shard, char *why)
{
    return nodes[number].v->ops->standing(nodes[number].v, shard, why, 400);
}

static struct views_service service_of(uint32_t number)
{
    struct views_service s;
    nodes[number].v->ops->service(nodes[number].v, &s);
    return s;
}

static bool same(const struct shard_view *a, const struct shard_view *b)
{
    if (a->epoch != b->epoch || a->nmembers != b->nmembers || a->accepted_loss != b->accepted_loss)
        return false;
    for (uint32_t i = 0; i < a->nmembers; i++)
        if (a->members[i].node != b->members[i].node ||
            a->members[i].incarnation != b->members[i].incarnation)
            return false;
    return true;
}

/* What the key says, and that it was changed once for each epoch. */
static struct shard_view stored(uint16_t shard)
{
    char key[64], text[2000];
    struct shard_view v;
    snprintf(key, sizeof key, PREFIX "/shards/%u", shard);
    int64_t version = etcd_get(&etcd, key, text, sizeof text);
    const char *wrong = views_json_view(text, (uint32_t)strlen(text), NODES_MAX, &v);
    CHECK(!wrong, "%s: %s", text, wrong);
    CHECK(version == (int64_t)v.epoch, "epoch %lu after %ld changes", v.epoch, version);
    return v;
}

static int begin(void **state)
{
    failure_timeout_ms = FAILURE_TIMEOUT_MS;
    etcd_begin(&etcd);
    return 0;
}

static int end(void **state)
{
    for (uint32_t i = 1; i <= NODES_MAX; i++)
        stop_node(i);
    etcd_end(&etcd);
    return 0;
}

static bool sees(uint32_t number, uint32_t other)
{
    struct views_node n;
    return nodes[number].v->ops->node(nodes[number].v, other, 0, &n) && n.alive;
}

/* However late one of them comes: the first views wait until each sees both. */
static void start_two(void)
{
    create_node(1, 1000, false, one_endpoint, 1);
    create_node(2, 2000, false, one_endpoint, 1);
    WAIT_FOR(sees(1, 1) && sees(1, 2) && sees(2, 1) && sees(2, 2));
    begin_shards(1);
    begin_shards(2);
    WAIT_FOR(epoch_at(1, 0) == 1 && epoch_at(2, 0) == 1 && epoch_at(1, 1) && epoch_at(2, 1));
}

/* --- tests -------------------------------------------------------------------------------------- */

static void the_first_view_names_who_registered(void **state)
{
    char why[400];
    failure_timeout_ms = PATIENT_MS; /* none is left out for being slow */
    for (uint32_t i = 1; i <= 3; i++)
        start_node(i, i * 1000);
    WAIT_FOR(epoch_at(1, 0) && epoch_at(2, 0) && epoch_at(3, 0) && epoch_at(1, 1) &&
             epoch_at(3, 1));
    const struct shard_view *v = view_at(3, 0);
    assert_int_equal(v->epoch, 1);
    assert_int_equal(v->nmembers, 2);
    assert_int_equal(v->members[0].node, 1); /* round from shard % nodes on */
    assert_int_equal(v->members[0].incarnation, 1000);
    assert_int_equal(v->members[1].node, 2);
    assert_int_equal(view_at(1, 1)->members[0].node, 2);
    WAIT_FOR(standing_of(1, 0, why) == VIEWS_SERVING && standing_of(2, 0, why) == VIEWS_FOLLOWING);
    assert_int_equal(nodes[3].v->ops->primary(nodes[3].v, 1), 2);
    stored(0);
    stored(1);
}

static void the_first_view_waits_for_the_others_not_for_ever(void **state)
{
    start_node(2, 2000);
    WAIT_FOR(epoch_at(2, 0) && epoch_at(2, 1));
    assert_int_equal(view_at(2, 0)->nmembers, 1);
    assert_int_equal(view_at(2, 0)->members[0].node, 2);
}

static void a_wish_is_granted_once(void **state)
{
    start_two();
    for (uint64_t epoch = 1; epoch < 200; epoch++) {
        uint32_t first[] = {1}, both[] = {1, 2};
        propose(1, 0, epoch % 2 ? 1 : 2, epoch % 2 ? first : both);
        WAIT_FOR(epoch_at(1, 0) > epoch && epoch_at(2, 0) > epoch);
        assert_int_equal(epoch_at(1, 0), epoch + 1);
        assert_true(same(view_at(1, 0), view_at(2, 0)));
    }
    struct shard_view now = stored(0);
    assert_true(same(&now, view_at(1, 0)));
}

static void of_two_wishes_one_wins(void **state)
{
    start_two();
    for (uint64_t epoch = 1; epoch < 20; epoch++) {
        uint32_t a[] = {1}, b[] = {2};
        propose_on(epoch, 1, 0, 1, a);
        propose_on(epoch, 2, 0, 1, b);
        WAIT_FOR(epoch_at(1, 0) > epoch && epoch_at(2, 0) > epoch);
        assert_int_equal(epoch_at(1, 0), epoch + 1);
        assert_true(same(view_at(1, 0), view_at(2, 0)));
    }
    stored(0);
}

static void a_killed_etcd_loses_no_wish_and_grants_none_twice(void **state)
{
    start_two();
    for (uint64_t epoch = 1; epoch < 6; epoch++) {
        uint32_t a[] = {1}, b[] = {2, 1};
        uint64_t requests = service_of(1).requests;
        propose(1, 0, 1, a);
        WAIT_FOR(service_of(1).requests > requests || epoch_at(1, 0) > epoch);
        etcd_kill(&etcd); /* before, while or after it was done */
        propose(2, 0, 2, b);
        etcd_run(&etcd);
        WAIT_FOR(epoch_at(1, 0) > epoch && epoch_at(2, 0) > epoch);
        WAIT_FOR(same(view_at(1, 0), view_at(2, 0)));
        while (epoch_at(1, 0) > epoch + 1) /* the second wish was for the view after */
            epoch++;
    }
    WAIT_FOR(!service_of(1).proposals && !service_of(2).proposals); /* the last wish may be for the view after */
    struct shard_view now = stored(0);
    WAIT_FOR(same(&now, view_at(1, 0)) && same(&now, view_at(2, 0)));
}

static void a_stopped_etcd_leaves_the_outcome_open(void **state)
{
    uint32_t a[] = {1}, b[] = {2, 1};
    char why[400];
    start_two();
    etcd_stop(&etcd);
    propose(1, 0, 1, a);
    WAIT_FOR(service_of(1).failures > 1 && service_of(1).away_ms && service_of(1).proposals == 1 &&
             service_of(1).proposal_ms);
    propose(2, 0, 2, b);
    WAIT_FOR(service_of(2).failures > 2);
    struct views_service s = service_of(1);
    assert_int_equal(s.proposals, 1); /* still */
    CHECK(strstr(s.trouble, "etcd does not answer"), "%s", s.trouble);
    assert_int_equal(epoch_at(1, 0), 1); /* nothing was taken for an outcome */
    assert_int_equal(standing_of(1, 0, why), VIEWS_SERVING);
    kill(etcd.pid, SIGCONT);
    WAIT_FOR(epoch_at(1, 0) > 1 && epoch_at(2, 0) > 1);
    WAIT_FOR(!service_of(1).proposals && !service_of(2).proposals && !service_of(1).away_ms);
    WAIT_FOR(same(view_at(1, 0), view_at(2, 0)));
    struct shard_view now = stored(0);
    assert_int_equal(now.epoch, 2);
    assert_true(same(&now, view_at(1, 0)));
}

static void what_cannot_be_read_changes_nothing(void **state)
{
    static const char *const garbage[] = {
        "", "{", "[1]", "{\"epoch\": 0, \"members\": []}", "{\"epoch\": 9, \"members\": [{\"node\": 7, "
        "\"incarnation\": \"1\"}]}", "{\"epoch\": 9, \"members\": [{\"node\": 1, \"incarnation\": 1}]}"};
    uint32_t a[] = {1};
    char text[2000], why[400];
    start_two();
    etcd_get(&etcd, PREFIX "/shards/0", text, sizeof text);
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        etcd_put(&etcd, PREFIX "/shards/0", garbage[i]);
        WAIT_FOR((standing_of(1, 0, why), strstr(why, "cannot be used")));
        assert_int_equal(standing_of(1, 0, why), VIEWS_SERVING);
    }
    propose(1, 0, 1, a);
    uint64_t requests = service_of(1).requests;
    WAIT_FOR(service_of(1).requests > requests + 5);
    assert_int_equal(epoch_at(1, 0), 1);
    assert_int_equal(service_of(1).proposals, 1);
    etcd_put(&etcd, PREFIX "/shards/0", text); /* mended */
    WAIT_FOR(epoch_at(1, 0) == 2 && epoch_at(2, 0) == 2);
    etcd_put(&etcd, PREFIX "/shards/0", text); /* an old one */
    WAIT_FOR((standing_of(2, 0, why), strstr(why, "old view 1")));
    assert_int_equal(epoch_at(2, 0), 2);
    etcd_put(&etcd, PREFIX "/nodes/2", "garbage");
    etcd_put(&etcd, PREFIX "/nodes/99", "{}");
    etcd_put(&etcd, PREFIX "/shards/x", "{}");
    etcd_put(&etcd, PREFIX "/shards/1x", "{}");
    propose(1, 1, 1, a);
    WAIT_FOR(epoch_at(2, 1) == 2);
}

static void a_deleted_view_is_not_begun_anew(void **state)
{
    char text[2000], why[400];
    start_two();
    etcd_get(&etcd, PREFIX "/shards/0", text, sizeof text);
    etcd_delete(&etcd, PREFIX "/shards/0");
    WAIT_FOR((standing_of(1, 0, why), strstr(why, "forgot")));
    assert_int_equal(standing_of(1, 0, why), VIEWS_SERVING);
    /* Nor by a new process, for others say that they hold something. */
    struct msg_node self = nodes[1].self;
    nodes[1].v->ops->holds(nodes[1].v, 0, &self, 1, 77);
    WAIT_FOR((etcd_get(&etcd, PREFIX "/nodes/1", why, 400), strstr(why, "77")));
    start_node(3, 3000);
    WAIT_FOR((standing_of(3, 0, why), strstr(why, "store-a holds its state of epoch 1")));
    etcd_get(&etcd, PREFIX "/shards/0", why, sizeof why);
    assert_string_equal(why, "");
    etcd_put(&etcd, PREFIX "/shards/0", text);
    WAIT_FOR(epoch_at(3, 0) == 1);
}

static void a_lapsed_registration_changes_no_view(void **state)
{
    struct views_node n;
    start_two();
    stop_node(2);
    etcd_delete(&etcd, PREFIX "/nodes/2");
    WAIT_FOR(nodes[1].v->ops->node(nodes[1].v, 2, 0, &n) && !n.alive);
    assert_int_equal(n.incarnation, 2000);
    assert_int_equal(stored(0).epoch, 1);
    etcd_delete(&etcd, PREFIX "/nodes/1"); /* who lives registers again */
    WAIT_FOR((etcd_get(&etcd, PREFIX "/nodes/1", (char[2000]){0}, 2000)) > 0);
}

static void an_older_process_keeps_its_hands_off(void **state)
{
    char text[2000];
    start_two();
    etcd_put(&etcd, PREFIX "/nodes/1", "{\"incarnation\": \"1001\"}");
    WAIT_FOR(strstr(service_of(1).trouble, "another process"));
    etcd_get(&etcd, PREFIX "/nodes/1", text, sizeof text);
    assert_string_equal(text, "{\"incarnation\": \"1001\"}");
}

/* Started with the wall clock at `incarnation`: 0, or which one it is to be instead. */
static uint64_t restarted(uint32_t number, uint64_t incarnation)
{
    char why[400];
    stop_node(number);
    start_node(number, incarnation);
    WAIT_FOR(standing_of(number, 0, why) != VIEWS_WAITING);
    struct views *v = nodes[number].v;
    bool given = v->ops->take(v, 0, &nodes[number].view[0]);
    uint64_t now = v->ops->incarnation(v, 0);
    assert_true(given == !now); /* no view before it is known whom that could name */
    assert_int_equal(epoch_at(number, 0), 1);
    assert_int_equal(v->ops->incarnation(v, 0), 0);
    return now;
}

/* Also when nothing of it is registered any more, and only a view tells. */
static void the_newest_incarnation_is_known_for_ever(void **state)
{
    char text[2000];
    start_two();
    nodes[2].self.incarnation = 2007; /* it has discarded what it held */
    nodes[2].v->ops->holds(nodes[2].v, 0, &nodes[2].self, 1, 1);
    WAIT_FOR(etcd_get(&etcd, PREFIX "/incarnations/2", text, sizeof text) > 0 && !strcmp(text, "2007"));
    stop_node(2);
    etcd_delete(&etcd, PREFIX "/nodes/2");
    assert_true(restarted(2, 2006) > 2007);
    stop_node(2);
    etcd_delete(&etcd, PREFIX "/nodes/2");
    etcd_delete(&etcd, PREFIX "/incarnations/2");
    assert_true(restarted(2, 2000) > 2000);
    stop_node(2);
    etcd_delete(&etcd, PREFIX "/nodes/2");
    etcd_delete(&etcd, PREFIX "/incarnations/2");
    assert_int_equal(restarted(2, 2001), 0);
}

/* A whole store, node 1 of three, whose earlier process had a clock that was an hour ahead: returns that
 * one's incarnation. */
static uint64_t plant_an_hour_ahead(void)
{
    struct timespec t;
    char planted[24];
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t ahead = (uint64_t)(t.tv_sec + 3600) * 1000000000u;
    snprintf(planted, sizeof planted, "%lu", ahead);
    etcd_put(&etcd, PREFIX "/incarnations/1", planted);
    return ahead;
}

static struct store *start_store(void)
{
    static const struct store_node three[] = {{"store-a", "h:1", NULL}, {"store-b", "h:2", NULL}, {"store-c", "h:3", NULL}};
    struct store_config c = {.shards = 1, .node = 1, .nodes = three, .nnodes = 3, .etcd = one_endpoint, .netcd = 1,
                             .etcd_prefix = PREFIX, .failure_timeout_ms = failure_timeout_ms, .threads = true};
    struct store *s = NULL;
    char err[200];
    CHECK(!store_start(&s, &c, err, sizeof err), "%s", err);
    return s;
}

/* It is the primary of a view, under an incarnation above that one. */
static void assert_serves_above(struct store *s, uint64_t ahead)
{
    struct shard_snapshot n = {.members = 0};
    struct views_registration r;
    char text[2000];
    WAIT_FOR((store_snapshot(s, 0, &n), n.status.role == SHARD_PRIMARY));
    assert_int_equal(n.members, 1);
    assert_true(n.member[0].incarnation > ahead);
    WAIT_FOR(etcd_get(&etcd, PREFIX "/nodes/1", text, sizeof text) > 0);
    assert_null(views_json_registration(text, (uint32_t)strlen(text), &r));
    assert_true(r.incarnation > ahead);
}

static void a_clock_that_was_set_back_makes_no_old_process(void **state)
{
    uint64_t ahead = plant_an_hour_ahead();
    struct store *s = start_store();
    assert_serves_above(s, ahead);
    store_stop(s);
}

/* Whatever the clock says, nobody knows who it is before etcd does. */
static void a_store_that_starts_without_etcd_waits_for_it(void **state)
{
    char why[400] = "";
    uint64_t ahead = plant_an_hour_ahead();
    etcd_kill(&etcd);
    struct store *s = start_store();
    struct views_service sv;
    WAIT_FOR((store_views(s)->ops->service(store_views(s), &sv), sv.failures > 2));
    WAIT_FOR((why[0] = 0, figures_ready(s, why, sizeof why), strstr(why, "waits for etcd at ")));
    CHECK(strstr(why, "shard 0 waits for its view"), "%s", why);
    assert_true(sv.away_ms && strstr(sv.trouble, "etcd does not answer"));
    why[0] = 0;
    figures_healthy(s, why, sizeof why);
    assert_string_equal(why, "");
    etcd_run(&etcd);
    assert_serves_above(s, ahead);
    WAIT_FOR((why[0] = 0, figures_ready(s, why, sizeof why), !why[0]));
    store_stop(s);
}

/* One name, whoever came first; another life finds it, and one that was deleted is written again. */
static void a_site_has_one_name_for_ever(void **state)
{
    char text[2000], later[2000];
    start_two();
    WAIT_FOR(service_of(1).site[0] && service_of(2).site[0]);
    assert_string_equal(service_of(1).site, service_of(2).site);
    assert_true(etcd_get(&etcd, PREFIX "/site", text, sizeof text) == 1);
    assert_string_equal(service_of(1).site, text);
    assert_int_equal(strlen(text), VIEWS_SITE_ID - 1);
    start_node(3, 3000);
    WAIT_FOR(service_of(3).site[0]);
    assert_string_equal(service_of(3).site, text);
    etcd_delete(&etcd, PREFIX "/site");
    WAIT_FOR(etcd_get(&etcd, PREFIX "/site", later, sizeof later) > 0);
    assert_string_equal(later, text);
    etcd_put(&etcd, PREFIX "/site", "no name");
    WAIT_FOR(!service_of(1).site[0]);
}

static void nobody_left_is_lost_until_accepted(void **state)
{
    uint32_t three = 3;
    char why[400];
    start_two();
    stop_node(2);
    start_node(2, 2001);
    struct views *v = nodes[2].v;
    WAIT_FOR(epoch_at(2, 0) == 1);
    WAIT_FOR(standing_of(2, 0, why) == VIEWS_FOLLOWING); /* node 1 may live */
    assert_int_equal(v->ops->accept_loss(v, 0, &three, 1, why, sizeof why), -EPERM);
    CHECK(strstr(why, "--fenced store-a"), "%s", why);
    stop_node(1);
    start_node(1, 1001);
    WAIT_FOR(standing_of(2, 0, why) == VIEWS_LOST && standing_of(1, 0, why) == VIEWS_LOST);
    CHECK(strstr(why, "accept-loss 0 in-these-words"), "%s", why);
    CHECK(!v->ops->accept_loss(v, 0, NULL, 0, why, sizeof why), "%s", why);
    WAIT_FOR(epoch_at(1, 0) == 2 && standing_of(2, 0, why) == VIEWS_SERVING);
    assert_true(view_at(1, 0)->accepted_loss);
    assert_int_equal(view_at(1, 0)->members[0].incarnation, 2001);
    WAIT_FOR(standing_of(1, 0, why) == VIEWS_FOLLOWING);
    stop_node(2);
    start_node_at(2, 2002, true, one_endpoint, 1); /* the word given at the start: only when lost */
    WAIT_FOR(standing_of(2, 0, why) == VIEWS_SERVING);
    assert_int_equal(view_at(2, 0)->members[0].incarnation, 2002);
}

static void end_points_are_tried_in_turn(void **state)
{
    char nobody[40];
    uint32_t a[] = {1};
    snprintf(nobody, sizeof nobody, "http://127.0.0.1:%u", free_ports(1, 0));
    const char *const some[] = {nobody, "127.0.0.1:1", etcd.client};
    start_node_at(1, 1000, false, some, 3);
    WAIT_FOR(epoch_at(1, 0) == 1);
    propose(1, 0, 1, a);
    WAIT_FOR(epoch_at(1, 0) == 2);
    assert_true(service_of(1).failures >= 2);
}

#define WITH_ETCD(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ETCD(the_first_view_names_who_registered),
        WITH_ETCD(the_first_view_waits_for_the_others_not_for_ever),
        WITH_ETCD(a_wish_is_granted_once),
        WITH_ETCD(of_two_wishes_one_wins),
        WITH_ETCD(a_killed_etcd_loses_no_wish_and_grants_none_twice),
        WITH_ETCD(a_stopped_etcd_leaves_the_outcome_open),
        WITH_ETCD(what_cannot_be_read_changes_nothing),
        WITH_ETCD(a_deleted_view_is_not_begun_anew),
        WITH_ETCD(a_lapsed_registration_changes_no_view),
        WITH_ETCD(an_older_process_keeps_its_hands_off),
        WITH_ETCD(the_newest_incarnation_is_known_for_ever),
        WITH_ETCD(a_clock_that_was_set_back_makes_no_old_process),
        WITH_ETCD(a_store_that_starts_without_etcd_waits_for_it),
        WITH_ETCD(a_site_has_one_name_for_ever),
        WITH_ETCD(nobody_left_is_lost_until_accepted),
        WITH_ETCD(end_points_are_tried_in_turn),
    };
    signal(SIGPIPE, SIG_IGN);
    log_init("views_etcd_test", "test",
             getenv("LETHE_TEST_LOG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
