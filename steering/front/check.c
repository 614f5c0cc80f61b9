/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What must hold before steering starts. Each failure is one sentence that says
 * what to do. Main thread.
 */
#include "steering/front/steer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/packet/dpdk_port.h"
#include "steering/maglev.h"

enum { FRAME_BYTES_DEFAULT = 2048, FRAME_OVERHEAD = 64, ETHER_BYTES = 18, MTU_DEFAULT = 1500,
       MTU_MAX = 16000 };

static const char *const side_text[2] = {"inside", "outside"};

static const struct site_side *side_of(const struct steer *s, int side)
{
    return side == SIDE_INSIDE ? &s->front.inside : &s->front.outside;
}

/* --- the site's keys ---------------------------------------------------------------- */

static int check_side(struct steer *s, int side, char *err, uint32_t err_len)
{
    const struct site_side *cfg = side_of(s, side);
    char why[ERR_BYTES / 2];
    if (arp_init(&s->edge[side].arp, cfg->address, cfg->next_hop, cfg->serves, cfg->serves_count,
                 why, sizeof(why)) < 0) {
        snprintf(err, err_len, "steering.%s.%s", side_text[side], why);
        return -EINVAL;
    }
    if (cfg->port == NULL || strncmp(cfg->port, "net_", 4) != 0) {
        snprintf(err, err_len, "steering.%s.port: '%s' is no DPDK device; write for example "
                 "net_af_packet%d,iface=eth0,framecnt=4096,blocksz=65536",
                 side_text[side], cfg->port != NULL ? cfg->port : "", side);
        return -EINVAL;
    }
    return 0;
}

static bool same_device(const char *a, const char *b)
{
    size_t n = strcspn(a, ",");
    return n == strcspn(b, ",") && strncmp(a, b, n) == 0;
}

static int make_folder(const char *key, const char *path, char *err, uint32_t err_len)
{
    if (mkdir(path, 0755) == 0 || errno == EEXIST)
        return 0;
    int error = errno;
    snprintf(err, err_len, "%s: the folder %s cannot be made: %s", key, path, strerror(error));
    return -error;
}

int check_site(struct steer *s, char *err, uint32_t err_len)
{
    const struct site_steering *cfg = &s->site->steering;
    uint32_t size = cfg->maglev_size != 0 ? cfg->maglev_size : MAGLEV_SIZE_DEFAULT;
    for (int side = 0; side < 2; side++) {
        int rc = check_side(s, side, err, err_len);
        if (rc < 0)
            return rc;
    }
    if (same_device(s->front.inside.port, s->front.outside.port)) {
        snprintf(err, err_len, "steering.outside.port: is the same device as steering.inside.port; "
                 "number them, net_af_packet0 and net_af_packet1");
        return -EINVAL;
    }
    if (s->workers_max < 1 || s->workers_max > TABLE_WORKERS_MAX) {
        snprintf(err, err_len, "steering.workers_max: %u; 1 to %d are possible", s->workers_max,
                 TABLE_WORKERS_MAX);
        return -EINVAL;
    }
    if (!maglev_size_is_good(size, s->workers_max)) {
        snprintf(err, err_len, "steering.maglev_size: %u; a prime, at least 100 times workers_max "
                 "and at most %d: leave it out for %d", size, MAGLEV_SIZE_MAX, MAGLEV_SIZE_DEFAULT);
        return -EINVAL;
    }
    if (strlen(s->front.memif_dir) + TABLE_NAME_BYTES + sizeof(".outside.memif") > PATH_BYTES) {
        snprintf(err, err_len, "steering.memif_dir: '%s' is too long for a socket's path "
                 "(%d bytes with a worker's name)", s->front.memif_dir, PATH_BYTES);
        return -ENAMETOOLONG;
    }
    return probe_key_load(cfg->probe_key_file, s->probe_key, err, err_len);
}

/* --- the edges ------------------------------------------------------------------------- */

/* The value of `key=` in "device,key=value,..."; false: not there. */
static bool device_argument(const char *device, const char *key, char *value, size_t room)
{
    size_t n = strlen(key);
    for (const char *p = strchr(device, ','); p != NULL; p = strchr(p + 1, ','))
        if (strncmp(p + 1, key, n) == 0 && p[1 + n] == '=') {
            snprintf(value, room, "%.*s", (int)strcspn(p + 2 + n, ","), p + 2 + n);
            return true;
        }
    return false;
}

static int interface_mtu(const char *iface, uint32_t *mtu)
{
    struct ifreq ifr;
    int rc = 0, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    memset(&ifr, 0, sizeof(ifr));
    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", iface);
    if (ioctl(fd, SIOCGIFMTU, &ifr) < 0)
        rc = -errno;
    else
        *mtu = (uint32_t)ifr.ifr_mtu;
    close(fd);
    return rc;
}

/* A kernel that has an address there answers our packets too: RST, ICMP. */
static void warn_of_addresses(const char *iface)
{
    struct ifaddrs *all, *a;
    if (getifaddrs(&all) < 0)
        return;
    for (a = all; a != NULL; a = a->ifa_next)
        if (a->ifa_addr != NULL && a->ifa_addr->sa_family == AF_INET &&
            strcmp(a->ifa_name, iface) == 0) {
            log_warn("the kernel has an address on an edge and will answer packets, too",
                     "interface=%s remedy='ip addr flush dev %s'", iface, iface);
            break;
        }
    freeifaddrs(all);
}

static int check_interface(struct steer *s, int side, uint32_t frame_bytes, char *err,
                           uint32_t err_len)
{
    const char *iface = s->edge[side].iface;
    uint32_t mtu = MTU_DEFAULT;
    int rc = dpdk_check_offloads(iface, err, err_len);
    if (rc < 0)
        return rc;
    rc = interface_mtu(iface, &mtu);
    if (rc < 0) {
        snprintf(err, err_len, "interface %s: its MTU cannot be read: %s", iface, strerror(-rc));
        return rc;
    }
    if (mtu > MTU_MAX || mtu + ETHER_BYTES + FRAME_OVERHEAD > frame_bytes) {
        snprintf(err, err_len,
                 "interface %s: its MTU of %u does not fit into frames of %u bytes; write "
                 "framesz=16384,framecnt=512 into steering.%s.port, or: ip link set %s mtu 1500",
                 iface, mtu, frame_bytes, side_text[side], iface);
        return -EMSGSIZE;
    }
    if (mtu > s->mtu)
        s->mtu = mtu;
    warn_of_addresses(iface);
    return 0;
}

int check_edges(struct steer *s, char *err, uint32_t err_len)
{
    s->mtu = 0;
    s->room = FRAME_BYTES_DEFAULT;
    for (int side = 0; side < 2; side++) {
        const char *device = side_of(s, side)->port;
        char text[16] = "";
        uint32_t frame_bytes = FRAME_BYTES_DEFAULT;
        if (device_argument(device, "framesz", text, sizeof(text)))
            frame_bytes = (uint32_t)strtoul(text, NULL, 10);
        if (frame_bytes > s->room)
            s->room = frame_bytes < 32768 ? frame_bytes : 32768;
        if (!device_argument(device, "iface", s->edge[side].iface, sizeof(s->edge[side].iface)))
            continue;
        int rc = check_interface(s, side, frame_bytes, err, err_len);
        if (rc < 0)
            return rc;
    }
    s->mtu = s->mtu != 0 ? s->mtu : MTU_DEFAULT;
    int rc = make_folder("run_dir", s->site->run_dir, err, err_len);
    if (rc < 0)
        return rc;
    return make_folder("steering.memif_dir", s->front.memif_dir, err, err_len);
}
