/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What happened in the site, and why: a bounded ring of JSON objects with sequence numbers, and
 * the same as JSON lines in the log. Any thread; one lock inside.
 *
 *   {"seq": 17, "time": "2026-05-04T10:11:12.345Z", "kind": "exit", "subject": "nf-2",
 *    "cause": "signal 9, which the controller did not send", "because": 0, "detail": {"pid": 4711}}
 *
 * `because` is the seq of the event that led to this one, 0: none that is known. Sequence numbers
 * grow by one from 1 within one controller's life; `epoch`, which goes with every answer, names
 * that life, so that a reader knows when to begin anew.
 */
#ifndef LETHE_ORCHESTRATOR_CONTROLLER_EVENTS_H
#define LETHE_ORCHESTRATOR_CONTROLLER_EVENTS_H

#include <jansson.h>
#include <stdint.h>

enum { EVENTS_KEPT = 4096, EVENTS_ANSWER_MAX = 1000, EVENTS_WAIT_MAX_MS = 60 * 1000 };

#define EVENT_KINDS(X)                                                                             \
    X(CONTROLLER, "controller")   /* became active, standby, ended */                              \
    X(SITE, "site")               /* the desired state changed: up, down, another text */          \
    X(START, "start")                                                                              \
    X(ADOPT, "adopt")             /* lives since an earlier controller */                          \
    X(READY, "ready")             /* serves; unready: does not any more */                         \
    X(UNREADY, "unready")                                                                          \
    X(EXIT, "exit")               /* proven death */                                               \
    X(RESTART, "restart")         /* will be started again: when, and why so late */               \
    X(SCALE, "scale")                                                                              \
    X(AUTOSCALE, "autoscale")                                                                      \
    X(POLICY, "policy")                                                                            \
    X(DRAIN, "drain")             /* begins; goes on: what is left; ended */                       \
    X(STOP, "stop")               /* SIGTERM */                                                    \
    X(KILL, "kill")               /* SIGKILL */                                                    \
    X(VIEW, "view")               /* another view of a shard */                                    \
    X(MOVE, "move")               /* hash slots, or a role handed over */                          \
    X(COPIES, "copies")           /* a shard on one copy, or whole again, or LOST */               \
    X(ETCD, "etcd")               /* away, back */                                                 \
    X(PLATFORM, "platform")       /* likewise */                                                   \
    X(NODE, "node")               /* of a platform: ready, cordoned */                             \
    X(GONE, "gone")               /* the platform knows it no more; whether it is dead is not known */                                                 \
    X(ERROR, "error")             /* an action failed */
enum event_kind {
#define X(id, text) EVENT_##id,
    EVENT_KINDS(X)
#undef X
};

struct events;

struct events *events_create(void); /* NULL: no memory */
void events_destroy(struct events *e);
/* `detail` is taken, and may be NULL. The event's seq. */
uint64_t events_add(struct events *e, enum event_kind kind, const char *subject, uint64_t because,
                    json_t *detail, const char *cause, ...) __attribute__((format(printf, 6, 7)));
/* {"epoch": "...", "next": 17, "oldest": 3, "lost": 0, "events": [...]}: those after `after`, at
 * most `limit`, and `next` is what to ask with then; when there are none, after at most `wait_ms`. `lost`: how many of them are
 * forgotten already. NULL: no memory. */
json_t *events_after(struct events *e, uint64_t after, uint32_t limit, uint32_t wait_ms);
uint64_t events_last(struct events *e);
const char *events_epoch(const struct events *e);
/* Now, as everywhere in the API: RFC 3339 with milliseconds. */
void events_time(char to[32]);
/* Ends all waiting, for good. */
void events_close(struct events *e);

#endif
