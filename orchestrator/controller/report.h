/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The controller's metrics, /healthz and /readyz for a monitoring system (common/metrics/http.h): at an address of its
 * own from the start, else while it is the active one. The loop hands over a copy of its figures in each turn; the server's thread
 * reads that copy.
 */
#ifndef LETHE_ORCHESTRATOR_CONTROLLER_REPORT_H
#define LETHE_ORCHESTRATOR_CONTROLLER_REPORT_H

#include "orchestrator/model/desired.h"

struct report;

enum { REPORT_KINDS = 3 }; /* orch_kind */

/* Units as metrics have them. */
struct report_figures {
    uint64_t now_ms;          /* of the turn, CLOCK_MONOTONIC */
    uint64_t revision, etcd_away_ms, events;
    bool active;              /* else the rest is not told */
    bool sure;                /* it leads for certain: changes are taken */
    bool listening;           /* its API is open */
    uint32_t ngroups;
    struct { char name[ORCH_NAME]; uint32_t replicas, running, ready; } groups[ORCH_GROUPS];
    struct { uint32_t alive, ready; uint64_t restarts, ends; } kinds[REPORT_KINDS];
    uint32_t alerts_critical, alerts_warning;
};

/* `address`: "host:port", or a socket's path. 0, or -errno and a sentence. */
int report_start(struct report **out, const char *address, char *err, uint32_t err_len);
void report_set(struct report *r, const struct report_figures *f); /* NULL: nothing */
void report_stop(struct report *r);

#endif
