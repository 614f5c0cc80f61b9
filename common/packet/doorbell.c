/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The doorbell: a page with one word, and a FIFO. See doorbell.h.
 *
 * The page's flock says that the owner lives: a second owner is refused (after
 * DYING_MS: a killed process holds its locks until its memory is taken apart),
 * a dead one's files are taken over *as they are* (same inodes), so that
 * ringers which opened them before the kill go on ringing the new owner.
 *
 * A ringer killed between its exchange and its write loses that one wake-up:
 * sleepers use a time-out.
 */
#include "common/packet/doorbell.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096, EXTRA_MAX = 15, SLACK_NS = 1000, DYING_MS = 1000, DYING_STEP_MS = 5 };

struct doorbell {
    uint32_t *sleeping;       /* shared: 1 while the owner sleeps or is about to */
    int page_fd, fifo_fd;
    bool owner, slack_set;
    char *path, *fifo_path;
};

static int refuse(int error, char *err, uint32_t err_len, const char *what, const char *path)
{
    snprintf(err, err_len, "doorbell %s: %s: %s", path, what, strerror(error));
    return -error;
}

static void release(struct doorbell *d)
{
    if (d->sleeping != NULL)
        munmap(d->sleeping, PAGE_BYTES);
    if (d->fifo_fd >= 0)
        close(d->fifo_fd);
    if (d->page_fd >= 0)
        close(d->page_fd);
    free(d->path);
    free(d->fifo_path);
    free(d);
}

static struct doorbell *allocate(const char *path, bool owner)
{
    struct doorbell *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return NULL;
    d->page_fd = d->fifo_fd = -1;
    d->owner = owner;
    d->path = strdup(path);
    if (d->path == NULL || asprintf(&d->fifo_path, "%s.fifo", path) < 0) {
        d->fifo_path = NULL;
        release(d);
        return NULL;
    }
    return d;
}

static int map_page(struct doorbell *d)
{
    void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, d->page_fd, 0);
    if (page == MAP_FAILED)
        return -errno;
    d->sleeping = page;
    return 0;
}

/* A clean exit of the last owner may unlink the file between our open and our
 * lock; then we hold a file that nobody else can find. */
static bool still_linked(const struct doorbell *d)
{
    struct stat ours, there;
    return fstat(d->page_fd, &ours) == 0 && stat(d->path, &there) == 0 &&
           ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

static int lock_or_wait_for_the_dying(int fd)
{
    const struct timespec step = {0, DYING_STEP_MS * 1000000L};
    for (int waited_ms = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited_ms += DYING_STEP_MS) {
        if (errno != EWOULDBLOCK)
            return -errno;
        if (waited_ms >= DYING_MS)
            return -EBUSY;
        nanosleep(&step, NULL);
    }
    return 0;
}

static int lock_page(struct doorbell *d)
{
    for (int attempt = 0; attempt < 16; attempt++) {
        d->page_fd = open(d->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0660);
        if (d->page_fd < 0)
            return -errno;
        int rc = lock_or_wait_for_the_dying(d->page_fd);
        if (rc < 0)
            return rc;
        if (still_linked(d)) { /* with room on the disk: a page that has none kills who touches it */
            int full = posix_fallocate(d->page_fd, 0, PAGE_BYTES);
            return full ? -full : map_page(d);
        }
        close(d->page_fd);
        d->page_fd = -1;
    }
    return -EAGAIN;
}

/* Read-write, so that opening never waits for the other side and writing
 * never meets a FIFO without a reader. */
static int open_fifo(struct doorbell *d)
{
    struct stat st;
    d->fifo_fd = open(d->fifo_path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (d->fifo_fd < 0)
        return -errno;
    if (fstat(d->fifo_fd, &st) < 0 || !S_ISFIFO(st.st_mode))
        return -EEXIST;
    return 0;
}

static void drain(struct doorbell *d)
{
    char bytes[64];
    while (read(d->fifo_fd, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes))
        continue;
}

int doorbell_create(const char *path, struct doorbell **out, char *err, uint32_t err_len)
{
    struct doorbell *d = allocate(path, true);
    if (d == NULL)
        return refuse(ENOMEM, err, err_len, "cannot be made", path);
    int rc = lock_page(d);
    if (rc < 0) {
        const char *what = rc == -EBUSY ? "another process that is alive owns it; stop that first"
                                        : "cannot be made";
        release(d);
        return refuse(-rc, err, err_len, what, path);
    }
    if (mkfifo(d->fifo_path, 0660) < 0 && errno != EEXIST)
        rc = -errno;
    else
        rc = open_fifo(d);
    if (rc < 0) {
        release(d);
        return refuse(-rc, err, err_len, "its .fifo cannot be made", path);
    }
    __atomic_store_n(d->sleeping, 0, __ATOMIC_SEQ_CST);
    drain(d);
    *out = d;
    return 0;
}

int doorbell_open(const char *path, struct doorbell **out, char *err, uint32_t err_len)
{
    struct stat st;
    struct doorbell *d = allocate(path, false);
    if (d == NULL)
        return refuse(ENOMEM, err, err_len, "cannot be opened", path);
    int rc = 0;
    d->page_fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (d->page_fd < 0 || fstat(d->page_fd, &st) < 0)
        rc = -errno;
    else if (st.st_size < PAGE_BYTES)
        rc = -ENOENT; /* the owner is just making it */
    if (rc == 0)
        rc = map_page(d);
    if (rc == 0)
        rc = open_fifo(d);
    if (rc < 0) {
        release(d);
        return refuse(-rc, err, err_len, "cannot be opened", path);
    }
    *out = d;
    return 0;
}

void doorbell_close(struct doorbell *d)
{
    if (d == NULL)
        return;
    if (d->owner) {
        unlink(d->fifo_path);
        unlink(d->path);
    }
    release(d);
}

static inline void full_fence(uint32_t *word)
{
#ifdef __SANITIZE_THREAD__
    __atomic_fetch_add(word, 0, __ATOMIC_SEQ_CST); /* TSan knows no fences */
#else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

void doorbell_ring(struct doorbell *d)
{
    full_fence(d->sleeping); /* pairs with doorbell_arm's exchange */
    if (__atomic_load_n(d->sleeping, __ATOMIC_RELAXED) == 0)
        return;
    if (__atomic_exchange_n(d->sleeping, 0, __ATOMIC_SEQ_CST) == 0)
        return;
    char byte = 1;
    /* A full FIFO (EAGAIN) is readable, which is all that is wanted. */
    if (write(d->fifo_fd, &byte, 1) < 0)
        return;
}

void doorbell_arm(struct doorbell *d)
{
    __atomic_exchange_n(d->sleeping, 1, __ATOMIC_SEQ_CST); /* pairs with doorbell_ring's fence */
}

void doorbell_disarm(struct doorbell *d)
{
    __atomic_store_n(d->sleeping, 0, __ATOMIC_RELEASE);
}

void doorbell_sleep(struct doorbell *d, struct pollfd *extra, int nextra, int timeout_ms)
{
    struct pollfd fds[1 + EXTRA_MAX];
    assert(nextra >= 0 && nextra <= EXTRA_MAX);
    if (!d->slack_set) {
        /* The kernel's default of 50 us would be added to every time-out. */
        prctl(PR_SET_TIMERSLACK, SLACK_NS, 0, 0, 0);
        d->slack_set = true;
    }
    fds[0] = (struct pollfd){.fd = d->fifo_fd, .events = POLLIN};
    if (nextra > 0)
        memcpy(fds + 1, extra, (size_t)nextra * sizeof(*extra));
    struct timespec ts = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    int n = ppoll(fds, (nfds_t)(1 + nextra), timeout_ms < 0 ? NULL : &ts, NULL);
    doorbell_disarm(d);
    if (n > 0 && (fds[0].revents & POLLIN) != 0)
        drain(d);
    for (int i = 0; i < nextra; i++)
        extra[i].revents = n > 0 ? fds[1 + i].revents : 0;
}
