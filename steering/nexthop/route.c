/* SPDX-License-Identifier: BSD-3-Clause */
/* Routes by rtnetlink. See route.h. Two sockets: orders, each waited for, and news. */
#include "steering/nexthop/route.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>

enum { ROUTE_BYTES = 1024, NEWS_BYTES = 16384, ANSWER_S = 2 };

struct routes {
    struct mnl_socket *orders, *news;
    uint32_t seq;
};

static int refuse(struct routes *r, const char *what, char *err, uint32_t err_len)
{
    int error = errno;
    snprintf(err, err_len, "netlink: %s: %s", what, strerror(error));
    routes_close(r);
    return -error;
}

int routes_open(struct routes **out, char *err, uint32_t err_len)
{
    const struct timeval patience = {.tv_sec = ANSWER_S};
    struct routes *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->orders = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    r->news = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (!r->orders || !r->news)
        return refuse(r, "no socket", err, err_len);
    if (mnl_socket_bind(r->orders, 0, MNL_SOCKET_AUTOPID) < 0 ||
        mnl_socket_bind(r->news, RTMGRP_LINK | RTMGRP_IPV4_ROUTE, MNL_SOCKET_AUTOPID) < 0)
        return refuse(r, "it cannot be bound", err, err_len);
    setsockopt(mnl_socket_get_fd(r->orders), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    *out = r;
    return 0;
}

void routes_close(struct routes *r)
{
    if (!r)
        return;
    if (r->orders)
        mnl_socket_close(r->orders);
    if (r->news)
        mnl_socket_close(r->news);
    free(r);
}

static void put_hops(struct nlmsghdr *h, const uint32_t *hops, unsigned n, unsigned ifindex)
{
    struct nlattr *all = mnl_attr_nest_start(h, RTA_MULTIPATH);
    for (unsigned i = 0; i < n; i++) {
        struct rtnexthop *hop = mnl_nlmsg_put_extra_header(h, sizeof *hop);
        hop->rtnh_ifindex = (int)ifindex;
        mnl_attr_put_u32(h, RTA_GATEWAY, hops[i]);
        hop->rtnh_len = (unsigned short)((char *)mnl_nlmsg_get_payload_tail(h) - (char *)hop);
    }
    mnl_attr_nest_end(h, all);
}

/* The kernel's answer to our last order. */
static int answer(struct routes *r)
{
    char buffer[ROUTE_BYTES + 256];
    ssize_t n;
    do
        n = mnl_socket_recvfrom(r->orders, buffer, sizeof buffer);
    while (n > 0 && ((struct nlmsghdr *)buffer)->nlmsg_seq != r->seq); /* one that came too late */
    if (n < 0)
        return -errno;
    return mnl_cb_run(buffer, (size_t)n, r->seq, mnl_socket_get_portid(r->orders), NULL, NULL) < 0 ? -errno : 0;
}

int routes_put(struct routes *r, const struct route *route, const uint32_t *hops, unsigned n, const char *dev)
{
    char buffer[ROUTE_BYTES] __attribute__((aligned(8)));
    unsigned ifindex = dev ? if_nametoindex(dev) : 0;
    if (dev && !ifindex)
        return -ENODEV;
    if (n < 1 || n > ROUTE_HOPS_MAX)
        return -EINVAL;
    memset(buffer, 0, sizeof buffer);
    struct nlmsghdr *h = mnl_nlmsg_put_header(buffer);
    h->nlmsg_type = RTM_NEWROUTE;
    h->nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK;
    h->nlmsg_seq = ++r->seq;
    struct rtmsg *m = mnl_nlmsg_put_extra_header(h, sizeof *m);
    m->rtm_family = AF_INET;
    m->rtm_dst_len = route->length;
    m->rtm_table = RT_TABLE_MAIN;
    m->rtm_protocol = RTPROT_STATIC;
    m->rtm_scope = RT_SCOPE_UNIVERSE;
    m->rtm_type = RTN_UNICAST;
    if (route->length)
        mnl_attr_put_u32(h, RTA_DST, route->prefix);
    if (route->metric)
        mnl_attr_put_u32(h, RTA_PRIORITY, route->metric);
    put_hops(h, hops, n, ifindex);
    if (mnl_socket_sendto(r->orders, h, h->nlmsg_len) < 0)
        return -errno;
    return answer(r);
}

int routes_fd(const struct routes *r)
{
    return mnl_socket_get_fd(r->news);
}

bool routes_changed(struct routes *r)
{
    char buffer[NEWS_BYTES];
    bool changed = false;
    for (;;) {
        ssize_t n = mnl_socket_recvfrom(r->news, buffer, sizeof buffer);
        if (n < 0 && errno == ENOBUFS) {
            changed = true; /* more than we could hear */
            continue;
        }
        if (n <= 0)
            return changed;
        int left = (int)n;
        for (const struct nlmsghdr *h = (void *)buffer; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left))
            changed |= h->nlmsg_type == RTM_NEWLINK || h->nlmsg_type == RTM_DELLINK ||
                       h->nlmsg_type == RTM_DELROUTE; /* a link that goes down takes routes with it, silently */
    }
}
