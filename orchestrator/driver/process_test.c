/* SPDX-License-Identifier: BSD-3-Clause */
/* The process driver with real processes: starts, ends, signals, and what an earlier driver left. */
#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "orchestrator/driver/process.h"

static struct { uv_loop_t loop; struct driver *d; char dir[64]; struct driver_end last; uint32_t ends; } w;

static void on_end(void *ctx, const struct driver_end *end)
{
    w.last = *end;
    w.ends++;
}

static struct driver *made(void)
{
    char err[300];
    struct driver *d = NULL;
    CHECK(!process_driver_create(&d, &w.loop, w.dir, on_end, NULL, err, sizeof err), "%s", err);
    return d;
}

static int set_up(void **state)
{
    memset(&w, 0, sizeof w);
    snprintf(w.dir, sizeof w.dir, "/tmp/lethe-process-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    uv_loop_init(&w.loop);
    w.d = made();
    return 0;
}

static void turn(void)
{
    uv_run(&w.loop, UV_RUN_NOWAIT);
}

static int tear_down(void **state)
{
    char command[100];
    struct driver_process p[8];
    for (uint32_t i = 0, n = w.d->ops->list(w.d, p, 8); i < n; i++)
        kill(p[i].pid, SIGKILL);
    w.d->ops->destroy(w.d);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w.loop), 0);
    snprintf(command, sizeof command, "rm -rf '%s'", w.dir);
    return system(command);
}

/* 0, or what start said. */
static int start(struct driver *d, const char *name, const char *script, char *err)
{
    const char *const argv[] = {"/bin/sh", "-c", script, NULL};
    struct driver_spec s = {.name = name, .kind = ORCH_WORKER, .argv = argv, .config = 99, .nice = 5, .memory_mb = 300};
    struct driver_process p;
    return d->ops->start(d, &s, &p, err, 300);
}

static void wait_end(void)
{
    uint32_t before = w.ends;
    for (int i = 0; i < 20000 && w.ends == before; i++) {
        turn();
        usleep(1000);
    }
    CHECK(w.ends == before + 1, "it does not end");
}

static bool pid_file(const char *name)
{
    char path[200];
    snprintf(path, sizeof path, "%s/pids/%s.pid", w.dir, name);
    return !access(path, F_OK);
}

static void an_end_is_told_as_it_was(void **state)
{
    static const struct { const char *script; int status, signal; } rows[] = {
        {"exit 0", 0, 0}, {"exit 7", 7, 0}, {"kill -9 $$", 0, 9}, {"kill -15 $$", 0, 15}};
    char err[300];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CHECK(!start(w.d, "nf-1", rows[i].script, err), "%s", err);
        wait_end();
        assert_string_equal(w.last.process.name, "nf-1");
        assert_true(w.last.status_known);
        assert_int_equal(w.last.exit_status, rows[i].status);
        assert_int_equal(w.last.signal, rows[i].signal);
        assert_false(pid_file("nf-1"));
    }
}

static void what_cannot_be_started_says_why(void **state)
{
    const char *const argv[] = {"/nonexistent/lethe-nf", NULL};
    struct driver_spec s = {.name = "nf-1", .argv = argv};
    struct driver_process p;
    char err[300];
    assert_int_equal(w.d->ops->start(w.d, &s, &p, err, sizeof err), -ENOENT);
    CHECK(strstr(err, "/nonexistent/lethe-nf cannot be started as nf-1: No such file"), "%s", err);
    assert_int_equal(w.d->ops->list(w.d, &p, 1), 0);
    assert_false(pid_file("nf-1"));
    CHECK(!start(w.d, "nf-1", "sleep 1000", err), "%s", err);
    assert_int_equal(start(w.d, "nf-1", "sleep 1000", err), -EEXIST);
    assert_int_equal(w.d->ops->signal(w.d, "nf-2", SIGKILL), -ESRCH);
    assert_int_equal(w.d->ops->signal(w.d, "nf-1", SIGKILL), 0);
    wait_end();
}

static void a_look_tells_what_has_happened(void **state)
{
    char err[300];
    struct driver_process p;
    CHECK(!start(w.d, "nf-1", "exec sleep 1000", err), "%s", err);
    assert_int_equal(w.d->ops->list(w.d, &p, 1), 1);
    w.d->ops->look(w.d);
    assert_int_equal(w.ends, 0);
    int fd = pidfd_open(p.pid, 0);
    kill(p.pid, SIGKILL);
    struct pollfd dead = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&dead, 1, 20000), 1);
    close(fd);
    w.d->ops->look(w.d); /* the loop has not turned since */
    assert_int_equal(w.ends, 1);
    assert_int_equal(w.last.signal, SIGKILL);
    turn();
    assert_int_equal(w.ends, 1);
}

static void it_lives_apart_and_its_words_are_kept(void **state)
{
    char err[300], path[200], text[200] = "";
    CHECK(!start(w.d, "nf-1", "echo out; echo err >&2; ulimit -d; ps -o sid=,pid=,ni= -p $$; exec sleep 1000", err), "%s", err);
    w.d->ops->log(w.d, "nf-1", path, sizeof path);
    for (int i = 0; i < 20000 && !strstr(text, " 5\n"); i++) {
        int fd = open(path, O_RDONLY);
        ssize_t n = read(fd, text, sizeof text - 1);
        text[n > 0 ? n : 0] = 0;
        close(fd);
        usleep(1000);
    }
    int sid = 0, pid = 0, ni = 0;
    CHECK(sscanf(text, "out\nerr\n307200\n %d %d %d", &sid, &pid, &ni) == 3 && sid == pid && ni == 5, "%s", text);
    w.d->ops->signal(w.d, "nf-1", SIGKILL);
    wait_end();
}

/* A controller of its own, which is killed: what it started lives on and is found. */
static void what_a_dead_controller_left_is_adopted(void **state)
{
    char err[300];
    struct driver_process p[4];
    int go[2];
    assert_int_equal(pipe(go), 0);
    pid_t other = fork();
    if (!other) {
        uv_loop_fork(&w.loop);
        struct driver *d = made();
        char bad = start(d, "nf-1", "exec sleep 1000", err) || start(d, "store-a", "exec sleep 1000", err);
        ssize_t n = write(go[1], &bad, 1);
        (void)n;
        pause();
    }
    char bad = 1;
    assert_int_equal(read(go[0], &bad, 1), 1);
    assert_int_equal(bad, 0);
    close(go[0]);
    close(go[1]);
    assert_int_equal(start(w.d, "nf-1", "exit 0", err), -EEXIST); /* adopted by this */
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    w.d->ops->destroy(w.d);
    w.d = made();
    assert_int_equal(w.d->ops->list(w.d, p, 4), 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(p[i].config, 99);
        assert_true(p[i].start && process_start_time(p[i].pid) == p[i].start);
        assert_int_equal(w.d->ops->signal(w.d, p[i].name, SIGKILL), 0);
        wait_end();
        assert_false(w.last.status_known);
        assert_false(pid_file(w.last.process.name));
    }
}

/* A number instead of a word, if that is there. */
static void put_in(char text[400], const char *word, uint64_t number)
{
    char rest[400], *at = strstr(text, word);
    if (!at)
        return;
    snprintf(rest, sizeof rest, "%s", at + strlen(word));
    snprintf(at, (size_t)(text + 400 - at), "%lu%s", number, rest);
}

static void a_pid_file_of_the_dead_names_nobody(void **state)
{
    char path[200], err[300];
    struct driver_process p[2];
    static const char *const texts[] = {
        "", "{", "[1]", "{\"name\": \"nf-1\", \"kind\": \"worker\", \"pid\": 1, \"start\": 1, \"config\": 1}",
        "{\"name\": \"nf-1\", \"kind\": \"worker\", \"pid\": PID, \"start\": 12345, \"boot\": \"BOOT\", \"config\": 1}",
        "{\"name\": \"nf-1\", \"kind\": \"worker\", \"pid\": PID, \"start\": START, \"boot\": \"another\", \"config\": 1}",
        "{\"name\": \"nf-1\", \"kind\": \"worker\", \"pid\": PID, \"start\": START, \"config\": 1}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char text[400];
        snprintf(text, sizeof text, "%s", texts[i]);
        put_in(text, "PID", (uint64_t)getpid());
        put_in(text, "START", process_start_time(getpid()));
        snprintf(path, sizeof path, "%s/pids/nf-1.pid", w.dir);
        FILE *f = fopen(path, "w");
        fputs(text, f);
        fclose(f);
        w.d->ops->destroy(w.d);
        w.d = made();
        CHECK(w.d->ops->list(w.d, p, 2) == 0, "'%s' is believed", text);
        CHECK(!start(w.d, "nf-1", "exit 0", err), "%s", err);
        wait_end();
    }
}

/* Another controller is about to start one of that name: it holds the lock. */
static void a_pid_file_is_removed_under_its_lock_only(void **state)
{
    char path[200], err[300];
    snprintf(path, sizeof path, "%s/pids/nf-1.pid", w.dir);
    CHECK(!start(w.d, "nf-1", "exit 0", err), "%s", err);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && !flock(fd, LOCK_EX));
    wait_end();
    assert_true(pid_file("nf-1"));
    close(fd);
}

/* Another controller removes what is of nobody, under the lock, between our open and our lock. */
static atomic_bool stop_removing;
static void *remove_again_and_again(void *ctx)
{
    struct stat st;
    while (!atomic_load(&stop_removing)) {
        int fd = open(ctx, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB) && !fstat(fd, &st) && !st.st_size)
            unlink(ctx);
        if (fd >= 0)
            close(fd);
    }
    return NULL;
}

static void no_program_runs_without_its_pid_file(void **state)
{
    static char path[200]; /* the thread outlives a test that fails */
    char err[300];
    pthread_t remover;
    uint32_t started = 0;
    snprintf(path, sizeof path, "%s/pids/nf-1.pid", w.dir);
    atomic_store(&stop_removing, false);
    assert_int_equal(pthread_create(&remover, NULL, remove_again_and_again, path), 0);
    for (int i = 0; i < 5000 && started < 300; i++) {
        int rc = start(w.d, "nf-1", "exec sleep 1000", err);
        CHECK(!rc || rc == -EBUSY, "%s", err);
        if (rc)
            continue;
        struct stat st;
        bool there = !stat(path, &st) && st.st_size;
        started++;
        w.d->ops->signal(w.d, "nf-1", SIGKILL);
        wait_end();
        CHECK(there, "start %d: it runs, and no pid file says so", i);
    }
    atomic_store(&stop_removing, true);
    pthread_join(remover, NULL);
    assert_true(started > 0);
}

static void a_folder_of_others_is_refused(void **state)
{
    char err[300], path[80];
    snprintf(path, sizeof path, "%s/run", w.dir);
    CHECK(!process_run_dir(path, err, sizeof err) && !process_run_dir(path, err, sizeof err), "%s", err);
    assert_int_equal(chmod(path, 01777), 0);
    assert_int_equal(process_run_dir(path, err, sizeof err), -EPERM);
    CHECK(strstr(err, "everybody") && strstr(err, path), "%s", err);
    assert_int_equal(chmod(path, 0755), 0);
    if (chown(path, 4711, 0) == 0) { /* root may */
        assert_int_equal(process_run_dir(path, err, sizeof err), -EPERM);
        CHECK(strstr(err, "4711"), "%s", err);
    }
    snprintf(path, sizeof path, "%s/nowhere/run", w.dir);
    assert_int_equal(process_run_dir(path, err, sizeof err), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(an_end_is_told_as_it_was), T(what_cannot_be_started_says_why),
        T(a_look_tells_what_has_happened), T(it_lives_apart_and_its_words_are_kept), T(what_a_dead_controller_left_is_adopted),
        T(a_pid_file_of_the_dead_names_nobody), T(a_pid_file_is_removed_under_its_lock_only),
        T(no_program_runs_without_its_pid_file), T(a_folder_of_others_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
