/* SPDX-License-Identifier: BSD-3-Clause */
/* Keeping in a file of run_dir, where there is no etcd (keep.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/log/log.h"
#include "orchestrator/controller/keep_impl.h"

enum { TURN_MS = 20, STANDBY_MS = 200, BROKEN_MS = 900, SURE_MS = 500 };

/* A file that was not there may have been removed from under a controller that is sure of its lead yet. */
static int open_lock(struct keep *k)
{
    int fd = open(k->lock_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0)
        k->wait_until_ms = keep_clock_ms() + SURE_MS + STANDBY_MS;
    return fd >= 0 || errno != EEXIST ? fd : open(k->lock_path, O_RDWR | O_CLOEXEC);
}

int keep_open_file(struct keep *k, const char *run_dir, char *err, uint32_t err_len)
{
    char *lock = k->lock_path;
    snprintf(lock, sizeof k->lock_path, "%s/controller.lock", run_dir);
    snprintf(k->path, sizeof k->path, "%s/desired.json", run_dir);
    snprintf(k->where, sizeof k->where, "file:%s", k->path);
    if (mkdir(run_dir, 0755) && errno != EEXIST)
        snprintf(err, err_len, "run_dir: %s cannot be made: %s", run_dir, strerror(errno));
    else if ((k->lock_fd = open_lock(k)) < 0)
        snprintf(err, err_len, "%s cannot be opened: %s", lock, strerror(errno));
    else
        return 0;
    k->lock_fd = 0;
    return -EIO;
}

void keep_close_file(struct keep *k)
{
    if (k->lock_fd)
        close(k->lock_fd);
}

/* Whole or not at all, also if the power fails. */
static int write_file(struct keep *k, const json_t *o)
{
    char tmp[320];
    snprintf(tmp, sizeof tmp, "%s.new", k->path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool bad = fd < 0 || json_dumpfd(o, fd, JSON_INDENT(1)) || fsync(fd);
    if (fd >= 0)
        close(fd);
    if (bad || rename(tmp, k->path))
        return -EIO;
    char *slash = strrchr(k->path, '/');
    *slash = 0;
    int dir = open(k->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *slash = '/';
    if (dir >= 0) {
        fsync(dir);
        close(dir);
    }
    return 0;
}

static bool read_file(struct keep *k)
{
    json_t *o = json_load_file(k->path, 0, NULL);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (text)
        keep_set_desired(k, text, strlen(text));
    free(text);
    json_decref(o);
    return o;
}

static bool begin(struct keep *k)
{
    struct orch_desired *d = NULL;
    char err[300];
    if (!access(k->path, F_OK))
        return read_file(k); /* false: it is broken, and a person has to look */
    if (desired_from_text(&d, k->config.file, k->config.text, err, sizeof err))
        return false;
    json_t *o = desired_to_json(d);
    bool ok = !write_file(k, o) && read_file(k);
    json_decref(o);
    desired_free(d);
    return ok;
}

static void nap(uint32_t ms)
{
    struct timespec t = {.tv_nsec = ms * 1000000l};
    nanosleep(&t, NULL);
}

static void change(struct keep *k)
{
    json_t *wish = keep_wish(k);
    if (!wish)
        return;
    if (write_file(k, wish)) {
        char why[200];
        snprintf(why, sizeof why, "%.150s cannot be written: %s", k->path, strerror(errno));
        keep_set_swapped(k, -EIO, why);
    } else {
        read_file(k);
        keep_set_swapped(k, 0, "");
    }
    json_decref(wish);
}

/* The lock is worth something only as the file that others will look at. */
static bool lock_stands(const struct keep *k)
{
    struct stat ours, there;
    return !fstat(k->lock_fd, &ours) && !stat(k->lock_path, &there) && ours.st_ino == there.st_ino &&
           ours.st_dev == there.st_dev;
}

/* A standby whose file is gone looks at the one that is there now. */
static void open_again(struct keep *k)
{
    char run_dir[sizeof k->lock_path];
    snprintf(run_dir, sizeof run_dir, "%s", k->lock_path);
    *strrchr(run_dir, '/') = 0;
    mkdir(run_dir, 0755);
    int fd = open_lock(k);
    if (fd < 0)
        return;
    close(k->lock_fd);
    k->lock_fd = fd;
}

static void sure_for(struct keep *k, uint32_t ms)
{
    pthread_mutex_lock(&k->lock);
    k->status.sure_until_ms = ms ? keep_clock_ms() + ms : 0;
    pthread_mutex_unlock(&k->lock);
}

/* Takes the lead, if nobody has it. True: it has. */
static bool take(struct keep *k, bool *broken)
{
    *broken = false;
    if (!lock_stands(k))
        open_again(k);
    if (flock(k->lock_fd, LOCK_EX | LOCK_NB) || !lock_stands(k) || keep_clock_ms() < k->wait_until_ms)
        return false;
    *broken = !begin(k); /* said by begin, now and again */
    if (*broken)
        return false;
    sure_for(k, SURE_MS);
    keep_set_role(k, KEEP_ACTIVE);
    return true;
}

/* Removed, another controller may lead by now: this one begins anew. */
static void lose(struct keep *k)
{
    log_error("the lock of the lead is gone", "file=%s was run_dir removed? another controller may lead", k->lock_path);
    sure_for(k, 0);
    keep_set_role(k, KEEP_LOST);
}

void keep_run_file(struct keep *k)
{
    bool active = false, broken = false, lost = false;
    while (!atomic_load_explicit(&k->stop, memory_order_acquire)) {
        if (!active && !lost)
            active = take(k, &broken);
        if (active && !lock_stands(k)) {
            active = false;
            lost = true;
            lose(k);
        }
        if (active) {
            sure_for(k, SURE_MS);
            change(k);
        }
        nap(active ? TURN_MS : broken ? BROKEN_MS : STANDBY_MS);
    }
}
