/* SPDX-License-Identifier: BSD-3-Clause */
/* Moved hash slots: the map, MOVED, and what may not happen to a txn meanwhile. */
#include "client/client_impl.h"
#include "client/fake_store.h"

enum { SLOT = 7, ID_A = 5, ID_B = 9 }; /* at first in shard 0; the table's number at 0 and 1 */

static struct fake f;
static uint64_t id[2];

static void open_two(void)
{
    struct table_schema schema = fake_schema("flows");
    fake_open(&f, 2, 0);
    lethe_table_open(f.client, &schema);
    id[0] = fake_up(&f, 0, 1, ID_A);
    id[1] = fake_up(&f, 1, 1, ID_B);
    fake_poll(&f);
    assert_true(lethe_ready(f.client));
}

static void submit(struct fake_call *call)
{
    uint64_t key = 1;
    struct lethe_txn *t = lethe_txn_begin(f.client, SLOT, fake_done, call);
    assert_non_null(t);
    lethe_txn_get(t, 0, &key, 0);
    lethe_txn_submit(t);
}

static void submit_now(struct fake_call *call)
{
    submit(call);
    lethe_flush(f.client);
}

/* The next BATCH at the shard holds just this txn. */
static void expect(uint16_t shard, uint64_t ack, uint64_t seq, uint8_t slot, uint32_t epoch)
{
    const struct msg_batch *m = fake_next(&f, shard, MSG_BATCH);
    const struct txn_head *t = (const struct txn_head *)(m + 1);
    assert_int_equal(m->client, id[shard]);
    assert_int_equal(m->ack, ack);
    assert_int_equal(m->ntxn, 1);
    assert_int_equal(t->seq, seq);
    assert_int_equal(t->slot, slot);
    assert_int_equal(t->slot_epoch, epoch);
    assert_int_equal(txn_first(t)->table, shard ? ID_B : ID_A);
}

static void map_says(uint16_t by, uint8_t slot, uint16_t shard, uint32_t epoch, bool known)
{
    struct msg_map m = {0};
    m.slots[slot] = (struct map_slot){.shard = shard, .known = known, .epoch = epoch};
    fake_send(&f, by, &m, MSG_MAP, sizeof m);
    fake_poll(&f);
}

static void moved(uint16_t by, uint64_t seq, uint8_t slot, uint16_t shard, uint32_t epoch)
{
    struct {
        struct msg_results m;
        struct txn_result_head r;
        struct txn_moved to;
    } frame = {.m = {.client = id[by], .nres = 1},
               .r = {.seq = seq, .bytes = sizeof frame.r + sizeof frame.to, .status = TXN_MOVED},
               .to = {.slot = slot, .shard = shard, .slot_epoch = epoch}};
    fake_send(&f, by, &frame, MSG_RESULTS, sizeof frame);
    fake_poll(&f);
}

static void result(uint16_t by, uint64_t seq, enum txn_status status)
{
    fake_result(&f, by, id[by], seq, status);
    fake_poll(&f);
}

static void test_the_map_decides_where_a_new_txn_goes(void **state)
{
    struct fake_call call = {0};
    open_two();
    submit_now(&call);
    expect(0, 0, 1, SLOT, 0);
    result(0, 1, TXN_OK);
    map_says(0, SLOT, 1, 3, true);
    submit_now(&call);
    expect(1, 0, 1, SLOT, 3);
    result(1, 1, TXN_OK);
    map_says(0, SLOT, 0, 2, true);  /* older */
    map_says(0, SLOT, 0, 3, true);  /* as old */
    map_says(1, SLOT, 0, 4, false); /* not known */
    map_says(1, SLOT, 2, 5, true);  /* no such shard */
    submit_now(&call);
    expect(1, 1, 2, SLOT, 3);
    result(1, 2, TXN_OK);
    map_says(0, SLOT, 0, 4, true);
    submit_now(&call);
    expect(0, 1, 2, SLOT, 4);
    result(0, 2, TXN_OK);
    assert_int_equal(call.calls, 4);
    fake_close(&f);
}

static void test_every_session_asks_for_the_map(void **state)
{
    open_two();
    assert_null(fake_here(&f, 0));
    assert_null(fake_here(&f, 1));
    assert_int_equal(f.map_gets, 2);
    channel_close(f.end[1]);
    f.end[1] = NULL;
    fake_welcome(&f, 1);
    fake_table(&f, 1, ID_B, "");
    fake_poll(&f);
    assert_null(fake_here(&f, 1));
    assert_int_equal(f.map_gets, 3);
    fake_close(&f);
}

static void test_moved_is_followed_under_a_new_sequence(void **state)
{
    struct fake_call call = {0}, other = {0};
    struct lethe_status st;
    open_two();
    submit_now(&call);
    expect(0, 0, 1, SLOT, 0);
    moved(0, 1, SLOT, 1, 6);
    assert_int_equal(call.calls, 0);
    expect(1, 0, 1, SLOT, 6);
    result(1, 1, TXN_CONFLICT);
    assert_int_equal(call.calls, 1);
    assert_int_equal(call.status, TXN_CONFLICT);
    submit_now(&other);              /* the map has it now */
    expect(1, 1, 2, SLOT, 6);
    moved(1, 2, SLOT, 0, 7);
    assert_true(f.client->sessions[0].sent.count == 1); /* left in the same poll */
    expect(0, 1, 2, SLOT, 7);        /* at shard 0 sequence 1 counts as answered */
    result(0, 2, TXN_OK);
    assert_int_equal(other.calls, 1);
    lethe_status(f.client, &st);
    assert_int_equal(st.moved, 2);
    assert_int_equal(st.in_flight, 0);
    fake_close(&f);
}

static void test_a_lent_index_changes_the_slot(void **state)
{
    struct fake_call call = {0};
    open_two();
    submit_now(&call);
    expect(0, 0, 1, SLOT, 0);
    moved(0, 1, 200, 1, 0);          /* slot 200 never moved */
    expect(1, 0, 1, 200, 0);
    result(1, 1, TXN_OK);
    assert_int_equal(call.calls, 1);
    submit_now(&call);               /* slot SLOT did not move either */
    expect(0, 1, 2, SLOT, 0);
    fake_close(&f);
}

static void test_what_was_sent_stays_until_a_final_answer(void **state)
{
    struct fake_call sent = {0}, queued = {0};
    open_two();
    submit_now(&sent);
    expect(0, 0, 1, SLOT, 0);
    submit(&queued);                 /* never sent */
    map_says(1, SLOT, 1, 3, true);
    lethe_flush(f.client);
    expect(1, 0, 1, SLOT, 3);
    fake_pass_ms(&f, 210);           /* the retry: same shard, sequence and epoch */
    expect(0, 0, 1, SLOT, 0);
    channel_close(f.end[0]);         /* and over a reconnection, too */
    f.end[0] = NULL;
    fake_welcome(&f, 0);
    fake_table(&f, 0, ID_A, "");
    expect(0, 0, 1, SLOT, 0);
    result(0, 1, TXN_OK);
    assert_int_equal(sent.calls, 1);
    result(1, 1, TXN_OK);
    assert_int_equal(queued.calls, 1);
    fake_close(&f);
}

static void test_what_was_sent_to_a_dead_shard_waits_for_it(void **state)
{
    struct fake_call call = {0};
    open_two();
    submit_now(&call);
    expect(0, 0, 1, SLOT, 0);
    f.refuse = true;
    channel_close(f.end[0]);
    f.end[0] = NULL;
    fake_pass_ms(&f, 10);            /* queued again: it may have been executed */
    map_says(1, SLOT, 1, 3, true);
    fake_pass_ms(&f, 10);
    assert_null(fake_here(&f, 1));
    f.refuse = false;
    fake_welcome(&f, 0);
    fake_table(&f, 0, ID_A, "");
    expect(0, 0, 1, SLOT, 0);
    moved(0, 1, SLOT, 1, 3);
    expect(1, 0, 1, SLOT, 3);
    fake_close(&f);
}

static void test_a_txn_waiting_for_a_dead_shard_goes_where_its_slot_went(void **state)
{
    struct fake_call call = {0};
    open_two();
    f.refuse = true;
    channel_close(f.end[0]);
    f.end[0] = NULL;
    fake_poll(&f);
    submit_now(&call);
    map_says(1, SLOT, 1, 3, true);
    fake_poll(&f);
    lethe_flush(f.client);
    expect(1, 0, 1, SLOT, 3);
    f.refuse = false;
    fake_close(&f);
}

static void test_late_answers_of_the_old_shard_are_nothing(void **state)
{
    struct fake_call call = {0};
    open_two();
    submit_now(&call);
    expect(0, 0, 1, SLOT, 0);
    fake_pass_ms(&f, 210);
    expect(0, 0, 1, SLOT, 0);        /* so two answers may come */
    moved(0, 1, SLOT, 1, 6);
    expect(1, 0, 1, SLOT, 6);
    moved(0, 1, SLOT, 1, 6);
    result(0, 1, TXN_NOT_PRIMARY);
    result(0, 1, TXN_FORGOTTEN);
    result(0, 1, TXN_OK);
    assert_int_equal(call.calls, 0);
    assert_null(fake_here(&f, 1));
    result(1, 1, TXN_OK);
    result(1, 1, TXN_OK);
    assert_int_equal(call.calls, 1);
    fake_close(&f);
}

static void test_the_old_shards_lost_lease_does_not_end_a_moved_txn(void **state)
{
    struct fake_call call = {0}, old = {0};
    open_two();
    submit_now(&old);
    expect(0, 0, 1, SLOT, 0);
    submit_now(&call);
    expect(0, 0, 2, SLOT, 0);
    moved(0, 2, SLOT, 1, 6);
    expect(1, 0, 1, SLOT, 6);
    result(0, 1, TXN_STALE_CLIENT);
    assert_int_equal(old.calls, 1);
    assert_int_equal(old.status, TXN_STALE_CLIENT);
    assert_int_equal(call.calls, 0);
    result(1, 1, TXN_OK);
    assert_int_equal(call.calls, 1);
    assert_int_equal(call.status, TXN_OK);
    fake_close(&f);
}

static void test_a_chain_of_moves_slows_down_and_ends(void **state)
{
    struct fake_call call = {0};
    uint64_t seq[2] = {0};
    uint32_t hops = 0;
    open_two();
    submit_now(&call);
    uint64_t then = f.now_us;
    for (uint16_t at = 0; hops < 12; hops++, at = !at) {
        const struct msg_batch *m = fake_next(&f, at, MSG_BATCH);
        assert_int_equal(((const struct txn_head *)(m + 1))->seq, ++seq[at]);
        assert_int_equal(m->ack, seq[at] - 1);
        moved(at, seq[at], SLOT, !at, hops + 1);
        if (hops == HOPS_MAX - 1)
            CHECK(f.now_us - then < 10 * 1000, "%lu us for the first hops", f.now_us - then);
    }
    CHECK(f.now_us - then >= 8 * HOP_DELAY_US, "%lu us", f.now_us - then);
    fake_next(&f, 0, MSG_BATCH);
    assert_int_equal(call.calls, 0);
    result(0, seq[0] + 1, TXN_OK);
    assert_int_equal(call.calls, 1);
    struct lethe_status st;
    lethe_status(f.client, &st);
    assert_int_equal(st.moved, 12);
    assert_int_equal(st.in_flight, 0);
    fake_close(&f);
}

static void test_a_shard_about_to_accept_is_asked_soon(void **state)
{
    struct fake_call call = {0};
    open_two();
    submit_now(&call);
    expect(0, 0, 1, SLOT, 0);
    moved(0, 1, SLOT, 1, 6);
    expect(1, 0, 1, SLOT, 6);
    result(1, 1, TXN_BUSY);
    fake_pass_ms(&f, EAGER_US / 1000 + 1);
    assert_non_null(fake_here(&f, 1)); /* the same once more */
    result(1, 1, TXN_OK);
    assert_int_equal(call.calls, 1);
    fake_close(&f);
}

static void test_a_moved_that_tells_nothing_new_is_asked_again(void **state)
{
    struct fake_call call = {0};
    open_two();
    map_says(1, SLOT, 1, 9, true);
    submit_now(&call);
    expect(1, 0, 1, SLOT, 9);
    moved(1, 1, SLOT, 0, 8);          /* a replica behind the times */
    expect(1, 1, 2, SLOT, 9);
    result(1, 2, TXN_OK);
    assert_int_equal(call.calls, 1);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_map_decides_where_a_new_txn_goes),
        cmocka_unit_test(test_every_session_asks_for_the_map),
        cmocka_unit_test(test_moved_is_followed_under_a_new_sequence),
        cmocka_unit_test(test_a_lent_index_changes_the_slot),
        cmocka_unit_test(test_what_was_sent_stays_until_a_final_answer),
        cmocka_unit_test(test_what_was_sent_to_a_dead_shard_waits_for_it),
        cmocka_unit_test(test_a_txn_waiting_for_a_dead_shard_goes_where_its_slot_went),
        cmocka_unit_test(test_late_answers_of_the_old_shard_are_nothing),
        cmocka_unit_test(test_the_old_shards_lost_lease_does_not_end_a_moved_txn),
        cmocka_unit_test(test_a_chain_of_moves_slows_down_and_ends),
        cmocka_unit_test(test_a_shard_about_to_accept_is_asked_soon),
        cmocka_unit_test(test_a_moved_that_tells_nothing_new_is_asked_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
