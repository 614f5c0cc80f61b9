/* SPDX-License-Identifier: BSD-3-Clause */
/* Keeping, with a real etcd that is killed, emptied and lied to, and in a file: one leads, changes are
 * compared, nothing that was kept is lost. */
#include "tests/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "orchestrator/controller/keep.h"

enum { PATIENCE_MS = 30000 };

static struct { char dir[64], client[40], peer[40], text[600]; pid_t etcd; struct orch_desired *site; } w;

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

#define WAIT_FOR(cond)                                                                             \
    for (uint64_t until = now_ms() + PATIENCE_MS; !(cond); usleep(2000))                           \
    CHECK(now_ms() < until, "waited in vain")

static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static void etcd_run(void)
{
    char cluster[80], data[100], log[100];
    snprintf(cluster, sizeof cluster, "default=%s", w.peer);
    snprintf(data, sizeof data, "%s/etcd", w.dir);
    snprintf(log, sizeof log, "%s/etcd.log", w.dir);
    w.etcd = fork();
    if (w.etcd)
        return;
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(fd, 1);
    dup2(fd, 2);
    execlp("etcd", "etcd", "--data-dir", data, "--listen-client-urls", w.client, "--advertise-client-urls", w.client,
           "--listen-peer-urls", w.peer, "--initial-advertise-peer-urls", w.peer, "--initial-cluster", cluster,
           "--unsafe-no-fsync", (char *)NULL);
    _exit(127);
}

static void etcd_kill(void)
{
    if (w.etcd)
        kill(w.etcd, SIGKILL);
    if (w.etcd)
        waitpid(w.etcd, NULL, 0);
    w.etcd = 0;
}

static int set_up(bool etcd)
{
    char err[300];
    memset(&w, 0, sizeof w);
    snprintf(w.dir, sizeof w.dir, "/tmp/lethe-keep-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    snprintf(w.client, sizeof w.client, "http://127.0.0.1:%d", free_port());
    snprintf(w.peer, sizeof w.peer, "http://127.0.0.1:%d", free_port());
    snprintf(w.text, sizeof w.text, "run_dir: %s\nstore:\n%s%s%s  nodes: [{name: a, listen: \"127.0.0.1:7400\"}]\n", w.dir,
             etcd ? "  etcd: [\"" : "", etcd ? w.client : "", etcd ? "\"]\n" : "");
    CHECK(!desired_from_text(&w.site, "site.yaml", w.text, err, sizeof err), "%s", err);
    if (etcd)
        etcd_run();
    return 0;
}

static int set_up_etcd(void **state)
{
    return set_up(true);
}

static int set_up_file(void **state)
{
    return set_up(false);
}

static int tear_down(void **state)
{
    char command[100];
    etcd_kill();
    desired_free(w.site);
    snprintf(command, sizeof command, "rm -rf '%s'", w.dir);
    return system(command);
}

static void woken(void *ctx)
{
}

static struct keep *started(const char *id)
{
    struct keep *k = NULL;
    char err[300] = "";
    struct keep_config c = {.site = w.site->site, .file = "site.yaml", .text = w.text, .wake = woken};
    snprintf(c.id, sizeof c.id, "%s", id);
    CHECK(!keep_start(&k, &c, err, sizeof err), "%s", err);
    return k;
}

static struct keep_status status(struct keep *k)
{
    struct keep_status s;
    keep_status(k, &s);
    return s;
}

static bool sure(struct keep *k)
{
    return keep_clock_ms() < status(k).sure_until_ms;
}

static struct orch_desired *taken(struct keep *k)
{
    struct orch_desired *d = NULL;
    WAIT_FOR(keep_take(k, &d));
    return d;
}

/* The newest there is; at least `revision`. */
static void wait_revision(struct keep *k, uint64_t revision)
{
    for (uint64_t got = 0; got < revision;) {
        struct orch_desired *d = taken(k);
        got = d->revision;
        desired_free(d);
    }
}

static int swapped(struct keep *k, struct orch_desired *d)
{
    int rc;
    char why[300];
    assert_int_equal(keep_swap(k, desired_to_json(d)), 0);
    WAIT_FOR(keep_swapped(k, &rc, why, sizeof why));
    if (rc)
        print_message("refused with %d: %s\n", rc, why);
    return rc;
}

static void grow(struct orch_desired *d)
{
    char err[300];
    CHECK(!desired_scale(d, "nf", d->groups[0].replicas + 1, err, sizeof err), "%s", err);
}

/* Both ways of keeping. */
static void one_leads_and_its_changes_are_the_next_ones_beginning(void **state)
{
    struct keep *a = started("a");
    struct orch_desired *d = taken(a);
    WAIT_FOR(status(a).role == KEEP_ACTIVE && sure(a));
    assert_int_equal(d->revision, 1);
    struct keep *b = started("b");
    for (int i = 0; i < 3; i++) {
        grow(d);
        assert_int_equal(swapped(a, d), 0);
    }
    assert_int_equal(status(b).role, KEEP_STANDBY);
    keep_stop(a);
    WAIT_FOR(status(b).role == KEEP_ACTIVE);
    wait_revision(b, 4);
    grow(d);
    assert_int_equal(swapped(b, d), 0);
    keep_stop(b);
    a = started("c");
    WAIT_FOR(status(a).role == KEEP_ACTIVE);
    wait_revision(a, 5);
    keep_stop(a);
    desired_free(d);
}

static void ask_etcd(const char *path, const char *body)
{
    char command[600];
    snprintf(command, sizeof command, "curl -s -m 5 -o /dev/null %s/v3/%s -d '%s'", w.client, path, body);
    assert_int_equal(system(command), 0);
}

/* Keys and values in base64: /lethe/site.controller/desired, .../leader, /lethe/site/site. */
#define DESIRED "L2xldGhlL3NpdGUuY29udHJvbGxlci9kZXNpcmVk"
#define LEADER "L2xldGhlL3NpdGUuY29udHJvbGxlci9sZWFkZXI="
#define NAME "L2xldGhlL3NpdGUvc2l0ZQ=="

static void a_change_that_was_not_seen_is_not_written_over(void **state)
{
    struct keep *a = started("a");
    struct orch_desired *d = taken(a);
    WAIT_FOR(status(a).role == KEEP_ACTIVE);
    ask_etcd("kv/put", "{\"key\": \"" DESIRED "\", \"value\": \"e30=\"}"); /* {}: nobody believes it */
    grow(d);
    int rc = swapped(a, d);
    CHECK(rc == -EAGAIN || !rc, "%d", rc); /* it may have been heard of before */
    ask_etcd("kv/put", "{\"key\": \"" LEADER "\", \"value\": \"Yg==\"}"); /* b */
    grow(d);
    rc = swapped(a, d);
    CHECK(rc == -EAGAIN, "one that does not lead changed it: %d", rc);
    WAIT_FOR(status(a).role == KEEP_LOST);
    keep_stop(a);
    desired_free(d);
}

static void without_etcd_nothing_changes_and_nobody_else_leads(void **state)
{
    struct keep *a = started("a");
    struct orch_desired *d = taken(a);
    WAIT_FOR(status(a).role == KEEP_ACTIVE);
    struct keep *b = started("b");
    etcd_kill();
    grow(d);
    assert_int_equal(swapped(a, d), -ETIMEDOUT);
    WAIT_FOR(!sure(a));
    assert_true(status(a).away_since_ms && status(a).role == KEEP_ACTIVE && status(b).role == KEEP_STANDBY);
    etcd_run();
    WAIT_FOR(sure(a) || sure(b));
    assert_false(sure(a) && sure(b));
    keep_stop(a);
    keep_stop(b);
    desired_free(d);
}

/* By whoever leads then: both know what was kept. */
/* An answer may have been on its way for long: it is no older than its question, and no younger is told. */
static void what_is_said_of_etcd_is_as_old_as_its_question(void **state)
{
    struct keep *a = started("a");
    bool shown = false;
    WAIT_FOR(status(a).role == KEEP_ACTIVE);
    for (int tries = 0; !shown && tries < 20; tries++) {
        struct keep_status s, before;
        kill(w.etcd, SIGSTOP);
        assert_int_equal(waitpid(w.etcd, NULL, WUNTRACED), w.etcd);
        before = status(a);
        WAIT_FOR((s = status(a)).requests > before.requests || s.away_since_ms);
        uint64_t goes_on_ms = keep_clock_ms() + 2;
        WAIT_FOR(keep_clock_ms() > goes_on_ms);
        before = status(a);
        kill(w.etcd, SIGCONT);
        WAIT_FOR((s = status(a)).tried_ms != before.tried_ms);
        shown = !before.away_since_ms && s.requests == before.requests; /* else something younger may have been asked */
        if (shown)
            assert_true(s.tried_ms <= goes_on_ms);
    }
    assert_true(shown);
    keep_stop(a);
}

/* That which the stores draw: a change, what stands already, and one that is gone for a moment. */
static void the_sites_name_is_heard_of(void **state)
{
    struct keep *a = started("a");
    WAIT_FOR(status(a).role == KEEP_ACTIVE);
    assert_string_equal(status(a).site, "");
    ask_etcd("kv/put", "{\"key\": \"" NAME "\", \"value\": \"MDBmZg==\"}"); /* 00ff */
    WAIT_FOR(!strcmp(status(a).site, "00ff"));
    struct keep *b = started("b");
    WAIT_FOR(!strcmp(status(b).site, "00ff"));
    ask_etcd("kv/deleterange", "{\"key\": \"" NAME "\"}");
    ask_etcd("kv/put", "{\"key\": \"" NAME "\", \"value\": \"MDE=\"}"); /* 01 */
    WAIT_FOR(!strcmp(status(a).site, "01") && !strcmp(status(b).site, "01"));
    keep_stop(a);
    keep_stop(b);
}

static void an_empty_etcd_is_filled_again(void **state)
{
    char command[120];
    struct keep *a = started("a");
    struct orch_desired *d = taken(a);
    WAIT_FOR(status(a).role == KEEP_ACTIVE);
    struct keep *b = started("b");
    grow(d);
    assert_int_equal(swapped(a, d), 0);
    wait_revision(b, 2);
    etcd_kill();
    WAIT_FOR(!sure(a));
    snprintf(command, sizeof command, "rm -rf '%s/etcd'", w.dir);
    assert_int_equal(system(command), 0);
    snprintf(w.peer, sizeof w.peer, "http://127.0.0.1:%d", free_port()); /* a cluster's id is of its peers */
    etcd_run();
    WAIT_FOR(sure(a) || sure(b));
    struct keep *leads = sure(a) ? a : b, *c = started("c");
    wait_revision(c, 2);
    grow(d);
    assert_int_equal(swapped(leads, d), 0);
    wait_revision(c, 3);
    keep_stop(a);
    keep_stop(b);
    keep_stop(c);
    desired_free(d);
}

static void a_broken_file_is_left_to_a_person(void **state)
{
    char path[100];
    snprintf(path, sizeof path, "%s/desired.json", w.dir);
    FILE *f = fopen(path, "w");
    fputs("{\"revision\": 3", f);
    fclose(f);
    int looks = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    assert_true(looks >= 0 && inotify_add_watch(looks, path, IN_OPEN) >= 0);
    struct keep *a = started("a");
    for (uint32_t n = 0; n < 2;) { /* who looks a second time did not believe the first */
        char event[sizeof(struct inotify_event) + 256];
        WAIT_FOR(read(looks, event, sizeof event) > 0 && ++n);
    }
    close(looks);
    assert_int_equal(status(a).role, KEEP_STANDBY);
    unlink(path);
    WAIT_FOR(status(a).role == KEEP_ACTIVE);
    keep_stop(a);
}

/* Removed with run_dir, perhaps by a person who cleans up: another one may lead there. Never two at once. */
static void who_lost_its_lock_leads_no_more(void **state)
{
    char command[200];
    struct keep *a = started("a");
    WAIT_FOR(sure(a));
    snprintf(command, sizeof command, "rm -rf '%s'", w.dir);
    assert_int_equal(system(command), 0);
    struct keep *b = started("b");
    WAIT_FOR(sure(b));
    assert_false(sure(a));
    WAIT_FOR(status(a).role == KEEP_LOST);
    keep_stop(a);
    assert_true(sure(b));
    keep_stop(b);
}

/* --- an etcd that answers, and watches nothing ------------------------------------------------------- */

enum { WATCHES = 4, PIPES = 16 };
static struct {
    int listener, upstream_port, npipes;
    atomic_uint watches;
    uint64_t asked_ms[WATCHES];
    atomic_bool stop;
    pthread_t thread;
    struct { int client, etcd; } pipes[PIPES];
} relay;

/* False: one of them hung up, or the client wants to watch. */
static bool pass_on(int from, int to, bool client)
{
    char bytes[65536];
    ssize_t n = recv(from, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN;
    if (client && n && memmem(bytes, (size_t)n, "/v3/watch", 9)) {
        uint32_t at = atomic_load(&relay.watches);
        if (at < WATCHES)
            relay.asked_ms[at] = now_ms();
        atomic_store(&relay.watches, at + 1);
        static const char no[] = "HTTP/1.1 503 no\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        send(from, no, sizeof no - 1, MSG_NOSIGNAL);
        return false;
    }
    return n && send(to, bytes, (size_t)n, MSG_NOSIGNAL) == n;
}

static void take_client(void)
{
    struct sockaddr_in etcd = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons((uint16_t)relay.upstream_port)};
    int client = accept4(relay.listener, NULL, NULL, SOCK_CLOEXEC);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client >= 0 && relay.npipes < PIPES && !connect(fd, (struct sockaddr *)&etcd, sizeof etcd)) {
        relay.pipes[relay.npipes].client = client;
        relay.pipes[relay.npipes++].etcd = fd;
        return;
    }
    close(fd);
    if (client >= 0)
        close(client);
}

static void *relay_run(void *ctx)
{
    while (!atomic_load(&relay.stop)) {
        struct pollfd fds[1 + 2 * PIPES] = {{.fd = relay.listener, .events = POLLIN}};
        int n = relay.npipes;
        for (int i = 0; i < n; i++) {
            fds[1 + 2 * i] = (struct pollfd){.fd = relay.pipes[i].client, .events = POLLIN};
            fds[2 + 2 * i] = (struct pollfd){.fd = relay.pipes[i].etcd, .events = POLLIN};
        }
        poll(fds, 1 + 2 * (nfds_t)n, 20);
        for (int i = n - 1; i >= 0; i--) {
            int client = relay.pipes[i].client, etcd = relay.pipes[i].etcd;
            if (pass_on(client, etcd, true) && pass_on(etcd, client, false))
                continue;
            close(client);
            close(etcd);
            relay.pipes[i] = relay.pipes[--relay.npipes];
        }
        if (fds[0].revents)
            take_client();
    }
    for (int i = 0; i < relay.npipes; i++) {
        close(relay.pipes[i].client);
        close(relay.pipes[i].etcd);
    }
    close(relay.listener);
    return NULL;
}

static void relay_start(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    char err[300];
    memset(&relay, 0, sizeof relay);
    assert_int_equal(sscanf(w.client, "http://127.0.0.1:%d", &relay.upstream_port), 1);
    relay.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(relay.listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(relay.listener, (struct sockaddr *)&at, &len), 0);
    assert_int_equal(listen(relay.listener, 8), 0);
    snprintf(w.text, sizeof w.text, "run_dir: %s\nstore:\n  etcd: [\"http://127.0.0.1:%d\"]\n  nodes: [{name: a, "
             "listen: \"127.0.0.1:7400\"}]\n", w.dir, ntohs(at.sin_port));
    desired_free(w.site);
    CHECK(!desired_from_text(&w.site, "site.yaml", w.text, err, sizeof err), "%s", err);
    assert_int_equal(pthread_create(&relay.thread, NULL, relay_run, NULL), 0);
}

static void a_watch_that_fails_is_not_asked_for_again_at_once(void **state)
{
    relay_start();
    struct keep *a = started("a");
    WAIT_FOR(status(a).role == KEEP_ACTIVE); /* reading is enough to lead */
    WAIT_FOR(atomic_load(&relay.watches) >= WATCHES);
    uint64_t took = relay.asked_ms[WATCHES - 1] - relay.asked_ms[0];
    CHECK(took >= 250 * (WATCHES - 1), "%d watches in %lu ms", WATCHES, took);
    keep_stop(a);
    atomic_store(&relay.stop, true);
    pthread_join(relay.thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define E(name) cmocka_unit_test_setup_teardown(name, set_up_etcd, tear_down)
#define F(name) cmocka_unit_test_setup_teardown(name, set_up_file, tear_down)
        E(one_leads_and_its_changes_are_the_next_ones_beginning),
        F(one_leads_and_its_changes_are_the_next_ones_beginning),
        E(a_change_that_was_not_seen_is_not_written_over),
        E(without_etcd_nothing_changes_and_nobody_else_leads),
        E(what_is_said_of_etcd_is_as_old_as_its_question),
        E(the_sites_name_is_heard_of),
        E(an_empty_etcd_is_filled_again),
        F(a_broken_file_is_left_to_a_person),
        F(who_lost_its_lock_leads_no_more),
        E(a_watch_that_fails_is_not_asked_for_again_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
