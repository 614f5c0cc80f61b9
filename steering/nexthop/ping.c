/* SPDX-License-Identifier: BSD-3-Clause */
/* Echo requests and answers. See ping.h. */
#include "steering/nexthop/ping.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/icmp.h>
#include <netinet/ip.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sodium.h>

#include "common/packet/packet.h"

enum { ICMP_BYTES = 8, RECEIVE_BYTES = 512, REPLIES_A_ROUND = 64 };

struct ping {
    int fd;
    uint16_t id;
    unsigned looked;           /* packets that were no answer, in this round */
    uint8_t key[crypto_shorthash_KEYBYTES];
};

struct echo {
    struct icmphdr head;
    uint64_t seq;
    uint8_t tag[crypto_shorthash_BYTES];
} __attribute__((packed));

static void tag_of(const struct ping *p, uint32_t address, uint64_t seq, uint8_t tag[crypto_shorthash_BYTES])
{
    uint64_t what[2] = {address, seq};
    crypto_shorthash(tag, (const uint8_t *)what, sizeof what, p->key);
}

static int refuse(struct ping *p, const char *what, const char *dev, char *err, uint32_t err_len)
{
    int error = errno;
    snprintf(err, err_len, "%s%s%s: %s%s", what, dev ? " " : "", dev ? dev : "", strerror(error),
             error == EPERM ? "; it takes root, or CAP_NET_RAW and CAP_NET_ADMIN" : "");
    ping_close(p);
    return -error;
}

int ping_open(struct ping **out, const char *dev, char *err, uint32_t err_len)
{
    const struct icmp_filter replies = {.data = ~(1u << ICMP_ECHOREPLY)};
    const int ttl = 1; /* they are neighbours */
    struct ping *p = sodium_init() < 0 ? NULL : calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP);
    if (p->fd < 0)
        return refuse(p, "no raw socket", NULL, err, err_len);
    if (dev && setsockopt(p->fd, SOL_SOCKET, SO_BINDTODEVICE, dev, (socklen_t)strlen(dev) + 1) < 0)
        return refuse(p, "interface", dev, err, err_len);
    if (setsockopt(p->fd, SOL_RAW, ICMP_FILTER, &replies, sizeof replies) < 0 ||
        setsockopt(p->fd, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl) < 0)
        return refuse(p, "raw socket", NULL, err, err_len);
    randombytes_buf(p->key, sizeof p->key);
    randombytes_buf(&p->id, sizeof p->id);
    *out = p;
    return 0;
}

void ping_close(struct ping *p)
{
    if (p && p->fd >= 0)
        close(p->fd);
    free(p);
}

int ping_fd(const struct ping *p)
{
    return p->fd;
}

void ping_send(struct ping *p, uint32_t address, uint64_t seq)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = address};
    struct echo e = {.head = {.type = ICMP_ECHO}, .seq = seq};
    e.head.un.echo.id = p->id;
    e.head.un.echo.sequence = htons((uint16_t)seq);
    tag_of(p, address, seq, e.tag);
    e.head.checksum = checksum_fold(checksum_add(0, &e, sizeof e));
    sendto(p->fd, &e, sizeof e, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to);
}

/* What came, checked: an answer of `from` to what we asked it. */
static bool is_answer(const struct ping *p, const uint8_t *packet, size_t n, uint32_t from, uint64_t *seq)
{
    uint8_t tag[crypto_shorthash_BYTES];
    struct echo e;
    size_t header = n ? (packet[0] & 15) * 4u : 0;
    if (header < 20 || n != header + sizeof e || checksum_fold(checksum_add(0, packet + header, sizeof e)))
        return false;
    memcpy(&e, packet + header, sizeof e);
    tag_of(p, from, e.seq, tag);
    *seq = e.seq;
    return e.head.type == ICMP_ECHOREPLY && e.head.un.echo.id == p->id && !sodium_memcmp(tag, e.tag, sizeof tag);
}

bool ping_receive(struct ping *p, uint32_t *address, uint64_t *seq)
{
    uint8_t packet[RECEIVE_BYTES];
    for (; p->looked < REPLIES_A_ROUND; p->looked++) {
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(p->fd, packet, sizeof packet, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
        if (n < 0)
            break;
        if (!is_answer(p, packet, (size_t)n, from.sin_addr.s_addr, seq))
            continue;
        *address = from.sin_addr.s_addr;
        return true;
    }
    p->looked = 0;
    return false;
}
