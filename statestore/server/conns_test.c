/* SPDX-License-Identifier: BSD-3-Clause */
/* The connection table, its backlogs, and the snapshot's seqlock. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "statestore/server/conns.h"
#include "statestore/server/snapshot.h"
#include "tests/check.h"

enum { RING = 2 * MSG_BYTES_MAX };

static struct conns cs;

static struct channel *open_pair(struct channel **theirs)
{
    struct channel *ours;
    assert_int_equal(inproc_pair(RING, &ours, theirs), 0);
    return ours;
}

static void test_numbers_are_not_used_again(void **state)
{
    static uint32_t seen[3 * CONNS_MAX];
    conns_init(&cs);
    for (int i = 0; i < 3 * CONNS_MAX; i++) {
        struct channel *theirs, *ours = open_pair(&theirs);
        struct conn *c = conns_add(&cs, ours, CONN_NEW, 1);
        seen[i] = c->number;
        assert_int_not_equal(seen[i], 0);
        for (int j = 0; j < i; j++)
            assert_int_not_equal(seen[j], seen[i]);
        assert_ptr_equal(conns_find(&cs, seen[i]), c);
        conns_remove(&cs, c);
        assert_null(conns_find(&cs, seen[i]));
        channel_close(theirs);
    }
}

static void test_a_full_table_refuses(void **state)
{
    static struct channel *theirs[CONNS_MAX];
    struct channel *more;
    struct rlimit files = {4 * CONNS_MAX, 4 * CONNS_MAX};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    conns_init(&cs);
    for (int i = 0; i < CONNS_MAX; i++)
        assert_non_null(conns_add(&cs, open_pair(&theirs[i]), CONN_NEW, 1));
    struct channel *ours = open_pair(&more);
    assert_null(conns_add(&cs, ours, CONN_NEW, 1));
    conns_remove(&cs, &cs.all[17]);
    struct conn *c = conns_add(&cs, ours, CONN_NEW, 1);
    assert_ptr_equal(c, &cs.all[17]);
    for (int i = 0; i < CONNS_MAX; i++) {
        conns_remove(&cs, &cs.all[i]);
        channel_close(theirs[i]);
    }
    channel_close(more);
}

/* A frame of `bytes` with a number in it. */
static const void *frame_of(uint64_t number, uint32_t bytes)
{
    static struct msg_error m;
    memset(&m, 0, sizeof m);
    msg_head_set(&m, MSG_ERROR, bytes, 0, number);
    return &m;
}

static void test_the_backlog_keeps_order_and_has_a_bound(void **state)
{
    struct channel *theirs;
    const uint32_t bytes = sizeof(struct msg_error);
    uint64_t sent = 0, got = 0, frames = 0;
    int rc;
    conns_init(&cs);
    struct conn *c = conns_add(&cs, open_pair(&theirs), CONN_CLIENT, 1);
    assert_true(conn_drain(c, 1));
    while (!(rc = conn_send(c, frame_of(sent, bytes), bytes, 5))) {
        sent++;
        assert_true(++frames < 10 * BACKLOG_MAX_BYTES / bytes);
    }
    assert_int_equal(rc, -ENOBUFS);
    CHECK(conn_backlog(c) <= BACKLOG_MAX_BYTES && conn_backlog(c) > BACKLOG_MAX_BYTES - bytes,
          "%u", conn_backlog(c));
    assert_int_equal(c->blocked_ms, 5);
    while (got < sent) {
        uint32_t n;
        const struct msg_head *m = channel_recv(theirs, &n);
        if (!m) {
            channel_flush(c->channel);
            conn_drain(c, 9);
            channel_flush(c->channel);
            continue;
        }
        assert_int_equal(m->view_epoch, got);
        got++;
    }
    assert_true(conn_drain(c, 9));
    assert_int_equal(c->blocked_ms, 0);
    assert_null(c->backlog); /* its memory is given back */
    conns_remove(&cs, c);
    channel_close(theirs);
}

static void test_what_waits_goes_first(void **state)
{
    struct channel *theirs;
    const uint32_t bytes = sizeof(struct msg_error);
    uint64_t sent = 0, got = 0;
    uint32_t n;
    conns_init(&cs);
    struct conn *c = conns_add(&cs, open_pair(&theirs), CONN_CLIENT, 1);
    while (!conn_backlog(c))
        assert_int_equal(conn_send(c, frame_of(sent++, bytes), bytes, 5), 0);
    channel_flush(c->channel);
    for (int i = 0; i < 100; i++, got++) /* now there is room again, but one waits */
        assert_non_null(channel_recv(theirs, &n));
    assert_int_equal(conn_send(c, frame_of(sent++, bytes), bytes, 5), 0);
    while (got < sent) {
        const struct msg_head *m = channel_recv(theirs, &n);
        if (m) {
            assert_int_equal(m->view_epoch, got);
            got++;
            continue;
        }
        conn_drain(c, 6);
        channel_flush(c->channel);
    }
    conns_remove(&cs, c);
    channel_close(theirs);
}

/* --- seqlock ---------------------------------------------------------------------------- */

enum { WRITES = 200000 };
static struct snapshot_box box;

static void *write_snapshots(void *arg)
{
    struct shard_snapshot s;
    uint64_t *words = (uint64_t *)&s;
    for (uint64_t i = 1; i <= WRITES; i++) {
        for (int w = 0; w < SNAPSHOT_WORDS; w++)
            words[w] = i;
        snapshot_write(&box, &s);
    }
    return NULL;
}

static void test_a_snapshot_is_never_torn(void **state)
{
    pthread_t writer;
    struct shard_snapshot s;
    const uint64_t *words = (const uint64_t *)&s;
    uint64_t last = 0;
    assert_int_equal(pthread_create(&writer, NULL, write_snapshots, NULL), 0);
    while (last < WRITES) {
        snapshot_read(&box, &s);
        assert_true(words[0] >= last);
        last = words[0];
        for (int w = 1; w < SNAPSHOT_WORDS; w++)
            CHECK(words[w] == last, "word %d is %lu, the first %lu", w, words[w], last);
    }
    pthread_join(writer, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_are_not_used_again),
        cmocka_unit_test(test_a_full_table_refuses),
        cmocka_unit_test(test_the_backlog_keeps_order_and_has_a_bound),
        cmocka_unit_test(test_what_waits_goes_first),
        cmocka_unit_test(test_a_snapshot_is_never_torn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
