/* SPDX-License-Identifier: BSD-3-Clause */
/* The client against a scripted store: one frame in, the expected one out. */
#include "client/fake_store.h"

enum { RETRY_MS = 200, STORE_TABLE = 5 };

static struct fake f;
static uint64_t id0;          /* leased by shard 0 */

/* One shard, one table that the store calls STORE_TABLE, ready. */
static void open_ready(uint32_t window)
{
    struct table_schema schema = fake_schema("flows");
    fake_open(&f, 1, window);
    assert_int_equal(lethe_table_open(f.client, &schema), 0);
    id0 = fake_up(&f, 0, 1, STORE_TABLE);
    fake_poll(&f);
    assert_true(lethe_ready(f.client));
}

static void submit(struct fake_call *call)
{
    uint64_t key = 1;
    struct lethe_txn *t = lethe_txn_begin(f.client, 7, fake_done, call);
    assert_non_null(t);
    assert_int_equal(lethe_txn_get(t, 0, &key, TXN_TOUCH), 0);
    lethe_txn_submit(t);
}

static void submit_now(struct fake_call *call)
{
    submit(call);
    lethe_flush(f.client);
}

/* The next BATCH must carry exactly txns first..first + n - 1. */
static const struct msg_batch *expect_batch(uint64_t client, uint64_t ack, uint64_t first,
                                            uint32_t n)
{
    const struct msg_batch *m = fake_next(&f, 0, MSG_BATCH);
    const struct txn_head *t = (const struct txn_head *)(m + 1);
    assert_int_equal(m->client, client);
    assert_int_equal(m->ack, ack);
    assert_int_equal(m->ntxn, n);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(t->seq, first + i);
        t = (const struct txn_head *)((const uint8_t *)t + t->bytes);
    }
    return m;
}

static int calls_of(struct fake_call *calls, int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += calls[i].calls;
    return sum;
}

/* --- handshake ------------------------------------------------------------------ */

static void test_handshake_goes_step_by_step(void **state)
{
    struct table_schema schema = fake_schema("flows");
    fake_open(&f, 2, 0);
    lethe_table_open(f.client, &schema);
    assert_null(lethe_txn_begin(f.client, 0, NULL, NULL)); /* not ready */
    fake_up(&f, 0, 1, 0);
    fake_poll(&f);
    assert_false(lethe_ready(f.client)); /* the other shard is missing */
    fake_up(&f, 1, 1, 0);
    fake_poll(&f);
    assert_true(lethe_ready(f.client));
    struct lethe_status st;
    lethe_status(f.client, &st);
    assert_string_equal(st.trouble, "");
    assert_int_equal(st.unreachable_since_us, 0);
    assert_int_equal(st.leases, 2);
    fake_close(&f);
}

static void test_lost_replies_of_the_handshake_are_asked_again(void **state)
{
    struct table_schema schema = fake_schema("flows");
    fake_open(&f, 1, 0);
    lethe_table_open(f.client, &schema);
    fake_welcome(&f, 0);
    const struct msg_client_open *open = fake_next(&f, 0, MSG_CLIENT_OPEN);
    uint64_t nonce = open->nonce;
    fake_pass_ms(&f, RETRY_MS + 10);
    open = fake_next(&f, 0, MSG_CLIENT_OPEN);
    assert_int_equal(open->nonce, nonce); /* so that the store leases one id only */
    struct msg_client m = {.nonce = nonce, .client = 7, .lease_ms = FAKE_LEASE_MS};
    fake_send(&f, 0, &m, MSG_CLIENT, sizeof m);
    fake_next(&f, 0, MSG_TABLE_OPEN);
    fake_pass_ms(&f, RETRY_MS + 10);
    fake_table(&f, 0, 3, "");
    fake_poll(&f);
    assert_true(lethe_ready(f.client));
    fake_close(&f);
}

static void test_another_schema_is_fatal_and_names_both(void **state)
{
    struct table_schema schema = fake_schema("flows");
    fake_open(&f, 1, 0);
    lethe_table_open(f.client, &schema);
    fake_welcome(&f, 0);
    fake_lease(&f, 0);
    fake_table(&f, 0, -EEXIST, "value_size is 24 here, 16 wanted");
    fake_poll(&f);
    struct lethe_status st;
    lethe_status(f.client, &st);
    CHECK(strstr(st.fatal, "flows") && strstr(st.fatal, "24 here, 16 wanted"), "%s", st.fatal);
    assert_false(lethe_ready(f.client));
    /* An operator mends it: the client asks again by itself. */
    fake_pass_ms(&f, 1100);
    fake_table(&f, 0, 0, "");
    fake_poll(&f);
    lethe_status(f.client, &st);
    assert_string_equal(st.fatal, "");
    assert_true(lethe_ready(f.client));
    fake_close(&f);
}

static void test_another_number_of_shards_is_fatal(void **state)
{
    fake_open(&f, 1, 0);
    struct msg_welcome m = {.proto = MSG_PROTO_MAX, .primary = 1, .shards = 4, .lease_ms = 1};
    fake_next(&f, 0, MSG_HELLO);
    fake_send(&f, 0, &m, MSG_WELCOME, sizeof m);
    fake_poll(&f);
    struct lethe_status st;
    lethe_status(f.client, &st);
    CHECK(strstr(st.fatal, "of 4"), "%s", st.fatal);
    fake_close(&f);
}

static void test_a_store_that_leases_nothing_is_asked_again(void **state)
{
    fake_open(&f, 1, 0);
    fake_welcome(&f, 0);
    const struct msg_client_open *open = fake_next(&f, 0, MSG_CLIENT_OPEN);
    struct msg_client no = {.nonce = open->nonce};
    fake_send(&f, 0, &no, MSG_CLIENT, sizeof no);
    fake_poll(&f);
    struct lethe_status st;
    lethe_status(f.client, &st);
    CHECK(strstr(st.trouble, "does not serve"), "%s", st.trouble);
    fake_pass_ms(&f, 100);
    fake_lease(&f, 0);
    fake_poll(&f);
    assert_true(lethe_ready(f.client));
    fake_close(&f);
}

static void test_an_error_is_shown_and_dialled_again(void **state)
{
    fake_open(&f, 1, 0);
    struct msg_error m = {.code = ENODATA};
    snprintf(m.text, sizeof m.text, "LOST: shard 0 is empty");
    fake_next(&f, 0, MSG_HELLO);
    fake_send(&f, 0, &m, MSG_ERROR, sizeof m);
    fake_poll(&f);
    struct lethe_status st;
    lethe_status(f.client, &st);
    CHECK(strstr(st.trouble, "LOST: shard 0 is empty"), "%s", st.trouble);
    assert_int_not_equal(st.unreachable_since_us, 0);
    fake_up(&f, 0, 0, 0);
    fake_poll(&f);
    assert_true(lethe_ready(f.client));
    fake_close(&f);
}

static void test_delays_between_dials_grow(void **state)
{
    fake_open(&f, 1, 0);
    f.refuse = true;
    fake_pass_ms(&f, 100);
    uint32_t early = f.dials;
    CHECK(early >= 5 && early <= 8, "%u dials in the first 100 ms", early);
    fake_pass_ms(&f, 10000);
    CHECK(f.dials - early >= 9 && f.dials - early <= 16, "%u dials in 10 s", f.dials - early);
    struct lethe_status st;
    lethe_status(f.client, &st);
    CHECK(strstr(st.trouble, "nobody is there"), "%s", st.trouble);
    assert_int_not_equal(st.unreachable_since_us, 0);
    fake_close(&f);
}

/* --- batches and results ---------------------------------------------------------- */

static void test_a_batch_carries_the_stores_table_number(void **state)
{
    struct fake_call call = {0};
    open_ready(0);
    submit_now(&call);
    const struct msg_batch *m = expect_batch(id0, 0, 1, 1);
    const struct txn_op *op = txn_first((const struct txn_head *)(m + 1));
    assert_int_equal(op->table, STORE_TABLE);
    fake_result(&f, 0, id0, 1, TXN_OK);
    assert_int_equal(fake_poll(&f), 1);
    assert_int_equal(call.calls, 1);
    assert_int_equal(call.status, TXN_OK);
    fake_close(&f);
}

static void test_bytes_are_sent_as_if_built_here(void **state)
{
    struct fake_call call = {0};
    struct txn_builder b;
    uint64_t buf[64], key = 9;
    struct txn_op op = {.code = TXN_GET, .table = 0, .key_len = 8};
    open_ready(1);
    txn_begin(&b, buf, sizeof buf, 7);
    assert_int_equal(txn_add_op(&b, &op, &key, NULL, NULL), 0);
    uint32_t bytes = txn_end(&b);
    assert_int_equal(lethe_submit_bytes(f.client, buf, bytes, fake_done, &call), 0);
    assert_int_equal(lethe_submit_bytes(f.client, buf, bytes, fake_done, &call), -EAGAIN);
    lethe_flush(f.client);
    const struct msg_batch *m = expect_batch(id0, 0, 1, 1);
    assert_int_equal(txn_first((const struct txn_head *)(m + 1))->table, STORE_TABLE);
    fake_result(&f, 0, id0, 1, TXN_CONFLICT);
    fake_poll(&f);
    assert_int_equal(call.status, TXN_CONFLICT);
    fake_close(&f);
}

static void test_a_child_names_the_stores_parent_table(void **state)
{
    struct table_schema a = fake_schema("parents"), b = fake_schema("children");
    uint64_t key = 1, value[2] = {0};
    fake_open(&f, 1, 0);
    int parents = lethe_table_open(f.client, &a), children = lethe_table_open(f.client, &b);
    fake_up(&f, 0, 2, 10);
    fake_poll(&f);
    struct lethe_txn *t = lethe_txn_begin(f.client, 7, NULL, NULL);
    assert_int_equal(lethe_txn_insert_child(t, children, &key, value, 0, parents, &key), 0);
    lethe_txn_submit(t);
    lethe_flush(f.client);
    const struct msg_batch *m = fake_next(&f, 0, MSG_BATCH);
    const struct txn_op *op = txn_first((const struct txn_head *)(m + 1));
    assert_int_equal(op->table, 11);
    assert_int_equal(op->parent_table, 10);
    fake_close(&f);
}

static void test_each_shard_has_its_own_batch_and_sequence(void **state)
{
    fake_open(&f, 2, 0);
    struct table_schema schema = fake_schema("flows");
    lethe_table_open(f.client, &schema);
    fake_up(&f, 0, 1, 0);
    fake_up(&f, 1, 1, 0);
    fake_poll(&f);
    uint64_t key = 0;
    for (int slot = 0; slot < 256; slot += 64) {
        struct lethe_txn *t = lethe_txn_begin(f.client, (uint8_t)slot, NULL, NULL);
        lethe_txn_get(t, 0, &key, 0);
        lethe_txn_submit(t);
    }
    lethe_flush(f.client);
    for (uint16_t shard = 0; shard < 2; shard++) {
        const struct msg_batch *m = fake_next(&f, shard, MSG_BATCH);
        const struct txn_head *t = (const struct txn_head *)(m + 1);
        assert_int_equal(m->ntxn, 2);
        assert_int_equal(t->slot / 128, shard);
        assert_int_equal(t->seq, 1);
    }
    fake_close(&f);
}

static void test_the_watermark_waits_for_the_oldest(void **state)
{
    struct fake_call calls[4] = {0};
    open_ready(0);
    for (int i = 0; i < 4; i++)
        submit(&calls[i]);
    lethe_flush(f.client);
    expect_batch(id0, 0, 1, 4);
    fake_result(&f, 0, id0, 3, TXN_OK);
    fake_result(&f, 0, id0, 2, TXN_OK);
    fake_poll(&f);
    assert_int_equal(calls_of(calls, 4), 2);
    submit_now(&calls[0]);
    expect_batch(id0, 0, 5, 1); /* 1 is not answered */
    fake_result(&f, 0, id0, 1, TXN_OK);
    fake_poll(&f);
    submit_now(&calls[0]);
    expect_batch(id0, 3, 6, 1);
    fake_close(&f);
}

static void test_many_txns_take_several_frames(void **state)
{
    struct fake_call call = {0};
    open_ready(0);
    for (int i = 0; i < MSG_BATCH_MAX + 10; i++)
        submit(&call);
    lethe_flush(f.client);
    expect_batch(id0, 0, 1, MSG_BATCH_MAX);
    expect_batch(id0, 0, MSG_BATCH_MAX + 1, 10);
    fake_close(&f);
}

static void test_answers_to_nobody_are_ignored(void **state)
{
    struct fake_call call = {0};
    open_ready(0);
    submit_now(&call);
    expect_batch(id0, 0, 1, 1);
    fake_result(&f, 0, id0, 2, TXN_OK);       /* never sent */
    fake_result(&f, 0, id0 + 1, 1, TXN_OK);   /* somebody else's */
    fake_result(&f, 0, id0 + 1, 1, TXN_STALE_CLIENT);
    fake_poll(&f);
    assert_int_equal(call.calls, 0);
    fake_result(&f, 0, id0, 1, TXN_OK);
    fake_result(&f, 0, id0, 1, TXN_OK);       /* twice */
    fake_poll(&f);
    assert_int_equal(call.calls, 1);
    assert_true(lethe_ready(f.client));
    fake_close(&f);
}

/* --- retries -------------------------------------------------------------------------- */

static void test_a_retry_keeps_its_sequence(void **state)
{
    struct fake_call call = {0};
    open_ready(0);
    submit_now(&call);
    expect_batch(id0, 0, 1, 1);
    fake_pass_ms(&f, RETRY_MS - 10);
    assert_null(fake_here(&f, 0)); /* not before its time */
    fake_pass_ms(&f, 20);
    expect_batch(id0, 0, 1, 1);
    fake_result(&f, 0, id0, 1, TXN_OK);
    fake_result(&f, 0, id0, 1, TXN_OK);
    fake_poll(&f);
    assert_int_equal(call.calls, 1);
    struct lethe_status st;
    lethe_status(f.client, &st);
    assert_int_equal(st.retries, 1);
    assert_int_equal(st.in_flight, 0);
    fake_close(&f);
}

static void test_a_reconnection_sends_again_under_the_same_id(void **state)
{
    struct fake_call calls[3] = {0};
    open_ready(0);
    for (int i = 0; i < 3; i++)
        submit(&calls[i]);
    lethe_flush(f.client);
    expect_batch(id0, 0, 1, 3);
    fake_result(&f, 0, id0, 2, TXN_OK);
    fake_poll(&f);
    channel_close(f.end[0]);
    f.end[0] = NULL;
    fake_welcome(&f, 0);                 /* no CLIENT_OPEN: the id is kept */
    fake_table(&f, 0, STORE_TABLE + 1, "");
    const struct msg_batch *m = fake_next(&f, 0, MSG_BATCH);
    const struct txn_head *t = (const struct txn_head *)(m + 1);
    assert_int_equal(m->client, id0);
    assert_int_equal(m->ntxn, 2);        /* the answered one stays answered */
    assert_int_equal(t->seq, 1);
    assert_int_equal(txn_first(t)->table, STORE_TABLE + 1); /* this connection's number */
    fake_result(&f, 0, id0, 3, TXN_OK);
    fake_result(&f, 0, id0, 1, TXN_OK);
    fake_poll(&f);
    for (int i = 0; i < 3; i++)
        assert_int_equal(calls[i].calls, 1);
    fake_close(&f);
}

static void test_a_store_that_says_nothing_is_dialled_again(void **state)
{
    struct fake_call call = {0};
    open_ready(0);
    fake_pass_ms(&f, 2500);              /* silent, but nothing is owed */
    assert_int_equal(f.dials, 1);
    submit_now(&call);
    fake_pass_ms(&f, 1900);
    assert_int_equal(f.dials, 1);
    fake_pass_ms(&f, 200);
    assert_int_equal(f.dials, 2);
    fake_close(&f);
}

static void test_a_pause_of_the_caller_is_no_silence_of_the_store(void **state)
{
    struct fake_call call = {0};
    open_ready(0);
    submit_now(&call);
    expect_batch(id0, 0, 1, 1);
    fake_result(&f, 0, id0, 1, TXN_OK);  /* there, while the caller sleeps */
    f.now_us += 60 * 1000 * 1000;
    fake_poll(&f);
    assert_int_equal(call.calls, 1);
    assert_int_equal(f.dials, 1);
    fake_close(&f);
}

static void test_busy_is_retried_by_the_client(void **state)
{
    struct fake_call call = {0};
    struct lethe_status st;
    open_ready(0);
    submit_now(&call);
    expect_batch(id0, 0, 1, 1);
    fake_result(&f, 0, id0, 1, TXN_BUSY);
    fake_poll(&f);
    assert_int_equal(call.calls, 0);
    lethe_status(f.client, &st);
    CHECK(strstr(st.trouble, "too many operations"), "%s", st.trouble);
    assert_null(fake_here(&f, 0));       /* after a delay, not at once */
    fake_pass_ms(&f, 25);
    expect_batch(id0, 0, 1, 1);
    fake_result(&f, 0, id0, 1, TXN_OK);
    fake_poll(&f);
    assert_int_equal(call.calls, 1);
    lethe_status(f.client, &st);
    assert_string_equal(st.trouble, "");
    fake_close(&f);
}

static void test_an_idle_lease_is_renewed_by_an_empty_batch(void **state)
{
    open_ready(0);
    fake_pass_ms(&f, FAKE_LEASE_MS / 3 - 100);
    assert_null(fake_here(&f, 0));
    fake_pass_ms(&f, 150);
    expect_batch(id0, 0, 0, 0);
    assert_null(fake_here(&f, 0));
    fake_close(&f);
}

/* --- a lost lease ------------------------------------------------------------------------ */

static void test_stale_client_ends_what_was_sent_and_keeps_the_rest(void **state)
{
    struct fake_call sent[3] = {0}, queued = {0};
    open_ready(0);
    for (int i = 0; i < 3; i++)
        submit(&sent[i]);
    lethe_flush(f.client);
    submit(&queued);                     /* not flushed: never sent under the old id */
    expect_batch(id0, 0, 1, 3);
    fake_result(&f, 0, id0, 2, TXN_STALE_CLIENT);
    fake_poll(&f);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sent[i].calls, 1);
        assert_int_equal(sent[i].status, TXN_STALE_CLIENT);
        assert_int_equal(sent[i].seq, i + 1);
    }
    assert_int_equal(queued.calls, 0);
    assert_false(lethe_ready(f.client));
    uint64_t id1 = fake_lease(&f, 0);
    fake_table(&f, 0, STORE_TABLE, "");
    expect_batch(id1, 0, 1, 1);          /* a new id counts from 1 */
    fake_result(&f, 0, id0, 1, TXN_OK);  /* of the old id: nobody's */
    fake_poll(&f);
    assert_int_equal(queued.calls, 0);
    fake_result(&f, 0, id1, 1, TXN_OK);
    fake_poll(&f);
    assert_int_equal(queued.calls, 1);
    assert_int_equal(queued.status, TXN_OK);
    fake_close(&f);
}

static void again(void *user, const struct txn_result_head *r)
{
    submit_now(user);                    /* a callback may begin the next one */
}

static void test_a_callback_may_submit_in_a_full_window(void **state)
{
    struct fake_call second = {0};
    uint64_t key = 1;
    open_ready(1);
    struct lethe_txn *t = lethe_txn_begin(f.client, 7, again, &second);
    lethe_txn_get(t, 0, &key, 0);
    lethe_txn_submit(t);
    lethe_flush(f.client);
    expect_batch(id0, 0, 1, 1);
    fake_result(&f, 0, id0, 1, TXN_OK);
    fake_poll(&f);
    expect_batch(id0, 1, 2, 1);
    fake_result(&f, 0, id0, 2, TXN_OK);
    fake_poll(&f);
    assert_int_equal(second.calls, 1);
    fake_close(&f);
}

/* --- bounds ---------------------------------------------------------------------------------- */

static void test_the_window_is_the_bound(void **state)
{
    struct fake_call calls[8] = {0};
    open_ready(8);
    for (int i = 0; i < 8; i++)
        submit(&calls[i]);
    assert_null(lethe_txn_begin(f.client, 7, fake_done, &calls[0]));
    lethe_flush(f.client);
    expect_batch(id0, 0, 1, 8);
    fake_result(&f, 0, id0, 5, TXN_OK);
    fake_poll(&f);
    submit(&calls[4]);
    assert_null(lethe_txn_begin(f.client, 7, fake_done, &calls[0]));
    fake_close(&f);
}

static void test_a_cancelled_txn_leaves_no_trace(void **state)
{
    struct fake_call call = {0};
    open_ready(1);
    struct lethe_txn *t = lethe_txn_begin(f.client, 7, fake_done, &call);
    lethe_txn_cancel(t);
    submit_now(&call);
    expect_batch(id0, 0, 1, 1);
    fake_close(&f);
}

static void test_a_stuck_txn_stops_the_sequence_before_the_protocols_window(void **state)
{
    struct fake_call call = {0};
    uint64_t highest = 0;
    open_ready(2);
    submit_now(&call);                   /* 1 is never answered */
    for (int i = 0; i < 3 * MSG_CLIENT_WINDOW; i++) {
        struct lethe_txn *t = lethe_txn_begin(f.client, 7, fake_done, &call);
        uint64_t key = 1;
        if (t) {
            lethe_txn_get(t, 0, &key, 0);
            lethe_txn_submit(t);
        }
        lethe_flush(f.client);
        lethe_poll(f.client, f.now_us);
        const struct msg_batch *m;
        while ((m = fake_here(&f, 0))) {
            uint64_t seq = ((const struct txn_head *)(m + 1))->seq;
            highest = seq > highest ? seq : highest;
            if (seq != 1)
                fake_result(&f, 0, id0, seq, TXN_OK);
        }
    }
    CHECK(highest > MSG_CLIENT_WINDOW / 2 && highest <= MSG_CLIENT_WINDOW, "%lu", highest);
    fake_pass_ms(&f, RETRY_MS + 10);     /* 1 again, though another waits to leave */
    expect_batch(id0, 0, 1, 1);
    fake_result(&f, 0, id0, 1, TXN_OK);
    fake_poll(&f);
    lethe_flush(f.client);
    expect_batch(id0, highest, highest + 1, 1);
    fake_close(&f);
}

static void test_a_full_channel_keeps_the_batch(void **state)
{
    static struct fake_call calls[LETHE_WINDOW_DEFAULT];
    uint8_t value[256] = {0};
    uint64_t key = 1, next = 1;
    struct table_schema schema = fake_schema("big");
    schema.value_size = 256;
    memset(calls, 0, sizeof calls);
    fake_open(&f, 1, 0);
    lethe_table_open(f.client, &schema);
    id0 = fake_up(&f, 0, 1, 0);
    fake_poll(&f);
    for (int i = 0; i < LETHE_WINDOW_DEFAULT; i++) {
        struct lethe_txn *t = lethe_txn_begin(f.client, 7, fake_done, &calls[i]);
        assert_non_null(t);
        for (int op = 0; op < 3; op++)
            lethe_txn_insert(t, 0, &key, value, 0);
        lethe_txn_submit(t);
    }
    lethe_flush(f.client);               /* twice the ring: most must wait */
    for (int turn = 0; next <= LETHE_WINDOW_DEFAULT && turn < 100; turn++) {
        const struct msg_batch *m;
        while ((m = fake_here(&f, 0))) {
            const struct txn_head *t = (const struct txn_head *)(m + 1);
            for (uint32_t i = 0; i < m->ntxn; i++) {
                CHECK(t->seq == next, "sequence %lu, expected %lu", t->seq, next);
                next++;
                t = (const struct txn_head *)((const uint8_t *)t + t->bytes);
            }
        }
        fake_poll(&f);
    }
    assert_int_equal(next, LETHE_WINDOW_DEFAULT + 1);
    fake_close(&f);
}

/* --- a store gone mad ---------------------------------------------------------------------------- */

static void expect_redial(const char *why)
{
    struct lethe_status st;
    fake_poll(&f);
    lethe_status(f.client, &st);
    CHECK(strstr(st.trouble, why), "\"%s\" is not in \"%s\"", why, st.trouble);
    fake_welcome(&f, 0);
}

static void test_a_message_no_store_sends_closes(void **state)
{
    struct msg_batch m = {.client = 1};
    open_ready(0);
    fake_send(&f, 0, &m, MSG_BATCH, sizeof m);
    expect_redial("no store sends");
    fake_close(&f);
}

static void test_a_result_cut_short_closes(void **state)
{
    struct fake_call call = {0};
    open_ready(0);
    submit_now(&call);
    expect_batch(id0, 0, 1, 1);
    struct msg_results m = {.client = id0, .nres = 3};
    fake_send(&f, 0, &m, MSG_RESULTS, sizeof m);
    expect_redial("shard 0");
    assert_int_equal(call.calls, 0);
    fake_close(&f);
}

/* --- configuration, sleeping ------------------------------------------------------------------------ */

static void test_wrong_configurations_are_refused_with_a_sentence(void **state)
{
    const struct { struct lethe_config config; const char *says; } rows[] = {
        {{.shards = 0, .address = "a:1"}, "shards"},
        {{.shards = 17, .address = "a:1"}, "shards"},
        {{.shards = 1, .window = MSG_CLIENT_WINDOW + 1, .address = "a:1"}, "window"},
        {{.shards = 1}, "host:port"},
        {{.shards = 1, .address = "localhost"}, "localhost"},
        {{.shards = 4, .address = "a:65534"}, "65535"},
        {{.shards = 1, .address = "a:0"}, "65535"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char err[300] = "";
        assert_null(lethe_client_create(&rows[i].config, err, sizeof err));
        CHECK(strstr(err, rows[i].says), "row %zu: \"%s\"", i, err);
    }
}

static void test_the_same_table_opened_twice_is_one(void **state)
{
    struct table_schema a = fake_schema("flows"), b = a;
    fake_open(&f, 1, 0);
    assert_int_equal(lethe_table_open(f.client, &a), 0);
    assert_int_equal(lethe_table_open(f.client, &b), 0);
    b.value_size = 24;
    assert_int_equal(lethe_table_open(f.client, &b), -EEXIST);
    b.kind = 99;
    assert_int_equal(lethe_table_open(f.client, &b), -EINVAL);
    fake_close(&f);
}

static void test_a_sleeper_knows_when_to_wake(void **state)
{
    struct fake_call call = {0};
    open_ready(0);
    assert_true(lethe_fd(f.client) >= 0);
    fake_poll(&f);
    assert_true(lethe_arm(f.client));
    submit_now(&call);
    expect_batch(id0, 0, 1, 1);
    assert_int_equal(lethe_next_us(f.client), f.now_us + RETRY_MS * 1000); /* the retry */
    assert_true(lethe_arm(f.client));
    fake_result(&f, 0, id0, 1, TXN_OK);
    assert_false(lethe_arm(f.client));
    fake_poll(&f);
    assert_true(lethe_next_us(f.client) > f.now_us + RETRY_MS * 1000);     /* the lease */
    assert_true(lethe_next_us(f.client) <= f.now_us + FAKE_LEASE_MS * 1000 / 3);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshake_goes_step_by_step),
        cmocka_unit_test(test_lost_replies_of_the_handshake_are_asked_again),
        cmocka_unit_test(test_another_schema_is_fatal_and_names_both),
        cmocka_unit_test(test_another_number_of_shards_is_fatal),
        cmocka_unit_test(test_a_store_that_leases_nothing_is_asked_again),
        cmocka_unit_test(test_an_error_is_shown_and_dialled_again),
        cmocka_unit_test(test_delays_between_dials_grow),
        cmocka_unit_test(test_a_batch_carries_the_stores_table_number),
        cmocka_unit_test(test_bytes_are_sent_as_if_built_here),
        cmocka_unit_test(test_a_child_names_the_stores_parent_table),
        cmocka_unit_test(test_each_shard_has_its_own_batch_and_sequence),
        cmocka_unit_test(test_the_watermark_waits_for_the_oldest),
        cmocka_unit_test(test_many_txns_take_several_frames),
        cmocka_unit_test(test_answers_to_nobody_are_ignored),
        cmocka_unit_test(test_a_retry_keeps_its_sequence),
        cmocka_unit_test(test_a_reconnection_sends_again_under_the_same_id),
        cmocka_unit_test(test_a_store_that_says_nothing_is_dialled_again),
        cmocka_unit_test(test_a_pause_of_the_caller_is_no_silence_of_the_store),
        cmocka_unit_test(test_busy_is_retried_by_the_client),
        cmocka_unit_test(test_an_idle_lease_is_renewed_by_an_empty_batch),
        cmocka_unit_test(test_stale_client_ends_what_was_sent_and_keeps_the_rest),
        cmocka_unit_test(test_a_callback_may_submit_in_a_full_window),
        cmocka_unit_test(test_the_window_is_the_bound),
        cmocka_unit_test(test_a_cancelled_txn_leaves_no_trace),
        cmocka_unit_test(test_a_stuck_txn_stops_the_sequence_before_the_protocols_window),
        cmocka_unit_test(test_a_full_channel_keeps_the_batch),
        cmocka_unit_test(test_a_message_no_store_sends_closes),
        cmocka_unit_test(test_a_result_cut_short_closes),
        cmocka_unit_test(test_wrong_configurations_are_refused_with_a_sentence),
        cmocka_unit_test(test_the_same_table_opened_twice_is_one),
        cmocka_unit_test(test_a_sleeper_knows_when_to_wake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
