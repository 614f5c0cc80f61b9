/* SPDX-License-Identifier: BSD-3-Clause */
/* Events at the client: asked for everywhere and again, shown in order, acknowledged
 * as far as the handler went. */
#include "client/client_impl.h"
#include "client/fake_store.h"

enum { TABLE_ID = 5, SLOT = 200 };

static struct fake f;
static uint64_t id[2];
static uint64_t shown[32], nshown, refuse_from; /* versions; 0: refuses none */

static bool handler(void *user, const struct lethe_event *e)
{
    if (refuse_from && e->version >= refuse_from)
        return false;
    assert_int_equal(e->table, 0);
    assert_int_equal(e->slot, SLOT);
    assert_int_equal(e->key_len, 8);
    assert_int_equal(e->value_len, 16);
    assert_int_equal(*(const uint64_t *)e->key, e->version * 10);
    assert_memory_equal(e->value, "sixteen bytes...", 16);
    shown[nshown++] = e->version;
    return true;
}

static void open_two(void)
{
    struct table_schema schema = fake_schema("timers");
    schema.flags = TABLE_EVENTS | TABLE_ABSOLUTE;
    nshown = refuse_from = 0;
    fake_open(&f, 2, 0);
    assert_int_equal(lethe_table_open(f.client, &schema), 0);
    assert_int_equal(lethe_events(f.client, 0, handler, NULL), 0);
    id[0] = fake_up(&f, 0, 1, TABLE_ID);
    id[1] = fake_up(&f, 1, 1, TABLE_ID);
    fake_poll(&f);
}

static void expect_consume(uint16_t shard, bool want)
{
    const struct msg_consume *m = fake_next(&f, shard, MSG_CONSUME);
    assert_int_equal(m->client, id[shard]);
    assert_int_equal(m->table, TABLE_ID);
    assert_int_equal(m->want, want);
}

/* Events number first .. first + n - 1; the version of each is its number. */
static void events(uint64_t client, uint8_t table, uint64_t epoch, uint64_t first, uint16_t n)
{
    struct {
        struct msg_events m;
        struct { struct msg_event e; uint64_t key; char value[16]; } all[8];
    } frame = {.m = {.client = client, .epoch = epoch, .first = first, .table = table,
                     .slot = SLOT, .count = n, .body_bytes = n * (uint32_t)sizeof frame.all[0]}};
    for (uint16_t i = 0; i < n; i++) {
        frame.all[i].e = (struct msg_event){.version = first + i, .time_ms = 1, .key_len = 8,
                                            .value_len = 16, .bytes = sizeof frame.all[0]};
        frame.all[i].key = (first + i) * 10;
        memcpy(frame.all[i].value, "sixteen bytes...", 16);
    }
    fake_send(&f, 1, &frame, MSG_EVENTS, (uint32_t)sizeof frame.m + frame.m.body_bytes);
    fake_poll(&f);
}

/* The next frame that is no CONSUME; 0: none. */
static uint64_t acked(uint64_t epoch)
{
    const struct msg_events_ack *m;
    while ((m = fake_here(&f, 1)) && m->head.type == MSG_CONSUME)
        ;
    if (!m)
        return 0;
    assert_int_equal(m->head.type, MSG_EVENTS_ACK);
    assert_int_equal(m->client, id[1]);
    assert_int_equal(m->epoch, epoch);
    assert_int_equal(m->table, TABLE_ID);
    assert_int_equal(m->slot, SLOT);
    return m->cursor;
}

/* Events pushed while another table is being opened are not taken; what follows them
 * must not be acknowledged instead of them. */
static void test_events_that_come_while_a_table_is_opened_are_not_skipped(void **state)
{
    open_two();
    while (fake_here(&f, 1))
        ;
    struct table_schema other = fake_schema("other");
    assert_int_equal(lethe_table_open(f.client, &other), 1);
    fake_poll(&f);
    events(id[1], TABLE_ID, 9, 1, 3);
    fake_table(&f, 1, TABLE_ID + 1, "");
    fake_poll(&f);
    events(id[1], TABLE_ID, 9, 4, 1);
    uint64_t cursor = 0;
    const struct msg_head *m;
    while ((m = fake_here(&f, 1)))
        if (m->type == MSG_EVENTS_ACK)
            cursor = ((const struct msg_events_ack *)m)->cursor;
    CHECK(cursor == 0 || nshown == 4, "cursor %lu acknowledged, %lu shown", cursor, nshown);
    fake_close(&f);
}

static void test_events_are_asked_for_everywhere_and_again(void **state)
{
    open_two();
    for (int round = 0; round < 3; round++) {
        expect_consume(0, true);
        expect_consume(1, true);
        assert_null(fake_here(&f, 1));
        fake_pass_ms(&f, CONSUME_US / 1000);
    }
    while (fake_here(&f, 1))
        ;
    channel_close(f.end[1]);
    f.end[1] = NULL;
    fake_welcome(&f, 1);
    fake_table(&f, 1, TABLE_ID, "");
    expect_consume(1, true);
    fake_close(&f);
}

/* Who has nothing under way, but waits for events, asks whether its store is there. */
static void asked_in_silence(uint32_t dials)
{
    f.statuses = 0;
    for (int i = 0; i < FAKE_PATIENCE * 100 && !f.statuses; i++) {
        fake_poll(&f);
        while (fake_here(&f, 1))
            ;
    }
    CHECK(f.statuses == 1 && f.dials == dials, "%u statuses, %u dials", f.statuses, f.dials);
}

static void test_a_mere_consumer_leaves_who_serves_no_longer(void **state)
{
    open_two();
    uint32_t dials = f.dials;
    struct msg_status_is m = {.status.role = SHARD_PRIMARY};
    for (int i = 0; i < 3; i++) {
        asked_in_silence(dials);
        fake_send(&f, 1, &m, MSG_STATUS_IS, sizeof m);
        struct msg_status_is other = m; /* the other shard is well */
        fake_send(&f, 0, &other, MSG_STATUS_IS, sizeof other);
    }
    asked_in_silence(dials);
    m.status.role = SHARD_BACKUP;
    fake_send(&f, 1, &m, MSG_STATUS_IS, sizeof m);
    for (int i = 0; i < FAKE_PATIENCE && f.dials == dials; i++)
        fake_poll(&f);
    CHECK(f.dials > dials, "it stays with a backup");
    fake_close(&f);
}

static void test_no_more_is_said_once_per_connection(void **state)
{
    open_two();
    expect_consume(1, true);
    assert_int_equal(lethe_events(f.client, 0, NULL, NULL), 0);
    expect_consume(1, false);
    fake_pass_ms(&f, 2 * CONSUME_US / 1000);
    assert_null(fake_here(&f, 1));
    channel_close(f.end[1]);
    f.end[1] = NULL;
    fake_welcome(&f, 1);
    fake_table(&f, 1, TABLE_ID, "");
    expect_consume(1, false); /* this one may have heard of the wish from the other */
    fake_pass_ms(&f, 2 * CONSUME_US / 1000);
    assert_null(fake_here(&f, 1));
    events(id[1], TABLE_ID, 1, 1, 1); /* was on its way */
    assert_int_equal(nshown, 0);
    assert_int_equal(acked(1), 0);
    fake_close(&f);
}

static void test_what_was_taken_is_acknowledged(void **state)
{
    open_two();
    events(id[1], TABLE_ID, 4, 70, 3);
    assert_int_equal(nshown, 3);
    assert_int_equal(shown[2], 72);
    assert_int_equal(acked(4), 72);
    events(id[1], TABLE_ID, 4, 70, 3); /* the acknowledgement was lost */
    assert_int_equal(nshown, 3);
    assert_int_equal(acked(4), 72);
    events(id[1], TABLE_ID, 4, 72, 3); /* some of it new */
    assert_int_equal(nshown, 5);
    assert_int_equal(shown[3], 73);
    assert_int_equal(acked(4), 74);
    fake_close(&f);
}

static void test_not_now_is_shown_again_and_nothing_behind_it(void **state)
{
    open_two();
    refuse_from = 2;
    events(id[1], TABLE_ID, 4, 1, 4);
    assert_int_equal(nshown, 1);
    assert_int_equal(acked(4), 1);
    events(id[1], TABLE_ID, 4, 2, 3);
    assert_int_equal(acked(4), 0);
    events(id[1], TABLE_ID, 4, 4, 1); /* out of order: not before its turn */
    refuse_from = 0;
    events(id[1], TABLE_ID, 4, 4, 1);
    assert_int_equal(nshown, 1);
    events(id[1], TABLE_ID, 4, 2, 3);
    assert_int_equal(nshown, 4);
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(shown[i], i + 1);
    assert_int_equal(acked(4), 4);
    fake_close(&f);
}

static void test_a_new_epoch_begins_where_the_shard_says(void **state)
{
    open_two();
    events(id[1], TABLE_ID, 4, 1, 3);
    assert_int_equal(acked(4), 3);
    events(id[1], TABLE_ID, 5, 2, 3); /* another one consumed meanwhile, or a fail-over */
    assert_int_equal(nshown, 6);
    assert_int_equal(shown[3], 2);
    assert_int_equal(acked(5), 4);
    fake_close(&f);
}

static void test_others_events_are_ignored(void **state)
{
    open_two();
    events(id[1] + 1, TABLE_ID, 4, 1, 1);
    events(id[1], TABLE_ID + 1, 4, 1, 1);
    assert_int_equal(nshown, 0);
    assert_int_equal(acked(4), 0);
    assert_true(lethe_ready(f.client));
    fake_close(&f);
}

static void test_only_tables_with_events_have_some(void **state)
{
    struct table_schema plain = fake_schema("plain");
    open_two();
    int table = lethe_table_open(f.client, &plain);
    assert_int_equal(lethe_events(f.client, table, handler, NULL), -EINVAL);
    assert_int_equal(lethe_events(f.client, -1, handler, NULL), -EINVAL);
    assert_int_equal(lethe_events(f.client, 2, handler, NULL), -EINVAL);
    fake_close(&f);
}

static void test_a_timer_is_an_insert_with_a_time_out(void **state)
{
    uint64_t key = 3, payload[2] = {1, 2};
    open_two();
    struct lethe_txn *t = lethe_txn_begin(f.client, SLOT, NULL, NULL);
    assert_int_equal(lethe_txn_timer(t, 0, &key, payload, 0), 0);
    assert_int_equal(lethe_txn_timer(t, 0, &key, payload, 250), 1);
    lethe_txn_submit(t);
    lethe_flush(f.client);
    const struct msg_head *h;
    while ((h = fake_here(&f, 1)) && h->type == MSG_CONSUME)
        ;
    assert_int_equal(h->type, MSG_BATCH);
    const struct txn_op *op = txn_first((const void *)((const struct msg_batch *)h + 1));
    assert_int_equal(op->code, TXN_INSERT);
    assert_int_equal(op->timeout_ms, 1); /* 0 would be the table's */
    assert_int_equal(txn_next(op)->timeout_ms, 250);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_that_come_while_a_table_is_opened_are_not_skipped),
        cmocka_unit_test(test_events_are_asked_for_everywhere_and_again),
        cmocka_unit_test(test_a_mere_consumer_leaves_who_serves_no_longer),
        cmocka_unit_test(test_no_more_is_said_once_per_connection),
        cmocka_unit_test(test_what_was_taken_is_acknowledged),
        cmocka_unit_test(test_not_now_is_shown_again_and_nothing_behind_it),
        cmocka_unit_test(test_a_new_epoch_begins_where_the_shard_says),
        cmocka_unit_test(test_others_events_are_ignored),
        cmocka_unit_test(test_only_tables_with_events_have_some),
        cmocka_unit_test(test_a_timer_is_an_insert_with_a_time_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
