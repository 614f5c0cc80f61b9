/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The controller's engine: one loop on the main thread that owns the desired state, the driver and
 * what is seen of the programs.
 *
 *   standby ── keep says active ──▶ driver finds what lives ──▶ turns ── keep says lost ──▶ ends
 *
 * A turn: news of keep -> gather what is seen -> orders of the API -> autoscale -> reconcile ->
 * carry out. It comes each TICK_MS, after every answer of a program, every end of one, every order.
 *
 * Only engine_do is for other threads.
 */
#ifndef LETHE_ORCHESTRATOR_CONTROLLER_ENGINE_H
#define LETHE_ORCHESTRATOR_CONTROLLER_ENGINE_H

#include "orchestrator/controller/events.h"
#include "orchestrator/controller/request.h"

struct engine;

struct engine_config {
    const char *file;         /* site.yaml as given; its text, parsed, begins the desired state */
    const char *text;
    const struct site *site;
    const char *metrics;      /* host:port; NULL: a socket in run_dir */
    const char *service_account; /* folder: the driver is `kubernetes`; NULL: `process` */
    const char *programs;     /* folder to look for them; NULL: beside this program */
    /* The engine became active: the API may open. From the loop; lost again: engine_run ends.
     * -EADDRINUSE: somebody listens there still; it is called again each tick, and the site is kept meanwhile. */
    int (*active)(void *ctx);
    void *ctx;
};

enum engine_end { ENGINE_STOPPED, ENGINE_LOST, ENGINE_FAILED };

int engine_create(struct engine **out, const struct engine_config *config, char *err,
                  uint32_t err_len);
/* Until SIGTERM or SIGINT, or another controller leads. Programs are left as they are. */
enum engine_end engine_run(struct engine *e);
void engine_destroy(struct engine *e);

/* Any thread but the loop's: has it done and waits, at most some seconds. The answer's JSON is the
 * caller's alone; *status is HTTP's. Takes what is in `r`. */
json_t *engine_do(struct engine *e, struct request *r, int *status);
/* No more orders are taken; those that wait are answered. After engine_run. */
void engine_close_orders(struct engine *e);
/* Any thread: how the loop is. */
struct engine_health {
    uint64_t turned_ms;       /* CLOCK_MONOTONIC */
    bool leads, listens, sure;
    uint64_t revision;
    char leader[64];          /* another one, as far as it is known */
};
void engine_health(struct engine *e, struct engine_health *out);
struct events *engine_events(struct engine *e);
const char *engine_programs(const struct engine *e);

#endif
