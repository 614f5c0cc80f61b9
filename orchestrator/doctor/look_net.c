/* SPDX-License-Identifier: BSD-3-Clause */
/* Interfaces as steering needs them, RDMA devices, ports. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/wire/address.h"
#include "orchestrator/doctor/look.h"

/* --- which interfaces ------------------------------------------------------------------------ */

bool look_iface_of(const char *port, char iface[32], bool *xdp)
{
    const char *at = port ? strstr(port, "iface=") : NULL;
    if (!at || (at > port && at[-1] != ','))
        return false;
    snprintf(iface, 32, "%.*s", (int)strcspn(at + 6, ","), at + 6);
    *xdp = !strncmp(port, "net_af_xdp", 10);
    return *iface != '\0';
}

uint32_t look_each_edge(struct doctor *d, void (*edge)(void *ctx, struct doctor *d, const struct look_edge *e), void *ctx)
{
    uint32_t edges = 0;
    for (unsigned i = 0; d->site && i < site_fronts(d->site); i++) {
        struct site_front f = site_front(d->site, i);
        const char *ports[2] = {f.inside.port, f.outside.port};
        for (int side = 0; side < 2; side++) {
            struct look_edge e = {.elsewhere = site_fronts(d->site) > 1};
            bool other_xdp;
            if (!look_iface_of(ports[side], e.iface, &e.xdp))
                continue;
            if (!look_iface_of(ports[!side], e.other, &other_xdp))
                *e.other = '\0';
            snprintf(e.front, sizeof e.front, "%s", f.name);
            snprintf(e.key, sizeof e.key, "the port of %s's %s", f.name, side ? "outside" : "inside");
            edge(ctx, d, &e);
            edges++;
        }
    }
    return edges;
}

static int ask_kernel(int fd, const char *iface, unsigned long what, struct ifreq *r)
{
    memset(r, 0, sizeof *r);
    snprintf(r->ifr_name, sizeof r->ifr_name, "%.15s", iface);
    return ioctl(fd, what, r) ? errno : 0;
}

static bool feature(int fd, const char *iface, uint32_t command, uint32_t bits, int *error)
{
    struct ethtool_value value = {.cmd = command};
    struct ifreq r;
    memset(&r, 0, sizeof r);
    snprintf(r.ifr_name, sizeof r.ifr_name, "%.15s", iface);
    r.ifr_data = (char *)&value;
    if (ioctl(fd, SIOCETHTOOL, &r)) {
        if (errno != EOPNOTSUPP) /* it has no such feature, so that is off */
            *error = errno;
        return false;
    }
    return value.data & bits;
}

/* An address of the kernel's own there; link-local ones of IPv6 are answered for by nobody's traffic. */
static void find_address(const char *iface, struct edge_facts *f)
{
    struct ifaddrs *all;
    if (getifaddrs(&all))
        return;
    for (struct ifaddrs *a = all; a && !*f->address; a = a->ifa_next) {
        if (!a->ifa_addr || !a->ifa_netmask || strcmp(a->ifa_name, iface))
            continue;
        const struct sockaddr_in *four = (const void *)a->ifa_addr, *mask = (const void *)a->ifa_netmask;
        const struct sockaddr_in6 *six = (const void *)a->ifa_addr, *mask6 = (const void *)a->ifa_netmask;
        if (a->ifa_addr->sa_family == AF_INET) {
            inet_ntop(AF_INET, &four->sin_addr, f->address, sizeof f->address);
            f->prefix = (uint32_t)__builtin_popcount(mask->sin_addr.s_addr);
        } else if (a->ifa_addr->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr)) {
            inet_ntop(AF_INET6, &six->sin6_addr, f->address, sizeof f->address);
            for (int i = 0; i < 16; i++)
                f->prefix += (uint32_t)__builtin_popcount(mask6->sin6_addr.s6_addr[i]);
        }
    }
    freeifaddrs(all);
}

static void find_edge(const struct look_edge *e, struct edge_facts *f)
{
    struct ifreq r;
    *f = (struct edge_facts){.iface = e->iface, .key = e->key, .other = e->other};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ask_kernel(fd, e->iface, SIOCGIFFLAGS, &r)) {
        if (fd >= 0)
            close(fd);
        return;
    }
    f->there = true;
    f->up = r.ifr_flags & IFF_UP;
    f->carrier = r.ifr_flags & IFF_RUNNING;
    if (!ask_kernel(fd, e->iface, SIOCGIFMTU, &r))
        f->mtu = (uint32_t)r.ifr_mtu;
    if (*e->other && !ask_kernel(fd, e->other, SIOCGIFMTU, &r))
        f->other_mtu = (uint32_t)r.ifr_mtu;
    f->tx = feature(fd, e->iface, ETHTOOL_GTXCSUM, ~0u, &f->error);
    f->tso = feature(fd, e->iface, ETHTOOL_GTSO, ~0u, &f->error);
    f->gro = feature(fd, e->iface, ETHTOOL_GGRO, ~0u, &f->error);
    f->lro = feature(fd, e->iface, ETHTOOL_GFLAGS, ETH_FLAG_LRO, &f->error);
    close(fd);
    find_address(e->iface, f);
}

static void look_edge(void *ctx, struct doctor *d, const struct look_edge *e)
{
    static void (*const judges[])(const struct edge_facts *, struct verdict *) = {
        judge_edge_offloads, judge_edge_address, judge_edge_mtu};
    struct edge_facts f;
    struct verdict v;
    (void)ctx;
    find_edge(e, &f);
    if (!f.there && (e->elsewhere || look_is_store_only(d))) {
        verdict_is(&v, DOCTOR_UNKNOWN, "there is no interface %s here; run this on the host of %s", e->iface, e->front);
        doctor_add(d, &v, "%s", e->iface);
        return;
    }
    judge_edge_there(&f, &v);
    doctor_add(d, &v, "%s", e->iface);
    for (uint32_t i = 0; f.there && i < sizeof judges / sizeof judges[0]; i++) {
        judges[i](&f, &v);
        doctor_add(d, &v, "%s", e->iface);
    }
}

void look_edges(struct doctor *d)
{
    if (!look_each_edge(d, look_edge, NULL))
        look_not_used(d, "no edge is a kernel's interface");
}

static bool has_address(const char *iface, const char *wanted)
{
    struct ifaddrs *all;
    struct in_addr four;
    bool has = false;
    if (inet_pton(AF_INET, wanted, &four) != 1 || getifaddrs(&all))
        return false;
    for (struct ifaddrs *a = all; a; a = a->ifa_next) {
        const struct sockaddr_in *in = (const void *)a->ifa_addr;
        has |= in && in->sin_family == AF_INET && !strcmp(a->ifa_name, iface) && in->sin_addr.s_addr == four.s_addr;
    }
    freeifaddrs(all);
    return has;
}

static void look_beside(struct doctor *d, const struct site_front *front, uint32_t inner_mtu)
{
    for (unsigned i = 0; i < front->tunnel.more_ports_count; i++) {
        struct look_edge e = {.key = "tunnel.more_ports"};
        struct edge_facts f;
        struct verdict v;
        if (!look_iface_of(front->tunnel.more_ports[i], e.iface, &e.xdp))
            continue;
        find_edge(&e, &f);
        judge_tunnel_beside(&f, &v);
        doctor_add(d, &v, "%s", e.iface);
        if (!f.there)
            continue;
        judge_tunnel_mtu(&f, inner_mtu, front->tunnel.mtu, &v);
        doctor_add(d, &v, "%s", e.iface);
    }
}

void look_tunnel(struct doctor *d)
{
    uint32_t seen = 0;
    for (unsigned i = 0; d->site && i < site_fronts(d->site); i++) {
        struct site_front front = site_front(d->site, i);
        struct look_edge e = {.key = "tunnel.port"}, in;
        struct edge_facts f, edge = {.mtu = 0};
        struct verdict v;
        if (!front.tunnel.address || !look_iface_of(front.tunnel.port, e.iface, &e.xdp))
            continue;
        seen++;
        find_edge(&e, &f);
        if (look_iface_of(front.inside.port, in.iface, &in.xdp)) {
            *in.other = '\0';
            find_edge(&in, &edge);
        }
        judge_edge_there(&f, &v);
        if (!f.there && (site_fronts(d->site) > 1 || look_is_store_only(d)))
            verdict_is(&v, DOCTOR_UNKNOWN, "there is no interface %s here; run this on the host of %s", e.iface, front.name);
        doctor_add(d, &v, "%s", e.iface);
        if (!f.there)
            continue;
        judge_edge_offloads(&f, &v);
        doctor_add(d, &v, "%s", e.iface);
        judge_tunnel_address(&f, front.tunnel.address, has_address(e.iface, front.tunnel.address), &v);
        doctor_add(d, &v, "%s", e.iface);
        judge_tunnel_mtu(&f, edge.mtu, front.tunnel.mtu, &v);
        doctor_add(d, &v, "%s", e.iface);
        look_beside(d, &front, edge.mtu);
    }
    if (!seen)
        look_not_used(d, "not used by this site");
}

static void look_forward(void *ctx, struct doctor *d, const struct look_edge *e)
{
    struct verdict v;
    (void)ctx;
    if (!if_nametoindex(e->iface) && !*d->root)
        return; /* the edge's own check says so */
    judge_forwarding(e->iface, doctor_number(d, UINT64_MAX, "/proc/sys/net/ipv4/conf/%s/forwarding", e->iface), &v);
    doctor_add(d, &v, "%s", e->iface);
}

void look_forwarding(struct doctor *d)
{
    if (!look_each_edge(d, look_forward, NULL))
        look_not_used(d, "no edge is a kernel's interface");
}

/* --- RDMA ------------------------------------------------------------------------------------- */

bool look_uses_verbs(const struct site *site)
{
    bool uses = site->worker.transport && !strcmp(site->worker.transport, "verbs");
    for (unsigned i = 0; i < site->store.nodes_count; i++)
        uses |= site->store.nodes[i].verbs != NULL;
    return uses;
}

struct devices {
    struct doctor *d;
    uint32_t n;
    char device[64];
};

static void first_line(char *text)
{
    text[strcspn(text, "\n")] = '\0';
}

static bool rdma_port(void *ctx, const char *port)
{
    struct devices *all = ctx;
    struct rdma_facts f = {.device = all->device, .port = (uint32_t)atoi(port)};
    struct verdict v;
    char folder[200];
    snprintf(folder, sizeof folder, "/sys/class/infiniband/%s/ports/%.8s", all->device, port);
    doctor_read(all->d, f.state, sizeof f.state, "%s/state", folder);
    doctor_read(all->d, f.netdev, sizeof f.netdev, "%s/gid_attrs/ndevs/0", folder);
    first_line(f.state);
    first_line(f.netdev);
    if (*f.netdev)
        doctor_read(all->d, f.netdev_state, sizeof f.netdev_state, "/sys/class/net/%s/operstate", f.netdev);
    first_line(f.netdev_state);
    all->n++;
    judge_rdma_port(&f, &v);
    doctor_add(all->d, &v, "%s", all->device);
    return true;
}

static bool rdma_device(void *ctx, const char *name)
{
    struct devices *all = ctx;
    char folder[200];
    snprintf(all->device, sizeof all->device, "%s", name);
    snprintf(folder, sizeof folder, "/sys/class/infiniband/%s/ports", all->device);
    doctor_list(all->d, folder, rdma_port, all);
    return true;
}

void look_rdma(struct doctor *d)
{
    struct devices all = {.d = d};
    struct verdict v;
    char path[300];
    if (!d->site || !look_uses_verbs(d->site)) {
        look_not_used(d, "not used by this site");
        return;
    }
    doctor_list(d, "/sys/class/infiniband", rdma_device, &all);
    if (!all.n) {
        verdict_is(&v, DOCTOR_WRONG, "the site uses verbs, and there is no RDMA device here");
        verdict_mend(&v, "load its driver; soft-RoCE: modprobe rdma_rxe; rdma link add rxe0 type rxe netdev DEVICE; or leave "
                     "`verbs:` and `transport: verbs` out of the file");
        doctor_add(d, &v, "%s", "");
        return;
    }
    snprintf(path, sizeof path, "%s/dev/infiniband/rdma_cm", d->root);
    if (access(path, R_OK | W_OK) == 0)
        return;
    int error = errno;
    verdict_is(&v, error == EACCES ? DOCTOR_UNKNOWN : DOCTOR_WRONG, "/dev/infiniband/rdma_cm: %s", strerror(error));
    verdict_mend(&v, "modprobe rdma_ucm; in a container pass /dev/infiniband on");
    doctor_add(d, &v, "rdma_cm");
}

/* --- ports ---------------------------------------------------------------------------------------- */

/* The inode of who listens there, by /proc/net/tcp's lines; 0: nobody. `address` of network order; 0: any. */
static uint64_t listener(struct doctor *d, const char *file, bool six, uint32_t address, uint16_t port)
{
    char *text = malloc(1 << 20);
    uint64_t found = 0;
    if (!text || doctor_read(d, text, 1 << 20, "%s", file) <= 0) {
        free(text);
        return 0;
    }
    for (char *line = strchr(text, '\n'); line && *++line && !found; line = strchr(line, '\n')) {
        char at[40] = "";
        unsigned at_port = 0, state = 0;
        uint64_t inode = 0;
        if (sscanf(line, " %*[0-9]: %32[0-9A-F]:%X %*[0-9A-F:] %X %*s %*s %*s %*s %*s %" SCNu64, at, &at_port, &state,
                   &inode) != 4 || state != 0x0a || at_port != port)
            continue;
        uint32_t last = (uint32_t)strtoul(at + (strlen(at) > 8 ? strlen(at) - 8 : 0), NULL, 16);
        if (six || !address || last == address || !last)
            found = inode;
    }
    free(text);
    return found;
}

struct holder {
    struct doctor *d;
    char link[40], folder[64]; /* link: "socket:[123]" */
    bool all_seen;
    int pid;
};

static bool holds(void *ctx, const char *fd)
{
    struct holder *h = ctx;
    char path[400], to[64];
    snprintf(path, sizeof path, "%s%s/%.20s", h->d->root, h->folder, fd);
    ssize_t n = readlink(path, to, sizeof to - 1);
    to[n > 0 ? n : 0] = '\0';
    if (strcmp(to, h->link))
        return true;
    h->pid = atoi(h->folder + strlen("/proc/"));
    return false;
}

static bool process(void *ctx, const char *name)
{
    struct holder *h = ctx;
    if (*name < '1' || *name > '9')
        return true;
    snprintf(h->folder, sizeof h->folder, "/proc/%.20s/fd", name);
    doctor_list(h->d, h->folder, holds, h);
    return !h->pid;
}

static void find_port(struct doctor *d, struct port_facts *f, const struct in_addr *address)
{
    struct holder h = {.d = d};
    uint64_t inode = listener(d, "/proc/net/tcp", false, address ? address->s_addr : 0, f->port);
    if (!inode)
        inode = listener(d, "/proc/net/tcp6", true, 0, f->port);
    f->held = inode ? PORT_HELD : PORT_FREE;
    if (!inode)
        return;
    snprintf(h.link, sizeof h.link, "socket:[%" PRIu64 "]", inode);
    doctor_list(d, "/proc", process, &h);
    if (!h.pid)
        return;
    f->held = PORT_HELD_BY;
    f->pid = h.pid;
    doctor_read(d, f->comm, sizeof f->comm, "/proc/%d/comm", h.pid);
    first_line(f->comm);
}

/* Is the address one of this host's? Also tells the first of its IPv4 addresses. */
static bool is_ours(const char *host, struct in_addr *four, bool *has_four)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    struct ifaddrs *all = NULL;
    bool ours = false;
    *has_four = false;
    if (getaddrinfo(host, NULL, &hints, &found))
        return false;
    getifaddrs(&all);
    for (struct addrinfo *a = found; a; a = a->ai_next) {
        const struct sockaddr_in *in = (const void *)a->ai_addr;
        const struct sockaddr_in6 *in6 = (const void *)a->ai_addr;
        if (a->ai_family == AF_INET && !*has_four) {
            *four = in->sin_addr;
            *has_four = true;
            ours |= in->sin_addr.s_addr == 0 || (ntohl(in->sin_addr.s_addr) >> 24) == 127;
        }
        for (struct ifaddrs *i = all; i; i = i->ifa_next) {
            if (!i->ifa_addr || i->ifa_addr->sa_family != a->ai_family)
                continue;
            const struct sockaddr_in *own = (const void *)i->ifa_addr;
            const struct sockaddr_in6 *own6 = (const void *)i->ifa_addr;
            ours |= a->ai_family == AF_INET ? own->sin_addr.s_addr == in->sin_addr.s_addr
                                            : !memcmp(&own6->sin6_addr, &in6->sin6_addr, sizeof in6->sin6_addr);
        }
    }
    freeifaddrs(all);
    freeaddrinfo(found);
    return ours;
}

static void is_here(void *ctx, struct doctor *d, const struct look_edge *e)
{
    (void)d;
    *(bool *)ctx |= if_nametoindex(e->iface) != 0;
}

bool look_is_store_only(struct doctor *d)
{
    char host[ADDRESS_HOST_MAX], err[200];
    struct in_addr four = {0};
    bool edges = false, store = false, has_four;
    uint16_t port;
    look_each_edge(d, is_here, &edges);
    for (unsigned i = 0; d->site && !edges && i < d->site->store.nodes_count; i++)
        if (!address_split(d->site->store.nodes[i].listen, host, &port, err, sizeof err) &&
            is_ours(host, &four, &has_four) && (ntohl(four.s_addr) >> 24) != 127)
            store = true;
    return store && !edges;
}

static void look_node(struct doctor *d, const struct site_node *node, const struct look_instance *all, uint32_t n)
{
    char host[ADDRESS_HOST_MAX], err[200], socket[200];
    struct in_addr four = {0};
    struct verdict v;
    bool has_four;
    uint16_t port;
    int node_pid = 0, error;
    if (address_split(node->listen, host, &port, err, sizeof err))
        return;
    if (!is_ours(host, &four, &has_four)) {
        verdict_is(&v, DOCTOR_UNKNOWN, "%s is not this host's address; run this on its host, too", host);
        doctor_add(d, &v, "%s", node->name);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        if (!strcmp(all[i].name, node->name))
            node_pid = all[i].pid;
    snprintf(socket, sizeof socket, "%s/%s.sock", d->site->run_dir, node->name);
    if (!node_pid)
        node_pid = look_socket_pid(socket, &error);
    for (unsigned s = 0; s < d->site->store.shards; s++) {
        struct port_facts f = {.node = node->name, .host = host, .port = (uint16_t)(port + s), .node_pid = node_pid};
        find_port(d, &f, has_four ? &four : NULL);
        judge_port(&f, &v);
        doctor_add(d, &v, "%s shard %u", node->name, s);
    }
}

void look_ports(struct doctor *d)
{
    struct look_instance *all = d->site ? calloc(LOOK_INSTANCES, sizeof *all) : NULL;
    uint32_t n = all ? look_all_instances(d, all) : 0;
    if (!all || !d->site->store.nodes_count)
        look_not_used(d, "no store of this site's own");
    for (unsigned i = 0; all && i < d->site->store.nodes_count; i++)
        look_node(d, &d->site->store.nodes[i], all, n);
    free(all);
}
