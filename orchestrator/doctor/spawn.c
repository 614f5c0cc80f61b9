/* SPDX-License-Identifier: BSD-3-Clause */
/* Asking a program (spawn.h). */
#include "orchestrator/doctor/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* True: it closed its end in time. */
static bool read_all(int fd, uint64_t until_ms, struct spawned *s)
{
    uint32_t room = 0;
    for (;;) {
        if (room - s->bytes < 4096) {
            char *more = room < SPAWN_MAX ? realloc(s->out, room ? room * 2 : 16384) : NULL;
            if (!more)
                return false;
            s->out = more;
            room = room ? room * 2 : 16384;
        }
        uint64_t now = now_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now >= until_ms || poll(&p, 1, (int)(until_ms - now)) <= 0)
            return false;
        ssize_t n = read(fd, s->out + s->bytes, room - 1 - s->bytes);
        if (n <= 0)
            return n == 0;
        s->bytes += (uint32_t)n;
    }
}

void spawn_ask(const char *const argv[], uint32_t timeout_ms, int with_stderr, struct spawned *s)
{
    posix_spawn_file_actions_t actions;
    int pipes[2], how = 0;
    pid_t pid;
    *s = (struct spawned){.status = -1};
    if (pipe2(pipes, O_CLOEXEC)) {
        s->out = calloc(1, 1);
        return;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
    if (with_stderr)
        posix_spawn_file_actions_adddup2(&actions, pipes[1], 2);
    else
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    int rc = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pipes[1]);
    bool whole = !rc && read_all(pipes[0], now_ms() + timeout_ms, s);
    if (!rc && !whole)
        kill(pid, SIGKILL);
    if (!rc && waitpid(pid, &how, 0) == pid && whole && WIFEXITED(how))
        s->status = WEXITSTATUS(how);
    close(pipes[0]);
    if (!s->out)
        s->out = calloc(1, 1);
    else
        s->out[s->bytes] = '\0';
}
