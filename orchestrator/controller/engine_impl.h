/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside the engine: engine.c its life and turns, gather.c what is seen, carry.c what is done,
 * orders.c what the API wants, platform.c what differs where a platform runs the programs, status.c what it is told, alerts.c what ails; collect.c, tracing.c,
 * tables.c what many programs are asked for. */
#ifndef LETHE_ORCHESTRATOR_CONTROLLER_ENGINE_IMPL_H
#define LETHE_ORCHESTRATOR_CONTROLLER_ENGINE_IMPL_H

#include <pthread.h>
#include <uv.h>

#include "orchestrator/controller/engine.h"
#include "orchestrator/controller/keep.h"
#include "orchestrator/controller/observe.h"
#include "orchestrator/controller/report.h"
#include "orchestrator/core/autoscale.h"
#include "orchestrator/core/reconcile.h"
#include "orchestrator/driver/driver.h"

enum {
    TICK_MS = 200,
    SOON_MS = 10,             /* answers that come together make one turn */
    POLL_MS = 200,
    POLL_TIMEOUT_MS = 1000,
    STALE_MS = 1500,          /* nothing is decided, or believed, by older figures */
    PLATFORM_STALE_MS = 5000,
    ORDER_WAIT_MS = 10 * 1000,
    SWAP_WAIT_MS = 8 * 1000,
    LEFT_EVERY_MS = 1000,     /* a drain says what is left */
};

/* A program that is, was, or shall be. */
struct tracked {
    struct orch_instance seen;
    struct driver_process process; /* of the one that lives, or lived last */
    uint64_t restarts, unasked_ends;
    bool dying;               /* SIGKILL was sent: nothing rests on it, though its death is not proven yet */
    bool unproven;            /* dying: the platform knows it no more, and nobody said that it is dead */
    bool listed, leaving_said; /* by the platform; that it leaves is an event already */
    bool was_ready;
    bool other_site;          /* a store that says so: it is as if it did not answer */
    uint64_t start_event, end_event, leave_event;
    uint64_t left_said_ms;
    uint64_t unheard_ms;      /* unproven: since when no front end hears it; 0: one may */
    uint64_t silent_since_ms, waits_since_ms; /* the latter: its pod is to be and does not run; 0: it does */
    char left[120];           /* of a drain: what was said last */
    struct { bool there, known; int status, signal; char time[32], cause[200]; } last_exit;
};

/* An order of the API, shared by its thread and the loop. */
struct order {
    struct request request;
    int refs;                 /* under the engine's lock */
    bool done;
    int status;
    json_t *answer;
    struct order *next;
};

/* A change of the desired state on its way to be kept. */
struct change {
    struct orch_desired *to;
    struct order *order;      /* NULL: the engine's own, of autoscaling */
    uint64_t until_ms;
    enum event_kind kind;
    char subject[ORCH_NAME], cause[ORCH_WHY];
    char drain[ORCH_NAME];    /* worker that is to go when it is kept */
    json_t *detail;
};

/* An order to the platform, under way. */
struct asking {
    struct order *order;      /* NULL: autoscaling's, or nobody waits any more */
    enum event_kind kind;     /* if it is taken */
    char subject[ORCH_NAME], cause[ORCH_WHY], result[160];
    json_t *detail;
    bool scales;
    uint32_t to;
    uint64_t start;           /* of the program that is to end; 0: none is */
};

struct platform_count { char group[ORCH_NAME]; struct driver_count is; bool seen; };

/* What is known of the platform, if there is one. */
struct platform {
    struct driver_platform_state state;
    bool known, away, news;   /* young enough; not, and that was told; something changed */
    bool text_refused;        /* the file's text cannot become the kept one's */
    uint64_t away_event;
    struct platform_count counts[ORCH_GROUPS];
    struct driver_host hosts[DRIVER_NODES];
    uint32_t nhosts;
};

struct shard_seen {
    bool view_known;
    uint64_t epoch, view_event, copies_event, move_event;
    char members[3][ORCH_NAME];
    uint32_t nmembers;
    int64_t have;             /* copies, as its primary says; -1: not known */
    int64_t slots;            /* hash slots that it owns, and 1; 0: not known */
    enum { COPIES_UNKNOWN, COPIES_WHOLE, COPIES_ONE, COPIES_LOST } copies;
};

#define ALERT_KINDS(X)                                                                             \
    X(LOST, "lost", true)                                                                          \
    X(NO_PRIMARY, "no_primary", true)                                                              \
    X(ONE_COPY, "one_copy", false)                                                                 \
    X(NO_WORKER, "no_worker", true)                                                                \
    X(NO_STEERING, "no_steering", true)                                                            \
    X(FRONT_END, "front_end_down", false)                                                          \
    X(ETCD_AWAY, "etcd_away", false)                                                               \
    X(RESTARTING, "restarting", false)                                                             \
    X(SILENT, "silent", false)                                                                     \
    X(OTHER_SITE, "other_site", true)                                                              \
    X(PLATFORM, "platform", false)                                                                     \
    X(OUTDATED, "outdated", false)
enum alert_kind {
#define X(id, text, critical) ALERT_##id,
    ALERT_KINDS(X)
#undef X
};
enum { ALERTS_MAX = 64 };
struct alert {
    enum alert_kind kind;
    bool seen;                /* in this turn */
    uint64_t since_ms;
    char subject[ORCH_NAME], text[160];
};

struct engine {
    struct engine_config config;
    uv_loop_t loop;
    uv_async_t wake;
    uv_timer_t tick, soon;
    uv_signal_t term, interrupt;
    enum engine_end end;
    uint64_t started_ms, active_ms;
    uint32_t order_wait_ms;   /* so long who ordered waits for an answer */
    bool active, listening, reconciling;
    char id[64], programs[256], self[256], site_path[200];
    struct keep *keep;
    struct keep_status kept;
    struct events *events;
    struct driver *driver;
    struct platform platform;
    struct asking *asking;
    struct report *report;
    struct observer *observer;
    struct orch_desired *desired;
    struct orch_observed observed;
    struct tracked at[ORCH_INSTANCES];
    uint32_t n;
    struct orch_scaler scalers[ORCH_GROUPS];
    struct shard_seen shards[ORCH_SHARDS];
    uint64_t etcd_event;
    bool etcd_away;
    struct change *change;
    struct order *handing;    /* waits for a store's word on its hand-over */
    struct alert alerts[ALERTS_MAX];
    uint32_t nalerts;
    struct collect *collects; /* collect.h */

    pthread_mutex_t lock;     /* of the queue, of every order, of health */
    pthread_cond_t answered;
    struct order *first, **last;
    bool closed;
    struct engine_health health;
};

/* engine.c */
struct tracked *engine_find(struct engine *e, const char *name);
struct tracked *engine_track(struct engine *e, const char *name, enum orch_kind kind);
uint64_t engine_now(struct engine *e);
/* At this moment, and for long enough to do what is to be done: nobody else leads. */
bool engine_sure(struct engine *e);
void engine_turn(struct engine *e);
void engine_soon(void *engine); /* a turn before long */
/* The group of a worker; NULL: of none, or it is no worker. */
const struct orch_group *engine_group(const struct engine *e, const struct tracked *t);
/* Where a program of that name answers. */
void engine_socket(const struct engine *e, const char *name, enum orch_kind kind, char *to,
                   uint32_t room);

/* gather.c */
void gather(struct engine *e);
void gather_load(struct engine *e, const struct orch_group *g, struct orch_load *out);
void gather_view(struct engine *e, const struct keep_view *view);
/* The name of the other site whose store this says it is; NULL: it does not say so, or says nothing. */
const char *gather_other_site(struct engine *e, const char *name);
/* NULL: no answer that is young enough, or one of another site's. */
const json_t *gather_stats(struct engine *e, const char *name);
const json_t *gather_more(struct engine *e, const char *name);
/* The newest answer of a front end (as site_front counts), however old; NULL: none, or it is dead. */
const struct reading *gather_table(struct engine *e, uint32_t front);
/* The row of a worker in it. */
const json_t *gather_row(const struct reading *table, const char *name);
/* A store's row of a shard. */
const json_t *gather_shard(const json_t *stats, uint32_t shard);
int64_t gather_number(const json_t *o, const char *key); /* absent: 0 */
int64_t gather_figure(const json_t *o, const char *key); /* absent, or less than 0: 0 */
/* Programs may say any number: of figures that are not negative sums and rates per second stop at the greatest number. What
 * went back (its counter began anew) has no rate. */
int64_t gather_sum(int64_t a, int64_t b);
int64_t gather_rate(int64_t before, int64_t now, uint64_t ms);
const char *gather_text(const json_t *o, const char *key); /* absent: "" */
int64_t gather_drops(const json_t *stats, json_t *by_reason);

/* carry.c */
void carry_start(struct engine *e, const struct orch_action *a);
void carry_out(struct engine *e, const struct orch_action *a);
void carry_autoscale(struct engine *e);
void carry_begins(struct engine *e, struct tracked *t, const struct driver_process *p);
void carry_ended(void *engine, const struct driver_end *end);
void carry_adopt(struct engine *e, const struct driver_process *p);
int carry_signal(struct engine *e, struct tracked *t, enum event_kind kind, int number,
                 const char *why);
/* Writes the site's file for the programs. */
void carry_site(struct engine *e);
/* `order` (or NULL) is answered with the node's word. */
void carry_hand_over(struct engine *e, const char *node, uint32_t shard, const char *why, struct order *order);

/* orders.c */
void orders_take(struct engine *e);
void orders_refuse(struct engine *e, struct order *o, int status, const char *sentence);
void orders_no_instance(struct engine *e, struct order *o); /* of the order's name */
void orders_done(struct engine *e, struct order *o, const char *result);
/* May it be ended by an operator's word? False, and an answer. judged: by the core's rule, too. */
bool orders_may_end(struct engine *e, struct order *o, const struct tracked *t, bool judged);
void orders_answer(struct engine *e, struct order *o, int status, json_t *json); /* takes json; o is gone */
void orders_changed(struct engine *e); /* what keep says of the change under way */
/* A desired state is heard of, before what keep was asked is answered. True: it is our own change; whoever is to be
 * drained with it goes first from now on, also if reconciling comes before the answer. */
bool orders_heard(struct engine *e, uint64_t revision);
void orders_handed(struct engine *e, const char *result, const char *why); /* result NULL: `why` not */
/* Begins to have `to` kept (taken); false: another change is under way. */
bool orders_begin(struct engine *e, struct orch_desired *to, struct order *order, enum event_kind kind,
                  const char *subject, const char *cause, json_t *detail);

/* platform.c: where the driver has a platform */
void platform_news(void *engine);
void platform_site(struct engine *e);
void platform_gather(struct engine *e);
/* True: it was an order for it, and is answered or will be. */
bool platform_order(struct engine *e, struct order *o);
/* It has to wait for the order under way. */
bool platform_waits(const struct engine *e, enum request_kind kind);
/* False: it is not known now; *replicas is what it was. */
bool platform_count(struct engine *e, const char *group, uint32_t *replicas, uint64_t *asked_ms);
int platform_may_scale(struct engine *e, const char *group, int64_t replicas, char *err, uint32_t err_len);
/* `order` may be NULL; takes detail. Not while e->asking. */
void platform_scale(struct engine *e, struct order *order, const char *group, int64_t from, uint32_t to,
                    enum event_kind kind, const char *cause, json_t *detail);
json_t *platform_json(struct engine *e);
void platform_close(struct engine *e);

/* collect.c: whoever still waits is answered: this controller ends. */
void collect_close(struct engine *e);
/* tracing.c, tables.c */
void tracing_order(struct engine *e, struct order *o);
void tracing_read(struct engine *e, struct order *o);
void tables_read(struct engine *e, struct order *o);

/* alerts.c */
void alerts_update(struct engine *e);
json_t *alerts_json(struct engine *e);
void alerts_count(const struct engine *e, uint32_t *critical, uint32_t *warning); /* are added to */

/* status.c */
void status_report(struct engine *e);
json_t *status_all(struct engine *e);
json_t *status_groups(struct engine *e);
json_t *status_group(struct engine *e, const struct orch_group *g);
json_t *status_process(struct engine *e, const struct tracked *t);
json_t *status_instances(struct engine *e);
json_t *status_instance(struct engine *e, const struct tracked *t);
json_t *status_shards(struct engine *e);
json_t *status_plan(struct engine *e, const struct orch_group *g, const struct orch_policy *with);
const char *status_state(struct engine *e, const struct tracked *t);
bool status_outdated(struct engine *e, const struct tracked *t);
/* Is it, or shall it be: those of long ago are not. */
bool status_shown(struct engine *e, const struct tracked *t);

#endif
