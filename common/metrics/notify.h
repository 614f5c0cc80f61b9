/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a program tells the supervisor that started it (systemd, units of Type=notify): that it is ready,
 * how it is, that its datapath goes round. The protocol is sd_notify(3)'s: one datagram of lines to the
 * Unix socket in $NOTIFY_SOCKET. It is spoken here and not by libsystemd, which would be one more library,
 * with six of its own, in every program and every container for this one datagram.
 *
 *   READY=1      once, as soon as /readyz would say 200
 *   STATUS=...   a sentence, when it changes: why it is not ready, or what it does
 *   WATCHDOG=1   three times per $WATCHDOG_USEC, as long as /healthz says 200; a datapath that stands
 *                still is thus started again, a program that only waits for others is not
 *   STOPPING=1   by notify_stop, at the program's end
 *
 * A thread of its own asks the probes (http.h), so they may be called by two threads at once. Without a
 * supervisor there is no thread and nothing is sent.
 */
#ifndef LETHE_METRICS_NOTIFY_H
#define LETHE_METRICS_NOTIFY_H

#include <stdbool.h>

#include "common/metrics/http.h"

struct notify;

/* `says` (NULL: "ready"): what it does, while it is ready. NULL: nobody waits to be told, or the log
 * says why it cannot be. */
struct notify *notify_start(http_probe healthy, http_probe ready, http_probe says, void *ctx);
/* `ends`: the program does, and not only this life of it. n NULL: nothing to do. */
void notify_stop(struct notify *n, bool ends);

/* For a program that starts others, before its first thread: takes the supervisor's variables out of the
 * environment, so that only it is heard; notify_start knows them still. */
void notify_hide(void);
/* Before the program executes itself anew: puts them back. */
void notify_show(void);

#endif
