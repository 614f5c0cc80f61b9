/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Watches both sides of a NAT at once and says which flow was seen with which
 * source end point, and when.
 *
 *   nat_sniff <netns path> <inside interface> <netns path> <outside interface>
 *
 * Only packets on their way out count: those the client router sends into the
 * NAT, and those the outside router receives from it. A flow is recognised on
 * both sides by what a NAT must not change: destination, protocol, and a token:
 * TCP's initial sequence number, or the first 8 bytes of a UDP payload (the
 * traffic clients put a name there that no other flow has).
 *
 * On SIGTERM it prints "dropped <n>" (packets the kernel had no room for) and
 * then one line per (side, end points, token):
 *   i|o  tcp|udp  source port  destination port  token  first_us last_us packets
 * and ends with 0. One thread; memory grows with flows, up to FLOWS_MAX.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FLOWS_MAX = 1 << 20, BUCKETS = 1 << 20, SNAP_BYTES = 128, BATCH = 64 };

struct tuple {
    uint32_t src, dst;
    uint16_t src_port, dst_port;
    uint8_t proto, side, zero[2];
};

struct flow {
    struct tuple tuple;
    uint64_t token, first_us, last_us, packets;
    uint32_t next;             /* in the bucket; 0: end */
};

static struct flow flows[FLOWS_MAX]; /* [0] unused */
static uint32_t buckets[BUCKETS], nflows = 1;
static volatile sig_atomic_t stopping;

static void stop(int number)
{
    stopping = 1;
}

static void die(const char *what)
{
    fprintf(stderr, "nat_sniff: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_side(const char *netns, const char *iface)
{
    int ns = open(netns, O_RDONLY | O_CLOEXEC);
    if (ns < 0 || setns(ns, CLONE_NEWNET) != 0)
        die(netns);
    close(ns);
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("AF_PACKET socket");
    int room = 64 << 20;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    at.sll_ifindex = (int)if_nametoindex(iface);
    if (at.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0)
        die(iface);
    return fd;
}

static uint32_t bucket_of(const struct tuple *t)
{
    uint64_t h = t->src * 0x9e3779b97f4a7c15u ^ t->dst * 0xc2b2ae3d27d4eb4fu;
    h ^= ((uint64_t)t->src_port << 32 | t->dst_port << 8 | t->proto << 1 | t->side) *
         0x165667b19e3779f9u;
    return (uint32_t)(h >> 40) & (BUCKETS - 1);
}

/* The newest flow of these end points, or with `token`, exactly that one. */
static struct flow *flow_find(const struct tuple *t, const uint64_t *token)
{
    for (uint32_t i = buckets[bucket_of(t)]; i; i = flows[i].next)
        if (memcmp(&flows[i].tuple, t, sizeof *t) == 0 && (!token || flows[i].token == *token))
            return &flows[i];
    return NULL;
}

static struct flow *flow_add(const struct tuple *t, uint64_t token, uint64_t now_us)
{
    if (nflows == FLOWS_MAX) {
        fprintf(stderr, "nat_sniff: more than %d flows\n", FLOWS_MAX);
        exit(1);
    }
    uint32_t *head = &buckets[bucket_of(t)];
    struct flow *f = &flows[nflows];
    *f = (struct flow){.tuple = *t, .token = token, .first_us = now_us, .next = *head};
    *head = nflows++;
    return f;
}

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void count(struct flow *f, uint64_t now)
{
    f->last_us = now;
    f->packets++;
}

static void see_tcp(struct tuple *t, const uint8_t *l4, uint64_t now)
{
    struct tcphdr tcp;
    memcpy(&tcp, l4, sizeof tcp);
    t->src_port = ntohs(tcp.source);
    t->dst_port = ntohs(tcp.dest);
    uint64_t token = ntohl(tcp.seq);
    struct flow *f = flow_find(t, tcp.syn ? &token : NULL);
    if (!f)
        f = flow_add(t, tcp.syn ? token : 0, now); /* 0: began before we watched */
    count(f, now);
}

static void see_udp(struct tuple *t, const uint8_t *l4, uint32_t bytes, uint64_t now)
{
    struct udphdr udp;
    memcpy(&udp, l4, sizeof udp);
    t->src_port = ntohs(udp.source);
    t->dst_port = ntohs(udp.dest);
    uint64_t token = 0;
    if (bytes >= sizeof udp + sizeof token)
        memcpy(&token, l4 + sizeof udp, sizeof token);
    struct flow *f = flow_find(t, &token);
    count(f ? f : flow_add(t, token, now), now);
}

static void see(uint8_t side, const uint8_t *frame, uint32_t bytes, uint64_t now)
{
    struct iphdr ip;
    if (bytes < ETH_HLEN + sizeof ip || frame[12] != 0x08 || frame[13] != 0x00)
        return;
    memcpy(&ip, frame + ETH_HLEN, sizeof ip);
    uint32_t l4 = ETH_HLEN + ip.ihl * 4u;
    if (ip.version != 4 || (ntohs(ip.frag_off) & 0x3fff) != 0)
        return;
    struct tuple t = {.src = ip.saddr, .dst = ip.daddr, .proto = ip.protocol, .side = side};
    if (ip.protocol == IPPROTO_TCP && bytes >= l4 + sizeof(struct tcphdr))
        see_tcp(&t, frame + l4, now);
    else if (ip.protocol == IPPROTO_UDP && bytes >= l4 + sizeof(struct udphdr))
        see_udp(&t, frame + l4, bytes - l4, now);
}

static void drain(int fd, uint8_t side)
{
    static uint8_t data[BATCH][SNAP_BYTES];
    struct sockaddr_ll from[BATCH];
    struct iovec iov[BATCH];
    struct mmsghdr msgs[BATCH];
    uint8_t wanted = side == 'i' ? PACKET_OUTGOING : PACKET_HOST;
    memset(msgs, 0, sizeof msgs);
    for (int i = 0; i < BATCH; i++) {
        iov[i] = (struct iovec){data[i], SNAP_BYTES};
        msgs[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i],
                                          .msg_iov = &iov[i], .msg_iovlen = 1};
    }
    int n = recvmmsg(fd, msgs, BATCH, MSG_DONTWAIT, NULL);
    uint64_t now = now_us();
    for (int i = 0; i < n; i++)
        if (from[i].sll_pkttype == wanted)
            see(side, data[i], msgs[i].msg_len, now);
}

static uint32_t dropped(int fd)
{
    struct tpacket_stats s = {0};
    socklen_t len = sizeof s;
    getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &s, &len);
    return s.tp_drops;
}

static void print_flow(const struct flow *f)
{
    char src[16], dst[16];
    inet_ntop(AF_INET, &f->tuple.src, src, sizeof src);
    inet_ntop(AF_INET, &f->tuple.dst, dst, sizeof dst);
    printf("%c %s %s %u %s %u %016" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
           f->tuple.side, f->tuple.proto == IPPROTO_TCP ? "tcp" : "udp", src, f->tuple.src_port,
           dst, f->tuple.dst_port, f->token, f->first_us, f->last_us, f->packets);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: nat_sniff <netns> <inside interface> <netns> <outside interface>\n");
        return 2;
    }
    struct sigaction action = {.sa_handler = stop}; /* no SA_RESTART: poll must return */
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    struct pollfd sides[2] = {{.fd = open_side(argv[1], argv[2]), .events = POLLIN},
                              {.fd = open_side(argv[3], argv[4]), .events = POLLIN}};
    fprintf(stderr, "watching\n");
    while (!stopping) {
        if (poll(sides, 2, 1000) <= 0)
            continue;
        if (sides[0].revents)
            drain(sides[0].fd, 'i');
        if (sides[1].revents)
            drain(sides[1].fd, 'o');
    }
    printf("dropped %u\n", dropped(sides[0].fd) + dropped(sides[1].fd));
    for (uint32_t i = 1; i < nflows; i++)
        print_flow(&flows[i]);
    return 0;
}
