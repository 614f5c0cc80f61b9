/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The shm channel (shm.h). Per direction a single-producer single-consumer byte
 * ring in a memfd that is sealed against shrinking, so that no access can fault.
 *
 *   memfd  [ struct ring 0 | struct ring 1 | bytes of 0 | bytes of 1 ]
 *   ring   [ free | taken in | frames ... | not yet published | free ]
 *                ^head                   ^tail               ^the writer's own tail
 *
 * How frames stand in a ring: frame_ring.h. What the peer wrote is hostile: a
 * position, too, is loaded once, checked against ours and only then used; a wrong
 * one closes the channel with a sentence. What a peer can do is waste its own ring
 * and ring our bell.
 *
 * Owner: each end belongs to one thread of its process. Either may die at any
 * point: positions are stored after what they cover, and its socket's end shows.
 *
 * Sleeping, without lost wake-ups (all four seq_cst: of two that store and then
 * look, one at least sees the other; shm_sleep.pml searches all orders):
 *   reader, arm:     reader_sleeps = 1;  then look at tail
 *   writer, publish: tail = ...;         then look at reader_sleeps, ring the bell
 *   writer, full:    writer_waits = 1;   then look at head
 *   reader, release: head = ...;         then look at writer_waits, ring the bell
 * A bell is an eventfd; `fd` is an epoll set of the bell and the socket.
 */
#include "common/wire/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/wire/frame_ring.h"

enum {
    BACKLOG = 128,
    LOOK_EVERY = 4096,            /* empty recvs between two looks at the socket */
    HEADS_BYTES = 4096,
    HOME_BYTES = 64 * 1024,       /* see go_home */
    SHARED_BYTES = HEADS_BYTES + 2 * SHM_RING_BYTES,
    FDS = 3,                      /* memfd, listener's bell, client's bell */
};
_Static_assert(SHM_RING_BYTES >= 2 * MSG_BYTES_MAX, "any frame fits into an empty ring");

struct ring {
    alignas(64) _Atomic uint64_t tail; /* writer stores; partner: look, arm */
    _Atomic uint32_t reader_sleeps;    /* reader stores; partner: exchange in publish */
    alignas(64) _Atomic uint64_t head; /* reader stores; partner: room */
    _Atomic uint32_t writer_waits;     /* writer stores; partner: exchange in release */
};

struct shm {
    struct channel c;
    int socket, bell, peer_bell, sleep_fd;
    bool connecting;              /* the rings have not come yet */
    uint8_t *shared;              /* the mapping; NULL while connecting */
    struct ring *in, *out;
    uint8_t *in_bytes, *out_bytes;
    uint64_t out_tail, head_seen; /* out_tail may be ahead of out->tail */
    uint64_t home_at;             /* index from which on go_home looks */
    uint64_t put, put_most;       /* bytes since go_home saw the ring empty; most of these */
    uint64_t in_head, tail_seen;
    uint64_t released;            /* in->head as we stored it last */
    uint32_t empty;               /* recvs without a frame in a row */
    bool waited;                  /* send said -EAGAIN, not yet relieved */
    uint8_t *frame;               /* MSG_BYTES_MAX: what is lent */
};

static struct shm *of(struct channel *c)
{
    return (struct shm *)c;
}

static void ring_bell(const struct shm *s)
{
    /* Fails only when the counter is full, and then it is readable. */
    (void)!write(s->peer_bell, &(uint64_t){1}, 8);
}

static void shut(struct shm *s, const char *why)
{
    if (!s->c.open)
        return;
    s->c.open = false;
    snprintf(s->c.why, sizeof s->c.why, "%s", why);
    shutdown(s->socket, SHUT_RDWR);
}

static bool peer_gone(const struct shm *s)
{
    char byte;
    ssize_t n = recv(s->socket, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    return n >= 0 || (errno != EAGAIN && errno != EINTR); /* nothing is ever sent on it */
}

/* --- setting up -------------------------------------------------------------------- */

static void use_rings(struct shm *s, bool listener)
{
    struct ring *rings = (struct ring *)s->shared;
    uint8_t *bytes = s->shared + HEADS_BYTES;
    s->out = &rings[listener];
    s->in = &rings[!listener];
    s->out_bytes = bytes + (size_t)listener * SHM_RING_BYTES;
    s->in_bytes = bytes + (size_t)!listener * SHM_RING_BYTES;
    s->connecting = false;
    s->home_at = HOME_BYTES;
}

static bool map(struct shm *s, int memfd)
{
    void *at = mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    s->shared = at == MAP_FAILED ? NULL : at;
    return s->shared != NULL;
}

static bool watch(struct shm *s, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP};
    return epoll_ctl(s->sleep_fd, EPOLL_CTL_ADD, fd, &ev) == 0;
}

static void destroy(struct shm *s)
{
    int fds[] = {s->socket, s->bell, s->peer_bell, s->sleep_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (s->shared)
        munmap(s->shared, SHARED_BYTES);
    free(s->frame);
    free(s);
}

static int send_fds(int socket, const int *fds)
{
    char byte = FDS, control[CMSG_SPACE(FDS * sizeof(int))] = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
                       .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(FDS * sizeof(int));
    memcpy(CMSG_DATA(c), fds, FDS * sizeof(int));
    return sendmsg(socket, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? 0 : -errno;
}

/* 0, -EAGAIN, or -errno; on 0 all FDS descriptors are the caller's. */
static int receive_fds(int socket, int *fds)
{
    char byte, control[CMSG_SPACE(FDS * sizeof(int))];
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
                       .msg_controllen = sizeof control};
    ssize_t n = recvmsg(socket, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return -errno;
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    size_t got = 0;
    if (n == 1 && c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        got = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(c), got * sizeof(int));
    }
    if (got == FDS)
        return 0;
    while (got)
        close(fds[--got]);
    return n ? -EPROTO : -ECONNRESET;
}

/* A memfd of our size that cannot shrink under us. */
static bool is_sealed(int memfd)
{
    struct stat st;
    int seals = fcntl(memfd, F_GET_SEALS);
    return fstat(memfd, &st) == 0 && st.st_size == SHARED_BYTES && seals >= 0 &&
           (seals & F_SEAL_SHRINK);
}

/* Client: have the rings come? */
static bool connected(struct shm *s)
{
    int fds[FDS], rc;
    if (!s->connecting)
        return true;
    if (!s->c.open || (rc = receive_fds(s->socket, fds)) == -EAGAIN || rc == -EINTR)
        return false;
    if (rc) {
        shut(s, rc == -ECONNRESET ? "refused: the store runs as another user, or has no room"
                                  : "the listener sent something else than its rings");
        return false;
    }
    s->peer_bell = fds[1];
    s->bell = fds[2];
    bool ok = is_sealed(fds[0]) && map(s, fds[0]) && watch(s, s->bell);
    close(fds[0]);
    if (ok)
        use_rings(s, false);
    else
        shut(s, "the listener's shared memory cannot be used");
    return ok;
}

/* --- writing ------------------------------------------------------------------------- */

static void publish(struct shm *s)
{
    if (atomic_load_explicit(&s->out->tail, memory_order_relaxed) == s->out_tail)
        return;
    atomic_store(&s->out->tail, s->out_tail);
    if (atomic_load(&s->out->reader_sleeps) && atomic_exchange(&s->out->reader_sleeps, 0))
        ring_bell(s);
}

static bool fits(const struct shm *s, uint64_t need)
{
    return s->out_tail + need - s->head_seen <= SHM_RING_BYTES;
}

/* The reader's head, if it can be one. */
static bool see_head(struct shm *s)
{
    uint64_t head = atomic_load(&s->out->head);
    if (head - s->head_seen > s->out_tail - s->head_seen) {
        shut(s, "the other side wrote a ring position that cannot be");
        return false;
    }
    s->head_seen = head;
    return true;
}

/* Waits are announced before the last look, so that the reader's release either
 * is seen here or sees us. */
static bool wait_for_room(struct shm *s, uint64_t need)
{
    if (!see_head(s))
        return false;
    if (fits(s, need))
        return true;
    publish(s); /* a reader cannot make room of what it does not see */
    atomic_store(&s->out->writer_waits, 1);
    if (!see_head(s))
        return false;
    s->waited = !fits(s, need);
    if (!s->waited)
        atomic_store_explicit(&s->out->writer_waits, 0, memory_order_relaxed);
    return !s->waited;
}

/* A ring that was read empty begins at its start again, so that a connection on which
 * little is outstanding has its few pages in the cache, and does not own more of them.
 * Until the reader has followed there is room up to where we left: twice what was
 * outstanding at most. */
static void go_home(struct shm *s, uint32_t bytes)
{
    uint64_t at = s->out_tail & (SHM_RING_BYTES - 1);
    if (at < s->home_at || bytes > at)
        return;
    s->home_at = at + HOME_BYTES;
    if (s->put > s->put_most)
        s->put_most = s->put;
    if (!see_head(s) || s->head_seen != s->out_tail)
        return;
    s->put = 0;
    if (at < 2 * s->put_most)
        return;
    s->out_tail = frame_ring_skip(s->out_bytes, SHM_RING_BYTES, s->out_tail);
    s->home_at = HOME_BYTES;
    s->put_most = 0;
}

static int shm_send(struct channel *c, const void *frame, uint32_t bytes)
{
    struct shm *s = of(c);
    if (bytes < sizeof(struct msg_head) || bytes > MSG_BYTES_MAX || bytes % 8 != 0)
        return -EMSGSIZE;
    bool up = connected(s);
    if (!c->open)
        return -ENOTCONN;
    if (!up)
        return -EAGAIN;
    go_home(s, bytes);
    if (!c->open)
        return -ENOTCONN;
    uint64_t need = frame_ring_need(SHM_RING_BYTES, s->out_tail, bytes);
    if (!fits(s, need) && !wait_for_room(s, need)) {
        if (c->open && peer_gone(s))
            shut(s, "the other side closed");
        return c->open ? -EAGAIN : -ENOTCONN;
    }
    s->put += bytes;
    if (need != bytes)
        s->home_at = HOME_BYTES;
    s->out_tail = frame_ring_put(s->out_bytes, SHM_RING_BYTES, s->out_tail, frame, bytes);
    return 0;
}

static void shm_flush(struct channel *c)
{
    struct shm *s = of(c);
    if (c->open && !s->connecting)
        publish(s);
}

/* --- reading --------------------------------------------------------------------------- */

static void release(struct shm *s)
{
    if (s->released == s->in_head)
        return;
    s->released = s->in_head;
    atomic_store(&s->in->head, s->in_head);
    if (atomic_load(&s->in->writer_waits) && atomic_exchange(&s->in->writer_waits, 0))
        ring_bell(s);
}

/* Loads the writer's tail when all seen before is read. NULL, or what is wrong. */
static const char *look(struct shm *s)
{
    if (s->in_head != s->tail_seen)
        return NULL;
    uint64_t tail = atomic_load_explicit(&s->in->tail, memory_order_acquire);
    if (tail - s->in_head > SHM_RING_BYTES || tail % 8)
        return "a ring position that cannot be";
    s->c.looks += tail != s->tail_seen;
    s->tail_seen = tail;
    return NULL;
}

static const void *nothing(struct shm *s)
{
    release(s);
    if (++s->empty % LOOK_EVERY == 0 && peer_gone(s) && !look(s) && s->in_head == s->tail_seen)
        shut(s, "the other side closed");
    return NULL;
}

static const void *shm_recv(struct channel *c, uint32_t *bytes)
{
    struct shm *s = of(c);
    if (!c->open || !connected(s))
        return NULL;
    if (s->in_head - s->released > SHM_RING_BYTES / 4)
        release(s);
    const char *why = look(s);
    if (!why && s->in_head == s->tail_seen)
        return nothing(s);
    s->empty = 0;
    if (!why)
        why = frame_ring_take(s->in_bytes, SHM_RING_BYTES, &s->in_head, s->tail_seen, 0, s->frame,
                              bytes);
    if (!why)
        return s->frame;
    char text[sizeof c->why];
    snprintf(text, sizeof text, "the other side sent what is no valid message: %s", why);
    shut(s, text);
    return NULL;
}

/* --- sleeping, closing -------------------------------------------------------------------- */

static int shm_fd(struct channel *c, short *events)
{
    *events = POLLIN;
    return c->open ? of(c)->sleep_fd : -1;
}

static bool shm_arm(struct channel *c)
{
    struct shm *s = of(c);
    uint64_t count;
    if (!c->open)
        return true;
    if (s->connecting)
        return !connected(s) && c->open;
    /* Emptied before the looks below: a bell after them is for what they missed. */
    (void)!read(s->bell, &count, sizeof count);
    if (s->waited && atomic_load(&s->out->writer_waits) == 0) {
        s->waited = false;
        return false;
    }
    atomic_store(&s->in->reader_sleeps, 1);
    if (atomic_load(&s->in->tail) == s->in_head) {
        if (!peer_gone(s))
            return true;
        s->empty = LOOK_EVERY - 1; /* the next recv says so */
    }
    atomic_store_explicit(&s->in->reader_sleeps, 0, memory_order_relaxed);
    return false;
}

static void shm_close(struct channel *c)
{
    shm_flush(c);
    shut(of(c), "closed here");
    destroy(of(c));
}

static const struct channel_ops shm_ops = {
    .name = "shm", .send = shm_send, .flush = shm_flush, .recv = shm_recv,
    .fd = shm_fd, .arm = shm_arm, .close = shm_close,
};

static struct shm *create(int socket)
{
    struct shm *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    *s = (struct shm){.c = {.ops = &shm_ops, .open = true, .cheap = true}, .socket = socket,
                      .bell = -1, .peer_bell = -1, .sleep_fd = epoll_create1(EPOLL_CLOEXEC),
                      .connecting = true, .frame = aligned_alloc(64, MSG_BYTES_MAX)};
    if (s->sleep_fd >= 0 && s->frame && watch(s, socket))
        return s;
    s->socket = -1;
    destroy(s);
    return NULL;
}

/* --- addresses, listening -------------------------------------------------------------------- */

static int address_of(const char *path, struct sockaddr_un *a, char *err, uint32_t err_len)
{
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (!path[0] || strlen(path) >= sizeof a->sun_path) {
        snprintf(err, err_len, "'%.60s': a socket's path has 1 to %zu characters", path,
                 sizeof a->sun_path - 1);
        return -EINVAL;
    }
    memcpy(a->sun_path, path, strlen(path));
    return 0;
}

static int unix_socket(void)
{
    return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* A socket file that was left behind. */
static bool nobody_listens(const struct sockaddr_un *a)
{
    int fd = unix_socket();
    bool refused = fd >= 0 && connect(fd, (const void *)a, sizeof *a) < 0 && errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return refused;
}

int shm_listen(const char *path, char *err, uint32_t err_len)
{
    struct sockaddr_un a;
    int rc = address_of(path, &a, err, err_len), fd;
    if (rc)
        return rc;
    fd = unix_socket();
    rc = fd < 0 ? -1 : bind(fd, (void *)&a, sizeof a);
    if (rc < 0 && fd >= 0 && errno == EADDRINUSE && nobody_listens(&a)) {
        unlink(path);
        rc = bind(fd, (void *)&a, sizeof a);
    }
    if (!rc && !listen(fd, BACKLOG))
        return fd;
    rc = -errno;
    snprintf(err, err_len, rc == -EADDRINUSE ? "%s is in use by another program: %s"
                                             : "cannot listen on %s: %s", path, strerror(-rc));
    if (fd >= 0)
        close(fd);
    return rc;
}

static int shared_memory(void)
{
    int fd = memfd_create("lethe-shm", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && ftruncate(fd, SHARED_BYTES) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static bool may_connect(int socket)
{
    struct ucred who;
    socklen_t len = sizeof who;
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
           (who.uid == 0 || who.uid == geteuid());
}

static bool offer_rings(struct shm *s)
{
    int memfd = shared_memory();
    s->bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    s->peer_bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int fds[FDS] = {memfd, s->bell, s->peer_bell};
    bool ok = memfd >= 0 && s->bell >= 0 && s->peer_bell >= 0 && map(s, memfd) &&
              watch(s, s->bell) && send_fds(s->socket, fds) == 0;
    if (memfd >= 0)
        close(memfd);
    if (ok)
        use_rings(s, true);
    return ok;
}

struct channel *shm_accept(int listen_fd)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return NULL;
    if (!may_connect(fd)) {
        close(fd);
        errno = EPERM;
        return NULL;
    }
    struct shm *s = create(fd);
    if (!s) {
        close(fd);
        return NULL;
    }
    if (offer_rings(s))
        return &s->c;
    destroy(s);
    return NULL;
}

struct channel *shm_connect(const char *path, char *err, uint32_t err_len)
{
    struct sockaddr_un a;
    if (address_of(path, &a, err, err_len))
        return NULL;
    int fd = unix_socket();
    if (fd < 0 || connect(fd, (void *)&a, sizeof a) < 0) {
        int why = errno;
        snprintf(err, err_len, why == ENOENT || why == ECONNREFUSED
                                   ? "no store listens at %s (%s); is it on this host, and running?"
                                   : "cannot connect to %s: %s", path, strerror(why));
        if (fd >= 0)
            close(fd);
        errno = why;
        return NULL;
    }
    struct shm *s = create(fd);
    if (s)
        return &s->c;
    snprintf(err, err_len, "out of memory for a connection to %s", path);
    close(fd);
    return NULL;
}
