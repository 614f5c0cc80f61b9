/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One-sided gets against a scripted store whose memory is this program's: a channel that
 * reads it when the test says so. Receive / expect, as in client_test.c.
 */
#include "client/fake_store.h"

#include "client/remember.h"

enum { FLOWS, PLAIN, TIMED, TABLES, LEASE_MS = 1000, T_MS = 400, SHARD_MS = 70000, SLOT = 7 };

static struct fake f;
static uint64_t id, key = 11;
static _Alignas(64) uint8_t memory[RECORD_LINES_MAX * LINE_BYTES];
static struct record *const record = (struct record *)memory;
static struct record_shape shape;
static uint32_t stamp; /* of the last BATCH */

/* --- a channel that reads ----------------------------------------------------------------- */

static struct reads {
    struct channel c;
    struct channel_ops ops;
    struct channel *inner;
    struct channel_read asked[CHANNEL_READS];
    int nasked, over, room;
    _Alignas(64) uint8_t copy[CHANNEL_READ_BYTES];
} *channel;

static struct reads *reads_of(struct channel *c) { return (struct reads *)c; }

static int pass_send(struct channel *c, const void *frame, uint32_t bytes)
{
    return channel_send(reads_of(c)->inner, frame, bytes);
}
static void pass_flush(struct channel *c) { channel_flush(reads_of(c)->inner); }
static const void *pass_recv(struct channel *c, uint32_t *bytes)
{
    const void *frame = channel_recv(reads_of(c)->inner, bytes);
    c->open = reads_of(c)->inner->open;
    return frame;
}
static int pass_fd(struct channel *c, short *events) { return channel_fd(reads_of(c)->inner, events); }
static bool pass_arm(struct channel *c) { return channel_arm(reads_of(c)->inner); }
static void pass_close(struct channel *c)
{
    channel_close(reads_of(c)->inner);
    if (channel == reads_of(c))
        channel = NULL;
    free(c);
}
static int pass_read(struct channel *c, const struct channel_read *r)
{
    struct reads *x = reads_of(c);
    if (!c->open)
        return -ENOTCONN;
    if (x->nasked == x->room)
        return -EAGAIN;
    assert_true(r->bytes <= CHANNEL_READ_BYTES && r->bytes % LINE_BYTES == 0);
    x->asked[x->nasked++] = *r;
    return 0;
}
static const void *pass_read_done(struct channel *c, uint64_t *token)
{
    struct reads *x = reads_of(c);
    if (!x->over)
        return NULL;
    *token = x->asked[0].token;
    assert_int_equal(x->asked[0].rkey, 77);
    memcpy(x->copy, (const void *)(uintptr_t)x->asked[0].address, x->asked[0].bytes);
    memmove(x->asked, x->asked + 1, (size_t)--x->nasked * sizeof x->asked[0]);
    x->over--;
    return x->copy;
}

static struct channel *dial(void *ctx, uint16_t shard, char *err, uint32_t err_len)
{
    struct channel *inner = fake_dial(ctx, shard, err, err_len);
    if (!inner)
        return NULL;
    channel = aligned_alloc(64, (sizeof *channel + 63) & ~63ul);
    memset(channel, 0, sizeof *channel);
    channel->ops = (struct channel_ops){"reads", pass_send, pass_flush, pass_recv, pass_fd, pass_arm,
                                        pass_close, pass_read, pass_read_done, NULL};
    channel->c = (struct channel){.ops = &channel->ops, .open = true};
    channel->inner = inner;
    channel->room = CHANNEL_READS;
    return &channel->c;
}

static uint64_t clock_us(void *ctx)
{
    return ((struct fake *)ctx)->now_us;
}

/* --- the store's part ------------------------------------------------------------------------ */

static void say_welcome(void)
{
    struct msg_welcome m = {.proto = MSG_PROTO_MAX, .primary = 1, .shards = 1,
                            .lease_ms = 60000, .capabilities = CAP_ONE_SIDED};
    const struct msg_hello *hello = fake_next(&f, 0, MSG_HELLO);
    assert_int_equal(hello->capabilities, CAP_ONE_SIDED);
    fake_send(&f, 0, &m, MSG_WELCOME, sizeof m);
}

static void start(void)
{
    char err[200];
    struct lethe_config config = {.shards = 1, .dial = dial, .dial_ctx = &f, .clock_us = clock_us,
                                  .clock_ctx = &f, .retry_ms = 100000};
    struct table_schema s = fake_schema("flows"), plain = fake_schema("plain"),
                        timed = fake_schema("timed");
    s.flags = timed.flags = TABLE_ONE_SIDED;
    s.value_size = plain.value_size = timed.value_size = 100;
    timed.timeout_ms = T_MS;
    memset(&f, 0, sizeof f);
    f.shards = 1;
    f.now_us = 1000 * 1000;
    f.next_id = 100;
    f.client = lethe_client_create(&config, err, sizeof err);
    CHECK(f.client, "%s", err);
    assert_int_equal(lethe_table_open(f.client, &s), FLOWS);
    assert_int_equal(lethe_table_open(f.client, &plain), PLAIN);
    assert_int_equal(lethe_table_open(f.client, &timed), TIMED);
    say_welcome();
    id = fake_lease(&f, 0);
    for (int i = 0; i < TABLES; i++)
        fake_table(&f, 0, i, "");
    fake_poll(&f);
    assert_true(lethe_ready(f.client));
    memset(memory, 0, sizeof memory);
    shape = record_shape_of(8, 100);
    record->incarnation = 3;
}

static void put(uint64_t version, uint8_t first, enum record_state state)
{
    uint8_t value[100] = {first};
    record_write(&shape, record, version, &key, value);
    record->state = state;
}

/* Expects a BATCH of `n` txns; returns the first one's sequence. */
static uint64_t expect_batch(uint32_t n)
{
    const struct msg_batch *m;
    do { /* one of nothing asks for a lease */
        m = fake_next(&f, 0, MSG_BATCH);
        if (m->stamp)
            stamp = m->stamp;
    } while (!m->ntxn && n);
    assert_int_equal(m->ntxn, n);
    return ((const struct txn_head *)(m + 1))->seq;
}

static void expect_nothing(void)
{
    const struct msg_head *m = fake_here(&f, 0);
    CHECK(!m, "the client sent message type %u", m->type);
}

/* As fake_send, which speaks for view 1. */
static void send_in_view(uint64_t epoch, void *m, enum msg_type type, uint32_t bytes)
{
    msg_head_set(m, type, bytes, 0, epoch);
    assert_int_equal(channel_send(f.end[0], m, bytes), 0);
    channel_flush(f.end[0]);
}

static void send_places(uint64_t seq, uint64_t epoch, uint32_t left_ms)
{
    struct { struct msg_places m; struct msg_place p; } x = {
        .m = {.client = id, .shard_time_ms = SHARD_MS, .stamp = stamp, .left_ms = left_ms,
              .nplaces = 1},
        .p = {.seq = seq, .address = (uintptr_t)memory, .rkey = 77, .incarnation = 3,
              .lines = shape.lines}};
    send_in_view(epoch, &x, MSG_PLACES, sizeof x);
}

static struct got { int calls; uint8_t status, res, first; uint64_t version; uint32_t len; } got;
static void on_got(void *user, const struct txn_result_head *h)
{
    struct got *g = user;
    const struct txn_result *r = txn_result_first(h);
    assert_null(txn_result_validate(h, h->bytes));
    g->calls++;
    g->status = h->status;
    g->res = h->nres ? r->res : 0;
    g->version = h->nres ? r->version : 0;
    g->len = h->nres ? r->value_len : 0;
    g->first = g->len ? *txn_result_value(r) : 0;
}

static void get(int table, uint8_t flags)
{
    struct lethe_txn *t = lethe_txn_begin(f.client, SLOT, on_got, &got);
    got = (struct got){0};
    lethe_txn_get(t, table, &key, flags);
    lethe_txn_submit(t);
    lethe_flush(f.client);
}

/* A first get, by request, from which the client learns the place and is granted a lease. */
static void learn(int table)
{
    get(table, 0);
    uint64_t seq = expect_batch(1);
    send_places(seq, 1, LEASE_MS);
    fake_result(&f, 0, id, seq, TXN_OK);
    fake_poll(&f);
    assert_int_equal(got.calls, 1);
}

/* A client that may read the key's record, which is the store's, by itself. */
static void start_with_learnt(int table)
{
    start();
    put(9, 42, RECORD_COMMITTED);
    learn(table);
}

static uint64_t outcome(enum read_outcome o)
{
    struct lethe_status st;
    lethe_status(f.client, &st);
    return st.one_sided[o];
}

/* The reads under way are over, now. */
static void read_all(void)
{
    channel->over = channel->nasked;
    fake_poll(&f);
}

static void expect_hit(int table, uint8_t flags)
{
    get(table, flags);
    read_all();
    assert_int_equal(got.res, RES_HIT);
}

/* A get that goes by request. */
static void answer_batch(void)
{
    uint64_t seq = expect_batch(1);
    fake_result(&f, 0, id, seq, TXN_OK);
    fake_poll(&f);
    assert_int_equal(got.calls, 1);
}

/* What is asked for is asked once, and answered once. */
static void expect_asked(enum read_outcome why)
{
    CHECK(outcome(why) == 1, "no outcome '%s'", read_outcome_word(why));
    assert_int_equal(got.calls, 0);
    answer_batch();
    assert_int_equal(outcome(READ_HIT), 0);
}

/* --- tests ---------------------------------------------------------------------------------- */

static void test_what_was_learnt_is_read(void **state)
{
    start_with_learnt(FLOWS);
    for (int i = 1; i <= 3; i++) {
        get(FLOWS, i == 2 ? TXN_TOUCH : 0);
        assert_int_equal(channel->nasked, 1);
        assert_int_equal(got.calls, 0);
        read_all();
        assert_int_equal(got.calls, 1);
        assert_int_equal(got.status, TXN_OK);
        assert_int_equal(got.res, RES_HIT);
        assert_int_equal(got.version, 9);
        assert_int_equal(got.len, 100);
        assert_int_equal(got.first, 42);
        assert_int_equal(outcome(READ_HIT), i);
    }
    expect_nothing();
    assert_int_equal(outcome(READ_NO_LEASE), 1); /* the first of all */
    fake_close(&f);
}

static void test_what_may_not_be_believed_is_asked_for(void **state)
{
    static const struct { enum record_state state; uint16_t incarnation; bool torn; enum read_outcome why; } rows[] = {
        {RECORD_PENDING, 3, false, READ_PENDING}, {RECORD_FREE, 3, false, READ_GONE},
        {RECORD_COMMITTED, 4, false, READ_GONE}, {RECORD_COMMITTED, 3, true, READ_TORN}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        start_with_learnt(FLOWS);
        get(FLOWS, 0);
        record->state = rows[i].state;
        record->incarnation = rows[i].incarnation;
        memory[LINE_BYTES] ^= rows[i].torn;
        read_all();
        expect_asked(rows[i].why);
        get(FLOWS, 0); /* what is gone is not tried again */
        assert_int_equal(channel->nasked, rows[i].why != READ_GONE);
        fake_close(&f);
    }
}

static void test_a_lease_is_looked_at_after_the_read(void **state)
{
    start_with_learnt(FLOWS);
    get(FLOWS, 0);
    f.now_us += LEASE_MS * 1000;
    channel->over = 1;
    fake_poll(&f);
    /* the first get of all had none either */
    assert_int_equal(outcome(READ_NO_LEASE), 2);
    assert_int_equal(got.calls, 0);
    expect_batch(1);
    fake_close(&f);
}

static void test_a_lease_is_asked_for_in_time(void **state)
{
    start_with_learnt(FLOWS);
    uint32_t first = stamp;
    f.now_us += LEASE_MS * 1000 / 4;
    get(FLOWS, 0);
    read_all();
    fake_poll(&f);
    expect_nothing(); /* long enough */
    f.now_us += LEASE_MS * 1000 / 4;
    fake_poll(&f);
    expect_hit(FLOWS, 0);
    expect_batch(0);
    assert_true(stamp > first);
    send_places(0, 1, LEASE_MS);
    fake_poll(&f);
    f.now_us += LEASE_MS * 1000 * 2 / 5; /* the first lease is over by now */
    fake_poll(&f);
    expect_hit(FLOWS, 0);
    fake_close(&f);
}

static void test_another_view_forgets(void **state)
{
    start_with_learnt(FLOWS);
    get(FLOWS, 0);
    struct msg_map m = {0};
    send_in_view(2, &m, MSG_MAP, sizeof m);
    fake_poll(&f);
    read_all(); /* under the old view's lease, which counts no more */
    assert_int_equal(got.calls, 0);
    assert_int_equal(outcome(READ_NO_LEASE), 2);
    uint64_t seq = expect_batch(1);
    send_places(seq, 1, LEASE_MS); /* late, of the old view */
    fake_result(&f, 0, id, seq, TXN_OK);
    fake_poll(&f);
    get(FLOWS, 0);
    assert_int_equal(channel->nasked, 0);
    fake_close(&f);
}

/* A lease of the new view is none for a read that was posted in the old one. */
static void test_a_lease_of_another_era_is_none(void **state)
{
    start_with_learnt(FLOWS);
    get(FLOWS, 0);
    struct msg_map m = {0};
    send_in_view(2, &m, MSG_MAP, sizeof m);
    send_places(0, 2, LEASE_MS);
    fake_poll(&f);
    read_all();
    assert_int_equal(got.calls, 0);
    assert_int_equal(outcome(READ_HIT), 0);
    assert_int_equal(outcome(READ_NO_LEASE), 2);
    expect_batch(1);
    fake_close(&f);
}

static void test_a_slot_that_moved_is_forgotten(void **state)
{
    start_with_learnt(FLOWS);
    struct msg_map m = {0};
    m.slots[SLOT] = (struct map_slot){.shard = 0, .known = 1, .epoch = 5};
    fake_send(&f, 0, &m, MSG_MAP, sizeof m);
    fake_poll(&f);
    get(FLOWS, 0);
    expect_asked(READ_UNKNOWN);
    fake_close(&f);
}

static void test_a_place_is_not_trusted_for_ever(void **state)
{
    start_with_learnt(FLOWS);
    f.now_us += PLACE_MS * 1000ull;
    fake_poll(&f);
    get(PLAIN, 0); /* a lease, but no word of the place */
    uint64_t seq = expect_batch(1);
    fake_result(&f, 0, id, seq, TXN_OK);
    get(FLOWS, 0);
    seq = expect_batch(1);
    struct msg_places m = {.client = id, .stamp = stamp, .left_ms = LEASE_MS};
    send_in_view(1, &m, MSG_PLACES, sizeof m);
    fake_result(&f, 0, id, seq, TXN_OK);
    fake_poll(&f);
    get(FLOWS, 0);
    expect_asked(READ_UNKNOWN);
    fake_close(&f);
}

static void test_a_connection_that_closes(void **state)
{
    start_with_learnt(FLOWS);
    get(FLOWS, 0);
    channel_close(f.end[0]);
    f.end[0] = NULL;
    fake_pass_ms(&f, 20);
    assert_int_equal(outcome(READ_CLOSED), 1);
    assert_int_equal(got.calls, 0);
    say_welcome();
    for (int i = 0; i < TABLES; i++)
        fake_table(&f, 0, i, "");
    answer_batch();
    get(FLOWS, 0); /* nothing of the old connection counts */
    assert_int_equal(channel->nasked, 0);
    fake_close(&f);
}

static void test_no_more_reads_than_there_may_be(void **state)
{
    start_with_learnt(FLOWS);
    channel->room = 1;
    get(FLOWS, 0);
    get(FLOWS, 0);
    assert_int_equal(outcome(READ_FULL), 1);
    expect_batch(1);
    read_all();
    assert_int_equal(outcome(READ_HIT), 1);
    fake_close(&f);
}

/* A get that touches goes by request once in a quarter of the time-out. */
static void test_touches(void **state)
{
    start_with_learnt(TIMED);
    record->timeout_ms = T_MS;
    record->deadline_ms = SHARD_MS + T_MS * 5 / 4;
    expect_hit(TIMED, TXN_TOUCH);
    record->deadline_ms = SHARD_MS + T_MS - 1;
    expect_hit(TIMED, 0);
    get(TIMED, TXN_TOUCH);
    read_all();
    assert_int_equal(got.calls, 0);
    assert_int_equal(outcome(READ_TOUCH_DUE), 1);
    expect_batch(1);
    record->deadline_ms = SHARD_MS;
    get(TIMED, 0);
    read_all();
    assert_int_equal(outcome(READ_EXPIRED), 1);
    fake_close(&f);
}

/* Only what a hit answers as a whole. */
static void test_which_txns_are_tried(void **state)
{
    uint8_t value[100] = {0};
    start_with_learnt(FLOWS);
    struct lethe_txn *t = lethe_txn_begin(f.client, SLOT, on_got, &got);
    int first = lethe_txn_get(t, FLOWS, &key, TXN_SKIP_IF_PRESENT);
    lethe_txn_insert(t, FLOWS, &key, value, 0);
    lethe_txn_skip_to_here(t, first);
    lethe_txn_submit(t); /* get-or-create */
    assert_int_equal(channel->nasked, 1);
    read_all();
    t = lethe_txn_begin(f.client, SLOT, on_got, &got);
    lethe_txn_get(t, FLOWS, &key, 0);
    lethe_txn_get(t, FLOWS, &key, 0);
    lethe_txn_submit(t);
    t = lethe_txn_begin(f.client, SLOT, on_got, &got);
    first = lethe_txn_get(t, FLOWS, &key, TXN_SKIP_IF_PRESENT);
    lethe_txn_insert(t, FLOWS, &key, value, 0);
    lethe_txn_skip_to_here(t, first);
    lethe_txn_get(t, FLOWS, &key, 0);
    lethe_txn_submit(t);
    t = lethe_txn_begin(f.client, SLOT, on_got, &got);
    lethe_txn_check(t, FLOWS, &key, 9);
    lethe_txn_submit(t);
    get(PLAIN, 0);
    assert_int_equal(channel->nasked, 0);
    expect_batch(4);
    assert_int_equal(outcome(READ_HIT), 1);
    fake_close(&f);
}

/* A lost client id calls back what was sent under it; a read was not. */
static void test_a_stale_client(void **state)
{
    start_with_learnt(FLOWS);
    get(FLOWS, 0);
    fake_result(&f, 0, id, 1, TXN_STALE_CLIENT);
    fake_poll(&f);
    assert_int_equal(got.calls, 0);
    read_all();
    assert_int_equal(got.calls, 1);
    assert_int_equal(got.status, TXN_OK);
    fake_close(&f);
}

static void test_tables_named_in_the_configuration(void **state)
{
    static const char *const names[] = {"flows", NULL};
    char err[200];
    struct lethe_config config = {.shards = 1, .dial = dial, .dial_ctx = &f, .one_sided = names};
    struct table_schema flows = fake_schema("flows"), plain = fake_schema("plain");
    memset(&f, 0, sizeof f);
    f.shards = 1;
    f.now_us = 1000;
    f.next_id = 100;
    f.client = lethe_client_create(&config, err, sizeof err);
    lethe_table_open(f.client, &flows);
    lethe_table_open(f.client, &plain);
    assert_int_equal(lethe_table_open(f.client, &flows), 0);
    say_welcome();
    fake_lease(&f, 0);
    const struct msg_table_open *m = fake_next(&f, 0, MSG_TABLE_OPEN);
    assert_int_equal(m->schema.flags, TABLE_ONE_SIDED);
    m = fake_next(&f, 0, MSG_TABLE_OPEN);
    assert_int_equal(m->schema.flags, 0);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_learnt_is_read),
        cmocka_unit_test(test_what_may_not_be_believed_is_asked_for),
        cmocka_unit_test(test_a_lease_is_looked_at_after_the_read),
        cmocka_unit_test(test_a_lease_is_asked_for_in_time),
        cmocka_unit_test(test_another_view_forgets),
        cmocka_unit_test(test_a_lease_of_another_era_is_none),
        cmocka_unit_test(test_a_slot_that_moved_is_forgotten),
        cmocka_unit_test(test_a_place_is_not_trusted_for_ever),
        cmocka_unit_test(test_a_connection_that_closes),
        cmocka_unit_test(test_no_more_reads_than_there_may_be),
        cmocka_unit_test(test_touches),
        cmocka_unit_test(test_which_txns_are_tried),
        cmocka_unit_test(test_a_stale_client),
        cmocka_unit_test(test_tables_named_in_the_configuration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
