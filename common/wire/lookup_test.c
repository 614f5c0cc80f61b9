/* SPDX-License-Identifier: BSD-3-Clause */
/* Names are looked up beside; a lookup may be dropped at any moment. */
#include "tests/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>

#include "common/wire/lookup.h"

enum { PATIENCE_MS = 60000 };

static int threads_first;

static void await(const struct lookup *l)
{
    struct pollfd p = {.fd = lookup_fd(l), .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
}

static void a_name_becomes_addresses(void **state)
{
    struct addrinfo *found = NULL;
    const char *why;
    struct lookup *l = lookup_start("127.0.0.1", 7400); /* a clean root has no /etc/hosts */
    assert_non_null(l);
    await(l);
    assert_true(lookup_done(l, &found, &why));
    assert_non_null(found);
    assert_int_equal(ntohs(((struct sockaddr_in *)found->ai_addr)->sin_port), 7400);
    lookup_drop(l);
    freeaddrinfo(found); /* ours, not the lookup's */
}

static void a_wrong_name_says_why(void **state)
{
    struct addrinfo *found;
    const char *why = NULL;
    struct lookup *l = lookup_start("name.invalid", 7400);
    assert_non_null(l);
    await(l);
    assert_true(lookup_done(l, &found, &why));
    assert_null(found);
    assert_non_null(why);
    lookup_drop(l);
}

/* As many as there may be, all dropped before they are done, or not: then there is room again. */
static void they_are_bounded_and_may_be_dropped(void **state)
{
    struct lookup *l[4 * LOOKUPS_MAX];
    int started = 0;
    for (int i = 0; i < 4 * LOOKUPS_MAX; i++) {
        if ((l[started] = lookup_start("name.invalid", 1)))
            started++;
        else
            assert_int_equal(errno, EAGAIN);
    }
    assert_true(started >= LOOKUPS_MAX);
    for (int i = 0; i < started; i++)
        lookup_drop(l[i]);
    for (int tries = 0; !(l[0] = lookup_start("name.invalid", 1)); tries++) {
        assert_true(tries < PATIENCE_MS);
        poll(NULL, 0, 1);
    }
    await(l[0]);
    lookup_drop(l[0]); /* done, never asked */
    lookup_drop(NULL);
    for (int tries = 0; check_threads() > threads_first; tries++) { /* what they hold is theirs until they end */
        assert_true(tries < PATIENCE_MS);
        poll(NULL, 0, 1);
    }
}

static void *nothing(void *ctx)
{
    return ctx;
}

int main(void)
{
    pthread_t thread;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_becomes_addresses),
        cmocka_unit_test(a_wrong_name_says_why),
        cmocka_unit_test(they_are_bounded_and_may_be_dropped),
    };
    if (pthread_create(&thread, NULL, nothing, NULL) || pthread_join(thread, NULL))
        return 1;
    threads_first = check_threads(); /* with those that a sanitizer adds to the first one of ours */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
