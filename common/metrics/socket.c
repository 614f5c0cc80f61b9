/* SPDX-License-Identifier: BSD-3-Clause */
/* Unix stream sockets that never block (metrics.h): to connect to, to take over, to listen at. No state; any thread. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/metrics/metrics.h"

/* One that is neither bound nor connected, and the path as an address. */
static int open_for(const char *path, struct sockaddr_un *un)
{
    *un = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof un->sun_path)
        return -ENAMETOOLONG;
    strcpy(un->sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? -errno : fd;
}

int socket_connect(const char *path)
{
    struct sockaddr_un un;
    int fd = open_for(path, &un);
    if (fd < 0 || connect(fd, (struct sockaddr *)&un, sizeof un) == 0)
        return fd;
    int error = errno;
    close(fd);
    return -error;
}

int socket_take_over(const char *path, char *err, uint32_t err_len)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return 0; /* not there, or bind will say why not */
    int fd = S_ISSOCK(st.st_mode) ? socket_connect(path) : -EEXIST;
    if (fd == -ECONNREFUSED)
        return unlink(path) == 0 ? 0 : -errno;
    if (fd == -EEXIST) {
        snprintf(err, err_len, "%s is there and is no socket; remove it, or choose another run_dir",
                 path);
        return -EEXIST;
    }
    if (fd >= 0)
        close(fd);
    snprintf(err, err_len, "another program answers at %s; stop it, or give this one another name",
             path);
    return -EADDRINUSE;
}

int socket_listen(const char *path, int backlog)
{
    struct sockaddr_un un;
    int fd = open_for(path, &un);
    if (fd < 0)
        return fd;
    int bad = fchmod(fd, 0600) || bind(fd, (struct sockaddr *)&un, sizeof un) ? errno : 0;
    if (!bad && listen(fd, backlog)) {
        bad = errno;
        unlink(path);
    }
    if (bad)
        close(fd);
    return bad ? -bad : fd;
}
