/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Event logs on a pair: what expires is told to one consumer at a time, at least
 * once, through fail-overs; cursors, epochs, limits, timers.
 */
#include "rig_test_support.h"

enum { TIMERS, IDLES };
enum { CONN_B = 101, TIMER_G_MS = 250, EVENTS_MAX = 65536 };

static const struct table_schema timers = {
    .name = "timers", .kind = TABLE_HASH, .key_size = 8, .part_len = 4, .value_size = 12,
    .timeout_ms = 500, .flags = TABLE_EVENTS | TABLE_ABSOLUTE};
static const struct table_schema idles = {.name = "idles", .kind = TABLE_HASH, .key_size = 8,
                                          .part_len = 4, .value_size = 12, .timeout_ms = 2000,
                                          .max_entries = 4, .flags = TABLE_EVENTS};

struct key8 { uint32_t part, rest; };
struct seen {
    uint32_t conn;
    struct key8 key;
    uint32_t value;
    uint64_t client, epoch, number, version, time_ms, now;
    uint8_t table, slot;
};
static struct seen seen[EVENTS_MAX];
static uint32_t nseen, nagain; /* different ones; told once more by the same epoch */
static bool answers;          /* the consumers acknowledge at once */
static struct rig_txn t;

static void send_ack(struct rig *r, uint32_t conn, const struct seen *e, uint64_t cursor)
{
    struct msg_events_ack a = {.client = e->client, .epoch = e->epoch, .cursor = cursor,
                               .table = e->table, .slot = e->slot};
    msg_head_set(&a, MSG_EVENTS_ACK, sizeof a, 0, 0);
    rig_frame(r, r->primary, conn, &a, sizeof a);
}

/* Acknowledgements are sent after the step that pushed. */
static struct { struct seen e; uint64_t cursor; } owed[4096];
static uint32_t nowed;

static void pay(struct rig *r)
{
    uint32_t n = nowed;
    nowed = 0;
    for (uint32_t i = 0; i < n; i++)
        send_ack(r, owed[i].e.conn, &owed[i].e, owed[i].cursor);
}

static bool is_new(const struct seen *e)
{
    for (uint32_t i = nseen; i-- > 0;)
        if (seen[i].table == e->table && seen[i].slot == e->slot && seen[i].epoch == e->epoch &&
            seen[i].number == e->number)
            return false;
    return true;
}

static void see(struct rig *r, uint32_t conn, const void *frame)
{
    const struct msg_events *m = frame;
    const uint8_t *at = (const uint8_t *)(m + 1);
    struct seen last = {0};
    if (m->head.type != MSG_EVENTS)
        return;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct msg_event *e = (const struct msg_event *)at;
        CHECK(nseen < EVENTS_MAX, "too many events");
        struct seen *to = &seen[nseen];
        *to = (struct seen){.conn = conn, .client = m->client, .epoch = m->epoch,
                            .number = m->first + i, .version = e->version, .time_ms = e->time_ms,
                            .table = m->table, .slot = m->slot, .now = r->now};
        assert_int_equal(e->key_len, 8);
        assert_int_equal(e->value_len, 12);
        memcpy(&to->key, e + 1, 8);
        memcpy(&to->value, (const uint8_t *)(e + 1) + 8, 4);
        assert_int_equal(slot_of(&to->key, 4), m->slot);
        at += e->bytes;
        last = *to;
        nseen += is_new(to);
        nagain += &seen[nseen] == to;
    }
    if (answers && nowed < 4096) {
        owed[nowed].e = last;
        owed[nowed++].cursor = m->first + m->count - 1;
    }
}

static void run(struct rig *r, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        rig_run(r, 1);
        pay(r);
    }
}

static void consume(struct rig *r, uint32_t conn, uint64_t client, uint8_t table, bool want)
{
    struct msg_consume m = {.client = client, .table = table, .want = want};
    msg_head_set(&m, MSG_CONSUME, sizeof m, 0, 0);
    rig_frame(r, r->primary, conn, &m, sizeof m);
}

static int start(void **state)
{
    struct rig *r = rig_new(7, 3, (struct shard_config){.client_lease_ms = 1000000});
    nseen = nagain = nowed = 0;
    answers = true;
    r->see = see;
    rig_start(r, 0);
    rig_client(r);
    assert_int_equal(rig_table(r, &timers), TIMERS);
    assert_int_equal(rig_table(r, &idles), IDLES);
    rig_connect_backup(r, 1, 0);
    rig_run_until_copies(r, 2);
    *state = r;
    return 0;
}

static int stop(void **state)
{
    rig_free(*state);
    return 0;
}

static uint64_t second_client(struct rig *r)
{
    rig_client_connect(r, CONN_B);
    return rig_client_open(r, CONN_B, 77);
}

static void put_op(uint8_t table, uint32_t part, uint32_t rest, uint32_t timeout_ms)
{
    struct key8 k = {part, rest};
    uint32_t value[3] = {part ^ rest, 0, 9};
    rig_begin(&t, slot_of(&part, 4));
    rig_op(&t, (struct txn_op){.code = TXN_INSERT, .table = table, .timeout_ms = timeout_ms}, &k,
           8, value, 12);
}

static uint64_t put(struct rig *r, uint8_t table, uint32_t part, uint32_t rest,
                    uint32_t timeout_ms)
{
    put_op(table, part, rest, timeout_ms);
    const struct txn_result_head *h = rig_call(r, &t);
    assert_int_equal(h->status, TXN_OK);
    return txn_result_first(h)->version;
}

static const struct txn_result_head *get(struct rig *r, uint8_t table, uint32_t part,
                                         uint32_t rest, uint8_t flags)
{
    struct key8 k = {part, rest};
    rig_begin(&t, slot_of(&part, 4));
    rig_op(&t, (struct txn_op){.code = TXN_GET, .table = table, .flags = flags}, &k, 8, NULL, 0);
    return rig_call(r, &t);
}

static void fail_over(struct rig *r)
{
    rig_crash(r, 0);
    rig_promote(r, 1);
    rig_client_connect(r, RIG_CLIENT);
    for (int i = 0; i < 5000 && !shard_takes_requests(r->shard[1]); i++)
        rig_run(r, 1);
}

static bool saw(uint32_t part, uint32_t rest, uint64_t version)
{
    for (uint32_t i = 0; i < nseen; i++)
        if (seen[i].key.part == part && seen[i].key.rest == rest && seen[i].version == version)
            return true;
    return false;
}

/* --- events -------------------------------------------------------------------- */

static void test_timer_calls_back(void **state)
{
    struct rig *r = *state;
    consume(r, RIG_CLIENT, r->client, TIMERS, true);
    uint64_t version = put(r, TIMERS, 1, 10, 300), cancelled = put(r, TIMERS, 1, 11, 300);
    struct key8 k = {1, 11};
    rig_begin(&t, slot_of(&k.part, 4));
    rig_op(&t, (struct txn_op){.code = TXN_DELETE, .table = TIMERS, .arg0 = cancelled}, &k, 8,
           NULL, 0);
    assert_int_equal(rig_call(r, &t)->status, TXN_OK);
    uint64_t due = rig_status(r, 0).shard_time_ms + 300;
    run(r, 250);
    assert_int_equal(nseen, 0);
    run(r, 100);
    assert_int_equal(nseen, 1);
    assert_int_equal(seen[0].key.rest, 10);
    assert_int_equal(seen[0].value, 1 ^ 10);
    assert_int_equal(seen[0].version, version);
    assert_int_equal(seen[0].epoch, 1);
    assert_in_range(seen[0].time_ms, due - 10, due + 20);
    run(r, 2000);
    assert_int_equal(nseen, 1); /* acknowledged, so not told again */
    rig_check_same(r, 0, 1);
}

static void test_touches_do_not_move_a_timer(void **state)
{
    struct rig *r = *state;
    consume(r, RIG_CLIENT, r->client, TIMERS, true);
    consume(r, RIG_CLIENT, r->client, IDLES, true);
    put(r, TIMERS, 1, 1, 400);
    put(r, IDLES, 1, 2, 400);
    for (int i = 0; i < 8; i++) {
        get(r, TIMERS, 1, 1, TXN_TOUCH);
        get(r, IDLES, 1, 2, TXN_TOUCH);
        run(r, 60);
    }
    assert_int_equal(nseen, 1);
    assert_int_equal(seen[0].table, TIMERS);
    assert_int_equal(txn_result_first(get(r, IDLES, 1, 2, 0))->res, RES_HIT);
    rig_check_same(r, 0, 1);
}

static void test_cas_without_a_time_keeps_the_timer(void **state)
{
    struct rig *r = *state;
    consume(r, RIG_CLIENT, r->client, TIMERS, true);
    uint64_t version = put(r, TIMERS, 1, 1, 400);
    uint32_t value[3] = {5};
    struct key8 k = {1, 1};
    run(r, 300);
    rig_begin(&t, slot_of(&k.part, 4));
    rig_op(&t, (struct txn_op){.code = TXN_CAS, .table = TIMERS, .arg0 = version}, &k, 8, value, 12);
    assert_int_equal(rig_call(r, &t)->status, TXN_OK);
    run(r, 130);
    assert_int_equal(nseen, 1);
    assert_int_equal(seen[0].value, 5);
}

static void test_told_only_when_committed(void **state)
{
    struct rig *r = *state;
    consume(r, RIG_CLIENT, r->client, TIMERS, true);
    put(r, TIMERS, 1, 1, 50);
    put(r, TIMERS, 1, 2, 150);
    run(r, 100); /* the consumer is known */
    assert_int_equal(nseen, 1);
    r->cut[1] = r->hold_views = true;
    run(r, 200);
    assert_int_equal(rig_status(r, 0).expired, 2);
    assert_int_equal(nseen, 1);
    r->hold_views = false;
    run(r, 100);
    assert_int_equal(nseen, 2);
}

static void test_pending_through_fail_over(void **state)
{
    struct rig *r = *state;
    uint64_t version[20];
    answers = false;
    consume(r, RIG_CLIENT, r->client, TIMERS, true);
    for (uint32_t i = 0; i < 20; i++)
        version[i] = put(r, TIMERS, i % 5, i, i < 10 ? 50 : 3000);
    run(r, 200);
    assert_int_equal(nseen, 10);
    send_ack(r, RIG_CLIENT, &seen[0], seen[0].number);
    uint32_t acked = seen[0].key.rest;
    run(r, 20);
    rig_check_same(r, 0, 1);
    fail_over(r);
    nseen = 0;
    consume(r, RIG_CLIENT, r->client, TIMERS, true);
    run(r, 300);
    answers = true;
    run(r, 4000);
    for (uint32_t i = 0; i < 20; i++)
        CHECK(saw(i % 5, i, version[i]) == (i != acked), "event %u of 20, acknowledged is %u", i,
              acked);
    for (uint32_t i = 0; i < nseen; i++)
        CHECK(seen[i].epoch == 1, "the client that came back is a new consumer");
    rig_check_digest(r, 1);
    assert_int_equal(rig_status(r, 1).entries, 0);
}

static void test_consumer_that_does_not_come_back(void **state)
{
    struct rig *r = *state;
    answers = false;
    consume(r, RIG_CLIENT, r->client, TIMERS, true);
    put(r, TIMERS, 1, 1, 50);
    run(r, 100);
    assert_int_equal(nseen, 1);
    uint64_t other = second_client(r);
    fail_over(r);
    rig_client_connect(r, CONN_B);
    nseen = 0;
    consume(r, CONN_B, other, TIMERS, true);
    run(r, RIG_FAILURE_MS / 2);
    assert_int_equal(nseen, 0); /* it may come back yet */
    run(r, RIG_FAILURE_MS);
    assert_true(nseen > 0);
    assert_int_equal(seen[0].client, other);
    assert_int_equal(seen[0].epoch, 2);
}

static void test_timer_is_never_early_after_fail_over(void **state)
{
    struct rig *r = *state;
    put(r, TIMERS, 1, 1, 1500);
    put(r, IDLES, 1, 2, 1500);
    uint64_t due = rig_status(r, 0).shard_time_ms + 1500;
    run(r, 700);
    get(r, TIMERS, 1, 1, TXN_TOUCH);
    run(r, 10);
    fail_over(r);
    consume(r, RIG_CLIENT, r->client, TIMERS, true);
    while (!nseen && r->now < 20000)
        run(r, 1);
    assert_int_equal(nseen, 1);
    assert_in_range(seen[0].time_ms, due - 2, due + 40); /* an idle one: g later */
    assert_int_equal(txn_result_first(get(r, IDLES, 1, 2, 0))->res, RES_HIT);
}

/* --- consumers -------------------------------------------------------------------- */

static uint32_t count(uint64_t client)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < nseen; i++)
        n += seen[i].client == client;
    return n;
}

static void test_spread_and_taken_over(void **state)
{
    struct rig *r = *state;
    uint64_t other = second_client(r);
    answers = false;
    consume(r, RIG_CLIENT, r->client, TIMERS, true);
    consume(r, CONN_B, other, TIMERS, true);
    uint64_t due = r->now + 400;
    for (uint32_t i = 0; i < 40; i++)
        put(r, TIMERS, i, i, (uint32_t)(due - r->now)); /* given out in one step */
    run(r, 500);
    assert_int_equal(nseen, 40);
    assert_in_range(count(other), 15, 25);
    struct seen first = {0};
    for (uint32_t i = 0; i < nseen; i++)
        if (seen[i].client == other)
            first = seen[i];
    nseen = 0;
    rig_event(r, 0, (struct shard_event){.kind = SHARD_EV_CLOSED, .conn = CONN_B});
    run(r, 10);
    assert_true(nseen > 0);
    assert_int_equal(count(other), 0);
    for (uint32_t i = 0; i < nseen; i++)
        CHECK(seen[i].slot != first.slot || seen[i].epoch == 2, "taken over under the old epoch");
    /* What the old one still says is void; so is the right epoch by another. */
    uint64_t position = rig_status(r, 0).position;
    rig_client_connect(r, CONN_B);
    send_ack(r, CONN_B, &first, first.number);
    first.epoch = 2;
    send_ack(r, CONN_B, &first, first.number);
    first.client = r->client, first.epoch = 1;
    send_ack(r, CONN_B, &first, first.number);
    first.epoch = 2;
    send_ack(r, RIG_CLIENT, &first, first.number + 1); /* there is no such event */
    run(r, 5);
    assert_int_equal(rig_status(r, 0).position, position);
    send_ack(r, RIG_CLIENT, &first, first.number);
    run(r, 5);
    assert_int_equal(rig_status(r, 0).position, position + 1);
    rig_check_same(r, 0, 1);
}

static void test_want_no_more(void **state)
{
    struct rig *r = *state;
    uint64_t other = second_client(r);
    answers = false;
    consume(r, RIG_CLIENT, r->client, TIMERS, true);
    put(r, TIMERS, 1, 1, 50);
    run(r, 80);
    assert_int_equal(count(r->client), 1);
    consume(r, CONN_B, other, TIMERS, true);
    run(r, 10);
    assert_int_equal(count(other), 0);
    consume(r, RIG_CLIENT, r->client, TIMERS, false);
    run(r, 10);
    assert_int_equal(count(other), 1);
    assert_int_equal(seen[nseen - 1].epoch, 2);
}

static void test_sent_again_until_acknowledged(void **state)
{
    struct rig *r = *state;
    answers = false;
    consume(r, RIG_CLIENT, r->client, TIMERS, true);
    put(r, TIMERS, 1, 1, 50);
    run(r, 1500);
    assert_in_range(nagain, 3, 12); /* more and more rarely */
    answers = true;
    run(r, 1500);
    uint32_t before = nagain;
    run(r, 3000);
    assert_int_equal(nagain, before);
    assert_int_equal(nseen, 1);
}

static void test_window_is_bounded(void **state)
{
    struct rig *r = *state;
    answers = false;
    consume(r, RIG_CLIENT, r->client, TIMERS, true);
    for (uint32_t i = 0; i < 600; i++)
        put(r, TIMERS, 1, i, 2000);
    put(r, TIMERS, 2, 0, 2000);
    while (rig_status(r, 0).expired < 601)
        run(r, 1);
    run(r, 5);
    assert_int_equal(nseen, 256 + 1); /* another slot's goes past */
    send_ack(r, RIG_CLIENT, &seen[0], 100);
    run(r, 2);
    assert_int_equal(nseen, 256 + 1 + 100);
    answers = true;
    run(r, 3000);
    for (uint32_t i = 0; i < 600; i++) {
        uint32_t k = 0;
        while (k < nseen && !(seen[k].key.part == 1 && seen[k].key.rest == i))
            k++;
        CHECK(k < nseen, "event %u is missing", i);
    }
    rig_check_same(r, 0, 1);
}

static void test_wrong_table_or_client(void **state)
{
    struct rig *r = *state;
    uint32_t closed = r->closed;
    consume(r, RIG_CLIENT, r->client + 5, TIMERS, true);
    assert_int_equal(r->closed, closed);
    assert_int_equal(rig_result(r, 0)->status, TXN_STALE_CLIENT);
    consume(r, RIG_CLIENT, r->client, 9, true);
    assert_int_equal(r->closed, closed + 1);
}

static void test_no_lease_no_word_that_an_id_is_gone(void **state)
{
    struct rig *r = *state;
    r->cut[1] = r->hold_views = true;
    run(r, RIG_FAILURE_MS / 4 + 5);
    consume(r, RIG_CLIENT, r->client + 5, TIMERS, true); /* a later primary's, perhaps */
    assert_null(rig_result(r, 0));
    r->cut[1] = false;
    run(r, 15);
    consume(r, RIG_CLIENT, r->client + 5, TIMERS, true);
    assert_int_equal(rig_result(r, 0)->status, TXN_STALE_CLIENT);
}

/* --- limits, snapshots -------------------------------------------------------------- */

static void test_pending_events_count(void **state)
{
    struct rig *r = *state;
    for (uint32_t i = 0; i < 4; i++)
        put(r, IDLES, 1, i, i < 2 ? 50 : 100000);
    run(r, 100);
    assert_int_equal(rig_status(r, 0).entries, 2);
    put_op(IDLES, 1, 9, 0);
    assert_int_equal(rig_call(r, &t)->status, TXN_NO_MEMORY);
    consume(r, RIG_CLIENT, r->client, IDLES, true);
    run(r, 20);
    put(r, IDLES, 1, 9, 0);
    put(r, IDLES, 1, 10, 0);
    put_op(IDLES, 1, 11, 0);
    assert_int_equal(rig_call(r, &t)->status, TXN_NO_MEMORY);
    rig_check_same(r, 0, 1);
}

static void test_joiner_gets_pending_events(void **state)
{
    struct rig *r = *state;
    answers = false;
    rig_crash(r, 1);
    rig_run_until_copies(r, 1);
    consume(r, RIG_CLIENT, r->client, TIMERS, true);
    for (uint32_t i = 0; i < 50; i++)
        put(r, TIMERS, i % 3, i, 50);
    run(r, 100);
    send_ack(r, RIG_CLIENT, &seen[7], seen[7].number);
    rig_boot(r, 1, (struct shard_config){.client_lease_ms = 1000000});
    rig_connect_backup(r, 1, 0);
    rig_run_until_copies(r, 2);
    rig_check_same(r, 0, 1);
    uint32_t slot = seen[7].slot, gone = (uint32_t)seen[7].number;
    fail_over(r);
    nseen = 0;
    answers = true;
    consume(r, RIG_CLIENT, r->client, TIMERS, true);
    run(r, 400);
    uint32_t numbers[LETHE_SLOTS] = {0}, total = 0;
    numbers[slot] = gone;
    for (uint32_t i = 0; i < nseen; i++)
        if (seen[i].number == numbers[seen[i].slot] + 1) /* not one sent again */
            numbers[seen[i].slot]++, total++;
    assert_int_equal(total, 50 - gone);
}

static void test_many_due_together_under_load(void **state)
{
    enum { LIVE = 20000, DUE = 1000 };
    struct rig *r = *state;
    consume(r, RIG_CLIENT, r->client, TIMERS, true);
    for (uint32_t i = 0; i < LIVE; i++) {
        put_op(TIMERS, i, i, 10000000 + i);
        rig_submit(r, &t);
        r->ack = r->seq > 600 ? r->seq - 600 : 0;
        if (i % 200 == 0)
            run(r, 1);
    }
    uint64_t due = r->now + 1500;
    for (uint32_t i = 0; i < DUE; i++) {
        put_op(TIMERS, i, i + 1000000, (uint32_t)(due - r->now));
        rig_submit(r, &t);
        r->ack = r->seq > 600 ? r->seq - 600 : 0;
        if (i % 20 == 0)
            run(r, 1);
    }
    rig_results_clear(r);
    assert_int_equal(rig_status(r, 0).entries, LIVE + DUE);
    while (r->now < due + 60) {
        get(r, TIMERS, 5, 5, TXN_TOUCH);
        run(r, 1);
        if (rig_status(r, 0).expired && rig_status(r, 0).expired < DUE)
            CHECK(shard_next_ms(r->shard[0]) <= r->now, "it rests with timers due");
    }
    assert_int_equal(nseen, DUE);
    for (uint32_t i = 0; i < nseen; i++)
        CHECK(seen[i].now <= due + 40, "late by %lu ms", (unsigned long)(seen[i].now - due));
    rig_check_same(r, 0, 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        T(test_timer_calls_back), T(test_touches_do_not_move_a_timer),
        T(test_cas_without_a_time_keeps_the_timer), T(test_told_only_when_committed),
        T(test_pending_through_fail_over), T(test_consumer_that_does_not_come_back),
        T(test_timer_is_never_early_after_fail_over), T(test_spread_and_taken_over),
        T(test_want_no_more), T(test_sent_again_until_acknowledged), T(test_window_is_bounded),
        T(test_wrong_table_or_client), T(test_no_lease_no_word_that_an_id_is_gone),
        T(test_pending_events_count),
        T(test_joiner_gets_pending_events), T(test_many_due_together_under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
