/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From facts to a verdict, with the command that mends it. Pure: no I/O, no clock; the facts were found
 * by look_*.c, in a test they are made up. Each function sets the whole verdict.
 */
#ifndef LETHE_ORCHESTRATOR_DOCTOR_JUDGE_H
#define LETHE_ORCHESTRATOR_DOCTOR_JUDGE_H

#include "orchestrator/doctor/doctor.h"

/* --- this host ----------------------------------------------------------------------------- */

struct hugepage_facts {
    bool wanted;              /* an edge is AF_XDP */
    uint64_t total, free;     /* pages of 2 MiB */
    uint64_t page_bytes, need_bytes; /* of one program */
};
void judge_hugepages(const struct hugepage_facts *f, struct verdict *v);

struct memlock_facts {
    const char *who;          /* whose limit it is */
    bool verbs;
    uint64_t limit_bytes, one_bytes, all_bytes; /* of a connection; of all that one store may have */
};
void judge_memlock(const struct memlock_facts *f, struct verdict *v);

struct descriptor_facts { const char *who; uint64_t limit, need; };
void judge_descriptors(const struct descriptor_facts *f, struct verdict *v);

struct memory_facts { uint64_t available_bytes, need_bytes, swap_used_bytes; };
void judge_memory(const struct memory_facts *f, struct verdict *v);

/* UINT64_MAX: no limit. */
struct cgroup_facts {
    const char *path;
    uint64_t memory_max, memory_now, pids_max, pids_now, periods, throttled;
};
void judge_cgroup_memory(const struct cgroup_facts *f, struct verdict *v);
void judge_cgroup_pids(const struct cgroup_facts *f, struct verdict *v);
void judge_cgroup_cpu(const struct cgroup_facts *f, struct verdict *v);

struct clock_facts { char source[32]; bool other_tsc; uint64_t suspended_ms; };
void judge_clock_source(const struct clock_facts *f, struct verdict *v);
void judge_suspended(const struct clock_facts *f, struct verdict *v);
void judge_ntp(bool synchronised, int64_t error_us, struct verdict *v);
void judge_offset(int64_t offset_ms, struct verdict *v);

struct pause_facts { uint32_t failure_timeout_ms, worst_us, looked_ms; uint64_t held_too_long; };
void judge_pauses(const struct pause_facts *f, struct verdict *v);

void judge_governor(const char *governor, uint32_t processors, struct verdict *v);

struct space_facts { const char *path; uint64_t free_bytes, total_bytes, free_files, total_files; };
void judge_space(const struct space_facts *f, struct verdict *v);

struct folder_facts { const char *path; int error; bool folder, writable; uint32_t mode; bool parent_writable; };
void judge_folder(const struct folder_facts *f, struct verdict *v);

/* --- the site -------------------------------------------------------------------------------- */

enum secret_kind { SECRET_HEX, SECRET_TOKEN };
struct secret_facts {
    const char *path;
    enum secret_kind kind;
    int error;                /* errno of opening or reading it */
    bool regular;
    uint32_t mode, length;    /* length: without white space at its end */
    bool hex;                 /* nothing but hex digits */
    uint32_t min, max;
    uint32_t owner;           /* uid */
};
void judge_secret(const struct secret_facts *f, struct verdict *v);

/* `said`: what --version printed, "": it could not be run. */
void judge_version(const char *path, const char *said, const char *name, const char *ours, bool other, struct verdict *v);

/* --- network ---------------------------------------------------------------------------------- */

struct edge_facts {
    const char *iface, *key;  /* "steering.inside.port" */
    bool there, up, carrier;
    int error;                /* of asking ethtool; 0 */
    bool tx, tso, gro, lro;
    char address[64];         /* the kernel's first there, "" none */
    uint32_t prefix;
    uint32_t mtu, other_mtu;  /* other: the other edge's; 0: not known */
    const char *other;
};
/* Each adds up to what ails one aspect; v->is is DOCTOR_OK when it is well. */
void judge_edge_there(const struct edge_facts *f, struct verdict *v);
void judge_edge_offloads(const struct edge_facts *f, struct verdict *v);
void judge_edge_address(const struct edge_facts *f, struct verdict *v);
void judge_edge_mtu(const struct edge_facts *f, struct verdict *v);
/* The interface of a tunnel keeps its address; `inner`: MTU of the edges, `path`: the tunnel's own, 0 none said. */
void judge_tunnel_address(const struct edge_facts *f, const char *wanted, bool has, struct verdict *v);
/* A further one, of more_ports, which may come later. */
void judge_tunnel_beside(const struct edge_facts *f, struct verdict *v);
void judge_tunnel_mtu(const struct edge_facts *f, uint32_t inner, uint32_t path, struct verdict *v);
void judge_forwarding(const char *iface, uint64_t forwarding, struct verdict *v); /* UINT64_MAX: not known */

struct rdma_facts {
    const char *device;       /* "rxe0" */
    char state[32];           /* "4: ACTIVE" */
    char netdev[32], netdev_state[16]; /* "": not known */
    uint32_t port;
};
void judge_rdma_port(const struct rdma_facts *f, struct verdict *v);

enum port_held { PORT_FREE, PORT_HELD, PORT_HELD_BY };
struct port_facts {
    const char *node, *host;
    uint16_t port;
    enum port_held held;      /* PORT_HELD: by whom is not seen without root */
    int pid, node_pid;        /* node_pid: of the one that answers on the node's control socket; 0: nobody */
    char comm[32];
};
void judge_port(const struct port_facts *f, struct verdict *v);

/* --- others -------------------------------------------------------------------------------------- */

struct etcd_facts {
    const char *endpoint;
    char error[200];          /* "": it answered */
    char version[32];
    bool leader, reads;       /* reads: a linearizable read was answered */
    char read_error[160];
    bool nospace, corrupt;
    double read_ms;           /* the best of some */
    double fsync_p99_ms;      /* -1: not known */
    uint64_t db_bytes;
    uint32_t failure_timeout_ms;
};
void judge_etcd(const struct etcd_facts *f, struct verdict *v);
void judge_etcd_speed(const struct etcd_facts *f, struct verdict *v);
/* Of all end points. */
void judge_etcd_members(uint32_t named, uint32_t answer, uint32_t members, struct verdict *v);

struct instance_facts {
    const char *name, *state, *log; /* state: the controller's; "": no controller */
    int pid;                  /* 0: it does not run */
    bool answers;
    int error;                /* of asking its socket, errno */
    bool outdated;
};
void judge_instance(const struct instance_facts *f, struct verdict *v);

#endif
