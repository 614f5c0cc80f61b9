/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver that has programs run as pods of a Kubernetes cluster: a platform (driver.h). It runs in a pod itself, in their
 * namespace, as a service account with the rights of k8s/base/rights.yaml.
 *
 *   a group          the Deployment of its name; its workers: pods, by their names; both with the label app=<group>
 *   a store node     the pod of its name, app=store
 *   a front end      the pod with app=steer on the node whose address is that front end's tunnel.address
 *   where it is asked  http://<pod's address>:<its port named `metrics`>
 *
 * Pods and nodes are listed once and watched from then on (again from where it was if the connection ends, a list again
 * if the server has forgotten that); Deployments, few and small, are read each second, which also tells that the
 * server is there: what is known of pods is as old as the last of these readings, while the watch of pods is open. A watch is
 * opened anew each minute, and when such a reading succeeds after one that did not, so that one that died without a word, or
 * waits for what the network swallowed, is not believed for longer; one in which nothing at all was said is followed by a list.
 *
 * More pods than KUBE_PODS with our labels, without those that are over: nothing is known to be gone then (`too_many`).
 * How deaths are judged: kubernetes_objects.h.
 */
#ifndef LETHE_ORCHESTRATOR_DRIVER_KUBERNETES_H
#define LETHE_ORCHESTRATOR_DRIVER_KUBERNETES_H

#include <uv.h>

#include "orchestrator/driver/driver.h"
#include "orchestrator/driver/kubernetes_api.h"

enum { KUBE_PODS = ORCH_INSTANCES, /* what the engine has room for */ KUBE_NODES = 2048 };

/* `news` when something changed: look at `list`, `count`. folder: of the service account. 0, or -errno and a
 * sentence. The loop is lent until destroy and one more turn of the loop after it. */
int kubernetes_driver_create(struct driver **out, uv_loop_t *loop, const char *folder, driver_on_end on_end,
                             void (*news)(void *ctx), void *ctx, char *err, uint32_t err_len);
/* How long a watch is asked for, from the next one on: a test is not to wait for a minute. */
void kubernetes_driver_watch_s(struct driver *d, uint32_t s);

#endif
