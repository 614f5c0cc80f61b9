/* SPDX-License-Identifier: BSD-3-Clause */
/* Defaults and limits of `steering.more` (check.c), front ends beside the first, and of tunnels. */
#include "common/config/schema.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

/* Who may be met at a tunnel's other end: one host's address. */
static int check_tunnel_end(const char *key, const char *value, const struct complaint *c)
{
    struct in_addr a;
    uint32_t first;
    if (inet_pton(AF_INET, value, &a) != 1)
        return complain(c, key, "'%s' is no IPv4 address; write one, such as 10.9.0.1", value);
    first = ntohl(a.s_addr) >> 24;
    return first != 0 && first < 224 ? 0 : complain(c, key, "'%s' is no host's address", value);
}

/* In "device,iface=eth0,...", the interface's name: its bytes, 0: there is none. */
static size_t interface_of(const char *device, const char **iface)
{
    const char *at = strstr(device, ",iface=");
    *iface = at ? at + strlen(",iface=") : "";
    return strcspn(*iface, ",");
}

/* A DPDK device is opened once, and an interface read once. */
static int check_port_apart(const char *key, const char *port, const char *other, const char *others,
                            const struct complaint *c)
{
    const char *mine, *its;
    size_t name = strcspn(port, ","), n = interface_of(port, &mine);
    if (name == strcspn(other, ",") && !strncmp(port, other, name))
        return complain(c, key, "%.*s is the device of %s, too; number them: net_af_packet2, net_af_packet3",
                        (int)name, port, others);
    if (n == interface_of(other, &its) && !strncmp(mine, its, n))
        return complain(c, key, "interface %.*s is that of %s, too; remove one, or write another", (int)n, mine,
                        others);
    return 0;
}

static int check_more_ports(const char *section, const struct site_front *f, const struct complaint *c)
{
    const struct site_tunnel *t = &f->tunnel;
    const struct { const char *name, *port; } known[] = {
        {"tunnel.port", t->port}, {"inside.port", f->inside.port}, {"outside.port", f->outside.port}};
    char key[64], other[64];
    int bad = 0;
    for (unsigned i = 0; !bad && i < t->more_ports_count; i++) {
        const char *port = t->more_ports[i], *iface;
        size_t n = interface_of(port, &iface);
        snprintf(key, sizeof key, "%s.more_ports[%u]", section, i);
        if (strncmp(port, "net_", 4) || !n || n >= IFNAMSIZ)
            bad = complain(c, key, "'%s' is no DPDK device on an interface; write one, such as "
                           "net_af_packet3,iface=cni0,framecnt=4096,blocksz=65536", port);
        for (size_t j = 0; !bad && j < sizeof known / sizeof known[0]; j++)
            bad = check_port_apart(key, port, known[j].port, known[j].name, c);
        for (unsigned j = 0; !bad && j < i; j++) {
            snprintf(other, sizeof other, "more_ports[%u]", j);
            bad = check_port_apart(key, port, t->more_ports[j], other, c);
        }
    }
    return bad;
}

/* `section`: "steering.tunnel", or a further front end's. */
static int check_tunnel(const char *section, const struct site_front *f, const struct complaint *c)
{
    const struct site_tunnel *t = &f->tunnel;
    char key[64];
    if (!places_find(c->places, section))
        return 0;
    snprintf(key, sizeof key, "%s.%s", section, t->address ? "port" : "address");
    if (!t->address || !t->port)
        return complain(c, key, "is missing; address (the kernel's, on the underlay interface) and port "
                        "(a DPDK device on it, such as net_af_packet2,iface=eth2) go together");
    snprintf(key, sizeof key, "%s.address", section);
    int bad = check_tunnel_end(key, t->address, c);
    return bad ? bad : check_more_ports(section, f, c);
}

int site_check_tunnels(const struct site *s, const struct complaint *c)
{
    const struct site_worker_tunnel *w = &s->worker.tunnel;
    char key[64];
    struct site_front first = site_front(s, 0);
    int bad = check_tunnel("steering.tunnel", &first, c);
    for (unsigned i = 0; !bad && i < w->steering_count; i++) {
        snprintf(key, sizeof key, "worker.tunnel.steering[%u]", i);
        bad = check_tunnel_end(key, w->steering[i], c);
        for (unsigned j = 0; !bad && j < i; j++)
            if (!strcmp(w->steering[i], w->steering[j]))
                bad = complain(c, key, "'%s' is there twice; remove one", w->steering[i]);
    }
    if (!bad && places_find(c->places, "worker.tunnel") && !w->steering_count)
        bad = complain(c, "worker.tunnel.steering", "no address; write those of steering's ends, such "
                       "as [\"10.9.0.1\"]");
    return bad;
}

/* Its sockets must be nobody else's. */
static int check_name(const struct site *s, const char *name, const char *key,
                      const struct complaint *c)
{
    if (!is_instance_name(name))
        return complain(c, key, "'%s' is no name; write up to 31 letters, digits, '_' or '-'", name);
    if (!strcmp(name, "controller"))
        return complain(c, key, "'%s' is the controller's name; choose another", name);
    for (unsigned i = 0; i < s->store.nodes_count; i++)
        if (!strcmp(s->store.nodes[i].name, name))
            return complain(c, key, "'%s' is the name of a store node, too; choose another", name);
    return 0;
}

/* Two front ends share nothing: what starts removes stale sockets of its folder. */
static int check_apart(const struct site *s, unsigned at, unsigned other, const struct complaint *c)
{
    struct site_front f = site_front(s, at), g = site_front(s, other);
    const struct { const char *key, *a, *b; } own[] = {
        {"name", f.name, g.name},
        {"inside.address", f.inside.address, g.inside.address},
        {"outside.address", f.outside.address, g.outside.address},
        {"control", f.control, g.control},
        {"memif_dir", f.memif_dir, g.memif_dir},
        {"tunnel.address", f.tunnel.address, g.tunnel.address},
    };
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        char key[64];
        snprintf(key, sizeof key, "steering.more[%u].%s", at - 1, own[i].key);
        if (own[i].a && own[i].b && !strcmp(own[i].a, own[i].b))
            return complain(c, key, "'%s' is that of front end %s, too; give each its own", own[i].a,
                            g.name);
    }
    return 0;
}

static int check_front(struct site *s, unsigned at, const struct complaint *c)
{
    struct site_front *f = &s->steering.more[at - 1];
    char key[64], path[256];
    snprintf(key, sizeof key, "steering.more[%u].name", at - 1);
    int bad = check_name(s, f->name, key, c);
    if (bad)
        return bad;
    snprintf(path, sizeof path, "%s/%s", s->run_dir, f->name);
    if (!text_default(&f->control, "%s.sock", path) || !text_default(&f->memif_dir, "%s", path))
        return complain(c, "", "out of memory");
    snprintf(key, sizeof key, "more[%u].inside", at - 1);
    bad = site_check_side(key, &f->inside, c);
    snprintf(key, sizeof key, "more[%u].outside", at - 1);
    if (!bad)
        bad = site_check_side(key, &f->outside, c);
    snprintf(key, sizeof key, "steering.more[%u].tunnel", at - 1);
    if (!bad)
        bad = check_tunnel(key, f, c);
    f->tunnel.vni = s->steering.tunnel.vni;
    f->tunnel.udp_port = s->steering.tunnel.udp_port;
    f->tunnel.mtu = s->steering.tunnel.mtu;
    for (unsigned other = 0; !bad && other < at; other++)
        bad = check_apart(s, at, other, c);
    return bad;
}

/* Whom workers join is a front end, where the file has those: else they wait for somebody who never answers. */
static int check_joined(const struct site *s, const struct complaint *c)
{
    char key[64];
    bool tunnels = false;
    for (unsigned at = 0; at <= s->steering.more_count; at++)
        tunnels |= site_front(s, at).tunnel.address != NULL;
    for (unsigned i = 0; tunnels && i < s->worker.tunnel.steering_count; i++)
        if (site_front_at(s, s->worker.tunnel.steering[i]) < 0) {
            snprintf(key, sizeof key, "worker.tunnel.steering[%u]", i);
            return complain(c, key, "%s is no front end's tunnel.address; correct one of them",
                            s->worker.tunnel.steering[i]);
        }
    return 0;
}

int site_check_fronts(struct site *s, const struct complaint *c)
{
    int bad = 0;
    for (unsigned at = 1; !bad && at <= s->steering.more_count; at++)
        bad = check_front(s, at, c);
    return bad ? bad : check_joined(s, c);
}
