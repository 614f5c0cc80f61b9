/* SPDX-License-Identifier: BSD-3-Clause */
/* The kernel's half of a tunnel's end. See underlay.h. */
#include "common/packet/underlay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/filter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Of af_packet: a frame unless framesz= says else; its own header and Ethernet's in it. */
enum { FRAME_BYTES_DEFAULT = 2048, FRAME_OVERHEAD = 64 + 18, ETHER_BYTES = 14 };

static int refuse(int error, char *err, uint32_t err_len, const char *iface, const char *what)
{
    snprintf(err, err_len, "tunnel interface %s: %s", iface, what);
    return -error;
}

/* The largest packet that the port hands over whole. */
static uint32_t port_mtu(const char *device, uint32_t room)
{
    const char *at = strstr(device, ",framesz=");
    unsigned long frame = at != NULL ? strtoul(at + 9, NULL, 10) : FRAME_BYTES_DEFAULT;
    uint32_t least = room - ETHER_BYTES;
    return frame > FRAME_OVERHEAD && frame - FRAME_OVERHEAD < least ? (uint32_t)frame - FRAME_OVERHEAD
                                                                    : least;
}

static int look_at_mtu(struct underlay *u, uint32_t most, char *err, uint32_t err_len)
{
    struct ifreq r;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memset(&r, 0, sizeof(r));
    snprintf(r.ifr_name, sizeof(r.ifr_name), "%.*s", IFNAMSIZ - 1, u->iface);
    int error = fd < 0 || ioctl(fd, SIOCGIFMTU, &r) < 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    if (error)
        return refuse(error, err, err_len, u->iface, strerror(error));
    u->mtu = (uint32_t)r.ifr_mtu < most ? (uint32_t)r.ifr_mtu : most;
    if (u->mtu < UNDERLAY_MTU_MIN)
        return refuse(EMSGSIZE, err, err_len, u->iface, "its MTU is below 576; make it larger");
    return 0;
}

/* Is `wanted` an address of the interface? 0: its first one. */
static int look_at_address(struct underlay *u, uint32_t wanted, char *err, uint32_t err_len)
{
    struct ifaddrs *all, *a;
    u->address = 0;
    if (getifaddrs(&all) < 0)
        return refuse(errno, err, err_len, u->iface, strerror(errno));
    for (a = all; a != NULL && u->address == 0; a = a->ifa_next) {
        if (a->ifa_addr == NULL || a->ifa_addr->sa_family != AF_INET ||
            strcmp(a->ifa_name, u->iface) != 0)
            continue;
        uint32_t has = ((const struct sockaddr_in *)a->ifa_addr)->sin_addr.s_addr;
        if (wanted == 0 || wanted == has)
            u->address = has;
    }
    freeifaddrs(all);
    if (u->address == 0)
        return refuse(EADDRNOTAVAIL, err, err_len, u->iface,
                      wanted ? "does not have the tunnel's address; ip addr add it, or write the one "
                               "that it has"
                             : "has no IPv4 address; the tunnel needs one of the kernel's");
    return 0;
}

static int look_at_interface(struct underlay *u, const char *device, uint32_t room, char *err,
                             uint32_t err_len)
{
    const char *at = strstr(device, ",iface=");
    size_t n = at != NULL ? strcspn(at + 7, ",") : 0;
    if (n == 0 || n >= IFNAMSIZ) {
        snprintf(err, err_len, "tunnel device '%s': names no interface; write for example "
                 "net_af_packet2,iface=eth1", device);
        return -EINVAL;
    }
    memcpy(u->iface, at + 7, n);
    u->iface[n] = '\0';
    return look_at_mtu(u, port_mtu(device, room), err, err_len);
}

int underlay_look(struct underlay *u, const char *device, const char *address, uint16_t udp_port,
                  uint32_t room, char *err, uint32_t err_len)
{
    struct in_addr wanted = {0};
    u->fd = -1;
    u->udp_port = udp_port;
    if (address != NULL && inet_pton(AF_INET, address, &wanted) != 1) {
        snprintf(err, err_len, "tunnel address '%s' is no IPv4 address", address);
        return -EINVAL;
    }
    int rc = look_at_interface(u, device, room, err, err_len);
    return rc < 0 ? rc : look_at_address(u, wanted.s_addr, err, err_len);
}

int underlay_look_beside(struct underlay *u, const struct underlay *first, const char *device, uint32_t room,
                         char *err, uint32_t err_len)
{
    u->fd = -1;
    u->address = first->address;
    u->udp_port = first->udp_port;
    return look_at_interface(u, device, room, err, err_len);
}

void underlay_find(const char *iface, struct underlay_facts *f)
{
    struct ifreq r;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memset(f, 0, sizeof(*f));
    memset(&r, 0, sizeof(r));
    snprintf(r.ifr_name, sizeof(r.ifr_name), "%.*s", IFNAMSIZ - 1, iface);
    if (fd < 0)
        return;
    struct underlay_facts found = {0};
    bool all = ioctl(fd, SIOCGIFHWADDR, &r) == 0;
    memcpy(found.mac, r.ifr_hwaddr.sa_data, sizeof(found.mac));
    all = all && ioctl(fd, SIOCGIFMTU, &r) == 0;
    found.mtu = all ? (uint32_t)r.ifr_mtu : 0;
    all = all && ioctl(fd, SIOCGIFFLAGS, &r) == 0;
    found.up = all && (r.ifr_flags & IFF_UP) != 0;
    all = all && ioctl(fd, SIOCGIFINDEX, &r) == 0;
    found.index = all ? (unsigned)r.ifr_ifindex : 0;
    close(fd);
    if (all)
        *f = found;
}

static struct sockaddr_in at_port(uint32_t address, uint16_t udp_port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(udp_port),
                                .sin_addr = {address}};
}

int underlay_hold(struct underlay *u, char *err, uint32_t err_len)
{
    struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog filter = {.len = 1, .filter = &nothing};
    struct sockaddr_in me = at_port(u->address, u->udp_port);
    int df = IP_PMTUDISC_DO;
    u->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (u->fd >= 0 &&
        setsockopt(u->fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) == 0 &&
        setsockopt(u->fd, IPPROTO_IP, IP_MTU_DISCOVER, &df, sizeof(df)) == 0 &&
        bind(u->fd, (struct sockaddr *)&me, sizeof(me)) == 0)
        return 0;
    int error = errno;
    snprintf(err, err_len, "tunnel interface %s: UDP port %u cannot be taken: %s%s", u->iface,
             u->udp_port, strerror(error),
             error == EADDRINUSE ? "; another lethe, or a VXLAN device of the kernel, has it: choose "
                                   "another udp_port, everywhere alike" : "");
    underlay_close(u);
    return -error;
}

void underlay_close(struct underlay *u)
{
    if (u->fd >= 0)
        close(u->fd);
    u->fd = -1;
}

/* Classic BPF over the frame from its Ethernet header: IPv4, UDP, to us, no later fragment, the port. A
 * bridge's interface, for one, sees its containers' tunnels to other hosts, too. */
int underlay_filter(const struct underlay *u, int packet_fd)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x0800, 0, 10),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 8),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 30),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ntohl(u->address), 0, 6),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 20),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 4, 0),
        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 14),
        BPF_STMT(BPF_LD | BPF_H | BPF_IND, 16),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, u->udp_port, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0x40000),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog filter = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
    return setsockopt(packet_fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) < 0 ? -errno
                                                                                           : 0;
}

uint32_t underlay_path_mtu(const struct underlay *u, uint32_t address)
{
    struct sockaddr_in to = at_port(address, u->udp_port);
    struct sockaddr_in me = at_port(u->address, 0);
    int mtu = 0;
    socklen_t len = sizeof(mtu);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    if (bind(fd, (struct sockaddr *)&me, sizeof(me)) < 0 ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
        getsockopt(fd, IPPROTO_IP, IP_MTU, &mtu, &len) < 0)
        mtu = 0;
    close(fd);
    return mtu > 0 && (uint32_t)mtu < u->mtu ? (uint32_t)mtu : mtu > 0 ? u->mtu : 0;
}

int underlay_send(const struct underlay *u, uint32_t address, const void *payload, uint32_t len)
{
    struct sockaddr_in to = at_port(address, u->udp_port);
    ssize_t n = sendto(u->fd, payload, len, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to));
    return n < 0 ? -errno : 0;
}
