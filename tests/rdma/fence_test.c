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
 * even to a queue pair that works. Runs where there is RDMA, on 10.8.0.1.
 */
#include "tests/check.h"

#include "common/wire/verbs/verbs.c"

enum { PATIENCE_MS = 60000, OFFSET = 64 };

static struct verbs *dial(struct verbs_listener *l, struct verbs **accepted)
{
    char err[200], address[40];
    uint32_t bytes;
    struct channel *a, *b;
    snprintf(address, sizeof address, "10.8.0.1:%u", verbs_listener_port(l));
    a = verbs_connect(address, err, sizeof err);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_deposed_primarys_write_does_not_land),
        cmocka_unit_test(test_the_deposed_primarys_channel_closes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
