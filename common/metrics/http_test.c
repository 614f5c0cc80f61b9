/* SPDX-License-Identifier: BSD-3-Clause */
/* /metrics, /healthz, /readyz: the format, families and units, both ways to listen,
 * wrong requests, clients that hang. */
#include "tests/check.h"

#include <arpa/inet.h>
#include <errno.h>
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

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
        TEST(families_are_whole_and_in_base_units), TEST(histogram_buckets_add_up),
        TEST(collectors_write_as_much_as_they_like), TEST(probes_say_why_not),
        TEST(other_requests_are_refused), TEST(hanging_clients_are_closed),
        TEST(listens_by_tcp), TEST(wrong_addresses_are_told), TEST(beside_the_control_socket),
    };
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/m.sock", folder);
    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return bad;
}
