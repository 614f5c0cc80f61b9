/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Planned changes: rows for each way a hold ends, and a random schedule against
 * workers that take long: whatever happens nothing is lost, and as long as holds
 * end by their markers nothing is overtaken.
 */
#include "tests/check.h"

#include <stdlib.h>
#include <string.h>

#include "steering/hold.h"

enum { SIZE = 8, ROOM = 64, TIMEOUT_US = 1000 };

static struct hold *h;
static uint16_t table[2][SIZE]; /* before, after */
static uintptr_t gone[ROOM];
static int gone_n;

static int by_table(void *ctx, uint64_t hash)
{
    uint16_t w = table[1][hash % SIZE];
    return w == 0xffff ? -1 : w;
}

static void note_lost(void *ctx, void *packet)
{
    gone[gone_n++] = (uintptr_t)packet;
}

static void owners(uint16_t *t, const char *digits)
{
    for (int b = 0; b < SIZE; b++)
        t[b] = digits[b] == '-' ? 0xffff : (uint16_t)(digits[b] - '0');
}

/* Returns who waits. */
static uint64_t change(const char *before, const char *after, uint64_t planned)
{
    owners(table[0], before);
    owners(table[1], after);
    return hold_begin(h, table[0], table[1], planned, 5000);
}

static bool put(uint32_t bucket, uintptr_t packet)
{
    return hold_put(h, bucket, (void *)packet, bucket, (uint8_t)(packet % 2), 5000);
}

static void release(unsigned owner)
{
    hold_release(h, owner, by_table, note_lost, NULL);
}

/* All of a backlog, as a text of numbers. */
static const char *backlog(unsigned worker, uint8_t side)
{
    static char text[ROOM * 8];
    void *packets[ROOM];
    uint32_t n = hold_backlog_peek(h, worker, side, packets, ROOM);
    int used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < n; i++)
        used += sprintf(text + used, "%s%u", i ? " " : "", (unsigned)(uintptr_t)packets[i]);
    return text;
}

static int start(void **state)
{
    gone_n = 0;
    return hold_create(SIZE, ROOM, TIMEOUT_US, 100, &h);
}

static int stop(void **state)
{
    hold_destroy(h);
    return 0;
}

static void only_buckets_of_those_that_answer_are_held(void **state)
{
    assert_int_equal(change("01201-33", "01144433", 1 << 0 | 1 << 2 | 1 << 3), 1 << 0 | 1 << 2);
    static const bool wanted[SIZE] = {false, false, true, true, false, false, false, false};
    for (uint32_t b = 0; b < SIZE; b++)
        CHECK(hold_wants(h, b) == wanted[b], "bucket %u", b);
    assert_int_equal(h->number, 101);
}

static void a_change_that_moves_nothing_holds_nothing(void **state)
{
    assert_int_equal(change("01010101", "01010101", 3), 0);
    assert_int_equal(change("--------", "01010101", 3), 0);
    assert_false(hold_wants(h, 0));
}

static void both_markers_release_in_order_and_by_side(void **state)
{
    assert_int_equal(change("00001111", "00221122", 3), 3);
    for (uintptr_t i = 10; i < 18; i++)
        assert_true(put(i % 2 ? 2 : 3, i));
    assert_true(put(6, 20));
    assert_int_equal(hold_returned(h, 0, 1, 101), HOLD_ONE);
    assert_int_equal(hold_returned(h, 0, 1, 101), HOLD_STALE);
    assert_int_equal(hold_returned(h, 0, 0, 101), HOLD_BOTH);
    assert_int_equal(hold_release(h, 0, by_table, note_lost, NULL), 8);
    assert_string_equal(backlog(2, 0), "10 12 14 16");
    assert_string_equal(backlog(2, 1), "11 13 15 17");
    assert_int_equal(h->kept_n, 1);
    assert_int_equal(h->waits, 2);
    assert_false(hold_wants(h, 2));
    assert_true(hold_wants(h, 6));
    hold_backlog_pop(h, 2, 0, 3);
    assert_true(hold_backlog_put(h, 2, 0, (void *)30, 0, 5000)); /* not held: behind those */
    assert_string_equal(backlog(2, 0), "16 30");
    release(1);
    assert_string_equal(backlog(2, 0), "16 30 20");
    hold_backlog_pop(h, 2, 0, 3);
    assert_int_equal(h->backlogged, 1 << 2);
    hold_backlog_pop(h, 2, 1, 4);
    assert_int_equal(h->backlogged, 0);
    assert_int_equal(h->backlog_n + h->kept_n, 0);
}

static void markers_of_others_and_of_other_changes_prove_nothing(void **state)
{
    change("00000000", "11110000", 1);
    static const struct { unsigned owner; uint8_t side; uint64_t number; } rows[] = {
        {0, 0, 100}, {0, 0, 102}, {1, 0, 101}, {0, 2, 101}, {64, 0, 101}, {200, 0, 101}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        CHECK(hold_returned(h, rows[i].owner, rows[i].side, rows[i].number) == HOLD_STALE, "row %zu",
              i);
    assert_int_equal(hold_returned(h, 0, 0, 101), HOLD_ONE);
    assert_int_equal(hold_returned(h, 0, 1, 101), HOLD_BOTH);
    release(0);
    assert_int_equal(hold_returned(h, 0, 1, 101), HOLD_STALE);
}

static void time_and_room_are_bounded(void **state)
{
    change("00001111", "22222222", 3);
    assert_int_equal(hold_overdue(h, 5000 + TIMEOUT_US - 1), 0);
    assert_int_equal(hold_overdue(h, 5000 + TIMEOUT_US), 3);
    release(1);
    assert_int_equal(hold_overdue(h, 5000 + TIMEOUT_US), 1);
    for (uintptr_t i = 0; i < ROOM; i++)
        assert_true(put(0, i));
    assert_false(put(0, 99));
    release(0);
    assert_false(hold_backlog_put(h, 2, 0, (void *)99, 0, 5000)); /* a backlog takes the same room */
    hold_backlog_pop(h, 2, 1, 1);
    assert_true(hold_backlog_put(h, 2, 0, (void *)99, 0, 5000));
}

static void the_backlog_of_a_lost_worker_moves_on(void **state)
{
    change("00000000", "11111111", 1);
    for (uintptr_t i = 0; i < 6; i++)
        put((uint32_t)i, i);
    release(0);
    owners(table[1], "2-2-2233");
    hold_backlog_move(h, 1, by_table, note_lost, NULL);
    assert_string_equal(backlog(2, 0), "0 2 4");
    assert_string_equal(backlog(2, 1), "5");
    assert_int_equal(gone_n, 2);
    assert_int_equal(gone[0] + gone[1], 1 + 3);
    assert_int_equal(h->backlogged, 1 << 2);
    hold_backlog_move(h, 2, by_table, note_lost, NULL); /* onto itself: it is the last */
    assert_string_equal(backlog(2, 0), "0 2 4");
    hold_backlog_pop(h, 2, 0, 3);
    hold_backlog_pop(h, 2, 1, 1);
    for (uintptr_t i = 0; i < ROOM; i++)
        assert_true(hold_backlog_put(h, 2, 0, (void *)i, 0, 5000)); /* no place was lost */
}

static void what_is_old_in_a_backlog_is_found(void **state)
{
    void *old[ROOM];
    change("00000000", "11111111", 1);
    for (uintptr_t i = 0; i < 6; i += 2)
        assert_true(put(0, i)); /* at 5000 */
    assert_true(hold_backlog_put(h, 1, 0, (void *)50, 0, 5200));
    release(0);
    assert_true(hold_backlog_put(h, 1, 0, (void *)60, 0, 5900));
    assert_string_equal(backlog(1, 0), "50 0 2 4 60");
    static const struct { uint64_t run_us; uint32_t max, n; } rows[] = {
        {5200, ROOM, 0}, {6199, ROOM, 0}, {6200, ROOM, 4}, {6899, ROOM, 4}, {6900, ROOM, 5}, {6900, 2, 2}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint32_t n = hold_backlog_old(h, 1, 0, rows[i].run_us, TIMEOUT_US, old, rows[i].max);
        CHECK(n == rows[i].n && (n == 0 || (uintptr_t)old[0] == 50), "row %zu: %u", i, n);
    }
    assert_int_equal(hold_backlog_old(h, 1, 1, 9000, TIMEOUT_US, old, ROOM), 0);
    hold_backlog_move(h, 1, by_table, note_lost, NULL); /* no younger by that */
    assert_int_equal(hold_backlog_old(h, 1, 0, 6200, TIMEOUT_US, old, ROOM), 4);
}

/* --- random schedules --------------------------------------------------------------- */

/* Workers with two rings of RING, that hold packets as long as they like and send
 * those of one bucket and side in order. A marker is MARKER + the change's number. */
enum { WORKERS = 4, BUCKETS = 24, RING = 40, PER_FLOW = 100000, FLIGHT = 30 };
#define MARKER 0x80000000u

struct model_worker {
    uint32_t ring[2][RING], flight[FLIGHT]; /* flow * PER_FLOW + number */
    uint32_t ring_n[2], flight_n;
    uint8_t came, sent;                     /* bits: markers read, markers put */
    uint32_t barrier;                       /* packets of flight[] that came before them */
};

static struct {
    uint64_t rng;
    uint16_t table[BUCKETS];
    struct model_worker w[WORKERS];
    uint32_t put[2 * BUCKETS], out[2 * BUCKETS], total_put, total_out, dropped;
    uint64_t run_us;
    int changes, by_marker, overdue, full, overtaken;
    bool late;                              /* a hold ended otherwise: order is lost */
    bool careless, hasty;                   /* planted: nothing is held; one marker is enough */
} m;

static uint32_t chance(uint32_t n)
{
    m.rng ^= m.rng << 13, m.rng ^= m.rng >> 7, m.rng ^= m.rng << 17;
    return (uint32_t)(m.rng >> 33) % n;
}

static int model_pick(void *ctx, uint64_t hash)
{
    return m.table[hash % BUCKETS];
}

static void model_lost(void *ctx, void *packet)
{
    CHECK(false, "packet %u had nowhere to go", (unsigned)(uintptr_t)packet);
}

static bool into_ring(unsigned worker, uint8_t side, uint32_t what)
{
    struct model_worker *w = &m.w[worker];
    if (w->ring_n[side] == RING)
        return false;
    w->ring[side][w->ring_n[side]++] = what;
    return true;
}

static void model_release(uint64_t who, int *count)
{
    for (; who != 0; who &= who - 1) {
        hold_release(h, (unsigned)__builtin_ctzll(who), model_pick, model_lost, NULL);
        ++*count;
        m.late |= count != &m.by_marker;
    }
}

static void model_rings(void)
{
    for (unsigned w = 0; w < WORKERS; w++)
        for (uint8_t side = 0; side < 2; side++) {
            void *first;
            while (hold_backlog_peek(h, w, side, &first, 1) == 1 &&
                   into_ring(w, side, (uint32_t)(uintptr_t)first))
                hold_backlog_pop(h, w, side, 1);
            bool marks = (h->waits >> w & 1) && !(m.w[w].sent >> side & 1);
            if (marks && hold_backlog(h, w, side) == 0 && into_ring(w, side, MARKER))
                m.w[w].sent |= (uint8_t)(1u << side);
        }
}

/* Packets that find a full ring and no room wait outside: the model has no drops. */
static void model_packet(void)
{
    uint32_t bucket = chance(BUCKETS), side = chance(2), flow = bucket * 2 + side;
    uint32_t what = flow * PER_FLOW + m.put[flow];
    unsigned w = m.table[bucket];
    if (!m.careless && hold_wants(h, bucket)) {
        if (!hold_put(h, bucket, (void *)(uintptr_t)what, bucket, (uint8_t)side, m.run_us)) {
            model_release(h->waits, &m.full);
            return;
        }
    } else if (hold_backlog(h, w, (uint8_t)side) > 0 || !into_ring(w, (uint8_t)side, what)) {
        if (!hold_backlog_put(h, w, (uint8_t)side, (void *)(uintptr_t)what, bucket, m.run_us))
            return;
    }
    m.put[flow]++;
    m.total_put++;
}

static void model_change(void)
{
    uint16_t next[BUCKETS];
    if (h->waits != 0)
        return;
    memcpy(next, m.table, sizeof(next));
    for (int i = 0; i < BUCKETS / 2; i++)
        next[chance(BUCKETS)] = (uint16_t)chance(WORKERS);
    hold_begin(h, m.table, next, (1 << WORKERS) - 1, m.run_us);
    memcpy(m.table, next, sizeof(next));
    for (int w = 0; w < WORKERS; w++)
        m.w[w].came = m.w[w].sent = 0;
    m.changes++;
}

static void model_send(struct model_worker *w)
{
    uint32_t at = chance(w->flight_n);
    for (uint32_t i = 0; i < at; i++) /* the first of that flow */
        if (w->flight[i] / PER_FLOW == w->flight[at] / PER_FLOW)
            at = i;
    uint32_t flow = w->flight[at] / PER_FLOW, number = w->flight[at] % PER_FLOW;
    m.overtaken += number != m.out[flow] && !m.late;
    m.out[flow] = number + 1;
    m.total_out++;
    w->barrier -= at < w->barrier;
    memmove(&w->flight[at], &w->flight[at + 1], (--w->flight_n - at) * sizeof(w->flight[0]));
}

static void model_read(struct model_worker *w, uint8_t side)
{
    if (w->ring_n[side] == 0 || w->flight_n == FLIGHT)
        return;
    uint32_t what = w->ring[side][0];
    memmove(w->ring[side], w->ring[side] + 1, --w->ring_n[side] * sizeof(what));
    if (what != MARKER) {
        w->flight[w->flight_n++] = what;
        return;
    }
    w->came |= m.hasty ? 3 : (uint8_t)(1u << side);
    if (w->came == 3)
        w->barrier = w->flight_n;
}

static void model_worker(unsigned number)
{
    struct model_worker *w = &m.w[number];
    model_read(w, (uint8_t)chance(2));
    if (w->flight_n > 0 && chance(3) > 0)
        model_send(w);
    if (w->came != 3 || w->barrier > 0)
        return;
    w->came = 0;
    uint8_t first = (uint8_t)chance(2);
    hold_returned(h, number, first, h->number);
    if (hold_returned(h, number, !first, h->number) == HOLD_BOTH)
        model_release(1ull << number, &m.by_marker);
}

static void model_settle(void)
{
    for (int i = 0; i < 100000 && m.total_out < m.total_put; i++) {
        model_rings();
        model_worker(chance(WORKERS));
    }
    CHECK(m.total_out == m.total_put, "%u packets in, %u out", m.total_put, m.total_out);
}

/* `slow`: how seldom workers do something; the markers of slow ones are overdue. */
static void schedule(uint64_t seed, uint32_t slow, uint64_t timeout_us)
{
    bool careless = m.careless, hasty = m.hasty;
    memset(&m, 0, sizeof(m));
    m.careless = careless;
    m.hasty = hasty;
    m.rng = seed * 0x9e3779b97f4a7c15ull;
    assert_int_equal(hold_create(BUCKETS, ROOM, timeout_us, seed, &h), 0);
    for (int step = 0; step < 20000; step++) {
        m.run_us++;
        if (chance(4) == 0)
            model_packet();
        if (chance(200) == 0)
            model_change();
        model_release(hold_overdue(h, m.run_us), &m.overdue);
        model_rings();
        if (chance(slow) == 0)
            model_worker(chance(WORKERS));
    }
    model_release(h->waits, &m.full);
    model_settle();
    hold_destroy(h);
}

static void nothing_is_lost_nor_overtaken_under_random_schedules(void **state)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        schedule(seed, 1, 1u << 30);
        CHECK(m.overtaken == 0, "seed %d: %d overtaken", (int)seed, m.overtaken);
        CHECK(m.changes > 20 && m.by_marker > 30 && m.full <= WORKERS, "seed %d: %d changes, %d ends",
              (int)seed, m.changes, m.by_marker);
    }
}

static void nothing_is_lost_when_markers_are_late_or_room_is_short(void **state)
{
    int overdue = 0, full = 0;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        schedule(seed, seed % 2 ? 3 : 8, seed % 3 ? 300 : 1u << 30);
        overdue += m.overdue;
        full += m.full;
    }
    CHECK(overdue > 20 && full > 20, "%d overdue, %d full", overdue, full);
}

/* The schedules find what they are for. */
static void what_is_broken_on_purpose_is_found(void **state)
{
    for (int i = 0; i < 2; i++) {
        int found = 0;
        m.careless = i == 0;
        m.hasty = i == 1;
        for (uint64_t seed = 1; seed <= 30; seed++) {
            schedule(seed, 1, 1u << 30);
            found += m.overtaken > 0;
        }
        CHECK(found > 10, "%s: found by %d seeds of 30", i ? "hasty" : "careless", found);
    }
    m.careless = m.hasty = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_buckets_of_those_that_answer_are_held, start, stop),
        cmocka_unit_test_setup_teardown(a_change_that_moves_nothing_holds_nothing, start, stop),
        cmocka_unit_test_setup_teardown(both_markers_release_in_order_and_by_side, start, stop),
        cmocka_unit_test_setup_teardown(markers_of_others_and_of_other_changes_prove_nothing, start,
                                        stop),
        cmocka_unit_test_setup_teardown(time_and_room_are_bounded, start, stop),
        cmocka_unit_test_setup_teardown(the_backlog_of_a_lost_worker_moves_on, start, stop),
        cmocka_unit_test_setup_teardown(what_is_old_in_a_backlog_is_found, start, stop),
        cmocka_unit_test(nothing_is_lost_nor_overtaken_under_random_schedules),
        cmocka_unit_test(what_is_broken_on_purpose_is_found),
        cmocka_unit_test(nothing_is_lost_when_markers_are_late_or_room_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
