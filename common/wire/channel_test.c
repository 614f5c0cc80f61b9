/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What every kind of channel promises (channel.h), run over each kind: order,
 * bounds, back-pressure, big frames, garbage, closing on either side, sleeping
 * and waking between two threads. Then what only tcp has: its sentences.
 */
#include "tests/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/wire/address.h"
#include "common/wire/channel.h"
#include "common/wire/crc.h"
#include "common/wire/lookup.h"
#include "common/wire/msg.h"
#include "common/wire/shm.h"
#ifdef CHANNEL_VERBS
#include "common/wire/verbs/verbs.h"
#endif

enum { PATIENCE_MS = 20000 };  /* before something that must come counts as lost */

/* --- the kinds ------------------------------------------------------------------ */

struct ends { struct channel *a, *b; };

static void poll_until_listener_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
}

static void local_address(int fd, char *to, size_t room)
{
    struct sockaddr_in in;
    socklen_t len = sizeof in;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    snprintf(to, room, "127.0.0.1:%u", ntohs(in.sin_port));
}

static void connect_tcp(struct ends *e)
{
    char err[200], address[64];
    int fd = tcp_listen("127.0.0.1:0", err, sizeof err);
    CHECK(fd >= 0, "%s", err);
    local_address(fd, address, sizeof address);
    e->a = tcp_connect(address, err, sizeof err);
    CHECK(e->a, "%s", err);
    poll_until_listener_readable(fd);
    e->b = tcp_accept(fd);
    assert_non_null(e->b);
    assert_null(tcp_accept(fd));
    close(fd);
}

static void socket_path(char path[64])
{
    char dir[] = "/tmp/lethe-shm-XXXXXX";
    assert_non_null(mkdtemp(dir));
    snprintf(path, 64, "%s/s", dir);
}

static void remove_socket(const char *path)
{
    char dir[64];
    snprintf(dir, sizeof dir, "%.*s", (int)strlen(path) - 2, path);
    unlink(path);
    rmdir(dir);
}

static void connect_shm(struct ends *e)
{
    char err[200], path[64];
    socket_path(path);
    int fd = shm_listen(path, err, sizeof err);
    CHECK(fd >= 0, "%s", err);
    e->a = shm_connect(path, err, sizeof err);
    CHECK(e->a, "%s", err);
    poll_until_listener_readable(fd);
    e->b = shm_accept(fd);
    assert_non_null(e->b);
    assert_null(shm_accept(fd));
    close(fd);
    remove_socket(path);
}

static void connect_inproc(struct ends *e)
{
    assert_int_equal(inproc_pair(2 * MSG_BYTES_MAX, &e->a, &e->b), 0);
}

#ifdef CHANNEL_VERBS
static void connect_verbs(struct ends *e)
{
    char err[200], address[64];
    struct verbs_listener *l = verbs_listen("10.8.0.1:0", err, sizeof err);
    CHECK(l, "%s", err);
    snprintf(address, sizeof address, "10.8.0.1:%u", verbs_listener_port(l));
    e->a = verbs_connect(address, err, sizeof err);
    CHECK(e->a, "%s", err);
    while (!(e->b = verbs_accept(l))) {
        assert_null(channel_recv(e->a, &(uint32_t){0})); /* goes on connecting */
        CHECK(e->a->open, "%s", e->a->why);
        sched_yield();
    }
    assert_null(verbs_accept(l));
    verbs_listener_close(l);
}
#endif

static const struct kind { const char *name; void (*connect)(struct ends *); } kinds[] = {
    {"tcp", connect_tcp}, {"inproc", connect_inproc}, {"shm", connect_shm},
#ifdef CHANNEL_VERBS
    {"verbs", connect_verbs},
#endif
};

static struct ends setup(void **state)
{
    struct ends e;
    const struct kind *k = *state;
    k->connect(&e);
    assert_string_equal(e.a->ops->name, k->name);
    return e;
}

static void teardown(struct ends e)
{
    channel_close(e.a);
    channel_close(e.b);
}

/* --- frames ---------------------------------------------------------------------- */

/* An APPEND whose body is `body` bytes made from `number`; CRC makes a damaged
 * byte show in msg_validate. Caller frees. */
static struct msg_append *frame_of(uint64_t number, uint32_t body)
{
    uint32_t bytes = (uint32_t)sizeof(struct msg_append) + body;
    struct msg_append *m = calloc(1, bytes);
    *m = (struct msg_append){.from = {.node = 1}, .first = number + 1, .count = body != 0,
                             .body_bytes = body};
    msg_head_set(m, MSG_APPEND, bytes, 0, 1);
    for (uint32_t i = 0; i < body; i++)
        ((uint8_t *)(m + 1))[i] = (uint8_t)(number * 31 + i);
    m->crc = crc32c(0, m + 1, body);
    return m;
}

static void sleep_on(struct channel *c)
{
    struct pollfd p = {.fd = channel_fd(c, &p.events)};
    if (p.fd < 0 || !channel_arm(c))
        return;
    int n = poll(&p, 1, PATIENCE_MS);
    CHECK(n == 1, "%s: nothing woke us for %d ms: a lost wake-up", c->ops->name, PATIENCE_MS);
    channel_flush(c);
}

/* Waits for a frame; NULL when the channel closed. */
static const struct msg_append *await(struct channel *c)
{
    const void *frame;
    uint32_t bytes;
    while (!(frame = channel_recv(c, &bytes)) && c->open)
        sleep_on(c);
    if (frame)
        assert_int_equal((uintptr_t)frame % 8, 0);
    return frame;
}

static void send_now(struct channel *c, const void *frame)
{
    int bad;
    while ((bad = channel_send(c, frame, ((const struct msg_head *)frame)->bytes)) == -EAGAIN)
        sleep_on(c);
    assert_int_equal(bad, 0);
}

static void send_number(struct channel *c, uint64_t number, uint32_t body)
{
    struct msg_append *m = frame_of(number, body);
    send_now(c, m);
    free(m);
}

/* --- tests ------------------------------------------------------------------------ */

static void frames_arrive_in_order_and_whole(void **state)
{
    struct ends e = setup(state);
    for (uint64_t n = 0; n < 200; n++)
        send_number(e.a, n, (uint32_t)(n % 50) * 8);
    channel_flush(e.a);
    for (uint64_t n = 0; n < 200; n++) {
        const struct msg_append *m = await(e.b);
        assert_non_null(m);
        assert_int_equal(m->first, n + 1);
        assert_int_equal(m->body_bytes, n % 50 * 8);
    }
    uint32_t bytes;
    assert_null(channel_recv(e.b, &bytes));
    assert_true(e.b->open);
    teardown(e);
}

static void both_directions_are_independent(void **state)
{
    struct ends e = setup(state);
    send_number(e.a, 1, 8);
    send_number(e.a, 2, 8);
    channel_flush(e.a);
    await(e.b);
    send_number(e.b, 10, 16);
    channel_flush(e.b);
    assert_int_equal(await(e.a)->first, 11);
    assert_int_equal(await(e.b)->first, 3);
    teardown(e);
}

static void nothing_travels_before_flush(void **state)
{
    struct ends e = setup(state);
    send_number(e.a, 1, 8);
    channel_flush(e.a);
    await(e.b);
    send_number(e.a, 2, 8);
    uint32_t bytes;
    for (int i = 0; i < 100; i++)
        assert_null(channel_recv(e.b, &bytes));
    channel_flush(e.a);
    assert_int_equal(await(e.b)->first, 3);
    teardown(e);
}

/* The next frame, where one thread has both ends: a frame may be more than a
 * socket holds, so the sender flushes on while the receiver drains. */
static const struct msg_append *take_alone(struct ends e)
{
    const struct msg_append *m;
    while (channel_flush(e.a), !(m = channel_recv(e.b, &(uint32_t){0})))
        CHECK(e.b->open, "closed: %s", e.b->why);
    return m;
}

static void arm_says_no_while_a_frame_waits(void **state)
{
    struct ends e = setup(state);
    assert_true(channel_arm(e.b));
    send_number(e.a, 1, 8);
    send_number(e.a, 2, 8);
    channel_flush(e.a); /* both in one segment */
    assert_int_equal(await(e.b)->first, 2);
    assert_false(channel_arm(e.b));
    assert_int_equal(channel_recv(e.b, &(uint32_t){0}) != NULL, true);
    assert_null(channel_recv(e.b, &(uint32_t){0}));
    assert_true(channel_arm(e.b));
    teardown(e);
}

static void biggest_frame_passes_and_bigger_is_refused(void **state)
{
    struct ends e = setup(state);
    enum { BIG = MSG_BYTES_MAX - sizeof(struct msg_append) };
    for (int round = 0; round < 8; round++) {
        send_number(e.a, 7, BIG);
        assert_int_equal(take_alone(e)->body_bytes, BIG);
        send_number(e.a, 8, 8 * (uint32_t)round); /* so that every big one starts elsewhere */
        assert_int_equal(take_alone(e)->first, 9);
        assert_null(channel_recv(e.b, &(uint32_t){0})); /* a lent frame takes room */
    }
    struct msg_head small = {.bytes = 24};
    assert_int_equal(channel_send(e.a, &small, MSG_BYTES_MAX + 8), -EMSGSIZE);
    assert_int_equal(channel_send(e.a, &small, 16), -EMSGSIZE);
    assert_int_equal(channel_send(e.a, &small, 25), -EMSGSIZE);
    teardown(e);
}

static void full_channel_says_again_and_keeps_order(void **state)
{
    struct ends e = setup(state);
    struct msg_append *m;
    uint64_t sent = 0, got = 0;
    int bad = 0;
    while (bad == 0) { /* nobody reads: it must become full */
        m = frame_of(sent, 64 * 1024);
        bad = channel_send(e.a, m, m->head.bytes);
        channel_flush(e.a);
        sent += bad == 0;
        free(m);
        CHECK(sent < 10000, "no bound after %lu frames", sent);
    }
    assert_int_equal(bad, -EAGAIN);
    assert_true(e.a->open);
    while (got < sent) {
        const struct msg_append *in = channel_recv(e.b, &(uint32_t){0});
        channel_flush(e.a);
        if (in)
            assert_int_equal(in->first, ++got);
        assert_true(e.b->open);
    }
    if (strcmp(e.a->ops->name, "tcp") != 0)
        sleep_on(e.a); /* room came before we slept for it: no sleep. tcp's came by our flush */
    send_number(e.a, 77, 8);
    channel_flush(e.a);
    assert_int_equal(await(e.b)->first, 78);
    teardown(e);
}

static void garbage_closes_with_a_reason(void **state)
{
    for (int round = 0; round < 3; round++) {
        struct ends e = setup(state);
        send_number(e.a, 1, 8);
        struct msg_append *m = frame_of(2, 64);
        if (round == 0)
            ((uint8_t *)(m + 1))[5] ^= 1; /* CRC */
        if (round == 1)
            m->head.type = 200;
        if (round == 2)
            m->head.bytes = 12;
        assert_int_equal(channel_send(e.a, m, sizeof *m + 64), 0);
        send_number(e.a, 3, 8);
        channel_flush(e.a);
        assert_int_equal(await(e.b)->first, 2); /* what came before is good */
        assert_null(await(e.b));
        assert_false(e.b->open);
        CHECK(strstr(e.b->why, "no valid message: "), "why: '%s'", e.b->why);
        assert_int_equal(channel_send(e.b, m, sizeof *m), -ENOTCONN);
        assert_null(channel_recv(e.b, &(uint32_t){0}));
        const struct msg_error *said = (const void *)await(e.a); /* the one who sent it learns, too */
        CHECK(!said || (said->head.type == MSG_ERROR && strstr(said->text, "no valid message: ")),
              "message type %u instead of an ERROR", said->head.type);
        assert_true(!said || !await(e.a));
        assert_false(e.a->open);
        assert_true(strlen(e.a->why) > 0);
        free(m);
        teardown(e);
    }
}

static void frames_sent_before_a_close_arrive(void **state)
{
    struct ends e = setup(state);
    send_number(e.a, 1, 8);
    channel_flush(e.a);
    await(e.b);
    send_number(e.b, 9, 8); /* never read by the closing side */
    channel_flush(e.b);
    for (uint64_t n = 2; n < 50; n++)
        send_number(e.a, n, 64);
    channel_close(e.a);     /* flushes */
    for (uint64_t n = 2; n < 50; n++) {
        const struct msg_append *m = await(e.b);
        CHECK(m, "frame %lu was lost: %s", n, e.b->why);
        assert_int_equal(m->first, n + 1);
    }
    assert_null(await(e.b));
    assert_false(e.b->open);
    assert_non_null(strstr(e.b->why, "closed"));
    struct msg_append *m = frame_of(1, 0);
    assert_int_equal(channel_send(e.b, m, sizeof *m), -ENOTCONN);
    free(m);
    channel_close(e.b);
}

static void either_end_may_close_first(void **state)
{
    struct ends e = setup(state);
    channel_close(e.b);
    assert_null(await(e.a));
    assert_false(e.a->open);
    short events;
    assert_int_equal(channel_fd(e.a, &events), -1);
    channel_close(e.a);
    channel_close(NULL);
}

/* --- two threads -------------------------------------------------------------------- */

enum { ECHOES = 20000, WINDOW = 17, FLOOD = 2000 };

static void *echo(void *arg)
{
    struct channel *c = arg;
    const struct msg_append *m;
    struct msg_append *copy = NULL;
    while ((m = await(c))) {
        copy = realloc(copy, m->head.bytes);
        memcpy(copy, m, m->head.bytes);
        send_now(c, copy);
        channel_flush(c);
    }
    free(copy);
    channel_close(c);
    return NULL;
}

/* Both sides sleep whenever they have nothing to do, thousands of times, with
 * small and large windows, so that each order of arm and send happens. */
static void sleepers_are_always_woken(void **state)
{
    struct ends e = setup(state);
    pthread_t thread;
    uint64_t sent = 0, got = 0;
    pthread_create(&thread, NULL, echo, e.b);
    while (got < ECHOES) {
        while (sent < ECHOES && sent - got < 1 + (got / 100) % WINDOW)
            send_number(e.a, sent, (uint32_t)(sent % 7) * 400), sent++;
        channel_flush(e.a);
        const struct msg_append *m = await(e.a);
        CHECK(m, "closed: %s", e.a->why);
        assert_int_equal(m->first, ++got);
    }
    channel_close(e.a);
    pthread_join(thread, NULL);
}

struct flood {
    struct channel *c;
    _Atomic uint64_t refused; /* times send said -EAGAIN; partner: the reader below */
    _Atomic bool done;
};

static void *flood(void *arg)
{
    struct flood *f = arg;
    for (uint64_t n = 0; n < FLOOD; n++) {
        struct msg_append *m = frame_of(n, (uint32_t)(n % 13) * 5000 / 8 * 8);
        while (channel_send(f->c, m, m->head.bytes) == -EAGAIN) {
            f->refused++;
            sleep_on(f->c);
        }
        free(m);
    }
    f->done = true;
    while (channel_flush(f->c), !channel_recv(f->c, &(uint32_t){0}) && f->c->open)
        sleep_on(f->c);
    channel_close(f->c);
    return NULL;
}

/* The reader takes nothing until the writer has no room, then everything: the
 * writer is asleep for room, or about to be. Over rings each time; over tcp
 * once, since there the kernel holds bytes that nobody but the reader moves. */
static void a_writer_without_room_is_woken(void **state)
{
    struct ends e = setup(state);
    struct flood f = {.c = e.a};
    bool rings = strcmp(e.a->ops->name, "tcp") != 0;
    pthread_t thread;
    uint64_t n = 0, seen = 0, waits = 0;
    pthread_create(&thread, NULL, flood, &f);
    while (n < FLOOD) {
        const struct msg_append *m;
        while ((rings || waits == 0) && f.refused == seen && !f.done)
            sched_yield();
        waits += f.refused != seen;
        seen = f.refused;
        while ((m = channel_recv(e.b, &(uint32_t){0})))
            assert_int_equal(m->first, ++n);
        CHECK(e.b->open, "closed: %s", e.b->why);
        if (!rings && n < FLOOD)
            sleep_on(e.b);
    }
    CHECK(waits > 0, "of %d frames none had to wait", FLOOD);
    channel_close(e.b); /* wakes the writer, which waits for a frame by now */
    pthread_join(thread, NULL);
}

/* --- tcp only -------------------------------------------------------------------------- */

static void busy_port_is_named(void **state)
{
    char err[200], address[64], want[200];
    int fd = tcp_listen("127.0.0.1:0", err, sizeof err);
    local_address(fd, address, sizeof address);
    assert_int_equal(tcp_listen(address, err, sizeof err), -EADDRINUSE);
    snprintf(want, sizeof want, "port %s of 127.0.0.1 is in use by another program; choose another "
             "`listen`, or stop it", strchr(address, ':') + 1);
    assert_string_equal(err, want);
    close(fd);
}

static void wrong_addresses_are_named(void **state)
{
    static const struct { const char *address, *sentence; } rows[] = {
        {"localhost", "'localhost' is not an address; write host:port"},
        {":7400", "':7400' is not an address"},
        {"127.0.0.1:", "'127.0.0.1:' is not an address"},
        {"127.0.0.1:74x", "is not an address"},
        {"127.0.0.1:65536", "is not an address"},
        {"::1:7400", "'::1:7400' is not an address; write host:port, such as 127.0.0.1:7400 or [::1]"},
        {"[::1:7400", "is not an address"},
        {"[]:7400", "is not an address"},
    };
    char err[300];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        *err = 0;
        CHECK(!tcp_connect(rows[i].address, err, sizeof err), "%s", rows[i].address);
        CHECK(strstr(err, rows[i].sentence), "%s: '%s'", rows[i].address, err);
        CHECK(tcp_listen(rows[i].address, err, sizeof err) < 0, "%s", rows[i].address);
        CHECK(strstr(err, rows[i].sentence), "%s: '%s'", rows[i].address, err);
    }
    assert_true(tcp_listen("name.invalid:7400", err, sizeof err) < 0);
    assert_non_null(strstr(err, "cannot resolve host 'name.invalid': "));
    assert_null(tcp_connect("127.0.0.1:0", err, sizeof err));
    assert_non_null(strstr(err, "port 0"));
    assert_int_equal(tcp_listen("192.0.2.1:7400", err, sizeof err), -EADDRNOTAVAIL);
    assert_non_null(strstr(err, "192.0.2.1 is no address of this host"));
}

static void a_name_that_does_not_resolve_closes(void **state)
{
    char err[200];
    struct channel *c = tcp_connect("name.invalid:7400", err, sizeof err);
    assert_non_null(c);
    assert_null(await(c));
    assert_false(c->open);
    CHECK(!strncmp(c->why, "cannot resolve the host of name.invalid:7400: ", 45), "why: '%s'", c->why);
    assert_false(c->refused);
    channel_close(c);
}

#ifndef CHANNEL_VERBS
/* The resolver, by the linker: one name is this host, once the test lets it answer. */
static atomic_bool may_answer;
int __real_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found);
int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found);
int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found)
{
    if (!host || strcmp(host, "node-a.test") || (hints && hints->ai_flags & AI_NUMERICHOST))
        return __real_getaddrinfo(host, service, hints, found);
    while (!atomic_load(&may_answer))
        poll(NULL, 0, 1);
    return __real_getaddrinfo("127.0.0.1", service, hints, found);
}

static void nobody_waits_for_a_name(void **state)
{
    char err[200], address[64], named[64];
    int fd = tcp_listen("127.0.0.1:0", err, sizeof err);
    local_address(fd, address, sizeof address);
    snprintf(named, sizeof named, "node-a.test%s", strchr(address, ':'));
    struct channel *a = tcp_connect(named, err, sizeof err); /* returns, though nobody answers yet */
    CHECK(a, "%s", err);
    assert_true(a->open);
    uint32_t len;
    assert_null(channel_recv(a, &len));
    assert_true(a->open);
    atomic_store(&may_answer, true);
    send_number(a, 1, 8);
    channel_flush(a);
    poll_until_listener_readable(fd);
    struct channel *b = tcp_accept(fd);
    assert_int_equal(await(b)->first, 2);
    channel_close(a);
    channel_close(b);
    close(fd);
}
#endif

/* More than may be under way, each given up at once: some are refused, none leaks. */
static void lookups_are_bounded(void **state)
{
    char err[200];
    int threads = check_threads();
    for (int i = 0; i < 4 * LOOKUPS_MAX; i++) {
        struct channel *c = tcp_connect("name.invalid:7400", err, sizeof err);
        assert_non_null(c);
        channel_close(c);
    }
    for (int tries = 0; check_threads() > threads; tries++) { /* those that were given up end by themselves */
        assert_true(tries < 60000);
        poll(NULL, 0, 1);
    }
}

static void refused_connection_says_so(void **state)
{
    char err[200], address[64];
    int fd = tcp_listen("127.0.0.1:0", err, sizeof err);
    local_address(fd, address, sizeof address);
    close(fd); /* nobody there now */
    struct channel *c = tcp_connect(address, err, sizeof err);
    assert_non_null(c);
    assert_null(await(c));
    assert_false(c->open);
    CHECK(strstr(c->why, "nothing listens at 127.0.0.1:"), "why: '%s'", c->why);
    channel_close(c);
}

static void send_waits_for_the_connection(void **state)
{
    char err[200], address[64];
    int fd = tcp_listen("127.0.0.1:0", err, sizeof err);
    local_address(fd, address, sizeof address);
    struct channel *a = tcp_connect(address, err, sizeof err);
    send_number(a, 5, 8); /* sleeps on the descriptor while it says -EAGAIN */
    channel_flush(a);
    poll_until_listener_readable(fd);
    struct channel *b = tcp_accept(fd);
    assert_int_equal(await(b)->first, 6);
    channel_close(a);
    channel_close(b);
    close(fd);
}

static void names_and_ipv6_work(void **state)
{
    char err[200], address[64];
    int fd = tcp_listen("[::1]:0", err, sizeof err);
    if (fd < 0) { /* a host without IPv6 */
        assert_true(fd == -EADDRNOTAVAIL || fd == -EAFNOSUPPORT || fd == -EHOSTUNREACH);
        skip();
    }
    struct sockaddr_in6 in6;
    socklen_t len = sizeof in6;
    getsockname(fd, (struct sockaddr *)&in6, &len);
    snprintf(address, sizeof address, "[::1]:%u", ntohs(in6.sin6_port));
    struct channel *a = tcp_connect(address, err, sizeof err);
    poll_until_listener_readable(fd);
    struct channel *b = tcp_accept(fd);
    send_number(a, 1, 8);
    channel_flush(a);
    assert_int_equal(await(b)->first, 2);
    channel_close(a);
    channel_close(b);
    close(fd);
}

static void localhost_tries_every_address(void **state)
{
    char err[200], address[64], named[64];
    int fd = tcp_listen("127.0.0.1:0", err, sizeof err); /* localhost may be ::1 first */
    local_address(fd, address, sizeof address);
    snprintf(named, sizeof named, "localhost%s", strchr(address, ':'));
    struct channel *a = tcp_connect(named, err, sizeof err);
    CHECK(a, "%s", err);
    send_number(a, 1, 8);
    channel_close(a);
    poll_until_listener_readable(fd);
    struct channel *b = tcp_accept(fd);
    assert_int_equal(await(b)->first, 2);
    channel_close(b);
    close(fd);
}

/* Bytes that trickle in one at a time, and a stream that ends inside a frame. */
static void partial_frames_wait(void **state)
{
    char err[200];
    int fd = tcp_listen("127.0.0.1:0", err, sizeof err);
    struct sockaddr_in in;
    socklen_t len = sizeof in;
    getsockname(fd, (struct sockaddr *)&in, &len);
    int raw = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(raw, (struct sockaddr *)&in, sizeof in), 0);
    poll_until_listener_readable(fd);
    struct channel *b = tcp_accept(fd);
    struct msg_append *m = frame_of(3, 16);
    for (uint32_t i = 0; i < m->head.bytes - 1; i++) {
        assert_int_equal(write(raw, (char *)m + i, 1), 1);
        assert_null(channel_recv(b, &(uint32_t){0}));
        assert_true(b->open);
    }
    assert_int_equal(write(raw, (char *)m + m->head.bytes - 1, 1), 1);
    assert_int_equal(await(b)->first, 4);
    assert_int_equal(write(raw, m, 40), 40);
    close(raw);
    assert_null(await(b));
    CHECK(strstr(b->why, "in the middle of a frame"), "why: '%s'", b->why);
    free(m);
    channel_close(b);
    close(fd);
}

int main(void)
{
#ifdef CHANNEL_VERBS
#define OVER_EACH(f) {#f " over verbs", f, NULL, NULL, (void *)&kinds[3]}
#else
#define OVER_EACH(f)                                                                               \
    {#f " over tcp", f, NULL, NULL, (void *)&kinds[0]},                                            \
    {#f " over inproc", f, NULL, NULL, (void *)&kinds[1]},                                         \
    {#f " over shm", f, NULL, NULL, (void *)&kinds[2]}
#endif
    const struct CMUnitTest tests[] = {
        OVER_EACH(frames_arrive_in_order_and_whole),
        OVER_EACH(both_directions_are_independent),
        OVER_EACH(nothing_travels_before_flush),
        OVER_EACH(arm_says_no_while_a_frame_waits),
        OVER_EACH(biggest_frame_passes_and_bigger_is_refused),
        OVER_EACH(full_channel_says_again_and_keeps_order),
        OVER_EACH(garbage_closes_with_a_reason),
        OVER_EACH(frames_sent_before_a_close_arrive),
        OVER_EACH(either_end_may_close_first),
        OVER_EACH(sleepers_are_always_woken),
        OVER_EACH(a_writer_without_room_is_woken),
#ifndef CHANNEL_VERBS
        cmocka_unit_test(busy_port_is_named),
        cmocka_unit_test(wrong_addresses_are_named),
        cmocka_unit_test(a_name_that_does_not_resolve_closes),
        cmocka_unit_test(nobody_waits_for_a_name),
        cmocka_unit_test(lookups_are_bounded),
        cmocka_unit_test(refused_connection_says_so),
        cmocka_unit_test(send_waits_for_the_connection),
        cmocka_unit_test(names_and_ipv6_work),
        cmocka_unit_test(localhost_tries_every_address),
        cmocka_unit_test(partial_frames_wait),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
