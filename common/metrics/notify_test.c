/* SPDX-License-Identifier: BSD-3-Clause */
/* What a supervisor hears: readiness when it is so, changes once, a heartbeat only of what goes round. */
#include "tests/check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/metrics/notify.h"

static struct { char dir[64], path[100], heard[300]; int fd; atomic_bool sick, waits; atomic_uint looks; } w;

static void healthy(void *ctx, char *why, uint32_t len)
{
    atomic_fetch_add(&w.looks, 1);
    if (atomic_load(&w.sick))
        snprintf(why, len, "it stands still");
}

static void ready(void *ctx, char *why, uint32_t len)
{
    if (atomic_load(&w.waits))
        snprintf(why, len, "it waits\nfor more");
}

static void says(void *ctx, char *text, uint32_t len)
{
    snprintf(text, len, "%s", (const char *)ctx);
}

static void listen_at(const char *name, bool abstract)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = 20};
    int n = snprintf(at.sun_path, sizeof at.sun_path, "%s", name);
    at.sun_path[0] = abstract ? 0 : at.sun_path[0];
    w.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(w.fd, (struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n + !abstract)), 0);
    setsockopt(w.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setenv("NOTIFY_SOCKET", name, 1);
}

static int set_up(void **state)
{
    memset(&w, 0, sizeof w);
    snprintf(w.dir, sizeof w.dir, "/tmp/lethe-notify-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    snprintf(w.path, sizeof w.path, "%s/socket", w.dir);
    listen_at(w.path, false);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return 0;
}

static int tear_down(void **state)
{
    close(w.fd);
    unlink(w.path);
    return rmdir(w.dir);
}

/* The next datagram that is no heartbeat; "": none came. */
static const char *heard(bool heartbeats)
{
    ssize_t n;
    do {
        n = recv(w.fd, w.heard, sizeof w.heard - 1, 0);
        w.heard[n > 0 ? n : 0] = 0;
    } while (n > 0 && !heartbeats && !strcmp(w.heard, "WATCHDOG=1"));
    return w.heard;
}

static void it_is_told_when_it_is_ready_and_each_change_once(void **state)
{
    atomic_store(&w.waits, true);
    struct notify *n = notify_start(healthy, ready, NULL, NULL);
    assert_string_equal(heard(true), "STATUS=it waits");
    for (uint32_t before = atomic_load(&w.looks); atomic_load(&w.looks) < before + 2;)
        usleep(1000); /* the same again, which is not told again */
    atomic_store(&w.waits, false);
    assert_string_equal(heard(true), "READY=1\nSTATUS=ready");
    atomic_store(&w.waits, true);
    assert_string_equal(heard(true), "STATUS=it waits");
    atomic_store(&w.waits, false);
    assert_string_equal(heard(true), "STATUS=ready");
    notify_stop(n, true);
    assert_string_equal(heard(true), "STOPPING=1\nSTATUS=stopping");
}

static void what_stands_still_has_no_heartbeat(void **state)
{
    setenv("WATCHDOG_USEC", "30000", 1);
    struct notify *n = notify_start(healthy, ready, says, "leads");
    assert_string_equal(heard(false), "READY=1\nSTATUS=leads");
    for (int i = 0; i < 3; i++)
        assert_string_equal(heard(true), "WATCHDOG=1");
    atomic_store(&w.sick, true);
    for (uint32_t before = atomic_load(&w.looks); atomic_load(&w.looks) < before + 2;)
        usleep(1000); /* from the second look on it is known */
    while (recv(w.fd, w.heard, sizeof w.heard, MSG_DONTWAIT) > 0)
        continue;
    for (uint32_t before = atomic_load(&w.looks); atomic_load(&w.looks) < before + 6;)
        usleep(1000);
    assert_true(recv(w.fd, w.heard, sizeof w.heard, MSG_DONTWAIT) < 0);
    atomic_store(&w.sick, false);
    assert_string_equal(heard(true), "WATCHDOG=1");
    notify_stop(n, true);
}

/* A supervisor that is busy: its queue is full of others' words. It hears it all the same, later. */
static void readiness_is_not_lost_in_a_full_queue(void **state)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s", w.path);
    while (sendto(fd, "x", 1, MSG_DONTWAIT, (struct sockaddr *)&at, sizeof at) == 1)
        continue;
    struct notify *n = notify_start(healthy, ready, NULL, NULL);
    while (atomic_load(&w.looks) < 2) /* the first word found no room */
        usleep(1000);
    while (!strcmp(heard(true), "x"))
        continue;
    assert_string_equal(w.heard, "READY=1\nSTATUS=ready");
    notify_stop(n, true);
    close(fd);
}

/* WATCHDOG_PID: the supervisor means another process. */
static void another_ones_watchdog_is_left_alone(void **state)
{
    setenv("WATCHDOG_USEC", "3000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    struct notify *n = notify_start(healthy, ready, NULL, NULL);
    assert_string_equal(heard(true), "READY=1\nSTATUS=ready");
    for (uint32_t before = atomic_load(&w.looks); atomic_load(&w.looks) < before + 3;)
        usleep(1000);
    notify_stop(n, true);
    assert_string_equal(heard(true), "STOPPING=1\nSTATUS=stopping");
}

static void an_abstract_socket_is_heard_and_children_do_not_know_it(void **state)
{
    char name[80];
    close(w.fd);
    snprintf(name, sizeof name, "@%s", w.dir);
    listen_at(name, true);
    notify_hide();
    assert_null(getenv("NOTIFY_SOCKET"));
    struct notify *n = notify_start(healthy, ready, NULL, NULL);
    assert_string_equal(heard(true), "READY=1\nSTATUS=ready");
    notify_stop(n, false);
    assert_string_equal(heard(true), "STATUS=begins anew");
    notify_show();
    assert_string_equal(getenv("NOTIFY_SOCKET"), name);
    setenv("NOTIFY_SOCKET", w.path, 1);
    notify_hide();
}

static void without_a_supervisor_there_is_nothing(void **state)
{
    static const char *const wrong[] = {"", "relative", "vsock:2:1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        setenv("NOTIFY_SOCKET", wrong[i], 1);
        notify_hide();
        assert_null(notify_start(healthy, ready, NULL, NULL));
    }
    notify_stop(NULL, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(it_is_told_when_it_is_ready_and_each_change_once), T(what_stands_still_has_no_heartbeat),
        T(readiness_is_not_lost_in_a_full_queue), T(another_ones_watchdog_is_left_alone),
        T(an_abstract_socket_is_heard_and_children_do_not_know_it),
        T(without_a_supervisor_there_is_nothing),
    };
    log_init("notify_test", "", LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
