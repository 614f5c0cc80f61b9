/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside keep: keep.c keeps in etcd, keep_file.c in a file. */
#ifndef LETHE_ORCHESTRATOR_CONTROLLER_KEEP_IMPL_H
#define LETHE_ORCHESTRATOR_CONTROLLER_KEEP_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/config/etcd/etcd.h"
#include "orchestrator/controller/keep.h"

enum { KEEP_VIEWS = 64, KEEP_ENDPOINTS = 8 };

struct keep {
    struct keep_config config;
    pthread_t thread;
    bool running;
    atomic_bool stop;
    char where[400];          /* what is kept, for messages */

    pthread_mutex_t lock;     /* of these */
    struct keep_status status;
    struct orch_desired *fresh; /* read, not taken yet */
    json_t *wish;             /* change asked for, not begun */
    bool swapping, swap_done; /* from keep_swap to keep_swapped */
    int swap_rc;
    char swap_why[240];
    struct keep_view views[KEEP_VIEWS];
    uint32_t nviews;

    /* the thread's: etcd */
    struct etcd *etcd;
    char *endpoints[KEEP_ENDPOINTS], *tls[3];
    char prefix[256], *value, leader[64], why[240];
    char cluster[24], *known; /* the desired state, as read or put last */
    char *swap_text;          /* being put */
    uint32_t asked;           /* bit per tag: a request is under way */
    uint64_t asked_ms[8];     /* ... since then */
    int64_t lease, read_revision, leader_revision, desired_revision, view_revision[ORCH_SHARDS];
    bool said_sure, synced, rewatch, desired_there, swap_settles;
    uint64_t now_ms, tried_ms, read_due_ms, watch_due_ms, keep_due_ms, keep_sent_ms, claim_due_ms, lease_until_ms;

    /* the thread's: a file */
    int lock_fd;
    uint64_t wait_until_ms;   /* the lock's holder of before may be sure of its lead until then */
    char path[300], lock_path[300];
};

void keep_set_role(struct keep *k, enum keep_role role);
void keep_set_desired(struct keep *k, const char *text, size_t bytes);
void keep_set_swapped(struct keep *k, int rc, const char *why);
json_t *keep_wish(struct keep *k);

int keep_open_file(struct keep *k, const char *run_dir, char *err, uint32_t err_len);
void keep_run_file(struct keep *k);
void keep_close_file(struct keep *k);

#endif
