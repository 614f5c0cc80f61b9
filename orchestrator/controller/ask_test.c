/* SPDX-License-Identifier: BSD-3-Clause */
/* Asking by HTTP: a real program's port, and servers that are slow, endless, wrong or lie, in the
 * same loop. Whatever they do costs one answer, within its time, and one sentence. */
#include "tests/check.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/metrics/http.h"
#include "orchestrator/controller/ask_impl.h"

enum { PATIENT_MS = 30000, HASTY_MS = 150, CONNECTIONS = 128, MANY = 64 };

/* What a server says to a request, and then: */
enum then { HANG_UP, STAY, AGAIN_AND_AGAIN, DROP_AT_ONCE };

static struct {
    uv_loop_t loop;
    uv_tcp_t listener;
    const char *says, *again; /* again: NULL: the same */
    enum then then;
    int accepted, requests;
    char url[40], request[2000]; /* the newest */
} s;

struct peer {
    uv_tcp_t tcp;
    uv_timer_t again;
    int open;
    char in[2000];
};

struct said { int times; json_t *answer; char why[ASK_WHY]; uint64_t sent_ms; };

/* --- the server -------------------------------------------------------------------------------- */

static void peer_closed(uv_handle_t *h)
{
    struct peer *p = h->data;
    if (!--p->open)
        free(p);
}

static void peer_close(struct peer *p)
{
    if (uv_is_closing((uv_handle_t *)&p->tcp))
        return;
    uv_close((uv_handle_t *)&p->tcp, peer_closed);
    uv_close((uv_handle_t *)&p->again, peer_closed);
}

static void say(struct peer *p, const char *what)
{
    uv_buf_t buf = uv_buf_init((char *)what, (unsigned)strlen(what));
    int n = uv_try_write((uv_stream_t *)&p->tcp, &buf, 1);
    if (s.then == HANG_UP || (n < 0 && n != UV_EAGAIN))
        peer_close(p);
}

static void say_again(uv_timer_t *t)
{
    say(t->data, s.again ? s.again : s.says);
}

static void lend(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct peer *p = h->data;
    (void)suggested;
    *buf = uv_buf_init(p->in, sizeof p->in - 1);
}

static void heard(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct peer *p = stream->data;
    (void)buf;
    if (n < 0 || s.then == DROP_AT_ONCE) {
        peer_close(p);
        return;
    }
    p->in[n] = 0;
    strcpy(s.request, p->in);
    s.requests++;
    say(p, s.says);
    if (s.then == AGAIN_AND_AGAIN && !uv_is_closing((uv_handle_t *)&p->tcp))
        uv_timer_start(&p->again, say_again, 1, 1);
}

static void came(uv_stream_t *listener, int status)
{
    struct peer *p = calloc(1, sizeof *p);
    assert_true(p && !status);
    s.accepted++;
    p->open = 2;
    uv_tcp_init(&s.loop, &p->tcp);
    uv_timer_init(&s.loop, &p->again);
    p->tcp.data = p->again.data = p;
    assert_int_equal(uv_accept(listener, (uv_stream_t *)&p->tcp), 0);
    uv_read_start((uv_stream_t *)&p->tcp, lend, heard);
}

static int start(void **state)
{
    struct sockaddr_in at;
    int len = sizeof at;
    memset(&s, 0, sizeof s);
    uv_loop_init(&s.loop);
    uv_tcp_init(&s.loop, &s.listener);
    uv_ip4_addr("127.0.0.1", 0, &at);
    assert_int_equal(uv_tcp_bind(&s.listener, (struct sockaddr *)&at, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&s.listener, CONNECTIONS, came), 0);
    uv_tcp_getsockname(&s.listener, (struct sockaddr *)&at, &len);
    snprintf(s.url, sizeof s.url, "http://127.0.0.1:%u", ntohs(at.sin_port));
    return 0;
}

static void close_all(uv_handle_t *h, void *ctx)
{
    (void)ctx;
    if (!uv_is_closing(h))
        uv_close(h, h == (uv_handle_t *)&s.listener ? NULL : peer_closed);
}

static int stop(void **state)
{
    ask_close(&s.loop);
    uv_run(&s.loop, UV_RUN_NOWAIT); /* what ask has closes itself */
    uv_walk(&s.loop, close_all, NULL);
    uv_run(&s.loop, UV_RUN_DEFAULT);
    return uv_loop_close(&s.loop); /* something was left open */
}

/* --- asking -------------------------------------------------------------------------------------- */

static void answered(void *ctx, const json_t *answer, uint64_t sent_ms, const char *why)
{
    struct said *said = ctx;
    said->times++;
    said->answer = json_incref((json_t *)answer);
    said->sent_ms = sent_ms;
    assert_true(!answer == (why && *why));
    snprintf(said->why, sizeof said->why, "%s", why ? why : "");
}

static struct said ask(const char *url, const char *verb, uint32_t timeout_ms)
{
    struct said said = {0};
    uint64_t before = uv_now(&s.loop);
    assert_non_null(ask_start(&s.loop, url, verb, timeout_ms, answered, &said));
    assert_int_equal(said.times, 0); /* never from within */
    while (!said.times)
        uv_run(&s.loop, UV_RUN_ONCE);
    assert_true(said.sent_ms >= before && said.sent_ms <= uv_now(&s.loop));
    return said;
}

#define OK "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
#define TEN "0123456789"
#define KILO TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "                        "

static void whatever_a_server_says(void **state)
{
    static const struct { const char *name, *says; enum then then; const char *why; uint32_t ms; const char *again; } rows[] = {
        {"an object", OK "Content-Length: 8\r\n\r\n{\"a\": 1}", STAY, "", PATIENT_MS, NULL},
        {"in chunks", OK "Transfer-Encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n4\r\n: 1}\r\n0\r\n\r\n", STAY, "", PATIENT_MS, NULL},
        {"until it hangs up", OK "\r\n{\"a\": 1}\n", HANG_UP, "", PATIENT_MS, NULL},
        {"after 100 Continue", "HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 8\r\n\r\n{\"a\": 1}", STAY, "", PATIENT_MS, NULL},
        {"its error", "HTTP/1.1 503 No\r\n\r\n{\"error\": \"not now, \\u00fcber\\nlast\"}", HANG_UP, "not now, ??ber", PATIENT_MS, NULL},
        {"an empty error", OK "Content-Length: 13\r\n\r\n{\"error\": \"\"}", STAY, "no JSON object", PATIENT_MS, NULL},
        {"nothing", "", STAY, "in time", HASTY_MS, NULL},
        {"nothing, and goes", "", HANG_UP, "hung up", PATIENT_MS, NULL},
        {"goes before", "", DROP_AT_ONCE, "hung up", PATIENT_MS, NULL},
        {"a head that stays", OK, STAY, "in time", HASTY_MS, NULL},
        {"drop by drop", OK "Content-Length: 100000\r\n\r\n ", AGAIN_AND_AGAIN, "in time", HASTY_MS, NULL},
        {"an endless body", OK "\r\n" KILO KILO KILO KILO KILO KILO KILO KILO, AGAIN_AND_AGAIN, "too long", PATIENT_MS, NULL},
        {"an endless head", OK, AGAIN_AND_AGAIN, "head is too long", PATIENT_MS, "A: " KILO KILO "\r\nB: " KILO "\r\n"},
        {"100 for ever", "HTTP/1.1 100 Continue\r\n\r\n", AGAIN_AND_AGAIN, "head is too long", PATIENT_MS, NULL},
        {"a length too great", OK "Content-Length: 80\r\n\r\n{\"a\": 1}", HANG_UP, "hung up", PATIENT_MS, NULL},
        {"a length too small", OK "Content-Length: 4\r\n\r\n{\"a\": 1}", STAY, "no JSON object", PATIENT_MS, NULL},
        {"a length that is none", OK "Content-Length: -7\r\n\r\n{\"a\": 1}", STAY, "*", HASTY_MS, NULL},
        {"a huge length", OK "Content-Length: 99999999999999999999999\r\n\r\n{", STAY, "*", HASTY_MS, NULL},
        {"a chunk that is none", OK "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", STAY, "*", PATIENT_MS, NULL},
        {"garbage", "\x01\x02\xff\xfe nothing of HTTP\r\n\r\n", HANG_UP, "*", PATIENT_MS, NULL},
        {"HTTP/0.9", "{\"a\": 1}", HANG_UP, "*", PATIENT_MS, NULL},
        {"a version to come", "HTTP/9.9 200 OK\r\nContent-Length: 8\r\n\r\n{\"a\": 1}", HANG_UP, "*", PATIENT_MS, NULL},
        {"elsewhere", "HTTP/1.1 302 Found\r\nLocation: /v1/ask/other\r\nContent-Length: 0\r\n\r\n", STAY, "HTTP status 302", PATIENT_MS, NULL},
        {"not there", "HTTP/1.1 404 Not Found\r\nContent-Length: 20\r\n\r\nhere \x1b[31mis\nnothing\n", STAY,
         "HTTP status 404: here ?[31mis", PATIENT_MS, NULL},
        {"asks who it is", "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n", STAY, "HTTP status 401", PATIENT_MS, NULL},
        {"wants an upgrade", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", HANG_UP, "*", PATIENT_MS, NULL},
        {"a list", OK "Content-Length: 2\r\n\r\n[]", STAY, "no JSON object", PATIENT_MS, NULL},
        {"half an object", OK "Content-Length: 7\r\n\r\n{\"a\": 1", STAY, "no JSON object", PATIENT_MS, NULL},
        {"no text", OK "Content-Length: 9\r\n\r\n{\"a\":\"\xff\"}", STAY, "no JSON object", PATIENT_MS, NULL},
        {"empty", OK "Content-Length: 0\r\n\r\n", STAY, "no JSON object", PATIENT_MS, NULL},
        {"no content", "HTTP/1.1 204 No Content\r\n\r\n", STAY, "HTTP status 204", PATIENT_MS, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        s.says = rows[i].says;
        s.again = rows[i].again;
        s.then = rows[i].then;
        s.requests = 0;
        struct said said = ask(s.url, "stats", rows[i].ms);
        bool good = !*rows[i].why;
        CHECK(good ? json_integer_value(json_object_get(said.answer, "a")) == 1 : !said.answer, "%s: %s", rows[i].name, said.why);
        CHECK(good || !strcmp(rows[i].why, "*") || strstr(said.why, rows[i].why), "%s: %s", rows[i].name, said.why);
        CHECK(s.requests <= 1, "%s: asked %d times", rows[i].name, s.requests);
        for (const char *c = said.why; *c; c++)
            CHECK(*c >= 0x20 && *c < 0x7f, "%s: %s", rows[i].name, said.why);
        json_decref(said.answer);
    }
}

static void what_is_sent(void **state)
{
    s.says = OK "Content-Length: 2\r\n\r\n{}";
    s.then = STAY;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    struct said said = ask(s.url, "hand-over 0\r\nX: y", PATIENT_MS);
    unsetenv("http_proxy");
    CHECK(said.answer, "%s", said.why);
    json_decref(said.answer);
    CHECK(!strncmp(s.request, "GET /v1/ask/hand-over%200%0D%0AX%3A%20y HTTP/1.1\r\n", 50), "%s", s.request);
    assert_null(strstr(s.request, "Accept-Encoding"));
}

static void a_connection_is_used_again(void **state)
{
    s.says = OK "Content-Length: 2\r\n\r\n{}";
    s.then = STAY;
    for (int i = 0; i < 5; i++) {
        struct said said = ask(s.url, "stats", PATIENT_MS);
        CHECK(said.answer, "%s", said.why);
        json_decref(said.answer);
    }
    assert_int_equal(s.accepted, 1);
    assert_int_equal(s.requests, 5);
}

static void many_who_hang_end_in_time(void **state)
{
    struct said said[MANY] = {{0}};
    int left = MANY;
    s.says = "";
    s.then = STAY;
    for (int i = 0; i < MANY; i++)
        assert_non_null(ask_start(&s.loop, s.url, "stats", HASTY_MS, answered, &said[i]));
    while (left) {
        uv_run(&s.loop, UV_RUN_ONCE);
        left = 0;
        for (int i = 0; i < MANY; i++)
            left += !said[i].times;
    }
    for (int i = 0; i < MANY; i++)
        CHECK(said[i].times == 1 && strstr(said[i].why, "in time"), "%d: %s", i, said[i].why);
    memset(said, 0, sizeof said);
    s.says = OK "Content-Length: 2\r\n\r\n{}";
    struct said last = ask(s.url, "stats", PATIENT_MS); /* behind it nobody waits to be accepted who hung before */
    CHECK(last.answer, "%s", last.why);
    json_decref(last.answer);
    s.accepted = 0;
    for (int i = 0; i < MANY; i++)
        assert_non_null(ask_start(&s.loop, s.url, "stats", PATIENT_MS, answered, &said[i]));
    for (int i = 0; i < MANY; i++) {
        while (!said[i].times)
            uv_run(&s.loop, UV_RUN_ONCE);
        CHECK(said[i].answer, "%d: %s", i, said[i].why);
        json_decref(said[i].answer);
    }
    assert_true(s.accepted <= 4); /* no storm on one program */
}

static void who_is_cancelled_hears_nothing(void **state)
{
    struct said gone = {0};
    s.says = "";
    s.then = STAY;
    struct ask *a = ask_start(&s.loop, s.url, "stats", PATIENT_MS, answered, &gone);
    while (!s.requests)
        uv_run(&s.loop, UV_RUN_ONCE);
    ask_cancel(a);
    ask_cancel(ask_start(&s.loop, s.url, "stats", PATIENT_MS, answered, &gone)); /* that had not begun */
    s.says = OK "Content-Length: 2\r\n\r\n{}";
    struct said said = ask(s.url, "stats", PATIENT_MS);
    CHECK(said.answer, "%s", said.why);
    json_decref(said.answer);
    ask_start(&s.loop, s.url, "stats", PATIENT_MS, answered, &gone); /* under way at the end */
    ask_close(&s.loop);
    uv_run(&s.loop, UV_RUN_NOWAIT);
    assert_int_equal(gone.times, 0);
}

static void where_nobody_can_be_asked(void **state)
{
    static const char *const wrong[] = {"http://localhost:80", "http://127.0.0.1", "http://127.0.0.1:0", "http://127.0.0.1:80/x",
                                        "http://a@127.0.0.1:80", "http:", "http://", "http://:80", "http://1.2.3:80",
                                        "http://[127.0.0.1]x:80", "http://127.0.0.1:80:80", "https://127.0.0.1:80", "http://[::1]:80 "};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct said said = ask(wrong[i], "stats", PATIENT_MS);
        CHECK(strstr(said.why, "cannot be asked there") || !strncmp(wrong[i], "https", 5), "%s: %s", wrong[i], said.why);
    }
    assert_true(ask_is_url("http://[::1]:9471") && ask_is_url("http://10.0.0.1:9471"));
    uv_tcp_t closed;
    struct sockaddr_in at;
    int len = sizeof at;
    char url[40];
    uv_tcp_init(&s.loop, &closed);
    uv_ip4_addr("127.0.0.1", 0, &at);
    uv_tcp_bind(&closed, (struct sockaddr *)&at, 0); /* and does not listen */
    uv_tcp_getsockname(&closed, (struct sockaddr *)&at, &len);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", ntohs(at.sin_port));
    struct said said = ask(url, "stats", PATIENT_MS);
    CHECK(strstr(said.why, "nobody answers there"), "%s", said.why);
    uv_close((uv_handle_t *)&closed, NULL);
    uv_run(&s.loop, UV_RUN_NOWAIT);
}

static void words(void *ctx, int argc, char **argv, char *to, uint32_t room)
{
    (void)ctx;
    snprintf(to, room, "{\"verb\": \"%s\", \"words\": %d}", argv[0], argc);
}

static void a_program_answers(void **state)
{
    static const char *const asks[] = {"stats", "status", NULL};
    char path[] = "/tmp/ask_test_XXXXXX", socket[60], url[40], err[300];
    struct metrics *m = metrics_create("w1");
    struct control *control;
    struct metrics_http *http;
    assert_non_null(mkdtemp(path));
    snprintf(socket, sizeof socket, "%s/w1.sock", path);
    CHECK(control_start(&control, socket, m, words, NULL, err, sizeof err) == 0, "%s", err);
    struct http_config c = {.metrics = m, .address = "127.0.0.1:0", .asks = asks, .control = control};
    CHECK(metrics_http_start(&http, &c, err, sizeof err) == 0, "%s", err);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", metrics_http_port(http));
    struct said by_http = ask(url, "status", PATIENT_MS), by_socket = ask(socket, "status", PATIENT_MS);
    CHECK(by_http.answer && json_equal(by_http.answer, by_socket.answer), "%s", by_http.why);
    json_decref(by_http.answer);
    json_decref(by_socket.answer);
    by_http = ask(url, "stats", PATIENT_MS);
    CHECK(!strcmp(json_string_value(json_object_get(by_http.answer, "instance")), "w1"), "%s", by_http.why);
    json_decref(by_http.answer);
    by_http = ask(url, "drain", PATIENT_MS);
    CHECK(strstr(by_http.why, "HTTP status 404: here are /metrics"), "%s", by_http.why);
    metrics_http_stop(http);
    control_stop(control);
    metrics_destroy(m);
    rmdir(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
        TEST(whatever_a_server_says), TEST(what_is_sent), TEST(a_connection_is_used_again), TEST(many_who_hang_end_in_time),
        TEST(who_is_cancelled_hears_nothing), TEST(where_nobody_can_be_asked), TEST(a_program_answers),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
