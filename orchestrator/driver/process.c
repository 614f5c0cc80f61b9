/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Programs as processes of this host (process.h).
 *
 * A start: lock the pid file -> nobody of that name lives? -> fork -> (child: session, limits, log,
 * pid file, exec) -> its error, or nothing, by a pipe that exec closes -> pidfd -> watched.
 * The lock is held from the look until the child has written, so that two controllers, one of which
 * does not know yet that it is not the active one any more, cannot both start it.
 */
#include "orchestrator/driver/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_MAX_BYTES = 200, LOG_MOST_BYTES = 16 << 20, PID_FILE_BYTES = 512, BOOT_BYTES = 40 };

struct child {
    struct driver_process p;
    struct host *host;
    struct child *next;
    int pidfd;
    uv_poll_t poll;
};

struct host {
    struct driver driver;
    uv_loop_t *loop;
    char run_dir[PATH_MAX_BYTES];
    driver_on_end on_end;
    void *ctx;
    struct child *children;
};

static struct host *of(const struct driver *d)
{
    return (struct host *)d;
}

/* --- what the kernel knows of a process ------------------------------------------------------ */

/* Fields of /proc/PID/stat behind the name, which may hold anything. Safe in a forked child. */
static uint64_t stat_start(const char *path)
{
    char text[1024];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    text[n] = 0;
    char *at = strrchr(text, ')');
    if (!at || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X')
        return 0;
    at += 2;
    for (int field = 3; field < 22; field++) { /* starttime is the 22nd */
        at = strchr(at, ' ');
        if (!at++)
            return 0;
    }
    return strtoull(at, NULL, 10);
}

uint64_t process_start_time(int pid)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    return stat_start(path);
}

/* Another one after each boot; "": not told. Safe in a forked child. */
static void boot_id(char to[BOOT_BYTES])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, to, BOOT_BYTES - 1);
    if (fd >= 0)
        close(fd);
    to[n > 0 ? n : 0] = 0;
    to[strcspn(to, "\n")] = 0;
}

static uint64_t age_ms(uint64_t start)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    uint64_t now = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    uint64_t then = start * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
    return now > then ? now - then : 0;
}

/* --- pid files ------------------------------------------------------------------------------------- */

static void pid_path(const struct host *h, const char *name, char *to, uint32_t room)
{
    snprintf(to, room, "%s/pids/%s.pid", h->run_dir, name);
}

/* False: it is of nobody that lives. */
static bool read_pid_file(int fd, struct driver_process *p)
{
    char text[PID_FILE_BYTES];
    const char *name, *kind;
    char boot[BOOT_BYTES];
    const char *of_boot;
    json_int_t pid = 0, start = 0, config = 0;
    ssize_t n = pread(fd, text, sizeof text, 0);
    json_t *o = n > 0 ? json_loadb(text, (size_t)n, 0, NULL) : NULL;
    boot_id(boot);
    bool ok = o && !json_unpack(o, "{s:s, s:s, s:I, s:I, s:s, s:I}", "name", &name, "kind", &kind, "pid", &pid,
                                "start", &start, "boot", &of_boot, "config", &config) && !strcmp(of_boot, boot) &&
              strlen(name) < ORCH_NAME && pid > 1 && start > 0 &&
              process_start_time((int)pid) == (uint64_t)start;
    if (ok) {
        *p = (struct driver_process){.pid = (int)pid, .start = (uint64_t)start,
                                     .config = (uint64_t)config};
        snprintf(p->name, sizeof p->name, "%s", name);
        p->kind = !strcmp(kind, "store") ? ORCH_STORE : !strcmp(kind, "steering") ? ORCH_STEERING : ORCH_WORKER;
    }
    json_decref(o);
    return ok;
}

/* --- watching ----------------------------------------------------------------------------------- */

static void closed(uv_handle_t *handle)
{
    struct child *c = handle->data;
    close(c->pidfd);
    free(c);
}

static void forget(struct child *c)
{
    for (struct child **at = &c->host->children; *at; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    uv_poll_stop(&c->poll);
    uv_close((uv_handle_t *)&c->poll, closed);
}

/* Is that, open and locked, still the file of that name? Whoever had the lock before may have removed it. */
static bool is_there(int fd, const char *path)
{
    struct stat ours, there;
    return !fstat(fd, &ours) && !stat(path, &there) && ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

/* Not one that another controller wrote since, or is about to write. */
static void remove_pid_file(const struct host *h, const struct driver_process *p)
{
    char path[PATH_MAX_BYTES + 60];
    struct driver_process other;
    pid_path(h, p->name, path, sizeof path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB) && is_there(fd, path) && !read_pid_file(fd, &other))
        unlink(path);
    if (fd >= 0)
        close(fd);
}

static void ended(uv_poll_t *poll, int status, int events)
{
    struct child *c = poll->data;
    struct host *h = c->host;
    struct driver_end end = {.process = c->p, .proven = true};
    siginfo_t info = {0};
    (void)events;
    if (status < 0)
        return;
    if (!waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG) && info.si_pid) {
        end.status_known = true;
        end.exit_status = info.si_code == CLD_EXITED ? info.si_status : 0;
        end.signal = info.si_code == CLD_EXITED ? 0 : info.si_status;
    }
    end.process.age_ms = age_ms(c->p.start);
    remove_pid_file(h, &c->p);
    forget(c);
    h->on_end(h->ctx, &end);
}

static int watch(struct host *h, const struct driver_process *p, int pidfd)
{
    struct child *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    *c = (struct child){.p = *p, .host = h, .next = h->children, .pidfd = pidfd};
    int rc = uv_poll_init(h->loop, &c->poll, pidfd);
    if (rc) {
        free(c);
        return rc;
    }
    c->poll.data = c;
    uv_poll_start(&c->poll, UV_READABLE, ended);
    h->children = c;
    return 0;
}

static struct child *find(const struct host *h, const char *name)
{
    for (struct child *c = h->children; c; c = c->next)
        if (!strcmp(c->p.name, name))
            return c;
    return NULL;
}

/* --- who lives already --------------------------------------------------------------------------- */

/* A pidfd that is surely of this process: asked again after it was opened. */
static int adopt(struct host *h, const struct driver_process *p)
{
    int fd = pidfd_open(p->pid, 0);
    if (fd < 0)
        return -errno;
    if (process_start_time(p->pid) != p->start) {
        close(fd);
        return -ESRCH;
    }
    int rc = watch(h, p, fd);
    if (rc)
        close(fd);
    return rc;
}

static void find_living(struct host *h)
{
    char folder[PATH_MAX_BYTES + 8];
    struct dirent *e;
    snprintf(folder, sizeof folder, "%s/pids", h->run_dir);
    DIR *dir = opendir(folder);
    while (dir && (e = readdir(dir))) {
        struct driver_process p;
        size_t n = strlen(e->d_name);
        if (n < 5 || strcmp(e->d_name + n - 4, ".pid"))
            continue;
        int fd = openat(dirfd(dir), e->d_name, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && read_pid_file(fd, &p) && !strncmp(p.name, e->d_name, n - 4) && !p.name[n - 4])
            adopt(h, &p);
        if (fd >= 0)
            close(fd);
    }
    if (dir)
        closedir(dir);
}

/* --- the child, between fork and exec ------------------------------------------------------------------ */

struct launch {
    const struct driver_spec *spec;
    int pid_file, log, error;
};

static int write_pid_file(const struct launch *l)
{
    char text[PID_FILE_BYTES], boot[BOOT_BYTES];
    boot_id(boot);
    int n = snprintf(text, sizeof text,
                     "{\"name\": \"%s\", \"kind\": \"%s\", \"pid\": %d, \"start\": %lu, \"boot\": \"%s\", "
                     "\"config\": %lu}\n",
                     l->spec->name, orch_kind_text(l->spec->kind), getpid(), stat_start("/proc/self/stat"), boot,
                     l->spec->config);
    return ftruncate(l->pid_file, 0) || pwrite(l->pid_file, text, (size_t)n, 0) != n ? -1 : 0;
}

static void set_limits(const struct driver_spec *s)
{
    struct rlimit data = {(rlim_t)s->memory_mb << 20, (rlim_t)s->memory_mb << 20};
    if (s->memory_mb)
        setrlimit(RLIMIT_DATA, &data);
    if (s->nice)
        setpriority(PRIO_PROCESS, 0, s->nice);
}

static void become(const struct launch *l) __attribute__((noreturn));
static void become(const struct launch *l)
{
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int null = open("/dev/null", O_RDONLY);
    bool ok = setsid() > 0 && null >= 0 && dup2(null, 0) >= 0 && dup2(l->log, 1) >= 0 &&
              dup2(l->log, 2) >= 0 && !write_pid_file(l);
    set_limits(l->spec);
    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
    if (ok)
        execv(l->spec->argv[0], (char *const *)l->spec->argv);
    int error = errno;
    ssize_t n = write(l->error, &error, sizeof error);
    (void)n;
    _exit(127);
}

/* --- starting -------------------------------------------------------------------------------------------- */

static void log_path(const struct driver *d, const char *name, char *to, uint32_t room)
{
    snprintf(to, room, "%s/log/%s.log", of(d)->run_dir, name);
}

static int open_log(const struct host *h, const char *name)
{
    char path[PATH_MAX_BYTES + 60], old[PATH_MAX_BYTES + 64];
    struct stat st;
    log_path(&h->driver, name, path, sizeof path);
    snprintf(old, sizeof old, "%s.1", path);
    if (!stat(path, &st) && st.st_size > LOG_MOST_BYTES)
        rename(path, old);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    return fd < 0 ? -errno : fd;
}

/* The process, or -errno: what hindered its exec. */
static int launch(struct launch *l)
{
    int pipes[2], error = 0;
    if (pipe2(pipes, O_CLOEXEC))
        return -errno;
    l->error = pipes[1];
    pid_t pid = fork();
    if (!pid)
        become(l);
    close(pipes[1]);
    if (pid < 0)
        error = errno;
    ssize_t n;
    while (pid > 0 && (n = read(pipes[0], &error, sizeof error)) < 0 && errno == EINTR)
        continue;
    close(pipes[0]);
    if (!error)
        return pid;
    if (pid > 0)
        waitpid(pid, NULL, 0);
    return -error;
}

/* The file, made if need be, and locked. */
static int lock_file(const char *path)
{
    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0)
            return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB)) {
            close(fd);
            return -EBUSY;
        }
        if (is_there(fd, path))
            return fd;
        close(fd); /* removed between the two */
    }
}

/* The locked pid file; -EEXIST: one of that name lives, whoever started it; it is adopted. */
static int lock_name(struct host *h, const char *name)
{
    char path[PATH_MAX_BYTES + 60];
    struct driver_process other;
    pid_path(h, name, path, sizeof path);
    int fd = lock_file(path);
    if (fd < 0 || !read_pid_file(fd, &other))
        return fd;
    adopt(h, &other);
    close(fd);
    return -EEXIST;
}

static int start(struct driver *d, const struct driver_spec *spec, struct driver_process *out,
                 char *err, uint32_t err_len)
{
    struct host *h = of(d);
    struct launch l = {.spec = spec, .pid_file = -1};
    struct driver_process p = {.kind = spec->kind, .config = spec->config};
    int rc = find(h, spec->name) ? -EEXIST : 0, pidfd = -1;
    snprintf(p.name, sizeof p.name, "%s", spec->name);
    l.log = open_log(h, spec->name);
    if (!rc)
        rc = l.log < 0 ? l.log : (l.pid_file = lock_name(h, spec->name)) < 0 ? l.pid_file : 0;
    if (!rc)
        rc = p.pid = launch(&l);
    if (rc > 0) {
        p.start = process_start_time(p.pid); /* 0: dead already, which the pidfd will tell */
        pidfd = pidfd_open(p.pid, 0);
        rc = pidfd < 0 ? -errno : watch(h, &p, pidfd);
    }
    if (l.pid_file >= 0)
        close(l.pid_file);
    if (rc && l.pid_file >= 0)
        remove_pid_file(h, &p);
    if (l.log >= 0)
        close(l.log);
    if (!rc)
        *out = p;
    else
        snprintf(err, err_len, "%s cannot be started as %s: %s", spec->argv[0], spec->name,
                 rc == -EEXIST ? "one of that name runs" : strerror(-rc));
    return rc;
}

/* --- the rest ----------------------------------------------------------------------------------------------- */

static int send_signal(struct driver *d, const char *name, int number)
{
    struct child *c = find(of(d), name);
    if (!c)
        return -ESRCH;
    return pidfd_send_signal(c->pidfd, number, NULL, 0) ? -errno : 0;
}

static uint32_t list(struct driver *d, struct driver_process *to, uint32_t room)
{
    uint32_t n = 0;
    for (struct child *c = of(d)->children; c && n < room; c = c->next) {
        to[n] = c->p;
        to[n++].age_ms = age_ms(c->p.start);
    }
    return n;
}

static void look(struct driver *d)
{
    struct pollfd fds[ORCH_INSTANCES];
    struct child *children[ORCH_INSTANCES];
    nfds_t n = 0;
    for (struct child *c = of(d)->children; c && n < ORCH_INSTANCES; c = c->next) {
        children[n] = c;
        fds[n++] = (struct pollfd){.fd = c->pidfd, .events = POLLIN};
    }
    if (poll(fds, n, 0) <= 0)
        return;
    for (nfds_t i = 0; i < n; i++)
        if (fds[i].revents & POLLIN)
            ended(&children[i]->poll, 0, UV_READABLE); /* nobody else is freed by it */
}

static void destroy(struct driver *d)
{
    struct host *h = of(d);
    while (h->children)
        forget(h->children);
    free(h);
}

static const struct driver_ops process_ops = {.name = "process", .start = start, .signal = send_signal, .list = list, .look = look,
                                            .log = log_path, .destroy = destroy};

static int make_folder(const char *run_dir, const char *name, char *err, uint32_t err_len)
{
    char path[PATH_MAX_BYTES + 8];
    snprintf(path, sizeof path, "%s%s", run_dir, name);
    if (!mkdir(path, 0755) || errno == EEXIST)
        return 0;
    int rc = -errno;
    snprintf(err, err_len, "%s cannot be made: %s; may we write there?", path, strerror(-rc));
    return rc;
}

int process_run_dir(const char *run_dir, char *err, uint32_t err_len)
{
    struct stat st;
    int rc = make_folder(run_dir, "", err, err_len);
    if (rc)
        return rc;
    if (stat(run_dir, &st) || !S_ISDIR(st.st_mode))
        snprintf(err, err_len, "run_dir: %s is no folder", run_dir);
    else if (st.st_uid != 0 && st.st_uid != geteuid())
        snprintf(err, err_len, "run_dir: %s is user %u's, who could have what is written there go elsewhere; "
                 "run it as that user, or choose another", run_dir, st.st_uid);
    else if (st.st_mode & S_IWOTH)
        snprintf(err, err_len, "run_dir: everybody may write into %s, and have what is written there go elsewhere; chmod "
                 "o-w it, or choose another", run_dir);
    else
        return 0;
    return -EPERM;
}

int process_driver_create(struct driver **out, uv_loop_t *loop, const char *run_dir,
                          driver_on_end on_end, void *ctx, char *err, uint32_t err_len)
{
    static const char *const folders[] = {"/pids", "/log"};
    struct host *h = calloc(1, sizeof *h);
    int rc = h ? 0 : -ENOMEM;
    if (rc)
        snprintf(err, err_len, "out of memory");
    else
        rc = process_run_dir(run_dir, err, err_len);
    for (int i = 0; !rc && i < 2; i++)
        rc = make_folder(run_dir, folders[i], err, err_len);
    if (rc) {
        free(h);
        return rc;
    }
    *h = (struct host){.driver = {&process_ops}, .loop = loop, .on_end = on_end, .ctx = ctx};
    snprintf(h->run_dir, sizeof h->run_dir, "%s", run_dir);
    find_living(h);
    *out = &h->driver;
    return 0;
}
