/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A bad neighbour, alone in a container: takes memory, fills a volume, or keeps the disk busy. Ends when it is told to,
 * or when it is killed for it.
 *   hog memory | hog fill FOLDER | hog io FOLDER
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, FILE_CHUNKS = 8 };

static void end(int number)
{
    _exit(0);
}

int main(int argc, char **argv)
{
    static char bytes[CHUNK], path[4096];
    signal(SIGTERM, end); /* the first process of a container has no default */
    memset(bytes, 'x', sizeof bytes);
    if (argc == 2 && strcmp(argv[1], "memory") == 0)
        for (char *p; (p = malloc(CHUNK));)
            memset(p, 'x', CHUNK);
    if (argc != 3)
        return 2;
    snprintf(path, sizeof path, "%s/hog", argv[2]);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0)
        return 1;
    if (strcmp(argv[1], "fill") == 0) {
        for (int i = 0; i < 96 && write(fd, bytes, sizeof bytes) > 0; i++)
            ;
        for (;;)
            pause();
    }
    for (;;) {
        for (int i = 0; i < FILE_CHUNKS; i++)
            if (pwrite(fd, bytes, sizeof bytes, (off_t)i * CHUNK) < 0 || fsync(fd))
                return 1;
    }
}
