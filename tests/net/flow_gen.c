/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sends UDP packets of many flows in turn, at a steady rate: a quick way to many
 * mappings in a NAT.
 *
 *   flow_gen <interface> <NAT's Ethernet address> <first source> <ports per source>
 *            <flows> <packets> <packets per second> <destination> <port>
 *
 * Flow i has the source address first + i / ports and the source port
 * 10000 + i % ports; a second run sends for the same flows again. Frames are
 * written to the interface as they are (AF_PACKET), so the sources need not
 * exist; let routers on both sides discard what comes of it. Prints the number
 * of packets sent. One thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BURST = 16, FIRST_PORT = 10000, PAYLOAD_BYTES = 18 };

struct frame {
    uint8_t dst_mac[6], src_mac[6];
    uint16_t type;
    struct iphdr ip;
    struct udphdr udp;
    uint8_t payload[PAYLOAD_BYTES];
} __attribute__((packed));

struct plan {
    struct frame frame;        /* what all packets share */
    uint32_t first_source, ports_per_source, flows, packets, rate_pps;
};

static uint32_t sum16(const void *data, uint32_t bytes, uint32_t sum)
{
    const uint8_t *b = data;
    for (uint32_t i = 0; i + 1 < bytes; i += 2)
        sum += (uint32_t)b[i] << 8 | b[i + 1];
    return sum;
}

static uint16_t fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

static void make_frame(const struct plan *p, uint32_t packet, struct frame *f)
{
    uint32_t flow = packet % p->flows;
    *f = p->frame;
    f->ip.saddr = htonl(p->first_source + flow / p->ports_per_source);
    f->ip.check = fold(sum16(&f->ip, sizeof f->ip, 0));
    f->udp.source = htons((uint16_t)(FIRST_PORT + flow % p->ports_per_source));
    memcpy(f->payload, &flow, sizeof flow);
    uint32_t l4_bytes = sizeof f->udp + PAYLOAD_BYTES;
    uint32_t sum = sum16(&f->ip.saddr, 8, IPPROTO_UDP + l4_bytes);
    f->udp.check = fold(sum16(&f->udp, l4_bytes, sum));
    if (f->udp.check == 0)
        f->udp.check = 0xffff; /* RFC 768: 0 would mean none */
}

static int open_interface(const char *name, struct plan *p)
{
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name)};
    socklen_t len = sizeof at;
    if (fd < 0 || at.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) != 0) {
        fprintf(stderr, "flow_gen: %s: %s\n", name, strerror(errno));
        exit(1);
    }
    memcpy(p->frame.src_mac, at.sll_addr, 6);
    return fd;
}

static void send_burst(int fd, const struct plan *p, uint32_t first, uint32_t count)
{
    struct frame frames[BURST];
    struct iovec iov[BURST];
    struct mmsghdr msgs[BURST];
    memset(msgs, 0, sizeof msgs);
    for (uint32_t i = 0; i < count; i++) {
        make_frame(p, first + i, &frames[i]);
        iov[i] = (struct iovec){&frames[i], sizeof frames[i]};
        msgs[i].msg_hdr.msg_iov = &iov[i];
        msgs[i].msg_hdr.msg_iovlen = 1;
    }
    for (uint32_t sent = 0; sent < count;) {
        int n = sendmmsg(fd, msgs + sent, count - sent, 0);
        if (n < 0 && errno != ENOBUFS) {
            fprintf(stderr, "flow_gen: send: %s\n", strerror(errno));
            exit(1);
        }
        sent += n > 0 ? (uint32_t)n : 0;
    }
}

static void send_all(int fd, const struct plan *p)
{
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (uint32_t first = 0; first < p->packets; first += BURST) {
        uint32_t count = p->packets - first < BURST ? p->packets - first : BURST;
        send_burst(fd, p, first, count);
        next.tv_nsec += (long)(1000000000ull * count / p->rate_pps);
        next.tv_sec += next.tv_nsec / 1000000000;
        next.tv_nsec %= 1000000000;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
}

static uint32_t positive(const char *text, const char *name)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (*end || v == 0 || v > UINT32_MAX) {
        fprintf(stderr, "flow_gen: %s: '%s' is not a positive number\n", name, text);
        exit(2);
    }
    return (uint32_t)v;
}

int main(int argc, char **argv)
{
    struct plan p = {0};
    struct frame *f = &p.frame;
    struct in_addr first;
    if (argc != 10 || sscanf(argv[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &f->dst_mac[0],
                            &f->dst_mac[1], &f->dst_mac[2], &f->dst_mac[3], &f->dst_mac[4],
                            &f->dst_mac[5]) != 6 ||
        inet_pton(AF_INET, argv[3], &first) != 1 ||
        inet_pton(AF_INET, argv[8], &f->ip.daddr) != 1) {
        fprintf(stderr, "usage: flow_gen <interface> <NAT's MAC> <first source> <ports per source> "
                        "<flows> <packets> <packets per second> <destination> <port>\n");
        return 2;
    }
    p.first_source = ntohl(first.s_addr);
    p.ports_per_source = positive(argv[4], "ports per source");
    p.flows = positive(argv[5], "flows");
    p.packets = positive(argv[6], "packets");
    p.rate_pps = positive(argv[7], "packets per second");
    f->type = htons(ETH_P_IP);
    f->ip = (struct iphdr){.version = 4, .ihl = 5, .ttl = 16, .protocol = IPPROTO_UDP,
                           .tot_len = htons(sizeof *f - ETH_HLEN), .daddr = f->ip.daddr};
    f->udp.dest = htons((uint16_t)positive(argv[9], "port"));
    f->udp.len = htons(sizeof f->udp + PAYLOAD_BYTES);
    send_all(open_interface(argv[1], &p), &p);
    printf("%u\n", p.packets);
    return 0;
}
