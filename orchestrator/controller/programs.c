/* SPDX-License-Identifier: BSD-3-Clause */
/* Finding and asking the site's programs (programs.h). */
#include "orchestrator/controller/programs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHECK_WAIT_MS = 5000, OUTPUT_BYTES = 2000 };

extern char **environ;

void program_path(const char *folder, enum orch_kind kind, const char *other, char *to, uint32_t room)
{
    static const struct { const char *name, *part; } programs[] = {
        [ORCH_STORE] = {"lethe-store", "statestore"}, [ORCH_STEERING] = {"lethe-steer", "steering"},
        [ORCH_WORKER] = {"lethe-nf", "nf"}};
    const char *name = *other ? other : programs[kind].name;
    if (name[0] == '/') {
        snprintf(to, room, "%s", name);
        return;
    }
    snprintf(to, room, "%s/../%s/%s", folder, programs[kind].part, name);
    if (access(to, X_OK))
        snprintf(to, room, "%s/%s", folder, name);
}

/* What it says, until it ends or the time is over. */
static void read_output(int fd, char *to, uint32_t room)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint32_t used = 0;
    ssize_t n;
    while (used + 1 < room && poll(&p, 1, CHECK_WAIT_MS) > 0 &&
           (n = read(fd, to + used, room - 1 - used)) > 0)
        used += (uint32_t)n;
    to[used] = 0;
}

/* Its exit status; -1: it could not be asked. */
static int run_check(const char *program, const char *file, char *output, uint32_t room)
{
    char *argv[] = {(char *)program, "-c", (char *)file, "--check", NULL};
    posix_spawn_file_actions_t actions;
    int pipes[2], status = 0;
    pid_t pid;
    if (pipe2(pipes, O_CLOEXEC))
        return -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], 2);
    int rc = posix_spawn(&pid, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pipes[1]);
    if (!rc) {
        read_output(pipes[0], output, room);
        struct pollfd gone = {.fd = pipes[0], .events = POLLIN};
        if (poll(&gone, 1, 0) == 0) /* it is still there */
            kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
    }
    close(pipes[0]);
    return rc || !WIFEXITED(status) ? -1 : WEXITSTATUS(status);
}

/* The program's own words for the file, with the file's usual name. */
static void say(const char *output, const char *file, char *err, uint32_t err_len)
{
    const char *at = strstr(output, file);
    if (at)
        snprintf(err, err_len, "site.yaml%.*s", (int)strcspn(at + strlen(file), "\n"), at + strlen(file));
    else
        snprintf(err, err_len, "lethe-nf does not take it: %.*s", (int)strcspn(output, "\n"), output);
}

int programs_check(const char *folder, const char *scratch, const char *text, char *err,
                   uint32_t err_len)
{
    char file[200], program[300], output[OUTPUT_BYTES] = "";
    snprintf(file, sizeof file, "%s/check-XXXXXX.yaml", scratch);
    program_path(folder, ORCH_WORKER, "", program, sizeof program);
    int fd = access(program, X_OK) ? -1 : mkostemps(file, 5, O_CLOEXEC), status = -1;
    if (fd < 0)
        return 0;
    size_t n = strlen(text);
    if (write(fd, text, n) == (ssize_t)n)
        status = run_check(program, file, output, sizeof output);
    close(fd);
    unlink(file);
    if (status <= 0)
        return 0;
    say(output, file, err, err_len);
    return -EINVAL;
}
