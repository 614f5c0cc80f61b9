/* SPDX-License-Identifier: BSD-3-Clause */
/* What a tracer is told of a packet's way through the engine: chains, commits, conflicts, drops,
 * packets that wait behind another one, packets that nobody asked for. */
#include "nf/runtime/scripted_bench.h"

static char told[2000];
static uint32_t next_id;
static bool wants_all;

static uint32_t on_packet(void *ctx, const struct packet *p)
{
    return wants_all || !next_id ? ++next_id : 0;
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    size_t n = strlen(told);
    va_list args;
    va_start(args, format);
    vsnprintf(told + n, sizeof told - n, format, args);
    va_end(args);
}

static void on_event(void *ctx, uint32_t id, const char *what, const char *nf, const char *why)
{
    say("%u %s%s%s; ", id, what, why ? " " : "", why ? why : "");
    assert_true((nf == NULL) == (!strcmp(what, "emitted") || !strcmp(what, "dropped")));
}

static void on_sent(void *ctx, uint32_t id, const char *nf, uint16_t shard, uint64_t client,
                    uint64_t seq)
{
    say("%u sent %u/%lu/%lu; ", id, shard, client, seq);
}

static void on_left(void *ctx, uint32_t id, const struct packet *p)
{
    say("%u left; ", id);
}

static const struct engine_tracer tracer = {NULL, on_packet, on_event, on_sent, on_left};

static void start(int nchain)
{
    bench_start(nchain, 0, 0);
    engine_trace(b->e, &tracer);
    told[0] = 0;
    next_id = 0;
    wants_all = true;
}

static void says(const char *wanted)
{
    CHECK(!strcmp(told, wanted), "told   %s\nwanted %s", told, wanted);
}

static void a_read_a_write_a_chain(void **state)
{
    start(1);
    bench_one(1, "r", 5);
    bench_finish();
    says("1 begun; 1 answered; 1 left; 1 emitted; ");
    told[0] = 0;
    bench_one(1, "w", 5);
    bench_finish();
    says("2 begun; 2 answered; 2 committed; 2 left; 2 emitted; ");
    bench_stop();
    start(2);
    bench_one(1, "rw", 5);
    bench_finish();
    says("1 begun; 1 answered; 1 begun; 1 answered; 1 committed; 1 left; 1 emitted; ");
    bench_stop();
}

static void a_txn_that_left_is_of_the_packet(void **state)
{
    start(1);
    bench_one(1, "r", 5);
    assert_int_equal(b->store.nqueue, 1);
    engine_trace_sent(b->e, b->store.queue[0].user, 3, 77, 4);
    bench_finish();
    says("1 begun; 1 sent 3/77/4; 1 answered; 1 left; 1 emitted; ");
    bench_stop();
}

static void a_drop_says_why(void **state)
{
    start(1);
    char wanted[100];
    const struct bench_packet *q = bench_one(1, "x", 5);
    bench_finish();
    snprintf(wanted, sizeof wanted, "1 begun; 1 answered; 1 dropped %s; ", bench_reason(q));
    says(wanted);
    told[0] = 0;
    bench_one(2, "r", 5);
    engine_discard_all(b->e, ENGINE_DROP_AWAY);
    says("2 begun; 2 dropped held_too_long; ");
    bench_stop();
}

static void meet_another(struct scripted_store *s, const struct txn_head *t)
{
    uint32_t key = 5;
    if (txn_first(t)->code != TXN_CAS)
        return;
    s->before = NULL;
    scripted_put(s, 0, &key, "somebody was here");
}

static void a_conflict_is_told(void **state)
{
    start(1);
    bench_one(1, "w", 5);
    bench_finish(); /* the entry is there */
    told[0] = 0;
    b->store.before = meet_another;
    bench_one(1, "w", 5);
    bench_finish();
    says("2 begun; 2 answered; 2 conflict; 2 committed; 2 left; 2 emitted; ");
    bench_stop();
}

static void who_waits_begins_later(void **state)
{
    start(1);
    bench_one(1, "r", 5);
    bench_one(1, "r", 5);
    says("1 begun; ");
    bench_turn();
    says("1 begun; 1 answered; 1 left; 1 emitted; 2 begun; ");
    bench_finish();
    bench_stop();
}

static void others_are_not_told_of(void **state)
{
    start(1);
    wants_all = false; /* the first one alone */
    for (int i = 0; i < 3; i++)
        bench_packet(1, "w", 5, SIDE_INSIDE);
    bench_send(0);
    bench_finish();
    says("1 begun; 1 answered; 1 committed; 1 left; 1 emitted; ");
    engine_trace(b->e, NULL);
    wants_all = true;
    bench_one(1, "w", 5);
    bench_finish();
    says("1 begun; 1 answered; 1 committed; 1 left; 1 emitted; ");
    bench_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_a_write_a_chain),
        cmocka_unit_test(a_txn_that_left_is_of_the_packet),
        cmocka_unit_test(a_drop_says_why),
        cmocka_unit_test(a_conflict_is_told),
        cmocka_unit_test(who_waits_begins_later),
        cmocka_unit_test(others_are_not_told_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
