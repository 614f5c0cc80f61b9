/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ports of 127.0.0.1 for servers that a test starts, kills and starts again.
 * They lie below those the kernel gives to outgoing connections (from 32768 on):
 * nobody's connection takes one while its server is away.
 */
#ifndef LETHE_TESTS_PORTS_H
#define LETHE_TESTS_PORTS_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PORTS_FIRST = 10000, PORTS_LAST = 22000, PORTS_TRIES = 200 };

static inline bool port_is_free(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool bound = fd >= 0 && !bind(fd, (struct sockaddr *)&a, sizeof a);
    if (fd >= 0)
        close(fd);
    return bound;
}

/* The first of n consecutive ports that are free now; so are those `also` above
 * them (0: none asked for). Ends the test if there are none. */
static inline uint16_t free_ports(int n, int also)
{
    for (int tries = 0; tries < PORTS_TRIES; tries++) {
        uint32_t at;
        int got = 0;
        if (getrandom(&at, sizeof at, 0) != sizeof at)
            break;
        at = PORTS_FIRST + at % (uint32_t)(PORTS_LAST - PORTS_FIRST);
        while (got < n && port_is_free((int)at + got) && (!also || port_is_free((int)at + got + also)))
            got++;
        if (got == n)
            return (uint16_t)at;
    }
    abort();
}

#endif
