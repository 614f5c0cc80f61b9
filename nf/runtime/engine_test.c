/* SPDX-License-Identifier: BSD-3-Clause */
/* The engine: order, runs, conflicts, rounds, chains, time-outs, discarding,
 * bounds. The NF and the store are scripted (scripted_bench.h). */
#include "nf/runtime/scripted_bench.h"

#include <malloc.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nf/runtime/internal.h"

static uint64_t entry(uint32_t key)
{
    return scripted_u64(&b->store, 0, &key);
}

static void established_packet_takes_one_round_trip(void **state)
{
    bench_start(1, 0, 0);
    struct bench_packet *q = bench_one(1, "r", 5);
    assert_int_equal(q->state, 0);
    bench_turn();
    assert_int_equal(q->state, EMITTED);
    assert_int_equal(q->out, SIDE_OUTSIDE);
    assert_int_equal(engine_stats(b->e)->lookups, 1);
    assert_int_equal(engine_stats(b->e)->commits, 0);
    bench_stop();
}

static void nothing_leaves_before_its_commit(void **state)
{
    bench_start(1, 0, 0);
    struct bench_packet *q = bench_one(1, "w", 5);
    bench_turn();
    CHECK(q->state == 0, "left before the commit was answered");
    bench_turn();
    assert_int_equal(q->state, EMITTED);
    assert_int_equal(entry(5), 1);
    bench_stop();
}

static void burst_of_a_flow_is_one_run(void **state)
{
    bench_start(1, 0, 0);
    for (int i = 0; i < 10; i++)
        bench_packet(1, "w", 5, SIDE_INSIDE);
    bench_send(0);
    bench_finish();
    assert_int_equal(engine_stats(b->e)->lookups, 1);
    assert_int_equal(engine_stats(b->e)->commits, 1);
    assert_int_equal(entry(5), 10);
    for (int i = 0; i < 10; i++)
        assert_int_equal(b->packets[i].order, i);
    bench_stop();
}

static void packet_never_joins_a_lookup_that_was_sent(void **state)
{
    bench_start(1, 0, 0);
    bench_one(1, "r", 5);
    for (int i = 0; i < 3; i++)
        bench_one(1, "w", 5);
    assert_int_equal(engine_stats(b->e)->lookups, 1);
    bench_turn();
    assert_int_equal(b->left, 1);
    assert_int_equal(engine_stats(b->e)->lookups, 2);
    bench_finish();
    assert_int_equal(engine_stats(b->e)->lookups, 2);
    assert_int_equal(engine_stats(b->e)->commits, 1);
    assert_int_equal(engine_stats(b->e)->run_packets, 4);
    assert_int_equal(entry(5), 3);
    bench_stop();
}

static void run_holds_equal_plans_only(void **state)
{
    bench_start(1, 0, 0);
    static const uint32_t keys[] = {5, 5, 6, 6, 5};
    for (int i = 0; i < 5; i++)
        bench_packet(1, "w", keys[i], SIDE_INSIDE);
    bench_send(0);
    bench_finish();
    assert_int_equal(engine_stats(b->e)->runs, 3);
    assert_int_equal(entry(5), 3);
    assert_int_equal(entry(6), 2);
    for (int i = 0; i < 5; i++)
        assert_int_equal(b->packets[i].order, i);
    bench_stop();
}

static void flows_do_not_wait_for_each_other(void **state)
{
    bench_start(1, 0, 0);
    bench_one(1, "r", 1);
    bench_one(2, "r", 2);
    bench_turn();
    assert_int_equal(b->left, 2);
    bench_stop();
}

/* --- conflicts ------------------------------------------------------------------- */

static int other_writes; /* of another worker, each just before a CAS of ours */
static bool other_deletes;

static void other_worker(struct scripted_store *s, const struct txn_head *t)
{
    const struct txn_op *op = txn_first(t);
    if (op->code != TXN_CAS || other_writes == 0)
        return;
    other_writes--;
    struct scripted_entry *e = scripted_find(s, op->table, txn_key(op));
    if (other_deletes) {
        if (e)
            e->used = false;
        return;
    }
    uint64_t v[2] = {scripted_u64(s, op->table, txn_key(op)) + 1, 0};
    scripted_put(s, op->table, txn_key(op), v);
}

static void conflict_reruns_on_the_answer(void **state)
{
    bench_start(1, 0, 0);
    b->store.before = other_worker;
    other_writes = 1;
    other_deletes = false;
    struct bench_packet *q = bench_one(1, "w", 5);
    bench_finish();
    assert_int_equal(q->state, EMITTED);
    assert_int_equal(entry(5), 2);
    assert_int_equal(q->ttl, 63); /* it was restored before the second process */
    assert_int_equal(script_calls, 2);
    assert_int_equal(engine_stats(b->e)->lookups, 1);
    assert_int_equal(engine_stats(b->e)->reruns, 1);
    CHECK(engine_nf_count(b->e, 0, 0) == 1, "events of a discarded pass were counted");
    bench_stop();
}

static void conflict_with_a_deletion_looks_up_afresh(void **state)
{
    bench_start(1, 0, 0);
    b->store.before = other_worker;
    other_writes = 1;
    other_deletes = true;
    struct bench_packet *q = bench_one(1, "w", 5);
    bench_finish();
    assert_int_equal(q->state, EMITTED);
    assert_int_equal(engine_stats(b->e)->lookups, 2);
    assert_int_equal(entry(5), 1);
    assert_int_equal(q->ttl, 63);
    bench_stop();
}

static void conflict_is_given_up_after_three_reruns(void **state)
{
    bench_start(1, 0, 0);
    b->store.before = other_worker;
    other_writes = 4;
    other_deletes = false;
    struct bench_packet *q = bench_one(1, "w", 5);
    struct bench_packet *next = bench_one(1, "w", 5);
    bench_finish();
    assert_string_equal(bench_reason(q), "conflict");
    assert_int_equal(next->state, EMITTED);
    assert_int_equal(entry(5), 5);
    assert_int_equal(engine_stats(b->e)->reruns, ENGINE_RERUNS_MAX);
    bench_stop();
}

static void run_conflicts_as_a_whole(void **state)
{
    bench_start(1, 0, 0);
    b->store.before = other_worker;
    other_writes = 2;
    other_deletes = false;
    for (int i = 0; i < 5; i++)
        bench_packet(1, "w", 5, SIDE_INSIDE);
    bench_send(0);
    bench_finish();
    assert_int_equal(entry(5), 7);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(b->packets[i].state, EMITTED);
        assert_int_equal(b->packets[i].ttl, 63);
    }
    bench_stop();
}

static void entry_with_a_patched_key_is_the_one_written(void **state)
{
    bench_start(1, 0, 0);
    uint32_t key = 5, named[4] = {6}, other = 6, zero[4] = {0};
    scripted_put(&b->store, 0, &key, named);
    scripted_put(&b->store, 0, &other, zero);
    struct bench_packet *q = bench_one(1, "k", 5);
    bench_finish();
    assert_int_equal(q->state, EMITTED);
    assert_int_equal(entry(6), 1);
    assert_int_equal(entry(5), 6);
    bench_stop();
}

static void deletion_ends_the_run(void **state)
{
    bench_start(1, 0, 0);
    bench_packet(1, "w", 5, SIDE_INSIDE);
    bench_packet(1, "d", 5, SIDE_INSIDE);
    bench_packet(1, "w", 5, SIDE_INSIDE);
    bench_send(0);
    bench_finish();
    assert_int_equal(entry(5), 1); /* made anew by the third packet's look-up */
    assert_int_equal(engine_stats(b->e)->runs, 2);
    bench_stop();
}

static void creation_of_one_key_twice_is_two_runs(void **state)
{
    bench_start(1, 0, 0);
    bench_packet(1, "n", 5, SIDE_INSIDE);
    bench_packet(1, "r", 5, SIDE_INSIDE);
    bench_packet(1, "n", 5, SIDE_INSIDE);
    bench_send(0);
    bench_finish();
    assert_int_equal(b->packets[0].state, EMITTED);
    assert_int_equal(b->packets[1].state, EMITTED);
    assert_string_equal(bench_reason(&b->packets[2]), "conflict");
    uint32_t spoiled = 5 | 0x80000000u;
    CHECK(!scripted_find(&b->store, 0, &spoiled), "looked up as it was after process");
    bench_stop();
}

static void what_a_packet_created_is_a_hit_for_the_next(void **state)
{
    bench_start(1, 0, 0);
    bench_one(1, "s", 5);
    bench_finish();
    assert_int_equal(seen_get, NF_ABSENT);
    assert_int_equal(seen_insert, NF_CREATED);
    int from = b->npackets;
    for (int i = 0; i < 2; i++)
        bench_packet(1, "s", 6, SIDE_INSIDE);
    bench_send(from);
    bench_finish();
    assert_int_equal(seen_get, NF_HIT);
    CHECK(seen_insert == -1, "an op that a look-up would have skipped is shown");
    bench_stop();
}

/* --- rounds ------------------------------------------------------------------------ */

static void second_round_is_shared_by_the_run(void **state)
{
    bench_start(1, 0, 0);
    for (int i = 0; i < 4; i++)
        bench_packet(1, "m", 5, SIDE_INSIDE);
    bench_send(0);
    bench_finish();
    assert_int_equal(engine_stats(b->e)->lookups, 2);
    assert_int_equal(entry(5), 4);
    assert_int_equal(entry(105), 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(b->packets[i].ttl, 63);
    bench_stop();
}

static void packet_that_wants_a_round_ends_the_run(void **state)
{
    bench_start(1, 0, 0);
    bench_packet(1, "w", 5, SIDE_INSIDE);
    bench_packet(1, "m", 5, SIDE_INSIDE);
    bench_packet(1, "w", 5, SIDE_INSIDE);
    bench_send(0);
    bench_finish();
    assert_int_equal(engine_stats(b->e)->runs, 2);
    assert_int_equal(entry(5), 3);
    assert_int_equal(entry(105), 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(b->packets[i].order, i);
    bench_stop();
}

/* --- chains -------------------------------------------------------------------------- */

static void chain_runs_backwards_from_outside(void **state)
{
    bench_start(2, 0, 0);
    struct bench_packet *in = bench_packet(1, "wx", 5, SIDE_INSIDE);
    bench_send(0);
    bench_finish();
    assert_string_equal(bench_reason(in), "script_told_to");
    assert_int_equal(entry(5), 1); /* the first NF had passed it */
    struct bench_packet *out = bench_packet(1, "wx", 6, SIDE_OUTSIDE);
    bench_send(1);
    bench_finish();
    assert_string_equal(bench_reason(out), "script_told_to");
    assert_int_equal(entry(6), 0); /* the last NF is its first, and dropped it */
    bench_stop();
}

static void chain_keeps_order_and_splits_where_plans_differ(void **state)
{
    bench_start(2, 0, 0);
    static const char *const orders[] = {"ww", "w-", "wr", "-w", "ww"};
    for (int i = 0; i < 5; i++)
        bench_packet(1, orders[i], 5, SIDE_INSIDE);
    bench_send(0);
    bench_finish();
    for (int i = 0; i < 5; i++) {
        assert_int_equal(b->packets[i].state, EMITTED);
        assert_int_equal(b->packets[i].order, i);
        assert_int_equal(b->packets[i].ttl, 62);
    }
    assert_int_equal(entry(5), 4);
    uint32_t key = 5;
    assert_int_equal(scripted_u64(&b->store, 2, &key), 3);
    bench_stop();
}

static void conflict_reruns_only_its_own_nf(void **state)
{
    bench_start(2, 0, 0);
    b->store.before = other_worker;
    other_writes = 0;
    other_deletes = false;
    struct bench_packet *q = bench_one(1, "ww", 5);
    bench_turn();
    bench_turn();
    bench_turn();
    other_writes = 4; /* the second NF's commit goes out now, and never succeeds */
    bench_finish();
    assert_string_equal(bench_reason(q), "conflict");
    assert_int_equal(entry(5), 1);
    assert_int_equal(script_calls, 1 + 1 + ENGINE_RERUNS_MAX);
    bench_stop();
}

static void reply_skips_the_chain_and_turns_round(void **state)
{
    bench_start(2, 0, 0);
    struct bench_packet *q = bench_one(1, "pw", 5);
    bench_finish();
    assert_int_equal(q->state, EMITTED);
    assert_int_equal(q->out, SIDE_INSIDE);
    uint32_t key = 5;
    assert_null(scripted_find(&b->store, 2, &key));
    bench_stop();
}

/* --- adds ------------------------------------------------------------------------------- */

static void async_adds_merge_and_are_not_waited_for(void **state)
{
    bench_start(2, 0, 0);
    for (int i = 0; i < 6; i++)
        bench_packet(1, "-a", 5, SIDE_INSIDE);
    for (int i = 0; i < 6; i++)
        b->packets[i].frame[43] = 'a';
    bench_send(0);
    bench_turn();
    assert_int_equal(b->left, 6);
    assert_int_equal(engine_stats(b->e)->adds, 1);
    bench_turn();
    uint32_t key = 5;
    assert_int_equal(scripted_u64(&b->store, 3, &key), 6);
    bench_stop();
}

static void adds_of_one_hash_slot_are_one_txn(void **state)
{
    bench_start(1, 0, 0);
    bench_one(1, "A", 5);
    bench_finish();
    uint32_t key = 5, other = 205;
    assert_int_equal(engine_stats(b->e)->adds, 1);
    assert_int_equal(scripted_u64(&b->store, 1, &key), 1);
    assert_int_equal(scripted_u64(&b->store, 1, &other), 1);
    bench_stop();
}

static void adds_of_a_discarded_pass_are_not_sent(void **state)
{
    bench_start(1, 0, 0);
    b->store.before = other_worker;
    other_writes = 2;
    other_deletes = false;
    bench_one(1, "W", 5);
    bench_finish();
    uint32_t key = 5;
    assert_int_equal(entry(5), 3);
    assert_int_equal(scripted_u64(&b->store, 1, &key), 1);
    bench_stop();
}

static void adds_wait_for_room_and_go_once(void **state)
{
    bench_start(1, 0, 0);
    struct bench_packet *q = bench_one(1, "a", 5);
    engine_flush(b->e);
    b->store.room = 0;
    engine_poll(b->e, b->now_us);
    assert_int_equal(q->state, 0); /* its add is part of it */
    bench_turn();
    assert_int_equal(q->state, 0);
    b->store.room = 8;
    bench_finish();
    assert_int_equal(q->state, EMITTED);
    uint32_t key = 5;
    assert_int_equal(scripted_u64(&b->store, 1, &key), 1);
    bench_stop();
}

/* --- drops ---------------------------------------------------------------------------------- */

static void each_refusal_has_its_reason(void **state)
{
    static const struct {
        const char *orders;
        uint8_t lookup_status, commit_status;
        const char *reason;
    } rows[] = {
        {"x", 0, 0, "script_told_to"},           {"b", 0, 0, "nf_bug"},
        {"r", TXN_STALE_CLIENT, 0, "abandoned"}, {"r", TXN_FORGOTTEN, 0, "abandoned"},
        {"r", TXN_LOST, 0, "store_unserved"},    {"r", TXN_BUSY, 0, "store_unserved"},
        {"r", TXN_BAD_REQUEST, 0, "nf_bug"},     {"w", 0, TXN_NO_MEMORY, "commit_refused"},
        {"w", 0, TXN_STALE_CLIENT, "abandoned"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bench_start(1, 0, 0);
        struct bench_packet *q = bench_one(1, rows[i].orders, 5);
        b->store.next_status = rows[i].lookup_status;
        bench_turn();
        b->store.next_status = rows[i].commit_status;
        bench_finish();
        CHECK(!strcmp(bench_reason(q), rows[i].reason), "row %zu: %s, not %s", i, bench_reason(q),
              rows[i].reason);
        CHECK(engine_drops(b->e, q->reason) == 1, "row %zu: not counted", i);
        bench_stop();
    }
}

static void damaged_packets_are_dropped_by_fault(void **state)
{
    bench_start(1, 0, 0);
    struct bench_packet *q = bench_packet(1, "r", 5, SIDE_INSIDE);
    q->len = 20;
    struct bench_packet *arp = bench_packet(1, "r", 5, SIDE_INSIDE);
    arp->frame[12] = 8, arp->frame[13] = 6;
    struct bench_packet *good = bench_packet(1, "r", 5, SIDE_INSIDE);
    bench_send(0);
    bench_finish();
    assert_string_equal(bench_reason(q), "truncated");
    assert_string_equal(bench_reason(arp), "not_ip");
    assert_int_equal(good->state, EMITTED);
    bench_stop();
}

static void refused_lookup_is_shown_to_the_nf(void **state)
{
    bench_start(1, 0, 0);
    struct bench_packet *q = bench_one(1, "r", 5);
    b->store.next_status = TXN_EXHAUSTED;
    bench_finish();
    assert_int_equal(q->state, EMITTED); /* "r" does not care */
    assert_int_equal(script_calls, 1);
    bench_stop();
}

static void silent_store_times_out_and_late_answers_find_nothing(void **state)
{
    bench_start(1, 0, 0);
    struct bench_packet *q = bench_one(1, "w", 5), *behind = bench_one(1, "w", 5);
    b->store.deliver = 0;
    engine_flush(b->e);
    assert_true(engine_next_us(b->e) <= b->now_us + 100001);
    b->now_us += 100001;
    engine_poll(b->e, b->now_us);
    assert_string_equal(bench_reason(q), "store_timeout");
    assert_string_equal(bench_reason(behind), "store_timeout");
    assert_int_equal(engine_in_flight(b->e), 0);
    struct bench_packet *later = bench_one(1, "w", 5);
    b->store.deliver = 1;
    bench_turn();
    CHECK(later->state == 0 && engine_stats(b->e)->commits == 0, "took another packet's answer");
    b->store.deliver = SCRIPTED_QUEUE;
    bench_finish();
    assert_int_equal(engine_stats(b->e)->late_replies, 1);
    assert_int_equal(later->state, EMITTED);
    assert_int_equal(entry(5), 1);
    bench_stop();
}

static void full_backend_times_out_too(void **state)
{
    bench_start(1, 0, 0);
    b->store.room = 1;
    struct bench_packet *q[3];
    for (uint16_t i = 0; i < 3; i++)
        q[i] = bench_one(i, "r", i);
    b->store.deliver = 0;
    b->now_us += 50000;
    struct bench_packet *young = bench_one(9, "r", 9);
    b->now_us += 50001;
    engine_poll(b->e, b->now_us);
    for (int i = 0; i < 3; i++)
        assert_string_equal(bench_reason(q[i]), "store_timeout");
    b->store.deliver = 8;
    bench_finish();
    assert_int_equal(young->state, EMITTED);
    bench_stop();
}

static void discarding_forgets_everything(void **state)
{
    bench_start(1, 0, 0);
    for (uint16_t i = 0; i < 20; i++)
        bench_one(i % 5, "w", i % 5u);
    bench_turn(); /* five commits are submitted, 15 packets wait */
    assert_int_equal(engine_discard_all(b->e, ENGINE_DROP_AWAY), 20);
    for (int i = 0; i < 20; i++)
        assert_string_equal(bench_reason(&b->packets[i]), "held_too_long");
    bench_turn();
    assert_int_equal(engine_stats(b->e)->late_replies, 5);
    struct bench_packet *q = bench_one(1, "r", 1);
    bench_finish();
    assert_int_equal(q->state, EMITTED);
    bench_stop();
}

/* --- bounds ------------------------------------------------------------------------------------
 */

static void window_is_bounded_in_packets_and_bursts(void **state)
{
    bench_start(1, 8, 4);
    assert_int_equal(engine_room(b->e), 8);
    for (int i = 0; i < 10; i++)
        bench_packet((uint16_t)i, "r", 1, SIDE_INSIDE);
    bench_send(0);
    assert_int_equal(engine_room(b->e), 0);
    assert_int_equal(engine_in_flight(b->e), 8);
    assert_string_equal(bench_reason(&b->packets[9]), "window_full");
    bench_finish();
    assert_int_equal(engine_room(b->e), 8);
    for (uint16_t i = 0; i < 4; i++)
        bench_one(i, "r", 1);
    assert_int_equal(engine_room(b->e), 0);
    struct bench_packet *q = bench_one(5, "r", 1);
    assert_string_equal(bench_reason(q), "window_full");
    bench_finish();
    assert_int_equal(engine_room(b->e), 8);
    bench_stop();
}

static void working_copy_does_not_outlive_the_call(void **state)
{
    bench_start(1, 0, 0);
    bench_one(1, "l", 5);
    bench_finish();
    const uint8_t *at = (const uint8_t *)leaked;
    for (size_t i = 0; i < sizeof *leaked; i++)
        CHECK(at[i] == POISON, "byte %zu of the entry is still there", i);
    bench_stop();
}

static void self_cannot_be_written(void **state)
{
    bench_start(1, 0, 0);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        ((struct script_self *)b->nf[0]->self)->at = 1;
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "an NF wrote to its self");
    bench_stop();
}

static void nothing_is_allocated_per_packet(void **state)
{
    bench_start(2, 64, 0);
    size_t before = mallinfo2().uordblks;
    for (int round = 0; round < 40; round++) {
        int from = b->npackets;
        for (int i = 0; i < 64; i++)
            bench_packet((uint16_t)(round * 64 + i), "wa", (uint32_t)i, SIDE_INSIDE);
        bench_send(from);
        bench_finish();
    }
    assert_int_equal(mallinfo2().uordblks, before);
    bench_stop();
}

/* --- everything at once ------------------------------------------------------------------------
 */

static uint64_t chaos;
static uint64_t written_by_others[64];

static void chaotic_others(struct scripted_store *s, const struct txn_head *t)
{
    const struct txn_op *op = txn_first(t);
    uint32_t key;
    memcpy(&key, txn_key(op), 4);
    /* The second entry of "m" is left alone: nothing is atomic across hash slots. */
    if (op->code != TXN_CAS || op->table != 0 || key >= 64 || scripted_random(&chaos) % 8)
        return;
    uint64_t v[2] = {scripted_u64(s, 0, &key) + 1, 0};
    scripted_put(s, 0, &key, v);
    written_by_others[key]++;
}

static void random_traffic(uint64_t seed)
{
    static const char *const orders[] = {"r-", "w-", "wa", "xw", "-a", "m-", "p-", "ww"};
    bench_start(2, 100, 40);
    chaos = seed;
    memset(written_by_others, 0, sizeof written_by_others);
    b->store.before = chaotic_others;
    b->store.shuffle = seed ^ 0x5555;
    while (b->npackets < 2000) {
        int from = b->npackets, n = (int)(scripted_random(&chaos) % 8);
        enum packet_side side = scripted_random(&chaos) % 4 == 0;
        for (int i = 0; i < n && i < (int)engine_room(b->e); i++) {
            uint16_t flow = (uint16_t)(scripted_random(&chaos) % 6);
            uint32_t key = flow * 8u + (scripted_random(&chaos) % 4 == 0);
            bench_packet(flow, orders[scripted_random(&chaos) % 8], key, side);
        }
        if (b->npackets > from)
            bench_send(from);
        b->store.deliver = (int)(scripted_random(&chaos) % 6);
        b->store.room = b->store.nqueue + (int)(scripted_random(&chaos) % 6);
        bench_turn();
    }
    b->store.room = b->store.deliver = SCRIPTED_QUEUE;
    bench_finish();
}

/* How often packets that count entry `key` up did so, by the NF at table 0. */
static uint64_t counted_up(uint32_t key)
{
    uint64_t n = 0;
    for (int i = 0; i < b->npackets; i++) {
        const struct bench_packet *q = &b->packets[i];
        bool counts = q->orders[0] == 'w' || q->orders[0] == 'm';
        /* From the outside the second NF comes first; nothing it does drops. */
        n += counts && q->key == key && q->state == EMITTED;
    }
    return n;
}

static void random_traffic_keeps_order_and_counts(void **state)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        random_traffic(seed * 7919);
        int last[6] = {0};
        for (int i = 0; i < b->npackets; i++) {
            struct bench_packet *q = &b->packets[i];
            CHECK(q->state, "seed %" PRIu64 ": packet %d was lost", seed, i);
            if (q->state != EMITTED || q->out == q->side)
                continue; /* drops and replies leave early */
            CHECK(q->order >= last[q->flow], "seed %" PRIu64 ": packet %d overtook", seed, i);
            last[q->flow] = q->order;
        }
        for (uint32_t key = 0; key < 48; key++)
            CHECK(entry(key) == counted_up(key) + written_by_others[key],
                  "seed %" PRIu64 ": entry %u is %" PRIu64 ", not %" PRIu64 " + %" PRIu64, seed,
                  key, entry(key), counted_up(key), written_by_others[key]);
        CHECK(engine_stats(b->e)->reruns > 0, "seed %" PRIu64 ": no conflict met", seed);
        CHECK(engine_stats(b->e)->no_room > 0, "seed %" PRIu64 ": no back-pressure met", seed);
        bench_stop();
    }
}

/* --- events ------------------------------------------------------------------------ */

static uint64_t counter(uint32_t key)
{
    return scripted_u64(&b->store, T_COUNTERS, &key);
}

static void an_expiry_reaches_the_nf(void **state)
{
    bench_start(2, 0, 0);
    assert_true(scripted_expire(&b->store, T_ENTRIES, 5, ""));
    assert_true(scripted_expire(&b->store, SCRIPT_TABLES + T_ENTRIES, 6, "")); /* the second NF's */
    bench_turn();
    assert_int_equal(engine_nf_count(b->e, 0, 1), 1);
    assert_int_equal(engine_nf_count(b->e, 1, 1), 1);
    assert_int_equal(engine_stats(b->e)->events, 2);
    assert_int_equal(counter(5), 1);
    uint32_t six = 6;
    assert_int_equal(scripted_u64(&b->store, SCRIPT_TABLES + T_COUNTERS, &six), 1);
    bench_stop();
}

static void an_expiry_without_room_for_its_add_comes_again(void **state)
{
    bench_start(1, 0, 0);
    b->store.room = 0;
    assert_false(scripted_expire(&b->store, T_ENTRIES, 5, ""));
    assert_int_equal(engine_nf_count(b->e, 0, 1), 0);
    b->store.room = SCRIPTED_QUEUE;
    assert_true(scripted_expire(&b->store, T_ENTRIES, 5, ""));
    bench_turn();
    assert_int_equal(engine_nf_count(b->e, 0, 1), 1);
    assert_int_equal(counter(5), 1);
    bench_stop();
}

static void an_expiry_between_packets_disturbs_none(void **state)
{
    bench_start(1, 0, 0);
    struct bench_packet *q = bench_one(1, "w", 5);
    assert_true(scripted_expire(&b->store, T_ENTRIES, 9, ""));
    bench_turn();
    assert_true(scripted_expire(&b->store, T_ENTRIES, 9, "b")); /* breaks a bound: just left out */
    bench_finish();
    assert_int_equal(q->state, EMITTED);
    assert_int_equal(entry(5), 1);
    assert_int_equal(counter(9), 1);
    assert_int_equal(engine_nf_count(b->e, 0, 1), 2);
    bench_stop();
}

static void events_need_a_backend_that_has_some(void **state)
{
    char err[200] = "";
    struct engine *e;
    bench_start(1, 0, 0);
    struct engine_config c = {.nchain = 1, .chain = {b->nf[0]}, .backend = scripted_backend(&b->store),
                              .emit = bench_emit, .drop = bench_drop};
    c.backend.events = NULL;
    assert_int_equal(engine_create(&c, &e, err, sizeof err), -ENOTSUP);
    CHECK(strstr(err, "entries0"), "%s", err);
    bench_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(established_packet_takes_one_round_trip),
        cmocka_unit_test(nothing_leaves_before_its_commit),
        cmocka_unit_test(burst_of_a_flow_is_one_run),
        cmocka_unit_test(packet_never_joins_a_lookup_that_was_sent),
        cmocka_unit_test(run_holds_equal_plans_only),
        cmocka_unit_test(flows_do_not_wait_for_each_other),
        cmocka_unit_test(conflict_reruns_on_the_answer),
        cmocka_unit_test(conflict_with_a_deletion_looks_up_afresh),
        cmocka_unit_test(conflict_is_given_up_after_three_reruns),
        cmocka_unit_test(run_conflicts_as_a_whole),
        cmocka_unit_test(entry_with_a_patched_key_is_the_one_written),
        cmocka_unit_test(deletion_ends_the_run),
        cmocka_unit_test(creation_of_one_key_twice_is_two_runs),
        cmocka_unit_test(what_a_packet_created_is_a_hit_for_the_next),
        cmocka_unit_test(second_round_is_shared_by_the_run),
        cmocka_unit_test(packet_that_wants_a_round_ends_the_run),
        cmocka_unit_test(chain_runs_backwards_from_outside),
        cmocka_unit_test(chain_keeps_order_and_splits_where_plans_differ),
        cmocka_unit_test(conflict_reruns_only_its_own_nf),
        cmocka_unit_test(reply_skips_the_chain_and_turns_round),
        cmocka_unit_test(async_adds_merge_and_are_not_waited_for),
        cmocka_unit_test(adds_of_one_hash_slot_are_one_txn),
        cmocka_unit_test(adds_of_a_discarded_pass_are_not_sent),
        cmocka_unit_test(adds_wait_for_room_and_go_once),
        cmocka_unit_test(each_refusal_has_its_reason),
        cmocka_unit_test(damaged_packets_are_dropped_by_fault),
        cmocka_unit_test(refused_lookup_is_shown_to_the_nf),
        cmocka_unit_test(silent_store_times_out_and_late_answers_find_nothing),
        cmocka_unit_test(full_backend_times_out_too),
        cmocka_unit_test(discarding_forgets_everything),
        cmocka_unit_test(window_is_bounded_in_packets_and_bursts),
        cmocka_unit_test(working_copy_does_not_outlive_the_call),
        cmocka_unit_test(self_cannot_be_written),
        cmocka_unit_test(nothing_is_allocated_per_packet),
        cmocka_unit_test(random_traffic_keeps_order_and_counts),
        cmocka_unit_test(an_expiry_reaches_the_nf),
        cmocka_unit_test(an_expiry_without_room_for_its_add_comes_again),
        cmocka_unit_test(an_expiry_between_packets_disturbs_none),
        cmocka_unit_test(events_need_a_backend_that_has_some),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
