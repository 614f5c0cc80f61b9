/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The doorbell between two processes: ping-pong through shared memory, each
 * side sleeping without a time-out of its own as soon as it sees no work. A
 * lost wake-up would sleep for ever; the guard of GUARD_MS turns it into a
 * failure.
 */
#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/packet/doorbell.h"

enum { ROUNDS = 20000, GUARD_MS = 20000 };

static char dir[] = "/tmp/doorbell_test.XXXXXX";
static char path_a[64], path_b[64], err[256];

static int make_dir(void **state)
{
    if (mkdtemp(dir) == NULL)
        return -1;
    snprintf(path_a, sizeof(path_a), "%s/a", dir);
    snprintf(path_b, sizeof(path_b), "%s/b", dir);
    return 0;
}

static int remove_dir(void **state)
{
    return rmdir(dir); /* fails when a clean exit left files */
}

static uint64_t *shared_words(void)
{
    uint64_t *w = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(w != MAP_FAILED);
    return w;
}

static uint64_t load(uint64_t *w)
{
    return __atomic_load_n(w, __ATOMIC_ACQUIRE);
}

/* Waits until *word reaches `target`. False: a wake-up was lost. */
static bool wait_for(struct doorbell *own, uint64_t *word, uint64_t target)
{
    while (load(word) < target) {
        doorbell_arm(own);
        if (load(word) >= target) {
            doorbell_disarm(own);
            return true;
        }
        struct timespec before, after;
        clock_gettime(CLOCK_MONOTONIC, &before);
        doorbell_sleep(own, NULL, 0, GUARD_MS);
        clock_gettime(CLOCK_MONOTONIC, &after);
        if (load(word) >= target && after.tv_sec - before.tv_sec >= GUARD_MS / 1000)
            return false;
    }
    return true;
}

/* Puts `per_round` items in, one ring each, and waits for the echo of all. */
static bool play(struct doorbell *own, struct doorbell *peer, uint64_t *out, uint64_t *in,
                 bool first)
{
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        if (!first && !wait_for(own, in, round))
            return false;
        __atomic_store_n(out, round, __ATOMIC_RELEASE);
        doorbell_ring(peer);
        if (first && !wait_for(own, in, round))
            return false;
    }
    return true;
}

static int child(uint64_t *words)
{
    struct doorbell *own, *peer;
    if (doorbell_create(path_b, &own, err, sizeof(err)) < 0)
        return 2;
    while (doorbell_open(path_a, &peer, err, sizeof(err)) == -ENOENT)
        sched_yield();
    bool ok = play(own, peer, &words[8], &words[0], false);
    doorbell_close(peer);
    doorbell_close(own);
    return ok ? 0 : 1;
}

static void no_wake_up_is_lost_between_processes(void **state)
{
    uint64_t *words = shared_words();
    struct doorbell *own, *peer;
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(child(words));
    assert_int_equal(doorbell_create(path_a, &own, err, sizeof(err)), 0);
    while (doorbell_open(path_b, &peer, err, sizeof(err)) == -ENOENT)
        sched_yield();
    bool ok = play(own, peer, &words[0], &words[8], true);
    if (!ok)
        kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    doorbell_close(peer);
    doorbell_close(own);
    CHECK(ok && WIFEXITED(status) && WEXITSTATUS(status) == 0, "ok %d status %x", ok, status);
    munmap(words, 4096);
}

static void spin_until(uint64_t *word, uint64_t target)
{
    for (int spins = 0; load(word) < target; spins++)
        if (spins % 1024 == 1023)
            sched_yield(); /* there may be one processor only */
        else
            __builtin_ia32_pause();
}

/*
 * The one moment that matters, over and over: the sleeper arms and polls while
 * the ringer puts and rings. If the poll sees nothing, the ring must have come.
 */
enum { MEETINGS = 30000, APPOINTMENT_TICKS = 3000, JITTER_TICKS = 512 };
static uint64_t start_line, finished, appointment;
static uint64_t item __attribute__((aligned(64)));

/* Both sides look at the time-stamp counter, to meet within nanoseconds. */
static void keep_appointment(uint64_t late_ticks)
{
    uint64_t at = __atomic_load_n(&appointment, __ATOMIC_RELAXED) + late_ticks;
    while (__builtin_ia32_rdtsc() < at)
        continue;
}

static void *meet(void *arg)
{
    struct doorbell *peer;
    char e[256];
    if (doorbell_open(path_a, &peer, e, sizeof(e)) < 0)
        return arg;
    for (uint64_t i = 1; i <= MEETINGS; i++) {
        spin_until(&start_line, i);
        keep_appointment(i * 7 % JITTER_TICKS); /* at another of its instructions each time */
        __atomic_store_n(&item, i, __ATOMIC_RELAXED); /* doorbell_ring orders it */
        doorbell_ring(peer);
        __atomic_store_n(&finished, i, __ATOMIC_RELEASE);
    }
    doorbell_close(peer);
    return NULL;
}

static void arming_and_ringing_never_miss_each_other(void **state)
{
    struct doorbell *own;
    pthread_t thread;
    void *failed;
    uint64_t lost = 0;
    char bytes[64], path[80];
    assert_int_equal(doorbell_create(path_a, &own, err, sizeof(err)), 0);
    snprintf(path, sizeof(path), "%s.fifo", path_a);
    int fifo = open(path, O_RDWR | O_NONBLOCK);
    assert_true(fifo >= 0);
    assert_int_equal(pthread_create(&thread, NULL, meet, own), 0);
    for (uint64_t i = 1; i <= MEETINGS; i++) {
        __atomic_store_n(&appointment, __builtin_ia32_rdtsc() + APPOINTMENT_TICKS,
                         __ATOMIC_RELAXED);
        __atomic_store_n(&start_line, i, __ATOMIC_RELEASE);
        keep_appointment(JITTER_TICKS / 2);
        doorbell_arm(own);
        bool seen = __atomic_load_n(&item, __ATOMIC_RELAXED) == i;
        spin_until(&finished, i);
        bool rung = read(fifo, bytes, sizeof(bytes)) > 0;
        lost += !seen && !rung;
        doorbell_disarm(own);
    }
    pthread_join(thread, &failed);
    close(fifo);
    doorbell_close(own);
    assert_null(failed);
    CHECK(lost == 0, "%" PRIu64 " of %d wake-ups were lost", lost, MEETINGS);
}

/* Several ringers at once; the sleeper must see every item. */
enum { RINGERS = 3, ITEMS = 20000 };
static uint64_t item_count;

static void *ringer(void *arg)
{
    struct doorbell *peer;
    char e[256];
    if (doorbell_open(path_a, &peer, e, sizeof(e)) < 0)
        return arg;
    for (int i = 0; i < ITEMS; i++) {
        __atomic_fetch_add(&item_count, 1, __ATOMIC_ACQ_REL);
        doorbell_ring(peer);
        if (i % 64 == 0)
            sched_yield(); /* gives the sleeper time to fall asleep */
    }
    doorbell_close(peer);
    return NULL;
}

static void many_ringers_lose_nothing(void **state)
{
    struct doorbell *own;
    pthread_t threads[RINGERS];
    item_count = 0;
    assert_int_equal(doorbell_create(path_a, &own, err, sizeof(err)), 0);
    for (int i = 0; i < RINGERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ringer, own), 0);
    bool ok = true;
    for (uint64_t seen = 0; ok && seen < (uint64_t)RINGERS * ITEMS; seen = load(&item_count))
        ok = wait_for(own, &item_count, seen + 1);
    for (int i = 0; i < RINGERS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    doorbell_close(own);
    CHECK(ok, "a wake-up was lost at %" PRIu64, item_count);
}

static void absent_owner_is_enoent(void **state)
{
    struct doorbell *d = NULL;
    assert_int_equal(doorbell_open(path_a, &d, err, sizeof(err)), -ENOENT);
    assert_null(d);
}

static void second_live_owner_is_refused(void **state)
{
    struct doorbell *own, *second = NULL;
    assert_int_equal(doorbell_create(path_a, &own, err, sizeof(err)), 0);
    assert_int_equal(doorbell_create(path_a, &second, err, sizeof(err)), -EBUSY);
    assert_null(second);
    assert_non_null(strstr(err, "alive"));
    doorbell_close(own);
}

/* The lock of a killed owner may outlive the kill by a little. */
static void a_dying_owner_is_waited_for(void **state)
{
    uint64_t *words = shared_words();
    struct doorbell *own;
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (doorbell_create(path_a, &own, err, sizeof(err)) < 0)
            _exit(1);
        __atomic_store_n(&words[0], 1, __ATOMIC_RELEASE);
        while (load(&words[1]) == 0)
            sched_yield();
        usleep(20000); /* dying takes its time */
        _exit(0);
    }
    while (load(&words[0]) == 0)
        sched_yield();
    __atomic_store_n(&words[1], 1, __ATOMIC_RELEASE);
    int rc = doorbell_create(path_a, &own, err, sizeof(err));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    CHECK(rc == 0, "%s", err);
    doorbell_close(own);
    munmap(words, 4096);
}

/* A ringer keeps its mapping over kill -9 and restart of the owner. */
static void ringer_survives_killed_owner(void **state)
{
    uint64_t *words = shared_words();
    struct doorbell *own, *peer;
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (doorbell_create(path_a, &own, err, sizeof(err)) < 0)
            _exit(1);
        doorbell_arm(own); /* dies asleep */
        __atomic_store_n(&words[0], 1, __ATOMIC_RELEASE);
        for (;;)
            pause();
    }
    while (load(&words[0]) == 0)
        sched_yield();
    assert_int_equal(doorbell_open(path_a, &peer, err, sizeof(err)), 0);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    doorbell_ring(peer); /* into the void */
    assert_int_equal(doorbell_create(path_a, &own, err, sizeof(err)), 0);
    doorbell_arm(own);
    doorbell_ring(peer);
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    doorbell_sleep(own, NULL, 0, GUARD_MS);
    clock_gettime(CLOCK_MONOTONIC, &after);
    CHECK(after.tv_sec - before.tv_sec < GUARD_MS / 1000, "the new owner was not woken");
    doorbell_close(peer);
    doorbell_close(own);
    munmap(words, 4096);
}

static void extra_descriptor_wakes_and_reports(void **state)
{
    struct doorbell *own;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(doorbell_create(path_a, &own, err, sizeof(err)), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    struct pollfd extra = {.fd = fds[0], .events = POLLIN};
    doorbell_arm(own);
    doorbell_sleep(own, &extra, 1, GUARD_MS);
    assert_true(extra.revents & POLLIN);
    doorbell_close(own);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_owner_is_enoent),
        cmocka_unit_test(second_live_owner_is_refused),
        cmocka_unit_test(a_dying_owner_is_waited_for),
        cmocka_unit_test(no_wake_up_is_lost_between_processes),
        cmocka_unit_test(arming_and_ringing_never_miss_each_other),
        cmocka_unit_test(many_ringers_lose_nothing),
        cmocka_unit_test(ringer_survives_killed_owner),
        cmocka_unit_test(extra_descriptor_wakes_and_reports),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
