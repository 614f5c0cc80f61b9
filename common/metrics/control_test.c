/* SPDX-License-Identifier: BSD-3-Clause */
/* The control socket: stats, verbs, errors, bounds; a slow client, a dead
 * program's socket and a live one's. */
#include "tests/check.h"

#include <errno.h>
#include <jansson.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/metrics/control.h"
#include "common/metrics/metrics.h"

enum { PATIENCE_MS = 20000 };

static char folder[] = "/tmp/control_test_XXXXXX", path[100], reply[200000], err[300];
static struct metrics *metrics;
static struct control *control;

static int asked_again, gate_open; /* control thread's, and the test's: atomic */

static void verbs(void *ctx, int argc, char **argv, char *to, uint32_t room)
{
    if (strcmp(argv[0], "echo") == 0)
        snprintf(to, room, "{\"argc\": %d,\n\"last\": \"%s\"}", argc, argv[argc - 1]);
    if (strcmp(argv[0], "wait") == 0 && !__atomic_load_n(&gate_open, __ATOMIC_ACQUIRE)) {
        __atomic_add_fetch(&asked_again, 1, __ATOMIC_RELEASE);
        snprintf(to, room, CONTROL_LATER);
    } else if (strcmp(argv[0], "wait") == 0) {
        snprintf(to, room, "{\"argc\": %d, \"last\": \"%s\"}", argc, argv[argc - 1]);
    }
    if (strcmp(argv[0], "big") == 0) {
        memset(to, 'x', room - 1);
        to[room - 1] = 0;
    }
}

static int start(void **state)
{
    metrics = metrics_create("worker-1");
    return control_start(&control, path, metrics, verbs, NULL, err, sizeof err);
}

static int stop(void **state)
{
    control_stop(control);
    metrics_destroy(metrics);
    return access(path, F_OK) == 0; /* must be gone */
}

static void ask(const char *request)
{
    int bad = control_ask(path, request, reply, sizeof reply, PATIENCE_MS);
    CHECK(bad == 0, "%s: %s", request, strerror(-bad));
}

static int raw_client(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    strcpy(un.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof un), 0);
    return fd;
}

static void stats_are_one_json_object(void **state)
{
    struct metric *packets = metrics_counter(metrics, "lethe_packets_total", "packets");
    metric_set(metrics_gauge(metrics, "lethe_in_flight", "packets held"), 7);
    metric_add(packets, 3);
    metric_add(packets, 2);
    assert_ptr_equal(metrics_counter(metrics, "lethe_packets_total", "packets"), packets);
    ask("stats");
    json_t *o = json_loads(reply, 0, NULL);
    CHECK(o, "%s", reply);
    assert_string_equal(json_string_value(json_object_get(o, "instance")), "worker-1");
    assert_int_equal(json_integer_value(json_object_get(o, "pid")), getpid());
    assert_true(json_is_integer(json_object_get(o, "uptime_ms")));
    assert_int_equal(json_integer_value(json_object_get(o, "lethe_packets_total")), 5);
    assert_int_equal(json_integer_value(json_object_get(o, "lethe_in_flight")), 7);
    json_decref(o);
}

static void full_registry_says_so(void **state)
{
    char name[32];
    for (int i = 0; i < METRICS_MAX; i++) {
        snprintf(name, sizeof name, "lethe_m%d", i);
        CHECK(metrics_counter(metrics, name, ""), "metric %d", i);
    }
    assert_null(metrics_counter(metrics, "lethe_one_too_many", ""));
    ask("stats");
    assert_non_null(strstr(reply, "lethe_m511"));
}

static void verbs_and_errors(void **state)
{
    ask("echo a  b");
    assert_string_equal(reply, "{\"argc\": 3, \"last\": \"b\"}");
    ask("dance");
    assert_string_equal(reply, "{\"error\":\"unknown verb 'dance'\"}");
    ask("\"\xff");
    assert_string_equal(reply, "{\"error\":\"unknown verb '\\\"?'\"}");
    ask("");
    assert_non_null(strstr(reply, "empty request"));
    ask("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33");
    assert_non_null(strstr(reply, "too many words"));
    ask("big");
    assert_true(strlen(reply) > 100000);
    assert_int_equal(control_ask(path, "big", reply, 100, PATIENCE_MS), -EMSGSIZE);
}

static void endless_line_is_cut_off(void **state)
{
    char line[5000];
    int fd = raw_client();
    memset(line, 'a', sizeof line);
    assert_int_equal(send(fd, line, 4096, 0), 4096);
    ssize_t n = recv(fd, reply, sizeof reply, 0);
    assert_true(n > 0);
    assert_memory_equal(reply, "{\"error\":\"request longer", 24);
    while ((n = recv(fd, reply, sizeof reply, 0)) > 0)
        ;
    assert_true(n == 0 || errno == ECONNRESET); /* hung up */
    close(fd);
}

static void several_requests_at_once(void **state)
{
    int fd = raw_client();
    const char *two = "echo 1\necho 2\n";
    assert_int_equal(send(fd, two, strlen(two), 0), (ssize_t)strlen(two));
    size_t used = 0;
    while (used < 2 * strlen("{\"argc\": 2, \"last\": \"1\"}\n"))
        used += (size_t)recv(fd, reply + used, sizeof reply - used, 0);
    reply[used] = 0;
    assert_string_equal(reply, "{\"argc\": 2, \"last\": \"1\"}\n{\"argc\": 2, \"last\": \"2\"}\n");
    close(fd);
}

static void wait_until_asked_more_than(int times)
{
    while (__atomic_load_n(&asked_again, __ATOMIC_ACQUIRE) <= times)
        sched_yield();
}

/* The others are answered meanwhile; what follows on the same line waits its turn. */
static void an_answer_may_come_later(void **state)
{
    int fds[3];
    __atomic_store_n(&gate_open, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&asked_again, 0, __ATOMIC_RELEASE);
    for (int i = 0; i < 3; i++) {
        const char *two = "wait for it\necho 2\n";
        fds[i] = raw_client();
        assert_int_equal(send(fds[i], two, strlen(two), 0), (ssize_t)strlen(two));
    }
    close(fds[2]); /* does not wait for its answer */
    wait_until_asked_more_than(20);
    ask("echo x");
    assert_int_equal(recv(fds[0], reply, sizeof reply, MSG_DONTWAIT), -1);
    __atomic_store_n(&gate_open, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++) {
        const char *both = "{\"argc\": 3, \"last\": \"it\"}\n{\"argc\": 2, \"last\": \"2\"}\n";
        size_t used = 0;
        while (used < strlen(both))
            used += (size_t)recv(fds[i], reply + used, sizeof reply - used, 0);
        reply[used] = 0;
        assert_string_equal(reply, both);
        close(fds[i]);
    }
    ask("wait again");
}

static void who_waits_does_not_hold_up_the_end(void **state)
{
    __atomic_store_n(&gate_open, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&asked_again, 0, __ATOMIC_RELEASE);
    int fd = raw_client();
    assert_int_equal(send(fd, "wait\n", 5, 0), 5);
    wait_until_asked_more_than(1);
    *state = (void *)(intptr_t)fd; /* stop() comes first, then the client */
}

static int stop_and_close(void **state)
{
    int bad = stop(state);
    close((int)(intptr_t)*state);
    return bad;
}

/* Clients that ask for much and read nothing, that stop in a line, that go. */
static void slow_clients_hold_up_nobody(void **state)
{
    int fds[20];
    for (int i = 0; i < 20; i++) {
        fds[i] = raw_client();
        const char *text = i % 2 ? "big\nbig\nbig\nbig\n" : "half a requ";
        assert_int_equal(send(fds[i], text, strlen(text), 0), (ssize_t)strlen(text));
        if (i % 5 == 0)
            close(fds[i]);
    }
    for (int i = 0; i < 50; i++)
        ask("echo x");
    for (int i = 0; i < 20; i++)
        if (i % 5)
            close(fds[i]);
    ask("echo y");
}

static void live_socket_is_refused_dead_one_taken(void **state)
{
    struct control *second = NULL;
    assert_int_equal(control_start(&second, path, metrics, NULL, NULL, err, sizeof err),
                     -EADDRINUSE);
    CHECK(strstr(err, "another program answers at "), "%s", err);
    assert_null(second);

    char dead[140];
    snprintf(dead, sizeof dead, "%s/dead.sock", folder);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    strcpy(un.sun_path, dead);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
    close(fd); /* leaves the file, as kill -9 does */
    assert_int_equal(control_start(&second, dead, metrics, NULL, NULL, err, sizeof err), 0);
    struct stat st;
    assert_int_equal(stat(dead, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(control_ask(dead, "stats", reply, sizeof reply, PATIENCE_MS), 0);
    control_stop(second);

    FILE *f = fopen(dead, "w");
    fclose(f);
    assert_int_equal(control_start(&second, dead, metrics, NULL, NULL, err, sizeof err), -EEXIST);
    CHECK(strstr(err, "is no socket"), "%s", err);
    unlink(dead);
}

static void asking_nobody_fails_at_once(void **state)
{
    char nowhere[140];
    snprintf(nowhere, sizeof nowhere, "%s/nobody.sock", folder);
    assert_int_equal(control_ask(nowhere, "stats", reply, sizeof reply, PATIENCE_MS), -ENOENT);
    struct control *c;
    snprintf(nowhere, sizeof nowhere, "%s/no/folder.sock", folder);
    assert_int_equal(control_start(&c, nowhere, metrics, NULL, NULL, err, sizeof err), -ENOENT);
    CHECK(strstr(err, "does its folder exist"), "%s", err);
    char lengthy[300];
    memset(lengthy, 'a', 299);
    lengthy[299] = 0;
    assert_int_equal(control_start(&c, lengthy, metrics, NULL, NULL, err, sizeof err),
                     -ENAMETOOLONG);
}

int main(void)
{
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/w.sock", folder);
    umask(0); /* a socket's mode is not the umask's doing */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(stats_are_one_json_object, start, stop),
        cmocka_unit_test_setup_teardown(full_registry_says_so, start, stop),
        cmocka_unit_test_setup_teardown(verbs_and_errors, start, stop),
        cmocka_unit_test_setup_teardown(endless_line_is_cut_off, start, stop),
        cmocka_unit_test_setup_teardown(several_requests_at_once, start, stop),
        cmocka_unit_test_setup_teardown(an_answer_may_come_later, start, stop),
        cmocka_unit_test_setup_teardown(who_waits_does_not_hold_up_the_end, start, stop_and_close),
        cmocka_unit_test_setup_teardown(slow_clients_hold_up_nobody, start, stop),
        cmocka_unit_test_setup_teardown(live_socket_is_refused_dead_one_taken, start, stop),
        cmocka_unit_test_setup_teardown(asking_nobody_fails_at_once, start, stop),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return failed;
}
