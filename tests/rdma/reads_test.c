/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One-sided reads, from inside the channel: what a listener exposes can be read by who
 * connected to it, as much at once as channel.h says, beside frames; it cannot be
 * written, and nothing of it can be read once it is concealed. Runs where there is RDMA, on
 * 10.8.0.1.
 */
#include "tests/check.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "common/wire/msg.h"
#include "common/wire/verbs/channel_impl.h"

enum { BYTES = 64 * 1024, LINE = 64, PATIENCE_MS = 60000 };

static struct pair {
    struct listener l;
    struct channel *a, *b;        /* who dialled, who answered */
    uint8_t *memory;
    void *exposed;
    uint32_t rkey;
} p;

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int start(void **state)
{
    char err[200], address[40];
    uint32_t bytes;
    assert_int_equal(transport_verbs.listen(&p.l, "10.8.0.1:0", err, sizeof err), 0);
    p.memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (uint32_t i = 0; i < BYTES; i += LINE)
        memset(p.memory + i, (int)(i / LINE % 251), LINE);
    p.exposed = p.l.expose(&p.l, p.memory, BYTES, &p.rkey);
    assert_non_null(p.exposed);
    snprintf(address, sizeof address, "10.8.0.1:%u", transport_verbs.port(&p.l));
    p.a = verbs_connect(address, err, sizeof err);
    CHECK(p.a, "%s", err);
    while (!(p.b = p.l.accept(&p.l)))
        channel_recv(p.a, &bytes);
    uint64_t until = now_ms() + PATIENCE_MS;
    while (of(p.a)->state != UP || of(p.b)->state != UP) {
        channel_recv(p.a, &bytes);
        channel_recv(p.b, &bytes);
        CHECK(p.a->open && p.b->open && now_ms() < until, "%s %s", p.a->why, p.b->why);
    }
    return 0;
}

static int stop(void **state)
{
    if (p.exposed)
        p.l.conceal(p.exposed);
    channel_close(p.a);
    channel_close(p.b);
    listener_close(&p.l);
    munmap(p.memory, BYTES);
    return 0;
}

static int ask(uint64_t line, uint32_t lines)
{
    struct channel_read r = {(uintptr_t)p.memory + line * LINE, p.rkey, lines * LINE, line};
    return channel_read(p.a, &r);
}

/* The next read that is over; NULL: the channel closed. */
static const uint8_t *await(uint64_t *token)
{
    const void *got;
    uint32_t bytes;
    uint64_t until = now_ms() + PATIENCE_MS;
    while (!(got = channel_read_done(p.a, token)) && p.a->open) {
        channel_recv(p.a, &bytes);
        CHECK(now_ms() < until, "a read is never over");
        sched_yield();
    }
    return got;
}

static void test_reads_bring_what_is_there(void **state)
{
    uint64_t token, seen = 0;
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < CHANNEL_READS; i++)
            assert_int_equal(ask(i * 3, 1 + (uint32_t)i % 8), 0);
        assert_int_equal(ask(0, 1), -EAGAIN);
        channel_flush(p.a);
        for (int i = 0; i < CHANNEL_READS; i++, seen++) {
            const uint8_t *got = await(&token);
            CHECK(got, "%s", p.a->why);
            for (uint64_t k = 0; k <= token / 3 % 8; k++)
                CHECK(got[k * LINE] == (token + k) % 251 && got[k * LINE + LINE - 1] == (token + k) % 251,
                      "line %lu of the read at %lu is of another place", k, token);
        }
        assert_null(channel_read_done(p.a, &token));
    }
    assert_int_equal(seen, 3 * CHANNEL_READS);
}

static void test_sizes(void **state)
{
    assert_int_equal(ask(0, CHANNEL_READ_BYTES / LINE + 1), -EMSGSIZE);
    assert_int_equal(ask(0, 0), -EMSGSIZE);
    assert_int_equal(channel_can_read(p.a), true);
}

/* Frames and reads share the queues; neither loses the other's completions. */
static void test_beside_frames(void **state)
{
    struct msg_status m = {.nonce = 1};
    uint64_t token;
    uint32_t bytes, frames = 0, reads = 0;
    uint64_t until = now_ms() + PATIENCE_MS;
    msg_head_set(&m, MSG_STATUS, sizeof m, 0, 0);
    for (uint32_t sent = 0; frames < 2000 || reads < 2000;) {
        if (sent < 2000 && !channel_send(p.a, &m, sizeof m) && ask(sent % 900, 2) == 0)
            sent++;
        channel_flush(p.a);
        while (channel_recv(p.b, &bytes))
            frames++;
        channel_recv(p.a, &bytes);
        while (channel_read_done(p.a, &token))
            reads++;
        CHECK(p.a->open && p.b->open && now_ms() < until, "%u frames, %u reads: %s", frames, reads, p.a->why);
    }
    assert_int_equal(reads, 2000);
}

/* Who sleeps is woken by a read. */
static void test_it_wakes(void **state)
{
    short events;
    uint64_t token;
    uint32_t bytes;
    while (channel_recv(p.a, &bytes))
        ;
    assert_int_equal(ask(5, 1), 0);
    channel_flush(p.a);
    while (channel_arm(p.a)) {
        struct pollfd fd = {.fd = channel_fd(p.a, &events), .events = POLLIN};
        assert_true(poll(&fd, 1, PATIENCE_MS) > 0);
    }
    const uint8_t *got = await(&token);
    assert_non_null(got);
    assert_int_equal(got[0], 5);
}

/* The key is for reading alone. */
static void test_it_cannot_be_written(void **state)
{
    struct verbs *v = of(p.a);
    uint64_t word = ~0ull;
    struct ibv_sge sge = {.addr = (uintptr_t)&word, .length = sizeof word};
    struct ibv_send_wr wr = {.wr_id = 4711, .sg_list = &sge, .num_sge = 1, .opcode = IBV_WR_RDMA_WRITE,
                             .send_flags = IBV_SEND_SIGNALED | IBV_SEND_INLINE,
                             .wr.rdma = {(uintptr_t)p.memory, p.rkey}}, *bad;
    struct ibv_wc wc;
    uint64_t until = now_ms() + PATIENCE_MS;
    assert_int_equal(ibv_post_send(v->id->qp, &wr, &bad), 0);
    while (ibv_poll_cq(v->cq, 1, &wc) != 1 || wc.wr_id != 4711)
        CHECK(now_ms() < until, "the write never completed");
    assert_int_equal(wc.status, IBV_WC_REM_ACCESS_ERR);
    assert_int_equal(*(volatile uint64_t *)p.memory, 0);
}

static void test_what_is_concealed_closes_the_channel(void **state)
{
    uint64_t token;
    p.l.conceal(p.exposed);
    p.exposed = NULL;
    assert_int_equal(ask(0, 1), 0);
    channel_flush(p.a);
    assert_null(await(&token));
    assert_false(p.a->open);
    print_message("%s\n", p.a->why);
    assert_int_equal(ask(0, 1), -ENOTCONN);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        T(test_reads_bring_what_is_there),
        T(test_sizes),
        T(test_beside_frames),
        T(test_it_wakes),
        T(test_it_cannot_be_written),
        T(test_what_is_concealed_closes_the_channel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
