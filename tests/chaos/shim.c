/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What one program is told of its wall clock, and what it is told of its disk:
 * LD_PRELOAD=libchaos_shim.so LETHE_CHAOS_SHIM=FILE.
 *
 * FILE holds a struct chaos_shim, shared with the test: CLOCK_REALTIME reads `offset_ns` more than it is, from the
 * next read on, and each read is counted, as is each write that found a disk full. No other clock is touched: real
 * machines do not step them either. Waits for a CLOCK_REALTIME deadline are the kernel's and go by the true clock, so
 * that a deadline made by the stepped one is wrong by the step, as after a real one. Without FILE nothing changes.
 * Any thread; a forked child, too.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct chaos_shim {
    _Atomic int64_t offset_ns;
    _Atomic uint64_t reads, stepped_reads; /* of CLOCK_REALTIME; of them with an offset */
    _Atomic uint64_t no_space;             /* writes that ended with ENOSPC */
};

enum { NS_PER_S = 1000000000 };
static struct chaos_shim *shim;
static int (*real_gettime)(clockid_t, struct timespec *);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("LETHE_CHAOS_SHIM");
    real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    real_write = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    real_pwrite = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *at = mmap(NULL, sizeof *shim, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        shim = at;
}

static void step(struct timespec *t)
{
    if (!shim)
        return;
    int64_t offset = atomic_load_explicit(&shim->offset_ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&shim->reads, 1, memory_order_relaxed);
    if (!offset)
        return;
    atomic_fetch_add_explicit(&shim->stepped_reads, 1, memory_order_relaxed);
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

static ssize_t counted(ssize_t n)
{
    if (n < 0 && errno == ENOSPC && shim)
        atomic_fetch_add_explicit(&shim->no_space, 1, memory_order_relaxed);
    return n;
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    return counted(real_write ? real_write(fd, bytes, n) : (ssize_t)syscall(SYS_write, fd, bytes, n));
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at)
{
    return counted(real_pwrite ? real_pwrite(fd, bytes, n, at) : (ssize_t)syscall(SYS_pwrite64, fd, bytes, n, at));
}
