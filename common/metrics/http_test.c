/* SPDX-License-Identifier: BSD-3-Clause */
/* /metrics, /healthz, /readyz: the format, families and units, both ways to listen,
 * wrong requests, clients that hang. */
#include "tests/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/metrics/http.h"
#include "common/metrics/text.h"

static char folder[] = "/tmp/http_test_XXXXXX", path[100], reply[200000], err[300];
static struct metrics *metrics;
static struct metrics_http *http;
static const char *not_ready = "";

static void ready(void *ctx, char *why, uint32_t len)
{
    snprintf(why, len, "%s", not_ready);
}

static int start_at(const char *address)
{
    struct http_config c = {.metrics = metrics, .address = address, .ready = ready};
    return metrics_http_start(&http, &c, err, sizeof err);
}

static int start(void **state)
{
    metrics = metrics_create("worker-\"1\"");
    not_ready = "";
    return start_at(path);
}

static int stop(void **state)
{
    metrics_http_stop(http);
    http = NULL;
    metrics_destroy(metrics);
    return access(path, F_OK) == 0; /* must be gone */
}

static int unix_client(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    strcpy(un.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof un), 0);
    return fd;
}

static void ask(int fd, const char *request)
{
    size_t used = 0;
    ssize_t n;
    struct timeval patience = {.tv_sec = 60};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
    while ((n = recv(fd, reply + used, sizeof reply - 1 - used, 0)) > 0)
        used += (size_t)n;
    reply[used] = 0;
    close(fd);
}

static void get(const char *what)
{
    char request[200];
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", what);
    ask(unix_client(), request);
}

static void has(const char *text)
{
    CHECK(strstr(reply, text), "no '%s' in:\n%s", text, reply);
}

static void families_are_whole_and_in_base_units(void **state)
{
    metric_set(metrics_counter(metrics, "lethe_drops_total{reason=\"a\"}", "packets dropped"), 3);
    metric_set(metrics_gauge(metrics, "lethe_rtt_us", "round trip"), 1500);
    metric_set(metrics_counter(metrics, "lethe_drops_total{reason=\"b\"}", "packets dropped"), 4);
    metric_set(metrics_gauge(metrics, "lethe_busy_permille", "busy"), 75);
    metric_set(metrics_counter(metrics, "lethe_wait_ms_total", "waited"), 12345);
    get("/metrics");
    has("HTTP/1.1 200 OK");
    has("text/plain; version=0.0.4");
    has("# HELP lethe_drops_total packets dropped\n# TYPE lethe_drops_total counter\n"
        "lethe_drops_total{reason=\"a\"} 3\nlethe_drops_total{reason=\"b\"} 4\n");
    has("# TYPE lethe_rtt_seconds gauge\nlethe_rtt_seconds 0.001500\n");
    has("# TYPE lethe_busy_ratio gauge\nlethe_busy_ratio 0.075\n");
    has("# TYPE lethe_wait_seconds_total counter\nlethe_wait_seconds_total 12.345\n");
    has("lethe_build_info{instance_name=\"worker-\\\"1\\\"\",version=\"" LETHE_VERSION "\"} 1\n");
    has("process_cpu_seconds_total ");
}

static void histogram_buckets_add_up(void **state)
{
    struct histogram h = {{0}, 0};
    struct metric_histogram *m = metrics_histogram(metrics, "lethe_trip_us", "trip", 4, 6);
    const uint64_t values[] = {0, 1, 2, 16, 17, 64, 65, 5000000, UINT64_MAX / 2};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        histogram_add(&h, values[i]);
    assert_int_equal(h.bucket[0], 2); /* 0 and 1 */
    assert_int_equal(h.bucket[1], 1);
    assert_int_equal(h.bucket[4], 1);
    assert_int_equal(h.bucket[5], 1);
    assert_int_equal(h.bucket[6], 1);
    assert_int_equal(h.bucket[7], 1);
    assert_int_equal(h.bucket[HISTOGRAM_BUCKETS - 1], 2);
    h.sum = 1500000;
    metric_histogram_set(m, &h);
    get("/metrics");
    has("# TYPE lethe_trip_seconds histogram\n"
        "lethe_trip_seconds_bucket{le=\"1.6e-05\"} 4\n"
        "lethe_trip_seconds_bucket{le=\"3.2e-05\"} 5\n"
        "lethe_trip_seconds_bucket{le=\"6.4e-05\"} 6\n"
        "lethe_trip_seconds_bucket{le=\"+Inf\"} 9\n"
        "lethe_trip_seconds_sum 1.500000\nlethe_trip_seconds_count 9\n");
}

static void collect(void *ctx, struct metrics_text *t)
{
    text_family(t, METRIC_GAUGE, "lethe_lease_left_ms", "left");
    for (int i = 0; i < 2000; i++)
        text_sample(t, 7, "shard=\"%d\"", i);
}

static void collectors_write_as_much_as_they_like(void **state)
{
    metrics_collector(metrics, collect, NULL);
    get("/metrics");
    has("# TYPE lethe_lease_left_seconds gauge\nlethe_lease_left_seconds{shard=\"0\"} 0.007\n");
    has("lethe_lease_left_seconds{shard=\"1999\"} 0.007\n");
}

static void probes_say_why_not(void **state)
{
    get("/healthz");
    has("200 OK");
    get("/readyz");
    has("200 OK");
    not_ready = "shard 1 is joining";
    get("/readyz");
    has("503 Service Unavailable");
    has("\r\n\r\nshard 1 is joining\n");
    get("/healthz");
    has("200 OK");
}

static void other_requests_are_refused(void **state)
{
    get("/");
    has("404 Not Found");
    get("/../../etc/passwd");
    has("404 Not Found");
    ask(unix_client(), "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                       "Content-Length: 4\r\n\r\nabcd");
    has("405 Method Not Allowed");
    ask(unix_client(), "HEAD /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    has("200 OK");
    ask(unix_client(), "\x16\x03\x01 nonsense\r\n\r\n");
    CHECK(!strstr(reply, "200 OK"), "%s", reply);
}

/* As many as there may be hang; they are closed, and then somebody is served. */
static void hanging_clients_are_closed(void **state)
{
    int fds[HTTP_CONNECTIONS];
    struct timeval patience = {.tv_sec = 60};
    char c;
    for (int i = 0; i < HTTP_CONNECTIONS; i++) {
        fds[i] = unix_client();
        assert_int_equal(send(fds[i], "GET /me", 7, MSG_NOSIGNAL), 7);
    }
    setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    while (recv(fds[0], &c, 1, 0) > 0) /* it may say why */
        ;
    for (int i = 0; i < HTTP_CONNECTIONS; i++)
        close(fds[i]);
    do
        get("/readyz");
    while (!*reply); /* until the thread has seen that they are gone */
    has("200 OK");
}

static void listens_by_tcp(void **state)
{
    struct metrics_http *first = http;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(start_at("127.0.0.1:0") == 0, "%s", err);
    in.sin_port = htons(metrics_http_port(http));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    ask(fd, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    has("200 OK");
    metrics_http_stop(first);
}

/* From the n-th address of this host. */
static int tcp_client(uint32_t n)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(metrics_http_port(http)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in of = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + n)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&of, sizeof of), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    return fd;
}

static const char probe_request[] = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

static int open_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = -3; /* ".", "..", and this one */
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* Who hangs up in the middle of a request is gone before patience ends for one that came earlier and stays. What is sent and the
 * end may be seen together, or one after the other: so there are many. */
static bool gone_at_once(void)
{
    enum { MANY = 200 };
    int before = open_files(), witness = tcp_client(1), late = 0;
    char c;
    send(witness, "GET /me", 7, MSG_NOSIGNAL);
    for (int i = 0; i < MANY; i++) {
        int fd = tcp_client(2);
        send(fd, "GET /me", 7, MSG_NOSIGNAL);
        close(fd);
        if (i % HTTP_CONNECTIONS_EACH == 0)
            ask(tcp_client(3), probe_request); /* the others were taken in: none is turned away, to come again a second later */
    }
    while (open_files() > before + 2 && !late)
        late = recv(witness, &c, 1, MSG_DONTWAIT) >= 0;
    close(witness);
    while (open_files() > before)
        sched_yield();
    return !late;
}

static void who_hangs_up_is_gone(void **state)
{
    struct metrics_http *first = http;
    bool at_once = false;
    CHECK(start_at("127.0.0.1:0") == 0, "%s", err);
    for (int i = 0; i < 3 && !at_once; i++) /* this machine may have stood still meanwhile */
        at_once = gone_at_once();
    CHECK(at_once, "who hung up is kept until patience ends");
    metrics_http_stop(http);
    http = first;
}

/* Connections of many addresses that send a byte now and then, and never a whole request: a probe is answered all the same. */
static void who_stays_keeps_nobody_out(void **state)
{
    enum { ADDRESSES = 4, ALL = ADDRESSES * HTTP_CONNECTIONS_EACH, PATIENCE = 300, EVERY_MS = 100 };
    struct metrics_http *first = http;
    int fds[ALL + 1], left = PATIENCE;
    CHECK(start_at("127.0.0.1:0") == 0, "%s", err);
    for (int i = 0; i <= ALL; i++)
        fds[i] = tcp_client(1 + (uint32_t)i / HTTP_CONNECTIONS_EACH);
    send(fds[ALL], probe_request, sizeof probe_request - 1, MSG_NOSIGNAL);
    for (struct pollfd probe = {fds[ALL], POLLIN, 0}; left && !poll(&probe, 1, EVERY_MS); left--)
        for (int i = 0; i < ALL; i++)
            send(fds[i], "G", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    CHECK(left, "not answered while the others stay");
    ask(fds[ALL], "");
    has("200 OK");
    for (int i = 0; i < ALL; i++)
        close(fds[i]);
    metrics_http_stop(http);
    http = first;
}

static void wrong_addresses_are_told(void **state)
{
    struct metrics_http *first = http;
    char taken[40];
    assert_int_equal(start_at("9100"), -EINVAL);
    assert_non_null(strstr(err, "write host:port"));
    assert_int_equal(start_at("/nowhere/at/all.sock"), -ENOENT);
    assert_int_equal(start_at(path), -EADDRINUSE);
    assert_non_null(strstr(err, "another program answers"));
    CHECK(start_at("127.0.0.1:0") == 0, "%s", err);
    struct metrics_http *second = http;
    snprintf(taken, sizeof taken, "127.0.0.1:%u", metrics_http_port(second));
    assert_int_equal(start_at(taken), -EADDRINUSE);
    assert_non_null(strstr(err, "--metrics"));
    metrics_http_stop(second);
    http = first;
}

static void beside_the_control_socket(void **state)
{
    struct http_config c = {.metrics = metrics};
    struct metrics_http *more;
    char control[300], at[140];
    snprintf(control, sizeof control, "%s/store-a.sock", folder);
    snprintf(at, sizeof at, "%s/store-a.metrics.sock", folder);
    CHECK(metrics_http_beside(&more, &c, control, err, sizeof err) == 0, "%s", err);
    assert_int_equal(access(at, F_OK), 0);
    metrics_http_stop(more);
    memset(control + strlen(folder) + 1, 'a', 85); /* a control socket's path just fits */
    strcpy(control + strlen(folder) + 86, ".sock");
    CHECK(metrics_http_beside(&more, &c, control, err, sizeof err) == 0, "%s", err);
    assert_null(more);
    c.address = "127.0.0.1:0";
    CHECK(metrics_http_beside(&more, &c, control, err, sizeof err) == 0, "%s", err);
    assert_true(metrics_http_port(more) != 0);
    metrics_http_stop(more);
}

/* --- verbs ------------------------------------------------------------------------------- */

static const char *const asks[] = {"stats", "status", "wrong", "later", NULL};
static int began, gate_open; /* of the handler, which is the control thread's; atomic */

static void verbs(void *ctx, int argc, char **argv, char *to, uint32_t room)
{
    if (strcmp(argv[0], "status") == 0) {
        __atomic_add_fetch(&began, 1, __ATOMIC_RELEASE);
        while (!__atomic_load_n(&gate_open, __ATOMIC_ACQUIRE))
            sched_yield();
        snprintf(to, room, "{\"began\": %d, \"words\": %d}", __atomic_load_n(&began, __ATOMIC_ACQUIRE), argc);
    }
    if (strcmp(argv[0], "wrong") == 0)
        snprintf(to, room, "{\"error\": \"the loop does not answer\"}");
    if (strcmp(argv[0], "later") == 0)
        snprintf(to, room, CONTROL_LATER);
    if (strcmp(argv[0], "drain") == 0)
        fail_msg("an order came by HTTP");
}

static int asks_status(void)
{
    static const char request[] = "GET /v1/ask/status HTTP/1.1\r\nHost: x\r\n\r\n";
    int fd = unix_client();
    assert_int_equal(send(fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    return fd;
}

static void open_gate(int open)
{
    __atomic_store_n(&gate_open, open, __ATOMIC_RELEASE);
}

static int start_asking(void **state)
{
    static struct control *control;
    char at[120];
    metrics = metrics_create("worker-1");
    not_ready = "";
    began = 0;
    open_gate(1);
    snprintf(at, sizeof at, "%s/c.sock", folder);
    *state = NULL;
    if (control_start(&control, at, metrics, verbs, NULL, err, sizeof err))
        return 1;
    *state = control;
    struct http_config c = {.metrics = metrics, .address = path, .ready = ready, .asks = asks, .control = control};
    return metrics_http_start(&http, &c, err, sizeof err);
}

static int stop_asking(void **state)
{
    open_gate(1);
    metrics_http_stop(http);
    http = NULL;
    control_stop(*state);
    metrics_destroy(metrics);
    return access(path, F_OK) == 0;
}

static void verbs_are_asked(void **state)
{
    get("/v1/ask/status");
    has("200 OK");
    has("application/json");
    has("\r\n\r\n{\"began\": 1, \"words\": 1}");
    get("/v1/ask/stats");
    has("{\"instance\":\"worker-1\"");
    get("/v1/ask/wrong");
    has("503 Service Unavailable");
    has("{\"error\": \"the loop does not answer\"}");
    get("/v1/ask/later");
    has("503 Service Unavailable");
    has("ask at the control socket");
    ask(unix_client(), "HEAD /v1/ask/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    has("200 OK");
    ask(unix_client(), "POST /v1/ask/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx");
    has("405 Method Not Allowed");
}

static void orders_are_not(void **state)
{
    static const char *const wrong[] = {"/v1/ask/drain", "/v1/ask/status%20x", "/v1/ask/", "/v1/ask", "/v1/ask/stat",
                                        "/v1/ask/status/", "/v1/ask//status", "/v1/ask/STATUS", "/v1/ask/%64rain",
                                        "/v1/ask/status%0adrain", "/v1/ask/status%00"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        get(wrong[i]);
        CHECK(strstr(reply, "404 Not Found") || i == sizeof wrong / sizeof *wrong - 1, "%s: %s", wrong[i], reply);
        CHECK(!strstr(reply, "404") || strstr(reply, "here are /metrics, /healthz and /readyz; /v1/ask/stats, /v1/ask/status"),
              "%s: %s", wrong[i], reply);
    }
    metrics_http_stop(http);
    assert_int_equal(start_at(path), 0); /* without `asks` */
    get("/v1/ask/stats");
    has("404 Not Found");
    has("here are /metrics, /healthz and /readyz\n");
}

/* The control thread is stuck: who asks it waits, in whatever number, and the others are served. */
static void who_asks_holds_up_nobody(void **state)
{
    int fds[HTTP_CONNECTIONS - 2];
    char seen[300];
    open_gate(0);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        fds[i] = asks_status();
    while (!__atomic_load_n(&began, __ATOMIC_ACQUIRE))
        sched_yield();
    get("/readyz");
    has("200 OK");
    get("/metrics");
    has("200 OK");
    close(fds[0]); /* goes away before its answer */
    open_gate(1);
    for (size_t i = 1; i < sizeof fds / sizeof *fds; i++) {
        struct timeval patience = {.tv_sec = 60};
        setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        ssize_t n = recv(fds[i], seen, sizeof seen - 1, 0);
        seen[n > 0 ? n : 0] = 0;
        CHECK(strstr(seen, "200 OK"), "%zu: %s", i, seen);
        close(fds[i]);
    }
    /* Those that came meanwhile were answered together. */
    CHECK(began <= HTTP_CONNECTIONS / 2, "the handler was called %d times", began);
}

static void *opens_the_gate(void *ctx)
{
    usleep(20000); /* the later, the likelier that stop waits; nothing rests on it */
    open_gate(1);
    return ctx;
}

static void ends_while_it_is_asked(void **state)
{
    pthread_t opener;
    open_gate(0);
    int fd = asks_status();
    while (!__atomic_load_n(&began, __ATOMIC_ACQUIRE))
        sched_yield();
    assert_int_equal(pthread_create(&opener, NULL, opens_the_gate, NULL), 0);
    metrics_http_stop(http);
    http = NULL;
    pthread_join(opener, NULL);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
        TEST(families_are_whole_and_in_base_units), TEST(histogram_buckets_add_up),
        TEST(collectors_write_as_much_as_they_like), TEST(probes_say_why_not),
        TEST(other_requests_are_refused), TEST(hanging_clients_are_closed),
        TEST(listens_by_tcp), TEST(who_stays_keeps_nobody_out), TEST(who_hangs_up_is_gone), TEST(wrong_addresses_are_told), TEST(beside_the_control_socket),
#undef TEST
#define TEST(name) cmocka_unit_test_setup_teardown(name, start_asking, stop_asking)
        TEST(verbs_are_asked), TEST(orders_are_not), TEST(who_asks_holds_up_nobody), TEST(ends_while_it_is_asked),
    };
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/m.sock", folder);
    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return bad;
}
