/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A slow cable: carries frames between two interfaces of a namespace, late and out of order.
 *
 *   chaos_relay <netns path> <interface> <interface> <delay ms> <jitter ms> <seed> [<lost %> <twice %> <corrupt %>]
 *
 * Each frame waits for the delay and a random part of the jitter, so that frames overtake each other within the
 * jitter. So many in a hundred never arrive, arrive twice, arrive with one byte another (never the MAC addresses and
 * the type: that frame would be lost, no more). On SIGTERM what waits is sent at once, in its order; then it prints one
 * line of JSON:
 *   {"frames": n, "reordered": n, "dropped": n, "lost": n, "twice": n, "corrupt": n}
 * reordered: frames that were sent after a later one of their direction. dropped: no room, or the interface
 * refused; lost: on purpose. It says "relaying" on standard error once it does. One thread; FRAMES_MAX frames wait at most.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>

enum { FRAMES_MAX = 8192, FRAME_BYTES = 2048, READS_MAX = 64 };

struct frame {
    uint64_t due_us, number;
    uint16_t bytes;
    uint8_t side, data[FRAME_BYTES];
};

static struct frame frames[FRAMES_MAX];
static struct frame *heap[FRAMES_MAX], *spare[FRAMES_MAX]; /* heap: the earliest due first */
static uint32_t nheap, nspare;
static uint64_t newest_sent[2], count, reordered, dropped, lost, twice, corrupt, chance;
static uint64_t lost_of_100, twice_of_100, corrupt_of_100;
static volatile sig_atomic_t stopping;

static void stop(int number)
{
    stopping = 1;
}

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t random_below(uint64_t n)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return n ? chance % n : 0;
}

/* --- the heap --------------------------------------------------------------------------- */

static bool before(const struct frame *a, const struct frame *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->number < b->number;
}

static void heap_push(struct frame *f)
{
    uint32_t i = nheap++;
    for (; i && before(f, heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = f;
}

static struct frame *heap_pop(void)
{
    struct frame *first = heap[0], *last = heap[--nheap];
    uint32_t i = 0;
    for (uint32_t child; (child = 2 * i + 1) < nheap; i = child) {
        child += child + 1 < nheap && before(heap[child + 1], heap[child]);
        if (!before(heap[child], last))
            break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return first;
}

/* --- frames ------------------------------------------------------------------------------- */

static bool happens(uint64_t of_100, uint64_t *counter)
{
    bool yes = of_100 && random_below(100) < of_100;
    *counter += yes;
    return yes;
}

static void push(struct frame *f, uint8_t side, ssize_t n, uint64_t due_us)
{
    nspare--;
    f->number = ++count;
    f->bytes = (uint16_t)n;
    f->side = side;
    f->due_us = due_us;
    heap_push(f);
}

static void keep(struct frame *f, uint8_t side, ssize_t n, uint64_t delay_us, uint64_t jitter_us)
{
    if (happens(lost_of_100, &lost))
        return;
    if (n > ETH_HLEN && happens(corrupt_of_100, &corrupt))
        f->data[ETH_HLEN + random_below((uint64_t)n - ETH_HLEN)] ^= (uint8_t)(1 + random_below(255));
    push(f, side, n, now_us() + delay_us + random_below(jitter_us + 1));
    if (!nspare || !happens(twice_of_100, &twice))
        return;
    struct frame *again = spare[nspare - 1];
    memcpy(again->data, f->data, (size_t)n);
    push(again, side, n, f->due_us + random_below(jitter_us + 1));
}

static void take(int fd, uint8_t side, uint64_t delay_us, uint64_t jitter_us)
{
    for (int i = 0; i < READS_MAX; i++) {
        uint8_t none[1];
        struct sockaddr_ll from;
        socklen_t len = sizeof from;
        struct frame *f = nspare ? spare[nspare - 1] : NULL;
        ssize_t n = recvfrom(fd, f ? f->data : none, f ? sizeof f->data : sizeof none,
                             MSG_DONTWAIT | MSG_TRUNC, (struct sockaddr *)&from, &len);
        if (n < 0)
            return;
        if (from.sll_pkttype == PACKET_OUTGOING) /* ours */
            continue;
        if (!f || (size_t)n > sizeof f->data) {
            dropped++;
            continue;
        }
        keep(f, side, n, delay_us, jitter_us);
    }
}

static void send_due(const struct pollfd sides[2], uint64_t until_us)
{
    while (nheap && heap[0]->due_us <= until_us) {
        struct frame *f = heap_pop();
        uint8_t to = !f->side;
        if (send(sides[to].fd, f->data, f->bytes, 0) < 0)
            dropped++;
        reordered += f->number < newest_sent[to];
        newest_sent[to] = f->number > newest_sent[to] ? f->number : newest_sent[to];
        spare[nspare++] = f;
    }
}

/* --- set-up --------------------------------------------------------------------------------- */

static void die(const char *what)
{
    fprintf(stderr, "chaos_relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_interface(const char *name)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
                             .sll_ifindex = (int)if_nametoindex(name)};
    int room = 16 << 20;
    if (fd < 0 || !at.sll_ifindex)
        die(name);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    if (bind(fd, (struct sockaddr *)&at, sizeof at))
        die(name);
    return fd;
}

int main(int argc, char **argv)
{
    if (argc != 7 && argc != 10) {
        fprintf(stderr, "usage: chaos_relay <netns> <interface> <interface> <delay ms> <jitter ms> <seed>"
                        " [<lost %%> <twice %%> <corrupt %%>]\n");
        return 2;
    }
    if (argc == 10)
        lost_of_100 = strtoull(argv[7], NULL, 10), twice_of_100 = strtoull(argv[8], NULL, 10),
        corrupt_of_100 = strtoull(argv[9], NULL, 10);
    struct sigaction action = {.sa_handler = stop}; /* no SA_RESTART: poll must return */
    sigaction(SIGTERM, &action, NULL);
    int ns = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (ns < 0 || setns(ns, CLONE_NEWNET))
        die(argv[1]);
    uint64_t delay_us = strtoull(argv[4], NULL, 10) * 1000, jitter_us = strtoull(argv[5], NULL, 10) * 1000;
    chance = strtoull(argv[6], NULL, 10) * 0x9e3779b97f4a7c15u | 1;
    while (nspare < FRAMES_MAX)
        spare[nspare] = &frames[nspare], nspare++;
    struct pollfd sides[2] = {{.fd = open_interface(argv[2]), .events = POLLIN},
                              {.fd = open_interface(argv[3]), .events = POLLIN}};
    fprintf(stderr, "relaying\n");
    while (!stopping) {
        uint64_t now = now_us();
        uint64_t wait_us = !nheap ? 100000 : heap[0]->due_us > now ? heap[0]->due_us - now : 0;
        struct timespec wait = {.tv_nsec = (long)(wait_us < 100000 ? wait_us : 100000) * 1000};
        if (ppoll(sides, 2, &wait, NULL) > 0)
            for (uint8_t side = 0; side < 2; side++)
                if (sides[side].revents)
                    take(sides[side].fd, side, delay_us, jitter_us);
        send_due(sides, now_us());
    }
    send_due(sides, UINT64_MAX);
    printf("{\"frames\": %lu, \"reordered\": %lu, \"dropped\": %lu, \"lost\": %lu, \"twice\": %lu, \"corrupt\": %lu}\n",
           count, reordered, dropped, lost, twice, corrupt);
    return 0;
}
