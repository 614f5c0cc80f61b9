/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fencing. A backup leaves a deposed primary by closing the connection
 * (statestore/server/link.c, turn_to): its queue pair is gone and the ring that the
 * primary wrote into is registered no more. Shown here from inside the channel:
 *
 *   old   a ──▶ b     b closes while a knows nothing of it and goes on writing
 *   new   c ──▶ d     a connection of the next view, between the same two hosts
 *
 * Whatever a still posts fails, and the key of b's ring opens nothing any more, not
 * even to a queue pair that works. Before it closes, the backup takes over all that
 * landed (channel_fence): rows below. Runs where there is RDMA, on 10.8.0.1.
 */
#include "tests/check.h"

#include "common/wire/verbs/connect.c"
#include "common/wire/verbs/verbs.c"

enum { PATIENCE_MS = 60000, OFFSET = 64 };

static struct verbs *dial_by(struct channel *(*connect)(const char *, char *, uint32_t),
                             struct verbs_listener *l, struct verbs **accepted)
{
    char err[200], address[40];
    uint32_t bytes;
    struct channel *a, *b;
    snprintf(address, sizeof address, "10.8.0.1:%u", verbs_listener_port(l));
    a = connect(address, err, sizeof err);
    CHECK(a, "%s", err);
    while (!(b = verbs_accept(l)))
        channel_recv(a, &bytes);
    uint64_t until = clock_ms() + PATIENCE_MS;
    while (of(a)->state != UP || of(b)->state != UP) {
        channel_recv(a, &bytes);
        channel_recv(b, &bytes);
        CHECK(a->open && b->open && clock_ms() < until, "%s %s", a->why, b->why);
    }
    *accepted = of(b);
    return of(a);
}

static struct verbs *dial(struct verbs_listener *l, struct verbs **accepted)
{
    return dial_by(verbs_connect, l, accepted);
}

/* Posts a write of 8 bytes to `to` with `key`, past the channel. */
static void post_to(struct verbs *v, uint64_t word, uint64_t to, uint32_t key)
{
    uint32_t own = v->peer.rkey;
    v->peer.rkey = key;
    v->unsignalled = SIGNAL_EVERY - 1;
    assert_true(post(v, &word, to, sizeof word, false, 0));
    v->peer.rkey = own;
}

/* How the newest write completed. */
static enum ibv_wc_status outcome(struct verbs *v)
{
    struct ibv_wc wc;
    uint64_t until = clock_ms() + PATIENCE_MS;
    while (ibv_poll_cq(v->cq, 1, &wc) != 1 || wc.wr_id != v->sent) {
        CHECK(clock_ms() < until, "write %u never completed", v->sent);
        sched_yield();
    }
    return wc.status;
}

static void test_a_deposed_primarys_write_does_not_land(void **state)
{
    char err[200];
    struct verbs *b, *d;
    struct verbs_listener *l = verbs_listen("10.8.0.1:0", err, sizeof err);
    CHECK(l, "%s", err);
    struct verbs *a = dial(l, &b), *c = dial(l, &d);
    uint64_t ring = a->peer.ring + OFFSET;
    uint32_t key = a->peer.rkey;

    /* As long as b is there, the key opens its ring, also to the other queue pair. */
    post_to(a, 1, ring, key);
    assert_int_equal(outcome(a), IBV_WC_SUCCESS);
    post_to(c, 2, ring, key);
    assert_int_equal(outcome(c), IBV_WC_SUCCESS);
    assert_int_equal(*(volatile uint64_t *)(b->in + OFFSET), 2);

    channel_close(&b->c);
    /* a has looked at nothing since: its queue pair takes the write. */
    post_to(a, 3, ring, key);
    /* There is nothing any more that it could go to, not even by a queue pair that works. */
    post_to(c, 4, ring, key);
    assert_int_equal(outcome(c), IBV_WC_REM_ACCESS_ERR);
    /* Nobody ever acknowledges it: it is over when a hears of the end, or gives up. */
    rdma_disconnect(a->id);
    enum ibv_wc_status late = outcome(a);
    CHECK(late == IBV_WC_WR_FLUSH_ERR || late == IBV_WC_RETRY_EXC_ERR, "the late write: %s",
          ibv_wc_status_str(late));

    channel_close(&a->c);
    channel_close(&c->c);
    channel_close(&d->c);
    verbs_listener_close(l);
}

/* What the channel's owner sees of it: it closes, and takes nothing more. */
static void test_the_deposed_primarys_channel_closes(void **state)
{
    char err[200];
    struct verbs *b;
    uint32_t bytes;
    uint64_t until = clock_ms() + PATIENCE_MS, frame[2] = {0};
    struct verbs_listener *l = verbs_listen("10.8.0.1:0", err, sizeof err);
    CHECK(l, "%s", err);
    struct verbs *a = dial(l, &b);
    channel_close(&b->c);
    while (a->c.open) {
        channel_recv(&a->c, &bytes);
        CHECK(clock_ms() < until, "it does not notice");
    }
    assert_int_equal(channel_send(&a->c, frame, sizeof(struct msg_head)), -ENOTCONN);
    channel_close(&a->c);
    verbs_listener_close(l);
}

/* --- what landed is taken over ------------------------------------------------------------ */

static struct verbs_listener *listener;
static uint64_t sent_last;

static int begin(void **state)
{
    char err[200];
    listener = verbs_listen("10.8.0.1:0", err, sizeof err);
    CHECK(listener, "%s", err);
    sent_last = 0;
    return 0;
}

static int end(void **state)
{
    verbs_listener_close(listener);
    return 0;
}

static void send_one(struct verbs *a)
{
    struct msg_status m = {.nonce = sent_last + 1};
    msg_head_set(&m, MSG_STATUS, sizeof m, 0, 0);
    assert_int_equal(channel_send(&a->c, &m, sizeof m), 0);
    sent_last++;
}

/* The next one, which has to be the one after `last`. */
static bool got_one(struct verbs *b, uint64_t *last)
{
    uint32_t bytes;
    const struct msg_status *m = channel_recv(&b->c, &bytes);
    if (!m)
        return false;
    assert_int_equal(bytes, sizeof *m);
    assert_int_equal(m->nonce, *last + 1);
    ++*last;
    return true;
}

/* Writes what was sent up to `to`, and tells nobody: no immediate. */
static void write_untold(struct verbs *a, uint64_t to)
{
    while (a->posted < to) {
        uint64_t at = a->posted & (RING_BYTES - 1), n = to - a->posted;
        if (n > RING_BYTES - at)
            n = RING_BYTES - at;
        a->unsignalled = SIGNAL_EVERY - 1;
        assert_true(post(a, a->out + at, a->peer.ring + at, (uint32_t)n, false, 0));
        assert_int_equal(outcome(a), IBV_WC_SUCCESS);
        a->posted += n;
    }
}

/* Fences b's end and expects all up to `expected` to be lent, and nothing else. */
static void fence(struct verbs *b, uint64_t last, uint64_t expected)
{
    assert_int_equal(channel_fence(&b->c), 0);
    assert_true(b->c.open);
    while (got_one(b, &last))
        ;
    assert_int_equal(last, expected);
    assert_false(b->c.open);
    CHECK(strstr(b->c.why, "fenced"), "%s", b->c.why);
}

static void test_a_fence_finds_what_was_not_polled(void **state)
{
    struct verbs *b, *a = dial_by(verbs_connect_replica, listener, &b);
    assert_true(a->trailer && b->trailer);
    send_one(a);
    channel_flush(&a->c);
    uint64_t last = 0, until = clock_ms() + PATIENCE_MS;
    while (!got_one(b, &last))
        CHECK(clock_ms() < until, "nothing came");
    for (int i = 0; i < 3; i++) { /* three bursts, whose notices b does not look at */
        send_one(a);
        a->unsignalled = SIGNAL_EVERY - 1;
        channel_flush(&a->c);
        assert_int_equal(outcome(a), IBV_WC_SUCCESS);
    }
    fence(b, last, 4);
    channel_close(&a->c);
    channel_close(&b->c);
}

/* No completion at the receiver: only the trailers say what is there. Around the ring's end, and
 * over frames of the lap before, whose trailers are as good but for their positions. */
static void test_a_fence_finds_what_no_completion_told(void **state)
{
    struct verbs *b, *a = dial_by(verbs_connect_replica, listener, &b);
    uint64_t last = 0, until = clock_ms() + PATIENCE_MS;
    while (a->out_tail < 2 * RING_BYTES - 100) {
        for (int i = 0; i < 100 && a->out_tail < 2 * RING_BYTES - 100; i++)
            send_one(a);
        channel_flush(&a->c);
        while (last < sent_last) {
            got_one(b, &last);
            channel_recv(&a->c, &(uint32_t){0});
            CHECK(clock_ms() < until, "%lu of %lu", last, sent_last);
        }
    }
    for (int i = 0; i < 5; i++)
        send_one(a);
    assert_true(a->out_tail > 2 * RING_BYTES);
    write_untold(a, a->out_tail);
    fence(b, last, sent_last);
    channel_close(&a->c);
    channel_close(&b->c);
}

static void test_a_fence_stops_at_a_torn_frame(void **state)
{
    struct verbs *b, *a = dial_by(verbs_connect_replica, listener, &b);
    send_one(a);
    send_one(a);
    uint64_t whole = a->out_tail;
    send_one(a);
    write_untold(a, whole + 40); /* a part of it, without the trailer */
    uint64_t third = a->out_tail;
    send_one(a);
    a->posted = third;
    write_untold(a, a->out_tail); /* the one behind it is whole, and of no use */
    fence(b, 0, 2);
    channel_close(&a->c);
    channel_close(&b->c);
}

/* One that never told its peer of trailers: what completions told is all. */
static void test_without_trailers_completions_are_all(void **state)
{
    struct verbs *b, *a = dial(listener, &b);
    assert_true(!a->trailer && !b->trailer);
    send_one(a);
    a->unsignalled = SIGNAL_EVERY - 1;
    channel_flush(&a->c);
    assert_int_equal(outcome(a), IBV_WC_SUCCESS);
    send_one(a);
    write_untold(a, a->out_tail);
    fence(b, 0, 1);
    channel_close(&a->c);
    channel_close(&b->c);
}

/* The writer dies in the middle of it. The backup dials. */
static void test_what_a_dead_primary_wrote_is_lent(void **state)
{
    struct verbs *a, *b = dial_by(verbs_connect_replica, listener, &a);
    uint64_t last = 0, until = clock_ms() + PATIENCE_MS;
    for (int i = 0; i < 4; i++)
        send_one(a);
    write_untold(a, a->out_tail - 8); /* the last one is torn */
    rdma_disconnect(a->id);
    while (b->c.open) {
        got_one(b, &last);
        channel_arm(&b->c);
        CHECK(clock_ms() < until, "it does not notice");
    }
    assert_int_equal(last, 3);
    CHECK(strstr(b->c.why, "closed"), "%s", b->c.why);
    channel_close(&a->c);
    channel_close(&b->c);
}

static void test_after_a_fence_nothing_lands_and_the_writer_counts_it(void **state)
{
    static uint8_t before[RING_BYTES];
    struct verbs *b, *a = dial_by(verbs_connect_replica, listener, &b);
    uint32_t bytes;
    uint64_t until = clock_ms() + PATIENCE_MS;
    send_one(a);
    channel_flush(&a->c);
    fence(b, 0, 1);
    memcpy(before, b->in, RING_BYTES);
    for (int i = 0; i < 3; i++) { /* a has looked at nothing since */
        send_one(a);
        channel_flush(&a->c);
    }
    assert_int_equal(a->posted, a->out_tail);
    while (channel_recv(&a->c, &bytes), a->c.open) {
        channel_arm(&a->c);
        CHECK(clock_ms() < until, "it does not notice");
    }
    CHECK(channel_fence(&a->c) >= 3, "%u writes came to nothing", a->lost);
    assert_memory_equal(before, b->in, RING_BYTES);
    channel_close(&a->c);
    channel_close(&b->c);
}

static void send_nothing(struct verbs *a)
{
    struct ibv_send_wr wr = {.wr_id = ++a->sent, .opcode = IBV_WR_SEND,
                             .send_flags = IBV_SEND_SIGNALED}, *bad;
    assert_int_equal(ibv_post_send(a->id->qp, &wr, &bad), 0);
    assert_int_equal(outcome(a), IBV_WC_SUCCESS);
}

static void test_a_stranger_that_sends_is_closed_and_not_waited_for(void **state)
{
    for (int polled = 0; polled < 2; polled++) {
        struct verbs *b, *a = dial_by(verbs_connect_replica, listener, &b);
        uint64_t last = 0, until = clock_ms() + PATIENCE_MS;
        send_nothing(a);
        while (polled && b->c.open) {
            assert_false(got_one(b, &last));
            CHECK(clock_ms() < until, "it is not closed");
        }
        assert_false(b->fenced);
        channel_fence(&b->c);
        assert_true(b->recvs < RECVS); /* what it took is counted */
        CHECK(strstr(b->c.why, "no write"), "%s", b->c.why);
        channel_close(&a->c);
        channel_close(&b->c);
    }
}

static void test_who_was_dialled_does_not_fence_of_itself(void **state)
{
    struct verbs *b, *a = dial_by(verbs_connect_replica, listener, &b);
    uint64_t last = 0, until = clock_ms() + PATIENCE_MS;
    rdma_disconnect(a->id);
    while (b->c.open) {
        assert_false(got_one(b, &last));
        channel_arm(&b->c);
        CHECK(clock_ms() < until, "it does not notice");
    }
    assert_false(b->fenced);
    channel_close(&a->c);
    channel_close(&b->c);
}

#define WITH_LISTENER(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_LISTENER(test_a_fence_finds_what_was_not_polled),
        WITH_LISTENER(test_a_fence_finds_what_no_completion_told),
        WITH_LISTENER(test_a_fence_stops_at_a_torn_frame),
        WITH_LISTENER(test_without_trailers_completions_are_all),
        WITH_LISTENER(test_what_a_dead_primary_wrote_is_lent),
        WITH_LISTENER(test_after_a_fence_nothing_lands_and_the_writer_counts_it),
        WITH_LISTENER(test_a_stranger_that_sends_is_closed_and_not_waited_for),
        WITH_LISTENER(test_who_was_dialled_does_not_fence_of_itself),
        cmocka_unit_test(test_a_deposed_primarys_write_does_not_land),
        cmocka_unit_test(test_the_deposed_primarys_channel_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
