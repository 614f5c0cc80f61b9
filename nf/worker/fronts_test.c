/* SPDX-License-Identifier: BSD-3-Clause */
/* Joining by tunnel: the worker's part against a small steering that judges as the real one does. */
#include "tests/check.h"

#include "nf/worker/fronts.h"

enum { MTU = 1500, LONG_FRAME = MTU - 36, SECOND = 1000 * 1000 };

static const uint8_t key[PROBE_KEY_BYTES] = {7, 7}, mac[6] = {2, 0, 0, 0, 0, 9};

static struct fronts fronts;
static struct front *const f = &fronts.at[0];
static struct steering {       /* the other end */
    uint64_t incarnation, now_us;
    struct tunnel_seen seen;
    unsigned joins, stale;
    uint32_t carries;          /* longer inner frames get lost */
} steering;
static uint64_t now_us;

static int setup(void **state)
{
    memset(&fronts, 0, sizeof(fronts));
    fronts.n = 1;
    fronts.weight = 100;
    fronts.address = 0x0101090a;
    fronts.incarnation = 77;
    fronts.silent_us = 2 * SECOND;
    fronts.wants = true;
    memcpy(fronts.key, key, sizeof(fronts.key));
    snprintf(fronts.name, sizeof(fronts.name), "w1");
    steering = (struct steering){.incarnation = 5, .now_us = 1000, .carries = LONG_FRAME};
    now_us = SECOND;
    return 0;
}

/* What steering answers, signed; 0: nothing. */
static int judge(const struct tunnel_message *m, struct tunnel_message *answer)
{
    *answer = *m;
    assert_int_equal(m->address, fronts.address); /* else the real one takes it for another's */
    steering.now_us += 10;
    enum tunnel_verdict v = tunnel_judge(&steering.seen, m, steering.incarnation, 0, steering.now_us);
    if (v == TUNNEL_STALE) {
        steering.stale++;
        return 0;
    }
    answer->kind = v == TUNNEL_UNKNOWN_TIME ? TUNNEL_AGAIN
                   : m->kind == TUNNEL_JOIN ? TUNNEL_WELCOME : TUNNEL_LEFT;
    if (v == TUNNEL_FRESH) {
        steering.seen = (struct tunnel_seen){m->issued_us, m->seq};
        steering.joins += m->kind == TUNNEL_JOIN;
    }
    answer->front = steering.incarnation;
    answer->issued_us = steering.now_us;
    answer->worker = 3;
    answer->mtu = MTU;
    tunnel_sign(answer, key);
    return 1;
}

static enum front_result result;

/* One message, if one is due, to steering and its answer back. False: none was due, or it got lost. */
static bool exchange(void)
{
    struct tunnel_message m, answer;
    uint32_t bytes;
    if (!front_due(&fronts, f, MTU, now_us, &m, &bytes) || bytes > steering.carries)
        return false;
    assert_true(tunnel_verify(&m, key));
    if (!judge(&m, &answer))
        return false;
    result = front_answer(&fronts, f, mac, &answer, bytes, now_us);
    return true;
}

static void run_ms(unsigned ms)
{
    for (unsigned i = 0; i < ms; i += 20) {
        exchange();
        front_tick(&fronts, f, now_us);
        now_us += 20000;
        steering.now_us += 20000;
    }
}

static void joins_in_two_exchanges_and_stays(void **state)
{
    assert_true(exchange());
    assert_int_equal(result, FRONT_HEARD); /* AGAIN */
    assert_false(f->joined);
    assert_true(exchange()); /* at once */
    assert_int_equal(result, FRONT_JOINED);
    assert_int_equal(f->number, 3);
    assert_memory_equal(f->mac, mac, 6);
    assert_false(exchange()); /* not due */
    run_ms(20000);
    assert_true(f->joined);
    assert_in_range(steering.joins, 80, 120);
    assert_int_equal(steering.stale, 0);
}

static void nothing_is_sent_before_it_is_wanted_or_without_a_way(void **state)
{
    struct tunnel_message m;
    uint32_t bytes;
    fronts.wants = false;
    assert_false(front_due(&fronts, f, MTU, now_us, &m, &bytes));
    fronts.wants = true;
    assert_false(front_due(&fronts, f, 0, now_us, &m, &bytes));
    assert_false(front_farewell(&fronts, f, &m)); /* nobody knows us */
}

static void a_restarted_steering_is_joined_again(void **state)
{
    run_ms(1000);
    assert_true(f->joined);
    steering = (struct steering){.incarnation = 6, .now_us = 50, .carries = LONG_FRAME};
    now_us += SECOND;
    assert_true(exchange()); /* AGAIN: it knows nothing of us */
    assert_false(f->joined);
    assert_true(exchange());
    assert_int_equal(result, FRONT_JOINED);
}

static void a_silent_steering_is_left_and_found_again(void **state)
{
    run_ms(1000);
    steering.carries = 0;
    run_ms(3000);
    assert_false(f->joined);
    steering.carries = LONG_FRAME;
    run_ms(1000);
    assert_true(f->joined);
}

/* Short messages pass, and packets of the MTU would not: it says so, and does not join. */
static void a_path_that_loses_long_packets_joins_nobody(void **state)
{
    steering.carries = LONG_FRAME - 1;
    run_ms(20000);
    assert_true(f->known);
    assert_false(f->joined);
    assert_true(f->short_answers > 8);
    steering.carries = LONG_FRAME;
    run_ms(1000);
    assert_true(f->joined);
    assert_int_equal(f->short_answers, 0);
}

static void leaving_is_said_until_it_is_answered_and_goes_on(void **state)
{
    struct tunnel_message m;
    run_ms(1000);
    fronts.leaves = true;
    f->next_us = 0;
    assert_true(exchange());
    assert_true(f->left);
    now_us += SECOND;
    assert_true(exchange()); /* so that the rest of its packets is still taken */
    assert_true(front_farewell(&fronts, f, &m));
    assert_int_equal(m.kind, TUNNEL_GONE);
    assert_int_equal(tunnel_judge(&steering.seen, &m, steering.incarnation, 0, steering.now_us + 20),
                     TUNNEL_FRESH);
}

enum change { KEY, KIND, INCARNATION, NAME, SEQ_OLD, SEQ_AHEAD, REPLAY };
static const struct { const char *name; enum change what; enum front_result want; } rows[] = {
    {"another key", KEY, FRONT_FORGED},
    {"a worker's message", KIND, FRONT_IGNORED},
    {"to an earlier process", INCARNATION, FRONT_IGNORED},
    {"to another name", NAME, FRONT_IGNORED},
    {"to an earlier message", SEQ_OLD, FRONT_STALE},
    {"to a message not sent yet", SEQ_AHEAD, FRONT_STALE},
    {"twice", REPLAY, FRONT_STALE},
};

static void answers_that_are_not_ours_change_nothing(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct tunnel_message m, a;
        uint32_t bytes;
        setup(NULL);
        run_ms(1000);
        now_us += SECOND;
        assert_true(front_due(&fronts, f, MTU, now_us, &m, &bytes));
        assert_true(judge(&m, &a));
        a.seq = rows[i].what == SEQ_OLD ? a.seq - 1 : rows[i].what == SEQ_AHEAD ? a.seq + 1 : a.seq;
        a.kind = rows[i].what == KIND ? TUNNEL_JOIN : a.kind;
        a.incarnation += rows[i].what == INCARNATION;
        a.name[1] = rows[i].what == NAME ? '2' : '1';
        tunnel_sign(&a, rows[i].what == KEY ? (const uint8_t[PROBE_KEY_BYTES]){1} : key);
        if (rows[i].what == REPLAY)
            front_answer(&fronts, f, mac, &a, bytes, now_us);
        struct fronts was = fronts;
        enum front_result r = front_answer(&fronts, f, (const uint8_t[6]){6, 6, 6}, &a, bytes, now_us + 1);
        CHECK(r == rows[i].want, "%s: %d", rows[i].name, r);
        CHECK(memcmp(&was, &fronts, sizeof(was)) == 0, "%s: something changed", rows[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(joins_in_two_exchanges_and_stays, setup),
        cmocka_unit_test_setup(nothing_is_sent_before_it_is_wanted_or_without_a_way, setup),
        cmocka_unit_test_setup(a_restarted_steering_is_joined_again, setup),
        cmocka_unit_test_setup(a_silent_steering_is_left_and_found_again, setup),
        cmocka_unit_test_setup(a_path_that_loses_long_packets_joins_nobody, setup),
        cmocka_unit_test_setup(leaving_is_said_until_it_is_answered_and_goes_on, setup),
        cmocka_unit_test_setup(answers_that_are_not_ours_change_nothing, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
