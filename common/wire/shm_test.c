/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What only the shm channel has: a peer that dies without a word, a peer that
 * writes nonsense into the shared rings, socket files left behind, and who may
 * connect. What it shares with the other channels is in channel_test.c.
 */
#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/wire/msg.h"
#include "common/wire/shm.h"

enum { PATIENCE_MS = 20000, HOSTILE_ROUNDS = 3000 };

struct place { char dir[40], path[64]; int fd; };

static struct place listen_somewhere(void)
{
    struct place p = {.dir = "/tmp/lethe-shm-XXXXXX"};
    char err[200];
    assert_non_null(mkdtemp(p.dir));
    snprintf(p.path, sizeof p.path, "%s/s", p.dir);
    p.fd = shm_listen(p.path, err, sizeof err);
    CHECK(p.fd >= 0, "%s", err);
    return p;
}

static void leave(struct place *p)
{
    close(p->fd);
    unlink(p->path);
    rmdir(p->dir);
}

static struct channel *accept_one(const struct place *p)
{
    struct pollfd w = {.fd = p->fd, .events = POLLIN};
    assert_int_equal(poll(&w, 1, PATIENCE_MS), 1);
    return shm_accept(p->fd);
}

static void send_status(struct channel *c, uint64_t nonce)
{
    struct msg_status m = {.nonce = nonce};
    msg_head_set(&m, MSG_STATUS, sizeof m, 0, 0);
    int rc;
    while ((rc = channel_send(c, &m, sizeof m)) == -EAGAIN)
        channel_recv(c, &(uint32_t){0});
    assert_int_equal(rc, 0);
    channel_flush(c);
}

static const void *await(struct channel *c)
{
    const void *frame;
    while (!(frame = channel_recv(c, &(uint32_t){0})) && c->open) {
        struct pollfd p = {.fd = channel_fd(c, &p.events)};
        if (channel_arm(c))
            CHECK(poll(&p, 1, PATIENCE_MS) == 1, "nothing woke us for %d ms", PATIENCE_MS);
    }
    return frame;
}

/* --- a peer that dies ------------------------------------------------------------------ */

static pid_t start_peer(const struct place *p, uint64_t frames)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    char err[200];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct channel *c = shm_connect(p->path, err, sizeof err);
    for (uint64_t i = 1; c && i <= frames; i++)
        send_status(c, i);
    for (;;)
        pause();
}

static void kill_peer(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_killed_peer_wakes_who_sleeps_and_loses_nothing(void **state)
{
    for (int round = 0; round < 20; round++) {
        struct place p = listen_somewhere();
        pid_t pid = start_peer(&p, 5);
        struct channel *c = accept_one(&p);
        assert_non_null(c);
        const struct msg_status *m = NULL;
        for (uint64_t i = 1; i <= 5; i++) {
            assert_non_null(m = await(c));
            assert_int_equal(m->nonce, i);
        }
        if (round % 2)
            assert_true(channel_arm(c)); /* asleep before it dies */
        kill_peer(pid);
        assert_null(await(c));
        assert_false(c->open);
        assert_string_equal(c->why, "the other side closed");
        channel_close(c);
        leave(&p);
    }
}

static void what_a_dead_peer_published_still_arrives(void **state)
{
    struct place p = listen_somewhere();
    pid_t pid = start_peer(&p, 100);
    struct channel *c = accept_one(&p);
    const struct msg_status *m = await(c);
    assert_int_equal(m->nonce, 1);
    uint64_t last = 1;
    while (last < 50 && (m = await(c)))
        last = m->nonce;
    kill_peer(pid);
    while ((m = await(c)))
        assert_int_equal(m->nonce, ++last);
    CHECK(last >= 50, "only %lu frames arrived", last);
    channel_close(c);
    leave(&p);
}

static void a_writer_without_room_learns_of_the_death(void **state)
{
    struct place p = listen_somewhere();
    pid_t pid = start_peer(&p, 0);
    struct channel *c = accept_one(&p);
    struct msg_status m = {.nonce = 1};
    int rc;
    msg_head_set(&m, MSG_STATUS, sizeof m, 0, 0);
    while (!(rc = channel_send(c, &m, sizeof m)))
        ;
    assert_int_equal(rc, -EAGAIN);
    kill_peer(pid);
    while ((rc = channel_send(c, &m, sizeof m)) == -EAGAIN)
        ;
    assert_int_equal(rc, -ENOTCONN);
    channel_close(c);
    leave(&p);
}

/* --- a peer that lies --------------------------------------------------------------------- */

/* The client's side by hand: the shared memory as any process may map it. */
struct liar { int socket; uint8_t *shared; size_t bytes; };

static struct liar lie_at(const struct place *p)
{
    struct liar l = {.socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", p->path);
    assert_int_equal(connect(l.socket, (void *)&a, sizeof a), 0);
    return l;
}

static void map_rings(struct liar *l)
{
    char byte, control[256];
    struct iovec iov = {&byte, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
                       .msg_controllen = sizeof control};
    assert_int_equal(recvmsg(l->socket, &m, 0), 1);
    int fds[3];
    memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fds);
    l->bytes = (size_t)lseek(fds[0], 0, SEEK_END);
    l->shared = mmap(NULL, l->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
    assert_ptr_not_equal(l->shared, MAP_FAILED);
    CHECK(ftruncate(fds[0], 0) < 0 && errno == EPERM, "the memory can be shrunk under its reader");
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}

static uint64_t rnd(uint64_t *state)
{
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state;
}

/* A number that is likely to hurt: near a bound, or anything. */
static uint64_t nasty(uint64_t *seed)
{
    static const uint64_t near[] = {0, 8, 24, 32, MSG_BYTES_MAX, SHM_RING_BYTES, UINT32_MAX,
                                    UINT64_MAX - 7};
    uint64_t r = rnd(seed);
    return r % 4 ? near[r / 4 % 8] + (r >> 32) % 3 * 8 : rnd(seed) >> r % 64;
}

static void spoil(struct liar *l, uint64_t *seed)
{
    for (int i = 0; i < 6; i++) {
        uint64_t v = nasty(seed), at = rnd(seed) % 4;
        /* the four positions, or the beginnings of both rings' bytes */
        size_t offset = (size_t)(at * 64);
        if (rnd(seed) % 2)
            offset = 4096 + rnd(seed) % 2 * SHM_RING_BYTES + rnd(seed) % 16 * 8;
        memcpy(l->shared + offset, &v, sizeof v);
    }
}

/* Whatever it writes, we read and write on: no fault, no wrong frame taken for a
 * right one, and an end with a reason. */
static void nonsense_in_the_rings_harms_nobody(void **state)
{
    struct place p = listen_somewhere();
    uint64_t seed = 88172645463325252ull, closed = 0;
    for (int round = 0; round < HOSTILE_ROUNDS; round++) {
        struct liar l = lie_at(&p);
        struct channel *c = accept_one(&p);
        struct msg_status m = {.nonce = 1};
        msg_head_set(&m, MSG_STATUS, sizeof m, 0, 0);
        map_rings(&l);
        for (int i = 0; i < 8 && c->open; i++) {
            uint32_t bytes = 0;
            spoil(&l, &seed);
            const void *frame = channel_recv(c, &bytes);
            assert_true(!frame || (bytes >= sizeof(struct msg_head) && bytes <= MSG_BYTES_MAX &&
                                   !msg_validate(frame, bytes)));
            channel_send(c, &m, sizeof m);
            channel_flush(c);
            channel_arm(c);
        }
        closed += !c->open;
        if (!c->open)
            assert_true(strlen(c->why) > 10);
        channel_close(c);
        close(l.socket);
        munmap(l.shared, l.bytes);
    }
    CHECK(closed > HOSTILE_ROUNDS / 2, "only %lu of %d liars were noticed", closed, HOSTILE_ROUNDS);
    leave(&p);
}

/* --- where frames lie ------------------------------------------------------------------------ */

static long shared_kb(void)
{
    char line[128];
    long kb = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (kb < 0 && fgets(line, sizeof line, f))
        sscanf(line, "RssShmem: %ld", &kb);
    fclose(f);
    return kb;
}

/* As many frames as would go four times round. */
static void a_connection_with_little_on_its_way_has_few_pages(void **state)
{
    struct place p = listen_somewhere();
    char err[200];
    struct channel *a = shm_connect(p.path, err, sizeof err), *b = accept_one(&p);
    long before = shared_kb();
    for (uint64_t n = 1; n <= 4 * SHM_RING_BYTES / sizeof(struct msg_status); n++) {
        send_status(a, n);
        const struct msg_status *m = await(b);
        CHECK(m && m->nonce == n, "frame %lu did not come", (unsigned long)n);
        assert_null(channel_recv(b, &(uint32_t){0}));
    }
    long kb = shared_kb() - before; /* of both ends */
    CHECK(kb < SHM_RING_BYTES / 1024, "%ld kB of shared memory are in use", kb);
    channel_close(a);
    channel_close(b);
    leave(&p);
}

/* --- files and users ------------------------------------------------------------------------ */

static void a_file_left_behind_is_replaced_a_live_one_is_not(void **state)
{
    struct place p = listen_somewhere();
    char err[200];
    assert_int_equal(shm_listen(p.path, err, sizeof err), -EADDRINUSE);
    assert_non_null(strstr(err, "in use by another program"));
    close(p.fd);
    assert_null(shm_connect(p.path, err, sizeof err));
    assert_non_null(strstr(err, "no store listens at"));
    p.fd = shm_listen(p.path, err, sizeof err);
    CHECK(p.fd >= 0, "%s", err);
    leave(&p);
}

static void another_user_is_turned_away(void **state)
{
    if (geteuid() != 0)
        fail_msg("%s", "run me as root: I have to become another user");
    struct place p = listen_somewhere();
    assert_int_equal(chmod(p.dir, 0755), 0);
    assert_int_equal(chmod(p.path, 0777), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char err[200];
        struct channel *c = setuid(65534) ? NULL : shm_connect(p.path, err, sizeof err);
        while (c && c->open)
            channel_recv(c, &(uint32_t){0});
        _exit(c && strstr(c->why, "refused") ? 0 : 1);
    }
    errno = 0;
    assert_null(accept_one(&p));
    assert_int_equal(errno, EPERM);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    leave(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_peer_wakes_who_sleeps_and_loses_nothing),
        cmocka_unit_test(what_a_dead_peer_published_still_arrives),
        cmocka_unit_test(a_writer_without_room_learns_of_the_death),
        cmocka_unit_test(nonsense_in_the_rings_harms_nobody),
        cmocka_unit_test(a_connection_with_little_on_its_way_has_few_pages),
        cmocka_unit_test(a_file_left_behind_is_replaced_a_live_one_is_not),
        cmocka_unit_test(another_user_is_turned_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
