/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an API server of Kubernetes tells, from JSON to structs that hold only what can be; and what follows from
 * it for a program's death. Pure: no I/O, no clock. Bytes from outside are looked at here and nowhere else.
 *
 * Our program in a pod is the container with a port named `metrics`, else its first one. Names, uids and container ids are
 * kept only if every character is one that Kubernetes allows: they go into paths of requests.
 *
 * What proves a death: the kubelet's word, `terminated`, for the very container (by its id) that was seen to run, in `state` or in
 * `lastState`; before a pod in graceful deletion goes, its kubelet writes that. What proves nothing: a pod's object
 * that goes while its container was last told to run (removed by force, or with its node: the kubelet was not asked), a pod that is
 * missing after the API server was away, another container in its place without a word of this one's end, a pod that is over
 * without a word of any container (older kubelets evict so, and say it before they kill).
 */
#ifndef LETHE_ORCHESTRATOR_DRIVER_KUBERNETES_OBJECTS_H
#define LETHE_ORCHESTRATOR_DRIVER_KUBERNETES_OBJECTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    KUBE_NAME = 64, KUBE_UID = 40, KUBE_ID = 160, KUBE_ADDRESS = 46, KUBE_VERSION = 64, KUBE_TOKEN = 2048,
    KUBE_WORDS = 400, KUBE_REASON = 120,
};

/* A container that terminated, by its kubelet's word. */
struct kube_end { char container[KUBE_ID], reason[KUBE_REASON]; int32_t exit_code, signal; };

struct kube_pod {
    char name[KUBE_NAME], uid[KUBE_UID], app[KUBE_NAME];
    char node[KUBE_NAME];     /* "": none yet */
    char address[KUBE_ADDRESS], host[KUBE_ADDRESS]; /* its own, its node's; "": none yet */
    uint16_t port;            /* named `metrics`; 0: none */
    bool deleted;             /* is to go: deletionTimestamp */
    bool over;                /* it ended and is not started again: Succeeded, Failed */
    char container[KUBE_ID];  /* that runs; "": none does */
    int64_t started_s;        /* ... since, UTC; 0: not told */
    struct kube_end ends[2];  /* the last one, and the one before if that one is told, too; container "": none */
    char waiting[KUBE_REASON]; /* why none runs */
};

struct kube_node { char name[KUBE_NAME]; bool ready, cordoned; };
struct kube_deployment { char name[KUBE_NAME]; uint32_t replicas; };

/* 0; -EINVAL: it is not one, *out is all 0. */
int kube_pod_read(const json_t *o, struct kube_pod *out);
int kube_node_read(const json_t *o, struct kube_node *out);
int kube_deployment_read(const json_t *o, struct kube_deployment *out);

/* A list, or a page of it. items is lent. `more`: what to ask the next page by; "": this is the last. */
struct kube_list { const json_t *items; char version[KUBE_VERSION], more[KUBE_TOKEN]; };
int kube_list_read(const json_t *o, struct kube_list *out);

enum kube_change { KUBE_PUT, KUBE_GONE, KUBE_BOOKMARK, KUBE_ERROR };
/* A line of a watch. object is lent; version: as of which it is. An ERROR's `status` is HTTP's. */
struct kube_event { enum kube_change change; const json_t *object; char version[KUBE_VERSION]; int status; };
int kube_event_read(const json_t *o, struct kube_event *out);

/* The words of an answer of kind Status, one line of printable ASCII; "": it has none. */
void kube_words(const json_t *o, char *to, uint32_t room);

struct kube_verdict {
    bool ended, proven, status_known;
    int32_t exit_status, signal;
    char how[KUBE_REASON + 80]; /* a sentence: whose word it is */
};
/* What became of the container that `was` says ran. `now`: the same pod (uid) as told now, or as told last when it
 * went (`gone`); NULL: a whole list does not have it. `node_gone`: its node's object is not there either. */
void kube_judge(const struct kube_pod *was, const struct kube_pod *now, bool gone, bool node_gone,
                struct kube_verdict *out);

/* Never 0: a container's id as a number. */
uint64_t kube_number(const char *container);

#endif
