/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A wall clock that can be stepped, for one process: LD_PRELOAD=libchaos_clock.so
 * LETHE_CHAOS_CLOCK=FILE.
 *
 * FILE holds a struct chaos_clock, shared with whoever steps it: CLOCK_REALTIME reads `offset_ns`
 * more than it is, from the next read on, and each read is counted. No other clock is touched: real
 * machines do not step them either. Waits for a CLOCK_REALTIME deadline are the kernel's and go by
 * the true clock, so that a deadline made by the stepped one is wrong by the step, as after a real one.
 * Without FILE nothing changes. Any thread.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct chaos_clock {
    _Atomic int64_t offset_ns;
    _Atomic uint64_t reads, stepped_reads; /* of CLOCK_REALTIME; of them with an offset */
};

enum { NS_PER_S = 1000000000 };
static struct chaos_clock *stepped;
static int (*real_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("LETHE_CHAOS_CLOCK");
    real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *at = mmap(NULL, sizeof *stepped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        stepped = at;
}

static void step(struct timespec *t)
{
    if (!stepped)
        return;
    int64_t offset = atomic_load_explicit(&stepped->offset_ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&stepped->reads, 1, memory_order_relaxed);
    if (!offset)
        return;
    atomic_fetch_add_explicit(&stepped->stepped_reads, 1, memory_order_relaxed);
    int64_t ns = (int64_t)t->tv_nsec + offset % NS_PER_S;
    t->tv_sec += offset / NS_PER_S + (ns >= NS_PER_S) - (ns < 0);
    t->tv_nsec = (ns + NS_PER_S) % NS_PER_S;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    /* before the constructor ran: other libraries' constructors */
    int rc = real_gettime ? real_gettime(id, t) : (int)syscall(SYS_clock_gettime, id, t);
    if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        step(t);
    return rc;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    struct timespec t;
    (void)zone; /* obsolete, and nobody's here */
    if (clock_gettime(CLOCK_REALTIME, &t))
        return -1;
    *tv = (struct timeval){t.tv_sec, t.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *to)
{
    struct timespec t;
    if (clock_gettime(CLOCK_REALTIME, &t))
        return -1;
    if (to)
        *to = t.tv_sec;
    return t.tv_sec;
}
