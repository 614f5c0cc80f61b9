/* SPDX-License-Identifier: BSD-3-Clause */
/* Between the look_*.c: what several of them have to find. */
#ifndef LETHE_ORCHESTRATOR_DOCTOR_LOOK_H
#define LETHE_ORCHESTRATOR_DOCTOR_LOOK_H

#include "common/config/site.h"
#include "orchestrator/doctor/doctor.h"
#include "orchestrator/doctor/judge.h"

enum { LOOK_INSTANCES = 96, LOOK_ASK_MS = 3000, LOOK_NAME = 48 };

struct look_instance {
    char name[LOOK_NAME], state[24], log[200], socket[160];
    int pid;                  /* 0: it does not run */
    bool outdated;
};
/* Of the controller's answer; without one, of <run_dir>/pids, those that live. How many. */
uint32_t look_all_instances(struct doctor *d, struct look_instance to[LOOK_INSTANCES]);
/* The pid of who answers at a control socket, 0 and *error: nobody. */
int look_socket_pid(const char *socket, int *error);

bool look_uses_verbs(const struct site *site);
/* The kernel's interface of a DPDK device: "net_af_packet0,iface=eth1,..."; false: it has none. */
bool look_iface_of(const char *port, char iface[32], bool *xdp);
/* One side of a front end whose device has a kernel interface. */
struct look_edge {
    char front[LOOK_NAME], key[96]; /* key: of its device in the site's file */
    char iface[32], other[32]; /* other: of its other side, "" none */
    bool xdp, elsewhere;      /* elsewhere: it may well be another host's, so its absence is no fault */
};
/* How many there are. */
uint32_t look_each_edge(struct doctor *d, void (*edge)(void *ctx, struct doctor *d, const struct look_edge *e), void *ctx);
/* This host is a store's, and none of the front ends' interfaces is here. */
bool look_is_store_only(struct doctor *d);
/* A row that has nothing to look at. */
void look_not_used(struct doctor *d, const char *why);

#endif
