/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernel's side of a port: the descriptor its packets arrive on, and the
 * offloads that would spoil them. See dpdk_port.h. Any thread, control time.
 */
#include "common/packet/dpdk_port.h"

#include <dirent.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef AF_XDP
#define AF_XDP 44
#endif

static bool is_packet_socket_of(int fd, int ifindex)
{
    struct sockaddr_ll addr;
    socklen_t len = sizeof(addr);
    memset(&addr, 0, sizeof(addr));
    return getsockname(fd, (struct sockaddr *)&addr, &len) == 0 &&
           addr.sll_family == AF_PACKET && addr.sll_ifindex == ifindex;
}

static bool is_xdp_socket(int fd)
{
    int domain = 0;
    socklen_t len = sizeof(domain);
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_XDP;
}

/* The lowest descriptor above `above` that is a packet socket of the interface
 * or, with ifindex 0, an AF_XDP socket. */
static int find_socket(int ifindex, int above)
{
    int best = -1;
    struct dirent *entry;
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL)
        return -1;
    while ((entry = readdir(dir)) != NULL) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] == '.' || fd <= above || (best >= 0 && fd > best))
            continue;
        if (ifindex == 0 ? is_xdp_socket(fd) : is_packet_socket_of(fd, ifindex))
            best = fd;
    }
    closedir(dir);
    return best;
}

/* An AF_XDP socket does not tell its interface: they are handed out in the
 * order in which they were opened, each once. */
int dpdk_port_fd(const char *iface)
{
    static int last_xdp = -1;
    int ifindex = (int)if_nametoindex(iface);
    if (ifindex == 0)
        return -1;
    int fd = find_socket(ifindex, -1);
    if (fd < 0) {
        fd = find_socket(0, last_xdp);
        last_xdp = fd < 0 ? last_xdp : fd;
    }
    return fd;
}

static int ethtool(int fd, const char *iface, void *data)
{
    struct ifreq ifr;
    memset(&ifr, 0, sizeof(ifr));
    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", iface);
    ifr.ifr_data = data;
    return ioctl(fd, SIOCETHTOOL, &ifr) < 0 ? -errno : 0;
}

static bool feature_on(int fd, const char *iface, uint32_t cmd)
{
    struct ethtool_value v = {.cmd = cmd};
    return ethtool(fd, iface, &v) == 0 && v.data != 0;
}

int dpdk_check_offloads(const char *iface, char *err, uint32_t err_len)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        int error = errno;
        snprintf(err, err_len, "interface %s: its offloads cannot be read: %s", iface,
                 strerror(error));
        return -error;
    }
    if (if_nametoindex(iface) == 0) {
        close(fd);
        snprintf(err, err_len, "interface %s does not exist in this network namespace", iface);
        return -ENODEV;
    }
    bool tx = feature_on(fd, iface, ETHTOOL_GTXCSUM) || feature_on(fd, iface, ETHTOOL_GTSO);
    bool gro = feature_on(fd, iface, ETHTOOL_GGRO);
    close(fd);
    if (!tx && !gro)
        return 0;
    snprintf(err, err_len,
             "interface %s: %s%s%s is on, so packets would come with partial checksums or as "
             "truncated super-packets; run: ethtool -K %s tx off gro off (and the same at the "
             "other end of a veth pair)",
             iface, tx ? "tx checksum offload" : "", tx && gro ? " and " : "", gro ? "gro" : "",
             iface);
    return -EINVAL;
}
