/* SPDX-License-Identifier: BSD-3-Clause */
/* Verdicts on the site: secrets, programs, edges, ports, etcd, instances. See judge.h. */
#include "orchestrator/doctor/judge.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/wire/auth.h"

enum { READER = 1 }; /* of a file of root's: whoever is not root (a pod's program, say) */

void judge_secret(const struct secret_facts *f, struct verdict *v)
{
    char make[300];
    if (f->kind == SECRET_HEX)
        snprintf(make, sizeof make, "(umask 077; openssl rand -hex %u > %s)  # on every host alike", f->min / 2, f->path);
    else
        snprintf(make, sizeof make, "(umask 077; openssl rand -base64 32 > %s)", f->path);
    if (f->error == EACCES) {
        verdict_is(v, DOCTOR_UNKNOWN, "%s cannot be read: needs root, or its owner", f->path);
    } else if (f->error) {
        verdict_is(v, DOCTOR_WRONG, "%s: %s", f->path, strerror(f->error));
        verdict_mend(v, "%s", make);
    } else if (!f->regular) {
        verdict_is(v, DOCTOR_WRONG, "%s is no ordinary file", f->path);
        verdict_mend(v, "name another file in the site's");
    } else if (!auth_file_is_private(f->mode, f->owner, f->owner ? f->owner : READER)) {
        verdict_is(v, DOCTOR_WRONG, "%s: others than its owner have access to it (mode %04o)", f->path, f->mode);
        verdict_mend(v, "chmod 600 %s  # and if others may have read it, make another", f->path);
    } else if (f->length < f->min || f->length > f->max || (f->kind == SECRET_HEX && (!f->hex || f->length % 2))) {
        verdict_is(v, DOCTOR_WRONG, "%s holds %u characters%s; it has to be %u to %u%s", f->path, f->length,
                   f->kind == SECRET_HEX && !f->hex ? ", not all of them hex digits" : "", f->min, f->max,
                   f->kind == SECRET_HEX ? " hex digits" : "");
        verdict_mend(v, "%s", make);
    } else {
        verdict_is(v, DOCTOR_OK, "%s, mode %04o, %u characters%s", f->path, f->mode, f->length,
                   f->mode & 077 ? "; its group reads it, a program that runs as root refuses it" : "");
    }
}

void judge_version(const char *path, const char *said, const char *name, const char *ours, bool other, struct verdict *v)
{
    size_t n = strlen(name);
    if (!*said) {
        verdict_is(v, DOCTOR_WRONG, "%s is not there, or does not run", path);
        verdict_mend(v, "install the same package on every host, or name the folder: controller.programs");
        return;
    }
    const char *version = !strncmp(said, name, n) && said[n] == ' ' ? said + n + 1 : said;
    bool same = !strcmp(version, ours);
    verdict_is(v, same ? DOCTOR_OK : other ? DOCTOR_ADVICE : DOCTOR_WARNING, "%s is %s%s%s", path, version,
               same ? "" : "; lethe is ", same ? "" : ours);
    if (!same)
        verdict_mend(v, other ? "meant so? The group names this program" : "install the same version of all of them");
}

/* --- edges --------------------------------------------------------------------------------------- */

void judge_edge_there(const struct edge_facts *f, struct verdict *v)
{
    if (!f->there) {
        verdict_is(v, DOCTOR_WRONG, "there is no interface %s in this network namespace", f->iface);
        verdict_mend(v, "ip -br link shows which there are: correct %s; or run this where steering runs: "
                     "nsenter -n -t $(pidof lethe-steer) lethe doctor", f->key);
    } else if (!f->up) {
        verdict_is(v, DOCTOR_WRONG, "interface %s is down", f->iface);
        verdict_mend(v, "ip link set dev %s up", f->iface);
    } else if (!f->carrier) {
        verdict_is(v, DOCTOR_WRONG, "interface %s has no carrier", f->iface);
        verdict_mend(v, "is its cable in, its veth peer up (ip link set dev PEER up)?");
    } else {
        verdict_is(v, DOCTOR_OK, "interface %s is up, MTU %u", f->iface, f->mtu);
    }
}

void judge_edge_offloads(const struct edge_facts *f, struct verdict *v)
{
    const struct { bool on; const char *what, *off; } all[] = {{f->tx, "tx checksum offload", " tx off"},
                                                               {f->tso && !f->tx, "tso", " tso off"},
                                                               {f->gro, "gro", " gro off"},
                                                               {f->lro, "lro", " lro off"}};
    char on[80] = "", off[80] = "";
    for (uint32_t i = 0; i < 4; i++)
        if (all[i].on) {
            strcat(strcat(on, *on ? ", " : ""), all[i].what);
            strcat(off, all[i].off);
        }
    if (f->error) {
        verdict_is(v, DOCTOR_UNKNOWN, "offloads of %s cannot be read: %s", f->iface, strerror(f->error));
        return;
    }
    if (!*on) {
        verdict_is(v, DOCTOR_OK, "offloads that spoil packets are off");
        return;
    }
    verdict_is(v, DOCTOR_WRONG, "switched on: %s", on);
    v->why = "packets come with partial checksums, or as super-packets that are cut: ping works, TCP never connects; "
             "steering refuses such an edge";
    verdict_mend(v, "ethtool -K %s%s  # and the same at the other end of a veth pair", f->iface, off);
}

void judge_edge_address(const struct edge_facts *f, struct verdict *v)
{
    if (!*f->address) {
        verdict_is(v, DOCTOR_OK, "the kernel has no address there");
        return;
    }
    verdict_is(v, DOCTOR_WRONG, "the kernel has %s/%u on %s", f->address, f->prefix, f->iface);
    v->why = "the kernel answers packets that are steering's, too: resets for every connection";
    verdict_mend(v, "ip addr del %s/%u dev %s", f->address, f->prefix, f->iface);
}

void judge_edge_mtu(const struct edge_facts *f, struct verdict *v)
{
    if (!f->other_mtu || f->mtu == f->other_mtu) {
        verdict_is(v, DOCTOR_OK, "MTU %u", f->mtu);
        return;
    }
    uint32_t least = f->mtu < f->other_mtu ? f->mtu : f->other_mtu;
    verdict_is(v, DOCTOR_WARNING, "MTU %u, that of %s is %u: larger packets than %u do not get through", f->mtu, f->other,
               f->other_mtu, least);
    v->why = "workers are told the smaller one; senders learn it by ICMP, which some networks drop";
    verdict_mend(v, "ip link set dev %s mtu %u  # and at its neighbours; or the smaller one on both", f->mtu == least ? f->iface
                 : f->other, f->mtu == least ? f->other_mtu : f->mtu);
}

void judge_tunnel_address(const struct edge_facts *f, const char *wanted, bool has, struct verdict *v)
{
    verdict_is(v, has ? DOCTOR_OK : DOCTOR_WRONG, has ? "%s is an address of %s" : "%s is no address of %s", wanted, f->iface);
    v->why = "workers send to it, and the kernel answers ARP for it";
    if (!has)
        verdict_mend(v, "ip addr add %s/24 dev %s  # with the prefix of that network", wanted, f->iface);
}

void judge_tunnel_beside(const struct edge_facts *f, struct verdict *v)
{
    if (f->there && f->up) {
        verdict_is(v, DOCTOR_OK, "interface %s is up, MTU %u", f->iface, f->mtu);
        return;
    }
    verdict_is(v, DOCTOR_ADVICE, f->there ? "interface %s is down: workers behind it cannot join"
               : "there is no interface %s yet: workers behind it cannot join; steering uses it as soon as it is there", f->iface);
    v->why = "a bridge of containers is made with the first one";
    if (f->there)
        verdict_mend(v, "ip link set dev %s up", f->iface);
    else
        verdict_mend(v, "ip -br link shows which there are: correct %s, if it never comes", f->key);
}

void judge_tunnel_mtu(const struct edge_facts *f, uint32_t inner, uint32_t path, struct verdict *v)
{
    enum { VXLAN_BYTES = 50 }; /* Ethernet, IPv4, UDP, VXLAN */
    uint32_t carries = path && path < f->mtu ? path : f->mtu;
    bool small = inner && carries < inner + VXLAN_BYTES;
    verdict_is(v, small ? DOCTOR_ADVICE : DOCTOR_OK, "it carries %u bytes, packets in it %u%s", carries, carries - VXLAN_BYTES,
               small ? ": larger ones are answered with ICMP, or fragmented" : "");
    if (small)
        verdict_mend(v, "ip link set dev %s mtu %u  # if the whole path carries that", f->iface, inner + VXLAN_BYTES);
}

void judge_forwarding(const char *iface, uint64_t forwarding, struct verdict *v)
{
    if (forwarding == UINT64_MAX)
        verdict_is(v, DOCTOR_UNKNOWN, "forwarding of %s: /proc/sys/net does not tell", iface);
    else if (!forwarding)
        verdict_is(v, DOCTOR_OK, "the kernel does not forward what comes in by %s", iface);
    else {
        verdict_is(v, DOCTOR_WARNING, "the kernel forwards what comes in by %s, if it has a route: packets would go twice",
                   iface);
        verdict_mend(v, "sysctl -w net.ipv4.conf.%s.forwarding=0", iface);
    }
}

void judge_rdma_port(const struct rdma_facts *f, struct verdict *v)
{
    bool active = strstr(f->state, "ACTIVE") != NULL, dead = *f->netdev_state && !strcmp(f->netdev_state, "down");
    verdict_is(v, active && !dead ? DOCTOR_OK : DOCTOR_WRONG, "port %u of %s is %s%s%s%s%s", f->port, f->device, f->state,
               *f->netdev ? ", its interface " : "", f->netdev, *f->netdev_state ? " " : "", f->netdev_state);
    if (v->is)
        verdict_mend(v, "ip link set dev %s up; rdma link show %s", *f->netdev ? f->netdev : "DEVICE", f->device);
}

/* --- ports ------------------------------------------------------------------------------------------ */

void judge_port(const struct port_facts *f, struct verdict *v)
{
    const char *at = f->host;
    if (f->held == PORT_FREE && f->node_pid) {
        verdict_is(v, DOCTOR_WRONG, "%s answers (pid %d), and nobody listens at %s:%u", f->node, f->node_pid, at, f->port);
        verdict_mend(v, "does it run with an earlier file? lethe restart %s", f->node);
    } else if (f->held == PORT_FREE) {
        verdict_is(v, DOCTOR_OK, "%s:%u is free; %s does not run", at, f->port, f->node);
    } else if (f->held == PORT_HELD) {
        verdict_is(v, DOCTOR_UNKNOWN, "somebody listens at %s:%u; who, needs root", at, f->port);
    } else if (f->pid == f->node_pid) {
        verdict_is(v, DOCTOR_OK, "%s listens at %s:%u, pid %d", f->node, at, f->port, f->pid);
    } else {
        bool store = !strcmp(f->comm, "lethe-store") && !f->node_pid;
        verdict_is(v, store ? DOCTOR_WARNING : DOCTOR_WRONG, "%s:%u is taken by %s, pid %d%s", at, f->port, f->comm, f->pid,
                   store ? ", which does not answer on the control socket of this node" : ", which is none of this site's");
        v->why = "the node cannot listen, and ends at its start";
        verdict_mend(v, "ps -fp %d  # end that program; or another port: store.nodes, listen of %s", f->pid, f->node);
    }
}

/* --- etcd ---------------------------------------------------------------------------------------------- */

void judge_etcd(const struct etcd_facts *f, struct verdict *v)
{
    unsigned major = 0, minor = 0;
    if (*f->error) {
        verdict_is(v, DOCTOR_WRONG, "%s", f->error);
        verdict_mend(v, "systemctl status etcd; curl %s/health  # is it its clients' port? Else correct store.etcd",
                     f->endpoint);
    } else if (sscanf(f->version, "%u.%u", &major, &minor) == 2 && (major < 3 || (major == 3 && minor < 4))) {
        verdict_is(v, DOCTOR_WRONG, "etcd %s is too old: 3.4 or later is needed", f->version);
        verdict_mend(v, "upgrade etcd, a member at a time");
    } else if (f->nospace || f->corrupt) {
        verdict_is(v, DOCTOR_WRONG, "alarm %s: etcd refuses %s", f->nospace ? "NOSPACE" : "CORRUPT",
                   f->nospace ? "every change; its database is full" : "to serve");
        if (f->nospace)
            verdict_mend(v, "export ETCDCTL_API=3; e=%s; etcdctl --endpoints $e compact $(etcdctl --endpoints $e endpoint "
                         "status -w json | grep -o '\"revision\":[0-9]*' | cut -d: -f2); etcdctl --endpoints $e defrag; "
                         "etcdctl --endpoints $e alarm disarm", f->endpoint);
        else
            verdict_mend(v, "take that member out, empty its data folder, add it again (etcdctl member remove, add)");
    } else if (!f->leader || !f->reads) {
        verdict_is(v, DOCTOR_WRONG, "it answers, and has no quorum%s%s", *f->read_error ? ": " : "", f->read_error);
        verdict_mend(v, "start the other members; ETCDCTL_API=3 etcdctl --endpoints %s member list", f->endpoint);
    } else {
        verdict_is(v, DOCTOR_OK, "etcd %s answers, has a leader and a quorum; database %" PRIu64 " KiB", f->version,
                   f->db_bytes >> 10);
    }
}

void judge_etcd_speed(const struct etcd_facts *f, struct verdict *v)
{
    double limit_ms = f->failure_timeout_ms / 4.0;
    bool slow = f->read_ms > limit_ms, disk = f->fsync_p99_ms > limit_ms || f->fsync_p99_ms > 100;
    char fsync[64] = "how long its fsync takes it does not tell";
    if (f->fsync_p99_ms >= 0)
        snprintf(fsync, sizeof fsync, "99 %% of its fsyncs within %.3g ms", f->fsync_p99_ms);
    verdict_is(v, slow || disk ? DOCTOR_WARNING : f->fsync_p99_ms < 0 ? DOCTOR_UNKNOWN : DOCTOR_OK,
               "a read takes %.1f ms; %s", f->read_ms, fsync);
    v->why = "a take-over waits for a write to etcd, and that for its disk";
    if (disk)
        verdict_mend(v, "its data folder on an SSD of its own (or ionice -c2 -n0 -p $(pidof etcd)); else a larger "
                     "failure_timeout_ms");
    else if (slow)
        verdict_mend(v, "etcd nearer to the store's hosts, or a larger failure_timeout_ms");
}

void judge_etcd_members(uint32_t named, uint32_t answer, uint32_t members, struct verdict *v)
{
    if (named && !answer) {
        verdict_is(v, DOCTOR_WRONG, "none of %u end points answers", named);
        verdict_mend(v, "start etcd, or correct store.etcd");
    } else if (answer < named) {
        verdict_is(v, DOCTOR_WARNING, "%u of %u end points answer", answer, named);
        verdict_mend(v, "bring the others back before one more fails");
    } else if (members == 1) {
        verdict_is(v, DOCTOR_ADVICE, "one member: when it is away, nobody takes over from the dead");
        verdict_mend(v, "three members on three hosts, all of them in store.etcd");
    } else {
        verdict_is(v, DOCTOR_OK, "%u end points answer, %u members", answer, members);
        if (named < members) {
            verdict_is(v, DOCTOR_ADVICE, "%u members, %u in store.etcd", members, named);
            verdict_mend(v, "name all of them in store.etcd");
        }
    }
}

void judge_instance(const struct instance_facts *f, struct verdict *v)
{
    bool ready = !strcmp(f->state, "ready") || (!*f->state && f->answers);
    if (f->pid && !f->answers && f->error == EACCES) {
        verdict_is(v, DOCTOR_UNKNOWN, "pid %d; its control socket is its owner's alone: needs root, or that user", f->pid);
    } else if (f->pid && !f->answers) {
        verdict_is(v, DOCTOR_WRONG, "pid %d lives and does not answer on its control socket: %s", f->pid, strerror(f->error));
        verdict_mend(v, "kill -CONT %d  # if it was stopped; else lethe kill %s; its log: %s", f->pid, f->name, f->log);
    } else if (!strcmp(f->state, "stopped")) {
        verdict_is(v, DOCTOR_ADVICE, "it was drained, and is stopped");
        verdict_mend(v, "lethe start %s", f->name);
    } else if (!ready) {
        verdict_is(v, DOCTOR_WARNING, "%s", *f->state ? f->state : "it does not run");
        verdict_mend(v, "its log says why: tail %s; lethe events", f->log);
    } else if (f->outdated) {
        verdict_is(v, DOCTOR_WARNING, "it runs with an earlier configuration");
        verdict_mend(v, "lethe restart %s", f->name);
    } else if (!f->pid) { /* a platform runs it */
        verdict_is(v, DOCTOR_OK, "%s", f->state);
    } else {
        verdict_is(v, DOCTOR_OK, "%s, pid %d, answers", *f->state ? f->state : "runs", f->pid);
    }
}
