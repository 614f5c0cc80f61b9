/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Asking an API server of Kubernetes from a loop, without waiting: libcurl on libuv. HTTPS only, judged by
 * the CA of the service account; its token is read anew for each request and the CA for each connection, since both are changed.
 *
 * Owned by its loop. Nothing is called from within kube_api_ask or kube_api_watch. Bounds: KUBE_ANSWER_MOST of an answer,
 * KUBE_LINE_MOST of a line of a watch; who sends more is cut off, and it counts as a failure.
 */
#ifndef LETHE_ORCHESTRATOR_DRIVER_KUBERNETES_API_H
#define LETHE_ORCHESTRATOR_DRIVER_KUBERNETES_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

enum { KUBE_ANSWER_MOST = 16 << 20, KUBE_LINE_MOST = 4 << 20, KUBE_PATH = 3000 };

#define KUBE_SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"

struct kube_api;
struct kube_request;

/* `folder` has token, ca.crt and namespace; host and port are in the environment, as in every pod. 0, or -errno and
 * a sentence. */
int kube_api_create(struct kube_api **out, uv_loop_t *loop, const char *folder, char *err, uint32_t err_len);
/* Nothing is called any more. The loop is lent for one more turn. */
void kube_api_destroy(struct kube_api *a);
const char *kube_api_namespace(const struct kube_api *a);
const char *kube_api_where(const struct kube_api *a); /* "10.96.0.1:443" */

/* Once. `status` is HTTP's, 0: there was no answer, and `why` says what happened. `answer` is lent; NULL: it is not a JSON
 * object. sent_ms: uv_now when it was asked. */
typedef void (*kube_answered)(void *ctx, int status, const json_t *answer, uint64_t sent_ms, const char *why);
/* NULL: no memory, and nothing will be called. `type` and `body`: NULL with GET. */
struct kube_request *kube_api_ask(struct kube_api *a, const char *method, const char *path, const char *type, json_t *body,
                                  uint32_t timeout_ms, kube_answered answered, void *ctx);

/* `opened` when the server has answered 200, `line` with each object, `answered` when it ended: status 200 if in good order. From
 * `opened` and `line` nothing may be asked or cancelled; `line` returns false to end it. A line that is no object, or too long: NULL. */
struct kube_watching {
    void (*opened)(void *ctx);
    bool (*line)(void *ctx, const json_t *object);
    kube_answered ended;
    void *ctx;
};
struct kube_request *kube_api_watch(struct kube_api *a, const char *path, uint32_t connect_ms,
                                    const struct kube_watching *w);
/* Nothing is called any more. */
void kube_api_cancel(struct kube_request *r);

#endif
