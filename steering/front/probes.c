/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What /healthz and /readyz of steering say, and whether its edges carry: asked on
 * the thread of http.h, from metrics and from the kernel; the datapath knows nothing of it.
 */
#include "steering/front/steer.h"

#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/metrics/text.h"

enum { STILL_MS = 10000 };

static const char *const side_text[2] = {[SIDE_INSIDE] = "inside", [SIDE_OUTSIDE] = "outside"};

/* A port that is no kernel interface is up once it was opened. */
bool edge_up(const struct edge *e)
{
    struct ifreq r;
    size_t n = strlen(e->iface);
    if (n == 0 || n >= sizeof(r.ifr_name))
        return true;
    memset(&r, 0, sizeof(r));
    memcpy(r.ifr_name, e->iface, n);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool up = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &r) == 0 && (r.ifr_flags & IFF_RUNNING);
    if (fd >= 0)
        close(fd);
    return up;
}

void probe_edges(void *ctx, struct metrics_text *to)
{
    const struct steer *s = ctx;
    text_family(to, METRIC_GAUGE, "lethe_steer_edge_up", "1: the edge's interface carries");
    for (int side = 0; side < 2; side++)
        text_sample(to, edge_up(&s->edge[side]), "side=\"%s\"", side_text[side]);
}

void probe_healthy(void *ctx, char *why, uint32_t len)
{
    const struct steer *s = ctx;
    uint64_t looked_ms = metric_get(s->counts.gauge[GAUGE_ROUND_MS]);
    uint64_t now_ms = monotonic_us() / 1000;
    if (looked_ms != 0 && now_ms > looked_ms + STILL_MS)
        snprintf(why, len, "the datapath has stood still for %lu s",
                 (unsigned long)((now_ms - looked_ms) / 1000));
}

void probe_ready(void *ctx, char *why, uint32_t len)
{
    const struct steer *s = ctx;
    probe_healthy(ctx, why, len);
    for (int side = 0; side < 2 && why[0] == '\0'; side++)
        if (!edge_up(&s->edge[side]))
            snprintf(why, len, "the %s edge, %s, is down", side_text[side], s->edge[side].iface);
    if (why[0] == '\0' && __atomic_load_n(&s->end_us, __ATOMIC_RELAXED) != 0)
        snprintf(why, len, "it was told to end; routers are turning from it");
    if (why[0] != '\0' || metric_get(s->counts.gauge[GAUGE_HEALTHY]) != 0)
        return;
    uint32_t n = (uint32_t)snprintf(why, len, "no worker answers probes");
    for (unsigned i = 1; i < s->tunnel.by_n && n < len; i++)
        if (metric_get(s->tunnel.by[i].count[BY_UP]) == 0)
            n += (uint32_t)snprintf(why + n, len - n, "; the tunnel's interface %s is not there yet",
                                    s->tunnel.by[i].under.iface);
}
