/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Keeping the desired state, and who the active controller is: a thread of its own.
 *
 * With store.etcd, below <etcd_prefix>.controller/ (outside the range that the stores read):
 *   leader    this controller's id, under a lease of LEASE_S; made only where there is none
 *   desired   desired.h's JSON; every change compares its revision *and* the leader's id
 * and the views that stand there are told on, as they change.
 * Without: <run_dir>/desired.json, replaced whole; active is who holds the lock of
 * <run_dir>/controller.lock; if that file is removed, who held it is LOST.
 *
 * While etcd is away nobody else can become active either: who was stays it, but is not `sure`
 * once its lease may have lapsed, and changes nothing until it has asked again. Found that another
 * one leads, it is LOST for good: the process has to begin anew.
 *
 * A change whose answer did not come may have been made; what stands is read again before the next.
 */
#ifndef LETHE_ORCHESTRATOR_CONTROLLER_KEEP_H
#define LETHE_ORCHESTRATOR_CONTROLLER_KEEP_H

#include "orchestrator/model/desired.h"

enum keep_role { KEEP_STANDBY, KEEP_ACTIVE, KEEP_LOST };

struct keep_config {
    const struct site *site;  /* where etcd is, run_dir; copied from */
    const char *file;         /* for messages: where `text` is from */
    const char *text;         /* the desired state's beginning, if none is kept */
    char id[64];              /* of this controller: host, pid, start */
    void (*wake)(void *ctx);  /* from the thread: something below changed */
    void *ctx;
};

struct keep_status {
    enum keep_role role;
    uint64_t sure_until_ms;   /* ... and surely so, until then, CLOCK_MONOTONIC: compare it with keep_clock_ms
                               * when something is done; 0: it is not known who leads */
    bool etcd;                /* or a file */
    uint64_t tried_ms;        /* when that was asked which it answered, or failed to, last: what is said of it is
                               * true of a moment since; CLOCK_MONOTONIC; 0: never */
    uint64_t away_since_ms;   /* 0: it answers */
    uint64_t requests, failures;
    char endpoint[128], why[240];
    char leader[64];          /* as read last */
    char site[40];            /* as the stores named it (statestore/server/views_etcd.h); "": not known */
};

struct keep_view { uint32_t shard; char text[1024]; };

struct keep;

int keep_start(struct keep **out, const struct keep_config *config, char *err, uint32_t err_len);
/* Gives the lead up, if it has it. */
void keep_stop(struct keep *k);

uint64_t keep_clock_ms(void);
void keep_status(struct keep *k, struct keep_status *out);
/* True, and the kept state, once for each that is new; the caller frees it. */
bool keep_take(struct keep *k, struct orch_desired **out);
/* Makes `json` (taken) what is kept, if what was taken last is still kept. One at a time: -EBUSY.
 * keep_swapped then tells. */
int keep_swap(struct keep *k, json_t *json);
/* True once it is known: *rc 0; -EAGAIN another change came first; -ETIMEDOUT etcd does not answer,
 * and it may or may not be made; -EIO the file cannot be written. */
bool keep_swapped(struct keep *k, int *rc, char *why, uint32_t why_len);
/* True, and a view that changed. */
bool keep_next_view(struct keep *k, struct keep_view *out);

#endif
