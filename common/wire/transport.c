/* SPDX-License-Identifier: BSD-3-Clause */
/* See transport.h. */
#include "common/wire/transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/wire/address.h"
#include "common/wire/shm.h"

enum { PATH_MAX_BYTES = 107, SUFFIX_BYTES = 3 /* ".15" */ };

/* --- tcp, shm ------------------------------------------------------------------------ */

static void close_fd(struct listener *l)
{
    close(l->fd);
}

static struct channel *accept_tcp(struct listener *l)
{
    return tcp_accept(l->fd);
}

static int listen_tcp(struct listener *out, const char *address, char *err, uint32_t err_len)
{
    int fd = tcp_listen(address, err, err_len);
    if (fd < 0)
        return fd;
    *out = (struct listener){.fd = fd, .accept = accept_tcp, .close = close_fd};
    return 0;
}

static uint16_t port_tcp(const struct listener *l)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    if (getsockname(l->fd, (struct sockaddr *)&a, &len))
        return 0;
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                         : ((struct sockaddr_in *)&a)->sin_port);
}

/* Who may not connect was closed; somebody else may wait behind. */
static struct channel *accept_shm(struct listener *l)
{
    struct channel *c;
    do {
        errno = 0;
        c = shm_accept(l->fd);
    } while (!c && errno == EPERM);
    return c;
}

static int listen_shm(struct listener *out, const char *path, char *err, uint32_t err_len)
{
    int fd = shm_listen(path, err, err_len);
    if (fd < 0)
        return fd;
    *out = (struct listener){.fd = fd, .accept = accept_shm, .close = close_fd};
    return 0;
}

static uint16_t no_port(const struct listener *l)
{
    return 0;
}

const struct transport transport_tcp = {"tcp", false, tcp_connect, listen_tcp, port_tcp, NULL};
const struct transport transport_shm = {"shm", true, shm_connect, listen_shm, no_port, NULL};

/* --- addresses ------------------------------------------------------------------------ */

const struct transport *transport_of(const char *address, const struct transport *verbs,
                                     const char **rest, char *err, uint32_t err_len)
{
    const struct transport *all[] = {&transport_tcp, &transport_shm, verbs};
    for (int i = 0; i < 3; i++) {
        size_t n = all[i] ? strlen(all[i]->name) : 0;
        /* "tcp:7400" is port 7400 of a host named tcp */
        if (n && !strncmp(address, all[i]->name, n) && address[n] == ':' &&
            (all[i]->is_path || strchr(address + n + 1, ':'))) {
            *rest = address + n + 1;
            return all[i];
        }
    }
    if (!verbs && !strncmp(address, "verbs:", 6) && strchr(address + 6, ':')) {
        snprintf(err, err_len, "%.200s: this program was built or is used without RDMA; use tcp or "
                 "shm, or build it where libibverbs-dev and librdmacm-dev are", address);
        return NULL;
    }
    *rest = address;
    return &transport_tcp;
}

static int check_path(const char *path, char *err, uint32_t err_len)
{
    if (path[0] == '/' && strlen(path) <= PATH_MAX_BYTES - SUFFIX_BYTES)
        return 0;
    snprintf(err, err_len, "'%.120s' is no path for sockets; write one that begins with / and has at "
             "most %d characters, such as /run/lethe/store-a", path, PATH_MAX_BYTES - SUFFIX_BYTES);
    return -EINVAL;
}

int transport_check(const struct transport *t, const char *address, uint32_t shards, bool listener,
                    char *err, uint32_t err_len)
{
    char host[ADDRESS_HOST_MAX];
    uint16_t port;
    if (t->is_path)
        return check_path(address, err, err_len);
    int rc = address_split(address, host, &port, err, err_len);
    if (rc || (port ? port + shards - 1 <= 65535 : listener))
        return rc;
    snprintf(err, err_len, "address %.200s: shards 0 to %u need ports from 1 to 65535", address,
             shards - 1);
    return -EINVAL;
}

int transport_of_shard(const struct transport *t, const char *address, uint16_t shard,
                       char out[TRANSPORT_ADDRESS_MAX], char *err, uint32_t err_len)
{
    char host[ADDRESS_HOST_MAX];
    uint16_t port;
    int rc = transport_check(t, address, 1, true, err, err_len);
    if (rc)
        return rc;
    if (t->is_path) {
        snprintf(out, TRANSPORT_ADDRESS_MAX, "%s.%u", address, shard);
        return 0;
    }
    rc = address_split(address, host, &port, err, err_len);
    if (!rc && port && port + shard > 65535) {
        snprintf(err, err_len, "%.200s: shard %u would need port %u; choose a lower one", address,
                 shard, port + shard);
        rc = -EINVAL;
    }
    if (!rc)
        snprintf(out, TRANSPORT_ADDRESS_MAX, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host,
                 port ? port + shard : 0);
    return rc;
}
