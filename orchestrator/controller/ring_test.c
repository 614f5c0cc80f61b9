/* SPDX-License-Identifier: BSD-3-Clause */
/* The ring of events: order, what is forgotten, and waiting. */
#include "tests/check.h"

#include <pthread.h>
#include <stdbool.h>

#include "orchestrator/controller/events.h"

static json_int_t field(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static void they_are_told_in_order_with_their_causes(void **state)
{
    struct events *e = events_create();
    uint64_t first = events_add(e, EVENT_EXIT, "nf-1", 0, json_pack("{s:i}", "pid", 7), "signal %d", 9);
    events_add(e, EVENT_START, "nf-1", first, NULL, "it ended \"badly\"\n\xff");
    json_t *o = events_after(e, 0, 10, 0);
    const json_t *list = json_object_get(o, "events"), *second = json_array_get(list, 1);
    assert_int_equal(json_array_size(list), 2);
    assert_int_equal(field(second, "because"), first);
    assert_string_equal(json_string_value(json_object_get(second, "cause")), "it ended \"badly\"??");
    assert_string_equal(json_string_value(json_object_get(second, "kind")), "start");
    assert_int_equal(field(json_object_get(json_array_get(list, 0), "detail"), "pid"), 7);
    assert_int_equal(field(o, "next"), 2);
    json_decref(o);
    o = events_after(e, 0, 1, 0);
    assert_int_equal(field(o, "next"), 1);
    json_decref(o);
    events_destroy(e);
}

static void what_is_forgotten_is_counted(void **state)
{
    struct events *e = events_create();
    for (int i = 0; i < EVENTS_KEPT + 100; i++)
        events_add(e, EVENT_SCALE, "nf", 0, NULL, "%d", i);
    json_t *o = events_after(e, 40, EVENTS_ANSWER_MAX, 0);
    assert_int_equal(field(o, "lost"), 60);
    assert_int_equal(field(o, "oldest"), 101);
    assert_int_equal(field(json_array_get(json_object_get(o, "events"), 0), "seq"), 101);
    assert_int_equal(json_array_size(json_object_get(o, "events")), EVENTS_ANSWER_MAX);
    json_decref(o);
    o = events_after(e, 1u << 30, 10, 0); /* of another life */
    assert_int_equal(json_array_size(json_object_get(o, "events")), 0);
    assert_int_equal(field(o, "next"), EVENTS_KEPT + 100);
    json_decref(o);
    events_destroy(e);
}

static void *ask(void *ctx)
{
    return events_after(ctx, 0, 10, EVENTS_WAIT_MAX_MS);
}

static void who_waits_is_told(void **state)
{
    struct events *e = events_create();
    pthread_t waits;
    json_t *o;
    pthread_create(&waits, NULL, ask, e);
    events_add(e, EVENT_SITE, "site", 0, NULL, "up");
    pthread_join(waits, (void **)&o);
    assert_int_equal(json_array_size(json_object_get(o, "events")), 1);
    json_decref(o);
    events_destroy(e);
    e = events_create();
    pthread_create(&waits, NULL, ask, e);
    events_close(e);
    pthread_join(waits, (void **)&o);
    assert_int_equal(json_array_size(json_object_get(o, "events")), 0);
    json_decref(o);
    events_destroy(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_are_told_in_order_with_their_causes),
        cmocka_unit_test(what_is_forgotten_is_counted),
        cmocka_unit_test(who_waits_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
