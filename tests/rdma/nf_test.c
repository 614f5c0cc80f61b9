/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lethe-nf over verbs writes the packets of lethe-nf over tcp: the real programs, on
 * AF_PACKET ports:
 *
 *     nf_verbs_test LETHE_STORE LETHE_NF
 *
 *   this program ─ veth ─ inside [lethe-nf w-tcp   ] outside ─ veth ─ this program
 *   this program ─ veth ─ inside [lethe-nf w-verbs ] outside ─ veth ─ this program
 *                                     └── tcp, verbs ── one lethe-store
 *
 * Each opens the flows of every other host; then both carry all flows, out and back in. Their
 * ports have the same addresses, so every byte must be equal. Runs in the machine of vm.sh.
 */
#include "tests/rdma/nodes.h"

#include <linux/if_packet.h>
#include <net/if.h>

#include "common/packet/packet_fields.h"
#include "common/packet/packet_forge.h"

enum { FLOWS = 60, WORKERS = 2, ROOM = 2048, DPORT = 1000, SPORT = 2000, RESEND_US = 3000000 };
#define REMOTE IP4(198, 51, 100, 7)
#define EXTERNAL IP4(203, 0, 113, 1)

struct frame {
    uint8_t bytes[ROOM];
    uint32_t len;
};

struct worker {
    const char *name, *transport;
    pid_t pid;
    int fd[2];                /* far ends of its cables: inside, outside */
    struct frame out[FLOWS], in[FLOWS];
};

static const char *store_program, *nf_program;
static struct nodes nodes;
static struct worker workers[WORKERS] = {{.name = "w-tcp", .transport = "tcp"},
                                         {.name = "w-verbs", .transport = "verbs"}};

/* --- cables ------------------------------------------------------------------------------- */

static void run(const char *command)
{
    CHECK(system(command) == 0, "%s", command);
}

static int open_packets(const char *device)
{
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(0x0800),
                             .sll_ifindex = (int)if_nametoindex(device)};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(0x0800));
    CHECK(fd >= 0 && at.sll_ifindex && !bind(fd, (struct sockaddr *)&at, sizeof at), "%s: %s", device,
          strerror(errno));
    return fd;
}

/* The worker's ends are w0i and w0o, with the same addresses for every worker. */
static void lay_cables(int w)
{
    char command[400], device[16];
    for (int side = 0; side < 2; side++) {
        char s = "io"[side];
        snprintf(command, sizeof command,
                 "ip link add w%d%c address 02:00:00:00:00:0%d type veth peer name t%d%c && "
                 "for d in w%d%c t%d%c; do echo 1 >/proc/sys/net/ipv6/conf/$d/disable_ipv6 && "
                 "ethtool -K $d tx off gro off >/dev/null && ip link set $d up || exit 1; done",
                 w, s, side + 1, w, s, w, s, w, s);
        run(command);
        snprintf(device, sizeof device, "t%d%c", w, s);
        workers[w].fd[side] = open_packets(device);
    }
}

/* --- packets ------------------------------------------------------------------------------ */

static struct forge flow(int i)
{
    return (struct forge){.proto = i % 3 ? 17 : 6, .flags = TCP_SYN, .src = IP4(10, 0, 0, 1 + i % 40),
                          .sport = (uint16_t)(SPORT + i), .dst = REMOTE, .dport = (uint16_t)(DPORT + i),
                          .data = (uint16_t)(i % 64)};
}

static bool is_for(const struct frame *f, uint16_t dport)
{
    return f->len >= FORGE_ETHER + 24 && forge_get16(f->bytes + FORGE_ETHER + 22) == dport;
}

/* The next frame to that port which comes there, if one is there. Not what we sent ourselves. */
static bool receive(int fd, uint16_t dport, struct frame *f)
{
    struct sockaddr_ll from;
    socklen_t len = sizeof from;
    ssize_t n;
    while ((n = recvfrom(fd, f->bytes, ROOM, 0, (struct sockaddr *)&from, &len)) > 0) {
        f->len = (uint32_t)n;
        if (from.sll_pkttype != PACKET_OUTGOING && is_for(f, dport))
            return true;
        len = sizeof from;
    }
    return false;
}

/* Through the worker, to the other side. Sent again now and then: a network may lose. */
static void carry(struct worker *w, int from, const struct frame *f, uint16_t dport, struct frame *to)
{
    uint64_t again = 0, give_up = now_us() + PATIENCE_US;
    while (!receive(w->fd[!from], dport, to)) {
        CHECK(now_us() < give_up, "%s: nothing to port %u came out", w->name, dport);
        if (now_us() >= again) {
            send(w->fd[from], f->bytes, f->len, 0);
            again = now_us() + RESEND_US;
        }
        nap();
    }
}

static void carry_out(struct worker *w, int i, struct frame *to)
{
    struct frame f;
    struct forge described = flow(i);
    f.len = forge_frame(&described, f.bytes);
    carry(w, 0, &f, described.dport, to);
}

/* The answer to what left as `out`. */
static void carry_in(struct worker *w, int i, const struct frame *out)
{
    const uint8_t *ip = out->bytes + FORGE_ETHER;
    struct forge there = flow(i), back = there;
    struct frame f;
    back.src = there.dst;
    back.sport = there.dport;
    back.dst = forge_get32(ip + 12);
    back.dport = (uint16_t)forge_get16(ip + 20);
    back.flags = TCP_SYN | TCP_ACK;
    f.len = forge_frame(&back, f.bytes);
    carry(w, 1, &f, there.sport, &w->in[i]);
}

static bool same(const struct frame *a, const struct frame *b)
{
    return a->len == b->len && !memcmp(a->bytes, b->bytes, a->len);
}

static bool worker_says(const struct worker *w, const char *what)
{
    static char reply[65536];
    char path[80];
    snprintf(path, sizeof path, "%s/%s.sock", nodes.dir, w->name);
    return !control_ask(path, "status", reply, sizeof reply, 5000) && strstr(reply, what);
}

static void test_it_writes_the_same_packets(void **state)
{
    static struct frame opened[FLOWS];
    for (int i = 0; i < FLOWS; i++)
        carry_out(&workers[i % WORKERS], i, &opened[i]);
    for (int i = 0; i < FLOWS; i++)
        for (int w = 0; w < WORKERS; w++)
            carry_out(&workers[w], i, &workers[w].out[i]);
    for (int i = 0; i < FLOWS; i++)
        for (int w = 0; w < WORKERS; w++)
            carry_in(&workers[w], i, &workers[1 - w].out[i]);
    for (int i = 0; i < FLOWS; i++) {
        const uint8_t *ip = workers[0].out[i].bytes + FORGE_ETHER;
        const char *wrong = forge_check(workers[1].out[i].bytes, workers[1].out[i].len);
        CHECK(!wrong, "flow %d: %s", i, wrong);
        CHECK(same(&workers[0].out[i], &workers[1].out[i]), "flow %d, outwards", i);
        CHECK(same(&workers[0].in[i], &workers[1].in[i]), "flow %d, inwards", i);
        CHECK(forge_get32(ip + 12) == EXTERNAL, "flow %d is not translated", i);
        CHECK(forge_get16(ip + 20) == forge_get16(opened[i].bytes + FORGE_ETHER + 20),
              "flow %d changed its port", i);
    }
    for (int w = 0; w < WORKERS; w++)
        CHECK(worker_says(&workers[w], workers[w].transport), "%s", workers[w].name);
}

/* --- the programs ------------------------------------------------------------------------- */

/* By verbs there is no tcp to fall back to: nobody listens there. */
static void start_worker(int w)
{
    char site[80], command[500], port[2][80];
    struct worker *me = &workers[w];
    snprintf(site, sizeof site, "%s/%s.yaml", nodes.dir, me->name);
    snprintf(command, sizeof command,
             "{ sed s/127.0.0.1:7400/127.0.0.1:%d/ %s; echo 'worker: {transport: %s}'; echo 'chain: [nat44]'; echo 'nfs:'; "
             "echo '  nat44: {external: [203.0.113.1], inside: [10.0.0.0/8]}'; } >%s",
             w ? 1 : NODE_TCP_PORT, nodes.site, me->transport, site);
    run(command);
    for (int side = 0; side < 2; side++)
        snprintf(port[side], sizeof port[side], "%s=net_af_packet%d,iface=w%d%c",
                 side ? "outside" : "inside", side, w, "io"[side]);
    me->pid = spawn((const char *[]){nf_program, "-c", site, "--worker", me->name, "--port", port[0],
                                     "--port", port[1], "--peer", "inside=02:00:00:00:00:0a",
                                     "--peer", "outside=02:00:00:00:00:0b", NULL});
}

static bool runs(const struct worker *w)
{
    int status;
    CHECK(waitpid(w->pid, &status, WNOHANG) == 0, "%s ended with status %x", w->name, status);
    return true;
}

static int start_all(void **state)
{
    nodes_begin(&nodes, store_program, 1, 2, NULL);
    node_start(&nodes, 0, NULL);
    for (int w = 0; w < WORKERS; w++) {
        lay_cables(w);
        start_worker(w);
    }
    for (int w = 0; w < WORKERS; w++)
        WAIT_FOR(runs(&workers[w]) && worker_says(&workers[w], "serving"));
    return 0;
}

static int stop_all(void **state)
{
    int status;
    for (int w = 0; w < WORKERS; w++) {
        kill(workers[w].pid, SIGTERM);
        waitpid(workers[w].pid, &status, 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: status %x", workers[w].name, status);
    }
    nodes_end(&nodes);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_it_writes_the_same_packets)};
    if (argc < 3) {
        fprintf(stderr, "usage: nf_verbs_test LETHE_STORE LETHE_NF\n");
        return 2;
    }
    store_program = argv[1];
    nf_program = argv[2];
    return cmocka_run_group_tests(tests, start_all, stop_all);
}
